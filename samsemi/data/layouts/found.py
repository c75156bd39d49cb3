"""What a layout makes of a foreign folder."""

from collections.abc import Sequence
from dataclasses import dataclass

from samsemi.data.dataset import Case


@dataclass(frozen=True)
class Found:
    """Cases whose masks are still foreign files, in no split yet, each a group of its own; and what was noticed on the way."""

    cases: Sequence[Case]
    note: str
    """One line for the user."""
