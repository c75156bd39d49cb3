"""Mined objects as annotations of a COCO file, with their scores."""

from collections.abc import Iterable, Mapping
from typing import Any

from samsemi.data.coco import make_annotation
from samsemi.mining.composition import network_map, object_mask
from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import trust
from samsemi.mining.scores import THRESHOLDS
from samsemi.mining.store import Mined


def annotate_objects(
    mined: Mined, policy: Policy, num_classes: int, rows: Iterable[int], image: int, first: int
) -> list[dict[str, object]]:
    """The objects with the numbers ``rows`` of the image with the number ``image``, as they would be learned alone; the first gets the
    number ``first``. What vanishes at the size of the image is left out."""
    network = network_map(mined, num_classes, mined.image_size)
    found: list[dict[str, object]] = []
    for i in rows:
        mask = object_mask(mined, i, network, policy.sam_share)
        if mask.any():
            found.append(make_annotation(mask, first + len(found), image, int(mined.class_id[i]), scores_of(mined, policy, i)))
    return found


def scores_of(mined: Mined, policy: Policy, i: int) -> dict[str, float]:
    """``score``, the trust in an object, and the scores that the store has of it."""
    found: Mapping[str, Any] = {"score": trust(mined, policy), **{name: getattr(mined, name) for name in THRESHOLDS}}
    return {name: round(float(values[i]), 4) for name, values in found.items()}
