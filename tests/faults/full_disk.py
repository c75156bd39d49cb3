"""Full disks: every command runs into one at several places; it says so, and goes on to the same result where there is room again."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.jobs import Job
from faults.kills import REFUSED, Place, Reference, check_killed, make_reference, take_up
from faults.tally import Tally
from processes import Ended, Limits, run

ROOM = 256 * 2**20
PAGE = 4096
SHOWN = ("warning: ", "error: ", "hint: ", "interrupted")
"""How the lines begin that a command may print."""


def mount(*words: object) -> bool:
    """Whether ``mount`` or ``umount`` did it."""
    try:
        return subprocess.run([str(word) for word in words], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of so many bytes at a folder; False where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = mount("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield mounted
    finally:
        if mounted:
            mount("umount", folder)


def refused(ended: Ended) -> list[str]:
    """What is wrong with how a command ended that found no room."""
    fault = ended.fault()
    noise = [line for line in ended.err.splitlines() if not line.startswith(SHOWN)]
    if fault or ended.code != REFUSED:
        return [fault or f"ended with {ended.code}: {ended.err[-200:]}"]
    if not any(text in ended.err for text in ("No space left", "File too large")):
        return [f"refused for another reason: {ended.err[-200:]}"]
    return [f"{len(noise)} lines of noise, such as {noise[0]:.100}"] if noise else []


def file_named(ended: Ended) -> str:
    """The kind of file that there was no room for, by the error."""
    error = next((line for line in ended.err.splitlines() if line.startswith("error: ")), "")
    name = Path(error.removeprefix("error: ").split(": ")[0]).name
    return Path(name).suffix or name


def room_of(folder: Path) -> int:
    """Bytes of the pages that the files below a folder take."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def fill_disk(job: Job, place: Place, tries: int, seed: int = 0) -> list[Tally]:
    """A job on disks too small for it, and with files that may not grow; two rows, and which kinds of files found no room."""
    disk, files = Tally(f"full disk {job.name}"), Tally(f"file limit {job.name}")
    reference = make_reference(job, place)
    dice = random.Random(f"{seed} {job.name}")
    sizes = [(place.folder / name).stat().st_size for name in reference.values]
    before, total = room_of(place.old(job)), room_of(place.folder)
    for _ in range(tries):
        size = before + max(PAGE, round(dice.uniform(0.05, 0.95) * total))
        with small_disk(place.folder, size) as mounted:
            if mounted:
                try_room(job, reference, place, Limits(), f"{size} bytes", disk)
    smallest, largest = min(sizes), max(sizes)
    for _ in range(tries):
        limit = round(smallest * (largest / smallest) ** dice.uniform(0, 0.98))
        try_room(job, reference, place, Limits(file=limit), f"files of {limit} bytes", files)
    disk.needs_middle = files.needs_middle = False
    return [tally for tally in (disk, files) if tally.tried]


def try_room(job: Job, reference: Reference, place: Place, limits: Limits, how: str, tally: Tally) -> None:
    """A job with little room, and its row: how it ended, what lay there then, and what differs after it went on with room."""
    ended = run(job.words(place.world), place.fresh(job), place.log, limits=limits)
    if ended.code == 0:
        return
    lost = [*refused(ended), *check_killed(job, reference, place)]
    mount("mount", "-o", f"remount,size={ROOM}", place.folder)
    again, differing = take_up(job, reference, place)
    tally.add("middle", [f"{line} ({how}, {file_named(ended)})" for line in (*lost, *differing)], ended, again)
