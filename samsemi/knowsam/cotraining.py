"""What two peers and their teacher learn from a batch, half labeled, half unlabeled.

Each loss of the public code of KnowSAM (arXiv 2412.13742) is here, with these deviations:

- Mutual learning runs in both directions and over all classes; the code detaches one network from its own loss and keeps the last class
  only.
- Distillation and entropy take any number of classes; the code reshapes to two and divides by log 2.
- Cross-entropy and Dice are those of all samsemi: what was moved in from outside a labeled image counts nowhere, and Dice is averaged over
  the classes of the batch instead of all, since that of an absent one stays high whatever is predicted.
- SAM learns from the labeled half alone, as in the code, so its logits of the unlabeled half are computed without gradients, and the batch
  norm of its prompts sees each half by itself.
- Which cells are mixed is a choice, the paper's by default (samsemi.knowsam.mixing).
- Ramps and the start of the mixing are shares of the run; the code counts iterations of 50,000.
- The averaged weights (--ema) are validated and kept, the last ones or the best (--keep), as by every training of samsemi, and the teacher
  goes with the peers whose map prompts it; the code keeps the best of each by itself.
- Unlabeled images have two views that lie alike: the peers learn from one that is strongly recolored, SAM and the map that prompts it see
  the other. The code shows both the same strong view; on strong views of samsemi's SAM is worse than the peers. The other view's map takes
  a pass of its own, without gradients but in training mode: batch norm counts it in its running statistics.
- With --map-dropout SAM does not get the map of some of the labeled images, so that it learns to see by itself; the code always gives it.
- Augmentation is samsemi's: every image is turned, shifted and scaled; the code moves half of them, by less, distorts the unlabeled ones
  and cuts holes. Peers see normalized images; the code's see them as they are. Resizing is antialiased; the code takes the nearest pixel.
- With --optimizer adamw rates warm up and fall in a cosine, as in all other trainings of samsemi; with sgd in a line, as in the code.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samsemi.collectives import next_rows, uniform
from samsemi.knowsam.mixing import mix_regions
from samsemi.knowsam.teacher import Teacher
from samsemi.losses import distillation_loss, entropy, entropy_loss, mutual_loss, segmentation_loss
from samsemi.options.distill import DistillOptions
from samsemi.segmenters.fusion import CoTrained, PeerLogits
from samsemi.segmenters.segmenter import ModelSpec, Segmenter
from samsemi.training.batches import Sample, recolor
from samsemi.training.loop import ramp_up, total

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
    def device(self) -> torch.device:
        return self.segmenter.device

    def peer_logits(self, images: Tensor) -> PeerLogits:
        """Of images (B, 3, S, S) in [0, 1]."""
        peers = self.segmenter.network
        assert isinstance(peers, CoTrained)
        return peers.peer_logits(self.segmenter.normalize(images))

    def forward(self, images: Tensor) -> Tensor:
        assert self.teacher is not None
        size = (self.spec.size, self.spec.size)
        resized = images if images.shape[2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)
        logits = self.teacher(resized, self.segmenter(resized))
        return logits if resized is images else F.interpolate(logits, images.shape[2:], mode="bilinear")


class CoTraining(nn.Module):
    """KnowSAM in training: a batch whose first half is labeled, and the progress in [0, 1] -> weighted loss terms.

    With ``stored`` the other half has pseudo-labels.
    """

    def __init__(self, knowsam: KnowSam, options: DistillOptions, stored: bool):
        super().__init__()
        self.knowsam, self.options, self.stored = knowsam, options, stored

    def forward(self, batch: Sample, progress: float) -> Terms:
        model, options, half = self.knowsam, self.options, len(batch.image) // 2
        labeled, weak = Sample(*(part[:half] for part in batch)), Sample(*(part[half:] for part in batch))
        strong = weak._replace(image=recolor(weak.image))
        growing = ramp_up(progress, 1.0)
        logits = model.peer_logits(torch.cat([labeled.image, strong.image]))
        terms = learn_labels(rows_of(logits, slice(half)), labeled, model.spec.fusion) | learn_each_other(logits, options, growing)
        if self.stored:
            of_store = learn_labels(rows_of(logits, slice(half, None)), strong, model.spec.fusion)
            terms["store"] = options.store_weight * growing * total(of_store)
        with torch.no_grad():
            teacher_logits = torch.cat([logits.fused[:half], model.peer_logits(weak.image).fused])
        if model.teacher is not None:
            of_labeled = model.teacher(labeled.image, drop_maps(teacher_logits[:half], options.map_dropout))
            with torch.no_grad():
                teacher_logits = torch.cat([of_labeled, model.teacher(weak.image, teacher_logits[half:])])
            terms["sam"] = segmentation_loss(of_labeled, labeled.target, labeled.weight)
            terms["distillation"] = options.distill_weight * mean_of_peers(logits, distillation_loss, teacher_logits, options.temperature)
        if not options.no_mixing and progress >= options.mix_from:
            pseudo = Sample(strong.image, hard_target(teacher_logits[half:]), torch.ones_like(strong.weight))
            where = entropy(logits.fused.detach())
            mixed = mix_regions(labeled, pseudo, where, options.mix, options.mix_cells, options.mix_grid)
            terms |= {f"mixed_{name}": value for name, value in learn_mixed(model, mixed, options, growing).items()}
        return terms


def learn_mixed(model: KnowSam, mixed: Sample, options: DistillOptions, growing: float) -> Terms:
    """The terms of mixed images: their labels, learning from each other, and on the unlabeled ones the peers' fused prediction."""
    logits = model.peer_logits(mixed.image)
    unlabeled = rows_of(logits, slice(len(mixed.image) // 2, None))
    everywhere = torch.ones_like(mixed.weight[: len(unlabeled.fused)])
    itself = mean_of_peers(unlabeled, segmentation_loss, hard_target(unlabeled.fused), everywhere)
    terms = learn_labels(logits, mixed, model.spec.fusion) | learn_each_other(logits, options, growing)
    return terms | {"self": options.mutual_weight * growing * itself}


def learn_labels(logits: PeerLogits, sample: Sample, fusion: bool) -> Terms:
    """The loss of both peers on labels, and that of the fusion head where there is one."""
    terms = {"supervised": mean_of_peers(logits, segmentation_loss, sample.target, sample.weight)}
    return terms | ({"fused": segmentation_loss(logits.fused, sample.target, sample.weight)} if fusion else {})


def learn_each_other(logits: PeerLogits, options: DistillOptions, growing: float) -> Terms:
    """Entropy minimization, and mutual learning: each peer learns the other's prediction."""
    mutual = (mutual_loss(logits.first, logits.second) + mutual_loss(logits.second, logits.first)) / 2
    return {
        "entropy": options.entropy_weight * mean_of_peers(logits, entropy_loss),
        "mutual": options.mutual_weight * growing * mutual,
    }


def mean_of_peers(logits: PeerLogits, loss: Callable[..., Tensor], *arguments: object) -> Tensor:
    return (loss(logits.first, *arguments) + loss(logits.second, *arguments)) / 2


def rows_of(logits: PeerLogits, rows: slice) -> PeerLogits:
    """The logits of some of the images."""
    return PeerLogits(*(part[rows] for part in logits))


def drop_maps(logits: Tensor, share: float) -> Tensor:
    """(B, K, S, S) logits with those of a random ``share`` of the images replaced: by 0, an empty map, or, every other time, by the next
    image's, a wrong one. By torch's generator."""
    if not share:
        return logits
    dropped, wrong = (uniform(logits[:, :1, :1, :1]) for _ in range(2))
    return torch.where(dropped < share, torch.where(wrong < 0.5, next_rows(logits), 0.0), logits)


def hard_target(logits: Tensor) -> Tensor:
    """(B, K, S, S) logits -> one-hot target of the most probable class."""
    return torch.zeros_like(logits).scatter(1, logits.argmax(dim=1, keepdim=True), 1.0).detach()
