"""Remake the tables of layouts and formats in docs/own_data.md: ``PYTHONPATH=tests python -m foreign``."""

from foreign.table import main

main()
