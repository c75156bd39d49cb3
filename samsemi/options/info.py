"""The options of ``info``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from samsemi.options.fields import Field, Options


@dataclass(frozen=True, kw_only=True)
class InfoOptions(Options):
    """What a data set, run, SAM or store is, from what, how good; alone: versions, for a bug report."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi info",
        "samsemi info mined",
    )

    path: Annotated[
        Path | None,
        Field(
            "Input",
            "Data set, run, store, SAM weights, cache, evaluation, finished or not; or a folder that holds some.",
            argument=True,
            metavar="PATH",
            reads=True,
        ),
    ] = None
