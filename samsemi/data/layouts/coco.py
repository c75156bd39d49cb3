"""COCO: a JSON file of images, categories and annotations, or one for each split. https://cocodataset.org/#format-data"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samsemi.data.coco import unpack_runs
from samsemi.data.files import list_files, real_path
from samsemi.data.layouts.drawn import MOST_PIXELS, draw_on, split_of
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given, name_inside
from samsemi.data.layouts.jsons import DAMAGED, Row, holds_keys, points_of, read_json, rows_of, whole_number
from samsemi.data.layouts.matching import fold, stem
from samsemi.data.layouts.pairs import find_all_images
from samsemi.data.outlines import Drawn, Polygons, Runs
from samsemi.data.sources import DrawnMask, ImageFile
from samsemi.errors import DataError

KEYS = ("images", "annotations", "categories")
"""That a file of COCO holds."""
LOOKED_AT = 8
"""JSON files of a folder, the outermost ones, that are searched for these."""


@dataclass(frozen=True)
class Table:
    """What stands in a file of COCO."""

    path: Path
    images: Mapping[int, Row]
    """By their numbers."""
    annotations: Sequence[Row]
    categories: Mapping[int, str]
    """Number -> name."""

    def used(self) -> list[str]:
        """The names of the categories that objects have, in the order of their numbers; not that of the background."""
        numbers = {number for row in self.annotations if isinstance(number := row.get("category_id"), int | float)}
        return [name for number, name in sorted(self.categories.items()) if number in numbers and name.casefold() != "background"]


def lacks_coco(given: Given) -> str:
    """Whether there are such files; opens the first few JSON files."""
    return given.lacks_outlines() or ("" if coco_files(given) else "no JSON file of images, annotations and categories")


def coco_files(given: Given) -> list[Path]:
    """The files of COCO that were given, or lie in the folder that was; of those of the COCO collection the ones with masks."""
    if given.masks and given.masks.is_file():
        return [given.masks] if holds_keys(given.masks, KEYS) else []
    found = [path for path in list_files(given.masks or given.folder) if path.suffix.lower() == ".json"]
    found = [path for path in sorted(found, key=lambda path: (len(path.parts), path))[:LOOKED_AT] if holds_keys(path, KEYS)]
    return [path for path in found if path.name.startswith("instances")] or found


def find_coco(given: Given) -> Found:
    """A case for each image in the folders: with a mask where a file lists it, unlabeled where none does. Each file is a split where there
    are several and their names, or those of their folders, say so."""
    tables = [read_table(path) for path in coco_files(given)]
    classes = tuple(dict.fromkeys(name for table in tables for name in table.used()))
    if not classes:
        raise DataError(f"{tables[0].path}: no objects", "give a file with annotations")
    images = find_all_images(given.images, (".json",))
    masks: dict[Path, DrawnMask] = {}
    splits: dict[Path, str | None] = {}
    missing, empty, count = [], 0, 0
    for table in tables:
        objects = read_objects(table, {name: k for k, name in enumerate(classes, start=1)})
        placed = place_images(table, list(images.values()), given.folder)
        for number, row in table.images.items():
            path = placed.get(number)
            if path is None:
                missing.append(row["file_name"])
                continue
            if path in masks:
                raise DataError(
                    f"{path} is listed twice, in {masks[path].path} and {table.path}", "give one of the files with --masks FILE"
                )
            masks[path] = draw_on(path, table.path, objects.get(number, ()), size_of(row, table.path))
            splits[path] = split_of(table.path.stem, table.path.parent.name) if len(tables) > 1 else None
            empty += number not in objects
            count += len(objects.get(number, ()))
    if not masks:
        raise DataError(
            f"{tables[0].path}: none of its images lies in {given.folder}, such as {missing[0]!r:.80}", "give the folder of these images"
        )
    cases = [
        FoundCase(name, ImageFile(real_path(path)), masks.get(path), group=name, split=splits.get(path)) for name, path in images.items()
    ]
    said = [
        f"{len(images)} images, {len(masks)} with a mask of {count} objects in all (from {', '.join(table.path.name for table in tables)})"
    ]
    said += [f"{empty} are listed without any object and taken as background"] if empty else []
    said += [f"{len(missing)} are listed and not there, such as {missing[0]!r:.80}"] if missing else []
    return Found(cases, "; ".join(said), classes)


def read_table(path: Path) -> Table:
    """A file of COCO; DataError where a number or name in it cannot be."""
    values = read_json(path)
    images = {whole_number(row, "id", f"{path}: an image"): row for row in rows_of(values, "images", str(path))}
    if len(images) < len(rows_of(values, "images", str(path))):
        raise DataError(f"{path}: two images of one id", "give each image an id of its own; objects are of the image with their number")
    categories = {
        whole_number(row, "id", f"{path}: a category"): str(row.get("name", "")).strip() for row in rows_of(values, "categories", str(path))
    }
    if len(categories) < len(rows_of(values, "categories", str(path))):
        raise DataError(f"{path}: two categories of one id", "give each category an id of its own")
    if not all(categories.values()):
        raise DataError(f"{path}: a category without a name", "name each category")
    return Table(path, images, rows_of(values, "annotations", str(path)), categories)


def read_objects(table: Table, index: Mapping[str, int]) -> dict[int, list[Drawn]]:
    """The objects of each image, by its number; DataError where one has no outline, or is of an image or category that is not listed."""
    boxes = [row for row in table.annotations if not row.get("segmentation")]
    if boxes:
        raise DataError(
            f"{table.path}: {len(boxes)} of {len(table.annotations)} annotations have a box alone: id {boxes[0].get('id')!r:.40}",
            "masks need outlines: export polygons or run lengths, or remove these annotations",
        )
    objects = defaultdict(list)
    for row in table.annotations:
        where = f"{table.path}: annotation {row.get('id')!r:.40}"
        image, category = whole_number(row, "image_id", where), whole_number(row, "category_id", where)
        if image not in table.images or category not in table.categories:
            raise DataError(f"{where} is of image {image} and category {category}, which are not both listed", DAMAGED)
        objects[image].append(read_object(row["segmentation"], index.get(table.categories[category], 0), where))
    return objects


def read_object(segmentation: object, class_id: int, where: str) -> Drawn:
    """One object; DataError, beginning with ``where``, for polygons or run lengths that cannot be."""
    if isinstance(segmentation, list):
        return Polygons(class_id, tuple(points_of(ring, where, least=1) for ring in segmentation))
    if not isinstance(segmentation, dict):
        raise DataError(f"{where}: no outline and no run lengths", DAMAGED)
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise DataError(f"{where}: run lengths without a size", DAMAGED)
    height, width = (whole_number({"size": value}, "size", where, least=1, most=MOST_PIXELS) for value in size)
    try:
        lengths = np.asarray(unpack_runs(counts) if isinstance(counts, str) else counts, dtype=np.int64).reshape(-1)
        fits = (
            height * width <= MOST_PIXELS and (lengths >= 0).all() and (lengths <= height * width).all() and lengths.sum() == height * width
        )
    except (ValueError, TypeError, OverflowError):
        fits = False
    if not fits:
        raise DataError(f"{where}: run lengths that do not make up an image of {width} x {height}", DAMAGED)
    return Runs(class_id, height, width, lengths)


def place_images(table: Table, images: Sequence[Path], folder: Path) -> dict[int, Path]:
    """Where the images of a file lie, by their numbers: as far as their names tell, those nearest to the file; DataError where that leaves
    several, and for a name that leads out of the folder."""
    called = defaultdict(list)
    for path in images:
        called[spell(path)[-1]].append(path)
    placed = {}
    for number, row in table.images.items():
        where = f"{table.path}: image {number}"
        parts = spell(name_inside(row.get("file_name"), folder, where))
        found = called.get(parts[-1], [])
        found = [path for path in found if spell(path)[-len(parts) :] == parts] or found
        split = split_of(table.path.stem, table.path.parent.name)
        found = (
            [path for path in found if path.parent == table.path.parent]
            or [path for path in found if split_of(path.parent.name) == split]
            or found
        )
        if len(found) > 1:
            raise DataError(
                f"{where} may be {found[0]} or {found[1]}", "write file names with their folders, or give one file with --masks"
            )
        if found:
            placed[number] = found[0]
    return placed


def spell(path: Path) -> tuple[str, ...]:
    """The parts of a path without what may differ between systems and exports: case, Unicode form, suffix."""
    return tuple(map(fold, (*path.parts[:-1], stem(path))))


def size_of(row: Row, path: Path) -> tuple[int, int] | None:
    """Height and width that a file says of an image, None where it does not."""
    if row.get("height") is None or row.get("width") is None:
        return None
    where = f"{path}: image {row.get('id')}"
    return whole_number(row, "height", where, least=1), whole_number(row, "width", where, least=1)
