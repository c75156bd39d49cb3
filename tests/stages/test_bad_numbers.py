"""Numbers that are none, and masks that show nothing: skipped with a count, or the command stops and says why. Never a model of them."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import ACCEPT_ALL, MINING, NETWORK, call, files_in, read_array, refused, succeed, write_image

from samsemi.training import loop

NOTHING = 7
FEW = ("--iterations", 2, "--batch-size", 2, "--validate-every", 1)


def training_commands(dataset: Path, warm: Path, store: Path, out: Path) -> dict[str, tuple]:
    small = ("--iterations", 2, "--validate-every", 1, "--batch-size", 4, "--size", 32, "--sam-size", 64, "--overlays", 0)
    return {
        "warmstart": ("warmstart", dataset, "--out", out / "run", *NETWORK, *FEW),
        "finetune": ("finetune", dataset, "--model", warm, "--store", store, "--out", out / "run", *FEW, *ACCEPT_ALL),
        "adapt": ("adapt", dataset, "--sam", "tiny", "--out", out / "sam.safetensors", *FEW, "--overlays", 0),
        "distill": ("distill", dataset, "--out", out / "run", *small),
    }


TRAININGS = ("warmstart", "finetune", "adapt", "distill")


@pytest.mark.parametrize(("command", "value"), [*((command, math.nan) for command in TRAININGS), ("warmstart", math.inf)])
def test_loss_that_is_not_finite_stops_a_training_before_anything_of_it_is_kept(
    dataset, warm, store, tmp_path, monkeypatch, command, value
):
    total, steps = loop.total, []

    def broken(terms):
        steps.append(None)
        return total(terms) * (value if len(steps) == 2 else 1.0)

    monkeypatch.setattr(loop, "total", broken)
    outcome = call(*training_commands(dataset, warm, store, tmp_path)[command], "--quiet")
    error, hint = outcome.err.splitlines()[-2:]
    assert outcome.code == NOTHING and f"not finite by iteration 2: loss {value}" in error and "--lr" in hint
    weights = [path for path in tmp_path.rglob("*.safetensors") if path.name != "teacher.safetensors"]
    assert weights and all(value.isfinite().all() for path in weights for value in loop.load_tensors(path).values())


def blank(pictures: Path, folder: Path, split: str) -> Path:
    """A data set whose masks of one split show no class."""
    shutil.copytree(pictures, folder / "pictures")
    names = sorted(path.stem for path in (folder / "pictures" / "masks").iterdir())
    splits = {name: ("labeled", "val", "test", "unlabeled")[i // 3 % 4] for i, name in enumerate(names)}
    for name in names:
        path = folder / "pictures" / "masks" / f"{name}.png"
        write_image(path, np.where(splits[name] == split, 0, read_array(path) // 255).astype(np.uint8))
    rows = "".join(f"{name},{chosen}\n" for name, chosen in splits.items())
    (folder / "split.csv").write_text(f"id,split\n{rows}")
    prepare = ("prepare", folder / "pictures" / "images", "--masks", folder / "pictures" / "masks", "--split", folder / "split.csv")
    succeed(*prepare, "--out", folder / "data")
    return folder / "data"


@pytest.mark.parametrize("command", TRAININGS)
@pytest.mark.parametrize("split", ["labeled", "val"])
def test_masks_without_a_class_stop_a_training_before_anything_is_written(pictures, warm, store, tmp_path, command, split):
    dataset = blank(pictures, tmp_path / "in", split)
    arguments = training_commands(dataset, warm, store, tmp_path / "out")[command]
    arguments = tuple(word for word in arguments if word not in ("--store", store))  # it is of another data set
    refused(NOTHING, *arguments, said=(f"none of 6 {split} masks shows a class",))
    assert not (tmp_path / "out").exists() or not files_in(tmp_path / "out")


def test_val_without_a_class_leaves_mining_to_the_default_thresholds(pictures, warm, tmp_path):
    dataset = blank(pictures, tmp_path / "in", "val")
    outcome = call("mine", dataset, "--model", warm, "--out", tmp_path / "tiny.h5", "--calibrate", *MINING)
    assert outcome.code == 0 and "objects to calibrate with: the default thresholds are used" in outcome.err


@pytest.fixture
def sees_nothing(monkeypatch):
    """A model that finds background alone."""
    from samsemi.stages import evaluate

    monkeypatch.setattr(evaluate, "to_label", lambda probs: np.zeros(probs.shape[1:], np.uint8))


def test_class_that_is_never_predicted_is_named(dataset, warm, tmp_path, sees_nothing):
    outcome = succeed("eval", dataset, "--model", warm, "--out", tmp_path / "eval", "--json")
    assert "warning: class foreground is predicted in none of 3 cases" in outcome.err
    assert outcome.result["mean"]["dice"]["mean"] == 0


def test_split_in_which_nothing_can_be_measured(pictures, warm, tmp_path, sees_nothing):
    dataset = blank(pictures, tmp_path / "in", "test")
    said = "in none of 6 cases a class is shown or predicted"
    refused(NOTHING, "eval", dataset, "--model", warm, "--out", tmp_path / "eval", said=(said,), problems=True)
    assert not (tmp_path / "eval").exists()
