"""Wrong calls and broken inputs as people make them: a table of command lines with exit code, error and hint.

Each ends with two lines that say what is wrong and what to do, without a traceback, and leaves nothing.
"""

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builders import CHECKPOINT, DATA, DEVICE, MINING, REFUSED, USAGE, call, files_in, read_array, succeed, truncate, write_image
from PIL import Image

from samsemi import cli
from samsemi.options.commands import STAGES, find_command

NOTHING = 7
COMPUTING = ("warmstart", "adapt", "mine", "finetune", "distill", "eval", "predict", "bench")


@dataclass(frozen=True)
class Place:
    """What a row may name, by the word in braces."""

    here: Path
    """An empty folder to break things in."""
    images: Path
    masks: Path
    dataset: Path
    run: Path
    store: Path

    def names(self) -> dict[str, object]:
        return {**vars(self), "out": self.here / "out", "raw": self.here / "raw", "copy": self.here / "copy"}


@dataclass(frozen=True)
class Row:
    """One wrong call."""

    line: str
    """As typed; {names} are those of ``Place``."""
    code: int
    error: str
    """What the error line must match."""
    hint: str
    broken: Callable[[Place], None] | None = None
    """Makes the broken input below ``Place.here``."""
    warnings: int = 0
    """Lines before the two, each a warning."""


# broken pictures: {raw}/images and {raw}/masks


def raw(place: Place) -> list[Path]:
    """Eight images with masks to break; the paths of the masks."""
    for kind, folder in (("images", place.images), ("masks", place.masks)):
        (place.here / "raw" / kind).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:8]:
            shutil.copy(path, place.here / "raw" / kind)
    return sorted((place.here / "raw/masks").iterdir())


def repaint(place: Place, change: Callable[[int, np.ndarray], np.ndarray]) -> None:
    """Every mask by its number and its values."""
    for number, path in enumerate(raw(place)):
        write_image(path, change(number, read_array(path)))


def raw_images(place: Place) -> list[Path]:
    raw(place)
    return sorted((place.here / "raw/images").iterdir())


def empty_masks(place: Place) -> None:
    repaint(place, lambda _, mask: mask * 0)


def colored_masks(place: Place) -> None:
    repaint(place, lambda _, mask: np.stack([mask, 255 - mask, mask * 0], axis=-1))


def wide_instance_numbers(place: Place) -> None:
    repaint(place, lambda number, mask: np.where(mask > 0, 300 + number, 0).astype(np.uint16))


def instance_numbers(place: Place) -> None:
    repaint(place, lambda number, mask: np.where(mask > 0, np.arange(mask.shape[1]) % (4 + number) + 1, 0).astype(np.uint8))


def stray_pixel(place: Place) -> None:
    repaint(place, lambda number, mask: np.where((np.indices(mask.shape).sum(axis=0) == 0) & (number == 0), 7, mask).astype(np.uint8))


def two_kinds_of_masks(place: Place) -> None:
    repaint(place, lambda number, mask: (mask > 0).astype(np.uint8) if number % 2 else mask)


def half_grey_masks(place: Place) -> None:
    repaint(place, lambda _, mask: np.where(np.arange(mask.shape[1]) < 60, 128, mask).astype(np.uint8))


def three_classes(place: Place) -> None:
    repaint(place, lambda _, mask: (np.indices(mask.shape)[1] // 20 % 4).astype(np.uint8))


def one_mask(place: Place) -> None:
    for path in raw(place)[1:]:
        path.unlink()


def half_of_the_masks(place: Place) -> None:
    for path in raw(place)[4:]:
        path.unlink()


def masks_of_other_names(place: Place) -> None:
    for number, path in enumerate(raw(place)):
        path.rename(path.with_name(f"label{number}.png"))


def no_images(place: Place) -> None:
    for path in raw_images(place):
        path.unlink()


def no_masks_in_the_folder(place: Place) -> None:
    for path in raw(place):
        path.rename(path.with_suffix(".nii.gz"))


def coco_file(place: Place) -> None:
    (place.here / "coco.json").write_text('{"images": [], "annotations": []}')


def truncated_image(place: Place) -> None:
    truncate(raw_images(place)[0])


def mask_of_another_size(place: Place) -> None:
    path = raw(place)[0]
    write_image(path, read_array(path)[:-10])


def turned_by_exif(place: Place) -> None:
    """A photograph that is not square, with a mask that is not turned."""
    path, mask = raw_images(place)[0], place.here / "raw/masks" / raw_images_name(place)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_array(path)[:-10]
    write_image(mask, read_array(mask)[:-10])
    path.unlink()
    Image.fromarray(pixels).save(path.with_suffix(".jpg"), exif=exif)


def raw_images_name(place: Place) -> str:
    return min((place.here / "raw/images").iterdir()).name


def pages_in_one_file(place: Place) -> None:
    path = raw_images(place)[0]
    pages = [Image.fromarray(read_array(path)[..., k]) for k in range(3)]
    path.unlink()
    pages[0].save(path.with_suffix(".tif"), save_all=True, append_images=pages[1:])


def two_of_one_name(place: Place) -> None:
    path = raw_images(place)[0]
    Image.fromarray(read_array(path)).save(path.with_suffix(".bmp"))


def split_file(text: str) -> Callable[[Place], None]:
    def write(place: Place) -> None:
        (place.here / "split.csv").write_text(text)

    return write


def masks_among_images(place: Place) -> None:
    raw(place)
    (place.here / "raw/masks").rename(place.here / "raw/images/masks")


# other inputs


def scans(place: Place) -> None:
    for name in ("a.dcm", "b.dcm", "c.nii.gz"):
        (place.here / name).touch()


def notes(place: Place) -> None:
    (place.here / "notes.txt").touch()


def no_picture(place: Place) -> None:
    (place.here / "in").mkdir()
    (place.here / "in/x.png").write_text("no picture")


def full_folder(place: Place) -> None:
    write_image(place.here / "out/kept.png", np.zeros((2, 2), dtype=np.uint8))


def predictions(change: Callable[[np.ndarray], np.ndarray], leave_out: int = 0) -> Callable[[Place], None]:
    """A mask for each case of test, changed; some are left out."""

    def write(place: Place) -> None:
        for name in names_in(place.dataset, "test")[leave_out:]:
            write_image(place.here / f"in/{name}.png", change(read_array(place.masks / f"{name}.png") // 255))

    return write


def config(text: str) -> Callable[[Place], None]:
    def write(place: Place) -> None:
        (place.here / "c.toml").write_text(text)

    return write


# broken data sets: {copy}


def copy(place: Place) -> Path:
    shutil.copytree(place.dataset, place.here / "copy")
    return place.here / "copy"


def names_in(folder: Path, split: str) -> list[str]:
    lines = (folder / "manifest.csv").read_text().splitlines()[1:]
    return [line.split(",")[0] for line in lines if line.split(",")[4] == split]


def manifest(change: Callable[[str], str]) -> Callable[[Place], None]:
    """Every line of a manifest but the first, changed; None drops it."""

    def write(place: Place) -> None:
        path = copy(place) / "manifest.csv"
        header, *lines = path.read_text().splitlines()
        path.write_text("\n".join([header, *filter(None, map(change, lines))]) + "\n")

    return write


def without(split: str) -> Callable[[Place], None]:
    return manifest(lambda line: "" if f",{split}," in line else line)


def semicolons(place: Place) -> None:
    path = copy(place) / "manifest.csv"
    path.write_text(path.read_text().replace(",", ";"))


def broken_json(place: Place) -> None:
    (copy(place) / "dataset.json").write_text("{")


def newer_schema(place: Place) -> None:
    path = copy(place) / "dataset.json"
    path.write_text(path.read_text().replace("dataset/1", "dataset/9"))


def other_class(place: Place) -> None:
    path = copy(place) / "dataset.json"
    path.write_text(path.read_text().replace("foreground", "liver"))


def white_masks(place: Place) -> None:
    """Masks of 0/255, in a data set made by hand."""
    manifest(lambda line: ",".join(line.split(",")[:6]))(place)
    for path in (place.here / "copy/masks").iterdir():
        write_image(path, read_array(path) * np.uint8(255))


def changed_mask(place: Place) -> None:
    path = copy(place) / f"masks/{names_in(place.dataset, 'test')[0]}.png"
    write_image(path, 1 - read_array(path))


def truncated_store(place: Place) -> None:
    shutil.copy(place.store, place.here / "s.h5")
    truncate(place.here / "s.h5")


def store_of_another_data_set(place: Place) -> None:
    manifest(lambda line: line.replace(",test,", ",val,"))(place)


def truncated_model(place: Place) -> None:
    shutil.copytree(place.run, place.here / "run")
    truncate(place.here / "run/model.safetensors")


PREPARE = "prepare {raw}/images --masks {raw}/masks --out {out}"
PICTURES = "prepare {images} --masks {masks} --out {out}"
WARMSTART = "warmstart {dataset} --out {out}"
MINE = "mine {dataset} --model {run} --out {out}.h5"
FINETUNE = "finetune {dataset} --model {run} --out {out}"
EVAL = "eval {dataset} --out {out}"
PREDICT = "predict {images} --model {run} --out {out}"
DISTILL = "distill {dataset} --out {out} --batch-size 4"
ADAPT = "adapt {dataset}"

ROWS = [
    # how a command is called
    Row("mien", USAGE, "No such command 'mien'.*'mine'", "samsemi --help"),
    Row("--verison", USAGE, "No such option: --verison.*--version", "samsemi --help"),
    Row("mine", USAGE, "DATASET is missing", "usage: samsemi mine DATASET --model DIR --out FILE"),
    Row("eval --model {run} --out {out}", USAGE, "DATASET is missing", "usage: samsemi eval DATASET --out DIR"),
    Row("prepare {images} --masks {masks}", USAGE, "--out is missing", "usage: samsemi prepare IMAGES --out DIR"),
    Row("finetune {dataset} --out {out}", USAGE, "--model is missing", "usage: samsemi finetune DATASET --model DIR"),
    Row("check {dataset} more", USAGE, r"unexpected extra argument.*\(more\)", "only DATASET stands without a flag"),
    Row("prepare {images} {masks} --out {out}", USAGE, "prepare needs masks for some of the images", "give --masks DIR"),
    Row("predict {images}/a.png {images}/b.png --model {run} --out {out}", USAGE, "unexpected.*b.png", "only IMAGES stands"),
    Row("mine {dataset} --modell {run} --out {out}", USAGE, "No such option: --modell.*--model", "samsemi mine --help"),
    Row("mine {dataset} --model --out {out}", USAGE, "--model --out: a flag where a path should be", "give the path"),
    Row("eval {dataset} --model {run} --out ''", USAGE, "--out '': an empty path", "a variable may be empty"),
    Row("warmstart {dataset} --out=", USAGE, "--out '': an empty path", "a variable may be empty"),
    Row("predict '' --model {run} --out {out}", USAGE, "IMAGES '': an empty path", "give a path"),
    Row("check ' '", USAGE, "DATASET '': an empty path", "give a path"),
    Row("eval {dataset} --model {run} --out 'a\nb'", USAGE, r"--out 'a\\nb': a path with a line break", "give one path"),
    Row("mine {dataset} --model {run} --out {out}.h5 --resume --overwrite", USAGE, "--resume and --overwrite", "give one"),
    Row(f"{PICTURES} --config {{here}}/c.toml", USAGE, "c.toml: .*No such file", "readable TOML file"),
    Row(f"{PICTURES} --config {{here}}/c.toml", USAGE, "c.toml is not TOML", "fix that line", config("[mine\n")),
    Row(f"{MINE} --config {{here}}/c.toml", USAGE, "no command.*evall", "tables are prepare", config("[evall]\n")),
    Row(
        f"{MINE} --config {{here}}/c.toml",
        USAGE,
        "no option 'box_margins'",
        "options are .*box_margin",
        config("[mine]\nbox_margins = 3\n"),
    ),
    Row(
        f"{MINE} --config {{here}}/c.toml",
        USAGE,
        "box_margin 'wide': expected a whole number",
        "give",
        config("[mine]\nbox_margin = 'wide'\n"),
    ),
    Row(f"{EVAL} --config {{here}}/c.toml", USAGE, r"\[eval\] model '': an empty path", "give a path", config("[eval]\nmodel = ''\n")),
    Row("report {here}/no --out {out}", USAGE, "no is neither an evaluation nor a store", "give --out folders of `samsemi eval`"),
    Row("report --out {out}", USAGE, "EVALS is missing", "usage: samsemi report EVALS --out FILE"),
    Row("info {here}/no", DATA, "no: no such file or folder", "check the path"),
    Row("info {dataset} more", USAGE, "unexpected extra argument", "only PATH stands without a flag"),
    Row("info {here}/c.toml", DATA, "c.toml is nothing that samsemi makes", ".", config("[mine]")),
    Row("info --card", USAGE, "--card: no PATH is given", "a run, SAM weights"),
    Row("info {dataset} --card", USAGE, "--card: .* is data set", "give a run, SAM weights"),
    Row("export --model {run}", USAGE, "--out is missing", "usage: samsemi export --model DIR --out FILE"),
    Row("export --model {run} --out {out} --images 1", USAGE, "--images 1 is out of range", "give 2 to 10000"),
    Row("export --model {dataset} --out {out}", CHECKPOINT, "is not a finished run", "samsemi warmstart"),
    Row("export --model {run} --dataset {here}/no --out {out}", DATA, "no: no such data set", "samsemi prepare"),
    Row("export --model {run} --out {here}", REFUSED, "is a folder", "a file name as --out"),
    Row("export --model {run} --out {store}", REFUSED, "tiny.h5 is not a network that samsemi has exported", "or remove it yourself"),
    # prepare: options
    Row("prepare {images} --out {out}", USAGE, "needs masks", "give --masks DIR"),
    Row(f"{PICTURES} --labeled 10%", USAGE, "--labeled 10%: expected a number", "--labeled X: .*share of the masks"),
    Row(f"{PICTURES} --labeled 1.5", USAGE, "--labeled 1.5 is neither a share nor a number", "0..1, or a whole number"),
    Row(f"{PICTURES} --labeled 0", USAGE, "--labeled 0: .*nothing is learned", "leave --labeled out"),
    Row(f"{PICTURES} --val 0", USAGE, "--val 0: .*nothing is chosen", "above 0, or leave --val out"),
    Row(f"{PICTURES} --val -1", USAGE, "--val -1.0 is out of range", "give 0 or more"),
    Row(f"{PICTURES} --val 20 --labeled 20", DATA, "more than the 24 cases with masks", "smaller shares or numbers"),
    Row(f"{PICTURES} --groups (p", USAGE, r"--groups \(p: ", "regular expression"),
    Row(f"{PICTURES} --groups ''", DATA, "--groups matches nothing in 'p000_0'", "finds the patient in every name"),
    Row(f"{PICTURES} --groups patient", DATA, "--groups patient matches nothing in 'p000_0'", "finds the patient in every name"),
    Row(f"{PICTURES} --classes polyp,polyp", USAGE, "--classes polyp,polyp does not fit", "one name per class"),
    Row(f"{PICTURES} --mask-values binry", USAGE, "--mask-values binry: no such choice", "auto, indices, binary, nonzero"),
    Row(f"{PICTURES} --spacing-mm 0.5,0.5", USAGE, "--spacing-mm 0.5,0.5: expected a number", "Size of a pixel in mm"),
    Row(f"{PICTURES} --split {{here}}/split.csv", DATA, "split.csv: .*No such file", "readable CSV"),
    Row(f"{PICTURES} --split {{here}}/split.csv", DATA, "unknown split 'train'", "use labeled, ", split_file("id,split\np000_0,train\n")),
    Row(
        f"{PICTURES} --split {{here}}/split.csv",
        DATA,
        "no image has the id 'p000_0.png'",
        "without suffix",
        split_file("id,split\np000_0.png,val\n"),
    ),
    Row(f"{PICTURES} --split {{here}}/split.csv", DATA, "needs the columns id,split", "first line", split_file("id;split\np000_0;val\n")),
    Row(
        f"{PICTURES} --split {{here}}/split.csv",
        DATA,
        "line 3: fewer columns",
        "in every line",
        split_file("id,split\np000_0,val\np000_1\n"),
    ),
    Row(
        f"{PICTURES} --split {{here}}/split.csv",
        DATA,
        "no labeled",
        "training needs both",
        split_file("id,split\np000_0,val\n"),
        warnings=1,
    ),
    # prepare: folders
    Row("prepare {here}/no --masks {masks} --out {out}", DATA, "/no: no such folder", "check the path"),
    Row("prepare {images} --masks {here}/no --out {out}", DATA, "/no: no such folder", "check the path"),
    Row("prepare {images}/p000_0.png --masks {masks} --out {out}", DATA, "is a file, not a folder", "give the folder: .*images"),
    Row("prepare {images} --masks {masks}/p000_0.png --out {out}", DATA, "is a file; masks are pictures", "give the folder"),
    Row("prepare {images} --masks {here}/coco.json --out {out}", DATA, "coco.json is a file", "draw the annotations as PNG", coco_file),
    Row("prepare {dataset} --masks {masks} --out {out}", DATA, "is a data set already", "folder of the images"),
    Row("prepare {images} --masks {images} --out {out}", USAGE, "masks would be taken for images", "folders of their own"),
    Row(
        "prepare {raw}/images --masks {raw}/images/masks --out {out}", USAGE, "taken for images", "folders of their own", masks_among_images
    ),
    Row("prepare {images} --masks {masks} --out {masks}/d", REFUSED, "lies in .*masks, whose pictures are read", "outside of it"),
    Row(PREPARE, DATA, "images: no images in it", "put .png", no_images),
    Row(PREPARE, DATA, "masks: no images in it; not read: 8 .nii.gz", "convert them", no_masks_in_the_folder),
    Row(PREPARE, DATA, "no mask is named like an image: .*p000_0.png.*label0.png", "name a mask like its image", masks_of_other_names),
    Row(PREPARE, DATA, "the same id 'p000_0'", "rename one", two_of_one_name),
    Row(PICTURES, REFUSED, "out exists and is not empty", "another --out, or --overwrite", full_folder),
    Row(f"{PICTURES} --overwrite", REFUSED, "was not made by this command", "or empty it yourself", full_folder),
    # prepare: pictures and masks
    Row(PREPARE, DATA, "1 cases with masks, in 1 groups, are too few for test, val, labeled", "bring more masks; --test 0", one_mask),
    Row(f"{PREPARE} --labeled 0.5", USAGE, "but 4 of 8 have no mask", "leave --labeled out", half_of_the_masks),
    Row(PREPARE, DATA, "all 8 masks are empty", "give masks of what is to be found", empty_masks),
    Row(f"{PICTURES} --ignore-value 255", DATA, "no pixel of 24 masks is of a class", "leave --ignore-value 255 out"),
    Row(f"{PICTURES} --mask-values indices", DATA, "no pixel of 24 masks is of a class", "--mask-values nonzero"),
    Row(PREPARE, DATA, "a color picture cannot be a mask", "grey PNG", colored_masks),
    Row(PREPARE, DATA, "mask values from 0 to 300", "--mask-values nonzero. makes one class", wide_instance_numbers),
    Row(PREPARE, DATA, "numbers of instances, or classes", "--mask-values nonzero .*--classes", instance_numbers),
    Row(PREPARE, DATA, "1 pixels in 1 of them others: mask of p000_0 0, 7, 255", "--mask-values binary", stray_pixel),
    Row(PREPARE, DATA, "some masks hold 0 and 255 .*others class indices", "convert them to one kind", two_kinds_of_masks),
    Row(PREPARE, DATA, "mask of p000_0 holds values 0, 128", "masks are class indices", half_grey_masks),
    Row(f"{PREPARE} --classes polyp", DATA, "holds values 0, 1, 2, 3", "name every class with --classes", three_classes),
    Row(f"{PREPARE} --invert --classes a,b,c", USAGE, "--invert exchanges background and one class", "leave it out", three_classes),
    Row(PREPARE, DATA, "p000_0.png: damaged image", "replace or remove", truncated_image),
    Row(PREPARE, DATA, "3 pages in one file", "channels last", pages_in_one_file),
    Row(PREPARE, DATA, "mask of case p000_0: 144 x 134 pixels, image p000_0.png has 144 x 144", "in one size", mask_of_another_size),
    Row(PREPARE, DATA, "turned by EXIF orientation", "turn the mask as its image is shown", turned_by_exif),
    # data sets
    Row("check {copy}", DATA, "has changed since the data set was prepared", "restore the file", changed_mask),
    Row("check {copy}", DATA, "no val cases", ".", without("val")),
    Row("check {here}/no", DATA, "no: no such data set", "samsemi prepare"),
    Row("warmstart {images} --out {out}", DATA, "dataset.json is missing: .*images is not a data set", "samsemi prepare"),
    Row("eval {dataset}/manifest.csv --model {run} --out {out}", DATA, "manifest.csv is a file, a data set is a folder", "give the folder"),
    Row("warmstart {copy} --out {out}", DATA, "dataset.json cannot be read", "prepare the data set again", broken_json),
    Row("warmstart {copy} --out {out}", DATA, "schema samsemi.dataset/9", "update samsemi", newer_schema),
    Row("warmstart {copy} --out {out}", DATA, "needs rows, and the columns id,image", "prepare the data set again", semicolons),
    Row(
        "warmstart {copy} --out {out}",
        DATA,
        "manifest.csv lines 2, 3, 4 and 21 more: fewer columns",
        "write every column",
        manifest(lambda line: ",".join(line.split(",")[:3])),
    ),
    Row(
        "warmstart {copy} --out {out}",
        DATA,
        "lines .* and 6 more: unknown split 'train'",
        "use labeled, unlabeled",
        manifest(lambda line: line.replace(",labeled,", ",train,")),
    ),
    Row("warmstart {copy} --out {out}", DATA, "no labeled cases", "masks for more images", without("labeled")),
    Row("mine {copy} --model {run} --out {out}.h5", DATA, "no unlabeled cases", "no mask; --labeled 0.1", without("unlabeled"), warnings=0),
    Row("distill {copy} --out {out} --batch-size 4", DATA, "no unlabeled cases", "no mask; --labeled 0.1", without("unlabeled")),
    Row("eval {copy} --model {run} --out {out}", DATA, "no test cases", "--test above 0; .*--split val", without("test")),
    Row("warmstart {copy} --out {out}", DATA, "255, as every mask that was read", "1 for 255", white_masks),
    Row(
        "eval {copy} --model {run} --out {out}",
        DATA,
        "has changed since the data set was prepared",
        "prepare the data set again",
        changed_mask,
    ),
    # warmstart
    Row(f"{WARMSTART} --iterations 1e4", USAGE, "--iterations 1e4: expected a whole number", "--iterations N: Optimizer steps"),
    Row(f"{WARMSTART} --batch-size 0", USAGE, "--batch-size 0 is out of range", "give 1 to 65536"),
    Row("distill {dataset} --out {out} --batch-size 1000000000", USAGE, "--batch-size 1000000000 is out of range", "give 4 to 65536"),
    Row(f"{WARMSTART} --lr high", USAGE, "--lr high: expected a number", "learning rate"),
    Row(f"{WARMSTART} --size 100", USAGE, "--size 100 is not a multiple of 32", "give 96"),
    Row(f"{WARMSTART} --decoder-channels 64,32", USAGE, "five numbers are needed", "for example 256"),
    Row(f"{WARMSTART} --encoder resnet33", USAGE, "--encoder resnet33", "did you mean resnet34"),
    Row(f"{WARMSTART} --encoder tu-lcnet_035 --encoder-weights imagnet", CHECKPOINT, "imagnet: no such file", "none, imagenet, or a file"),
    Row(f"{WARMSTART} --folds 1", USAGE, "--folds 1 is out of range", "give 2 or more"),
    Row(f"{WARMSTART} --folds 20", DATA, "--folds 20: there are only 3 labeled groups", "fewer folds"),
    # models
    Row(
        "predict {images} --model {run}/model.safetensors --out {out}", CHECKPOINT, "is a file, a model is a run", "give the folder: .*warm"
    ),
    Row(
        "predict {images} --model {store} --out {out}",
        CHECKPOINT,
        "tiny.h5 is a file, a model is a run",
        "--out folder of `samsemi warmstart`",
    ),
    Row("mine {dataset} --model {dataset} --out {out}.h5", CHECKPOINT, "is not a finished run", "--out folder of `samsemi warmstart`"),
    Row("eval {dataset} --model {here}/run --out {out}", CHECKPOINT, "model.safetensors", "train the model again|weights", truncated_model),
    Row(
        "eval {copy} --model {run} --out {out}",
        CHECKPOINT,
        "classes background, foreground, .* background, liver",
        "trained on",
        other_class,
    ),
    # mine
    Row(f"{MINE} --target-precision 80", USAGE, "--target-precision 80.0 is out of range", "give 0 to 1"),
    Row(f"{MINE} --prompts boxes", USAGE, "unknown prompt kind 'boxes'", "box, point, mask"),
    Row(f"{MINE} --prompts mask", USAGE, "a mask alone does not prompt SAM", "box.mask"),
    Row(f"{MINE} --precision fp8", USAGE, "--precision fp8: no such choice", "auto, fp32, bf16"),
    Row(f"{MINE} --device gpu0", USAGE, "--device gpu0", "auto, cpu, cuda"),
    Row(f"{MINE} --device cuda:99", DEVICE, "--device cuda:99", "samsemi info"),
    Row(f"{MINE} --sam sam_vit_b", USAGE, "--sam sam_vit_b: unknown", "one of tiny, vit_b"),
    Row(f"{MINE} --sam vit_b", CHECKPOINT, "--sam vit_b needs its weights", "--sam-checkpoint FILE, or take --sam tiny"),
    Row(f"{MINE} --sam-checkpoint {{here}}/no.pth", CHECKPOINT, "no.pth: no such file", "check the path"),
    Row(f"{MINE} --sam-checkpoint {{run}}/model.safetensors", CHECKPOINT, "as tiny does not fit", "weights that belong to this --sam"),
    Row(f"{MINE} --embeddings {{store}}", CHECKPOINT, "tiny.h5 is no cache of embeddings", "^give another file"),
    Row("mine {dataset} --model {run} --out {here}", REFUSED, "is a folder", "a file name as --out"),
    Row("mine {dataset} --model {run} --out {store}", REFUSED, "tiny.h5 exists", "another --out, or --overwrite"),
    Row("mine {dataset} --model {run} --out {store} --resume --box-margin 9", REFUSED, "box_margin was 2, is 9", "same options"),
    # finetune
    Row(f"{FINETUNE} --schedule sometimes", USAGE, "--schedule sometimes: no such choice", "once, continuous"),
    Row(f"{FINETUNE} --schedule continuous", USAGE, "--schedule continuous needs --store", "samsemi mine"),
    Row(f"{FINETUNE} --rounds 3", USAGE, "--rounds needs --store", "samsemi mine"),
    Row(f"{FINETUNE} --store {{store}} --rounds 3 --schedule continuous", USAGE, "exclude each other", "give one"),
    Row(f"{FINETUNE} --store {{store}} --rounds 30 --iterations 10", USAGE, "--rounds 30 is more than --iterations 10", "fewer rounds"),
    Row(f"{FINETUNE} --store {{store}} --remine-every 5", USAGE, "--remine-every needs --schedule continuous", "give it too"),
    Row(f"{FINETUNE} --store {{run}}", CHECKPOINT, "warm is a folder, a store is a file", "samsemi mine"),
    Row(f"{FINETUNE} --store {{run}}/model.safetensors", CHECKPOINT, "not an HDF5 file", "mine"),
    Row(f"{FINETUNE} --store {{here}}/no.h5", CHECKPOINT, "no.h5: no such store", "make it with `samsemi mine`"),
    Row(f"{FINETUNE} --store {{here}}/s.h5", CHECKPOINT, "s.h5 is not an HDF5 file, or is damaged", "mine it again", truncated_store),
    Row(f"{FINETUNE} --store {{store}} --min-confidence 1", NOTHING, "no pseudo-label is accepted", "lower what was given as --min-"),
    Row(f"{FINETUNE} --distill {{run}}", CHECKPOINT, "has no teacher.safetensors", "samsemi distill"),
    Row("finetune {dataset} --model {run} --out {run}", REFUSED, "warm exists and is not empty", "another --out"),
    Row("finetune {dataset} --model {run} --out {run} --overwrite", REFUSED, "holds .*warm, which this command reads", "another --out"),
    Row(
        "eval {copy} --store {store} --out {out}",
        CHECKPOINT,
        "mined from another data set",
        "mine this data set",
        store_of_another_data_set,
    ),
    # eval
    Row(EVAL, USAGE, "needs something to measure", "--model RUN, --predictions DIR or --store FILE"),
    Row(f"{EVAL} --model {{run}} --store {{store}}", USAGE, "one thing at a time", "give one of"),
    Row(f"{EVAL} --model {{run}} --split train", USAGE, "--split train: no such choice", "labeled, unlabeled, val, test"),
    Row(f"{EVAL} --model {{run}} --split unlabeled", USAGE, "only for measuring a store", "give --store"),
    Row(f"{EVAL} --store {{store}} --split test", USAGE, "--split test: a store holds the unlabeled", "leave --split out"),
    Row(
        f"{EVAL} --store {{store}} --min-confidence 1",
        NOTHING,
        "of 9 cases with a known truth none has an accepted",
        "lower what was given",
    ),
    Row(f"{EVAL} --store {{copy}}", CHECKPOINT, "no such store", "samsemi mine"),
    Row(f"{EVAL} --model {{run}} --tolerance -1", USAGE, "--tolerance -1.0 is out of range", "give 0 or more"),
    Row(f"{EVAL} --model {{run}} --against {{run}}", DATA, "it has no metrics.csv", "earlier `samsemi eval`"),
    Row(f"{EVAL} --predictions {{store}}", DATA, "is a file, not a folder", "give the folder"),
    Row(f"{EVAL} --predictions {{here}}/no", DATA, "no: no such folder", "check the path"),
    Row(f"{EVAL} --predictions {{images}}", DATA, "a color picture cannot be a mask", "grey PNG"),
    Row(f"{EVAL} --predictions {{here}}/in", DATA, "no mask for 1 of 3 cases", "ID.png", predictions(lambda mask: mask, leave_out=1)),
    Row(
        f"{EVAL} --predictions {{here}}/in",
        DATA,
        "holds values 0, 9",
        "0..1, or 0/255 in every file",
        predictions(lambda mask: mask * np.uint8(9)),
    ),
    Row(
        f"{EVAL} --predictions {{here}}/in",
        DATA,
        "prediction of 20 x 20 pixels",
        "size of the image",
        predictions(lambda mask: mask[:20, :20]),
    ),
    # predict
    Row("predict {here}/x.png --model {run} --out {out}", DATA, "x.png: no such file or folder", "check the path"),
    Row("predict {here} --model {run} --out {here}/../out", DATA, "none of 3 images can be read", "replace them", scans, warnings=3),
    Row("predict {here}/c.nii.gz --model {run} --out {out}", DATA, "none of 1 images can be read", "replace them", scans, warnings=1),
    Row("predict {here}/notes.txt --model {run} --out {out}", DATA, "not read: 1 .txt", "convert it", notes),
    Row("predict {here}/in --model {run} --out {out}", DATA, "none of 1 images can be read", "replace them", no_picture, warnings=1),
    Row("predict {images} --model {run} --out {images}/p", REFUSED, "lies in .*images, whose pictures are read", "outside of it"),
    Row(PREDICT, REFUSED, "out exists and is not empty", "another --out", full_folder),
    Row("predict {images} --out {out}", USAGE, "--model is missing", "usage: samsemi predict IMAGES --model DIR"),
    # export-labels
    Row("export-labels {store}", USAGE, "--out is missing", "usage: samsemi export-labels STORE --out DIR"),
    Row(
        "export-labels {dataset} --store s.h5 --out {out}", USAGE, "No such option: --store", "STORE stands without a flag; usage: .*STORE"
    ),
    Row("export-labels {dataset} --out {out}", CHECKPOINT, "is a folder, a store is a file", "samsemi mine"),
    Row("export-labels {here}/no.h5 --out {out}", CHECKPOINT, "no.h5: no such store", "samsemi mine"),
    Row("export-labels {store} --out {out} --format coco", USAGE, "--format coco needs --dataset", "data set that was mined"),
    Row("export-labels {store} --out {out} --format json", USAGE, "--format json: no such choice", "png, coco"),
    Row("export-labels {store} --out {out} --min-confidence 1", NOTHING, "accepted", "--min-"),
    Row("export-labels {store} --out {out}", REFUSED, "out exists and is not empty", "another --out", full_folder),
    # bench
    Row("bench --sam medsam", USAGE, "--sam medsam: not one that the plain loop can feed", "one of tiny, vit_b"),
    Row("bench --rounds 0", USAGE, "--rounds 0 is out of range", "1 or more"),
    # shares of a mining
    Row("mine {dataset} --model {run} --out {out}.h5 --part 17/16", USAGE, "--part 17/16: no share", "such as 3/16"),
    Row("mine {dataset} --model {run} --out {out}.h5 --part 1/2 --review r", USAGE, "--review: a part is not enough", "with --merge"),
    Row("mine {dataset} --model {run} --out {out}.h5 --part 1/2 --merge", USAGE, "--part and --merge exclude", "give one"),
    # adapt
    Row(ADAPT, USAGE, "either trains or measures", "give --out SAM.safetensors, or --evaluate"),
    Row(f"{ADAPT} --out {{out}}.pth", USAGE, "does not end in .safetensors", "SAM.safetensors"),
    Row(f"{ADAPT} --out {{out}}.safetensors --all --lora 4", USAGE, "--all and --lora exclude", "give one"),
    Row(f"{ADAPT} --out {{out}}.safetensors --from-scratch", USAGE, "--from-scratch needs --all", "give it too"),
    Row(f"{ADAPT} --out {{out}}.safetensors --sam none", USAGE, "--sam none cannot be trained", "take one of tiny"),
    Row(f"{ADAPT} --out {{out}}.safetensors --stream nix:draw", USAGE, "--stream nix:draw: No module named 'nix'", "MODULE:FUNCTION"),
    Row(f"{ADAPT} --out {{out}}.safetensors --model {{run}}", CHECKPOINT, "no out-of-fold", "samsemi warmstart --folds"),
    Row(f"{ADAPT} --evaluate --split unlabeled", USAGE, "--split unlabeled: no such choice", "labeled, val, test"),
    # distill
    Row(f"{DISTILL} --peers unet", USAGE, "--peers unet: two networks", "unet,vnet"),
    Row(f"{DISTILL} --peers unet,wnet", USAGE, "--peers wnet: no such network", "give unet, vnet"),
    Row("distill {dataset} --out {out} --batch-size 5", USAGE, "--batch-size 5 is odd", "even"),
    Row(f"{DISTILL} --mix-grid 3", USAGE, "--mix-grid 3 does not divide", "give 4 or 8"),
    Row(f"{DISTILL} --sam none", USAGE, "--sam none cannot learn", "--no-sam"),
    # weights
    Row("weights", USAGE, "Missing command", "samsemi --help"),
    Row("weights list vit_b", USAGE, "extra argument", "everything has a flag"),
    Row("weights list --dir --json", USAGE, "--dir --json: a flag where a path", "give the path"),
    Row("weights fetch", USAGE, "NAME is missing", "usage: samsemi weights fetch NAME"),
    Row("weights fetch vit_x", USAGE, "vit_x: no weights of that name", "one of vit_b"),
    Row("weights fetch vit_b --sha256 0", USAGE, "--sha256 0: no SHA-256", "64 digits"),
    Row("weights fetch encoder:resnet999", USAGE, "has no such encoder", "did you mean resnet"),
    Row("weights verify", 7, "no weights are in", "samsemi weights fetch NAME"),
    Row("weights verify {images}/nothing", CHECKPOINT, "no such file, and no name of weights", "one of vit_b"),
    Row("weights verify medsam", CHECKPOINT, "medsam is not in", "samsemi weights fetch medsam"),
    Row(f"{ADAPT} --evaluate --sam hf:", CHECKPOINT, "--sam hf:: no such folder", "config.json"),
]


def words_of(row: Row, place: Place) -> list[str]:
    """The arguments; a command is quiet and computes on the CPU."""
    words = [word.format(**place.names()) for word in shlex.split(row.line)]
    command = find_command(words)
    extra = ["--quiet"] if command else []
    if command in COMPUTING and "--device" not in words:
        extra += ["--device", "cpu"]
    count = len(command.split()) if command else 1
    return [*words[:count], *extra, *words[count:]]


def run(words: list[str]) -> tuple[int, str, list[str]]:
    """Exit code, stdout and the lines on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(words)
    return code, out.getvalue(), err.getvalue().splitlines()


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file."""
    found = {name: (folder / name).stat() for name in files_in(folder)}
    return {name: (entry.st_size, entry.st_mtime_ns) for name, entry in found.items()}


@pytest.fixture
def place(tmp_path, pictures, dataset, warm, store, monkeypatch) -> Place:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Place(tmp_path / "here", pictures / "images", pictures / "masks", dataset, warm, store)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.line} {getattr(row.broken, '__name__', '')}")
def test_wrong_call_ends_with_two_lines_and_leaves_nothing(place, row):
    if row.broken:
        row.broken(place)
    kept = (place.here.parent, place.images.parent, place.dataset, place.run, place.store.parent)
    before = [state_of(folder) for folder in kept]
    code, out, lines = run(words_of(row, place))
    assert code == row.code, lines
    assert out == ""
    *warnings, error, hint = lines
    assert len(warnings) == row.warnings and all(line.startswith("warning: ") for line in warnings), lines
    assert error.startswith("error: ") and re.search(row.error, error.removeprefix("error: ")), error
    assert hint.startswith("hint: ") and re.search(row.hint, hint.removeprefix("hint: ")), hint
    assert [state_of(folder) for folder in kept] == before, "something was written"
    assert list(place.here.parent.iterdir()) == [place.here]


def test_every_command_has_wrong_calls():
    assert set(STAGES) <= {find_command(row.line.split()) for row in ROWS}
    assert len({(row.line, row.error) for row in ROWS}) == len(ROWS) >= 60


# wrong input that takes more than one command to make


def test_store_is_not_measured_against_truth_of_0_and_255(place):
    manifest(lambda line: ",".join(line.split(",")[:6]))(place)
    for path in (place.here / "copy/truth").iterdir():
        write_image(path, read_array(path) * np.uint8(255))
    succeed("mine", "copy", "--model", place.run, "--out", "s.h5", "--sam", "none", *MINING, "--no-calibrate", "--quiet")
    code, out, [error, hint] = run(["eval", "copy", "--store", "s.h5", "--out", "out", "--quiet"])
    assert (code, out) == (DATA, "") and "copy/truth/" in error and "0 and 255" in error and "let `samsemi prepare` convert" in hint
    assert not Path("out").exists()


def test_store_of_images_without_truth_cannot_be_measured(place):
    def forget_truth(line: str) -> str:
        name, image, mask, _, *rest = line.split(",")[:6]
        return ",".join([name, image, mask, "", *rest])

    manifest(forget_truth)(place)
    succeed("mine", "copy", "--model", place.run, "--out", "s.h5", "--sam", "none", *MINING, "--no-calibrate", "--quiet")
    code, _, [error, hint] = run(["eval", "copy", "--store", "s.h5", "--out", "out", "--quiet"])
    assert code == NOTHING and "no unlabeled case has a known truth" in error and "--labeled" in hint


def test_mine_that_accepts_nothing_shows_its_classes_all_the_same(place):
    arguments = ("mine", place.dataset, "--model", place.run, "--sam", "none", "--min-confidence", 1, "--no-calibrate")
    outcome = call(*arguments, "--out", "loud.h5")
    assert (outcome.code, outcome.out) == (NOTHING, "")
    shown = outcome.err[outcome.err.index("those with an accepted object") : outcome.err.index("error: ")]
    assert re.search(r"class +objects +accepted +rejected +images\nforeground +9 +0 +9 +0\n$", shown)
    code, out, [error, hint] = run([*map(str, arguments), "--out", "quiet.h5", "--quiet", "--device", "cpu"])
    assert (code, out) == (NOTHING, "") and "none of 9 objects was accepted" in error and "--min-" in hint


def test_masks_of_more_than_8_bits_are_one_class_where_one_says_so(place):
    wide_instance_numbers(place)
    succeed(*words_of(Row(f"{PREPARE} --mask-values nonzero", 0, "", ""), place))
    [name, *_] = [path.name for path in (place.here / "out/masks").iterdir()]
    assert np.array_equal(read_array(place.here / "out/masks" / name) * np.uint8(255), read_array(place.masks / name))


def few_numbers(number: int, mask: np.ndarray) -> np.ndarray:
    """One to three squares, numbered."""
    label = np.zeros_like(mask)
    for k in range(number % 3 + 1):
        label[10:30, 30 * k : 30 * k + 20] = k + 1
    return label


def cup_in_disc(number: int, mask: np.ndarray) -> np.ndarray:
    """A disc in each, a small cup in most."""
    label = np.zeros_like(mask)
    label[10:80, 10:80] = 1
    if number % 3:
        label[30:50, 30:50] = 2
    return label


@pytest.mark.parametrize(
    "draw, options, warned", [(few_numbers, "", True), (few_numbers, "--classes a,b,c", False), (cup_in_disc, "", False)]
)
def test_few_numbers_of_instances_are_warned_of(place, draw, options, warned):
    repaint(place, draw)
    outcome = succeed(*words_of(Row(f"{PREPARE} {options}", 0, "", ""), place))
    assert ("numbers of instances, give --mask-values nonzero" in outcome.err) == warned


def test_manifest_with_faults_of_several_kinds_has_a_line_for_each(place):
    def break_line(line: str) -> str:
        return line.replace(",labeled,", ",train,") if ",labeled," in line else ",".join(line.split(",")[:3])

    manifest(break_line)(place)
    code, _, lines = run(["warmstart", "copy", "--out", "out", "--quiet"])
    assert code == DATA and len(lines) == 4
    assert "unknown split 'train'" in lines[0] + lines[1] and "fewer columns" in lines[0] + lines[1] and "2 problems" in lines[2]
