"""What a folder holds, value by value, so that what was interrupted can be compared with what was not."""

import csv
import hashlib
import io
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from safetensors.numpy import load as load_tensors

TIMES = ("seconds", "images_per_second", "ms", "cost")
"""What differs each time."""
Values = dict[str, object]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def array_values(array: np.ndarray) -> str:
    """Type, shape and a hash of the values."""
    content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
    return f"{array.dtype} {array.shape} {digest(content)}"


def timeless(value: object) -> object:
    """A JSON value without times."""
    if isinstance(value, Mapping):
        return {key: timeless(part) for key, part in value.items() if key not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def read_hdf5(data: bytes) -> Values:
    """Datasets column by column, and the attributes of the root."""
    found: Values = {}

    def keep(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            values = item[()]
            columns = values.dtype.names or ()
            found.update({f"{name}/{column}": array_values(values[column]) for column in columns} or {name: array_values(values)})

    with h5py.File(io.BytesIO(data), "r") as file:
        found |= {f"@{name}": str(value) for name, value in file.attrs.items()}
        file.visititems(keep)
    return found


def read_csv(data: bytes) -> Values:
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("rows of different lengths")
    return {f"row {number}": timeless(row) for number, row in enumerate(rows)}


def read_archive(data: bytes) -> Values:
    with np.load(io.BytesIO(data)) as archive:
        return {name: array_values(archive[name]) for name in archive}


def read_picture(data: bytes) -> Values:
    with Image.open(io.BytesIO(data)) as picture:
        return {"pixels": array_values(np.asarray(picture))}


READERS: dict[str, Callable[[bytes], Values]] = {
    ".h5": read_hdf5,
    ".csv": read_csv,
    ".npz": read_archive,
    ".png": read_picture,
    ".json": lambda data: {"json": timeless(json.loads(data))},
    ".toml": lambda data: {"toml": tomllib.loads(data.decode())},
    ".safetensors": lambda data: {name: array_values(values) for name, values in load_tensors(data).items()} | {"header": digest(data[:8])},
}


def read_values(path: Path) -> Values:
    """The values of a file; an exception of whatever kind where it does not open."""
    return READERS.get(path.suffix, lambda data: {"bytes": digest(data)})(path.read_bytes())


def files_in(folder: Path) -> list[str]:
    """All that is no folder, as relative paths."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def is_temporary(name: str) -> bool:
    """Whether a file is one that is not whole yet, by its name or that of a folder that it is in."""
    return any(part.startswith(".") for part in Path(name).parts)


def broken_files(folder: Path) -> list[str]:
    """The files under a final name that do not open, and why."""
    found = []
    for name in files_in(folder):
        if not is_temporary(name):
            try:
                read_values(folder / name)
            except Exception as error:
                found.append(f"{name} does not open: {error!r:.120}")
    return found


def values_of(folder: Path, broken: bool = True) -> dict[str, Values]:
    """The values of every file below a folder; one that does not open is an exception, or is left out."""
    found = {}
    for name in files_in(folder):
        try:
            found[name] = read_values(folder / name)
        except Exception:
            if broken:
                raise
    return found


def differences(found: Mapping[str, Values], wanted: Mapping[str, Values]) -> list[str]:
    """What is missing, left over or another value, a line each."""
    lines = [f"{name} is missing" for name in wanted if name not in found] + [
        f"{name} is left over" for name in found if name not in wanted
    ]
    for name in sorted(set(found) & set(wanted)):
        keys = [key for key in {**found[name], **wanted[name]} if found[name].get(key) != wanted[name].get(key)]
        if keys:
            lines.append(f"{name}: {', '.join(keys[:3])} differ" + (f" and {len(keys) - 3} more" if len(keys) > 3 else ""))
    return lines
