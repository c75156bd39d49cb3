"""What samsemi needs of a Segment Anything Model: two methods, over values without state; and what more, to train it.

``encode`` turns images into embeddings, the slow part, once per image; ``decode`` makes masks of the prompts of many images in
one call. A backend owns its preprocessing; images come as (H, W, 3) uint8, prompts in image pixels.

A new backend is a row of the table in samsemi.options.sams, or the user's own ``--sam package.module:function``, a loader that takes
(checkpoint or None, device, precision) and returns a SamBackend.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samsemi.errors import CheckpointError, UsageError
from samsemi.options.sams import SAMS, Masks, find_entry, find_function
from samsemi.own_code import call_own
from samsemi.sam.preprocessing import Preprocessing
from samsemi.sam.prompts import Prompts

MOST_MASK_SIZE = 4096
LONGEST_NAME = 1000
"""Of a backend, and of its identity."""
KEYS = "keys"
"""What no tensor of an embedding is called: the cache needs the name for itself."""
BACKEND = "see samsemi/sam/protocol.py for what a backend must return; of a SAM of samsemi, its weights or its cache are damaged"
FEATURES = "features"
"""Name of the tensor of an embedding that every network has: (C, h, w), its features of the image."""


@dataclass(frozen=True)
class Embedding:
    """SAM's embedding of one image."""

    tensors: Mapping[str, Tensor]
    """float32, by name, of the same shapes for all images; which ones is up to the backend; named like variables, none KEYS."""
    image_size: tuple[int, int]
    """(H, W) of the image."""


@dataclass(frozen=True)
class MaskBatch:
    """SAM's masks of the N prompts of one image."""

    low_res_logits: Tensor
    """(N, h, w) float32 at SAM's mask resolution, over its padded square input; above 0 inside."""
    predicted_iou: Tensor
    """(N,) float32: the IoU that SAM predicts for each mask."""
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
        if self.input_size == self.image_size:
            return inside[:, 0]
        return F.interpolate(inside, self.image_size, mode="bilinear")[:, 0]

    def on_grid(self, size: int) -> Tensor:
        """(N, size, size) float32 logits over the image alone, resized without keeping the aspect ratio, the padding left out."""
        if self.low_res_logits.shape[1:] == (size, size) and self.input_size == (self.input_side, self.input_side):
            return self.low_res_logits
        steps = (torch.arange(size, dtype=torch.float32, device=self.low_res_logits.device) + 0.5) / size
        y, x = (2 * steps * extent / self.input_side - 1 for extent in self.input_size)
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).expand(len(self), -1, -1, -1)
        last = 1 - 1 / self.low_res_logits.shape[-1]  # center of the outermost cell, beyond which its value holds
        return F.grid_sample(self.low_res_logits[:, None], grid.clamp(-last, last), align_corners=False)[:, 0]


def average_masks(outputs: Sequence[MaskBatch]) -> tuple[MaskBatch, Tensor]:
    """The mean of several outputs for the same objects of one image, and (N,) their consensus.

    Probabilities and predicted IoU are averaged. Consensus is the mean IoU of each output with that mean, 0 for an empty
    mask; 1 for a single output that is not empty.
    """
    if len(outputs) == 1:
        return outputs[0], (outputs[0].low_res_logits > 0).flatten(1).any(dim=1).float()
    logits = torch.stack([output.low_res_logits for output in outputs])
    joined = torch.logit(logits.sigmoid().mean(dim=0), eps=1e-6)
    common = ((logits > 0) & (joined > 0)).sum(dim=(2, 3))
    union = ((logits > 0) | (joined > 0)).sum(dim=(2, 3))
    predicted_iou = torch.stack([output.predicted_iou for output in outputs]).mean(dim=0)
    consensus = (common / union.clamp(min=1)).mean(dim=0)
    return replace(outputs[0], low_res_logits=joined, predicted_iou=predicted_iou), consensus


@runtime_checkable
class SamBackend(Protocol):
    name: str
    identity: str
    """SHA-256 of the weights, or of what else decides the masks."""
    mask_size: int
    """Side of its low-resolution masks."""
    prompt_kinds: str | None
    """The kinds of prompt that it always takes; None for those that the user chooses."""

    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """(H, W, 3) uint8 RGB images of any sizes -> one embedding each."""
        ...

    def decode(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
        """The masks of each image's prompts; all objects of all images go through the decoder together."""
        ...


class SamNetwork(nn.Module):
    """The network of a SAM that can be trained: batches of tensors, with gradients.

    LoRA goes into the attention of ``image_encoder``; KnowSAM's adapters need parts that are built like segment-anything's.
    """

    image_encoder: Any
    prompt_encoder: Any
    mask_decoder: Any

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, S, S), as its preprocessing makes them -> the tensors of their embeddings (B, ...), float32, FEATURES among them."""
        raise NotImplementedError

    def embed_prompts(self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Points (N, P, 2) x y with labels (N, P), boxes (N, 4) and mask logits (N, 1, m, m), in pixels of the input -> sparse
        (N, T, C) and dense (N, C, h, w) prompt embeddings."""
        raise NotImplementedError

    def decode(self, embedding: Mapping[str, Tensor], sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """N prompts, each with the embedding (N, ...) of its own image -> (N, 4, m, m) mask logits, the single mask first, and (N, 4)
        predicted IoU; float32."""
        raise NotImplementedError

    def decode_one(
        self, embedding: Mapping[str, Tensor], owner: Tensor, sparse: Tensor, dense: Tensor, three: bool
    ) -> tuple[Tensor, Tensor]:
        """As ``decode``, but without gradients and of each prompt one mask (N, m, m) and its predicted IoU (N,), as of ``choose_mask``;
        ``embedding`` (I, ...) has each image once, ``owner`` (N,) is that of each prompt."""
        return choose_mask(*self.decode(of_owners(embedding, owner), sparse, dense), three)


def of_owners(embedding: Mapping[str, Tensor], owner: Tensor) -> dict[str, Tensor]:
    """The tensors of images (I, ...) for prompts (N, ...), ``owner`` (N,) being the image of each."""
    return {name: values[owner] for name, values in embedding.items()}


def choose_mask(masks: Tensor, predicted_iou: Tensor, three: bool) -> tuple[Tensor, Tensor]:
    """(N, m, m) logits and (N,) predicted IoU: of (N, 4, m, m) and (N, 4) the single mask, the first, or the best predicted of the
    other ``three``."""
    return best_mask(masks[:, 1:], predicted_iou[:, 1:]) if three else (masks[:, 0], predicted_iou[:, 0])


def best_mask(masks: Tensor, predicted_iou: Tensor) -> tuple[Tensor, Tensor]:
    """Of (N, C, m, m) logits and (N, C) predicted IoU the best predicted of each row."""
    best = predicted_iou.argmax(dim=1)
    row = torch.arange(len(best), device=best.device)
    return masks[row, best], predicted_iou[row, best]


def learned_by(sam: SamBackend) -> Mapping[str, str | None]:
    """Ids and hashes of the images that a SAM has learnt, as of ``name_images``; none of a backend that does not say."""
    learned: Mapping[str, str | None] = getattr(sam, "learned", {})
    return learned


@runtime_checkable
class TrainableSam(SamBackend, Protocol):
    """A backend around a network that ``adapt`` and ``distill`` can train."""

    network: SamNetwork
    device: torch.device
    preprocessing: Preprocessing
    side: int
    """Of the network's square input."""
    multimask: bool
    """Whether it gives three masks for a prompt besides the single one."""

    def with_weights_of(self, network: SamNetwork) -> SamBackend:
        """The same backend around another network of the same kind, such as one in training."""
        ...


@runtime_checkable
class ChoosingSam(SamBackend, Protocol):
    """A backend that can take one or another of its masks of a prompt."""

    multimask: bool
    """Whether it gives three masks for a prompt besides the single one."""

    def with_masks(self, masks: Masks) -> SamBackend:
        """The same backend that takes these ones of its masks."""
        ...


def choose_masks(sam: SamBackend, masks: Masks | None) -> SamBackend:
    """The SAM that takes these of its masks, None: as it does; UsageError for the best of three of one that gives a single mask."""
    choosing = isinstance(sam, ChoosingSam) and sam.multimask
    if masks == "best-of-three" and not choosing:
        raise UsageError(f"--masks {masks}: {sam.name} gives a single mask for a prompt", "leave --masks out")
    return sam.with_masks(masks) if masks and isinstance(sam, ChoosingSam) else sam


def need_backend(sam: object, name: str) -> SamBackend:
    """What a loader returned; CheckpointError where that is no SamBackend."""
    kinds = {"name": str, "identity": str, "mask_size": int, "prompt_kinds": str | None, "encode": Callable, "decode": Callable}
    wrong = [key for key, kind in kinds.items() if not isinstance(getattr(sam, key, NotImplemented), kind)]  # type: ignore[arg-type]
    if wrong:
        raise CheckpointError(f"--sam {name}: what it returns has no {', '.join(wrong)} of the right type", BACKEND)
    assert isinstance(sam, SamBackend)
    if wrong := [key for key in ("name", "identity") if not fits_attribute(getattr(sam, key))]:
        raise CheckpointError(f"--sam {name}: its {wrong[0]} is {getattr(sam, wrong[0])!a:.60}", "a line of text is needed")
    if not 0 < sam.mask_size <= MOST_MASK_SIZE:
        raise CheckpointError(f"--sam {name}: its mask_size is {sam.mask_size}", f"a side of 1 to {MOST_MASK_SIZE} pixels is needed")
    return sam


def fits_attribute(text: str) -> bool:
    """Whether a text can stand in the header of an HDF5 file, and in a line."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


Loader = Callable[[Path | None, torch.device, str], SamBackend]


def load_sam(name: str, checkpoint: Path | None, device: torch.device, precision: str = "fp32") -> SamBackend:
    """A backend by name or 'module:function'; UsageError for an unknown one, CheckpointError for missing weights."""
    entry = find_entry(name)
    if entry is None and ":" not in name:
        raise UsageError(f"--sam {name}: unknown backend", f"one of {', '.join(SAMS)}, distilled:RUN, hf:FOLDER, or MODULE:FUNCTION")
    function = find_function(entry.loader if entry else name, f"--sam {name}")
    loader: Loader = partial(function, entry) if entry else partial(call_own, function, f"--sam {name}", kind=UsageError)
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise CheckpointError(f"--sam-checkpoint {checkpoint}: no such file", "check the path")
    return need_backend(loader(checkpoint, device, precision), name)
