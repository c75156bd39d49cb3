"""The options of ``weights list``, ``weights fetch`` and ``weights verify``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from samsemi.errors import UsageError
from samsemi.options.fields import Field, Options
from samsemi.options.shared import OutputOptions

Folder = Annotated[
    Path | None,
    Field("Input", "Folder of the weights; default: SAMSEMI_WEIGHTS, or the user's cache.", metavar="DIR", reads=True),
]


@dataclass(frozen=True, kw_only=True)
class ListWeightsOptions(Options):
    """Published weights that are known: license, size, hash, and which are here."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi weights list",
        "samsemi weights list --json",
    )

    dir: Folder = None


@dataclass(frozen=True, kw_only=True)
class FetchWeightsOptions(OutputOptions):
    """Download weights by name, verify them and keep them."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi weights fetch vit_b",
        "samsemi weights fetch encoder:resnet34 --dir weights",
    )

    interrupted: ClassVar[str] = "what was downloaded is kept, the same command goes on from there"

    name: Annotated[str, Field("Input", "A name of `samsemi weights list`, or encoder:NAME.", argument=True, metavar="NAME")]
    sha256: Annotated[
        str | None, Field("Input", "What the file has to have, where the list has none; from a source of yours.", metavar="HEX")
    ] = None
    dir: Folder = None

    def __post_init__(self):
        super().__post_init__()
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise UsageError(f"--sha256 {self.sha256:.80}: no SHA-256", "give 64 digits 0 to 9, a to f")


@dataclass(frozen=True, kw_only=True)
class VerifyWeightsOptions(Options):
    """Whether weights are what they should be: a file, those of a name, or all that were fetched."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi weights verify",
        "samsemi weights verify vit_b",
    )

    what: Annotated[str | None, Field("Input", "File, or a name of `samsemi weights list`.", argument=True, metavar="FILE|NAME")] = None
    dir: Folder = None
