"""Facts about a thing as a person reads them: short hashes, sizes with units, options as they are typed."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from samsemi.console import format_seconds
from samsemi.inspection.made import known_options, table_of
from samsemi.inspection.things import name_thing

HASH = re.compile(r"[0-9a-f]{64}")
SHORT = 12
"""Digits of a hash that are shown."""
IN_TABLES = ("splits", "by_class", "things")
PLACED = (
    *("kind", "path", "command", "finished", "policy", "intervals", "iterations", "iterations_planned", "seconds"),
    *("options", "scores_before", "scores", "calibration", "bytes", "bytes_of_images", *IN_TABLES),
)
"""Facts that have a row in another place, stand in a table, or are for scripts alone."""
WITH_CARD = ("run", "adapted_sam", "store")
"""Kinds of things that have a card."""
FOR_SCRIPTS = ("by_class", "dice_by_sam_share", "precision_interval")
"""Of a calibration."""


def as_rows(facts: Mapping[str, Any]) -> dict[str, object]:
    """What stands in the list of plain values: what it is, where and in what state, then all else."""
    if facts["kind"] == "folder":
        return {"path": facts["path"]}
    rows: dict[str, object] = {"what": name_thing({**facts}), "path": facts["path"]}
    if facts.get("finished") is not None:
        rows["state"] = "finished" if facts["finished"] else "not finished: --resume goes on"
    rows |= {name: as_text(value) for name, value in facts.items() if name not in PLACED and is_told(value)}
    rows["options"] = as_flags(str(facts.get("command")), facts.get("options") or {})
    if "iterations_planned" in facts:
        rows["iterations"] = f"{facts['iterations']} of {facts['iterations_planned']}, {format_seconds(facts['seconds'])}"
    for name in ("scores_before", "scores"):
        rows[name] = {score: with_interval(value, facts.get("intervals", {}).get(score)) for score, value in facts.get(name, {}).items()}
    rows["calibration"] = show_calibration(facts.get("calibration", {}))
    rows |= {name: as_size(facts[name]) for name in ("bytes", "bytes_of_images") if name in facts}
    if facts["kind"] in WITH_CARD and facts.get("finished"):
        rows["card"] = f"samsemi info {facts['path']} --card"
    return {name: value for name, value in rows.items() if is_told(value)}


def is_told(value: object) -> bool:
    return value not in (None, "", {}, [])


def as_text(value: object) -> object:
    """A plain value, or a table of plain values, one level of which is kept."""
    if isinstance(value, Mapping):
        return {name: in_line(inner) for name, inner in value.items() if is_told(inner)}
    return in_line(value)


def in_line(value: object) -> str:
    """Any value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_line(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(in_line, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return value[:SHORT] if isinstance(value, str) and HASH.fullmatch(value) else str(value)


def as_flags(command: str, options: Mapping[str, object]) -> str:
    """Options as they are typed."""
    known = known_options(command)
    words = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            off = known[name].field.off if name in known else None
            words.append(flag if value else off or f"{flag} off")
        elif value is not None:
            words.append(f"{flag} {value}")
    return " ".join(words)


def write_command(facts: Mapping[str, object]) -> str:
    """The command line that made a thing, without what was left at its default and where it was written."""
    command, given = str(facts.get("command") or ""), {**table_of(facts.get("inputs")), **table_of(facts.get("options"))}
    if not command:
        return ""
    known = known_options(command)
    places = [shlex.quote(str(given.pop(name))) for name, option in known.items() if option.field.argument and name in given]
    return " ".join(part for part in ("samsemi", command, *places, as_flags(command, given)) if part)


def with_interval(value: object, interval: object) -> str:
    """'0.812 [0.750, 0.861]'."""
    return in_line(value) + (f" [{in_line(interval)}]" if isinstance(interval, list) and None not in interval else "")


def show_calibration(calibration: Mapping[str, Any]) -> dict[str, str]:
    """Precision with its interval; how many objects that was fitted to."""
    rows = {name: in_line(value) for name, value in calibration.items() if name not in FOR_SCRIPTS}
    if "precision" in rows:
        rows["precision"] = with_interval(calibration["precision"], calibration.get("precision_interval"))
    return rows


def as_size(count: float) -> str:
    """1234567 -> '1.2 MB'."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
