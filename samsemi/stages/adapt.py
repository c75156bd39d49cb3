"""``samsemi adapt``: a SAM fitted to the labeled cases, or only measured."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from samsemi import console
from samsemi.adaptation import KINDS, choose_learned, prompted_losses
from samsemi.batches import AUGMENT, Stream
from samsemi.checkpoints import load_model_for
from samsemi.dataset import Case, Dataset, need_cases, read_case_label, read_dataset
from samsemi.devices import choose_device, choose_precision
from samsemi.embeddings import EmbeddingCache
from samsemi.errors import RefusedError, UsageError
from samsemi.folds import OUT_OF_FOLD, FoldMaps
from samsemi.images import read_image
from samsemi.models import Segmenter
from samsemi.options import AdaptOptions
from samsemi.outputs import refuse_file
from samsemi.pictures import draw_comparison
from samsemi.prompt_samples import VIEWS, WRONG, PromptedSample, PromptSampler, mirror, scene_of_case, scene_of_drawing
from samsemi.prompted import JUDGED_BY, label_by_boxes, mean_score, measure_prompted
from samsemi.runs import MADE_FROM, STATE, History, Run, open_run
from samsemi.sam import SamBackend, find_function, load_sam
from samsemi.sam.lora import fold_lora
from samsemi.sam.original import ARCHITECTURES, OriginalSam, untrained
from samsemi.tensors import CARD, hash_file, load_metadata, load_tensors, save_tensors
from samsemi.training import Goal, fit, keep_model, start_training

STREAM_LENGTH = 1_000_000
"""Scenes of a stream before they come again, in another order."""


def adapt(options: AdaptOptions) -> dict[str, object]:
    """Train a SAM and keep it, as a rule where it is best on val; with ``--evaluate`` measure it on a split."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    torch.manual_seed(options.seed)
    segmenter = load_model_for(dataset, options.model).to(device) if options.model else None
    sam = load_start(options, device)
    return measure(options, dataset, sam, segmenter) if options.evaluate else train_sam(options, dataset, sam, segmenter)


def load_start(options: AdaptOptions, device: torch.device) -> SamBackend:
    """The SAM to train or to measure; with random weights where asked for."""
    if options.from_scratch:
        return untrained(options.sam, device, options.precision)
    return load_sam(options.sam, options.sam_checkpoint, device, options.precision)


def measure(options: AdaptOptions, dataset: Dataset, sam: SamBackend, segmenter: Segmenter | None) -> dict[str, object]:
    """How well a SAM answers prompts on a split."""
    cases = need_cases(dataset, options.split)
    with console.progress("measure", len(cases)) as advance:
        scores = measure_prompted(sam, cases, dataset.classes, segmenter=segmenter, advance=advance)
    return {"sam": sam.name, "split": options.split, **scores}


def train_sam(options: AdaptOptions, dataset: Dataset, sam: SamBackend, segmenter: Segmenter | None) -> dict[str, object]:
    """Train ``sam`` into ``options.out``; its run folder stands beside it, with the suffix .run."""
    if not isinstance(sam, OriginalSam):
        raise UsageError(f"--sam {sam.name} cannot be trained", f"take one of {', '.join(ARCHITECTURES)}, or only --evaluate")
    refuse_out(options)
    val = need_cases(dataset, "val")
    fold_maps = FoldMaps(options.model / OUT_OF_FOLD) if options.model else None
    made_from = {"dataset": dataset.fingerprint(), "sam": sam.name, "sam_weights": sam.identity, "stream": options.stream}
    made_from["out_of_fold"] = hash_file(fold_maps.path) if fold_maps else None
    made_from["precision"] = choose_precision(sam.device, options.precision)
    stream = choose_stream(options, dataset, fold_maps)
    run = open_run(options, made_from, options.out.with_suffix(".run"))
    cache = None if options.all or options.lora or options.stream else fill_cache(run, sam, stream.cases, val, options)
    before = [label_by_boxes(sam, case, dataset) for case in val[: options.overlays]]
    choose_learned(sam.sam, options.all, options.lora)
    augment = None if options.stream else AUGMENT
    sampler = PromptSampler(sam.preprocessing, sam.side, sam.mask_size, len(kinds_of(sam)), WRONG, augment, cache)
    state = start_training(sam.sam, options, run, options.optimizer)
    goal = prompted_goal(sam, val, dataset, segmenter, cache, made_from, options)
    if not run.resumed:
        scores = goal.score(state.averaged)
        History(run.folder / "history.csv", -1).add(iteration=0, **scores)
        keep_model(state, goal, scores, options.keep)
    if cache:
        options = replace(options, workers=0)  # an open HDF5 file is not shared by processes
    fit(state, make_step(sam, options, cache is None), [replace(stream, augment=sampler)], options, run, goal)
    if cache:
        cache.close()
    if before:
        fold_lora(state.averaged)
        state.averaged.load_state_dict(load_tensors(options.out))
        draw_answers(run.folder / "overlays", val, dataset, before, sam.with_weights_of(state.averaged))
    return summarize(options, run)


def draw_answers(folder: Path, cases: Sequence[Case], dataset: Dataset, before: Sequence[np.ndarray], sam: SamBackend) -> None:
    """ID.png: the image, the truth, and the answers to jittered boxes before and now, of as many cases as there are answers before."""
    for case, answered in zip(cases, before, strict=False):
        truth = read_case_label(case, case.mask, len(dataset.classes))
        labels = {"truth": truth, "before": answered, "after": label_by_boxes(sam, case, dataset)}
        draw_comparison(folder, case.id, read_image(case.image), labels)


def refuse_out(options: AdaptOptions) -> None:
    """RefusedError where ``--out`` exists and may not, or should not, be written to."""
    out, run = options.out, options.out.with_suffix(".run")
    refuse_file(out.parent)
    if not out.exists():
        if options.resume and (run / STATE).exists():
            raise RefusedError(f"{run} is there, but not its {out}", "start anew with --overwrite")
        return
    if not (options.resume or options.overwrite):
        raise RefusedError(f"{out} exists", "give another --out, or --overwrite")
    if out.is_dir() or CARD not in load_metadata(out):
        raise RefusedError(f"{out} was not made by this command", "give another --out, or remove it yourself")
    if options.resume and not (run / MADE_FROM).exists():
        raise RefusedError(f"{out} is there, but not its {run} to go on from", "start anew with --overwrite, or give another --out")
    if options.sam_checkpoint and options.sam_checkpoint.resolve() == out.resolve():
        raise RefusedError(f"{out} is the --sam-checkpoint, which this command reads", "give another --out")


def kinds_of(sam: OriginalSam) -> Sequence[str]:
    """The kinds of prompt that it is trained with."""
    return (sam.prompt_kinds,) if sam.prompt_kinds else KINDS


def choose_stream(options: AdaptOptions, dataset: Dataset, fold_maps: FoldMaps | None) -> Stream:
    """What the samples are made of: labeled cases, or the numbers of drawn scenes."""
    if options.stream:
        draw = find_function(options.stream, f"--stream {options.stream}")
        return Stream(range(STREAM_LENGTH), partial(scene_of_drawing, draw), options.batch_size)
    labeled = need_cases(dataset, "labeled")
    if fold_maps:
        fold_maps.need([case.id for case in labeled])
    return Stream(labeled, partial(scene_of_case, num_classes=len(dataset.classes), fold_maps=fold_maps), options.batch_size)


def fill_cache(run: Run, sam: OriginalSam, labeled: Sequence[Case], val: Sequence[Case], options: AdaptOptions) -> EmbeddingCache:
    """With a frozen encoder each image is encoded once: the labeled ones in all mirrored views, those of val as they are."""
    cache = EmbeddingCache(run.folder / "embeddings.h5", sam, choose_precision(sam.device, options.precision))
    with console.progress("encode", len(labeled) + len(val)) as advance:
        for case in labeled:
            image = read_image(case.image)
            for view in VIEWS:
                cache.encode([mirror(image, view)])
            advance()
        for case in val:
            cache.encode([read_image(case.image)])
            advance()
    return cache


def make_step(sam: OriginalSam, options: AdaptOptions, encode: bool) -> Callable:
    """The loss terms of a batch, of images to encode or of embeddings. A SAM that takes one kind of prompt alone gets no clicks."""
    clicks = 0 if sam.prompt_kinds else options.clicks

    def step(batch: PromptedSample, progress: float) -> dict[str, Tensor]:
        features = sam.sam.image_encoder(batch.image).float() if encode else batch.image
        return prompted_losses(sam.sam, features, batch, kinds_of(sam), sam.multimask, clicks)

    return step


def prompted_goal(
    sam: OriginalSam,
    val: Sequence[Case],
    dataset: Dataset,
    segmenter: Segmenter | None,
    cache: EmbeddingCache | None,
    made_from: Mapping[str, object],
    options: AdaptOptions,
) -> Goal:
    """Mean prompted IoU on val; the weights that are kept are written to ``options.out``, in half precision, with a card in the header."""

    def score(network: Sam) -> dict[str, float]:
        measured = measure_prompted(
            sam.with_weights_of(network), val, dataset.classes, segmenter=segmenter, encode=cache.encode if cache else None
        )
        return {"val_iou": mean_score(measured), **{f"val_{name}": measured[name] for name in JUDGED_BY if name in measured}}

    def keep(network: Sam, scores: Mapping[str, object]) -> None:
        network = copy.deepcopy(network)
        fold_lora(network)
        card = {"sam": sam.name, "made_from": made_from, "scores": scores}
        weights = {name: value.half() for name, value in network.state_dict().items()}
        save_tensors(options.out, weights, {CARD: json.dumps(card)})

    return Goal("val_iou", score, keep)


def summarize(options: AdaptOptions, run: Run) -> dict[str, object]:
    """Prompted IoU on val before and after."""
    rows = History(run.folder / "history.csv").rows
    kept = rows[-1] if options.keep == "last" else max(rows, key=lambda row: float(row["val_iou"]))
    before, after = ({name.removeprefix("val_"): float(v) for name, v in row.items() if name.startswith("val_")} for row in (rows[0], kept))
    return {
        "sam": str(options.out),
        "run": str(run.folder),
        "before": before,
        "after": after,
        **({"overlays": str(run.folder / "overlays")} if options.overlays else {}),
        "iteration": int(kept["iteration"]),
        "iterations": int(rows[-1]["iteration"]),
        "seconds": float(rows[-1]["seconds"] or 0),
    }
