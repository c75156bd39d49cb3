"""Cards of runs and stores: what is known stands in them, and names of others stay text."""

import hashlib
import json
import shutil
from pathlib import Path

from builders import NETWORK, USAGE, refused, succeed

from samsemi.data.dataset import read_dataset
from samsemi.inspection.cards import make_card
from samsemi.inspection.licenses import UNKNOWN, find_licenses
from samsemi.inspection.markdown import code, plain, table
from samsemi.inspection.runs import describe_run
from samsemi.options.sams import SAMS
from samsemi.segmenters.checkpoints import read_model_card
from samsemi.weights.table import WEIGHTS

TINY = hashlib.sha256(SAMS["tiny"].weights.read_bytes()).hexdigest()
STRANGE = "<script>alert(1)</script>|`x`\n# [a](b)"


def test_names_stay_text():
    assert plain(STRANGE) == "\\<script\\>alert(1)\\</script\\>\\|\\`x\\` # \\[a\\](b)"
    assert table(["a", "b"], [[STRANGE, 1]]).count("\n") == 2
    assert code("samsemi mine `x` ``` y\n```") == "````\nsamsemi mine `x` ``` y ```\n````"


def test_run_has_a_card_of_what_is_known(warm, dataset):
    card = (warm / "model_card.md").read_text()
    model = read_model_card(warm)
    assert card.startswith("# Model card: warm start\n")
    for line in (
        "| classes | background, foreground |",
        f"| SHA-256 of the weights | {model.weights} |",
        f"| dataset, SHA-256 | {read_dataset(dataset).fingerprint()} |",
        "| labeled cases | 9 |",
        "| labeled | 9 | 3 | 9 |",
        f"| dice | {model.scores['val_dice']:.3f} |",
        "| iterations | 24 |",
        "resized to 64 x 64 pixels",
        "Measured on val alone",
        "It began with random weights, and no SAM taught it.",
    ):
        assert line in card, line
    [command] = [line for line in card.splitlines() if line.startswith(f"samsemi warmstart {dataset} ")]
    assert " --iterations 24 " in command and " --encoder tu-lcnet_035 " in command and "--out" not in command
    assert "None" not in card and "{" not in card


def test_card_that_is_gone_is_written_again_by_resume_and_one_that_is_there_stays(warm, dataset, tmp_path):
    shutil.copytree(warm, tmp_path / "warm")
    path = tmp_path / "warm" / "model_card.md"
    resume = ("warmstart", dataset, "--out", tmp_path / "warm", *NETWORK, "--iterations", 24, "--validate-every", 8, "--resume")
    path.unlink()
    succeed(*resume)
    assert path.read_text() == (warm / "model_card.md").read_text()
    path.write_text("seen by the clinic\n")
    succeed(*resume)
    assert path.read_text() == "seen by the clinic\n"
    assert f"samsemi info {tmp_path / 'warm'} --card" in succeed("info", tmp_path / "warm").out


def test_info_says_it_again_with_the_evaluations_beside_it(warm, dataset, tmp_path):
    shutil.copytree(warm, tmp_path / "warm")
    assert succeed("info", tmp_path / "warm", "--card").out == (warm / "model_card.md").read_text()
    succeed("eval", dataset, "--model", tmp_path / "warm", "--out", tmp_path / "eval", "--overlays", 0)
    card = succeed("info", tmp_path / "warm", "--card", "--json").result["card"]
    dice = json.loads((tmp_path / "eval" / "metrics.json").read_text())["classes"]["foreground"]["dice"]
    assert "Evaluation eval: split test, 3 cases" in card and f"| foreground | {dice['mean']:.4g} " in card
    assert "Measured on val alone" not in card
    about = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    (tmp_path / "eval" / "metrics.json").write_text(json.dumps(about | {"made_from": {"model": "0" * 64}}))
    assert "Evaluation" not in make_card(tmp_path / "warm"), "of other weights"


def test_strange_names_stay_text_in_a_card(warm, tmp_path):
    shutil.copytree(warm, tmp_path / "warm")
    card = json.loads((tmp_path / "warm" / "model.json").read_text())
    card["model"]["classes"], card["made_from"] = ["background", STRANGE], {"sam": STRANGE, "labeled": STRANGE}
    (tmp_path / "warm" / "model.json").write_text(json.dumps(card))
    text = make_card(tmp_path / "warm")
    assert "\\<script\\>" in text and "<script>" not in text.replace("\\<script\\>", "") and "\n# [" not in text


def test_store_has_a_data_card(store):
    facts, card = succeed("info", store, "--json").result, succeed("info", store, "--card").out
    assert card.startswith("# Data card: pseudo-labels\n")
    for name in ("images", "objects", "accepted"):
        assert f"| {name} | {facts[name]} |" in card
    assert facts["made_from"]["dataset"] in card and facts["made_from"]["sam_weights"] in card
    assert "no person has looked at them" in card and "| SAM tiny | Apache-2.0, in the package |" in card


def test_what_has_no_card(dataset):
    refused(USAGE, "info", dataset, "--card", said=("is data set",))
    refused(USAGE, "info", "--card", said=("no PATH is given",))


def test_licenses_go_by_the_hash():
    published = WEIGHTS["vit_b"].sha256
    encoder = WEIGHTS["encoder:resnet34"].sha256
    assert find_licenses({"made_from": {"sam": "tiny", "sam_weights": TINY}}) == {"SAM tiny": "Apache-2.0, in the package"}
    assert find_licenses({"made_from": {"sam": "vit_b", "sam_weights": published}}) == {"SAM vit_b": "Apache-2.0 (vit_b)"}
    assert "ask who gave them" in find_licenses({"made_from": {"sam": "vit_b", "sam_weights": "0" * 64}})["SAM vit_b"]
    assert find_licenses({"made_from": {"sam": "mine:load", "sam_weights": "0" * 64}}) == {"SAM mine:load": UNKNOWN}
    assert find_licenses({"made_from": {"store": {"sam": "none", "sam_weights": "x"}}}) == {}
    assert find_licenses({"made_from": {"encoder_weights": encoder}}) == {f"encoder {encoder[:12]}": "BSD-3-Clause (encoder:resnet34)"}
    assert "ImageNet weights of resnet18" in find_licenses(
        {"made_from": {"encoder_weights": "imagenet"}, "network": {"encoder": "resnet18"}}
    )


def test_licenses_of_the_run_that_another_began_from(warm, tmp_path):
    shutil.copytree(warm, tmp_path / "warm")
    path = tmp_path / "warm" / "model.json"
    card = json.loads(path.read_text())
    card["made_from"]["encoder_weights"] = WEIGHTS["encoder:resnet18"].sha256
    path.write_text(json.dumps(card))
    later = {"inputs": {"model": str(tmp_path / "warm")}, "made_from": {"model": card["weights"]}}
    assert [*find_licenses(later).values()] == ["BSD-3-Clause (encoder:resnet18)"]
    assert [*find_licenses(later | {"made_from": {"model": "0" * 64}}).values()] == ["not found where they were: ask who trained them"]
    assert "weights" in describe_run(tmp_path / "warm")
    assert [*find_licenses(later | {"inputs": {"model": str(Path("/no/run"))}})] == ["weights that it began from, run"]
