"""Output folders: known by what stands in them, never emptied of what samsemi has not made, replaced when the new one is whole."""

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from samsemi.errors import RefusedError
from samsemi.inputs import need_regular
from samsemi.locks import INSIDE, Lock, remove_stale
from samsemi.options.config import input_paths
from samsemi.options.shared import OutputOptions, ResumableOptions
from samsemi.outputs import OLD, locked_output, make_folder, new_name, refuse_file, refused_paths, remove, temporary_folder

PICTURE_MARK = b"Software\0samsemi"
"""Text in the header of every picture that is written here."""
ARCHIVE_MARK = b"written by samsemi"
"""Comment of every .npz archive that is written here: its last bytes."""
VOLUME_MARK = b"samsemi"
"""In the description of a NIfTI file, and as the manufacturer in a DICOM file."""
HEADER = 2048
"""Bytes of a picture or volume in which its mark stands."""
AWAY = "move it away, or give another --out"


@dataclass(frozen=True)
class Kind:
    """How the output folders of a command are known."""

    name: str
    marks: tuple[str, ...]
    """JSON files of which one says what the folder is, by a schema that begins with ``samsemi.``."""
    files: str
    """Regular expression of the paths of all that is in it."""
    earlier: frozenset[str] = frozenset()
    """Keys of the mark, as it was before it named a schema."""
    listed: Callable[[Path], frozenset[str]] | None = None
    """Further paths, which the folder itself lists."""
    begun: str = ""
    """Regular expression of those that are written before any work: a command that fails with these alone leaves nothing."""

    def is_ours(self, folder: Path, damaged: bool = False) -> bool:
        """Whether the mark stands in a folder; with ``damaged`` also one that cannot be read, which whoever reads it will say."""
        return any(self.is_mark(folder / name, damaged) for name in self.marks)

    def is_mark(self, path: Path, damaged: bool) -> bool:
        try:
            need_regular(path)
            found = json.loads(path.read_bytes())
        except OSError:
            return False
        except (ValueError, RecursionError):
            return damaged
        if not isinstance(found, dict):
            return damaged
        return str(found["schema"]).startswith("samsemi.") if "schema" in found else bool(self.earlier) and self.earlier <= found.keys()

    def is_begun(self, folder: Path) -> bool:
        """Whether nothing of worth is in a folder yet."""
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() and path.name != INSIDE)
        return all(re.fullmatch(self.begun, name) for name in names)

    def find_foreign(self, folder: Path) -> Path | None:
        """The first file in a folder of this kind that samsemi has not made."""
        listed = self.listed(folder) if self.listed else frozenset()
        for path in files_below(folder):
            name = path.relative_to(folder).as_posix()
            if name not in listed and not (re.fullmatch(self.files, name) and has_mark(path)):
                return path
        return None


def files_below(folder: Path) -> Iterator[Path]:
    """All files and links below a folder, but locks; links are not followed. RefusedError for a lock that is held."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(place) / name
            if name == INSIDE:
                continue
            if re.fullmatch(r"\..+\.lock", name):
                remove_stale(path.with_name(name[1 : -len(".lock")]), path, break_lock=False)
                continue
            yield path


def has_mark(path: Path) -> bool:
    """False for a picture, a volume, an archive or an HDF5 file without the mark that is written into every one here, for a link, and for
    no plain file."""
    if path.is_symlink() or not path.is_file():
        return False
    if path.suffix == ".png":
        with open(path, "rb") as file:
            return PICTURE_MARK in file.read(HEADER)
    if path.suffix == ".npz":
        with open(path, "rb") as file:
            file.seek(-min(len(ARCHIVE_MARK), path.stat().st_size), os.SEEK_END)
            return file.read() == ARCHIVE_MARK
    if path.name.endswith((".nii.gz", ".dcm")):
        try:
            with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
                return VOLUME_MARK in file.read(HEADER)
        except (OSError, EOFError, zlib.error):
            return False
    return path.suffix != ".h5" or schema_of(path).startswith("samsemi.")


def schema_of(path: Path) -> str:
    """The schema that an HDF5 file names; '' where it names none, or is none."""
    try:
        need_regular(path)
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("schema", ""))
    except (OSError, RuntimeError, ValueError):
        return ""


@dataclass(frozen=True)
class Claim:
    """What a command is to do about its output."""

    out: Path
    kind: Kind
    overwrite: bool = False
    resume: bool = False
    break_lock: bool = False
    inputs: Sequence[Path] = ()
    """What it reads, which must not be removed."""

    @classmethod
    def of(cls, out: Path, kind: Kind, options: OutputOptions) -> "Claim":
        """An output of a command with these options."""
        resume = isinstance(options, ResumableOptions) and options.resume
        return cls(out, kind, options.overwrite, resume, options.break_lock, input_paths(options))


def find_out(out: Path) -> Path:
    """The folder that is meant, behind links, below the present one where it is given so; RefusedError where it, or one above it, is a file
    or cannot be, or where it holds the present one."""
    refuse_file(out)
    with refused_paths(out):
        found, here = Path(out).resolve(), Path.cwd()
    if found in here.parents:
        raise RefusedError(f"{out} holds the present folder", "give another --out")
    if Path(out).is_absolute() or found == here or not found.is_relative_to(here):
        return found
    return found.relative_to(here)


@contextmanager
def new_folder(claim: Claim) -> Iterator[Path]:
    """A temporary folder that becomes the output when all went well, and is removed when it did not.

    RefusedError where something else stands at the output, or another command writes there.
    """
    folder = find_out(claim.out)
    need_movable(folder)
    with locked_output(folder, claim.break_lock) as lock:
        if is_full(folder):
            need_replaceable(folder, replace(claim, overwrite=claim.overwrite or lock.was_made(folder)))
        with temporary_folder(folder) as part:
            lock.note_made(part)
            with unmoved(part), named_within(part, folder):
                yield part
            swap(part, folder, claim.kind, lock)


@contextmanager
def named_within(part: Path, folder: Path) -> Iterator[None]:
    """OSError names what it is about as it would be called in ``folder``, for which ``part`` is written; ``folder`` where it names
    nothing."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or part)
        if Path(name).is_relative_to(part):
            error.filename = str(folder / Path(name).relative_to(part))
        raise


@contextmanager
def kept_folder(claim: Claim) -> Iterator[Path]:
    """The output folder to write into, which can be watched, and taken up with ``resume``.

    One that is to be replaced stays until the new one, ``.NAME.new`` beside it, is whole and takes its place; ``resume`` goes on there.
    RefusedError as for ``new_folder``, and where the folder was removed meanwhile.
    """
    folder = find_out(claim.out)
    new = folder.with_name(f".{folder.name}.new")
    with locked_output(folder, claim.break_lock, [new]) as lock:
        place = choose_place(folder, new, claim)
        need_no_links(place)
        made = not place.exists()
        make_folder(place)
        try:
            with unmoved(place):
                yield place
        except BaseException:
            if made and claim.kind.is_begun(place):
                remove(place)
            raise
        if place == new:
            swap(new, folder, claim.kind, lock)


def choose_place(folder: Path, new: Path, claim: Claim) -> Path:
    """Where to write: ``new`` where ``folder`` is to be replaced, or was being replaced when it was interrupted."""
    if new.is_symlink() or new.is_file():
        raise RefusedError(f"{new} is no folder of this command, and is not removed", AWAY)
    if claim.resume:
        place = new if is_full(new) else folder
        if is_full(place):
            need_own(place, claim.kind, damaged=True)
        return place
    if is_full(folder):
        need_replaceable(folder, claim)
    if is_full(new):
        need_own(new, claim.kind)
        need_known(new, claim.kind)
    remove(new)
    return new if is_full(folder) else folder


def need_no_links(folder: Path) -> None:
    """RefusedError for a link to a folder in a folder: what is written there would land elsewhere."""
    leading = next((path for path in folder.rglob("*") if path.is_symlink() and path.is_dir()), None) if folder.is_dir() else None
    if leading:
        raise RefusedError(f"{leading} is a link to another folder, into which nothing is written", AWAY)


def is_full(folder: Path) -> bool:
    """Whether there is anything but folders in a folder."""
    return folder.is_dir() and next((True for path in folder.rglob("*") if path.name != INSIDE and not path.is_dir()), False)


def need_replaceable(folder: Path, claim: Claim) -> None:
    """RefusedError unless a full folder may be replaced: told so, all of it made by this command, and nothing of it read by it."""
    if not claim.overwrite:
        raise RefusedError(f"{folder} exists and is not empty", "give another --out, or --overwrite")
    need_own(folder, claim.kind)
    for path in claim.inputs:
        if Path(path).resolve().is_relative_to(folder.resolve()):
            raise RefusedError(f"{folder} holds {path}, which this command reads", "give another --out")
    need_known(folder, claim.kind)
    need_movable(folder)


def need_movable(folder: Path) -> None:
    """RefusedError where another folder cannot take the place of this one."""
    if os.path.ismount(folder):
        raise RefusedError(f"{folder} cannot be replaced: it is a mounted folder", "give an --out inside it")


def need_own(folder: Path, kind: Kind, damaged: bool = False) -> None:
    """RefusedError unless a folder is of a kind."""
    if not kind.is_ours(folder, damaged):
        raise RefusedError(
            f"{folder} was not made by this command: no {kind.marks[0]} of samsemi says that it is {kind.name}",
            "give another --out, or empty it yourself",
        )


def need_known(folder: Path, kind: Kind) -> None:
    """RefusedError naming the first file of a folder that is not known to be made by samsemi."""
    foreign = kind.find_foreign(folder)
    if foreign:
        raise RefusedError(f"{foreign} is no file that samsemi writes into {kind.name}, and is not removed", AWAY)


@contextmanager
def unmoved(folder: Path) -> Iterator[None]:
    """RefusedError where a folder was removed, or another one put in its place, in the meantime."""
    opened = os.open(folder, os.O_RDONLY)  # as long as it is open no other folder has its number
    try:
        yield
        if not folder.is_dir() or not os.path.samestat(os.fstat(opened), os.stat(folder)):
            raise removed_meanwhile(folder)
    finally:
        os.close(opened)


def removed_meanwhile(folder: Path) -> RefusedError:
    return RefusedError(f"{folder} was removed or replaced while this command wrote there", "run it again")


def swap(new: Path, folder: Path, kind: Kind, lock: Lock) -> None:
    """Put a folder in the place of another, which is removed; RefusedError where somebody has put something of his own into that one."""
    lock.need()
    if is_full(folder):
        need_known(folder, kind)
    old = new_name(folder.parent, OLD)
    with refused_paths(folder):
        try:
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        except BaseException:  # Ctrl-C too: the lock goes, and with it what a later command would put the old one back by
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
    remove(old)
