"""Pseudo-labels for other programs: PNG masks that `prepare` reads back, COCO that another decoder reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import REFUSED, SIZE, USAGE, block, files_in, mined_of, read_array, refused, succeed, write_image
from PIL import Image

from samsemi.data.dataset import IGNORE, read_dataset
from samsemi.data.masks import mask_palette
from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import mined_label
from samsemi.mining.store import Provenance, Store
from samsemi.mining.store_writer import StoreWriter

HEIGHT, WIDTH = 32, 64
NOTHING = 7
CELL, NUCLEUS, OTHER, LARGE = block(2, 8, 2, 8, 0.9), block(4, 7, 6, 12, 0.8), block(10, 14, 2, 6, 0.9), block(3, 9, 7, 12, 0.7)


@pytest.fixture
def mined(tmp_path) -> tuple[Path, Path]:
    """A data set of two classes, four masks and four images without one, one in a sub-folder; and a store of these four."""
    rng = np.random.default_rng(0)
    for number in range(4):
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[4:12, 8:24], mask[16:28, 30:50] = 1, 2
        write_image(tmp_path / "images" / f"m{number}.png", rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        write_image(tmp_path / "masks" / f"m{number}.png", mask)
    for name in ("sub/a", "b", "c", "d"):
        write_image(tmp_path / "images" / f"{name}.png", rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    shares = ("--val", 0.25, "--test", 0, "--classes", "cell,nucleus")
    succeed("prepare", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "data", *shares)
    fingerprint = read_dataset(tmp_path / "data").fingerprint()
    writer = StoreWriter(tmp_path / "s.h5", Provenance({}, {"dataset": fingerprint}, {}), SIZE, num_points=0, num_classes=3)
    boxes = [[8, 4, 31, 15], [24, 8, 47, 13], [8, 20, 23, 27]]
    writer.add("sub__a", (HEIGHT, WIDTH), mined_of(CELL, NUCLEUS, OTHER, class_id=[1, 2, 1], agreement=[1, 0.9, 0.1], boxes=boxes))
    writer.add("b", (HEIGHT, WIDTH), mined_of(CELL, LARGE, num_classes=3, boxes=boxes[:2]))
    writer.add("c", (HEIGHT, WIDTH), mined_of(CELL, num_classes=3, agreement=[0.1], boxes=boxes[:1]))
    writer.add("d", (HEIGHT, WIDTH), mined_of(num_classes=3))
    writer.commit(0)
    writer.finish(["sub__a", "b", "c", "d"])
    return tmp_path / "data", tmp_path / "s.h5"


def test_masks_are_the_labels_and_where_objects_were_rejected_255(mined, tmp_path):
    _, store = mined
    outcome = succeed("export-labels", store, "--out", tmp_path / "out", "--json")
    assert files_in(tmp_path / "out") == {"labels.json", "sub__a.png", "b.png"}
    label = mined_label(Store(store).read("sub__a"), Policy(), 3)
    written = read_array(tmp_path / "out" / "sub__a.png")
    assert set(np.unique(label)) == {0, 1, 2} and written.shape == (HEIGHT, WIDTH)
    ignored = written == IGNORE
    assert ignored[20:28, 8:24].all() and ignored.sum() == 8 * 16
    assert (written == label)[~ignored].all()
    assert outcome.result["images"] == 2 and outcome.result["left_out"] == 2 and outcome.result["ignored_pixel_share"] > 0
    with Image.open(tmp_path / "out" / "b.png") as picture:
        assert picture.mode == "P" and picture.convert("RGB").getpixel((10, 6)) == mask_palette()[1]


def test_nothing_is_ignored_where_the_user_says_so(mined, tmp_path):
    _, store = mined
    succeed("export-labels", store, "--out", tmp_path / "out", "--ignore-below", 0)
    assert (read_array(tmp_path / "out" / "sub__a.png") == mined_label(Store(store).read("sub__a"), Policy(), 3)).all()


def test_exported_masks_prepared_again_are_the_same(mined, tmp_path):
    data, store = mined
    succeed("export-labels", store, "--dataset", data, "--out", tmp_path / "out")
    words = ("--masks", tmp_path / "out", "--classes", "cell,nucleus", "--val", 0.5, "--test", 0)
    succeed("prepare", tmp_path / "images", *words, "--out", tmp_path / "again")
    for name in ("sub__a", "b"):
        assert (read_array(tmp_path / "again" / "masks" / f"{name}.png") == read_array(tmp_path / "out" / f"{name}.png")).all()
    assert len(read_dataset(tmp_path / "again").split("unlabeled")) == 6


def test_thresholds_choose_what_is_exported(mined, tmp_path):
    _, store = mined
    result = succeed("export-labels", store, "--out", tmp_path / "out", "--min-agreement", 0, "--json").result
    assert result["images"] == 3 and result["ignored_pixel_share"] == 0
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["policy"]["min_agreement"] == 0


def paint(segmentation: dict) -> np.ndarray:
    """Run lengths as the COCO API decodes them."""
    values = np.arange(len(segmentation["counts"])) % 2 == 1
    return np.repeat(values, segmentation["counts"]).reshape(segmentation["size"], order="F")


def test_coco_has_every_accepted_object_with_its_mask_and_scores(mined, tmp_path):
    data, store = mined
    words = ("--dataset", data, "--format", "coco", "--sam-share", 1)
    result = succeed("export-labels", store, *words, "--out", tmp_path / "out", "--json").result
    assert result["objects"] == 4 and result["by_class"] == {"cell": 3, "nucleus": 1}
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert coco["categories"] == [{"id": 1, "name": "cell"}, {"id": 2, "name": "nucleus"}]
    assert {image["file_name"] for image in coco["images"]} == {"sub/a.png", "b.png"}
    assert all((Path(coco["info"]["image_folder"]) / image["file_name"]).is_file() for image in coco["images"])
    assert {(image["height"], image["width"]) for image in coco["images"]} == {(HEIGHT, WIDTH)}
    first, second, third, fourth = coco["annotations"]
    assert [a["id"] for a in coco["annotations"]] == [1, 2, 3, 4]
    assert first["image_id"] == second["image_id"] != third["image_id"] == fourth["image_id"]
    for annotation, probs in ((first, CELL), (fourth, LARGE)):
        mask = paint(annotation["segmentation"])
        assert (mask == (np.asarray(Image.fromarray(probs).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)) > 0.5)).all()
        assert annotation["area"] == mask.sum() and annotation["iscrowd"] == 0
        rows, columns = np.nonzero(mask)
        assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    overlap = paint(third["segmentation"]) & paint(fourth["segmentation"])
    assert overlap.any(), "objects that overlap keep their masks"
    assert second["score"] == pytest.approx(0.9) == second["agreement"]
    assert {"score", "predicted_iou", "stability", "agreement", "consensus", "confidence", "area_ratio"} <= set(first)


def test_wrong_calls_are_named(mined, tmp_path):
    data, store = mined
    refused(USAGE, "export-labels", store, "--out", tmp_path / "o", "--format", "coco", said=("--dataset",))
    refused(5, "export-labels", data, "--out", tmp_path / "o", said=(data,))
    refused(5, "export-labels", tmp_path / "none.h5", "--out", tmp_path / "o", said=("none.h5", "no such store"))
    assert not (tmp_path / "o").exists()


def test_nothing_accepted_ends_with_7(tmp_path):
    writer = StoreWriter(tmp_path / "e.h5", Provenance({}, {}, {}), SIZE, num_points=0, num_classes=2)
    writer.add("c", (HEIGHT, WIDTH), mined_of(block(2, 8, 2, 8), agreement=[0.1]))
    writer.commit(0)
    writer.finish(["c"])
    refused(NOTHING, "export-labels", tmp_path / "e.h5", "--out", tmp_path / "p", said=("e.h5", "no pseudo-label"))
    assert not (tmp_path / "p").exists()


def test_store_of_another_data_set_is_refused(mined, tmp_path):
    data, store = mined
    (tmp_path / "data" / "dataset.json").write_text((data / "dataset.json").read_text().replace("cell", "cells"))
    refused(5, "export-labels", store, "--dataset", data, "--out", tmp_path / "o", said=("another data set",))


def test_what_is_there_is_kept_unless_it_is_ours(mined, tmp_path):
    data, store = mined
    words = ("export-labels", store, "--dataset", data, "--out", tmp_path / "out")
    succeed(*words)
    refused(REFUSED, *words, said=("out",))
    succeed(*words, "--format", "coco", "--overwrite")
    assert files_in(tmp_path / "out") == {"labels.json", "coco.json"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    refused(REFUSED, *words[:-1], tmp_path / "mine", "--overwrite", said=("mine", "labels.json"))
    assert files_in(tmp_path / "mine") == {"thesis.txt"}


def test_progress_has_the_time_left(mined, tmp_path):
    _, store = mined
    assert "export labels: 2/2 images" in (err := succeed("export-labels", store, "--out", tmp_path / "out").err) and " left" in err
