"""How a command's options are declared: a frozen dataclass with a Field per option, checked against its annotation.

Knows nothing of a command line: samsemi.parameters makes flags of it, samsemi itself the parameters of Python functions.
"""

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from samsemi.errors import UsageError

PanelName = Literal["Input", "Network", "SAM", "Prompts", "Training", "Acceptance", "Review", "Ablation", "Run"]
PANELS: tuple[str, ...] = get_args(PanelName)
"""Groups of options, in the order of a help page: what is rarely changed comes last."""


@dataclass(frozen=True)
class Field:
    """What an option is besides its name, its type and its default: ``Annotated[int, Field("Training", "Optimizer steps.", min=1)]``."""

    panel: PanelName
    help: str
    min: float | None = None
    max: float | None = None
    argument: bool = False
    """Given by its place, without a flag."""
    off: str | None = None
    """The flag that switches it off, of one that is on by default."""
    metavar: str | None = None
    """What stands for the value in the help page, where type and range do not show it."""
    choices: tuple[str, ...] = ()
    """Values that a shell completes; others may be allowed, too."""
    reads: bool = False
    """Names a file or folder that the command reads, so it must not be written over."""
    hashed: bool = False
    """What it names is hashed into what the output is made from: with --resume it may come from elsewhere."""
    neutral: bool = False
    """Does not change what is computed: with --resume it may have another value."""
    code: bool = False
    """May name code of the user's own, which runs: a configuration file may not, since it may come from others."""
    online: tuple[str, ...] = ()
    """Values for which it connects to another machine: a configuration file may not have them, either."""
    presets: Mapping[str, Mapping[str, object]] | None = None
    """Of an option whose value names a set of values of others, for those that are not given: these sets."""


HIGHEST = 2**63 - 1
"""Of a whole number: what numpy and torch can hold."""
LARGEST_BATCH = 2**16
"""Images: with more, the numbers of a single batch would not be drawn for minutes."""
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
"""Types in words."""


@dataclass(frozen=True)
class Option:
    """One option of a command."""

    name: str
    kind: typing.Any
    """Its annotation, such as ``int | None``."""
    default: object
    """dataclasses.MISSING where it is required."""
    field: Field

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def flag(self) -> str:
        """How a person writes it: '--box-margin', 'DATASET'."""
        return self.name.upper() if self.field.argument else "--" + self.name.replace("_", "-")

    @property
    def repeated(self) -> bool:
        """Whether its value is a tuple, and its flag may be given several times."""
        return get_origin(self.kind) is tuple

    @property
    def kinds(self) -> tuple[typing.Any, ...]:
        """The alternatives of its annotation, None among them where that is allowed; of what is repeated, those of each value."""
        if self.repeated:
            return get_args(self.kind)[:1]
        return get_args(self.kind) if get_origin(self.kind) in (types.UnionType, typing.Union) else (self.kind,)

    @property
    def base(self) -> typing.Any:
        """Its type where it has a value: bool, int, float, str, Path or a Literal; of a number or a word, that of the number."""
        return next(kind for kind in self.kinds if kind is not type(None))

    @property
    def literals(self) -> tuple[str, ...]:
        """The only values that it can have; empty where others are possible."""
        return get_args(self.base) if get_origin(self.base) is Literal else ()

    @property
    def words(self) -> tuple[str, ...]:
        """What may stand in place of a number: 'auto' of ``float | Literal["auto"]``."""
        return tuple(word for kind in self.kinds if kind is not self.base for word in get_args(kind))


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checks the fields of a command's options against their annotations."""

    interrupted: typing.ClassVar[str] = "nothing was written"
    """What is said of the work of a command that was interrupted."""
    examples: typing.ClassVar[tuple[str, ...]] = ()
    """Two calls that a person would type, shown at the end of the help page and in docs/options.md."""

    def __post_init__(self):
        for name, option in declared(type(self)).items():
            value = getattr(self, name)
            check_value(option, value)
            if option.repeated:
                values = [value] if isinstance(value, str | Path) else value
                object.__setattr__(self, name, tuple(Path(part) if Path in option.kinds else part for part in values))
            elif isinstance(value, str) and Path in option.kinds:
                object.__setattr__(self, name, Path(value))


def declared(options: type[Options]) -> dict[str, Option]:
    """A command's options by name: its own, then those that it shares with other commands."""
    hints = get_type_hints(options, include_extras=True)
    found = {}
    for entry in sorted(fields(options), key=lambda entry: entry.name not in options.__annotations__):
        kind, field = get_args(hints[entry.name])
        found[entry.name] = Option(entry.name, kind, entry.default, field)
    return found


def fill_presets(options: type[Options], given: Mapping[str, object]) -> dict[str, object]:
    """The values that are given, and those that presets among them set."""
    known = declared(options)
    named = [(known[name].field.presets, value) for name, value in given.items() if name in known]
    sets = [presets[value] for presets, value in named if presets and isinstance(value, str) and value in presets]
    return {name: value for values in (*sets, given) for name, value in values.items()}


def check_value(option: Option, value: object, shown: str | None = None) -> None:
    """UsageError, beginning with ``shown`` or the flag, unless the value has the declared type and stands in the range or choice."""
    shown = shown or option.flag
    if option.repeated and isinstance(value, list | tuple):
        for part in value:
            check_value(replace(option, kind=option.kinds[0]), part, shown)
        if len(set(value)) < max(option.required, len(value)):
            problem = "one is named twice" if value else "none is given"
            raise UsageError(f"{shown} {', '.join(map(str, value))}: {problem}", "name each once")
        return
    if value is None and type(None) in option.kinds:
        return
    if isinstance(value, str | Path):
        check_text(str(value), shown)
    if option.literals:
        if value not in option.literals:
            raise UsageError(f"{shown} {value}: no such choice", f"one of {', '.join(option.literals)}")
        return
    if value in option.words:
        return
    base = option.base
    if base is Path and isinstance(value, str):
        check_path(value, shown)
    accepted = {float: (float, int), Path: (Path, str)}.get(base, (base,))
    if not isinstance(value, accepted) or (isinstance(value, bool) and base is not bool):
        kind = " or ".join([KINDS.get(base, base.__name__), *option.words])
        raise UsageError(f"{shown} {value!r}: expected {kind}", f"give {kind}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{shown} {value} is no finite number", "give a finite number")
    check_range(option.field, value, shown)


def check_text(text: str, shown: str) -> None:
    """UsageError for bytes that are no UTF-8, which no file of settings could hold and no result could show."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{shown} {ascii(text)}: no UTF-8", "rename the file or its folder, or type it anew") from None


def check_path(text: str, shown: str) -> None:
    """UsageError for a path that is empty or a flag, or holds a line break or the like."""
    if not text.strip():
        raise UsageError(f"{shown} '': an empty path", "give a path; in a script, a variable may be empty")
    if text.startswith("--"):
        raise UsageError(f"{shown} {text}: a flag where a path should be", "give the path; ./ before it where it is really called so")
    if any(ord(character) < 32 for character in text):
        raise UsageError(
            f"{shown} {text!r}: a path with a line break or control character in it",
            "give one path; in a script, see what a variable holds",
        )


def check_range(field: Field, value: typing.Any, shown: str) -> None:
    low, high = field.min, field.max
    if isinstance(value, int) and abs(value) > HIGHEST:
        raise UsageError(f"{shown} {value!s:.40}... is out of range", f"give {HIGHEST} or less")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"{low:g} or more" if high is None else f"{high:g} or less" if low is None else f"{low:g} to {high:g}"
        raise UsageError(f"{shown} {value} is out of range", f"give {bounds}")
