"""The pixels of DICOM files, decoded and as their modality lookup says."""

from pathlib import Path
from typing import Any

import numpy as np

from samsemi.data.volumes.dicom_headers import frame_value, quiet_pydicom
from samsemi.data.volumes.lossless_jpeg import decode_lossless
from samsemi.errors import DataError, TruncatedFile

DECODERS = ("pydicom", "pyjpegls", "pillow")
"""Of pydicom, the first that knows a compression is taken; not gdcm, which damaged files can crash."""
LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""Transfer syntaxes."""


def read_pixels(path: Path) -> np.ndarray:
    """(frames, H, W) numbers, modality lookup applied, or (frames, H, W, 3) uint8 of a DICOM file; DataError where it has none."""
    with quiet_pydicom(path) as pydicom:
        dataset = pydicom.dcmread(path)
        if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise DataError(f"{path}: DICOM without pixels", "export the images themselves, or remove the file")
        refuse_undecodable(dataset, path, pydicom)
        pixels = decode(dataset, path, pydicom)
        frames = int(dataset.get("NumberOfFrames") or 1)
        pixels = pixels if frames > 1 else pixels[None]
        colors = (3,) if int(dataset.get("SamplesPerPixel") or 1) == 3 else ()
        if pixels.shape != (frames, int(dataset.Rows), int(dataset.Columns), *colors):
            raise TruncatedFile(f"{path}: damaged, it holds more or fewer pixels than its header says", "copy or export it again")
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            pixels = pydicom.pixels.apply_color_lut(pixels, dataset)
            return shorten(pixels, 8 * pixels.dtype.itemsize)
        if pixels.ndim == 4:
            return shorten(pixels, int(dataset.BitsStored))
        if "ModalityLUTSequence" in dataset:
            return np.asarray(pydicom.pixels.apply_modality_lut(pixels, dataset), dtype=np.float32)
        return np.stack([rescale(pixels[index], dataset, index) for index in range(frames)])


def shorten(colors: np.ndarray, bits: int) -> np.ndarray:
    """Colors of so many bits -> the highest 8 of them."""
    return (colors >> max(0, bits - 8)).astype(np.uint8)


def rescale(values: np.ndarray, dataset: Any, index: int) -> np.ndarray:
    """Stored values of a frame -> what they mean, such as Hounsfield units; whole numbers stay whole where they can."""
    slope, intercept = (frame_value(dataset, index, "PixelValueTransformationSequence", f"Rescale{n}") for n in ("Slope", "Intercept"))
    slope, intercept = float(1 if slope is None else slope), float(intercept or 0)
    if slope == 1 and intercept == 0:
        return values
    if slope == 1 and intercept.is_integer() and values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        return values.astype(np.int32) + np.int32(intercept)
    return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def refuse_undecodable(dataset: Any, path: Path, pydicom: Any) -> None:
    """DataError, by its name, for a compression of which there is no decoder that damaged files cannot crash."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax in LOSSLESS_JPEG:
        return
    deep = syntax == pydicom.uid.JPEGExtended12Bit and int(dataset.BitsStored) > 8
    if deep or not decoders_of(syntax, pydicom):
        raise DataError(
            f"{path}: compressed as {syntax.name}, which is not read",
            "write it uncompressed, such as with `dcmdjpeg IN OUT` of dcmtk, or with gdcmconv",
        )


def decoders_of(syntax: Any, pydicom: Any) -> list[str]:
    """Those of DECODERS that are installed and know a transfer syntax."""
    try:
        return [name for name in DECODERS if name in pydicom.pixels.get_decoder(syntax).available_plugins]
    except NotImplementedError:
        return []


def decode(dataset: Any, path: Path, pydicom: Any) -> np.ndarray:
    """The stored values of all frames, colors as RGB."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if syntax in LOSSLESS_JPEG:
            return decode_lossless_frames(dataset, pydicom)
        plugin = decoders_of(syntax, pydicom)[0] if syntax.is_encapsulated else ""
        return pydicom.pixels.pixel_array(dataset, decoding_plugin=plugin)
    except Exception as error:  # each decoder has errors of its own
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise TruncatedFile(f"{path}: damaged pixels ({reason:.200})", "copy or export it again, uncompressed if possible") from None


def decode_lossless_frames(dataset: Any, pydicom: Any) -> np.ndarray:
    """The stored values of the frames of a file in lossless JPEG."""
    colors = (3,) if int(dataset.SamplesPerPixel) == 3 else ()
    count, shape = int(dataset.get("NumberOfFrames") or 1), (int(dataset.Rows), int(dataset.Columns), *colors)
    streams = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count)
    values = np.stack([decode_lossless(stream, shape) for stream in streams])
    if len(values) < count:
        raise ValueError(f"{len(values)} of {count} frames are there")
    if int(dataset.PixelRepresentation):
        unused = 16 - int(dataset.BitsStored)
        values = (values << unused).view(np.int16) >> unused
    elif int(dataset.BitsAllocated) == 8:
        values = values.astype(np.uint8)
    if colors and dataset.PhotometricInterpretation != "RGB":
        values = pydicom.pixels.convert_color_space(values, dataset.PhotometricInterpretation, "RGB")
    return values if count > 1 else values[0]
