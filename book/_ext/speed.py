"""The directive `{speed} PART`: what the records in benchmarks/results say.

PART is `machine`, `plot`, `bars`, `summary` or `table`: see benchmarks/report.py. The
page is made when the book is built, so no number of it is typed by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Speed(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        # Here, so that PyTorch is loaded for this page only.
        import report

        from metagan_lite.plots import describe, img_tag, to_png

        for path in [Path(report.__file__), *report.RESULTS.glob("*.json")]:
            self.env.note_dependency(str(path))
        records = report.read()
        rows = report.all_rows(records)
        part = self.arguments[0]
        if part == "plot":
            figure = report.ratio_plot(rows)
            width = figure.get_figwidth() * 96  # CSS pixels in an inch
            image = img_tag(to_png(figure), describe(figure), width)
            return [nodes.raw("", f"<p>{image}</p>", format="html")]
        texts = {
            "machine": lambda: report.machine(records),
            "bars": lambda: report.bars(rows),
            "summary": lambda: report.summary(rows),
            "table": lambda: report.table(rows),
        }
        if part not in texts:
            parts = ", ".join(["plot", *texts])
            raise self.error(f"expected one of {parts}; got {part!r}")
        found = nodes.container()
        lines = StringList(texts[part]().splitlines(), source=report.__file__)
        self.state.nested_parse(lines, self.content_offset, found)
        return found.children


def setup(app: Sphinx) -> dict[str, bool]:
    benchmarks = str(Path(app.confdir) / "benchmarks")
    if benchmarks not in sys.path:
        sys.path.insert(0, benchmarks)
    app.add_directive("speed", Speed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
