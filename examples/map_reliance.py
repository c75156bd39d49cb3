"""How much KnowSAM's SAM relies on the map that prompts it: its Dice on val with the networks' map, an empty one, and another image's.

python examples/map_reliance.py DATASET RUN    # a run of `samsemi distill` on that data set
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from samsemi.data.dataset import Case, read_case_image, read_case_label, read_dataset
from samsemi.knowsam.cotraining import KnowSam
from samsemi.knowsam.teacher import load_sam_of_teacher, load_teacher
from samsemi.metrics import dice_score
from samsemi.segmenters.checkpoints import load_model_for
from samsemi.segmenters.segmenter import predict_batch, to_label

PROMPTS: dict[str, Callable[[Tensor], Tensor]] = {
    "the networks' map": lambda logits: logits,
    "an empty map": torch.zeros_like,
    "another image's map": lambda logits: logits.roll(1, 0),
}
BATCH = 8


class Prompted(KnowSam):
    """The teacher, prompted by what becomes of the networks' map."""

    change: Callable[[Tensor], Tensor]

    def forward(self, images: Tensor) -> Tensor:
        return self.teacher(images, self.change(self.segmenter(images)))


def load(dataset_folder: Path, run: Path, checkpoint: Path | None) -> tuple[Prompted, list[Case]]:
    """The SAM of a run with its networks, and the val cases."""
    dataset = read_dataset(dataset_folder)
    sam = load_sam_of_teacher(run, checkpoint, "--sam-checkpoint", torch.device("cpu"), "fp32")
    model = Prompted(load_model_for(dataset, run), load_teacher(run, sam, len(dataset.classes)))
    return model.eval(), dataset.split("val")


def mean_dice(model: KnowSam | torch.nn.Module, cases: list[Case], num_classes: int) -> float:
    """At image size, over the cases in which there is something to measure."""
    scores = []
    for first in range(0, len(cases), BATCH):
        batch = cases[first : first + BATCH]
        for case, probs in zip(batch, predict_batch(model, [read_case_image(case) for case in batch]), strict=True):
            scores.append(dice_score(to_label(probs), read_case_label(case, case.mask, num_classes), num_classes))
    return torch.tensor(scores).nanmean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sam-checkpoint", type=Path)
    arguments = parser.parse_args()
    model, cases = load(arguments.dataset, arguments.run, arguments.sam_checkpoint)
    num_classes = len(model.spec.classes)
    print(f"the networks: {mean_dice(model.segmenter, cases, num_classes):.3f}")
    for name, change in PROMPTS.items():
        model.change = change
        print(f"SAM by {name}: {mean_dice(model, cases, num_classes):.3f}")


if __name__ == "__main__":
    main()
