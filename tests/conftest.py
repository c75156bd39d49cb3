"""A small drawn data set, a model trained on it and a store mined with it, shared by the end-to-end tests."""

import os
import signal
import socket
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from builders import MINING, NETWORK, draw_cases, succeed, write_image
from small_world import World

from samsemi import console


@pytest.fixture
def shown():
    """The library shows what it has to say, as in a command; afterwards it is silent again."""
    console.set_quiet(False)
    yield
    console.set_quiet(True)


@pytest.fixture(scope="session", autouse=True)
def plain_signals():
    """Signals as in a terminal: whoever starts the tests in the background, or with nohup, has some of them ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def no_weights(tmp_path_factory):
    """Whatever whoever runs the tests has fetched is not found by them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMSEMI_WEIGHTS", str(tmp_path_factory.getbasetemp() / "no weights"))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuse every connection to another machine, of all tests."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: object) -> None:
        assert self.family == getattr(socket, "AF_UNIX", None) or address[0] in ("127.0.0.1", "::1"), f"a connection to {address}"
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a trained model is slow, as are the files that train their own."""
    for item in items:
        if "warm" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture
def world(pictures, dataset, warm, store, tmp_path) -> World:
    """The shared things under the names by which commands that are killed, or fed with hostile files, know them."""
    found = {"images": pictures / "images", "masks": pictures / "masks", "dataset": dataset, "warm": warm, "store.h5": store}
    (tmp_path / "world").mkdir()
    for name, path in found.items():
        (tmp_path / "world" / name).symlink_to(path)
    return World(tmp_path / "world")
