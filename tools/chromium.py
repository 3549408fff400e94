"""A browser for the built book: where it is, how a page is served, when it is ready.

Printing (tools/pdf.py), measuring (tools/audit.py) and the browser tests share this.
"""

from __future__ import annotations

import functools
import gzip
import io
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMPRESSED = {".html", ".css", ".js", ".json", ".svg"}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

SETTLE = """async () => {
  for (const image of document.images) image.loading = "eager";
  await window.loadWidgets?.();
  if (window.MathJax?.startup) await MathJax.startup.promise;
  const wanted = document.querySelector(
    'script[type="application/vnd.jupyter.widget-view+json"]');
  const shown = () => document.querySelector(".bd-article .jupyter-widgets");
  for (let wait = 0; wait < 100 && wanted && !shown(); wait++)
    await new Promise((done) => setTimeout(done, 100));
  await Promise.all([...document.images].map((image) =>
    image.complete || new Promise((done) => (image.onload = image.onerror = done))));
}"""
"""Waits in a page for its formulas, widgets and pictures, the lazy ones too."""


def find() -> str | None:
    """The path of Chromium or Chrome: what CHROMIUM names, else the system's."""
    there = filter(None, map(shutil.which, NAMES))
    return os.environ.get("CHROMIUM") or next(there, None)


def program() -> str:
    """The path of Chromium or Chrome; says what to do and ends where there is none."""
    found = find()
    if not found:
        sys.exit(
            "chromium: expected Chromium or Chrome on the PATH, found none: install "
            "one, or set CHROMIUM to its program"
        )
    return found


class _Quiet(SimpleHTTPRequestHandler):
    # Some systems know no type for .js, and a browser runs no module without.
    extensions_map = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
    }

    def log_message(self, *arguments: object) -> None:
        pass


class _Kept(_Quiet):
    def send_head(self) -> object:
        path = Path(self.translate_path(self.path))
        if path.suffix not in COMPRESSED or not path.is_file():
            return super().send_head()
        content = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()


@contextmanager
def served(folder: Path, *, kept: bool = False) -> Iterator[str]:
    """The address, with a slash at its end, under which a folder is served.

    `kept` lets a browser keep what it has loaded, and compresses text, as GitHub Pages
    and other hosts do.
    """
    handler = functools.partial(_Kept if kept else _Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
