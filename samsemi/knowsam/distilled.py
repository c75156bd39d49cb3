"""The SAM of a run of ``distill`` as a backend for mining: ``--sam distilled:RUN``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samsemi.devices import autocast
from samsemi.errors import UsageError
from samsemi.knowsam.teacher import Teacher, load_sam_of_teacher, load_teacher, read_teacher_card
from samsemi.options.sams import DISTILLED, SamEntry
from samsemi.sam.baselines import mean_inside
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import Embedding, MaskBatch
from samsemi.segmenters.checkpoints import read_model_card
from samsemi.segmenters.segmenter import ModelSpec, to_input
from samsemi.tensors import hash_tensors

NAME = "distilled"
OBJECTS_PER_CALL = 16
"""Objects that go through the decoder at once, each with a map of every class: bounds its memory."""


class DistilledSam:
    """A teacher, prompted by the map of each object and by what it has learnt of the object's class; boxes and points mean nothing to it.

    In training it saw a map of each class. The other classes' maps are taken as the object's with the sign changed, so that with two
    classes the background's is exact but for a constant. Its predicted IoU is the mean probability inside: the one that SAM predicts
    was not trained with the adapters.
    """

    prompt_kinds = "box+mask"
    name = NAME

    def __init__(
        self,
        teacher: Teacher,
        spec: ModelSpec,
        adapted_to: str | None,
        device: torch.device,
        precision: str = "fp32",
        learned: Mapping[str, str | None] | None = None,
    ):
        self.teacher = teacher.to(device).eval().requires_grad_(False)
        self.identity = hash_tensors(self.teacher.state_dict())
        self.classes, self.size = spec.classes, spec.size
        self.adapted_to = adapted_to
        """Fingerprint of the data set whose labeled cases it has learnt."""
        self.learned = learned or {}
        """Ids and hashes of the images that it has learnt, as of ``name_images``."""
        self.device, self.precision = device, precision
        self.mask_size = self.teacher.sam.prompt_encoder.mask_input_size[0]

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Resize to the networks' size, as in training, then to SAM's, and encode as one batch."""
        inputs = torch.stack([to_input(image, self.size) for image in images]).to(self.device).float() / 255
        with autocast(self.device, self.precision):
            tensors = self.teacher.encode(inputs)
        return [Embedding({name: rows[i] for name, rows in tensors.items()}, image.shape[:2]) for i, image in enumerate(images)]

    @torch.inference_mode()
    def decode(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
        """Masks by the maps of several images' objects; UsageError for prompts without a map."""
        side = self.teacher.side
        return [
            MaskBatch(logits, mean_inside(logits), embedding.image_size, (side, side), side)
            for embedding, logits in zip(embeddings, map(self.predict, embeddings, prompts), strict=True)
        ]

    def predict(self, embedding: Embedding, prompts: Prompts) -> Tensor:
        """(N, m, m) logits of the objects of one image."""
        if prompts.mask_logits is None:
            raise UsageError(f"--sam {NAME}:RUN takes nothing but maps as prompts", "take it for `samsemi mine`")
        count = len(prompts)
        class_id = torch.ones(count).long() if prompts.class_id is None else torch.from_numpy(prompts.class_id).long()
        maps = torch.from_numpy(prompts.mask_logits).float()
        rows = torch.arange(count).split(OBJECTS_PER_CALL) if count else ()
        parts = [torch.zeros(0, self.mask_size, self.mask_size, device=self.device)]
        return torch.cat([*parts, *(self.predict_objects(embedding, maps[own], class_id[own]) for own in rows)])

    def predict_objects(self, embedding: Embedding, maps: Tensor, class_id: Tensor) -> Tensor:
        """(n, m, m) logits by maps (n, S, S), of the probability of each object's class (n,)."""
        own = torch.nn.functional.one_hot(class_id, len(self.classes)).to(self.device)[:, :, None, None].bool()
        half = maps.to(self.device)[:, None] / 2
        tensors = {name: value.to(self.device).expand(len(maps), *value.shape) for name, value in embedding.tensors.items()}
        logits = self.teacher.decode(tensors, torch.where(own, half, -half))
        others = logits.masked_fill(own, -torch.inf).logsumexp(dim=1)
        return (logits * own).sum(dim=1) - others


def load_distilled(entry: SamEntry, checkpoint: Path | None, device: torch.device, precision: str) -> DistilledSam:
    """The SAM of the run that the entry's name ends with; ``checkpoint`` has the weights of the SAM that was adapted."""
    folder = Path(entry.name.removeprefix(DISTILLED))
    sam = load_sam_of_teacher(folder, checkpoint, "--sam-checkpoint", device, precision)
    card = read_model_card(folder)
    dataset = card.made_from.get("dataset")
    teacher = load_teacher(folder, sam, len(card.model.classes), "--sam-checkpoint")
    learned = read_teacher_card(folder).learned
    return DistilledSam(teacher, card.model, dataset if isinstance(dataset, str) else None, device, precision, learned)
