"""The tables that ``samsemi eval`` closes with."""

import numpy as np
from builders import DATA, read_array, refused, succeed, write_image

from samsemi.data.dataset import read_dataset
from samsemi.evaluations import LENGTHS
from samsemi.metrics import METRICS, SURFACES
from samsemi.stages.evaluate import tables

COUNTS = {"missed": 3, "false_alarms": 12}
DISTANT = {"mean": 1234.56, "std": 1.0, "low": 1000.04, "high": 1500.0, "n": 120}
SHARE = {"mean": 0.81234, "std": 0.1, "low": 0.75, "high": 0.86, "n": 120}
LESS = {"mean": -0.0312, "std": 0.1, "low": -0.06, "high": 0.0101, "n": 118, "wilcoxon_p": 0.0312, "permutation_p": 0.0254, "holm_p": 0.312}
NEARER = {**LESS, "mean": -1100.0, "low": -1200.25, "high": -10.0, "wilcoxon_p": 1e-9}
UNKNOWN = {"mean": None, "std": None, "low": None, "high": None, "n": 0, "wilcoxon_p": None, "permutation_p": None, "holm_p": None}


def result_of(*classes: str, **more: object) -> dict:
    means = {metric: DISTANT if metric in LENGTHS else SHARE for metric in METRICS} | {"ece": UNKNOWN}
    means |= {metric: means[metric] | COUNTS for metric in SURFACES}
    return {"cases": 120, "split": "test", "distance_unit": "pixels", "classes": dict.fromkeys(classes, means), "mean": means, **more}


def test_every_metric_that_was_measured_fits_80_columns_with_its_misses():
    [table] = tables(result_of("polyp"))
    lines = table.lines(80)
    assert lines[0] == "120 cases of test; distances in pixels" and all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines[2:]] == [name for name in METRICS if name != "ece"]
    assert lines[2].split() == ["dice", "0.812", "[0.750,", "0.860]", "120"]
    assert lines[6].split() == ["hd95", "1234.6", "[1000.0,", "1500.0]", "120", "3", "12"]
    assert lines[10].split()[:2] == ["area_error", "+0.812"]


def test_difference_to_an_earlier_evaluation_fits_80_columns():
    against = {metric: NEARER if metric in LENGTHS else LESS for metric in METRICS} | {"nsd": UNKNOWN}
    [_, table] = tables(result_of("polyp", against={"eval": "runs/eval-warm", **against}))
    lines = table.lines(80)
    assert "difference to eval-warm" in lines[0] and all(len(line) <= 80 for line in lines[1:])
    assert [line.split()[0] for line in lines[2:]] == [name for name in METRICS if name != "nsd"]
    assert lines[2].split() == ["dice", "-0.031", "[-0.060,", "+0.010]", "0.031", "0.025", "0.312", "118"]
    assert "-1100.0  [-1200.2, -10.0]  <0.001" in lines[6]


def test_several_classes_have_a_table_of_as_many_metrics_as_fit():
    [means, by_class] = tables(result_of("right ventricle", "myocardium"))
    lines = by_class.lines(80)
    assert lines[2].split("  ")[:2] == ["right ventricle", "0.812 [0.750, 0.860]"] and lines[2].split()[5:8] == ["3", "+", "12"]
    assert all(len(line) <= 80 for line in lines[:-1]) and lines[-1].startswith("not shown: iou, precision, recall, assd, nsd")
    assert "ece" not in lines[-1] and "not shown" not in by_class.lines(400)[-1]


def test_cost_has_a_row_per_network():
    cost = {"model": {"parameters": 416_000, "gflops": 0.123, "ms_per_image": 17.2}}
    assert tables(result_of("polyp", cost=cost))[1].lines(80)[1:] == [
        "network  parameters  GFLOPs  ms",
        "model    0.4 M       0.1     17",
    ]


def test_perfect_predictions_of_0_and_255_are_perfect(dataset, tmp_path):
    [*cases] = read_dataset(dataset).split("test")
    for case in cases:
        write_image(tmp_path / f"p/{case.id}.png", read_array(case.mask) * np.uint8(255))
    arguments = ("eval", dataset, "--predictions", tmp_path / "p", "--out")
    outcome = succeed(*arguments, tmp_path / "e", "--json")
    assert outcome.result["dice"] == 1 and "predictions: masks hold 0 and 255" in outcome.err
    write_image(tmp_path / f"p/{cases[0].id}.png", read_array(cases[0].mask))
    refused(DATA, *arguments, tmp_path / "f", said=("0, 255",))
