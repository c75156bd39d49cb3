"""Mining again in a fine-tuning, where the later mining accepts nothing."""

import csv

import pytest
from builders import ACCEPT_ALL, assert_interrupted, interrupt_at, succeed

from samsemi.sam.prompts import find_objects
from samsemi.training import loop

pytestmark = pytest.mark.slow

CONTINUOUS = ("--schedule", "continuous", "--remine-every", 2, "--iterations", 6)
ROUNDS = ("--rounds", 2, "--iterations", 4)


@pytest.fixture
def arguments(dataset, warm, store, tmp_path, monkeypatch) -> tuple:
    """A fine-tuning in which no object is found any more."""
    monkeypatch.setattr("samsemi.mining.miner.find_objects", lambda probs, min_area: find_objects(probs, 10**9))
    short = ("--batch-size", 2, "--validate-every", 1, *ACCEPT_ALL)
    return ("finetune", dataset, "--model", warm, "--store", store, "--out", tmp_path / "run", *short)


@pytest.mark.parametrize("schedule, minings", [(CONTINUOUS, [2, 4]), (ROUNDS, [2])], ids=["continuous", "rounds"])
def test_finetune_goes_on_with_the_store_before(arguments, store, tmp_path, schedule, minings):
    outcome = succeed(*arguments, *schedule)
    with open(tmp_path / "run/drift.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == minings
    assert all(float(row["coverage"]) == 0 and float(row["coverage_before"]) == 1 for row in rows)
    for iteration in minings:
        assert f"warning: mined again at iteration {iteration}: nothing is accepted; {store} is learnt from" in outcome.err


def test_resumed_after_a_mining_that_accepted_nothing(arguments, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, loop, "train_step", 4)
        assert_interrupted((*arguments, *CONTINUOUS))
    assert (tmp_path / "run/stores/000002.h5").exists()
    succeed(*arguments, *CONTINUOUS, "--resume")
