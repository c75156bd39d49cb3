"""The options of ``info``."""

from dataclasses import dataclass

from samsemi.options.fields import Options


@dataclass(frozen=True, kw_only=True)
class InfoOptions(Options):
    """Versions, devices and packaged weights, for a bug report."""
