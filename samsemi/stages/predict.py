"""``samsemi predict``: images and volumes, one, a folder of any or a data set -> masks at the size of each."""

import json
import zipfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from samsemi import console
from samsemi.data.dataset import hash_bytes, hash_image, hash_readable
from samsemi.data.images import read_label, read_readable
from samsemi.data.masks import write_mask
from samsemi.data.overlays import Panel, class_keys, draw_row, outline
from samsemi.data.pictures import source_of, write_picture
from samsemi.data.sources import ImageSource
from samsemi.data.volumes.dicom import DicomFrames
from samsemi.data.volumes.dicom_seg import write_seg
from samsemi.data.volumes.find import find_series
from samsemi.data.volumes.nifti import read_nifti, source_of_nifti, write_nifti
from samsemi.data.volumes.origins import Origin
from samsemi.data.volumes.predictable import Predictable, find_predictable
from samsemi.data.volumes.sources import VolumeSource, hash_source, slice_id
from samsemi.data.volumes.volume import Grid, Volume, need_library
from samsemi.data.volumes.window import choose_window, show_slice
from samsemi.devices import autocast, choose_device
from samsemi.errors import CheckpointError, DataError, RefusedError, UsageError
from samsemi.folders import ARCHIVE_MARK, Claim, Kind, kept_folder
from samsemi.options.predict import PredictOptions
from samsemi.options.window import Window, parse_window
from samsemi.outputs import refuse_changes, refuse_inside, whole_file, write_text
from samsemi.schemas import read_object
from samsemi.segmenters.checkpoints import load_model, read_model_card
from samsemi.segmenters.segmenter import Segmenter, predict_batch, to_label
from samsemi.tensors import hash_tensors

ABOUT = "predictions.json"
SCHEMA = "samsemi.predictions/1"
EARLIER = frozenset({"model", "classes", "overlays", "probabilities", "images", "precision"})
"""Keys of ABOUT where it names no schema."""
PREDICTIONS = Kind("predictions", (ABOUT,), r"predictions\.json|.+\.(png|nii\.gz|seg\.dcm)|probabilities/.+\.npz", EARLIER)


def predict(options: PredictOptions) -> dict[str, object]:
    """Write DIR/ID.png of class indices for every image, DIR/ID.nii.gz for every volume that can be read; the others are named and
    counted."""
    refuse_inside(options.out, options.images)
    device = choose_device(options.device)
    with kept_folder(Claim.of(options.out, PREDICTIONS, options)) as out:
        window = parse_window(choose_window_option(options))
        found = find_predictable(options.images, window)
        need_writers(found, options)
        segmenter = load_model(options.model)
        note_options(out, options, segmenter, found)
        left = {name for name, image in found.images.items() if not is_whole(out / f"{name}.png", image.path)}
        left_volumes = {name for name, source in found.volumes.items() if not is_whole_volume(out / f"{name}.nii.gz", source)}
        segmenter = segmenter.to(device)
        unreadable = write_predictions(out, found.images, left, segmenter, options)
        unreadable += predict_volumes(out, {name: found.volumes[name] for name in sorted(left_volumes)}, segmenter, options, window)
        assemble_volumes(out, found, segmenter.spec.classes, options)
        things = len(found.images) + len(found.volumes)
        if len(unreadable) == things:
            remove_empty(out)
            raise DataError(f"{options.images}: none of {things} images can be read", "replace them")
    written = len(left) + len(left_volumes) - len(unreadable)
    counts = {"images": len(found.images), "volumes": len(found.volumes) + len(found.slices)}
    return {
        "predictions": str(options.out),
        **{name: count for name, count in counts.items() if count or name == "images"},
        "written": written,
        "kept": things - written - len(unreadable),
        "unreadable": len(unreadable),
    }


def need_writers(found: Predictable, options: PredictOptions) -> None:
    """UsageError where what writes the masks of volumes is not installed, or --dicom-seg is given without any DICOM series."""
    if found.volumes or found.slices:
        need_library("nibabel", options.images)
    if options.dicom_seg:
        need_library("highdicom", options.images)
        if not found.slices and not any(isinstance(source, DicomFrames) for source in found.volumes.values()):
            raise UsageError(f"--dicom-seg: no DICOM series in {options.images}", "leave it out: masks of volumes are written as NIfTI")


def choose_window_option(options: PredictOptions) -> str:
    """--window, or else that of the images that the model has learned from."""
    learned = read_model_card(options.model).made_from.get("window")
    return options.window or (learned if isinstance(learned, str) else "auto")


def write_predictions(
    out: Path, images: Mapping[str, ImageSource], left: Set[str], segmenter: Segmenter, options: PredictOptions
) -> list[str]:
    """Segment the images that are left; the ids of those that cannot be read.

    Each in the batch in which it would be if none were there already: the last bits of its probabilities depend on how many images go
    through the network at once.
    """
    names, unreadable = list(images), []
    batches = [names[first : first + options.batch_size] for first in range(0, len(names), options.batch_size)]
    with console.progress("predict", len(images), done=len(images) - len(left)) as advance:
        for batch in batches:
            if left.isdisjoint(batch):
                continue
            pixels, failed = read_readable({name: images[name] for name in batch}, lambda image: image.read())
            unreadable += [name for name in failed if name in left]
            with autocast(segmenter.device, options.precision):
                maps = predict_batch(segmenter, list(pixels.values())) if pixels else []
            for (name, image), probs in zip(pixels.items(), maps, strict=True):
                if name in left:
                    source = hash_readable(images[name].path)
                    write_prediction(out, name, image, probs, segmenter.spec.classes, options, source)
            advance(len(left & set(batch)))
    return unreadable


def predict_volumes(
    out: Path, volumes: Mapping[str, VolumeSource], segmenter: Segmenter, options: PredictOptions, window: Window | None
) -> list[str]:
    """Segment volumes slice by slice; the ids of those that cannot be read."""
    unreadable = []
    for name, source in volumes.items():
        try:
            content = hash_source(source)
            volume = source.read()
        except DataError as error:
            console.warn(f"skipped: {error.message}")
            unreadable.append(name)
            continue
        label = predict_volume(out, name, volume, segmenter, options, window)
        write_volume(out, name, label, volume.grid, source, segmenter.spec.classes, content, options)
    return unreadable


def predict_volume(
    out: Path, name: str, volume: Volume, segmenter: Segmenter, options: PredictOptions, window: Window | None
) -> np.ndarray:
    """(D, H, W) uint8 class indices."""
    shown = choose_window(volume, window)
    labels: list[np.ndarray] = []
    with console.progress(f"predict {name}", volume.grid.shape[0], "slices") as advance:
        for first in range(0, volume.grid.shape[0], options.batch_size):
            numbers = range(first, min(first + options.batch_size, volume.grid.shape[0]))
            images = [show_slice(volume, number, shown) for number in numbers]
            with autocast(segmenter.device, options.precision):
                maps = predict_batch(segmenter, images)
            for number, image, probs in zip(numbers, images, maps, strict=True):
                labels.append(to_label(probs))
                write_extras(out, slice_id(name, number), image, probs, segmenter.spec.classes, options)
            advance(len(numbers))
    return np.stack(labels)


def assemble_volumes(out: Path, found: Predictable, classes: Sequence[str], options: PredictOptions) -> None:
    """Write the volumes of a data set from the masks of their slices, where all of these are there."""
    for name, cases in found.slices.items():
        paths = [out / f"{case.id}.png" for case in cases]
        if not all(path.exists() for path in paths):
            console.warn(f"volume {name} is not written: some of its slices cannot be read")
            continue
        slices = [read_label(path) for path in paths]
        if len({part.shape for part in slices}) > 1:
            console.warn(f"volume {name} is not written: its slices have several sizes")
            continue
        label = np.stack(slices)
        origin = found.origins.get(name)
        grid = origin.grid if origin and origin.grid.shape == label.shape else Grid(label.shape, spacing=cases[0].spacing)
        source = find_source(name, origin) if options.dicom_seg else None
        write_volume(out, name, label, grid, source, classes, hash_bytes("".join(map(hash_image, cases)).encode()), options)


def find_source(name: str, origin: Origin | None) -> DicomFrames | None:
    """The series of a volume of a data set, that its DICOM-SEG names; None, with a warning, where there is none."""
    why = "its source is gone, or was no DICOM series"
    try:
        if origin and (source := find_series(origin)):
            return source
    except DataError as error:
        why = error.message
    console.warn(f"volume {name}: no DICOM-SEG: {why}")
    return None


def write_volume(
    out: Path,
    name: str,
    label: np.ndarray,
    grid: Grid,
    source: VolumeSource | None,
    classes: Sequence[str],
    content: str,
    options: PredictOptions,
) -> None:
    """Write a volume of class indices on the grid of its source; NIfTI last, by which --resume knows that all is done."""
    if options.dicom_seg and isinstance(source, DicomFrames):
        try:
            write_seg(out / f"{name}.seg.dcm", label, source, classes, content)
        except DataError as error:
            console.warn(error.message)
    write_nifti(out / f"{name}.nii.gz", label, grid, content)


def note_options(out: Path, options: PredictOptions, segmenter: Segmenter, found: Predictable) -> None:
    """Write what predictions are made with; RefusedError where there are some of another model, or made with other options."""
    about = {
        "model": hash_tensors(segmenter.state_dict()),
        "classes": list(segmenter.spec.classes),
        "overlays": options.overlays,
        "probabilities": options.probabilities,
        "images": str(options.images.resolve()),
        "precision": options.precision,
    }
    if found.volumes or any(not image.stays for image in found.images.values()):
        about |= {"window": choose_window_option(options), "dicom_seg": options.dicom_seg}
    if (out / ABOUT).exists():
        before = {name: value for name, value in read_about(out / ABOUT).items() if name != "schema"}
        refuse_changes(before, about, str(out))
    write_text(out / ABOUT, json.dumps({"schema": SCHEMA, **about}, indent=2) + "\n")


def is_whole(path: Path, image: Path) -> bool:
    """Whether a mask stands there that can be read and is of this image, as far as it says; any other is made again."""
    try:
        read_label(path)
        source, now = source_of(path), hash_readable(image)
    except (DataError, OSError) as error:
        if path.exists():
            console.note(f"made again: {error}")
        return False
    if source and now and source != now:
        console.note(f"made again: {path} is of another image than {image} is now")
        return False
    return True


def is_whole_volume(path: Path, source: VolumeSource) -> bool:
    """Whether a volume of masks stands there that can be read and is of this source; any other is made again."""
    if not path.exists():
        return False
    try:
        read_nifti(path)
        same = source_of_nifti(path) == hash_source(source)
    except DataError as error:
        console.note(f"made again: {error}")
        return False
    if not same:
        console.note(f"made again: {path} is not of {source.path} as it is now")
    return same


def remove_empty(out: Path) -> None:
    """Remove an output folder without any prediction in it, so that the command can be repeated."""
    if {path.name for path in out.iterdir()} == {ABOUT}:
        (out / ABOUT).unlink()
        out.rmdir()


def read_about(path: Path) -> dict[str, object]:
    """What predictions were made with; RefusedError where that cannot be read."""
    hint = "start anew with --overwrite, or give another --out"
    try:
        return read_object(path)
    except CheckpointError as error:
        raise RefusedError(error.message, hint) from None


def write_prediction(
    out: Path, name: str, image: np.ndarray, probs: np.ndarray, classes: Sequence[str], options: PredictOptions, source: str | None
) -> None:
    """Write the mask last, so that --resume finds a mask only where all is done; with the SHA-256 of the image, its ``source``."""
    write_extras(out, name, image, probs, classes, options)
    write_mask(out / f"{name}.png", to_label(probs), source)


def write_extras(out: Path, name: str, image: np.ndarray, probs: np.ndarray, classes: Sequence[str], options: PredictOptions) -> None:
    """The overlay and the probabilities of an image or slice, where they are wanted."""
    label = to_label(probs)
    if options.probabilities:
        write_probabilities(out / "probabilities" / f"{name}.npz", probs)
    if options.overlays:
        panel = Panel(outline(image, label), "prediction", class_keys(label, classes))
        write_picture(out / "overlays" / f"{name}.png", draw_row(name, [panel]))


def write_probabilities(path: Path, probs: np.ndarray) -> None:
    """An .npz file with ``probs`` in half precision, as numpy writes it but with a mark and without the time of day: of the same numbers
    it is the same file."""
    entry = zipfile.ZipInfo("probs.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    with whole_file(path, sync=False) as part, zipfile.ZipFile(part, "w") as archive, archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, probs.astype(np.float16), allow_pickle=False)
        archive.comment = ARCHIVE_MARK
