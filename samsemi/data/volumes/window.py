"""From voxels to the 8 bits of a picture: what is shown black, and what white."""

import numpy as np

from samsemi.data.pictures import TRIMMED
from samsemi.data.volumes.volume import Volume
from samsemi.errors import UsageError

Window = tuple[float, float]
"""Values that are shown black and white; what lies beyond is cut."""
NAMED: dict[str, Window] = {"lung": (-1350, 150), "soft": (-160, 240), "bone": (-500, 1300), "brain": (0, 80), "liver": (-45, 105)}
"""Of CT, in Hounsfield units: centers -600, 40, 400, 40, 30, widths 1500, 400, 1800, 80, 150."""
SAMPLED = 2**22
"""Voxels of which a percentile is taken, evenly spread."""


def parse_window(text: str) -> Window | None:
    """'-160,240' or a name of NAMED -> low, high; None for 'auto'; UsageError for anything else."""
    if text == "auto":
        return None
    if text in NAMED:
        return NAMED[text]
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = float("nan")
    if not low < high or not np.isfinite([low, high]).all():
        raise UsageError(f"--window {text}: no such window", f"give auto, LOW,HIGH such as -160,240, or {', '.join(NAMED)}")
    return low, high


def choose_window(volume: Volume, wanted: Window | None) -> Window:
    """The wanted window, else the volume's own, else its range without the ``TRIMMED`` share at either end; 8 bits are kept."""
    if volume.voxels.dtype == np.uint8 and not wanted:
        return 0, 255
    if wanted or volume.window:
        return wanted or volume.window  # type: ignore[return-value]
    voxels = volume.voxels
    sampled = voxels.flat[:: max(1, voxels.size // SAMPLED)].astype(np.float32)
    cut = int(TRIMMED * sampled.size)
    ends = np.partition(sampled, (cut, sampled.size - 1 - cut))
    low, high = float(ends[cut]), float(ends[sampled.size - 1 - cut])
    return (low, high) if low < high else (float(voxels.min()), float(voxels.max()))


def show_slice(volume: Volume, index: int, window: Window) -> np.ndarray:
    """One slice as (H, W, 3) uint8."""
    values = volume.voxels[index]
    if values.ndim == 3:
        return values
    low, high = window
    if values.dtype == np.uint8 and window == (0, 255):
        gray = values
    else:
        gray = np.rint((values.astype(np.float32).clip(low, high) - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    return np.repeat((255 - gray if volume.inverted else gray)[..., None], 3, axis=2)
