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
        raise kind(f"{given}: {describe(error, place_in_own(error))}", REPAIR) from None


def own_error(error: Exception) -> CheckpointError | None:
    """An error that nobody has named yet, where it comes from code that is neither samsemi's nor a library's; None for any other."""
    called = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [path for path in called if path.is_relative_to(PACKAGE) or not any(map(path.is_relative_to, LIBRARIES))]
    if not own or own[-1].is_relative_to(PACKAGE):
        return None
    return CheckpointError(f"code of your own: {describe(error, place_in_own(error))}", REPAIR)


def describe(error: Exception, place: str) -> str:
    """Its kind, place and first line."""
    return f"{type(error).__name__}{place}: {(str(error).splitlines() or [''])[0]:.200}"


def place_in_own(error: Exception) -> str:
    """' in FILE, line N': where an error left the first file that is none of samsemi's; '' where it came from none."""
    called = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in called if not Path(frame.filename).is_relative_to(PACKAGE)]
    own = [frame for frame in others if frame.filename == others[0].filename]
    return f" in {own[-1].filename}, line {own[-1].lineno}" if own else ""
