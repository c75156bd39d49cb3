"""``samsemi adapt`` by its command line: a SAM trained on a few drawn cases, or measured."""

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import (
    CHECKPOINT,
    DATA,
    DEVICE,
    MINING,
    REFUSED,
    USAGE,
    assert_interrupted,
    file_bytes,
    files_in,
    interrupt,
    interrupt_at,
    needs_muon,
    read_array,
    refused,
    succeed,
    train_on,
    truncate,
    watched_states,
    write_image,
)
from safetensors import safe_open

import samsemi
from samsemi.data.dataset import read_dataset
from samsemi.inputs import hash_file
from samsemi.mining.folds import write_fold_maps
from samsemi.mining.store import Store
from samsemi.options.sams import SAMS
from samsemi.sam import embeddings
from samsemi.sam.cards import read_card
from samsemi.sam.protocol import load_sam
from samsemi.segmenters.checkpoints import load_model
from samsemi.stages import adapt as adapt_stage
from samsemi.tensors import load_tensors, save_tensors
from samsemi.training import loop as training

TINY_WEIGHTS = SAMS["tiny"].weights
pytestmark = pytest.mark.slow

BATCHES = ("--device", "cpu", "--batch-size", 2)
ONE = (*BATCHES, "--iterations", 1)
TWO = (*BATCHES, "--iterations", 2, "--validate-every", 1, "--clicks", 1)
ADAPTERS = ("--lora", 1, "--optimizer", "muon" if hasattr(torch.optim, "Muon") else "adamw")
RUN_FILES = {"config.toml", "environment.json", "history.csv", "made_from.json", "model_card.md", "overlays/p001_1.png"}
OWN = ("box", "jittered_box", "point", "box_point")
WITH_MODEL = ("model_box", "model_box_point")
REACHED: dict[Path, dict[str, torch.Tensor]] = {}
"""The state that each run of these tests has reached, by its folder."""


@pytest.fixture(scope="module", autouse=True)
def watch_states() -> Iterator[None]:
    with watched_states(REACHED):
        yield


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def adapt(dataset: Path, out: Path, *options: object) -> dict:
    return succeed("adapt", dataset, "--out", out, *options, "--json").result


def evaluate(dataset: Path, *options: object) -> dict:
    return succeed("adapt", dataset, "--evaluate", "--device", "cpu", *options, "--json").result


def leave_out(dataset: Path, split: str) -> None:
    header, *rows = (dataset / "manifest.csv").read_text().splitlines()
    (dataset / "manifest.csv").write_text("\n".join([header, *(row for row in rows if f",{split}," not in row)]) + "\n")


def same_weights(one: Path, other: Path, part: str = "") -> bool:
    first, second = load_tensors(one), load_tensors(other)
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first if name.startswith(part))


@pytest.fixture(scope="module")
def few(pictures, tmp_path_factory) -> Path:
    """2 labeled cases, one for val and one for test, the rest unlabeled."""
    folder = tmp_path_factory.mktemp("data") / "few"
    shares = ("--labeled", 2, "--val", 0.04, "--test", 0.04)
    succeed("prepare", pictures / "images", "--masks", pictures / "masks", "--out", folder, *shares)
    return folder


@pytest.fixture(scope="module")
def folds(few, warm, tmp_path_factory) -> Path:
    """The warm model with out-of-fold maps of the few labeled cases."""
    run = shutil.copytree(warm, tmp_path_factory.mktemp("folds") / "run")
    write_fold_maps(run / "out_of_fold.h5", [read_dataset(few).split("labeled")], [load_model(run)])
    return run


@pytest.fixture(scope="module")
def adapted(few, tmp_path_factory) -> tuple[Path, dict]:
    """The weights and the JSON of a step of the packaged SAM's decoder."""
    out = tmp_path_factory.mktemp("adapted") / "SAM.safetensors"
    return out, adapt(few, out, *ONE)


@pytest.fixture
def drawer(tmp_path, monkeypatch) -> str:
    """MODULE:FUNCTION that draws two rectangles, at times nothing."""
    lines = (
        "import numpy as np",
        "def draw(number):",
        "    rng = np.random.default_rng(number)",
        "    masks = np.zeros((2 * (number % 3 > 0), 60, 90), dtype=bool)",
        "    for mask in masks:",
        "        y, x = rng.integers(0, 30, 2)",
        "        mask[y : y + 25, x : x + 40] = True",
        "    image = rng.integers(0, 99, (60, 90, 3)) + 99 * masks.any(axis=0)[..., None]",
        "    return image.astype(np.uint8), masks",
        "def wrong(number):",
        "    return draw(number)[0] / 255, draw(number)[1]",
    )
    (tmp_path / "drawn_by_a_test.py").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "drawn_by_a_test:draw"
    sys.modules.pop("drawn_by_a_test", None)


# training


def test_adapt_writes_weights_and_a_run_beside_them(adapted):
    out, result = adapted
    run = out.with_suffix(".run")
    assert files_in(out.parent) == {out.name} | {f"{run.name}/{name}" for name in RUN_FILES | {"embeddings.h5"}}
    card = (run / "model_card.md").read_text()
    assert card.startswith("# Model card: adapted SAM\n") and "| SAM tiny | Apache-2.0, in the package |" in card and "| iou | " in card
    assert list(result) == ["sam", "run", "before", "after", "overlays", "iteration", "iterations", "seconds"]
    assert (result["sam"], result["run"], result["iterations"]) == (str(out), str(run), 1)
    assert list(result["before"]) == list(result["after"]) == ["iou", *OWN]
    for scores in (result["before"], result["after"]):
        assert all(0.3 < value <= 1 for value in scores.values())
        assert scores["iou"] == pytest.approx(np.mean([scores[name] for name in OWN]), abs=1e-5)


def test_history_begins_before_the_first_step(adapted):
    out, result = adapted
    rows = read_csv(out.with_suffix(".run") / "history.csv")
    assert [row["iteration"] for row in rows] == ["0", "1"]
    assert {"val_iou", *(f"val_{name}" for name in OWN), "loss", "mask", "predicted_iou", "seconds"} <= set(rows[0])
    assert rows[0]["loss"] == "" and float(rows[1]["loss"]) > 0
    assert float(rows[0]["val_iou"]) == result["before"]["iou"]
    assert (float(rows[1]["val_iou"]), result["iteration"]) == (result["after"]["iou"], 1)


def test_only_what_may_learn_has_changed(adapted):
    """And what may not is not in the state that a resumption needs."""
    out, result = adapted
    assert same_weights(out, TINY_WEIGHTS, "image_encoder")
    assert not same_weights(out, TINY_WEIGHTS, "mask_decoder")
    state = REACHED[out.with_suffix(".run")]
    assert not any("image_encoder" in name for name in state)
    assert {"model.network.mask_decoder.iou_token.weight", "averaged.network.mask_decoder.iou_token.weight"} <= set(state)
    decoder = {name: value.float() for name, value in load_tensors(TINY_WEIGHTS).items() if "dec" in name}
    for kind in ("model", "averaged"):
        assert any(not torch.equal(state[f"{kind}.network.{name}"], value) for name, value in decoder.items())


def test_weights_say_where_they_come_from(few, adapted):
    out, result = adapted
    with safe_open(out, "pt") as file:
        card = json.loads(file.metadata()["samsemi"])
    assert card["sam"] == "tiny" and card["scores"]["iteration"] == result["iteration"]
    assert card["scores"]["val_iou"] == pytest.approx(result["after"]["iou"], abs=1e-5)
    made_from = {"dataset": read_dataset(few).fingerprint(), "sam": "tiny", "sam_weights": hash_file(TINY_WEIGHTS)}
    assert card["made_from"] == {**made_from, "stream": None, "out_of_fold": None, "precision": "fp32"}
    assert (card["keep"], card["chosen_on"]) == ("last", [])
    assert {value.dtype for value in load_tensors(out).values()} == {torch.float16}


def test_mine_takes_the_adapted_weights(dataset, warm, adapted, tmp_path):
    arguments = ("--sam", "tiny", "--sam-checkpoint", adapted[0], *MINING)
    assert succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *arguments, "--json").result["images"] == 9
    assert load_sam("tiny", adapted[0], torch.device("cpu")).identity == hash_file(adapted[0])


def test_adapted_weights_measure_what_training_said(few, adapted):
    out, result = adapted
    measured = evaluate(few, "--sam-checkpoint", out)
    assert {name: measured[name] for name in OWN} == pytest.approx({name: result["after"][name] for name in OWN}, abs=0.01)


def learned_in_encoder(out: Path) -> dict[str, torch.Tensor]:
    """What a resumption needs of the image encoder."""
    state = REACHED[out.with_suffix(".run")]
    start = "model.network.image_encoder."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


def test_all_of_the_image_encoder_learns_with_all(few, tmp_path):
    out = tmp_path / "SAM.safetensors"
    adapt(few, out, *ONE, "--all")
    assert files_in(out.with_suffix(".run")) == RUN_FILES, "there is nothing to cache"
    packaged = {name.removeprefix("image_encoder."): value for name, value in load_tensors(TINY_WEIGHTS).items() if "encoder.b" in name}
    learned = learned_in_encoder(out)
    assert all(not torch.equal(learned[name], value.float()) for name, value in packaged.items() if "qkv.weight" in name)


@pytest.fixture(scope="module")
def with_adapters(few, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("adapters") / "SAM.safetensors"
    adapt(few, out, *TWO, *ADAPTERS)
    return out


def test_adapters_learn_and_become_part_of_the_weights(with_adapters):
    learned = learned_in_encoder(with_adapters)
    assert set(learned) == {f"blocks.{i}.attn.qkv.parametrizations.weight.0.{name}" for i in range(6) for name in ("down", "up")}
    assert all(value.any() for value in learned.values())
    assert files_in(with_adapters.with_suffix(".run")) == RUN_FILES
    assert set(load_tensors(with_adapters)) == set(load_tensors(TINY_WEIGHTS))
    load_sam("tiny", with_adapters, torch.device("cpu"))


@needs_muon
def test_muon_learns_from_scratch(few, tmp_path):
    out = tmp_path / "SAM.safetensors"
    result = adapt(few, out, *ONE, "--from-scratch", "--all", "--optimizer", "muon", "--clicks", 0, "--seed", 3)
    assert result["before"]["iou"] < 0.3
    assert json.loads((out.with_suffix(".run") / "made_from.json").read_text())["sam_weights"] == "untrained"
    state = REACHED[out.with_suffix(".run")]
    assert {name.rsplit(".", 1)[-1] for name in state if name.startswith("optimizer.")} == {
        "momentum_buffer",
        "step",
        "exp_avg",
        "exp_avg_sq",
    }
    assert not same_weights(out, TINY_WEIGHTS)


@pytest.mark.parametrize("options", [(), ("--all",)], ids=["frozen", "all"])
def test_scenes_are_drawn_instead_of_cases(few, tmp_path, drawer, options):
    out, folder = tmp_path / "SAM.safetensors", shutil.copytree(few, tmp_path / "unlabeled")
    leave_out(folder, "labeled")
    refused(DATA, "adapt", folder, "--out", out, *ONE, said=("no labeled cases",))
    adapt(folder, out, *ONE, "--stream", drawer, *options)
    assert json.loads((out.with_suffix(".run") / "made_from.json").read_text())["stream"] == drawer
    assert float(read_csv(out.with_suffix(".run") / "history.csv")[1]["loss"]) > 0


def test_sam_learns_to_fix_what_a_model_found(few, folds, tmp_path):
    out = tmp_path / "SAM.safetensors"
    result = adapt(few, out, *ONE, "--model", folds)
    assert list(result["before"]) == ["iou", *OWN, *WITH_MODEL]
    assert all(0 < value <= 1 for value in result["before"].values())
    made_from = json.loads((out.with_suffix(".run") / "made_from.json").read_text())
    assert made_from["out_of_fold"] == hash_file(folds / "out_of_fold.h5")


def test_workers_change_nothing(few, adapted, tmp_path):
    adapt(few, tmp_path / "SAM.safetensors", *ONE, "--workers", 1)
    assert_same_run(tmp_path / "SAM.safetensors", adapted[0])


def test_best_weights_are_those_from_before_where_training_makes_it_worse(few, tmp_path):
    out = tmp_path / "SAM.safetensors"
    result = adapt(few, out, *ONE, "--lr", 10, "--ema", 0, "--clicks", 0, "--keep", "best")
    rows = read_csv(out.with_suffix(".run") / "history.csv")
    assert float(rows[1]["val_iou"]) < float(rows[0]["val_iou"])
    assert result["iteration"] == 0 and result["after"] == result["before"]
    assert same_weights(out, TINY_WEIGHTS)


@pytest.fixture
def patients(dataset, tmp_path) -> Path:
    """The data set with every case a patient of its own."""
    folder = shutil.copytree(dataset, tmp_path / "patients")
    header, *rows = read_rows(folder / "manifest.csv")
    own = [[name if column == "group" else value for column, value in zip(header, row, strict=True)] for row in rows for name in row[:1]]
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *own])
    return folder


def read_rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_best_weights_are_chosen_by_half_of_the_val_patients_and_mine_calibrates_with_the_others(patients, warm, tmp_path):
    out, val = tmp_path / "SAM.safetensors", [case.id for case in read_dataset(patients).split("val")]
    adapt(patients, out, *ONE, "--all", "--keep", "best", "--overlays", 0)
    assert read_card(out).chosen_on == (sorted(val)[1],) and len(val) == 3
    succeed("mine", patients, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "tiny", "--sam-checkpoint", out, *MINING)
    assert Store(tmp_path / "s.h5").provenance.calibration["cases"] == {"val": 2}


def test_cases_of_a_patient_are_never_apart_when_val_is_halved(dataset, patients):
    one, own = (read_dataset(folder).split("val") for folder in (dataset, patients))
    assert adapt_stage.every_other_patient(one) == one and len({case.group for case in one}) == 1
    named = [replace(case, group=name) for case, name in zip(own, ("anna", "bert", "bert"), strict=True)]
    assert adapt_stage.every_other_patient(named) == named[1:]


def test_last_weights_are_kept(few, tmp_path):
    result = adapt(few, tmp_path / "SAM.safetensors", *ONE, "--lr", 10, "--ema", 0, "--clicks", 0)
    rows = read_csv(tmp_path / "SAM.run" / "history.csv")
    assert result["iteration"] == 1 and result["after"]["iou"] == float(rows[1]["val_iou"]) < float(rows[0]["val_iou"])
    assert not same_weights(tmp_path / "SAM.safetensors", TINY_WEIGHTS)


def test_noise_or_nothing_for_the_hidden_truth_changes_nothing(few, adapted, tmp_path):
    folder, rng = shutil.copytree(few, tmp_path / "copied"), np.random.default_rng(0)
    gone, *noisy = sorted((folder / "truth").iterdir())
    gone.unlink()
    for path in noisy:
        write_image(path, rng.integers(0, 2, read_array(path).shape, dtype=np.uint8))
    adapt(folder, tmp_path / "SAM.safetensors", *ONE)
    assert_same_run(tmp_path / "SAM.safetensors", adapted[0])


# measuring


def test_evaluate_has_the_keys_that_scripts_rely_on(few):
    before = file_bytes(few)
    result = evaluate(few, "--split", "val")
    shapes = ("ellipse", "full_box", "jittered_ellipse")
    assert {*OWN, *shapes, "images"} <= set(result)
    assert all(0.3 < result[name] < 1 for name in (*OWN, *shapes))
    assert (result["sam"], result["split"], result["images"], result["objects"]) == ("tiny", "val", 1, 1)
    assert file_bytes(few) == before


def test_each_split_is_measured_alone_also_with_a_model(few, folds):
    test, labeled = (evaluate(few, "--split", split, "--model", folds) for split in ("test", "labeled"))
    assert (test["images"], labeled["images"]) == (1, 2) and test["box"] != labeled["box"]
    assert all(0 < result[name] <= 1 for result in (test, labeled) for name in ("model_mask", *WITH_MODEL))


def test_baselines_are_measured_by_the_prompts_that_they_take(few):
    ellipse, none = (evaluate(few, "--sam", name) for name in ("ellipse", "none"))
    assert ellipse["box"] == pytest.approx(ellipse["ellipse"], abs=0.03) and "point" not in ellipse
    assert not {*OWN} & set(none) and none["ellipse"] == ellipse["ellipse"]


def test_function_measures_what_the_command_does(few):
    found = samsemi.adapt(dataset=few, evaluate=True, device="cpu")
    command = evaluate(few)
    assert list(found) == list(command)
    assert all(found[name] == command[name] for name in found if "seconds" not in name)


def test_crops_are_measured_where_a_zoom_is_given(few, folds):
    plain, zoomed = evaluate(few, "--model", folds, "--probe", 0), evaluate(few, "--model", folds, "--probe", 0, "--zoom", "1.5,2")
    names = ("box", "jittered_box", "box_point", *WITH_MODEL)
    assert set(zoomed) - set(plain) == {f"{name}_zoom_{factor}" for name in names for factor in ("1.5", "2")}
    assert all(zoomed[name] == plain[name] for name in plain if "seconds" not in name)
    assert all(0.3 < zoomed[f"{name}_zoom_2"] < 1 for name in names[:3])


def test_probe_compares_with_random_weights(few):
    result = evaluate(few)
    assert result["probe_images"] == {"labeled": 2, "measured": 1}
    [aucs] = result["probe"].values()
    assert 0.5 < aucs["auc"] <= 1 and 0 < aucs["random_auc"] <= 1 and aucs["auc"] != aucs["random_auc"]
    assert evaluate(few, "--probe", 1)["probe_images"] == {"labeled": 1, "measured": 1}


def test_probe_of_a_sam_that_cannot_be_untrained_stands_alone(few):
    [aucs] = evaluate(few, "--sam", "builders:load_own_sam")["probe"].values()
    assert set(aucs) == {"auc"}


@pytest.mark.parametrize("options", [("--sam", "ellipse"), ("--probe", "0"), ("--split", "labeled")], ids=" ".join)
def test_probe_is_left_out_where_there_is_nothing_to_probe(few, options):
    assert not {"probe", "probe_images"} & set(evaluate(few, *options))


def test_probe_names_what_is_left_out(few, tmp_path, monkeypatch):
    folder = shutil.copytree(few, tmp_path / "copied")
    leave_out(folder, "labeled")
    outcome = succeed("adapt", folder, "--evaluate", "--json")
    assert "probe" not in outcome.result and "no probe of the embedding" in outcome.err
    monkeypatch.setattr(adapt_stage, "probe", lambda *arguments: {})
    outcome = succeed("adapt", few, "--evaluate", "--json")
    assert outcome.result["probe"] == {} and f"no probe of class {read_dataset(few).classes[1]}" in outcome.err


def test_what_was_measured_is_shown_as_a_table(few):
    out = succeed("adapt", few, "--evaluate", "--probe", 0, "--zoom", 2).out.splitlines()
    assert out[0] == "mean IoU of 1 objects in 1 images of val" and out[3].startswith("crop of 2 x the box")
    assert not [line for line in out if "box zoom" in line]


# resumption


@pytest.fixture(scope="module")
def whole(few, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "SAM.safetensors"
    adapt(few, out, *TWO)
    return out


def assert_same_run(resumed: Path, whole: Path) -> None:
    """The same weights kept, the same ones reached, the same scores."""
    assert resumed.read_bytes() == whole.read_bytes()
    assert files_in(resumed.with_suffix(".run")) == files_in(whole.with_suffix(".run"))
    states = [REACHED[out.with_suffix(".run")] for out in (resumed, whole)]
    assert set(states[0]) == set(states[1]) and all(torch.equal(states[0][name], value) for name, value in states[1].items())
    columns = ("iteration", "val_iou", *(f"val_{name}" for name in OWN))
    rows = [[[row[name] for name in columns] for row in read_csv(out.with_suffix(".run") / "history.csv")] for out in (resumed, whole)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "owner, name, number",
    [
        pytest.param(embeddings.EmbeddingCache, "append", 2, id="while images are encoded"),
        pytest.param(training.TrainingState, "save", 1, id="while the state is saved"),
        pytest.param(adapt_stage, "step", 2, id="in the last step"),
    ],
)
def test_interrupted_adapt_goes_on_and_gives_the_same_weights(few, whole, tmp_path, monkeypatch, owner, name, number):
    out = tmp_path / "SAM.safetensors"
    arguments = ("adapt", few, "--out", out, *TWO)
    with monkeypatch.context() as patch:
        interrupt_at(patch, owner, name, number)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    assert_same_run(out, whole)


def test_adapters_and_muon_go_on_where_they_stopped(few, with_adapters, tmp_path, monkeypatch):
    arguments = ("adapt", few, "--out", tmp_path / "SAM.safetensors", *TWO, *ADAPTERS)
    with monkeypatch.context() as patch:
        interrupt_at(patch, adapt_stage, "step", 2)
        assert_interrupted(arguments)
    succeed(*arguments, "--resume")
    assert_same_run(tmp_path / "SAM.safetensors", with_adapters)


def test_inputs_may_lie_elsewhere_on_resumption_and_may_not_differ(few, folds, tmp_path, monkeypatch):
    weights, model = Path(shutil.copy(TINY_WEIGHTS, tmp_path / "sam.safetensors")), shutil.copytree(folds, tmp_path / "model")
    arguments = ("adapt", few, "--out", tmp_path / "SAM.safetensors", *ONE)
    with monkeypatch.context() as patch:
        interrupt_at(patch, adapt_stage, "step", 1)
        assert_interrupted((*arguments, "--sam-checkpoint", weights, "--model", model))
    here = ("--sam-checkpoint", weights.rename(tmp_path / "moved.safetensors"), "--model", model.rename(tmp_path / "moved"))
    train_on(tmp_path / "moved")
    refused(REFUSED, *arguments, *here, "--resume", said=("SAM.run", "model was"), problems=True)  # after a warning of its other cases
    shutil.copytree(folds, tmp_path / "moved", dirs_exist_ok=True)
    refused(REFUSED, *arguments, *here[:2], "--resume", said=("SAM.run", "model was"))
    succeed(*arguments, *here, "--resume")


def test_resuming_what_is_finished_changes_nothing(few, adapted, tmp_path):
    out = shutil.copy(adapted[0], tmp_path / "SAM.safetensors")
    shutil.copytree(adapted[0].with_suffix(".run"), out.with_suffix(".run"))
    before = file_bytes(tmp_path)
    result = adapt(few, out, *ONE, "--resume")
    assert file_bytes(tmp_path) == before
    assert result["overlays"] == str(out.with_suffix(".run") / "overlays")
    own = dict.fromkeys(("sam", "run", "overlays", "seconds"))
    assert {**result, **own} == {**adapted[1], **own}


@pytest.mark.parametrize(
    "changed, said",
    [(("--lr", 0.001), "lr was 0.0001"), (("--all",), "all was False"), (("--clicks", 0), "clicks was 2")],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_resuming_with_other_options_names_them(few, adapted, changed, said):
    arguments = ("adapt", few, "--out", adapted[0], *ONE, "--resume")
    before = file_bytes(adapted[0].parent)
    refused(REFUSED, *arguments, *changed, said=(adapted[0].with_suffix(".run"), said))
    assert file_bytes(adapted[0].parent) == before


# what can be done wrong


def test_existing_weights_are_kept_unless_told_otherwise(few, adapted, tmp_path):
    out = shutil.copy(adapted[0], tmp_path / "SAM.safetensors")
    shutil.copytree(adapted[0].with_suffix(".run"), out.with_suffix(".run"))
    before = file_bytes(tmp_path)
    refused(REFUSED, "adapt", few, "--out", out, *ONE, said=(out,))
    assert file_bytes(tmp_path) == before
    out.unlink()
    refused(REFUSED, "adapt", few, "--out", out, *ONE, said=(out.with_suffix(".run"),))
    succeed("adapt", few, "--out", out, *ONE, "--clicks", 0, "--overwrite")
    assert [row["iteration"] for row in read_csv(out.with_suffix(".run") / "history.csv")] == ["0", "1"]


def test_replaced_weights_stay_until_the_new_ones_are_whole(few, adapted, tmp_path, monkeypatch):
    out = shutil.copy(adapted[0], tmp_path / "SAM.safetensors")
    shutil.copytree(adapted[0].with_suffix(".run"), out.with_suffix(".run"))
    before = file_bytes(tmp_path)
    arguments = ("adapt", few, "--out", out, *ONE, "--clicks", 0)
    with monkeypatch.context() as patch:
        interrupt_at(patch, adapt_stage, "step", 1)
        assert_interrupted((*arguments, "--overwrite"))
    assert {name: content for name, content in file_bytes(tmp_path).items() if not name.startswith(".SAM.run.new/")} == before
    succeed(*arguments, "--resume")
    assert out.read_bytes() != adapted[0].read_bytes() and sorted(path.name for path in tmp_path.iterdir()) == [
        "SAM.run",
        "SAM.safetensors",
    ]


@pytest.mark.parametrize("option", ["--overwrite", "--resume"])
def test_weights_that_adapt_has_not_made_are_never_replaced(few, tmp_path, monkeypatch, option):
    monkeypatch.setattr(adapt_stage, "fill_cache", interrupt)
    out = tmp_path / "downloaded.safetensors"
    save_tensors(out, load_tensors(TINY_WEIGHTS))
    before = out.read_bytes()
    refused(REFUSED, "adapt", few, "--out", out, *ONE, "--clicks", 0, option, said=(out,))
    assert files_in(tmp_path) == {out.name} and out.read_bytes() == before


def test_weights_that_are_read_are_never_replaced(few, adapted, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt_stage, "fill_cache", interrupt)
    out = shutil.copy(adapted[0], tmp_path / "SAM.safetensors")
    shutil.copytree(adapted[0].with_suffix(".run"), out.with_suffix(".run"))
    refused(REFUSED, "adapt", few, "--sam-checkpoint", out, "--out", out, *ONE, "--clicks", 0, "--overwrite", said=(out,))
    assert out.read_bytes() == adapted[0].read_bytes()


@pytest.mark.parametrize(
    "options, code, said",
    [
        ([], USAGE, "trains or measures"),
        (["--evaluate", "--out", "{}"], USAGE, "trains or measures"),
        (["--out", "{}", "--all", "--lora", 2], USAGE, "--lora"),
        (["--out", "{}", "--from-scratch", "--sam-checkpoint", TINY_WEIGHTS], USAGE, "--from-scratch"),
        (["--out", "{}.pth"], USAGE, ".pth"),
        (["--out", "{}", "--sam", "ellipse"], USAGE, "ellipse"),
        (["--out", "{}", "--from-scratch"], USAGE, "--all"),
        (["--out", "{}", "--stream", "a:b", "--model", "run"], USAGE, "--stream"),
        (["--out", "{}", "--sam", "ellipse", "--from-scratch", "--all"], USAGE, "ellipse"),
        (["--out", "{}", "--sam", "vit_z"], USAGE, "vit_z"),
        (["--out", "{}", "--sam", "vit_b"], CHECKPOINT, "vit_b"),
        (["--out", "{}", "--zoom", 2], USAGE, "--zoom"),
        (["--evaluate", "--zoom", "0.5"], USAGE, "--zoom 0.5"),
        (["--out", "{}", "--stream", "no_such_module:draw"], USAGE, "--stream no_such_module:draw"),
        (["--out", "{}", "--stream", "math:no_such_function"], USAGE, "--stream math:no_such_function"),
        (["--out", "{}", "--lora", 0], USAGE, "--lora"),
        (["--out", "{}", "--clicks", -1], USAGE, "--clicks"),
        (["--out", "{}", "--optimizer", "sgd"], USAGE, "--optimizer"),
        (["--evaluate", "--split", "unlabeled"], USAGE, "unlabeled"),
        (["--out", "{}", "--model", "{}.nowhere"], CHECKPOINT, "nowhere"),
        (["--evaluate", "--sam-checkpoint", "{}"], CHECKPOINT, "SAM.safetensors"),
    ],
    ids=lambda value: " ".join(str(part).rsplit("/", 1)[-1] for part in value) if isinstance(value, list) else "",
)
def test_wrong_options_are_refused_in_two_lines(few, tmp_path, options, code, said):
    options = [str(option).replace("{}", str(tmp_path / "SAM.safetensors")) for option in options]
    refused(code, "adapt", few, *options, "--iterations", 1, said=(said,))
    assert files_in(tmp_path) == set()


def test_model_without_maps_of_the_labeled_cases(dataset, few, folds, warm, tmp_path):
    out = tmp_path / "SAM.safetensors"
    refused(CHECKPOINT, "adapt", dataset, "--out", out, "--model", warm, *ONE, said=(warm, "out-of-fold"))
    refused(CHECKPOINT, "adapt", dataset, "--out", out, "--model", folds, *ONE, said=(folds / "out_of_fold.h5", "lacks"))
    assert files_in(tmp_path) == set()


def test_stream_that_draws_no_scenes(few, tmp_path, drawer):
    arguments = ("adapt", few, "--out", tmp_path / "SAM.safetensors", *ONE, "--all")
    refused(CHECKPOINT, *arguments, "--stream", drawer.replace(":draw", ":wrong"), said=("--stream", "float64"))


def test_data_set_that_is_not_there_or_lacks_a_split(few, tmp_path):
    refused(DATA, "adapt", tmp_path / "nowhere", "--evaluate", said=(tmp_path / "nowhere",))
    folder = shutil.copytree(few, tmp_path / "copied")
    leave_out(folder, "val")
    for options in (("--out", tmp_path / "a.safetensors", *ONE), ("--evaluate", "--split", "val")):
        refused(DATA, "adapt", folder, *options, said=("no val cases",))


@pytest.mark.parametrize("place", ["below a file", "a folder"])
def test_output_that_cannot_be_written(few, tmp_path, place):
    if place == "a folder":
        out = tmp_path / "SAM.safetensors"
        out.mkdir()
    else:
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "SAM.safetensors"
    refused(REFUSED, "adapt", few, "--out", out, *ONE, said=(tmp_path,))


def test_run_folder_of_another_make_is_kept(few, tmp_path):
    write_image(tmp_path / "SAM.run/holiday.png", np.zeros((2, 2), dtype=np.uint8))
    for options in ((), ("--overwrite",), ("--resume",)):
        refused(REFUSED, "adapt", few, "--out", tmp_path / "SAM.safetensors", *ONE, *options, said=(tmp_path / "SAM.run",))
    assert files_in(tmp_path) == {"SAM.run/holiday.png"}


def test_damaged_image_stops_the_training(few, pictures, tmp_path):
    folder = shutil.copytree(few, tmp_path / "copied")
    case = read_dataset(folder).split("labeled")[0]
    shutil.copy(case.image, folder / "broken.png")
    truncate(folder / "broken.png")
    manifest = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(manifest.replace(str(case.image), str(folder / "broken.png")))
    refused(DATA, "adapt", folder, "--out", tmp_path / "a.safetensors", *ONE, said=("broken.png", "damaged"))


def test_device_that_is_not_there(few, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(DEVICE, "adapt", few, "--out", tmp_path / "a.safetensors", "--device", "cuda", said=("cuda",))


def test_own_sam_without_a_network_is_measured_but_not_trained(few, tmp_path):
    own = ("--sam", "builders:load_own_ellipse")
    assert "box" in evaluate(few, *own)
    refused(USAGE, "adapt", few, *own, "--out", tmp_path / "SAM.safetensors", said=("ellipse", "cannot be trained"))


def test_own_sam_with_a_network_is_trained_like_the_packaged_one(few, adapted, tmp_path):
    out = tmp_path / "SAM.safetensors"
    result = adapt(few, out, *ONE, "--sam", "builders:load_own_sam")
    assert result["after"] == adapted[1]["after"] and same_weights(out, adapted[0])
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["samsemi"])["sam"] == "own"
