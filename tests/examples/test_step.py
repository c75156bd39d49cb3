"""Steps of the examples are run again only where their inputs have changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import ROOT

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
