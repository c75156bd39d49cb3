"""How good pseudo-labels are, before anything is trained on them: stores of the same images, mined in different ways.

    python examples/evidence/labels.py dump DATASET STORE OUT.npz            # what a training would learn, by the samsemi at hand
    python examples/evidence/labels.py compare DATASET NAME=OUT.npz ...      # each against the first, as Markdown

DATASET has the hidden truth of its unlabeled cases, which are development images: neither trained on nor test cases.
Everything is accepted, and then the best objects alone, by the quality of the calibration. Two versions of samsemi are compared
by dumping with each.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from samsemi.data.dataset import IGNORE, Case, read_case_label, read_dataset
from samsemi.mining.policy import Policy, quality_of
from samsemi.mining.pseudolabels import pseudo_sample, trust, usable_ids
from samsemi.mining.scores import THRESHOLDS
from samsemi.mining.store import Store

SIZE = 128
"""Side of the labels, in pixels: that of the network which would learn them."""
BEST = (1.0, 0.75, 0.5, 0.25)
"""Share of the objects that is accepted."""
HEAVY = 0.5
"""Weight above which a pixel counts."""
RESAMPLES = 2000


class Scores(NamedTuple):
    """Of one image."""

    dice: float
    """Of the label map with the truth, mean over the classes that either has."""
    weighted: float
    """The same, each pixel counted by its weight."""
    heavy_pixels: np.ndarray
    """(K - 1, 2) over the pixels of a weight above HEAVY: of each class, shared by label and truth, and had by either."""
    heavy: float
    """Share of those pixels."""
    denied: float
    """Share of the true foreground that is labeled background at such a weight; NaN without foreground."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("dump")
    one.add_argument("dataset", type=Path)
    one.add_argument("store", type=Path)
    one.add_argument("out", type=Path)
    one.set_defaults(run=lambda a: dump(a.dataset, a.store, a.out))
    all_ = commands.add_parser("compare")
    all_.add_argument("dataset", type=Path)
    all_.add_argument("labels", nargs="+", metavar="NAME=FILE")
    all_.set_defaults(run=lambda a: compare(a.dataset, dict(text.split("=", 1) for text in a.labels)))
    arguments = parser.parse_args()
    arguments.run(arguments)


def dump(dataset: Path, path: Path, out: Path) -> None:
    """The label map and the weight of every image that is learnt from, for each of BEST."""
    data, store = read_dataset(dataset), Store(path)
    arrays: dict[str, np.ndarray] = {}
    for share in BEST:
        policy = accept(store, share)
        for name in usable_ids(store, policy):
            sample = pseudo_sample(data.cases[name], store, policy, len(data.classes), SIZE)
            arrays[f"{share:g}/{name}/label"] = sample.target.argmax(dim=0).numpy().astype(np.uint8)
            arrays[f"{share:g}/{name}/weight"] = sample.weight.numpy().astype(np.float16)
    np.savez_compressed(out, **arrays)


def accept(store: Store, share: float) -> Policy:
    """The store's policy, without thresholds but one: the quality that so many of its objects reach."""
    policy = Policy.from_json(store.provenance.policy)
    mined = [store.read(name, maps=False) for name in store.ids]
    quality = np.concatenate([quality_of(m, policy) if policy.quality else trust(m, policy) for m in mined])
    least = 0.0 if share == 1 else float(np.quantile(quality, 1 - share))
    rules = tuple(replace(rule, min_quality=least) for rule in policy.by_class)
    return replace(policy, min_quality=least, by_class=rules, **{f"min_{name}": 0.0 for name in THRESHOLDS})


def compare(dataset: Path, files: dict[str, str]) -> None:
    """Two tables: paired differences where everything is accepted, and what each cut-off lets through."""
    data = read_dataset(dataset)
    num_classes = len(data.classes)
    truths = {case.id: read_truth(case, num_classes) for case in data.split("unlabeled")}
    found = {name: score(np.load(file), truths, num_classes) for name, file in files.items()}
    first = next(iter(found))
    print("| labels | images | Dice | weighted by pixel | " + f"images in both | Dice above {first} | weighted by pixel |")
    print("|---|---|---|---|---|---|---|")
    for name, scores in found.items():
        one, other = found[first][1.0], scores[1.0]
        both = sorted(one.keys() & other.keys())
        gains = [describe_gain([getattr(other[i], key) - getattr(one[i], key) for i in both]) for key in ("dice", "weighted")]
        means = [f"{np.mean([getattr(s, key) for s in other.values()]):.3f}" for key in ("dice", "weighted")]
        print(
            f"| {name} | {len(other)} | "
            + " | ".join(means)
            + f" | {len(both)} | "
            + " | ".join(gains if name != first else ["", ""])
            + " |"
        )
    print("\n| labels | best objects | images | pixels of weight > 0.5 | Dice over them, pooled | true foreground called background |")
    print("|---|---|---|---|---|---|")
    for name, scores in found.items():
        for share, rows in scores.items():
            heavy, denied = (np.nanmean([getattr(s, key) for s in rows.values()]) for key in ("heavy", "denied"))
            common, sizes = np.sum([s.heavy_pixels for s in rows.values()], axis=0).T
            print(f"| {name} | {share:.0%} | {len(rows)} | {heavy:.1%} | {np.mean(2 * common / np.maximum(sizes, 1)):.3f} | {denied:.1%} |")


def read_truth(case: Case, num_classes: int) -> np.ndarray:
    """(SIZE, SIZE) uint8."""
    label = read_case_label(case, case.truth, num_classes)
    return np.asarray(Image.fromarray(label).resize((SIZE, SIZE), Image.Resampling.NEAREST))


def score(arrays: np.lib.npyio.NpzFile, truths: dict[str, np.ndarray], num_classes: int) -> dict[float, dict[str, Scores]]:
    """For each of BEST the scores of each image."""
    found: dict[float, dict[str, Scores]] = {share: {} for share in BEST}
    for key in arrays.files:
        share, name, part = key.split("/")
        if part == "label":
            label, weight = arrays[key], arrays[f"{share}/{name}/weight"].astype(np.float32)
            found[float(share)][name] = score_image(label, weight, truths[name], num_classes)
    return found


def score_image(label: np.ndarray, weight: np.ndarray, truth: np.ndarray, num_classes: int) -> Scores:
    """A label map and its weights against a truth, all (SIZE, SIZE)."""
    known = truth != IGNORE
    heavy, inside = (weight > HEAVY) & known, (truth > 0) & known
    denied = (heavy & inside & (label == 0)).sum() / inside.sum() if inside.any() else np.nan
    dices = [mean_dice(label, truth, w, num_classes) for w in (known * 1.0, known * weight)]
    pixels = [
        [(heavy & (label == k) & (truth == k)).sum(), (heavy & (label == k)).sum() + (heavy & (truth == k)).sum()]
        for k in range(1, num_classes)
    ]
    return Scores(*dices, np.array(pixels), heavy.mean(), denied)


def mean_dice(label: np.ndarray, truth: np.ndarray, weight: np.ndarray, num_classes: int) -> float:
    """Dice with pixels counted by a weight, mean over the foreground classes that either map has; NaN without one."""
    scores = []
    for k in range(1, num_classes):
        sizes = (weight * (label == k)).sum() + (weight * (truth == k)).sum()
        if sizes:
            scores.append(2 * (weight * ((label == k) & (truth == k))).sum() / sizes)
    return float(np.mean(scores)) if scores else float("nan")


def describe_gain(differences: Sequence[float]) -> str:
    """Mean of paired differences in points, and its 95 % bootstrap interval over images."""
    values = 100 * np.array([d for d in differences if np.isfinite(d)])
    means = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    sys.exit(main())
