"""segment-anything's own models behind samsemi's two methods: vit_b, vit_l, vit_h, medsam, and the packaged tiny."""

import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from skimage.transform import resize
from torch import Tensor

from samsemi.devices import autocast
from samsemi.errors import CheckpointError, UsageError
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import Embedding, MaskBatch
from samsemi.sam.tiny import build_tiny
from samsemi.tensors import CARD, hash_file, load_metadata, load_strictly, load_tensors

TINY_WEIGHTS = Path(__file__).with_name("tiny.safetensors")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
OBJECTS_PER_CALL = 64
"""Objects that go through the decoder at once: bounds its memory."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a model's square input."""

    prepare: Callable[[np.ndarray, int], Tensor]
    """(H, W, 3) uint8 and the side of the input -> (3, H', W') float32, normalized."""
    input_size: Callable[[tuple[int, int], int], tuple[int, int]]
    """(H, W) and the side -> (H', W')."""
    normalize: Callable[[Tensor], Tensor]
    """Part of ``prepare``: (..., 3, H, W) floats in 0 to 255 -> as the model takes them."""

    def square(self, image: np.ndarray, side: int) -> Tensor:
        """(H, W, 3) uint8 -> (3, side, side) float32, padded at the right and the bottom."""
        x = self.prepare(image, side)
        return F.pad(x, (0, side - x.shape[2], 0, side - x.shape[1]))


def prepare_longest_side(image: np.ndarray, side: int) -> Tensor:
    """SAM: the longest side to ``side``, normalized; padding comes after."""
    resized = torch.from_numpy(ResizeLongestSide(side).apply_image(image)).permute(2, 0, 1).float()
    return normalize_colors(resized)


def normalize_colors(image: Tensor) -> Tensor:
    """Of ImageNet: mean 0, deviation 1 in each channel."""
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (image - mean) / std


def longest_side_size(image_size: tuple[int, int], side: int) -> tuple[int, int]:
    return ResizeLongestSide.get_preprocess_shape(*image_size, side)


def prepare_square(image: np.ndarray, side: int) -> Tensor:
    """MedSAM: squeezed to a square, scaled from its own least and greatest value to [0, 1].

    Source: MedSAM_Inference.py of bowang-lab/MedSAM.
    """
    resized = resize(image, (side, side), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8).astype(np.float32)
    return normalize_range(torch.from_numpy(resized).permute(2, 0, 1))


def normalize_range(image: Tensor) -> Tensor:
    """From the least and the greatest value of each image to [0, 1]."""
    low, high = (bound(image, dim=(-3, -2, -1), keepdim=True) for bound in (torch.amin, torch.amax))
    return (image - low) / (high - low).clamp(min=1e-8)


def square_size(image_size: tuple[int, int], side: int) -> tuple[int, int]:
    return side, side


SAM_PREPROCESSING = Preprocessing(prepare_longest_side, longest_side_size, normalize_colors)
MEDSAM_PREPROCESSING = Preprocessing(prepare_square, square_size, normalize_range)


class OriginalSam:
    """A ``segment_anything.Sam`` as a backend; of its three masks per prompt the one with the highest predicted IoU."""

    def __init__(
        self,
        sam: Sam,
        name: str,
        identity: str,
        device: torch.device,
        precision: str = "fp32",
        preprocessing: Preprocessing = SAM_PREPROCESSING,
        multimask: bool = True,
        prompt_kinds: str | None = None,
        adapted_to: str | None = None,
    ):
        self.sam = sam.to(device).eval().requires_grad_(False)
        self.name, self.identity = name, identity
        self.device, self.precision = device, precision
        self.preprocessing, self.multimask, self.prompt_kinds = preprocessing, multimask, prompt_kinds
        self.adapted_to = adapted_to
        """Fingerprint of the data set whose labeled cases it has learnt."""
        self.side = sam.image_encoder.img_size
        self.mask_size = 4 * sam.prompt_encoder.image_embedding_size[0]

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Resize, normalize, pad, and encode as one batch."""
        batch = torch.stack([self.preprocessing.square(image, self.side) for image in images])
        with autocast(self.device, self.precision):
            features = self.sam.image_encoder(batch.to(self.device))
        return [Embedding(f, image.shape[:2]) for f, image in zip(features.float(), images, strict=True)]

    @torch.inference_mode()
    def decode(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
        """Answer the prompts of several images; the prompts of all must be of the same kinds."""
        if not embeddings:
            return []
        counts = [len(p) for p in prompts]
        owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        sparse, dense = self.embed(embeddings, prompts)
        features = torch.stack([e.features for e in embeddings]).to(self.device)
        logits, ious = [features.new_zeros(0, self.mask_size, self.mask_size)], [features.new_zeros(0)]
        for rows in torch.arange(len(owner)).split(OBJECTS_PER_CALL) if len(owner) else ():
            masks, iou = decode_objects(self.sam, features[owner[rows]], sparse[rows], dense[rows])
            best, best_iou = best_answer(masks, iou, self.multimask)
            logits.append(best)
            ious.append(best_iou)
        return [
            MaskBatch(m, i, e.image_size, self.preprocessing.input_size(e.image_size, self.side), self.side)
            for m, i, e in zip(torch.cat(logits).split(counts), torch.cat(ious).split(counts), embeddings, strict=True)
        ]

    def embed(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> tuple[Tensor, Tensor]:
        """Sparse (N, T, C) and dense (N, C, h, w) prompt embeddings of all objects of all images."""
        sizes = [(e.image_size, self.preprocessing.input_size(e.image_size, self.side)) for e in embeddings]
        pairs = list(zip(prompts, sizes, strict=True))
        boxes = coords = labels = masks = None
        if prompts[0].boxes is not None:
            boxes = self.tensor([scale_coords(p.boxes.reshape(-1, 2, 2), *size).reshape(-1, 4) for p, size in pairs])
        if prompts[0].point_coords is not None:
            coords = self.tensor([scale_coords(p.point_coords, *size) for p, size in pairs])
            labels = self.tensor([p.point_labels for p, _ in pairs])
        if prompts[0].mask_logits is not None:
            logits = [torch.from_numpy(p.mask_logits).to(self.device) for p in prompts]
            masks = torch.cat([place_masks(x, size, self.side, self.mask_size) for x, (_, (_, size)) in zip(logits, pairs, strict=True)])
        points = None if coords is None else (coords, labels)
        return self.sam.prompt_encoder(points=points, boxes=boxes, masks=masks)

    def tensor(self, arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays)).float().to(self.device)

    def with_weights_of(self, sam: Sam) -> "OriginalSam":
        """The same backend around another network of the same kind, such as one in training."""
        other = copy(self)
        other.sam = sam
        return other


def place_masks(mask_logits: Tensor, input_size: tuple[int, int], side: int, mask_size: int) -> Tensor:
    """(N, S, S) logits over an image -> (N, 1, mask_size, mask_size) over SAM's padded input, nothing in the padding."""
    height, width = (max(1, round(extent * mask_size / side)) for extent in input_size)
    masks = F.interpolate(mask_logits[:, None], (height, width), mode="bilinear", antialias=True)
    lowest = float(mask_logits.min()) if mask_logits.numel() else 0.0
    return F.pad(masks, (0, mask_size - width, 0, mask_size - height), value=min(lowest, 0.0))


def scale_coords(coords: np.ndarray, image_size: tuple[int, int], input_size: tuple[int, int]) -> np.ndarray:
    """(..., 2) x y in image pixels -> in input pixels."""
    factors = np.array([input_size[1] / image_size[1], input_size[0] / image_size[0]], dtype=np.float64)
    return (coords * factors).astype(np.float32)


def decode_objects(sam: Sam, features: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """Decode N objects of different images in one call: (N, 4, m, m) mask logits and (N, 4) predicted IoU.

    ``features`` (N, C, h, w) is each object's own image embedding. segment-anything's ``predict_masks`` takes one image
    at a time; this runs the same parts of the decoder over all rows at once.
    """
    decoder = sam.mask_decoder
    count, channels, height, width = features.shape
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    position = sam.prompt_encoder.get_dense_pe().expand(count, -1, -1, -1)
    tokens, source = decoder.transformer(features + dense, position, torch.cat([own.expand(count, -1, -1), sparse], dim=1))
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(count, channels, height, width))
    weights = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
    masks = torch.einsum("nmc,nchw->nmhw", weights, upscaled)
    return masks, decoder.iou_prediction_head(tokens[:, 0])


def best_answer(masks: Tensor, predicted_iou: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
    """(N, m, m) logits and (N,) predicted IoU: of (N, 4, m, m) and (N, 4) the single mask, the first, or the best predicted of the
    other three."""
    masks, predicted_iou = (masks[:, 1:], predicted_iou[:, 1:]) if multimask else (masks[:, :1], predicted_iou[:, :1])
    best = predicted_iou.argmax(dim=1)
    row = torch.arange(len(best), device=best.device)
    return masks[row, best], predicted_iou[row, best]


ARCHITECTURES: dict[str, Callable[[], Sam]] = {
    "tiny": build_tiny,
    "medsam": sam_model_registry["vit_b"],
    **{name: sam_model_registry[name] for name in ("vit_b", "vit_l", "vit_h")},
}
"""Name -> the network with random weights."""
MANNERS: dict[str, dict[str, object]] = {"medsam": {"preprocessing": MEDSAM_PREPROCESSING, "multimask": False, "prompt_kinds": "box"}}
"""How a SAM is fed and asked, where not as the published one. MedSAM was trained for boxes alone and one mask per box."""


def untrained(name: str, device: torch.device, precision: str) -> OriginalSam:
    """A SAM with random weights, by torch's generator; UsageError for a name that is none of ARCHITECTURES."""
    if name not in ARCHITECTURES:
        raise UsageError(f"--sam {name} cannot be made from scratch", f"take one of {', '.join(ARCHITECTURES)}")
    return OriginalSam(ARCHITECTURES[name](), name, "untrained", device, precision, **MANNERS.get(name, {}))


def load_tiny(checkpoint: Path | None, device: torch.device, precision: str) -> OriginalSam:
    """The small SAM in the package, or the same network with other weights."""
    return load_original("tiny", checkpoint or TINY_WEIGHTS, device, precision)


def load_vit_b(checkpoint: Path | None, device: torch.device, precision: str) -> OriginalSam:
    return load_original("vit_b", checkpoint, device, precision)


def load_vit_l(checkpoint: Path | None, device: torch.device, precision: str) -> OriginalSam:
    return load_original("vit_l", checkpoint, device, precision)


def load_vit_h(checkpoint: Path | None, device: torch.device, precision: str) -> OriginalSam:
    return load_original("vit_h", checkpoint, device, precision)


def load_medsam(checkpoint: Path | None, device: torch.device, precision: str) -> OriginalSam:
    return load_original("medsam", checkpoint, device, precision)


def load_original(name: str, checkpoint: Path | None, device: torch.device, precision: str) -> OriginalSam:
    """A SAM with the weights of a file."""
    if checkpoint is None:
        raise CheckpointError(
            f"--sam {name} needs its weights", "give --sam-checkpoint FILE, or take --sam tiny, whose weights are in the package"
        )
    card = read_card(checkpoint)
    if card.get("sam", name) != name:
        raise CheckpointError(f"{checkpoint} is an adapted {card['sam']}, not {name}", f"give --sam {card['sam']}")
    made_from = card.get("made_from", {})
    adapted_to = None if made_from.get("stream") else made_from.get("dataset")
    sam = fill(ARCHITECTURES[name](), Path(checkpoint), name)
    return OriginalSam(sam, name, hash_file(checkpoint), device, precision, adapted_to=adapted_to, **MANNERS.get(name, {}))


def read_card(checkpoint: Path) -> dict:
    """What `samsemi adapt` has written of weights into their header; nothing for others."""
    return json.loads(load_metadata(checkpoint).get(CARD, "{}")) if Path(checkpoint).suffix == ".safetensors" else {}


def fill(sam: Sam, checkpoint: Path, name: str) -> Sam:
    """Load weights strictly; CheckpointError that says which SAM a foreign file belongs to, where that is plain."""
    tensors = {key: value.float() for key, value in load_tensors(checkpoint).items()}
    hint = "give the weights that belong to this --sam"
    patches = tensors.get("image_encoder.patch_embed.proj.weight")
    widths = {768: "vit_b or medsam", 1024: "vit_l", 1280: "vit_h"}
    if patches is not None and len(patches) in widths and name not in widths[len(patches)]:
        hint = f"these weights belong to --sam {widths[len(patches)]}"
    if any("hf_token" in key or "compress_vit_feat" in key for key in tensors):
        hint = "these are SAM-HQ weights, which need SAM-HQ's own decoder"
    load_strictly(sam, tensors, f"{checkpoint} as {name}", hint)
    return sam
