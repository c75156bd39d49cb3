"""Pictured cases: an image once, and in each panel the lines that somebody has drawn on it, the truth, a network or SAM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from samsemi.data.dataset import Case, Dataset, read_case_image, read_case_label
from samsemi.data.overlays import color_of
from samsemi.metrics import dice_score
from samsemi.mining.composition import region_of, sam_map
from samsemi.mining.pictures import prompting_label
from samsemi.mining.policy import Policy, decide
from samsemi.mining.pseudolabels import trust, weighed_target
from samsemi.mining.scores import REASONS
from samsemi.mining.store import Mined, Store
from samsemi.reporting.networks import Predictor
from samsemi.reporting.outlines import display_size, image_uri, resize_label, shade_uri, trace_label, trace_mask

VEIL = (120, 120, 120)
MARK = 0.018
"""Size of a point's mark, as a share of the image."""
MINED_KINDS = ("accepted, surest", "accepted, in the middle", "accepted, least sure", "nothing accepted")


class Line(NamedTuple):
    """A path on an image, and how it is drawn."""

    path: str
    color: str
    """As in CSS: of a class, or that of a decision."""
    style: str = "mask"
    """The CSS class: mask, rejected (dashed), prompt (not filled)."""


@dataclass(frozen=True)
class View:
    caption: str
    note: str = ""
    lines: Sequence[Line] = ()
    shade: str = ""
    """Data URI of what lies between image and lines."""
    predicted: bool = False
    """Whether the truth can be laid over it."""


@dataclass(frozen=True)
class Picture:
    """A case."""

    name: str
    kind: str
    facts: Sequence[str]
    """Below its name, a line each."""
    height: int
    width: int
    image: str
    """Data URI."""
    panels: Sequence[View]
    truth: Sequence[Line] = ()


def picture_measured(case: Case, kind: str, dataset: Dataset, predictors: Sequence[Predictor]) -> Picture:
    """A case with a mask: image, truth, and each network's prediction with its Dice."""
    image, truth = read_case_image(case), read_case_label(case, case.mask, len(dataset.classes))
    shape = display_size(image.shape[:2])
    lines = draw_label(resize_label(truth, shape))
    panels = [View("image"), View("truth", lines=lines)]
    for predictor in predictors:
        label = predictor.label_of(case, image)
        if label is not None and label.shape == truth.shape:
            dice = dice_score(label, truth, len(dataset.classes))
            note = "" if np.isnan(dice) else f"Dice {dice:.3f}"
            panels.append(View(predictor.name, note, draw_label(resize_label(label, shape)), predicted=True))
    return Picture(case.id, kind, (f"{case.split} case",), *shape, image_uri(image), panels, lines)


def picture_mined(case: Case, kind: str, dataset: Dataset, store: Store, policy: Policy, predictors: Sequence[Predictor]) -> Picture:
    """An unlabeled case: image, the network's mask, prompts, SAM's masks, the pseudo-label with its weights, and predictions."""
    image, mined, points = read_case_image(case), store.read(case.id), store.read_points(case.id)
    decision, shape = decide(mined, policy), display_size(image.shape[:2])
    panels = [
        View("image"),
        View("network that prompts", lines=draw_label(prompting_label(mined, store.num_classes, shape))),
        View("prompts", count_prompts(mined, points), draw_prompts(mined, points, decision, shape)),
        View("SAM's masks", describe_decisions(decision), draw_masks(mined, decision, shape)),
        panel_of_label(mined, policy, store.num_classes, shape),
    ]
    for predictor in predictors:
        label = predictor.label_of(case, image)
        if label is not None:
            panels.append(View(predictor.name, "predicted", draw_label(resize_label(label, shape)), predicted=True))
    return Picture(case.id, kind, describe_objects(mined, policy, decision, dataset.classes), *shape, image_uri(image), panels)


def draw_label(label: np.ndarray) -> list[Line]:
    """The classes of a label map (h, w)."""
    return [Line(path, css_color(class_id)) for class_id, path in trace_label(label)]


def css_color(class_id: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color_of(class_id))


def count_prompts(mined: Mined, points: tuple[np.ndarray, np.ndarray]) -> str:
    """'2 boxes, points: + in, x out'."""
    boxes = f"{len(mined)} box{'es' if len(mined) != 1 else ''}"
    return boxes + (", points: + in, × out" if points[1].size else "")


def draw_prompts(mined: Mined, points: tuple[np.ndarray, np.ndarray], decision: np.ndarray, shape: tuple[int, int]) -> list[Line]:
    """Boxes and points, in the color of the class; dashed where SAM's mask was rejected."""
    scale, reach, lines = shape[0] / mined.image_size[0], MARK * max(shape), []
    for i, box in enumerate(mined.prompt_boxes):
        x0, y0, x1, y1 = scale * (box + np.array([0, 0, 1, 1]))
        marks = [draw_mark(scale * (at + 0.5), reach, bool(label)) for at, label in zip(points[0][i], points[1][i], strict=True)]
        path = f"M{x0:.1f} {y0:.1f}H{x1:.1f}V{y1:.1f}H{x0:.1f}Z"
        color, style = css_color(int(mined.class_id[i])), "prompt rejected" if decision[i] else "prompt"
        lines += [Line(path, color, style), *(Line(mark, color, "prompt") for mark in marks)]
    return lines


def draw_mark(at: np.ndarray, reach: float, positive: bool) -> str:
    """A plus, or a cross, about a point (x, y)."""
    x, y = at
    if positive:
        return f"M{x - reach:.1f} {y:.1f}H{x + reach:.1f}M{x:.1f} {y - reach:.1f}V{y + reach:.1f}"
    r = 0.7 * reach
    return f"M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}L{x + r:.1f} {y - r:.1f}"


def draw_masks(mined: Mined, decision: np.ndarray, shape: tuple[int, int]) -> list[Line]:
    """SAM's mask of each object, dashed where it was rejected."""
    lines = []
    for i in range(len(mined)):
        mask, region = np.zeros(shape, dtype=bool), region_of(mined, i, shape)
        mask[region] = sam_map(mined, i, shape, region) > 0.5
        lines.append(Line(trace_mask(mask), css_color(int(mined.class_id[i])), "mask rejected" if decision[i] else "mask"))
    return [line for line in lines if line.path]


def describe_decisions(decision: np.ndarray) -> str:
    """'1 of 3 accepted; dashed: rejected for agreement'."""
    reasons = ", ".join(dict.fromkeys(REASONS[reason] for reason in decision.tolist() if reason))
    return f"{int((decision == 0).sum())} of {len(decision)} accepted" + (f"; dashed: rejected for {reasons}" if reasons else "")


def panel_of_label(mined: Mined, policy: Policy, num_classes: int, shape: tuple[int, int]) -> View:
    """What a network learns from the image."""
    target, weight = weighed_target(mined, policy, num_classes, shape)
    label = target.argmax(axis=0).astype(np.uint8)
    learned = np.where(weight > 0, label, 0).astype(np.uint8)
    colors = np.array([VEIL, *(color_of(k) for k in range(1, num_classes))])
    note = "stronger: weighs more; gray: hardly or not learned" if weight.any() else "nothing is learned here"
    return View("pseudo-label", note, draw_label(learned), shade_uri(label, weight, colors))


def describe_objects(mined: Mined, policy: Policy, decision: np.ndarray, classes: Sequence[str]) -> list[str]:
    """'polyp: accepted, right with probability 0.83', a line per object."""
    believed = trust(mined, policy)
    what = "right with probability" if policy.quality else "predicted IoU x agreement"
    return [
        f"{classes[mined.class_id[i]]}: {'rejected for ' + REASONS[reason] if reason else 'accepted'}, {what} {believed[i]:.2f}"
        for i, reason in enumerate(decision.tolist())
    ] or ["nothing found, so nothing was prompted"]


def choose_mined(store: Store, policy: Policy, count: int) -> dict[str, str]:
    """At most ``count`` images in which something was found, and the kind of each: by the mean trust in what is accepted the surest, those
    in the middle and the least sure; and those of which nothing is accepted. Each kind has an equal share where there are enough."""
    trusted, rejected = {}, []
    for name in store.ids:
        mined = store.read(name, maps=False)
        accepted = decide(mined, policy) == 0
        if accepted.any():
            trusted[name] = float(trust(mined, policy)[accepted].mean())
        elif len(mined):
            rejected.append(name)
    ranked = sorted(trusted, key=lambda name: (-trusted[name], name))
    refused = spread(rejected, min(len(rejected), max(count // 4, count - len(ranked))))
    shares = [len(part) for part in np.array_split(np.arange(min(len(ranked), count - len(refused))), 3)]
    first, last = ranked[: shares[0]], ranked[len(ranked) - shares[2] :]
    middle = spread(ranked[shares[0] : len(ranked) - shares[2]], shares[1])
    groups: Mapping[str, Sequence[str]] = dict(zip(MINED_KINDS, (first, middle, last, refused), strict=True))
    return {name: kind for kind, names in groups.items() for name in names}


def spread(names: Sequence[str], count: int) -> list[str]:
    """``count`` of some names, evenly over them."""
    return [names[int((i + 0.5) * len(names) / count)] for i in range(count)]
