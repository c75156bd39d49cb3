"""The evidence of examples/evidence: the split of the cases, every arm on drawn images, and the table of what is there."""

import csv
import json
import shutil
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from builders import NETWORK, ROOT, call
from PIL import Image

sys.path.insert(0, str(ROOT / "examples" / "evidence"))
import run as evidence
import table

pytestmark = pytest.mark.slow

SETTINGS = Namespace(
    warm_iterations=2,
    iterations=4,
    lr="1e-3",
    keep="last",
    encoder=NETWORK[3],
    decoder=NETWORK[5],
    encoder_weights="none",
    size=32,
    precision="fp32",
    sam="tiny",
    sam_checkpoint="",
    adapt="--all --iterations 1 --batch-size 2",
    mine="--min-quality 0 --no-calibrate --min-confidence 0 --min-predicted-iou 0 --min-agreement 0",
    finetune="--min-quality 0",
    distill="--sam-size 64 --overlays 0",
)
KNOWSAM = ("distill", "distill-no-sam", "distill-store", "finetune-distill")
"""Of evidence.KNOWSAM; the others differ by a flag that test_distill.py knows."""
TWICE = (*evidence.BASELINES, "once", "supervised-all")
"""Arms of both seeds."""
ARMS = (*TWICE, "continuous", "rounds", "ellipse", *KNOWSAM)


def images_of(folder: Path, count: int) -> Path:
    """A set of ``count`` different images."""
    (folder / "images").mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.uint8([[[*divmod(i, 256), 0]]])).save(folder / "images" / f"{i:03d}.png")
    return folder


def read_split(path: Path) -> dict[str, str]:
    with open(path, newline="") as file:
        return {row["id"]: row["split"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(("percent", "labels", "val"), [(5, 40, 13), (10, 80, 26), (75, 600, 80), (100, 800, 80)])
def test_labels_are_counted_as_labeled_and_val(tmp_path, percent, labels, val):
    evidence.write_split(images_of(tmp_path / "set", 1000), percent, 2, tmp_path / "split.csv")
    counts = Counter(read_split(tmp_path / "split.csv").values())
    assert counts["test"] == 200 and sum(counts.values()) == 1000
    assert (counts["labeled"] + counts["val"], counts["val"]) == (labels, val)


def test_test_cases_are_the_same_for_all_seeds_and_shares_and_the_rest_is_dealt_anew(tmp_path):
    data, found = images_of(tmp_path / "set", 200), []
    for seed, percent in ((2, 10), (3, 10), (2, 50)):
        evidence.write_split(data, percent, seed, tmp_path / "split.csv")
        found.append(read_split(tmp_path / "split.csv"))
    tests = [{name for name, split in split.items() if split == "test"} for split in found]
    assert tests[0] == tests[1] == tests[2]
    labeled = [{name for name, split in split.items() if split == "labeled"} for split in found]
    assert labeled[0] != labeled[1]
    evidence.label_all(tmp_path / "split.csv", tmp_path / "all.csv")
    whole = read_split(tmp_path / "all.csv")
    assert "unlabeled" not in whole.values()
    assert {name for name in whole if whole[name] in ("test", "val")} == {name for name in whole if found[2][name] in ("test", "val")}


def test_of_images_that_are_the_same_one_is_kept(tmp_path):
    data = images_of(tmp_path / "set", 10)
    shutil.copy(data / "images" / "003.png", data / "images" / "copy.png")
    evidence.write_split(data, 50, 2, tmp_path / "split.csv")
    assert sorted(read_split(tmp_path / "split.csv")) == [f"{i:03d}" for i in range(10)]


def in_process(words: list[str], stdout, stderr, text) -> subprocess.CompletedProcess:
    """samsemi's command in this process, in place of one of its own."""
    outcome = call(*words[3:])
    stderr.write(outcome.err)
    return subprocess.CompletedProcess(words, outcome.code, outcome.out)


@pytest.fixture(scope="module")
def measured(pictures, tmp_path_factory):
    """A row on drawn images: a seed with every arm that there is, and one with those that the table compares."""
    out = tmp_path_factory.mktemp("evidence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", in_process)
        for seed, arms in ((2, ARMS), (3, TWICE)):
            cell = evidence.Cell(pictures, out / "kvasir_seg-75" / f"seed-{seed}", 75, seed, SETTINGS)
            cell.run(arms)
    return out


def test_every_arm_sees_the_same_number_of_images(measured):
    folder = measured / "kvasir_seg-75" / "seed-2"
    seen = {}
    for arm in ARMS:
        command = json.loads((folder / "steps" / f"{arm}.json").read_text())["command"]
        seen[arm] = int(command[command.index("--iterations") + 1]) + (2 if command[0] == "finetune" else 0)
        assert command[0] != "distill" or command[command.index("--batch-size") + 1] == "8"
    assert set(seen.values()) == {6}


def test_what_is_done_is_not_done_again(measured, pictures, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is left to do"))
    evidence.Cell(pictures, measured / "kvasir_seg-75" / "seed-2", 75, 2, SETTINGS).run(("supervised", "once", "rounds", "supervised-all"))


def test_command_that_fails_is_named(measured, pictures, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", in_process)
    wrong = Namespace(**{**vars(SETTINGS), "encoder": "nonsense"})
    with pytest.raises(RuntimeError, match="(?s)warm.*ended with 2.*--encoder nonsense"):
        evidence.Cell(pictures, tmp_path / "x-75" / "seed-9", 75, 9, wrong).run(("labeled-only",))


def test_table_holds_means_differences_and_what_was_not_run(measured):
    rows = {(row["row"], row["arm"]): row for row in table.measure_rows(measured, [2, 3], "self-training")}
    once, own = rows["kvasir_seg-75", "once"], rows["kvasir_seg-75", "self-training"]
    folders = [measured / "kvasir_seg-75" / f"seed-{seed}" for seed in (2, 3)]

    def mean_dice(arm: str) -> float:
        return np.mean([json.loads((folder / f"eval-{arm}" / "metrics.json").read_text())["mean"]["dice"]["mean"] for folder in folders])

    assert once["dice"] == pytest.approx(mean_dice("once"), abs=1e-5) and once["seeds"] == [2, 3]
    assert np.mean(once["by_seed"]) == pytest.approx(once["dice"]) and once["by_seed"][0] != once["by_seed"][1]
    assert once["gain"]["mean"] == pytest.approx(mean_dice("once") - max(mean_dice("supervised"), mean_dice("labeled-only")), abs=1e-5)
    assert once["over"]["mean"] == pytest.approx(mean_dice("once") - mean_dice("self-training"), abs=1e-5)
    assert own["over"] is None and 0 < own["coverage"] <= 1 and 0 < own["pseudo_dice"] <= 1
    assert rows["kvasir_seg-75", "supervised-all"]["gain"] is None
    text = table.write_table(list(rows.values()), "self-training")
    missing = {(name, arm) for (name, arm), row in rows.items() if "dice" not in row}
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "not run" in line]
    assert len(missing) == len(rows) - len(TWICE)
    assert {(cells[1].removesuffix(" %").replace(" ", "-"), arm) for cells in lines for arm in cells[3].split(", ")} == missing
    assert rows["kvasir_seg-75", "supervised"]["gain"] is None
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_seed_that_lacks_an_arm_is_left_out_of_its_row(measured, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(measured, out, ignore=shutil.ignore_patterns("*.safetensors", "*.h5", "data*", "overlays"))
    shutil.rmtree(out / "kvasir_seg-75" / "seed-3" / "eval-once")
    rows = {(row["row"], row["arm"]): row for row in table.measure_rows(out, [2, 3], "rounds")}
    assert all(rows["kvasir_seg-75", arm]["seeds"] == [2] for arm in ("supervised", "once", "rounds"))
    once, rounds = rows["kvasir_seg-75", "once"], rows["kvasir_seg-75", "rounds"]
    assert rounds["over"] is None and once["over"]["mean"] == pytest.approx(once["dice"] - rounds["dice"], abs=1e-9)


def test_arm_that_accepts_nothing_is_its_labeled_only_model_and_counts_in_the_mean(measured, pictures, monkeypatch, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(measured, out)
    folder = out / "kvasir_seg-75" / "seed-2"
    strict = Namespace(**{**vars(SETTINGS), "mine": "--min-quality 1 --no-calibrate --min-confidence 1 --min-predicted-iou 1"})
    monkeypatch.setattr(subprocess, "run", in_process)
    evidence.Cell(pictures, folder, 75, 2, strict).run(TWICE)
    rows = {(row["row"], row["arm"]): row for row in table.measure_rows(out, [2, 3], "self-training")}
    once, labels = rows["kvasir_seg-75", "once"], rows["kvasir_seg-75", "labeled-only"]
    assert once["nothing_accepted"] == [2] and once["by_seed"][0] == labels["by_seed"][0] and len(once["by_seed"]) == 2
    assert "| once (nothing accepted: seed 2) |" in table.write_table(list(rows.values()), "self-training")
