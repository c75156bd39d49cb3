"""``samsemi mine``: what SAM makes of the model's masks on the unlabeled cases."""

import time

from samsemi import console
from samsemi.checkpoints import load_model_for
from samsemi.dataset import need_cases, read_dataset
from samsemi.devices import choose_device
from samsemi.errors import DataError, NothingUsable
from samsemi.mining import choose_policy, describe, mine_cases, open_writer, summarize
from samsemi.options import MineOptions
from samsemi.pictures import draw_mined
from samsemi.sam import load_sam
from samsemi.store import Store
from samsemi.tensors import hash_tensors


def mine(options: MineOptions) -> dict[str, object]:
    """Mine all unlabeled cases into a store; NothingUsable where no mask is accepted."""
    device = choose_device(options.device)
    dataset = read_dataset(options.dataset)
    cases = need_cases(dataset, "unlabeled")
    segmenter = load_model_for(dataset, options.model)
    sam = load_sam(options.sam, options.sam_checkpoint, device, options.precision)
    provenance = describe(options, sam, dataset.fingerprint(), hash_tensors(segmenter.state_dict()))
    writer = open_writer(options.out, options, sam, provenance)
    start, mined = time.monotonic(), 0
    if writer.is_finished():
        console.note(f"{options.out} is finished already")
    else:
        mined = mine_cases(cases, segmenter.to(device), sam, options, writer)
    seconds = time.monotonic() - start
    store = Store(options.out)
    result = summarize(store, choose_policy(options))
    if options.overlays:
        result["overlays"] = str(draw_mined(store, dataset, choose_policy(options), options.overlays))
    if result["unreadable"] == result["images"]:
        raise DataError(f"{options.dataset}: none of the {result['images']} unlabeled images can be read", "see `samsemi check`")
    if not result["accepted"]:
        raise NothingUsable(
            f"{options.out}: none of {result['objects']} objects was accepted ({result['rejected']})",
            "train the model longer, or lower --min-confidence, --min-predicted-iou, --min-stability, --min-agreement",
        )
    return {"store": str(options.out), "sam": sam.name, **result, "seconds": seconds, "images_per_second": mined / max(seconds, 1e-9)}
