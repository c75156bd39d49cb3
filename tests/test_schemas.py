"""Files of every released schema are read; those that do not fit are named, never half understood. See tests/files."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest
import torch

from samsemi.errors import CheckpointError, UsageError
from samsemi.knowsam.teacher import TEACHER, read_teacher_card
from samsemi.mining.folds import FoldMaps
from samsemi.mining.miner import store_policy
from samsemi.mining.policy import Policy, Quality
from samsemi.mining.store import Store
from samsemi.options.mine import MineOptions
from samsemi.options.shared import PolicyOptions
from samsemi.sam.embeddings import EmbeddingCache
from samsemi.sam.protocol import Embedding
from samsemi.schemas import from_json
from samsemi.segmenters.checkpoints import load_model, read_model_card
from samsemi.segmenters.segmenter import Segmenter
from samsemi.tensors import load_tensors, save_tensors

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True)
class Inner:
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Outer:
    name: str
    size: int
    share: float = 0.5
    kind: Literal["a", "b"] = "a"
    path: Path | None = None
    inner: Inner | None = None
    more: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        if self.size < 0:
            raise UsageError(f"--size {self.size} is negative", "give another")


def test_value_comes_back_from_its_json():
    whole = {"name": "x", "size": 3, "share": 1, "kind": "b", "path": "p", "inner": {"weights": [1, 0.5]}, "more": {"y": [1]}}
    assert from_json(Outer, whole, "f") == Outer("x", 3, 1, "b", "p", Inner((1, 0.5)), {"y": [1]})
    assert from_json(Outer, {"name": "x", "size": 3, "inner": None}, "f") == Outer("x", 3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": None}, "f: name is None, not of type str"),
        ({"size": 2.5}, "f: size is 2.5, not of type int"),
        ({"size": True}, "f: size is True"),
        ({"share": "x"}, "f: share is 'x', not of type float"),
        ({"kind": "c"}, "f: kind is 'c'"),
        ({"inner": {"weights": [1, "x"]}}, "f: inner: weights is 'x', not of type float"),
        ({"inner": {"weights": 3}}, "f: inner: weights is 3"),
        ({"inner": {}}, "f: inner: missing weights"),
        ({"inner": [1]}, "f: inner is no table"),
        ({"more": []}, r"f: more is \[\]"),
        ({"extra": 1, "another": 2}, "f: unknown another, extra"),
        ({"size": -1}, "f: --size -1 is negative"),
    ],
)
def test_value_that_does_not_fit_is_named(change, named):
    with pytest.raises(CheckpointError, match=named) as caught:
        from_json(Outer, {"name": "x", "size": 3} | change, "f")
    assert caught.value.hint


def test_store_of_schema_1_is_read():
    store = Store(FILES / "store-1.h5")
    assert store.ids == ["case0", "case1", "case2", "case3"] and store.images["num_objects"].tolist() == [2, 0, 1, 0]
    assert store.images["readable"].tolist() == [True, True, True, False]
    mined = store.read("case0")
    assert mined.probs.shape == (2, 16, 16) and mined.agreement.dtype == np.float32 and mined.image_size == (20, 30)
    assert mined.windows.tolist() == [[0, 0, 30, 20]] * 2 and (mined.prompt_boxes != mined.boxes).any()
    assert (np.abs(mined.prompt_boxes - mined.boxes) <= 2).all() and (mined.prompt_boxes <= [29, 19, 29, 19]).all()
    assert mined.network_probs.shape == (store.num_classes, 16, 16) and mined.network_probs.sum(axis=0) == pytest.approx(255, abs=1)
    assert mined.components.shape == (16, 16) and not store.read("case1").network_probs.any()
    assert store.read_points("case2")[1].tolist() == [[1, 0]]
    assert mined.ensemble.tolist() == [1, 1]
    quality = Quality((*(0.5,) * 6, 0.0), (*(0.25,) * 6, 1.0), (1.0, 0.5, 0.0, 0.25, 0.0, -0.5, 0.0), 0.125)
    wanted = Policy(min_confidence=0, min_agreement=0, min_predicted_iou=0, min_quality=0.25, sam_share=0.75, quality=quality)
    assert store_policy(store, PolicyOptions()) == wanted
    places = {"dataset": "d", "model": ("m",), "out": "o"}
    again = from_json(MineOptions, {**store.provenance.config, **places}, "config")
    assert again == MineOptions(**places, prompts="box+point,box", min_area=16)
    assert store.provenance.calibration["precision"] == 0.9


def change_json(path: Path, attribute: str, change: Mapping[str, object]) -> None:
    with h5py.File(path, "a") as file:
        file.attrs[attribute] = json.dumps(json.loads(file.attrs[attribute]) | change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_smoothness": 0.5}, "policy: unknown min_smoothness"),
        ({"min_agreement": "much"}, "policy: min_agreement is 'much'"),
        ({"quality": {"mean": [0.5], "scale": [1.0], "weights": [1.0], "bias": 0.0}}, "quality was fitted to other scores"),
        ({"quality": {"mean": [0.5]}}, "policy: quality: missing bias, scale, weights"),
    ],
)
def test_policy_that_does_not_fit_is_named(tmp_path, change, named):
    path = Path(shutil.copy(FILES / "store-1.h5", tmp_path))
    change_json(path, "policy", change)
    with pytest.raises(CheckpointError, match=named) as caught:
        store_policy(Store(path), PolicyOptions())
    assert str(path) in caught.value.message


@pytest.mark.parametrize("columns", [("image", "class_id"), (*Store(FILES / "store-1.h5").objects.dtype.names, "smoothness")])
def test_store_with_other_columns_is_named(tmp_path, columns):
    path = Path(shutil.copy(FILES / "store-1.h5", tmp_path))
    with h5py.File(path, "a") as file:
        del file["objects"]
        file.create_dataset("objects", (3,), np.dtype([(name, "f4") for name in columns]))
    with pytest.raises(CheckpointError, match="table objects is of another version of samsemi: .*s"):
        Store(path)


@pytest.mark.parametrize("kind", ["unetpp", "peers"])
def test_model_of_before_its_card_named_a_schema_is_read(tmp_path, kind):
    shutil.copy(FILES / f"model-0-{kind}.json", tmp_path / "model.json")
    card = read_model_card(tmp_path)
    assert card.scores == {"val_dice": 0.5, "iteration": 3} and card.made_from == {"dataset": "f1", "labeled": 9}
    assert (card.model.encoder, card.model.peers) == (("tu-lcnet_035", ()) if kind == "unetpp" else ("", ("unet", "vnet")))
    save_tensors(tmp_path / "model.safetensors", Segmenter(card.model).state_dict())
    assert load_model(tmp_path).spec == card.model


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema": "samsemi.model/2"}, r"not a model \(schema samsemi.model/2, expected samsemi.model/1\)"),
        ({"license": "x"}, "unknown license"),
        ({"model": {"encoder": "resnet18"}}, "model: missing classes, decoder_channels, size"),
        ({"scores": 3}, "scores is 3"),
    ],
)
def test_model_card_that_does_not_fit_is_named(tmp_path, change, named):
    card = json.loads((FILES / "model-0-unetpp.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card | change))
    with pytest.raises(CheckpointError, match=named) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in caught.value.message


def test_teacher_of_before_its_card_named_a_schema_is_read(tmp_path):
    shutil.copy(FILES / "teacher-0.safetensors", tmp_path / TEACHER)
    card = read_teacher_card(tmp_path)
    assert (card.sam, card.sam_weights, card.side, card.learned_prompts, card.temperature) == ("tiny", "5a3", 64, False, 10.0)
    assert load_tensors(tmp_path / TEACHER)["prompts.0"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ({"sam": "tiny", "side": 64, "learned_prompts": True, "temperature": 1}, "missing sam_weights"),
        ({"schema": "samsemi.teacher/2"}, "samsemi.teacher/2"),
    ],
)
def test_teacher_card_that_does_not_fit_is_named(tmp_path, card, named):
    save_tensors(tmp_path / TEACHER, {"x": torch.ones(1)}, {"samsemi": json.dumps(card)})
    with pytest.raises(CheckpointError, match=named):
        read_teacher_card(tmp_path)


class Encoder:
    name, identity = "tiny", "5a3"

    def encode(self, images):
        raise AssertionError("all are in the cache")


def test_embeddings_of_schema_1_are_read(tmp_path):
    path = Path(shutil.copy(FILES / "embeddings-1.h5", tmp_path))
    found: list[Embedding] = EmbeddingCache(path, Encoder()).encode([np.full((4, 6, 3), value, np.uint8) for value in (7, 0)])
    wanted = torch.arange(8.0).view(2, 2, 2)
    assert (
        torch.equal(found[0].tensors["features"], wanted + 7)
        and torch.equal(found[1].tensors["features"], wanted)
        and found[0].image_size == (4, 6)
    )


def test_out_of_fold_predictions_of_schema_1_are_read(tmp_path):
    path = Path(shutil.copy(FILES / "out-of-fold-1.h5", tmp_path))
    assert FoldMaps(path).read("b", (20, 30)).shape == (2, 20, 30)
    assert FoldMaps(path).read("b", (20, 30))[0] == pytest.approx(0.75, abs=1 / 255)
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = "samsemi.out-of-fold/2"
    with pytest.raises(CheckpointError, match="samsemi.out-of-fold/2"):
        FoldMaps(path)
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = "samsemi.out-of-fold/1"
    with pytest.raises(CheckpointError, match="it lacks ids"):
        FoldMaps(path)
