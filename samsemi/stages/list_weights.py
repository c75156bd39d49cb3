"""``samsemi weights list``: published weights by name, and which of them are here."""

from collections.abc import Mapping
from typing import Any

from samsemi import console
from samsemi.options.weights import ListWeightsOptions
from samsemi.weights.cache import find_fetched, weights_folder
from samsemi.weights.table import WEIGHTS, KnownWeights


def list_weights(options: ListWeightsOptions) -> dict[str, object]:
    """The folder, and for each name what is known of its weights; ``fetched`` is where they lie, None where they do not."""
    return {
        "folder": str(weights_folder(options.dir)),
        "weights": [{**describe(weights), "fetched": find_fetched(name, options.dir)} for name, weights in WEIGHTS.items()],
    }


def describe(weights: KnownWeights) -> dict[str, object]:
    names = ("name", "file", "size", "sha256", "license", "preprocessing", "use", "address", "source")
    return {name: getattr(weights, name) for name in names}


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """A row per name; all else is in the JSON."""
    rows = [[row["name"], in_megabytes(row["size"]), row["license"], state_of(row)] for row in result["weights"]]
    return [console.Table("published weights; addresses, hashes and their sources: --json", ["name", "size", "license", "state"], rows)]


def in_megabytes(size: int | None) -> str:
    return f"{size / 1e6:.0f} MB" if size else "?"


def state_of(row: Mapping[str, Any]) -> str:
    return "here" if row["fetched"] else "-" if row["sha256"] else "needs --sha256"
