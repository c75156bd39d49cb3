"""The table of pseudo-labels (examples/evidence/labels.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest

from samsemi.data.dataset import read_dataset

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


def test_pixels_of_much_weight_are_described_on_their_own(labels):
    """Of eight pixels one is ignored; of four of true foreground two are called background, one of them at a high weight."""
    truth, label = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 255]]]), np.array([[[1, 0, 0, 0]], [[1, 0, 1, 1]]])
    weight = np.array([[[1.0, 0.6, 0.5, 0.0]], [[0.9, 0.2, 0.8, 1.0]]])
    assert labels.describe_pixels(label, weight, truth, 2) == ["85.7%", "50.0%", "57.1%", "0.667", "25.0%"]


def test_cut_offs_show_what_is_learned_in_images_that_the_first_leaves_out(labels, capsys):
    truths = {name: np.array([[1, 0]]) for name in ("a", "b")}
    first, second = ({f"1/{name}/{part}": np.array([[1, 0]]) for name in ids for part in ("label", "weight")} for ids in ("a", "ab"))
    second["1/b/label"] = np.array([[0, 0]])
    second["1/b/weight"] = np.array([[0.3, 0.4]])
    labels.print_cut_offs({"first": first, "second": second}, truths, 2)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines() if line][2:]
    assert [row[:3] for row in rows] == [["first", "100%", "1"], ["second", "100%", "2"], ["second, where first has none", "100%", "1"]]
    assert rows[0][3:] == ["50.0%", "0.0%", "50.0%", "1.000", "0.0%"] and rows[2][3:] == ["100.0%", "100.0%", "0.0%", "nan", "0.0%"]


def test_labels_are_compared_over_as_many_of_their_most_certain_pixels_whatever_their_trust(labels):
    """The first ignores half of the image, so that two pixels of each count: those that each is surest of."""
    weights = [np.array([[0.0, 0.8, 0.9, 0.0]]), np.array([[0.4, 0.1, 0.2, 0.3]])]
    known = np.ones((1, 4), dtype=bool)
    chosen = labels.choose_certain(weights, known, 1.0)
    assert [mask.tolist() for mask in chosen] == [[[False, True, True, False]], [[True, False, False, True]]]
    trusted = labels.choose_certain([weights[0], weights[1] * 0.01], known, 1.0)
    assert (np.array(trusted) == chosen).all() and labels.choose_certain(weights, known, 0.5)[0].tolist() == [[False, False, True, False]]
    known[0, 2] = False
    assert labels.choose_certain(weights, known, 1.0)[1].tolist() == [[True, False, False, False]]
    even = labels.choose_certain([np.ones((9, 9)), np.full((9, 9), 0.5)], np.ones((9, 9), dtype=bool), 0.5)
    assert (even[0] == even[1]).all() and even[0].sum() == 40 and 5 < even[0][:4].sum() < 36


@pytest.mark.parametrize("says_empty", [True, False])
def test_comparison_is_of_the_images_that_all_have(labels, dataset, tmp_path, capsys, says_empty):
    """Of the first image the second has no label, since SAM's mask of it is empty; of the others its labels are the truth."""
    data = read_dataset(dataset)
    truths = {case.id: labels.read_truth(case, len(data.classes)) for case in data.split("unlabeled")}
    files = {}
    for number, variant in enumerate(("one", "other")):
        arrays = {}
        for name, truth in list(truths.items())[number:]:
            for share in labels.BEST:
                arrays[f"{share:g}/{name}/label"] = truth if number else np.roll(truth, 5, axis=0)
                arrays[f"{share:g}/{name}/weight"] = np.ones(truth.shape, np.float16) * 0.5
        if says_empty:
            arrays |= {f"1/{name}/empty": np.array(number > 0 and i == 0) for i, name in enumerate(truths)}
        files[variant] = tmp_path / f"{variant}.npz"
        np.savez_compressed(files[variant], **arrays)
    labels.compare(dataset, files)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines() if line]
    one, other = rows[2:4]
    assert one[:3] == ["one", str(len(truths)), "0" if says_empty else "-"] and one[-2:] == ["", ""]
    assert other[:4] == ["other", str(len(truths) - 1), "1" if says_empty else "-", "1.000"] and other[6].startswith("+")
    assert f"of the {len(truths) - 1} images of all" in rows[4][1]
    assert rows[7][:3] == ["other", "100%", "1.000"] and rows[7][3].startswith("+") and rows[7][4] == "0.0%" and rows[7][5].startswith("-")


def test_what_is_ignored_in_the_truth_counts_for_nothing(labels):
    truth, label = np.array([[1, 255]]), np.array([[1, 1]])
    assert labels.score_image(label, np.ones((1, 2)), truth, 2).dice == 1


def test_gain_of_equal_labels_is_nothing(labels):
    assert labels.describe_gain([0.0] * 9) == "+0.0 [+0.0, +0.0]"
    assert labels.describe_gain([0.02] * 9 + [float("nan")]) == "+2.0 [+2.0, +2.0]"


def test_dump_says_of_every_image_whether_sam_saw_nothing_in_it(labels, dataset, store, tmp_path):
    labels.dump(dataset, store, tmp_path / "labels.npz")
    found = dict(np.load(tmp_path / "labels.npz"))
    ids = {case.id for case in read_dataset(dataset).split("unlabeled")}
    assert {key.split("/")[1] for key in found if key.endswith("/empty")} == ids
    assert labels.count_lost(found) == 0 and {key.split("/")[1] for key in found if key.endswith("/label")} <= ids
