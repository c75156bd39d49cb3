"""A whole mining, from images to a finished store; and mining again, with the model of the moment, as the first store was mined."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

import torch

from samsemi.collectives import from_first, gathered, held_by_first, summed
from samsemi.data.dataset import Case, Dataset, refuse_changed_files
from samsemi.devices import choose_precision
from samsemi.errors import CheckpointError, UsageError
from samsemi.inputs import hash_file
from samsemi.locks import need_unlocked
from samsemi.mining.calibration import finish_store
from samsemi.mining.drift import measure_drift, warn_of_drift
from samsemi.mining.folds import FoldMaps
from samsemi.mining.miner import Miner, cut_batches, map_size_of, mine_cases, open_writer, provenance_of, store_policy
from samsemi.mining.on_ray import mine_on_ray
from samsemi.mining.store import Store
from samsemi.mining.store_writer import StoreWriter, parts_of, refuse_store
from samsemi.options.config import input_paths
from samsemi.options.mine import MineOptions, parse_part
from samsemi.options.sams import DISTILLED, HF, PLACED, find_entry, names_hub
from samsemi.options.shared import PolicyOptions
from samsemi.outputs import locked_output
from samsemi.sam.embeddings import EmbeddingCache
from samsemi.sam.protocol import SamBackend, choose_masks, load_sam
from samsemi.schemas import from_json
from samsemi.segmenters.segmenter import Segmenter
from samsemi.tensors import hash_tensors
from samsemi.training.runs import History

LOG = logging.getLogger("samsemi")


def claimed_store(options: MineOptions) -> AbstractContextManager[None]:
    """Hold the lock of the store that is to be mined, or of a share, for all processes; RefusedError, before anything else is done, where
    it may not be written."""
    return held_by_first(locked_store(options))


@contextmanager
def locked_store(options: MineOptions) -> Iterator[None]:
    with locked_shares(options) if options.part is None else locked_share(options):
        refuse_store(options.out, options.overwrite, options.goes_on, input_paths(options))
        yield


@dataclass(frozen=True)
class Work:
    """What a mining had to do: nothing where it was finished already."""

    images: int = 0
    """Of those that are to be mined."""
    windows: int = 0
    """What SAM has seen, windows of images or all of them, those of the calibration included."""
    cached: int = 0
    """How many of these were in the cache of embeddings."""


def mine_store(
    cases: Sequence[Case],
    segmenters: Sequence[Segmenter],
    sam: SamBackend,
    dataset: Dataset,
    options: MineOptions,
    fold_maps: FoldMaps | None = None,
) -> tuple[Store | None, Work]:
    """The store ``options.out``, mined with the mean map of the models and calibrated, or found finished; and the work that it was. Within
    ``claimed_store``.

    With ``options.part`` only the parts of that share, without a store, which is None; with ``options.merge`` nothing is mined.
    """
    sam = choose_masks(sam, options.masks)
    out_of_fold = hash_file(fold_maps.path) if fold_maps else None
    hashes = [hash_tensors(segmenter.state_dict()) for segmenter in segmenters]
    provenance = provenance_of(options, sam, dataset.fingerprint(), hashes, out_of_fold)
    sizes = len(dataset.classes), map_size_of(sam, segmenters)
    writer = from_first(lambda: open_writer(options.out, options, sam, provenance, *sizes))
    if writer.is_finished():
        refuse_changed_files(dataset.cases.values())
        LOG.info(f"{options.out} is finished already")
        return Store(options.out), Work()
    if options.merge:
        need_parts(writer, len(cut_batches(cases, options)))
    with closing(Miner(segmenters[0], sam, options, segmenters[1:])) as miner:
        if options.engine == "ray":
            images, miner.windows = mine_on_ray(cases, options, writer, on_gpu=segmenters[0].device.type == "cuda")
        else:
            images = mine_cases(cases, miner, writer)
        writer.own.update(*gathered(writer.own))
        if options.part is None:
            from_first(lambda: finish_store(writer, miner, dataset, fold_maps))
    work = Work(*summed(torch.tensor([images, miner.windows, miner.cache.hits if miner.cache else 0])).tolist())
    if options.embeddings:
        LOG.info(f"{work.cached} of {work.windows} windows were in {options.embeddings}")
    return None if options.part else Store(options.out), work


def share_of(options: MineOptions) -> Path:
    """What the lock of a share is named after, beside the store."""
    place, count = parse_part(options.part or "1/1")
    return options.out.with_name(f"{options.out.name}.part-{place}-of-{count}")


@contextmanager
def locked_share(options: MineOptions) -> Iterator[None]:
    """Hold the lock of a share; RefusedError where another command mines it, or all of the store."""
    need_unlocked(options.out, options.break_lock)
    with locked_output(share_of(options), options.break_lock, [parts_of(options.out)]):
        yield


@contextmanager
def locked_shares(options: MineOptions) -> Iterator[None]:
    """Hold the lock of a store, and those of its shares that commands have left; RefusedError where one mines there."""
    beside = [parts_of(options.out)]
    with ExitStack() as stack:
        stack.enter_context(locked_output(options.out, options.break_lock, beside))
        for lock in options.out.parent.glob(f".{escape(options.out.name)}.part-*.lock"):
            share = lock.with_name(lock.name.removeprefix(".").removesuffix(".lock"))
            stack.enter_context(locked_output(share, options.break_lock, beside))
        yield


def need_parts(writer: StoreWriter, count: int) -> None:
    """CheckpointError unless a store that is to be merged has all its parts."""
    missing = [number for number in range(count) if not writer.has_part(number)]
    if missing:
        raise CheckpointError(
            f"{writer.part_path(missing[0])} is missing, one of {len(missing)} of {count} parts",
            "mine its share with --part, copy it there, or mine what is missing with --resume in place of --merge",
        )


@dataclass(frozen=True)
class MiningAgain:
    """All that mining again needs, found to be what the first store was mined with."""

    dataset: Dataset
    sam: SamBackend
    options: MineOptions
    """Of the first store; ``out`` and ``model`` are its folder of stores and its run."""


def prepare_again(
    store: Store,
    dataset: Dataset,
    run: Path,
    sam: str | None,
    sam_checkpoint: Path | None,
    embeddings: Path | None,
    device: torch.device,
    break_lock: bool = False,
) -> MiningAgain:
    """What a run needs to mine again like a store; writes nothing. ``sam`` allows a SAM that is code of the user's own to run.

    CheckpointError where the SAM has other weights, or the cache of embeddings is another SAM's.
    """
    hint = "mine the store again with this samsemi"
    given = {"dataset": dataset.folder, "model": (run,), "fold_models": False, "out": run / "stores", "resume": True}
    given |= {"sam_checkpoint": sam_checkpoint, "embeddings": embeddings or run / "embeddings.h5", "break_lock": break_lock}
    options = from_json(MineOptions, {**earlier_config(store), **store.provenance.config, **given}, f"{store.path}, config", hint)
    loaded = load_sam_of(store, options, sam, device)
    if embeddings and embeddings.exists():
        EmbeddingCache(embeddings, loaded, choose_precision(device, options.precision), break_lock).close()
    return MiningAgain(dataset, loaded, options)


def earlier_config(store: Store) -> dict[str, object]:
    """The options of stores that were mined before there was a choice."""
    entry = find_entry(str(store.provenance.config.get("sam")))
    return {"zoom": 0.0, "masks": "best-of-three" if entry and entry.multimask else None}


def load_sam_of(store: Store, options: MineOptions, sam: str | None, device: torch.device) -> SamBackend:
    """The SAM that a store was mined by; CheckpointError for other weights, UsageError for code or a download that was not asked for."""
    place = next((place for place in PLACED if options.sam.startswith(place)), None)
    name = sam if sam and place and sam.startswith(place) else options.sam
    if name != sam and not find_entry(name):
        raise UsageError(f"{store.path} was mined by {options.sam}, code of your own", f"give --sam {options.sam} if it may run")
    if name != sam and names_hub(name):
        hint = f"give --sam {name} if it may be downloaded, or --sam {HF}FOLDER"
        raise UsageError(f"{store.path} was mined by {name}, which is no folder here", hint)
    hint = f"give the weights of the {name} that the store was mined with as --sam-checkpoint"
    if place:
        hint = f"give --sam {place}{'RUN' if place == DISTILLED else 'FOLDER'} where it lies elsewhere"
    try:
        loaded = load_sam(name, options.sam_checkpoint, device, options.precision)
    except CheckpointError as error:
        raise CheckpointError(f"mining again like {store.path}: {error.message}", hint) from None
    if loaded.identity != store.provenance.made_from.get("sam_weights"):
        raise CheckpointError(f"{store.path} was mined by a {options.sam} with other weights", hint)
    return loaded


def remine(again: MiningAgain, segmenter: Segmenter, iteration: int) -> Store:
    """Mine all unlabeled cases with another model, that alone; SAM's embeddings come from the cache."""
    LOG.info(f"mining again at iteration {iteration}")
    options = replace(again.options, out=store_path(again, iteration))
    with claimed_store(options):
        store, _ = mine_store(again.dataset.split("unlabeled"), [segmenter], again.sam, again.dataset, options)
    assert store is not None  # a part alone would be none
    return store


def store_path(again: MiningAgain, iteration: int) -> Path:
    return again.options.out / f"{iteration:06d}.h5"


def note_drift(
    run: Path, iteration: int, before: Store, after: Store, policy: PolicyOptions, num_classes: int, pseudo_share: float
) -> None:
    """A row in drift.csv of a run folder, with the share of a batch that learns from ``after``, and a warning where it is much."""
    found = measure_drift(before, store_policy(before, policy), after, store_policy(after, policy), num_classes)
    History(run / "drift.csv", iteration - 1).add(iteration=iteration, **found, pseudo_share=pseudo_share)
    warn_of_drift(found, f"mined again at iteration {iteration}")
