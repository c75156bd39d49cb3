"""The stream of scenes that the packaged SAM is trained on (examples/tiny_sam)."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples" / "tiny_sam"


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delenv("REAL", raising=False)
    import stream

    yield stream
    for name in ("stream", "scenes"):
        sys.modules.pop(name, None)


def assert_is_scene(image: np.ndarray, masks: np.ndarray) -> None:
    assert (image.shape, image.dtype) == ((128, 128, 3), np.uint8)
    assert masks.dtype == bool and masks.shape[1:] == (128, 128) and 1 <= len(masks) <= 8
    assert masks.any(axis=(1, 2)).all()


@pytest.mark.parametrize("number", [0, 1, 999_999])
def test_scene_depends_on_its_number_alone(stream, number):
    image, masks = stream.draw(number)
    assert_is_scene(image, masks)
    again, same_masks = stream.draw(number)
    assert np.array_equal(image, again) and np.array_equal(masks, same_masks)
    assert not np.array_equal(image, stream.draw(number + 1)[0])


def test_real_images_give_some_of_the_scenes(stream, tmp_path, monkeypatch):
    y, x = np.mgrid[:150, :200]
    disks = sum((i + 1) * (np.hypot(y - cy, x - cx) < 22) for i, (cy, cx) in enumerate([(40, 40), (100, 60), (60, 150), (115, 150)]))
    for name, values in (("dsb2018_nuclei", disks), ("hc18_fetal_head", 255 * (disks > 0))):
        for kind, array, suffix in (("images", 60 * disks, "jpg"), ("masks", values, "png")):
            (tmp_path / name / kind).mkdir(parents=True)
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / name / kind / f"a.{suffix}")
    monkeypatch.setenv("REAL", str(tmp_path))
    drawn = []
    monkeypatch.setattr(
        stream, "draw_scene", lambda rng, side: drawn.append(rng) or (np.zeros((side, side, 3), np.uint8), np.ones((1, side, side), bool))
    )
    for number in range(200):
        assert_is_scene(*stream.draw(number))
    assert 0.7 < len(drawn) / 200 < 0.9


def test_held_out_scenes_are_beyond_the_stream_and_have_one_object(stream, tmp_path, monkeypatch):
    from samsemi.stages.adapt import STREAM_LENGTH

    assert min(stream.HELD_OUT) >= STREAM_LENGTH
    monkeypatch.setattr(stream, "HELD_OUT", stream.HELD_OUT[:2])
    stream.write_held_out(tmp_path)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted(path.name for path in (tmp_path / "masks").iterdir())
    for path in (tmp_path / "masks").iterdir():
        assert set(np.unique(np.asarray(Image.open(path)))) == {0, 255}
