"""Models on disk: model.safetensors beside model.json, which says how to rebuild the network and where it comes from."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from samsemi.data.dataset import Dataset
from samsemi.errors import CheckpointError, UsageError
from samsemi.outputs import write_text
from samsemi.segmenters.segmenter import ModelSpec, Segmenter
from samsemi.tensors import load_strictly, load_tensors, save_tensors

LOG = logging.getLogger("samsemi")
MODEL_WEIGHTS = "model.safetensors"
MODEL_CARD = "model.json"


def save_model(folder: Path, segmenter: Segmenter, about: Mapping[str, object]) -> None:
    """Write a model to its run folder: weights, and a card of how to rebuild it and where it comes from."""
    save_tensors(Path(folder) / MODEL_WEIGHTS, segmenter.state_dict())
    write_text(Path(folder) / MODEL_CARD, json.dumps({"model": asdict(segmenter.spec), **about}, indent=2) + "\n")


def read_model_card(folder: Path) -> dict[str, object]:
    """model.json of a run folder; CheckpointError where there is none."""
    path = Path(folder) / MODEL_CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        card["model"] = {**card["model"]}
        return card
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is not a finished run: it has no {MODEL_CARD}",
            "give the --out folder of `samsemi warmstart` or `finetune`; finish an interrupted one with --resume",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error!r})", "train the model again") from None


def load_model(folder: Path) -> Segmenter:
    """The model of a run folder, in eval mode on the CPU."""
    card = read_model_card(folder)
    try:
        spec = ModelSpec(**{name: tuple(value) if isinstance(value, list) else value for name, value in card["model"].items()})
        segmenter = Segmenter(spec)
    except (UsageError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder}/{MODEL_CARD} describes no model of this version ({error})", "train the model again") from None
    load_strictly(segmenter, load_tensors(Path(folder) / MODEL_WEIGHTS), str(Path(folder) / MODEL_WEIGHTS), "train the model again")
    return segmenter.eval()


def load_model_for(dataset: Dataset, folder: Path) -> Segmenter:
    """The model of a run, for work on this data set: CheckpointError for other classes, a warning for other splits."""
    segmenter = load_model(folder)
    if segmenter.spec.classes != dataset.classes:
        raise CheckpointError(
            f"{folder} knows the classes {', '.join(segmenter.spec.classes)}; {dataset.folder} has {', '.join(dataset.classes)}",
            "give a model trained on this data set",
        )
    if read_model_card(folder).get("made_from", {}).get("dataset") != dataset.fingerprint():
        LOG.warning(f"{folder} was trained on another data set, files or splits than {dataset.folder}: it may have seen these cases")
    return segmenter
