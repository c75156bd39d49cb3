"""How good pseudo-labels are, before anything is trained on them: stores of the same images, mined in different ways.

    python examples/evidence/labels.py dump DATASET STORE OUT.npz            # what a training would learn, by the samsemi at hand
    python examples/evidence/labels.py compare DATASET NAME=OUT.npz ...      # each against the first, as Markdown

DATASET has the hidden truth of its unlabeled cases, which are development images: neither trained on nor test cases.
Everything is accepted, and then the best objects alone, by the quality of the calibration. Two versions of samsemi are compared
by dumping with each.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
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
"""Pixels above this weight are looked at on their own."""
CERTAIN = (1.0, 0.5, 0.25)
"""Share of the pixels of an image over which labels are compared: of as many as that one has which ignores most."""
RESAMPLES = 2000


class Scores(NamedTuple):
    """Of one image."""

    dice: float
    """Of the label map with the truth, mean over the classes that either has."""
    weighted: float
    """The same, each pixel counted by its weight."""


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
    """The label map and the weight of every image that is learnt from, for each of BEST; of all images whether SAM's masks are empty."""
    data, store = read_dataset(dataset), Store(path)
    arrays: dict[str, np.ndarray] = {}
    for share in BEST:
        policy = accept(store, share)
        for name in usable_ids(store, policy):
            sample = pseudo_sample(data.cases[name], store, policy, len(data.classes), SIZE)
            arrays[f"{share:g}/{name}/label"] = sample.target.argmax(dim=0).numpy().astype(np.uint8)
            arrays[f"{share:g}/{name}/weight"] = sample.weight.numpy().astype(np.float16)
    for name in store.ids:
        area = store.read(name, maps=False).area
        arrays[f"1/{name}/empty"] = np.array(len(area) > 0 and not area.any())
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
    """Three tables: paired differences where everything is accepted, over all pixels and over as many certain ones; and what each cut-off
    lets through."""
    data = read_dataset(dataset)
    num_classes = len(data.classes)
    truths = {case.id: read_truth(case, num_classes) for case in data.split("unlabeled")}
    arrays = {name: dict(np.load(file)) for name, file in files.items()}
    found = {name: score(one, truths, num_classes) for name, one in arrays.items()}
    first = next(iter(found))
    print(
        "| labels | images | lost: SAM's mask is empty | Dice | weighted by pixel | "
        + f"images in both | Dice above {first} | weighted by pixel |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, scores in found.items():
        one, other = found[first][1.0], scores[1.0]
        both = sorted(one.keys() & other.keys())
        gains = [describe_gain([getattr(other[i], key) - getattr(one[i], key) for i in both]) for key in ("dice", "weighted")]
        means = [f"{np.nanmean([getattr(s, key) for s in other.values()]):.3f}" for key in ("dice", "weighted")]
        columns = [name, len(other), count_lost(arrays[name]), *means, len(both), *(gains if name != first else ["", ""])]
        print_row(columns)
    common = sorted(set.intersection(*(set(scores[1.0]) for scores in found.values())))
    print(f"\n| labels | most certain pixels of the {len(common)} images of all | Dice over them | above {first} | wrong | above {first} |")
    print("|---|---|---|---|---|---|")
    for share in CERTAIN if common else ():
        over = np.array([score_certain(list(arrays.values()), name, truths[name], num_classes, share) for name in common])
        for number, name in enumerate(found):
            gains = [describe_gain(over[:, number, k] - over[:, 0, k]) if number else "" for k in range(2)]
            dice, wrong = np.nanmean(over[:, number], axis=0)
            print_row([name, f"{share:.0%}", f"{dice:.3f}", gains[0], f"{wrong:.1%}", gains[1]])
    print_cut_offs(arrays, truths, num_classes)


def print_cut_offs(arrays: Mapping[str, Mapping[str, np.ndarray]], truths: Mapping[str, np.ndarray], num_classes: int) -> None:
    """Of each cut-off what is learned, and what weighs more than HEAVY, pooled over the images; and of those that the first lacks."""
    print(
        "\n| labels | best objects | images | pixels that are learned | true foreground learned as background |"
        + f" pixels of weight above {HEAVY:g} | Dice over them | true foreground called background by them |"
    )
    print("|---|---|---|---|---|---|---|---|")
    first = next(iter(arrays))
    for name, one in arrays.items():
        for share in BEST:
            own, others = (find_labeled(some, share) for some in (one, arrays[first]))
            for title, ids in ((name, own), (f"{name}, where {first} has none", own - others)):
                if ids:
                    parts = [np.stack([one[f"{share:g}/{i}/{part}"] for i in ids]) for part in ("label", "weight")]
                    print_row([title, f"{share:.0%}", len(ids), *describe_pixels(*parts, np.stack([truths[i] for i in ids]), num_classes)])


def find_labeled(arrays: Mapping[str, np.ndarray], share: float) -> set[str]:
    """The images of a dump that have a label at this cut-off."""
    return {key.split("/")[1] for key in arrays if key.startswith(f"{share:g}/") and key.endswith("/label")}


def describe_pixels(label: np.ndarray, weight: np.ndarray, truth: np.ndarray, num_classes: int) -> list[str]:
    """Of all pixels of some images (N, S, S): the share that is learned, and that of the true foreground among it that is called
    background; the same of a weight above HEAVY, and between them its Dice."""
    known, inside = truth != IGNORE, (truth > 0) & (truth != IGNORE)
    learned, heavy = (known & (weight > least) for least in (0, HEAVY))
    denied = [f"{(chosen & inside & (label == 0)).sum() / max(inside.sum(), 1):.1%}" for chosen in (learned, heavy)]
    shares = [f"{chosen.sum() / known.sum():.1%}" for chosen in (learned, heavy)]
    return [shares[0], denied[0], shares[1], f"{mean_dice(label, truth, heavy * 1.0, num_classes):.3f}", denied[1]]


def print_row(columns: Sequence[object]) -> None:
    print("| " + " | ".join(map(str, columns)) + " |")


def count_lost(arrays: Mapping[str, np.ndarray]) -> int | str:
    """How many images of a dump have objects, but no mask of SAM's that is not empty; '-' where a dump of before does not say."""
    empty = [bool(value) for key, value in arrays.items() if key.endswith("/empty")]
    return sum(empty) if empty else "-"


def score_certain(
    variants: Sequence[Mapping[str, np.ndarray]], name: str, truth: np.ndarray, num_classes: int, share: float
) -> list[tuple[float, float]]:
    """Of each variant's label of an image, over as many of its most certain pixels: Dice, and the share that is wrong."""
    labels, weights = ([one[f"1/{name}/{part}"] for one in variants] for part in ("label", "weight"))
    chosen = choose_certain(weights, truth != IGNORE, share)
    return [
        (mean_dice(label, truth, mask * 1.0, num_classes), float((label != truth)[mask].mean()) if mask.any() else np.nan)
        for label, mask in zip(labels, chosen, strict=True)
    ]


def choose_certain(weights: Sequence[np.ndarray], known: np.ndarray, share: float) -> list[np.ndarray]:
    """Of each variant (S, S) bool the pixels of the highest weight, as many in each: that share of the fewest that a variant learns.

    A weight is the certainty of the pixel times the trust in the image, so that within an image it ranks by certainty, whatever the
    calibration. Pixels of one weight come in the same random order in all.
    """
    known_weights = [np.where(known, weight, 0).astype(np.float32).ravel() for weight in weights]
    count = int(share * min((weight > 0).sum() for weight in known_weights))
    order, chosen = np.random.default_rng(0).permutation(known.size), np.zeros((len(weights), known.size), dtype=bool)
    for mask, weight in zip(chosen, known_weights, strict=True):
        mask[order[np.argsort(-weight[order], kind="stable")[:count]]] = True
    return list(chosen.reshape(-1, *known.shape))


def read_truth(case: Case, num_classes: int) -> np.ndarray:
    """(SIZE, SIZE) uint8."""
    label = read_case_label(case, case.truth, num_classes)
    return np.asarray(Image.fromarray(label).resize((SIZE, SIZE), Image.Resampling.NEAREST))


def score(arrays: Mapping[str, np.ndarray], truths: dict[str, np.ndarray], num_classes: int) -> dict[float, dict[str, Scores]]:
    """For each of BEST the scores of each image."""
    found: dict[float, dict[str, Scores]] = {share: {} for share in BEST}
    for key in arrays:
        share, name, part = key.split("/")
        if part == "label":
            label, weight = arrays[key], arrays[f"{share}/{name}/weight"].astype(np.float32)
            found[float(share)][name] = score_image(label, weight, truths[name], num_classes)
    return found


def score_image(label: np.ndarray, weight: np.ndarray, truth: np.ndarray, num_classes: int) -> Scores:
    """A label map and its weights against a truth, all (SIZE, SIZE)."""
    known = truth != IGNORE
    return Scores(*(mean_dice(label, truth, w, num_classes) for w in (known * 1.0, known * weight)))


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
    if not len(values):
        return "-"
    means = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    sys.exit(main())
