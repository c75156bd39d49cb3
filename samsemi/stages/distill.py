"""``samsemi distill``: KnowSAM, two co-trained networks and a SAM that learns to prompt itself."""

from collections.abc import Mapping, Sequence
from functools import partial

from samsemi import console
from samsemi.collectives import from_first, held_by_first
from samsemi.data.dataset import Case, Dataset, name_images, need_cases, read_case_image, read_case_label, read_dataset
from samsemi.data.learnable import need_objects
from samsemi.devices import choose_device
from samsemi.inspection.cards import write_run_card
from samsemi.knowsam.cotraining import CoTraining, KnowSam, Terms
from samsemi.knowsam.teacher import TEACHER, make_teacher, save_teacher
from samsemi.mining.miner import describe_store, open_store, store_policy, usable_cases
from samsemi.mining.pictures import draw_comparison
from samsemi.mining.pseudolabels import unlabeled_loader
from samsemi.options.distill import PUBLISHED_ITERATIONS, DistillOptions
from samsemi.options.shared import parse_channels
from samsemi.sam.protocol import SamBackend, learned_by, load_sam
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.segmenter import ModelSpec, new_segmenter, predict_image, to_label
from samsemi.tensors import load_tensors
from samsemi.training.batches import Sample, Stream, labeled_sample
from samsemi.training.kept import KeptSamples
from samsemi.training.loop import Goal, TrainingState, cosine, fit, go_on, linear, segmentation_goal, summarize_run, validate
from samsemi.training.optimizers import make_peer_optimizer
from samsemi.training.runs import Run, open_run, run_folder

FEW = PUBLISHED_ITERATIONS // 10
"""Iterations below which SGD with the published rates may find nothing."""


def distill(options: DistillOptions) -> dict[str, object]:
    """Train the peers and their teacher; the run is that of the peers, the teacher is a file in it."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    labeled, val, unlabeled = need_objects(dataset, "labeled"), need_objects(dataset, "val"), need_cases(dataset, "unlabeled")
    with held_by_first(run_folder(options.out, options)) as out:
        store = open_store(options.store, dataset) if options.store else None
        sam = None if options.no_sam else load_sam(options.sam, options.sam_checkpoint, device, options.precision)
        model = build_knowsam(options, dataset.classes, sam).to(device)
        made_from: dict[str, object] = {**dataset.made_from(), "labeled": len(labeled), "unlabeled": len(unlabeled)}
        made_from |= {"sam": sam.name, "sam_weights": sam.identity} if sam else {}
        policy = store_policy(store, options) if store else None
        usable = usable_cases(store, dataset, policy) if store and policy else []
        made_from |= describe_store(store, usable) if store else {}
        load_labeled = KeptSamples(partial(labeled_sample, num_classes=len(dataset.classes), size=options.size))
        load_unlabeled = KeptSamples(unlabeled_loader(store, policy, {case.id for case in usable}, len(dataset.classes), options.size))
        half = options.batch_size // 2
        run = from_first(lambda: open_run(options, made_from, out))
        if not run.finished:
            warn_of_few_iterations(options)
            optimizer = make_peer_optimizer(options.optimizer, model.segmenter, options.lr, model.teacher, options.sam_lr)
            training = CoTraining(model, options, store is not None)
            state = go_on(TrainingState(training, optimizer, schedule=linear if options.optimizer == "sgd" else cosine), options, run)
            streams = [Stream(labeled, load_labeled, half), Stream(unlabeled, load_unlabeled, half)]
            fit(state, step, streams, options, run, make_goal(val, options, run, made_from, sam, labeled))
            from_first(lambda: draw_peers_and_sam(run, state.averaged.knowsam, val[: options.overlays], dataset))
            from_first(run.finish)
        from_first(lambda: write_run_card(out))
    counts: dict[str, object] = {name: made_from[name] for name in ("labeled", "unlabeled", "pseudo_labeled") if name in made_from}
    pictures = {"overlays": str(options.out / "overlays")} if options.overlays else {}
    return {**summarize_run(options.out), **({"sam": sam.name} if sam else {}), **counts, **pictures}


def build_knowsam(options: DistillOptions, classes: tuple[str, ...], sam: SamBackend | None) -> KnowSam:
    """Peers with random weights and, unless there is no SAM, a teacher whose adapters and prompts are new."""
    spec = ModelSpec(
        encoder="",
        decoder_channels=parse_channels(options.decoder_channels),
        classes=classes,
        size=options.size,
        peers=tuple(options.peers.split(",")),
        fusion=not options.no_fusion,
    )
    segmenter = new_segmenter(spec, options.seed, None if options.encoder_weights == "none" else options.encoder_weights)
    teacher = make_teacher(sam, len(classes), options.sam_size, not options.no_learned_prompts) if sam else None
    return KnowSam(segmenter, teacher)


def warn_of_few_iterations(options: DistillOptions) -> None:
    """Warn where the published optimizer gets far fewer iterations than it is meant for."""
    if options.optimizer == "sgd" and options.iterations < FEW:
        console.warn(
            f"--iterations {options.iterations}: the published settings are meant for {PUBLISHED_ITERATIONS:,} and may find nothing "
            "in so few; --preset short has settings for some hundred"
        )


def step(model: CoTraining, batch: Sample, progress: float) -> Terms:
    """The weighted loss terms of a batch."""
    return model(batch, progress)


def make_goal(
    val: list[Case], options: DistillOptions, run: Run, made_from: Mapping[str, object], sam: SamBackend | None, labeled: list[Case]
) -> Goal:
    """Mean Dice on val of the peers' joint prediction, and of the teacher's; the teacher is kept with the peers that prompt it."""
    goal = segmentation_goal(val, options, run, made_from)

    def score(training: CoTraining) -> dict[str, float]:
        model = training.knowsam
        return {**goal.score(model.segmenter), **({"val_sam_dice": validate(model, val, options)["val_dice"]} if sam else {})}

    def keep(training: CoTraining, scores: Mapping[str, object]) -> None:
        model = training.knowsam
        goal.keep(model.segmenter, scores)
        if sam and model.teacher:
            about = {"temperature": options.temperature, "scores": dict(scores), "learned": {**learned_by(sam), **name_images(labeled)}}
            save_teacher(run.folder, model.teacher, sam, about)

    return Goal(goal.name, score, keep)


def draw_peers_and_sam(run: Run, model: KnowSam, cases: Sequence[Case], dataset: Dataset) -> None:
    """overlays/ID.png: the image, the truth, the peers' fused prediction, and that of their teacher; of the model that was kept."""
    model.segmenter.load_state_dict(load_model(run.folder).state_dict())
    if model.teacher is not None:
        model.teacher.load_state_dict({**model.teacher.state_dict(), **load_tensors(run.folder / TEACHER)})
    for case in cases:
        image = read_case_image(case)
        labels = {"truth": read_case_label(case, case.mask, len(dataset.classes)), "peers": to_label(predict_image(model.segmenter, image))}
        labels |= {"sam": to_label(predict_image(model, image))} if model.teacher is not None else {}
        draw_comparison(run.folder / "overlays" / f"{case.id}.png", case.id, image, labels, dataset.classes)
