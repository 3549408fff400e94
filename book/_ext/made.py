"""Pages made from records when the book is built: no number is typed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class MadeDirective(SphinxDirective):
    """A directive whose last argument names a part: a figure, or Markdown text."""

    def insert(
        self,
        part: str,
        sources: list[Path],
        texts: Mapping[str, Callable[[], str]],
        figures: Mapping[str, Callable[[], object]],
    ) -> list[nodes.Node]:
        """The nodes of a part; the page depends on the sources."""
        from metagan_lite.plots import describe, img_tag, to_png

        for path in sources:
            self.env.note_dependency(str(path))
        if part in figures:
            figure = figures[part]()
            width = figure.get_figwidth() * 96  # CSS pixels in an inch
            image = img_tag(to_png(figure), describe(figure), width)
            return [nodes.raw("", f"<p>{image}</p>", format="html")]
        if part not in texts:
            parts = ", ".join([*figures, *texts])
            raise self.error(f"expected one of {parts}; got {part!r}")
        found = nodes.container()
        lines = StringList(texts[part]().splitlines(), source=str(sources[0]))
        self.state.nested_parse(lines, self.content_offset, found)
        return found.children
