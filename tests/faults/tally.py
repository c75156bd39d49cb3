"""The table at the end: a row for each kind of fault."""

from collections import Counter
from dataclasses import dataclass, field

from processes import Ended

HEADER = ("kind", "tried", "loading", "middle", "closing", "survived", "lost")


@dataclass
class Tally:
    """What became of the tries of one kind."""

    kind: str
    hits: Counter = field(default_factory=Counter)
    """How many tries struck where: 'loading', 'middle' or 'closing'."""
    needs_middle: bool = True
    """Whether tries that all miss the middle say nothing."""
    survived: int = 0
    lost: list[str] = field(default_factory=list)
    """A line for every item that is lost, or wrong."""
    worst: Ended | None = None
    """The command that took most memory."""
    slowest: float = 0.0
    """CPU seconds of the slowest command."""

    @property
    def tried(self) -> int:
        return self.hits.total()

    def add(self, where: str, lost: list[str], *ran: Ended) -> None:
        self.hits[where] += 1
        self.survived += not lost
        self.lost += lost
        self.measure(*ran)

    def measure(self, *ran: Ended) -> None:
        self.worst = max([*([self.worst] if self.worst else []), *ran], key=lambda ended: ended.memory, default=None)
        self.slowest = max([self.slowest, *(ended.cpu for ended in ran)])

    def failures(self) -> list[str]:
        """Why the harness fails by this row: what was lost, or that nothing was tried where it matters."""
        missed = [] if self.hits["middle"] or not self.needs_middle else [f"no try of {self.tried} hit the middle"]
        return [f"{self.kind}: {line}" for line in (*self.lost, *missed)]

    def cells(self) -> tuple[str, ...]:
        where = (str(self.hits[name]) for name in HEADER[2:5])
        return (self.kind, str(self.tried), *where, str(self.survived), str(len(self.lost)))


def show(tallies: list[Tally], cpu_seconds: float) -> str:
    """The table, what was lost, and what the worst case took."""
    rows = [HEADER, *(tally.cells() for tally in tallies)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", *(failure for tally in tallies for failure in tally.failures())]
    measured = [tally for tally in tallies if tally.worst]
    if measured:
        memory = max(measured, key=lambda tally: tally.worst.memory if tally.worst else 0)
        slow = max(measured, key=lambda tally: tally.slowest)
        assert memory.worst
        peak = f"peak memory {memory.worst.memory >> 20} MB ({memory.kind})"
        lines += [f"{peak}; slowest command {slow.slowest:.1f} CPU seconds ({slow.kind})"]
    tried, survived, lost = (sum(values) for values in zip(*((t.tried, t.survived, len(t.lost)) for t in tallies), strict=True))
    lines += [f"{tried} tried, {survived} survived, {lost} items lost; {cpu_seconds:.0f} CPU seconds"]
    return "\n".join(lines)
