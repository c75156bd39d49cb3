"""SAM's masks -> scores; stored scores and masks -> a soft label with pixel weights.

``score_masks`` measures masks when they are mined; ``pseudo_label`` is a pure function of what is stored and of the policy.
"""

from collections.abc import Callable, Set
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samsemi.data.dataset import Case, read_case_image
from samsemi.mining.policy import Policy, decide, quality_of
from samsemi.mining.scores import REASONS
from samsemi.mining.store import Mined, Store
from samsemi.sam.prompts import Objects
from samsemi.sam.protocol import MaskBatch
from samsemi.segmenters.segmenter import to_input
from samsemi.training.batches import Sample

STABILITY_OFFSET = 1.0
"""Logits by which the threshold is moved down and up. Source: segment-anything, automatic_mask_generator.py."""
PIXELS_PER_CHUNK = 2**24
"""Mask pixels that are scored at once: bounds the memory."""
LEAST_CERTAINTY = np.float32(1e-3)
"""Weight of a pixel of probability 0.5, where one of 0 or 1 weighs 1."""


def score_masks(output: MaskBatch, objects: Objects, size: int | None = None, consensus: Tensor | None = None) -> Mined:
    """Score SAM's masks of one image against the objects that prompted; masks are kept at SAM's own resolution, or ``size``.

    ``consensus`` (N,) is that of the alternative masks which these are the mean of; 1 without.
    """
    size = size or output.low_res_logits.shape[-1]
    components = torch.from_numpy(objects.components).to(output.low_res_logits.device)
    rows = max(1, PIXELS_PER_CHUNK // max(components.numel(), output.input_side**2))
    counts = [count_pixels(output.at_image_size(slice(i, i + rows)), components, i) for i in range(0, len(output), rows)]
    area, lower, higher, common, union = torch.cat(counts).T.cpu().numpy() if counts else np.zeros((5, 0))
    return Mined(
        image_size=output.image_size,
        class_id=objects.class_id,
        boxes=objects.boxes,
        predicted_iou=output.predicted_iou.cpu().numpy().astype(np.float32),
        stability=(higher / np.maximum(lower, 1)).astype(np.float32),
        agreement=(common / np.maximum(union, 1)).astype(np.float32),
        consensus=np.ones(len(objects), np.float32) if consensus is None else consensus.cpu().numpy().astype(np.float32),
        confidence=objects.confidence,
        area_ratio=(np.minimum(area, objects.area) / np.maximum(np.maximum(area, objects.area), 1)).astype(np.float32),
        area=area.astype(np.int64),
        probs=quantize(output.on_grid(size).sigmoid().cpu().numpy()),
        prior=quantize(1 / (1 + np.exp(-objects.logits(size)))),
    )


def count_pixels(logits: Tensor, components: Tensor, first: int) -> Tensor:
    """(n, 5) pixels of n masks: area, area of the threshold moved down, up, intersection and union with the object that prompted."""
    prompted = components == torch.arange(first + 1, first + 1 + len(logits), device=components.device).view(-1, 1, 1)
    mask = logits > 0
    maps = (mask, logits > -STABILITY_OFFSET, logits > STABILITY_OFFSET, mask & prompted, mask | prompted)
    return torch.stack([m.sum(dim=(1, 2)) for m in maps], dim=1)


def quantize(probs: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8 0..255."""
    return np.rint(probs * 255).astype(np.uint8)


def pseudo_label(mined: Mined, policy: Policy, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, S, S) float32 soft target, summing to 1, and (S, S) float32 pixel weight, the image resized to a square.

    A pixel's target is the probability of each class there, of SAM and the U-Net++ blended; the rest is background. Its
    weight is how certain that is, (2 - entropy in bits) / 2, times the mean trust in the accepted objects, times
    ``disagreement_weight`` where the two disagree; 0 in the boxes and masks of rejected objects, unless they are
    background, and everywhere in an image without an accepted one: what was not found is no proof of background.
    Source of the pixel weight: IPLC, github.com/HiLab-git/IPLC.
    """
    reason = decide(mined, policy)
    accepted, ignored = reason == 0, (reason > 0) & (reason != REASONS.index("background"))
    size = mined.probs.shape[-1]
    target = np.zeros((num_classes, size, size), dtype=np.float32)
    disputed = np.zeros((size, size), dtype=bool)
    for i in np.flatnonzero(accepted).tolist():
        target[mined.class_id[i]] = np.maximum(target[mined.class_id[i]], blend(mined, i, policy.sam_share))
        disputed |= (mined.probs[i] > 127) != (mined.prior[i] > 127)
    if not accepted.any():
        target[0] = 1
        return target, np.zeros((size, size), dtype=np.float32)
    foreground = target.sum(axis=0)
    target /= np.maximum(foreground, 1)
    target[0] = 1 - target[1:].sum(axis=0)
    weight = trust(mined, policy)[accepted].mean() * certainty(target)
    weight[disputed] *= np.float32(policy.disagreement_weight)
    weight[region_of(mined, ignored)] = 0
    return target, weight


def blend(mined: Mined, i: int, sam_share: float) -> np.ndarray:
    """(S, S) float32: probability of object i, the mean of SAM's and the U-Net++'s.

    Each weighs by its share, times its confidence in the object (predicted IoU, confidence) and in the pixel, |2 p - 1|.
    """
    maps = np.stack([mined.probs[i], mined.prior[i]]) / np.float32(255)
    confidence = np.array([sam_share * mined.predicted_iou[i], (1 - sam_share) * mined.confidence[i]], dtype=np.float32).clip(0)
    weights = confidence[:, None, None] * (np.abs(2 * maps - 1) + LEAST_CERTAINTY) if confidence.any() else np.ones_like(maps)
    return (weights * maps).sum(axis=0) / weights.sum(axis=0)


def trust(mined: Mined, policy: Policy) -> np.ndarray:
    """(N,) in [0, 1]: the probability that an object is right; without a calibration, predicted IoU times agreement."""
    return quality_of(mined, policy) if policy.quality else (mined.predicted_iou * mined.agreement).clip(0, 1)


def unlabeled_sample(case: Case, num_classes: int, size: int) -> Sample:
    """The image of an unlabeled case at the network's size; its weight is 0 everywhere."""
    return Sample(to_input(read_case_image(case), size), torch.zeros(num_classes, size, size), torch.zeros(size, size))


def pseudo_sample(case: Case, store: Store, policy: Policy, num_classes: int, size: int) -> Sample:
    """The image of an unlabeled case with its pseudo-label, at the network's size."""
    target, weight = pseudo_label(store.read(case.id), policy, num_classes)
    maps = F.interpolate(torch.from_numpy(np.concatenate([target, weight[None]]))[None], (size, size), mode="bilinear")[0]
    return Sample(to_input(read_case_image(case), size), maps[:-1], maps[-1])


def stored_sample(case: Case, usable: Set[str], store: Store, policy: Policy, num_classes: int, size: int) -> Sample:
    """An unlabeled case with its pseudo-label where that is usable; with weight 0 where not."""
    return pseudo_sample(case, store, policy, num_classes, size) if case.id in usable else unlabeled_sample(case, num_classes, size)


def unlabeled_loader(store: Store | None, policy: Policy | None, usable: Set[str], num_classes: int, size: int) -> Callable[[Case], Sample]:
    """What loads any unlabeled case, with what stands of it in a store: the pseudo-labels of the ``usable`` ones."""
    if store is None or policy is None:
        return partial(unlabeled_sample, num_classes=num_classes, size=size)
    return partial(stored_sample, usable=usable, store=store, policy=policy, num_classes=num_classes, size=size)


def mined_label(mined: Mined, policy: Policy, num_classes: int) -> np.ndarray:
    """(H, W) uint8 class map of the accepted objects, at image size."""
    target, _ = pseudo_label(mined, policy, num_classes)
    return F.interpolate(torch.from_numpy(target)[None], mined.image_size, mode="bilinear")[0].argmax(dim=0).numpy().astype(np.uint8)


def usable_ids(store: Store, policy: Policy) -> list[str]:
    """The images with an accepted object, in the order of the store."""
    return [name for name in store.ids if (decide(store.read(name, maps=False), policy) == 0).any()]


def certainty(target: np.ndarray) -> np.ndarray:
    """(2 - H) / 2 of (K, S, S) probabilities, H in bits, at most 1: 1 where certain, 0.5 or less where not."""
    entropy = -(target * np.log2(np.clip(target, 1e-6, 1))).sum(axis=0)
    return ((2 - np.minimum(entropy, 2)) / 2).astype(np.float32)


def region_of(mined: Mined, chosen: np.ndarray) -> np.ndarray:
    """(S, S) bool: boxes and masks of the chosen (N,) bool objects."""
    size = mined.probs.shape[-1]
    region = np.zeros((size, size), dtype=bool)
    height, width = mined.image_size
    for i in np.flatnonzero(chosen):
        x0, y0, x1, y1 = mined.boxes[i]
        rows = slice(int(y0 * size / height), int(np.ceil((y1 + 1) * size / height)))
        columns = slice(int(x0 * size / width), int(np.ceil((x1 + 1) * size / width)))
        region[rows, columns] = True
        region |= (mined.probs[i] > 127) | (mined.prior[i] > 127)
    return region
