"""``samsemi mine``: what SAM makes of the model's masks on the unlabeled cases."""

import time

from samsemi import clock, console
from samsemi.data.dataset import need_cases, read_dataset, refuse_changed_files
from samsemi.devices import choose_device
from samsemi.errors import DataError, NothingUsable
from samsemi.mining.calibration import finish_store
from samsemi.mining.folds import OUT_OF_FOLD, FoldMaps
from samsemi.mining.miner import Miner, describe, mine_cases, open_writer, store_policy, summarize
from samsemi.mining.pictures import draw_mined
from samsemi.mining.store import Store
from samsemi.options.mine import MineOptions
from samsemi.sam.protocol import load_sam
from samsemi.segmenters.checkpoints import load_model_for
from samsemi.tensors import hash_file, hash_tensors


def mine(options: MineOptions) -> dict[str, object]:
    """Mine all unlabeled cases into a store; NothingUsable where no mask is accepted."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    cases = need_cases(dataset, "unlabeled")
    segmenter = load_model_for(dataset, options.model)
    sam = load_sam(options.sam, options.sam_checkpoint, device, options.precision)
    fold_maps = FoldMaps(options.model / OUT_OF_FOLD) if options.calibrate and (options.model / OUT_OF_FOLD).exists() else None
    out_of_fold = hash_file(fold_maps.path) if fold_maps else None
    provenance = describe(options, sam, dataset.fingerprint(), hash_tensors(segmenter.state_dict()), out_of_fold)
    writer = open_writer(options.out, options, sam, provenance, len(dataset.classes))
    start, mined = time.monotonic(), 0
    if writer.is_finished():
        refuse_changed_files(dataset.cases.values())
        console.note(f"{options.out} is finished already")
    else:
        miner = Miner(segmenter.to(device), sam, options)
        mined = mine_cases(cases, miner, writer)
        finish_store(writer, miner, dataset, fold_maps)
        miner.close()
    seconds = time.monotonic() - start
    store = Store(options.out)
    policy = store_policy(store, options)
    result = summarize(store, policy)
    if options.overlays:
        result["overlays"] = str(draw_mined(store, dataset, policy, options.overlays))
    if result["unreadable"] == result["images"]:
        raise DataError(f"{options.dataset}: none of the {result['images']} unlabeled images can be read", "see `samsemi check`")
    if not result["objects"]:
        raise NothingUsable(f"{options.model} finds nothing in any of {result['images']} unlabeled images", "train the model longer")
    if not result["accepted"]:
        why = ", ".join(f"{reason} {count}" for reason, count in result["rejected"].items())
        raise NothingUsable(
            f"{options.out}: none of {result['objects']} objects was accepted ({why})",
            "train the model longer, or lower what was given as --target-precision or --min-...",
        )
    return {
        "store": str(options.out),
        "sam": sam.name,
        **result,
        **told(store),
        "seconds": clock.lap(),
        "images_per_second": mined / max(seconds, 1e-9),
    }


def told(store: Store) -> dict[str, object]:
    """What the calibration says, for the closing table."""
    calibration = store.provenance.calibration
    names = {"precision": "calibrated_precision", "min_quality": "min_quality", "objects": "calibrated_objects"}
    return {shown: calibration[name] for name, shown in names.items() if name in calibration}
