"""Whether the masks of a data set have anything to learn from, or to choose by."""

from contextlib import suppress

from samsemi.data.dataset import IGNORE, Case, Dataset, need_cases, read_case_label
from samsemi.errors import DataError, NothingUsable


def need_objects(dataset: Dataset, split: str) -> list[Case]:
    """The cases of a split to train with; NothingUsable where no mask shows a class. Reads masks until one does."""
    cases = need_cases(dataset, split)
    if not any(shows_class(case, len(dataset.classes)) for case in cases):
        raise NothingUsable(
            f"{dataset.folder}: none of {len(cases)} {split} masks shows a class",
            "give `samsemi prepare` larger shares, another --seed, or --split",
        )
    return cases


def shows_class(case: Case, num_classes: int) -> bool:
    """Whether a pixel of its mask is of a class above background; a mask that cannot be read is left to whoever reads them all."""
    with suppress(DataError):
        label = read_case_label(case, case.mask, num_classes)
        return bool(((label > 0) & (label != IGNORE)).any())
    return False
