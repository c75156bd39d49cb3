import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samsemi.data.dataset import (
    IGNORE,
    Case,
    Dataset,
    assign_splits,
    complain,
    is_safe_id,
    join_duplicates,
    need_cases,
    read_case_label,
    read_dataset,
    verify,
    write_dataset,
)
from samsemi.errors import DataError
from samsemi.options.prepare import PrepareOptions
from samsemi.stages.prepare import prepare

COLUMNS = "id,image,mask,truth,split,group\n"


def write_manifest(folder: Path, rows: str, about: dict | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_text(COLUMNS + rows)
    (folder / "dataset.json").write_text(json.dumps(about or {"name": "d", "classes": ["background", "polyp"], "spacing_mm": None}))
    return folder


def masked(count: int, per_group: int = 1) -> list[Case]:
    return [Case(f"c{i:03d}", Path(f"c{i}.png"), Path(f"m{i}.png"), None, "unlabeled", f"g{i // per_group:03d}") for i in range(count)]


def ids_of(cases: list[Case], split: str) -> set[str]:
    return {case.id for case in cases if case.split == split}


@pytest.fixture
def pictures(tmp_path):
    """A data set of real files: two labeled, one unlabeled with its truth, one val, one test; 20 x 30 pixels."""
    rng = np.random.default_rng(0)
    cases = {}
    for name, split in (("a", "labeled"), ("b", "labeled"), ("u", "unlabeled"), ("v", "val"), ("t", "test")):
        image, mask = tmp_path / f"{name}.png", tmp_path / f"{name}_m.png"
        Image.fromarray(rng.integers(0, 256, size=(20, 30, 3), dtype=np.uint8)).save(image)
        label = np.zeros((20, 30), dtype=np.uint8)
        label[:5] = 1
        Image.fromarray(label).save(mask)
        cases[name] = Case(name, image, None if split == "unlabeled" else mask, mask if split == "unlabeled" else None, split, name)
    return Dataset(tmp_path, "pictures", ("background", "polyp"), None, cases)


def test_dataset_is_read_back_as_it_was_written_with_paths_relative_inside_and_absolute_outside(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    cases = {
        "a": Case("a", tmp_path / "elsewhere" / "a.png", folder / "masks" / "a.png", None, "labeled", "p1"),
        "b": Case("b", folder / "b.png", None, folder / "truth" / "b.png", "unlabeled", "p2"),
    }
    dataset = Dataset(folder, "d", ("background", "polyp"), 0.5, cases)
    write_dataset(dataset)
    assert read_dataset(folder) == dataset
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["mask"] == "masks/a.png" and rows[0]["image"] == str(tmp_path / "elsewhere" / "a.png") and rows[1]["mask"] == ""


def test_group_defaults_to_the_case(tmp_path):
    assert read_dataset(write_manifest(tmp_path, "a,a.png,m.png,,labeled,\n")).cases["a"].group == "a"


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("a,../a.png,m.png,,labeled,g", "leads out"),
        ("a,a.png,sub/../../m.png,,labeled,g", "leads out"),
        ("a,a.png,,x/../../../t.png,unlabeled,g", "leads out"),
        ("../a,a.png,m.png,,labeled,g", "'../a'"),
        ("a/b,a.png,m.png,,labeled,g", "'a/b'"),
        (".hidden,a.png,m.png,,labeled,g", "'.hidden'"),
        (",a.png,m.png,,labeled,g", "''"),
        ("a,a.png,m.png,,train,g", "'train'"),
        ("a,,m.png,,labeled,g", "no image"),
        ("a,a.png,,,labeled,g", "no mask"),
        ("a,a.png,,m.png,val,g", "no mask"),
        ("a,a.png,m.png,,unlabeled,g", "has a mask"),
    ],
)
def test_bad_row_is_refused_with_its_line(tmp_path, row, named):
    folder = write_manifest(tmp_path, "ok,ok.png,ok_m.png,,labeled,g\n" + row + "\n")
    with pytest.raises(DataError) as caught:
        read_dataset(folder)
    assert "line 3" in caught.value.message and named in caught.value.message and caught.value.hint


def test_id_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="line 3.*'a' stands there twice"):
        read_dataset(write_manifest(tmp_path, "a,a.png,m.png,,labeled,g\na,b.png,m.png,,val,g\n"))


@pytest.mark.parametrize("text", ["a", "patient_01-x.2", "two words", "é", "0001"])
def test_plain_names_are_safe_ids(text):
    assert is_safe_id(text)


@pytest.mark.parametrize("text", ["", "..", ".a", "a/b", "a\\b", "c:x", "a\nb", "a*", 'a"', "<a>", "a|b", "\x00"])
def test_names_that_are_no_file_names_everywhere_are_not(text):
    assert not is_safe_id(text)


@pytest.mark.parametrize(
    ("about", "manifest"),
    [
        (None, COLUMNS + "a,a.png,m.png,,labeled,g\n"),
        ("{}", None),
        ("not json", COLUMNS),
        ("[]", COLUMNS + "a,a.png,m.png,,labeled,g\n"),
        ('{"name": "d"}', COLUMNS + "a,a.png,m.png,,labeled,g\n"),
        ('{"name": "d", "classes": ["background"]}', COLUMNS + "a,a.png,m.png,,labeled,g\n"),
        ('{"name": "d", "classes": ["background", "a"]}', COLUMNS),
        ('{"name": "d", "classes": ["background", "a"]}', "id,image\na,a.png\n"),
        ('{"name": "d", "classes": ["background", "a"]}', ""),
    ],
)
def test_folder_that_is_no_dataset_is_a_data_error(tmp_path, about, manifest):
    for name, text in (("dataset.json", about), ("manifest.csv", manifest)):
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=str(tmp_path)):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": "ab"},
        {"classes": [0, 1]},
        {"classes": ["background", "a", "a"]},
        {"spacing_mm": "x"},
        {"spacing_mm": -1},
        {"spacing_mm": [1, 1]},
    ],
    ids=str,
)
def test_malformed_dataset_json_is_a_data_error(tmp_path, wrong):
    about = {"name": "d", "classes": ["background", "a"], "spacing_mm": 0.5, **wrong}
    with pytest.raises(DataError, match="dataset.json"):
        read_dataset(write_manifest(tmp_path, "a,a.png,m.png,,labeled,g\n", about))


def test_manifest_saved_by_a_spreadsheet_is_read(tmp_path):
    write_manifest(tmp_path, "")
    (tmp_path / "manifest.csv").write_text("\ufeff" + COLUMNS + "a,a.png,m.png,,labeled,g\n", encoding="utf-8")
    assert list(read_dataset(tmp_path).cases) == ["a"]


def test_absurd_manifest_is_a_data_error(tmp_path):
    with pytest.raises(DataError):
        read_dataset(write_manifest(tmp_path, "a," + "x" * 200_000 + ",m.png,,labeled,g\n"))


def test_missing_dataset_and_binary_manifest_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="no such data set"):
        read_dataset(tmp_path / "missing")
    write_manifest(tmp_path, "")
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError):
        read_dataset(tmp_path)


def test_split_that_a_stage_needs_and_that_is_empty_is_a_data_error(tmp_path):
    dataset = read_dataset(write_manifest(tmp_path, "a,a.png,m.png,,labeled,g\n"))
    assert [case.id for case in need_cases(dataset, "labeled")] == ["a"]
    with pytest.raises(DataError, match="no val cases"):
        need_cases(dataset, "val")


def test_fingerprint_depends_on_names_classes_and_splits_and_not_on_truth_or_place(tmp_path):
    rows = "a,a.png,m.png,,labeled,g\nb,b.png,,t.png,unlabeled,h\n"
    base = read_dataset(write_manifest(tmp_path / "1", rows))
    assert read_dataset(write_manifest(tmp_path / "2", rows)).fingerprint() == base.fingerprint()
    without_truth = {**base.cases, "b": replace(base.cases["b"], truth=None)}
    assert replace(base, cases=without_truth).fingerprint() == base.fingerprint()
    changed = [
        replace(base, classes=("background", "lesion")),
        replace(base, spacing_mm=1.0),
        replace(base, cases={**base.cases, "a": replace(base.cases["a"], split="val")}),
        replace(base, cases={**base.cases, "a": replace(base.cases["a"], group="x")}),
        replace(base, cases={"a": base.cases["a"]}),
    ]
    assert len({dataset.fingerprint() for dataset in (base, *changed)}) == 6


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"test": 0.2, "val": 0.1, "labeled": 0.1}, {"test": 20, "val": 10, "labeled": 10, "unlabeled": 60}),
        ({"test": 7, "val": 5, "labeled": 3}, {"test": 7, "val": 5, "labeled": 3, "unlabeled": 85}),
        ({"test": 0, "val": 0.1, "labeled": 1 / 3}, {"val": 10, "labeled": 33, "unlabeled": 57}),
        ({"test": 0.5, "val": 0.25, "labeled": 0.25}, {"test": 50, "val": 25, "labeled": 25}),
        ({"test": 0, "val": 0, "labeled": 0.001}, {"labeled": 1, "unlabeled": 99}),
    ],
)
def test_shares_and_counts_are_met(wanted, expected):
    cases = assign_splits(masked(100), wanted, seed=0)
    assert Counter(case.split for case in cases) == expected
    assert [case.id for case in cases] == [case.id for case in masked(100)]


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_whole_and_shares_are_met_within_a_group(seed):
    cases = assign_splits(masked(120, per_group=5), {"test": 0.2, "val": 12, "labeled": 0.1}, seed)
    splits = {}
    for case in cases:
        splits.setdefault(case.group, set()).add(case.split)
    assert all(len(found) == 1 for found in splits.values())
    counts = Counter(case.split for case in cases)
    assert abs(counts["test"] - 24) <= 5 and abs(counts["val"] - 12) <= 5 and abs(counts["labeled"] - 12) <= 5


@pytest.mark.parametrize(("share", "count"), [(0.14, 10), (0.16, 20), (16, 20), (24, 20), (0.01, 10)])
def test_share_is_rounded_to_whole_groups_and_at_least_one(share, count):
    cases = assign_splits(masked(100, per_group=10), {"test": 0, "val": share, "labeled": 0}, seed=0)
    assert len(ids_of(cases, "val")) == count


def test_smaller_labeled_shares_are_parts_of_larger_ones_beside_the_same_test_and_val():
    """So that a curve over the label budget is one experiment."""
    found = [assign_splits(masked(200, 2), {"test": 0.2, "val": 0.1, "labeled": share}, seed=3) for share in (0.02, 0.05, 0.1, 0.4)]
    assert len({frozenset(ids_of(cases, "test")) for cases in found}) == 1
    assert len({frozenset(ids_of(cases, "val")) for cases in found}) == 1
    labeled = [ids_of(cases, "labeled") for cases in found]
    assert all(small < large for small, large in zip(labeled, labeled[1:], strict=False))


def test_split_depends_on_the_seed_and_not_on_the_order_of_the_files():
    wanted = {"test": 0.2, "val": 0.1, "labeled": 0.1}
    split_of = {case.id: case.split for case in assign_splits(masked(60, 2), wanted, seed=1)}
    assert {case.id: case.split for case in assign_splits(masked(60, 2)[::-1], wanted, seed=1)} == split_of
    assert {case.id: case.split for case in assign_splits(masked(60, 2), wanted, seed=2)} != split_of


def test_masks_of_unlabeled_cases_are_hidden_in_truth_and_no_others():
    cases = assign_splits(masked(20), {"test": 0.2, "val": 0.2, "labeled": 0.2}, seed=0)
    for case in cases:
        hidden = case.split == "unlabeled"
        assert (case.mask is None) == hidden and (case.truth is not None) == hidden


def test_cases_without_a_mask_are_unlabeled_and_so_is_their_group():
    cases = [replace(case, mask=None) if i % 10 == 0 else case for i, case in enumerate(masked(40, per_group=2))]
    dealt = assign_splits(cases, {"test": 0.25, "val": 0.25, "labeled": 0.25}, seed=0)
    groups = {case.group for case, before in zip(dealt, cases, strict=True) if before.mask is None}
    assert all(case.split == "unlabeled" for case in dealt if case.group in groups)
    assert all(case.truth is None for case, before in zip(dealt, cases, strict=True) if before.mask is None)


@pytest.mark.parametrize(
    "wanted",
    [
        {"test": 0.5, "val": 0.3, "labeled": 0.4},
        {"test": 8, "val": 2, "labeled": 2},
        {"test": 0, "val": 0, "labeled": 11},
    ],
)
def test_asking_for_more_than_there_is_is_a_data_error(wanted):
    with pytest.raises(DataError, match="10 cases with masks"):
        assign_splits(masked(10), wanted, seed=0)


@pytest.mark.parametrize("wanted", [{"test": 0.3, "val": 0.3, "labeled": 0.3}, {"test": 2, "val": 2, "labeled": 2}])
def test_too_few_groups_are_a_data_error(wanted):
    with pytest.raises(DataError, match="2 groups"):
        assign_splits(masked(10, per_group=5), wanted, seed=0)


def test_sound_dataset_has_no_problems_and_is_described(pictures):
    problems, found = verify(pictures)
    assert problems == []
    assert found["cases"] == 5 and found["splits"] == {"labeled": 2, "unlabeled": 1, "val": 1, "test": 1}
    assert found["groups"] == 5 and found["image_sizes"] == {"30 x 20": 5}
    assert found["class_pixel_share"] == {"background": 0.75, "polyp": 0.25} and found["ignored_pixel_share"] == 0


def test_ignored_pixels_are_described(pictures):
    label = np.zeros((20, 30), dtype=np.uint8)
    label[:10] = IGNORE
    for case in pictures.cases.values():
        Image.fromarray(label).save(case.mask or case.truth)
    assert verify(pictures)[1]["ignored_pixel_share"] == 0.5


def test_all_problems_are_found_at_once(pictures):
    cases = pictures.cases
    cases["a"].image.write_bytes(cases["a"].image.read_bytes()[:60])
    Image.fromarray(np.full((20, 30), 7, dtype=np.uint8)).save(cases["b"].mask)
    Image.fromarray(np.zeros((30, 20), dtype=np.uint8)).save(cases["v"].mask)
    cases["u"].truth.unlink()
    problems, _ = verify(pictures)
    assert len(problems) == 4
    for part in ("a.png", "values [7]", "20 x 30 pixels, image v.png has 30 x 20", "u_m.png: no such file"):
        assert any(part in problem for problem in problems)


def test_same_picture_in_two_splits_is_a_problem_and_within_one_is_not(pictures):
    cases = pictures.cases
    cases["b"].image.write_bytes(cases["a"].image.read_bytes())
    assert verify(pictures)[0] == []
    Image.open(cases["a"].image).save(cases["t"].image, compress_level=1)
    assert verify(pictures)[0] == ["t (test) and a (labeled) are the same image"]


def test_blank_pictures_of_other_shapes_are_not_the_same(pictures):
    """20 x 30 and 30 x 20 black pixels have the same bytes."""
    Image.new("RGB", (20, 30)).save(pictures.cases["a"].image)
    Image.new("L", (20, 30)).save(pictures.cases["a"].mask)
    Image.new("RGB", (30, 20)).save(pictures.cases["t"].image)
    assert verify(pictures)[0] == []


def test_group_in_two_splits_is_a_problem(pictures):
    cases = {name: replace(case, group="p" if name in "at" else name) for name, case in pictures.cases.items()}
    assert verify(replace(pictures, cases=cases))[0] == ["group p stands in labeled and test"]


def test_dataset_without_labeled_or_val_cases_is_a_problem(pictures):
    cases = {name: case for name, case in pictures.cases.items() if name in "ut"}
    assert verify(replace(pictures, cases=cases))[0] == ["no labeled cases", "no val cases"]


def test_problems_are_named_one_by_one_and_end_in_a_data_error(capsys):
    with pytest.raises(DataError, match="3 problems, the first: one"):
        complain("data", ["one", "two", "three"])
    shown = capsys.readouterr().err
    assert all(f"warning: {problem}" in shown for problem in ("one", "two", "three"))
    complain("data", [])


def test_case_label_keeps_ignore_and_refuses_unknown_classes(pictures):
    case = pictures.cases["a"]
    Image.fromarray(np.array([[0, 1, IGNORE]], dtype=np.uint8)).save(case.mask)
    assert read_case_label(case, case.mask, 2).tolist() == [[0, 1, IGNORE]]
    Image.fromarray(np.array([[0, 2, 9]], dtype=np.uint8)).save(case.mask)
    with pytest.raises(DataError, match=r"values \[2, 9\] in the mask of case a"):
        read_case_label(case, case.mask, 2)


def test_prepare_hides_the_masks_of_unlabeled_cases(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, size=(8, 9, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(np.uint8(255) * (rng.random((8, 9)) < 0.5)).save(tmp_path / "masks" / f"{i}.png")
    out = tmp_path / "data"
    result = prepare(PrepareOptions(images=tmp_path / "images", masks=tmp_path / "masks", out=out, labeled=0.2, val=0.2, test=0.2))
    assert result["splits"] == {"labeled": 2, "unlabeled": 4, "val": 2, "test": 2}
    dataset = read_dataset(out)
    for case in dataset.cases.values():
        hidden = case.split == "unlabeled"
        assert case.mask == (None if hidden else out / "masks" / f"{case.id}.png")
        assert case.truth == (out / "truth" / f"{case.id}.png" if hidden else None)
        original = np.asarray(Image.open(tmp_path / "masks" / f"{case.id}.png"))
        assert np.array_equal(read_case_label(case, case.mask or case.truth, 2), original // 255)
    assert len(list((out / "masks").iterdir())) == 6


def test_groups_that_share_a_picture_are_joined(tmp_path):
    """a and c hold the same pixels, c's patient has d too: all three groups' cases stay together."""
    pixels = {"a": 1, "b": 2, "c": 1, "d": 3, "e": 3}
    groups = {"a": "p1", "b": "p2", "c": "p3", "d": "p3", "e": "p4"}
    cases = []
    for name, value in pixels.items():
        Image.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)).save(tmp_path / f"{name}.png")
        cases.append(Case(name, tmp_path / f"{name}.png", None, None, "unlabeled", groups[name]))
    joined, duplicates = join_duplicates(cases)
    found = {case.id: case.group for case in joined}
    assert duplicates == 2
    assert found["a"] == found["c"] == found["d"] == found["e"] != found["b"]
