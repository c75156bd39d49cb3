"""Output folders and files: refused when they exist, replaced when asked, written whole or not at all."""

import os
import shutil
from pathlib import Path

from samsemi.errors import RefusedError


def claim_folder(folder: Path, overwrite: bool, resume: bool = False, mark: str | None = None) -> Path:
    """Make an empty output folder; RefusedError where it holds something and neither option was given.

    ``mark`` is a file that such a folder has: without it, a full folder is not ours and is never emptied.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RefusedError(f"{folder} is a file", "give another --out")
    full = folder.is_dir() and any(folder.iterdir())
    if full and not (overwrite or resume):
        raise RefusedError(f"{folder} exists and is not empty", "give another --out, or --overwrite")
    if full and overwrite:
        if mark is not None and not (folder / mark).exists():
            raise RefusedError(f"{folder} was not made by this command: it has no {mark}", "give another --out, or empty it yourself")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
