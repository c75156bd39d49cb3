"""What ``adapt --evaluate`` shows of what it measured."""

from samsemi.adaptation.tables import tabulate_measured

MEASURED = {"split": "val", "images": 3, "objects": 2}


def test_whole_image_crops_and_shapes_stand_below_each_other():
    scores = {"box": 0.8, "jittered_box": 0.7, "point": 0.5, "box_zoom_1.5": 0.9, "ellipse": 0.6, "jittered_ellipse": 0.55, "full_box": 0.4}
    [table] = tabulate_measured({**MEASURED, **scores, "encode_seconds_per_image": 0.1})
    assert table.lines(80) == [
        "mean IoU of 2 objects in 3 images of val",
        "                       box    jittered  point",
        "whole image            0.800  0.700     0.500",
        "crop of 1.5 x the box  0.900",
        "ellipse                0.600  0.550",
        "full box               0.400",
    ]
    assert set(table.keys) >= set(scores) and not {"encode_seconds_per_image", *MEASURED} & set(table.keys)


def test_model_and_classes_have_rows_of_their_own():
    scores = {"box": 0.8, "model_box": 0.7, "model_box_zoom_2": 0.75, "model_mask": 0.5}
    result = {**MEASURED, **scores, "by_class": {"cell": scores, "dirt": {}}}
    whole, by_class = tabulate_measured(result)
    assert [row[0] for row in whole.rows] == ["whole image", "crop of 2 x the box", "model's own mask"]
    assert whole.rows[1] == ["crop of 2 x the box", "", "0.750"] and whole.rows[2][2] == "0.500"
    assert by_class.rows == [[f"cell: {name}", *values] for name, *values in whole.rows]


def test_probe_stands_beside_random_weights_where_there_are_any():
    images = {"labeled": 8, "measured": 4}
    found = {"cell": {"auc": 0.9, "random_auc": 0.85}, "dirt": {"auc": 0.5, "random_auc": 0.5}}
    table = tabulate_measured({**MEASURED, "box": 0.5, "probe": found, "probe_images": images})[-1]
    assert table.lines(100)[1:] == ["class  AUC    with random weights", "cell   0.900  0.850", "dirt   0.500  0.500"]
    own = tabulate_measured({**MEASURED, "box": 0.5, "probe": {"cell": {"auc": 0.9}}, "probe_images": images})[-1]
    assert own.lines(100)[1:] == ["class  AUC", "cell   0.900"]
