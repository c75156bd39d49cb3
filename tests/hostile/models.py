"""Runs, weights and states of strangers."""

import json
import os
import pickle
import signal
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from hostile.case import CHECKPOINT, REFUSED, USAGE, Case, Place, at, data, link, replace, text
from processes import Process
from safetensors.torch import load_file, save_file
from small_world import CPU, NETWORK

PREDICT = "predict {images} --model warm --out out"
MINE = "mine {dataset} --model {warm} --out out.h5"
WEIGHTS = f"{MINE} --sam-checkpoint {{file}}"
TRAIN = "warmstart {dataset} --out out --iterations 1 --size 32 --decoder-channels 16,12,8,8,8"
GO_ON = " ".join(map(str, ("warmstart", "{dataset}", "--out", "out", *NETWORK, "--iterations", 500, "--validate-every", 2, "--resume")))
Tensors = dict[str, torch.Tensor]
ODD = {
    "a pipe": lambda path: os.mkfifo(path),
    "an endless device": link("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


class Payload:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


def run_of(change: Callable[[Path], object], name: str = "warm") -> Callable[[Place], None]:
    return lambda place: change(place.copy(name))


def card(content: str | None = None, **values: object) -> Callable[[Place], None]:
    """A model.json of other content, or of other values of its model."""

    def write(folder: Path) -> None:
        path = folder / "model.json"
        found = json.loads(path.read_text())
        found["model"].update(values)
        path.write_text(content if content is not None else json.dumps(found))

    return run_of(write)


def card_top(**values: object) -> Callable[[Place], None]:
    def write(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return run_of(write)


def odd_card(write: Callable[[Path], object]) -> Callable[[Place], None]:
    return run_of(lambda folder: replace(folder / "model.json", write))


def odd_weights(write: Callable[[Path], object]) -> Callable[[Place], None]:
    return run_of(lambda folder: replace(folder / "model.safetensors", write))


def tensors(change: Callable[[Tensors], Tensors]) -> Callable[[Place], None]:
    """Weights of other tensors."""

    def write(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path)

    return run_of(write)


def filled(value: float) -> Callable[[Tensors], Tensors]:
    return lambda found: {name: torch.full_like(t, value) if t.is_floating_point() else t for name, t in found.items()}


def last_filled(value: float) -> Callable[[Tensors], Tensors]:
    """One number among all weights."""

    def change(found: Tensors) -> Tensors:
        name = next(name for name, t in found.items() if t.is_floating_point())
        found[name].view(-1)[0] = value
        return found

    return change


def header(text: bytes, length: int | None = None) -> bytes:
    """A safetensors file of a header alone."""
    return struct.pack("<Q", len(text) if length is None else length) + text


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": Payload()}))


def torch_pickled(path: Path) -> None:
    torch.save({"state_dict": {"weight": Payload()}}, path)


def bomb(path: Path) -> None:
    """A .pth of 8 GB of zeros in 8 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        with archive.open("archive/data/0", "w", force_zip64=True) as file:
            for _ in range(512):
                file.write(bytes(2**24))


def script(path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)


def sam_weights(change: Callable[[Tensors], Tensors], metadata: dict[str, str] | None = None) -> Callable[[Place], None]:
    def make(place: Place) -> None:
        path = place.copy("sam")
        save_file(change(load_file(path)), path, metadata)

    return make


def interrupted(change: Callable[[Path], object]) -> Callable[[Place], None]:
    """A run that was interrupted, then changed."""

    def make(place: Place) -> None:
        words = ("warmstart", place.world.dataset, "--out", "out", *NETWORK, "--iterations", 500, "--validate-every", 2, *CPU)
        process = Process(words, place.here, place.here.parent / "log of interrupted")
        assert process.wait((place.here / "out/last/state.safetensors").exists, seconds=100) is None
        process.signal(signal.SIGINT)
        process.wait()
        change(place.here / "out")

    return make


def state(change: Callable[[Tensors], Tensors], numbers: dict[str, object] | None = None) -> Callable[[Place], None]:
    def write(folder: Path) -> None:
        path = folder / "last/state.safetensors"
        found = {"iteration": 2, "best": 0.1, "seconds": 1.0} if numbers is None else numbers
        save_file(change(load_file(path)), path, {"state": json.dumps(found)})

    return interrupted(write)


def other_shapes(found: Tensors) -> Tensors:
    return {name: t.repeat(2) if name.endswith("exp_avg") and t.ndim == 1 else t for name, t in found.items()}


def without(*words: str) -> Callable[[Tensors], Tensors]:
    return lambda found: {name: t for name, t in found.items() if not any(word in name for word in words)}


VALUES: dict[str, dict[str, object]] = {
    "size a text": {"size": "32"},
    "size -32": {"size": -32},
    "size 0": {"size": 0},
    "size 1,000,000": {"size": 10**6},
    "size 10^30": {"size": 10**30},
    "size 31": {"size": 31},
    "size true": {"size": True},
    "no classes": {"classes": []},
    "one class": {"classes": ["background"]},
    "5,000 classes": {"classes": [f"c{k}" for k in range(5000)]},
    "classes that are numbers": {"classes": [0, 1]},
    "mean NaN": {"mean": [float("nan")] * 3},
    "mean of one channel": {"mean": [0.5]},
    "std 0": {"std": [0.0, 0.0, 0.0]},
    "std text": {"std": "0.2"},
    "channels 0": {"decoder_channels": [0, 0, 0, 0, 0]},
    "channels negative": {"decoder_channels": [-16, 12, 8, 8, 8]},
    "channels of 10^9": {"decoder_channels": [10**9] * 5},
    "channels of 100,000": {"decoder_channels": [10**5] * 5},
    "channels nested": {"decoder_channels": [[16], 12, 8, 8, 8]},
    "encoder on the network": {"encoder": "tu-hf-hub:timm/resnet18.a1_in1k"},
    "encoder in a folder": {"encoder": "tu-local-dir:/tmp/evil"},
    "encoder a number": {"encoder": 3},
    "encoder unknown": {"encoder": "../../evil"},
    "peers unknown": {"peers": ["unet", "tu-hf-hub:evil/net"]},
    "a hundred peers": {"peers": ["unet"] * 100},
    "fusion a text": {"fusion": "yes"},
    "a key of tomorrow": {"window": 3},
}

CASES = [
    *(Case(f"model.json: {name}", PREDICT, CHECKPOINT, "warm", card(**values)) for name, values in VALUES.items()),
    *(Case(f"model.json: {name}", PREDICT, CHECKPOINT, "model.json", odd_card(write)) for name, write in ODD.items()),
    *(Case(f"weights: {name}", PREDICT, CHECKPOINT, "model.safetensors", odd_weights(write)) for name, write in ODD.items()),
    *(
        Case(
            f"SAM: {name}",
            WEIGHTS.format_map({"file": "x.pth", "dataset": "{dataset}", "warm": "{warm}"}),
            (REFUSED, CHECKPOINT),
            "x.pth",
            at("x.pth", write),
        )
        for name, write in ODD.items()
    ),
    Case("model.json: nested deep", PREDICT, CHECKPOINT, "model.json", card("[" * 200_000)),
    Case(
        "model.json: nested deep in scores",
        PREDICT,
        CHECKPOINT,
        "model.json",
        card('{"schema": "samsemi.model/1", "scores": ' + '{"a":' * 5000 + "1" + "}" * 5001),
    ),
    Case("model.json: cut", PREDICT, CHECKPOINT, "model.json", card('{"schema": "samsemi.model/1", "mod')),
    Case("model.json: null", PREDICT, CHECKPOINT, "model.json", card("null")),
    Case("model.json: a list", PREDICT, CHECKPOINT, "model.json", card("[1, 2]")),
    Case("model.json: not UTF-8", PREDICT, CHECKPOINT, "model.json", odd_card(data(b'{"schema": "\xff\xfe"}'))),
    Case("model.json: empty", PREDICT, CHECKPOINT, "model.json", card("")),
    Case("model.json: model a list", PREDICT, CHECKPOINT, "model.json", card_top(model=[1])),
    Case("model.json: scores a text, measured", "info warm", (0, CHECKPOINT), "", card_top(scores="good")),
    Case(
        "model.json: made from a number", "mine {dataset} --model warm --out out.h5 --sam none", (0, CHECKPOINT), "", card_top(made_from=3)
    ),
    Case("weights: NaN", PREDICT, CHECKPOINT, "NaN|not finite", tensors(filled(float("nan")))),
    Case("weights: a single NaN", PREDICT, CHECKPOINT, "NaN|not finite", tensors(last_filled(float("nan")))),
    Case("weights: infinite", PREDICT, CHECKPOINT, "inf|not finite", tensors(filled(float("inf")))),
    Case("weights: a single infinity", PREDICT, CHECKPOINT, "inf|not finite", tensors(last_filled(float("inf")))),
    Case("weights: all 0", PREDICT, CHECKPOINT, "0", tensors(filled(0.0))),
    Case("weights: of 8 bit", PREDICT, CHECKPOINT, "int8|type", tensors(lambda f: {n: t.to(torch.int8) for n, t in f.items()})),
    Case(
        "weights: of 64 bit",
        PREDICT,
        (0, CHECKPOINT),
        "",
        tensors(lambda f: {n: t.double() if t.is_floating_point() else t for n, t in f.items()}),
    ),
    Case("weights: complex", PREDICT, CHECKPOINT, "", tensors(lambda f: {n: t.to(torch.complex64) for n, t in f.items()})),
    Case("weights: one is missing", PREDICT, CHECKPOINT, "missing", tensors(lambda f: dict(list(f.items())[1:]))),
    Case("weights: one too many", PREDICT, CHECKPOINT, "unexpected", tensors(lambda f: {**f, "evil": torch.zeros(3)})),
    Case("weights: of another shape", PREDICT, CHECKPOINT, "shape", tensors(lambda f: {n: t[None] for n, t in f.items()})),
    Case("weights: a pickle named .safetensors", PREDICT, CHECKPOINT, "model.safetensors", odd_weights(pickled)),
    Case("weights: a header of 2^60 bytes", PREDICT, CHECKPOINT, "model.safetensors", odd_weights(data(header(b"{}", 2**60)))),
    Case("weights: a header nested deep", PREDICT, CHECKPOINT, "model.safetensors", odd_weights(data(header(b"[" * 100_000)))),
    Case(
        "weights: a tensor of 10^15 numbers",
        PREDICT,
        CHECKPOINT,
        "model.safetensors",
        odd_weights(data(header(b'{"a":{"dtype":"F32","shape":[1000000000000000],"data_offsets":[0,4]}}') + bytes(4))),
    ),
    Case(
        "weights: tensors that overlap",
        PREDICT,
        CHECKPOINT,
        "model.safetensors",
        odd_weights(
            data(
                header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')
                + bytes(4)
            )
        ),
    ),
    Case("run: a folder of links to itself", "predict {images} --model warm --out out", CHECKPOINT, "warm", at("warm", link("warm"))),
    Case("run: measured with weights of NaN", "eval {dataset} --model warm --out out", CHECKPOINT, "", tensors(filled(float("nan")))),
    Case("run: mined with weights of NaN", "mine {dataset} --model warm --out out.h5", CHECKPOINT, "", tensors(filled(float("nan")))),
    Case(
        "run: trained further from weights of NaN",
        "finetune {dataset} --model warm --out out --iterations 2",
        CHECKPOINT,
        "",
        tensors(filled(float("nan"))),
    ),
    Case("SAM: a pickle that runs", f"{MINE} --sam-checkpoint x.pth", CHECKPOINT, "x.pth", at("x.pth", pickled)),
    Case("SAM: a checkpoint that runs", f"{MINE} --sam-checkpoint x.pth", CHECKPOINT, "x.pth", at("x.pth", torch_pickled)),
    Case("SAM: a script", f"{MINE} --sam-checkpoint x.pth", CHECKPOINT, "x.pth", at("x.pth", script)),
    Case("SAM: a bomb of 8 GB", f"{MINE} --sam-checkpoint x.pth", CHECKPOINT, "x.pth", at("x.pth", bomb)),
    Case("SAM: text", f"{MINE} --sam-checkpoint x.pth", CHECKPOINT, "x.pth", at("x.pth", text("no weights"))),
    Case("SAM: a folder", f"{MINE} --sam-checkpoint x", CHECKPOINT, "x", at("x", lambda path: path.mkdir())),
    Case("SAM: weights of NaN", f"{MINE} --sam-checkpoint sam.safetensors", CHECKPOINT, "NaN", sam_weights(filled(float("nan")))),
    Case("SAM: weights of 0", f"{MINE} --sam-checkpoint sam.safetensors", CHECKPOINT, "", sam_weights(filled(0.0))),
    Case(
        "SAM: weights of 8 bit",
        f"{MINE} --sam-checkpoint sam.safetensors",
        CHECKPOINT,
        "",
        sam_weights(lambda f: {n: t.to(torch.int8) for n, t in f.items()}),
    ),
    Case(
        "SAM: a card that is no JSON",
        f"{MINE} --sam-checkpoint sam.safetensors",
        (0, CHECKPOINT),
        "",
        sam_weights(lambda f: f, {"samsemi": "{"}),
    ),
    Case(
        "SAM: a card nested deep",
        f"{MINE} --sam-checkpoint sam.safetensors",
        (0, CHECKPOINT),
        "",
        sam_weights(lambda f: f, {"samsemi": "[" * 100_000}),
    ),
    Case(
        "SAM: a card of numbers",
        f"{MINE} --sam-checkpoint sam.safetensors",
        (0, CHECKPOINT),
        "",
        sam_weights(lambda f: f, {"samsemi": '{"sam": 1, "made_from": 2, "chosen_on": 3}'}),
    ),
    Case(
        "SAM: shown, a card of numbers",
        "info sam.safetensors",
        (0, CHECKPOINT),
        "",
        sam_weights(lambda f: f, {"samsemi": '{"sam": 1, "made_from": 2, "chosen_on": 3}'}),
    ),
    Case(
        "SAM: adapted from weights of NaN",
        "adapt {dataset} --sam-checkpoint sam.safetensors --out out.safetensors --iterations 1",
        CHECKPOINT,
        "NaN",
        sam_weights(filled(float("nan"))),
    ),
    Case(
        "SAM: distilled from weights of NaN",
        "distill {dataset} --sam-checkpoint sam.safetensors --out out --iterations 1 --batch-size 4 --size 32",
        CHECKPOINT,
        "NaN",
        sam_weights(filled(float("nan"))),
    ),
    Case("encoder: on the network", f"{TRAIN} --encoder tu-hf-hub:timm/resnet18.a1_in1k", USAGE, "--encoder"),
    Case("encoder: in a folder", f"{TRAIN} --encoder tu-local-dir:/tmp/evil", USAGE, "--encoder"),
    Case("encoder: weights that run", f"{TRAIN} --encoder tu-lcnet_035 --encoder-weights x.pth", CHECKPOINT, "x.pth", at("x.pth", pickled)),
    Case(
        "encoder: weights that are a pipe",
        f"{TRAIN} --encoder tu-lcnet_035 --encoder-weights x.pth",
        CHECKPOINT,
        "x.pth",
        at("x.pth", lambda path: os.mkfifo(path)),
    ),
    Case(
        "peers: on the network", "distill {dataset} --out out --batch-size 4 --peers unet,tu-hf-hub:timm/resnet18.a1_in1k", USAGE, "--peers"
    ),
    Case(
        "teacher: weights of NaN",
        "finetune {dataset} --model {warm} --distill distilled --out out --iterations 1",
        CHECKPOINT,
        "",
        run_of(
            lambda f: save_file(filled(float("nan"))(load_file(f / "teacher.safetensors")), f / "teacher.safetensors", {"samsemi": "{}"}),
            "distilled",
        ),
    ),
    Case("state: tensors of another shape", GO_ON, CHECKPOINT, "state", state(other_shapes)),
    Case("state: no iteration", GO_ON, CHECKPOINT, "state", state(lambda f: f, {"best": 0.1, "seconds": 1.0})),
    Case(
        "state: an iteration that is text",
        GO_ON,
        CHECKPOINT,
        "state",
        state(lambda f: f, {"iteration": "two", "best": 0.1, "seconds": 1.0}),
    ),
    Case("state: an iteration of -5", GO_ON, CHECKPOINT, "state", state(lambda f: f, {"iteration": -5, "best": 0.1, "seconds": 1.0})),
    Case(
        "state: an iteration beyond the end",
        GO_ON,
        CHECKPOINT,
        "state",
        state(lambda f: f, {"iteration": 10**9, "best": 0.1, "seconds": 1.0}),
    ),
    Case("state: an optimizer without its steps", GO_ON, CHECKPOINT, "state", state(without(".step"))),
    Case("state: an optimizer without its moments", GO_ON, CHECKPOINT, "state", state(without("exp_avg"))),
    Case("state: weights of NaN", GO_ON, CHECKPOINT, "", state(filled(float("nan")))),
    Case("state: names that are none", GO_ON, CHECKPOINT, "state", state(lambda f: {**f, "optimizer.x.y": torch.zeros(1)})),
    Case(
        "state: a pipe",
        GO_ON,
        CHECKPOINT,
        "state",
        interrupted(lambda f: replace(f / "last/state.safetensors", lambda path: os.mkfifo(path))),
    ),
    Case(
        "state: marks that are a list",
        GO_ON,
        (REFUSED, CHECKPOINT),
        "made_from.json",
        interrupted(lambda f: (f / "last/made_from.json").write_text("[]")),
    ),
    Case(
        "run: options that are a list",
        GO_ON,
        CHECKPOINT,
        "config.toml",
        interrupted(lambda f: (f / "config.toml").write_text("warmstart = [1]")),
    ),
    Case(
        "run: a history of words",
        GO_ON,
        CHECKPOINT,
        "history.csv",
        interrupted(lambda f: (f / "history.csv").write_text("iteration,loss\nfirst,good\n")),
    ),
    Case(
        "run: a history that is a pipe",
        GO_ON,
        CHECKPOINT,
        "history.csv",
        interrupted(lambda f: replace(f / "history.csv", lambda path: os.mkfifo(path))),
    ),
]
