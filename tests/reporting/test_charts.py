"""Charts in a page: always the same, in the page's colors, with names as text."""

from pathlib import Path

import matplotlib as mpl
import pytest
from pages import Page

from samsemi.evaluations import COLUMNS
from samsemi.reporting import charts
from samsemi.reporting.comparison import make_arms
from samsemi.reporting.reliability import BinPoint, error_of, pool, read_curve
from samsemi.reporting.sources import Evaluation, Training

STRANGE = ("<script>alert(1)</script>", '$x_1$ & "quoted"', "a" * 80)


def arms_of(*names: str, classes: tuple[str, ...] = ("cell",)) -> list:
    scores = {f"c{i}": {name: dict.fromkeys(COLUMNS, 0.1 * i) for name in classes} for i in range(8)}
    groups = dict(zip(scores, scores, strict=True))
    return make_arms([Evaluation(name, Path(name), "test", "pixels", {}, {}, scores, groups) for name in names], seed=0)


def test_charts_are_always_the_same():
    assert charts.draw_dice(arms_of("a", "b")) == charts.draw_dice(arms_of("a", "b"))


def test_settings_of_a_stranger_change_no_chart_and_start_no_program():
    usual = charts.draw_dice(arms_of("a"))
    with mpl.rc_context({"text.usetex": True, "savefig.bbox": "tight", "path.effects": [], "lines.linewidth": 9}):
        assert charts.draw_dice(arms_of("a")) == usual


def test_colors_are_those_of_the_page_and_ids_those_of_the_chart():
    svg = str(charts.draw_dice(arms_of("a", "b")))
    assert "var(--ink)" in svg and "var(--s1)" in svg and "var(--s2)" in svg
    assert "#0101" not in svg and "#0300" not in svg
    page = Page(svg + str(charts.draw_change(*arms_of("a", "b"))))
    assert not page.repeated_ids() and not page.loaded()
    assert "width" not in page.all("svg")[0].attributes and "viewbox" in page.all("svg")[0].attributes


def test_strange_names_are_text():
    page = Page(str(charts.draw_dice(arms_of(*STRANGE, classes=("<b>", "$y$")))))
    assert not page.all("script") and not page.all("b")
    texts = [element.text for element in page.all("text")]
    assert any(text.startswith("<script>alert(1)") for text in texts) and any(text.startswith("$x_1$ &") for text in texts)
    assert max(map(len, texts)) < 60


def test_curves_are_of_the_runs_that_have_them():
    history = [{"iteration": str(i), "loss": f"{1 / i}", "val_dice": "" if i == 2 else "0.5"} for i in (1, 2, 3)]
    trainings = [Training("warm", Path("warm"), "warmstart", {}, {}, {}, history)]
    assert charts.read_curve(trainings[0], "val_dice") == ([1.0, 3.0], [0.5, 0.5])
    assert charts.draw_training(trainings, "val_dice", "Dice") and charts.draw_training(trainings, "val_iou", "IoU") is None


def test_reliability_is_drawn_on_the_diagonal_and_says_its_error():
    curves = {"<warm>": read_curve({"curve": [{"count": 30, "predicted": 0.2, "true": 0.1}, {"count": 10, "predicted": 0.9, "true": 0.9}]})}
    svg = charts.draw_reliability({name: [curve] for name, curve in curves.items()}, "0", "said", "true")
    page = Page(str(svg))
    assert "<warm>: calibration error 0.075" in page.all("svg")[0].attributes["aria-label"]
    assert any(element.text == "<warm> (0.075)" for element in page.all("text"))


def test_seeds_that_say_too_much_and_too_little_are_not_calibrated_together():
    seeds = [[BinPoint(10, 0.5, 0.3)], [BinPoint(10, 0.5, 0.7)]]
    svg = str(charts.draw_reliability({"ours": seeds}, "0", "said", "true"))
    assert error_of(pool(seeds)) == pytest.approx(0) and "ours: calibration error 0.200" in svg


def test_bins_of_seeds_are_pooled():
    one, other = [BinPoint(10, 0.5, 0.4), BinPoint(5, 0.99, 1.0)], [BinPoint(30, 0.52, 0.8)]
    low, high = pool([one, other])
    assert (low.number, low.predicted, low.true) == (40, pytest.approx(0.515), pytest.approx(0.7)) and high == one[1]
    assert pool([]) == []


HUGE = {"count": 1e308, "predicted": 0.5, "true": 0.5}


@pytest.mark.parametrize("point", [{}, {"count": 1, "predicted": 2, "true": 0}, {"count": 0, "predicted": 0, "true": 0}, HUGE, 3])
def test_curve_that_cannot_be_is_refused(point):
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_curve({"curve": [point]})
