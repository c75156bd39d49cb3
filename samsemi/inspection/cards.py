"""Cards: what a person has to know of a network, or of pseudo-labels, before using them. Only what is known of them stands there.

Markdown, without times, so that the same training gives the same card. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from samsemi.data.dataset import is_dataset
from samsemi.errors import SamsemiError, UsageError
from samsemi.inputs import hash_file
from samsemi.inspection.folders import describe_dataset
from samsemi.inspection.licenses import find_licenses
from samsemi.inspection.made import Facts, table_of
from samsemi.inspection.markdown import code, document, plain, table
from samsemi.inspection.rows import HASH, in_line, with_interval, write_command
from samsemi.inspection.things import DAMAGE, find_place, inspect, name_thing
from samsemi.outputs import write_text
from samsemi.schemas import read_object
from samsemi.training.runs import CARD

COUNTED = ("labeled", "unlabeled", "pseudo_labeled")
"""Numbers of cases in what a run was made from."""
VAL_DICE, INTERVAL = "val_dice", "precision_interval"
"""A score of a run, also with the name of a class behind it; a value of a calibration."""
METRICS = ("dice", "iou", "hd95", "assd", "nsd")
"""Of an evaluation, those that a card shows."""


def write_run_card(run: Path) -> None:
    """Write the card of a run that is whole into its folder, unless it is there; CheckpointError where the run is damaged."""
    if not (run / CARD).exists():
        write_text(run / CARD, card_of_run(run, inspect(run), []))


def make_card(path: Path) -> str:
    """The card of a run, of an adapted SAM or of a store, with the evaluations of it that lie beside it; UsageError for anything else."""
    facts = inspect(path)
    if facts["kind"] == "store" and facts.get("finished"):
        return card_of_store(facts, find_evaluations(path, "store_content", hash_file(path)))
    if facts["kind"] in ("run", "adapted_sam"):
        place = find_place(path)
        run = place.with_suffix(".run") if place.suffix == ".safetensors" else place
        return card_of_run(run, facts, find_evaluations(run, "model", facts.get("weights")))
    raise UsageError(f"--card: {path} is {name_thing(facts)}", "give a run, SAM weights that were adapted, or a finished store")


def card_of_run(run: Path, facts: Facts, evaluations: Sequence[Facts]) -> str:
    """Of a network, or of an adapted SAM."""
    made_from, licenses = table_of(facts.get("made_from")), find_licenses(facts)
    network, classes = table_of(facts.get("network")), in_line(facts.get("classes") or "")
    what = {
        "what": name_thing(facts),
        "SAM": facts.get("sam"),
        "network": network.get("encoder") and f"U-Net++ with encoder {network['encoder']}",
        "networks": network.get("peers") and in_line(network["peers"]),
        "classes": classes,
        "parameters": facts.get("parameters"),
        "SHA-256 of the weights": facts.get("weights"),
    }
    training = {
        "iterations": facts.get("iterations"),
        "state": "" if facts.get("finished") else "not finished",
        **{f"version of {name}": text for name, text in read_versions(run).items() if name in ("samsemi", "torch", "python")},
    }
    return document(
        f"Model card: {plain(name_thing(facts))}",
        {
            "What it is": [rows_of(what)],
            "From what": [rows_of(flatten_source(made_from)), describe_splits(facts)],
            "How it was trained": [code(write_command(facts)) if facts.get("command") else "", rows_of(training)],
            "How good it is": [tabulate_val(facts), *map(tabulate_evaluation, evaluations)],
            "Limits": ["\n".join(f"- {limit}" for limit in limits_of_run(facts, evaluations))],
            "Licenses of the weights that it was made from": [rows_of(licenses) or "It began with random weights, and no SAM taught it."],
        },
    )


def card_of_store(facts: Facts, evaluations: Sequence[Facts]) -> str:
    """Of pseudo-labels."""
    counts = {
        name.replace("_", " "): facts.get(name)
        for name in ("images", "nothing_found", "unreadable", "objects", "accepted", "accepted_images")
    }
    calibration = table_of(facts.get("calibration"))
    judged = table_of(calibration.get("by_class"))
    names = {str(table_of(found).get("class_id")): name for name, found in judged.items()}
    by_class = {names.get(number, number): table_of(found) for number, found in table_of(facts.get("by_class")).items()}
    counted = [[name, found["objects"], found["accepted"], found["images"], in_line(found["rejected"])] for name, found in by_class.items()]
    policy = {name.replace("_", " "): value for name, value in table_of(facts.get("policy")).items()}
    return document(
        "Data card: pseudo-labels",
        {
            "What it is": [rows_of(counts), table(["class", "objects", "accepted", "images", "rejected for"], counted)],
            "From what": [rows_of(flatten_source(table_of(facts.get("made_from"))))],
            "How it was mined": [code(write_command(facts)), "What is accepted unless the reader says otherwise:", rows_of(policy)],
            "How good it is": [*tabulate_calibration(calibration, judged), *map(tabulate_evaluation, evaluations)],
            "Limits": ["\n".join(f"- {limit}" for limit in limits_of_store(facts, calibration, evaluations))],
            "Licenses of the weights that it was made from": [rows_of(find_licenses(facts))],
        },
    )


def rows_of(values: Mapping[str, object]) -> str:
    """A table of two columns, of the values that there are."""
    return table(["", ""], [(name, whole(value)) for name, value in values.items() if value not in (None, "", [], {})])


def whole(value: object) -> str:
    """A value in one line, hashes whole."""
    return value if isinstance(value, str) else in_line(value)


def flatten_source(made_from: Mapping[str, object], above: str = "") -> dict[str, object]:
    """What a thing was made from, without tables within tables; fingerprints and hashes named as such."""
    found: dict[str, object] = {}
    for name, value in made_from.items():
        shown = f"{above}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            found |= flatten_source(value, f"{shown}, ")
        elif name in COUNTED:
            found[f"{shown} cases"] = value
        else:
            found[f"{shown}, SHA-256" if isinstance(value, str) and HASH.fullmatch(value) else shown] = value
    return found


def describe_splits(facts: Facts) -> str:
    """Images, patients and masks of each split, of the data set where it still lies where it was given, unchanged."""
    place, fingerprint = table_of(facts.get("inputs")).get("dataset"), table_of(facts.get("made_from")).get("dataset")
    with suppress(SamsemiError, *DAMAGE):
        if isinstance(place, str) and is_dataset(Path(place)):
            found = describe_dataset(Path(place))
            if found["fingerprint"] == fingerprint:
                splits = table_of(found["splits"])
                rows = [[name, *(table_of(split)[n] for n in ("images", "groups", "masks"))] for name, split in splits.items()]
                return table(["split", "images", "patients", "masks"], rows)
    return ""


def read_versions(run: Path) -> Facts:
    """environment.json of a run, or of the run beside SAM weights."""
    with suppress(SamsemiError, *DAMAGE):
        return read_object(run / "environment.json")
    return {}


def tabulate_val(facts: Facts) -> str:
    """The scores on val that the run itself has measured."""
    scores = [(name.removeprefix("val_").replace("_", " ", 1), f"{value:.3f}") for name, value in scores_on_val(facts).items()]
    return table(["on val", "mean"], scores)


def scores_on_val(facts: Facts) -> dict[str, float]:
    return {name: value for name, value in table_of(facts.get("scores")).items() if name.startswith("val_") and isinstance(value, float)}


def find_evaluations(thing: Path, key: str, identity: object) -> list[Facts]:
    """metrics.json of the folders beside a thing that have measured it, known by its hash; each with the name of its folder."""
    found = []
    for path in sorted(thing.resolve().parent.glob("*/metrics.json")):
        with suppress(SamsemiError, *DAMAGE):
            metrics = read_object(path)
            if identity and table_of(metrics.get("made_from")).get(key) == identity:
                found.append({"name": path.parent.name, **metrics})
    return found


def tabulate_evaluation(metrics: Facts) -> str:
    """Means of each class with their 95 % intervals."""
    by_class = table_of(metrics.get("classes"))
    classes = {**by_class, **({"mean": metrics.get("mean")} if len(by_class) > 1 else {})}
    names = [name for name in METRICS if name in table_of(metrics.get("mean"))]
    rows = [[name, *(mean_of(table_of(found).get(metric)) for metric in names)] for name, found in classes.items()]
    head = f"Evaluation {plain(metrics['name'])}: split {plain(metrics.get('split'))}, {plain(metrics.get('cases'))} cases; "
    return f"{head}distances in {plain(metrics.get('distance_unit'))}.\n\n{table(['class', *names], rows)}"


def mean_of(summary: Any) -> str:
    """'0.812 [0.750, 0.861]', of distances with the number of missed structures; '-' where nothing was measured."""
    found = table_of(summary)
    if found.get("mean") is None:
        return "-"
    missed = f", {found['missed']} missed" if found.get("missed") else ""
    return with_interval(found["mean"], [found.get("low"), found.get("high")]) + missed


def tabulate_calibration(calibration: Facts, judged: Facts) -> list[str]:
    """The precision of what is accepted, estimated where the truth is known."""
    rows = [
        [name, found.get("objects", "-"), found.get("accepted", "-"), with_interval(found.get("precision", "-"), found.get(INTERVAL))]
        for name, found in {**{name: table_of(one) for name, one in judged.items()}, "all": calibration}.items()
        if found
    ]
    cases = in_line(calibration.get("cases") or {})
    head = (
        f"Calibration on the cases of {plain(cases)}; aimed at a precision of {plain(in_line(calibration.get('target_precision', '?')))}."
    )
    return [head, table(["class", "objects", "accepted", "precision, 95 % interval"], rows)] if rows else []


def limits_of_run(facts: Facts, evaluations: Sequence[Facts]) -> list[str]:
    """What follows from how a network was made and measured."""
    size, options = table_of(facts.get("network")).get("size"), table_of(facts.get("options"))
    scores = scores_on_val(facts)
    never = [name.removeprefix(f"{VAL_DICE}_") for name, score in scores.items() if name.startswith(f"{VAL_DICE}_") and not score]
    seen = f"It sees each image resized to {size} x {size} pixels, whatever its shape; what vanishes there it cannot find."
    limits = {
        seen: size,
        "It knows the classes above and no others: whatever else is in an image becomes one of them.": facts.get("classes"),
        f"On val it never found {plain(in_line(never))}.": never,
        "The val cases also chose among its weights (--keep best), so their scores flatter it.": options.get("keep") == "best",
        "Measured on val alone: when this was written, no evaluation of it lay beside it.": scores and not evaluations,
        "Nothing here says that it may be used on patients.": True,
    }
    return [text for text, holds in limits.items() if holds]


def limits_of_store(facts: Facts, calibration: Facts, evaluations: Sequence[Facts]) -> list[str]:
    """What follows from how pseudo-labels were made."""
    fixed = "Nobody has measured how many of the accepted objects are right: they were accepted by fixed thresholds."
    limits = {
        "The labels were made by networks; no person has looked at them.": True,
        fixed: "precision" not in calibration and not evaluations,
        "Its precision was estimated on the cases above; of images unlike these it says nothing.": "precision" in calibration,
        f"{facts.get('unreadable')} images could not be read and have no labels.": facts.get("unreadable"),
        f"In {facts.get('nothing_found')} images nothing was found; that is no proof that nothing is there.": facts.get("nothing_found"),
    }
    return [text for text, holds in limits.items() if holds]
