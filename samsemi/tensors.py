"""Files of tensors: safetensors of our own, and foreign .pth files loaded as plain tensors, never as pickled objects."""

import hashlib
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from samsemi.errors import CheckpointError
from samsemi.inputs import need_regular
from samsemi.outputs import whole_file

CARD = "samsemi"
"""Key in the header of weights that were made here: what from, and how good. Also the mark by which they are known."""
DIGEST = "sha256"
"""Key in the header of tensors that were written here: what they hash to. Foreign files, and those of before, lack it."""
NO_WEIGHTS = "the file is damaged, or what wrote it went wrong: make it again, or take a copy that is whole"


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors (and text in the header) to a safetensors file, whole or not at all."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as part:
        part.touch()
        mode = part.stat().st_mode  # as for any new file; safetensors would make it private
        save_file(kept, part, metadata={**(metadata or {}), DIGEST: hash_tensors(kept)})
        part.chmod(mode)
        order_header(part)


def order_header(path: Path) -> None:
    """Put the texts in a safetensors header in order: safetensors writes them in any, and equal weights would hash differently."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        texts = dict(sorted(header.pop("__metadata__").items()))
        ordered = json.dumps({"__metadata__": texts, **header}, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) <= size:
            file.seek(8)
            file.write(ordered.ljust(size))


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors or .pth file; CheckpointError for anything else, and nothing in it is run."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint", "check the path")
    try:
        if path.suffix == ".safetensors":
            return load_checked(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded ({first_line(error)})",
            "only plain weights are loaded; save its state_dict, best as .safetensors",
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # whatever goes wrong in reading foreign bytes, they are no checkpoint
        hint = "give a .safetensors or .pth file of weights"
        raise CheckpointError(f"{path} is not a checkpoint ({first_line(error)})", hint) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise CheckpointError(f"{path} holds no weights by name", "save the model's state_dict")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def load_checked(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; ValueError where they are not those of which its header has the hash."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(DIGEST)
    if expected and expected != hash_tensors(tensors):
        raise ValueError("its tensors are not those that were written")
    return tensors


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]


def load_metadata(path: Path, hint: str = NO_WEIGHTS) -> dict[str, str]:
    """The text in the header of a safetensors file, but for the hash of its tensors; CheckpointError where it cannot be read."""
    try:
        need_regular(path)
        with safe_open(path, framework="pt") as file:
            return {name: text for name, text in (file.metadata() or {}).items() if name != DIGEST}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})", hint) from None


def load_strictly(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], source: str, hint: str) -> None:
    """Fill a module; CheckpointError naming the first weights that are missing, unexpected, of another shape or no weights at all."""
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    reshaped = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing or unexpected or reshaped:
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
        shown = "; ".join(f"{len(names)} {kind}, such as {names[0]}" for kind, names in kinds.items() if names)
        raise CheckpointError(f"{source} does not fit: weights {shown}", hint)
    refuse_no_weights(tensors, own, source)
    module.load_state_dict(tensors)


def refuse_no_weights(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], source: str) -> None:
    """CheckpointError naming the first tensor that holds whole numbers in place of weights, or what is no number; and for weights that
    are all 0. ``own`` has the tensors of these names that are to be filled."""
    zero = None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() != own[name].is_floating_point():
            kinds = [str(kind).removeprefix("torch.") for kind in (tensor.dtype, own[name].dtype)]
            raise CheckpointError(f"{source}: {name} is of type {kinds[0]}, not {kinds[1]}", NO_WEIGHTS)
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = (value.item() for value in tensor.aminmax())
        if not math.isfinite(low) or not math.isfinite(high):
            raise CheckpointError(f"{source}: {name} holds NaN or infinity", NO_WEIGHTS)
        if tensor.ndim > 1 and zero != "":
            zero = "" if low or high else zero or name
    if zero:
        raise CheckpointError(f"{source}: all weights are 0, such as {zero}", NO_WEIGHTS)


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the names, types, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
