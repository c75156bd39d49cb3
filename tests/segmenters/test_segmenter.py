import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from samsemi.errors import CheckpointError, UsageError
from samsemi.segmenters.checkpoints import load_model, save_model
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, new_segmenter, predict_batch, predict_image, to_input, to_label
from samsemi.tensors import hash_tensors
from samsemi.training.loop import summarize_run

SPEC = ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), ("background", "a", "b"), 32)


class PixelNet(nn.Module):
    """Stands for a Segmenter: the logits of classes 1 and 2 are 20 times red and green."""

    def __init__(self, size: int = 32):
        super().__init__()
        self.spec = dataclasses.replace(SPEC, size=size)
        self.device = torch.device("cpu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
        background = torch.full_like(images[:, :1], 10.0)
        return torch.cat([background, 20 * images[:, :2]], dim=1)


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return Segmenter(SPEC).eval()


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def test_prediction_lies_over_the_image_whatever_its_size_and_aspect():
    """Sizes that are no multiples of 32, a wide and a tall one, in one batch."""
    images = []
    for height, width in ((50, 90), (90, 50), (32, 32), (61, 33), (7, 5)):
        image = np.zeros((height, width, 3), dtype=np.uint8)
        image[: height // 2, width // 2 :, 0] = 255
        image[height // 2 :, : width // 2, 1] = 255
        images.append(image)
    for image, probs in zip(images, predict_batch(PixelNet(), images), strict=True):
        assert probs.shape == (3, *image.shape[:2]) and probs.dtype == np.float32
        assert probs.sum(axis=0) == pytest.approx(np.ones(image.shape[:2]), abs=1e-5)
        expected = np.where(image[..., 0] > 0, 1, np.where(image[..., 1] > 0, 2, 0))
        assert (to_label(probs) == expected).mean() > (0.9 if min(image.shape[:2]) > 10 else 0.75)


def test_prediction_at_the_networks_size_is_its_softmax():
    image = image_of(32, 32)
    logits = PixelNet()(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    assert predict_image(PixelNet(), image) == pytest.approx(logits.softmax(dim=1)[0].numpy(), abs=1e-6)


def test_prediction_of_an_image_does_not_depend_on_its_batch(segmenter):
    images = [image_of(40, 70, 1), image_of(64, 30, 2), image_of(32, 32, 3)]
    for image, probs in zip(images, predict_batch(segmenter, images), strict=True):
        assert probs == pytest.approx(predict_image(segmenter, image), abs=1e-5)


def test_network_gives_logits_of_every_class_at_its_size(segmenter):
    assert segmenter(torch.rand(2, 3, 32, 32)).shape == (2, 3, 32, 32)


def test_network_owns_its_normalization(segmenter):
    """Images in [0, 1] come in; what the network itself sees has ImageNet's mean taken off and is divided by its deviation."""
    seen = []
    hook = segmenter.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 32, 32)
    segmenter(images)
    hook.remove()
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        assert torch.allclose(seen[0][:, channel], (images[:, channel] - mean) / std, atol=1e-5)


def test_label_is_the_most_probable_class():
    probs = np.array([[0.5, 0.2, 0.3], [0.3, 0.7, 0.3], [0.2, 0.1, 0.4]], dtype=np.float32).reshape(3, 1, 3)
    assert to_label(probs).tolist() == [[0, 1, 2]] and to_label(probs).dtype == np.uint8


def test_input_is_the_image_squeezed_to_a_square():
    image = np.zeros((20, 60, 3), dtype=np.uint8)
    image[:10, 30:] = (200, 100, 50)
    tensor = to_input(image, 32)
    assert tensor.shape == (3, 32, 32) and tensor.dtype == torch.uint8
    assert (tensor[:, :14, 18:] == torch.tensor([200, 100, 50], dtype=torch.uint8).view(3, 1, 1)).all()
    assert not tensor[:, 18:].any() and not tensor[:, :, :14].any()


@pytest.mark.parametrize(
    ("encoder", "hint"), [("resnet43", "resnet34"), ("nothing-like-it", "for example"), ("tu-no_such_model", "another")]
)
def test_unknown_encoder_is_a_usage_error_with_a_suggestion(encoder, hint):
    with pytest.raises(UsageError, match=f"--encoder {encoder}") as caught:
        Segmenter(dataclasses.replace(SPEC, encoder=encoder))
    assert hint in caught.value.hint


def test_encoder_that_unetpp_cannot_use_is_a_usage_error():
    with pytest.raises(UsageError, match="mit_b0 cannot be used"):
        Segmenter(dataclasses.replace(SPEC, encoder="mit_b0"))


def test_saved_model_is_the_same_when_loaded(segmenter, tmp_path):
    save_model(tmp_path, segmenter, {"scores": {"val_dice": 0.5}, "made_from": {"dataset": "d"}})
    loaded = load_model(tmp_path)
    assert loaded.spec == SPEC and not loaded.training
    assert hash_tensors(loaded.state_dict()) == hash_tensors(segmenter.state_dict())
    image = image_of(40, 50)
    assert (predict_image(loaded, image) == predict_image(segmenter, image)).all()
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["model"]["classes"] == ["background", "a", "b"] and card["scores"] == {"val_dice": 0.5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("card", "named"),
    [
        (None, "not a finished run"),
        ("not json", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "missing model"),
        ('{"model": 3}', "model is no table"),
        ('{"model": {"encoder": "resnet18"}}', "missing classes, decoder_channels, size"),
        ('{"model": {"encoder": "resnet18", "colour": "red"}}', "unknown colour"),
    ],
)
def test_folder_without_a_model_is_a_checkpoint_error(tmp_path, card, named):
    if card is not None:
        (tmp_path / "model.json").write_text(card)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in caught.value.message


def test_missing_weights_and_weights_of_another_model_are_checkpoint_errors(segmenter, tmp_path):
    save_model(tmp_path, segmenter, {})
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["schema"] == "samsemi.model/1"
    card["model"]["classes"] = ["background", "a"]
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="model.safetensors does not fit"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors"):
        load_model(tmp_path)


def test_depthwise_convolutions_stay_in_fp32_on_a_cpu():
    model = Segmenter(ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), ("background", "a"), 32)).eval()
    kinds: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, x, y: kinds[m.groups > 1].add(y.dtype))
    images = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        model(images)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert twin.eval()(images).abs().max() == 0 < model.eval()(images).abs().max(), "a copy computes with its own weights"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 10**6}, "size 1000000"),
        ({"size": 0}, "size 0"),
        ({"decoder_channels": (8, 8, 8, 8)}, "decoder channels"),
        ({"decoder_channels": (8, 8, 8, 8, 10**9)}, "decoder channels"),
        ({"decoder_channels": (8, 8, 8, 8, 0)}, "decoder channels"),
        ({"classes": ("background",)}, "1 classes"),
        ({"classes": ("a", "b", "a")}, "3 classes"),
        ({"classes": tuple(map(str, range(300)))}, "300 classes"),
        ({"std": (0.2, 0.0, 0.2)}, "mean and std"),
        ({"mean": (0.5,)}, "mean and std"),
        ({"peers": ("unet",), "encoder": ""}, "1 peers"),
        ({"peers": ("unet", "vnet")}, "2 peers"),
        ({"encoder": ""}, "encoder '' and 0 peers"),
    ],
)
def test_network_that_cannot_be_is_refused_before_it_is_built(change, said):
    spec = {"encoder": "resnet18", "decoder_channels": (8,) * 5, "classes": ("background", "polyp"), "size": 64}
    ModelSpec(**spec)
    with pytest.raises(UsageError, match=f"a network of .*{said}"):
        ModelSpec(**spec | change)


def test_weights_of_another_run_are_named(segmenter, tmp_path):
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, new_segmenter(SPEC, seed), {"scores": {"val_dice": 0.5}})
        (tmp_path / name / "history.csv").write_text("iteration,val_dice\n3,0.5\n")
    (tmp_path / "a" / "model.safetensors").write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    for read in (load_model, summarize_run):
        with pytest.raises(CheckpointError, match="model.safetensors holds other weights than model.json beside it"):
            read(tmp_path / "a")
    card = json.loads((tmp_path / "a" / "model.json").read_text())
    del card["weights"]
    (tmp_path / "a" / "model.json").write_text(json.dumps(card))
    assert hash_tensors(load_model(tmp_path / "a").state_dict()) == hash_tensors(load_model(tmp_path / "b").state_dict()), (
        "a card of before its weights stood there is read"
    )
