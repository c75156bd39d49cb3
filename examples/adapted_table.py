"""The results of examples/adapted.sh as Markdown tables: python examples/adapted_table.py OUT. Needs nothing but Python."""

import json
import sys
from pathlib import Path

ARMS = {"plain": "as it is", "adapted": "adapted", "mending": "adapted with `--model`"}
SCORES = ("box", "jittered_box", "point", "box_point", "model_mask", "model_box", "model_box_point")


def main() -> None:
    out = Path(sys.argv[1])
    print("| split | SAM | " + " | ".join(name.replace("_", " ") for name in SCORES) + " |\n|" + "---|" * (len(SCORES) + 2))
    for split in ("val", "test"):
        for arm, said in ARMS.items():
            found = json.loads((out / f"{arm}-{split}.json").read_text())
            print(f"| {split} | {said} | " + " | ".join(f"{found[name]:.3f}" for name in SCORES) + " |")
    print("\n| SAM | accepted by default: Dice | of images | everything accepted: Dice | of images |\n|---|---|---|---|---|")
    for arm, said in ARMS.items():
        found = [json.loads((out / f"{arm}-{policy}.json").read_text()) for policy in ("default", "all")]
        print(f"| {said} | " + " | ".join(f"{interval(f['mean']['dice'])} | {f['coverage']:.0%}" for f in found) + " |")


def interval(summary: dict) -> str:
    """'0.512 [0.470, 0.553]'."""
    return f"{summary['mean']:.3f} [{summary['low']:.3f}, {summary['high']:.3f}]"


if __name__ == "__main__":
    main()
