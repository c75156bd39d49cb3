"""Labels made in every step of a fine-tuning: they are those of `mine` by the weights of the moment, and are counted."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from builders import ACCEPT_ALL, CHECKPOINT, CPU, MINING, RUN_FILES, USAGE, files_in, refused, succeed

from samsemi.data.dataset import read_case_images, read_dataset
from samsemi.mining import miner as mining
from samsemi.mining import online
from samsemi.mining.miner import Miner, store_policy
from samsemi.mining.online import CaseImage, OnlineLabels, load_case_image, open_labels
from samsemi.mining.pipeline import prepare_again
from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import pseudo_sample
from samsemi.mining.store import Store
from samsemi.options.mine import MineOptions
from samsemi.options.shared import PolicyOptions
from samsemi.sam.prompts import find_objects
from samsemi.sam.protocol import load_sam
from samsemi.segmenters.checkpoints import load_model, save_model
from samsemi.segmenters.segmenter import ModelSpec, Segmenter

SHORT = ("--iterations", 4, "--validate-every", 2, "--batch-size", 4)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def change(segmenter: Segmenter) -> None:
    """Other weights, in place, as a training changes them; the network still finds something."""
    with torch.no_grad():
        for weight in segmenter.parameters():
            weight.mul_(1.01)


# the labels


@pytest.mark.parametrize("sam", ["tiny", "none", "ellipse"])
def test_labels_are_those_that_mine_would_store_with_the_same_weights(dataset, warm, tmp_path, sam):
    """Value by value, as of a store that is mined through a cache: of the same batches of images, for what a batch is rounds the map."""
    mining = ("mine", dataset, "--sam", sam, "--batch-size", 3, "--zoom", 2, "--jitters", 1)
    succeed(*mining, "--model", warm, "--out", tmp_path / "first.h5", *ACCEPT_ALL)
    data, first = read_dataset(dataset), Store(tmp_path / "first.h5")
    segmenter = load_model(warm).eval()
    change(segmenter)
    shutil.copytree(warm, tmp_path / "changed")
    save_model(tmp_path / "changed", segmenter, {"scores": {}, "made_from": {"dataset": data.fingerprint()}})
    succeed(*mining, "--model", tmp_path / "changed", "--out", tmp_path / "again.h5", "--embeddings", tmp_path / "e.h5", "--no-calibrate")
    again, policy = prepare_again(first, data, tmp_path / "run", None, None, None, CPU), store_policy(first, PolicyOptions())
    cases, labeled = data.split("unlabeled"), 0
    counts: Counter[str] = Counter()
    with open_labels(again, segmenter, policy, counts) as labels:
        for i in range(0, len(cases), 3):
            made = labels([load_case_image(case) for case in cases[i : i + 3]])
            for case, sample in zip(cases[i : i + 3], made, strict=True):
                wanted = pseudo_sample(case, Store(tmp_path / "again.h5"), policy, 2, segmenter.spec.size)
                assert all(torch.equal(part, own) for part, own in zip(sample, wanted, strict=True))
                labeled += int(sample.weight.any())
    assert labeled > 5 and counts["mined_images"] == 9 and counts["accepted_images"] == labeled
    assert counts["objects_foreground"] == len(Store(tmp_path / "again.h5").objects)


class FixedMiner:
    """Mines what it is given by name."""

    def __init__(self, found):
        self.found, self.calls = found, []

    def mine(self, images):
        self.calls.append(list(images))
        return {name: (self.found[name], None) for name in images}


@pytest.fixture
def mined():
    """Two objects of class 1 and one of class 2, and an image without any, by a miner without weights."""
    probs = np.full((3, 32, 32), 0.02, np.float32)
    probs[0] = 0.96
    for k, y, x in ((1, 2, 2), (1, 2, 20), (2, 20, 4)):
        probs[:, y : y + 9, x : x + 9] = 0.05
        probs[k, y : y + 9, x : x + 9] = 0.9
    nothing = np.stack([np.full((32, 32), value, np.float32) for value in (0.98, 0.01, 0.01)])
    segmenter = Segmenter(ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), ("background", "cell", "core"), 32)).eval()
    miner = Miner(segmenter, load_sam("none", None, CPU), MineOptions(dataset="d", model="m", out="s.h5", sam="none", min_area=4))
    images = {name: np.zeros((32, 32, 3), np.uint8) for name in ("full", "empty")}
    return {name: found for name, (found, _) in miner.prompt(images, [probs, nothing]).items()}


def label(mined, policy: Policy, *names: str):
    """The samples of pictures by name, what was mined, and the counts."""
    miner = FixedMiner(mined)
    labels = OnlineLabels(miner, policy, ("background", "cell", "core"), 32, Counter())
    samples = labels([CaseImage(name, np.zeros((32, 32, 3), np.uint8)) for name in names])
    return samples, miner.calls, labels


def test_accepted_objects_are_counted_by_class(mined):
    assert sorted(mined["full"].class_id) == [1, 1, 2]
    loose = Policy(min_confidence=0, min_predicted_iou=0, min_agreement=0)
    *_, labels = label(mined, loose, "full", "empty")
    classes = {"objects_cell": 2, "accepted_cell": 2, "objects_core": 1, "accepted_core": 1}
    assert labels.counts == {"mined_images": 2, "accepted_images": 1} | classes
    cores = mined["full"].class_id == 2
    sure = replace(mined["full"], confidence=np.where(cores, 0.5, 0.95).astype(np.float32))
    *_, labels = label({"full": sure}, replace(loose, min_confidence=0.9), "full")
    counts = labels.counts
    assert (counts["accepted_cell"], counts["objects_core"], counts["accepted_core"]) == (2, 1, 0)


def test_image_that_is_twice_in_a_batch_is_mined_once(mined):
    samples, calls, labels = label(mined, Policy(min_confidence=0), "full", "empty", "full")
    assert calls == [["full", "empty"]] and len(samples) == 3
    assert torch.equal(samples[0].target, samples[2].target) and labels.counts["mined_images"] == 3


def test_without_an_accepted_object_nothing_weighs_or_the_sure_pixels_do(mined, shown, caplog, monkeypatch):
    monkeypatch.setattr(online, "WARN_AFTER", 2)
    rejecting = Policy(min_confidence=0.99)
    samples, _, labels = label(mined, rejecting, "full", "empty")
    assert not any(sample.weight.any() for sample in samples)
    assert labels.counts["accepted_images"] == 0
    assert "no pseudo-label is accepted in the last 2 unlabeled images" in caplog.text
    (full, empty), _, _ = label(mined, replace(rejecting, sure_pixels=0.5), "full", "empty")
    assert (empty.weight > 0).all() and empty.weight.max() <= 0.5 and (empty.target[0] > 0.9).all()
    assert (full.weight > 0).any() and not full.weight[4:8, 4:8].any(), "rejected objects are ignored"


# by the command line


@pytest.mark.parametrize("sam", ["tiny", "none", "ellipse"])
def test_finetune_online_learns_by_the_stores_sam_and_counts_what_it_accepts(dataset, warm, tmp_path, sam):
    store, run = tmp_path / "s.h5", tmp_path / "run"
    succeed("mine", dataset, "--model", warm, "--out", store, "--sam", sam, *MINING)
    tune = ("finetune", dataset, "--model", warm, "--store", store, "--schedule", "online", *ACCEPT_ALL, *SHORT)
    result = succeed(*tune, "--out", run, "--json").result
    assert files_in(run) == RUN_FILES | {"embeddings.h5"}
    assert result["unlabeled"] == 9 and "pseudo_labeled" not in result, "what the first store accepts is not what is learned"
    assert result["pseudo_share"] == 0.5 and not [name for name in result if "accepted" in name or "mined" in name]
    rows = read_csv(run / "history.csv")
    assert [(int(row["iteration"]), int(row["mined_images"])) for row in rows] == [(2, 4), (4, 4)]
    for row in rows:
        assert 0 < int(row["accepted_images"]) <= int(row["accepted_foreground"]) <= int(row["objects_foreground"])
        assert float(row["pseudo"]) > 0


@pytest.fixture
def drawn(monkeypatch) -> set[str]:
    """Ids of the unlabeled images that a fine-tuning loads."""
    found: set[str] = set()
    monkeypatch.setattr("samsemi.stages.finetune.load_case_image", lambda case: (found.add(case.id), load_case_image(case))[1])
    return found


def test_finetune_online_sees_every_unlabeled_image_and_says_that_nothing_is_accepted(dataset, warm, store, tmp_path, drawn, monkeypatch):
    """One image of nine is accepted in the store, but all are drawn; a network that no longer finds anything teaches nothing."""
    monkeypatch.setattr(online, "WARN_AFTER", 6)
    monkeypatch.setattr(mining, "find_objects", lambda probs, min_area: find_objects(probs, 10**9))
    highest = np.sort(h5py.File(store)["objects"]["confidence"])[-1].item()
    tune = ("finetune", dataset, "--model", warm, "--store", store, "--schedule", "online", *ACCEPT_ALL, "--min-confidence", highest)
    outcome = succeed(*tune, "--out", tmp_path / "run", "--iterations", 6, "--batch-size", 4, "--validate-every", 3)
    assert drawn == {case.id for case in read_dataset(dataset).split("unlabeled")}
    assert all(f"no pseudo-label is accepted in the last {n} unlabeled images" in outcome.err for n in (6, 12))
    rows = read_csv(tmp_path / "run/history.csv")
    assert all(float(row["pseudo"]) == 0 and int(row["accepted_images"]) == 0 for row in rows)


def test_image_that_the_store_could_not_read_is_not_drawn(dataset, warm, tmp_path, drawn):
    path, left_out = tmp_path / "s.h5", read_dataset(dataset).split("unlabeled")[3].id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mining, "read_case_images", lambda cases: {name: x for name, x in read_case_images(cases).items() if name != left_out}
        )
        succeed("mine", dataset, "--model", warm, "--out", path, *MINING)
    tune = ("finetune", dataset, "--model", warm, "--store", path, "--schedule", "online", *ACCEPT_ALL)
    succeed(*tune, "--out", tmp_path / "run", "--iterations", 6, "--batch-size", 4)
    assert left_out not in drawn and len(drawn) == 8


def test_finetune_online_refuses_stores_of_several_models_and_sams_that_it_cannot_load(dataset, warm, folded, store, tmp_path):
    tune = ("finetune", dataset, "--model", warm, "--schedule", "online", *SHORT, "--out", tmp_path / "run", "--store")
    succeed("mine", dataset, "--model", warm, "--model", folded, "--out", tmp_path / "two.h5", *MINING, "--no-calibrate")
    refused(USAGE, *tune, tmp_path / "two.h5", said=(tmp_path / "two.h5", "several models"))
    own = ("--sam", "builders:load_own_sam")
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "own.h5", *MINING, *own)
    refused(USAGE, *tune, tmp_path / "own.h5", said=(tmp_path / "own.h5", "code of your own"))
    succeed(*tune, tmp_path / "own.h5", *own, *ACCEPT_ALL)
    with h5py.File(shutil.copy(store, tmp_path / "other.h5"), "a") as file:
        file.attrs["made_from"] = json.dumps(json.loads(file.attrs["made_from"]) | {"sam_weights": "0"})
    refused(CHECKPOINT, *tune, tmp_path / "other.h5", "--overwrite", said=(tmp_path / "other.h5", "other weights"))


def test_finetune_takes_online_labels_and_a_teacher(dataset, warm, store, tmp_path):
    small = ("--size", 32, "--sam-size", 64, "--overlays", 0)
    succeed("distill", dataset, "--out", tmp_path / "ks", *SHORT, *small)
    tune = ("finetune", dataset, "--model", warm, "--store", store, "--schedule", "online", *ACCEPT_ALL, *SHORT)
    succeed(*tune, "--out", tmp_path / "run", "--distill", tmp_path / "ks")
    assert all(float(row["pseudo"]) > 0 and float(row["distillation"]) > 0 for row in read_csv(tmp_path / "run/history.csv"))
