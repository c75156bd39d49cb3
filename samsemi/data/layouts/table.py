"""The layouts that ``prepare`` knows, and which of them the folders have. A new one is a file in this folder and a row here."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from samsemi.data.files import need_folder
from samsemi.data.layouts.acdc import find_acdc, lacks_acdc
from samsemi.data.layouts.busi import find_busi, lacks_busi
from samsemi.data.layouts.class_folders import find_class_folders, lacks_class_folders
from samsemi.data.layouts.coco import find_coco, lacks_coco
from samsemi.data.layouts.covid_qu_ex import find_covid_qu_ex, lacks_covid_qu_ex
from samsemi.data.layouts.found import Found
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.knowsam import find_knowsam, lacks_knowsam
from samsemi.data.layouts.labelme import find_labelme, lacks_labelme
from samsemi.data.layouts.nnunet import find_nnunet, lacks_nnunet
from samsemi.data.layouts.pairs import find_pairs, lacks_pairs
from samsemi.data.layouts.volumes import find_stacks, lacks_volumes
from samsemi.data.layouts.yolo import find_yolo, lacks_yolo
from samsemi.errors import DataError, UsageError


class Layout(NamedTuple):
    """How foreign data sets lie in folders."""

    looks: str
    """What they hold, for the user."""
    lacks: Callable[[Given], str]
    """What keeps the folders from being one, empty where they are; opens no image."""
    find: Callable[[Given], Found]


LAYOUTS = {
    "nnunet": Layout("dataset.json, imagesTr/CASE_0000.png, labelsTr/CASE.png, perhaps imagesTs/, labelsTs/", lacks_nnunet, find_nnunet),
    "covid-qu-ex": Layout(
        "Lung or Infection Segmentation Data/{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/{images,lung masks,infection masks}",
        lacks_covid_qu_ex,
        find_covid_qu_ex,
    ),
    "acdc": Layout("slices/patientNNN_frameNN_slice_N.h5, each with image and label", lacks_acdc, find_acdc),
    "knowsam": Layout("{labeled,unlabeled,val}/{image,mask}, or {train,val,test}/{images,masks}", lacks_knowsam, find_knowsam),
    "busi": Layout("ID_mask.png, ID_mask_1.png ... beside ID.png", lacks_busi, find_busi),
    "class-folders": Layout("images/ID.png, and masks/CLASS/ID.png for each class", lacks_class_folders, find_class_folders),
    "coco": Layout("images, and a JSON file of images, annotations and categories", lacks_coco, find_coco),
    "yolo": Layout("images/ID.jpg and labels/ID.txt of lines CLASS x1 y1 x2 y2 ..., from 0 to 1", lacks_yolo, find_yolo),
    "labelme": Layout("ID.json with shapes, beside ID.jpg or in --masks DIR", lacks_labelme, find_labelme),
    "volumes": Layout(
        "volumes or DICOM files, and masks named like them in --masks DIR or in images/ and masks/", lacks_volumes, find_stacks
    ),
    "pairs": Layout("images, and masks named like them in --masks DIR or in images/ and masks/", lacks_pairs, find_pairs),
}
"""Name -> layout. The first that lacks nothing is taken: pairs, which fit everything, come last."""


def choose_layout(given: Given, name: str = "auto") -> tuple[str, Given]:
    """The name of the layout in which the folders lie, and the folder that does: the one that was given, or the only one in it. An error
    where none does, or not the one that was named, which says what is missing."""
    wanted = LAYOUTS if name == "auto" else {name: LAYOUTS[name]}
    for folder in given.images:
        need_folder(folder)
    if given.masks and not given.masks.exists():
        raise DataError(f"--masks {given.masks}: no such folder", "check the path")
    given = replace(given, named=name != "auto")
    for alternative in given.alternatives():
        for chosen, layout in wanted.items():
            if not layout.lacks(alternative):
                return chosen, alternative
    if name != "auto":
        raise DataError(f"{given.folder} is not of the layout {name}: {LAYOUTS[name].lacks(given)}", f"{name} is {LAYOUTS[name].looks}")
    looked = "; ".join(f"{name}: {layout.lacks(given)}" for name, layout in LAYOUTS.items())
    raise UsageError(
        f"prepare needs masks for some of the images, and found none in {given.folder}", f"give --masks DIR; looked for {looked}"
    )
