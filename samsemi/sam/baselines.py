"""What SAM has to beat, as backends of their own, so that they run by the same code: no SAM at all, and a drawn ellipse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samsemi.errors import UsageError
from samsemi.options.sams import SamEntry
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import Embedding, MaskBatch

GRID = 256


@dataclass(frozen=True)
class Baseline:
    """Masks made of the prompts alone, on a square grid over the image."""

    name: str
    prompt_kinds: str | None
    make_masks: Callable[[Prompts, tuple[int, int]], tuple[Tensor, Tensor]]
    """Prompts and (H, W) -> (N, GRID, GRID) logits and (N,) predicted IoU."""
    mask_size: int = GRID

    @property
    def identity(self) -> str:
        return self.name

    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Nothing but the sizes of the images."""
        return [Embedding({}, image.shape[:2]) for image in images]

    def decode(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
        pairs = zip(embeddings, prompts, strict=True)
        return [MaskBatch(*self.make_masks(p, e.image_size), e.image_size, (GRID, GRID), GRID) for e, p in pairs]


def mask_prompts(prompts: Prompts, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The mask prompts themselves; predicted IoU is the mean probability inside."""
    logits = torch.from_numpy(prompts.mask_logits)
    return logits, mean_inside(logits)


def mean_inside(logits: Tensor) -> Tensor:
    """(N,) mean probability inside each mask of (N, S, S) logits; 0 for an empty one."""
    inside = logits > 0
    return (logits.sigmoid() * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)


def ellipse_in_box(prompts: Prompts, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The ellipse that touches the sides of each box. Its predicted IoU is always 1."""
    height, width = image_size
    box = torch.from_numpy(prompts.boxes)[:, :, None, None]
    y = ((torch.arange(GRID) + 0.5) * height / GRID - 0.5).view(1, -1, 1)
    x = ((torch.arange(GRID) + 0.5) * width / GRID - 0.5).view(1, 1, -1)
    half_width, half_height = (box[:, 2] - box[:, 0] + 1) / 2, (box[:, 3] - box[:, 1] + 1) / 2
    distance = (((x - (box[:, 0] + box[:, 2]) / 2) / half_width) ** 2 + ((y - (box[:, 1] + box[:, 3]) / 2) / half_height) ** 2).sqrt()
    pixels_inside = (1 - distance) * torch.minimum(half_width, half_height)
    return (2 * pixels_inside).clamp(-12, 12), torch.ones(len(prompts))


def load_none(entry: SamEntry, checkpoint: Path | None, device: torch.device, precision: str) -> Baseline:
    refuse_checkpoint(entry.name, checkpoint)
    return Baseline(entry.name, entry.prompt_kinds, mask_prompts)


def load_ellipse(entry: SamEntry, checkpoint: Path | None, device: torch.device, precision: str) -> Baseline:
    refuse_checkpoint(entry.name, checkpoint)
    return Baseline(entry.name, entry.prompt_kinds, ellipse_in_box)


def refuse_checkpoint(name: str, checkpoint: Path | None) -> None:
    if checkpoint is not None:
        raise UsageError(f"--sam {name} has no weights", "leave --sam-checkpoint out")
