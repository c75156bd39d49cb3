"""segment-anything's own models as backends: vit_b, vit_l, vit_h, medsam, and the packaged tiny."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from samsemi.devices import autocast
from samsemi.errors import CheckpointError, UsageError
from samsemi.options.sams import NETWORKS, SAMS, Masks, SamEntry, find_function
from samsemi.sam.attention import make_faster
from samsemi.sam.decoder import decode_one
from samsemi.sam.preprocessing import LONGEST_SIDE, Preprocessing, place_masks, scale_coords
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import FEATURES, Embedding, MaskBatch, SamNetwork
from samsemi.schemas import from_json, parse_object
from samsemi.tensors import CARD, hash_file, load_metadata, load_strictly, load_tensors

AGAIN = "adapt the SAM again, or use the samsemi that wrote it"
CELLS_PER_CALL, MASK_PIXELS_PER_CALL = 2**11, 2**17
"""Of a CPU: cells of embeddings that go through the encoder at once, and pixels of low-resolution masks that go through the decoder."""
GPU_MASK_PIXELS_PER_CALL = 2**21
"""Of a GPU: bounds the decoder's memory, however many objects there are."""


class OriginalNetwork(SamNetwork):
    """The three parts of a ``segment_anything.Sam``; its weights have the same names."""

    def __init__(self, sam: Sam):
        super().__init__()
        self.image_encoder, self.prompt_encoder, self.mask_decoder = sam.image_encoder, sam.prompt_encoder, sam.mask_decoder

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        return {FEATURES: self.image_encoder(images).float()}

    def embed_prompts(self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.prompt_encoder(points=points, boxes=boxes, masks=masks)

    def decode(self, embedding: Mapping[str, Tensor], sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """segment-anything's ``predict_masks`` takes one image at a time; this runs the same parts of the decoder over all rows at once."""
        decoder, features = self.mask_decoder, embedding[FEATURES]
        count, channels, height, width = features.shape
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        position = self.prompt_encoder.get_dense_pe().expand(count, -1, -1, -1)
        tokens, source = decoder.transformer(features + dense, position, torch.cat([own.expand(count, -1, -1), sparse], dim=1))
        upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(count, channels, height, width))
        weights = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
        masks = torch.einsum("nmc,nchw->nmhw", weights, upscaled)
        return masks.float(), decoder.iou_prediction_head(tokens[:, 0]).float()

    def decode_one(
        self, embedding: Mapping[str, Tensor], owner: Tensor, sparse: Tensor, dense: Tensor, three: bool
    ) -> tuple[Tensor, Tensor]:
        """One mask of each prompt, without gradients, as ``decode`` and ``choose_mask`` give it; ``embedding`` (I, ...) has each image
        once, ``owner`` (N,) is that of each prompt."""
        position = self.prompt_encoder.get_dense_pe()
        return decode_one(self.mask_decoder, position, embedding[FEATURES], owner, sparse, dense, three)


class OriginalSam:
    """A ``segment_anything.Sam`` as a backend, which takes one of its four masks of each prompt."""

    def __init__(
        self,
        sam: Sam,
        name: str,
        identity: str,
        device: torch.device,
        precision: str = "fp32",
        preprocessing: Preprocessing = LONGEST_SIDE,
        multimask: bool = True,
        masks: Masks = "auto",
        prompt_kinds: str | None = None,
        adapted_to: str | None = None,
        chosen_on: frozenset[str] = frozenset(),
        learned: Mapping[str, str | None] | None = None,
    ):
        self.network: SamNetwork = OriginalNetwork(make_faster(sam)).to(device).eval().requires_grad_(False)
        self.name, self.identity = name, identity
        self.device, self.precision = device, precision
        self.preprocessing, self.multimask, self.masks, self.prompt_kinds = preprocessing, multimask, masks, prompt_kinds
        self.adapted_to = adapted_to
        """Fingerprint of the data set whose labeled cases it has learnt."""
        self.chosen_on = chosen_on
        """The val cases by which its weights were chosen."""
        self.learned = learned or {}
        """Ids and hashes of the images that it has learnt, as of ``name_images``."""
        self.side = sam.image_encoder.img_size
        self.mask_size = 4 * sam.prompt_encoder.image_embedding_size[0]
        on_cpu = device.type == "cpu"
        self.images_per_call = max(1, CELLS_PER_CALL // (self.mask_size // 4) ** 2) if on_cpu else None
        """How many go through the encoder at once; None: a whole batch."""
        self.objects_per_call = max(1, (MASK_PIXELS_PER_CALL if on_cpu else GPU_MASK_PIXELS_PER_CALL) // self.mask_size**2)
        """How many go through the decoder at once."""
        self.embedding_shapes = {FEATURES: (sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)}
        """Of the tensors of an embedding, by name: what a cache must hold."""

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
                best, best_iou = self.decode_rows(tensors, owner[rows], sparse, dense, three)
            logits.append(best)
            ious.append(best_iou)
        return [
            MaskBatch(m, i, e.image_size, self.preprocessing.input_size(e.image_size, self.side), self.side)
            for m, i, e in zip(torch.cat(logits).split(counts), torch.cat(ious).split(counts), embeddings, strict=True)
        ]

    def decode_rows(
        self, tensors: Mapping[str, Tensor], owner: Tensor, sparse: Tensor, dense: Tensor, three: bool
    ) -> tuple[Tensor, Tensor]:
        """One mask of each of some prompts, as ``decode_one`` gives it, of a network that is not segment-anything's, too."""
        if type(self.network) is OriginalNetwork:  # one that is derived from it may decode otherwise
            return self.network.decode_one(tensors, owner, sparse, dense, three)
        own = {name: values[owner] for name, values in tensors.items()}
        return choose_mask(*self.network.decode(own, sparse, dense), three)

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

    def with_masks(self, masks: Masks) -> "OriginalSam":
        """The same backend that takes other ones of its masks."""
        other = copy(self)
        other.masks = masks
        return other

    def with_weights_of(self, network: SamNetwork) -> "OriginalSam":
        """The same backend around another network of the same kind, such as one in training."""
        other = copy(self)
        other.network = network
        return other


def takes_three(prompts: Prompts, masks: Masks) -> bool:
    """Whether one of three masks is taken for these prompts. Source: segment_anything/predictor.py, docstring of ``predict``."""
    points = 0 if prompts.point_coords is None else prompts.point_coords.shape[1]
    lone = points == 1 and prompts.boxes is None and prompts.mask_logits is None
    return masks == "best-of-three" or (masks == "auto" and lone)


def choose_mask(masks: Tensor, predicted_iou: Tensor, three: bool) -> tuple[Tensor, Tensor]:
    """(N, m, m) logits and (N,) predicted IoU: of (N, 4, m, m) and (N, 4) the single mask, the first, or the best predicted of the
    other ``three``."""
    masks, predicted_iou = (masks[:, 1:], predicted_iou[:, 1:]) if three else (masks[:, :1], predicted_iou[:, :1])
    best = predicted_iou.argmax(dim=1)
    row = torch.arange(len(best), device=best.device)
    return masks[row, best], predicted_iou[row, best]


def build_network(entry: SamEntry) -> Sam:
    """The architecture of a SAM with random weights, by torch's generator."""
    assert entry.architecture is not None
    return find_function(entry.architecture, f"--sam {entry.name}")()


def fed_as(entry: SamEntry) -> dict[str, Any]:
    """How a SAM is fed: arguments of OriginalSam."""
    preprocessing = find_function(entry.preprocessing, f"--sam {entry.name}")
    return {"preprocessing": preprocessing, "multimask": entry.multimask, "masks": entry.masks, "prompt_kinds": entry.prompt_kinds}


def untrained(name: str, device: torch.device, precision: str) -> OriginalSam:
    """A SAM with random weights, by torch's generator; UsageError for a name that is none of NETWORKS."""
    if name not in NETWORKS:
        raise UsageError(f"--sam {name} cannot be made from scratch", f"take one of {', '.join(NETWORKS)}")
    return OriginalSam(build_network(SAMS[name]), name, "untrained", device, precision, **fed_as(SAMS[name]))


def load_original(entry: SamEntry, checkpoint: Path | None, device: torch.device, precision: str) -> OriginalSam:
    """A SAM with the weights of a file, or those in the package."""
    checkpoint = checkpoint or entry.weights
    if checkpoint is None:
        raise CheckpointError(
            f"--sam {entry.name} needs its weights", "give --sam-checkpoint FILE, or take --sam tiny, whose weights are in the package"
        )
    card = read_card(checkpoint)
    if card.sam not in (None, entry.name):
        raise CheckpointError(f"{checkpoint} is an adapted {card.sam}, not {entry.name}", f"give --sam {card.sam}")
    sam = fill(build_network(entry), Path(checkpoint), entry.name)
    return OriginalSam(
        sam,
        entry.name,
        hash_file(checkpoint),
        device,
        precision,
        adapted_to=card.adapted_to,
        chosen_on=frozenset(card.chosen_on),
        learned=card.learned,
        **fed_as(entry),
    )


@dataclass(frozen=True)
class SamCard:
    """What `samsemi adapt` writes into the header of weights; empty for others."""

    sam: str | None = None
    made_from: Mapping[str, object] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    keep: str | None = None
    """'last' or 'best'; None in weights of before that was recorded."""
    chosen_on: tuple[str, ...] = ()
    """The val cases by which the best weights were found."""
    learned: Mapping[str, str | None] = field(default_factory=dict)
    """Ids and hashes of the images that these weights, and those that they were adapted from, have learnt; none in those of before."""

    @property
    def adapted_to(self) -> str | None:
        """Fingerprint of the data set whose labeled cases the SAM has learnt; None for weights that learnt none."""
        dataset = self.made_from.get("dataset")
        return dataset if isinstance(dataset, str) and not self.made_from.get("stream") else None


def read_card(checkpoint: Path) -> SamCard:
    """The card of weights; CheckpointError for one that is damaged, or of another version."""
    if Path(checkpoint).suffix != ".safetensors":
        return SamCard()
    try:
        text = load_metadata(checkpoint).get(CARD, "{}")
    except CheckpointError as error:
        raise CheckpointError(error.message, "give a .safetensors or .pth file of weights") from None
    where = f"the header of {checkpoint}"
    return from_json(SamCard, parse_object(text, where, AGAIN), where, AGAIN)


def fill(sam: Sam, checkpoint: Path, name: str) -> Sam:
    """Load weights strictly; CheckpointError that names the SAM that a foreign file belongs to, where that is plain."""
    tensors = load_tensors(checkpoint)
    hint = "give the weights that belong to this --sam"
    patches = tensors.get("image_encoder.patch_embed.proj.weight")
    widths = {768: "vit_b or medsam", 1024: "vit_l", 1280: "vit_h"}
    if patches is not None and len(patches) in widths and name not in widths[len(patches)]:
        hint = f"these weights belong to --sam {widths[len(patches)]}"
    if any("hf_token" in key or "compress_vit_feat" in key for key in tensors):
        hint = "these are SAM-HQ weights, which need SAM-HQ's own decoder"
    load_strictly(sam, tensors, f"{checkpoint} as {name}", hint)
    return sam
