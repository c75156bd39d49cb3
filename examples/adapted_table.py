"""The results of examples/adapted.sh as Markdown tables: python examples/adapted_table.py OUT. Needs nothing but Python."""

import json
import sys
from pathlib import Path

ARMS = {"own": "none: the U-Net++'s own masks", "plain": "as it is", "adapted": "adapted", "mending": "adapted with `--model`"}
SCORES = ("box", "jittered_box", "point", "box_point", "model_mask", "model_box", "model_box_point")


def main() -> None:
    out = Path(sys.argv[1])
    print("| split | SAM | " + " | ".join(name.replace("_", " ") for name in SCORES) + " |\n|" + "---|" * (len(SCORES) + 2))
    for split in ("val", "test"):
        for arm, said in list(ARMS.items())[1:]:
            found = json.loads((out / f"{arm}-{split}.json").read_text())
            print(f"| {split} | {said} | " + " | ".join(f"{found[name]:.3f}" for name in SCORES) + " |")
    print("\n| SAM | accepted by default: Dice | of images | everything accepted: Dice | of images | against own masks |")
    print("|---|---|---|---|---|---|")
    for arm, said in ARMS.items():
        found = [json.loads((out / f"{arm}-{policy}" / "metrics.json").read_text()) for policy in ("default", "all")]
        cells = [cell for f in found for cell in (interval(f["mean"]["dice"]), f"{f['coverage']:.0%}")]
        print(f"| {said} | {' | '.join(cells)} | {interval(found[1].get('against', {}).get('dice', {}), '+')} |")


def interval(summary: dict, sign: str = "") -> str:
    """'0.512 [0.470, 0.553]', or nothing."""
    return f"{summary['mean']:{sign}.3f} [{summary['low']:{sign}.3f}, {summary['high']:{sign}.3f}]" if summary else ""


if __name__ == "__main__":
    main()
