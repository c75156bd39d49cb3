"""What a user can do wrong: the exit code, two plain lines on stderr, nothing on stdout, no traceback."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from builders import (
    CHECKPOINT,
    DATA,
    DEVICE,
    MINING,
    NETWORK,
    REFUSED,
    USAGE,
    assert_complains,
    call,
    file_bytes,
    files_in,
    interrupt,
    interrupt_at,
    read_array,
    refused,
    succeed,
    train_on,
    truncate,
    write_image,
)
from safetensors.torch import load_file, save_file

import samsemi
from samsemi.data.dataset import read_dataset
from samsemi.errors import RefusedError
from samsemi.stages import info as info_stage
from samsemi.training import loop as training

SHORT = ("--iterations", 2, "--batch-size", 2)
ONLINE = ("d", "--model", "m", "--out", "o", "--store", "s", "--schedule", "online")


@pytest.fixture
def copied(dataset, pictures, tmp_path):
    """A data set of one's own to break, its images beside its masks."""
    folder = tmp_path / "copied"
    shutil.copytree(dataset, folder)
    shutil.copytree(pictures / "images", folder / "images")
    manifest = (folder / "manifest.csv").read_text().replace(str(pictures) + "/", "")
    assert str(pictures) not in manifest
    (folder / "manifest.csv").write_text(manifest)
    return folder


def cases_of(folder, split: str) -> list[str]:
    lines = (folder / "manifest.csv").read_text().splitlines()[1:]
    return [line.split(",")[0] for line in lines if line.split(",")[4] == split]


# usage


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["mien"], "mien"),
        (["mine", "d", "--model", "m", "--out", "o", "--margin", "3"], "--margin"),
        (["mine", "d", "--out", "o"], "--model"),
        (["mine", "--model", "m", "--out", "o"], "DATASET is missing"),
        (["mine", "d", "more", "--model", "m", "--out", "o"], "more"),
        (["mine", "d", "--model", "m", "--out", "o", "--box-margin", "wide"], "--box-margin"),
        (["mine", "d", "--model", "m", "--out", "o", "--min-stability", "1.5"], "--min-stability"),
        (["mine", "d", "--model", "m", "--out", "o", "--precision", "fp8"], "--precision"),
        (["mine", "d", "--model", "m", "--out", "o", "--prompts", "box+circle"], "circle"),
        (["mine", "d", "--model", "m", "--out", "o", "--prompts", "box+box"], "--prompts"),
        (["mine", "d", "--model", "m", "--out", "o", "--prompts", "mask"], "--prompts"),
        (["mine", "d", "--model", "m", "--out", "o", "--prompts", ""], "--prompts"),
        (["mine", "d", "--model", "m", "--out", "o", "--resume", "--overwrite"], "--resume"),
        (["warmstart", "d", "--out", "o", "--size", "100"], "--size 100"),
        (["warmstart", "d", "--out", "o", "--iterations", "0"], "--iterations"),
        (["warmstart", "d", "--out", "o", "--iterations", "1e3"], "--iterations"),
        (["warmstart", "d", "--out", "o", "--lr", "nan"], "--lr"),
        (["warmstart", "d", "--out", "o", "--decoder-channels", "64,32"], "--decoder-channels"),
        (["finetune", "d", "--model", "m", "--out", "o", "--schedule", "sometimes"], "--schedule"),
        (["finetune", "d", "--model", "m", "--out", "o", "--schedule", "continuous"], "--store"),
        (["finetune", "d", "--model", "m", "--out", "o", "--schedule", "online"], "--schedule online needs --store"),
        (["finetune", *ONLINE, "--rounds", "2"], "--schedule online and --rounds exclude each other"),
        (["finetune", *ONLINE, "--remine-every", "5"], "--remine-every needs --schedule continuous"),
        (["finetune", "d", "--model", "m", "--out", "o", "--pseudo-share", "half"], "--pseudo-share half: expected a number or auto"),
        (["eval", "d", "--out", "o"], "eval"),
        (["eval", "d", "--out", "o", "--model", "m", "--store", "s"], "eval"),
        (["eval", "d", "--out", "o", "--model", "m", "--split", "unlabeled"], "unlabeled"),
        (["prepare", "i", "--masks", "m", "--out", "o", "--labeled", "1.5"], "--labeled"),
        (["prepare", "i", "--masks", "m", "--out", "o", "--labeled", "inf"], "--labeled"),
        (["prepare", "i", "--masks", "m", "--out", "o", "--val", "-1"], "--val"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(arguments, said):
    assert_complains(call(*arguments), USAGE, said)


@pytest.mark.parametrize(
    "text, said",
    [
        ("[mine]\nbox-margins = 3\n", "box-margins"),
        ("[min]\nbox-margin = 3\n", "min"),
        ("box-margin = 3\n", "box-margin"),
        ("[mine\n", "TOML"),
        ("[mine]\nbatch_size = 'many'\n", "batch_size"),
        ("[mine]\nbatch_size = 0\n", "batch_size"),
        ("[mine]\noverlays = true\n", "overlays"),
        ("[mine]\nprecision = 'fp8'\n", "precision"),
    ],
)
def test_wrong_configuration_file(tmp_path, text, said):
    (tmp_path / "c.toml").write_text(text)
    refused(USAGE, "mine", "d", "--model", "m", "--out", "o", "--config", tmp_path / "c.toml", said=(tmp_path / "c.toml", said))


def test_configuration_file_that_is_not_there(tmp_path):
    refused(USAGE, "mine", "d", "--model", "m", "--out", "o", "--config", tmp_path / "c.toml", said=("c.toml",))


@pytest.mark.parametrize(
    "options, said",
    [
        (["--sam", "vit_z"], "vit_z"),
        (["--sam", "no_such_module:load"], "no_such_module"),
        (["--sam", "samsemi.sam.protocol:no_such_function"], "no_such_function"),
        (["--sam", "none", "--sam-checkpoint", __file__], "none"),
        (["--device", "gpu"], "gpu"),
    ],
)
def test_choices_that_are_not_there(dataset, warm, tmp_path, options, said):
    refused(USAGE, "mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *options, said=(said,))
    assert files_in(tmp_path) == set()


def test_unknown_encoder_names_close_ones_and_leaves_nothing(dataset, tmp_path):
    outcome = call("warmstart", dataset, "--out", tmp_path / "run", "--encoder", "resnet3", *SHORT, "--quiet")
    assert_complains(outcome, USAGE, "resnet3")
    assert "resnet34" in outcome.err
    assert not (tmp_path / "run").exists()


def test_bare_command_shows_the_help():
    outcome = call()
    assert outcome.code == USAGE
    assert "prepare" in outcome.out
    assert [line.split(":")[0] for line in outcome.err.splitlines()] == ["error", "hint"]


# data: prepare


def prepare(images, masks, out, *options: object) -> tuple:
    return ("prepare", images, "--masks", masks, "--out", out, *options)


@pytest.fixture
def raw(pictures, tmp_path):
    """images/ and masks/ of one's own to break."""
    shutil.copytree(pictures, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.mark.parametrize("which", ["images", "masks"])
@pytest.mark.parametrize("state", ["missing", "empty", "a file"])
def test_prepare_without_pictures(raw, tmp_path, which, state):
    shutil.rmtree(raw / which)
    if state == "empty":
        (raw / which).mkdir()
    elif state == "a file":
        (raw / which).write_text("")
    refused(DATA, *prepare(raw / "images", raw / "masks", tmp_path / "d"), said=(raw / which,))
    assert not (tmp_path / "d").exists()


def test_prepare_names_a_truncated_image_and_leaves_nothing(raw, tmp_path):
    truncate(raw / "images/p001_0.png")
    refused(DATA, *prepare(raw / "images", raw / "masks", tmp_path / "d"), said=("p001_0.png", "damaged"), problems=True)
    assert files_in(tmp_path) == {f"raw/{name}" for name in files_in(raw)}


def test_prepare_names_a_truncated_mask(raw, tmp_path):
    truncate(raw / "masks/p001_0.png")
    refused(DATA, *prepare(raw / "images", raw / "masks", tmp_path / "d"), said=(raw / "masks/p001_0.png",), problems=True)


def test_prepare_names_a_mask_of_another_size(raw, tmp_path):
    write_image(raw / "masks/p001_0.png", np.zeros((50, 60), dtype=np.uint8))
    outcome = call(*prepare(raw / "images", raw / "masks", tmp_path / "d"), "--quiet")
    assert_complains(outcome, DATA, "p001_0.png", "60 x 50", problems=True)
    assert ".part" not in outcome.err, "a path is named that is gone"


def test_prepare_names_every_problem_at_once(raw, tmp_path):
    truncate(raw / "images/p001_0.png")
    write_image(raw / "masks/p002_0.png", np.zeros((50, 60), dtype=np.uint8))
    outcome = call(*prepare(raw / "images", raw / "masks", tmp_path / "d"), "--quiet")
    assert_complains(outcome, DATA, "2 problems", problems=True)
    assert "p001_0" in outcome.err
    assert "p002_0" in outcome.err


def test_prepare_names_unexpected_values_in_a_mask(raw, tmp_path):
    mask = read_array(raw / "masks/p001_0.png")
    mask[:30, :30], mask[30:60, :30] = 99, 150
    write_image(raw / "masks/p001_0.png", mask)
    refused(DATA, *prepare(raw / "images", raw / "masks", tmp_path / "d"), said=("p001_0", "99", "150"))


def test_prepare_names_more_classes_than_were_given(raw, tmp_path):
    for path in (raw / "masks").iterdir():
        write_image(path, np.where(read_array(path) > 0, 2, 0).astype(np.uint8))
    refused(DATA, *prepare(raw / "images", raw / "masks", tmp_path / "d", "--classes", "polyp"), said=("2",))


def test_prepare_where_no_mask_is_named_like_an_image(raw, tmp_path):
    for number, path in enumerate(sorted((raw / "masks").iterdir())):
        path.rename(path.with_name(f"label{number}.png"))
    refused(DATA, *prepare(raw / "images", raw / "masks", tmp_path / "d"), said=("p000_0.png", "label0.png"))


def test_prepare_without_masks(raw, tmp_path):
    refused(USAGE, "prepare", raw / "images", "--out", tmp_path / "d", said=("masks",))


@pytest.mark.parametrize(
    "options, code, said",
    [
        (["--groups", "(p"], USAGE, "--groups"),
        (["--groups", "patient"], DATA, "patient"),
        (["--labeled", 20, "--val", 20], DATA, "24 cases"),
        (["--classes", "polyp,polyp"], USAGE, "--classes"),
        (["--split", "missing.csv"], DATA, "missing.csv"),
    ],
)
def test_prepare_with_options_that_do_not_fit_the_data(pictures, tmp_path, options, code, said):
    refused(code, *prepare(pictures / "images", pictures / "masks", tmp_path / "d", *options), said=(said,))


@pytest.mark.parametrize(
    "text, said",
    [
        ("id,part\np000_0,val\n", "id,split"),
        ("id,split\np000_0,train\n", "train"),
        ("id,split\nnobody,val\n", "nobody"),
        ("id,split\n", "id,split"),
        ("id,split\np000_0,val\np000_0,labeled\n", "p000_0"),
    ],
)
def test_prepare_with_a_wrong_split_file(pictures, tmp_path, text, said):
    (tmp_path / "split.csv").write_text(text)
    arguments = prepare(pictures / "images", pictures / "masks", tmp_path / "d", "--split", tmp_path / "split.csv")
    refused(DATA, *arguments, said=("split.csv", said))


def test_prepare_refuses_a_patient_in_two_splits(pictures, tmp_path):
    (tmp_path / "split.csv").write_text("id,split,group\np000_0,labeled,anna\np000_1,val,anna\n")
    arguments = prepare(pictures / "images", pictures / "masks", tmp_path / "d", "--split", tmp_path / "split.csv")
    refused(DATA, *arguments, said=("anna",), problems=True)


def test_patient_may_be_labeled_and_unlabeled_in_a_split_file(pictures, tmp_path):
    (tmp_path / "split.csv").write_text("id,split,group\np000_0,labeled,anna\np000_1,unlabeled,anna\np001_0,val,\n")
    arguments = prepare(pictures / "images", pictures / "masks", tmp_path / "d", "--split", tmp_path / "split.csv")
    for outcome in (succeed(*arguments, "--quiet"), succeed("check", tmp_path / "d", "--quiet")):
        assert "warning: group anna stands in labeled and unlabeled" in outcome.err and "no leak" in outcome.err


def test_prepare_and_check_warn_of_images_that_look_alike_in_two_splits(raw, tmp_path):
    image = read_array(raw / "images/p000_0.png")
    write_image(raw / "images/p003_0.png", (image * 0.8).astype(np.uint8))
    write_image(raw / "masks/p003_0.png", read_array(raw / "masks/p000_0.png"))
    (tmp_path / "split.csv").write_text("id,split\np000_0,labeled\np001_0,val\np003_0,test\n")
    arguments = prepare(raw / "images", raw / "masks", tmp_path / "d", "--split", tmp_path / "split.csv")
    for outcome in (succeed(*arguments, "--quiet"), succeed("check", tmp_path / "d", "--quiet")):
        assert "warning: p003_0 (test) looks like p000_0 (labeled), similarity" in outcome.err


def test_problems_are_there_for_python_too(copied):
    truncate(copied / "images/p000_0.png")
    with pytest.raises(samsemi.errors.ProblemsFound) as caught:
        samsemi.check(dataset=copied, quiet=True)
    assert caught.value.result["problems"] == 1
    assert caught.value.result["findings"][0]["names"] == ["p000_0"]


# data: data sets


@pytest.mark.parametrize("command", ["check", "warmstart", "mine", "finetune", "eval"])
def test_data_set_that_is_not_there(warm, tmp_path, command):
    model = ["--model", warm] if command in ("mine", "finetune", "eval") else []
    out = [] if command == "check" else ["--out", tmp_path / "out"]
    refused(DATA, command, tmp_path / "nowhere", *model, *out, said=(tmp_path / "nowhere",))
    refused(DATA, command, warm, *model, *out, said=(warm,))
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"name": "x", "classes": 3}',
        '{"name": "x", "classes": ["background"]}',
        '{"name": "x", "classes": "ab", "spacing_mm": null}',
    ]
    + ['{"name": "x", "classes": ["background", 1]}', '{"name": "x", "classes": ["a", "b"], "spacing_mm": "wide"}', "\udcff"],
)
def test_broken_dataset_json(copied, text):
    (copied / "dataset.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(DATA, "check", copied, said=(copied,))


def break_manifest(folder, old: str, new: str) -> None:
    text = (folder / "manifest.csv").read_text()
    assert old in text
    (folder / "manifest.csv").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("id,image,mask", "id,picture,mask", "image"),
        (",labeled,", ",train,", "train"),
        ("p001_0,images", "p000_0,images", "twice"),
        ("p001_0,images", "../p001_0,images", "../p001_0"),
        ("images/p001_0", "../images/p001_0", "leads out"),
        (",labeled,", ",unlabeled,", "unlabeled"),
        (",unlabeled,", ",labeled,", "labeled"),
        ("p001_0,images/p001_0.png", "p001_0,", "no image"),
    ],
)
def test_broken_manifest(copied, old, new, said):
    break_manifest(copied, old, new)
    refused(DATA, "check", copied, said=(copied / "manifest.csv" if said != "image" else copied, said))


@pytest.mark.parametrize("content", [b"", b"id,image,mask,truth,split,group\n", b"\xff\xfe\x00\x01", b"\x00" * 100])
def test_manifest_without_cases(copied, content):
    (copied / "manifest.csv").write_bytes(content)
    refused(DATA, "check", copied, said=(copied,))


@pytest.mark.parametrize("name", ["dataset.json", "manifest.csv"])
def test_folder_where_a_file_should_be(copied, name):
    (copied / name).unlink()
    refused(DATA, "check", copied, said=(name,))
    (copied / name).mkdir()
    refused(DATA, "check", copied, said=(name,))


def test_check_names_every_problem(copied):
    truncate(copied / "images/p000_0.png")
    (copied / "images/p001_0.png").unlink()
    shutil.copy(copied / f"images/{cases_of(copied, 'labeled')[1]}.png", copied / f"images/{cases_of(copied, 'test')[1]}.png")
    labeled = copied / f"masks/{cases_of(copied, 'labeled')[0]}.png"
    write_image(labeled, read_array(labeled) * 7)
    outcome = call("check", copied, "--quiet")
    assert_complains(outcome, DATA, copied, "problems", problems=True)
    warnings = outcome.err.splitlines()[:-2]
    for said in ("damaged image", "p001_0.png: no such file", "[7]", "are the same image"):
        assert any(said in line for line in warnings), said


def test_check_names_a_single_problem_in_the_error_line(copied):
    write_image(copied / f"masks/{cases_of(copied, 'val')[0]}.png", np.zeros((9, 9), dtype=np.uint8))
    refused(DATA, "check", copied, said=("9 x 9",), problems=True)


def change_mask(folder, split: str) -> str:
    """Invert the mask of a case after the data set was prepared."""
    name = cases_of(folder, split)[0]
    path = folder / f"masks/{name}.png"
    write_image(path, 1 - read_array(path))
    return name


def test_check_names_changed_files(copied):
    assert succeed("check", copied, "--json").result["files"] == {"compared": 48, "without_hash": 0}
    names = [change_mask(copied, split) for split in ("labeled", "val")]
    outcome = call("check", copied, "--quiet")
    assert_complains(outcome, DATA, "2 problems", "has changed since the data set was prepared", problems=True)
    assert all(f"case {name}: {copied / 'masks' / name}.png has changed" in outcome.err for name in names)


def test_training_measuring_and_mining_stop_at_a_changed_mask(copied, warm, tmp_path):
    name = change_mask(copied, "val")
    refused(DATA, "warmstart", copied, "--out", tmp_path / "r", *NETWORK, *SHORT, said=(f"case {name}", "has changed"))
    refused(DATA, *mine_with(copied, warm, tmp_path / "s.h5", "--sam", "none"), said=(f"case {name}", "has changed"))
    name = change_mask(copied, "test")
    outcome = call("eval", copied, "--model", warm, "--out", tmp_path / "e", "--quiet")
    assert_complains(outcome, DATA, f"case {name}", "has changed")
    assert "prepare the data set again" in outcome.err


def test_changed_image_is_an_error_not_an_unreadable_one(copied, warm, tmp_path):
    name = cases_of(copied, "unlabeled")[2]
    write_image(copied / f"images/{name}.png", 255 - read_array(copied / f"images/{name}.png"))
    refused(DATA, *mine_with(copied, warm, tmp_path / "s.h5", "--sam", "none"), said=(f"case {name}", "has changed"))


@pytest.mark.parametrize("prepared_again", [False, True])
def test_finished_store_is_not_taken_up_when_masks_have_changed(copied, raw, warm, tmp_path, prepared_again):
    if prepared_again:
        shares = ("--groups", r"p(\d+)", "--labeled", 9, "--val", 3, "--test", 3, "--overwrite")
        copied = tmp_path / "again"
        succeed(*prepare(raw / "images", raw / "masks", copied, *shares))
    arguments = mine_with(copied, warm, tmp_path / "s.h5", "--sam", "none")
    succeed(*arguments)
    succeed(*arguments, "--resume")
    if not prepared_again:
        name = change_mask(copied, "labeled")
        refused(DATA, *arguments, "--resume", said=(f"case {name}", "has changed"))
        return
    for path in (raw / "masks").iterdir():
        write_image(path, 255 - read_array(path))
    succeed(*prepare(raw / "images", raw / "masks", copied, *shares))
    refused(REFUSED, *arguments, "--resume", said=("s.h5", "dataset was"), problems=True)


@pytest.mark.parametrize("split, command", [("labeled", "warmstart"), ("val", "warmstart"), ("test", "eval"), ("unlabeled", "mine")])
def test_split_without_cases(copied, warm, tmp_path, split, command):
    header, *rows = (copied / "manifest.csv").read_text().splitlines()
    (copied / "manifest.csv").write_text("\n".join([header, *(row for row in rows if f",{split}," not in row)]) + "\n")
    model = [] if command == "warmstart" else ["--model", warm]
    refused(DATA, command, copied, *model, "--out", tmp_path / "out", said=(f"no {split} cases",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_training_stops_at_a_damaged_image(copied, tmp_path, workers):
    for name in cases_of(copied, "labeled"):
        truncate(copied / f"images/{name}.png")
    arguments = ("warmstart", copied, "--out", tmp_path / "run", *NETWORK, *SHORT, "--workers", workers)
    refused(DATA, *arguments, said=("damaged",))
    assert not (tmp_path / "run").exists(), "with another image the same command begins anew"


def test_mine_skips_and_counts_a_damaged_image(copied, warm, tmp_path):
    name = cases_of(copied, "unlabeled")[2]
    truncate(copied / f"images/{name}.png")
    arguments = ("mine", copied, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", *MINING, "--overlays", 9, "--no-calibrate")
    outcome = succeed(*arguments, "--json", "--quiet")
    assert outcome.err.startswith("warning: skipped")
    assert name in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert (outcome.result["images"], outcome.result["unreadable"]) == (9, 1)
    succeed("finetune", copied, "--model", warm, "--store", tmp_path / "s.h5", "--out", tmp_path / "run", *SHORT)


def test_calibration_skips_a_damaged_image(copied, warm, tmp_path):
    name = cases_of(copied, "val")[0]
    truncate(copied / f"images/{name}.png")
    outcome = succeed("mine", copied, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", *MINING, "--json", "--quiet")
    assert outcome.err.startswith("warning: skipped") and name in outcome.err
    assert outcome.result["images"] == 9 and outcome.result["accepted"] > 0


def test_mine_where_no_image_can_be_read(copied, warm, tmp_path):
    for name in cases_of(copied, "unlabeled"):
        truncate(copied / f"images/{name}.png")
    refused(DATA, "mine", copied, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", said=("none of the 9",), problems=True)


def test_predict_skips_and_counts_a_damaged_image(raw, warm, tmp_path):
    truncate(raw / "images/p001_0.png")
    outcome = succeed("predict", raw / "images", "--model", warm, "--out", tmp_path / "p", "--json", "--quiet")
    assert outcome.err.startswith("warning: skipped")
    assert (outcome.result["images"], outcome.result["written"], outcome.result["unreadable"]) == (24, 23, 1)
    assert files_in(tmp_path / "p") == {path.name for path in (raw / "images").iterdir()} - {"p001_0.png"} | {"predictions.json"}


@pytest.mark.parametrize("state", ["missing", "empty", "all damaged"])
def test_predict_without_images(warm, pictures, tmp_path, state):
    images = tmp_path / "images"
    if state != "missing":
        images.mkdir()
    if state == "all damaged":
        shutil.copy(pictures / "images/p000_0.png", images / "x.png")
        truncate(images / "x.png")
    refused(DATA, "predict", images, "--model", warm, "--out", tmp_path / "out", said=(images,), problems=True)


def test_predict_counts_what_it_does_not_read_and_takes_a_single_file(warm, pictures, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.svs", "b.svs", "c.vtk"):
        (images / name).touch()
    arguments = ("predict", images, "--model", warm, "--out", tmp_path / "p")
    refused(DATA, *arguments, said=("no images in it", "not read: 2 .svs, 1 .vtk"))
    refused(DATA, "predict", images / "a.svs", *arguments[2:], said=("not read: 1 .svs",))
    shutil.copy(pictures / "images/p000_0.png", images / "x.PNG")
    outcome = succeed(*arguments, "--quiet")
    assert "not read: 2 .svs, 1 .vtk" in outcome.err and files_in(tmp_path / "p") == {"x.png", "predictions.json"}
    succeed("predict", images / "x.PNG", "--model", warm, "--out", tmp_path / "single")
    assert file_bytes(tmp_path / "single")["x.png"] == file_bytes(tmp_path / "p")["x.png"]


def test_prepare_counts_what_it_does_not_read(raw, tmp_path):
    (raw / "images/x.svs").touch()
    outcome = succeed(*prepare(raw / "images", raw / "masks", tmp_path / "d"), "--quiet")
    assert f"{raw / 'images'}: not read: 1 .svs" in outcome.err


def test_prepare_warns_of_inverted_masks_and_turns_them(raw, pictures, tmp_path):
    for path in (raw / "masks").iterdir():
        write_image(path, 255 - read_array(path))
    arguments = prepare(raw / "images", raw / "masks", tmp_path / "d")
    assert "24 of 24 masks: if they are inverted, give --invert" in succeed(*arguments, "--quiet").err
    outcome = succeed(*arguments, "--invert", "--overwrite")
    assert "inverted: background and class 1 exchanged" in outcome.err and "warning" not in outcome.err
    for path in (tmp_path / "d/masks").iterdir():
        assert np.array_equal(read_array(path) * np.uint8(255), read_array(pictures / "masks" / path.name))
    for path in (raw / "masks").iterdir():
        write_image(path, np.tile(np.arange(3, dtype=np.uint8), (20, 20)))
    refused(USAGE, *arguments, "--invert", "--overwrite", said=("--invert",))


def test_prepare_with_a_stray_pixel_is_settled_by_an_option(raw, tmp_path):
    path = raw / "masks/p001_0.png"
    mask = read_array(path)
    mask[0, 0] = 7
    write_image(path, mask)
    arguments = prepare(raw / "images", raw / "masks", tmp_path / "d")
    refused(DATA, *arguments, said=("1 pixels in 1 of them", "p001_0 0, 7, 255"))
    assert "values from 128" in succeed(*arguments, "--mask-values", "binary").err


def test_hints_of_eval_and_model(dataset, pictures, warm, tmp_path):
    outcome = call("eval", dataset, "--out", tmp_path / "e")
    assert outcome.code == USAGE and "give --model RUN, --predictions DIR or --store FILE" in outcome.err
    outcome = call("predict", pictures / "images", "--model", warm / "model.safetensors", "--out", tmp_path / "p")
    assert outcome.code == CHECKPOINT and f"give the folder: {warm}" in outcome.err


def test_check_fails_where_a_class_is_in_no_val_mask(copied):
    for name in cases_of(copied, "val"):
        write_image(copied / f"masks/{name}.png", np.zeros_like(read_array(copied / f"masks/{name}.png")))
    outcome = call("check", copied, "--quiet")
    assert outcome.code == DATA and "class foreground occurs in no val mask" in outcome.err


def test_eval_of_predictions_that_do_not_fit(dataset, tmp_path):
    arguments = ("eval", dataset, "--predictions", tmp_path / "p", "--out", tmp_path / "e")
    refused(DATA, *arguments, said=(tmp_path / "p",))
    names = cases_of(dataset, "test")
    for name in names[1:]:
        write_image(tmp_path / f"p/{name}.png", np.zeros((20, 20), dtype=np.uint8))
    refused(DATA, *arguments, said=(names[0],))
    write_image(tmp_path / f"p/{names[0]}.png", np.zeros((20, 20), dtype=np.uint8))
    refused(DATA, *arguments, said=(names[0], "20 x 20"))
    write_image(tmp_path / f"p/{names[0]}.png", np.full((20, 20), 9, dtype=np.uint8))
    refused(DATA, *arguments, said=(names[0], "9"))
    assert not (tmp_path / "e").exists()


def test_eval_against_what_is_no_evaluation(dataset, store, tmp_path):
    arguments = ("eval", dataset, "--store", store, "--split", "unlabeled", "--out", tmp_path / "e", "--against", tmp_path)
    refused(DATA, *arguments, said=(tmp_path,))
    (tmp_path / "metrics.csv").write_text("id,group\n1,2\n")
    refused(DATA, *arguments, said=(tmp_path,))
    (tmp_path / "metrics.csv").write_text("id,group,class,dice,iou,precision,recall,hd95,assd,nsd\nzzz,z,polyp,1,1,1,1,0,0,1\n")
    refused(DATA, *arguments, said=(tmp_path, "none of the 9 cases"))


# checkpoints and runs


@pytest.fixture
def run(warm, tmp_path):
    """A run folder of one's own to break."""
    shutil.copytree(warm, tmp_path / "run")
    return tmp_path / "run"


def mine_with(dataset, model, out, *options: object) -> tuple:
    return ("mine", dataset, "--model", model, "--out", out, *MINING, *options)


@pytest.mark.parametrize("command", ["mine", "finetune", "eval", "predict"])
def test_model_that_is_not_there(dataset, pictures, tmp_path, command):
    source = pictures / "images" if command == "predict" else dataset
    refused(CHECKPOINT, command, source, "--model", tmp_path / "nowhere", "--out", tmp_path / "out", said=(tmp_path / "nowhere",))
    refused(CHECKPOINT, command, source, "--model", dataset, "--out", tmp_path / "out", said=(dataset,))
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    "card",
    [
        "{",
        "[]",
        '{"architectures": ["SamModel"]}',
        '{"model": {"width": 3}}',
        '{"model": {"encoder": "no_such_encoder", "decoder_channels": [16, 12, 8, 8, 8], "classes": ["a", "b"], "size": 64}}',
        '{"model": {"encoder": 5, "decoder_channels": 3, "classes": 2, "size": "x"}}',
    ],
)
def test_foreign_run_folder(dataset, run, tmp_path, card):
    (run / "model.json").write_text(card)
    refused(CHECKPOINT, *mine_with(dataset, run, tmp_path / "s.h5"), said=(run,))


def test_truncated_model(dataset, run, tmp_path):
    truncate(run / "model.safetensors")
    refused(CHECKPOINT, *mine_with(dataset, run, tmp_path / "s.h5"), said=("model.safetensors",))
    (run / "model.safetensors").unlink()
    refused(CHECKPOINT, *mine_with(dataset, run, tmp_path / "s.h5"), said=("model.safetensors",))


def test_weights_of_another_model(dataset, run, tmp_path):
    save_file({"weight": torch.zeros(3)}, run / "model.safetensors")
    refused(CHECKPOINT, *mine_with(dataset, run, tmp_path / "s.h5"), said=("model.safetensors", "missing", "unexpected"))


def test_model_of_other_classes(copied, warm, tmp_path):
    about = json.loads((copied / "dataset.json").read_text())
    (copied / "dataset.json").write_text(json.dumps(about | {"classes": ["background", "liver"]}))
    for command in ("mine", "finetune", "eval"):
        refused(CHECKPOINT, command, copied, "--model", warm, "--out", tmp_path / "out", said=("foreground", "liver"))


class Payload:
    """Pickled, it runs a command where it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.fixture(params=["torch.save", "pickle", "named .safetensors"])
def poisoned(request, tmp_path):
    """A checkpoint that would create a file, and that file."""
    target = tmp_path / "owned"
    path = tmp_path / ("bad.safetensors" if request.param == "named .safetensors" else "bad.pth")
    if request.param == "torch.save":
        torch.save({"weight": torch.zeros(2), "payload": Payload(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"payload": Payload(target)}))
    return path, target


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_payload_of_a_sam_checkpoint_never_runs(dataset, warm, tmp_path, poisoned):
    path, target = poisoned
    refused(CHECKPOINT, *mine_with(dataset, warm, tmp_path / "s.h5", "--sam-checkpoint", path), said=(path,))
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_payload_of_encoder_weights_never_runs(dataset, tmp_path, poisoned):
    path, target = poisoned
    refused(CHECKPOINT, "warmstart", dataset, "--out", tmp_path / "run", *NETWORK, *SHORT, "--encoder-weights", path, said=(path,))
    assert not target.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 half a zip file", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_sam_checkpoint_that_is_none(dataset, warm, tmp_path, content, suffix):
    path = (tmp_path / "sam").with_suffix(suffix)
    path.write_bytes(content)
    refused(CHECKPOINT, *mine_with(dataset, warm, tmp_path / "s.h5", "--sam-checkpoint", path), said=(path,))
    assert files_in(tmp_path) == {path.name}


def test_sam_checkpoint_that_is_missing_or_foreign(dataset, warm, tmp_path):
    refused(CHECKPOINT, *mine_with(dataset, warm, tmp_path / "s.h5", "--sam-checkpoint", tmp_path / "no.pth"), said=("no.pth",))
    foreign = warm / "model.safetensors"
    refused(CHECKPOINT, *mine_with(dataset, warm, tmp_path / "s.h5", "--sam-checkpoint", foreign), said=(foreign, "tiny"))


def test_truncated_sam_checkpoint(dataset, warm, tmp_path):
    path = tmp_path / "half.pth"
    torch.save(load_file(warm / "model.safetensors"), path)
    truncate(path)
    refused(CHECKPOINT, *mine_with(dataset, warm, tmp_path / "s.h5", "--sam-checkpoint", path), said=(path,))


def test_published_sam_needs_its_weights(dataset, warm, tmp_path):
    refused(CHECKPOINT, *mine_with(dataset, warm, tmp_path / "s.h5", "--sam", "vit_b"), said=("vit_b",))


def test_encoder_weights_that_are_missing_or_foreign(dataset, warm, tmp_path):
    arguments = ("warmstart", dataset, "--out", tmp_path / "run", *NETWORK, *SHORT, "--encoder-weights")
    refused(CHECKPOINT, *arguments, tmp_path / "no.pth", said=("no.pth",))
    refused(CHECKPOINT, *arguments, warm / "model.safetensors", said=("model.safetensors", "tu-lcnet_035"))


@pytest.mark.parametrize("name", ["made_from.json", "config.toml", "model.json"])
def test_resuming_a_broken_run(dataset, run, name):
    (run / name).write_text("{")
    arguments = ("warmstart", dataset, "--out", run, *NETWORK, "--iterations", 24, "--validate-every", 8, "--resume")
    refused(CHECKPOINT, *arguments, said=(run,))


def test_resuming_from_a_broken_state(dataset, tmp_path, monkeypatch):
    arguments = ("warmstart", dataset, "--out", tmp_path / "run", *NETWORK, *SHORT, "--validate-every", 1)
    with monkeypatch.context() as patch:
        interrupt_at(patch, training, "validate", 2)
        assert call(*arguments).code == 130
    truncate(tmp_path / "run/last/state.safetensors")
    refused(CHECKPOINT, *arguments, "--resume", said=(tmp_path / "run",))


# stores and caches


@pytest.fixture(
    params=["missing", "a text", "truncated", "other HDF5", "other schema", "schema and nothing else", "a table is gone", "a folder"]
)
def broken_store(request, store, tmp_path):
    path = tmp_path / "broken.h5"
    if request.param == "a text":
        path.write_text("no store")
    elif request.param == "a folder":
        path.mkdir()
    elif request.param in ("truncated", "a table is gone"):
        shutil.copy(store, path)
    elif request.param != "missing":
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(3)
            if request.param != "other HDF5":
                file.attrs["schema"] = "samsemi.pseudo-labels/1" if "nothing" in request.param else "samsemi.pseudo-labels/99"
    if request.param == "truncated":
        truncate(path)
    elif request.param == "a table is gone":
        with h5py.File(path, "a") as file:
            del file["objects"]
    return path


def test_store_that_is_none(dataset, warm, tmp_path, broken_store):
    refused(CHECKPOINT, "finetune", dataset, "--model", warm, "--store", broken_store, "--out", tmp_path / "run", said=(broken_store,))
    refused(CHECKPOINT, "eval", dataset, "--store", broken_store, "--split", "unlabeled", "--out", tmp_path / "e", said=(broken_store,))
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "e").exists()


def test_store_of_another_data_set(pictures, warm, store, tmp_path):
    other = tmp_path / "other"
    shares = ("--groups", r"p(\d+)", "--labeled", 6, "--val", 6, "--test", 0, "--seed", 5)
    succeed(*prepare(pictures / "images", pictures / "masks", other, *shares))
    arguments = ("finetune", other, "--model", warm, "--store", store, "--out", tmp_path / "run")
    refused(CHECKPOINT, *arguments, said=(store, other), problems=True)  # after a warning that the model knows other cases
    refused(CHECKPOINT, "eval", other, "--store", store, "--split", "unlabeled", "--out", tmp_path / "e", said=(store, other))


@pytest.fixture
def of_another_sam(dataset, warm, tmp_path):
    """A store that was mined with other weights than those of the packaged SAM, and these weights."""
    from samsemi.sam.tiny import build_tiny

    torch.manual_seed(0)
    save_file(build_tiny().state_dict(), tmp_path / "other.safetensors")
    succeed(*mine_with(dataset, warm, tmp_path / "s.h5", "--sam-checkpoint", tmp_path / "other.safetensors"))
    return tmp_path / "s.h5", tmp_path / "other.safetensors"


@pytest.mark.parametrize(
    "schedule", [("--schedule", "continuous"), ("--schedule", "online"), ("--rounds", 2)], ids=lambda schedule: str(schedule[1])
)
def test_mining_again_with_another_sam_than_the_store_has_leaves_nothing(dataset, warm, tmp_path, of_another_sam, schedule):
    path, weights = of_another_sam
    arguments = ("finetune", dataset, "--model", warm, "--store", path, "--out", tmp_path / "run", *SHORT, *schedule)
    refused(CHECKPOINT, *arguments, said=(path, "other weights"))
    refused(CHECKPOINT, *arguments, "--sam-checkpoint", tmp_path / "no.safetensors", said=(path, "no.safetensors"))
    with h5py.File(tmp_path / "cache.h5", "w") as file:
        file.attrs.update({"schema": "samsemi.embeddings/1", "sam": "vit_b", "identity": "0"})
    cached = ("--sam-checkpoint", weights, "--embeddings", tmp_path / "cache.h5")
    refused(CHECKPOINT, *arguments, *cached, said=(tmp_path / "cache.h5",))
    with h5py.File(path, "a") as file:
        file.attrs["config"] = json.dumps(json.loads(file.attrs["config"]) | {"sharpness": 3})
    refused(CHECKPOINT, *arguments, "--sam-checkpoint", weights, said=(path, "config: unknown sharpness"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("state", ["a text", "a store", "of another SAM"])
def test_embeddings_that_are_none_of_this_sam(dataset, warm, store, tmp_path, state):
    path = tmp_path / "cache.h5"
    if state == "a text":
        path.write_text("no cache")
    elif state == "a store":
        shutil.copy(store, path)
    else:
        with h5py.File(path, "w") as file:
            file.attrs.update({"schema": "samsemi.embeddings/1", "sam": "vit_b", "identity": "0"})
    before = path.read_bytes()
    refused(CHECKPOINT, *mine_with(dataset, warm, tmp_path / "s.h5", "--embeddings", path), said=(path,))
    assert path.read_bytes() == before


# outputs


def writing_commands(dataset, pictures, warm, store) -> dict[str, tuple]:
    """Every command that writes, without its --out."""
    return {
        "prepare": ("prepare", pictures / "images", "--masks", pictures / "masks"),
        "warmstart": ("warmstart", dataset, *NETWORK, *SHORT),
        "mine": ("mine", dataset, "--model", warm, "--sam", "none", *MINING),
        "finetune": ("finetune", dataset, "--model", warm, *SHORT),
        "eval": ("eval", dataset, "--store", store, "--split", "unlabeled", "--overlays", 0),
        "predict": ("predict", pictures / "images", "--model", warm),
    }


WRITING = ["prepare", "warmstart", "mine", "finetune", "eval", "predict"]


@pytest.mark.parametrize("command", WRITING)
def test_full_output_is_refused_and_kept(dataset, pictures, warm, store, tmp_path, command):
    out = tmp_path / "out"
    if command == "mine":
        out.write_text("mine")
    else:
        write_image(out / "kept.png", np.zeros((2, 2), dtype=np.uint8))
    before = file_bytes(tmp_path)
    arguments = (*writing_commands(dataset, pictures, warm, store)[command], "--out", out)
    refused(REFUSED, *arguments, said=(out,))
    assert file_bytes(tmp_path) == before
    refused(REFUSED, *arguments, "--overwrite", said=(out,))  # not made by this command
    assert file_bytes(tmp_path) == before


@pytest.mark.parametrize("command", ["warmstart", "finetune", "predict"])
def test_resume_never_writes_into_a_foreign_folder(dataset, pictures, warm, store, tmp_path, command):
    write_image(tmp_path / "photos/holiday.png", np.zeros((2, 2), dtype=np.uint8))
    arguments = writing_commands(dataset, pictures, warm, store)[command]
    refused(REFUSED, *arguments, "--out", tmp_path / "photos", "--resume", said=(tmp_path / "photos",))
    assert files_in(tmp_path) == {"photos/holiday.png"}


@pytest.mark.parametrize("command", WRITING)
def test_output_of_the_wrong_kind_is_refused(dataset, pictures, warm, store, tmp_path, command):
    out = tmp_path / "out"
    if command == "mine":
        out.mkdir()
    else:
        out.write_text("a file")
    refused(REFUSED, *writing_commands(dataset, pictures, warm, store)[command], "--out", out, said=(out,))


@pytest.mark.parametrize("command", WRITING)
def test_output_below_a_file_is_refused(dataset, pictures, warm, store, tmp_path, command):
    (tmp_path / "file").write_text("")
    arguments = writing_commands(dataset, pictures, warm, store)[command]
    refused(REFUSED, *arguments, "--out", tmp_path / "file" / "out", said=(tmp_path / "file",))


def test_finetune_never_replaces_the_model_or_store_that_it_reads(dataset, run, store):
    shutil.copy(store, run / "s.h5")
    before = file_bytes(run)
    arguments = ("finetune", dataset, "--model", run, "--out", run, *SHORT, "--overwrite")
    refused(REFUSED, *arguments, said=(run,))
    refused(REFUSED, *arguments, "--store", run / "s.h5", said=(run,))
    assert file_bytes(run) == before


def test_begun_store_is_taken_up_only_when_told(dataset, warm, tmp_path, monkeypatch):
    from samsemi.mining import miner as mining

    arguments = mine_with(dataset, warm, tmp_path / "s.h5", "--sam", "none")
    with monkeypatch.context() as patch:
        patch.setattr(mining.StoreWriter, "finish", interrupt)
        assert call(*arguments).code == 130
    refused(REFUSED, *arguments, said=("s.h5",))
    refused(REFUSED, *arguments, "--resume", "--box-margin", 9, said=("box_margin", "2", "9"))
    assert call(*arguments, "--resume").code == 0


@pytest.mark.parametrize("changed", [["--seed", 3], ["--lr", 0.5], ["--iterations", 30]])
def test_resuming_a_run_with_other_options_names_them(dataset, run, changed):
    arguments = ("warmstart", dataset, "--out", run, *NETWORK, "--iterations", 24, "--validate-every", 8, "--resume")
    before = file_bytes(run)
    refused(REFUSED, *arguments, *changed, said=(run, f"{changed[0].removeprefix('--')} was", f"is {changed[1]}"))
    assert file_bytes(run) == before


def test_resuming_a_run_on_another_data_set_is_refused(copied, tmp_path):
    arguments = ("warmstart", copied, "--out", tmp_path / "r", *NETWORK, *SHORT)
    succeed(*arguments)
    patient = read_dataset(copied).split("labeled")[0].group
    text = (copied / "manifest.csv").read_text()
    (copied / "manifest.csv").write_text(text.replace(f",labeled,{patient},", f",test,{patient},"))
    refused(REFUSED, *arguments, "--resume", said=(tmp_path / "r", "dataset"))


def test_resuming_a_run_with_another_model_or_store_is_refused(dataset, run, store, tmp_path):
    path = tmp_path / "s.h5"
    shutil.copy(store, path)
    arguments = ("finetune", dataset, "--model", run, "--store", path, "--out", tmp_path / "fine", *SHORT)
    succeed(*arguments)
    succeed(*mine_with(dataset, run, path, "--sam", "none", "--overwrite"))
    refused(REFUSED, *arguments, "--resume", said=(tmp_path / "fine", "store"))
    shutil.copy(store, path)
    train_on(run)
    refused(REFUSED, *arguments, "--resume", said=(tmp_path / "fine", "model"))


def test_resuming_a_finished_store_with_other_options_names_them(dataset, warm, store):
    before = store.read_bytes()
    refused(REFUSED, *mine_with(dataset, warm, store, "--resume", "--positive-points", 4), said=("positive_points", "1", "4"))
    assert store.read_bytes() == before


def test_resuming_predictions_with_another_model_or_other_options_is_refused(pictures, warm, run, tmp_path):
    (tmp_path / "few").mkdir()
    for name in ("p000_0.png", "p001_0.png"):
        shutil.copy(pictures / "images" / name, tmp_path / "few")
    arguments = ("predict", tmp_path / "few", "--out", tmp_path / "p")
    succeed(*arguments, "--model", warm)
    refused(REFUSED, *arguments, "--model", warm, "--resume", "--overlays", said=(tmp_path / "p", "overlays"))
    train_on(run)
    refused(REFUSED, *arguments, "--model", run, "--resume", said=(tmp_path / "p", "model"))


# no room


@pytest.fixture
def small_files():
    """Files may not grow beyond 100 kB: the nearest to a full disk that any user can have."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_weights(dataset, tmp_path, small_files):
    arguments = ("warmstart", dataset, "--out", tmp_path / "run", *NETWORK, *SHORT)
    refused(REFUSED, *arguments, said=(tmp_path / "run" / "model.safetensors", "File too large"))
    assert not [name for name in files_in(tmp_path) if name.endswith((".part", "model.safetensors"))]


@pytest.mark.parametrize("size, file", [(3_000, "s.h5.parts/000000.h5"), (9_000, "s.h5.parts/000000.h5"), (100_000, "s.h5")])
def test_no_room_for_a_store_ends_as_an_error_not_as_a_crash(dataset, warm, tmp_path, size, file):
    pytest.importorskip("resource")
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, -1)); from samsemi.cli import run; run()"
    arguments = [str(word) for word in (*mine_with(dataset, warm, tmp_path / "s.h5"), "--device", "cpu", "--quiet")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == REFUSED
    *before, error, hint = done.stderr.splitlines()
    assert error == f"error: {tmp_path / file}: File too large" and all(line.startswith("warning: ") for line in before)
    assert "--resume" in hint
    succeed(*mine_with(dataset, warm, tmp_path / "s.h5"), "--resume")


# places where nothing can be made


@pytest.mark.parametrize("command", [*WRITING, "adapt", "distill"])
def test_output_where_nothing_can_be_made(dataset, pictures, warm, store, tmp_path, command):
    """As root, too, whom no permission stops."""
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    commands = writing_commands(dataset, pictures, warm, store) | {
        "adapt": ("adapt", dataset, "--sam", "tiny", *SHORT),
        "distill": ("distill", dataset, "--iterations", 2, "--batch-size", 4, "--size", 64, "--sam-size", 64),
    }
    for place in ("/proc/samsemi", "/proc/samsemi/out", tmp_path / ("x" * 300), circle / "out"):
        out = f"{place}.safetensors" if command == "adapt" else place
        outcome = call(*commands[command], "--out", out, "--quiet")
        assert_complains(outcome, REFUSED, Path(out).parent)
        assert "--out" in outcome.err.splitlines()[1]
    assert list(tmp_path.iterdir()) == [circle]


@pytest.mark.parametrize("name", ["mine", "prepare", "predict"])
def test_path_with_a_zero_byte_is_refused(dataset, pictures, warm, tmp_path, name):
    """Typer refuses it on the command line."""
    options = {
        "mine": {"dataset": dataset, "model": warm, "sam": "none"},
        "prepare": {"images": pictures / "images", "masks": pictures / "masks"},
        "predict": {"images": pictures / "images", "model": warm},
    }
    with pytest.raises(RefusedError, match=r"o\\0ut"):
        getattr(samsemi, name)(**options[name], out=tmp_path / "o\0ut")


@pytest.mark.parametrize(
    "number, hint",
    [
        (errno.EACCES, "change its permissions"),
        (errno.EPERM, "change its permissions"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EBUSY, "mounted"),
    ],
)
def test_system_that_refuses_to_write_gets_a_hint_that_fits(dataset, tmp_path, monkeypatch, number, hint):
    def refuse(source, target):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(os, "replace", refuse)
    outcome = call("warmstart", dataset, "--out", tmp_path / "run", *NETWORK, *SHORT, "--quiet")
    assert_complains(outcome, REFUSED, tmp_path / "run", os.strerror(number))
    assert hint in outcome.err.splitlines()[1]
    assert ("make room" in outcome.err) == (hint == "make room")


def test_folder_that_may_not_be_made_gets_the_hint_of_permissions(pictures, tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    outcome = call(*prepare(pictures / "images", pictures / "masks", tmp_path / "d"), "--quiet")
    assert_complains(outcome, REFUSED, tmp_path / "d", "Permission denied")
    assert "change its permissions" in outcome.err


# devices, and what is not the user's fault


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps"])
def test_device_that_is_not_there(dataset, pictures, warm, store, tmp_path, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for command in ("warmstart", "mine", "finetune", "predict"):
        arguments = writing_commands(dataset, pictures, warm, store)[command]
        refused(DEVICE, *arguments, "--out", tmp_path / command, "--device", device, said=(device,))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()])
def test_out_of_memory_says_what_to_lower(monkeypatch, error):
    monkeypatch.setattr(info_stage, "info", fail_with(error))
    outcome = call("info", "--quiet")
    assert_complains(outcome, DEVICE, "out of memory")
    assert "--batch-size" in outcome.err


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 77) is killed by signal: Killed. "),
        RuntimeError("DataLoader worker (pid(s) 77, 78) exited unexpectedly"),
    ],
)
def test_loading_process_that_is_gone_is_no_bug(monkeypatch, error):
    monkeypatch.setattr(info_stage, "info", fail_with(error))
    outcome = call("info", "--quiet")
    assert_complains(outcome, DEVICE, "a process that loads images was ended", "(pid")
    assert "--workers" in outcome.err


def test_network_that_cannot_be_compiled_is_no_bug(monkeypatch):
    error = torch._dynamo.exc.BackendCompilerFailed(compile, RuntimeError("InvalidCxxCompiler: none"), None)
    monkeypatch.setattr(info_stage, "info", fail_with(error))
    outcome = call("info", "--quiet")
    assert_complains(outcome, DEVICE, "torch cannot compile")
    assert "leave --compile out" in outcome.err


@pytest.mark.parametrize(
    ("number", "code", "said"), [(errno.EMFILE, REFUSED, "ulimit -n"), (errno.ENFILE, REFUSED, "ulimit"), (errno.ENOMEM, DEVICE, "memory")]
)
def test_what_the_system_lacks_is_no_bug(monkeypatch, number, code, said):
    monkeypatch.setattr(info_stage, "info", fail_with(OSError(number, os.strerror(number), "somewhere")))
    outcome = call("info", "--quiet")
    assert_complains(outcome, code, "somewhere")
    assert said in outcome.err


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(info_stage, "info", {}.__getitem__)
    outcome = call("info", "--json")
    assert outcome.code == 1
    assert outcome.out == ""
    assert "Traceback" in outcome.err
    assert "KeyError: InfoOptions" in outcome.err
    assert "bug" in outcome.err.splitlines()[-1]


def fail_with(error: BaseException):
    def stage(options):
        raise error

    return stage
