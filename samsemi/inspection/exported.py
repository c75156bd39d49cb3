"""ONNX files of `samsemi export`, by what stands around their graph, which is passed over. Needs neither onnx nor torch.

The format is that of protocol buffers: numbered fields one after another, each a number, or bytes with their length before them.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from samsemi.errors import CheckpointError
from samsemi.inputs import begins_with
from samsemi.inspection.made import Facts, count_bytes

SCHEMA = "samsemi.onnx/1"
MARK = b"\x12\x07samsemi"
"""The producer, as it stands in the first bytes of every file that is written here."""
HEAD = 16
"""Bytes in which it stands."""
NUMBER, BYTES = 0, 2
"""Kinds of fields."""
LONGEST = 2**24
"""Bytes of a field that is read; what samsemi writes is shorter."""
GRAPH, OPSET, TEXTS = 7, 8, 14
"""Fields of a model; of a text 1 is the name, 2 the value; of an operator set 2 is its version."""
JSON_TEXTS = ("size", "classes", "scores", "made_from", "licenses")


def is_exported(path: Path) -> bool:
    """Whether a file was written by `samsemi export`."""
    return begins_with(path, MARK, HEAD)


def describe_exported(path: Path) -> Facts:
    """What an exported file says of itself."""
    texts: dict[str, str] = {}
    opset = 0
    with open(path, "rb") as file:
        for number, value in read_fields(file, path.stat().st_size):
            inner = dict(read_bytes(value)) if isinstance(value, bytes) and number in (OPSET, TEXTS) else {}
            if number == TEXTS:
                texts[inner[1].decode()] = inner[2].decode()  # type: ignore[union-attr]
            if number == OPSET and not inner.get(1):
                opset = int(inner[2])
    if texts.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: schema {texts.get('schema')!s:.60}, expected {SCHEMA}", "export it again with this samsemi")
    facts: Facts = {name: json.loads(text) if name in JSON_TEXTS else text for name, text in texts.items()}
    return {"kind": "exported", "finished": True, **facts, "opset": opset, "bytes": count_bytes(path)}


def read_bytes(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of what stands within a field."""
    return read_fields(io.BytesIO(data), len(data))


def read_fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int | bytes]]:
    """The number and value of each field up to a place in a file, but for the graph; ValueError for what is none."""
    while file.tell() < end:
        number, kind = divmod(read_number(file), 8)
        if kind not in (NUMBER, BYTES):
            raise ValueError(f"a field of kind {kind}")
        value = read_number(file)
        if kind == NUMBER:
            yield number, value
            continue
        if value > end - file.tell():
            raise ValueError("it ends too soon")
        if number == GRAPH or value > LONGEST:
            file.seek(value, 1)
        else:
            yield number, file.read(value)


def read_number(file: BinaryIO) -> int:
    """A whole number, seven bits in each byte, the lowest first; ValueError where it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends too soon")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number that does not end")
