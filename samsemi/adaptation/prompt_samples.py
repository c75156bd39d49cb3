"""What SAM learns from: images with the masks of objects -> prompts, good, faulty and negative ones, and the mask that each should give."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from samsemi.data.dataset import IGNORE, Case, read_case_image, read_case_label
from samsemi.errors import CheckpointError
from samsemi.mining.folds import FoldMaps
from samsemi.options.mine import MineOptions
from samsemi.own_code import call_own
from samsemi.sam.embeddings import EmbeddingCache
from samsemi.sam.preprocessing import Preprocessing, place_masks
from samsemi.sam.prompts import find_objects, make_prompts, number_objects, shared_most
from samsemi.sam.simulation import POINTS, box_of, simulate_box, simulate_logits, simulate_points
from samsemi.sam.windows import LEAST_SIDE, Window, round_window, slices_of, zoom_window
from samsemi.training.batches import AUGMENT

FAULTY = 0.5
"""Share of the prompts that come from the U-Net++'s out-of-fold objects, where there are any."""
NEGATIVE = 0.25
"""Share of the prompts of labeled cases that are negative, where there is no object: their predicted IoU should be 0."""
TRIES, TOUCHES = 10, 0.1
MIN_IOU = 0.5
"""An object of the U-Net++ that fits the true one less is not trusted as a prompt for it."""
VIEWS = ((False, False), (True, False), (False, True), (True, True))
"""Rows mirrored, columns mirrored: the views of an image that a frozen encoder encodes."""
BOX_MARGIN = MineOptions.box_margin
MIN_SHARE = 0.0015
"""Objects below this share of the model's square input are prompted only in images that have no larger one."""
ZOOM = 1.2, 3.0
"""Least and greatest size of a crop, times the box that it is cut around."""


@dataclass(frozen=True)
class Scene:
    """An image and the objects in it."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    layers: np.ndarray
    """(L, H, W) int32: i + 1 on object i; objects that overlap stand in different layers."""
    class_id: np.ndarray
    """(N,) uint8, from 1."""
    valid: np.ndarray
    """(H, W) float32: 0 on pixels whose label is unknown."""
    probs: np.ndarray | None = None
    """(K, H, W) float32: the out-of-fold prediction of a U-Net++."""
    exhaustive: bool = True
    """Whether every object of its kind has a mask, so that a negative prompt may lie elsewhere."""

    def mask(self, i: int) -> np.ndarray:
        """(H, W) bool of object i."""
        return (self.layers == i + 1).any(axis=0)

    def is_nested(self, mask: np.ndarray) -> bool:
        """Whether an object (H, W) bool lies in another or has another in it, so that a point on it may mean either."""
        return ((self.layers[:, mask] > 0).sum(axis=0) > 1).mean() > TOUCHES


class PromptedObject(NamedTuple):
    """An object and its prompts, as arrays of numbers, in pixels of the model's padded square input of side S, with masks of
    side m. All kinds of prompt are there; the training takes those that it needs. In a sample each part has an axis for
    the objects in front."""

    target: np.ndarray
    """(m, m) in [0, 1]; empty for negative prompts."""
    known: np.ndarray
    """(): 0 where the image has no object."""
    trust: np.ndarray
    """(): how well the prompts fit the target: 1, or the IoU of the U-Net++'s object with it, 0 below MIN_IOU."""
    box: np.ndarray
    """(4,) x0 y0 x1 y1."""
    coords: np.ndarray
    """(POINTS, 2) x y."""
    labels: np.ndarray
    """(POINTS,) 1 on the object, 0 outside it."""
    rough: np.ndarray
    """(m, m) mask logits."""
    nested: np.ndarray = np.zeros(())
    """(): 1 where a point on it may mean another object, too."""


class PromptedSample(NamedTuple):
    """An image and Q objects in it, as float32; in a batch each part has one axis more in front."""

    image: Tensor | Mapping[str, Tensor]
    """(3, S, S) normalized, or the tensors of the image's embedding where the encoder is frozen."""
    valid: Tensor
    """(m, m): 0 on pixels whose label is unknown."""
    target: Tensor
    """(Q, m, m)."""
    known: Tensor
    """(Q,)."""
    trust: Tensor
    """(Q,)."""
    boxes: Tensor
    """(Q, 4)."""
    coords: Tensor
    """(Q, POINTS, 2)."""
    labels: Tensor
    """(Q, POINTS)."""
    rough: Tensor
    """(Q, m, m)."""
    nested: Tensor
    """(Q,)."""


def scene_of_case(case: Case, num_classes: int, fold_maps: FoldMaps | None = None) -> Scene:
    """A labeled case: each connected component of a class is an object."""
    image, label = read_case_image(case), read_case_label(case, case.mask, num_classes)
    numbers, class_id = number_objects(label, num_classes)
    probs = fold_maps.read(case.id, image.shape[:2]) if fold_maps else None
    if probs is not None:
        probs[1:, label == IGNORE] = 0
    return Scene(image, numbers[None], class_id, (label != IGNORE).astype(np.float32), probs)


def scene_of_drawing(draw: Callable[[int], tuple], number: int) -> Scene:
    """What a function of the user's draws: image, masks, and, as a rule not, whether these are all objects; CheckpointError where it
    fails, or draws no image and masks."""
    image, masks, exhaustive = read_drawing(call_own(draw, f"--stream: scene {number}", number), number)
    numbers = np.arange(1, len(masks) + 1, dtype=np.int32)
    valid = np.ones(image.shape[:2], np.float32)
    return Scene(np.array(image), masks * numbers[:, None, None], np.ones(len(masks), np.uint8), valid, exhaustive=exhaustive)


def read_drawing(drawn: object, number: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """The image, the masks and whether these are all objects; CheckpointError for anything else."""
    image, masks, *rest = drawn if isinstance(drawn, tuple | list) and len(drawn) > 1 else (drawn, None)
    fits = is_array(image, np.uint8) and is_array(masks, bool) and image.size and image.shape[2] == 3 and masks.shape[1:] == image.shape[:2]
    if not fits:
        found = (f"{part.dtype} {part.shape}" if isinstance(part, np.ndarray) else type(part).__name__ for part in (image, masks))
        raise CheckpointError(
            f"--stream: scene {number} is {' and '.join(found)}", "draw an image (H, W, 3) uint8 and masks (N, H, W) bool"
        )
    return image, masks, any(isinstance(part, bool | np.bool_) and part for part in rest)


def is_array(found: object, kind: type) -> bool:
    """Whether that is an array of three axes of this type."""
    return isinstance(found, np.ndarray) and found.dtype == kind and found.ndim == 3


@dataclass(frozen=True)
class PromptSampler:
    """Scene -> PromptedSample: resize, augment, choose objects and draw prompts, by torch's generator. For ``Stream.augment``."""

    preprocessing: Preprocessing
    side: int
    """Of the model's input."""
    mask_size: int
    count: int
    """Objects that are prompted in each image."""
    negative: float = 0.0
    """Share of the prompts of exhaustive scenes that are negative: nothing is there."""
    augment: Callable | None = AUGMENT
    """A transform of torchvision; None for scenes that come as they are to be seen."""
    crops: float = 0.0
    """Share of the scenes that are seen as a crop around an object."""
    cache: EmbeddingCache | None = None
    """The embeddings of the images in all VIEWS, where the encoder is not to run again; images are then only mirrored."""

    def __call__(self, scene: Scene) -> PromptedSample:
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        if self.cache:
            scene = mirror_scene(scene, VIEWS[rng.integers(len(VIEWS))])
            encoded: Tensor | Mapping[str, Tensor] = self.cache.encode([scene.image])[0].tensors
        elif self.crops and rng.random() < self.crops:
            scene = zoom_scene(rng, scene)
        size = self.preprocessing.input_size(scene.image.shape[:2], self.side)
        margin = BOX_MARGIN * max(size) / max(scene.image.shape[:2])
        if size != scene.image.shape[:2]:
            scene = transform(scene, v2.Resize(size, antialias=True))
        if not self.cache:
            scene = transform(scene, self.augment) if self.augment else scene
            [encoded] = self.preprocessing.squares([scene.image], self.side)
        valid = torch.from_numpy(place(scene.valid, self.side, self.mask_size, outside=1.0))
        return PromptedSample(encoded, valid, *sample_prompts(rng, scene, self.count, self.side, self.mask_size, margin, self.negative))


def zoom_scene(rng: np.random.Generator, scene: Scene) -> Scene:
    """What is seen of a scene in a window around the box of a random object, tight, jittered or wrong; all of it where there is none."""
    areas = np.bincount(scene.layers.ravel(), minlength=len(scene.class_id) + 1)[1:] ** 0.5
    if not areas.any():
        return scene
    mask = scene.mask(rng.choice(len(areas), p=areas / areas.sum()))
    box = simulate_box(rng, box_of(mask), mask.shape)
    least = LEAST_SIDE / max(box[2] - box[0] + 1, box[3] - box[1] + 1)
    factor = max(least, np.exp(rng.uniform(*np.log(ZOOM))))
    return crop_scene(scene, round_window(zoom_window(box, factor, mask.shape, rng.random() < 0.5)))


def crop_scene(scene: Scene, window: Window) -> Scene:
    """What is seen of a scene in a window of whole pixels."""
    inside = slices_of(window)
    probs = None if scene.probs is None else scene.probs[:, *inside]
    return replace(scene, image=scene.image[inside], layers=scene.layers[:, *inside], valid=scene.valid[inside], probs=probs)


def mirror(array: np.ndarray, view: tuple[bool, bool], first: int = 0) -> np.ndarray:
    """Mirrored top to bottom, left to right, both or neither; rows are axis ``first``, columns the next."""
    return np.ascontiguousarray(np.flip(array, tuple(first + i for i, wanted in enumerate(view) if wanted)))


def mirror_scene(scene: Scene, view: tuple[bool, bool]) -> Scene:
    probs = None if scene.probs is None else mirror(scene.probs, view, 1)
    layers, valid = mirror(scene.layers, view, 1), mirror(scene.valid, view)
    return replace(scene, image=mirror(scene.image, view), layers=layers, valid=valid, probs=probs)


def transform(scene: Scene, change: Callable) -> Scene:
    """Image and maps changed together by a transform of torchvision; what comes in from outside is valid background."""
    image = tv_tensors.Image(torch.from_numpy(scene.image).permute(2, 0, 1))
    maps = (scene.layers, 1 - scene.valid[None], *(() if scene.probs is None else (scene.probs,)))
    image, layers, unknown, *probs = change(image, *(tv_tensors.Mask(torch.from_numpy(x.copy())) for x in maps))
    if probs:
        probs[0][0][probs[0].sum(dim=0) == 0] = 1
    return replace(
        scene,
        image=image.permute(1, 2, 0).contiguous().numpy(),
        layers=layers.numpy(),
        valid=1 - unknown[0].numpy(),
        probs=probs[0].numpy() if probs else None,
    )


def sample_prompts(
    rng: np.random.Generator, scene: Scene, count: int, side: int, mask_size: int, margin: float = BOX_MARGIN, negative: float = 0.0
) -> list[Tensor]:
    """``count`` objects of a scene at the size of the model's input, with prompts: the parts of PromptedObject, stacked.

    ``margin`` is that of ``mine``'s boxes, in pixels of the input. A share ``negative`` of the prompts stands where there
    is no object.
    """
    min_area = max(4, round(MIN_SHARE * side * side))
    areas = np.bincount(scene.layers.ravel(), minlength=len(scene.class_id) + 1)[1:]
    large = np.flatnonzero(areas >= (min_area if areas.max(initial=0) >= min_area else 4))
    faulty = find_faulty(scene, min_area, side, mask_size, margin)
    rows = []
    for _ in range(count):
        if faulty and (not len(large) or rng.random() < FAULTY):
            rows.append(faulty[rng.integers(len(faulty))])
        elif len(large):
            weight = areas[large] ** 0.5
            mask = scene.mask(rng.choice(large, p=weight / weight.sum()))
            away = scene.exhaustive and rng.random() < negative
            elsewhere = move_away(rng, mask, np.any(scene.layers > 0, axis=0)) if away else None
            if elsewhere is None:
                rows.append(simulate_prompts(rng, mask, side, mask_size)._replace(nested=np.array(float(scene.is_nested(mask)))))
            else:
                rows.append(negative_prompts(rng, elsewhere, side, mask_size))
        else:
            empty = np.zeros((mask_size, mask_size))
            rows.append(PromptedObject(empty, np.zeros(()), np.zeros(()), np.zeros(4), np.zeros((POINTS, 2)), np.zeros(POINTS), empty))
    return [torch.from_numpy(np.stack(part, dtype=np.float32, casting="unsafe")) for part in zip(*rows, strict=True)]


def simulate_prompts(rng: np.random.Generator, mask: np.ndarray, side: int, mask_size: int) -> PromptedObject:
    """A mask (H', W') bool, which must not be empty, with simulated prompts."""
    target, box = place(mask, side, mask_size), box_of(mask)
    centers = (np.arange(mask_size) + 0.5) * side / mask_size - 0.5
    columns, rows = (centers >= box[0]) & (centers <= box[2]), (centers >= box[1]) & (centers <= box[3])
    coords, labels = simulate_points(rng, target >= min(0.5, target.max()), columns & rows[:, None])
    moved = simulate_box(rng, box, mask.shape)
    return PromptedObject(target, np.ones(()), np.ones(()), moved, centers[coords], labels, simulate_logits(rng, target))


def negative_prompts(rng: np.random.Generator, mask: np.ndarray, side: int, mask_size: int) -> PromptedObject:
    """A mask (H', W') bool on background with simulated prompts: the target is empty and gets no trust, as that of a false object."""
    prompted = simulate_prompts(rng, mask, side, mask_size)
    return prompted._replace(target=np.zeros_like(prompted.target), trust=np.zeros(()))


def move_away(rng: np.random.Generator, mask: np.ndarray, objects: np.ndarray) -> np.ndarray | None:
    """A mask (H', W') bool moved within the image to where it hardly touches the ``objects`` (H', W') bool; None where there is no
    such place in TRIES."""
    box, (height, width) = box_of(mask).astype(int), mask.shape
    for _ in range(TRIES):
        y, x = rng.integers(-box[1], height - box[3]), rng.integers(-box[0], width - box[2])
        moved = np.roll(mask, (y, x), (0, 1))
        if (moved & objects).sum() <= TOUCHES * moved.sum():
            return moved
    return None


def find_faulty(scene: Scene, min_area: int, side: int, mask_size: int, margin: float = BOX_MARGIN) -> list[PromptedObject]:
    """The objects of the U-Net++'s map, with the prompts that ``mine`` would give.

    The target is the true object of the same class that shares most pixels with it; nothing, where none shares any.
    """
    if scene.probs is None:
        return []
    objects = find_objects(scene.probs, min_area)
    if not len(objects):
        return []
    prompts = make_prompts(objects, "box+point+mask", margin, positive=POINTS - 1, mask_size=mask_size)
    assert prompts.boxes is not None and prompts.point_coords is not None and prompts.point_labels is not None
    assert prompts.mask_logits is not None
    order = [0, POINTS - 1, *range(1, POINTS - 1)]  # inside the object, outside it, inside it again
    size = scene.image.shape[:2]
    rough = place_masks(torch.from_numpy(prompts.mask_logits), size, side, mask_size)[:, 0].numpy()
    found = []
    for i, class_id in enumerate(objects.class_id):
        own = objects.components == i + 1
        mask = shared_most(scene.layers, scene.class_id, own, class_id)
        shares = (mask & own).sum() / (mask | own).sum()
        trust = np.array(shares if shares >= MIN_IOU else 0.0)
        coords, labels = prompts.point_coords[i, order], prompts.point_labels[i, order]
        found.append(PromptedObject(place(mask, side, mask_size), np.ones(()), trust, prompts.boxes[i], coords, labels, rough[i]))
    return found


def place(mask: np.ndarray, side: int, mask_size: int, outside: float = 0.0) -> np.ndarray:
    """A mask (H', W') in the corner of the padded input, averaged to (mask_size, mask_size) float32."""
    padded = np.full((side, side), outside, dtype=np.float32)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    repeats = mask_size // math.gcd(side, mask_size)  # 1, but for SAM 3: 1008 px under 288 cells
    padded = padded.repeat(repeats, axis=0).repeat(repeats, axis=1) if repeats > 1 else padded
    cell = side * repeats // mask_size
    return padded.reshape(mask_size, cell, mask_size, cell).mean(axis=(1, 3))
