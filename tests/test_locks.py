"""Locks of outputs: who holds them, when they are stale, and that nobody's are taken twice."""

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from multiprocessing import get_context

import pytest
from builders import files_in, write_lock

from samsemi import locks
from samsemi.errors import RefusedError
from samsemi.locks import BREAK, SCHEMA, STALE, describe_self, lock_path, locked, start_of

HOLD = """
import sys, time
from pathlib import Path
from samsemi.locks import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def age(path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def holding(tmp_path):
    """A real second process that holds the lock of an output."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_second_process_is_refused_and_told_who_the_first_is_and_since_when(tmp_path, holding):
    with pytest.raises(RefusedError) as caught, locked(tmp_path / "out"):
        pass
    assert f"process {holding.pid} on {describe_self().host} since {time.strftime('%Y-')}" in caught.value.message
    assert str(tmp_path / "out") in caught.value.message and BREAK in caught.value.hint
    assert files_in(tmp_path) == {".out.lock"}


def test_lock_of_a_killed_process_is_taken_over_and_removed(tmp_path, holding):
    holding.kill()
    holding.wait()
    with locked(tmp_path / "out") as lock:
        assert lock.previous.pid == holding.pid
        assert json.loads((tmp_path / ".out.lock").read_text())["pid"] == os.getpid()
    assert files_in(tmp_path) == set()


def test_lock_of_a_killed_process_that_nobody_has_waited_for_is_stale(tmp_path, holding):
    holding.kill()
    os.waitid(os.P_PID, holding.pid, os.WEXITED | os.WNOWAIT)
    with locked(tmp_path / "out") as lock:
        assert lock.previous.pid == holding.pid


def test_broken_lock_ends_the_command_that_held_it(tmp_path):
    first = locked(tmp_path / "out")
    first.__enter__()
    with locked(tmp_path / "out", break_lock=True) as other:
        assert other.is_held()
    with pytest.raises(RefusedError, match=r"lock \.out\.lock was removed while"):
        first.__exit__(None, None, None)
    assert files_in(tmp_path) == set()


def test_broken_lock_is_not_removed_by_whom_it_was_taken_from(tmp_path):
    first = locks.take_lock(tmp_path / "out", break_lock=False)
    with locked(tmp_path / "out", break_lock=True):
        first.release()
        assert files_in(tmp_path) == {".out.lock"}


def test_error_within_stays_the_error_and_frees_the_output(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "out"):
        (tmp_path / ".out.lock").unlink()
        raise KeyError
    with locked(tmp_path / "out"):
        pass


@pytest.mark.parametrize(
    "elsewhere", [{"host": "elsewhere"}, {"processes": "pid:[1]", "host": describe_self().host}], ids=lambda e: [*e][0]
)
@pytest.mark.parametrize(("seconds", "stale"), [(STALE - 5, False), (STALE + 5, True), (-3600, False)])
def test_lock_of_another_host_is_stale_when_its_heartbeat_is_old(tmp_path, elsewhere, seconds, stale):
    """Also of another container on this host, whose process numbers say nothing here."""
    write_lock(tmp_path / ".out.lock", **elsewhere)
    age(tmp_path / ".out.lock", seconds)
    if stale:
        with locked(tmp_path / "out") as lock:
            assert lock.previous.token == "0" * 16
        return
    with pytest.raises(RefusedError, match=f"{os.getpid()} on {elsewhere['host']}"), locked(tmp_path / "out"):
        pass
    with locked(tmp_path / "out", break_lock=True):
        pass


@pytest.mark.parametrize(
    "gone",
    [
        {"pid": 2**22 + 1, "started": "1"},
        {"pid": os.getppid(), "started": "another start"},
        {"pid": os.getpid()},
    ],
    ids=["no such process", "the number came again", "this one's number came again"],
)
def test_lock_of_this_host_is_stale_when_its_process_is_gone_however_fresh(tmp_path, gone):
    write_lock(tmp_path / ".out.lock", host=describe_self().host, **gone)
    with locked(tmp_path / "out") as lock:
        assert lock.previous.pid == gone["pid"]


def test_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with locked(tmp_path / "out"):
        age(tmp_path / ".out.lock", 1000)
        deadline = time.monotonic() + 20
        while time.time() - (tmp_path / ".out.lock").stat().st_mtime > 500:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "my notes",
        "[]",
        "[" * 9000,
        '{"schema": "other/1"}',
        json.dumps({"schema": SCHEMA, **asdict(replace(describe_self(), token="../x"))}),
    ],
    ids=["nothing", "text", "a list", "deep", "another schema", "no token"],
)
@pytest.mark.parametrize("break_lock", [True, False])
def test_what_is_no_lock_is_never_removed(tmp_path, content, break_lock):
    (tmp_path / ".out.lock").write_text(content)
    with pytest.raises(RefusedError, match=r"\.out\.lock is no lock of samsemi"), locked(tmp_path / "out", break_lock):
        pass
    age(tmp_path / ".out.lock", STALE + 5)
    with pytest.raises(RefusedError, match="is no lock of samsemi"), locked(tmp_path / "out", break_lock):
        pass
    assert (tmp_path / ".out.lock").read_text() == content


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, os.mkdir], ids=["link", "fifo", "folder"])
def test_link_fifo_or_folder_in_place_of_a_lock_is_refused_at_once(tmp_path, make):
    make(tmp_path / ".out.lock")
    with pytest.raises(RefusedError, match="is no lock"), locked(tmp_path / "out", break_lock=True):
        pass


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="a system that makes no file without a name")
def test_lock_is_never_there_without_its_holder(tmp_path, monkeypatch):
    """So that an empty file of its name is never a lock, however a command was killed."""
    seen = []

    def look(file: int, content: bytes, at: int) -> int:
        seen.append(files_in(tmp_path))
        return os.write(file, content)

    monkeypatch.setattr(os, "pwrite", look)
    with locked(tmp_path / "out"):
        assert seen == [set()] and files_in(tmp_path) == {".out.lock"}


@pytest.mark.parametrize("lacks", ["O_TMPFILE", "link"])
def test_lock_without_files_that_have_no_name(tmp_path, monkeypatch, lacks):
    """As on macOS, and on file systems that have no links."""

    def refuse(*arguments, **options):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, lacks, refuse) if lacks == "link" else monkeypatch.delattr(os, lacks, raising=False)
    with locked(tmp_path / "out"):
        assert json.loads((tmp_path / ".out.lock").read_text())["pid"] == os.getpid()
        with pytest.raises(RefusedError, match="is being written by"):
            locks.take_lock(tmp_path / "out", break_lock=False)
    assert files_in(tmp_path) == set()


def test_output_that_one_command_would_write_twice_is_no_other_commands(tmp_path):
    with locked(tmp_path / "out"), pytest.raises(RefusedError, match="which is this one") as caught:
        locks.take_lock(tmp_path / "out", break_lock=False)
    assert "--break-lock" not in caught.value.hint and "a place of its own" in caught.value.hint


def test_lock_of_a_folder_lies_in_it_where_nothing_can_lie_beside_it(tmp_path, monkeypatch):
    (tmp_path / "mounted").mkdir()
    assert lock_path(tmp_path / "mounted") == tmp_path / ".mounted.lock"
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    assert lock_path(tmp_path / "mounted") == tmp_path / "mounted" / ".samsemi.lock"
    assert lock_path(tmp_path / "store.h5") == tmp_path / ".store.h5.lock"


def race(folder, start, results) -> None:
    start.wait()
    try:
        with locked(folder / "out") as lock:
            time.sleep(0.3)
            results.put(lock.is_held())
    except RefusedError:
        results.put(None)


def test_of_many_who_take_over_a_stale_lock_at_once_one_has_it(tmp_path):
    context = get_context("fork")
    for _ in range(3):
        write_lock(tmp_path / ".out.lock", host=describe_self().host, pid=2**22 + 1)
        start, results = context.Event(), context.SimpleQueue()
        processes = [context.Process(target=race, args=(tmp_path, start, results)) for _ in range(8)]
        for process in processes:
            process.start()
        start.set()
        found = [results.get() for _ in processes]
        for process in processes:
            process.join()
        assert sorted(found, key=str) == [None] * 7 + [True]
        assert files_in(tmp_path) == set()


def test_forked_process_has_a_token_of_its_own():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, locks.own_token().encode())
        os._exit(0)
    os.wait()
    assert os.read(read, 100).decode() != locks.own_token()
    os.close(read)
    os.close(write)


def test_start_of_a_process_is_known_and_stays(tmp_path):
    assert start_of(os.getpid()) == start_of(os.getpid()) is not None
    assert start_of(2**22 + 1) is None


@pytest.mark.parametrize("named", [True, False])
def test_lock_that_finds_no_room_leaves_nothing(tmp_path, monkeypatch, named):
    """Half a lock would be taken for a file of others, and be in the way for ever."""
    if not named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(os, "pwrite", lambda file, content, at: os.write(file, content[:20]))
    with pytest.raises(OSError, match="No space left"), locked(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())
