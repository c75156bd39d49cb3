"""Volumes as scanners and annotators write them, made by the test: DICOM series, NIfTI files, a phantom that no mirror leaves alone."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pydicom = pytest.importorskip("pydicom", reason="samsemi[medical] is not installed")
nibabel = pytest.importorskip("nibabel", reason="samsemi[medical] is not installed")

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def draw_phantom(seed: int, shape: tuple[int, int, int] = (6, 48, 48)) -> tuple[np.ndarray, np.ndarray]:
    """(D, H, W) int16 of Hounsfield units, and uint8 of the organ in it: an ellipsoid off the center, brighter than its body."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij"))
    center = np.array([0.0, -0.2, 0.3]) + rng.uniform(-0.1, 0.1, 3)
    organ = (((grid - center[:, None, None, None]) / np.array([0.9, 0.35, 0.45])[:, None, None, None]) ** 2).sum(axis=0) < 1
    body = np.hypot(grid[1], grid[2]) < 0.95
    values = np.where(organ, 140, np.where(body, 20, -900)) + rng.normal(0, 10, shape) + 20 * grid[1]
    return values.astype(np.int16), organ.astype(np.uint8)


def tilted_affine(degrees: tuple[float, float, float] = (12, -7, 20)) -> np.ndarray:
    """4 x 4 of voxels of 0.8 x 0.7 x 3 mm, axes x y z, turned out of all planes."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag([0.8, 0.7, 3.0])
    affine[:3, 3] = -31, 12, 55
    return affine


def write_nifti_file(path: Path, values: np.ndarray, affine: np.ndarray | None) -> None:
    """x y z values as they stand in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def make_slice(pixels: np.ndarray, **values: object):
    """One CT slice as a pydicom data set; ``values`` by keyword, None to leave one out."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = EXPLICIT
    meta.MediaStorageSOPClassUID = CT
    meta.MediaStorageSOPInstanceUID = values.get("SOPInstanceUID", pydicom.uid.generate_uid())
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    known = {
        "SOPClassUID": CT,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CT",
        "PatientID": "patient",
        "PatientName": "",
        "PatientBirthDate": "",
        "PatientSex": "",
        "AccessionNumber": "",
        "StudyID": "",
        "StudyDate": "",
        "StudyTime": "",
        "ReferringPhysicianName": "",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "SeriesNumber": 3,
        "InstanceNumber": 1,
        "Manufacturer": "test",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "HighBit": 8 * pixels.dtype.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    for name, value in (known | values).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    return dataset


def save_dicom(path: Path, dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_series(
    folder: Path, voxels: np.ndarray, affine: np.ndarray, patient: str = "patient", suffix: str = ".dcm", **values: object
) -> None:
    """(D, H, W) Hounsfield units as a series, its files named against the order of its slices; ``affine`` is of x y z -> mm in RAS+."""
    place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    x, y = (place[:3, axis] / np.linalg.norm(place[:3, axis]) for axis in (0, 1))
    for index, pixels in enumerate(voxels):
        spacing = [float(f"{np.linalg.norm(place[:3, axis]):.6g}") for axis in (1, 0)]
        dataset = make_slice(
            (pixels.astype(np.int32) + 1024).astype(np.uint16),
            **{
                "PatientID": patient,
                "SeriesInstanceUID": f"1.2.3.4.{int.from_bytes(patient.encode()[-4:])}",
                "SOPInstanceUID": f"1.2.3.4.{int.from_bytes(patient.encode()[-4:])}.{index + 1}",
                "InstanceNumber": index + 1,
                "RescaleSlope": 1,
                "RescaleIntercept": -1024,
                "ImagePositionPatient": [float(f"{value:.9g}") for value in (place @ (0, 0, index, 1))[:3]],
                "ImageOrientationPatient": [float(f"{value:.9g}") for value in (*x, *y)],
                "PixelSpacing": spacing,
                "SliceThickness": 3,
                **values,
            },
        )
        save_dicom(folder / f"{len(voxels) - index:04d}{suffix}", dataset)
