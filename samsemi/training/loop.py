"""The one training loop: steps, averaged weights, validation, the model that is kept, and an exact state to resume from."""

import copy
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from samsemi import clock, console, interrupts, processes, remedies
from samsemi.collectives import any_of, average_buffers, shared_model, sum_gradients, wait
from samsemi.data.dataset import Case, read_case_image, read_case_label
from samsemi.devices import autocast, seed_device
from samsemi.errors import CheckpointError, NothingUsable
from samsemi.metrics import dice_scores, mean_known
from samsemi.options.shared import TrainingOptions
from samsemi.schemas import from_json, parse_object
from samsemi.segmenters.checkpoints import MODEL_WEIGHTS, need_own_weights, read_model_card, save_model
from samsemi.segmenters.segmenter import SegmentationNetwork, Segmenter, predict_batch, to_label
from samsemi.tensors import load_metadata, load_strictly, load_tensors, save_tensors
from samsemi.training.batches import SampleSequence, Stream, load_batches, mix, named_batch, to_device
from samsemi.training.events import open_events
from samsemi.training.meter import Forecast, Meter, Progress, SaveTimer, TrainingStatus
from samsemi.training.optimizers import CombinedOptimizer, load_optimizer, make_optimizer
from samsemi.training.runs import History, Run

LOG = logging.getLogger("samsemi")
WARM_UP = 0.05
"""Share of the iterations over which the learning rate rises."""
LAST_LR = 0.01
"""Share of the highest learning rate at the end of the cosine."""


def cosine(progress: float) -> float:
    """Share of the highest rate: a linear warm-up, then a cosine."""
    if progress < WARM_UP:
        return (progress + 1e-3) / (WARM_UP + 1e-3)
    return LAST_LR + (1 - LAST_LR) * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def linear(progress: float) -> float:
    """Share of the highest rate: from 1 to 0."""
    return 1 - progress


Step = Callable[[Any, Any, float], Mapping[str, Tensor]]
"""The model in training, a batch, such as Sample, and the progress in [0, 1] -> loss terms, which are summed. It calls the model once."""


@dataclass(frozen=True)
class Goal:
    """What a training is for: how good a model is on val, and what becomes of the one that is kept."""

    name: str
    """Of the score to choose by, such as 'val_dice'."""
    score: Callable[[Any], Mapping[str, float]]
    """The averaged model -> that score and others, which become columns of history.csv."""
    keep: Callable[[Any, Mapping[str, object]], None]
    """Called with the averaged model and its scores, 'iteration' among them."""


@dataclass
class TrainingState:
    """All that changes while training: weights, their average, the optimizer, how far it is, the best so far, and the losses since the
    last validation."""

    model: nn.Module
    optimizer: torch.optim.Optimizer | CombinedOptimizer
    schedule: Callable[[float], float] = cosine
    """Progress in [0, 1] -> share of each group's own learning rate."""
    averaged: Any = field(init=False)
    weights: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = field(init=False)
    """What is trained: averaged, and as it is. Looked up once, as the next: in each step that takes longer than to compute with it."""
    buffers: list[tuple[Tensor, Tensor]] = field(init=False)
    """Of the averaged model and of the model."""
    meter: Meter = field(init=False, default_factory=Meter)
    counts: Counter[str] = field(init=False, default_factory=Counter)
    """What a method counts between validations; further columns of history.csv."""
    forecast: Forecast = field(init=False, default_factory=Forecast)
    timer: SaveTimer = field(init=False, default_factory=SaveTimer)
    iteration: int = 0
    best: float = -math.inf
    seconds: float = 0.0
    """That people have waited for it: start-up and validations included."""

    def __post_init__(self) -> None:
        self.model = shared_model(self.model)
        for group in self.optimizer.param_groups:
            group["highest_lr"] = group["lr"]
        shared = {id(value): value for value in self.model.parameters() if not value.requires_grad}
        self.averaged = copy.deepcopy(self.model, shared).eval().requires_grad_(False)
        pairs = zip(self.averaged.parameters(), self.model.parameters(), strict=True)
        means, values = zip(*((mean, value) for mean, value in pairs if value.requires_grad), strict=True)
        self.weights, self.buffers = (means, values), list(zip(self.averaged.buffers(), self.model.buffers(), strict=True))

    def save(self, path: Path) -> None:
        """Write the exact state as one safetensors file, whole or not at all; frozen weights are left out."""
        tensors = {f"model.{name}": value for name, value in self.learned(self.model).items()}
        tensors |= {f"averaged.{name}": value for name, value in self.learned(self.averaged).items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        tensors |= {f"meter.{name}": value for name, value in self.meter.sums.items()}
        numbers = Progress(self.iteration, self.best, self.seconds, self.meter.steps, dict(self.counts))
        save_tensors(path, tensors, {"state": json.dumps(asdict(numbers))})

    def load(self, path: Path) -> None:
        """Continue from a saved state; CheckpointError where it is not one of this model."""
        text = load_metadata(path, remedies.RUN).get("state")
        if text is None:
            raise CheckpointError(f"{path} is not a training state", remedies.RUN)
        numbers = from_json(Progress, parse_object(text, str(path), remedies.RUN), str(path), remedies.RUN)
        tensors = load_tensors(path)
        hint = "go on with the samsemi that began it, or start again with another --out"
        for name, module in (("model", self.model), ("averaged", self.averaged)):
            load_strictly(module, {**self.frozen(), **with_prefix(tensors, f"{name}.")}, str(path), hint)
        kept, sums = with_prefix(tensors, "optimizer."), with_prefix(tensors, "meter.")
        if numbers.iteration and not kept:
            raise CheckpointError(f"{path} lacks what the optimizer keeps", remedies.RUN)
        if wrong := [name for name, value in sums.items() if value.shape or not value.is_floating_point() or name in numbers.counts]:
            raise CheckpointError(f"{path} does not fit: meter.{wrong[0]:.60} {tuple(sums[wrong[0]].shape)}", remedies.RUN)
        load_optimizer(self.optimizer, kept, str(path))
        self.iteration, self.best, self.seconds = numbers.iteration, numbers.best, numbers.seconds
        device = next(self.model.parameters()).device
        self.meter = Meter({name: value.to(device) for name, value in sums.items()}, numbers.steps)
        self.counts.update(numbers.counts)

    def frozen(self) -> dict[str, Tensor]:
        """The weights that are not trained."""
        return {name: value.data for name, value in self.model.named_parameters() if not value.requires_grad}

    def learned(self, module: nn.Module) -> dict[str, Tensor]:
        """What changes in training of the model, or of its average: all but the frozen weights."""
        frozen = self.frozen()
        return {name: value for name, value in module.state_dict().items() if name not in frozen}

    def average(self, decay: float) -> None:
        """Move the averaged weights towards the present ones; in the first iterations faster than ``decay``."""
        decay = min(decay, (1 + self.iteration) / (10 + self.iteration))
        with torch.no_grad():
            get_ema_multi_avg_fn(decay)(*self.weights, None)
            for mean, value in self.buffers:
                mean.copy_(value)


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def start_training(model: nn.Module, options: TrainingOptions, run: Run, optimizer: str = "adamw", compiled: bool = False) -> TrainingState:
    """Train all weights that are not frozen, from the beginning or from where the run was interrupted; ``compiled`` by torch when the
    first batch comes, but for its average, which validates images in batches of other sizes."""
    state = go_on(TrainingState(model, make_optimizer(optimizer, model, options.lr)), options, run)
    if compiled:
        state.model.compile(dynamic=False)
    return state


def go_on(state: TrainingState, options: TrainingOptions, run: Run) -> TrainingState:
    """The state from where the run was interrupted, if it was."""
    if run.resumed:
        state.load(run.state_file)
        if state.iteration > options.iterations:
            raise CheckpointError(f"{run.state_file} is at iteration {state.iteration} of {options.iterations}", "start with --overwrite")
        LOG.info(f"resuming at iteration {state.iteration} of {options.iterations}")
    return state


def fit(
    state: TrainingState,
    step: Step,
    streams: list[Stream],
    options: TrainingOptions,
    run: Run,
    goal: Goal,
    until: int | None = None,
) -> None:
    """Train to iteration ``until`` (all of them by default), validating and saving on the way.

    The averaged model is kept as it is at the last validation, or at that which was best by ``goal``. The exact state is
    saved at every validation, every minute or so (``SaveTimer``) and when interrupted. NothingUsable where the loss is no longer finite.
    Of several processes each has its share of every batch; the first validates and writes.
    """
    until = until or options.iterations
    every = options.validate_every or max(1, options.iterations // 20)
    keeps_best = options.keep == "best"
    status = TrainingStatus(goal.name, keeps_best, state.best if keeps_best else -math.inf)
    state.forecast.restart()
    state.meter.restart_clock()
    device = next(state.model.parameters()).device
    samples = SampleSequence(streams, options.seed)
    order = samples.order(state.iteration, until)
    batches = load_batches(samples, order, samples.batch_size // processes.count(), choose_workers(options.workers, device))
    with (
        open_events(run.folder, options.tensorboard and processes.is_first(), state.iteration) as events,
        console.progress("train", options.iterations, "iterations", done=state.iteration) as advance,
        interrupts.held() as interrupted,
    ):
        history = History(run.folder / "history.csv", state.iteration, events)
        for batch in batches:
            terms = train_step(state, step, to_device(batch, device), options, device)
            state.meter.add(terms, samples.batch_size)
            status.loss = state.meter.mean_loss
            left = options.iterations - state.iteration
            state.forecast.add(terms["loss"], left, math.ceil(left / every))
            validating, stopping = state.iteration % every == 0 or not left, any_of(bool(interrupted))
            if processes.is_first() and (validating or stopping or state.iteration == until or state.timer.is_due()):
                run.need()
                refuse_bad_numbers(state, run)
                if validating:
                    status.add_score(record(state, history, run, goal, options.keep)[goal.name])
                state.seconds += clock.lap()
                with state.timer.timed():
                    state.save(run.state_file)
            advance(1, status)
            if stopping:
                wait()  # a process that ends makes the launcher end the others, who may be saving
                raise KeyboardInterrupt


def train_step(
    state: TrainingState, step: Step, batch: tuple[Any, ...], options: TrainingOptions, device: torch.device
) -> dict[str, Tensor]:
    """One optimizer step; its randomness is a function of seed and iteration alone."""
    progress = state.iteration / options.iterations
    seed_device(device, mix(options.seed, 97, state.iteration))
    state.model.train()
    for group in state.optimizer.param_groups:
        group["lr"] = group["highest_lr"] * state.schedule(progress)
    with autocast(device, options.precision), named_batch(options.batch_size):
        terms = dict(step(state.model, batch, progress))
    loss = total(terms)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    sum_gradients(state.model.parameters())
    average_buffers(state.model)
    state.optimizer.step()
    state.iteration += 1
    state.average(options.ema)
    return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of loss terms, in their order."""
    return reduce(torch.add, terms.values())


def ramp_up(progress: float, length: float) -> float:
    """exp(-5 (1 - t)^2), t from 0 to 1 over the first ``length`` of a run. Source: arXiv 1610.02242, KnowSAM 2412.13742."""
    t = min(1.0, progress / length) if length > 0 else 1.0
    return math.exp(-5 * (1 - t) ** 2)


def refuse_bad_numbers(state: TrainingState, run: Run) -> None:
    """NothingUsable where a loss since the last validation, or a weight, is not finite: nothing that comes of it is kept or saved."""
    losses = {name: value for name, value in state.meter.means().items() if not math.isfinite(value)}
    weights = [name for name, value in state.learned(state.model).items() if not value.isfinite().all()]
    if losses or weights:
        found = ", ".join(f"{name} {value}" for name, value in losses.items()) or f"weights such as {weights[0]}"
        raise NothingUsable(
            f"{run.folder}: numbers that are not finite by iteration {state.iteration}: {found}",
            "start again with --overwrite and a lower --lr, or with --precision fp32",
        )


def record(state: TrainingState, history: History, run: Run, goal: Goal, keep: str) -> Mapping[str, float]:
    """Validate the averaged model, add a row to the history, keep the model; the scores. New losses are counted from here."""
    means, speed, start = state.meter.means(), state.meter.images_per_second(), time.monotonic()
    scores = goal.score(state.averaged)
    state.forecast.leave_out(time.monotonic() - start)
    state.seconds += clock.lap()
    history.add(iteration=state.iteration, **means, **scores, **state.counts, images_per_second=speed, seconds=state.seconds)
    keep_model(state, goal, scores, keep)
    state.meter = Meter()
    state.counts.clear()
    return scores


def keep_model(state: TrainingState, goal: Goal, scores: Mapping[str, float], keep: str) -> None:
    """Keep the averaged model if it is the 'last', or if it has to be the 'best' and none was better."""
    better = scores[goal.name] > state.best
    state.best = max(state.best, scores[goal.name])
    if better or keep == "last":
        goal.keep(state.averaged, {**scores, "iteration": state.iteration})


def segmentation_goal(val: Sequence[Case], options: TrainingOptions, run: Run, made_from: Mapping[str, object]) -> Goal:
    """Mean Dice on val; the model is kept in the run folder, with ``made_from`` on its card."""

    def keep(segmenter: Segmenter, scores: Mapping[str, object]) -> None:
        save_model(run.folder, segmenter, {"scores": scores, "made_from": made_from})

    return Goal("val_dice", lambda segmenter: validate(segmenter, val, options), keep)


def validate(segmenter: SegmentationNetwork, cases: Sequence[Case], options: TrainingOptions) -> dict[str, float]:
    """``val_dice``: mean Dice over cases and classes at source size, 0 where nothing can be measured; of several classes also that of each
    that occurs, ``val_dice_NAME``."""
    names = segmenter.spec.classes[1:]
    scores: list[list[float]] = []
    for first in range(0, len(cases), options.batch_size):
        batch = cases[first : first + options.batch_size]
        with autocast(segmenter.device, options.precision):
            maps = predict_batch(segmenter, [read_case_image(case) for case in batch])
        scores += [
            dice_scores(to_label(probs), read_case_label(case, case.mask, len(names) + 1), len(names) + 1)
            for probs, case in zip(maps, batch, strict=True)
        ]
    by_class = {f"val_dice_{name}": mean_known(own) for name, own in zip(names, zip(*scores, strict=True), strict=True)}
    known = {name: score for name, score in by_class.items() if not math.isnan(score)} if len(names) > 1 else {}
    mean = mean_known([mean_known(of_case) for of_case in scores])
    return {"val_dice": 0.0 if math.isnan(mean) else mean, **known}


def summarize_run(run: Path, others: Sequence[Path] = ()) -> dict[str, object]:
    """The closing line of a training into a run folder: where it lies, its score on val, and how long the command took, the ``others``
    included, which are run folders that it has trained as well."""
    card = read_model_card(run)
    rows = History(run / "history.csv").rows
    if not rows or not (run / MODEL_WEIGHTS).is_file():
        raise CheckpointError(f"{run} is no longer whole: its {MODEL_WEIGHTS if rows else 'history.csv'} is gone", remedies.RUN)
    need_own_weights(run, card, load_tensors(run / MODEL_WEIGHTS))
    return {
        "run": str(run),
        **card.scores,
        "iterations": int(rows[-1]["iteration"]),
        "seconds": sum(seconds_of(folder) for folder in (run, *others)) + clock.lap(),
    }


def seconds_of(folder: Path) -> float:
    """That people have waited for a run up to its last validation; 0 where nothing was trained."""
    rows = History(folder / "history.csv").rows
    return float(rows[-1].get("seconds") or 0) if rows else 0.0


def choose_workers(workers: int | None, device: torch.device) -> int:
    """The number given, or none on a CPU, which has better to do, and up to 8 on a GPU."""
    if workers is not None:
        return workers
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0
