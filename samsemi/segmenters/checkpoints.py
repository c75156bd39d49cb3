"""Models on disk: model.safetensors, and model.json, which says how to rebuild the network and where it comes from."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from samsemi import remedies
from samsemi.data.dataset import Dataset
from samsemi.errors import CheckpointError, UsageError
from samsemi.outputs import write_text
from samsemi.schemas import from_json, need_schema, read_object
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, check_size
from samsemi.tensors import hash_tensors, load_strictly, load_tensors, save_tensors

LOG = logging.getLogger("samsemi")
MODEL_WEIGHTS = "model.safetensors"
MODEL_CARD = "model.json"
SCHEMA = "samsemi.model/1"


@dataclass(frozen=True)
class ModelCard:
    """model.json: how to rebuild the network, how good it is and where it comes from."""

    model: ModelSpec
    scores: Mapping[str, float] = field(default_factory=dict)
    made_from: Mapping[str, object] = field(default_factory=dict)
    weights: str | None = None
    """SHA-256 of the weights, as of ``hash_tensors``; None in cards of before that stood there."""


def save_model(folder: Path, segmenter: Segmenter, about: Mapping[str, object]) -> None:
    """Write a model to its run folder: weights, and a card of how to rebuild it and where it comes from."""
    weights = segmenter.state_dict()
    card = {"schema": SCHEMA, "model": asdict(segmenter.spec), **about, "weights": hash_tensors(weights)}
    save_tensors(Path(folder) / MODEL_WEIGHTS, weights)
    write_text(Path(folder) / MODEL_CARD, json.dumps(card, indent=2) + "\n")


def read_model_card(folder: Path) -> ModelCard:
    """model.json of a run folder, those of before 'schema' stood in it too; CheckpointError where there is none that can be read."""
    path = Path(folder) / MODEL_CARD
    if Path(folder).is_file():
        parent = Path(folder).parent
        hint = (
            f"give the folder: {parent}"
            if (parent / MODEL_CARD).is_file()
            else "give the --out folder of `samsemi warmstart` or `finetune`"
        )
        raise CheckpointError(f"{folder} is a file, a model is a run folder", hint)
    if not path.exists():
        raise CheckpointError(
            f"{folder} is not a finished run: it has no {MODEL_CARD}",
            "give the --out folder of `samsemi warmstart` or `finetune`; finish an interrupted one with --resume",
        )
    values = read_object(path, remedies.MODEL)
    need_schema(values.pop("schema", SCHEMA), SCHEMA, str(path), "a model", remedies.MODEL)
    return from_json(ModelCard, values, str(path), remedies.MODEL)


def load_model(folder: Path) -> Segmenter:
    """The model of a run folder, in eval mode on the CPU."""
    card = read_model_card(folder)
    try:
        segmenter = Segmenter(card.model)
        check_size(segmenter)
    except (UsageError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}/{MODEL_CARD} describes no model of this version ({error})", remedies.MODEL) from None
    weights = load_tensors(Path(folder) / MODEL_WEIGHTS)
    load_strictly(segmenter, weights, str(Path(folder) / MODEL_WEIGHTS), "train the model again")
    need_own_weights(Path(folder), card, weights)
    return segmenter.eval()


def need_own_weights(folder: Path, card: ModelCard, weights: Mapping[str, Tensor]) -> None:
    """CheckpointError where weights of a run folder are not those that its card was written with."""
    if card.weights and hash_tensors(weights) != card.weights:
        raise CheckpointError(
            f"{folder / MODEL_WEIGHTS} holds other weights than {MODEL_CARD} beside it was written with",
            "restore it, or train the model again; a training that was killed in between is taken up with --resume",
        )


def load_model_for(dataset: Dataset, folder: Path) -> Segmenter:
    """The model of a run, for work on this data set: CheckpointError for other classes, a warning for other splits."""
    segmenter = load_model(folder)
    if segmenter.spec.classes != dataset.classes:
        raise CheckpointError(
            f"{folder} has the classes {', '.join(segmenter.spec.classes)}, {dataset.folder} has {', '.join(dataset.classes)}",
            "give a model trained on this data set",
        )
    if read_model_card(folder).made_from.get("dataset") != dataset.fingerprint():
        LOG.warning(f"{folder} was trained on another data set, files or splits than {dataset.folder}: it may have seen these cases")
    return segmenter
