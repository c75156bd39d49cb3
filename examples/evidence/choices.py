"""What the development images decide, before any test case is read: the number of iterations, and the better label-only arm."""

from pathlib import Path

import numpy as np
from design import DEVELOPMENT_SEEDS, LABELS_ALONE, Preset, Row
from results import read_arm

A_POINT = 0.01


def choose_iterations(results: Path, data: str, preset: Preset) -> int | None:
    """The fewest of the preset's budgets after which labeled-only is within a point of its best, with seed 1; None before all are there."""
    found = {budget: read_arm(results, Row(data, 24, budget).name, "labeled-only").get(1) for budget in preset.budgets}
    dice = {budget: scores.mean("dice") for budget, scores in found.items() if scores}
    if len(dice) < len(preset.budgets):
        return None
    return min(budget for budget in dice if dice[budget] >= max(dice.values()) - A_POINT)


def choose_better(results: Path, data: str, preset: Preset) -> str | None:
    """The label-only arm with the higher mean Dice over DEVELOPMENT_SEEDS, at the preset's iterations; None before all are there."""
    row = Row(data, 24, preset.iterations_of(data)).name
    found = {arm: read_arm(results, row, arm, DEVELOPMENT_SEEDS) for arm in LABELS_ALONE}
    if any(len(seeds) < len(DEVELOPMENT_SEEDS) for seeds in found.values()):
        return None
    return max(found, key=lambda arm: np.mean([scores.mean("dice") for scores in found[arm].values()]))


def undecided(results: Path, data: str, preset: Preset) -> str:
    """Why the test cases of a set may not be read yet; nothing where the preset has what the development images say."""
    if data not in preset.iterations:
        return ""
    iterations, better = choose_iterations(results, data, preset), choose_better(results, data, preset)
    if iterations is None or (iterations == preset.iterations[data] and better is None):
        return f"the development images of {data} are not measured yet"
    if (iterations, better) != (preset.iterations[data], preset.better[data]):
        return f"the development images of {data} say {iterations} iterations, {better or 'another arm'}; the preset has other ones"
    return ""
