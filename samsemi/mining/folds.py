"""Out-of-fold predictions: of each labeled case by a model that has not seen it. Calibration and SAM's adaptation learn from them."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from samsemi import remedies
from samsemi.data.dataset import Case, read_case_image
from samsemi.errors import CheckpointError, DataError
from samsemi.hdf5 import named_damage, need_dataset, new_hdf5, open_hdf5, read_whole
from samsemi.mining.pseudolabels import quantize
from samsemi.mining.store import MOST_SIDE
from samsemi.options.mine import MineOptions
from samsemi.schemas import need_schema
from samsemi.segmenters.segmenter import Segmenter, predict_batch, to_input

SCHEMA = "samsemi.out-of-fold/1"
OUT_OF_FOLD = "out_of_fold.h5"
"""File of a run folder."""


def fold_folders(run: Path, count: int) -> list[Path]:
    """The runs of the models of a run's folds."""
    return [run / f"fold-{number}" for number in range(1, count + 1)]


def find_folds(run: Path) -> list[Path]:
    """The runs of the models of the folds that a run has; none where it was trained without."""
    return fold_folders(run, len(list(Path(run).glob("fold-*"))))


def model_folders(options: MineOptions) -> list[Path]:
    """The runs of all models whose mean map prompts; CheckpointError where those of the folds are wanted and there are none."""
    if not options.fold_models:
        return list(options.model)
    return [folder for run in options.model for folder in (run, *need_folds(run))]


def need_folds(run: Path) -> list[Path]:
    """The runs of the folds within a run."""
    folds = find_folds(run)
    if not folds:
        raise CheckpointError(f"--fold-models: {run} has no models of folds", "train it with `samsemi warmstart --folds 5`")
    return folds


def deal_folds(cases: Sequence[Case], count: int, seed: int) -> list[list[Case]]:
    """Whole groups (patients) dealt to ``count`` folds of nearly the same number of groups."""
    groups = sorted({case.group for case in cases})
    if len(groups) < count:
        raise DataError(f"--folds {count}: there are only {len(groups)} labeled groups", "give fewer folds")
    order = np.random.default_rng((seed, count)).permutation(len(groups))
    fold_of = {groups[i]: place % count for place, i in enumerate(order)}
    return [[case for case in cases if fold_of[case.group] == fold] for fold in range(count)]


def write_fold_maps(path: Path, folds: Sequence[Sequence[Case]], models: Sequence[Segmenter]) -> None:
    """Predict each fold by its own model: datasets ids (n,) and probs (n, K, S, S) uint8, probability times 255.

    With test-time augmentation, as `mine` predicts the images that are calibrated for.
    """
    spec = models[0].spec
    ids = [case.id for fold in folds for case in fold]
    shape = (len(spec.classes), spec.size, spec.size)
    with new_hdf5(path) as file:
        file.attrs["schema"], file.attrs["flips"] = SCHEMA, True
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
        packed = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
        maps = file.create_dataset("probs", (len(ids), *shape), "u1", chunks=(1, *shape), **packed)
        row = 0
        for fold, model in zip(folds, models, strict=True):
            for case in fold:
                square = to_input(read_case_image(case), spec.size).permute(1, 2, 0).numpy()
                maps[row] = quantize(predict_batch(model.eval(), [square], flips=True)[0])
                row += 1


class FoldMaps:
    """out_of_fold.h5 of a run: probability maps of the labeled cases by models that have not seen them."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise CheckpointError(f"{path.parent} has no out-of-fold maps", "train it with `samsemi warmstart --folds 5`")
        self.path = path
        with open_hdf5(path, remedies.FOLDS) as file, named_damage(path, remedies.FOLDS):
            need_schema(file.attrs.get("schema"), SCHEMA, str(path), "a file of out-of-fold predictions", remedies.FOLDS)
            ids = need_dataset(file, "ids", h5py.string_dtype(), (None,), remedies.FOLDS)
            maps = need_dataset(file, "probs", np.dtype("u1"), (len(ids), *[None] * 3), remedies.FOLDS)
            self.row = {name.decode(): i for i, name in enumerate(read_whole(ids))}
            self.num_classes = maps.shape[1]
            if len(self.row) < len(maps) or not 0 < maps.shape[2] == maps.shape[3] <= MOST_SIDE:
                raise ValueError(f"{len(self.row)} cases, maps {maps.shape}")
            self.flips = bool(file.attrs.get("flips", False))
            """Whether they were made with test-time augmentation; those of earlier versions were not."""

    def need(self, ids: Sequence[str], num_classes: int | None = None) -> None:
        """CheckpointError where a case has no map, or the maps are of another number of classes."""
        if num_classes not in (None, self.num_classes):
            raise CheckpointError(f"{self.path} has maps of {self.num_classes} classes, the data set has {num_classes}", remedies.FOLDS)
        missing = [name for name in ids if name not in self.row]
        if missing:
            raise CheckpointError(
                f"{self.path} lacks {len(missing)} of {len(ids)} labeled cases, such as case {missing[0]}",
                "train the model with --folds on this data set",
            )

    def read(self, case_id: str, image_size: tuple[int, int]) -> np.ndarray:
        """(K, H, W) float32 probabilities at the size of the image; CheckpointError for a case that is not there."""
        self.need([case_id])
        with open_hdf5(self.path, remedies.FOLDS) as file, named_damage(f"{self.path}, case {case_id}", remedies.FOLDS):
            probs = torch.from_numpy(file["probs"][self.row[case_id]]).float()[None] / 255
        return torch.nn.functional.interpolate(probs, image_size, mode="bilinear")[0].numpy()
