"""The table at the end: a row for each kind of fault."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from processes import Ended

HEADER = ("kind", "tried", "loading", "middle", "closing", "survived", "lost")
HOSTILE = "hostile "
"""How the kinds of the corpus begin."""
LEGEND = "loading, middle, closing: where a kill struck; of all else: middle, what was refused, closing, what had no effect"


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    name: str
    memory: int
    """Bytes."""
    cpu: float
    """Seconds."""


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
    costs: list[Cost] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.hits.total()

    def add(self, where: str, lost: list[str], *ran: Ended, name: str = "") -> None:
        """A try: where it struck, what is lost, the commands that ran and whose cost is told by a ``name``."""
        self.hits[where] += 1
        self.survived += not lost
        self.lost += lost
        self.measure(*ran, name=name)

    def measure(self, *ran: Ended, name: str = "") -> None:
        self.costs += [Cost(name or self.kind, ended.memory, ended.cpu) for ended in ran]

    def failures(self) -> list[str]:
        """Why the harness fails by this row: what was lost, or that nothing was tried where it matters."""
        missed = [] if self.hits["middle"] or not self.needs_middle else [f"no try of {self.tried} hit the middle"]
        return [f"{self.kind}: {line}" for line in (*self.lost, *missed)]

    def cells(self) -> tuple[str, ...]:
        where = (str(self.hits[name]) for name in HEADER[2:5])
        return (self.kind, str(self.tried), *where, str(self.survived), str(len(self.lost)))


def worst(costs: Sequence[Cost]) -> str:
    """What the largest and the slowest of some commands took."""
    memory, slow = max(costs, key=lambda cost: cost.memory), max(costs, key=lambda cost: cost.cpu)
    return f"peak memory {memory.memory >> 20} MB ({memory.name}); slowest {slow.cpu:.1f} CPU seconds ({slow.name})"


def show(tallies: list[Tally], cpu_seconds: float) -> str:
    """The table, what was lost, and what the worst cases took: of the hostile corpus, and of all else."""
    rows = [HEADER, *(tally.cells() for tally in tallies)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", LEGEND, *(failure for tally in tallies for failure in tally.failures())]
    for what, hostile in (("faults", False), ("hostile corpus", True)):
        costs = [cost for tally in tallies if tally.kind.startswith(HOSTILE) == hostile for cost in tally.costs]
        lines += [f"{what}: {worst(costs)}"] if costs else []
    tried, survived, lost = (sum(values) for values in zip(*((t.tried, t.survived, len(t.lost)) for t in tallies), strict=True))
    lines += [f"{tried} tried, {survived} survived, {lost} items lost; {cpu_seconds:.0f} CPU seconds"]
    return "\n".join(lines)
