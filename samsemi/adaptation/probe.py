"""What a SAM's image embedding knows of the classes before any training: the AUC of a linear probe on its cells."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from PIL import Image
from scipy.stats import rankdata

from samsemi.data.dataset import IGNORE, Case, read_case_image, read_case_label
from samsemi.sam.checks import encode_images
from samsemi.sam.protocol import FEATURES, TrainableSam

RIDGE = 0.1
"""Penalty of the squared weights, against the mean squared error over the cells of standardized features."""


@dataclass(frozen=True)
class Cells:
    """The N cells of an image's embedding that lie mostly on valid pixels; the padding has none."""

    features: np.ndarray
    """(N, C) float64."""
    labels: np.ndarray
    """(N, K - 1) float64: 1 where a class above background covers more than half of the cell's valid pixels, else 0."""


def probe(
    sam: TrainableSam, labeled: Sequence[Case], measured: Sequence[Case], classes: Sequence[str], advance: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """AUC of each class above background over all cells of the ``measured`` cases, by ridge regression fitted to the ``labeled`` ones.

    A class that no cell shows, or every cell, in either of the two is left out. ``advance`` is called after each image. Memory
    grows with the cells that are measured alone: of those that it is fitted to, sums of products are kept.
    """
    outputs = len(classes) - 1
    products = reduce(np.add, map(multiply, read_cells(sam, labeled, len(classes), advance)))
    weights = fit_ridge(products, outputs)
    pairs = [(cells.features @ weights, cells.labels > 0) for cells in read_cells(sam, measured, len(classes), advance)]
    scores, truth = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    fitted = (products[0, -outputs:] > 0) & (products[0, -outputs:] < products[0, 0])
    known = fitted & truth.any(axis=0) & ~truth.all(axis=0)
    return {name: rank_auc(scores[:, k], truth[:, k]) for k, name in enumerate(classes[1:]) if known[k]}


def spread(cases: Sequence[Case], count: int) -> list[Case]:
    """At most ``count`` of the cases, evenly spread over them."""
    return [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(count, len(cases)), dtype=int))]


def read_cells(sam: TrainableSam, cases: Sequence[Case], num_classes: int, advance: Callable[[], None]) -> Iterator[Cells]:
    """The cells of one case after the other."""
    for case in cases:
        image, label = read_case_image(case), read_case_label(case, case.mask, num_classes)
        [embedding] = encode_images(sam, [image])
        features = embedding.tensors[FEATURES].cpu().float().numpy().astype(np.float64)
        input_size = sam.preprocessing.input_size(label.shape, sam.side)
        covered = (sam.side / input_size[0], sam.side / input_size[1])
        valid = cover(label != IGNORE, features.shape[1:], covered)
        truth = np.stack([2 * cover(label == k, features.shape[1:], covered) > valid for k in range(1, num_classes)])
        inside = valid > 0.5
        yield Cells(features[:, inside].T, truth[:, inside].T.astype(np.float64))
        advance()


def cover(mask: np.ndarray, grid: tuple[int, int], covered: tuple[float, float]) -> np.ndarray:
    """Share of each cell of a grid (h, w) that a mask (H, W) bool covers; the grid spans ``covered`` times the image, down and right."""
    height, width = (extent * times for extent, times in zip(mask.shape, covered, strict=True))
    padded = np.zeros((int(np.ceil(height)), int(np.ceil(width))), dtype=np.float32)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(Image.fromarray(padded).resize(grid[::-1], Image.Resampling.BOX, (0, 0, width, height)))


def multiply(cells: Cells) -> np.ndarray:
    """(1 + C + K - 1, the same) products of a one, the features and the truth, summed over the cells."""
    rows = np.column_stack([np.ones(len(cells.features)), cells.features, cells.labels])
    return rows.T @ rows


def fit_ridge(products: np.ndarray, outputs: int) -> np.ndarray:
    """(C, outputs) weights of ridge regression on standardized features, for features as they are; the intercept is left out.

    ``products`` are those of ``multiply``, summed over images.
    """
    count = max(products[0, 0], 1)
    mean = products[0, 1:] / count
    covariance = products[1:, 1:] / count - np.outer(mean, mean)
    variance = covariance.diagonal()[:-outputs]
    scale = np.sqrt(np.where(variance > 1e-12, variance, np.inf))
    correlation = covariance[:-outputs, :-outputs] / np.outer(scale, scale)
    weights = np.linalg.solve(correlation + RIDGE * np.eye(len(scale)), covariance[:-outputs, -outputs:] / scale[:, None])
    return weights / scale[:, None]


def rank_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a true one of (N,) ``scores`` is above a false one; ties count half."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    return float((rankdata(scores)[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))
