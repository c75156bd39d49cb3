"""samsemi's training beside a plain loop (examples/plain_training.py): both learn from the same images."""

import json
import sys

import pytest
import torch
from builders import ROOT

from samsemi.options.warmstart import WarmstartOptions
from samsemi.speed import draw_cases
from samsemi.training.batches import labeled_sample


@pytest.fixture
def plain_training(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import plain_training

    yield plain_training
    sys.modules.pop("plain_training")


SMALL = ("--size", "32", "--encoder", "mobilenet_v2", "--decoder-channels", "16,12,8,8,8", "--device", "cpu")


def test_both_are_measured(plain_training, capsys):
    plain_training.main(["--steps", "2", *SMALL])
    found = json.loads(capsys.readouterr().out)
    assert (found["batch_size"], found["size"], found["precision"]) == (2, 32, "fp32")
    assert 0 < found["data_wait_share"] < 1 and found["over_plain"] > 0


def test_plain_loop_learns_from_the_same_arrays(plain_training, tmp_path):
    options = WarmstartOptions(dataset="d", out="o", size=32, batch_size=2, encoder="mobilenet_v2", decoder_channels="8,8,8,8,8")
    loop = plain_training.PlainLoop(options, torch.device("cpu"), 1)
    before = [value.clone() for value in loop.model.parameters()]
    data = loop.batches._dataset
    for n, case in enumerate(draw_cases(tmp_path, 2, 32)):
        sample = labeled_sample(case, 2, 32)
        assert torch.equal(data.images[n], sample.image) and torch.equal(data.masks[n][0].float(), sample.target[1])
    loop.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, loop.model.parameters(), strict=True))
