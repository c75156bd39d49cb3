"""What stands in a store in numbers: what is accepted of it, why the rest is not, by class. Needs no torch."""

from collections.abc import Sequence

import numpy as np

from samsemi.mining.policy import Policy, decide
from samsemi.mining.scores import REASONS
from samsemi.mining.store import Store


def find_reasons(store: Store, policy: Policy) -> np.ndarray:
    """(N,) index into REASONS of each object of a store."""
    return decide(store.read_scores(), policy)


def count_reasons(reasons: np.ndarray) -> dict[str, int]:
    """How many objects are rejected for each reason that occurs."""
    counts = np.bincount(reasons, minlength=len(REASONS))
    return {reason: int(count) for reason, count in zip(REASONS[1:], counts[1:], strict=True) if count}


def summarize_store(store: Store, reasons: np.ndarray) -> dict[str, object]:
    """Counts of a store: images, objects, what is accepted and why the rest is not, by the reasons of its objects."""
    return {
        "images": len(store.ids),
        "nothing_found": int((store.images["readable"] & (store.images["num_objects"] == 0)).sum()),
        "unreadable": int((~store.images["readable"]).sum()),
        "objects": len(store.objects),
        "accepted": int((reasons == 0).sum()),
        "accepted_images": len(np.unique(store.objects["image"][reasons == 0])),
        "rejected": count_reasons(reasons),
    }


def summarize_classes(store: Store, reasons: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of each class but the background: its objects, how many are accepted and rejected, and in how many images one is accepted."""
    found = {}
    for class_id, name in enumerate(classes[1:], start=1):
        own = store.objects["class_id"] == class_id
        kept = own & (reasons == 0)
        images = len(np.unique(store.objects["image"][kept]))
        found[name] = {"objects": int(own.sum()), "accepted": int(kept.sum()), "rejected": int((own & ~kept).sum()), "images": images}
    return found
