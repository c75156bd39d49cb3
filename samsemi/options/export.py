"""The options of ``export``."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar

from samsemi.errors import UsageError
from samsemi.options.fields import Field
from samsemi.options.shared import AnyRun, OutputOptions
from samsemi.remedies import install

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class ExportOptions(OutputOptions):
    """Write a network as an ONNX file, which needs neither samsemi nor torch, and compare it with the network."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi export --model mined --out model.onnx",
        "samsemi export --model mined --dataset data --images 100 --out model.onnx",
    )

    model: AnyRun
    out: Annotated[Path, Field("Input", "File to write (.onnx).", metavar="FILE")]
    dataset: Annotated[
        Path | None,
        Field(
            "Input", "Data set, on whose images the file is compared with the network; default: drawn images.", metavar="DIR", reads=True
        ),
    ] = None
    images: Annotated[int, Field("Run", "Images on which it is compared.", min=2, max=10_000)] = 16

    def __post_init__(self):
        super().__post_init__()
        missing = [name for name in LIBRARIES if find_spec(name) is None]
        if missing:
            raise UsageError(
                f"export needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed", f"run: {install('onnx')}"
            )
