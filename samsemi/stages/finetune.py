"""``samsemi finetune``: the warm-started model is trained on, with labeled cases and mined pseudo-labels."""

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from samsemi import console, processes
from samsemi.collectives import from_first, held_by_first
from samsemi.data.dataset import Case, Dataset, need_cases, read_dataset
from samsemi.data.learnable import need_objects
from samsemi.devices import choose_device
from samsemi.inspection.cards import write_run_card
from samsemi.knowsam.cotraining import KnowSam
from samsemi.knowsam.teacher import load_sam_of_teacher, load_teacher, read_teacher_card
from samsemi.losses import distillation_loss, segmentation_loss
from samsemi.mining.miner import describe_store, open_store, readable_cases, store_policy, usable_cases
from samsemi.mining.online import OnlineLabels, load_case_image, open_labels, refuse_several_models
from samsemi.mining.pipeline import MiningAgain, note_drift, prepare_again, remine, store_path
from samsemi.mining.precision import describe_decision
from samsemi.mining.pseudolabels import unlabeled_loader, usable_ids
from samsemi.mining.store import Store
from samsemi.options.finetune import FinetuneOptions
from samsemi.segmenters.checkpoints import load_model, load_model_for, read_model_card
from samsemi.segmenters.segmenter import Segmenter, new_segmenter
from samsemi.tensors import hash_tensors
from samsemi.training.batches import Sample, Stream, augment, augment_strongly, cut_mix, labeled_sample, recolor
from samsemi.training.kept import KeptSamples
from samsemi.training.loop import Step, TrainingState, fit, ramp_up, segmentation_goal, start_training, summarize_run
from samsemi.training.runs import Run, is_finished, open_run, run_folder

MOST_PSEUDO = 0.5
"""The largest share of a batch that ``--pseudo-share auto`` gives to pseudo-labeled images."""
RECORDED = ("labeled", "pseudo_labeled", "unlabeled", "pseudo_share")
"""Of what a run is made from, what stands in its result as well."""
NO_STORE = "FinetuneOptions refuses to mine again without a store"


@dataclass(frozen=True)
class Distilled:
    """What `samsemi distill` has made, as a teacher."""

    network: KnowSam
    temperature: float
    weights: str
    """SHA-256 of what was trained of it."""


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
    again: MiningAgain | None
    """None where nothing is mined while training."""


def finetune(options: FinetuneOptions) -> dict[str, object]:
    """Train a model on; with a store, a share of every batch is pseudo-labeled. Rounds before the last are runs of their own."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    labeled, val = need_objects(dataset, "labeled"), need_objects(dataset, "val")
    if options.schedule == "online":
        processes.need_one("--schedule online", "give --schedule continuous, or start it without a launcher")
    with held_by_first(run_folder(options.out, options)) as out:
        store = open_store(options.store, dataset) if options.store else None
        segmenter = load_model_for(dataset, options.model)
        teacher = load_distilled(options.distill, options, dataset, device) if options.distill else None
        made_from = describe_inputs(dataset, options, segmenter, store, teacher)
        again = plan_mining(store, dataset, options, out, device) if store and not is_finished(out) else None
        run = from_first(lambda: open_run(options, made_from, out))
        if not run.finished:
            train_rounds(Setting(dataset, labeled, val, options, device, run, teacher, again), segmenter, store, made_from)
        from_first(lambda: write_run_card(out))
    warn_of_worse_round(options.out, options.rounds)
    rounds = [options.out / "rounds" / str(number) for number in range(1, options.rounds)]
    return {**summarize_run(options.out, rounds), **{name: value for name, value in made_from.items() if name in RECORDED}}


def describe_inputs(
    dataset: Dataset, options: FinetuneOptions, segmenter: Segmenter, store: Store | None, teacher: Distilled | None
) -> dict[str, object]:
    """What a run is made from: kept with it, and compared when it is resumed."""
    made_from: dict[str, object] = {
        **dataset.made_from(),
        "model": hash_tensors(segmenter.state_dict()),
        "labeled": len(dataset.split("labeled")),
    }
    if store:
        made_from |= describe_store(store, usable_cases(store, dataset, store_policy(store, options)))
        if options.schedule == "online":  # what the store accepts is not what is learned
            del made_from["pseudo_labeled"]
            made_from["unlabeled"] = len(readable_cases(store, dataset))
        if "precision" in store.provenance.calibration:
            console.note(f"{store.path}: {describe_decision(store.provenance.calibration, options)}")
    if store or teacher:
        made_from["pseudo_share"] = pseudo_share(dataset, options, store)
    return made_from | ({"teacher": teacher.weights} if teacher else {})


def plan_mining(store: Store, dataset: Dataset, options: FinetuneOptions, out: Path, device: torch.device) -> MiningAgain | None:
    """What mining again into a run folder needs, before anything is written; nothing where nothing is mined while training."""
    if options.schedule == "once" and options.rounds == 1:
        return None
    if options.schedule == "online":
        refuse_several_models(store)
    places = (options.sam, options.sam_checkpoint, options.embeddings)
    return prepare_again(store, dataset, out, *places, device, options.break_lock)


def load_distilled(folder: Path, options: FinetuneOptions, dataset: Dataset, device: torch.device) -> Distilled:
    """The SAM of a distilled run, with the peers whose map prompts it."""
    card = read_teacher_card(folder)
    sam = load_sam_of_teacher(folder, options.teacher_checkpoint, "--teacher-checkpoint", device, options.precision)
    peers, teacher = load_model_for(dataset, folder), load_teacher(folder, sam, len(dataset.classes))
    weights = hash_tensors(teacher.learned() | peers.state_dict())
    return Distilled(KnowSam(peers, teacher).to(device).eval().requires_grad_(False), card.temperature, weights)


def begin(segmenter: Segmenter, options: FinetuneOptions) -> Segmenter:
    """A network to train: a copy of the given one, or, from scratch, one like it."""
    return new_segmenter(segmenter.spec, options.seed) if options.from_scratch else copy.deepcopy(segmenter)


def train_rounds(setting: Setting, segmenter: Segmenter, store: Store | None, made_from: dict[str, object]) -> None:
    """Every round but the last in a run of its own, then the last; each learns from what the model of the one before has mined."""
    options, run = setting.options, setting.run
    share = options.iterations // options.rounds
    for number in range(1, options.rounds):
        folder = run.folder / "rounds" / str(number)
        of_round = replace(options, iterations=share, rounds=1, out=folder)
        run_of_round = from_first(partial(open_run, of_round, made_from, folder))
        train_round(setting, of_round, run_of_round, begin(segmenter, options), store, made_from)
        store = mine_again(setting, load_model(folder).to(setting.device), number * share, store)
    last = replace(options, iterations=options.iterations - (options.rounds - 1) * share, rounds=1)
    train_round(setting, last, run, begin(segmenter, options), store, made_from)


def mine_again(setting: Setting, segmenter: Segmenter, iteration: int, before: Store | None) -> Store:
    """A store of another model, or the one before where nothing in the new one is accepted; notes how far it has drifted."""
    assert setting.again and before, NO_STORE
    options, dataset = setting.options, setting.dataset
    store = remine(setting.again, segmenter, iteration)
    share = pseudo_share(dataset, options, store)
    from_first(lambda: note_drift(setting.run.folder, iteration, before, store, options, len(dataset.classes), share))
    if not accepts_anything(store, options):
        console.warn(f"mined again at iteration {iteration}: nothing is accepted; {before.path} is learnt from further on")
        return before
    return store


def accepts_anything(store: Store, options: FinetuneOptions) -> bool:
    return bool(usable_ids(store, store_policy(store, options)))


def train_round(
    setting: Setting, options: FinetuneOptions, run: Run, segmenter: Segmenter, store: Store | None, made_from: dict[str, object]
) -> None:
    """Train a model to the end; ``continuous``, with a new store every now and then; ``online``, with new labels in every step."""
    if run.finished:
        return
    state = start_training(segmenter.to(setting.device), options, run, compiled=options.compile)
    goal = segmentation_goal(setting.val, options, run, made_from)
    with open_online(setting, state, store) as labels:
        for start, stop in cut_pieces(options.iterations, iterations_between(options)):
            if start:
                store = renew_store(setting, state, start, stop, store)
            if state.iteration >= stop:
                continue
            streams = make_streams(setting, segmenter, store, labels)
            fit(state, make_step(streams, options, setting.teacher), streams, options, run, goal, until=stop)
    from_first(run.finish)


def open_online(setting: Setting, state: TrainingState, store: Store | None) -> AbstractContextManager[OnlineLabels | None]:
    """What labels images by the averaged weights of the moment; None where labels come from a store."""
    if setting.options.schedule != "online":
        return nullcontext()
    assert setting.again and store, NO_STORE
    return open_labels(setting.again, state.averaged, store_policy(store, setting.options), state.counts)


def iterations_between(options: FinetuneOptions) -> int:
    """Iterations from one store to the next; all where there is one alone."""
    return options.remine_every or max(1, options.iterations // 4) if options.schedule == "continuous" else options.iterations


def cut_pieces(iterations: int, every: int) -> list[tuple[int, int]]:
    """The first and the past-the-last iteration between minings; a rest of at most half of ``every`` belongs to the piece before it."""
    starts = [start for start in range(0, iterations, every) if not start or 2 * (iterations - start) > every]
    return list(zip(starts, [*starts[1:], iterations], strict=True))


def renew_store(setting: Setting, state: TrainingState, start: int, stop: int, before: Store | None) -> Store | None:
    """The store for iterations ``start`` to ``stop``: found where the run was interrupted after it was mined, or mined now; the one
    from before where these iterations are done, or nothing in it is accepted."""
    assert setting.again, NO_STORE
    path = store_path(setting.again, start)
    if state.iteration > start and path.exists():
        found = Store(path)
        return found if accepts_anything(found, setting.options) else before
    return mine_again(setting, state.averaged, start, before) if state.iteration < stop else before


def make_streams(setting: Setting, segmenter: Segmenter, store: Store | None, labels: OnlineLabels | None) -> list[Stream]:
    """Labeled cases alone; or, as a share of each batch, also the pseudo-labeled cases, or all unlabeled cases where there is a teacher
    or they are labeled online.

    With a teacher, which sees the weak view, the strong view is made in the training step.
    """
    options, num_classes, size = setting.options, len(setting.dataset.classes), segmenter.spec.size
    load_labeled = KeptSamples(partial(labeled_sample, num_classes=num_classes, size=size))
    if store is None and setting.teacher is None:
        return [Stream(setting.labeled, load_labeled, options.batch_size)]
    count = count_pseudo(setting.dataset, options, store)
    view = augment_strongly if options.strong and setting.teacher is None else augment
    learnt = [Stream(setting.labeled, load_labeled, max(1, options.batch_size - count))]
    if store and labels:
        return [*learnt, Stream(readable_cases(store, setting.dataset), load_case_image, count, view, labels)]
    policy = store_policy(store, options) if store else None
    usable = usable_cases(store, setting.dataset, policy) if store and policy else []
    cases = need_cases(setting.dataset, "unlabeled") if setting.teacher else usable
    load = KeptSamples(unlabeled_loader(store, policy, {case.id for case in usable}, num_classes, size))
    return [*learnt, Stream(cases, load, count, view)]


def wanted_share(dataset: Dataset, options: FinetuneOptions, store: Store | None) -> float:
    """``--pseudo-share``; ``auto``: that of the unlabeled images among all that are learnt from, so that each is drawn as often as a
    labeled one, MOST_PSEUDO at most."""
    if not isinstance(options.pseudo_share, str):
        return options.pseudo_share
    drawn = len(dataset.split("unlabeled"))
    if store and not options.distill and options.schedule != "online":
        drawn = len(usable_ids(store, store_policy(store, options)))
    return min(MOST_PSEUDO, drawn / (drawn + len(dataset.split("labeled"))))


def count_pseudo(dataset: Dataset, options: FinetuneOptions, store: Store | None) -> int:
    """How many images of a batch are unlabeled: at least one, and never all of several."""
    return max(1, min(round(wanted_share(dataset, options, store) * options.batch_size), options.batch_size - 1))


def pseudo_share(dataset: Dataset, options: FinetuneOptions, store: Store | None) -> float:
    """The unlabeled share of a batch, which has one labeled image at least."""
    count = count_pseudo(dataset, options, store)
    return count / max(options.batch_size, count + 1)


def make_step(streams: list[Stream], options: FinetuneOptions, teacher: Distilled | None) -> Step:
    """The loss terms of a batch: supervised on its labeled part; the same, ramped up, on its pseudo-labeled part; a teacher's on all."""
    count = streams[0].per_batch // processes.count()

    def step(model: Segmenter, batch: Sample, progress: float) -> dict[str, torch.Tensor]:
        labeled, pseudo = Sample(*(part[:count] for part in batch)), Sample(*(part[count:] for part in batch))
        if teacher:
            with torch.no_grad():
                teacher_logits = teacher.network(batch.image)
            if options.strong:
                pseudo, cut_logits = strong_view(pseudo, teacher_logits[count:])
                teacher_logits = torch.cat([teacher_logits[:count], cut_logits])
        elif options.strong:
            pseudo = cut_mix(pseudo)
        logits = model(torch.cat([labeled.image, pseudo.image]))
        terms = {"supervised": segmentation_loss(logits[:count], labeled.target, labeled.weight)}
        if options.store:
            growing = options.pseudo_weight * ramp_up(progress, options.ramp_up)
            terms["pseudo"] = growing * segmentation_loss(logits[count:], pseudo.target, pseudo.weight)
        if teacher:
            terms["distillation"] = options.distill_weight * distillation_loss(logits, teacher_logits, teacher.temperature)
        return terms

    return step


def strong_view(batch: Sample, teacher_logits: torch.Tensor) -> tuple[Sample, torch.Tensor]:
    """A batch recolored and cut; (B, K, S, S) logits of a teacher, cut like its targets."""
    maps = torch.cat([batch.target, teacher_logits], dim=1)
    image, maps, weight = cut_mix(Sample(recolor(batch.image), maps, batch.weight))
    target, logits = maps.split(batch.target.shape[1], dim=1)
    return Sample(image, target, weight), logits


def warn_of_worse_round(run: Path, rounds: int) -> None:
    """A warning where an earlier round is better on val than the last."""
    folders: list[Path] = [*(run / "rounds" / str(number) for number in range(1, rounds)), run]
    cards: list[Mapping[str, Any]] = [read_model_card(folder).scores for folder in folders]
    scores = [float(card["val_dice"]) for card in cards]
    best = max(range(rounds), key=scores.__getitem__)
    if scores[best] > scores[-1]:
        console.warn(
            f"round {rounds} is worse on val than round {best + 1} ({scores[-1]:.3f}, {scores[best]:.3f}), which is {folders[best]}"
        )
