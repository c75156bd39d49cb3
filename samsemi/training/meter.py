"""What is known of a training while it runs: its mean losses, its speed, what is shown of it, how long it will take, when to save it."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from samsemi import console
from samsemi.errors import UsageError

FORECAST_STEPS, FORECAST_SECONDS = 3, 2.0
"""Steps and seconds, at least, from which the time of a training is forecast; the first step, which warms up, is not among them."""
SHORT = 10.0
"""Seconds; a training that is over sooner needs no forecast."""
SAVE_SECONDS = 60.0
"""From the end of one saving to the next, at least."""
SAVE_SHARE = 0.1
"""Of the time of a training, that saving by time may take at most."""


OF_TABLE = {"iteration", "loss", "seconds", "images_per_second"}
"""Columns of every history.csv."""


@dataclass(frozen=True)
class Progress:
    """What the header of a state says."""

    iteration: int
    best: Any
    """Minus infinity before the first validation."""
    seconds: float
    steps: int = 0
    """Since the last validation; states of before were saved at validations alone."""
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("iteration", "seconds", "steps"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} {getattr(self, name)} cannot be", "start again")
        if not isinstance(self.best, int | float) or not self.best < math.inf:
            raise UsageError(f"best {self.best!s:.60} cannot be", "start again")
        if self.steps > self.iteration or OF_TABLE & set(self.counts) or any(count < 0 for count in self.counts.values()):
            raise UsageError(f"steps {self.steps} of {self.iteration}, or counts {[*self.counts]!s:.60}, cannot be", "start again")


@dataclass
class Meter:
    """Mean loss terms since the last validation, which are part of a training's state, and the speed of the steps at one stretch."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    start: float = field(default_factory=time.monotonic)

    def restart_clock(self) -> None:
        """Before steps that do not follow on the last one."""
        self.images, self.start = 0, time.monotonic()

    def add(self, terms: Mapping[str, Tensor], images: int) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1
        self.images += images

    def means(self) -> dict[str, float]:
        return {name: float(value) / self.steps for name, value in self.sums.items()}

    def mean_loss(self) -> float:
        return float(self.sums["loss"]) / self.steps

    def images_per_second(self) -> float:
        return self.images / max(time.monotonic() - self.start, 1e-9)


@dataclass
class TrainingStatus:
    """What is shown of a training while it runs: 'loss 0.412, val_dice 0.731', or, where the best is kept, 'best val_dice 0.731'."""

    name: str
    keeps_best: bool
    score: float = -math.inf
    """The last one, or the best so far; -inf where none is known yet."""
    loss: Callable[[], float] = lambda: math.nan
    """Its mean since the last validation, or up to it."""

    def add_score(self, score: float) -> None:
        self.score = max(score, self.score) if self.keeps_best else score

    def __call__(self) -> str:
        best = "best " if self.keeps_best else ""
        return f"loss {self.loss():.3f}" + (f", {best}{self.name} {self.score:.3f}" if self.score > -math.inf else "")


class Forecast:
    """Logs once, after the first steps, how long a training will take on this machine."""

    def __init__(self) -> None:
        self.steps, self.since = 0, 0.0
        self.is_logged = False

    def add(self, loss: Tensor, left: int, validations: int) -> None:
        """After each step, with the steps and validations that are left."""
        if self.is_logged:
            return
        self.steps += 1
        if self.steps == 1:
            self.since = finished_at(loss)
        elif self.steps > FORECAST_STEPS and time.monotonic() - self.since >= FORECAST_SECONDS:
            seconds = left * (finished_at(loss) - self.since) / (self.steps - 1)
            self.is_logged = True
            if seconds >= SHORT:
                text = f"about {console.format_about(seconds)} for {count(left, 'more iteration')} on this machine"
                logging.getLogger("samsemi").info(f"{text}, plus {count(validations, 'validation')}")

    def restart(self) -> None:
        """Before steps that do not follow on the last one."""
        self.steps = 0

    def leave_out(self, seconds: float) -> None:
        """Do not count what was no training step."""
        self.since += seconds


class SaveTimer:
    """When to save a training: SAVE_SECONDS after the last time, or later where that would take more than SAVE_SHARE of the time."""

    def __init__(self) -> None:
        self.pause, self.since = SAVE_SECONDS, time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self.since >= self.pause

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around a saving: how long it takes decides on the pause after it."""
        start = time.monotonic()
        yield
        self.since = time.monotonic()
        self.pause = max(SAVE_SECONDS, (self.since - start) / SAVE_SHARE)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def finished_at(loss: Tensor) -> float:
    """The time at which a step is done: a GPU has to be waited for."""
    loss.item()
    return time.monotonic()
