"""What was interrupted at any moment and taken up again gives the same as if nothing had happened, to the last bit."""

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch
from builders import (
    ACCEPT_ALL,
    CHECKPOINT,
    MINING,
    NETWORK,
    REFUSED,
    assert_interrupted,
    call,
    file_bytes,
    files_in,
    hdf5_values,
    interrupt,
    interrupt_at,
    on_cpu,
    refused,
    succeed,
)

from samsemi.mining import calibration, online, store_tables, store_writer
from samsemi.mining import miner as mining
from samsemi.options.sams import SAMS
from samsemi.segmenters.checkpoints import load_model
from samsemi.stages import finetune, warmstart
from samsemi.tensors import save_tensors
from samsemi.training import loop as training

pytestmark = pytest.mark.slow

SHORT = ("--iterations", 6, "--validate-every", 3, "--batch-size", 2)
CONTINUOUS = ("--schedule", "continuous", "--remine-every", 2, *ACCEPT_ALL)


def mine_arguments(dataset, warm, out) -> tuple:
    return ("mine", dataset, "--model", warm, "--out", out, *MINING)


def warmstart_arguments(dataset, out) -> tuple:
    return ("warmstart", dataset, "--out", out, *NETWORK, *SHORT)


def finetune_arguments(dataset, warm, store, out) -> tuple:
    return ("finetune", dataset, "--model", warm, "--store", store, "--out", out, *SHORT, *CONTINUOUS)


def signal_at(monkeypatch, owner: object, name: str, number: int, which: signal.Signals) -> None:
    """A real signal in the ``number``-th call of a function."""
    original: Callable = getattr(owner, name)
    calls = []

    def signaled(*arguments: object, **options: object) -> object:
        calls.append(None)
        if len(calls) == number:
            signal.raise_signal(which)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, signaled)


def assert_same_run(resumed: Path, whole: Path) -> None:
    """Weights, card, stores, and tables but for the two columns that are times; paths aside."""
    assert files_in(resumed) == files_in(whole)
    for name in ("model.safetensors", "model.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    for path in sorted(whole.glob("stores/*.h5")):
        assert hdf5_values(resumed / "stores" / path.name) == hdf5_values(path), path.name
    for name in ("history.csv", "drift.csv"):
        assert timeless_rows(resumed / name) == timeless_rows(whole / name), name


def timeless_rows(path: Path) -> list[dict[str, str]]:
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_second")} for row in training.History(path).rows]


# mine

PAUSE_IN_THE_THIRD_PART = """
import sys, time
from contextlib import contextmanager
from samsemi import cli, hdf5

whole_file = hdf5.whole_file

@contextmanager
def pause(path):
    with whole_file(path) as part:
        yield part
        if path.name == "000002.h5":
            time.sleep(600)

hdf5.whole_file = pause
sys.exit(cli.main(sys.argv[1:]))
"""

PAUSE_WHILE_MINING_AGAIN = """
import sys, time
from samsemi import cli
from samsemi.mining import store_writer

commit = store_writer.StoreWriter.commit

def pause(writer, number):
    commit(writer, number)
    if writer.path.name == "000004.h5" and number == 1:
        time.sleep(600)

store_writer.StoreWriter.commit = pause
sys.exit(cli.main(sys.argv[1:]))
"""


def kill_when(there: Callable[[], bool], script: str, arguments: tuple, before: Callable[[int], None] = lambda pid: None) -> None:
    """Run a command in a process of its own and kill it with SIGKILL as soon as something is there; ``before`` that, called with its
    number, something else may happen."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *on_cpu(arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not there():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()


def is_below(folder: Path, pattern: str) -> bool:
    """Whether something stands there, while another process makes and removes folders."""
    try:
        return any(folder.glob(pattern))
    except FileNotFoundError:
        return False


def test_killed_mining_goes_on_and_gives_the_same_store(dataset, warm, store, tmp_path, monkeypatch):
    out, parts = tmp_path / "tiny.h5", tmp_path / "tiny.h5.parts"
    arguments = mine_arguments(dataset, warm, out)

    def second(pid: int) -> None:
        for how in ((), ("--resume",), ("--overwrite",)):
            refused(REFUSED, *arguments, *how, said=(out, f"process {pid} on "))
        refused(CHECKPOINT, "eval", dataset, "--store", out, "--out", tmp_path / "eval", said=("no such store",))

    kill_when(lambda: is_below(parts, "*/000002*"), PAUSE_IN_THE_THIRD_PART, arguments, second)
    assert not out.exists()
    assert {path.name for path in parts.iterdir() if not path.name.startswith(".")} == {"000000.h5", "000001.h5"}
    mined, read_case_images = [], mining.read_case_images
    monkeypatch.setattr(mining, "read_case_images", lambda cases: (mined.extend(case.id for case in cases), read_case_images(cases))[1])
    succeed(*arguments, "--resume")
    assert len(mined) == 5, "finished parts are not mined again"
    assert files_in(tmp_path) == {"tiny.h5"}
    assert hdf5_values(out) == hdf5_values(store)


@pytest.mark.parametrize(
    "owner, name, number",
    [
        (mining, "read_case_images", 1),
        (mining, "read_case_images", 3),
        (store_writer.StoreWriter, "commit", 2),
        (calibration, "judge_case", 2),
        (store_writer, "merge", 1),
        (store_tables, "copy_part", 3),
    ],
)
def test_interrupted_mining_goes_on_and_gives_the_same_store(dataset, warm, store, tmp_path, monkeypatch, owner, name, number):
    arguments = mine_arguments(dataset, warm, tmp_path / "tiny.h5")
    with monkeypatch.context() as patch:
        interrupt_at(patch, owner, name, number)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    assert files_in(tmp_path) == {"tiny.h5"}
    assert hdf5_values(tmp_path / "tiny.h5") == hdf5_values(store)


def test_mining_interrupted_while_tidying_up_leaves_nothing_behind(dataset, warm, store, tmp_path, monkeypatch):
    arguments = mine_arguments(dataset, warm, tmp_path / "tiny.h5")
    with monkeypatch.context() as patch:
        interrupt_at(patch, mining.StoreWriter, "finish", 1)
        assert_interrupted(arguments)
    with monkeypatch.context() as patch:
        interrupt_at(patch, mining.StoreWriter, "remove_parts", 1)
        assert_interrupted((*arguments, "--resume"))
    succeed(*arguments, "--resume")
    assert files_in(tmp_path) == {"tiny.h5"}


# warmstart


@pytest.fixture(scope="module")
def whole_warmstart(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    succeed(*warmstart_arguments(dataset, folder))
    return folder


@pytest.mark.parametrize(
    "owner, name, number, after",
    [
        pytest.param(warmstart, "segmentation_loss", 1, False, id="in the first step"),
        pytest.param(warmstart, "segmentation_loss", 5, False, id="after a forward pass"),
        pytest.param(torch.optim.AdamW, "step", 5, True, id="after the optimizer's step"),
        pytest.param(training.TrainingState, "average", 5, False, id="before the weights are averaged"),
        pytest.param(training, "validate", 1, False, id="in the first validation"),
        pytest.param(training, "validate", 2, False, id="in the last validation"),
        pytest.param(training, "save_model", 1, False, id="before the best model is saved"),
        pytest.param(training, "save_model", 1, True, id="after the best model is saved"),
        pytest.param(training.TrainingState, "save", 1, False, id="while the state is saved"),
    ],
)
def test_interrupted_warmstart_goes_on_and_gives_the_same_model(
    dataset, whole_warmstart, tmp_path, monkeypatch, owner, name, number, after
):
    arguments = warmstart_arguments(dataset, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, owner, name, number, after)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    assert_same_run(tmp_path / "run", whole_warmstart)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_lets_the_step_end_and_loses_none(dataset, whole_warmstart, tmp_path, monkeypatch, which):
    arguments = warmstart_arguments(dataset, tmp_path / "run")
    with monkeypatch.context() as patch:
        signal_at(patch, warmstart, "segmentation_loss", 5, which)
        assert_interrupted(arguments)
    assert "iteration 5 of 6" in succeed(*arguments, "--resume").err
    assert_same_run(tmp_path / "run", whole_warmstart)


def test_signal_stops_mining(dataset, warm, tmp_path, monkeypatch):
    arguments = mine_arguments(dataset, warm, tmp_path / "tiny.h5")
    with monkeypatch.context() as patch:
        signal_at(patch, mining, "read_case_images", 2, signal.SIGTERM)
        assert_interrupted(arguments)
    assert files_in(tmp_path) == {"tiny.h5.parts/000000.h5"}


def test_warmstart_interrupted_in_a_fold_goes_on_and_gives_the_same_maps(dataset, tmp_path, monkeypatch):
    few = ("--folds", 2, "--iterations", 2, "--batch-size", 2)
    succeed("warmstart", dataset, "--out", tmp_path / "whole", *NETWORK, *few)
    arguments = ("warmstart", dataset, "--out", tmp_path / "run", *NETWORK, *few)
    with monkeypatch.context() as patch:
        interrupt_at(patch, warmstart, "segmentation_loss", 6)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    for part in (".", "fold-1", "fold-2"):
        assert_same_run(tmp_path / "run" / part, tmp_path / "whole" / part)
    assert hdf5_values(tmp_path / "run/out_of_fold.h5") == hdf5_values(tmp_path / "whole/out_of_fold.h5")


# finetune


@pytest.fixture(scope="module")
def whole_finetune(dataset, warm, store, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    succeed(*finetune_arguments(dataset, warm, store, folder))
    assert len(list(folder.glob("stores/*.h5"))) == 2
    return folder


def test_killed_finetune_goes_on_and_gives_the_same_model(dataset, warm, store, whole_finetune, tmp_path):
    arguments = finetune_arguments(dataset, warm, store, tmp_path / "run")
    kill_when((tmp_path / "run/stores/000004.h5.parts/000001.h5").exists, PAUSE_WHILE_MINING_AGAIN, arguments)
    succeed(*arguments, "--resume")
    assert_same_run(tmp_path / "run", whole_finetune)


@pytest.mark.parametrize(
    "owner, name, number",
    [
        pytest.param(finetune, "segmentation_loss", 4, id="in the second step"),
        pytest.param(mining, "read_case_images", 2, id="while mining again"),
        pytest.param(finetune, "segmentation_loss", 6, id="after mining again"),
        pytest.param(training, "validate", 2, id="in the last validation"),
    ],
)
def test_interrupted_finetune_goes_on_and_gives_the_same_model(
    dataset, warm, store, whole_finetune, tmp_path, monkeypatch, owner, name, number
):
    arguments = finetune_arguments(dataset, warm, store, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, owner, name, number)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    assert_same_run(tmp_path / "run", whole_finetune)


def test_interrupted_rounds_go_on_and_give_the_same_model(dataset, warm, store, tmp_path, monkeypatch):
    shared = ("finetune", dataset, "--model", warm, "--store", store, *SHORT, "--rounds", 3, *ACCEPT_ALL)
    shared += ("--embeddings", tmp_path / "embeddings.h5")
    succeed(*shared, "--out", tmp_path / "whole")
    for owner, name, number in ((finetune, "segmentation_loss", 6), (mining, "read_case_images", 3), (training, "validate", 3)):
        out = tmp_path / f"{name}"
        with monkeypatch.context() as patch:
            interrupt_at(patch, owner, name, number)
            assert_interrupted((*shared, "--out", out))
        succeed(*shared, "--out", out, "--resume")
        for part in (".", "rounds/1", "rounds/2"):
            assert_same_run(out / part, tmp_path / "whole" / part)


def online_arguments(dataset, warm, store, out, *more) -> tuple:
    return ("finetune", dataset, "--model", warm, "--store", store, "--out", out, *SHORT, "--schedule", "online", *ACCEPT_ALL, *more)


@pytest.fixture(scope="module")
def whole_online(dataset, warm, store, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    succeed(*online_arguments(dataset, warm, store, folder))
    return folder


@pytest.mark.parametrize(
    "owner, name, number",
    [
        pytest.param(finetune, "segmentation_loss", 4, id="in the second step"),
        pytest.param(training.TrainingState, "average", 5, id="before the weights are averaged"),
        pytest.param(online, "mined_sample", 3, id="while a batch is labeled"),
        pytest.param(training, "validate", 2, id="in the last validation"),
    ],
)
def test_interrupted_online_mining_goes_on_and_gives_the_same_model(
    dataset, warm, store, whole_online, tmp_path, monkeypatch, owner, name, number
):
    arguments = online_arguments(dataset, warm, store, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, owner, name, number)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    assert_same_run(tmp_path / "run", whole_online)


def test_online_mining_gives_the_same_model_whatever_the_number_of_workers(dataset, warm, store, whole_online, tmp_path):
    succeed(*online_arguments(dataset, warm, store, tmp_path / "run", "--workers", 2))
    assert_same_run(tmp_path / "run", whole_online)
    assert hdf5_values(tmp_path / "run/embeddings.h5") == hdf5_values(whole_online / "embeddings.h5")


# distill and predict


def distill_arguments(dataset, out) -> tuple:
    """Mixing begins at the third of six steps; states are saved at the third and the last."""
    small = ("--batch-size", 4, "--size", 32, "--sam-size", 64, "--mix-from", 0.3, "--overlays", 0)
    return ("distill", dataset, "--out", out, *SHORT[:4], *small)


@pytest.fixture(scope="module")
def whole_distill(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    succeed(*distill_arguments(dataset, folder))
    return folder


@pytest.mark.parametrize("number", [1, 4, 5])
def test_interrupted_distill_goes_on_and_gives_the_same_model_and_teacher(dataset, whole_distill, tmp_path, monkeypatch, number):
    arguments = distill_arguments(dataset, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, training.TrainingState, "average", number)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    assert_same_run(tmp_path / "run", whole_distill)
    assert (tmp_path / "run" / "teacher.safetensors").read_bytes() == (whole_distill / "teacher.safetensors").read_bytes()


def test_interrupted_predict_goes_on_and_gives_the_same_masks(pictures, warm, tmp_path, monkeypatch):
    from samsemi.stages import predict

    options = ("predict", pictures / "images", "--model", warm, "--overlays", "--probabilities", "--batch-size", 5)
    succeed(*options, "--out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, predict, "write_prediction", 8)
        assert_interrupted((*options, "--out", tmp_path / "resumed"))
    result = succeed(*options, "--out", tmp_path / "resumed", "--resume", "--json").result
    assert (result["images"], result["kept"], result["written"]) == (24, 7, 17), "the other three of the second batch, and those behind"
    assert file_bytes(tmp_path / "resumed") == file_bytes(tmp_path / "whole")
    [entry] = zipfile.ZipFile(next(tmp_path.glob("whole/probabilities/*.npz"))).infolist()
    assert entry.filename == "probs.npy" and entry.date_time == (1980, 1, 1, 0, 0, 0), "no time of day, which would differ"


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"], ids=["no JSON", "no object", "no text"])
def test_predictions_with_a_damaged_record_are_not_resumed(pictures, warm, tmp_path, content):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "predictions.json").write_bytes(content)
    outcome = call("predict", pictures / "images", "--model", warm, "--out", tmp_path / "masks", "--resume")
    assert outcome.code == 3 and "predictions.json cannot be read" in outcome.err and "--overwrite" in outcome.err


# nothing there yet, and nothing left to do


def test_resume_starts_where_nothing_is_and_changes_nothing_that_is_finished(dataset, pictures, warm, store, tmp_path):
    commands = (
        warmstart_arguments(dataset, tmp_path / "warm"),
        mine_arguments(dataset, warm, tmp_path / "store.h5"),
        finetune_arguments(dataset, warm, store, tmp_path / "fine"),
        ("predict", pictures / "images", "--model", warm, "--out", tmp_path / "masks"),
    )
    first = [succeed(*arguments, "--resume", "--json").result for arguments in commands]
    before = file_bytes(tmp_path)
    assert not [name for name in before if "last/" in name]
    outcomes = [succeed(*arguments, "--resume", "--json") for arguments in commands]
    assert ["is finished already" in outcome.err for outcome in outcomes] == [True, True, True, False]
    again = [outcome.result for outcome in outcomes]
    assert file_bytes(tmp_path) == before
    for one, other in zip(first, again, strict=True):
        timeless = {name for name in one if name not in ("seconds", "images_per_second", "written", "kept", "windows", "windows_cached")}
        assert {name: one[name] for name in timeless} == {name: other[name] for name in timeless}


def test_training_interrupted_while_tidying_up_is_finished(dataset, whole_warmstart, tmp_path, monkeypatch):
    arguments = warmstart_arguments(dataset, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("samsemi.training.runs.remove_state", interrupt)
        assert_interrupted(arguments)
    assert (tmp_path / "run/last/state.safetensors").exists()
    assert "is finished already" in succeed(*arguments, "--resume").err
    assert_same_run(tmp_path / "run", whole_warmstart)


@pytest.mark.parametrize("interrupted", [True, False])
def test_run_of_before_the_schema_is_taken_up_and_replaced(dataset, whole_warmstart, tmp_path, monkeypatch, interrupted):
    """Its mark lies in last/, finished or not, and knows less of its inputs."""
    arguments = warmstart_arguments(dataset, tmp_path / "run")
    with monkeypatch.context() as patch:
        if interrupted:
            interrupt_at(patch, warmstart, "segmentation_loss", 5)
        else:
            patch.setattr("samsemi.training.runs.Run.finish", interrupt)
        assert_interrupted(arguments)
    mark = tmp_path / "run/last/made_from.json"
    known = {name: value for name, value in json.loads(mark.read_text()).items() if name in ("dataset", "labeled")}
    mark.write_text(json.dumps(known))
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    succeed(*arguments, "--resume")
    assert_same_run(tmp_path / "run", whole_warmstart)
    succeed(*warmstart_arguments(dataset, tmp_path / "other"), "--overwrite")
    mark = tmp_path / "other/made_from.json"
    mark.write_text(json.dumps(known | {"labeled": 8}))
    assert call(*warmstart_arguments(dataset, tmp_path / "other"), "--resume").code == 3


# inputs that were moved


def test_encoder_weights_may_lie_elsewhere_on_resumption_and_may_not_differ(dataset, warm, tmp_path, monkeypatch):
    encoder = load_model(warm).network.encoder.state_dict()
    first, moved, other = (tmp_path / f"{name}.safetensors" for name in ("first", "moved", "other"))
    save_tensors(first, encoder)
    save_tensors(other, {name: value + 1 for name, value in encoder.items()})
    arguments = warmstart_arguments(dataset, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, warmstart, "segmentation_loss", 5)
        assert_interrupted((*arguments, "--encoder-weights", first))
    first.rename(moved)
    for changed in (other, "none"):
        refused(REFUSED, *arguments, "--resume", "--encoder-weights", changed, said=(tmp_path / "run", "encoder_weights was"))
    succeed(*arguments, "--resume", "--encoder-weights", moved)


def test_inputs_of_finetune_may_lie_elsewhere_on_resumption_and_may_not_differ(dataset, warm, store, whole_finetune, tmp_path, monkeypatch):
    model, labels = shutil.copytree(warm, tmp_path / "model"), Path(shutil.copy(store, tmp_path / "s.h5"))
    arguments = finetune_arguments(dataset, model, labels, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, finetune, "segmentation_loss", 6)
        assert_interrupted((*arguments, "--embeddings", tmp_path / "cache.h5"))
    where = (shutil.move(model, tmp_path / "moved"), labels.rename(tmp_path / "moved.h5"))
    arguments = finetune_arguments(shutil.copytree(dataset, tmp_path / "data"), *where, tmp_path / "run")
    with h5py.File(where[1], "a") as file:
        file.attrs["policy"] = json.dumps(json.loads(file.attrs["policy"]) | {"sam_share": 0.125})
    refused(REFUSED, *arguments, "--resume", said=(tmp_path / "run", "store_content was"))
    shutil.copy(store, where[1])
    weights = shutil.copy(SAMS["tiny"].weights, tmp_path / "sam.safetensors")
    succeed(*arguments, "--resume", "--sam-checkpoint", weights)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (whole_finetune / "model.safetensors").read_bytes()
