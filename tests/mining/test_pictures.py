from dataclasses import replace

import numpy as np
import pytest
from builders import ALL, block, mined_of

from samsemi.data import overlays
from samsemi.data.dataset import read_dataset
from samsemi.mining import pictures
from samsemi.mining.pictures import ACCEPTED, REJECTED, draw_prompts, picture_comparison
from samsemi.mining.policy import Policy
from samsemi.mining.store import Store


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """The texts of the captions, and the names of their colors."""
    texts = []
    original = overlays.write_caption
    monkeypatch.setattr(
        overlays, "write_caption", lambda text, keys, *rest: (texts.append([text, *(k[0] for k in keys)]), original(text, keys, *rest))[1]
    )
    return texts


def test_comparison_names_the_case_its_classes_and_dice(written):
    truth, prediction = np.zeros((2, 300, 300), dtype=np.uint8)
    truth[:100, :100], prediction[:100, :50] = 1, 1
    picture = picture_comparison(
        "p1", np.zeros((300, 300, 3), dtype=np.uint8), {"truth": truth, "after": prediction}, ["background", "polyp"]
    )
    assert written == [["image"], ["truth", "polyp"], ["after, Dice 0.667", "polyp"], ["p1"]]
    assert picture.shape[1] == 3 * 300 + 2 * overlays.GAP


def test_comparison_without_a_truth_has_no_dice(written):
    label = np.ones((300, 300), dtype=np.uint8)
    picture_comparison("p1", np.zeros((300, 300, 3), dtype=np.uint8), {"before": label}, ["background", "polyp"])
    assert written[1] == ["before", "polyp"]


def test_prompts_are_drawn_where_they_were_given_in_the_color_of_the_decision():
    """Boxes and points in pixels of the image, which is enlarged eight times."""
    mined = mined_of(block(0, 4, 0, 4), block(4, 8, 4, 8), boxes=[[4, 4, 20, 20], [30, 6, 60, 28]])
    points = np.array([[[10, 12], [5, 5]], [[40, 20], [58, 8]]], dtype=np.float32), np.array([[1, 0], [1, 0]])
    picture = draw_prompts(np.full((32, 64, 3), (170, 60, 45), dtype=np.uint8), mined, points, np.array([0, 1]))
    assert picture.shape == (256, 512, 3)
    assert tuple(picture[8 * 4, 8 * 12]) == ACCEPTED and tuple(picture[8 * 28, 8 * 45]) == REJECTED
    assert tuple(picture[8 * 12, 8 * 10]) == ACCEPTED and tuple(picture[8 * 20, 8 * 40]) == REJECTED
    assert tuple(picture[8 * 4 - 1, 8 * 12]) == overlays.DARK


def test_mined_row_says_what_was_accepted(dataset, warm, store, written, tmp_path):
    opened, data = Store(store), read_dataset(dataset)
    name = next(name for name in opened.ids if opened.images[opened.row[name]]["num_objects"] > 0)
    pictures.picture_mined(name, opened, data, Policy.from_json(opened.provenance.policy))
    count = len(opened.read(name))
    assert written[:2] == [["image"], ["U-Net++", "foreground"]] and written[-1] == [name]
    assert written[2] == ["prompts (+ in, x out)", "accepted"] and written[3][0] == f"SAM, {count} of {count} accepted"
    written.clear()
    pictures.picture_mined(name, opened, data, replace(ALL, min_confidence=1.1))
    assert written[2] == ["prompts (+ in, x out)", "rejected"] and written[3] == [f"SAM, 0 of {count} accepted"]
