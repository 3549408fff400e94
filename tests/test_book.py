"""The built book, where `make book` has built it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
VENDORED = (ROOT / "_build" / "vendor" / "pins.json").exists()
PAGES = sorted(
    path for folder in ("book", "notebooks") for path in (HTML / folder).rglob("*.html")
)

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built: make book")


class Page(HTMLParser):
    """Text outside code and formulas, loaded addresses, links, and anchors."""

    def __init__(self, path: Path):
        super().__init__()
        self.text, self.loaded, self.links = "", [], []
        self.anchors, self.open = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        attributes = dict(attributes)
        self.anchors.update(attributes[k] for k in ("id", "name") if attributes.get(k))
        if tag in ("script", "img", "iframe", "source") and "src" in attributes:
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "preload"):
            self.loaded.append(attributes["href"])
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag in ("script", "style", "pre", "code", "title"):
            self.open.append(tag)
        elif tag in ("div", "span") and (
            self.open[-1:] == [tag] or "math" in (attributes.get("class") or "").split()
        ):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1:] == [tag]:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.text += data


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    return {path: Page(path) for path in PAGES}


def test_every_chapter_is_built():
    names = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text("utf-8"))
    assert {HTML / f"{name}.html" for name in names} == set(PAGES)


def test_formulas_and_tables_are_rendered(pages):
    raw = re.compile(r"\$\$?([^$\n]*[\\_^][^$\n]*|\w)\$|\\tag\{|\\begin\{|\|\s*:?-{2,}")
    for path, page in pages.items():
        found = raw.search(page.text)
        assert found is None, f"{path.name}: raw Markdown {found and found[0]!r}"


def test_links_inside_the_book_lead_somewhere(pages):
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                anchors = pages[target].anchors
                assert unquote(parts.fragment) in anchors, f"{path.name}: {link}"


@pytest.mark.skipif(not VENDORED, reason="npm was not there to vendor the scripts")
def test_pages_load_nothing_from_other_hosts(pages):
    for path, page in pages.items():
        outside = [a for a in page.loaded if urlsplit(a).netloc]
        assert outside == [], path.name
        for address in page.loaded:
            if not address.startswith("data:"):
                assert (path.parent / unquote(urlsplit(address).path)).exists(), address


def test_self_checks_have_what_their_script_makes_buttons_of():
    question = re.compile(
        r"<p><strong>\d\. .*?</strong></p>\s*"
        r"<ul[^>]*>\s*((?:<li><p>[A-D]\. .*?</p></li>\s*){3,4})</ul>\s*"
        r"<details><summary>Answer</summary>\s*<p><strong>[A-D]\.</strong>",
        re.DOTALL,
    )
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        section = text.partition('<section id="self-check">')[2].partition("</sect")[0]
        assert len(question.findall(section)) == (5 if section else 0), path.name
        assert bool(section) == ("_static/self_check.js" in text), path.name
    assert (HTML / "_static" / "self_check.js").exists()
