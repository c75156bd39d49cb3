"""How long a person has waited for a command, its start-up included."""

import time

_counted = time.monotonic()
"""The moment up to which the time is counted: a process runs one command at a time."""


def start() -> None:
    """A command begins: count from now on."""
    lap()


def lap() -> float:
    """Seconds since the command began, or since this was called last."""
    global _counted
    before, _counted = _counted, time.monotonic()
    return _counted - before
