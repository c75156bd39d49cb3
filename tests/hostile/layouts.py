"""Foreign data sets as strangers make them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from foreign import formats, layouts
from foreign.world import HEIGHT, WIDTH, save
from hostile.case import DATA, USAGE, Case, Place, all_of, at, data, link, text
from hostile.tables import DEEP
from PIL import Image

PREPARE = "prepare raw --out out"
JSON_DEEP = '{"images": [], "categories": [], "annotations": ' + DEEP


def drawn(draw: Callable[[Path], None]) -> Callable[[Place], None]:
    """A sample in raw/."""

    def make(place: Place) -> None:
        (place.here / "raw").mkdir()
        draw(place.here / "raw")

    return make


def coco(change: Callable[[dict], object]) -> Callable[[Place], None]:
    """A COCO file that is changed in place."""

    def make(place: Place) -> None:
        drawn(layouts.draw_coco(layouts.as_polygon))(place)
        path = place.here / "raw" / "annotations.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return make


def first(**values: object) -> Callable[[Place], None]:
    """Another first annotation."""
    return coco(lambda found: found["annotations"][0].update(values))


def many_objects(values: dict) -> None:
    """All over one image, which is slow where every object costs a whole image."""
    values["annotations"] *= 1500


def write_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((4, 4))
        file["label"] = h5py.ExternalLink("/etc/passwd", "label")


def write_bomb(path: Path) -> None:
    """A compressed array of 16 GB."""
    with h5py.File(path, "w") as file:
        file.create_dataset("image", (65536, 65536), dtype="f4", chunks=(4096, 4096), compression="gzip")
        file.create_dataset("label", (65536, 65536), dtype="u1", chunks=(4096, 4096), compression="gzip")


def add_link(folder: Path) -> None:
    """Images that lie elsewhere are read, as everywhere; names that lead there are not."""
    layouts.draw_splits(folder)
    (folder / "train" / "loop").symlink_to(folder)


def bomb_colors(folder: Path) -> None:
    layouts.draw_colors(folder)
    save(folder / "masks" / "001.png", np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def many_frames(folder: Path) -> None:
    formats.as_files("gif")(folder)
    frames = [Image.new("L", (2, 2), 255 * (number % 2)) for number in range(20_000)]
    frames[0].save(folder / "images" / "001.gif", save_all=True, append_images=frames[1:])


YOLO, LABELME, NNUNET = drawn(layouts.draw_yolo), drawn(layouts.draw_labelme), drawn(layouts.draw_nnunet)
SLICE = "raw/slices/patient001_frame01_slice_1.h5"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
PAIRS = "prepare raw/images --masks raw/masks --out out"
CASES = [
    Case("coco: a name that leads out", PREPARE, DATA, "leads out", coco(lambda f: f["images"][0].update(file_name="../../../etc/passwd"))),
    Case("coco: an absolute name", PREPARE, DATA, "leads out", coco(lambda f: f["images"][0].update(file_name="/etc/passwd"))),
    Case("coco: a name with a zero byte", PREPARE, DATA, "leads out", coco(lambda f: f["images"][0].update(file_name="a\0.png"))),
    Case("coco: points that are no numbers", PREPARE, DATA, "annotation 11", first(segmentation=[[1, 2, float("nan"), 4, 5, 6]])),
    Case("coco: points far away", PREPARE, DATA, "annotation 11", first(segmentation=[[1, 2, 1e300, 4, 5, 6]])),
    Case(
        "coco: run lengths of 10^18 pixels", PREPARE, DATA, "annotation 11", first(segmentation={"size": [10**9] * 2, "counts": [10**18]})
    ),
    Case("coco: packed run lengths of 2^60", PREPARE, DATA, "", first(segmentation={"size": [HEIGHT, WIDTH], "counts": "o" * 11 + "0"})),
    Case(
        "coco: an image of 10^9 pixels a side", PREPARE, DATA, "001.png", coco(lambda f: f["images"][0].update(height=10**9, width=10**9))
    ),
    Case(
        "coco: an outline of 200,000 zigzags",
        PREPARE,
        DATA,
        "",
        first(segmentation=[[float(x) for i in range(200_000) for x in (i % 30, 999 * (i % 2))]]),
    ),
    Case("coco: 24,000 objects", PREPARE, 0, "", coco(many_objects)),
    Case("coco: a category that is a list", PREPARE, DATA, "annotation 11", first(category_id=[7])),
    Case(
        "coco: a million categories",
        PREPARE,
        (0, DATA),
        "",
        coco(lambda f: f.update(categories=[{"id": i, "name": f"c{i}"} for i in range(10**6)])),
    ),
    Case("coco: nested deep", PREPARE, (DATA, USAGE), "", all_of(drawn(layouts.draw_unlabeled), at("raw/c.json", text(JSON_DEEP)))),
    Case("coco: a pipe", PREPARE, USAGE, "masks", all_of(drawn(layouts.draw_unlabeled), at("raw/c.json", os.mkfifo))),
    Case(
        "coco: a device as --masks",
        "prepare raw/images --masks c.json --out out",
        DATA,
        "",
        all_of(drawn(layouts.draw_unlabeled), at("c.json", link("/dev/zero"))),
    ),
    Case(
        "yolo: names that name code",
        PREPARE,
        DATA,
        "data.yaml",
        all_of(YOLO, at("raw/data.yaml", text("names: !!python/object/apply:os.mkdir ['pwned']"))),
    ),
    Case("yolo: names within names", PREPARE, DATA, "data.yaml", all_of(YOLO, at("raw/data.yaml", text(LAUGHS + "names: *i\n")))),
    Case("yolo: names nested deep", PREPARE, DATA, "data.yaml", all_of(YOLO, at("raw/data.yaml", text("names: " + DEEP)))),
    Case(
        "yolo: a class of a million digits",
        PREPARE,
        DATA,
        "no class",
        all_of(YOLO, at("raw/labels/train/002.txt", text("9" * 10**6 + " 0 0 1 0 1 1"))),
    ),
    Case("yolo: no text", PREPARE, DATA, "002.txt", all_of(YOLO, at("raw/labels/train/002.txt", data(bytes(range(256)))))),
    Case(
        "labelme: cut", PREPARE, DATA, "002.json", all_of(LABELME, at("raw/photos/002.json", text('{"shapes": [], "imagePath": '))), "out"
    ),
    Case(
        "labelme: a label of 1 MB",
        PREPARE,
        (0, DATA, USAGE),
        "",
        all_of(
            LABELME,
            at(
                "raw/photos/002.json",
                text(json.dumps({"imagePath": "", "shapes": [{"label": "x" * 10**6, "points": [[1, 1], [9, 1], [9, 9]]}]})),
            ),
        ),
    ),
    Case("nnunet: labels that are a list", PREPARE, DATA, "dataset.json", all_of(NNUNET, at("raw/dataset.json", text('{"labels": [1]}')))),
    Case("nnunet: dataset.json nested deep", PREPARE, DATA, "dataset.json", all_of(NNUNET, at("raw/dataset.json", text(DEEP)))),
    Case("acdc: a label in another file", PREPARE, DATA, "link", all_of(drawn(layouts.draw_acdc), at(SLICE, write_link))),
    Case("acdc: arrays of 16 GB", PREPARE, DATA, "slice_1.h5", all_of(drawn(layouts.draw_acdc), at(SLICE, write_bomb))),
    Case("splits: a folder that holds itself", PREPARE, 0, "", drawn(add_link)),
    Case("colors: a photograph as a mask", f"{PAIRS} --color-map raw/colors.csv", DATA, "001.png", drawn(bomb_colors)),
    Case(
        "colors: an endless file",
        f"{PAIRS} --color-map c.csv",
        USAGE,
        "c.csv",
        all_of(drawn(layouts.draw_colors), at("c.csv", link("/dev/zero"))),
    ),
    Case("gif: 20,000 frames", PAIRS, DATA, "animation", drawn(many_frames)),
]
