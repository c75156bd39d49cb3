"""TensorBoard: off unless it is asked for, and then what history.csv holds."""

import csv
import importlib.util

import pytest
from builders import NETWORK, USAGE, files_in, refused, succeed

TRAINING = (*NETWORK, "--iterations", 4, "--validate-every", 2)
pytestmark = pytest.mark.slow


def read_scalars(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed (samsemi[track])")
def test_events_are_the_rows_of_the_history(dataset, tmp_path):
    succeed("warmstart", dataset, "--out", tmp_path / "run", *TRAINING, "--tensorboard")
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    found = read_scalars(tmp_path / "run" / "tensorboard")
    assert set(found) == set(rows[0]) - {"iteration"}
    for name, values in found.items():
        assert [step for step, _ in values] == [int(row["iteration"]) for row in rows] == [2, 4]
        assert [value for _, value in values] == pytest.approx([float(row[name]) for row in rows], rel=1e-5)
    succeed("warmstart", dataset, "--out", tmp_path / "run", *TRAINING, "--overwrite")
    assert not [name for name in files_in(tmp_path / "run") if "tensorboard" in name]


def test_what_is_not_installed_is_said_before_anything_is_written(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("samsemi.options.shared.find_spec", lambda name: None)
    refused(USAGE, "warmstart", dataset, "--out", tmp_path / "run", *TRAINING, "--tensorboard", said=("--tensorboard",))
    assert not (tmp_path / "run").exists()
