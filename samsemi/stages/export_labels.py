"""``samsemi export-labels``: the accepted pseudo-labels of a store, for other programs."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from samsemi import console
from samsemi.data.coco import make_categories
from samsemi.data.dataset import IGNORE, Dataset, read_dataset
from samsemi.data.masks import write_mask
from samsemi.errors import NothingUsable
from samsemi.folders import Claim, Kind, new_folder
from samsemi.inputs import hash_file
from samsemi.mining.annotations import annotate_objects
from samsemi.mining.miner import open_store, store_policy
from samsemi.mining.policy import Policy, decide, numbers
from samsemi.mining.pseudolabels import accepted_ids, mined_label, weighed_target
from samsemi.mining.store import Mined, Store
from samsemi.options.export_labels import ExportLabelsOptions
from samsemi.outputs import write_text

SCHEMA = "samsemi.labels/1"
ABOUT = "labels.json"
"""What the labels are made from. Also the mark by which their folder is known."""
COCO = "coco.json"
LABELS = Kind("exported labels", (ABOUT,), r"(labels|coco)\.json|[^/]+\.png")


def export_labels(options: ExportLabelsOptions) -> dict[str, object]:
    """Write the labels of every image with an accepted object, at its own size; NothingUsable where there is none."""
    dataset = read_dataset(options.dataset) if options.dataset else None
    with new_folder(Claim.of(options.out, LABELS, options)) as out:
        store = open_store(options.store, dataset) if dataset else Store(options.store)
        policy = store_policy(store, options)
        names = accepted_ids(store, policy)
        if not names:
            raise NothingUsable(
                f"{options.store}: no pseudo-label is accepted", "give lower --min-..., or mine with a model trained longer"
            )
        classes = dataset.classes if dataset else number_classes(store)
        if options.format == "png":
            found = write_masks(out, store, names, policy, classes, options.ignore_below)
        else:
            assert dataset, "ExportLabelsOptions refuses coco without a data set"
            found = write_coco(out, store, names, policy, dataset)
        counts: dict[str, object] = {"format": options.format, "images": len(names), "left_out": len(store.ids) - len(names)}
        about = {"schema": SCHEMA, **counts, "classes": classes, "ignore_below": options.ignore_below}
        about |= {"policy": numbers(policy), "made_from": {**store.provenance.made_from, "store_content": hash_file(store.path)}}
        write_text(out / ABOUT, json.dumps(about, indent=2) + "\n")
    return {"labels": str(options.out), **counts, **found}


def number_classes(store: Store) -> tuple[str, ...]:
    """Names of the classes up to the highest in a store, which keeps no names."""
    return ("background", *(f"class{k}" for k in range(1, int(store.objects["class_id"].max()) + 1)))


def read_each(store: Store, names: Sequence[str]) -> Iterator[tuple[str, Mined]]:
    """The objects of some images, one image at a time, with progress."""
    with console.progress("export labels", len(names)) as advance:
        for name in names:
            yield name, store.read(name)
            advance()


def write_masks(
    out: Path, store: Store, names: Sequence[str], policy: Policy, classes: Sequence[str], ignore_below: float
) -> dict[str, object]:
    """ID.png of every image; how its pixels are shared out to classes."""
    counts = np.zeros(256, dtype=np.int64)
    for name, mined in read_each(store, names):
        label = weighed_label(mined, policy, len(classes), ignore_below)
        counts += np.bincount(label.ravel(), minlength=256)
        write_mask(out / f"{name}.png", label)
    shares = counts / counts.sum()
    return {
        "class_pixel_share": {name: float(share) for name, share in zip(classes, shares, strict=False)},
        "ignored_pixel_share": float(shares[IGNORE]),
    }


def weighed_label(mined: Mined, policy: Policy, num_classes: int, ignore_below: float) -> np.ndarray:
    """(H, W) uint8 classes of the accepted objects, IGNORE where a pixel of the pseudo-label weighs less than ``ignore_below``."""
    label = mined_label(mined, policy, num_classes)
    _, weight = weighed_target(mined, policy, num_classes, mined.image_size)
    return np.where(weight < ignore_below, np.uint8(IGNORE), label)


def write_coco(out: Path, store: Store, names: Sequence[str], policy: Policy, dataset: Dataset) -> dict[str, object]:
    """coco.json of all images; how many objects of each class it has, and how many masks vanish at the size of their image."""
    files = [dataset.cases[name].image.resolve() for name in names]
    root = Path(os.path.commonpath([file.parent for file in files]))
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    vanished = 0
    for number, ((name, mined), file) in enumerate(zip(read_each(store, names), files, strict=True), start=1):
        height, width = mined.image_size
        images.append({"id": number, "file_name": file.relative_to(root).as_posix(), "height": height, "width": width, "case": name})
        rows = np.flatnonzero(decide(mined, policy) == 0).tolist()
        found = annotate_objects(mined, policy, len(dataset.classes), rows, number, len(annotations) + 1)
        vanished += len(rows) - len(found)
        annotations += found
    info = {"description": f"pseudo-labels of {dataset.name}, made by samsemi", "image_folder": str(root)}
    coco = {"info": info, "images": images, "annotations": annotations, "categories": make_categories(dataset.classes)}
    write_text(out / COCO, json.dumps(coco) + "\n")
    by_class = {name: sum(a["category_id"] == k for a in annotations) for k, name in enumerate(dataset.classes) if k}
    return {"objects": len(annotations), "by_class": by_class, "vanished": vanished}
