"""SAM's answers -> scores -> a decision -> a soft label with pixel weights.

``score`` measures an answer when it is mined; ``decide`` and ``pseudo_label`` are pure functions of what is stored, so
that thresholds can be changed without asking SAM again.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samsemi.batches import Sample
from samsemi.dataset import Case
from samsemi.images import read_image
from samsemi.models import to_input
from samsemi.prompts import Objects
from samsemi.sam import MaskBatch
from samsemi.store import Mined, Store

STABILITY_OFFSET = 1.0
"""Logits by which the threshold is moved down and up. Source: segment-anything, automatic_mask_generator.py."""
PIXELS_PER_CHUNK = 2**24
"""Mask pixels that are scored at once: bounds the memory."""
REASONS = ("accepted", "empty", "confidence", "predicted_iou", "stability", "agreement")
"""Why an object is accepted or, by the first test that it fails, rejected."""


@dataclass(frozen=True)
class Policy:
    """What is accepted: every threshold must be reached. Chosen on the validation cases of Kvasir-SEG with ``tiny``."""

    min_confidence: float = 0.7
    min_predicted_iou: float = 0.5
    min_stability: float = 0.0
    min_agreement: float = 0.5


def score(answer: MaskBatch, objects: Objects, size: int | None = None) -> Mined:
    """Score one image's answers against the objects that asked; masks are kept at SAM's own resolution, or ``size``."""
    size = size or answer.low_res_logits.shape[-1]
    components = torch.from_numpy(objects.components).to(answer.low_res_logits.device)
    rows = max(1, PIXELS_PER_CHUNK // max(components.numel(), answer.input_side**2))
    counts = [count_pixels(answer.at_image_size(slice(i, i + rows)), components, i) for i in range(0, len(answer), rows)]
    area, lower, higher, common, union = torch.cat(counts).T.cpu().numpy() if counts else np.zeros((5, 0))
    return Mined(
        image_size=answer.image_size,
        class_id=objects.class_id,
        boxes=objects.boxes,
        predicted_iou=answer.predicted_iou.cpu().numpy().astype(np.float32),
        stability=(higher / np.maximum(lower, 1)).astype(np.float32),
        agreement=(common / np.maximum(union, 1)).astype(np.float32),
        confidence=objects.confidence,
        area=area.astype(np.int64),
        probs=quantize(answer.on_grid(size).sigmoid().cpu().numpy()),
        prior=quantize(1 / (1 + np.exp(-objects.logits(size)))),
    )


def count_pixels(logits: Tensor, components: Tensor, first: int) -> Tensor:
    """(n, 5) pixels of n masks: area, area of the threshold moved down, up, intersection and union with the asking object."""
    asked = components == torch.arange(first + 1, first + 1 + len(logits), device=components.device).view(-1, 1, 1)
    mask = logits > 0
    maps = (mask, logits > -STABILITY_OFFSET, logits > STABILITY_OFFSET, mask & asked, mask | asked)
    return torch.stack([m.sum(dim=(1, 2)) for m in maps], dim=1)


def quantize(probs: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8 0..255."""
    return np.rint(probs * 255).astype(np.uint8)


def decide(mined: Mined, policy: Policy) -> np.ndarray:
    """(N,) index into REASONS for each object."""
    failed = np.stack(
        [
            mined.area == 0,
            ~(mined.confidence >= policy.min_confidence),
            ~(mined.predicted_iou >= policy.min_predicted_iou),
            ~(mined.stability >= policy.min_stability),
            ~(mined.agreement >= policy.min_agreement),
        ]
    )
    return np.where(failed.any(axis=0), failed.argmax(axis=0) + 1, 0)


def pseudo_label(mined: Mined, policy: Policy, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, S, S) float32 soft target, summing to 1, and (S, S) float32 pixel weight, the image squeezed into a square.

    A pixel's target is SAM's probability of each class there, the rest is background. Its weight is how certain that
    is, (2 - entropy in bits) / 2, times the mean score of the accepted objects; 0 in the boxes and masks of rejected
    objects, and everywhere in an image without an accepted one: what was not found is no proof of background.
    Source of the pixel weight: IPLC, github.com/HiLab-git/IPLC.
    """
    accepted = decide(mined, policy) == 0
    size = mined.probs.shape[-1]
    target = np.zeros((num_classes, size, size), dtype=np.float32)
    for class_id, probs in zip(mined.class_id[accepted], mined.probs[accepted], strict=True):
        target[class_id] = np.maximum(target[class_id], probs / np.float32(255))
    if not accepted.any():
        target[0] = 1
        return target, np.zeros((size, size), dtype=np.float32)
    foreground = target.sum(axis=0)
    target /= np.maximum(foreground, 1)
    target[0] = 1 - target[1:].sum(axis=0)
    trust = float((mined.predicted_iou * mined.agreement)[accepted].clip(0, 1).mean())
    weight = trust * certainty(target)
    weight[rejected_region(mined, ~accepted)] = 0
    return target, weight


def pseudo_sample(case: Case, store: Store, policy: Policy, num_classes: int, size: int) -> Sample:
    """The image of an unlabeled case with its pseudo-label, at the network's size."""
    target, weight = pseudo_label(store.read(case.id), policy, num_classes)
    maps = F.interpolate(torch.from_numpy(np.concatenate([target, weight[None]]))[None], (size, size), mode="bilinear")[0]
    return Sample(to_input(read_image(case.image), size), maps[:-1], maps[-1])


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


def rejected_region(mined: Mined, rejected: np.ndarray) -> np.ndarray:
    """(S, S) bool: boxes and masks of the rejected objects."""
    size = mined.probs.shape[-1]
    region = np.zeros((size, size), dtype=bool)
    height, width = mined.image_size
    for i in np.flatnonzero(rejected):
        x0, y0, x1, y1 = mined.boxes[i]
        rows = slice(int(y0 * size / height), int(np.ceil((y1 + 1) * size / height)))
        columns = slice(int(x0 * size / width), int(np.ceil((x1 + 1) * size / width)))
        region[rows, columns] = True
        region |= (mined.probs[i] > 127) | (mined.prior[i] > 127)
    return region
