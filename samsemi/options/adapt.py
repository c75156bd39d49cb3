"""The options of ``adapt``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from samsemi.errors import UsageError
from samsemi.options.fields import Field
from samsemi.options.sams import NETWORKS, SAMS
from samsemi.options.shared import (
    OF_TRANSFORMERS,
    Dataset,
    LearningRate,
    SamCheckpoint,
    TrainingOptions,
)

CROPS = 0.5
"""Share of the cases that are seen as crops, for a SAM that ``mine`` shows crops."""
MOST_ZOOM = 100


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(TrainingOptions):
    """Fit SAM to the labeled cases, or only measure how good its masks are."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi adapt data --sam vit_b --lora 4 --out sam.safetensors",
        "samsemi adapt data --sam tiny --evaluate --split test",
    )

    dataset: Dataset
    sam: Annotated[
        str,
        Field("SAM", f"{', '.join(NETWORKS)}; {OF_TRANSFORMERS}; MODULE:FUNCTION: your own.", metavar="NAME", choices=NETWORKS, code=True),
    ] = "tiny"
    sam_checkpoint: SamCheckpoint = None
    out: Annotated[
        Path | None, Field("Input", "SAM weights to write (.safetensors); the run goes beside them.", metavar="FILE", neutral=True)
    ] = None
    model: Annotated[
        Path | None,
        Field(
            "Input",
            "Run of `samsemi warmstart --folds`: SAM also learns to fix its out-of-fold masks.",
            metavar="DIR",
            reads=True,
            hashed=True,
        ),
    ] = None
    lora: Annotated[int | None, Field("SAM", "Also train low-rank adapters of this rank in the image encoder.", min=1, max=1024)] = None
    all: Annotated[bool, Field("SAM", "Train everything, the image encoder too (small models).")] = False
    from_scratch: Annotated[bool, Field("SAM", "Start from random weights.")] = False
    stream: Annotated[
        str | None,
        Field(
            "Input",
            "Function that draws scene n, instead of labeled cases: n -> image (H, W, 3) uint8, masks (N, H, W) bool.",
            metavar="MODULE:FUNCTION",
            code=True,
        ),
    ] = None
    iterations: Annotated[int, Field("Training", "Optimizer steps.", min=1)] = 1000
    lr: LearningRate = 1e-4
    optimizer: Annotated[Literal["adamw", "muon"], Field("Training", "muon: for the matrices of linear layers, from scratch.")] = "adamw"
    clicks: Annotated[int, Field("Training", "How often a mask is corrected by a point in its error.", min=0)] = 2
    crops: Annotated[
        float | None,
        Field(
            "Training",
            f"Share of cases seen as a crop around an object; default: {CROPS:g} if the image encoder learns and `mine` zooms.",
            min=0.0,
            max=1.0,
        ),
    ] = None
    overlays: Annotated[
        int,
        Field("Run", "Pictures of so many val cases: truth, SAM's mask of a jittered box before and after.", min=0, neutral=True),
    ] = 8
    evaluate: Annotated[bool, Field("Input", "Only measure, on --split.")] = False
    split: Annotated[Literal["labeled", "val", "test"], Field("Input", "Cases that --evaluate measures.")] = "val"
    zoom: Annotated[
        str | None,
        Field("SAM", "With --evaluate: it also sees a crop of F times each box, for each F.", metavar="F,F,...", neutral=True),
    ] = None
    probe: Annotated[
        int,
        Field("Run", "With --evaluate: images, labeled and of --split, for the probe of its embedding; 0: none.", min=0, neutral=True),
    ] = 16

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
        learns = (self.all or self.lora is not None) and not self.stream
        if self.crops and not learns:
            raise UsageError("--crops are of labeled cases, for an image encoder that learns", "give --all or --lora, and no --stream")
        if self.crops is None:
            object.__setattr__(self, "crops", CROPS if learns and self.sam in SAMS and SAMS[self.sam].zoom else 0.0)
        if self.out is not None and self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out} does not end in .safetensors", "name it SAM.safetensors")
        if self.zoom and not self.evaluate:
            raise UsageError("--zoom is for --evaluate", "give it too, or leave --zoom out")
        parse_zoom(self.zoom)


def parse_zoom(text: str | None) -> tuple[float, ...]:
    """'1.5,2' -> (1.5, 2.0), none for None; UsageError for what is no list of different factors from 1."""
    if text is None:
        return ()
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        factors = ()
    if not factors or len(set(factors)) < len(factors) or not all(1 <= factor <= MOST_ZOOM for factor in factors):
        raise UsageError(f"--zoom {text}: different factors from 1 to {MOST_ZOOM} are needed", "for example 1.5 or 1.5,2")
    return factors
