"""Commands in processes of their own, forked from one that has loaded everything: as far apart as on the command line, and started at once.

The process that forks must not have trained anything itself: autograd cannot be forked once its threads run.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import h5py

from samsemi import cli
from samsemi.options.commands import STAGES

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod")
CHANGED = {"os.rename": slice(2), "os.link": slice(1, 2), "os.symlink": slice(1, 2)}
"""Which arguments of a change are what is changed, where it is not the first alone."""
FOREIGN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn")
"""Events by which a command reaches another machine or starts another program."""
UNSYNCED = (".png", ".npz")
"""Files of which there are thousands, and which are made again in no time, need not outlive a power cut."""
CRASHED = 97
"""Exit code of a child that ended where no command ends."""
POLL = 0.002


def preload() -> None:
    """Import all that a command may need, so that a fork begins at once."""
    for module, _ in STAGES.values():
        import_module(f"samsemi.stages.{module}")


@dataclass(frozen=True)
class Limits:
    cpu: int | None = None
    """Seconds."""
    memory: int | None = None
    """Bytes that it may take more than the process that forks it."""
    file: int | None = None
    """Bytes of a file."""

    def set(self) -> None:
        if self.cpu:
            resource.setrlimit(resource.RLIMIT_CPU, (self.cpu, self.cpu + 2))
        if self.memory:
            now = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
            resource.setrlimit(resource.RLIMIT_DATA, (int(now.split()[1]) * 1024 + self.memory,) * 2)
        if self.file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file,) * 2)


@dataclass
class Watch:
    """What a process does to files below a folder, and whom it calls, noted as it happens."""

    below: Path
    log: Path
    die_at: int | None = None
    """Kill the process just before this change of a file, counted from 1."""
    changes: int = 0
    synced: set[int] = field(default_factory=set)

    def begin(self) -> None:
        self.file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        fsync = os.fsync

        def note_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self.synced.add(os.fstat(descriptor).st_ino)

        os.fsync = note_fsync
        self.watch_hdf5()
        sys.addaudithook(self.hook)

    def watch_hdf5(self) -> None:
        """Note the rows that HDF5 writes to files by itself, of which Python tells nothing."""
        write = h5py.Dataset.__setitem__

        def note_write(dataset: h5py.Dataset, *arguments: object) -> None:
            if os.path.exists(dataset.file.filename):
                self.change("hdf5", [os.path.abspath(dataset.file.filename)])
            write(dataset, *arguments)

        h5py.Dataset.__setitem__ = note_write

    def hook(self, event: str, arguments: tuple) -> None:
        if event in FOREIGN:
            self.note(f"{event} {arguments[:2]}")
        elif event in CHANGES or (event == "open" and arguments[2:] and arguments[2] & WRITING):
            changed = arguments[CHANGED.get(event, slice(1))]  # an open file is no path: it was noted when it was opened
            self.change(event, [os.path.abspath(os.fsdecode(path)) for path in changed if isinstance(path, str | bytes | os.PathLike)])

    def change(self, event: str, paths: Sequence[str]) -> None:
        if not paths or (event == "os.mkdir" and os.path.isdir(paths[0])):
            return
        if not all(f"{path}/".startswith((f"{self.below}/", "/dev/", "/proc/")) for path in paths):  # the folder itself: a nameless file
            self.note(f"outside {event} {paths}")
        if not any(path.startswith(f"{self.below}/") for path in paths):
            return
        self.changes += 1
        if self.changes == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.note(f"change {event} {paths}")
        renamed = event == "os.rename" and os.path.isfile(paths[0]) and not paths[1].endswith(UNSYNCED)
        if renamed and os.stat(paths[0]).st_ino not in self.synced:
            self.note(f"unsynced {paths[1]}")

    def note(self, line: str) -> None:
        os.write(self.file, f"{line}\n".encode(errors="replace"))


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it took."""

    code: int
    """Its exit code, or minus the signal that ended it."""
    out: str
    err: str
    wall: float
    """Seconds."""
    cpu: float
    memory: int
    """Bytes, at most."""
    notes: tuple[str, ...]
    """What it did to files and whom it called, a line each."""

    def noted(self, kind: str) -> list[str]:
        return [note for note in self.notes if note.startswith(kind)]

    def fault(self) -> str | None:
        """Why this is no way to end for a command: a crash, a traceback, noise around the two lines; None where it is one."""
        if "Traceback" in self.err or "Fatal Python error" in self.err:
            return f"traceback: {self.err.strip().splitlines()[-1] if self.code != 1 else last_raised(self.err)}"
        if self.code < 0 or self.code in (1, CRASHED):
            return f"ended with {self.code}"
        if self.code not in (0, 130) and [line.split(":")[0] for line in self.err.splitlines()[-2:]] != ["error", "hint"]:
            return f"no error and hint at the end: {self.err[-200:]!r}"
        return None


def last_raised(text: str) -> str:
    """The line of a traceback that names the error."""
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "this is a bug"))]
    return (lines or [""])[-1][:160]


class Process:
    """A command that runs, forked from this process; or, ``real``, by the real command line."""

    def __init__(
        self,
        words: Sequence[object],
        folder: Path,
        log: Path,
        limits: Limits | None = None,
        die_at: int | None = None,
        environment: Mapping[str, str] | None = None,
        real: bool = False,
        prepare: Callable[[], None] | None = None,
    ):
        """Starts in ``folder``, what is noted and printed goes to ``log``, a folder; ``prepare`` is called in the new process."""
        self.log = log
        log.mkdir(parents=True, exist_ok=True)
        for path in log.iterdir():
            path.unlink()
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                code = CRASHED
                os.chdir(folder)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has ignored in what it runs behind
                os.environ.update(environment or {})
                sys.dont_write_bytecode = True
                self.redirect()
                (limits or Limits()).set()
                if prepare:
                    prepare()
                arguments = [str(word) for word in words]
                if real:
                    os.execv(sys.executable, [sys.executable, "-m", "samsemi", *arguments])
                Watch(folder, log / "notes", die_at).begin()
                sys.argv = ["samsemi", *arguments]
                cli.run()
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
            except BaseException as error:
                os.write(2, f"Traceback: {error!r}\n".encode())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def redirect(self) -> None:
        """Output to files, also that of libraries which write to the descriptors themselves."""
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(self.log / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "rww"[number], closefd=False) for number in range(3))

    @property
    def age(self) -> float:
        return time.monotonic() - self.started

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, until: Callable[[], bool] = lambda: False, seconds: float = 300, idle: float = 300) -> Ended | None:
        """How it ended; None where it runs on because ``until`` has come true. Killed where it takes longer than ``seconds``, or does
        nothing for ``idle`` seconds: what waits for ever is told so from what waits for its turn."""
        done, since, looked = 0.0, time.monotonic(), time.monotonic()
        while True:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                return self.ended(status, used)
            if until():
                return None
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                done, since = (self.cpu(), looked) if self.cpu() > done else (done, since)
            if self.age > seconds or time.monotonic() - since > idle:
                self.signal(signal.SIGKILL)
            time.sleep(POLL)

    def cpu(self) -> float:
        """CPU seconds so far; 0 where the system does not tell."""
        fields = read_text(Path(f"/proc/{self.pid}/stat")).rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0

    def ended(self, status: int, used: resource.struct_rusage) -> Ended:
        texts = {name: read_text(self.log / name) for name in ("out", "err", "notes")}
        return Ended(
            os.waitstatus_to_exitcode(status),
            texts["out"],
            texts["err"],
            self.age,
            used.ru_utime + used.ru_stime,
            used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            tuple(texts["notes"].splitlines()),
        )


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def run(words: Sequence[object], folder: Path, log: Path, idle: float = 300, **options: object) -> Ended:
    """Run a command to its end."""
    ended = Process(words, folder, log, **options).wait(idle=idle)
    assert ended
    return ended
