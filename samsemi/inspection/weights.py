"""Files of weights, by their header alone: adapted SAMs, teachers, and whatever else is safetensors."""

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from samsemi.errors import CheckpointError
from samsemi.inspection.made import Facts, count_bytes, table_of
from samsemi.inspection.runs import describe_training, read_made_from

LENGTH = struct.Struct("<Q")
"""What a safetensors file begins with: how long its header is."""


class Header(NamedTuple):
    """What stands before the tensors of a safetensors file."""

    tensors: dict[str, Facts]
    """Name -> dtype, shape, data_offsets."""
    texts: Facts


def read_header(path: Path) -> Header:
    """The header of a safetensors file; CheckpointError where that, or the length of the file, cannot be."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(LENGTH.size)
        length = LENGTH.unpack(start)[0] if len(start) == LENGTH.size else size
        if length > size:
            raise CheckpointError(f"{path} is not a safetensors file, or is truncated", "make it or copy it again")
        header = table_of(json.loads(file.read(length)))
    texts = table_of(header.pop("__metadata__", None))
    tensors = {name: table_of(tensor) for name, tensor in header.items()}
    end = LENGTH.size + length + max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)  # type: ignore[index]
    if size != end:
        raise CheckpointError(f"{path} is damaged: {size} bytes, its header says {end}", "make it or copy it again")
    return Header(tensors, texts)


def describe_weights(path: Path) -> Facts:
    """Weights by the card in their header: an adapted SAM with its run, where that stands next to it, or a teacher."""
    header = read_header(path)
    card = table_of(json.loads(str(header.texts["samsemi"]))) if "samsemi" in header.texts else None
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


def count_weights(header: Header) -> Facts:
    """Numbers of tensors and of weights, and their types."""
    kinds = Counter(str(tensor["dtype"]) for tensor in header.tensors.values())
    shapes = [tensor["shape"] for tensor in header.tensors.values()]
    return {"tensors": len(shapes), "parameters": sum(math.prod(shape) for shape in shapes), "types": dict(kinds)}  # type: ignore[call-overload]


def describe_adapt_run(run: Path) -> Facts:
    """The run folder next to SAM.safetensors, with those weights where they are written already."""
    weights = run.with_suffix(".safetensors")
    if weights.is_file():
        return describe_weights(weights)
    return {"kind": "adapted_sam", **describe_training(run), "made_from": read_made_from(run), "bytes": count_bytes(run)}
