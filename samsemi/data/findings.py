"""What can be found wrong with a data set, kind by kind, and how it is shown."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from samsemi.console import Table
from samsemi.data.manifest import SPLITS
from samsemi.errors import DataError, ProblemsFound, TruncatedFile, WrongValues

log = logging.getLogger("samsemi")

SHOWN = 5
"""Findings of a kind that people see one by one; of more they see a count and the first names."""


@dataclass(frozen=True)
class Flaw:
    """A kind of finding."""

    title: str
    hint: str
    is_problem: bool = True
    """False for a warning, with which a data set is still sound."""


REPAIR = "repair or restore the file, or prepare the data set again without it"
KINDS = {
    "manifest": Flaw("lines of manifest.csv that cannot be", "repair the line, or prepare the data set again"),
    "missing_split": Flaw("splits without cases", "prepare the data set again with larger shares, or more cases with masks"),
    "unreadable": Flaw("files that cannot be read", REPAIR),
    "truncated": Flaw("files that are damaged or cut off", REPAIR),
    "other_size": Flaw("masks of another size than their image", "export image and mask in one size, then prepare the data set again"),
    "unexpected_values": Flaw("files with unexpected values", "write class indices, or let `samsemi prepare` convert the masks"),
    "changed": Flaw("files that have changed", "restore the file, or prepare the data set again and make anew what came from it"),
    "duplicate": Flaw("images in val or test and in another split", "put all copies into one split, or keep one of them"),
    "group_in_two_splits": Flaw("groups in val or test and in another split", "put the whole group into one split"),
    "missing_class": Flaw("classes without a mask", "give larger shares, another --seed or --split, or leave the class out"),
    "near_duplicate": Flaw(
        "images in val or test that look like one in another split",
        "look at them; frames, slices and copies belong into one split: prepare with --groups or --split",
        is_problem=False,
    ),
    "labeled_and_unlabeled": Flaw(
        "groups or images that are labeled and unlabeled",
        "no leak, since neither measures; but new patients may be harder than these unlabeled images",
        is_problem=False,
    ),
    "empty_mask": Flaw("masks without any class", "right where there is nothing to see; else export them again", is_problem=False),
    "blank_image": Flaw("images of a single color", "export them again, or leave them out", is_problem=False),
}
"""By the name that --json gives."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    kind: str
    """A key of KINDS."""
    names: tuple[str, ...]
    """What it is about: ids of cases, a group, a class."""
    text: str
    remedy: str = ""
    """What to do where it is more than the hint of its kind."""

    @property
    def is_problem(self) -> bool:
        return KINDS[self.kind].is_problem

    @property
    def hint(self) -> str:
        return self.remedy or KINDS[self.kind].hint

    def as_json(self) -> dict[str, object]:
        severity = "problem" if self.is_problem else "warning"
        return {"kind": self.kind, "severity": severity, "names": list(self.names), "text": self.text, "hint": self.hint}


def finding_of(name: str, error: DataError) -> Finding:
    """What an error says about a file of the case ``name``."""
    kinds = {TruncatedFile: "truncated", WrongValues: "unexpected_values"}
    return Finding(kinds.get(type(error), "unreadable"), (name,), error.message, error.hint)


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings in the order of KINDS."""
    found = defaultdict(list)
    for finding in findings:
        found[finding.kind].append(finding)
    return {kind: found[kind] for kind in KINDS if kind in found}


def describe(findings: Iterable[Finding]) -> Iterator[str]:
    """Lines for people: each finding of a kind that has few, else their number and the first names."""
    for kind, found in by_kind(findings).items():
        if len(found) <= SHOWN:
            yield from (finding.text for finding in found)
        else:
            yield f"{len(found)} {KINDS[kind].title}: {first_names(found)}; the first: {found[0].text}"
        if not KINDS[kind].is_problem:
            yield KINDS[kind].hint


def first_names(findings: Sequence[Finding]) -> str:
    names = [" ~ ".join(finding.names) for finding in findings[:SHOWN]]
    return ", ".join(names) + (", ..." if len(findings) > SHOWN else "")


def warn(findings: Iterable[Finding]) -> None:
    """Log findings for people."""
    for line in describe(findings):
        log.warning("%s", line)


def refuse_problems(where: str, problems: Sequence[Finding], hint: str, result: dict[str, object] | None = None) -> None:
    """ProblemsFound with ``result`` where there are any, after they were logged; a single one stands in the error itself."""
    if not problems:
        return
    if len(problems) == 1:
        text = problems[0].text
        raise ProblemsFound(text if text.startswith(where) else f"{where}: {text}", problems[0].hint, result)
    warn(problems)
    raise ProblemsFound(f"{where}: {len(problems)} problems, the first: {problems[0].text}", hint, result)


def class_table(cases: Mapping[str, Mapping[str, int]]) -> Table:
    """How many masks of each split hold each class."""
    rows = [(name, *(str(counts[split]) for split in SPLITS)) for name, counts in cases.items()]
    return Table("masks that hold the class", ("class", *SPLITS), rows)
