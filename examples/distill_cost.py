"""Seconds and peak memory of one iteration of `samsemi distill`, images mixed, as Markdown.

    python examples/distill_cost.py                                                    # tiny on this machine's CPU
    python examples/distill_cost.py --sam vit_b --size 256 --batch-size 24 --device cuda    # as published, on a GPU

SAM's weights are random: they change neither time nor memory. Memory is that of the GPU, or, on a CPU, of the whole process.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import torch

from samsemi.devices import choose_device
from samsemi.knowsam.cotraining import CoTraining
from samsemi.options.distill import DistillOptions
from samsemi.sam.original import untrained
from samsemi.stages.distill import build_knowsam, step
from samsemi.training.batches import Sample
from samsemi.training.loop import TrainingState, linear, train_step
from samsemi.training.optimizers import make_peer_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--peers", default="unet,vnet")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--repeat", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    device = choose_device(chosen.device)
    network = {"peers": chosen.peers, "size": chosen.size, "batch_size": chosen.batch_size, "precision": chosen.precision, "mix_from": 0.0}
    options = DistillOptions(dataset=Path("data"), out=Path("run"), sam=chosen.sam, **network)
    sam = untrained(options.sam, device, options.precision)
    model = build_knowsam(options, ("background", "object"), sam).to(device)
    optimizer = make_peer_optimizer(options.optimizer, model.segmenter, options.lr, model.teacher, options.sam_lr)
    state = TrainingState(CoTraining(model, options, stored=False), optimizer, schedule=linear)
    batch = make_batch(options, device)
    seconds = []
    for _ in range(chosen.repeat + 1):
        start = time.perf_counter()
        train_step(state, step, batch, options, device)["loss"].item()  # waits for the GPU
        seconds.append(time.perf_counter() - start)
    learned = sum(value.numel() for value in model.parameters() if value.requires_grad) / 1e6
    print("| SAM | peers | px | images | device | trained parameters | s | peak memory (GB) |\n|---|---|---|---|---|---|---|---|")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{device.type}, one thread"
    cells = [chosen.sam, chosen.peers, chosen.size, chosen.batch_size, name, f"{learned:.1f} M"]
    cells += [f"{sorted(seconds[1:])[chosen.repeat // 2]:.2f}", f"{peak_memory(device) / 1e9:.1f}"]
    print("| " + " | ".join(map(str, cells)) + " |")


def make_batch(options: DistillOptions, device: torch.device) -> Sample:
    """Random images and labels."""
    shape = (options.batch_size, options.size, options.size)
    label = torch.rand(shape, device=device) > 0.5
    target = torch.stack([~label, label], dim=1).float()
    return Sample(torch.rand(shape[0], 3, *shape[1:], device=device), target, torch.ones(shape, device=device))


def peak_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
