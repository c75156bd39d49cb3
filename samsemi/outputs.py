"""Output folders and files: refused when they exist, replaced with --overwrite, written whole or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from samsemi.errors import RefusedError

ROOM = "make room and go on with --resume where there is one, or give another --out"
RIGHTS = "you may not write there: give another --out, or change its permissions"
MOUNTED = "it cannot be moved or replaced (a mounted folder?): give an --out inside it"
HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM), RIGHTS),
    **dict.fromkeys((errno.EBUSY, errno.EXDEV), MOUNTED),
    errno.EROFS: "that disk is read-only: give another --out",
    errno.ENAMETOOLONG: "give a shorter --out",
}
"""What to do where the system refuses to write."""


def refusal(error: OSError) -> RefusedError | None:
    """What the system refused, as a user's error; None where it cannot be one."""
    if error.errno not in HINTS:
        return None
    return RefusedError(f"{error.filename or 'output'}: {os.strerror(error.errno)}", HINTS[error.errno])


@contextmanager
def refused_paths(path: Path) -> Iterator[None]:
    """RefusedError where nothing can be made at a path: in /proc, below a file, too long a name, a circle of links."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        number: int | None = errno.ELOOP if isinstance(error, RuntimeError) else getattr(error, "errno", None)
        reason, hint = str(error), "nothing can be made there: give another --out"
        if number:
            reason, hint = os.strerror(number), HINTS.get(number, hint)
        raise RefusedError(f"{path}: {reason}".replace("\0", "\\0"), hint) from None


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are not there; RefusedError where that cannot be."""
    with refused_paths(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


def try_file(path: Path) -> None:
    """Make the folder of a file, and see that the file could be written; RefusedError where not."""
    make_folder(path.parent)
    with refused_paths(path):
        part_of(path).touch()
        part_of(path).unlink()


def part_of(path: Path) -> Path:
    """The name under which an output is made before it gets its own."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def whole_file(path: Path, sync: bool = True) -> Iterator[Path]:
    """A temporary name to write to, which becomes ``path`` when all is written; after an error nothing is left of it.

    ``sync`` waits until it is on disk, so that it outlives a power cut; too slow for thousands of pictures.
    """
    path = Path(path)
    make_folder(path.parent)
    part = part_of(path)
    try:
        with named_errors(path):
            yield part
            if sync:
                with open(part, "rb") as file:
                    os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """What the system refused in writing a file, as OSError with its name; HDF5 and safetensors give its number in the message alone."""
    try:
        yield
    except Exception as error:
        in_message = re.search(r"(?:errno = |os error )(\d+)", str(error))
        number = getattr(error, "errno", None) or (in_message and int(in_message[1]))
        if not number:
            raise
        raise OSError(number, os.strerror(number), getattr(error, "filename", None) or str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def claim_folder(folder: Path, overwrite: bool, resume: bool, mark: str, inputs: Sequence[Path] = ()) -> Path:
    """An output folder to write into, emptied with ``overwrite``, kept with ``resume``; RefusedError where it holds something else.

    ``mark`` is a file that such outputs have: without it, a full folder is not ours and is never emptied; nor is one
    that holds an input.
    """
    folder = Path(folder)
    refuse_full(folder, overwrite or resume, mark, () if resume else inputs)
    make_folder(folder)
    if overwrite:
        empty_folder(folder)
    return folder


def empty_folder(folder: Path) -> None:
    """Remove all that a folder holds; a folder may be reached by a link, what lies behind links in it stays."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def new_folder(folder: Path, overwrite: bool, mark: str, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """A temporary folder that becomes the output when all went well, and is removed when it did not.

    RefusedError as for ``claim_folder``.
    """
    with refused_paths(folder):
        folder = Path(folder).resolve()
    refuse_full(folder, overwrite, mark, inputs)
    part, old = part_of(folder), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(part, ignore_errors=True)
    with refused_paths(folder):
        part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(part, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_full(folder: Path, allowed: bool, mark: str, inputs: Sequence[Path]) -> None:
    """RefusedError where a file stands, or a folder that is full and may not, or should not, be written to."""
    refuse_file(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not allowed:
        raise RefusedError(f"{folder} exists and is not empty", "give another --out, or --overwrite")
    if not (folder / mark).exists():
        raise RefusedError(f"{folder} was not made by this command: it has no {mark}", "give another --out, or empty it yourself")
    for path in inputs:
        if Path(path).resolve().is_relative_to(folder.resolve()):
            raise RefusedError(f"{folder} holds {path}, which this command reads", "give another --out")


def refuse_file(folder: Path) -> None:
    """RefusedError where the folder, or one above it, is a file."""
    with refused_paths(folder):
        existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not existing.is_dir():
        raise RefusedError(f"{existing} is a file", "give another --out")


def refuse_inside(out: Path, images: Path) -> None:
    """RefusedError where the output lies among the images or masks that are read."""
    with refused_paths(out):
        place = Path(out).resolve()
    if place.is_relative_to(Path(images).resolve()):
        raise RefusedError(f"{out} lies in {images}, whose pictures are read", "give an --out outside of it")


def refuse_changes(before: Mapping[str, object], now: Mapping[str, object], where: str, may_change: Container[str] = ()) -> None:
    """RefusedError naming the options and inputs in which a resumed command differs from the interrupted one."""
    changed = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in sorted(set(before) | set(now))
        if name not in may_change and before.get(name) != now.get(name)
    ]
    if changed:
        raise RefusedError(
            f"{where} cannot be resumed: {'; '.join(changed)}",
            "resume with the same options and inputs, or start anew with another --out or --overwrite",
        )
