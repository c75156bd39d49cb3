"""Where it is computed: what a machine lacks is replaced by what it has, and said. Devices that are not there are faked."""

import logging
import platform
from pathlib import Path

import pytest
import torch
from builders import ACCEPT_ALL, CPU, DEVICE, MINING, call, refused, succeed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samsemi import devices
from samsemi.devices import autocast, choose_device, choose_precision

CUDA, MPS = torch.device("cuda"), torch.device("mps")


@pytest.fixture
def machine(monkeypatch, caplog):
    """Sets up a machine: whether it has CUDA, MPS, and bf16 in its CUDA."""
    caplog.set_level(logging.INFO, "samsemi")
    choose_precision.cache_clear()

    def set_up(cuda: bool = False, mps: bool = False, bf16: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(devices, "has_bf16", lambda device: device.type == "cpu" or (device.type == "cuda" and bf16))

    yield set_up
    choose_precision.cache_clear()


@pytest.mark.parametrize(
    ("there", "chosen", "said"),
    [
        ({"cuda": True, "mps": True}, "cuda", []),
        ({"mps": True}, "mps", []),
        ({}, "cpu", ["no GPU is found: computing on the CPU"]),
    ],
    ids=["cuda", "mps", "none"],
)
def test_auto_takes_what_is_there_and_says_where_there_is_no_gpu(machine, caplog, there, chosen, said):
    machine(**there)
    assert choose_device("auto").type == chosen
    assert caplog.messages == said


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_of_tensors_that_are_gone_is_used_again_on_a_cpu():
    """Pages that the process gets anew for the same tensors made once more."""
    resource = pytest.importorskip("resource")
    choose_device("cpu")

    def make_tensors() -> None:
        [torch.ones(2**20) for _ in range(32)]

    make_tensors()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    make_tensors()
    new = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert new < 32 * 2**22 / resource.getpagesize() / 2


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_device_that_was_asked_for_and_is_not_there_is_an_error(machine, tmp_path, dataset, name):
    machine()
    refused(DEVICE, "warmstart", dataset, "--out", tmp_path / "run", "--device", name, said=(f"--device {name} is not available",))


@pytest.mark.parametrize(
    ("device", "asked", "bf16", "used", "warns"),
    [
        (CUDA, "auto", True, "bf16", False),
        (CUDA, "auto", False, "fp32", False),
        (CUDA, "bf16", True, "bf16", False),
        (CUDA, "bf16", False, "fp32", True),
        (CUDA, "fp32", True, "fp32", False),
        (MPS, "auto", False, "fp32", False),
        (MPS, "bf16", False, "fp32", True),
        (CPU, "auto", True, "fp32", False),
        (CPU, "bf16", True, "bf16", False),
    ],
    ids=str,
)
def test_precision_falls_back_where_the_device_lacks_it_and_says_so_once(machine, caplog, device, asked, bf16, used, warns):
    machine(cuda=True, mps=True, bf16=bf16)
    assert {choose_precision(device, asked) for _ in range(3)} == {used}
    warning = f"--precision bf16: {device.type} does not compute it by itself; fp32 is used"
    assert caplog.messages == ([warning] if warns else [])


def test_autocast_of_fp32_never_asks_the_device(machine):
    """Some versions of torch warn of every autocast on MPS."""
    machine(mps=True)
    with autocast(MPS, "bf16"):
        assert not torch.is_autocast_enabled("mps")
    with autocast(CPU, "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


class NoDoubles(TorchDispatchMode):
    """As on MPS, no tensor of float64 can be computed with."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        found = function(*arguments, **(options or {}))
        tensors = [value for value in tree_leaves((arguments, options, found)) if isinstance(value, torch.Tensor)]
        if any(value.dtype == torch.float64 for value in tensors):
            raise TypeError(f"{function}: MPS has no float64")
        return found


def test_fake_without_float64_refuses_it():
    with NoDoubles(), pytest.raises(TypeError):
        torch.ones(2).double()


def test_no_method_computes_in_float64(dataset, warm, store, tmp_path):
    few = ("--iterations", 2, "--batch-size", 2)
    with NoDoubles():
        succeed("adapt", dataset, "--sam", "tiny", "--out", tmp_path / "sam.safetensors", *few)
        succeed("adapt", dataset, "--sam", "tiny", "--evaluate", "--split", "val", "--model", warm)
        prompting = ("--prompts", "box+point,box", "--passes", 2, "--jitters", 1, "--embeddings", tmp_path / "cache.h5")
        succeed("mine", dataset, "--model", warm, "--out", tmp_path / "tiny.h5", "--calibrate", *prompting, *MINING)
        succeed("finetune", dataset, "--model", warm, "--store", store, "--out", tmp_path / "mined", *few, *ACCEPT_ALL)
        small = ("--batch-size", 4, "--size", 32, "--sam-size", 64, "--mix-from", 0.3, "--overlays", 0)
        succeed("distill", dataset, "--out", tmp_path / "distilled", "--iterations", 2, *small)
        succeed("eval", dataset, "--model", tmp_path / "mined", "--out", tmp_path / "eval")


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: all CUDA-capable devices are busy or unavailable",
    ],
)
def test_gpu_that_cannot_be_used_is_an_error_of_the_device(monkeypatch, pictures, warm, tmp_path: Path, message):
    from samsemi.stages import predict

    def fail(*arguments: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(predict, "predict_batch", fail)
    outcome = call("predict", pictures / "images", "--model", warm, "--out", tmp_path / "masks", "--quiet")
    assert outcome.code == DEVICE and message in outcome.err and "--device cpu" in outcome.err
