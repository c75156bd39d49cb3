"""``samsemi finetune``: the warm-started model learns on, from labeled cases and mined pseudo-labels."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from samsemi import console
from samsemi.data.dataset import Case, Dataset, need_cases, read_dataset
from samsemi.devices import choose_device
from samsemi.errors import CheckpointError, UsageError
from samsemi.knowsam.cotraining import KnowSam
from samsemi.knowsam.teacher import load_teacher, read_teacher_card
from samsemi.losses import distillation_loss, segmentation_loss
from samsemi.mining.calibration import finish_store
from samsemi.mining.drift import measure_drift, warn_of_drift
from samsemi.mining.miner import Miner, describe, mine_cases, open_store, open_writer, store_policy, usable_cases
from samsemi.mining.pseudolabels import unlabeled_loader
from samsemi.mining.store import Store
from samsemi.options.finetune import FinetuneOptions
from samsemi.options.mine import MineOptions
from samsemi.sam.protocol import BACKENDS, load_sam
from samsemi.segmenters.checkpoints import load_model, load_model_for, read_model_card
from samsemi.segmenters.segmenter import Segmenter, new_segmenter
from samsemi.tensors import hash_tensors
from samsemi.training.batches import Sample, Stream, augment, augment_strongly, cut_mix, labeled_sample, recolor
from samsemi.training.loop import fit, ramp_up, segmentation_goal, start_training, summarize_run
from samsemi.training.runs import History, Run, open_run


@dataclass(frozen=True)
class Distilled:
    """What `samsemi distill` has made, as a teacher."""

    network: KnowSam
    temperature: float


class TaughtSample(NamedTuple):
    """A Sample, and what a teacher says of its image."""

    image: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    said: torch.Tensor
    """(B, K, S, S) logits."""


@dataclass(frozen=True)
class Setting:
    """What all rounds of a fine-tuning share."""

    dataset: Dataset
    labeled: list[Case]
    val: list[Case]
    options: FinetuneOptions
    device: torch.device
    run: Run
    teacher: Distilled | None


def finetune(options: FinetuneOptions) -> dict[str, object]:
    """Train on; with a store, a share of every batch is pseudo-labeled. Rounds before the last are runs of their own."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    labeled, val = need_cases(dataset, "labeled"), need_cases(dataset, "val")
    store = open_store(options.store, dataset) if options.store else None
    segmenter = load_model_for(dataset, options.model)
    made_from = {"dataset": dataset.fingerprint(), "model": hash_tensors(segmenter.state_dict()), "labeled": len(labeled)}
    if store:
        made_from |= {
            "pseudo_labeled": len(usable_cases(store, dataset, store_policy(store, options))),
            "store": dict(store.provenance.made_from),
        }
    teacher = load_distilled(options, dataset, device) if options.distill else None
    made_from |= {"teacher": hash_tensors(teacher.network.teacher.learned() | teacher.network.segmenter.state_dict())} if teacher else {}
    run = open_run(options, made_from)
    setting = Setting(dataset, labeled, val, options, device, run, teacher)
    share = options.iterations // options.rounds
    for number in range(1, options.rounds):
        folder = run.folder / "rounds" / str(number)
        of_round = replace(options, iterations=share, rounds=1, out=folder)
        train_round(setting, of_round, open_run(of_round, made_from, folder), begin(segmenter, options), store, made_from)
        store = remine(setting, load_model(folder), number * share, store)
    last = replace(options, iterations=options.iterations - (options.rounds - 1) * share, rounds=1)
    train_round(setting, last, run, begin(segmenter, options), store, made_from)
    warn_of_worse_round(run, options.rounds)
    rounds = [run.folder / "rounds" / str(number) for number in range(1, options.rounds)]
    return {**summarize_run(run, rounds), **{name: value for name, value in made_from.items() if name in ("labeled", "pseudo_labeled")}}


def load_distilled(options: FinetuneOptions, dataset: Dataset, device: torch.device) -> Distilled:
    """The SAM of a distilled run, with the peers that ask it."""
    card = read_teacher_card(options.distill)
    if card["sam"] not in BACKENDS:
        raise CheckpointError(f"{options.distill} was distilled from {card['sam']}, which is no SAM of samsemi", "distill from another")
    try:
        sam = load_sam(card["sam"], options.teacher_checkpoint, device, options.precision)
    except CheckpointError as error:
        hint = f"give the weights of the {card['sam']} that --distill was made with as --teacher-checkpoint"
        raise CheckpointError(f"--distill {options.distill}: {error.message}", hint) from None
    network = KnowSam(load_model_for(dataset, options.distill), load_teacher(options.distill, sam, len(dataset.classes)))
    return Distilled(network.to(device).eval().requires_grad_(False), card["temperature"])


def begin(segmenter: Segmenter, options: FinetuneOptions) -> Segmenter:
    """A network to train: a copy of the given one, or, from scratch, one like it."""
    return new_segmenter(segmenter.spec, options.seed) if options.from_scratch else copy.deepcopy(segmenter)


def train_round(
    setting: Setting, options: FinetuneOptions, run: Run, segmenter: Segmenter, store: Store | None, made_from: dict[str, object]
) -> None:
    """Train a model to the end; ``continuous``, with a new store every now and then."""
    state = start_training(segmenter.to(setting.device), options, run)
    goal = segmentation_goal(setting.val, options, run, made_from)
    every = options.iterations if options.schedule == "once" else options.remine_every or max(1, options.iterations // 4)
    for start in range(0, options.iterations, every):
        stop = min(start + every, options.iterations)
        if state.iteration >= stop:
            continue
        if start:
            store = remine(setting, state.averaged, start, store, finished=state.iteration > start)
        streams = make_streams(setting, segmenter, store)
        fit(state, make_step(segmenter, streams, options, setting.teacher), streams, options, run, goal, until=stop)


def make_streams(setting: Setting, segmenter: Segmenter, store: Store | None) -> list[Stream]:
    """Labeled cases alone; or a share of each batch with pseudo-labels, or, where a teacher says something of each image, from all
    unlabeled cases, which then are recolored after it has answered."""
    options = setting.options
    shape = {"num_classes": len(setting.dataset.classes), "size": segmenter.spec.size}
    load_labeled = partial(labeled_sample, **shape)
    if store is None and setting.teacher is None:
        return [Stream(setting.labeled, load_labeled, options.batch_size)]
    policy = store_policy(store, options) if store else None
    usable = usable_cases(store, setting.dataset, policy) if store else []
    cases = need_cases(setting.dataset, "unlabeled") if setting.teacher else usable
    load = unlabeled_loader(store, policy, {case.id for case in usable}, **shape)
    count = max(1, min(round(options.pseudo_share * options.batch_size), options.batch_size - 1))
    change = augment_strongly if options.strong and setting.teacher is None else augment
    return [
        Stream(setting.labeled, load_labeled, max(1, options.batch_size - count)),
        Stream(cases, load, count, augment=change),
    ]


def make_step(segmenter: Segmenter, streams: list[Stream], options: FinetuneOptions, teacher: Distilled | None) -> Callable:
    """The loss terms of a batch: supervised on its labeled part; the same, ramped up, on its pseudo-labeled part; a teacher's on both.

    A teacher answers to images that are neither recolored nor cut yet; what it says is cut with them.
    """
    count = streams[0].per_batch

    def step(batch: Sample, progress: float) -> dict[str, torch.Tensor]:
        labeled, pseudo = Sample(*(part[:count] for part in batch)), Sample(*(part[count:] for part in batch))
        if teacher:
            with torch.no_grad():
                said = teacher.network(batch.image)
            pseudo = TaughtSample(recolor(pseudo.image) if options.strong else pseudo.image, *pseudo[1:], said[count:])
        if options.strong:
            pseudo = cut_mix(pseudo)
        logits = segmenter(torch.cat([labeled.image, pseudo.image]))
        terms = {"supervised": segmentation_loss(logits[:count], labeled.target, labeled.weight)}
        if options.store:
            growing = options.pseudo_weight * ramp_up(progress, options.ramp_up)
            terms["pseudo"] = growing * segmentation_loss(logits[count:], pseudo.target, pseudo.weight)
        if teacher:
            said = torch.cat([said[:count], pseudo.said])
            terms["distillation"] = options.distill_weight * distillation_loss(logits, said, teacher.temperature)
        return terms

    return step


def remine(setting: Setting, segmenter: Segmenter, iteration: int, store: Store, finished: bool = False) -> Store:
    """Mine again with another model, as the first store was mined; SAM's embeddings come from the cache. Drift is noted and warned of.

    ``finished``: training has gone on from this store already, before it was interrupted.
    """
    options, dataset, run = setting.options, setting.dataset, setting.run
    path = run.folder / "stores" / f"{iteration:06d}.h5"
    if finished and path.exists():
        return Store(path)
    mining = MineOptions(
        **store.provenance.config,
        dataset=options.dataset,
        model=run.folder,
        out=path,
        resume=True,
        sam_checkpoint=options.sam_checkpoint,
        embeddings=options.embeddings or run.folder / "embeddings.h5",
    )
    if mining.sam not in BACKENDS and mining.sam != options.sam:
        raise UsageError(f"{options.store} was mined by {mining.sam}, code of your own", f"give --sam {mining.sam} if it may run")
    sam = load_sam(mining.sam, mining.sam_checkpoint, setting.device, mining.precision)
    made_from = store.provenance.made_from
    if sam.identity != made_from["sam_weights"]:
        raise CheckpointError(
            f"{options.store} was mined by a {made_from['sam']} with other weights", "give its weights as --sam-checkpoint"
        )
    console.note(f"mining again at iteration {iteration}")
    provenance = describe(mining, sam, dataset.fingerprint(), hash_tensors(segmenter.state_dict()))
    writer = open_writer(path, mining, sam, provenance, len(dataset.classes))
    if not writer.is_finished():
        miner = Miner(segmenter.to(setting.device), sam, mining)
        mine_cases(dataset.split("unlabeled"), miner, writer)
        finish_store(writer, miner, dataset)
        miner.close()
    again = Store(path)
    note_drift(setting, iteration, store, again)
    return again


def note_drift(setting: Setting, iteration: int, before: Store, after: Store) -> None:
    """A row in drift.csv, and a warning where it is much."""
    policies = [store_policy(store, setting.options) for store in (before, after)]
    found = measure_drift(before, policies[0], after, policies[1], len(setting.dataset.classes))
    History(setting.run.folder / "drift.csv", iteration - 1).add(iteration=iteration, **found)
    warn_of_drift(found, f"mined again at iteration {iteration}")


def warn_of_worse_round(run: Run, rounds: int) -> None:
    """Say it where an earlier round is better on val than the last."""
    folders: list[Path] = [*(run.folder / "rounds" / str(number) for number in range(1, rounds)), run.folder]
    scores = [float(read_model_card(folder)["scores"]["val_dice"]) for folder in folders]
    best = max(range(rounds), key=scores.__getitem__)
    if scores[best] > scores[-1]:
        console.warn(
            f"round {rounds} is worse on val than round {best + 1} ({scores[-1]:.3f}, {scores[best]:.3f}), which is {folders[best]}"
        )
