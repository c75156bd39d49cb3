"""A data set whose files are there, built by hand."""

import numpy as np
import pytest
from PIL import Image

from samsemi.data.dataset import Case, Dataset


@pytest.fixture
def drawn(tmp_path):
    """A data set of real files: two labeled, one unlabeled with its truth, one val, one test; 20 x 30 pixels."""
    rng = np.random.default_rng(0)
    cases = {}
    for name, split in (("a", "labeled"), ("b", "labeled"), ("u", "unlabeled"), ("v", "val"), ("t", "test")):
        image, mask = tmp_path / f"{name}.png", tmp_path / f"{name}_m.png"
        Image.fromarray(rng.integers(0, 256, size=(20, 30, 3), dtype=np.uint8)).save(image)
        label = np.zeros((20, 30), dtype=np.uint8)
        label[:5] = 1
        Image.fromarray(label).save(mask)
        cases[name] = Case(name, image, None if split == "unlabeled" else mask, mask if split == "unlabeled" else None, split, name)
    return Dataset(tmp_path, "pictures", ("background", "polyp"), None, cases)
