"""What a person sees while a stage runs: progress with time left, notes, the closing table. rich lives here.

Everything but the closing result goes to stderr, so that stdout can be piped. On a terminal progress is a bar;
elsewhere (a log file, a cluster) it is one plain line every ``PLAIN_SECONDS``.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_SECONDS = 10.0
PLAIN_WIDTH = 180

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Silence progress and notes; warnings, errors and the result are still printed."""
    global _quiet
    _quiet = quiet


def _stderr() -> Console:
    return _console(sys.stderr)


def _console(file) -> Console:
    """Lines are never wrapped; where there is no terminal, tables may be wide."""
    return Console(file=file, soft_wrap=True, highlight=False, width=None if file.isatty() else PLAIN_WIDTH)


def note(text: str) -> None:
    """One line for the reader, on stderr."""
    if not _quiet:
        _stderr().print(escape(text))


def warn(text: str) -> None:
    """One line that should be read even with --quiet, on stderr."""
    _stderr().print(f"[yellow]warning:[/yellow] {escape(text)}")


class WarningLines(logging.Handler):
    """What the library has to say through logging, as lines of ``warn``."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


logging.getLogger("samsemi").addHandler(WarningLines(logging.WARNING))


def fail(message: str, hint: str) -> None:
    """A user's error in two plain lines on stderr: what and where; what to do next."""
    print(f"error: {one_line(message)}\nhint: {one_line(hint)}", file=sys.stderr)


def one_line(text: str) -> str:
    return " ".join(str(text).split())


def format_seconds(seconds: float) -> str:
    """75.2 -> '1 min 15 s'."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


Advance = Callable[..., None]


@contextmanager
def progress(description: str, total: int, unit: str = "images", done: int = 0) -> Iterator[Advance]:
    """Progress of ``total`` steps; the value given is called as ``advance(n, status)`` after n more of them."""
    if _quiet:
        yield lambda n=1, status="": None
    elif _stderr().is_terminal:
        with _bar(description, total, unit, done) as advance:
            yield advance
    else:
        yield _plain_lines(description, total, unit, done)


@contextmanager
def _bar(description: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=_stderr(), transient=True) as bar:
        task = bar.add_task(description, total=total, completed=done, status="")
        shown = [""]

        def advance(n: int = 1, status: str = "") -> None:
            shown[0] = status or shown[0]
            bar.update(task, advance=n, status=escape(shown[0]))

        yield advance


def _plain_lines(description: str, total: int, unit: str, done: int) -> Advance:
    start = last_line = time.monotonic()
    finished, shown = done, ""

    def advance(n: int = 1, status: str = "") -> None:
        nonlocal finished, shown, last_line
        finished += n
        shown = status or shown
        now = time.monotonic()
        if now - last_line < PLAIN_SECONDS and finished < total:
            return
        last_line = now
        speed = (finished - done) / max(now - start, 1e-9)
        left = format_seconds((total - finished) / speed) if speed > 0 else "?"
        line = f"{description}: {finished}/{total} {unit}, {speed:.1f}/s, {left} left"
        print(f"{line}, {shown}" if shown else line, file=sys.stderr, flush=True)

    return advance


def show_result(title: str, result: Mapping[str, object], as_json: bool) -> None:
    """The result of a stage on stdout: one JSON object, or its plain values, a line each, never cut."""
    if as_json:
        print(json.dumps(result, indent=2, default=str))
        return
    rows = list(flatten(result))
    width = max((len(key) for key, _ in rows), default=0)
    print("\n".join([title, *(f"  {key:<{width}}  {value}" for key, value in rows)]))


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table for the reader, on stderr."""
    if _quiet:
        return
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    _stderr().print(table)


def flatten(result: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The plain values of a result, and those one level down, as ('a b', 'value') rows."""
    for key, value in result.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, entry in inner:
            if entry is not None and not isinstance(entry, (Mapping, list)):
                yield f"{key} {name}".replace("_", " ").strip(), f"{entry:.4g}" if isinstance(entry, float) else str(entry)
