"""How SAM is asked: alternatives and their consensus, moved boxes, passes, points on other classes, mirrored views."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from builders import MINING, refused, succeed

from samsemi.devices import FittingCalls
from samsemi.errors import UsageError
from samsemi.mining.miner import Miner, choose_kinds, open_writer
from samsemi.mining.pipeline import earlier_config
from samsemi.mining.pseudolabels import quantize, score_masks
from samsemi.mining.store import Provenance, Store
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


@dataclass
class Small(Recorder):
    """Whose memory holds two images, and the objects of three, at once."""

    encoded: list[int] = field(default_factory=list)

    def encode(self, images):
        self.encoded.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().encode(images)

    def decode(self, embeddings, prompts):
        outputs = super().decode(embeddings, prompts)
        if len(outputs) > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return outputs


def test_out_of_memory_halves_the_batch_once_for_all_and_is_said_once(caplog):
    options = MineOptions(dataset="d", model="m", out="s.h5", min_area=4, zoom=0, prompts="box", batch_size=7)
    maps = [probs_of(2, (1, 8, 20, 10, 12 + i)) for i in range(9)]
    images = {str(i): np.zeros((SIDE, SIDE, 3), np.uint8) for i in range(9)}
    sam = Small()
    mined = Miner(segmenter_of(), sam, options).prompt(images, maps)
    assert sam.encoded == [7, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [len(asked) for asked in sam.asked] == [7, 3, 3, 1, 2]
    plenty = Miner(segmenter_of(), Recorder(), options).prompt(images, maps)
    assert [own.area.tolist() for own, _ in mined.values()] == [own.area.tolist() for own, _ in plenty.values()]
    assert [record.getMessage().split(" at once")[0] for record in caplog.records] == [
        "out of memory: fewer windows",
        "out of memory: fewer windows' objects",
    ]


def test_out_of_memory_with_a_single_image_is_an_error():
    sam = Recorder()
    sam.encode = lambda images: (_ for _ in ()).throw(MemoryError("not enough"))
    with pytest.raises(MemoryError):
        ask(sam, probs_of(2, BLOCK))


def test_what_is_no_lack_of_memory_is_raised_at_once():
    calls = []

    def broken(rows):
        calls.append(rows)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        FittingCalls("rows")(broken, [1, 2, 3])
    assert calls == [[1, 2, 3]]


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


def test_coarse_masks_of_sam_do_not_coarsen_the_networks_map(tmp_path):
    """SAM's masks have 8 x 8 cells; the network, which sees 32 px, tells odd columns from even ones."""
    striped = probs_of(2, *[(1, 0, SIDE, x, x + 1) for x in range(9, SIDE, 2)], (1, 0, SIDE, 0, 6))
    miner = Miner(segmenter_of(), Recorder(mask_size=8), MineOptions(dataset="d", model="m", out=tmp_path / "s.h5"))
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    found = miner.prompt({"a": image, "b": image}, [striped, probs_of(2)])
    assert len(found["a"][0]) and not len(found["b"][0])
    writer = open_writer(tmp_path / "s.h5", miner.options, miner.sam, Provenance({}, {}, {}), 2, miner.map_size)
    for name, (mined, prompts) in found.items():
        writer.add(name, (SIDE, SIDE), mined, prompts)
    writer.commit(0)
    writer.finish(list(found))
    for name, probs in (("a", striped), ("b", probs_of(2))):
        stored = Store(tmp_path / "s.h5").read(name)
        assert stored.probs.shape[1:] == (8, 8) and (stored.network_probs == quantize(probs)).all()
    assert (Store(tmp_path / "s.h5").read("a").components[:, :9] == find_objects(striped).components[:, :9]).all()


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


# zoom


@dataclass
class Painter(Recorder):
    """Paints the boxes over what it sees, whatever its size, and keeps the crops."""

    seen: list[list[np.ndarray]] = field(default_factory=list)

    def encode(self, images):
        self.seen.append(list(images))
        return super().encode(images)

    def answer(self, embedding, prompts):
        height, width = embedding.image_size
        y, x = (torch.arange(SIDE) + 0.5)[:, None] * height / SIDE, (torch.arange(SIDE) + 0.5) * width / SIDE
        inside = [(y > y0) & (y < y1 + 1) & (x > x0) & (x < x1 + 1) for x0, y0, x1, y1 in prompts.boxes]
        logits = torch.stack([torch.where(place, 6.0, -6.0) for place in inside])
        return MaskBatch(logits, torch.full((len(prompts),), 0.9), embedding.image_size, (SIDE, SIDE), SIDE)


WIDE = (240, 320)
NEAR = ((1, 40, 70, 50, 80), (1, 45, 52, 90, 98))
FAR = (1, 180, 200, 280, 300)


def wide_probs(*rectangles: tuple[int, int, int, int, int], num_classes: int = 2) -> np.ndarray:
    """(K, 240, 320): more certain of each rectangle class y0 y1 x0 x1 than of the next one."""
    probs = np.full((num_classes, *WIDE), 0.02 / (num_classes - 1), dtype=np.float32)
    probs[0] = 0.98
    for i, (k, y0, y1, x0, x1) in enumerate(rectangles):
        probs[:, y0:y1, x0:x1] = (0.1 + 0.02 * i) / (num_classes - 1)
        probs[k, y0:y1, x0:x1] = 0.9 - 0.02 * i
    return probs


def mine_wide(sam, probs: np.ndarray, **options):
    image = np.random.default_rng(0).integers(0, 256, (*WIDE, 3), dtype=np.uint8)
    miner = Miner(segmenter_of(len(probs)), sam, MineOptions(dataset="d", model="m", out="s.h5", **{"zoom": 1.5, "min_area": 4, **options}))
    return image, miner, *miner.prompt({"a": image}, [probs])["a"]


def test_a_small_object_is_seen_in_a_window_and_scored_at_image_size():
    sam = Painter()
    image, miner, mined, kept = mine_wide(sam, wide_probs(FAR), box_margin=0)
    x0, y0, x1, y1 = (int(place) for place in mined.windows[0])
    assert x0 <= 280 and y0 <= 180 and x1 >= 300 and y1 >= 200 and (x1 - x0) * (y1 - y0) < 0.1 * image[..., 0].size
    [[crop]] = sam.seen
    assert (crop == image[y0:y1, x0:x1]).all()
    assert sam.asked[0][0].boxes.tolist() == [[280 - x0, 180 - y0, 299 - x0, 199 - y0]]
    assert mined.area[0] == pytest.approx(400, rel=0.15) and mined.agreement[0] > 0.85 and mined.area_ratio[0] > 0.85
    assert mined.image_size == WIDE and mined.boxes.tolist() == [[280, 180, 299, 199]] and miner.windows == 1
    inside = mined.probs[0] > 127
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    assert y0 + rows[0] * (y1 - y0) / SIDE == pytest.approx(180, abs=2) and x0 + columns[0] * (x1 - x0) / SIDE == pytest.approx(280, abs=2)
    assert 280 <= kept.point_coords[0, 0, 0] <= 299, "the prompts that are kept are in pixels of the image"


def test_without_zoom_masks_are_exactly_those_of_the_whole_image():
    sam, probs = load_sam("tiny", None, torch.device("cpu")), wide_probs(*NEAR, FAR)
    image, _, mined, _ = mine_wide(sam, probs, zoom=0, prompts="box+point+mask", min_area=64)
    objects = find_objects(probs)
    [output] = sam.decode(sam.encode([image]), [make_prompts(objects, "box+point+mask", mask_size=sam.mask_size)])
    whole = score_masks(output, objects, probs)
    assert all(np.array_equal(getattr(mined, name), getattr(whole, name)) for name in vars(whole) if name != "prompt_boxes")


def test_an_object_that_needs_most_of_the_image_is_seen_in_all_of_it():
    sam = Painter()
    image, _, mined, _ = mine_wide(sam, wide_probs((1, 20, 200, 30, 250)))
    assert mined.windows.tolist() == [[0, 0, 320, 240]] and sam.seen[0][0].shape == image.shape


def test_objects_of_one_window_share_its_encoding_and_keep_their_order():
    """Two objects side by side, the most and the least probable, and another far away."""
    sam = Painter()
    pair = ((1, 100, 140, 99, 105), FAR, (1, 100, 140, 107, 113))
    _, miner, mined, _ = mine_wide(sam, wide_probs(*pair), box_margin=0, zoom=2.0)
    assert len({tuple(window) for window in mined.windows.tolist()}) == sum(len(batch) for batch in sam.seen) == miner.windows == 2
    assert mined.boxes[:, 0].tolist() == [99, 280, 107] and mined.area == pytest.approx([240, 400, 240], rel=0.35)
    assert (mined.agreement > 0.6).all()


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_windows_are_encoded_in_batches_and_masks_do_not_depend_on_them(batch_size):
    sam, probs = Painter(), wide_probs(*NEAR, FAR)
    _, _, mined, _ = mine_wide(sam, probs, batch_size=batch_size)
    _, _, expected, _ = mine_wide(Painter(), probs)
    assert [len(batch) for batch in sam.seen] == {1: [1, 1, 1], 2: [2, 1], 8: [3]}[batch_size]
    assert all(np.array_equal(getattr(mined, name), getattr(expected, name)) for name in vars(mined))


def test_alternatives_jitters_and_passes_see_the_same_window():
    sam = Painter()
    mine_wide(sam, wide_probs(FAR), prompts="box,box+point+mask", jitters=2, passes=2)
    assert [len(batch) for batch in sam.seen] == [1] and len(sam.asked) == 2 * 2 * (1 + 2)
    assert all(
        p.mask_logits.shape == (1, SIDE, SIDE) and (p.mask_logits > 0).mean() > 0.1 for [p] in sam.asked if p.mask_logits is not None
    )


@pytest.mark.parametrize("sam", ["none", "ellipse"])
def test_baselines_see_the_same_windows_and_give_the_same_at_a_finer_grid(sam):
    """The control: what is gained from the grid alone."""
    probs = wide_probs(*NEAR, FAR)
    [(zoomed), (whole)] = (mine_wide(load_sam(sam, None, torch.device("cpu")), probs, zoom=zoom)[2] for zoom in (1.5, 0))
    assert (zoomed.windows[:, 2:] - zoomed.windows[:, :2]).max() < 100 and (whole.windows[:, 2:] == WIDE[::-1]).all()
    assert zoomed.agreement == pytest.approx(whole.agreement, abs=0.06) and zoomed.area == pytest.approx(whole.area, rel=0.08)


def test_what_the_cache_had_is_counted_over_windows(tmp_path):
    options = {"embeddings": tmp_path / "c.h5", "box_margin": 0}
    sam = load_sam("tiny", None, torch.device("cpu"))
    counts = []
    for rectangle in (FAR, (1, 181, 200, 280, 301), (1, 60, 70, 60, 70)):
        _, miner, _, _ = mine_wide(sam, wide_probs(rectangle), **options)
        counts.append((miner.cache.hits, miner.windows))
        miner.close()
    assert counts == [(0, 1), (1, 1), (0, 1)]


def test_zoom_and_masks_are_as_suits_the_sam_where_nothing_is_given():
    chosen = {sam: MineOptions(dataset="d", model="m", out="s.h5", sam=sam) for sam in ("tiny", "none", "vit_b", "medsam", "my:sam")}
    assert {sam: options.zoom for sam, options in chosen.items()} == {"tiny": 1.5, "none": 1.5, "vit_b": 0, "medsam": 0, "my:sam": 0}
    assert {options.masks for sam, options in chosen.items() if sam != "my:sam"} == {"auto"} and chosen["my:sam"].masks is None
    assert MineOptions(dataset="d", model="m", out="s.h5", sam="vit_b", zoom=2, masks="single").zoom == 2
    with pytest.raises(UsageError, match="--zoom 0.5 leaves no room around the box"):
        MineOptions(dataset="d", model="m", out="s.h5", zoom=0.5)


@pytest.mark.parametrize(("sam", "masks"), [("tiny", "best-of-three"), ("none", None), ("medsam", None), ("my:sam", None)])
def test_a_store_of_before_is_mined_again_as_it_was(sam, masks):
    store = SimpleNamespace(provenance=SimpleNamespace(config={"sam": sam}))
    assert earlier_config(store) == {"zoom": 0.0, "masks": masks}


def test_mining_again_finds_the_windows_in_the_cache(dataset, warm, tmp_path):
    mining = ("mine", dataset, "--model", warm, *MINING, "--embeddings", tmp_path / "c.h5", "--json")
    first, second = (succeed(*mining, "--out", tmp_path / f"{i}.h5").result for i in range(2))
    assert first["windows"] == second["windows"] == second["windows_cached"] > first["windows_cached"]
    with h5py.File(tmp_path / "0.h5") as one, h5py.File(tmp_path / "1.h5") as other:
        assert (one["probs"][:] == other["probs"][:]).all() and (one["objects"]["window"] == other["objects"]["window"]).all()
        sides = one["objects"]["window"][:, 2:] - one["objects"]["window"][:, :2]
        assert len(np.unique(sides, axis=0)) > 1 and (sides.min(axis=1) > 0).all()
    assert "windows_cached" in succeed(*mining, "--out", tmp_path / "1.h5", "--resume").result


def test_masks_that_a_sam_does_not_give_are_refused_before_anything_is_written(dataset, warm, tmp_path):
    mining = ("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam", "none")
    refused(2, *mining, "--masks", "best-of-three", said=("--masks best-of-three: none gives a single mask",))
    assert not list(tmp_path.iterdir())
