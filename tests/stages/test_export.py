"""Exported networks: they segment as `predict` does without samsemi, say what they are, and are not kept where they differ."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from builders import CHECKPOINT, REFUSED, ROOT, USAGE, call, files_in, load_example, read_array, refused, succeed, write_image
from PIL import Image

from samsemi.options import export as export_options
from samsemi.segmenters.checkpoints import load_model, read_model_card, save_model
from samsemi.segmenters.segmenter import ModelSpec, new_segmenter, to_input
from samsemi.stages import export as export_stage
from samsemi.tensors import hash_tensors


@pytest.fixture(scope="session")
def exported(warm, dataset, tmp_path_factory) -> tuple[Path, dict]:
    """The warm start as a file, and the result of the command."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return path, succeed("export", "--model", warm, "--dataset", dataset, "--images", 6, "--out", path, "--json").result


def copies(path: Path):
    """In place of the exporter, which takes seconds."""
    return lambda part, *others: shutil.copy(path, part)


def test_file_is_compared_on_images_of_the_data_set(exported, dataset):
    path, result = exported
    assert result["compared_on"] == str(dataset) and result["images"] == 6 and result["bytes"] == path.stat().st_size
    assert 0 <= result["largest_difference"] < 1e-4 and result["other_class_pixel_share"] < 1e-4
    assert files_in(path.parent) == {"model.onnx"}


def test_script_without_samsemi_writes_the_masks_of_predict(exported, warm, pictures, tmp_path):
    """Of images as large as the network's input pixel by pixel; of others but for what Pillow resizes otherwise, by one gray level."""
    (tmp_path / "in").mkdir()
    first, second, *_ = sorted((pictures / "images").iterdir())
    shutil.copy(first, tmp_path / "in/color.png")
    with Image.open(second) as picture:
        picture.resize((64, 64)).save(tmp_path / "in/as the network.png")
        picture.resize((41, 30)).save(tmp_path / "in/small.png")
        picture.convert("L").save(tmp_path / "in/gray.png")
        picture.quantize(16).save(tmp_path / "in/palette.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.resize((150, 90)).save(tmp_path / "in/turned.jpg", exif=exif)
    succeed("predict", tmp_path / "in", "--model", warm, "--out", tmp_path / "predicted")
    script = ROOT / "examples" / "onnx_predict.py"
    bare = {**os.environ, "PYTHONPATH": "", "PYTHONNOUSERSITE": "1"}
    for image in (tmp_path / "in").iterdir():
        mask = tmp_path / f"{image.stem}.png"
        subprocess.run([sys.executable, script, exported[0], image, mask], check=True, env=bare, cwd=tmp_path)
        expected = read_array(tmp_path / "predicted" / mask.name)
        found = read_array(mask)
        assert found.shape == expected.shape and found.dtype == np.uint8
        assert (found != expected).mean() < (1e-4 if image.stem == "as the network" else 5e-3)
    assert any(read_array(path).any() for path in (tmp_path / "predicted").glob("*.png"))


def test_script_imports_what_it_says():
    text = (ROOT / "examples" / "onnx_predict.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported == {"sys", "numpy", "onnxruntime", "PIL"} and len(text.splitlines()) <= 30


@pytest.mark.parametrize("shape", [(40, 60), (33, 200), (300, 20), (128, 128), (150, 170)])
def test_pillow_resizes_as_networks_are_fed_but_for_one_gray_level(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    fed = to_input(image, 64).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(fed - np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))).max() <= 1


def test_file_says_what_it_is_and_names_no_place(exported, warm):
    path, _ = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    card = read_model_card(warm)
    assert texts["schema"] == "samsemi.onnx/1" and json.loads(texts["classes"]) == list(card.model.classes)
    assert texts["weights"] == hash_tensors(load_model(warm).state_dict())
    assert json.loads(texts["made_from"])["dataset"] == card.made_from["dataset"] and json.loads(texts["licenses"]) == {}
    [image], [probs] = session.get_inputs(), session.get_outputs()
    assert image.shape[1:] == [3, 64, 64] and isinstance(image.shape[0], str) and probs.shape[1:] == [2, 64, 64]
    assert texts["input"].startswith(f"{image.name}: float32 (batch, 3, 64, 64), RGB from 0 to 255")
    data = path.read_bytes()
    assert not [place for place in (warm, ROOT, Path(torch.__file__).parent) if str(place).encode() in data]


def test_info_reads_it_without_onnx(exported, warm):
    path, _ = exported
    found = succeed("info", path, "--json").result
    assert found["kind"] == "exported" and found["classes"] == ["background", "foreground"] and found["size"] == 64
    assert found["made_from"] == read_model_card(warm).made_from and found["opset"] >= 17 and found["bytes"] == path.stat().st_size
    code = (
        "import sys; from samsemi.cli import main; main(sys.argv[1:]); sys.exit(len({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, "info", path], capture_output=True, text=True)
    assert done.returncode == 0 and "exported network (ONNX)" in done.stdout, done.stderr


@pytest.mark.parametrize("end", [20, 100_000, -1])
def test_cut_file_ends_with_two_lines(exported, tmp_path, end):
    (tmp_path / "cut.onnx").write_bytes(exported[0].read_bytes()[:end])
    refused(CHECKPOINT, "info", tmp_path / "cut.onnx", said=("cut.onnx",))


@pytest.mark.parametrize(
    "rest",
    [
        b"\x3a\xff\xff\xff\xff\x7f",  # a graph that is longer than the file
        b"\x0b",  # a kind of field that there is not
        b"\x18" + b"\xff" * 40,  # a number that does not end
        b"\x72\x02\x08\x01",  # a text without a name
        b"\x72\x0a\x0a\x06schema\x12\x00",  # of another schema
    ],
)
def test_hostile_file_ends_with_two_lines(tmp_path, rest):
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a\x12\x07samsemi" + rest)
    refused(CHECKPOINT, "info", tmp_path / "m.onnx", said=("m.onnx",))


def test_speed_is_compared_on_the_same_images(exported, warm, dataset, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    said = load_example("onnx_speed").compare(warm, exported[0], dataset, 4)
    equal = r"[0-4] masks equal, pixels of another class \S+, at most \S+"
    assert re.fullmatch(rf"4 images; onnxruntime: {equal}; onnx_predict.py: {equal}; torch \d+\.\d ms, onnxruntime \d+\.\d ms", said)


def test_file_that_differs_is_not_kept(exported, warm, tmp_path, monkeypatch):
    save_model(tmp_path / "run", new_segmenter(load_model(warm).spec, 1), {"scores": {}, "made_from": {}})
    monkeypatch.setattr(export_stage, "write_onnx", copies(exported[0]))
    refused(CHECKPOINT, "export", "--model", tmp_path / "run", "--out", tmp_path / "m.onnx", said=("m.onnx is not kept", "pixels"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_only_what_export_wrote_is_replaced(exported, warm, tmp_path, monkeypatch):
    monkeypatch.setattr(export_stage, "write_onnx", copies(exported[0]))
    words = ("export", "--model", warm, "--images", 2, "--out")
    (tmp_path / "mine.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    refused(REFUSED, *words, tmp_path / "mine.onnx", "--overwrite", said=("mine.onnx is not a network that samsemi has exported",))
    assert succeed(*words, tmp_path / "m.onnx", "--json").result["compared_on"] == "drawn images"
    refused(REFUSED, *words, tmp_path / "m.onnx", said=("m.onnx exists",))
    succeed(*words, tmp_path / "m.onnx", "--overwrite")
    refused(REFUSED, *words, warm, said=("is a folder",))


def test_network_that_torch_cannot_export(warm, tmp_path, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    refused(
        CHECKPOINT, "export", "--model", warm, "--out", tmp_path / "m.onnx", said=("cannot export a U-Net++ with tu-lcnet_035 (no such",)
    )
    assert not files_in(tmp_path)


def test_missing_libraries_are_named_with_the_command_that_installs_them(warm, tmp_path, monkeypatch):
    monkeypatch.setattr(export_options, "find_spec", lambda name: None if name == "onnxruntime" else True)
    outcome = call("export", "--model", warm, "--out", tmp_path / "m.onnx")
    assert outcome.code == USAGE and "export needs onnxruntime, which is not installed" in outcome.err
    assert "pip install 'samsemi[onnx]'" in outcome.err


@pytest.mark.slow
def test_both_networks_and_their_fusion_are_in_the_file(tmp_path):
    """Of KnowSAM; `export` compares with what `predict` gives, whatever joins the two."""
    spec = ModelSpec("", (16, 12, 8, 8, 8), ("background", "a", "b"), 32, peers=("unet", "vnet"))
    save_model(tmp_path / "run", new_segmenter(spec, 0), {"scores": {}, "made_from": {}})
    result = succeed("export", "--model", tmp_path / "run", "--images", 5, "--out", tmp_path / "m.onnx", "--json").result
    assert result["largest_difference"] < 1e-3 and result["classes"] == ["background", "a", "b"]
    write_image(tmp_path / "image.png", np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    subprocess.run(
        [sys.executable, ROOT / "examples/onnx_predict.py", tmp_path / "m.onnx", tmp_path / "image.png", tmp_path / "mask.png"], check=True
    )
    succeed("predict", tmp_path / "image.png", "--model", tmp_path / "run", "--out", tmp_path / "predicted")
    assert (read_array(tmp_path / "mask.png") != read_array(tmp_path / "predicted/image.png")).mean() < 1e-2
