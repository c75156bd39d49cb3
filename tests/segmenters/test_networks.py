import copy

import pytest
import segmentation_models_pytorch as smp
import torch

from samsemi.errors import UsageError
from samsemi.segmenters.networks import PUBLISHED, build_network


def count(module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(("name", "millions"), [("unet", 1.94), ("vnet", 3.27)])
def test_published_networks_have_the_published_sizes(name, millions):
    assert count(build_network(name, 2, ())) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("name", [*PUBLISHED, "unetplusplus:resnet18", "fpn:tu-lcnet_035", "unet:resnet18"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_every_network_gives_logits_of_every_class_at_the_size_of_the_image(name, num_classes):
    network = build_network(name, num_classes, (8, 8, 8, 8, 8)).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 32)).shape == (2, num_classes, 64, 32)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_weight_of_a_published_network_learns(name):
    torch.manual_seed(0)
    network = build_network(name, 3, ())
    network(torch.rand(2, 3, 32, 32)).square().sum().backward()
    still = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not [key for key in still if not key.endswith("bias")]  # a bias before batch norm has no gradient


def test_vnet_has_no_normalization_and_adds_its_skips():
    """An image of zeros and biases of zero give logits of zero: nothing is normalized, nothing is concatenated from elsewhere."""
    network = build_network("vnet", 2, ())
    for key, value in network.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.zeros_(value)
    assert not network(torch.zeros(1, 3, 32, 32)).any()
    assert network(torch.ones(1, 3, 32, 32)).isclose(network(torch.full((1, 3, 32, 32), 2.0)) / 2, rtol=1e-4, atol=1e-6).all()
    for up in network.up:
        cut = copy.deepcopy(network)
        torch.nn.init.zeros_(cut.up[list(network.up).index(up)][0].weight)
        assert cut(torch.ones(1, 3, 32, 32)).any(), "what is cut off below still comes in beside"


@pytest.mark.filterwarnings("ignore:`timm-` encoders:DeprecationWarning")
def test_encoder_that_smp_takes_without_listing_it_is_taken():
    name = "timm-mobilenetv3_small_100"
    assert name not in smp.encoders.get_encoder_names()
    network = build_network(f"unetplusplus:{name}", 2, (8, 8, 8, 8, 8)).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize(
    ("name", "named", "hint"),
    [
        ("umet", "umet: no such network", "unet, vnet"),
        ("unetpp:resnet18", "no such architecture", "unet"),
        ("unet:resnet43", "no such encoder", "resnet34"),
        ("unet:timm-resnet43", "no such encoder", "resnet"),
        ("unet:tu-resnet43", "cannot be used", "another encoder"),
        ("unetplusplus:mit_b0", "cannot be used", "another encoder"),
    ],
)
def test_network_that_does_not_exist_is_a_usage_error_that_names_the_flag(name, named, hint):
    with pytest.raises(UsageError, match="--peers") as caught:
        build_network(name, 2, (8, 8, 8, 8, 8))
    assert named in caught.value.message and hint in caught.value.hint
