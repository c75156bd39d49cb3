"""``samsemi adapt``: a SAM fitted to the labeled cases, or only measured."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samsemi import clock, console, processes
from samsemi.adaptation.losses import KINDS, PromptedSam, choose_learned
from samsemi.adaptation.probe import probe, spread
from samsemi.adaptation.prompt_samples import NEGATIVE, VIEWS, PromptedSample, PromptSampler, mirror, scene_of_case, scene_of_drawing
from samsemi.adaptation.prompted import JUDGED_BY, label_by_boxes, mean_score, measure_prompted
from samsemi.adaptation.tables import tabulate_measured
from samsemi.collectives import from_first, held_by_first
from samsemi.data.dataset import Case, Dataset, name_images, need_cases, read_case_image, read_case_label, read_dataset
from samsemi.data.learnable import need_objects
from samsemi.devices import choose_device, choose_precision
from samsemi.errors import CheckpointError, RefusedError, UsageError
from samsemi.inputs import hash_file
from samsemi.inspection.cards import write_run_card
from samsemi.mining.folds import OUT_OF_FOLD, FoldMaps
from samsemi.mining.pictures import draw_comparison
from samsemi.options.adapt import AdaptOptions, parse_zoom
from samsemi.options.config import input_paths
from samsemi.options.sams import NETWORKS, find_function
from samsemi.outputs import locked_output, refuse_taken
from samsemi.sam.embeddings import EmbeddingCache
from samsemi.sam.lora import fold_lora
from samsemi.sam.original import read_card, untrained
from samsemi.sam.protocol import SamBackend, SamNetwork, TrainableSam, learned_by, load_sam
from samsemi.segmenters.checkpoints import load_model_for
from samsemi.segmenters.segmenter import Segmenter
from samsemi.tensors import CARD, hash_tensors, load_tensors, save_tensors
from samsemi.training.batches import AUGMENT, Stream
from samsemi.training.loop import Goal, TrainingState, fit, keep_model, seconds_of, start_training
from samsemi.training.runs import FINISHED, KEPT, STATE, History, Run, mark_of, open_run, run_folder

STREAM_LENGTH = 1_000_000
"""Scenes of a stream before they come again, in another order."""
RANDOM_SEEDS = (0, 1, 2)
"""Of the SAMs with random weights that a SAM's embedding is compared with."""


@dataclass(frozen=True)
class Setting:
    """What the parts of a training share."""

    options: AdaptOptions
    out: Path
    """Weights to write; the run folder stands next to them, with the suffix .run."""
    dataset: Dataset
    val: Sequence[Case]
    """The cases that it is scored on."""
    sam: TrainableSam
    segmenter: Segmenter | None
    """Also prompts the SAM on val, where it is given."""


def adapt(options: AdaptOptions) -> dict[str, object]:
    """Train a SAM and keep it; with ``--evaluate`` measure it on a split."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    if options.out is None:
        processes.need_one("--evaluate", "start it without a launcher")
        return evaluate_sam(options, dataset, *load_start(options, dataset, device))
    return train_sam(options, options.out, dataset, device)


def load_start(options: AdaptOptions, dataset: Dataset, device: torch.device) -> tuple[SamBackend, Segmenter | None]:
    """The SAM to train or to measure, with random weights where ``from_scratch``, and the model whose objects prompt it."""
    torch.manual_seed(options.seed)
    segmenter = load_model_for(dataset, options.model).to(device) if options.model else None
    if options.from_scratch:
        return untrained(options.sam, device, options.precision), segmenter
    return load_sam(options.sam, options.sam_checkpoint, device, options.precision), segmenter


def evaluate_sam(options: AdaptOptions, dataset: Dataset, sam: SamBackend, segmenter: Segmenter | None) -> dict[str, object]:
    """How good a SAM's masks of prompts are on a split, and what its embedding knows of the classes."""
    cases = need_cases(dataset, options.split)
    zooms = parse_zoom(options.zoom)
    with console.progress("measure", len(cases)) as advance:
        scores = measure_prompted(sam, cases, dataset.classes, segmenter=segmenter, advance=advance, zooms=zooms)
    return {"sam": sam.name, "split": options.split, **scores, **probe_sam(options, dataset, sam, cases)}


def probe_sam(options: AdaptOptions, dataset: Dataset, sam: SamBackend, cases: Sequence[Case]) -> dict[str, object]:
    """``probe``: AUC of each class by the SAM's embedding, and by those of the same SAM with random weights, where it can be made, the
    mean of RANDOM_SEEDS; ``probe_images``. Nothing where there is no embedding, or no other case to fit it to."""
    if not options.probe or not isinstance(sam, TrainableSam):
        return {}
    if options.split == "labeled" or not dataset.split("labeled"):
        console.note("no probe of the embedding: it is fitted to labeled cases and measured on others")
        return {}
    labeled, measured = spread(need_cases(dataset, "labeled"), options.probe), spread(cases, options.probe)
    seeds = RANDOM_SEEDS if options.sam in NETWORKS else ()
    random = []
    with console.progress("probe", (1 + len(seeds)) * (len(labeled) + len(measured))) as advance:
        own = probe(sam, labeled, measured, dataset.classes, advance)
        for seed in seeds:
            torch.manual_seed(seed)
            random.append(probe(untrained(options.sam, sam.device, options.precision), labeled, measured, dataset.classes, advance))
    for name in [name for name in dataset.classes[1:] if name not in own]:
        console.note(f"no probe of class {name}: no cell of the embedding shows it, or all do, in the labeled or in the measured cases")
    found = {name: {"auc": auc} for name, auc in own.items()}
    if random:
        found = {name: {**aucs, "random_auc": float(np.mean([other[name] for other in random]))} for name, aucs in found.items()}
    return {"probe": found, "probe_images": {"labeled": len(labeled), "measured": len(measured)}}


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """Of what was measured."""
    return tabulate_measured(result) if "split" in result else []


def train_sam(options: AdaptOptions, out: Path, dataset: Dataset, device: torch.device) -> dict[str, object]:
    """Train a SAM into ``out``."""
    val = need_objects(dataset, "val")
    with held_by_first(claimed_run(out, options)) as place:
        sam, segmenter = load_start(options, dataset, device)
        if not isinstance(sam, TrainableSam):
            raise UsageError(f"--sam {sam.name} cannot be trained", f"take one of {', '.join(NETWORKS)}, or only --evaluate")
        setting = Setting(options, out, dataset, every_other_patient(val) if options.keep == "best" else val, sam, segmenter)
        fold_maps = FoldMaps(options.model / OUT_OF_FOLD) if options.model else None
        made_from = describe_inputs(setting, fold_maps)
        stream = choose_stream(options, dataset, fold_maps)
        run = from_first(lambda: open_run(options, made_from, place))
        if not run.finished:
            train_and_draw(setting, stream, made_from, run)
            from_first(lambda: finish(run, out))
        from_first(lambda: write_run_card(place))
    return describe_training(setting, run_of(out))


def run_of(out: Path) -> Path:
    """The run folder of weights."""
    return out.with_suffix(".run")


@contextmanager
def claimed_run(out: Path, options: AdaptOptions) -> Iterator[Path]:
    """The run folder to write into, its lock and that of the weights held; RefusedError where they may not be written."""
    with locked_output(out, options.break_lock):
        refuse_out(out, options)
        with run_folder(run_of(out), options) as place:
            refuse_lost(out, place)
            yield place


def finish(run: Run, out: Path) -> None:
    """The training is whole: the weights that it has kept get their name."""
    if (run.folder / KEPT).exists():
        (run.folder / KEPT).replace(out)
    run.finish()


def every_other_patient(cases: Sequence[Case]) -> list[Case]:
    """The cases of every second patient by name, to choose weights on; `samsemi mine` calibrates on the others, which are no fewer
    patients. Of a single patient all cases."""
    groups = sorted({case.group for case in cases})
    chosen = set(groups[1::2] or groups)
    return [case for case in cases if case.group in chosen]


def describe_inputs(setting: Setting, fold_maps: FoldMaps | None) -> dict[str, object]:
    """What a SAM is made from: kept with its weights, and compared when a run is resumed."""
    dataset, sam, segmenter, options = setting.dataset, setting.sam, setting.segmenter, setting.options
    made_from: dict[str, object] = {
        "dataset": dataset.fingerprint(),
        "sam": sam.name,
        "sam_weights": sam.identity,
        "stream": options.stream,
    }
    made_from["out_of_fold"] = hash_file(fold_maps.path) if fold_maps else None
    made_from |= {"model": hash_tensors(segmenter.state_dict())} if segmenter else {}
    return {**made_from, "precision": choose_precision(sam.device, options.precision)}


def train_and_draw(setting: Setting, stream: Stream, made_from: Mapping[str, object], run: Run) -> None:
    """Train to the end, or on from where the run was interrupted; then draw what has changed."""
    options, sam, val = setting.options, setting.sam, setting.val
    learns_encoder = options.all or options.lora or options.stream
    with nullcontext() if learns_encoder else fill_cache(run, sam, stream.cases, val, options) as cache:
        before = [label_by_boxes(sam, case, setting.dataset) for case in val[: options.overlays]]
        choose_learned(sam.network, options.all, options.lora)
        augment, crops = None if options.stream else AUGMENT, options.crops or 0.0
        sampler = PromptSampler(sam.preprocessing, sam.side, sam.mask_size, len(kinds_of(sam)), NEGATIVE, augment, crops, cache)
        state = start_training(in_training(sam, options), options, run, options.optimizer)
        goal = prompted_goal(setting, cache, made_from, run)
        if not run.resumed:
            from_first(lambda: keep_start(state, goal, run, options))
        if cache:
            options = replace(options, workers=0)  # an open HDF5 file is not shared by processes
        fit(state, step, [replace(stream, augment=sampler)], options, run, goal)
    if before:
        from_first(lambda: draw_before_and_after(run, setting, before, state.averaged.network))


def keep_start(state: TrainingState, goal: Goal, run: Run, options: AdaptOptions) -> None:
    """Score and keep the SAM as it is before its training."""
    scores = goal.score(state.averaged)
    History(run.folder / "history.csv", -1).add(iteration=0, **scores)
    keep_model(state, goal, scores, options.keep)


def draw_before_and_after(run: Run, setting: Setting, before: Sequence[np.ndarray], network: SamNetwork) -> None:
    """overlays/ID.png: the image, the truth, and the masks of jittered boxes by the SAM from before and by the one that was kept, of as
    many cases as there are label maps from before. Loads the weights that were kept into the network."""
    folder, kept = run.folder / "overlays", run.folder / KEPT
    fold_lora(network)
    network.load_state_dict(load_tensors(kept if kept.exists() else setting.out))
    sam, dataset = setting.sam.with_weights_of(network), setting.dataset
    for case, earlier in zip(setting.val, before, strict=False):
        truth = read_case_label(case, case.mask, len(dataset.classes))
        labels = {"truth": truth, "before": earlier, "after": label_by_boxes(sam, case, dataset)}
        draw_comparison(folder / f"{case.id}.png", case.id, read_case_image(case), labels, dataset.classes)


def refuse_out(out: Path, options: AdaptOptions) -> None:
    """RefusedError where ``--out`` exists and may not, or should not, be written to."""
    run = run_of(out)
    refuse_taken(out, "an adapted SAM", is_adapted, options.overwrite or options.resume, input_paths(options))
    if out.exists() and options.resume and not (run / mark_of(run)).exists():
        raise RefusedError(f"{out} is there, but not its {run} to go on from", "start anew with --overwrite, or give another --out")


def is_adapted(path: Path) -> bool:
    """Whether a file has the card of a SAM that was adapted: weights of other commands, such as a teacher's, have another."""
    try:
        return path.is_file() and read_card(path).sam is not None
    except CheckpointError:
        return False


def refuse_lost(out: Path, run: Path) -> None:
    """RefusedError where a run is there, but not the weights that it has kept."""
    if not out.exists() and ((run / FINISHED).exists() or ((run / STATE).exists() and not (run / KEPT).exists())):
        raise RefusedError(f"{run} is there, but not its {out}", "start anew with --overwrite")


def kinds_of(sam: SamBackend) -> Sequence[str]:
    """The kinds of prompt that it is trained with."""
    return (sam.prompt_kinds,) if sam.prompt_kinds else KINDS


def choose_stream(options: AdaptOptions, dataset: Dataset, fold_maps: FoldMaps | None) -> Stream:
    """What the samples are made of: labeled cases, or the numbers of drawn scenes."""
    if options.stream:
        draw = find_function(options.stream, f"--stream {options.stream}")
        return Stream(range(STREAM_LENGTH), partial(scene_of_drawing, draw), options.batch_size)
    labeled = need_objects(dataset, "labeled")
    if fold_maps:
        fold_maps.need([case.id for case in labeled], len(dataset.classes))
    return Stream(labeled, partial(scene_of_case, num_classes=len(dataset.classes), fold_maps=fold_maps), options.batch_size)


@contextmanager
def fill_cache(
    run: Run, sam: TrainableSam, labeled: Sequence[Case], val: Sequence[Case], options: AdaptOptions
) -> Iterator[EmbeddingCache]:
    """With a frozen encoder each image is encoded once: the labeled ones in all mirrored views, those of val as they are."""
    precision = choose_precision(sam.device, options.precision)
    with closing(EmbeddingCache(run.folder / "embeddings.h5", sam, precision, options.break_lock)) as cache:
        with console.progress("encode", len(labeled) + len(val)) as advance:
            for case in labeled:
                image = read_case_image(case)
                for view in VIEWS:
                    cache.encode([mirror(image, view)])
                advance()
            for case in val:
                cache.encode([read_case_image(case)])
                advance()
        yield cache


def in_training(sam: TrainableSam, options: AdaptOptions) -> PromptedSam:
    """The network and its loss. A SAM that takes one kind of prompt alone gets no clicks."""
    clicks = 0 if sam.prompt_kinds else options.clicks
    return PromptedSam(sam.network, sam.side, kinds_of(sam), sam.multimask, clicks)


def step(model: PromptedSam, batch: PromptedSample, progress: float) -> dict[str, Tensor]:
    """The loss terms of a batch, of images to encode or of their embeddings."""
    return model(batch)


def prompted_goal(setting: Setting, cache: EmbeddingCache | None, made_from: Mapping[str, object], run: Run) -> Goal:
    """Mean prompted IoU on val; the weights that are kept are written in half precision, with a card in the header."""
    sam, encode, how = setting.sam, cache.encode if cache else None, setting.options.keep
    chosen_on = [case.id for case in setting.val] if how == "best" else []
    learned = {**learned_by(sam), **({} if setting.options.stream else name_images(setting.dataset.split("labeled")))}

    def score(model: PromptedSam) -> dict[str, float]:
        sam_in_training = sam.with_weights_of(model.network)
        measured: Mapping[str, Any] = measure_prompted(
            sam_in_training, setting.val, setting.dataset.classes, segmenter=setting.segmenter, encode=encode
        )
        return {"val_iou": mean_score(measured), **{f"val_{name}": measured[name] for name in JUDGED_BY if name in measured}}

    def keep(model: PromptedSam, scores: Mapping[str, object]) -> None:
        network = copy.deepcopy(model.network)
        fold_lora(network)
        card = {"sam": sam.name, "made_from": made_from, "scores": scores, "keep": how, "chosen_on": chosen_on, "learned": learned}
        weights = {name: value.half() for name, value in network.state_dict().items()}
        save_tensors(run.folder / KEPT, weights, {CARD: json.dumps(card)})

    return Goal("val_iou", score, keep)


def describe_training(setting: Setting, run: Path) -> dict[str, object]:
    """Paths, prompted IoU on val before and after, steps and seconds."""
    options, rows = setting.options, History(run / "history.csv").rows
    kept = rows[-1] if options.keep == "last" else max(rows, key=lambda row: float(row["val_iou"]))
    before, after = ({name.removeprefix("val_"): float(v) for name, v in row.items() if name.startswith("val_")} for row in (rows[0], kept))
    return {
        "sam": str(setting.out),
        "run": str(run),
        "before": before,
        "after": after,
        **({"overlays": str(run / "overlays")} if options.overlays else {}),
        "iteration": int(kept["iteration"]),
        "iterations": int(rows[-1]["iteration"]),
        "seconds": seconds_of(run) + clock.lap(),
    }
