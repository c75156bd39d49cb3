"""Steps of the examples are run again only where their inputs have changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import ROOT, load_example, write_image

sys.path.insert(0, str(ROOT / "examples"))
import step


@pytest.fixture
def ran(monkeypatch):
    """The commands that were run, each of them a success that writes its --out."""
    commands = []

    def run(words, stdout, stderr, text):
        commands.append(words[3:])
        Path(words[words.index("--out") + 1]).touch()
        return subprocess.CompletedProcess(words, 0, '{"images": 3}')

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def mine(tmp_path, *options: str) -> int:
    words = ["mine", str(tmp_path / "data"), "--out", str(tmp_path / "s.h5"), "--embeddings", str(tmp_path / "e.h5"), *options]
    return step.run_step(tmp_path / "out", "mine-once", words)


def test_step_is_run_again_only_where_its_inputs_have_changed(tmp_path, ran):
    (tmp_path / "data" / "truth").mkdir(parents=True)
    (tmp_path / "data" / "truth" / "a.png").write_bytes(b"1")
    assert mine(tmp_path) == 0 and ran[0][-2:] == ["--resume", "--json"]
    (tmp_path / "e.h5").write_bytes(b"filled")
    assert mine(tmp_path) == 0 and len(ran) == 1
    assert json.loads((tmp_path / "out/steps/mine-once.json").read_text())["result"] == {"images": 3}
    (tmp_path / "data" / "truth" / "a.png").write_bytes(b"2")
    assert mine(tmp_path) == 0 and len(ran) == 2 and "--overwrite" in ran[1]
    assert mine(tmp_path, "--seed", "1") == 0 and len(ran) == 3 and "--overwrite" in ran[2]
    (tmp_path / "s.h5").unlink()
    assert mine(tmp_path, "--seed", "1") == 0 and len(ran) == 4
    assert mine(tmp_path, "--seed", "1") == 0 and len(ran) == 4


def test_step_that_stopped_goes_on_and_one_whose_inputs_changed_since_starts_again(tmp_path, monkeypatch):
    flags = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: flags.append(words[-2]) or subprocess.CompletedProcess(words, 130, ""))
    assert [mine(tmp_path), mine(tmp_path), mine(tmp_path, "--seed", "1"), mine(tmp_path, "--seed", "1")] == [130] * 4
    assert flags == ["--resume", "--resume", "--overwrite", "--resume"]


def test_command_that_cannot_resume_is_overwritten(tmp_path, ran):
    words = ["eval", str(tmp_path / "data"), "--out", str(tmp_path / "eval")]
    step.run_step(tmp_path, "eval-once", words)
    assert ran == [[*words, "--overwrite", "--json"]]


def test_nothing_accepted_is_a_result_that_is_kept(tmp_path, monkeypatch):
    runs = []

    def run(words, **_):
        runs.append(words)
        (tmp_path / "s.h5").touch()
        return subprocess.CompletedProcess(words, 7, "")

    monkeypatch.setattr(subprocess, "run", run)
    assert [mine(tmp_path), mine(tmp_path)] == [7, 7] and len(runs) == 1
    assert json.loads((tmp_path / "out/steps/mine-once.json").read_text())["code"] == 7
    assert mine(tmp_path, "--seed", "1") == 7 and len(runs) == 2


def run_pipeline(folder: Path, script: str) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
    """The pipeline with a shell script for python3, and the words of every call of it."""
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").write_text(f'#!/usr/bin/env bash\necho "$*" >> {folder}/calls\n{script}\n')
    (folder / "bin" / "python3").chmod(0o755)
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "ADAPT": ""}
    words = ["bash", ROOT / "examples" / "pipeline.sh", folder / "data", folder / "out"]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    return done, [line.split() for line in (folder / "calls").read_text().splitlines()]


def test_pipeline_takes_the_labeled_only_model_where_nothing_is_accepted(tmp_path):
    done, calls = run_pipeline(tmp_path, '[ "$4" != mine ] || exit 7')
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("nothing accepted; it is its labeled-only model") == 2
    models = {words[2]: Path(words[words.index("--model") + 1]).name for words in calls if "eval" in words}
    wanted = {"eval-labeled-only": "labeled-only", "eval-self-training": "labeled-only", "eval-once": "labeled-only", "eval-warm": "warm"}
    assert models == wanted and calls[-1][0].endswith("summary.py")
    assert not any("--store" in words for words in calls)


@pytest.mark.parametrize("code", [1, 5])
def test_pipeline_stops_where_a_command_fails(tmp_path, code):
    done, calls = run_pipeline(tmp_path, f'[ "$4" != mine ] || exit {code}')
    assert done.returncode == code and calls[-1][3] == "mine"


@pytest.mark.parametrize(("printed", "share"), [("--labeled 0.1", True), ("", False)])
def test_pipeline_hides_masks_only_where_all_images_have_one(tmp_path, printed, share):
    _, calls = run_pipeline(tmp_path, f'[[ "$1" != */simulated.py ]] || echo "{printed}"')
    [prepare] = [words for words in calls if "prepare" in words]
    assert ("--labeled" in prepare) is share


def test_share_is_simulated_only_where_all_images_have_a_mask(tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        for folder in ("images", "masks"):
            write_image(tmp_path / folder / f"{name}.png", np.zeros((4, 4), np.uint8))
    monkeypatch.setattr(sys, "argv", ["simulated.py", str(tmp_path)])
    simulated = load_example("simulated")
    simulated.main()
    assert capsys.readouterr().out == "--labeled 0.1\n"
    (tmp_path / "masks" / "b.png").unlink()
    simulated.main()
    assert capsys.readouterr().out == ""
