"""The rules of the house, kept by reading the source."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import samsemi
from samsemi.options.commands import STAGES

PACKAGE = Path(samsemi.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

FLOORS = [
    {"errors", "console", "clock", "interrupts", "inputs", "remedies"},
    {"locks", "schemas", "offline", "own_code", "surroundings"},
    {"outputs", "processes"},
    {"collectives", "devices", "hdf5"},
    {"tensors", "losses"},
    {"options"},
    {"functions", "parameters"},
    {"samsemi", "folders"},
    {"usage"},
    {"data", "weights"},
    {"sam", "segmenters", "metrics", "statistics"},
    {"cost", "evaluations", "training"},
    {"mining", "knowsam"},
    {"adaptation", "inspection", "speed"},
    {"reporting"},
    {"stages"},
    {"cli"},
    {"__main__"},
]
"""Rooms from the ground up: a module imports only from lower floors and its own room. 'samsemi' is the package itself."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NO_TORCH = [
    "errors",
    "console",
    "options",
    "locks",
    "outputs",
    "inputs",
    "folders",
    "schemas",
    "hdf5",
    "offline",
    "own_code",
    "processes",
    "surroundings",
    "data",
    "metrics",
    "statistics",
    "evaluations",
    "cli",
    "sam.prompts",
    "sam.simulation",
    "mining.composition",
    "mining.store",
    "mining.store_writer",
    "mining.summary",
    "inspection.things",
    "inspection.rows",
    "training.runs",
    "weights",
]
TORCH_LIBRARIES = {"torch", "torchvision", "segment_anything", "segmentation_models_pytorch", "timm", "safetensors", "accelerate", "monai"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that a module imports anywhere, functions included; ``from a import b`` is a.b where that is a module."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            places = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {place if place in MODULES else node.module for place in places}
    return frozenset(found)


@cache
def reachable(module: str) -> frozenset[str]:
    """The module's imports within the package, and theirs, the packages that hold them included."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        waiting += [*imports(name), *(name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1))]
    return frozenset(seen)


def functions(module: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def room_of(module: str) -> str:
    return [*module.split("."), "samsemi"][1 if "." in module else 0]


def test_imports_point_down():
    for module in MODULES:
        rooms = {room_of(name) for name in imports(module) if name.startswith("samsemi")} - {room_of(module)}
        up = [room for room in rooms if FLOOR[room] >= FLOOR[room_of(module)]]
        assert not up, f"{module} imports {up}"


def test_no_import_circles():
    """Within a room, too."""
    TopologicalSorter({module: imports(module) & set(MODULES) for module in MODULES}).prepare()


def test_packages_are_only_folders():
    """So that ``sam.prompts`` and ``mining.store`` load no torch."""
    assert not [path for path in PACKAGE.glob("*/__init__.py") if "import" in path.read_text(encoding="utf-8")]


def test_stages_do_not_import_stages():
    for module in MODULES:
        if module.startswith("samsemi.stages."):
            assert not [name for name in imports(module) if name.startswith("samsemi.stages")]


def libraries_of(name: str) -> set[str]:
    """The libraries that a module, or any module of a room, imports, also by way of other modules."""
    modules = [module for module in MODULES if f"{module}.".startswith(f"samsemi.{name}.")]
    assert modules, name
    return {imported.split(".")[0] for start in modules for module in reachable(start) for imported in imports(module)}


def test_what_needs_no_torch_loads_none():
    assert not {name: found for name in NO_TORCH if (found := libraries_of(name) & TORCH_LIBRARIES)}


def test_package_itself_knows_nothing_of_torch():
    known = {"samsemi", "functions", "options", "errors", "remedies", "console", "clock", "surroundings", "processes", "offline"}
    assert {room_of(module) for module in reachable("samsemi")} <= known


def test_nobody_imports_click():
    """typer carries its own click since 0.26: its classes are others."""
    assert not [module for module in MODULES if any(name.split(".")[0] == "click" for name in imports(module))]


def test_typer_lives_in_the_command_line():
    importers = {module for module in MODULES if any(name.split(".")[0] == "typer" for name in imports(module))}
    assert importers == {"samsemi.cli", "samsemi.parameters", "samsemi.usage"}


def test_rich_lives_in_console():
    assert [module for module in MODULES if any(name.split(".")[0] == "rich" for name in imports(module))] == ["samsemi.console"]


def test_no_module_is_named_after_nothing():
    assert not {module.rsplit(".", 1)[-1] for module in MODULES} & {"utils", "util", "helpers", "common", "base", "misc", "core", "tools"}


def test_files_and_functions_are_short():
    assert not [module for module in MODULES if len(MODULES[module].read_text(encoding="utf-8").splitlines()) > 350]
    lines = {f"{module}.{f.name}": f.end_lineno - f.lineno + 1 for module in MODULES for f in functions(module)}
    assert not {name: count for name, count in lines.items() if count > 50}


def test_every_module_says_what_it_is():
    assert not [module for module in MODULES if tree(module).body and not ast.get_docstring(tree(module))]


def test_torch_files_are_loaded_as_weights_only():
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads", "joblib.load"):
                assert {(k.arg, ast.unparse(k.value)) for k in node.keywords} >= {("weights_only", "True")}, f"{module} line {node.lineno}"


def test_hidden_truth_is_read_only_where_masks_are_made_checked_and_measured():
    readers = {
        module
        for module in MODULES
        if any(
            isinstance(node, ast.Attribute) and node.attr == "truth" and isinstance(node.ctx, ast.Load) for node in ast.walk(tree(module))
        )
    }
    makers = {"samsemi.data.dataset", "samsemi.data.manifest", "samsemi.data.prepared", "samsemi.data.verify"}
    assert readers <= makers | {"samsemi.stages.evaluate"}


def test_files_of_cases_are_read_where_they_are_compared_with_their_hashes():
    readers = {module for module in MODULES for node in ast.walk(tree(module)) if isinstance(node, ast.Name) and node.id == "read_image"}
    assert readers == {"samsemi.data.sources"}  # of foreign files, before there are hashes


def test_no_class_overrides_train_of_a_network():
    """``nn.Module.train`` switches the mode; KnowSAM's Trainer hides it."""
    assert not [f"{module}.{f.name}" for module in MODULES for f in functions(module) if f.name == "train"]


def test_every_command_has_its_stage():
    for module, _ in STAGES.values():
        assert module in {f.name for f in functions(f"samsemi.stages.{module}")}


@pytest.mark.parametrize("arguments", [["--help"], ["mine", "--help"], ["--version"]], ids=" ".join)
def test_help_does_not_import_torch(arguments):
    """It answers at once."""
    code = "import sys; from samsemi.cli import main; main(sys.argv[1:]); sys.exit(len({'torch', 'scipy', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and ("samsemi" in done.stdout.lower() or "usage" in done.stdout.lower()), done.stderr
