"""TensorBoard, for who asks for it: what history.csv holds, as it is written. Needs the extra ``track``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from samsemi.training.runs import EVENTS, Events


class TensorBoard:
    """Scalars in RUN/tensorboard; those after ``iteration``, of a training that goes on from there, are given again."""

    def __init__(self, run: Path, iteration: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run / EVENTS), purge_step=iteration + 1)

    def add(self, iteration: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self.writer.add_scalar(name, value, iteration)
        self.writer.flush()


@contextmanager
def open_events(run: Path, wanted: bool, iteration: int) -> Iterator[Events | None]:
    """TensorBoard where it is wanted."""
    if not wanted:
        yield None
        return
    events = TensorBoard(run, iteration)
    try:
        yield events
    finally:
        events.writer.close()
