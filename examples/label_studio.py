"""Cases of `samsemi mine --review` in Label Studio, and back. Needs the package label-studio-sdk.

    python examples/label_studio.py tasks REVIEW > tasks.json        to import: the images, with the proposed masks
    python examples/label_studio.py masks REVIEW export.json OUT     of its JSON export: OUT/ID.png, class indices

Then `samsemi prepare DATASET --labels REVIEW --masks OUT --out DATASET2`. Label Studio's labeling configuration has
<Image name="image" value="$image"/> and <BrushLabels name="brush" toName="image"> with the names of the classes; images are
served from its local files, below REVIEW.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from PIL import Image

PLACE = "/data/local-files/?d=images/"


def main(command: str, review: str, *rest: str) -> None:
    classes = json.loads((Path(review) / "review.json").read_text(encoding="utf-8"))["classes"]
    if command == "tasks":
        print(json.dumps([make_task(path, classes) for path in sorted((Path(review) / "masks").glob("*.png"))]))
        return
    export, out = map(Path, rest)
    out.mkdir(parents=True, exist_ok=True)
    for name, label in read_masks(json.loads(export.read_text(encoding="utf-8")), classes):
        Image.fromarray(label).save(out / f"{name}.png")


def make_task(path: Path, classes: list[str]) -> dict:
    """An image with the proposed mask of each class that it shows."""
    with Image.open(path) as picture:
        label = np.array(picture)
    results = [make_result(label == k, k, classes[k]) for k in range(1, len(classes)) if (label == k).any()]
    return {"data": {"image": PLACE + quote(path.name)}, "predictions": [{"model_version": "samsemi", "result": results}]}


def make_result(mask: np.ndarray, number: int, name: str) -> dict:
    height, width = mask.shape
    value = {"format": "rle", "rle": mask2rle(np.uint8(mask) * 255), "brushlabels": [name]}
    places = {"from_name": "brush", "to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    return {"id": f"class{number}", "type": "brushlabels", "value": value, **places}


def read_masks(tasks: list[dict], classes: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Id and (H, W) uint8 class indices of each task that somebody has submitted, by its last annotation; smaller objects lie on top."""
    for task in tasks:
        done = [annotation for annotation in task.get("annotations", ()) if not annotation.get("was_cancelled")]
        if not done:
            continue
        name = PurePosixPath(unquote(task["data"]["image"])).stem
        regions = [region for region in done[-1]["result"] if region["type"] == "brushlabels"]
        if not regions:
            raise SystemExit(f"{name}: nothing is drawn, so its size is not known; write an empty mask yourself")
        masks = [(read_region(region), classes.index(region["value"]["brushlabels"][0])) for region in regions]
        label = np.zeros(masks[0][0].shape, np.uint8)
        for mask, class_id in sorted(masks, key=lambda pair: -pair[0].sum()):
            label[mask] = class_id
        yield name, label


def read_region(region: dict) -> np.ndarray:
    """(H, W) bool: where the brush was; Label Studio keeps it as the opacity of RGBA."""
    shape = region["original_height"], region["original_width"], 4
    return np.reshape(decode_rle(region["value"]["rle"]), shape)[..., 3] >= 128


if __name__ == "__main__":
    main(*sys.argv[1:])
