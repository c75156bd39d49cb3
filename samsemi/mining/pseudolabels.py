"""SAM's masks -> scores; stored scores and masks -> a soft label with pixel weights.

``score_masks`` measures masks when they are mined; ``pseudo_label`` is a pure function of what is stored and of the policy.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from samsemi.data.dataset import Case, read_case_image
from samsemi.mining.composition import compose_label, network_map
from samsemi.mining.policy import Policy, decide, quality_of
from samsemi.mining.store import Mined, Store
from samsemi.mining.summary import find_reasons
from samsemi.sam.prompts import Objects, Window, resize
from samsemi.sam.protocol import MaskBatch
from samsemi.sam.windows import crop_pixels
from samsemi.segmenters.segmenter import to_input
from samsemi.training.batches import Sample

STABILITY_OFFSET = 1.0
"""Logits by which the threshold is moved down and up. Source: segment-anything, automatic_mask_generator.py."""
PIXELS_PER_CHUNK = 2**24
"""Mask pixels that are scored at once: bounds the memory."""
SURE = 0.95
"""The probability of a class from which a pixel is sure without an accepted object. Source: FixMatch, arXiv 2001.07685."""


def score_masks(
    output: MaskBatch,
    objects: Objects,
    probs: np.ndarray,
    size: int | None = None,
    prompt_boxes: np.ndarray | None = None,
    map_size: int | None = None,
) -> Mined:
    """Score SAM's masks of the objects that prompted it with a whole image; masks are kept at SAM's own resolution, or ``size``, the
    network's map at ``map_size``, or as large as the masks.

    ``probs`` (K, H, W) is the map in which the objects were found. ``prompt_boxes`` (N, 4) are those that SAM was prompted with; the
    objects' own without.
    """
    height, width = output.image_size
    size, rows = size or output.low_res_logits.shape[-1], np.arange(len(objects))
    columns = score_window(output, torch.ones(len(rows)), objects, rows, (0.0, 0.0, width, height), size)
    return join_windows([(rows, columns)], objects, probs, map_size or size, objects.boxes if prompt_boxes is None else prompt_boxes)


def score_window(
    output: MaskBatch, consensus: Tensor, objects: Objects, rows: np.ndarray, window: Window, size: int
) -> dict[str, np.ndarray]:
    """SAM's masks in a window of the objects with the numbers ``rows`` (n,), scored: fields of Mined; the window holds these objects.

    ``consensus`` (n,) is that of the alternative masks which these are the mean of.
    """
    components = torch.from_numpy(crop_pixels(objects.components, window)).to(output.low_res_logits.device)
    chunk = max(1, PIXELS_PER_CHUNK // max(components.numel(), output.input_side**2))
    parts = [slice(i, i + chunk) for i in range(0, len(rows), chunk)]
    counts = [count_pixels(output.at_image_size(part), components, rows[part] + 1) for part in parts]
    area, lower, higher, common = np.concatenate([np.zeros((0, 4), np.int64), *counts]).T
    prompted = objects.area[rows]
    return {
        "windows": np.tile(np.array(window, dtype=np.float32), (len(rows), 1)),
        "predicted_iou": output.predicted_iou.cpu().numpy().astype(np.float32),
        "stability": (higher / np.maximum(lower, 1)).astype(np.float32),
        "agreement": (common / np.maximum(area + prompted - common, 1)).astype(np.float32),
        "consensus": consensus.cpu().numpy().astype(np.float32),
        "area_ratio": (np.minimum(area, prompted) / np.maximum(np.maximum(area, prompted), 1)).astype(np.float32),
        "area": area.astype(np.int64),
        "probs": quantize(output.on_grid(size).sigmoid().cpu().numpy()),
    }


def join_windows(
    scored: Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]],
    objects: Objects,
    probs: np.ndarray,
    map_size: int,
    prompt_boxes: np.ndarray,
) -> Mined:
    """What was mined in an image, from the numbers of the objects in each window and what ``score_window`` found of them; the network's
    map is kept as a square of ``map_size``."""
    order = np.argsort(np.concatenate([rows for rows, _ in scored]))
    columns = {name: np.concatenate([found[name] for _, found in scored])[order] for name in scored[0][1]}
    return Mined(
        image_size=objects.components.shape,
        class_id=objects.class_id,
        boxes=objects.boxes,
        prompt_boxes=prompt_boxes,
        confidence=objects.confidence,
        ensemble=np.ones(len(objects), np.float32),
        **columns,
        network_probs=quantize(np.stack([resize(p, map_size, Image.Resampling.BILINEAR) for p in probs])),
        components=np.maximum(resize(objects.components, map_size, Image.Resampling.NEAREST), 0).astype(np.uint16),
    )


def count_pixels(logits: Tensor, components: Tensor, numbers: np.ndarray) -> np.ndarray:
    """(n, 4) int64 pixels of n masks: area, area of the threshold moved down, up, intersection with the object that prompted.

    Objects have the ``numbers`` (n,) in ``components``.
    """
    if logits.device.type == "cpu":  # numpy compares and counts many times faster there
        return count_on_cpu(logits.numpy(), components.numpy(), numbers)
    return count_on_gpu(logits, components, numbers)


def count_on_cpu(logits: np.ndarray, components: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    counts = np.empty((len(numbers), 4), np.int64)
    for i, (own, number) in enumerate(zip(logits, numbers.tolist(), strict=True)):
        counts[i] = [np.count_nonzero(mask) for mask in threshold(own, components == number)]
    return counts


def count_on_gpu(logits: Tensor, components: Tensor, numbers: np.ndarray) -> np.ndarray:
    prompted = components == torch.from_numpy(numbers).to(components).view(-1, 1, 1)
    return torch.stack([mask.sum(dim=(1, 2)) for mask in threshold(logits, prompted)], dim=1).cpu().numpy()


def threshold(logits: Any, prompted: Any) -> tuple[Any, ...]:
    """The maps that ``count_pixels`` counts, of arrays or tensors."""
    mask = logits > 0
    return mask, logits > -STABILITY_OFFSET, logits > STABILITY_OFFSET, mask & prompted


def quantize(probs: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8 0..255."""
    return np.rint(probs * 255).astype(np.uint8)


def nothing_found(objects: Objects, probs: np.ndarray, size: int, map_size: int) -> Mined:
    """What is mined in an image in which no object was found: the network's map alone."""
    none = MaskBatch(torch.zeros(0, size, size), torch.zeros(0), objects.components.shape, (size, size), size)
    return score_masks(none, objects, probs, map_size=map_size)


def pseudo_label(mined: Mined, policy: Policy, num_classes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, size, size) target and (size, size) weight of ``weighed_target``, the image resized to a square."""
    return weighed_target(mined, policy, num_classes, (size, size))


def weighed_target(mined: Mined, policy: Policy, num_classes: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(K, h, w) float32 soft target, summing to 1, and (h, w) float32 pixel weight, on a grid (h, w) over the image.

    The target is that of ``compose_label``. A pixel's weight is how certain that is, (2 - entropy in bits) / 2, times the mean trust
    in the accepted objects, times ``disagreement_weight`` where SAM and the network disagree; 0 where a rejected object is ignored.
    In an image without an accepted object it is ``sure_pixels`` times the certainty where the probability of a class reaches SURE: what
    was not found is little proof of background. Source of the certainty: IPLC, github.com/HiLab-git/IPLC.
    """
    reason = decide(mined, policy)
    label = compose_label(mined, reason, network_map(mined, num_classes, shape), policy.sam_share)
    accepted = reason == 0
    believed = trust(mined, policy)[accepted].mean() if accepted.any() else policy.sure_pixels * (label.target.max(axis=0) >= SURE)
    weight = (believed * certainty(label.target)).astype(np.float32)
    weight[label.disputed] *= np.float32(policy.disagreement_weight)
    weight[label.ignored] = 0
    return label.target, weight


def trust(mined: Mined, policy: Policy) -> np.ndarray:
    """(N,) in [0, 1]: the probability that an object is right; without a calibration, predicted IoU times agreement."""
    return quality_of(mined, policy) if policy.quality else (mined.predicted_iou * mined.agreement).clip(0, 1)


def unlabeled_sample(case: Case, num_classes: int, size: int) -> Sample:
    """The image of an unlabeled case at the network's size; its weight is 0 everywhere."""
    return Sample(to_input(read_case_image(case), size), torch.zeros(num_classes, size, size), torch.zeros(size, size))


def mined_sample(image: np.ndarray, mined: Mined, policy: Policy, num_classes: int, size: int) -> Sample:
    """An image (H, W, 3) uint8 with the pseudo-label of what was mined in it, at the network's size."""
    target, weight = pseudo_label(mined, policy, num_classes, size)
    return Sample(to_input(image, size), torch.from_numpy(target), torch.from_numpy(weight))


def pseudo_sample(case: Case, store: Store, policy: Policy, num_classes: int, size: int) -> Sample:
    """``mined_sample`` of an unlabeled case in a store."""
    return mined_sample(read_case_image(case), store.read(case.id), policy, num_classes, size)


def stored_sample(case: Case, usable: Set[str], store: Store, policy: Policy, num_classes: int, size: int) -> Sample:
    """An unlabeled case with its pseudo-label where that is usable; with weight 0 where not."""
    return pseudo_sample(case, store, policy, num_classes, size) if case.id in usable else unlabeled_sample(case, num_classes, size)


def unlabeled_loader(store: Store | None, policy: Policy | None, usable: Set[str], num_classes: int, size: int) -> Callable[[Case], Sample]:
    """What loads any unlabeled case, with what stands of it in a store: the pseudo-labels of the ``usable`` ones."""
    if store is None or policy is None:
        return partial(unlabeled_sample, num_classes=num_classes, size=size)
    return partial(stored_sample, usable=usable, store=store, policy=policy, num_classes=num_classes, size=size)


def mined_label(mined: Mined, policy: Policy, num_classes: int) -> np.ndarray:
    """(H, W) uint8: the classes of the label at image size, background where it is ignored; without an accepted object there is none."""
    return np.nan_to_num(mined_target(mined, policy, num_classes)).argmax(axis=0).astype(np.uint8)


def mined_target(mined: Mined, policy: Policy, num_classes: int) -> np.ndarray:
    """(K, H, W) float32: the soft label at image size, summing to 1, NaN where it is ignored; without an accepted object everywhere."""
    reason = decide(mined, policy)
    if not (reason == 0).any():
        return np.full((num_classes, *mined.image_size), np.nan, dtype=np.float32)
    label = compose_label(mined, reason, network_map(mined, num_classes, mined.image_size), policy.sam_share)
    return np.where(label.ignored, np.float32(np.nan), label.target)


def accepted_ids(store: Store, policy: Policy) -> list[str]:
    """The images with an accepted object, in the order of the store."""
    accepted = store.objects["image"][find_reasons(store, policy) == 0]
    return [store.ids[row] for row in np.unique(accepted).tolist()]


def usable_ids(store: Store, policy: Policy) -> list[str]:
    """The images of which something is learnt: those with an accepted object and, by ``sure_pixels``, those with a sure pixel."""
    accepted = set(accepted_ids(store, policy))
    return [name for name in store.ids if name in accepted or (policy.sure_pixels and has_sure_pixels(store, name, policy))]


def has_sure_pixels(store: Store, image_id: str, policy: Policy) -> bool:
    """Whether a pixel of an image weighs anything."""
    return bool(pseudo_label(store.read(image_id), policy, store.num_classes, store.mask_size)[1].any())


def certainty(target: np.ndarray) -> np.ndarray:
    """(2 - H) / 2 of (K, S, S) probabilities, H in bits, at most 1: 1 where certain, 0.5 or less where not."""
    entropy = -(target * np.log2(np.clip(target, 1e-6, 1))).sum(axis=0)
    return ((2 - np.minimum(entropy, 2)) / 2).astype(np.float32)
