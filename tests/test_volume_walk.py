"""A new user's walk: DICOM of several patients with NIfTI masks, all the way to predictions on the grid of their source."""

import csv
import json

import numpy as np
import pytest
from builders import MINING, NETWORK, Outcome, succeed
from medical import draw_phantom, nibabel, tilted_affine, write_nifti_file, write_series

from samsemi.data.volumes.dicom_seg import SegFile, fill_up
from samsemi.data.volumes.nifti import NiftiFile
from samsemi.data.volumes.volume import lay_on

pytestmark = pytest.mark.slow
PATIENTS = 6


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """images/PATIENT/*.dcm and masks/PATIENT_liver.nii.gz, these with x and y the other way round, as other tools write them."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(PATIENTS):
        voxels, organ = draw_phantom(number)
        affine = tilted_affine((12, -7, 3 * number))
        write_series(folder / "images" / f"p{number}", voxels, affine, patient=f"ID{number}", suffix="" if number % 2 else ".dcm")
        mirrored = nibabel.Nifti1Image(organ.T, affine).as_reoriented(np.array([[0, -1], [1, -1], [2, 1]]))
        write_nifti_file(folder / "masks" / f"p{number}_liver.nii.gz", np.asarray(mirrored.dataobj), mirrored.affine)
    return folder


@pytest.fixture(scope="module")
def walk(scans, tmp_path_factory) -> dict[str, Outcome]:
    """What every command of the walk said, by its name; ``folder`` has what they made."""
    folder = tmp_path_factory.mktemp("walk")
    data, warm, store, better = folder / "data", folder / "warm", folder / "store.h5", folder / "better"
    shares = ("--labeled", 3, "--val", 0.17, "--test", 0.17)
    said = {"folder": folder}
    said["prepare"] = succeed(
        *("prepare", scans / "images", "--masks", scans / "masks", "--out", data, "--classes", "liver", "--window", "-160,240", "--json"),
        *shares,
    )
    said["check"] = succeed("check", data, "--json")
    said["warmstart"] = succeed("warmstart", data, "--out", warm, *NETWORK, "--iterations", 40, "--validate-every", 20, "--json")
    said["mine"] = succeed("mine", data, "--model", warm, "--out", store, *MINING, "--min-area", 16, "--json")
    said["finetune"] = succeed(
        *("finetune", data, "--model", warm, "--store", store, "--out", better, "--iterations", 8, "--batch-size", 4, "--json")
    )
    said["eval"] = succeed("eval", data, "--model", better, "--out", folder / "eval", "--json")
    said["predict"] = succeed("predict", scans / "images", "--model", better, "--out", folder / "predicted", "--dicom-seg", "--json")
    return said


def test_prepare_keeps_patients_whole_and_knows_the_place_of_each_slice(walk):
    assert walk["prepare"].result["cases"] == 6 * PATIENTS
    assert walk["prepare"].result["groups"] == PATIENTS
    assert walk["prepare"].result["splits"] == {"labeled": 18, "unlabeled": 6, "val": 6, "test": 6}, "a number is one of patients"
    assert "labeled: 18 slices of 3 patients; unlabeled: 6 slices of 1 patient;" in walk["prepare"].err
    with open(walk["folder"] / "data/manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["group"] for row in rows} == {f"ID{number}" for number in range(PATIENTS)}
    assert {row["spacing"] for row in rows} == {"3 0.7 0.8"}
    assert [row["id"] for row in rows[:2]] == ["p0__000", "p0__001"]
    assert walk["check"].result["problems"] == 0


def test_eval_measures_whole_volumes_in_mm(walk):
    metrics = json.loads((walk["folder"] / "eval/metrics.json").read_text())
    assert metrics["distance_unit"] == metrics["volumes"]["distance_unit"] == "mm"
    assert metrics["volumes"]["volumes"] == 1
    assert metrics["mean"]["dice"]["n"] >= 4
    assert metrics["volumes"]["mean"]["dice"]["mean"] > 0.7
    with open(walk["folder"] / "eval/volumes.csv", newline="") as file:
        [row] = list(csv.DictReader(file))
    assert row["volume"].removeprefix("p") == row["group"].removeprefix("ID")
    assert row["class"] == "liver"
    assert float(row["dice"]) == pytest.approx(metrics["volumes"]["mean"]["dice"]["mean"], abs=1e-5)


def test_predictions_lie_on_the_grid_of_their_source(walk, scans):
    """In the same place of the patient as the mask that was drawn, though that file runs the other way."""
    for number in range(PATIENTS):
        found = nibabel.load(walk["folder"] / f"predicted/p{number}.nii.gz")
        voxels, organ = draw_phantom(number)
        assert found.shape == voxels.T.shape
        assert np.allclose(found.affine, tilted_affine((12, -7, 3 * number)), atol=1e-3)
        predicted = np.asarray(found.dataobj)
        assert 2 * (predicted & organ.T).sum() / (predicted.sum() + organ.sum()) > 0.7


def test_dicom_seg_holds_the_same_masks(walk):
    highdicom = pytest.importorskip("highdicom")
    segment = highdicom.seg.segread(walk["folder"] / "predicted/p1.seg.dcm")
    assert segment.PatientID == "ID1"
    assert segment.get_segment_description(1).SegmentLabel == "liver"
    nifti = NiftiFile(walk["folder"] / "predicted/p1.nii.gz").read()
    there = SegFile(walk["folder"] / "predicted/p1.seg.dcm").read()
    assert nifti.voxels.any()
    assert (fill_up(lay_on(there, nifti.grid), nifti.grid).voxels == nifti.voxels).all()


def test_predictions_of_the_data_set_are_the_same(walk, scans):
    out = walk["folder"] / "again"
    succeed("predict", walk["folder"] / "data", "--model", walk["folder"] / "better", "--out", out, "--batch-size", 6)
    for number in range(PATIENTS):
        one, other = (nibabel.load(folder / f"p{number}.nii.gz") for folder in (out, walk["folder"] / "predicted"))
        assert (one.affine == other.affine).all()
        assert (np.asarray(one.dataobj) != np.asarray(other.dataobj)).mean() < 1e-3
        assert (out / f"p{number}__000.png").exists()
