"""The directive `{evidence} RECIPE PART`: what results/RECIPE/scorecard.json says.

PART is `how`, `table`, `rows`, `targets`, `differences`, `verdicts`, `seeds`,
`recognition` or `kid`: see experiments/evidence_report.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from made import MadeDirective
from sphinx.application import Sphinx


class Evidence(MadeDirective):
    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        import evidence_report as report  # here: it loads PyTorch

        name, part = self.arguments
        record = report.Record(name)
        return self.insert(
            part,
            [Path(report.__file__), record.path],
            texts={
                "how": lambda: report.how(record),
                "table": lambda: report.table(record),
                "rows": lambda: report.table(record, short=False),
                "targets": lambda: report.target_table(record),
                "differences": lambda: report.differences(record),
                "verdicts": lambda: report.verdicts(record),
                "seeds": lambda: report.seeds(record),
            },
            figures={
                "recognition": lambda: report.curves(record, "recognition"),
                "kid": lambda: report.curves(record, "KID"),
            },
        )


def setup(app: Sphinx) -> dict[str, bool]:
    experiments = str(Path(app.confdir) / "experiments")
    if experiments not in sys.path:
        sys.path.insert(0, experiments)
    app.add_directive("evidence", Evidence)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
