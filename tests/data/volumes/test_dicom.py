"""DICOM: series in the order of their slices, values as they are meant, every compression that can be had; bad files are two lines."""

import io

import numpy as np
import pytest
from builders import ROOT
from medical import draw_phantom, make_slice, pydicom, save_dicom, tilted_affine, write_nifti_file, write_series
from PIL import Image
from reading import assert_named

from samsemi.data.volumes import dicom_headers, volume
from samsemi.data.volumes.dicom import DicomFrames
from samsemi.data.volumes.dicom_headers import is_dicom
from samsemi.data.volumes.find import find_volumes, open_volume
from samsemi.data.volumes.nifti import NiftiFile, stored_affine
from samsemi.data.volumes.window import choose_window, show_slice
from samsemi.errors import DataError, TruncatedFile, UsageError
from samsemi.options.window import parse_window

VOXELS = draw_phantom(0, (5, 9, 7))[0]
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
GRADIENT = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def read_one(path) -> volume.Volume:
    source = open_volume(path)
    assert isinstance(source, DicomFrames)
    return source.read()


def test_series_is_ordered_by_where_its_slices_lie(tmp_path):
    """Neither by file names nor by InstanceNumber; and in space it is what the NIfTI file of it is."""
    write_series(tmp_path / "scan", VOXELS, tilted_affine(), InstanceNumber=7)
    write_nifti_file(tmp_path / "scan.nii", VOXELS.T, tilted_affine())
    found = find_volumes(tmp_path / "scan")
    assert set(found) == {"scan"}
    read = found["scan"].read()
    assert (read.voxels == VOXELS).all()
    assert np.allclose(stored_affine(read.grid), tilted_affine(), atol=1e-5)
    assert read.grid.spacing == pytest.approx((3, 0.7, 0.8))
    upright = NiftiFile(tmp_path / "scan.nii").read()
    assert (upright.voxels == read.voxels[:, ::-1, ::-1]).all(), "this series runs against the patient's left and back"


def test_files_without_suffix_are_known_by_their_bytes(tmp_path):
    write_series(tmp_path / "scan", VOXELS, tilted_affine(), suffix="")
    (tmp_path / "scan" / "README").write_text("no image")
    assert find_volumes(tmp_path)["scan"].grid().shape == VOXELS.shape
    assert not is_dicom(tmp_path / "scan" / "README")


def test_rescaled_values_and_own_window(tmp_path):
    pixels = np.array([[0, 100], [1000, 2000]], dtype=np.uint16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": [40, 500], "WindowWidth": [401, 2000]}
    save_dicom(tmp_path / "a.dcm", make_slice(pixels, **tags))
    found = read_one(tmp_path / "a.dcm")
    assert found.voxels.tolist() == [[[-1000, -800], [1000, 3000]]]
    assert choose_window(found, None) == (-160.5, 239.5)
    assert choose_window(found, parse_window("lung")) == (-1350, 150)
    shown = show_slice(found, 0, (-160.5, 239.5))
    assert shown[..., 0].tolist() == [[0, 0], [255, 255]]
    assert show_slice(found, 0, (-1000, 3000))[..., 1].tolist() == [[0, 13], [128, 255]]


def test_monochrome1_is_shown_inverted(tmp_path):
    save_dicom(tmp_path / "a.dcm", make_slice(GRADIENT, PhotometricInterpretation="MONOCHROME1", Modality="CR"))
    found = read_one(tmp_path / "a.dcm")
    assert (show_slice(found, 0, choose_window(found, None))[..., 0] == 255 - GRADIENT).all()


def test_single_images_have_the_patient_and_the_spacing(tmp_path):
    for name in ("a", "b"):
        save_dicom(tmp_path / f"{name}.dcm", make_slice(GRADIENT, PatientID=f"ID{name}", Modality="DX", ImagerPixelSpacing=[0.2, 0.1]))
    found = find_volumes(tmp_path)
    assert set(found) == {"a", "b"}
    assert not found["a"].is_volume
    assert found["a"].patient == "IDa"
    assert found["a"].grid().spacing == (0.2, 0.1)


def test_window_around_0_is_a_window(tmp_path):
    pixels = np.array([[0, 100], [1000, 2000]], dtype=np.uint16)
    save_dicom(tmp_path / "a.dcm", make_slice(pixels, RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=400))
    assert choose_window(read_one(tmp_path / "a.dcm"), None) == (-200, 199)


def test_colors_of_16_bits_of_which_12_are_used_are_not_dark(tmp_path):
    colors = np.array([[[0, 2048, 4095], [16, 32, 48]]], dtype=np.uint16)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsStored": 12, "HighBit": 11}
    save_dicom(tmp_path / "a.dcm", make_slice(colors, **tags))
    assert read_one(tmp_path / "a.dcm").voxels.tolist() == [[[[0, 128, 255], [1, 2, 3]]]]


def test_colors_and_palettes_are_rgb(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    colors = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    save_dicom(tmp_path / "rgb.dcm", make_slice(rgb, Rows=6, Columns=5, **colors))
    found = read_one(tmp_path / "rgb.dcm")
    assert (show_slice(found, 0, choose_window(found, None)) == rgb).all()
    palette = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    tables = {
        f"{name}PaletteColorLookupTableData": (np.arange(256, dtype="<u2") * 257 // (k + 1)).tobytes()
        for k, name in enumerate(("Red", "Green", "Blue"))
    }
    save_dicom(tmp_path / "palette.dcm", make_slice(GRADIENT, PhotometricInterpretation="PALETTE COLOR", **palette, **tables))
    found = read_one(tmp_path / "palette.dcm")
    assert show_slice(found, 0, choose_window(found, None))[1, 0].tolist() == [32, 16, 10]


def test_jpeg_in_colors_is_rgb(tmp_path):
    drawn = np.zeros((16, 16, 3), np.uint8)
    drawn[:, :8], drawn[:, 8:] = (200, 40, 30), (20, 90, 180)
    packed = io.BytesIO()
    Image.fromarray(drawn).save(packed, format="JPEG", quality=95, subsampling=0)
    colors = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
    dataset = make_slice(drawn, Rows=16, Columns=16, **colors)
    dataset.PixelData = pydicom.encaps.encapsulate([packed.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    save_dicom(tmp_path / "a.dcm", dataset)
    assert np.abs(read_one(tmp_path / "a.dcm").voxels[0].astype(int) - drawn).max() <= 6


@pytest.mark.parametrize("tags", [{"ImageOrientationPatient": [0] * 6}, {"PixelSpacing": [0, 1]}, {"ImagePositionPatient": [1e30, 0, 0]}])
def test_slices_whose_place_cannot_be_are_images(tmp_path, tags):
    write_series(tmp_path, VOXELS, tilted_affine(), **tags)
    assert {source.grid().shape for source in find_volumes(tmp_path).values()} == {(1, 9, 7)}


def enhanced(voxels: np.ndarray, affine: np.ndarray):
    """All slices in one file, backwards, their places in functional groups."""
    place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    dataset = make_slice(voxels[::-1].copy(), Rows=voxels.shape[1], Columns=voxels.shape[2], NumberOfFrames=len(voxels))

    def item(**values):
        found = pydicom.Dataset()
        for name, value in values.items():
            setattr(found, name, value)
        return found

    x, y = (place[:3, axis] / np.linalg.norm(place[:3, axis]) for axis in (0, 1))
    shared = {
        "PixelMeasuresSequence": [item(PixelSpacing=[0.7, 0.8])],
        "PlaneOrientationSequence": [item(ImageOrientationPatient=[float(f"{value:.9g}") for value in (*x, *y)])],
        "PixelValueTransformationSequence": [item(RescaleSlope=1, RescaleIntercept=-5)],
    }
    dataset.SharedFunctionalGroupsSequence = [item(**shared)]
    places = [[float(f"{value:.9g}") for value in (place @ (0, 0, index, 1))[:3]] for index in reversed(range(len(voxels)))]
    dataset.PerFrameFunctionalGroupsSequence = [item(PlanePositionSequence=[item(ImagePositionPatient=where)]) for where in places]
    return dataset


def test_frames_of_one_file_are_ordered_by_their_places(tmp_path):
    save_dicom(tmp_path / "a.dcm", enhanced(VOXELS, tilted_affine()))
    found = read_one(tmp_path / "a.dcm")
    assert (found.voxels == VOXELS - 5).all()
    assert np.allclose(stored_affine(found.grid), tilted_affine(), atol=1e-5)


def test_frames_without_places_stay_in_order(tmp_path):
    save_dicom(tmp_path / "cine.dcm", make_slice(VOXELS, Rows=9, Columns=7, NumberOfFrames=5, Modality="US"))
    source = open_volume(tmp_path / "cine.dcm")
    assert source.is_volume
    assert (source.read().voxels == VOXELS).all()
    assert source.grid().affine is None


def compressed(name: str, pixels: np.ndarray):
    """A slice in one of the compressed transfer syntaxes, and how much its values may differ."""
    dataset = make_slice(pixels)
    if name in ("RLELossless", "JPEGLSLossless"):
        dataset.compress(getattr(pydicom.uid, name), encoding_plugin="pydicom" if name == "RLELossless" else "pyjpegls")
        return dataset, 0
    packed, jpeg = io.BytesIO(), name == "JPEGBaseline8Bit"
    how = {"format": "JPEG", "quality": 95} if jpeg else {"format": "JPEG2000", "no_jp2": True, "irreversible": False}
    Image.fromarray(pixels).save(packed, **how)
    dataset.PixelData = pydicom.encaps.encapsulate([packed.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, name)
    return dataset, 4 if jpeg else 0


@pytest.mark.parametrize("name", ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless", "JPEGBaseline8Bit"])
def test_compressed_pixels_are_decoded(tmp_path, name):
    dataset, difference = compressed(name, GRADIENT)
    save_dicom(tmp_path / "a.dcm", dataset)
    found = read_one(tmp_path / "a.dcm")
    assert np.abs(found.voxels[0].astype(int) - GRADIENT).max() <= difference


@pytest.mark.parametrize("kind", ["JPEGExtended12Bit", "MPEG2MPML"])
def test_compression_without_a_decoder_is_refused_by_its_name(tmp_path, kind):
    dataset, _ = compressed("JPEGBaseline8Bit", GRADIENT)
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, kind)
    dataset.BitsStored = 12
    save_dicom(tmp_path / "a.dcm", dataset)
    with pytest.raises(DataError, match="compressed as .*, which is not read") as caught:
        read_one(tmp_path / "a.dcm")
    assert dataset.file_meta.TransferSyntaxUID.name in caught.value.message
    assert "gdcmconv" in caught.value.hint


@pytest.mark.parametrize("kind", ["gray", "rgb"])
def test_lossless_jpeg_that_gdcm_wrote_is_read(kind):
    y, x = np.mgrid[:12, :10]
    drawn = {"gray": (x * 397 + y * y * 211) % 4096 - 1000, "rgb": np.stack([x * 20, y * 17, (x * y * 7) % 256], axis=-1)}
    assert (read_one(ROOT / f"tests/files/lossless_jpeg_{kind}.dcm").voxels == drawn[kind]).all()


def test_series_are_told_apart_in_one_folder(tmp_path):
    write_series(tmp_path / "p" / "scan", VOXELS, tilted_affine(), SeriesInstanceUID="1.2.9", SeriesNumber=2, suffix="a.dcm")
    write_series(tmp_path / "p" / "scan", VOXELS[:3] + 1, tilted_affine(), SeriesInstanceUID="1.2.8", SeriesNumber=5, suffix="b.dcm")
    save_dicom(tmp_path / "p" / "scan" / "scout.dcm", make_slice(GRADIENT, SeriesInstanceUID="1.2.9"))
    found = find_volumes(tmp_path)
    assert {name: source.grid().shape[0] for name, source in found.items()} == {"p__scan__s2": 5, "p__scan__s5": 3, "p__scan__scout": 1}


def test_two_slices_at_one_place_are_refused(tmp_path):
    write_series(tmp_path, VOXELS, tilted_affine(), suffix="a.dcm")
    write_series(tmp_path, VOXELS, tilted_affine(), suffix="b.dcm")
    [found] = find_volumes(tmp_path).values()
    with pytest.raises(DataError, match="lie at the same place") as caught:
        found.grid()
    assert "phase" in caught.value.hint


def test_missing_slices_are_warned_of(tmp_path, caplog):
    write_series(tmp_path, VOXELS, tilted_affine())
    (tmp_path / "0002.dcm").unlink()
    find_volumes(tmp_path)
    assert "distances of 3 to 6 mm between slices" in caplog.text


def test_series_of_several_patients_in_one_folder_are_refused(tmp_path):
    for patient in ("ann", "bob"):
        write_series(tmp_path, VOXELS, tilted_affine(), patient=patient, suffix=f"{patient}.dcm")
    [found] = find_volumes(tmp_path).values()
    with pytest.raises(DataError, match="series of 2 patients in one folder") as caught:
        found.grid()
    assert "folder of its own" in caught.value.hint


def test_reports_among_images_are_left_out_and_alone_refused(tmp_path, caplog):
    report = make_slice(GRADIENT, Rows=None, Columns=None, Modality="SR", SOPClassUID=REPORT)
    del report.PixelData
    save_dicom(tmp_path / "report.dcm", report)
    [found] = find_volumes(tmp_path).values()
    with pytest.raises(DataError, match="DICOM without pixels"):
        found.read()
    save_dicom(tmp_path / "image.dcm", make_slice(GRADIENT))
    assert set(find_volumes(tmp_path)) == {"image"}
    assert "1 DICOM files that are no images" in caplog.text


def test_series_with_a_damaged_file_cannot_be_read_and_images_beside_one_can(tmp_path):
    write_series(tmp_path / "scan", VOXELS, tilted_affine())
    for name in ("a", "b"):
        save_dicom(tmp_path / "rays" / f"{name}.dcm", make_slice(GRADIENT, Modality="DX"))
    for path in (tmp_path / "scan" / "0002.dcm", tmp_path / "rays" / "b.dcm"):
        path.write_bytes(path.read_bytes()[:140])
    found = find_volumes(tmp_path)
    assert set(found) == {"scan", "rays__a", "rays__b"}
    assert found["rays__a"].read().voxels.shape == (1, 8, 8)
    for name in ("scan", "rays__b"):
        with pytest.raises(DataError, match="damaged DICOM"):
            found[name].read()


def bad_bytes(kind: str) -> bytes:
    dataset = make_slice(GRADIENT, BitsAllocated=8)
    if kind == "no pixels":
        del dataset.PixelData
    if kind == "absurd":
        dataset.Rows = dataset.Columns = 65535
        dataset.NumberOfFrames = 10000
    if kind == "frames":
        dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 1, 1, 20_000_000
    if kind == "promise":
        dataset.Rows = 60
    if kind == "broken stream":
        dataset, _ = compressed("JPEG2000Lossless", GRADIENT)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    data = file.getvalue()
    return {"cut in the header": data[:200], "cut in the pixels": data[:-30], "not DICOM": b"x" * 500}.get(kind, data)


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("no pixels", DataError, "DICOM without pixels"),
        ("absurd", DataError, "10000 x 65535 x 65535"),
        ("frames", DataError, "20000000 frames"),
        ("promise", TruncatedFile, "damaged"),
        ("broken stream", TruncatedFile, "damaged pixels"),
        ("cut in the header", TruncatedFile, "damaged DICOM"),
        ("cut in the pixels", TruncatedFile, "damaged"),
        ("not DICOM", DataError, "not DICOM"),
    ],
)
def test_bad_file_is_named_without_filling_memory(tmp_path, kind, error, said):
    (tmp_path / "a.dcm").write_bytes(bad_bytes(kind))
    assert_named(lambda: read_one(tmp_path / "a.dcm"), tmp_path / "a.dcm", error, said)


@pytest.mark.parametrize("rows", [GRADIENT.shape[0] // 2, GRADIENT.shape[0] // 4])
def test_file_with_more_pixels_than_its_header_says_is_damaged(tmp_path, rows):
    save_dicom(tmp_path / "a.dcm", make_slice(GRADIENT, Rows=rows))
    assert_named(lambda: read_one(tmp_path / "a.dcm"), tmp_path / "a.dcm", TruncatedFile, "damaged")


def test_missing_library_is_asked_for_by_its_command(tmp_path, monkeypatch):
    save_dicom(tmp_path / "a.dcm", make_slice(GRADIENT))

    def lacks(name: str):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(volume, "import_module", lacks)
    with pytest.raises(UsageError, match="pydicom, which is not installed") as caught:
        open_volume(tmp_path / "a.dcm")
    assert caught.value.hint == "run: pip install 'samsemi[medical]'"


def save_deflated(path, **values) -> None:
    dataset = make_slice(GRADIENT, **values)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    save_dicom(path, dataset)


def test_deflated_file_is_read(tmp_path):
    save_deflated(tmp_path / "a.dcm")
    assert (read_one(tmp_path / "a.dcm").voxels == GRADIENT).all()


def test_deflated_file_that_would_fill_the_memory_is_refused_before_it_is_inflated_whole(tmp_path, monkeypatch):
    save_deflated(tmp_path / "a.dcm", ImageComments="0" * 10_000)
    assert (tmp_path / "a.dcm").stat().st_size < 2000
    monkeypatch.setattr(dicom_headers, "MOST_BYTES", 9000)
    with pytest.raises(DataError, match="inflated"):
        open_volume(tmp_path / "a.dcm")
