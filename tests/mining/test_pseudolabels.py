from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import ALL, SCORES, SIZE, block, mined_of
from PIL import Image

from samsemi.data.dataset import Case
from samsemi.mining.policy import REASONS, Policy, Quality, decide
from samsemi.mining.pseudolabels import (
    accepted_ids,
    certainty,
    count_on_gpu,
    count_pixels,
    mined_label,
    pseudo_label,
    pseudo_sample,
    quantize,
    score_masks,
    usable_ids,
)
from samsemi.mining.store import Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.sam.prompts import find_objects, make_prompts
from samsemi.sam.protocol import MaskBatch


def probs_with(*rectangles: tuple[int, int, int, int], shape=(40, 60)) -> np.ndarray:
    """(2, H, W): 0.9 in the rectangles y0 y1 x0 x1, 0.1 elsewhere."""
    foreground = np.full(shape, 0.1, dtype=np.float32)
    for i, (y0, y1, x0, x1) in enumerate(rectangles):
        foreground[y0:y1, x0:x1] = 0.9 - 0.1 * i
    return np.stack([1 - foreground, foreground])


def answer_of(probs: np.ndarray, count: int, seed: int = 0) -> MaskBatch:
    """Smooth random logits for ``count`` prompts, on the padded square of a wide image."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 4 * torch.randn(count, 1, 4, 4, generator=generator)
    logits = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")[:, 0]
    height, width = probs.shape[1:]
    return MaskBatch(logits, torch.linspace(0.9, 0.5, count), (height, width), (round(64 * height / width), 64), 64)


@pytest.mark.parametrize("pixels_per_chunk", [2**24, 2400, 1])
def test_scores_equal_their_definitions(monkeypatch, pixels_per_chunk):
    monkeypatch.setattr("samsemi.mining.pseudolabels.PIXELS_PER_CHUNK", pixels_per_chunk)
    probs = probs_with((2, 20, 5, 25), (22, 38, 30, 58), (2, 12, 40, 55))
    objects = find_objects(probs)
    answer = answer_of(probs, 3)
    mined = score_masks(answer, objects, probs)
    logits = answer.at_image_size().numpy()
    for i in range(3):
        mask, asked = logits[i] > 0, objects.components == i + 1
        lower, higher = logits[i] > -1, logits[i] > 1
        assert mined.area[i] == mask.sum()
        assert mined.stability[i] == pytest.approx((lower & higher).sum() / (lower | higher).sum())
        assert mined.agreement[i] == pytest.approx((mask & asked).sum() / (mask | asked).sum())
    assert mined.agreement.max() > 0 and mined.stability.min() < 1
    assert mined.predicted_iou.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert mined.confidence.tolist() == pytest.approx([0.9, 0.8, 0.7]) and mined.class_id.tolist() == [1, 1, 1]
    assert (mined.boxes == objects.boxes).all() and mined.image_size == (40, 60)


def test_mask_that_equals_the_object_agrees_and_one_beside_it_does_not():
    probs = probs_with((8, 24, 8, 24), (8, 24, 36, 52), shape=(64, 64))
    objects = find_objects(probs)
    logits = np.where(objects.components == 1, 9.0, -9.0).astype(np.float32)
    answer = MaskBatch(torch.from_numpy(np.stack([logits, logits])), torch.ones(2), (64, 64), (64, 64), 64)
    mined = score_masks(answer, objects, probs)
    assert mined.agreement.tolist() == [1, 0] and mined.stability.tolist() == [1, 1] and mined.area.tolist() == [256, 256]


def test_scores_have_the_types_of_the_store():
    probs = probs_with((2, 20, 5, 25))
    mined = score_masks(answer_of(probs, 1), find_objects(probs), probs)
    kinds = {
        name: getattr(mined, name).dtype
        for name in (*SCORES, "area", "probs", "network_probs", "components", "boxes", "prompt_boxes", "windows")
    }
    assert kinds == dict.fromkeys(SCORES, np.float32) | {
        "area": np.int64,
        "probs": np.uint8,
        "network_probs": np.uint8,
        "components": np.uint16,
        **dict.fromkeys(("boxes", "prompt_boxes", "windows"), np.float32),
    }


def test_kept_maps_are_sams_probability_and_the_networks_map_over_the_image_without_padding():
    probs = probs_with((10, 30, 30, 50))
    objects = find_objects(probs)
    answer = answer_of(probs, 1)
    mined = score_masks(answer, objects, probs, size=24)
    assert mined.probs.shape == (1, 24, 24) and mined.network_probs.shape == (2, 24, 24) and mined.components.shape == (24, 24)
    expected = torch.nn.functional.interpolate(answer.at_image_size()[None], (24, 24), mode="bilinear", antialias=True)[0, 0].sigmoid()
    assert np.abs(mined.probs[0] / 255 - expected.numpy()).mean() < 0.03
    inside = mined.components == 1
    assert inside[6:18, 12:20].all() and inside.sum() <= 13 * 9
    assert mined.network_probs[:, 12, 16] == pytest.approx([26, 230], abs=1)
    assert mined.network_probs[:, 0, 0] == pytest.approx([230, 26], abs=1)
    assert mined.windows.tolist() == [[0, 0, 60, 40]] and (mined.prompt_boxes == mined.boxes).all()


def test_empty_mask_is_rejected_as_empty_and_has_no_nan():
    probs = probs_with((8, 24, 8, 24))
    answer = MaskBatch(torch.full((1, SIZE, SIZE), -9.0), torch.ones(1), (40, 60), (43, 64), 64)
    mined = score_masks(answer, find_objects(probs), probs)
    assert (mined.area[0], mined.stability[0], mined.agreement[0]) == (0, 0, 0)
    assert REASONS[decide(mined, ALL)[0]] == "empty"


def test_no_objects_score_to_nothing():
    objects = find_objects(probs_with())
    answer = MaskBatch(torch.zeros(0, SIZE, SIZE), torch.zeros(0), (40, 60), (43, 64), 64)
    mined = score_masks(answer, objects, probs_with())
    assert len(mined) == 0 and mined.probs.shape == (0, SIZE, SIZE) and mined.network_probs[1] == pytest.approx(26, abs=1)
    assert decide(mined, Policy()).tolist() == []


def test_counted_pixels_of_a_chunk_belong_to_its_objects():
    components = torch.tensor([[1, 2], [2, 0]])
    logits = torch.tensor([[[0.5, 5.0], [-0.5, -5.0]]])
    assert count_pixels(logits, components, np.array([2])).tolist() == [[2, 3, 1, 1]]


def test_pixels_are_counted_alike_on_a_cpu_and_on_a_gpu():
    logits, components = torch.randn(3, 20, 30), torch.randint(-1, 4, (20, 30), dtype=torch.int32)
    found = count_pixels(logits, components, np.array([3, 1, 2]))
    assert np.array_equal(found, count_on_gpu(logits, components, np.array([3, 1, 2]))) and found.min() > 0
    assert count_pixels(logits[:0], components, np.zeros(0, int)).shape == (0, 4)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "accepted"),
        ({"area": [0]}, "empty"),
        ({"confidence": [0.69]}, "confidence"),
        ({"predicted_iou": [0.79]}, "predicted_iou"),
        ({"stability": [0.59]}, "stability"),
        ({"agreement": [0.49]}, "agreement"),
        ({"confidence": [0.7], "predicted_iou": [0.8], "stability": [0.6], "agreement": [0.5]}, "accepted"),
        ({"area": [0], "confidence": [0.0], "predicted_iou": [0.0], "stability": [0.0], "agreement": [0.0]}, "empty"),
        ({"predicted_iou": [0.0], "stability": [0.0], "agreement": [0.0]}, "predicted_iou"),
        ({"stability": [0.0], "agreement": [0.0]}, "stability"),
        ({"confidence": [np.nan]}, "confidence"),
        ({"predicted_iou": [np.nan]}, "predicted_iou"),
        ({"stability": [np.nan]}, "stability"),
        ({"agreement": [np.nan]}, "agreement"),
    ],
)
def test_decision_names_the_first_test_that_fails(values, reason):
    """A threshold that is reached is passed; what is not a number reaches none."""
    policy = Policy(min_confidence=np.float32(0.7), min_predicted_iou=np.float32(0.8), min_stability=np.float32(0.6), min_agreement=0.5)
    assert REASONS[decide(mined_of(block(2, 8, 2, 8), **values), policy)[0]] == reason


def test_objects_are_decided_one_by_one():
    mined = mined_of(*[block(2, 8, 2, 8)] * 4, agreement=[0.2, 0.9, np.nan, 0.6], area=[5, 0, 5, 5])
    assert [REASONS[i] for i in decide(mined, Policy())] == ["agreement", "empty", "agreement", "accepted"]


def test_nan_passes_not_even_a_policy_that_takes_all():
    assert decide(mined_of(block(2, 8, 2, 8), predicted_iou=[np.nan]), ALL).tolist() == [REASONS.index("predicted_iou")]


def test_quantized_probabilities_come_back_within_half_a_step():
    probs = np.linspace(0, 1, 999, dtype=np.float32)
    stored = quantize(probs)
    assert stored.dtype == np.uint8 and (stored[0], stored[-1]) == (0, 255)
    assert np.abs(stored / 255 - probs).max() <= 0.5 / 255 + 1e-6


def test_target_is_sams_probability_and_the_rest_background():
    target, weight = pseudo_label(mined_of(block(2, 8, 2, 8, 0.8)), ALL, num_classes=2, size=SIZE)
    assert target.dtype == weight.dtype == np.float32 and target.shape == (2, SIZE, SIZE) and weight.shape == (SIZE, SIZE)
    assert target[1] == pytest.approx(block(2, 8, 2, 8, 0.8)) and target[0] == pytest.approx(1 - target[1])


def test_weight_is_certainty_times_mean_score_of_the_accepted():
    """Entropy of (0.2, 0.8) is 0.7219 bits; scores 0.9 * 0.8 and 0.5 * 0.6."""
    mined = mined_of(block(0, 4, 0, 4, 0.8), block(8, 12, 8, 12), predicted_iou=[0.9, 0.5], agreement=[0.8, 0.6])
    _, weight = pseudo_label(mined, ALL, num_classes=2, size=SIZE)
    trust = (0.9 * 0.8 + 0.5 * 0.6) / 2
    assert weight[10, 10] == pytest.approx(trust, abs=1e-4) and weight[15, 15] == pytest.approx(trust, abs=1e-4)
    assert weight[1, 1] == pytest.approx(trust * (2 - 0.7219) / 2, abs=1e-3)


def test_predicted_iou_above_1_gives_no_more_than_full_trust():
    _, weight = pseudo_label(mined_of(block(0, 4, 0, 4), predicted_iou=[1.3]), ALL, num_classes=2, size=SIZE)
    assert weight.max() == 1


@pytest.mark.parametrize("num_classes", [2, 4])
def test_target_always_sums_to_1(num_classes):
    rng = np.random.default_rng(0)
    maps = rng.random((9, SIZE, SIZE)).astype(np.float32)
    mined = mined_of(*maps, class_id=rng.integers(1, num_classes, 9), agreement=rng.random(9))
    target, weight = pseudo_label(mined, Policy(min_agreement=0.3), num_classes, SIZE)
    assert target.sum(axis=0) == pytest.approx(np.ones((SIZE, SIZE)), abs=1e-5)
    assert target.min() >= -1e-6 and weight.min() >= 0 and weight.max() <= 1 and np.isfinite(weight).all()


def test_objects_of_one_class_join_by_the_larger_probability():
    target, _ = pseudo_label(mined_of(block(0, 8, 0, 8, 0.6), block(4, 12, 4, 12, 0.9)), ALL, num_classes=2, size=SIZE)
    assert (target[1, 1, 1], target[1, 6, 6], target[1, 10, 10]) == pytest.approx((0.6, 0.9, 0.9), abs=2e-3)


def test_overlapping_classes_share_a_pixel_by_their_probabilities():
    mined = mined_of(block(0, 8, 0, 8, 0.9), block(4, 12, 4, 12, 0.6), block(14, 16, 14, 16, 0.3), class_id=[1, 2, 3])
    target, weight = pseudo_label(mined, replace(ALL, sam_share=1.0), num_classes=4, size=SIZE)
    assert target[:, 6, 6] == pytest.approx([0, 0.6, 0.4, 0], abs=3e-3)
    assert target[:, 1, 1] == pytest.approx([0.1, 0.9, 0, 0], abs=3e-3)
    assert target[:, 15, 15] == pytest.approx([0.7, 0, 0, 0.3], abs=3e-3)
    assert weight[6, 6] < weight[1, 1]


@pytest.mark.parametrize("mined", [mined_of(), mined_of(block(2, 8, 2, 8), agreement=[0.0])], ids=["nothing found", "all rejected"])
def test_without_an_accepted_object_nothing_is_vouched_for(mined):
    target, weight = pseudo_label(mined, Policy(), num_classes=3, size=SIZE)
    assert not weight.any() and target.sum(axis=0) == pytest.approx(np.ones((SIZE, SIZE)))


@pytest.mark.parametrize(
    ("probs", "expected"), [([1, 0], 1.0), ([0.5, 0.5], 0.5), ([0.25] * 4, 0.0), ([0.125] * 8, 0.0), ([0.75, 0.25], 1 - 0.811278 / 2)]
)
def test_certainty_falls_from_1_with_the_entropy_in_bits(probs, expected):
    assert certainty(np.array(probs).reshape(-1, 1, 1))[0, 0] == pytest.approx(expected, abs=1e-4)


def test_mined_label_is_at_image_size_and_holds_accepted_classes_only():
    mined = mined_of(block(0, 8, 0, 8), block(8, 16, 8, 16), block(0, 8, 12, 16), class_id=[1, 2, 3], agreement=[1, 1, 0])
    label = mined_label(mined, Policy(), num_classes=4)
    assert label.shape == (32, 64) and label.dtype == np.uint8
    assert (label[2:14, 2:28] == 1).all() and (label[18:, 36:] == 2).all() and not (label == 3).any()
    assert not label[18:, :28].any()


@pytest.fixture
def store(tmp_path):
    """Two mined images of 32 x 64, one of which has only a rejected object, and one in which nothing was found."""
    writer = StoreWriter(tmp_path / "s.h5", Provenance({}, {}, {}), SIZE, num_points=0, num_classes=2)
    writer.add("good", (32, 64), mined_of(block(4, 12, 4, 12, 0.9), boxes=[[16, 8, 47, 23]]))
    writer.add("bad", (32, 64), mined_of(block(4, 12, 4, 12, 0.9), agreement=[0.1]))
    writer.add("empty", (32, 64), mined_of())
    writer.commit(0)
    writer.finish(["good", "bad", "empty"])
    return Store(tmp_path / "s.h5")


def test_usable_images_have_an_accepted_object(store, monkeypatch):
    assert usable_ids(store, Policy()) == ["good"]
    assert usable_ids(store, ALL) == ["good", "bad"]
    assert usable_ids(store, Policy(min_predicted_iou=1.0, min_agreement=1.0)) == ["good"]
    monkeypatch.setattr(Store, "read", None)
    assert usable_ids(store, ALL) == ["good", "bad"], "what is accepted is known from the tables, without a look at each image"


def test_pseudo_sample_is_image_target_and_weight_at_the_networks_size(store, tmp_path):
    image = np.zeros((32, 64, 3), dtype=np.uint8)
    image[8:24, 16:48] = (250, 10, 10)
    Image.fromarray(image).save(tmp_path / "good.png")
    case = Case("good", tmp_path / "good.png", None, None, "unlabeled", "good")
    sample = pseudo_sample(case, store, Policy(), num_classes=2, size=32)
    assert sample.image.shape == (3, 32, 32) and sample.image.dtype == torch.uint8
    assert sample.target.shape == (2, 32, 32) and sample.weight.shape == (32, 32)
    assert torch.allclose(sample.target.sum(dim=0), torch.ones(32, 32), atol=1e-5)
    red = sample.image[0] > 128
    assert torch.equal(sample.target[1] > 0.45, red), "target and image lie over each other"
    assert sample.target[1][red].max() == pytest.approx(0.9, abs=0.01) and sample.weight.min() > 0.2


def test_sample_of_an_image_without_accepted_objects_has_no_weight(store, tmp_path):
    Image.new("RGB", (64, 32)).save(tmp_path / "bad.png")
    case = Case("bad", tmp_path / "bad.png", None, None, "unlabeled", "bad")
    assert not pseudo_sample(case, store, Policy(), num_classes=2, size=32).weight.any()


def test_prompts_of_two_objects_find_their_own_answers_in_the_scores():
    """Rows of objects, prompts and answers are the same objects, whatever their order in the image."""
    probs = probs_with((22, 38, 30, 58), (2, 20, 5, 25))
    objects = find_objects(probs)
    prompts = make_prompts(objects, "box")
    masks = np.full((2, 64, 64), -9, dtype=np.float32)
    for i, (x0, y0, x1, y1) in enumerate(prompts.boxes * 64 / 60):
        masks[i, round(y0) : round(y1), round(x0) : round(x1)] = 9
    mined = score_masks(MaskBatch(torch.from_numpy(masks), torch.ones(2), (40, 60), (43, 64), 64), objects, probs)
    assert (mined.agreement > 0.6).all()


def labeled_by(sam: float, unetpp: float, share: float, **values) -> float:
    """Foreground of a blended target where SAM and the U-Net++ give these probabilities."""
    mined = mined_of(np.full((SIZE, SIZE), sam), prior=[np.full((SIZE, SIZE), unetpp)], **values)
    return float(pseudo_label(mined, replace(ALL, sam_share=share), 2, SIZE)[0][1, 8, 8])


def test_whole_share_of_sam_is_sam_and_none_is_the_unetpp():
    assert labeled_by(0.9, 0.2, 1.0) == pytest.approx(0.9, abs=0.003)
    assert labeled_by(0.5, 0.2, 1.0) == pytest.approx(0.5, abs=0.003)
    assert labeled_by(0.9, 0.2, 0.0) == pytest.approx(0.2, abs=0.003)


def test_equal_shares_weigh_by_how_sure_each_is_of_object_and_pixel():
    assert labeled_by(0.8, 0.2, 0.5) == pytest.approx(0.5, abs=0.003)
    assert labeled_by(1.0, 0.4, 0.5) == pytest.approx((1.0 + 0.2 * 0.4) / 1.2, abs=0.005)
    assert labeled_by(0.8, 0.2, 0.5, predicted_iou=[0.5], confidence=[1.0]) == pytest.approx((0.5 * 0.8 + 0.2) / 1.5, abs=0.005)
    assert labeled_by(0.8, 0.2, 0.5, predicted_iou=[0.0], confidence=[0.0]) == pytest.approx(0.5, abs=0.003)


def test_pixels_on_which_sam_and_the_unetpp_disagree_weigh_less_or_nothing():
    mined = mined_of(block(0, 8, 0, 8), prior=[block(0, 8, 4, 12)])
    disputed = (block(0, 8, 0, 8) > 0) != (block(0, 8, 4, 12) > 0)
    whole = pseudo_label(mined, replace(ALL, disagreement_weight=1.0), 2, SIZE)[1]
    for share in (0.0, 0.25):
        weight = pseudo_label(mined, replace(ALL, disagreement_weight=share), 2, SIZE)[1]
        assert weight[disputed] == pytest.approx(share * whole[disputed])
        assert (weight[~disputed] == whole[~disputed]).all() and whole.min() > 0


def test_calibrated_objects_are_trusted_by_their_probability():
    even = Quality((0.5,) * 7, (0.5,) * 7, (2.0, 0, 0, 0, 0, 0, 0), 0.0)
    mined = mined_of(block(2, 8, 2, 8), confidence=[0.75], predicted_iou=[0.1])
    weight = pseudo_label(mined, replace(ALL, sam_share=1.0, quality=even), 2, SIZE)[1]
    assert weight == pytest.approx(np.full((SIZE, SIZE), 1 / (1 + np.exp(-1))), abs=1e-4)


def test_places_of_objects_that_are_surely_none_are_background_and_those_of_doubtful_ones_are_ignored():
    even = Quality((0.5,) * 7, (0.5,) * 7, (2.0, 0, 0, 0, 0, 0, 0), 0.0)
    policy = replace(ALL, min_quality=0.5, background_below=0.2, sam_share=1.0, quality=even)
    mined = mined_of(block(0, 4, 0, 4), block(6, 9, 6, 9), block(12, 15, 12, 15), confidence=[0.9, 0.4, 0.05])
    target, weight = pseudo_label(mined, policy, 2, SIZE)
    assert not weight[6:9, 6:9].any() and weight[12:15, 12:15].min() > 0
    assert target[0, 12:15, 12:15] == pytest.approx(1) and target[1, 0:4, 0:4] == pytest.approx(1)


def test_images_with_sure_pixels_alone_are_usable_only_where_those_are_wanted(store):
    """In 'bad' the network is sure of the background, in 'empty' of everything."""
    assert usable_ids(store, Policy(sure_pixels=0.2)) == ["good", "bad", "empty"]
    assert usable_ids(store, Policy()) == accepted_ids(store, Policy(sure_pixels=0.2)) == ["good"]


def test_image_that_cannot_be_read_is_never_usable(tmp_path):
    writer = StoreWriter(tmp_path / "u.h5", Provenance({}, {}, {}), SIZE, num_points=0, num_classes=2)
    writer.add_unreadable("broken")
    writer.commit(0)
    writer.finish(["broken"])
    assert usable_ids(Store(tmp_path / "u.h5"), Policy(sure_pixels=1.0)) == []
