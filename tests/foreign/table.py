"""What becomes of every sample, as a table for docs/own_data.md."""

import contextlib
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

from builders import DATA, ROOT, USAGE, Outcome, call
from foreign.formats import SAMPLES as FORMATS
from foreign.layouts import SAMPLES as LAYOUTS
from foreign.world import Sample

PAGE = ROOT / "docs" / "own_data.md"
Outcomes = dict[str, tuple[Sample, Outcome, Path]]
"""Name -> a sample, what became of it, and its folder."""
TABLES = {"layouts": LAYOUTS, "formats": FORMATS}
if find_spec("pydicom") and find_spec("nibabel") and find_spec("highdicom"):  # samsemi[medical]
    from foreign.volumes import SAMPLES as VOLUMES

    TABLES["volumes"] = VOLUMES


def try_sample(sample: Sample, folder: Path) -> Outcome:
    """Draw a sample into an empty folder, and prepare it there into ``data``."""
    sample.draw(folder)
    with contextlib.chdir(folder):
        return call("prepare", *sample.given.split(), "--out", "../data", "--json")


def describe(outcome: Outcome, folder: Path) -> str:
    """What became of a sample in a folder, in a cell of a table."""
    if outcome.code in (USAGE, DATA):
        error, hint = (line.partition(": ")[2] for line in outcome.err.splitlines()[-2:])
        return f"refused: {error}; hint: {hint}".replace(f"{folder}/", "").replace("|", "\\|").replace("<", "&lt;")
    found = outcome.result
    splits = ", ".join(f"{count} {split}" for split, count in found["splits"].items() if count)
    return f"`{found['layout']}`: {splits}; {found['classes'].removeprefix('background, ')}"


def make_table(outcomes: Outcomes) -> str:
    """Markdown."""
    rows = ["| what | such as | `samsemi prepare` | becomes |", "|---|---|---|---|"]
    for sample, outcome, folder in outcomes.values():
        files = " ".join(f"`{name}`" for name in sample.looks.split(", "))
        rows.append(f"| {sample.what} | {files} | `{sample.given}` | {describe(outcome, folder)} |")
    return "\n".join(rows)


def replace_table(page: str, name: str, table: str) -> str:
    """The page with a table between its markers."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda found: f"{found[1]}{table}\n{found[2]}", page, flags=re.DOTALL)


def try_all(samples: list[Sample], place: Path) -> Outcomes:
    """Each in a folder of its own below a place."""
    outcomes = {}
    for number, sample in enumerate(samples):
        folder = place / str(number) / "given"
        folder.mkdir(parents=True)
        outcomes[sample.what] = (sample, try_sample(sample, folder), folder)
    return outcomes


def main() -> None:
    """Remake the tables of the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, samples in TABLES.items():
        with tempfile.TemporaryDirectory() as place:
            page = replace_table(page, name, make_table(try_all(samples, Path(place))))
    PAGE.write_text(page, encoding="utf-8")
