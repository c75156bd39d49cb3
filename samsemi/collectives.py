"""What the processes of a command tell each other, by torch.distributed; for a process alone, nothing of it costs anything.

All processes call the same of these functions in the same order. A process that is lost ends the others: with an error here, as soon as
they wait for it, or by the launcher's signal.

A loss that is made of sums over the batch is made of sums over all processes (``summed``). So it is the loss of the whole batch on each,
each process's gradients are those by way of its own images, and their sum (``sum_gradients``) is that of one process with all images.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from samsemi import processes
from samsemi.errors import DeviceError, EndedElsewhere, SamsemiError
from samsemi.offline import need_network

Made = TypeVar("Made")
PATIENCE = timedelta(hours=12)
"""For which one process waits for another, such as for the first to calibrate or to validate."""
MEETING = timedelta(minutes=10)
"""Within which all processes have to be there."""
GONE = ("closed by peer", "reset by peer", "Broken pipe", "imed out", "connect")
"""What gloo says when another process is no longer there."""


def join() -> None:
    """Meet the other processes, once."""
    if dist.is_initialized():
        return
    if processes.meet_elsewhere():
        need_network("a process of another machine", "start all of them on this machine")
    with reachable():
        store, rank, count = next(dist.rendezvous("env://", timeout=MEETING))
        store.set_timeout(PATIENCE)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)


@contextmanager
def reachable() -> Iterator[None]:
    """DeviceError where another process cannot be reached any more."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, dist.DistError) and not any(said in text for said in GONE):
            raise
        raise DeviceError(
            f"another process of this command has ended, or cannot be reached: {text.splitlines()[0]:.200}",
            "see what it says; what is finished is kept: go on with --resume",
        ) from None


def reduce(values: Tensor, how: Any = dist.ReduceOp.SUM) -> None:
    """Reduce a tensor over all processes, in place."""
    join()
    with reachable():
        dist.all_reduce(values, how)


def wait() -> None:
    """Until all processes have come here."""
    any_of(False)


def any_of(flag: bool) -> bool:
    """Whether it is so for any process."""
    if processes.count() == 1:
        return flag
    flags = torch.tensor(int(flag))
    reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def from_first(make: Callable[[], Made]) -> Made:
    """What the first process makes once all have come here, for all of them.

    Its error is raised there; the others end as it does (EndedElsewhere), and say nothing.
    """
    if processes.count() == 1:
        return make()
    wait()
    told: list[Any] = [None, None]
    if processes.is_first():
        try:
            told[0] = make()
        except SamsemiError as error:
            told[1] = error
    with reachable():
        dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    if told[1]:
        raise told[1] if processes.is_first() else EndedElsewhere(told[1])
    return told[0]


def gathered(own: Made) -> list[Made]:
    """What each process gives."""
    found: list[Any] = [own] * processes.count()
    if len(found) > 1:
        join()
        with reachable():
            dist.all_gather_object(found, own)
    return found


@contextmanager
def held_by_first(context: AbstractContextManager[Made]) -> Iterator[Made]:
    """A context, such as a lock or an output folder, that the first process holds for all: left when all are done with it."""
    with ExitStack() as stack:
        yield from_first(lambda: stack.enter_context(context))
        from_first(stack.close)


class Sum(torch.autograd.Function):
    """The sum over all processes; the gradient of the one loss that all have is that of each part."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        total = own.clone()
        reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


def summed(own: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    return own if processes.count() == 1 else Sum.apply(own)


def mean(values: Tensor) -> Tensor:
    """The mean of all elements of a tensor, and of those of the other processes, which have as many."""
    return summed(values.mean()) / processes.count()


def sum_gradients(weights: Iterable[Tensor]) -> None:
    """Make each gradient that of all processes."""
    if processes.count() > 1:
        reduce_together([value.grad for value in weights if value.grad is not None])


def average_buffers(model: nn.Module) -> None:
    """Make running statistics, such as those of batch norm, the mean of all processes'."""
    if processes.count() > 1:
        buffers = [value for value in model.buffers() if value.is_floating_point()]
        reduce_together(buffers)
        for value in buffers:
            value /= processes.count()


def reduce_together(tensors: list[Tensor]) -> None:
    """Sum tensors over all processes, in place: those of a kind at once."""
    for kind in dict.fromkeys(value.dtype for value in tensors):
        own = [value for value in tensors if value.dtype == kind]
        flat = torch.cat([value.flatten() for value in own])
        reduce(flat)
        for value, total in zip(own, flat.split([value.numel() for value in own]), strict=True):
            value.copy_(total.view_as(value))


def shared_model(model: nn.Module) -> nn.Module:
    """A model to train, with what the first process's has to learn, in the same weights; on GPUs its batch norm sees the images of all."""
    if processes.count() == 1:
        return model
    learned = [value for value in model.parameters() if value.requires_grad]
    with reachable():
        for value in (*learned, *model.buffers()):
            dist.broadcast(value.data, src=0)
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if learned[0].device.type == "cuda" else model


def uniform(own: Tensor) -> Tensor:
    """Random numbers in [0, 1), float32, for a tensor of this process's images: drawn for the images of all, in their order."""
    rows = torch.rand(processes.count() * len(own), *own.shape[1:], device=own.device)
    return rows[processes.own_rows(len(own))]


def next_rows(own: Tensor) -> Tensor:
    """For each image the one after it, over all processes; for the last the first. Without a gradient."""
    if processes.count() == 1:
        return own.roll(-1, 0)
    firsts = [torch.empty_like(own[:1]) for _ in range(processes.count())]
    with reachable():
        dist.all_gather(firsts, own[:1].detach().contiguous())
    return torch.cat([own[1:], firsts[(processes.place().rank + 1) % len(firsts)]])
