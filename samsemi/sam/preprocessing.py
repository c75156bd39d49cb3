"""How an image becomes the square input of a SAM, and what is in pixels of the image becomes pixels of the input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide
from skimage.transform import resize
from torch import Tensor

CPU = torch.device("cpu")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocessing:
    """How images become a model's square inputs."""

    resize: Callable[[np.ndarray, int], np.ndarray]
    """(H, W, 3) uint8 and the side of the input -> (H', W', 3) uint8."""
    input_size: Callable[[tuple[int, int], int], tuple[int, int]]
    """(H, W) and the side -> (H', W')."""
    normalize: Callable[[Tensor], Tensor]
    """(..., 3, H', W') floats in 0 to 255 -> as the model takes them."""

    def squares(self, images: Sequence[np.ndarray], side: int, device: torch.device = CPU) -> Tensor:
        """(H, W, 3) uint8 images of any sizes -> (B, 3, side, side) float32 on a device, padded at the right and the bottom.

        To a GPU the resized images go as bytes, and are normalized there.
        """
        batch = torch.zeros(len(images), 3, side, side, device=device)
        for square, image in zip(batch, images, strict=True):
            resized = torch.from_numpy(np.ascontiguousarray(self.resize(image, side)))
            if device.type == "cuda":
                resized = resized.pin_memory().to(device, non_blocking=True)
            x = self.normalize(resized.to(device).permute(2, 0, 1).float())
            square[:, : x.shape[1], : x.shape[2]] = x
        return batch


def resize_longest_side(image: np.ndarray, side: int) -> np.ndarray:
    """SAM: the longest side to ``side``; padding comes after normalization."""
    resized: np.ndarray = ResizeLongestSide(side).apply_image(image)
    return resized


def normalize_colors(image: Tensor) -> Tensor:
    """Of ImageNet: mean 0, deviation 1 in each channel."""
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (image - mean).div_(std)  # in place: a CPU has one map less to fetch


def longest_side_size(image_size: tuple[int, int], side: int) -> tuple[int, int]:
    return ResizeLongestSide.get_preprocess_shape(*image_size, side)


def resize_square(image: np.ndarray, side: int) -> np.ndarray:
    """MedSAM: to a square without keeping the aspect ratio. Source: MedSAM_Inference.py of bowang-lab/MedSAM."""
    resized: np.ndarray = resize(image, (side, side), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    return resized


def normalize_range(image: Tensor) -> Tensor:
    """MedSAM: from the least and the greatest value of each image to [0, 1]. Source: MedSAM_Inference.py of bowang-lab/MedSAM."""
    low, high = (bound(image, dim=(-3, -2, -1), keepdim=True) for bound in (torch.amin, torch.amax))
    return (image - low) / (high - low).clamp(min=1e-8)


def square_size(image_size: tuple[int, int], side: int) -> tuple[int, int]:
    return side, side


LONGEST_SIDE = Preprocessing(resize_longest_side, longest_side_size, normalize_colors)
"""SAM's."""
SQUARE = Preprocessing(resize_square, square_size, normalize_range)
"""MedSAM's."""


def place_masks(mask_logits: Tensor, input_size: tuple[int, int], side: int, mask_size: int) -> Tensor:
    """(N, S, S) logits over an image -> (N, 1, mask_size, mask_size) over SAM's padded input, nothing in the padding."""
    height, width = (max(1, round(extent * mask_size / side)) for extent in input_size)
    masks = F.interpolate(mask_logits[:, None], (height, width), mode="bilinear", antialias=True)
    lowest = float(mask_logits.min()) if mask_logits.numel() else 0.0
    return F.pad(masks, (0, mask_size - width, 0, mask_size - height), value=min(lowest, 0.0))


def scale_coords(coords: np.ndarray, image_size: tuple[int, int], input_size: tuple[int, int]) -> np.ndarray:
    """(..., 2) x y in image pixels -> in input pixels."""
    factors = np.array([input_size[1] / image_size[1], input_size[0] / image_size[0]], dtype=np.float64)
    return (coords * factors).astype(np.float32)
