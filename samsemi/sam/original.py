"""segment-anything's own models as backends: vit_b, vit_l, vit_h, medsam, and the packaged tiny."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from samsemi.errors import CheckpointError, UsageError
from samsemi.inputs import hash_file
from samsemi.options.sams import NETWORKS, SAMS, SamEntry, find_function
from samsemi.sam.attention import make_faster
from samsemi.sam.cards import need_sam, read_card
from samsemi.sam.decoder import decode_one
from samsemi.sam.network import NetworkSam, Sizes
from samsemi.sam.protocol import FEATURES, SamNetwork
from samsemi.tensors import load_strictly, load_tensors
from samsemi.weights.cache import fetch_hint, find_fetched, need_hash
from samsemi.weights.table import WEIGHTS


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
        """By the faster decoder; a network that is derived from this one and decodes otherwise has to say so here, too."""
        position = self.prompt_encoder.get_dense_pe()
        return decode_one(self.mask_decoder, position, embedding[FEATURES], owner, sparse, dense, three)


class OriginalSam(NetworkSam):
    """A ``segment_anything.Sam`` as a backend."""

    def __init__(self, sam: Sam, name: str, identity: str, device: torch.device, precision: str = "fp32", **how: Any):
        grid = sam.prompt_encoder.image_embedding_size
        sizes = Sizes(sam.image_encoder.img_size, 4 * grid[0], {FEATURES: (sam.prompt_encoder.embed_dim, *grid)})
        super().__init__(OriginalNetwork(make_faster(sam)), name, identity, device, sizes, precision, **how)


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
    """A SAM with the weights of a file, those in the package, or those that `samsemi weights fetch` has put into the cache."""
    fetched = None if checkpoint or entry.weights else find_fetched(entry.name)
    checkpoint = checkpoint or entry.weights or fetched
    if checkpoint is None:
        raise CheckpointError(
            f"--sam {entry.name} needs its weights",
            f"{fetch_hint(entry.name)}, give --sam-checkpoint FILE, or take --sam tiny, whose weights are in the package",
        )
    identity = hash_file(checkpoint)
    if fetched:
        need_hash(fetched, WEIGHTS[entry.name], identity)
    card = read_card(checkpoint)
    need_sam(card, entry.name, checkpoint, f"give --sam {card.sam}")
    sam = fill(build_network(entry), Path(checkpoint), entry.name)
    return OriginalSam(sam, entry.name, identity, device, precision, **fed_as(entry), **card.history)


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
