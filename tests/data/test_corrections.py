"""Masks that come back corrected, in the review's folder, in another one, or as COCO."""

import csv
import json
import os
import shutil
import time
from datetime import datetime

import numpy as np
import pytest
from builders import DATA, MINING, NETWORK, REFUSED, USAGE, call, file_bytes, files_in, read_array, refused, succeed, write_image

from samsemi.data.coco import make_annotation, make_categories
from samsemi.data.corrections import read_corrections, read_review
from samsemi.data.dataset import Dataset, read_case_label, read_dataset
from samsemi.errors import CheckpointError, DataError

CASES = 3
WRITTEN = (1_700_000_000, "2023-11-14T22:13:20+00:00")


@pytest.fixture(scope="module")
def mined_review(dataset, warm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mined")
    arguments = ("mine", dataset, "--model", warm, "--out", folder / "s.h5", *MINING, "--review", folder / "review")
    succeed(*arguments, "--review-cases", CASES)
    return folder / "review"


@pytest.fixture
def review(mined_review, tmp_path):
    """Three cases to correct."""
    return shutil.copytree(mined_review, tmp_path / "review")


@pytest.fixture
def names(review) -> list[str]:
    return [*json.loads((review / "review.json").read_text())["proposed"]]


@pytest.fixture
def data(dataset) -> Dataset:
    return read_dataset(dataset)


def correct(path) -> np.ndarray:
    """Another mask in a file, of some pixels in a corner."""
    mask = np.zeros_like(read_array(path))
    mask[:20, :30] = 1
    write_image(path, mask)
    os.utime(path, (WRITTEN[0], WRITTEN[0]))
    return mask


def record_of(folder) -> list[dict[str, str]]:
    with open(folder / "corrections.csv", newline="") as file:
        return [*csv.DictReader(file)]


def test_corrected_case_is_labeled_in_a_new_data_set_and_all_else_stays(review, names, data, dataset, tmp_path):
    before = file_bytes(dataset)
    mask = correct(review / "masks" / f"{names[1]}.png")
    out = tmp_path / "again"
    outcome = succeed("prepare", dataset, "--labels", review, "--by", "A. Reader", "--out", out, "--json")
    assert outcome.result["corrected"] == {"cases": 1, "as_proposed": 0, "by": "A. Reader", "left_unlabeled": CASES - 1}
    assert outcome.result["splits"] == {"labeled": 10, "unlabeled": 8, "val": 3, "test": 3} and file_bytes(dataset) == before
    shutil.rmtree(review)
    after = read_dataset(out)
    case = after.cases[names[1]]
    assert case.split == "labeled" and case.truth is None and (read_case_label(case, case.mask, 2) == mask).all()
    others = [name for name in data.cases if name != names[1]]
    assert len(others) == len(after.cases) - 1
    for name in others:
        old, new = data.cases[name], after.cases[name]
        assert (new.split, new.group, new.image, [*new.files().values()]) == (old.split, old.group, old.image, [*old.files().values()])
        for one, other in zip(old.files(), new.files(), strict=True):
            assert one.read_bytes() == other.read_bytes() and (one == old.image or other.is_relative_to(out))
    assert (after.classes, after.spacing_mm) == (data.classes, data.spacing_mm)
    assert [(row["id"], row["by"], row["at"], row["as_proposed"]) for row in record_of(out)] == [(names[1], "A. Reader", WRITTEN[1], "")]
    assert json.loads(call("info", out, "--json").out)["corrected"] == {"A. Reader": 1}
    assert "corrections.csv" in files_in(out) and call("check", out).code == 0


def test_what_was_corrected_is_learned_from(review, names, dataset, tmp_path):
    """Mine, correct, prepare, train; and once more, which keeps who corrected before."""
    correct(review / "masks" / f"{names[0]}.png")
    out, runs = tmp_path / "again", tmp_path / "runs"
    succeed("prepare", dataset, "--labels", review, "--by", "A. Reader", "--out", out)
    training = (*NETWORK, "--iterations", 4, "--validate-every", 4)
    succeed("warmstart", out, "--out", runs / "warm", *training)
    assert json.loads((runs / "warm" / "model.json").read_text())["made_from"]["dataset"] == read_dataset(out).fingerprint()
    review = tmp_path / "second"
    again = call("mine", out, "--model", runs / "warm", "--out", runs / "s.h5", *MINING, "--review", review, "--review-cases", 1)
    assert again.code in (0, 7) and review.exists(), again.err
    (name,) = json.loads((review / "review.json").read_text())["proposed"]
    assert name != names[0]
    write_image(review / "masks" / f"{name}.png", 1 - read_array(review / "masks" / f"{name}.png"))
    succeed("prepare", out, "--labels", review, "--by", "B. Reader", "--out", tmp_path / "third")
    assert [(row["id"], row["by"]) for row in record_of(tmp_path / "third")] == [(names[0], "A. Reader"), (name, "B. Reader")]


def test_masks_as_proposed_are_labels_only_where_the_user_says_so(review, names, dataset, tmp_path):
    refused(DATA, "prepare", dataset, "--labels", review, "--by", "x", "--out", tmp_path / "a", said=("no mask differs",))
    assert not (tmp_path / "a").exists()
    outcome = succeed("prepare", dataset, "--labels", review, "--by", "x", "--confirm", "--out", tmp_path / "a", "--json")
    assert outcome.result["corrected"] == {"cases": CASES, "as_proposed": CASES, "by": "x", "left_unlabeled": 0}
    assert [row["as_proposed"] for row in record_of(tmp_path / "a")] == ["yes"] * CASES


def test_without_a_name_it_is_who_has_logged_in_and_said_so(review, names, dataset, tmp_path, monkeypatch):
    correct(review / "masks" / f"{names[0]}.png")
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe")
    outcome = succeed("prepare", dataset, "--labels", review, "--out", tmp_path / "a")
    assert record_of(tmp_path / "a")[0]["by"] == "jdoe" and "--by NAME says who it was" in outcome.err

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    refused(USAGE, "prepare", dataset, "--labels", review, "--out", tmp_path / "b", said=("who has corrected",))


def test_masks_in_another_folder_may_be_some_of_them(review, names, data, tmp_path):
    masks = tmp_path / "back"
    masks.mkdir()
    shutil.copy(review / "masks" / f"{names[0]}.png", masks)
    shutil.copy(review / "masks" / f"{names[2]}.png", masks)
    mask = correct(masks / f"{names[2]}.png")
    found = {one.id: one for one in read_corrections(review, read_review(review, data), data, masks)}
    assert {name: one.changed for name, one in found.items()} == {names[0]: False, names[2]: True}
    assert (found[names[2]].label == mask).all() and found[names[2]].at == WRITTEN[1]
    shutil.copy(masks / f"{names[0]}.png", masks / "p999_0.png")
    with pytest.raises(DataError, match="p999_0 is no case of the review"):
        read_corrections(review, read_review(review, data), data, masks)


def test_every_picture_of_a_mask_comes_back_whatever_its_kind_and_what_was_corrected_in_place_too(review, names, data, tmp_path):
    """TIFF and PNG in one folder, after two were corrected in the review itself; what a file manager leaves there is no mask."""
    for name in names[:2]:
        correct(review / "masks" / f"{name}.png")
    masks = tmp_path / "back"
    masks.mkdir()
    shutil.copy(review / "masks" / f"{names[0]}.png", masks / f"{names[0]}.PNG")
    write_image(masks / f"{names[1]}.tif", read_array(review / "masks" / f"{names[1]}.png"))
    shutil.copy(review / "masks" / f"{names[2]}.png", masks)
    (masks / f"._{names[2]}.png").write_bytes(b"\0\5\x16\7")
    found = {one.id: one.changed for one in read_corrections(review, read_review(review, data), data, masks)}
    assert found == {names[0]: True, names[1]: True, names[2]: False}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_objects_drawn_in_white_are_named(review, names, data, tmp_path, elsewhere):
    masks = shutil.copytree(review / "masks", tmp_path / "back") if elsewhere else review / "masks"
    write_image(masks / f"{names[1]}.png", 255 * read_array(masks / f"{names[1]}.png").clip(0, 1))
    with pytest.raises(DataError, match=f"{names[1]}.png: 0 and 255"):
        read_corrections(review, read_review(review, data), data, masks if elsewhere else None)


def test_time_that_no_calendar_has_is_that_of_the_record(review, names, data, monkeypatch):
    correct(review / "masks" / f"{names[0]}.png")

    class Late(datetime):
        @classmethod
        def fromtimestamp(cls, *_):
            raise ValueError("year 36812 is out of range")

    monkeypatch.setattr("samsemi.data.corrections.datetime", Late)
    at = read_corrections(review, read_review(review, data), data)[0].at
    assert abs(datetime.fromisoformat(at).timestamp() - time.time()) < 60


def test_data_set_is_not_written_among_the_masks_that_came_back(review, names, dataset, tmp_path):
    masks = shutil.copytree(review / "masks", tmp_path / "back")
    correct(masks / f"{names[0]}.png")
    refused(REFUSED, "prepare", dataset, "--labels", review, "--masks", masks, "--by", "x", "--out", masks / "new", said=("lies in",))


def coco_of(review, changed) -> dict:
    """What an annotation tool gives back: an image deleted, one all new, in another order, with categories numbered otherwise."""
    about = json.loads((review / "coco.json").read_text())
    for category in about["categories"]:
        category["id"] += 40
    for row in about["annotations"]:
        row["category_id"] += 40
    (number,) = (image["id"] for image in about["images"] if image["file_name"] == f"{changed}.png")
    mask = np.zeros_like(read_array(review / "masks" / f"{changed}.png"), dtype=bool)
    mask[5:25, 10:40] = True
    about["annotations"] = [row for row in about["annotations"] if row["image_id"] != number]
    about["annotations"].append(make_annotation(mask, 9999, number, 41, {}))
    for image in about["images"]:
        image["file_name"] = "export/" + image["file_name"]
    return {**about, "images": about["images"][::-1]}


def test_masks_come_back_as_coco(review, names, data, dataset, tmp_path):
    file = tmp_path / "instances_default.json"
    file.write_text(json.dumps(coco_of(review, names[1])))
    found = {one.id: one for one in read_corrections(review, read_review(review, data), data, file)}
    assert {name: one.changed for name, one in found.items()} == {name: name == names[1] for name in names}
    assert found[names[1]].label.sum() == 20 * 30 and found[names[1]].label[5:25, 10:40].all()
    succeed("prepare", dataset, "--labels", review, "--masks", file, "--by", "x", "--out", tmp_path / "again")
    assert [case.id for case in read_dataset(tmp_path / "again").split("labeled") if case.id in names] == [names[1]]


def test_coco_of_other_classes_or_images_is_refused(review, names, data, tmp_path):
    file, about = tmp_path / "back.json", coco_of(review, names[1])
    for changed, said in (
        ({"categories": [{"id": 41, "name": "liver"}]}, "objects of class liver"),
        ({"images": [{**image, "file_name": f"x{image['id']}.png"} for image in about["images"]]}, "no case of the review"),
        ({"categories": [*make_categories(data.classes)]}, "category 41"),
        ({"images": [*about["images"], {**about["images"][0], "id": 99}]}, f"{CASES + 1} images of {CASES} names"),
        ({"images": [{**image, "height": 10 * image["height"]} for image in about["images"]]}, "is drawn in"),
    ):
        file.write_text(json.dumps({**about, **changed}))
        with pytest.raises(DataError, match=said):
            read_corrections(review, read_review(review, data), data, file)


def test_outlines_of_the_review_that_a_tool_has_written_over_are_named(review, names, data, tmp_path):
    (review / "coco.json").write_text(json.dumps(coco_of(review, names[1])))
    shutil.copy(review / "coco.json", tmp_path / "back.json")
    for file in (review / "coco.json", tmp_path / "back.json"):
        with pytest.raises(DataError, match="not the one that was written"):
            read_corrections(review, read_review(review, data), data, file)


def test_images_of_the_data_set_itself_go_with_it(pictures, warm, tmp_path):
    shares = ("--groups", r"p(\d+)", "--labeled", 9, "--val", 3, "--test", 3, "--copy")
    old, review, out = tmp_path / "old", tmp_path / "review", tmp_path / "new"
    succeed("prepare", pictures / "images", "--masks", pictures / "masks", "--out", old, *shares)
    succeed("mine", old, "--model", warm, "--out", tmp_path / "s.h5", *MINING, "--review", review, "--review-cases", 1)
    succeed("prepare", old, "--labels", review, "--confirm", "--by", "x", "--out", out)
    images = {case.id: case.image.read_bytes() for case in read_dataset(old).cases.values()}
    shutil.rmtree(old)
    assert {case.id: case.image.read_bytes() for case in read_dataset(out).cases.values()} == images
    again = call("prepare", pictures / "images", "--masks", pictures / "masks", "--out", out, *shares, "--overwrite")
    assert again.code == 0, again.err


def test_image_that_has_changed_since_is_named_where_it_lies(pictures, warm, tmp_path):
    shares = ("--groups", r"p(\d+)", "--labeled", 9, "--val", 3, "--test", 3, "--copy")
    old, review = tmp_path / "old", tmp_path / "review"
    succeed("prepare", pictures / "images", "--masks", pictures / "masks", "--out", old, *shares)
    succeed("mine", old, "--model", warm, "--out", tmp_path / "s.h5", *MINING, "--review", review, "--review-cases", 1)
    changed = next(case.image for case in read_dataset(old).cases.values() if case.split == "test")
    changed.write_bytes(changed.read_bytes() + b"\0")
    refused = call("prepare", old, "--labels", review, "--confirm", "--by", "x", "--out", tmp_path / "new")
    assert refused.code == DATA and f"{changed} has changed since" in refused.err and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (("--labels", "r", "--val", 2), "--val"),
        (("--labels", "r", "--classes", "a"), "--classes"),
        (("--by", "x"), "--by goes with --labels"),
        (("--confirm",), "--confirm goes with --labels"),
        (("--labels", "r", "--by", "a\nb"), "no name of a person"),
        (("more", "--labels", "r"), "2 folders"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, words, said):
    refused(USAGE, "prepare", "data", *words, "--out", tmp_path / "out", said=(said,))


def test_what_is_no_review_of_this_data_set_is_refused(review, names, data, tmp_path):
    with pytest.raises(DataError, match="no review.json"):
        read_review(tmp_path, data)
    about = json.loads((review / "review.json").read_text())
    labeled = data.split("labeled")[0].id
    for changed, error in (
        ({"classes": ["background", "cell"]}, DataError),
        ({"dataset": "0" * 64}, DataError),
        ({"proposed": {"../../elsewhere": ""}}, DataError),
        ({"proposed": {labeled: ""}}, DataError),
        ({"schema": "samsemi.review/9"}, CheckpointError),
        ({"proposed": 3}, CheckpointError),
    ):
        (review / "review.json").write_text(json.dumps({**about, **changed}))
        with pytest.raises(error):
            read_review(review, data)


def test_mask_that_cannot_be_is_named(review, names, data, dataset, tmp_path):
    write_image(review / "masks" / f"{names[0]}.png", np.full((8, 8), 9, np.uint8))
    with pytest.raises(DataError, match=names[0]):
        read_corrections(review, read_review(review, data), data)
    write_image(review / "masks" / f"{names[0]}.png", np.ones((8, 8), np.uint8))
    refused(DATA, "prepare", dataset, "--labels", review, "--by", "x", "--out", tmp_path / "a", said=("8 x 8",), problems=True)
    assert not (tmp_path / "a").exists()


def test_record_that_cannot_be_is_named(review, names, dataset, tmp_path):
    old = shutil.copytree(dataset, tmp_path / "old")
    (old / "corrections.csv").write_text("id,by\nx,y\n")
    refused(DATA, "prepare", old, "--labels", review, "--by", "x", "--out", tmp_path / "a", said=("corrections.csv",))
