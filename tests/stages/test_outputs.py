"""Outputs by the command line: two commands at once, a second one after a kill, and files of others in the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from builders import REFUSED, call, draw_cases, file_bytes, files_in, on_cpu, refused, succeed, write_image, write_lock

PAUSE = """
import sys, time
from samsemi import cli
from samsemi.stages import prepare

def pause(dataset, progress):
    print("paused", flush=True)
    time.sleep(600)

prepare.verify = pause
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """images/ and masks/ of 6 images."""
    folder = tmp_path_factory.mktemp("raw")
    for name, (image, mask) in draw_cases(6).items():
        write_image(folder / "images" / f"{name}.png", image[::4, ::4])
        write_image(folder / "masks" / f"{name}.png", mask[::4, ::4])
    return folder


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    succeed(*prepare(raw, out))
    return out


@pytest.fixture
def data(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "data"))


def prepare(raw: Path, out: Path) -> tuple:
    return ("prepare", raw / "images", "--masks", raw / "masks", "--out", out, "--val", 2, "--test", 2)


def evaluate(data: Path, out: Path) -> tuple:
    return ("eval", data, "--predictions", data / "masks", "--out", out, "--overlays", 1)


def test_second_prepare_into_a_folder_is_refused_and_told_by_whom(raw, tmp_path):
    arguments = prepare(raw, tmp_path / "data")
    first = subprocess.Popen(
        [sys.executable, "-c", PAUSE, *on_cpu(arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert first.stdout.readline() == "paused\n"
    refused(REFUSED, *arguments, said=(tmp_path / "data", f"process {first.pid} on {os.uname().nodename} since {time.strftime('%Y')}"))
    refused(REFUSED, *arguments, "--overwrite", said=(f"process {first.pid}",))
    assert not (tmp_path / "data").exists()
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    succeed(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "what the killed one has left is gone"


def test_broken_lock_lets_the_command_write(raw, tmp_path):
    write_lock(tmp_path / ".data.lock")
    refused(REFUSED, *prepare(raw, tmp_path / "data"), said=("on elsewhere since",))
    assert "--break-lock" in call(*prepare(raw, tmp_path / "data")).err
    succeed(*prepare(raw, tmp_path / "data"), "--break-lock")


@pytest.mark.parametrize("name", ["masks/mine.png", "truth/mine.png", "notes.txt", "images/mine.png"])
def test_prepare_never_removes_files_of_others(raw, data, name):
    write_image(data / "mine.png", np.zeros((2, 2), np.uint8))
    (data / name).parent.mkdir(exist_ok=True)
    (data / "mine.png").rename(data / name)
    before = file_bytes(data)
    refused(REFUSED, *prepare(raw, data), "--overwrite", said=(name,))
    assert file_bytes(data) == before


def test_prepare_never_takes_a_folder_for_its_own_by_the_name_of_a_file(raw, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "manifest.csv").write_text("patient,consent\n1,yes\n")
    refused(REFUSED, *prepare(raw, tmp_path / "study"), "--overwrite", said=(tmp_path / "study", "dataset.json"))
    assert files_in(tmp_path) == {"study/manifest.csv"}


def test_data_set_of_before_it_named_a_schema_is_replaced(raw, data):
    text = (data / "dataset.json").read_text()
    (data / "dataset.json").write_text(text.replace('"schema": "samsemi.dataset/1",', ""))
    succeed(*prepare(raw, data), "--overwrite")
    assert (data / "dataset.json").read_text() == text


def test_refused_prepare_leaves_the_old_data_set(raw, data, tmp_path):
    shutil.copytree(raw, tmp_path / "damaged")
    image = next((tmp_path / "damaged/images").iterdir())
    image.write_bytes(image.read_bytes()[:-200])
    before = file_bytes(data)
    assert call(*prepare(tmp_path / "damaged", data), "--overwrite", "--quiet").code == 4
    assert file_bytes(data) == before


def test_eval_is_replaced_and_files_of_others_in_it_are_not(data, tmp_path):
    arguments = evaluate(data, tmp_path / "eval")
    succeed(*arguments)
    assert len(files_in(tmp_path / "eval")) == 3
    succeed(*arguments, "--overwrite")
    write_image(tmp_path / "eval/overlays/01-mine.png", np.zeros((2, 2), np.uint8))
    before = file_bytes(tmp_path / "eval")
    refused(REFUSED, *arguments, "--overwrite", said=("01-mine.png",))
    assert file_bytes(tmp_path / "eval") == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_eval_killed_when_all_was_written_runs_again(data, tmp_path, monkeypatch):
    from samsemi import folders

    arguments = evaluate(data, tmp_path / "eval")
    if os.fork() == 0:
        monkeypatch.setattr(folders, "remove", lambda path: os._exit(9))
        call(*arguments)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    assert (tmp_path / "eval/metrics.json").exists()
    succeed(*arguments)
    refused(REFUSED, *arguments, said=("exists and is not empty",))


LATE = {
    "prepare {raw}/images --masks {raw}/masks --out {out}": "prepare.read_values",
    "warmstart {data} --out {out}": "warmstart.build_segmenter",
    "adapt {data} --out {out}": "adapt.load_start",
    "mine {data} --model m --out {out}": "mine.load_model_for",
    "finetune {data} --model m --out {out}": "finetune.load_model_for",
    "distill {data} --out {out}": "distill.load_sam",
    "eval {data} --model m --out {out}": "evaluate.load_model_for",
    "predict {raw}/images --model m --out {out}": "predict.choose_window_option",
    "export-labels s.h5 --out {out}": "export_labels.Store",
}
"""Each command that writes, and the first of its work that takes long."""


@pytest.fixture(scope="module")
def halved(raw, tmp_path_factory) -> Path:
    """A data set with an unlabeled case."""
    out = tmp_path_factory.mktemp("halved") / "data"
    succeed(*prepare(raw, out)[:-4], "--val", 0.2, "--test", 0.2, "--labeled", 2)
    return out


@pytest.mark.parametrize("command", LATE, ids=lambda command: command.split()[0])
def test_output_that_exists_is_refused_before_any_work(raw, halved, tmp_path, monkeypatch, command):
    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("work was done for an output that cannot be written")

    monkeypatch.setattr(f"samsemi.stages.{LATE[command]}", work)
    is_file = command.startswith(("adapt", "mine"))
    out = tmp_path / ("out.safetensors" if is_file else "out")
    stands = out if is_file else out / "notes.txt"
    words = command.format(raw=raw, data=halved, out=out).split()
    before = files_in(tmp_path)
    assert "work was done" in call(*words).err
    assert files_in(tmp_path) == before and not out.exists(), "nothing is left where it fails"
    stands.parent.mkdir(exist_ok=True)
    stands.write_text("mine")
    for more in ((), ("--overwrite",)):
        refused(REFUSED, *words, *more, said=(out,))
    assert stands.read_text() == "mine"
