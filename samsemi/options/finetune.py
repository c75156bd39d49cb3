"""The options of ``finetune``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from samsemi.errors import UsageError
from samsemi.options.fields import Field
from samsemi.options.shared import (
    Compile,
    Dataset,
    LearningRate,
    ModelRun,
    OutRun,
    PolicyOptions,
    TrainingOptions,
)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions, PolicyOptions):
    """Train a model on, with pseudo-labels; without a store, with labeled cases."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi finetune data --model warm --store sam.h5 --out mined",
        "samsemi finetune data --model warm --out control",
    )

    dataset: Dataset
    model: ModelRun
    out: OutRun
    store: Annotated[
        Path | None, Field("Input", "Pseudo-label store, made by `samsemi mine`.", metavar="FILE", reads=True, hashed=True)
    ] = None
    schedule: Annotated[
        Literal["once", "continuous", "online"],
        Field("Training", "once; continuous: mine again at times; online: in every step.", metavar="WHEN"),
    ] = "once"
    rounds: Annotated[
        int,
        Field("Training", "Share --iterations out to rounds; each mines with the last one's model and starts from --model.", min=1),
    ] = 1
    remine_every: Annotated[int | None, Field("Training", "Steps between minings; default: --iterations / 4.", min=1)] = None
    lr: LearningRate = 1e-3
    pseudo_weight: Annotated[float, Field("Training", "Weight of the pseudo-label loss.", min=0.0, max=10.0)] = 1.0
    pseudo_share: Annotated[
        float | Literal["auto"],
        Field(
            "Training",
            "Unlabeled share of a batch; auto: each image as often as a labeled one, half at most.",
            min=0.05,
            max=0.95,
            metavar="X|auto",
        ),
    ] = 0.5
    ramp_up: Annotated[float, Field("Training", "Share of the steps in which --pseudo-weight is reached.", min=0.0, max=1.0)] = 0.4
    from_scratch: Annotated[bool, Field("Training", "Start each round from random weights.")] = False
    strong: Annotated[bool, Field("Training", "Strong colors, blur, CutMix on unlabeled cases.", off="--weak")] = True
    compile: Compile = False
    sam: Annotated[
        str | None,
        Field("SAM", "The store's SAM where it is your own, of the hub, or lies elsewhere.", metavar="NAME", hashed=True, code=True),
    ] = None
    sam_checkpoint: Annotated[
        Path | None, Field("SAM", "Weights of the store's SAM, to mine again.", metavar="FILE", reads=True, hashed=True)
    ] = None
    embeddings: Annotated[
        Path | None,
        Field("SAM", "Cache of SAM's embeddings; default: in --out.", metavar="FILE", reads=True, hashed=True),
    ] = None
    distill: Annotated[
        Path | None,
        Field(
            "Input", "Run of `samsemi distill`: its SAM's logits of every image are learnt as well.", metavar="DIR", reads=True, hashed=True
        ),
    ] = None
    distill_weight: Annotated[float, Field("Training", "Weight of what --distill teaches.", min=0.0)] = 1.0
    teacher_checkpoint: Annotated[
        Path | None, Field("SAM", "Weights of the SAM of --distill.", metavar="FILE", reads=True, hashed=True)
    ] = None

    def __post_init__(self):
        super().__post_init__()
        for flag, given in ((f"--schedule {self.schedule}", self.schedule != "once"), ("--rounds", self.rounds > 1)):
            if given and self.store is None:
                raise UsageError(f"{flag} needs --store", "run `samsemi mine` first and give its store")
        if self.remine_every is not None and self.schedule != "continuous":
            why = {"once": "once mines nothing again", "online": "online mines in every step"}[self.schedule]
            raise UsageError("--remine-every needs --schedule continuous", f"give it too; {why}")
        if self.schedule != "once" and self.rounds > 1:
            raise UsageError(f"--schedule {self.schedule} and --rounds exclude each other", "give one of them")
        if self.rounds > self.iterations:
            raise UsageError(f"--rounds {self.rounds} is more than --iterations {self.iterations}", "give fewer rounds")
