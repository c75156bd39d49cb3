"""The command line: one subcommand per stage, made from its options, and the one error boundary.

Imports neither torch nor a stage until a command runs, so that ``--help`` is shown at once.
"""

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from samsemi import clock, console, interrupts, offline, processes, surroundings
from samsemi.errors import EndedElsewhere, ProblemsFound, SamsemiError, UsageError, device_error
from samsemi.functions import need_place
from samsemi.options.commands import GROUPS, STAGES, find_command
from samsemi.options.config import input_paths, read_defaults
from samsemi.options.fields import Option, Options, declared
from samsemi.options.shared import ConsoleOptions
from samsemi.outputs import refusal
from samsemi.own_code import own_error
from samsemi.parameters import as_parameter
from samsemi.usage import WrongUsage, command_class

app = typer.Typer(
    name="samsemi",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Semi-supervised medical image segmentation by mining the Segment Anything Model.",
)


def print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version  # slow to load

        print(f"samsemi {version('samsemi')}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def main_options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Without a command: the help, and a usage error."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise UsageError("no command given", "see `samsemi --help`")


def callback_of(option: Option, command: str) -> Callable | None:
    """What is called with the value of an option before the others are read, since it decides on their defaults."""
    presets = option.field.presets
    if option.name == "config":

        def load_config(context: typer.Context, value: Path | None) -> Path | None:
            """Make a TOML file's values the defaults of the command: flag > file > preset > default."""
            if value is not None:
                context.default_map = {**(context.default_map or {}), **read_defaults(value, command)}
            return value

        return load_config
    if presets is None:
        return None

    def load_preset(context: typer.Context, value: str | None) -> str | None:
        context.default_map = {**presets.get(value or "", {}), **(context.default_map or {})}
        return value

    return load_preset


def add_command(name: str, module: str, options: type[Options]) -> None:
    """Register a stage: its parameters are the fields of its options and of ConsoleOptions."""

    def command(config: Path | None, json: bool, quiet: bool, **values: object) -> None:
        need_place(name)
        console.set_quiet(quiet or not processes.is_first())
        chosen = options(**values)
        console.note(first_line(name, chosen))
        stage = import_module(f"samsemi.stages.{module}")
        try:
            result = getattr(stage, module)(chosen)
        except ProblemsFound as error:
            if json and error.result is not None:
                console.show_result(f"samsemi {name}", error.result, as_json=True)
            raise
        except SystemExit as error:  # code of the user's own, which must not end a command as if it were done
            reason = f"code of your own ended the program: sys.exit({error.code!r:.60})"
            raise UsageError(reason, "give a function that returns, in a module that does nothing when it is imported") from None
        if not processes.is_first():
            return
        if not json and hasattr(stage, "text") and (text := stage.text(result)):
            console.show_text(text)
            return
        tables = stage.tables(result) if hasattr(stage, "tables") else []
        shown = stage.shown(result) if hasattr(stage, "shown") and not json else result
        console.show_result(f"samsemi {name}", shown, json, tables)

    declarations = [*declared(options).values(), *declared(ConsoleOptions).values()]
    parameters = [as_parameter(option, callback_of(option, name)) for option in declarations]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    group, _, own = name.rpartition(" ")
    place = GROUP_APPS[group] if group else app
    place.command(own, cls=command_class(declarations, options.examples), help=options.__doc__, short_help=options.__doc__)(command)


def first_line(name: str, options: Options) -> str:
    """The first line on stderr, shown before the seconds that loading the libraries takes."""
    return " ".join([f"samsemi {name}: loading", *dict.fromkeys(map(str, input_paths(options)))])


def add_group(name: str, about: str) -> typer.Typer:
    """Register a group of commands."""
    group = typer.Typer(rich_markup_mode=None, help=about, context_settings=app.info.context_settings, no_args_is_help=False)
    app.add_typer(group, name=name, help=about, short_help=about)
    return group


GROUP_APPS = {name: add_group(name, about) for name, about in GROUPS.items()}
for _name, (_module, _options) in STAGES.items():
    add_command(_name, _module, _options)


@cache
def command_line() -> Any:
    """The parser of every command, made once: typer would make it anew for each call."""
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (see samsemi.errors and docs/guarantees.md)."""
    clock.start()
    console.escape_unwritable()
    offline.forbid_network()
    surroundings.set_libraries()
    with interrupts.watched():
        try:
            return answer(arguments)
        except KeyboardInterrupt:  # another one, while the first was answered
            return interrupted(arguments)


def answer(arguments: list[str] | None) -> int:
    """Run one command and say what went wrong; returns the exit code."""
    try:
        code = command_line()(args=arguments, prog_name="samsemi", standalone_mode=False)
        sys.stdout.flush()
        return interrupted(arguments) if code == interrupts.EXIT_CODE else code if isinstance(code, int) else 0
    except SamsemiError as error:
        return report(error)
    except WrongUsage as error:
        return report(usage_error(error))
    except (KeyboardInterrupt, typer.Abort):
        return interrupted(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refused = refusal(error) or device_error(error)
        return report(refused) if refused else bug()
    except Exception as error:
        named = device_error(error) or own_error(error)
        return report(named) if named else bug()


def bug() -> int:
    traceback.print_exc()
    console.say("this is a bug of samsemi; please report it with the lines above and the output of `samsemi info`")
    return 1


def interrupted(arguments: list[str] | None) -> int:
    """Nothing interrupts what is left to do: to say how to go on."""
    interrupts.ignore()
    command = find_command(sys.argv[1:] if arguments is None else arguments)
    console.say(f"interrupted; {(STAGES[command][1] if command else Options).interrupted}")
    return interrupts.EXIT_CODE


def report(error: SamsemiError) -> int:
    if not isinstance(error, EndedElsewhere):
        console.fail(error.message, error.hint)
    return error.exit_code


def usage_error(error: Any) -> UsageError:
    """A usage error of typer that is none of a command, such as an unknown command, as one of ours."""
    return UsageError(error.format_message(), "see `samsemi --help`")


def run() -> None:
    """The console script, once this module is loaded. What was said last is the end: no signal changes it, and nothing is tidied up, since
    HDF5 crashes over a file that it found no room for."""
    code = main()
    interrupts.ignore()
    with suppress(OSError):
        sys.stdout.flush()
    console.READER.flush()
    os._exit(code)
