"""What mining costs per image as the images grow (examples/linear_cost.py): repeated images are mined, and measured."""

import sys

import pytest
from builders import ROOT

from samsemi.data.dataset import read_dataset
from samsemi.mining.store import Store


@pytest.mark.slow
def test_images_are_repeated_mined_and_measured(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import linear_cost

    linear_cost.make_data(tmp_path, [4, 40])
    unlabeled = read_dataset(tmp_path / "data-40").split("unlabeled")
    assert len(unlabeled) == 40 and len({case.image for case in unlabeled}) == 30
    found = linear_cost.measure(tmp_path, 40, "none", "fp32")
    assert len(Store(tmp_path / "40.h5").ids) == 40 and found["objects"] > 40
    assert all(value > 0 for value in found.values())
    sys.modules.pop("linear_cost")
