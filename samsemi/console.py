"""What a person sees while a command runs: progress with time left, notes, warnings, the closing result. rich lives here.

The result, its tables included, goes to stdout, all else to stderr. On a terminal progress is a bar; elsewhere (a log
file, a cluster) it is one plain line every ``PLAIN_SECONDS``. Until ``set_quiet`` is called, as a command does, nothing is
shown but what is printed by name: the library itself only writes to the logger "samsemi".
"""

import io
import json
import logging
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PLAIN_SECONDS = 10.0
STATUS_SECONDS = 0.5
"""Between two looks at the status of a bar: a look may wait for the GPU."""
STATUS_WIDTH = 76
"""Of a terminal that has room for a status after the times."""
TABLE_WIDTH = 80
"""Of tables that go to a file or a pipe."""
LONGEST_LINE = 1000
"""Letters of an error or a hint."""

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey; also what turns the direction of the text round."""

_quiet = True


def set_quiet(quiet: bool) -> None:
    """From now on show the progress, notes and warnings of the library; when quiet, warnings alone."""
    global _quiet
    _quiet = quiet
    logger = logging.getLogger("samsemi")
    logger.addHandler(SHOWN)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def escape_unwritable() -> None:
    """From now on letters that the encoding of a terminal or file has not are written escaped (``\\xe4``) by stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class ShownLog(logging.Handler):
    """What the library logs, as lines for the reader: infos as notes, what is worse as warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else note)(record.getMessage())


SHOWN = ShownLog(logging.INFO)


class Reader:
    """stderr, as long as somebody reads it: a terminal that was closed, or a pipe without an end, stops no work."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


READER: Any = Reader()


def say(text: str) -> None:
    """Lines on stderr, whatever was asked for."""
    print(text, file=READER, flush=True)


def _stderr() -> "Console":
    """Lines are never wrapped."""
    from rich.console import Console

    return Console(file=READER, soft_wrap=True, highlight=False)


def note(text: str) -> None:
    """One line for the reader, on stderr."""
    if not _quiet:
        _stderr().print(harmless(text), markup=False)


def warn(text: str) -> None:
    """One line that should be read even with --quiet, on stderr."""
    from rich.text import Text

    _stderr().print(Text.assemble(("warning:", "yellow"), " ", harmless(text)))


def fail(message: str, hint: str) -> None:
    """A user's error in two plain lines on stderr: what and where; what to do next."""
    say(f"error: {one_line(message)}\nhint: {one_line(hint)}")


def one_line(text: str) -> str:
    """A text without line breaks; of one that is very long, such as a path of thousands of letters, the beginning and the end."""
    line = harmless(" ".join(str(text).split()))
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"


def harmless(text: str) -> str:
    """A text without what a terminal would obey, line breaks aside: it may come from a file of somebody else's."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def format_seconds(seconds: float) -> str:
    """75.2 -> '1 min 15 s'."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def format_about(seconds: float) -> str:
    """754 -> '13 min': a time that is not known exactly."""
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


Status = Callable[[], str]
"""A few words on how it goes, such as 'loss 0.412'; called only when they are shown."""
Advance = Callable[..., None]


def no_status() -> str:
    return ""


@contextmanager
def progress(description: str, total: int, unit: str = "images", done: int = 0) -> Iterator[Advance]:
    """Progress of ``total`` steps; the value given is called as ``advance(n, status)`` after n more of them."""
    if _quiet:
        yield lambda n=1, status=no_status: None
    elif _stderr().is_terminal:
        with make_bar(_stderr()) as bar:
            yield _advance_bar(bar, description, total, done)
    else:
        yield _plain_lines(description, total, unit, done)


def make_bar(console: "Console") -> "Progress":
    """A bar that gives way to the count, the times and the status; on a narrow terminal the status gives way, too."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    whole = Column(no_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, table_column=Column(max_width=40)),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TextColumn("left"),
        TimeRemainingColumn(table_column=whole),
        *([TextColumn("{task.fields[status]}", markup=False)] if console.width >= STATUS_WIDTH else []),
    )
    return Progress(*columns, console=console, transient=True)


def _advance_bar(bar: "Progress", description: str, total: int, done: int) -> Advance:
    task = bar.add_task(description, total=total, completed=done, status="")
    last_look = float("-inf")

    def advance(n: int = 1, status: Status = no_status) -> None:
        nonlocal last_look
        bar.update(task, advance=n)
        if time.monotonic() - last_look >= STATUS_SECONDS:
            bar.update(task, status=status())
            last_look = time.monotonic()

    return advance


def _plain_lines(description: str, total: int, unit: str, done: int) -> Advance:
    start = last_line = time.monotonic()
    finished = done

    def advance(n: int = 1, status: Status = no_status) -> None:
        nonlocal finished, last_line
        finished += n
        now = time.monotonic()
        if now - last_line < PLAIN_SECONDS and finished < total:
            return
        last_line = now
        speed = (finished - done) / max(now - start, 1e-9)
        left = format_seconds((total - finished) / speed) if speed > 0 else "?"
        parts = (f"{description}: {finished}/{total} {unit}", f"{speed:.1f}/s", f"{left} left", status())
        say(", ".join(part for part in parts if part))

    return advance


@dataclass(frozen=True)
class Table:
    """A part of a result as people compare it. Columns stand in the order of their weight: the last ones give way."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Collection[str] = ()
    """Of the result: what it shows of it, which is not shown again below."""

    def lines(self, width: int) -> list[str]:
        """Title, head and rows of at most ``width`` characters: columns are left out rather than cut, and named below."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        shown = max(n for n in range(1, len(widths) + 1) if n == 1 or sum(widths[:n]) + 2 * (n - 1) <= width)
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row[:shown], widths, strict=False)) for row in (self.columns, *self.rows)]
        left_out = [f"not shown: {', '.join(self.columns[shown:])}"] if shown < len(widths) else []
        return [self.title, *(line.rstrip() for line in lines), *left_out]


def show_text(text: str) -> None:
    """A text of several lines on stdout."""
    print(harmless(text), end="")


def show_result(title: str, result: Mapping[str, object], as_json: bool, tables: Sequence[Table] = ()) -> None:
    """The result of a stage on stdout: one JSON object; or its tables, then its other plain values, a line each, never cut."""
    if as_json:
        print(json.dumps(result, indent=2, default=str))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else TABLE_WIDTH
    for table in tables:
        print(harmless("\n".join(table.lines(width))), end="\n\n")
    tabulated = {key for table in tables for key in table.keys}
    rows = list(flatten({key: value for key, value in result.items() if key not in tabulated}))
    width = max((len(key) for key, _ in rows), default=0)
    print(harmless("\n".join([title, *(f"  {key:<{width}}  {value}" for key, value in rows)])))


def flatten(result: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The plain values of a result, and those one level down, as ('a b', 'value') rows."""
    for key, value in result.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, entry in inner:
            if entry is not None and not isinstance(entry, (Mapping, list)):
                yield f"{key} {name}".replace("_", " ").strip(), f"{entry:.4g}" if isinstance(entry, float) else str(entry)
