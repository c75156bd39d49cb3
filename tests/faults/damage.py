"""Files cut short, and single bits turned: found and named, or without any effect on the result; never used silently."""

import random
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from faults.jobs import Words, finetune, mine
from faults.kills import Place
from faults.tally import Tally
from faults.values import Values, differences, values_of
from processes import Ended, Process, run
from small_world import CPU, MINING, World


@dataclass(frozen=True)
class Subject:
    """A file that is damaged, and the command that reads it."""

    kind: str
    pattern: str
    """The file, within the folder in which the command runs: the first of this pattern."""
    copied: Callable[[World], Mapping[str, Path]]
    """What is copied there, by name."""
    words: Callable[[World], Words]
    begun: Callable[[World], Words] | None = None
    """A command that is interrupted there first, so that the damaged file is that of a job to be taken up."""
    told_by: tuple[str, ...] = ()
    """Other words than its name by which an error tells of it."""

    def file_in(self, folder: Path) -> Path:
        return min(folder.glob(self.pattern))


def copies(*names: str) -> Callable[[World], Mapping[str, Path]]:
    return lambda world: {getattr(world, name).name: getattr(world, name) for name in names}


def export(world: World) -> Words:
    return ("export-labels", "store.h5", "--out", "out", "--quiet")


def predict(world: World) -> Words:
    return ("predict", world.images, "--model", "warm", "--out", "out", "--probabilities", *CPU)


def learn(world: World) -> Words:
    words = finetune()(world)
    return tuple("store.h5" if word == world.store else word for word in words)


def learn_from_dataset(world: World) -> Words:
    words = finetune()(world)
    return tuple("dataset" if word == world.dataset else word for word in words)


def learn_from_teacher(world: World) -> Words:
    return ("finetune", world.dataset, "--model", world.warm, "--distill", "distilled", "--out", "out", "--iterations", 2, *CPU)


def mine_with_folds(world: World) -> Words:
    return ("mine", world.dataset, "--model", "folds", "--out", "out.h5", *MINING, "--sam", "none", *CPU)


def mine_with_weights(world: World) -> Words:
    return ("mine", world.dataset, "--model", world.warm, "--sam-checkpoint", "sam.safetensors", "--out", "out.h5", *MINING, *CPU)


def compare(world: World) -> Words:
    return ("eval", world.dataset, "--model", world.warm, "--against", "eval", "--out", "out", *CPU)


def go_on(words: Callable[[World], Words]) -> Callable[[World], Words]:
    return lambda world: (*words(world), "--resume")


RECORDS, RECORD = ("made_from.json", "model.json"), "@made_from"
"""Files, and the attribute of stores, that tell the hash of what was read, which is another where a bit turned that nothing depends on."""
ANOTHER = "was mined from another data set"
DIFFERS = "cannot be resumed"
INTERRUPTED = 130
TRIES = 10
NOTHING = copies()
MINED_CACHE = mine("--embeddings", "cache.h5")
SUBJECTS = (
    Subject("store, exported", "store.h5", copies("store"), export),
    Subject("store, learnt", "store.h5", copies("store"), learn),
    Subject("cache", "cache.h5", copies("cache"), MINED_CACHE),
    Subject("checkpoint", "warm/model.safetensors", copies("warm"), predict),
    Subject("model.json", "warm/model.json", copies("warm"), predict),
    Subject("manifest", "dataset/manifest.csv", copies("dataset"), learn_from_dataset, told_by=("prepare the data set", ANOTHER)),
    Subject("dataset.json", "dataset/dataset.json", copies("dataset"), learn_from_dataset, told_by=(ANOTHER,)),
    Subject("mask", "dataset/masks/*.png", copies("dataset"), learn_from_dataset),
    Subject("out-of-fold maps", "folds/out_of_fold.h5", copies("folds"), mine_with_folds),
    Subject("teacher", "distilled/teacher.safetensors", copies("distilled"), learn_from_teacher),
    Subject("SAM weights", "sam.safetensors", copies("sam"), mine_with_weights),
    Subject("metrics.csv", "eval/metrics.csv", copies("eval"), compare),
    Subject("part of a store", "out.h5.parts/000000.h5", NOTHING, go_on(mine()), mine()),
    Subject("state", "out/last/state.safetensors", NOTHING, go_on(finetune()), finetune()),
    Subject("marks of a run", "out/last/made_from.json", NOTHING, go_on(finetune()), finetune(), told_by=(DIFFERS,)),
    Subject("options of a run", "out/config.toml", NOTHING, go_on(finetune()), finetune(), told_by=(DIFFERS,)),
)


def begin(subject: Subject, place: Place) -> None:
    """The folder with what is read, its job interrupted where one is to be taken up; again where it was done before that."""
    for _ in range(TRIES):
        ended = begin_once(subject, place)
        if not ended or ended.code == INTERRUPTED:
            return
    raise AssertionError(f"{subject.kind}: never interrupted in time: {ended}")


def begin_once(subject: Subject, place: Place) -> Ended | None:
    """How the job ended that is to be taken up; None where there is none."""
    folder = place.sandbox / "damage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, source in subject.copied(place.world).items():
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    if not subject.begun:
        return None
    process = Process(subject.begun(place.world), folder, place.log)
    there = "out/history.csv" if subject.pattern.startswith("out/") else subject.pattern
    ended = process.wait((folder / there).exists)
    if not ended:
        process.signal(signal.SIGINT)
        ended = process.wait()
    return ended


def damaged(content: bytes, dice: random.Random, number: int) -> tuple[bytes, str]:
    """The content cut short, or with a bit turned, and what was done."""
    if number % 3 == 0:
        size = dice.choice((0, 1, len(content) // 2, len(content) - 1, dice.randrange(len(content))))
        return content[:size], f"cut to {size} of {len(content)} bytes"
    place, bit = dice.randrange(len(content)), dice.randrange(8)
    turned = bytearray(content)
    turned[place] ^= 1 << bit
    return bytes(turned), f"bit {bit} of byte {place} of {len(content)} turned"


def judge(subject: Subject, file: Path, ended: Ended, found: Mapping[str, Values], wanted: Mapping[str, Values]) -> tuple[str, list[str]]:
    """Where a try counts, 'middle' where the damage was found; and what is wrong."""
    fault = ended.fault()
    if fault:
        return "middle", [fault]
    if ended.code:
        named = any(text in ended.err for text in (file.name, *subject.told_by))
        return "middle", [] if named else [f"refused without naming it: {ended.err[-300:]}"]
    lines = differences(found, wanted)
    return "closing", [f"used silently: {line}" for line in lines[:1]]


def results_in(folder: Path, damaged: str) -> dict[str, Values]:
    """What a command has written, by file, without the damaged one and what tells its hash."""
    written = {name: values for name, values in values_of(folder, broken=False).items() if not name.endswith((damaged, *RECORDS))}
    return {name: {key: value for key, value in values.items() if key != RECORD} for name, values in written.items()}


def damage(subject: Subject, place: Place, tries: int, seed: int = 0) -> Tally:
    """A row of damages to one kind of file; found is 'middle', without effect 'closing'."""
    tally = Tally(f"damaged {subject.kind}", needs_middle=False)
    begin(subject, place)
    source, folder = place.sandbox / "damage", place.folder
    name = subject.file_in(source).relative_to(source)
    content = (source / name).read_bytes()
    dice = random.Random(f"{seed} {subject.kind}")
    wanted: Mapping[str, Values] = {}
    for number in range(tries + 1):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        changed, what = damaged(content, dice, number) if number else (content, "as it was")
        (folder / name).write_bytes(changed)
        ended = run(subject.words(place.world), folder, place.log)
        found = results_in(folder, str(name))
        if not number:
            if ended.code:
                tally.lost.append(f"fails with the undamaged file: {ended.err[-300:]}")
                return tally
            wanted = found
            continue
        where, lost = judge(subject, folder / name, ended, found, wanted)
        tally.add(where, [f"{line} ({what})" for line in lost], ended)
    return tally
