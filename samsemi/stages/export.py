"""``samsemi export``: a network as an ONNX file, compared with the network before it is kept."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from samsemi import console
from samsemi.data.dataset import read_case_image, read_dataset
from samsemi.errors import CheckpointError
from samsemi.inspection.exported import SCHEMA, is_exported
from samsemi.inspection.licenses import find_licenses
from samsemi.inspection.runs import describe_run
from samsemi.options.config import input_paths
from samsemi.options.export import ExportOptions
from samsemi.outputs import locked_output, refuse_taken, try_file, whole_file
from samsemi.segmenters.checkpoints import load_model, read_model_card
from samsemi.segmenters.exported import IMAGE, PROBS, OnnxNetwork, write_onnx
from samsemi.segmenters.segmenter import SegmentationNetwork, Segmenter, predict_batch
from samsemi.tensors import hash_tensors

BATCH = 4
"""Images that are compared at once, after a first one that is alone: a file for one size of a batch would fail."""
TOLERANCE = 1e-3
"""In probability. Both compute in fp32, in another order."""
MOST = 1e-4
"""Share of the pixels that may differ by more: the fusion head asks whether a probability is above a half, where the last bit decides."""

Read = Callable[[], np.ndarray]


@dataclass
class Difference:
    """How an exported file differs from its network, over all images at their own sizes."""

    largest: float = 0.0
    """Between two probabilities."""
    pixels: int = 0
    other_class: int = 0
    """Pixels whose class differs."""
    beyond: int = 0
    """Pixels of which a probability differs by more than TOLERANCE, or is none."""

    def add(self, probs: np.ndarray, exported: np.ndarray) -> None:
        """(K, H, W) of both."""
        apart = np.abs(probs - exported).max(axis=0)
        self.largest = max(self.largest, float(apart.max()))
        self.pixels += apart.size
        self.other_class += int((probs.argmax(axis=0) != exported.argmax(axis=0)).sum())
        self.beyond += int((~(apart <= TOLERANCE)).sum())


def export(options: ExportOptions) -> dict[str, object]:
    """Write the file; CheckpointError, and no file, where its probabilities are not those of the network."""
    with locked_output(options.out, options.break_lock):
        refuse_taken(options.out, "a network that samsemi has exported", is_exported, options.overwrite, input_paths(options))
        try_file(options.out)
        segmenter = load_model(options.model)
        images = list_images(options, segmenter.spec.size)
        console.note("exporting; this takes torch some twenty seconds, of large networks minutes")
        with whole_file(options.out) as part:
            write_onnx(part, segmenter, version("samsemi"), describe(options.model, segmenter))
            found = compare(segmenter, OnnxNetwork(part, segmenter.spec), images)
            if found.beyond > MOST * found.pixels:
                raise CheckpointError(
                    f"{options.out} is not kept: of {found.pixels:,} pixels {found.beyond:,} have another probability than the network "
                    f"gives, by up to {found.largest:.3g}",
                    "try another version of onnxruntime or torch, and report it with the output of `samsemi info`",
                )
    return {
        "onnx": str(options.out),
        "classes": list(segmenter.spec.classes),
        "size": segmenter.spec.size,
        "compared_on": str(options.dataset or "drawn images"),
        "images": len(images),
        "largest_difference": found.largest,
        "other_class_pixel_share": found.other_class / found.pixels,
        "bytes": options.out.stat().st_size,
    }


def describe(run: Path, segmenter: Segmenter) -> dict[str, str]:
    """What whoever gets the file has to know, without any path on this machine."""
    card, spec = read_model_card(run), segmenter.spec
    resized = f"the whole image resized to {spec.size} x {spec.size} pixels, bilinear with antialiasing, without keeping the aspect ratio"
    back = "resized to the image, bilinear; the class of a pixel is the one with the highest probability"
    return {
        "schema": SCHEMA,
        "samsemi": version("samsemi"),
        "input": f"{IMAGE}: float32 (batch, 3, {spec.size}, {spec.size}), RGB from 0 to 255; {resized}",
        "output": f"{PROBS}: float32 (batch, {len(spec.classes)}, {spec.size}, {spec.size}), a probability for each class; {back}",
        "size": str(spec.size),
        "classes": json.dumps(spec.classes),
        "weights": hash_tensors(segmenter.state_dict()),
        "scores": json.dumps(dict(card.scores)),
        "made_from": json.dumps(dict(card.made_from)),
        "licenses": json.dumps(find_licenses(describe_run(run))),
    }


def list_images(options: ExportOptions, size: int) -> list[Read]:
    """Images of the data set, from its first case to its last; or drawn ones."""
    if options.dataset is None:
        return [partial(draw_image, seed, size) for seed in range(options.images)]
    cases = [*read_dataset(options.dataset).cases.values()]
    chosen = np.unique(np.linspace(0, len(cases) - 1, options.images).round().astype(int))
    return [partial(read_case_image, cases[i]) for i in chosen]


def draw_image(seed: int, size: int) -> np.ndarray:
    """(H, W, 3) uint8: soft spots and grain, of another size than the network sees."""
    rng = np.random.default_rng(seed)
    shape = (size + 16 + seed, size + 32 - seed, 3)
    spots = gaussian_filter(rng.standard_normal(shape), (size / 16, size / 16, 0))
    values = 128 + 50 * spots / spots.std() + 8 * rng.standard_normal(shape)
    return values.clip(0, 255).astype(np.uint8)


def compare(segmenter: SegmentationNetwork, exported: SegmentationNetwork, images: Sequence[Read]) -> Difference:
    """Predict images with both, as `samsemi predict` does."""
    found = Difference()
    with console.progress("compare", len(images)) as advance:
        for batch in batches(images):
            pixels = [read() for read in batch]
            for maps in zip(predict_batch(segmenter, pixels), predict_batch(exported, pixels), strict=True):
                found.add(*maps)
            advance(len(batch))
    return found


def batches(images: Sequence[Read]) -> Iterator[Sequence[Read]]:
    """The first image alone, then as many as fit."""
    yield images[:1]
    for first in range(1, len(images), BATCH):
        yield images[first : first + BATCH]
