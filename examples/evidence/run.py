"""What mining brings: arms x sets x shares of labels x seeds, all with the same number of images drawn, resumable.

    python examples/evidence/run.py FOLDER OUT                   # FOLDER/SET/images and FOLDER/SET/masks
    python examples/evidence/run.py FOLDER OUT --only kvasir_seg-10 --seeds 2
    python examples/evidence/table.py OUT                        # the table of what is there, rows not run named

Stopped at any moment, the same command goes on. The settings are those of a CPU; on a GPU add
    --jobs 1 --encoder resnet34 --decoder 256,128,64,32,16 --size 256 --precision auto
    --warm-iterations 3000 --iterations 3000 --lr 1e-3 --adapt "--all --iterations 1000" --distill ""

The test cases of a set are the same for all seeds; a seed deals the others to labeled, val and unlabeled, and starts the weights.
KnowSAM's arms see most of theirs twice, as they are and mixed; beyond that number go what others have trained for two of them: the
warm start that mines for `distill-store`, and the teacher of `finetune-distill`, which is that of `distill`.
A share of labels counts labeled and val cases, as part of all cases but the test cases.
"""

import argparse
import csv
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from samsemi.data.images import hash_pixels, read_image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from step import NOTHING_ACCEPTED, run_step  # noqa: E402

BASELINES = ("supervised", "labeled-only", "self-training")
ABLATIONS = {
    "distill": (),
    "distill-lowest": ("--mix", "lowest"),
    "distill-no-sam": ("--no-sam",),
    "distill-no-mixing": ("--no-mixing",),
    "distill-no-fusion": ("--no-fusion",),
    "distill-no-prompts": ("--no-learned-prompts",),
    "distill-store": (),
}
"""Arm -> its further options. All are KnowSAM; the last one also learns the labels that `once` mines."""
SHORT_DISTILL = (
    "--peers unetplusplus:tu-mobilenetv3_small_100,unet:tu-mobilenetv3_small_100 --optimizer adamw --lr 4e-3 --sam-lr 1e-3 --temperature 2"
)
"""Networks, rates and temperature of a thousand iterations on a CPU; the published ones are for 50,000."""
KNOWSAM = (*ABLATIONS, "finetune-distill")
PLAN = (
    ("kvasir_seg", 10, (*BASELINES, "once")),
    ("kvasir_seg", 75, (*BASELINES, "once", "supervised-all")),
    ("lung_cxr", 50, (*BASELINES, "once", "supervised-all")),
    ("isic2018", 10, (*BASELINES, "once")),
    ("kvasir_seg", 10, ("continuous", "rounds", "ellipse")),
    ("isic2018", 10, ("continuous", "rounds", "ellipse")),
    ("lung_cxr", 50, ("continuous", "rounds", "ellipse")),
    ("kvasir_seg", 75, ("continuous", "rounds", "ellipse")),
    ("kvasir_seg", 5, (*BASELINES, "once")),
    ("isic2018", 5, (*BASELINES, "once")),
    ("kvasir_seg", 10, KNOWSAM),
    ("wbc", 10, (*BASELINES, "once", *KNOWSAM)),
)
"""Set, percent of labels, arms: in the order in which they are run."""
TEST_SHARE = 0.2
BATCH_SIZE = 8
"""That of every arm."""
STORES = {"self-training": "none", "ellipse": "ellipse"}
"""Arm -> the SAM that it mines with; all others mine with the adapted one."""


class NothingAccepted(Exception):
    """Mining has finished and accepted no object."""


@dataclass(frozen=True)
class Cell:
    """One set, share of labels and seed: a folder with its data, models and stores. All arms share a warm start and a SAM."""

    data: Path
    folder: Path
    percent: int
    seed: int
    settings: argparse.Namespace

    def run(self, arms: Sequence[str]) -> None:
        """Everything that the arms need, and the arms, as far as it is not there yet."""
        if not (self.folder / "split.csv").exists():
            write_split(self.data, self.percent, self.seed, self.folder / "split.csv")
        self.prepare("data", self.folder / "split.csv")
        for arm in arms:
            made = arm
            if arm == "supervised":
                self.warmstart(arm, "data", self.settings.warm_iterations + self.settings.iterations)
            elif arm == "supervised-all":
                label_all(self.folder / "split.csv", self.folder / "split-all.csv")
                self.prepare("data-all", self.folder / "split-all.csv")
                self.warmstart(arm, "data-all", self.settings.warm_iterations + self.settings.iterations)
            elif arm in ABLATIONS:
                made = self.learn(arm, self.distill, "distill")
            else:
                self.warmstart("warm", "data", self.settings.warm_iterations)
                made = self.learn(arm, self.finetune, "labeled-only")
            out = self.folder / f"eval-{arm}"
            self.step(f"eval-{arm}", "eval", self.folder / "data", "--model", self.folder / made, "--out", out)

    def learn(self, arm: str, train: Callable[[str], None], without_store: str) -> str:
        """Train an arm; the one whose model is to be measured: ``without_store`` where nothing is accepted."""
        try:
            train(arm)
        except NothingAccepted as nothing:
            print(f"{nothing}: measured as {without_store}", flush=True)
            train(without_store)
            return without_store
        return arm

    def prepare(self, name: str, split: Path) -> None:
        images, masks = self.data / "images", self.data / "masks"
        self.step(name, "prepare", images, "--masks", masks, "--split", split, "--out", self.folder / name)

    def warmstart(self, name: str, data: str, iterations: int) -> None:
        s = self.settings
        network = ("--encoder", s.encoder, "--decoder-channels", s.decoder, "--size", s.size, "--encoder-weights", s.encoder_weights)
        training = ("--iterations", iterations, "--lr", s.lr, *self.common())
        self.step(name, "warmstart", self.folder / data, "--out", self.folder / name, *network, *training)

    def common(self) -> tuple[object, ...]:
        """Options of every training but `adapt`."""
        return "--keep", self.settings.keep, "--seed", self.seed, "--precision", self.settings.precision

    def distill(self, arm: str) -> None:
        s = self.settings
        store = ()
        if arm == "distill-store":
            self.warmstart("warm", "data", s.warm_iterations)
            store = ("--store", self.mine(arm))
        sam = () if arm == "distill-no-sam" else ("--sam", s.sam, "--sam-checkpoint", self.adapt())
        training = ("--iterations", s.warm_iterations + s.iterations, *self.common())
        shape = ("--size", s.size, "--decoder-channels", s.decoder, "--encoder-weights", s.encoder_weights, "--batch-size", BATCH_SIZE)
        chosen = (*sam, *shape, *shlex.split(s.distill), *ABLATIONS[arm], *store)
        self.step(arm, "distill", self.folder / "data", "--out", self.folder / arm, *chosen, *training)

    def finetune(self, arm: str) -> None:
        mining = ()
        if arm == "finetune-distill":
            self.distill("distill")
            mining = ("--distill", self.folder / "distill", "--teacher-checkpoint", self.adapt(), *shlex.split(self.settings.finetune))
        elif arm != "labeled-only":
            store = self.mine(arm)
            weights = () if arm in STORES else ("--sam-checkpoint", self.adapt())
            schedule = {"continuous": ("--schedule", "continuous"), "rounds": ("--rounds", 2)}.get(arm, ())
            mining = ("--store", store, *schedule, *(weights if schedule else ()), *shlex.split(self.settings.finetune))
        s = self.settings
        training = ("--iterations", s.iterations, "--lr", s.lr, *self.common())
        self.step(arm, "finetune", self.folder / "data", "--model", self.folder / "warm", "--out", self.folder / arm, *mining, *training)

    def adapt(self) -> Path:
        """SAM's weights, adapted to the labeled cases."""
        s, adapted = self.settings, self.folder / "sam.safetensors"
        base = ("--sam-checkpoint", s.sam_checkpoint) if s.sam_checkpoint else ()
        training = (*shlex.split(s.adapt), "--seed", self.seed, "--precision", s.precision, "--overlays", 0)
        self.step("adapt", "adapt", self.folder / "data", "--sam", s.sam, *base, "--out", adapted, *training)
        return adapted

    def mine(self, arm: str) -> Path:
        """The store that an arm learns from: `once`'s, unless it mines with no SAM; a SAM that has weights is adapted first."""
        arm = arm if arm in STORES else "once"
        sam = STORES.get(arm, self.settings.sam)
        store = self.folder / f"{arm}.h5"
        weights = () if arm in STORES else ("--sam-checkpoint", self.adapt(), "--embeddings", self.folder / "embeddings.h5")
        options = (*shlex.split(self.settings.mine), "--precision", self.settings.precision, "--overlays", 24)
        self.step(
            f"mine-{arm}", "mine", self.folder / "data", "--model", self.folder / "warm", "--sam", sam, *weights, "--out", store, *options
        )
        self.step(f"eval-store-{arm}", "eval", self.folder / "data", "--store", store, "--out", self.folder / f"eval-store-{arm}")
        return store

    def step(self, name: str, *command: object) -> None:
        """Run one samsemi command, unless it has ended with the same inputs before; its messages are kept in steps/NAME.log."""
        print(f"{time.strftime('%H:%M:%S')} {self.folder.name} {name}", flush=True)
        file = self.folder / "steps" / f"{name}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a") as log:
            code = run_step(self.folder, name, [str(word) for word in command], ["--quiet"], log)
        if code == NOTHING_ACCEPTED and command[0] in ("mine", "finetune"):
            raise NothingAccepted(f"{self.folder.name} {name}: nothing accepted")
        if code:
            last = file.read_text().strip().splitlines()[-2:]
            raise RuntimeError(f"{self.folder.name} {name} ended with {code}: {' '.join(last)}")


def write_split(data: Path, percent: int, seed: int, out: Path) -> None:
    """Columns id, split: test cases alike for all seeds; a third of the labels, a tenth of all cases at most, are val.

    Of images that are pixel for pixel the same, one is kept.
    """
    images = {hash_pixels(read_image(path)): path.stem for path in sorted((data / "images").iterdir(), reverse=True)}
    ids = sorted(images.values())
    order = np.random.default_rng(0).permutation(len(ids))
    tests = round(TEST_SHARE * len(ids))
    rest = np.random.default_rng((seed, 1)).permutation(order[tests:])
    labels = round(percent / 100 * len(rest))
    val = min(labels // 3, len(rest) // 10)
    splits = {"test": order[:tests], "val": rest[:val], "labeled": rest[val:labels], "unlabeled": rest[labels:]}
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split"])
        writer.writerows((ids[i], split) for split, members in splits.items() for i in members)


def label_all(split: Path, out: Path) -> None:
    """The same split with every unlabeled case labeled."""
    out.write_text(split.read_text().replace(",unlabeled", ",labeled"))


def run_in_turn(turn: Lock, cell: Cell, arms: Sequence[str]) -> None:
    """Arms of one cell stand in several lines of the plan; they share a folder, so one line waits for the other."""
    with turn:
        cell.run(arms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of sets, each with images/ and masks/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="rows, such as kvasir_seg-10")
    parser.add_argument("--arms", nargs="*", help="arms, such as once")
    parser.add_argument("--seeds", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="commands side by side")
    parser.add_argument("--warm-iterations", type=int, default=1200, help="of the warm start")
    parser.add_argument("--iterations", type=int, default=1200, help="of the fine-tuning; the supervised arms run for both")
    parser.add_argument("--lr", default="4e-3", help="of all trainings but those of `adapt` and `distill`")
    parser.add_argument("--keep", default="last", help="last or best: which model of every training but `adapt`")
    parser.add_argument("--encoder", default="tu-mobilenetv3_small_100")
    parser.add_argument("--decoder", default="48,32,16,12,8")
    parser.add_argument("--encoder-weights", default="none")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--sam-checkpoint", default="")
    parser.add_argument("--adapt", default="--all --iterations 200 --validate-every 50", help="options of `samsemi adapt`")
    parser.add_argument("--mine", default="", help="more options of `samsemi mine`, of every arm that mines")
    parser.add_argument("--finetune", default="--pseudo-share 0.5", help="more options of `samsemi finetune`, of every arm that mines")
    parser.add_argument("--distill", default=SHORT_DISTILL, help="more options of `samsemi distill`; '' for the published networks")
    settings = parser.parse_args()
    with ThreadPoolExecutor(settings.jobs) as pool:
        waiting, turns = [], defaultdict(Lock)
        for name, percent, arms in PLAN:
            row = f"{name}-{percent}"
            chosen = [arm for arm in arms if not settings.arms or arm in settings.arms]
            if settings.only and row not in settings.only:
                continue
            for seed in settings.seeds:
                cell = Cell(settings.data / name, settings.out / row / f"seed-{seed}", percent, seed, settings)
                waiting.append(pool.submit(run_in_turn, turns[cell.folder], cell, chosen))
        failed = [error for error in (task.exception() for task in waiting) if error]
    for error in failed:
        print(error, file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
