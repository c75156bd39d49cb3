import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from builders import ACCEPT_ALL, block, call, mined_of, succeed

from samsemi.data.dataset import IGNORE, name_images, read_case_image, read_dataset
from samsemi.mining.calibration import (
    SHARES,
    Applied,
    Judged,
    calibrate,
    find_sources,
    fit_objects,
    join,
    measure_objects,
    measure_shares,
    predict_unseen,
    trace_curve,
)
from samsemi.mining.folds import FoldMaps, deal_folds, fold_folders
from samsemi.mining.miner import Miner
from samsemi.mining.policy import Policy, decide, quality_of, score_table
from samsemi.mining.precision import Estimate, estimate_precision
from samsemi.mining.pseudolabels import quantize
from samsemi.mining.scores import REASONS, SCORES
from samsemi.options.mine import MineOptions
from samsemi.sam.protocol import learned_by, load_sam
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.segmenter import predict_batch, to_input
from samsemi.stages.mine import find_fold_maps, tables, warn_of_classes, with_precision
from samsemi.tensors import CARD, load_metadata, load_tensors, save_tensors


def judged_of(quality, iou, image=None) -> Judged:
    """Objects whose first score is their quality."""
    scores = np.zeros((len(iou), len(SCORES)))
    scores[:, 0] = quality
    image = np.arange(len(iou)) if image is None else np.asarray(image)
    iou = np.asarray(iou, dtype=float)
    return Judged(scores, iou, 2 * iou / (1 + iou), image, image, np.ones(len(iou), dtype=int))


def test_curve_goes_from_everything_to_little_with_the_truth_of_what_is_accepted():
    judged = judged_of([0.1, 0.2, 0.3, 0.4], [0.0, 0.6, 0.0, 1.0], image=[0, 0, 1, 2])
    curve = trace_curve(applied(judged), judged, images=4)
    intervals = [row.pop("precision_interval") for row in curve]
    assert curve[0] == {"min_quality": 0.1, "objects": 1.0, "images": 0.75, "precision": 0.5, "dice": pytest.approx((0.75 + 1) / 4)}
    assert curve[-1] == {"min_quality": 0.3, "objects": 0.5, "images": 0.5, "precision": 0.5, "dice": 0.5}
    assert intervals[0] == pytest.approx([0.150, 0.850], abs=1e-3) and intervals[-1] == pytest.approx([0.095, 0.905], abs=1e-3)
    assert [row["objects"] for row in curve] == sorted((row["objects"] for row in curve), reverse=True)


def test_curve_is_estimated_as_what_is_accepted_is():
    """Less the optimism, with the spread within patients."""
    judged = judged_of([0.1, 0.2, 0.3, 0.4], [0.0, 0.6, 0.0, 1.0])
    table = applied(judged, optimism=0.1, spread=2.0)
    first = trace_curve(table, judged, images=4)[0]
    assert (first["precision"], first["precision_interval"]) == estimate_precision(table.right, table.optimism, table.spread)
    assert first["precision"] == pytest.approx(0.4)


def applied(judged: Judged, optimism: float = 0.0, spread: float = 1.0) -> Applied:
    """All of it accepted, by its first score."""
    count = len(judged.iou)
    return Applied(judged.scores[:, 0], np.ones(count, bool), judged.iou >= 0.5, np.full(count, optimism), np.full(count, spread))


def test_probabilities_of_unseen_objects_do_not_depend_on_their_own_truth():
    rng = np.random.default_rng(0)
    quality, iou, image = rng.random(60), rng.random(60), np.repeat(np.arange(20), 3)
    before = predict_unseen(judged_of(quality, iou, image))
    changed = iou.copy()
    changed[image == 7] = 1 - changed[image == 7]
    after = predict_unseen(judged_of(quality, changed, image))
    assert (before[image == 7] == after[image == 7]).all()
    assert (before[image % 10 != 7] != after[image % 10 != 7]).all()


def test_objects_of_a_patient_are_never_apart():
    scores = [(np.ones((n, len(SCORES))), np.ones((n, 2, 1)), np.ones(n, dtype=int)) for n in (2, 0, 1)]
    judged = join(scores, ["anna", "bert", "anna"], 0)
    assert judged.group.tolist() == [0, 0, 0] and judged.image.tolist() == [0, 0, 2]


def test_masks_are_measured_with_the_true_object_of_their_class_that_they_share_most_with():
    label = np.zeros((32, 64), dtype=np.uint8)
    label[0:16, 0:16] = 1
    label[20:32, 40:60] = 2
    maps = [block(0, 8, 0, 4), block(10, 16, 10, 15), block(0, 4, 10, 14)]
    found = measure_objects(mined_of(*maps, class_id=[1, 1, 1]), label, 3, SHARES)
    assert found[0] == pytest.approx(1, abs=0.01) and not found[1:].any()
    found = measure_objects(mined_of(*maps, class_id=[2, 2, 2]), label, 3, SHARES)
    assert found[1, 0] == pytest.approx(0.95, abs=0.05) and not found[[0, 2]].any()


def test_ignored_pixels_count_for_nothing():
    label = np.zeros((32, 64), dtype=np.uint8)
    label[0:16, 0:16], label[0:16, 16:32] = 1, IGNORE
    assert measure_objects(mined_of(block(0, 8, 0, 8)), label, 2, SHARES) == pytest.approx(1, abs=0.01)


def test_label_that_wins_with_less_than_a_half_is_judged_as_it_is_learnt():
    """The network is torn between three classes, SAM sure of nothing; the object's class wins all the same, on the true object."""
    label = np.zeros((32, 64), dtype=np.uint8)
    label[0:16, 0:16] = 1
    seen = 0.46 * block(0, 8, 0, 4)
    network = np.stack([1 - seen - 0.26 * (seen > 0), seen, 0.26 * (seen > 0)])
    mined = mined_of(seen, network=network, prompt_boxes=[[0, 0, 15, 15]])
    assert (measure_objects(mined, label, 3, (0.0,))[0] > 0.85).all()


def read_about(path) -> tuple[dict, dict]:
    with h5py.File(path) as file:
        return json.loads(file.attrs["policy"]), json.loads(file.attrs["calibration"])


def test_mine_calibrates_with_val_and_out_of_fold_maps_and_stores_the_curve(dataset, folded, tmp_path):
    asked = ("mine", dataset, "--model", folded, "--min-area", 16, "--target-precision", 0.6)
    result = succeed(*asked, "--out", tmp_path / "s.h5", "--json").result
    policy, calibration = read_about(tmp_path / "s.h5")
    assert calibration["cases"] == {"val": len(read_dataset(dataset).split("val")), "out_of_fold": 9}
    assert calibration["target_precision"] == 0.6 and calibration["objects"] >= 10
    assert policy["min_quality"] == calibration["min_quality"] == result["min_quality"] and policy["quality"]
    assert {policy[f"min_{name}"] for name in ("confidence", "predicted_iou", "agreement", "stability")} == {0}
    assert {"min_quality", "objects", "images", "precision", "precision_interval", "dice"} == set(calibration["curve"][0])
    assert calibration["curve"][0]["objects"] == 1


def test_thresholds_that_are_given_stand_beside_the_calibration(dataset, folded, tmp_path):
    asked = ("mine", dataset, "--model", folded, "--sam", "none", "--min-quality", 0.125, "--min-agreement", 0.25)
    told = succeed(*asked, "--out", tmp_path / "s.h5", "--min-area", 16).err
    policy, calibration = read_about(tmp_path / "s.h5")
    assert "target 0.8, by the calibration's own thresholds, not by --min-agreement, --min-quality" in told
    assert (policy["min_quality"], policy["min_agreement"]) == (0.125, 0.25) and calibration["curve"]


def test_without_calibration_the_default_thresholds_stand(dataset, warm, tmp_path):
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", "--no-calibrate", "--min-confidence", 0)
    policy, calibration = read_about(tmp_path / "s.h5")
    assert calibration == {} and policy["quality"] is None
    assert (policy["min_confidence"], policy["min_predicted_iou"], policy["min_agreement"]) == (0, 0.5, 0.5)


def test_too_few_objects_to_calibrate_with_are_said(dataset, warm, tmp_path, monkeypatch):
    monkeypatch.setattr("samsemi.mining.calibration.LEAST_OBJECTS", 10**6)
    outcome = succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", "--min-confidence", 0, "--quiet")
    assert "warning: only" in outcome.err and "default thresholds" in outcome.err
    assert read_about(tmp_path / "s.h5")[0]["quality"] is None


def test_target_that_cannot_be_reached_is_said(dataset, folded, tmp_path, monkeypatch):
    monkeypatch.setattr("samsemi.mining.calibration.RIGHT", 2.0)
    asked = ("mine", dataset, "--model", folded, "--sam", "none", "--min-area", 16, "--quiet")
    assert "precision of 0.8 is not reached" in call(*asked, "--out", tmp_path / "s.h5").err


@pytest.fixture
def poor(monkeypatch):
    """Everything would be accepted, with this estimate of the precision."""

    def estimate(precision: float) -> None:
        monkeypatch.setattr("samsemi.mining.calibration.choose_threshold", lambda *_: (0.0, precision))
        monkeypatch.setattr("samsemi.mining.calibration.estimate_precision", lambda *_: Estimate(precision, [0.04, 0.62]))

    return estimate


def test_what_should_mostly_be_wrong_is_accepted_only_where_that_is_wanted(dataset, folded, tmp_path, poor):
    poor(0.2)
    mine = ("mine", dataset, "--model", folded, "--sam", "none", "--min-area", 16)
    outcome = call(*mine, "--out", tmp_path / "s.h5", "--quiet")
    assert outcome.code == 7 and "the best precision that can be reached is 0.20 [0.04, 0.62]" in outcome.err
    assert "so nothing is accepted" in outcome.err and "--allow-low-precision" in outcome.err.splitlines()[-1]
    assert read_about(tmp_path / "s.h5")[1]["precision"] == 0.2
    result = succeed(*mine, "--out", tmp_path / "t.h5", "--allow-low-precision", "--json").result
    assert result["accepted"] > 0 and result["calibrated_precision"] == 0.2
    assert (result["calibrated_precision_low"], result["calibrated_precision_high"]) == (0.04, 0.62)
    assert succeed(*mine, "--out", tmp_path / "u.h5", "--min-quality", 0, "--json").result["accepted"] > 0, (
        "a threshold that is given stands"
    )
    finetune = ("finetune", dataset, "--model", folded, "--iterations", 1, "--out", tmp_path / "run")
    assert call(*finetune, "--store", tmp_path / "s.h5", "--quiet").code == 7
    note = "estimated precision of what is accepted 0.20 [0.04, 0.62]"
    told = succeed(*finetune, "--store", tmp_path / "t.h5").err
    assert note in told and "own thresholds" not in told
    told = succeed(*finetune, "--store", tmp_path / "t.h5", "--min-agreement", 0.01, "--overwrite").err
    assert f"{note} (95 % interval), target 0.8, by the calibration's own thresholds, not by --min-agreement" in told


def test_best_precision_of_half_or_more_is_taken_with_a_warning(dataset, folded, tmp_path, poor):
    poor(0.5)
    outcome = succeed("mine", dataset, "--model", folded, "--sam", "none", "--min-area", 16, "--out", tmp_path / "s.h5")
    assert "warning: a precision of 0.8 is not reached; the best is 0.50 [0.04, 0.62], which is taken" in outcome.err
    assert "estimated precision of what is accepted 0.50 [0.04, 0.62] (95 % interval), target 0.8" in outcome.err
    assert "own thresholds" not in outcome.err


def test_precision_that_the_choice_of_the_threshold_makes_does_not_count():
    """Of 24 objects 9 are right, whatever their scores; above some threshold they are half or more, by luck."""
    options = MineOptions(dataset="data", model="warm", out="s.h5", target_precision=0.7)
    found = set()
    for seed in range(20):
        judged = judged_of(np.zeros(24), np.arange(24) < 9)
        judged.scores[:] = np.random.default_rng(seed).normal(size=judged.scores.shape)
        fit = fit_objects(judged, options, None)
        counted = (judged.iou[fit.unseen >= fit.threshold] >= 0.5).mean()
        assert fit.bias.optimism > 0 and fit.usable == (counted - fit.bias.optimism >= 0.5)
        found.add((bool(counted >= 0.5), fit.usable))
    assert (True, False) in found


def test_target_below_half_is_a_wish_for_as_little():
    judged = judged_of(np.linspace(1, 0, 60), np.arange(60) % 10 < 3)
    for target, usable in ((0.25, True), (0.8, False)):
        assert fit_objects(judged, MineOptions(dataset="data", model="warm", out="s.h5", target_precision=target), None).usable == usable


def test_cases_that_a_sam_has_learnt_do_not_calibrate_it(dataset, folded):
    data, options = read_dataset(dataset), MineOptions(dataset=dataset, model=folded, out="s.h5", min_area=16)
    sam = load_sam("tiny", None, torch.device("cpu"))
    maps = FoldMaps(folded / "out_of_fold.h5")
    for learnt, sources in ((None, {"val", "out_of_fold"}), ("another", {"val", "out_of_fold"}), (data.fingerprint(), {"val"})):
        sam.adapted_to = learnt
        assert set(calibrate(Miner(load_model(folded), sam, options), data, maps)[1]["cases"]) == sources
    assert set(calibrate(Miner(load_model(folded), sam, options), data, None)[1]["cases"]) == {"val"}
    del sam.adapted_to
    assert set(calibrate(Miner(load_model(folded), sam, options), data, maps)[1]["cases"]) == {"val", "out_of_fold"}, (
        "a backend of one's own"
    )


def test_learnt_images_do_not_calibrate_in_whatever_data_set_they_stand(dataset, folded):
    """Prepared anew they may have other ids and stand in val; without a hash they are known by their ids, and with one by that alone."""
    data, maps = read_dataset(dataset), FoldMaps(folded / "out_of_fold.h5")
    labeled, val = data.split("labeled"), data.split("val")
    unknown = replace(labeled[2], image_sha256=None)
    sam = SimpleNamespace(adapted_to="another", learned=name_images([replace(labeled[0], id="new"), replace(val[0], id="new2"), unknown]))
    sam.learned[labeled[1].id] = "0" * 64
    found = find_sources(sam, data, maps)
    assert found["val"] == val[1:] and found["out_of_fold"] == [labeled[1], *labeled[3:]]
    bare = replace(data, cases={name: replace(case, image_sha256=None) for name, case in data.cases.items()})
    assert [case.id for case in find_sources(sam, bare, maps)["out_of_fold"]] == [case.id for case in (labeled[0], *labeled[3:])]
    sam.learned = name_images(labeled)
    assert set(find_sources(sam, data, maps)) == {"val"}


def test_out_of_fold_predictions_calibrate_only_what_is_predicted_alike(dataset, folded, tmp_path):
    """They are made with test-time augmentation by the model of the case's fold; others are left out, with a note."""
    path, data = folded / "out_of_fold.h5", read_dataset(dataset)
    with h5py.File(path) as file:
        ids, probs = [name.decode() for name in file["ids"]], file["probs"][:]
    held = {case.id: fold for fold, cases in enumerate(deal_folds(data.split("labeled"), 3, 0)) for case in cases}
    for name, found in zip(ids, probs, strict=True):
        model = load_model(fold_folders(folded, 3)[held[name]]).eval()
        square = to_input(read_case_image(data.cases[name]), model.spec.size).permute(1, 2, 0).numpy()
        assert (found == quantize(predict_batch(model, [square], flips=True)[0])).all()
    assert find_fold_maps(folded, 1, flips=True).path == path and find_fold_maps(folded, 1, flips=False) is None
    earlier = tmp_path / "out_of_fold.h5"
    shutil.copy(path, earlier)
    with h5py.File(earlier, "a") as file:
        del file.attrs["flips"]
    assert find_fold_maps(tmp_path, 1, flips=True) is None and find_fold_maps(tmp_path, 1, flips=False).path == earlier
    told = succeed("mine", dataset, "--model", folded, "--out", tmp_path / "s.h5", *ACCEPT_ALL, "--min-area", 16, "--no-flips")
    assert f"calibrated on val alone: {path} was predicted with test-time augmentation" in told.err


@pytest.mark.parametrize(("score", "value"), [("predicted_iou", np.nan), ("area", 0)])
def test_object_that_is_never_accepted_has_no_say_in_the_fit(dataset, folded, monkeypatch, score, value):
    """Its score is no number, or SAM's mask of it is empty."""
    data, options = read_dataset(dataset), MineOptions(dataset=dataset, model=folded, out="s.h5", min_area=16)
    sam, maps = load_sam("tiny", None, torch.device("cpu")), FoldMaps(folded / "out_of_fold.h5")
    _, whole = calibrate(Miner(load_model(folded), sam, options), data, maps)
    seen, prompt = [], Miner.prompt

    def spoil_the_first(miner, images, *found):
        prompted = prompt(miner, images, *found)
        for mined, _ in prompted.values():
            if not seen:
                getattr(mined, score)[0] = value
            seen.append(mined)
        return prompted

    monkeypatch.setattr(Miner, "prompt", spoil_the_first)
    policy, about = calibrate(Miner(load_model(folded), sam, options), data, maps)
    assert about["objects"] == whole["objects"] - 1 and np.isfinite(policy.quality.weights).all()


def with_card(source, target, **values) -> None:
    """The weights of a file with other values in their card."""
    card = json.loads(load_metadata(source)[CARD]) | values
    save_tensors(target, load_tensors(source), {CARD: json.dumps(card)})


def test_adapted_weights_say_what_they_were_adapted_to(dataset, tmp_path):
    out = tmp_path / "sam.safetensors"
    succeed("adapt", dataset, "--out", out, "--all", "--iterations", 1, "--batch-size", 1, "--overlays", 0)
    sam = load_sam("tiny", out, torch.device("cpu"))
    data = read_dataset(dataset)
    assert sam.adapted_to == data.fingerprint() and sam.learned == name_images(data.split("labeled")) and all(sam.learned.values())
    tiny = load_sam("tiny", None, torch.device("cpu"))
    assert tiny.adapted_to is None and learned_by(tiny) == {}
    twice = tmp_path / "twice.safetensors"
    learnt = {**sam.learned, "before": None}
    with_card(out, twice, learned=learnt)
    again = tmp_path / "again.safetensors"
    few = ("--all", "--iterations", 1, "--batch-size", 1, "--overlays", 0)
    succeed("adapt", dataset, "--out", again, *few, "--sam-checkpoint", twice)
    assert load_sam("tiny", again, torch.device("cpu")).learned == learnt, "those of the weights that it was adapted from, too"


def test_each_share_of_sam_is_measured_as_what_would_be_learnt():
    label = np.zeros((32, 64), dtype=np.uint8)
    label[0:16, 0:16] = 1
    sam, unetpp = block(0, 8, 0, 4), block(0, 8, 0, 8)
    [[iou, dice]] = measure_objects(mined_of(sam, prior=[unetpp]), label, 2, SHARES)
    assert (iou[0], dice[0]) == pytest.approx((1, 1), abs=0.1)
    assert (iou[-1], dice[-1]) == pytest.approx((1 / 2, 2 / 3), abs=0.02), "the U-Net++ alone is twice as wide"
    assert dice[0] > dice[-2] >= dice[-1]


def test_object_is_right_by_the_label_of_the_best_share_not_by_the_mask_of_sam():
    """SAM finds a quarter of an object that the U-Net++ finds whole, and nothing is where a second one is thought to be."""
    label = np.zeros((32, 64), dtype=np.uint8)
    label[0:16, 0:16] = 1
    whole, none = block(0, 8, 0, 4), block(10, 16, 10, 15)
    mined = mined_of(block(0, 4, 0, 2), none, prior=[whole, none])
    rows = [(np.ones((2, 6)), measure_objects(mined, label, 2, (1.0, 0.0)), np.ones(2, dtype=int))]
    assert measure_shares(rows) == pytest.approx([0.4 / 2, 1 / 2], abs=0.05)
    assert join(rows, ["anna"], 0).iou == pytest.approx([0.25, 0], abs=0.05)
    assert join(rows, ["anna"], 1).iou == pytest.approx([1, 0], abs=0.05)


def test_best_share_of_sam_is_chosen_where_none_is_given(dataset, folded, tmp_path):
    asked = ("mine", dataset, "--model", folded, "--min-area", 16)
    succeed(*asked, "--out", tmp_path / "s.h5")
    policy, calibration = read_about(tmp_path / "s.h5")
    shares = {float(share): dice for share, dice in calibration["dice_by_sam_share"].items()}
    assert set(shares) == {0, 0.25, 0.5, 0.75, 1} and policy["sam_share"] == max(shares, key=shares.get)
    succeed(*asked, "--out", tmp_path / "t.h5", "--sam-share", 0.3)
    policy, calibration = read_about(tmp_path / "t.h5")
    assert policy["sam_share"] == 0.3 and set(calibration["dice_by_sam_share"]) == {"0.3"}, "what is learnt is what was judged"


def test_without_validation_cases_the_default_thresholds_are_used(dataset, warm, tmp_path):
    data = shutil.copytree(dataset, tmp_path / "data")
    manifest = data / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",val,", ",test,"))
    asked = ("mine", data, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", "--min-confidence", 0, "--quiet")
    assert "only 0 objects to calibrate with" in succeed(*asked).err
    assert read_about(tmp_path / "s.h5")[0]["quality"] is None


@pytest.fixture
def two_classes(dataset, folded, monkeypatch):
    """``calibrate`` with objects of two classes, told apart by their first score: of the first all are right, of the second few."""
    rng = np.random.default_rng(0)

    def calibrated(counts: tuple[int, int], right: tuple[float, float], **options):
        def judge(case, miner, num_classes, fold_maps, shares):
            class_id = np.repeat([1, 2], counts)
            iou = (rng.random(len(class_id)) < np.repeat(right, counts)).astype(float)
            scores = rng.random((len(class_id), len(SCORES)))
            scores[:, 0] = 0.5 * iou + 0.5 * rng.random(len(iou))
            return scores, np.tile(iou[:, None, None], (1, 2, len(shares))), class_id

        monkeypatch.setattr("samsemi.mining.calibration.judge_case", judge)
        data = read_dataset(dataset)
        cases = {name: replace(case, group=name) for name, case in data.cases.items()}
        data = replace(data, classes=("background", "nucleus", "plasm"), cases=cases)
        chosen = MineOptions(dataset=dataset, model=folded, out="s.h5", **options)
        return calibrate(Miner(load_model(folded), load_sam("none", None, torch.device("cpu")), chosen), data)

    return calibrated


def test_every_class_with_enough_objects_has_a_threshold_of_its_own(two_classes):
    policy, about = two_classes((20, 20), (1.0, 0.6))
    assert [rule.class_id for rule in policy.by_class] == [1, 2] and policy.by_class[0].min_quality < policy.by_class[1].min_quality
    assert {name: row["fit"] for name, row in about["by_class"].items()} == {"nucleus": "own", "plasm": "own"}
    for row in about["by_class"].values():
        low, high = row["precision_interval"]
        assert low < row["precision"] < high + 1e-9 and row["accepted"] > 0
        assert row["precision"] + row["optimism"] >= 0.8, "the threshold is chosen by what is counted"
    shares = [row["accepted"] / about["accepted"] for row in about["by_class"].values()]
    rows = [row["precision"] for row in about["by_class"].values()]
    assert about["precision"] == pytest.approx(np.dot(shares, rows))
    mined = mined_of(*[block(2, 8, 2, 8)] * 2, class_id=[1, 2])
    assert quality_of(mined, policy) == pytest.approx([float(rule.quality(score_table(mined)[:1])[0]) for rule in policy.by_class])
    strict = replace(policy, by_class=tuple(replace(rule, min_quality=2 * (rule.class_id - 1)) for rule in policy.by_class))
    assert decide(mined, strict).tolist() == [0, REASONS.index("quality")]
    given, _ = two_classes((20, 20), (1.0, 0.6), min_quality=0.125)
    assert {given.min_quality, *(rule.min_quality for rule in given.by_class)} == {0.125}
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_class_with_few_objects_shares_the_fit_of_all(two_classes):
    policy, about = two_classes((20, 1), (1.0, 0.6))
    assert [rule.class_id for rule in policy.by_class] == [1]
    assert {name: row["fit"] for name, row in about["by_class"].items()} == {"nucleus": "own", "plasm": "shared"}


def test_class_that_is_mostly_wrong_does_not_take_the_others_with_it(two_classes, caplog):
    policy, about = two_classes((20, 20), (1.0, 0.0))
    assert about["by_class"]["nucleus"]["precision"] == 1 and not about["by_class"]["plasm"]["usable"]
    assert policy.by_class[0].min_quality < 1 < policy.by_class[1].min_quality
    assert "class plasm: a precision of 0.8 is not reached; the best is 0.00 [0.00, 0." in caplog.text
    assert "so nothing is accepted" in caplog.text


def test_one_class_needs_no_rules_of_classes(dataset, folded, tmp_path):
    succeed("mine", dataset, "--model", folded, "--out", tmp_path / "s.h5", "--min-area", 16, "--sam", "none", "--min-quality", 0)
    policy, calibration = read_about(tmp_path / "s.h5")
    assert "by_class" not in policy and "by_class" not in calibration


def test_classes_that_are_nearly_empty_are_warned_of(capsys):
    found = {"nucleus": {"objects": 64, "accepted": 49}, "plasm": {"objects": 66, "accepted": 2}, "rim": {"objects": 0, "accepted": 0}}
    warn_of_classes(found)
    err = capsys.readouterr().err
    assert "nucleus" not in err
    assert "class plasm is nearly empty: 2 of 66 objects accepted" in err and "class rim is nearly empty: 0 of 0 objects" in err


def test_row_of_a_class_has_its_estimated_precision_with_the_interval():
    counts = {"objects": 4, "accepted": 3, "rejected": 1, "images": 2}
    calibration = {"by_class": {"nucleus": {"precision": 0.8, "precision_interval": [0.49, 0.94]}, "plasm": {"objects": 2}}}
    by_class = with_precision({"nucleus": counts, "plasm": counts}, calibration)
    estimate = {"calibrated_precision": 0.8, "calibrated_precision_low": 0.49, "calibrated_precision_high": 0.94}
    assert by_class == {"nucleus": {**counts, **estimate}, "plasm": counts}
    [table] = tables({"images": 4, "by_class": by_class})
    assert [row[-1] for row in table.rows] == ["0.80 [0.49, 0.94]", "-"]


def test_mine_has_a_row_per_class(dataset, warm, tmp_path):
    mine = ("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none", "--no-calibrate", "--min-confidence", 0)
    result = succeed(*mine, "--json").result
    [row] = result["by_class"].values()
    assert row["objects"] == result["objects"] and row["accepted"] == result["accepted"] and row["images"] == result["accepted_images"]
    assert row["rejected"] == sum(result["rejected"].values())
    lines = succeed(*mine, "--resume").out.splitlines()
    assert lines[1].split() == ["class", "objects", "accepted", "rejected", "images"] and lines[2].split()[1] == str(row["objects"])
