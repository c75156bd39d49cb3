"""Run folders: warm starts, fine-tuned and distilled networks, and the trainings of adapted SAMs, finished or not."""

import tomllib
from pathlib import Path

from samsemi.inputs import read_rows, read_text
from samsemi.inspection.headers import count_weights, read_header
from samsemi.inspection.made import Facts, changed_options, count_bytes, read_places, table_of
from samsemi.schemas import read_object
from samsemi.training.runs import BEGUN, CARD, CONFIG, FINISHED

MODEL_CARD, MODEL_WEIGHTS = "model.json", "model.safetensors"
OUT_OF_FOLD = "out_of_fold.h5"
TEACHER = "teacher.safetensors"
NAMES = {"warmstart": "warm start", "finetune": "fine-tuned network", "distill": "distilled network (KnowSAM)", "adapt": "adapted SAM"}
"""Command -> what its run is."""


def is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in (MODEL_CARD, FINISHED, BEGUN))


def is_adapt_run(folder: Path) -> bool:
    return is_run(folder) and read_config(folder)[0] == "adapt"


def describe_run(folder: Path) -> Facts:
    """A run by its card, options and history; without a card, what has been trained so far."""
    card = read_object(folder / MODEL_CARD) if (folder / MODEL_CARD).is_file() else {}
    training = describe_training(folder)
    network, weights = table_of(card.get("model")), folder / MODEL_WEIGHTS
    made_from = table_of(card.get("made_from")) or read_made_from(folder)
    return {
        "kind": "run",
        "schema": card.get("schema"),
        **training,
        "scores": table_of(card.get("scores")) or training["scores"],
        "classes": network.pop("classes", []),
        "network": {name: network[name] for name in ("encoder", "peers", "decoder_channels", "size") if network.get(name)},
        "made_from": made_from,
        **({"weights": card["weights"]} if "weights" in card else {}),
        **(count_weights(read_header(weights)) if weights.is_file() else {}),
        "holds": list_parts(folder),
        "bytes": count_bytes(folder),
    }


def describe_training(folder: Path) -> Facts:
    """Of any run: the command and its options, how far it is, and its scores on val, at first and at last."""
    command, values = read_config(folder)
    rows = read_history(folder)
    planned = int(str(values.get("iterations") or 0))
    done = int(rows[-1]["iteration"]) if rows else 0
    before = scores_of(rows[0]) if rows and int(rows[0]["iteration"]) == 0 else {}
    return {
        "command": command,
        "finished": is_finished(folder, values, done, planned),
        "inputs": read_places(command, values),
        "options": changed_options(command, values),
        "iterations": done,
        **({"iterations_planned": planned} if planned else {}),
        "seconds": round(float(rows[-1].get("seconds") or 0)) if rows else 0,
        **({"scores_before": before} if before else {}),
        "scores": scores_of(rows[-1]) if rows else {},
    }


def read_config(folder: Path) -> tuple[str, Facts]:
    """The command that made a run, and its options; '' and none where only the model was kept."""
    if not (folder / CONFIG).is_file():
        return "", {}
    tables = tomllib.loads(read_text(folder / CONFIG))
    command = next(iter(tables), "")
    return command, table_of(tables.get(command))


def read_history(folder: Path) -> list[dict[str, str]]:
    """The rows of history.csv; none where nothing was validated yet."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    return read_rows(path)


def scores_of(row: dict[str, str]) -> Facts:
    """The scores on val of a row of history.csv."""
    return {name: float(value) for name, value in row.items() if name.startswith("val_") and value}


def is_finished(folder: Path, options: Facts, done: int, planned: int) -> bool:
    """By its mark; with folds, when their predictions are written; those of 0.1.0, which keep ``last/`` for ever, by their iterations."""
    if options.get("folds") and not (folder / OUT_OF_FOLD).is_file():
        return False
    if (folder / FINISHED).is_file() or not (folder / BEGUN).is_file():
        return True
    rounds = int(str(options.get("rounds") or 1))
    return "schema" not in read_object(folder / BEGUN) and done >= planned - (rounds - 1) * (planned // rounds) > 0


def read_made_from(folder: Path) -> Facts:
    """What a run was made from, finished or not."""
    found = [folder / mark for mark in (FINISHED, BEGUN) if (folder / mark).is_file()]
    return {name: value for name, value in read_object(found[0]).items() if name != "schema"} if found else {}


def list_parts(folder: Path) -> Facts:
    """What else stands in a run folder: finished folds and rounds, stores, files."""
    counts = {
        "folds": len([*folder.glob(f"fold-*/{FINISHED}")]),
        "rounds": len([*folder.glob(f"rounds/*/{FINISHED}")]),
        "stores": len([*folder.glob("stores/*.h5")]),
    }
    files = [name for name in (CARD, OUT_OF_FOLD, TEACHER, "embeddings.h5", "drift.csv", "overlays") if (folder / name).exists()]
    return {**{name: count for name, count in counts.items() if count}, **({"files": files} if files else {})}
