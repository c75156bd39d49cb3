"""``samsemi report``: one page, in one file, of what was measured, trained and mined."""

from importlib.metadata import version
from pathlib import Path

from samsemi.inputs import begins_with
from samsemi.options.config import input_paths
from samsemi.options.report import ReportOptions
from samsemi.outputs import locked_output, refuse_taken, try_file, write_text
from samsemi.reporting.comparison import make_arms
from samsemi.reporting.funnel import measure_funnel
from samsemi.reporting.gallery import draw_gallery
from samsemi.reporting.page import ClassKey, Section, render_page
from samsemi.reporting.pictures import css_color
from samsemi.reporting.sections import (
    distribution_section,
    mining_sections,
    origin_section,
    reliability_sections,
    say_results,
    summary_section,
    training_section,
)
from samsemi.reporting.sources import gather, match_reliability

MARK = b'<meta name="generator" content="samsemi">'
"""In the head of every page that is written here."""
HEAD = 512
"""Bytes in which it stands."""


def report(options: ReportOptions) -> dict[str, object]:
    """Write the page; what cannot be shown is left out of it, with a line why."""
    with locked_output(options.out, options.break_lock):
        refuse_out(options)
        sources = gather(options)
        arms = make_arms(sources.evaluations, options.seed)
        classes = sources.dataset.classes if sources.dataset else None
        funnels = [measure_funnel(name, store, classes) for name, store in sources.stores.items()]
        pictures, reasons = draw_gallery(sources, arms, options)
        sections = [
            summary_section(arms),
            distribution_section(arms),
            *reliability_sections(arms),
            Section("pictures", "Pictures", pictures=pictures, left_out=" ".join(reasons)),
            *mining_sections(funnels, sources.trainings, match_reliability(sources)),
            training_section(sources.trainings),
            origin_section(sources),
        ]
        keys = [ClassKey(name, css_color(k)) for k, name in enumerate(classes or ()) if k]
        title = f"{sources.dataset.name}: segmentation report" if sources.dataset else "Segmentation report"
        write_text(options.out, render_page(title, say_results(arms, funnels), sections, keys, version("samsemi")))
    return {
        "report": str(options.out),
        "evaluations": len(sources.evaluations),
        "arms": len(arms),
        "stores": len(funnels),
        "runs": len(sources.trainings),
        "pictured": len(pictures),
        "bytes": options.out.stat().st_size,
        "left_out": {section.title: section.left_out for section in sections if section.left_out},
    }


def refuse_out(options: ReportOptions) -> None:
    """RefusedError where the page cannot be written, or something else would be replaced."""
    refuse_taken(options.out, "a report", is_report, options.overwrite, input_paths(options))
    try_file(options.out)


def is_report(path: Path) -> bool:
    """Whether a file is a page that was written here."""
    return begins_with(path, MARK, HEAD)
