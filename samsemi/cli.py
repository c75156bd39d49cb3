"""The command line: one subcommand per stage, made from its options, and the one error boundary.

Imports neither torch nor a stage until a command runs, so that ``--help`` answers at once.
"""

import inspect
import os
import signal
import sys
import traceback
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from samsemi import console
from samsemi.errors import DeviceError, RefusedError, SamsemiError, UsageError
from samsemi.options.commands import STAGES
from samsemi.options.config import read_defaults
from samsemi.options.fields import Options, declared
from samsemi.outputs import refusal

INTERRUPTED = 130
WrongUsage = typer.BadParameter.__bases__[0]  # the base of typer's own usage errors

app = typer.Typer(
    name="samsemi",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Semi-supervised medical image segmentation by mining the Segment Anything Model.",
)


def print_version(value: bool) -> None:
    if value:
        print(f"samsemi {version('samsemi')}")
        raise typer.Exit()


@app.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def load_config(context: typer.Context, value: Path | None) -> Path | None:
    """Make a TOML file's values the defaults of the command: flag > file > default."""
    if value is not None:
        context.default_map = read_defaults(value, context.info_name)
    return value


CLI_OPTIONS = {
    "config": (Annotated[Path | None, typer.Option(help="TOML file with a table per command.", callback=load_config, is_eager=True)], None),
    "json": (Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", help="No progress.")], False),
}
"""Options of how a command talks, not of what it does: the same for all."""


def add_command(name: str, module: str, options: type[Options]) -> None:
    """Register a stage: its parameters are the fields of its options."""

    def command(config: Path | None, json: bool, quiet: bool, **values: object) -> None:
        console.set_quiet(quiet)
        chosen = options(**values)
        stage = getattr(import_module(f"samsemi.stages.{module}"), module)
        console.show_result(f"samsemi {name}", stage(chosen), as_json=json)

    parameters = []
    for field, (kind, info) in declared(options).items():
        default = options.__dataclass_fields__[field].default
        parameters.append(as_parameter(field, Annotated[kind, info], default))
    for field, (annotation, default) in CLI_OPTIONS.items():
        parameters.append(as_parameter(field, annotation, default))
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name, help=options.__doc__)(command)


def as_parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    required = default.__class__.__name__ == "_MISSING_TYPE"
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=inspect.Parameter.empty if required else default
    )


for _name, (_module, _options) in STAGES.items():
    add_command(_name, _module, _options)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (see samsemi.errors and docs/guarantees.md)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's SIGTERM saves the state like Ctrl-C
    try:
        code = app(args=arguments, prog_name="samsemi", standalone_mode=False)
        return interrupted() if code == INTERRUPTED else code if isinstance(code, int) else 0
    except SamsemiError as error:
        return report(error)
    except WrongUsage as error:
        return report(usage_error(error))
    except (KeyboardInterrupt, typer.Abort):
        return interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refused = refusal(error)
        return report(refused) if refused else bug()
    except Exception as error:
        if is_out_of_memory(error):
            return report(DeviceError(f"out of memory: {error}", "lower --batch-size or --size, or take a smaller --sam"))
        return bug()


def bug() -> int:
    traceback.print_exc()
    print("this is a bug of samsemi; please report it with the lines above and the output of `samsemi info`", file=sys.stderr)
    return 1


def interrupted() -> int:
    print("interrupted; what was finished is saved, --resume goes on from there", file=sys.stderr)
    return INTERRUPTED


def report(error: SamsemiError) -> int:
    console.fail(error.message, error.hint)
    return error.exit_code


def usage_error(error) -> UsageError:
    """typer's complaint as ours; a bare `samsemi` has printed its help already."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "samsemi"
    return UsageError(error.format_message() or "no command given", f"see `{command} --help`")


def is_out_of_memory(error: Exception) -> bool:
    """True for Python's and torch's out-of-memory errors, without importing torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


def run() -> None:
    """The console script."""
    code = main()
    if code == RefusedError.exit_code:  # at a usual exit HDF5 crashes over a file that it found no room for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
