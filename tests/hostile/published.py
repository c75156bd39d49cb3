"""Published weights and models of transformers, as strangers may send them. Without transformers the answer is that it is missing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from hostile.case import CHECKPOINT, DEVICE, NOTHING, USAGE, Case, Place, link
from hostile.models import pickled

from samsemi.weights.table import WEIGHTS

HF = "adapt {dataset} --evaluate --probe 0 --sam hf:model"
VIT_B = WEIGHTS["vit_b"].file


def model(write: Callable[[Path], object] | None = None, config: str | None = None, **settings: object) -> Callable[[Place], None]:
    """A folder ``model`` with a config.json, of a text or of settings, and what else is written there."""

    def make(place: Place) -> None:
        folder = place.here / "model"
        folder.mkdir()
        (folder / "config.json").write_text(config or json.dumps({"model_type": "sam", **settings}))
        if write:
            write(folder)

    return make


def weights(write: Callable[[Path], object]) -> Callable[[Place], None]:
    """A folder ``weights`` in which something stands in place of vit_b's."""

    def make(place: Place) -> None:
        (place.here / "weights").mkdir()
        write(place.here / "weights" / VIT_B)

    return make


CASES = [
    Case("hf: a config nested deep", HF, (CHECKPOINT, USAGE), "", model(config='{"a":' * 100_000)),
    Case("hf: a config of a list", HF, (CHECKPOINT, USAGE), "config.json", model(config="[]")),
    Case("hf: code of a stranger", HF, (CHECKPOINT, USAGE), "", model(auto_map={"AutoModel": "evil.Model"}, trust_remote_code=True)),
    Case("hf: pickled weights", HF, (CHECKPOINT, USAGE), "", model(lambda f: pickled(f / "pytorch_model.bin"))),
    Case("hf: a pickle named .safetensors", HF, (CHECKPOINT, USAGE), "", model(lambda f: pickled(f / "model.safetensors"))),
    Case("hf: an endless config", HF, (CHECKPOINT, USAGE), "config.json", model(lambda f: endless(f / "config.json"))),
    Case(
        "hf: a network of terabytes",
        HF,
        (CHECKPOINT, USAGE, DEVICE),
        "",
        model(vision_config={"hidden_size": 10**7, "num_attention_heads": 1, "mlp_dim": 10**7}),
    ),
    Case(
        "hf: a place that is an address", f"{HF.replace('hf:model', 'hf:http://192.0.2.1/x')}", CHECKPOINT, "no such folder", lambda _: None
    ),
    Case("weights: listed, a pipe among them", "weights list --dir weights", 0, "", weights(lambda path: os.mkfifo(path))),
    Case("weights: verified, a pipe", "weights verify --dir weights", NOTHING, "", weights(lambda path: os.mkfifo(path))),
    Case("weights: verified, a link to a device", "weights verify --dir weights", NOTHING, "", weights(link("/dev/zero"))),
    Case("weights: verified, another file", "weights verify --dir weights", CHECKPOINT, VIT_B, weights(lambda f: f.write_bytes(b"x"))),
    Case("weights: mined with, another file", "weights verify vit_b --dir weights", CHECKPOINT, VIT_B, weights(pickled)),
    Case("weights: a name that is a path", "weights fetch ../../etc/passwd", USAGE, "", lambda _: None),
    Case("weights: an encoder that is a path", "weights fetch encoder:../../x", USAGE, "", lambda _: None),
    Case("weights: an encoder of the hub", "weights fetch encoder:hf-hub:a/b", USAGE, "", lambda _: None),
]


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")
