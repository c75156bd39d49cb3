"""KnowSAM's SAM as one that mines; by the command line in tests/stages/test_distill.py."""

import numpy as np
import pytest
import torch
from builders import CPU, build_network

from samsemi.errors import UsageError
from samsemi.knowsam.distilled import DistilledSam
from samsemi.knowsam.teacher import Teacher
from samsemi.sam.preprocessing import normalize_colors
from samsemi.sam.prompts import Prompts
from samsemi.segmenters.segmenter import ModelSpec

SIZE = 16
"""Of the networks' input, and of SAM's masks."""


@pytest.fixture(params=[2, 3])
def sam(request) -> DistilledSam:
    torch.manual_seed(0)
    teacher = Teacher(build_network(64, 16), normalize_colors, request.param).eval()
    classes = tuple(str(k) for k in range(request.param))
    return DistilledSam(teacher, ModelSpec("", (8, 8, 8, 8, 8), classes, SIZE, peers=("unet", "vnet")), "data", CPU)


def prompts_of(sam: DistilledSam, count: int) -> Prompts:
    rng = np.random.default_rng(0)
    class_id = rng.integers(1, len(sam.classes), count).astype(np.uint8)
    return Prompts(np.zeros((count, 4), np.float32), None, None, rng.normal(0, 4, (count, SIZE, SIZE)).astype(np.float32), class_id)


def test_mask_of_an_object_is_the_teachers_probability_of_its_class(sam):
    """Prompted by half the object's margin for its class, and the opposite for the others."""
    image, prompts = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), prompts_of(sam, 2)
    [batch] = sam.decode(sam.encode([image]), [prompts])
    seen = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for i, k in enumerate(prompts.class_id.tolist()):
        half = torch.from_numpy(prompts.mask_logits[i]) / 2
        fused = torch.stack([half if j == k else -half for j in range(len(sam.classes))])[None]
        expected = sam.teacher(seen, fused).softmax(dim=1)[0, k]
        assert torch.allclose(batch.low_res_logits[i].sigmoid(), expected, atol=1e-5)
        inside = expected[batch.low_res_logits[i] > 0]
        assert batch.predicted_iou[i].item() == pytest.approx(inside.mean().item() if len(inside) else 0, abs=1e-5)
    assert batch.at_image_size().shape == (2, SIZE, SIZE) and sam.mask_size == SIZE


def test_objects_of_several_images_have_the_masks_that_each_has_alone(sam, monkeypatch):
    images = [np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8) for i in range(3)]
    prompts = [prompts_of(sam, count) for count in (3, 0, 2)]
    together = sam.decode(sam.encode(images), prompts)
    monkeypatch.setattr("samsemi.knowsam.distilled.OBJECTS_PER_CALL", 1)
    for image, own, batch in zip(images, prompts, together, strict=True):
        [alone] = sam.decode(sam.encode([image]), [own])
        assert len(batch) == len(own) and torch.allclose(alone.low_res_logits, batch.low_res_logits, atol=1e-4)


def test_prompts_without_a_map_are_refused(sam):
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    with pytest.raises(UsageError, match="takes nothing but maps"):
        sam.decode(sam.encode([image]), [Prompts(np.zeros((1, 4), np.float32))])
