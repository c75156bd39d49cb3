"""prepare, eval and predict of volumes."""

import csv
import gzip
import io
import json
import re

import numpy as np
import pytest
from builders import DATA, USAGE, call, files_in, read_array, refused, succeed, truncate, write_image
from medical import draw_phantom, make_slice, nibabel, save_dicom, tilted_affine, write_nifti_file, write_series

from samsemi.data.dataset import read_dataset
from samsemi.data.volumes.origins import read_origins
from samsemi.errors import DataError
from samsemi.segmenters.checkpoints import save_model
from samsemi.segmenters.segmenter import ModelSpec, Segmenter

SHAPE = (4, 32, 32)
SHARES = ("--val", 0.25, "--test", 0.25)


def write_scans(folder, count: int = 4) -> None:
    """images/pN.nii.gz and masks/pN_seg.nii.gz."""
    for number in range(count):
        voxels, organ = draw_phantom(number, SHAPE)
        write_nifti_file(folder / "images" / f"p{number}.nii.gz", voxels.T, tilted_affine())
        write_nifti_file(folder / "masks" / f"p{number}_seg.nii.gz", organ.T, tilted_affine())


def prepare_scans(folder, *more: object):
    return call("prepare", folder / "images", "--masks", folder / "masks", "--out", folder / "data", *SHARES, *more)


@pytest.fixture
def scans(tmp_path):
    write_scans(tmp_path)
    return tmp_path


@pytest.fixture
def untrained(tmp_path):
    """A model that has learned from images shown from -160 to 240."""
    spec = ModelSpec("tu-lcnet_035", (16, 12, 8, 8, 8), ("background", "foreground"), 32)
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run", Segmenter(spec), {"made_from": {"window": "-160,240"}})
    return tmp_path / "run"


def test_picture_that_is_called_like_a_slice_is_refused(scans):
    write_image(scans / "images" / "p2" / "001.png", np.zeros((32, 32), np.uint8))
    outcome = prepare_scans(scans)
    assert outcome.code == DATA and "p2.nii.gz" in outcome.err and "001.png both have the id 'p2__001'" in outcome.err
    assert "slices of the volume p2 are called p2__000" in outcome.err and not (scans / "data").exists()


def test_slices_are_pictures_and_their_place_is_kept(scans):
    outcome = prepare_scans(scans, "--window", "-160,240")
    assert outcome.code == 0, outcome.err
    assert "4 volumes of 16 slices (axial), 4 with a mask" in outcome.err
    assert "16 images shown from -160 to 240" in outcome.err
    dataset = read_dataset(scans / "data")
    case = dataset.cases["p2__001"]
    assert (case.volume, case.slice, case.group) == ("p2", 1, "p2")
    assert case.spacing == pytest.approx((3, 0.7, 0.8))
    voxels, organ = draw_phantom(2, SHAPE)
    gray = np.rint((voxels[1, ::-1, ::-1].clip(-160, 240) + 160.0) * 255 / 400)
    assert np.abs(read_array(case.image)[..., 0] - gray).max() <= 1
    assert (read_array(case.mask) == organ[1, ::-1, ::-1]).all()
    assert read_origins(dataset.folder)["p2"].grid.shape == SHAPE
    assert read_origins(dataset.folder)["p2"].window == (-160, 240)
    assert (dataset.window, dataset.made_from()["window"]) == ("-160,240", "-160,240")
    assert succeed("check", scans / "data", "--json").result["problems"] == 0
    again = prepare_scans(scans, "--overwrite")
    assert again.code == 0, again.err


def test_pictures_keep_a_manifest_without_the_columns_of_volumes(dataset):
    with open(dataset / "manifest.csv", newline="") as file:
        assert "volume" not in next(csv.reader(file))
    assert not (dataset / "volumes.json").exists()


def test_dicom_images_with_masks_as_pictures(tmp_path):
    """Radiographs: no volume, a patient each, black where the file says white."""
    for number in range(4):
        image = np.random.default_rng(number).integers(0, 200, (20, 30)).astype(np.uint8)
        tags = {"PatientID": f"ID{number}", "PhotometricInterpretation": "MONOCHROME1", "ImagerPixelSpacing": [0.2, 0.1]}
        save_dicom(tmp_path / "images" / f"x{number}", make_slice(image, **tags))
        write_image(tmp_path / "masks" / f"x{number}.png", (image > 100).astype(np.uint8) * 255)
    outcome = prepare_scans(tmp_path)
    assert outcome.code == 0, outcome.err
    case = read_dataset(tmp_path / "data").cases["x3"]
    assert (case.volume, case.group, case.spacing) == (None, "ID3", (0.2, 0.1))
    assert (read_array(case.image)[..., 0] == 255 - image).all()


def zeros(path, shape: tuple[int, ...], affine: np.ndarray) -> None:
    write_nifti_file(path, np.zeros(shape, np.uint8), affine)


def mask_as_picture(folder) -> None:
    (folder / "masks/p1_seg.nii.gz").unlink()
    write_image(folder / "masks/p1_seg.png", np.ones((32, 32), np.uint8))


def rename_masks(folder) -> None:
    for letter, path in zip("abcd", (folder / "masks").iterdir(), strict=True):
        path.rename(path.with_name(f"{letter}.nii.gz"))


BAD = {
    "another grid": ("beside its image", lambda folder: zeros(folder / "masks/p1_seg.nii.gz", SHAPE[::-1], np.eye(4))),
    "another shape": ("a mask of 5 x 32 x 32", lambda folder: zeros(folder / "masks/p1_seg.nii.gz", (32, 32, 5), tilted_affine())),
    "time": ("more than one volume", lambda folder: zeros(folder / "images/p1.nii.gz", (4, 4, 4, 2), np.eye(4))),
    "cut": ("damaged NIfTI", lambda folder: truncate(folder / "images/p1.nii.gz")),
    "NaN": ("no numbers", lambda folder: write_nifti_file(folder / "images/p1.nii.gz", np.full((32, 32, 4), np.nan), tilted_affine())),
    "picture": ("its image .* has 4 slices", mask_as_picture),
    "no pixels": ("DICOM without pixels", lambda folder: save_dicom(folder / "images/x.dcm", without_pixels())),
    "no mask fits": ("no mask is named like an image", rename_masks),
}


def without_pixels():
    dataset = make_slice(np.zeros((4, 4), np.uint8))
    del dataset.PixelData
    return dataset


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_two_lines_and_nothing_is_written(scans, kind):
    said, spoil = BAD[kind]
    spoil(scans)
    before = files_in(scans)
    outcome = prepare_scans(scans, "--quiet")
    assert outcome.code == DATA, outcome.err
    *_, first, second = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: ")
    assert re.search(said, first), first
    assert files_in(scans) == before


def test_patients_in_one_folder_are_two_lines(tmp_path):
    for patient in ("ann", "bob"):
        write_series(tmp_path / "images" / "all", draw_phantom(0, SHAPE)[0], tilted_affine(), patient=patient, suffix=f"{patient}.dcm")
    write_nifti_file(tmp_path / "masks" / "all.nii.gz", draw_phantom(0, SHAPE)[1].T, tilted_affine())
    refused(
        DATA, "prepare", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "data", said=("2 patients in one folder",)
    )


@pytest.mark.parametrize("window", ["sharp", "240,-160", "1,2,3", "nan,3"])
def test_window_that_cannot_be_is_wrong_usage(scans, window):
    refused(USAGE, "prepare", scans / "images", "--masks", scans / "masks", "--out", scans / "data", "--window", window, said=(window,))


def predict(source, run, out, *more: object):
    return succeed("predict", source, "--model", run, "--out", out, "--json", *more)


@pytest.mark.slow
def test_predict_writes_volumes_and_takes_up_those_that_are_left(scans, untrained):
    out = scans / "masks_out"
    assert predict(scans / "images", untrained, out).result["volumes"] == 4
    assert succeed("info", out, "--json").result["volumes"] == 4
    found = nibabel.load(out / "p1.nii.gz")
    assert np.allclose(found.affine, tilted_affine(), atol=1e-4)
    assert found.shape == SHAPE[::-1]
    assert json.loads((out / "predictions.json").read_text())["window"] == "-160,240"
    whole = (out / "p1.nii.gz").read_bytes()
    (out / "p1.nii.gz").write_bytes(whole[:100])
    voxels, _ = draw_phantom(9, SHAPE)
    write_nifti_file(scans / "images" / "p2.nii.gz", voxels.T, tilted_affine())
    result = predict(scans / "images", untrained, out, "--resume").result
    assert (result["written"], result["kept"]) == (2, 2)
    assert (out / "p1.nii.gz").read_bytes() == whole
    assert predict(scans / "images", untrained, out, "--overwrite").result["written"] == 4
    refused(
        3, "predict", scans / "images", "--model", untrained, "--out", out, "--resume", "--window", "lung", said=("window was -160,240",)
    )


@pytest.mark.slow
def test_predict_takes_one_volume_and_skips_bad_ones(scans, untrained):
    one = predict(scans / "images" / "p3.nii.gz", untrained, scans / "one", "--overlays").result
    assert (one["volumes"], one["written"]) == (1, 1)
    assert files_in(scans / "one") >= {"p3.nii.gz", "overlays/p3__000.png", "overlays/p3__003.png", "predictions.json"}
    (scans / "images" / "p0.nii.gz").write_bytes(gzip.compress(b"no NIfTI" * 100))
    some = predict(scans / "images", untrained, scans / "some").result
    assert (some["written"], some["unreadable"]) == (3, 1)


def test_dicom_seg_of_other_volumes_is_wrong_usage(scans, untrained):
    arguments = ("predict", scans / "images", "--model", untrained, "--out", scans / "out")
    refused(USAGE, *arguments, "--dicom-seg", said=("no DICOM series",))


def test_volumes_are_in_mm_only_where_the_voxels_of_all_are_known(scans):
    """Two volumes that are missed, so that hd95 is their diagonal; the distance of slices is known of one."""
    prepare_scans(scans)
    manifest = scans / "data/manifest.csv"
    rows = list(csv.DictReader(io.StringIO(manifest.read_text())))
    named = sorted({row["volume"] for row in rows if row["split"] == "labeled"})
    for row in rows:
        write_image(scans / f"nothing/{row['id']}.png", np.zeros((32, 32), np.uint8))
        row["spacing"] = "0.7 0.8" if row["volume"] == named[0] else row["spacing"]
    with open(manifest, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    arguments = ("eval", scans / "data", "--predictions", scans / "nothing", "--split", "labeled", "--out", scans / "e", "--json")
    result = succeed(*arguments).result
    assert (result["distance_unit"], result["volumes"]["distance_unit"], result["volumes"]["volumes"]) == ("mm", "voxels", 2)
    with open(scans / "e/volumes.csv", newline="") as file:
        assert [float(row["hd95"]) for row in csv.DictReader(file)] == pytest.approx([np.hypot(4, np.hypot(32, 32))] * 2, abs=1e-3)


@pytest.mark.slow
def test_eval_leaves_out_volumes_of_which_slices_are_missing(scans, untrained):
    assert prepare_scans(scans).code == 0
    table = scans / "data" / "manifest.csv"
    rows = list(csv.reader(io.StringIO(table.read_text())))
    tests = [row for row in rows if row[4] == "test"]
    rows.remove(tests[1])
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    done = succeed("eval", scans / "data", "--model", untrained, "--out", scans / "eval", "--json")
    assert "volumes" not in done.result
    assert done.result["distance_unit"] == "mm"
    assert not (scans / "eval" / "volumes.csv").exists()


def test_volumes_json_that_cannot_be_is_named(scans):
    assert prepare_scans(scans).code == 0
    path = scans / "data" / "volumes.json"
    for before, after in (
        ('"shape": [4,', '"shape": [-4,'),
        ("samsemi.volumes/1", "samsemi.volumes/9"),
        ('"p0"', '"../p0"'),
        ("[[2, ", "[[1, "),
    ):
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
        with pytest.raises(DataError, match="volumes.json"):
            read_origins(scans / "data")
        path.write_text(text)
    assert set(read_origins(scans / "data")) == {"p0", "p1", "p2", "p3"}


PLACED = np.diag([0.7, 0.8, 3.0, 1.0])


@pytest.fixture
def hospital(tmp_path):
    """images/pN/study/CT/*.dcm as archives export them, and masks/pN.nii.gz."""
    for number in range(4):
        voxels, organ = draw_phantom(number, SHAPE)
        write_series(tmp_path / f"images/p{number}/study/CT", voxels, PLACED, patient=f"p{number}")
        write_nifti_file(tmp_path / f"masks/p{number}.nii.gz", organ.T, PLACED)
    return tmp_path


def masks_of(folder) -> dict[str, bool]:
    """Whether the first slice of each volume, or the image, has a mask."""
    cases = read_dataset(folder / "data").cases.values()
    return {case.volume or case.id: case.mask is not None for case in cases if not case.slice}


def test_masks_may_be_named_like_a_folder_above_their_series(hospital):
    assert prepare_scans(hospital).code == 0
    assert masks_of(hospital) == {f"p{number}__study__CT": True for number in range(4)}
    case = read_dataset(hospital / "data").cases["p0__study__CT__002"]
    assert (read_array(case.mask) == draw_phantom(0, SHAPE)[1][2]).all()


def test_of_several_series_a_mask_belongs_to_the_one_it_lies_on(hospital):
    """The others, scouts and reports of doses would make the whole patient unlabeled."""
    folder = hospital / "images/p1/study/CT"
    elsewhere = PLACED + np.array([[0, 0, 0, 9.0]] + [[0] * 4] * 3)
    write_series(folder, draw_phantom(1, SHAPE)[0] + 5, elsewhere, "p1", "b.dcm", SeriesInstanceUID="1.2.9", SeriesNumber=4)
    save_dicom(folder / "dose.dcm", make_slice(np.eye(32, dtype=np.uint8), PatientID="p1", SeriesInstanceUID="1.2.7"))
    outcome = prepare_scans(hospital)
    assert "left out: 2 series or single images without a mask" in outcome.err
    assert masks_of(hospital) == {f"p{number}__study__CT" + "__s3" * (number == 1): True for number in range(4)}


def test_mask_that_fits_several_series_is_refused(hospital):
    folder = hospital / "images/p1/study/CT"
    write_series(folder, draw_phantom(1, SHAPE)[0] + 5, PLACED, "p1", "b.dcm", SeriesInstanceUID="1.2.9", SeriesNumber=4)
    outcome = prepare_scans(hospital)
    assert outcome.code == DATA
    assert "masks/p1.nii.gz: fits p1__study__CT__s3, p1__study__CT__s4" in outcome.err
    assert "hint: name it like its series, such as p1__study__CT__s3.nii.gz" in outcome.err


def test_masks_that_do_not_say_how_they_lie_are_said_to_be_so(hospital):
    for number in range(4):
        write_nifti_file(hospital / f"masks/p{number}.nii.gz", draw_phantom(number, SHAPE)[1].T, None)
    assert "16 masks of files that do not say how they lie" in prepare_scans(hospital).err
