"""The runner of the evidence: who is dealt where, what is run and what is left for later, and a cell of every kind on drawn images."""

import csv
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import ACCEPT_ALL, ROOT, call
from PIL import Image
from test_real_images import DATA

sys.path.insert(0, str(ROOT / "examples" / "evidence"))
import bench
import oracles
import run as evidence
from deal import deal, deal_before, deal_parts, learn_all, list_ids
from design import ALL, KNOWSAM, ORACLES, PRESETS, Cell, Row, cells_of, plan_development, plan_parts, primary
from results import cell_file, read_cases, read_readings

from samsemi.data.dataset import read_case_label, read_dataset
from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import accepted_ids, pseudo_label
from samsemi.mining.store import Store

IDS = [f"{i:03d}" for i in range(900)]
NETWORK = ("--encoder", "tu-lcnet_035", "--decoder-channels", "16,12,8,8,8", "--size", 32)
QUICK = replace(
    PRESETS["cpu"],
    training=(),
    network=NETWORK,
    precision="fp32",
    lr=1e-3,
    iterations={"kvasir_seg": 4},
    adapt=("--all", "--iterations", 1, "--batch-size", 2),
    mine=("--no-calibrate", *ACCEPT_ALL),
)
"""Hardly trained: its network sees objects in many places, which all are accepted."""
ROW = Row("kvasir_seg", 9)
TRAINED = ("supervised", "labeled-only", "mined")
"""The others differ by what they learn, which is looked at itself."""


def old_split(count: int, percent: int, seed: int) -> dict[str, set[int]]:
    """As the evidence before dealt."""
    order = np.random.default_rng(0).permutation(count)
    tests = round(0.2 * count)
    rest = np.random.default_rng((seed, 1)).permutation(order[tests:])
    labels = round(percent / 100 * len(rest))
    return {"test": set(order[:tests].tolist()), "labels": set(rest[:labels].tolist()), "unlabeled": rest[labels:].tolist()}


def assert_never_read(ids: list[str]) -> None:
    """Test cases are neither those of before, nor development images, nor any that these may have been."""
    parts, before = deal_parts(ids), old_split(len(ids), 10, 1)
    test, number = set(parts.test), {name: i for i, name in enumerate(ids)}
    numbers = {number[name] for name in test}
    count = min(150, (len(ids) - len(before["test"])) // 4)
    left = len(before["unlabeled"]) - 3 * count
    assert len(parts.test) == len(test) == min(round(0.2 * len(ids)), left) > 30 and len(parts.development) == count
    assert not numbers & (before["test"] | before["labels"] | {*before["unlabeled"][: 2 * count], *before["unlabeled"][-count:]})
    assert {number[name] for name in parts.development} == set(before["unlabeled"][:count])
    assert set(parts.pool) == set(ids) - test and {number[name] for name in deal_before(ids, 10, 1)["test"]} == before["test"]


@pytest.mark.parametrize("count", [300, 604, 900, 1000])
def test_test_cases_were_never_read(count):
    assert_never_read([f"{i:04d}" for i in range(count)])


@pytest.mark.parametrize("data", ["kvasir_seg", "isic2018"])
def test_test_cases_of_the_real_sets_were_never_read(data):
    if not (DATA / data).is_dir():
        pytest.skip(f"no {data} at {DATA}")
    assert_never_read(list(list_ids(DATA / data / "images")))


@pytest.mark.parametrize(("labels", "val"), [(8, 2), (24, 8), (72, 24)])
def test_labels_are_counted_with_val_two_to_one(labels, val):
    parts = deal_parts(IDS)
    split = deal(parts, labels, 3, development=False)
    assert (len(split["labeled"]) + len(split["val"]), len(split["val"])) == (labels, val)
    assert split["test"] == parts.test and sum(map(len, split.values())) == 900
    assert len({name for members in split.values() for name in members}) == 900


def test_labels_of_a_smaller_number_are_among_those_of_a_larger_one():
    parts = deal_parts(IDS)
    few, many, others = (deal(parts, *given, development=False) for given in ((24, 1), (72, 1), (24, 2)))
    assert set(few["labeled"]) < set(many["labeled"]) and set(few["val"]) < set(many["val"])
    assert set(few["labeled"]) != set(others["labeled"]) and few["test"] == others["test"]


def test_development_images_are_only_measured():
    parts = deal_parts(IDS)
    split = deal(parts, 24, 1, development=True)
    assert split["test"] == parts.development
    assert not set(parts.development) & {name for part in ("labeled", "val", "unlabeled") for name in split[part]}
    assert not set(parts.test) & {name for members in split.values() for name in members}


def test_supervised_learns_every_label_and_no_other():
    parts = deal_parts(IDS)
    split = deal(parts, 24, 1, development=False)
    whole, everything = learn_all(split), learn_all(deal(parts, ALL, 1, development=False))
    assert set(whole["labeled"]) == {*split["labeled"], *split["val"]} and len(whole["val"]) == 1
    assert whole["val"][0] in split["unlabeled"] and whole["test"] == split["test"]
    assert len(everything["labeled"]) == len(parts.pool) - 1 and not everything["unlabeled"]


def test_of_images_that_are_the_same_one_is_kept(tmp_path):
    for i in range(10):
        Image.fromarray(np.uint8([[[i, 0, 0]]])).save(tmp_path / f"{i}.png")
    shutil.copy(tmp_path / "3.png", tmp_path / "copy.png")
    assert list_ids(tmp_path) == tuple("0123456789")


@pytest.mark.parametrize("name", PRESETS)
def test_plan_goes_seed_by_seed_and_has_what_the_comparisons_need(name):
    preset = PRESETS[name]
    cells = list(cells_of(plan_parts(preset)))
    first = primary(preset)
    own = [(cell.seed, cell.arm) for cell in cells[:40]]
    assert {cell.row for cell in cells[:40]} == {Row(first.data, 24)} and own == sorted(own, key=lambda one: one[0])
    assert len([seed for seed, arm in own if arm == first.arm]) == len([seed for seed, arm in own if arm == first.other]) == 10
    assert len(set(cells)) == len(cells) and {cell.arm for cell in cells} <= set(bench.NEEDS)
    assert all(cell.row.iterations for cell in cells_of(plan_development(preset)))


@pytest.fixture
def options(tmp_path):
    (tmp_path / "data" / "kvasir_seg" / "images").mkdir(parents=True)
    return Namespace(data=tmp_path / "data", preset="cpu", sam_checkpoint="", until_minutes=None, commit=None, development=False)


@pytest.fixture
def ran(monkeypatch):
    """Arms that were measured; nothing is trained."""
    measured = []

    def measure(self, arm: str) -> str:
        measured.append((self.row.name, self.seed, arm))
        out = self.folder / f"eval-{arm}"
        out.mkdir(parents=True)
        (out / "metrics.csv").write_text("id,group,class,dice,iou,hd95\na,a,polyp,0.5,0.4,3\n")
        for file, text in (("steps/{}.json", '{"result": {"seconds": 1.0}}'), ("{}/made_from.json", '{"model": "0123456789ab"}')):
            path = self.folder / file.format(arm)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return arm

    monkeypatch.setattr(bench.Bench, "measure", measure)
    return measured


CELLS = [Cell(Row("kvasir_seg", 24), seed, arm) for seed in (1, 2) for arm in ("supervised", "labeled-only")]


def test_cell_leaves_its_cases_and_a_line(options, ran, tmp_path):
    assert evidence.run_cells(CELLS, options, tmp_path / "out", tmp_path / "results", "abc") == []
    assert ran == [("kvasir_seg-24", seed, arm) for seed in (1, 2) for arm in ("supervised", "labeled-only")]
    assert read_cases(cell_file(tmp_path / "results", CELLS[0])).values["dice"] == {"a": 0.5}
    line = read_readings(tmp_path / "results")[1]
    assert (line["row"], line["seed"], line["arm"], line["commit"], line["warm"]) == (
        "kvasir_seg-24",
        "1",
        "labeled-only",
        "abc",
        "01234567",
    )


def test_no_cell_is_started_that_would_not_end_in_time(options, ran, tmp_path):
    seconds = bench.bench_of(CELLS[0], options.data, tmp_path, PRESETS["cpu"]).estimate("supervised")
    options.until_minutes = 0.9 * seconds / 60
    evidence.run_cells(CELLS, options, tmp_path / "out", tmp_path / "results", "abc")
    assert ran == []
    options.until_minutes = 1.1 * seconds / 60
    evidence.run_cells(CELLS, options, tmp_path / "out", tmp_path / "results", "abc")
    assert len(ran) >= 1


def test_cell_that_fails_is_named_and_the_next_one_runs(options, ran, tmp_path, monkeypatch):
    measure = bench.Bench.measure

    def fail(self, arm: str) -> str:
        if (self.seed, arm) == (1, "labeled-only"):
            raise RuntimeError("labeled-only ended with 6")
        return measure(self, arm)

    monkeypatch.setattr(bench.Bench, "measure", fail)
    assert evidence.run_cells(CELLS, options, tmp_path / "out", tmp_path / "results", "abc") == ["labeled-only ended with 6"]
    assert len(ran) == 3 and not cell_file(tmp_path / "results", CELLS[1]).exists()


def test_finished_cells_are_not_planned_again(options, tmp_path, monkeypatch, capsys):
    done = cell_file(tmp_path / "results" / "cpu", CELLS[0])
    done.parent.mkdir(parents=True)
    done.touch()
    words = ["run.py", options.data, tmp_path / "out", "--plan", "--results", tmp_path / "results", "--only", "kvasir_seg-24", "--seeds", 1]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    evidence.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines[:3]] == ["labeled-only", "self-training", "mined"]
    assert float(lines[-1].split()[2]) == pytest.approx(sum(float(line.split()[4]) for line in lines[:-1]), abs=0.1)


def test_steps_that_arms_share_are_estimated_once(options, tmp_path):
    one = bench.bench_of(CELLS[1], options.data, tmp_path, PRESETS["cpu"])
    begun: set[Path] = set()
    first, second = one.estimate("labeled-only", begun), one.estimate("self-training", begun)
    assert second < first == one.estimate("labeled-only")
    record = one.folder / "steps" / "warm.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert one.estimate("labeled-only") == first
    record.write_text('{"result": {}}')
    assert one.estimate("labeled-only") == pytest.approx(first / 2)


def test_first_reading_of_a_test_case_freezes_the_commit(options, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "git", lambda *words: "changed" if words[0] == "status" else f"full {words[-1][:3]}")
    with pytest.raises(SystemExit, match="samsemi/ differs"):
        evidence.find_commit(tmp_path, options)
    lines = [
        "row,seed,arm,commit",
        "kvasir_seg-24-development-600,1,labeled-only,aaa",
        "kvasir_seg-24,1,mined,bbb",
        "kvasir_seg-24,2,mined,ccc",
    ]
    (tmp_path / "readings.csv").write_text("\n".join(lines) + "\n")
    assert evidence.find_commit(tmp_path, options) == "full bbb"
    options.commit = "ddd"
    assert evidence.find_commit(tmp_path, options) == "full ddd"


@pytest.mark.slow
def test_commands_run_the_package_of_the_commit(tmp_path, monkeypatch):
    if not (ROOT / ".git").exists():
        pytest.skip("no repository")
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(ROOT)
    evidence.use_code("HEAD", tmp_path / "code")
    words = [sys.executable, "-c", "import samsemi; print(samsemi.__file__)"]
    assert subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=os.environ).stdout.startswith(str(tmp_path / "code"))


def in_process(words: list[str], **options: object) -> subprocess.CompletedProcess:
    """A command of samsemi, or an oracle, in this process."""
    if words[1].endswith("oracles.py"):
        oracles.main(words[2:])
        return subprocess.CompletedProcess(words, 0)
    outcome = call(*words[3:])
    options["stderr"].write(outcome.err)
    return subprocess.CompletedProcess(words, outcome.code, outcome.out)


def make_bench(pictures: Path, folder: Path, preset=QUICK) -> bench.Bench:
    return bench.Bench(pictures, folder, ROW, 1, preset)


@pytest.fixture(scope="module")
def measured(pictures, tmp_path_factory):
    """Arms on drawn images, and the stores of the oracles."""
    own = make_bench(pictures, tmp_path_factory.mktemp("evidence") / "seed-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", in_process)
        assert [own.measure(arm) for arm in TRAINED] == list(TRAINED)
        for arm in ORACLES:
            own.make_oracle(arm)
    return own


def command_of(own: bench.Bench, name: str) -> list[str]:
    return json.loads((own.folder / "steps" / f"{name}.json").read_text())["command"]


@pytest.mark.slow
def test_every_arm_has_the_same_budget(measured):
    seen = {}
    for arm in bench.NEEDS:
        command = [str(word) for word in measured.command(arm)]
        seen[arm] = int(command[command.index("--iterations") + 1]) + (measured.warm_iterations if command[0] == "finetune" else 0)
        assert command[command.index("--batch-size") + 1] == "8" and command[command.index("--keep") + 1] == "last"
    assert set(seen.values()) == {4}
    assert {command_of(measured, f"eval-{arm}")[1] for arm in TRAINED} == {str(measured.folder / "data")}


@pytest.mark.slow
def test_what_is_done_is_not_done_again(measured, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is left to do"))
    assert measured.measure("mined") == "mined" and measured.measure("supervised") == "supervised"


@pytest.mark.slow
def test_command_that_fails_is_named(pictures, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", in_process)
    wrong = replace(QUICK, network=("--encoder", "nonsense"))
    with pytest.raises(RuntimeError, match="(?s)warm ended with 2.*--encoder nonsense"):
        make_bench(pictures, tmp_path / "seed-1", wrong).measure("labeled-only")


@pytest.mark.slow
def test_arm_that_accepts_nothing_is_its_labeled_only_model(measured, pictures, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", in_process)
    shutil.copytree(measured.folder, tmp_path / "seed-1")
    strict = replace(QUICK, mine=("--no-calibrate", "--min-confidence", 1, "--min-predicted-iou", 1))
    own = make_bench(pictures, tmp_path / "seed-1", strict)
    assert own.measure("self-training") == "labeled-only"
    texts = [(own.folder / f"eval-{arm}" / "metrics.csv").read_text() for arm in ("self-training", "labeled-only")]
    assert texts[0] == texts[1]
    found = evidence.describe(own, Cell(ROW, 1, "self-training"), "labeled-only", "abc", "today")
    assert (found.accepted, found.pseudo_dice, found.measured, found.iterations) == (0, None, "labeled-only", 4)


@pytest.mark.slow
def test_reading_says_what_was_learnt(measured):
    found = evidence.describe(measured, Cell(ROW, 1, "mined"), "mined", "abc", "today")
    result = json.loads((measured.folder / "steps" / "mine-mined.json").read_text())["result"]
    assert found.accepted == result["accepted"] > 0 and 0 < found.pseudo_dice < 1 and 0 < found.coverage <= 1
    assert found.warm == evidence.describe(measured, Cell(ROW, 1, "labeled-only"), "labeled-only", "abc", "today").warm != ""
    assert evidence.describe(measured, Cell(ROW, 1, "supervised"), "supervised", "abc", "today").warm == ""


@pytest.mark.slow
def test_supervised_does_not_depend_on_its_val_case(measured, tmp_path):
    """That the data set has one is its form: the last weights are kept."""
    with open(measured.folder / "data-learnt.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    val, other = (next(row for row in rows if row["split"] == split) for split in ("val", "unlabeled"))
    val["split"], other["split"] = "unlabeled", "val"
    with open(tmp_path / "split.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "split"])
        writer.writeheader()
        writer.writerows(rows)
    prepare, train = command_of(measured, "data-learnt"), command_of(measured, "supervised")
    prepare[prepare.index("--split") + 1], prepare[prepare.index("--out") + 1] = str(tmp_path / "split.csv"), str(tmp_path / "data")
    train[1], train[train.index("--out") + 1] = str(tmp_path / "data"), str(tmp_path / "supervised")
    assert call(*prepare).code == 0 and call(*train).code == 0
    weights = [(folder / "supervised" / "model.safetensors").read_bytes() for folder in (tmp_path, measured.folder)]
    assert weights[0] == weights[1]


def dice_of(store: Store, measured: bench.Bench) -> dict[str, float]:
    """Of the label that would be learnt of each image, against the hidden truth, at 64 px."""
    data, found = read_dataset(measured.folder / "data"), {}
    policy = Policy.from_json(store.provenance.policy)
    for name in store.ids:
        target, weight = pseudo_label(store.read(name), policy, 2, 64)
        truth = np.asarray(Image.fromarray(read_case_label(data.cases[name], data.cases[name].truth, 2)).resize((64, 64), 0))
        label, known = target.argmax(axis=0), weight > 0
        if known.any():
            found[name] = 2 * (label & truth)[known].sum() / (label[known].sum() + truth[known].sum())
    return found


@pytest.mark.slow
def test_oracles_are_what_they_say(measured):
    mined, *stores = (Store(measured.store(name)) for name in ("mine-mined", *ORACLES))
    masks, accepted, boxes, everything = stores
    policy = Policy.from_json(mined.provenance.policy)
    used, unlabeled = set(accepted_ids(mined, policy)), set(mined.ids)
    assert set(masks.ids) == set(accepted.ids) == used and set(boxes.ids) == set(everything.ids) == unlabeled
    scores = {name: np.mean(list(dice_of(store, measured).values())) for name, store in zip(ORACLES, stores, strict=True)}
    assert scores["oracle-accepted"] > 0.95 and scores["oracle-all"] > 0.95 and 0.4 < scores["oracle-boxes"] < scores["oracle-all"]
    data, gains = read_dataset(measured.folder / "data"), []
    for name in used:
        one, other, truth = mined.read(name), masks.read(name), oracles.true_map(data.cases[name], 2) > 0
        assert all(np.array_equal(getattr(one, column), getattr(other, column)) for column in ("predicted_iou", "boxes", "network_probs"))
        gains += [oracles.iou_of(other, i, truth) - oracles.iou_of(one, i, truth) for i in range(len(one))]
    assert min(gains) >= 0 and max(gains) > 0


@pytest.mark.parametrize("name", PRESETS)
def test_commands_of_every_preset_are_understood(tmp_path, name):
    own = bench.Bench(tmp_path, tmp_path / "seed-1", ROW, 1, PRESETS[name], "sam_vit_b.pth" if name == "gpu" else "")
    for step in ("warm", "adapt", "mine-self-training", "mine-mined", *bench.NEEDS):
        outcome = call(*own.command(step))
        assert outcome.code == 4 and "no such data set" in outcome.err, f"{step}: {outcome.err}"


def test_knowsam_without_sam_is_given_none(tmp_path):
    own = make_bench(tmp_path, tmp_path / "seed-1")
    whole, without = (own.command(arm) for arm in KNOWSAM)
    assert "--sam-checkpoint" in whole and "--sam" not in without and "--no-sam" in without
