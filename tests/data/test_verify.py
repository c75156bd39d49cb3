import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import call
from PIL import Image

from samsemi.data.dataset import IGNORE, Case, Dataset, need_cases, with_hashes, write_dataset
from samsemi.data.findings import KINDS, SHOWN, Finding
from samsemi.data.leaks import leaks
from samsemi.data.verify import verify
from samsemi.errors import DataError


def texts(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings]


def kinds(dataset: Dataset) -> list[tuple]:
    return [(finding.kind, *finding.names) for finding in verify(dataset).findings]


def test_sound_dataset_has_no_problems_and_is_described(drawn):
    verified = verify(drawn)
    found = verified.found
    assert verified.findings == []
    assert found["cases"] == 5 and found["splits"] == {"labeled": 2, "unlabeled": 1, "val": 1, "test": 1}
    assert found["groups"] == 5 and found["image_sizes"] == {"30 x 20": 5}
    assert found["class_pixel_share"] == {"background": 0.75, "polyp": 0.25} and found["ignored_pixel_share"] == 0


def test_ignored_pixels_are_described(drawn):
    label = np.zeros((20, 30), dtype=np.uint8)
    label[:10] = IGNORE
    for case in drawn.cases.values():
        Image.fromarray(label).save(case.mask or case.truth)
    assert verify(drawn).found["ignored_pixel_share"] == 0.5


def test_all_problems_are_found_at_once(drawn):
    cases = drawn.cases
    cases["a"].image.write_bytes(cases["a"].image.read_bytes()[:60])
    Image.fromarray(np.full((20, 30), 7, dtype=np.uint8)).save(cases["b"].mask)
    Image.fromarray(np.zeros((30, 20), dtype=np.uint8)).save(cases["v"].mask)
    cases["u"].truth.unlink()
    problems = texts(verify(drawn).problems)
    assert len(problems) == 4
    for part in ("a.png", "values [7]", "20 x 30 pixels, image v.png has 30 x 20", "u_m.png: no such file"):
        assert any(part in problem for problem in problems)


def test_same_picture_in_two_splits_is_a_problem_and_within_one_is_not(drawn):
    cases = drawn.cases
    cases["b"].image.write_bytes(cases["a"].image.read_bytes())
    assert verify(drawn).problems == []
    Image.open(cases["a"].image).save(cases["t"].image, compress_level=1)
    assert texts(verify(drawn).problems) == ["t (test), b (labeled) and a (labeled) are the same image"]


def test_blank_drawn_of_other_shapes_are_not_the_same(drawn):
    """20 x 30 and 30 x 20 black pixels have the same bytes."""
    Image.new("RGB", (20, 30)).save(drawn.cases["a"].image)
    Image.new("L", (20, 30)).save(drawn.cases["a"].mask)
    Image.new("RGB", (30, 20)).save(drawn.cases["t"].image)
    assert verify(drawn).problems == []


def test_group_in_two_splits_is_a_problem(drawn):
    cases = {name: replace(case, group="p" if name in "at" else name) for name, case in drawn.cases.items()}
    assert texts(verify(replace(drawn, cases=cases)).problems) == ["group p stands in labeled and test"]


def test_dataset_without_labeled_or_val_cases_is_a_problem(drawn):
    cases = {name: case for name, case in drawn.cases.items() if name in "ut"}
    assert texts(verify(replace(drawn, cases=cases)).problems) == ["no labeled cases", "no val cases"]


def test_changed_files_are_named_and_the_others_counted(drawn):
    hashed = replace(drawn, cases={name: with_hashes(case) for name, case in drawn.cases.items()})
    assert verify(drawn).found["files"] == {"compared": 0, "without_hash": 10}
    assert verify(hashed).problems == [] and verify(hashed).found["files"] == {"compared": 10, "without_hash": 0}
    label = np.zeros((20, 30), dtype=np.uint8)
    label[5:] = 1
    for path in (drawn.cases["a"].mask, drawn.cases["u"].truth):
        Image.fromarray(label).save(path)
    Image.new("RGB", (30, 20)).save(drawn.cases["t"].image)
    changed = [("a", "a_m.png"), ("u", "u_m.png"), ("t", "t.png")]
    expected = [f"case {name}: {drawn.folder / file} has changed since the data set was prepared" for name, file in changed]
    assert texts(verify(hashed).problems) == expected


def test_file_with_a_problem_of_its_own_is_not_named_twice(drawn):
    hashed = replace(drawn, cases={name: with_hashes(case) for name, case in drawn.cases.items()})
    Image.fromarray(np.zeros((30, 20), dtype=np.uint8)).save(drawn.cases["v"].mask)
    Image.fromarray(np.full((20, 30), 7, dtype=np.uint8)).save(drawn.cases["b"].mask)
    problems = texts(verify(hashed).problems)
    assert len(problems) == 2 and not any("changed" in problem for problem in problems)


def test_problems_of_an_image_are_named_although_its_mask_is_missing(drawn):
    cases = drawn.cases
    cases["t"].image.write_bytes(cases["a"].image.read_bytes())
    cases["t"].mask.unlink()
    assert [text.rsplit(": ")[-1] for text in texts(verify(drawn).problems)] == [
        "no such file",
        "t (test) and a (labeled) are the same image",
    ]


def test_class_that_no_labeled_or_no_val_mask_holds_is_named(drawn):
    assert texts(verify(drawn).missing_classes) == []
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(drawn.cases["v"].mask)
    assert texts(verify(drawn).missing_classes) == ["class polyp occurs in no val mask"]
    three = replace(drawn, classes=(*drawn.classes, "ulcer"))
    assert texts(verify(three).missing_classes) == [f"class {c} occurs in no {s} mask" for s, c in LACKING]


LACKING = (("labeled", "ulcer"), ("val", "polyp"), ("val", "ulcer"))


def test_black_and_white_masks_in_a_data_set_are_refused_not_ignored(drawn):
    for case in drawn.cases.values():
        for path in filter(None, (case.mask, case.truth)):
            Image.fromarray(np.asarray(Image.open(path)) * np.uint8(255)).save(path)
    [problem] = texts(verify(drawn).missing_classes)
    assert "0 and 255" in problem and "prepare" in problem
    for split in ("labeled", "val", "test"):
        with pytest.raises(DataError, match="0 and 255"):
            need_cases(drawn, split)
    write_dataset(drawn)
    out = ("--out", drawn.folder / "o")
    for command, more in (("check", ()), ("warmstart", out), ("eval", ("--predictions", drawn.folder, *out))):
        more = {
            "check": (),
            "warmstart": ("--out", drawn.folder / "o"),
            "eval": ("--predictions", drawn.folder, "--out", drawn.folder / "o"),
        }
        outcome = call(command, drawn.folder, *more[command])
        assert outcome.code == 4 and "0 and 255" in outcome.err and "hint: " in outcome.err
    Image.fromarray(np.ones((20, 30), dtype=np.uint8)).save(drawn.cases["b"].mask)
    assert len(need_cases(drawn, "labeled")) == 2, "255 beside class indices is ignored"


def test_orientation_is_named_where_it_explains_another_size(drawn, caplog):
    exif = Image.Exif()
    exif[0x0112] = 6
    case = drawn.cases["t"]
    Image.open(case.image).save(case.image, exif=exif)
    caplog.set_level("INFO")
    [problem] = texts(verify(drawn).problems)
    assert "30 x 20 pixels, image t.png has 20 x 30 (image turned by EXIF orientation)" in problem
    assert [record.getMessage() for record in caplog.records] == ["1 images turned upright as their EXIF orientation says"]


def paint(path: Path, value: int) -> None:
    """Another class map over a mask."""
    Image.fromarray(np.full((20, 30), value, dtype=np.uint8)).save(path)


def brighten(source: Path, target: Path) -> None:
    Image.fromarray(np.asarray(Image.open(source)) // 2 + 90).save(target)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-24])


FLAWS: dict[str, tuple[Callable[[dict[str, Case]], object], list[tuple]]] = {
    "missing image": (lambda c: c["a"].image.unlink(), [("unreadable", "a")]),
    "empty file": (lambda c: c["a"].image.write_bytes(b""), [("unreadable", "a")]),
    "text as image": (lambda c: c["u"].image.write_text("no picture"), [("unreadable", "u")]),
    "truncated image": (lambda c: truncate(c["t"].image), [("truncated", "t")]),
    "truncated mask": (lambda c: truncate(c["a"].mask), [("truncated", "a")]),
    "truncated truth": (lambda c: truncate(c["u"].truth), [("truncated", "u")]),
    "mask of another size": (lambda c: Image.new("L", (9, 9), 1).save(c["b"].mask), [("other_size", "b")]),
    "value that is no class": (lambda c: paint(c["b"].mask, 7), [("unexpected_values", "b")]),
    "color picture as mask": (lambda c: shutil.copy(c["b"].image, c["b"].mask), [("unexpected_values", "b")]),
    "mask without a class": (lambda c: paint(c["b"].mask, 0), [("empty_mask", "b")]),
    "mask of nothing but ignored": (lambda c: paint(c["b"].mask, IGNORE), [("empty_mask", "b")]),
    "no class in val": (lambda c: paint(c["v"].mask, 0), [("empty_mask", "v"), ("missing_class", "polyp")]),
    "image of a single color": (lambda c: Image.new("RGB", (30, 20)).save(c["b"].image), [("blank_image", "b")]),
    "copy in test": (lambda c: shutil.copy(c["a"].image, c["t"].image), [("duplicate", "a", "t")]),
    "copy in val of an unlabeled image": (lambda c: shutil.copy(c["u"].image, c["v"].image), [("duplicate", "u", "v")]),
    "copy among the unlabeled": (lambda c: shutil.copy(c["a"].image, c["u"].image), [("labeled_and_unlabeled", "a", "u")]),
    "brighter copy in test": (lambda c: brighten(c["a"].image, c["t"].image), [("near_duplicate", "t", "a")]),
    "brighter copy of test in val": (lambda c: brighten(c["t"].image, c["v"].image), [("near_duplicate", "t", "v")]),
    "brighter copy among the unlabeled": (lambda c: brighten(c["a"].image, c["u"].image), []),
    "patient in labeled and test": (lambda c: c.update(t=replace(c["t"], group="a")), [("group_in_two_splits", "a")]),
    "patient in unlabeled and val": (lambda c: c.update(v=replace(c["v"], group="u")), [("group_in_two_splits", "u")]),
    "patient in labeled and unlabeled": (lambda c: c.update(u=replace(c["u"], group="a")), [("labeled_and_unlabeled", "a")]),
    "no val": (lambda c: c.pop("v"), [("missing_split", "val")]),
    "mask that changed": (lambda c: c.update(b=replace(c["b"], mask_sha256="0")), [("changed", "b")]),
    "image that changed": (lambda c: c.update(u=replace(c["u"], image_sha256="0")), [("changed", "u")]),
    "image and mask at once": (lambda c: (truncate(c["a"].image), paint(c["a"].mask, 7)), [("truncated", "a"), ("unexpected_values", "a")]),
}


@pytest.mark.parametrize(("spoil", "expected"), FLAWS.values(), ids=FLAWS)
def test_every_flaw_is_found_by_its_kind_and_nothing_else(drawn, spoil, expected):
    spoil(drawn.cases)
    assert kinds(drawn) == expected


def test_every_kind_of_finding_is_tried():
    assert {kind for _, expected in FLAWS.values() for kind, *_ in expected} == {*KINDS} - {"manifest"}


@pytest.mark.parametrize(("spoil", "expected"), FLAWS.values(), ids=FLAWS)
def test_check_gives_every_finding_as_json_and_fails_at_problems_alone(drawn, spoil, expected):
    spoil(drawn.cases)
    write_dataset(drawn)
    outcome = call("check", drawn.folder, "--json")
    problems = [KINDS[kind].is_problem for kind, *_ in expected]
    result = outcome.result
    assert outcome.code == (4 if any(problems) else 0)
    assert (result["problems"], result["warnings"]) == (sum(problems), len(problems) - sum(problems))
    assert sorted((found["kind"], *found["names"]) for found in result["findings"]) == sorted(expected)
    assert all(found["severity"] == ("problem" if KINDS[found["kind"]].is_problem else "warning") for found in result["findings"])
    assert all(found["hint"] and found["text"] and found["text"] in outcome.err for found in result["findings"])


def test_broken_lines_of_the_manifest_are_named_with_what_is_wrong_with_the_others(drawn):
    truncate(drawn.cases["b"].image)
    write_dataset(drawn)
    manifest = drawn.folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",labeled,", ",train,", 1))
    outcome = call("check", drawn.folder, "--json")
    assert outcome.code == 4
    assert [found["kind"] for found in outcome.result["findings"]] == ["manifest", "truncated"]
    assert "unknown split 'train'" in outcome.result["findings"][0]["text"]


def test_people_see_the_count_and_the_first_names_of_many_findings(drawn):
    for number in range(SHOWN + 2):
        case = replace(drawn.cases["a"], id=f"x{number}", group=f"x{number}", image=drawn.folder / f"x{number}.png")
        case.image.write_bytes(b"")
        drawn.cases[case.id] = case
    paint(drawn.cases["b"].mask, 7)
    write_dataset(drawn)
    outcome = call("check", drawn.folder)
    assert outcome.code == 4 and outcome.out == ""
    [line] = [line for line in outcome.err.splitlines() if "cannot be read" in line]
    assert line.startswith(f"warning: {SHOWN + 2} files that cannot be read: x0, x1, x2, x3, x4, ...; the first: ")
    assert "values [7] in the mask of case b" in outcome.err
    assert f"error: {drawn.folder}: {SHOWN + 3} problems, the first: values [7]" in outcome.err


def test_each_file_is_decoded_once(drawn, monkeypatch):
    decoded = []
    for module, name in (("samsemi.data.verify", "decode_image"), ("samsemi.data.verify", "decode_case_label")):
        original = getattr(sys.modules[module], name)
        monkeypatch.setattr(f"{module}.{name}", lambda *a, original=original: decoded.append(1) or original(*a))
    verify(drawn)
    assert len(decoded) == 10


def test_masks_of_each_class_and_split_are_counted(drawn):
    paint(drawn.cases["b"].mask, 0)
    three = replace(drawn, classes=(*drawn.classes, "ulcer"))
    paint(drawn.cases["t"].mask, 2)
    expected = {"polyp": {"labeled": 1, "unlabeled": 1, "val": 1, "test": 0}, "ulcer": {"labeled": 0, "unlabeled": 0, "val": 0, "test": 1}}
    assert verify(three).found["class_masks"] == expected
    paint(drawn.cases["t"].mask, 1)
    write_dataset(drawn)
    assert "polyp  1        1          1    1" in call("check", drawn.folder).out


@pytest.mark.parametrize(
    ("splits", "leak"),
    [("labeled", False), ("labeled unlabeled", False), ("labeled val", True), ("unlabeled test", True), ("val test", True)],
)
def test_what_measures_must_not_be_seen_before(splits, leak):
    assert leaks(splits.split()) == leak
