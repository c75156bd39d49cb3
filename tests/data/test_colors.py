import numpy as np
import pytest
from PIL import Image

from samsemi.data.colors import describe_colors, read_color_map
from samsemi.data.mask_values import count_values
from samsemi.data.sources import ColorFile, MaskFile
from samsemi.errors import DataError, UsageError, WrongValues

BLACK, RED, GREEN = (0, 0, 0), (200, 0, 0), (0, 100, 0)


def save(path, *pixels):
    """A row of colors."""
    Image.fromarray(np.array([pixels], dtype=np.uint8)).save(path)


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_colors_are_classes_in_the_order_of_the_file(tmp_path):
    colors = read_color_map(write(tmp_path / "c.csv", "name,r,g,b", "tool,0,100,0", "polyp, 200, 0, 0", "Ignore,9,9,9", "tool,1,1,1"))
    assert colors.classes == ("tool", "polyp")
    save(tmp_path / "m.png", BLACK, RED, GREEN, (9, 9, 9), (1, 1, 1))
    assert ColorFile(tmp_path / "m.png", colors).read().tolist() == [[0, 2, 1, 255, 1]]


def test_background_may_have_another_color_than_black(tmp_path):
    colors = read_color_map(write(tmp_path / "c.csv", "background,255,255,255", "polyp,0,0,0"))
    save(tmp_path / "m.png", BLACK, (255, 255, 255))
    assert ColorFile(tmp_path / "m.png", colors).read().tolist() == [[1, 0]]


def test_color_that_is_not_listed_is_named_with_the_file(tmp_path):
    colors = read_color_map(write(tmp_path / "c.csv", "polyp,200,0,0"))
    save(tmp_path / "m.png", BLACK, RED, GREEN, GREEN)
    with pytest.raises(DataError, match=r"m.png: colors that .*c.csv does not list: 0,100,0 \(1\)"):
        ColorFile(tmp_path / "m.png", colors).read()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["polyp,200,0"], "'polyp,200,0'"),
        (["polyp,200,0,256"], "256"),
        (["polyp,200,0,02550"], "02550"),
        (["polyp,200,0,-1"], "-1"),
        ([",200,0,0"], "',200,0,0'"),
        (["polyp,200,0,0", "tool,200,0,0"], "twice"),
        (["background,0,0,0"], "no class"),
        ([""], "no class"),
    ],
)
def test_color_map_that_cannot_be_is_a_usage_error(tmp_path, lines, said):
    with pytest.raises(UsageError, match="--color-map") as caught:
        read_color_map(write(tmp_path / "c.csv", *lines))
    assert said in caught.value.message


def test_color_map_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="--color-map"):
        read_color_map(tmp_path / "c.csv")


def test_masks_of_one_color_are_black_and_white(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png", BLACK, RED, RED)
    masks = {name: MaskFile(tmp_path / f"{name}.png") for name in ("a", "b")}
    assert masks["a"].read().tolist() == [[0, 255, 255]]
    count_values(masks)
    assert [record.getMessage() for record in caplog.records] == ["2 masks of one color on black, read as black and white: 200,0,0"]


def test_masks_of_a_color_each_that_is_not_the_same_are_refused(tmp_path):
    """Colors may be classes: taken for one, they would be merged in silence."""
    save(tmp_path / "a.png", BLACK, RED)
    save(tmp_path / "b.png", BLACK, GREEN)
    with pytest.raises(DataError, match="0,100,0; 200,0,0") as caught:
        count_values({name: MaskFile(tmp_path / f"{name}.png") for name in ("a", "b")})
    assert "--color-map" in caught.value.hint


def test_colors_that_were_found_are_listed(tmp_path):
    save(tmp_path / "m.png", BLACK, BLACK, RED, GREEN)
    with pytest.raises(WrongValues, match=r"0,0,0 \(0.5\), 0,100,0 \(0.25\), 200,0,0 \(0.25\)") as caught:
        MaskFile(tmp_path / "m.png").read()
    assert "--color-map" in caught.value.hint
    photograph = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    assert describe_colors(photograph) == "900 colors"
