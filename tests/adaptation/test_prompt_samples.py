from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from builders import probs_of, rectangle, write_image

from samsemi.adaptation import prompt_samples
from samsemi.adaptation.prompt_samples import (
    VIEWS,
    PromptedObject,
    PromptSampler,
    Scene,
    crop_scene,
    find_faulty,
    mirror,
    mirror_scene,
    move_away,
    place,
    sample_prompts,
    scene_of_case,
    scene_of_drawing,
    simulate_prompts,
    zoom_scene,
)
from samsemi.data.dataset import IGNORE, Case
from samsemi.errors import CheckpointError
from samsemi.mining.folds import FoldMaps
from samsemi.sam.preprocessing import LONGEST_SIDE
from samsemi.sam.prompts import find_objects, make_prompts
from samsemi.sam.protocol import Embedding
from samsemi.sam.simulation import POINTS, box_of

SIDE, MASK_SIZE = 128, 64
SQUARE = (SIDE, SIDE)
MIN_AREA = 25
EMPTY = np.zeros((MASK_SIZE, MASK_SIZE), dtype=np.float32)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    return rectangle(x0, y0, x1, y1, SQUARE)


def scene_of(*masks: np.ndarray, classes: tuple[int, ...] = (), probs: np.ndarray | None = None, shape=SQUARE) -> Scene:
    """A dark image with the objects red on it."""
    layers = np.zeros((1, *shape), dtype=np.int32)
    for i, mask in enumerate(masks):
        layers[0, mask] = i + 1
    image = np.full((*shape, 3), 40, dtype=np.uint8)
    image[layers[0] > 0, 0] = 220
    return Scene(image, layers, np.array(classes or [1] * len(masks), dtype=np.uint8), np.ones(shape, dtype=np.float32), probs)


def prompts_at(seed: int, scene: Scene, count: int = 4) -> PromptedObject:
    return PromptedObject(*sample_prompts(np.random.default_rng(seed), scene, count, SIDE, MASK_SIZE))


def sampler_with(cache=None) -> PromptSampler:
    return PromptSampler(LONGEST_SIDE, SIDE, MASK_SIZE, 4, cache=cache)


def sample_at(seed: int, sampler: PromptSampler, scene: Scene):
    torch.manual_seed(seed)
    return sampler(scene)


class PixelCache:
    """Its embeddings are the pixels."""

    def encode(self, images):
        return [Embedding({"features": torch.from_numpy(image).permute(2, 0, 1).float()}, image.shape[:2]) for image in images]


# scenes


@pytest.fixture
def case(tmp_path) -> Case:
    """Two components of class 1, one of them joined at a corner only, one of class 2, and a strip of unknown label."""
    label = np.zeros((30, 40), dtype=np.uint8)
    label[2:6, 2:6] = label[6:9, 6:9] = 1
    label[20:25, 5:9] = 1
    label[10:20, 20:30] = 2
    label[:, 36:] = IGNORE
    write_image(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    write_image(tmp_path / "a_m.png", label)
    return Case("a", tmp_path / "a.png", tmp_path / "a_m.png", None, "labeled", "a")


def fold_maps(path: Path, *ids: str) -> FoldMaps:
    """Class 1 everywhere."""
    probs = np.zeros((len(ids), 3, 8, 8), dtype=np.uint8)
    probs[:, 1] = 255
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = "samsemi.out-of-fold/1"
        file["ids"] = list(ids)
        file["probs"] = probs
    return FoldMaps(path)


def test_connected_components_of_a_class_are_the_objects_of_a_case(case):
    scene = scene_of_case(case, 3)
    assert scene.image.shape == (30, 40, 3) and scene.layers.shape == (1, 30, 40) and scene.layers.dtype == np.int32
    assert scene.class_id.tolist() == [1, 1, 2] and scene.probs is None
    assert [int(scene.mask(i).sum()) for i in range(3)] == [25, 20, 100]
    assert scene.mask(0)[3, 3] and scene.mask(0)[8, 8] and scene.mask(2)[15, 25]
    assert not scene.layers[0, :, 36:].any()


def test_a_map_finds_nothing_where_the_label_is_unknown(case, tmp_path):
    scene = scene_of_case(case, 3, fold_maps(tmp_path / "f.h5", "b", "a"))
    assert scene.probs.shape == (3, 30, 40)
    assert not scene.probs[1:, :, 36:].any() and np.allclose(scene.probs[1, :, :36], 1)
    assert not (find_objects(scene.probs).components[:, 36:] > 0).any()


def test_case_without_a_map_is_a_checkpoint_error(case, tmp_path):
    with pytest.raises(CheckpointError, match="case a"):
        scene_of_case(case, 3, fold_maps(tmp_path / "f.h5", "b"))


def test_drawn_objects_may_overlap():
    masks = np.stack([block(10, 10, 50, 50), block(30, 30, 90, 90)])
    image = np.zeros((*SQUARE, 3), dtype=np.uint8)
    scene = scene_of_drawing(lambda number: (image + np.uint8(number), masks), 7)
    assert (scene.image == 7).all() and scene.class_id.tolist() == [1, 1] and scene.layers.dtype == np.int32
    assert all(np.array_equal(scene.mask(i), masks[i]) for i in range(2))


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        (np.zeros((9, 9, 3)), np.zeros((1, 9, 9), bool)),
        (np.zeros((9, 9, 4), np.uint8), np.zeros((1, 9, 9), bool)),
        (np.zeros((9, 9), np.uint8), np.zeros((1, 9, 9), bool)),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((1, 9, 9), np.uint8)),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), bool)),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((1, 9, 8), bool)),
        (np.zeros((0, 9, 3), np.uint8), np.zeros((1, 0, 9), bool)),
    ],
)
def test_what_is_no_scene_is_named(image, masks):
    with pytest.raises(CheckpointError, match="--stream: scene 3"):
        scene_of_drawing(lambda number: (image, masks), 3)


@pytest.mark.parametrize("drawn", [None, 3, "ab", (), (np.zeros((9, 9, 3), np.uint8),), [None, None], ([], []), iter(())])
def test_what_is_no_image_with_masks_is_named(drawn):
    with pytest.raises(CheckpointError, match="--stream: scene 3 is "):
        scene_of_drawing(lambda number: drawn, 3)


def test_drawing_that_fails_is_named_with_the_place():
    with pytest.raises(CheckpointError, match=r"--stream: scene 3: ZeroDivisionError in .*test_prompt_samples\.py, line \d+"):
        scene_of_drawing(lambda number: 1 / 0, 3)


@pytest.mark.parametrize("view", VIEWS)
def test_image_objects_and_map_are_mirrored_together(view):
    scene = scene_of(rectangle(5, 2, 5, 2, (20, 31)), probs=probs_of((rectangle(5, 2, 5, 2, (20, 31)), 1, 0.9)), shape=(20, 31))
    seen = mirror_scene(scene, view)
    row, column = (17 if view[0] else 2), (25 if view[1] else 5)
    for marked in (seen.image[..., 0] == 220, seen.layers[0] == 1, seen.probs[1] > 0.5):
        assert np.argwhere(marked).tolist() == [[row, column]]
    assert np.array_equal(mirror(seen.image, view), scene.image)


# objects and prompts


def test_mask_is_placed_in_the_corner_and_averaged():
    mask = np.zeros((5, 8), dtype=bool)
    mask[0:2, 0:4] = mask[2, 4] = mask[4, 6:8] = True
    expected = np.array([[1, 1, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 0.5], [0, 0, 0, 0]], dtype=np.float32)
    placed = place(mask, side=8, mask_size=4)
    assert np.array_equal(placed, expected) and placed.dtype == np.float32


@pytest.mark.parametrize("count", [1, 4])
def test_objects_are_prompted_in_rows(count):
    rows = prompts_at(0, scene_of(block(10, 10, 60, 60), block(80, 80, 120, 120)), count)
    assert rows.target.shape == rows.rough.shape == (count, MASK_SIZE, MASK_SIZE) and rows.box.shape == (count, 4)
    assert rows.coords.shape == (count, POINTS, 2) and rows.labels.shape == (count, POINTS)
    assert {part.dtype for part in rows} == {torch.float32} and rows.known.tolist() == [1] * count
    assert (rows.target.flatten(1).sum(dim=1) > 0).all()


def test_every_object_that_is_large_enough_is_prompted_the_larger_ones_more_often():
    large, small, speck = block(10, 10, 89, 89), block(100, 100, 109, 109), block(120, 10, 122, 12)
    targets = prompts_at(0, scene_of(large, small, speck), 200).target.numpy()
    counts = [sum(np.array_equal(target, place(mask, SIDE, MASK_SIZE)) for target in targets) for mask in (large, small, speck)]
    assert counts[2] == 0 and sum(counts) == 200
    assert counts[1] / 200 == pytest.approx(10 / 90, abs=0.05)


def test_specks_are_prompted_where_there_is_nothing_larger():
    speck = block(3, 3, 5, 5)
    rows = prompts_at(0, scene_of(speck))
    assert rows.known.all() and all(np.array_equal(target, place(speck, SIDE, MASK_SIZE)) for target in rows.target.numpy())


def test_image_without_objects_has_no_prompts():
    rows = prompts_at(0, scene_of())
    assert not rows.known.any() and not rows.target.any()
    assert all(torch.isfinite(part).all() for part in rows)


@pytest.mark.parametrize("cache", [None, PixelCache()], ids=["images", "embeddings"])
def test_scene_drawn_without_objects_becomes_a_sample(cache):
    scene = scene_of_drawing(lambda number: (np.full((60, 90, 3), 9, np.uint8), np.zeros((0, 60, 90), bool)), 0)
    sample = sample_at(0, sampler_with(cache), scene)
    assert not sample.known.any() and not sample.target.any() and sample.target.shape == (4, MASK_SIZE, MASK_SIZE)


def test_simulated_prompts_belong_to_the_object():
    mask = block(20, 30, 79, 69)
    for seed in range(10):
        made = simulate_prompts(np.random.default_rng(seed), mask, SIDE, MASK_SIZE)
        assert np.array_equal(made.target, place(mask, SIDE, MASK_SIZE)) and made.known == 1
        assert (np.abs(made.box - box_of(mask)) <= 0.4 * 60 + 0.6).all()
        x, y = made.coords[made.labels == 1].T
        assert (x >= 20).all() and (x <= 79).all() and (y >= 30).all() and (y <= 69).all()
        assert np.corrcoef(made.rough.ravel(), made.target.ravel())[0, 1] > 0.5


# faulty objects

OWN, OTHER, OF_CLASS_2 = block(8, 8, 39, 39), block(48, 8, 99, 39), block(8, 60, 59, 99)
ACROSS, BESIDE, WRONG_CLASS = block(30, 15, 80, 34), block(90, 60, 119, 79), block(20, 70, 49, 89)


@pytest.fixture
def faulty_scene() -> Scene:
    """A map finds one object across two, one where nothing is, and one of class 1 in an object of class 2."""
    probs = probs_of((ACROSS, 1, 0.9), (BESIDE, 1, 0.8), (WRONG_CLASS, 1, 0.7), num_classes=3)
    return scene_of(OWN, OTHER, OF_CLASS_2, classes=(1, 1, 2), probs=probs)


def test_faulty_objects_come_with_the_prompts_that_mine_would_give(faulty_scene):
    found = find_faulty(faulty_scene, MIN_AREA, SIDE, MASK_SIZE, 2)
    prompts = make_prompts(find_objects(faulty_scene.probs, MIN_AREA), "box+point+mask", positive=POINTS - 1, mask_size=MASK_SIZE)
    assert len(found) == 3
    for i, row in enumerate(found):
        assert np.array_equal(row.box, prompts.boxes[i]) and row.labels.tolist() == [1, 0, 1] and row.known == 1
        assert np.array_equal(row.coords, prompts.point_coords[i, [0, 2, 1]])
        assert np.allclose(row.rough, prompts.mask_logits[i], atol=1e-5)


def test_faulty_object_prompts_for_the_object_of_its_class_that_it_shares_most_with(faulty_scene):
    across, beside, wrong_class = find_faulty(faulty_scene, MIN_AREA, SIDE, MASK_SIZE, 2)
    assert np.array_equal(across.target, place(OTHER, SIDE, MASK_SIZE))
    assert np.array_equal(beside.target, EMPTY) and np.array_equal(wrong_class.target, EMPTY)


def test_target_is_trusted_as_far_as_the_faulty_object_fits_it(faulty_scene, monkeypatch):
    found = find_faulty(faulty_scene, MIN_AREA, SIDE, MASK_SIZE, 2)
    assert [row.trust.item() for row in found] == [0, 0, 0]
    iou = (ACROSS & OTHER).sum() / (ACROSS | OTHER).sum()
    monkeypatch.setattr(prompt_samples, "MIN_IOU", iou)
    assert [row.trust.item() for row in find_faulty(faulty_scene, MIN_AREA, SIDE, MASK_SIZE, 2)] == [pytest.approx(iou), 0, 0]
    assert prompts_at(0, scene_of(OWN)).trust.tolist() == [1] * 4 and prompts_at(0, scene_of()).trust.tolist() == [0] * 4


def test_faulty_object_may_prompt_for_a_true_one_that_is_too_small_itself():
    speck = block(50, 50, 53, 53)
    [found] = find_faulty(scene_of(speck, probs=probs_of((block(45, 45, 60, 60), 1, 0.9))), MIN_AREA, SIDE, MASK_SIZE)
    assert np.array_equal(found.target, place(speck, SIDE, MASK_SIZE))


def test_part_of_the_rows_are_faulty(faulty_scene, monkeypatch):
    boxes = {tuple(row.box) for row in find_faulty(faulty_scene, MIN_AREA, SIDE, MASK_SIZE, 2)}

    def share(scene: Scene) -> float:
        return np.mean([tuple(box) in boxes for box in prompts_at(0, scene, 200).box.numpy()])

    assert share(faulty_scene) == pytest.approx(prompt_samples.FAULTY, abs=0.1)
    assert share(scene_of(probs=faulty_scene.probs)) == 1, "with no true object, all"
    monkeypatch.setattr(prompt_samples, "FAULTY", 0.0)
    assert share(faulty_scene) == 0


def test_without_a_map_or_with_an_empty_one_nothing_is_faulty():
    assert find_faulty(scene_of(OWN), MIN_AREA, SIDE, MASK_SIZE) == []
    empty = np.stack([np.ones(SQUARE), np.zeros(SQUARE)]).astype(np.float32)
    assert find_faulty(scene_of(OWN, probs=empty), MIN_AREA, SIDE, MASK_SIZE) == []


# samples


def test_frozen_encoder_sees_one_of_the_mirrored_views_and_so_do_the_objects():
    scene = scene_of(block(10, 20, 59, 49))
    seen = set()
    for seed in range(24):
        sample = sample_at(seed, sampler_with(PixelCache()), scene)
        [view] = [view for view in VIEWS if np.array_equal(sample.image["features"].numpy(), mirror(scene.image, view).transpose(2, 0, 1))]
        assert np.array_equal(sample.target[0].numpy(), place(mirror(scene.mask(0), view), SIDE, MASK_SIZE))
        seen.add(view)
    assert seen == set(VIEWS)


def test_encoder_that_learns_sees_a_padded_and_normalized_image():
    shape = (60, 100)
    scene = scene_of(rectangle(30, 20, 69, 44, shape), shape=shape)
    mean, std = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1), torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    for seed in range(8):
        sample = sample_at(seed, sampler_with(), scene)
        assert sample.image.shape == (3, SIDE, SIDE) and sample.image.dtype == torch.float32
        pixels = sample.image * std + mean
        assert not sample.image[:, 77:].any() and sample.image[:, :77].any()
        assert pixels.min() > -0.01 and pixels.max() < 255.01
        red = (pixels[0] - pixels[1] > 60).numpy()
        target = np.kron(sample.target[0].numpy() > 0.5, np.ones((2, 2), dtype=bool))
        assert (red & target).sum() / (red | target).sum() > 0.85


@pytest.mark.parametrize("cache", [None, PixelCache()], ids=["images", "embeddings"])
def test_torchs_generator_alone_decides_on_a_sample(cache, faulty_scene):
    first, same, other = (sample_at(seed, sampler_with(cache), faulty_scene) for seed in (1, 1, 2))
    seen = [sample.image["features"] if cache else sample.image for sample in (first, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(first[1:], same[1:], strict=True)) and torch.equal(seen[0], seen[1])
    assert not torch.equal(first.boxes, other.boxes) and not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("shape", [(60, 100), (240, 150), (128, 128)])
def test_prompts_are_in_pixels_of_the_padded_input(shape, monkeypatch):
    monkeypatch.setattr(prompt_samples, "simulate_box", lambda rng, box, size: box)
    height, width = (round(extent * SIDE / max(shape)) for extent in shape)
    mask = rectangle(round(0.2 * shape[1]), round(0.1 * shape[0]), round(0.5 * shape[1]), round(0.7 * shape[0]), shape)
    for seed in range(6):
        sample = sample_at(seed, sampler_with(PixelCache()), scene_of(mask, shape=shape))
        target = np.kron(sample.target[0].numpy() >= 0.5, np.ones((2, 2), dtype=bool))
        assert not target[height + 1 :].any() and not target[:, width + 1 :].any() and target.any()
        box = sample.boxes[0].numpy()
        assert np.abs(box_of(target) - box).max() <= 1
        assert box[2] - box[0] + 1 == pytest.approx(mask.any(axis=0).sum() * SIDE / max(shape), abs=2)
        assert box[3] - box[1] + 1 == pytest.approx(mask.any(axis=1).sum() * SIDE / max(shape), abs=2)
        for (x, y), label in zip(sample.coords[0].numpy(), sample.labels[0].numpy(), strict=True):
            assert target[round(y), round(x)] == (label == 1)


def test_map_of_the_model_is_resized_and_mirrored_with_the_image():
    shape = (60, 100)
    found = rectangle(10, 5, 39, 24, shape)
    scene = scene_of(probs=probs_of((found, 1, 0.9)), shape=shape)
    scene.image[found, 0] = 220
    for seed in range(8):
        sample = sample_at(seed, sampler_with(PixelCache()), scene)
        seen = box_of(sample.image["features"][0].numpy() > 200) * 1.28
        assert np.abs(sample.boxes[0].numpy() - seen).max() <= 2 * 1.28 + 1.5, "two image pixels of margin, and what resizing rounds"
        assert (sample.known == 1).all() and not sample.target.any()


# prompts for what is no object


def test_a_mask_is_moved_whole_to_where_it_hardly_touches_an_object():
    rng = np.random.default_rng(0)
    objects = OWN | block(60, 60, 90, 90)
    for _ in range(50):
        moved = move_away(rng, OWN, objects)
        assert moved.sum() == OWN.sum() and (moved & objects).sum() <= 0.1 * OWN.sum()
        box, own = box_of(moved), box_of(OWN)
        assert (box[2:] - box[:2] == own[2:] - own[:2]).all(), "not wrapped around the border"


def test_where_there_is_no_place_nothing_is_moved():
    assert move_away(np.random.default_rng(0), OWN, np.ones(SQUARE, dtype=bool)) is None


@pytest.mark.parametrize("negative", [0.0, 0.25, 1.0])
def test_a_share_of_the_prompts_is_negative(negative):
    rows = PromptedObject(*sample_prompts(np.random.default_rng(0), scene_of(OWN), 200, SIDE, MASK_SIZE, negative=negative))
    empty = rows.trust.numpy() == 0
    assert empty.mean() == pytest.approx(negative, abs=0.08) and rows.known.numpy().all()
    assert not rows.target[empty].any() and (rows.target[~empty].flatten(1).sum(dim=1) > 0).all()
    assert (rows.box[empty, 2] > rows.box[empty, 0]).all() and (rows.rough[empty].flatten(1).max(dim=1).values > 0).all()


def test_where_not_every_object_is_known_no_prompt_is_negative():
    scene = replace(scene_of(OWN), exhaustive=False)
    rows = PromptedObject(*sample_prompts(np.random.default_rng(0), scene, 50, SIDE, MASK_SIZE, negative=1.0))
    assert rows.trust.numpy().all() and rows.target.flatten(1).sum(dim=1).numpy().all()


def test_an_object_in_another_is_nested_as_is_the_other():
    whole, part, other = block(10, 10, 60, 60), block(20, 20, 50, 50), block(70, 70, 90, 90)
    layers = np.stack([whole * np.int32(1), part * np.int32(2), other * np.int32(3)])
    scene = replace(scene_of(OWN), layers=layers, class_id=np.ones(3, np.uint8))
    assert [scene.is_nested(scene.mask(i)) for i in range(3)] == [True, True, False]


# crops


def test_a_crop_cuts_all_maps_of_a_scene_alike():
    scene = scene_of(block(20, 30, 59, 69), block(100, 100, 120, 110), probs=probs_of((block(20, 30, 59, 69), 1, 0.9)))
    seen = crop_scene(scene, (10, 25, 70, 75))
    assert seen.image.shape == (50, 60, 3) and seen.valid.shape == (50, 60) and seen.probs.shape == (2, 50, 60)
    assert (box_of(seen.mask(0)) == [10, 5, 49, 44]).all() and not seen.mask(1).any()
    assert ((seen.image[..., 0] == 220) == seen.mask(0)).all() and ((seen.probs[1] > 0.5) == seen.mask(0)).all()


def test_zoom_shows_most_of_an_object_and_little_else():
    scene = scene_of(block(60, 60, 89, 79))
    rng = np.random.default_rng(0)
    shown = [zoom_scene(rng, scene) for _ in range(40)]
    sizes = [max(seen.image.shape[:2]) for seen in shown]
    assert min(sizes) >= 30 and max(sizes) <= 3 * 30 * 1.9 and len(set(sizes)) > 20
    assert np.mean([seen.mask(0).sum() for seen in shown]) > 0.95 * 30 * 20
    empty = scene_of()
    assert zoom_scene(rng, empty) is empty


@pytest.mark.parametrize("crops", [0.0, 0.5, 1.0])
def test_a_share_of_the_scenes_is_seen_as_crops(crops):
    sampler = replace(sampler_with(), augment=None, crops=crops)
    scene = scene_of(block(60, 60, 75, 75))
    large = [sample_at(seed, sampler, scene).target[0].mean().item() > 0.05 for seed in range(30)]
    assert 0.3 < np.mean(large) < 0.7 if crops == 0.5 else all(shown == bool(crops) for shown in large)
