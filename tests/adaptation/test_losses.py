import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from builders import CPU, build_network, build_sam

from samsemi.adaptation import losses as adaptation
from samsemi.adaptation.losses import KINDS, PromptedSam, add_click, choose_learned, depth, mask_losses, output_losses, true_iou
from samsemi.adaptation.prompt_samples import PromptedSample
from samsemi.sam.lora import add_lora, fold_lora
from samsemi.sam.original import OriginalNetwork, OriginalSam
from samsemi.sam.protocol import choose_mask
from samsemi.sam.simulation import POINTS
from samsemi.training.optimizers import make_optimizer

SIDE, CELLS = 64, 16
"""Of build_sam(64, 16): its input and its low-resolution masks."""


def small_sam():
    return build_network(SIDE, 16).requires_grad_(False)


def rectangles(*boxes: tuple[int, int, int, int], size: int = CELLS) -> torch.Tensor:
    """(N, size, size) masks, rows and columns from the first to before the last."""
    masks = torch.zeros(len(boxes), size, size)
    for mask, (row, column, last_row, last_column) in zip(masks, boxes, strict=True):
        mask[row:last_row, column:last_column] = 1
    return masks


def sample_of(
    known: tuple[int, ...] = (1, 1), features: torch.Tensor | None = None, trust: torch.Tensor | None = None, nested: float = 1.0
) -> PromptedSample:
    """As many images as ``known`` is long, each with one object that every kind of prompt means."""
    count, kinds = len(known), len(KINDS)
    generator = torch.Generator().manual_seed(3)
    target = rectangles(*[(3 + i, 4, 10, 12) for i in range(count)])[:, None].expand(-1, kinds, -1, -1).clone()
    known = torch.tensor(known, dtype=torch.float32)[:, None].expand(-1, kinds).clone()
    boxes = torch.tensor([16.0, 12, 47, 39]).expand(count, kinds, 4)
    return PromptedSample(
        image={"features": torch.randn(count, 16, 4, 4, generator=generator) if features is None else features},
        valid=torch.ones(count, *target.shape[2:]),
        target=target * known[..., None, None],
        known=known,
        trust=known if trust is None else known * trust,
        boxes=boxes * known[..., None],
        coords=(torch.rand(count, kinds, POINTS, 2, generator=generator) * 20 + 20) * known[..., None, None],
        labels=torch.tensor([1.0, 0, 1]).expand(count, kinds, 3) * known[..., None],
        rough=(8 * target - 4) * known[..., None, None],
        nested=torch.full_like(known, nested),
    )


def losses_of(sam, sample: PromptedSample, seed: int = 0, **given) -> dict[str, torch.Tensor]:
    model = PromptedSam(sam, SIDE, **{"kinds": KINDS, "multimask": True, "clicks": 2, **given})
    torch.manual_seed(seed)
    return model(sample)


# losses of a mask


@pytest.mark.parametrize(
    ("logits", "target", "loss"),
    [
        ([0, 0, 0, 0], [1, 1, 1, 1], 2 * 0.75 * math.log(2) + 1 / 6),
        ([0, 0, 0, 0], [1, 0, 0, 0], 2 * 0.75 * math.log(2) / math.sqrt(0.25) + 1 / 3),
        ([0, 0, 0, 0], [0, 0, 0, 0], 2 * 0.75 * math.log(2) / math.sqrt(0.02) + 1 / 2),
        ([99, 99, -99, -99], [1, 1, 0, 0], 0),
        ([-99, -99, -99, -99], [0, 0, 0, 0], 0),
        ([99, 99, 99, 99], [1, 0, 0, 0], 2 * 99 * 1.25 * 0.75 / 0.5 + 1 - 3 / 6),
    ],
)
def test_mask_loss_of_four_pixels_is_that_of_the_formula(logits, target, loss):
    logits, target = (torch.tensor(values, dtype=torch.float32).view(1, 2, 2) for values in (logits, target))
    assert mask_losses(logits[None], target, torch.ones_like(target)).item() == pytest.approx(loss, abs=1e-5)


def test_each_mask_of_each_image_has_its_own_loss():
    logits, target = torch.randn(3, 4, 8, 8), (torch.rand(3, 8, 8) > 0.6).float()
    together = mask_losses(logits, target, torch.ones_like(target))
    assert together.shape == (3, 4)
    for i, k in np.ndindex(3, 4):
        assert together[i, k].item() == pytest.approx(
            mask_losses(logits[i : i + 1, k : k + 1], target[i : i + 1], torch.ones(1, *target.shape[1:])).item(), rel=1e-5
        )


def test_better_logits_have_a_smaller_loss():
    target = rectangles((2, 2, 9, 9))
    losses = [
        mask_losses(((2 * target - 1) * sharpness)[:, None], target, torch.ones_like(target)).item()
        for sharpness in (-4, -1, 0, 0.5, 1, 2, 4, 9)
    ]
    assert all(worse > better for worse, better in pairwise(losses))
    shifted = [mask_losses((8 * rectangles((2, 2 + k, 9, 9 + k)) - 4)[:, None], target, torch.ones_like(target)).item() for k in range(6)]
    assert all(better < worse for better, worse in pairwise(shifted))


@pytest.mark.parametrize(
    ("logits", "target", "iou"),
    [
        ([-1, -1, -1, -1], [0, 0, 0, 0], 1),
        ([1, 1, -1, -1], [0, 0, 0, 0], 0),
        ([-1, -1, -1, -1], [1, 1, 0, 0], 0),
        ([1, 1, -1, -1], [0, 1, 1, 0], 1 / 3),
        ([1, 1, 1, 0], [1, 1, 0.5, 0.4], 2 / 3),
        ([9, 9, -9, -9], [1, 1, 0, 0], 1),
    ],
)
def test_true_iou_of_four_pixels(logits, target, iou):
    logits, target = (torch.tensor(values, dtype=torch.float32).view(1, 2, 2) for values in (logits, target))
    assert true_iou(logits[None], target, torch.ones_like(target)).item() == pytest.approx(iou)


# losses of an output


def right_and_wrong(*right: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 4, m, m) logits, right or wrong, and their target."""
    target = rectangles((2, 2, 9, 9))
    return torch.stack([(8 * target - 4) * (1 if good else -1) for good in right], dim=1), target


def loss_of(*right: bool, multimask: bool = True, ambiguous: bool = False) -> float:
    logits, target = right_and_wrong(*right)
    ious, valid = true_iou(logits, target, torch.ones_like(target)), torch.ones_like(target)
    return output_losses(logits, ious, target, valid, multimask, torch.tensor([float(ambiguous)]))[0].item()


def test_single_mask_model_learns_from_its_first_mask_alone():
    target = rectangles((2, 2, 9, 9), (0, 3, 8, 8))
    logits, ious = torch.randn(2, 4, CELLS, CELLS, requires_grad=True), torch.rand(2, 4, requires_grad=True)
    losses = output_losses(logits, ious, target, torch.ones_like(target), multimask=False, ambiguous=torch.zeros(2))
    assert losses.shape == (2, 2)
    losses.sum().backward()
    for gradient in (logits.grad.flatten(2).abs().sum(dim=2), ious.grad.abs()):
        assert (gradient[:, 0] > 0).all() and not gradient[:, 1:].any()


@pytest.mark.parametrize("ambiguous", [False, True])
def test_every_mask_of_a_multimask_model_learns(ambiguous):
    target = rectangles((2, 2, 9, 9))
    logits, ious = torch.randn(1, 4, CELLS, CELLS, requires_grad=True), torch.rand(1, 4, requires_grad=True)
    output_losses(logits, ious, target, torch.ones_like(target), True, torch.tensor([float(ambiguous)])).sum().backward()
    assert (logits.grad.flatten(2).abs().sum(dim=2) > 0).all() and (ious.grad != 0).all()


def test_one_of_three_masks_is_enough_for_an_ambiguous_prompt():
    one, none, all_three = (loss_of(True, *three, ambiguous=True) for three in ((False, True, False), (False,) * 3, (True,) * 3))
    assert all_three < one < 0.35 * none
    assert one < 0.5 * loss_of(True, False, True, False), "of a clear prompt all three count"
    assert one == pytest.approx(loss_of(True, True, False, False, ambiguous=True)), "whichever it is"


def test_best_of_three_learns_most_from_an_ambiguous_prompt():
    logits, target = right_and_wrong(True, True, True, True)
    logits = logits * torch.tensor([0.1, 0.1, 0.11, 0.1]).view(1, 4, 1, 1)
    logits.requires_grad_()
    output_losses(logits, torch.ones(1, 4), target, torch.ones_like(target), True, torch.ones(1))[0].sum().backward()
    single, *three = logits.grad.flatten(2).abs().sum(dim=2)[0].tolist()
    assert three[1] > 5 * max(three[0], three[2]) > 0 and single > 0


def test_predicted_iou_learns_the_true_one():
    logits, target = right_and_wrong(True, False, True, False)
    truth = true_iou(logits, target, torch.ones_like(target))
    assert truth.tolist() == [[1, 0, 1, 0]]
    valid, clear = torch.ones_like(target), torch.zeros(1)
    assert output_losses(logits, truth, target, valid, True, clear)[1].item() == 0
    assert output_losses(logits, truth + 0.1, target, valid, True, clear)[1].item() == pytest.approx(0.01, rel=1e-4)


def test_empty_mask_is_right_for_negative_prompts():
    logits = torch.stack([-torch.ones(1, CELLS, CELLS), *[torch.ones(1, CELLS, CELLS)] * 3], dim=1)
    ious = torch.full((1, 4), 0.5, requires_grad=True)
    output_losses(logits, ious, torch.zeros(1, CELLS, CELLS), torch.ones(1, CELLS, CELLS), True, torch.zeros(1))[1].sum().backward()
    assert ious.grad.sign().tolist() == [[-1, 1, 1, 1]]


# clicks


def test_click_lands_where_the_object_was_missed():
    target, found = rectangles((2, 2, 14, 14)), rectangles((2, 2, 14, 6))
    for _ in range(20):
        coords, labels = add_click(None, 8 * found - 4, target, torch.ones_like(target), SIDE)
        assert coords.shape == (1, 1, 2) and labels.tolist() == [[1]]
        x, y = ((coords[0, 0] + 0.5) * CELLS / SIDE - 0.5).tolist()
        assert 6 <= x <= 13 and 2 <= y <= 13
        assert 7 <= x <= 12 and 3 <= y <= 12, "deep in it"


def test_click_lands_beside_the_object_where_it_was_too_much():
    target, found = rectangles((2, 2, 8, 8)), rectangles((2, 2, 8, 14))
    for _ in range(20):
        coords, labels = add_click(None, 8 * found - 4, target, torch.ones_like(target), SIDE)
        x, y = ((coords[0, 0] + 0.5) * CELLS / SIDE - 0.5).tolist()
        assert labels.tolist() == [[0]] and 8 <= x <= 13 and 2 <= y <= 7


def test_click_without_an_error_is_no_point():
    target = rectangles((2, 2, 8, 8), (0, 0, 0, 0))
    assert add_click(None, 8 * target - 4, target, torch.ones_like(target), SIDE)[1].tolist() == [[-1], [-1]]


def test_click_comes_after_the_points_before():
    target = rectangles((2, 2, 14, 14), (2, 2, 8, 8), (2, 2, 8, 8))
    found = rectangles((2, 2, 14, 6), (2, 2, 8, 14), (2, 2, 8, 8))
    before = torch.rand(3, 2, 2) * SIDE, torch.tensor([[1.0, 0]]).repeat(3, 1)
    coords, labels = add_click(before, 8 * found - 4, target, torch.ones_like(target), SIDE)
    assert coords.shape == (3, 3, 2) and torch.equal(coords[:, :2], before[0])
    assert labels.tolist() == [[1, 0, 1], [1, 0, 0], [1, 0, -1]]


def test_click_is_in_the_middle_of_its_cell():
    target = torch.zeros(1, CELLS, CELLS)
    target[0, 5, 9] = 1
    coords, _ = add_click(None, torch.full((1, CELLS, CELLS), -4.0), target, torch.ones_like(target), SIDE)
    assert coords[0, 0].tolist() == [9 * 4 + 1.5, 5 * 4 + 1.5]


def test_depth_rises_towards_the_middle_of_a_region():
    rows = depth(rectangles((0, 0, 64, 64), (8, 8, 57, 57), size=64) > 0)[1]
    assert not rows[:8].any() and not rows[:, 57:].any()
    line = rows[32, 8:33]
    assert (line.diff() >= 0).all() and line[0] < 0.7 * line[-1]


@pytest.mark.parametrize(("multimask", "best"), [(True, [3, 1]), (False, [0, 0])])
def test_chosen_mask_is_what_the_backend_would_give(multimask, best):
    logits = torch.randn(2, 4, 8, 8)
    ious = torch.tensor([[0.99, 0.2, 0.5, 0.7], [0.1, 0.9, 0.3, 0.5]])
    found, _ = choose_mask(logits, ious, multimask)
    assert all(torch.equal(found[i], logits[i, k]) for i, k in enumerate(best))


# which prompts


@pytest.fixture
def prompts_given(monkeypatch) -> list[tuple]:
    """The prompts of each call of the prompt encoder."""
    seen = []
    original = OriginalNetwork.embed_prompts
    monkeypatch.setattr(OriginalNetwork, "embed_prompts", lambda network, *prompts: seen.append(prompts) or original(network, *prompts))
    return seen


def kind_of(points, boxes, masks) -> str:
    return "+".join(name for name, part in (("box", boxes), ("point", points), ("mask", masks)) if part is not None)


def test_object_is_prompted_by_its_kind_with_the_same_number_of_points(prompts_given):
    sam, counts = small_sam(), set()
    for seed in range(8):
        prompts_given.clear()
        losses_of(sam, sample_of(), clicks=0, seed=seed)
        assert [kind_of(*prompts) for prompts in prompts_given] == list(KINDS)
        [number] = {points[0].shape[1] for points, _, _ in prompts_given if points is not None}
        counts.add(number)
    assert counts == {1, 2, 3}


def corrected_kind(prompts_given: list[tuple]) -> int:
    """The one after which two more prompts come, each with one more point."""
    counts = [0 if points is None else points[0].shape[1] for points, _, _ in prompts_given]
    for first in range(len(KINDS)):
        rest = [i for i in range(len(prompts_given)) if i not in (first + 1, first + 2)]
        same = [kind_of(*prompts_given[i]) for i in rest] == list(KINDS) and len({counts[i] for i in rest[1:]}) == 1
        if same and counts[first + 1 : first + 3] == [counts[first] + 1, counts[first] + 2]:
            return first
    raise AssertionError(counts)


def test_one_kind_is_corrected_by_clicks_with_the_mask_before_as_prompt(prompts_given):
    sam, corrected = small_sam(), set()
    for seed in range(10):
        prompts_given.clear()
        losses_of(sam, sample_of(), seed=seed)
        first = corrected_kind(prompts_given)
        corrected.add(first)
        for points, boxes, masks in prompts_given[first + 1 : first + 3]:
            assert (boxes is None) == (KINDS[first] == "point")
            assert masks.shape == (2, 1, CELLS, CELLS) and not masks.requires_grad
            assert set(points[1][:, -1].tolist()) <= {-1, 0, 1}
    assert len(corrected) > 2


@pytest.mark.parametrize("multimask", [True, False])
def test_a_click_corrects_the_best_of_three_of_a_lone_point_alone(monkeypatch, prompts_given, multimask):
    found = []

    def choose(logits, predicted_iou, three):
        points, boxes, masks = prompts_given[-1]
        found.append((three, boxes is None and masks is None and points[0].shape[1] == 1))
        return choose_mask(logits, predicted_iou, three)

    monkeypatch.setattr(adaptation, "choose_mask", choose)
    for seed in range(16):
        losses_of(small_sam(), sample_of(), seed=seed, multimask=multimask)
    assert any(lone for _, lone in found) and all(three == (lone and multimask) for three, lone in found)


def test_without_clicks_and_with_one_kind_there_is_one_prompt(prompts_given):
    losses_of(small_sam(), sample_of(), kinds=("box",), multimask=False, clicks=0)
    assert [kind_of(*prompts) for prompts in prompts_given] == ["box"]


def test_loss_is_the_mean_over_all_outputs():
    sam = small_sam()
    one, two = (losses_of(sam, sample_of(known), clicks=1) for known in ((1,), (1, 1)))
    assert set(one) == {"mask", "predicted_iou"}
    assert all(0 < value.item() < 20 for value in one.values())
    assert two["mask"].item() < 1.9 * one["mask"].item()
    assert torch.equal(losses_of(sam, sample_of(), seed=4)["mask"], losses_of(sam, sample_of(), seed=4)["mask"])


def test_image_without_objects_contributes_nothing():
    sam = small_sam()
    features = torch.randn(2, 16, 4, 4, requires_grad=True)
    both = losses_of(sam, sample_of((1, 0), features), clicks=0)
    sum(both.values()).backward()
    assert features.grad[0].any() and not features.grad[1].any()
    alone = losses_of(sam, sample_of((1,), features[:1]), clicks=0)
    assert all(both[name].item() == pytest.approx(alone[name].item(), rel=1e-4) for name in both)


def test_batch_without_objects_has_no_loss_and_no_gradient():
    features = torch.randn(2, 16, 4, 4, requires_grad=True)
    losses = losses_of(small_sam(), sample_of((0, 0), features))
    assert [value.item() for value in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert not features.grad.any()


def test_mask_is_learnt_as_far_as_its_target_is_trusted():
    sam = small_sam()
    sam.requires_grad_(True)
    full, half, none = (losses_of(sam, sample_of(trust=torch.tensor(trust)), clicks=0) for trust in (1.0, 0.5, 0.0))
    assert half["mask"].item() == pytest.approx(0.5 * full["mask"].item(), rel=1e-5) and none["mask"].item() == 0
    assert full["predicted_iou"].item() == half["predicted_iou"].item() == none["predicted_iou"].item() > 0
    sum(none.values()).backward()
    heads = {"output_hypernetworks_mlps": False, "iou_prediction_head": True}
    for head, learns in heads.items():
        gradients = [value.grad for name, value in sam.named_parameters() if head in name]
        assert any(gradient is not None and gradient.any() for gradient in gradients) is learns


@pytest.mark.parametrize(("nested", "multimask"), [(True, True), (False, True), (True, False)])
def test_one_point_is_ambiguous_on_nested_objects_alone(monkeypatch, nested, multimask):
    seen = []
    original = adaptation.output_losses
    monkeypatch.setattr(adaptation, "output_losses", lambda *parts: seen.append(parts[-1]) or original(*parts))
    numbers = set()
    for seed in range(8):
        seen.clear()
        losses_of(small_sam(), sample_of(nested=nested), seed=seed, clicks=0, multimask=multimask)
        assert not any(part.any() for part in (seen[0], *seen[2:]))
        numbers.add(bool(seen[1].all()))
    assert numbers == ({True, False} if nested and multimask else {False})


# which weights learn


def step_once(sam, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights before and after a step of the optimizer."""
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    optimizer = make_optimizer("adamw", sam, 1e-2)
    sum(losses_of(sam, sample_of()._replace(image=images)).values()).backward()
    optimizer.step()
    return before, sam.state_dict()


def learned(sam) -> list[str]:
    return [name for name, value in sam.named_parameters() if value.requires_grad]


def test_image_encoder_stays_as_it_is_to_the_last_bit():
    sam = small_sam()
    choose_learned(sam, everything=False, lora=None)
    assert not any(name.startswith("image_encoder") for name in learned(sam))
    before, after = step_once(sam, torch.randn(2, 3, SIDE, SIDE))
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"prompt_encoder", "mask_decoder"}
    assert all(not torch.equal(after[name], before[name]) for name in before if name.startswith("mask_decoder.output_hypernetworks"))


def test_everything_learns_when_told():
    sam = small_sam()
    choose_learned(sam, everything=True, lora=None)
    assert learned(sam) == [name for name, _ in sam.named_parameters()]
    before, after = step_once(sam, torch.randn(2, 3, SIDE, SIDE))
    assert not torch.equal(after["image_encoder.patch_embed.proj.weight"], before["image_encoder.patch_embed.proj.weight"])


def test_of_the_encoder_only_adapters_learn_with_lora():
    sam = small_sam()
    choose_learned(sam, everything=False, lora=2)
    inside = [name for name in learned(sam) if name.startswith("image_encoder")]
    assert len(inside) == 2 * 2 and all(".attn.qkv.parametrizations.weight.0." in name for name in inside)
    before, after = step_once(sam, torch.randn(2, 3, SIDE, SIDE))
    changed = [name for name in before if name.startswith("image_encoder") and not torch.equal(after[name], before[name])]
    assert changed and set(changed) <= set(inside)


def test_adapters_change_nothing_at_first_and_are_folded_in_at_the_end():
    sam, plain, images = build_sam(SIDE, 16), build_sam(SIDE, 16), [np.random.default_rng(0).integers(0, 255, (40, 64, 3), dtype=np.uint8)]
    [before] = OriginalSam(plain, "small", "0", CPU).encode(images)
    add_lora(sam, 3)
    [same] = OriginalSam(sam, "small", "0", CPU).encode(images)
    assert torch.equal(same.tensors["features"], before.tensors["features"])
    with torch.no_grad():
        for name, weight in sam.named_parameters():
            if name.endswith(".up"):
                weight.normal_(std=0.3)
    [adapted] = OriginalSam(sam, "small", "0", CPU).encode(images)
    assert not torch.allclose(adapted.tensors["features"], before.tensors["features"], atol=1e-2)
    fold_lora(sam)
    assert set(sam.state_dict()) == set(plain.state_dict())
    plain.load_state_dict(sam.state_dict())
    [folded] = OriginalSam(plain, "small", "0", CPU).encode(images)
    assert torch.allclose(folded.tensors["features"], adapted.tensors["features"], atol=1e-5)


def test_folding_a_copy_leaves_the_model_as_it_was():
    sam = small_sam()
    choose_learned(sam, everything=False, lora=2)
    image = torch.randn(1, 3, SIDE, SIDE)
    before = sam.image_encoder(image)
    fold_lora(copy.deepcopy(sam))
    assert torch.equal(sam.image_encoder(image), before)
    assert any("parametrizations" in name for name in learned(sam))


def test_folding_a_sam_without_adapters_changes_nothing():
    sam, plain = small_sam(), small_sam()
    fold_lora(sam)
    assert all(torch.equal(a, b) for a, b in zip(sam.state_dict().values(), plain.state_dict().values(), strict=True))


def test_pixels_of_unknown_label_teach_nothing():
    target = rectangles((3, 3, 9, 9))
    valid = 1 - rectangles((0, 0, 2, CELLS))
    logits = (8 * target - 4)[:, None].expand(-1, 4, -1, -1).clone()
    wild = torch.where(valid[:, None] > 0, logits, 50.0).requires_grad_()
    losses = mask_losses(wild, target, valid)
    losses.sum().backward()
    assert not wild.grad[(valid == 0)[:, None].expand_as(wild)].any() and wild.grad.any()
    assert torch.equal(true_iou(wild, target, valid), true_iou(logits, target, valid))
    assert add_click(None, wild[:, 0].detach(), target, valid, SIDE)[1].tolist() == [[-1]]
