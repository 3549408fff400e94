"""The page book/playground: its modules as one classic script, weights inside.

A page that is opened as a file may load neither modules nor data. So the modules of
book/playground, and those of the library's widgets that they use, are put together into
_static/playground.js, which the page's button loads. No other page has it.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from metagan_lite.widgets import SCRIPTS, one_script

SOURCE = Path(__file__).resolve().parents[1] / "playground"
PAGE = "book/playground"
FILES = ("model", "game")  # of weights, one for each tab


def bundle(source: Path = SOURCE, entry: str = "main") -> str:
    """One script of the modules that `entry` needs, and the weights.

    It ends with `startTabs`, which gets the files of weights by name.
    """
    weights = {
        name: base64.b64encode((source / f"{name}.safetensors").read_bytes()).decode()
        for name in FILES
    }
    return "\n".join(
        [
            '(() => {\n"use strict";',
            one_script(source / f"{entry}.js"),
            "const bytesOf = (text) =>",
            "  Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;",
            'startTabs(document.getElementById("playground"), {',
            *(f'  {name}: bytesOf("{text}"),' for name, text in weights.items()),
            "});\n})();\n",
        ]
    )


def style() -> str:
    """The style sheet of the explorer, and what only the page has."""
    files = (SCRIPTS / "explorer.css", SOURCE / "page.css")
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def add_style(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Link the page's own style sheet, in this page alone."""
    if page == PAGE:
        app.add_css_file("playground.css")


def write(app: Sphinx, exception: Exception | None) -> None:
    """At the end, as Jupyter Book links every script it finds into every page."""
    if exception is None and app.builder.format == "html" and PAGE in app.env.all_docs:
        static = Path(app.outdir) / "_static"
        (static / "playground.js").write_text(bundle(), encoding="utf-8")
        (static / "playground.css").write_text(style(), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_style)
    app.connect("build-finished", write, priority=400)  # before the book is packed
    return {"parallel_read_safe": True, "parallel_write_safe": True}
