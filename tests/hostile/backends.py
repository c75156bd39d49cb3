"""Backends of one's own that return the wrong thing: each a loader for ``--sam``, a right one with one thing wrong."""

from collections.abc import Callable
from typing import Any

import torch
from hostile.case import CHECKPOINT, DEVICE, USAGE, Case

from samsemi.sam.protocol import Embedding, MaskBatch

MINE = "mine {dataset} --model {warm} --out out.h5 --min-area 16 --sam"


class Backend:
    """Masks that are all inside."""

    name, identity, mask_size, prompt_kinds = "own", "0" * 64, 64, None

    def __init__(self, **wrong: Any):
        vars(self).update({name: value for name, value in wrong.items() if value is not Missing})
        self.missing = [name for name, value in wrong.items() if value is Missing]

    def __getattribute__(self, name: str) -> Any:
        if name not in ("missing", "__dict__", "__class__") and name in vars(self).get("missing", ()):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def encode(self, images):
        return [embedding(image.shape[:2]) for image in images]

    def decode(self, embeddings, prompts):
        return [masks(len(own), one.image_size) for one, own in zip(embeddings, prompts, strict=True)]


class Missing:
    """Instead of a value: there is no such attribute."""


def embedding(size, **tensors) -> Embedding:
    return Embedding(tensors or {"features": torch.zeros(4, 8, 8)}, size)


def masks(count, size, logits=None, iou=None, input_size=(64, 64), side=64) -> MaskBatch:
    own = torch.ones(count, 64, 64) if logits is None else logits
    return MaskBatch(own, torch.ones(count) if iou is None else iou, size, input_size, side)


def loader(**wrong: Any) -> Callable:
    return lambda checkpoint, device, precision: Backend(**wrong)


def each(make: Callable) -> Callable:
    """A decode that makes the masks of one image from their number and its size."""
    return lambda embeddings, prompts: [make(len(own), one.image_size) for one, own in zip(embeddings, prompts, strict=True)]


def raising(error: BaseException) -> Callable:
    def method(*arguments):
        raise error

    return method


WRONG: dict[str, Callable] = {
    "nothing": lambda checkpoint, device, precision: None,
    "a number": lambda checkpoint, device, precision: 3,
    "no_decode": loader(decode=None),
    "no_identity": loader(identity=Missing),
    "identity_a_number": loader(identity=3),
    "name_nothing": loader(name=None),
    "mask_size_negative": loader(mask_size=-64),
    "mask_size_huge": loader(mask_size=10**9),
    "mask_size_text": loader(mask_size="64"),
    "kinds_unknown": loader(prompt_kinds="circle"),
    "encode_nothing": loader(encode=lambda images: None),
    "encode_fewer": loader(encode=lambda images: [embedding(image.shape[:2]) for image in images[1:]]),
    "encode_text": loader(encode=lambda images: ["x"] * len(images)),
    "encode_arrays": loader(encode=lambda images: [embedding(image.shape[:2], features=image) for image in images]),
    "encode_sizes_turned": loader(encode=lambda images: [embedding(image.shape[1::-1]) for image in images]),
    "decode_nothing": loader(decode=lambda embeddings, prompts: None),
    "decode_fewer": loader(decode=lambda embeddings, prompts: []),
    "decode_text": loader(decode=lambda embeddings, prompts: ["x"] * len(prompts)),
    "decode_fewer_masks": loader(decode=each(lambda n, size: masks(n, size, torch.ones(max(n - 1, 0), 64, 64)))),
    "decode_more_masks": loader(decode=each(lambda n, size: masks(n + 1, size))),
    "decode_nan": loader(decode=each(lambda n, size: masks(n, size, torch.full((n, 64, 64), torch.nan)))),
    "decode_nan_iou": loader(decode=each(lambda n, size: masks(n, size, iou=torch.full((n,), torch.nan)))),
    "decode_flat": loader(decode=each(lambda n, size: masks(n, size, torch.ones(n, 64)))),
    "decode_channels": loader(decode=each(lambda n, size: masks(n, size, torch.ones(n, 3, 64, 64)))),
    "decode_ious": loader(decode=each(lambda n, size: masks(n, size, iou=torch.ones(n, 3)))),
    "decode_integers": loader(decode=each(lambda n, size: masks(n, size, torch.ones(n, 64, 64, dtype=torch.int64)))),
    "decode_input_empty": loader(decode=each(lambda n, size: masks(n, size, input_size=(0, 0)))),
    "decode_side_negative": loader(decode=each(lambda n, size: masks(n, size, side=-5))),
    "decode_side_huge": loader(decode=each(lambda n, size: masks(n, size, input_size=(10**6, 10**6), side=10**6))),
    "decode_size_turned": loader(decode=each(lambda n, size: masks(n, (size[1] + 1, size[0])))),
}
"""What a loader of this name returns."""
OTHERS = {"kinds_unknown": (USAGE, CHECKPOINT), "decode_side_huge": (CHECKPOINT, DEVICE)}
"""Codes that are right as well."""
globals().update({name.replace(" ", "_"): function for name, function in WRONG.items()})
not_callable = 3

CASES = [
    *(
        Case(f"backend: {name.replace('_', ' ')}", f"{MINE} hostile.backends:{name.replace(' ', '_')}", OTHERS.get(name, CHECKPOINT))
        for name in WRONG
    ),
    Case("backend: no function", f"{MINE} hostile.backends:not_callable", USAGE, "hostile.backends"),
    Case("backend: no such module", f"{MINE} no_such_module:load", USAGE, "no_such_module"),
    Case("backend: no name of a module", f"{MINE} :load", USAGE, ":load"),
    Case("backend: a module that cannot be", f"{MINE} ../evil:load", USAGE, "evil"),
    Case("backend: a function of Python's", f"{MINE} os:getcwd", (USAGE, CHECKPOINT), ""),
    Case(
        "backend: adapted, though it is none",
        "adapt {dataset} --out out.safetensors --iterations 1 --sam hostile.backends:a_number",
        (USAGE, CHECKPOINT),
        "",
    ),
    Case(
        "backend: distilled, though it is none",
        "distill {dataset} --out out --batch-size 4 --iterations 1 --sam hostile.backends:nothing",
        (USAGE, CHECKPOINT),
        "",
    ),
]
