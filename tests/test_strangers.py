"""Files of strangers, by the command line: what they name is not run and not fetched, and what is wrong in them is two lines."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import CHECKPOINT, DATA, REFUSED, USAGE, call, read_array, refused, succeed, write_image

from samsemi.errors import CheckpointError, RefusedError
from samsemi.options.adapt import AdaptOptions
from samsemi.segmenters.checkpoints import load_model, save_model
from samsemi.segmenters.networks import smp
from samsemi.segmenters.segmenter import ModelSpec, Segmenter
from samsemi.stages.adapt import refuse_out
from samsemi.tensors import load_tensors, save_tensors
from samsemi.training.loop import summarize_run

RAN: list[str] = []
"""What code of a stranger would add to."""


def run(*_):
    RAN.append("sam")
    raise AssertionError("code of a stranger was run")


@pytest.fixture
def model(tmp_path) -> Path:
    """A run folder with a model that has learnt nothing."""
    torch.manual_seed(0)
    save_model(tmp_path / "run", Segmenter(ModelSpec("tu-lcnet_035", (8,) * 5, ("background", "polyp"), 32)).eval(), {})
    return tmp_path / "run"


@pytest.fixture
def images(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.png", rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return tmp_path / "images"


CODE = {
    "mine": ("sam", ("d", "--model", "m", "--out", "s.h5")),
    "finetune": ("sam", ("d", "--model", "m", "--store", "s.h5", "--schedule", "continuous", "--out", "o")),
    "distill": ("sam", ("d", "--out", "o")),
    "adapt": ("sam", ("d", "--out", "o.safetensors")),
    "adapt --stream": ("stream", ("d", "--out", "o.safetensors")),
}


@pytest.mark.parametrize("where", CODE)
def test_configuration_file_names_no_code(tmp_path, where):
    (name, arguments), command = CODE[where], where.split()[0]
    (tmp_path / "c.toml").write_text(f'[{command}]\n{name} = "test_strangers:run"\n')
    refused(USAGE, command, *arguments, "--config", tmp_path / "c.toml", said=(f"{name} = 'test_strangers:run' is code",))
    assert not RAN
    again = call(command, *arguments, "--config", tmp_path / "c.toml", f"--{name}", "test_strangers:run")
    assert again.code == DATA and "no such data set" in again.err, "given on the command line it may run, once there is a data set"


@pytest.mark.parametrize("command", ["warmstart", "distill"])
def test_configuration_file_asks_for_no_network(tmp_path, command):
    config = tmp_path / "c.toml"
    config.write_text(f'[{command}]\nencoder-weights = "imagenet"\n')
    arguments = (command, "d", "--out", "o", "--config", config)
    refused(USAGE, *arguments, said=("encoder_weights = 'imagenet' needs the network, which a file may not ask for",))
    refused(DATA, *arguments, "--encoder-weights", "imagenet", said=("no such data set",))
    config.write_text(f'[{command}]\nencoder-weights = "none"\n')
    refused(DATA, *arguments, said=("no such data set",))


def test_configuration_file_may_name_a_sam_that_is_no_code(tmp_path):
    (tmp_path / "c.toml").write_text('[mine]\nsam = "ellipse"\n')
    refused(DATA, "mine", "d", "--model", "m", "--out", "s.h5", "--config", tmp_path / "c.toml", said=("no such data set",))


@pytest.mark.parametrize("text", ["[" * 5000, "x = " + "[" * 5000, "x = " + "1" * 5000], ids=["tables", "lists", "digits"])
def test_configuration_file_that_is_nested_or_long_is_named(tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    refused(USAGE, "mine", "d", "--model", "m", "--out", "s.h5", "--config", tmp_path / "c.toml", said=("is not TOML",))


CARDS = {
    "hub": {"encoder": "tu-hf-hub:timm/resnet18.a1_in1k"},
    "peers of a hub": {"encoder": "", "peers": ["unet", "unetplusplus:tu-hf-hub:timm/resnet18"]},
    "size": {"size": 10**6},
    "size of digits": {"size": 10**4000},
    "size of text": {"size": "32"},
    "classes": {"classes": ["a"] * 5},
    "channels": {"decoder_channels": [10**9] * 5},
    "mean": {"mean": [float("nan")] * 3},
    "deviation": {"std": [0, 0, 0]},
    "nested": {"encoder": [[[["x"]]]]},
    "more": {"weights_url": "https://example.org"},
}


def test_size_that_the_network_cannot_have_is_two_lines(model, images, tmp_path):
    path = model / "model.json"
    values = json.loads(path.read_text())
    values["model"]["size"] -= 1
    path.write_text(json.dumps(values))
    refused(CHECKPOINT, "predict", images, "--model", model, "--out", tmp_path / "o", said=("model.json",))


@pytest.mark.parametrize("card", CARDS)
def test_model_card_that_cannot_be_is_two_lines(model, images, tmp_path, monkeypatch, card):
    monkeypatch.setattr(smp, "create_model", lambda *_, **__: pytest.fail("was built"))
    path = model / "model.json"
    values = json.loads(path.read_text())
    values["model"] |= CARDS[card]
    path.write_text(json.dumps(values))
    refused(CHECKPOINT, "predict", images, "--model", model, "--out", tmp_path / "o", said=("model.json",))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 5000, "[]", '{"model": 3}', '{"model": {}}', '{"schema": [1]}', '{"model": ' + '{"x":' * 99 + "1" + "}" * 100]
)
def test_text_that_is_no_model_card_is_two_lines(model, images, tmp_path, text):
    (model / "model.json").write_text(text)
    refused(CHECKPOINT, "predict", images, "--model", model, "--out", tmp_path / "o", said=("model.json",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value * torch.nan, "holds NaN or infinity"),
        (lambda value: value / 0, "holds NaN or infinity"),
        (lambda value: value * 0, "all weights are 0, such as network."),
        (lambda value: value.to(torch.int8), "is of type int8, not float32"),
    ],
)
def test_weights_that_are_none_predict_nothing(model, images, tmp_path, change, said):
    path = model / "model.safetensors"
    save_tensors(path, {name: change(value) if value.is_floating_point() else value for name, value in load_tensors(path).items()})
    refused(CHECKPOINT, "predict", images, "--model", model, "--out", tmp_path / "o", said=("model.safetensors: ", said))


def test_model_that_predicts_nan_is_an_error(model, images, tmp_path):
    broken = load_model(model)
    for name, values in broken.state_dict().items():
        if name.endswith("running_var"):
            values -= 2
    save_model(model, broken, {})
    refused(CHECKPOINT, "predict", images, "--model", model, "--out", tmp_path / "o", said=("the model predicts NaN",))


@pytest.mark.parametrize("damage", ["cut", "empty", "no picture"])
def test_damaged_mask_is_made_again_by_resume(model, images, tmp_path, damage):
    predict = ("predict", images, "--model", model, "--out", tmp_path / "o", "--json")
    succeed(*predict)
    path = tmp_path / "o" / "a.png"
    whole, values = path.read_bytes(), read_array(path)
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "no picture": b"x" * 99}[damage])
    result = succeed(*predict, "--resume").result
    assert (result["written"], result["kept"]) == (1, 1)
    assert path.read_bytes() == whole and np.array_equal(read_array(path), values)


def test_mask_of_an_image_that_was_replaced_is_made_again_by_resume(model, images, tmp_path):
    predict = ("predict", images, "--model", model, "--out", tmp_path / "o", "--json")
    succeed(*predict)
    before = (tmp_path / "o/b.png").read_bytes()
    write_image(images / "a.png", 255 - read_array(images / "a.png")[:-3])
    result = succeed(*predict, "--resume").result
    assert (result["written"], result["kept"]) == (1, 1)
    assert read_array(tmp_path / "o/a.png").shape == read_array(images / "a.png").shape[:2]
    assert (tmp_path / "o/b.png").read_bytes() == before


def test_mask_that_somebody_has_drawn_is_kept_by_resume(model, images, tmp_path):
    predict = ("predict", images, "--model", model, "--out", tmp_path / "o", "--json")
    succeed(*predict)
    drawn = np.eye(*read_array(images / "a.png").shape[:2], dtype=np.uint8)
    write_image(tmp_path / "o/a.png", drawn)
    write_image(images / "a.png", 255 - read_array(images / "a.png"))
    assert succeed(*predict, "--resume").result["kept"] == 2
    assert np.array_equal(read_array(tmp_path / "o/a.png"), drawn)


@pytest.mark.parametrize("gone", ["history.csv", "model.safetensors"])
def test_finished_run_that_is_no_longer_whole_is_an_error(model, gone):
    (model / "history.csv").write_text("iteration,val_dice\n3,0.5\n")
    assert summarize_run(model)["iterations"] == 3
    (model / gone).unlink()
    with pytest.raises(CheckpointError, match=gone):
        summarize_run(model)


def test_pipe_in_place_of_adapted_weights_is_not_waited_for(tmp_path):
    out = tmp_path / "sam.safetensors"
    os.mkfifo(out)
    with pytest.raises(RefusedError, match="is not an adapted SAM"):
        refuse_out(out, AdaptOptions(dataset=tmp_path, out=out, overwrite=True))


TEACHER = {"schema": "samsemi.teacher/1", "sam": "tiny", "sam_weights": "0", "side": 64, "learned_prompts": True, "temperature": 1.0}


@pytest.mark.parametrize("header", [{"samsemi": json.dumps(TEACHER)}, {"samsemi": "{"}, {"other": "{}"}], ids=["teacher", "cut", "none"])
def test_weights_of_another_command_are_never_replaced_by_adapted_ones(tmp_path, header):
    out = tmp_path / "teacher.safetensors"
    save_tensors(out, {"a": torch.ones(1)}, header)
    with pytest.raises(RefusedError, match="is not an adapted SAM"):
        refuse_out(out, AdaptOptions(dataset=tmp_path, out=out, overwrite=True))


def test_code_of_ones_own_that_ends_the_program_is_an_error(monkeypatch):
    monkeypatch.setattr("samsemi.stages.info.info", lambda options: sys.exit(0))
    refused(USAGE, "info", said=("code of your own", "sys.exit(0)"))


@pytest.mark.parametrize("seed", [2**63, 10**30, 10**400])
def test_number_that_no_computer_holds_is_out_of_range(tmp_path, seed):
    refused(USAGE, "warmstart", tmp_path, "--out", tmp_path / "o", "--seed", seed, said=("--seed", "is out of range"))


@pytest.mark.parametrize("words", [("predict", "{}", "--model", "m", "--out", "o"), ("mine", "d", "--model", "m", "--out", "{}")])
def test_path_that_is_no_utf8_is_refused_before_anything_is_done(tmp_path, words):
    odd = os.fsdecode(bytes(tmp_path / "odd") + b"\xff")
    refused(USAGE, *(word.format(odd) for word in words), said=("udcff", "no UTF-8"))


def test_imagenet_weights_are_refused_where_the_network_is_forbidden(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMSEMI_OFFLINE", "1")
    for name in "ab":
        write_image(tmp_path / "d" / f"{name}.png", np.zeros((20, 30, 3), np.uint8))
        write_image(tmp_path / "d" / f"{name}_m.png", np.eye(20, 30, dtype=np.uint8))
    rows = ["a,a.png,a_m.png,,labeled,a", "b,b.png,b_m.png,,val,b"]
    (tmp_path / "d" / "manifest.csv").write_text("\n".join(["id,image,mask,truth,split,group", *rows]))
    (tmp_path / "d" / "dataset.json").write_text('{"classes": ["background", "polyp"]}')
    warmstart = ("warmstart", tmp_path / "d", "--out", tmp_path / "o", "--encoder-weights", "imagenet")
    refused(REFUSED, *warmstart, said=("needs the network, which SAMSEMI_OFFLINE forbids",))
    assert not (tmp_path / "o").exists()


def test_masks_of_more_classes_than_are_named_are_refused(images, tmp_path):
    for name in "ab":
        write_image(tmp_path / "masks" / f"{name}.png", np.tile(np.arange(6, dtype=np.uint8), (20, 5)))
    prepare = ("prepare", images, "--masks", tmp_path / "masks", "--out", tmp_path / "d")
    refused(DATA, *prepare, "--classes", "polyp,vessel", said=("values",))


@pytest.mark.parametrize("content", [b"", b"PK", None], ids=["empty", "short", "of numpy"])
def test_archive_among_the_probabilities_that_samsemi_has_not_written_stays(model, images, tmp_path, content):
    command = ("predict", images, "--model", model, "--out", tmp_path / "out", "--probabilities")
    succeed(*command)
    succeed(*command, "--overwrite")
    own = tmp_path / "out" / "probabilities" / "mine.npz"
    own.write_bytes(content) if content is not None else np.savez(own, probs=np.zeros(3))
    before = own.read_bytes()
    refused(REFUSED, *command, "--overwrite", said=(own,))
    assert own.read_bytes() == before
