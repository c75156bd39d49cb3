"""KnowSAM, and all data sets that come in splits: {labeled,unlabeled,val}/{image,mask}, {train,val,test}/{images,masks}.

Source: https://github.com/taozh2017/KnowSAM, its data folder.
"""

from pathlib import Path

from samsemi.data.files import list_entries
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import IMAGES, SPLIT_NAMES, Given, find_folder, find_masks
from samsemi.data.layouts.pairs import pair_folders


def lacks_knowsam(given: Given) -> str:
    """Whether there are two splits with images, and masks in one of them."""
    if lack := given.lacks_whole():
        return lack
    splits = split_folders(given.folder)
    if len(splits) < 2:
        return "no two folders of splits (labeled, unlabeled, train, val, test) with image/ or images/"
    return "" if any(find_masks(folder) for folder in splits) else "no mask/ or masks/ of pictures in any split"


def split_folders(folder: Path) -> list[Path]:
    """The folders named like splits that have a folder of images."""
    return [path for path in list_entries(folder) if path.name.casefold() in SPLIT_NAMES and find_folder(path, *IMAGES)]


def find_knowsam(given: Given) -> Found:
    """A case for each image, in its own split; those of train are dealt. Images without a mask are unlabeled."""
    cases: list[FoundCase] = []
    said = []
    for folder in split_folders(given.folder):
        images, masks = find_folder(folder, *IMAGES), find_masks(folder)
        assert images is not None, "see split_folders"
        found = pair_folders(images, masks, f"{folder.name}__", SPLIT_NAMES[folder.name.casefold()])
        said.append(f"{folder.name} {len(found)}, {sum(case.mask is not None for case in found)} with a mask")
        cases += found
    return Found(cases, f"images: {'; '.join(said)}")
