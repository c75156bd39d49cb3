"""The parts of the page, each from what it needs; one that lacks it says what."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from samsemi.console import Table
from samsemi.evaluations import format_p, format_summary
from samsemi.metrics import METRICS
from samsemi.reporting import charts
from samsemi.reporting.comparison import Arm, comparable
from samsemi.reporting.funnel import Funnel, read_drift
from samsemi.reporting.page import Chart, Section, Tile
from samsemi.reporting.provenance import trace_origins
from samsemi.reporting.reliability import Reliability, pool
from samsemi.reporting.sources import Sources, Training

NO_EVAL = "no evaluation was given. Measure a model with `samsemi eval` and give its folder."
CAUTION = (
    "Intervals (95 %, bootstrap over patients) and p-values (the larger of Wilcoxon's signed-rank test and a permutation test over "
    "patients, Holm-corrected) are of these trained networks on these cases: they do not say what another seed of the training would give."
)
SEEDS = (
    "Of several seeds the mean is that of the seeds, the interval of a bootstrap crossed over seeds and patients; p is the larger of "
    "that bootstrap's and of a t-test over the seeds' mean differences, the first seed against the first and so on, Holm-corrected. With "
    "fewer than five seeds the interval is too narrow: go by p."
)
NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
    "assd": "ASSD",
    "nsd": "NSD",
    "ece": "ECE",
    "boundary_iou": "boundary IoU",
    "area_error": "area error",
    "area_difference": "area difference",
}
"""Of metrics, as the field writes them."""


def say_results(arms: Sequence[Arm], funnels: Sequence[Funnel]) -> list[str]:
    """What a reader should know first, a sentence each."""
    last = [say_arm(arms[-1]), *filter(None, (say_difference(arm, arms[-1]) for arm in arms[:-1]))] if arms else []
    return last + [say_funnel(funnel) for funnel in funnels[:1]]


def say_arm(arm: Arm) -> str:
    dice, cases, split = arm.mean["dice"], len(arm.scores), arm.first.split
    seeds = f", {len(arm.evaluations)} seeds" if len(arm.evaluations) > 1 else ""
    if dice["mean"] is None:
        return f"{arm.name}: no Dice could be measured on {cases} {split} cases."
    return f"{arm.name}: mean Dice {' '.join(format_summary('dice', dice))} on {cases} {split} cases{seeds}."


def say_difference(arm: Arm, last: Arm) -> str:
    """'' where the last arm is not compared with this one."""
    found = arm.against
    if not found or found["mean"] is None:
        return ""
    difference = "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*(100 * found[name] for name in ("mean", "low", "high")))
    return f"{last.name} minus {arm.name}: {difference} of Dice, {say_verdict(arm)} (p {format_p(arm.p)})."


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
    """Every arm in a row; the last one's figures large."""
    if not arms:
        return Section("summary", "Results", left_out=NO_EVAL)
    last = arms[-1]
    tiles = [make_tile(f"mean Dice of {last.name}", "dice", last.mean["dice"])]
    if len(last.classes) > 1:
        tiles += [make_tile(f"Dice, {name}", "dice", values["dice"]) for name, values in last.classes.items()]
    tiles.append(make_tile(f"HD95 in {last.first.distance_unit}", "hd95", last.mean["hd95"]))
    tiles.append(
        Tile(
            str(count_zeros(last)),
            f"of {len(known_dice(last))}",
            "masks with Dice 0 (missed, or found where nothing is)",
        )
    )
    tables = [tabulate_arms(arms), *([tabulate_classes(arms)] if len(last.classes) > 1 else [])]
    others = [arm.name for arm in arms[:-1] if not arm.against]
    why = "since other cases were measured, or another number of seeds"
    notes = [f"Not compared with {last.name}, {why}: {', '.join(others)}."] if others else []
    counts = {len(arm.evaluations) > 1 for arm in arms}
    cautions = [text for several, text in ((False, CAUTION), (True, SEEDS)) if several in counts]
    return Section("summary", "Results", tiles=tiles, tables=tables, notes=[*cautions, *notes])


def make_tile(label: str, metric: str, summary: Mapping[str, Any]) -> Tile:
    value, interval = format_summary(metric, summary)
    return Tile(value, interval if interval != "-" else "", label)


def known_dice(arm: Arm) -> list[float]:
    """Of every case, class and seed that was measured."""
    found = (values["dice"] for one in arm.evaluations for per_class in one.scores.values() for values in per_class.values())
    return [value for value in found if not isnan(value)]


def count_zeros(arm: Arm) -> int:
    """Masks of a case and class that have nothing in common with the truth."""
    return known_dice(arm).count(0)


def shown_metrics(arms: Sequence[Arm]) -> list[str]:
    """Those that some arm has."""
    return [metric for metric in METRICS if any(arm.mean[metric]["n"] for arm in arms)]


def tabulate_arms(arms: Sequence[Arm]) -> Table:
    """A row per arm: Dice, the paired difference of the last to it, all other metrics, misses."""
    compared = [f"{arms[-1].name} minus it", "p", ""] if len(arms) > 1 else []
    several = any(len(arm.evaluations) > 1 for arm in arms)
    others = [metric for metric in shown_metrics(arms) if metric != "dice"]
    columns = ["", "split", "cases", *(["seeds"] if several else []), "Dice", *compared, *(NAMES.get(name, name) for name in others)]
    rows = []
    for arm in arms:
        row = [arm.name, arm.first.split, str(len(arm.scores)), *([str(len(arm.evaluations))] if several else [])]
        row += [" ".join(format_summary("dice", arm.mean["dice"])), *(tabulate_difference(arm) if compared else [])]
        row += [" ".join(format_summary(metric, arm.mean[metric])) for metric in others]
        rows.append([*row, *count_outcomes(arm.mean), str(count_zeros(arm))])
    return Table("mean over classes, 95 % interval", [*columns, "missed", "false alarms", "Dice 0"], rows)


def tabulate_difference(arm: Arm) -> list[str]:
    if not arm.against:
        return ["", "", ""]
    return [" ".join(format_summary("dice", arm.against, sign="+")), format_p(arm.p), say_verdict(arm)]


def count_outcomes(summaries: Mapping[str, Any]) -> list[str]:
    """Classes that were missed, and that were found where they are not; '-' of tables of before, which do not say."""
    return ["-" if (count := summaries["hd95"][name]) is None else str(count) for name in ("missed", "false_alarms")]


def tabulate_classes(arms: Sequence[Arm]) -> Table:
    """A row per arm and class."""
    metrics = shown_metrics(arms)
    rows = [
        [
            f"{arm.name}: {name}",
            *(" ".join(format_summary(metric, values[metric])) for metric in metrics),
            *count_outcomes(values),
            str(values["dice"]["n"]),
        ]
        for arm in arms
        for name, values in arm.classes.items()
    ]
    return Table("by class, 95 % interval", ["", *(NAMES.get(name, name) for name in metrics), "missed", "false alarms", "n"], rows)


def distribution_section(arms: Sequence[Arm]) -> Section:
    """The Dice of every case, and its change from the first to the last arm."""
    if not arms:
        return Section("cases-dice", "Every case", left_out=NO_EVAL)
    drawn = [Chart(charts.draw_dice(arms), "Dice of every case;", "diamond: mean, bar: median, line: quartiles")]
    if len(arms) > 1 and comparable(arms[0], arms[-1]):
        names = f"from {arms[0].name} to {arms[-1].name}"
        drawn.append(Chart(charts.draw_change(arms[0], arms[-1]), "Change of every case,", names))
    return Section("cases-dice", "Every case", charts=drawn)


def reliability_sections(arms: Sequence[Arm]) -> list[Section]:
    """How far the probabilities can be believed, a chart per class; none where no evaluation says."""
    names = dict.fromkeys(name for arm in arms for one in arm.evaluations for name in one.reliability.probabilities)
    drawn = []
    for number, name in enumerate(names):
        curves = {arm.name: pool([one.reliability.probabilities.get(name, ()) for one in arm.evaluations]) for arm in arms}
        known = {arm: curve for arm, curve in curves.items() if curve}
        if known:
            svg = charts.draw_reliability(known, f"class-{number}", "probability of the class", "share of the pixels")
            drawn.append(Chart(svg, f"{name}:", "pixels of the class, by its probability; in brackets the calibration error"))
    text = "Of the pixels that get a probability of 0.8 for a class, eight in ten should be of it: then the line is the diagonal (dotted)."
    return [Section("reliability", "Reliability", [text], charts=drawn)] if drawn else []


def mining_sections(funnels: Sequence[Funnel], trainings: Sequence[Training], judged: Mapping[str, Reliability]) -> list[Section]:
    """A section for each store, with how far its scores can be believed where it was ``judged``, and one for how stores changed in mining
    again."""
    if not funnels:
        hint = "no store was given, and no run that is shown learned from one. Give --store STORE.h5."
        return [Section("mining", "Mining", left_out=hint)]
    sections = [mining_section(funnel, number, judged.get(funnel.name, Reliability())) for number, funnel in enumerate(funnels)]
    drifted = [(training, rows) for training in trainings if (rows := read_drift(training))]
    drawn = [
        Chart(charts.draw_drift(rows, str(number)), f"{training.name}:", "how the labels changed when it mined again")
        for number, (training, rows) in enumerate(drifted)
    ]
    return sections + ([Section("drift", "Drift over minings", charts=drawn)] if drawn else [])


def mining_section(funnel: Funnel, number: int, judged: Reliability) -> Section:
    """From images to accepted objects, by class; the scores; the calibration; what was predicted of the objects against the truth."""
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
        *draw_judged(judged, name),
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


def draw_judged(judged: Reliability, name: str) -> Iterator[Chart]:
    """What is known of SAM's predicted IoU and of the calibrated quality."""
    text = "all objects, accepted or not; in brackets the calibration error"
    if judged.predicted_iou:
        svg = charts.draw_reliability({"objects": judged.predicted_iou}, f"iou-{name}", "IoU that SAM predicts", "true IoU of its mask")
        yield Chart(svg, "SAM's predicted IoU against the true one,", text)
    if judged.quality:
        svg = charts.draw_reliability({"objects": judged.quality}, f"quality-{name}", "calibrated quality", "share that is right")
        yield Chart(svg, "Calibrated quality against what is right,", text)


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
