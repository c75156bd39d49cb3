"""SAMs of transformers: against its own processors and models, prompt by prompt."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import CPU
from hf_models import FAMILIES, build_model, predict, save_model, save_video_model
from safetensors.torch import load_file, save_file

from samsemi.errors import CheckpointError
from samsemi.sam.checks import decode_prompts, encode_images
from samsemi.sam.lora import add_lora, fold_lora
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import ChoosingSam, TrainableSam, load_sam

SIZES = ((48, 70), (90, 41), (64, 64), (150, 203))
KINDS = ("box", "point", "lone point", "box+point")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / family
    save_model(family, folder)
    return folder


@pytest.fixture(scope="module")
def sam(folder):
    return load_sam(f"hf:{folder}", None, CPU)


def draw_images() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    coarse = [rng.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in SIZES]
    return [part.repeat(-(-h // 6), axis=0).repeat(-(-w // 6), axis=1)[:h, :w] for part, (h, w) in zip(coarse, SIZES, strict=True)]


def prompts_of(kinds: str, size: tuple[int, int], count: int) -> Prompts:
    """Random prompts in the pixels of an image."""
    rng = np.random.default_rng(sum(size))
    far = np.array(size[::-1]) - 1
    points = 1 if kinds == "lone point" else 2
    return Prompts(
        boxes=(np.sort(rng.random((count, 2, 2)), axis=1) * far).reshape(count, 4).astype(np.float32) if "box" in kinds else None,
        point_coords=(rng.random((count, points, 2)) * far).astype(np.float32) if "point" in kinds else None,
        point_labels=np.tile(np.array([1, 0][:points], dtype=np.int32), (count, 1)) if "point" in kinds else None,
    )


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("masks", ["auto", "single", "best-of-three"])
def test_masks_equal_those_of_transformers_prompt_by_prompt(family, sam, kinds, masks):
    """Images of four shapes with different numbers of objects in one batch, against one image at a time."""
    assert isinstance(sam, ChoosingSam) and isinstance(sam, TrainableSam) and sam.name == f"hf:{family}"
    model, images = build_model(family), draw_images()
    prompts = [prompts_of(kinds, image.shape[:2], 1 + i % 3) for i, image in enumerate(images)]
    chosen = sam.with_masks(masks)
    outputs = decode_prompts(chosen, encode_images(chosen, images), prompts)
    three = masks == "best-of-three" or (masks == "auto" and kinds == "lone point")
    spread = []
    for image, given, output in zip(images, prompts, outputs, strict=True):
        logits, ious = predict(family, model, image, given, three)
        full = output.at_image_size()
        for i, best in enumerate(ious.argmax(dim=1)):
            assert output.predicted_iou[i].item() == pytest.approx(ious[i, best].item(), abs=1e-4)
            assert full[i].shape == image.shape[:2] and (full[i] - logits[i, best]).abs().max() < 1e-4
            spread.append(logits[i, best].std().item())
    assert min(spread) > 0.05, "masks that are flat would agree with anything"


def test_batch_of_images_gives_what_each_gives_alone(sam):
    images = draw_images()
    prompts = [prompts_of("box+point", image.shape[:2], 2) for image in images]
    together = sam.decode(sam.encode(images), prompts)
    for image, given, output in zip(images, prompts, together, strict=True):
        [alone] = sam.decode(sam.encode([image]), [given])
        assert (output.low_res_logits - alone.low_res_logits).abs().max() < 1e-4
        assert (output.predicted_iou - alone.predicted_iou).abs().max() < 1e-4


def test_image_without_objects_gives_no_mask(sam):
    images = draw_images()[:2]
    prompts = [prompts_of("box+point", images[0].shape[:2], 0), prompts_of("box+point", images[1].shape[:2], 1)]
    assert [len(output) for output in decode_prompts(sam, sam.encode(images), prompts)] == [0, 1]
    assert [len(output) for output in decode_prompts(sam, sam.encode(images[:1]), prompts[:1])] == [0]


def test_mask_prompt_changes_the_mask(sam):
    image = draw_images()[0]
    prompts = prompts_of("box", image.shape[:2], 2)
    y, x = np.mgrid[: sam.mask_size, : sam.mask_size]
    disk = np.float32(6 - np.hypot(x - sam.mask_size / 2, y - sam.mask_size / 2))
    embeddings = sam.encode([image])
    [plain] = sam.decode(embeddings, [prompts])
    [given] = decode_prompts(sam, embeddings, [replace(prompts, mask_logits=np.stack([disk, -disk]))])
    changes = (given.low_res_logits - plain.low_res_logits).abs().amax(dim=(1, 2))
    assert (changes > 1e-3).all() and not torch.allclose(given.low_res_logits[0], given.low_res_logits[1])


def test_embedding_has_the_shapes_that_a_cache_is_held_to(sam):
    [embedding] = sam.encode(draw_images()[:1])
    assert {name: tuple(tensor.shape) for name, tensor in embedding.tensors.items()} == sam.embedding_shapes
    assert all(tensor.dtype == torch.float32 for tensor in embedding.tensors.values())


def test_all_four_masks_for_training_are_those_of_the_two_calls(sam):
    image = draw_images()[0]
    embeddings, prompts = sam.encode([image]), [prompts_of("box", image.shape[:2], 3)]
    own = {name: tensor.expand(3, *tensor.shape) for name, tensor in embeddings[0].tensors.items()}
    logits, ious = sam.network.decode(own, *sam.network.embed_prompts(*sam.scale_prompts(embeddings, prompts)))
    assert logits.shape == (3, 4, sam.mask_size, sam.mask_size) and ious.shape == (3, 4)
    [single], [three] = (sam.with_masks(masks).decode(embeddings, prompts) for masks in ("single", "best-of-three"))
    assert torch.allclose(logits[:, 0], single.low_res_logits, atol=1e-5)
    assert torch.allclose(ious[:, 1:].amax(dim=1), three.predicted_iou, atol=1e-5)


def test_identity_is_of_the_weights_and_of_how_images_are_fed(family, sam, folder, tmp_path):
    assert load_sam(f"hf:{folder}", None, CPU).identity == sam.identity
    save_model(family, tmp_path / "other", seed=1)
    assert load_sam(f"hf:{tmp_path / 'other'}", None, CPU).identity != sam.identity
    save_model(family, tmp_path / "fed")
    settings = json.loads((tmp_path / "fed" / "preprocessor_config.json").read_text())
    (tmp_path / "fed" / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.4, 0.4, 0.4]}))
    assert load_sam(f"hf:{tmp_path / 'fed'}", None, CPU).identity != sam.identity
    (tmp_path / "fed" / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": ["a", "b", "c"]}))
    with pytest.raises(CheckpointError, match="are no numbers"):
        load_sam(f"hf:{tmp_path / 'fed'}", None, CPU)


def test_weights_that_are_missing_or_no_numbers_are_refused_by_name(family, tmp_path):
    save_model(family, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    [token] = [name for name in tensors if name.endswith("mask_decoder.iou_token.weight")]
    save_file({name: t for name, t in tensors.items() if name != token}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights missing, such as mask_decoder\.iou_token\.weight"):
        load_sam(f"hf:{tmp_path}", None, CPU)
    tensors[token][0, 0] = float("nan")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="holds NaN"):
        load_sam(f"hf:{tmp_path}", None, CPU)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="holds no Sam.* that can be loaded"):
        load_sam(f"hf:{tmp_path}", None, CPU)


@pytest.mark.parametrize("family", ["sam2", "sam3"])
def test_model_for_videos_holds_the_one_for_images(family, tmp_path):
    """As the hub has SAM 2.1 and SAM 3."""
    model = save_video_model(family, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == f"{family}_video"
    sam, image = load_sam(f"hf:{tmp_path}", None, CPU), draw_images()[0]
    prompts = prompts_of("box+point", image.shape[:2], 2)
    [output] = sam.decode(sam.encode([image]), [prompts])
    logits, ious = predict(family, model, image, prompts, three=False)
    assert (output.at_image_size() - logits[:, 0]).abs().max() < 1e-4 and (output.predicted_iou - ious[:, 0]).abs().max() < 1e-4


def test_adapters_go_into_the_attention_and_are_folded_into_it(family, folder):
    sam, images = load_sam(f"hf:{folder}", None, CPU), draw_images()[:1]
    names = set(sam.network.state_dict())
    [before] = sam.encode(images)
    add_lora(sam.network, 2)
    [same] = sam.encode(images)
    added = {name: weights for name, weights in sam.network.named_parameters() if name.endswith(".up")}
    layers = {"sam3": 2 * 3, "sam2": 5}.get(family, 2)
    assert len(added) == layers and all(name.startswith("image_encoder.") for name in added)
    with torch.no_grad():
        for weights in added.values():
            weights.add_(torch.randn_like(weights))
    [adapted] = sam.encode(images)
    fold_lora(sam.network)
    [folded] = sam.encode(images)
    assert set(sam.network.state_dict()) == names
    for name, tensor in before.tensors.items():
        assert torch.allclose(same.tensors[name], tensor, atol=1e-5) and torch.allclose(
            folded.tensors[name], adapted.tensors[name], atol=1e-4
        )
        assert not torch.allclose(adapted.tensors[name], tensor, atol=1e-2)
