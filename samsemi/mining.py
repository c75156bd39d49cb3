"""Mining: images -> the U-Net++'s maps -> objects -> prompts -> SAM -> the store. Used by ``mine`` and by ``finetune``,
which mines again while it trains. Reads images only: never a mask, never a truth."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from samsemi import console
from samsemi.dataset import Case, Dataset
from samsemi.devices import autocast
from samsemi.embeddings import EmbeddingCache
from samsemi.errors import CheckpointError, DataError
from samsemi.images import read_image
from samsemi.models import Segmenter, predict_batch
from samsemi.options import MineOptions, PolicyOptions
from samsemi.prompts import find_objects, make_prompts
from samsemi.pseudolabels import REASONS, Policy, decide, score, usable_ids
from samsemi.sam import SamBackend
from samsemi.store import Provenance, Store, StoreWriter

NOT_OF_THE_STORE = {"dataset", "model", "out", "sam_checkpoint", "embeddings", "overlays", "device", "resume", "overwrite"}
"""Options of ``mine`` that do not decide what stands in the store, or are hashed in ``made_from``."""


def refuse_other_classes(segmenter: Segmenter, dataset: Dataset, model: str) -> None:
    """CheckpointError where a model was trained for other classes than the data set has."""
    if segmenter.spec.classes != dataset.classes:
        raise CheckpointError(
            f"{model} knows the classes {', '.join(segmenter.spec.classes)}; {dataset.folder} has {', '.join(dataset.classes)}",
            "give a model trained on this data set",
        )


def open_store(path: Path, dataset: Dataset) -> Store:
    """A store of this data set; CheckpointError for one of another."""
    store = Store(path)
    if store.provenance.made_from.get("dataset") != dataset.fingerprint():
        raise CheckpointError(f"{path} was mined from another data set, or other splits, than {dataset.folder}", "mine this data set")
    return store


def choose_policy(options: PolicyOptions, base: Policy | None = None) -> Policy:
    """The thresholds given as options, the others as in ``base`` or by default."""
    given = {field.name: getattr(options, field.name) for field in fields(Policy)}
    return Policy(**{**asdict(base or Policy()), **{name: value for name, value in given.items() if value is not None}})


def describe(options: MineOptions, sam: SamBackend, dataset_fingerprint: str, model: str) -> Provenance:
    """What a store mined so was made with and from; ``model`` is the hash of the U-Net++'s weights."""
    config = {name: value for name, value in asdict(options).items() if name not in NOT_OF_THE_STORE}
    policy = asdict(choose_policy(options))
    config = {name: value for name, value in config.items() if name not in policy}
    made_from = {"dataset": dataset_fingerprint, "model": model, "sam": sam.name, "sam_weights": sam.identity}
    return Provenance(config, made_from, policy)


def open_writer(path: Path, options: MineOptions, sam: SamBackend, provenance: Provenance) -> StoreWriter:
    """The writer of a store for this SAM's masks and these prompts."""
    kinds = sam.prompt_kinds or options.prompts
    num_points = options.positive_points + options.negative_points if "point" in kinds else 0
    return StoreWriter(path, provenance, sam.mask_size, num_points, options.overwrite, options.resume)


def mine_cases(cases: Sequence[Case], segmenter: Segmenter, sam: SamBackend, options: MineOptions, writer: StoreWriter) -> None:
    """Mine every case into a store, batch by batch; batches that a stopped command has written are not mined again.

    Batches are cut from the given order alone, so that a resumed store equals an uninterrupted one.
    """
    encoder = EmbeddingCache(options.embeddings, sam) if options.embeddings else sam
    batches = [cases[i : i + options.batch_size] for i in range(0, len(cases), options.batch_size)]
    with console.progress("mine", len(cases)) as advance:
        for number, batch in enumerate(batches):
            if not writer.has_part(number):
                mine_batch(batch, segmenter, sam, encoder, options, writer)
                writer.commit(number)
            advance(len(batch))
    if encoder is not sam:
        encoder.close()
    writer.finish(range(len(batches)))


def mine_batch(batch: Sequence[Case], segmenter: Segmenter, sam: SamBackend, encoder, options: MineOptions, writer: StoreWriter) -> None:
    """Mine a few images: one pass of the U-Net++, one of SAM's encoder, one of its decoder over all their objects."""
    images = read_images(batch)
    readable = {name: image for name, image in images.items() if image is not None}
    with autocast(segmenter.mean.device, options.precision):
        maps = predict_batch(segmenter, list(readable.values())) if readable else []
    objects = {name: find_objects(probs, options.min_area) for name, probs in zip(readable, maps, strict=True)}
    found = [name for name in readable if len(objects[name])]
    kinds = sam.prompt_kinds or options.prompts
    prompts = {
        name: make_prompts(objects[name], kinds, options.box_margin, options.positive_points, options.negative_points, sam.mask_size)
        for name in found
    }
    answers = {}
    if found:
        embeddings = encoder.encode([readable[name] for name in found])
        answers = dict(zip(found, sam.decode(embeddings, list(prompts.values())), strict=True))
    for name, image in images.items():
        if image is None:
            writer.add_unreadable(name)
        elif name in answers:
            writer.add(name, image.shape, score(answers[name], objects[name], sam.mask_size), prompts[name])
        else:
            writer.add(name, image.shape)


def read_images(batch: Sequence[Case]) -> dict[str, np.ndarray | None]:
    """Image by id; None, with a warning, for one that cannot be read."""
    images: dict[str, np.ndarray | None] = {}
    for case in batch:
        try:
            images[case.id] = read_image(case.image)
        except DataError as error:
            console.warn(f"skipped: {error.message}")
            images[case.id] = None
    return images


def summarize(store: Store, policy: Policy) -> dict[str, object]:
    """Counts of a store: images, objects, what is accepted and why the rest is not."""
    reasons = np.concatenate([decide(store.read(name, maps=False), policy) for name in store.ids] or [np.zeros(0, dtype=int)])
    counts = np.bincount(reasons, minlength=len(REASONS))
    return {
        "images": len(store.ids),
        "nothing_found": int((store.images["readable"] & (store.images["num_objects"] == 0)).sum()),
        "unreadable": int((~store.images["readable"]).sum()),
        "objects": len(store.objects),
        "accepted": int(counts[0]),
        "accepted_images": len(usable_ids(store, policy)),
        "rejected": {reason: int(n) for reason, n in zip(REASONS[1:], counts[1:], strict=True) if n},
    }
