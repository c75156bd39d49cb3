"""Groups of options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from samsemi.errors import UsageError
from samsemi.options.fields import Options


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Options):
    overwrite: Annotated[bool, Option("--overwrite", help="Replace what stands at the output.")] = False


@dataclass(frozen=True, kw_only=True)
class ResumableOptions(OutputOptions):
    resume: Annotated[bool, Option("--resume", help="Go on where an interrupted command stopped; starts where there is nothing yet.")] = (
        False
    )

    def __post_init__(self):
        super().__post_init__()
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other", "give one of them")


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    device: Annotated[str, Option(help="Where to compute: auto, cpu, cuda, cuda:1, mps.")] = "auto"
    precision: Annotated[Literal["auto", "fp32", "bf16"], Option(help="auto: bf16 where the GPU has it, else fp32.")] = "auto"


LearningRate = Annotated[float, Option(min=1e-8, max=10.0, help="Highest learning rate (warm-up, cosine).")]

Keep = Annotated[Literal["last", "best"], Option(help="Which model is kept: the last one, or the best of all validations.")]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(ResumableOptions, DeviceOptions):
    iterations: Annotated[int, Option(min=1, help="Optimizer steps.")] = 2000
    batch_size: Annotated[int, Option(min=1, help="Images per step.")] = 8
    lr: LearningRate = 1e-3
    ema: Annotated[float, Option(min=0.0, max=0.9999, help="Decay per step of the averaged weights, which are the ones kept.")] = 0.99
    keep: Keep = "last"
    validate_every: Annotated[int | None, Option(min=1, help="Steps between validations; default: a twentieth of --iterations.")] = None
    workers: Annotated[int | None, Option(min=0, help="Processes that load images; default: 0 on CPU, up to 8 on a GPU.")] = None
    seed: Annotated[int, Option(min=0, help="Seed of weights, batches and augmentation.")] = 0


@dataclass(frozen=True, kw_only=True)
class PolicyOptions(Options):
    """What is accepted from a store, and how it is learnt from; what is not given is as the store says (see samsemi.mining.policy)."""

    min_quality: Annotated[
        float | None, Option(min=0.0, max=1.0, help="Reject objects that are right with a lower probability, by the calibration.")
    ] = None
    min_confidence: Annotated[
        float | None, Option(min=0.0, max=1.0, help="Reject objects of which the U-Net++ is less sure, on average.")
    ] = None
    min_predicted_iou: Annotated[float | None, Option(min=0.0, max=1.0, help="Reject objects whose IoU as SAM predicts it is lower.")] = (
        None
    )
    min_stability: Annotated[float | None, Option(min=0.0, max=1.0, help="Reject masks that change more when the threshold moves.")] = None
    min_agreement: Annotated[float | None, Option(min=0.0, max=1.0, help="Reject masks whose IoU with the U-Net++ object is lower.")] = None
    min_consensus: Annotated[
        float | None, Option(min=0.0, max=1.0, help="Reject masks on which the alternatives of --prompts agree less.")
    ] = None
    min_area_ratio: Annotated[
        float | None,
        Option(min=0.0, max=1.0, help="Reject masks whose area differs more from the object's: smaller over larger."),
    ] = None
    background_below: Annotated[
        float | None, Option(min=0.0, max=1.0, help="Objects that are right with a lower probability are background, not ignored.")
    ] = None
    sam_share: Annotated[
        float | None,
        Option(
            min=0.0, max=1.0, help="Share of SAM in the soft label beside the U-Net++; by default what is best on the calibration's cases."
        ),
    ] = None
    disagreement_weight: Annotated[
        float | None, Option(min=0.0, max=1.0, help="Weight of the pixels where SAM and the U-Net++ disagree; 0 ignores them.")
    ] = None


Dataset = Annotated[Path, Argument(help="Data set folder, made by `samsemi prepare`.", show_default=False)]
ModelRun = Annotated[Path, Option(help="Run folder of the model, made by `samsemi warmstart` or `finetune`.", show_default=False)]
SamName = Annotated[
    str,
    Option(help="tiny, vit_b, vit_l, vit_h, medsam; none: the model's own masks; ellipse: one in each box; MODULE:FUNCTION: your own."),
]
SamCheckpoint = Annotated[Path | None, Option(help="Weights of --sam (.pth or .safetensors).")]
OutRun = Annotated[Path, Option(help="Run folder to write.", show_default=False)]
NetworkSize = Annotated[int, Option(min=32, max=2048, help="Side in pixels at which the network sees an image; a multiple of 32.")]
DecoderChannels = Annotated[str, Option(help="Channels of the five decoder stages.")]


def check_network(size: int, decoder_channels: str) -> None:
    """UsageError for a size or for decoder channels that no network can have."""
    if size % 32:
        raise UsageError(f"--size {size} is not a multiple of 32", f"give {max(32, round(size / 32) * 32)}")
    parse_channels(decoder_channels)


def parse_channels(text: str) -> tuple[int, ...]:
    """'64,32,16,16,8' -> five channel counts; UsageError otherwise."""
    parts = text.split(",")
    if len(parts) != 5 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--decoder-channels {text}: five numbers are needed", "for example 256,128,64,32,16")
    return tuple(int(part) for part in parts)
