"""Charts in a page: always the same, in the page's colors, with names as text."""

from pathlib import Path

import matplotlib as mpl
from pages import Page

from samsemi.metrics import METRICS
from samsemi.reporting import charts
from samsemi.reporting.comparison import make_arms
from samsemi.reporting.sources import Evaluation, Training

STRANGE = ("<script>alert(1)</script>", '$x_1$ & "quoted"', "a" * 80)


def arms_of(*names: str, classes: tuple[str, ...] = ("cell",)) -> list:
    scores = {f"c{i}": {name: dict.fromkeys(METRICS, 0.1 * i) for name in classes} for i in range(8)}
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
