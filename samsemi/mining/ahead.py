"""Files are read and decoded in threads while a GPU computes: decoders and hashes leave Python's lock to others."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Read = TypeVar("Read")
BATCHES = 3
"""Read ahead of a GPU."""


def batches_ahead(device: torch.device) -> int:
    """How many to read ahead; none on a CPU, which has nothing to wait for."""
    return BATCHES if device.type == "cuda" else 0


def read_ahead(read: Callable[[Given], Read], batches: Iterable[Given], ahead: int) -> Iterator[Read]:
    """What is read of each batch, in their order; up to ``ahead`` of them at once, before they are asked for."""
    if not ahead:
        yield from map(read, batches)
        return
    pool = ThreadPoolExecutor(ahead, thread_name_prefix="read ahead")
    try:
        waiting: deque = deque()
        for batch in batches:
            waiting.append(pool.submit(read, batch))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
