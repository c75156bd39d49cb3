"""nnU-Net: dataset.json, imagesTr/CASE_0000.png, labelsTr/CASE.png, imagesTs/ and perhaps labelsTs/.

Source: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md; the names of labels as in its first version, too.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from samsemi.data.files import find_images, list_entries, real_path, warn_unread
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given, find_file, find_folder
from samsemi.data.layouts.jsons import read_json
from samsemi.data.sources import ChannelFiles, ImageFile, ImageSource, MaskFile
from samsemi.data.volumes.find import find_volumes, holds_volumes, place_of
from samsemi.data.volumes.sources import VolumeSource, slice_cases
from samsemi.errors import DataError
from samsemi.options.window import Window

log = logging.getLogger("samsemi")

Thing = TypeVar("Thing", bound=VolumeSource | Path)

CHANNEL = re.compile(r"(.+)_(\d{4})")
"""The name of an image: its case and channel."""


def lacks_nnunet(given: Given) -> str:
    """Whether file and folders of a training set are there."""
    if lack := given.lacks_whole():
        return lack
    there = [find_file(given.folder, "dataset.json"), find_folder(given.folder, "imagesTr"), find_folder(given.folder, "labelsTr")]
    missing = [name for name, path in zip(("dataset.json", "imagesTr/", "labelsTr/"), there, strict=True) if path is None]
    return f"no {', '.join(missing)}" if missing else ""


def find_nnunet(given: Given) -> Found:
    """A case for each case of imagesTr, and for each of imagesTs: test where labelsTs has its mask, unlabeled where not."""
    about = find_file(given.folder, "dataset.json")
    assert about is not None, "see lacks_nnunet"
    classes, ignored = read_labels(about)
    training = find_cases(given.folder, "Tr", given.window)
    test = find_cases(given.folder, "Ts", given.window) if find_folder(given.folder, "imagesTs") else []
    twice = {case.id for case in training} & {case.id for case in test}
    if twice:
        raise DataError(f"{given.folder}: case {min(twice)} stands in imagesTr and in imagesTs", "rename one of them, or remove it")
    masks, measured = (sum(case.mask is not None for case in cases) for cases in (training, test))
    said = f"imagesTr: {len(training)} images, {masks} with a mask"
    said += (
        f"; imagesTs: {measured} with a mask are test, {len(test) - measured} without are unlabeled, so they are seen in training"
        if test
        else ""
    )
    return Found([*training, *test], said, classes, ignored)


def find_cases(folder: Path, part: str, window: Window | None) -> list[FoundCase]:
    """The cases of a part, Tr or Ts."""
    images, labels = find_folder(folder, f"images{part}"), find_folder(folder, f"labels{part}")
    assert images is not None
    if holds_volumes(images):
        return slices_of(images, labels, part, window)
    masks = find_images(labels) if labels and list_entries(labels) else {}
    for place in filter(None, (images, labels)):
        warn_unread(place)
    channels = channels_of(find_images(images))
    homeless = sorted(set(masks) - set(channels))
    if homeless:
        log.warning("%d masks of labels%s belong to no image, such as %s", len(homeless), part, homeless[0])
    mask_of = {name: MaskFile(path) for name, path in masks.items()}
    return [
        FoundCase(
            name,
            image_of(name, files),
            mask_of.get(name),
            group=name,
            split=None if part == "Tr" else "test" if name in masks else "unlabeled",
        )
        for name, files in channels.items()
    ]


def slices_of(images: Path, labels: Path | None, part: str, window: Window | None) -> list[FoundCase]:
    """The slices of the volumes of a part."""
    masks = find_volumes(labels, of_mask=True) if labels and list_entries(labels) else {}
    cases = []
    for name, channels in channels_of(find_volumes(images)).items():
        [source, *more] = channels
        if more or isinstance(source, Path):
            raise DataError(
                f"{images}: case {name} has {len(channels)} channels, or is a picture among volumes",
                "choose one channel of each case: a slice becomes a gray picture",
            )
        split = None if part == "Tr" else "test" if name in masks else "unlabeled"
        cases += [replace(case, split=split) for case in slice_cases(name, source, masks.get(name), window)]
    return cases


def channels_of(images: Mapping[str, Thing]) -> dict[str, list[Thing]]:
    """The files of each case, in the order of their channels; DataError for one that names none."""
    found: dict[str, list[Thing]] = {}
    for name, thing in images.items():
        parts = CHANNEL.fullmatch(name)
        if not parts:
            raise DataError(f"{place_of(thing)}: the name lacks the number of a channel", f"call it {name}_0000, as nnU-Net does")
        found.setdefault(parts[1], []).append(thing)
    return found


def image_of(name: str, files: list[Path]) -> ImageSource:
    """The image of a case: a file as it lies, or red, green and blue from two or three; DataError for more."""
    if len(files) == 1:
        return ImageFile(real_path(files[0]))
    if len(files) > 3:
        raise DataError(
            f"{files[0].parent}: case {name} has {len(files)} channels",
            "an image has three at most: choose some, and write them as one picture",
        )
    return ChannelFiles(tuple(map(real_path, files)))


def read_labels(path: Path) -> tuple[tuple[str, ...] | None, int | None]:
    """The names of classes 1, 2, ..., None where labels are regions of several values, and the value that is ignored."""
    labels = read_json(path).get("labels")
    if not isinstance(labels, dict) or not labels:
        raise DataError(f"{path}: no labels", 'write "labels": {"background": 0, "polyp": 1}')
    pairs = [(name, value) for name, value in labels.items()]
    if all(re.fullmatch(r"\d{1,3}", key) and isinstance(value, str) for key, value in pairs):  # of the first version
        pairs = [(value, int(key)) for key, value in pairs]
    values = {name: value for name, value in pairs if not isinstance(value, list)}
    if not all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255 for value in values.values()):
        raise DataError(f"{path}: labels are not numbers from 0 to 255", 'write "labels": {"background": 0, "polyp": 1}')
    if any(isinstance(value, list) for _, value in pairs):
        log.warning("%s: labels are regions of several values; every value is a class of its own here", path)
        return None, values.get("ignore")
    if len(values) < len(pairs) or len(set(values.values())) < len(values):
        raise DataError(f"{path}: two labels of one name or one value", "give each class a name and a value of its own")
    ignored = values.pop("ignore", None)
    names = {value: name for name, value in values.items() if value}
    if not names:
        raise DataError(f"{path}: no label but the background", "name what the masks show")
    return tuple(names.get(value, f"class{value}") for value in range(1, max(names) + 1)), ignored
