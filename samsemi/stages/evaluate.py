"""``samsemi eval``: how good a model, a folder of masks or a store is, with intervals, pictures and cost."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from samsemi import console
from samsemi.cost import measure_model
from samsemi.data.dataset import Case, Dataset, need_cases, read_case_image, read_case_label, read_dataset, refuse_black_and_white
from samsemi.data.files import find_images
from samsemi.data.mask_values import count_values, interpret_predictions
from samsemi.data.sources import MaskFile
from samsemi.data.volumes.assembly import Assembly
from samsemi.devices import autocast, choose_device
from samsemi.errors import DataError, NothingUsable
from samsemi.evaluations import (
    FIRST,
    TABLE,
    TABLE_HASH,
    Conditions,
    Scores,
    compare_scores,
    describe_reliability,
    format_p,
    format_summary,
    mean_over_classes,
    need_alike,
    read_scores,
    summarize_scores,
    write_scores,
)
from samsemi.folders import Claim, Kind, new_folder
from samsemi.inputs import hash_file
from samsemi.metrics import METRICS, count_reliability, measure
from samsemi.mining.miner import open_store, store_policy
from samsemi.mining.pictures import draw_comparison
from samsemi.mining.pseudolabels import accepted_ids, mined_target
from samsemi.mining.reliability import judge_objects
from samsemi.mining.store import Mined
from samsemi.options.evaluate import EvalOptions
from samsemi.options.shared import PolicyOptions
from samsemi.outputs import write_text
from samsemi.segmenters.checkpoints import load_model_for
from samsemi.segmenters.segmenter import Segmenter, predict_batch, to_label
from samsemi.tensors import hash_tensors
from samsemi.training.runs import as_config

SCHEMA = "samsemi.evaluation/1"
EVALUATION = Kind(
    "an evaluation",
    ("metrics.json",),
    r"metrics\.(json|csv)|volumes\.csv|overlays/\d+-.+\.png",
    frozenset({"classes", "mean", "split", "cases", "distance_unit"}),
)
BATCH = 8

TRUTH = "measure models with --model; only a data set that `samsemi prepare --labeled` made of masks for all images can measure a store"


class Predicted(NamedTuple):
    """What is measured of a case."""

    label: np.ndarray
    """(H, W) uint8."""
    probs: np.ndarray | None = None
    """(K, H, W) float32 probabilities, NaN where there are none; None of masks alone."""


Predict = Callable[[Sequence[Case]], list[Predicted]]


@dataclass(frozen=True)
class Measured:
    """What was found in cases, filled while they are measured."""

    scores: Scores = field(default_factory=dict)
    volumes: Scores = field(default_factory=dict)
    """Of the volumes of which all slices are among the cases."""
    predicted: set[int] = field(default_factory=set)
    """Classes."""
    reliability: dict[str, np.ndarray] = field(default_factory=dict)
    """(K, BINS, 3) of all cases, and of each volume by its name; empty without probabilities."""


def evaluate(options: EvalOptions) -> dict[str, object]:
    """Measure every case of a split at its source size; write metrics.json, metrics.csv, overlays of the worst."""
    dataset = read_dataset(options.dataset)
    split = options.split or ("unlabeled" if options.store else "test")
    cases = need_cases(dataset, split)
    earlier = read_scores(options.against, f"--against {options.against}")[0] if options.against else None
    with new_folder(Claim.of(options.out, EVALUATION, options)) as out:
        segmenter = load_model_for(dataset, options.model).to(choose_device(options.device)) if options.model else None
        if segmenter:
            predict = from_model(segmenter, options.precision)
        elif options.predictions:
            predict = from_folder(options.predictions, cases, dataset)
        else:
            assert options.store, "EvalOptions takes one of the three"
            predict, cases = from_store(options.store, options, cases, dataset)
        spacings = find_spacings(cases, dataset)
        unit = "mm" if spacings else "pixels"
        if earlier and options.against:
            conditions = Conditions(unit, options.tolerance, dataset.fingerprint())
            need_alike(options.against, earlier, [case.id for case in cases], conditions)
        measured = score_cases(cases, predict, dataset, spacings, options.tolerance)
        scores, volumes = measured.scores, measured.volumes
        groups = {case.id: case.group for case in cases} | {case.volume: case.group for case in cases if case.volume}
        metrics = summarize_scores(scores, groups, dataset.classes[1:], options.seed)
        metrics |= {"options": without_out(options), "made_from": made_from(options, dataset, segmenter)}
        metrics |= {"split": split, "cases": len(cases), "distance_unit": unit}
        if volumes:
            summary = summarize_scores(volumes, groups, dataset.classes[1:], options.seed)
            whole_unit = "mm" if know_voxels(cases, spacings) else "voxels"
            metrics["volumes"] = {"volumes": len(volumes), "distance_unit": whole_unit, **summary}
            write_scores(out / "volumes.csv", volumes, groups, kind="volume")
        reliability = describe_reliability(measured.reliability[""], dataset.classes) if measured.reliability else {}
        if options.store:
            metrics["coverage"] = len(cases) / sum(case.truth is not None for case in dataset.split("unlabeled"))
            reliability |= judge_store(options.store, options, dataset)
        if reliability:
            metrics["reliability"] = reliability
        write_scores(out / TABLE, scores, groups)
        if earlier:
            written, _ = read_scores(out, str(out))  # of as many digits as the earlier ones: what is equal stays equal
            metrics["against"] = {"eval": str(options.against), **compare_scores(written, earlier, groups, options.seed)}
        if segmenter:
            metrics["cost"] = {"model": measure_model(segmenter)}
        metrics[TABLE_HASH] = hash_file(out / TABLE)
        draw_worst(out / "overlays", cases, scores, predict, dataset, options.overlays)
        write_text(out / "metrics.json", json.dumps({"schema": SCHEMA, **metrics}, indent=2) + "\n")
    return {"eval": str(options.out), "dice": metrics["mean"]["dice"]["mean"], **metrics}


def without_out(options: EvalOptions) -> dict[str, object]:
    """The options, but where the evaluation is written: it may be moved."""
    return {name: value for name, value in as_config(options).items() if name != "out"}


def made_from(options: EvalOptions, dataset: Dataset, segmenter: Segmenter | None) -> dict[str, object]:
    """Fingerprint of the data set, and hash of the weights of the model or of the file of the store."""
    model = {"model": hash_tensors(segmenter.state_dict())} if segmenter else {}
    return {"dataset": dataset.fingerprint(), **model, **({"store_content": hash_file(options.store)} if options.store else {})}


def from_model(segmenter: Segmenter, precision: str) -> Predict:
    """The masks that `samsemi predict` writes, and their probabilities."""

    def predict(cases: Sequence[Case]) -> list[Predicted]:
        with autocast(segmenter.device, precision):
            return [Predicted(to_label(probs), probs) for probs in predict_batch(segmenter, [read_case_image(case) for case in cases])]

    return predict


def from_folder(folder: Path, cases: Sequence[Case], dataset: Dataset) -> Predict:
    """Masks ID.png of class indices or, of one class, black and white; DataError where one of a case is missing or cannot be told."""
    files = find_images(folder)
    missing = [case.id for case in cases if case.id not in files]
    if missing:
        raise DataError(
            f"{folder}: no mask for {len(missing)} of {len(cases)} cases, such as {missing[0]}", "name masks like the cases: ID.png"
        )
    masks = {case.id: MaskFile(files[case.id]) for case in cases}
    values = interpret_predictions(count_values(masks), len(dataset.classes))
    console.note(f"predictions: {values.note}")
    return lambda batch: [Predicted(values.read(masks[case.id])) for case in batch]


def from_store(path: Path, options: PolicyOptions, cases: Sequence[Case], dataset: Dataset) -> tuple[Predict, list[Case]]:
    """The labels of the accepted masks of a store; only cases that have one and whose truth is known are measured."""
    store = open_store(path, dataset)
    policy = store_policy(store, options)
    usable = set(accepted_ids(store, policy))
    known = [case for case in cases if case.truth is not None]
    chosen = [case for case in known if case.id in usable]
    if not known:
        raise NothingUsable(f"{dataset.folder}: no unlabeled case has a known truth", TRUTH)
    if not chosen:
        accepted = f"of {len(known)} cases with a known truth none has an accepted pseudo-label"
        raise NothingUsable(f"{path}: {accepted}", "lower what was given as --min-..., or mine again with a model trained longer")
    refuse_black_and_white(dataset, [replace(case, mask=case.truth) for case in chosen])

    def predict(batch: Sequence[Case]) -> list[Predicted]:
        targets = [mined_target(store.read(case.id), policy, len(dataset.classes)) for case in batch]
        return [Predicted(to_label(np.nan_to_num(target)), target) for target in targets]

    return predict, chosen


def judge_store(path: Path, options: PolicyOptions, dataset: Dataset) -> dict[str, Any]:
    """How far SAM's predicted IoU and the calibrated quality of all objects of a store can be believed, accepted or not."""
    store, num_classes = open_store(path, dataset), len(dataset.classes)
    known = [case for case in dataset.split("unlabeled") if case.truth is not None and case.id in store.row]

    def read_images() -> Iterator[tuple[Mined, np.ndarray]]:
        with console.progress("judge", len(known)) as advance:
            for case in known:
                yield store.read(case.id), read_case_label(case, case.truth, num_classes)
                advance()

    return judge_objects(read_images(), store_policy(store, options), num_classes)


def find_spacings(cases: Sequence[Case], dataset: Dataset) -> dict[str, tuple[float, ...]]:
    """Size of a pixel of each case in mm, its own or that of the data set; empty, with a warning, where only some are known."""
    shared = (dataset.spacing_mm, dataset.spacing_mm) if dataset.spacing_mm else None
    known = {case.id: spacing for case in cases if (spacing := case.spacing or shared)}
    if known and len(known) < len(cases):
        console.warn(f"of {len(cases) - len(known)} of {len(cases)} cases no spacing is known: distances are in pixels")
        return {}
    return known


def know_voxels(cases: Sequence[Case], spacings: Mapping[str, tuple[float, ...]]) -> bool:
    """Whether the size of a voxel is known of all volumes: only then are they measured in mm."""
    return all(len(spacings.get(case.id, ())) == 3 for case in cases if case.volume)


def score_cases(
    cases: Sequence[Case], predict: Predict, dataset: Dataset, spacings: Mapping[str, tuple[float, ...]], tolerance: float
) -> Measured:
    """Every metric of every case and class, and of every volume of which all slices are among the cases.

    NothingUsable where none can be measured, a warning of classes that are never predicted.
    """
    found, assembly = Measured(), Assembly.of(dataset.cases.values())
    in_mm = know_voxels(cases, spacings)
    with console.progress("eval", len(cases)) as advance:
        for case, (label, probs), truth in with_truth(cases, predict, dataset):
            spacing, table = spacings.get(case.id), None if probs is None else count_reliability(probs, truth)
            found.scores[case.id] = measure(label, truth, dataset.classes, spacing and spacing[-2:], tolerance, table)
            for name in {"", case.volume or ""} if table is not None else ():
                found.reliability[name] = found.reliability.get(name, np.zeros(())) + table
            whole = assembly.add(case, label, truth)
            if whole and case.volume:
                voxel, table = spacing if in_mm else None, found.reliability.pop(case.volume, None)
                found.volumes[case.volume] = measure(whole[0], whole[1], dataset.classes, voxel, tolerance, table)
            found.predicted.update(np.unique(label).tolist())
            advance()
    if assembly.parts:
        console.note(f"{len(assembly.parts)} volumes are measured by slices alone: some of their slices are not among these cases")
    if not any(np.isfinite(values["dice"]) for per_class in found.scores.values() for values in per_class.values()):
        raise NothingUsable(f"in none of {len(cases)} cases a class is shown or predicted: nothing can be measured", "take another split")
    for k, name in enumerate(dataset.classes):
        if k not in found.predicted and k:
            console.warn(f"class {name} is predicted in none of {len(cases)} cases")
    return found


def with_truth(cases: Sequence[Case], predict: Predict, dataset: Dataset) -> Iterator[tuple[Case, Predicted, np.ndarray]]:
    """(case, what is predicted, true label map), a few cases in memory at a time; the one reader of hidden truth."""
    for first in range(0, len(cases), BATCH):
        batch = cases[first : first + BATCH]
        for case, predicted in zip(batch, predict(batch), strict=True):
            truth = read_case_label(case, case.mask or case.truth, len(dataset.classes))
            if predicted.label.shape != truth.shape:
                raise DataError(
                    f"case {case.id}: prediction of {predicted.label.shape[1]} x {predicted.label.shape[0]} pixels, "
                    f"mask of {truth.shape[1]} x {truth.shape[0]}",
                    "predictions must have the size of the image",
                )
            yield case, predicted, truth


def draw_worst(folder: Path, cases: Sequence[Case], scores: Scores, predict: Predict, dataset: Dataset, count: int) -> None:
    """Image, truth and prediction of the cases with the lowest Dice."""
    ranked = sorted(cases, key=lambda case: np.nan_to_num(mean_over_classes(scores[case.id], "dice"), nan=2.0))[:count]
    for rank, (case, (label, _), truth) in enumerate(with_truth(ranked, predict, dataset), start=1):
        path = folder / f"{rank:02d}-{case.id}.png"
        draw_comparison(path, case.id, read_case_image(case), {"truth": truth, "prediction": label}, dataset.classes)


def shown(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The plain values for people, who have just typed the options; curves are for the report."""
    return {name: value for name, value in result.items() if name not in ("options", "made_from", "reliability")}


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """Each metric with its interval; the differences to an earlier evaluation; volumes; classes; cost: what there is of them."""
    earlier, volumes, cost = (result.get(name) for name in ("against", "volumes", "cost"))
    return [
        tabulate_means(f"{result['cases']} cases of {result['split']}; distances in {result['distance_unit']}", result["mean"]),
        *([tabulate_differences(earlier)] if earlier else []),
        *(
            [tabulate_means(f"volumes as a whole: {volumes['volumes']}; distances in {volumes['distance_unit']}", volumes["mean"])]
            if volumes
            else []
        ),
        *([tabulate_classes(result)] if len(result["classes"]) > 1 else []),
        *([tabulate_cost(cost)] if cost else []),
    ]


def tabulate_means(title: str, means: Mapping[str, Any]) -> console.Table:
    """A row per metric that was measured, with how often the class was missed, or found where it is not, beside those of surfaces."""
    rows = [
        [metric, *format_summary(metric, values), str(values["n"]), *(str(values.get(name, "")) for name in ("missed", "false_alarms"))]
        for metric, values in means.items()
        if values["n"] or metric in FIRST
    ]
    return console.Table(title, ["metric", "mean", "95 % interval", "n", "missed", "false alarms"], rows)


def tabulate_differences(earlier: Mapping[str, Any]) -> console.Table:
    """A row per metric that both have measured."""
    rows = [
        [
            metric,
            *format_summary(metric, found, sign="+"),
            *(format_p(found[p]) for p in ("wilcoxon_p", "permutation_p", "holm_p")),
            str(found["n"]),
        ]
        for metric, found in earlier.items()
        if metric in METRICS and found["n"]
    ]
    title = f"paired difference to {Path(earlier['eval']).name}; p of two tests, and the larger one by Holm's method"
    return console.Table(title, ["metric", "mean", "95 % interval", "Wilcoxon", "permutation", "p", "n"], rows)


def tabulate_classes(result: Mapping[str, Any]) -> console.Table:
    """A row per class: how often it was missed, or found where it is not; mean and interval of each metric, Dice and hd95 first."""
    metrics = [m for m in dict.fromkeys(("dice", "hd95", *METRICS)) if result["mean"][m]["n"] or m in FIRST]
    rows = [
        [
            name,
            " ".join(format_summary("dice", values["dice"])),
            " + ".join(str(values["hd95"][outcome]) for outcome in ("missed", "false_alarms")),
            *(" ".join(format_summary(m, values[m])) for m in metrics[1:]),
        ]
        for name, values in result["classes"].items()
    ]
    return console.Table("by class", ["class", "dice", "missed + false", *metrics[1:]], rows)


def tabulate_cost(cost: Mapping[str, Mapping[str, Any]]) -> console.Table:
    rows = [[name, f"{c['parameters'] / 1e6:.1f} M", f"{c['gflops']:.1f}", f"{c['ms_per_image']:.0f}"] for name, c in cost.items()]
    return console.Table("cost of an image", ["network", "parameters", "GFLOPs", "ms"], rows)
