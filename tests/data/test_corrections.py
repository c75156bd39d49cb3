"""Masks that come back corrected."""

import json
import os

import numpy as np
import pytest
from builders import MINING, succeed, write_image

from samsemi.data.corrections import read_corrections, with_corrections
from samsemi.data.dataset import Dataset, read_case_label, read_dataset
from samsemi.errors import CheckpointError, DataError


@pytest.fixture
def review(dataset, warm, tmp_path):
    """Three cases to correct."""
    folder = tmp_path / "review"
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *MINING, "--review", folder, "--review-cases", 3)
    return folder


@pytest.fixture
def data(dataset) -> Dataset:
    return read_dataset(dataset)


def test_corrected_masks_come_back_as_labeled(review, data):
    names = [*json.loads((review / "review.json").read_text())["proposed"]]
    height, width = read_case_label(data.cases[names[1]], review / "masks" / f"{names[1]}.png", 2).shape
    path = review / "masks" / f"{names[1]}.png"
    write_image(path, np.ones((height, width), np.uint8))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    found = read_corrections(review, data, by="A. Reader")
    assert [(one.id, one.changed, one.by) for one in found] == [(name, name == names[1], "A. Reader") for name in names]
    assert found[1].at == "2023-11-14T22:13:20+00:00"
    corrected = with_corrections(data, [one for one in found if one.changed])
    case = corrected.cases[names[1]]
    assert case.split == "labeled" and case.truth is None and data.cases[names[1]].split == "unlabeled"
    assert read_case_label(case, case.mask, 2).all()
    assert {name for name in data.cases if data.cases[name] != corrected.cases[name]} == {names[1]}


def test_what_is_no_review_of_this_data_set_is_refused(review, data, tmp_path):
    with pytest.raises(DataError, match="no review.json"):
        read_corrections(tmp_path, data, "x")
    about = json.loads((review / "review.json").read_text())
    for changed, error in (
        ({"classes": ["background", "cell"]}, DataError),
        ({"dataset": "0" * 64}, DataError),
        ({"proposed": {"../../elsewhere": ""}}, DataError),
        ({"schema": "samsemi.review/9"}, CheckpointError),
        ({"proposed": 3}, CheckpointError),
    ):
        (review / "review.json").write_text(json.dumps({**about, **changed}))
        with pytest.raises(error):
            read_corrections(review, data, "x")


def test_mask_that_cannot_be_is_named(review, data):
    name = next(iter(json.loads((review / "review.json").read_text())["proposed"]))
    write_image(review / "masks" / f"{name}.png", np.full((8, 8), 9, np.uint8))
    with pytest.raises(DataError, match=name):
        read_corrections(review, data, "x")
