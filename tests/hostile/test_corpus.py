"""The corpus covers what strangers can send, and notices what must not happen; all of it runs in `make faults`."""

from collections import Counter

import pytest
from hostile.case import DATA, Case, Place
from hostile.corpus import CASES, FAMILIES, judge, listing, run_case
from processes import Ended
from small_world import World

from samsemi.options.commands import STAGES


def test_corpus_covers_every_command_and_names_each_case_once():
    assert len(CASES) == len({case.name for case in CASES}) >= 120
    assert {case.command for case in CASES} == set(STAGES)
    counted = Counter(family for case in CASES for family, kinds in FAMILIES.items() if case.kind in kinds)
    assert counted.total() == len(CASES) and set(counted) == set(FAMILIES) and min(counted.values()) >= 10


CASE = Case("image: drawn", "predict in --model warm --out out", DATA, "x.png")
WELL = Ended(DATA, "", "error: x.png: damaged\nhint: replace it\n", 0.1, 0.1, 1000, ())


@pytest.mark.parametrize(
    "kind, ended",
    [
        ("well", {}),
        ("traceback", {"code": 1, "err": "Traceback\nKeyError: 3\n"}),
        ("traceback", {"err": "x.png: damaged\n"}),
        ("hang", {"code": -9}),
        ("hang", {"cpu": 11.0}),
        ("silent", {"code": 0, "err": "", "out": "{}"}),
        ("another", {"code": 5}),
        ("said", {"err": "error: damaged\nhint: replace it\n"}),
        ("outside", {"notes": ("socket.connect ('192.0.2.1', 80)",)}),
        ("memory", {"memory": 3 * 2**30}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_way_to_answer_badly_is_told(tmp_path, kind, ended):
    before = [listing(tmp_path), {}]
    found = judge(CASE, Place(tmp_path, World(tmp_path)), Ended(**{**vars(WELL), **ended}), before, before)
    assert found[0] == kind


@pytest.mark.parametrize("name, kind", [("here/out/x.png", "well"), ("here/other", "outside"), ("here/pwned", "outside")])
def test_what_is_written_elsewhere_is_found(tmp_path, name, kind):
    after = [{name: (0, 0, 0)}, {}]
    assert judge(CASE, Place(tmp_path, World(tmp_path)), WELL, [{}, {}], after)[0] == kind


SAMPLE = ("image: bomb: 2^31 wide", "manifest: an id that is a path", "config: names code for --stream", "out: mine at a pipe")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_is_answered_well(world, tmp_path, name):
    """`make faults` runs all."""
    outcome = run_case(next(case for case in CASES if case.name == name), world, tmp_path / "sandbox")
    assert outcome.kind == "well", outcome.problem
