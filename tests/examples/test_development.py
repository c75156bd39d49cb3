"""The development images and the table of students (examples/evidence/development.py)."""

import json
import sys

import numpy as np
import pytest
from builders import ROOT
from PIL import Image

from samsemi.data.dataset import read_dataset


@pytest.fixture
def development(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "evidence")
    import development

    yield development
    for name in ("development", "labels", "run"):
        sys.modules.pop(name, None)


@pytest.fixture
def place(development, monkeypatch, tmp_path):
    """A set of 60 images, of which 10 are set aside."""
    monkeypatch.setitem(development.DEVELOPMENT, "wbc", 10)
    for kind in ("images", "masks"):
        (tmp_path / "wbc" / kind).mkdir(parents=True)
    for i in range(60):
        image = np.full((8, 8, 3), i, dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "wbc" / "images" / f"{i:02d}.png")
        Image.fromarray(np.uint8(image[..., 0] % 2 * np.eye(8, dtype=np.uint8) + np.eye(8, k=1, dtype=np.uint8))).save(
            tmp_path / "wbc" / "masks" / f"{i:02d}.png"
        )
    place = development.Place(tmp_path / "wbc", tmp_path / "out", None, 20)
    place.prepare("data", "others")
    return place


def test_development_images_are_neither_learnt_nor_test_cases_of_the_evidence(place):
    data, others = read_dataset(place.out / "data"), read_dataset(place.out / "others")
    aside = {case.id for case in data.split("unlabeled")}
    assert aside == {case.id for case in others.split("test")} and len(aside) == 10
    assert len(others.split("unlabeled")) == 20 and not aside & {case.id for case in others.split("unlabeled")}
    tests = {line.split(",")[0] for line in (place.out / "split.csv").read_text().splitlines() if line.endswith(",test")}
    assert len(tests) == 12 and not tests & (data.cases.keys() | others.cases.keys())


def test_interval_knows_what_another_seed_would_change(development):
    """Two seeds that differ by 2 points, in every case: the cases alone would say that the difference is sure."""
    assert development.describe_gain(np.repeat([[0.01], [-0.01]], 9, axis=1)) == "+0.0 [-1.0, +1.0]"
    assert development.describe_gain(np.full((3, 9), 0.02)) == "+2.0 [+2.0, +2.0]"


def test_table_pairs_students_by_seed_and_case(development, tmp_path, capsys):
    (tmp_path / "scores").mkdir()
    for name, dice in {"alone-1": (0.5, 0.7), "alone-2": (0.1, 0.3), "all-1": (0.6, 0.8)}.items():
        (tmp_path / "scores" / f"{name}.json").write_text(json.dumps({f"case{i}": value for i, value in enumerate(dice)}))
    development.main(["compare", str(tmp_path)])
    rows = capsys.readouterr().out.splitlines()
    assert rows[2] == "| all | 1 | 0.700 | 0.700 | +10.0 [+10.0, +10.0] | +10.0 |"
    assert rows[3] == "| alone | 2 | 0.400 | 0.600, 0.200 |  |  |"
