"""The options of every stage: one frozen dataclass per command, one field per option.

The field is the option: its name is the flag and the key in a TOML file, its annotation holds type, help and range.
``samsemi.cli`` turns fields into flags; notebooks build the dataclass or call ``samsemi.mine(dataset=..., ...)``.
Values are checked here whichever way they come in; a wrong one raises UsageError naming the flag.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from samsemi.errors import UsageError
from samsemi.fields import Options
from samsemi.shared_options import (
    Dataset,
    DecoderChannels,
    DeviceOptions,
    Keep,
    LearningRate,
    ModelRun,
    NetworkSize,
    OutputOptions,
    OutRun,
    PolicyOptions,
    ResumableOptions,
    SamCheckpoint,
    SamName,
    TrainingOptions,
)

PROMPT_KINDS = ("box", "point", "mask")
SPLITS = ("labeled", "unlabeled", "val", "test")


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(OutputOptions):
    """Turn a folder of images and one of masks into a data set with splits."""

    images: Annotated[Path, Argument(help="Folder of images; sub-folders are searched.", show_default=False)]
    masks: Annotated[Path | None, Option(help="Folder of masks, matched to the images by file name, with or without a suffix.")] = None
    out: Annotated[Path, Option(help="Data set folder to write.", show_default=False)]
    labeled: Annotated[float, Option(min=0.0, help="Labeled share of the cases that have a mask; above 1: how many cases.")] = 0.1
    val: Annotated[float, Option(min=0.0, help="Validation share, or how many cases.")] = 0.1
    test: Annotated[float, Option(min=0.0, help="Test share, or how many cases.")] = 0.1
    groups: Annotated[
        str | None, Option(help="Regular expression that finds the patient in an image's name; patients are never split.")
    ] = None
    classes: Annotated[str | None, Option(help="Names of classes 1, 2, ..., joined by commas.")] = None
    split: Annotated[Path | None, Option(help="CSV file with columns id,split (and group), instead of shares.")] = None
    spacing_mm: Annotated[float | None, Option(min=1e-6, help="Size of a pixel in mm, where all images share one.")] = None
    seed: Annotated[int, Option(min=0, help="Seed of the split.")] = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("labeled", "val", "test"):
            value = getattr(self, name)
            if value > 1 and not float(value).is_integer():
                raise UsageError(f"--{name} {value} is neither a share nor a number of cases", "give 0..1, or a whole number above 1")


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Say every problem of a data set at once, and what was found in it."""

    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class WarmstartOptions(TrainingOptions):
    """Train a U-Net++ on the labeled cases."""

    dataset: Dataset
    out: OutRun
    size: NetworkSize = 256
    encoder: Annotated[str, Option(help="Any encoder of segmentation-models-pytorch.")] = "resnet34"
    encoder_weights: Annotated[str, Option(help="none, imagenet (downloads them), or a checkpoint FILE of the encoder.")] = "none"
    decoder_channels: DecoderChannels = "256,128,64,32,16"
    folds: Annotated[int | None, Option(min=2, help="Also train this many models on parts of the labeled cases, for out-of-fold maps.")] = (
        None
    )

    def __post_init__(self):
        super().__post_init__()
        check_network(self)


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(TrainingOptions):
    """Fit SAM to the labeled cases, or only measure how well it answers prompts."""

    dataset: Dataset
    sam: SamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    out: Annotated[Path | None, Option(help="SAM weights to write (.safetensors); the run goes beside them.", show_default=False)] = None
    model: Annotated[
        Path | None, Option(help="Run folder of `samsemi warmstart --folds`: SAM also learns to mend its out-of-fold masks.")
    ] = None
    lora: Annotated[int | None, Option(min=1, help="Also train low-rank adapters of this rank in the image encoder.")] = None
    all: Annotated[bool, Option("--all", help="Train everything, the image encoder too (small models).")] = False
    from_scratch: Annotated[bool, Option("--from-scratch", help="Start from random weights.")] = False
    stream: Annotated[
        str | None,
        Option(help="MODULE:FUNCTION that draws scene n, instead of labeled cases: n -> image (H, W, 3) uint8, masks (N, H, W) bool."),
    ] = None
    iterations: Annotated[int, Option(min=1, help="Optimizer steps.")] = 1000
    lr: LearningRate = 1e-4
    keep: Keep = "best"
    optimizer: Annotated[Literal["adamw", "muon"], Option(help="muon: for the matrices of linear layers, quicker from scratch.")] = "adamw"
    clicks: Annotated[int, Option(min=0, help="How often an answer is corrected by a point in its error.")] = 2
    overlays: Annotated[
        int, Option(min=0, help="Pictures of so many val cases: truth, and SAM's answer to a jittered box before and after.")
    ] = 8
    evaluate: Annotated[bool, Option("--evaluate", help="Only measure, on --split.")] = False
    split: Annotated[Literal["labeled", "val", "test"], Option(help="Cases that --evaluate measures.")] = "val"

    def __post_init__(self):
        super().__post_init__()
        if self.evaluate == (self.out is not None):
            raise UsageError("adapt either trains or measures", "give --out SAM.safetensors, or --evaluate")
        if self.all and self.lora:
            raise UsageError("--all and --lora exclude each other", "give one of them")
        if self.from_scratch and not (self.all or self.evaluate):
            raise UsageError("--from-scratch needs --all", "give it too: a random image encoder cannot stay as it is")
        if self.stream and self.model:
            raise UsageError("--stream and --model exclude each other", "give one of them")
        if self.from_scratch and self.sam_checkpoint:
            raise UsageError("--from-scratch and --sam-checkpoint exclude each other", "give one of them")
        if self.out is not None and self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out} does not end in .safetensors", "name it SAM.safetensors")


@dataclass(frozen=True, kw_only=True)
class MineOptions(ResumableOptions, DeviceOptions, PolicyOptions):
    """Turn the model's masks on the unlabeled cases into prompts, ask SAM, keep the answers in a store."""

    dataset: Dataset
    model: ModelRun
    out: Annotated[Path, Option(help="Pseudo-label store to write (HDF5).", show_default=False)]
    sam: SamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    prompts: Annotated[
        str, Option(help="Kinds of prompt, box, point, mask, joined by +; alternatives, joined by commas, are all asked and averaged.")
    ] = "box+point"
    box_margin: Annotated[int, Option(min=0, help="Pixels added on each side of an object's box.")] = 2
    jitters: Annotated[int, Option(min=0, help="How often each alternative is asked again with the sides of the box moved.")] = 0
    passes: Annotated[int, Option(min=1, max=5, help="2: ask again with the first answer as mask prompt.")] = 1
    positive_points: Annotated[int, Option(min=1, help="Points in each object.")] = 1
    negative_points: Annotated[int, Option(min=0, help="Points beside each object, in its box.")] = 1
    other_points: Annotated[int, Option(min=0, help="Negative points on the nearest objects of other classes.")] = 0
    min_area: Annotated[int, Option(min=1, help="Smallest object in pixels of the image.")] = 64
    flips: Annotated[bool, Option("--flips/--no-flips", help="Average the model's map over mirrored views.")] = True
    calibrate: Annotated[
        bool, Option("--calibrate/--no-calibrate", help="Fit what is accepted to val and to MODEL's out-of-fold maps.")
    ] = True
    target_precision: Annotated[
        float, Option(min=0.0, max=1.0, help="Share of the accepted objects that should be right (IoU 0.5 with a true one).")
    ] = 0.8
    embeddings: Annotated[Path | None, Option(help="Cache of SAM's image embeddings (HDF5), kept for the next time.")] = None
    batch_size: Annotated[int, Option(min=1, help="Images per batch of the model and of SAM's encoder.")] = 8
    overlays: Annotated[int, Option(min=0, help="Pictures of so many cases, beside the store: model, prompts, SAM.")] = 0

    def __post_init__(self):
        super().__post_init__()
        parse_prompts(self.prompts)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions, PolicyOptions):
    """Train the model on, with labeled cases and mined pseudo-labels; without a store, with labeled cases alone."""

    dataset: Dataset
    model: ModelRun
    out: OutRun
    store: Annotated[Path | None, Option(help="Pseudo-label store, made by `samsemi mine`.")] = None
    schedule: Annotated[Literal["once", "continuous"], Option(help="continuous: mine again with the model being trained.")] = "once"
    rounds: Annotated[
        int, Option(min=1, help="Share the iterations out to rounds: each mines with the last one's model and starts again from --model.")
    ] = 1
    remine_every: Annotated[int | None, Option(min=1, help="Steps between minings; default: a quarter of --iterations.")] = None
    lr: LearningRate = 1e-3
    pseudo_weight: Annotated[float, Option(min=0.0, max=10.0, help="Weight of the pseudo-label loss after the ramp-up.")] = 1.0
    pseudo_share: Annotated[float, Option(min=0.05, max=0.95, help="Share of each batch that is unlabeled.")] = 0.5
    ramp_up: Annotated[float, Option(min=0.0, max=1.0, help="Share of the iterations over which that weight grows.")] = 0.4
    from_scratch: Annotated[bool, Option("--from-scratch", help="Start each round from random weights of --model's network.")] = False
    strong: Annotated[bool, Option("--strong/--weak", help="Strong colors, blur and CutMix on the unlabeled part.")] = True
    sam: Annotated[str | None, Option(help="The store's SAM where it is MODULE:FUNCTION, for mining again.")] = None
    sam_checkpoint: Annotated[Path | None, Option(help="Weights of the store's SAM, for mining again.")] = None
    embeddings: Annotated[Path | None, Option(help="Cache of SAM's image embeddings; default: in the run folder.")] = None
    distill: Annotated[Path | None, Option(help="Run of `samsemi distill`: what its SAM says of every image is learnt as well.")] = None
    distill_weight: Annotated[float, Option(min=0.0, help="Weight of learning from that SAM.")] = 1.0
    teacher_checkpoint: Annotated[Path | None, Option(help="Weights of the SAM of --distill, where they are not in the package.")] = None

    def __post_init__(self):
        super().__post_init__()
        for asked, given in (("--schedule continuous", self.schedule == "continuous"), ("--rounds", self.rounds > 1)):
            if given and self.store is None:
                raise UsageError(f"{asked} needs --store", "run `samsemi mine` first and give its store")
        if self.schedule == "continuous" and self.rounds > 1:
            raise UsageError("--schedule continuous and --rounds exclude each other", "give one of them")
        if self.rounds > self.iterations:
            raise UsageError(f"--rounds {self.rounds} is more than --iterations {self.iterations}", "give fewer rounds")


@dataclass(frozen=True, kw_only=True)
class DistillOptions(TrainingOptions, PolicyOptions):
    """KnowSAM: two small networks teach each other, and a SAM that learns to prompt itself teaches both."""

    dataset: Dataset
    out: OutRun
    sam: SamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    sam_size: Annotated[int | None, Option(min=32, help="Side in pixels at which SAM sees an image; default: its own, 256 at most.")] = None
    store: Annotated[Path | None, Option(help="Pseudo-label store of `samsemi mine`: its labels are learnt as well.")] = None
    peers: Annotated[
        str, Option(help="Two networks: unet, vnet (as published), or ARCHITECTURE:ENCODER of segmentation-models-pytorch.")
    ] = "unet,vnet"
    size: NetworkSize = 256
    encoder_weights: Annotated[Literal["none", "imagenet"], Option(help="Of peers with an encoder; imagenet downloads them.")] = "none"
    decoder_channels: DecoderChannels = "256,128,64,32,16"
    iterations: Annotated[int, Option(min=1, help="Optimizer steps.")] = 50_000
    batch_size: Annotated[int, Option(min=4, help="Images per step, half of them labeled.")] = 24
    lr: Annotated[
        float,
        Option(min=1e-8, max=10.0, help="Highest learning rate of the peers: of sgd it falls in a line, of adamw as in all trainings."),
    ] = 0.01
    optimizer: Annotated[Literal["sgd", "adamw"], Option(help="Of the peers; adamw, with a lower --lr, for short runs.")] = "sgd"
    sam_lr: Annotated[float, Option(min=1e-8, max=10.0, help="Highest learning rate of SAM's adapters and prompts (Adam).")] = 1e-4
    temperature: Annotated[float, Option(min=0.1, help="Softens what SAM says before it is learnt.")] = 10.0
    distill_weight: Annotated[float, Option(min=0.0, help="Weight of learning from SAM.")] = 1.0
    entropy_weight: Annotated[float, Option(min=0.0, help="Weight of being sure.")] = 0.9
    mutual_weight: Annotated[float, Option(min=0.0, help="Weight of learning from the other peer, after the ramp-up.")] = 1.0
    store_weight: Annotated[float, Option(min=0.0, help="Weight of learning from --store, after the ramp-up.")] = 1.0
    mix: Annotated[
        Literal["highest", "lowest"],
        Option(help="Cells of an image that are replaced by those of another: of highest or lowest uncertainty."),
    ] = "highest"
    mix_cells: Annotated[int, Option(min=1, help="How many cells of an image.")] = 5
    mix_grid: Annotated[int, Option(min=1, help="Cells along a side.")] = 4
    mix_from: Annotated[float, Option(min=0.0, max=1.0, help="Share of the iterations after which images are mixed.")] = 0.24
    overlays: Annotated[int, Option(min=0, help="Pictures of so many val cases: truth, the peers' answer, SAM's.")] = 8
    no_sam: Annotated[bool, Option("--no-sam", help="Ablation: no teacher.")] = False
    no_mixing: Annotated[bool, Option("--no-mixing", help="Ablation: images stay whole.")] = False
    no_fusion: Annotated[bool, Option("--no-fusion", help="Ablation: the mean of the peers instead of a fusion head.")] = False
    no_learned_prompts: Annotated[bool, Option("--no-learned-prompts", help="Ablation: SAM is asked by the peers' map alone.")] = False

    def __post_init__(self):
        super().__post_init__()
        check_network(self)
        if len(self.peers.split(",")) != 2:
            raise UsageError(f"--peers {self.peers}: two networks are needed", "for example unet,vnet")
        if self.batch_size % 2:
            raise UsageError(f"--batch-size {self.batch_size} is odd", "give an even one: half of a batch is labeled")
        if self.size % self.mix_grid:
            raise UsageError(f"--mix-grid {self.mix_grid} does not divide --size {self.size}", "give 4 or 8")
        if self.mix_cells > self.mix_grid**2:
            raise UsageError(f"--mix-cells {self.mix_cells} is more than a grid of {self.mix_grid} x {self.mix_grid} has", "give fewer")


@dataclass(frozen=True, kw_only=True)
class EvalOptions(OutputOptions, DeviceOptions, PolicyOptions):
    """Measure a model, a folder of predicted masks or a store against the masks of a split."""

    dataset: Dataset
    out: Annotated[Path, Option(help="Folder to write: metrics.json, metrics.csv, overlays.", show_default=False)]
    model: Annotated[Path | None, Option(help="Run folder of the model.")] = None
    predictions: Annotated[Path | None, Option(help="Folder of masks ID.png (class indices) instead of a model.")] = None
    store: Annotated[Path | None, Option(help="Pseudo-label store instead of a model: its labels against the hidden truth.")] = None
    split: Annotated[
        Literal["labeled", "unlabeled", "val", "test"] | None, Option(help="Cases to measure; default: test, with --store unlabeled.")
    ] = None
    against: Annotated[Path | None, Option(help="Folder of an earlier eval of the same cases: paired differences to it.")] = None
    tolerance: Annotated[float, Option(min=0.0, help="Tolerance of the normalized surface distance, in pixels (mm with a spacing).")] = 2.0
    overlays: Annotated[int, Option(min=0, help="Pictures of so many of the worst cases.")] = 12
    seed: Annotated[int, Option(min=0, help="Seed of the bootstrap.")] = 0

    def __post_init__(self):
        super().__post_init__()
        given = [name for name in ("model", "predictions", "store") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError("eval measures one thing at a time", "give one of --model, --predictions, --store")
        if self.split is not None and (self.split == "unlabeled") != (self.store is not None):
            raise UsageError(
                "the truth of unlabeled cases is only for measuring a store", "give --store together with --split unlabeled, or neither"
            )


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ResumableOptions, DeviceOptions):
    """Segment a folder of images: masks of class indices at the size of each image."""

    images: Annotated[Path, Argument(help="Folder of images; sub-folders are searched.", show_default=False)]
    model: ModelRun
    out: Annotated[Path, Option(help="Folder to write: ID.png.", show_default=False)]
    overlays: Annotated[bool, Option("--overlays", help="Also overlays/ID.png: the outline on the image.")] = False
    probabilities: Annotated[bool, Option("--probabilities", help="Also probabilities/ID.npz: array probs, (K, H, W) float16.")] = False
    batch_size: Annotated[int, Option(min=1, help="Images per batch.")] = 8


@dataclass(frozen=True, kw_only=True)
class InfoOptions(Options):
    """Versions, devices and packaged weights, for a bug report."""


STAGES: dict[str, tuple[str, type[Options]]] = {
    "prepare": ("prepare", PrepareOptions),
    "check": ("check", CheckOptions),
    "warmstart": ("warmstart", WarmstartOptions),
    "adapt": ("adapt", AdaptOptions),
    "mine": ("mine", MineOptions),
    "finetune": ("finetune", FinetuneOptions),
    "distill": ("distill", DistillOptions),
    "eval": ("evaluate", EvalOptions),
    "predict": ("predict", PredictOptions),
    "info": ("info", InfoOptions),
}
"""Command -> (module and function in samsemi.stages, its options)."""


def check_network(options: WarmstartOptions | DistillOptions) -> None:
    """UsageError for a size or for decoder channels that no network can have."""
    if options.size % 32:
        raise UsageError(f"--size {options.size} is not a multiple of 32", f"give {max(32, round(options.size / 32) * 32)}")
    parse_channels(options.decoder_channels)


def parse_prompts(text: str) -> tuple[tuple[str, ...], ...]:
    """'box,box+point' -> (('box',), ('box', 'point')); UsageError for a kind that does not exist."""
    alternatives = tuple(tuple(part.split("+")) for part in text.split(","))
    for kinds in alternatives:
        for kind in kinds:
            if kind not in PROMPT_KINDS:
                raise UsageError(f"--prompts {text}: unknown prompt kind '{kind}'", f"join some of {', '.join(PROMPT_KINDS)} by +")
        if len(set(kinds)) < len(kinds):
            raise UsageError(f"--prompts {text}: a kind is named twice", "name each kind once")
        if kinds == ("mask",):
            raise UsageError(f"--prompts {text}: SAM needs to be told where, too", "give box+mask or point+mask")
    if len({frozenset(kinds) for kinds in alternatives}) < len(alternatives):
        raise UsageError(f"--prompts {text}: an alternative is named twice", "name each once")
    return alternatives


def parse_channels(text: str) -> tuple[int, ...]:
    """'64,32,16,16,8' -> five channel counts; UsageError otherwise."""
    parts = text.split(",")
    if len(parts) != 5 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--decoder-channels {text}: five numbers are needed", "for example 256,128,64,32,16")
    return tuple(int(part) for part in parts)
