"""``python -m samsemi``, and the console script: from its first moment on, a signal ends it with one line."""

import os

from samsemi import interrupts


def run() -> None:
    """Load the command line and run it."""
    try:
        with interrupts.watched():
            from samsemi import cli

            cli.run()
    except KeyboardInterrupt:
        interrupts.ignore()
        os.write(2, b"interrupted\n")
        os._exit(interrupts.EXIT_CODE)


if __name__ == "__main__":
    run()
