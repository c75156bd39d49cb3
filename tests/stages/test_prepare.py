from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samsemi.data.dataset import read_case_image, read_case_label, read_dataset
from samsemi.data.layouts import table
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.options.prepare import PrepareOptions
from samsemi.stages.prepare import prepare


@dataclass(frozen=True)
class Slice:
    """An image or mask that has to be written: a slice of an array."""

    path: Path
    number: int
    stays: bool = False

    def read(self) -> np.ndarray:
        return np.load(self.path)[self.number]

    def remarks(self) -> list[str]:
        return ["cut out of a volume"]


def test_images_that_cannot_stay_where_they_are_are_written(tmp_path, monkeypatch, shown, capsys):
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    rng = np.random.default_rng(0)
    np.save(volumes / "image.npy", rng.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8))
    np.save(volumes / "mask.npy", np.broadcast_to(np.eye(8, 9, dtype=np.int32), (6, 8, 9)))
    sources = [(Slice(volumes / "image.npy", i), Slice(volumes / "mask.npy", i)) for i in range(6)]
    cases = [FoundCase(f"s{i}", image, mask, group=f"s{i}") for i, (image, mask) in enumerate(sources)]
    monkeypatch.setattr(table, "LAYOUTS", {"volume": table.Layout("arrays", lambda given: "", lambda given: Found(cases, "6 slices"))})
    monkeypatch.setattr("samsemi.stages.prepare.LAYOUTS", table.LAYOUTS)
    prepare(PrepareOptions(images=volumes, out=tmp_path / "out", labeled=3, overwrite=True))
    dataset = read_dataset(tmp_path / "out")
    for i, case in enumerate(dataset.cases.values()):
        assert case.image == dataset.folder / "images" / f"s{i}.png"
        assert (read_case_image(case) == np.load(volumes / "image.npy")[i]).all()
        assert (case.mask is None) == (case.split == "unlabeled") and case.image_sha256
        assert (read_case_label(case, case.mask or case.truth, 2) == np.eye(8, 9)).all()
    assert "6 images cut out of a volume" in capsys.readouterr().err
    prepare(PrepareOptions(images=volumes, out=tmp_path / "out", labeled=3, overwrite=True))
