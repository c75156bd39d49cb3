"""Files that appear whole or not at all, the locks under which they are written, and why an output is refused."""

import csv
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from samsemi.errors import RefusedError, SamsemiError
from samsemi.locks import Lock, locked, own_token

ROOM = "make room and go on with --resume where there is one, or give another --out"
RIGHTS = "you may not write there: give another --out, or change its permissions"
MOUNTED = "it cannot be moved or replaced (a mounted folder?): give an --out inside it"
HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM), RIGHTS),
    **dict.fromkeys((errno.EBUSY, errno.EXDEV), MOUNTED),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n), or give fewer --workers"),
    errno.EROFS: "that disk is read-only: give another --out",
    errno.ENAMETOOLONG: "give a shorter --out",
}
"""What to do where the system refuses to write."""
PART, OLD = ".part", ".old"
"""Endings of temporary names: what is being written, and what is being replaced."""


def refusal(error: OSError) -> RefusedError | None:
    """What the system refused, as a user's error; None where it cannot be one."""
    if error.errno not in HINTS:
        return None
    return RefusedError(f"{error.filename or 'output'}: {os.strerror(error.errno)}", HINTS[error.errno])


@contextmanager
def refused_paths(path: Path, hint: str | None = None) -> Iterator[None]:
    """RefusedError where nothing can be made at a path: in /proc, below a file, too long a name, a circle of links; with a hint of its own
    where it is no output."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        number: int | None = errno.ELOOP if isinstance(error, RuntimeError) else getattr(error, "errno", None)
        reason, remedy = str(error), "nothing can be made there: give another --out"
        if number:
            reason, remedy = os.strerror(number), HINTS.get(number, remedy)
        raise RefusedError(f"{path}: {reason}".replace("\0", "\\0"), hint or remedy) from None


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are not there; RefusedError where that cannot be."""
    with refused_paths(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


def try_file(path: Path) -> None:
    """Make the folder of a file, and see that the file could be written; RefusedError where not."""
    make_folder(path.parent)
    with refused_paths(path), temporary_folder(path) as folder:
        (folder / path.name).touch()


def new_name(place: Path, ending: str) -> Path:
    """A name in a folder that nobody can foresee, by which a later command knows whose it was (see ``remove_leftovers``)."""
    return place / f"{name_start(own_token())}{secrets.token_hex(4)}{ending}"


def is_temporary(path: Path) -> bool:
    """Whether a path has a name that ``new_name`` makes: what a command is writing, or was when it was killed."""
    return re.fullmatch(rf"\.samsemi-[0-9a-f]{{16}}-[0-9a-f]{{8}}({re.escape(PART)}|{re.escape(OLD)})", path.name) is not None


def name_start(token: str) -> str:
    """How the temporary names of the process with a token begin."""
    return f".samsemi-{token}-"


@contextmanager
def temporary_folder(output: Path) -> Iterator[Path]:
    """A new folder beside an output, in which nothing of others can stand; removed with all that is still in it."""
    folder = new_name(output.parent, PART)
    with refused_paths(output):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def whole_file(path: Path, sync: bool = True) -> Iterator[Path]:
    """A temporary file to write to, which becomes ``path`` when all is written; after an error nothing is left of it.

    It lies in a new folder of its own, as does whatever a library writes beside it. ``sync`` waits until it is on disk, so that it
    outlives a power cut; too slow for thousands of pictures.
    """
    path = Path(path)
    make_folder(path.parent)
    with named_errors(path), temporary_folder(path) as folder:
        part = folder / path.name
        yield part
        if sync:
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        os.replace(part, path)


@contextmanager
def locked_output(output: Path, break_lock: bool, beside: Sequence[Path] = ()) -> Iterator[Lock]:
    """Hold the lock of an output, whose folder is made; what a killed command has left half-written of it is removed.

    ``beside`` are folders that belong to it. RefusedError where another command writes there.
    """
    make_folder(output.parent)
    with ExitStack() as stack:
        with refused_paths(output):
            lock = stack.enter_context(locked(output, break_lock))
        if lock.previous:
            remove_leftovers(lock.previous.token, output, beside)
        yield lock


def remove_leftovers(token: str, output: Path, beside: Sequence[Path]) -> None:
    """Remove the temporary files and folders of a process that was killed, known by its token; an output that it had put aside to
    replace it, and did not, is put back."""
    start = name_start(token)
    for old in output.parent.glob(f"{start}*{OLD}"):
        if not output.exists():
            old.rename(output)
    own = (path for folder in (output, *beside) if folder.is_dir() for path in folder.rglob(f"{start}*"))
    for path in [*output.parent.glob(f"{start}*"), *own]:
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """What the system refused in writing a file, as OSError with its name, not a temporary one; HDF5 and safetensors give its number in
    the message alone. RefusedError where its folder was removed meanwhile."""
    try:
        yield
    except SamsemiError:
        raise
    except Exception as error:
        in_message = re.search(r"(?:errno = |os error )(\d+)", str(error))
        number = getattr(error, "errno", None) or (in_message and int(in_message[1]))
        if not number:
            raise
        if number == errno.ENOENT and not path.parent.exists():
            raise RefusedError(f"{path.parent} was removed while this command wrote there", "run it again") from None
        name = str(getattr(error, "filename", None) or path)
        raise OSError(number, os.strerror(number), str(path) if PART in name else name) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whose first row names the columns, whole or not at all."""
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def refuse_file(folder: Path) -> None:
    """RefusedError where the folder, or one above it, is a file."""
    with refused_paths(folder):
        existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not existing.is_dir():
        raise RefusedError(f"{existing} is a file", "give another --out")


def resolve(path: Path, hint: str | None = None) -> Path:
    """A path without links; RefusedError as of ``refused_paths`` for a circle of them."""
    with refused_paths(path, hint):
        return Path(path).resolve()


def refuse_taken(out: Path, what: str, is_own: Callable[[Path], bool], replaced: bool, inputs: Sequence[Path] = ()) -> None:
    """RefusedError where a file may not be written: a folder or one of the ``inputs`` stands there, or what is not ``what`` the command
    writes, or anything unless it is ``replaced`` or taken up."""
    refuse_file(out.parent)
    if out.is_dir():
        raise RefusedError(f"{out} is a folder", "give a file name as --out")
    own = resolve(out)
    if any(own == resolve(path, "give the path of a file") for path in inputs):
        raise RefusedError(f"{out} is read by this command", "give another --out")
    if out.exists() and not is_own(out):
        raise RefusedError(f"{out} is not {what}", "give another --out, or remove it yourself")
    if out.exists() and not replaced:
        raise RefusedError(f"{out} exists", "give another --out, or --overwrite")


def refuse_inside(out: Path, images: Path) -> None:
    """RefusedError where the output lies among the images or masks that are read."""
    place = resolve(out)
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
