"""Which of the processes of one command this is: those that torchrun or accelerate launch have started. Alone without a launcher.

Every process runs the whole command. What would be done twice, such as writing an output, is done by the first alone; images to mine,
and those of each batch of a training, are dealt out. How they tell each other stands in samsemi.collectives. Needs no torch.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from samsemi import offline
from samsemi.errors import UsageError

Item = TypeVar("Item")
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
MEETING = ("MASTER_ADDR", "MASTER_PORT")
"""Where they find each other."""


@dataclass(frozen=True)
class Place:
    """The place of a process among those of a command."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """Its number on its own machine."""


def place() -> Place:
    """As the launcher says it, by the variables that torch.distributed reads; alone where one of them lacks."""
    if not all(os.environ.get(name) for name in (*NUMBERS, *MEETING)):
        return Place()
    given = {name: os.environ[name] for name in (*NUMBERS, MEETING[1])}
    rank, count, local, port = (int(text) if text.isascii() and text.isdecimal() else -1 for text in given.values())
    if not 0 <= rank < count or local < 0 or not 0 < port < 2**16:
        found = ", ".join(f"{name}={text:.20}" for name, text in given.items())
        raise UsageError(f"{found}: no place among processes", "start it by torchrun or accelerate launch, or unset these variables")
    return Place(rank, count, local)


def meet_elsewhere() -> bool:
    """Whether the processes find each other on another machine than this one."""
    return os.environ[MEETING[0]] not in (*offline.HERE, socket.gethostname(), socket.getfqdn())


def is_first() -> bool:
    return place().rank == 0


def count() -> int:
    return place().count


def share(items: Sequence[Item]) -> Sequence[Item]:
    """What this process does of what there is to do: every so many-th."""
    own = place()
    return items[own.rank :: own.count]


def own_rows(count: int) -> slice:
    """The ``count`` rows of this process among as many of each."""
    rank = place().rank
    return slice(rank * count, (rank + 1) * count)


def own_path(path: Path) -> Path:
    """A file that no two processes may write: for all but the first, with the process's number in its name."""
    rank = place().rank
    return path.with_name(f"{path.stem}.{rank}{path.suffix}") if rank else path


def need_one(what: str, hint: str) -> None:
    """UsageError where several processes do what one alone can do."""
    if count() > 1:
        raise UsageError(f"{what}: {count()} processes cannot do it together", hint)
