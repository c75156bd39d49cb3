"""How SAM is asked: alternatives and their consensus, moved boxes, passes, points on other classes, mirrored views."""

from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest
import torch
from builders import MINING, succeed

from samsemi.mining.miner import Miner, choose_kinds
from samsemi.mining.pseudolabels import quantize
from samsemi.options.mine import MineOptions
from samsemi.sam.prompts import Prompts, find_objects, make_prompts
from samsemi.sam.protocol import Embedding, MaskBatch, average_masks, load_sam
from samsemi.segmenters.segmenter import ModelSpec, Segmenter, predict_batch

SIDE = 32


@dataclass
class Recorder:
    """A SAM that keeps what it is asked, and answers with whole boxes, or nothing without one."""

    name: str = "recorder"
    identity: str = "recorder"
    mask_size: int = SIDE
    prompt_kinds: str | None = None
    asked: list[list[Prompts]] = field(default_factory=list)

    def encode(self, images):
        return [Embedding({}, image.shape[:2]) for image in images]

    def decode(self, embeddings, prompts):
        self.asked.append(list(prompts))
        return [self.answer(e, p) for e, p in zip(embeddings, prompts, strict=True)]

    def answer(self, embedding, prompts):
        logits = torch.full((len(prompts), SIDE, SIDE), -6.0)
        for i, (x0, y0, x1, y1) in enumerate(prompts.boxes.round().astype(int) if prompts.boxes is not None else ()):
            logits[i, y0 : y1 + 1, x0 : x1 + 1] = 6.0
        return MaskBatch(logits, torch.full((len(prompts),), 0.5 + 0.1 * len(self.asked)), embedding.image_size, (SIDE, SIDE), SIDE)


def segmenter_of(num_classes: int = 2) -> Segmenter:
    classes = tuple(f"class{k}" for k in range(num_classes))
    return Segmenter(ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), classes, SIDE)).eval()


def probs_of(num_classes: int, *rectangles: tuple[int, int, int, int, int]) -> np.ndarray:
    """(K, 32, 32): 0.9 for the class in each rectangle class y0 y1 x0 x1, of background elsewhere."""
    label = np.zeros((SIDE, SIDE), dtype=int)
    for k, y0, y1, x0, x1 in rectangles:
        label[y0:y1, x0:x1] = k
    probs = np.full((num_classes, SIDE, SIDE), 0.1 / (num_classes - 1), dtype=np.float32)
    np.put_along_axis(probs, label[None], 0.9, axis=0)
    return probs


def ask(sam, probs: np.ndarray, **options):
    """What mining makes of one map: the scored objects and the prompts that are kept."""
    chosen = MineOptions(dataset="d", model="m", out="s.h5", **{"min_area": 4, "zoom": 0, **options})
    miner = Miner(segmenter_of(len(probs)), sam, chosen)
    return miner.prompt({"a": np.zeros((SIDE, SIDE, 3), np.uint8)}, [probs])["a"]


BLOCK = (1, 8, 20, 10, 24)


def test_every_alternative_is_asked_once_and_points_come_first():
    sam = Recorder()
    mined, kept = ask(sam, probs_of(2, BLOCK), prompts="box,point,box+point+mask")
    kinds = [(p.boxes is not None, p.point_coords is not None, p.mask_logits is not None) for [p] in sam.asked]
    assert kinds == [(False, True, False), (True, True, True), (True, False, False)]
    assert all(np.array_equal(kept_part, part) for kept_part, part in zip(vars(kept).values(), vars(sam.asked[0][0]).values(), strict=True))
    assert mined.predicted_iou == pytest.approx([np.mean([0.6, 0.7, 0.8])])


def test_consensus_is_the_mean_iou_of_the_answers_with_their_mean():
    """Two of three answers are the box, one is nothing: the mean is the box."""
    mined, _ = ask(Recorder(), probs_of(2, BLOCK), prompts="box,point,box+point", box_margin=0)
    assert mined.consensus == pytest.approx([2 / 3])
    assert mined.area.tolist() == [12 * 14] and mined.area_ratio.tolist() == [1] and mined.agreement.tolist() == [1]
    assert mined.probs[0, 10, 12] == pytest.approx(255 * 2 / 3, abs=2)


def test_a_single_answer_agrees_with_itself_and_an_empty_one_with_nothing():
    assert ask(Recorder(), probs_of(2, BLOCK), prompts="box")[0].consensus.tolist() == [1]
    mined, _ = ask(Recorder(), probs_of(2, BLOCK), prompts="point")
    assert (mined.consensus.tolist(), mined.area.tolist(), mined.area_ratio.tolist()) == ([0], [0], [0])


def test_mean_of_answers_is_that_of_their_probabilities():
    logits = torch.tensor([[[[2.0, -3.0]]], [[[-1.0, -3.0]]]])
    batches = [MaskBatch(x, torch.tensor([iou]), (1, 2), (2, 2), 2) for x, iou in zip(logits, (0.4, 0.8), strict=True)]
    joined, consensus = average_masks(batches)
    assert torch.allclose(joined.low_res_logits.sigmoid(), logits.sigmoid().mean(dim=0), atol=1e-5)
    assert joined.predicted_iou.tolist() == pytest.approx([0.6]) and consensus.tolist() == [0.5]
    alone, _ = average_masks(batches[:1])
    assert torch.equal(alone.low_res_logits, logits[0])


def test_jittered_boxes_are_moved_a_little_and_alike_each_time():
    first, second = Recorder(), Recorder()
    for sam in (first, second):
        ask(sam, probs_of(2, BLOCK), prompts="box,point", jitters=2, box_margin=0)
    boxes = [p.boxes for [p] in first.asked if p.boxes is not None]
    assert len(first.asked) == 4 and len(boxes) == 3, "points alone have no box to move"
    extent = np.array([14, 12, 14, 12])
    for moved in boxes[1:]:
        assert (moved != boxes[0]).any() and (np.abs(moved - boxes[0]) <= 0.05 * extent + 1e-5).all()
    assert (boxes[1] != boxes[2]).any()
    assert all((p.boxes == q.boxes).all() for [p], [q] in zip(first.asked, second.asked, strict=True) if p.boxes is not None)


def test_second_pass_asks_the_same_with_the_first_answer_as_mask():
    sam = Recorder()
    ask(sam, probs_of(2, BLOCK), prompts="box+point", passes=2, box_margin=0)
    [first], [second] = sam.asked
    assert first.mask_logits is None and second.mask_logits.shape == (1, SIDE, SIDE)
    assert ((second.mask_logits[0] > 0) == (probs_of(2, BLOCK)[1] > 0.5)).all()
    assert (second.boxes == first.boxes).all() and (second.point_coords == first.point_coords).all()


def test_a_sam_that_takes_one_kind_is_asked_so_and_once():
    sam = Recorder(prompt_kinds="box")
    ask(sam, probs_of(2, BLOCK), prompts="point,box+mask", passes=3)
    assert len(sam.asked) == 1 and sam.asked[0][0].point_coords is None and sam.asked[0][0].mask_logits is None
    assert choose_kinds(MineOptions(dataset="d", model="m", out="s", prompts="box,point"), sam) == [("box",)]


TWO_OF_ONE_CLASS = ((1, 2, 10, 2, 10), (1, 20, 30, 2, 10), (2, 2, 10, 20, 30), (3, 20, 30, 20, 30))


def test_points_on_other_classes_are_negative_and_stand_on_the_nearest():
    objects = find_objects(probs_of(4, *TWO_OF_ONE_CLASS), min_area=4)
    prompts = make_prompts(objects, "point", positive=1, negative=1, others=2)
    assert prompts.point_coords.shape == (4, 4, 2)
    for i, k in enumerate(objects.class_id):
        assert prompts.point_labels[i, 2:].tolist() == [0, 0]
        on = [objects.components[int(y), int(x)] - 1 for x, y in prompts.point_coords[i, 2:]]
        assert k not in objects.class_id[on] and len(set(on)) == 2
    alone = make_prompts(objects, "point", positive=1, negative=1)
    assert (prompts.point_coords[:, :2] == alone.point_coords).all()
    top_left = next(i for i, box in enumerate(objects.boxes) if box[0] < 12 and box[1] < 12)
    nearest = objects.components[tuple(prompts.point_coords[top_left, 2, ::-1].astype(int))] - 1
    assert objects.class_id[nearest] == 2, "of class 2 beside it and class 3 across"


def test_where_other_classes_have_too_few_objects_the_last_point_stands_again():
    objects = find_objects(probs_of(3, (1, 2, 10, 2, 10), (2, 2, 10, 20, 30)), min_area=4)
    prompts = make_prompts(objects, "point", positive=1, negative=1, others=3)
    assert (prompts.point_coords[:, 3:] == prompts.point_coords[:, 1:2]).all()
    assert (prompts.point_labels[:, 3:] == prompts.point_labels[:, 1:2]).all()
    single = make_prompts(find_objects(probs_of(3, (1, 2, 10, 2, 10)), min_area=4), "point", others=2)
    assert single.point_coords.shape == (1, 4, 2)


@pytest.mark.parametrize(("num_classes", "points"), [(2, 2), (4, 5)])
def test_other_classes_are_asked_for_only_where_there_are_some(num_classes, points):
    rectangles = TWO_OF_ONE_CLASS if num_classes == 4 else TWO_OF_ONE_CLASS[:2]
    _, kept = ask(Recorder(), probs_of(num_classes, *rectangles), prompts="point", other_points=3)
    assert kept.point_coords.shape[1] == points


def test_flips_average_the_map_over_the_mirrored_views():
    torch.manual_seed(0)
    segmenter = segmenter_of()
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    views = [(), (0,), (1,), (0, 1)]
    expected = [np.flip(predict_batch(segmenter, [np.flip(image, axes).copy()])[0], [a + 1 for a in axes]) for axes in views]
    [found] = predict_batch(segmenter, [image], flips=True)
    assert found == pytest.approx(np.mean(expected, axis=0), abs=1e-5)
    mirrored = predict_batch(segmenter, [image[:, ::-1].copy()], flips=True)[0]
    assert mirrored == pytest.approx(found[:, :, ::-1], abs=1e-5)
    assert np.abs(predict_batch(segmenter, [image])[0] - found).max() > 1e-4


def test_image_in_which_nothing_is_found_is_not_asked_for():
    sam = Recorder()
    miner = Miner(segmenter_of(), sam, MineOptions(dataset="d", model="m", out="s.h5"))
    mined, prompts = miner.prompt({"a": np.zeros((SIDE, SIDE, 3), np.uint8)}, [probs_of(2)])["a"]
    assert (len(mined), prompts, sam.asked) == (0, None, [])
    assert mined.probs.shape == (0, SIDE, SIDE) and mined.network_probs == pytest.approx(quantize(probs_of(2)))
    assert miner.prompt({}, []) == {}


def test_store_knows_the_boxes_that_sam_was_prompted_with_and_where_the_network_saw_the_objects():
    probs = probs_of(3, BLOCK, (2, 26, 30, 0, 6))
    mined, kept = ask(Recorder(), probs, prompts="box", box_margin=3)
    assert (mined.prompt_boxes == kept.boxes).all() and mined.boxes.tolist() == [[10, 8, 23, 19], [0, 26, 5, 29]]
    assert mined.prompt_boxes.tolist() == [[7, 5, 26, 22], [0, 23, 8, 31]] and mined.windows.tolist() == [[0, 0, SIDE, SIDE]] * 2
    assert (mined.components == (probs[1] > 0.5) + 2 * (probs[2] > 0.5)).all() and (mined.network_probs == quantize(probs)).all()
    pointed, _ = ask(Recorder(), probs, prompts="point", box_margin=3)
    assert (pointed.prompt_boxes == mined.prompt_boxes).all()


def test_all_ways_to_ask_at_once_make_a_store(dataset, warm, tmp_path):
    ways = ("--prompts", "box,point,box+point", "--jitters", 1, "--passes", 2, "--positive-points", 2, "--negative-points", 2)
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", *MINING, *ways, "--other-points", 2, "--no-flips")
    with h5py.File(tmp_path / "s.h5") as file:
        objects = file["objects"][:]
        assert file["points/coords"].shape == (len(objects), 4, 2)
    assert (objects["consensus"] < 1).any() and (objects["consensus"] >= 0).all()
    assert ((objects["area_ratio"] >= 0) & (objects["area_ratio"] <= 1)).all()


def test_tiny_answers_several_alternatives_like_each_alone():
    sam = load_sam("tiny", None, torch.device("cpu"))
    objects = find_objects(np.kron(probs_of(2, BLOCK), np.ones((1, 4, 4), np.float32)))
    image = np.full((128, 128, 3), 90, np.uint8)
    image[32:80, 40:96] = (200, 60, 60)
    options = MineOptions(dataset="d", model="m", out="s.h5", prompts="box,box+point", zoom=0)
    mined, _ = Miner(segmenter_of(), sam, options).prompt({"a": image}, [np.kron(probs_of(2, BLOCK), np.ones((1, 4, 4), np.float32))])["a"]
    alone = [sam.decode(sam.encode([image]), [make_prompts(objects, kinds, mask_size=sam.mask_size)])[0] for kinds in ("box+point", "box")]
    mean = torch.stack([answer.on_grid(sam.mask_size).sigmoid() for answer in alone]).mean(dim=0)
    assert np.abs(mined.probs / 255 - mean.numpy()).max() < 0.01
