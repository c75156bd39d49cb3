import copy

import pytest
import torch
from builders import CPU, build_network, build_sam, load_own_sam
from segment_anything import sam_model_registry

from samsemi.errors import CheckpointError, UsageError
from samsemi.knowsam.teacher import Adapter, LearnedPrompt, Teacher, load_teacher, make_teacher, read_teacher_card, resize_sam, save_teacher
from samsemi.sam.original import OriginalNetwork, OriginalSam
from samsemi.sam.preprocessing import normalize_colors, normalize_range
from samsemi.sam.protocol import load_sam
from samsemi.tensors import load_tensors

SIDE = 64


def backend(seed: int = 0) -> OriginalSam:
    return OriginalSam(build_sam(SIDE, 16), "small", str(seed), CPU)


def teacher_of(num_classes: int = 3, **given) -> Teacher:
    torch.manual_seed(1)
    return Teacher(build_network(SIDE, 16), normalize_colors, num_classes, **given)


def images_and_maps(num_classes: int = 3, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.rand(2, 3, size, size), torch.randn(2, num_classes, size, size)


def learned(module) -> list[torch.nn.Parameter]:
    return [value for value in module.parameters() if value.requires_grad]


def test_vit_b_learns_what_is_published_less_what_its_code_never_uses():
    """22.0 M at two classes, of which 3.55 M are adapters for a third axis."""
    teacher = Teacher(OriginalNetwork(sam_model_registry["vit_b"]()), normalize_colors, 2)
    assert teacher.side == 256
    assert sum(value.numel() for value in learned(teacher)) / 1e6 == pytest.approx(22.0 - 3.55, abs=0.05)
    assert sum(value.numel() for value in teacher.prompts.parameters()) / 1e6 == pytest.approx(11.16, abs=0.005)
    with torch.no_grad():
        assert teacher.eval()(torch.rand(1, 3, 256, 256), torch.randn(1, 2, 256, 256)).shape == (1, 2, 256, 256)


def test_tiny_teaches_at_its_own_size():
    teacher = make_teacher(load_sam("tiny", None, CPU, "fp32"), 4, None, True).eval()
    with torch.no_grad():
        assert teacher.side == 256 and teacher(*images_and_maps(4)).shape == (2, 4, 32, 32)


def test_adapter_changes_nothing_at_first():
    assert not Adapter(16)(torch.randn(5, 16)).any()


def test_sam_with_new_adapters_is_the_sam():
    """The image embedding, and the output for a mask prompt."""
    sam, images = build_network(SIDE, 16), torch.randn(2, 3, SIDE, SIDE)
    teacher = Teacher(copy.deepcopy(sam), normalize_colors, 2, learned_prompts=False).eval()
    with torch.no_grad():
        assert torch.allclose(teacher.sam.image_encoder(images), sam.image_encoder(images), atol=1e-6)
        tokens, features = torch.randn(1, 5, 16), torch.randn(1, 16, 4, 4)
        for mine, theirs in zip(
            teacher.sam.mask_decoder.transformer(features, features, tokens),
            sam.mask_decoder.transformer(features, features, tokens),
            strict=True,
        ):
            assert torch.allclose(mine, theirs, atol=1e-6)


def test_only_adapters_and_prompts_learn_and_the_rest_stays_to_the_bit():
    teacher = teacher_of()
    frozen = {name: value.clone() for name, value in teacher.named_parameters() if not value.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"sam"} and not any("adapter" in name for name in frozen)
    optimizer = torch.optim.Adam(learned(teacher), 0.01)
    for _ in range(2):  # the first layer of an adapter learns once the second is no longer zero
        optimizer.zero_grad()
        teacher(*images_and_maps()).square().mean().backward()
        optimizer.step()
    now = dict(teacher.named_parameters())
    assert all(torch.equal(value, now[name]) and now[name].grad is None for name, value in frozen.items())
    still = {name for name, value in now.items() if value.requires_grad and not value.grad.any()}
    before_norm = {name for name in still if name.endswith(("0.bias", "4.bias"))}  # of convolutions before batch norm
    assert still == before_norm


def test_map_gets_no_gradient():
    images, maps = images_and_maps()
    teacher_of()(images, maps.requires_grad_()).sum().backward()
    assert maps.grad is None


def test_each_class_is_prompted_by_its_own_map_and_tokens():
    teacher, (images, maps) = make_teacher(load_sam("tiny", None, CPU, "fp32"), 3, None, True).eval(), images_and_maps()
    changed = maps.clone()
    changed[:, 1] = torch.linspace(-30, 30, 32)
    with torch.no_grad():
        before, after = teacher(images, maps), teacher(images, changed)
        assert torch.equal(before[:, [0, 2]], after[:, [0, 2]]) and (before[:, 1] - after[:, 1]).abs().max() > 1e-3
        teacher.prompts[2].tokens[-2].bias.normal_()
        again = teacher(images, maps)
    assert torch.equal(before[:, :2], again[:, :2]) and (before[:, 2] - again[:, 2]).abs().max() > 1e-3


def test_logits_of_an_image_do_not_depend_on_its_batch():
    teacher, (images, maps) = teacher_of().eval(), images_and_maps()
    with torch.no_grad():
        assert torch.allclose(teacher(images, maps)[1:], teacher(images[1:], maps[1:]), atol=1e-5)


def test_without_learned_prompts_the_map_alone_is_the_prompt():
    teacher = teacher_of(learned_prompts=False).eval()
    assert teacher.prompts is None
    with torch.no_grad():
        assert teacher(*images_and_maps()).shape == (2, 3, 32, 32)


def test_prompt_is_two_tokens_of_sams_width():
    assert LearnedPrompt(16)(torch.randn(5, 16, 4, 4)).shape == (5, 2, 16)


def test_smaller_sam_keeps_its_relative_positions():
    sam = build_network(96, 8)
    before = {name: value.clone() for name, value in sam.named_parameters() if "rel_pos" in name}
    resize_sam(sam, 64)
    assert sam.image_encoder.pos_embed.shape[1:3] == (8, 8) and sam.prompt_encoder.mask_input_size == (32, 32)
    assert all(torch.equal(value, dict(sam.named_parameters())[name]) for name, value in before.items())
    with torch.no_grad():
        assert sam.image_encoder(torch.randn(1, 3, 64, 64)).shape == (1, 16, 8, 8)


@pytest.mark.parametrize("side", [72, 32])
def test_size_that_sam_cannot_have_is_a_usage_error(side):
    with pytest.raises(UsageError, match=f"--sam-size {side}") as caught:
        resize_sam(build_network(96, 16), side)
    assert "64" in caught.value.hint


def test_what_is_no_network_cannot_teach():
    with pytest.raises(UsageError, match="--sam ellipse cannot learn"):
        make_teacher(load_sam("ellipse", None, CPU, "fp32"), 2, None, True)


def test_own_sam_with_a_network_can_teach():
    own, packaged = (make_teacher(sam, 2, None, False).eval() for sam in (load_own_sam(None, CPU, "fp32"), load_sam("tiny", None, CPU)))
    with torch.no_grad():
        assert torch.equal(own(*images_and_maps(2)), packaged(*images_and_maps(2)))


def test_medsam_is_fed_from_0_to_1():
    image = torch.tensor([[10.0, 20], [30, 110]]).expand(2, 3, 2, 2)
    assert normalize_range(image)[1, 2].flatten().tolist() == pytest.approx([0, 0.1, 0.2, 1])


def test_saved_teacher_is_the_same_when_loaded_and_holds_nothing_of_sam(tmp_path):
    sam = backend()
    teacher = make_teacher(sam, 3, None, True)
    for value in learned(teacher):
        torch.nn.init.normal_(value, std=0.1)
    save_teacher(tmp_path, copy.deepcopy(teacher).requires_grad_(False), sam, {"temperature": 10.0})  # as the averaged one is
    assert read_teacher_card(tmp_path).temperature == 10.0
    loaded = load_teacher(tmp_path, backend(), 3)
    assert not loaded.training and not learned(loaded)
    with torch.no_grad():
        assert torch.equal(loaded(*images_and_maps()), teacher.eval()(*images_and_maps()))
    kept = set(load_tensors(tmp_path / "teacher.safetensors"))
    assert {name for name, value in teacher.named_parameters() if value.requires_grad} <= kept
    assert not {name for name, value in teacher.named_parameters() if not value.requires_grad} & kept


def test_teacher_of_another_sam_or_none_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match="no teacher.safetensors"):
        read_teacher_card(tmp_path)
    sam = backend()
    save_teacher(tmp_path, make_teacher(sam, 3, None, True), sam, {"temperature": 10.0})
    with pytest.raises(CheckpointError, match="other weights") as caught:
        load_teacher(tmp_path, backend(seed=1), 3)
    assert "--teacher-checkpoint" in caught.value.hint
    with pytest.raises(CheckpointError, match="does not fit"):
        load_teacher(tmp_path, backend(), 2)
