"""COVID-QU-Ex: {Lung,Infection} Segmentation Data/{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/{images,lung masks,infection masks}.

Source: Tahir et al., COVID-19 infection localization and severity grading from chest X-ray images, Computers in Biology and Medicine 2021.
"""

from pathlib import Path

from samsemi.data.files import list_entries
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import SPLIT_NAMES, Given, find_folder
from samsemi.data.layouts.pairs import pair_folders
from samsemi.errors import UsageError

PARTS = {"lung": "Lung Segmentation Data", "infection": "Infection Segmentation Data"}
"""What is segmented -> the folder of its part of the data set."""
KINDS = {"covid-19", "non-covid", "normal"}


def lacks_covid_qu_ex(given: Given) -> str:
    """Whether there is a part with the masks that are wanted."""
    if lack := given.lacks_whole():
        return lack
    wanted = [given.target] if given.target else list(PARTS)
    if any(kind_folders(part) for target in wanted if (part := find_part(given.folder, target))):
        return ""
    return f"no {' or '.join(PARTS[target] for target in wanted)}/{{Train,Val,Test}}"


def find_part(folder: Path, target: str) -> Path | None:
    """The part of the data set, packed into a folder of its own name or not, or that part itself."""
    part = find_folder(folder, PARTS[target]) or (folder if folder.name == PARTS[target] else None)
    return (find_folder(part, PARTS[target]) or part) if part else None


def kind_folders(part: Path) -> list[Path]:
    """{Train,Val,Test}/{COVID-19,Non-COVID,Normal} below a part."""
    splits = [path for path in list_entries(part) if path.name.casefold() in SPLIT_NAMES]
    return [path for split in splits for path in list_entries(split) if path.name.casefold() in KINDS and find_folder(path, "images")]


def find_covid_qu_ex(given: Given) -> Found:
    """A case for each image of the part, in its own split; those of Train are dealt."""
    target = given.target or one_target(given)
    part = find_part(given.folder, target)
    assert part is not None, "see lacks_covid_qu_ex"
    cases: list[FoundCase] = []
    for folder in kind_folders(part):
        images, split = find_folder(folder, "images"), folder.parent.name
        assert images is not None, "see kind_folders"
        cases += pair_folders(images, find_folder(folder, f"{target} masks"), f"{split}__{folder.name}__", SPLIT_NAMES[split.casefold()])
    masks = sum(case.mask is not None for case in cases)
    return Found(cases, f"{part.name}: {len(cases)} images, {masks} with a mask of the {target}", (target,))


def one_target(given: Given) -> str:
    """The only part that there is; UsageError where there are both."""
    there = [target for target in PARTS if find_part(given.folder, target)]
    if len(there) > 1:
        raise UsageError(f"{given.folder} holds masks of lungs and of infections", "give --target lung or --target infection")
    return there[0]
