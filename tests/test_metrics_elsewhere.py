"""Metrics against those of others on the same drawn masks: equal to MONAI's; how surface-distance's, and what is often called HD95, differ.

docs/metrics.md shows the tables: `PYTHONPATH=tests python -m test_metrics_elsewhere` prints them.
"""

import math

import numpy as np
import pytest
from builders import ROOT
from scipy import ndimage

from samsemi.metrics import measure, overlap, surface

Pair = tuple[np.ndarray, np.ndarray, tuple[float, ...]]
"""(predicted, true, spacing)."""
TOLERANCE = 2.0
PAGE = ROOT / "docs" / "metrics.md"


def ball(shape: tuple[int, ...], center: tuple[float, ...], radius: tuple[float, ...]) -> np.ndarray:
    places = np.ogrid[tuple(slice(n) for n in shape)]
    return sum(((place - c) / r) ** 2 for place, c, r in zip(places, center, radius, strict=True)) <= 1


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3) > 0.05


def box(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def draw_pairs() -> dict[str, Pair]:
    image, volume = (96, 128), (20, 40, 36)
    disc, shifted = ball(image, (40, 60), (20, 25)), ball(image, (44, 57), (18, 27))
    organ, other = ball(volume, (10, 20, 18), (6, 12, 10)), ball(volume, (11, 21, 16), (6, 10, 11))
    square, narrow = (1.0, 1.0), (0.5, 2.0)
    return {
        "discs": (disc, shifted, square),
        "discs, 0.5 x 2 mm": (disc, shifted, narrow),
        "disc and a far speck": (disc | ball(image, (85, 120), (1, 1)), disc, square),
        "blobs": (blobs(image, 0), blobs(image, 1), square),
        "blobs, 0.5 x 2 mm": (blobs(image, 2), blobs(image, 3), narrow),
        "cut by the edge": (ball(image, (0, 0), (30, 40)), ball(image, (3, 0), (32, 37)), square),
        "nothing in common": (ball(image, (20, 20), (8, 8)), ball(image, (70, 100), (9, 7)), square),
        "a pixel in a disc": (box(image, (40, 41), (60, 61)), disc, square),
        "the same": (disc, disc, square),
        "volumes": (organ, other, (1.0, 1.0, 1.0)),
        "volumes, 5 x 0.8 x 0.8 mm": (organ, other, (5.0, 0.8, 0.8)),
        "blobs of a volume, 3 x 1 x 1 mm": (blobs(volume, 4), blobs(volume, 5), (3.0, 1.0, 1.0)),
    }


PAIRS = draw_pairs()


def ours(pair: Pair) -> dict[str, float]:
    predicted, true, spacing = pair
    found = measure(predicted.astype(np.uint8), true.astype(np.uint8), ("background", "organ"), spacing, TOLERANCE)["organ"]
    return {name: found[name] for name in ("dice", "iou", "hd95", "assd", "nsd")}


def monais(pair: Pair) -> dict[str, float]:
    import torch
    from monai import metrics

    predicted, true = (torch.from_numpy(mask)[None, None] for mask in pair[:2])
    given = {"include_background": True, "spacing": pair[2]}
    found = {
        "dice": metrics.compute_dice(predicted, true),
        "iou": metrics.compute_iou(predicted, true),
        "hd95": metrics.compute_hausdorff_distance(predicted, true, percentile=95, **given),
        "assd": metrics.compute_average_surface_distance(predicted, true, symmetric=True, **given),
        "nsd": metrics.compute_surface_dice(predicted, true, [TOLERANCE], **given),
    }
    return {name: float(value) for name, value in found.items()}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # MONAI's own
@pytest.mark.parametrize("name", PAIRS)
def test_metrics_equal_those_of_monai(name):
    pytest.importorskip("monai", reason="a dependency of development: pip install -e '.[dev]'")
    assert ours(PAIRS[name]) == pytest.approx(monais(PAIRS[name]), rel=1e-5, abs=1e-5)


def elements(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Where four pixels meet of which some are in the mask and some not, the length of the contour there: half a diagonal where it cuts off
    one pixel of the four, a side between two pairs, a whole diagonal between two on a diagonal."""
    height, width = spacing
    a, b, c, d = (np.pad(mask, 1)[rows, columns] for rows in (slice(-1), slice(1, None)) for columns in (slice(-1), slice(1, None)))
    count, diagonal = a.astype(int) + b + c + d, math.hypot(height, width)
    kinds = [count % 2 == 1, (count == 2) & (a == d), (count == 2) & (a == b), count == 2]
    return np.select(kinds, [diagonal / 2, diagonal, width, height])


def of_elements(pair: Pair) -> dict[str, float]:
    """By the definitions of surface-distance (2D): the border is where pixels meet, and each piece of it counts by its length. On these
    masks equal, to four digits, to what surface-distance 0.1 itself gives."""
    lengths = [elements(mask, pair[2]) for mask in pair[:2]]
    distances = [ndimage.distance_transform_edt(one == 0, sampling=pair[2]) for one in lengths]
    directed = [(distances[1 - i][lengths[i] > 0], lengths[i][lengths[i] > 0]) for i in (0, 1)]
    values, weights = (np.concatenate(parts) for parts in zip(*directed, strict=True))
    return {
        "hd95": max(quantile_of(*one) for one in directed),
        "assd": float(np.average(values, weights=weights)),
        "nsd": float(weights[values <= TOLERANCE].sum() / weights.sum()),
    }


def quantile_of(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    shares = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(np.searchsorted(shares, 0.95), len(values) - 1)])


def hausdorff(pair: Pair) -> float:
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in pair[:2]]
    distances = [ndimage.distance_transform_edt(~border, sampling=pair[2]) for border in borders]
    return float(max(distances[1][borders[0]].max(), distances[0][borders[1]].max()))


def test_elements_of_a_square_are_its_sides_with_its_corners_cut():
    lengths = elements(box((9, 9), (2, 6), (3, 7)), (1.0, 1.0))
    assert lengths.sum() == pytest.approx(4 * 3 + 4 * math.sqrt(2) / 2)
    assert elements(box((9, 9), (2, 6), (3, 7)), (0.5, 2.0)).sum() == pytest.approx(2 * 3 * 2.5 + 4 * math.hypot(0.5, 2) / 2)


def test_surface_distance_weighs_pieces_of_the_border_by_their_length():
    """Two lines of 20 pixels, 6 apart: both say 6. In the squares of 5 x 5 and 3 x 3 around one middle, 12 of 16 border pixels of the outer
    and all 8 of the inner are 1 away; of the contours the corners are shorter than the sides."""
    lines = (box((30, 30), (4, 5), (5, 25)), box((30, 30), (10, 11), (5, 25)), (1.0, 1.0))
    assert of_elements(lines)["hd95"] == ours(lines)["hd95"] == 6
    squares = (box((20, 20), (5, 10), (5, 10)), box((20, 20), (6, 9), (6, 9)), (1.0, 1.0))
    outer, inner, corner = 4 * 4 + 2 * math.sqrt(2), 4 * 2 + 2 * math.sqrt(2), math.sqrt(2)
    far = 2 * math.sqrt(2) * corner + 4 * 4 * 1 + inner * 1  # the outer corners are sqrt(2) from the inner ones
    assert of_elements(squares)["assd"] == pytest.approx(far / (outer + inner))
    assert ours(squares)["assd"] == pytest.approx((12 + 4 * math.sqrt(2) + 8) / 24) != of_elements(squares)["assd"]


def monai_table() -> list[str]:
    rows = [[name, *(f"{value:.3f}" for value in ours(pair).values())] for name, pair in PAIRS.items()]
    return as_table(["masks", "Dice", "IoU", "HD95", "ASSD", "NSD"], rows)


def others_table() -> list[str]:
    """Of images alone."""
    rows = []
    for name, pair in PAIRS.items():
        if len(pair[2]) == 2:
            both = zip((ours(pair)[metric] for metric in ("hd95", "assd", "nsd")), of_elements(pair).values(), strict=True)
            rows.append([name, *(f"{own:.2f} / {other:.2f}" for own, other in both), f"{0.95 * hausdorff(pair):.2f}"])
    return as_table(["masks", "HD95: samsemi / surface-distance", "ASSD", "NSD", "0.95 x Hausdorff"], rows)


def misses_table() -> list[str]:
    """The mean HD95 of three cases, one of which is missed, as it is counted."""
    disc, shifted, spacing = PAIRS["discs"]
    found = [surface(*masks, spacing, TOLERANCE)["hd95"] for masks in ((shifted, disc), PAIRS["blobs"][:2], (disc & False, disc))]
    counted = {"the diagonal (samsemi)": found, "0": [*found[:2], 0.0], "left out (MONAI: NaN or infinite)": found[:2]}
    return as_table(["a miss counts as", "mean HD95"], [[name, f"{np.mean(values):.1f}"] for name, values in counted.items()])


def as_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


@pytest.mark.parametrize("table", [monai_table, others_table, misses_table])
def test_page_shows_what_is_measured(table):
    assert "\n".join(table()) in PAGE.read_text(encoding="utf-8")


def test_shrunken_maximum_is_not_the_percentile():
    """A far speck of five pixels makes the one, and is nothing to the other."""
    assert ours(PAIRS["disc and a far speck"])["hd95"] == 0 and hausdorff(PAIRS["disc and a far speck"]) > 50
    told = {name: (ours(pair)["hd95"], 0.95 * hausdorff(pair)) for name, pair in PAIRS.items() if overlap(*pair[:2])["dice"] < 1}
    assert all(own != pytest.approx(other, rel=1e-3) for own, other in told.values())


if __name__ == "__main__":
    for table in (monai_table, others_table, misses_table):
        print(*table(), "", sep="\n")
