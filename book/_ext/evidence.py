"""Directives for what the records of experiments/ say.

`{evidence} RECIPE PART`: results/RECIPE/scorecard.json; PART is `how`, `table`, `rows`,
`targets`, `live_targets`, `differences`, `verdicts`, `augmentation`, `seeds`,
`recognition` or `kid`.

`{switchboard} PART`: `how`, `pivot`, `detached`, `table`, `switches`, `verdict` or
`plot`.

`{stability} PART`: `how`, `table`, `verdict` or `plot`.
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
                "live_targets": lambda: report.live_target_table(record),
                "differences": lambda: report.differences(record),
                "verdicts": lambda: report.verdicts(record),
                "augmentation": lambda: report.augmentation(record),
                "seeds": lambda: report.seeds(record),
            },
            figures={
                "recognition": lambda: report.curves(record, "recognition"),
                "kid": lambda: report.curves(record, "KID"),
            },
        )


class _Grid(MadeDirective):
    """A record of many runs: texts, and a figure `plot`."""

    required_arguments = 1
    module: str
    texts: tuple[str, ...]

    def run(self) -> list[nodes.Node]:
        report = __import__(self.module)
        record = report.Record()
        return self.insert(
            self.arguments[0],
            [Path(report.__file__), record.path],
            texts={
                part: lambda part=part: getattr(report, part)(record)
                for part in self.texts
            },
            figures={"plot": lambda: report.plot(record)},
        )


class Switchboard(_Grid):
    module = "switchboard_report"
    texts = ("how", "pivot", "detached", "table", "switches", "verdict")


class Stability(_Grid):
    module = "stability_report"
    texts = ("how", "table", "verdict")


def setup(app: Sphinx) -> dict[str, bool]:
    experiments = str(Path(app.confdir) / "experiments")
    if experiments not in sys.path:
        sys.path.insert(0, experiments)
    app.add_directive("evidence", Evidence)
    app.add_directive("switchboard", Switchboard)
    app.add_directive("stability", Stability)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
