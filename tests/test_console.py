"""What a person sees: progress, notes and warnings on stderr, the result on stdout."""

import io
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from samsemi import clock, console


def test_bar_keeps_its_times_at_80_columns():
    out = io.StringIO()
    terminal = Console(width=80, file=out, force_terminal=True, color_system=None)
    bar = console.make_bar(terminal)
    advance = console._advance_bar(bar, "train", 20000, 0)
    advance(12345, lambda: "loss 0.412, best val_dice 0.731")
    terminal.print(bar.get_renderable())
    line = out.getvalue().rstrip("\n")
    assert len(line) <= 80 and "\n" not in line
    assert line.startswith("train ━") and line.endswith("12345/20000 0:00:00 left -:--:-- loss 0.412, best val_dice 0.731")


def test_bar_gives_up_its_status_before_its_times():
    out = io.StringIO()
    terminal = Console(width=60, file=out, force_terminal=True, color_system=None)
    bar = console.make_bar(terminal)
    console._advance_bar(bar, "train", 2000, 0)(1, lambda: "loss 0.412, best val_dice 0.731")
    terminal.print(bar.get_renderable())
    assert out.getvalue().rstrip("\n").endswith("1/2000 0:00:00 left -:--:--")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_terminal_that_lacks_a_letter_shows_it_escaped(dataset, tmp_path, encoding):
    """A name in the result, on stdout, and in an error, on stderr."""
    odd = tmp_path / "größe"
    odd.symlink_to(dataset)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for path, code, name in ((odd, 0, "größe"), (tmp_path / "nö", 4, "nö")):
        words = [sys.executable, "-m", "samsemi", "check", str(path)]
        done = subprocess.run(words, capture_output=True, env=environment, timeout=120)
        shown = (done.stdout if code == 0 else done.stderr).decode(encoding)
        expected = name if encoding == "utf-8" else name.encode("ascii", "backslashreplace").decode()
        assert done.returncode == code and expected in shown and b"Traceback" not in done.stderr, done.stderr


def test_plain_log_has_a_line_every_so_often_and_looks_at_the_status_no_more_often(monkeypatch, capsys, shown):
    now, looks = [0.0], []
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("train", 30, "iterations") as advance:
        for _ in range(30):
            now[0] += 1.0
            advance(1, lambda: looks.append(now[0]) or "loss 0.412")
    assert capsys.readouterr().err.splitlines() == [f"train: {n}/30 iterations, 1.0/s, {30 - n} s left, loss 0.412" for n in (10, 20, 30)]
    assert looks == [10, 20, 30]


@pytest.mark.parametrize(("seconds", "text"), [(12.4, "10 s"), (89, "90 s"), (754, "13 min"), (5399, "90 min"), (6500, "1.8 h")], ids=str)
def test_times_that_are_not_known_exactly(seconds, text):
    assert console.format_about(seconds) == text


TABLE = console.Table(
    "8 cases", ["metric", "mean", "95 % interval"], [["dice", "0.812", "[0.750, 0.861]"], ["hd95", "12.1", "[9.4, 14.0]"]]
)


def test_table_leaves_out_columns_rather_than_cut_numbers():
    assert TABLE.lines(80) == [
        "8 cases",
        "metric  mean   95 % interval",
        "dice    0.812  [0.750, 0.861]",
        "hd95    12.1   [9.4, 14.0]",
    ]
    assert TABLE.lines(28) == ["8 cases", "metric  mean", "dice    0.812", "hd95    12.1", "not shown: 95 % interval"]
    assert TABLE.lines(3)[1:] == ["metric", "dice", "hd95", "not shown: mean, 95 % interval"]


def test_tables_are_part_of_the_result_and_of_no_json(capsys):
    console.show_result("samsemi eval", {"dice": 0.81234}, as_json=False, tables=[TABLE])
    out, err = capsys.readouterr()
    assert out.splitlines() == [*TABLE.lines(80), "", "samsemi eval", "  dice  0.8123"] and err == ""
    console.show_result("samsemi eval", {"dice": 0.5, "hd95": 3.0}, as_json=False, tables=[replace(TABLE, keys={"dice"})])
    assert capsys.readouterr().out.splitlines() == [*TABLE.lines(80), "", "samsemi eval", "  hd95  3"], "once is enough"
    console.show_result("samsemi eval", {"dice": 0.5}, as_json=True, tables=[TABLE])
    assert json.loads(capsys.readouterr().out) == {"dice": 0.5}


def test_very_long_error_is_cut_in_the_middle(capsys):
    console.fail("a" + "x" * 5000 + "z: File name too long", "b")
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: axx") and error.endswith("z: File name too long") and len(error) < 1100 and hint == "hint: b"


def test_log_of_the_library_becomes_lines(capsys, shown):
    logger = logging.getLogger("samsemi")
    logger.info("going on at 100% of [it]")
    logger.warning("[mine] is odd")
    assert capsys.readouterr().err.splitlines() == ["going on at 100% of [it]", "warning: [mine] is odd"]
    console.set_quiet(True)
    logger.info("going on")
    logger.warning("odd")
    assert capsys.readouterr().err.splitlines() == ["warning: odd"]


LIBRARY = """
import sys
import logging
import samsemi
from samsemi import console
logging.getLogger("samsemi").warning("odd")
with console.progress("look", 1) as advance:
    advance()
assert not {"rich", "torch"} & set(sys.modules)
"""


def test_library_is_silent_and_light_unless_a_command_speaks():
    done = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FIRST = """
import sys
from samsemi import cli
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numpy"):
            sys.stderr.flush()
            raise SystemExit(99)
sys.meta_path.insert(0, Blocked())
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize(("flags", "first"), [((), "samsemi mine: loading kvasir runs/warm\n"), (("--quiet",), "")], ids=["", "quiet"])
def test_first_line_is_shown_before_the_libraries_are_loaded(flags, first):
    """They may take seconds."""
    words = ("mine", "kvasir", "--model", "runs/warm", "--out", "s.h5", "--sam", "tiny", *flags)
    done = subprocess.run([sys.executable, "-c", FIRST, *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (99, first)


def test_clock_counts_a_command_from_its_start(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    clock.start()
    now[0] += 3
    assert clock.lap() == 3 and clock.lap() == 0
    now[0] += 50
    clock.start()  # another command of the same process
    now[0] += 2
    assert clock.lap() == 2


def test_nothing_that_is_shown_commands_the_terminal(capsys, shown):
    """A name in a file of somebody else's may hold what clears a screen, or writes another line."""
    evil = "a\x1b[2Jb\rc\x9b\u202e"
    console.note(evil)
    console.warn(evil)
    console.fail(evil, evil)
    console.show_result("title", {"name": evil}, as_json=False, tables=[console.Table(evil, ["class"], [[evil]])])
    told = capsys.readouterr()
    assert not set("\x1b\r\x9b\u202e") & set(told.out + told.err)
    assert told.err.count("\\x1b[2Jb") == 4 and told.out.count("\\x1b[2Jb") == 3
