"""Several models as one: the mean of their maps, and how much they agree on an object of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from samsemi.sam.prompts import Objects, number_objects
from samsemi.segmenters.segmenter import Segmenter, predict_batch, to_label


class EnsembleMaps(NamedTuple):
    """What models find in some images."""

    maps: list[np.ndarray]
    """(K, H, W) float32 probabilities of each image: the mean of the models'."""
    members: list[np.ndarray]
    """(M, H, W) uint8 class map of each image by each model."""


def predict_ensemble(segmenters: Sequence[Segmenter], images: Sequence[np.ndarray], flips: bool = False) -> EnsembleMaps:
    """Of (H, W, 3) uint8 images, by M models of the same classes; with ``flips``, test-time augmentation."""
    if not images:
        return EnsembleMaps([], [])
    totals: list[np.ndarray] = []
    labels: list[list[np.ndarray]] = []
    for segmenter in segmenters:
        maps = predict_batch(segmenter, images, flips)
        labels.append([to_label(probs) for probs in maps])
        totals = [total + probs for total, probs in zip(totals, maps, strict=True)] if totals else maps
    return EnsembleMaps([total / len(segmenters) for total in totals], [np.stack(rows) for rows in zip(*labels, strict=True)])


def agreement_of(members: np.ndarray | None, objects: Objects, num_classes: int) -> np.ndarray:
    """(N,) float32: mean over the class maps (M, H, W) of the IoU of each object with that object of its class there which it shares
    most pixels with, 0 where it shares none; 1 where there is one model at most."""
    if members is None or len(members) < 2:
        return np.ones(len(objects), dtype=np.float32)
    return np.stack([best_ious(objects, label, num_classes) for label in members]).mean(axis=0).astype(np.float32)


def best_ious(objects: Objects, label: np.ndarray, num_classes: int) -> np.ndarray:
    """(N,) IoU of each object with the object of its class in a class map (H, W) that it shares most pixels with."""
    numbers, class_id = number_objects(label, num_classes)
    count = len(class_id)
    if not count:
        return np.zeros(len(objects))
    pairs = np.maximum(objects.components, 0).ravel() * (count + 1) + numbers.ravel()
    pixels = np.bincount(pairs, minlength=(len(objects) + 1) * (count + 1)).reshape(-1, count + 1)
    shared = pixels[1:, 1:] * (objects.class_id[:, None] == class_id)
    union = pixels[1:].sum(axis=1, keepdims=True) + pixels[:, 1:].sum(axis=0) - shared
    best = shared.argmax(axis=1)[:, None]
    return np.take_along_axis(shared / union, best, axis=1)[:, 0]
