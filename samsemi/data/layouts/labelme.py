"""LabelMe: a JSON file of shapes for each image, beside it or in a folder of their own. https://github.com/wkentaro/labelme"""

import base64
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from samsemi.data.files import list_files, path_id, real_path
from samsemi.data.layouts.drawn import draw_on
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.jsons import DAMAGED, Row, holds_keys, points_of, read_json, rows_of, whole_number
from samsemi.data.layouts.matching import match
from samsemi.data.layouts.pairs import find_all_images, warn_matching
from samsemi.data.outlines import Polygons, Stamp
from samsemi.data.pictures import picture_label
from samsemi.data.sources import ImageFile
from samsemi.errors import DataError

Shape = Polygons | Stamp
log = logging.getLogger("samsemi")

KEYS = ("shapes", "imagePath")
"""That a file of LabelMe holds."""
LOOKED_AT = 8
"""JSON files that are searched for these."""
KNOWN = {"_background_": 0, "__ignore__": 255}
"""Labels that mean no class."""
CIRCLE = np.linspace(0, 2 * np.pi, 128, endpoint=False)
"""Where on a circle its outline has points."""


def lacks_labelme(given: Given) -> str:
    """Whether there are such files; opens the first few."""
    if given.masks and not given.masks.is_dir():
        return f"{given.masks} is no folder"
    if lack := given.lacks_outlines():
        return lack
    found = [path for path in list_files(given.masks or given.folder) if path.suffix.lower() == ".json"]
    return "" if any(holds_keys(path, KEYS) for path in found[:LOOKED_AT]) else "no JSON files of shapes"


def find_labelme(given: Given) -> Found:
    """A case for each image: with a mask where it has a file, unlabeled where it has none. The path of an image in a file is not used."""
    images = find_all_images(given.images, (".json",))
    files = {
        path_id(given.masks or given.folder, path, path.suffix): path
        for path in list_files(given.masks or given.folder)
        if path.suffix.lower() == ".json" and holds_keys(path, KEYS)
    }
    matching = match(images, files)
    warn_matching(matching, "JSON files")
    left_out = Counter[str]()
    shapes, sizes = {}, {}
    for name, path in matching.masks.items():
        shapes[name], sizes[name] = read_file(path, left_out)
    found = {label for rows in shapes.values() for label, _ in rows if label.casefold() != "background"}
    labels = sorted(found - set(KNOWN))
    if not labels:
        raise DataError(f"{given.masks or given.folder}: no shape that encloses anything", "draw polygons around what is to be found")
    for kind, count in left_out.items():
        log.warning("left out: %d shapes of the type %s, which enclose nothing", count, kind)
    index = {**{label: k for k, label in enumerate(labels, start=1)}, **KNOWN}
    cases = []
    for name, path in images.items():
        objects = [replace(drawn, class_id=index.get(label, 0)) for label, drawn in shapes.get(name, ())]
        mask = draw_on(path, matching.masks[name], objects, sizes[name]) if name in shapes else None
        cases.append(FoundCase(name, ImageFile(real_path(path)), mask, group=name))
    count = sum(map(len, shapes.values()))
    return Found(cases, f"{len(images)} images, {len(shapes)} with a mask of {count} shapes in all{matching.note}", tuple(labels))


def read_file(path: Path, left_out: Counter[str]) -> tuple[list[tuple[str, Shape]], tuple[int, int] | None]:
    """The label of each shape in a file, and what it encloses, of no class yet; counts the types of those that enclose nothing. And height
    and width of the image, where they stand there."""
    values = read_json(path)
    found = []
    for number, row in enumerate(rows_of(values, "shapes", str(path)), start=1):
        where = f"{path}: shape {number}"
        kind, label = row.get("shape_type") or "polygon", row.get("label")
        if not isinstance(label, str) or not label.strip():
            raise DataError(f"{where} has no label", "label it, or remove it")
        if kind in SHAPES:
            found.append((label.strip(), SHAPES[kind](row, where)))
        else:
            left_out[f"{kind!s:.40}"] += 1
    if values.get("imageHeight") is None or values.get("imageWidth") is None:
        return found, None
    return found, (whole_number(values, "imageHeight", str(path), least=1), whole_number(values, "imageWidth", str(path), least=1))


def read_polygon(row: Row, where: str) -> Polygons:
    return Polygons(0, (points_of(row.get("points"), where),))


def read_rectangle(row: Row, where: str) -> Polygons:
    """Between two opposite corners."""
    points = points_of(row.get("points"), where, least=2)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return Polygons(0, (np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]),))


def read_circle(row: Row, where: str) -> Polygons:
    """Around the first point through the second."""
    center, edge, *_ = points_of(row.get("points"), where, least=2)
    radius = np.hypot(*(edge - center))
    return Polygons(0, (center + radius * np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1),))


def read_stamp(row: Row, where: str) -> Stamp:
    """A picture in the file, whose corner is the first point."""
    left, top = np.rint(points_of(row.get("points"), where, least=2)[0]).astype(int)
    try:
        data = base64.b64decode(str(row.get("mask") or ""), validate=True)
    except ValueError:
        raise DataError(f"{where}: a mask that is no picture", DAMAGED) from None
    try:
        return Stamp(0, int(top), int(left), picture_label(data, Path(where)) > 0)
    except DataError as error:
        raise DataError(f"{where}: a mask that is no picture ({error.message})", DAMAGED) from None


SHAPES: dict[object, Callable[[Row, str], Shape]] = {
    "polygon": read_polygon,
    "rectangle": read_rectangle,
    "circle": read_circle,
    "mask": read_stamp,
}
"""Type of a shape -> its reader; others enclose nothing."""
