"""What a network costs: parameters, floating point operations and time of one image; the small network, and the SAMs."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from samsemi.sam.tiny import build_tiny
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, predict

REPEATS = 5
SAMS: dict[str, Callable[[], Sam]] = {"tiny": build_tiny, **{name: sam_model_registry[name] for name in ("vit_b", "vit_l", "vit_h")}}


Cost = dict[str, float | int]
"""parameters, gflops (a multiplication and an addition are two operations), ms_per_image where it was measured."""


def measure_model(segmenter: Segmenter) -> Cost:
    """Of one image at the network's size, on the model's device."""
    image = np.zeros((segmenter.spec.size, segmenter.spec.size, 3), dtype=np.uint8)
    return {**count_model(segmenter.spec), "ms_per_image": milliseconds(lambda: predict(segmenter, image))}


def count_sams() -> dict[str, Cost]:
    """Of one image with one box, for each SAM; without times, since but for one their weights are not in the package."""
    return {name: count_sam(build) for name, build in SAMS.items()}


def count_model(spec: ModelSpec) -> Cost:
    with torch.device("meta"):
        network = Segmenter(spec).eval()
        images = torch.empty(1, 3, spec.size, spec.size)
    return count(network, lambda: network(images))


def count_sam(build: Callable[[], Sam]) -> Cost:
    """Encoder and decoder for one image and one box, counted without computing anything."""
    with torch.device("meta"):
        sam = build().eval()
        side = sam.image_encoder.img_size
        image, box = torch.empty(1, 3, side, side), torch.empty(1, 4)

    def run() -> None:
        features = sam.image_encoder(image)
        sparse, dense = sam.prompt_encoder(points=None, boxes=box, masks=None)
        sam.mask_decoder(features, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True)

    return count(sam, run)


def count(network: nn.Module, run: Callable[[], object]) -> Cost:
    network.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        run()
    return {"parameters": sum(p.numel() for p in network.parameters()), "gflops": counter.get_total_flops() / 1e9}


def milliseconds(run: Callable[[], object]) -> float:
    """Median time of a call, after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
