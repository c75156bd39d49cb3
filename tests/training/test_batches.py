import os
import signal
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from builders import as_process
from PIL import Image

from samsemi.data.dataset import IGNORE, Case
from samsemi.errors import DataError, UsageError, device_error
from samsemi.training.batches import (
    Sample,
    SampleSequence,
    Stream,
    augment,
    augment_strongly,
    cut_mix,
    labeled_sample,
    load_batches,
    recolor,
    shuffled,
    to_device,
)

SIZE = 32


def sample_of(name: str) -> Sample:
    """A red L on blue, different for each name; class 1 is where it is red."""
    rng = np.random.default_rng(int(name))
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    y, x = rng.integers(2, 10, size=2)
    mask[y : y + 20, x : x + 6] = mask[y : y + 6, x : x + 18] = True
    image = np.stack([255 * mask, 0 * mask, 255 * ~mask]).astype(np.uint8)
    target = np.stack([~mask, mask]).astype(np.float32)
    return Sample(torch.from_numpy(image), torch.from_numpy(target), torch.ones(SIZE, SIZE))


class Recorder:
    """Loads samples by the number in the case and remembers which."""

    def __init__(self):
        self.loaded: list[str] = []

    def __call__(self, case: str) -> Sample:
        self.loaded.append(case)
        return sample_of(case)


def streams(*parts: tuple[str, int]) -> list[Stream]:
    return [Stream(list(cases), sample_of, per_batch) for cases, per_batch in parts]


def batches_of(parts: list[Stream], seed: int, start: int, stop: int, workers: int = 0):
    samples = SampleSequence(parts, seed)
    return load_batches(samples, samples.order(start, stop), samples.batch_size, workers)


def all_batches(batches) -> list[list[torch.Tensor]]:
    return [[part.clone() for part in batch] for batch in batches]


def assert_equal(first, second) -> None:
    assert len(first) == len(second) > 0
    assert all(torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True))


def write_case(folder, image: np.ndarray, label: np.ndarray, name: str = "a") -> Case:
    paths = [folder / f"{name}.{kind}.png" for kind in ("image", "mask")]
    for path, array in zip(paths, (image, label), strict=True):
        Image.fromarray(array).save(path)
    return Case(name, *paths, truth=None, split="labeled", group=name)


def test_batches_are_the_same_whatever_the_number_of_workers():
    parts = streams(("123", 2), ("45678", 1))
    assert_equal(all_batches(batches_of(parts, 7, 0, 4, 0)), all_batches(batches_of(parts, 7, 0, 4, 2)))


class Named(NamedTuple):
    """What a stream loads that is labeled later."""

    name: str


def labeled_later(seen: list[tuple[str, ...]], *parts: tuple[str, int]) -> list[Stream]:
    """Streams whose samples are made by ``label`` from names; which names it got is noted in ``seen``."""

    def label(loaded: list[Named]) -> list[Sample]:
        seen.append(tuple(found.name for found in loaded))
        return [sample_of(found.name) for found in loaded]

    return [Stream(list(cases), Named, per_batch, label=label) for cases, per_batch in parts]


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_that_are_labeled_later_are_those_that_are_loaded_whole(workers):
    seen: list[tuple[str, ...]] = []
    whole = streams(("123", 2), ("45678", 3))
    late = [whole[0], *labeled_later(seen, ("45678", 3))]
    assert_equal(all_batches(batches_of(late, 7, 2, 6, workers)), all_batches(batches_of(whole, 7, 2, 6)))
    assert [len(names) for names in seen] == [3, 3, 3, 3], "all of a batch at once"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_labeled_only_when_it_is_asked_for(workers):
    """So by the weights after the step before, however far worker processes have loaded."""
    seen: list[tuple[str, ...]] = []
    batches = batches_of(labeled_later(seen, ("45678", 3)), 7, 0, 4, workers)
    counts = []
    for _ in batches:
        counts.append(len(seen))
    assert counts == [1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_labeled_later_and_cannot_be_loaded_is_a_data_error(tmp_path, workers):
    case = Case("a", tmp_path / "a.png", tmp_path / "m.png", None, "labeled", "a")
    broken = Stream([case], partial(labeled_sample, num_classes=2, size=SIZE), 2, label=list)
    with pytest.raises(DataError, match="m.png: no such file"):
        next(batches_of([broken], 0, 0, 1, workers))


def test_batches_are_the_same_wherever_the_loader_starts():
    parts = streams(("123", 2), ("45678", 1))
    whole = all_batches(batches_of(parts, 7, 0, 6, 0))
    torch.rand(5)
    assert_equal(whole[4:], all_batches(batches_of(parts, 7, 4, 6, 0)))


def test_batches_leave_torchs_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    SampleSequence(streams(("12", 1)), 0)[0]
    assert torch.rand(1) == expected


def test_other_seeds_and_other_samples_differ():
    images = [SampleSequence(streams(("1", 1)), seed)[n][0] for seed, n in ((0, 0), (0, 1), (1, 0))]
    assert not any(torch.equal(images[i], images[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(("count", "per_batch"), [(5, 2), (3, 4), (1, 3), (6, 6)])
def test_each_epoch_of_a_stream_covers_all_its_cases_once(count, per_batch):
    recorder = Recorder()
    names = [str(i) for i in range(count)]
    samples = SampleSequence([Stream(names, recorder, per_batch)], 0)
    for n in range(3 * count):
        samples[n]
    epochs = [recorder.loaded[i : i + count] for i in range(0, 3 * count, count)]
    assert all(sorted(epoch) == names for epoch in epochs)
    assert count < 5 or len({tuple(epoch) for epoch in epochs}) == 3, "each epoch has an order of its own"


def test_order_changes_with_the_epoch_the_stream_and_the_seed():
    orders = [tuple(shuffled(*key, 50)) for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    assert len(set(orders)) == 4


def test_every_batch_takes_its_share_of_each_stream_in_order():
    first, second = Recorder(), Recorder()
    samples = SampleSequence([Stream(["1", "2", "3"], first, 2), Stream(["4", "5", "6", "7"], second, 3)], 0)
    for n in range(15):
        before = len(first.loaded), len(second.loaded)
        samples[n]
        assert (len(first.loaded) > before[0]) == (n % 5 < 2) and (len(second.loaded) > before[1]) == (n % 5 >= 2)
    assert len(first.loaded) == 6 and sorted(first.loaded) == ["1", "1", "2", "2", "3", "3"]
    assert len(second.loaded) == 9 and sorted(second.loaded[:4]) == ["4", "5", "6", "7"]


def test_processes_have_the_batches_of_one(monkeypatch):
    """Each has its share of every stream in every batch."""
    samples = SampleSequence(streams(("123", 2), ("45678", 4)), 7)
    whole = all_batches(batches_of(streams(("123", 2), ("45678", 4)), 7, 1, 4))
    for rank, own in enumerate(([0, 2, 3], [1, 4, 5])):
        as_process(monkeypatch, rank, 2)
        share = all_batches(load_batches(samples, samples.order(1, 4), 3, workers=0))
        assert_equal(share, [[part[own] for part in batch] for batch in whole])


def test_batches_that_processes_cannot_share_evenly_are_wrong_usage(monkeypatch):
    as_process(monkeypatch, 0, 3)
    with pytest.raises(UsageError, match="--batch-size 10: 3 processes cannot share batches of 3 and 7 images evenly") as error:
        SampleSequence(streams(("123", 3), ("45678", 7)), 7)
    assert "multiple of 3" in error.value.hint


def test_parts_of_a_batch_are_moved_also_those_by_name():
    batch = Sample({"features": torch.zeros(2, 3), "fine": torch.zeros(2, 4)}, torch.zeros(2, 5), torch.zeros(2))
    moved = to_device(batch, torch.device("meta"))
    assert isinstance(moved, Sample) and list(moved.image) == ["features", "fine"]
    assert {part.device.type for part in (*moved.image.values(), moved.target, moved.weight)} == {"meta"}


def test_a_small_stream_is_repeated_beside_a_large_one():
    batches = all_batches(batches_of(streams(("1", 1), ("23456789", 1)), 0, 0, 8, 0))
    assert len(batches) == 8 and all(batch[0].shape == (2, 3, SIZE, SIZE) for batch in batches)


def test_batch_holds_images_in_0_to_1_targets_and_weights():
    [(images, targets, weights)] = batches_of(streams(("12", 2)), 0, 0, 1, 0)
    assert images.dtype == targets.dtype == weights.dtype == torch.float32
    assert (images.shape, targets.shape, weights.shape) == ((2, 3, SIZE, SIZE), (2, 2, SIZE, SIZE), (2, SIZE, SIZE))
    assert images.min() >= 0 and 0.5 < images.max() <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_cannot_be_read_is_a_data_error_also_from_a_worker(tmp_path, workers):
    case = Case("a", tmp_path / "a.png", tmp_path / "m.png", None, "labeled", "a")
    broken = Stream([case], partial(labeled_sample, num_classes=2, size=SIZE), 2)
    with pytest.raises(DataError, match="m.png: no such file") as caught:
        next(batches_of([broken], 0, 0, 1, workers))
    assert caught.value.hint


@pytest.mark.parametrize("seed", range(12))
def test_augmentation_keeps_image_and_target_together(seed):
    torch.manual_seed(seed)
    sample = augment(sample_of("5"))
    valid = sample.weight > 0
    red = (sample.image[0] > sample.image[2]) & valid
    true = (sample.target[1] > 0.5) & valid
    assert true.sum() > 50
    assert (red & true).sum() / (red | true).sum() > 0.85


def test_augmentation_flips_turns_and_scales():
    found = set()
    for seed in range(30):
        torch.manual_seed(seed)
        target = augment(sample_of("5")).target[1]
        found.add(int(target.sum()))
    assert len(found) > 20 and max(found) > 1.3 * min(found)


@pytest.mark.parametrize("seed", range(8))
def test_augmented_target_is_one_hot_inside_and_has_weight_0_outside(seed):
    white = Sample(torch.full((3, SIZE, SIZE), 255, dtype=torch.uint8), sample_of("5").target, torch.ones(SIZE, SIZE))
    torch.manual_seed(seed)
    sample = augment(white)
    assert set(sample.weight.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(sample.target.sum(dim=0), sample.weight)
    bright = sample.image.mean(dim=0) > 0.5
    assert ((sample.weight == 1) == bright).float().mean() > 0.96


def test_augmentation_does_bring_in_what_is_outside():
    weights = []
    for seed in range(10):
        torch.manual_seed(seed)
        weights.append(augment(sample_of("5")).weight.mean().item())
    assert min(weights) < 0.97 and min(weights) > 0.4


def test_weight_0_stays_0_under_augmentation():
    sample = sample_of("5")
    ignored = Sample(sample.image, sample.target, torch.zeros(SIZE, SIZE))
    torch.manual_seed(0)
    assert not augment(ignored).weight.any()


def test_labeled_sample_is_one_hot_with_weight_0_where_ignored(tmp_path):
    label = np.array([[0, 1, 2, IGNORE], [0, 0, 2, 2], [1, 1, IGNORE, 0], [2, 2, 2, 1]], dtype=np.uint8)
    image = np.random.default_rng(0).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    sample = labeled_sample(write_case(tmp_path, image, label), num_classes=3, size=4)
    assert torch.equal(sample.image, torch.from_numpy(image).permute(2, 0, 1))
    assert torch.equal(sample.weight, torch.from_numpy(label != IGNORE).float())
    for k in range(3):
        assert torch.equal(sample.target[k][sample.weight > 0], torch.from_numpy(label == k)[sample.weight > 0].float())
    assert torch.equal(sample.target.sum(dim=0), torch.ones(4, 4))


def test_labeled_sample_resizes_without_mixing_classes(tmp_path):
    label = np.zeros((60, 90), dtype=np.uint8)
    label[:30, 45:] = 3
    label[30:, 45:] = IGNORE
    image = np.repeat((label == 3).astype(np.uint8)[..., None] * 255, 3, axis=2)
    sample = labeled_sample(write_case(tmp_path, image, label), num_classes=4, size=32)
    assert sample.target[3][:16, 16:].all() and not sample.target[3][:, :16].any()
    assert not sample.target[1].any() and not sample.target[2].any()
    assert not sample.weight[16:, 16:].any() and sample.weight[:16].all() and sample.weight[:, :16].all()
    assert (sample.image[0, :15, 17:] == 255).all() and (sample.image[0, 17:] == 0).all()


def test_labeled_sample_refuses_a_class_that_there_is_not(tmp_path):
    case = write_case(tmp_path, np.zeros((4, 4, 3), dtype=np.uint8), np.full((4, 4), 2, dtype=np.uint8))
    with pytest.raises(DataError, match=r"\[2\]"):
        labeled_sample(case, num_classes=2, size=4)


def batch_of(count: int) -> Sample:
    """Every pixel of a sample, in image, target and weight, says which one it is."""
    own = torch.arange(1.0, count + 1)
    return Sample(*(own.view(count, *[1] * (len(shape))).expand(count, *shape).clone() for shape in ((3, 24, 40), (2, 24, 40), (24, 40))))


def test_cut_mix_takes_a_rectangle_of_the_next_sample_image_target_and_weight_together():
    torch.manual_seed(0)
    mixed_samples = 0
    for _ in range(20):
        mixed = cut_mix(batch_of(4))
        for i in range(4):
            taken = mixed.weight[i] != i + 1
            assert set(mixed.weight[i][taken].tolist()) <= {(i + 1) % 4 + 1}
            assert torch.equal(mixed.image[i], mixed.weight[i].expand(3, -1, -1))
            assert torch.equal(mixed.target[i], mixed.weight[i].expand(2, -1, -1))
            if taken.any():
                mixed_samples += 1
                rows, columns = taken.any(dim=1).nonzero().flatten(), taken.any(dim=0).nonzero().flatten()
                assert taken[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
                assert 0.1 < taken.float().mean() < 0.55
    assert 25 <= mixed_samples <= 55, "half of the samples"


def test_cut_mix_cuts_whatever_else_a_batch_has():
    class Named(NamedTuple):
        image: torch.Tensor
        target: torch.Tensor
        weight: torch.Tensor
        said: torch.Tensor

    torch.manual_seed(0)
    batch = batch_of(4)
    mixed = cut_mix(Named(*batch, batch.target * 2))
    assert torch.equal(mixed.said, mixed.target * 2) and not torch.equal(mixed.target, batch.target)


def test_cut_mix_leaves_a_single_sample_alone():
    assert torch.equal(cut_mix(batch_of(1)).image, batch_of(1).image)
    assert len(cut_mix(batch_of(0)).image) == 0


@pytest.mark.parametrize("seed", range(4))
def test_strong_augmentation_moves_image_and_target_alike_and_recolors_the_image_alone(seed):
    torch.manual_seed(seed)
    image, target, weight = augment_strongly(sample_of("3"))
    assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
    inside = weight == 1
    assert torch.equal(target.sum(dim=0)[inside], torch.ones_like(weight[inside])) and set(target.unique().tolist()) <= {0, 1}


def test_recolored_images_stay_where_they_are_and_each_changes_by_itself():
    torch.manual_seed(0)
    images = torch.zeros(12, 3, SIZE, SIZE)
    images[..., SIZE // 2 :] = 0.6
    changed = recolor(images)
    assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 1
    assert (changed[..., -1] > changed[..., 0]).all(), "dark and bright are where they were"
    assert len({round(value, 4) for value in changed[:, 0, 0, -1].tolist()}) > 6


def test_strong_augmentation_changes_colors_more():
    gray = Sample(torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8), torch.ones(1, SIZE, SIZE), torch.ones(SIZE, SIZE))

    def spread(change) -> float:
        torch.manual_seed(0)
        return torch.stack([change(gray).image[:, SIZE // 2, SIZE // 2] for _ in range(60)]).std().item()

    assert spread(augment_strongly) > 1.3 * spread(augment)


def test_loading_process_that_is_killed_is_an_error_of_the_machine():
    """As the system does where memory lacks."""
    stream = Stream(["3"] * 4, lambda case: os.kill(os.getpid(), signal.SIGKILL), 2)
    with pytest.raises(RuntimeError) as caught:
        next(batches_of([stream], 0, 0, 2, workers=1))
    found = device_error(caught.value)
    assert found and found.exit_code == 6 and "(pid" in found.message
