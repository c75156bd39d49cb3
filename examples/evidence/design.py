"""What is measured: sets, numbers of labels, seeds and arms in the order in which they run, and the sizes of a CPU and of a GPU.

The reasons stand in docs/evidence.md, which was written before any test case was read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LABELS_ALONE = ("supervised", "labeled-only")
MAIN = (*LABELS_ALONE, "self-training", "mined")
ORACLES = ("oracle-masks", "oracle-accepted", "oracle-boxes", "oracle-all")
KNOWSAM = {"knowsam": (), "knowsam-no-sam": ("--no-sam",)}
"""Arm -> its options of `samsemi distill`."""
IMAGES = {"kvasir_seg": 900, "isic2018": 1000, "lung_cxr": 604, "wbc": 300}
"""Sets, and how many images each has."""
ALL = 0
"""As a number of labels: every image that is no test case."""


@dataclass(frozen=True)
class Row:
    """A set and a number of labels, labeled and val together; with ``iterations``, a row of the development images instead."""

    data: str
    labels: int
    iterations: int | None = None

    @property
    def name(self) -> str:
        labels = str(self.labels) if self.labels else "all"
        return f"{self.data}-{labels}" + (f"-development-{self.iterations}" if self.iterations else "")


class Part(NamedTuple):
    """One row with some seeds and arms."""

    row: Row
    seeds: Sequence[int]
    arms: Sequence[str]


class Cell(NamedTuple):
    """What is trained and measured once."""

    row: Row
    seed: int
    arm: str


@dataclass(frozen=True)
class Preset:
    """The sizes of everything on one kind of machine."""

    network: tuple[object, ...]
    """Options of every training of a network from scratch."""
    precision: str
    lr: float
    budgets: tuple[int, ...]
    """Iterations that are tried on the development images: of a whole arm, warm start included."""
    iterations: dict[str, int]
    """Set -> iterations of every arm; those of the first set where a set is not named."""
    better: dict[str, str]
    """Set -> the label-only arm that mining is held against, by the development images; that of the first where it is not named."""
    sam: str
    adapt: tuple[object, ...]
    distill: tuple[object, ...]
    training: tuple[object, ...] = ()
    """Options of every training and fine-tuning of a network alone."""
    mine: tuple[object, ...] = ()
    """Options beyond the defaults, of every arm that mines."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of one iteration of a training and of a KnowSAM, of adapting SAM, and of mining an image, next to other jobs: for estimates."""

    def iterations_of(self, data: str) -> int:
        return self.iterations.get(data, next(iter(self.iterations.values())))

    def better_of(self, data: str) -> str:
        return self.better.get(data, next(iter(self.better.values())))


PRESETS = {
    "cpu": Preset(
        network=("--encoder", "tu-mobilenetv3_small_100", "--decoder-channels", "48,32,16,12,8", "--size", 128),
        precision="bf16",
        lr=4e-3,
        budgets=(600, 1200, 2400, 4800),
        iterations={"kvasir_seg": 4800, "isic2018": 2400},
        better={"kvasir_seg": "supervised", "isic2018": "supervised"},
        sam="tiny",
        adapt=("--all", "--iterations", 200, "--validate-every", 50),
        distill=("--preset", "short", "--size", 128),
        training=("--compile",),
        seconds={"training": 0.28, "distill": 2.0, "adapt": 360, "mine": 0.15},
    ),
    "gpu": Preset(
        network=("--encoder", "resnet34", "--decoder-channels", "256,128,64,32,16", "--size", 352),
        precision="auto",
        lr=1e-3,
        budgets=(2000, 4000, 8000, 16000),
        iterations={"kvasir_seg": 8000, "isic2018": 8000},
        better={"kvasir_seg": "supervised", "isic2018": "supervised"},
        sam="vit_b",
        adapt=("--iterations", 1000),
        distill=(
            *("--peers", "unetplusplus:resnet34,unet:resnet34", "--decoder-channels", "256,128,64,32,16", "--size", 352),
            *("--optimizer", "adamw", "--lr", 1e-3, "--sam-lr", 1e-4, "--temperature", 2),
        ),
        seconds={"training": 0.08, "distill": 0.3, "adapt": 300, "mine": 0.2},
    ),
}
DEVELOPMENT_SEEDS = (1, 2, 3)


def plan_parts(preset: Preset) -> list[Part]:
    """What is read on the test cases, in the order in which it is run."""
    polyps, lesions = "kvasir_seg", "isic2018"
    return [
        Part(Row(polyps, 24), range(1, 11), MAIN),
        Part(Row(lesions, 24), range(1, 6), MAIN),
        Part(Row(polyps, 72), range(1, 6), (preset.better_of(polyps),)),
        Part(Row(lesions, 72), range(1, 6), (preset.better_of(lesions),)),
        Part(Row(polyps, 24), range(1, 4), ORACLES),
        Part(Row(polyps, ALL), range(1, 4), ("supervised",)),
        Part(Row(polyps, 24), range(1, 4), tuple(KNOWSAM)),
        Part(Row(polyps, 8), range(1, 6), MAIN),
        Part(Row(polyps, 24), range(1, 6), ("continuous",)),
        Part(Row("lung_cxr", 24), range(1, 6), MAIN),
        Part(Row("wbc", 24), range(1, 6), MAIN),
    ]


def plan_development(preset: Preset) -> list[Part]:
    """What is read on the development images, before: how many iterations, and which label-only arm is the better one."""
    parts = []
    for data, chosen in preset.iterations.items():
        parts += [Part(Row(data, 24, budget), (1,), ("labeled-only",)) for budget in preset.budgets]
        parts += [Part(Row(data, 24, chosen), DEVELOPMENT_SEEDS, LABELS_ALONE)]
    return parts


def cells_of(parts: Sequence[Part]) -> Iterator[Cell]:
    """Seed by seed, all arms of one after the other; none twice."""
    cells = (Cell(part.row, seed, arm) for part in parts for seed in part.seeds for arm in part.arms)
    yield from dict.fromkeys(cells)


class Contrast(NamedTuple):
    """An arm, with a number of labels, over another."""

    data: str
    arm: str
    labels: int
    other: str
    other_labels: int


def primary(preset: Preset) -> Contrast:
    return Contrast("kvasir_seg", "mined", 24, preset.better_of("kvasir_seg"), 24)


def secondary(preset: Preset) -> list[Contrast]:
    """The further comparisons that are tested, corrected together."""
    polyps, lesions = "kvasir_seg", "isic2018"
    return [
        Contrast(lesions, "mined", 24, preset.better_of(lesions), 24),
        *(Contrast(data, "mined", 24, "self-training", 24) for data in (polyps, lesions)),
        *(Contrast(data, "self-training", 24, preset.better_of(data), 24) for data in (polyps, lesions)),
        *(Contrast(data, "mined", 24, preset.better_of(data), 72) for data in (polyps, lesions)),
    ]


def untested(preset: Preset) -> list[Contrast]:
    """Comparisons of too few seeds for a test, or of rows that are run only if hours are left."""
    polyps = "kvasir_seg"
    return [
        *(Contrast(polyps, oracle, 24, "mined", 24) for oracle in ORACLES),
        *(Contrast(polyps, arm, 24, "supervised", 24) for arm in KNOWSAM),
        Contrast(polyps, "knowsam", 24, "knowsam-no-sam", 24),
        Contrast(polyps, "mined", 24, "supervised", ALL),
    ]
