"""What a network costs: parameters, floating point operations and time of one image; the small net beside the SAMs."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import SamBackend, load_sam
from samsemi.sam.tiny import build_tiny
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, predict

REPEATS = 5
SAMS: dict[str, Callable[[], Sam]] = {"tiny": build_tiny, **{name: sam_model_registry[name] for name in ("vit_b", "vit_l", "vit_h")}}


def compare_cost(segmenter: Segmenter) -> dict[str, dict[str, float | int | None]]:
    """{network: {parameters, gflops, ms_per_image}} of a model and of each SAM with one box.

    A multiplication and an addition are two operations. Times are of single images on the model's device; those of the
    SAMs that are not in the package are None.
    """
    device = segmenter.mean.device
    image = np.zeros((segmenter.spec.size, segmenter.spec.size, 3), dtype=np.uint8)
    found = {"model": {**count_model(segmenter.spec), "ms_per_image": milliseconds(lambda: predict(segmenter, image))}}
    tiny = load_sam("tiny", None, device)
    for name, build in SAMS.items():
        found[name] = {**count_sam(build), "ms_per_image": milliseconds(lambda: ask(tiny, image)) if name == "tiny" else None}
    return found


def count_model(spec: ModelSpec) -> dict[str, float | int]:
    with torch.device("meta"):
        network = Segmenter(spec).eval()
        images = torch.empty(1, 3, spec.size, spec.size)
    return count(network, lambda: network(images))


def count_sam(build: Callable[[], Sam]) -> dict[str, float | int]:
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


def count(network: nn.Module, run: Callable[[], object]) -> dict[str, float | int]:
    network.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        run()
    return {"parameters": sum(p.numel() for p in network.parameters()), "gflops": counter.get_total_flops() / 1e9}


def ask(sam: SamBackend, image: np.ndarray) -> None:
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
