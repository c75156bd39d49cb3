"""Tables and picture of the evidence, from results that are made up; what the pages hold is what the results give."""

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "examples" / "evidence"))
import tables
from choices import choose_better, choose_iterations, undecided
from design import PRESETS, Cell, Row, plan_parts, secondary
from picture import draw_curves
from results import METRICS, Reading, cell_file, keep_cases, keep_reading, read_arm, read_cases, read_readings

PRESET = PRESETS["cpu"]
POLYPS, CASES = Row("kvasir_seg", 24), 40
BETTER = PRESET.better_of("kvasir_seg")
OTHER = next(arm for arm in ("supervised", "labeled-only") if arm != BETTER)


def write_cell(results: Path, row: Row, seed: int, arm: str, mean: float, measured: str = "", **of_mining: object) -> None:
    """Cases whose Dice differs, with the given mean; each cell has its own noise."""
    rng = np.random.default_rng((seed, row.labels, *map(ord, arm)))
    dice = mean + 0.1 * np.sin(np.arange(CASES)) + 0.01 * (seed % 3 - 1) + 0.03 * rng.standard_normal(CASES)
    file = cell_file(results, Cell(row, seed, arm))
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "group", "class", *METRICS])
        writer.writerows([f"c{i}", "", "polyp", f"{value:.5g}", f"{value / 2:.5g}", 20] for i, value in enumerate(dice))
    reading = Reading(row.name, seed, arm, "2026-12-01", "0" * 40, measured or arm, 2400, 100.0 + seed, "", **of_mining)
    keep_reading(results, reading)


@pytest.fixture
def results(tmp_path) -> Path:
    """Polyps: ten seeds with 24 labels, five with 72, three oracles; one lesion arm."""
    for seed in range(1, 11):
        for arm, mean in ((BETTER, 0.50), (OTHER, 0.48), ("self-training", 0.54)):
            write_cell(tmp_path, POLYPS, seed, arm, mean)
        nothing = {"measured": "labeled-only", "accepted": 0} if seed == 4 else {"accepted": 9, "coverage": 0.4, "pseudo_dice": 0.8}
        write_cell(tmp_path, POLYPS, seed, "mined", 0.56, **nothing)
    for seed in range(1, 6):
        write_cell(tmp_path, Row("kvasir_seg", 72), seed, BETTER, 0.62)
    for seed in range(1, 4):
        write_cell(tmp_path, POLYPS, seed, "oracle-all", 0.66)
    write_cell(tmp_path, Row("isic2018", 24), 1, "mined", 0.8)
    return tmp_path


def rows_of(text: str) -> dict[str, list[str]]:
    """First two cells of a line -> the others."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return {f"{cells[0]}; {cells[1]}": cells[2:] for cells in lines}


def test_arms_with_their_means_and_what_was_not_run(results):
    rows = rows_of(tables.make_tables(results, PRESET)["arms"])
    seeds, dice, _, each, iou, hd95, labels, seconds = rows["polyps, 24; mined (nothing accepted: seed 4)"]
    assert seeds == "10" and float(dice) == pytest.approx(0.563, abs=0.01) and len(each.split()) == 10
    assert float(iou) == pytest.approx(float(dice) / 2, abs=0.001) and hd95 == "20.0" and seconds == "106"
    assert labels == f"0.800 ({0.4 * 9 / 10:.0%})"
    assert rows[f"polyps, 72; {BETTER}"][0] == "5" and rows["polyps, 24; oracle-all"][0] == "3"
    assert rows["lungs, 24; supervised, labeled-only, self-training, mined"][0] == "not run"
    assert "oracle-masks" in next(name for name, cells in rows.items() if name.startswith("polyps, 24") and cells[0] == "not run")


def test_comparisons_say_what_is_told_apart(results):
    rows = rows_of(tables.make_tables(results, PRESET)["contrasts"])
    points, over_seeds, crossed, p, verdict = rows[f"primary: polyps: mined over {BETTER}; 10"]
    assert float(points) == pytest.approx(6, abs=1) and (verdict, p) == ("better", "<0.001")
    for text in (over_seeds, crossed):
        low, high = (float(edge) for edge in text.strip("[]").split(","))
        assert low < float(points) < high
    assert rows["polyps: mined over self-training; 10"][-1] == "better"
    assert rows[f"polyps: mined (24 labels) over {BETTER} (72 labels); 5"][-1] == "worse"
    assert rows["skin lesions: mined over self-training; not run"]


def test_what_is_not_told_apart_is_said_so(results):
    rng = np.random.default_rng(0)
    for seed in range(1, 11):
        write_cell(results, POLYPS, seed, "self-training", 0.56 + 0.02 * rng.standard_normal())
    assert rows_of(tables.make_tables(results, PRESET)["contrasts"])["polyps: mined over self-training; 10"][-1] == "not told apart"


def test_nothing_is_tested_before_all_planned_seeds_are_there(results):
    cell_file(results, Cell(POLYPS, 10, "mined")).unlink()
    found = rows_of(tables.make_tables(results, PRESET)["contrasts"])
    assert found[f"primary: polyps: mined over {BETTER}; 9"][1:] == ["", "", "", "not finished"]
    assert found[f"polyps: self-training over {BETTER}; 10"][-1] == "better"


def test_comparisons_are_corrected_as_all_that_are_planned(results):
    found = {one: tables.find_difference(tables.read_all(results, plan_parts(PRESET)), one, PRESET) for one in secondary(PRESET)}
    for seed in range(1, 11):
        write_cell(results, POLYPS, seed, "self-training", 0.5607 + 0.003 * (-1) ** seed)
    arms = tables.read_all(results, plan_parts(PRESET))
    contrast = next(one for one in secondary(PRESET) if (one.arm, one.other, one.data) == ("mined", "self-training", "kvasir_seg"))
    alone = tables.find_difference(arms, contrast, PRESET).p
    shown = float(rows_of("\n".join(tables.write_contrasts(arms, PRESET)))["polyps: mined over self-training; 10"][3])
    finished = sum(one is not None and one.p is not None for one in found.values())
    assert finished == 3 < len(found) and shown == pytest.approx(min(1, (len(found) - 2) * alone), abs=0.001)


def test_few_seeds_have_no_test(results):
    for seed in (1, 2):
        write_cell(results, Row("isic2018", 24), seed, "mined", 0.8)
        write_cell(results, Row("isic2018", 24), seed, "self-training", 0.7)
    found = tables.make_tables(results, PRESET)
    assert rows_of(found["contrasts"])["skin lesions: mined over self-training; 2"][1:] == ["", "", "", "not finished"]
    [gain] = [cells for name, cells in rows_of(found["losses"]).items() if name.startswith("polyps: oracle-all over mined; +")]
    assert [float(text) for text in gain[0].split(",")] == pytest.approx([10, 10, 10], abs=3)


def test_labels_saved(results):
    [saved] = rows_of(tables.make_tables(results, PRESET)["savings"])["polyps; 5"]
    labels, low, high = (float(text) for text in re.findall(r"\d+", saved))
    assert low < labels < high and labels == pytest.approx(24 * 3**0.5 - 24, abs=4)
    for seed in range(1, 11):
        write_cell(results, POLYPS, seed, "mined", 0.45)
    assert rows_of(tables.make_tables(results, PRESET)["savings"])["polyps; 5"] == ["none"]


def test_short_table_has_a_row_per_set(results):
    rows = rows_of(tables.make_tables(results, PRESET)["short"])
    assert rows["polyps, 24; 10"][4].startswith("+") and float(rows["skin lesions, 24; 1"][3]) == pytest.approx(0.81, abs=0.02)


def test_picture_has_a_panel_per_set(results):
    panels = tables.make_panels(tables.read_all(results, plan_parts(PRESET)), PRESET)
    assert [panel.title for panel in panels] == ["polyps: test Dice"] and [point.labels for point in panels[0].curve] == [24, 72]
    assert panels[0].saved == pytest.approx(18, abs=4) and set(panels[0].arms) == {OTHER, "self-training", "mined"}
    pixels = np.array(draw_curves(panels))
    for color in ((70, 70, 70), (200, 60, 40), (40, 130, 180)):
        assert (np.abs(pixels.astype(int) - color).sum(axis=2) < 30).sum() > 50


def test_choices_follow_from_the_development_images(tmp_path):
    for budget, mean in zip(PRESET.budgets, (0.40, 0.52, 0.545, 0.55), strict=True):
        write_cell(tmp_path, Row("kvasir_seg", 24, budget), 1, "labeled-only", mean)
    for seed in (1, 2, 3):
        for arm, mean in (("labeled-only", 0.545), ("supervised", 0.55 if seed < 3 else 0.52)):
            write_cell(tmp_path, Row("kvasir_seg", 24, PRESET.iterations_of("kvasir_seg")), seed, arm, mean)
    assert choose_iterations(tmp_path, "kvasir_seg", PRESET) == PRESET.budgets[2]
    assert choose_better(tmp_path, "kvasir_seg", PRESET) == "labeled-only"
    assert choose_iterations(tmp_path, "isic2018", PRESET) is None and choose_better(tmp_path, "isic2018", PRESET) is None
    assert "- polyps: 2,400 iterations; the better label-only arm: labeled-only" in tables.make_tables(tmp_path, PRESET)["development"]


def test_test_cases_are_not_read_before_the_development_images_have_decided(tmp_path):
    right = replace(PRESET, iterations={"kvasir_seg": PRESET.budgets[1]}, better={"kvasir_seg": "supervised"})
    assert "not measured" in undecided(tmp_path, "kvasir_seg", right) and undecided(tmp_path, "wbc", right) == ""
    for budget, mean in zip(PRESET.budgets, (0.40, 0.60, 0.59, 0.58), strict=True):
        write_cell(tmp_path, Row("kvasir_seg", 24, budget), 1, "labeled-only", mean)
    assert "not measured" in undecided(tmp_path, "kvasir_seg", right)
    for seed in (1, 2, 3):
        for arm, mean in (("labeled-only", 0.60), ("supervised", 0.65)):
            write_cell(tmp_path, Row("kvasir_seg", 24, PRESET.budgets[1]), seed, arm, mean)
    assert undecided(tmp_path, "kvasir_seg", right) == ""
    for wrong in ({"better": {"kvasir_seg": "labeled-only"}}, {"iterations": {"kvasir_seg": PRESET.budgets[2]}}):
        assert "say 1200 iterations" in undecided(tmp_path, "kvasir_seg", replace(right, **wrong))


@pytest.mark.parametrize("name", PRESETS)
def test_design_has_what_the_development_images_said(name):
    results = ROOT / "examples" / "evidence" / "results" / name
    for data in PRESETS[name].iterations:
        why = undecided(results, data, PRESETS[name])
        assert not why or "not measured" in why


def test_pages_hold_what_the_results_give():
    blocks = tables.make_tables(ROOT / "examples" / "evidence" / "results" / "cpu", PRESET)
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.fill(text, blocks) == text, "run python examples/evidence/tables.py"
    assert all(f"<!-- evidence: {name} -->" in tables.PAGES[0].read_text(encoding="utf-8") for name in blocks if name != "short")


def test_blocks_of_a_page_are_filled_and_the_rest_stays():
    page = "a\n<!-- evidence: arms -->\n<!-- end -->\nb\n<!-- evidence: other -->\nkept\n<!-- end -->\n"
    filled = tables.fill(page, {"arms": "| x |\n| y |"})
    assert filled == page.replace("arms -->\n", "arms -->\n| x |\n| y |\n")
    assert tables.fill(filled, {"arms": "z"}) == page.replace("arms -->\n", "arms -->\nz\n")


def test_cases_are_kept_small_and_read_as_they_were(tmp_path):
    evaluation = tmp_path / "eval"
    evaluation.mkdir()
    lines = ["id,group,class,dice,iou,nsd,hd95", "a,a,x,0.123456,0.1,1,12.3456", "a,a,y,0.3,0.2,1,", "b,p1,x,,,,", "b,p1,y,1,1,1,0"]
    (evaluation / "metrics.csv").write_text("\n".join(lines) + "\n")
    keep_cases(evaluation, tmp_path / "row" / "mined-seed-3.csv")
    kept = (tmp_path / "row" / "mined-seed-3.csv").read_text().splitlines()
    assert kept[0] == "id,group,class,dice,iou,hd95" and kept[1] == "a,,x,0.1235,0.1,12.35"
    found = read_cases(tmp_path / "row" / "mined-seed-3.csv")
    assert found.values["dice"] == {"a": pytest.approx(0.21175), "b": 1.0} and found.groups == {"a": "a", "b": "p1"}
    assert found.values["hd95"]["a"] == 12.35 and list(read_arm(tmp_path, "row", "mined")) == [3]


def test_every_reading_is_a_line(tmp_path):
    assert read_readings(tmp_path) == []
    for date in ("2026-12-01", "2026-12-02"):
        keep_reading(tmp_path, Reading("kvasir_seg-24", 1, "mined", date, "abc", "mined", 2400, 3.0, "12", 7, 3, 0.25, 0.81234))
    lines = read_readings(tmp_path)
    assert [line["date"] for line in lines] == ["2026-12-01", "2026-12-02"] and lines[0]["pseudo_dice"] == "0.8123"
