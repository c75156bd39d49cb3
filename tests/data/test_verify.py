from dataclasses import replace

import numpy as np
import pytest
from builders import call
from PIL import Image

from samsemi.data.dataset import IGNORE, need_cases, with_hashes, write_dataset
from samsemi.data.verify import verify
from samsemi.errors import DataError


def test_sound_dataset_has_no_problems_and_is_described(drawn):
    problems, found, _ = verify(drawn)
    assert problems == []
    assert found["cases"] == 5 and found["splits"] == {"labeled": 2, "unlabeled": 1, "val": 1, "test": 1}
    assert found["groups"] == 5 and found["image_sizes"] == {"30 x 20": 5}
    assert found["class_pixel_share"] == {"background": 0.75, "polyp": 0.25} and found["ignored_pixel_share"] == 0


def test_ignored_pixels_are_described(drawn):
    label = np.zeros((20, 30), dtype=np.uint8)
    label[:10] = IGNORE
    for case in drawn.cases.values():
        Image.fromarray(label).save(case.mask or case.truth)
    assert verify(drawn)[1]["ignored_pixel_share"] == 0.5


def test_all_problems_are_found_at_once(drawn):
    cases = drawn.cases
    cases["a"].image.write_bytes(cases["a"].image.read_bytes()[:60])
    Image.fromarray(np.full((20, 30), 7, dtype=np.uint8)).save(cases["b"].mask)
    Image.fromarray(np.zeros((30, 20), dtype=np.uint8)).save(cases["v"].mask)
    cases["u"].truth.unlink()
    problems = verify(drawn).problems
    assert len(problems) == 4
    for part in ("a.png", "values [7]", "20 x 30 pixels, image v.png has 30 x 20", "u_m.png: no such file"):
        assert any(part in problem for problem in problems)


def test_same_picture_in_two_splits_is_a_problem_and_within_one_is_not(drawn):
    cases = drawn.cases
    cases["b"].image.write_bytes(cases["a"].image.read_bytes())
    assert verify(drawn)[0] == []
    Image.open(cases["a"].image).save(cases["t"].image, compress_level=1)
    assert verify(drawn)[0] == ["t (test) and a (labeled) are the same image"]


def test_blank_drawn_of_other_shapes_are_not_the_same(drawn):
    """20 x 30 and 30 x 20 black pixels have the same bytes."""
    Image.new("RGB", (20, 30)).save(drawn.cases["a"].image)
    Image.new("L", (20, 30)).save(drawn.cases["a"].mask)
    Image.new("RGB", (30, 20)).save(drawn.cases["t"].image)
    assert verify(drawn)[0] == []


def test_group_in_two_splits_is_a_problem(drawn):
    cases = {name: replace(case, group="p" if name in "at" else name) for name, case in drawn.cases.items()}
    assert verify(replace(drawn, cases=cases))[0] == ["group p stands in labeled and test"]


def test_dataset_without_labeled_or_val_cases_is_a_problem(drawn):
    cases = {name: case for name, case in drawn.cases.items() if name in "ut"}
    assert verify(replace(drawn, cases=cases))[0] == ["no labeled cases", "no val cases"]


def test_changed_files_are_named_and_the_others_counted(drawn):
    hashed = replace(drawn, cases={name: with_hashes(case) for name, case in drawn.cases.items()})
    assert verify(drawn)[1]["files"] == {"compared": 0, "without_hash": 10}
    assert verify(hashed)[0] == [] and verify(hashed)[1]["files"] == {"compared": 10, "without_hash": 0}
    label = np.zeros((20, 30), dtype=np.uint8)
    label[5:] = 1
    for path in (drawn.cases["a"].mask, drawn.cases["u"].truth):
        Image.fromarray(label).save(path)
    Image.new("RGB", (30, 20)).save(drawn.cases["t"].image)
    changed = [("a", "a_m.png"), ("u", "u_m.png"), ("t", "t.png")]
    expected = [f"case {name}: {drawn.folder / file} has changed since the data set was prepared" for name, file in changed]
    assert verify(hashed)[0] == expected


def test_file_with_a_problem_of_its_own_is_not_named_twice(drawn):
    hashed = replace(drawn, cases={name: with_hashes(case) for name, case in drawn.cases.items()})
    Image.fromarray(np.zeros((30, 20), dtype=np.uint8)).save(drawn.cases["v"].mask)
    Image.fromarray(np.full((20, 30), 7, dtype=np.uint8)).save(drawn.cases["b"].mask)
    problems = verify(hashed)[0]
    assert len(problems) == 2 and not any("changed" in problem for problem in problems)


def test_problems_of_an_image_are_named_although_its_mask_is_missing(drawn):
    cases = drawn.cases
    cases["t"].image.write_bytes(cases["a"].image.read_bytes())
    cases["t"].mask.unlink()
    assert [problem.rsplit(": ")[-1] for problem in verify(drawn)[0]] == ["t (test) and a (labeled) are the same image", "no such file"]


def test_class_that_no_labeled_or_no_val_mask_holds_is_named(drawn):
    assert verify(drawn).missing_classes == []
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(drawn.cases["v"].mask)
    assert verify(drawn).missing_classes == ["class polyp occurs in no val mask"]
    three = replace(drawn, classes=(*drawn.classes, "ulcer"))
    assert verify(three).missing_classes == [f"class {c} occurs in no {s} mask" for s, c in LACKING]


LACKING = (("labeled", "ulcer"), ("val", "polyp"), ("val", "ulcer"))


def test_black_and_white_masks_in_a_data_set_are_refused_not_ignored(drawn):
    for case in drawn.cases.values():
        for path in filter(None, (case.mask, case.truth)):
            Image.fromarray(np.asarray(Image.open(path)) * np.uint8(255)).save(path)
    [problem] = verify(drawn).missing_classes
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
    [problem] = verify(drawn)[0]
    assert "30 x 20 pixels, image t.png has 20 x 30 (image turned by EXIF orientation)" in problem
    assert [record.getMessage() for record in caplog.records] == ["1 images turned upright as their EXIF orientation says"]
