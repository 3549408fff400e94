"""What the anywidgets share: their scripts as one text, and a picture in their place.

A widget gets its script as one text, and a page that is opened as a file loads no
modules. So modules are put together, in the order in which they import each other. They
know ``import { … } from "./name.js"`` and ``export`` before a declaration, and share
one scope.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .plots import img_tag, to_png

__all__ = ["one_script", "picture", "still_widget", "widget_script"]

SCRIPTS = Path(__file__).with_name("js")
"""The folder of the modules that widgets are made of."""

_DECLARED = r"(?:async )?(?:const|let|class|function\*?) (\w+)"
_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[\w./]*\.js)";\n', re.MULTILINE)


def one_script(entry: Path) -> str:
    """A module and all that it imports as one text, each module once.

    Args:
        entry: The file of the module. Its imports are relative to it.

    Raises:
        ValueError: for other forms of import and export, and for a name that two
            modules declare.
        FileNotFoundError: for a module that is not there.
    """
    parts: dict[Path, str] = {}
    homes: dict[str, Path] = {}  # name → its module

    def include(file: Path) -> None:
        if file in parts:
            return
        text = file.read_text(encoding="utf-8")
        for needed in _IMPORT.findall(text):
            include((file.parent / needed).resolve())
        body = _IMPORT.sub("", text)
        body = re.sub(rf"^export (?={_DECLARED})", "", body, flags=re.MULTILINE)
        if left := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
            raise ValueError(
                f'{file.name}: expected `import {{ … }} from "./…"` and `export` before'
                f" a declaration, got {left[0]!r}; write it that way"
            )
        for own in _names(body):
            if homes.setdefault(own, file) != file:
                raise ValueError(
                    f"expected a name in one module, got {own!r} in {homes[own].name}"
                    f" and {file.name}, which share a scope; rename one"
                )
        parts[file] = f"// --- {file.name}\n{body}"

    include(entry.resolve())
    return "\n".join(parts.values())


def _names(body: str) -> list[str]:
    """What a module declares at its top, in patterns too: ``const [a, b] = …``."""
    names = re.findall(f"^{_DECLARED}", body, re.MULTILINE)
    patterns = re.findall(r"^(?:const|let) [\[{]([^=]*)[\]}] =", body, re.MULTILINE)
    return names + [name for text in patterns for name in re.findall(r"\w+", text)]


def widget_script(entry: Path) -> str:
    """:func:`one_script` of a module with a function ``render``, for anywidget."""
    return one_script(entry) + "\nexport default { render };\n"


def still_widget(what: str) -> type:
    """anywidget's class, with what stands for the widget where no notebook runs.

    A class of its own has a method ``still`` that returns this as a MIME bundle, such
    as :func:`picture` makes.

    Args:
        what: The widget, for the message.

    Raises:
        ImportError: without anywidget.
    """
    try:
        import anywidget
    except ImportError:
        raise ImportError(
            f"the {what} needs anywidget: run `pip install anywidget` and start the"
            " kernel again"
        ) from None

    class StillWidget(anywidget.AnyWidget):
        def _repr_mimebundle_(self, **kwargs: object) -> Any:
            made = super()._repr_mimebundle_(**kwargs)
            bundle, metadata = made if isinstance(made, tuple) else (made, {})
            return {**(bundle or {}), **self.still()}, metadata

    return StillWidget


def picture(figure: Figure, words: str) -> dict[str, str]:
    """A figure as a MIME bundle, with its alternative text."""
    return {
        "text/html": img_tag(to_png(figure, dpi=96, colours=32), words),
        "text/plain": words,
    }
