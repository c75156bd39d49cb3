"""Slices that come one by one -> whole volumes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from samsemi.data.manifest import Case


def slices_by_volume(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """The slices of each volume, in their order."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        if case.volume is not None and case.slice is not None:
            found.setdefault(case.volume, []).append(case)
    return {name: sorted(slices, key=lambda case: case.slice or 0) for name, slices in found.items()}


def is_gapless(numbers: Sequence[int]) -> bool:
    """Whether rising numbers are all those from the first to the last, once each."""
    return list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))


@dataclass
class Assembly:
    """Collects what is known of each slice, (H, W) arrays, until all slices of a volume are there."""

    wanted: dict[str, set[int]]
    """Volume -> the slices that it has."""
    parts: dict[str, dict[int, tuple[np.ndarray, ...]]] = field(default_factory=dict)

    @classmethod
    def of(cls, cases: Iterable[Case]) -> "Assembly":
        """For the volumes of all cases of a data set."""
        return cls({name: {case.slice or 0 for case in slices} for name, slices in slices_by_volume(cases).items()})

    def add(self, case: Case, *slices: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """The slices of a case; where its volume is whole with them each as (D, H, W), and they are forgotten. A volume of which slices
        are missing between others, or of several sizes, is never whole."""
        if case.volume is None or case.slice is None:
            return None
        parts = self.parts.setdefault(case.volume, {})
        parts[case.slice] = slices
        if parts.keys() != self.wanted[case.volume]:
            return None
        del self.parts[case.volume]
        ordered = [parts[number] for number in sorted(parts)]
        if not is_gapless(sorted(parts)) or len({part[0].shape for part in ordered}) > 1:
            return None
        return tuple(np.stack(kind) for kind in zip(*ordered, strict=True))
