"""Outputs where something stands already that is somebody else's, or where nothing can be."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
from hostile.case import DATA, REFUSED, USAGE, Case, Place, all_of, at, link, text

SMALL = "--iterations 1 --size 32 --encoder tu-lcnet_035 --decoder-channels 16,12,8,8,8"
MINE = "mine {dataset} --model {warm} --sam none --min-area 16 --min-confidence 0 --min-quality 0"
PREPARE = "prepare {images} --masks {masks} --val 2 --test 2"
WRITING = {
    "prepare": f"{PREPARE} --out {{}}",
    "warmstart": f"warmstart {{{{dataset}}}} {SMALL} --out {{}}",
    "mine": f"{MINE} --out {{}}",
    "finetune": "finetune {dataset} --model {warm} --iterations 1 --out {}",
    "distill": "distill {dataset} --iterations 1 --batch-size 4 --size 32 --sam-size 64 --out {}",
    "adapt": "adapt {dataset} --iterations 1 --out {}.safetensors",
    "eval": "eval {dataset} --model {warm} --out {}",
    "predict": "predict {images} --model {warm} --out {}",
    "export-labels": "export-labels {store} --out {}",
}
PRECIOUS = "somebody's years of work"


def line(command: str, out: str, *more: str) -> str:
    return " ".join([WRITING[command].replace("{{", "{").replace("}}", "}").replace("{}", out), *more])


def precious(*names: str) -> Callable[[Place], None]:
    """Files of somebody else's."""
    return all_of(*(at(name, text(PRECIOUS)) for name in names))


def kept(*names: str) -> Callable[[Place], bool]:
    """Whether they are still there."""
    return lambda place: all((place.here / name).is_file() and (place.here / name).read_text() == PRECIOUS for name in names)


def foreign_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["measurements"] = range(100)


def hdf5_kept(name: str) -> Callable[[Place], bool]:
    def check(place: Place) -> bool:
        with h5py.File(place.here / name) as file:
            return len(file["measurements"]) == 100

    return check


def guarded(name: str, command: str, *names: str, out: str = "foreign", code: int | tuple[int, ...] = REFUSED) -> Case:
    """A command beside files of somebody else's, which stay."""
    return Case(f"out: {name}", command, code, "", precious(*names), out=out, left=kept(*names))


FOLDER_MARKS = {
    "prepare": "manifest.csv",
    "eval": "metrics.json",
    "predict": "predictions.json",
    "export-labels": "labels.json",
    "warmstart": "made_from.json",
}

CASES = [
    *(
        Case(f"out: {command} below a link to itself", line(command, "round/x"), REFUSED, "round", at("round", link("round")))
        for command in WRITING
    ),
    *(Case(f"out: {command} at a name of 300 letters", line(command, "x" * 300), REFUSED, "x" * 100) for command in WRITING),
    *(
        Case(
            f"out: {command} at a pipe",
            line(command, "pipe"),
            REFUSED,
            "pipe",
            at("pipe.safetensors" if command == "adapt" else "pipe", lambda path: os.mkfifo(path)),
            out="pipe",
        )
        for command in WRITING
    ),
    *(Case(f"out: {command} in /proc", line(command, "/proc/self/x"), REFUSED, "/proc/") for command in WRITING),
    *(
        guarded(
            f"{command} --overwrite on a foreign folder with its mark",
            line(command, "foreign", "--overwrite"),
            f"foreign/{mark}",
            "foreign/thesis.txt",
        )
        for command, mark in FOLDER_MARKS.items()
    ),
    *(
        guarded(f"{command} --overwrite on a foreign folder", line(command, "foreign", "--overwrite"), "foreign/thesis.txt")
        for command in FOLDER_MARKS
    ),
    guarded(
        "predict --resume into a foreign folder with its mark",
        line("predict", "foreign", "--resume"),
        "foreign/predictions.json",
        "foreign/thesis.txt",
    ),
    guarded(
        "mine --overwrite beside foreign parts",
        line("mine", "foreign.h5", "--overwrite"),
        "foreign.h5.parts/thesis.txt",
        "foreign.h5.parts/000000.h5",
        code=(0, REFUSED),
    ),
    guarded(
        "mine --resume beside foreign parts",
        line("mine", "foreign.h5", "--resume"),
        "foreign.h5.parts/thesis.txt",
        "foreign.h5.parts/000000.h5",
        code=(0, REFUSED, 5),
    ),
    guarded(
        "prepare beside a foreign temporary folder",
        line("prepare", "foreign"),
        ".foreign.part/thesis.txt",
        ".foreign.old/thesis.txt",
        code=(0, REFUSED),
    ),
    guarded("eval beside a foreign temporary folder", line("eval", "foreign"), ".foreign.part/thesis.txt", code=(0, REFUSED)),
    guarded("mine beside a foreign temporary file", line("mine", "foreign.h5"), ".foreign.h5.part", code=(0, REFUSED)),
    guarded("adapt beside a foreign temporary file", line("adapt", "foreign"), ".foreign.safetensors.part", code=(0, REFUSED)),
    Case(
        "out: mine --overwrite on a foreign HDF5 file",
        line("mine", "foreign.h5", "--overwrite"),
        REFUSED,
        "foreign.h5",
        at("foreign.h5", foreign_hdf5),
        out="foreign",
        left=hdf5_kept("foreign.h5"),
    ),
    Case(
        "out: mine --overwrite on out-of-fold maps",
        "mine {dataset} --model folds --sam none --out folds/out_of_fold.h5 --overwrite",
        REFUSED,
        "out_of_fold.h5",
        lambda place: place.copy("folds"),
        left=lambda place: (place.here / "folds/out_of_fold.h5").read_bytes() == (place.world.folds / "out_of_fold.h5").read_bytes(),
    ),
    Case(
        "out: mine --overwrite on the cache",
        "mine {dataset} --model {warm} --out cache.h5 --embeddings cache.h5 --overwrite",
        (REFUSED, USAGE),
        "cache.h5",
        lambda place: place.copy("cache"),
        left=lambda place: (place.here / "cache.h5").read_bytes() == place.world.cache.read_bytes(),
    ),
    Case(
        "out: a link at a temporary name",
        line("mine", "foreign.h5"),
        (0, REFUSED),
        "",
        all_of(precious("thesis.txt"), at(".foreign.h5.part", link("thesis.txt"))),
        out="foreign",
        left=kept("thesis.txt"),
    ),
    Case(
        "out: a link at a temporary name of a picture",
        line("predict", "foreign"),
        (0, REFUSED),
        "",
        all_of(precious("thesis.txt"), at("foreign/.p000_0.png.part", link("../thesis.txt"))),
        out="foreign",
        left=kept("thesis.txt"),
    ),
    Case(
        "out: a link to a file",
        line("mine", "foreign.h5", "--overwrite"),
        REFUSED,
        "",
        all_of(precious("thesis.txt"), at("foreign.h5", link("thesis.txt"))),
        out="foreign",
        left=kept("thesis.txt"),
    ),
    Case("out: a link to nothing", line("mine", "foreign.h5"), (0, REFUSED), "", at("foreign.h5", link("nowhere/x.h5")), out="foreign"),
    Case("out: a device", line("mine", "/dev/full"), REFUSED, "/dev/full"),
    Case(
        "out: a folder that may not be written",
        line("predict", "closed/out"),
        REFUSED,
        "closed",
        at("closed", lambda path: path.mkdir(0o555)),
        user=True,
    ),
    Case(
        "out: overwritten with no cases of val",
        "warmstart copy --iterations 1 --out warm --overwrite",
        DATA,
        "val",
        lambda place: (place.copy("warm"), without_val(place)),
        left=lambda place: (place.here / "warm/model.safetensors").exists(),
    ),
    Case(
        "out: overwritten with damaged images",
        "prepare bad --masks {masks} --out dataset --overwrite",
        DATA,
        "",
        lambda place: (place.copy("dataset"), broken_images(place)),
        left=lambda place: (place.here / "dataset/manifest.csv").exists(),
    ),
    Case(
        "out: overwritten with a SAM that is missing",
        "mine {dataset} --model {warm} --sam-checkpoint no.pth --out store.h5 --overwrite",
        5,
        "no.pth",
        lambda place: place.copy("store"),
        left=lambda place: (place.here / "store.h5").read_bytes() == place.world.store.read_bytes(),
    ),
    Case(
        "out: overwritten by a run that ends with 7",
        "mine {dataset} --model {warm} --sam none --min-area 100000 --out store.h5 --overwrite",
        7,
        "",
        lambda place: place.copy("store"),
        out="store",
        left=lambda place: (place.here / "store.h5").exists(),
    ),
    Case(
        "out: the data set that is read",
        "prepare {images} --masks {masks} --out . --overwrite",
        REFUSED,
        "",
        precious("thesis.txt"),
        left=kept("thesis.txt"),
    ),
]


def without_val(place: Place) -> None:
    path = place.copy("dataset", "copy") / "manifest.csv"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if ",val," not in line) + "\n")


def broken_images(place: Place) -> None:
    for path in place.copy("images", "bad").iterdir():
        path.write_bytes(path.read_bytes()[:100])
