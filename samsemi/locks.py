"""Locks of outputs: whoever would write where another command writes is refused, and told who that is and since when.

A lock is a small JSON file beside the output, ``.NAME.lock``. Its holder touches it every BEAT seconds. It is stale, and taken over,
when its process is gone; of another machine, whose processes cannot be seen, when it was not touched for STALE seconds.

Locks go by output, so that several commands may write into one folder: of a store each writer locks what it writes alone.
"""

import errno
import json
import os
import secrets
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from samsemi.errors import RefusedError

SCHEMA = "samsemi.lock/1"
STALE, BEAT = 600.0, 30.0
BREAK = "--break-lock"
INSIDE = ".samsemi.lock"
"""The lock of a folder beside which nothing can be written."""
LONGEST = 10_000
"""Bytes of a lock, at most."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    processes: str
    """Among which processes the number counts: containers on one host may number theirs each from 1."""
    pid: int
    started: str
    """When the process began, by the clock of the machine; a number that has come again is another process. '' where it is not known."""
    since: str
    token: str
    """Of the process: no other has it, and its temporary files bear it."""
    made: tuple[int, ...] = ()
    """Of an output that is written elsewhere first: device and number of the whole one, which only its new name makes the output."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@cache
def token_of(pid: int) -> str:
    return secrets.token_hex(8)


def own_token() -> str:
    """The token of this process; a forked one has its own."""
    return token_of(os.getpid())


def is_token(text: object) -> bool:
    return isinstance(text, str) and len(text) == 16 and set(text) <= set("0123456789abcdef")


def describe_self() -> Holder:
    """This process as the holder of a lock."""
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return Holder(socket.gethostname(), process_namespace(), pid, start_of(pid) or "", since, own_token())


def process_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def start_of(pid: int) -> str | None:
    """When a process of this machine began, '' where that is not known; None where it is gone."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return None if state in "ZX" else rest[18]  # a zombie, which nobody has waited for, writes no more


def identify(path: Path) -> tuple[int, int]:
    """Device and number of a file or folder: the same under another name, another where it was made again."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


class Lock:
    """A lock that this process holds; ``previous`` is the holder from whom it was taken over."""

    def __init__(self, output: Path, path: Path, file: int, previous: Holder | None):
        self.output, self.path, self.file, self.previous = output, path, file, previous
        self.holder = describe_self()
        self.ended = threading.Event()
        self.beating = threading.Thread(target=self.beat, name=f"lock of {output.name}", daemon=True)
        self.beating.start()

    def beat(self) -> None:
        while not self.ended.wait(BEAT):
            with suppress(OSError):
                os.utime(self.file)

    def note_made(self, path: Path) -> None:
        """The output is being written at ``path``, and will be renamed when it is whole."""
        self.holder = replace(self.holder, made=identify(path))
        with guarded(self.file):
            write_holder(self.file, self.holder)

    def was_made(self, path: Path) -> bool:
        """Whether a command that ended before it could say so has made what stands there, wholly."""
        return self.previous is not None and path.exists() and self.previous.made == identify(path)

    def is_held(self) -> bool:
        """Whether the lock is still there, and this process's."""
        try:
            return identify(self.path) == (os.fstat(self.file).st_dev, os.fstat(self.file).st_ino)
        except OSError:
            return False

    def need(self) -> None:
        """RefusedError where the lock was broken."""
        if not self.is_held():
            raise RefusedError(
                f"{self.output}: its lock {self.path.name} was removed while this command wrote there",
                "see that no other command writes there, then run it again",
            )

    def release(self) -> None:
        self.ended.set()
        self.beating.join()
        with guarded(self.file), suppress(OSError):
            if self.is_held():
                self.path.unlink()
        os.close(self.file)


@contextmanager
def locked(output: Path, break_lock: bool = False) -> Iterator[Lock]:
    """Hold the lock of an output, whose folder is there; RefusedError where another process holds it, or has broken it in the end.

    ``break_lock`` takes it over, whoever holds it.
    """
    lock = take_lock(Path(output), break_lock)
    try:
        yield lock
        lock.need()
    finally:
        lock.release()


def lock_path(output: Path) -> Path:
    """Where the lock of an output stands: beside it; in it where a folder is mounted, or stands where nothing else may be made."""
    if output.is_dir() and (os.path.ismount(output) or not os.access(output.parent, os.W_OK)):
        return output / INSIDE
    return output.with_name(f".{output.name}.lock")


def take_lock(output: Path, break_lock: bool) -> Lock:
    path, previous = lock_path(output), None
    while True:
        try:
            file = create_unseen(path) or create_empty(path)
        except FileExistsError:
            previous = remove_stale(output, path, break_lock) or previous
            continue
        return Lock(output, path, file, previous)


def create_unseen(path: Path) -> int | None:
    """A new lock file of this process, open, that gets its name when it says whose it is; FileExistsError where something stands there.
    None where the system cannot make a file without a name, or give it one: it can on Linux, on most file systems."""
    try:
        file = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):
        return None
    try:
        write_holder(file, describe_self())
        os.link(f"/proc/self/fd/{file}", path, src_dir_fd=file)  # which makes Python follow the link
    except OSError as error:
        os.close(file)
        if error.errno in (errno.EEXIST, errno.ENOSPC, errno.EDQUOT):
            raise
        return None
    return file


def create_empty(path: Path) -> int:
    """A new lock file of this process, open, which for a moment says nothing; FileExistsError where something stands there."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        write_holder(file, describe_self())
    except OSError:  # no room for it: half a lock would be nobody's
        path.unlink(missing_ok=True)
        os.close(file)
        raise
    return file


def write_holder(file: int, holder: Holder) -> None:
    """Say in a lock file who holds it."""
    content = json.dumps({"schema": SCHEMA, **asdict(holder)}).encode() + b"\n"
    if os.pwrite(file, content, 0) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(file, len(content))


def remove_stale(output: Path, path: Path, break_lock: bool) -> Holder | None:
    """Remove the lock of a process that is gone; its holder, where it was still there. RefusedError for any other, and for a file that says
    nothing: whose it is cannot be known."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        raise foreign_lock(path) from None
    try:
        with guarded(file):
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise foreign_lock(path)
            holder = parse_holder(os.pread(file, LONGEST, 0))
            if not holder:
                raise foreign_lock(path)
            if not break_lock and is_live(holder, os.fstat(file).st_mtime):
                raise being_written(output, holder)
            with suppress(FileNotFoundError):
                if identify(path) == (os.fstat(file).st_dev, os.fstat(file).st_ino):
                    path.unlink()
        return holder
    finally:
        os.close(file)


def need_unlocked(output: Path, break_lock: bool = False) -> None:
    """RefusedError where another process holds the lock of an output, which is not taken."""
    path = lock_path(output)
    with suppress(OSError):
        holder, touched = parse_holder(path.read_bytes()[:LONGEST]), path.stat().st_mtime
        if holder and not break_lock and is_live(holder, touched):
            raise being_written(output, holder)


def being_written(output: Path, holder: Holder) -> RefusedError:
    if holder.token == own_token():
        return RefusedError(f"{output} is being written by {holder}, which is this one", "give each output and cache a place of its own")
    return RefusedError(
        f"{output} is being written by {holder}",
        f"wait for it, or give another --out; if that command is surely gone, {BREAK}",
    )


def foreign_lock(path: Path) -> RefusedError:
    return RefusedError(f"{path} is no lock of samsemi", "remove it yourself where no command writes there, or give another --out")


def parse_holder(text: bytes) -> Holder | None:
    """The holder that a lock names; None for anything else."""
    try:
        found = json.loads(text)
        holder = Holder(**{name: value for name, value in found.items() if name != "schema"})
        fits = found["schema"] == SCHEMA and type(holder.pid) is int and holder.pid > 0 and is_token(holder.token)
        holder = replace(holder, made=tuple(holder.made))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return holder if fits else None


def is_live(holder: Holder, touched: float) -> bool:
    """Whether the process of a lock may still write."""
    here = describe_self()
    if (holder.host, holder.processes) == (here.host, here.processes):
        if holder.pid == here.pid:
            return holder.token == here.token
        return start_of(holder.pid) == holder.started
    return time.time() - touched < STALE


@contextmanager
def guarded(file: int) -> Iterator[None]:
    """Alone with an open lock file, for the moment in which it is removed; on file systems that cannot do that, without."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
