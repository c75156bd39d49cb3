"""How good a SAM's masks are: their IoU with true objects, prompted by boxes and points, and that of plain shapes in the same boxes."""

import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import draw

from samsemi.data.dataset import IGNORE, Case, Dataset, read_case_image, read_case_label
from samsemi.errors import NothingUsable
from samsemi.metrics import overlap
from samsemi.sam.checks import decode_prompts, encode_images
from samsemi.sam.prompts import Prompts, deepest_points, find_objects, make_prompts, number_objects, shared_most
from samsemi.sam.protocol import Embedding, SamBackend
from samsemi.sam.simulation import box_of, move_box
from samsemi.sam.windows import Window, crop_pixels, crop_prompts, paste_maps, round_window, zoom_window
from samsemi.segmenters.segmenter import Segmenter, predict_image

JITTER = 0.1
"""How far a side of a jittered box is moved at most, as a share of the box."""
ROWS = 16
"""Masks upscaled at once: bounds memory."""
JUDGED_BY = ("box", "jittered_box", "point", "box_point", "model_box", "model_box_point")
"""The scores of a SAM's own masks of whole images, of which ``mean_score`` is the mean."""

Segment = Callable[[Prompts], np.ndarray]
"""The (N, H, W) bool masks of prompts on one image."""
Row = tuple[str, dict[str, float]]
"""The class of an object and its scores."""


def measure_prompted(
    sam: SamBackend,
    cases: Sequence[Case],
    classes: Sequence[str],
    seed: int = 0,
    segmenter: Segmenter | None = None,
    encode: Callable[[Sequence[np.ndarray]], list[Embedding]] | None = None,
    advance: Callable[[], None] = lambda: None,
    zooms: Sequence[float] = (),
) -> dict[str, object]:
    """Mean IoU over the largest object of each class in each image, at the size of the image; the same boxes for every SAM.

    ``box``: the tight box; ``jittered_box``: each side moved by up to JITTER of its size; ``point``: the deepest one;
    ``box_point``: that point and the jittered box. ``ellipse``, ``full_box`` and ``jittered_ellipse`` are plain shapes in
    the same boxes. With a segmenter also, over the objects that it finds, ``model_mask``: its own IoU with the true object
    that it shares most pixels with (0 without one); ``model_box`` and ``model_box_point``: that of SAM, prompted as ``mine``
    does. A prompt that the SAM is not made for is left out. For each factor F of ``zooms`` the scores by a box stand there once
    more, as ``box_zoom_F``: then the SAM sees a crop of F times the box that prompts it. ``encode`` stands in for the SAM's own
    of whole images; ``advance`` is called after each image.
    """
    rows: list[Row] = []
    seconds = 0.0
    for case in cases:
        image, label = read_case_image(case), read_case_label(case, case.mask, len(classes))
        start = time.monotonic()
        embedding = (encode or partial(encode_images, sam))([image])[0]
        seconds += time.monotonic() - start
        views: dict[str, Segment] = {"": partial(decode_masks, sam, embedding)}
        views |= {f"_zoom_{factor:g}": partial(decode_crops, sam, image, factor, {}) for factor in zooms}
        for k, truth in largest_objects(label, len(classes)):
            moved = jittered_box(case, k, truth, seed)
            rows.append((classes[k], score_object(sam, views, truth, label != IGNORE, moved)))
        if segmenter:
            rows += [(classes[k], scores) for k, scores in score_model(sam, views, predict_image(segmenter, image), label)]
        advance()
    objects = sum("ellipse" in scores for _, scores in rows)
    if not objects:
        raise NothingUsable(f"none of {len(cases)} cases has an object to prompt for", "take a split whose masks are not all empty")
    result: dict[str, object] = {**mean_of([scores for _, scores in rows])}
    if len(classes) > 2:
        result["by_class"] = {name: mean_of([scores for k, scores in rows if k == name]) for name in classes[1:]}
    return {**result, "images": len(cases), "objects": objects, "encode_seconds_per_image": seconds / max(len(cases), 1)}


def mean_score(measured: Mapping[str, Any]) -> float:
    """One number to choose by: the mean of the SAM's own scores."""
    known: list[float] = [measured[name] for name in JUDGED_BY if name in measured]
    return sum(known) / len(known) if known else 0.0


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each score over the objects that have it."""
    values = defaultdict(list)
    for scores in rows:
        for name, value in scores.items():
            values[name].append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}


def largest_objects(label: np.ndarray, num_classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each class that a label map (H, W) holds, and its largest connected component (H, W) bool."""
    numbers, class_id = number_objects(label, num_classes)
    areas = np.bincount(numbers.ravel(), minlength=len(class_id) + 1)[1:]
    for k in np.unique(class_id):
        yield int(k), numbers == (areas * (class_id == k)).argmax() + 1


def jittered_box(case: Case, class_id: int, truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """(4,) float32: the box of a true object with each side moved, always alike for a case, class and seed."""
    rng = np.random.default_rng((seed, zlib.crc32(case.id.encode()), class_id))
    return move_box(rng, box_of(truth), JITTER, truth.shape)


def label_by_boxes(sam: SamBackend, case: Case, dataset: Dataset) -> np.ndarray:
    """(H, W) uint8: a SAM's masks of the jittered boxes of the largest true object of each class."""
    label = read_case_label(case, case.mask, len(dataset.classes))
    [embedding] = encode_images(sam, [read_case_image(case)])
    found = np.zeros_like(label)
    for k, truth in largest_objects(label, len(dataset.classes)):
        found[decode_masks(sam, embedding, Prompts(boxes=jittered_box(case, k, truth)[None]))[0]] = k
    return found


def score_object(
    sam: SamBackend, views: Mapping[str, Segment], truth: np.ndarray, valid: np.ndarray, moved: np.ndarray
) -> dict[str, float]:
    """IoU with a true object (H, W) bool, in the ``valid`` pixels, for each kind of prompt; ``moved`` is its jittered box.

    ``views`` are the ways in which the SAM sees the image, by what they add to the names of the scores.
    """
    box = box_of(truth)
    row, column = deepest_points(ndimage.distance_transform_edt(np.pad(truth, 1)), 1)[0] - 1
    point = {"point_coords": np.array([[[column, row]]], np.float32), "point_labels": np.ones((1, 1), np.int32)}
    prompts_by_kinds = {
        "box": ("box", Prompts(boxes=box[None])),
        "jittered_box": ("box", Prompts(boxes=moved[None])),
        "point": ("point", Prompts(**point)),
        "box_point": ("box+point", Prompts(boxes=moved[None], **point)),
    }
    prompts_by_name = {name: prompts for name, (kinds, prompts) in prompts_by_kinds.items() if takes(sam, kinds)}
    masks = {name: found[0] for name, found in segment_views(views, prompts_by_name).items()}
    masks |= {"ellipse": ellipse(box, truth.shape), "full_box": full_box(box, truth.shape), "jittered_ellipse": ellipse(moved, truth.shape)}
    return {name: overlap(mask & valid, truth)["iou"] for name, mask in masks.items()}


def score_model(
    sam: SamBackend, views: Mapping[str, Segment], probs: np.ndarray, label: np.ndarray
) -> Iterator[tuple[int, dict[str, float]]]:
    """For each object in a map (K, H, W): its class, and the IoU of itself and of SAM's masks with the true one it shares most with."""
    objects = find_objects(probs)
    kinds = {name: kind for name, kind in (("model_box", "box"), ("model_box_point", "box+point")) if takes(sam, kind)}
    masks = segment_views(views, {name: make_prompts(objects, kind) for name, kind in kinds.items()}) if len(objects) else {}
    numbers, class_id = number_objects(label, len(probs))
    for i, k in enumerate(objects.class_id):
        own = objects.components == i + 1
        truth = shared_most(numbers[None], class_id, own, k)
        found = {"model_mask": own, **{name: of_sam[i] for name, of_sam in masks.items()}}
        yield int(k), {name: overlap(mask & (label != IGNORE), truth)["iou"] if truth.any() else 0.0 for name, mask in found.items()}


def takes(sam: SamBackend, kinds: str) -> bool:
    """True where a SAM takes these kinds of prompt."""
    return sam.prompt_kinds in (None, kinds)


def segment_views(views: Mapping[str, Segment], prompts_by_name: Mapping[str, Prompts]) -> dict[str, np.ndarray]:
    """(N, H, W) bool masks of each kind of prompt in each view; by crops of what has a box."""
    return {
        name + view: segment(prompts)
        for view, segment in views.items()
        for name, prompts in prompts_by_name.items()
        if not view or prompts.boxes is not None
    }


def decode_crops(sam: SamBackend, image: np.ndarray, factor: float, encoded: dict[Window, Embedding], prompts: Prompts) -> np.ndarray:
    """(N, H, W) bool masks of prompts with boxes by a SAM that sees a crop of ``factor`` times each box: nothing outside the crop.

    ``encoded`` keeps the embeddings of the crops of this image.
    """
    assert prompts.boxes is not None
    masks = []
    for i, box in enumerate(prompts.boxes):
        window = round_window(zoom_window(box, factor, image.shape[:2]))
        if window not in encoded:
            [encoded[window]] = encode_images(sam, [crop_pixels(image, window)])
        found = decode_masks(sam, encoded[window], crop_prompts(prompts.rows(slice(i, i + 1)), window))
        masks.append(paste_maps(found, window, image.shape[:2]))
    return np.concatenate(masks)


def decode_masks(sam: SamBackend, embedding: Embedding, prompts: Prompts) -> np.ndarray:
    """(N, H, W) bool masks of the prompts on one image."""
    [found] = decode_prompts(sam, [embedding], [prompts])
    return np.concatenate([(found.at_image_size(slice(i, i + ROWS)) > 0).cpu().numpy() for i in range(0, len(found), ROWS)])


def ellipse(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mask (H, W) bool of the ellipse that touches the sides of a box x0 y0 x1 y1."""
    mask = np.zeros(shape, dtype=bool)
    radii = (box[3] - box[1] + 1) / 2, (box[2] - box[0] + 1) / 2
    mask[draw.ellipse((box[1] + box[3]) / 2, (box[0] + box[2]) / 2, *radii, shape)] = True
    return mask


def full_box(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mask (H, W) bool of a box x0 y0 x1 y1."""
    mask = np.zeros(shape, dtype=bool)
    x0, y0, x1, y1 = np.round(box).astype(int)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask
