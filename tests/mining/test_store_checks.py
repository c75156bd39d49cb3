"""A store that was edited, or in which a bit has turned, is named and never learnt from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import write_image

from samsemi.data.dataset import Case, Dataset, hash_image, read_case_image
from samsemi.errors import ChangedFile, CheckpointError
from samsemi.mining.miner import as_mined, need_own_images, open_store
from samsemi.mining.store import HASHES, Mined, Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.sam.prompts import Prompts

FILES = Path(__file__).parents[1] / "files"
SIDE, CLASSES = 8, 3
COUNTS = {"a": 2, "b": 0, "c": 3}


def mined_of(count: int) -> tuple[Mined, Prompts]:
    rng = np.random.default_rng(count)
    network = rng.random((CLASSES, SIDE, SIDE))
    names = ("predicted_iou", "stability", "agreement", "consensus", "confidence", "area_ratio", "ensemble")
    mined = Mined(
        image_size=(20, 30),
        class_id=rng.integers(1, CLASSES, count).astype(np.uint8),
        boxes=np.tile(np.float32([3, 4, 10, 12]), (count, 1)),
        prompt_boxes=np.tile(np.float32([1, 2, 12, 14]), (count, 1)),
        windows=np.tile(np.float32([0, 0, 30, 20]), (count, 1)),
        area=rng.integers(1, 600, count),
        probs=rng.integers(0, 256, (count, SIDE, SIDE)).astype(np.uint8),
        network_probs=np.rint(255 * network / network.sum(axis=0)).astype(np.uint8),
        components=rng.integers(0, count + 1, (SIDE, SIDE)).astype(np.uint16),
        **{name: rng.random(count).astype(np.float32) for name in names},
    )
    return mined, Prompts(mined.boxes, rng.random((count, 1, 2)).astype(np.float32), np.ones((count, 1), np.int32))


def write_store(path: Path, dataset: str = "d", parts=("a", "bc")) -> Path:
    calibration = {"precision": 0.9, "target_precision": 0.8, "by_class": {"polyp": {"precision": 0.9}}}
    writer = StoreWriter(path, Provenance({"sam": "tiny"}, {"dataset": dataset}, {}, calibration), SIDE, 1, CLASSES)
    for number, names in enumerate(parts):
        for name in names:
            writer.add(name, (20, 30), *mined_of(COUNTS[name]), sha256=f"{ord(name):064x}")
        writer.commit(number)
    writer.finish(list("".join(parts)))
    return path


def read_all(path: Path) -> dict[str, object]:
    """All that a reader of a store gets."""
    store = Store(path)
    maps = {name: [part.tolist() for part in vars(store.read(name)).values() if isinstance(part, np.ndarray)] for name in store.ids}
    points = {name: [part.tolist() for part in store.read_points(name)] for name in store.ids}
    return {"provenance": store.provenance, "sha256": store.sha256, "images": store.images.tolist(), "maps": maps, "points": points}


def replace_data(file: h5py.File, name: str, data: np.ndarray) -> None:
    del file[name]
    file[name] = data


def edit_rows(table: str, column: str, value: object, row: int = 0) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        rows = file[table][:]
        rows[column][row] = value
        file[table][:] = rows

    return edit


def edit_map(name: str, place: tuple, value: int) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[name][place] = value

    return edit


def edit_json(name: str, text: str) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, text)


def drop_last_object(file: h5py.File) -> None:
    replace_data(file, "objects", file["objects"][:-1])


def float_maps(file: h5py.File) -> None:
    replace_data(file, "probs", np.full(file["probs"].shape, np.nan, np.float32))


def fewer_maps(file: h5py.File) -> None:
    replace_data(file, "probs", file["probs"][:-1])


def other_sides(file: h5py.File) -> None:
    replace_data(file, "network_probs", file["network_probs"][..., :4])


def wide_numbers(file: h5py.File) -> None:
    rows = file["objects"][:]
    replace_data(file, "objects", rows.astype([(name, "i4" if name == "area" else rows.dtype[name]) for name in rows.dtype.names]))


EDITS = {
    "score of NaN": edit_rows("objects", "stability", np.nan),
    "score above 1": edit_rows("objects", "agreement", 1.5),
    "predicted IoU of infinity": edit_rows("objects", "predicted_iou", np.inf),
    "first_object beyond the end": edit_rows("images", "first_object", 10**12, row=2),
    "first_object negative": edit_rows("images", "first_object", -1),
    "more objects than there are": edit_rows("images", "num_objects", 5),
    "negative number of objects": edit_rows("images", "num_objects", -2),
    "fewer objects than the table says": drop_last_object,
    "objects of another image": edit_rows("objects", "image", 1),
    "class of the background": edit_rows("objects", "class_id", 0),
    "class that is none": edit_rows("objects", "class_id", 200),
    "area below 0": edit_rows("objects", "area", -1),
    "image without pixels": edit_rows("images", "height", 0),
    "unreadable image with objects": edit_rows("images", "readable", False),
    "box beyond the image": edit_rows("objects", "box", [3, 4, 30, 12]),
    "box of NaN": edit_rows("objects", "prompt_box", [np.nan, 4, 5, 12]),
    "window of no pixel": edit_rows("objects", "window", [3, 3, 3, 12]),
    "one image twice": edit_rows("images", "id", "b"),
    "id that is a path": edit_rows("images", "id", "../../evil"),
    "id that is absolute": edit_rows("images", "id", "/tmp/evil"),
    "id of nothing": edit_rows("images", "id", ""),
    "maps of NaN": float_maps,
    "fewer maps": fewer_maps,
    "maps of other sides": other_sides,
    "column of another type": wide_numbers,
    "pixel of no class": edit_map("network_probs", (0, slice(None), 2, 2), 0),
    "component that is no object": edit_map("components", (0, 2, 2), 3),
    "policy that is none": edit_json("policy", "[1]"),
    "config nested deep": edit_json("config", "[" * 5000 + "]" * 5000),
    "config cut": edit_json("config", '{"a": '),
    "calibration of another type": edit_json("calibration", '{"precision": "high", "target_precision": 0.8}'),
    "calibration of NaN": edit_json("calibration", '{"precision": NaN, "target_precision": 0.8}'),
    "calibration without a target": edit_json("calibration", '{"precision": 0.5}'),
    "calibration of a class that is none": edit_json("calibration", '{"by_class": {"polyp": {"precision_interval": [1]}}}'),
    "schema that is a number": lambda file: file.attrs.__setitem__("schema", 2),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_store_is_refused(tmp_path, edit):
    path = write_store(tmp_path / "s.h5")
    read_all(path)
    with h5py.File(path, "a") as file:
        EDITS[edit](file)
    with pytest.raises(CheckpointError, match=r"s\.h5") as caught:
        read_all(path)
    assert caught.value.hint and len(caught.value.message) < 600


def test_no_bit_that_turns_in_a_store_is_read_without_a_word(tmp_path):
    """Found, or nothing depends on it. Ids are text, which HDF5 keeps apart from its checksums: they must be those of the data set."""
    path = write_store(tmp_path / "s.h5")
    whole, data = read_all(path), path.read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for place in rng.choice(len(data), 80, replace=False).tolist():
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << int(rng.integers(8)))]) + data[place + 1 :])
        try:
            read = read_all(path)
        except CheckpointError as error:
            found += "s.h5" in error.message
        else:
            assert read == whole or {*read["maps"]} != {*whole["maps"]}, f"a bit of byte {place} has turned"
    assert found > 10


@pytest.mark.parametrize("text", [b'"target_precision": 0.8', b'"dataset": "d"'])
def test_bit_that_turns_in_the_texts_is_named(tmp_path, text):
    path = write_store(tmp_path / "s.h5")
    data = path.read_bytes()
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, text[:-1] + bytes([text[-1] ^ 1])))
    with pytest.raises(CheckpointError, match=r"s\.h5 is .*damaged"):
        read_all(path)


def test_no_bit_that_turns_in_the_maps_is_read_without_a_word(tmp_path):
    path = write_store(tmp_path / "s.h5")
    with h5py.File(path) as file:
        chunks = [file[name].id.get_chunk_info(i) for name in ("probs", "network_probs", "components") for i in range(2)]
        chunks += [file[name].id.get_chunk_info(0) for name in ("images", "objects", "points/coords", HASHES)]
    data = path.read_bytes()
    for chunk in chunks:
        place = chunk.byte_offset + chunk.size // 2
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(CheckpointError, match=r"s\.h5.* is damaged"):
            read_all(path)


@pytest.mark.parametrize("schema", [1, 2])
def test_stores_of_before_there_were_checksums_are_read(schema):
    store = Store(FILES / f"store-{schema}.h5")
    assert store.ids == ["case0", "case1", "case2", "case3"] and store.images["num_objects"].tolist() == [2, 0, 1, 0]
    assert store.sha256 == [""] * 4
    assert store.read("case0").probs.shape == (2, 16, 16) and store.read_points("case2")[1].tolist() == [[1, 0]]


def test_parts_of_before_there_were_checksums_are_merged_with_those_of_today(tmp_path):
    whole = write_store(tmp_path / "whole.h5")
    path = tmp_path / "s.h5"
    writer = StoreWriter(path, Store(whole).provenance, SIDE, 1, CLASSES)
    for number, names in enumerate(("a", "bc")):
        for name in names:
            writer.add(name, (20, 30), *mined_of(COUNTS[name]))
        writer.commit(number)
    without_checksums(writer.part_path(0))
    writer.finish(["a", "b", "c"])
    found, wanted = read_all(path), read_all(whole)
    assert {**found, "sha256": None} == {**wanted, "sha256": None}
    with h5py.File(path) as file:
        assert all(file[name].fletcher32 for name in ("images", "objects", "probs", "network_probs", "components"))


def without_checksums(path: Path) -> None:
    """Write a part as samsemi did before."""
    with h5py.File(path) as file:
        attributes, data = dict(file.attrs), {name: file[name][:] for name in ("images", "objects", "points/coords", "points/labels")}
        maps = {name: file[name][:] for name in ("probs", "network_probs", "components")}
        ids = h5py.string_dtype()
        rows = data["images"].astype([(name, ids if name == "id" else data["images"].dtype[name]) for name in data["images"].dtype.names])
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        for name, values in {**data, "images": rows}.items():
            file[name] = values
        for name, values in maps.items():
            file.create_dataset(name, data=values, chunks=(1, *values.shape[1:]), compression="gzip", compression_opts=1)


def dataset_of(folder: Path, splits: dict[str, str], classes=("background", "polyp", "vessel")) -> Dataset:
    cases = {}
    for name, split in splits.items():
        mask = None if split == "unlabeled" else folder / f"{name}_m.png"
        cases[name] = Case(name, folder / f"{name}.png", mask, None, split, name)
    return Dataset(folder, "pictures", classes, None, cases)


@pytest.mark.parametrize("split", ["labeled", "val", "test", None])
def test_store_with_labels_of_a_case_that_is_not_unlabeled_is_refused(tmp_path, split):
    own = dataset_of(tmp_path, {"a": "unlabeled", "b": "unlabeled", **({"c": split} if split else {})})
    path = write_store(tmp_path / "s.h5", own.fingerprint())
    with pytest.raises(CheckpointError, match=f"has labels of c, which is {split + ' there' if split else 'not there'}"):
        open_store(path, own)


def test_store_of_other_classes_is_refused(tmp_path):
    own = dataset_of(tmp_path, dict.fromkeys("abc", "unlabeled"), ("background", "polyp"))
    with pytest.raises(CheckpointError, match=r"s\.h5 has 3 classes, .* has 2"):
        open_store(write_store(tmp_path / "s.h5", own.fingerprint()), own)
    need_own_images(Store(tmp_path / "s.h5"), dataset_of(tmp_path, dict.fromkeys("abc", "unlabeled")))


def test_image_that_is_not_the_one_that_was_mined_is_noticed_though_the_manifest_has_no_hashes(tmp_path):
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    write_image(tmp_path / "a.png", image)
    case = dataset_of(tmp_path, {"a": "unlabeled"}).cases["a"]
    writer = StoreWriter(tmp_path / "s.h5", Provenance({}, {}, {}), SIDE, 1, CLASSES)
    writer.add("a", (20, 30), *mined_of(2), sha256=hash_image(case))
    writer.commit(0)
    writer.finish(["a"])
    store = Store(tmp_path / "s.h5")
    assert np.array_equal(read_case_image(as_mined(case, store)), image)
    write_image(tmp_path / "a.png", image[:, ::-1])
    with pytest.raises(ChangedFile, match=r"a\.png"):
        read_case_image(as_mined(case, store))
    read_case_image(case)
    prepared_anew = Case("a", case.image, None, None, "unlabeled", "a", image_sha256=hash_image(case))
    with pytest.raises(ChangedFile, match="not the image that was mined"):
        as_mined(prepared_anew, store)


def test_file_of_schema_2_stands_as_it_was_written():
    with h5py.File(FILES / "store-2.h5") as file:
        assert not file["probs"].fletcher32 and HASHES not in file and json.loads(file.attrs["made_from"])["dataset"] == "f2"


def test_copy_of_a_store_is_the_store(tmp_path):
    path = write_store(tmp_path / "s.h5")
    assert read_all(Path(shutil.copy(path, tmp_path / "t.h5"))) == read_all(path)
