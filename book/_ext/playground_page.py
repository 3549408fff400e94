"""The page book/playground: its modules as one classic script, weights inside.

A page that is opened as a file may load neither modules nor data. So the modules of
book/playground are put together, in the order in which they import each other, into
_static/playground.js, which the page's button loads. No other page has it.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

SOURCE = Path(__file__).resolve().parents[1] / "playground"
PAGE = "book/playground"
FILES = ("model", "game")  # of weights, one for each tab
DECLARED = r"(?:async )?(?:const|let|class|function\*?) (\w+)"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)


def bundle(source: Path = SOURCE, entry: str = "main") -> str:
    """One script of the modules that `entry` needs; they share one scope.

    It ends with `startTabs`, which gets the files of weights by name.
    """
    parts: dict[str, str] = {}
    homes: dict[str, str] = {}  # name → its module

    def include(name: str) -> None:
        if name in parts:
            return
        text = (source / f"{name}.js").read_text(encoding="utf-8")
        for needed in IMPORT.findall(text):
            include(needed)
        body = IMPORT.sub("", text)
        body = re.sub(rf"^export (?={DECLARED})", "", body, flags=re.MULTILINE)
        if left := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
            raise ValueError(
                f'{name}.js: expected `import {{ … }} from "./…"` and `export` before'
                f" a declaration, got {left[0]!r}; write it that way"
            )
        for own in re.findall(f"^{DECLARED}", body, re.MULTILINE):
            if homes.setdefault(own, name) != name:
                raise ValueError(
                    f"expected a name in one module, got {own!r} in {homes[own]}.js and"
                    f" {name}.js, which share a scope; rename one"
                )
        parts[name] = f"// --- {name}.js\n{body}"

    include(entry)
    weights = {
        name: base64.b64encode((source / f"{name}.safetensors").read_bytes()).decode()
        for name in FILES
    }
    return "\n".join(
        [
            '(() => {\n"use strict";',
            *parts.values(),
            "const bytesOf = (text) =>",
            "  Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;",
            'startTabs(document.getElementById("playground"), {',
            *(f'  {name}: bytesOf("{text}"),' for name, text in weights.items()),
            "});\n})();\n",
        ]
    )


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
        style = (SOURCE / "page.css").read_text(encoding="utf-8")
        (static / "playground.css").write_text(style, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_style)
    app.connect("build-finished", write, priority=400)  # before the book is packed
    return {"parallel_read_safe": True, "parallel_write_safe": True}
