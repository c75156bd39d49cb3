"""The run folder: the options of a training, what it was made from, how it went, and all that may stand in it.

config.toml  environment.json  history.csv  model.safetensors  model.json  made_from.json

While it is not finished, ``last/`` holds the exact state to go on from and made_from.json, which moves up at the end.
"""

import csv
import json
import logging
import platform
import tomllib
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import tomli_w

from samsemi import remedies
from samsemi.errors import CheckpointError
from samsemi.folders import Claim, Kind, kept_folder, removed_meanwhile
from samsemi.inputs import read_rows, read_text
from samsemi.options.config import command_name, may_change
from samsemi.options.fields import Options
from samsemi.options.shared import OF_EARLIER, ResumableOptions
from samsemi.outputs import refuse_changes, whole_file, write_text
from samsemi.schemas import need_schema, read_object

LOG = logging.getLogger("samsemi")
SCHEMA = "samsemi.run/1"
CONFIG = "config.toml"
LAST = Path("last")
STATE = LAST / "state.safetensors"
FINISHED = Path("made_from.json")
BEGUN = LAST / FINISHED
"""What a run was made from, with the schema of the folder. Also the marks by which a run folder is known, finished or not; those of
before the schema stood there keep ``last/`` for ever."""
KEPT = LAST / "kept.safetensors"
"""The weights that `adapt` has kept so far."""
CARD = "model_card.md"
"""What a person has to know of the network: samsemi.inspection.cards."""
EVENTS = "tensorboard"
"""Folder of the events of a run, for who asks for them."""
FILES = "|".join(
    (
        r"model\.(safetensors|json)|model_card\.md|teacher\.safetensors|config\.toml|(environment|made_from)\.json|(history|drift)\.csv",
        r"last/(state\.safetensors|kept\.safetensors|made_from\.json)|(out_of_fold|embeddings(\.\d+)?)\.h5|overlays/.+\.png",
        r"stores/\d+\.h5(\.parts/\d+\.h5)?",
        rf"{EVENTS}/events\.out\.tfevents\.[^/]+",
    )
)
"""All that commands write into a run folder, as a regular expression; runs within a run have the same."""
WITHIN = r"((fold-\d+|rounds/\d+)/)*"
RUN = Kind(
    "a run",
    (str(FINISHED), str(BEGUN)),
    rf"{WITHIN}({FILES})",
    earlier=frozenset({"dataset"}),
    begun=rf"{WITHIN}(config\.toml|environment\.json|last/made_from\.json)",
)
PACKAGES = ("samsemi", "torch", "torchvision", "segment-anything", "segmentation-models-pytorch", "numpy", "h5py")


@dataclass(frozen=True)
class Run:
    folder: Path
    resumed: bool
    """True where an earlier state is to be continued."""
    finished: bool = False
    """True where nothing is left to do."""

    @property
    def state_file(self) -> Path:
        return self.folder / STATE

    def need(self) -> None:
        """RefusedError where the folder was removed since it was opened."""
        if not (self.folder / CONFIG).exists():
            raise removed_meanwhile(self.folder)

    def finish(self) -> None:
        """The training is whole: what only a resumption needs is removed."""
        self.need()
        if (self.folder / BEGUN).exists():
            (self.folder / BEGUN).replace(self.folder / FINISHED)
        remove_state(self.folder)


def remove_state(folder: Path) -> None:
    """Remove ``last/``, unless somebody has put something of his own into it."""
    for name in (STATE, KEPT):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        (folder / LAST).rmdir()


def run_folder(out: Path, options: ResumableOptions) -> AbstractContextManager[Path]:
    """The folder to write a run into, alone; at the end it is ``out``. RefusedError as for ``kept_folder``."""
    return kept_folder(Claim.of(out, RUN, options))


def open_run(options: ResumableOptions, made_from: Mapping[str, object], folder: Path) -> Run:
    """Write the options and what a run is made from into its folder; RefusedError where a resumed one differs."""
    config = as_config(options)
    if (folder / CONFIG).exists() or (folder / FINISHED).exists():
        refuse_changes(read_config(folder, command_name(options)), config, str(folder), may_change(type(options)))
        refuse_other_inputs(folder, made_from)
    else:
        write_text(folder / BEGUN, json.dumps({"schema": SCHEMA, **made_from}, indent=2) + "\n")
        write_text(folder / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")
        write_text(folder / CONFIG, tomli_w.dumps({command_name(options): config}))
    run = Run(folder, (folder / STATE).exists(), is_finished(folder))
    if run.finished:
        run.finish()  # where it was interrupted in doing so
        LOG.info(f"{folder} is finished already")
    return run


def is_finished(folder: Path) -> bool:
    """Whether nothing is left to do in a run folder."""
    return (folder / FINISHED).exists()


def mark_of(folder: Path) -> Path:
    """The mark of a run folder, as a path within it."""
    return FINISHED if is_finished(Path(folder)) else BEGUN


def refuse_other_inputs(folder: Path, made_from: Mapping[str, object]) -> None:
    """RefusedError where a run was made from other inputs; one of before the schema is compared in those that it names."""
    path = folder / mark_of(folder)
    before = read_object(path, remedies.RUN)
    if "schema" not in before:
        made_from = {name: value for name, value in made_from.items() if name in before}
    else:
        need_schema(before.pop("schema"), SCHEMA, str(path), "a run folder", "go on with the samsemi that began it")
    refuse_changes(before, made_from, str(folder))


def as_config(options: Options) -> dict[str, object]:
    """Options as plain TOML values; those that are None are left out."""
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    return {name: value for name, value in plain.items() if value is not None and name not in OF_EARLIER}


def read_config(folder: Path, command: str) -> dict[str, object]:
    """The options of a run; CheckpointError where they cannot be read."""
    path = Path(folder) / CONFIG
    try:
        return {**tomllib.loads(read_text(path)).get(command, {})}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})", remedies.RUN) from None


def describe_environment() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "processor": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


class Events(Protocol):
    """Who is told every row of a history."""

    def add(self, iteration: int, row: Mapping[str, float]) -> None: ...


class History:
    """history.csv: a row per validation; on resumption rows after the saved iteration are dropped."""

    def __init__(self, path: Path, until: int | None = None, events: Events | None = None):
        self.path, self.events = path, events
        self.rows = [row for row in self.read() if until is None or int(row["iteration"]) <= until] if path.exists() else []

    def read(self) -> list[dict[str, str]]:
        """The rows; CheckpointError where they are no numbers under names, whole ones of iterations."""
        try:
            rows = read_rows(self.path)
            for row in rows:
                int(row["iteration"]), [float(value) for value in row.values() if value]
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise CheckpointError(f"{self.path} is damaged ({error})", remedies.RUN) from None
        return rows

    def add(self, **row: object) -> None:
        """Append a row and write the file; ``events`` are told its numbers."""
        self.rows.append({name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()})
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with whole_file(self.path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        if self.events:
            numbers = {name: float(value) for name, value in self.rows[-1].items() if name != "iteration"}
            self.events.add(int(self.rows[-1]["iteration"]), numbers)
