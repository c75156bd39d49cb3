"""`samsemi distill`, and `finetune --distill`, by the command line."""

import csv
import json
import shutil
import sys
from pathlib import Path

import h5py
import pytest
import torch
from builders import (
    ACCEPT_ALL,
    CPU,
    MINING,
    NETWORK,
    RUN_FILES,
    assert_interrupted,
    call,
    files_in,
    interrupt_at,
    load_example,
    read_array,
    refused,
    succeed,
    watched_states,
)

import samsemi
from samsemi.data.dataset import name_images, read_dataset
from samsemi.data.overlays import enlarge
from samsemi.options.distill import DistillOptions
from samsemi.options.finetune import FinetuneOptions
from samsemi.options.sams import SAMS
from samsemi.sam.protocol import load_sam
from samsemi.segmenters.checkpoints import load_model
from samsemi.stages import distill, finetune
from samsemi.tensors import load_tensors
from samsemi.training import loop as training
from samsemi.training.batches import Sample, Stream

pytestmark = pytest.mark.slow

SMALL = ("--size", 32, "--batch-size", 4, "--ema", 0.5, "--sam-size", 64)
SHORT = (*SMALL, "--iterations", 4, "--validate-every", 2)
BARE = (*SMALL, "--iterations", 2, "--overlays", 0)

REACHED: dict[Path, dict[str, torch.Tensor]] = {}
"""The state that the run of these tests has reached, by its folder."""


def history_of(run) -> list[dict[str, str]]:
    with open(run / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def distilled(dataset, tmp_path_factory):
    """A run of the published peers with the packaged SAM."""
    folder = tmp_path_factory.mktemp("distill") / "run"
    with watched_states(REACHED):
        outcome = succeed("distill", dataset, "--out", folder, *SHORT, "--json")
    return folder, outcome.result


def test_run_folder_is_an_ordinary_one_with_a_teacher(distilled):
    folder, result = distilled
    pictures = {name for name in files_in(folder) if name.startswith("overlays/")}
    assert files_in(folder) - pictures == RUN_FILES | {"teacher.safetensors"} and len(pictures) == 3
    assert result["run"] == str(folder) and result["sam"] == "tiny" and result["labeled"] == 9 and result["unlabeled"] == 9
    card = json.loads((folder / "model.json").read_text())
    assert card["model"]["peers"] == ["unet", "vnet"] and card["made_from"]["sam"] == "tiny"
    assert load_model(folder).spec.peers == ("unet", "vnet")


def test_history_has_every_term_and_both_scores(distilled):
    rows = history_of(distilled[0])
    terms = {"supervised", "fused", "entropy", "mutual", "sam", "distillation", "mixed_supervised", "mixed_fused", "mixed_self"}
    assert terms | {"val_dice", "val_sam_dice", "loss"} <= set(rows[-1]) and all(rows[-1].values())


def test_what_takes_a_run_takes_this_one(dataset, pictures, distilled, tmp_path):
    run, _ = distilled
    assert succeed("eval", dataset, "--model", run, "--out", tmp_path / "eval", "--json").result["cases"] == 3
    succeed("predict", pictures / "images", "--model", run, "--out", tmp_path / "masks")
    assert read_array(next((tmp_path / "masks").glob("*.png"))).max() <= 1
    assert succeed("mine", dataset, "--model", run, "--out", tmp_path / "s.h5", *MINING, "--json").result["images"] == 9
    succeed("finetune", dataset, "--model", run, "--out", tmp_path / "tuned", "--iterations", 1, "--batch-size", 2)
    assert load_model(tmp_path / "tuned").spec.peers == ("unet", "vnet")


@pytest.mark.parametrize(
    ("flags", "gone"),
    [
        (("--no-sam",), {"sam", "distillation", "val_sam_dice"}),
        (("--no-mixing",), {"mixed_supervised"}),
        (("--no-fusion",), {"fused"}),
        (("--no-learned-prompts",), set()),
        (("--mix", "lowest"), set()),
        (("--optimizer", "adamw"), set()),
        (("--peers", "unetplusplus:tu-lcnet_035,fpn:tu-lcnet_035", "--decoder-channels", "8,8,8,8,8"), set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_ablations_and_other_peers(dataset, tmp_path, flags, gone):
    succeed("distill", dataset, "--out", tmp_path / "run", *BARE, *flags)
    columns = {name for name, value in history_of(tmp_path / "run")[-1].items() if value}
    assert not gone & columns
    assert (tmp_path / "run" / "teacher.safetensors").exists() == ("--no-sam" not in flags)
    has_prompts = "--no-sam" not in flags and any("prompts." in name for name in load_tensors(tmp_path / "run" / "teacher.safetensors"))
    assert has_prompts == (flags[0] not in ("--no-sam", "--no-learned-prompts"))
    succeed("eval", dataset, "--model", tmp_path / "run", "--out", tmp_path / "eval")


def test_pictures_show_image_truth_peers_and_sam(dataset, distilled):
    case = read_dataset(dataset).split("val")[0]
    picture, image = read_array(distilled[0] / "overlays" / f"{case.id}.png"), read_array(case.image)
    shown = enlarge(image)
    height, width = shown.shape[:2]
    assert picture.shape[0] > height and picture.shape[1] >= 4 * width
    assert (picture[-height:, :width] == shown).all() and (picture[-height:, -width:] != shown).any()


def test_store_is_learnt_as_well(dataset, store, tmp_path):
    run = ("distill", dataset, "--out", tmp_path / "run", *BARE, "--store", store, *ACCEPT_ALL, "--json")
    assert 0 < succeed(*run).result["pseudo_labeled"] <= 9
    assert float(history_of(tmp_path / "run")[-1]["store"]) > 0


def test_inputs_may_lie_elsewhere_on_resumption_and_may_not_differ(dataset, store, tmp_path, monkeypatch):
    weights, labels = Path(shutil.copy(SAMS["tiny"].weights, tmp_path / "sam.safetensors")), Path(shutil.copy(store, tmp_path / "s.h5"))
    arguments = ("distill", dataset, "--out", tmp_path / "run", *SMALL, "--iterations", 2, "--validate-every", 1, *ACCEPT_ALL)
    with monkeypatch.context() as patch:
        interrupt_at(patch, training, "validate", 2)
        assert_interrupted((*arguments, "--sam-checkpoint", weights, "--store", labels))
    here = ("--sam-checkpoint", weights.rename(tmp_path / "moved.safetensors"), "--store", labels.rename(tmp_path / "moved.h5"))
    with h5py.File(here[-1], "a") as file:
        file.attrs["calibration"] = '{"precision": 1.0, "target_precision": 0.8}'
    refused(3, *arguments, *here, "--resume", said=(tmp_path / "run", "store_content was"))
    shutil.copy(store, here[-1])
    succeed(*arguments, *here, "--resume")


def test_frozen_weights_are_not_in_the_state(distilled):
    kept = REACHED[distilled[0]]
    assert any("teacher.sam" in name and "adapter" in name for name in kept)
    assert not any("attn.module.qkv" in name for name in kept)


def test_peers_fall_in_a_line_and_sam_has_a_rate_of_its_own(dataset, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1])
    adam = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), adam(self, *a))[1])
    succeed("distill", dataset, "--out", tmp_path / "run", *SHORT, "--overlays", 0, "--lr", 0.08, "--sam-lr", 0.004)
    assert rates == pytest.approx([0.08, 0.004, 0.06, 0.003, 0.04, 0.002, 0.02, 0.001])


def test_preset_goes_before_the_default_and_after_what_is_given(dataset, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(distill, "distill", lambda options: seen.append(options) or {})
    (tmp_path / "config.toml").write_text("[distill]\npreset = 'short'\nlr = 0.5\ntemperature = 3.0\n")
    run = ("distill", dataset, "--out", tmp_path / "run")
    succeed(*run, "--preset", "short", "--iterations", 5)
    succeed(*run, "--config", tmp_path / "config.toml", "--temperature", 4)
    samsemi.distill(dataset=dataset, out=tmp_path / "run", preset="short", size=64)
    found = [(o.optimizer, o.iterations, o.lr, o.temperature, o.size) for o in seen]
    assert found == [("adamw", 5, 4e-3, 2.0, 96), ("adamw", 600, 0.5, 4.0, 96), ("adamw", 600, 4e-3, 2.0, 64)]


@pytest.mark.parametrize(
    ("given", "warned"), [({}, False), ({"iterations": 600}, True), ({"iterations": 600, "optimizer": "adamw"}, False)]
)
def test_few_iterations_of_the_published_settings_are_warned_of(given, warned, capsys):
    distill.warn_of_few_iterations(DistillOptions(dataset=Path("d"), out=Path("o"), **given))
    err = capsys.readouterr().err
    assert ("--preset short" in err and "600" in err) == warned


def test_with_adamw_the_rates_are_those_of_every_other_training(dataset, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1])
    succeed("distill", dataset, "--out", tmp_path / "run", *SHORT, "--overlays", 0, "--optimizer", "adamw", "--lr", 0.01, "--no-sam")
    assert rates == pytest.approx([0.01 * training.cosine(i / 4) for i in range(4)])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--peers", "unet"), "two networks"),
        (("--peers", "unet,umet"), "--peers umet"),
        (("--batch-size", 5), "--batch-size 5 is odd"),
        (("--mix-cells", 17), "--mix-cells 17"),
        (("--mix-grid", 3), "--mix-grid 3"),
        (("--batch-size", 2), "--batch-size"),
        (("--size", 64, "--peers", "unet,unet:tu-swin_tiny_patch4_window7_224"), "64 px"),
        (("--size", 100), "multiple of 32"),
        (("--sam", "ellipse"), "--sam ellipse cannot learn"),
        (("--sam-size", 100), "--sam-size 100"),
    ],
)
def test_wrong_usage_is_two_lines_and_writes_nothing(dataset, tmp_path, flags, named):
    outcome = call("distill", dataset, "--out", tmp_path / "run", *SHORT, *flags, "--quiet")
    assert outcome.code == 2 and named in outcome.err and len(outcome.err.strip().splitlines()) == 2
    assert not (tmp_path / "run").exists()


def test_finetune_learns_from_the_teacher_on_unlabeled_images_too(dataset, warm, distilled, tmp_path, monkeypatch):
    seen = []
    loss = training.train_step
    monkeypatch.setattr(training, "train_step", lambda state, step, batch, *rest: (seen.append(batch), loss(state, step, batch, *rest))[1])
    tune = ("finetune", dataset, "--model", warm, "--iterations", 2, "--batch-size", 4, "--pseudo-share", 0.5, "--distill", distilled[0])
    succeed(*tune, "--out", tmp_path / "one")
    assert float(history_of(tmp_path / "one")[-1]["distillation"]) > 0
    assert [int((weight.flatten(1).amax(1) > 0).sum()) for _, _, weight in seen] == [2, 2], "half of a batch has no label"
    succeed(*tune, "--out", tmp_path / "other", "--distill-weight", 0)
    one, other = (load_tensors(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("strong", [True, False])
def test_teacher_of_a_finetuning_predicts_before_images_are_recolored_and_cut(monkeypatch, strong):
    """Both predict the color of a pixel: they agree where the teacher's logits were cut with the image."""
    monkeypatch.setattr(finetune, "recolor", lambda images: images)

    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0], -images[:, 0]], dim=1) * 4

    torch.manual_seed(0)
    batch = Sample(torch.rand(6, 3, 32, 32), torch.ones(6, 2, 32, 32) / 2, torch.ones(6, 32, 32))
    options = FinetuneOptions(dataset=Path("d"), model=Path("m"), out=Path("o"), distill=Path("k"), strong=strong)
    streams = [Stream([], None, 2), Stream([], None, 4)]
    step = finetune.make_step(streams, options, finetune.Distilled(network, 2.0, ""))
    assert step(network, batch, 1.0)["distillation"] == pytest.approx(0, abs=1e-6)
    monkeypatch.setattr(finetune, "recolor", lambda images: 1 - images)
    assert (step(network, batch, 1.0)["distillation"] > 0.1) == strong


def test_finetune_takes_a_store_and_a_teacher(dataset, warm, store, distilled, tmp_path):
    tune = ("finetune", dataset, "--model", warm, "--iterations", 2, "--batch-size", 4, "--distill", distilled[0], "--store", store)
    succeed(*tune, *ACCEPT_ALL, "--out", tmp_path / "run")
    row = history_of(tmp_path / "run")[-1]
    assert float(row["distillation"]) > 0 and float(row["pseudo"]) > 0


def test_example_measures_what_sam_makes_of_the_map(dataset, distilled, monkeypatch, capsys):
    example = load_example("map_reliance")
    monkeypatch.setattr(sys, "argv", ["map_reliance.py", str(dataset), str(distilled[0])])
    example.main()
    found = dict(line.rsplit(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(found) == ["the networks", *(f"SAM by {name}" for name in example.PROMPTS)]
    scores = [distilled[1][name] for name in ("val_dice", "val_sam_dice")]
    assert [float(found["the networks"]), float(found["SAM by the networks' map"])] == pytest.approx(scores, abs=1e-3)


def test_its_sam_mines_prompted_by_the_map_of_any_model(dataset, warm, distilled, tmp_path):
    """What it has learnt of the labeled cases does not calibrate it; a run that lies elsewhere is named to mine again."""
    run, store, moved = tmp_path / "ks", tmp_path / "s.h5", tmp_path / "moved"
    shutil.copytree(distilled[0], run)
    result = succeed("mine", dataset, "--model", warm, "--sam", f"distilled:{run}", "--out", store, *MINING, "--json").result
    assert result["sam"] == "distilled" and result["objects"] > 0
    with h5py.File(store) as file:
        made_from, calibration = (json.loads(file.attrs[name]) for name in ("made_from", "calibration"))
    assert made_from["sam"] == "distilled" and len(made_from["sam_weights"]) == 64 and set(calibration["cases"]) == {"val"}
    sam, data = load_sam(f"distilled:{run}", None, CPU), read_dataset(dataset)
    assert sam.adapted_to == data.fingerprint() and sam.learned == name_images(data.split("labeled"))
    run.rename(moved)
    tune = ("finetune", dataset, "--model", warm, "--store", store, *ACCEPT_ALL, "--iterations", 2, "--batch-size", 2)
    continuous = (*tune, "--out", tmp_path / "tuned", "--schedule", "continuous", "--remine-every", 1)
    refused(5, *continuous, said=(run,))
    succeed(*continuous, "--sam", f"distilled:{moved}")
    assert len(list((tmp_path / "tuned" / "stores").glob("*.h5"))) == 1


def test_sam_of_a_run_that_cannot_mine_is_an_error(dataset, warm, distilled, tmp_path):
    mine = ("mine", dataset, "--model", warm, "--out", tmp_path / "s.h5", "--sam")
    refused(5, *mine, f"distilled:{warm}", said=(warm, "teacher.safetensors"))
    refused(5, *mine, f"distilled:{distilled[0]}", "--sam-checkpoint", tmp_path / "missing.pth", said=("missing.pth",))
    other = shutil.copytree(distilled[0], tmp_path / "other")
    card = json.loads((other / "model.json").read_text())
    card["model"]["classes"] = ["background", "other"]
    (other / "model.json").write_text(json.dumps(card))
    refused(5, *mine, f"distilled:{other}", said=("background, other", read_dataset(dataset).classes[1]))
    refused(2, "adapt", dataset, "--sam", f"distilled:{distilled[0]}", "--out", tmp_path / "sam.safetensors", said=("cannot be trained",))


def test_teacher_without_its_sam_or_damaged_is_said_so(dataset, warm, distilled, tmp_path):
    tune = ("finetune", dataset, "--model", warm, "--iterations", 1, "--out", tmp_path / "run", "--distill")
    outcome = call(*tune, distilled[0], "--teacher-checkpoint", tmp_path / "missing.safetensors")
    assert outcome.code == 5 and "missing.safetensors" in outcome.err and "--teacher-checkpoint" in outcome.err
    damaged = shutil.copytree(distilled[0], tmp_path / "damaged")
    for content in (b"{}", (distilled[0] / "model.safetensors").read_bytes()):
        (damaged / "teacher.safetensors").write_bytes(content)
        outcome = call(*tune, damaged, "--quiet")
        assert outcome.code == 5 and "is no teacher" in outcome.err and len(outcome.err.strip().splitlines()) == 2
    assert not (tmp_path / "run").exists()


def test_run_without_a_teacher_is_said_so(dataset, warm, tmp_path):
    outcome = call("finetune", dataset, "--model", warm, "--distill", warm, "--out", tmp_path / "run", *NETWORK[-2:], "--iterations", 1)
    assert outcome.code == 5 and "teacher.safetensors" in outcome.err and "samsemi distill" in outcome.err
    assert not (tmp_path / "run").exists()
