import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samsemi.data.dataset import (
    IGNORE,
    Case,
    Dataset,
    complain,
    need_cases,
    read_case_image,
    read_case_images,
    read_case_label,
    read_dataset,
    refuse_changed_files,
    with_hashes,
    write_dataset,
)
from samsemi.data.manifest import is_safe_id
from samsemi.errors import ChangedFile, DataError
from samsemi.options.prepare import PrepareOptions
from samsemi.stages.prepare import prepare

COLUMNS = "id,image,mask,truth,split,group\n"


def write_manifest(folder: Path, rows: str, about: dict | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_text(COLUMNS + rows)
    (folder / "dataset.json").write_text(json.dumps(about or {"name": "d", "classes": ["background", "polyp"], "spacing_mm": None}))
    return folder


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
    assert json.loads((folder / "dataset.json").read_text())["schema"] == "samsemi.dataset/1"
    assert rows[0]["mask"] == "masks/a.png" and rows[0]["image"] == str(tmp_path / "elsewhere" / "a.png") and rows[1]["mask"] == ""


def test_place_of_slices_is_read_back_and_stands_last(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    cases = {
        "v__001": Case("v__001", folder / "a.png", folder / "m.png", None, "val", "p1", volume="v", slice=1, spacing=(2.5, 0.7, 0.75)),
        "x": Case("x", folder / "b.png", None, None, "unlabeled", "p2", spacing=(0.2, 0.1)),
    }
    dataset = Dataset(folder, "d", ("background", "polyp"), None, cases, window="lung")
    write_dataset(dataset)
    assert read_dataset(folder) == dataset
    with open(folder / "manifest.csv", newline="") as file:
        header, first, second = csv.reader(file)
    assert header[-3:] == ["volume", "slice", "spacing"]
    assert (first[-3:], second[-3:]) == (["v", "1", "2.5 0.7 0.75"], ["", "", "0.2 0.1"])


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("../v,0,", "volume '../v'"),
        ("v,,", "volume 'v', slice None"),
        (",3,", "slice '3'"),
        ("v,-1,", "slice '-1'"),
        ("v,1,thick", "spacing 'thick'"),
        ("v,1,1 2 0", "spacing '1 2 0'"),
        ("v,1,3", "spacing '3'"),
        ("v,1,nan 1 1", "spacing 'nan 1 1'"),
    ],
)
def test_place_that_cannot_be_is_refused_with_its_line(tmp_path, place, said):
    folder = write_manifest(tmp_path, f"a,a.png,m.png,,labeled,,{place}\n")
    table = folder / "manifest.csv"
    table.write_text(table.read_text().replace("group\n", "group,volume,slice,spacing\n", 1))
    with pytest.raises(DataError, match="line 2") as caught:
        read_dataset(folder)
    assert said in caught.value.message


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


def test_problems_are_named_one_by_one_and_end_in_a_data_error(caplog):
    with pytest.raises(DataError, match="3 problems, the first: one"):
        complain("data", ["one", "two", "three"], "repair them")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("samsemi", name) for name in ("one", "two", "three")]
    complain("data", [], "repair them")


def test_case_label_keeps_ignore_and_refuses_unknown_classes(drawn):
    case = drawn.cases["a"]
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


def test_hashes_are_the_last_columns_and_read_back(drawn):
    hashed = replace(drawn, cases={name: with_hashes(case) for name, case in drawn.cases.items()})
    write_dataset(hashed)
    assert read_dataset(drawn.folder) == hashed
    with open(drawn.folder / "manifest.csv", newline="") as file:
        header, row, *_ = csv.reader(file)
    assert header == ["id", "image", "mask", "truth", "split", "group", "image_sha256", "mask_sha256", "truth_sha256"]
    assert row[6] == hashlib.sha256(drawn.cases["a"].image.read_bytes()).hexdigest() and row[8] == ""
    assert (hashed.cases["u"].mask_sha256, hashed.cases["a"].truth_sha256) == (None, None)
    assert len(hashed.cases["u"].truth_sha256) == 64


def test_hash_of_a_file_that_is_not_named_is_left_alone(tmp_path):
    """A mask that a person moved to the column truth left its hash behind: hidden truth stays out of the fingerprint."""
    write_manifest(tmp_path, "")
    (tmp_path / "manifest.csv").write_text(f"{COLUMNS.strip()},mask_sha256\na,a.png,,m.png,unlabeled,g,{'0' * 64}\n")
    assert read_dataset(tmp_path).cases["a"].mask_sha256 is None


def test_keys_and_columns_that_are_not_known_are_left_alone(tmp_path):
    about = {"schema": "samsemi.dataset/1", "name": "d", "classes": ["background", "polyp"], "spacing_mm": None, "license": [1]}
    write_manifest(tmp_path, "", about)
    (tmp_path / "manifest.csv").write_text(f"{COLUMNS.strip()},age\na,a.png,m.png,,labeled,g,61\n")
    assert read_dataset(tmp_path) == read_dataset(write_manifest(tmp_path, "a,a.png,m.png,,labeled,g\n"))


@pytest.mark.parametrize("schema", ["samsemi.dataset/2", "", 1, ["samsemi.dataset/1"]])
def test_other_schema_is_a_data_error_that_says_which_is_read(tmp_path, schema):
    about = {"schema": schema, "name": "d", "classes": ["background", "polyp"]}
    with pytest.raises(DataError, match="samsemi.dataset/1") as caught:
        read_dataset(write_manifest(tmp_path, "a,a.png,m.png,,labeled,g\n", about))
    assert str(schema) in caught.value.message and "update samsemi" in caught.value.hint


def test_fingerprint_without_hashes_is_that_of_older_data_sets(tmp_path):
    rows = "a,a.png,m.png,,labeled,g\nb,b.png,,t.png,unlabeled,h\n"
    expected = [["a", "labeled", "g"], ["b", "unlabeled", "h"]]
    whole = hashlib.sha256(json.dumps(["d", ["background", "polyp"], None, expected]).encode()).hexdigest()
    assert read_dataset(write_manifest(tmp_path, rows)).fingerprint() == whole


def test_fingerprint_depends_on_the_files_and_not_on_truth(drawn):
    hashed = {name: with_hashes(case) for name, case in drawn.cases.items()}
    base = replace(drawn, cases=hashed)
    other = "f" * 64
    assert base.fingerprint() != drawn.fingerprint()
    hidden = replace(base, cases={**hashed, "u": replace(hashed["u"], truth_sha256=other)})
    assert hidden.fingerprint() == base.fingerprint()
    for case, changed in (("a", "mask_sha256"), ("v", "mask_sha256"), ("a", "image_sha256"), ("u", "image_sha256")):
        cases = {**hashed, case: replace(hashed[case], **{changed: other})}
        assert replace(base, cases=cases).fingerprint() != base.fingerprint()


def invert(path: Path) -> None:
    with Image.open(path) as picture:
        label = np.array(picture)
    Image.fromarray(1 - label).save(path)


def test_changed_mask_is_noticed_when_it_is_read(drawn):
    case, hidden, unknown = with_hashes(drawn.cases["a"]), with_hashes(drawn.cases["u"]), drawn.cases["a"]
    assert read_case_label(case, case.mask, 2).any()
    invert(case.mask)
    invert(hidden.truth)
    for changed, path in ((case, case.mask), (hidden, hidden.truth)):
        with pytest.raises(ChangedFile, match=f"case {changed.id}: {path} has changed") as caught:
            read_case_label(changed, path, 2)
        assert "prepare the data set again" in caught.value.hint
    assert read_case_label(unknown, unknown.mask, 2).any(), "nothing to compare with"
    assert read_case_label(case, drawn.cases["b"].mask, 2).any(), "a prediction for the case is none of its files"


def test_changed_image_is_noticed_when_it_is_read(drawn):
    case = with_hashes(drawn.cases["a"])
    assert read_case_image(case).shape == (20, 30, 3)
    Image.new("RGB", (30, 20)).save(case.image)
    with pytest.raises(ChangedFile, match="a.png has changed"):
        read_case_image(case)


def test_same_pixels_in_another_file_are_a_change(drawn):
    """What is compared is the file: cheap, and what ``sha256sum`` gives."""
    case = with_hashes(drawn.cases["a"])
    Image.open(case.image).save(case.image, compress_level=1)
    with pytest.raises(ChangedFile):
        read_case_image(case)


def test_damaged_images_are_left_out_with_a_warning_and_changed_ones_are_an_error(drawn, caplog):
    cases = [with_hashes(case) for case in drawn.cases.values()]
    cases[0].image.write_bytes(cases[0].image.read_bytes()[:60])
    cases[1].image.unlink()
    assert list(read_case_images(cases)) == ["u", "v", "t"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["skipped", "skipped"]
    Image.new("RGB", (30, 20)).save(cases[2].image)
    with pytest.raises(ChangedFile, match="case u"):
        read_case_images(cases)


def test_files_are_compared_without_truth_and_without_those_that_are_gone(drawn):
    cases = [with_hashes(case) for case in drawn.cases.values()]
    invert(drawn.cases["u"].truth)
    cases[0].image.unlink()
    refuse_changed_files(cases)
    invert(drawn.cases["v"].mask)
    with pytest.raises(ChangedFile, match="case v"):
        refuse_changed_files(cases)


def test_reading_data_sets_loads_no_command_line_and_no_torch():
    code = "import sys, samsemi.data.verify, samsemi.data.layouts.table; print(*{'typer', 'rich', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("[" * 5000, "cannot be read"),
        ("[]", "no JSON object"),
        ('{"classes": ', "cannot be read"),
        ('{"classes": ["a", "b"], "schema": {"x": 1}}', "is of schema"),
        ('{"classes": ["a", "b"], "spacing_mm": "wide"}', "no size of a pixel"),
        (json.dumps({"classes": [f"c{k}" for k in range(300)]}), "300 classes, at most 255"),
        ('{"classes": ["a", "b"], "x": ' + '{"y":' * 40 + "1" + "}" * 41, "nested too deep"),
    ],
)
def test_dataset_json_that_cannot_be_is_named(tmp_path, about, said):
    folder = write_manifest(tmp_path / "d", "a,a.png,,,unlabeled,a\n")
    (folder / "dataset.json").write_text(about)
    with pytest.raises(DataError, match=rf"dataset\.json.*{said}"):
        read_dataset(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["manifest.csv", "dataset.json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_manifest_that_never_ends_is_not_read(tmp_path, name, kind):
    folder = write_manifest(tmp_path / "d", "a,a.png,,,unlabeled,a\n")
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match="not a regular file"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"a,{'x' * 2**20},,,unlabeled,a\n", "field limit"),
        (f"{'x' * 201},a.png,,,unlabeled,a\n", "cannot be a file name"),
        ("a,a.png,,,unlabeled\n", "fewer columns"),
    ],
)
def test_row_that_cannot_be_is_named_shortly(tmp_path, row, said):
    with pytest.raises(DataError, match=said) as caught:
        read_dataset(write_manifest(tmp_path / "d", row))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(("first", "second"), [("labeled", "test"), ("unlabeled", "val"), ("val", "test"), ("unlabeled", "test")])
def test_patient_who_is_seen_before_he_measures_is_refused_wherever_cases_are_taken(drawn, first, second):
    cases = {name: replace(case, group="p1" if case.split in (first, second) else case.group) for name, case in drawn.cases.items()}
    leaking = replace(drawn, cases=cases)
    for split in ("labeled", "unlabeled", "val", "test"):
        assert need_cases(drawn, split)
        with pytest.raises(DataError, match=f"group p1 stands in {' and '.join(sorted((first, second)))}"):
            need_cases(leaking, split)


def test_long_manifest_is_read_in_a_time_that_grows_with_it(tmp_path):
    """Twice the rows take twice the time, and not four times: seconds for hundreds of thousands."""

    def seconds(count: int) -> float:
        rows = "".join(f"c{i},images/{i}.png,,,unlabeled,g{i}\n" for i in range(count))
        folder = write_manifest(tmp_path / str(count), rows)
        times = []
        for _ in range(3):  # the least: a busy machine makes some longer
            start = time.process_time()
            assert len(read_dataset(folder).cases) == count
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(16_000) < 12 * max(seconds(4_000), 0.02)
