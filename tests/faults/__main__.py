"""``make faults``: kills, full disks and damaged files, tried on every command; exit code 1 where anything is lost.

python -m faults [--kills 100] [--only kill,disk,damage,hostile] [--jobs mine,predict] [--cases PATTERN] [--seed 0]
"""

import argparse
import os
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from faults.damage import SUBJECTS, damage
from faults.full_disk import fill_disk
from faults.jobs import JOBS
from faults.kills import Place, kill_job
from faults.tally import HOSTILE, Tally, show
from hostile.case import Case
from hostile.corpus import CASES, FAMILIES, run_case
from processes import preload
from small_world import make_world

MEMORY = Path("/dev/shm")
"""A kill leaves what was written to memory as it leaves what was written to a disk, without the wait."""


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="kills of mine; the others in proportion")
    parser.add_argument("--only", default="kill,disk,damage,hostile", help="kinds of faults")
    parser.add_argument("--jobs", default="", help="commands; default: all")
    parser.add_argument("--cases", default="", help="hostile cases whose names match")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", type=Path, help="folder of the data set and models, kept for the next time")
    return parser.parse_args()


def collect(options: argparse.Namespace, root: Path) -> list[Tally]:
    """A row for each kind of fault."""
    place = Place(make_world(options.world or root / "world"), root)
    wanted, kinds = options.jobs.split(",") if options.jobs else [], options.only.split(",")
    jobs = [job for job in JOBS if not wanted or job.command in wanted]
    tallies: list[Tally] = []

    def row(tally: Tally) -> None:
        print("  ".join(tally.cells()), *tally.failures(), sep="\n  ", flush=True)
        tallies.append(tally)

    if "kill" in kinds:
        for job in jobs:
            row(kill_job(job, place, options.kills, options.seed))
    if "disk" in kinds:
        for job in jobs:
            for tally in fill_disk(job, place, max(1, round(options.kills * 0.03)), options.seed):
                row(tally)
    if "damage" in kinds:
        for subject in SUBJECTS:
            if not wanted or subject.words(place.world)[0] in wanted:
                row(damage(subject, place, max(3, round(options.kills * 0.12)), options.seed))
    if "hostile" in kinds:
        cases = [case for case in CASES if re.search(options.cases, case.name) and (not wanted or case.command in wanted)]
        for family, members in FAMILIES.items():
            if chosen := [case for case in cases if case.kind in members]:
                row(judge_hostile(family, chosen, place))
    return tallies


def judge_hostile(family: str, cases: list[Case], place: Place) -> Tally:
    """A row of hostile cases: 'middle' are those that were refused, 'closing' those that were accepted."""
    tally = Tally(f"{HOSTILE}{family}", needs_middle=False)
    for case in cases:
        outcome = run_case(case, place.world, place.sandbox / "hostile")
        lost = [f"{outcome.kind}: {case.name}: {outcome.problem}"] if outcome.kind != "well" else []
        tally.add("middle" if outcome.ended.code else "closing", lost, outcome.ended, name=case.name)
    return tally


def main() -> int:
    options = parse()
    preload()
    root = Path(tempfile.mkdtemp(prefix="samsemi-faults-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    try:
        tallies = collect(options, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(show(tallies, cpu_seconds()))
    return int(any(tally.failures() for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
