"""Losses on soft targets with pixel weights. One representation for all: a (B, K, H, W) target and a (B, H, W) weight.

A hard label is a one-hot target; an ignored pixel has weight 0. Every loss is averaged over the valid pixels, those
with a weight above 0, so that ignored ones do not dilute it; without a valid pixel it is 0 and so is its gradient.
Losses between networks, which need no target, follow after them. Where several processes train together, the batch is that of all.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from samsemi.collectives import mean, summed

SMOOTH = 1e-5
EPS = 1e-6


def segmentation_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy plus Dice: (B, K, H, W) logits and soft target, (B, H, W) pixel weights -> scalar."""
    return cross_entropy(logits, target, weight) + dice_loss(logits.softmax(dim=1), target, weight)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted soft cross-entropy, averaged over the valid pixels."""
    per_pixel = -(target * F.log_softmax(logits, dim=1)).sum(dim=1)
    return summed((per_pixel * weight).sum()) / summed((weight > 0).sum()).clamp(min=1)


def dice_loss(probs: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - Dice with squared denominators (least at probs = target, soft targets too), over the whole batch.

    Averaged over the classes that the target holds, as the most probable one of some valid pixel: Dice knows no scale, so that the
    residue of a soft target, .01 of a class everywhere, would pull as much as an object. Scaled by the mean weight of the valid pixels,
    so that distrusted labels pull less. Source: V-Net, arXiv 1606.04797.
    """
    w = weight.unsqueeze(1)
    intersection = summed((w * probs * target).sum(dim=(0, 2, 3)))
    sizes = summed((w * (probs**2 + target**2)).sum(dim=(0, 2, 3)))
    most_probable = (target == target.amax(dim=1, keepdim=True)) & (target * w > 0)
    present = (summed(most_probable.sum(dim=(0, 2, 3))) > 0).to(probs.dtype)
    per_class = 1 - (2 * intersection + SMOOTH) / (sizes + SMOOTH)
    trust = summed(weight.sum()) / summed((weight > 0).sum()).clamp(min=1)
    return trust * (per_class * present).sum() / present.sum().clamp(min=1)


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(logits / T)), averaged over all pixels: (B, K, H, W) logits of both -> scalar.

    The teacher gets no gradient. Source: arXiv 1503.02531; KnowSAM, arXiv 2412.13742.
    """
    log_probs = F.log_softmax(logits.float() / temperature, dim=1)
    targets = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    divergence = F.kl_div(log_probs, targets, reduction="none", log_target=True)
    return temperature**2 * mean(divergence.sum(dim=1))


def entropy(logits: Tensor) -> Tensor:
    """(B, K, H, W) -> (B, 1, H, W), in nats: 0 to log K."""
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1, keepdim=True)


def entropy_loss(logits: Tensor) -> Tensor:
    """How uncertain a network is, averaged over all pixels, from 0 to 1 whatever the number of classes: (B, K, H, W) -> scalar."""
    return mean(entropy(logits)) / math.log(logits.shape[1])


def mutual_loss(logits: Tensor, other: Tensor) -> Tensor:
    """Binary cross-entropy of each class's probability with that of another network, which gets no gradient; mean over all.

    Source: KnowSAM, arXiv 2412.13742.
    """
    probs, targets = logits.softmax(dim=1).clamp(EPS, 1 - EPS), other.detach().softmax(dim=1)
    return -mean(targets * probs.log() + (1 - targets) * (1 - probs).log())
