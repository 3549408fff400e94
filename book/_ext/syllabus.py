"""The role `{chapter}` and the directive `{syllabus}`: chapters by their numbers.

A chapter that is not in the table of contents is named without a link, so that a page
may speak of one before it is written. All minutes are counted in the notebooks.

    {chapter}`4`

    ```{syllabus} Week
    :total:
    1 | 0, 1
    12 | 9 | Projects are presented.
    ```

A row has a label, the numbers of its chapters, and what else is done. `:total:` adds a
row of sums.
"""

from __future__ import annotations

import os
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

EXERCISE = re.compile(r"^## Exercise \d+\.\d+ ●+○* · (\d+) minutes", re.MULTILINE)


def documents(env: BuildEnvironment) -> dict[int, tuple[str, str | None]]:
    """Number → the names of a chapter and of its exercises, where they are there."""
    found = {}
    for name in sorted(env.found_docs):
        number = re.fullmatch(r"notebooks/(\d\d)_\w+", name)
        if number:
            student = f"notebooks/exercises/{number[1]}_student"
            there = student in env.found_docs
            found[int(number[1])] = (name, student if there else None)
    return found


def label(number: int) -> str:
    return f"chapter {number}" if number else "quickstart"


class ChapterRole(SphinxRole):
    """“chapter 4”, with a link if it is there; {chapter}`Chapter 4 <4>` has a text."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        match = re.fullmatch(r"(?:(.+) <)?(\d+)>?", self.text)
        if match is None:
            raise ValueError(f"{{chapter}}: expected a number, got {self.text!r}")
        self.env.note_dependency("_toc.yml")
        text = match[1] or label(int(match[2]))
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
    option_spec = {"total": directives.flag}

    def run(self) -> list[nodes.Node]:
        import chapters

        root = Path(self.env.srcdir)
        here = Path(self.env.doc2path(self.env.docname)).parent
        there = documents(self.env)
        paths = {
            number: [root / f"{name}.ipynb" for name in names if name]
            for number, names in there.items()
        }
        rows = [parse(line) for line in self.content if line.strip()]
        counted = {number: count(*files) for number, files in paths.items()}
        sources = [Path(chapters.__file__), root / "_toc.yml", *sum(paths.values(), [])]
        total = "total" in self.options
        table = lambda: make_table(self.arguments[0], rows, paths, counted, here, total)
        return self.insert("table", sources, {"table": table}, {})


def parse(line: str) -> tuple[str, list[int], str]:
    """`label | numbers | what else`."""
    name, numbers, *other = (part.strip() for part in line.split("|"))
    return name, [int(n) for n in numbers.split(",") if n.strip()], "".join(other)


def count(chapter: Path, exercises: Path | None = None) -> tuple[int, list[int]]:
    """Minutes to read a chapter, and the minutes of each of its exercises."""
    import chapters

    minutes = []
    if exercises is not None:
        text = "\n\n".join(chapters.Chapter(exercises).markdown)
        minutes = [int(m) for m in EXERCISE.findall(text)]
    return 5 * round(chapters.Chapter(chapter).minutes / 5), minutes


def make_table(
    head: str,
    rows: list[tuple[str, list[int], str]],
    paths: dict[int, list[Path]],
    counted: dict[int, tuple[int, list[int]]],
    here: Path,
    total: bool,
) -> str:
    """A Markdown table; chapters without a count are marked as not written yet."""
    also = any(other for _, _, other in rows)
    lines = [f"| {head} | read | minutes | solve | minutes |" + " also |" * also]
    lines.append("|---|---|--:|---|--:|" + "---|" * also)
    sums = [0, 0]
    for name, numbers, other in rows:
        read, solve, minutes = [], [], [0, 0]
        for number in numbers:
            if number not in counted:
                read.append(f"{label(number)} (not written yet)")
                continue
            chapter, *exercises = (
                Path(os.path.relpath(path, here)).as_posix() for path in paths[number]
            )
            reading, each = counted[number]
            read.append(f"[{label(number)}]({chapter})")
            minutes[0] += reading
            if each:
                solve.append(f"[{len(each)} exercises]({exercises[0]})")
                minutes[1] += sum(each)
        sums = [a + b for a, b in zip(sums, minutes)]
        cells = [name, ", ".join(read), minutes[0], ", ".join(solve), minutes[1]]
        lines.append("| " + " | ".join(str(c or "") for c in cells) + " |")
        lines[-1] += f" {other} |" * also
    if total:
        lines.append(f"| in all | | {sums[0]} | | {sums[1]} |" + " |" * also)
    return "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    tools = str(Path(app.confdir) / "tools")
    if tools not in sys.path:
        sys.path.insert(0, tools)
    app.add_role("chapter", ChapterRole())
    app.add_directive("syllabus", Syllabus)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
