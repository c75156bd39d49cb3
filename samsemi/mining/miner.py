"""Mining: images -> the U-Net++'s maps -> objects -> prompts -> SAM -> the store. Used by ``mine`` and by ``finetune``,
which mines again while it trains. Reads images only: never a mask, never a truth."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from samsemi import console, processes
from samsemi.collectives import from_first
from samsemi.data.dataset import Case, Dataset, hash_image, read_case_images
from samsemi.devices import FittingCalls, autocast, choose_precision
from samsemi.errors import ChangedFile, CheckpointError, NothingUsable
from samsemi.inputs import hash_file
from samsemi.mining.ahead import batches_ahead, read_ahead
from samsemi.mining.ensemble import EnsembleMaps, agreement_of, predict_ensemble
from samsemi.mining.policy import Policy, numbers
from samsemi.mining.pseudolabels import join_windows, nothing_found, score_window, usable_ids
from samsemi.mining.store import Mined, Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.options.config import input_paths, may_change
from samsemi.options.mine import MineOptions, parse_part, parse_prompts
from samsemi.options.shared import PolicyOptions
from samsemi.sam.checks import decode_prompts, encode_images
from samsemi.sam.embeddings import EmbeddingCache
from samsemi.sam.prompts import Objects, Prompts, Window, find_objects, group_windows, grow_boxes, make_prompts
from samsemi.sam.protocol import Embedding, MaskBatch, SamBackend, average_masks
from samsemi.sam.simulation import move_box
from samsemi.sam.windows import choose_windows, crop_pixels, crop_prompts
from samsemi.segmenters.segmenter import Segmenter

JITTER = 0.05
"""How far a side of a box is moved at most, as a share of the box."""


def open_store(path: Path, dataset: Dataset) -> Store:
    """A store of this data set; CheckpointError for one of another, and for one with labels of other images or classes."""
    store = Store(path)
    if store.provenance.made_from.get("dataset") != dataset.fingerprint():
        raise CheckpointError(f"{path} was mined from another data set, files or splits than {dataset.folder}", "mine this data set")
    need_own_images(store, dataset)
    return store


def need_own_images(store: Store, dataset: Dataset) -> None:
    """CheckpointError for a store with labels of cases that are not unlabeled, or of other classes."""
    unlabeled = {case.id for case in dataset.split("unlabeled")}
    strange = next((name for name in store.ids if name not in unlabeled), None)
    if strange is not None:
        what = f"is {dataset.cases[strange].split} there" if strange in dataset.cases else "is not there"
        raise CheckpointError(f"{store.path} has labels of {strange:.60}, which {what}: {dataset.folder}", "mine this data set")
    if store.num_classes > len(dataset.classes) or not (store.earlier or store.num_classes == len(dataset.classes)):
        raise CheckpointError(
            f"{store.path} has {store.num_classes} classes, {dataset.folder} has {len(dataset.classes)}", "mine this data set"
        )


def choose_policy(options: PolicyOptions, base: Policy) -> Policy:
    """The numbers given as options, the others as in ``base``."""
    given = {name: getattr(options, name) for name in numbers(base)}
    by_class = base.by_class
    if options.min_quality is not None:
        by_class = tuple(replace(rule, min_quality=options.min_quality) for rule in by_class)
    return replace(base, by_class=by_class, **{name: value for name, value in given.items() if value is not None})


def store_policy(store: Store, options: PolicyOptions) -> Policy:
    """What is accepted from a store: by its own policy, where the options give nothing else."""
    return choose_policy(options, Policy.from_json(store.provenance.policy, f"{store.path}, policy"))


def usable_cases(store: Store, dataset: Dataset, policy: Policy) -> list[Case]:
    """The unlabeled cases with a pseudo-label to learn from; NothingUsable where there are none."""
    need_own_images(store, dataset)
    cases = [as_mined(dataset.cases[name], store) for name in usable_ids(store, policy)]
    if not cases:
        raise NothingUsable(
            f"{store.path}: no pseudo-label is accepted",
            "lower what was given as --min-..., mine again with a model trained longer, or leave the store out",
        )
    return cases


def as_mined(case: Case, store: Store) -> Case:
    """The case with the hash of the image that was mined, which is compared when it is read; ChangedFile where another was prepared."""
    mined = store.sha256[store.row[case.id]]
    if mined and case.image_sha256 and mined != case.image_sha256:
        raise ChangedFile(f"case {case.id}: {case.image} is not the image that was mined into {store.path}", "mine this data set again")
    return replace(case, image_sha256=mined) if mined and not case.image_sha256 else case


def readable_cases(store: Store, dataset: Dataset) -> list[Case]:
    """The unlabeled cases whose images could be read when they were mined."""
    return [dataset.cases[name] for name, readable in zip(store.ids, store.images["readable"], strict=True) if readable]


def describe_store(store: Store, usable: Sequence[Case]) -> dict[str, object]:
    """What a training records of the store that it learns from: what it was made from, and the hash of its content."""
    made_from = dict(store.provenance.made_from)
    return {"pseudo_labeled": len(usable), "store": made_from, "store_content": hash_file(store.path)}


def provenance_of(options: MineOptions, sam: SamBackend, dataset: str, models: Sequence[str], out_of_fold: str | None = None) -> Provenance:
    """What a store is made with and from: ``dataset`` is its fingerprint, ``models`` the hash of the weights of each model,
    ``out_of_fold`` that of the file of the out-of-fold predictions."""
    config = {name: value for name, value in asdict(options).items() if name not in may_change(MineOptions)}
    for name in ("allow_low_precision", "fold_models"):  # as in stores of before there were these options, so that they resume
        if not config[name]:
            del config[name]
    made_from: dict[str, object] = {"dataset": dataset, "model": models[0] if len(models) == 1 else list(models)}
    made_from |= {"sam": sam.name, "sam_weights": sam.identity}
    made_from |= {"embeddings": "float16" if options.embeddings else "float32", "out_of_fold": out_of_fold}  # the cache rounds them
    return Provenance(config, made_from, choose_policy(options, Policy()).to_json())


def map_size_of(sam: SamBackend, segmenters: Sequence[Segmenter]) -> int:
    """Side of the networks' map in a store: what they see, so that coarse masks of SAM do not coarsen it; that of the masks at least."""
    return max(sam.mask_size, *(segmenter.spec.size for segmenter in segmenters))


def open_writer(path: Path, options: MineOptions, sam: SamBackend, provenance: Provenance, num_classes: int, map_size: int) -> StoreWriter:
    """The writer of a store for this SAM's masks, these prompts and network's maps of this side."""
    pointed = any("point" in kinds for kinds in choose_kinds(options, sam))
    num_points = options.positive_points + options.negative_points + other_points(options, num_classes)
    sizes = (sam.mask_size, num_points if pointed else 0, num_classes)
    return StoreWriter(path, provenance, *sizes, options.overwrite, options.goes_on, input_paths(options), map_size)


@dataclass(frozen=True)
class View:
    """A window in which SAM sees some of the objects of an image."""

    name: str
    """Id of the image."""
    window: Window
    rows: np.ndarray
    """(n,) numbers of the objects."""


class Miner:
    """Prompts a SAM by what a U-Net++ found, or by the mean map of several models, in batches of images."""

    def __init__(self, segmenter: Segmenter, sam: SamBackend, options: MineOptions, others: Sequence[Segmenter] = ()):
        self.segmenter, self.sam, self.options = segmenter, sam, options
        self.others = others
        """Further models of the same classes."""
        self.map_size = map_size_of(sam, [segmenter, *others])
        precision = choose_precision(segmenter.device, options.precision)
        self.cache = EmbeddingCache(options.embeddings, sam, precision, options.break_lock) if options.embeddings else None
        self.windows = 0
        """How many SAM has seen."""
        self.predicting, self.encoding, self.decoding = (FittingCalls(what) for what in ("images", "windows", "windows' objects"))

    def find(self, images: Sequence[np.ndarray]) -> EnsembleMaps:
        """The mean (K, H, W) maps of the models, and the class maps of each."""
        with autocast(self.segmenter.device, self.options.precision):
            found = self.predicting(lambda some: list(zip(*self.predict(some), strict=True)), images)
        return EnsembleMaps([maps for maps, _ in found], [members for _, members in found])

    def predict(self, images: Sequence[np.ndarray]) -> EnsembleMaps:
        return predict_ensemble([self.segmenter, *self.others], images, self.options.flips)

    def mine(self, images: Mapping[str, np.ndarray]) -> dict[str, tuple[Mined, Prompts | None]]:
        """What the models and SAM make of some images (H, W, 3) uint8."""
        return self.prompt(images, *self.find(list(images.values())))

    def prompt(
        self, images: Mapping[str, np.ndarray], maps: Sequence[np.ndarray], members: Sequence[np.ndarray] | None = None
    ) -> dict[str, tuple[Mined, Prompts | None]]:
        """SAM's masks of the objects in the maps of some images, scored, and the first of the prompts; None for images without any.

        Objects are prompted for in the windows of ``choose_windows``, those of one window together. ``batch_size`` windows at once are
        encoded, each once; then every alternative, and every pass, is one call of the decoder over all objects in them. ``members`` are
        the class maps (M, H, W) of the M models whose mean the maps are.
        """
        options, size, probs = self.options, self.sam.mask_size, dict(zip(images, maps, strict=True))
        found = {name: find_objects(own, options.min_area) for name, own in probs.items()}
        boxes = {name: grow_boxes(objects.boxes, options.box_margin, objects.components.shape) for name, objects in found.items()}
        windows = {name: choose_windows(boxes[name], options.zoom or 0, objects.components.shape) for name, objects in found.items()}
        prompts = {name: self.make_alternatives(name, objects, windows[name]) for name, objects in found.items() if len(objects)}
        labels = dict(zip(images, members or [], strict=False))
        views = [View(name, window, rows) for name in prompts for window, rows in group_windows(windows[name])]
        scored = self.score_views(views, images, found, prompts)
        mined: dict[str, tuple[Mined, Prompts | None]] = {}
        for name, objects in found.items():
            if name not in prompts:
                mined[name] = (nothing_found(objects, probs[name], size, self.map_size), None)
                continue
            joined = join_windows(scored[name], objects, probs[name], self.map_size, boxes[name])
            ensemble = agreement_of(labels.get(name), objects, len(probs[name]))
            mined[name] = (replace(joined, ensemble=ensemble), prompts[name][0])  # type: ignore[call-arg]
        return mined

    def score_views(
        self, views: Sequence[View], images: Mapping[str, np.ndarray], found: Mapping[str, Objects], prompts: Mapping[str, list[Prompts]]
    ) -> dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]]:
        """Of each image, the numbers of the objects in each window and what ``score_window`` found of them; ``batch_size`` at once."""
        scored: dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]] = {name: [] for name in found}
        for i in range(0, len(views), self.options.batch_size):
            some = views[i : i + self.options.batch_size]
            for view, (output, consensus) in zip(some, self.see(some, images, prompts), strict=True):
                columns = score_window(output, consensus, found[view.name], view.rows, view.window, self.sam.mask_size)
                scored[view.name].append((view.rows, columns))
        return scored

    def see(
        self, views: Sequence[View], images: Mapping[str, np.ndarray], prompts: Mapping[str, Sequence[Prompts]]
    ) -> list[tuple[MaskBatch, Tensor]]:
        """SAM's masks of the objects in each view, the mean of the alternative ``prompts`` of their image, and their consensus."""
        self.windows += len(views)
        seen = [crop_pixels(images[view.name], view.window) for view in views]
        embeddings = self.encoding(self.cache.encode if self.cache else partial(encode_images, self.sam), seen)
        cropped = ([crop_prompts(given.rows(view.rows), view.window) for given in prompts[view.name]] for view in views)
        outputs = [self.decode(embeddings, alternative) for alternative in zip(*cropped, strict=True)]
        return [average_masks(of_view) for of_view in zip(*outputs, strict=True)]

    def make_alternatives(self, name: str, objects: Objects, windows: np.ndarray) -> list[Prompts]:
        """The alternative prompts for the objects of an image, those with points first, and each again with moved boxes."""
        options, num_classes = self.options, len(self.segmenter.spec.classes)
        others = other_points(options, num_classes)
        points = (options.positive_points, options.negative_points, self.sam.mask_size, others)
        made = [make_prompts(objects, kinds, options.box_margin, *points, windows) for kinds in choose_kinds(options, self.sam)]
        rng, size = np.random.default_rng(zlib.crc32(name.encode())), objects.components.shape
        boxed = [(prompts, prompts.boxes) for prompts in made if prompts.boxes is not None]
        return made + [replace(p, boxes=jitter_boxes(rng, boxes, size)) for p, boxes in boxed for _ in range(options.jitters)]

    def decode(self, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
        """SAM's masks for one alternative, after as many passes as ``options.passes``."""
        outputs = self.decoding(partial(decode_prompts, self.sam), embeddings, prompts)
        for _ in range(1, self.options.passes if self.sam.prompt_kinds is None else 1):
            again = [replace(p, mask_logits=a.on_grid(self.sam.mask_size).cpu().numpy()) for p, a in zip(prompts, outputs, strict=True)]
            outputs = self.decoding(partial(decode_prompts, self.sam), embeddings, again)
        return outputs

    def close(self) -> None:
        if self.cache:
            self.cache.close()


def cut_batches(cases: Sequence[Case], options: MineOptions) -> dict[int, Sequence[Case]]:
    """The batches by number, a part of the store each; of a share of several, every so many-th one.

    They are cut from the given order alone, so that a store equals another one, resumed or mined in shares.
    """
    size = options.batch_size
    place, count = parse_part(options.part) if options.part else (1, 1)
    starts = list(enumerate(range(0, len(cases), size)))
    return {number: cases[i : i + size] for number, i in starts[place - 1 :: count]}


def mine_cases(cases: Sequence[Case], miner: Miner, writer: StoreWriter) -> int:
    """Mine every case, or those of a share, into the parts of a store, batch by batch; those that a command has written already are not
    mined again. Of several processes each mines some of the batches. Returns the number of images that this one has mined now.
    """
    batches = cut_batches(cases, miner.options)
    left = from_first(lambda: [number for number in batches if not writer.has_part(number)])
    todo, done = processes.share(left), sum(len(batches[number]) for number in batches.keys() - set(left))
    count, others = sum(len(batches[number]) for number in todo), processes.count() - 1
    with console.progress("mine" + (f" (and {others} others)" if others else ""), done + count, done=done) as advance:
        ahead = read_ahead(read_case_images, [batches[number] for number in todo], batches_ahead(miner.segmenter.device))
        for number, images in zip(todo, ahead, strict=True):
            mine_batch(batches[number], images, miner, writer, number)
            advance(len(batches[number]))
    return count


def mine_batch(cases: Sequence[Case], images: Mapping[str, np.ndarray], miner: Miner, writer: StoreWriter, number: int) -> None:
    """Mine the images of some cases, those that could be read, into a part of a store."""
    mined = miner.mine(images)
    for case in cases:
        if case.id in images:
            writer.add(case.id, images[case.id].shape, *mined[case.id], sha256=hash_image(case))
        else:
            writer.add_unreadable(case.id)
    writer.commit(number)


def choose_kinds(options: MineOptions, sam: SamBackend) -> list[tuple[str, ...]]:
    """The alternative kinds of prompt for a backend, those with points first: its own, where it takes no others, or the user's."""
    return sorted(parse_prompts(sam.prompt_kinds or options.prompts), key=lambda kinds: "point" not in kinds)


def other_points(options: MineOptions, num_classes: int) -> int:
    """Points on objects of other classes, which only several classes have."""
    return options.other_points if num_classes > 2 else 0


def jitter_boxes(rng: np.random.Generator, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, 4) float32 boxes in an image of (H, W), the sides of each moved by up to JITTER of it."""
    return np.stack([move_box(rng, box, JITTER, size) for box in boxes])
