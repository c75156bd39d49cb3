"""Output folders and files: refused when they exist, replaced when asked, written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samsemi.errors import RefusedError


def claim_folder(folder: Path, overwrite: bool, resume: bool, mark: str) -> Path:
    """An output folder to write into, emptied or taken up as told; RefusedError where it holds something else.

    ``mark`` is a file that such outputs have: without it, a full folder is not ours and is never emptied.
    """
    folder = Path(folder)
    if not (resume and folder.is_dir()):
        refuse_full(folder, overwrite, mark)
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def new_folder(folder: Path, overwrite: bool, mark: str) -> Iterator[Path]:
    """A temporary folder that becomes the output when all went well, and leaves nothing behind when it did not.

    ``mark`` is a file that such outputs have; RefusedError as for ``claim_folder``.
    """
    folder = Path(folder).resolve()
    refuse_full(folder, overwrite, mark)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_full(folder: Path, overwrite: bool, mark: str) -> None:
    """RefusedError where a file stands, or a folder that is full and may not, or should not, be replaced."""
    if folder.exists() and not folder.is_dir():
        raise RefusedError(f"{folder} is a file", "give another --out")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise RefusedError(f"{folder} exists and is not empty", "give another --out, or --overwrite")
    if not (folder / mark).exists():
        raise RefusedError(f"{folder} was not made by this command: it has no {mark}", "give another --out, or empty it yourself")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
