"""All cases, and what became of each: run in a process of its own, watched."""

import ctypes
import os
import re
import shlex
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from hostile import backends, layouts, models, pictures, places, published, reports, stores, tables
from hostile.case import Case, Place
from processes import Ended, Limits, run
from small_world import World

CASES = [
    *(*pictures.CASES, *layouts.CASES, *tables.CASES, *models.CASES, *published.CASES, *stores.CASES, *places.CASES),
    *(*reports.CASES, *backends.CASES),
]
FAMILIES = {
    "images": ("image", "images", "folder", "predictions"),
    "names": ("name", "groups"),
    "volumes": ("volume",),
    "masks": ("mask", "masks"),
    "data sets of others": ("coco", "yolo", "labelme", "nnunet", "acdc", "splits", "colors", "gif"),
    "tables": ("manifest", "dataset.json", "split file"),
    "weights": ("model.json", "weights", "SAM", "encoder", "peers", "teacher", "hf"),
    "runs": ("run", "state"),
    "stores": ("store", "out-of-fold maps"),
    "caches": ("cache",),
    "TOML": ("config",),
    "outputs": ("out",),
    "reports": ("report", "export", "bench"),
    "backends": ("backend",),
}
"""Kinds of cases by the rows of the table in which they are counted."""
COMPUTING = ("warmstart", "adapt", "mine", "finetune", "distill", "eval", "predict")
SECONDS, MEMORY = 10, 2 * 2**30
PATIENCE = 10
"""Seconds in which a command does nothing at all before it hangs."""
CAPABILITIES = 0x20080522
"""Version of what the system is told by ``capset``."""
Listing = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Outcome:
    case: Case
    kind: str
    """'well' where all is as it has to be; else 'traceback', 'hang', 'silent', 'lost', 'outside', 'memory', 'another' or 'said'."""
    problem: str
    ended: Ended


def listing(folder: Path) -> Listing:
    """Kind, size and time of change of all that is below a folder; links are not followed."""
    found: Listing = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = os.lstat(os.path.join(path, name))
            size, time = (0, 0) if stat.S_ISDIR(entry.st_mode) else (entry.st_size, entry.st_mtime_ns)
            found[os.path.relpath(os.path.join(path, name), folder)] = (entry.st_mode, size, time)
    return found


def words_of(case: Case, world: World) -> list[str]:
    """The arguments; the result comes as JSON, and commands compute on the CPU."""
    things = ("images", "masks", "dataset", "warm", "folds", "store", "cache", "distilled", "sam", "eval", "predictions", "labels")
    command, *words = shlex.split(case.line.format_map({name: getattr(world, name) for name in things}))
    return [command, *words, "--json", "--quiet", *(["--device", "cpu"] if command in COMPUTING else [])]


def as_user() -> None:
    """For root: without the rights that go beyond permissions, as everybody else."""
    if os.getuid() == 0:
        done = ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)())
        assert done == 0


def run_case(case: Case, world: World, sandbox: Path) -> Outcome:
    """One case in a folder of its own."""
    remove(sandbox)
    here = sandbox / "here"
    here.mkdir(parents=True)
    place = Place(here, world)
    if case.make:
        case.make(place)
    before = [listing(sandbox), listing(world.root)]
    log = sandbox.with_name("log")
    ended = run(
        words_of(case, world),
        here,
        log,
        idle=PATIENCE,
        limits=Limits(cpu=SECONDS, memory=MEMORY),
        environment={"TMPDIR": str(here), "HOME": str(here), "PYTHONPATH": ".", "HF_HOME": str(here)},
        prepare=as_user if case.user else None,
    )
    after = [listing(sandbox), listing(world.root)]
    kind, problem = judge(case, place, ended, before, after)
    return Outcome(case, kind, problem, ended)


def judge(case: Case, place: Place, ended: Ended, before: list[Listing], after: list[Listing]) -> tuple[str, str]:
    """How good the answer was, and what was wrong with it."""
    changed = {name for name in {*before[0], *after[0]} if before[0].get(name) != after[0].get(name)}
    outside = sorted(name for name in changed if not allowed(case, name)) + [str(place.world.root)] * (before[1] != after[1])
    called = [note for note in ended.notes if not note.startswith(("change", "unsynced"))]
    if ended.code < 0 or ended.cpu > SECONDS:
        return "hang", f"ended with {ended.code} after {ended.cpu:.1f} CPU seconds, {ended.wall:.0f} s"
    if called or any(Path(name).name == "pwned" for name in changed):
        return "outside", f"called {called[:2]}" if called else "ran what was planted"
    if fault := ended.fault():
        return "traceback", fault
    if case.left and not case.left(place):
        return "lost", "what was there is gone"
    if ended.code not in case.codes:
        return "silent" if ended.code == 0 else "another", f"ended with {ended.code}, not {case.code}: {ended.err.strip()[-300:]}"
    if outside:
        return "outside", f"wrote {outside[:3]}"
    return judge_text(case, ended)


def judge_text(case: Case, ended: Ended) -> tuple[str, str]:
    """Whether what was said fits, and memory."""
    where = ended.err if ended.code else ended.out
    if case.said and not (ended.code == 0 and len(case.codes) > 1) and not re.search(case.said, where):
        return "said", f"nothing of {case.said!r} in {where[-300:]!r}"
    if any(len(line) > 2000 for line in ended.err.splitlines()):
        return "said", "a line of more than 2,000 letters"
    if ended.memory > MEMORY:
        return "memory", f"{ended.memory >> 20} MB"
    return "well", ""


def allowed(case: Case, name: str) -> bool:
    """Whether a command may have written there: its output, what belongs to that, and the folder that holds it."""
    within = name.removeprefix("here/").removeprefix("here")
    return any(within.lstrip(".").startswith(one) for one in (case.out, "cache.h5", "Library", "matplotlib")) or not within


def remove(folder: Path) -> None:
    """Remove a folder, also one that is too deep for its paths, or closed."""
    if folder.exists():
        shutil.rmtree(folder)
