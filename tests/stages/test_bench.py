"""``samsemi bench``: what it compares is the same work, and it has the keys that scripts rely on."""

import numpy as np
import pytest
import torch
from builders import refused, succeed

from samsemi.options.warmstart import WarmstartOptions
from samsemi.segmenters.segmenter import ModelSpec, new_segmenter
from samsemi.speed import COMPILING, Bench, draw_scenes, find_fastest_threads, interleave, measure_compiling, median_ratio, run_loop
from samsemi.stages.bench import CLASSES, TRAINING, make_sam, measure_training

CPU = torch.device("cpu")
KEYS = {
    *("loop_images_per_second", "mine_images_per_second", "mine_over_loop", "cached_over_mine", "encoder_tflops", "matmul_tflops"),
    *("encoder_utilisation", "decoder_objects_per_second", "store_write_images_per_second", "store_read_ms"),
    *("train_images_per_second", "data_wait_share", "fastest_threads", "peak_memory_mb", "device"),
}


@pytest.mark.slow
def test_bench_has_the_keys_that_scripts_rely_on():
    given = ("--images", 2, "--objects", 3, "--image-size", 96, "--rounds", 1, "--no-train")
    found = succeed("bench", *given, "--json").result
    assert set(found) == {"tiny"} and set(found["tiny"]) >= KEYS
    tiny = found["tiny"]
    assert (tiny["device"], tiny["precision"], tiny["images"], tiny["objects"]) == ("cpu", "fp32", 2, 6)
    assert tiny["mean_iou"] == tiny["fp32_mean_iou"] > 0.999 and 0.95 < tiny["bf16_mean_iou"] <= 1
    assert all(tiny[key] is None for key in (*TRAINING, *COMPILING))
    assert all(tiny[key] > 0 for key in KEYS - {*TRAINING, "device"})
    assert tiny["encoder_utilisation"] == pytest.approx(tiny["encoder_tflops"] / tiny["matmul_tflops"])


def test_sams_that_the_plain_loop_cannot_feed_are_refused():
    refused(2, "bench", "--sam", "medsam", said=("--sam medsam: not one that the plain loop can feed",))
    refused(2, "bench", "--sam", "tiny", "--sam", "none", said=("--sam none",))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    segmenter = new_segmenter(ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), CLASSES, 32), seed=0).eval()
    sam = make_sam("tiny", CPU, "fp32")
    return Bench(sam, segmenter, draw_scenes(3, 120, 2, sam.mask_size), 2, tmp_path_factory.mktemp("bench"))


def test_loop_and_mining_segment_the_same_objects_alike(made):
    masks = run_loop(made.plain, made.scenes)
    assert len(masks) == 6 and made.mean_iou("fp32", masks) > 0.999
    objects = [found.components == 1 + i for found in made.scenes.found.values() for i in range(2)]
    ious = [(a & b).sum() / (a | b).sum() for a, b in zip(masks, objects, strict=True)]
    assert np.mean(ious) > 0.7, "what is drawn is what is segmented"
    assert made.mean_iou("fp32", masks[::-1]) < 0.5
    areas = [area for mined in made.mined.values() for area in mined.area.tolist()]
    assert areas == [int(mask.sum()) for mask in masks]


def test_second_mining_takes_every_embedding_from_the_cache(made, monkeypatch):
    monkeypatch.setattr(made.sam, "encode", None)
    made.mine_cached(made.warm)
    with pytest.raises(TypeError):
        made.mine_cold()


def test_compiling_is_measured_and_leaves_the_sam_as_it_is(made):
    found = measure_compiling(made.sam, made.inputs()[:1], 1, backend="eager")
    assert tuple(found) == COMPILING and found["compile_seconds"] > 0 and found["compiled_over_encoder"] > 0
    assert found["compile_pays_from_images"] is None or found["compile_pays_from_images"] > 0
    assert made.sam.network.image_encoder._compiled_call_impl is None


def test_everything_has_its_turn_in_each_round():
    calls = []
    seconds = interleave({name: lambda name=name: calls.append(name) for name in "ab"}, 3, CPU, lambda: None)
    assert "".join(calls) == "ab" * 4 and [len(values) for values in seconds.values()] == [3, 3]
    assert median_ratio([8.0, 2.0, 9.0], [2.0, 1.0, 3.0]) == 3.0


def test_scenes_are_always_the_same_and_hold_as_many_objects_as_asked():
    one, other = (draw_scenes(2, 128, 5, 64) for _ in range(2))
    assert all(np.array_equal(one.images[name], other.images[name]) for name in one.images)
    assert [len(found) for found in one.found.values()] == [5, 5]
    assert not np.array_equal(one.images["0"], one.images["1"])


def test_training_is_measured_on_the_users_own_network():
    segmenter = new_segmenter(ModelSpec("tu-lcnet_035", (8, 8, 8, 8, 8), CLASSES, 32), seed=0)
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    found = measure_training(segmenter, WarmstartOptions(dataset="d", out="o", size=32, batch_size=2), 2, CPU)
    assert tuple(found) == TRAINING and found["train_images_per_second"] > 0 and 0 < found["data_wait_share"] < 1
    assert any(not torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


def test_fastest_number_of_threads_is_found_and_left_as_it_was(monkeypatch):
    threads = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: threads.__setitem__(0, number))
    clock = iter(range(10**6))
    monkeypatch.setattr("samsemi.speed.time.perf_counter", lambda: [next(clock) for _ in range(9 if threads[0] == 2 else 99)][-1])
    tried = []
    assert find_fastest_threads(lambda: tried.append(threads[0]), 2) == 2
    assert tried == [8, 4, 2, 1] * 2 and threads == [8]
