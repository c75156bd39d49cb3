"""The configuration file: one TOML table per command, whose keys are the command's options; and which options name inputs."""

import tomllib
from pathlib import Path

from samsemi.errors import UsageError
from samsemi.inputs import read_text
from samsemi.options.commands import STAGES
from samsemi.options.fields import Option, Options, check_value, declared
from samsemi.options.sams import names_code, names_hub


def input_paths(options: Options) -> list[Path]:
    """The files and folders that a command reads."""
    read = [name for name, option in declared(type(options)).items() if option.field.reads]
    given = [getattr(options, name) for name in read]
    return [Path(path) for value in given if value is not None for path in (value if isinstance(value, tuple) else (value,))]


def hashed_names(options: type[Options]) -> frozenset[str]:
    """Options that name what is hashed into what the output is made from: another path to the same content is the same."""
    return frozenset(name for name, option in declared(options).items() if option.field.hashed)


def may_change(options: type[Options]) -> frozenset[str]:
    """Options that may differ between a command and its resumption: they do not decide what is computed, or are hashed."""
    return hashed_names(options) | {name for name, option in declared(options).items() if option.field.neutral}


def command_name(options: Options) -> str:
    """The command that these are the options of."""
    return next(name for name, (_, kind) in STAGES.items() if kind is type(options))


def read_defaults(file: Path, command: str) -> dict[str, object]:
    """The values that a TOML file has for one command; UsageError for a table or key that does not exist."""
    try:
        tables = tomllib.loads(read_text(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {file}: {error}", "give a readable TOML file with a table per command") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config {file} is not TOML: {error}", "fix that line") from None
    for name, table in tables.items():
        if name not in STAGES:
            raise UsageError(f"--config {file}: there is no command [{name}]", f"tables are {', '.join(STAGES)}")
        if not isinstance(table, dict):
            raise UsageError(f"--config {file}: '{name}' is not a table", f"write [{name}] and its keys below")
        known = declared(STAGES[name][1])
        if len({key.replace("-", "_") for key in table}) < len(table):
            raise UsageError(f"--config {file}: [{name}] has an option twice, with '-' and with '_'", "leave one of them out")
        for key in table:
            if key.replace("-", "_") not in known:
                raise UsageError(f"--config {file}: [{name}] has no option '{key}'", f"options are {', '.join(known)}")
            check_value(known[key.replace("-", "_")], table[key], f"--config {file}: [{name}] {key}")
    known = declared(STAGES[command][1])
    values = {key.replace("-", "_"): value for key, value in tables.get(command, {}).items()}
    return {name: [value] if known[name].repeated and isinstance(value, str) else value for name, value in values.items()}


def refuse_from_file(option: Option, value: object) -> None:
    """UsageError for a value from a configuration file that names code to run, or asks for the network."""
    given, flag = f"--config: {option.name} = '{value!s:.60}'", f"{option.flag} {value!s:.60}"
    if option.field.code and names_code(value):
        raise UsageError(f"{given} is code, which a file may not have run", f"give {flag} on the command line if it may run")
    if value in option.field.online or (option.field.code and names_hub(value)):
        raise UsageError(f"{given} needs the network, which a file may not ask for", f"give {flag} on the command line if it may be used")
