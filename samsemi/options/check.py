"""The options of ``check``."""

from dataclasses import dataclass

from samsemi.options.fields import Options
from samsemi.options.shared import Dataset


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Name every problem of a data set at once, and what was found in it."""

    dataset: Dataset
