"""Layouts whose masks are pictures, or arrays: what is found beyond their samples, and what is refused."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from foreign import layouts
from foreign.world import draw_image, draw_polyp, save, save_images, save_masks

from samsemi.data.layouts.acdc import find_acdc, lacks_acdc
from samsemi.data.layouts.busi import find_busi, lacks_busi
from samsemi.data.layouts.class_folders import find_class_folders, lacks_class_folders
from samsemi.data.layouts.covid_qu_ex import find_covid_qu_ex, lacks_covid_qu_ex
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.knowsam import find_knowsam, lacks_knowsam
from samsemi.data.layouts.nnunet import find_nnunet, lacks_nnunet
from samsemi.data.sources import JoinedFiles
from samsemi.errors import DataError, UsageError


def splits_of(found) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for case in found.cases:
        splits.setdefault(case.split, []).append(case.id)
    return splits


def test_nnunet_images_for_testing_are_test_with_a_mask_and_unlabeled_without(tmp_path):
    layouts.draw_nnunet(tmp_path)
    found = find_nnunet(Given((tmp_path,)))
    assert splits_of(found) == {None: [f"case_00{i}" for i in range(1, 7)], "test": ["case_007"], "unlabeled": ["case_008"]}
    assert found.classes == ("polyp", "tool")
    assert found.note == (
        "imagesTr: 6 images, 6 with a mask; imagesTs: 1 with a mask are test, 1 without are unlabeled, so they are seen in training"
    )


@pytest.mark.parametrize(
    ("labels", "classes", "ignored"),
    [
        ({"background": 0, "polyp": 1}, ("polyp",), None),
        ({"0": "background", "1": "liver", "2": "tumor"}, ("liver", "tumor"), None),
        ({"background": 0, "b": 2, "a": 1, "ignore": 3}, ("a", "b"), 3),
        ({"background": 0, "b": 3, "a": 1}, ("a", "class2", "b"), None),
        ({"background": 0, "whole": [1, 2], "core": [2]}, None, None),
        ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, None, 3),
    ],
)
def test_nnunet_labels_of_both_versions_are_understood(tmp_path, labels, classes, ignored):
    layouts.draw_nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    found = find_nnunet(Given((tmp_path,)))
    assert (found.classes, found.ignored) == (classes, ignored)


@pytest.mark.parametrize(
    "labels",
    [
        *(None, {}, {"background": 0}, {"polyp": "one"}, {"polyp": 900}, {"polyp": True}, []),
        *({"background": 0, "polyp": 1, "fold": 1}, {"0": "background", "1": "polyp", "2": "polyp"}),
    ],
)
def test_nnunet_labels_that_cannot_be_are_named(tmp_path, labels):
    layouts.draw_nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(DataError, match=r"dataset.json"):
        find_nnunet(Given((tmp_path,)))


def test_nnunet_says_what_is_missing(tmp_path):
    assert lacks_nnunet(Given((tmp_path,))) == "no dataset.json, imagesTr/, labelsTr/"
    layouts.draw_nnunet(tmp_path)
    assert lacks_nnunet(Given((tmp_path,))) == ""
    assert "without --masks" in lacks_nnunet(Given((tmp_path,), tmp_path))
    save(tmp_path / "imagesTr/odd.png", draw_image(1))
    with pytest.raises(DataError, match="odd.png: the name lacks the number of a channel"):
        find_nnunet(Given((tmp_path,)))


def test_nnunet_image_of_four_channels_is_refused(tmp_path):
    layouts.draw_nnunet(tmp_path)
    for channel in (1, 2, 3):
        save(tmp_path / f"imagesTr/case_001_000{channel}.png", draw_image(1))
    with pytest.raises(DataError, match="case_001 has 4 channels"):
        find_nnunet(Given((tmp_path,)))


def test_knowsam_splits_are_kept_and_masks_of_unlabeled_images_may_be_missing(tmp_path):
    layouts.draw_knowsam(tmp_path)
    for path in (tmp_path / "unlabeled/mask").iterdir():
        path.unlink()
    found = find_knowsam(Given((tmp_path,)))
    assert {split: len(ids) for split, ids in splits_of(found).items()} == {"labeled": 3, "unlabeled": 3, "val": 2}
    assert all((case.mask is None) == (case.split == "unlabeled") for case in found.cases)
    assert found.note == "images: labeled 3, 3 with a mask; unlabeled 3, 0 with a mask; val 2, 2 with a mask"


def test_knowsam_split_that_lacks_a_mask_is_named(tmp_path):
    layouts.draw_knowsam(tmp_path)
    (tmp_path / "val/mask/007.png").unlink()
    with pytest.raises(DataError, match="1 of 2 images of the split val have no mask, such as 007.png"):
        find_knowsam(Given((tmp_path,)))


def test_knowsam_needs_two_splits_and_masks(tmp_path):
    save_images(tmp_path, "labeled/image/#.png")
    assert "no two folders" in lacks_knowsam(Given((tmp_path,)))
    save_images(tmp_path, "Unlabeled/Image/#.png")
    assert "no mask/" in lacks_knowsam(Given((tmp_path,)))
    save_masks(tmp_path, "labeled/mask/#.png")
    assert lacks_knowsam(Given((tmp_path,))) == ""


def test_covid_qu_ex_keeps_val_and_test_and_takes_the_part_that_is_there(tmp_path):
    layouts.draw_covid(tmp_path)
    part = tmp_path / "Lung Segmentation Data"
    found = find_covid_qu_ex(Given((part,)))
    assert splits_of(found) == {
        None: ["Train__COVID-19__covid_001", "Train__COVID-19__covid_002", "Train__COVID-19__covid_003", "Train__Normal__covid_004"],
        "val": ["Val__COVID-19__covid_005", "Val__Non-COVID__covid_006"],
        "test": ["Test__COVID-19__covid_007", "Test__COVID-19__covid_008"],
    }
    assert found.classes == ("lung",)
    assert "Infection" in lacks_covid_qu_ex(Given((part,), target="infection"))
    with pytest.raises(UsageError, match="lungs and of infections"):
        find_covid_qu_ex(Given((tmp_path,)))


def test_busi_joins_masks_and_leaves_images_without_one_unlabeled(tmp_path, caplog):
    layouts.draw_busi(tmp_path)
    save(tmp_path / "normal/normal (9).png", draw_image(9))
    save(tmp_path / "normal/what_mask.png", draw_image(10))
    found = find_busi(Given((tmp_path,)))
    masks = {case.id: case.mask for case in found.cases}
    assert isinstance(masks["benign__benign (1)"], JoinedFiles) and masks["normal__normal (9)"] is None
    assert "normal__what_mask" not in masks and "left out: 1 masks that belong to no image, such as normal__what_mask" in caplog.text
    assert found.note == "9 images, 8 with a mask, 1 of these joined from several files"


def test_busi_needs_a_mask_beside_its_image(tmp_path):
    save(tmp_path / "a/x.png", draw_image(1))
    save(tmp_path / "b/x_mask.png", draw_image(1))
    assert lacks_busi(Given((tmp_path,))) == "no ID_mask beside an image ID"


def test_class_folders_may_miss_images_and_have_suffixes(tmp_path, caplog):
    save_images(tmp_path, "images/#.png", range(1, 5))
    save_masks(tmp_path, "masks/1. Polyp/#_PO.png", range(1, 4))
    save_masks(tmp_path, "masks/2. Tool/#_TO.png", range(2, 4), lambda number: np.flip(draw_polyp(number)))
    save_masks(tmp_path, "masks/2. Tool/#_TO.png", range(9, 10))
    given = Given((tmp_path / "images",), tmp_path / "masks")
    assert lacks_class_folders(given) == ""
    found = find_class_folders(given)
    assert [case.mask is not None for case in found.cases] == [True, True, True, False]
    assert found.classes == ("1. Polyp", "2. Tool") and "3 of 1. Polyp, 2 of 2. Tool" in found.note
    assert set(np.unique(found.cases[0].mask.read())) == {0, 1} and set(np.unique(found.cases[1].mask.read())) == {0, 1, 2}
    assert "1 masks of 2. Tool belong to no image" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ("images/a/1.png", "masks/a/1.png"),
        ("images/1.png", "masks/1.png"),
        ("images/1.png", "masks/train/1.png"),
        ("images/1.png", "masks/x/1.png", "masks/1.png"),
    ],
    ids=["folders of images", "no folders", "splits", "masks beside folders"],
)
def test_folders_that_are_no_classes(tmp_path, names):
    for name in names:
        save(tmp_path / name, draw_image(1))
    assert lacks_class_folders(Given((tmp_path / "images",), tmp_path / "masks"))


def write_slice(path: Path, **values: object) -> None:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file.create_dataset(name, data=value)


def test_acdc_slices_know_their_patient_and_volume(tmp_path):
    for name in ("patient002_frame01_slice_10", "patient002_frame01_slice_9", "patient001_frame12_slice_1"):
        write_slice(tmp_path / "slices" / f"{name}.h5", image=np.eye(4, dtype=np.float32), label=np.eye(4, dtype=np.uint8))
    found = find_acdc(Given((tmp_path,)))
    assert [(case.group, case.volume, case.slice) for case in found.cases] == [
        ("patient001", "patient001_frame12", 1),
        ("patient002", "patient002_frame01", 9),
        ("patient002", "patient002_frame01", 10),
    ]
    assert found.note == "3 slices of 2 volumes of 2 patients, all with a mask"
    assert find_acdc(Given((tmp_path / "slices",))).cases == found.cases


@pytest.mark.parametrize(
    "values",
    [
        {"image": np.eye(4)},
        {"image": np.zeros((2, 4, 4)), "label": np.eye(4)},
        {"image": np.full((4, 4), np.nan), "label": np.eye(4)},
        {"image": np.zeros((0, 4)), "label": np.eye(4)},
        {"image": np.array([[b"a"]]), "label": np.eye(4)},
    ],
    ids=["no label", "a volume", "no numbers", "empty", "text"],
)
def test_acdc_slice_that_cannot_be_is_named(tmp_path, values):
    write_slice(tmp_path / "slices/patient001_frame01_slice_1.h5", **values)
    case = find_acdc(Given((tmp_path,))).cases[0]
    with pytest.raises(DataError, match="slice_1.h5"):
        case.image.read()
        case.mask.read()


def test_acdc_file_that_is_none_or_leads_elsewhere_is_named(tmp_path):
    path = tmp_path / "slices/patient001_frame01_slice_1.h5"
    write_slice(path, image=np.eye(4))
    with h5py.File(path, "a") as file:
        file["label"] = h5py.ExternalLink("/etc/other.h5", "label")
    case = find_acdc(Given((tmp_path,))).cases[0]
    with pytest.raises(DataError, match="label is a link"):
        case.mask.read()
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="not an HDF5 file"):
        case.image.read()
    assert lacks_acdc(Given((tmp_path / "other",)))
