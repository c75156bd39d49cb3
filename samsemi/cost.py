"""What a network costs: parameters, floating point operations and time of one image; the small net beside the SAMs."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from samsemi.sam.original import OriginalNetwork, build_network
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import SamBackend, load_sam
from samsemi.sam.table import NETWORKS, SAMS, SamEntry
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, predict

REPEATS = 5


def compare_cost(segmenter: Segmenter) -> dict[str, dict[str, float | int | None]]:
    """{network: {parameters, gflops, ms_per_image}} of a model and of each SAM with one box.

    A multiplication and an addition are two operations. Times are of single images on the model's device; those of the
    SAMs that are not in the package are None.
    """
    device = segmenter.mean.device
    image = np.zeros((segmenter.spec.size, segmenter.spec.size, 3), dtype=np.uint8)
    found: dict[str, dict[str, float | int | None]] = {
        "model": {**count_model(segmenter.spec), "ms_per_image": milliseconds(lambda: predict(segmenter, image))}
    }
    tiny = load_sam("tiny", None, device)
    for entry in different_networks():
        timed = milliseconds(lambda: decode_one(tiny, image)) if entry.name == "tiny" else None
        found[entry.name] = {**count_sam(entry), "ms_per_image": timed}
    return found


def count_model(spec: ModelSpec) -> dict[str, float | int]:
    with torch.device("meta"):
        network = Segmenter(spec).eval()
        images = torch.empty(1, 3, spec.size, spec.size)
    return count(network, lambda: network(images))


def different_networks() -> list[SamEntry]:
    """The SAMs that are networks, each architecture once."""
    entries = [SAMS[name] for name in NETWORKS]
    first = {entry.architecture: entry for entry in reversed(entries)}
    return [entry for entry in entries if first[entry.architecture] is entry]


def count_sam(entry: SamEntry) -> dict[str, float | int]:
    """Encoder and decoder for one image and one box, counted without computing anything."""
    with torch.device("meta"):
        sam = build_network(entry)
        network = OriginalNetwork(sam).eval()
        side = sam.image_encoder.img_size
        image, box = torch.empty(1, 3, side, side), torch.empty(1, 4)
    return count(network, lambda: network.decode(network.encode(image), *network.embed_prompts(None, box, None)))


def count(network: nn.Module, run: Callable[[], object]) -> dict[str, float | int]:
    network.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        run()
    return {"parameters": sum(p.numel() for p in network.parameters()), "gflops": counter.get_total_flops() / 1e9}


def decode_one(sam: SamBackend, image: np.ndarray) -> None:
    """One image with one box in its middle half."""
    height, width = image.shape[:2]
    box = np.array([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]], dtype=np.float32)
    sam.decode(sam.encode([image]), [Prompts(boxes=box)])[0].predicted_iou.cpu()


def milliseconds(run: Callable[[], object]) -> float:
    """Median time of a call, after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
