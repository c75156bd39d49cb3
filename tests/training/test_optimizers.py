import copy
from pathlib import Path

import pytest
import torch
from builders import build_sam, needs_muon
from torch import nn

from samsemi.errors import CheckpointError
from samsemi.training.loop import TrainingState
from samsemi.training.optimizers import WEIGHT_DECAY, CombinedOptimizer, load_optimizer, make_optimizer, make_peer_optimizer


class Mixed(nn.Module):
    """One of each kind of weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 6)
        self.conv = nn.Conv2d(2, 3, 1)
        self.linear = nn.Linear(6, 4)
        self.norm = nn.LayerNorm(4)
        self.last = nn.Linear(4, 2, bias=False)
        self.position = nn.Parameter(torch.randn(5, 4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.linear(self.embed(tokens))) + self.position[tokens]
        return self.last(x).square().mean() + self.conv(torch.ones(1, 2, 1, 1)).square().mean()


MATRICES = ["linear.weight", "last.weight"]


def mixed() -> Mixed:
    torch.manual_seed(0)
    return Mixed()


def steps(model: Mixed, optimizer, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        optimizer.zero_grad(set_to_none=True)
        model(torch.tensor([number % 5, (2 * number + 1) % 5])).backward()
        optimizer.step()


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def names_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    names = {id(value): name for name, value in model.named_parameters()}
    return [names[id(value)] for group in optimizer.param_groups for value in group["params"]]


def test_adamw_is_fused_on_a_cpu_and_learns_the_same():
    one, other = mixed(), mixed()
    optimizer = make_optimizer("adamw", one, 0.1)
    assert all(group["fused"] for group in optimizer.param_groups)
    steps(one, optimizer, 4)
    steps(other, torch.optim.AdamW(other.parameters(), lr=0.1, weight_decay=WEIGHT_DECAY), 4)
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_adamw_takes_all_weights_that_are_not_frozen():
    model = mixed()
    model.embed.requires_grad_(False)
    optimizer = make_optimizer("adamw", model, 0.1)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert names_of(model, optimizer) == [name for name, _ in model.named_parameters() if name != "embed.weight"]
    assert optimizer.defaults["weight_decay"] == WEIGHT_DECAY


@needs_muon
def test_muon_takes_the_matrices_of_linear_layers_and_adamw_the_rest():
    model = mixed()
    muon, adamw = make_optimizer("muon", model, 0.1).parts
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    assert names_of(model, muon) == MATRICES
    assert sorted(names_of(model, muon) + names_of(model, adamw)) == sorted(name for name, _ in model.named_parameters())


@needs_muon
def test_neither_takes_a_frozen_weight():
    model = mixed()
    model.linear.requires_grad_(False)
    muon, adamw = make_optimizer("muon", model, 0.1).parts
    assert names_of(model, muon) == ["last.weight"] and "linear.bias" not in names_of(model, adamw)


@needs_muon
def test_muon_of_a_sam_takes_only_weights_of_linear_layers():
    sam = build_sam(64, 16)
    muon, _ = make_optimizer("muon", sam, 0.1).parts
    linear = {f"{name}.weight" for name, module in sam.named_modules() if isinstance(module, nn.Linear)}
    assert set(names_of(sam, muon)) == linear and len(linear) > 20


@needs_muon
def test_step_of_both_is_the_step_of_each():
    together, apart = mixed(), mixed()
    both = make_optimizer("muon", together, 0.05)
    weights = dict(apart.named_parameters())
    rest = [value for name, value in weights.items() if name not in MATRICES]
    options = {"lr": 0.05, "weight_decay": WEIGHT_DECAY}
    muon = torch.optim.Muon([weights[name] for name in MATRICES], adjust_lr_fn="match_rms_adamw", **options)
    adamw = torch.optim.AdamW(rest, **options)
    before = copy.deepcopy(together)
    steps(together, both, 1)
    apart(torch.tensor([0, 1])).backward()
    muon.step()
    adamw.step()
    assert_same_weights(together, apart)
    assert all(not torch.equal(dict(before.named_parameters())[name], weights[name]) for name in MATRICES)


@needs_muon
def test_both_forget_their_gradients_and_follow_the_learning_rate():
    model = mixed()
    both = make_optimizer("muon", model, 0.05)
    steps(model, both, 1)
    both.zero_grad(set_to_none=True)
    assert all(value.grad is None for value in model.parameters())
    before = copy.deepcopy(model)
    for group in both.param_groups:
        group["lr"] = 0.0
    steps(model, both, 1)
    assert len(both.param_groups) == 2
    assert_same_weights(model, before)


def two_of(model: Mixed) -> CombinedOptimizer:
    """Two that every version of torch has."""
    weights = list(model.parameters())
    return CombinedOptimizer(torch.optim.SGD(weights[:3], lr=0.1, momentum=0.9), torch.optim.AdamW(weights[3:], lr=0.1))


@pytest.mark.parametrize("make", [two_of, pytest.param(lambda model: make_optimizer("muon", model, 0.05), marks=needs_muon)])
def test_both_go_on_from_their_saved_state(make):
    whole, halted = mixed(), mixed()
    steps(whole, make(whole), 5)
    first = make(halted)
    steps(halted, first, 3)
    second, forgetful = copy.deepcopy(halted), copy.deepcopy(halted)
    saved = copy.deepcopy(first.state_dict())
    resumed = make(second)
    resumed.load_state_dict(saved)
    steps(second, resumed, 2, first=3)
    assert_same_weights(second, whole)
    steps(forgetful, make(forgetful), 2, first=3)
    assert not torch.equal(forgetful.linear.weight, whole.linear.weight), "the state matters"


def test_state_of_weights_that_lie_channels_last_goes_on_as_it_was():
    """Files hold tensors in their plain order, and the fused AdamW goes through memory."""

    def step(layer: nn.Module, optimizer, number: int) -> None:
        torch.manual_seed(number)
        layer.weight.grad = torch.randn(5, 3, 3, 3).to(memory_format=torch.channels_last)
        optimizer.step()

    whole = nn.Conv2d(3, 5, 3, bias=False).to(memory_format=torch.channels_last)
    halted, optimizer = copy.deepcopy(whole), make_optimizer("adamw", whole, 0.05)
    first = make_optimizer("adamw", halted, 0.05)
    for number in range(3):
        step(whole, optimizer, number)
        step(halted, first, number)
    kept = {f"0.{name}": value.contiguous() for name, value in first.state_dict()["state"][0].items()}
    resumed = make_optimizer("adamw", halted, 0.05)
    load_optimizer(resumed, kept, "state")
    step(whole, optimizer, 3)
    step(halted, resumed, 3)
    assert_same_weights(halted, whole)


@needs_muon
def test_state_numbers_the_weights_of_the_second_after_those_of_the_first():
    model = mixed()
    both = make_optimizer("muon", model, 0.05)
    assert both.state_dict() == {"state": {}}
    steps(model, both, 1)
    state = both.state_dict()["state"]
    assert sorted(state) == list(range(len(list(model.parameters()))))
    assert ["exp_avg" in state[i] for i in sorted(state)] == [False] * 2 + [True] * (len(state) - 2)


@needs_muon
def test_training_state_with_both_is_loaded_exactly_as_it_was_saved(tmp_path: Path):
    model = mixed()
    model.conv.requires_grad_(False)
    state = TrainingState(model, make_optimizer("muon", model, 0.05))
    steps(model, state.optimizer, 2)
    state.save(tmp_path / "state.safetensors")
    other = mixed()
    other.conv.requires_grad_(False)
    resumed = TrainingState(other, make_optimizer("muon", other, 0.05))
    resumed.load(tmp_path / "state.safetensors")
    for each in (state, resumed):
        steps(each.model, each.optimizer, 2, first=2)
    assert_same_weights(other, model)


def kept_by(optimizer) -> dict[str, torch.Tensor]:
    """What an optimizer keeps, as it stands in a state."""
    return {f"{i}.{name}": value for i, values in optimizer.state_dict()["state"].items() for name, value in values.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.step": None}, "lacks step of optimizer.0"),
        ({"0.exp_avg": torch.zeros(1)}, r"does not fit: optimizer.0.exp_avg \(1,\)"),
        ({"0.step": torch.zeros(2)}, "does not fit: optimizer.0.step"),
        ({"0.exp_avg_sq": torch.tensor(torch.nan)}, "does not fit: optimizer.0.exp_avg_sq"),
        ({"0.step": torch.tensor(torch.inf)}, "does not fit: optimizer.0.step"),
        ({"0.step": torch.tensor(-5.0)}, "does not fit: optimizer.0.step"),
        ({"0.exp_avg_sq": lambda value: -value - 1}, "does not fit: optimizer.0.exp_avg_sq"),
        ({"0.exp_avg": lambda value: value.half()}, "does not fit: optimizer.0.exp_avg"),
        ({"0.momentum_buffer": torch.zeros(1)}, "does not fit: optimizer.0.momentum_buffer"),
        ({"99.step": torch.tensor(1.0)}, "does not fit: optimizer.99.step"),
        ({"-1.step": torch.tensor(1.0)}, "does not fit: optimizer.-1.step"),
        ({"step": torch.tensor(1.0)}, "does not fit: optimizer.step"),
    ],
)
def test_state_that_is_not_that_of_the_optimizer_is_named(change, said):
    model = mixed()
    optimizer = make_optimizer("adamw", model, 0.05)
    steps(model, optimizer, 1)
    whole = kept_by(optimizer)
    load_optimizer(optimizer, whole, "state")
    found = {name: value(whole[name]) if callable(value) else value for name, value in change.items()}
    changed = {name: value for name, value in (whole | found).items() if value is not None}
    with pytest.raises(CheckpointError, match=f"state {said}"):
        load_optimizer(optimizer, changed, "state")
    assert all(torch.equal(value, whole[name]) for name, value in kept_by(optimizer).items())


@pytest.mark.parametrize("name", ["adamw", pytest.param("muon", marks=needs_muon), "sgd"])
def test_every_optimizer_keeps_what_is_expected_of_it(name):
    model = mixed()
    optimizer = make_peer_optimizer("sgd", model, 0.05, None, 0.0) if name == "sgd" else make_optimizer(name, model, 0.05)
    steps(model, optimizer, 1)
    load_optimizer(optimizer, kept_by(optimizer), "state")
    load_optimizer(optimizer, {}, "state")
    assert not kept_by(optimizer)
