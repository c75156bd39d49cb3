"""HDF5 files that lead out of themselves are refused wherever one is opened; what is damaged is named."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from samsemi.errors import CheckpointError
from samsemi.hdf5 import MOST_OBJECTS, large_hdf5, named_damage, need_dataset, new_hdf5, open_hdf5, read_whole
from samsemi.inspection.things import inspect
from samsemi.mining.folds import FoldMaps
from samsemi.mining.store import Store, read_provenance
from samsemi.sam.embeddings import EmbeddingCache

SCHEMAS = {"store": "samsemi.pseudo-labels/2", "folds": "samsemi.out-of-fold/1", "cache": "samsemi.embeddings/1"}


def external_link(file: h5py.File, other: Path) -> None:
    file["probs"] = h5py.ExternalLink(str(other), "/secret")


def soft_link(file: h5py.File, other: Path) -> None:
    file["probs"] = h5py.SoftLink("/elsewhere")


def link_in_a_group(file: h5py.File, other: Path) -> None:
    file.create_group("points")["coords"] = h5py.ExternalLink(str(other), "/secret")


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(other), "secret", (4,))
    file.create_virtual_dataset("probs", layout)


def raw_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("probs", (4,), "u1", external=[(str(other), 0, 4)])


def own_filter(file: h5py.File, other: Path) -> None:
    file.create_dataset("probs", (4,), "u1", chunks=(4,), compression="lzf")


def many_objects(file: h5py.File, other: Path) -> None:
    for number in range(MOST_OBJECTS + 1):
        file[str(number)] = 0


def group_in_itself(file: h5py.File, other: Path) -> None:
    group = file.create_group("points")
    group["again"] = group


WAYS_OUT = [external_link, soft_link, link_in_a_group, virtual, raw_storage, own_filter, many_objects, group_in_itself]
SAM = SimpleNamespace(name="tiny", identity="x")
OPENERS: dict[str, tuple[str, Callable]] = {
    "Store": ("store", Store),
    "read_provenance": ("store", read_provenance),
    "FoldMaps": ("folds", FoldMaps),
    "EmbeddingCache": ("cache", lambda path: EmbeddingCache(path, SAM)),
    **{f"info of a {kind}": (kind, inspect) for kind in SCHEMAS},
}


@pytest.mark.parametrize("way", WAYS_OUT, ids=lambda way: way.__name__)
@pytest.mark.parametrize("opener", OPENERS)
def test_file_that_leads_out_of_itself_is_refused_wherever_it_is_opened(tmp_path, opener, way):
    kind, open_it = OPENERS[opener]
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.arange(4, dtype=np.uint8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["schema"] = SCHEMAS[kind]
        way(file, tmp_path / "secret.h5")
    before = (tmp_path / "x.h5").read_bytes()
    with pytest.raises(CheckpointError, match=r"x\.h5") as caught:
        open_it(tmp_path / "x.h5")
    said = caught.value.message
    assert "link" in said or "in other files" in said or "more than" in said
    assert (tmp_path / "x.h5").read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("opener", ["Store", "EmbeddingCache"])
def test_pipe_is_not_waited_for(tmp_path, opener):
    os.mkfifo(tmp_path / "x.h5")
    with pytest.raises(CheckpointError, match="not a regular file"):
        OPENERS[opener][1](tmp_path / "x.h5")


def test_dataset_of_another_type_or_shape_is_named(tmp_path):
    row = np.dtype([("id", h5py.string_dtype()), ("n", "i4")])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["maps"] = np.zeros((2, 3), np.float32)
        file.create_dataset("rows", (2,), row)
        file.create_group("group")
    with open_hdf5(tmp_path / "x.h5", "again") as file:
        assert need_dataset(file, "maps", np.dtype("f4"), (2, None), "again").shape == (2, 3)
        assert need_dataset(file, "rows", row, (None,), "again").shape == (2,)
        for name, kind, shape, said in (
            ("maps", np.dtype("u1"), (2, 3), "maps is float32"),
            ("maps", np.dtype("f4"), (2, 4), r"\(2, 3\), not float32 2 x 4"),
            ("maps", np.dtype("f4"), (2,), "not float32 2"),
            ("rows", np.dtype([("id", h5py.string_dtype()), ("n", "i8")]), (None,), "rows is"),
            ("none", np.dtype("f4"), (2,), "it lacks none"),
            ("group", np.dtype("f4"), (2,), "it lacks group"),
        ):
            with pytest.raises(CheckpointError, match=said) as caught:
                need_dataset(file, name, kind, shape, "again")
            assert caught.value.hint == "again"


def test_shape_that_the_file_does_not_hold_is_not_filled_up(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("huge", (2**50,), "u1", chunks=(1024,))
        file.create_dataset("packed", (2**50,), "u1", chunks=(1024,), compression="gzip")
        file["whole"] = np.arange(5)
    with open_hdf5(tmp_path / "x.h5", "again") as file:
        assert read_whole(file["whole"]).tolist() == [0, 1, 2, 3, 4]
        for name in ("huge", "packed"):
            with pytest.raises(CheckpointError, match="x is damaged .*fewer bytes"), named_damage("x", "again"):
                read_whole(file[name])


def fill(file: h5py.File) -> None:
    file.attrs["schema"] = "samsemi.test/1"
    file["probs"] = np.arange(1000)


def test_large_file_is_the_same_as_one_made_in_memory_whatever_room_was_reserved(tmp_path):
    with new_hdf5(tmp_path / "a.h5") as file:
        fill(file)
    with large_hdf5(tmp_path / "b.h5", 10**7) as file:
        fill(file)
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name) as file:
            assert file["probs"][:].tolist() == list(range(1000)) and file.attrs["schema"] == "samsemi.test/1"
        assert (tmp_path / name).stat().st_size < 20_000


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS cannot reserve room")
def test_large_file_that_finds_no_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match=r"No space left.*b\.h5"), large_hdf5(tmp_path / "b.h5", 10**7):
        pytest.fail("was written to")
    assert not list(tmp_path.iterdir())


def test_file_that_fails_leaves_nothing(tmp_path):
    for make in (new_hdf5, lambda path: large_hdf5(path, 1000)):
        with pytest.raises(KeyError), make(tmp_path / "a.h5") as file:
            fill(file)
            raise KeyError
    assert not list(tmp_path.iterdir())
