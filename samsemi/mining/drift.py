"""Whether mining again makes things worse: coverage that shrinks, labels that flip."""

import logging

import numpy as np

from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import accepted_ids, mined_label
from samsemi.mining.store import Store

LOG = logging.getLogger("samsemi")
LOST = 0.2
"""Share of the usable images that may be lost."""
FLIPPED = 0.5
"""Share of the pixels in objects that may change their class."""
SAMPLED = 100
"""Images whose labels are compared."""


def measure_drift(before: Store, policy_before: Policy, after: Store, policy_after: Policy, num_classes: int) -> dict[str, float]:
    """``coverage`` and ``coverage_before``: share of images with an accepted object. ``flips``: of the pixels that either label
    counts to an object, the share that the two label differently, over up to SAMPLED images that both accept."""
    usable, earlier = accepted_ids(after, policy_after), set(accepted_ids(before, policy_before))
    common = [name for name in usable if name in earlier]
    differing = covered = 0
    for i in np.unique(np.linspace(0, len(common) - 1, min(SAMPLED, len(common)), dtype=int)) if common else []:
        old, new = (mined_label(s.read(common[i]), p, num_classes) for s, p in ((before, policy_before), (after, policy_after)))
        differing += int((old != new).sum())
        covered += int(((old > 0) | (new > 0)).sum())
    images = max(1, len(after.ids))
    return {"coverage": len(usable) / images, "coverage_before": len(earlier) / images, "flips": differing / max(1, covered)}


def warn_of_drift(found: dict[str, float], when: str) -> None:
    """Warn where coverage shrinks or labels flip more than they should."""
    if found["coverage"] < (1 - LOST) * found["coverage_before"]:
        LOG.warning(f"{when}: only {found['coverage']:.0%} of the images have an accepted label, {found['coverage_before']:.0%} had before")
    if found["flips"] > FLIPPED:
        LOG.warning(f"{when}: {found['flips']:.0%} of the labeled pixels changed; the labels drift, fewer minings may be better")
