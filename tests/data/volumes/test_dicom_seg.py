"""DICOM-SEG: a segment is of the class that has its name, whatever its number in its file."""

import numpy as np
import pytest
from medical import tilted_affine, write_nifti_file, write_series

from samsemi.data.layouts.given import Given
from samsemi.data.layouts.volumes import find_stacks
from samsemi.data.volumes.dicom import DicomFrames
from samsemi.data.volumes.dicom_seg import write_seg
from samsemi.data.volumes.find import find_volumes
from samsemi.errors import DataError

highdicom = pytest.importorskip("highdicom", reason="samsemi[medical] is not installed")
VOXELS = np.arange(3 * 6 * 5).reshape(3, 6, 5)
LIVER, TUMOR = np.zeros((2, 3, 6, 5), dtype=np.uint8)
LIVER[:, 1:3, 1:4], TUMOR[1, 4, 0:2] = 1, 1


def draw(folder, name: str, classes: dict[str, np.ndarray]) -> None:
    """A series, and masks whose segments are numbered in the order of ``classes``."""
    write_series(folder / "images" / name, VOXELS, tilted_affine(), patient=name)
    [frames] = find_volumes(folder / "images" / name).values()
    assert isinstance(frames, DicomFrames)
    label = sum(number * shape for number, shape in enumerate(classes.values(), start=1))
    (folder / "masks").mkdir(exist_ok=True)
    write_seg(folder / f"masks/{name}.dcm", np.asarray(label, dtype=np.uint8), frames, ("background", *classes), name)


def labels_of(folder):
    found = find_stacks(Given((folder / "images",), folder / "masks"))
    return found.classes, {case.id: case.mask.read() for case in found.cases if case.mask}


def test_segments_are_classes_by_their_names(tmp_path):
    draw(tmp_path, "v1", {"liver": LIVER, "tumor": TUMOR})
    draw(tmp_path, "v2", {"tumor": TUMOR, "liver": LIVER})
    draw(tmp_path, "v3", {"tumor": TUMOR})
    classes, labels = labels_of(tmp_path)
    assert classes == ("liver", "tumor")
    for index in range(3):
        both = LIVER[index] + 2 * TUMOR[index]
        assert np.array_equal(labels[f"v1__00{index}"], both) and np.array_equal(labels[f"v2__00{index}"], both)
        assert np.array_equal(labels[f"v3__00{index}"], 2 * TUMOR[index])


def test_segments_beside_masks_of_numbers_must_be_numbered_alike(tmp_path):
    draw(tmp_path, "v1", {"liver": LIVER, "tumor": TUMOR})
    draw(tmp_path, "v2", {"liver": LIVER, "tumor": TUMOR})
    write_series(tmp_path / "images/v3", VOXELS, tilted_affine(), patient="v3")
    write_nifti_file(tmp_path / "masks/v3.nii", LIVER.T, tilted_affine())
    classes, labels = labels_of(tmp_path)
    assert classes is None and np.array_equal(labels["v2__001"], LIVER[1] + 2 * TUMOR[1])
    draw(tmp_path, "v2", {"tumor": TUMOR})
    with pytest.raises(DataError, match="numbered otherwise"):
        labels_of(tmp_path)


def test_segments_that_overlap_are_named(tmp_path, monkeypatch):
    draw(tmp_path, "v1", {"liver": LIVER, "tumor": TUMOR})

    def overlap(*_: object, **__: object) -> None:
        raise RuntimeError("Cannot combine segments because segments overlap.")

    monkeypatch.setattr(highdicom.seg.Segmentation, "get_volume", overlap)
    with pytest.raises(DataError, match=r"v1.dcm: segments overlap"):
        labels_of(tmp_path)
