"""The end of a pipeline: every arm against every other, and what it comes to in words."""

import json
import sys

import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "examples"))
import summary

DICE = {
    "warm": [0.50, 0.52, 0.48, 0.51],
    "labeled-only": [0.60, 0.63, 0.57, 0.62],
    "self-training": [0.80, 0.84, 0.75, 0.81],
    "once": [0.70, 0.72, 0.69, 0.71],
    "continuous": [0.62, 0.61, 0.57, 0.60],
}


def write_eval(folder, dice: list[float]) -> None:
    folder.mkdir(parents=True)
    rows = [f"c{i},p{i},polyp,{value}" for i, value in enumerate(dice)]
    (folder / "metrics.csv").write_text("\n".join(["id,group,class,dice", *rows, "empty,p9,polyp,"]) + "\n")
    mean = {"mean": sum(dice) / len(dice), "low": min(dice), "high": max(dice)}
    (folder / "metrics.json").write_text(json.dumps({"mean": dict.fromkeys(("dice", "iou", "hd95"), mean), "coverage": 0.5}))


@pytest.fixture
def out(tmp_path):
    for arm, dice in DICE.items():
        write_eval(tmp_path / f"eval-{arm}", dice)
    write_eval(tmp_path / "eval-store-once", [0.4, 0.6])
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "once.json").write_text('{"seconds": 12.4}')
    return tmp_path


def test_pipeline_ends_with_every_arm_against_every_other(out, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["summary.py", str(out)])
    summary.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(" - " in line for line in lines) == 10
    [line] = [line for line in lines if line.startswith("| once - self-training |")]
    assert "| -9.5 [" in line
    assert "| once | 0.705 [0.690, 0.720] | 0.705 | 0.7 | 12 |" in lines
    assert "| once | 0.500 [0.400, 0.600] | 50% |  |" in lines


def test_mining_that_lost_is_named_so_and_doubt_where_there_is_any(out):
    dice = {arm: summary.read_dice(out / f"eval-{arm}") for arm in DICE}
    won, lost, close, lost_too = summary.write_verdicts(dice, summary.read_groups(out / "eval-warm"))
    assert won.startswith("Mining (once) won against labeled-only: +10.0 [") and "not told apart" not in won
    assert lost.startswith("Mining (once) lost to self-training: -9.5 [") and "not told apart" not in lost
    assert close.startswith("Mining (continuous) lost to labeled-only: -0.5 [") and close.endswith("not told apart.")
    assert "lost to self-training" in lost_too


def test_arm_that_accepted_nothing_is_marked_and_counts(out, monkeypatch, capsys):
    (out / "steps" / "eval-once.json").write_text(json.dumps({"command": ["eval", "data", "--model", "x/labeled-only"]}))
    (out / "steps" / "eval-warm.json").write_text(json.dumps({"command": ["eval", "data", "--model", "x/warm"]}))
    monkeypatch.setattr(sys, "argv", ["summary.py", str(out)])
    summary.main()
    text = capsys.readouterr().out
    assert "| once (nothing accepted) | 0.705 [0.690, 0.720] | 0.705 | 0.7 |  |" in text
    assert "once: nothing accepted; its figures are those of labeled-only." in text and "| warm | " in text
    assert "| once | 0.500" not in text, "no masks were mined"
