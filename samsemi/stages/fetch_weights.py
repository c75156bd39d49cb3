"""``samsemi weights fetch``: published weights, downloaded and verified."""

from samsemi import clock
from samsemi.errors import RefusedError, UsageError
from samsemi.inputs import hash_file
from samsemi.options.weights import FetchWeightsOptions
from samsemi.weights.cache import weights_folder
from samsemi.weights.download import download
from samsemi.weights.table import ENCODER, WEIGHTS, KnownWeights


def fetch_weights(options: FetchWeightsOptions) -> dict[str, object]:
    """Fetch weights into the folder of weights, or find that they are there already."""
    weights = find_weights(options.name)
    sha256 = need_sha256(weights, options.sha256)
    path = weights_folder(options.dir) / weights.file
    there = path.is_file() and not options.overwrite
    if there and hash_file(path) != sha256:
        raise RefusedError(f"{path} is there, and is not {weights.name}: it has another SHA-256", "--overwrite replaces it")
    if not there:
        download(weights.address, path, sha256, weights.size, options.break_lock)
    return {
        "name": weights.name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "license": weights.license,
        "downloaded": not there,
        "use": weights.use_of(path),
        "seconds": clock.lap(),
    }


def find_weights(name: str) -> KnownWeights:
    """Weights by name, also those of the other encoders; UsageError for a name that is not known."""
    if name in WEIGHTS:
        return WEIGHTS[name]
    if not name.startswith(ENCODER):
        raise UsageError(f"{name:.80}: no weights of that name", f"one of {', '.join(WEIGHTS)}; or {ENCODER}NAME")
    from samsemi.segmenters.pretrained import find_published  # loads torch

    return find_published(name.removeprefix(ENCODER))


def need_sha256(weights: KnownWeights, given: str | None) -> str:
    """The hash that the file must have; UsageError where there is none, or two that differ."""
    if not weights.sha256 and not given:
        reason = f"{weights.name}: no public source of its SHA-256 is known"
        raise UsageError(reason, f"give the one that you trust as --sha256; the file is {weights.address}")
    if weights.sha256 and given and weights.sha256 != given:
        raise UsageError(f"--sha256 {given}: {weights.name} has {weights.sha256}", "leave --sha256 out")
    return str(weights.sha256 or given)
