"""A small drawn data set, a model trained on it and a store mined with it, shared by the end-to-end tests."""

import contextlib
import importlib.util
import io
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import pytest
from PIL import Image

from samsemi import cli

ROOT = Path(__file__).resolve().parent.parent
NETWORK = ("--size", 64, "--encoder", "tu-lcnet_035", "--decoder-channels", "16,12,8,8,8", "--batch-size", 4, "--ema", 0.8, "--lr", 0.01)
"""A network that a CPU trains in seconds."""
ACCEPT_ALL = ("--min-confidence", 0, "--min-predicted-iou", 0, "--min-stability", 0, "--min-agreement", 0, "--min-quality", 0)
MINING = ("--batch-size", 2, *ACCEPT_ALL)
RUN_FILES = {
    "config.toml",
    "environment.json",
    "history.csv",
    "model.json",
    "model.safetensors",
    "last/state.safetensors",
    "last/made_from.json",
}


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict:
        """The JSON object on stdout; fails where anything else stands there."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def on_cpu(arguments: tuple) -> list[str]:
    """Arguments as text; commands that compute do so on the CPU unless told otherwise, since bits are compared."""
    computes = arguments and arguments[0] in ("warmstart", "adapt", "mine", "finetune", "distill", "eval", "predict")
    return [str(argument) for argument in arguments] + (["--device", "cpu"] if computes and "--device" not in arguments else [])


def call(*arguments: object) -> Outcome:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(on_cpu(arguments))
    signal.signal(signal.SIGTERM, before)
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> Outcome:
    """Run a command that has to end with exit code 0."""
    outcome = call(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def files_in(folder: Path) -> set[str]:
    """All files below a folder, as relative paths."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def hdf5_values(path: Path) -> dict[str, object]:
    """Every dataset and every attribute of the root of an HDF5 file, as plain values that can be compared."""
    found: dict[str, object] = {}

    def keep(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            columns = item.dtype.names or [()]
            found[name] = [str(item.dtype), *(item[column].tolist() for column in columns)]

    with h5py.File(path, "r") as file:
        found |= {f"attribute {name}": value for name, value in file.attrs.items()}
        file.visititems(keep)
    return found


def write_image(path: Path, array: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def read_array(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def truncate(path: Path) -> None:
    """Cut a file to its first half, as a broken copy does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def load_example(name: str):
    """A script of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_cases(count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """id -> image and 0/255 mask of the demo's pictures, growths tinted so that a few steps suffice to learn them."""
    draw_image = load_example("draw_images").draw_image
    cases = {}
    for number in range(count):
        patient, visit = divmod(number, 3)
        image, mask = draw_image(7, patient, visit)
        tinted = 0.3 * image + np.array([0, 150, 150])
        cases[f"p{patient:03d}_{visit}"] = np.where(mask[..., None] > 0, tinted, image).astype(np.uint8), mask
    return cases


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """images/ and masks/ (0/255) of 24 images in two sizes, of 8 patients."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, (image, mask) in draw_cases(24).items():
        write_image(folder / "images" / f"{name}.png", image)
        write_image(folder / "masks" / f"{name}.png", mask)
    return folder


@pytest.fixture(scope="session")
def dataset(pictures, tmp_path_factory) -> Path:
    """9 labeled, 9 unlabeled, 3 val, 3 test cases."""
    folder = tmp_path_factory.mktemp("data") / "growths"
    prepare = ("prepare", pictures / "images", "--masks", pictures / "masks", "--out", folder)
    succeed(*prepare, "--groups", r"p(\d+)", "--labeled", 9, "--val", 3, "--test", 3)
    return folder


@pytest.fixture(scope="session")
def warm(dataset, tmp_path_factory) -> Path:
    """A run folder whose model finds the growths."""
    folder = tmp_path_factory.mktemp("runs") / "warm"
    succeed("warmstart", dataset, "--out", folder, *NETWORK, "--iterations", 24, "--validate-every", 8)
    return folder


@pytest.fixture(scope="session")
def store(dataset, warm, tmp_path_factory) -> Path:
    """What the packaged SAM made of the unlabeled cases, everything accepted."""
    path = tmp_path_factory.mktemp("stores") / "tiny.h5"
    succeed("mine", dataset, "--model", warm, "--out", path, *MINING)
    return path
