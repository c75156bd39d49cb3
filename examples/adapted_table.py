"""The results of examples/adapted.sh as Markdown tables: python examples/adapted_table.py OUT. Needs nothing but Python."""

import json
import sys
from pathlib import Path

ARMS = {
    "self-training": "none: the U-Net++'s own masks",
    "plain": "as it is",
    "adapted": "adapted",
    "repairing": "adapted with `--model`",
}
SCORES = ("box", "jittered_box", "point", "box_point", "model_mask", "model_box", "model_box_point")


def main() -> None:
    out = Path(sys.argv[1])
    print("| split | SAM | " + " | ".join(name.replace("_", " ") for name in SCORES) + " |\n|" + "---|" * (len(SCORES) + 2))
    for split in ("val", "test"):
        for arm, name in list(ARMS.items())[1:]:
            found = json.loads((out / "steps" / f"{arm}-{split}.json").read_text())["result"]
            print(f"| {split} | {name} | " + " | ".join(f"{found[score]:.3f}" for score in SCORES) + " |")
    print("\n| SAM | accepted by default: Dice | of images | everything accepted: Dice | of images | against own masks |")
    print("|---|---|---|---|---|---|")
    for arm, name in ARMS.items():
        found = [json.loads((out / folder / "metrics.json").read_text()) for folder in (f"eval-{arm}", f"eval-{arm}-all")]
        cells = [cell for f in found for cell in (interval(f["mean"]["dice"]), f"{f['coverage']:.0%}")]
        print(f"| {name} | {' | '.join(cells)} | {interval(found[1].get('against', {}).get('dice', {}), '+')} |")


def interval(summary: dict, sign: str = "") -> str:
    """'0.512 [0.470, 0.553]', or nothing."""
    return f"{summary['mean']:{sign}.3f} [{summary['low']:{sign}.3f}, {summary['high']:{sign}.3f}]" if summary else ""


if __name__ == "__main__":
    main()
