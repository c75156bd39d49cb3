"""Mining: images -> the U-Net++'s maps -> objects -> prompts -> SAM -> the store. Used by ``mine`` and by ``finetune``,
which mines again while it trains. Reads images only: never a mask, never a truth."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from samsemi import console
from samsemi.dataset import Case, Dataset
from samsemi.devices import autocast, choose_precision
from samsemi.embeddings import EmbeddingCache
from samsemi.errors import CheckpointError
from samsemi.images import read_readable
from samsemi.models import Segmenter, predict_batch
from samsemi.options import MineOptions, PolicyOptions
from samsemi.prompts import find_objects, make_prompts
from samsemi.pseudolabels import REASONS, Policy, decide, score, usable_ids
from samsemi.sam import SamBackend
from samsemi.store import Provenance, Store, StoreWriter

NOT_OF_THE_STORE = {"dataset", "model", "out", "sam_checkpoint", "embeddings", "overlays", "device", "resume", "overwrite"}
"""Options of ``mine`` that do not decide what stands in the store, or are hashed in ``made_from``."""


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
    made_from["embeddings"] = "float16" if options.embeddings else "float32"  # the cache rounds them
    return Provenance(config, made_from, policy)


def open_writer(path: Path, options: MineOptions, sam: SamBackend, provenance: Provenance) -> StoreWriter:
    """The writer of a store for this SAM's masks and these prompts."""
    num_points = options.positive_points + options.negative_points if "point" in prompt_kinds(options, sam) else 0
    return StoreWriter(path, provenance, sam.mask_size, num_points, options.overwrite, options.resume)


def mine_cases(cases: Sequence[Case], segmenter: Segmenter, sam: SamBackend, options: MineOptions, writer: StoreWriter) -> int:
    """Mine every case into a store, batch by batch; batches that a stopped command has written are not mined again.

    Batches are cut from the given order alone, so that a resumed store equals an uninterrupted one. Returns the number
    of images mined now.
    """
    device = segmenter.mean.device
    encoder = EmbeddingCache(options.embeddings, sam, choose_precision(device, options.precision)) if options.embeddings else sam
    batches = [cases[i : i + options.batch_size] for i in range(0, len(cases), options.batch_size)]
    todo = [number for number in range(len(batches)) if not writer.has_part(number)]
    count = sum(len(batches[number]) for number in todo)
    with console.progress("mine", len(cases), done=len(cases) - count) as advance:
        for number in todo:
            mine_batch(batches[number], segmenter, sam, encoder, options, writer)
            writer.commit(number)
            advance(len(batches[number]))
    if encoder is not sam:
        encoder.close()
    writer.finish(range(len(batches)))
    return count


def mine_batch(
    batch: Sequence[Case],
    segmenter: Segmenter,
    sam: SamBackend,
    encoder: SamBackend | EmbeddingCache,
    options: MineOptions,
    writer: StoreWriter,
) -> None:
    """Mine a few images: one pass of the U-Net++, one of SAM's encoder, one of its decoder over all their objects."""
    images, _ = read_readable({case.id: case.image for case in batch})
    with autocast(segmenter.mean.device, options.precision):
        maps = predict_batch(segmenter, list(images.values())) if images else []
    objects = {name: find_objects(probs, options.min_area) for name, probs in zip(images, maps, strict=True)}
    kinds = prompt_kinds(options, sam)
    points = (options.positive_points, options.negative_points)
    asking = {name: found for name, found in objects.items() if len(found)}
    prompts = {name: make_prompts(found, kinds, options.box_margin, *points, sam.mask_size) for name, found in asking.items()}
    embeddings = encoder.encode([images[name] for name in prompts]) if prompts else []
    answers = dict(zip(prompts, sam.decode(embeddings, list(prompts.values())), strict=True))
    for case in batch:
        name = case.id
        if name not in images:
            writer.add_unreadable(name)
        elif name not in answers:
            writer.add(name, images[name].shape)
        else:
            writer.add(name, images[name].shape, score(answers[name], objects[name], sam.mask_size), prompts[name])


def prompt_kinds(options: MineOptions, sam: SamBackend) -> str:
    """The kinds of prompt that a backend is given: its own, where it takes no others, or the user's."""
    return sam.prompt_kinds or options.prompts


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
