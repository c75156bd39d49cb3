"""``samsemi check``: every problem of a data set at once."""

from collections.abc import Sequence
from typing import Any

from samsemi import console
from samsemi.data.dataset import scan_dataset
from samsemi.data.findings import Finding, class_table, refuse_problems, warn
from samsemi.data.verify import Verified, verify
from samsemi.options.check import CheckOptions

HINT = "repair or restore these files, or prepare the data set again; --json lists every finding with its hint"


def check(options: CheckOptions) -> dict[str, object]:
    """Open every image and mask; ProblemsFound, which holds the result, if there is a problem. Warnings are named alone."""
    dataset, errors = scan_dataset(options.dataset)
    lines = [Finding("manifest", (str(options.dataset),), error.message, error.hint) for error in errors]
    verified = verify(dataset, console.progress)
    problems = [*lines, *verified.problems, *verified.missing_classes]
    warn(verified.warnings)
    result = summarize(str(options.dataset), problems, verified)
    refuse_problems(str(options.dataset), problems, HINT, result)
    return result


def summarize(dataset: str, problems: Sequence[Finding], verified: Verified) -> dict[str, object]:
    findings = [finding.as_json() for finding in (*problems, *verified.warnings)]
    counts = {"problems": len(problems), "warnings": len(verified.warnings)}
    return {"dataset": dataset, **counts, **verified.found, "findings": findings}


def tables(result: dict[str, Any]) -> list[console.Table]:
    """What people see before the closing table."""
    return [class_table(result["class_masks"])]
