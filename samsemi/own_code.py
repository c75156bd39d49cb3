"""Code of the user's own that samsemi runs for them, such as ``--sam MODULE:FUNCTION``: whose fault an error is. Imports no torch."""

import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samsemi.errors import CheckpointError, SamsemiError, device_error

PACKAGE = Path(__file__).parent
LIBRARIES = tuple(Path(path) for path in dict.fromkeys((sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())))
REPAIR = "repair that function; run it alone to see more"


def call_own(function: Callable, given: str, *arguments: object, kind: type[SamsemiError] = CheckpointError) -> Any:
    """What code of the user's own returns; an error of a kind, beginning with what was given and with the place in it, where it fails. Lack
    of memory is not its fault."""
    try:
        return function(*arguments)
    except SamsemiError:
        raise
    except Exception as error:
        if device_error(error):
            raise
        raise kind(f"{given}: {describe(error)}", REPAIR) from None


def own_error(error: Exception) -> CheckpointError | None:
    """An error that nobody has named yet, where the innermost code that is no library's is not samsemi's; None for any other."""
    called = [path for path, _ in places(error) if is_samsemi(path) or not is_library(path)]
    if not called or is_samsemi(called[-1]):
        return None
    return CheckpointError(f"code of your own: {describe(error)}", REPAIR)


def describe(error: Exception) -> str:
    """Its kind, the innermost place in code of the user's own, if there is any, and its first line."""
    beyond = [place for place in places(error) if not is_samsemi(place[0])]
    own = [place for place in beyond if not is_library(place[0])] or [place for place in beyond if place[0] == beyond[0][0]]
    where = f" in {own[-1][0]}, line {own[-1][1]}" if own else ""
    return f"{type(error).__name__}{where}: {(str(error).splitlines() or [''])[0]:.200}"


def places(error: Exception) -> list[tuple[Path, int | None]]:
    """(file, line) of all that was being called, the innermost last; but for code that stands in no file."""
    called = traceback.extract_tb(error.__traceback__)
    return [(Path(frame.filename), frame.lineno) for frame in called if not frame.filename.startswith("<")]


def is_samsemi(path: Path) -> bool:
    return path.is_relative_to(PACKAGE)


def is_library(path: Path) -> bool:
    """Whether a file is installed: Python's own, or in site-packages."""
    return any(map(path.is_relative_to, LIBRARIES))
