"""What samsemi asks of a Segment Anything Model: two methods, over values without state.

``encode`` turns images into embeddings, the slow part, once per image; ``decode`` answers the prompts of many images in
one call. A backend owns its preprocessing; images come as (H, W, 3) uint8, prompts in image pixels.

A new backend is a loader in BACKENDS, or the user's own ``--sam package.module:function``; a loader takes
(checkpoint or None, device, precision) and returns a SamBackend.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samsemi.errors import CheckpointError, UsageError
from samsemi.sam.prompts import Prompts


@dataclass(frozen=True)
class Embedding:
    """What SAM knows of one image."""

    features: Tensor
    """(C, h, w) float32."""
    image_size: tuple[int, int]
    """(H, W) of the image."""


@dataclass(frozen=True)
class MaskBatch:
    """SAM's answers to the N prompts of one image."""

    low_res_logits: Tensor
    """(N, h, w) float32 at SAM's mask resolution, over its padded square input; above 0 inside."""
    predicted_iou: Tensor
    """(N,) float32: how good SAM thinks each mask is."""
    image_size: tuple[int, int]
    """(H, W) of the image."""
    input_size: tuple[int, int]
    """(H', W') of the resized image within the square input."""
    input_side: int
    """Side of the square input."""

    def __len__(self) -> int:
        return len(self.predicted_iou)

    def at_image_size(self, rows: slice = slice(None)) -> Tensor:
        """(n, H, W) float32 logits of some of the masks, upscaled in the two steps of SAM's own postprocessing."""
        square = F.interpolate(self.low_res_logits[rows, None], (self.input_side, self.input_side), mode="bilinear")
        inside = square[..., : self.input_size[0], : self.input_size[1]]
        return F.interpolate(inside, self.image_size, mode="bilinear")[:, 0]

    def on_grid(self, size: int) -> Tensor:
        """(N, size, size) float32 logits over the image alone, squeezed into a square, the padding left out."""
        if self.low_res_logits.shape[1:] == (size, size) and self.input_size == (self.input_side, self.input_side):
            return self.low_res_logits
        steps = (torch.arange(size, dtype=torch.float32, device=self.low_res_logits.device) + 0.5) / size
        y, x = (2 * steps * extent / self.input_side - 1 for extent in self.input_size)
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).expand(len(self), -1, -1, -1)
        last = 1 - 1 / self.low_res_logits.shape[-1]  # center of the outermost cell, beyond which its value holds
        return F.grid_sample(self.low_res_logits[:, None], grid.clamp(-last, last), align_corners=False)[:, 0]


def join_answers(answers: Sequence[MaskBatch]) -> tuple[MaskBatch, Tensor]:
    """The mean of several answers to the same objects of one image, and (N,) how far they agree.

    Probabilities and predicted IoU are averaged. Consensus is the mean IoU of each answer with that mean, 0 for an empty
    one; 1 for a single answer that is not empty.
    """
    logits = torch.stack([answer.low_res_logits for answer in answers])
    joined = torch.logit(logits.sigmoid().mean(dim=0), eps=1e-6) if len(answers) > 1 else logits[0]
    common = ((logits > 0) & (joined > 0)).sum(dim=(2, 3))
    union = ((logits > 0) | (joined > 0)).sum(dim=(2, 3))
    predicted_iou = torch.stack([answer.predicted_iou for answer in answers]).mean(dim=0)
    consensus = (common / union.clamp(min=1)).mean(dim=0)
    return replace(answers[0], low_res_logits=joined, predicted_iou=predicted_iou), consensus


class SamBackend(Protocol):
    name: str
    identity: str
    """SHA-256 of the weights, or of what else decides the answers."""
    mask_size: int
    """Side of its low-resolution masks."""
    prompt_kinds: str | None
    """The kinds of prompt that it always takes; None for those that the user chooses."""

    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """(H, W, 3) uint8 RGB images of any sizes -> one embedding each."""
        ...

    def decode(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
        """The answers to each image's prompts; all objects of all images go through the decoder together."""
        ...


Loader = Callable[[Path | None, torch.device, str], SamBackend]

BACKENDS: dict[str, str] = {
    "tiny": "samsemi.sam.original:load_tiny",
    "vit_b": "samsemi.sam.original:load_vit_b",
    "vit_l": "samsemi.sam.original:load_vit_l",
    "vit_h": "samsemi.sam.original:load_vit_h",
    "medsam": "samsemi.sam.original:load_medsam",
    "none": "samsemi.sam.baselines:load_none",
    "ellipse": "samsemi.sam.baselines:load_ellipse",
}


def load_sam(name: str, checkpoint: Path | None, device: torch.device, precision: str = "fp32") -> SamBackend:
    """A backend by name or 'module:function'; UsageError for an unknown one, CheckpointError for missing weights."""
    place = BACKENDS.get(name, name)
    if ":" not in place:
        raise UsageError(f"--sam {name}: unknown backend", f"one of {', '.join(BACKENDS)}, or MODULE:FUNCTION")
    loader: Loader = find_function(place, f"--sam {name}")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise CheckpointError(f"--sam-checkpoint {checkpoint}: no such file", "check the path")
    return loader(checkpoint, device, precision)


def find_function(place: str, said: str) -> Callable:
    """The function of 'module:function'; UsageError, beginning with what was said, where there is none."""
    module, _, function = place.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UsageError(f"{said}: {error}", "give MODULE:FUNCTION, importable; PYTHONPATH=. finds one in this folder") from None
