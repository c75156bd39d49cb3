"""A sample of every layout."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from foreign.world import (
    HEIGHT,
    NUMBERS,
    POLYP,
    TOOL,
    WIDTH,
    Sample,
    draw_image,
    draw_label,
    draw_polyp,
    rectangles,
    save,
    save_images,
    save_masks,
)

from samsemi.data.coco import encode_runs

RED, GREEN = (255, 0, 0), (0, 255, 0)


def write_json(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def pairs(images: str, masks: str) -> Callable[[Path], None]:
    def draw(folder: Path) -> None:
        save_images(folder, images)
        save_masks(folder, masks)

    return draw


def draw_two_folders(folder: Path) -> None:
    save_images(folder, "labeled/#.png", range(1, 6))
    save_images(folder, "more/#.png", range(6, 9))
    save_masks(folder, "masks/#.png", range(1, 6))


def draw_elsewhere(folder: Path) -> None:
    save_images(folder, "images/a/#.png", range(1, 5))
    save_images(folder, "images/b/#.png", range(5, 9))
    save_masks(folder, "labels/#.png")


def draw_class_folders(folder: Path) -> None:
    save_images(folder, "images/#.png")
    for name, class_id in (("polyp", POLYP), ("tool", TOOL)):
        save_masks(folder, f"masks/{name}/#.png", draw=partial(draw_class, class_id))


def draw_class(class_id: int, number: int) -> np.ndarray:
    return (draw_label(number) == class_id).astype(np.uint8)


def draw_exclusive_folders(folder: Path) -> None:
    save_images(folder, "images/#.png")
    save_masks(folder, "masks/benign/#.png", range(1, 5))
    save_masks(folder, "masks/malignant/#.png", range(5, 9))


def outline(box: Sequence[int]) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def as_polygon(number: int, class_id: int) -> object:
    return [outline(rectangles(number)[class_id])]


def as_runs(number: int, class_id: int) -> object:
    return encode_runs(draw_label(number) == class_id)


def as_packed_runs(number: int, class_id: int) -> object:
    return {"size": [HEIGHT, WIDTH], "counts": pack(encode_runs(draw_label(number) == class_id)["counts"])}


def pack(counts: Sequence[int]) -> str:
    """Run lengths in COCO's packed text, as pycocotools writes them."""
    text = []
    for position, count in enumerate(counts):
        rest = count - counts[position - 2] if position > 2 else count
        more = True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != -1 if bits & 16 else rest != 0
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)


def coco(numbers: range, segment: Callable[[int, int], object], name: str = "#.png") -> dict[str, object]:
    images = [{"id": n, "file_name": name.replace("#", f"{n:03d}"), "height": HEIGHT, "width": WIDTH} for n in numbers]
    objects = [
        {"id": 10 * n + k, "image_id": n, "category_id": 7 * k, "segmentation": segment(n, k), "bbox": [0, 0, 1, 1]}
        for n in numbers
        for k in (POLYP, TOOL)
    ]
    categories = [{"id": 7, "name": "polyp"}, {"id": 14, "name": "tool"}, {"id": 21, "name": "never seen"}]
    return {"images": images, "annotations": objects, "categories": categories}


def draw_coco(segment: Callable[[int, int], object], name: str = "#.png") -> Callable[[Path], None]:
    def draw(folder: Path) -> None:
        save_images(folder, "images/#.png")
        write_json(folder / "annotations.json", coco(NUMBERS, segment, name))

    return draw


def draw_coco_splits(folder: Path) -> None:
    for split, numbers in (("train", range(1, 6)), ("valid", range(6, 8)), ("test", range(8, 9))):
        save_images(folder, f"{split}/#.png", numbers)
        write_json(folder / split / "_annotations.coco.json", coco(numbers, as_polygon))


def yolo_lines(number: int, box: bool = False) -> str:
    lines = []
    for class_id, corners in rectangles(number).items():
        shares = np.reshape(outline(corners), (-1, 2)) / (WIDTH, HEIGHT)
        numbers = [*shares.mean(axis=0), *np.ptp(shares, axis=0)] if box else shares.ravel()
        lines.append(" ".join(map(str, [class_id - 1, *numbers])))
    return "\n".join(lines) + "\n"


def draw_yolo(folder: Path, box: bool = False) -> None:
    for split, numbers in (("train", range(1, 6)), ("val", range(6, 9))):
        save_images(folder, f"images/{split}/#.png", numbers)
        for number in numbers:
            file = folder / "labels" / split / f"{number:03d}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yolo_lines(number, box))
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: polyp\n  1: tool\n")


def draw_labelme(folder: Path) -> None:
    save_images(folder, "photos/#.png")
    for number in NUMBERS:
        (x0, y0, x1, y1), tool = rectangles(number)[POLYP], rectangles(number)[TOOL]
        polyp = {"label": "polyp", "shape_type": "polygon", "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
        tool = {"label": "tool", "shape_type": "rectangle", "points": [tool[:2], tool[2:]]}
        size = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "imagePath": f"..\\elsewhere\\{number}.png", "imageData": None}
        write_json(folder / "photos" / f"{number:03d}.json", {"version": "5.5.0", "flags": {}, "shapes": [polyp, tool], **size})


def in_colors(number: int, colors: dict[int, tuple[int, int, int]]) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for class_id, color in colors.items():
        pixels[draw_label(number) == class_id] = color
    return pixels


def draw_colors(folder: Path) -> None:
    save_images(folder, "images/#.png")
    for number in NUMBERS:
        save(folder / "masks" / f"{number:03d}.png", in_colors(number, {POLYP: RED, TOOL: GREEN}))
    (folder / "colors.csv").write_text("name,r,g,b\npolyp,255,0,0\ntool,0,255,0\n")


def draw_busi(folder: Path) -> None:
    for kind, numbers in (("benign", range(1, 5)), ("malignant", range(5, 8)), ("normal", range(8, 9))):
        for number in numbers:
            save(folder / kind / f"{kind} ({number}).png", draw_image(number))
            save(folder / kind / f"{kind} ({number})_mask.png", draw_class(POLYP, number) * np.uint8(255))
    save(folder / "benign" / "benign (1)_mask_1.png", draw_class(TOOL, 1) * np.uint8(255))


def busi_label(number: int) -> np.ndarray:
    return (draw_label(number) > 0).astype(np.uint8) if number == 1 else draw_polyp(number)


def draw_knowsam(folder: Path) -> None:
    for split, numbers in (("labeled", range(1, 4)), ("unlabeled", range(4, 7)), ("val", range(7, 9))):
        save_images(folder, f"{split}/image/#.png", numbers)
        for number in numbers:
            save(folder / split / "mask" / f"{number:03d}.png", in_colors(number, {POLYP: (128, 0, 0)}))


def draw_splits(folder: Path) -> None:
    for split, numbers in (("train", range(1, 5)), ("val", range(5, 7)), ("test", range(7, 9))):
        save_images(folder, f"{split}/images/#.png", numbers)
        save_masks(folder, f"{split}/masks/#.png", numbers)


def draw_covid(folder: Path) -> None:
    for part, masks in (("Lung", ("lung",)), ("Infection", ("lung", "infection"))):
        root = folder / f"{part} Segmentation Data" / f"{part} Segmentation Data"
        for split, kind, numbers in (
            ("Train", "COVID-19", range(1, 4)),
            ("Train", "Normal", range(4, 5)),
            ("Val", "COVID-19", range(5, 6)),
            ("Val", "Non-COVID", range(6, 7)),
            ("Test", "COVID-19", range(7, 9)),
        ):
            save_images(root / split / kind, "images/covid_#.png", numbers)
            for mask in masks:
                save_masks(
                    root / split / kind, f"{mask} masks/covid_#.png", numbers, partial(draw_class, POLYP if mask == "lung" else TOOL)
                )


def draw_nnunet(folder: Path, channels: int = 1, suffix: str = "png") -> None:
    for number in NUMBERS:
        part, image = "Tr" if number < 7 else "Ts", draw_image(number)
        parts = [image] if channels == 1 else list(np.moveaxis(image, 2, 0))
        for channel, pixels in enumerate(parts):
            save(folder / f"images{part}" / f"case_{number:03d}_{channel:04d}.{suffix}", pixels)
        if number < 8:
            save(folder / f"labels{part}" / f"case_{number:03d}.{suffix}", draw_label(number))
    about = {"channel_names": {"0": "RGB"}, "labels": {"background": 0, "polyp": 1, "tool": 2}, "file_ending": f".{suffix}"}
    write_json(folder / "dataset.json", about | {"numTraining": 6})


def draw_acdc(folder: Path) -> None:
    (folder / "slices").mkdir(parents=True)
    for number in NUMBERS:
        with h5py.File(folder / "slices" / f"patient{(number + 1) // 2:03d}_frame01_slice_{number}.h5", "w") as file:
            file.create_dataset("image", data=draw_gray(number).astype(np.float32) / 255, compression="gzip")
            file.create_dataset("label", data=draw_label(number), compression="gzip")


def draw_gray(number: int) -> np.ndarray:
    gray = draw_image(number)[..., 0].copy()
    gray[0, :4], gray[1, :4] = 0, 255
    return gray


def gray_image(number: int) -> np.ndarray:
    return np.repeat(draw_gray(number)[..., None], 3, axis=2)


def draw_bcss(folder: Path) -> None:
    save_images(folder, "rgbs/#.png")
    save_masks(folder, "masks/#.png", draw=bcss_codes, white=1)


def bcss_codes(number: int) -> np.ndarray:
    """0 outside of the region that was looked at, 1 tumor, 2 stroma."""
    codes = np.where(draw_label(number) == TOOL, 2, 1).astype(np.uint8)
    codes[:, :3] = 0
    return codes


def bcss_label(number: int) -> np.ndarray:
    codes = bcss_codes(number)
    return np.where(codes == 0, 255, codes)


def draw_nested(folder: Path) -> None:
    draw_splits(folder / "polyps-v2" / "data")
    (folder / "polyps-v2" / ".DS_Store").write_bytes(b"\0")
    save(folder / "__MACOSX" / "polyps-v2" / "a.png", draw_image(1))
    (folder / "Thumbs.db").write_bytes(b"\0")


def draw_unlabeled(folder: Path) -> None:
    save_images(folder, "images/#.png")


def draw_coco_leading_out(folder: Path) -> None:
    draw_coco(as_polygon, "../../../etc/#.png")(folder)


SAMPLES = [
    Sample("pairs", "images/001.png, masks/001.png", pairs("images/#.png", "masks/#.png"), "images --masks masks"),
    Sample("pairs in one folder", "set/images/001.png, set/masks/001.png", pairs("set/images/#.png", "set/masks/#.png"), "set"),
    Sample(
        "pairs with a suffix, as ISIC",
        "input/ISIC_001.png, truth/ISIC_001_segmentation.png",
        pairs("input/ISIC_#.png", "truth/ISIC_#_segmentation.png"),
        "input --masks truth",
    ),
    Sample(
        "pairs with a prefix",
        "images/image_001.png, masks/mask_001.png",
        pairs("images/image_#.png", "masks/mask_#.png"),
        "images --masks masks",
    ),
    Sample("several folders of images", "labeled/001.png, more/006.png, masks/001.png", draw_two_folders, "labeled more --masks masks"),
    Sample("masks in other folders than images", "images/a/001.png, labels/001.png", draw_elsewhere, "images --masks labels"),
    Sample(
        "masks per class",
        "images/001.png, masks/polyp/001.png, masks/tool/001.png",
        draw_class_folders,
        "images --masks masks",
        draw_label,
    ),
    Sample(
        "masks in folders, classes or not",
        "images/001.png, masks/benign/001.png, masks/malignant/005.png",
        draw_exclusive_folders,
        "images --masks masks",
        None,
    ),
    Sample(
        "the same, said",
        "images/001.png, masks/benign/001.png, masks/malignant/005.png",
        draw_exclusive_folders,
        "images --masks masks --layout pairs",
    ),
    Sample("COCO, polygons", "images/001.png, annotations.json", draw_coco(as_polygon), "images --masks annotations.json", draw_label),
    Sample("COCO, run lengths", "images/001.png, annotations.json", draw_coco(as_runs), ".", draw_label),
    Sample("COCO, packed run lengths", "images/001.png, annotations.json", draw_coco(as_packed_runs), ".", draw_label),
    Sample("COCO, a file for each split", "train/001.png, train/_annotations.coco.json, valid/...", draw_coco_splits, ".", draw_label),
    Sample("COCO, boxes alone", "images/001.png, annotations.json", draw_coco(lambda number, class_id: []), ".", None),
    Sample("COCO, names that lead out", "images/001.png, annotations.json", draw_coco_leading_out, ".", None),
    Sample("YOLO", "images/train/001.png, labels/train/001.txt, data.yaml", draw_yolo, ".", draw_label),
    Sample("YOLO, boxes alone", "images/train/001.png, labels/train/001.txt, data.yaml", partial(draw_yolo, box=True), ".", None),
    Sample("LabelMe", "photos/001.png, photos/001.json", draw_labelme, "photos", draw_label),
    Sample(
        "masks in colors",
        "images/001.png, masks/001.png, colors.csv",
        draw_colors,
        "images --masks masks --color-map colors.csv",
        draw_label,
    ),
    Sample("the same, colors not said", "images/001.png, masks/001.png", draw_colors, "images --masks masks", None),
    Sample("BUSI", "benign/benign (1).png, benign/benign (1)_mask.png, benign/benign (1)_mask_1.png", draw_busi, ".", busi_label),
    Sample("KnowSAM, masks of one color", "labeled/image/001.png, labeled/mask/001.png, unlabeled/..., val/...", draw_knowsam, "."),
    Sample("train, val, test", "train/images/001.png, train/masks/001.png, val/..., test/...", draw_splits, "."),
    Sample(
        "COVID-QU-Ex",
        "Lung Segmentation Data/.../Train/COVID-19/images/covid_001.png",
        draw_covid,
        ". --target lung",
    ),
    Sample(
        "COVID-QU-Ex, infections",
        "Infection Segmentation Data/.../Train/COVID-19/images/covid_001.png",
        draw_covid,
        ". --target infection",
        partial(draw_class, TOOL),
    ),
    Sample("COVID-QU-Ex, target not said", "Lung Segmentation Data/..., Infection Segmentation Data/...", draw_covid, ".", None),
    Sample(
        "nnU-Net",
        "dataset.json, imagesTr/case_001_0000.png, labelsTr/case_001.png, imagesTs/..., labelsTs/...",
        draw_nnunet,
        ".",
        draw_label,
    ),
    Sample(
        "nnU-Net, TIFF",
        "dataset.json, imagesTr/case_001_0000.tif, labelsTr/case_001.tif",
        partial(draw_nnunet, suffix="tif"),
        ".",
        draw_label,
    ),
    Sample(
        "nnU-Net, a file for each channel",
        "dataset.json, imagesTr/case_001_0000.png, imagesTr/case_001_0001.png, labelsTr/case_001.png",
        partial(draw_nnunet, channels=3),
        ".",
        draw_label,
    ),
    Sample("ACDC of SSL4MIS", "slices/patient001_frame01_slice_1.h5", draw_acdc, ".", draw_label, gray_image),
    Sample(
        "BCSS tiles, a code for what was not looked at",
        "rgbs/001.png, masks/001.png",
        draw_bcss,
        "rgbs --masks masks --ignore-value 0 --classes tumor,stroma",
        bcss_label,
    ),
    Sample("in two more folders, beside what systems leave there", "polyps-v2/data/train/..., __MACOSX/..., Thumbs.db", draw_nested, "."),
    Sample("no masks", "images/001.png", draw_unlabeled, "images", None),
]
