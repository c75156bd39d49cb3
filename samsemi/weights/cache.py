"""Weights that were fetched: the folder where they lie, and whether they still are what they were."""

import os
from pathlib import Path

from samsemi.errors import CheckpointError
from samsemi.weights.table import WEIGHTS, KnownWeights

VARIABLE = "SAMSEMI_WEIGHTS"
"""In the environment: the folder."""


def weights_folder(given: Path | None = None) -> Path:
    """The folder given, that of the environment, or the one in the user's cache."""
    if given is not None or os.environ.get(VARIABLE):
        return Path(given or os.environ[VARIABLE])
    import platformdirs

    return Path(platformdirs.user_cache_dir("samsemi"))


def find_fetched(name: str, given: Path | None = None) -> Path | None:
    """Where the weights of a name lie, in whatever state; None where they were not fetched."""
    path = weights_folder(given) / WEIGHTS[name].file if name in WEIGHTS else None
    return path if path and path.is_file() else None


def fetch_hint(name: str) -> str:
    """How to get weights, beginning with a small letter."""
    return f"fetch them by `samsemi weights fetch {name}`" if name in WEIGHTS else "give them as a file"


def need_hash(path: Path, weights: KnownWeights, found: str) -> None:
    """CheckpointError where a fetched file is not what its name says."""
    if weights.sha256 and found != weights.sha256:
        raise CheckpointError(
            f"{path} is damaged, or another file: its SHA-256 is {found}, that of {weights.name} is {weights.sha256}",
            f"fetch it again by `samsemi weights fetch {weights.name} --overwrite`",
        )
