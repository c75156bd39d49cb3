"""The options of ``warmstart``."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from samsemi.options.fields import Field
from samsemi.options.shared import (
    ENCODERS,
    Compile,
    Dataset,
    DecoderChannels,
    NetworkSize,
    OutRun,
    TrainingOptions,
    check_network,
)


@dataclass(frozen=True, kw_only=True)
class WarmstartOptions(TrainingOptions):
    """Train a U-Net++ on the labeled cases."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi warmstart data --out warm --folds 5",
        "samsemi warmstart data --out warm --size 384 --encoder resnet50 --resume",
    )

    dataset: Dataset
    out: OutRun
    size: NetworkSize = 256
    encoder: Annotated[str, Field("Network", "Any encoder of segmentation-models-pytorch.", metavar="NAME", choices=ENCODERS)] = "resnet34"
    encoder_weights: Annotated[
        str,
        Field(
            "Network",
            "none, imagenet (downloads them), or a checkpoint FILE.",
            metavar="FILE",
            choices=("none", "imagenet"),
            hashed=True,
            online=("imagenet",),
        ),
    ] = "none"
    decoder_channels: DecoderChannels = "256,128,64,32,16"
    folds: Annotated[
        int | None, Field("Training", "Also train this many models on parts of the labeled cases, for out-of-fold predictions.", min=2)
    ] = None
    compile: Compile = False

    def __post_init__(self):
        super().__post_init__()
        check_network(self.size, self.decoder_channels)
