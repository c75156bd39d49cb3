import pytest
from builders import ALL, block, mined_of

from samsemi.mining import drift
from samsemi.mining.drift import measure_drift, warn_of_drift
from samsemi.mining.store import Provenance, Store
from samsemi.mining.store_writer import StoreWriter


def store_of(path, **maps) -> Store:
    """One object in each named image, with its probability map; None where nothing was found."""
    writer = StoreWriter(path, Provenance({}, {}, {}), 16, 0, 2)
    for name, probs in maps.items():
        writer.add(name, (16, 16, 3), mined_of(*([] if probs is None else [probs]), image_size=(16, 16)))
    writer.commit(0)
    writer.finish(list(maps))
    return Store(path)


def test_drift_counts_lost_images_and_flipped_pixels(tmp_path):
    before = store_of(tmp_path / "a.h5", one=block(0, 8, 0, 8), two=block(0, 8, 0, 8), three=block(0, 4, 0, 4), four=None)
    after = store_of(tmp_path / "b.h5", one=block(0, 8, 0, 8), two=block(0, 8, 8, 16), three=None, four=None)
    found = measure_drift(before, ALL, after, ALL, 2)
    assert found == {"coverage": 0.5, "coverage_before": 0.75, "flips": pytest.approx(128 / (64 + 128))}


def test_the_same_store_does_not_drift(tmp_path):
    store = store_of(tmp_path / "a.h5", one=block(0, 8, 0, 8))
    assert measure_drift(store, ALL, store, ALL, 2) == {"coverage": 1, "coverage_before": 1, "flips": 0}


def test_stores_without_a_common_image_have_nothing_to_flip(tmp_path):
    first, second = (
        store_of(tmp_path / "a.h5", one=block(0, 8, 0, 8), two=None),
        store_of(tmp_path / "b.h5", one=None, two=block(0, 8, 0, 8)),
    )
    assert measure_drift(first, ALL, second, ALL, 2)["flips"] == 0


def test_no_more_images_are_read_than_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(drift, "SAMPLED", 3)
    maps = {f"{i:02d}": block(0, 8, 0, 8) for i in range(20)}
    store, read = store_of(tmp_path / "a.h5", **maps), []
    original = Store.read
    monkeypatch.setattr(Store, "read", lambda self, name, maps=True: (read.append(name) if maps else None, original(self, name, maps))[1])
    measure_drift(store, ALL, store, ALL, 2)
    assert len(read) == 6 and {"00", "19"} <= set(read)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"coverage": 0.5, "coverage_before": 0.5, "flips": 0.1}, []),
        ({"coverage": 0.3, "coverage_before": 0.5, "flips": 0.1}, ["30% of the images", "50% had before"]),
        ({"coverage": 0.6, "coverage_before": 0.5, "flips": 0.7}, ["70% of the labeled pixels changed"]),
    ],
)
def test_alarm_sounds_where_coverage_shrinks_or_labels_flip(caplog, found, said):
    warn_of_drift(found, "round 2")
    shown = caplog.text
    assert all(text in shown for text in said) and bool(said) == ("round 2" in shown)
