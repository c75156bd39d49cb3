"""The options of ``finetune``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from samsemi.errors import UsageError
from samsemi.options.shared import (
    Dataset,
    LearningRate,
    ModelRun,
    OutRun,
    PolicyOptions,
    TrainingOptions,
)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions, PolicyOptions):
    """Train the model on, with labeled cases and mined pseudo-labels; without a store, with labeled cases alone."""

    dataset: Dataset
    model: ModelRun
    out: OutRun
    store: Annotated[Path | None, Option(help="Pseudo-label store, made by `samsemi mine`.")] = None
    schedule: Annotated[Literal["once", "continuous"], Option(help="continuous: mine again with the model being trained.")] = "once"
    rounds: Annotated[
        int, Option(min=1, help="Share the iterations out to rounds: each mines with the last one's model and starts again from --model.")
    ] = 1
    remine_every: Annotated[int | None, Option(min=1, help="Steps between minings; default: a quarter of --iterations.")] = None
    lr: LearningRate = 1e-3
    pseudo_weight: Annotated[float, Option(min=0.0, max=10.0, help="Weight of the pseudo-label loss after the ramp-up.")] = 1.0
    pseudo_share: Annotated[float, Option(min=0.05, max=0.95, help="Share of each batch that is unlabeled.")] = 0.5
    ramp_up: Annotated[float, Option(min=0.0, max=1.0, help="Share of the iterations over which that weight grows.")] = 0.4
    from_scratch: Annotated[bool, Option("--from-scratch", help="Start each round from random weights of --model's network.")] = False
    strong: Annotated[bool, Option("--strong/--weak", help="Strong colors, blur and CutMix on the unlabeled part.")] = True
    sam: Annotated[str | None, Option(help="The store's SAM where it is MODULE:FUNCTION, for mining again.")] = None
    sam_checkpoint: Annotated[Path | None, Option(help="Weights of the store's SAM, for mining again.")] = None
    embeddings: Annotated[Path | None, Option(help="Cache of SAM's image embeddings; default: in the run folder.")] = None
    distill: Annotated[Path | None, Option(help="Run of `samsemi distill`: what its SAM says of every image is learnt as well.")] = None
    distill_weight: Annotated[float, Option(min=0.0, help="Weight of learning from that SAM.")] = 1.0
    teacher_checkpoint: Annotated[Path | None, Option(help="Weights of the SAM of --distill, where they are not in the package.")] = None

    def __post_init__(self):
        super().__post_init__()
        for asked, given in (("--schedule continuous", self.schedule == "continuous"), ("--rounds", self.rounds > 1)):
            if given and self.store is None:
                raise UsageError(f"{asked} needs --store", "run `samsemi mine` first and give its store")
        if self.schedule == "continuous" and self.rounds > 1:
            raise UsageError("--schedule continuous and --rounds exclude each other", "give one of them")
        if self.rounds > self.iterations:
            raise UsageError(f"--rounds {self.rounds} is more than --iterations {self.iterations}", "give fewer rounds")
