import math

import pytest
import torch
import torch.nn.functional as F

from samsemi.data.dataset import IGNORE
from samsemi.losses import cross_entropy, dice_loss, distillation_loss, entropy_loss, mutual_loss, segmentation_loss


def image_of(rows: list[list[float]]) -> torch.Tensor:
    """Pixels x classes -> (1, K, 1, pixels)."""
    return torch.tensor(rows, dtype=torch.float64).T[None, :, None]


def as_target(label: torch.Tensor, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, H, W) classes and IGNORE -> one-hot target and weight."""
    valid = label != IGNORE
    return F.one_hot(torch.where(valid, label, 0), num_classes).permute(0, 3, 1, 2).double(), valid.double()


def random_case(num_classes: int, seed: int = 0, ignored: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, K, 6, 5) and labels (2, 6, 5) of which a part is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, num_classes, 6, 5, generator=generator, dtype=torch.float64)
    label = torch.randint(num_classes, (2, 6, 5), generator=generator)
    return logits, torch.where(torch.rand(2, 6, 5, generator=generator) < ignored, IGNORE, label)


def test_cross_entropy_of_four_pixels_by_hand_two_classes():
    probs = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]]
    target = image_of([[1, 0], [0, 1], [0, 1], [1, 0]])
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.5) + math.log(0.3)) / 4
    assert cross_entropy(image_of(probs).log(), target, torch.ones(1, 1, 4)).item() == pytest.approx(expected)


def test_cross_entropy_of_four_pixels_by_hand_four_classes_every_class_counts():
    """KnowSAM's loops over classes kept only the last one's loss."""
    probs = [[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.2, 0.2], [0.1, 0.1, 0.6, 0.2], [0.3, 0.3, 0.3, 0.1]]
    target = torch.eye(4, dtype=torch.float64).T[None, :, None]
    expected = -(math.log(0.7) + math.log(0.4) + math.log(0.6) + math.log(0.1)) / 4
    assert cross_entropy(image_of(probs).log(), target, torch.ones(1, 1, 4)).item() == pytest.approx(expected)


def test_cross_entropy_of_a_soft_target_by_hand():
    logits, target = image_of([[0.6, 0.4]]).log(), image_of([[0.25, 0.75]])
    expected = -(0.25 * math.log(0.6) + 0.75 * math.log(0.4))
    assert cross_entropy(logits, target, torch.ones(1, 1, 1)).item() == pytest.approx(expected)


def test_dice_of_four_pixels_by_hand_two_classes():
    """Class 1: 2 (0.1 * 0 + 0.8 + 0.5 + 0) over (0.01 + 0.64 + 0.25 + 0.49) + 2; class 0 likewise."""
    probs = image_of([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    target = image_of([[1, 0], [0, 1], [0, 1], [1, 0]])
    background = 1 - 2 * (0.9 + 0.3) / (0.81 + 0.04 + 0.25 + 0.09 + 2)
    foreground = 1 - 2 * (0.8 + 0.5) / (0.01 + 0.64 + 0.25 + 0.49 + 2)
    assert dice_loss(probs, target, torch.ones(1, 1, 4)).item() == pytest.approx((background + foreground) / 2, abs=1e-4)


def test_dice_averages_over_the_classes_that_the_target_holds():
    probs = image_of([[0.4, 0.3, 0.2, 0.1]] * 2)
    target = image_of([[0, 1, 0, 0], [0, 0, 0, 1]])
    second = 1 - 2 * 0.3 / (2 * 0.09 + 1)
    fourth = 1 - 2 * 0.1 / (2 * 0.01 + 1)
    assert dice_loss(probs, target, torch.ones(1, 1, 2)).item() == pytest.approx((second + fourth) / 2, abs=1e-4)


def test_residue_of_a_class_that_wins_nowhere_does_not_pull_on_the_dice():
    """.01 of the third class in all pixels; it also wins in one, which is ignored. Cross-entropy learns it."""
    probs = image_of([[0.6, 0.3, 0.1]] * 3).requires_grad_()
    target = image_of([[0.09, 0.9, 0.01], [0.9, 0.09, 0.01], [0.1, 0.1, 0.8]])
    weight = torch.tensor([[[1.0, 1.0, 0.0]]])
    loss = dice_loss(probs, target, weight)
    first = 1 - 2 * 0.6 * 0.99 / (0.72 + 0.81 + 0.0081)
    second = 1 - 2 * 0.3 * 0.99 / (0.18 + 0.81 + 0.0081)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-4)
    loss.backward()
    assert not probs.grad[:, 2].any() and probs.grad[:, 1].any()


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_ignored_pixels_do_not_dilute_the_cross_entropy(num_classes, seed):
    logits, label = random_case(num_classes, seed)
    expected = F.cross_entropy(logits, label, ignore_index=IGNORE)
    assert cross_entropy(logits, *as_target(label, num_classes)).item() == pytest.approx(expected.item())


def test_one_valid_pixel_of_sixteen_counts_in_full():
    """Where segmentation-models-pytorch's loss gives a sixteenth."""
    logits = torch.zeros(1, 2, 4, 4)
    label = torch.full((1, 4, 4), IGNORE)
    label[0, 2, 1] = 1
    target, weight = as_target(label, 2)
    assert cross_entropy(logits, target, weight).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_loss_does_not_depend_on_what_is_predicted_or_targeted_where_ignored(num_classes):
    logits, label = random_case(num_classes)
    target, weight = as_target(label, num_classes)
    ignored = (weight == 0)[:, None].expand_as(logits)
    other = segmentation_loss(torch.where(ignored, 50.0, logits), torch.where(ignored, 1 / num_classes, target), weight)
    assert other.item() == pytest.approx(segmentation_loss(logits, target, weight).item())


@pytest.mark.parametrize("num_classes", [2, 4])
def test_without_a_valid_pixel_the_loss_is_zero_and_so_is_its_gradient(num_classes):
    logits = torch.randn(2, num_classes, 4, 4, requires_grad=True)
    label = torch.full((2, 4, 4), IGNORE)
    target, weight = as_target(label, num_classes)
    loss = segmentation_loss(logits, target.float(), weight.float())
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", [cross_entropy, lambda logits, *rest: dice_loss(logits.softmax(1), *rest)], ids=["cross_entropy", "dice"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_gradient_reaches_the_logits_of_valid_pixels_and_no_others(loss, num_classes):
    logits, label = random_case(num_classes)
    logits.requires_grad_()
    target, weight = as_target(label, num_classes)
    loss(logits, target, weight).backward()
    size = logits.grad.abs().amax(dim=1)
    assert (size[weight > 0] > 0).all() and (size[weight == 0] == 0).all()


@pytest.mark.parametrize("num_classes", [2, 4])
def test_gradient_is_that_of_finite_differences(num_classes):
    logits, label = random_case(num_classes)
    target, weight = as_target(label, num_classes)
    corner = (target[:, :, :2, :2], 0.3 * weight[:, :2, :2])
    assert torch.autograd.gradcheck(lambda x: segmentation_loss(x, *corner), logits[:, :, :2, :2].clone().requires_grad_())


@pytest.mark.parametrize("num_classes", [2, 4])
def test_dice_is_least_where_the_probabilities_are_the_soft_target(num_classes):
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(1, num_classes, 4, 4, generator=generator, dtype=torch.float64).softmax(1)
    weight = torch.rand(1, 4, 4, generator=generator, dtype=torch.float64) + 0.1
    probs = target.clone().requires_grad_()
    least = dice_loss(probs, target, weight)
    least.backward()
    assert least.item() == pytest.approx(0, abs=1e-9)
    assert probs.grad.abs().max() < 1e-9
    for _ in range(5):
        step = 0.2 * torch.randn(target.shape, generator=generator, dtype=torch.float64)
        assert dice_loss((target.log() + step).softmax(1), target, weight) > least
    hard = F.one_hot(target.argmax(1), num_classes).permute(0, 3, 1, 2).double()
    assert dice_loss(hard, target, weight) > least


@pytest.mark.parametrize("num_classes", [2, 4])
def test_uniform_weight_scales_the_loss(num_classes):
    logits, label = random_case(num_classes, ignored=0.3)
    target, weight = as_target(label, num_classes)
    full = segmentation_loss(logits, target, weight)
    assert segmentation_loss(logits, target, 0.25 * weight).item() == pytest.approx(0.25 * full.item(), rel=1e-4)


def test_each_pixel_counts_by_its_weight_in_the_cross_entropy():
    logits = image_of([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]).log()
    target = image_of([[1, 0], [1, 0], [1, 0]])
    weight = torch.tensor([[[1.0, 0.5, 0.0]]])
    expected = -(math.log(0.9) + 0.5 * math.log(0.2)) / 2
    assert cross_entropy(logits, target, weight).item() == pytest.approx(expected)


def test_segmentation_loss_is_the_sum_of_both():
    logits, label = random_case(3)
    target, weight = as_target(label, 3)
    expected = cross_entropy(logits, target, weight) + dice_loss(logits.softmax(1), target, weight)
    assert segmentation_loss(logits, target, weight).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("num_classes", [2, 4])
def test_better_predictions_lose_less(num_classes):
    logits, label = random_case(num_classes)
    target, weight = as_target(label, num_classes)
    losses = [segmentation_loss(sharpness * target, target, weight).item() for sharpness in (-2.0, 0.0, 2.0, 10.0)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.01


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]]).T[None, :, None].requires_grad_()
    target = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).T[None, :, None]
    loss = segmentation_loss(logits, target, torch.ones(1, 1, 2))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def four_pixels(num_classes: int, seed: int) -> torch.Tensor:
    """(1, K, 2, 2) logits that require a gradient."""
    torch.manual_seed(seed)
    return (2 * torch.randn(1, num_classes, 2, 2)).requires_grad_()


@pytest.mark.parametrize("num_classes", [2, 4])
def test_distillation_by_hand(num_classes):
    """T^2 times the mean over pixels of sum p (log p - log q), both softened."""
    student, teacher = four_pixels(num_classes, 0), four_pixels(num_classes, 1)
    expected = 0.0
    for y in range(2):
        for x in range(2):
            p, q = ([math.exp(v / 10) for v in logits[0, :, y, x].tolist()] for logits in (teacher, student))
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            expected += 100 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 4
    loss = distillation_loss(student, teacher, 10.0)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert student.grad.any() and teacher.grad is None


def test_distillation_is_zero_from_one_that_says_the_same():
    logits = four_pixels(4, 0)
    assert distillation_loss(logits, logits + 3, 10.0).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_entropy_by_hand(num_classes):
    logits = four_pixels(num_classes, 0)
    probs = logits.detach().softmax(dim=1)
    expected = sum(-p * math.log(p) for p in probs.flatten().tolist()) / 4 / math.log(num_classes)
    loss = entropy_loss(logits)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad.any()
    assert entropy_loss(torch.zeros(1, num_classes, 2, 2)).item() == pytest.approx(1)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_mutual_loss_by_hand(num_classes):
    """Binary cross-entropy over every class, not the last alone, and no gradient for the other network."""
    logits, other = four_pixels(num_classes, 0), four_pixels(num_classes, 1)
    p, q = logits.detach().softmax(dim=1).flatten().tolist(), other.detach().softmax(dim=1).flatten().tolist()
    expected = sum(-(b * math.log(a) + (1 - b) * math.log(1 - a)) for a, b in zip(p, q, strict=True)) / len(p)
    loss = mutual_loss(logits, other)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert all(logits.grad[:, k].any() for k in range(num_classes)) and other.grad is None


def test_losses_between_networks_are_finite_where_both_are_sure():
    sure = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    for loss in (distillation_loss(sure, -sure, 10.0), entropy_loss(sure), mutual_loss(sure, -sure)):
        assert torch.isfinite(loss)
