import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from samsemi.errors import CheckpointError
from samsemi.inputs import hash_file
from samsemi.tensors import hash_tensors, load_metadata, load_strictly, load_tensors, save_tensors

WEIGHTS = {"conv.weight": torch.arange(12.0).view(3, 4), "conv.bias": torch.tensor([1.0, 2.0, 3.0])}


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def assert_weights(found, expected=WEIGHTS) -> None:
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_tensors_and_metadata_are_read_back(tmp_path):
    tensors = {**WEIGHTS, "count": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16), "flag": torch.tensor([True, False])}
    save_tensors(tmp_path / "w.safetensors", tensors, {"state": "{}"})
    found = load_tensors(tmp_path / "w.safetensors")
    assert_weights(found, tensors)
    assert {name: tensor.dtype for name, tensor in found.items()} == {name: tensor.dtype for name, tensor in tensors.items()}
    assert load_metadata(tmp_path / "w.safetensors") == {"state": "{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_transposed_tensors_and_parameters_are_written_as_their_values(tmp_path):
    parameter = nn.Parameter(torch.arange(6.0).view(2, 3))
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save_tensors(tmp_path / "w.safetensors", {"a": parameter.T, "b": image})
    assert_weights(load_tensors(tmp_path / "w.safetensors"), {"a": parameter.detach().T, "b": image})


def test_failed_writing_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_tensors(path, WEIGHTS)

    def fail_halfway(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("samsemi.tensors.save_file", fail_halfway)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(path, {"other": torch.zeros(1)})
    assert_weights(load_tensors(path))


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model_state_dict": WEIGHTS, "optimizer": {"lr": 0.1}},
        {"model": WEIGHTS},
        {f"module.{name}": tensor for name, tensor in WEIGHTS.items()},
        {"state_dict": {f"module.{name}": tensor for name, tensor in WEIGHTS.items()}},
    ],
    ids=["plain", "state_dict", "model_state_dict", "model", "module.", "state_dict module."],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_in_the_usual_kinds_of_pth(tmp_path, content, zipped):
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_weights(load_tensors(tmp_path / "w.pth"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin"])
def test_pickled_payload_does_not_run_and_is_refused(tmp_path, zipped, name):
    mark = tmp_path / "ran"
    torch.save({"state_dict": WEIGHTS, "extra": Payload(mark)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="holds more than tensors") as caught:
        load_tensors(tmp_path / name)
    assert not mark.exists() and name in caught.value.message and "state_dict" in caught.value.hint


def test_plain_pickle_does_not_run_either(tmp_path):
    mark = tmp_path / "ran"
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(mark), protocol=2))
        with pytest.raises(CheckpointError, match=name):
            load_tensors(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], torch.zeros(2), None, 3, {"a": 1}, {"state_dict": None}, {0: torch.zeros(2)}, {"state_dict": {0: torch.zeros(2)}}],
    ids=str,
)
def test_foreign_content_is_a_checkpoint_error(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="w.pth"):
        load_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("garbage", [b"", b"hello", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 100, b"<html>", bytes(range(256))], ids=str)
def test_garbage_is_a_checkpoint_error(tmp_path, garbage):
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(garbage)
        with pytest.raises(CheckpointError, match=name) as caught:
            load_tensors(tmp_path / name)
        assert caught.value.hint


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_checkpoint_is_a_checkpoint_error_wherever_it_is_cut(tmp_path, kind):
    """A download that broke off is the commonest damage."""
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_tensors(path, WEIGHTS)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    for length in range(0, len(data) - 1, len(data) // 40):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_tensors(path)


def test_missing_file_and_folder_are_checkpoint_errors(tmp_path):
    for path in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            load_tensors(path)
    with pytest.raises(CheckpointError, match="missing"):
        load_metadata(tmp_path / "missing.safetensors")


def module() -> nn.Module:
    return nn.ModuleDict({"conv": nn.Linear(4, 3)})


def test_module_is_filled_strictly():
    filled = module()
    load_strictly(filled, WEIGHTS, "w.pth", "hint")
    assert_weights(filled.state_dict())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"conv.bias": None}, "1 missing, such as conv.bias"),
        ({"head.weight": torch.zeros(1), "head.bias": torch.zeros(1)}, "2 unexpected, such as head.weight"),
        ({"conv.weight": torch.zeros(4, 3)}, "1 of another shape, such as conv.weight"),
        ({"conv.bias": None, "x": torch.zeros(1)}, "1 missing, such as conv.bias; 1 unexpected, such as x"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(change, named):
    """KnowSAM leaves out what does not fit, in silence."""
    tensors = {name: tensor for name, tensor in {**WEIGHTS, **change}.items() if tensor is not None}
    unfilled = module()
    before = hash_tensors(unfilled.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_strictly(unfilled, tensors, "w.pth", "give others")
    assert "w.pth" in caught.value.message and named in caught.value.message and caught.value.hint == "give others"
    assert hash_tensors(unfilled.state_dict()) == before


def test_hash_depends_on_names_types_shapes_and_values_and_on_nothing_else():
    base = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(True), "c": torch.zeros(0)}
    same = {"c": torch.zeros(0), "b": torch.tensor(True), "a": torch.arange(6.0).view(2, 3).T.contiguous().T}
    assert hash_tensors(same) == hash_tensors(base)
    others = [
        {**base, "a": base["a"].view(3, 2)},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"] + 1},
        {"x": base["a"], "b": base["b"], "c": base["c"]},
        {"a": base["a"], "b": base["b"]},
    ]
    assert len({hash_tensors(tensors) for tensors in (base, *others)}) == 6


def test_hash_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_saved_weights_are_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "w.safetensors", WEIGHTS)
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv.bias": torch.tensor([1.0, torch.nan, 3.0])}, "conv.bias holds NaN or infinity"),
        ({"conv.weight": torch.full((3, 4), -torch.inf)}, "conv.weight holds NaN or infinity"),
        ({"conv.weight": torch.full((3, 4), torch.inf).half()}, "conv.weight holds NaN or infinity"),
        ({"conv.weight": torch.ones(3, 4, dtype=torch.int8)}, "conv.weight is of type int8, not float32"),
        ({"conv.weight": torch.zeros(3, 4)}, "all weights are 0, such as conv.weight"),
        ({"count": torch.tensor(1.5)}, "count is of type float32, not int64"),
    ],
)
def test_what_are_no_weights_is_named(change, said):
    module = nn.Module()
    module.conv = nn.Linear(4, 3)
    module.register_buffer("count", torch.tensor(0))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    load_strictly(module, {**WEIGHTS, "count": torch.tensor(0)}, "w", "hint")
    load_strictly(module, before, "w", "hint")
    with pytest.raises(CheckpointError, match=f"w: {said}"):
        load_strictly(module, {**WEIGHTS, "count": torch.tensor(0)} | change, "w", "hint")
    assert_weights(module.state_dict(), before)


def test_weights_in_half_precision_and_one_layer_of_zeros_are_weights():
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.LayerNorm(2))
    tensors = {name: value.half() for name, value in module.state_dict().items()}
    load_strictly(module, {**tensors, "0.weight": torch.zeros(3, 4)}, "w", "hint")
    assert not module[0].weight.any()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_header_of_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "state.safetensors")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_metadata(tmp_path / "state.safetensors")


def test_bit_that_turns_in_tensors_is_named(tmp_path):
    path = tmp_path / "m.safetensors"
    save_tensors(path, {"a": torch.arange(9.0)})
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    with pytest.raises(CheckpointError, match=r"m\.safetensors is not a checkpoint \(its tensors are not those"):
        load_tensors(path)
