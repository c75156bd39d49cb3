"""The pages: README is short, and what they name exists."""

import ast
import re
import shlex
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from builders import ROOT
from reference import make_page

from samsemi import cli
from samsemi.options.commands import STAGES, find_command

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))


def find_leaf(name: str):
    """The command of a name, of one word or two, as typer has it."""
    command = SAMSEMI
    for word in name.split():
        command = command.commands[word]
    return command


SAMSEMI = cli.command_line()
COMMANDS = SAMSEMI.commands
LEAVES = {name: find_leaf(name) for name in STAGES}
"""Every command, those of groups too, as typer has it."""


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", read(page), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def shell_lines(page: Path) -> Iterator[str]:
    """Every command of the page's bash blocks, continued lines joined."""
    for block in re.findall(r"^```bash\n(.*?)^```", read(page), flags=re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()


def samsemi_calls(page: Path) -> list[list[str]]:
    """The words after 'samsemi' of every call, in bash blocks and in backticks."""
    spans = re.findall(r"`(samsemi [^`]+)`", prose(page))
    lines = [shlex.split(line, comments=True) for line in (*shell_lines(page), *spans)]
    return [words[1:] for words in lines if words[:1] == ["samsemi"]]


def options_of(command: str) -> set[str]:
    """Every flag that a command takes."""
    return {"--help"} | {flag for option in LEAVES[command].params for flag in (*option.opts, *option.secondary_opts)}


@cache
def find_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_readme_is_a_map():
    lines = read(ROOT / "README.md").splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if len(line) > 120]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_tests_that_are_named_exist(page):
    named = re.findall(r"(?<![\w./-])((?:docs|examples|samsemi|tests)/[\w./-]*\w)(?:::(\w+))?", read(page))
    named = [(path, test) for path, test in named if "NAME" not in path]
    assert not [path for path, _ in named if not (ROOT / path).exists()]
    assert not [f"{path}::{test}" for path, test in named if test and test not in find_tests(path)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_shown_exist(page):
    for words in samsemi_calls(page):
        command, flags = find_command(words), {word.split("=")[0] for word in words if word.startswith("--")}
        assert command and not flags - options_of(command), f"samsemi {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_named_exist(page):
    """Those in running text may be of any command, of a make target or of the evidence."""
    every = {flag for command in STAGES for flag in options_of(command)} | {flag for option in SAMSEMI.params for flag in option.opts}
    spans = re.findall(r"`([^`]+)`", prose(page))
    named = {flag for span in spans for flag in re.findall(r"(?:^|(?<=[\s`]))--[a-z][a-z-]*(?![\w-])", span)}
    assert not named - every


def test_page_of_options_is_current():
    assert read(ROOT / "docs" / "options.md") == make_page(), "run `make reference`"


def test_every_command_is_on_the_map():
    text = read(ROOT / "README.md")
    assert not [name for name in COMMANDS if f"`{name}`" not in text and f"samsemi {name} " not in text]


def test_all_tests_run_without_a_network():
    with socket.socket() as connection, pytest.raises(AssertionError, match="192.0.2.1"):
        connection.connect(("192.0.2.1", 9))
