"""``samsemi bench``: how fast this machine is, SAM by SAM, against the plain SamPredictor loop; and how fast it trains."""

import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from samsemi import console
from samsemi.devices import choose_device, choose_precision, has_bf16, peak_memory
from samsemi.losses import segmentation_loss
from samsemi.options.bench import BenchOptions
from samsemi.options.sams import SAMS
from samsemi.options.shared import parse_channels
from samsemi.options.warmstart import WarmstartOptions
from samsemi.sam.original import OriginalSam, load_original, untrained
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, new_segmenter
from samsemi.speed import (
    COMPILING,
    Bench,
    Training,
    draw_cases,
    draw_scenes,
    encoder_flops,
    find_fastest_threads,
    interleave,
    make_product,
    measure_compiling,
    median_ratio,
    run_encoder,
    run_loop,
)
from samsemi.training.batches import Sample

CLASSES = ("background", "object")
TRAINING = ("train_images_per_second", "data_wait_share", "fastest_threads")
GPU_STEPS = 32
"""Of a training in each round on a GPU, so that what its processes have loaded ahead at first does not count."""


def bench(options: BenchOptions) -> dict[str, object]:
    """The figures of each SAM by its name."""
    device = choose_device(options.device)
    precision = choose_precision(device, options.precision)
    precisions = [precision, *(other for other in ("fp32", "bf16") if other != precision and (other == "fp32" or has_bf16(device)))]
    batch_size = min(options.batch_size, 2) if device.type == "cpu" else options.batch_size  # a CPU needs seconds for a step
    training = WarmstartOptions(dataset=Path("-"), out=Path("-"), precision=options.precision, batch_size=batch_size)
    spec = ModelSpec(training.encoder, parse_channels(training.decoder_channels), CLASSES, training.size)
    segmenter = new_segmenter(spec, seed=0).to(device)
    speed = measure_training(segmenter, training, options.rounds, device) if options.train else dict.fromkeys(TRAINING)
    return {name: {**measure_sam(name, segmenter, precisions, options, device), **speed} for name in options.sam}


def measure_sam(name: str, segmenter: Segmenter, precisions: list[str], options: BenchOptions, device: torch.device) -> dict[str, object]:
    """The figures of a SAM; of the ``precisions`` the first is its own, the others stand beside it."""
    own, sam = precisions[0], make_sam(name, device, precisions[0])
    scenes = draw_scenes(options.images, options.image_size, options.objects, sam.mask_size)
    objects = sum(map(len, scenes.found.values()))
    product, product_flops = make_product(device, own)
    with tempfile.TemporaryDirectory(prefix="samsemi-") as folder:
        made = Bench(sam, segmenter.eval(), scenes, options.batch_size, Path(folder))
        inputs = made.inputs()
        runs: dict[str, Callable[[], object]] = {
            "loop": lambda: run_loop(made.plain, scenes),
            **{p: partial(made.mine, p) for p in precisions},
            "cold": made.mine_cold,
            "cached": lambda: made.mine_cached(made.warm),
            "encode": lambda: run_encoder(sam, inputs),
            "product": product,
            "decode": made.decode_alone,
            "write": made.write,
            "read": made.read,
        }
        with console.progress(f"bench {name}", (1 + options.rounds) * len(runs), "runs") as advance:
            times = interleave(runs, options.rounds, device, advance)
        masks = run_loop(made.plain, scenes)
        ious = {p: made.mean_iou(p, masks) for p in precisions}
        compiling = measure_compiling(sam, inputs, options.rounds) if device.type == "cuda" else dict.fromkeys(COMPILING)
    middle = {run: statistics.median(seconds) for run, seconds in times.items()}
    encoder = [encoder_flops(name) * len(inputs) / seconds for seconds in times["encode"]]
    peak = [product_flops / seconds for seconds in times["product"]]
    return {
        **describe_run(options, sam, device),
        "objects": objects,
        "loop_images_per_second": options.images / middle["loop"],
        "mine_images_per_second": options.images / middle[own],
        "mine_over_loop": median_ratio(times["loop"], times[own]),
        "mean_iou": ious[own],
        **{f"{p}_over_loop": median_ratio(times["loop"], times[p]) for p in precisions},
        **{f"{p}_mean_iou": ious[p] for p in precisions},
        "cached_over_mine": median_ratio(times["cold"], times["cached"]),
        "encoder_tflops": statistics.median(encoder) / 1e12,
        "matmul_tflops": statistics.median(peak) / 1e12,
        "encoder_utilisation": median_ratio(encoder, peak),
        **compiling,
        "decoder_objects_per_second": objects / middle["decode"],
        "store_write_images_per_second": options.images / middle["write"],
        "store_read_ms": 1000 * middle["read"] / options.images,
        "peak_memory_mb": peak_memory(device) / 1e6,
    }


def describe_run(options: BenchOptions, sam: OriginalSam, device: torch.device) -> dict[str, object]:
    """What is measured, and where."""
    return {
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "precision": sam.precision,
        "weights": sam.identity,
        "images": options.images,
        "image_size": options.image_size,
    }


def make_sam(name: str, device: torch.device, precision: str) -> OriginalSam:
    """With its weights where they are in the package, else with random ones, always the same."""
    if SAMS[name].weights:
        return load_original(SAMS[name], None, device, precision)
    torch.manual_seed(0)
    return untrained(name, device, precision)


def describe_device(device: torch.device) -> str:
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def measure_training(segmenter: Segmenter, options: WarmstartOptions, rounds: int, device: torch.device) -> dict[str, object]:
    """Of optimizer steps from files on, as of ``warmstart``: images per second, the share of the time for which the step waits for
    its batch, and on a CPU with how many threads it is fastest."""
    steps = 1 + rounds * (GPU_STEPS if device.type == "cuda" else 1)
    with tempfile.TemporaryDirectory(prefix="samsemi-") as folder, console.progress("bench training", steps, "steps") as advance:
        training = Training(segmenter, supervised_loss, draw_cases(Path(folder), options.batch_size, options.size), options, steps)
        times = []
        for _ in range(steps):
            times.append(training.step())
            advance()
    waited, learnt = zip(*times[1:], strict=True)
    return {
        "train_images_per_second": options.batch_size / statistics.median(map(sum, times[1:])),
        "data_wait_share": sum(waited) / (sum(waited) + sum(learnt)),
        "fastest_threads": find_fastest_threads(training.learn, rounds) if device.type == "cpu" else None,
    }


def supervised_loss(model: torch.nn.Module, batch: Sample, progress: float) -> Mapping[str, Any]:
    return {"supervised": segmentation_loss(model(batch.image), batch.target, batch.weight)}


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """A row per figure, a column per SAM."""
    names = list(next(iter(result.values())))
    rows = [[name.replace("_", " "), *(show(figures[name]) for figures in result.values())] for name in names]
    return [console.Table("figures of each SAM", ["", *result], rows, keys=tuple(result))]


def show(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)[:16]
