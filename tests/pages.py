"""Pages as a parser and as a browser see them."""

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser is installed ({', '.join(BROWSERS)})")
VOID = {"meta", "link", "img", "br", "hr", "input", "source", "base"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""
    """All text in it."""


@dataclass
class Page(HTMLParser):
    """Every element of a page; fails where one is closed that is not open."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()
        self.open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert not self.open, [element.tag for element in self.open]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1].tag == tag, (tag, self.getpos())
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [e for e in self.elements if e.tag == tag and all(e.attributes.get(n) == v for n, v in attributes.items())]

    def one(self, tag: str, **attributes: str) -> Element:
        [found] = self.all(tag, **attributes)
        return found

    def repeated_ids(self) -> list[str]:
        counts = Counter(e.attributes["id"] for e in self.elements if "id" in e.attributes)
        return [name for name, count in counts.items() if count > 1]

    def loaded(self) -> list[str]:
        """All that the page would fetch from elsewhere."""
        names = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
        places = [e.attributes[name] for e in self.elements for name in names if name in e.attributes]
        styled = re.findall(r"url\(([^)]*)\)|@import", "".join(e.text for e in self.all("style")))
        return [place for place in (*places, *styled) if not place.startswith(("#", "data:image/"))]


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


FRAME = """<!doctype html><title>frame</title><iframe style="width:{width}px;height:{height}px;border:0" src="{source}"></iframe>
<script>onmessage = (event) => {{ document.documentElement.dataset.found = event.data; }};</script>"""
"""A browser without a window system opens no window narrower than 500 pixels; a frame is as narrow as a telephone."""


def browse(page: Path, folder: Path, probe: str = "", width: int = 1280, height: int = 900) -> tuple[dict, list[str]]:
    """What a ``probe``, the body of a function in JavaScript, returns in a browser without a network; and what the browser complained of.

    The probe stands behind the page's own script, in a copy of the page whose policy lets it run. Without one the page itself is opened.
    """
    opened = page
    if probe:
        copy, opened = folder / f"{page.stem}-{width}.html", folder / f"frame-{width}.html"
        loose = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page.read_text(encoding="utf-8"), count=1)
        caught = f"try {{ found = (() => {{ {probe} }})(); }} catch (error) {{ found = {{ error: String(error) }}; }}"
        script = f'<script>let found; {caught} parent.postMessage(JSON.stringify(found), "*");</script>'
        copy.write_text(loose.replace("</body>", f"{script}</body>"), encoding="utf-8")
        opened.write_text(FRAME.format(width=width, height=height, source=copy.name), encoding="utf-8")
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--enable-logging=stderr", "--dump-dom")
    blocked = ("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9", f"--user-data-dir={folder / 'profile'}")
    command = [BROWSER, *flags, *blocked, f"--window-size={width + 40},{height + 40}", opened.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    shown = re.search(r'data-found="([^"]*)"', done.stdout)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(shown[1])) if shown else {}, complaints
