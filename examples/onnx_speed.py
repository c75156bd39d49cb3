"""How alike a network and its exported file segment images of a data set, and how fast, on one thread.

    python examples/onnx_speed.py RUN model.onnx DATASET IMAGES

Both see the same images, from the first case to the last, one at a time and in turns. Times are of this process on the CPU, which other
processes do not lengthen as they do the clock's: the network alone, from an image of its own size to probabilities.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from onnx_predict import segment
from PIL import Image
from torch import Tensor

from samsemi.data.dataset import read_case_image, read_dataset
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.exported import OnnxNetwork
from samsemi.segmenters.segmenter import predict_image, to_input, to_label


def cpu_ms(run: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Milliseconds of the CPU, of all threads of this process."""
    start = time.process_time()
    run(image)
    return 1000 * (time.process_time() - start)


@torch.inference_mode()
def compare(run: Path, file: Path, dataset: Path, count: int) -> str:
    segmenter = load_model(run)
    exported = OnnxNetwork(file, segmenter.spec)
    networks = {"torch": lambda image: segmenter(image).softmax(dim=1), "onnxruntime": exported}
    cases = [*read_dataset(dataset).cases.values()]
    images = [read_case_image(case) for case in cases[:: max(1, len(cases) // count)]]
    masks = [to_label(predict_image(segmenter, image)) for image in images]
    of_file = [np.mean(mask != to_label(predict_image(exported, image))) for mask, image in zip(masks, images, strict=True)]
    of_script = [np.mean(mask != segment(exported.session, Image.fromarray(image))) for mask, image in zip(masks, images, strict=True)]
    inputs = [to_input(image, segmenter.spec.size)[None].float() / 255 for image in images]
    for network in networks.values():
        network(inputs[0])
    times = {name: [] for name in networks}
    for image in inputs:
        for name, network in networks.items():
            times[name].append(cpu_ms(network, image))
    medians = ", ".join(f"{name} {statistics.median(found):.1f} ms" for name, found in times.items())
    return f"{len(images)} images; onnxruntime: {describe(of_file)}; onnx_predict.py: {describe(of_script)}; {medians}"


def describe(shares: list[float]) -> str:
    """Of the shares of pixels whose class differs, of each image."""
    return f"{shares.count(0)} masks equal, pixels of another class {np.mean(shares):.2g}, at most {max(shares):.2g}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(compare(*map(Path, sys.argv[1:4]), int(sys.argv[4])))
