"""Whose weights a run or store was made with, and under which license, as far as that is known. Needs no torch."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from samsemi.errors import SamsemiError
from samsemi.inputs import hash_file
from samsemi.inspection.made import table_of
from samsemi.inspection.rows import SHORT, in_line
from samsemi.inspection.things import DAMAGE, inspect
from samsemi.options.sams import SAMS
from samsemi.weights.table import WEIGHTS

LICENSES = {
    "tiny": "Apache-2.0, in the package",
    **dict.fromkeys(("none", "ellipse"), "no weights"),
    **{name: weights.license for name, weights in WEIGHTS.items()},
}
"""Of the published weights of each SAM."""
UNKNOWN = "weights that samsemi does not know: ask who gave them"
NO_WEIGHTS = ("none", "ellipse")
"""SAMs that have none."""
DEEPEST = 32
"""Runs, each of which began from the next."""


def find_licenses(facts: Mapping[str, object], depth: int = DEEPEST) -> dict[str, str]:
    """Whose weights -> their license, by what `info` knows of a run or a store: of its SAM, of its encoder, and of the runs that it began
    from, where these lie where it says. Empty where nothing but its own training has made it."""
    made_from, inputs = table_of(facts.get("made_from")), table_of(facts.get("inputs"))
    found = license_of_encoder(made_from, table_of(facts.get("options")), table_of(facts.get("network")))
    for made in (made_from, table_of(made_from.get("store"))):
        found |= license_of_sam(str(made.get("sam", NO_WEIGHTS[0])), str(made.get("sam_weights", "")))
    for place in ("model", "distill"):
        if isinstance(path := inputs.get(place), str) and depth:
            found |= find_earlier(Path(path), made_from.get("model") if place == "model" else None, depth - 1)
    return found


def find_earlier(run: Path, weights: object, depth: int) -> dict[str, str]:
    """Those of the run that another began from; a line that they are unknown where it is gone, or has other ``weights`` now."""
    with suppress(SamsemiError, *DAMAGE):
        facts = inspect(run)
        if weights is None or facts.get("weights") == weights:
            return find_licenses(facts, depth)
    return {f"weights that it began from, {run.name}": "not found where they were: ask who trained them"}


def license_of_encoder(made_from: Mapping[str, object], options: Mapping[str, object], network: Mapping[str, object]) -> dict[str, str]:
    """Of what the encoder of a network started from; none where it started at random, or from another run."""
    weights = made_from.get("encoder_weights", options.get("encoder_weights", "none"))
    if weights == "none":
        return {}
    if weights == "imagenet":
        names = network.get("encoder") or network.get("peers")
        return {f"ImageNet weights of {in_line(names)}": "as its page in segmentation-models-pytorch or timm says"}
    return {f"encoder {str(weights)[:SHORT]}": license_of_file(str(weights))}


def license_of_sam(name: str, weights: str) -> dict[str, str]:
    """Of a SAM by the SHA-256 of its weights; of weights that nobody has published, that of those that its name stands for."""
    if name in NO_WEIGHTS:
        return {}
    if name == "tiny" and weights == hash_packaged(name):
        return {"SAM tiny": LICENSES[name]}
    known = license_of_file(weights)
    if known == UNKNOWN and name in LICENSES:
        known = f"{LICENSES[name]} are those that it is adapted from; of the adapted ones ask who gave them"
    return {f"SAM {name}": known}


def license_of_file(sha256: str) -> str:
    """Of a published file."""
    return next((f"{entry.license} ({entry.name})" for entry in WEIGHTS.values() if entry.sha256 == sha256), UNKNOWN)


@cache
def hash_packaged(name: str) -> str:
    """SHA-256 of weights that are in the package."""
    path = SAMS[name].weights
    return hash_file(path) if path else ""
