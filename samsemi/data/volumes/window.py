"""From voxels to the 8 bits of a picture: what is shown black, and what white."""

import numpy as np

from samsemi.data.pictures import stretch, trimmed_range
from samsemi.data.volumes.volume import Volume
from samsemi.options.window import Window

SAMPLED = 2**22
"""Voxels of which a percentile is taken, evenly spread."""


def choose_window(volume: Volume, wanted: Window | None) -> Window:
    """The wanted window, else the volume's own, else its range without the ``TRIMMED`` share at either end; 8 bits are kept."""
    if volume.voxels.dtype == np.uint8 and not wanted:
        return 0, 255
    if wanted or volume.window:
        return wanted or volume.window  # type: ignore[return-value]
    voxels = volume.voxels
    low, high = trimmed_range(voxels.flat[:: max(1, voxels.size // SAMPLED)].astype(np.float32))
    return (low, high) if low < high else (float(voxels.min()), float(voxels.max()))


def show_slice(volume: Volume, index: int, window: Window) -> np.ndarray:
    """One slice as (H, W, 3) uint8."""
    values = volume.voxels[index]
    if values.ndim == 3:
        return values
    low, high = window
    gray = values if values.dtype == np.uint8 and window == (0, 255) else stretch(values.astype(np.float32), low, high)
    return np.repeat((255 - gray if volume.inverted else gray)[..., None], 3, axis=2)
