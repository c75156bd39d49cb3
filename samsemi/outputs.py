"""Output folders and files: refused when they exist, replaced when asked, written whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from samsemi.errors import RefusedError


def claim_folder(folder: Path, overwrite: bool, resume: bool, mark: str, inputs: Sequence[Path] = ()) -> Path:
    """An output folder to write into, emptied or taken up as told; RefusedError where it holds something else.

    ``mark`` is a file that such outputs have: without it, a full folder is not ours and is never emptied; nor is one
    that holds an input.
    """
    folder = Path(folder)
    if not (resume and folder.is_dir()):
        refuse_full(folder, overwrite, mark, inputs)
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def new_folder(folder: Path, overwrite: bool, mark: str, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """A temporary folder that becomes the output when all went well, and leaves nothing behind when it did not.

    RefusedError as for ``claim_folder``.
    """
    folder = Path(folder).resolve()
    refuse_full(folder, overwrite, mark, inputs)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_full(folder: Path, overwrite: bool, mark: str, inputs: Sequence[Path]) -> None:
    """RefusedError where a file stands, or a folder that is full and may not, or should not, be replaced."""
    refuse_file(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise RefusedError(f"{folder} exists and is not empty", "give another --out, or --overwrite")
    if not (folder / mark).exists():
        raise RefusedError(f"{folder} was not made by this command: it has no {mark}", "give another --out, or empty it yourself")
    for path in inputs:
        if Path(path).resolve().is_relative_to(folder.resolve()):
            raise RefusedError(f"{folder} holds {path}, which this command reads", "give another --out")


def refuse_file(folder: Path) -> None:
    """RefusedError where the folder, or one above it, is a file."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not existing.is_dir():
        raise RefusedError(f"{existing} is a file", "give another --out")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
