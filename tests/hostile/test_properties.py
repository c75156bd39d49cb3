"""Whatever stands in a manifest, a store, a policy or a list of prompts: its reader gives a value, or says what is wrong."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samsemi.data.dataset import read_dataset
from samsemi.data.manifest import SPLITS
from samsemi.data.splits import read_split_file
from samsemi.errors import SamsemiError
from samsemi.mining.policy import Policy, decide
from samsemi.mining.scores import COLUMNS, REASONS
from samsemi.mining.store import Mined, Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.options.mine import parse_prompts
from samsemi.sam.prompts import Prompts

few = settings(max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
"""The same examples each time."""
numbers = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=True), st.sampled_from([0, 1, -1, 255, 256, 2**31, 2**63, 1e300, float("nan")])
)
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
"""JSON values."""
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 30), st.one_of(st.binary(max_size=12), st.sampled_from(list(b",\n\r\"';\0/.")))), max_size=4
)
"""Where, how many bytes go, what comes."""

MANIFEST = b"id,image,mask,truth,split,group,image_sha256\n" + b"".join(
    f"c{k},images/c{k}.png,{f'masks/c{k}.png' if split != 'unlabeled' else ''},,{split},g{k},\n".encode() for k, split in enumerate(SPLITS)
)
ABOUT = {"schema": "samsemi.dataset/1", "name": "drawn", "classes": ["background", "polyp"], "spacing_mm": 0.5}
SIZE = 8


@contextmanager
def only_errors_of_ours() -> Iterator[None]:
    """What a user can cause is said in two lines; all else fails the test."""
    try:
        yield
    except SamsemiError as error:
        assert error.message and error.hint and len(error.message) < 1500, len(error.message)


def edited(content: bytes, changes: list) -> bytes:
    for place, gone, new in changes:
        start = round(place * len(content))
        content = content[:start] + (bytes([new]) if isinstance(new, int) else new) + content[start + gone :]
    return content


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write_dataset(folder: Path, about: bytes, manifest: bytes) -> None:
    (folder / "dataset.json").write_bytes(about)
    (folder / "manifest.csv").write_bytes(manifest)


@few
@given(edits)
def test_edited_manifest_is_read_or_refused(folder, changes):
    write_dataset(folder, json.dumps(ABOUT).encode(), edited(MANIFEST, changes))
    with only_errors_of_ours():
        cases = read_dataset(folder).cases
        assert cases and all(case.split in SPLITS and "/" not in name for name, case in cases.items())


@few
@given(st.lists(st.lists(st.text(max_size=10), max_size=9), max_size=5))
def test_manifest_of_any_cells_is_read_or_refused(folder, rows):
    text = "id,image,mask,truth,split,group\n" + "\n".join(",".join(row) for row in rows)
    write_dataset(folder, json.dumps(ABOUT).encode(), text.encode("utf-8", "surrogatepass"))
    with only_errors_of_ours():
        read_dataset(folder)


@few
@given(edits)
def test_edited_dataset_json_is_read_or_refused(folder, changes):
    write_dataset(folder, edited(json.dumps(ABOUT).encode(), changes), MANIFEST)
    with only_errors_of_ours():
        classes = read_dataset(folder).classes
        assert len(classes) >= 2 and all(isinstance(name, str) for name in classes)


@few
@given(st.sampled_from(list(ABOUT)), plain)
def test_dataset_json_of_any_values_is_read_or_refused(folder, key, value):
    write_dataset(folder, json.dumps({**ABOUT, key: value}).encode(), MANIFEST)
    with only_errors_of_ours():
        spacing = read_dataset(folder).spacing_mm
        assert spacing is None or 0 < spacing < float("inf")


@few
@given(edits)
def test_edited_split_file_is_read_or_refused(folder, changes):
    (folder / "split.csv").write_bytes(edited(b"id,split,group\na,val,g\nb,labeled,h\nc,unlabeled,\n", changes))
    with only_errors_of_ours():
        assert all(split in SPLITS for split, _ in read_split_file(folder / "split.csv").values())


@few
@given(st.one_of(st.text(max_size=20), st.lists(st.sampled_from(["box", "point", "mask", "+", ",", " ", ""]), max_size=9).map("".join)))
def test_any_prompts_are_parsed_or_refused(text):
    with only_errors_of_ours():
        kinds = parse_prompts(text)
        assert kinds and all(set(alternative) <= {"box", "point", "mask"} and set(alternative) != {"mask"} for alternative in kinds)


def policy_values() -> dict[str, object]:
    quality = {"mean": [0.5] * 7, "scale": [0.1] * 7, "weights": [1.0] * 7, "bias": 0.0}
    return {**Policy().to_json(), "quality": quality, "by_class": [{"class_id": 1, "min_quality": 0.5, "quality": quality}]}


@few
@given(st.sampled_from([*policy_values(), "color"]), plain)
def test_policy_of_any_values_decides_or_is_refused(key, value):
    with only_errors_of_ours():
        assert_decides(Policy.from_json({**policy_values(), key: value}))


@few
@given(st.sampled_from(["mean", "scale", "weights", "bias"]), plain)
def test_quality_of_any_values_decides_or_is_refused(key, value):
    values = policy_values()
    with only_errors_of_ours():
        assert_decides(Policy.from_json({**values, "quality": {**values["quality"], key: value}}))  # type: ignore[dict-item]


def mined_of(count: int) -> Mined:
    """Random objects."""
    rng = np.random.default_rng(count)
    boxes = np.tile(np.array([1, 2, 9, 12], np.float32), (count, 1))
    return Mined(
        image_size=(20, 30),
        class_id=np.ones(count, np.uint8),
        boxes=boxes,
        prompt_boxes=boxes,
        windows=np.tile(np.array([0, 0, 30, 20], np.float32), (count, 1)),
        **{name: rng.random(count).astype(np.float32) for name in COLUMNS},
        area=np.full(count, 40, np.int64),
        probs=rng.integers(0, 256, (count, SIZE, SIZE)).astype(np.uint8),
        network_probs=rng.integers(0, 256, (2, SIZE, SIZE)).astype(np.uint8),
        components=rng.integers(0, count + 1, (SIZE, SIZE)).astype(np.uint16),
    )


def assert_decides(policy: Policy) -> None:
    reasons = decide(mined_of(3), policy)
    assert reasons.shape == (3,) and all(0 <= reason < len(REASONS) for reason in reasons)


@pytest.fixture(scope="module")
def store(folder) -> Path:
    """A store of two images and three objects."""
    writer = StoreWriter(folder / "whole.h5", Provenance({"sam": "tiny"}, {"dataset": "d"}, Policy().to_json()), SIZE, 1, 2)
    for name, count in (("a", 2), ("b", 1)):
        mined = mined_of(count)
        prompts = Prompts(mined.boxes, np.ones((count, 1, 2), np.float32), np.ones((count, 1), np.int32))
        writer.add(name, (20, 30, 3), mined, prompts)
    writer.commit(0)
    writer.finish(["a", "b"])
    return folder / "whole.h5"


def read_all(path: Path) -> None:
    """Every image of a store, as whoever learns from it reads them."""
    store = Store(path)
    policy = Policy.from_json(store.provenance.policy)
    for name in store.ids:
        mined = store.read(name)
        assert len(mined.probs) == len(mined) and mined.components.max(initial=0) <= max(len(mined), 1)
        assert all(np.isfinite(getattr(mined, column)).all() for column in COLUMNS)
        decide(mined, policy)
        store.read_points(name)


def change_store(store: Path, change: Callable[[h5py.File], None]) -> Path | None:
    """A store that was edited; None where HDF5 does not let it be."""
    path = Path(tempfile.mkdtemp(dir=store.parent)) / "edited.h5"
    shutil.copy(store, path)
    with h5py.File(path, "r+") as file:
        try:
            change(file)
        except (TypeError, ValueError, OverflowError, OSError):
            return None
    return path


CELLS = [
    *(("images", name) for name in ("id", "height", "width", "first_object", "num_objects", "readable")),
    *(("objects", name) for name in ("image", "class_id", "box", "prompt_box", "window", "area", *COLUMNS)),
]


@few
@given(st.lists(st.tuples(st.sampled_from(CELLS), st.integers(0, 1), st.one_of(numbers, st.text(max_size=6))), min_size=1, max_size=3))
def test_store_of_any_cells_is_read_or_refused(store, cells):
    def change(file: h5py.File) -> None:
        for (table, column), row, value in cells:
            values = file[table][:]
            with np.errstate(all="ignore"):
                values[column][row] = value
            file[table][...] = values

    path = change_store(store, change)
    if path:
        with only_errors_of_ours():
            read_all(path)


@few
@given(
    st.sampled_from(["schema", "config", "made_from", "policy", "calibration"]),
    st.one_of(plain.map(json.dumps), st.text(max_size=8), numbers),
)
def test_store_of_any_attributes_is_read_or_refused(store, name, value):
    path = change_store(store, lambda file: file.attrs.__setitem__(name, value))
    if path:
        with only_errors_of_ours():
            read_all(path)


SETS = ("images", "objects", "probs", "network_probs", "components", "points/coords", "points/labels")


@few
@given(st.sampled_from(SETS), st.lists(st.integers(0, 9), max_size=4), st.sampled_from(["u1", "i1", "f4", "f8", "S4", "?", "c8"]))
def test_store_of_any_datasets_is_read_or_refused(store, name, shape, kind):
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, kind)

    path = change_store(store, change)
    if path:
        with only_errors_of_ours():
            read_all(path)
