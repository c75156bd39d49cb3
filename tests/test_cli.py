"""Every command on a small data set: exit code, files, JSON, what it says to the reader."""

import csv
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import (
    ACCEPT_ALL,
    DATA,
    MINING,
    NETWORK,
    RUN_FILES,
    USAGE,
    call,
    draw_cases,
    files_in,
    hdf5_values,
    read_array,
    refused,
    succeed,
    write_image,
)
from PIL import Image

from samsemi.data.overlays import color_of, zoom_of
from samsemi.segmenters.checkpoints import load_model
from samsemi.tensors import hash_tensors

pytestmark = pytest.mark.slow

METRICS = ["dice", "iou", "precision", "recall", "hd95", "assd", "nsd", "boundary_iou", "area_error", "area_difference", "ece"]
SUMMARY = {"mean", "std", "low", "high", "n"}
SHORT = ("--iterations", 4, "--validate-every", 2, "--batch-size", 4)


def read_csv(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ids_of(dataset, split: str) -> list[str]:
    return [row["id"] for row in read_csv(dataset / "manifest.csv") if row["split"] == split]


# prepare and check


def test_prepare_writes_a_data_set_that_says_what_is_in_it(dataset):
    about = json.loads((dataset / "dataset.json").read_text())
    assert about == {"schema": "samsemi.dataset/1", "name": "growths", "classes": ["background", "foreground"], "spacing_mm": None}
    rows = read_csv(dataset / "manifest.csv")
    columns = ["id", "image", "mask", "truth", "split", "group", "image_sha256", "mask_sha256", "truth_sha256"]
    assert list(rows[0]) == columns
    assert all(len(row["image_sha256"]) == len(row["mask_sha256"] or row["truth_sha256"]) == 64 for row in rows)
    assert len(rows) == 24
    assert files_in(dataset) == {"dataset.json", "manifest.csv", *(row["mask"] or row["truth"] for row in rows)}


def test_prepare_hides_the_masks_of_unlabeled_cases(dataset):
    for row in read_csv(dataset / "manifest.csv"):
        hidden = row["split"] == "unlabeled"
        assert bool(row["truth"]) is hidden
        assert bool(row["mask"]) is not hidden
        assert set(np.unique(read_array(dataset / (row["mask"] or row["truth"])))) <= {0, 1}


def test_prepare_keeps_a_patient_in_one_split(dataset):
    splits_of_group = {}
    for row in read_csv(dataset / "manifest.csv"):
        splits_of_group.setdefault(row["group"], set()).add(row["split"])
    assert len(splits_of_group) == 8
    assert all(len(splits) == 1 for splits in splits_of_group.values())


def test_prepare_counts_in_json(pictures, tmp_path):
    shares = ("--labeled", 0.5, "--val", 0.25, "--test", 0)
    result = succeed("prepare", pictures / "images", "--masks", pictures / "masks", "--out", tmp_path / "d", *shares, "--json").result
    assert result["dataset"] == str(tmp_path / "d")
    assert result["splits"] == {"labeled": 12, "unlabeled": 6, "val": 6, "test": 0}
    assert result["cases"] == 24
    assert result["image_sizes"] == {"160 x 128": 15, "144 x 144": 9}


def draw_pictures(folder: Path, count: int, masks: int) -> tuple:
    """The words of `prepare` for ``count`` images, the first of which have masks."""
    for number, (name, (image, mask)) in enumerate(draw_cases(count).items()):
        write_image(folder / "images" / f"{name}.png", image)
        if number < masks:
            write_image(folder / "masks" / f"{name}.png", mask)
    return "prepare", folder / "images", "--masks", folder / "masks", "--out", folder / "d"


@pytest.mark.parametrize("share", [(), ("--labeled", 1)])
def test_prepare_uses_every_mask_where_some_images_lack_one(tmp_path, share):
    outcome = succeed(*draw_pictures(tmp_path, 15, 9), *share, "--json")
    assert outcome.result["splits"] == {"labeled": 7, "unlabeled": 6, "val": 1, "test": 1}
    assert "simulation" not in outcome.err and not (tmp_path / "d" / "truth").exists()


@pytest.mark.parametrize("share", [0.1, 2])
def test_prepare_refuses_to_simulate_where_some_images_lack_a_mask(tmp_path, share):
    outcome = call(*draw_pictures(tmp_path, 9, 6), "--labeled", share, "--quiet")
    assert outcome.code == 2 and f"--labeled {share} hides masks" in outcome.err and "3 of 9" in outcome.err
    assert "leave --labeled out" in outcome.err and not (tmp_path / "d").exists()


def test_prepare_says_how_many_masks_a_simulation_hides(tmp_path):
    words = draw_pictures(tmp_path, 10, 10)
    assert "simulation: 6 masks hidden as truth" in succeed(*words, "--labeled", 2).err
    outcome = succeed(*words, "--overwrite")
    assert "no image is unlabeled: nothing can be mined" in outcome.err and "simulation" not in outcome.err


def test_prepare_says_which_masks_patients_keep_from_use(tmp_path):
    outcome = succeed(*draw_pictures(tmp_path, 12, 11), "--groups", r"p(\d+)")
    assert "2 masks are not used: their patients" in outcome.err


@pytest.mark.parametrize("name", ["val", "labeled"])
def test_prepare_without_a_needed_split_says_what_it_is_for(tmp_path, name):
    outcome = call(*draw_pictures(tmp_path, 6, 6), f"--{name}", 0, "--quiet")
    assert outcome.code == 2 and outcome.err.startswith(f"error: --{name} 0: without {name} cases")
    assert f"leave --{name} out" in outcome.err


def test_prepare_matches_names_that_differ_in_case_or_unicode_form(tmp_path):
    decomposed, composed = "p\u0065\u0301", "p\u00e9"
    for number, (of_image, of_mask) in enumerate((("Case_1", "case_1_Mask"), (decomposed, f"{composed}_Mask"), ("x", "x_Mask"))):
        image, mask = list(draw_cases(3).values())[number]
        write_image(tmp_path / "images" / f"{of_image}.png", image)
        write_image(tmp_path / "masks" / f"{of_mask}.png", mask)
    words = ("prepare", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "d")
    outcome = succeed(*words, "--json")
    assert outcome.result["splits"] == {"labeled": 1, "unlabeled": 0, "val": 1, "test": 1}
    assert "2 masks are named like their images but for case or Unicode form" in outcome.err
    write_image(tmp_path / "images" / "case_1.png", image + 1)
    with_both = call(*words, "--overwrite")
    assert "for case or Unicode form" not in with_both.err, "which of two images it belongs to is not guessed"


@pytest.mark.parametrize(("name", "hint"), [("coco.json", "PNG files of class indices"), ("masks.zip", "give the folder")])
def test_prepare_with_a_file_as_masks(tmp_path, name, hint):
    (tmp_path / name).write_text("{}")
    draw_pictures(tmp_path, 3, 3)
    outcome = call("prepare", tmp_path / "images", "--masks", tmp_path / name, "--out", tmp_path / "d", "--quiet")
    assert outcome.code == 4 and f"{name} is a file" in outcome.err and hint in outcome.err


def test_prepare_takes_jpeg_masks_with_a_suffix_in_their_names(tmp_path):
    cases = draw_cases(6)
    for name, (image, mask) in cases.items():
        write_image(tmp_path / "images" / f"{name}.jpg", image)
        write_image(tmp_path / "masks" / f"{name}_segmentation.jpg", mask, quality=90)
    shares = ("--labeled", 2, "--val", 2, "--test", 2)
    outcome = succeed("prepare", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "d", *shares)
    assert "_segmentation" in outcome.err
    assert "noisy" in outcome.err
    for row in read_csv(tmp_path / "d/manifest.csv"):
        written = read_array(tmp_path / "d" / row["mask"])
        assert set(np.unique(written)) == {0, 1}
        assert ((written == 1) == (cases[row["id"]][1] > 0)).mean() > 0.995


def test_prepare_follows_a_split_file_with_groups(pictures, tmp_path):
    wanted = {
        "p000_0": ("labeled", "a"),
        "p000_1": ("labeled", "a"),
        "p001_0": ("val", "b"),
        "p002_0": ("test", "c"),
        "p003_0": ("unlabeled", "d"),
    }
    lines = ["id,split,group", *(f"{name},{split},{group}" for name, (split, group) in wanted.items())]
    (tmp_path / "split.csv").write_text("\n".join(lines) + "\n")
    arguments = ("--masks", pictures / "masks", "--out", tmp_path / "d", "--split", tmp_path / "split.csv")
    outcome = succeed("prepare", pictures / "images", *arguments)
    assert "19 images are not in" in outcome.err
    assert {row["id"]: (row["split"], row["group"]) for row in read_csv(tmp_path / "d/manifest.csv")} == wanted


def test_check_finds_no_problem_in_a_sound_data_set(dataset):
    result = succeed("check", dataset, "--json").result
    assert result["problems"] == 0
    assert result["cases"] == 24


# warmstart


def test_warmstart_writes_a_run(dataset, tmp_path):
    run = tmp_path / "run"
    result = succeed("warmstart", dataset, "--out", run, *NETWORK, *SHORT, "--json").result
    assert files_in(run) == RUN_FILES
    assert result["run"] == str(run)
    assert (result["labeled"], result["val"], result["iterations"]) == (9, 3, 4)
    card = json.loads((run / "model.json").read_text())
    assert card["model"]["encoder"] == "tu-lcnet_035"
    assert card["model"]["classes"] == ["background", "foreground"]
    assert card["model"]["size"] == 64
    assert card["scores"]["val_dice"] == result["val_dice"]
    assert card["made_from"]["labeled"] == 9
    assert [row["iteration"] for row in read_csv(run / "history.csv")] == ["2", "4"]


def test_run_is_repeated_from_its_own_configuration(dataset, tmp_path):
    succeed("warmstart", dataset, "--out", tmp_path / "first", *NETWORK, *SHORT)
    succeed("warmstart", "--config", tmp_path / "first/config.toml", "--out", tmp_path / "second")
    assert (tmp_path / "second/model.safetensors").read_bytes() == (tmp_path / "first/model.safetensors").read_bytes()


def test_warmstart_with_folds_keeps_maps_of_models_that_did_not_see_the_case(dataset, tmp_path):
    run = tmp_path / "run"
    succeed("warmstart", dataset, "--out", run, *NETWORK, "--iterations", 2, "--folds", 3)
    folds = {f"fold-{number}/{name}" for number in (1, 2, 3) for name in RUN_FILES - {"model_card.md"}}
    assert files_in(run) == RUN_FILES | folds | {"out_of_fold.h5"}
    with h5py.File(run / "out_of_fold.h5") as file:
        assert sorted(name.decode() for name in file["ids"][:]) == sorted(ids_of(dataset, "labeled"))
        assert file["probs"].shape == (9, 2, 64, 64)
    seen = [json.loads((run / f"fold-{number}/model.json").read_text())["made_from"]["labeled"] for number in (1, 2, 3)]
    assert seen == [6, 6, 6]


# mine


def check_store(path, num_images: int, num_points: int) -> None:
    """The tables of the schema, with plain h5py, no plugin needed."""
    with h5py.File(path, "r") as file:
        assert file.attrs["schema"] == "samsemi.pseudo-labels/2"
        for name in ("config", "made_from", "policy"):
            assert isinstance(json.loads(file.attrs[name]), dict)
        images, objects = file["images"][:], file["objects"][:]
        assert len(images) == num_images
        assert {"id", "height", "width", "first_object", "num_objects"} <= set(images.dtype.names)
        assert {"image", "class_id", "box", "predicted_iou", "stability", "agreement", "area"} <= set(objects.dtype.names)
        assert images["num_objects"].sum() == len(objects)
        assert (images["first_object"] == np.cumsum(images["num_objects"]) - images["num_objects"]).all()
        assert (objects["image"] == np.repeat(np.arange(num_images), images["num_objects"])).all()
        assert file["points/coords"].shape == (len(objects), num_points, 2)
        assert file["points/labels"].shape == (len(objects), num_points)
        probs = file["probs"]
        assert probs.dtype == np.uint8
        assert probs.chunks == (1, *probs.shape[1:])
        assert (probs.compression, probs.compression_opts) == ("gzip", 1)
        boxes = objects["box"]
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] < images["width"][objects["image"]]).all()
        assert (boxes[:, 3] < images["height"][objects["image"]]).all()


@pytest.mark.parametrize(
    "sam, prompts, num_points",
    [
        ("tiny", "box", 0),
        ("tiny", "point", 2),
        ("tiny", "box+point", 2),
        ("tiny", "box+point+mask", 2),
        ("none", "box", 0),
        ("ellipse", "box", 0),
    ],
)
def test_mine_writes_a_store(dataset, warm, tmp_path, sam, prompts, num_points):
    path = tmp_path / "store.h5"
    result = succeed("mine", dataset, "--model", warm, "--out", path, "--sam", sam, "--prompts", prompts, *MINING, "--json").result
    assert {"images", "objects", "accepted", "rejected", "seconds", "images_per_second", "store"} <= set(result)
    assert result["store"] == str(path)
    assert result["images"] == 9
    assert result["accepted"] + sum(result["rejected"].values()) == result["objects"] > 0
    assert files_in(tmp_path) == {"store.h5"}
    check_store(path, 9, num_points)
    with h5py.File(path) as file:
        assert [row.decode() for row in file["images"]["id"]] == ids_of(dataset, "unlabeled")


def test_store_says_what_it_was_made_from(store):
    with h5py.File(store) as file:
        config, made_from = json.loads(file.attrs["config"]), json.loads(file.attrs["made_from"])
        policy = json.loads(file.attrs["policy"])
    assert (config["sam"], config["prompts"]) == ("tiny", "box+point")
    assert set(made_from) == {"dataset", "model", "sam", "sam_weights", "embeddings", "out_of_fold"}
    assert {policy[name] for name in policy if name.startswith("min_")} == {0}
    assert {"min_predicted_iou", "min_stability", "min_agreement"} <= set(policy)


def test_mine_draws_as_many_overlays_as_asked(dataset, warm, tmp_path):
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", *MINING, "--overlays", 2)
    drawn = files_in(tmp_path) - {"s.h5"}
    assert len(drawn) == 2
    assert all(name.startswith("s.h5.overlays/") and name.endswith(".png") for name in drawn)


def test_mine_gives_the_same_store_with_a_cold_and_a_warm_cache(dataset, warm, tmp_path):
    for name in ("cold.h5", "warm.h5"):
        succeed("mine", dataset, "--model", warm, "--out", tmp_path / name, *MINING, "--embeddings", tmp_path / "cache.h5")
    assert hdf5_values(tmp_path / "cold.h5") == hdf5_values(tmp_path / "warm.h5")


@pytest.mark.parametrize("sam", ["none", "ellipse"])
def test_baselines_ignore_the_cache_that_they_do_not_need(dataset, warm, tmp_path, sam):
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", sam, *MINING, "--embeddings", tmp_path / "cache.h5")


def test_mine_ends_with_7_where_nothing_is_accepted(dataset, warm, tmp_path):
    thresholds = ("--min-predicted-iou", 1, "--min-stability", 1, "--min-agreement", 1)
    outcome = call("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *thresholds, "--no-calibrate", "--json", "--quiet")
    assert outcome.code == 7
    assert outcome.out == ""
    assert re.fullmatch(r"error: .*none of \d+ objects was accepted \(\w+ \d+.*\)\nhint: .*--min-.*\n", outcome.err)
    check_store(tmp_path / "s.h5", 9, 2)
    finetune = call("finetune", dataset, "--model", warm, "--store", tmp_path / "s.h5", "--out", tmp_path / "run", *SHORT, "--quiet")
    assert finetune.code == 7


def test_mine_ends_with_7_where_the_model_finds_nothing(dataset, warm, tmp_path):
    outcome = call("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--min-area", 10**6, "--no-calibrate", "--quiet")
    assert outcome.code == 7
    assert outcome.err == f"error: {warm} finds nothing in any of 9 unlabeled images\nhint: train the model longer\n"


def test_thresholds_can_be_changed_after_mining(dataset, warm, store, tmp_path):
    arguments = ("finetune", dataset, "--model", warm, "--store", store, *SHORT, "--quiet")
    assert call(*arguments, "--out", tmp_path / "strict", "--min-stability", 1).code == 7
    assert call(*arguments, "--out", tmp_path / "mild", "--min-stability", 0.01).code == 0


# finetune


def test_finetune_without_a_store_goes_on_with_the_labeled_cases(dataset, warm, tmp_path):
    result = succeed("finetune", dataset, "--model", warm, "--out", tmp_path / "run", *SHORT, "--json").result
    assert files_in(tmp_path / "run") == RUN_FILES
    assert result["labeled"] == 9
    assert "pseudo_labeled" not in result


def test_finetune_once_learns_from_the_store(dataset, warm, store, tmp_path):
    result = succeed("finetune", dataset, "--model", warm, "--store", store, "--out", tmp_path / "run", *SHORT, "--json").result
    assert files_in(tmp_path / "run") == RUN_FILES
    assert (result["labeled"], result["pseudo_labeled"]) == (9, 9)
    assert json.loads((tmp_path / "run/model.json").read_text())["made_from"]["store"]["sam"] == "tiny"
    assert all(float(row["pseudo"]) > 0 for row in read_csv(tmp_path / "run/history.csv"))


@pytest.mark.parametrize("sam", ["tiny", "none", "ellipse"])
def test_finetune_continuous_mines_again_as_the_store_was_mined(dataset, warm, tmp_path, sam):
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", sam, "--box-margin", 3, *MINING)
    arguments = ("--store", tmp_path / "s.h5", "--schedule", "continuous", "--remine-every", 2, *ACCEPT_ALL)
    run = tmp_path / "run"
    succeed("finetune", dataset, "--model", warm, "--out", run, *arguments, *SHORT)
    assert files_in(run) - {"embeddings.h5"} == RUN_FILES | {"stores/000002.h5", "drift.csv"}
    check_store(run / "stores/000002.h5", 9, 2 if sam == "tiny" else 0)
    first, again = hdf5_values(tmp_path / "s.h5"), hdf5_values(run / "stores/000002.h5")
    assert first["attribute config"] == again["attribute config"]
    assert json.loads(first["attribute made_from"])["model"] != json.loads(again["attribute made_from"])["model"]


def test_rest_of_the_iterations_is_never_mined_for_alone(dataset, warm, store, tmp_path):
    arguments = ("--store", store, "--schedule", "continuous", "--remine-every", 2, *ACCEPT_ALL, "--batch-size", 4, "--iterations", 5)
    succeed("finetune", dataset, "--model", warm, "--out", tmp_path / "run", *arguments)
    [drift] = read_csv(tmp_path / "run/drift.csv")
    assert (drift["iteration"], drift["pseudo_share"]) == ("2", "0.5")


def test_share_of_pseudo_labels_is_that_of_the_accepted_images(dataset, warm, store, tmp_path):
    """There are 9 labeled images; of 9 unlabeled ones all are accepted, or one is."""
    train = ("finetune", dataset, "--model", warm, "--store", store, "--iterations", 1, "--batch-size", 8, *ACCEPT_ALL, "--json")
    highest = np.sort(h5py.File(store)["objects"]["confidence"])[-1].item()
    for share, least, used in (("auto", 0, 0.5), ("auto", highest, 0.125), (0.25, 0, 0.25)):
        out = tmp_path / f"{share}-{used}"
        result = succeed(*train, "--out", out, "--pseudo-share", share, "--min-confidence", least).result
        assert result["pseudo_share"] == json.loads((out / "model.json").read_text())["made_from"]["pseudo_share"] == used
        assert result["pseudo_labeled"] == (1 if least else 9)


def test_finetune_in_rounds_starts_again_from_the_model_and_mines_in_between(dataset, warm, store, tmp_path):
    run = tmp_path / "run"
    arguments = ("--store", store, "--rounds", 2, "--iterations", 5, "--validate-every", 2, "--batch-size", 4, *ACCEPT_ALL)
    result = succeed("finetune", dataset, "--model", warm, "--out", run, *arguments, "--json").result
    stores = {"stores/000002.h5", "drift.csv", "embeddings.h5"}
    assert files_in(run) == RUN_FILES | stores | {f"rounds/1/{name}" for name in RUN_FILES - {"model_card.md"}}
    assert [int(row["iteration"]) for row in read_csv(run / "rounds/1/history.csv")] == [2]
    assert [int(row["iteration"]) for row in read_csv(run / "history.csv")] == [2, 3] and result["iterations"] == 3
    check_store(run / "stores/000002.h5", 9, 2)
    mined_by = json.loads(hdf5_values(run / "stores/000002.h5")["attribute made_from"])["model"]
    assert mined_by == hash_tensors(load_model(run / "rounds/1").state_dict())
    [drift] = read_csv(run / "drift.csv")
    assert set(drift) == {"iteration", "coverage", "coverage_before", "flips", "pseudo_share"} and float(drift["coverage_before"]) == 1


def test_round_that_is_worse_on_val_is_said(dataset, warm, store, tmp_path, monkeypatch):
    scores = iter([0.9, 0.2])
    monkeypatch.setattr("samsemi.training.loop.validate", lambda *_: {"val_dice": next(scores)})
    arguments = ("--store", store, "--rounds", 2, "--iterations", 2, "--batch-size", 4, *ACCEPT_ALL)
    outcome = succeed("finetune", dataset, "--model", warm, "--out", tmp_path / "run", *arguments, "--quiet")
    assert "warning: round 2 is worse on val than round 1 (0.200, 0.900)" in outcome.err


def test_finetune_warns_where_labels_drift(dataset, warm, store, tmp_path, monkeypatch):
    monkeypatch.setattr("samsemi.mining.drift.FLIPPED", -1.0)
    arguments = ("--store", store, "--schedule", "continuous", "--remine-every", 2, *ACCEPT_ALL, *SHORT, "--quiet")
    outcome = succeed("finetune", dataset, "--model", warm, "--out", tmp_path / "run", *arguments)
    assert "warning: mined again at iteration 2" in outcome.err and "drift" in outcome.err


def test_finetune_from_scratch_forgets_the_weights_of_the_model_but_not_its_network(dataset, warm, store, tmp_path):
    arguments = ("--store", store, "--iterations", 1, "--lr", 1e-8, "--batch-size", 4, "--seed", 3, *ACCEPT_ALL)
    succeed("finetune", dataset, "--model", warm, "--out", tmp_path / "on", *arguments)
    succeed("finetune", dataset, "--model", warm, "--out", tmp_path / "anew", *arguments, "--from-scratch")
    succeed("warmstart", dataset, "--out", tmp_path / "first", *NETWORK, "--iterations", 1, "--lr", 1e-8, "--seed", 3)
    weights = {name: load_model(run) for name, run in (("warm", warm), *((n, tmp_path / n) for n in ("on", "anew", "first")))}

    def apart(one: str, other: str) -> float:
        pairs = zip(weights[one].parameters(), weights[other].parameters(), strict=True)
        return max((a - b).abs().max().item() for a, b in pairs)

    assert apart("on", "warm") < 1e-5 < 1e-2 < apart("anew", "warm")
    assert apart("anew", "first") < 1e-5, "the random weights of the seed"
    assert weights["anew"].spec == weights["warm"].spec


def test_strong_and_weak_augmentation_learn_differently(dataset, warm, store, tmp_path):
    weights = {}
    for how in ("--strong", "--weak"):
        succeed("finetune", dataset, "--model", warm, "--store", store, "--out", tmp_path / how[2:], *SHORT, *ACCEPT_ALL, how)
        weights[how] = (tmp_path / how[2:] / "model.safetensors").read_bytes()
    assert weights["--strong"] != weights["--weak"]


def test_store_is_measured_with_other_thresholds_than_its_own(dataset, store, tmp_path):
    everything = succeed("eval", dataset, "--store", store, "--out", tmp_path / "all", "--overlays", 0, "--json").result
    few = ("--min-confidence", np.quantile(h5py.File(store)["objects"]["confidence"], 0.7).item())
    strict = succeed("eval", dataset, "--store", store, "--out", tmp_path / "few", "--overlays", 0, *few, "--json").result
    assert 0 < strict["coverage"] < everything["coverage"] == 1


# eval and predict


@pytest.fixture(scope="module")
def evaluated(dataset, warm, tmp_path_factory):
    """The folder and the JSON of an evaluation of the warm model."""
    folder = tmp_path_factory.mktemp("evals") / "warm"
    return folder, succeed("eval", dataset, "--model", warm, "--out", folder, "--json").result


@pytest.fixture(scope="module")
def predicted(pictures, warm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions") / "all"
    return folder, succeed(
        "predict", pictures / "images", "--model", warm, "--out", folder, "--overlays", "--probabilities", "--json"
    ).result


def test_eval_has_the_keys_that_scripts_rely_on(evaluated):
    folder, result = evaluated
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.pop("schema") == "samsemi.evaluation/1"
    assert set(metrics["classes"]) == {"foreground"}
    for per_metric in (metrics["classes"]["foreground"], metrics["mean"]):
        assert list(per_metric) == METRICS
        for metric, summary in per_metric.items():
            counts = {"missed", "false_alarms"} if metric in ("hd95", "assd", "nsd", "boundary_iou") else set()
            assert set(summary) == SUMMARY | counts
    dice = metrics["mean"]["dice"]
    assert dice["n"] == 3
    assert 0.5 < dice["mean"] <= 1 and dice["low"] is dice["high"] is None, "one patient"
    assert {name: result[name] for name in metrics} == metrics
    curve = metrics["reliability"]["probabilities"]["foreground"]
    assert 0 <= curve["error"] <= metrics["mean"]["ece"]["mean"] + 1e-6 and len(curve["curve"]) <= 15
    assert set(metrics["cost"]) == {"model"}, "the SAMs are counted by `samsemi info`"
    assert set(metrics["cost"]["model"]) == {"parameters", "gflops", "ms_per_image"} and min(metrics["cost"]["model"].values()) > 0


def test_eval_writes_a_row_per_case_and_class(dataset, evaluated):
    folder, _ = evaluated
    assert (folder / "metrics.csv").read_text().splitlines()[0] == ",".join(["id,group,class", *METRICS, "missed,false_alarm"])
    rows = read_csv(folder / "metrics.csv")
    assert [row["id"] for row in rows] == ids_of(dataset, "test")
    assert {row["class"] for row in rows} == {"foreground"}
    assert files_in(folder) - {"metrics.json", "metrics.csv"} == {
        f"overlays/{rank:02d}-{row['id']}.png" for rank, row in enumerate(sorted(rows, key=lambda r: float(r["dice"])), start=1)
    }


def test_predict_writes_class_indices_at_source_size(pictures, predicted):
    folder, result = predicted
    names = {path.stem for path in (pictures / "images").iterdir()}
    wanted = (
        {f"{name}.png" for name in names} | {f"overlays/{name}.png" for name in names} | {f"probabilities/{name}.npz" for name in names}
    )
    assert files_in(folder) == wanted | {"predictions.json"}
    assert (result["predictions"], result["images"], result["written"], result["unreadable"]) == (str(folder), 24, 24, 0)
    for name in names:
        label, image = read_array(folder / f"{name}.png"), read_array(pictures / "images" / f"{name}.png")
        assert label.shape == image.shape[:2]
        assert label.dtype == np.uint8
        assert set(np.unique(label)) <= {0, 1}
        assert read_array(folder / "overlays" / f"{name}.png").shape[1] == image.shape[1] * zoom_of(image.shape[0])
        with np.load(folder / "probabilities" / f"{name}.npz") as file:
            probs = file["probs"].astype(np.float32)
        assert probs.shape == (2, *label.shape)
        assert np.allclose(probs.sum(axis=0), 1, atol=2e-3)
        assert (probs[label, *np.indices(label.shape)] >= 0.499).all()


def test_predicted_masks_have_a_palette_that_can_be_seen(predicted):
    for path in predicted[0].glob("*.png"):
        with Image.open(path) as picture:
            shown = np.array(picture.convert("RGB"))
        label = read_array(path)
        assert picture.mode == "P" and label.any() and (shown[label == 1] == color_of(1)).all() and not shown[label == 0].any()


def test_eval_measures_exactly_what_predict_writes(dataset, evaluated, predicted, tmp_path):
    result = succeed("eval", dataset, "--predictions", predicted[0], "--out", tmp_path / "e", "--json").result
    for own, other in (
        (result["mean"], evaluated[1]["mean"]),
        *zip(result["classes"].values(), evaluated[1]["classes"].values(), strict=True),
    ):
        assert own.pop("ece")["n"] == 0 and own == {metric: summary for metric, summary in other.items() if metric != "ece"}
    rows, others = (read_csv(folder / "metrics.csv") for folder in (tmp_path / "e", evaluated[0]))
    assert rows == [row | {"ece": ""} for row in others] and all(0 <= float(row["ece"]) < 0.5 for row in others)
    assert "reliability" not in result


def test_eval_against_itself_finds_no_difference(dataset, evaluated, predicted, tmp_path):
    arguments = ("eval", dataset, "--predictions", predicted[0], "--against", evaluated[0], "--out", tmp_path / "e", "--json")
    against = succeed(*arguments).result["against"]
    assert list(against)[1:] == METRICS
    for metric in METRICS[:-1]:
        assert (against[metric]["mean"], against[metric]["std"], against[metric]["n"]) == (0, 0, 3), (
            "though the earlier is read from a table"
        )
    assert against["ece"]["n"] == 0, "masks have none"


def test_eval_against_what_was_measured_otherwise_is_refused(dataset, evaluated, predicted, tmp_path):
    arguments = ("eval", dataset, "--predictions", predicted[0], "--out", tmp_path / "e", "--against")
    refused(USAGE, *arguments, evaluated[0], "--tolerance", 3, said=("nsd within 2.0, here within 3.0",))
    refused(DATA, *arguments, evaluated[0], "--split", "val", said=("none of the 3 cases",))
    shutil.copytree(evaluated[0], tmp_path / "mm")
    about = json.loads((tmp_path / "mm/metrics.json").read_text())
    (tmp_path / "mm/metrics.json").write_text(json.dumps(about | {"distance_unit": "mm"}))
    refused(DATA, *arguments, tmp_path / "mm", said=("distances in mm, here in pixels",))
    (tmp_path / "mm/metrics.json").write_text(json.dumps(about | {"made_from": {"dataset": "0" * 64}}))
    assert "another data set" in succeed(*arguments, tmp_path / "mm").err


def test_coverage_of_a_store_is_of_the_cases_whose_truth_is_known(dataset, store, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    rows = read_csv(tmp_path / "data/manifest.csv")
    hidden = [row for row in rows if row["truth"]][:4]
    for row in hidden:
        row["truth"] = ""
    with open(tmp_path / "data/manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    result = succeed("eval", tmp_path / "data", "--store", store, "--out", tmp_path / "e", "--overlays", 0, "--json").result
    assert (result["cases"], result["coverage"]) == (5, 1)


def test_eval_of_a_store_measures_its_labels_against_the_hidden_truth(dataset, store, tmp_path):
    arguments = ("eval", dataset, "--store", store, "--split", "unlabeled", "--out", tmp_path / "e", "--overlays", 1, "--json")
    result = succeed(*arguments).result
    assert result["cases"] == result["mean"]["dice"]["n"] == 9
    assert result["coverage"] == 1
    assert {row["id"] for row in read_csv(tmp_path / "e/metrics.csv")} == set(ids_of(dataset, "unlabeled"))
    assert len(files_in(tmp_path / "e")) == 3


# several classes


def draw_shapes(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture with a red, a green and a blue disc, and its class indices; a strip at the left is ignored."""
    label = np.zeros((height, width), dtype=np.uint8)
    image = rng.normal(90, 6, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    for k, place in enumerate(rng.permutation(3)):
        inside = np.hypot(y - height / 2 + rng.uniform(-9, 9), x - width * (2 * place + 1) / 6) < rng.uniform(0.1, 0.15) * width
        label[inside] = k + 1
        image[inside] = np.eye(3)[k] * 200 + 30
    label[:, :3] = 255
    return np.clip(image, 0, 255).astype(np.uint8), label


def test_three_classes_go_all_the_way(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(14):
        image, label = draw_shapes(rng, 80 + 8 * (number % 2), 96)
        write_image(tmp_path / f"images/{number:02d}.png", image)
        write_image(tmp_path / f"masks/{number:02d}.png", label)
    data, warm, path, run = (tmp_path / name for name in ("data", "warm", "s.h5", "run"))
    shares = ("--labeled", 6, "--val", 2, "--test", 2, "--classes", "red,green,blue")
    prepared = succeed("prepare", tmp_path / "images", "--masks", tmp_path / "masks", "--out", data, *shares)
    assert "255 is ignored" in prepared.err
    assert 0.02 < succeed("check", data, "--json").result["ignored_pixel_share"] < 0.05
    succeed("warmstart", data, "--out", warm, *NETWORK, "--iterations", 80, "--validate-every", 20)
    succeed("mine", data, "--model", warm, "--out", path, *MINING)
    with h5py.File(path) as file:
        assert set(file["objects"]["class_id"]) == {1, 2, 3}
    succeed("finetune", data, "--model", warm, "--store", path, "--out", run, *SHORT)
    result = succeed("eval", data, "--model", run, "--out", tmp_path / "eval", "--json").result
    assert list(result["classes"]) == ["red", "green", "blue"]
    assert result["mean"]["dice"]["mean"] > 0.5
    assert len(read_csv(tmp_path / "eval/metrics.csv")) == 2 * 3
    succeed("predict", tmp_path / "images", "--model", run, "--out", tmp_path / "predicted")
    values = [set(np.unique(read_array(tmp_path / f"predicted/{number:02d}.png"))) for number in range(14)]
    assert set.union(*values) == {0, 1, 2, 3}


# how the commands talk


def test_version():
    assert re.fullmatch(r"samsemi \d+\.\d+\.\d+\S*\n", succeed("--version").out)


def test_info_names_versions_devices_and_weights():
    result = succeed("info", "--json").result
    assert {"python", "samsemi", "torch", "h5py", "devices", "backends", "tiny"} <= set(result)
    assert "cpu" in result["devices"]
    assert set(result["cost"]) == {"tiny", "vit_b", "vit_l", "vit_h"} and result["cost"]["vit_h"]["gflops"] > 5000
    assert "SAM    parameters  GFLOPs\ntiny   4.6 M       2.7\n" in succeed("info").out


def test_quiet_is_silent_but_for_the_result(dataset, warm, store, tmp_path):
    for arguments in (
        ("check", dataset),
        ("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", *MINING, "--no-calibrate"),
        ("eval", dataset, "--store", store, "--split", "unlabeled", "--out", tmp_path / "e", "--overlays", 0),
    ):
        outcome = succeed(*arguments, "--quiet")
        assert outcome.err == ""
        assert outcome.out != ""


def test_progress_is_plain_lines_where_there_is_no_terminal(dataset, warm, tmp_path):
    outcome = succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", *MINING)
    assert "\x1b" not in outcome.err + outcome.out
    assert re.fullmatch(
        r"samsemi mine: loading .* .*\nmine: 9/9 images, [\d.]+/s, 0 s left\ncalibrate: 3/3 images, [\d.]+/s, 0 s left\nwarning: .*\n",
        outcome.err,
    )


def test_closing_table_shows_where_the_result_lies_whole(dataset, warm, tmp_path):
    path = tmp_path / ("a_folder_with_a_long_name_" * 4) / "store.h5"
    assert str(path) in succeed("mine", dataset, "--model", warm, "--out", path, "--sam", "none", *MINING).out


def test_flag_goes_before_file_and_file_before_default(dataset, warm, tmp_path):
    config = tmp_path / "options.toml"
    config.write_text('[mine]\nsam = "ellipse"\nbox-margin = 5\nmin_agreement = 0.125\n\n[eval]\noverlays = 0\n')
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--config", config, "--sam", "none")
    with h5py.File(tmp_path / "s.h5") as file:
        used, policy = json.loads(file.attrs["config"]), json.loads(file.attrs["policy"])
    assert (used["sam"], used["box_margin"], used["min_area"]) == ("none", 5, 64)
    assert policy["min_agreement"] == 0.125


def test_overwrite_replaces_what_stood_there(dataset, warm, tmp_path):
    for sam in ("none", "ellipse"):
        succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", sam, *MINING, "--overwrite")
    with h5py.File(tmp_path / "s.h5") as file:
        assert json.loads(file.attrs["made_from"])["sam"] == "ellipse"
