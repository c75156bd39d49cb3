"""The walk of one image that docs/mining.md shows is run as it stands there."""

import re

import h5py
import pytest
import torch
from builders import ROOT

from samsemi.mining.policy import Policy, numbers
from samsemi.mining.store import Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.sam.protocol import load_sam
from samsemi.segmenters.checkpoints import load_model

PAGE = ROOT / "docs/mining.md"
OPEN = Policy(**dict.fromkeys(numbers(Policy()), 0.0))
"""Accepts whatever is not empty."""


def read_walk() -> str:
    """The code block after the marker comment of the page."""
    found = re.search(r"<!-- walk -->\s*```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    if found is None:
        pytest.fail(f"{PAGE} has no ```python block after a line <!-- walk -->")
    return found.group(1)


def test_the_walk_of_one_image_runs_as_the_page_shows_it(dataset, warm, tmp_path):
    path = tmp_path / "walk.h5"
    sam = load_sam("tiny", None, torch.device("cpu"))
    writer = StoreWriter(path, Provenance({}, {}, {}), sam.mask_size, num_points=2, num_classes=2)
    walk = {"folder": dataset, "unetpp": load_model(warm), "student": load_model(warm).train(), "sam": sam, "store": writer, "policy": OPEN}
    exec(compile(read_walk(), str(PAGE), "exec"), walk)

    height, width = walk["image"].shape[:2]
    assert walk["probs"].shape == (2, height, width)
    assert walk["probs"].sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert len(walk["objects"]) == len(walk["prompts"]) == len(walk["masks"]) == len(walk["mined"]) > 0
    target, weight = torch.as_tensor(walk["target"]), torch.as_tensor(walk["weight"])
    assert torch.allclose(target.sum(dim=-3), torch.ones(()))
    assert (weight >= 0).all()
    assert (weight > 0).any()

    assert walk["loss"].shape == ()
    assert walk["loss"].item() > 0
    walk["loss"].backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in walk["student"].parameters())

    writer.commit(0)
    writer.finish([walk["case"].id])
    assert Store(path).ids == [walk["case"].id]
    with h5py.File(path) as file:
        assert len(file["objects"]) == len(walk["objects"])
        assert (file["points/coords"][:] == walk["prompts"].point_coords).all()
