import json
import math
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from samsemi import clock
from samsemi.data.dataset import Case
from samsemi.errors import CheckpointError, NothingUsable, UsageError
from samsemi.losses import segmentation_loss
from samsemi.options.warmstart import WarmstartOptions
from samsemi.segmenters.segmenter import ModelSpec, Segmenter
from samsemi.tensors import hash_tensors, load_tensors, save_tensors
from samsemi.training.batches import Stream, labeled_sample
from samsemi.training.loop import (
    LAST_LR,
    WARM_UP,
    Goal,
    TrainingState,
    choose_workers,
    cosine,
    fit,
    go_on,
    keep_model,
    ramp_up,
    segmentation_goal,
    start_training,
    summarize_run,
    validate,
)
from samsemi.training.meter import SaveTimer
from samsemi.training.runs import History, Run

SIZE = 32
SPEC = ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), ("background", "polyp"), SIZE)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Four images of 40 x 48 with a bright block; the last is for validation."""
    folder = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    found = []
    for name in "abcv":
        y, x = rng.integers(4, 16, size=2)
        label = np.zeros((40, 48), dtype=np.uint8)
        label[y : y + 18, x : x + 22] = 1
        image = rng.integers(0, 60, size=(40, 48, 3)) + 150 * label[..., None]
        paths = [folder / f"{name}.png", folder / f"{name}_m.png"]
        for path, array in zip(paths, (image.astype(np.uint8), label), strict=True):
            Image.fromarray(array).save(path)
        found.append(Case(name, *paths, None, "labeled", name))
    return found


def options_of(**given) -> WarmstartOptions:
    return WarmstartOptions(
        dataset=Path("data"), out=Path("run"), **{"iterations": 5, "batch_size": 2, "validate_every": 2, "workers": 0, "seed": 1, **given}
    )


def run_of(folder: Path) -> Run:
    (folder / "last").mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").touch()
    run = Run(folder, False)
    return Run(folder, run.state_file.exists())


def new_state(run: Run, options: WarmstartOptions, seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    return start_training(Segmenter(SPEC), options, run, compiled=options.compile)


def train(
    folder: Path, cases: list[Case], before_step=lambda iteration: None, inside_step=lambda iteration: None, **given
) -> TrainingState:
    """Train in a run folder as the stages do, from its beginning or where it stopped; the hooks may interrupt."""
    options, run = options_of(**given), run_of(folder)
    state = new_state(run, options, seed=9 if run.resumed else 0)

    def step(model, batch, progress):
        before_step(state.iteration)
        images, targets, weights = batch
        logits = model(images)
        inside_step(state.iteration)
        return {"supervised": segmentation_loss(logits, targets, weights)}

    def load(case: Case):
        return labeled_sample(case, 2, SIZE)

    fit(
        state,
        step,
        [Stream(cases[:-1], load, options.batch_size)],
        options,
        run,
        goal_of(cases, options, run),
    )
    return state


def goal_of(cases: list[Case], options: WarmstartOptions, run: Run):
    return segmentation_goal(cases[-1:], options, run, {"dataset": "d"})


def everything(state: TrainingState) -> str:
    """A hash of all weights, averages and moments."""
    moments = {f"{i}.{name}": value for i, values in state.optimizer.state_dict()["state"].items() for name, value in values.items()}
    parts = (("model", state.model.state_dict()), ("averaged", state.averaged.state_dict()), ("optimizer", moments))
    return hash_tensors({f"{kind}.{name}": tensor for kind, tensors in parts for name, tensor in tensors.items()})


@pytest.fixture(scope="module")
def whole(cases, tmp_path_factory):
    """An uninterrupted training: its folder, a hash of its state, and a random number drawn in each step."""
    folder = tmp_path_factory.mktemp("whole")
    draws = {}
    return folder, everything(train(folder, cases, before_step=draw_into(draws))), draws


def test_compiled_network_learns_the_same(cases, tmp_path, whole, monkeypatch):
    traced = []

    def compile_simply(module, **options):
        """Without a C++ compiler: what torch has traced runs as it is."""
        traced.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager", **options)

    monkeypatch.setattr(nn.Module, "compile", compile_simply)
    state = train(tmp_path, cases, compile=True)
    assert traced == [state.model] and state.averaged._compiled_call_impl is None
    losses, wanted = ([float(row["loss"]) for row in History(folder / "history.csv").rows] for folder in (tmp_path, whole[0]))
    assert losses[0] == pytest.approx(wanted[0], rel=1e-4) and losses == pytest.approx(wanted, rel=0.05)
    assert load_tensors(tmp_path / "model.safetensors").keys() == load_tensors(whole[0] / "model.safetensors").keys()


def draw_into(draws: dict[int, float]):
    return lambda iteration: draws.update({iteration: torch.rand(1).item()})


def assert_same_run(folder: Path, state: TrainingState, whole) -> None:
    assert everything(state) == whole[1]
    assert state.iteration == 5
    assert load_hash(folder) == load_hash(whole[0])
    assert json.loads((folder / "model.json").read_text()) == json.loads((whole[0] / "model.json").read_text())
    assert [timeless(row) for row in History(folder / "history.csv").rows] == [
        timeless(row) for row in History(whole[0] / "history.csv").rows
    ]


def load_hash(folder: Path) -> str:
    return hash_tensors(load_tensors(folder / "model.safetensors"))


def timeless(row: dict[str, str]) -> dict[str, str]:
    """A row of history.csv without the two columns that say how long it took."""
    return {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}


def fail_at(number: int, error: BaseException):
    def hook(iteration: int) -> None:
        if iteration == number:
            raise error

    return hook


def send_at(number: int, *signals: signal.Signals):
    def hook(iteration: int) -> None:
        if iteration == number:
            for which in signals:
                os.kill(os.getpid(), which)

    return hook


@pytest.mark.parametrize("iteration", [0, 1, 3, 4])
def test_training_killed_before_a_step_and_resumed_equals_an_uninterrupted_one(tmp_path, cases, whole, iteration):
    with pytest.raises(MemoryError):
        train(tmp_path, cases, before_step=fail_at(iteration, MemoryError()))
    assert run_of(tmp_path).resumed == (iteration >= 2), "the state is saved at each validation"
    draws = {}
    assert_same_run(tmp_path, train(tmp_path, cases, before_step=draw_into(draws)), whole)
    assert draws == {i: whole[2][i] for i in draws}, "dropout in a step is a function of seed and iteration"


def test_training_killed_between_validations_loses_what_came_after_the_last_saving_by_time(tmp_path, cases, whole, monkeypatch):
    """Here it is due after every step; the losses since the last validation go on, too."""
    with monkeypatch.context() as patch:
        patch.setattr(SaveTimer, "is_due", lambda timer: True)
        with pytest.raises(MemoryError):
            train(tmp_path, cases, before_step=fail_at(3, MemoryError()))
    resumed = []
    state = train(tmp_path, cases, before_step=resumed.append)
    assert resumed == [3, 4], "iteration 3 was saved although only 2 was validated"
    assert_same_run(tmp_path, state, whole)


def test_weights_that_are_not_finite_end_the_training_before_anything_of_them_is_kept(tmp_path, cases):
    """As by a gradient that is infinite where the loss is not."""
    options, run = options_of(), run_of(tmp_path)
    state = new_state(run, options)

    def step(model, batch, progress):
        loss = segmentation_loss(model(batch[0]), *batch[1:])
        return {"supervised": loss + ((loss - loss.detach()).sqrt() if state.iteration == 3 else 0.0)}

    with pytest.raises(NothingUsable, match="not finite by iteration 4: weights such as "):
        fit(state, step, [Stream(cases[:-1], lambda case: labeled_sample(case, 2, SIZE), 2)], options, run, goal_of(cases, options, run))
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["scores"]["iteration"] == 2
    assert all(value.isfinite().all() for path in (run.state_file, tmp_path / "model.safetensors") for value in load_tensors(path).values())


def test_training_killed_between_history_and_state_has_no_row_twice(tmp_path, cases, whole, monkeypatch):
    save = TrainingState.save

    def fail_at_4(state: TrainingState, path: Path) -> None:
        if state.iteration == 4:
            raise MemoryError
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", fail_at_4)
        with pytest.raises(MemoryError):
            train(tmp_path, cases)
    assert [row["iteration"] for row in History(tmp_path / "history.csv").rows] == ["2", "4"]
    assert_same_run(tmp_path, train(tmp_path, cases), whole)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_training_interrupted_within_a_step_saves_and_resumes_exactly(tmp_path, cases, whole, which):
    """Ctrl-C arrives after the batch norms have seen the batch and before the weights have moved: the step is finished first."""
    before = signal.getsignal(which)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, cases, inside_step=send_at(2, which))
    assert signal.getsignal(which) == before, "the handler is put back"
    resumed = []
    state = train(tmp_path, cases, before_step=resumed.append)
    assert resumed == [3, 4], "the step in which it came is not repeated"
    assert_same_run(tmp_path, state, whole)


def test_second_interrupt_acts_at_once_and_leaves_the_last_saved_state(tmp_path, cases, whole):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, cases, inside_step=send_at(3, signal.SIGINT, signal.SIGINT))
    resumed = []
    state = train(tmp_path, cases, before_step=resumed.append)
    assert resumed == [2, 3, 4]
    assert_same_run(tmp_path, state, whole)


def test_training_in_two_stretches_equals_one(tmp_path, cases, whole):
    """As ``--schedule continuous`` does: to iteration 3, then to the end, with the same state."""
    options, run = options_of(), run_of(tmp_path)
    state = new_state(run, options)

    def step(model, batch, progress):
        return {"supervised": segmentation_loss(model(batch[0]), *batch[1:])}

    streams = [Stream(cases[:-1], lambda case: labeled_sample(case, 2, SIZE), 2)]
    for until in (3, 5):
        fit(state, step, streams, options, run, goal_of(cases, options, run), until=until)
    assert_same_run(tmp_path, state, whole)


def test_other_seed_gives_another_training(tmp_path, cases, whole):
    assert everything(train(tmp_path, cases, seed=2)) != whole[1]


def test_history_has_a_row_per_validation_and_the_last_iteration(whole):
    rows = History(whole[0] / "history.csv").rows
    assert [row["iteration"] for row in rows] == ["2", "4", "5"]
    assert all(0 < float(row["loss"]) < 10 and float(row["loss"]) == pytest.approx(float(row["supervised"])) for row in rows)
    assert all(0 <= float(row["val_dice"]) <= 1 and float(row["seconds"]) > 0 for row in rows)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_seconds_count_what_people_wait_and_the_speed_only_the_training(tmp_path, cases):
    """Start-up, validation and, once interrupted, the earlier session are in; images per second know nothing of them."""
    options, run = options_of(validate_every=5), run_of(tmp_path)
    goal = goal_of(cases, options, run)
    slow = replace(goal, score=lambda model: (time.sleep(0.5), goal.score(model))[1])

    def session(until: int | None = None) -> float:
        clock.start()
        time.sleep(0.3)
        state = new_state(run_of(tmp_path), options)

        def step(model, batch, progress):
            return {"supervised": segmentation_loss(model(batch[0]), *batch[1:])}

        streams = [Stream(cases[:-1], lambda case: labeled_sample(case, 2, SIZE), 2)]
        begin = time.monotonic()
        fit(state, step, streams, options, run, slow, until=until)
        return time.monotonic() - begin

    trained = session(until=3) + session()
    [row] = History(tmp_path / "history.csv").rows
    assert float(row["seconds"]) >= 0.3 + 0.3 + 0.5
    assert float(row["images_per_second"]) >= 4 / (trained - 0.5)
    (tmp_path / "other").mkdir()
    History(tmp_path / "other" / "history.csv").add(iteration=1, seconds=100.0)
    assert summarize_run(run.folder)["seconds"] >= float(row["seconds"])
    assert summarize_run(run.folder, [tmp_path / "other"])["seconds"] >= 100 + float(row["seconds"])


@pytest.mark.parametrize(("keep", "word"), [("last", "val_dice"), ("best", "best val_dice")])
def test_short_training_shows_loss_and_score(tmp_path, cases, capsys, shown, keep, word):
    """Of five iterations; "best" only where the best is kept."""
    train(tmp_path, cases, keep=keep)
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train: ")]
    assert re.fullmatch(rf"train: 5/5 iterations, [0-9.]+/s, 0 s left, loss [0-9.]+, {word} [0-9.]+", line)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_averaged_model_is_kept_with_its_score(tmp_path, cases, keep):
    train(tmp_path, cases, keep=keep)
    card = json.loads((tmp_path / "model.json").read_text())
    scores = {row["iteration"]: float(row["val_dice"]) for row in History(tmp_path / "history.csv").rows}
    wanted = max(scores.values()) if keep == "best" else scores["5"]
    assert card["made_from"] == {"dataset": "d"} and card["model"]["encoder"] == SPEC.encoder
    assert card["scores"]["val_dice"] == pytest.approx(wanted, abs=1e-5)
    assert scores[str(card["scores"]["iteration"])] == pytest.approx(wanted, abs=1e-5)
    summary = summarize_run(tmp_path)
    assert summary["run"] == str(tmp_path) and summary["iterations"] == 5 and summary["val_dice"] == card["scores"]["val_dice"]


@pytest.mark.parametrize(("keep", "kept"), [("best", [1, 2, 5]), ("last", [1, 2, 3, 4, 5])])
def test_best_or_last_is_kept(keep, kept):
    state, seen = TrainingState(torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)], 0.1)), []
    goal = Goal("val_dice", lambda model: {}, lambda model, scores: seen.append(scores["iteration"]))
    for state.iteration, score in enumerate([0.5, 0.7, 0.6, 0.7, 0.8], start=1):
        keep_model(state, goal, {"val_dice": score}, keep)
    assert seen == kept and state.best == 0.8


def test_loss_that_is_not_a_number_ends_the_training(tmp_path, cases):
    options, run = options_of(), run_of(tmp_path)
    state = new_state(run, options)

    def step(model, batch, progress):
        return {"supervised": model(batch[0]).sum() * math.nan}

    with pytest.raises(NothingUsable, match="not finite by iteration 2: loss nan, supervised nan"):
        fit(state, step, [Stream(cases[:-1], lambda case: labeled_sample(case, 2, SIZE), 2)], options, run, goal_of(cases, options, run))
    assert not run.state_file.exists() and not (tmp_path / "model.json").exists()


def test_batch_of_one_small_image_is_a_usage_error(tmp_path, cases):
    with pytest.raises(UsageError, match="--batch-size 1: batch norm"):
        train(tmp_path, cases, batch_size=1)


def test_state_is_loaded_exactly_as_it_was_saved(tmp_path, cases):
    state = train(tmp_path, cases, iterations=2)
    state.best, state.seconds = 0.123456789012345, 9.87
    state.counts.update(mined_images=8, accepted_images=3)
    state.save(tmp_path / "state.safetensors")
    other = new_state(Run(tmp_path, False), options_of(), seed=5)
    other.load(tmp_path / "state.safetensors")
    assert everything(other) == everything(state)
    assert (other.iteration, other.best, other.seconds) == (2, 0.123456789012345, 9.87)
    assert other.counts == {"mined_images": 8, "accepted_images": 3}
    groups = [{name: value for name, value in s.optimizer.param_groups[0].items() if name not in ("params", "lr")} for s in (state, other)]
    assert groups[0] == groups[1]


def test_state_before_the_first_validation_can_be_saved(tmp_path):
    """The best score is then minus infinity, which JSON does not have."""
    state = new_state(Run(tmp_path, False), options_of())
    state.save(tmp_path / "state.safetensors")
    other = new_state(Run(tmp_path, False), options_of(), seed=5)
    other.load(tmp_path / "state.safetensors")
    assert other.best == -math.inf and everything(other) == everything(state)


def test_files_that_are_no_state_of_this_model_are_checkpoint_errors(tmp_path):
    state = new_state(Run(tmp_path, False), options_of())
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"model.a": torch.zeros(1)}, {"state": json.dumps({"iteration": 1, "best": 0, "seconds": 0})})
    with pytest.raises(CheckpointError, match="does not fit"):
        state.load(path)
    save_tensors(path, {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not a training state"):
        state.load(path)
    path.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="state.safetensors"):
        state.load(path)


class Scalar(nn.Module):
    """One weight and one buffer."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.register_buffer("seen", torch.tensor(0))


@pytest.mark.parametrize(
    ("iteration", "decay", "used"),
    [(0, 0.99, 1 / 10), (1, 0.99, 2 / 11), (90, 0.99, 91 / 100), (10_000, 0.99, 0.99), (90, 0.5, 0.5), (90, 0, 0)],
)
def test_average_moves_by_the_decay_and_faster_at_first(iteration, decay, used):
    model = Scalar(1.0)
    state = TrainingState(model, torch.optim.SGD(model.parameters(), lr=0.1), iteration=iteration)
    with torch.no_grad():
        model.weight.fill_(5.0)
        model.seen.fill_(7)
    state.average(decay)
    assert state.averaged.weight.item() == pytest.approx(used * 1 + (1 - used) * 5)
    assert state.averaged.seen.item() == 7 and model.weight.item() == 5
    assert not state.averaged.training and not state.averaged.weight.requires_grad


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (0.0, 1e-3 / (WARM_UP + 1e-3)),
        (WARM_UP / 2, (WARM_UP / 2 + 1e-3) / (WARM_UP + 1e-3)),
        (WARM_UP, 1.0),
        ((1 + WARM_UP) / 2, (1 + LAST_LR) / 2),
        (1.0, LAST_LR),
    ],
)
def test_learning_rate_rises_in_a_line_and_falls_in_a_cosine(progress, share):
    assert cosine(progress) == pytest.approx(share)


def test_learning_rate_has_no_jump_and_one_top():
    rates = [cosine(i / 1000) for i in range(1001)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert max(abs(a - b) for a, b in zip(rates, rates[1:], strict=False)) < 0.03


def test_optimizer_follows_the_cosine(tmp_path, cases):
    rates = []
    options, run = options_of(iterations=4, lr=0.01), run_of(tmp_path)
    state = new_state(run, options)

    def step(model, batch, progress):
        rates.append((progress, state.optimizer.param_groups[0]["lr"]))
        return {"supervised": segmentation_loss(model(batch[0]), *batch[1:])}

    fit(state, step, [Stream(cases[:-1], lambda case: labeled_sample(case, 2, SIZE), 2)], options, run, goal_of(cases, options, run))
    assert rates == [(i / 4, pytest.approx(0.01 * cosine(i / 4))) for i in range(4)]


@pytest.mark.parametrize(
    ("progress", "length", "value"),
    [
        (0.0, 0.4, math.exp(-5)),
        (0.2, 0.4, math.exp(-5 / 4)),
        (0.3, 0.4, math.exp(-5 / 16)),
        (0.4, 0.4, 1.0),
        (0.9, 0.4, 1.0),
        (0.0, 0.0, 1.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_ramp_up_is_the_gaussian_of_the_papers(progress, length, value):
    assert ramp_up(progress, length) == pytest.approx(value)


class Bright(nn.Module):
    """Stands for a Segmenter: class 1 is where it is bright."""

    def __init__(self):
        super().__init__()
        self.spec = SPEC
        self.device = torch.device("cpu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(images[:, :1], 0.4), images[:, :1]], dim=1) * 50


def test_validation_is_the_mean_dice_at_source_size(cases):
    score = validate(Bright(), cases, options_of())["val_dice"]
    assert 0.93 < score <= 1.0


def test_validation_leaves_out_what_cannot_be_measured(tmp_path):
    """A dark image with an empty mask measures nothing; alone it gives 0, beside another it does not count."""
    found = []
    for name, value, share in (("empty", 0, 0), ("half", 1, 24), ("missed", 0, 24)):
        label = np.zeros((48, 48), dtype=np.uint8)
        label[:share] = 1
        Image.fromarray(np.repeat(label[..., None] * np.uint8(255 * value), 3, axis=2)).save(tmp_path / f"{name}.png")
        Image.fromarray(label).save(tmp_path / f"{name}_m.png")
        found.append(Case(name, tmp_path / f"{name}.png", tmp_path / f"{name}_m.png", None, "val", name))
    empty, half, missed = found
    assert validate(Bright(), [empty], options_of())["val_dice"] == 0
    assert validate(Bright(), [empty, half], options_of())["val_dice"] == pytest.approx(1.0, abs=0.05)
    assert validate(Bright(), [half, missed, empty], options_of())["val_dice"] == pytest.approx(0.5, abs=0.03)


def test_validation_measures_each_of_several_classes_that_occurs(tmp_path):
    """Class 1 where it is bright, class 2 nowhere; class 3 is in no mask."""

    class OfFour(Bright):
        def __init__(self):
            super().__init__()
            self.spec = replace(SPEC, classes=("background", "a", "b", "c"))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([super().forward(images), torch.zeros(len(images), 2, *images.shape[2:])], dim=1)

    label = np.zeros((48, 48), dtype=np.uint8)
    label[:24], label[40:] = 1, 2
    Image.fromarray(np.repeat((label == 1)[..., None] * np.uint8(255), 3, axis=2)).save(tmp_path / "i.png")
    Image.fromarray(label).save(tmp_path / "m.png")
    scores = validate(OfFour(), [Case("i", tmp_path / "i.png", tmp_path / "m.png", None, "val", "i")], options_of())
    assert scores == {"val_dice": pytest.approx(0.5, abs=0.03), "val_dice_a": pytest.approx(1, abs=0.05), "val_dice_b": 0}


def test_history_drops_rows_after_the_iteration_it_goes_on_from(tmp_path):
    history = History(tmp_path / "history.csv")
    for i in (2, 4, 6):
        history.add(iteration=i, loss=1 / i)
    assert [row["iteration"] for row in History(tmp_path / "history.csv", until=4).rows] == ["2", "4"]
    assert History(tmp_path / "history.csv", until=0).rows == [] and History(tmp_path / "none.csv", until=3).rows == []


def test_history_takes_a_term_that_comes_later(tmp_path):
    history = History(tmp_path / "history.csv")
    history.add(iteration=1, loss=0.5)
    history.add(iteration=2, loss=0.25, pseudo=0.125)
    assert (tmp_path / "history.csv").read_text() == "iteration,loss,pseudo\n1,0.5,\n2,0.25,0.125\n"


@pytest.mark.parametrize(("asked", "device", "most"), [(None, "cpu", 0), (3, "cpu", 3), (0, "cuda", 0), (None, "cuda", 8)])
def test_workers_are_as_asked_or_none_on_a_cpu(asked, device, most):
    assert choose_workers(asked, torch.device(device)) <= most
    assert asked is None or choose_workers(asked, torch.device(device)) == asked


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("[" * 5000, "cannot be read"),
        ("{}", "missing best, iteration, seconds"),
        ('{"iteration": "1", "best": 0, "seconds": 0}', "iteration is '1'"),
        ('{"iteration": -1, "best": 0, "seconds": 0}', "iteration -1"),
        ('{"iteration": 1, "best": NaN, "seconds": 0}', "best nan"),
        ('{"iteration": 1, "best": [], "seconds": 0}', r"best \[\]"),
        ('{"iteration": 1, "best": 0, "seconds": Infinity}', "seconds is inf"),
        ('{"iteration": 1, "best": 0, "seconds": 0, "steps": 2}', "steps 2 of 1"),
        ('{"iteration": 1, "best": 0, "seconds": 0, "counts": {"loss": 3}}', r"counts \['loss'\]"),
        ('{"iteration": 1, "best": 0, "seconds": 0, "counts": {"images": -3}}', r"counts \['images'\]"),
        ('{"iteration": 1, "best": 0, "seconds": 0}', "lacks what the optimizer keeps"),
    ],
)
def test_header_of_a_state_that_cannot_be_is_named(tmp_path, header, said):
    state = new_state(Run(tmp_path, False), options_of())
    path = tmp_path / "state.safetensors"
    state.save(path)
    save_tensors(path, load_tensors(path), {"state": header})
    with pytest.raises(CheckpointError, match=rf"state\.safetensors.*{said}"):
        state.load(path)


@pytest.mark.parametrize("sums", [torch.ones(3), torch.ones((), dtype=torch.int64)])
def test_losses_of_a_state_that_cannot_be_are_named(tmp_path, sums):
    state, path = new_state(Run(tmp_path, False), options_of()), tmp_path / "state.safetensors"
    state.save(path)
    header = '{"iteration": 0, "best": 0, "seconds": 0}'
    save_tensors(path, load_tensors(path) | {"meter.loss": sums}, {"state": header})
    with pytest.raises(CheckpointError, match="does not fit: meter.loss"):
        state.load(path)


def test_state_beyond_the_end_is_refused(tmp_path):
    run = Run(tmp_path, resumed=True)
    state = new_state(Run(tmp_path, False), options_of())
    for value in state.model.parameters():
        value.grad = torch.zeros_like(value)
    state.optimizer.step()
    state.iteration = 10**9
    run.state_file.parent.mkdir()
    state.save(run.state_file)
    with pytest.raises(CheckpointError, match="is at iteration 1000000000 of"):
        go_on(new_state(Run(tmp_path, False), options_of()), options_of(), run)
