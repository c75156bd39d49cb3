import logging
import math

import pytest
import torch

from samsemi.training import meter as meters
from samsemi.training.meter import SAVE_SECONDS, SAVE_SHARE, Forecast, Meter, SaveTimer, TrainingStatus


def test_meter_means_its_terms_over_the_steps():
    meter = Meter()
    for value in (1.0, 2.0, 6.0):
        meter.add({"loss": torch.tensor(value), "pseudo": torch.tensor(value / 2)}, images=4)
    assert meter.means() == {"loss": 3.0, "pseudo": 1.5} and meter.images == 12 and meter.images_per_second() > 0


@pytest.mark.parametrize(
    ("keeps_best", "scores", "text"),
    [
        (False, [], "loss 0.412"),
        (False, [0.7, 0.5], "loss 0.412, val_dice 0.500"),
        (True, [0.7, 0.5], "loss 0.412, best val_dice 0.700"),
    ],
)
def test_status_names_the_last_score_or_the_best(keeps_best, scores, text):
    status = TrainingStatus("val_dice", keeps_best, -math.inf, lambda: 0.412)
    for score in scores:
        status.add_score(score)
    assert status() == text


def foretold(monkeypatch, caplog, seconds: float, iterations: int, validations: int = 0, pause: float = 0.0) -> list[str]:
    """What is said in the first ten steps of so many seconds each, the very first a minute longer, a pause after the second."""
    now = [0.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "samsemi")
    forecast = Forecast()
    for step in range(1, 11):
        now[0] += seconds + (60 if step == 1 else 0)
        forecast.add(torch.tensor(1.0), iterations - step, validations)
        if step == 2:
            now[0] += pause
            forecast.leave_out(pause)
    return caplog.messages


def test_time_of_a_training_is_foretold_once_from_its_first_steps(monkeypatch, caplog):
    assert foretold(monkeypatch, caplog, 6.0, 1004, 20, pause=100.0) == [
        "about 1.7 h for 1000 more iterations on this machine, plus 20 validations"
    ]


def test_time_is_foretold_no_sooner_than_it_can_be_measured(monkeypatch, caplog):
    assert foretold(monkeypatch, caplog, 0.5, 1005, 1) == ["about 8 min for 1000 more iterations on this machine, plus 1 validation"]


def test_short_training_needs_no_forecast(monkeypatch, caplog):
    assert foretold(monkeypatch, caplog, 0.5, 20) == []


@pytest.mark.parametrize(("takes", "pause"), [(0.5, SAVE_SECONDS), (12.0, 12.0 / SAVE_SHARE)], ids=["fast", "slow"])
def test_saving_is_due_every_minute_and_later_where_it_takes_long(monkeypatch, takes, pause):
    now = [0.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[0])
    timer = SaveTimer()
    now[0] = SAVE_SECONDS - 1
    assert not timer.is_due()
    now[0] = SAVE_SECONDS
    assert timer.is_due()
    with timer.timed():
        now[0] += takes
    due = now[0] + pause
    now[0] = due - 1
    assert not timer.is_due()
    now[0] = due
    assert timer.is_due()
