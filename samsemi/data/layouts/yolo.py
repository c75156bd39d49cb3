"""YOLO: a text file for each image, a line for each object: class x1 y1 x2 y2 ..., from 0 to 1. https://docs.ultralytics.com/datasets/segment

Lies in labels/ beside images/, in the whole set or in each split, or beside the images; names stand in a YAML file or in classes.txt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from samsemi.data.about import MOST_CLASSES
from samsemi.data.files import list_files, path_id, real_path
from samsemi.data.layouts.drawn import draw_on, split_of, upright_size
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given, find_file
from samsemi.data.layouts.jsons import points_of
from samsemi.data.layouts.matching import match
from samsemi.data.layouts.pairs import find_all_images, warn_matching
from samsemi.data.outlines import Polygons
from samsemi.data.sources import ImageFile
from samsemi.errors import DataError
from samsemi.inputs import read_regular, read_text

IMAGES = "images"
"""The folder of which labels is the counterpart."""
LOOKED_AT = 16
"""Text files that are searched for objects."""
OUTSIDE = 0.5
"""How far outlines may lead out of an image, as a share of its size; further out they are no shares."""
MOST_NAMES = 2**20
"""Bytes of a file of names."""
NAME_FILES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml")


def lacks_yolo(given: Given) -> str:
    """Whether there are such files; opens the first few."""
    if given.masks and not given.masks.is_dir():
        return f"{given.masks} is no folder"
    if lack := given.lacks_outlines():
        return lack
    files = object_files(given.masks or given.folder)
    return "" if any(map(holds_objects, files[:LOOKED_AT])) else "no text files of lines CLASS x1 y1 x2 y2 ..."


def object_files(folder: Path) -> list[Path]:
    return [path for path in list_files(folder) if path.suffix.lower() == ".txt" and path.name.casefold() not in NAME_FILES]


def holds_objects(path: Path) -> bool:
    """Whether the first line of a text file that is not empty is that of an object."""
    try:
        words = next((line.split() for line in read_text(path).splitlines() if line.strip()), [])
        numbers = [float(word) for word in words]
    except (OSError, ValueError):
        return False
    return len(words) >= 5 and len(words) % 2 == 1 and words[0].isdigit() and all(-OUTSIDE <= x <= 1 + OUTSIDE for x in numbers[1:])


def find_yolo(given: Given) -> Found:
    """A case for each image: with a mask where it has a file, of background alone where that is empty; unlabeled where it has none. Splits
    are kept where folders are called so."""
    images = find_all_images(given.images, (".txt", ".yaml", ".yml", ".names"))
    if given.masks is None and any(IMAGES in path.parts for path in images.values()):
        images = {name: path for name, path in images.items() if IMAGES in path.parts}
    files = files_of(images, given)
    objects = {name: read_file(path, upright_size(images[name])) for name, path in files.items()}
    used = sorted({drawn.class_id for drawings in objects.values() for drawn in drawings})
    if not used:
        raise DataError(f"{given.masks or given.folder}: no objects in {len(files)} files", "give files with outlines")
    names = read_names(given, used[-1] + 1)
    index = {number: k for k, number in enumerate(used, start=1)}
    splits = {name: split_of(*path.relative_to(given.folder).parts[:-1]) for name, path in images.items() if len(given.images) == 1}
    cases = []
    for name, path in images.items():
        drawings = [replace(drawn, class_id=index[drawn.class_id]) for drawn in objects.get(name, ())]
        mask = draw_on(path, files[name], drawings) if name in files else None
        split = splits.get(name) if mask else "unlabeled" if splits.get(name) else None
        cases.append(FoundCase(name, ImageFile(real_path(path)), mask, group=name, split=split))
    empty, count = sum(not drawings for drawings in objects.values()), sum(map(len, objects.values()))
    said = f"{len(images)} images, {len(files)} with a mask of {count} objects in all"
    said += f"; {empty} files are empty: background alone" if empty else ""
    return Found(cases, said, tuple(names[number] for number in used))


def files_of(images: Mapping[str, Path], given: Given) -> dict[str, Path]:
    """The file of each image that has one."""
    if given.masks:
        found = object_files(given.masks)
        matching = match(images, {path_id(given.masks, path, path.suffix): path for path in found})
        warn_matching(matching, "text files")
        return matching.masks
    there = set(object_files(given.folder))
    places = {name: [path.with_suffix(".txt"), in_labels(path).with_suffix(".txt")] for name, path in images.items()}
    return {name: next(filter(there.__contains__, paths)) for name, paths in places.items() if there & set(paths)}


def in_labels(path: Path) -> Path:
    """The path with the last folder images in it called labels."""
    *folders, name = path.parts
    if IMAGES in folders:
        folders[len(folders) - 1 - folders[::-1].index(IMAGES)] = "labels"
    return Path(*folders, name)


def read_file(path: Path, size: tuple[int, int]) -> list[Polygons]:
    """The objects in a file, in the pixels of an image of this height and width; their class as it stands there."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})", "replace or remove the file") from None
    return [read_line(line.split(), size, f"{path} line {number}") for number, line in enumerate(lines, start=1) if line.strip()]


def read_line(words: Sequence[str], size: tuple[int, int], where: str) -> Polygons:
    """One object; DataError, beginning with ``where``, for a box and for what is no outline."""
    if len(words) == 5:
        raise DataError(f"{where}: a box, no outline", "masks need outlines: export segments, not boxes")
    if not (words[0].isascii() and words[0].isdigit() and int(words[0][:4]) < MOST_CLASSES - 1):
        raise DataError(f"{where}: '{words[0]:.40}' is no class", f"write its number, 0 to {MOST_CLASSES - 2}")
    try:
        shares = points_of([float(word) for word in words[1:]], where)
    except ValueError:
        raise DataError(f"{where}: no numbers", "write class x1 y1 x2 y2 ...") from None
    if (shares < -OUTSIDE).any() or (shares > 1 + OUTSIDE).any():
        raise DataError(f"{where}: {shares.min():g} to {shares.max():g} are no shares of an image's size", "write x and y from 0 to 1")
    return Polygons(int(words[0]), (shares * size[::-1],))


def read_names(given: Given, count: int) -> list[str]:
    """The names of classes 0, 1, ...; class1, class2, ... where no file has them. DataError where there are fewer than ``count``."""
    folders = [given.folder, given.folder.parent] if given.masks is None else [given.masks, given.masks.parent, given.folder]
    found = next((path for folder in folders for name in NAME_FILES if (path := find_file(folder, name))), None)
    if found is None:
        return [f"class{number}" for number in range(1, count + 1)]
    names = read_yaml_names(found) if found.suffix.lower() == ".yaml" else [line.strip() for line in read_lines(found) if line.strip()]
    if len(names) < count:
        raise DataError(f"{found}: {len(names)} names, but there are objects of class {count - 1}", "name all classes, the first is 0")
    return names


def read_lines(path: Path) -> list[str]:
    try:
        return read_regular(path, MOST_NAMES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})", "write the names of classes, one a line") from None


def read_yaml_names(path: Path) -> list[str]:
    """What stands below names in a YAML file: a list, or a table from number to name."""
    import yaml

    try:
        values = yaml.safe_load("\n".join(read_lines(path)))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{path}: no YAML ({str(error).splitlines()[0]})", "repair it, or write the names into classes.txt") from None
    names = values.get("names") if isinstance(values, dict) else None
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        names = [names.get(number, f"class{number + 1}") for number in range(min(max(names, default=-1) + 1, MOST_CLASSES - 1))]
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise DataError(f"{path}: no names of classes", "write names: [polyp, tool], or a file classes.txt")
    return [str(name) for name in names]
