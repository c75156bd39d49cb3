"""Samples that stay in memory: the same bits as those that are loaded again, within their bytes."""

from functools import partial
from pathlib import Path

import pytest
import torch
from builders import NETWORK, succeed

from samsemi.data.dataset import Case
from samsemi.training import batches
from samsemi.training.batches import Sample, SampleSequence, Stream, load_batches
from samsemi.training.kept import KeptSamples

SIZE = 16
CASES = [Case(name, Path("i"), None, None, "labeled", name) for name in "abcde"]


class Loader:
    """Draws the sample of a case, a soft target or a hard one, and counts."""

    def __init__(self, hard: bool = True):
        self.hard, self.loaded = hard, []

    def __call__(self, case: Case) -> Sample:
        self.loaded.append(case.id)
        generator = torch.Generator().manual_seed(ord(case.id))
        probs = torch.rand(2, SIZE, SIZE, generator=generator).softmax(dim=0)
        target = (probs == probs.amax(dim=0)).float() if self.hard else probs
        image = torch.randint(256, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
        return Sample(image, target, (probs[0] > 0.4).float() * (1 if self.hard else 0.3))


def sequence(load) -> SampleSequence:
    return SampleSequence([Stream(CASES, load, 2)], seed=3)


def assert_same(one, other) -> None:
    for first, second in zip(one, other, strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_kept_samples_are_those_that_are_loaded_and_each_is_loaded_once(hard):
    load = Loader(hard)
    kept = sequence(KeptSamples(load))
    made = [kept[n] for n in range(20)]
    assert sorted(load.loaded) == sorted(case.id for case in CASES)
    assert_same(made, [sequence(Loader(hard))[n] for n in range(20)])


def test_what_does_not_fit_is_loaded_every_time():
    load, one = Loader(hard=False), SIZE * SIZE * (3 + 4 * 3)
    kept = KeptSamples(load, most=2 * one + 1)
    for _ in range(3):
        assert_same(map(kept, CASES), map(Loader(hard=False), CASES))
    assert load.loaded == [*"abcde", *"cde", *"cde"] and kept.bytes == 2 * one


def test_hard_targets_take_a_byte_of_each_pixel():
    kept = KeptSamples(Loader())
    kept(CASES[0])
    assert kept.bytes == SIZE * SIZE * (3 + 2 + 1)


def test_worker_processes_share_the_bytes(monkeypatch):
    load = Loader()
    kept = KeptSamples(load, most=2 * SIZE * SIZE * 6)
    monkeypatch.setattr("samsemi.training.kept.get_worker_info", lambda: type("Worker", (), {"num_workers": 2}))
    [kept(case) for _ in range(2) for case in CASES[:2]]
    assert load.loaded == ["a", "b", "b"]


def test_batches_of_kept_samples_are_the_same_whatever_the_number_of_workers():
    made = partial(load_batches, order=range(8), batch_size=2)
    for workers in (0, 2):
        assert_same(made(sequence(KeptSamples(Loader())), workers=workers), made(sequence(Loader()), workers=0))


def test_each_image_is_decoded_once_by_a_training(dataset, tmp_path, monkeypatch):
    read, decoded = batches.read_case_image, []

    def note(case: Case):
        decoded.append(case.id)
        return read(case)

    monkeypatch.setattr(batches, "read_case_image", note)
    succeed("warmstart", dataset, "--out", tmp_path / "run", *NETWORK, "--iterations", 4, "--batch-size", 9, "--validate-every", 4)
    assert len(decoded) == len(set(decoded)) == 9
