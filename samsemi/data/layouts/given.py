"""What a user gives ``prepare`` to find a data set in."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Given:
    """Folders of images, and what belongs to them where the user says."""

    images: tuple[Path, ...]
    masks: Path | None = None
    """A folder or file."""
    window: tuple[float, float] | None = None
    """Of volumes: the values shown black and white; None leaves it to each."""

    @property
    def folder(self) -> Path:
        """The one folder of a data set that brings its own masks, or the first."""
        return self.images[0]
