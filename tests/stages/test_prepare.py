import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builders import DATA, USAGE, call, files_in, succeed
from foreign import layouts
from foreign.world import NUMBERS, draw_image, draw_label, draw_polyp, number_of, save, save_images, save_masks
from PIL import Image

from samsemi.data.dataset import read_case_image, read_case_label, read_dataset
from samsemi.data.layouts import table
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.errors import DataError
from samsemi.options.prepare import PrepareOptions
from samsemi.stages.prepare import prepare


@dataclass(frozen=True)
class Slice:
    """An image or mask that has to be written: a slice of an array."""

    path: Path
    number: int
    stays: bool = False

    def read(self) -> np.ndarray:
        return np.load(self.path)[self.number]

    def remarks(self) -> list[str]:
        return ["cut out of a volume"]


def test_images_that_cannot_stay_where_they_are_are_written(tmp_path, monkeypatch, shown, capsys):
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    rng = np.random.default_rng(0)
    np.save(volumes / "image.npy", rng.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8))
    np.save(volumes / "mask.npy", np.broadcast_to(np.eye(8, 9, dtype=np.int32), (6, 8, 9)))
    sources = [(Slice(volumes / "image.npy", i), Slice(volumes / "mask.npy", i)) for i in range(6)]
    cases = [FoundCase(f"s{i}", image, mask, group=f"s{i}") for i, (image, mask) in enumerate(sources)]
    monkeypatch.setattr(table, "LAYOUTS", {"volume": table.Layout("arrays", lambda given: "", lambda given: Found(cases, "6 slices"))})
    monkeypatch.setattr("samsemi.stages.prepare.LAYOUTS", table.LAYOUTS)
    prepare(PrepareOptions(images=volumes, out=tmp_path / "out", labeled=3, overwrite=True))
    dataset = read_dataset(tmp_path / "out")
    for i, case in enumerate(dataset.cases.values()):
        assert case.image == dataset.folder / "images" / f"s{i}.png"
        assert (read_case_image(case) == np.load(volumes / "image.npy")[i]).all()
        assert (case.mask is None) == (case.split == "unlabeled") and case.image_sha256
        assert (read_case_label(case, case.mask or case.truth, 2) == np.eye(8, 9)).all()
    assert "6 images cut out of a volume" in capsys.readouterr().err
    prepare(PrepareOptions(images=volumes, out=tmp_path / "out", labeled=3, overwrite=True))


@pytest.fixture
def pairs(tmp_path):
    """A folder with images/ and masks/."""
    layouts.pairs("images/#.png", "masks/#.png")(tmp_path / "raw")
    return tmp_path / "raw"


def splits_of(folder: Path) -> dict[str, list[int]]:
    splits: dict[str, list[int]] = {}
    for case in read_dataset(folder).cases.values():
        splits.setdefault(case.split, []).append(number_of(case.id))
    return splits


def test_copied_images_make_a_data_set_that_can_be_moved(pairs, tmp_path):
    out = tmp_path / "data"
    said = succeed("prepare", pairs, "--out", out, "--copy").err
    assert "absolute" not in said
    shutil.rmtree(pairs)
    shutil.move(out, tmp_path / "elsewhere")
    succeed("check", tmp_path / "elsewhere")
    dataset = read_dataset(tmp_path / "elsewhere")
    assert {case.image for case in dataset.cases.values()} == {dataset.folder / "images" / f"{number:03d}.png" for number in NUMBERS}
    assert all((read_case_image(case) == draw_image(number_of(case.id))).all() for case in dataset.cases.values())


def test_copies_are_byte_for_byte_and_replaced_with_their_data_set(pairs, tmp_path):
    save(pairs / "images/001.png", draw_image(1), compress_level=0)
    out = tmp_path / "data"
    for _ in range(2):
        succeed("prepare", pairs, "--out", out, "--copy", "--overwrite")
    assert (out / "images/001.png").read_bytes() == (pairs / "images/001.png").read_bytes()
    succeed("prepare", pairs, "--out", out, "--overwrite")
    assert not any(name.startswith("images/") for name in files_in(out))


def test_images_of_others_in_a_data_set_are_never_removed(pairs, tmp_path):
    """In a manifest written by hand images may lie in the folder that no command has put there."""
    out = tmp_path / "data"
    succeed("prepare", pairs, "--out", out)
    save(out / "images/001.png", draw_image(1))
    (out / "manifest.csv").write_text((out / "manifest.csv").read_text().replace(f"{pairs.resolve()}/images/001.png", "images/001.png"))
    assert read_dataset(out).cases["001"].image == out / "images/001.png"
    outcome = call("prepare", pairs, "--out", out, "--overwrite")
    assert outcome.code == 3 and "001.png" in outcome.err and (out / "images/001.png").exists()


def test_where_images_stay_is_said(pairs, tmp_path):
    said = succeed("prepare", pairs, "--out", tmp_path / "data").err
    assert f"8 images stay in {pairs / 'images'}, as absolute paths: --copy makes a data set that can be moved" in said
    assert "layout pairs: " in said and "8 images, 8 with a mask" in said


def test_splits_of_a_data_set_are_kept_and_train_is_dealt(tmp_path):
    layouts.draw_covid(tmp_path / "raw")
    said = succeed("prepare", tmp_path / "raw", "--target", "lung", "--labeled", 1, "--out", tmp_path / "all").err
    assert "splits of the data set are kept: val 2, test 2" in said
    assert splits_of(tmp_path / "all") == {"labeled": [1, 2, 3, 4], "val": [5, 6], "test": [7, 8]}
    succeed("prepare", tmp_path / "raw", "--target", "lung", "--labeled", 0.5, "--test", 0.5, "--out", tmp_path / "half")
    half = splits_of(tmp_path / "half")
    assert (len(half["labeled"]), half["val"], half["test"]) == (2, [5, 6], [7, 8])


@pytest.mark.parametrize(("image", "mask", "warned"), [(3, None, True), (2, 1, True), (3, 3, False), (1, None, False), (6, None, False)])
def test_images_turned_by_exif_whose_masks_are_not_are_warned_of(pairs, tmp_path, shown, capsys, image, mask, warned):
    """A half turn changes no size: whether a mask was drawn before or after it cannot be seen. A quarter turn (6) does: refused."""
    for path, orientation in ((pairs / "images/001.png", image), (pairs / "masks/001.png", mask)):
        exif = Image.Exif()
        exif[0x0112] = orientation or 1
        Image.open(path).save(path, exif=exif)
    with suppress(DataError):
        prepare(PrepareOptions(images=pairs, out=tmp_path / "data"))
    assert ("1 images are turned as their EXIF orientation says, their masks as they are, such as 001" in capsys.readouterr().err) == warned


def test_split_that_a_data_set_lacks_is_dealt(tmp_path):
    layouts.draw_nnunet(tmp_path / "raw")
    succeed("prepare", tmp_path / "raw", "--val", 2, "--out", tmp_path / "data")
    splits = splits_of(tmp_path / "data")
    assert splits["test"] == [7] and splits["unlabeled"] == [8] and (len(splits["val"]), len(splits["labeled"])) == (2, 4)


def test_masks_of_unlabeled_images_of_a_data_set_are_hidden(tmp_path):
    layouts.draw_knowsam(tmp_path / "raw")
    said = succeed("prepare", tmp_path / "raw", "--out", tmp_path / "data").err
    assert splits_of(tmp_path / "data") == {"labeled": [1, 2, 3], "unlabeled": [4, 5, 6], "val": [7, 8]}
    assert "3 masks hidden as truth" in said and "not used" not in said
    for case in read_dataset(tmp_path / "data").split("unlabeled"):
        assert case.mask is None and (read_case_label(case, case.truth, 2) == draw_polyp(number_of(case.id))).all()


def test_labeled_share_of_a_data_set_that_says_what_is_labeled_is_refused(tmp_path):
    layouts.draw_knowsam(tmp_path / "raw")
    outcome = call("prepare", tmp_path / "raw", "--labeled", 0.5, "--out", tmp_path / "data")
    assert outcome.code == USAGE and "says itself which cases are labeled" in outcome.err


def test_images_without_a_mask_beside_splits_of_their_own_are_unlabeled(tmp_path):
    layouts.draw_knowsam(tmp_path / "raw")
    (tmp_path / "raw/unlabeled").rename(tmp_path / "raw/train")
    shutil.rmtree(tmp_path / "raw/train/mask")
    succeed("prepare", tmp_path / "raw", "--out", tmp_path / "data")
    assert splits_of(tmp_path / "data") == {"labeled": [1, 2, 3], "unlabeled": [4, 5, 6], "val": [7, 8]}


@pytest.mark.parametrize("name", ["x" * 101, "a\x1b[31m"])
def test_class_name_that_cannot_be_shown_is_refused(tmp_path, name):
    layouts.draw_labelme(tmp_path / "raw")
    for path in (tmp_path / "raw/photos").glob("*.json"):
        path.write_text(path.read_text().replace('"tool"', json.dumps(name)))
    outcome = call("prepare", tmp_path / "raw", "--out", tmp_path / "data")
    assert outcome.code == DATA and "a class with a name" in outcome.err and "\x1b" not in outcome.err


def test_split_file_goes_before_the_splits_of_a_data_set(tmp_path):
    layouts.draw_splits(tmp_path / "raw")
    rows = [f"train__00{i},labeled" for i in (1, 2)] + ["val__005,test", "test__007,val"]
    (tmp_path / "split.csv").write_text("id,split\n" + "\n".join(rows) + "\n")
    succeed("prepare", tmp_path / "raw", "--split", tmp_path / "split.csv", "--out", tmp_path / "data")
    assert splits_of(tmp_path / "data") == {"labeled": [1, 2], "test": [5], "val": [7]}


def test_patients_of_a_layout_are_never_split_and_named_otherwise_on_request(tmp_path):
    layouts.draw_acdc(tmp_path / "raw")
    succeed("prepare", tmp_path / "raw", "--out", tmp_path / "data")
    groups = {case.id: case.group for case in read_dataset(tmp_path / "data").cases.values()}
    assert set(groups.values()) == {"patient001", "patient002", "patient003", "patient004"}
    succeed("prepare", tmp_path / "raw", "--groups", r"slice_(\d)", "--out", tmp_path / "other")
    assert {case.group for case in read_dataset(tmp_path / "other").cases.values()} == set("12345678")


@pytest.mark.parametrize(("value", "expected"), [(0, "0 is ignored"), (2, "2 is ignored")])
def test_value_that_means_ignored(tmp_path, value, expected):
    save_images(tmp_path, "raw/images/#.png")
    save_masks(tmp_path, "raw/masks/#.png", draw=draw_label, white=1)
    said = succeed("prepare", tmp_path / "raw", "--ignore-value", value, "--classes", "polyp,tool", "--out", tmp_path / "data").err
    assert expected in said
    case = next(iter(read_dataset(tmp_path / "data").cases.values()))
    label = draw_label(number_of(case.id))
    assert (read_case_label(case, case.mask, 3) == np.where(label == value, 255, label)).all()


def test_gray_between_black_and_white_may_be_ignored(tmp_path):
    """As the rim of a trimap."""
    save_images(tmp_path, "raw/images/#.png")
    save_masks(tmp_path, "raw/masks/#.png", draw=lambda number: np.array([0, 255, 128], dtype=np.uint8)[draw_label(number)], white=1)
    assert call("prepare", tmp_path / "raw", "--out", tmp_path / "data").code == DATA
    succeed("prepare", tmp_path / "raw", "--ignore-value", 128, "--out", tmp_path / "data")
    case = next(iter(read_dataset(tmp_path / "data").cases.values()))
    expected = np.array([0, 1, 255], dtype=np.uint8)[draw_label(number_of(case.id))]
    assert (read_case_label(case, case.mask, 2) == expected).all()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--target", "lung"), USAGE, "--target lung is for covid-qu-ex"),
        (("--layout", "nnunet"), DATA, "is not of the layout nnunet: no dataset.json, imagesTr/, labelsTr/"),
        (("--layout", "coco"), DATA, "is not of the layout coco: masks are pictures"),
        (("--ignore-value", 1, "--mask-values", "nonzero"), USAGE, "--ignore-value"),
        (("--color-map", "none.csv"), USAGE, "--color-map none.csv"),
        (("--ignore-value", 255), DATA, "no pixel"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(pairs, tmp_path, options, code, said):
    outcome = call("prepare", pairs, *options, "--out", tmp_path / "data")
    assert outcome.code == code and said in outcome.err and not (tmp_path / "data").exists()


def test_color_map_without_pictures_is_refused(tmp_path):
    layouts.draw_yolo(tmp_path / "raw")
    (tmp_path / "c.csv").write_text("polyp,1,2,3\n")
    outcome = call("prepare", tmp_path / "raw", "--color-map", tmp_path / "c.csv", "--out", tmp_path / "data")
    assert outcome.code == USAGE and "no mask is a picture" in outcome.err


def test_names_that_a_data_set_has_for_its_classes_are_not_exchanged(tmp_path):
    layouts.draw_nnunet(tmp_path / "raw")
    for names in ("tool,polyp", "other, POLYP"):
        outcome = call("prepare", tmp_path / "raw", "--classes", names, "--out", tmp_path / "data")
        assert outcome.code == USAGE and "the classes of the data set are polyp,tool" in outcome.err and not (tmp_path / "data").exists()
    succeed("prepare", tmp_path / "raw", "--classes", "Polyp,instrument", "--out", tmp_path / "data")
    assert read_dataset(tmp_path / "data").classes == ("background", "Polyp", "instrument")


def test_several_folders_in_python(tmp_path):
    import samsemi

    layouts.draw_two_folders(tmp_path)
    for images in ([tmp_path / "labeled", str(tmp_path / "more")], (tmp_path / "labeled", tmp_path / "more")):
        result = samsemi.prepare(images=images, masks=tmp_path / "masks", out=tmp_path / "data", overwrite=True, quiet=True)
        assert result["cases"] == 8 and result["splits"]["unlabeled"] == 3
    assert samsemi.prepare(images=str(tmp_path / "labeled"), masks=tmp_path / "masks", out=tmp_path / "one", quiet=True)["cases"] == 5
