"""A network of SAM's kind as a backend: batches of images and prompts in, one mask of each prompt out."""

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from samsemi.devices import autocast
from samsemi.options.sams import Masks
from samsemi.sam.preprocessing import LONGEST_SIDE, Preprocessing, place_masks, scale_coords
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import Embedding, MaskBatch, SamBackend, SamNetwork

LOG = logging.getLogger("samsemi")
CELLS_PER_CALL, MASK_PIXELS_PER_CALL = 2**11, 2**17
"""Of a CPU: cells of embeddings that go through the encoder at once, and pixels of low-resolution masks that go through the decoder."""
GPU_MASK_PIXELS_PER_CALL = 2**21
"""Of a GPU: bounds the decoder's memory, however many objects there are."""


@dataclass(frozen=True)
class Sizes:
    """What a network takes and gives."""

    side: int
    """Of its square input."""
    mask_size: int
    """Side of its masks."""
    embedding: Mapping[str, tuple[int, ...]]
    """Shapes of the tensors of an embedding, by name: what a cache must hold."""


class NetworkSam:
    """A network as a backend, which takes one of its four masks of each prompt."""

    def __init__(
        self,
        network: SamNetwork,
        name: str,
        identity: str,
        device: torch.device,
        sizes: Sizes,
        precision: str = "fp32",
        preprocessing: Preprocessing = LONGEST_SIDE,
        multimask: bool = True,
        masks: Masks = "auto",
        prompt_kinds: str | None = None,
        adapted_to: str | None = None,
        chosen_on: frozenset[str] = frozenset(),
        learned: Mapping[str, str | None] | None = None,
    ):
        self.network = network.to(device).eval().requires_grad_(False)
        self.name, self.identity = name, identity
        self.device, self.precision = device, precision
        self.preprocessing, self.multimask, self.masks, self.prompt_kinds = preprocessing, multimask, masks, prompt_kinds
        self.adapted_to = adapted_to
        """Fingerprint of the data set whose labeled cases it has learnt."""
        self.chosen_on = chosen_on
        """The val cases by which its weights were chosen."""
        self.learned = learned or {}
        """Ids and hashes of the images that it has learnt, as of ``name_images``."""
        self.side, self.mask_size, self.embedding_shapes = sizes.side, sizes.mask_size, sizes.embedding
        on_cpu = device.type == "cpu"
        self.images_per_call = max(1, CELLS_PER_CALL // (self.mask_size // 4) ** 2) if on_cpu else None
        """How many go through the encoder at once; None: a whole batch."""
        self.objects_per_call = max(1, (MASK_PIXELS_PER_CALL if on_cpu else GPU_MASK_PIXELS_PER_CALL) // self.mask_size**2)
        """How many go through the decoder at once."""

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Resize, normalize, pad, and encode as one batch; on a CPU in small ones."""
        step, found = self.images_per_call or max(1, len(images)), []
        for i in range(0, len(images), step):
            batch = self.preprocessing.squares(images[i : i + step], self.side, self.device)
            with autocast(self.device, self.precision):
                found.append(self.network.encode(batch))
        rows = (
            {name: tensor[k] for name, tensor in tensors.items()} for tensors in found for k in range(len(next(iter(tensors.values()))))
        )
        return [Embedding(tensors, image.shape[:2]) for tensors, image in zip(rows, images, strict=True)]

    @torch.inference_mode()
    def decode(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
        """Masks of the prompts of several images; the prompts of all must be of the same kinds."""
        if not embeddings:
            return []
        counts, three = [len(p) for p in prompts], self.multimask and takes_three(prompts[0], self.masks)
        owner = torch.arange(len(counts), device=self.device).repeat_interleave(torch.tensor(counts, device=self.device))
        points, boxes, masks = self.scale_prompts(embeddings, prompts)
        tensors = {name: torch.stack([e.tensors[name] for e in embeddings]).to(self.device) for name in embeddings[0].tensors}
        logits = [torch.zeros(0, self.mask_size, self.mask_size, device=self.device)]
        ious = [torch.zeros(0, device=self.device)]
        for i in range(0, len(owner), self.objects_per_call):
            rows = slice(i, i + self.objects_per_call)
            sparse, dense = self.network.embed_prompts(
                points and (points[0][rows], points[1][rows]),
                None if boxes is None else boxes[rows],
                None if masks is None else masks[rows],
            )
            with autocast(self.device, self.precision if self.device.type == "cpu" else "fp32"):
                best, best_iou = self.network.decode_one(tensors, owner[rows], sparse, dense, three)
            logits.append(best)
            ious.append(best_iou)
        return [
            MaskBatch(m, i, e.image_size, *self.mask_extent(e.image_size))
            for m, i, e in zip(torch.cat(logits).split(counts), torch.cat(ious).split(counts), embeddings, strict=True)
        ]

    def mask_extent(self, image_size: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """(H', W') of an image within the square that its masks cover, and the side of that: of the input."""
        return self.preprocessing.input_size(image_size, self.side), self.side

    def scale_prompts(
        self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]
    ) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]:
        """Points with labels, boxes and masks of all objects of all images, in pixels of the input; None for a kind that is not given."""
        sizes = [(e.image_size, self.preprocessing.input_size(e.image_size, self.side)) for e in embeddings]
        pairs = list(zip(prompts, sizes, strict=True))
        boxes = [scale_coords(p.boxes.reshape(-1, 2, 2), *size).reshape(-1, 4) for p, size in pairs if p.boxes is not None]
        coords = [scale_coords(p.point_coords, *size) for p, size in pairs if p.point_coords is not None]
        labels = [p.point_labels for p in prompts if p.point_labels is not None]
        masks = [self.place(p.mask_logits, size) for p, (_, size) in pairs if p.mask_logits is not None]
        points = (self.tensor(coords), self.tensor(labels)) if coords else None
        return points, self.tensor(boxes) if boxes else None, torch.cat(masks) if masks else None

    def place(self, mask_logits: np.ndarray, input_size: tuple[int, int]) -> Tensor:
        """Mask prompts (N, S, S) over an image -> (N, 1, mask_size, mask_size) over the padded input."""
        return place_masks(torch.from_numpy(mask_logits).to(self.device), input_size, self.side, self.mask_size)

    def tensor(self, arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays)).float().to(self.device)

    def compile(self, backend: str = "inductor") -> None:
        """Have torch compile the encoder when it is first used, by one of its backends: that takes a minute or so."""
        encoder: nn.Module = self.network.image_encoder
        encoder.compile(backend=backend)

    def with_masks(self, masks: Masks) -> Self:
        """The same backend that takes other ones of its masks."""
        other = copy(self)
        other.masks = masks
        return other

    def with_weights_of(self, network: SamNetwork) -> Self:
        """The same backend around another network of the same kind, such as one in training."""
        other = copy(self)
        other.network = network
        return other


def compile_encoder(sam: SamBackend, device: torch.device) -> None:
    """Compile the encoder of a network on CUDA; elsewhere say that nothing is compiled."""
    if isinstance(sam, NetworkSam) and device.type == "cuda":
        sam.compile()
    else:
        LOG.info(f"--compile: {sam.name} on {device.type} is not compiled")


def takes_three(prompts: Prompts, masks: Masks) -> bool:
    """Whether one of three masks is taken for these prompts. Source: segment_anything/predictor.py, docstring of ``predict``."""
    points = 0 if prompts.point_coords is None else prompts.point_coords.shape[1]
    lone = points == 1 and prompts.boxes is None and prompts.mask_logits is None
    return masks == "best-of-three" or (masks == "auto" and lone)
