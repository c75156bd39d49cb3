"""docs/options.md, made from the options themselves: PYTHONPATH=tests python -m reference

A test compares the page with what this makes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from samsemi.options.commands import GROUPS, STAGES, function_name
from samsemi.options.fields import PANELS, Option, Options, declared
from samsemi.options.shared import ConsoleOptions
from samsemi.parameters import show_default, spelling, usage, value_name

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
HEAD = """# Options

Every command with every option, as `--help` shows them; made from the code by `make reference`. Exit codes stand in
[guarantees](guarantees.md#errors), files in [files](files.md).

An option with `...` may be given several times. `X` is a number, `N` a whole one. A flag goes before the table of its command in
`--config FILE.toml`, that before the default. In Python, options are parameters, `-` written `_`.
"""
ENVIRONMENT = """## Environment

| variable | what |
|---|---|
| `SAMSEMI_WEIGHTS` | folder of fetched weights ([weights](weights.md)) |
| `SAMSEMI_OFFLINE` | `1`: nothing connects to another machine |
| `NO_COLOR` | any value: no colors |
| `OMP_NUM_THREADS` | threads of a CPU |
"""


def make_page() -> str:
    """The whole page."""
    contents = " · ".join(f"[{name}](#{anchor(name)})" for name in STAGES)
    common = describe_options([*declared(ConsoleOptions).values()])
    parts = [HEAD, f"{contents}\n", "## Every command\n", *common, ENVIRONMENT]
    for name, (_, options) in STAGES.items():
        parts += describe_command(name, options)
    return "\n".join(parts)


def anchor(name: str) -> str:
    return name.replace(" ", "-")


def describe_command(name: str, options: type[Options]) -> list[str]:
    """Heading, call, what it does, a table of each panel, examples."""
    every = [*declared(options).values()]
    group = name.split()[0]
    about = [f"{GROUPS[group]}\n"] if group in GROUPS else []
    call = f"```\nsamsemi {name} {usage(every)}\n```\n"
    python = f"In Python `samsemi.{function_name(name)}(...)`.\n"
    examples = "\n".join(["```bash", *options.examples, "```\n"])
    return [f"## {name}\n", *about, f"{options.__doc__} {python}", call, *describe_options(every), examples]


def describe_options(options: Sequence[Option]) -> list[str]:
    """A table of each panel, in the order of a help page, what is required first."""
    return ["\n".join(table(panel, [option for option in options if option.field.panel == panel])) + "\n" for panel in used(options)]


def used(options: Sequence[Option]) -> list[str]:
    panels = {option.field.panel for option in options}
    return [panel for panel in PANELS if panel in panels]


def table(panel: str, options: Sequence[Option]) -> Iterator[str]:
    yield f"| {panel} | default | |"
    yield "|---|---|---|"
    for option in sorted(options, key=lambda option: not option.required):
        yield f"| {written(option)} | {default_of(option)} | {cell(option.field.help)} |"


def written(option: Option) -> str:
    """'`--size N`', '`DATASET`'; with dots after what may be repeated."""
    name = option.flag if option.field.argument else f"{spelling(option)} {value_name(option)}".rstrip()
    return f"`{cell(name)}`" + (" ..." if option.repeated else "")


def default_of(option: Option) -> str:
    """'required', 'on', '`0.1`'; nothing of a flag that is off, or of what its help explains."""
    if option.required:
        return "required"
    default = show_default(option.default)
    return default if default in ("", "on") else f"`{cell(default)}`"


def cell(text: str) -> str:
    """As it stands in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
    print(PAGE)
