"""Running a notebook's cells without a kernel."""

from __future__ import annotations

import linecache
import re
from typing import Any

__all__ = ["python_of", "run_cell"]

_MAGIC = re.compile(r"^(\s*)([%!].*|.*\?\s*)$", re.MULTILINE)
_HARMLESS = ("%%time", "%%timeit", "%%capture")


def python_of(source: str) -> str:
    """The Python of a cell: IPython's magics, shell lines and questions become `pass`.

    A cell for another interpreter, such as ``%%bash``, has none.
    """
    try:
        compile(source, "<cell>", "exec")
    except SyntaxError:  # a `%` may begin the second line of an expression
        first, newline, rest = source.partition("\n")
        if first.startswith("%%"):
            # Its line stays, so that line numbers do.
            return newline + python_of(rest) if first.startswith(_HARMLESS) else ""
        return _MAGIC.sub(r"\1pass", source)
    return source


def run_cell(source: str, names: dict[str, Any], file: str) -> None:
    """Execute a cell in the namespace `names`; tracebacks show its lines as of `file`.

    Raises:
        Exception: whatever the cell raises, SyntaxError included.
    """
    code = python_of(source)
    names.setdefault("display", lambda *objects, **options: None)  # as in a kernel
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    exec(compile(code, file, "exec"), names)
