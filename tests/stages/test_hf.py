"""SAMs of transformers on the command line: mined with, cached, mined again with, measured and adapted."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from builders import CHECKPOINT, MINING, REFUSED, USAGE, assert_complains, call, succeed
from hf_models import FAMILIES, save_model
from huggingface_hub.errors import LocalEntryNotFoundError

from samsemi.mining.store import Store
from samsemi.sam.cards import read_card
from samsemi.tensors import load_tensors

HUB = "someone/some-sam"
ADAPT = ("--iterations", 2, "--validate-every", 2, "--batch-size", 2, "--overlays", 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny random model of each family."""
    place = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        save_model(family, place / family)
    return {family: place / family for family in FAMILIES}


@pytest.fixture
def hub(monkeypatch, folders) -> list[dict]:
    """The hub's own client, without a network: nothing is in its cache, SAM 2 is there to be downloaded. The calls that it gets."""
    calls: list[dict] = []

    def snapshot_download(repository: str, **given: object) -> str:
        calls.append({"repository": repository, **given})
        if given.get("local_files_only"):
            raise LocalEntryNotFoundError("not in the cache")
        return str(folders["sam2"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return calls


def refused(code: int, *arguments: object, said: tuple) -> None:
    """Run a command and see it complain: the first text stands in the first line, a second one in the hint."""
    outcome = call(*arguments, "--quiet")
    assert_complains(outcome, code, said[0])
    assert all(text in outcome.err.splitlines()[1] for text in said[1:]), outcome.err


@pytest.mark.parametrize("family", FAMILIES)
def test_mining_keeps_the_hash_of_the_weights_and_caches_embeddings(dataset, warm, folders, tmp_path, family):
    out, cache = tmp_path / "sam.h5", tmp_path / "embeddings.h5"
    mine = ("mine", dataset, "--model", warm, "--out", out, *MINING, "--sam")
    own = (*mine, f"hf:{folders[family]}", "--embeddings", cache)
    first = succeed(*own, "--json").result
    assert first["sam"] == f"hf:{family}" and first["objects"] and first["windows"] and not first["windows_cached"]
    made_from, config = Store(out).provenance.made_from, Store(out).provenance.config
    assert made_from["sam"] == f"hf:{family}" and (config["zoom"], config["masks"]) == (0.0, "auto")
    again = succeed(*own, "--overwrite", "--json").result
    assert again["windows_cached"] == again["windows"] == first["windows"]
    assert Store(out).provenance.made_from == made_from
    save_model(family, tmp_path / "other", seed=1)
    other = (*mine, f"hf:{tmp_path / 'other'}")
    refused(REFUSED, *other, "--resume", said=("sam_weights",))
    refused(CHECKPOINT, *other, "--overwrite", "--embeddings", cache, said=("embeddings of another SAM",))


def test_mining_again_loads_the_store_s_sam_where_it_lies_now(dataset, warm, folders, tmp_path):
    place = shutil.copytree(folders["sam2"], tmp_path / "model")
    store = tmp_path / "sam.h5"
    succeed("mine", dataset, "--model", warm, "--out", store, "--sam", f"hf:{place}", *MINING)
    train = ("finetune", dataset, "--model", warm, "--store", store, "--iterations", 2, "--schedule", "continuous", "--remine-every", 1)
    train = (*train, "--batch-size", 2, "--out")
    succeed(*train, tmp_path / "first")
    moved = place.rename(tmp_path / "moved")
    refused(CHECKPOINT, *train, tmp_path / "second", said=("no such folder", "--sam hf:FOLDER"))
    refused(CHECKPOINT, *train, tmp_path / "second", "--sam", f"hf:{folders['sam']}", said=("with other weights",))
    succeed(*train, tmp_path / "second", "--sam", f"hf:{moved}")


@pytest.mark.parametrize("family", FAMILIES)
def test_sam_is_measured_adapted_and_mines_with_the_new_weights(dataset, warm, folders, tmp_path, family):
    sam = ("--sam", f"hf:{folders[family]}")
    measured = succeed("adapt", dataset, "--evaluate", *sam, "--probe", 0, "--json").result
    assert measured["sam"] == f"hf:{family}" and 0 <= measured["box"] <= 1
    out = tmp_path / "adapted.safetensors"
    succeed("adapt", dataset, "--out", out, *sam, *ADAPT)
    card, tensors = read_card(out), load_tensors(out)
    assert card.sam == f"hf:{family}" and {name.split(".")[0] for name in tensors} == {"image_encoder", "prompt_encoder", "mask_decoder"}
    before = Store(mine_with(dataset, warm, tmp_path / "before.h5", *sam)).provenance.made_from
    after = Store(mine_with(dataset, warm, tmp_path / "after.h5", *sam, "--sam-checkpoint", out)).provenance.made_from
    assert after["sam_weights"] != before["sam_weights"] == card.made_from["sam_weights"]
    other = next(name for name in FAMILIES if name != family)
    given = ("--sam", f"hf:{folders[other]}", "--sam-checkpoint", out)
    refused(CHECKPOINT, "adapt", dataset, "--evaluate", *given, said=(f"an adapted hf:{family}, not hf:{other}",))


def mine_with(dataset: Path, warm: Path, out: Path, *given: object) -> Path:
    succeed("mine", dataset, "--model", warm, "--out", out, "--no-calibrate", *MINING, *given)
    return out


def test_distill_refuses_a_sam_that_is_not_built_like_the_original(dataset, folders, tmp_path):
    distill = ("distill", dataset, "--out", tmp_path / "run", "--sam", f"hf:{folders['sam']}", "--iterations", 1)
    refused(USAGE, *distill, said=("hf:sam cannot learn", "tiny"))


def test_model_of_the_hub_is_downloaded_when_the_command_line_asks(dataset, warm, hub, tmp_path):
    """From its cache if it is there; safetensors and JSON alone."""
    out = mine_with(dataset, warm, tmp_path / "sam.h5", "--sam", f"hf:{HUB}")
    assert [call.get("local_files_only", False) for call in hub] == [True, False]
    assert all(call["repository"] == HUB and set(call["allow_patterns"]) == {"*.json", "*.safetensors"} for call in hub)
    assert Store(out).provenance.config["sam"] == f"hf:{HUB}"


def test_model_in_the_hub_s_cache_is_taken_if_it_is_whole(dataset, folders, tmp_path, monkeypatch):
    """A download that was cut goes on."""
    cached, calls = shutil.copytree(folders["sam"], tmp_path / "cached"), []

    def snapshot_download(repository: str, **given: object) -> str:
        calls.append(given.get("local_files_only", False))
        return str(cached if calls[-1] else folders["sam2"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    evaluate = ("adapt", dataset, "--evaluate", "--probe", 0, "--sam", f"hf:{HUB}", "--json")
    assert succeed(*evaluate).result["sam"] == "hf:sam" and calls == [True]
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (cached / "model.safetensors.index.json").write_text(json.dumps(index))
    (cached / "model.safetensors").rename(cached / "model-00001-of-00002.safetensors")
    assert succeed(*evaluate).result["sam"] == "hf:sam2" and calls == [True, True, False]


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("Repo id must be alphanumeric"), RuntimeError("401")])
def test_model_that_the_hub_does_not_give_is_two_lines(dataset, monkeypatch, error):
    def snapshot_download(repository: str, **given: object) -> str:
        raise LocalEntryNotFoundError("not in the cache") if given.get("local_files_only") else error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    refused(CHECKPOINT, "adapt", dataset, "--evaluate", "--sam", f"hf:{HUB}", said=(f"cannot be downloaded ({error})", "hf:FOLDER"))


def test_model_of_the_hub_is_not_downloaded_where_the_network_is_forbidden(dataset, warm, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMSEMI_OFFLINE", "1")
    mine = ("mine", dataset, "--model", warm, "--out", tmp_path / "sam.h5", "--sam", f"hf:{HUB}")
    refused(REFUSED, *mine, said=("needs the network, which SAMSEMI_OFFLINE forbids", "hf:FOLDER"))
    assert [call["local_files_only"] for call in hub] == [True]


def test_file_or_store_never_has_a_model_downloaded(dataset, warm, hub, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(f'[mine]\nsam = "hf:{HUB}"\n')
    mine = ("mine", dataset, "--model", warm, "--out", tmp_path / "sam.h5", *MINING)
    refused(USAGE, *mine, "--config", config, said=(f"sam = 'hf:{HUB}' needs the network", f"--sam hf:{HUB} on the command line"))
    assert not hub
    succeed(*mine, "--sam", f"hf:{HUB}")
    hub.clear()
    train = ("finetune", dataset, "--model", warm, "--store", tmp_path / "sam.h5", "--iterations", 1, "--batch-size", 2)
    train = (*train, "--schedule", "continuous", "--remine-every", 1, "--out", tmp_path / "run")
    refused(USAGE, *train, said=("no folder here", f"--sam hf:{HUB} if it may be downloaded"))
    assert not hub
    succeed(*train, "--sam", f"hf:{HUB}")
    assert hub


def test_folder_may_stand_in_a_file(dataset, warm, folders, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(f'[mine]\nsam = "hf:{folders["sam"]}"\n')
    succeed("mine", dataset, "--model", warm, "--out", tmp_path / "sam.h5", "--no-calibrate", *MINING, "--config", config)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "no such folder"),
        ("./nowhere", "no such folder"),
        ("https://elsewhere.example/model", "no such folder"),
        ("a/b/c", "no such folder"),
    ],
)
def test_what_is_no_folder_and_no_name_of_the_hub_is_refused(dataset, hub, place, said):
    refused(CHECKPOINT, "adapt", dataset, "--evaluate", "--sam", f"hf:{place}", said=(said,))
    assert not hub


def test_folder_of_something_else_is_refused_by_its_type(dataset, tmp_path):
    evaluate = ("adapt", dataset, "--evaluate", "--sam", f"hf:{tmp_path}")
    refused(CHECKPOINT, *evaluate, said=("config.json cannot be read",))
    (tmp_path / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}')
    refused(CHECKPOINT, *evaluate, said=("a model of type bert", "sam2"))


def test_pickled_weights_are_not_loaded(dataset, folders, tmp_path):
    place = shutil.copytree(folders["sam"], tmp_path / "model")
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    refused(CHECKPOINT, "adapt", dataset, "--evaluate", "--sam", f"hf:{place}", said=("no file named model.safetensors",))


def test_without_transformers_the_extra_is_named(dataset, folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    evaluate = ("adapt", dataset, "--evaluate", "--sam", f"hf:{folders['sam']}")
    refused(USAGE, *evaluate, said=("needs transformers, which is not installed", "pip install 'samsemi[hf]'"))
