"""The header of a safetensors file, read without its tensors and without torch."""

import math
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from samsemi.errors import CheckpointError
from samsemi.inspection.made import Facts, table_of
from samsemi.schemas import parse_object

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
        header = parse_object(file.read(length).decode(), str(path))
    texts = table_of(header.pop("__metadata__", None))
    tensors = {name: table_of(tensor) for name, tensor in header.items()}
    end = LENGTH.size + length + max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)  # type: ignore[index]
    if size != end:
        raise CheckpointError(f"{path} is damaged: {size} bytes, its header says {end}", "make it or copy it again")
    return Header(tensors, texts)


def count_weights(header: Header) -> Facts:
    """Numbers of tensors and of weights, and their types."""
    kinds = Counter(str(tensor["dtype"]) for tensor in header.tensors.values())
    shapes = [tensor["shape"] for tensor in header.tensors.values()]
    return {"tensors": len(shapes), "parameters": sum(math.prod(shape) for shape in shapes), "types": dict(kinds)}  # type: ignore[call-overload]
