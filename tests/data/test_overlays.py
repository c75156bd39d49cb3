import numpy as np
import pytest

from samsemi.data.overlays import (
    DARK,
    LEAST_HEIGHT,
    PALETTE,
    PAPER,
    Panel,
    class_keys,
    color_of,
    draw_row,
    enlarge,
    font_for,
    line_width,
    outline,
    write_caption,
)

RED = (170, 60, 45)
"""Of mucosa."""


def blob(height: int = 300, width: int = 400, class_id: int = 2) -> np.ndarray:
    label = np.zeros((height, width), dtype=np.uint8)
    label[100:200, 150:250] = class_id
    label[0, 0] = 255
    return label


def test_outline_is_light_within_and_dark_on_both_sides():
    image = np.full((300, 400, 3), RED, dtype=np.uint8)
    row = outline(image, blob())[150]
    assert line_width(image) == 2
    assert [tuple(int(v) for v in row[x]) for x in range(147, 154)] == [
        RED,
        RED,
        DARK,
        PALETTE[1],
        PALETTE[1],
        DARK,
        tuple(int(0.9 * a + 0.1 * b) for a, b in zip(RED, PALETTE[1], strict=True)),
    ]
    assert (image == RED).all()


def test_outline_leaves_what_is_no_class():
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    assert (outline(image, np.where(blob() == 255, 255, 0).astype(np.uint8)) == image).all()


def test_class_that_fills_the_image_is_tinted_and_has_no_outline():
    image = np.full((300, 400, 3), RED, dtype=np.uint8)
    picture = outline(image, np.ones((300, 400), dtype=np.uint8))
    assert (picture == picture[0, 0]).all() and (picture[0, 0] != RED).any()


@pytest.mark.parametrize("color", [RED, (20, 20, 20), (235, 235, 235), (150, 90, 160)], ids=str)
def test_outline_stands_out_from_any_tissue(color):
    """Light and dark differ by far more than the image can."""
    picture = outline(np.full((300, 400, 3), color, dtype=np.uint8), blob()).astype(int)
    brightness = picture.mean(axis=2)[150, 145:156]
    assert brightness.max() - brightness.min() > 120


def test_line_is_as_wide_as_the_image_asks_for():
    assert [line_width(np.zeros((side, side, 3))) for side in (256, 512, 1024, 2048)] == [2, 3, 5, 10]


def test_small_images_are_enlarged_by_a_whole_number():
    for height, zoom in ((40, 7), (128, 2), (255, 2), (256, 1), (1000, 1)):
        assert enlarge(np.zeros((height, 60, 3), dtype=np.uint8)).shape == (height * zoom, 60 * zoom, 3)
        assert height * zoom >= LEAST_HEIGHT
    assert outline(np.zeros((40, 60, 3), dtype=np.uint8), np.ones((40, 60), dtype=np.uint8)).shape == (280, 420, 3)


def test_colors_begin_again_after_the_last_class():
    label = np.arange(9, dtype=np.uint8)[None]
    names = [f"c{k}" for k in range(9)]
    assert class_keys(label, names) == [(f"c{k}", color_of(k)) for k in range(1, 9)] and color_of(7) == color_of(1)


def test_row_has_every_picture_whole_below_captions_of_one_height():
    pictures = [np.full((256, width, 3), value, dtype=np.uint8) for width, value in ((300, 40), (260, 90))]
    keys = [(f"a long class {k}", color_of(k)) for k in range(1, 6)]
    row = draw_row("case-1", [Panel(pictures[0], "image"), Panel(pictures[1], "truth", keys)])
    assert (row[-256:, :300] == 40).all() and (row[-256:, -260:] == 90).all() and (row[-256:, 300:-260] == PAPER).all()
    head = row[:-256]
    assert (head == 255).any() and (head.min(axis=2) < 100).any()
    assert all((head == color).all(axis=2).any() for _, color in keys)


@pytest.mark.parametrize("text", ["x" * 200, "many words " * 20], ids=["one word", "words"])
def test_caption_takes_the_lines_that_it_needs(text):
    """Nothing runs out of the strip: its last columns stay white."""
    strip = write_caption(text, (), 256, font_for(256))
    assert strip.shape[1] == 256 and strip.shape[0] > 3 * 18 and (strip[:, -3:] == 255).all()
