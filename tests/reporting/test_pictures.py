"""Mined cases: which are shown, and what is drawn on them."""

import numpy as np
import pytest
from builders import ALL, SIZE, block, mined_of

from samsemi.mining.policy import Policy, decide
from samsemi.mining.store import Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.reporting.pictures import MINED_KINDS, choose_mined, describe_decisions, draw_masks, draw_prompts, panel_of_label

CELL, OTHER = block(2, 8, 2, 8, 0.9), block(10, 14, 2, 6, 0.9)
BOXES = [[8, 4, 31, 15], [8, 20, 23, 27]]


@pytest.fixture
def store(tmp_path) -> Store:
    """Eight images with an object each, the less sure the later, the last two not accepted; and one without."""
    writer = StoreWriter(tmp_path / "s.h5", Provenance({}, {}, {}), SIZE, num_points=0, num_classes=2)
    names = [f"i{n}" for n in range(9)]
    for n, name in enumerate(names[:8]):
        writer.add(name, (32, 64), mined_of(CELL, agreement=[0.95 - 0.05 * n if n < 6 else 0.1], boxes=BOXES[:1]))
    writer.add("i8", (32, 64), mined_of())
    writer.commit(0)
    writer.finish(names)
    return Store(tmp_path / "s.h5")


def test_sure_middle_least_sure_and_rejected_are_shown(store):
    chosen = choose_mined(store, Policy(), 4)
    assert chosen == {"i0": MINED_KINDS[0], "i3": MINED_KINDS[1], "i5": MINED_KINDS[2], "i7": MINED_KINDS[3]}
    assert len(choose_mined(store, Policy(), 60)) == 8 and "i8" not in choose_mined(store, Policy(), 60)
    assert choose_mined(store, Policy(), 0) == {}


def test_rejected_masks_are_dashed_and_said():
    mined = mined_of(CELL, OTHER, agreement=[1, 0.1], boxes=BOXES)
    decision = decide(mined, Policy())
    assert [line.style for line in draw_masks(mined, decision, (32, 64))] == ["mask", "mask rejected"]
    assert describe_decisions(decision) == "1 of 2 accepted; dashed: rejected for agreement"


def test_prompts_are_in_pixels_of_what_is_shown():
    mined = mined_of(CELL, prompt_boxes=[[8, 4, 31, 15]])
    points = (np.array([[[10.0, 6.0], [0.0, 0.0]]]), np.array([[1, 0]]))
    box, plus, cross = draw_prompts(mined, points, decide(mined, ALL), (16, 32))
    assert box.path == "M4.0 2.0H16.0V8.0H4.0Z" and plus.path.startswith("M4.7 3.2H") and "L" in cross.path


def test_label_that_weighs_nothing_is_said():
    panel = panel_of_label(mined_of(CELL, agreement=[0.1], boxes=BOXES[:1]), Policy(), 2, (32, 64))
    assert panel.note == "nothing is learned here" and not panel.lines
    assert panel_of_label(mined_of(CELL, boxes=BOXES[:1]), ALL, 2, (32, 64)).lines
