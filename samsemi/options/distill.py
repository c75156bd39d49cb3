"""The options of ``distill``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from samsemi.errors import UsageError
from samsemi.options.fields import LARGEST_BATCH, Field
from samsemi.options.shared import (
    Dataset,
    DecoderChannels,
    NetworkSize,
    OutRun,
    PolicyOptions,
    SamCheckpoint,
    TrainedSamName,
    TrainingOptions,
    check_network,
)

PUBLISHED_ITERATIONS = 50_000
"""For which the published settings, the defaults, are meant."""
PRESETS: dict[str, dict[str, object]] = {
    "short": {
        "size": 96,
        "batch_size": 8,
        "iterations": 600,
        "optimizer": "adamw",
        "lr": 4e-3,
        "sam_lr": 1e-3,
        "temperature": 2.0,
        "peers": "unetplusplus:tu-mobilenetv3_small_100,unet:tu-mobilenetv3_small_100",
        "decoder_channels": "48,32,16,12,8",
    },
}
"""What --preset sets where it is not given: 'short' is for some hundred iterations on a CPU."""


@dataclass(frozen=True, kw_only=True)
class DistillOptions(TrainingOptions, PolicyOptions):
    """Co-train two networks with a SAM that prompts itself as teacher (KnowSAM)."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi distill data --out distilled",
        "samsemi distill data --out distilled --preset short --iterations 600",
    )

    dataset: Dataset
    out: OutRun
    sam: TrainedSamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    sam_size: Annotated[int | None, Field("SAM", "Side of SAM's input; default: at most 256.", min=32)] = None
    store: Annotated[Path | None, Field("Input", "Store of `samsemi mine`: learnt as well.", metavar="FILE", reads=True, hashed=True)] = (
        None
    )
    peers: Annotated[
        str,
        Field(
            "Network",
            "unet, vnet (as published) or ARCHITECTURE:ENCODER.",
            metavar="A,B",
            choices=("unet,vnet",),
        ),
    ] = "unet,vnet"
    size: NetworkSize = 256
    encoder_weights: Annotated[
        Literal["none", "imagenet"], Field("Network", "imagenet: pretrained encoders.", metavar="NAME", online=("imagenet",))
    ] = "none"
    decoder_channels: DecoderChannels = "256,128,64,32,16"
    preset: Annotated[Literal["short"] | None, Field("Training", "Settings for hundreds of steps.", neutral=True, presets=PRESETS)] = None
    iterations: Annotated[int, Field("Training", "Optimizer steps.", min=1)] = PUBLISHED_ITERATIONS
    batch_size: Annotated[int, Field("Training", "Images per step, half labeled.", min=4, max=LARGEST_BATCH)] = 24
    lr: Annotated[float, Field("Training", "Highest learning rate in peers.", min=1e-8, max=10.0, metavar="X")] = 0.01
    optimizer: Annotated[Literal["sgd", "adamw"], Field("Training", "sgd (linear) or adamw (cosine).")] = "sgd"
    sam_lr: Annotated[float, Field("SAM", "Highest learning rate in SAM.", min=1e-8, max=10.0, metavar="X")] = 1e-4
    temperature: Annotated[float, Field("Training", "Softens SAM's logits.", min=0.1)] = 10.0
    distill_weight: Annotated[float, Field("Training", "Weight of what SAM teaches.", min=0.0)] = 1.0
    entropy_weight: Annotated[float, Field("Training", "Weight of entropy minimization.", min=0.0)] = 0.9
    mutual_weight: Annotated[float, Field("Training", "Weight of what the peers teach.", min=0.0)] = 1.0
    store_weight: Annotated[float, Field("Training", "Weight of what --store teaches.", min=0.0)] = 1.0
    mix: Annotated[
        Literal["highest", "lowest"],
        Field("Training", "Entropy of cells to replace."),
    ] = "highest"
    mix_cells: Annotated[int, Field("Training", "Cells of an image to replace.", min=1)] = 5
    mix_grid: Annotated[int, Field("Training", "Cells along a side of an image.", min=1)] = 4
    mix_from: Annotated[float, Field("Training", "Share of steps before mixing.", min=0.0, max=1.0)] = 0.24
    overlays: Annotated[int, Field("Run", "Pictures of so many val cases: truth, the peers' mask, SAM's.", min=0, neutral=True)] = 8
    map_dropout: Annotated[
        float, Field("Ablation", "Share of the labeled images of which SAM does not get the peers' map.", min=0.0, max=1.0)
    ] = 0.0
    no_sam: Annotated[bool, Field("Ablation", "No teacher.")] = False
    no_mixing: Annotated[bool, Field("Ablation", "Images stay whole.")] = False
    no_fusion: Annotated[bool, Field("Ablation", "Mean of the peers instead of a fusion head.")] = False
    no_learned_prompts: Annotated[bool, Field("Ablation", "SAM is prompted by the peers' map alone.")] = False

    def __post_init__(self):
        super().__post_init__()
        check_network(self.size, self.decoder_channels)
        if len(self.peers.split(",")) != 2:
            raise UsageError(f"--peers {self.peers}: two networks are needed", "for example unet,vnet")
        if self.batch_size % 2:
            raise UsageError(f"--batch-size {self.batch_size} is odd", "give an even one: half of a batch is labeled")
        if self.size % self.mix_grid:
            raise UsageError(f"--mix-grid {self.mix_grid} does not divide --size {self.size}", "give 4 or 8")
        if self.mix_cells > self.mix_grid**2:
            raise UsageError(f"--mix-cells {self.mix_cells} is more than a grid of {self.mix_grid} x {self.mix_grid} has", "give fewer")
