"""``samsemi predict``: an image, or a folder of any -> masks at the size of each."""

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from samsemi import console
from samsemi.data.dataset import hash_readable, is_dataset
from samsemi.data.files import find_images, kind_of, warn_unread
from samsemi.data.images import READERS, known_suffix, log_remarks, read_images, read_label
from samsemi.data.masks import write_mask
from samsemi.data.overlays import Panel, class_keys, draw_row, outline
from samsemi.data.pictures import remark_image, source_of, write_picture
from samsemi.devices import autocast, choose_device
from samsemi.errors import CheckpointError, DataError, RefusedError
from samsemi.folders import ARCHIVE_MARK, Claim, Kind, kept_folder
from samsemi.options.predict import PredictOptions
from samsemi.outputs import refuse_changes, refuse_inside, whole_file, write_text
from samsemi.schemas import read_object
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.segmenter import Segmenter, predict_batch, to_label
from samsemi.tensors import hash_tensors

ABOUT = "predictions.json"
SCHEMA = "samsemi.predictions/1"
EARLIER = frozenset({"model", "classes", "overlays", "probabilities", "images", "precision"})
"""Keys of ABOUT where it names no schema."""
PREDICTIONS = Kind("predictions", (ABOUT,), r"predictions\.json|.+\.png|probabilities/.+\.npz", EARLIER)


def predict(options: PredictOptions) -> dict[str, object]:
    """Write DIR/ID.png of class indices for every image that can be read; the others are named and counted."""
    refuse_inside(options.out, options.images)
    device = choose_device(options.device)
    with kept_folder(Claim.of(options.out, PREDICTIONS, options)) as out:
        images = image_or_folder(options.images)
        segmenter = load_model(options.model)
        note_options(out, options, segmenter)
        left = {name for name in images if not is_whole(out / f"{name}.png", images[name])}
        unreadable = write_predictions(out, images, left, segmenter.to(device), options)
        if len(unreadable) == len(images):
            remove_empty(out)
            raise DataError(f"{options.images}: none of {len(images)} images can be read", "replace them")
    return {
        "predictions": str(options.out),
        "images": len(images),
        "written": len(left) - len(unreadable),
        "kept": len(images) - len(left),
        "unreadable": len(unreadable),
    }


def write_predictions(out: Path, images: Mapping[str, Path], left: Set[str], segmenter: Segmenter, options: PredictOptions) -> list[str]:
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
            pixels, failed = read_images({name: images[name] for name in batch})
            unreadable += [name for name in failed if name in left]
            with autocast(segmenter.device, options.precision):
                maps = predict_batch(segmenter, list(pixels.values())) if pixels else []
            for (name, image), probs in zip(pixels.items(), maps, strict=True):
                if name in left:
                    source = hash_readable(images[name])
                    write_prediction(out, name, image, probs, segmenter.spec.classes, options, source)
            advance(len(left & set(batch)))
    return unreadable


def image_or_folder(path: Path) -> dict[str, Path]:
    """The images below a folder by id, or a single one; files not read are counted in a warning, images changed in a note."""
    suffix = known_suffix(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", "check the path")
    if is_dataset(path):
        raise DataError(
            f"{path} is a data set: its masks would be segmented like images",
            "give the folder of images; `samsemi eval` measures a model on a data set",
        )
    if path.is_file() and suffix is None:
        raise DataError(f"{path}: not read: 1 {kind_of(path.name)}", f"convert it: {', '.join(READERS)} are read")
    images = {path.name[: -len(suffix)]: path} if suffix and path.is_file() else find_images(path)
    if path.is_dir():
        warn_unread(path)
    log_remarks("images", Counter(remark for file in images.values() for remark in remark_image(file)))
    return images


def note_options(out: Path, options: PredictOptions, segmenter: Segmenter) -> None:
    """Write what predictions are made with; RefusedError where there are some of another model, or made with other options."""
    about = {
        "model": hash_tensors(segmenter.state_dict()),
        "classes": list(segmenter.spec.classes),
        "overlays": options.overlays,
        "probabilities": options.probabilities,
        "images": str(options.images.resolve()),
        "precision": options.precision,
    }
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
    label = to_label(probs)
    if options.probabilities:
        write_probabilities(out / "probabilities" / f"{name}.npz", probs)
    if options.overlays:
        panel = Panel(outline(image, label), "prediction", class_keys(label, classes))
        write_picture(out / "overlays" / f"{name}.png", draw_row(name, [panel]))
    write_mask(out / f"{name}.png", label, source)


def write_probabilities(path: Path, probs: np.ndarray) -> None:
    """An .npz file with ``probs`` in half precision, as numpy writes it but with a mark and without the time of day: of the same numbers
    it is the same file."""
    entry = zipfile.ZipInfo("probs.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    with whole_file(path, sync=False) as part, zipfile.ZipFile(part, "w") as archive, archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, probs.astype(np.float16), allow_pickle=False)
        archive.comment = ARCHIVE_MARK
