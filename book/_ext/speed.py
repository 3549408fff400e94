"""The directive `{speed} PART`: what the records in benchmarks/results say.

PART is `machine`, `plot`, `bars`, `profile`, `summary` or `table`: see
benchmarks/report.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from made import MadeDirective
from sphinx.application import Sphinx


class Speed(MadeDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        import report  # here, so that PyTorch is loaded for this page only

        records = report.read()
        rows = report.all_rows(records)
        return self.insert(
            self.arguments[0],
            [Path(report.__file__), *report.RESULTS.glob("*.json")],
            texts={
                "machine": lambda: report.machine(records),
                "bars": lambda: report.bars(rows),
                "profile": lambda: report.profile(rows),
                "summary": lambda: report.summary(rows),
                "table": lambda: report.table(rows),
            },
            figures={"plot": lambda: report.ratio_plot(rows)},
        )


def setup(app: Sphinx) -> dict[str, bool]:
    benchmarks = str(Path(app.confdir) / "benchmarks")
    if benchmarks not in sys.path:
        sys.path.insert(0, benchmarks)
    app.add_directive("speed", Speed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
