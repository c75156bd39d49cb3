"""Fixtures that several tests of mining share."""

from pathlib import Path

import pytest
from builders import NETWORK, succeed


@pytest.fixture(scope="session")
def folded(dataset, tmp_path_factory) -> Path:
    """A run with the models of three folds."""
    run = tmp_path_factory.mktemp("folded") / "run"
    succeed("warmstart", dataset, "--out", run, *NETWORK, "--iterations", 30, "--validate-every", 30, "--folds", 3)
    return run
