"""Cases for a person to correct: those of whose correction most would be learned, ready for an annotation tool.

images/ID.png  masks/ID.png  coco.json  why.csv  review.json

What comes back is read by samsemi.data.corrections.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samsemi.data.coco import make_categories
from samsemi.data.corrections import ABOUT, SCHEMA
from samsemi.data.dataset import Dataset, read_case_image
from samsemi.data.masks import write_mask
from samsemi.data.pictures import write_picture
from samsemi.folders import Kind
from samsemi.inputs import hash_file
from samsemi.mining.annotations import annotate_objects
from samsemi.mining.composition import compose_label, network_map
from samsemi.mining.miner import as_mined
from samsemi.mining.policy import Policy, decide, score_table
from samsemi.mining.pseudolabels import trust
from samsemi.mining.scores import REASONS
from samsemi.mining.store import Mined, Store
from samsemi.outputs import write_rows, write_text

REVIEW = Kind("cases to review", (ABOUT,), r"(review|coco)\.json|why\.csv|(images|masks)/[^/]+\.png")
NEIGHBORS = 1000
"""Objects with which each is compared: more change little."""
LEAST_SPREAD = 1e-6
"""Of a score that tells objects apart."""


@dataclass(frozen=True)
class Doubt:
    """An image, and what its correction would teach."""

    name: str
    gain: float
    """Sum over its objects of doubt x size x how many doubtful ones are like it."""
    trust: tuple[float, ...]
    """Of each object: the probability that it is right."""
    reasons: tuple[str, ...]
    """Of each object: accepted, or why not."""


def rank_doubts(store: Store, policy: Policy) -> list[Doubt]:
    """The images in which something was found, from those whose correction teaches most.

    An object teaches the more it is doubted (the probability that it is wrong), the larger it is (square root of its box's share of the
    image), and the more doubtful ones are like it (square root of ``measure_likeness``).
    """
    found = [(name, store.read(name, maps=False)) for name in store.ids if len(store.read(name, maps=False))]
    if not found:
        return []
    believed = np.concatenate([trust(mined, policy).clip(0, 1).astype(float) for _, mined in found])
    alike = measure_likeness(np.concatenate([score_table(mined) for _, mined in found]), 1 - believed)
    doubts, first = [], 0
    for name, mined in found:
        own, first = slice(first, first + len(mined)), first + len(mined)
        gain = float(((1 - believed[own]) * np.sqrt(box_share(mined) * alike[own])).sum())
        doubts.append(Doubt(name, gain, tuple(believed[own].tolist()), tuple(REASONS[reason] for reason in decide(mined, policy))))
    return sorted(doubts, key=lambda doubt: (-doubt.gain, doubt.name))


def box_share(mined: Mined) -> np.ndarray:
    """(N,) share of the image in the box of each object."""
    x0, y0, x1, y1 = mined.boxes.T
    return (x1 - x0 + 1) * (y1 - y0 + 1) / np.prod(mined.image_size)


def measure_likeness(scores: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """(N,) in 0..1: how many of at most NEIGHBORS objects, evenly taken, have scores (N, 7) like those of each (mean Gaussian kernel of
    the standardized scores), those that are doubted (N,) counting more."""
    spread = scores.std(axis=0)
    standard = ((scores - scores.mean(axis=0)) / np.where(spread > LEAST_SPREAD, spread, np.inf)).astype(np.float32)
    taken = np.unique(np.linspace(0, len(standard) - 1, min(NEIGHBORS, len(standard)), dtype=int))
    others, weight = standard[taken], doubt[taken]
    return np.concatenate(
        [
            (np.exp(-((part[:, None] - others) ** 2).sum(axis=2) / 2) * weight).mean(axis=1)
            for part in np.array_split(standard, -(-len(standard) // NEIGHBORS))
        ]
    )


def write_review(out: Path, doubts: Sequence[Doubt], store: Store, dataset: Dataset, policy: Policy) -> None:
    """The cases to correct: each image, the mask as a proposal (rejected objects in it, too), every object in COCO, and why."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, doubt in enumerate(doubts, start=1):
        mined, file = store.read(doubt.name), f"{doubt.name}.png"
        write_picture(out / "images" / file, read_case_image(as_mined(dataset.cases[doubt.name], store)))
        write_mask(out / "masks" / file, propose_label(mined, policy, len(dataset.classes)))
        height, width = mined.image_size
        images.append({"id": number, "file_name": file, "height": height, "width": width})
        annotations += annotate_objects(mined, policy, len(dataset.classes), range(len(mined)), number, len(annotations) + 1)
    coco = {"images": images, "annotations": annotations, "categories": make_categories(dataset.classes)}
    write_text(out / "coco.json", json.dumps(coco) + "\n")
    write_reasons(out / "why.csv", doubts)
    proposed = {doubt.name: hash_file(out / "masks" / f"{doubt.name}.png") for doubt in doubts}
    about = {"schema": SCHEMA, "dataset": dataset.fingerprint(), "store_content": hash_file(store.path), "classes": list(dataset.classes)}
    write_text(out / ABOUT, json.dumps({**about, "proposed": proposed, "coco": hash_file(out / "coco.json")}, indent=2) + "\n")


def propose_label(mined: Mined, policy: Policy, num_classes: int) -> np.ndarray:
    """(H, W) uint8: the label at image size if every object were accepted."""
    everything = np.zeros(len(mined), dtype=int)
    label = compose_label(mined, everything, network_map(mined, num_classes, mined.image_size), policy.sam_share)
    return np.where(label.ignored, 0, label.target.argmax(axis=0)).astype(np.uint8)


def write_reasons(path: Path, doubts: Sequence[Doubt]) -> None:
    """why.csv: a row per case, the one that teaches most first."""
    rows: list[list[object]] = [["rank", "id", "gain", "objects", "right_with_probability", "decisions"]]
    for rank, doubt in enumerate(doubts, start=1):
        probabilities = " ".join(f"{p:.3f}" for p in doubt.trust)
        rows.append([rank, doubt.name, f"{doubt.gain:.6g}", len(doubt.trust), probabilities, " ".join(doubt.reasons)])
    write_rows(path, rows)
