"""The hostile corpus: every case, and a tally.

python -m hostile [--only PATTERN] [--json FILE] [--world DIR]
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hostile.corpus import CASES, Outcome, run_all
from processes import preload
from small_world import make_world

MEMORY = Path("/dev/shm")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose names match")
    parser.add_argument("--json", type=Path, help="file to write what became of each")
    parser.add_argument("--world", type=Path, help="folder of the data set and models, kept for the next time")
    return parser.parse_args()


def show(outcome: Outcome) -> None:
    if outcome.kind != "well":
        print(f"{outcome.kind}: {outcome.case.name}\n    {outcome.case.line[:200]}\n    {outcome.problem}", flush=True)


def tally(outcomes: list[Outcome]) -> str:
    counts = Counter(outcome.kind for outcome in outcomes)
    memory = max(outcomes, key=lambda outcome: outcome.ended.memory)
    slow = max(outcomes, key=lambda outcome: outcome.ended.cpu)
    return (
        f"{len(outcomes)} cases: {', '.join(f'{count} {kind}' for kind, count in counts.most_common())}; "
        f"peak memory {memory.ended.memory >> 20} MB ({memory.case.name}); "
        f"slowest {slow.ended.cpu:.1f} CPU seconds ({slow.case.name}); {sum(o.ended.cpu for o in outcomes):.0f} CPU seconds in all"
    )


def main() -> int:
    options = parse()
    preload()
    root = Path(tempfile.mkdtemp(prefix="samsemi-hostile-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    try:
        world = make_world(options.world or root / "world")
        outcomes = run_all([case for case in CASES if re.search(options.only, case.name)], world, root / "sandbox", show)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(tally(outcomes))
    if options.json:
        options.json.write_text(json.dumps({o.case.name: [o.kind, o.problem] for o in outcomes}, indent=1))
    return int(any(outcome.kind != "well" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
