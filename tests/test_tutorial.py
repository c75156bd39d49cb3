"""docs/tutorial.md: its commands run in their order on drawn images, with a smaller network and fewer steps."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from builders import MINING, NETWORK, ROOT, draw_cases, files_in, load_example, read_array, succeed, write_image

from samsemi.data.dataset import read_dataset
from samsemi.options.config import read_defaults

PAGE = ROOT / "docs" / "tutorial.md"
TEXT = PAGE.read_text(encoding="utf-8")
FEW = ("--batch-size", 4, "--lr", 0.01, "--validate-every", 12)
SMALLER = {"warmstart": (*NETWORK, "--iterations", 24, "--validate-every", 12), "finetune": ("--iterations", 12, *FEW), "mine": MINING}
"""What is given besides what the page gives."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    return [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]


def correct_one(review: Path) -> str:
    """What a person does between two commands: another mask for the first case."""
    name = next(iter(json.loads((review / "review.json").read_text())["proposed"]))
    path = review / "masks" / f"{name}.png"
    write_image(path, 1 - read_array(path))
    return name


@pytest.mark.slow
def test_the_tutorial_runs_from_its_folder_to_its_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, (name, (image, mask)) in enumerate(draw_cases(24).items()):
        write_image(tmp_path / "images" / f"{name}.png", image)
        if number < 12:
            write_image(tmp_path / "masks" / f"{name}.png", mask)
    Path("small.toml").write_text(*blocks("toml"))
    (drawn, *calls), corrected, done = commands(), "", []
    assert drawn[1] == "examples/draw_images.py"
    for program, command, *words in calls:
        assert program == "samsemi"
        if "--labels" in words:
            corrected = correct_one(tmp_path / "review")
        succeed(command, *words, *SMALLER.get(command, ()))
        done.append(command)
    assert {"prepare", "check", "warmstart", "mine", "finetune", "eval", "report", "predict"} == set(done)
    assert read_dataset(tmp_path / "data2").cases[corrected].split == "labeled"
    assert len(files_in(tmp_path / "predicted" / "overlays")) == 24 and 0 < len(files_in(tmp_path / "sam.h5.overlays")) <= 12
    assert all(name in (tmp_path / "report.html").read_text() for name in ("eval-warm", "eval-control", "eval-mined"))
    made = {*(path.split("/")[0].removesuffix("*.png") for path in re.findall(r"`([\w.-]+/[\w.*/-]*)`", TEXT))} - {"tutorial"}
    assert made and not [name for name in made if not (tmp_path / name).exists()], "folders that the page names are there"


def test_settings_of_the_page_are_read(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(*blocks("toml"))
    assert read_defaults(file, "warmstart")["iterations"] == 240 and read_defaults(file, "finetune")["iterations"] == 60


def test_images_are_drawn_with_some_masks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["draw_images.py", str(tmp_path), "--images", "6", "--masks", "2"])
    load_example("draw_images").main()
    assert (len(files_in(tmp_path / "images")), len(files_in(tmp_path / "masks"))) == (6, 2)
    assert set(np.unique(read_array(tmp_path / "masks" / "p000_1.png"))) == {0, 255}


def test_pictures_of_the_page_are_small_and_all_shown():
    shown = set(re.findall(r"\]\(tutorial/([\w.]+)\)", TEXT))
    assert shown == files_in(ROOT / "docs" / "tutorial") and len(shown) > 3
    assert all((ROOT / "docs" / "tutorial" / name).stat().st_size < 100_000 for name in shown)
