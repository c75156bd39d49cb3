"""``samsemi finetune``: the warm-started model learns on, from labeled cases and mined pseudo-labels."""

from functools import partial

import torch

from samsemi import console
from samsemi.batches import Stream, labeled_sample
from samsemi.checkpoints import load_model_for
from samsemi.dataset import Case, Dataset, need_cases, read_dataset
from samsemi.devices import choose_device
from samsemi.errors import CheckpointError, NothingUsable, UsageError
from samsemi.losses import segmentation_loss
from samsemi.mining import choose_policy, describe, mine_cases, open_store, open_writer
from samsemi.models import Segmenter
from samsemi.options import FinetuneOptions, MineOptions
from samsemi.pseudolabels import Policy, pseudo_sample, usable_ids
from samsemi.runs import Run, open_run
from samsemi.sam import BACKENDS, load_sam
from samsemi.store import Store
from samsemi.tensors import hash_tensors
from samsemi.training import TrainingState, fit, ramp_up, segmentation_goal, start_training, summarize_run


def finetune(options: FinetuneOptions) -> dict[str, object]:
    """Train on; with a store, every batch is half labeled, half pseudo-labeled."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    labeled, val = need_cases(dataset, "labeled"), need_cases(dataset, "val")
    store = open_store(options.store, dataset) if options.store else None
    segmenter = load_model_for(dataset, options.model)
    made_from = {"dataset": dataset.fingerprint(), "model": hash_tensors(segmenter.state_dict()), "labeled": len(labeled)}
    if store:
        made_from |= {"pseudo_labeled": len(choose_cases(store, dataset, options)), "store": dict(store.provenance.made_from)}
    run = open_run(options, made_from)
    state = start_training(segmenter.to(device), options, run)
    goal = segmentation_goal(val, options, run, made_from)
    every = options.iterations if options.schedule == "once" else options.remine_every or max(1, options.iterations // 4)
    for start in range(0, options.iterations, every):
        stop = min(start + every, options.iterations)
        if state.iteration >= stop:
            continue
        if start:
            store = remine(state, start, store, dataset, options, run, device)
        streams = make_streams(labeled, store, dataset, segmenter, options)
        fit(state, make_step(segmenter, streams, options), streams, options, run, goal, until=stop)
    return {**summarize_run(run), **{name: value for name, value in made_from.items() if name in ("labeled", "pseudo_labeled")}}


def choose_cases(store: Store, dataset: Dataset, options: FinetuneOptions) -> list[Case]:
    """The unlabeled cases with an accepted pseudo-label; NothingUsable where there are none."""
    cases = [dataset.cases[name] for name in usable_ids(store, store_policy(store, options))]
    if not cases:
        raise NothingUsable(
            f"{store.path}: no pseudo-label is accepted",
            "lower --min-confidence, --min-predicted-iou, --min-stability or --min-agreement",
        )
    return cases


def store_policy(store: Store, options: FinetuneOptions) -> Policy:
    return choose_policy(options, Policy(**store.provenance.policy))


def make_streams(
    labeled: list[Case], store: Store | None, dataset: Dataset, segmenter: Segmenter, options: FinetuneOptions
) -> list[Stream]:
    """Labeled cases alone, or half of each batch from them and half from the store."""
    shape = {"num_classes": len(dataset.classes), "size": segmenter.spec.size}
    load_labeled = partial(labeled_sample, **shape)
    if store is None:
        return [Stream(labeled, load_labeled, options.batch_size)]
    load_pseudo = partial(pseudo_sample, store=store, policy=store_policy(store, options), **shape)
    half = max(1, options.batch_size // 2)
    return [
        Stream(labeled, load_labeled, half),
        Stream(choose_cases(store, dataset, options), load_pseudo, max(1, options.batch_size - half)),
    ]


def make_step(segmenter: Segmenter, streams: list[Stream], options: FinetuneOptions):
    """The loss terms of a batch: supervised on its labeled part; the same, ramped up, on its pseudo-labeled part."""
    count = streams[0].per_batch

    def step(batch: list[torch.Tensor], progress: float) -> dict[str, torch.Tensor]:
        images, targets, weights = batch
        logits = segmenter(images)
        terms = {"supervised": segmentation_loss(logits[:count], targets[:count], weights[:count])}
        if len(streams) > 1:
            trust = options.pseudo_weight * ramp_up(progress, options.ramp_up)
            terms["pseudo"] = trust * segmentation_loss(logits[count:], targets[count:], weights[count:])
        return terms

    return step


def remine(
    state: TrainingState, iteration: int, store: Store, dataset: Dataset, options: FinetuneOptions, run: Run, device: torch.device
) -> Store:
    """Mine again with the averaged model at an iteration, as the first store was mined; SAM's embeddings come from the cache."""
    path = run.folder / "stores" / f"{iteration:06d}.h5"
    if state.iteration > iteration and path.exists():
        return Store(path)
    made_from = store.provenance.made_from
    mining = MineOptions(
        **store.provenance.config,
        **store.provenance.policy,
        dataset=options.dataset,
        model=run.folder,
        out=path,
        resume=True,
        sam_checkpoint=options.sam_checkpoint,
        embeddings=options.embeddings or run.folder / "embeddings.h5",
    )
    if mining.sam not in BACKENDS and mining.sam != options.sam:
        raise UsageError(f"{options.store} was mined by {mining.sam}, code of your own", f"give --sam {mining.sam} if it may run")
    sam = load_sam(mining.sam, mining.sam_checkpoint, device, mining.precision)
    if sam.identity != made_from["sam_weights"]:
        raise CheckpointError(
            f"{options.store} was mined by a {made_from['sam']} with other weights", "give its weights as --sam-checkpoint"
        )
    console.note(f"mining again at iteration {iteration}")
    provenance = describe(mining, sam, dataset.fingerprint(), hash_tensors(state.averaged.state_dict()))
    writer = open_writer(path, mining, sam, provenance)
    if not writer.is_finished():
        mine_cases(dataset.split("unlabeled"), state.averaged, sam, mining, writer)
    return Store(path)
