"""``samsemi info``: what a thing is, from what, how much and how good; alone, what a bug report needs."""

from collections.abc import Callable, Mapping
from typing import Any

from samsemi import console
from samsemi.inspection.cards import make_card
from samsemi.inspection.rows import as_rows, in_line, with_interval
from samsemi.inspection.things import inspect
from samsemi.options.info import InfoOptions

CARD = "card"
INTERVAL = "precision_interval"


def info(options: InfoOptions) -> dict[str, object]:
    """What there is to know of a path without opening an image or loading torch; without one, of the machine and the SAMs."""
    if options.path is not None:
        return {"path": str(options.path), CARD: make_card(options.path)} if options.card else inspect(options.path)
    from samsemi.inspection.machine import describe_machine  # loads torch

    return describe_machine()


def text(result: Mapping[str, Any]) -> str | None:
    """What is printed in place of all values."""
    return result.get(CARD)


def shown(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The plain values for people: short hashes, options as flags."""
    return as_rows(result) if "kind" in result else result


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """A row per SAM, split, class, or thing in a folder."""
    makers: dict[str, Callable[[Any], console.Table]] = {
        "cost": tabulate_cost,
        "splits": tabulate_splits,
        "by_class": tabulate_classes,
        "things": tabulate_things,
    }
    judged = result.get("calibration", {}).get("by_class")
    named = {**result, "by_class": with_names(result.get("by_class", {}), judged or {})}
    found = [make(named[name]) for name, make in makers.items() if named.get(name)]
    return found + ([tabulate_judged(judged)] if judged else [])


def tabulate_cost(cost: Mapping[str, Any]) -> console.Table:
    rows = [[name, f"{c['parameters'] / 1e6:.1f} M", f"{c['gflops']:.1f}"] for name, c in cost.items()]
    return console.Table("cost of an image with one box", ["SAM", "parameters", "GFLOPs"], rows)


def tabulate_splits(splits: Mapping[str, Any]) -> console.Table:
    names = ("images", "groups", "masks", "hidden_masks")
    rows = [[split, *(str(found[name]) for name in names)] for split, found in splits.items()]
    return console.Table("splits", ["split", "images", "groups", "masks", "hidden masks"], rows)


def with_names(classes: Mapping[str, Any], judged: Mapping[str, Any]) -> dict[str, Any]:
    """The classes of a store by the names that its calibration has for their numbers; stores of before, and of one class, name none."""
    names = {str(found["class_id"]): name for name, found in judged.items() if "class_id" in found}
    return {names.get(number, number): found for number, found in classes.items()}


def tabulate_classes(classes: Mapping[str, Any]) -> console.Table:
    """Counts of each class of a store; why objects are rejected stands last."""
    names = [name for name in ("objects", "accepted", "images") if any(name in found for found in classes.values())]
    reasons = list(dict.fromkeys(reason for found in classes.values() for reason in found.get("rejected", {})))
    rows = [
        [name, *(str(found[n]) for n in names), *(str(found["rejected"].get(reason, 0)) for reason in reasons)]
        for name, found in classes.items()
    ]
    return console.Table("by class; columns after images: rejected for" if reasons else "by class", ["class", *names, *reasons], rows)


def tabulate_judged(classes: Mapping[str, Any]) -> console.Table:
    """The precision of what is accepted of each class, estimated where the truth is known."""
    rows = [
        [
            name,
            *(in_line(found.get(n, "-")) for n in ("objects", "accepted")),
            with_interval(found.get("precision", "-"), found.get(INTERVAL)),
        ]
        for name, found in classes.items()
    ]
    return console.Table("calibration by class", ["class", "objects", "accepted", "precision, 95 % interval"], rows)


def tabulate_things(things: list[Mapping[str, Any]]) -> console.Table:
    """One column, so that no line is left out."""
    width = max(len(thing["path"]) for thing in things)
    rows = [[f"{thing['path']:<{width}}  {'damaged: ' if thing['kind'] == 'damaged' else ''}{thing['summary']}"] for thing in things]
    return console.Table(f"{len(things)} things", ["what is there"], rows)
