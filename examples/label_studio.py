"""Tasks for Label Studio of the cases that `samsemi mine --review` wrote: python examples/label_studio.py REVIEW > tasks.json

Needs the package label-studio-sdk. Label Studio's labeling configuration has <Image name="image" value="$image"/> and
<BrushLabels name="brush" toName="image"> with the names of the classes; images are served from its local files, below REVIEW.
"""

import json
import sys
from pathlib import Path

import numpy as np
from label_studio_sdk.converter.brush import mask2rle
from PIL import Image

PLACE = "/data/local-files/?d=images/"


def main() -> None:
    review = Path(sys.argv[1])
    classes = json.loads((review / "review.json").read_text(encoding="utf-8"))["classes"]
    print(json.dumps([make_task(path, classes) for path in sorted((review / "masks").glob("*.png"))]))


def make_task(path: Path, classes: list[str]) -> dict:
    """An image with the proposed mask of each class that it shows."""
    with Image.open(path) as picture:
        label = np.array(picture)
    shown = [k for k in range(1, len(classes)) if (label == k).any()]
    results = [make_result(label == k, classes[k]) for k in shown]
    return {"data": {"image": PLACE + path.name}, "predictions": [{"model_version": "samsemi", "result": results}]}


def make_result(mask: np.ndarray, name: str) -> dict:
    height, width = mask.shape
    value = {"format": "rle", "rle": mask2rle(np.uint8(mask) * 255), "brushlabels": [name]}
    places = {"from_name": "brush", "to_name": "image", "original_width": width, "original_height": height}
    return {"id": name, "type": "brushlabels", "value": value, **places}


if __name__ == "__main__":
    main()
