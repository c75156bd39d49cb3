"""Which optimizer learns what."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from samsemi.errors import CheckpointError
from samsemi.tensors import NO_WEIGHTS

WEIGHT_DECAY = 1e-4
MOMENTUM = 0.9


def make_optimizer(name: str, model: nn.Module, lr: float) -> "torch.optim.Optimizer | CombinedOptimizer":
    """AdamW on all weights that are not frozen; 'muon': Muon on the matrices of linear layers, AdamW on the rest."""
    learned = {key: value for key, value in model.named_parameters() if value.requires_grad}
    if name == "adamw":
        return make_adamw(learned.values(), lr)
    linear = {f"{key}.weight" for key, module in model.named_modules() if isinstance(module, nn.Linear)}
    matrices = [value for key, value in learned.items() if key in linear]
    rest = [value for key, value in learned.items() if key not in linear]
    return CombinedOptimizer(
        torch.optim.Muon(matrices, lr=lr, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        make_adamw(rest, lr),
    )


def make_adamw(weights: Iterable[Tensor], lr: float) -> torch.optim.AdamW:
    """AdamW, on a CPU in one pass over the weights: two to three times faster there than torch's own choice."""
    weights = list(weights)
    return torch.optim.AdamW(weights, lr=lr, weight_decay=WEIGHT_DECAY, fused=all(value.device.type == "cpu" for value in weights) or None)


class CombinedOptimizer:
    """Two optimizers as one: what the training loop needs of an optimizer."""

    def __init__(self, first: "torch.optim.Optimizer | CombinedOptimizer", second: torch.optim.Optimizer):
        self.parts = (first, second)
        self.count = sum(len(group["params"]) for group in first.param_groups)

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Mapping]:
        """'state' as of one optimizer: the parameters of the second are numbered after those of the first."""
        first, second = (part.state_dict()["state"] for part in self.parts)
        return {"state": {**first, **{index + self.count: values for index, values in second.items()}}}

    def load_state_dict(self, saved: Mapping[str, Mapping]) -> None:
        state = saved["state"]
        halves = (
            {index: values for index, values in state.items() if index < self.count},
            {index - self.count: values for index, values in state.items() if index >= self.count},
        )
        for part, values in zip(self.parts, halves, strict=True):
            part.load_state_dict({**part.state_dict(), "state": values})


KEPT = {
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "Adam": {"step", "exp_avg", "exp_avg_sq"},
    "SGD": {"momentum_buffer"},
    "Muon": {"momentum_buffer"},
}
"""What each optimizer keeps of a weight: a number, 'step', or a tensor of its shape."""
NEVER_NEGATIVE = {"step", "exp_avg_sq"}


def load_optimizer(optimizer: "torch.optim.Optimizer | CombinedOptimizer", tensors: Mapping[str, Tensor], source: str) -> None:
    """Continue with what an optimizer kept, by 'NUMBER.NAME'; CheckpointError naming what does not belong to it, lacks or is no number.

    Of weights that have had no gradient it keeps nothing. What is kept of a weight lies in memory as the weight does (channels last
    where it does): the fused AdamW goes through both as they lie.
    """
    state: dict[int, dict[str, Tensor]] = {}
    kept = list(weights_with_kept(optimizer))
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        number = int(index) if index.isdecimal() and len(index) < 9 else len(kept)
        fits = number < len(kept) and key in kept[number][1] and is_kept(value, key, kept[number][0])
        if not fits:
            raise CheckpointError(f"{source} does not fit: optimizer.{name:.60} {tuple(value.shape)}", NO_WEIGHTS)
        state.setdefault(number, {})[key] = value if key == "step" else torch.empty_like(kept[number][0]).copy_(value)
    for number, values in state.items():
        if set(values) != kept[number][1]:
            raise CheckpointError(f"{source} lacks {', '.join(sorted(kept[number][1] - set(values)))} of optimizer.{number}", NO_WEIGHTS)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def is_kept(value: Tensor, key: str, weight: Tensor) -> bool:
    """Whether a tensor can be what is kept of a weight under a name."""
    shape, kind = ((), torch.float32) if key == "step" else (weight.shape, weight.dtype)
    if value.shape != shape or value.dtype != kind or not value.sum(dtype=torch.float32).isfinite():
        return False
    return key not in NEVER_NEGATIVE or not bool((value < 0).any())


def weights_with_kept(optimizer: "torch.optim.Optimizer | CombinedOptimizer") -> Iterator[tuple[Tensor, set[str]]]:
    """Each weight, in the order of its number, and what is kept of it."""
    parts = optimizer.parts if isinstance(optimizer, CombinedOptimizer) else ()
    for part in parts:
        yield from weights_with_kept(part)
    if not parts:
        yield from ((value, KEPT[type(optimizer).__name__]) for group in optimizer.param_groups for value in group["params"])


def make_peer_optimizer(
    name: str, peers: nn.Module, lr: float, teacher: nn.Module | None, teacher_lr: float
) -> "torch.optim.Optimizer | CombinedOptimizer":
    """SGD with momentum for co-trained networks, as published, or AdamW; and, where there is one, Adam for what their teacher learns.

    Source: KnowSAM's code.
    """
    sgd = name == "sgd"
    first = torch.optim.SGD(peers.parameters(), lr, MOMENTUM, weight_decay=WEIGHT_DECAY) if sgd else make_optimizer(name, peers, lr)
    if teacher is None:
        return first
    return CombinedOptimizer(first, torch.optim.Adam((value for value in teacher.parameters() if value.requires_grad), lr=teacher_lr))
