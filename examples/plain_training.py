"""A plain PyTorch training loop of a U-Net++ beside samsemi's training of the same network, in one process, step by step in turn.

    python examples/plain_training.py                                            # as `warmstart` trains by default, two images in a batch
    python examples/plain_training.py --batch-size 8 --precision bf16 --device cuda --steps 64

Both have the same images and masks, decoded before, at the size of the network, the same transforms, optimizer and precision. The loop
is what one writes with segmentation-models-pytorch; samsemi's training reads files, weighs pixels and averages its weights besides.
With one thread on a CPU the seconds are those of the processor. The result is one line of JSON.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from samsemi.devices import autocast, choose_device, choose_precision
from samsemi.options.shared import parse_channels
from samsemi.options.warmstart import WarmstartOptions
from samsemi.segmenters.segmenter import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, new_segmenter
from samsemi.speed import Training, draw_cases, draw_scenes, seconds_of
from samsemi.stages.bench import CLASSES, supervised_loss
from samsemi.training.batches import AUGMENT
from samsemi.training.loop import choose_workers


class Decoded(Dataset):
    """Images (3, S, S) and masks (1, S, S) in memory, augmented when they are asked for."""

    def __init__(self, images: list[np.ndarray], masks: list[np.ndarray], length: int):
        self.images = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]
        self.masks = [torch.from_numpy(mask)[None] for mask in masks]
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor]:
        i = n % len(self.images)
        image, mask = AUGMENT(tv_tensors.Image(self.images[i]), tv_tensors.Mask(self.masks[i]))
        return image.as_subclass(Tensor).float() / 255, mask.as_subclass(Tensor)[0].long()


class PlainLoop:
    """The loop that one writes."""

    def __init__(self, options: WarmstartOptions, device: torch.device, steps: int):
        self.options, self.device = options, device
        scenes = draw_scenes(options.batch_size, options.size, 4, 64)
        masks = [probs.argmax(axis=0).astype(np.uint8) for probs in scenes.maps.values()]
        data = Decoded(list(scenes.images.values()), masks, steps * options.batch_size)
        workers = choose_workers(options.workers, device)
        self.batches: Iterator = iter(DataLoader(data, options.batch_size, num_workers=workers, pin_memory=device.type == "cuda"))
        channels = parse_channels(options.decoder_channels)
        self.model = smp.UnetPlusPlus(options.encoder, encoder_weights=None, decoder_channels=channels, classes=len(CLASSES)).to(device)
        self.mean, self.std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.dice = smp.losses.DiceLoss("multiclass")
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr, weight_decay=1e-4)
        self.model.train()

    def step(self) -> None:
        images, masks = (part.to(self.device, non_blocking=True) for part in next(self.batches))
        self.optimizer.zero_grad()
        with autocast(self.device, self.options.precision):
            logits = self.model((images - self.mean) / self.std)
            loss = torch.nn.functional.cross_entropy(logits, masks) + self.dice(logits, masks)
        loss.backward()
        self.optimizer.step()


def compare(options: WarmstartOptions, steps: int, device: torch.device) -> dict[str, object]:
    """Images per second of both, the median over the steps of their ratio, and the share of samsemi's time that waits for a batch."""
    spec = ModelSpec(options.encoder, parse_channels(options.decoder_channels), CLASSES, options.size)
    segmenter = new_segmenter(spec, seed=0).to(device)
    with tempfile.TemporaryDirectory(prefix="samsemi-") as folder:
        cases = draw_cases(Path(folder), options.batch_size, options.size)
        ours, plain = Training(segmenter, supervised_loss, cases, options, 1 + steps), PlainLoop(options, device, 1 + steps)
        pairs = [(seconds_of(plain.step, device), *ours.step()) for _ in range(1 + steps)][1:]
    theirs, waited, learnt = (np.array(column) for column in zip(*pairs, strict=True))
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "precision": choose_precision(device, options.precision),
        "size": options.size,
        "batch_size": options.batch_size,
        "plain_images_per_second": options.batch_size / statistics.median(theirs),
        "images_per_second": options.batch_size / statistics.median(waited + learnt),
        "over_plain": statistics.median(theirs / (waited + learnt)),
        "data_wait_share": waited.sum() / (waited + learnt).sum(),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--decoder-channels", default="256,128,64,32,16")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--device", default="auto")
    chosen = vars(parser.parse_args(arguments))
    steps = chosen.pop("steps")
    options = WarmstartOptions(dataset=Path("-"), out=Path("-"), **chosen)
    print(json.dumps(compare(options, steps, choose_device(options.device))))


if __name__ == "__main__":
    main()
