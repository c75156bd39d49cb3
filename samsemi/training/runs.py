"""The run folder: what a training was told, what it came from, how it went.

config.toml  environment.json  history.csv  model.safetensors  model.json  last/state.safetensors
"""

import csv
import json
import platform
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tomli_w

from samsemi.options.config import command_name, input_paths, may_change
from samsemi.options.fields import Options
from samsemi.outputs import claim_folder, refuse_changes, whole_file, write_text

CONFIG = "config.toml"
STATE = Path("last") / "state.safetensors"
MADE_FROM = Path("last") / "made_from.json"
"""Also the mark by which a run folder is known."""
PACKAGES = ("samsemi", "torch", "torchvision", "segment-anything", "segmentation-models-pytorch", "numpy", "h5py")


@dataclass(frozen=True)
class Run:
    folder: Path
    resumed: bool
    """True where an earlier state is to be continued."""

    @property
    def state_file(self) -> Path:
        return self.folder / STATE


def open_run(options: Options, made_from: Mapping[str, object], folder: Path | None = None) -> Run:
    """Claim the output folder and write what the run was told and is made from; RefusedError where a resumed one differs."""
    folder = claim_folder(folder or options.out, options.overwrite, options.resume, str(MADE_FROM), input_paths(options))
    config = as_config(options)
    if options.resume and (folder / CONFIG).exists():
        refuse_changes(read_config(folder, command_name(options)), config, str(folder), may_change(type(options)))
        refuse_changes(json.loads((folder / MADE_FROM).read_text(encoding="utf-8")), made_from, str(folder))
    else:
        write_text(folder / MADE_FROM, json.dumps(made_from, indent=2) + "\n")
        write_text(folder / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")
        write_text(folder / CONFIG, tomli_w.dumps({command_name(options): config}))
    return Run(folder, options.resume and (folder / STATE).exists())


def as_config(options: Options) -> dict[str, object]:
    """Options as plain TOML values; those that are None are left out."""
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    return {name: value for name, value in plain.items() if value is not None and name not in ("resume", "overwrite")}


def read_config(folder: Path, command: str) -> dict[str, object]:
    return tomllib.loads((Path(folder) / CONFIG).read_text(encoding="utf-8")).get(command, {})


def describe_environment() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "processor": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


class History:
    """history.csv: a row per validation; on resumption rows after the saved iteration are dropped."""

    def __init__(self, path: Path, until: int | None = None):
        self.path = path
        self.rows = [row for row in self.read() if until is None or int(row["iteration"]) <= until] if path.exists() else []

    def read(self) -> list[dict[str, str]]:
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def add(self, **row: object) -> None:
        """Append a row and write the file."""
        self.rows.append({name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()})
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with whole_file(self.path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
