"""Where mining loses what: stores of labels that are made with the hidden truth, for the same fine-tuning. Run by bench.py.

    python examples/evidence/oracles.py KIND DATASET MINED.h5 OUT.h5 --model RUN --sam NAME --sam-checkpoint FILE

MINED is the store of the arm `mined`. KIND says what the truth replaces:

    oracle-masks      of the images and objects that were accepted: of SAM's four masks the one nearest to the truth, in place of its choice
    oracle-accepted   of the same images: the true labels
    oracle-boxes      of all unlabeled images: SAM's masks, prompted by the true objects in place of the network's
    oracle-all        of all unlabeled images: the true labels

So from `mined` to the first is what the choice of the mask costs, to the second what is wrong with accepted labels, from there to the
last what is not accepted costs; `oracle-boxes` has no errors of the network in it.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from samsemi.data.dataset import IGNORE, Case, Dataset, read_case_images, read_case_label, read_dataset
from samsemi.devices import choose_device
from samsemi.mining.composition import sam_map
from samsemi.mining.miner import Miner
from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import accepted_ids, score_masks
from samsemi.mining.scores import THRESHOLDS
from samsemi.mining.store import Mined, Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.options.mine import MineOptions
from samsemi.sam.original import OriginalSam
from samsemi.sam.prompts import find_objects, resize
from samsemi.sam.protocol import MaskBatch, SamNetwork, choose_masks, load_sam
from samsemi.schemas import from_json
from samsemi.segmenters.checkpoints import load_model_for

TRUTH_SIZE = 256
"""Side of true labels in a store, in pixels."""
CERTAIN = 12.0
"""Logit of a pixel whose class is known."""
ALL_RIGHT = Policy(**{f"min_{name}": 0.0 for name in THRESHOLDS}, sam_share=1.0)
"""Everything is accepted, and the label is the mask alone."""
MASKS = 4
"""Of SAM for each prompt: the single one and three more."""
KINDS = ("oracle-masks", "oracle-accepted", "oracle-boxes", "oracle-all")
Labels = Iterator[tuple[Case, Mined]]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("mined", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sam", required=True)
    parser.add_argument("--sam-checkpoint", type=Path)
    given = parser.parse_args(words)
    dataset, mined = read_dataset(given.dataset), Store(given.mined)
    mined_policy = Policy.from_json(mined.provenance.policy)
    policy = ALL_RIGHT
    if given.kind == "oracle-all":
        labels = true_labels(dataset.split("unlabeled"), dataset)
    elif given.kind == "oracle-accepted":
        labels = true_labels([dataset.cases[name] for name in accepted_ids(mined, mined_policy)], dataset)
    else:
        own = {"dataset": given.dataset, "model": (given.model,), "out": given.out, "sam_checkpoint": given.sam_checkpoint}
        options = from_json(MineOptions, {**mined.provenance.config, **own}, str(mined.path))
        device = choose_device(options.device)
        segmenter = load_model_for(dataset, given.model).to(device)
        sam = load_sam(given.sam, given.sam_checkpoint, device, options.precision)
        if given.kind == "oracle-boxes":
            labels = masks_in_true_boxes(dataset, Miner(segmenter, choose_masks(sam, options.masks), options))
        else:
            policy = mined_policy
            labels = best_masks(dataset, mined, policy, [Miner(segmenter, with_mask(sam, i), options) for i in range(MASKS)])
    made_from = {**mined.provenance.made_from, "oracle": given.kind}
    write_store(given.out, Provenance(mined.provenance.config, made_from, policy.to_json()), len(dataset.classes), labels)


def write_store(path: Path, provenance: Provenance, num_classes: int, labels: Labels) -> None:
    """A store of these images, whose maps have the sides of the first."""
    first = next(labels)
    sides = {"mask_size": first[1].probs.shape[-1], "map_size": first[1].network_probs.shape[-1]}
    writer = StoreWriter(path, provenance, num_points=0, num_classes=num_classes, overwrite=True, **sides)
    ids = []
    for number, part in enumerate(in_batches(chain([first], labels), 32)):
        for case, mined in part:
            writer.add(case.id, mined.image_size, mined)
            ids.append(case.id)
        writer.commit(number)
    writer.finish(ids)


def in_batches(values: Iterable, size: int) -> Iterator[list]:
    left = iter(values)
    while batch := list(islice(left, size)):
        yield batch


def true_map(case: Case, num_classes: int) -> np.ndarray:
    """(K, H, W) float32, 1 where the class is; what is ignored is background."""
    label = read_case_label(case, case.truth, num_classes)
    return (np.where(label == IGNORE, 0, label) == np.arange(num_classes)[:, None, None]).astype(np.float32)


def surely_right(mined: Mined) -> Mined:
    """The same masks, trusted wholly."""
    ones = np.ones(len(mined), dtype=np.float32)
    return replace(mined, predicted_iou=ones, agreement=ones)  # type: ignore[call-arg]


def true_labels(cases: Sequence[Case], dataset: Dataset) -> Labels:
    """True objects as if SAM had given their masks."""
    for case in cases:
        probs = true_map(case, len(dataset.classes))
        objects = find_objects(probs, min_area=1)
        own = [(objects.components == i + 1).astype(np.float32) for i in range(len(objects))]
        masks = np.array([resize(mask, TRUTH_SIZE, Image.Resampling.BILINEAR) for mask in own], dtype=np.float32)
        logits = CERTAIN * (2 * torch.from_numpy(masks.reshape(-1, TRUTH_SIZE, TRUTH_SIZE)) - 1)
        square = (TRUTH_SIZE, TRUTH_SIZE)
        output = MaskBatch(logits, torch.ones(len(objects)), objects.components.shape, square, TRUTH_SIZE)
        yield case, surely_right(score_masks(output, objects, probs))


def masks_in_true_boxes(dataset: Dataset, miner: Miner) -> Labels:
    """SAM's masks of the true objects, prompted as the network's would be."""
    for cases in in_batches(dataset.split("unlabeled"), miner.options.batch_size):
        maps = [true_map(case, len(dataset.classes)) for case in cases]
        mined = miner.prompt(read_case_images(cases), maps)
        yield from ((case, surely_right(mined[case.id][0])) for case in cases)


class OneMask(SamNetwork):
    """A SAM that gives one of its four masks of a prompt."""

    def __init__(self, network: SamNetwork, number: int):
        super().__init__()
        self.network, self.number = network, number

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        return self.network.encode(images)

    def embed_prompts(self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.network.embed_prompts(points, boxes, masks)

    def decode(self, embedding: Mapping[str, Tensor], sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        masks, predicted_iou = self.network.decode(embedding, sparse, dense)
        own = slice(self.number, self.number + 1)
        return masks[:, own], predicted_iou[:, own]


def with_mask(sam: OriginalSam, number: int) -> OriginalSam:
    return sam.with_weights_of(OneMask(sam.network, number)).with_masks("single")


def best_masks(dataset: Dataset, mined: Store, policy: Policy, miners: Sequence[Miner]) -> Labels:
    """The mined images with an accepted object; of each object the mask, one miner's each, that is nearest to the truth, all else as it is.

    Batches are those of the mining, so that the network's objects are the same to the bit.
    """
    accepted = set(accepted_ids(mined, policy))
    for cases in in_batches(dataset.split("unlabeled"), miners[0].options.batch_size):
        images = read_case_images(cases)
        maps, members = miners[0].find(list(images.values()))
        found = [miner.prompt(images, maps, members) for miner in miners]
        for case in (case for case in cases if case.id in accepted):
            before, choices = mined.read(case.id), [one[case.id][0] for one in found]
            if not np.array_equal(before.boxes, choices[0].boxes):
                sys.exit(f"error: {mined.path} was mined elsewhere: other objects in {case.id}\nhint: remove it, and mine again")
            truth = true_map(case, len(dataset.classes)) > 0
            best = [max(choices, key=lambda one, i=i: iou_of(one, i, truth)).probs[i] for i in range(len(before))]
            yield case, replace(before, probs=np.array(best))  # type: ignore[call-arg]


def iou_of(mined: Mined, i: int, truth: np.ndarray) -> float:
    """Of SAM's mask of an object with all that is of its class, (K, H, W) bool."""
    height, width = mined.image_size
    mask, own = sam_map(mined, i, (height, width), (slice(0, height), slice(0, width))) > 0.5, truth[mined.class_id[i]]
    return float((mask & own).sum() / max((mask | own).sum(), 1))


if __name__ == "__main__":
    main()
