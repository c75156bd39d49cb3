"""A store mined in shares, and what mining would take."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
from builders import MINING, ROOT, assert_interrupted, files_in, hdf5_values, interrupt_at, refused, succeed

from samsemi.mining.store_writer import StoreWriter, parts_of
from samsemi.outputs import locked_output

SHARES = 3


@pytest.fixture
def arguments(dataset, warm, tmp_path) -> tuple:
    return ("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *MINING)


def test_parts_merge_to_the_store_of_one_machine(arguments, store, tmp_path):
    """Mined in another order, into folders of their own as on machines that share no disk."""
    out, counts = tmp_path / "s.h5", []
    for share in (3, 1, 2):
        own = tmp_path / str(share) / "s.h5"
        found = succeed(*arguments, "--out", own, "--part", f"{share}/{SHARES}", "--json").result
        assert found["part"] == f"{share}/{SHARES}" and not own.exists()
        counts.append(found["images"])
        parts_of(out).mkdir(exist_ok=True)
        for part in parts_of(own).iterdir():
            part.rename(parts_of(out) / part.name)
    assert sum(counts) == 9 and min(counts) > 0
    merged = succeed(*arguments, "--merge", "--json").result
    assert merged["images"] == 9 and not parts_of(out).exists()
    assert hdf5_values(out) == hdf5_values(store)


def test_share_goes_on_where_it_was_stopped_and_others_mine_beside_it(arguments, store, tmp_path, monkeypatch):
    out = tmp_path / "s.h5"
    with monkeypatch.context() as patch:
        interrupt_at(patch, StoreWriter, "commit", 2)
        assert_interrupted((*arguments, "--part", "1/2"))
    assert len(list(parts_of(out).iterdir())) == 1
    (parts_of(out) / ".samsemi-0123456789abcdef-01234567.part").mkdir()  # of another share, which is being written
    assert succeed(*arguments, "--part", "2/2", "--json").result["images"] == 4
    assert succeed(*arguments, "--part", "1/2", "--json").result["images"] == 3
    assert succeed(*arguments, "--part", "1/2", "--json").result["images"] == 0
    succeed(*arguments, "--merge")
    assert hdf5_values(out) == hdf5_values(store)


def test_merge_names_what_is_missing(arguments, tmp_path):
    succeed(*arguments, "--part", "1/2")
    refused(5, *arguments, "--merge", said=("s.h5.parts/000001.h5 is missing, one of 2 of 5 parts",))
    assert not (tmp_path / "s.h5").exists()


def test_parts_of_other_options_are_refused(arguments):
    succeed(*arguments, "--part", "1/2")
    refused(3, *arguments, "--part", "2/2", "--box-margin", 7, said=("box_margin was 2, is 7",))
    refused(3, *arguments, "--merge", "--box-margin", 7, said=("box_margin was 2, is 7",))


def test_share_and_store_are_not_written_at_once(arguments, tmp_path):
    """The lock of another share is none of a share's; the store's own is everyone's."""
    out = tmp_path / "s.h5"
    with locked_output(out.with_name("s.h5.part-2-of-2"), False):
        succeed(*arguments, "--part", "1/2")
        for whole in ((), ("--merge",), ("--overwrite",)):
            refused(3, *arguments, *whole, said=("s.h5.part-2-of-2 is being written by process",))
        refused(3, *arguments, "--part", "2/2", said=("s.h5.part-2-of-2 is being written by process",))
    with locked_output(out, False):
        refused(3, *arguments, "--part", "2/2", said=("s.h5 is being written by process",))


@pytest.mark.parametrize(
    "given, said",
    [
        (("--part", "0/3"), "--part 0/3"),
        (("--part", "4/3"), "--part 4/3"),
        (("--part", "3"), "--part 3"),
        (("--part", "1/3", "--merge"), "--part and --merge exclude each other"),
        (("--part", "1/3", "--overwrite"), "--part and --overwrite exclude each other"),
        (("--dry-run", "--merge"), "--merge and --dry-run exclude each other"),
        (("--part", "1/3", "--overlays", 2), "--overlays"),
    ],
)
def test_shares_that_cannot_be_are_wrong_usage(given, said):
    refused(2, "mine", "d", "--model", "m", "--out", "s.h5", *given, said=(said,))


def test_dry_run_measures_and_writes_nothing(arguments, store, tmp_path):
    cache = ("--embeddings", tmp_path / "cache.h5")
    found = succeed(*arguments, *cache, "--dry-run", "--json").result
    assert files_in(tmp_path) == set()
    assert (found["images"], found["calibrated_images"], found["images_measured"]) == (9, 3, 4)
    assert found["seconds"] == pytest.approx(12 / found["images_per_second"])
    assert found["memory_mb"] > 100 and found["free_mb"] > 0
    size = Path(store).stat().st_size / 1e6
    assert size / 3 < found["store_mb"] < 10 * size, "small parts weigh more than the store that they make"
    succeed(*arguments, *cache)
    with h5py.File(tmp_path / "cache.h5") as file:
        bytes_each = file["features"][0].nbytes
    assert found["embeddings_mb"] * 1e6 == pytest.approx(found["windows_per_image"] * 12 * bytes_each)


def test_dry_run_says_where_the_disk_is_too_small(arguments, monkeypatch, shown):
    monkeypatch.setattr("samsemi.mining.forecast.shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    assert "MB of disk are needed, 0 MB are free" in succeed(*arguments, "--dry-run").err


def test_example_for_slurm_submits_an_array_and_a_merge(tmp_path):
    fake = tmp_path / "sbatch"
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$*" >> "$LOG"\nwc -l < "$LOG"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    words = ["bash", ROOT / "examples/slurm/mine.sh", "my data", "warm", "s.h5", "16", "--sam", "vit_h"]
    done = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True)
    assert done.stdout == "mining: job 1, then s.h5: job 2\n", done.stderr
    array, merge = (tmp_path / "log").read_text().splitlines()
    common = "samsemi mine my\\ data --model warm --out s.h5 --quiet --sam vit_h"
    assert "--array=1-16" in array and f"{common}  --part $SLURM_ARRAY_TASK_ID/16" in array
    assert "--dependency=afterok:1" in merge and f"{common}  --merge" in merge
