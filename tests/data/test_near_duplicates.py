import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from samsemi.data import near_duplicates
from samsemi.data.near_duplicates import ALIKE, Alike, count_blocks, find_near_duplicates, make_thumbnail


def scene(seed: int) -> Image.Image:
    """A framed picture of soft spots, 160 x 120: the frame is the same in all."""
    rng = np.random.default_rng(seed)
    spots = Image.fromarray(rng.integers(0, 256, (10, 13, 3), dtype=np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
    pixels = np.asarray(spots).copy()
    pixels[:, :25] = pixels[:15] = pixels[-15:] = 0
    return Image.fromarray(pixels)


def as_jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda picture: picture,
    "JPEG": as_jpeg,
    "half as large": lambda picture: picture.resize((80, 60)),
    "another shape": lambda picture: picture.resize((128, 128)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.5),
    "more contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.4),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "cropped": lambda picture: picture.crop((4, 3, 156, 117)),
}


def thumbnails(*pictures: Image.Image) -> list[np.ndarray]:
    return [make_thumbnail(np.asarray(picture.convert("RGB"))) for picture in pictures]


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_changed_copy_is_found_among_others(copy):
    others = [scene(seed) for seed in range(1, 6)]
    [alike] = find_near_duplicates(thumbnails(*others, scene(0), copy(scene(0))), [0] * 6 + [1])
    assert (alike.image, alike.other) == (6, 5) and alike.similarity >= ALIKE
    [alike] = find_near_duplicates(thumbnails(copy(scene(0)), *others, scene(0)), [0] * 6 + [1])
    assert (alike.image, alike.other) == (6, 0), "whichever of them was changed"


def test_pictures_that_share_a_frame_alone_are_not_alike():
    assert not list(find_near_duplicates(thumbnails(*(scene(seed) for seed in range(40))), [0] * 20 + [1] * 20))


def test_pictures_of_a_single_color_are_not_alike():
    blank = np.zeros((9, 7, 3), dtype=np.uint8)
    assert not list(find_near_duplicates([make_thumbnail(blank), make_thumbnail(blank)], [0, 1]))


@pytest.mark.parametrize(
    ("ranks", "found"),
    [((0, 0, 0), []), ((1, 1, 1), []), ((0, 1, 1), [(1, 0), (2, 0)]), ((0, 1, 2), [(1, 0), (2, 0)]), ((2, 1, 1), [(0, 1)]), ((), [])],
)
def test_pairs_of_one_rank_are_not_compared_and_others_once(ranks, found):
    same = thumbnails(scene(0)) * len(ranks)
    assert [(alike.image, alike.other) for alike in find_near_duplicates(same, ranks)] == found


def test_blocks_change_nothing_and_each_is_counted(monkeypatch):
    pictures = thumbnails(*(scene(seed % 7) for seed in range(20)))
    ranks = [0, 1, 2, 0, 1] * 4

    def found() -> list[Alike]:
        return [Alike(a.image, a.other, round(a.similarity, 4)) for a in find_near_duplicates(pictures, ranks)]

    whole, steps = found(), []
    monkeypatch.setattr(near_duplicates, "ROWS", 5)
    monkeypatch.setattr(near_duplicates, "COLUMNS", 3)
    assert found() == whole and len(whole) > 5
    list(find_near_duplicates(pictures, ranks, lambda: steps.append(1)))
    assert len(steps) == count_blocks(ranks) == 3 * 6
