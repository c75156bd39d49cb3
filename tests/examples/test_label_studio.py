"""Cases of a review to Label Studio and back (examples/label_studio.py), by its SDK where that is installed, and by a stand-in."""

import json
import sys
import types

import numpy as np
import pytest
from builders import load_example, read_array, write_image


def stand_in() -> dict[str, types.ModuleType]:
    """The SDK's two functions, of which only that they are each other's inverse is known: values of RGBA, as many as there are pixels."""
    brush = types.ModuleType("label_studio_sdk.converter.brush")
    brush.mask2rle = lambda mask: np.repeat(mask.ravel(), 4).tolist()
    brush.decode_rle = lambda rle: np.array(rle, dtype=np.uint8)
    modules = {name: types.ModuleType(name) for name in ("label_studio_sdk", "label_studio_sdk.converter")}
    return {**modules, "label_studio_sdk.converter.brush": brush}


@pytest.fixture(params=["stand-in", "SDK"])
def label_studio(request, monkeypatch):
    if request.param == "SDK":
        pytest.importorskip("label_studio_sdk")
    else:
        for name, module in stand_in().items():
            monkeypatch.setitem(sys.modules, name, module)
    return load_example("label_studio")


@pytest.fixture
def review(tmp_path):
    label = np.zeros((20, 31), np.uint8)
    label[3:9, 4:15], label[12:18, 20:30] = 1, 2
    write_image(tmp_path / "masks" / "a b.png", label)
    write_image(tmp_path / "masks" / "c.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "review.json").write_text(json.dumps({"classes": ["background", "polyp", "tool"]}))
    return tmp_path


def test_masks_come_back_as_they_went(label_studio, review, capsys):
    label_studio.main("tasks", str(review))
    first, second = json.loads(capsys.readouterr().out)
    assert first["data"]["image"].endswith("/?d=images/a%20b.png") and second["predictions"][0]["result"] == []
    drawn = first["predictions"][0]["result"]
    assert [region["value"]["brushlabels"] for region in drawn] == [["polyp"], ["tool"]]
    skipped = {"was_cancelled": True, "result": []}
    export = [{**first, "annotations": [{"result": drawn[:1]}, {"result": drawn}, skipped]}, {**second, "annotations": [skipped]}]
    (review / "export.json").write_text(json.dumps(export))
    label_studio.main("masks", str(review), str(review / "export.json"), str(review / "back"))
    assert [path.name for path in (review / "back").iterdir()] == ["a b.png"], "what nobody has submitted does not come"
    assert (read_array(review / "back" / "a b.png") == read_array(review / "masks" / "a b.png")).all()


def test_smaller_object_lies_on_top_and_an_empty_one_is_asked_for(label_studio):
    large, small = np.ones((6, 7), bool), np.zeros((6, 7), bool)
    small[2:4, 2:4] = True
    regions = [label_studio.make_result(small, 2, "tool"), label_studio.make_result(large, 1, "polyp")]
    task = {"data": {"image": "x/c.png"}, "annotations": [{"result": regions}]}
    ((name, label),) = label_studio.read_masks([task], ["background", "polyp", "tool"])
    assert name == "c" and (label == np.where(small, 2, 1)).all()
    with pytest.raises(SystemExit, match="c: nothing is drawn"):
        list(label_studio.read_masks([{**task, "annotations": [{"result": []}]}], ["background"]))
