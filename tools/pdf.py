"""Print the built book into one PDF with Chromium: `make pdf`.

Pages follow the table of contents, each with its bookmark; what a page hides behind
a click (answers, hints, tables) is unfolded. Widgets stand still at their first frame.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

import chromium

ROOT = Path(__file__).resolve().parents[1]
FOOTER = (
    '<div style="width:100%;font-size:8px;text-align:center;color:#444">'
    '<span class="title"></span> · <span class="pageNumber"></span></div>'
)
UNFOLD = """() => {
  document.documentElement.dataset.theme = "light";
  for (const folded of document.querySelectorAll("details")) folded.open = true;
}"""


def pages(toc: str) -> list[tuple[str, str]]:
    """The names of the pages in order, each with the caption of its part, if new."""
    found, caption = [], "Meta-GAN from Scratch"
    for line in toc.splitlines():
        if match := re.search(r"caption: (.+)", line):
            caption = match[1]
        elif match := re.search(r"(?:root|file): (\S+)", line):
            found.append((match[1], caption))
            caption = ""
    return found


def chosen(html: Path, only: list[str] | None) -> list[tuple[str, str]]:
    """Of `pages`, those that are built, or those of them whose names have a word."""
    names = pages((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    names = [(n, c) for n, c in names if (html / f"{n}.html").exists()]
    if only:
        names = [n for n in names if any(word in n[0] for word in only)]
    if not names:
        tool = Path(sys.argv[0]).stem
        sys.exit(f"{tool}: expected built pages in {html}: run `make book`")
    return names


def print_book(html: Path, out: Path, names: list[tuple[str, str]]) -> int:
    """Print the pages into `out`, all or nothing. Returns the number of sheets."""
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    writer, part = PdfWriter(), None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.program())
        page = browser.new_page()
        for name, caption in names:
            page.goto((html / f"{name}.html").as_uri())
            page.evaluate(UNFOLD)
            page.evaluate(chromium.SETTLE)
            title = page.title().partition(" — ")[0]
            content = page.pdf(
                format="A4",
                margin=dict.fromkeys(("top", "bottom", "left", "right"), "18mm"),
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                print_background=True,
            )
            start = len(writer.pages)
            writer.append(PdfReader(io.BytesIO(content)), import_outline=False)
            if caption:
                part = writer.add_outline_item(title=caption, page_number=start)
            writer.add_outline_item(title=title, page_number=start, parent=part)
        browser.close()
    writer.add_metadata({"/Title": "Meta-GAN from Scratch"})
    writer.compress_identical_objects()
    new = out.with_suffix(".new")
    out.parent.mkdir(parents=True, exist_ok=True)
    with new.open("wb") as file:
        writer.write(file)
    new.replace(out)
    return len(writer.pages)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "metagan.pdf")
    parser.add_argument("--only", nargs="*", help="pages whose names contain a word")
    arguments = parser.parse_args()
    names = chosen(arguments.html, arguments.only)
    count = print_book(arguments.html, arguments.out, names)
    print(f"{arguments.out}: {count} sheets from {len(names)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
