"""The scores of a mined object, in one table: a row here is a column of the store, a threshold, and a reason to reject.

A new score is a row, its values in ``samsemi.mining.pseudolabels.score_masks`` and the option ``min_NAME`` in
``samsemi.options.shared``. Needs no torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """(N,) float32 numbers, one per object; greater is better."""

    name: str
    """Also the reason of an object that is rejected for it, and the rest of its option's name, --min-NAME."""
    meaning: str
    least: float
    """The default of what an object must reach; chosen on validation cases of Kvasir-SEG."""
    column: int
    """Place among the columns of the store."""


SCORES = (
    Score("confidence", "the U-Net++'s mean probability in the object that prompted", 0.7, 4),
    Score("predicted_iou", "IoU of SAM's mask with the truth, as SAM predicts it", 0.5, 0),
    Score("stability", "IoU of the mask cut 1 logit higher and 1 lower; 0 for an empty mask", 0.0, 1),
    Score("agreement", "IoU of SAM's mask with the object that prompted", 0.5, 2),
    Score("consensus", "mean IoU of the masks of the alternative prompts with their mean; 1 where there was only one", 0.0, 3),
    Score("area_ratio", "of the areas of SAM's mask and of the object that prompted, the smaller over the larger", 0.0, 5),
    Score("ensemble", "mean IoU of the object in the mean map of several models with theirs; 1 where there is one model", 0.0, 6),
)
"""In the order in which they are tested, and in which a calibration weighs them; a new one stands last, where calibrations of before
it do not weigh it."""
THRESHOLDS = tuple(score.name for score in SCORES)
COLUMNS = tuple(score.name for score in sorted(SCORES, key=lambda score: score.column))
"""In the order of the store's columns."""
REASONS = ("accepted", "empty", *THRESHOLDS, "quality", "background")
"""Why an object is accepted or, by the first test that it fails, rejected; whatever that is, one that is confidently none is background."""
