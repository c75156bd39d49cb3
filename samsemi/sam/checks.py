"""Calls of a backend, and what it returns held against samsemi.sam.protocol before anything is made of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samsemi.errors import CheckpointError
from samsemi.own_code import call_own
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import BACKEND, KEYS, Embedding, MaskBatch, SamBackend


def encode_images(sam: SamBackend, images: Sequence[np.ndarray]) -> list[Embedding]:
    """``sam.encode``; CheckpointError where it returns anything else than it has to."""
    found = call_backend(sam, sam.encode, images)
    problem = list_problem(found, len(images), Embedding)
    for embedding, image in zip([] if problem else found, images, strict=False):
        problem = problem or embedding_problem(embedding, found[0], image)
    if problem:
        raise CheckpointError(f"{sam.name}: encode returns {problem}", BACKEND)
    return found


def decode_prompts(sam: SamBackend, embeddings: Sequence[Embedding], prompts: Sequence[Prompts]) -> list[MaskBatch]:
    """``sam.decode``; CheckpointError where it returns anything else than it has to."""
    found = call_backend(sam, sam.decode, embeddings, prompts)
    problem = list_problem(found, len(prompts), MaskBatch)
    for output, embedding, given in zip([] if problem else found, embeddings, prompts, strict=False):
        problem = problem or masks_problem(output, embedding.image_size, len(given))
    if problem:
        raise CheckpointError(f"{sam.name}: decode returns {problem}", BACKEND)
    return found


def call_backend(sam: SamBackend, method: Callable, *arguments: object) -> Any:
    """What a method of a backend returns; CheckpointError where one of the user's own fails."""
    if type(sam).__module__.startswith("samsemi."):
        return method(*arguments)
    return call_own(method, f"{sam.name}: {getattr(method, '__name__', 'its method')}", *arguments)


def embedding_problem(embedding: Embedding, first: Embedding, image: np.ndarray) -> str:
    """What is wrong with the embedding of an image, the ``first`` of whose batch has tensors of the same shapes; '' where nothing is."""
    tensors, others = embedding.tensors, first.tensors
    if not isinstance(tensors, Mapping) or not isinstance(others, Mapping) or set(tensors) != set(others):
        return "tensors that are no table, or not the same for all images"
    nameless = next((name for name in tensors if not (isinstance(name, str) and name.isidentifier() and name.isascii())), None)
    if nameless is not None or KEYS in tensors:
        return f"a tensor of the name {KEYS if nameless is None else nameless!a:.60}, which it may not have"
    problems = (tensor_problem(name, tensor, getattr(others[name], "shape", ())) for name, tensor in tensors.items())
    return size_problem(embedding.image_size, image.shape[:2]) or next(filter(None, problems), "")


def masks_problem(output: MaskBatch, image_size: tuple[int, int], count: int) -> str:
    """What is wrong with the masks of so many prompts; '' where nothing is."""
    shape = getattr(output.low_res_logits, "shape", ())
    problem = size_problem(output.image_size, image_size) or tensor_problem("predicted_iou", output.predicted_iou, (count,))
    problem = problem or tensor_problem("low_res_logits", output.low_res_logits, (count, *shape[1:]))
    sides = (*output.input_size, output.input_side) if isinstance(output.input_size, Sequence) else ()
    if not problem and (len(shape) != 3 or len(sides) != 3 or not all(isinstance(n, int) and 0 < n <= sides[-1] for n in sides)):
        problem = f"masks of shape {tuple(shape)} over {output.input_size!s:.60} of {output.input_side!s:.60} px"
    return problem


def list_problem(found: object, count: int, kind: type) -> str:
    """What is wrong with a list of so many of a kind; '' where nothing is."""
    if not isinstance(found, Sequence) or not all(isinstance(part, kind) for part in found):
        return f"no list of {kind.__name__}"
    return "" if len(found) == count else f"{len(found)} of {count} {kind.__name__}"


def size_problem(found: object, wanted: tuple[int, ...]) -> str:
    fits = isinstance(found, Sequence) and tuple(found) == tuple(wanted)
    return "" if fits else f"image_size {found!s:.60} for an image of {tuple(wanted)}"


def tensor_problem(name: str, found: object, shape: Sequence[int]) -> str:
    """What is wrong with a tensor of numbers of a shape; '' where nothing is."""
    if not isinstance(found, Tensor) or found.dtype != torch.float32:
        return f"{name} of {getattr(found, 'dtype', type(found).__name__)}, not a tensor of float32"
    if found.layout != torch.strided or found.is_meta:
        return f"{name} of {'no numbers (on meta)' if found.is_meta else found.layout}, not a plain tensor"
    if found.requires_grad:
        return f"{name} that requires gradients; compute it within torch.inference_mode()"
    if tuple(found.shape) != tuple(shape):
        return f"{name} of shape {tuple(found.shape)}, not {tuple(shape)}"
    return "" if found.sum().isfinite() else f"{name} with NaN or infinity"
