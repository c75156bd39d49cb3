"""``python -m samsemi``."""

from samsemi.cli import run

run()
