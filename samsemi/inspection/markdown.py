"""Text of others in Markdown: names of files, classes and cases stay text, whatever stands in them."""

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$:@])")
"""What may mean something within a line, in one dialect or another: marks, links, HTML, cells, formulas, addresses."""


def plain(value: object) -> str:
    """A value as text in one line, in which nothing is a mark."""
    return SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def code(text: str) -> str:
    """A line of code, as a block that nothing in it ends."""
    line = " ".join(text.split())
    fence = "`" * (max([2, *map(len, re.findall("`+", line))]) + 1)
    return f"{fence}\n{line}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; its head is ours, its rows are text. Empty without rows."""
    lines = [f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else ""


def document(title: str, sections: dict[str, Sequence[str]]) -> str:
    """Title and sections, those aside in which nothing stands."""
    parts = [f"# {title}"]
    for name, blocks in sections.items():
        if any(blocks):
            parts += [f"## {name}", *filter(None, blocks)]
    return "\n\n".join(parts) + "\n"
