"""Groups of options that several commands share."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from samsemi.errors import UsageError
from samsemi.options.fields import LARGEST_BATCH, Field, Options
from samsemi.options.sams import NETWORKS, SAMS
from samsemi.options.window import WINDOWS
from samsemi.remedies import install

ENCODERS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "se_resnet50", "se_resnext50_32x4d"),
    *("efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4"),
    *("mobilenet_v2", "densenet121", "vgg16_bn", "tu-convnext_tiny", "tu-lcnet_050", "tu-mobilenetv3_small_100"),
)
"""What a shell completes; segmentation-models-pytorch, which is slow to import, has many more."""


@dataclass(frozen=True, kw_only=True)
class ConsoleOptions(Options):
    """What a command shows and where its defaults come from, not what it does: the same for all."""

    config: Annotated[Path | None, Field("Run", "TOML file with a table per command.", metavar="FILE")] = None
    json: Annotated[bool, Field("Run", "Print the result as one JSON object on stdout.")] = False
    quiet: Annotated[bool, Field("Run", "No progress.")] = False


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Options):
    overwrite: Annotated[bool, Field("Run", "Replace what stands at the output.", neutral=True)] = False
    break_lock: Annotated[
        bool, Field("Run", "Write although another command seems to write to the same output; only where it is surely gone.", neutral=True)
    ] = False


@dataclass(frozen=True, kw_only=True)
class ResumableOptions(OutputOptions):
    interrupted: ClassVar[str] = "what was finished is saved, --resume goes on from there"

    resume: Annotated[
        bool, Field("Run", "Go on where an interrupted command stopped; starts where there is nothing yet.", neutral=True)
    ] = False

    def __post_init__(self):
        super().__post_init__()
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other", "give one of them")


OF_EARLIER = ("overwrite", "resume", "break_lock")
"""Options that say what becomes of what an earlier command has left, and nothing of the output."""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    device: Annotated[
        str,
        Field(
            "Run", "Where to compute: auto, cpu, cuda, cuda:1, mps.", metavar="NAME", choices=("auto", "cpu", "cuda", "mps"), neutral=True
        ),
    ] = "auto"
    precision: Annotated[Literal["auto", "fp32", "bf16"], Field("Run", "auto: bf16 where the GPU has it.")] = "auto"


LearningRate = Annotated[float, Field("Training", "Highest learning rate.", min=1e-8, max=10.0, metavar="X")]

Keep = Annotated[Literal["last", "best"], Field("Training", "Last model, or best on val.")]

Compile = Annotated[
    bool,
    Field("Run", "Have torch compile the network first: minutes the first time, then faster steps; on a CPU it needs g++.", neutral=True),
]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(ResumableOptions, DeviceOptions):
    iterations: Annotated[int, Field("Training", "Optimizer steps.", min=1)] = 2000
    batch_size: Annotated[int, Field("Training", "Images per step.", min=1, max=LARGEST_BATCH)] = 8
    lr: LearningRate = 1e-3
    ema: Annotated[float, Field("Training", "Decay of the averaged weights.", min=0.0, max=0.9999)] = 0.99
    keep: Keep = "last"
    validate_every: Annotated[int | None, Field("Run", "Steps between validations; default: --iterations / 20.", min=1)] = None
    workers: Annotated[
        int | None, Field("Run", "Processes that load images; default: 0 on a CPU, up to 8 on a GPU.", min=0, max=256, neutral=True)
    ] = None
    tensorboard: Annotated[bool, Field("Run", "Also write the history as events of TensorBoard (samsemi[track]).", neutral=True)] = False
    seed: Annotated[int, Field("Run", "Seed of weights, batches and augmentation.", min=0)] = 0

    def __post_init__(self):
        super().__post_init__()
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UsageError("--tensorboard: tensorboard is not installed", f"run: {install('track')}; or leave it out")


@dataclass(frozen=True, kw_only=True)
class PolicyOptions(Options):
    """What is accepted from a store, and how it is learnt from; what is not given is as the store has it (see samsemi.mining.policy)."""

    min_quality: Annotated[
        float | None, Field("Acceptance", "Least probability, by the calibration, that an object is right.", min=0.0, max=1.0)
    ] = None
    min_confidence: Annotated[
        float | None, Field("Acceptance", "Least mean probability of the U-Net++ in its object.", min=0.0, max=1.0)
    ] = None
    min_predicted_iou: Annotated[float | None, Field("Acceptance", "Least IoU as SAM predicts it.", min=0.0, max=1.0)] = None
    min_stability: Annotated[
        float | None, Field("Acceptance", "Least IoU of SAM's mask with itself at other thresholds.", min=0.0, max=1.0)
    ] = None
    min_agreement: Annotated[float | None, Field("Acceptance", "Least IoU of SAM's mask with the U-Net++'s object.", min=0.0, max=1.0)] = (
        None
    )
    min_consensus: Annotated[
        float | None, Field("Acceptance", "Least IoU of the masks of alternative --prompts with their mean.", min=0.0, max=1.0)
    ] = None
    min_area_ratio: Annotated[
        float | None,
        Field("Acceptance", "Least ratio of the areas of SAM's mask and of its object, the smaller over the larger.", min=0.0, max=1.0),
    ] = None
    min_ensemble: Annotated[
        float | None, Field("Acceptance", "Least mean IoU of an object in the models' mean map with theirs.", min=0.0, max=1.0)
    ] = None
    background_below: Annotated[
        float | None,
        Field("Acceptance", "Objects that are right with a lower probability are background, not ignored.", min=0.0, max=1.0),
    ] = None
    sam_share: Annotated[
        float | None,
        Field(
            "Acceptance",
            "Share of SAM in the soft label, the rest is the U-Net++'s; default: what is best on the cases of the calibration.",
            min=0.0,
            max=1.0,
        ),
    ] = None
    disagreement_weight: Annotated[
        float | None, Field("Acceptance", "Weight of pixels where SAM and the U-Net++ disagree; 0: ignored.", min=0.0, max=1.0)
    ] = None
    sure_pixels: Annotated[
        float | None,
        Field("Acceptance", "Weight of pixels that the U-Net++ is sure of in images without an accepted object.", min=0.0, max=1.0),
    ] = None


Dataset = Annotated[
    Path, Field("Input", "Data set folder, made by `samsemi prepare`.", argument=True, metavar="DIR", reads=True, hashed=True)
]
AnyRun = Annotated[Path, Field("Input", "Run of `samsemi warmstart`, `finetune` or `distill`.", metavar="DIR", reads=True, hashed=True)]
ModelRun = Annotated[Path, Field("Input", "Run of `samsemi warmstart` or `finetune`.", metavar="DIR", reads=True, hashed=True)]
OF_TRANSFORMERS = "hf:FOLDER, hf:OWNER/NAME: of transformers"
WINDOW = Field(
    "Input",
    f"Of volumes, DICOM and arrays: values shown black and white, LOW,HIGH; {', '.join(WINDOWS)} (CT); auto: as the file "
    "says, else its percentiles. prepare takes auto by default, predict that of the training images.",
    metavar="LOW,HIGH",
    choices=("auto", *WINDOWS),
)
SamName = Annotated[
    str,
    Field(
        "SAM",
        f"{', '.join(NETWORKS)}; none: the model's own masks; ellipse: one in each box; distilled:RUN: KnowSAM's; "
        f"{OF_TRANSFORMERS}; MODULE:FUNCTION: your own.",
        metavar="NAME",
        choices=tuple(SAMS),
        code=True,
    ),
]
TrainedSamName = Annotated[
    str, Field("SAM", f"{', '.join(NETWORKS)}; MODULE:FUNCTION: your own.", metavar="NAME", choices=NETWORKS, code=True)
]
SamCheckpoint = Annotated[Path | None, Field("SAM", "Weights of --sam (.pth or .safetensors).", metavar="FILE", reads=True, hashed=True)]
OutRun = Annotated[Path, Field("Input", "Run folder to write.", metavar="DIR", neutral=True)]
NetworkSize = Annotated[int, Field("Network", "Side in pixels of the network's input, a multiple of 32.", min=32, max=2048, metavar="N")]
DecoderChannels = Annotated[str, Field("Network", "Channels of the five decoder stages.", metavar="N,N,...")]


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
