"""The teacher: a SAM with adapters and learnt prompts, a map of logits per class for a whole batch of images.

Frozen are all of SAM's own weights; learnt are the adapters and the prompts. Deviations from the public code of KnowSAM:

- The second layer of each adapter starts at zero, so that training starts from SAM and not from a disturbed one.
- Images are normalized as this SAM was trained; the code has that commented out.
- Relative positions are kept (segment-anything interpolates them); the code drops them at 256 px.
- The adapters along the depth axis of volumes, which the code builds and never uses, are left out.
- Any size and any SAM of segment-anything, prompts of its own width; the code has 256 channels and 64 x 64 mask prompts fixed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from segment_anything.modeling.transformer import TwoWayAttentionBlock
from torch import Tensor, nn

from samsemi import remedies
from samsemi.errors import CheckpointError, UsageError
from samsemi.options.sams import NETWORKS, SAMS
from samsemi.sam.protocol import FEATURES, SamBackend, SamNetwork, TrainableSam, load_sam
from samsemi.schemas import from_json, need_schema, parse_object
from samsemi.segmenters.networks import double_conv
from samsemi.tensors import CARD, load_metadata, load_strictly, load_tensors, save_tensors

TEACHER = "teacher.safetensors"
SCHEMA = "samsemi.teacher/1"
LARGEST_SIDE = 256
"""Pixels at which a larger SAM sees an image by default. Source: KnowSAM."""
TOKENS = 2
"""Prompt tokens per class: as many as SAM makes of a box. Source: KnowSAM."""
DROPOUT = 0.1
SHRINK = 4
"""Width of SAM's layers over that of the adapters. Source: KnowSAM."""
SHARE = 0.5
"""Of the adapter that is parallel to an MLP. Source: KnowSAM."""


class Adapter(nn.Module):
    """A narrow two-layer network on the last axis, zero at first."""

    def __init__(self, width: int):
        super().__init__()
        self.down, self.up = nn.Linear(width, width // SHRINK), nn.Linear(width // SHRINK, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(x)))


class SerialAdapter(nn.Module):
    """A module and an adapter on its output."""

    def __init__(self, module: nn.Module, width: int):
        super().__init__()
        self.module, self.adapter = module, Adapter(width)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        y = self.module(*args, **kwargs)
        return y + self.adapter(y)


class ParallelAdapter(nn.Module):
    """A module and an adapter on its input."""

    def __init__(self, module: nn.Module, width: int):
        super().__init__()
        self.module, self.adapter = module, Adapter(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x) + SHARE * self.adapter(x)


class AdaptedTwoWay(nn.Module):
    """A block of SAM's decoder with one adapter in series with its three attentions and one parallel to its MLP."""

    def __init__(self, block: TwoWayAttentionBlock, width: int):
        super().__init__()
        self.block, self.adapter = block, Adapter(width)
        block.mlp = ParallelAdapter(block.mlp, width)

    def adapted(self, attention: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = attention(q=q, k=k, v=v)
        return y + self.adapter(y)

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, T, C) and image (N, hw, C), each with its positions -> both, changed."""
        block = self.block
        first = block.skip_first_layer_pe
        placed = queries if first else queries + query_pe
        attended = self.adapted(block.self_attn, placed, placed, queries)
        queries = block.norm1(attended if first else queries + attended)
        queries = block.norm2(queries + self.adapted(block.cross_attn_token_to_image, queries + query_pe, keys + key_pe, keys))
        queries = block.norm3(queries + block.mlp(queries))
        keys = block.norm4(keys + self.adapted(block.cross_attn_image_to_token, keys + key_pe, queries + query_pe, queries))
        return queries, keys


def add_adapters(sam: SamNetwork) -> None:
    """Freeze a SAM and put adapters into every block of its encoder and decoder."""
    sam.requires_grad_(False)
    width = sam.image_encoder.pos_embed.shape[-1]
    for block in sam.image_encoder.blocks:
        block.attn, block.mlp = SerialAdapter(block.attn, width), ParallelAdapter(block.mlp, width)
    transformer = sam.mask_decoder.transformer
    transformer.layers = nn.ModuleList(AdaptedTwoWay(block, transformer.embedding_dim) for block in transformer.layers)
    transformer.final_attn_token_to_image = SerialAdapter(transformer.final_attn_token_to_image, transformer.embedding_dim)
    transformer.norm_final_attn = SerialAdapter(transformer.norm_final_attn, transformer.embedding_dim)


def resize_sam(sam: SamNetwork, side: int) -> None:
    """Let a SAM see images of ``side`` px: its absolute positions are interpolated."""
    encoder, prompts = sam.image_encoder, sam.prompt_encoder
    patch = encoder.img_size // encoder.pos_embed.shape[1]
    grid, least = side // patch, 4 * patch
    if side % patch or side < least:
        raise UsageError(f"--sam-size {side}: this SAM needs a multiple of {patch}, {least} at least", f"give {max(least, grid * patch)}")
    positions = F.interpolate(encoder.pos_embed.permute(0, 3, 1, 2), (grid, grid), mode="bicubic").permute(0, 2, 3, 1)
    encoder.pos_embed, encoder.img_size = nn.Parameter(positions), side
    prompts.image_embedding_size, prompts.mask_input_size, prompts.input_image_size = (grid, grid), (4 * grid, 4 * grid), (side, side)


class LearnedPrompt(nn.Module):
    """Image embedding (B, C, h, w) -> the prompt tokens (B, 2, C) of one class. Source: KnowSAM, arXiv 2412.13742."""

    def __init__(self, channels: int):
        super().__init__()
        self.features = nn.Sequential(
            double_conv(channels, channels, DROPOUT),
            nn.MaxPool2d(2),
            double_conv(channels, channels, DROPOUT),
            double_conv(channels, channels, DROPOUT),
            nn.MaxPool2d(2),
            double_conv(channels, channels, DROPOUT),
            nn.Conv2d(channels, channels, 1),
        )
        self.tokens = nn.Sequential(
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(4 * channels, TOKENS * channels),
            nn.Dropout(DROPOUT),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        tokens = self.tokens(self.features(embedding).mean(dim=(2, 3)))
        return tokens.view(len(embedding), TOKENS, -1)


class Teacher(nn.Module):
    """A SAM as a semantic network: images and the peers' fused logits -> logits of every class."""

    def __init__(
        self,
        sam: SamNetwork,
        normalize: Callable[[Tensor], Tensor],
        num_classes: int,
        side: int | None = None,
        learned_prompts: bool = True,
    ):
        super().__init__()
        self.side = side or min(sam.image_encoder.img_size, LARGEST_SIDE)
        if self.side != sam.image_encoder.img_size:
            resize_sam(sam, self.side)
        add_adapters(sam)
        self.sam, self.normalize = sam, normalize
        width = sam.prompt_encoder.embed_dim
        self.prompts = nn.ModuleList(LearnedPrompt(width) for _ in range(num_classes)) if learned_prompts else None
        self.frozen = frozenset(name for name, value in self.named_parameters() if not value.requires_grad)
        """Names of SAM's own weights."""

    def forward(self, images: Tensor, fused: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] and (B, K, S, S) logits, which get no gradient -> (B, K, S, S) logits.

        Each class is prompted by its own tokens and by the fused logits of the class as mask prompt.
        """
        return F.interpolate(self.decode(self.encode(images), fused), fused.shape[2:], mode="bilinear")

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, S, S) in [0, 1] -> the tensors of their embeddings (B, ...)."""
        inputs = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        return self.sam.encode(self.normalize(inputs * 255))

    def decode(self, embedding: Mapping[str, Tensor], fused: Tensor) -> Tensor:
        """Embeddings (B, ...) and logits (B, K, S, S) of their images -> (B, K, m, m) logits at SAM's mask resolution."""
        count, num_classes = fused.shape[:2]
        masks = F.interpolate(fused.detach().float(), self.sam.prompt_encoder.mask_input_size, mode="bilinear", antialias=True)
        sparse, dense = self.sam.embed_prompts(None, None, masks.flatten(0, 1)[:, None])
        if self.prompts:
            sparse = torch.stack([prompt(embedding[FEATURES]) for prompt in self.prompts], dim=1).flatten(0, 1).to(dense.dtype)
        per_class = {name: values.repeat_interleave(num_classes, dim=0) for name, values in embedding.items()}
        logits, _ = self.sam.decode(per_class, sparse, dense)
        return logits[:, 0].unflatten(0, (count, num_classes)).float()

    def learned(self) -> dict[str, Tensor]:
        """State without SAM's own weights."""
        return {name: value for name, value in self.state_dict().items() if name not in self.frozen}


def make_teacher(sam: SamBackend, num_classes: int, side: int | None, learned_prompts: bool) -> Teacher:
    """A teacher from a backend; UsageError for one that cannot be trained."""
    if not isinstance(sam, TrainableSam) or not hasattr(sam.network.image_encoder, "blocks"):
        raise UsageError(f"--sam {sam.name} cannot learn", f"take one of {', '.join(NETWORKS)}, or --no-sam")
    return Teacher(sam.network, sam.preprocessing.normalize, num_classes, side, learned_prompts).to(sam.device)


@dataclass(frozen=True)
class TeacherCard:
    """The header of teacher.safetensors: which SAM it adapts, and how it was learnt from."""

    sam: str
    sam_weights: str
    side: int
    learned_prompts: bool
    temperature: float
    scores: Mapping[str, object] = field(default_factory=dict)
    learned: Mapping[str, str | None] = field(default_factory=dict)
    """Ids and hashes of the images that it, and the SAM that it adapts, have learnt; none in those of before."""

    def __post_init__(self) -> None:
        if not 16 <= self.side <= 4096 or self.side % 16 or not self.temperature > 0:
            raise UsageError(f"side {self.side} or temperature {self.temperature} cannot be", remedies.TEACHER)


def save_teacher(folder: Path, teacher: Teacher, sam: SamBackend, about: Mapping[str, object]) -> None:
    """Write what was learnt to RUN/teacher.safetensors, with its card in the header: ``about`` holds the rest of it."""
    card = {"sam": sam.name, "sam_weights": sam.identity, "side": teacher.side, "learned_prompts": teacher.prompts is not None}
    save_tensors(folder / TEACHER, teacher.learned(), {CARD: json.dumps({"schema": SCHEMA, **card, **about})})


def read_teacher_card(folder: Path) -> TeacherCard:
    """What a run's teacher is made of, those of before 'schema' stood there too; CheckpointError for a run without one."""
    path = Path(folder) / TEACHER
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {TEACHER}", "give the --out folder of `samsemi distill`, not one of --no-sam")
    try:
        values = parse_object(load_metadata(path).get(CARD, ""), str(path))
    except CheckpointError:
        raise CheckpointError(f"{path} is no teacher", "run `samsemi distill` again") from None
    need_schema(values.pop("schema", SCHEMA), SCHEMA, str(path), "a teacher", remedies.TEACHER)
    return from_json(TeacherCard, values, str(path), remedies.TEACHER)


def load_sam_of_teacher(folder: Path, checkpoint: Path | None, option: str, device: torch.device, precision: str) -> SamBackend:
    """The SAM that a run's teacher adapts; CheckpointError where it cannot be loaded, ``option`` being that of its weights."""
    card = read_teacher_card(folder)
    if card.sam not in SAMS:
        raise CheckpointError(f"{folder} was distilled from {card.sam}, which is no SAM of samsemi", "distill from another")
    try:
        return load_sam(card.sam, checkpoint, device, precision)
    except CheckpointError as error:
        hint = f"give the weights of the {card.sam} that {folder} was made with as {option}"
        raise CheckpointError(f"{folder}: {error.message}", hint) from None


def load_teacher(folder: Path, sam: SamBackend, num_classes: int, option: str = "--teacher-checkpoint") -> Teacher:
    """The teacher of a run, in eval mode; ``sam`` is the SAM that its card names."""
    card = read_teacher_card(folder)
    if sam.identity != card.sam_weights:
        raise CheckpointError(f"{folder} was distilled from a {card.sam} with other weights", f"give them as {option}")
    teacher = make_teacher(sam, num_classes, card.side, card.learned_prompts)
    of_sam = {name: value for name, value in teacher.state_dict().items() if name in teacher.frozen}
    path = Path(folder) / TEACHER
    load_strictly(teacher, {**of_sam, **load_tensors(path)}, str(path), "run `samsemi distill` again")
    return teacher.eval().requires_grad_(False)
