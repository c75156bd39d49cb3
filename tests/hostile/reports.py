"""Evaluations as strangers may send them, made into a page; exports to where they may not be; and a bench of what cannot be."""

import json
from collections.abc import Callable
from typing import Any

from hostile.case import CHECKPOINT, DATA, REFUSED, USAGE, Case, Place, at, link, text

from samsemi.evaluations import TABLE_HASH

REPORT = "report eval --out out.html"
SCRIPT = "<script>alert(1)</script>"


def evaluation(change: Callable[[str], str], name: str = "metrics.csv") -> Callable[[Place], None]:
    """A copy of an evaluation of which one file is another text."""

    def make(place: Place) -> None:
        folder = place.copy("eval")
        about = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**about, TABLE_HASH: None}))
        (folder / name).write_text(change((folder / name).read_text()))

    return make


def measured(**values: Any) -> Callable[[Place], None]:
    """A copy of an evaluation with other values in metrics.json."""
    return evaluation(lambda text: json.dumps({**json.loads(text), **values}), "metrics.json")


def is_text(place: Place) -> bool:
    """Whether the page has no script of a name."""
    return SCRIPT not in (place.here / "out.html").read_text()


CASES = [
    Case("report: a script as the name of a case", REPORT, 0, "", evaluation(lambda text: text.replace("p0", SCRIPT + "p0")), left=is_text),
    Case("report: a table of bytes", REPORT, DATA, "metrics.csv", evaluation(lambda text: "\0" * 1000)),
    Case("report: a table without columns", REPORT, DATA, "eval", evaluation(lambda text: "a,b\n1,2\n")),
    Case("report: infinite scores", REPORT, (0, DATA), "", evaluation(lambda text: text.replace("0.", "inf", 5))),
    Case("report: metrics nested deep", REPORT, (0, DATA, CHECKPOINT), "", evaluation(lambda text: '{"a":' * 100_000, "metrics.json")),
    Case("report: metrics in a list", REPORT, (0, DATA, CHECKPOINT), "", evaluation(lambda text: "[1]", "metrics.json")),
    Case("report: options of another type", REPORT, (0, DATA, CHECKPOINT), "", measured(options=[1], made_from="x")),
    Case("report: a data set that is a device", REPORT, (0, DATA, CHECKPOINT), "", measured(options={"dataset": "/dev/zero"})),
    Case("report: over one of its evaluations", "report eval --out eval/metrics.json", REFUSED, "metrics.json", lambda p: p.copy("eval")),
    Case("report: at a link to itself", REPORT, REFUSED, "", lambda p: (p.copy("eval"), at("out.html", link("out.html"))(p))),
    Case("export: into its own run", "export --model warm --out warm/model.json", REFUSED, "model.json", lambda p: p.copy("warm")),
    Case("export: over a file of somebody's", "export --model {warm} --out out.onnx", REFUSED, "out.onnx", at("out.onnx", text("theirs"))),
    Case(
        "export: over a file of somebody's, told so",
        "export --model {warm} --out out.onnx --overwrite",
        REFUSED,
        "out.onnx",
        at("out.onnx", text("theirs")),
        left=lambda place: (place.here / "out.onnx").read_text() == "theirs",
    ),
    Case("export: at a link to itself", "export --model {warm} --out out.onnx", REFUSED, "", at("out.onnx", link("out.onnx"))),
    Case("export: a model of bytes", "export --model m --out out.onnx", CHECKPOINT, "m", at("m/model.json", text("\0" * 100))),
    Case("bench: a SAM that is a path", "bench --sam ../../x", USAGE, "x", lambda _: None),
    Case("bench: more images than there is room for", "bench --images 999999999999", USAGE, "images", lambda _: None),
]
