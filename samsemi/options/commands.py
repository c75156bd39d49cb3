"""Every command, its stage and its options."""

from samsemi.options.adapt import AdaptOptions
from samsemi.options.check import CheckOptions
from samsemi.options.distill import DistillOptions
from samsemi.options.evaluate import EvalOptions
from samsemi.options.export_labels import ExportLabelsOptions
from samsemi.options.fields import Options
from samsemi.options.finetune import FinetuneOptions
from samsemi.options.info import InfoOptions
from samsemi.options.mine import MineOptions
from samsemi.options.predict import PredictOptions
from samsemi.options.prepare import PrepareOptions
from samsemi.options.report import ReportOptions
from samsemi.options.warmstart import WarmstartOptions

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
    "export-labels": ("export_labels", ExportLabelsOptions),
    "info": ("info", InfoOptions),
}
"""Command -> (module and function in samsemi.stages, its options)."""
