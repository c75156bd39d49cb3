"""Train the tiny SAM on procedural scenes, on a CPU: `python examples/tiny_sam/train.py --out DIR --minutes 90 [--resume]`.

Scenes are drawn once into a cache (`--cache`), then cropped, turned and recolored anew at every use. An image is encoded once and four
prompts are decoded on it: a tight or jittered box (two), points, and a box with points; at times a correction round follows, with a point
from the error and the low-res logits before it. `--evaluate FOLDER ...` measures an exported file on folders of `images/` and `masks/`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from scenes import MAX_OBJECTS, draw_scene, pack_masks
from scipy import ndimage
from segment_anything import SamPredictor

from samsemi.sam.tiny import build_tiny

SIDE = 128  # px, of scenes and of the network's input
LOW_RES = 64
CHUNK = 500  # scenes a worker draws at a time
MIN_AREA_PX = 40


@dataclass(frozen=True)
class Recipe:
    """Numbers of the training."""

    seed: int = 20261121
    scenes: int = 26000
    batch: int = 16  # images
    muon_rate: float = 2e-3
    adam_rate: float = 4e-4
    weight_decay: float = 0.05
    warm_up: int = 300  # iterations
    ema: float = 0.999
    clip: float = 1.0
    map_weight: float = 0.7  # of the extra loss on borders and union of all objects
    correction: float = 0.25  # share of iterations with a correction round
    rough_mask: float = 0.1  # share of box-and-point prompts that come with a rough mask
    checkpoint_s: float = 240.0
    log_every: int = 25


# --- scenes -----------------------------------------------------------------------------------------------------------------------------


def cache_paths(folder: Path) -> tuple[Path, Path]:
    """Images (N, SIDE, SIDE, 3) uint8 and packed masks (N, SIDE, SIDE) uint8."""
    return folder / "scene_images.npy", folder / "scene_masks.npy"


def draw_chunk(folder: Path, seed: int, start: int, stop: int) -> None:
    """Draw the scenes start..stop into the cache; a scene depends on the seed and its number only."""
    images, masks = (np.load(p, mmap_mode="r+") for p in cache_paths(folder))
    for i in range(start, stop):
        image, truth = draw_scene(np.random.default_rng([seed, i]), SIDE)
        images[i], masks[i] = image, pack_masks(truth)


def draw_cache(folder: Path, count: int, seed: int, workers: int) -> None:
    """Draw the cache of count scenes with worker processes."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, shape in zip(cache_paths(folder), ((count, SIDE, SIDE, 3), (count, SIDE, SIDE)), strict=True):
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(draw_chunk, folder, seed, s, min(s + CHUNK, count)) for s in range(0, count, CHUNK)]
        for job in jobs:
            job.result()


# --- batches ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Images (B, 3, SIDE, SIDE), normalized; truth (B, P, SIDE, SIDE) float in 0..1 of P objects for each; maps (B, 2, 64, 64) in 0..1:
    borders of all objects, and where any object is."""

    images: torch.Tensor
    truth: torch.Tensor
    maps: torch.Tensor


def random_affine(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Sampling matrices (count, 2, 3): quarter turns and mirrors, at times any angle, zoom 0.6 to 1.5 and a shift."""
    angle = rng.integers(0, 4, count) * np.pi / 2 + np.where(rng.random(count) < 0.4, rng.uniform(-0.8, 0.8, count), 0)
    zoom = np.where(rng.random(count) < 0.7, np.exp(rng.uniform(np.log(0.55), np.log(1.3), count)), 1.0)
    stretch = np.exp(np.where(rng.random(count) < 0.4, rng.normal(size=count) * 0.15, 0))
    mirror = rng.choice([-1, 1], count)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.stack([np.stack([c * zoom * stretch * mirror, -s * zoom], 1), np.stack([s * zoom * mirror * stretch, c * zoom], 1)], 1)
    room = np.abs(1 - zoom)[:, None]
    shift = rng.uniform(-1, 1, (count, 2)) * room
    return torch.from_numpy(np.concatenate([matrix, shift[:, :, None]], 2)).float()


def recolor(rng: np.random.Generator, images: torch.Tensor) -> torch.Tensor:
    """Change gain, offset, gamma, saturation, channel order and noise of images (B, 3, H, W) in 0..1, each on its own."""
    n = len(images)

    def column(values, shape=(n, 1, 1, 1)):
        return torch.from_numpy(np.asarray(values, np.float32)).reshape(shape)

    out = images.clamp(0, 1) ** column(np.exp(rng.normal(size=n) * 0.2))
    swap = rng.random(n) < 0.15
    for i in np.flatnonzero(swap):
        out[i] = out[i][torch.from_numpy(rng.permutation(3))]
    invert = column(rng.random(n) < 0.06)
    out = out * (1 - invert) + (1 - out) * invert
    gray = out.mean(1, keepdim=True)
    out = gray + (out - gray) * column(np.where(rng.random(n) < 0.1, 0, rng.uniform(0.6, 1.4, n)))
    out = out * column(np.exp(rng.normal(size=(n, 3)) * 0.1), (n, 3, 1, 1)) * column(np.exp(rng.normal(size=n) * 0.15))
    out = out + column(rng.normal(size=n) * 0.05)
    noise = column(np.where(rng.random(n) < 0.3, rng.uniform(0, 0.06, n), 0))
    return (out + torch.randn(out.shape) * noise).clamp(0, 1)


def choose_objects(rng: np.random.Generator, areas: np.ndarray, prompts: int) -> np.ndarray:
    """Numbers (B, prompts) of objects to prompt, larger ones more often; areas (B, 8) in px, too small ones are never taken."""
    weight = np.where(areas >= MIN_AREA_PX, areas, 0) ** 0.7
    weight = weight / weight.sum(1, keepdims=True)
    return np.stack([rng.choice(len(w), prompts, p=w) for w in weight])


def make_batch(rng: np.random.Generator, images: np.ndarray, masks: np.ndarray, prompts: int, sam) -> Batch:
    """Augmented batch from scenes (B, SIDE, SIDE, 3) uint8 and their packed masks (B, SIDE, SIDE) uint8."""
    x = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
    bits = torch.from_numpy((masks[:, None] >> np.arange(MAX_OBJECTS, dtype=np.uint8)[:, None, None]) & 1).float()
    grid = F.affine_grid(random_affine(rng, len(x)), x.shape, align_corners=False)
    padding = "border" if rng.random() < 0.5 else "zeros"
    seen = F.grid_sample(x, grid, padding_mode=padding, align_corners=False)
    y = torch.cat([seen, F.grid_sample(bits, grid, align_corners=False)], 1)
    areas = (y[:, 3:] > 0.5).sum((2, 3))
    lost = (areas.max(1).values < MIN_AREA_PX)[:, None, None, None]
    y = torch.where(lost, torch.cat([x, bits], 1), y)
    areas = (y[:, 3:] > 0.5).sum((2, 3)).numpy()
    areas[areas.max(1) < MIN_AREA_PX, 0] = MIN_AREA_PX  # cannot be after clean scenes; keeps the weights finite
    chosen = torch.from_numpy(choose_objects(rng, areas, prompts))
    truth = y[:, 3:][torch.arange(len(y))[:, None], chosen]
    pixels = (recolor(rng, y[:, :3]) * 255 - sam.pixel_mean) / sam.pixel_std
    maps = object_maps(F.avg_pool2d(y[:, 3:], SIDE // LOW_RES))
    return pad_some(rng, pixels, truth, maps)


def object_maps(soft: torch.Tensor) -> torch.Tensor:
    """Borders of all objects and their union (B, 2, 64, 64), from their soft masks (B, N, 64, 64)."""
    border = F.max_pool2d(soft, 3, 1, 1) + F.max_pool2d(-soft, 3, 1, 1)
    return torch.stack([border.amax(1), soft.amax(1)], 1)


def pad_some(rng: np.random.Generator, pixels: torch.Tensor, truth: torch.Tensor, maps: torch.Tensor) -> Batch:
    """Zero a strip at the right or bottom of some images, as the padding of images that are not square."""
    for i in np.flatnonzero(rng.random(len(pixels)) < 0.12):
        keep = int(rng.uniform(0.6, 1.0) * SIDE)
        cut = (..., slice(keep, None)) if rng.random() < 0.5 else (..., slice(keep, None), slice(None))
        rest = truth[i].clone()
        rest[cut] = 0
        if (rest.sum((1, 2)) >= MIN_AREA_PX).all():
            truth[i] = rest
            pixels[i][cut] = 0
            maps[i] = F.avg_pool2d(F.interpolate(maps[i][None], SIDE).masked_fill(pixels[i : i + 1, :1] == 0, 0), SIDE // LOW_RES)[0]
    return Batch(pixels, truth, maps)


# --- prompts ----------------------------------------------------------------------------------------------------------------------------


def tight_boxes(truth: torch.Tensor) -> torch.Tensor:
    """First and last column and row of masks (N, SIDE, SIDE): boxes (N, 4) float x0, y0, x1, y1 in px."""
    inside = truth > 0.5
    cols, rows = inside.any(1).float(), inside.any(2).float()
    x0, y0 = cols.argmax(1), rows.argmax(1)
    x1, y1 = SIDE - 1 - cols.flip(1).argmax(1), SIDE - 1 - rows.flip(1).argmax(1)
    return torch.stack([x0, y0, x1, y1], 1).float()


def jitter_boxes(rng: np.random.Generator, boxes: torch.Tensor) -> torch.Tensor:
    """Move the sides by about half a pixel (a third of the boxes), by up to 15 % of the box, or at times by up to 25 %."""
    n = len(boxes)
    size = torch.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], 1).repeat(1, 2).numpy()
    share = rng.choice([0.0, 0.05, 0.1, 0.15, 0.25], (n, 1), p=[0.4, 0.15, 0.2, 0.15, 0.1])
    move = rng.uniform(-1, 1, (n, 4)) * share * size + rng.uniform(-0.6, 0.6, (n, 4))
    return (boxes + torch.from_numpy(move).float()).clamp(0, SIDE - 1)


def interior(mask: torch.Tensor) -> torch.Tensor:
    """How deep a pixel lies in masks (N, H, W): the mean of box blurs, zero outside."""
    m = mask[:, None].float()
    blurs = [F.avg_pool2d(F.avg_pool2d(m, (k, 1), 1, (k // 2, 0)), (1, k), 1, (0, k // 2)) for k in (3, 9, 17, 31)]
    return (sum(blurs) * m)[:, 0]


def pick_points(rng: np.random.Generator, region: torch.Tensor, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A point well inside each region (N, H, W) bool: point_coords (N, 2) x, y in px of SIDE, and whether there is one (N,)."""
    n, h, w = region.shape
    noise = torch.from_numpy(rng.uniform(1 - spread, 1, (n, h, w)).astype(np.float32))
    index = (interior(region) * noise).flatten(1).argmax(1)
    scale = SIDE / w
    coords = torch.stack([(index % w + 0.5) * scale - 0.5, (index // w + 0.5) * scale - 0.5], 1)
    return coords, region.flatten(1).any(1)


def point_prompts(rng: np.random.Generator, truth: torch.Tensor, boxes: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """point_coords (N, count, 2) and point_labels (N, count): the first is positive, others either; truth (N, SIDE, SIDE)."""
    inside = F.avg_pool2d(truth[:, None], SIDE // LOW_RES)[:, 0] > 0.5
    inside |= (F.avg_pool2d(truth[:, None], SIDE // LOW_RES)[:, 0] > 0.25) & ~inside.flatten(1).any(1)[:, None, None]
    axis = (torch.arange(LOW_RES) + 0.5) * SIDE / LOW_RES
    x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
    in_box = (axis >= x0 - 2) & (axis <= x1 + 2) & (axis[:, None] >= y0 - 2) & (axis[:, None] <= y1 + 2)
    coords, labels = [], []
    for k in range(count):
        positive = k == 0 or rng.random() < 0.4
        region = inside if positive else in_box & ~inside
        spot, found = pick_points(rng, region, rng.choice([0.05, 0.4, 0.9]))
        coords.append(spot)
        labels.append(torch.where(found, float(positive), -1.0))
    return torch.stack(coords, 1), torch.stack(labels, 1)


def rough_logits(rng: np.random.Generator, truth: torch.Tensor) -> torch.Tensor:
    """Mask prompts (N, 1, LOW_RES, LOW_RES) as of a weak network: truth (N, SIDE, SIDE) shifted, blurred and noisy, as logits."""
    m = F.avg_pool2d(truth[:, None], SIDE // LOW_RES)
    k = int(rng.choice([3, 5, 9]))
    m = F.avg_pool2d(torch.roll(m, tuple(rng.integers(-3, 4, 2)), (2, 3)), k, 1, k // 2)
    noise = F.interpolate(torch.randn(len(m), 1, 8, 8), size=LOW_RES, mode="bilinear") * rng.uniform(0, 0.4)
    return (m + noise - 0.5) * rng.uniform(4, 24)


@dataclass(frozen=True)
class Prompts:
    """Prompts of N objects: points (coords (N, K, 2), labels (N, K)) or None, boxes (N, 4) or None, logits (N, 1, 64, 64) or None."""

    points: tuple[torch.Tensor, torch.Tensor] | None
    boxes: torch.Tensor | None
    logits: torch.Tensor | None = None

    @property
    def ambiguous(self) -> bool:
        """Only one point: several objects may be meant."""
        return self.boxes is None and self.logits is None and self.points[0].shape[1] == 1


def draw_prompts(rng: np.random.Generator, truth: torch.Tensor, recipe: Recipe) -> list[tuple[Prompts, torch.Tensor]]:
    """The prompts of one iteration with the numbers of the objects they are for; truth (B, 4, SIDE, SIDE)."""
    b = len(truth)
    flat = truth.flatten(0, 1)
    number = torch.arange(b * 4).reshape(b, 4)
    tight = tight_boxes(flat)
    boxes = jitter_boxes(rng, tight)
    split = int(rng.integers(1, 3))  # one or two of the four with a box only, the rest of three with points only
    only_box, only_points, both = number[:, :split].flatten(), number[:, split:3].flatten(), number[:, 3]
    points = point_prompts(rng, flat[only_points], tight[only_points], int(rng.choice([1, 1, 1, 2])))
    more = point_prompts(rng, flat[both], tight[both], int(rng.choice([1, 2, 2, 3])))
    logits = rough_logits(rng, flat[both]) if rng.random() < recipe.rough_mask else None
    return [
        (Prompts(None, boxes[only_box]), only_box),
        (Prompts(points, None), only_points),
        (Prompts(more, boxes[both], logits), both),
    ]


# --- network and loss -------------------------------------------------------------------------------------------------------------------


def decode(sam, embeddings: torch.Tensor, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
    """Low-res logits (N, 4, 64, 64), the single output first, and predicted_iou (N, 4), for embeddings (N, C, h, w), one each prompt."""
    sparse, dense = sam.prompt_encoder(points=prompts.points, boxes=prompts.boxes, masks=prompts.logits)
    decoder = sam.mask_decoder
    n, c, h, w = embeddings.shape
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None].expand(n, -1, -1)
    tokens = torch.cat([tokens, sparse], 1)
    position = sam.prompt_encoder.get_dense_pe().expand(n, -1, -1, -1)
    out, source = decoder.transformer(embeddings + dense, position, tokens)
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(n, c, h, w))
    heads = torch.stack([mlp(out[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1)
    logits = (heads @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
    return logits.float(), decoder.iou_prediction_head(out[:, 0]).float()


def mask_losses(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, heavier near borders by a focal weight, plus Dice (N, 4), of logits (N, 4, h, w) against soft target (N, h, w)."""
    goal = target[:, None].expand_as(logits)
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    focal = (entropy * (0.25 + (p.detach() - goal).abs())).mean((2, 3)) / goal.mean((2, 3)).clamp(0.02).sqrt()
    dice = 1 - (2 * (p * goal).sum((2, 3)) + 1) / (p.square().sum((2, 3)) + goal.square().sum((2, 3)) + 1)
    return 2 * focal + dice


def true_iou(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """IoU (N, 4) of logits (N, 4, h, w) cut at 0 with target (N, h, w) cut at 0.5."""
    a, b = logits > 0, (target > 0.5)[:, None]
    return (a & b).sum((2, 3)) / (a | b).sum((2, 3)).clamp(1)


def prompt_loss(
    logits: torch.Tensor, predicted_iou: torch.Tensor, target: torch.Tensor, ambiguous: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss summed over the prompts, and the IoU (N,) of the mask that inference would take (best predicted of the three)."""
    losses = mask_losses(logits, target)
    single, multi = losses[:, 0], losses[:, 1:]
    mask_loss = 0.4 * single + 0.8 * multi.min(1).values + 0.2 * multi.mean(1) if ambiguous else 0.25 * single + multi.mean(1)
    iou = true_iou(logits.detach(), target)
    loss = mask_loss.sum() + F.mse_loss(predicted_iou, iou, reduction="none").mean(1).sum()
    taken = iou[:, 1:].gather(1, predicted_iou[:, 1:].argmax(1, keepdim=True))[:, 0]
    return loss, taken


def correct(rng: np.random.Generator, prompts: Prompts, logits: torch.Tensor, predicted_iou: torch.Tensor, target: torch.Tensor) -> Prompts:
    """The prompts with one point more, from the error of the best predicted mask, whose logits become the mask prompt."""
    best = predicted_iou[:, 1:].argmax(1) + 1
    before = logits.detach()[torch.arange(len(logits)), best]
    truth = target > 0.5
    error = (before > 0) ^ truth
    coords, found = pick_points(rng, error, 0.2)
    scale = SIDE / LOW_RES
    column, row = ((coords + 0.5) / scale).long().clamp(0, LOW_RES - 1).unbind(1)
    positive = truth[torch.arange(len(truth)), row, column].float()
    labels = torch.where(found, positive, -1.0)
    coords, labels = coords[:, None], labels[:, None]
    if prompts.points is not None:
        coords, labels = torch.cat([prompts.points[0], coords], 1), torch.cat([prompts.points[1], labels], 1)
    return Prompts((coords, labels), prompts.boxes, before[:, None])


class MapHead(torch.nn.Module):
    """Borders and union of all objects from an image embedding: an extra task that teaches the encoder; it is not exported."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.factor = LOW_RES // grid
        self.project = torch.nn.Conv2d(channels, 2 * self.factor**2, 1)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2, 64, 64) of embeddings (B, C, h, w)."""
        return F.pixel_shuffle(self.project(embeddings), self.factor)


def map_loss(logits: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus Dice of logits against maps (B, 2, 64, 64)."""
    p = logits.sigmoid()
    dice = 1 - (2 * (p * maps).sum((2, 3)) + 1) / (p.square().sum((2, 3)) + maps.square().sum((2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, maps) + 0.5 * dice.mean()


def iteration_loss(rng: np.random.Generator, sam, head: MapHead, batch: Batch, recipe: Recipe) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss of one batch and the mean IoU of box, point and box-and-point prompts."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = sam.image_encoder(batch.images).float()
        guessed = head(embeddings).float()
    flat = F.avg_pool2d(batch.truth, SIDE // LOW_RES).flatten(0, 1)
    prompts_per_image = batch.truth.shape[1]
    corrected = int(rng.integers(3)) if rng.random() < recipe.correction else None
    extra = map_loss(guessed, batch.maps)
    total, scores, count = 0.0, {"maps": extra.item()}, 0
    for k, (prompts, number) in enumerate(draw_prompts(rng, batch.truth, recipe)):
        source, target = embeddings[number // prompts_per_image], flat[number]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, predicted = decode(sam, source, prompts)
        loss, taken = prompt_loss(logits, predicted, target, prompts.ambiguous)
        total, count = total + loss, count + len(number)
        scores[("box", "point", "both")[k]] = taken.mean().item()
        if k == corrected:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                again = decode(sam, source, correct(rng, prompts, logits, predicted, target))
            loss, taken = prompt_loss(*again, target, False)
            total, count = total + loss, count + len(number)
            scores["corrected"] = taken.mean().item()
    return total / count + recipe.map_weight * extra, scores


# --- training ---------------------------------------------------------------------------------------------------------------------------


def sine_positions(sam) -> None:
    """Start the absolute position embedding (1, h, w, C) from sines and cosines of row and column instead of zeros."""
    table = sam.image_encoder.pos_embed
    _, h, w, c = table.shape
    freq = torch.exp(torch.arange(c // 4) * -np.log(100.0) / (c // 4)) * np.pi / 2
    rows, cols = torch.arange(h)[:, None] * freq, torch.arange(w)[:, None] * freq
    row = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(h, w, -1)
    col = torch.cat([cols.sin(), cols.cos()], 1)[None].expand(h, w, -1)
    table.data.copy_(0.1 * torch.cat([row, col], 2)[None])


def make_optimizers(sam, head: MapHead, recipe: Recipe) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices of linear layers, AdamW for convolutions, embeddings, norms and biases."""
    linear = {f"{n}.weight" for n, m in sam.named_modules() if isinstance(m, torch.nn.Linear)}
    named = [(n, p) for n, p in sam.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if n in linear]
    rest = [p for n, p in named if n not in linear] + list(head.parameters())
    muon = torch.optim.Muon(matrices, lr=recipe.muon_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(rest, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0)


def write_atomic(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Save as safetensors under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)


@dataclass
class Training:
    """Network, optimizer, averaged weights and progress; the only thing that changes while training."""

    sam: torch.nn.Module
    head: MapHead
    optimizers: tuple[torch.optim.Optimizer, ...]
    average: dict[str, torch.Tensor]
    iteration: int = 0
    elapsed_s: float = 0.0

    def save(self, path: Path) -> None:
        """Checkpoint with everything needed to go on."""
        parts = {"sam": self.sam.state_dict(), "average": self.average, "head": self.head.state_dict()}
        tensors = {f"{name}.{k}": v for name, part in parts.items() for k, v in part.items()}
        for name, _, state in self.optimizer_states():
            tensors |= {f"{name}{k}": torch.as_tensor(v, dtype=torch.float32) for k, v in state.items()}
        write_atomic(tensors, path, {"iteration": str(self.iteration), "elapsed_s": str(self.elapsed_s)})

    def load(self, path: Path) -> None:
        """Take up a checkpoint."""
        from safetensors import safe_open

        with safe_open(path, "pt") as f:
            meta = f.metadata()
        tensors = load_file(path)
        self.sam.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("sam.")})
        self.head.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("head.")}, strict=False)
        self.average = {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}
        for name, _, state in self.optimizer_states():
            state.update({k[len(name) :]: v for k, v in tensors.items() if k.startswith(name)})
        self.iteration, self.elapsed_s = int(meta["iteration"]), float(meta["elapsed_s"])

    def optimizer_states(self) -> Iterator[tuple[str, torch.Tensor, dict]]:
        """Name, parameter and state of everything optimized."""
        for o, optimizer in enumerate(self.optimizers):
            for i, p in enumerate(p for g in optimizer.param_groups for p in g["params"]):
                yield f"optimizer.{o}.{i}.", p, optimizer.state[p]

    def update_average(self, decay: float) -> None:
        """Exponential moving average of the weights, quick at first."""
        rate = 1 - min(decay, (1 + self.iteration) / (10 + self.iteration))
        state = self.sam.state_dict()
        torch._foreach_lerp_([self.average[k] for k in state], list(state.values()), rate)


def start_training(recipe: Recipe) -> Training:
    """Fresh network with fixed seed."""
    torch.manual_seed(recipe.seed)
    sam = build_tiny().train()
    sine_positions(sam)
    head = MapHead(sam.prompt_encoder.embed_dim, sam.prompt_encoder.image_embedding_size[0])
    return Training(sam, head, make_optimizers(sam, head, recipe), {k: v.clone() for k, v in sam.state_dict().items()})


def rate_factor(recipe: Recipe, iteration: int, progress: float) -> float:
    """Factor of the learning rates: linear warm-up over iterations, then linear to zero over progress (0 to 1, of the time budget)."""
    return min(1, (iteration + 1) / recipe.warm_up) * max(0.01, 1 - progress)


def train(out: Path, cache: Path, minutes: float, recipe: Recipe, resume: bool) -> Path:
    """Train until the time is over; returns the exported file. Time before a resume counts."""
    images, masks = (np.load(p, mmap_mode="r") for p in cache_paths(cache))
    usable = np.flatnonzero([m.any() for m in masks])
    run = start_training(recipe)
    checkpoint, exported = out / "checkpoint.safetensors", out / "tiny.safetensors"
    if resume and checkpoint.exists():
        run.load(checkpoint)
    budget, begin, saved, window = minutes * 60, time.time() - run.elapsed_s, time.time(), []
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))  # save, then end
    while run.elapsed_s < budget and not stop:
        rng = np.random.default_rng([recipe.seed, 1, run.iteration])
        torch.manual_seed(recipe.seed + run.iteration)
        rate = rate_factor(recipe, run.iteration, run.elapsed_s / budget)
        for optimizer, top in zip(run.optimizers, (recipe.muon_rate, recipe.adam_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = top * rate
        pick = np.sort(rng.choice(usable, recipe.batch, replace=False))
        batch = make_batch(rng, images[pick], masks[pick], 4, run.sam)
        loss, scores = iteration_loss(rng, run.sam, run.head, batch, recipe)
        for module in (run.sam, run.head):
            module.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(run.sam.parameters(), recipe.clip)
        if torch.isfinite(norm):
            for optimizer in run.optimizers:
                optimizer.step()
            run.update_average(recipe.ema)
        run.iteration, run.elapsed_s = run.iteration + 1, time.time() - begin
        window.append({"loss": loss.item(), **scores})
        if run.iteration % recipe.log_every == 0:
            log(run, rate, window)
            window = []
        if time.time() - saved > recipe.checkpoint_s:
            run.save(checkpoint)
            export(run.average, exported)
            saved = time.time()
    run.save(checkpoint)
    export(run.average, exported)
    return exported


def log(run: Training, rate: float, window: list[dict[str, float]]) -> None:
    """One line with the means of the last iterations."""
    keys = ("loss", "maps", "box", "point", "both", "corrected")
    means = {k: np.mean([w[k] for w in window if k in w]) for k in keys if any(k in w for w in window)}
    text = " ".join(f"{k} {v:.3f}" for k, v in means.items())
    print(f"{time.strftime('%H:%M:%S')} iteration {run.iteration} elapsed_s {run.elapsed_s:.0f} rate {rate:.3f} {text}", flush=True)


def export(state: dict[str, torch.Tensor], path: Path) -> None:
    """Weights as float16 safetensors with the keys of Sam.state_dict()."""
    write_atomic({k: v.half() for k, v in state.items()}, path, {"format": "pt"})


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- evaluation -------------------------------------------------------------------------------------------------------------------------


def load_tiny(path: Path):
    """The network with exported weights, for inference."""
    sam = build_tiny().eval()
    sam.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return sam


def largest_objects(mask: np.ndarray) -> dict[int, np.ndarray]:
    """Largest connected part (H, W) bool of each class in a label map (H, W); 255 in binary masks counts as class 1."""
    labels = np.where(mask == 255, 1, mask)
    found = {}
    for c in np.unique(labels[labels > 0]):
        parts, n = ndimage.label(labels == c)
        found[int(c)] = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    if {1, 2} <= set(found):  # nucleus in cytoplasm: the whole cell as well
        parts, n = ndimage.label(labels > 0)
        found[0] = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return found


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two masks (H, W) bool."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def ellipse_in(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mask (H, W) bool of the ellipse inscribed in a box x0, y0, x1, y1 (first and last pixel)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    cx, cy, a, b = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, (box[2] - box[0] + 1) / 2, (box[3] - box[1] + 1) / 2
    return ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 <= 1


def box_in(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mask (H, W) bool of a box."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])


def predict(predictor: SamPredictor, **prompt) -> np.ndarray:
    """The mask (H, W) bool of the highest predicted IoU of the three."""
    masks, predicted_iou, _ = predictor.predict(multimask_output=True, **prompt)
    return masks[predicted_iou.argmax()]


def score_object(rng: np.random.Generator, predictor: SamPredictor, truth: np.ndarray) -> dict[str, float]:
    """IoU of the prompts and of plain shapes in the same boxes, for one object (H, W) bool."""
    ys, xs = np.nonzero(truth)
    tight = np.array([xs.min(), ys.min(), xs.max(), ys.max()], float)
    width, height = tight[2] - tight[0] + 1, tight[3] - tight[1] + 1
    limit = np.array([truth.shape[1], truth.shape[0]] * 2) - 1
    moved = np.clip(tight + rng.uniform(-0.1, 0.1, 4) * np.array([width, height] * 2), 0, limit)
    depth = ndimage.distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    point = {"point_coords": np.array([[x, y]], float), "point_labels": np.array([1])}
    masks = {
        "tight box": predict(predictor, box=tight),
        "ellipse in it": ellipse_in(tight, truth.shape),
        "tight box filled": box_in(tight, truth.shape),
        "jittered box": predict(predictor, box=moved),
        "ellipse in jittered": ellipse_in(moved, truth.shape),
        "jittered box filled": box_in(moved, truth.shape),
        "point": predict(predictor, **point),
        "jittered box and point": predict(predictor, box=moved, **point),
    }
    return {k: mask_iou(m, truth) for k, m in masks.items()}


def evaluate(sam, folder: Path, n: int = 100, seed: int = 0) -> dict[int, dict[str, float]]:
    """Mean IoU by class (0: whole cell, where there are two) of the largest objects in n fixed random images of folder."""
    names = sorted(p.name for p in (folder / "images").glob("*.jpg"))
    rng = np.random.default_rng(seed)
    rows: dict[int, list[dict[str, float]]] = {}
    predictor = SamPredictor(sam)
    for name in rng.permutation(names)[:n]:
        predictor.set_image(np.asarray(Image.open(folder / "images" / name).convert("RGB")))
        mask = np.asarray(Image.open((folder / "masks" / name).with_suffix(".png")))
        for c, truth in largest_objects(mask).items():
            rows.setdefault(c, []).append(score_object(rng, predictor, truth))
    return {c: {k: float(np.mean([r[k] for r in rs])) for k in rs[0]} for c, rs in sorted(rows.items())}


def print_table(weights: Path, folders: list[Path], n: int) -> None:
    """A markdown table of `evaluate` over folders."""
    sam, head = load_tiny(weights), None
    for folder in folders:
        for c, row in evaluate(sam, folder, n).items():
            if head is None:
                head = list(row)
                print("| set | class | " + " | ".join(head) + " |\n|" + "---|" * (len(head) + 2))
            print(f"| {folder.name} | {c} | " + " | ".join(f"{row[k]:.3f}" for k in head) + " |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint.safetensors and tiny.safetensors")
    parser.add_argument("--cache", type=Path, help="folder of the drawn scenes (default: OUT/cache)")
    parser.add_argument("--minutes", type=float, default=90, help="time budget of the training, resumed time included")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw scenes")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--evaluate", type=Path, nargs="*", help="only measure OUT/tiny.safetensors on these folders")
    parser.add_argument("-n", type=int, default=100, help="images for each folder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe()
    if args.evaluate is not None:
        print_table(args.out / "tiny.safetensors", args.evaluate, args.n)
        return
    cache = args.cache or args.out / "cache"
    if not cache_paths(cache)[1].exists():
        draw_cache(cache, recipe.scenes, recipe.seed, args.workers)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "recipe.json").write_text(json.dumps(recipe.__dict__ | {"minutes": args.minutes}, indent=1))
    path = train(args.out, cache, args.minutes, recipe, args.resume)
    print(path, sha256(path))


if __name__ == "__main__":
    main()
