"""COCO, YOLO and LabelMe: what their files may say, and what is refused."""

import base64
import io
import json

import numpy as np
import pytest
from foreign.layouts import as_polygon, coco, write_json, yolo_lines
from foreign.world import HEIGHT, WIDTH, draw_image, draw_label, save, save_images
from PIL import Image

from samsemi.data.layouts.coco import find_coco, lacks_coco
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.labelme import find_labelme, lacks_labelme
from samsemi.data.layouts.yolo import find_yolo, lacks_yolo
from samsemi.data.sources import CUT, OVERLAP, VANISHED
from samsemi.errors import DataError

TWO = range(1, 3)


@pytest.fixture
def listed(tmp_path):
    """Two images, and a COCO file of these that a test changes: the folder, the values, and a function that finds the cases."""
    save_images(tmp_path, "images/#.png", TWO)
    values = coco(TWO, as_polygon)

    def find(**changes):
        write_json(tmp_path / "c.json", values | changes)
        given = Given((tmp_path / "images",), tmp_path / "c.json")
        assert lacks_coco(given) == ""
        return find_coco(given)

    return tmp_path, values, find


def annotation(segmentation: object, **more: object) -> dict[str, object]:
    return {"id": 5, "image_id": 1, "category_id": 7, "segmentation": segmentation, **more}


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/../../001.png", "..\\..\\001.png", "C:\\001.png", "\\\\host\\001.png", "", None, 7, "001.png\0"],
)
def test_coco_names_that_lead_out_are_refused(listed, name):
    _, values, find = listed
    images = [dict(values["images"][0], file_name=name), values["images"][1]]
    with pytest.raises(DataError, match="leads out of the data set"):
        find(images=images)


@pytest.mark.parametrize("name", ["001.png", "images/001.png", "train/001.PNG", "images\\001.jpg"])
def test_coco_names_may_have_other_folders_cases_and_suffixes(listed, name):
    _, values, find = listed
    found = find(images=[dict(values["images"][0], file_name=name), values["images"][1]])
    assert np.array_equal(found.cases[0].mask.read(), draw_label(1))


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, float("nan"), 5, 6]],
        [[1, 2, 3, float("inf"), 5, 6]],
        [[1, 2, 3, 1e300, 5, 6]],
        [[1, 2, 3, 10**400, 5, 6]],
        [[1, 2, 3]],
        [[]],
        [["a", "b"]],
        [{"x": 1}],
        [[[1, 2], [3]]],
        "text",
        {"size": [HEIGHT, WIDTH], "counts": [1, 2]},
        {"size": [HEIGHT, WIDTH], "counts": [-5, HEIGHT * WIDTH + 5]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": [HEIGHT, WIDTH], "counts": [10**30]},
        {"size": [HEIGHT], "counts": [1]},
        {"size": [HEIGHT, WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": "\u00ff"},
        {"size": [HEIGHT, WIDTH], "counts": "PPPPPPPPPPPPPPPPPPPPPPPP"},
        {"size": [True, "x"], "counts": [1]},
    ],
    ids=str,
)
def test_coco_outlines_that_cannot_be_are_named(listed, segmentation):
    _, _, find = listed
    with pytest.raises(DataError, match="c.json: annotation 5"):
        find(annotations=[annotation(segmentation)])


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": 99},
        {"image_id": [1]},
        {"image_id": None},
        {"category_id": 8},
        {"category_id": [7]},
        {"category_id": "7"},
    ],
    ids=str,
)
def test_coco_numbers_that_are_not_listed_are_named(listed, change):
    _, values, find = listed
    with pytest.raises(DataError, match="c.json: annotation 5"):
        find(annotations=[*values["annotations"], annotation([[1, 2, 3, 4, 5, 6]], **change)])


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"images": 1, "annotations": [], "categories": []}', "[" * 10**5, '{"a": ' * 10**5, "\xff"]
)
def test_coco_file_that_is_none_is_named(tmp_path, text):
    save_images(tmp_path, "images/#.png", TWO)
    (tmp_path / "c.json").write_bytes((text + ' "images" "annotations" "categories"').encode("latin-1"))
    given = Given((tmp_path / "images",), tmp_path / "c.json")
    if lacks_coco(given) == "":
        with pytest.raises(DataError, match="c.json"):
            find_coco(given)


def test_coco_run_lengths_of_another_size_than_the_image_are_named(listed):
    _, _, find = listed
    found = find(annotations=[annotation({"size": [WIDTH, HEIGHT], "counts": [0, HEIGHT * WIDTH]})])
    with pytest.raises(DataError, match="c.json: run lengths of 24 x 32"):
        found.cases[0].mask.read()


def test_coco_image_of_another_size_is_named(listed):
    _, values, find = listed
    with pytest.raises(DataError, match="001.png is drawn in 9 x 24 pixels, the image has 32 x 24"):
        find(images=[dict(values["images"][0], width=9), values["images"][1]])


def test_outlines_drawn_on_a_larger_image_are_named(listed):
    """Their file says the size of the image that is there; without this, masks would be cut, or empty, in silence."""
    _, _, find = listed
    with pytest.raises(DataError, match="an outline leads 28 pixels out of 001.png, which has 32 x 24"):
        find(annotations=[annotation([[40, 4, 60, 4, 60, 12]])])


@pytest.mark.parametrize(("right", "remarks"), [(WIDTH + 5, [CUT]), (WIDTH + 1, [])])
def test_outlines_that_lead_out_a_little_are_cut_and_counted(listed, right, remarks):
    _, _, find = listed
    mask = find(annotations=[annotation([[20, 4, right, 4, right, 12, 20, 12]])]).cases[0].mask
    assert mask.remarks() == remarks
    assert mask.read()[4:12, 20:].all() and mask.read().sum() == 8 * (WIDTH - 20)


def test_a_file_that_is_read_is_not_counted_as_not_read(listed, caplog):
    folder, values, _ = listed
    write_json(folder / "images/c.json", values)
    (folder / "images/notes.csv").write_text("a")
    find_coco(Given((folder / "images",)))
    assert "not read: 1 .csv" in caplog.text and ".json" not in caplog.text


def test_coco_says_how_many_of_what(listed):
    folder, values, find = listed
    save(folder / "images/new.png", draw_image(9))
    images = [*values["images"], {"id": 3, "file_name": "gone.png"}]
    found = find(images=images, annotations=[row for row in values["annotations"] if row["image_id"] == 1])
    assert found.note == (
        "3 images, 2 with a mask of 2 objects in all (from c.json); 1 are listed without any object and taken as background; "
        "1 are listed and not there, such as 'gone.png'"
    )
    masks = {case.id: case.mask for case in found.cases}
    assert masks["new"] is None and not masks["002"].read().any() and found.classes == ("polyp", "tool")


def test_two_categories_of_one_id_are_refused(listed):
    _, _, find = listed
    with pytest.raises(DataError, match="two categories of one id"):
        find(categories=[{"id": 7, "name": "polyp"}, {"id": 7, "name": "tool"}], annotations=[annotation([[1, 2, 3, 4, 5, 6]])])


def test_two_images_of_one_id_are_refused(listed):
    _, values, find = listed
    with pytest.raises(DataError, match="two images of one id"):
        find(images=[values["images"][0], {**values["images"][1], "id": values["images"][0]["id"]}])


def test_more_classes_than_a_mask_can_hold_are_refused(listed):
    _, _, find = listed
    many = [{"id": k, "name": f"c{k}"} for k in range(300)]
    with pytest.raises(DataError, match="300 classes, at most 254"):
        find(categories=many, annotations=[annotation([[1, 2, 3, 4, 5, 6]], category_id=k) for k in range(300)])


def test_coco_names_in_another_unicode_form_are_found(listed):
    folder, values, find = listed
    (folder / "images/001.png").rename(folder / "images/p\u00e4r 1.png")
    found = find(images=[dict(values["images"][0], file_name="pa\u0308r 1.png"), values["images"][1]])
    assert {case.id: case.mask is not None for case in found.cases} == {"002": True, "p\u00e4r 1": True}


def test_coco_objects_that_overlap_are_counted_and_the_smaller_lies_on_top(listed):
    _, _, find = listed
    large, small = annotation([[0, 0, 20, 0, 20, 20, 0, 20]]), annotation([[2, 2, 6, 2, 6, 6, 2, 6]], category_id=14)
    mask = find(annotations=[small, large]).cases[0].mask
    assert (mask.read() == 2).sum() == 16 and mask.remarks() == [OVERLAP]


def test_objects_between_the_centers_of_pixels_are_counted(listed):
    _, _, find = listed
    there, lost = annotation([[2, 2, 6, 2, 6, 6, 2, 6]]), annotation([[9.6, 9.6, 10.4, 9.6, 10.4, 10.4, 9.6, 10.4]])
    mask = find(annotations=[there, lost]).cases[0].mask
    assert (mask.read() > 0).sum() == 16 and mask.remarks() == [VANISHED]


def test_coco_images_listed_in_two_files_are_named(tmp_path):
    save_images(tmp_path, "images/#.png", TWO)
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", coco(TWO, as_polygon))
    with pytest.raises(DataError, match="listed twice"):
        find_coco(Given((tmp_path,)))


def test_coco_files_share_classes_by_name(tmp_path):
    save_images(tmp_path, "train/#.png", range(1, 2))
    save_images(tmp_path, "val/#.png", range(2, 3))
    write_json(tmp_path / "annotations/instances_train2017.json", coco(range(1, 2), as_polygon))
    other = coco(range(2, 3), as_polygon)
    other["categories"] = [{"id": 7, "name": "tool"}, {"id": 14, "name": "polyp"}]
    write_json(tmp_path / "annotations/instances_val2017.json", other)
    found = find_coco(Given((tmp_path,)))
    assert found.classes == ("polyp", "tool") and [case.split for case in found.cases] == [None, "val"]
    assert np.array_equal(found.cases[1].mask.read(), np.array([0, 2, 1])[draw_label(2)])


def test_objects_drawn_on_a_turned_image_are_turned_with_it(tmp_path):
    """Whoever drew them saw the pixels as they are stored."""
    picture = Image.fromarray(draw_image(1))
    picture.getexif()[0x0112] = 6
    (tmp_path / "images").mkdir()
    picture.save(tmp_path / "images/001.png", exif=picture.getexif())
    write_json(tmp_path / "c.json", coco(range(1, 2), as_polygon))
    found = find_coco(Given((tmp_path / "images",), tmp_path / "c.json"))
    assert np.array_equal(found.cases[0].mask.read(), np.rot90(draw_label(1), -1))


@pytest.fixture
def shaped(tmp_path):
    """Two images and a LabelMe file of the first: a function that writes shapes and finds the cases."""
    save_images(tmp_path, "#.png", TWO)

    def find(*shapes, **more):
        write_json(tmp_path / "001.json", {"imagePath": "../../elsewhere/x.png", "shapes": shapes, **more})
        given = Given((tmp_path,))
        assert lacks_labelme(given) == ""
        return find_labelme(given)

    return find


def shape(label: object, points: object, kind: str | None = "polygon", **more: object) -> dict[str, object]:
    return {"label": label, "points": points, "shape_type": kind, **more}


SQUARE = [[2, 2], [6, 2], [6, 6], [2, 6]]


def test_labelme_shapes_are_drawn_and_lines_left_out_with_a_count(shaped, caplog):
    buffer = io.BytesIO()
    Image.fromarray(np.array([[1, 0, 1]], dtype=np.uint8)).save(buffer, "PNG")
    stamp = shape("b", [[20, 5], [22, 5]], "mask", mask=base64.b64encode(buffer.getvalue()).decode())
    found = shaped(
        shape("b", SQUARE, None),
        shape("a", [[10, 10], [16, 14]], "rectangle"),
        shape("a", [[25, 15], [25, 19]], "circle"),
        stamp,
        shape("__ignore__", [[0, 20], [3, 23]], "rectangle"),
        shape("c", [[1, 1], [2, 2]], "line"),
    )
    label = found.cases[0].mask.read()
    assert found.classes == ("a", "b") and found.cases[1].mask is None
    assert (label[2:6, 2:6] == 2).all() and (label[10:14, 10:16] == 1).all() and label[5, 20:23].tolist() == [2, 0, 2]
    assert (label == 255).sum() == 9 and (label == 2).sum() == 18 and abs((label == 1).sum() - 24 - np.pi * 16) < 4
    assert "left out: 1 shapes of the type line" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        shape("a", [[1, float("nan")], [2, 2], [3, 1]]),
        shape("a", [[1, 1]]),
        shape("a", None),
        shape("", SQUARE),
        shape(["a"], SQUARE),
        shape("a", [[1, 1]], "rectangle"),
        shape("a", [[1, 1], [2, 2]], "mask", mask="@@@"),
        shape("a", [[1, 1], [2, 2]], "mask", mask="YWJj"),
        shape("a", [[1, 1], [2, 2]], "mask"),
    ],
    ids=str,
)
def test_labelme_shapes_that_cannot_be_are_named(shaped, wrong):
    with pytest.raises(DataError, match="001.json: shape 2"):
        shaped(shape("a", SQUARE), wrong)


def test_labelme_shapes_of_the_background_are_of_no_class(shaped):
    found = shaped(shape("a", SQUARE), shape("Background", [[4, 4], [6, 4], [6, 6], [4, 6]]))
    label = found.cases[0].mask.read()
    assert found.classes == ("a",) and label[2, 2] == 1 and label[5, 5] == 0 and label.sum() == 12


def test_labelme_files_may_lie_in_a_folder_of_their_own(tmp_path):
    save_images(tmp_path, "images/#.png", TWO)
    write_json(tmp_path / "json/001.json", {"imagePath": "001.png", "shapes": [shape("a", SQUARE)]})
    found = find_labelme(Given((tmp_path / "images",), tmp_path / "json"))
    assert [case.mask is not None for case in found.cases] == [True, False]


@pytest.fixture
def lined(tmp_path):
    """Two images and a YOLO file of the first: a function that writes it, and finds the cases."""
    save_images(tmp_path, "images/#.png", TWO)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/002.txt").write_text(yolo_lines(2))

    def find(text: str):
        (tmp_path / "labels/001.txt").write_text(text)
        given = Given((tmp_path,))
        assert lacks_yolo(given) == ""
        return find_yolo(given)

    return find


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1 0.1", "a box"),
        ("0 0.1 0.1 0.5 nan 0.2 0.3", "no numbers, or lie far"),
        ("0 0.1 0.1 0.5 1e300 0.2 0.3", "no numbers, or lie far"),
        ("0 10 10 50 10 20 30", "no shares"),
        ("polyp 0.1 0.1 0.5 0.1 0.2 0.3", "'polyp' is no class"),
        ("-1 0.1 0.1 0.5 0.1 0.2 0.3", "'-1' is no class"),
        ("99999999999 0.1 0.1 0.5 0.1 0.2 0.3", "is no class"),
        ("0 0.1 0.1 0.5 0.1 0.2", "no list of points"),
        ("0 0.1 x 0.5 0.1 0.2 0.3", "no numbers"),
    ],
)
def test_yolo_lines_that_cannot_be_are_named(lined, line, said):
    with pytest.raises(DataError, match=r"001.txt line 2.*" + said):
        lined("\n" + line + "\n")


def test_yolo_empty_file_is_background_and_no_file_is_unlabeled(lined, tmp_path):
    save(tmp_path / "images/003.png", draw_image(3))
    found = lined("")
    assert not found.cases[0].mask.read().any() and found.cases[1].mask.read().any() and found.cases[2].mask is None
    assert "1 files are empty: background alone" in found.note and found.classes == ("class1", "class2")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "polyp\ntool\n"),
        ("data.yaml", "names: [polyp, tool]"),
        ("data.yaml", "names:\n- polyp\n- tool\nnc: 2"),
        ("data.yaml", "names:\n  1: tool\n  0: polyp"),
        ("dataset.yaml", "names: {0: polyp, 1: tool, 2: other}"),
    ],
)
def test_yolo_names_come_from_a_file(lined, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert lined(yolo_lines(1)).classes == ("polyp", "tool")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "polyp\n"),
        ("data.yaml", "names: polyp"),
        ("data.yaml", "nc: 2"),
        ("data.yaml", "names: [polyp"),
        ("data.yaml", "names: !!python/object/apply:os.system ['echo']"),
        ("data.yaml", "names: {999999999: a}"),
    ],
)
def test_yolo_names_that_cannot_be_are_named(lined, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    if "999" in text:
        assert lined(yolo_lines(1)).classes == ("class1", "class2")
    else:
        with pytest.raises(DataError, match=name):
            lined(yolo_lines(1))


def test_text_beside_images_is_no_yolo(tmp_path):
    save_images(tmp_path, "#.png", TWO)
    (tmp_path / "README.txt").write_text("2 images of 5 patients\n")
    assert "no text files" in lacks_yolo(Given((tmp_path,)))


def test_pictures_as_masks_go_before_outlines(tmp_path):
    save_images(tmp_path, "images/#.png", TWO)
    save_images(tmp_path, "masks/#.png", TWO)
    write_json(tmp_path / "c.json", coco(TWO, as_polygon))
    (tmp_path / "masks/001.json").write_text(json.dumps({"shapes": [], "imagePath": ""}))
    for given in (Given((tmp_path,)), Given((tmp_path / "images",), tmp_path / "masks")):
        for lacks in (lacks_coco, lacks_yolo, lacks_labelme):
            assert "masks are pictures" in lacks(given)
