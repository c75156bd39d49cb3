"""``samsemi prepare``: images and masks as they come -> a data set with splits."""

import getpass
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from samsemi import console
from samsemi.data.colors import read_color_map
from samsemi.data.corrections import read_corrections, read_record, read_review, write_record
from samsemi.data.dataset import IGNORE, Dataset, is_dataset, read_dataset, write_dataset
from samsemi.data.findings import class_table, refuse_problems, warn
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.matching import fold
from samsemi.data.layouts.table import LAYOUTS, choose_layout
from samsemi.data.manifest import SPLITS, is_safe_id
from samsemi.data.mask_values import LOSSY, MaskValues, count_values, covers_most, interpret_values, seem_numbered
from samsemi.data.prepared import copy_dataset, is_hidden, listed_files, write_cases
from samsemi.data.sources import ColorFile, MaskFile, is_turned_alone
from samsemi.data.splits import assign_splits, find_group, join_duplicates, read_split_file
from samsemi.data.verify import verify
from samsemi.data.volumes.sources import SliceImage
from samsemi.errors import DataError, UsageError
from samsemi.folders import Claim, Kind, new_folder
from samsemi.options.prepare import PrepareOptions
from samsemi.options.window import parse_window
from samsemi.outputs import refuse_inside

LONGEST_NAME = 100
"""Letters in the name of a class."""
DATASET = Kind(
    "a data set",
    ("dataset.json",),
    r"(dataset|volumes)\.json|(manifest|corrections)\.csv|images/[^/]+\.png",
    frozenset({"name", "classes", "spacing_mm"}),
    listed=listed_files,
)


def prepare(options: PrepareOptions) -> dict[str, object]:
    """Find the cases, deal them to splits, write masks as class indices, verify every file and note its hash."""
    if options.labels:
        return label_corrected(options, options.labels)
    for folder in options.images:
        if is_dataset(folder):
            raise DataError(f"{folder} is a data set already", "give the folder of the images that it was made from")
    for folder in filter(None, (*options.images, options.masks)):
        refuse_inside(options.out, folder)
    name, given = choose_layout(Given(options.images, options.masks, options.target, window=parse_window(options.window)), options.layout)
    if options.target and name != "covid-qu-ex":
        raise UsageError(f"--target {options.target} is for covid-qu-ex, the layout is {name}", "leave it out")
    console.note(f"layout {name}: {LAYOUTS[name].looks}")
    found = with_colors(LAYOUTS[name].find(given), options.color_map)
    console.note(found.note)
    warn_turned(found.cases)
    with new_folder(Claim.of(options.out, DATASET, options)) as folder:
        classes, values = read_values(found, options)
        dealt = split_cases([with_group(case, options.groups) for case in found.cases], options)
        with console.progress("write images and masks", len(dealt)) as advance:
            cases = write_cases(dealt, folder, values, options.copy, advance)
        by_id = {case.id: case for case in cases}
        window = options.window if any(isinstance(case.image, SliceImage) for case in dealt) else None
        dataset = Dataset(folder, Path(options.out).resolve().name, classes, options.spacing_mm, by_id, window)
        found_in = verify_sources(dataset, options)
        write_dataset(dataset, options.copy)
    if not options.copy:
        say_where([case.image.path for case in dealt if case.image.stays])
    return {"dataset": str(options.out), "layout": name, "classes": ", ".join(classes), **found_in}


def verify_sources(dataset: Dataset, options: PrepareOptions) -> dict[str, Any]:
    """What a data set holds; DataError, with every problem, where it is not sound."""
    verified = verify(dataset, console.progress)
    warn(verified.warnings)
    refuse_problems(" ".join(map(str, options.images)), verified.problems, "repair or remove these files, then run it again")
    for finding in verified.missing_classes:
        console.warn(f"{finding.text}: `samsemi check` will not pass; give larger shares, another --seed, or --split")
    return verified.found


def label_corrected(options: PrepareOptions, review_folder: Path) -> dict[str, object]:
    """The data set that was mined, in a new folder, with the masks that came back from a review as labels; all else stays as it was."""
    before = read_dataset(options.images[0])
    for folder in filter(None, (before.folder, review_folder, options.masks)):
        refuse_inside(options.out, folder)
    by, earlier, review = options.by or login_name(), read_record(before.folder), read_review(review_folder, before)
    came = read_corrections(review_folder, review, before, options.masks)
    taken = [one for one in came if one.changed or options.confirm]
    if not taken:
        raise DataError(
            f"{options.masks or review_folder}: no mask differs from what was proposed, of {len(came)}",
            "correct some first; --confirm takes masks as they were proposed, where somebody has looked at them",
        )
    with new_folder(Claim.of(options.out, DATASET, options)) as folder:
        with console.progress("copy images and masks", len(before.cases)) as advance:
            after = copy_dataset(before, folder, {one.id: one.label for one in taken}, options.copy, advance)
        after = replace(after, name=Path(options.out).resolve().name)
        found = verify_sources(after, options)
        write_dataset(after, any(case.image.is_relative_to(folder) for case in after.cases.values()))
        write_record(folder, earlier, taken, by, review.store_content)
    left = len(review.proposed) - len(taken)
    if left:
        console.note(
            f"{left} of {len(review.proposed)} cases stay unlabeled: their masks are as proposed (--confirm takes these), or did not come"
        )
    confirmed = sum(not one.changed for one in taken)
    corrected = {"cases": len(taken), "as_proposed": confirmed, "by": by, "left_unlabeled": left}
    return {"dataset": str(options.out), "corrected": corrected, "classes": ", ".join(after.classes), **found}


def login_name() -> str:
    """Who has logged in; UsageError where nobody can be told."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise UsageError("--labels: who has corrected? the system knows no login name", "give --by NAME") from None
    console.note(f"corrected by {name}, who is logged in: --by NAME says who it was")
    return name


def warn_turned(cases: Sequence[FoundCase]) -> None:
    """Warn of images that are turned upright and masks that are not, where no size tells which of the two a mask was drawn on."""
    alone = [case.id for case in cases if case.mask and is_turned_alone(case.image, case.mask)]
    if alone:
        console.warn(
            f"{len(alone)} images are turned as their EXIF orientation says, their masks as they are, such as {alone[0]}: right where they "
            "were drawn on the images as viewers show them; else take the orientation out of the images"
        )


def say_where(images: Sequence[Path]) -> None:
    """Where images lie that were not copied, and what that means for a data set that is moved."""
    if images:
        place = os.path.commonpath([path.absolute().parent for path in images])
        console.note(f"{len(images)} images stay in {place}, as absolute paths: --copy makes a data set that can be moved")


def tables(result: dict[str, Any]) -> list[console.Table]:
    """What people see before the closing table."""
    return [class_table(result["class_masks"])]


def place_of_masks(options: PrepareOptions) -> str:
    """Where the masks come from, for a message."""
    return f"--masks {options.masks}" if options.masks else str(options.images[0])


def with_colors(found: Found, path: Path | None) -> Found:
    """The cases with masks that are read by the colors in a file; UsageError where no mask is a picture."""
    if path is None:
        return found
    colors = read_color_map(path)
    masks = {case.id: ColorFile(case.mask.path, colors) for case in found.cases if isinstance(case.mask, MaskFile)}
    if not masks:
        raise UsageError(f"--color-map {path}: no mask is a picture of colors", "leave it out")
    return replace(found, cases=[replace(case, mask=masks.get(case.id, case.mask)) for case in found.cases], classes=colors.classes)


def read_values(found: Found, options: PrepareOptions) -> tuple[tuple[str, ...], MaskValues]:
    """The class names, and what the values in the mask files mean."""
    names = [name.strip() for name in options.classes.split(",")] if options.classes else list(found.classes or ()) or None
    masks = {case.id: case.mask for case in found.cases if case.mask}
    with console.progress("read masks", len(masks), "masks") as advance:
        counts = count_values(masks, advance, options.mask_values)
    if counts and not any(count[1:].any() for count in counts.values()):
        raise DataError(
            f"{place_of_masks(options)}: all {len(counts)} masks are empty, no pixel is above 0", "give masks of what is to be found"
        )
    refuse_names(names or ())
    refuse_exchanged(names or (), found.classes or ())
    ignored = found.ignored if options.ignore_value is None else options.ignore_value
    lossy = any(mask.path.suffix.lower() in LOSSY for mask in masks.values())
    values = interpret_values(without_value(counts, ignored), len(names) + 1 if names else None, options.mask_values, lossy)
    if ignored is not None:
        values = values.ignoring(ignored)
    if options.invert:
        values = invert_values(values)
    console.note(values.note)
    refuse_classless(counts, values, options)
    warn_inverted(counts, values, options.invert)
    if names is None and options.mask_values == "auto" and seem_numbered(counts, masks):
        console.warn(
            f"masks hold 1 to {values.num_classes - 1}, not the same in all, each in one piece: if these are numbers of instances, "
            "give --mask-values nonzero; if they are classes, name them with --classes"
        )
    if names is None:
        names = ["foreground"] if values.num_classes == 2 else [f"class{k}" for k in range(1, values.num_classes)]
    if len(names) + 1 < values.num_classes or "" in names or len({"background", *names}) <= len(names):
        given = f"--classes {options.classes}" if options.classes else f"the list of classes {', '.join(names)}"
        raise UsageError(
            f"{given} does not fit masks of {values.num_classes - 1} classes",
            "give one name per class, but for the background, with --classes",
        )
    return ("background", *names), values


def refuse_names(names: Sequence[str]) -> None:
    """DataError for names of classes, which may come from others, that could not be shown."""
    for name in names:
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise DataError(
                f"a class with a name of {len(name)} letters, or with some that cannot be shown: {ascii(name):.60}",
                f"name it in up to {LONGEST_NAME} letters, in its file or by --classes",
            )


def refuse_exchanged(names: Sequence[str], own: Sequence[str]) -> None:
    """UsageError where --classes gives a class the name that the data set has for another one."""
    known = [fold(name) for name in own]
    for number, name in enumerate(names, start=1):
        if fold(name) in known and fold(name) not in known[number - 1 : number]:
            raise UsageError(
                f"--classes {','.join(names)}: '{name}' is class {known.index(fold(name)) + 1} of the data set, not {number}",
                f"the classes of the data set are {','.join(own)}: rename them in this order, or leave --classes out",
            )


def without_value(counts: Mapping[str, np.ndarray], value: int | None) -> Mapping[str, np.ndarray]:
    """Histograms without the pixels of a value."""
    return counts if value is None else {name: np.where(np.arange(256) == value, 0, count) for name, count in counts.items()}


def invert_values(values: MaskValues) -> MaskValues:
    if values.num_classes != 2:
        raise UsageError(f"--invert exchanges background and one class, the masks hold {values.num_classes - 1}", "leave it out")
    return values.inverted()


def refuse_classless(counts: Mapping[str, np.ndarray], values: MaskValues, options: PrepareOptions) -> None:
    """DataError where no value in the masks means a class."""
    total = np.sum(list(counts.values()), axis=0) if counts else np.zeros(256)
    if counts and not total[(values.lookup > 0) & (values.lookup != IGNORE)].any():
        remedy = "leave --mask-values out, or give --mask-values nonzero: every value above 0 is one class"
        raise DataError(
            f"{place_of_masks(options)}: no pixel of {len(counts)} masks is of a class when read so ({values.note})",
            remedy if options.ignore_value is None else f"leave --ignore-value {options.ignore_value} out, or give another value",
        )


def warn_inverted(counts: Mapping[str, np.ndarray], values: MaskValues, invert: bool) -> None:
    """Warn where the one class covers more than half of the pixels in most masks."""
    most = covers_most(counts, values) if values.num_classes == 2 else 0
    if 2 * most > len(counts):
        remedy = "leave out --invert" if invert else "give --invert"
        console.warn(f"class 1 covers more than half of the pixels in {most} of {len(counts)} masks: if they are inverted, {remedy}")


def with_group(case: FoundCase, groups: str | None) -> FoundCase:
    """The case with the patient that its name holds; DataError for a name that cannot be an id."""
    if not is_safe_id(case.id):
        raise DataError(f"{case.image.path}: '{case.id}' cannot be an id", "rename the file: letters, digits, '_', '-', '.' and blanks")
    return replace(case, group=find_group(case.id, groups)) if groups is not None else case


def split_cases(cases: list[FoundCase], options: PrepareOptions) -> list[FoundCase]:
    """Deal the cases to splits by shares, or by a split file; says how many masks that hides."""
    dealt = split_by_file(cases, options.split) if options.split else split_by_shares(cases, options)
    hidden = sum(is_hidden(case) for case in dealt)
    if hidden:
        console.note(f"simulation: {hidden} masks hidden as truth")
    named = dealt if options.split else cases  # images that are the same were put into one group as they were dealt
    if len({case.group for case in named}) < len(named):
        console.note(describe_patients(dealt))
    if not any(case.split == "unlabeled" for case in dealt):
        console.note("no image is unlabeled: nothing can be mined; `warmstart` and `eval` work, --labeled 0.1 would simulate mining")
    return dealt


def describe_patients(cases: Sequence[FoundCase]) -> str:
    """'labeled: 24 slices of 4 patients; val: ...'."""
    what = "slices" if all(case.volume for case in cases) else "images"
    groups = {split: [case.group for case in cases if case.split == split] for split in SPLITS}
    counts = {split: (len(found), len(set(found))) for split, found in groups.items() if found}
    return "; ".join(f"{split}: {n} {what} of {patients} patient{'s' * (patients > 1)}" for split, (n, patients) in counts.items())


def split_by_shares(cases: list[FoundCase], options: PrepareOptions) -> list[FoundCase]:
    """Deal the cases by --test and --val; the other masks are labeled, or the part of them that a simulation leaves."""
    for name, use in (("labeled", "nothing is learned"), ("val", "nothing is chosen or calibrated")):
        if getattr(options, name) == 0:
            raise UsageError(f"--{name} 0: without {name} cases {use}", f"give a share or a number above 0, or leave --{name} out")
    own = Counter(case.split for case in cases if case.split)
    if own and options.hides_masks and own.keys() & {"labeled", "unlabeled"}:
        raise UsageError(
            f"--labeled {options.labeled:g} hides masks, but the data set says itself which cases are labeled and unlabeled",
            "leave --labeled out, or give splits of your own with --split",
        )
    without_mask = sum(case.mask is None for case in cases)
    if options.hides_masks and without_mask:
        raise UsageError(
            f"--labeled {options.labeled:g} hides masks, as if images were unlabeled; but {without_mask} of {len(cases)} have no mask",
            "leave --labeled out: these images are the unlabeled ones, and every mask is used",
        )
    with console.progress("look for duplicates", len(cases)) as advance:
        cases, duplicates = join_duplicates(cases, advance)
    if duplicates:
        console.warn(f"pixel for pixel like another image, and kept in the same split: {duplicates}")
    if own:
        console.note(f"splits of the data set are kept: {', '.join(f'{split} {own[split]}' for split in SPLITS if own[split])}")
    wanted = {split: amount for split, amount in (("test", options.test), ("val", options.val)) if split not in own}
    free = [case for case in cases if case.split is None]
    if own and not any(case.mask for case in free):
        return [replace(case, split=case.split or "unlabeled") for case in cases]
    dealt = {case.id: case for case in deal(free, wanted, options)}
    return [dealt.get(case.id, case) for case in cases]


def deal(cases: list[FoundCase], wanted: dict[str, float], options: PrepareOptions) -> list[FoundCase]:
    """The cases of no split yet in one each."""
    if options.labeled is not None and options.hides_masks:
        return assign_splits(cases, {**wanted, "labeled": options.labeled}, options.seed)
    dealt = assign_splits(cases, wanted, options.seed, rest="labeled")
    unused = sum(is_hidden(case) for case in dealt)
    if unused:
        console.warn(f"{unused} masks are not used: their patients (--groups) have images without a mask, and patients are never split")
    return dealt


def split_by_file(cases: list[FoundCase], path: Path) -> list[FoundCase]:
    """The cases that a split file lists, in its splits and groups; the others are left out."""
    listed = read_split_file(path)
    unknown = sorted(set(listed) - {case.id for case in cases})
    if unknown:
        raise DataError(f"--split {path}: no image has the id '{unknown[0]}'", "ids are file names without suffix")
    left_out = len(cases) - len(listed)
    if left_out:
        console.warn(f"{left_out} images are not in {path} and are left out")
    chosen = []
    for case in cases:
        if case.id in listed:
            split, group = listed[case.id]
            if split != "unlabeled" and case.mask is None:
                raise DataError(f"--split {path}: {case.id} is {split} but has no mask", "make it unlabeled")
            chosen.append(replace(case, group=group or case.group, split=split))
    missing = [split for split in ("labeled", "val") if not any(case.split == split for case in chosen)]
    if missing:
        raise DataError(f"--split {path}: no {' and no '.join(missing)} cases", "training needs both: put some there")
    return chosen
