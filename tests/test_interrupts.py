"""Ctrl-C, SIGTERM and SIGHUP, at any moment: exit code 130, one plain line, no traceback."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from builders import call

from samsemi import interrupts
from samsemi.data.splits import find_group
from samsemi.stages import info

LINE = "interrupted; nothing was written\n"


@pytest.fixture
def stage(monkeypatch):
    """Puts a function in the place of what ``samsemi info`` does."""

    def put(function) -> None:
        monkeypatch.setattr(info, "info", function)

    return put


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_command_with_130_and_leaves_the_handlers_as_they_were(stage, which, monkeypatch):
    monkeypatch.setattr(interrupts, "leave_terminal", lambda number: None)
    before = [signal.getsignal(number) for number in interrupts.NUMBERS]
    stage(lambda options: signal.raise_signal(which))
    outcome = call("info", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", LINE)
    assert [signal.getsignal(number) for number in interrupts.NUMBERS] == before


def test_second_signal_while_the_first_is_answered_changes_nothing(stage, monkeypatch):
    ignore = interrupts.ignore
    strikes = iter([signal.SIGINT, signal.SIGTERM])

    def strike_again() -> None:
        for which in strikes:
            signal.raise_signal(which)
        ignore()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(interrupts, "ignore", strike_again)
    stage(lambda options: signal.raise_signal(signal.SIGINT))
    outcome = call("info", "--quiet")
    assert (outcome.code, outcome.err) == (130, LINE)


def test_second_signal_while_the_first_is_tidied_up_changes_nothing(stage):
    def work(options) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)

    stage(work)
    outcome = call("info", "--quiet")
    assert (outcome.code, outcome.err) == (130, LINE)


def test_expression_that_takes_for_ever_is_ended(stage):
    """Python looks for signals while it matches; without, its time doubles with every letter."""
    stage(lambda options: find_group("a" * 60 + "b", "(a+)+$"))
    with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -INT {os.getpid()}"]):
        outcome = call("info", "--quiet")
    assert (outcome.code, outcome.err) == (130, LINE)


class Struck:
    """A signal arrives in its destructor, where Python drops errors."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_signal_in_a_destructor_is_not_lost(stage):
    def work(options) -> dict[str, object]:
        Struck()
        gc.collect()
        time.sleep(10)
        return {"went": "on"}

    stage(work)
    outcome = call("info", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", LINE)


FOUND = """
from samsemi import cli, console
from samsemi.errors import ProblemsFound
from samsemi.stages import info

def fail(options):
    raise ProblemsFound("a problem", "repair it", {"found": 1})

info.info = fail
cli.run()
"""


def test_result_of_a_command_that_fails_reaches_a_file(tmp_path):
    """Which is buffered, unlike a terminal."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open(tmp_path / "result.json", "w") as file:
        done = subprocess.run([sys.executable, "-c", FOUND, "info", "--json"], stdout=file, stderr=subprocess.DEVNULL, env=buffered)
    assert done.returncode == 4 and json.loads((tmp_path / "result.json").read_text()) == {"found": 1}


def test_signals_that_the_shell_has_turned_off_stay_off():
    """As of nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.watched(), interrupts.held() as arrived:
            signal.raise_signal(signal.SIGHUP)
        assert not arrived and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


STRIKE = """
import runpy, signal, sys

class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[-1]:
            signal.raise_signal(signal.SIGTERM)

sys.meta_path.insert(0, Strike())
runpy.run_module("samsemi", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["typer", "samsemi.options.mine", "samsemi.stages.predict", "numpy"])
def test_signal_while_a_command_is_loading(module, tmp_path):
    words = ("predict", "images", "--model", "warm", "--quiet", "--out", module)
    done = subprocess.run([sys.executable, "-c", STRIKE, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 130 and done.stdout == ""
    assert done.stderr.startswith("interrupted") and done.stderr.count("\n") == 1, done.stderr


WORK = """
import sys, time
from samsemi import cli, console, interrupts
from samsemi.stages import info

def work(options):
    with console.progress("work", 100000) as advance, interrupts.held() as arrived:
        while not arrived:
            advance()
            console.note("still here")
            time.sleep(0.01)
    open("saved", "w").close()
    raise KeyboardInterrupt

info.info = work
for name in ("tables", "shown"):
    vars(info).pop(name, None)
cli.run()
"""


@pytest.mark.skipif(not hasattr(os, "forkpty"), reason="needs a terminal")
def test_closing_the_terminal_lets_the_work_be_saved(tmp_path):
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", WORK, "info"])
    seen = b""
    while b"still here" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert (tmp_path / "saved").exists()


def test_reader_that_has_gone_stops_no_work(tmp_path):
    """As in ``samsemi mine ... 2> >(head -1)``."""
    script = WORK.replace("while not arrived", "for _ in range(20)").replace("raise KeyboardInterrupt", "return {}")
    process = subprocess.Popen([sys.executable, "-c", script, "info"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path)
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "saved").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "1</dev/null", "2</dev/null"])
def test_streams_that_the_shell_has_closed_lead_nowhere(closed, tmp_path):
    """And what is printed never stands in a file that was opened meanwhile."""
    script = (
        "import os; from samsemi import __main__ as entry, cli\n"
        "def write(): file = open('own', 'w'); os.write(1, b'noise'); os.write(2, b'noise'); os._exit(cli.main())\n"
        "cli.run = write; entry.run()"
    )
    done = subprocess.run(["sh", "-c", f'"$0" -c "$1" check nothing {closed}', sys.executable, script], cwd=tmp_path, capture_output=True)
    assert done.returncode == 4 and b"Traceback" not in done.stderr
    assert (tmp_path / "own").read_bytes() == b""


def test_terminal_is_left_although_a_stream_is_closed(monkeypatch):
    """As where a library has closed it."""

    def fstat(descriptor: int):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fstat", fstat)
        interrupts.stop(signal.SIGHUP, None)
