"""The options of ``info``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from samsemi.errors import UsageError
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
    card: Annotated[
        bool, Field("Input", "Print the card of a run, an adapted SAM or a store, Markdown: what, from what, how good, limits, licenses.")
    ] = False

    def __post_init__(self):
        super().__post_init__()
        if self.card and self.path is None:
            raise UsageError("--card: no PATH is given", "give a run, SAM weights that were adapted, or a store")
