"""``python -m samsemi``, and the console script: from its first moment on, a signal ends it with one line."""

import os
import sys
from contextlib import suppress

from samsemi import interrupts

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}
"""By the number of their descriptors, from 0."""


def run() -> None:
    """Load the command line and run it."""
    try:
        with interrupts.watched():
            open_streams()
            from samsemi import cli

            cli.run()
    except KeyboardInterrupt:
        interrupts.ignore()
        os.write(2, b"interrupted\n")
        os._exit(interrupts.EXIT_CODE)


def open_streams() -> None:
    """Standard streams that the shell has closed (``>&-``), or that cannot be written to (``1</dev/null``), lead nowhere: closed, their
    numbers would be those of the next files that are opened, and what a library prints would stand in an output."""
    for number, (name, mode) in enumerate(STREAMS.items()):
        if getattr(sys, name) is None or (mode == "w" and not can_be_written(number)):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def can_be_written(number: int) -> bool:
    """Whether a descriptor was opened for writing; True where that cannot be told."""
    with suppress(OSError):
        os.write(number, b"")
        return True
    return False


if __name__ == "__main__":
    run()
