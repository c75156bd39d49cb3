"""``samsemi check``: every problem of a data set at once."""

from samsemi import console
from samsemi.data.dataset import complain, read_dataset
from samsemi.data.verify import verify
from samsemi.options.check import CheckOptions


def check(options: CheckOptions) -> dict[str, object]:
    """Open every image and mask, name every problem; DataError if there is one."""
    dataset = read_dataset(options.dataset)
    with console.progress("check", len(dataset.cases)) as advance:
        problems, found, missing_classes = verify(dataset, advance)
    complain(str(options.dataset), problems + missing_classes, "repair or restore these files, or prepare the data set again")
    return {"dataset": str(options.dataset), "problems": 0, **found}
