"""What a command needs of the process that it runs in. Imports no library."""

import os
import sys

from samsemi.errors import UsageError


def set_libraries() -> None:
    """Set what libraries read when they are loaded, for a process that is a command's own."""
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what MPS lacks is computed on the CPU, and torch says so
    os.environ["MPLBACKEND"] = "agg"  # charts are files; the user's own may be one that is not installed here


def settle() -> None:
    """UsageError where libraries could not be loaded."""
    if sys.flags.optimize > 1:
        raise UsageError(
            "Python runs without docstrings (-OO or PYTHONOPTIMIZE=2), which libraries of samsemi need",
            "leave it out, or give -O or PYTHONOPTIMIZE=1",
        )
    if (epoch := os.environ.get("SOURCE_DATE_EPOCH")) is not None and not epoch.strip().isdecimal():
        raise UsageError(
            f"SOURCE_DATE_EPOCH is {ascii(epoch)[:40]}, which numpy cannot read", "unset it, or give seconds since 1970 as a whole number"
        )
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the present folder no longer exists", "change to one that does: cd DIR") from None
