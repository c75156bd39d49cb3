"""Pseudo-labels made while training, in every step: of the images of a batch, by the model of the moment, by the policy of a store."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
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
WARN_AFTER = 100
"""Images in a row without an accepted object, after which is warned."""


class CaseImage(NamedTuple):
    """The image of a case, as it is mined."""

    id: str
    image: np.ndarray
    """(H, W, 3) uint8."""


def load_case_image(case: Case) -> CaseImage:
    return CaseImage(case.id, read_case_image(case))


class OnlineLabels:
    """Labels the images of a batch as ``mine`` would with the miner's model as it is then, and as ``finetune`` reads a store."""

    def __init__(self, miner: Miner, policy: Policy, classes: Sequence[str], size: int, counts: Counter[str]):
        self.miner, self.policy, self.classes, self.size = miner, policy, classes, size
        self.counts = counts
        """Of what was mined: images, those with an accepted object, and by class objects and accepted ones; added to what it holds."""
        self.without = 0
        """Images in a row without an accepted object."""

    def __call__(self, cases: Sequence[CaseImage]) -> list[Sample]:
        """The samples of some cases; one that is there twice is mined once."""
        images = {case.id: case.image for case in cases}
        found = self.miner.mine(images)
        num_classes = len(self.classes)
        samples = {name: mined_sample(images[name], mined, self.policy, num_classes, self.size) for name, (mined, _) in found.items()}
        for case in cases:
            self.count(found[case.id][0])
        return [samples[case.id] for case in cases]

    def count(self, mined: Mined) -> None:
        accepted = decide(mined, self.policy) == 0
        self.counts.update(mined_images=1, accepted_images=int(accepted.any()))
        for k, name in enumerate(self.classes[1:], start=1):
            own = mined.class_id == k
            self.counts.update({f"objects_{name}": int(own.sum()), f"accepted_{name}": int((own & accepted).sum())})
        self.without = 0 if accepted.any() else self.without + 1
        if self.without and self.without % WARN_AFTER == 0:
            LOG.warning(f"no pseudo-label is accepted in the last {self.without} unlabeled images")


def refuse_several_models(store: Store) -> None:
    """UsageError for a store of several models, by whose agreement its policy decides: a model in training is alone."""
    if isinstance(store.provenance.made_from.get("model"), list):
        raise UsageError(
            f"--schedule online: {store.path} was mined with several models, and what is accepted by their agreement",
            "mine with one model, or give --schedule continuous",
        )


@contextmanager
def open_labels(again: MiningAgain, segmenter: Segmenter, policy: Policy, counts: Counter[str]) -> Iterator[OnlineLabels]:
    """Labels by a model in training, whose weights may change, with the SAM and the options of the first store."""
    miner = Miner(segmenter, choose_masks(again.sam, again.options.masks), again.options)
    try:
        yield OnlineLabels(miner, policy, again.dataset.classes, segmenter.spec.size, counts)
    finally:
        miner.close()
