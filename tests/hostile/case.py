"""One hostile call: what is made in an empty folder, the command that is run there, and how it has to end."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from small_world import World

from samsemi.options.commands import find_command

USAGE, REFUSED, DATA, CHECKPOINT, DEVICE, NOTHING = range(2, 8)


@dataclass(frozen=True)
class Place:
    here: Path
    """Where the command runs."""
    world: World

    def copy(self, name: str, to: str = "") -> Path:
        """A file or folder of the world, to break."""
        source = getattr(self.world, name)
        target = self.here / (to or source.name)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        return target


@dataclass(frozen=True)
class Case:
    name: str
    line: str
    """As typed, without ``samsemi``; {images} and the like are what the world has."""
    code: int | tuple[int, ...]
    """The exit code that is right, or several where it may go one way or the other."""
    said: str = ""
    """What stderr must match; where the code is 0, the result in JSON."""
    make: Callable[[Place], object] | None = None
    out: str = "out"
    """What may be written: names that begin so."""
    user: bool = False
    """Whether it runs without the rights that root alone has."""
    left: Callable[[Place], bool] | None = None
    """What must hold afterwards."""

    @property
    def codes(self) -> tuple[int, ...]:
        return self.code if isinstance(self.code, tuple) else (self.code,)

    @property
    def kind(self) -> str:
        """What is hostile: the name up to its colon."""
        return self.name.split(":")[0]

    @property
    def command(self) -> str:
        return find_command(self.line.split()) or ""


def at(name: str, write: Callable[[Path], object]) -> Callable[[Place], None]:
    """Make one file, or what else there may be at a path."""

    def make(place: Place) -> None:
        path = place.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)

    return make


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content, encoding="utf-8", errors="surrogateescape")


def data(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def all_of(*makes: Callable[[Place], object]) -> Callable[[Place], None]:
    def make(place: Place) -> None:
        for one in makes:
            one(place)

    return make


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Something else in place of a file."""
    path.unlink()
    write(path)
