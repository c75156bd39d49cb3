"""The options of ``mine``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from samsemi.errors import UsageError
from samsemi.options.shared import (
    Dataset,
    DeviceOptions,
    ModelRun,
    PolicyOptions,
    ResumableOptions,
    SamCheckpoint,
    SamName,
)

PROMPT_KINDS = ("box", "point", "mask")


@dataclass(frozen=True, kw_only=True)
class MineOptions(ResumableOptions, DeviceOptions, PolicyOptions):
    """Turn the model's masks on the unlabeled cases into prompts, ask SAM, keep the answers in a store."""

    dataset: Dataset
    model: ModelRun
    out: Annotated[Path, Option(help="Pseudo-label store to write (HDF5).", show_default=False)]
    sam: SamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    prompts: Annotated[
        str, Option(help="Kinds of prompt, box, point, mask, joined by +; alternatives, joined by commas, are all asked and averaged.")
    ] = "box+point"
    box_margin: Annotated[int, Option(min=0, help="Pixels added on each side of an object's box.")] = 2
    jitters: Annotated[int, Option(min=0, help="How often each alternative is asked again with the sides of the box moved.")] = 0
    passes: Annotated[int, Option(min=1, max=5, help="2: ask again with the first answer as mask prompt.")] = 1
    positive_points: Annotated[int, Option(min=1, help="Points in each object.")] = 1
    negative_points: Annotated[int, Option(min=0, help="Points beside each object, in its box.")] = 1
    other_points: Annotated[int, Option(min=0, help="Negative points on the nearest objects of other classes.")] = 0
    min_area: Annotated[int, Option(min=1, help="Smallest object in pixels of the image.")] = 64
    flips: Annotated[bool, Option("--flips/--no-flips", help="Average the model's map over mirrored views.")] = True
    calibrate: Annotated[
        bool, Option("--calibrate/--no-calibrate", help="Fit what is accepted to val and to MODEL's out-of-fold maps.")
    ] = True
    target_precision: Annotated[
        float, Option(min=0.0, max=1.0, help="Share of the accepted objects that should be right (IoU 0.5 with a true one).")
    ] = 0.8
    embeddings: Annotated[Path | None, Option(help="Cache of SAM's image embeddings (HDF5), kept for the next time.")] = None
    batch_size: Annotated[int, Option(min=1, help="Images per batch of the model and of SAM's encoder.")] = 8
    overlays: Annotated[int, Option(min=0, help="Pictures of so many cases, beside the store: model, prompts, SAM.")] = 0

    def __post_init__(self):
        super().__post_init__()
        parse_prompts(self.prompts)


def parse_prompts(text: str) -> tuple[tuple[str, ...], ...]:
    """'box,box+point' -> (('box',), ('box', 'point')); UsageError for a kind that does not exist."""
    alternatives = tuple(tuple(part.split("+")) for part in text.split(","))
    for kinds in alternatives:
        for kind in kinds:
            if kind not in PROMPT_KINDS:
                raise UsageError(f"--prompts {text}: unknown prompt kind '{kind}'", f"join some of {', '.join(PROMPT_KINDS)} by +")
        if len(set(kinds)) < len(kinds):
            raise UsageError(f"--prompts {text}: a kind is named twice", "name each kind once")
        if kinds == ("mask",):
            raise UsageError(f"--prompts {text}: SAM needs to be told where, too", "give box+mask or point+mask")
    if len({frozenset(kinds) for kinds in alternatives}) < len(alternatives):
        raise UsageError(f"--prompts {text}: an alternative is named twice", "name each once")
    return alternatives
