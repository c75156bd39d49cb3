"""What changes of mining bring on development images, which are neither trained on nor test cases: their labels, and students.

    python examples/evidence/development.py labels FOLDER/SET OUT --variants all no-zoom none    # mine them; how good are the labels
    python examples/evidence/development.py students FOLDER/SET OUT --variants alone all none    # mine the others; train on those labels
    python examples/evidence/development.py compare OUT --against alone                          # the students, each against one of them

SET is kvasir_seg or wbc. The split is that of `run.py` with 10 % labels and seed 1; of its unlabeled images the first DEVELOPMENT are
set aside. All that is there already is left as it is, so a run that was stopped goes on. Two versions of samsemi are compared by running
with each: PYTHONPATH=CHECKOUT python examples/evidence/development.py ... --variants all --named before
Labels are then compared by `labels.py compare OUT/data NAME=OUT/labels/NAME.npz ...`.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from deal import deal_before, list_ids, write_split
from labels import dump, mean_dice

import samsemi
from samsemi.data.dataset import IGNORE, Dataset, read_case_image, read_case_label, read_dataset
from samsemi.errors import NothingUsable
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.segmenter import predict_image

DEVELOPMENT = {"kvasir_seg": 150, "wbc": 60}
ITERATIONS = {"kvasir_seg": 1200, "wbc": 300}
"""Of a warm start."""
NETWORK = {"encoder": "tu-mobilenetv3_small_100", "decoder_channels": "48,32,16,12,8", "encoder_weights": "none", "size": 128}
TRAINING = {"lr": 4e-3, "precision": "bf16"}
ADAPTING = {"all": True, "iterations": 200, "validate_every": 200, "overlays": 0, "seed": 1, "precision": "bf16"}
DISTILLING = {"preset": "short", "iterations": 150, "size": 96, "decoder_channels": "48,32,16,12,8", "overlays": 0}
PEERS = "unetplusplus:tu-mobilenetv3_small_100,unet:tu-mobilenetv3_small_100"
MINING: dict[str, dict[str, object]] = {
    "all": {},
    "no-zoom": {"zoom": 0.0},
    "best-of-three": {"masks": "best-of-three"},
    "no-zoom-best-of-three": {"zoom": 0.0, "masks": "best-of-three"},
    "none": {"sam": "none"},
    "none-no-zoom": {"sam": "none", "zoom": 0.0},
    "ellipse": {"sam": "ellipse"},
    "sure": {"sure_pixels": 0.5},
    "adapted": {},
    "adapted-no-crops": {},
    "two-models": {},
    "fold-models": {"fold_models": True},
    "distilled": {},
}
"""Variant -> options of `mine`; those of the last five name what has to be trained first."""
LEARNING: dict[str, dict[str, object]] = {
    "share-auto": {"pseudo_share": "auto"},
    "sure-1": {"sure_pixels": 1.0},
    "sure-0.5": {"sure_pixels": 0.5},
    "online": {"schedule": "online"},
}
"""Variant -> options of `finetune` on the store of `all`; other variants are stores of MINING, or `alone`, which learns from no store."""
RESAMPLES = 2000


class Place:
    """The folder of one set: its data, models, stores, labels and students. Everything is made once."""

    def __init__(self, data: Path, out: Path, checkpoint: Path | None, unlabeled: int | None) -> None:
        self.images, self.out, self.checkpoint, self.unlabeled = data, out, checkpoint, unlabeled
        self.iterations = ITERATIONS[data.name]

    def prepare(self, *wanted: str) -> None:
        """Of `data`, in which the development images are the unlabeled ones, and `others`, in which they are the test cases, the wanted."""
        split = self.out / "split.csv"
        if not split.exists():
            write_split(deal_before(list_ids(self.images / "images"), 10, 1), split)
        with open(split, newline="") as file:
            rows = [(row["id"], row["split"]) for row in csv.DictReader(file) if row["split"] != "test"]
        unlabeled = [row for row in rows if row[1] == "unlabeled"]
        known = [row for row in rows if row[1] != "unlabeled"]
        aside, rest = unlabeled[: DEVELOPMENT[self.images.name]], unlabeled[DEVELOPMENT[self.images.name] :]
        parts = {"data": known + aside, "others": known + rest[: self.unlabeled] + [(name, "test") for name, _ in aside]}
        for name in wanted:
            if not (self.out / name).exists():
                file = self.out / f"{name}.csv"
                file.write_text("id,split\n" + "".join(f"{case},{part}\n" for case, part in parts[name]))
                masks = self.images / "masks"
                samsemi.prepare(images=self.images / "images", masks=masks, split=file, out=self.out / name, quiet=True)

    def model(self, name: str = "warm", seed: int = 1, **options: object) -> Path:
        """A warm start."""
        folder = self.out / name
        training = {"out": folder, "iterations": self.iterations, "seed": seed, "resume": True, "quiet": True}
        if not is_finished(folder):
            samsemi.warmstart(dataset=self.out / "data", **training, **NETWORK, **TRAINING, **options)
        return folder

    def adapted(self, name: str, **options: object) -> Path:
        file = self.out / f"{name}.safetensors"
        if not file.exists():
            samsemi.adapt(dataset=self.out / "data", out=file, resume=True, quiet=True, **ADAPTING, **options)
        return file

    def distilled(self) -> Path:
        folder = self.out / "distill"
        if not is_finished(folder):
            learning = {"peers": PEERS, "seed": 1, "precision": "bf16", "resume": True, "quiet": True}
            samsemi.distill(dataset=self.out / "data", out=folder, **DISTILLING, **learning)
        return folder

    def mining(self, variant: str) -> dict[str, object]:
        """The options of `mine`, what they name trained."""
        options = dict(MINING[variant])
        if variant == "adapted":
            options["sam_checkpoint"] = self.adapted(variant)
        elif variant == "adapted-no-crops":
            options["sam_checkpoint"] = self.adapted(variant, crops=0.0)
        elif variant == "distilled":
            options["sam"] = f"distilled:{self.distilled()}"
        elif variant == "two-models":
            options["model"] = (self.model(), self.model("warm-2", seed=2))
        elif variant == "fold-models":
            options["model"] = self.model("warm-folds", folds=3)
        elif self.checkpoint and "sam" not in options:
            options["sam_checkpoint"] = self.checkpoint
        return {"model": self.model(), **options}

    def mine(self, variant: str, name: str, dataset: str) -> Path:
        """A store of the unlabeled images of `data` or `others`."""
        store = self.out / "stores" / dataset / f"{name}.h5"
        if not store.exists():
            options = self.mining(variant)
            try:
                found = samsemi.mine(dataset=self.out / dataset, out=store, precision="bf16", resume=True, quiet=True, **options)
                print(name, dataset, found, flush=True)
            except NothingUsable as nothing:
                print(name, dataset, nothing, flush=True)
        return store

    def dump_labels(self, variant: str, name: str) -> None:
        file = self.out / "labels" / f"{name}.npz"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            dump(self.out / "data", self.mine(variant, name, "data"), file)

    def train(self, variant: str, name: str, seed: int, iterations: int) -> None:
        """A student and its scores on the development images."""
        folder, scores = self.out / "students" / f"{name}-{seed}", self.out / "scores" / f"{name}-{seed}.json"
        if scores.exists():
            return
        if not is_finished(folder):
            learning = {"seed": seed, "iterations": iterations, "validate_every": iterations, "resume": True, "quiet": True}
            store = {} if variant == "alone" else {"store": self.mine(*self.source(variant, name), "others")}
            options = {**store, **LEARNING.get(variant, {}), **learning, **TRAINING}
            samsemi.finetune(dataset=self.out / "others", model=self.model(), out=folder, **options)
        found = score_model(folder, read_dataset(self.out / "others"))
        scores.parent.mkdir(exist_ok=True)
        scores.write_text(json.dumps(found, indent=1))
        print(name, seed, np.nanmean(list(found.values())), flush=True)

    def source(self, variant: str, name: str) -> tuple[str, str]:
        """The variant of MINING, and the name of the store, that a student learns from."""
        return ("all", "all") if variant in LEARNING else (variant, name)


def is_finished(run: Path) -> bool:
    """Whether a training has ended: it keeps no state."""
    return (run / "model.safetensors").exists() and not (run / "last").exists()


def score_model(run: Path, dataset: Dataset) -> dict[str, float]:
    """Test case -> Dice at image size, mean over the classes."""
    model, found = load_model(run), {}
    for case in dataset.split("test"):
        label = predict_image(model, read_case_image(case)).argmax(axis=0)
        truth = read_case_label(case, case.mask, len(dataset.classes))
        found[case.id] = mean_dice(label, truth, truth != IGNORE, len(dataset.classes))
    return found


def compare(out: Path, against: str) -> None:
    """A row for each student: mean Dice, of each seed, and the paired difference to one of them."""
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for file in sorted((out / "scores").iterdir()):
        name, _, seed = file.stem.rpartition("-")
        found.setdefault(name, {})[seed] = json.loads(file.read_text())
    print(f"| student | seeds | Dice | of each seed | above {against} | of each seed |\n|---|---|---|---|---|---|")
    for name, runs in found.items():
        means = [np.nanmean(list(run.values())) for run in runs.values()]
        both = [seed for seed in runs if seed in found[against]]
        gain = np.array([[runs[s][case] - found[against][s][case] for case in runs[s]] for s in both]).reshape(len(both), -1)
        each = ", ".join(f"{100 * value:+.1f}" for value in np.nanmean(gain, axis=1)) if both else ""
        shown = (describe_gain(gain), each) if name != against and both else ("", "")
        print(f"| {name} | {len(runs)} | {np.mean(means):.3f} | {', '.join(f'{m:.3f}' for m in means)} | {shown[0]} | {shown[1]} |")


def describe_gain(gain: np.ndarray) -> str:
    """Mean of (seeds, cases) differences in points, and its 95 % interval by a bootstrap crossed over seeds and cases."""
    generator = np.random.default_rng(0)
    seeds, cases = gain.shape
    drawn = [np.nanmean(gain[generator.integers(seeds, size=seeds)][:, generator.integers(cases, size=cases)]) for _ in range(RESAMPLES)]
    low, high = 100 * np.quantile(drawn, [0.025, 0.975])
    return f"{100 * np.nanmean(gain):+.1f} [{low:+.1f}, {high:+.1f}]"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("labels", "students"):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path, help="folder of a set, with images/ and masks/")
        command.add_argument("out", type=Path)
        command.add_argument("--variants", nargs="+", default=["all"], choices=["alone", *MINING, *LEARNING])
        command.add_argument("--named", help="instead of the name of the one variant")
        command.add_argument("--sam-checkpoint", type=Path, help="weights of the SAM where it is not adapted")
        command.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
        command.add_argument("--iterations", type=int, help="of a student; default: those of the warm start")
        command.add_argument("--unlabeled", type=int, help="how many images students may learn without labels; default: all but the others")
    table = commands.add_parser("compare")
    table.add_argument("out", type=Path)
    table.add_argument("--against", default="alone")
    arguments = parser.parse_args(words)
    if arguments.command == "compare":
        return compare(arguments.out, arguments.against)
    place = Place(arguments.data.resolve(), arguments.out.resolve(), arguments.sam_checkpoint, arguments.unlabeled)
    place.prepare("data", *(["others"] if arguments.command == "students" else []))
    for variant in arguments.variants:
        name = arguments.named or variant
        if arguments.command == "labels":
            place.dump_labels(variant, name)
        else:
            for seed in arguments.seeds:
                place.train(variant, name, seed, arguments.iterations or place.iterations)


if __name__ == "__main__":
    sys.exit(main())
