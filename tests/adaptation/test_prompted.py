from functools import partial

import numpy as np
import pytest
import torch
from builders import probs_of, rectangle, write_image
from scipy import ndimage

from samsemi.adaptation import prompted
from samsemi.adaptation.prompted import (
    JITTER,
    JUDGED_BY,
    decode_masks,
    ellipse,
    full_box,
    label_by_boxes,
    largest_objects,
    mean_score,
    measure_prompted,
    score_model,
)
from samsemi.data.dataset import IGNORE, Case, Dataset
from samsemi.errors import NothingUsable
from samsemi.sam.protocol import Embedding, MaskBatch
from samsemi.sam.simulation import box_of

SIZE = 96
SQUARE = (SIZE, SIZE)
OWN = {"box", "jittered_box", "point", "box_point"}
SHAPES = {"ellipse", "full_box", "jittered_ellipse"}
COUNTS = {"images", "objects", "encode_seconds_per_image"}


class Oracle:
    """Sees the label in the image, 60 times the class, and gives the true component in the middle of each prompt."""

    def __init__(self, prompt_kinds: str | None = None, right: bool = True):
        self.name, self.identity, self.mask_size = "oracle", "0", SIZE
        self.prompt_kinds, self.right = prompt_kinds, right
        self.given, self.seen = [], []

    def encode(self, images):
        self.seen += [image.shape[:2] for image in images]
        return [Embedding({"label": torch.from_numpy(image[..., 0] // 60).float()}, image.shape[:2]) for image in images]

    def decode(self, embeddings, prompts):
        self.given += prompts
        return [self.masks_of(e.tensors["label"].numpy(), p) for e, p in zip(embeddings, prompts, strict=True)]

    def masks_of(self, label: np.ndarray, prompts) -> MaskBatch:
        places = prompts.boxes.reshape(-1, 2, 2).mean(axis=1) if prompts.boxes is not None else prompts.point_coords[:, 0]
        masks = []
        for x, y in places.round().astype(int):
            parts, _ = ndimage.label(label == label[y, x], structure=np.ones((3, 3)))
            masks.append((parts == parts[y, x]) & (label > 0) if self.right else np.zeros(label.shape, dtype=bool))
        side = max(label.shape)
        logits = np.full((len(masks), side, side), -4, dtype=np.float32)
        logits[:, : label.shape[0], : label.shape[1]] = np.array(masks) * 8 - 4
        return MaskBatch(torch.from_numpy(logits), torch.ones(len(masks)), label.shape, label.shape, side)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    return rectangle(x0, y0, x1, y1, SQUARE)


def disk(y: float, x: float, vertical: float, horizontal: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.hypot((rows - y) / vertical, (columns - x) / horizontal) <= 1


def label_of(*parts: tuple[np.ndarray, int]) -> np.ndarray:
    label = np.zeros(SQUARE, dtype=np.uint8)
    for mask, class_id in parts:
        label[mask] = class_id
    return label


@pytest.fixture
def case_of(tmp_path):
    """Writes a label and the image that shows it as a case."""

    def write(name: str, label: np.ndarray) -> Case:
        shown = np.where(label == IGNORE, 0, 60 * label).astype(np.uint8)
        write_image(tmp_path / f"{name}.png", np.repeat(shown[..., None], 3, axis=2))
        write_image(tmp_path / f"{name}_m.png", label)
        return Case(name, tmp_path / f"{name}.png", tmp_path / f"{name}_m.png", None, "val", name)

    return write


@pytest.fixture
def two_cases(case_of) -> list[Case]:
    return [
        case_of("a", label_of((disk(40, 50, 20, 30), 1))),
        case_of("b", label_of((block(10, 20, 60, 70), 1), (block(80, 80, 90, 90), 1))),
    ]


def two_classes(sam, cases, **options) -> dict[str, object]:
    return measure_prompted(sam, cases, ["background", "polyp"], **options)


# the SAM's own masks


def test_right_masks_have_an_iou_of_1(two_cases):
    measured = two_classes(Oracle(), two_cases)
    assert set(measured) == OWN | SHAPES | COUNTS
    assert {measured[name] for name in OWN} == {1}
    assert (measured["images"], measured["objects"]) == (2, 2)
    assert mean_score(measured) == 1


def test_wrong_masks_have_an_iou_of_0(two_cases):
    measured = two_classes(Oracle(right=False), two_cases)
    assert {measured[name] for name in OWN} == {0} and mean_score(measured) == 0
    assert measured["full_box"] > 0.7


def test_model_that_takes_boxes_alone_is_given_nothing_else(two_cases):
    sam = Oracle("box")
    measured = two_classes(sam, two_cases)
    assert set(measured) == {"box", "jittered_box"} | SHAPES | COUNTS
    assert len(sam.given) == 4 and all(p.point_coords is None and p.mask_logits is None for p in sam.given)


@pytest.mark.parametrize(("kinds", "names"), [("box+point", {"box_point"}), ("box+mask", set()), ("point", {"point"})])
def test_prompt_that_a_model_is_not_made_for_is_left_out(two_cases, kinds, names):
    measured = two_classes(Oracle(kinds), two_cases)
    assert set(measured) == names | SHAPES | COUNTS
    assert mean_score(measured) == len(names)


def test_every_sam_gets_the_same_boxes_and_points(two_cases):
    first, second = Oracle(), Oracle(right=False)
    for sam in (first, second):
        two_classes(sam, two_cases)
    assert len(first.given) == len(second.given) == 8
    for one, other in zip(first.given, second.given, strict=True):
        assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.point_coords, other.point_coords)
    boxes_only = Oracle("box")
    two_classes(boxes_only, two_cases[::-1])
    wanted = [p.boxes.tolist() for p in first.given if p.boxes is not None and p.point_coords is None]
    assert [p.boxes.tolist() for p in boxes_only.given] == wanted[2:] + wanted[:2], "nor do other cases change them"


def test_boxes_are_tight_then_jittered_and_points_deep(two_cases):
    sam = Oracle()
    two_classes(sam, two_cases[:1])
    tight, jittered, point, both = sam.given
    mask = disk(40, 50, 20, 30)
    box = box_of(mask)
    assert np.array_equal(tight.boxes, box[None])
    assert 0 < np.abs(jittered.boxes - box).max() <= JITTER * 61
    assert np.array_equal(both.boxes, jittered.boxes) and np.array_equal(both.point_coords, point.point_coords)
    assert point.boxes is None and point.point_labels.tolist() == [[1]]
    assert np.hypot(*(point.point_coords[0, 0] - (50, 40))) <= 11, "on the ridge of the ellipse"


def test_another_seed_jitters_otherwise(two_cases):
    seen = []
    for seed in (0, 0, 1):
        sam = Oracle("box")
        two_classes(sam, two_cases, seed=seed)
        seen.append([p.boxes.tolist() for p in sam.given])
    assert seen[0] == seen[1] and seen[0][0::2] == seen[2][0::2] and seen[0][1::2] != seen[2][1::2]


def test_point_of_an_object_at_the_border_is_inside_it(case_of):
    sam = Oracle()
    assert two_classes(sam, [case_of("a", label_of((block(0, 0, 95, 9), 1)))])["point"] == 1
    x, y = sam.given[2].point_coords[0, 0]
    assert 3 < y < 6 and 4 <= x <= 91


def test_given_encoder_stands_in_and_progress_advances(two_cases):
    sam, plain, seen, steps = Oracle(), Oracle(), [], []

    def encode(images):
        seen.append(len(images))
        return plain.encode(images)

    sam.encode = None
    measured = two_classes(sam, two_cases, encode=encode, advance=lambda: steps.append(None))
    assert measured["box"] == 1 and seen == [1, 1] and len(steps) == 2


# what the SAM sees


def test_crops_are_scored_beside_the_whole_image(two_cases):
    plain, measured = two_classes(Oracle(), two_cases), two_classes(Oracle(), two_cases, zooms=(1.5, 2.0))
    zoomed = {f"{name}_zoom_{factor}" for name in ("box", "jittered_box", "box_point") for factor in ("1.5", "2")}
    assert set(measured) == set(plain) | zoomed
    assert {measured[name] for name in zoomed} == {1}, "masks stand where they belong in the image"
    assert mean_score({**measured, "box_zoom_2": 0.0}) == mean_score(plain) == 1


def test_crop_is_so_many_times_the_box_and_encoded_once(case_of):
    sam = Oracle()
    two_classes(sam, [case_of("a", label_of((block(40, 30, 59, 49), 1)))], zooms=(1.5,))
    whole, tight, moved = sam.seen
    assert (whole, tight) == (SQUARE, (30, 30)) and 24 <= min(moved) <= max(moved) <= 36
    box, jittered, both = sam.given[4:]
    assert box.boxes.tolist() == [[5, 5, 24, 24]] and np.array_equal(jittered.boxes, both.boxes)
    x, y = both.point_coords[0, 0]
    assert abs(x - moved[1] / 2) < 4 and abs(y - moved[0] / 2) < 4


def test_crop_at_the_border_is_cut_to_the_image_and_has_nothing_outside(case_of):
    class Greedy(Oracle):
        def masks_of(self, label, prompts):
            return super().masks_of(np.ones_like(label), prompts)

    sam = Greedy("box")
    measured = two_classes(sam, [case_of("a", label_of((block(0, 0, 19, 39), 1)))], zooms=(1.5,))
    assert sam.seen[1] == (50, 25)
    assert measured["box_zoom_1.5"] == pytest.approx(20 * 40 / (50 * 25)) and measured["box"] == pytest.approx(20 * 40 / SIZE**2)


def test_objects_of_a_model_are_seen_in_crops_too(two_cases, monkeypatch):
    found = probs_of((disk(40, 50, 16, 20), 1, 0.9), (block(5, 80, 20, 92), 1, 0.8))
    monkeypatch.setattr(prompted, "predict_image", lambda segmenter, image: found)
    sam = Oracle("box")
    measured = two_classes(sam, two_cases[:1], segmenter="any", zooms=(2.0,))
    names = {"model_mask", "model_box", "model_box_zoom_2", "box_zoom_2", "jittered_box_zoom_2"}
    assert set(measured) == {"box", "jittered_box"} | names | SHAPES | COUNTS
    assert measured["model_box_zoom_2"] == 0.5, "one is right, one is nothing"
    assert len(sam.seen) == 5


# which objects


def test_largest_component_of_each_class_is_prompted():
    label = label_of((block(2, 2, 9, 9), 1), (block(20, 20, 50, 50), 1), (block(60, 60, 90, 90), 3), (block(0, 80, 9, 95), IGNORE))
    found = dict(largest_objects(label, 4))
    assert list(found) == [1, 3]
    assert np.array_equal(found[1], block(20, 20, 50, 50)) and np.array_equal(found[3], block(60, 60, 90, 90))


def test_scores_are_means_over_objects_and_by_class(case_of):
    cases = [
        case_of("a", label_of((disk(30, 30, 15, 20), 1), (block(50, 50, 90, 70), 2))),
        case_of("b", label_of((disk(60, 40, 20, 20), 1))),
    ]
    measured = measure_prompted(Oracle(), cases, ["background", "red", "green", "blue"])
    by_class = measured.pop("by_class")
    assert list(by_class) == ["red", "green", "blue"]
    assert (measured["images"], measured["objects"]) == (2, 3)
    assert by_class["green"]["full_box"] == 1 and by_class["red"]["ellipse"] > 0.94 and by_class["blue"] == {}
    for name in OWN | SHAPES:
        assert measured[name] == pytest.approx((2 * by_class["red"][name] + by_class["green"][name]) / 3)


def test_two_classes_are_not_told_apart(two_cases):
    assert "by_class" not in two_classes(Oracle(), two_cases)


def test_images_without_objects_are_counted(two_cases, case_of):
    measured = two_classes(Oracle(), [*two_cases, case_of("c", label_of())])
    assert (measured["images"], measured["objects"]) == (3, 2)


def test_cases_without_any_object_cannot_be_measured(case_of):
    with pytest.raises(NothingUsable, match="1 cases"):
        two_classes(Oracle(), [case_of("a", label_of())])


def test_mean_score_is_that_of_the_sams_own_masks():
    scores = {"box": 0.9, "point": 0.5, "model_box": 0.1}
    assert mean_score({**scores, "ellipse": 0.99, "model_mask": 0.99, "images": 3}) == pytest.approx(0.5)
    assert set(scores) < set(JUDGED_BY)


# plain shapes


@pytest.mark.parametrize(("y", "x", "vertical", "horizontal"), [(48, 48, 30, 30), (40, 50, 20, 40), (70.5, 20.5, 24, 12)])
def test_ellipse_in_the_box_of_a_true_one_is_nearly_it(y, x, vertical, horizontal):
    truth = disk(y, x, vertical, horizontal)
    drawn = ellipse(box_of(truth), SQUARE)
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.95
    assert np.abs(box_of(drawn) - box_of(truth)).max() <= 1


@pytest.mark.parametrize("box", [(10, 20, 40, 50), (0, 0, 95, 95), (95, 0, 95, 3)])
def test_full_box_of_a_true_rectangle_is_it(box):
    assert np.array_equal(full_box(box_of(block(*box)), SQUARE), block(*box))


def test_plain_shapes_are_scored_beside_the_sam(case_of):
    box = two_classes(Oracle(), [case_of("a", label_of((block(10, 20, 69, 79), 1)))])
    assert box["full_box"] == 1 and box["ellipse"] == pytest.approx(np.pi / 4, abs=0.02)
    round_one = two_classes(Oracle(), [case_of("b", label_of((disk(48, 48, 35, 35), 1)))])
    assert round_one["ellipse"] > 0.95 and round_one["full_box"] == pytest.approx(np.pi * 35**2 / 71**2, abs=0.01)
    assert 0.7 < round_one["jittered_ellipse"] < round_one["ellipse"]


# objects of a model


def scores_of_model(sam: Oracle, probs: np.ndarray, label: np.ndarray) -> list[tuple[int, dict[str, float]]]:
    views = {"": partial(decode_masks, sam, Embedding({"label": torch.from_numpy(label)}, SQUARE))}
    return list(score_model(sam, views, probs, label))


def test_object_of_the_model_is_scored_with_the_true_one_it_shares_most_with():
    truth, beside = block(20, 20, 59, 59), block(64, 20, 90, 59)
    label = label_of((truth, 1), (beside, 1))
    [(class_id, scores)] = scores_of_model(Oracle(), probs_of((block(20, 30, 66, 49), 1, 0.9)), label)
    assert class_id == 1 and set(scores) == {"model_mask", "model_box", "model_box_point"}
    assert scores["model_mask"] == pytest.approx(40 * 20 / (1600 + 7 * 20))
    assert scores["model_box"] == scores["model_box_point"] == 1, "SAM fixes it"


def test_false_object_scores_0():
    """Also where SAM gives an empty mask, as it learns to."""
    label = label_of((block(60, 60, 90, 90), 1), (block(5, 5, 34, 34), 2))
    probs = probs_of((block(5, 5, 34, 34), 1, 0.9), (block(60, 5, 90, 34), 1, 0.8), num_classes=3)
    found = scores_of_model(Oracle(), probs, label)
    assert [k for k, _ in found] == [1, 1]
    assert all(set(scores.values()) == {0} for _, scores in found), "neither where nothing is nor on another class"


def test_model_that_finds_nothing_gives_no_scores():
    sam = Oracle()
    assert scores_of_model(sam, probs_of((block(0, 0, 0, 0), 1, 0.9)), label_of((block(5, 5, 34, 34), 1))) == [] and sam.given == []


def test_model_objects_are_prompted_as_the_sam_takes():
    truth = block(20, 20, 59, 59)
    sam = Oracle("box")
    [(_, scores)] = scores_of_model(sam, probs_of((truth, 1, 0.9)), label_of((truth, 1)))
    assert set(scores) == {"model_mask", "model_box"}
    assert sam.given[0].boxes.tolist() == [[18, 18, 61, 61]] and sam.given[0].point_coords is None


def test_scores_with_a_model_stand_beside_the_others(two_cases, monkeypatch):
    monkeypatch.setattr(prompted, "predict_image", lambda segmenter, image: probs_of((disk(40, 50, 16, 20), 1, 0.9)))
    measured = two_classes(Oracle(), two_cases, segmenter="any")
    assert set(measured) == OWN | SHAPES | COUNTS | {"model_mask", "model_box", "model_box_point"}
    assert measured["objects"] == 2 and measured["box"] == 1
    assert measured["model_box"] == 1 and 0.3 < measured["model_mask"] < 0.9


def test_label_by_boxes_shows_the_masks_of_the_largest_objects(case_of):
    large, small, other = disk(30, 30, 20, 25), block(80, 5, 92, 12), block(60, 60, 85, 90)
    case = case_of("c", label_of((large, 1), (small, 1), (other, 2)))
    dataset = Dataset(case.image.parent, "drawn", ("background", "cell", "nucleus"), None, {"c": case})
    assert np.array_equal(label_by_boxes(Oracle(), case, dataset), label_of((large, 1), (other, 2)))
