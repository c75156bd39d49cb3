"""``samsemi weights verify``: which weights a file is, by its hash, and how it is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samsemi import console
from samsemi.errors import CheckpointError, NothingUsable, SamsemiError
from samsemi.inputs import hash_file
from samsemi.inspection.weights import describe_weights
from samsemi.options.weights import VerifyWeightsOptions
from samsemi.weights.cache import fetch_hint, find_fetched, need_hash, weights_folder
from samsemi.weights.table import WEIGHTS, KnownWeights


def verify_weights(options: VerifyWeightsOptions) -> dict[str, object]:
    """A file, those of a name, or all that were fetched; CheckpointError where one is not what it should be."""
    if options.what is None:
        return verify_all(options.dir)
    if options.what in WEIGHTS:
        path = find_fetched(options.what, options.dir)
        if path is None:
            raise CheckpointError(f"{options.what} is not in {weights_folder(options.dir)}", fetch_hint(options.what))
        return verify_fetched(WEIGHTS[options.what], path)
    return verify_file(Path(options.what))


def verify_all(folder: Path | None) -> dict[str, object]:
    """All that were fetched, the damaged ones named together."""
    found = {name: path for name in WEIGHTS if (path := find_fetched(name, folder))}
    if not found:
        raise NothingUsable(f"no weights are in {weights_folder(folder)}", "fetch some by `samsemi weights fetch NAME`")
    results, damaged = [], []
    with console.progress("verify", len(found), "files") as advance:
        for name, path in found.items():
            try:
                results.append(verify_fetched(WEIGHTS[name], path))
            except CheckpointError:
                damaged.append(path)
            advance()
    if damaged:
        names = ", ".join(map(str, damaged))
        raise CheckpointError(f"damaged, or other files: {names}", "fetch them again by `samsemi weights fetch NAME --overwrite`")
    return {"folder": str(weights_folder(folder)), "weights": results}


def verify_fetched(weights: KnownWeights, path: Path) -> dict[str, object]:
    """CheckpointError where a fetched file is not what its name says; of one without a known hash, its hash."""
    found = hash_file(path)
    need_hash(path, weights, found)
    return {**describe(path, found), "name": weights.name, "known": bool(weights.sha256), **reading(weights, path)}


def verify_file(path: Path) -> dict[str, object]:
    """Which weights a file is; CheckpointError for one that is none that is known, and was not made here."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, and no name of weights", f"give a file, or one of {', '.join(WEIGHTS)}")
    found = hash_file(path)
    known = next((weights for weights in WEIGHTS.values() if weights.sha256 == found), None)
    if known:
        return {**describe(path, found), "name": known.name, "known": True, **reading(known, path)}
    adapted = adapted_from(path)
    if adapted:
        use = f"--sam {adapted} --sam-checkpoint {path}"
        return {**describe(path, found), "name": f"{adapted}, adapted by samsemi", "known": False, "use": use}
    alike = next((weights for weights in WEIGHTS.values() if weights.file == path.name and weights.sha256), None)
    if alike:
        need_hash(path, alike, found)
    raise CheckpointError(f"{path} is none of the weights that are known: its SHA-256 is {found}", "see `samsemi weights list`")


def adapted_from(path: Path) -> str | None:
    """The SAM that `samsemi adapt` made a file from, by its header; None for any other file."""
    if path.suffix != ".safetensors":
        return None
    try:
        facts = describe_weights(path)
    except (SamsemiError, OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    name = facts.get("sam")
    return name if facts["kind"] == "adapted_sam" and isinstance(name, str) else None


def describe(path: Path, sha256: str) -> dict[str, object]:
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256}


def reading(weights: KnownWeights, path: Path) -> dict[str, object]:
    """What reading weights as what they are means."""
    how = {"license": weights.license, "preprocessing": weights.preprocessing, "use": weights.use_of(path)}
    return {**how, "source": weights.source or None}


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """A row per file, of several."""
    rows = [[row["name"], "as published" if row["known"] else "no hash is known", row["path"]] for row in result.get("weights", [])]
    return [console.Table("weights", ["name", "state", "path"], rows)] if rows else []
