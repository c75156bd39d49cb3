"""What a network costs: parameters, floating point operations and time of one image; the small network, and the SAMs."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from samsemi.options.sams import NETWORKS, SAMS, SamEntry
from samsemi.sam.original import OriginalNetwork, build_network
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, predict_image

REPEATS = 5


Cost = dict[str, float | int]
"""parameters, gflops (a multiplication and an addition are two operations), ms_per_image where it was measured."""


def measure_model(segmenter: Segmenter) -> Cost:
    """Of one image at the network's size, on the model's device."""
    image = np.zeros((segmenter.spec.size, segmenter.spec.size, 3), dtype=np.uint8)
    return {**count_model(segmenter.spec), "ms_per_image": milliseconds(lambda: predict_image(segmenter, image))}


def count_sams() -> dict[str, Cost]:
    """Of one image with one box, for each SAM; without times, since but for one their weights are not in the package."""
    return {entry.name: count_sam(entry) for entry in different_networks()}


def count_model(spec: ModelSpec) -> Cost:
    with torch.device("meta"):
        network = Segmenter(spec).eval()
        images = torch.empty(1, 3, spec.size, spec.size)
    return count(network, lambda: network(images))


def different_networks() -> list[SamEntry]:
    """The SAMs that are networks, each architecture once."""
    entries = [SAMS[name] for name in NETWORKS]
    first = {entry.architecture: entry for entry in reversed(entries)}
    return [entry for entry in entries if first[entry.architecture] is entry]


def count_sam(entry: SamEntry) -> Cost:
    """Encoder and decoder for one image and one box, counted without computing anything."""
    with torch.device("meta"):
        sam = build_network(entry)
        network = OriginalNetwork(sam).eval()
        side = sam.image_encoder.img_size
        image, box = torch.empty(1, 3, side, side), torch.empty(1, 4)
    return count(network, lambda: network.decode(network.encode(image), *network.embed_prompts(None, box, None)))


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
