"""A sample of every format of volumes, and of images that Pillow does not know: four volumes of two slices."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from foreign.world import Sample, draw_image, draw_polyp, save
from medical import EXPLICIT, make_slice, pydicom, save_dicom, write_nifti_file, write_series
from PIL import Image

from samsemi.data.volumes.dicom import DicomFrames, group_frames
from samsemi.data.volumes.dicom_headers import read_frames
from samsemi.data.volumes.dicom_seg import write_seg

VOLUMES, SLICES = range(1, 5), range(2)
AXIAL = np.diag([-1.0, -1.0, 3.0, 1.0])
PAIRS = "images --masks masks"


def values_of(volume: int) -> np.ndarray:
    """(D, H, W) int16."""
    return np.stack([draw_image(10 * volume + index)[..., 0].astype(np.int16) * 5 - 600 for index in SLICES])


def masks() -> np.ndarray:
    """(D, H, W) uint8, the same for all volumes."""
    return np.stack([slice_label(index) for index in SLICES])


def slice_label(index: int) -> np.ndarray:
    return draw_polyp(index + 1)


def in_nifti(folder: Path, mask: Callable[[], np.ndarray] = masks, place: np.ndarray = AXIAL) -> None:
    for volume in VOLUMES:
        write_nifti_file(folder / f"images/v{volume}.nii.gz", values_of(volume).T, AXIAL)
        write_nifti_file(folder / f"masks/v{volume}.nii.gz", mask().T, place)


def in_time(folder: Path) -> None:
    in_nifti(folder)
    write_nifti_file(folder / "images/v1.nii.gz", np.zeros((8, 8, 4, 20), np.int16), AXIAL)


def in_dicom(folder: Path, patient: str = "p#", place: str = "images/v#") -> None:
    """Series with masks as NIfTI; # stands for the number."""
    for volume in VOLUMES:
        names = (text.replace("#", str(volume)) for text in (place, patient))
        write_series(folder / next(names), values_of(volume), AXIAL, patient=next(names), suffix=f"-{volume}.dcm")
        write_nifti_file(folder / f"masks/v{volume}.nii.gz", masks().T, AXIAL)


def in_dicom_seg(folder: Path) -> None:
    in_dicom(folder)
    for volume in VOLUMES:
        (folder / f"masks/v{volume}.nii.gz").unlink()
        [frames] = group_frames([frame for path in sorted((folder / f"images/v{volume}").iterdir()) for frame in read_frames(path)])
        assert isinstance(frames, DicomFrames)
        write_seg(folder / f"masks/v{volume}.dcm", masks(), frames, ("background", "polyp"), "0")


def in_radiographs(folder: Path, compression: str | None = None) -> None:
    """A DICOM file for each image, its mask a picture."""
    for number in range(1, 9):
        pixels = draw_image(number)[..., 0].copy()
        dataset = make_slice(pixels, Modality="DX", PatientID=f"p{number}", ImagerPixelSpacing=[0.2, 0.2])
        if compression:
            dataset.compress(getattr(pydicom.uid, compression), encoding_plugin="pyjpegls" if "LS" in compression else "pydicom")
        save_dicom(folder / f"images/{number:03d}", dataset)
        save(folder / f"masks/{number:03d}.png", draw_polyp(number) * np.uint8(255))


def without_pixels(folder: Path) -> None:
    in_radiographs(folder)
    dataset = make_slice(np.zeros((4, 4), np.uint8))
    del dataset.PixelData
    save_dicom(folder / "images/001", dataset)


def unknown_compression(folder: Path) -> None:
    in_radiographs(folder)
    dataset = make_slice(np.zeros((4, 4), np.uint8))
    assert dataset.file_meta.TransferSyntaxUID == EXPLICIT
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    save_dicom(folder / "images/001", dataset)


def in_arrays(folder: Path, suffix: str) -> None:
    for volume in VOLUMES:
        for name, kind, values in (("images", "image", values_of(volume)), ("masks", "label", masks())):
            path = folder / name / f"v{volume}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            if suffix == "npy":
                np.save(path, values)
            elif suffix == "npz":
                np.savez(path, **{kind: values})
            else:
                with h5py.File(path, "w") as file:
                    file[kind] = values


def in_pages(folder: Path) -> None:
    for volume in VOLUMES:
        for name, values in (("images", values_of(volume) + 600), ("masks", masks())):
            (folder / name).mkdir(exist_ok=True)
            first, *others = [Image.fromarray(page.astype(np.uint16) if name == "images" else page) for page in values]
            first.save(folder / name / f"v{volume}.tif", save_all=True, append_images=others)


def in_nnunet(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"labels": {"background": 0, "polyp": 1}, "channel_names": {"0": "CT"}}')
    for volume in VOLUMES:
        write_nifti_file(folder / f"imagesTr/case_{volume}_0000.nii.gz", values_of(volume).T, AXIAL)
        write_nifti_file(folder / f"labelsTr/case_{volume}.nii.gz", masks().T, AXIAL)


def sample(what: str, looks: str, draw: Callable[[Path], None], given: str = PAIRS) -> Sample:
    return Sample(what, looks, draw, given, slice_label, None)


def refused(what: str, looks: str, draw: Callable[[Path], None]) -> Sample:
    return Sample(what, looks, draw, PAIRS, None)


def radiographs(what: str, draw: Callable[[Path], None]) -> Sample:
    return Sample(what, "images/001, masks/001.png", draw, PAIRS, image=lambda number: np.repeat(draw_image(number)[..., :1], 3, axis=2))


SAMPLES = [
    sample("NIfTI", "images/v1.nii.gz, masks/v1.nii.gz", in_nifti),
    sample("nnU-Net, NIfTI", "dataset.json, imagesTr/case_1_0000.nii.gz, labelsTr/case_1.nii.gz", in_nnunet, "."),
    sample("DICOM series, masks in NIfTI", "images/v1/0001-1.dcm, images/v1/0002-1.dcm, masks/v1.nii.gz", in_dicom),
    sample("DICOM series, masks in DICOM-SEG", "images/v1/0001-1.dcm, masks/v1.dcm", in_dicom_seg),
    radiographs("DICOM images without suffix", in_radiographs),
    radiographs("DICOM, RLE", partial(in_radiographs, compression="RLELossless")),
    radiographs("DICOM, JPEG-LS", partial(in_radiographs, compression="JPEGLSLossless")),
    sample("arrays, .npy", "images/v1.npy, masks/v1.npy", partial(in_arrays, suffix="npy")),
    sample("arrays, .npz", "images/v1.npz, masks/v1.npz", partial(in_arrays, suffix="npz")),
    sample("arrays, HDF5", "images/v1.h5, masks/v1.h5", partial(in_arrays, suffix="h5")),
    sample("TIFF of several pages", "images/v1.tif, masks/v1.tif", in_pages),
    refused("NIfTI, a mask that lies elsewhere", "images/v1.nii.gz, masks/v1.nii.gz", partial(in_nifti, place=np.eye(4))),
    refused("NIfTI, a mask of another shape", "images/v1.nii.gz, masks/v1.nii.gz", partial(in_nifti, mask=lambda: masks()[:, 1:])),
    refused("NIfTI, several time points", "images/v1.nii.gz, masks/v1.nii.gz", in_time),
    refused(
        "DICOM series of several patients in one folder", "images/all/0001-1.dcm, masks/v1.nii.gz", partial(in_dicom, place="images/all")
    ),
    refused("DICOM without pixels", "images/001, masks/001.png", without_pixels),
    refused("DICOM in a compression that is not read", "images/001, masks/001.png", unknown_compression),
]
