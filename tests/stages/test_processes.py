"""Commands that several processes do together give what one gives."""

import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from builders import MINING, NETWORK, as_process, files_in, hdf5_values, refused, succeed
from launched import freeze, launch, start_two

from samsemi import collectives
from samsemi.errors import DeviceError
from samsemi.mining.store_writer import parts_of
from samsemi.tensors import load_tensors
from samsemi.training.runs import STATE, History

TRAINING = ("--lr", 1e-3, "--validate-every", 20)
DIES = """
import os, signal
from samsemi.mining.store_writer import StoreWriter
commit = StoreWriter.commit
def commit_and_die(writer, number):
    commit(writer, number)
    os.kill(os.getpid(), signal.SIGKILL)
StoreWriter.commit = commit_and_die
"""


def commands(dataset: Path, warm: Path, store: Path, out: Path) -> list[tuple]:
    again = ("--schedule", "continuous", "--remine-every", 5, "--iterations", 10)
    small = ("--iterations", 4, "--batch-size", 4, "--size", 32, "--sam-size", 64, "--mix-from", 0.3, "--map-dropout", 0.5)
    return [
        ("mine", dataset, "--model", warm, "--out", out / "mined.h5", *MINING),
        ("warmstart", dataset, "--out", out / "warmstart", *NETWORK, *TRAINING, "--iterations", 20),
        ("finetune", dataset, "--model", warm, "--store", store, "--out", out / "finetune", "--batch-size", 4, *TRAINING, *again),
        ("distill", dataset, "--out", out / "distill", *small, "--overlays", 1, "--optimizer", "adamw", "--lr", 1e-3),
        ("adapt", dataset, "--out", out / "adapt.safetensors", "--all", "--iterations", 3, "--batch-size", 2, "--overlays", 1),
    ]


@pytest.fixture(scope="module")
def outputs(dataset, warm, store, tmp_path_factory) -> tuple[Path, Path]:
    """What one process, and what two of torchrun, make of the same."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    done = launch(commands(dataset, warm, store, two), two / "commands.json")
    assert done.returncode == 0, done.stderr
    (two / "commands.json").unlink()
    (two / "said").write_text(done.stdout)
    with pytest.MonkeyPatch.context() as patch:
        freeze(patch.setattr)
        for command in commands(dataset, warm, store, one):
            succeed(*command)
    return one, two


def test_two_processes_mine_the_store_of_one(outputs, store):
    _, two = outputs
    assert hdf5_values(two / "mined.h5") == hdf5_values(store)


@pytest.mark.parametrize("run", ["warmstart", "finetune", "distill", "adapt.run"])
def test_two_processes_train_the_weights_of_one(outputs, run):
    """But for biases of attention's keys, which a softmax does not see: their gradient is rounding alone, which AdamW makes a step of."""
    alone, together = (load_tensors(folder / run / STATE) for folder in outputs)
    assert alone.keys() == together.keys()
    weights = [name for name in alone if name.startswith(("model.", "averaged.")) and not name.endswith(("k_proj.bias", "qkv.bias"))]
    apart = {name: (alone[name] - together[name]).abs().max().item() for name in weights}
    assert max(apart.values()) < 1e-5, max(apart, key=apart.get)
    of_model = [name for name in weights if name.startswith("model.")]
    moved = [name for name in of_model if not torch.equal(alone[name], alone[f"averaged{name.removeprefix('model')}"])]
    assert moved, "nothing was trained"


@pytest.mark.parametrize("run", ["warmstart", "finetune", "distill", "adapt.run"])
def test_two_processes_write_the_history_of_one(outputs, run):
    alone, together = (History(folder / run / "history.csv").rows for folder in outputs)
    for one, two in zip(alone, together, strict=True):
        assert numbers(one) == pytest.approx(numbers(two), rel=1e-3)


def numbers(row: dict[str, str]) -> dict[str, float]:
    """Of a history, but for times."""
    return {name: float(value) for name, value in row.items() if value and name not in ("seconds", "images_per_second")}


def test_first_process_alone_writes_and_prints(outputs):
    one, two = outputs
    of_others = {name for name in files_in(two) if name.endswith("embeddings.1.h5")}
    assert files_in(two) - of_others - {"said"} == files_in(one) and of_others == {"finetune/embeddings.1.h5"}
    said = (two / "said").read_text()
    assert [said.count(f"samsemi {name}\n") for name in ("mine", "warmstart", "finetune", "distill", "adapt")] == [1] * 5


def test_process_that_is_lost_ends_the_others_and_resume_goes_on(dataset, warm, store, tmp_path):
    mine = ("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *MINING)
    first, second = start_two(mine, DIES)
    said = first.communicate()[1]
    assert second.wait() == -signal.SIGKILL and first.returncode == 6, said
    assert "error: another process of this command has ended" in said and "--resume" in said.splitlines()[-1]
    assert [path.stem for path in sorted(parts_of(tmp_path / "s.h5").iterdir())] == ["000000", "000001", "000002", "000004"]
    succeed(*mine, "--resume")
    assert hdf5_values(tmp_path / "s.h5") == hdf5_values(store)
    for process in (first, second):
        process.communicate()


def test_signal_to_any_process_saves_the_training_and_ends_all(dataset, tmp_path):
    run = tmp_path / "run"
    processes = start_two(("warmstart", dataset, "--out", run, *NETWORK, "--validate-every", 1, "--iterations", 9999))
    while not (run / STATE).exists() and all(process.poll() is None for process in processes):
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [130, 130], said
    assert "optimizer.0.exp_avg" in load_tensors(run / STATE)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("check", "d"), "samsemi check: 2 processes cannot do it together"),
        (("mine", "d", "--model", "m", "--out", "s.h5", "--dry-run"), "--dry-run: 2 processes"),
        (("adapt", "{dataset}", "--evaluate", "--split", "val"), "--evaluate: 2 processes"),
    ],
)
def test_what_processes_cannot_do_together_is_wrong_usage(arguments, said, dataset, monkeypatch):
    as_process(monkeypatch, 0, 2)
    refused(2, *(word.format(dataset=dataset) for word in arguments), said=(said,))


WRONG_PLACES = [("RANK", "\u0661"), ("RANK", "2"), ("MASTER_PORT", "70000"), ("MASTER_PORT", "http"), ("WORLD_SIZE", "0")]


@pytest.mark.parametrize("name, value", WRONG_PLACES)
def test_place_that_cannot_be_is_wrong_usage(name, value, monkeypatch):
    as_process(monkeypatch, 0, 2)
    monkeypatch.setenv(name, value)
    refused(2, "check", "d", said=(f"{name}={value}",))


def test_process_that_finds_no_others_does_not_wait_for_hours(monkeypatch):
    as_process(monkeypatch, 1, 2)
    monkeypatch.setattr(collectives, "MEETING", timedelta(seconds=1))
    with pytest.raises(DeviceError, match="cannot be reached"):
        collectives.join()
