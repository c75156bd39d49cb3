"""A command of typer with the help page of samsemi, and wrong calls of it in the words of that page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from samsemi.errors import UsageError
from samsemi.options.config import refuse_from_file
from samsemi.options.fields import Option, check_value
from samsemi.parameters import describe_option, examples_text, help_text, spelling, usage, value_name

WrongUsage: Any = typer.BadParameter.__bases__[0]
"""The base of typer's own usage errors."""


def command_class(options: Sequence[Option], examples: Sequence[str]) -> type[TyperCommand]:
    """A command of typer with a help page of its own, which ends with examples; UsageError for a wrong call."""

    class Command(TyperCommand):
        def format_usage(self, ctx, formatter) -> None:
            formatter.write_usage(ctx.command_path, usage(options))

        def format_options(self, ctx, formatter) -> None:
            formatter.write(help_text(options, formatter.width))
            formatter.write(examples_text(examples))

        def parse_args(self, ctx, args: list[str]) -> list[str]:
            given = list(given_values(args, options))
            refuse_unusable_paths(given)
            try:
                rest = super().parse_args(ctx, args)
            except WrongUsage as error:
                raise usage_error(error, ctx.command_path, options, {option.name: text for option, text in given}) from None
            for option in options:
                if ctx.get_parameter_source(option.name).name == "DEFAULT_MAP":
                    refuse_from_file(option, ctx.params[option.name])
            return rest

    return Command


def given_values(words: Sequence[str], options: Sequence[Option]) -> Iterator[tuple[Option, str]]:
    """The options that have a value, with the text given for it."""
    flags = {option.flag: option for option in options if not option.field.argument and option.base is not bool}
    places = iter([option for option in options if option.field.argument])
    left = iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if flag in flags:
            text = value if equals else next(left, None)
            if text is not None:
                yield flags[flag], text
        elif not word.startswith("-") and (place := next(places, None)):
            yield place, word


def refuse_unusable_paths(given: Sequence[tuple[Option, str]]) -> None:
    """UsageError for a path that is empty, which typer takes for the folder that one is in, or goes over several lines."""
    for option, text in given:
        if option.base is Path:
            check_value(option, text)


def usage_error(error: Any, path: str, options: Sequence[Option], given: dict[str, str]) -> UsageError:
    """A usage error of typer as one of ours; ``path`` is the command as it is typed."""
    parameter = getattr(error, "param", None)
    option = next((option for option in options if parameter and option.name == parameter.name), None)
    how = f"usage: {path} {usage(options)}"
    if option is None:
        message = error.format_message()
        placed = next((option.flag for option in options if option.field.argument and "--" + option.name == wrong_flag(error)), None)
        if placed:
            return UsageError(f"No such option: {wrong_flag(error)}", f"{placed} stands without a flag; {how}")
        extra = message.startswith("Got unexpected extra argument")
        return UsageError(message, f"{name_places(options)}; {how}" if extra else f"see `{path} --help`")
    if type(error).__name__ == "MissingParameter":
        return UsageError(f"{option.flag} is missing", how)
    return value_error(error, option, given.get(option.name))


def wrong_flag(error: Any) -> str:
    """The flag that no option has; '' where that is not what is wrong."""
    return str(getattr(error, "option_name", None) or "").replace("_", "-")


def name_places(options: Sequence[Option]) -> str:
    """What goes without a flag, in words."""
    places = [option.flag for option in options if option.field.argument]
    return f"only {' and '.join(places)} stands without a flag" if places else "everything has a flag"


def value_error(error: Any, option: Option, text: str | None) -> UsageError:
    """What is wrong with the text given for an option; in typer's words where samsemi has none."""
    hint = f"{spelling(option)} {value_name(option)}: {describe_option(option)}".replace("\u00a0", " ")
    try:
        if text is not None:
            check_value(option, option.base(text) if option.base in (int, float) else text)
    except UsageError as found:
        return found
    except ValueError:
        expected = " or ".join([f"a {'whole ' if option.base is int else ''}number", *option.words])
        return UsageError(f"{option.flag} {text}: expected {expected}", hint)
    return UsageError(error.format_message(), hint)
