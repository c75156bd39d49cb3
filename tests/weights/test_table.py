"""The table of published weights: whole rows, and files that fit what they are said to be."""

import re

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision

from samsemi.errors import UsageError
from samsemi.options.sams import NETWORKS, SAMS
from samsemi.segmenters.pretrained import find_published, match_names
from samsemi.weights.table import ENCODER, WEIGHTS

HASHED = [weights for weights in WEIGHTS.values() if weights.sha256]
OF_TORCHVISION = [name.removeprefix(ENCODER) for name in WEIGHTS if name.startswith(ENCODER)]


def test_rows_are_whole():
    for name, weights in WEIGHTS.items():
        assert weights.name == name and weights.address.startswith("https://") and weights.license and weights.preprocessing and weights.use
        assert bool(weights.sha256) == bool(weights.source)
    assert len({weights.file for weights in WEIGHTS.values()}) == len(WEIGHTS)
    assert all(re.fullmatch("[0-9a-f]{64}", weights.sha256) for weights in HASHED)
    assert len({weights.sha256 for weights in HASHED}) == len(HASHED) >= 14


def test_hashes_begin_as_torchvision_s_names_of_files_say():
    for weights in HASHED:
        if weights.name.startswith(ENCODER):
            assert weights.sha256.startswith(weights.file.removesuffix(".pth").rpartition("-")[2])


def test_every_sam_with_weights_of_others_can_be_fetched():
    assert {name for name in NETWORKS if not SAMS[name].weights} <= set(WEIGHTS)


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_weights_of_torchvision_fill_the_encoder_of_that_name(name):
    """By names and shapes, without a number computed."""
    with torch.device("meta"):
        own = smp.encoders.get_encoder(name, weights=None).state_dict()
        published = torchvision.models.get_model(name).state_dict()
    found = match_names(own, published)
    assert set(found) == set(own)
    assert all(own[name].shape == published[theirs].shape for name, theirs in found.items())
    assert len(set(found.values())) == len(own)
    assert {name.split(".")[0] for name in set(published) - set(found.values())} <= {"fc", "classifier"}


def test_other_encoders_are_found_where_their_libraries_publish_them():
    densenet = find_published("densenet121")
    settings = smp.encoders.encoders["densenet121"]["pretrained_settings"]["imagenet"]
    assert densenet.address == f"https://huggingface.co/smp-hub/densenet121.imagenet/resolve/{settings['revision']}/model.safetensors"
    assert densenet.sha256 is None and densenet.file == "densenet121.imagenet.safetensors"
    convnext = find_published("tu-convnext_tiny")
    assert re.fullmatch(r"https://huggingface\.co/timm/convnext_tiny\.\w+/resolve/main/model\.safetensors", convnext.address)


@pytest.mark.parametrize("name", ["resnet999", "tu-no_such_network", "../x", "hf-hub:a/b", "", "tu-"])
def test_encoder_that_is_not_published_is_a_usage_error(name):
    with pytest.raises(UsageError, match="encoder:"):
        find_published(name)
