"""The table of SAMs: for each name its loader, its architecture and how it is fed. Needs no torch, so that help can list it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from samsemi.errors import UsageError

Masks = Literal["auto", "single", "best-of-three"]
"""Which of SAM's masks of a prompt is taken: its single one; of its other three the one with the highest predicted IoU; or, by ``auto``,
that of three for a lone point, which may mean several objects, and the single one for every other prompt."""


@dataclass(frozen=True)
class SamEntry:
    """A SAM that ``--sam`` knows by name. What needs torch stands as 'module:name' and is imported when it is needed."""

    name: str
    loader: str
    """A function (this entry, checkpoint or None, device, precision) -> SamBackend."""
    architecture: str | None = None
    """A function that builds its network with random weights; None for what has no weights."""
    weights: Path | None = None
    """Its weights, where they are in the package."""
    preprocessing: str = "samsemi.sam.preprocessing:LONGEST_SIDE"
    """How images become its input."""
    multimask: bool = True
    """Whether it gives three masks for a prompt besides the single one."""
    masks: Masks = "auto"
    """Which of them ``mine`` and ``adapt`` take by default."""
    zoom: float = 0.0
    """Times the box: the window that ``mine`` shows by default, as far as that is small; 0 for the whole image."""
    prompt_kinds: str | None = None
    """The kinds of prompt that it always takes; None for those that the user chooses."""


ORIGINAL = "samsemi.sam.original:load_original"
ZOOM = 1.5
"""Of `tiny`, and of the baselines that it is compared with."""
VIT_B = "segment_anything:build_sam_vit_b"
SAMS: dict[str, SamEntry] = {
    entry.name: entry
    for entry in (
        SamEntry(
            "tiny", ORIGINAL, "samsemi.sam.tiny:build_tiny", weights=Path(__file__).parents[1] / "sam" / "tiny.safetensors", zoom=ZOOM
        ),
        SamEntry("vit_b", ORIGINAL, VIT_B),
        SamEntry("vit_l", ORIGINAL, "segment_anything:build_sam_vit_l"),
        SamEntry("vit_h", ORIGINAL, "segment_anything:build_sam_vit_h"),
        SamEntry("medsam", ORIGINAL, VIT_B, preprocessing="samsemi.sam.preprocessing:SQUARE", multimask=False, prompt_kinds="box"),
        SamEntry("none", "samsemi.sam.baselines:load_none", multimask=False, prompt_kinds="box+mask", zoom=ZOOM),
        SamEntry("ellipse", "samsemi.sam.baselines:load_ellipse", multimask=False, prompt_kinds="box", zoom=ZOOM),
    )
}
NETWORKS = tuple(name for name, entry in SAMS.items() if entry.architecture)
"""Names of the SAMs that are networks and so can be trained."""

DISTILLED = "distilled:"
"""What the name of a KnowSAM's SAM begins with; the run of `samsemi distill` follows."""


HF = "hf:"
"""What the name of a SAM of transformers begins with; a folder follows, or OWNER/NAME of one on the hub."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PLACED = (DISTILLED, HF)
"""SAMs whose name says where they lie: it may change, their weights may not."""


def find_entry(name: str) -> SamEntry | None:
    """The SAM of a name, None for one that is not known; of 'distilled:RUN' and 'hf:FOLDER' the place is in the name of the entry."""
    if name.startswith(DISTILLED):
        return SamEntry(name, "samsemi.knowsam.distilled:load_distilled", multimask=False, prompt_kinds="box+mask")
    if name.startswith(HF):
        return SamEntry(name, "samsemi.sam.hf:load_hf")
    return SAMS.get(name)


def names_code(value: object) -> bool:
    """Whether a value of --sam or --stream is 'module:function', code that is imported and called."""
    return isinstance(value, str) and ":" in value and not value.startswith(PLACED)


def hf_folder(name: str) -> Path | None:
    """The folder of 'hf:FOLDER'; None where there is no such folder."""
    place = name.removeprefix(HF)
    return folder if place and (folder := Path(place).expanduser()).is_dir() else None


def names_hub(value: object) -> bool:
    """Whether a value of --sam is 'hf:OWNER/NAME', which may have to be downloaded: no folder is there."""
    if not isinstance(value, str) or not value.startswith(HF):
        return False
    return bool(HUB_ID.fullmatch(value.removeprefix(HF))) and hf_folder(value) is None


def find_function(place: str, given: str) -> Callable:
    """The function of 'module:function'; UsageError, beginning with what was given, where there is none."""
    module, _, function = place.partition(":")
    try:
        return getattr(import_module(module), function)
    except Exception as error:  # whatever goes wrong in code of the user's own
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UsageError(f"{given}: {reason}", "give MODULE:FUNCTION, importable; PYTHONPATH=. finds one in this folder") from None
