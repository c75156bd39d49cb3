"""The stream of scenes that the packaged SAM is trained on (examples/tiny_sam)."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples" / "tiny_sam"
DISKS = ((40, 40), (100, 60), (60, 150), (115, 150))
"""Middles y x of the objects in an image of 150 x 200 px."""


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delenv("PACKED", raising=False)
    import stream

    yield stream
    for name in ("stream", "pack", "scenes"):
        sys.modules.pop(name, None)


@pytest.fixture
def packed(stream, tmp_path):
    """Two sets, one of them exhaustive, and a held-out source, packed."""
    y, x = np.mgrid[:150, :200]
    disks = sum((i + 1) * (np.hypot(y - cy, x - cx) < 22) for i, (cy, cx) in enumerate(DISKS))
    pairs = {"dsb2018_nuclei/a": disks, "hc18_fetal_head/b": 255 * (disks > 0), "nature/egg_1": disks, "medical/carotid_1": disks}
    for name, values in pairs.items():
        folder, stem = name.split("/")
        for kind, array, suffix in (("images", 60 * disks, "jpg"), ("masks", values, "png")):
            (tmp_path / "sets" / folder / kind).mkdir(parents=True)
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / "sets" / folder / kind / f"{stem}.{suffix}")
    import pack

    out = tmp_path / "packed"
    out.mkdir()
    pack.pack(tmp_path / "sets", out)
    pack.write_held_out(out)
    return out


def assert_is_scene(image: np.ndarray, masks: np.ndarray, exhaustive: bool) -> None:
    assert image.dtype == np.uint8 and image.shape[2] == 3 and max(image.shape[:2]) == 256
    assert masks.dtype == bool and masks.shape[1:] == image.shape[:2] and 1 <= len(masks) <= 8
    assert masks.any(axis=(1, 2)).all() and isinstance(exhaustive, bool)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("number", [0, 1, 999_999])
def test_scene_depends_on_its_number_alone(stream, packed, monkeypatch, number, real):
    if real:
        monkeypatch.setenv("PACKED", str(packed))
    scene, again = stream.draw(number), stream.draw(number)
    assert_is_scene(*scene)
    assert np.array_equal(scene.image, again.image) and np.array_equal(scene.masks, again.masks)
    assert not np.array_equal(scene.image, stream.draw(number + 1).image)


def test_three_quarters_of_the_scenes_are_real(stream, packed, monkeypatch):
    monkeypatch.setenv("PACKED", str(packed))
    drawn = []
    monkeypatch.setattr(
        stream, "draw_scene", lambda rng, side: drawn.append(rng) or (np.zeros((side, side, 3), np.uint8), np.ones((1, side, side), bool))
    )
    for number in range(200):
        assert_is_scene(*stream.draw(number))
    assert 0.15 < len(drawn) / 200 < 0.35


def test_packed_images_are_as_they_were_and_numbered_from_one(packed):
    from pack import Packed

    opened = Packed(packed)
    sources = {(entry.set, entry.source): entry for entry in opened.entries}
    held_out = {key: entry.held_out for key, entry in sources.items()}
    exhaustive = {key[0]: entry.exhaustive for key, entry in sources.items()}
    assert held_out == {
        ("dsb2018_nuclei", "dsb2018_nuclei"): False,
        ("hc18_fetal_head", "hc18_fetal_head"): False,
        ("nature", "egg"): False,
        ("medical", "carotid"): True,
    }
    assert exhaustive == {"dsb2018_nuclei": True, "hc18_fetal_head": True, "nature": False, "medical": False}
    for entry in opened.entries:
        image, numbers = opened.read(entry)
        assert image.shape == (150, 200, 3) and numbers.shape == (150, 200)
        assert numbers.max() == (1 if entry.set == "hc18_fetal_head" else 4)
        assert np.abs(image[40, 40].astype(int) - 60).max() < 12, "the first disk is where it was"


def test_held_out_images_have_one_object_whole_and_zoomed(packed):
    names = sorted(path.name for path in (packed / "images").iterdir())
    assert names == ["carotid_carotid_1.png", "carotid_carotid_1.zoom.png"] == sorted(path.name for path in (packed / "masks").iterdir())
    shares = []
    for name in names:
        image, mask = (np.asarray(Image.open(packed / kind / name)) for kind in ("images", "masks"))
        assert set(np.unique(mask)) == {0, 255} and image.shape[:2] == mask.shape
        shares.append((mask > 0).mean())
    assert shares[0] == pytest.approx(np.pi * 22**2 / 30000, rel=0.1) and 0.15 < shares[1] < 0.7


def test_held_out_sources_are_never_trained_on(stream, packed):
    _, entries, shares = stream.open_packed(packed)
    assert {entry.set for entry in entries} == {"dsb2018_nuclei", "hc18_fetal_head", "nature"} and shares[-1] == pytest.approx(1)


def test_zoom_is_a_box_times_a_factor_cut_to_the_image(stream):
    box = np.array([40, 20, 59, 29], np.float32)
    assert stream.zoom_window(box, 2, (100, 200)) == (30, 15, 70, 35)
    assert stream.zoom_window(box, 2, (100, 200), square=True) == (30, 5, 70, 45)
    assert stream.zoom_window(box, 10, (100, 200)) == (0, 0, 150, 75)


def test_zoomed_window_holds_most_of_the_object(stream):
    mask = np.zeros((200, 200), bool)
    mask[80:120, 60:140] = True
    for seed in range(100):
        x0, y0, x1, y1 = stream.zoom_in(np.random.default_rng(seed), mask)
        width, height = min(x1, 140) - max(x0, 60), min(y1, 120) - max(y0, 80)
        assert width * height > 0.4 * mask.sum()
        assert (x1 - x0) < 3 * 80 * 1.9


def test_wide_window_lies_in_the_image_and_has_a_part_of_the_object(stream):
    mask = np.zeros((100, 200), bool)
    mask[10:40, 150:190] = True
    for seed in range(100):
        x0, y0, x1, y1 = stream.wide_window(np.random.default_rng(seed), mask)
        assert 0 <= x0 < x1 <= 200 and 0 <= y0 < y1 <= 100
        assert mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))].any()


def test_slivers_and_specks_are_not_prompted_and_leave_the_scene_unfinished(stream):
    image = np.zeros((100, 100, 3), np.uint8)
    whole, speck, sliver = (np.zeros((100, 100), bool) for _ in range(3))
    whole[20:60, 20:60], speck[80:82, 80:82], sliver[:, 99:] = True, True, True
    everything = (0.0, 0.0, 100.0, 100.0)
    assert stream.see(image, [whole], everything, True).exhaustive
    scene = stream.see(image, [whole, speck, sliver], everything, True)
    assert len(scene.masks) == 1 and not scene.exhaustive
    assert scene.masks[0].mean() == pytest.approx(0.16, abs=0.01)
    cut = stream.see(image, [whole], (58.0, 0.0, 100.0, 42.0), True)
    assert not len(cut.masks)


def test_turned_masks_stay_on_their_image(stream):
    image, mask = np.zeros((60, 256, 3), np.uint8), np.zeros((1, 60, 256), bool)
    mask[0, 5:20, 10:50] = True
    image[mask[0]] = 200
    for seed in range(20):
        scene = stream.turn(np.random.default_rng(seed), stream.Scene(image, mask, True))
        assert np.array_equal(scene.image[:, :, 0] == 200, scene.masks[0])
