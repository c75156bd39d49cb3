"""volumes.json: where the volumes of a data set come from, how they lie and are shown, so that predictions can be written back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from samsemi.data.manifest import is_safe_id
from samsemi.data.volumes.volume import Grid
from samsemi.errors import CheckpointError, DataError
from samsemi.outputs import write_text
from samsemi.schemas import from_json, need_schema, read_object

NAME = "volumes.json"
SCHEMA = "samsemi.volumes/1"
AGAIN = "prepare the data set again"


@dataclass(frozen=True)
class Origin:
    """Of one volume."""

    source: str
    """The file, or folder of a series."""
    grid: Grid
    window: tuple[float, float]
    """The values that are black and white in its slices."""


def write_origins(folder: Path, origins: Mapping[str, Origin]) -> None:
    """Write volumes.json where there are volumes."""
    if origins:
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(asdict(origin))}" for name, origin in origins.items())
        write_text(folder / NAME, f'{{\n "schema": "{SCHEMA}",\n "volumes": {{\n{lines}\n }}\n}}\n')


def read_origins(folder: Path) -> dict[str, Origin]:
    """The origins of the volumes of a data set by name, none where it has no volumes.json; DataError for one that cannot be."""
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        about = read_object(path, AGAIN)
        need_schema(about.get("schema"), SCHEMA, str(path), "a list of volumes", AGAIN)
        volumes = about.get("volumes")
        if not isinstance(volumes, dict) or not all(map(is_safe_id, volumes)):
            raise CheckpointError(f"{path}: its volumes are no table of names", AGAIN)
        found = {name: from_json(Origin, value, f"{path}: {name}", AGAIN) for name, value in volumes.items()}
    except CheckpointError as error:
        raise DataError(error.message, error.hint) from None
    for name, origin in found.items():
        refuse_impossible(origin, f"{path}: {name}")
    return found


def refuse_impossible(origin: Origin, where: str) -> None:
    """DataError for a grid that no volume has."""
    grid = origin.grid
    whole = len(grid.shape) == 3 and min(grid.shape) > 0 and len(origin.window) == 2
    lies = grid.affine is None or (len(grid.affine) == 4 and {len(row) for row in grid.affine} == {4} and is_affine(np.array(grid.affine)))
    turned = sorted(axis for axis, *_ in grid.stored) == [0, 1, 2] and all(len(axis) == 2 and abs(axis[1]) == 1 for axis in grid.stored)
    long = grid.spacing is None or (len(grid.spacing) in (2, 3) and min(grid.spacing) > 0)
    if not (whole and lies and turned and long):
        raise DataError(f"{where} has a grid that cannot be", AGAIN)


def is_affine(matrix: np.ndarray) -> bool:
    """Whether a 4 x 4 matrix keeps volumes."""
    return bool(abs(np.linalg.det(matrix[:3, :3])) > 1e-9 and (matrix[3] == (0, 0, 0, 1)).all())
