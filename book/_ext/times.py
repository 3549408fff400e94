"""The directive `{times}`: how long each notebook takes to read and to run."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from made import MadeDirective
from sphinx.application import Sphinx


class Times(MadeDirective):
    def run(self) -> list[nodes.Node]:
        import chapters

        root = Path(self.env.srcdir)
        paths = [
            path
            for path in sorted((root / "notebooks").rglob("*.ipynb"))
            if path.relative_to(root).with_suffix("").as_posix() in self.env.found_docs
        ]
        # A chapter, then its exercises, then their solutions.
        paths.sort(key=lambda p: (p.name[:2], len(p.parts), "solutions" in p.name))
        here = Path(self.env.doc2path(self.env.docname)).parent
        table = {"table": lambda: chapters.times(paths, start=here)}
        return self.insert("table", [Path(chapters.__file__), *paths], table, {})


def setup(app: Sphinx) -> dict[str, bool]:
    tools = str(Path(app.confdir) / "tools")
    if tools not in sys.path:
        sys.path.insert(0, tools)
    app.add_directive("times", Times)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
