"""Every command, its stage and its options."""

from collections.abc import Sequence

from samsemi.options.adapt import AdaptOptions
from samsemi.options.bench import BenchOptions
from samsemi.options.check import CheckOptions
from samsemi.options.distill import DistillOptions
from samsemi.options.evaluate import EvalOptions
from samsemi.options.export import ExportOptions
from samsemi.options.export_labels import ExportLabelsOptions
from samsemi.options.fields import Options
from samsemi.options.finetune import FinetuneOptions
from samsemi.options.info import InfoOptions
from samsemi.options.mine import MineOptions
from samsemi.options.predict import PredictOptions
from samsemi.options.prepare import PrepareOptions
from samsemi.options.report import ReportOptions
from samsemi.options.warmstart import WarmstartOptions
from samsemi.options.weights import FetchWeightsOptions, ListWeightsOptions, VerifyWeightsOptions

STAGES: dict[str, tuple[str, type[Options]]] = {
    "prepare": ("prepare", PrepareOptions),
    "check": ("check", CheckOptions),
    "warmstart": ("warmstart", WarmstartOptions),
    "adapt": ("adapt", AdaptOptions),
    "mine": ("mine", MineOptions),
    "finetune": ("finetune", FinetuneOptions),
    "distill": ("distill", DistillOptions),
    "eval": ("evaluate", EvalOptions),
    "report": ("report", ReportOptions),
    "predict": ("predict", PredictOptions),
    "export": ("export", ExportOptions),
    "export-labels": ("export_labels", ExportLabelsOptions),
    "bench": ("bench", BenchOptions),
    "weights list": ("list_weights", ListWeightsOptions),
    "weights fetch": ("fetch_weights", FetchWeightsOptions),
    "weights verify": ("verify_weights", VerifyWeightsOptions),
    "info": ("info", InfoOptions),
}
"""Command -> (module and function in samsemi.stages, its options). Of two words the first is a group."""
TOGETHER = ("warmstart", "adapt", "mine", "finetune", "distill")
"""Commands that several processes of a launcher do together."""
GROUPS = {"weights": "Published weights of SAMs and encoders: list, fetch, verify."}
"""Groups of commands, and what they are."""


def find_command(words: Sequence[str]) -> str | None:
    """The command that a line of words begins with, options of samsemi itself aside."""
    own = [word for word in words if not word.startswith("-")]
    return next((name for name in (" ".join(own[:2]), *own[:1]) if name in STAGES), None)


def function_name(command: str) -> str:
    """What a command is called in Python."""
    return command.replace(" ", "_").replace("-", "_")
