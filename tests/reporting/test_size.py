"""The size of a page."""

import numpy as np
from builders import mined_of, write_image

from samsemi.data.dataset import Case, Dataset
from samsemi.mining.policy import Policy
from samsemi.mining.store import Provenance, Store
from samsemi.mining.store_writer import StoreWriter
from samsemi.reporting.page import ClassKey, Section, render_page
from samsemi.reporting.pictures import picture_mined

MOST = 15e6
PICTURED = 60


def test_sixty_pictured_cases_of_noise_stay_below_15_mb(tmp_path):
    """Large images that cannot be compressed, with ragged masks and weights: more than any real case takes."""
    rng = np.random.default_rng(0)
    write_image(tmp_path / "noise.png", rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8))
    case = Case("noise", tmp_path / "noise.png", None, None, "unlabeled", "noise")
    dataset = Dataset(tmp_path, "noise", ("background", "cell"), None, {"noise": case})
    ragged = (rng.random((64, 64)) * np.linspace(1.2, 0.2, 64)).clip(0, 1)
    writer = StoreWriter(tmp_path / "s.h5", Provenance({}, {}, {}), 64, num_points=0, num_classes=2)
    writer.add("noise", (1200, 1200), mined_of(ragged, ragged.T, image_size=(1200, 1200), boxes=[[0, 0, 1199, 1199]] * 2))
    writer.commit(0)
    writer.finish(["noise"])
    picture = picture_mined(case, "noise", dataset, Store(tmp_path / "s.h5"), Policy(), [])
    sections = [Section("pictures", "Pictures", pictures=[picture] * PICTURED)]
    page = render_page("noise", [], sections, [ClassKey("cell", "#ffffff")], "0")
    one = render_page("noise", [], [Section("pictures", "Pictures", pictures=[picture])], [], "0")
    assert len(one.encode()) > 100_000 and len(page.encode()) < MOST
