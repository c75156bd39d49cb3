"""Files of weights, by their header alone: adapted SAMs, teachers, and whatever else is safetensors."""

from pathlib import Path

from samsemi.inspection.headers import count_weights, read_header
from samsemi.inspection.made import Facts, count_bytes, table_of
from samsemi.inspection.runs import describe_training, read_made_from
from samsemi.schemas import parse_object


def describe_weights(path: Path) -> Facts:
    """Weights by the card in their header: an adapted SAM with its run, where that stands next to it, or a teacher."""
    header = read_header(path)
    card = parse_object(str(header.texts["samsemi"]), f"the header of {path}") if "samsemi" in header.texts else None
    sizes = count_weights(header) | {"bytes": count_bytes(path)}
    if card is None:
        return {"kind": "weights", **sizes}
    facts = {"schema": card.get("schema"), "sam": card.get("sam"), "scores": table_of(card.get("scores"))}
    if "learned_prompts" in card:
        more = {name: card.get(name) for name in ("side", "learned_prompts", "temperature")}
        return {"kind": "teacher", **facts, "made_from": {"sam_weights": card.get("sam_weights")}, **more, **sizes}
    run = path.with_suffix(".run")
    training = describe_training(run) if run.is_dir() else {}
    return {"kind": "adapted_sam", **training, **facts, "made_from": table_of(card.get("made_from")), **sizes}


def describe_adapt_run(run: Path) -> Facts:
    """The run folder next to SAM.safetensors, with those weights where they are written already."""
    weights = run.with_suffix(".safetensors")
    if weights.is_file():
        return describe_weights(weights)
    return {"kind": "adapted_sam", **describe_training(run), "made_from": read_made_from(run), "bytes": count_bytes(run)}
