"""The commands that are killed, on few small images, and how each is taken up again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from small_world import ADAPTING, CPU, DISTILLING, MINING, NETWORK, TRAINING, World

Words = tuple[object, ...]


@dataclass(frozen=True)
class Job:
    """A command that writes into the folder in which it runs."""

    name: str
    """Of the row of the table."""
    share: float
    """Of the number of kills of ``mine``."""
    words: Callable[[World], Words]
    whole: str
    """The file, or pattern of files, with which its output is whole."""
    again: Words = ()
    """How it is taken up: added to the words."""
    before: Callable[[World], Words] | None = None
    """What has run there before, so that there is something to replace."""
    count: int = 1
    """How many files ``whole`` is."""

    @property
    def command(self) -> str:
        return self.name.split(",")[0]

    def is_whole(self, folder: Path) -> bool:
        return sum(1 for _ in folder.glob(self.whole)) >= self.count


def mine(*more: object) -> Callable[[World], Words]:
    return lambda world: ("mine", world.dataset, "--model", world.warm, "--out", "out.h5", *MINING, *CPU, *more)


def finetune(*more: object) -> Callable[[World], Words]:
    options = ("--store", "{store}", "--out", "out", *TRAINING, *MINING[4:], *CPU, *more)
    return lambda world: ("finetune", world.dataset, "--model", world.warm, *(world.store if o == "{store}" else o for o in options))


def prepare(*more: object) -> Callable[[World], Words]:
    shares = ("--labeled", 6, "--val", 3, "--test", 3)
    return lambda world: ("prepare", world.images, "--masks", world.masks, "--out", "out", *shares, "--quiet", *more)


def evaluate(*more: object) -> Callable[[World], Words]:
    return lambda world: ("eval", world.dataset, "--model", world.warm, "--out", "out", *CPU, *more)


def distill(world: World) -> Words:
    return ("distill", world.dataset, "--out", "out", *DISTILLING, *CPU)


def adapt(world: World) -> Words:
    return ("adapt", world.dataset, "--out", "out.safetensors", *ADAPTING, *CPU)


def warmstart(world: World) -> Words:
    return ("warmstart", world.dataset, "--out", "out", *NETWORK, *TRAINING[:4], "--folds", 2, *CPU)


def predict(world: World) -> Words:
    return ("predict", world.images, "--model", world.warm, "--out", "out", "--overlays", "--probabilities", "--batch-size", 3, *CPU)


def export(world: World) -> Words:
    return ("export-labels", world.store, "--out", "out", "--quiet", "--overwrite")


RESUME, OVERWRITE = ("--resume",), ("--overwrite",)
FINISHED = "out/made_from.json"
JOBS = (
    Job("mine", 0.4, mine(), "out.h5", RESUME),
    Job("mine, cache", 0.4, mine("--embeddings", "cache.h5"), "out.h5", RESUME),
    Job("mine, overwrite", 0.2, mine("--overwrite"), "out.h5", before=mine("--sam", "none")),
    Job("finetune, once", 0.15, finetune(), FINISHED, RESUME),
    Job("finetune, continuous", 0.15, finetune("--schedule", "continuous", "--remine-every", 3), FINISHED, RESUME),
    Job("finetune, online", 0.1, finetune("--schedule", "online"), FINISHED, RESUME),
    Job("distill", 0.3, distill, FINISHED, RESUME),
    Job("adapt", 0.1, adapt, "out.run/made_from.json", RESUME),
    Job("warmstart, folds", 0.1, warmstart, FINISHED, RESUME),
    Job("predict", 0.1, predict, "out/*.png", RESUME, count=18),
    Job("prepare", 0.1, prepare(), "out/manifest.csv"),
    Job("prepare, overwrite", 0.1, prepare("--overwrite", "--seed", 1), "out/manifest.csv", before=prepare()),
    Job("eval, overwrite", 0.05, evaluate("--overwrite"), "out/metrics.json", before=evaluate("--split", "val")),
    Job("export-labels, overwrite", 0.05, export, "out/labels.json", before=lambda world: export(world)[:-1]),
)
