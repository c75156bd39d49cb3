"""What a pipeline brought, as a Markdown table: python examples/summary.py OUT

Reads the evaluations that examples/pipeline.sh left in OUT, and its seconds.csv. Needs nothing but Python.
"""

import csv
import json
import sys
from pathlib import Path

ARMS = ("warm", "labeled-only", "self-training", "mined", "continuous")


def main() -> None:
    out = Path(sys.argv[1])
    seconds = read_seconds(out / "seconds.csv")
    print("| model | test Dice [95 % interval] | IoU | HD95 | against warm start | p | seconds |")
    print("|---|---|---|---|---|---|---|")
    for arm in ARMS:
        file = out / f"eval-{arm}" / "metrics.json"
        if file.exists():
            took = seconds.get("warmstart" if arm == "warm" else f"finetune {arm}", "")
            print(row(arm, json.loads(file.read_text()), took))
    for name, said in (("own", "the U-Net++'s own masks"), ("sam", "SAM's masks")):
        file = out / f"eval-store-{name}" / "metrics.json"
        if file.exists():
            metrics = json.loads(file.read_text())
            print(
                f"\n{said} on the unlabeled cases: Dice {metrics['mean']['dice']['mean']:.3f} against the hidden truth, "
                f"of {metrics['coverage']:.0%} of them; mined in {seconds.get(f'mine {name}', '?')} s"
            )


def read_seconds(file: Path) -> dict[str, str]:
    with open(file, newline="") as lines:
        return {row[0]: row[1] for row in csv.reader(lines)}


def row(arm: str, metrics: dict, seconds: str) -> str:
    mean = metrics["mean"]
    gain = metrics.get("against", {}).get("dice", {})
    p = gain.get("wilcoxon_p")
    cells = [
        arm,
        interval(mean["dice"], ""),
        number(mean["iou"], ".3f"),
        number(mean["hd95"], ".1f"),
        interval(gain, "+"),
        "" if p is None else f"{p:.2g}",
        seconds,
    ]
    return f"| {' | '.join(cells)} |"


def interval(summary: dict, sign: str) -> str:
    """'0.512 [0.470, 0.553]', or nothing where nothing could be measured."""
    if summary.get("mean") is None:
        return ""
    return f"{summary['mean']:{sign}.3f} [{summary['low']:{sign}.3f}, {summary['high']:{sign}.3f}]"


def number(summary: dict, style: str) -> str:
    return "" if summary["mean"] is None else f"{summary['mean']:{style}}"


if __name__ == "__main__":
    main()
