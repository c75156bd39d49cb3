"""Which image is what: test cases that were never read, development images, and the labels of a seed.

Development was on seed 1 of the evidence before (``deal_before``): a tenth of all but its test cases labels, and of the unlabeled ones
150 to measure on (a quarter of all but the test cases, where that is less). The first 150, and the next, have been that; earlier notes do
not say which they were, and the last would have been as natural. So test cases are now none that were test cases, none of these three
pieces, and none of those labels: a fifth of a set, or what is left. The first piece are the development images.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samsemi.data.images import hash_pixels, read_image

TEST_SHARE, MOST_DEVELOPMENT = 0.2, 150
TEST_SEED = 2026
Split = dict[str, list[str]]
"""Split -> ids."""


class Parts(NamedTuple):
    """A set, dealt once for all seeds: ids."""

    test: list[str]
    development: list[str]
    pool: list[str]
    """All but the test cases: what seeds deal to labels and unlabeled images, the development images among them."""


@lru_cache
def list_ids(images: Path) -> tuple[str, ...]:
    """Of images that are pixel for pixel the same, one is kept."""
    return tuple(sorted({hash_pixels(read_image(path)): path.stem for path in sorted(images.iterdir(), reverse=True)}.values()))


def deal_before(ids: Sequence[str], percent: int, seed: int) -> Split:
    """As the evidence before was dealt: a fifth are test cases, alike for all seeds; a third of the labels, a tenth of all others at most,
    are val."""
    order = np.random.default_rng(0).permutation(ids).tolist()
    tests = round(TEST_SHARE * len(ids))
    rest = np.random.default_rng((seed, 1)).permutation(order[tests:]).tolist()
    labels = round(percent / 100 * len(rest))
    val = min(labels // 3, len(rest) // 10)
    return {"test": order[:tests], "val": rest[:val], "labeled": rest[val:labels], "unlabeled": rest[labels:]}


def deal_parts(ids: Sequence[str]) -> Parts:
    """Test cases among the images that nothing was ever measured on, and that were no labels of seed 1."""
    before = deal_before(ids, percent=10, seed=1)
    count = min(MOST_DEVELOPMENT, (len(ids) - len(before["test"])) // 4)
    unread = sorted(before["unlabeled"][2 * count : -count])
    test = np.random.default_rng(TEST_SEED).permutation(unread)[: round(TEST_SHARE * len(ids))].tolist()
    return Parts(test, before["unlabeled"][:count], sorted(set(ids) - set(test)))


def deal(parts: Parts, labels: int, seed: int, development: bool) -> Split:
    """The split of a seed: so many labels (0: all), every third of them val; those of a smaller number are among those of a larger one.

    For ``development`` the development images are the test cases, and are dealt to nothing else.
    """
    pool = sorted(set(parts.pool) - set(parts.development)) if development else parts.pool
    order = np.random.default_rng((seed, TEST_SEED)).permutation(pool).tolist()
    count = labels or len(order)
    val = order[:count][2::3]
    labeled = [name for name in order[:count] if name not in set(val)]
    return {"test": parts.development if development else parts.test, "val": val, "labeled": labeled, "unlabeled": order[count:]}


def learn_all(split: Mapping[str, list[str]]) -> Split:
    """The split of a training on labeled and val cases together.

    A data set has to have a val case: it is an unlabeled one, or a labeled one where there is none. Nothing is chosen by it, since the
    last weights are kept.
    """
    unlabeled, labels = split["unlabeled"], [*split["labeled"], *split["val"]]
    stand_in, rest = (unlabeled[:1], unlabeled[1:]) if unlabeled else (labels[-1:], [])
    return {"test": split["test"], "val": stand_in, "labeled": labels if unlabeled else labels[:-1], "unlabeled": rest}


def write_split(split: Mapping[str, list[str]], out: Path) -> None:
    """Columns id, split."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split"])
        writer.writerows((name, part) for part, members in split.items() for name in members)
