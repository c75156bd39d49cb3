"""What is learnt from a batch. The terms themselves are tested by hand in test_losses.py; here which network learns from which."""

from pathlib import Path

import pytest
import torch
from builders import build_network

from samsemi.knowsam import cotraining
from samsemi.knowsam.cotraining import CoTraining, KnowSam, drop_maps, hard_target
from samsemi.knowsam.mixing import mix_regions
from samsemi.knowsam.teacher import Teacher
from samsemi.losses import distillation_loss, entropy, entropy_loss, segmentation_loss
from samsemi.options.distill import DistillOptions
from samsemi.sam.preprocessing import normalize_colors
from samsemi.segmenters.segmenter import ModelSpec, Segmenter
from samsemi.training.batches import Sample

SIZE = 32
EARLY, LATE = 0.1, 0.9
"""Progress before and after images are mixed."""


@pytest.fixture(autouse=True)
def _strong_view_is_dim(monkeypatch):
    """Half as bright, instead of drawn colors."""
    monkeypatch.setattr(cotraining, "recolor", lambda images: images / 2)


def learnt(batch: Sample) -> torch.Tensor:
    """The images that the peers learn from: of the unlabeled half, the strong view."""
    return torch.cat([batch.image[:2], batch.image[2:] / 2])


def model_of(num_classes: int, sam: bool = True, fusion: bool = True) -> KnowSam:
    torch.manual_seed(0)
    classes = tuple(str(k) for k in range(num_classes))
    segmenter = Segmenter(ModelSpec("", (8, 8, 8, 8, 8), classes, SIZE, peers=("unet", "vnet"), fusion=fusion))
    return KnowSam(segmenter, Teacher(build_network(64, 16), normalize_colors, num_classes) if sam else None).eval()


def options_of(**given) -> DistillOptions:
    return DistillOptions(dataset=Path("data"), out=Path("run"), size=SIZE, batch_size=4, **given)


def batch_of(num_classes: int, stored: float = 0.0) -> Sample:
    """Two labeled images, then two unlabeled ones, of which a store knows with weight ``stored``."""
    torch.manual_seed(3)
    target = hard_target(torch.randn(4, num_classes, SIZE, SIZE))
    weight = torch.tensor([1, 1, stored, stored]).view(4, 1, 1).expand(4, SIZE, SIZE)
    return Sample(torch.rand(4, 3, SIZE, SIZE), target * (weight[:, None] > 0), weight)


def learners(model: KnowSam, term: torch.Tensor) -> set[str]:
    """Which parts of a model get a gradient from a term."""
    model.zero_grad()
    term.backward(retain_graph=True)
    parts = {"first": model.segmenter.network.first, "second": model.segmenter.network.second, "head": model.segmenter.network.head}
    parts["teacher"] = model.teacher
    return {name for name, part in parts.items() if part and any(v.grad is not None and v.grad.any() for v in part.parameters())}


PEERS, TOGETHER = {"first", "second"}, {"first", "second", "head"}
LEARNERS = {
    "supervised": PEERS,
    "fused": TOGETHER,
    "entropy": PEERS,
    "mutual": PEERS,
    "distillation": PEERS,
    "sam": {"teacher"},
    "mixed_supervised": PEERS,
    "mixed_fused": TOGETHER,
    "mixed_entropy": PEERS,
    "mixed_mutual": PEERS,
    "mixed_self": PEERS,
}


@pytest.mark.parametrize("num_classes", [2, 4])
def test_each_term_reaches_what_it_should_and_nothing_else(num_classes):
    model = model_of(num_classes)
    terms = CoTraining(model, options_of(), stored=False)(batch_of(num_classes), LATE)
    assert {name: learners(model, value) for name, value in terms.items()} == LEARNERS


def test_images_are_mixed_only_after_a_share_of_the_run():
    model = model_of(2, sam=False)
    step = CoTraining(model, options_of(mix_from=0.5), stored=False)
    assert not [name for name in step(batch_of(2), 0.49) if "mixed" in name]
    assert [name for name in step(batch_of(2), 0.5) if "mixed" in name]


@pytest.mark.parametrize(
    ("sam", "fusion", "given", "missing"),
    [
        (False, True, {}, {"sam", "distillation"}),
        (True, False, {}, {"fused", "mixed_fused"}),
        (True, True, {"no_mixing": True}, {name for name in LEARNERS if "mixed" in name}),
    ],
    ids=["no sam", "no fusion", "no mixing"],
)
def test_ablation_takes_its_terms_away_and_no_others(sam, fusion, given, missing):
    model = model_of(2, sam, fusion)
    terms = CoTraining(model, options_of(**given), stored=False)(batch_of(2), LATE)
    assert set(terms) == set(LEARNERS) - missing


def test_labels_are_learnt_from_the_labeled_half_alone():
    """What stands as target of the unlabeled half is never looked at."""
    model, batch = model_of(3), batch_of(3)
    other = Sample(batch.image, batch.target.clone(), batch.weight.clone())
    other.target[2:], other.weight[2:] = torch.rand(2, 3, SIZE, SIZE), 1.0
    step = CoTraining(model, options_of(), stored=False)
    one, two = step(batch, LATE), step(other, LATE)
    assert all(torch.equal(one[name], two[name]) for name in LEARNERS)


def test_values_of_supervised_and_agreement_terms():
    model, batch = model_of(4), batch_of(4)
    terms = CoTraining(model, options_of(entropy_weight=0.5), stored=False)(batch, EARLY)
    first, second, fused = model.peer_logits(learnt(batch))
    labeled = (batch.target[:2], batch.weight[:2])
    supervised = (segmentation_loss(first[:2], *labeled) + segmentation_loss(second[:2], *labeled)) / 2
    assert terms["supervised"].item() == pytest.approx(supervised.item(), rel=1e-5)
    assert terms["fused"].item() == pytest.approx(segmentation_loss(fused[:2], *labeled).item(), rel=1e-5)
    assert terms["entropy"].item() == pytest.approx(0.25 * (entropy_loss(first) + entropy_loss(second)).item(), rel=1e-5)


def test_mutual_learning_grows_over_the_whole_run():
    model, batch = model_of(2, sam=False), batch_of(2)
    step = CoTraining(model, options_of(no_mixing=True), stored=False)
    start, end = (step(batch, progress)["mutual"].item() for progress in (0.0, 1.0))
    assert start / end == pytest.approx(0.0067, abs=1e-4)


def test_peers_learn_of_strong_views_the_teacher_logits_of_the_images_as_they_are():
    model, batch = model_of(2), batch_of(2)
    terms = CoTraining(model, options_of(distill_weight=0.5, temperature=3.0), stored=False)(batch, EARLY)
    first, second, _ = model.peer_logits(learnt(batch))
    teacher_logits = model(batch.image)
    expected = 0.25 * (distillation_loss(first, teacher_logits, 3.0) + distillation_loss(second, teacher_logits, 3.0))
    assert terms["distillation"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("sam", [True, False])
def test_mixed_images_have_the_labels_and_the_teachers_prediction_or_without_it_the_peers(sam):
    model, batch, options = model_of(3, sam), batch_of(3), options_of(mix="lowest", mix_cells=3)
    terms = CoTraining(model, options, stored=False)(batch, 1.0)
    with torch.no_grad():
        fused = model.peer_logits(learnt(batch)).fused
        teacher_logits = model(batch.image) if sam else model.peer_logits(batch.image).fused
        labeled = Sample(*(part[:2] for part in batch))
        unlabeled = Sample(batch.image[2:] / 2, hard_target(teacher_logits[2:]), torch.ones(2, SIZE, SIZE))
        mixed = mix_regions(labeled, unlabeled, entropy(fused), "lowest", 3, 4)
        first, second, together = model.peer_logits(mixed.image)
        supervised = [segmentation_loss(logits, mixed.target, mixed.weight) for logits in (first, second)]
        itself = [segmentation_loss(logits[2:], hard_target(together[2:]), torch.ones(2, SIZE, SIZE)) for logits in (first, second)]
    assert terms["mixed_supervised"].item() == pytest.approx(sum(supervised).item() / 2, rel=1e-4)
    assert terms["mixed_self"].item() == pytest.approx(sum(itself).item() / 2, rel=1e-4)


def test_store_is_learnt_where_it_knows_something():
    model = model_of(2)
    step = CoTraining(model, options_of(), stored=True)
    knows, nothing = step(batch_of(2, stored=0.7), LATE)["store"], step(batch_of(2), LATE)["store"]
    assert knows > 0 and nothing == 0 and learners(model, knows) == TOGETHER


def test_as_a_network_it_is_the_teacher_at_the_size_of_the_images():
    model = model_of(3)
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(model(images), model.teacher(images, model.segmenter(images)))
        assert model(torch.rand(1, 3, 48, 64)).shape == (1, 3, 48, 64)


def test_teacher_misses_the_map_of_labeled_images_alone(monkeypatch):
    model, batch, seen = model_of(2), batch_of(2), []
    forward = Teacher.forward
    monkeypatch.setattr(Teacher, "forward", lambda self, images, fused: (seen.append(fused), forward(self, images, fused))[1])
    for share in (0.0, 1.0):
        CoTraining(model, options_of(map_dropout=share, no_mixing=True), stored=False)(batch, EARLY)
    (whole, weak), (dropped, weak_again) = seen[:2], seen[2:]
    assert torch.equal(weak, weak_again) and not any(torch.equal(a, b) for a, b in zip(whole, dropped, strict=True))


def test_dropped_maps_are_empty_or_those_of_the_next_image():
    logits, count = torch.arange(1.0, 4001).view(4000, 1, 1, 1), 4000
    torch.manual_seed(0)
    given = drop_maps(logits, 0.5)
    kinds = [given == logits, given == 0, given == logits.roll(-1, 0)]
    shares = [kind.sum().item() / count for kind in kinds]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.05) and sum(shares) == 1
    assert drop_maps(logits, 0.0) is logits


def test_hard_target_is_one_hot_of_the_most_probable_class():
    logits = torch.tensor([[1.0, -1], [3, -3], [2, 0]]).view(1, 3, 1, 2)
    assert hard_target(logits)[0, :, 0].T.tolist() == [[0, 1, 0], [0, 0, 1]]


def test_half_of_the_batch_that_is_given_is_labeled_whatever_the_batch_size_of_the_run():
    """A process of several sees its share of a batch."""
    model = model_of(2, sam=False)
    share = Sample(*(part[[0, 2]] for part in batch_of(2)))
    whole = CoTraining(model, options_of(no_mixing=True), stored=False)(batch_of(2), EARLY)
    part = CoTraining(model, options_of(no_mixing=True), stored=False)(share, EARLY)
    first, second, _ = model.peer_logits(share.image[:1])
    expected = sum(segmentation_loss(logits, share.target[:1], share.weight[:1]) for logits in (first, second)) / 2
    assert part["supervised"].item() == pytest.approx(expected.item(), rel=1e-5) and set(part) == set(whole)
