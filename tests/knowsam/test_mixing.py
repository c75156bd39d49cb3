import pytest
import torch

from samsemi.knowsam.mixing import choose_cells, mix_regions
from samsemi.training.batches import Sample

SIZE, GRID = 8, 4


def sample_of(base: float, count: int = 2) -> Sample:
    """Every pixel is a number of its own, the same in image, target and weight."""
    numbers = base + torch.arange(count * SIZE * SIZE).view(count, SIZE, SIZE).float()
    return Sample(numbers[:, None].expand(-1, 3, -1, -1), numbers[:, None].expand(-1, 2, -1, -1), numbers)


def cells_of(mask: torch.Tensor) -> list[set[tuple[int, int]]]:
    """Which 2 x 2 cells are set; fails where one is set in part."""
    blocks = mask.unflatten(2, (GRID, SIZE // GRID)).unflatten(1, (GRID, SIZE // GRID)).float().mean(dim=(2, 4))
    assert ((blocks == 0) | (blocks == 1)).all()
    return [{tuple(cell) for cell in image.nonzero().tolist()} for image in blocks]


def entropy_with(*peaks: tuple[int, int]) -> torch.Tensor:
    """(1, 1, 8, 8), lowest at the left, with some pixels high."""
    entropy = torch.arange(SIZE).float().div(100).expand(1, 1, SIZE, SIZE).clone()
    for y, x in peaks:
        entropy[0, 0, y, x] = 1
    return entropy


def test_cells_of_highest_entropy_are_chosen():
    assert cells_of(choose_cells(entropy_with((1, 0), (7, 5)), "highest", 2, GRID)) == [{(0, 0), (3, 2)}]


def test_cells_of_lowest_entropy_are_chosen():
    assert cells_of(choose_cells(entropy_with((0, 0)), "lowest", 3, GRID)) == [{(1, 0), (2, 0), (3, 0)}]


@pytest.mark.parametrize("size", [8, 32])
def test_as_many_cells_are_chosen_as_asked_for(size):
    torch.manual_seed(0)
    chosen = choose_cells(torch.rand(3, 1, size, size), "highest", 5, GRID)
    assert chosen.dtype == torch.bool and chosen.shape == (3, size, size)
    assert chosen.float().mean(dim=(1, 2)).tolist() == [5 / 16] * 3


@pytest.mark.parametrize("which", ["highest", "lowest"])
def test_image_target_and_weight_stay_together(which):
    torch.manual_seed(0)
    labeled, unlabeled = sample_of(0), sample_of(10_000)
    mixed = mix_regions(labeled, unlabeled, torch.rand(4, 1, SIZE, SIZE), which, 5, GRID)
    assert torch.equal(mixed.image[:, 0], mixed.weight) and torch.equal(mixed.target[:, 1], mixed.weight)


def test_images_are_mixed_with_their_partner_in_their_own_cells():
    labeled, unlabeled = sample_of(0), sample_of(10_000)
    entropy = torch.cat([entropy_with((0, 0)), entropy_with((0, 2)), entropy_with((4, 4)), entropy_with((6, 6))])
    mixed = mix_regions(labeled, unlabeled, entropy, "highest", 1, GRID)
    assert len(mixed.image) == 4
    foreign = torch.cat([mixed.weight[:2] >= 10_000, mixed.weight[2:] < 10_000])
    assert cells_of(foreign) == [{(0, 0)}, {(0, 1)}, {(2, 2)}, {(3, 3)}]
    partners = torch.cat([unlabeled.weight, labeled.weight])
    assert torch.equal(mixed.weight[foreign], partners[foreign])
