"""What ``samsemi adapt --evaluate`` shows of its result: how the SAM sees the image beside how it is prompted."""

from collections.abc import Mapping, Sequence
from typing import Any

from samsemi.adaptation.prompted import JUDGED_BY
from samsemi.console import Table

PROMPTS = {
    "box": "box",
    "jittered_box": "jittered",
    "point": "point",
    "box_point": "jittered+point",
    "model_box": "model's box",
    "model_box_point": "+point",
}
"""Heads of the columns, by the name of the score."""
SHAPES = {
    "ellipse": {"box": "ellipse", "jittered_box": "jittered_ellipse"},
    "full box": {"box": "full_box"},
    "model's own mask": {"model_box": "model_mask"},
}
"""Rows of what is no mask of the SAM: for each column the name of the score."""


def tabulate_measured(result: Mapping[str, Any]) -> list[Table]:
    """IoU by prompt and by what the SAM sees; the same of each class, where there are several; the probe."""
    by_class = result.get("by_class", {})
    title = f"mean IoU of {result['objects']} objects in {result['images']} images of {result['split']}"
    return [
        tabulate_scores(title, {"": result}),
        *([tabulate_scores("by class", {f"{name}: ": scores for name, scores in by_class.items()})] if by_class else []),
        *([tabulate_probe(result)] if "probe" in result else []),
    ]


def tabulate_scores(title: str, groups: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each way to see the image and for each plain shape, of each group of scores; their names begin with the group's."""
    shown = {f"{group}{name}": score_row(scores, keys) for group, scores in groups.items() for name, keys in rows_of(scores).items()}
    columns = [prompt for prompt in PROMPTS if any(prompt in row for row in shown.values())]
    rows = [[name, *(row.get(prompt, "") for prompt in columns)] for name, row in shown.items()]
    keys = {key for scores in groups.values() for names in rows_of(scores).values() for key in names.values()}
    return Table(title, ["", *(PROMPTS[prompt] for prompt in columns)], rows, keys)


def rows_of(scores: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Names of rows, and of their scores by column, the whole image first; without those of which there is no score."""
    zooms = dict.fromkeys(key.partition("_zoom_")[2] for key in scores if "_zoom_" in key)
    rows = {"whole image": {prompt: prompt for prompt in JUDGED_BY}}
    rows |= {f"crop of {factor} x the box": {prompt: f"{prompt}_zoom_{factor}" for prompt in JUDGED_BY} for factor in zooms}
    return {name: keys for name, keys in {**rows, **SHAPES}.items() if any(key in scores for key in keys.values())}


def score_row(scores: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, str]:
    return {prompt: f"{scores[key]:.3f}" for prompt, key in keys.items() if key in scores}


def tabulate_probe(result: Mapping[str, Any]) -> Table:
    """A row per class: AUC of the probe, and that of the same SAM with random weights where there is one."""
    images = result["probe_images"]
    title = (
        f"AUC by ridge regression on the image embedding: fitted to {images['labeled']} labeled images, measured on {images['measured']}"
    )
    names = {"auc": "AUC", "random_auc": "with random weights"}
    columns = [name for name in names if any(name in found for found in result["probe"].values())]
    rows: Sequence[Sequence[str]] = [[name, *(f"{found[column]:.3f}" for column in columns)] for name, found in result["probe"].items()]
    return Table(title, ["class", *(names[column] for column in columns)], rows, {"probe_images"})
