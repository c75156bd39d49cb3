"""What may differ between a run and its resumption."""

import re
import shutil
from dataclasses import replace

import pytest

from samsemi.errors import CheckpointError, RefusedError
from samsemi.options.finetune import FinetuneOptions
from samsemi.outputs import write_text
from samsemi.training.runs import RUN, open_run, run_folder

MADE_FROM = {"model": "hash of the weights", "store": {"sam_weights": "hash of SAM's"}}


@pytest.fixture
def begun(tmp_path) -> FinetuneOptions:
    """The options of a run that was begun, to resume it with."""
    options = FinetuneOptions(dataset=tmp_path / "data", model=tmp_path / "warm", out=tmp_path / "run", store=tmp_path / "sam.h5")
    open_run(options, MADE_FROM, options.out)
    return replace(options, resume=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"sam_checkpoint": "sam.safetensors", "embeddings": "cache.h5", "teacher_checkpoint": "sam.pth"},
        {"dataset": "moved/data", "model": "moved/warm"},
        {"device": "cpu", "workers": 3},
    ],
)
def test_what_is_hashed_may_come_from_elsewhere_and_what_changes_nothing_may_change(begun, changed):
    assert open_run(replace(begun, **changed), MADE_FROM, begun.out).folder == begun.out


@pytest.mark.parametrize("changed", [{"lr": 0.5}, {"seed": 1}, {"precision": "bf16"}, {"min_predicted_iou": 0.9}])
def test_what_decides_the_result_may_not_change(begun, changed):
    with pytest.raises(RefusedError, match=f"{next(iter(changed))} was"):
        open_run(replace(begun, **changed), MADE_FROM, begun.out)


def test_same_place_with_another_content_is_refused(begun):
    with pytest.raises(RefusedError, match="model was hash of the weights, is another"):
        open_run(begun, {**MADE_FROM, "model": "another"}, begun.out)


def test_overwriting_behind_a_link_begins_anew(begun, tmp_path):
    open_run(begun, MADE_FROM, begun.out).finish()
    link = tmp_path / "link"
    link.symlink_to(begun.out, target_is_directory=True)
    options = replace(begun, out=link, resume=False, overwrite=True, seed=5)
    with run_folder(link, options) as folder:
        run = open_run(options, MADE_FROM, folder)
        assert not run.finished and not run.resumed
        assert (begun.out / "made_from.json").exists(), "the old one stays until the new one is whole"
    assert link.is_symlink() and not (begun.out / "made_from.json").exists() and (begun.out / "last" / "made_from.json").exists()


def test_finished_run_without_its_options_is_refused(begun):
    open_run(begun, MADE_FROM, begun.out).finish()
    (begun.out / "config.toml").unlink()
    with pytest.raises(CheckpointError, match="config.toml"):
        open_run(begun, MADE_FROM, begun.out)


def test_run_that_was_removed_is_an_error(begun):
    """Later writes make its folder again, but not what it was made from."""
    run = open_run(begun, MADE_FROM, begun.out)
    shutil.rmtree(begun.out)
    write_text(run.state_file, "later")
    with pytest.raises(RefusedError, match="was removed or replaced while"):
        run.need()
    with pytest.raises(RefusedError, match="was removed or replaced while"):
        run.finish()


def test_what_somebody_puts_among_the_state_stays(begun):
    run = open_run(begun, MADE_FROM, begun.out)
    (begun.out / "last" / "notes.txt").write_text("mine")
    write_text(run.state_file, "state")
    run.finish()
    assert [path.name for path in (begun.out / "last").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["fold-2/rounds/1/stores/000004.h5", "overlays/a b.png", "last/kept.safetensors", "drift.csv"])
def test_all_that_commands_write_into_a_run_is_known(name):
    assert re.fullmatch(RUN.files, name)


@pytest.mark.parametrize(
    "name", ["fold-2/thesis.txt", "stores/mine.h5", "model.safetensors.bak", "fold-x/model.json", "last/more/state.safetensors"]
)
def test_what_commands_do_not_write_into_a_run_is_not_known(name):
    assert not re.fullmatch(RUN.files, name)
