"""The role `{chapter}` and the directive `{syllabus}`: chapters by their numbers.

A chapter that is not in the table of contents is named without a link, so that a page
may speak of one before it is written.

    {chapter}`4` or {chapter}`the chapter on measuring <4>`

    ```{syllabus} Week
    :total:
    1 | 0, 1 |
    12 | | Projects are presented.
    ```

A row has a label, the numbers of its chapters, and what else is done. `:total:` adds a
row of sums, `:read:` leaves the exercises out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from made import MadeDirective
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole


def documents(env: BuildEnvironment) -> dict[int, tuple[str, str | None]]:
    """Number → the names of a chapter and of its exercises, where they are there."""
    found = {}
    for name in sorted(env.found_docs):
        if number := re.fullmatch(r"notebooks/(\d\d)_\w+", name):
            student = f"notebooks/exercises/{number[1]}_student"
            there = student in env.found_docs
            found[int(number[1])] = (name, student if there else None)
    return found


class ChapterRole(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        match = re.fullmatch(r"(?:(.+) <)?(\d+)>?", self.text, re.DOTALL)
        if match is None:
            raise ValueError(f"{{chapter}}: expected a number, got {self.text!r}")
        import syllabus

        self.env.note_dependency("_toc.yml")
        text = match[1] or syllabus.name_of(int(match[2]))
        name, _ = documents(self.env).get(int(match[2]), (None, None))
        if name is None:
            return [nodes.inline(text, text)], []
        link = addnodes.pending_xref(
            text,
            nodes.inline(text, text),
            refdomain="std",
            reftype="doc",
            reftarget=f"/{name}",
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=True,
        )
        return [link], []


class Syllabus(MadeDirective):
    has_content = True
    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"total": directives.flag, "read": directives.flag}

    def run(self) -> list[nodes.Node]:
        import syllabus

        root = Path(self.env.srcdir)
        there = {
            number: tuple(name and root / f"{name}.ipynb" for name in names)
            for number, names in documents(self.env).items()
        }
        try:
            rows = [syllabus.parse(line) for line in self.content if line.strip()]
        except ValueError as error:
            raise self.error(str(error)) from error
        here = Path(self.env.doc2path(self.env.docname)).parent
        options = {
            "total": "total" in self.options,
            "solve": "read" not in self.options,
        }
        table = lambda: syllabus.table(self.arguments[0], rows, there, here, **options)
        files = [path for paths in there.values() for path in paths if path]
        sources = [Path(syllabus.__file__), root / "_toc.yml", *files]
        return self.insert("table", sources, {"table": table}, {})


def setup(app: Sphinx) -> dict[str, bool]:
    tools = str(Path(app.confdir) / "tools")
    if tools not in sys.path:
        sys.path.insert(0, tools)
    app.add_role("chapter", ChapterRole())
    app.add_directive("syllabus", Syllabus)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
