"""kill -9 at random moments: afterwards what lies there opens, and what is taken up again equals what was never killed, value by value."""

import os
import random
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faults.jobs import JOBS, Job
from faults.tally import Tally
from faults.values import Values, broken_files, differences, values_of
from processes import Ended, Process, run
from small_world import World

REAL = 5
"""Kills of each command that go by the real command line."""
TWICE = 4
"""Every so many-th is killed again while it is taken up."""
REFUSED = 3


@dataclass(frozen=True)
class Place:
    """Where a job is tried over and over."""

    world: World
    sandbox: Path

    @property
    def folder(self) -> Path:
        return self.sandbox / "try"

    @property
    def log(self) -> Path:
        return self.sandbox / "log"

    def old(self, job: Job) -> Path:
        """What a job finds there; empty for most."""
        return self.sandbox / f"before {job.name}"

    def fresh(self, job: Job) -> Path:
        """The folder to run it in, as the job finds it; emptied rather than replaced, since a small disk may be mounted there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.old(job), self.folder, symlinks=True, dirs_exist_ok=True)
        return self.folder


@dataclass(frozen=True)
class Reference:
    """A job that nothing happened to."""

    values: Mapping[str, Values]
    old: Mapping[str, Values]
    begun: float
    """Seconds until something was there."""
    seconds: float
    changes: int
    """Of files."""
    lost: tuple[str, ...]
    """What would not outlive a power cut, or was written elsewhere."""
    ended: Ended


@dataclass(frozen=True)
class Evidence:
    """How far a job is, by what lies there."""

    job: Job
    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "at_first", (self.entries(), self.marks()))

    def entries(self) -> set[str]:
        return {str(path) for path in self.folder.rglob("*") if "lock" not in path.name}

    def marks(self) -> set[int]:
        """The files with which the output is whole, told from earlier ones of the same name."""
        found = set()
        for path in self.folder.glob(self.job.whole):
            try:
                found.add(path.stat().st_ino)
            except FileNotFoundError:
                continue
        return found

    def begun(self) -> bool:
        return self.entries() != self.at_first[0]

    def whole(self) -> bool:
        return len(self.marks() - self.at_first[1]) >= self.job.count

    def phase(self) -> str:
        return "closing" if self.whole() else "middle" if self.begun() else "loading"


def make_reference(job: Job, place: Place) -> Reference:
    """Run a job to its end, measured."""
    place.old(job).mkdir(parents=True, exist_ok=True)
    if job.before and not any(place.old(job).iterdir()):
        ended = run(job.before(place.world), place.old(job), place.log)
        assert ended.code == 0, ended.err
    folder = place.fresh(job)
    old = values_of(folder)
    evidence = Evidence(job, folder)
    process = Process(job.words(place.world), folder, place.log)
    assert process.wait(evidence.begun) is None, process.log
    begun = process.age
    ended = process.wait()
    assert ended and ended.code == 0 and not ended.fault(), ended
    lost = [f"not on disk before it gets its name: {Path(note.split(' ', 1)[1]).name}" for note in ended.noted("unsynced")]
    lost += [f"written elsewhere: {note}" for note in ended.noted("outside")]
    return Reference(values_of(folder), old, begun, ended.wall, len(ended.noted("change")), tuple(lost), ended)


def by_change(dice: random.Random, real: bool) -> bool:
    """Whether a kill is just before a change of a file rather than by the clock: only these strike between two steps of a writer."""
    return not real and dice.random() < 0.5


def strike(job: Job, words: tuple, reference: Reference, place: Place, dice: random.Random, real: bool) -> tuple[Ended, str]:
    """Start a job and kill it at a random moment, by the clock or just before a change of a file; how it ended, and where it was."""
    evidence = Evidence(job, place.folder)
    die_at = dice.randint(1, reference.changes) if by_change(dice, real) else None
    process = Process(words, place.folder, place.log, real=real, die_at=die_at)
    if die_at:
        ended = process.wait()
    elif real:
        span = reference.seconds - reference.begun
        ended = process.wait(evidence.begun) if dice.random() < 0.8 else None
        moment = process.age + dice.uniform(0, span)
        ended = ended or process.wait(lambda: process.age >= moment)
    else:
        moment = dice.uniform(0, reference.seconds)
        ended = process.wait(lambda: process.age >= moment)
    if ended is None:
        process.signal(signal.SIGKILL)
        ended = process.wait()
    assert ended
    return ended, evidence.phase()


def check_killed(job: Job, reference: Reference, place: Place) -> list[str]:
    """What is broken, or gone, right after a kill."""
    lost = broken_files(place.folder)
    whole = [*outputs_in(reference.old), *outputs_in(reference.values)]
    if job.before and not lost and not any(found in whole for found in outputs_in(values_of(place.folder, broken=False))):
        lost.append("neither the old output nor the new one is there")
    return lost


def outputs_in(values: Mapping[str, Values]) -> list[dict[str, Values]]:
    """The uppermost files and folders, by what is in them and whatever their names."""
    outputs: dict[str, dict[str, Values]] = {}
    for name, found in values.items():
        top, _, within = name.partition("/")
        outputs.setdefault(top, {})[within] = found
    return list(outputs.values())


def dead_locks(folder: Path) -> dict[str, Values]:
    """The locks of a process that was killed. One that is still the same when the job was taken up, which did not need its file, keeps
    nobody from it: the next who writes there takes it over."""
    return {name: values for name, values in values_of(folder, broken=False).items() if name.endswith(".lock")}


def take_up(job: Job, reference: Reference, place: Place) -> tuple[Ended, list[str]]:
    """Take a killed job up to its end; what differs from the reference."""
    dead = dead_locks(place.folder)
    ended = run((*job.words(place.world), *job.again), place.folder, place.log)
    fault = ended.fault()
    if fault:
        return ended, [fault]
    if ended.code and (ended.code != REFUSED or job.again):
        return ended, [f"not taken up, exit {ended.code}: {ended.err.strip()[-300:]}"]
    try:
        found = {name: values for name, values in values_of(place.folder).items() if dead.get(name) != values}
        lost = differences(found, reference.values)
    except Exception as error:
        return ended, [f"a file does not open: {error!r}"]
    return ended, [f"{line} (exit {ended.code}: {ended.err.strip()[-200:]})" if ended.code else line for line in lost]


def try_kill(job: Job, reference: Reference, place: Place, dice: random.Random, number: int, real: bool, tally: Tally) -> None:
    """One kill, its resumption and its row; drawn again where the job was done before."""
    for _ in range(20):
        place.fresh(job)
        ended, phase = strike(job, job.words(place.world), reference, place, dice, real)
        if ended.code == -9:
            break
        if ended.code != 0:
            tally.add("middle", [ended.fault() or f"ended with {ended.code} before it was killed: {ended.err[-200:]}"], ended)
            return
    lost = check_killed(job, reference, place)
    if number % TWICE == 0 and not lost and not real:
        strike(job, (*job.words(place.world), *job.again), reference, place, dice, real)
        lost = check_killed(job, reference, place)
    again, differing = take_up(job, reference, place)
    how = f"{'command line' if real else 'fork'}, number {number}, {phase}"
    tally.add(phase, [f"{line} ({how})" for line in (*lost, *differing)], ended, again)
    if lost or differing:
        keep_evidence(place, f"{job.name} {number}")


def keep_evidence(place: Place, name: str) -> None:
    """Keep what a failed try left, where that is asked for."""
    kept = os.environ.get("FAULTS_KEEP")
    if kept:
        target = Path(kept) / name.replace(", ", "-").replace(" ", "-")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(place.folder, target, symlinks=True)
        shutil.copytree(place.log, target / "log")


def kill_job(job: Job, place: Place, kills: int, seed: int = 0, real: int = REAL) -> Tally:
    """All kills of a job."""
    tally = Tally(f"kill {job.name}")
    reference = make_reference(job, place)
    tally.lost += dict.fromkeys(reference.lost)
    tally.measure(reference.ended)
    dice = random.Random(f"{seed} {job.name}")
    alike = sum(other.command == job.command for other in JOBS)
    count = max(1, round(kills * job.share))
    real = min(-(-real // alike), count // 2)
    for number in range(1, count + 1):
        try_kill(job, reference, place, dice, number, number <= real, tally)
    return tally
