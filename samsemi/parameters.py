"""Options as typer's parameters and as a help page: the one place that knows both.

typer's own page shortens the names of options where a terminal has 80 columns; this one never does.
"""

import inspect
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from samsemi.options.fields import PANELS, Option

NAMES = {bool: "", int: "N", float: "X", str: "TEXT", Path: "PATH"}
NO_BREAK = "\u00a0"
"""A blank at which no line is broken."""


def as_parameter(option: Option, callback: Callable | None = None) -> inspect.Parameter:
    """The parameter that typer makes a flag or an argument of; a flag with a ``callback`` is read before all others."""
    field = option.field
    settings: dict[str, Any] = {"help": field.help, "rich_help_panel": field.panel, "min": field.min, "max": field.max}
    kind = list[option.base] if option.repeated else option.kind  # type: ignore[name-defined]
    if option.words:
        kind, settings["parser"] = option.base, number_or_word(option)
        settings["autocompletion"] = completion(option.words)
    if field.choices:
        settings["autocompletion"] = completion(field.choices)
    if field.argument:
        info = typer.Argument(**settings)
    else:
        info = typer.Option(spelling(option), **settings, callback=callback, is_eager=callback is not None)
    default = inspect.Parameter.empty if option.required else option.default
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info], default=default)


def number_or_word(option: Option) -> Callable[[str], float | str]:
    """What typer calls with the text of a value that is a number or one of a few words."""

    def parse(text: str) -> float | str:
        if text in option.words:
            return text
        try:
            return option.base(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a number or {', '.join(option.words)}.") from None

    return parse


def completion(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """What typer calls with the beginning of a value."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def spelling(option: Option) -> str:
    """'--box-margin', 'DATASET'; '--flips/--no-flips' where there is a flag that switches it off."""
    return f"{option.flag}/{option.field.off}" if option.field.off else option.flag


def value_name(option: Option) -> str:
    """What stands for the value: 'N', '0..1', 'auto|fp32|bf16'; '' for a flag without one."""
    field = option.field
    if field.metavar:
        return field.metavar
    if option.literals:
        return "|".join(option.literals)
    if field.min is not None and field.max is not None:
        return f"{field.min:g}..{field.max:g}"
    return NAMES[option.base]


def describe_option(option: Option) -> str:
    """The help, and the default where there is one."""
    default = "" if option.required else show_default(option.default)
    return f"{option.field.help} [default:{NO_BREAK}{default}]" if default else option.field.help


def show_default(default: object) -> str:
    """A default as it would be typed, 'on' of a flag that is on; nothing where nothing is chosen."""
    if default is None or default is False:
        return ""
    return "on" if default is True else " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def help_rows(options: Sequence[Option]) -> dict[str, list[tuple[str, str]]]:
    """(flag and value, description) of each option, by panel, in the order of PANELS, what is required first."""
    panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
    for option in sorted(options, key=lambda option: not option.required):
        name = option.flag if option.field.argument else f"{spelling(option)} {value_name(option)}".rstrip()
        panels[option.field.panel].append((name, describe_option(option)))
    panels["Run"].append(("-h, --help", "Show this page."))
    return {panel: rows for panel, rows in panels.items() if rows}


def help_text(options: Sequence[Option], width: int) -> str:
    """The panels of a help page, ``width`` characters wide; names of options stand whole."""
    panels = help_rows(options)
    left = 2 + max(len(name) for rows in panels.values() for name, _ in rows) + 2
    lines = []
    for panel, rows in panels.items():
        lines += ["", styled(panel, bold=True)]
        for name, text in rows:
            first, *rest = textwrap.wrap(text, max(width - left, 20), break_on_hyphens=False)
            lines.append(f"  {styled(name, fg='cyan')}{' ' * (left - 2 - len(name))}{first}")
            lines += [" " * left + more for more in rest]
    return "\n".join(lines).replace(NO_BREAK, " ") + "\n"


def examples_text(examples: Sequence[str]) -> str:
    """The end of a help page: calls of the command, whole, to be copied."""
    return "\n".join(["", styled("Examples", bold=True), *(f"  {line}" for line in examples)]) + "\n"


def usage(options: Sequence[Option]) -> str:
    """'DATASET --model DIR --out FILE [OPTIONS]'; '[PATH] [OPTIONS]'."""
    required = [option for option in options if option.required]
    given = [option.flag if option.field.argument else f"{option.flag} {value_name(option)}" for option in required]
    given += [f"[{option.flag}]" for option in options if option.field.argument and not option.required]
    return " ".join([*given, "[OPTIONS]"])


def styled(text: str, **style: Any) -> str:
    """In color, unless NO_COLOR is set in the environment; typer takes colors out again where there is no terminal."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, **style)
