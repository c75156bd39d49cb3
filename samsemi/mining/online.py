"""Pseudo-labels made while training, in every step: of the images of a batch, by the model of the moment, by the policy of a store."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from samsemi.data.dataset import Case, read_case_image
from samsemi.errors import UsageError
from samsemi.mining.miner import Miner
from samsemi.mining.pipeline import MiningAgain
from samsemi.mining.policy import Policy, decide
from samsemi.mining.pseudolabels import mined_sample
from samsemi.mining.store import Mined, Store
from samsemi.sam.protocol import choose_masks
from samsemi.segmenters.segmenter import Segmenter
from samsemi.training.batches import Sample

LOG = logging.getLogger("samsemi")


class Picture(NamedTuple):
    """The image of a case, as it is mined."""

    id: str
    image: np.ndarray
    """(H, W, 3) uint8."""


def load_picture(case: Case) -> Picture:
    return Picture(case.id, read_case_image(case))


class OnlineLabels:
    """Labels the pictures of a batch as ``mine`` would with the miner's model as it is then, and as ``finetune`` reads a store."""

    def __init__(self, miner: Miner, policy: Policy, classes: Sequence[str], size: int):
        self.miner, self.policy, self.classes, self.size = miner, policy, classes, size
        self.counts: Counter[str] = Counter()

    def __call__(self, pictures: Sequence[Picture]) -> list[Sample]:
        """The samples of some pictures; one that is there twice is mined once."""
        images = {picture.id: picture.image for picture in pictures}
        found = self.miner.mine(images)
        num_classes = len(self.classes)
        samples = {name: mined_sample(images[name], mined, self.policy, num_classes, self.size) for name, (mined, _) in found.items()}
        for picture in pictures:
            self.count(found[picture.id][0])
        return [samples[picture.id] for picture in pictures]

    def count(self, mined: Mined) -> None:
        accepted = decide(mined, self.policy) == 0
        self.counts.update(mined_images=1, accepted_images=int(accepted.any()))
        for k, name in enumerate(self.classes[1:], start=1):
            own = mined.class_id == k
            self.counts.update({f"objects_{name}": int(own.sum()), f"accepted_{name}": int((own & accepted).sum())})

    def take_counts(self) -> Mapping[str, int]:
        """What was mined since the last call: images, those with an accepted object, and by class objects and accepted ones."""
        taken, self.counts = self.counts, Counter()
        if taken["mined_images"] and not taken["accepted_images"]:
            LOG.warning(f"no pseudo-label is accepted in the last {taken['mined_images']} unlabeled images")
        return taken


def refuse_several_models(store: Store) -> None:
    """UsageError for a store of several models, by whose agreement its policy decides: a model in training is alone."""
    if isinstance(store.provenance.made_from.get("model"), list):
        raise UsageError(
            f"--schedule online: {store.path} was mined with several models, and what is accepted by their agreement",
            "mine with one model, or give --schedule continuous",
        )


@contextmanager
def open_labels(again: MiningAgain, segmenter: Segmenter, policy: Policy) -> Iterator[OnlineLabels]:
    """Labels by a model in training, whose weights may change, with the SAM and the options of the first store."""
    miner = Miner(segmenter, choose_masks(again.sam, again.options.masks), again.options)
    try:
        yield OnlineLabels(miner, policy, again.dataset.classes, segmenter.spec.size)
    finally:
        miner.close()
