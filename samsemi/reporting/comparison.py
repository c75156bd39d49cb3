"""Arms against each other: intervals, paired differences of the last to each, and the cases that show them best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samsemi.evaluations import Scores, average_scores, compare_scores, mean_over_classes, summarize_scores
from samsemi.reporting.sources import Evaluation
from samsemi.statistics import LEVEL, holm

Summary = Mapping[str, Any]
"""mean, std, low, high, n."""
KINDS = ("most improved", "most worsened", "best", "median", "worst")


@dataclass(frozen=True)
class Arm:
    """An evaluation, or those of several seeds, with what the table says of it."""

    name: str
    evaluations: Sequence[Evaluation]
    """A seed each."""
    scores: Scores
    """Mean over the seeds."""
    mean: Mapping[str, Summary]
    """By metric."""
    classes: Mapping[str, Mapping[str, Summary]]
    """By class and metric."""
    against: Summary | None = None
    """Paired difference of the last arm to this one in Dice; None of the last, and where the two have not measured the same."""
    p: float | None = None
    """Of that, corrected by Holm's method for all that the last is compared with."""

    @property
    def first(self) -> Evaluation:
        """The one that is pictured."""
        return self.evaluations[0]

    @property
    def told_apart(self) -> bool:
        return self.p is not None and self.p < LEVEL


def make_arms(evaluations: Sequence[Evaluation], seed: int) -> list[Arm]:
    """Every arm, in the order in which they begin, the last compared with each of the others with which it can be."""
    seeds: dict[tuple[str, str], list[Evaluation]] = {}
    for evaluation in evaluations:
        seeds.setdefault((evaluation.arm, "" if evaluation.arm else evaluation.name), []).append(evaluation)
    arms = [summarize(members, seed) for members in seeds.values()]
    arms = [set_against(arm, arms[-1], seed) for arm in arms[:-1]] + arms[-1:]
    tested = [i for i, arm in enumerate(arms) if arm.against and arm.against["p"] is not None]
    corrected = holm([arms[i].against["p"] for i in tested])  # type: ignore[index]
    for i, p in zip(tested, corrected, strict=True):
        arms[i] = replace(arms[i], p=p)
    return arms


def summarize(evaluations: Sequence[Evaluation], seed: int) -> Arm:
    scores, first = [one.scores for one in evaluations], evaluations[0]
    classes = dict.fromkeys(name for one in scores for per_class in one.values() for name in per_class)
    summary = summarize_scores(scores, first.groups, classes, seed)
    return Arm(first.arm or first.name, evaluations, average_scores(scores), summary["mean"], summary["classes"])


def comparable(one: Arm, other: Arm) -> bool:
    """Whether two have measured the same cases of one split; of a data set that one of them does not name it is taken for the same."""
    prints = {str(arm.first.made_from["dataset"]) for arm in (one, other) if "dataset" in arm.first.made_from}
    return one.first.split == other.first.split and len(prints) < 2 and bool(one.scores.keys() & other.scores.keys())


def set_against(arm: Arm, last: Arm, seed: int) -> Arm:
    if not comparable(arm, last) or len(arm.evaluations) != len(last.evaluations):
        return arm
    scores, earlier = ([one.scores for one in both.evaluations] for both in (last, arm))
    return replace(arm, against=compare_scores(scores, earlier, last.first.groups, seed, ("dice",))["dice"])


def dice_of(scores: Scores) -> dict[str, float]:
    """Mean Dice of each case in which a class could be measured."""
    values = {name: mean_over_classes(per_class, "dice") for name, per_class in scores.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def choose_cases(first: Scores, last: Scores, count: int) -> dict[str, str]:
    """At most ``count`` cases and the kind of each, kind by kind: those that changed most from ``first`` to ``last``, and the best,
    median and worst of ``last``. Each kind chooses in turn, none takes what another has."""
    after, before = dice_of(last), dice_of(first)
    ranked = sorted(after, key=lambda name: (after[name], name))
    middle = [ranked[i] for i in sorted(range(len(ranked)), key=lambda i: abs(i - (len(ranked) - 1) / 2))]
    change = {name: after[name] - before[name] for name in ranked if name in before}
    rising = sorted(change, key=lambda name: (-change[name], name))
    better = [name for name in rising if change[name] > 0]
    worse = [name for name in reversed(rising) if change[name] < 0]
    orders = dict(zip(KINDS, (better, worse, ranked[::-1], middle, ranked), strict=True))
    chosen: dict[str, str] = {}
    while len(chosen) < min(count, len(ranked)):
        for kind, order in orders.items():
            name = next((name for name in order if name not in chosen), None)
            if name is not None and len(chosen) < count:
                chosen[name] = kind
    return dict(sorted(chosen.items(), key=lambda pair: KINDS.index(pair[1])))
