"""The evidence: trains and measures cell by cell (set, labels, seed, arm), in the order of the design. Resumable from its results alone.

    python examples/evidence/run.py FOLDER OUT --plan               # FOLDER/SET/images, masks; only the cells and their estimated hours
    python examples/evidence/run.py FOLDER OUT --development        # first: how many iterations, which label-only arm is the better
    python examples/evidence/run.py FOLDER OUT --until-minutes 240  # then the test cases; starts no cell that would not end in time
    python examples/evidence/run.py FOLDER OUT --preset gpu --sam-checkpoint sam_vit_b.pth
    python examples/evidence/tables.py                              # all tables and the picture, from the results alone

A finished cell leaves a small file per case and a line in readings.csv, in examples/evidence/results/PRESET (commit them); it is not run
again. OUT holds models and stores, and may be lost: what unfinished cells need of it is made again. Stopped at any moment, the same
command goes on.

The first reading of the test cases freezes samsemi: later cells run the package of its commit, whatever is checked out (--commit: of
another).
"""

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from io import BytesIO
from pathlib import Path

from bench import HERE, bench_of
from choices import undecided
from design import PRESETS, Cell, Preset, cells_of, plan_development, plan_parts
from results import cell_file, describe, keep_cases, keep_reading, read_readings

RESULTS = HERE / "results"


def main() -> None:
    options = parse()
    preset = PRESETS[options.preset]
    results = options.results / options.preset
    parts = plan_development(preset) if options.development else plan_parts(preset)
    cells = [cell for cell in cells_of(parts) if is_wanted(cell, options) and not cell_file(results, cell).exists()]
    out = options.out / options.preset
    if options.plan:
        print(*write_plan(cells, options.data, out, preset), sep="\n")
        return
    if not options.development:
        refuse_undecided(results, {cell.row.data for cell in cells}, preset)
    commit = find_commit(results, options)
    use_code(commit, out / "code" / commit)
    sys.exit(bool(run_cells(cells, options, out, results, commit)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of sets, each with images/ and masks/")
    parser.add_argument("out", type=Path, help="folder for models and stores")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--sam-checkpoint", default="", help="weights of the preset's SAM, where they are not in the package")
    parser.add_argument("--development", action="store_true", help="the development images instead of the test cases")
    parser.add_argument("--only", nargs="*", help="rows, such as kvasir_seg-24, or their beginning")
    parser.add_argument("--arms", nargs="*", help="arms, such as mined")
    parser.add_argument("--seeds", nargs="*", type=int)
    parser.add_argument("--until-minutes", type=float, help="start no cell that would end later, by the estimate")
    parser.add_argument("--plan", action="store_true", help="only print the cells that are left, with their hours")
    parser.add_argument("--commit", help="of the samsemi that trains; default: that of the first reading, or the present one")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def is_wanted(cell: Cell, options: argparse.Namespace) -> bool:
    rows = not options.only or any(cell.row.name.startswith(row) for row in options.only)
    return rows and (not options.arms or cell.arm in options.arms) and (not options.seeds or cell.seed in options.seeds)


def write_plan(cells: Sequence[Cell], data: Path, out: Path, preset: Preset) -> Iterator[str]:
    """A line per cell with its hours and those of all up to it, one after the other from here."""
    total, begun = 0.0, set()
    for cell in cells:
        hours = bench_of(cell, data, out, preset).estimate(cell.arm, begun) / 3600
        total += hours
        yield f"{cell.row.name:<34} seed {cell.seed:>2}  {cell.arm:<16} {hours:5.2f} h  {total:6.1f} h"
    yield f"{len(cells)} cells, {total:.1f} h"


def refuse_undecided(results: Path, sets: set[str], preset: Preset) -> None:
    """No test case is read before the development images have decided what is trained."""
    for data in sorted(sets):
        if why := undecided(results, data, preset):
            sys.exit(f"error: {why}\nhint: run --development, and write what tables.py then says into design.py")


def find_commit(results: Path, options: argparse.Namespace) -> str:
    """Of the samsemi that trains: the one given, that of the first reading of the test cases, or the present one, which must be clean."""
    readings = [] if options.development else [line for line in read_readings(results) if "development" not in line["row"]]
    if options.commit or readings:
        commit = options.commit or readings[0]["commit"]
        try:
            return git("rev-parse", "--verify", f"{commit}^{{commit}}")
        except subprocess.CalledProcessError:
            sys.exit(f"error: this repository has no commit {commit}\nhint: fetch it, or give --commit")
    if git("status", "--porcelain", "--", "samsemi"):
        sys.exit("error: samsemi/ differs from its last commit, and a result has to name one\nhint: commit it, or give --commit")
    return git("rev-parse", "HEAD")


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(HERE), *words], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def use_code(commit: str, folder: Path) -> None:
    """Commands from here on run the package of a commit, unpacked in a folder."""
    if not folder.exists():
        part = folder.with_suffix(".part")
        words = ["git", "-C", str(HERE.parents[1]), "archive", commit, "samsemi"]
        with tarfile.open(fileobj=BytesIO(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)) as archive:
            archive.extractall(part, filter="data")
        part.replace(folder)
    os.environ.update(PYTHONPATH=str(folder.resolve()), PYTHONSAFEPATH="1")


def run_cells(cells: Sequence[Cell], options: argparse.Namespace, out: Path, results: Path, commit: str) -> list[str]:
    """Train and measure what is left, as far as the time goes; what went wrong. The estimate follows the pace of the cells before."""
    start, expected, failed = time.monotonic(), 0.0, []
    for cell in cells:
        bench = bench_of(cell, options.data, out, PRESETS[options.preset], options.sam_checkpoint)
        spent, wanted = time.monotonic() - start, bench.estimate(cell.arm)
        pace = spent / expected if expected else 1.0
        if options.until_minutes and spent + pace * wanted > 60 * options.until_minutes:
            print(f"{cell.row.name} seed {cell.seed} {cell.arm} would take {pace * wanted / 60:.0f} min: left for the next time")
            break
        try:
            measured = bench.measure(cell.arm)
            keep_reading(results, describe(bench, cell, measured, commit, date.today().isoformat()))
            keep_cases(bench.folder / f"eval-{cell.arm}", cell_file(results, cell))
        except (RuntimeError, subprocess.CalledProcessError) as error:
            failed.append(str(error))
            print(f"error: {error}", file=sys.stderr, flush=True)
        expected += wanted
    return failed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
