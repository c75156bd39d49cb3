"""The harness itself: what is sound survives it, and writers that are broken on purpose do not."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest
from faults import kills
from faults.damage import SUBJECTS, damage
from faults.jobs import RESUME, Job, mine, predict
from faults.kills import Place, kill_job
from faults.tally import HEADER, Tally, show

from samsemi import outputs
from samsemi.mining.store_writer import StoreWriter

MINE = Job("mine", 1, mine("--sam", "none"), "out.h5", RESUME)
PREDICT = Job("predict", 1, predict, "out/*.png", RESUME, count=24)
KILLS = 5


@pytest.fixture
def place(world, tmp_path, monkeypatch) -> Place:
    """Where jobs are killed just before a change of a file, which is quick."""
    monkeypatch.setattr(kills, "by_change", lambda dice, real: True)
    return Place(world, tmp_path / "sandbox")


def everywhere(monkeypatch, name: str, function: object) -> None:
    """Replace what samsemi.outputs gives in every module that has imported it."""
    original = getattr(outputs, name)
    for module in [module for key, module in sys.modules.items() if key.startswith("samsemi")]:
        if getattr(module, name, None) is original:
            monkeypatch.setattr(module, name, function)


@contextmanager
def final_name_at_once(path: Path, sync: bool = True) -> Iterator[Path]:
    """A writer that writes where readers look."""
    outputs.make_folder(Path(path).parent)
    for _ in range(10):  # moments to be killed at, while it is empty
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    yield Path(path)


@contextmanager
def never_synced(path: Path, sync: bool = True) -> Iterator[Path]:
    """A writer that does not wait until it is on disk."""
    with whole_file(path, sync=False) as part:
        yield part


whole_file = outputs.whole_file


def no_checksums(group: h5py.Group, name: str, *arguments: object, **options: object) -> h5py.Dataset:
    """A writer of HDF5 whose rows have no checksum."""
    return create_dataset(group, name, *arguments, **{**options, "fletcher32": None})


create_dataset = h5py.Group.create_dataset


@pytest.mark.parametrize("job", [MINE, PREDICT], ids=lambda job: job.name)
def test_sound_writers_survive(place, job):
    tally = kill_job(job, place, KILLS, real=0)
    assert not tally.failures() and (tally.tried, tally.survived) == (KILLS, KILLS)


@pytest.mark.parametrize("job", [MINE, PREDICT], ids=lambda job: job.name)
def test_writer_to_the_final_name_is_found(place, monkeypatch, job):
    everywhere(monkeypatch, "whole_file", final_name_at_once)
    assert any("does not open" in line for line in kill_job(job, place, KILLS, real=0).lost)


def test_writer_that_does_not_sync_is_found(place, monkeypatch):
    everywhere(monkeypatch, "whole_file", never_synced)
    assert "not on disk before it gets its name: out.h5" in kill_job(MINE, place, 1, real=0).lost


def test_writer_that_forgets_on_resumption_is_found(place, monkeypatch):
    monkeypatch.setattr(StoreWriter, "has_part", lambda writer, number: any(writer.parts.glob("*.h5")))
    assert any("out.h5" in line for line in kill_job(MINE, place, 3 * KILLS, real=0).lost)


def damage_cache(place: Place) -> Tally:
    """Bits of a cache that is made here."""
    cached = mine("--embeddings", place.world.cache)(place.world)
    assert kills.run(cached, place.world.root, place.log).code == 0
    return damage(next(subject for subject in SUBJECTS if subject.kind == "cache"), place, 6, seed=1)


def test_bits_of_a_cache_are_found_by_their_checksum(place):
    tally = damage_cache(place)
    assert not tally.lost and tally.hits["middle"] > 2, "of those cut short alone there are two"


def test_reader_without_checksums_is_found(place, monkeypatch):
    monkeypatch.setattr(h5py.Group, "create_dataset", no_checksums)
    assert any("used silently" in line for line in damage_cache(place).lost)


def test_kills_that_never_hit_the_middle_are_a_failure():
    tally = Tally("kill mine")
    tally.add("loading", [])
    tally.add("closing", [])
    assert tally.failures() == ["kill mine: no try of 2 hit the middle"]
    tally.add("middle", [])
    assert not tally.failures()


def test_table_shows_every_column_and_every_loss():
    tally = Tally("kill mine")
    tally.add("middle", ["out.h5 is missing"])
    text = show([tally], 3)
    assert text.splitlines()[0].split() == list(HEADER)
    assert "kill mine: out.h5 is missing" in text and "1 tried, 0 survived, 1 items lost" in text
