import dataclasses
import math
from functools import partial
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp

from samsemi import console
from samsemi.errors import UsageError
from samsemi.options.adapt import AdaptOptions, parse_zoom
from samsemi.options.check import CheckOptions
from samsemi.options.commands import STAGES
from samsemi.options.config import hashed_names, input_paths, may_change, read_defaults
from samsemi.options.distill import PRESETS, DistillOptions
from samsemi.options.evaluate import EvalOptions
from samsemi.options.fields import PANELS, Option, check_value, declared, fill_presets
from samsemi.options.finetune import FinetuneOptions
from samsemi.options.mine import PROMPT_CHOICES, MineOptions, parse_prompts
from samsemi.options.predict import PredictOptions
from samsemi.options.prepare import PrepareOptions
from samsemi.options.shared import ENCODERS, parse_channels
from samsemi.options.warmstart import WarmstartOptions

PREPARE = {"images": Path("images"), "out": Path("out")}
WARMSTART = {"dataset": Path("data"), "out": Path("run")}
MINE = {"dataset": Path("data"), "model": Path("run"), "out": Path("sam.h5")}
FINETUNE = {"dataset": Path("data"), "model": Path("run"), "out": Path("run2")}
EVAL = {"dataset": Path("data"), "out": Path("eval")}
PREDICT = {"images": Path("images"), "model": Path("run"), "out": Path("out")}


def is_sound(option: Option) -> bool:
    """A help text that is a sentence, a panel, a default and choices that are fit, and a way to switch it off that is needed."""
    for value in (*([] if option.required else [option.default]), *option.field.choices):
        check_value(option, value)
    can_be_off = (option.field.off is not None) == (option.base is bool and option.default is True)
    return option.field.help.endswith(".") and option.field.panel in PANELS and can_be_off


def test_every_option_has_a_type_a_help_text_and_a_fitting_default():
    every = [(stage, option) for stage, (_, options) in STAGES.items() for option in declared(options).values()]
    assert every and not [f"{stage} {option.name}" for stage, option in every if not is_sound(option)]


def test_every_field_is_declared_once_per_stage():
    for _, options in STAGES.values():
        assert sorted(declared(options)) == sorted(field.name for field in dataclasses.fields(options))


def test_every_stage_has_a_one_sentence_description():
    assert all(options.__doc__ and options.__doc__.endswith(".") for _, options in STAGES.values())


@pytest.mark.parametrize(
    ("options", "given", "named"),
    [
        (WarmstartOptions, {**WARMSTART, "iterations": 0}, "--iterations 0"),
        (WarmstartOptions, {**WARMSTART, "batch_size": -1}, "--batch-size -1"),
        (WarmstartOptions, {**WARMSTART, "lr": 0.0}, "--lr 0.0"),
        (WarmstartOptions, {**WARMSTART, "lr": 11}, "--lr 11"),
        (WarmstartOptions, {**WARMSTART, "lr": math.nan}, "--lr nan"),
        (WarmstartOptions, {**WARMSTART, "ema": 1.0}, "--ema 1.0"),
        (WarmstartOptions, {**WARMSTART, "size": 16}, "--size 16"),
        (WarmstartOptions, {**WARMSTART, "size": 100}, "--size 100"),
        (WarmstartOptions, {**WARMSTART, "folds": 1}, "--folds 1"),
        (WarmstartOptions, {**WARMSTART, "workers": -1}, "--workers -1"),
        (WarmstartOptions, {**WARMSTART, "workers": 100_000}, "--workers 100000"),
        (WarmstartOptions, {**WARMSTART, "decoder_channels": "64,32"}, "--decoder-channels"),
        (WarmstartOptions, {**WARMSTART, "precision": "fp16"}, "--precision fp16"),
        (PrepareOptions, {**PREPARE, "labeled": -0.1}, "--labeled -0.1"),
        (PrepareOptions, {**PREPARE, "val": 2.5}, "--val 2.5"),
        (PrepareOptions, {**PREPARE, "val": math.nan}, "--val nan"),
        (PrepareOptions, {**PREPARE, "labeled": math.inf}, "--labeled inf"),
        (PrepareOptions, {**PREPARE, "spacing_mm": 0.0}, "--spacing-mm"),
        (MineOptions, {**MINE, "min_stability": 1.1}, "--min-stability 1.1"),
        (MineOptions, {**MINE, "prompts": "box+circle"}, "'circle'"),
        (MineOptions, {**MINE, "positive_points": 0}, "--positive-points 0"),
        (MineOptions, {**MINE, "box_margin": -1}, "--box-margin -1"),
        (FinetuneOptions, {**FINETUNE, "schedule": "often"}, "--schedule often"),
        (FinetuneOptions, {**FINETUNE, "schedule": "continuous"}, "--schedule continuous needs --store"),
        (FinetuneOptions, {**FINETUNE, "rounds": 2}, "--rounds needs --store"),
        (FinetuneOptions, {**FINETUNE, "rounds": 2, "store": "s", "schedule": "continuous"}, "exclude each other"),
        (FinetuneOptions, {**FINETUNE, "rounds": 3, "store": "s", "iterations": 2}, "--rounds 3 is more than --iterations 2"),
        (FinetuneOptions, {**FINETUNE, "pseudo_share": 0.96}, "--pseudo-share 0.96"),
        (FinetuneOptions, {**FINETUNE, "pseudo_share": "much"}, "--pseudo-share 'much': expected a number or auto"),
        (MineOptions, {**MINE, "passes": 0}, "--passes 0"),
        (MineOptions, {**MINE, "target_precision": 1.5}, "--target-precision 1.5"),
        (EvalOptions, {**EVAL, "store": "s", "min_quality": 2.0}, "--min-quality 2.0"),
        (EvalOptions, {**EVAL, "model": Path("run"), "split": "train"}, "--split train"),
        (EvalOptions, EVAL, "needs something"),
        (EvalOptions, {**EVAL, "model": Path("run"), "store": Path("s"), "split": "unlabeled"}, "one thing"),
        (EvalOptions, {**EVAL, "model": Path("run"), "split": "unlabeled"}, "unlabeled"),
        (EvalOptions, {**EVAL, "store": Path("s"), "split": "test"}, "unlabeled"),
        (PredictOptions, {**PREDICT, "resume": True, "overwrite": True}, "--resume and --overwrite"),
    ],
)
def test_value_out_of_range_or_choice_is_a_usage_error_naming_the_flag(options, given, named):
    with pytest.raises(UsageError) as caught:
        options(**given)
    assert named in caught.value.message and caught.value.hint and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "given", "named"),
    [
        (WarmstartOptions, {**WARMSTART, "iterations": "10"}, "--iterations '10'"),
        (WarmstartOptions, {**WARMSTART, "iterations": 10.0}, "--iterations 10.0"),
        (WarmstartOptions, {**WARMSTART, "iterations": True}, "--iterations True"),
        (WarmstartOptions, {**WARMSTART, "lr": "1e-3"}, "--lr '1e-3'"),
        (WarmstartOptions, {**WARMSTART, "lr": True}, "--lr True"),
        (WarmstartOptions, {**WARMSTART, "resume": "False"}, "--resume 'False'"),
        (WarmstartOptions, {**WARMSTART, "resume": 1}, "--resume 1"),
        (WarmstartOptions, {**WARMSTART, "iterations": None}, "--iterations None"),
        (WarmstartOptions, {**WARMSTART, "encoder": 18}, "--encoder 18"),
        (WarmstartOptions, {"dataset": 3, "out": Path("run")}, "DATASET 3"),
        (CheckOptions, {"dataset": None}, "DATASET None"),
        (MineOptions, {**MINE, "sam_checkpoint": False}, "--sam-checkpoint False"),
    ],
)
def test_value_of_another_type_is_a_usage_error_naming_the_flag(options, given, named):
    """``type=bool`` flags of which False is True are a trap of argparse."""
    with pytest.raises(UsageError) as caught:
        options(**given)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (WarmstartOptions, {"dataset": "data", "out": "run", "lr": 1, "workers": None, "size": 96}),
        (PrepareOptions, {**PREPARE, "labeled": 1.0, "val": 0, "test": 12, "masks": "masks"}),
        (PrepareOptions, {**PREPARE, "labeled": 20.0}),
        (MineOptions, {**MINE, "min_agreement": 0, "min_stability": 1, "embeddings": "cache.h5"}),
        (EvalOptions, {**EVAL, "store": "s", "split": "unlabeled"}),
    ],
)
def test_fitting_values_are_taken(options, given):
    chosen = options(**given)
    assert all(getattr(chosen, name) in (value, Path(str(value)), (Path(str(value)),)) for name, value in given.items())
    paths = {name for name, option in declared(options).items() if option.base is Path and not option.repeated} & set(given)
    assert paths and all(isinstance(getattr(chosen, name), Path) for name in paths)


@pytest.mark.parametrize("value", ["run", Path("run"), ["run"], ("run",), [Path("run")]])
def test_option_that_may_be_repeated_is_a_tuple(value, tmp_path):
    options = MineOptions(**{**MINE, "model": value})
    assert options.model == (Path("run"),) and Path("run") in input_paths(options)
    (tmp_path / "config.toml").write_text("[mine]\nmodel = 'run'\n")
    assert read_defaults(tmp_path / "config.toml", "mine") == {"model": ["run"]}


@pytest.mark.parametrize(("value", "problem"), [([], "none is given"), (["a", "b", "a"], "a, b, a: one is named twice"), ([3], "3")])
def test_option_that_may_be_repeated_names_each_value_once(value, problem):
    with pytest.raises(UsageError) as caught:
        MineOptions(**{**MINE, "model": value})
    assert f"--model {problem}" in caught.value.message or f"--model : {problem}" in caught.value.message


def test_every_path_is_read_or_written():
    """What is read is never written over, see samsemi.outputs."""
    for _, options in STAGES.values():
        for name, option in declared(options).items():
            assert option.field.reads == (option.base is Path and name not in ("out", "review")), name


def test_input_paths_are_what_is_given_to_be_read():
    mine = MineOptions(**MINE, sam_checkpoint="sam.pth")
    assert input_paths(mine) == [Path("data"), Path("run"), Path("sam.pth")]
    assert input_paths(PrepareOptions(**PREPARE, split="split.csv")) == [Path("images"), Path("split.csv")]


def test_what_is_hashed_or_changes_nothing_may_change_on_resumption():
    assert hashed_names(FinetuneOptions) == {
        *("dataset", "model", "store", "sam", "sam_checkpoint", "embeddings", "distill", "teacher_checkpoint"),
    }
    anyhow = {"out", "device", "workers", "resume", "overwrite", "break_lock", "tensorboard"}
    assert may_change(WarmstartOptions) == {"dataset", "encoder_weights", "compile", *anyhow}
    assert may_change(FinetuneOptions) == hashed_names(FinetuneOptions) | {"compile"} | anyhow
    assert may_change(AdaptOptions) == {"dataset", "model", "sam_checkpoint", "overlays", "zoom", "probe", *anyhow}
    assert may_change(DistillOptions) == {"dataset", "store", "sam_checkpoint", "overlays", "preset", *anyhow}
    assert may_change(MineOptions) == {
        *("dataset", "model", "sam_checkpoint", "embeddings", "overlays", "review", "review_cases", "part", "merge", "dry_run"),
        *("engine", "compile"),
        *(anyhow - {"workers", "tensorboard"}),
    }


def test_choices_that_are_completed_are_taken():
    for text in PROMPT_CHOICES:
        parse_prompts(text)
    assert set(ENCODERS) <= {*smp.encoders.get_encoder_names(), *(name for name in ENCODERS if name.startswith("tu-"))}


def test_preset_sets_what_is_not_given():
    given = {"dataset": Path("data"), "out": Path("run"), "preset": "short", "iterations": 50, "optimizer": "sgd"}
    options = DistillOptions(**fill_presets(DistillOptions, given))
    assert (options.iterations, options.optimizer, options.preset) == (50, "sgd", "short")
    rest = {name: value for name, value in PRESETS["short"].items() if name not in given}
    assert rest and {name: getattr(options, name) for name in rest} == rest
    assert fill_presets(DistillOptions, {"preset": None}) == {"preset": None}


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CheckOptions(dataset="data").dataset = "other"


@pytest.mark.parametrize(
    ("text", "alternatives"),
    [
        ("box", (("box",),)),
        ("box+point", (("box", "point"),)),
        ("point+mask+box", (("point", "mask", "box"),)),
        ("box,point,box+point", (("box",), ("point",), ("box", "point"))),
    ],
)
def test_prompt_kinds_are_parsed(text, alternatives):
    assert parse_prompts(text) == alternatives


@pytest.mark.parametrize("text", ["", "boxes", "box+", "box,", "box+box", "mask", "box,mask", "BOX", "box,box", "box+point,point+box"])
def test_prompt_kinds_that_cannot_be_are_usage_errors(text):
    with pytest.raises(UsageError, match="--prompts"):
        parse_prompts(text)


def test_zooms_are_different_factors():
    assert parse_zoom("1.5, 2") == (1.5, 2.0) and parse_zoom("2") == (2.0,) and parse_zoom(None) == ()
    for text in ("", "1.5,", "0.9", "nan", "1e9", "2,2.0", "two"):
        with pytest.raises(UsageError, match="--zoom"):
            parse_zoom(text)


def test_channels_are_five_positive_numbers():
    assert parse_channels("256, 128,64,32,16") == (256, 128, 64, 32, 16)
    for text in ("64,32,16,8", "64,32,16,8,0", "64,32,16,8,x", "64,32,16,8,-4", "1.5,1,1,1,1", ""):
        with pytest.raises(UsageError, match="five"):
            parse_channels(text)


def test_defaults_of_a_command_are_read_from_its_table(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[warmstart]\niterations = 50\nbatch-size = 4\nencoder = "resnet18"\n[mine]\nsam = "none"\n')
    assert read_defaults(file, "warmstart") == {"iterations": 50, "batch_size": 4, "encoder": "resnet18"}
    assert read_defaults(file, "mine") == {"sam": "none"}
    assert read_defaults(file, "eval") == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[warmstrat]\niterations = 5\n", "[warmstrat]"),
        ("[mine]\niterationen = 5\n", "'iterationen'"),
        ("iterations = 5\n", "[iterations]"),
        ("mine = 5\n", "'mine' is not a table"),
        ("[mine]\nmin-area = 5\nmin_area = 6\n", "an option twice"),
        ("[mine\n", "not TOML"),
    ],
)
def test_unknown_table_key_or_broken_file_is_a_usage_error_whatever_the_command(tmp_path, text, named):
    file = tmp_path / "c.toml"
    file.write_text(text)
    for command in ("mine", "warmstart"):
        with pytest.raises(UsageError) as caught:
            read_defaults(file, command)
        assert str(file) in caught.value.message and named in caught.value.message and caught.value.hint


def test_missing_and_binary_config_files_are_usage_errors(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x80")
    for name in ("missing.toml", "binary.toml"):
        with pytest.raises(UsageError, match=name):
            read_defaults(tmp_path / name, "mine")


def test_error_text_in_brackets_is_printed_as_it_is(capsys):
    """rich would eat ``[mine]`` as markup."""
    console.fail("c.toml: [mine] has no option 'x'\nsecond line", "see [bold]here[/bold]")
    console.warn("[mine] is odd")
    assert capsys.readouterr().err.splitlines() == [
        "error: c.toml: [mine] has no option 'x' second line",
        "hint: see [bold]here[/bold]",
        "warning: [mine] is odd",
    ]


@pytest.mark.parametrize(
    ("given", "crops"),
    [({}, 0), ({"all": True}, 0.5), ({"lora": 2}, 0.5), ({"all": True, "crops": 0}, 0), ({"lora": 2, "sam": "vit_b"}, 0)],
)
def test_cases_are_seen_as_crops_where_the_encoder_learns_and_mining_zooms(given, crops):
    assert AdaptOptions(dataset="d", out="s.safetensors", **given).crops == crops
    assert AdaptOptions(dataset="d", out="s.safetensors", all=True, stream="m:f").crops == 0


@pytest.mark.parametrize("given", [{}, {"all": True, "stream": "m:f"}])
def test_crops_that_would_not_be_seen_are_refused(given):
    with pytest.raises(UsageError, match="--crops are of labeled cases, for an image encoder that learns"):
        AdaptOptions(dataset="d", out="s.safetensors", crops=0.5, **given)


@pytest.mark.parametrize("window", ["", "sofa", "5", "5,5", "7,3", "nan,1", "0,inf", "1,2,3"])
def test_window_that_cannot_be_is_refused_before_anything_is_read(window):
    for options in (partial(PrepareOptions, images=(Path("i"),)), partial(PredictOptions, images=Path("i"), model=Path("m"))):
        with pytest.raises(UsageError, match="--window"):
            options(out=Path("o"), window=window)
