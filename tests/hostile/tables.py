"""Manifests, data sets, split files and TOML files."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile.case import CHECKPOINT, DATA, NOTHING, USAGE, Case, Place, all_of, at, data, link, replace, text
from PIL import Image

CHECK = "check dataset"
TRAIN = "warmstart dataset --out out --iterations 1 --size 32 --encoder tu-lcnet_035 --decoder-channels 16,12,8,8,8"
FINETUNE = "finetune dataset --model {warm} --store {store} --out out --iterations 2 --min-confidence 0 --min-quality 0"
SPLIT = "prepare {images} --masks {masks} --out out --split split.csv"
ENDLESS = {
    "a pipe": lambda path: os.mkfifo(path),
    "an endless device": link("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}
DEEP = "[" * 200_000
Rows = list[dict[str, str]]


def dataset(change: Callable[[Path], object]) -> Callable[[Place], None]:
    return lambda place: change(place.copy("dataset"))


def file_of(name: str, write: Callable[[Path], object]) -> Callable[[Place], None]:
    return dataset(lambda folder: replace(folder / name, write))


def rows(change: Callable[[Rows], Rows | None]) -> Callable[[Place], None]:
    """A manifest of other rows: changed in place, or those that are returned."""

    def write(folder: Path) -> None:
        path = folder / "manifest.csv"
        with open(path, newline="") as file:
            found = list(csv.DictReader(file))
        found = change(found) or found
        with open(path, "w", newline="", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, found[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)

    return dataset(write)


def first(**values: str) -> Callable[[Place], None]:
    """Other values in the first row that is labeled."""
    return rows(lambda found: next(row for row in found if row["split"] == "labeled").update(values))


def about(**values: object) -> Callable[[Place], None]:
    """A dataset.json of other values."""

    def write(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return dataset(write)


def many_rows(found: Rows, count: int = 100_000) -> Rows:
    return [{**found[number % len(found)], "id": f"case{number}"} for number in range(count)]


def same_patient(found: Rows) -> None:
    test = next(row for row in found if row["split"] == "test")
    next(row for row in found if row["split"] == "labeled")["group"] = test["group"]


def cut_rows(change: Callable[[str], str]) -> Callable[[Place], None]:
    return dataset(lambda folder: (folder / "manifest.csv").write_text(change((folder / "manifest.csv").read_text())))


def repaint(split: str, change: Callable[[np.ndarray], np.ndarray], hashes: bool) -> Callable[[Place], None]:
    """The images of a split replaced by others; the manifest knows their hashes, or none."""

    def write(place: Place) -> None:
        folder = place.copy("dataset")
        with open(folder / "manifest.csv", newline="") as file:
            found = list(csv.DictReader(file))
        for row in found:
            if row["split"] == split:
                with Image.open(row["image"]) as image:
                    array = change(np.array(image))
                (place.here / "images").mkdir(exist_ok=True)
                row["image"] = str(place.here / "images" / f"{row['id']}.png")
                Image.fromarray(array).save(row["image"])
            if not hashes:
                row.update({name: "" for name in row if name.endswith("sha256")})
        with open(folder / "manifest.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, found[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)

    return write


def config(content: str) -> Callable[[Place], None]:
    return at("c.toml", text(content))


def planted(content: str) -> Callable[[Place], None]:
    """A TOML file, and a module beside it that leaves a mark when it is imported."""
    return all_of(
        config(content), at("evil.py", text("open('pwned', 'w')\ndef load(*a): open('pwned', 'w')\ndef draw(*a): open('pwned', 'w')\n"))
    )


CASES = [
    *(Case(f"manifest: {name}", CHECK, DATA, "manifest.csv", file_of("manifest.csv", write)) for name, write in ENDLESS.items()),
    *(Case(f"dataset.json: {name}", CHECK, DATA, "dataset.json", file_of("dataset.json", write)) for name, write in ENDLESS.items()),
    *(Case(f"split file: {name}", SPLIT, DATA, "split.csv", at("split.csv", write)) for name, write in ENDLESS.items()),
    *(Case(f"config: {name}", f"{CHECK} --config c.toml", USAGE, "c.toml", at("c.toml", write)) for name, write in ENDLESS.items()),
    Case("manifest: a folder", CHECK, DATA, "manifest.csv", file_of("manifest.csv", lambda path: path.mkdir())),
    Case("manifest: empty", CHECK, DATA, "manifest.csv", file_of("manifest.csv", data(b""))),
    Case(
        "manifest: not UTF-8",
        CHECK,
        DATA,
        "manifest.csv",
        dataset(lambda f: (f / "manifest.csv").write_bytes((f / "manifest.csv").read_bytes() + b"\xff\xfe")),
    ),
    Case("manifest: bytes", CHECK, DATA, "manifest.csv", file_of("manifest.csv", data(bytes(range(256)) * 100))),
    Case("manifest: UTF-16", CHECK, DATA, "manifest.csv", file_of("manifest.csv", data("id,image\n".encode("utf-16")))),
    Case("manifest: zero bytes", CHECK, DATA, "manifest.csv", cut_rows(lambda t: t.replace("labeled", "\0"))),
    Case("manifest: a quote that never ends", CHECK, DATA, "manifest.csv", cut_rows(lambda t: t.replace("\n", '\n"', 1))),
    Case("manifest: a cell of 1 MB", CHECK, DATA, "manifest.csv", first(group="x" * 1_000_000)),
    Case("manifest: an id of 1 MB", CHECK, DATA, "manifest.csv", first(id="x" * 1_000_000)),
    Case("manifest: 8,000 rows, trained", TRAIN, 0, "", rows(lambda found: many_rows(found, 8_000))),
    Case(
        "manifest: 100,000 rows without images",
        "info dataset",
        (0, DATA),
        "",
        rows(lambda found: [{**row, "image": "no.png"} for row in many_rows(found)]),
    ),
    Case("manifest: columns named twice", CHECK, DATA, "", cut_rows(lambda t: t.replace("id,image,mask", "id,id,id", 1))),
    Case("manifest: an id that is a path", CHECK, DATA, "id", first(id="../../evil")),
    Case("manifest: an id that is absolute", CHECK, DATA, "id", first(id="/etc/passwd")),
    Case("manifest: an empty id", CHECK, DATA, "id", first(id="")),
    Case("manifest: an id of 300 letters", TRAIN, DATA, "id", first(id="x" * 300)),
    Case("manifest: an id with a line break", CHECK, DATA, "id", first(id="a\nb")),
    Case("manifest: an image that is /etc/passwd", TRAIN, DATA, "/etc/passwd", first(image="/etc/passwd", image_sha256="")),
    Case("manifest: an image that is a device", TRAIN, DATA, "/dev/zero", first(image="/dev/zero", image_sha256="")),
    Case("manifest: an image that is a folder", TRAIN, DATA, "", first(image="/", image_sha256="")),
    Case("manifest: an image on the network", TRAIN, DATA, "", first(image="http://192.0.2.1/x.png", image_sha256="")),
    Case("manifest: a path of 5,000 letters", TRAIN, DATA, "", first(image="x" * 5000)),
    Case("manifest: a path with a zero byte", CHECK, DATA, "", cut_rows(lambda t: t.replace("/p000", "/\0p000"))),
    Case("manifest: a hash that is none", TRAIN, DATA, "", first(image_sha256="zzzz")),
    Case("manifest: one patient in labeled and test, trained", TRAIN, DATA, "group", rows(same_patient)),
    Case("manifest: one patient in labeled and test, measured", "eval dataset --model {warm} --out out", DATA, "group", rows(same_patient)),
    Case(
        "manifest: a mask that is the image",
        TRAIN,
        (DATA, NOTHING),
        "",
        rows(lambda found: [{**r, "mask": r["mask"] and r["image"], "mask_sha256": ""} for r in found]),
    ),
    Case("dataset.json: nested deep", CHECK, DATA, "dataset.json", file_of("dataset.json", text(DEEP))),
    Case("dataset.json: a number of a million digits", CHECK, DATA, "dataset.json", file_of("dataset.json", text("9" * 1_000_000))),
    Case("dataset.json: a list", CHECK, DATA, "dataset.json", file_of("dataset.json", text("[1]"))),
    Case("dataset.json: cut", CHECK, DATA, "dataset.json", dataset(lambda f: (f / "dataset.json").write_text('{"name": "x", "cl'))),
    Case("dataset.json: not UTF-8", CHECK, DATA, "dataset.json", file_of("dataset.json", data(b'{"name": "\xff"}'))),
    Case("dataset.json: 300 classes", TRAIN, DATA, "classes", about(classes=[f"c{k}" for k in range(300)])),
    Case("dataset.json: 1,000,000 classes", TRAIN, DATA, "classes", about(classes=[f"c{k}" for k in range(1_000_000)])),
    Case("dataset.json: classes that are numbers", CHECK, DATA, "classes", about(classes=[0, 1])),
    Case("dataset.json: classes in an object", CHECK, DATA, "classes", about(classes={"0": "a", "1": "b"})),
    Case("dataset.json: spacing NaN", CHECK, DATA, "spacing", about(spacing_mm=float("nan"))),
    Case("dataset.json: spacing text", CHECK, DATA, "spacing", about(spacing_mm="1")),
    Case("dataset.json: schema a list", CHECK, DATA, "schema", about(schema=["samsemi.dataset/1"])),
    Case("images: replaced between mining and learning", FINETUNE, (DATA, CHECKPOINT), "", repaint("unlabeled", lambda a: 255 - a, True)),
    Case(
        "images: mirrored between mining and learning",
        FINETUNE,
        (DATA, CHECKPOINT),
        "",
        repaint("unlabeled", lambda a: a[:, ::-1].copy(), False),
    ),
    Case("images: of another size than was mined", FINETUNE, (DATA, CHECKPOINT), "", repaint("unlabeled", lambda a: a[:-8].copy(), False)),
    Case("split file: bytes", SPLIT, DATA, "split.csv", at("split.csv", data(bytes(range(256))))),
    Case("split file: a cell of 1 MB", SPLIT, DATA, "split.csv", at("split.csv", text("id,split\n" + "x" * 1_000_000 + ",val\n"))),
    Case("split file: an id twice", SPLIT, DATA, "split.csv", at("split.csv", text("id,split\np000_0,val\np000_0,test\n"))),
    Case(
        "config: names code for --sam",
        "mine {dataset} --model {warm} --out out.h5 --config c.toml",
        USAGE,
        "evil:load",
        planted('[mine]\nsam = "evil:load"\n'),
    ),
    Case(
        "config: names code to mine again",
        f"{FINETUNE.replace('dataset', '{dataset}')} --config c.toml",
        USAGE,
        "evil:load",
        planted('[finetune]\nsam = "evil:load"\n'),
    ),
    Case(
        "config: names code for --stream",
        "adapt {dataset} --out out.safetensors --config c.toml",
        USAGE,
        "evil:draw",
        planted('[adapt]\nstream = "evil:draw"\n'),
    ),
    Case("config: nested deep", f"{CHECK} --config c.toml", USAGE, "c.toml", config("x = " + "[" * 100_000)),
    Case("config: bytes", f"{CHECK} --config c.toml", USAGE, "c.toml", at("c.toml", data(bytes(range(256))))),
    Case("config: a list for a number", f"{TRAIN} --config c.toml", USAGE, "batch_size", config("[warmstart]\nbatch_size = [1, 2]\n")),
    Case("config: a date for a path", f"{TRAIN} --config c.toml", USAGE, "", config("[warmstart]\nencoder_weights = 2020-01-01\n")),
    Case("config: a huge number", f"{TRAIN} --config c.toml", USAGE, "", config("[warmstart]\nbatch_size = " + "9" * 5000 + "\n")),
    Case("config: lr is nan", f"{TRAIN} --config c.toml", USAGE, "lr", config("[warmstart]\nlr = nan\n")),
    Case("config: lr is inf", f"{TRAIN} --config c.toml", USAGE, "lr", config("[warmstart]\nlr = inf\n")),
    Case("config: a file of itself", f"{CHECK} --config c.toml", USAGE, "config", config('[check]\nconfig = "c.toml"\n')),
]
