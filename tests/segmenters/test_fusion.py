import math

import pytest
import torch
from torch import nn

from samsemi.losses import entropy
from samsemi.segmenters.fusion import CoTrained, FusionHead, mean_logits


def test_head_has_the_published_size():
    assert sum(value.numel() for value in FusionHead(2).parameters()) == pytest.approx(40_500, abs=50)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_entropy_is_zero_where_sure_and_that_of_all_classes_where_not(num_classes):
    sure, unsure = torch.zeros(1, num_classes, 1, 1), torch.zeros(1, num_classes, 1, 1)
    sure[:, 0] = 100
    assert entropy(sure).item() == pytest.approx(0, abs=1e-6)
    assert entropy(unsure).item() == pytest.approx(math.log(num_classes))


def test_entropy_by_hand():
    logits = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)
    assert entropy(logits).item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_mean_logits_is_the_mean_probability():
    first, second = torch.tensor([0.9, 0.1]).log().view(1, 2, 1, 1), torch.tensor([0.3, 0.7]).log().view(1, 2, 1, 1) + 5
    assert mean_logits(first, second).softmax(dim=1).flatten().tolist() == pytest.approx([0.6, 0.4])


def test_head_sees_where_peers_agree():
    """The first branch gets 1 where both are for or against a class, 0 where only one is for it."""
    head, seen = FusionHead(2), []
    head.agreement.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    first = torch.tensor([[3.0, 3.0], [-3.0, -3.0]]).view(1, 2, 1, 2)  # class 0 on both pixels
    second = torch.tensor([[3.0, -3.0], [-3.0, 3.0]]).view(1, 2, 1, 2)  # class 0, class 1
    head(first.expand(2, -1, -1, -1), second.expand(2, -1, -1, -1))
    assert seen[0][0].tolist() == [[[1, 0]], [[1, 0]]]


def test_loss_of_the_fused_answer_reaches_the_head_and_both_peers():
    torch.manual_seed(0)
    network = CoTrained(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), 3)
    network(torch.rand(2, 3, 8, 8)).square().mean().backward()
    assert all(value.grad is not None and value.grad.any() for value in network.parameters())


def test_without_a_head_the_answer_is_the_mean():
    network = CoTrained(nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), 2, fusion=False)
    logits = network.peer_logits(torch.rand(1, 3, 4, 4))
    mean = (logits.first.softmax(dim=1) + logits.second.softmax(dim=1)) / 2
    assert torch.allclose(logits.fused.softmax(dim=1), mean, atol=1e-6)
    assert network.head is None and torch.equal(network.eval()(torch.ones(1, 3, 4, 4)), network(torch.ones(1, 3, 4, 4)))
