"""What several tests build: images, data sets, small SAMs, commands and their outcome."""

import contextlib
import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from samsemi import cli
from samsemi.locks import SCHEMA, describe_self
from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import quantize
from samsemi.mining.store import Mined
from samsemi.sam.original import OriginalNetwork, OriginalSam
from samsemi.sam.protocol import SamBackend, load_sam
from samsemi.segmenters.checkpoints import load_model, read_model_card, save_model
from samsemi.tensors import load_tensors
from samsemi.training.runs import Run

ROOT = Path(__file__).resolve().parent.parent


NETWORK = ("--size", 64, "--encoder", "tu-lcnet_035", "--decoder-channels", "16,12,8,8,8", "--batch-size", 4, "--ema", 0.8, "--lr", 0.01)
"""A network that a CPU trains in seconds."""


ACCEPT_ALL = ("--min-confidence", 0, "--min-predicted-iou", 0, "--min-stability", 0, "--min-agreement", 0, "--min-quality", 0)


MINING = ("--batch-size", 2, *ACCEPT_ALL)


RUN_FILES = {
    "config.toml",
    "environment.json",
    "history.csv",
    "model.json",
    "model_card.md",
    "model.safetensors",
    "made_from.json",
}


CPU = torch.device("cpu")


HEIGHT, WIDTH = 40, 60


SIZE = 16


SCORES = ("predicted_iou", "stability", "agreement", "consensus", "confidence", "area_ratio", "ensemble")


ALL = Policy(min_confidence=0, min_predicted_iou=0, min_stability=0, min_agreement=0)


USAGE, REFUSED, DATA, CHECKPOINT, DEVICE = 2, 3, 4, 5, 6


needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9")


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict:
        """The JSON object on stdout; fails where anything else stands there."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def on_cpu(arguments: tuple) -> list[str]:
    """Arguments as text; commands that compute do so on the CPU unless told otherwise, since bits are compared."""
    computes = arguments and arguments[0] in ("warmstart", "adapt", "mine", "finetune", "distill", "eval", "predict")
    return [str(argument) for argument in arguments] + (["--device", "cpu"] if computes and "--device" not in arguments else [])


def call(*arguments: object) -> Outcome:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(on_cpu(arguments))
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> Outcome:
    """Run a command that has to end with exit code 0."""
    outcome = call(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def files_in(folder: Path) -> set[str]:
    """All files below a folder, as relative paths."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def hdf5_values(path: Path) -> dict[str, object]:
    """Every dataset and every attribute of the root of an HDF5 file, as plain values that can be compared."""
    found: dict[str, object] = {}

    def keep(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            columns = item.dtype.names or [()]
            found[name] = [str(item.dtype), *(item[column].tolist() for column in columns)]

    with h5py.File(path, "r") as file:
        found |= {f"attribute {name}": value for name, value in file.attrs.items()}
        file.visititems(keep)
    return found


def write_lock(path: Path, **changed: object) -> None:
    """A lock of a process on another host, or as changed."""
    holder = {**asdict(describe_self()), "host": "elsewhere", "token": "0" * 16, **changed}
    path.write_text(json.dumps({"schema": SCHEMA, **holder}))


def as_process(patch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    """This process is one of several, by what a launcher says."""
    found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in found.items():
        patch.setenv(name, str(value))


def write_image(path: Path, array: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def read_array(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@contextlib.contextmanager
def watched_states(found: dict[Path, dict[str, torch.Tensor]]) -> Iterator[None]:
    """Fill in the state that each run has reached when it is whole, by its folder: a finished one does not keep it."""
    finish = Run.finish

    def watch(run: Run) -> None:
        if run.state_file.exists():
            found[run.folder] = load_tensors(run.state_file)
        finish(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "finish", watch)
        yield


def train_on(run: Path) -> None:
    """Another model in a run folder, as if it had been trained further."""
    segmenter, card = load_model(run), read_model_card(run)
    for value in segmenter.state_dict().values():
        value += 1
    save_model(run, segmenter, {"scores": card.scores, "made_from": card.made_from})


def truncate(path: Path) -> None:
    """Cut a file to its first half, as a broken copy does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def load_example(name: str):
    """A script of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_cases(count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """id -> image and 0/255 mask of the demo's pictures, growths tinted so that a few steps suffice to learn them."""
    draw_image = load_example("draw_images").draw_image
    cases = {}
    for number in range(count):
        patient, visit = divmod(number, 3)
        image, mask = draw_image(7, patient, visit)
        tinted = 0.3 * image + np.array([0, 150, 150])
        cases[f"p{patient:03d}_{visit}"] = np.where(mask[..., None] > 0, tinted, image).astype(np.uint8), mask
    return cases


def build_sam(img_size: int, patch_size: int) -> Sam:
    """A random SAM whose masks depend on everything: its position embeddings are not 0, its logits not near 0."""
    grid, width = img_size // patch_size, 16
    torch.manual_seed(0)
    sam = Sam(
        image_encoder=ImageEncoderViT(
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=16,
            depth=2,
            num_heads=2,
            out_chans=width,
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=width, image_embedding_size=(grid, grid), input_image_size=(img_size, img_size), mask_in_chans=4
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=32, num_heads=2),
            transformer_dim=width,
            iou_head_depth=2,
            iou_head_hidden_dim=width,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    with torch.no_grad():
        for name, weight in sam.named_parameters():
            if "pos" in name:
                weight.normal_(std=0.5)
            if "output_hypernetworks_mlps" in name or "iou_prediction_head" in name:
                weight.mul_(3)
    return sam.eval()


def original_of(sam: OriginalSam) -> Sam:
    """segment-anything's own model of the weights of a backend around a ``build_sam``, none of whose layers are replaced."""
    original = build_sam(sam.side, sam.side // sam.network.image_encoder.pos_embed.shape[1])
    original.load_state_dict(sam.network.state_dict())
    return original


def build_network(img_size: int, patch_size: int) -> OriginalNetwork:
    return OriginalNetwork(build_sam(img_size, patch_size)).eval()


class OwnSam:
    """A backend that can be trained, of no class of samsemi's."""

    def __init__(self, sam: OriginalSam):
        vars(self).update(vars(sam), name="own")

    encode, decode, with_weights_of = OriginalSam.encode, OriginalSam.decode, OriginalSam.with_weights_of
    scale_prompts, place, tensor = OriginalSam.scale_prompts, OriginalSam.place, OriginalSam.tensor
    mask_extent = OriginalSam.mask_extent


def load_own_sam(checkpoint: Path | None, device: torch.device, precision: str) -> OwnSam:
    """For ``--sam builders:load_own_sam``."""
    return OwnSam(load_sam("tiny", checkpoint, device, precision))


def load_own_ellipse(checkpoint: Path | None, device: torch.device, precision: str) -> SamBackend:
    """For ``--sam builders:load_own_ellipse``."""
    return load_sam("ellipse", checkpoint, device, precision)


def probs_of(*parts: tuple[np.ndarray, int, float], num_classes: int = 2) -> np.ndarray:
    """(K, H, W) maps: background 0.9 everywhere, then each part (mask, class, probability) painted over."""
    shape = parts[0][0].shape if parts else (HEIGHT, WIDTH)
    probs = np.full((num_classes, *shape), 0.1 / (num_classes - 1), dtype=np.float32)
    probs[0] = 0.9
    for mask, class_id, p in parts:
        probs[:, mask] = (1 - p) / (num_classes - 1)
        probs[class_id, mask] = p
    return probs


def rectangle(x0: int, y0: int, x1: int, y1: int, shape=(HEIGHT, WIDTH)) -> np.ndarray:
    """True from (x0, y0) to (x1, y1), both included."""
    mask = np.zeros(shape, dtype=bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def u_shape() -> np.ndarray:
    mask = rectangle(20, 8, 44, 32)
    mask[8:26, 27:38] = False
    return mask


def ring() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot(y - 20, x - 35)
    return (radius <= 15) & (radius >= 10)


def c_shape() -> np.ndarray:
    return rectangle(30, 4, 55, 35) & ~rectangle(36, 9, 55, 30)


def disk_at_corner() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(y, x - (WIDTH - 1)) <= 9


def block(y0: int, y1: int, x0: int, x1: int, value: float = 1.0, size: int = SIZE) -> np.ndarray:
    """(size, size) float map: ``value`` in the rows y0..y1 - 1 and columns x0..x1 - 1."""
    probs = np.zeros((size, size), dtype=np.float32)
    probs[y0:y1, x0:x1] = value
    return probs


def mined_of(*maps: np.ndarray, prior=None, image_size=(32, 64), network=None, num_classes=2, **values) -> Mined:
    """One object per probability map of SAM; scores 1, class 1, prompted with the whole image where nothing else is said.

    ``prior`` are the network's maps of the objects, SAM's where nothing else is said; or ``network`` (K, S, S) is all of its map.
    """
    count, (height, width) = len(maps), image_size
    class_id = np.asarray(values.get("class_id", np.ones(count)), dtype=np.uint8)
    prior = np.stack(prior if prior is not None else maps) if count else np.zeros((0, SIZE, SIZE), dtype=np.float32)
    network = network_of(prior, class_id, num_classes) if network is None else np.asarray(network)
    fields = {
        "class_id": class_id,
        "boxes": np.zeros((count, 4), dtype=np.float32),
        "prompt_boxes": np.tile(np.array([0, 0, width - 1, height - 1], dtype=np.float32), (count, 1)),
        "windows": np.tile(np.array([0, 0, width, height], dtype=np.float32), (count, 1)),
        **{name: np.ones(count, dtype=np.float32) for name in SCORES},
        "area": np.full(count, 50, dtype=np.int64),
        "probs": quantize(np.stack(maps)) if maps else np.zeros((0, SIZE, SIZE), dtype=np.uint8),
        "network_probs": quantize(network),
        "components": np.where(prior.max(axis=0, initial=0) > 0.5, prior.argmax(axis=0) + 1, 0).astype(np.uint16)
        if count
        else np.zeros(network.shape[1:], np.uint16),
    }
    return Mined(image_size=image_size, **{**fields, **{name: np.asarray(v, dtype=fields[name].dtype) for name, v in values.items()}})


def network_of(prior: np.ndarray, class_id: np.ndarray, num_classes: int) -> np.ndarray:
    """A network's map (K, S, S), K at least the given: each class is the largest of its objects' maps (N, S, S), the rest background."""
    probs = np.zeros((max([num_classes, *(class_id + 1).tolist()]), *prior.shape[1:]), dtype=np.float32)
    for k, own in zip(class_id, prior, strict=True):
        probs[k] = np.maximum(probs[k], own)
    probs /= np.maximum(probs.sum(axis=0), 1)
    probs[0] = 1 - probs.sum(axis=0)
    return probs


def assert_complains(outcome: Outcome, code: int, *said: object, problems: bool = False) -> None:
    """The exit code and the two lines; ``said`` must stand in the first. With ``problems``, warnings come before."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    if problems:
        assert all(line.startswith("warning: ") for line in lines[:-2])
        lines = lines[-2:]
    assert len(lines) == 2, outcome.err
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert len(lines[1]) > len("hint: ")
    for text in said:
        assert str(text) in lines[0]


def refused(code: int, *arguments: object, said: tuple = (), problems: bool = False) -> None:
    """Run a command and see it complain."""
    assert_complains(call(*arguments, "--quiet"), code, *said, problems=problems)


def interrupt(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


def interrupt_at(monkeypatch, owner: object, name: str, number: int, after: bool = False) -> None:
    """An interrupt that strikes at once (an impatient second Ctrl-C) in, or just after, the ``number``-th call of a function."""
    original: Callable = getattr(owner, name)
    calls = []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(None)
        if len(calls) == number and not after:
            raise KeyboardInterrupt
        answer = original(*arguments, **options)
        if len(calls) == number:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(owner, name, interrupted)


def assert_interrupted(arguments: tuple) -> None:
    outcome = call(*arguments, "--quiet")
    assert outcome.code == 130, outcome.err
    assert "--resume" in outcome.err
    assert "Traceback" not in outcome.err
