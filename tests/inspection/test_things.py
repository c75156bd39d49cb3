"""`samsemi info PATH`: what a thing is, from what, how much and how good; damaged, unfinished and unknown things."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from builders import CHECKPOINT, DATA, ROOT, SIZE, block, call, files_in, mined_of, refused, succeed, truncate, write_image
from safetensors.torch import save_file

from samsemi.data.dataset import read_dataset
from samsemi.inspection import runs
from samsemi.knowsam.teacher import TEACHER
from samsemi.mining.folds import OUT_OF_FOLD
from samsemi.mining.policy import Policy
from samsemi.mining.store import Provenance
from samsemi.mining.store_writer import StoreWriter
from samsemi.sam.embeddings import KEYS
from samsemi.segmenters.checkpoints import MODEL_CARD, MODEL_WEIGHTS
from samsemi.stages import export_labels, predict
from samsemi.stages import info as info_stage
from samsemi.tensors import CARD

CONFIG = {"prompts": "box,point", "box_margin": 2, "sam": "tiny", "calibrate": True, "flips": False, "min_quality": None, "gone": 3}
CALIBRATION = {
    "cases": {"val": 7},
    "objects": 30,
    "target_precision": 0.8,
    "precision": 0.84,
    "precision_interval": [0.65, 0.94],
    "accepted": 25,
    "curve": [{"dice": 0.5}],
    "by_class": {"cell": {"fit": "own", "objects": 30, "accepted": 25, "precision": 0.84, "precision_interval": [0.65, 0.94]}},
}


def info(path: object) -> dict:
    return succeed("info", path, "--json").result


def text_of(path: object) -> str:
    return succeed("info", path).out


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten images, eight of which have a mask."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    for number in range(10):
        write_image(folder / "images" / f"{number}.png", rng.integers(0, 256, (16, 20, 3), dtype=np.uint8))
        if number < 8:
            mask = np.zeros((16, 20), dtype=np.uint8)
            mask[2:9, 3:12] = 255
            write_image(folder / "masks" / f"{number}.png", mask)
    words = ("--masks", folder / "masks", "--val", 2, "--test", 2, "--classes", "cell")
    succeed("prepare", folder / "images", *words, "--out", folder / "data")
    return folder / "data"


def begin_store(path: Path) -> StoreWriter:
    """Two parts: three objects of two classes, of which two are accepted; then an image without any and one that cannot be read."""
    made_from = {"dataset": "d0", "model": "a" * 64, "sam": "tiny", "sam_weights": "b" * 64}
    writer = StoreWriter(path, Provenance(CONFIG, made_from, Policy().to_json(), CALIBRATION), SIZE, num_points=0, num_classes=3)
    maps = block(2, 8, 2, 8), block(4, 7, 6, 12), block(10, 14, 2, 6)
    writer.add("a", (32, 64), mined_of(*maps, class_id=[1, 2, 2], agreement=[1, 1, 0.1]))
    writer.commit(0)
    writer.add("b", (32, 64), mined_of(num_classes=3))
    writer.add_unreadable("c")
    writer.commit(1)
    return writer


@pytest.fixture
def store(tmp_path) -> Path:
    begin_store(tmp_path / "s.h5").finish(["a", "b", "c"])
    return tmp_path / "s.h5"


def write_run(folder: Path, command: str = "warmstart", finished: bool = True, **options: object) -> Path:
    """The files of a run, as a training leaves them."""
    folder.mkdir(parents=True)
    given = {"dataset": "data", "out": str(folder), "iterations": 40, "lr": 0.001, "batch_size": 4, **options}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    (folder / "config.toml").write_text("\n".join([f"[{command}]", *lines]) + "\n")
    score = "val_iou" if command == "adapt" else "val_dice"
    (folder / "history.csv").write_text(f"iteration,loss,{score},seconds\n0,,0.1,\n20,0.5,0.6,7.5\n40,0.4,0.7,15\n")
    if command != "adapt":
        model = {"encoder": "resnet18", "decoder_channels": [16, 8], "classes": ["background", "cell"], "size": 64}
        card = {
            "schema": "samsemi.model/1",
            "model": model,
            "scores": {"val_dice": 0.7, "iteration": 40},
            "made_from": {"dataset": "d" * 64},
        }
        (folder / "model.json").write_text(json.dumps(card))
        save_file({"w": torch.zeros(6)}, folder / "model.safetensors")
    mark = folder / ("made_from.json" if finished else "last/made_from.json")
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(json.dumps({"schema": "samsemi.run/1", "dataset": "d" * 64}))
    return folder


def write_sam(path: Path) -> Path:
    card = {"sam": "tiny", "made_from": {"dataset": "d" * 64}, "scores": {"val_iou": 0.81, "iteration": 40}}
    save_file({"a": torch.zeros(3, 4).half(), "b": torch.zeros(5).half()}, path, {"samsemi": json.dumps(card)})
    return path


def test_names_are_those_that_the_writers_use():
    """info loads no torch, so it cannot take them from where they are written."""
    assert (runs.MODEL_CARD, runs.MODEL_WEIGHTS, runs.OUT_OF_FOLD, runs.TEACHER) == (MODEL_CARD, MODEL_WEIGHTS, OUT_OF_FOLD, TEACHER)
    assert (CARD, KEYS, predict.ABOUT, export_labels.ABOUT) == ("samsemi", "keys", "predictions.json", "labels.json")


def test_data_set(data):
    found = info(data)
    assert found["kind"] == "dataset" and found["classes"] == ["background", "cell"] and found["images"] == 10
    assert found["splits"]["labeled"] == {"images": 4, "groups": 4, "masks": 4, "hidden_masks": 0}
    assert found["splits"]["unlabeled"] == {"images": 2, "groups": 2, "masks": 0, "hidden_masks": 0}
    assert found["fingerprint"] == read_dataset(data).fingerprint()
    assert found["files_missing"] == 0 and found["bytes"] == sum((data / name).stat().st_size for name in files_in(data))
    assert info(data / "manifest.csv") == {**found, "path": str(data / "manifest.csv")}
    lines = text_of(data).splitlines()
    assert "labeled    4       4       4      0" in lines and f"  fingerprint      {found['fingerprint'][:12]}" in lines


def test_hidden_masks_and_missing_files_of_a_data_set_are_counted(data, tmp_path):
    splits = write_split(tmp_path / "split.csv")
    succeed("prepare", data.parent / "images", "--masks", data.parent / "masks", "--out", tmp_path / "d", "--split", splits)
    found = info(tmp_path / "d")
    assert found["splits"]["unlabeled"] == {"images": 2, "groups": 2, "masks": 0, "hidden_masks": 1}
    (tmp_path / "d" / "masks" / "0.png").unlink()
    found = info(tmp_path / "d")
    assert found["files_missing"] == 1 and found["first_missing"].endswith("masks/0.png")


def write_split(path: Path) -> Path:
    splits = {"0": "labeled", "1": "val", "2": "unlabeled", "8": "unlabeled"}
    path.write_text("id,split\n" + "".join(f"{name},{split}\n" for name, split in splits.items()))
    return path


def test_store(store):
    found = info(store)
    assert (found["kind"], found["schema"], found["finished"]) == ("store", "samsemi.pseudo-labels/2", True)
    assert (found["images"], found["nothing_found"], found["unreadable"], found["objects"]) == (3, 1, 1, 3)
    assert (found["accepted"], found["accepted_images"], found["rejected"]) == (2, 1, {"agreement": 1})
    assert found["by_class"] == {
        "1": {"objects": 1, "accepted": 1, "images": 1, "rejected": {}},
        "2": {"objects": 2, "accepted": 1, "images": 1, "rejected": {"agreement": 1}},
    }
    assert found["options"] == {"prompts": "box,point", "flips": False, "gone": 3}, "what is as by default is left out"
    assert found["made_from"]["sam"] == "tiny" and found["made_from"]["model"] == "a" * 64
    assert found["calibration"]["precision_interval"] == [0.65, 0.94] and "curve" not in found["calibration"]
    assert found["bytes"] == store.stat().st_size
    text = text_of(store)
    assert re.search(r"made from model +a{12}\n", text) and "options  --no-flips --gone 3 --prompts box,point" in re.sub("  +", "  ", text)
    assert "0.84 [0.65, 0.94]" in text and "cell   30       25        0.84 [0.65, 0.94]" in text
    assert "2      2        1         1       1" in text


def test_store_that_is_not_finished(tmp_path):
    begin_store(tmp_path / "s.h5")
    for path in (tmp_path / "s.h5", tmp_path / "s.h5.parts", tmp_path / "s.h5.parts" / "000001.h5"):
        found = info(path)
        assert (found["kind"], found["finished"], found["parts"], found["images"], found["objects"]) == ("store", False, 2, 3, 3)
        assert found["by_class"] == {"1": {"objects": 1}, "2": {"objects": 2}} and "accepted" not in found
    assert "not finished: --resume goes on" in text_of(tmp_path / "s.h5")


@pytest.mark.parametrize("command, what", runs.NAMES.items())
def test_run_of_each_command(tmp_path, command, what):
    folder = write_run(tmp_path / "r", command)
    found = info(folder)
    assert found["command"] == command and found["finished"] and found["inputs"] == {"dataset": "data"}
    assert (found["iterations"], found["iterations_planned"], found["seconds"]) == (40, 40, 15)
    expected = {"iterations": 40, "batch_size": 4} | ({} if command in ("warmstart", "finetune") else {"lr": 0.001})
    assert found["options"] == expected, "the rate is as by default in some"
    assert what in text_of(folder) and "40 of 40, 15 s" in text_of(folder)
    if command != "adapt":
        assert found["scores"] == {"val_dice": 0.7, "iteration": 40} and found["classes"] == ["background", "cell"]
        assert found["made_from"] == {"dataset": "d" * 64} and found["network"]["encoder"] == "resnet18"
        assert found["parameters"] == 6 and info(folder / "model.safetensors")["command"] == command


def test_run_that_is_not_finished(tmp_path):
    folder = write_run(tmp_path / "r", finished=False, iterations=80)
    found = info(folder)
    assert found["finished"] is False and (found["iterations"], found["iterations_planned"]) == (40, 80)
    (folder / "model.json").unlink()
    assert info(folder)["scores"] == {"val_dice": 0.7} and info(folder)["made_from"] == {"dataset": "d" * 64}
    (folder / "history.csv").unlink()
    assert info(folder)["iterations"] == 0 and "not finished" in text_of(folder)


def test_warm_start_with_folds_is_finished_when_their_predictions_are_there(tmp_path):
    folder = write_run(tmp_path / "r", folds=2)
    assert info(folder)["finished"] is False
    write_run(folder / "fold-1")
    shutil.copy(ROOT / "tests" / "files" / "out-of-fold-1.h5", folder / "out_of_fold.h5")
    found = info(folder)
    assert found["finished"] and found["holds"] == {"folds": 1, "files": ["out_of_fold.h5"]}


def test_run_of_0_1_0_that_keeps_its_state_is_finished(tmp_path):
    folder = write_run(tmp_path / "r", finished=False)
    (folder / "last" / "made_from.json").write_text("{}")
    assert info(folder)["finished"] is True


def test_adapted_sam_by_its_weights_or_its_run(tmp_path):
    weights, run = write_sam(tmp_path / "sam.safetensors"), write_run(tmp_path / "sam.run", "adapt", sam="vit_b")
    for path in (weights, run):
        found = info(path)
        assert (found["kind"], found["sam"], found["scores"]["val_iou"]) == ("adapted_sam", "tiny", 0.81)
        assert (found["parameters"], found["tensors"], found["types"]) == (17, 2, {"F16": 2})
        assert found["made_from"] == {"dataset": "d" * 64} and found["options"]["sam"] == "vit_b"
        assert found["scores_before"] == {"val_iou": 0.1}
    assert "None" not in text_of(weights), "it names no schema"
    weights.unlink()
    assert info(run)["scores"] == {"val_iou": 0.7} and info(weights)["kind"] == "adapted_sam"


def test_files_of_released_schemas():
    kinds = {"store-1.h5": "store", "teacher-0.safetensors": "teacher", "embeddings-1.h5": "embeddings", "out-of-fold-1.h5": "out_of_fold"}
    assert {name: info(ROOT / "tests" / "files" / name)["kind"] for name in kinds} == kinds


def test_cache_of_embeddings():
    found = info(ROOT / "tests" / "files" / "embeddings-1.h5")
    assert (found["images"], found["precision"], found["tensors"]) == (2, "fp32", {"features": [2, 2, 2]})


def test_weights_of_others(tmp_path):
    save_file({"w": torch.zeros(6)}, tmp_path / "w.safetensors")
    found = info(tmp_path / "w.safetensors")
    assert (found["kind"], found["parameters"]) == ("weights", 6)


def test_evaluation_predictions_and_labels(tmp_path, store):
    mean = {"dice": {"mean": 0.8, "std": 0.1, "low": 0.7, "high": 0.9, "n": 5}, "hd95": {"mean": None, "low": None, "high": None}}
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "metrics.json").write_text(json.dumps({"split": "test", "cases": 5, "classes": {"cell": {}}, "mean": mean}))
    found = info(tmp_path / "e")
    assert (found["kind"], found["split"], found["scores"]["dice"], found["intervals"]["dice"]) == ("evaluation", "test", 0.8, [0.7, 0.9])
    assert "scores dice  0.8 [0.7, 0.9]" in text_of(tmp_path / "e")
    write_image(tmp_path / "p" / "a.png", np.zeros((4, 4), dtype=np.uint8))
    about = {"model": "c" * 64, "classes": ["background", "cell"], "overlays": True, "precision": "auto", "probabilities": False}
    (tmp_path / "p" / "predictions.json").write_text(json.dumps(about))
    found = info(tmp_path / "p")
    assert (found["kind"], found["images"], found["options"]) == ("predictions", 1, {"overlays": True})
    succeed("export-labels", store, "--out", tmp_path / "l")
    found = info(tmp_path / "l")
    assert (found["kind"], found["format"], found["images"], found["left_out"]) == ("labels", "png", 1, 2)


def test_folder_of_several_things_has_a_line_for_each(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    begin_store(tmp_path / "s.h5").finish(["a", "b", "c"])
    begin_store(tmp_path / "t.h5")
    write_sam(tmp_path / "sam.safetensors")
    write_run(tmp_path / "sam.run", "adapt")
    write_run(tmp_path / "runs" / "warm")
    write_run(tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "model.json").write_text("{")
    (tmp_path / ".hidden.h5").write_text("")
    found = {Path(thing["path"]).name: thing for thing in info(tmp_path)["things"]}
    assert {name: thing["kind"] for name, thing in found.items()} == {
        "data": "dataset",
        "broken": "damaged",
        "warm": "run",
        "s.h5": "store",
        "sam.safetensors": "adapted_sam",
        "t.h5.parts": "store",
    }
    assert found["t.h5.parts"]["finished"] is False and found["warm"]["summary"] == "warm start, val_dice 0.700"
    assert found["s.h5"]["summary"] == "pseudo-label store, 3 images, 3 objects, 2 accepted"
    text = text_of(tmp_path)
    assert "6 things" in text and re.search(r"broken +damaged: ", text) and "unfinished" in text


@pytest.mark.parametrize("name, text", [("a.txt", "hello"), ("a", ""), ("empty/x.txt", ""), ("a.pth", "PK")])
def test_unknown_things_are_named(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    path = tmp_path / "empty" if "/" in name else tmp_path / name
    refused(DATA, "info", path, said=(path, "nothing that samsemi makes"))


def test_what_is_not_there_is_named(tmp_path):
    refused(DATA, "info", tmp_path / "none.h5", said=("none.h5", "no such file"))
    refused(DATA, "info", tmp_path / ("n" * 300), said=("too long",))


def test_hdf5_of_others_and_of_a_later_samsemi_are_named(tmp_path, store):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = 1
    refused(CHECKPOINT, "info", tmp_path / "x.h5", said=("no schema",))
    with h5py.File(store, "a") as file:
        file.attrs["schema"] = "samsemi.pseudo-labels/99"
    refused(CHECKPOINT, "info", store, said=("samsemi.pseudo-labels/99",))


def things_to_damage(folder: Path, data: Path) -> list[Path]:
    """One of each thing."""
    shutil.copytree(data, folder / "data")
    begin_store(folder / "s.h5").finish(["a", "b", "c"])
    begin_store(folder / "t.h5")
    run = write_run(folder / "warm")
    write_sam(folder / "sam.safetensors")
    write_run(folder / "sam.run", "adapt")
    for name in ("embeddings-1.h5", "out-of-fold-1.h5", "teacher-0.safetensors"):
        shutil.copy(ROOT / "tests" / "files" / name, folder)
    files = [folder / name for name in ("s.h5", "t.h5.parts/000000.h5", "sam.safetensors", "embeddings-1.h5", "out-of-fold-1.h5")]
    files += [folder / "teacher-0.safetensors", folder / "data" / "dataset.json", folder / "data" / "manifest.csv"]
    return (
        files
        + [run / name for name in ("model.json", "model.safetensors", "config.toml", "history.csv")]
        + [folder / "sam.run" / "history.csv"]
    )


def test_damaged_things_end_with_two_lines_and_never_with_a_traceback(tmp_path, data):
    """Cut in half, emptied, overwritten by noise, and with values of another type."""
    rng = np.random.default_rng(0)
    failed = 0
    for path in things_to_damage(tmp_path, data):
        whole = path.read_bytes()
        noise = bytearray(whole)
        for place in rng.integers(0, len(whole), max(3, len(whole) // 100)):
            noise[place] = rng.integers(256)
        for damaged in (
            whole[: len(whole) // 2],
            b"",
            bytes(noise),
            b"[1, 2]",
            b'{"scores": 3, "model": [], "classes": 7}',
            b"\xff\xfe\0",
            b"iteration,seconds,val_dice\n1,inf,nan\n",
        ):
            path.write_bytes(damaged)
            outcome = call("info", path, "--quiet")
            assert outcome.code in (0, DATA, CHECKPOINT), f"{path.name}: {outcome.err}"
            if outcome.code:
                assert [line.split(":")[0] for line in outcome.err.splitlines()] == ["error", "hint"], outcome.err
                failed += 1
        assert call("info", tmp_path, "--quiet").code == 0, "the folder is listed all the same"
        path.write_bytes(whole)
    assert failed > 30


def test_run_that_a_command_wrote_is_known(dataset, warm):
    found = info(warm)
    assert (found["kind"], found["command"], found["finished"], found["iterations"]) == ("run", "warmstart", True, 24)
    assert found["scores"]["val_dice"] > 0 and found["inputs"] == {"dataset": str(dataset)}
    assert {"size": 64, "ema": 0.8}.items() <= found["options"].items() and "seed" not in found["options"]
    assert found["made_from"]["dataset"] == info(dataset)["fingerprint"]
    assert {thing["kind"] for thing in info(warm.parent)["things"]} == {"run"}


@pytest.mark.parametrize(
    "calibration", ['{"by_class": 3}', '{"by_class": {"a": {"precision": "high", "precision_interval": 7}}, "precision": []}']
)
def test_calibration_of_other_values_is_no_bug(store, calibration):
    with h5py.File(store, "a") as file:
        file.attrs["calibration"] = calibration
    assert call("info", store, "--quiet").code in (0, CHECKPOINT)


def test_store_that_is_cut_is_told(store):
    truncate(store)
    refused(CHECKPOINT, "info", store, said=(store,))


def test_path_is_described_without_torch(store):
    code = "import sys; from samsemi.cli import main; code = main(sys.argv[1:]); sys.exit(code or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "info", str(store)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_image_is_opened(data, monkeypatch, tmp_path):
    shutil.copytree(data, tmp_path / "d")
    for name in files_in(tmp_path / "d"):
        if name.endswith(".png"):
            (tmp_path / "d" / name).write_bytes(b"no picture")
    assert info(tmp_path / "d")["images"] == 10


def test_classes_are_told_by_the_names_of_the_calibration():
    counts = {"1": {"objects": 2}, "2": {"objects": 3}}
    judged = {"cell": {"class_id": 2, "objects": 30}, "rim": {"objects": 1}}
    by_class, of_calibration = info_stage.tables({"by_class": counts, "calibration": {"by_class": judged}})
    assert [row[0] for row in by_class.rows] == ["1", "cell"] and [row[0] for row in of_calibration.rows] == ["cell", "rim"]
