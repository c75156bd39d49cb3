"""Several models as one: the mean of their maps, how much they agree, and what a store of theirs is calibrated with."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from builders import HEIGHT, MINING, WIDTH, probs_of, rectangle, refused, succeed

from samsemi.mining.ensemble import agreement_of, predict_ensemble
from samsemi.sam.prompts import find_objects
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, predict_batch, to_label

LEFT, RIGHT = rectangle(5, 5, 24, 24), rectangle(35, 5, 54, 24)
"""Two objects of 20 x 20 pixels."""


def label_of(*parts: tuple[np.ndarray, int]) -> np.ndarray:
    label = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for mask, k in parts:
        label[mask] = k
    return label


def agreement(*labels: np.ndarray, num_classes: int = 3) -> list[float]:
    """Of the objects LEFT (class 1) and RIGHT (class 2) with the class maps of models."""
    probs = probs_of((LEFT, 1, 0.9), (RIGHT, 2, 0.8), num_classes=num_classes)
    found = agreement_of(np.stack(labels), find_objects(probs), num_classes)
    assert found.dtype == np.float32
    return found.tolist()


def segmenter_of(seed: int, size: int = 32) -> Segmenter:
    torch.manual_seed(seed)
    return Segmenter(ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), ("background", "a", "b"), size)).eval()


def test_models_that_see_the_same_agree_fully():
    same = label_of((LEFT, 1), (RIGHT, 2))
    assert agreement(same, same, same) == [1, 1]


def test_agreement_is_the_mean_over_models_of_the_iou_with_what_shares_most_pixels():
    half = rectangle(5, 5, 14, 24)
    crumbs = rectangle(20, 5, 24, 9)
    first = label_of((half, 1), (crumbs, 1), (RIGHT, 2))
    other_class = label_of((LEFT, 2), (RIGHT, 2))
    assert agreement(first, other_class) == pytest.approx([0.25, 1])
    assert agreement(first, first) == pytest.approx([0.5, 1])


def test_objects_that_a_model_joins_or_does_not_see_are_disagreed_upon():
    joined = label_of((rectangle(5, 5, 54, 24), 1))
    nothing = label_of()
    assert agreement(joined, nothing) == pytest.approx([400 / 1000 / 2, 0])


def test_one_model_agrees_with_itself():
    objects = find_objects(probs_of((LEFT, 1, 0.9)))
    assert agreement_of(np.zeros((1, HEIGHT, WIDTH), np.uint8), objects, 2).tolist() == [1]
    assert agreement_of(None, objects, 2).tolist() == [1]
    assert agreement_of(np.zeros((2, HEIGHT, WIDTH), np.uint8), find_objects(probs_of()), 2).tolist() == []


def test_map_is_the_mean_of_the_models_whatever_their_sizes():
    images = [np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(2)]
    segmenters = [segmenter_of(0), segmenter_of(1, size=64)]
    found = predict_ensemble(segmenters, images, flips=True)
    alone = [predict_batch(segmenter, images, flips=True) for segmenter in segmenters]
    for i in range(2):
        assert found.maps[i] == pytest.approx((alone[0][i] + alone[1][i]) / 2, abs=1e-6)
        assert (found.members[i] == np.stack([to_label(maps[i]) for maps in alone])).all()
    assert predict_ensemble(segmenters, []) == ([], [])


def about_of(store) -> tuple[dict, dict, dict]:
    with h5py.File(store) as file:
        return tuple(json.loads(file.attrs[name]) for name in ("config", "made_from", "calibration"))


def scores_of(store) -> np.ndarray:
    with h5py.File(store) as file:
        return file["objects"]["ensemble"]


@pytest.fixture(scope="module")
def second(dataset, folded, tmp_path_factory):
    """The first fold's model as a run of its own."""
    return shutil.copytree(folded / "fold-1", tmp_path_factory.mktemp("second") / "run")


MINE = (*MINING, "--sam", "none", "--min-area", 16)


def test_two_models_mine_by_their_mean(dataset, folded, second, tmp_path):
    out = tmp_path / "two.h5"
    succeed("mine", dataset, "--model", folded, "--model", second, "--out", out, *MINE)
    _, made_from, calibration = about_of(out)
    assert len(made_from["model"]) == len(set(made_from["model"])) == 2 and made_from["out_of_fold"] is None
    assert set(calibration["cases"]) == {"val"}, "each labeled case has been learnt by one of the models"
    agreed = scores_of(out)
    assert ((agreed > 0) & (agreed <= 1)).all() and (agreed < 1).any()
    kept = succeed("mine", dataset, "--model", folded, "--model", second, "--out", out, *MINE, "--resume", "--json").result
    assert kept["objects"] == len(agreed)
    refused(3, "mine", dataset, "--model", folded, "--out", out, *MINE, "--resume", said=("model was",))


def test_one_model_agrees_with_itself_in_the_store_and_its_provenance_is_as_before(dataset, folded, tmp_path):
    succeed("mine", dataset, "--model", folded, "--out", tmp_path / "one.h5", *MINE)
    config, made_from, calibration = about_of(tmp_path / "one.h5")
    assert isinstance(made_from["model"], str) and "fold_models" not in config
    assert set(calibration["cases"]) == {"val", "out_of_fold"} and (scores_of(tmp_path / "one.h5") == 1).all()


def test_models_of_the_folds_are_further_members(dataset, folded, warm, tmp_path):
    out, folds = tmp_path / "s.h5", len(list(folded.glob("fold-*")))
    succeed("mine", dataset, "--model", folded, "--fold-models", "--out", out, *MINE)
    config, made_from, calibration = about_of(out)
    assert config["fold_models"] and len(made_from["model"]) == 1 + folds and set(calibration["cases"]) == {"val"}
    refused(5, "mine", dataset, "--model", warm, "--fold-models", "--out", tmp_path / "t.h5", said=("--fold-models", warm))


def test_student_alone_mines_again_like_a_store_of_several_models(dataset, folded, tmp_path):
    store, run = tmp_path / "s.h5", tmp_path / "run"
    succeed("mine", dataset, "--model", folded, "--fold-models", "--out", store, *MINE)
    tune = ("finetune", dataset, "--model", folded, "--store", store, "--out", run, "--iterations", 2, "--batch-size", 4)
    succeed(*tune, "--schedule", "continuous", "--remine-every", 1)
    [again] = (run / "stores").glob("*.h5")
    config, made_from, _ = about_of(again)
    assert "fold_models" not in config and isinstance(made_from["model"], str) and (scores_of(again) == 1).all()
