"""Data sets, evaluations, predictions and exported labels: folders that a JSON file describes."""

from collections import Counter
from pathlib import Path

from samsemi.data.corrections import read_record
from samsemi.data.dataset import Case, read_dataset
from samsemi.data.manifest import SPLITS
from samsemi.inspection.made import Facts, changed_options, count_bytes, read_places, table_of
from samsemi.schemas import read_object

KEPT = ("overlays", "probabilities", "precision")
"""Options that predictions.json keeps."""


def describe_dataset(folder: Path) -> Facts:
    """A data set by its manifest; images and masks are looked for, not opened."""
    dataset = read_dataset(folder)
    files = [path for case in dataset.cases.values() for path in case.files()]
    missing = [str(path) for path in files if not path.exists()]
    corrected = Counter(row["by"] for row in read_record(folder))
    return {
        "kind": "dataset",
        "schema": read_object(folder / "dataset.json").get("schema"),
        "finished": True,
        "name": dataset.name,
        "classes": list(dataset.classes),
        "spacing_mm": dataset.spacing_mm,
        "images": len(dataset.cases),
        "groups": len({case.group for case in dataset.cases.values()}),
        "splits": {split: describe_split(dataset.split(split)) for split in SPLITS},
        **({"corrected": dict(corrected)} if corrected else {}),
        "fingerprint": dataset.fingerprint(),
        "files_missing": len(missing),
        **({"first_missing": missing[0]} if missing else {}),
        "bytes": count_bytes(folder),
        "bytes_of_images": count_bytes(*(case.image for case in dataset.cases.values())),
    }


def describe_split(cases: list[Case]) -> Facts:
    """Images, patients, masks, and masks that are hidden as truth, of a split."""
    with_mask = sum(case.mask is not None for case in cases)
    files = sum(len(case.files()) for case in cases)
    return {
        "images": len(cases),
        "groups": len({case.group for case in cases}),
        "masks": with_mask,
        "hidden_masks": files - len(cases) - with_mask,
    }


def describe_evaluation(folder: Path) -> Facts:
    """metrics.json of `samsemi eval`: the means with their intervals."""
    metrics = read_object(folder / "metrics.json")
    options = table_of(metrics.get("options"))
    means = {name: table_of(summary) for name, summary in table_of(metrics.get("mean")).items()}
    return {
        "kind": "evaluation",
        "finished": True,
        **({"command": "eval", "inputs": read_places("eval", options), "options": changed_options("eval", options)} if options else {}),
        **({"made_from": table_of(metrics["made_from"])} if "made_from" in metrics else {}),
        **{name: metrics[name] for name in ("split", "cases", "distance_unit", "coverage") if name in metrics},
        "classes": list(table_of(metrics.get("classes"))),
        "scores": {name: summary.get("mean") for name, summary in means.items()},
        "intervals": {name: [summary.get("low"), summary.get("high")] for name, summary in means.items()},
        "bytes": count_bytes(folder),
    }


def describe_predictions(folder: Path) -> Facts:
    """predictions.json of `samsemi predict`, and the masks that stand there."""
    about = read_object(folder / "predictions.json")
    made_from = {name: about[name] for name in ("model", "images") if name in about}
    files = count_files(folder)
    return {
        "kind": "predictions",
        "classes": about.get("classes"),
        "made_from": made_from,
        "command": "predict",
        "options": changed_options("predict", {name: about[name] for name in KEPT if name in about}),
        "images": files[".png"],
        **({"volumes": files[".gz"]} if files[".gz"] else {}),
        "bytes": count_bytes(folder),
    }


def describe_labels(folder: Path) -> Facts:
    """labels.json of `samsemi export-labels`."""
    about = read_object(folder / "labels.json")
    counts = {name: about.get(name) for name in ("format", "images", "left_out", "classes", "ignore_below")}
    made_from = table_of(about.get("made_from"))
    return {
        "kind": "labels",
        "schema": about.get("schema"),
        "finished": True,
        **counts,
        "made_from": made_from,
        "bytes": count_bytes(folder),
    }


def count_files(folder: Path) -> Counter[str]:
    """Files of a folder by their suffix."""
    return Counter(path.suffix for path in folder.iterdir() if path.is_file())
