"""The options of ``distill``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from samsemi.errors import UsageError
from samsemi.options.shared import (
    Dataset,
    DecoderChannels,
    NetworkSize,
    OutRun,
    PolicyOptions,
    SamCheckpoint,
    SamName,
    TrainingOptions,
    check_network,
)


@dataclass(frozen=True, kw_only=True)
class DistillOptions(TrainingOptions, PolicyOptions):
    """KnowSAM: two small networks teach each other, and a SAM that learns to prompt itself teaches both."""

    dataset: Dataset
    out: OutRun
    sam: SamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    sam_size: Annotated[int | None, Option(min=32, help="Side in pixels at which SAM sees an image; default: its own, 256 at most.")] = None
    store: Annotated[Path | None, Option(help="Pseudo-label store of `samsemi mine`: its labels are learnt as well.")] = None
    peers: Annotated[
        str, Option(help="Two networks: unet, vnet (as published), or ARCHITECTURE:ENCODER of segmentation-models-pytorch.")
    ] = "unet,vnet"
    size: NetworkSize = 256
    encoder_weights: Annotated[Literal["none", "imagenet"], Option(help="Of peers with an encoder; imagenet downloads them.")] = "none"
    decoder_channels: DecoderChannels = "256,128,64,32,16"
    iterations: Annotated[int, Option(min=1, help="Optimizer steps.")] = 50_000
    batch_size: Annotated[int, Option(min=4, help="Images per step, half of them labeled.")] = 24
    lr: Annotated[
        float,
        Option(min=1e-8, max=10.0, help="Highest learning rate of the peers: of sgd it falls in a line, of adamw as in all trainings."),
    ] = 0.01
    optimizer: Annotated[Literal["sgd", "adamw"], Option(help="Of the peers; adamw, with a lower --lr, for short runs.")] = "sgd"
    sam_lr: Annotated[float, Option(min=1e-8, max=10.0, help="Highest learning rate of SAM's adapters and prompts (Adam).")] = 1e-4
    temperature: Annotated[float, Option(min=0.1, help="Softens what SAM says before it is learnt.")] = 10.0
    distill_weight: Annotated[float, Option(min=0.0, help="Weight of learning from SAM.")] = 1.0
    entropy_weight: Annotated[float, Option(min=0.0, help="Weight of being sure.")] = 0.9
    mutual_weight: Annotated[float, Option(min=0.0, help="Weight of learning from the other peer, after the ramp-up.")] = 1.0
    store_weight: Annotated[float, Option(min=0.0, help="Weight of learning from --store, after the ramp-up.")] = 1.0
    mix: Annotated[
        Literal["highest", "lowest"],
        Option(help="Cells of an image that are replaced by those of another: of highest or lowest uncertainty."),
    ] = "highest"
    mix_cells: Annotated[int, Option(min=1, help="How many cells of an image.")] = 5
    mix_grid: Annotated[int, Option(min=1, help="Cells along a side.")] = 4
    mix_from: Annotated[float, Option(min=0.0, max=1.0, help="Share of the iterations after which images are mixed.")] = 0.24
    overlays: Annotated[int, Option(min=0, help="Pictures of so many val cases: truth, the peers' answer, SAM's.")] = 8
    no_sam: Annotated[bool, Option("--no-sam", help="Ablation: no teacher.")] = False
    no_mixing: Annotated[bool, Option("--no-mixing", help="Ablation: images stay whole.")] = False
    no_fusion: Annotated[bool, Option("--no-fusion", help="Ablation: the mean of the peers instead of a fusion head.")] = False
    no_learned_prompts: Annotated[bool, Option("--no-learned-prompts", help="Ablation: SAM is asked by the peers' map alone.")] = False

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
