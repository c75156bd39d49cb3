"""Reading files that may be anything: regular ones alone, up to a size, so that no pipe is waited for and nothing fills memory."""

import csv
import errno
import hashlib
import io
import os
import stat
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 2**31
"""Of a file that is read whole."""
MOST_TEXT = 2**28
"""Of a text or table."""


def need_regular(path: Path) -> os.stat_result:
    """What the system knows of a regular file; OSError for a folder, and for a pipe or device, which may never end."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file; OSError for any other, and for one of more than ``most`` bytes."""
    if need_regular(path).st_size > most:
        raise OSError(errno.EINVAL, f"larger than {most >> 20} MiB", str(path))
    with open(path, "rb") as file:
        return file.read()


def begins_with(path: Path, mark: bytes, length: int) -> bool:
    """Whether a mark stands in the first ``length`` bytes of a regular file; False for what is none."""
    with suppress(OSError):
        need_regular(path)
        with open(path, "rb") as file:
            return mark in file.read(length)
    return False


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A text file; OSError as for ``read_regular``, ValueError where it is not in this encoding."""
    return read_regular(path, MOST_TEXT).decode(encoding)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names in its first line; OSError as for ``read_regular``, ValueError for what is no CSV."""
    try:
        return list(csv.DictReader(io.StringIO(read_text(path, "utf-8-sig"), newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from None
