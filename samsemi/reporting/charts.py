"""Charts as SVG that takes its colors from the page, so that they are right in the light and in the dark."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from samsemi.reporting.comparison import Arm, dice_of
from samsemi.reporting.funnel import Funnel
from samsemi.reporting.reliability import Curve, error_of, pool
from samsemi.reporting.sources import Training

WIDTH = 4.4
"""Inches: on a telephone a chart is hardly made smaller."""
INK, FAINT = "#010101", "#020202"
"""Stand for the page's color of text and of lines between."""
SERIES = tuple(f"#0300{n:02x}" for n in range(1, 9))
"""Stand for the page's colors of series."""
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "samsemi",
    "text.parse_math": False,
    "font.size": 9.5,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "grid.color": FAINT,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
"""On top of matplotlib's own settings: a file matplotlibrc in the present folder, which may be a stranger's, could have TeX run."""
LONGEST = 26
"""Characters of a name."""
BINS = 20
CURVES = ("objects", "precision", "low", "high", "dice")


def shorten(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


@contextmanager
def chart(height: float, columns: int = 1, rows: int = 1, **settings: Any) -> Iterator[tuple[Figure, Any]]:
    with mpl.style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, **settings)


def as_svg(figure: Figure, name: str, alternative: str) -> Markup:
    """A figure as an element of a page: no two have the same ids, the width is that of its place, and readers of screens get
    ``alternative``."""
    with mpl.style.context(["default", STYLE]):
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", svg)
    for stand_in, color in ((INK, "var(--ink)"), (FAINT, "var(--line)"), *((s, f"var(--s{i})") for i, s in enumerate(SERIES, start=1))):
        svg = svg.replace(stand_in, color)
    head = f'<svg class="chart" role="img" aria-label="{Markup.escape(alternative)}"'
    svg = re.sub(r'^<svg\b([^>]*?)\swidth="[^"]*"', r"<svg\1", re.sub(r'^<svg\b([^>]*?)\sheight="[^"]*"', r"<svg\1", svg))
    return Markup(head + svg[len("<svg") :].rstrip())


def draw_dice(arms: Sequence[Arm]) -> Markup:
    """A row per arm and class: each case a point (its mean over seeds), quartiles, and the mean."""
    rows = [(arm, name, values) for arm in arms for name, values in dice_by_class(arm).items() if len(values)]
    with chart(0.75 + 0.42 * len(rows)) as (figure, axes):
        for place, (arm, _, values) in enumerate(rows):
            color = SERIES[arms.index(arm) % len(SERIES)]
            heights = place + 0.26 * jitter(len(values))
            axes.scatter(values, heights, s=7, color=color, alpha=0.45, linewidths=0)
            low, middle, high = np.percentile(values, [25, 50, 75])
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
            axes.plot([middle], [place], "|", color=INK, markersize=12, markeredgewidth=2)
            axes.plot([np.mean(values)], [place], "D", color=color, markersize=6, markeredgecolor=INK, markeredgewidth=0.8)
        axes.set_yticks(range(len(rows)), [shorten(f"{arm.name}: {name}" if name else arm.name) for arm, name, _ in rows])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="Dice")
        axes.grid(axis="y", visible=False)
    means = "; ".join(f"{arm.name} {name}: mean {np.mean(values):.3f}" for arm, name, values in rows)
    return as_svg(figure, "dice", f"Dice of every case. {means}")


def dice_by_class(arm: Arm) -> dict[str, list[float]]:
    """Dice of every case that was measured, class by class; of one class without its name."""
    scores = arm.scores
    if len(arm.classes) == 1:
        return {"": [*dice_of(scores).values()]}
    values = {name: [s[name]["dice"] for s in scores.values() if name in s] for name in arm.classes}
    return {name: [value for value in found if not np.isnan(value)] for name, found in values.items()}


def jitter(count: int) -> np.ndarray:
    """(count,) places between -1 and 1 that look random and are always the same: multiples of the golden section."""
    return 2 * (np.arange(count) * 0.6180339887 % 1) - 1


def draw_change(first: Arm, last: Arm) -> Markup:
    """The change in Dice of every case, sorted."""
    before, after = dice_of(first.scores), dice_of(last.scores)
    change = np.sort([after[name] - before[name] for name in after if name in before])[::-1]
    with chart(2.3) as (figure, axes):
        axes.bar(range(len(change)), change, width=1.0, color=[SERIES[0] if value >= 0 else SERIES[1] for value in change])
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="case, most improved first", ylabel="change in Dice", xlim=(-0.6, len(change) - 0.4))
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    return as_svg(figure, "change", f"{better} of {len(change)} cases better, {worse} worse")


def draw_training(trainings: Sequence[Training], column: str, label: str) -> Markup | None:
    """A column of the histories, a line per run; None where no run has it."""
    curves = [(training, read_curve(training, column)) for training in trainings]
    curves = [(training, curve) for training, curve in curves if len(curve[0])]
    if not curves:
        return None
    with chart(2.7) as (figure, axes):
        for number, (training, (x, y)) in enumerate(curves):
            color = SERIES[number % len(SERIES)]
            axes.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=2.5, label=shorten(training.name))
        axes.set(xlabel="iteration", ylabel=label)
        axes.legend(fontsize=8.5)
    ends = "; ".join(f"{training.name} ends at {y[-1]:.3f}" for training, (_, y) in curves)
    return as_svg(figure, f"training-{column}", f"{label} by iteration. {ends}")


def read_curve(training: Training, column: str) -> tuple[list[float], list[float]]:
    """Iterations and values of the rows that have a finite one."""
    rows = [(float(row["iteration"]), float(row[column])) for row in training.history if row.get(column)]
    rows = [row for row in rows if np.isfinite(row).all()]
    return [x for x, _ in rows], [y for _, y in rows]


def draw_funnel(funnel: Funnel, name: str) -> Markup:
    """A bar per class: accepted objects, then those that were rejected, by reason."""
    kinds = ["accepted", *funnel.reasons]
    with chart(1.15 + 0.4 * len(funnel.classes) + 0.2 * (len(kinds) // 3)) as (figure, axes):
        left = np.zeros(len(funnel.classes))
        for kind in kinds:
            counts = np.array([row.accepted if kind == "accepted" else row.rejected.get(kind, 0) for row in funnel.classes])
            color = SERIES[kinds.index(kind) % len(SERIES)]
            axes.barh(
                range(len(counts)), counts, left=left, color=color, height=0.6, label=kind if kind == "accepted" else f"rejected: {kind}"
            )
            left += counts
        axes.set_yticks(range(len(left)), [shorten(row.name) for row in funnel.classes])
        axes.set(ylim=(len(left) - 0.5, -0.5), xlabel="objects that SAM was prompted with")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=min(3, len(kinds)), fontsize=8.5)
    told = "; ".join(f"{row.name}: {row.accepted} of {row.objects} accepted" for row in funnel.classes)
    return as_svg(figure, f"funnel-{name}", told)


def draw_scores(funnel: Funnel, name: str) -> Markup | None:
    """A histogram per score: accepted objects below, rejected ones above them, and a line at what must be reached."""
    if not funnel.scores:
        return None
    rows = -(-len(funnel.scores) // 2)
    with chart(0.5 + 1.45 * rows, columns=2, rows=rows, squeeze=False) as (figure, axes):
        for place, (score, (accepted, rejected, least)) in zip(axes.flat, funnel.scores.items(), strict=False):
            place.hist(
                [accepted, rejected], bins=np.linspace(0, 1, BINS + 1), stacked=True, color=SERIES[:2], label=["accepted", "rejected"]
            )
            if 0 < least <= 1:
                place.axvline(least, color=INK, linewidth=1, linestyle="--")
            place.set_title(score.replace("_", " "), fontsize=9.5)
            place.set_xlim(0, 1)
        for place in axes.flat[len(funnel.scores) :]:
            place.set_visible(False)
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8.5)
    return as_svg(figure, f"scores-{name}", f"Histograms of {', '.join(funnel.scores)}; dashed: what must be reached")


def draw_coverage(funnel: Funnel, name: str) -> Markup | None:
    """Precision of what is accepted, with its interval, against the share that is accepted; None without a calibration."""
    if len(funnel.curve) < 2:
        return None
    x, y, low, high, dice = (np.array([getattr(point, name) for point in funnel.curve]) for name in CURVES)
    chosen = [point.objects for point in funnel.curve if point.min_quality >= funnel.min_quality]
    with chart(2.7) as (figure, axes):
        axes.fill_between(x, low, high, color=SERIES[0], alpha=0.18, linewidth=0)
        axes.plot(x, y, color=SERIES[0], linewidth=1.6, label="precision (95 % interval)")
        axes.plot(x, dice, color=SERIES[1], linewidth=1.4, linestyle="--", label="mean true Dice")
        if chosen:
            axes.axvline(chosen[0], color=INK, linewidth=1, linestyle=":")
        axes.set(xlabel="share of objects accepted (dotted: as chosen)", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="lower left", fontsize=8.5)
    return as_svg(figure, f"coverage-{name}", "Precision on cases with known truth against the share of objects that is accepted")


def draw_reliability(curves: Mapping[str, Sequence[Curve]], name: str, said: str, true: str) -> Markup:
    """A line for the curves of each name, which are seeds, a point per bin, whose area shows its share of all that was counted; on the
    diagonal what is said is true. The calibration error is the mean of the seeds': one that says too much and one that says too little
    do not make up for each other."""
    errors = {label: float(np.mean([error_of(seed) for seed in seeds])) for label, seeds in curves.items()}
    with chart(3.4) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=":")
        for number, (label, seeds) in enumerate(curves.items()):
            count, x, y = np.array(pool(seeds)).T
            color = SERIES[number % len(SERIES)]
            axes.plot(x, y, color=color, linewidth=1.4, label=f"{shorten(label)} ({errors[label]:.3f})")
            axes.scatter(x, y, s=8 + 90 * count / count.sum(), color=color, alpha=0.6, linewidths=0)
        axes.set(xlabel=said, ylabel=true, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="upper left", fontsize=8.5)
    told = "; ".join(f"{label}: calibration error {error:.3f}" for label, error in errors.items())
    return as_svg(figure, f"reliability-{name}", f"{true} against {said}. {told}")


def draw_drift(rows: Sequence[Mapping[str, float]], name: str) -> Markup:
    """Coverage and flips of each mining again."""
    x = [row["iteration"] for row in rows]
    with chart(2.3) as (figure, axes):
        axes.plot(x, [row["coverage"] for row in rows], color=SERIES[0], marker="o", label="images with an accepted label")
        axes.plot(x, [row["flips"] for row in rows], color=SERIES[1], marker="s", label="labeled pixels that changed")
        axes.set(xlabel="iteration of the mining", ylabel="share", ylim=(-0.02, 1.02), xlim=(0, 1.1 * max(x)))
        axes.legend(fontsize=8.5)
    return as_svg(figure, f"drift-{name}", f"Coverage and changed pixels over {len(rows)} minings")
