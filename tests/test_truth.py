"""The masks of unlabeled cases are hidden: no training and no mining command reads them, only `eval --store` does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import ACCEPT_ALL, MINING, NETWORK, call, hdf5_values, read_array, succeed, write_image

from samsemi.data.dataset import read_dataset, with_hashes, write_dataset

pytestmark = pytest.mark.slow

SHORT = ("--iterations", 4, "--validate-every", 2, "--batch-size", 4)


def run_everything(dataset: Path, warm: Path, out: Path) -> dict[str, object]:
    """What each training and mining command makes of a data set: bytes of weights and cards, values of stores."""
    succeed("warmstart", dataset, "--out", out / "warm", *NETWORK, *SHORT, "--folds", 2)
    succeed("mine", dataset, "--model", warm, "--out", out / "s.h5", *MINING)
    tuned = ("finetune", dataset, "--model", warm, "--store", out / "s.h5", *SHORT, *ACCEPT_ALL)
    succeed(*tuned, "--out", out / "once")
    succeed(*tuned, "--out", out / "continuous", "--schedule", "continuous", "--remine-every", 2)
    succeed(*tuned, "--out", out / "online", "--schedule", "online")
    succeed(*tuned, "--out", out / "rounds", "--rounds", 2)
    small = ("--size", 32, "--sam-size", 64, "--overlays", 0)
    succeed("distill", dataset, "--out", out / "distill", *SHORT, *small, "--store", out / "s.h5", *ACCEPT_ALL)
    succeed(*tuned, "--out", out / "taught", "--distill", out / "distill")
    made = {str(path.relative_to(out)): path.read_bytes() for path in (*out.rglob("model.*"), *out.rglob("teacher.*"))}
    stores = ("s.h5", "warm/out_of_fold.h5", "continuous/stores/000002.h5", "rounds/stores/000002.h5")
    return made | {name: hdf5_values(out / name) for name in stores}


@pytest.fixture(scope="module")
def with_truth(dataset, warm, tmp_path_factory) -> dict[str, object]:
    return run_everything(dataset, warm, tmp_path_factory.mktemp("with_truth"))


@pytest.fixture
def noisy(dataset, tmp_path) -> Path:
    """The same data set prepared with noise of valid class indices for every hidden mask."""
    folder = shutil.copytree(dataset, tmp_path / "noisy")
    rng = np.random.default_rng(0)
    for path in (folder / "truth").iterdir():
        write_image(path, rng.integers(0, 2, read_array(path).shape, dtype=np.uint8))
    before = read_dataset(folder)
    write_dataset(replace(before, cases={name: with_hashes(case) for name, case in before.cases.items()}))
    assert (folder / "manifest.csv").read_bytes() != (dataset / "manifest.csv").read_bytes()
    return folder


def measure_store(dataset: Path, store: Path, out: Path) -> dict:
    return succeed("eval", dataset, "--store", store, "--split", "unlabeled", "--out", out, "--overlays", 0, "--json").result


def test_noise_for_truth_changes_nothing_but_eval(dataset, noisy, warm, store, with_truth, tmp_path):
    assert run_everything(noisy, warm, tmp_path / "out") == with_truth
    true, wrong = measure_store(dataset, store, tmp_path / "true"), measure_store(noisy, store, tmp_path / "wrong")
    assert wrong["mean"]["dice"]["mean"] < true["mean"]["dice"]["mean"] - 0.3


def test_nothing_but_eval_misses_truth_that_is_gone(dataset, warm, store, with_truth, tmp_path):
    folder = shutil.copytree(dataset, tmp_path / "bare")
    shutil.rmtree(folder / "truth")
    assert run_everything(folder, warm, tmp_path / "out") == with_truth
    assert call("eval", folder, "--store", store, "--split", "unlabeled", "--out", tmp_path / "eval").code == 4


def test_what_was_compared_is_what_was_trained(with_truth):
    folders = ("warm", "warm/fold-1", "warm/fold-2", "once", "continuous", "online")
    assert {f"{folder}/model.{kind}" for folder in folders for kind in ("safetensors", "json")} <= set(with_truth)
    assert json.loads(with_truth["once/model.json"])["made_from"]["pseudo_labeled"] == 9
    assert len({with_truth[f"{name}/model.safetensors"] for name in ("once", "continuous", "online")}) == 3
