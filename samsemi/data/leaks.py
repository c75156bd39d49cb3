"""Which splits may share a patient, and which would know what they measure. Needs nothing of a data set but names."""

from collections import defaultdict
from collections.abc import Iterable

RANKS = {"labeled": 0, "unlabeled": 0, "val": 1, "test": 2}
"""An image must not be seen in a split of a lower rank: those of rank 0 are trained on, the others measure."""


def splits_by_group(places: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The splits in which each group (patient) stands, from the group and the split of each case."""
    found: dict[str, set[str]] = defaultdict(set)
    for group, split in places:
        found[group].add(split)
    return found


def leaks(splits: Iterable[str]) -> bool:
    """Whether what stands in all of these splits is seen before it measures."""
    return len({RANKS[split] for split in splits}) > 1
