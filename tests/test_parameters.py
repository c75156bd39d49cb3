"""The help page of every command, what a shell completes, and what no choice of which is refused."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from builders import DATA, USAGE, refused

from samsemi import cli
from samsemi.options.commands import GROUPS, STAGES
from samsemi.options.fields import PANELS, declared
from samsemi.options.sams import NETWORKS, SAMS
from samsemi.options.shared import ENCODERS, ConsoleOptions
from samsemi.parameters import help_rows, spelling

SCREEN = 43
"""Lines that a terminal shows at once."""
SAMSEMI = cli.command_line()
BASELINES = [name for name in SAMS if name not in NETWORKS]
LATE = ("Acceptance", "Review", "Ablation", "Run")
"""Panels of what is rarely changed."""


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def help_of(capsys, *arguments: str) -> str:
    assert cli.main([*arguments]) == 0
    return capsys.readouterr().out


def page_of(capsys, name: str) -> dict[str, list[str]]:
    """Panel -> lines of a command's help; what stands before them by the name ''."""
    panel, page = "", {"": []}
    for line in help_of(capsys, *name.split(), "--help").splitlines():
        panel = line if line in PANELS else panel
        page.setdefault(panel, []).append(line)
    return page


def test_help_shows_every_option_whole_in_its_panel(narrow, capsys):
    for name, (_, options) in STAGES.items():
        page = page_of(capsys, name)
        assert max(len(line) for lines in page.values() for line in lines) < 80
        assert [panel for panel in page if panel] == [panel for panel in PANELS if panel in page]
        for option in [*declared(options).values(), *declared(ConsoleOptions).values()]:
            rows = [line for line in page[option.field.panel] if line.startswith(f"  {spelling(option)} ")]
            assert len(rows) == 1, f"{name} {option.name}"


def test_what_is_common_fits_a_screen(narrow, capsys):
    for name in STAGES:
        page = page_of(capsys, name)
        assert sum(len(lines) for panel, lines in page.items() if panel not in LATE) <= SCREEN, name


def test_help_tells_ranges_choices_and_defaults():
    rows = {name: text for panel in help_rows([*declared(STAGES["mine"][1]).values()]).values() for name, text in panel}
    default = {name: text.partition("[default:\u00a0")[2].removesuffix("]") for name, text in rows.items()}
    assert default["--passes 1..5"] == "1" and default["--precision auto|fp32|bf16"] == "auto" and default["--flips/--no-flips"] == "on"
    assert default["--overwrite"] == default["--min-stability 0..1"] == default["--model DIR"] == ""


def test_every_help_ends_with_two_examples_to_be_copied(narrow, capsys):
    for name, (_, options) in STAGES.items():
        lines = help_of(capsys, *name.split(), "--help").splitlines()
        assert len(options.examples) == 2, f"samsemi {name} needs two examples"
        assert lines.count("Examples") == 1 and lines[-3:] == ["Examples", *(f"  {line}" for line in options.examples)]


def read_example(name: str, line: str) -> dict[str, object]:
    """The options of an example as its command would get them, redirection of the output aside."""
    words = shlex.split(line.partition(" > ")[0])[1:]
    command = SAMSEMI
    for word in name.split():
        assert words.pop(0) == word
        command = command.commands[word]
    given = command.make_context(f"samsemi {name}", words).params
    return {key: value for key, value in given.items() if key in declared(STAGES[name][1])}


@pytest.mark.parametrize("name", STAGES)
def test_examples_are_calls_that_the_command_takes(name):
    options = STAGES[name][1]
    chosen = [options(**read_example(name, line)) for line in options.examples]
    assert len({repr(one) for one in chosen}) == len(chosen) or name in ("check", "weights list"), "two calls that do the same"
    assert not re.search(r"://|hf:|www", " ".join(options.examples))


def test_usage_names_what_is_required(narrow, capsys):
    assert help_of(capsys, "mine", "-h").startswith("Usage: samsemi mine DATASET --model DIR --out FILE [OPTIONS]\n")


@pytest.mark.parametrize("command", [[], ["mine"]], ids=str)
def test_short_and_long_flag_of_help(capsys, command):
    assert help_of(capsys, *command, "-h") == help_of(capsys, *command, "--help")


def test_help_of_all_cuts_no_description(narrow, capsys):
    pages = [help_of(capsys, *group, "--help") for group in ([], *([name] for name in GROUPS))]
    shown = " ".join(" ".join(pages).split())
    assert all(" ".join(options.__doc__.split()) in shown for _, options in STAGES.values())


@pytest.mark.parametrize(
    ("command", "taken", "refused"),
    [
        ("mine", {*NETWORKS, *BASELINES}, set()),
        ("adapt", {*NETWORKS}, {*BASELINES}),
        ("distill", {*NETWORKS}, {*BASELINES}),
        ("finetune", set(), {*NETWORKS}),
    ],
)
def test_help_offers_only_sams_that_the_command_takes(capsys, command, taken, refused):
    words = set(re.findall(r"\w+", declared(STAGES[command][1])["sam"].field.help))
    assert taken <= words and not refused & words


def test_split_of_eval_offers_what_a_model_is_measured_on(narrow, capsys):
    assert any(line.startswith("  --split labeled|val|test ") for line in page_of(capsys, "eval")["Input"])


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("mine --sam ", [*NETWORKS, *BASELINES]),
        ("adapt --sam v", ["vit_b", "vit_l", "vit_h"]),
        ("warmstart --encoder mob", [name for name in ENCODERS if name.startswith("mob")]),
        ("mine --prompts box+", ["box+point", "box+mask", "box+point+mask"]),
        ("mine --precision ", ["auto", "fp32", "bf16"]),
        ("finetune --we", ["--weak"]),
        ("mine --min-p", ["--min-predicted-iou"]),
    ],
)
def test_shell_completes_without_torch(words, completed):
    """As bash calls it; nothing that is slow to import is."""
    code = (
        "import atexit, sys; from samsemi import cli\n"
        "atexit.register(lambda: print(*{'torch', 'timm', 'scipy'} & set(sys.modules), file=sys.stderr, end=''))\n"
        "cli.main([])"
    )
    words = f"samsemi {words}"
    shell = {"_SAMSEMI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **shell}, timeout=60)
    assert (done.stdout.split(), done.stderr) == (completed, "")


def test_parser_is_made_once_and_keeps_nothing_of_a_call(tmp_path):
    """A value of --config is the default of that call alone."""
    (tmp_path / "few.toml").write_text("[mine]\nbatch_size = 0\n")
    words = ("mine", tmp_path / "none", "--model", tmp_path / "none", "--out", tmp_path / "s.h5")
    assert cli.command_line() is cli.command_line()
    refused(USAGE, *words, "--config", tmp_path / "few.toml", said=("batch",))
    refused(DATA, *words, said=("none",))
