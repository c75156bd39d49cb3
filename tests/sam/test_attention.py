from copy import deepcopy
from functools import partial

import pytest
import torch
from builders import build_sam
from segment_anything.modeling import ImageEncoderViT
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from samsemi.sam.attention import FoldedAttention, make_faster
from samsemi.sam.tiny import DOT_RADII, draw_boxes, draw_points


def build_encoder(use_rel_pos: bool = True, head_width: int = 8) -> ImageEncoderViT:
    """Like vit_b's, small: windows that do not divide the image, global blocks, relative positions that are not 0."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=160,
        patch_size=16,
        embed_dim=3 * head_width,
        depth=4,
        num_heads=3,
        out_chans=16,
        use_rel_pos=use_rel_pos,
        window_size=7,
        global_attn_indexes=(1, 3),
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "pos" in name:
                weight.normal_(std=0.7)
    return encoder.eval()


@pytest.mark.parametrize("use_rel_pos", [True, False])
@pytest.mark.parametrize("head_width", [8, 5], ids=["aligned", "not aligned"])
def test_encoder_gives_what_segment_anythings_does(use_rel_pos, head_width):
    encoder = build_encoder(use_rel_pos, head_width)
    faster = make_faster(deepcopy(encoder))
    images = torch.randn(3, 3, 160, 160)
    with torch.no_grad():
        wanted, found = encoder(images), faster(images)
    assert wanted.std() > 0.3
    assert (wanted - found).abs().max() < 1e-5
    assert faster.state_dict().keys() == encoder.state_dict().keys()
    assert any(isinstance(module, FoldedAttention) for module in faster.modules())


def test_relative_positions_are_interpolated_as_segment_anything_does_at_another_size():
    encoder = build_encoder()
    attention, x = encoder.blocks[1].attn, torch.randn(1, 6, 9, 24)
    with torch.no_grad():
        assert (attention(x) - FoldedAttention(attention)(x)).abs().max() < 1e-5


def test_gradients_of_the_weights_are_those_of_segment_anything():
    encoder = build_encoder()
    faster = make_faster(deepcopy(encoder))
    images = torch.randn(2, 3, 160, 160)
    for network in (encoder, faster):
        network(images).square().mean().backward()
    others = dict(faster.named_parameters())
    for name, weight in encoder.named_parameters():
        assert torch.allclose(weight.grad, others[name].grad, rtol=1e-3, atol=1e-6), name


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(x.numel() for x in (made if isinstance(made, tuple) else [made]) if torch.is_tensor(x))])
        return made


def test_attention_makes_no_matrix_of_all_pairs_of_cells():
    attention, cells = build_encoder().blocks[1].attn, 20 * 20
    x = torch.randn(1, 20, 20, 24)
    with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        with LargestTensor() as folded:
            FoldedAttention(attention)(x)
        with LargestTensor() as original:
            attention(x)
    assert folded.elements < 3 * cells * cells / 2 < original.elements


@pytest.mark.parametrize("dense_mask", [False, True])
def test_decoder_gives_what_segment_anythings_does(dense_mask):
    sam = build_sam(64, 16)
    faster = make_faster(deepcopy(sam))
    features, sparse = torch.randn(1, 16, 4, 4), torch.randn(5, 3, 16)
    masks = torch.randn(5, 1, 16, 16) if dense_mask else None
    with torch.no_grad():
        _, dense = sam.prompt_encoder(None, torch.rand(5, 4) * 64, masks)
        position = sam.prompt_encoder.get_dense_pe()
        wanted = sam.mask_decoder(features, position, sparse, dense, multimask_output=True)
        found = faster.mask_decoder(features, position, sparse, dense, multimask_output=True)
    assert wanted[0].std() > 0.05
    for one, other in zip(wanted, found, strict=True):
        assert (one - other).abs().max() < 1e-5


def test_points_and_boxes_are_drawn_cell_by_cell():
    """Against the distance of every cell, which the drawing takes apart into rows and columns."""
    axis, side = (torch.arange(16) + 0.5) * 16 - 0.5, 256
    coords, labels = torch.rand(3, 4, 2) * side, torch.tensor([[1, 0, 1, -1], [0, 0, 0, 0], [1, 1, 1, 1]]).float()
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    squares = (x - coords[..., 0, None, None]) ** 2 + (y - coords[..., 1, None, None]) ** 2
    wanted = [(torch.exp(-squares / (2 * r * r)) * (labels == kind)[..., None, None]).amax(1) for kind in (1, 0) for r in DOT_RADII]
    found = draw_points(axis, coords, labels)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True)) and wanted[0].max() > 0.1
    boxes = torch.tensor([[10.0, 30.0, 99.0, 200.0], [100.0, 100.0, 100.0, 100.0]])
    mark, u, v, ellipse, inside, size, outside = draw_boxes(axis, boxes, side)
    x0, y0, x1, y1 = boxes[0].tolist()
    place = ((2 * x - x0 - x1) / (x1 - x0 + 1)).clamp(-2, 2), ((2 * y - y0 - y1) / (y1 - y0 + 1)).clamp(-2, 2)
    assert torch.allclose(u[0], place[0]) and torch.allclose(v[0], place[1]) and (mark == 1).all() and mark.shape == (2, 16, 16)
    assert torch.equal(inside[0].bool(), (x > x0 - 0.5) & (x < x1 + 0.5) & (y > y0 - 0.5) & (y < y1 + 0.5))
    assert torch.allclose(ellipse[0], (u[0] ** 2 + v[0] ** 2).clamp(max=4) - 1) and torch.equal(inside, (outside < 0).float())
    assert torch.allclose(size[0], torch.tensor((90 * 171) ** 0.5 / side))
