import json
import math
from pathlib import Path

import numpy as np
import pytest
import skimage.transform
import torch
import torch.nn.functional as F
from builders import CPU, build_sam, original_of
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from torch import nn

from samsemi.errors import CheckpointError, UsageError
from samsemi.inputs import hash_file
from samsemi.options.sams import NETWORKS, SAMS
from samsemi.sam.network import compile_encoder, takes_three
from samsemi.sam.original import OriginalNetwork, OriginalSam, fill, untrained
from samsemi.sam.preprocessing import LONGEST_SIDE, SQUARE, place_masks
from samsemi.sam.prompts import Prompts, find_objects, make_prompts
from samsemi.sam.protocol import Embedding, MaskBatch, SamNetwork, TrainableSam, choose_masks, load_sam
from samsemi.tensors import CARD, load_tensors, save_tensors

SIZES = {"landscape": (48, 70), "portrait": (90, 41), "square": (64, 64), "large": (150, 203), "small": (20, 31)}


@pytest.fixture(scope="module", params=[(64, 16), (96, 8)], ids=["64 px", "96 px"])
def backend(request):
    return OriginalSam(build_sam(*request.param), "small", "0", CPU)


def images_of(*names: str) -> list[np.ndarray]:
    rng = np.random.default_rng(len(names))
    return [
        (skimage.transform.resize(rng.random((5, 5, 3)), SIZES[name], order=1) * 255).astype(np.uint8) for name in names or tuple(SIZES)
    ]


def prompts_of(kinds: str, image: np.ndarray, count: int, mask_size: int, seed: int = 0) -> Prompts:
    """Random boxes, two points each, and smooth mask logits, in the pixels of an image."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    corners = np.sort(rng.random((count, 2, 2)), axis=1) * (width - 1, height - 1)
    coarse = torch.from_numpy(4 * rng.normal(size=(count, 1, 4, 4))).float()
    masks = F.interpolate(coarse, (mask_size, mask_size), mode="bilinear")[:, 0].numpy() if "mask" in kinds else None
    return Prompts(
        boxes=corners.reshape(count, 4).astype(np.float32) if "box" in kinds else None,
        point_coords=(rng.random((count, 2, 2)) * (width - 1, height - 1)).astype(np.float32) if "point" in kinds else None,
        point_labels=np.tile(np.array([1, 0], dtype=np.int32), (count, 1)) if "point" in kinds else None,
        mask_logits=masks,
    )


def prompt_predictor(
    backend: OriginalSam, image: np.ndarray, prompts: Prompts, i: int, three: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """segment-anything's own output for prompt i: (3, H, W) logits, (3,) predicted IoU, (3, m, m) low-res logits; one of
    each without ``three``."""
    predictor = SamPredictor(original_of(backend))
    predictor.set_image(image)
    mask = None
    if prompts.mask_logits is not None:
        input_size = backend.preprocessing.input_size(image.shape[:2], backend.side)
        mask = place_masks(torch.from_numpy(prompts.mask_logits[i : i + 1]), input_size, backend.side, backend.mask_size)[0].numpy()
    return predictor.predict(
        point_coords=None if prompts.point_coords is None else prompts.point_coords[i],
        point_labels=None if prompts.point_labels is None else prompts.point_labels[i],
        box=None if prompts.boxes is None else prompts.boxes[i],
        mask_input=mask,
        multimask_output=three,
        return_logits=True,
    )


@pytest.mark.parametrize(
    ("kinds", "masks"),
    [
        *((kinds, "best-of-three") for kinds in ("box", "point", "box+point", "box+point+mask", "point+mask")),
        *(("box+point+mask", "single"), ("box", "auto"), ("point", "auto")),
    ],
)
def test_masks_equal_those_of_sam_predictor_prompt_by_prompt(backend, kinds, masks):
    """Images of five shapes in one batch, different numbers of objects, against one image and one prompt at a time."""
    images = images_of()
    prompts = [prompts_of(kinds, image, 1 + i % 3, backend.mask_size, seed=i) for i, image in enumerate(images)]
    outputs = backend.with_masks(masks).decode(backend.encode(images), prompts)
    assert [len(output) for output in outputs] == [1, 2, 3, 1, 2]
    spread = []
    for image, given, output in zip(images, prompts, outputs, strict=True):
        full = output.at_image_size()
        for i in range(len(given)):
            logits, ious, low_res = prompt_predictor(backend, image, given, i, masks == "best-of-three")
            best = ious.argmax()
            assert output.predicted_iou[i].item() == pytest.approx(ious[best], abs=1e-4)
            assert np.abs(output.low_res_logits[i].numpy() - low_res[best]).max() < 1e-4
            assert full[i].shape == image.shape[:2] and np.abs(full[i].numpy() - logits[best]).max() < 1e-4
            spread.append(low_res[best].std())
    assert min(spread) > 0.05, "masks that are flat would agree with anything"


def test_chosen_mask_is_the_one_with_the_highest_predicted_iou():
    backend = OriginalSam(build_sam(64, 16), "small", "0", CPU, masks="best-of-three")
    images = images_of("landscape")
    prompts = prompts_of("box+point", images[0], 12, backend.mask_size)
    means = np.mean([prompt_predictor(backend, images[0], prompts, i)[1] for i in range(12)], axis=0)
    backend.network.mask_decoder.iou_prediction_head.layers[-1].bias[1:] -= torch.from_numpy(means)
    [output] = backend.decode(backend.encode(images), [prompts])
    chosen = set()
    for i in range(12):
        _, ious, low_res = prompt_predictor(backend, images[0], prompts, i)
        chosen.add(int(ious.argmax()))
        others = [k for k in range(3) if k != ious.argmax()]
        distance = np.abs(low_res - output.low_res_logits[i].numpy()).max(axis=(1, 2))
        assert distance[ious.argmax()] < 1e-4 < distance[others].min()
    assert chosen == {0, 1, 2}


def test_a_lone_point_may_mean_several_objects_and_nothing_else_does():
    point = {"point_coords": np.zeros((1, 1, 2), np.float32), "point_labels": np.ones((1, 1), np.int32)}
    two = {"point_coords": np.zeros((1, 2, 2), np.float32), "point_labels": np.ones((1, 2), np.int32)}
    box, mask = {"boxes": np.zeros((1, 4), np.float32)}, {"mask_logits": np.zeros((1, 8, 8), np.float32)}
    given = (point, two, box, {**point, **box}, {**point, **mask})
    assert [takes_three(Prompts(**prompts), "auto") for prompts in given] == [True, False, False, False, False]
    assert all(takes_three(Prompts(**prompts), "best-of-three") and not takes_three(Prompts(**prompts), "single") for prompts in given)


def test_the_best_of_three_is_refused_where_there_is_one_mask():
    medsam = OriginalSam(build_sam(64, 16), "medsam", "0", CPU, preprocessing=SQUARE, multimask=False)
    for sam in (medsam, load_sam("none", None, CPU)):
        with pytest.raises(UsageError, match="gives a single mask for a prompt"):
            choose_masks(sam, "best-of-three")
        assert choose_masks(sam, None) is sam and choose_masks(sam, "single").name == sam.name
    small = OriginalSam(build_sam(64, 16), "small", "0", CPU)
    assert choose_masks(small, "best-of-three").masks == "best-of-three" and small.masks == "auto"


def test_masks_do_not_depend_on_how_many_are_decoded_at_once(backend, monkeypatch):
    images = images_of("landscape", "portrait")
    prompts = [prompts_of("box+point", image, 5, backend.mask_size, seed=i) for i, image in enumerate(images)]
    embeddings = backend.encode(images)
    together = backend.decode(embeddings, prompts)
    monkeypatch.setattr(backend, "objects_per_call", 3)
    for one, other in zip(together, backend.decode(embeddings, prompts), strict=True):
        assert torch.allclose(one.low_res_logits, other.low_res_logits, atol=1e-5) and torch.allclose(
            one.predicted_iou, other.predicted_iou
        )


def test_embedding_is_a_value_and_not_a_mode(backend):
    """Two images can be encoded and then decoded in any order."""
    first, second = images_of("landscape", "portrait")
    given = [prompts_of("box", image, 2, backend.mask_size) for image in (first, second)]
    embeddings = [*backend.encode([first]), *backend.encode([second])]
    forward = backend.decode(embeddings, given)
    backward = backend.decode(embeddings[::-1], given[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert torch.allclose(one.low_res_logits, other.low_res_logits, atol=1e-5)
    assert embeddings[0].image_size == (48, 70) and embeddings[0].tensors["features"].dtype == torch.float32


def test_image_without_prompts_has_no_masks(backend):
    images = images_of("landscape", "portrait")
    prompts = [prompts_of("box+point", image, count, backend.mask_size) for image, count in zip(images, (0, 2), strict=True)]
    outputs = backend.decode(backend.encode(images), prompts)
    assert [len(output) for output in outputs] == [0, 2] and outputs[0].at_image_size().shape == (0, 48, 70)


def test_no_prompt_at_all_has_no_mask(backend):
    [image] = images_of("landscape")
    [output] = backend.decode(backend.encode([image]), [prompts_of("box+point", image, 0, backend.mask_size)])
    assert len(output) == 0 and output.at_image_size().shape == (0, 48, 70)
    assert output.on_grid(backend.mask_size).shape == (0, backend.mask_size, backend.mask_size)


def test_prompts_made_from_objects_fit_the_backend(backend):
    probs = np.full((2, 48, 70), 0.2, dtype=np.float32)
    probs[1, 5:20, 40:60] = probs[1, 25:45, 5:20] = 0.9
    probs[0] = 1 - probs[1]
    prompts = make_prompts(find_objects(probs), "box+point+mask", mask_size=backend.mask_size)
    [output] = backend.decode(backend.encode(images_of("landscape")), [prompts])
    assert len(output) == 2 and torch.isfinite(output.at_image_size()).all()


def test_mask_prompt_covers_the_image_within_the_padded_square():
    """A mask over the right half of a wide image lands in the right half of the top part; the padding is all outside."""
    logits = torch.full((1, 16, 16), -5.0)
    logits[:, :, 8:] = 5
    placed = place_masks(logits, (32, 64), side=64, mask_size=16)[0, 0].numpy()
    assert placed.shape == (16, 16)
    assert (placed[:8, 9:] > 4).all() and (placed[:8, :7] < -4).all() and (placed[8:] == -5).all()
    assert np.allclose(place_masks(logits, (64, 64), side=64, mask_size=16)[0, 0], logits[0])


def ramp(m: int) -> np.ndarray:
    v, u = np.mgrid[:m, :m]
    return (0.3 * u - 0.2 * v + 1).astype(np.float32)


@pytest.mark.parametrize("image_size", [(60, 100), (100, 60), (80, 80), (240, 130)])
def test_both_ways_to_upscale_find_the_place_of_each_pixel(image_size):
    """On logits that are linear in place, bilinear interpolation is exact: pixel (x, y) of the image lies at
    ((x + 0.5) / W * W' / side) of the padded square, and so does its cell of the grid."""
    side, m = 64, 16
    scale = side / max(image_size)
    input_size = tuple(int(extent * scale + 0.5) for extent in image_size)
    output = MaskBatch(torch.from_numpy(ramp(m)[None]), torch.ones(1), image_size, input_size, side)

    def expected(rows: int, columns: int) -> np.ndarray:
        u = (np.arange(columns) + 0.5) / columns * input_size[1] / side * m - 0.5
        v = (np.arange(rows) + 0.5) / rows * input_size[0] / side * m - 0.5
        return 0.3 * u[None] - 0.2 * v[:, None] + 1

    def inner(array: np.ndarray) -> np.ndarray:
        """Without an eighth on each side, where borders are repeated."""
        rows, columns = (extent // 8 for extent in array.shape)
        return array[rows:-rows, columns:-columns]

    full = output.at_image_size()[0].numpy()
    assert full.shape == image_size and np.allclose(inner(full), inner(expected(*image_size)), atol=1e-4)
    grid = output.on_grid(40)[0].numpy()
    assert np.allclose(inner(grid), inner(expected(40, 40)), atol=1e-4)


@pytest.mark.parametrize("image_size", [(60, 100), (100, 60), (80, 80)])
def test_mask_on_the_grid_is_the_mask_at_image_size_resized_to_a_square(image_size):
    v, u = np.mgrid[:32, :32]
    logits = torch.from_numpy(6 - np.hypot(u - 12, v - 11)).float()[None]
    input_size = tuple(round(extent * 64 / max(image_size)) for extent in image_size)
    output = MaskBatch(logits, torch.ones(1), image_size, input_size, 64)
    resized = F.interpolate(output.at_image_size()[:, None], (48, 48), mode="bilinear", antialias=True)[0, 0] > 0
    grid = output.on_grid(48)[0] > 0
    assert (grid & resized).sum() / (grid | resized).sum() > 0.97


def test_square_output_of_the_grids_own_size_is_taken_as_it_is():
    logits = torch.randn(2, 16, 16)
    output = MaskBatch(logits, torch.ones(2), (100, 100), (64, 64), 64)
    assert torch.equal(output.on_grid(16), logits)


def test_slices_of_an_output_are_upscaled_alike():
    output = MaskBatch(torch.randn(5, 16, 16), torch.ones(5), (30, 50), (38, 64), 64)
    assert torch.allclose(output.at_image_size(slice(1, 3)), output.at_image_size()[1:3])


@pytest.mark.parametrize("name", ["landscape", "portrait"])
def test_published_sams_see_an_image_as_their_own_code_feeds_it(name):
    """At 1024 px, the same image: SamPredictor's input, and the lines of MedSAM_Inference.py."""
    [image] = images_of(name)
    seen = []
    sam = Sam(nn.Identity(), nn.Identity(), nn.Identity(), [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    sam.image_encoder.img_size = 1024
    sam.image_encoder.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    SamPredictor(sam).set_image(image)
    own, reference = LONGEST_SIDE.squares([image], 1024)[0], seen[0][0]
    assert own.shape == reference.shape == (3, 1024, 1024) and (own - reference).abs().max() < 1e-5
    height, width = LONGEST_SIDE.input_size(image.shape[:2], 1024)
    assert max(height, width) == 1024 and not own[:, height:].any() and not own[:, :, width:].any()
    square = skimage.transform.resize(image, (1024, 1024), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    square = (square - square.min()) / np.clip(square.max() - square.min(), a_min=1e-8, a_max=None)
    assert np.abs(SQUARE.squares([image], 1024)[0].numpy().transpose(1, 2, 0) - square).max() < 1e-6


def test_medsam_sees_a_square_scaled_from_its_own_range():
    """Against the lines of MedSAM_Inference.py: resize to the square, cast, min-max."""
    image = 40 + images_of("landscape")[0] // 2
    resized = skimage.transform.resize(image, (32, 32), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    expected = (resized - resized.min()) / np.clip(resized.max() - resized.min(), 1e-8, None)
    [prepared] = SQUARE.squares([image], 32).numpy()
    assert prepared.shape == (3, 32, 32) and np.allclose(prepared.transpose(1, 2, 0), expected, atol=1e-6)
    assert (prepared.min(), prepared.max()) == (0, 1)
    assert not SQUARE.squares([np.full((9, 9, 3), 77, dtype=np.uint8)], 16).any()


def test_medsam_segments_like_its_own_inference_script():
    """Boxes lose their aspect ratio with the image, the first of the four masks is taken, upscaled without padding."""
    backend = OriginalSam(build_sam(64, 16), "medsam", "0", CPU, preprocessing=SQUARE, multimask=False)
    sam = original_of(backend)
    for image in images_of("landscape", "portrait"):
        height, width = image.shape[:2]
        prompts = prompts_of("box", image, 2, backend.mask_size)
        [output] = backend.decode(backend.encode([image]), [prompts])
        with torch.no_grad():
            features = sam.image_encoder(SQUARE.squares([image], 64))
            boxes = torch.from_numpy(prompts.boxes / np.array([width, height, width, height], dtype=np.float32) * 64)
            for i in range(2):
                sparse, dense = sam.prompt_encoder(points=None, boxes=boxes[i : i + 1, None], masks=None)
                low_res, iou = sam.mask_decoder(features, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
                assert (output.low_res_logits[i] - low_res[0, 0]).abs().max() < 1e-4
                assert output.predicted_iou[i].item() == pytest.approx(iou.item(), abs=1e-4)
                smooth = F.interpolate(F.interpolate(low_res, (64, 64), mode="bilinear"), (height, width), mode="bilinear")[0, 0]
                assert (output.at_image_size()[i] - smooth).abs().max() < 1e-4
        assert output.input_size == (64, 64)


def test_bf16_is_near_fp32():
    images = images_of("landscape")
    backends = [OriginalSam(build_sam(64, 16), "small", "0", CPU, precision) for precision in ("fp32", "bf16")]
    features = [backend.encode(images)[0].tensors["features"] for backend in backends]
    assert features[1].dtype == torch.float32
    assert 0 < (features[0] - features[1]).abs().mean() < 0.05 * features[0].std()


def test_compiled_encoder_gives_the_same_masks():
    images, plain = images_of("square", "portrait"), OriginalSam(build_sam(64, 16), "small", "0", CPU)
    prompts = [prompts_of("box", image, 2, plain.mask_size) for image in images]
    wanted = plain.decode(plain.encode(images), prompts)
    compiled = OriginalSam(build_sam(64, 16), "small", "0", CPU)
    compiled.compile("aot_eager")
    assert compiled.network.image_encoder._compiled_call_impl is not None
    for a, b in zip(wanted, compiled.decode(compiled.encode(images), prompts), strict=True):
        torch.testing.assert_close(a.low_res_logits, b.low_res_logits)
    assert list(compiled.network.state_dict()) == list(plain.network.state_dict())


def test_only_networks_on_cuda_are_compiled(monkeypatch, caplog):
    caplog.set_level("INFO", "samsemi")
    compiled = []
    monkeypatch.setattr(OriginalSam, "compile", lambda own: compiled.append(own))
    sam, none = OriginalSam(build_sam(64, 16), "small", "0", CPU), load_sam("none", None, CPU, "fp32")
    compile_encoder(sam, CPU)
    compile_encoder(none, torch.device("cuda"))
    assert caplog.messages == ["--compile: small on cpu is not compiled", "--compile: none on cuda is not compiled"] and not compiled
    compile_encoder(sam, torch.device("cuda"))
    assert compiled == [sam]


@pytest.mark.parametrize("name", ["vit_x", "", "sam", "TINY"])
def test_unknown_backend_is_a_usage_error_that_lists_the_known(name):
    with pytest.raises(UsageError, match="unknown backend") as caught:
        load_sam(name, None, CPU)
    assert all(known in caught.value.hint for known in SAMS)


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "medsam"])
def test_published_sam_without_weights_is_a_checkpoint_error(name):
    with pytest.raises(CheckpointError, match=f"--sam {name} needs its weights"):
        load_sam(name, None, CPU)


@pytest.mark.parametrize("name", SAMS)
def test_missing_weights_file_is_a_checkpoint_error(name):
    with pytest.raises(CheckpointError, match="missing.pth"):
        load_sam(name, Path("missing.pth"), CPU)


@pytest.mark.parametrize(
    ("name", "change", "hint"),
    [
        ("vit_b", {"image_encoder.patch_embed.proj.weight": 1024}, "--sam vit_l"),
        ("vit_l", {"image_encoder.patch_embed.proj.weight": 1280}, "--sam vit_h"),
        ("vit_h", {"image_encoder.patch_embed.proj.weight": 768}, "--sam vit_b or medsam"),
        ("tiny", {"image_encoder.patch_embed.proj.weight": 768}, "--sam vit_b or medsam"),
        ("vit_b", {"mask_decoder.hf_token.weight": 1}, "SAM-HQ"),
        ("vit_b", {"mask_decoder.hf_token.weight": 1, "image_encoder.patch_embed.proj.weight": 1024}, "SAM-HQ"),
        ("vit_b", {"something.else": 1}, "belong to this --sam"),
    ],
)
def test_weights_of_another_sam_are_refused_and_the_hint_says_whose_they_are(tmp_path, name, change, hint):
    sam = build_sam(64, 16)
    tensors = dict(sam.state_dict())
    for key, rows in change.items():
        tensors[key] = torch.zeros(rows, 3, 2, 2)
    save_tensors(tmp_path / "other.safetensors", tensors)
    with pytest.raises(CheckpointError, match="other.safetensors as") as caught:
        fill(sam, tmp_path / "other.safetensors", name)
    assert hint in caught.value.hint


def test_weights_that_lack_the_relative_positions_are_refused_by_name(tmp_path):
    """KnowSAM drops them in silence."""
    sam = build_sam(64, 16)
    save_tensors(tmp_path / "w.safetensors", {name: t for name, t in sam.state_dict().items() if "rel_pos" not in name})
    with pytest.raises(CheckpointError, match="4 missing, such as image_encoder.blocks.0.attn.rel_pos_h"):
        fill(sam, tmp_path / "w.safetensors", "vit_b")


def test_weights_are_filled_in(tmp_path):
    sam, other = build_sam(64, 16), build_sam(64, 16)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.5)
    torch.save({name: tensor.half() for name, tensor in other.state_dict().items()}, tmp_path / "w.pth")
    fill(sam, tmp_path / "w.pth", "small")
    for mine, theirs in zip(sam.state_dict().values(), other.state_dict().values(), strict=True):
        assert mine.dtype == torch.float32 and torch.allclose(mine, theirs.half().float())


OWN = """
from types import SimpleNamespace

def load(checkpoint, device, precision):
    given = checkpoint, device, precision
    return SimpleNamespace(name="own", identity="0", mask_size=8, prompt_kinds=None, encode=len, decode=len, given=given)
"""


def test_own_backend_is_loaded_by_module_and_function(tmp_path, monkeypatch):
    (tmp_path / "my_sam_plugin.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_sam("my_sam_plugin:load", None, CPU, "bf16").given == (None, CPU, "bf16")
    weights = tmp_path / "w.bin"
    weights.touch()
    assert load_sam("my_sam_plugin:load", weights, CPU).given[0] == weights


@pytest.mark.parametrize("name", ["no_such_module:load", "math:load", ":load", "math:", ".math:load", "a:b:c"])
def test_own_backend_that_cannot_be_imported_is_a_usage_error(name):
    with pytest.raises(UsageError, match="--sam"):
        load_sam(name, None, CPU)


def test_packaged_tiny_sam_segments_a_plain_disk():
    sam = load_sam("tiny", None, CPU)
    assert (sam.name, sam.identity, sam.mask_size, sam.prompt_kinds) == ("tiny", hash_file(SAMS["tiny"].weights), 64, None)
    y, x = np.mgrid[:120, :180]
    disk = np.hypot(y - 50, x - 120) < 25
    image = np.where(disk[..., None], np.uint8([220, 60, 60]), np.uint8([40, 90, 60]))
    prompts = Prompts(
        boxes=np.array([[95, 25, 145, 75]], dtype=np.float32),
        point_coords=np.array([[[120, 50]]], dtype=np.float32),
        point_labels=np.ones((1, 1), dtype=np.int32),
    )
    [output] = sam.decode(sam.encode([image]), [prompts])
    mask = output.at_image_size()[0].numpy() > 0
    assert (mask & disk).sum() / (mask | disk).sum() > 0.8
    assert SAMS["tiny"].weights.stat().st_size < 10e6


def test_tiny_takes_other_weights_of_its_own_network(tmp_path):
    tensors = load_tensors(SAMS["tiny"].weights)
    save_tensors(tmp_path / "w.safetensors", {name: tensor + 1 for name, tensor in tensors.items()})
    sam = load_sam("tiny", tmp_path / "w.safetensors", CPU)
    assert sam.identity == hash_file(tmp_path / "w.safetensors") != hash_file(SAMS["tiny"].weights)


def test_weights_adapted_from_another_sam_are_refused(tmp_path):
    save_tensors(tmp_path / "w.safetensors", load_tensors(SAMS["tiny"].weights), {CARD: json.dumps({"sam": "medsam"})})
    with pytest.raises(CheckpointError, match="adapted medsam") as caught:
        load_sam("tiny", tmp_path / "w.safetensors", CPU)
    assert "--sam medsam" in caught.value.hint


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{not json", "the header of .* cannot be read"),
        ("[]", "is no JSON object"),
        ('{"made_from": "elsewhere"}', "made_from is 'elsewhere'"),
        ('{"distance": 1}', "unknown distance"),
    ],
)
def test_weights_with_a_damaged_header_are_refused(tmp_path, header, message):
    save_tensors(tmp_path / "w.safetensors", load_tensors(SAMS["tiny"].weights), {CARD: header})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_sam("tiny", tmp_path / "w.safetensors", CPU)
    assert "adapt the SAM again" in caught.value.hint


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_sam("tiny", tmp_path / "w.safetensors", CPU)
    assert "file of weights" in caught.value.hint


@pytest.mark.parametrize("name", ["none", "ellipse"])
def test_baselines_refuse_weights(tmp_path, name):
    (tmp_path / "w.pth").touch()
    with pytest.raises(UsageError, match=f"--sam {name} has no weights"):
        load_sam(name, tmp_path / "w.pth", CPU)


def test_none_gives_back_the_mask_prompt_and_its_mean_probability():
    probs = np.full((2, 64, 96), 0.2, dtype=np.float32)
    probs[1, 10:40, 50:90] = 0.9
    probs[1, 10:20, 50:90] = 0.6
    probs[0] = 1 - probs[1]
    sam = load_sam("none", None, CPU)
    assert sam.prompt_kinds == "box+mask"
    prompts = make_prompts(find_objects(probs), sam.prompt_kinds, mask_size=sam.mask_size)
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    [output] = sam.decode(sam.encode([image]), [prompts])
    mask = output.at_image_size()[0].numpy() > 0
    assert (mask != (probs[1] > 0.5)).mean() < 0.01
    assert output.predicted_iou.tolist() == pytest.approx([(0.6 * 10 + 0.9 * 20) / 30], abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(200, 200), (120, 300), (300, 90)])
def test_ellipse_touches_the_sides_of_its_box_and_fills_pi_quarters_of_it(height, width):
    sam = load_sam("ellipse", None, CPU)
    x0, y0, x1, y1 = round(0.3 * width), round(0.1 * height), round(0.9 * width), round(0.6 * height)
    prompts = Prompts(boxes=np.array([[x0, y0, x1, y1]], dtype=np.float32))
    [output] = sam.decode([Embedding({}, (height, width))], [prompts])
    mask = output.at_image_size()[0].numpy() > 0
    box = np.zeros((height, width), dtype=bool)
    box[y0 : y1 + 1, x0 : x1 + 1] = True
    iou = (mask & box).sum() / (mask | box).sum()
    assert iou == pytest.approx(math.pi / 4, abs=0.02)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == pytest.approx((x0, y0, x1, y1), abs=1.6)
    assert mask[(y0 + y1) // 2, (x0 + x1) // 2] and not mask[y0, x0] and not mask[y1, x1]
    y, x = np.mgrid[:height, :width]
    a, b = (x1 - x0 + 1) / 2, (y1 - y0 + 1) / 2
    true = ((x - (x0 + x1) / 2) / a) ** 2 + ((y - (y0 + y1) / 2) / b) ** 2 <= 1
    assert (mask & true).sum() / (mask | true).sum() > 0.96
    assert output.predicted_iou.tolist() == [1.0]


@pytest.mark.parametrize("box", [(500, 300, 508, 308), (0, 0, 7, 7), (1390, 990, 1399, 999)])
def test_small_ellipse_in_a_large_image_is_not_lost(box):
    sam = load_sam("ellipse", None, CPU)
    [output] = sam.decode([Embedding({}, (1000, 1400))], [Prompts(boxes=np.array([box], dtype=np.float32))])
    mask = output.at_image_size()[0].numpy() > 0
    area = math.pi / 4 * (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    assert 0.4 * area < mask.sum() < 2.5 * area


def test_table_has_a_row_for_every_way_to_feed_the_networks():
    assert NETWORKS == ("tiny", "vit_b", "vit_l", "vit_h", "medsam")
    medsam = untrained("medsam", CPU, "fp32")
    assert (medsam.name, medsam.multimask, medsam.prompt_kinds, medsam.preprocessing) == ("medsam", False, "box", SQUARE)
    tiny = untrained("tiny", CPU, "fp32")
    assert (tiny.name, tiny.multimask, tiny.prompt_kinds, tiny.preprocessing) == ("tiny", True, None, LONGEST_SIDE)
    with pytest.raises(UsageError, match="--sam none cannot be made from scratch"):
        untrained("none", CPU, "fp32")


def test_networks_can_be_trained_and_baselines_cannot():
    assert isinstance(load_sam("tiny", None, CPU), TrainableSam)
    assert not isinstance(load_sam("ellipse", None, CPU), TrainableSam) and not isinstance(load_sam("none", None, CPU), TrainableSam)


class TwoScaleNetwork(OriginalNetwork):
    """Its decoder needs a second tensor of the image, which shifts the logits."""

    def encode(self, images):
        features = super().encode(images)
        return {**features, "shift": images.mean(dim=(1, 2, 3))}

    def decode(self, embedding, sparse, dense):
        logits, iou = super().decode(embedding, sparse, dense)
        return logits + embedding["shift"].view(-1, 1, 1, 1), iou

    decode_one = SamNetwork.decode_one


def test_each_object_is_decoded_with_all_tensors_of_its_own_image():
    backend = OriginalSam(build_sam(64, 16), "small", "0", CPU)
    two_scale = backend.with_weights_of(TwoScaleNetwork(backend.network))
    images = images_of("landscape", "portrait")
    prompts = [prompts_of("box", image, 2 + i, backend.mask_size) for i, image in enumerate(images)]
    embeddings = two_scale.encode(images)
    plain, shifted = (sam.decode(sam.encode(images), prompts) for sam in (backend, two_scale))
    for before, after, embedding in zip(plain, shifted, embeddings, strict=True):
        assert torch.allclose(after.low_res_logits, before.low_res_logits + embedding.tensors["shift"], atol=1e-4)
    assert embeddings[0].tensors["shift"] != embeddings[1].tensors["shift"]
