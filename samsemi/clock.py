"""How long a person has waited for a command, its start-up included."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_in_command = False
_counted = time.monotonic()
"""The moment up to which the time is counted."""


@contextmanager
def command() -> Iterator[None]:
    """The time of what is done within is that of one command."""
    global _in_command
    restart()
    _in_command = True
    try:
        yield
    finally:
        _in_command = False


def restart() -> None:
    """Count from now on; within a command, all that went before belongs to it and stays counted."""
    global _counted
    if not _in_command:
        _counted = time.monotonic()


def lap() -> float:
    """Seconds since the start, or since this was called last."""
    global _counted
    before, _counted = _counted, time.monotonic()
    return _counted - before
