"""What is drawn as predicted: by the networks that were measured, or in the folders of masks."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from samsemi.data.dataset import Case, Dataset, read_case_label
from samsemi.devices import autocast
from samsemi.errors import DataError, SamsemiError
from samsemi.reporting.sources import Evaluation
from samsemi.segmenters.checkpoints import load_model_for
from samsemi.segmenters.segmenter import Segmenter, predict_image, to_label
from samsemi.tensors import hash_tensors

LOG = logging.getLogger("samsemi")
MOST = 5
"""Predictions of a case that are drawn: the first and the last ones."""


class Predictor(Protocol):
    """Somebody's label maps."""

    @property
    def name(self) -> str: ...

    def label_of(self, case: Case, image: np.ndarray) -> np.ndarray | None:
        """(H, W) uint8 class indices; None where there is none for this case."""


@dataclass(frozen=True)
class NetworkPredictor:
    """The masks that `samsemi predict` writes."""

    name: str
    segmenter: Segmenter
    precision: str

    def label_of(self, case: Case, image: np.ndarray) -> np.ndarray | None:
        with autocast(self.segmenter.device, self.precision):
            return to_label(predict_image(self.segmenter, image))


@dataclass(frozen=True)
class FolderPredictor:
    """Masks ID.png of class indices."""

    name: str
    folder: Path
    num_classes: int

    def label_of(self, case: Case, image: np.ndarray) -> np.ndarray | None:
        try:
            return read_case_label(case, self.folder / f"{case.id}.png", self.num_classes)
        except DataError:
            return None


def load_predictors(
    evaluations: Sequence[Evaluation], models: Sequence[Path], dataset: Dataset, device: torch.device, precision: str
) -> list[Predictor]:
    """Of the given models or, without, of the evaluations in their order; those that are not there, or no longer what was measured, are
    left out with a warning."""
    load = partial(load_network, dataset=dataset, device=device, precision=precision)
    wanted: list[tuple[str, Callable[[], Predictor]]] = [(path.name, partial(load, path.name, path)) for path in models]
    for one in () if models else evaluations:
        if "model" in one.places:
            wanted.append((one.name, partial(load, one.name, one.places["model"], measured=one.made_from.get("model"))))
        elif "predictions" in one.places:
            wanted.append((one.name, partial(FolderPredictor, one.name, one.places["predictions"], len(dataset.classes))))
    found = []
    for name, make in wanted if len(wanted) <= MOST else [wanted[0], *wanted[1 - MOST :]]:
        try:
            found.append(make())
        except SamsemiError as error:
            LOG.warning(f"predictions of {name} are not drawn: {error.message}")
    return found


def load_network(name: str, run: Path, dataset: Dataset, device: torch.device, precision: str, measured: object = None) -> NetworkPredictor:
    """The model of a run; DataError where its weights have another hash than was ``measured``."""
    segmenter = load_model_for(dataset, run)
    if measured not in (None, hash_tensors(segmenter.state_dict())):
        raise DataError(f"{run} is no longer the model that was measured", "measure it again")
    return NetworkPredictor(name, segmenter.to(device), precision)
