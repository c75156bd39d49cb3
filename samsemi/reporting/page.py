"""The page: its parts as values, and the template that makes one file of them."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from samsemi.console import Table
from samsemi.reporting.pictures import Picture
from samsemi.reporting.provenance import Origin

HERE = Path(__file__).parent


class Tile(NamedTuple):
    """A number to be seen first."""

    value: str
    range: str
    """Its interval, or ''."""
    label: str


class Chart(NamedTuple):
    svg: Markup
    title: str
    text: str = ""


class ClassKey(NamedTuple):
    name: str
    color: str


@dataclass(frozen=True)
class Section:
    """A part of the page, with whatever of these it has."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()
    origins: Sequence[Origin] = ()
    left_out: str = ""
    """Why it, or a part of it, is not there, and what to do."""
    notes: Sequence[str] = ()


def render_page(title: str, lead: Sequence[str], sections: Sequence[Section], class_keys: Sequence[ClassKey], version: str) -> str:
    """The whole page as text; everything but charts, style and script is escaped."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        title=title,
        lead=lead,
        sections=sections,
        class_keys=class_keys,
        version=version,
        style=Markup(style),
        script=Markup(script),
        script_hash=Markup(digest),
    )
