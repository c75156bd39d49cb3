"""Which case is labeled, unlabeled, val or test: dealt by shares, or listed in a file. Groups (patients) stay whole."""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from samsemi.data.images import hash_pixels, is_blank
from samsemi.data.layouts.found import FoundCase
from samsemi.data.manifest import SPLITS, name_lines
from samsemi.errors import DataError, UsageError
from samsemi.inputs import read_rows


def find_group(name: str, pattern: str | None) -> str:
    """The patient in an image's name: the first group of the expression, or all it matches; without one, the name."""
    if pattern is None:
        return name
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise UsageError(f"--groups {pattern}: {error}", "give a Python regular expression") from None
    group = found and (found.group(1) if found.groups() else found.group(0))
    if not group:
        raise DataError(f"--groups {pattern} matches nothing in '{name}'", "give an expression that finds the patient in every name")
    return group


def read_split_file(path: Path) -> dict[str, tuple[str, str | None]]:
    """id -> (split, group or None) of a CSV file with columns id,split and perhaps group."""
    try:
        rows = read_rows(path)
    except (OSError, ValueError) as error:
        raise DataError(f"--split {path}: {error}", "give a readable CSV file") from None
    if not rows or not {"id", "split"} <= set(rows[0]):
        raise DataError(f"--split {path}: needs the columns id,split", "write them in the first line")
    short = [line for line, row in enumerate(rows, start=2) if row["id"] is None or row["split"] is None]
    if short:
        raise DataError(
            f"--split {path} {name_lines(short)}: fewer columns than the first line has", "write an id and a split in every line"
        )
    wrong = sorted({str(row["split"]) for row in rows} - set(SPLITS))
    if wrong:
        raise DataError(f"--split {path}: unknown split '{wrong[0]}'", f"use {', '.join(SPLITS)}")
    listed = {row["id"]: (row["split"], row.get("group") or None) for row in rows}
    if len(listed) < len(rows):
        twice = next(name for name, count in Counter(row["id"] for row in rows).items() if count > 1)
        raise DataError(f"--split {path}: id '{twice}' stands there twice", "remove one")
    return listed


def join_duplicates(cases: Sequence[FoundCase], advance: Callable[[], None] = lambda: None) -> tuple[list[FoundCase], int]:
    """Cases whose groups are joined where they hold the same pixels, so that no split sees another's image; and the number of
    images that came before.

    Images of a single color, as the first slices of many volumes, are nobody's; those that cannot be read are left for ``verify`` to name.
    """
    holder: dict[str, str] = {}
    leader: dict[str, str] = {}
    duplicates = 0

    def find(group: str) -> str:
        while group in leader:
            group = leader[group]
        return group

    for case in cases:
        with suppress(DataError):
            image = case.image.read()
            if not is_blank(image):
                pixels = hash_pixels(image)
                duplicates += pixels in holder
                group, first = find(case.group), find(holder.setdefault(pixels, case.group))
                if group != first:
                    leader[group] = first
        advance()
    return [replace(case, group=find(case.group)) for case in cases], duplicates


def assign_splits(cases: Iterable[FoundCase], wanted: dict[str, float], seed: int, rest: str = "unlabeled") -> list[FoundCase]:
    """Deal whole groups of masked cases to splits: ``wanted`` is the share (or, above 1, the number) of cases per split; where some are
    slices of volumes, the number is one of groups, that is of patients.

    What is left over goes to the split ``rest``; every case without a mask, and its group, becomes unlabeled. DataError where a wanted
    split, or a labeled rest, stays empty.
    """
    cases = list(cases)
    masked = [case for case in cases if case.mask is not None]
    groups = sorted({case.group for case in masked} - {case.group for case in cases if case.mask is None})
    members = Counter(case.group for case in masked)
    queue = deque(groups[i] for i in np.random.default_rng(seed).permutation(len(groups)))
    refuse_too_few(len(masked), len(groups), wanted, rest)
    counted = Counter(groups) if any(case.volume for case in masked) else members
    refuse_too_many(wanted, counted.total(), len(masked))
    split_of: dict[str, str] = {}
    for split, amount in wanted.items():
        size, target, taken = (counted, amount, 0) if amount > 1 else (members, amount * len(masked), 0)
        while queue and taken + size[queue[0]] / 2 <= target and taken < target:
            taken += size[queue[0]]
            split_of[queue.popleft()] = split
        if target > 0 and taken == 0 and queue:
            taken = size[queue[0]]
            split_of[queue.popleft()] = split
        if target > 0 and taken < target / 2:
            raise DataError(
                f"{len(masked)} cases with masks in {len(groups)} groups do not fill --{split} {wanted[split]:g}",
                "give smaller shares, or bring more cases with masks; groups with an image that lacks a mask are unlabeled",
            )
    if rest == "labeled" and not queue:
        raise DataError(
            f"{' and '.join(f'--{split} {amount:g}' for split, amount in wanted.items())} leave none of {len(masked)} cases with masks",
            "give smaller shares or numbers, so that some are labeled",
        )
    split_of |= dict.fromkeys(queue, rest)
    return [replace(case, split=split_of.get(case.group, "unlabeled")) for case in cases]


def refuse_too_many(wanted: dict[str, float], countable: int, masks: int) -> None:
    """DataError where shares and numbers, of what is ``countable``, add up to more than there is."""
    if sum(amount / countable if amount > 1 else amount for amount in wanted.values()) > 1 + 0.5 / masks:
        there = f"{countable} patients or volumes" if countable != masks else f"{masks} cases"
        raise DataError(
            f"{' + '.join(f'--{split} {amount:g}' for split, amount in wanted.items())} is more than the {there} with masks",
            "give smaller shares or numbers; 1 is the share of all of them",
        )


def refuse_too_few(masks: int, groups: int, wanted: dict[str, float], rest: str) -> None:
    """DataError where there are fewer groups than splits that must have one."""
    needed = [split for split, amount in wanted.items() if amount > 0] + (["labeled"] if rest == "labeled" else [])
    if groups < len(needed):
        remedies = ["bring more masks", *(["--test 0 does without test cases"] if wanted.get("test") else [])]
        raise DataError(
            f"{masks} cases with masks, in {groups} groups, are too few for {', '.join(needed)}: each needs a group of its own",
            f"{'; '.join(remedies)}; an image without a mask makes its whole group unlabeled",
        )
