"""``samsemi prepare``: images and masks as they come -> a data set with splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from samsemi import console
from samsemi.data.dataset import Case, Dataset, assign_splits, complain, is_safe_id, join_duplicates, verify, with_split, write_dataset
from samsemi.data.images import find_images, read_label, write_picture
from samsemi.data.layouts import MaskValues, find_group, interpret_values, match_masks, read_split_file
from samsemi.errors import DataError, UsageError
from samsemi.options.config import input_paths
from samsemi.options.prepare import PrepareOptions
from samsemi.outputs import new_folder, refuse_inside


def prepare(options: PrepareOptions) -> dict[str, object]:
    """Match masks to images, deal the cases to splits, write masks as class indices, verify every file."""
    refuse_inside(options.out, options.images)
    images = find_images(options.images)
    masks, classes, values = find_masks(options, images)
    cases = split_cases([make_case(name, path, masks.get(name), options.groups) for name, path in images.items()], options)
    with new_folder(options.out, options.overwrite, mark="manifest.csv", inputs=input_paths(options)) as folder:
        cases = write_masks(cases, folder, values)
        dataset = Dataset(folder, Path(options.out).resolve().name, classes, options.spacing_mm, {case.id: case for case in cases})
        with console.progress("verify", len(cases)) as advance:
            problems, found = verify(dataset, advance)
        complain(str(options.images), problems)
        write_dataset(dataset)
    return {"dataset": str(options.out), "classes": ", ".join(classes), **found}


def find_masks(options: PrepareOptions, images: dict[str, Path]) -> tuple[dict[str, Path], tuple[str, ...], MaskValues]:
    """The mask file of each image that has one, the class names, and what the values in the files mean."""
    if options.masks is None:
        raise UsageError("prepare needs masks for some of the images", "give --masks DIR")
    masks, suffix, homeless = match_masks(images, find_images(options.masks))
    console.note(f"{len(images)} images, {len(masks)} with a mask" + (f" (mask names end in '{suffix}')" if suffix else ""))
    if homeless:
        console.warn(f"{len(homeless)} masks belong to no image, such as {homeless[0]}")
    names = [name.strip() for name in options.classes.split(",")] if options.classes else None
    counts = {}
    with console.progress("read masks", len(masks), "masks") as advance:
        for name, path in masks.items():
            counts[name] = np.bincount(read_label(path).ravel(), minlength=256)
            advance()
    values = interpret_values(counts, len(names) + 1 if names else None)
    console.note(values.said)
    if names is None:
        names = ["foreground"] if values.num_classes == 2 else [f"class{k}" for k in range(1, values.num_classes)]
    if len(names) + 1 < values.num_classes or "" in names or len(set(names)) < len(names):
        raise UsageError(f"--classes {options.classes} does not fit masks of {values.num_classes - 1} classes", "give one name per class")
    return masks, ("background", *names), values


def make_case(name: str, image: Path, mask: Path | None, groups: str | None) -> Case:
    if not is_safe_id(name):
        raise DataError(f"{image}: '{name}' cannot be an id", "rename the file: letters, digits, '_', '-', '.' and blanks")
    return Case(name, image.resolve(), mask, None, split="unlabeled", group=find_group(name, groups))


def split_cases(cases: list[Case], options: PrepareOptions) -> list[Case]:
    """Deal the cases to splits by shares, or as a split file says."""
    if options.split is None:
        with console.progress("look for duplicates", len(cases)) as advance:
            cases, duplicates = join_duplicates(cases, advance)
        if duplicates:
            console.warn(f"{duplicates} images are pixel for pixel like another one: kept in the same split")
        wanted = {"test": options.test, "val": options.val, "labeled": options.labeled}
        return assign_splits(cases, wanted, options.seed)
    told = read_split_file(options.split)
    unknown = sorted(set(told) - {case.id for case in cases})
    if unknown:
        raise DataError(f"--split {options.split}: no image has the id '{unknown[0]}'", "ids are file names without suffix")
    left_out = len(cases) - len(told)
    if left_out:
        console.warn(f"{left_out} images are not in {options.split} and are left out")
    chosen = []
    for case in cases:
        if case.id in told:
            split, group = told[case.id]
            if split != "unlabeled" and case.mask is None:
                raise DataError(f"--split {options.split}: {case.id} is {split} but has no mask", "make it unlabeled")
            chosen.append(with_split(replace(case, group=group or case.group), split))
    return chosen


def write_masks(cases: list[Case], folder: Path, values: MaskValues) -> list[Case]:
    """Write every mask as class indices: masks/ID.png, those of unlabeled cases truth/ID.png."""
    written = []
    with console.progress("write masks", len(cases)) as advance:
        for case in cases:
            source = case.mask or case.truth
            if source is not None:
                column = "mask" if case.mask else "truth"
                target = folder / ("masks" if case.mask else "truth") / f"{case.id}.png"
                write_picture(target, values.convert(read_label(source)))
                case = replace(case, **{column: target})
            written.append(case)
            advance()
    return written
