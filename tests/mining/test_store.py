import json
import os
import pickle
from dataclasses import fields

import h5py
import numpy as np
import pytest
from builders import file_bytes, files_in
from torch.utils.data import DataLoader

from samsemi.errors import CheckpointError, RefusedError
from samsemi.mining import store_tables, store_writer
from samsemi.mining.store import (
    IMAGE_ROW,
    NEW_COLUMNS,
    OBJECT_ROW,
    SCHEMA,
    Mined,
    Provenance,
    Store,
    convert_objects,
    read_provenance,
    rebuild_maps,
)
from samsemi.mining.store_writer import StoreWriter, parts_of
from samsemi.outputs import locked_output
from samsemi.sam.prompts import Prompts

SIZE, POINTS, CLASSES = 8, 3, 4
PROVENANCE = Provenance({"prompts": "box+point"}, {"dataset": "d0", "model": "m0", "sam": "tiny"}, {"min_agreement": 0.5})
SCORE_NAMES = ("predicted_iou", "stability", "agreement", "consensus", "confidence", "area_ratio", "ensemble")
COUNTS = {"a": 2, "b": 0, "c": 1, "d": 3, "e": 0}


def mined_of(name: str, count: int) -> tuple[Mined, Prompts]:
    """Random objects, different for each name and the same each time."""
    rng = np.random.default_rng(ord(name))
    scores = {key: rng.random(count).astype(np.float32) for key in SCORE_NAMES}
    mined = Mined(
        image_size=(40 + ord(name), 60),
        class_id=rng.integers(1, 4, count).astype(np.uint8),
        **{key: np.sort(rng.random((count, 4)).astype(np.float32)) for key in ("boxes", "prompt_boxes", "windows")},
        area=rng.integers(1, 2**40, count),
        probs=rng.integers(0, 256, (count, SIZE, SIZE)).astype(np.uint8),
        network_probs=rng.integers(0, 256, (CLASSES, SIZE, SIZE)).astype(np.uint8),
        components=rng.integers(0, count + 1, (SIZE, SIZE)).astype(np.uint16),
        **scores,
    )
    points = rng.random((count, POINTS, 2)).astype(np.float32), rng.integers(0, 2, (count, POINTS)).astype(np.int32)
    return mined, Prompts(mined.boxes, *points)


def writer_of(path, provenance=PROVENANCE, num_points=POINTS, **how) -> StoreWriter:
    return StoreWriter(path, provenance, SIZE, num_points, CLASSES, **how)


def commit(writer: StoreWriter, number: int, names: str) -> None:
    """A part with some of the images of COUNTS; 'e' cannot be read."""
    for name in names:
        if name == "e":
            writer.add_unreadable(name)
        else:
            mined, prompts = mined_of(name, COUNTS[name])
            writer.add(name, (*mined.image_size, 3), mined, prompts)
    writer.commit(number)


def write_store(path, parts=("ab", "c", "de"), **how) -> Store:
    writer = writer_of(path, **how)
    for number, names in enumerate(parts):
        commit(writer, number, names)
    writer.finish([*"".join(parts)])
    return Store(path)


def assert_same_mined(found: Mined, expected: Mined) -> None:
    for field in fields(Mined):
        assert np.array_equal(getattr(found, field.name), getattr(expected, field.name)), field.name


def content(path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: repr(item[:].tolist())}) if isinstance(item, h5py.Dataset) else None)
        return found | dict(file.attrs)


def test_what_was_added_is_read_back(tmp_path):
    store = write_store(tmp_path / "s.h5")
    assert store.ids == list("abcde") and store.provenance == PROVENANCE and store.mask_size == SIZE
    for name in "abcd":
        mined, prompts = mined_of(name, COUNTS[name])
        assert_same_mined(store.read(name), mined)
        coords, labels = store.read_points(name)
        assert np.array_equal(coords, prompts.point_coords) and np.array_equal(labels, prompts.point_labels)


def test_scores_are_read_without_the_maps(tmp_path):
    store = write_store(tmp_path / "s.h5")
    mined = store.read("d", maps=False)
    assert np.array_equal(mined.stability, mined_of("d", 3)[0].stability) and len(mined) == 3
    assert mined.probs.size == mined.network_probs.size == mined.components.size == 0


def test_image_without_objects_and_unreadable_image_are_kept_as_such(tmp_path):
    store = write_store(tmp_path / "s.h5")
    for name, size, readable in (("b", (40 + ord("b"), 60), True), ("e", (0, 0), False)):
        mined = store.read(name)
        assert len(mined) == 0 and mined.probs.shape == (0, SIZE, SIZE) and mined.image_size == store.image_size(name) == size
        assert store.images[store.row[name]]["readable"] == readable
        assert store.read_points(name)[0].shape == (0, POINTS, 2)
        assert mined.network_probs.shape == (CLASSES, SIZE, SIZE) and mined.network_probs.any() == readable


def test_store_without_any_object_or_any_image_is_a_store(tmp_path):
    assert write_store(tmp_path / "b.h5", parts=("b", "e")).read("b").probs.shape == (0, SIZE, SIZE)
    assert write_store(tmp_path / "none.h5", parts=()).ids == []


def test_store_without_points(tmp_path):
    store = write_store(tmp_path / "s.h5", num_points=0)
    assert store.read_points("d")[0].shape == (3, 0, 2)
    assert_same_mined(store.read("d"), mined_of("d", 3)[0])


def test_store_is_plain_hdf5_as_its_docstring_says(tmp_path):
    write_store(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        assert file.attrs["schema"] == SCHEMA == "samsemi.pseudo-labels/2"
        assert {name: json.loads(file.attrs[name]) for name in ("config", "made_from", "policy")} == {
            "config": PROVENANCE.config,
            "made_from": PROVENANCE.made_from,
            "policy": PROVENANCE.policy,
        }
        assert file["images"]["id"].tolist() == [b"a", b"b", b"c", b"d", b"e"]
        assert file["images"]["num_objects"].tolist() == [2, 0, 1, 3, 0]
        assert file["images"]["first_object"].tolist() == [0, 2, 2, 3, 6]
        assert file["objects"]["image"].tolist() == [0, 0, 2, 3, 3, 3]
        assert set(file["objects"].dtype.names) >= {"image", "class_id", "box", "predicted_iou", "stability", "agreement", "area"}
        assert file["points/coords"].shape == (6, POINTS, 2) and file["points/labels"].shape == (6, POINTS)
        probs = file["probs"]
        assert (probs.dtype, probs.shape, probs.chunks) == (np.uint8, (6, SIZE, SIZE), (1, SIZE, SIZE))
        assert (probs.compression, probs.compression_opts) == ("gzip", 1)
        assert np.array_equal(probs[3:6], mined_of("d", 3)[0].probs)
        network, components = file["network_probs"], file["components"]
        assert (network.dtype, network.shape, network.chunks) == (np.uint8, (5, CLASSES, SIZE, SIZE), (1, CLASSES, SIZE, SIZE))
        assert (components.dtype, components.shape, components.chunks) == (np.uint16, (5, SIZE, SIZE), (1, SIZE, SIZE))
        assert np.array_equal(network[3], mined_of("d", 3)[0].network_probs) and not network[4].any()


def test_networks_map_of_schema_1_is_rebuilt_from_the_maps_of_its_objects():
    """In each, the other objects of its class were taken out; a pixel is the object's that has most of it, above one half."""
    prior = np.array([[[255, 51, 0, 0]], [[51, 204, 153, 0]], [[0, 0, 153, 102]]], np.uint8)
    maps = rebuild_maps(prior, np.array([1, 1, 2]), 3)
    assert maps["network_probs"][:, 0].tolist() == [[0, 51, 0, 153], [255, 204, 128, 0], [0, 0, 128, 102]]
    assert maps["components"].tolist() == [[1, 2, 2, 0]]


def test_boxes_of_schema_1_had_the_margin_of_the_options_within_the_image():
    images = np.array([("a", 20, 30, 0, 1, True), ("b", 8, 9, 1, 1, True)], IMAGE_ROW)
    columns = [name for name in OBJECT_ROW.names if name not in NEW_COLUMNS]
    objects = np.zeros(2, OBJECT_ROW)[columns]
    objects["image"], objects["box"] = [0, 1], [[1, 5, 10, 15], [4, 4, 6, 6]]
    converted = convert_objects(objects, images, {"box_margin": 3})
    assert converted["prompt_box"].tolist() == [[0, 2, 13, 18], [1, 1, 8, 7]]
    assert converted["window"].tolist() == [[0, 0, 30, 20], [0, 0, 9, 8]] and (converted["box"] == objects["box"]).all()


def test_order_is_that_of_the_parts_whatever_the_order_of_writing(tmp_path):
    writer = writer_of(tmp_path / "s.h5")
    for number, names in ((2, "de"), (0, "ab"), (1, "c")):
        commit(writer, number, names)
    writer.finish([*"abcde"])
    write_store(tmp_path / "t.h5")
    assert content(tmp_path / "s.h5") == content(tmp_path / "t.h5")


def test_parts_are_removed_when_finished(tmp_path):
    write_store(tmp_path / "s.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


def test_resumed_store_keeps_the_parts_and_equals_an_uninterrupted_one(tmp_path):
    path = tmp_path / "s.h5"
    writer = writer_of(path)
    commit(writer, 0, "ab")
    before = os.stat(writer.part_path(0)).st_mtime_ns
    writer.add_unreadable("c")  # in flight when killed
    again = writer_of(path, resume=True)
    assert not again.is_finished() and again.has_part(0) and not again.has_part(1)
    commit(again, 1, "c")
    commit(again, 2, "de")
    assert os.stat(again.part_path(0)).st_mtime_ns == before
    again.finish([*"abcde"])
    write_store(tmp_path / "t.h5")
    assert content(path) == content(tmp_path / "t.h5")


def test_bit_that_turns_in_a_part_is_found_before_it_is_joined(tmp_path):
    path = tmp_path / "s.h5"
    writer = writer_of(path)
    commit(writer, 0, "ab")
    part = writer.part_path(0)
    with h5py.File(part) as file:
        place = file["probs"].id.get_chunk_info(0).byte_offset + 3
    content = bytearray(part.read_bytes())
    content[place] ^= 4
    part.write_bytes(content)
    with pytest.raises(CheckpointError, match="000000.h5 is damaged"):
        writer_of(path, resume=True).finish([*"ab"])
    assert part.exists() and not path.exists()


def test_unfinished_store_of_schema_1_is_not_resumed(tmp_path):
    path = tmp_path / "s.h5"
    commit(writer_of(path), 0, "ab")
    with h5py.File(path.with_name("s.h5.parts") / "000000.h5", "a") as file:
        file.attrs["schema"] = "samsemi.pseudo-labels/1"
    with pytest.raises(RefusedError, match="was begun by an earlier samsemi .*pseudo-labels/1") as caught:
        writer_of(path, resume=True)
    assert "--overwrite" in caught.value.hint
    assert not writer_of(path, overwrite=True).has_part(0)


def test_finished_store_of_schema_1_is_found_finished(tmp_path):
    path = write_store(tmp_path / "s.h5").path
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = "samsemi.pseudo-labels/1"
    assert writer_of(path, resume=True).is_finished()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_part_that_was_being_written_when_killed_is_ignored_and_removed(tmp_path, monkeypatch):
    path = tmp_path / "s.h5"
    if os.fork() == 0:
        with locked_output(path, break_lock=False):
            writer = writer_of(path)
            commit(writer, 0, "ab")
            monkeypatch.setattr(os, "fsync", lambda *_: os._exit(9))
            commit(writer, 1, "c")
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    assert len(list(parts_of(path).rglob("000001.h5"))) == 1, "not yet under its name, in a folder of its own"
    with locked_output(path, False, [parts_of(path)]):
        again = writer_of(path, resume=True)
        assert [part.name for part in again.parts.iterdir()] == ["000000.h5"]
        commit(again, 1, "c")
        again.finish([*"abc"])
    assert Store(path).ids == ["a", "b", "c"] and files_in(tmp_path) == {"s.h5"}


@pytest.mark.parametrize("fails", ["create", "fsync"])
def test_commit_that_fails_leaves_no_part(tmp_path, monkeypatch, fails):
    writer = writer_of(tmp_path / "s.h5")
    commit(writer, 0, "ab")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(*((store_writer, "create", fail) if fails == "create" else (os, "fsync", fail)))
        with pytest.raises(OSError, match="disk full"):
            commit(writer, 1, "c")
    assert writer.has_part(0) and not writer.has_part(1)


def test_finish_that_fails_leaves_the_parts_to_resume_from(tmp_path, monkeypatch):
    path = tmp_path / "s.h5"
    writer = writer_of(path)
    commit(writer, 0, "ab")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store_tables, "copy_part", fail)
        with pytest.raises(OSError, match="disk full"):
            writer.finish(["a", "b"])
    assert not path.exists()
    writer_of(path, resume=True).finish(["a", "b"])
    assert Store(path).ids == ["a", "b"]


def test_resume_starts_where_there_is_nothing_and_finds_a_finished_store(tmp_path):
    path = tmp_path / "new" / "s.h5"
    assert not writer_of(path, resume=True).is_finished()
    write_store(path)
    assert writer_of(path, resume=True).is_finished()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Provenance({"prompts": "box"}, PROVENANCE.made_from, PROVENANCE.policy), "prompts was box+point, is box"),
        (Provenance(PROVENANCE.config, {**PROVENANCE.made_from, "model": "m1"}, PROVENANCE.policy), "model was m0, is m1"),
        (Provenance({**PROVENANCE.config, "min_agreement": 0.6}, PROVENANCE.made_from, {}), "min_agreement was None, is 0.6"),
        (Provenance({**PROVENANCE.config, "new": 1}, PROVENANCE.made_from, PROVENANCE.policy), "new was None, is 1"),
    ],
)
def test_resuming_what_was_made_otherwise_is_refused_and_names_the_difference(tmp_path, finished, other, named):
    path = tmp_path / "s.h5"
    writer = writer_of(path)
    commit(writer, 0, "ab")
    if finished:
        writer.finish(["a", "b"])
    with pytest.raises(RefusedError) as caught:
        writer_of(path, other, resume=True)
    assert named in caught.value.message and str(path) in caught.value.message
    assert writer.has_part(0) != finished


def test_existing_store_begun_store_and_folder_are_refused(tmp_path):
    write_store(tmp_path / "s.h5")
    commit(writer_of(tmp_path / "begun.h5"), 0, "ab")
    (tmp_path / "folder.h5").mkdir()
    for name, hint in (("s.h5", "--overwrite"), ("begun.h5", "--resume"), ("folder.h5", "file name")):
        with pytest.raises(RefusedError, match=name) as caught:
            writer_of(tmp_path / name)
        assert hint in caught.value.hint
    assert Store(tmp_path / "s.h5").ids == list("abcde")


@pytest.mark.parametrize("finished", [True, False])
def test_overwrite_starts_anew(tmp_path, finished):
    path = tmp_path / "s.h5"
    writer = writer_of(path)
    commit(writer, 0, "ab")
    if finished:
        writer.finish(["a", "b"])
    again = writer_of(path, Provenance({}, {}, {}), overwrite=True)
    assert not again.is_finished() and not again.has_part(0)
    commit(again, 0, "c")
    again.finish(["c"])
    assert Store(path).ids == ["c"]


def test_missing_foreign_and_damaged_files_are_checkpoint_errors(tmp_path):
    (tmp_path / "text.h5").write_text("not hdf5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["data"] = np.zeros(3)
    with h5py.File(tmp_path / "later.h5", "w") as file:
        file.attrs["schema"] = "samsemi.pseudo-labels/3"
    write_store(tmp_path / "cut.h5")
    whole = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    for name, named in (
        ("missing", "no such store"),
        ("text", "HDF5"),
        ("foreign", "not a pseudo-label"),
        ("later", "/3"),
        ("cut", "damaged"),
    ):
        for read in (Store, read_provenance):
            with pytest.raises(CheckpointError, match=named) as caught:
                read(tmp_path / f"{name}.h5")
            assert f"{name}.h5" in caught.value.message and caught.value.hint


def test_open_store_can_be_pickled(tmp_path):
    store = write_store(tmp_path / "s.h5")
    store.read("a")
    again = pickle.loads(pickle.dumps(store))
    assert again.handle is None and store.handle is not None
    assert_same_mined(again.read("d"), mined_of("d", 3)[0])


class Maps:
    """A data set for torch's workers: the masks of one image each."""

    def __init__(self, store: Store):
        self.store = store

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> tuple[np.ndarray, bool]:
        return self.store.read("acd"[i]).probs, self.store.handle[0] == os.getpid()


def test_store_that_is_open_works_in_worker_processes_and_still_in_this_one(tmp_path):
    """HDF5 handles survive no fork."""
    store = write_store(tmp_path / "s.h5")
    store.read("a")
    found = list(DataLoader(Maps(store), batch_size=None, num_workers=2))
    for name, (probs, has_its_own_handle) in zip("acd", found, strict=True):
        assert np.array_equal(probs, mined_of(name, COUNTS[name])[0].probs) and has_its_own_handle
    assert_same_mined(store.read("d"), mined_of("d", 3)[0])


def test_what_is_no_store_is_never_removed(tmp_path):
    foreign = tmp_path / "t.h5"
    with h5py.File(foreign, "w") as file:
        file["mine"] = 1
    before = foreign.read_bytes()
    for how in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(RefusedError, match="is not a store"):
            writer_of(foreign, **how)
    assert foreign.read_bytes() == before


def test_a_store_is_not_written_over_an_input(tmp_path):
    with pytest.raises(RefusedError, match="is read by this command"):
        writer_of(tmp_path / "cache.h5", inputs=[tmp_path / "x" / ".." / "cache.h5"])


def test_an_input_that_is_a_circle_of_links_is_named(tmp_path):
    (tmp_path / "cache.h5").symlink_to("cache.h5")
    with pytest.raises(RefusedError, match=r"cache\.h5"):
        writer_of(tmp_path / "s.h5", inputs=[tmp_path / "cache.h5"])


@pytest.mark.parametrize("how", ["overwrite", "resume"])
@pytest.mark.parametrize("name", ["notes.txt", "000000.h5", "000001.h5", ".000001.h5.part"])
def test_files_of_others_among_the_parts_stay_and_are_named(tmp_path, how, name):
    """Also one named like a part: it is no store."""
    path = tmp_path / "t.h5"
    commit(writer_of(path), 0, "ab")
    foreign = parts_of(path) / name
    with h5py.File(foreign, "w") as file:
        file["mine"] = 1
    before = file_bytes(tmp_path)
    with pytest.raises(RefusedError, match=name):
        writer_of(path, **{how: True})
    assert file_bytes(tmp_path) == before


def test_folder_of_parts_behind_a_link_is_refused(tmp_path):
    (tmp_path / "others").mkdir()
    (tmp_path / "t.h5.parts").symlink_to(tmp_path / "others")
    with pytest.raises(RefusedError, match="t.h5.parts is no folder of parts"):
        writer_of(tmp_path / "t.h5", overwrite=True)


def test_old_store_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "s.h5"
    write_store(path)
    before, other = path.read_bytes(), Provenance({}, {}, {})
    commit(writer_of(path, other, overwrite=True), 0, "c")
    assert path.read_bytes() == before
    again = writer_of(path, other, resume=True)
    assert not again.is_finished() and again.has_part(0)
    again.finish(["c"])
    assert Store(path).ids == ["c"] and files_in(tmp_path) == {"s.h5"}


@pytest.mark.parametrize(
    ("parts", "removed", "named"),
    [
        (("ab", "c", "de"), 0, "000000.h5 is missing"),
        (("ab", "c", "de"), 1, "000001.h5 is missing"),
        (("ab", "c", "de"), 2, "000002.h5 is missing"),
        (("ab", "d", "ce"), None, "000001.h5 has image d where c is due"),
        (("ab", "c", "deb"), None, "000002.h5 has image b where None is due"),
        (("ab", "c", "de", "a"), None, "000003.h5 has image a where None is due"),
    ],
)
def test_parts_that_are_not_all_images_are_never_made_a_store(tmp_path, parts, removed, named):
    writer = writer_of(tmp_path / "s.h5")
    for number, names in enumerate(parts):
        commit(writer, number, names)
    if removed is not None:
        writer.part_path(removed).unlink()
    left = files_in(tmp_path)
    with pytest.raises(CheckpointError, match=named):
        writer.finish([*"abcde"])
    assert files_in(tmp_path) == left


def test_store_that_is_replaced_while_it_is_read_is_an_error(tmp_path):
    """Its tables would not belong to its masks."""
    store = write_store(tmp_path / "s.h5")
    write_store(tmp_path / "s.h5", parts=("b", "a"), overwrite=True)
    with pytest.raises(CheckpointError, match="s.h5 was replaced"):
        store.read("a")


def test_open_store_is_read_to_the_end_although_it_is_replaced(tmp_path):
    store = write_store(tmp_path / "s.h5")
    store.read("a")
    write_store(tmp_path / "s.h5", parts=("b", "a"), overwrite=True)
    assert_same_mined(store.read("d"), mined_of("d", 3)[0])
