"""SAM's training: which weights learn, the loss of its outputs, and clicks that correct them. Used by ``adapt``."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samsemi.adaptation.prompt_samples import PromptedSample
from samsemi.collectives import summed, uniform
from samsemi.sam.lora import add_lora
from samsemi.sam.protocol import SamNetwork, choose_mask
from samsemi.sam.simulation import POINTS

KINDS = ("box", "point", "box+point", "box+point+mask")
"""Every image is prompted once with each of these kinds."""
Points = tuple[Tensor, Tensor] | None
"""(B, P, 2) x y and (B, P) labels."""


def choose_learned(network: SamNetwork, everything: bool, lora: int | None) -> None:
    """Let prompt encoder and mask decoder learn; with ``everything`` the image encoder too, with ``lora`` adapters in it."""
    network.requires_grad_(True)
    network.image_encoder.requires_grad_(everything)
    if lora:
        add_lora(network, lora)


class PromptedSam(nn.Module):
    """A SAM in training: a batch of prompted samples -> loss terms 'mask' and 'predicted_iou', averaged over all its outputs.

    Object q of an image is prompted by ``kinds[q]``, with one to POINTS points. One kind, drawn by torch's generator, is
    corrected ``clicks`` times by a point in the error, with the mask before as mask prompt: of a lone point the best of three, else the
    single one. Masks weigh by the trust in their target; how good the mask is, is learnt from all. On a nested object one point may
    mean several.
    Source: section 3 and appendix A of SAM, arXiv 2304.02643.
    """

    def __init__(self, network: SamNetwork, side: int, kinds: Sequence[str], multimask: bool, clicks: int):
        super().__init__()
        self.network, self.side = network, side
        self.kinds, self.multimask, self.clicks = tuple(kinds), multimask, clicks

    def forward(self, sample: PromptedSample) -> dict[str, Tensor]:
        embedding = sample.image if isinstance(sample.image, Mapping) else self.network.encode(sample.image)
        num_points, corrected = int(torch.randint(1, POINTS + 1, ())), int(torch.randint(len(self.kinds), ()))
        losses: list[Tensor] = []
        for q in range(len(self.kinds)):
            losses += self.object_losses(embedding, sample, q, num_points, self.clicks if q == corrected else 0)
        known = summed(sample.known.sum()).clamp(min=1)
        mask, iou = summed(torch.stack(losses).sum(dim=(0, 2))) / known * len(self.kinds) / len(losses)
        return {"mask": mask, "predicted_iou": iou}

    def object_losses(self, embedding: Mapping[str, Tensor], sample: PromptedSample, q: int, num_points: int, clicks: int) -> list[Tensor]:
        """(2, B) mask loss and error of the predicted IoU for object q of each image, and again after each click."""
        kind = self.kinds[q]
        points = (sample.coords[:, q, :num_points], sample.labels[:, q, :num_points]) if "point" in kind else None
        boxes = sample.boxes[:, q] if "box" in kind else None
        masks = sample.rough[:, q, None] if "mask" in kind else None
        target, known, valid = sample.target[:, q], sample.known[:, q], sample.valid
        weights = torch.stack([known * sample.trust[:, q], known])
        ambiguous = sample.nested[:, q] * (self.multimask and kind == "point" and num_points == 1)
        losses = []
        for clicks_left in range(clicks, -1, -1):
            logits, predicted_iou = self.network.decode(embedding, *self.network.embed_prompts(points, boxes, masks))
            losses.append(output_losses(logits, predicted_iou, target, valid, self.multimask, ambiguous) * weights)
            if clicks_left:
                lone = points is not None and points[0].shape[1] == 1 and boxes is None and masks is None
                best = choose_mask(logits, predicted_iou, self.multimask and lone)[0].detach()
                masks = best[:, None]
                points, ambiguous = add_click(points, best, target, valid, self.side), torch.zeros_like(ambiguous)
        return losses


def output_losses(logits: Tensor, predicted_iou: Tensor, target: Tensor, valid: Tensor, multimask: bool, ambiguous: Tensor) -> Tensor:
    """(2, B): mask loss, and squared error of the predicted IoU, in the ``valid`` (B, m, m) pixels, of (B, 4, m, m) logits.

    The single mask and all three others learn the object; where ``ambiguous`` (B,) is 1, of the three mostly the best.
    """
    masks = mask_losses(logits, target, valid)
    iou = torch.square(predicted_iou - true_iou(logits, target, valid))
    if not multimask:
        return torch.stack([masks[:, 0], iou[:, 0]])
    single, three = masks[:, 0], masks[:, 1:]
    sure, unsure = 0.25 * single + three.mean(dim=1), 0.4 * single + 0.6 * three.min(dim=1).values + 0.25 * three.mean(dim=1)
    mask = torch.where(ambiguous > 0, unsure, sure)
    return torch.stack([mask, iou.mean(dim=1)])


def mask_losses(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Focal-weighted cross-entropy, scaled up for small objects, plus Dice with squared denominators: (B, M), of logits
    (B, M, m, m) against a soft target (B, m, m), in the ``valid`` (B, m, m) pixels."""
    goal = (target * valid)[:, None].expand_as(logits)
    probs = logits.sigmoid() * valid[:, None]
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none") * (0.25 + (probs.detach() - goal).abs()) * valid[:, None]
    dice = 1 - (2 * (probs * goal).sum(dim=(2, 3)) + 1) / (probs.square().sum(dim=(2, 3)) + goal.square().sum(dim=(2, 3)) + 1)
    return 2 * entropy.mean(dim=(2, 3)) / goal.mean(dim=(2, 3)).clamp(min=0.02).sqrt() + dice


@torch.no_grad()
def true_iou(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """(B, M) IoU of logits (B, M, m, m) above 0 with a target (B, m, m) above 0.5 in the ``valid`` pixels; 1 where neither has any."""
    known = valid[:, None] > 0.5
    found, truth = (logits > 0) & known, (target[:, None] > 0.5) & known
    union = (found | truth).sum(dim=(2, 3))
    return torch.where(union > 0, (found & truth).sum(dim=(2, 3)) / union.clamp(min=1), 1.0)


@torch.no_grad()
def add_click(points: Points, logits: Tensor, target: Tensor, valid: Tensor, side: int) -> Points:
    """The points with one more, deep in the error of logits (B, m, m): positive where the object was missed, else negative.

    Without an error the click has label -1, which SAM reads as no point.
    """
    truth = target > 0.5
    error = ((logits > 0) != truth) & (valid > 0.5)
    size = logits.shape[-1]
    place = (depth(error) * (0.8 + 0.2 * uniform(logits))).flatten(1).argmax(dim=1)
    coords = (torch.stack([place % size, place // size], dim=1) + 0.5) * side / size - 0.5
    missed = truth.flatten(1).gather(1, place[:, None])[:, 0].float()
    labels = torch.where(error.flatten(1).any(dim=1), missed, -1.0)
    if points is None:
        return coords[:, None], labels[:, None]
    return torch.cat([points[0], coords[:, None]], dim=1), torch.cat([points[1], labels[:, None]], dim=1)


def depth(region: Tensor) -> Tensor:
    """How deep each pixel lies in regions (B, m, m) bool, in rising order of its distance to the outside: mean of box blurs."""
    inside = region[:, None].float()
    sides = [2 * (region.shape[-1] // k) + 1 for k in (64, 16, 6, 4)]
    rows = [F.avg_pool2d(inside, (side, 1), 1, (side // 2, 0)) for side in sides]
    blurs = [F.avg_pool2d(blur, (1, side), 1, (0, side // 2)) for blur, side in zip(rows, sides, strict=True)]
    return (sum(blurs) * inside)[:, 0]
