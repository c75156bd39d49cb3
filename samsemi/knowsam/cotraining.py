"""What two peers and their teacher learn from a batch, half labeled, half unlabeled.

Each loss of the public code of KnowSAM (arXiv 2412.13742) is here, with these deviations:

- Mutual learning runs in both directions and over all classes; the code detaches one network from its own loss and keeps the last class
  only.
- Distillation and entropy take any number of classes; the code reshapes to two and divides by log 2.
- Cross-entropy and Dice are those of all samsemi: what was moved in from outside a labeled image counts nowhere, and Dice is averaged over
  the classes of the batch instead of all, since that of an absent one stays high whatever is predicted.
- SAM learns from the labeled half alone, as in the code, so its answers to the unlabeled half are computed without gradients, and the batch
  norm of its prompts sees each half by itself.
- Which cells are mixed is a choice, the paper's by default (samsemi.knowsam.mixing).
- Ramps and the start of the mixing are shares of the run; the code counts iterations of 50,000.
- The averaged weights (--ema) are validated and kept, the last ones or the best (--keep), as by every training of samsemi, and the teacher
  goes with the peers whose map it is asked by; the code keeps the best of each by itself.
- Unlabeled images have two views that lie alike: the peers learn from one that is strongly recolored, SAM and the map that asks it see the
  other. The code shows both the same strong view; on strong views of samsemi's SAM is worse than its pupils.
- Augmentation is samsemi's: every image is turned, shifted and scaled; the code moves half of them, by less, distorts the unlabeled ones
  and cuts holes. Peers see normalized images; the code's see them as they are. Resizing is antialiased; the code takes the nearest pixel.
- With --optimizer adamw rates warm up and fall in a cosine, as in all other trainings of samsemi; with sgd in a line, as in the code.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samsemi.knowsam.mixing import mix_regions
from samsemi.knowsam.teacher import Teacher
from samsemi.losses import distillation_loss, entropy, entropy_loss, mutual_loss, segmentation_loss
from samsemi.options.distill import DistillOptions
from samsemi.segmenters.fusion import Answers
from samsemi.segmenters.segmenter import ModelSpec, Segmenter
from samsemi.training.batches import Sample, recolor
from samsemi.training.loop import ramp_up

Terms = dict[str, Tensor]


class KnowSam(nn.Module):
    """Two peers and the SAM that teaches them. As a network, images (B, 3, H, W) in [0, 1] -> (B, K, H, W) logits, it is the teacher."""

    def __init__(self, segmenter: Segmenter, teacher: Teacher | None):
        super().__init__()
        self.segmenter, self.teacher = segmenter, teacher

    @property
    def spec(self) -> ModelSpec:
        return self.segmenter.spec

    @property
    def mean(self) -> Tensor:
        return self.segmenter.mean

    def answers(self, images: Tensor) -> Answers:
        """What the peers say."""
        return self.segmenter.network.answers(self.segmenter.normalize(images))

    def forward(self, images: Tensor) -> Tensor:
        size = (self.spec.size, self.spec.size)
        seen = images if images.shape[2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)
        logits = self.teacher(seen, self.segmenter(seen))
        return logits if seen is images else F.interpolate(logits, images.shape[2:], mode="bilinear")


def make_step(model: KnowSam, options: DistillOptions, stored: bool) -> Callable[[Sample, float], Terms]:
    """The weighted loss terms of a batch whose first half is labeled; with ``stored`` the other half has pseudo-labels."""
    half = options.batch_size // 2

    def step(batch: Sample, progress: float) -> Terms:
        labeled, calm = Sample(*(part[:half] for part in batch)), Sample(*(part[half:] for part in batch))
        unlabeled = calm._replace(image=recolor(calm.image))
        growing = ramp_up(progress, 1.0)
        answers = model.answers(torch.cat([labeled.image, unlabeled.image]))
        terms = learn_labels(take(answers, slice(half)), labeled, model.spec.fusion) | agree(answers, options, growing)
        if stored:
            of_store = learn_labels(take(answers, slice(half, None)), unlabeled, model.spec.fusion)
            terms["store"] = options.store_weight * growing * sum(of_store.values())
        with torch.no_grad():
            said = torch.cat([answers.fused[:half], model.answers(calm.image).fused])
        if model.teacher is not None:
            taught = model.teacher(labeled.image, said[:half])
            with torch.no_grad():
                said = torch.cat([taught, model.teacher(calm.image, said[half:])])
            terms["sam"] = segmentation_loss(taught, labeled.target, labeled.weight)
            terms["distillation"] = options.distill_weight * mean_of_peers(answers, distillation_loss, said, options.temperature)
        if not options.no_mixing and progress >= options.mix_from:
            believed = Sample(unlabeled.image, decided(said[half:]), torch.ones_like(unlabeled.weight))
            where = entropy(answers.fused.detach())
            mixed = mix_regions(labeled, believed, where, options.mix, options.mix_cells, options.mix_grid)
            terms |= {f"mixed_{name}": value for name, value in learn_mixed(model, mixed, options, growing).items()}
        return terms

    return step


def learn_mixed(model: KnowSam, mixed: Sample, options: DistillOptions, growing: float) -> Terms:
    """The terms of mixed images: their labels, agreement, and on the unlabeled ones what both say together."""
    answers = model.answers(mixed.image)
    unlabeled = take(answers, slice(len(mixed.image) // 2, None))
    itself = mean_of_peers(unlabeled, segmentation_loss, decided(unlabeled.fused), torch.ones_like(mixed.weight[: len(unlabeled.fused)]))
    itself = {"self": options.mutual_weight * growing * itself}
    return learn_labels(answers, mixed, model.spec.fusion) | agree(answers, options, growing) | itself


def learn_labels(answers: Answers, sample: Sample, fusion: bool) -> Terms:
    """The loss of both peers on labels, and that of the fusion head where there is one."""
    terms = {"supervised": mean_of_peers(answers, segmentation_loss, sample.target, sample.weight)}
    return terms | ({"fused": segmentation_loss(answers.fused, sample.target, sample.weight)} if fusion else {})


def agree(answers: Answers, options: DistillOptions, growing: float) -> Terms:
    """To be sure, and to say what the other one says."""
    mutual = (mutual_loss(answers.first, answers.second) + mutual_loss(answers.second, answers.first)) / 2
    return {
        "entropy": options.entropy_weight * mean_of_peers(answers, entropy_loss),
        "mutual": options.mutual_weight * growing * mutual,
    }


def mean_of_peers(answers: Answers, loss: Callable[..., Tensor], *arguments: object) -> Tensor:
    return (loss(answers.first, *arguments) + loss(answers.second, *arguments)) / 2


def take(answers: Answers, rows: slice) -> Answers:
    """The answers to some of the images."""
    return Answers(*(logits[rows] for logits in answers))


def decided(logits: Tensor) -> Tensor:
    """(B, K, S, S) logits -> one-hot target of the most probable class."""
    return torch.zeros_like(logits).scatter(1, logits.argmax(dim=1, keepdim=True), 1.0).detach()
