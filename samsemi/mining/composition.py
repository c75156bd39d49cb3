"""What is learnt of a mined image: SAM's and the network's maps, composed to one soft label on the grid that the reader wants.

SAM is prompted about one box, so that its silence elsewhere means nothing: its share is 0 outside that box and a margin, and there the
network's own full map stands. Pure, needs no torch. A grid (h, w) covers the whole image; a region is the rows and columns of a part of it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from samsemi.mining.scores import REASONS
from samsemi.mining.store import Mined

REACH = 0.1
"""How far beyond the box that it was prompted with SAM's mask counts, on each side, as a share of the box."""
LEAST_CERTAINTY = np.float32(1e-3)
"""Weight of a pixel of probability 0.5, where one of 0 or 1 weighs 1."""

Region = tuple[slice, slice]


@dataclass(frozen=True)
class NetworkMap:
    """The network's map of an image on a grid."""

    probs: np.ndarray
    """(K, h, w) float32, summing to 1."""
    components: np.ndarray
    """(h, w) int: i + 1 where it sees object i, 0 elsewhere."""


@dataclass(frozen=True)
class Label:
    """A soft label, and what is to be made of its pixels."""

    target: np.ndarray
    """(K, h, w) float32, summing to 1."""
    ignored: np.ndarray
    """(h, w) bool: pixels of rejected objects, and of what is no object."""
    disputed: np.ndarray
    """(h, w) bool: SAM and the network disagree about an accepted object."""


def network_map(mined: Mined, num_classes: int, shape: tuple[int, int]) -> NetworkMap:
    """The network's map on a grid (h, w); equal probabilities where an earlier version of the store has kept none."""
    height, width = shape
    probs = np.zeros((num_classes, height, width), dtype=np.float32)
    side = mined.network_probs.shape[-1]
    if mined.network_probs.any():
        down, across = (average_cells(slice(0, count), side / count, side) for count in shape)
        for k, own in enumerate(mined.network_probs):
            probs[k] = resample(own, down, across)
        probs /= probs.sum(axis=0)
    else:
        probs[:] = 1 / num_classes
    rows, columns = (((np.arange(count) + 0.5) * side / count).astype(int) for count in shape)
    return NetworkMap(probs, mined.components[np.ix_(rows, columns)].astype(int))


def average_cells(cells: slice, step: float, count: int, first: float = 0.0) -> csr_array:
    """(n, count) float32 weights that take ``count`` pixels to n cells of ``step`` pixels each, the one of number 0 beginning at ``first``.

    Linear between pixels; where cells are larger, a mean over them. Beyond the outermost pixels their value holds.
    """
    places = ((np.arange(cells.start, cells.stop) + 0.5) * step + first - 0.5).clip(0, count - 1)
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(count)) / max(1.0, step), 0)
    return csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def resample(values: np.ndarray, down: csr_array, across: csr_array) -> np.ndarray:
    """(h, w) float32 of a map (S, S) uint8 by the weights of its rows and of its columns."""
    return (across @ (down @ values.astype(np.float32)).T).T


def region_of(mined: Mined, i: int, shape: tuple[int, int]) -> Region:
    """Where on a grid (h, w) SAM's mask of object i counts: in the box that it was prompted with, REACH beyond it, and in its window."""
    (height, width), (x0, y0, x1, y1), window = mined.image_size, mined.prompt_boxes[i] + np.array([0, 0, 1, 1]), mined.windows[i]
    reach_x, reach_y = REACH * (x1 - x0), REACH * (y1 - y0)
    rows = cells_between(max(y0 - reach_y, window[1]), min(y1 + reach_y, window[3]), shape[0] / height, shape[0])
    return rows, cells_between(max(x0 - reach_x, window[0]), min(x1 + reach_x, window[2]), shape[1] / width, shape[1])


def cells_between(low: float, high: float, scale: float, count: int) -> slice:
    """The cells, ``scale`` of them in a pixel and ``count`` in all, whose middle lies between two places; at least one."""
    first = min(round(float(low * scale)), count - 1)
    return slice(first, max(first + 1, min(round(float(high * scale)), count)))


def sam_map(mined: Mined, i: int, shape: tuple[int, int], region: Region) -> np.ndarray:
    """SAM's probability of object i in a region of a grid (h, w) float32, from its window."""
    (height, width), (x0, y0, x1, y1), side = mined.image_size, mined.windows[i], mined.probs.shape[-1]
    pixel_x, pixel_y = (x1 - x0) / side, (y1 - y0) / side
    down = average_cells(region[0], height / shape[0] / pixel_y, side, -y0 / pixel_y)
    across = average_cells(region[1], width / shape[1] / pixel_x, side, -x0 / pixel_x)
    return resample(mined.probs[i], down, across) / np.float32(255)


def blend_object(mined: Mined, i: int, sam: np.ndarray, network: NetworkMap, sam_share: float, region: Region) -> np.ndarray:
    """Probability of object i in a region, float32: the mean of SAM's, as of ``sam_map``, and the network's, which is 0 on other objects
    of its class.

    Each weighs by its share, times its confidence in the object (predicted IoU, confidence) and in the pixel, |2 p - 1|.
    """
    k, part = mined.class_id[i], network.components[region]
    other = (part != i + 1) & (np.append(0, mined.class_id)[part] == k)
    maps = np.stack([sam, np.where(other, 0, network.probs[k][region])])
    confidence = np.array([sam_share * mined.predicted_iou[i], (1 - sam_share) * mined.confidence[i]], dtype=np.float32).clip(0)
    weights = confidence[:, None, None] * (np.abs(2 * maps - 1) + LEAST_CERTAINTY) if confidence.any() else np.ones_like(maps)
    return (weights * maps).sum(axis=0) / weights.sum(axis=0)


def object_label(mined: Mined, i: int, network: NetworkMap, sam_share: float) -> np.ndarray:
    """(h, w) float32: what an accepted object i adds to the label, its probability where SAM's mask counts and 0 elsewhere."""
    shape = network.components.shape
    label, region = np.zeros(shape, dtype=np.float32), region_of(mined, i, shape)
    label[region] = blend_object(mined, i, sam_map(mined, i, shape, region), network, sam_share, region)
    return label


def object_mask(mined: Mined, i: int, network: NetworkMap, sam_share: float) -> np.ndarray:
    """(h, w) bool: where the class of an accepted object i wins in the label that is composed of it alone.

    With two classes that is where its probability is above a half; with several, where it is above that of each other one: its
    remainder, shared among them as the network has them.
    """
    shape = network.components.shape
    mask, region = np.zeros(shape, dtype=bool), region_of(mined, i, shape)
    own = object_label(mined, i, network, sam_share)[region]
    others = np.delete(network.probs[(slice(None), *region)], mined.class_id[i], axis=0)
    others[0] += others.sum(axis=0) == 0
    mask[region] = own > (1 - own) * others.max(axis=0) / others.sum(axis=0)
    return mask


def compose_label(mined: Mined, reason: np.ndarray, network: NetworkMap, sam_share: float) -> Label:
    """The label of an image whose objects are accepted or rejected for a ``reason`` (N,), an index into REASONS.

    Around accepted objects, the probability of their class is that of ``blend_object``, the largest of several objects, and what it
    leaves is shared among the other classes as the network has it. Elsewhere the network's map stands, without the objects that are
    none ("background"). Ignored is where the network sees a rejected object, where SAM's mask of it covers no accepted one, and where
    a class wins of which no accepted object is near: objects alone are learned, not what was too small to be one.
    """
    shape, absent = network.components.shape, reason == REASONS.index("background")
    own, sam = np.zeros_like(network.probs), np.zeros_like(network.probs)
    covered = np.zeros(network.probs.shape, dtype=bool)
    for i in np.flatnonzero(reason == 0).tolist():
        region = region_of(mined, i, shape)
        place, mask = (mined.class_id[i], *region), sam_map(mined, i, shape, region)
        own[place] = np.maximum(own[place], blend_object(mined, i, mask, network, sam_share, region))
        sam[place] = np.maximum(sam[place], mask)
        covered[place] = True
    own /= np.maximum(own.sum(axis=0), 1)
    rest = np.where(covered, 0, clear_objects(mined, absent, network, covered))
    rest[0] += rest.sum(axis=0) == 0
    target = own + rest * ((1 - own.sum(axis=0)) / rest.sum(axis=0))
    winner = target.argmax(axis=0)
    ignored = find_rejected(mined, (reason > 0) & ~absent, network, own.max(axis=0) > 0.5)
    ignored |= (winner > 0) & ~np.take_along_axis(covered, winner[None], axis=0)[0]
    return Label(target, ignored, (covered & ((sam > 0.5) != (network.probs > 0.5))).any(axis=0))


def clear_objects(mined: Mined, absent: np.ndarray, network: NetworkMap, covered: np.ndarray) -> np.ndarray:
    """(K, h, w): the network's map with background in place of ``absent`` (N,) bool objects, and around them where no other one is.

    ``covered`` (K, h, w) is where SAM's masks of accepted objects of a class count.
    """
    probs = network.probs.copy()
    for i in np.flatnonzero(absent).tolist():
        region = region_of(mined, i, network.components.shape)
        part, own = network.components[region], probs[(mined.class_id[i], *region)]
        gone = (part == i + 1) | ((part == 0) & ~covered[(mined.class_id[i], *region)])
        probs[(0, *region)] += np.where(gone, own, 0)
        own[gone] = 0
    return probs


def find_rejected(mined: Mined, rejected: np.ndarray, network: NetworkMap, held: np.ndarray) -> np.ndarray:
    """(h, w) bool: where the network sees ``rejected`` (N,) bool objects, and where SAM's masks of them are and no other is ``held``."""
    found = np.append(False, rejected)[network.components]
    for i in np.flatnonzero(rejected).tolist():
        region = region_of(mined, i, found.shape)
        found[region] |= (sam_map(mined, i, found.shape, region) > 0.5) & ~held[region]
    return found
