"""Training samples: labels as soft targets with pixel weights, augmentation, and batches from one stream or several.

Sample n of a training run is a pure function of (seed, n): which case, and how it is augmented. So an interrupted run
resumes exactly, whatever the number of workers, and no state of a random generator has to be saved.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from samsemi import interrupts, processes
from samsemi.collectives import next_rows
from samsemi.data.dataset import IGNORE, Case, read_case_image, read_case_label
from samsemi.errors import SamsemiError, UsageError
from samsemi.segmenters.segmenter import to_input

MOVE = (
    v2.RandomHorizontalFlip(),
    v2.RandomVerticalFlip(),
    v2.RandomAffine(degrees=20, translate=(0.08, 0.08), scale=(0.8, 1.25), interpolation=v2.InterpolationMode.BILINEAR),
)
AUGMENT = v2.Compose([*MOVE, v2.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.03)])
"""Of image, target and weight together; what comes in from outside the image has weight 0."""
RECOLOR = v2.Compose(
    [
        v2.RandomApply([v2.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        v2.RandomApply([v2.GaussianBlur(kernel_size=9, sigma=(0.2, 2.0))], p=0.5),
    ]
)
"""For images whose pseudo-label was made from the clean image. Source: FixMatch, arXiv 2001.07685; UniMatch, arXiv 2208.09910."""
STRONG = v2.Compose([*MOVE, RECOLOR])
CUT_MIX = 0.5
"""Share of the samples of a strongly augmented batch that get a rectangle of another one."""


class Sample(NamedTuple):
    """What a network learns from one image; in a batch every part has one axis more in front."""

    image: Tensor
    """(3, S, S) uint8 as loaded, float32 in [0, 1] once augmented."""
    target: Tensor
    """(K, S, S) float32, sums to 1 where the weight is above 0."""
    weight: Tensor
    """(S, S) float32."""


def labeled_sample(case: Case, num_classes: int, size: int) -> Sample:
    """The image and mask of a case at the network's size; IGNORE becomes weight 0."""
    label = torch.from_numpy(read_case_label(case, case.mask, num_classes))[None]
    label = TF.resize(label, [size, size], interpolation=v2.InterpolationMode.NEAREST_EXACT)[0].long()
    valid = label != IGNORE
    target = torch.nn.functional.one_hot(torch.where(valid, label, 0), num_classes).permute(2, 0, 1).float()
    return Sample(to_input(read_case_image(case), size), target, valid.float())


def augment(sample: Sample, transform: v2.Transform = AUGMENT) -> Sample:
    """Flip, turn, shift, scale and recolor a sample by torch's generator."""
    maps = tv_tensors.Mask(torch.cat([sample.target, sample.weight[None]]))
    image, maps = transform(tv_tensors.Image(sample.image), maps)
    return Sample(image.as_subclass(Tensor).float() / 255, maps[:-1].as_subclass(Tensor), maps[-1].as_subclass(Tensor))


augment_strongly = partial(augment, transform=STRONG)


def recolor(images: Tensor) -> Tensor:
    """The strong view of images (B, 3, S, S) in [0, 1], each recolored and blurred by itself, nothing moved; by torch's generator."""
    seeds = torch.randint(2**62, (processes.count() * len(images),))[processes.own_rows(len(images))]
    return torch.stack([recolor_image(image, seed) for image, seed in zip(images, seeds.tolist(), strict=True)])


def recolor_image(image: Tensor, seed: int) -> Tensor:
    with drawn_from(seed):
        return RECOLOR(image)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Within it torch's generator draws from a seed; afterwards it goes on as if nothing had been drawn.

    That of the CPU alone: ``torch.manual_seed`` writes down for every call where it came from, for GPUs that may not even be there.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def cut_mix(batch: Sample) -> Sample:
    """A rectangle of a fifth to half of the image is replaced, in CUT_MIX of a batch's samples, by that of the next one, in every part that
    the batch has. By torch's generator. Source: CutMix, arXiv 1905.04899."""
    count, (height, width) = processes.count() * len(batch.image), batch.weight.shape[1:]
    inside = torch.zeros(count, height, width, dtype=torch.bool)
    for i in torch.nonzero(torch.rand(count) < CUT_MIX).flatten() if count > 1 else ():
        area, aspect = torch.empty(2).uniform_(0, 1).tolist()
        area, aspect = 0.2 + 0.3 * area, 0.5 + 1.5 * aspect
        h, w = min(height, round(height * (area * aspect) ** 0.5)), min(width, round(width * (area / aspect) ** 0.5))
        y, x = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
        inside[i, y : y + h, x : x + w] = True
    own = inside[processes.own_rows(len(batch.image))]
    return paste(batch, [next_rows(part) for part in batch], own.to(batch.weight.device))


def paste(batch: Sample, other: Iterable[Tensor], inside: Tensor) -> Sample:
    """A batch whose pixels ``inside`` (B, S, S) are those of another batch, in every part of it."""
    return type(batch)._make(torch.where(inside if a.ndim == 3 else inside[:, None], b, a) for a, b in zip(batch, other, strict=True))


@dataclass(frozen=True)
class Stream:
    """Cases that share a way of being loaded and augmented, and how many of each batch they are."""

    cases: Sequence[Any]
    load: Callable[[Any], Any]
    per_batch: int
    augment: Callable[[Any], tuple[Any, ...]] = augment
    """What was loaded -> a sample, a NamedTuple of tensors or of tensors by name, drawn by torch's generator."""
    label: Callable[[Sequence[Any]], Sequence[Any]] | None = None
    """What was loaded for a batch -> what is augmented of each, for what depends on the weights of the moment: called in the process that
    trains, after the step before."""


class SampleSequence(Dataset):
    """Sample n of a run: batch n // B takes its first samples from the first stream, the next from the second."""

    def __init__(self, streams: Sequence[Stream], seed: int):
        self.streams = streams
        self.seed = seed
        self.batch_size = sum(stream.per_batch for stream in streams)
        refuse_uneven([stream.per_batch for stream in streams])

    def order(self, start: int, stop: int) -> list[int]:
        """The numbers of the samples of batches ``start`` to ``stop`` that this process takes: of each stream as many as every other."""
        own: list[int] = []
        first = 0
        for stream in self.streams:
            rows = processes.own_rows(stream.per_batch // processes.count())
            own += range(first + rows.start, first + rows.stop)
            first += stream.per_batch
        return np.add.outer(np.arange(start, stop) * self.batch_size, own).ravel().tolist()

    def __getitem__(self, n: int) -> tuple[Any, ...] | SamsemiError:
        try:
            return self.make(n)
        except SamsemiError as error:
            return error

    def make(self, n: int) -> tuple[Any, ...]:
        """Choose, load and augment sample n."""
        number, place = self.find_stream(n)
        stream = self.streams[number]
        epoch, position = divmod(n // self.batch_size * stream.per_batch + place, len(stream.cases))
        case = stream.cases[shuffled(self.seed, number, epoch, len(stream.cases))[position]]
        with drawn_from(mix(self.seed, number, n)):
            return stream.augment(stream.load(case))

    def find_stream(self, n: int) -> tuple[int, int]:
        """The number of the stream of sample n, and its place among that stream's samples of the batch."""
        number, place = 0, n % self.batch_size
        while place >= self.streams[number].per_batch:
            place -= self.streams[number].per_batch
            number += 1
        return number, place

    @property
    def has_labels(self) -> bool:
        """Whether a stream is labeled where the training runs."""
        return any(stream.label for stream in self.streams)

    def as_loaded(self) -> "SampleSequence":
        """The same samples, those of streams with a ``label`` as they are loaded: what worker processes make."""
        late = [replace(stream, augment=unchanged, label=None) if stream.label else stream for stream in self.streams]
        return SampleSequence(late, self.seed)

    def label(self, loaded: Sequence[Any], numbers: Sequence[int]) -> list[tuple[Any, ...]]:
        """Samples ``numbers`` from those of ``as_loaded``: what has to be labeled is, all of a stream at once, and is augmented."""
        samples = list(loaded)
        for number, stream in enumerate(self.streams):
            if stream.label:
                own = [i for i, n in enumerate(numbers) if self.find_stream(n)[0] == number]
                for i, labeled in zip(own, stream.label([loaded[i] for i in own]), strict=True):
                    with drawn_from(mix(self.seed, number, numbers[i])):
                        samples[i] = stream.augment(labeled)
        return samples


def refuse_uneven(per_batch: Sequence[int]) -> None:
    """UsageError where the processes cannot have as many samples of each stream as every other."""
    if any(number % processes.count() for number in per_batch):
        numbers, given = " and ".join(map(str, per_batch)), sum(per_batch)
        raise UsageError(
            f"--batch-size {given}: {processes.count()} processes cannot share batches of {numbers} images evenly",
            f"give a --batch-size of which each part is a multiple of {processes.count()}",
        )


@contextmanager
def named_batch(batch_size: int) -> Iterator[None]:
    """UsageError where batch norm finds one value of each channel: of one image, so small that it is a pixel within the network."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        found = f"--batch-size {batch_size}: batch norm learns nothing from one image of so small a --size"
        raise UsageError(found, "give a larger --batch-size or --size") from None


def unchanged(loaded: Any) -> Any:
    return loaded


@lru_cache(maxsize=8)
def shuffled(seed: int, stream: int, epoch: int, count: int) -> np.ndarray:
    """The order of a stream's cases in one epoch."""
    return np.random.default_rng((seed, stream, epoch)).permutation(count)


def mix(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def load_batches(samples: SampleSequence, order: Sequence[int], batch_size: int, workers: int) -> Iterator[tuple[Any, ...]]:
    """The samples of these numbers in batches, of what the streams' ``augment`` gives: for segmentation (B, 3, S, S) images
    in [0, 1], (B, K, S, S) targets, (B, S, S) weights.

    A user's error in a worker process is raised here as what it is. A stream's ``label`` is called when its batch is asked for.
    """
    loader = DataLoader(
        samples.as_loaded(),
        batch_size=batch_size,
        sampler=order,
        num_workers=workers,
        collate_fn=partial(collate, join=list if samples.has_labels else default_collate),
        worker_init_fn=ignore_interrupts,
        pin_memory=torch.cuda.is_available(),
    )
    for number, batch in enumerate(loader):
        if isinstance(batch, SamsemiError):
            raise batch
        own = order[number * batch_size : (number + 1) * batch_size]
        yield default_collate(samples.label(batch, own)) if samples.has_labels else batch


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch, a NamedTuple of tensors or of tensors by name, on a device."""

    def move(part: Tensor | Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        if isinstance(part, Mapping):
            return {name: value.to(device, non_blocking=True) for name, value in part.items()}
        return part.to(device, non_blocking=True)

    return batch._make(move(part) for part in batch)


def ignore_interrupts(worker: int) -> None:
    """Leave signals to the main process, which ends the workers."""
    interrupts.ignore()


def collate(samples: list[tuple[Any, ...] | SamsemiError], join: Callable[[list[Any]], Any]) -> Any:
    """The samples of a batch joined, or the first error among them."""
    errors = [sample for sample in samples if isinstance(sample, SamsemiError)]
    return errors[0] if errors else join(samples)
