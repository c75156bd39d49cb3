"""The small network, a U-Net++ or two co-trained peers: it owns its normalization; and prediction at image size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from samsemi.data.about import MOST_CLASSES
from samsemi.errors import CheckpointError, UsageError
from samsemi.segmenters.fusion import CoTrained
from samsemi.segmenters.networks import build_network
from samsemi.tensors import first_line

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LEAST_SIZE, MOST_SIZE = 16, 2048
DECODER_STAGES, MOST_CHANNELS = 5, 2048
MIRRORED = ((), (3,), (2,), (2, 3))
"""Axes of an image (B, C, H, W) that are mirrored in each of the four views of test-time augmentation."""


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to rebuild a network, its weights aside: a U-Net++, or two peers and what joins their predictions."""

    encoder: str
    """Of the U-Net++; empty where there are peers."""
    decoder_channels: tuple[int, ...]
    classes: tuple[str, ...]
    size: int
    """Side in pixels of the square that the network sees."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    peers: tuple[str, ...] = ()
    """Names of two co-trained networks, see samsemi.segmenters.networks."""
    fusion: bool = True
    """Whether a fusion head joins the peers, or the mean of their probabilities."""

    def __post_init__(self) -> None:
        """UsageError for what no network can be."""
        problem = find_problem(self)
        if problem:
            raise UsageError(f"a network of {problem}", "give another")


def find_problem(spec: ModelSpec) -> str | None:
    """What of a spec no network can have; None where there is nothing."""
    channels, statistics = spec.decoder_channels, (*spec.mean, *spec.std)
    problems = {
        f"encoder '{spec.encoder:.60}' and {len(spec.peers)} peers": len(spec.peers) != (0 if spec.encoder else 2),
        f"size {spec.size}": spec.size not in range(LEAST_SIZE, MOST_SIZE + 1),
        f"decoder channels {str(channels):.60}": len(channels) != DECODER_STAGES or not all(0 < n <= MOST_CHANNELS for n in channels),
        f"{len(spec.classes)} classes": not 1 < len(spec.classes) <= MOST_CLASSES or len(set(spec.classes)) < len(spec.classes),
        f"mean and std {str(statistics):.60}": not len(spec.mean) == len(spec.std) == 3 or not all(0 < value < 1e6 for value in spec.std),
    }
    return next((text for text, wrong in problems.items() if wrong), None)


class SegmentationNetwork(Protocol):
    """(B, 3, size, size) float images in [0, 1] -> (B, K, size, size) logits: what prediction and validation need."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def device(self) -> torch.device: ...

    def __call__(self, images: Tensor) -> Tensor: ...


class Segmenter(nn.Module):
    """A SegmentationNetwork by its spec, which normalizes the images."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, encoder_weights: str | None = None):
        super().__init__()
        self.spec = spec
        self.network = build(spec, encoder_weights).to(memory_format=torch.channels_last)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.forward = partial(exactly_on_cpu, module.forward)  # type: ignore[method-assign]
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images))

    def normalize(self, images: Tensor) -> Tensor:
        """As the network takes them."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def exactly_on_cpu(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A depthwise convolution; on a CPU in fp32, since torch's bf16 gradient of one is up to 20 times slower there (torch 2.15)."""
    if x.device.type != "cpu":
        return forward(x)
    with torch.autocast("cpu", enabled=False):
        return forward(x.float())


def build(spec: ModelSpec, encoder_weights: str | None) -> nn.Module:
    """The network of a spec; UsageError for one that does not exist."""
    if not spec.peers:
        given = f"--encoder {spec.encoder}"
        return build_network(f"unetplusplus:{spec.encoder}", len(spec.classes), spec.decoder_channels, encoder_weights, given)
    first, second = (build_network(name, len(spec.classes), spec.decoder_channels, encoder_weights) for name in spec.peers)
    return CoTrained(first, second, len(spec.classes), spec.fusion)


def new_segmenter(spec: ModelSpec, seed: int, encoder_weights: str | None = None) -> Segmenter:
    """A network to train: random weights by ``seed``, or 'imagenet', a download; CheckpointError where that fails, UsageError for a size
    that it cannot have."""
    torch.manual_seed(seed)
    try:
        segmenter = Segmenter(spec, encoder_weights)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the ImageNet weights of {spec.encoder or ','.join(spec.peers)} cannot be loaded ({error})",
            "give --encoder-weights none; `samsemi warmstart` also takes a FILE of weights fetched elsewhere",
        ) from None
    try:
        with torch.no_grad():
            segmenter.eval()(torch.zeros(1, 3, spec.size, spec.size))
    except (AssertionError, RuntimeError, ValueError) as error:
        name = spec.encoder or ",".join(spec.peers)
        raise UsageError(f"{name} cannot see images of {spec.size} px ({first_line(error)})", "give another --size, or network") from None
    return segmenter.train()


def check_size(segmenter: Segmenter) -> None:
    """RuntimeError for a size that its networks cannot have; computes nothing."""
    square = torch.empty(1, 3, segmenter.spec.size, segmenter.spec.size, device="meta")
    for network in segmenter.modules():
        check: Any = getattr(network, "check_input_shape", None)
        if check:
            check(square)


def to_input(image: np.ndarray, size: int) -> Tensor:
    """(H, W, 3) uint8 -> (3, size, size) uint8; the aspect ratio is not kept."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    return TF.resize(tensor, [size, size], antialias=True)


@torch.inference_mode()
def predict_batch(segmenter: SegmentationNetwork, images: Sequence[np.ndarray], flips: bool = False) -> list[np.ndarray]:
    """(H, W, 3) uint8 images of any sizes -> (K, H, W) float32 probability maps at the size of each, summing to 1.

    With ``flips``, test-time augmentation: each is the mean over the image's four mirrored views, which the network sees as one batch.
    """
    inputs = torch.stack([to_input(image, segmenter.spec.size) for image in images]).to(segmenter.device).float() / 255
    mirrored = MIRRORED if flips else MIRRORED[:1]
    views = segmenter(torch.cat([inputs.flip(axes) for axes in mirrored])).float().softmax(dim=1).split(len(inputs))
    probs = torch.stack([view.flip(axes) for view, axes in zip(views, mirrored, strict=True)]).mean(dim=0)
    if not probs.sum().isfinite():
        raise CheckpointError("the model predicts NaN: its weights are damaged, or it was trained with too large steps", "train it again")
    return [F.interpolate(p[None], image.shape[:2], mode="bilinear")[0].cpu().numpy() for p, image in zip(probs, images, strict=True)]


def predict_image(segmenter: SegmentationNetwork, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 image -> (K, H, W) float32 probabilities at its size, summing to 1."""
    return predict_batch(segmenter, [image])[0]


def to_label(probs: np.ndarray) -> np.ndarray:
    """(K, H, W) probabilities -> (H, W) uint8 class map."""
    return probs.argmax(axis=0).astype(np.uint8)
