"""The training step of every stage calls the model that it is given, once, and nothing else of it: so a wrapped one can be trained."""

from pathlib import Path

import pytest
import torch

from samsemi.options.finetune import FinetuneOptions
from samsemi.stages import adapt, distill, finetune, warmstart
from samsemi.training.batches import Sample, Stream

OPTIONS = FinetuneOptions(dataset=Path("d"), model=Path("m"), out=Path("o"), store=Path("s"))
STEPS = {
    "warmstart": warmstart.supervised_step,
    "finetune": finetune.make_step([Stream([], None, 2), Stream([], None, 2)], OPTIONS, None),
    "adapt": adapt.step,
    "distill": distill.step,
}


@pytest.mark.parametrize("name", STEPS)
def test_step_calls_the_model_that_it_is_given_once(name):
    batch = Sample(torch.rand(4, 3, 16, 16), torch.full((4, 2, 16, 16), 0.5), torch.ones(4, 16, 16))
    weight = torch.ones((), requires_grad=True)
    calls = []

    def model(*arguments):
        """Logits of the images, or the loss terms of a module that makes them itself."""
        calls.append(arguments)
        return {"loss": weight.clone()} if name in ("adapt", "distill") else weight * batch.image[:, :2]

    sum(STEPS[name](model, batch, 0.5).values()).backward()
    assert len(calls) == 1 and weight.grad is not None
