"""The options of ``warmstart``."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from samsemi.options.shared import (
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

    dataset: Dataset
    out: OutRun
    size: NetworkSize = 256
    encoder: Annotated[str, Option(help="Any encoder of segmentation-models-pytorch.")] = "resnet34"
    encoder_weights: Annotated[str, Option(help="none, imagenet (downloads them), or a checkpoint FILE of the encoder.")] = "none"
    decoder_channels: DecoderChannels = "256,128,64,32,16"
    folds: Annotated[int | None, Option(min=2, help="Also train this many models on parts of the labeled cases, for out-of-fold maps.")] = (
        None
    )

    def __post_init__(self):
        super().__post_init__()
        check_network(self.size, self.decoder_channels)
