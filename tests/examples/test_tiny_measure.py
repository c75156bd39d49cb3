"""The tables of examples/tiny_sam/measure.py."""

import sys

import pytest
from builders import load_example

import samsemi

MEASURED = {
    "polyps": {"box": 0.8, "point": 0.5, "box_zoom_2": 0.9, "probe": {"polyp": {"auc": 0.84, "random_auc": 0.83}}},
    "cells": {"box": 0.6, "point": 0.3, "box_zoom_2": 0.8, "by_class": {"nucleus": {"box": 0.7}}, "probe": {"nucleus": {"auc": 0.9}}},
}


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[dict]:
    """What the script calls; nothing is computed."""
    found = []

    def prepare(**options: object) -> None:
        found.append(options)

    def adapt(**options: object) -> dict:
        found.append(options)
        return MEASURED[found[-2]["images"].parent.name]

    monkeypatch.setattr(samsemi, "prepare", prepare)
    monkeypatch.setattr(samsemi, "adapt", adapt)
    monkeypatch.setattr(sys, "argv", ["measure.py", *(str(tmp_path / name) for name in MEASURED), "--zoom", "2", "--images", "9"])
    return found


def test_whole_image_and_zoom_stand_side_by_side(calls, capsys):
    load_example("tiny_sam/measure").main()
    assert [call["zoom"] for call in calls[1::2]] == ["2", "2"] and calls[0]["test"] == 9 and calls[1]["split"] == "test"
    scores, probes = capsys.readouterr().out.rstrip().split("\n\n")
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in scores.splitlines())
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(table) == ["polyps", "cells", "cells: nucleus", "mean over sets"]
    assert table["polyps"]["box"] == "0.800" and table["polyps"]["box zoom 2"] == "0.900" and table["cells: nucleus"]["point"] == ""
    assert table["mean over sets"]["box"] == "0.700" and table["mean over sets"]["box zoom 2"] == "0.850"
    assert probes.splitlines()[2:] == ["| polyps: polyp | 0.840 | 0.830 |", "| cells: nucleus | 0.900 |  |"]
