"""Objects as a COCO file: https://cocodataset.org/#format-data. Masks are uncompressed run lengths, which are exact."""

from collections.abc import Mapping, Sequence

import numpy as np


def encode_runs(mask: np.ndarray) -> dict[str, list[int]]:
    """(H, W) bool -> {"size": [H, W], "counts": lengths of runs down the columns, the first of background, 0 where there is none}."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat, prepend=False, append=~flat[-1:]))
    return {"size": [*mask.shape], "counts": np.diff(ends, prepend=0).tolist()}


def box_of(mask: np.ndarray) -> list[int]:
    """x, y, width and height in pixels of what is True in (H, W) bool, which must not be empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def make_annotation(mask: np.ndarray, number: int, image: int, class_id: int, scores: Mapping[str, float]) -> dict[str, object]:
    """One object by its (H, W) bool mask, which must not be empty."""
    place = {"id": number, "image_id": image, "category_id": class_id, "iscrowd": 0}
    return {**place, "bbox": box_of(mask), "area": int(mask.sum()), "segmentation": encode_runs(mask), **scores}


def make_categories(classes: Sequence[str]) -> list[dict[str, object]]:
    """The classes but the background, by their index."""
    return [{"id": class_id, "name": name} for class_id, name in enumerate(classes) if class_id]


def unpack_runs(text: str) -> list[int]:
    """The run lengths in COCO's packed text: six bits a character from '0' on, of which the sixth says that there are more and the fifth
    is the sign at the end, from the third on as the difference to the length two before; ValueError where that cannot be.

    Source: https://github.com/cocodataset/cocoapi, common/maskApi.c, rleFrString.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("no packed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("packed run lengths that end too soon")
    return counts
