"""Probability maps -> objects -> prompts. Needs no torch.

An object is one connected component of a class. Prompts are in image pixels, x before y, one row per object; every
object of a call has the same number of points, since padded points would change SAM's masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

Window = tuple[float, float, float, float]
"""x0 y0 x1 y1 in pixels of the image, x1 and y1 outside."""
NEIGHBORS = np.ones((3, 3), dtype=bool)
LOGIT_LIMIT = 12.0


@dataclass(frozen=True)
class Objects:
    """The N objects of one image, the most probable first."""

    components: np.ndarray
    """(H, W) int32: i + 1 on object i, 0 on background, -1 on what was too small."""
    class_id: np.ndarray
    """(N,) uint8, from 1."""
    boxes: np.ndarray
    """(N, 4) float32: x0 y0 x1 y1 of the outermost pixels."""
    area: np.ndarray
    """(N,) int64 pixels."""
    confidence: np.ndarray
    """(N,) float32: mean probability of its class."""
    margins: np.ndarray
    """(K, H, W) float32: log-probability of each class above the best other one."""

    def __len__(self) -> int:
        return len(self.class_id)

    def logits(self, size: int, windows: np.ndarray | None = None) -> np.ndarray:
        """(N, size, size) float32: the map that found each object, other objects of its class removed.

        Covers the whole image, or the object's window of ``windows`` (N, 4), x0 y0 x1 y1, x1 y1 outside; resized to a square without
        keeping the aspect ratio.
        """
        logits = np.empty((len(self), size, size), dtype=np.float32)
        for window, rows in group_windows(whole_windows(len(self), self.components.shape) if windows is None else windows):
            components = resize(self.components, size, Image.Resampling.NEAREST, window)
            maps = {k: resize(self.margins[k], size, Image.Resampling.BILINEAR, window) for k in np.unique(self.class_id[rows])}
            for i in rows:
                own = maps[self.class_id[i]]
                others = (components != 0) & (components != i + 1)
                logits[i] = np.where(others, np.minimum(own, -np.abs(own) - 1), own)
        return np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)


@dataclass(frozen=True)
class Prompts:
    """One row per object; a kind that is not used is None."""

    boxes: np.ndarray | None = None
    """(N, 4) float32 x0 y0 x1 y1."""
    point_coords: np.ndarray | None = None
    """(N, P, 2) float32 x y."""
    point_labels: np.ndarray | None = None
    """(N, P) int32: 1 on the object, 0 outside it."""
    mask_logits: np.ndarray | None = None
    """(N, S, S) float32 over what SAM sees, the whole image or a window, resized to a square without keeping the aspect ratio; above 0
    inside."""
    class_id: np.ndarray | None = None
    """(N,) uint8 classes of the objects, for a SAM that knows them."""

    def __len__(self) -> int:
        return next(len(part) for part in (self.boxes, self.point_coords, self.mask_logits) if part is not None)

    def rows(self, rows: slice | np.ndarray) -> "Prompts":
        """Those of some of the objects."""
        return Prompts(**{name: None if part is None else part[rows] for name, part in vars(self).items()})


def find_objects(probs: np.ndarray, min_area: int = 64) -> Objects:
    """The connected components (8 neighbors) of each class where it is the most probable, ranked by mean probability.

    ``probs`` is (K, H, W) float32; components below ``min_area`` pixels are dropped.
    """
    label = probs.argmax(axis=0)
    components = np.zeros(label.shape, dtype=np.int32)
    rows: list[tuple[float, int, int]] = []
    for k in range(1, len(probs)):
        found, count = ndimage.label(label == k, structure=NEIGHBORS)
        area = np.bincount(found.ravel(), minlength=count + 1)
        total = np.bincount(found.ravel(), weights=probs[k].ravel(), minlength=count + 1)
        keep = [i for i in range(1, count + 1) if area[i] >= min_area]
        first = len(rows)
        rows += [(total[i] / area[i], k, int(area[i])) for i in keep]
        number = np.full(count + 1, -1, dtype=np.int32)
        number[0] = 0
        number[keep] = np.arange(first, len(rows)) + 1
        components += number[found]
    order = sorted(range(len(rows)), key=lambda i: -rows[i][0])
    rank = np.zeros(len(rows) + 1, dtype=np.int32)
    rank[np.asarray(order, dtype=int) + 1] = np.arange(1, len(rows) + 1)
    components = np.where(components > 0, rank[components], components)
    rows = [rows[i] for i in order]
    return Objects(
        components,
        np.array([k for _, k, _ in rows], dtype=np.uint8),
        tight_boxes(components, len(rows)),
        np.array([area for _, _, area in rows], dtype=np.int64),
        np.array([mean for mean, _, _ in rows], dtype=np.float32),
        class_margins(probs),
    )


def number_objects(label: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The true objects of a label map (H, W): (H, W) int32, i + 1 on component i, and (N,) uint8 their classes, in rising order."""
    numbers = np.zeros(label.shape, dtype=np.int32)
    class_id: list[int] = []
    for k in range(1, num_classes):
        found, count = ndimage.label(label == k, structure=NEIGHBORS)
        numbers += np.where(found > 0, found + len(class_id), 0)
        class_id += [k] * count
    return numbers, np.array(class_id, dtype=np.uint8)


def shared_most(layers: np.ndarray, class_id: np.ndarray, own: np.ndarray, wanted: int) -> np.ndarray:
    """(H, W) bool: the object of class ``wanted`` that shares most pixels with ``own`` (H, W) bool; empty where none shares any.

    ``layers`` (L, H, W) has i + 1 on object i, of class ``class_id[i]``.
    """
    shared = np.bincount(layers[:, own].ravel(), minlength=len(class_id) + 1)[1:] * (class_id == wanted)
    return (layers == shared.argmax() + 1).any(axis=0) if shared.any() else np.zeros(own.shape, dtype=bool)


def tight_boxes(components: np.ndarray, count: int) -> np.ndarray:
    """(count, 4) float32 x0 y0 x1 y1 of the outermost pixels of components 1..count."""
    slices = ndimage.find_objects(components, max_label=count) if count else []
    return np.array([[s[1].start, s[0].start, s[1].stop - 1, s[0].stop - 1] for s in slices], dtype=np.float32).reshape(-1, 4)


def class_margins(probs: np.ndarray) -> np.ndarray:
    """(K, H, W) log p_k - log max of the others: above 0 exactly where class k is the most probable."""
    logs = np.log(np.clip(probs, 1e-6, 1.0))
    if len(logs) == 2:
        return np.stack([logs[0] - logs[1], logs[1] - logs[0]])
    best = logs.argmax(axis=0)[None]
    highest = np.take_along_axis(logs, best, axis=0)
    margins = logs - highest
    np.put_along_axis(logs, best, -np.inf, axis=0)
    np.put_along_axis(margins, best, highest - logs.max(axis=0), axis=0)
    return margins


def make_prompts(
    objects: Objects,
    kinds: Sequence[str] | str = ("box", "point"),
    margin: float = 2,
    positive: int = 1,
    negative: int = 1,
    mask_size: int = 256,
    others: int = 0,
    windows: np.ndarray | None = None,
) -> Prompts:
    """Prompts of the given kinds, a sequence or joined by +, for every object.

    Boxes are tight with ``margin`` pixels on each side. Positive points stand deepest inside the object, negative ones
    in the box farthest from it; an object that fills its box gets positive ones instead. ``others`` more negative ones
    stand deepest inside the nearest objects of other classes. Masks are its own map, over its own one of
    the ``windows`` (N, 4), without any over the image.
    """
    kinds = kinds.split("+") if isinstance(kinds, str) else kinds
    boxes = grow_boxes(objects.boxes, margin, objects.components.shape)
    coords = labels = None
    if "point" in kinds:
        coords, labels = object_points(objects.components, boxes, positive, negative)
        if others:
            coords, labels = add_other_points(objects, coords, labels, others)
    masks = objects.logits(mask_size, windows) if "mask" in kinds else None
    return Prompts(boxes if "box" in kinds else None, coords, labels, masks, objects.class_id)


def grow_boxes(boxes: np.ndarray, margin: float, size: tuple) -> np.ndarray:
    """(N, 4) float32 boxes with ``margin`` pixels on each side, cut to an image of (H, W), or each to one of its own, H and W (N,)."""
    last = np.stack([size[1], size[0]] * 2, axis=-1) - np.float32(1)
    return np.clip(boxes + np.array([-margin, -margin, margin, margin], dtype=np.float32), 0, last).astype(np.float32)


def object_points(components: np.ndarray, boxes: np.ndarray, positive: int, negative: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, P, 2) float32 point_coords x y and (N, P) int32 point_labels, P = positive + negative."""
    coords = np.empty((len(boxes), positive + negative, 2), dtype=np.float32)
    labels = np.empty((len(boxes), positive + negative), dtype=np.int32)
    for i, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        inside = np.pad(components[y0 : y1 + 1, x0 : x1 + 1] == i + 1, 1)
        outside = ~inside
        outside[[0, -1]] = outside[:, [0, -1]] = False
        first = deepest_points(ndimage.distance_transform_edt(inside), positive)
        second = (
            deepest_points(ndimage.distance_transform_edt(~inside) * outside, negative) if outside.any() else first[:1].repeat(negative, 0)
        )
        coords[i] = np.concatenate([first, second])[:, ::-1] + [x0 - 1, y0 - 1]
        labels[i] = [1] * positive + [int(not outside.any())] * negative
    return coords, labels


def add_other_points(objects: Objects, coords: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels with ``count`` more for each object, on the nearest objects of other classes, and not on it.

    Where there are fewer such objects, the object's last point is repeated.
    """
    inner, _ = object_points(objects.components, objects.boxes, 1, 0)
    apart = np.hypot(*(inner - inner.swapaxes(0, 1)).transpose(2, 0, 1))
    apart[objects.class_id[:, None] == objects.class_id] = np.inf
    more_coords, more_labels = coords[:, -1:].repeat(count, axis=1), labels[:, -1:].repeat(count, axis=1)
    for i, order in enumerate(apart.argsort(axis=1, kind="stable")[:, :count]):
        near = [j for j in order if np.isfinite(apart[i, j])]
        more_coords[i, : len(near)], more_labels[i, : len(near)] = inner[near, 0], 0
    return np.concatenate([coords, more_coords], axis=1), np.concatenate([labels, more_labels], axis=1)


def deepest_points(depth: np.ndarray, count: int) -> np.ndarray:
    """(count, 2) row, column: where ``depth`` is greatest; the next ones also far from those already chosen.

    Where there are fewer places with a depth than points, the deepest is repeated.
    """
    points: list[tuple[int, int]] = []
    away = depth.astype(np.float64)
    rows, columns = np.ogrid[: depth.shape[0], : depth.shape[1]]
    for _ in range(count):
        row, column = (int(place) for place in np.unravel_index(away.argmax(), away.shape))
        points.append((row, column) if away[row, column] > 0 or not points else points[0])
        away = np.minimum(away, np.hypot(rows - row, columns - column))
    return np.array(points, dtype=np.int64).reshape(-1, 2)


def resize(array: np.ndarray, size: int, resampling: Image.Resampling, window: Window | None = None) -> np.ndarray:
    """(H, W) int32 or float32, or its window x0 y0 x1 y1 -> (size, size) of the same type; when made smaller, averaged unless nearest."""
    return np.asarray(Image.fromarray(array).resize((size, size), resampling, window))


def whole_windows(count: int, size: tuple) -> np.ndarray:
    """(count, 4) float32: for each of some objects the window that is all of an image (H, W)."""
    return np.tile(np.array([0, 0, size[1], size[0]], dtype=np.float32), (count, 1))


def group_windows(windows: np.ndarray) -> list[tuple[Window, np.ndarray]]:
    """The different ones of the windows (N, 4) of objects, in the order in which they first come, each with the numbers of its objects."""
    groups: dict[Window, list[int]] = {}
    for i, (x0, y0, x1, y1) in enumerate(windows.tolist()):
        groups.setdefault((x0, y0, x1, y1), []).append(i)
    return [(window, np.array(rows)) for window, rows in groups.items()]
