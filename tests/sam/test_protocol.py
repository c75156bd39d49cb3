"""What a backend returns is checked: a wrong one is named, and nothing of it is stored."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from samsemi.errors import CheckpointError, UsageError
from samsemi.sam.checks import decode_prompts, encode_images
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import Embedding, MaskBatch, SamBackend, load_sam

IMAGES = [np.zeros((5, 9, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
PROMPTS = [Prompts(boxes=np.tile(np.float32([0, 0, 2, 2]), (count, 1))) for count in (2, 1)]
NAN = torch.tensor(torch.nan)


def embedding_of(image: np.ndarray) -> Embedding:
    return Embedding({"features": torch.ones(2, 3, 3)}, image.shape[:2])


def masks_of(embedding: Embedding, prompts: Prompts) -> MaskBatch:
    return MaskBatch(torch.ones(len(prompts), 4, 4), torch.ones(len(prompts)), embedding.image_size, (16, 16), 16)


def backend(change_embedding: Callable = lambda e: e, change_masks: Callable = lambda m: m, of: Callable = list) -> SamBackend:
    """A SAM that changes the last of what it returns, and then the list."""

    def encode(images):
        found = [embedding_of(image) for image in images]
        return of([*found[:-1], change_embedding(found[-1])])

    def decode(embeddings, prompts):
        found = [masks_of(*pair) for pair in zip(embeddings, prompts, strict=True)]
        return of([*found[:-1], change_masks(found[-1])])

    return SimpleNamespace(name="own", identity="x", mask_size=4, prompt_kinds=None, encode=encode, decode=decode)


def test_what_is_right_passes():
    embeddings = encode_images(backend(), IMAGES)
    assert [len(masks) for masks in decode_prompts(backend(), embeddings, PROMPTS)] == [2, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, image_size=(9, 5)),
        lambda e: replace(e, image_size=None),
        lambda e: replace(e, tensors=torch.ones(2)),
        lambda e: replace(e, tensors={"other": torch.ones(2, 3, 3)}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 4)}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 3).int()}),
        lambda e: replace(e, tensors={"features": np.ones((2, 3, 3))}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 3) * NAN}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 3).double()}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 3).bfloat16()}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 3, device="meta")}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 3).to_sparse()}),
        lambda e: replace(e, tensors={"features": torch.ones(2, 3, 3, requires_grad=True)}),
        lambda e: replace(e, tensors={"features": None}),
        lambda e: replace(e, tensors={"features": [1.0]}),
        lambda e: e.tensors["features"],
        lambda e: None,
    ],
)
def test_wrong_embedding_is_named(change):
    with pytest.raises(CheckpointError, match="own: encode returns"):
        encode_images(backend(change_embedding=change), IMAGES)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, image_size=(9, 5)),
        lambda m: replace(m, predicted_iou=torch.ones(3)),
        lambda m: replace(m, predicted_iou=torch.ones(1) * NAN),
        lambda m: replace(m, predicted_iou=0.5),
        lambda m: replace(m, low_res_logits=torch.ones(2, 4, 4)),
        lambda m: replace(m, low_res_logits=torch.ones(1, 4)),
        lambda m: replace(m, low_res_logits=torch.ones(1, 4, 4) > 0),
        lambda m: replace(m, low_res_logits=torch.full((1, 4, 4), torch.inf)),
        lambda m: replace(m, low_res_logits=np.ones((1, 4, 4))),
        lambda m: replace(m, low_res_logits=torch.ones(1, 4, 4, device="meta")),
        lambda m: replace(m, low_res_logits=torch.ones(1, 4, 4).to_sparse()),
        lambda m: replace(m, low_res_logits=torch.ones(1, 4, 4, requires_grad=True)),
        lambda m: replace(m, low_res_logits=torch.ones(1, 4, 4).half()),
        lambda m: replace(m, low_res_logits=None),
        lambda m: replace(m, predicted_iou=[1.0]),
        lambda m: replace(m, input_size=(17, 16)),
        lambda m: replace(m, input_size=16),
        lambda m: replace(m, input_side=0),
        lambda m: m.low_res_logits,
    ],
)
def test_wrong_masks_are_named(change):
    embeddings = [embedding_of(image) for image in IMAGES]
    with pytest.raises(CheckpointError, match="own: decode returns"):
        decode_prompts(backend(change_masks=change), embeddings, PROMPTS)


@pytest.mark.parametrize("of", [lambda found: found[:-1], lambda found: [*found, found[0]], iter, lambda found: None])
def test_wrong_list_is_named(of):
    with pytest.raises(CheckpointError, match="own: encode returns"):
        encode_images(backend(of=of), IMAGES)
    with pytest.raises(CheckpointError, match="own: decode returns"):
        decode_prompts(backend(of=of), [embedding_of(image) for image in IMAGES], PROMPTS)


@pytest.mark.parametrize("name", ["keys", "a/b", ".", "", "\ud800", 3])
def test_tensor_of_a_name_that_no_cache_can_hold_is_named(name):
    of = partial(Embedding, {name: torch.ones(2)})
    own = SimpleNamespace(**{**vars(backend()), "encode": lambda images: [of(image.shape[:2]) for image in images]})
    with pytest.raises(CheckpointError, match="own: encode returns a tensor of the name"):
        encode_images(own, IMAGES)


def raise_deep(*arguments):
    np.reshape(np.ones(3), (2, 2))


def test_method_that_fails_is_named_with_the_place_in_the_code_of_the_user():
    own = SimpleNamespace(**{**vars(backend()), "encode": raise_deep, "decode": raise_deep})
    where = rf"own: raise_deep: ValueError in {re.escape(__file__)}, line {raise_deep.__code__.co_firstlineno + 1}: cannot reshape"
    with pytest.raises(CheckpointError, match=where):
        encode_images(own, IMAGES)
    with pytest.raises(CheckpointError, match=where):
        decode_prompts(own, [embedding_of(image) for image in IMAGES], PROMPTS)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()])
def test_lack_of_memory_in_a_backend_is_not_its_fault(error):
    def fail(*arguments):
        raise error

    with pytest.raises(type(error)):
        encode_images(SimpleNamespace(**{**vars(backend()), "encode": fail}), IMAGES)


def test_failure_of_a_sam_of_samsemi_is_a_bug():
    sam = load_sam("ellipse", None, torch.device("cpu"))
    with pytest.raises(AttributeError):
        encode_images(sam, [None])


WRONG = {
    "nothing": (None, "name, identity"),
    "no_decode": (SimpleNamespace(**{**vars(backend()), "decode": None}), "decode"),
    "size_of_text": (SimpleNamespace(**{**vars(backend()), "mask_size": "4"}), "mask_size"),
    "huge": (SimpleNamespace(**{**vars(backend()), "mask_size": 10**6}), "mask_size is 1000000"),
    "surrogate": (SimpleNamespace(**{**vars(backend()), "identity": "\ud800"}), r"identity is '\\ud800'"),
    "nul": (SimpleNamespace(**{**vars(backend()), "name": "a\0b"}), r"name is 'a\\x00b'"),
}


def returns_nothing(*_):
    return WRONG["nothing"][0]


def returns_no_decode(*_):
    return WRONG["no_decode"][0]


def returns_size_of_text(*_):
    return WRONG["size_of_text"][0]


def returns_huge(*_):
    return WRONG["huge"][0]


def returns_surrogate(*_):
    return WRONG["surrogate"][0]


def returns_nul(*_):
    return WRONG["nul"][0]


@pytest.mark.parametrize("kind", WRONG)
def test_loader_that_returns_no_backend_is_named(kind):
    with pytest.raises(CheckpointError, match=WRONG[kind][1]):
        load_sam(f"{__name__}:returns_{kind}", None, torch.device("cpu"))


def fails(checkpoint: Path | None, device: torch.device, precision: str):
    raise KeyError("weights")


def test_loader_that_fails_is_named_with_the_place():
    with pytest.raises(UsageError, match=r"KeyError in .*test_protocol\.py, line \d+: 'weights'"):
        load_sam(f"{__name__}:fails", None, torch.device("cpu"))
    with pytest.raises(UsageError, match="TypeError"):
        load_sam(f"{__name__}:PROMPTS", None, torch.device("cpu"))
