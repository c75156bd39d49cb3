"""Encoders that others have trained on ImageNet: where segmentation-models-pytorch and timm publish them, and their files as encoders."""

import logging
from collections.abc import Mapping
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from samsemi.errors import UsageError
from samsemi.segmenters.networks import PLAIN_NAME, check_known
from samsemi.tensors import load_strictly, load_tensors
from samsemi.weights.table import ENCODER, ENCODER_INPUT, KnownWeights

LOG = logging.getLogger("samsemi")
HUB = "https://huggingface.co"
TIMM = "tu-"
"""What the names of timm's encoders begin with in segmentation-models-pytorch."""


def find_published(encoder: str) -> KnownWeights:
    """Where the ImageNet weights of an encoder are published, without a hash; UsageError for one that has none."""
    given = f"{ENCODER}{encoder:.80}"
    if not PLAIN_NAME.fullmatch(encoder):
        raise UsageError(f"{given}: no name of an encoder", "for example encoder:resnet34, or encoder:tu-convnext_tiny")
    if encoder.startswith(TIMM):
        place = timm_place(encoder.removeprefix(TIMM))
    else:
        check_known("encoder", encoder, list(smp.encoders.encoders), given)
        settings = smp.encoders.encoders[encoder]["pretrained_settings"].get("imagenet", {})
        place = f"{settings['repo_id']}/resolve/{settings['revision']}" if settings else None
    if place is None:
        raise UsageError(f"{given}: no ImageNet weights are published for it", "take another encoder, or a file of your own")
    address, use = f"{HUB}/{place}/model.safetensors", f"--encoder {encoder} --encoder-weights FILE"
    license = "as its page says: " + "/".join(address.split("/")[:5])
    return KnownWeights(given, address, None, None, license, ENCODER_INPUT, use, "", f"{encoder}.imagenet.safetensors")


def timm_place(name: str) -> str | None:
    """Where on the hub the weights of a network of timm lie."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name.split(".")[0]) else None
    if config is None or not config.hf_hub_id:
        return None
    repository = config.hf_hub_id if not config.hf_hub_id.endswith("/") else f"{config.hf_hub_id}{config.architecture}.{config.tag}"
    return f"{repository}/resolve/main"


def load_encoder(encoder: nn.Module, path: Path, name: str) -> None:
    """Fill an encoder from a file of it, or of the whole network that it is the first part of, as torchvision and timm publish them;
    CheckpointError where weights are missing or do not fit."""
    tensors = load_tensors(path)
    fitting = match_names(encoder.state_dict(), tensors)
    left = sorted(set(tensors) - set(fitting.values()))
    load_strictly(
        encoder,
        {own: tensors[theirs] for own, theirs in fitting.items()},
        f"{path} as encoder {name}",
        f"give weights of smp's {name} encoder, or of the network that it is part of",
    )
    if left:
        LOG.info(f"{path}: {len(left)} weights are not of the encoder, such as {left[0]}, and were left out")


def match_names(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, str]:
    """For each weight of an encoder the name that a file has for it, where it has one: the same; or, of timm, that of the network, whose
    stages have other dots in their names as part of an encoder."""
    known = {plain(name): name for name in theirs}
    return {name: name if name in theirs else known[plain(name)] for name in own if name in theirs or plain(name) in known}


def plain(name: str) -> str:
    """'model.stages_0.blocks.0.weight', 'stages.0.blocks.0.weight' -> 'stages_0_blocks_0_weight'."""
    return name.removeprefix("model.").replace(".", "_")
