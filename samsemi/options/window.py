"""``--window``: which values of a volume, DICOM file or array are shown black and white."""

from math import isfinite

from samsemi.errors import UsageError

Window = tuple[float, float]
"""Values that are shown black and white; what lies beyond is cut."""
WINDOWS: dict[str, Window] = {"lung": (-1350, 150), "soft": (-160, 240), "bone": (-500, 1300), "brain": (0, 80), "liver": (-45, 105)}
"""Of CT, in Hounsfield units: centers -600, 40, 400, 40, 30, widths 1500, 400, 1800, 80, 150."""


def parse_window(text: str) -> Window | None:
    """'-160,240' or a name of WINDOWS -> low, high; None for 'auto'; UsageError for anything else."""
    if text == "auto":
        return None
    if text in WINDOWS:
        return WINDOWS[text]
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = float("nan")
    if not low < high or not isfinite(low) or not isfinite(high):
        raise UsageError(f"--window {text}: no such window", f"give auto, LOW,HIGH such as -160,240, or {', '.join(WINDOWS)}")
    return low, high
