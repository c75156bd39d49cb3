"""Which cases are pictured: of those that were measured the telling ones, of the mined ones the sure and the doubtful."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from samsemi import console
from samsemi.data.dataset import Dataset
from samsemi.devices import choose_device
from samsemi.errors import SamsemiError
from samsemi.mining.miner import as_mined, open_store
from samsemi.mining.policy import Policy
from samsemi.mining.store import Store
from samsemi.options.report import ReportOptions
from samsemi.reporting.comparison import Arm, choose_cases, comparable
from samsemi.reporting.networks import Predictor, load_predictors
from samsemi.reporting.pictures import Picture, choose_mined, picture_measured, picture_mined
from samsemi.reporting.sources import Sources

LOG = logging.getLogger("samsemi")
NO_DATASET = "the data set was not found, by its fingerprint, beside what was given. Give --dataset DIR."
NO_TRUTH = "cases with a known truth, since no evaluation of a labeled split of this data set was given."
NO_STORE = "mined cases, since there is no store."
Draw = Callable[[], Picture]


def draw_gallery(sources: Sources, arms: Sequence[Arm], options: ReportOptions) -> tuple[list[Picture], list[str]]:
    """The pictured cases, measured ones first; and why some are not there, a sentence each.

    Truth is shown of measured cases with a mask alone; that of unlabeled cases is not read.
    """
    dataset = sources.dataset
    if not options.cases or dataset is None:
        return [], [NO_DATASET if options.cases else "--cases is 0."]
    predictors = load_predictors([arm.first for arm in arms], options.model, dataset, choose_device(options.device), options.precision)
    half = options.cases if not sources.stores else options.cases - options.cases // 2
    measured = list(plan_measured(arms, dataset, half, predictors))
    mined, reasons = plan_mined(sources.stores, dataset, options.cases - len(measured), predictors[-1:])
    reasons = [*([] if measured else [NO_TRUTH]), *reasons]
    pictures = []
    with console.progress("report", len(measured) + len(mined), "cases") as advance:
        for draw in (*measured, *mined):
            try:
                pictures.append(draw())
            except SamsemiError as error:
                LOG.warning(f"not pictured: {error.message}")
            advance()
    return pictures, reasons


def plan_measured(arms: Sequence[Arm], dataset: Dataset, count: int, predictors: Sequence[Predictor]) -> Iterator[Draw]:
    """Of the first and the last arm that measured cases with a mask."""
    shown = [arm for arm in arms if all(is_shown(name, dataset) for name in arm.scores)]
    if shown:
        first = shown[0] if comparable(shown[0], shown[-1]) else shown[-1]
        for name, kind in choose_cases(first.scores, shown[-1].scores, count).items():
            yield partial(picture_measured, dataset.cases[name], kind, dataset, predictors)


def is_shown(name: str, dataset: Dataset) -> bool:
    """Whether the truth of a case may be shown: it stands in the data set as a mask."""
    return name in dataset.cases and dataset.cases[name].mask is not None


def plan_mined(stores: Mapping[str, Store], dataset: Dataset, count: int, predictors: Sequence[Predictor]) -> tuple[list[Draw], list[str]]:
    """Of the last store of this data set, and why of none."""
    if not stores:
        return [], [NO_STORE]
    label, store = [*stores.items()][-1]
    try:
        open_store(store.path, dataset)
    except SamsemiError as error:
        return [], [f"mined cases: {error.message}."]
    policy = Policy.from_json(store.provenance.policy, f"{store.path}, policy")
    return [
        partial(picture_stored, name, f"{label}: {kind}", dataset, store, policy, predictors)
        for name, kind in choose_mined(store, policy, count).items()
    ], []


def picture_stored(name: str, kind: str, dataset: Dataset, store: Store, policy: Policy, predictors: Sequence[Predictor]) -> Picture:
    return picture_mined(as_mined(dataset.cases[name], store), kind, dataset, store, policy, predictors)
