"""How fast this machine mines, against the loop that everybody writes with segment-anything's predictor: the same images, prompts, weights;
and how fast it trains, input included.

Everything that is compared has its turn in each round, in one process, so that a machine that is busy, or gets warm, is so for all.
With one thread on a CPU the seconds are those that the thread computed, not those that others had the processor.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from torch import Tensor

from samsemi import cost
from samsemi.data.manifest import Case
from samsemi.data.pictures import write_picture
from samsemi.devices import autocast
from samsemi.mining.miner import Miner, View
from samsemi.mining.pseudolabels import join_windows
from samsemi.mining.store import Mined, Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.options.mine import MineOptions
from samsemi.options.sams import SAMS
from samsemi.options.shared import TrainingOptions
from samsemi.sam.original import OriginalSam, build_network
from samsemi.sam.prompts import Objects, Prompts, find_objects, make_prompts
from samsemi.sam.protocol import Embedding
from samsemi.segmenters.segmenter import Segmenter
from samsemi.training.batches import SampleSequence, Stream, labeled_sample, load_batches, to_device
from samsemi.training.kept import KeptSamples
from samsemi.training.loop import Step, TrainingState, choose_workers, train_step
from samsemi.training.optimizers import make_optimizer

KINDS = "box+point"
MATRIX = {"cpu": 1024, "gpu": 8192}
"""Side of the matrices whose product is the peak that an encoder is compared with."""
PRODUCTS = 8
COMPILING = ("compile_seconds", "compiled_over_encoder", "compile_pays_from_images")
"""Keys of ``measure_compiling``."""
Runs = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Scenes:
    """Drawn images with the maps, objects and prompts that a model would have found in them, by name."""

    images: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    found: dict[str, Objects]
    prompts: dict[str, Prompts]


def draw_scenes(number: int, side: int, objects: int, mask_size: int) -> Scenes:
    """Bright ellipses on a noisy ground, so many in each image, none touching another; always the same."""
    rng, cells = np.random.default_rng(0), int(np.ceil(np.sqrt(objects)))
    y, x = np.mgrid[:side, :side]
    images, maps = {}, {}
    for n in range(number):
        image = 60 + rng.normal(scale=10, size=(side, side, 1)) * np.ones(3)
        inside = np.zeros((side, side), bool)
        for place in rng.permutation(cells * cells)[:objects]:
            middle = (np.array(divmod(int(place), cells)) + 0.5) * side / cells
            radii = rng.uniform(0.2, 0.42, 2) * side / cells
            own = ((y - middle[0]) / radii[0]) ** 2 + ((x - middle[1]) / radii[1]) ** 2 < 1
            image[own] += 80 + rng.uniform(-20, 20, 3)
            inside |= own
        images[str(n)] = image.clip(0, 255).astype(np.uint8)
        foreground = np.where(inside, 0.9, 0.1).astype(np.float32)
        maps[str(n)] = np.stack([1 - foreground, foreground])
    found = {name: find_objects(own, min_area=1) for name, own in maps.items()}
    prompts = {name: make_prompts(own, KINDS, mask_size=mask_size) for name, own in found.items()}
    return Scenes(images, maps, found, prompts)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Of a call: the processor's with one thread on a CPU, by the wall clock elsewhere, what a GPU has still to do included."""
    now = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    wait()
    start = now()
    run()
    wait()
    return now() - start


def interleave(runs: Runs, rounds: int, device: torch.device, advance: Callable[[], None]) -> dict[str, list[float]]:
    """The seconds of each of several calls in each round, in which all have their turn; after one of each to warm up."""
    for run in runs.values():
        run()
        advance()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(seconds_of(run, device))
            advance()
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of one number over another."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def plain_sam(sam: OriginalSam) -> Sam:
    """segment-anything's own network with the weights of a SAM, on its device."""
    plain = build_network(SAMS[sam.name])
    plain.load_state_dict(sam.network.state_dict())
    return plain.to(sam.device).eval()


def run_loop(plain: Sam, scenes: Scenes) -> list[np.ndarray]:
    """The loop that everybody writes: an image, then an object at a time, in fp32; (H, W) bool masks in their order."""
    predictor, masks = SamPredictor(plain), []
    for name, image in scenes.images.items():
        predictor.set_image(image)
        given = scenes.prompts[name]
        for i in range(len(given)):
            points = {"point_coords": given.point_coords[i], "point_labels": given.point_labels[i]}  # type: ignore[index]
            masks.append(predictor.predict(**points, box=given.boxes[i], multimask_output=False)[0][0])  # type: ignore[index]
    return masks


def with_precision(sam: OriginalSam, precision: str) -> OriginalSam:
    """The same SAM that computes otherwise."""
    other = copy(sam)
    other.precision = precision
    return other


class Bench:
    """The runs of one SAM, which write below a folder."""

    def __init__(self, sam: OriginalSam, segmenter: Segmenter, scenes: Scenes, batch_size: int, folder: Path):
        self.sam, self.segmenter, self.scenes, self.folder = sam, segmenter, scenes, folder
        self.batch_size = batch_size
        self.files = count()
        self.plain = plain_sam(sam)
        self.mined = self.mine_given(sam)
        self.store = self.write()
        self.encoded = self.encode()
        self.warm = self.folder / "warm.h5"
        self.mine_cached(self.warm)

    def options(self, cache: Path | None = None) -> MineOptions:
        """Of ``mine`` by default; only the smallest objects count, too."""
        places = {"dataset": Path("-"), "model": (Path("-"),), "out": self.folder / "-", "embeddings": cache}
        return MineOptions(**places, sam=self.sam.name, prompts=KINDS, batch_size=self.batch_size, min_area=1)  # type: ignore[arg-type]

    def batches(self) -> list[list[str]]:
        names = list(self.scenes.images)
        return [names[i : i + self.batch_size] for i in range(0, len(names), self.batch_size)]

    def mine_given(self, sam: OriginalSam) -> dict[str, Mined]:
        """Mining of whole images with prompts given: SAM's masks, scored."""
        scenes, mined = self.scenes, {}
        miner = Miner(self.segmenter, sam, self.options())
        for names in self.batches():
            sizes = {name: scenes.images[name].shape[:2] for name in names}
            views = [View(name, (0.0, 0.0, w, h), np.arange(len(scenes.found[name]))) for name, (h, w) in sizes.items()]
            scored = miner.score_views(views, scenes.images, {n: scenes.found[n] for n in names}, {n: [scenes.prompts[n]] for n in names})
            for name in names:
                objects = scenes.found[name]
                mined[name] = join_windows(scored[name], objects, scenes.maps[name], sam.mask_size, objects.boxes)
        return mined

    def write(self, mined: Mapping[str, Mined] | None = None) -> Path:
        """A store of what was mined, in parts, then whole."""
        path = self.folder / f"{next(self.files)}.h5"
        points = self.scenes.prompts["0"].point_labels
        assert points is not None
        writer = StoreWriter(path, Provenance({}, {}, {}), self.sam.mask_size, points.shape[1], 2)
        for number, names in enumerate(self.batches()):
            for name in names:
                writer.add(name, self.scenes.images[name].shape, (mined or self.mined)[name], self.scenes.prompts[name])
            writer.commit(number)
        writer.finish(list(self.scenes.images))
        return path

    def mine(self, precision: str) -> Path:
        """Images with prompts -> a store: what stands against the loop."""
        return self.write(self.mine_given(with_precision(self.sam, precision)))

    def mine_cached(self, cache: Path) -> None:
        """As ``mine`` does by default, from the network's maps on, in windows where that suits the SAM, with a cache of embeddings."""
        miner = Miner(self.segmenter, self.sam, self.options(cache))
        try:
            for names in self.batches():
                miner.prompt({name: self.scenes.images[name] for name in names}, [self.scenes.maps[name] for name in names])
        finally:
            miner.close()

    def mine_cold(self) -> None:
        self.mine_cached(self.folder / f"{next(self.files)}.h5")

    def encode(self) -> list[Embedding]:
        return [e for names in self.batches() for e in self.sam.encode([self.scenes.images[name] for name in names])]

    def decode(self, sam: OriginalSam | None = None, encoded: Sequence[Embedding] | None = None) -> list[np.ndarray]:
        """(H, W) bool masks at image size, in the order of the loop's."""
        outputs = (sam or self.sam).decode(encoded or self.encoded, list(self.scenes.prompts.values()))
        return [mask for output in outputs for mask in (output.at_image_size() > 0).cpu().numpy()]

    def decode_alone(self) -> None:
        for names in self.batches():
            rows = [int(name) for name in names]
            self.sam.decode([self.encoded[i] for i in rows], [self.scenes.prompts[name] for name in names])

    def read(self) -> None:
        store = Store(self.store)
        for name in store.ids:
            store.read(name)

    def mean_iou(self, precision: str, masks: Sequence[np.ndarray]) -> float:
        """Of the masks in a precision with the loop's; that of two empty ones is 1."""
        sam = with_precision(self.sam, precision)
        encoded = [e for names in self.batches() for e in sam.encode([self.scenes.images[name] for name in names])]
        pairs = zip(self.decode(sam, encoded), masks, strict=True)
        return float(np.mean([(a & b).sum() / (a | b).sum() if (a | b).any() else 1.0 for a, b in pairs]))

    def inputs(self) -> Tensor:
        images = [self.scenes.images[name] for name in self.batches()[0]]
        return self.sam.preprocessing.squares(images, self.sam.side, self.sam.device)


@torch.inference_mode()
def run_encoder(sam: OriginalSam, inputs: Tensor) -> None:
    with autocast(sam.device, sam.precision):
        sam.network.encode(inputs)


def measure_compiling(sam: OriginalSam, inputs: Tensor, rounds: int, backend: str = "inductor") -> dict[str, float | None]:
    """Seconds that compiling the encoder takes, how much faster it is then, and from how many images on that pays, None: it never does."""
    other = copy(sam)
    other.network = deepcopy(sam.network)
    other.compile(backend)
    compiling = seconds_of(lambda: run_encoder(other, inputs), sam.device)
    runs: Runs = {"plain": lambda: run_encoder(sam, inputs), "compiled": lambda: run_encoder(other, inputs)}
    times = interleave(runs, rounds, sam.device, lambda: None)
    saved = (statistics.median(times["plain"]) - statistics.median(times["compiled"])) / len(inputs)
    pays = compiling / saved if saved > 0 else None
    return dict(zip(COMPILING, (compiling, median_ratio(times["plain"], times["compiled"]), pays), strict=True))


def encoder_flops(name: str) -> float:
    """Operations of the encoder of one image as segment-anything defines it; a multiplication and an addition are two."""
    with torch.device("meta"):
        encoder = build_network(SAMS[name]).image_encoder.eval()
        image = torch.empty(1, 3, encoder.img_size, encoder.img_size)
    return 1e9 * cost.count(encoder, lambda: encoder(image))["gflops"]


def make_product(device: torch.device, precision: str) -> tuple[Callable[[], object], float]:
    """A product of two matrices in the precision of the encoder, repeated, and its operations."""
    side = MATRIX["cpu" if device.type == "cpu" else "gpu"]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device, dtype=kind)
    return lambda: [matrix @ matrix for _ in range(PRODUCTS)], 2.0 * PRODUCTS * side**3


def draw_cases(folder: Path, number: int, side: int) -> list[Case]:
    """So many of the scenes, with four objects each, as files of images and of masks of one class."""
    scenes, cases = draw_scenes(number, side, 4, 64), []
    for name, image in scenes.images.items():
        image_file, mask_file = (folder / f"{name}.{kind}.png" for kind in ("image", "mask"))
        write_picture(image_file, image)
        write_picture(mask_file, scenes.maps[name].argmax(axis=0).astype(np.uint8))
        cases.append(Case(name, image_file, mask_file, truth=None, split="labeled", group=name))
    return cases


class Training:
    """A training as ``fit`` does it, step by step, from files: those of the first step are read, later ones are in memory."""

    def __init__(self, segmenter: Segmenter, step: Step, cases: Sequence[Case], options: TrainingOptions, steps: int):
        self.step_of, self.options, self.device = step, options, segmenter.device
        load = KeptSamples(partial(labeled_sample, num_classes=len(segmenter.spec.classes), size=segmenter.spec.size))
        samples = SampleSequence([Stream(cases, load, options.batch_size)], options.seed)
        workers = choose_workers(options.workers, self.device)
        self.batches = load_batches(samples, samples.order(0, steps), options.batch_size, workers)
        self.state = TrainingState(segmenter, make_optimizer("adamw", segmenter, options.lr))

    def step(self) -> tuple[float, float]:
        """The seconds for which a step waits for its batch, and those in which it learns from it."""
        return seconds_of(self.fetch, self.device), seconds_of(self.learn, self.device)

    def fetch(self) -> None:
        self.batch = next(self.batches)

    def learn(self) -> None:
        train_step(self.state, self.step_of, to_device(self.batch, self.device), self.options, self.device)


def find_fastest_threads(run: Callable[[], object], rounds: int) -> int:
    """Of torch's threads on a CPU, all, half of them and so on, the number with which a call takes least time by the clock."""
    most = torch.get_num_threads()
    counts = [most >> halves for halves in range(most.bit_length())]
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    try:
        for _ in range(rounds if most > 1 else 0):
            for threads in counts:
                torch.set_num_threads(threads)
                start = time.perf_counter()
                run()
                seconds[threads].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(most)
    return min(counts, key=lambda threads: min(seconds[threads], default=0.0))
