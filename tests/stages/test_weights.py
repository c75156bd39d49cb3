"""``weights list``, ``fetch`` and ``verify``, and what finds the weights that were fetched."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from builders import CHECKPOINT, CPU, REFUSED, USAGE, assert_complains, build_sam, call, succeed
from file_server import serve

from samsemi.errors import CheckpointError
from samsemi.inputs import hash_file
from samsemi.sam import original
from samsemi.sam.protocol import load_sam
from samsemi.segmenters.pretrained import load_encoder
from samsemi.segmenters.segmenter import ModelSpec, new_segmenter
from samsemi.tensors import CARD, load_tensors, save_tensors
from samsemi.weights.table import WEIGHTS

NOTHING = 7


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SAMSEMI_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def server(monkeypatch):
    """The publisher of vit_b's weights, and of an encoder's without a hash."""
    with serve() as server:
        sha256 = hashlib.sha256(server.content).hexdigest()
        for name, known in (("vit_b", sha256), ("encoder:vgg16_bn", None)):
            file = f"{name.removeprefix('encoder:')}.pth"
            row = replace(WEIGHTS[name], address=server.address, size=None, sha256=known, given_name=file)
            monkeypatch.setitem(WEIGHTS, name, row)
        yield server


def refused(code: int, *arguments: object, said: str, hint: str) -> None:
    outcome = call(*arguments, "--quiet")
    assert_complains(outcome, code, said)
    assert hint in outcome.err.splitlines()[1], outcome.err


def test_list_says_all_of_each_and_what_is_here(folder, server):
    succeed("weights", "fetch", "vit_b", "--quiet")
    found = succeed("weights", "list", "--json").result
    rows = {row["name"]: row for row in found["weights"]}
    assert set(rows) == set(WEIGHTS) and found["folder"] == str(folder)
    assert rows["vit_b"]["fetched"] == str(folder / "vit_b.pth") and not rows["vit_h"]["fetched"]
    medsam = {key: rows["medsam"][key] for key in ("address", "size", "sha256", "license", "preprocessing", "source", "use")}
    assert all(medsam.values()) and medsam["sha256"] == WEIGHTS["medsam"].sha256
    lines = succeed("weights", "list").out.splitlines()
    assert any(line.split() == ["vit_b", "?", "Apache-2.0", "here"] for line in lines)
    assert any(line.split() == ["encoder:vgg16_bn", "?", "BSD-3-Clause", "needs", "--sha256"] for line in lines)


def test_listing_loads_no_torch(folder):
    code = "import sys; from samsemi.cli import main; main(['weights', 'list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_fetched_weights_are_found_verified_and_not_fetched_again(folder, server):
    first = succeed("weights", "fetch", "vit_b", "--json").result
    assert first["path"] == str(folder / "vit_b.pth") and first["downloaded"] and first["bytes"] == len(server.content)
    assert not succeed("weights", "fetch", "vit_b", "--json").result["downloaded"] and len(server.asked) == 1
    verified = succeed("weights", "verify", "vit_b", "--json").result
    assert verified["known"] and verified["sha256"] == first["sha256"] and verified["use"].startswith("--sam vit_b")
    assert succeed("weights", "verify", "--json").result["weights"] == [verified]
    assert succeed("weights", "verify", folder / "vit_b.pth", "--json").result == verified
    Path(first["path"]).write_bytes(b"damaged")
    refused(CHECKPOINT, "weights", "verify", "vit_b", said="is damaged, or another file", hint="weights fetch vit_b --overwrite")
    refused(CHECKPOINT, "weights", "verify", said="damaged, or other files: ", hint="--overwrite")
    refused(REFUSED, "weights", "fetch", "vit_b", said="it has another SHA-256", hint="--overwrite")
    assert succeed("weights", "fetch", "vit_b", "--overwrite", "--json").result["downloaded"]


def test_folder_of_the_weights_can_be_given(tmp_path, folder, server):
    other = tmp_path / "other"
    assert succeed("weights", "fetch", "vit_b", "--dir", other, "--json").result["path"] == str(other / "vit_b.pth")
    assert succeed("weights", "verify", "--dir", other, "--json").result["folder"] == str(other)
    refused(NOTHING, "weights", "verify", said=f"no weights are in {folder}", hint="weights fetch")


def test_options_of_a_command_of_two_words_may_stand_in_a_file(tmp_path, folder, server):
    config = tmp_path / "config.toml"
    config.write_text(f'["weights fetch"]\ndir = "{tmp_path / "other"}"\n')
    assert succeed("weights", "fetch", "vit_b", "--config", config, "--json").result["path"] == str(tmp_path / "other" / "vit_b.pth")
    config.write_text('["weights fetch"]\naddress = "http://127.0.0.1/x"\n')
    refused(USAGE, "weights", "fetch", "vit_b", "--config", config, said="has no option 'address'", hint="options are")


def test_info_says_which_weights_are_here(folder, server):
    assert succeed("info", "--json").result["weights_fetched"] == "none"
    succeed("weights", "fetch", "vit_b", "--quiet")
    found = succeed("info", "--json").result
    assert found["weights_fetched"] == "vit_b" and found["weights_folder"] == str(folder) and found["transformers"]


def test_weights_without_a_known_hash_need_one_that_is_given(folder, server):
    sha256 = hashlib.sha256(server.content).hexdigest()
    fetch = ("weights", "fetch", "encoder:vgg16_bn")
    refused(USAGE, *fetch, said="no public source of its SHA-256", hint=f"--sha256; the file is {server.address}")
    refused(CHECKPOINT, *fetch, "--sha256", "0" * 64, said="what came has the SHA-256", hint="do not use it")
    result = succeed(*fetch, "--sha256", sha256, "--json").result
    assert result["use"] == f"--encoder vgg16_bn --encoder-weights {result['path']}"
    assert not succeed("weights", "verify", "encoder:vgg16_bn", "--json").result["known"]


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (("vit_x",), "vit_x: no weights of that name", "vit_b"),
        (("encoder:resnet999",), "no such encoder", "resnet18"),
        (("encoder:densenet121",), "no public source of its SHA-256", "https://huggingface.co/smp-hub/densenet121.imagenet"),
        (("vit_b", "--sha256", "abc"), "--sha256 abc: no SHA-256", "64 digits"),
        (("vit_b", "--sha256", "0" * 64), "vit_b has", "leave --sha256 out"),
        ((), "NAME is missing", "usage: samsemi weights fetch NAME [OPTIONS]"),
        (("vit_b", "vit_h"), "extra argument", "only NAME"),
    ],
    ids=str,
)
def test_wrong_calls_of_fetch_ask_nothing_of_the_network(folder, server, arguments, said, hint):
    refused(USAGE, "weights", "fetch", *arguments, said=said, hint=hint)
    assert not server.asked


def test_cut_download_ends_with_two_lines_and_goes_on(folder, server):
    server.cut = 300_000
    refused(CHECKPOINT, "weights", "fetch", "vit_b", said="cut off after 300000 of 512000 bytes", hint="goes on where it stopped")
    server.cut = None
    assert succeed("weights", "fetch", "vit_b", "--json").result["bytes"] == 512_000


def test_fetching_is_refused_where_the_network_is_forbidden(folder, server, monkeypatch):
    monkeypatch.setenv("SAMSEMI_OFFLINE", "1")
    refused(REFUSED, "weights", "fetch", "vit_b", said="SAMSEMI_OFFLINE forbids", hint="samsemi weights verify FILE")
    assert not server.asked


def test_interrupted_fetch_says_that_what_came_is_kept(folder, server, monkeypatch):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("samsemi.weights.download.hash_file", interrupt)
    outcome = call("weights", "fetch", "vit_b", "--quiet")
    assert outcome.code == 130 and "what was downloaded is kept" in outcome.err
    monkeypatch.undo()
    assert (folder / "vit_b.pth.part").stat().st_size == len(server.content)


def test_file_that_is_none_of_the_known_is_an_error_with_its_hash(tmp_path, folder):
    path = tmp_path / "some.pth"
    path.write_bytes(b"something")
    refused(CHECKPOINT, "weights", "verify", path, said=hashlib.sha256(b"something").hexdigest(), hint="weights list")
    named = tmp_path / WEIGHTS["medsam"].file
    named.write_bytes(b"something")
    refused(CHECKPOINT, "weights", "verify", named, said="that of medsam is", hint="weights fetch medsam")
    refused(CHECKPOINT, "weights", "verify", tmp_path / "nothing.pth", said="no such file, and no name", hint="vit_b")
    refused(CHECKPOINT, "weights", "verify", "vit_h", said="vit_h is not in", hint="weights fetch vit_h")


def test_weights_that_samsemi_adapted_are_told_by_their_header(tmp_path, folder):
    path = tmp_path / "adapted.safetensors"
    save_tensors(path, {"weight": torch.ones(2)}, {CARD: json.dumps({"sam": "medsam"})})
    found = succeed("weights", "verify", path, "--json").result
    assert found["use"] == f"--sam medsam --sam-checkpoint {path}" and not found["known"]


def test_sam_finds_what_was_fetched_and_never_downloads(folder, monkeypatch):
    """A small network stands for vit_b's, with weights of its own."""
    monkeypatch.setattr(original, "build_network", lambda entry: build_sam(64, 16))
    with pytest.raises(CheckpointError, match="--sam vit_b needs its weights") as caught:
        load_sam("vit_b", None, CPU)
    assert "`samsemi weights fetch vit_b`" in caught.value.hint
    path = folder / WEIGHTS["vit_b"].file
    path.parent.mkdir()
    torch.save(build_sam(64, 16).state_dict(), path)
    with pytest.raises(CheckpointError, match="is damaged, or another file: its SHA-256 is"):
        load_sam("vit_b", None, CPU)
    monkeypatch.setitem(WEIGHTS, "vit_b", replace(WEIGHTS["vit_b"], sha256=hash_file(path)))
    assert load_sam("vit_b", None, CPU).identity == hash_file(path)


def spec_of(encoder: str) -> ModelSpec:
    return ModelSpec(encoder, (16, 12, 8, 8, 8), ("background", "growth"), 64)


def test_encoder_takes_the_file_of_torchvision_and_leaves_the_classifier_out(tmp_path, shown, capsys):
    published = torchvision.models.resnet18()
    torch.save(published.state_dict(), tmp_path / "resnet18.pth")
    encoder = new_segmenter(spec_of("resnet18"), 0).network.encoder
    load_encoder(encoder, tmp_path / "resnet18.pth", "resnet18")
    assert torch.equal(encoder.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    assert "2 weights are not of the encoder, such as fc.bias, and were left out" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="does not fit: weights .*missing"):
        load_encoder(new_segmenter(spec_of("mobilenet_v2"), 0).network.encoder, tmp_path / "resnet18.pth", "mobilenet_v2")


@pytest.mark.parametrize("name", ["lcnet_035", "convnext_atto"])
def test_encoder_takes_the_file_of_timm(tmp_path, name):
    """Its features are those of the whole network."""
    published = timm.create_model(name).eval()
    save_tensors(tmp_path / "weights.safetensors", published.state_dict())
    encoder = new_segmenter(spec_of(f"tu-{name}"), 0).network.encoder.eval()
    load_encoder(encoder, tmp_path / "weights.safetensors", f"tu-{name}")
    images = torch.randn(2, 3, 64, 64)
    own = {key.removeprefix("model.").replace(".", "_"): value for key, value in encoder.state_dict().items()}
    theirs = {key.replace(".", "_"): value for key, value in load_tensors(tmp_path / "weights.safetensors").items()}
    assert own.keys() <= theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in own.items())
    with torch.no_grad():
        assert all(torch.isfinite(part).all() for part in encoder(images))
