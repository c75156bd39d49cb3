"""The configuration file: one TOML table per command, whose keys are the command's options; and what options say as a whole."""

import tomllib
from pathlib import Path
from typing import get_args

from samsemi.errors import UsageError
from samsemi.options.commands import STAGES
from samsemi.options.fields import Options, check_value, declared


def input_paths(options: Options) -> list[Path]:
    """The files and folders that a command was told to read."""
    kinds = {name: get_args(kind) or (kind,) for name, (kind, _) in declared(type(options)).items()}
    return [Path(value) for name, value in vars(options).items() if Path in kinds[name] and name != "out" and value is not None]


def command_name(options: Options) -> str:
    """The command that these are the options of."""
    return next(name for name, (_, kind) in STAGES.items() if kind is type(options))


def read_defaults(file: Path, command: str) -> dict[str, object]:
    """The values that a TOML file has for one command; UsageError for a table or key that does not exist."""
    try:
        tables = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {file}: {error}", "give a readable TOML file with a table per command") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--config {file} is not TOML: {error}", "mend that line") from None
    for name, table in tables.items():
        if name not in STAGES:
            raise UsageError(f"--config {file}: there is no command [{name}]", f"tables are {', '.join(STAGES)}")
        if not isinstance(table, dict):
            raise UsageError(f"--config {file}: '{name}' is not a table", f"write [{name}] and its keys below")
        known = declared(STAGES[name][1])
        for key in table:
            if key.replace("-", "_") not in known:
                raise UsageError(f"--config {file}: [{name}] has no option '{key}'", f"options are {', '.join(known)}")
            check_value(f"--config {file}: [{name}] {key}", table[key], *known[key.replace("-", "_")])
    return {key.replace("-", "_"): value for key, value in tables.get(command, {}).items()}
