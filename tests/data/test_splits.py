from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samsemi.data.layouts.found import FoundCase
from samsemi.data.sources import ImageFile, MaskFile
from samsemi.data.splits import assign_splits, find_group, join_duplicates, read_split_file
from samsemi.errors import DataError, UsageError


def masked(count: int, per_group: int = 1) -> list[FoundCase]:
    return [
        FoundCase(f"c{i:03d}", ImageFile(Path(f"c{i}.png")), MaskFile(Path(f"m{i}.png")), f"g{i // per_group:03d}") for i in range(count)
    ]


def ids_of(cases: list[FoundCase], split: str) -> set[str]:
    return {case.id for case in cases if case.split == split}


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


def test_number_counts_patients_where_cases_are_slices_of_volumes():
    """Nobody counts slices: --val 2 of a hundred scans is two of them, whatever they are long."""
    slices = [replace(case, volume=case.group, slice=0) for case in masked(200, per_group=20)]
    cases = assign_splits(slices, {"test": 2, "val": 0.1, "labeled": 3}, seed=0)
    patients = {split: {case.group for case in cases if case.split == split} for split in ("test", "val", "labeled", "unlabeled")}
    assert {split: len(found) for split, found in patients.items()} == {"test": 2, "val": 1, "labeled": 3, "unlabeled": 4}
    with pytest.raises(DataError, match="--labeled 18 is more than the 10 patients or volumes with masks"):
        assign_splits(slices, {"labeled": 18}, seed=0)


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


def test_cases_without_a_mask_are_unlabeled_and_so_is_their_group():
    cases = [replace(case, mask=None) if i % 10 == 0 else case for i, case in enumerate(masked(40, per_group=2))]
    dealt = assign_splits(cases, {"test": 0.25, "val": 0.25, "labeled": 0.25}, seed=0)
    groups = {case.group for case, before in zip(dealt, cases, strict=True) if before.mask is None}
    assert all(case.split == "unlabeled" for case in dealt if case.group in groups)


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


def test_groups_that_share_a_picture_are_joined(tmp_path):
    """a and c hold the same pixels, c's patient has d too: all three groups' cases stay together."""
    pixels = {"a": 1, "b": 2, "c": 1, "d": 3, "e": 3}
    groups = {"a": "p1", "b": "p2", "c": "p3", "d": "p3", "e": "p4"}
    cases = []
    for name, value in pixels.items():
        image = np.full((4, 5, 3), value, dtype=np.uint8)
        image[0, 0] = 9
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        cases.append(FoundCase(name, ImageFile(tmp_path / f"{name}.png"), None, groups[name]))
    joined, duplicates = join_duplicates(cases)
    found = {case.id: case.group for case in joined}
    assert duplicates == 2
    assert found["a"] == found["c"] == found["d"] == found["e"] != found["b"]


@pytest.mark.parametrize(
    ("name", "pattern", "group"),
    [
        ("patient012_frame3", None, "patient012_frame3"),
        ("patient012_frame3", r"patient\d+", "patient012"),
        ("patient012_frame3", r"patient(\d+)_", "012"),
        ("x-7-y", r"(\d)-(\w)", "7"),
    ],
)
def test_group_is_found_in_the_name(name, pattern, group):
    assert find_group(name, pattern) == group


@pytest.mark.parametrize("pattern", [r"case\d+", r"(zzz)?patient", r"\d*"], ids=["none", "group left out", "empty"])
def test_group_that_is_not_found_is_a_data_error(pattern):
    with pytest.raises(DataError, match="patient012"):
        find_group("patient012", pattern)


def test_bad_expression_is_a_usage_error():
    with pytest.raises(UsageError, match="--groups"):
        find_group("a", "(")


def test_split_file_is_read_with_and_without_groups(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("\ufeffid,split,group\na,labeled,p1\nb,test,\n", encoding="utf-8")
    assert read_split_file(path) == {"a": ("labeled", "p1"), "b": ("test", None)}
    path.write_text("split,id\nval,c\n")
    assert read_split_file(path) == {"c": ("val", None)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "id,split"),
        ("id,split\n", "id,split"),
        ("name,split\na,test\n", "id,split"),
        ("id,split\na,train\n", "'train'"),
        ("id,split\na\n", "split"),
        ("id,split\na,test\na,labeled\n", "a"),
    ],
    ids=["empty", "no rows", "no id", "unknown split", "short row", "two splits for one case"],
)
def test_malformed_split_file_is_a_data_error(tmp_path, text, named):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_split_file(path)
    assert str(path) in caught.value.message and named in caught.value.message


def test_missing_and_binary_split_files_are_data_errors(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("missing.csv", "binary.csv"):
        with pytest.raises(DataError, match=name):
            read_split_file(tmp_path / name)


def test_all_masks_that_test_and_val_leave_are_labeled():
    cases = [*masked(9), *(replace(case, id=f"u{i}", mask=None, group=f"u{i}") for i, case in enumerate(masked(30)))]
    dealt = assign_splits(cases, {"test": 0.1, "val": 0.1}, seed=0, rest="labeled")
    assert Counter(case.split for case in dealt) == {"test": 1, "val": 1, "labeled": 7, "unlabeled": 30}
    share = assign_splits(masked(40), {"test": 0.2, "val": 0.1, "labeled": 0.1}, seed=0)
    whole = assign_splits(masked(40), {"test": 0.2, "val": 0.1}, seed=0, rest="labeled")
    assert all(ids_of(share, split) == ids_of(whole, split) for split in ("test", "val"))
    with pytest.raises(DataError, match="leave none"):
        assign_splits(masked(10), {"test": 0.5, "val": 0.5}, seed=0, rest="labeled")


@pytest.mark.parametrize("content", [b"id,split\na," + b"x" * 2**20, b"id,split\n\xff,test\n"], ids=["cell of 1 MB", "no UTF-8"])
def test_split_file_that_is_no_table_is_named(tmp_path, content):
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"--split .*s\.csv"):
        read_split_file(tmp_path / "s.csv")


def test_images_of_a_single_color_join_no_patients(tmp_path):
    """The first slices of volumes are often black."""
    Image.new("RGB", (5, 4)).save(tmp_path / "black.png")
    cases = [FoundCase(name, ImageFile(tmp_path / "black.png"), None, name) for name in ("a", "b")]
    joined, duplicates = join_duplicates(cases)
    assert duplicates == 0
    assert [case.group for case in joined] == ["a", "b"]
