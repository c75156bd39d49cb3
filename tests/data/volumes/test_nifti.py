"""NIfTI volumes: slices that look alike however the file lies, written back onto its own grid; bad files are two lines."""

import gzip
import tracemalloc

import numpy as np
import pytest
from medical import draw_phantom, nibabel, tilted_affine, write_nifti_file
from reading import assert_named

from samsemi.data.volumes.nifti import NiftiFile, source_of_nifti, write_nifti
from samsemi.data.volumes.volume import lay_on, need_same_grid
from samsemi.errors import DataError, TruncatedFile, WrongValues

VOXELS = draw_phantom(0, (5, 9, 7))[0]


def turned(image, codes: str):
    """The same image with its axes in other directions."""
    orientations = nibabel.orientations
    return image.as_reoriented(orientations.ornt_transform(nibabel.io_orientation(image.affine), orientations.axcodes2ornt(tuple(codes))))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLP", "ARI", "LIA", "PIR"])
def test_slices_are_the_same_however_the_file_lies_and_masks_go_back_onto_its_grid(tmp_path, codes):
    plain = nibabel.Nifti1Image(VOXELS.T, tilted_affine())
    image = turned(plain, codes)
    nibabel.save(plain, tmp_path / "plain.nii")
    nibabel.save(image, tmp_path / "scan.nii.gz")
    volume, reference = NiftiFile(tmp_path / "scan.nii.gz").read(), NiftiFile(tmp_path / "plain.nii").read()
    assert (volume.voxels == reference.voxels).all()
    assert (volume.voxels == VOXELS[:, ::-1, ::-1]).all(), "right of the patient on the left, his front above"
    assert volume.grid.spacing == pytest.approx((3, 0.7, 0.8))
    assert NiftiFile(tmp_path / "scan.nii.gz").grid() == volume.grid

    write_nifti(tmp_path / "mask.nii.gz", (volume.voxels > 100).astype(np.uint8), volume.grid, "ab" * 32)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert np.allclose(mask.affine, image.affine, atol=1e-4)
    assert np.allclose(mask.get_qform(), image.affine, atol=1e-3)
    assert (np.asarray(mask.dataobj) == (np.asarray(image.dataobj) > 100)).all()
    assert mask.get_data_dtype() == np.uint8
    assert source_of_nifti(tmp_path / "mask.nii.gz") == "ab" * 32


@pytest.mark.parametrize("codes", ["LPS", "SLP", "PIR"])
def test_mask_that_runs_otherwise_is_laid_on_its_image(tmp_path, codes):
    image = nibabel.Nifti1Image(VOXELS.T, tilted_affine())
    nibabel.save(image, tmp_path / "scan.nii")
    nibabel.save(turned(image, codes), tmp_path / "mask.nii")
    scan, mask = (NiftiFile(tmp_path / name).read() for name in ("scan.nii", "mask.nii"))
    laid = lay_on(mask, scan.grid)
    assert (laid.voxels == scan.voxels).all()
    need_same_grid(laid.grid, scan.grid, tmp_path / "mask.nii", tmp_path / "scan.nii")


def test_mask_that_does_not_say_how_it_lies_lies_in_its_file_as_the_image_does(tmp_path):
    image = turned(nibabel.Nifti1Image(VOXELS.T, tilted_affine()), "SLP")
    nibabel.save(image, tmp_path / "scan.nii")
    mask = nibabel.Nifti1Image(np.asarray(image.dataobj), None)
    mask.header["qform_code"] = mask.header["sform_code"] = 0
    nibabel.save(mask, tmp_path / "mask.nii")
    scan = NiftiFile(tmp_path / "scan.nii").read()
    assert (lay_on(NiftiFile(tmp_path / "mask.nii").read(), scan.grid).voxels == scan.voxels).all()


@pytest.mark.parametrize(
    ("moved", "shape", "said"), [(1.0, (7, 9, 5), "1 mm beside"), (0.0, (7, 9, 4), "4 x 9 x 7"), (0.01, (7, 9, 5), None)]
)
def test_mask_on_another_grid_is_refused(tmp_path, moved, shape, said):
    write_nifti_file(tmp_path / "scan.nii", VOXELS.T, tilted_affine())
    affine = tilted_affine()
    affine[0, 3] += moved
    write_nifti_file(tmp_path / "mask.nii", np.zeros(shape, np.uint8), affine)
    scan = NiftiFile(tmp_path / "scan.nii").grid()
    laid = lay_on(NiftiFile(tmp_path / "mask.nii").read(), scan)
    if said is None:
        need_same_grid(laid.grid, scan, tmp_path / "mask.nii", tmp_path / "scan.nii")
        return
    with pytest.raises(DataError, match=said) as caught:
        need_same_grid(laid.grid, scan, tmp_path / "mask.nii", tmp_path / "scan.nii")
    assert "grid of its image" in caught.value.hint


@pytest.mark.parametrize(
    ("sides", "plane"),
    [((1, 1, 1), "axial"), ((1, 1, 3), "axial"), ((1, 4, 1), "coronal"), ((4, 1, 1), "sagittal"), ((1, 1, 0.5), "axial")],
)
def test_slices_lie_across_the_thickest_voxels_else_axial(tmp_path, sides, plane):
    write_nifti_file(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), np.diag([*sides, 1.0]))
    grid = NiftiFile(tmp_path / "scan.nii").grid()
    assert grid.plane == plane
    assert grid.spacing[0] == {"axial": sides[2], "coronal": sides[1], "sagittal": sides[0]}[plane]


def test_scaled_values_are_what_the_header_says(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "scan.nii")
    found = NiftiFile(tmp_path / "scan.nii").read().voxels
    assert sorted(found.ravel()) == pytest.approx(sorted(nibabel.load(tmp_path / "scan.nii").get_fdata().ravel()))


def test_scaling_by_no_number_is_named(tmp_path):
    write_nifti_file(tmp_path / "scan.nii", np.zeros((2, 3, 4), np.int16), np.eye(4))
    with open(tmp_path / "scan.nii", "r+b") as file:
        file.seek(112)
        file.write(np.array([1, np.nan], "<f4").tobytes())
    assert_named(NiftiFile(tmp_path / "scan.nii").read, tmp_path / "scan.nii", DataError, "invalid intercept")


def test_single_slice_is_one_whatever_its_axis(tmp_path):
    write_nifti_file(tmp_path / "scan.nii", np.zeros((4, 1, 6), np.int16), np.eye(4))
    assert NiftiFile(tmp_path / "scan.nii").grid().shape == (1, 6, 4)


def changed(packed: bytes) -> bytes:
    """With another checksum."""
    return packed[:-8] + bytes(4) + packed[-4:]


def write_bad(path, kind: str) -> None:
    """A NIfTI file that cannot be read."""
    values = VOXELS.T.astype(np.float32)
    if kind == "NaN":
        values[0, 0, 0] = np.nan
    shape = {"time": (2, 2, 2, 3), "line": (5,)}.get(kind)
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8) if shape else values, np.eye(4))
    if kind == "flat":
        image.set_sform(np.zeros((4, 4)), 1)
        image.header["qform_code"] = 0
    nibabel.save(image, path)
    data = bytearray(gzip.decompress(path.read_bytes()))
    if kind == "absurd":
        data[40:56] = np.array([3, 30000, 30000, 30000, 1, 1, 1, 1], "<i2").tobytes()
    if kind == "promise":
        data[40:56] = np.array([3, 700, 700, 700, 1, 1, 1, 1], "<i2").tobytes()
    if kind == "offset":
        data[108:112] = np.float32(2e9).tobytes()
    if kind == "short":
        data = data[:100]
    packed = gzip.compress(bytes(data))
    endings = {"text": b"no NIfTI" * 100, "cut": packed[: len(packed) // 2], "cut at its end": packed[:-6], "changed": changed(packed)}
    path.write_bytes(endings.get(kind, packed))


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("time", DataError, "2 x 2 x 2 x 3 voxels, which is more than one volume"),
        ("line", DataError, "no image"),
        ("NaN", WrongValues, "1 of 315 voxels are no numbers"),
        ("flat", DataError, "its affine is no grid"),
        ("absurd", DataError, "30000 x 30000 x 30000"),
        ("promise", TruncatedFile, "damaged, its header says"),
        ("offset", DataError, "begin at byte"),
        ("short", TruncatedFile, "shorter than a header"),
        ("text", TruncatedFile, "damaged NIfTI"),
        ("cut", TruncatedFile, "damaged NIfTI"),
        ("cut at its end", TruncatedFile, "damaged NIfTI"),
        ("changed", TruncatedFile, "damaged NIfTI"),
    ],
)
def test_bad_file_is_named_without_filling_memory(tmp_path, kind, error, said):
    write_bad(tmp_path / "scan.nii.gz", kind)
    assert_named(NiftiFile(tmp_path / "scan.nii.gz").read, tmp_path / "scan.nii.gz", error, said)


def test_packed_zeros_are_not_unpacked_beyond_what_the_header_says(tmp_path):
    write_nifti_file(tmp_path / "scan.nii", VOXELS.T, tilted_affine())
    whole = (tmp_path / "scan.nii").read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(whole + bytes(2**27), 1))
    tracemalloc.start()
    assert NiftiFile(tmp_path / "scan.nii.gz").read().voxels.shape == VOXELS.shape
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
