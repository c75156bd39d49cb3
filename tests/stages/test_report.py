"""The report: what stands in it, what is left out of it and why, what it must not read, and how a browser shows it."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from builders import CHECKPOINT, DATA, REFUSED, USAGE, file_bytes, refused, succeed
from pages import browse, needs_browser, read_page

from samsemi.metrics import METRICS

STRANGE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def trained(dataset, warm, store, tmp_path_factory) -> Path:
    """eval-warm, and eval-mined of a run that learned from the store."""
    folder = tmp_path_factory.mktemp("report")
    training = ("--iterations", 2, "--validate-every", 1, "--batch-size", 2)
    succeed("finetune", dataset, "--model", warm, "--store", store, "--out", folder / "mined", *training)
    for name, run in (("warm", warm), ("mined", folder / "mined")):
        succeed("eval", dataset, "--model", run, "--out", folder / f"eval-{name}", "--overlays", 0)
    return folder


@pytest.fixture(scope="session")
def page(trained) -> Path:
    succeed("report", trained / "eval-warm", trained / "eval-mined", "--out", trained / "report.html", "--device", "cpu")
    return trained / "report.html"


@pytest.fixture
def strange(tmp_path) -> Path:
    """An evaluation whose names are HTML."""
    folder = tmp_path / "eval-<b>"
    folder.mkdir()
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "group", "class", *METRICS])
        for i in range(6):
            for name in (STRANGE, "</title><script>alert(2)</script>"):
                writer.writerow([f'"><script>{i}</script>', i, name, *(0.1 * i for _ in METRICS)])
    (folder / "metrics.json").write_text(json.dumps({"schema": "samsemi.evaluation/1", "split": STRANGE, "distance_unit": STRANGE}))
    return folder


def test_page_is_one_file_with_every_part(page, trained):
    found = read_page(page)
    anchors = [e.attributes["href"] for e in found.one("nav", **{"aria-label": "Sections"}) and found.all("a")]
    assert anchors == ["#summary", "#cases-dice", "#reliability", "#pictures", "#mining-0", "#training", "#provenance"]
    assert all(found.all("section", id=anchor[1:]) for anchor in anchors)
    assert not found.loaded() and not found.repeated_ids()
    assert len(found.all("svg", **{"class": "chart"})) >= 6
    heads = [e.text for e in found.all("p", **{"class": "lead"})]
    assert (
        heads[0].startswith("mined: mean Dice ")
        and heads[1].startswith("mined minus warm: ")
        and " unlabeled images something was found" in heads[2]
    )


def test_policy_of_the_page_allows_its_own_script_alone(page):
    found = read_page(page)
    policy = found.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    script = found.one("script").text
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'") and "img-src data:;" in policy


def test_measured_and_mined_cases_are_pictured(page, dataset, warm):
    found = read_page(page)
    captions = [e.text.split("  ")[0] for e in found.all("strong")]
    for caption in ("image", "truth", "warm", "mined", "network that prompts", "prompts", "SAM's masks", "pseudo-label"):
        assert caption in captions
    assert len(found.all("article")) == 3 + 9  # all test cases, all unlabeled ones in which something was found
    images = [e for e in found.all("image") if e.attributes.get("id", "").startswith("i")]
    assert len(images) == 12 and all(e.attributes["href"].startswith("data:image/") for e in images)


def test_dice_of_the_pictures_is_that_of_the_evaluation(page, trained):
    with open(trained / "eval-mined" / "metrics.csv", newline="") as file:
        rows = {row["id"]: float(row["dice"]) for row in csv.DictReader(file)}
    shown = {case.text.split()[0]: float(re.search(r"mined Dice ([\d.]+)", case.text)[1]) for case in read_page(page).all("article")[:3]}
    assert shown == pytest.approx(rows, abs=6e-4)


def test_numbers_are_those_of_eval(page, trained):
    mean = json.loads((trained / "eval-mined" / "metrics.json").read_text())["mean"]["dice"]
    assert f"{mean['mean']:.3f} - on" in read_page(page).all("p", **{"class": "lead"})[0].text


def test_provenance_names_commands_hashes_versions_and_licenses(page, dataset, trained):
    found = read_page(page)
    commands = [e.text for e in found.all("pre")]
    assert any(c.startswith(f"samsemi finetune {dataset}") and "--iterations 2" in c for c in commands)
    text = found.one("section", id="provenance").text
    made_from = json.loads((trained / "mined" / "model.json").read_text())["made_from"]
    assert made_from["dataset"] in text and made_from["store_content"] in text
    assert "version of torch" in text and "Apache-2.0, in the package" in text


def test_page_is_always_the_same_and_replaces_itself(page, trained):
    again = ("report", trained / "eval-warm", trained / "eval-mined", "--out", page, "--device", "cpu")
    before = page.read_bytes()
    refused(REFUSED, *again, said=(page,))
    succeed(*again, "--overwrite")
    assert page.read_bytes() == before


def test_truth_of_unlabeled_cases_is_not_read(page, trained, dataset, tmp_path):
    """The report of the same things without any hidden mask is the same but for the size of the data set."""
    moved = tmp_path / dataset.name
    shutil.copytree(dataset, moved)
    hidden = file_bytes(moved / "truth")
    shutil.rmtree(moved / "truth")
    evals = (trained / "eval-warm", trained / "eval-mined")
    succeed("report", *evals, "--dataset", moved, "--out", tmp_path / "r.html", "--device", "cpu")
    cases = [[article.text for article in read_page(path).all("article")] for path in (page, tmp_path / "r.html")]
    assert hidden and cases[0] == cases[1]
    drawn = [
        [e.attributes.get("d") for e in read_page(path).all("path") if "vector-effect" in e.attributes]
        for path in (page, tmp_path / "r.html")
    ]
    assert drawn[0] == drawn[1]


def test_store_alone_is_enough(store, tmp_path):
    outcome = succeed("report", store, "--out", tmp_path / "r.html", "--cases", 0, "--json")
    found = read_page(tmp_path / "r.html")
    assert outcome.result["stores"] == 1 and outcome.result["evaluations"] == 0
    assert set(outcome.result["left_out"]) == {"Results", "Every case", "Pictures", "Mining: tiny.h5", "Training"}
    assert len(found.all("p", **{"class": "left-out"})) == 5
    assert "something was found" in found.one("p", **{"class": "lead"}).text
    assert [e.text.split()[0] for e in found.all("strong")][:2] == ["Objects:", "Scores"]


def test_data_set_beside_a_store_is_found_by_its_fingerprint(store, dataset, tmp_path):
    shutil.copy(store, tmp_path / "s.h5")
    shutil.copytree(dataset, tmp_path / "some folder")
    outcome = succeed("report", tmp_path / "s.h5", "--out", tmp_path / "r.html", "--cases", 3, "--device", "cpu", "--json")
    assert outcome.result["pictured"] == 3
    assert not read_page(tmp_path / "r.html").all("g", id="t0"), "no truth of unlabeled cases"


def test_model_that_is_no_longer_what_was_measured_is_not_drawn(trained, warm, dataset, tmp_path):
    shutil.copytree(warm, tmp_path / "run")
    succeed("eval", dataset, "--model", tmp_path / "run", "--out", tmp_path / "eval", "--overlays", 0)
    for name in ("model.safetensors", "model.json"):
        shutil.copy(trained / "mined" / name, tmp_path / "run" / name)
    outcome = succeed("report", tmp_path / "eval", "--out", tmp_path / "r.html", "--device", "cpu")
    assert "no longer the model that was measured" in outcome.err
    assert "run Dice" not in read_page(tmp_path / "r.html").source


@pytest.mark.parametrize("rows", ["iteration,loss\n1,x\n", "loss\n1\n", "iteration,loss\n\0,1\n"], ids=["words", "no iteration", "NUL"])
def test_damaged_history_is_named_and_left_out(warm, dataset, tmp_path, rows):
    shutil.copytree(warm, tmp_path / "run")
    succeed("eval", dataset, "--model", tmp_path / "run", "--out", tmp_path / "eval", "--overlays", 0)
    (tmp_path / "run" / "history.csv").write_text(rows)
    outcome = succeed("report", tmp_path / "eval", "--out", tmp_path / "r.html", "--cases", 0, "--json")
    assert f"Named, but not there: {tmp_path / 'run'}" in read_page(tmp_path / "r.html").source
    assert "Training" in outcome.result["left_out"]


def test_pipe_in_place_of_the_page_is_not_waited_for(trained, tmp_path):
    os.mkfifo(tmp_path / "r.html")
    refused(REFUSED, "report", trained / "eval-mined", "--out", tmp_path / "r.html", said=("r.html is not a report",))


def test_evaluation_of_before_which_names_nothing_is_shown(trained, tmp_path):
    shutil.copytree(trained / "eval-warm", tmp_path / "eval-old")
    about = json.loads((tmp_path / "eval-old" / "metrics.json").read_text())
    about = {name: value for name, value in about.items() if name not in ("options", "made_from")}
    (tmp_path / "eval-old" / "metrics.json").write_text(json.dumps(about))
    outcome = succeed("report", tmp_path / "eval-old", "--out", tmp_path / "r.html", "--json", "--quiet")
    assert outcome.result["evaluations"] == 1 and "Pictures" in outcome.result["left_out"] and "Training" in outcome.result["left_out"]
    run = json.loads((trained / "eval-mined" / "metrics.json").read_text())["options"]["model"]
    outcome = succeed("report", tmp_path / "eval-old", "--model", run, "--out", tmp_path / "s.html", "--json", "--device", "cpu")
    assert outcome.result["runs"] == 2 and outcome.result["pictured"] == 12


def test_evaluations_of_an_arm_are_one_row_of_so_many_seeds(trained, tmp_path):
    evals = [f"ours={trained / name}" for name in ("eval-warm", "eval-mined")]
    outcome = succeed("report", *evals, "--out", tmp_path / "r.html", "--cases", 2, "--device", "cpu", "--json")
    assert (outcome.result["evaluations"], outcome.result["arms"], outcome.result["pictured"]) == (2, 1, 2)
    lead = read_page(tmp_path / "r.html").all("p", **{"class": "lead"})[0].text
    assert lead.startswith("ours: mean Dice ") and lead.endswith("on 3 test cases, 2 seeds.")
    shutil.copytree(trained / "eval-warm", tmp_path / "again")
    refused(USAGE, "report", evals[0], f"ours={tmp_path / 'again'}", "--out", tmp_path / "s.html", said=("are of the same model",))


def test_eval_of_a_store_says_how_far_its_scores_can_be_believed(dataset, store, tmp_path):
    succeed("eval", dataset, "--store", store, "--out", tmp_path / "eval-store", "--overlays", 0)
    succeed("report", tmp_path / "eval-store", "--out", tmp_path / "r.html", "--cases", 0)
    section = read_page(tmp_path / "r.html").one("section", id="mining-0")
    assert "SAM's predicted IoU against the true one" in section.text
    about = json.loads((tmp_path / "eval-store" / "metrics.json").read_text())
    (tmp_path / "eval-store" / "metrics.json").write_text(
        json.dumps(about | {"made_from": {**about["made_from"], "store_content": "0" * 64}})
    )
    succeed("report", tmp_path / "eval-store", "--out", tmp_path / "s.html", "--cases", 0)
    assert "against the true one" not in read_page(tmp_path / "s.html").source, "the store is another by now"


def test_damaged_reliability_is_named(trained, tmp_path):
    shutil.copytree(trained / "eval-warm", tmp_path / "eval")
    about = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    for damage in ([], {"probabilities": {"foreground": {"curve": [{"count": 1, "predicted": "<b>", "true": 0}]}}}):
        (tmp_path / "eval" / "metrics.json").write_text(json.dumps(about | {"reliability": damage or 7}))
        refused(CHECKPOINT, "report", tmp_path / "eval", "--out", tmp_path / "r.html", said=("metrics.json",))


def test_html_in_names_stays_text(strange, tmp_path):
    succeed("report", strange, "--out", tmp_path / "r.html")
    found = read_page(tmp_path / "r.html")
    assert len(found.all("script")) == 1 and not found.all("img") and not found.all("b")
    assert STRANGE in found.one("section", id="summary").text


def test_wrong_calls(trained, store, dataset, tmp_path):
    out = tmp_path / "r.html"
    refused(USAGE, "report", dataset, "--out", out, said=(dataset,))
    refused(USAGE, "report", tmp_path / "nowhere", "--out", out, said=("nowhere",))
    refused(CHECKPOINT, "report", trained / "eval-warm", "--store", tmp_path / "no.h5", "--out", out, said=("no.h5",))
    refused(CHECKPOINT, "report", trained / "eval-warm", "--model", dataset, "--out", out, said=(dataset,))
    refused(DATA, "report", trained / "eval-warm", "--dataset", tmp_path, "--out", out, said=(tmp_path,))
    out.write_text("mine")
    refused(REFUSED, "report", trained / "eval-warm", "--out", out, "--overwrite", said=(out,))
    refused(REFUSED, "report", trained / "eval-warm", "--out", tmp_path, said=(tmp_path,))
    assert out.read_text() == "mine"


PROBE = """
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const select = document.querySelector("select");
const shown = () => [...document.querySelectorAll(".case")].filter((one) => one.offsetHeight > 0).map((one) => one.id);
const box = () => document.querySelector(".case.shown .panel svg").getAttribute("viewBox");
const found = { width: [document.documentElement.scrollWidth, window.innerWidth], first: shown(), whole: box() };
press("ArrowRight"); found.second = shown(); found.selected = select.value;
press("ArrowLeft"); press("ArrowLeft"); found.last = shown();
press("ArrowRight"); press("+"); found.zoomed = box(); press("0"); found.again = box();
press("l"); found.lines = getComputedStyle(document.querySelector(".case.shown .over")).display; press("l");
press("t"); found.truth = getComputedStyle(document.querySelector(".case.shown .truth")).display;
const panel = document.querySelectorAll(".case.shown .panel")[1], svg = panel.querySelector("svg"), before = svg.clientWidth;
svg.dispatchEvent(new PointerEvent("pointerdown", { clientX: 5, clientY: 5 }));
svg.dispatchEvent(new PointerEvent("pointerup", { clientX: 5, clientY: 5 }));
found.larger = svg.clientWidth / before;
found.picture = before;
const image = document.querySelector(".case.shown .panel svg use");
found.drawn = image.getBoundingClientRect().width > 50;
found.overlapping = [];
document.querySelectorAll("svg.chart").forEach((chart) => {
  const texts = [...chart.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
  const frame = chart.getBoundingClientRect();
  texts.forEach(([a, r], i) => {
    if (r.left < frame.left - 2 || r.right > frame.right + 2) found.overlapping.push([a, "cut"]);
    texts.slice(i + 1).forEach(([b, s]) => {
      const x = Math.min(r.right, s.right) - Math.max(r.left, s.left), y = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
      if (x > 1 && y > 3) found.overlapping.push([a, b]);
    });
  });
});
return found;
"""


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_browser_shows_it_without_a_network(page, tmp_path, width):
    _, complaints = browse(page, tmp_path)
    assert not complaints, "the page's own policy lets all of it through, and nothing else is asked for"
    found, complaints = browse(page, tmp_path, PROBE, width)
    assert not complaints and "error" not in found, found
    assert found["width"][0] <= found["width"][1] == width, "nothing is wider than the window"
    assert (found["first"], found["second"], found["last"]) == (["case-1"], ["case-2"], ["case-12"]) and found["selected"] == "1"
    assert found["zoomed"] != found["whole"] == found["again"]
    assert found["lines"] == "none" and found["truth"] == "inline"
    assert found["picture"] > (240 if width > 640 else 160) and found["larger"] > 1.5 and found["drawn"]
    assert not found["overlapping"]


@needs_browser
def test_browser_runs_nothing_that_stands_in_names(strange, tmp_path):
    succeed("report", strange, "--out", tmp_path / "r.html")
    probe = "return { images: document.images.length, scripts: document.scripts.length, title: document.title };"
    found, _ = browse(tmp_path / "r.html", tmp_path, probe)
    assert found == {"images": 0, "scripts": 2, "title": "Segmentation report"}
