"""The parts of the page, each from what it needs; one that lacks it says what."""

from collections.abc import Mapping, Sequence
from typing import Any

from samsemi.console import Table
from samsemi.evaluations import format_p, format_summary
from samsemi.metrics import METRICS
from samsemi.reporting import charts
from samsemi.reporting.comparison import Arm, comparable
from samsemi.reporting.funnel import Funnel, read_drift
from samsemi.reporting.page import Chart, Section, Tile
from samsemi.reporting.provenance import trace_origins
from samsemi.reporting.sources import Sources, Training

NO_EVAL = "no evaluation was given. Measure a model with `samsemi eval` and give its folder."
CAUTION = (
    "Intervals (95 %, bootstrap over patients) and p-values (Wilcoxon's signed-rank test over cases, Holm-corrected) are of these trained "
    "networks on these cases: they do not say what another seed of the training would give."
)
NAMES = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "assd": "ASSD", "nsd": "NSD"}
"""Of metrics, as the field writes them."""


def say_results(arms: Sequence[Arm], funnels: Sequence[Funnel]) -> list[str]:
    """What a reader should know first, a sentence each."""
    last = [say_arm(arms[-1]), *filter(None, (say_difference(arm, arms[-1]) for arm in arms[:-1]))] if arms else []
    return last + [say_funnel(funnel) for funnel in funnels[:1]]


def say_arm(arm: Arm) -> str:
    dice, cases, split = arm.mean["dice"], len(arm.evaluation.scores), arm.evaluation.split
    if dice["mean"] is None:
        return f"{arm.evaluation.name}: no Dice could be measured on {cases} {split} cases."
    return f"{arm.evaluation.name}: mean Dice {' '.join(format_summary('dice', dice))} on {cases} {split} cases."


def say_difference(arm: Arm, last: Arm) -> str:
    """'' where the last evaluation is not compared with this one."""
    if not arm.against or arm.against["dice"]["mean"] is None:
        return ""
    found = arm.against["dice"]
    difference = "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*(100 * found[name] for name in ("mean", "low", "high")))
    return f"{last.evaluation.name} minus {arm.evaluation.name}: {difference} of Dice, {say_verdict(arm)} (p {format_p(arm.p)})."


def say_verdict(arm: Arm) -> str:
    return "told apart" if arm.told_apart else "not told apart"


def say_funnel(funnel: Funnel) -> str:
    counts = funnel.counts
    found = counts["images"] - counts["nothing_found"] - counts["unreadable"]
    share = f" ({counts['accepted'] / counts['objects']:.0%})" if counts["objects"] else ""
    right = f" Estimated share of them that is right: {funnel.precision}." if funnel.precision else ""
    return (
        f"{funnel.name}: in {found} of {counts['images']} unlabeled images something was found; of {counts['objects']} objects "
        f"{counts['accepted']}{share} are accepted, in {counts['accepted_images']} images.{right}"
    )


def summary_section(arms: Sequence[Arm]) -> Section:
    """Every evaluation in a row; the last one's figures large."""
    if not arms:
        return Section("summary", "Results", left_out=NO_EVAL)
    last = arms[-1]
    tiles = [make_tile(f"mean Dice of {last.evaluation.name}", "dice", last.mean["dice"])]
    if len(last.classes) > 1:
        tiles += [make_tile(f"Dice, {name}", "dice", values["dice"]) for name, values in last.classes.items()]
    tiles.append(make_tile(f"HD95 in {last.evaluation.distance_unit}", "hd95", last.mean["hd95"]))
    tiles.append(
        Tile(
            str(count_missed(last)),
            f"of {sum(values['dice']['n'] for values in last.classes.values())}",
            "masks with Dice 0 (missed, or found where nothing is)",
        )
    )
    tables = [tabulate_arms(arms), *([tabulate_classes(arms)] if len(last.classes) > 1 else [])]
    others = [arm.evaluation.name for arm in arms[:-1] if not arm.against]
    notes = [f"Not compared with {last.evaluation.name}, since other cases were measured: {', '.join(others)}."] if others else []
    return Section("summary", "Results", tiles=tiles, tables=tables, notes=[CAUTION, *notes])


def make_tile(label: str, metric: str, summary: Mapping[str, Any]) -> Tile:
    value, interval = format_summary(metric, summary)
    return Tile(value, interval if interval != "-" else "", label)


def count_missed(arm: Arm) -> int:
    """Masks of a case and class that have nothing in common with the truth."""
    return sum(values["dice"] == 0 for per_class in arm.evaluation.scores.values() for values in per_class.values())


def tabulate_arms(arms: Sequence[Arm]) -> Table:
    """A row per evaluation: Dice, the paired difference of the last to it, all other metrics, misses."""
    compared = [f"{arms[-1].evaluation.name} minus it", "p", ""] if len(arms) > 1 else []
    columns = ["", "split", "cases", "Dice", *compared, *(NAMES.get(name, name) for name in METRICS if name != "dice"), "Dice 0"]
    return Table("mean over classes, 95 % interval", columns, [tabulate_arm(arm, bool(compared)) for arm in arms])


def tabulate_arm(arm: Arm, compared: bool) -> list[str]:
    found, row = arm.against, [arm.evaluation.name, arm.evaluation.split, str(len(arm.evaluation.scores))]
    row.append(" ".join(format_summary("dice", arm.mean["dice"])))
    if compared and found:
        row += [
            " ".join(format_summary("dice", found["dice"], sign="+")),
            format_p(arm.p),
            say_verdict(arm),
        ]
    elif compared:
        row += ["", "", ""]
    return [*row, *(" ".join(format_summary(m, arm.mean[m])) for m in METRICS if m != "dice"), str(count_missed(arm))]


def tabulate_classes(arms: Sequence[Arm]) -> Table:
    """A row per evaluation and class."""
    rows = [
        [
            f"{arm.evaluation.name}: {name}",
            *(" ".join(format_summary(metric, values[metric])) for metric in METRICS),
            str(values["dice"]["n"]),
        ]
        for arm in arms
        for name, values in arm.classes.items()
    ]
    return Table("by class, 95 % interval", ["", *(NAMES.get(name, name) for name in METRICS), "n"], rows)


def distribution_section(arms: Sequence[Arm]) -> Section:
    """The Dice of every case, and its change from the first to the last evaluation."""
    if not arms:
        return Section("cases-dice", "Every case", left_out=NO_EVAL)
    drawn = [Chart(charts.draw_dice(arms), "Dice of every case;", "diamond: mean, bar: median, line: quartiles")]
    if len(arms) > 1 and comparable(arms[0].evaluation, arms[-1].evaluation):
        names = f"from {arms[0].evaluation.name} to {arms[-1].evaluation.name}"
        drawn.append(Chart(charts.draw_change(arms[0], arms[-1]), "Change of every case,", names))
    return Section("cases-dice", "Every case", charts=drawn)


def mining_sections(funnels: Sequence[Funnel], trainings: Sequence[Training]) -> list[Section]:
    """A section for each store, and one for how stores changed in mining again."""
    if not funnels:
        hint = "no store was given, and no run that is shown learned from one. Give --store STORE.h5."
        return [Section("mining", "Mining", left_out=hint)]
    sections = [mining_section(funnel, number) for number, funnel in enumerate(funnels)]
    drifted = [(training, rows) for training in trainings if (rows := read_drift(training))]
    drawn = [
        Chart(charts.draw_drift(rows, str(number)), f"{training.name}:", "how the labels changed when it mined again")
        for number, (training, rows) in enumerate(drifted)
    ]
    return sections + ([Section("drift", "Drift over minings", charts=drawn)] if drawn else [])


def mining_section(funnel: Funnel, number: int) -> Section:
    """From images to accepted objects, by class; the scores; the calibration."""
    columns = ["class", "objects", "accepted", "images with one", "estimated right", *(f"rejected: {reason}" for reason in funnel.reasons)]
    rows = [
        [
            row.name,
            str(row.objects),
            str(row.accepted),
            str(row.images),
            row.precision or "-",
            *(str(row.rejected.get(r, 0)) for r in funnel.reasons),
        ]
        for row in funnel.classes
    ]
    name = str(number)
    scores, coverage = charts.draw_scores(funnel, name), charts.draw_coverage(funnel, name)
    drawn = [
        Chart(charts.draw_funnel(funnel, name), "Objects:", "accepted, or the first reason why not"),
        *([Chart(coverage, "Coverage against precision,", "where the truth is known")] if coverage else []),
        *([Chart(scores, "Scores of the objects;", "dashed: what must be reached")] if scores else []),
    ]
    lacking = (
        ""
        if coverage
        else "coverage against precision, since this store was not calibrated (`samsemi mine` does unless --no-calibrate is given)."
    )
    title = f"Mining: {funnel.name}"
    return Section(
        f"mining-{number}", title, [tell_funnel(funnel)], tables=[Table("by class", columns, rows)], charts=drawn, left_out=lacking
    )


def tell_funnel(funnel: Funnel) -> str:
    counts = funnel.counts
    steps = [
        f"{counts['images']} unlabeled images",
        *([f"{counts['unreadable']} could not be read"] if counts["unreadable"] else []),
        f"in {counts['nothing_found']} nothing was found",
        f"SAM ({funnel.sam}) was prompted with {counts['objects']} objects in the others",
        f"{counts['accepted']} are accepted, in {counts['accepted_images']} images",
    ]
    return "; ".join(steps) + "."


def training_section(trainings: Sequence[Training]) -> Section:
    """Validation scores and losses of every run."""
    if not any(training.history for training in trainings):
        hint = "no evaluation names a run with a history.csv that is there. Give --model RUN."
        return Section("training", "Training", left_out=hint)
    columns = dict.fromkeys(name for training in trainings for row in training.history for name in row)
    wanted = [(name, f"{name.removeprefix('val_')} on val") for name in columns if name in ("val_dice", "val_iou")]
    wanted += [("loss", "loss")] if "loss" in columns else []
    drawn = [Chart(svg, f"{label}.") for name, label in wanted if (svg := charts.draw_training(trainings, name, label))]
    return Section("training", "Training", charts=drawn)


def origin_section(sources: Sources) -> Section:
    notes = [f"Named, but not there: {line}" for line in sources.lacking]
    return Section("provenance", "Where it comes from", origins=trace_origins(sources), notes=notes)
