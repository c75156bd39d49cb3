"""Cases to correct: which, and what is written of them."""

import csv
import json

import numpy as np
import pytest
from builders import MINING, REFUSED, SIZE, block, files_in, mined_of, read_array, refused, succeed, write_image

from samsemi.data.dataset import read_dataset
from samsemi.mining.policy import Policy
from samsemi.mining.review import measure_likeness, propose_label, rank_doubts
from samsemi.mining.store import Provenance, Store
from samsemi.mining.store_writer import StoreWriter

CELL, OTHER = block(2, 8, 2, 8, 0.9), block(10, 14, 2, 6, 0.9)
SMALL, LARGE = [[8, 4, 15, 9]], [[0, 0, 63, 31]]


def store_of(path, **images) -> Store:
    writer = StoreWriter(path, Provenance({}, {}, {}), SIZE, num_points=0, num_classes=2)
    for name, mined in images.items():
        writer.add(name, (32, 64), mined)
    writer.commit(0)
    writer.finish([*images])
    return Store(path)


def test_doubtful_before_sure_and_large_before_small(tmp_path):
    store = store_of(
        tmp_path / "s.h5",
        sure=mined_of(CELL, agreement=[1.0], boxes=LARGE),
        small=mined_of(CELL, agreement=[0.5], boxes=SMALL),
        large=mined_of(CELL, agreement=[0.5], boxes=LARGE),
        nothing=mined_of(),
    )
    doubts = rank_doubts(store, Policy())
    assert [doubt.name for doubt in doubts] == ["large", "small", "sure"]
    assert doubts[0].gain > doubts[1].gain > doubts[2].gain == 0
    assert doubts[0].trust == (0.5,) and doubts[0].reasons == ("accepted",)


def test_what_is_surely_wrong_comes_before_what_is_hardly_known(tmp_path):
    """A correction teaches most where the mask is wrong, not where that is least known."""
    wrong, unknown = ({"agreement": [value], "boxes": LARGE} for value in (0.1, 0.5))
    store = store_of(tmp_path / "s.h5", unknown=mined_of(CELL, **unknown), wrong=mined_of(CELL, **wrong))
    assert [doubt.name for doubt in rank_doubts(store, Policy())] == ["wrong", "unknown"]


def test_what_is_like_many_comes_before_what_is_alone(tmp_path):
    alike = {f"a{i}": mined_of(CELL, agreement=[0.5], stability=[0.9], boxes=LARGE) for i in range(5)}
    store = store_of(tmp_path / "s.h5", **alike, odd=mined_of(CELL, agreement=[0.5], stability=[0.2], boxes=LARGE))
    assert [doubt.name for doubt in rank_doubts(store, Policy())][-1] == "odd"


def test_likeness_to_many_is_that_to_a_part():
    scores = np.random.default_rng(0).normal(size=(2500, 7))
    scores[:, 6] = 1
    found = measure_likeness(scores, np.ones(2500))
    assert found.shape == (2500,) and (found > 0).all() and found.max() <= 1
    far = np.argmax((scores**2).sum(axis=1))
    assert found[far] < np.median(found)
    doubted = np.linalg.norm(scores - scores[0], axis=1) < 2
    assert measure_likeness(scores, doubted.astype(float))[0] / found[0] > np.median(
        measure_likeness(scores, doubted.astype(float)) / found
    )


def test_proposal_holds_rejected_objects_too():
    boxes = [[8, 4, 31, 15], [8, 20, 23, 27]]
    mined = mined_of(CELL, OTHER, agreement=[1, 0.1], boxes=boxes)
    label = propose_label(mined, Policy(), 2)
    assert label[6:14, 10:28].all() and label[21:27, 10:20].all()


def test_mine_writes_the_cases_to_correct(dataset, warm, tmp_path):
    arguments = (
        "mine",
        dataset,
        "--model",
        warm,
        "--out",
        tmp_path / "s.h5",
        *MINING,
        "--review",
        tmp_path / "review",
        "--review-cases",
        3,
    )
    outcome = succeed(*arguments, "--json")
    assert outcome.result["review"] == {"folder": str(tmp_path / "review"), "cases": 3}
    with open(tmp_path / "review" / "why.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    names = [row["id"] for row in rows]
    assert len(names) == 3 and sorted((float(row["gain"]) for row in rows), reverse=True) == [float(row["gain"]) for row in rows]
    assert files_in(tmp_path / "review") == {"coco.json", "why.csv", "review.json"} | {
        f"{kind}/{name}.png" for kind in ("images", "masks") for name in names
    }
    cases = read_dataset(dataset).cases
    coco = json.loads((tmp_path / "review" / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{name}.png" for name in names]
    assert len(coco["annotations"]) >= 3 and {a["image_id"] for a in coco["annotations"]} <= {1, 2, 3}
    for name in names:
        assert cases[name].split == "unlabeled"
        image, mask = (read_array(tmp_path / "review" / kind / f"{name}.png") for kind in ("images", "masks"))
        assert image.shape[:2] == mask.shape and set(np.unique(mask)) <= {0, 1}
    write_image(tmp_path / "review" / "masks" / f"{names[0]}.png", np.zeros((8, 8), np.uint8))
    succeed(*arguments, "--resume")
    assert read_array(tmp_path / "review" / "masks" / f"{names[0]}.png").shape == (8, 8), "what somebody has corrected is kept"
    refused(REFUSED, *arguments[:5], tmp_path / "t.h5", *arguments[6:], said=(tmp_path / "review",))
    assert not (tmp_path / "t.h5").exists()


@pytest.mark.parametrize("count", [1, 50])
def test_review_is_no_option_of_the_store(dataset, warm, tmp_path, count):
    arguments = ("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *MINING)
    succeed(*arguments)
    outcome = succeed(*arguments, "--resume", "--review", tmp_path / "review", "--review-cases", count, "--json")
    found = len([name for name in files_in(tmp_path / "review") if name.startswith("masks/")])
    assert outcome.result["review"]["cases"] == found == min(count, found) and found > 0
