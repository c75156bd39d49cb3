import numpy as np
import pytest
import torch
from builders import rectangle, write_image

from samsemi.adaptation.probe import RIDGE, cover, fit_ridge, probe, rank_auc, spread
from samsemi.data.dataset import IGNORE, Case
from samsemi.sam.preprocessing import LONGEST_SIDE
from samsemi.sam.protocol import FEATURES, Embedding

CLASSES = ("background", "cell", "nucleus", "dirt")
SHAPE = (48, 64)
CELL = 8


class Stub:
    """Sees the label in the image, 60 times the class; its embedding has a cell for each 8 x 8 px of the padded square."""

    name, side, preprocessing = "stub", 64, LONGEST_SIDE

    def __init__(self, features: str):
        self.features, self.rng = features, np.random.default_rng(0)

    def encode(self, images):
        return [Embedding({FEATURES: torch.from_numpy(self.features_of(image[..., 0] // 60))}, image.shape[:2]) for image in images]

    def features_of(self, label: np.ndarray) -> np.ndarray:
        """(5, 8, 8); in the padding noise of a hundred times the size."""
        found = self.rng.normal(size=(5, 8, 8)).astype(np.float32)
        height = label.shape[0] // CELL
        if self.features == "truth":
            shares = [(label == k).reshape(height, CELL, -1, CELL).mean(axis=(1, 3)) for k in range(1, 4)]
            found[:3, :height] = 3 + 1e-3 * np.array(shares)
        if self.features == "constant":
            found[:] = 7
        found[:, height:] *= 100
        return found


@pytest.fixture
def cases_of(tmp_path):
    """Writes labels and the images that show them as cases."""

    def write(name: str, labels: list[np.ndarray]) -> list[Case]:
        cases = []
        for i, label in enumerate(labels):
            image, mask = tmp_path / f"{name}{i}.png", tmp_path / f"{name}{i}_m.png"
            write_image(image, np.repeat((60 * np.where(label == IGNORE, 0, label))[..., None], 3, axis=2).astype(np.uint8))
            write_image(mask, label)
            cases.append(Case(f"{name}{i}", image, mask, None, name, f"{name}{i}"))
        return cases

    return write


def draw_labels(seed: int, count: int, classes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = []
    for _ in range(count):
        label = np.zeros(SHAPE, dtype=np.uint8)
        for k in classes:
            y, x = rng.integers(0, (28, 40))
            label[y : y + 20, x : x + 24] = k
        labels.append(label)
    return labels


def aucs(features: str, labeled: list[Case], measured: list[Case]) -> dict[str, float]:
    return probe(Stub(features), labeled, measured, CLASSES)


# the probe


def test_embedding_that_is_the_truth_has_an_auc_of_1(cases_of):
    labeled, measured = cases_of("a", draw_labels(0, 6, (1, 2, 3))), cases_of("b", draw_labels(1, 6, (1, 2, 3)))
    assert aucs("truth", labeled, measured) == pytest.approx({"cell": 1, "nucleus": 1, "dirt": 1}, abs=0.01)


def test_embedding_that_knows_nothing_has_an_auc_of_a_half(cases_of):
    labeled, measured = cases_of("a", draw_labels(0, 20, (1, 2))), cases_of("b", draw_labels(1, 60, (1, 2)))
    assert aucs("noise", labeled, measured) == pytest.approx({"cell": 0.5, "nucleus": 0.5}, abs=0.06)
    assert aucs("constant", labeled[:3], measured[:3]) == {"cell": 0.5, "nucleus": 0.5}


def test_class_that_cannot_be_measured_is_left_out(cases_of):
    labeled, measured = cases_of("a", draw_labels(0, 4, (1, 2))), cases_of("b", draw_labels(1, 4, (1, 3)))
    assert list(aucs("truth", labeled, measured)) == ["cell"]
    everywhere = cases_of("c", [np.ones(SHAPE, dtype=np.uint8)])
    assert aucs("truth", everywhere, measured) == aucs("truth", labeled, everywhere) == {}


def test_ignored_pixels_and_padding_are_no_cells(cases_of):
    """The lower half is ignored; where it is not, the class is where the features deny it."""
    true = draw_labels(0, 4, (1,))
    wrong = [np.where(np.arange(SHAPE[0])[:, None] < 24, label, IGNORE).astype(np.uint8) for label in true]
    labeled, measured = cases_of("a", true), cases_of("b", wrong)
    assert aucs("truth", labeled, measured)["cell"] == pytest.approx(1, abs=0.01)
    nothing = cases_of("c", [np.full(SHAPE, IGNORE, dtype=np.uint8)])
    assert aucs("truth", nothing, measured) == aucs("truth", labeled, nothing) == {}


def test_progress_advances_with_each_image(cases_of):
    steps = []
    probe(Stub("noise"), cases_of("a", draw_labels(0, 2, (1,))), cases_of("b", draw_labels(1, 3, (1,))), CLASSES, lambda: steps.append(1))
    assert len(steps) == 5


def test_cases_are_spread_over_the_split():
    assert spread(list(range(100)), 4) == [0, 33, 66, 99] and spread([5, 6], 4) == [5, 6]


# its parts


def test_cells_have_the_share_that_a_mask_covers():
    mask = rectangle(0, 0, 11, 3, (12, 16))
    assert cover(mask, (2, 2), (1.0, 1.0)) == pytest.approx(np.array([[4 / 6, 2 / 6], [0, 0]]))
    assert cover(mask, (4, 4), (4 / 3, 1.0)) == pytest.approx(np.array([[1, 1, 1, 0], [0] * 4, [0] * 4, [0] * 4])), "padded below"


def test_ridge_is_that_of_standardized_features():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)) * [1, 10, 0.1] + [5, 0, 2]
    y = (x @ [1, 0.2, -5] + rng.normal(size=50) > -5).astype(float)[:, None]
    rows = np.column_stack([np.ones(50), x, y])
    z, deviation = (x - x.mean(axis=0)) / x.std(axis=0), y - y.mean()
    wanted = np.linalg.lstsq(np.vstack([z, np.sqrt(50 * RIDGE) * np.eye(3)]), np.vstack([deviation, np.zeros((3, 1))]), rcond=None)[0]
    assert fit_ridge(rows.T @ rows, 1) == pytest.approx(wanted / x.std(axis=0)[:, None])


@pytest.mark.parametrize(
    ("scores", "truth", "wanted"),
    [([1, 2, 3, 4], "0011", 1), ([4, 3, 2, 1], "0011", 0), ([1, 2, 3, 4], "0101", 0.75), ([1, 1, 1, 2], "0110", 0.5 * 2 * 1 / 4)],
    ids=str,
)
def test_auc_is_the_share_of_pairs_in_order(scores, truth, wanted):
    assert rank_auc(np.array(scores), np.array(list(truth)) == "1") == pytest.approx(wanted)
