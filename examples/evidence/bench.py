"""How a cell is trained and measured: the samsemi commands of each arm, run where they have not ended with the same inputs before."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from deal import deal, deal_parts, learn_all, list_ids, write_split
from design import IMAGES, KNOWSAM, ORACLES, Cell, Preset, Row

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from step import NOTHING_ACCEPTED, run_step  # noqa: E402

BATCH_SIZE = 8
"""That of every arm."""
INTERRUPTED = 130
"""Exit code of a command that was interrupted, its state saved."""
MINED = ("data", "warm", "adapt", "mine-mined")
NEEDS = {
    "supervised": ("data-learnt",),
    "labeled-only": ("data", "warm"),
    "self-training": ("data", "warm", "mine-self-training"),
    "mined": MINED,
    "continuous": MINED,
    **dict.fromkeys(ORACLES, MINED),
    "knowsam": ("data", "adapt"),
    "knowsam-no-sam": ("data",),
}
"""Arm -> the steps before its own training, which arms of a seed share."""
OF_ALL_IMAGES = ("oracle-boxes", "oracle-all")
"""Arms that learn from all unlabeled images, whatever mining has accepted."""


class NothingAccepted(Exception):
    """Mining has finished and accepted no object."""


@dataclass(frozen=True)
class Bench:
    """One row and seed: a folder with its data, models and stores."""

    images: Path
    """Folder with images/ and masks/."""
    folder: Path
    row: Row
    seed: int
    preset: Preset
    sam_checkpoint: str = ""

    @property
    def iterations(self) -> int:
        return self.row.iterations or self.preset.iterations_of(self.row.data)

    @property
    def warm_iterations(self) -> int:
        """The first half of every arm but `supervised` and KnowSAM's."""
        return self.iterations // 2

    def measure(self, arm: str) -> str:
        """Train an arm as far as it is not trained yet, and evaluate it in eval-ARM; the arm whose model that is: `labeled-only` where
        mining accepts nothing."""
        made = arm
        try:
            self.train(arm)
        except NothingAccepted as nothing:
            print(f"{nothing}: measured as labeled-only", flush=True)
            made = "labeled-only"
            self.train(made)
        if arm == "supervised":  # its own data set has the same test cases
            self.step("data", *self.command("data"))
        out = self.folder / f"eval-{arm}"
        self.step(f"eval-{arm}", "eval", self.folder / "data", "--model", self.folder / made, "--out", out, "--overlays", 0)
        return made

    def train(self, arm: str) -> None:
        for name in (*NEEDS[arm], arm):
            if name.startswith("mine-"):
                self.mine(name, arm)
                continue
            if name in ORACLES:
                self.make_oracle(name)
            self.step(name, *self.command(name))

    def mine(self, name: str, arm: str) -> None:
        """Make a store and measure it by the hidden truth; that nothing in it is accepted is nothing to an arm of all images."""
        try:
            self.step(name, *self.command(name))
            out = ("--out", self.folder / f"eval-{name}", "--overlays", 0)
            self.step(f"eval-{name}", "eval", self.folder / "data", "--store", self.store(name), *out)
        except NothingAccepted:
            if arm not in OF_ALL_IMAGES:
                raise

    def command(self, name: str) -> tuple[object, ...]:
        """The words of a step."""
        data, out, preset = self.folder / "data", ("--out", self.folder / name), self.preset
        if name.startswith("data"):
            return self.prepare(name)
        if name in ("warm", "supervised"):
            learnt, iterations = (data, self.warm_iterations) if name == "warm" else (self.folder / "data-learnt", self.iterations)
            return ("warmstart", learnt, *out, *preset.network, *self.training(iterations))
        if name == "adapt":
            base = ("--sam-checkpoint", self.sam_checkpoint) if self.sam_checkpoint else ()
            common = ("--seed", self.seed, "--precision", preset.precision, "--overlays", 0)
            return ("adapt", data, "--sam", preset.sam, *base, "--out", self.sam, *preset.adapt, *common)
        if name.startswith("mine-"):
            sam = ("none",) if name == "mine-self-training" else (preset.sam, "--sam-checkpoint", self.sam)
            common = (*preset.mine, "--precision", preset.precision)
            return ("mine", data, "--model", self.folder / "warm", "--sam", *sam, "--out", self.store(name), *common)
        if name in KNOWSAM:
            sam = () if "--no-sam" in KNOWSAM[name] else ("--sam", preset.sam, "--sam-checkpoint", self.sam)
            common = ("--batch-size", BATCH_SIZE, *self.common(self.iterations))
            return ("distill", data, *out, *sam, *preset.distill, *KNOWSAM[name], *common)
        return ("finetune", data, "--model", self.folder / "warm", *out, *self.learnt(name), *self.training(self.warm_iterations))

    def prepare(self, name: str) -> tuple[object, ...]:
        """Its split is dealt anew each time, by the same rule."""
        parts = deal_parts(list_ids(self.images / "images"))
        split = deal(parts, self.row.labels, self.seed, development=self.row.iterations is not None)
        file = self.folder / f"{name}.csv"
        write_split(learn_all(split) if name == "data-learnt" else split, file)
        return ("prepare", self.images / "images", "--masks", self.images / "masks", "--split", file, "--out", self.folder / name)

    def common(self, iterations: int) -> tuple[object, ...]:
        return "--iterations", iterations, "--keep", "last", "--seed", self.seed, "--precision", self.preset.precision

    def training(self, iterations: int) -> tuple[object, ...]:
        return "--batch-size", BATCH_SIZE, "--lr", self.preset.lr, *self.common(iterations), *self.preset.training

    def learnt(self, arm: str) -> tuple[object, ...]:
        """What a fine-tuning learns besides the labels."""
        if arm == "labeled-only":
            return ()
        if arm == "continuous":
            return "--store", self.store("mine-mined"), "--schedule", "continuous", "--sam-checkpoint", self.sam
        return "--store", self.store(arm if arm in ORACLES else f"mine-{arm}")

    @property
    def sam(self) -> Path:
        """SAM's weights, adapted to the labeled cases."""
        return self.folder / "sam.safetensors"

    def store(self, name: str) -> Path:
        return self.folder / f"{name}.h5"

    def make_oracle(self, arm: str) -> None:
        """The store of labels by the truth, unless it is there and newer than the mined one."""
        mined, store = self.store("mine-mined"), self.store(arm)
        if store.exists() and store.stat().st_mtime > mined.stat().st_mtime:
            return
        words = (arm, self.folder / "data", mined, store, "--model", self.folder / "warm")
        words = (*words, "--sam", self.preset.sam, "--sam-checkpoint", self.sam)
        self.say(f"{arm}.h5")
        subprocess.run([sys.executable, str(HERE / "oracles.py"), *map(str, words)], check=True)

    def step(self, name: str, *command: object) -> None:
        """Run one samsemi command, unless it has ended with the same inputs before; its messages are kept in steps/NAME.log."""
        self.say(name)
        file = self.folder / "steps" / f"{name}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a") as log:
            code = run_step(self.folder, name, [str(word) for word in command], ["--quiet"], log)
        if code == NOTHING_ACCEPTED and command[0] in ("mine", "finetune"):
            raise NothingAccepted(f"{self.folder.name} {name}: nothing accepted")
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            last = file.read_text().strip().splitlines()[-2:]
            raise RuntimeError(f"{self.folder} {name} ended with {code}: {' '.join(last)}")

    def say(self, name: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.row.name} seed {self.seed} {name}", flush=True)

    def estimate(self, arm: str, begun: set[Path] | None = None) -> float:
        """Seconds that an arm will take, by the preset's costs, without the steps that have ended or are among the ``begun``, to which
        its own are added."""
        files = {self.folder / "steps" / f"{name}.json": name for name in (*NEEDS[arm], arm)}
        begun = set() if begun is None else begun
        left = [file for file in files if file not in begun and not (file.exists() and "result" in json.loads(file.read_text()))]
        begun.update(files)
        return sum(self.cost(files[file]) for file in left)

    def cost(self, name: str) -> float:
        seconds = self.preset.seconds
        if name.startswith("data"):
            return 0.0
        if name == "adapt":
            return seconds["adapt"]
        if name.startswith("mine-"):
            return seconds["mine"] * IMAGES[self.row.data]
        if name in KNOWSAM:
            return seconds["distill"] * self.iterations
        oracle = seconds["mine"] * IMAGES[self.row.data] if name in ORACLES else 0.0
        return oracle + seconds["training"] * (self.iterations if name == "supervised" else self.warm_iterations)


def bench_of(cell: Cell, data: Path, out: Path, preset: Preset, sam_checkpoint: str = "") -> Bench:
    return Bench(data / cell.row.data, out / cell.row.name / f"seed-{cell.seed}", cell.row, cell.seed, preset, sam_checkpoint)
