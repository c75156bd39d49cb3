"""Every sample is read to the pixel, or refused with a hint; what the page says of them is what becomes of them."""

import numpy as np
import pytest
from builders import DATA, USAGE
from foreign.table import PAGE, TABLES, make_table, replace_table, try_all
from foreign.world import Sample, number_of

from samsemi.data.dataset import Dataset, read_case_image, read_case_label, read_dataset

SAMPLES = {sample.what: (name, sample) for name, samples in TABLES.items() for sample in samples}


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Table -> sample -> it, and its outcome; and where the data sets lie."""
    places = {name: tmp_path_factory.mktemp(name) for name in TABLES}
    return {name: try_all(samples, places[name]) for name, samples in TABLES.items()}, places


@pytest.mark.parametrize("what", SAMPLES)
def test_sample_is_read_to_the_pixel_or_refused_with_a_hint(tried, what):
    name, sample = SAMPLES[what]
    outcomes, places = tried
    outcome = outcomes[name][what][1]
    number = [other.what for other in TABLES[name]].index(what)
    if sample.label is None:
        error, hint = outcome.err.splitlines()[-2:]
        assert outcome.code in (USAGE, DATA) and error.startswith("error: ") and len(hint) > len("hint: ")
        assert not (places[name] / str(number) / "data").exists()
    else:
        assert outcome.code == 0, outcome.err
        compare(read_dataset(places[name] / str(number) / "data"), sample)


def compare(dataset: Dataset, sample: Sample) -> None:
    """Every case has the image and the mask that were drawn."""
    assert len(dataset.cases) == sample.cases and sample.label
    for case in dataset.cases.values():
        number = number_of(case.id)
        if sample.image:
            assert (read_case_image(case) == sample.image(number)).all(), case.id
        path = case.mask or case.truth
        if path:
            assert np.array_equal(read_case_label(case, path, len(dataset.classes)), sample.label(number)), case.id
    assert any(case.mask for case in dataset.cases.values())


@pytest.mark.parametrize("name", TABLES)
def test_page_says_what_becomes_of_the_samples(tried, name):
    page = PAGE.read_text(encoding="utf-8")
    assert f"<!-- {name} -->" in page
    assert replace_table(page, name, make_table(tried[0][name])) == page, "PYTHONPATH=tests python -m foreign remakes the tables"
