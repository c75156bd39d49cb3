"""The options of ``adapt``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from samsemi.errors import UsageError
from samsemi.options.shared import (
    Dataset,
    Keep,
    LearningRate,
    SamCheckpoint,
    SamName,
    TrainingOptions,
)


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(TrainingOptions):
    """Fit SAM to the labeled cases, or only measure how well it answers prompts."""

    dataset: Dataset
    sam: SamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    out: Annotated[Path | None, Option(help="SAM weights to write (.safetensors); the run goes beside them.", show_default=False)] = None
    model: Annotated[
        Path | None, Option(help="Run folder of `samsemi warmstart --folds`: SAM also learns to mend its out-of-fold masks.")
    ] = None
    lora: Annotated[int | None, Option(min=1, help="Also train low-rank adapters of this rank in the image encoder.")] = None
    all: Annotated[bool, Option("--all", help="Train everything, the image encoder too (small models).")] = False
    from_scratch: Annotated[bool, Option("--from-scratch", help="Start from random weights.")] = False
    stream: Annotated[
        str | None,
        Option(help="MODULE:FUNCTION that draws scene n, instead of labeled cases: n -> image (H, W, 3) uint8, masks (N, H, W) bool."),
    ] = None
    iterations: Annotated[int, Option(min=1, help="Optimizer steps.")] = 1000
    lr: LearningRate = 1e-4
    keep: Keep = "best"
    optimizer: Annotated[Literal["adamw", "muon"], Option(help="muon: for the matrices of linear layers, quicker from scratch.")] = "adamw"
    clicks: Annotated[int, Option(min=0, help="How often an answer is corrected by a point in its error.")] = 2
    overlays: Annotated[
        int, Option(min=0, help="Pictures of so many val cases: truth, and SAM's answer to a jittered box before and after.")
    ] = 8
    evaluate: Annotated[bool, Option("--evaluate", help="Only measure, on --split.")] = False
    split: Annotated[Literal["labeled", "val", "test"], Option(help="Cases that --evaluate measures.")] = "val"

    def __post_init__(self):
        super().__post_init__()
        if self.evaluate == (self.out is not None):
            raise UsageError("adapt either trains or measures", "give --out SAM.safetensors, or --evaluate")
        if self.all and self.lora:
            raise UsageError("--all and --lora exclude each other", "give one of them")
        if self.from_scratch and not (self.all or self.evaluate):
            raise UsageError("--from-scratch needs --all", "give it too: a random image encoder cannot stay as it is")
        if self.stream and self.model:
            raise UsageError("--stream and --model exclude each other", "give one of them")
        if self.from_scratch and self.sam_checkpoint:
            raise UsageError("--from-scratch and --sam-checkpoint exclude each other", "give one of them")
        if self.out is not None and self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out} does not end in .safetensors", "name it SAM.safetensors")
