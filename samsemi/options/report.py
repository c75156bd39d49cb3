"""The options of ``report``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from samsemi.options.fields import Field
from samsemi.options.shared import DeviceOptions, OutputOptions


@dataclass(frozen=True, kw_only=True)
class ReportOptions(OutputOptions, DeviceOptions):
    """One page of pictures, curves and tables on evaluations, runs and stores; opens without a network."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi report eval-warm eval-mined --out report.html",
        "samsemi report sam.h5 --out mined.html",
    )

    evals: Annotated[
        tuple[Path, ...],
        Field(
            "Input",
            "Folders of `samsemi eval`, the last against each other one; ARM=EVAL: all of one ARM are its seeds; or stores alone.",
            argument=True,
            metavar="EVAL",
            reads=True,
        ),
    ]
    out: Annotated[Path, Field("Input", "Page to write (HTML).", metavar="FILE")]
    store: Annotated[
        tuple[Path, ...],
        Field("Input", "Pseudo-label store; repeated for several; default: those that the runs learned from.", metavar="FILE", reads=True),
    ] = ()
    model: Annotated[
        tuple[Path, ...],
        Field("Input", "Run to show and to predict with; repeated for several; default: those of the evals.", metavar="DIR", reads=True),
    ] = ()
    dataset: Annotated[
        Path | None,
        Field("Input", "Data set of the pictures; default: that of the evals and runs, or one beside them.", metavar="DIR", reads=True),
    ] = None
    cases: Annotated[int, Field("Run", "Pictured cases in all.", min=0, max=1000)] = 24
    seed: Annotated[int, Field("Run", "Seed of the bootstrap.", min=0)] = 0
