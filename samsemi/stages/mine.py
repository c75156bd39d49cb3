"""``samsemi mine``: SAM's masks of the unlabeled cases, prompted by the model's masks."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from samsemi import clock, console, processes
from samsemi.data.dataset import Dataset, need_cases, read_dataset
from samsemi.devices import choose_device
from samsemi.errors import CheckpointError, DataError, NothingUsable
from samsemi.folders import Claim, Kind, is_full, need_known, need_replaceable, new_folder
from samsemi.mining.calibration import LEAST_PRECISION
from samsemi.mining.folds import OUT_OF_FOLD, FoldMaps, model_folders
from samsemi.mining.forecast import forecast
from samsemi.mining.miner import store_policy
from samsemi.mining.pictures import draw_mined, overlays_of
from samsemi.mining.pipeline import claimed_store, mine_store
from samsemi.mining.policy import Policy
from samsemi.mining.precision import describe_decision, describe_share, given_thresholds
from samsemi.mining.review import REVIEW, rank_doubts, write_review
from samsemi.mining.store import Store
from samsemi.mining.summary import find_reasons, summarize_classes, summarize_store
from samsemi.options.mine import MineOptions
from samsemi.sam.network import compile_encoder
from samsemi.sam.protocol import SamBackend, load_sam
from samsemi.segmenters.checkpoints import load_model_for

OVERLAYS = Kind("the pictures of a store", (), r"[^/]+\.png")
NEARLY_EMPTY = 0.1
"""Share of the objects of a class below which few are accepted."""


def mine(options: MineOptions) -> dict[str, object]:
    """Mine all unlabeled cases into a store; NothingUsable where no mask is accepted."""
    if options.dry_run:
        processes.need_one("--dry-run", "measure one process, without a launcher")
    if options.engine == "ray":
        processes.need_one("--engine ray", "start it without a launcher: Ray has processes of its own")
    device = choose_device(options.device)
    if options.overlays:
        need_known(overlays_of(options.out), OVERLAYS)
    refuse_review(options)
    dataset = read_dataset(options.dataset)
    cases = need_cases(dataset, "unlabeled")
    with nullcontext() if options.dry_run else claimed_store(options):
        segmenters = [load_model_for(dataset, folder).to(device) for folder in model_folders(options)]
        sam = load_sam(options.sam, options.sam_checkpoint, device, options.precision)
        refuse_other_classes(sam, dataset)
        if options.compile and not options.dry_run:
            compile_encoder(sam, device)
        fold_maps = find_fold_maps(options.model[0], len(segmenters), options.flips) if options.calibrate else None
        if options.dry_run:
            return foresee(forecast(cases, segmenters, sam, dataset, options, fold_maps))
        start = time.monotonic()
        store, work = mine_store(cases, segmenters, sam, dataset, options, fold_maps)
        seconds = time.monotonic() - start
    if store is not None and processes.is_first():
        about = judge_store(store, dataset, options)
    else:
        about = {"part": options.part, "images": work.images}
    speed = {"images_per_second": work.images / max(seconds, 1e-9), "windows": work.windows, "windows_cached": work.cached}
    return {"store": str(options.out), "sam": sam.name, **about, "seconds": clock.lap(), **speed}


def judge_store(store: Store, dataset: Dataset, options: MineOptions) -> dict[str, object]:
    """What a whole store holds, and what of it is accepted, with the pictures that were asked for; NothingUsable where nothing is."""
    policy = store_policy(store, options)
    reasons = find_reasons(store, policy)
    by_class = with_precision(summarize_classes(store, reasons, dataset.classes), store.provenance.calibration)
    result = {**summarize_store(store, reasons), "by_class": by_class}
    if options.overlays:
        result["overlays"] = str(draw_mined(store, dataset, policy, options.overlays))
    if options.review:
        result["review"] = review_cases(store, dataset, policy, options, options.review)
    note_useless(result)
    refuse_useless(result, options, store.provenance.calibration)
    warn_of_classes(by_class)
    note_given(options, store.provenance.calibration)
    return {**result, **describe_calibration(store)}


def foresee(found: dict[str, Any]) -> dict[str, object]:
    """A forecast, with a warning where the disk is too small for the store, twice while it is joined, and the cache."""
    needed = 2 * found["store_mb"] + found["embeddings_mb"]
    if needed > found["free_mb"]:
        console.warn(f"{needed:.0f} MB of disk are needed, {found['free_mb']:.0f} MB are free")
    return found


def refuse_review(options: MineOptions) -> None:
    """RefusedError, before anything is mined, where the folder of the cases to review is full and may not be replaced."""
    if options.review and is_full(options.review) and not options.resume:
        need_replaceable(options.review.resolve(), Claim.of(options.review, REVIEW, options))


def review_cases(store: Store, dataset: Dataset, policy: Policy, options: MineOptions, folder: Path) -> dict[str, object]:
    """Write the cases to review, or keep those that stand there: somebody may have begun to correct them."""
    if options.resume and is_full(folder):
        console.note(f"{folder} is kept as it is")
        return {"folder": str(folder), "cases": 0}
    doubts = rank_doubts(store, policy)[: options.review_cases]
    with new_folder(Claim.of(folder, REVIEW, options)) as out:
        write_review(out, doubts, store, dataset, policy)
    return {"folder": str(folder), "cases": len(doubts)}


def refuse_other_classes(sam: SamBackend, dataset: Dataset) -> None:
    """CheckpointError for a SAM that has learnt other classes than a data set has."""
    classes = getattr(sam, "classes", dataset.classes)
    if classes != dataset.classes:
        raise CheckpointError(
            f"{sam.name} has learnt the classes {', '.join(classes)}, {dataset.folder} has {', '.join(dataset.classes)}",
            "give a run of `samsemi distill` on this data set",
        )


def find_fold_maps(run: Path, models: int, flips: bool) -> FoldMaps | None:
    """The out-of-fold predictions of a run, for the calibration of a single model.

    None where there are several: each labeled case has been learnt by all but one of them, so that the mean of the rest, and how much
    they agree there, is not what it is on cases that no model has seen. None too where the images are predicted otherwise: with
    ``flips``, test-time augmentation, other objects are found, with another confidence, than without.
    """
    path = run / OUT_OF_FOLD
    if not path.exists():
        return None
    if models > 1:
        console.note(f"calibrated on val alone: {path} has predictions of single models")
        return None
    fold_maps = FoldMaps(path)
    if fold_maps.flips != flips:
        console.note(f"calibrated on val alone: {path} was predicted {'with' if fold_maps.flips else 'without'} test-time augmentation")
        return None
    return fold_maps


def note_useless(result: Mapping[str, Any]) -> None:
    """Where nothing is accepted, the table of the classes, which no result will show."""
    if result["objects"] and not result["accepted"]:
        for table in tables(result):
            console.note("\n".join(table.lines(console.TABLE_WIDTH)))


def refuse_useless(result: Mapping[str, Any], options: MineOptions, calibration: Mapping[str, Any]) -> None:
    """DataError where no image can be read, NothingUsable where nothing is found or accepted; ``result`` is the summary of the store."""
    if result["unreadable"] == result["images"]:
        raise DataError(f"{options.dataset}: none of the {result['images']} unlabeled images can be read", "see `samsemi check`")
    if not result["objects"]:
        found_by = " and ".join(map(str, options.model))
        raise NothingUsable(f"{found_by} finds nothing in any of {result['images']} unlabeled images", "train the model longer")
    if not result["accepted"]:
        why = ", ".join(f"{reason} {count}" for reason, count in result["rejected"].items())
        precision = calibration.get("precision", 1.0)
        wanted = options.allow_low_precision or options.min_quality is not None
        low = not wanted and precision < min(LEAST_PRECISION, options.target_precision)
        found = describe_share(precision, calibration.get("precision_interval")) if low else ""
        best = f"the best precision that can be reached is {found}; " if low else ""
        hint = "train the model longer, label more val cases, or lower what was given as --target-precision or --min-..."
        raise NothingUsable(
            f"{options.out}: {best}none of {result['objects']} objects was accepted ({why})",
            f"{hint}; --allow-low-precision --overwrite accepts it all the same" if low else hint,
        )


def note_given(options: MineOptions, calibration: Mapping[str, Any]) -> None:
    """What the estimated precision is of, where other thresholds are given than it was estimated for."""
    if given_thresholds(options) and "precision" in calibration:
        console.note(describe_decision(calibration, options))


def with_precision(by_class: Mapping[str, Mapping[str, int]], calibration: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of classes with the precision, and its interval, that the calibration found in each of several."""
    return {name: {**row, **describe_estimate(calibration.get("by_class", {}).get(name, {}))} for name, row in by_class.items()}


def describe_estimate(calibration: Mapping[str, Any]) -> dict[str, object]:
    """Estimated precision and its interval; empty where there is none, or where nothing is accepted."""
    found = {"calibrated_precision": calibration["precision"]} if "precision" in calibration else {}
    if "precision_interval" in calibration:
        found["calibrated_precision_low"], found["calibrated_precision_high"] = calibration["precision_interval"]
    return found


def warn_of_classes(by_class: Mapping[str, Mapping[str, Any]]) -> None:
    """Warn of classes of which nothing was found, or hardly anything is accepted."""
    for name, found in by_class.items():
        if found["accepted"] < NEARLY_EMPTY * found["objects"] or not found["objects"]:
            console.warn(f"class {name} is nearly empty: {found['accepted']} of {found['objects']} objects accepted")


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """A row per class; none of a part, or of a dry run."""
    if "by_class" not in result:
        return []
    counts = ("objects", "accepted", "rejected", "images")
    columns: tuple[str, ...] = ("class", *counts)
    rows = [[name, *(str(found[column]) for column in counts)] for name, found in result["by_class"].items()]
    if any("calibrated_precision" in found for found in result["by_class"].values()):
        columns = (*columns, "calibrated precision")
        rows = [[*row, show_estimate(found)] for row, found in zip(rows, result["by_class"].values(), strict=True)]
    return [console.Table(f"{result['images']} images; those with an accepted object of the class stand in its row", columns, rows)]


def show_estimate(found: Mapping[str, Any]) -> str:
    """'0.80 [0.60, 0.92]', or '-' where nothing is accepted."""
    if "calibrated_precision" not in found:
        return "-"
    return describe_share(found["calibrated_precision"], (found["calibrated_precision_low"], found["calibrated_precision_high"]))


def describe_calibration(store: Store) -> dict[str, object]:
    """Precision, threshold and number of objects of a calibration, for the closing table."""
    calibration = store.provenance.calibration
    names = {"min_quality": "min_quality", "objects": "calibrated_objects"}
    others = {shown: calibration[name] for name, shown in names.items() if name in calibration}
    return {**describe_estimate(calibration), **others}
