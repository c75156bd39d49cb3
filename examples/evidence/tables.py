"""Every table and the picture of the evidence, from the results alone; the pages that hold them are rewritten in place.

    python examples/evidence/tables.py [--preset gpu]

A table stands in docs/evidence.md or README.md between the lines `<!-- evidence: NAME -->` and `<!-- end -->`, docs/labels.png is the
picture. Tables and picture of the preset `gpu` are NAME-gpu and labels-gpu.png.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench import HERE, bench_of
from choices import choose_better, choose_iterations
from design import (
    ALL,
    MAIN,
    PRESETS,
    Contrast,
    Part,
    Preset,
    Row,
    cells_of,
    plan_development,
    plan_parts,
    primary,
    secondary,
    untested,
)
from inference import Saving, differ, labels_saved
from picture import Panel, Point, draw_curves
from results import METRICS, Scores, read_arm, read_readings

from samsemi.statistics import LEVEL, Difference, holm, pair

ROOT = HERE.parents[1]
PAGES = (ROOT / "docs" / "evidence.md", ROOT / "README.md")
NAMES = {"kvasir_seg": "polyps", "isic2018": "skin lesions", "lung_cxr": "lungs", "wbc": "blood cells"}
CAPTION = "Test Dice against the number of labels"
NOTHING = "*No test case has been read yet.*"
Arms = dict[tuple[str, str], dict[int, Scores]]
"""(row, arm) -> seed -> scores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    preset, suffix = PRESETS[options.preset], "" if options.preset == "cpu" else f"-{options.preset}"
    results, picture = options.results / options.preset, f"labels{suffix}.png"
    blocks = {f"{name}{suffix}": text for name, text in make_tables(results, preset, picture).items()}
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8"), blocks), encoding="utf-8")
    if panels := make_panels(read_all(results, plan_parts(preset)), preset):
        draw_curves(panels).save(PAGES[0].parent / picture)


def fill(page: str, blocks: Mapping[str, str]) -> str:
    """A page with the blocks between their marks."""

    def block(found: re.Match) -> str:
        return f"{found[1]}\n{blocks[found[2]]}\n{found[3]}" if found[2] in blocks else found[0]

    return re.sub(r"(<!-- evidence: ([\w-]+) -->)\n.*?\n?(<!-- end -->)", block, page, flags=re.DOTALL)


def make_tables(results: Path, preset: Preset, picture: str = "labels.png") -> dict[str, str]:
    """Name -> Markdown."""
    parts, before = plan_parts(preset), plan_development(preset)
    arms, development = read_all(results, parts), read_all(results, before)
    readings = read_readings(results)
    return {
        "development": "\n".join([*write_arms(development, before, readings), "", *write_choices(results, preset)])
        if development
        else "*Not measured yet.*",
        "plan": "\n".join(write_plan(parts, preset)),
        "picture": f"![{CAPTION}]({picture})" if make_panels(arms, preset) else NOTHING,
        "arms": "\n".join(write_arms(arms, parts, readings)) if arms else NOTHING,
        "contrasts": "\n".join(write_contrasts(arms, preset)) if arms else NOTHING,
        "losses": "\n".join(write_losses(arms, preset)) if arms else NOTHING,
        "savings": "\n".join(write_savings(arms, preset)) if arms else NOTHING,
        "short": "\n".join(write_short(arms, preset)) if arms else NOTHING,
    }


def read_all(results: Path, parts: Sequence[Part]) -> Arms:
    """The arms of a plan that have a seed at least."""
    names = dict.fromkeys((part.row.name, arm) for part in parts for arm in part.arms)
    return {name: found for name in names if (found := read_arm(results, *name))}


def merge(parts: Sequence[Part]) -> dict[Row, dict[str, list[int]]]:
    """Row -> arm -> planned seeds."""
    rows: dict[Row, dict[str, list[int]]] = {}
    for part in parts:
        for arm in part.arms:
            seeds = rows.setdefault(part.row, {}).setdefault(arm, [])
            seeds += [seed for seed in part.seeds if seed not in seeds]
    return rows


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def write_arms(arms: Arms, parts: Sequence[Part], readings: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """A row per arm; those that were not run, or not with all seeds, say so."""
    columns = ("set, labels", "arm", "seeds", "Dice", "SD of seeds", "of each seed", "IoU", "HD95", "pseudo-labels: Dice (images)", "s")
    rows = []
    for row, planned in merge(parts).items():
        missing = [arm for arm in planned if (row.name, arm) not in arms]
        for arm, seeds in planned.items():
            if found := arms.get((row.name, arm)):
                lines = [one for one in readings if (one["row"], one["arm"]) == (row.name, arm)]
                rows.append([title(row), name_arm(arm, lines), count_seeds(found, seeds), *describe(found), *describe_readings(lines)])
        if missing:
            rows.append([title(row), ", ".join(missing), "not run", *[""] * (len(columns) - 3)])
    yield from table(columns, rows)


def title(row: Row) -> str:
    after = f", {row.iterations:,} iterations" if row.iterations else ""
    return f"{NAMES[row.data]}, {row.labels or 'all'}{after}"


def name_arm(arm: str, readings: Sequence[Mapping[str, str]]) -> str:
    """The arm, and the seeds with which it accepted nothing: there its figures are those of labeled-only."""
    nothing = sorted({int(line["seed"]) for line in readings if line["measured"] != line["arm"]})
    return f"{arm} (nothing accepted: seed {', '.join(map(str, nothing))})" if nothing else arm


def count_seeds(found: Mapping[int, Scores], planned: Sequence[int]) -> str:
    return str(len(found)) if set(found) >= set(planned) else f"{len(found)} of {len(planned)}"


def describe(found: Mapping[int, Scores]) -> list[str]:
    """Dice, its deviation over seeds, each seed's; IoU and HD95."""
    dice, iou, hd95 = ([one.mean(metric) for one in found.values()] for metric in METRICS)
    deviation = f"{np.std(dice, ddof=1):.3f}" if len(dice) > 1 else ""
    return [
        f"{np.mean(dice):.3f}",
        deviation,
        " ".join(f"{value:.3f}"[1:] for value in dice),
        f"{np.mean(iou):.3f}",
        f"{np.mean(hd95):.1f}",
    ]


def describe_readings(readings: Sequence[Mapping[str, str]]) -> list[str]:
    """Pseudo-labels, where there are any, and seconds of training: of the last reading of each seed."""
    last = {line["seed"]: line for line in readings}.values()
    dice = [float(line["pseudo_dice"]) for line in last if line["pseudo_dice"]]
    coverage = [float(line["coverage"] or 0) for line in last if line["accepted"]]
    labels = f"{np.mean(dice):.3f} ({np.mean(coverage):.0%})" if dice else ""
    return [labels, f"{np.mean([float(line['seconds']) for line in last]):.0f}" if last else ""]


def write_plan(parts: Sequence[Part], preset: Preset) -> Iterator[str]:
    """What is to be run, in this order, and how long it takes by the estimate, one cell after the other."""
    rows, begun, total = [], set(), 0.0
    for part in parts:
        cells = list(cells_of([part]))
        hours = sum(bench_of(cell, Path(), Path(), preset).estimate(cell.arm, begun) for cell in cells) / 3600
        total += hours
        cost = f"{hours / len(cells):.2f}"
        rows.append([title(part.row), ", ".join(part.arms), str(len(part.seeds)), cost, f"{hours:.1f}", f"{total:.1f}"])
    yield from table(("set, labels", "arms", "seeds", "hours per cell", "hours", "up to here"), rows)


def write_choices(results: Path, preset: Preset) -> Iterator[str]:
    """What the development images say, a line per set."""
    for data in preset.iterations:
        iterations, better = choose_iterations(results, data, preset), choose_better(results, data, preset)
        most = f"{iterations:,} iterations" if iterations else "iterations not measured yet"
        yield f"- {NAMES[data]}: {most}; the better label-only arm: {better or 'not measured yet'}"


def find_difference(arms: Arms, contrast: Contrast, preset: Preset) -> Difference | None:
    """None unless both arms are there, with a seed in common; no interval and no p before all seeds are there that are planned for both,
    so that nobody stops where it looks good."""
    rows = (Row(contrast.data, contrast.labels), Row(contrast.data, contrast.other_labels))
    names = tuple(zip(rows, (contrast.arm, contrast.other), strict=True))
    one, other = (arms.get((row.name, arm), {}) for row, arm in names)
    if not one.keys() & other.keys():
        return None
    found = differ(pair(*({seed: scores.values["dice"] for seed, scores in arm.items()} for arm in (one, other)), groups_of(one)))
    planned = merge(plan_parts(preset))
    wanted = set.intersection(*(set(planned.get(row, {}).get(arm, ())) for row, arm in names))
    return found if wanted <= set(found.seeds) else replace(found, p=None, interval=None, t_interval=None)


def groups_of(found: Mapping[int, Scores]) -> Mapping[str, str]:
    return next(iter(found.values())).groups


def write_contrasts(arms: Arms, preset: Preset) -> Iterator[str]:
    """The primary comparison, then the others of five seeds or more, corrected together."""
    columns = ("comparison", "seeds", "points of Dice", "95 % over seeds (t)", "95 % over seeds and cases", "p", "so")
    first, *others = ((one, find_difference(arms, one, preset)) for one in (primary(preset), *secondary(preset)))
    corrected = holm([found.p if found and found.p is not None else 1.0 for _, found in others])
    rows = [write_contrast(*first, first[1].p if first[1] else None, "primary: ")]
    rows += [write_contrast(one, found, p) for (one, found), p in zip(others, corrected, strict=True)]
    yield from table(columns, rows)


def write_contrast(contrast: Contrast, found: Difference | None, p: float | None, prefix: str = "") -> list[str]:
    name = prefix + name_contrast(contrast)
    if found is None:
        return [name, "not run", *[""] * 5]
    mean, seeds = f"{100 * found.mean:+.1f}", str(len(found.seeds))
    if found.p is None or p is None:
        return [name, seeds, mean, "", "", "", "not finished"]
    verdict = "not told apart" if p >= LEVEL else "better" if found.mean > 0 else "worse"
    return [name, seeds, mean, interval(found.t_interval), interval(found.interval), format_p(p), verdict]


def format_p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def name_contrast(contrast: Contrast) -> str:
    own, other = (f" ({count or 'all'} labels)" if contrast.labels != contrast.other_labels else "" for count in contrast[2::2])
    return f"{NAMES[contrast.data]}: {contrast.arm}{own} over {contrast.other}{other}"


def interval(found: tuple[float, float] | None) -> str:
    return f"[{100 * found[0]:+.1f}, {100 * found[1]:+.1f}]" if found else ""


def write_losses(arms: Arms, preset: Preset) -> Iterator[str]:
    """Differences of few seeds, each seed's by itself: no interval, no test."""
    rows = []
    for contrast in untested(preset):
        found = find_difference(arms, contrast, preset)
        cells = [f"{100 * found.mean:+.1f}", ", ".join(f"{100 * one:+.1f}" for one in found.by_seed)] if found else ["not run", ""]
        rows.append([name_contrast(contrast), *cells])
    yield from table(("comparison", "points of Dice", "of each seed"), rows)


def find_saving(arms: Arms, data: str, preset: Preset) -> Saving | None:
    """How many labels mining with 24 saves, by the curve of the better label-only arm from 24 to 72."""
    mined = arms.get((Row(data, 24).name, "mined"))
    curve = {labels: arms.get((Row(data, labels).name, preset.better_of(data))) for labels in (24, 72)}
    if not mined or not all(curve.values()):
        return None
    dice = {labels: {seed: one.values["dice"] for seed, one in found.items()} for labels, found in curve.items() if found}
    return labels_saved(dice, {seed: one.values["dice"] for seed, one in mined.items()}, groups_of(mined))


def write_savings(arms: Arms, preset: Preset) -> Iterator[str]:
    rows = []
    for data in preset.iterations:
        saving = find_saving(arms, data, preset)
        rows.append([NAMES[data], str(len(saving.seeds)) if saving else "", describe_saving(saving)])
    yield from table(("set", "seeds", "labels that mining with 24 saves"), rows)


def describe_saving(saving: Saving | None) -> str:
    """'17 [3, 48 or more]'; 'none' where mining is no better than the labels alone."""
    if saving is None:
        return "not run"
    if not saving.labels:
        return f"none [up to {round_saving(saving.high, saving)}]" if saving.high else "none"
    return f"{round_saving(saving.labels, saving)} [{round_saving(saving.low, saving)}, {round_saving(saving.high, saving)}]"


def round_saving(labels: float, saving: Saving) -> str:
    return f"{labels:.0f}" + (" or more" if labels >= saving.most else "")


def write_short(arms: Arms, preset: Preset) -> Iterator[str]:
    """For README: a row per set and number of labels."""
    columns = ("set, labels", "seeds", *("labels", "labels, further", "own masks", "SAM"), "gain of SAM", "over own masks", "KnowSAM")
    rows = []
    for row in merge(plan_parts(preset)):
        seen = {arm: arms[row.name, arm] for arm in (*MAIN, "knowsam") if (row.name, arm) in arms}
        if not seen:
            continue
        dice = [f"{np.mean([one.mean('dice') for one in seen[arm].values()]):.3f}" if arm in seen else "" for arm in (*MAIN, "knowsam")]
        over = [preset.better_of(row.data), "self-training"]
        gains = [find_difference(arms, Contrast(row.data, "mined", row.labels, other, row.labels), preset) for other in over]
        shown = [f"{100 * found.mean:+.1f} {interval(found.interval)}".strip() if found else "" for found in gains]
        rows.append([title(row), str(max(len(found) for found in seen.values())), *dice[:-1], *shown, dice[-1]])
    yield from table(columns, rows)


def make_panels(arms: Arms, preset: Preset) -> list[Panel]:
    """A panel per set of which the labels alone are measured with 24."""
    panels = []
    for data in preset.iterations:
        alone = preset.better_of(data)
        labels = [count for count in (8, 24, 72, ALL) if (Row(data, count).name, alone) in arms]
        if 24 in labels:
            curve = [make_point(arms, data, count, alone) for count in labels]
            others = {arm: make_point(arms, data, 24, arm) for arm in MAIN if arm != alone and (Row(data, 24).name, arm) in arms}
            saving = find_saving(arms, data, preset)
            panels.append(Panel(f"{NAMES[data]}: test Dice", alone, curve, others, saving.labels if saving else 0.0))
    return panels


def make_point(arms: Arms, data: str, labels: int, arm: str) -> Point:
    return Point(labels, [one.mean("dice") for one in arms[Row(data, labels).name, arm].values()])


if __name__ == "__main__":
    main()
