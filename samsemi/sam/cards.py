"""The card that `samsemi adapt` writes into the header of a SAM's weights: what it was, and what it has learnt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samsemi import remedies
from samsemi.errors import CheckpointError
from samsemi.schemas import from_json, parse_object
from samsemi.tensors import CARD, load_metadata


@dataclass(frozen=True)
class SamCard:
    """What `samsemi adapt` writes into the header of weights; empty for others."""

    sam: str | None = None
    made_from: Mapping[str, object] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    keep: str | None = None
    """'last' or 'best'; None in weights of before that was recorded."""
    chosen_on: tuple[str, ...] = ()
    """The val cases by which the best weights were found."""
    learned: Mapping[str, str | None] = field(default_factory=dict)
    """Ids and hashes of the images that these weights, and those that they were adapted from, have learnt; none in those of before."""

    @property
    def history(self) -> dict[str, Any]:
        """What a backend says of its weights: arguments of NetworkSam."""
        return {"adapted_to": self.adapted_to, "chosen_on": frozenset(self.chosen_on), "learned": self.learned}

    @property
    def adapted_to(self) -> str | None:
        """Fingerprint of the data set whose labeled cases the SAM has learnt; None for weights that learnt none."""
        dataset = self.made_from.get("dataset")
        return dataset if isinstance(dataset, str) and not self.made_from.get("stream") else None


def read_card(checkpoint: Path) -> SamCard:
    """The card of weights; CheckpointError for one that is damaged, or of another version."""
    if Path(checkpoint).suffix != ".safetensors":
        return SamCard()
    text = load_metadata(checkpoint, "give a .safetensors or .pth file of weights").get(CARD, "{}")
    where = f"the header of {checkpoint}"
    return from_json(SamCard, parse_object(text, where, remedies.SAM), where, remedies.SAM)


def need_sam(card: SamCard, name: str, checkpoint: Path, hint: str) -> None:
    """CheckpointError for weights that were adapted from another SAM."""
    if card.sam not in (None, name):
        raise CheckpointError(f"{checkpoint} is an adapted {card.sam}, not {name}", hint)
