"""The table of pseudo-labels (examples/evidence/labels.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "evidence"


@pytest.fixture
def labels(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import labels

    yield labels
    sys.modules.pop("labels", None)


def test_scores_of_a_label_by_hand(labels):
    """Truth: the left half. The label has half of it, the other half is called background, surely in one of its pixels."""
    truth, label = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]])
    weight = np.array([[1.0, 0.6, 0.2, 1.0]])
    scores = labels.score_image(label, weight, truth, 2)
    assert scores.dice == pytest.approx(2 / 3)
    assert scores.weighted == pytest.approx(2 / 2.6)
    assert scores.heavy == 0.75 and scores.denied == 0.5
    assert scores.heavy_pixels.tolist() == [[1, 3]]


def test_what_is_ignored_in_the_truth_counts_for_nothing(labels):
    truth, label = np.array([[1, 255]]), np.array([[1, 1]])
    assert labels.score_image(label, np.ones((1, 2)), truth, 2).dice == 1


def test_gain_of_equal_labels_is_nothing(labels):
    assert labels.describe_gain([0.0] * 9) == "+0.0 [+0.0, +0.0]"
    assert labels.describe_gain([0.02] * 9 + [float("nan")]) == "+2.0 [+2.0, +2.0]"
