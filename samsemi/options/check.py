"""The options of ``check``."""

from dataclasses import dataclass
from typing import ClassVar

from samsemi.options.fields import Options
from samsemi.options.shared import Dataset


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Name every problem of a data set at once, and what was found in it."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi check data",
        "samsemi check data --json > findings.json",
    )

    dataset: Dataset
