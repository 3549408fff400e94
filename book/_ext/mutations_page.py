"""The directive `{mutations} PART`: what results/mutations.json says.

PART is `summary`, `machine`, `cells` or `table`: see tools/mutation_report.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from made import MadeDirective
from sphinx.application import Sphinx


class MutationsPage(MadeDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        import mutation_report as report

        record = report.read()
        sources = [Path(report.__file__), Path(report.__file__).parent / "mutations.py"]
        if report.RECORD.exists():
            sources.append(report.RECORD)
        return self.insert(
            self.arguments[0],
            sources,
            texts={
                "summary": lambda: report.summary(record),
                "machine": lambda: report.machine(record),
                "cells": lambda: report.skipped(record),
                "table": lambda: report.table(record),
            },
            figures={},
        )


def setup(app: Sphinx) -> dict[str, bool]:
    tools = str(Path(app.confdir) / "tools")
    if tools not in sys.path:
        sys.path.insert(0, tools)
    app.add_directive("mutations", MutationsPage)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
