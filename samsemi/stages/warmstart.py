"""``samsemi warmstart``: a U-Net++ from the labeled cases."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from samsemi import console
from samsemi.collectives import from_first, held_by_first
from samsemi.data.dataset import Case, Dataset, read_dataset
from samsemi.data.learnable import need_objects
from samsemi.devices import choose_device
from samsemi.errors import CheckpointError
from samsemi.inputs import hash_file
from samsemi.inspection.cards import write_run_card
from samsemi.losses import segmentation_loss
from samsemi.mining.folds import OUT_OF_FOLD, deal_folds, fold_folders, write_fold_maps
from samsemi.options.shared import parse_channels
from samsemi.options.warmstart import WarmstartOptions
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.pretrained import load_encoder
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, new_segmenter
from samsemi.training.batches import Sample, Stream, labeled_sample
from samsemi.training.kept import KeptSamples
from samsemi.training.loop import fit, segmentation_goal, start_training, summarize_run
from samsemi.training.runs import open_run, run_folder


def warmstart(options: WarmstartOptions) -> dict[str, object]:
    """Train on the labeled cases; with folds, write out-of-fold maps of the labeled cases."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    labeled, val = need_objects(dataset, "labeled"), need_objects(dataset, "val")
    folds = deal_folds(labeled, options.folds, options.seed) if options.folds else []
    with held_by_first(run_folder(options.out, options)) as out:
        build_segmenter(options, dataset)  # an encoder that cannot be is refused before anything is written
        train_supervised(labeled, val, dataset, options, out, device)
        for fold, folder in zip(folds, fold_folders(out, len(folds)), strict=True):
            console.note(f"{folder.name.replace('-', ' ')} of {len(folds)}")
            left_out = {case.id for case in fold}
            rest = [case for case in labeled if case.id not in left_out]
            train_supervised(rest, val, dataset, options, folder, device)
        if folds:
            from_first(lambda: predict_out_of_fold(out, folds, device))
        from_first(lambda: write_run_card(out))
    summary = summarize_run(options.out, fold_folders(options.out, len(folds)))
    return {**summary, "labeled": len(labeled), "val": len(val), "folds": len(folds)}


def predict_out_of_fold(out: Path, folds: Sequence[Sequence[Case]], device: torch.device) -> None:
    """Write the maps of the labeled cases by the models that have not seen them, unless they are there."""
    if not (out / OUT_OF_FOLD).exists():
        models = [load_model(folder).to(device) for folder in fold_folders(out, len(folds))]
        write_fold_maps(out / OUT_OF_FOLD, folds, models)


def supervised_step(model: Segmenter, batch: Sample, progress: float) -> dict[str, torch.Tensor]:
    """The loss of a batch of labeled samples."""
    return {"supervised": segmentation_loss(model(batch.image), batch.target, batch.weight)}


def train_supervised(
    labeled: Sequence[Case], val: Sequence[Case], dataset: Dataset, options: WarmstartOptions, folder: Path, device: torch.device
) -> None:
    """One supervised training into a run folder."""
    made_from = {**dataset.made_from(), "labeled": len(labeled), "encoder_weights": name_encoder(options)}
    run = from_first(lambda: open_run(options, made_from, folder))
    if run.finished:
        return
    segmenter = build_segmenter(options, dataset).to(device)
    state = start_training(segmenter, options, run, compiled=options.compile)
    load = KeptSamples(partial(labeled_sample, num_classes=len(dataset.classes), size=options.size))
    streams = [Stream(labeled, load, options.batch_size)]
    fit(state, supervised_step, streams, options, run, segmentation_goal(val, options, run, made_from))
    from_first(run.finish)


def name_encoder(options: WarmstartOptions) -> str:
    """What the encoder starts from: 'none', 'imagenet', or the hash of a file, wherever it lies."""
    weights = options.encoder_weights
    return weights if weights in ("none", "imagenet") else hash_file(Path(weights))


def build_segmenter(options: WarmstartOptions, dataset: Dataset) -> Segmenter:
    """A new network whose encoder starts at random, from ImageNet (a download), or from a file."""
    spec = ModelSpec(options.encoder, parse_channels(options.decoder_channels), dataset.classes, options.size)
    if options.encoder_weights == "imagenet":
        return new_segmenter(spec, options.seed, "imagenet")
    segmenter = new_segmenter(spec, options.seed)
    if options.encoder_weights != "none":
        if not Path(options.encoder_weights).is_file():
            raise CheckpointError(
                f"--encoder-weights {options.encoder_weights}: no such file",
                "give none, imagenet, or a file of weights (.safetensors, .pth)",
            )
        load_encoder(segmenter.network.get_submodule("encoder"), Path(options.encoder_weights), spec.encoder)
    return segmenter
