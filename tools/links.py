"""Every link to another host: is it well formed, and does it answer?

    python tools/links.py --form
    python tools/links.py --online [--report FILE]

Links are read from the Markdown of notebooks, book and README, from docstrings, and
from the bibliography. What stands in code, such as an install line, is no link.
`--form` needs no network. `--online` asks each address once, politely, and fails if one
is gone. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qsl, unquote, urldefrag, urlsplit
from urllib.request import Request, urlopen

from repoint import current_url, owner_and_name

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)
INLINE = re.compile(
    r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\]\([^)]*\))*)\]\((?P<url>[^)\s]+)[^)]*\)"
)
BARE = re.compile(r"(?<![\w(\[])<?(?P<url>(?:https?|ftp)://[^\s<>)\]}\"'`]+)")
BIB_ENTRY = re.compile(r"^@\w+\{(?P<key>[^,\s]+),\n(?P<fields>.*?)^\}", re.M | re.S)
BIB_FIELD = re.compile(r"^\s*(?P<name>\w+) = \{(?P<value>.*)\},$", re.MULTILINE)
# Goodfellow et al. 2014; Finn, Abbeel and Levine 2017; Arjovsky & Bottou 2017.
CITATION = re.compile(
    r"(?P<first>[^\W\d_][\w’'-]*)(?: et al\.|(?:, [\w’' -]+)*,? (?:and|&) [\w’' -]+)? "
    r"\(?(?P<year>(?:19|20)\d\d)\)?"
)
TRACKING = re.compile(r"utm_\w+|fbclid|gclid|mc_[ce]id|igshid|ref_src|trk", re.I)
ARXIV = re.compile(r"/abs/(\d\d)(0[1-9]|1[0-2])\.(\d{4,5})")
DOI = re.compile(r"/10\.\d{4,9}/\S+")


@dataclass(frozen=True)
class Link:
    """An address, the words that carry it (empty if none do), and where it stands."""

    url: str
    text: str
    where: str

    @property
    def address(self) -> str:
        """Without the fragment, and in one spelling."""
        return unquote(urldefrag(self.url).url)


# Where links are


def in_markdown(text: str, where: str) -> Iterator[Link]:
    """The links of a Markdown text, code left out; addresses inside the book too
    if they look as though they lead out of it."""
    text = CODE.sub(" ", text)
    for match in INLINE.finditer(text):
        for inner in INLINE.finditer(match["text"]):  # a picture that is a link
            yield Link(inner["url"], "", where)
        url = match["url"]
        if "://" in url or url.startswith(("www.", "//")):
            words = INLINE.sub("", match["text"]).strip(" !*")
            yield Link(url, " ".join(words.split()), where)
    for match in BARE.finditer(INLINE.sub(" ", text)):
        yield Link(match["url"].rstrip(".,;:"), "", where)


def in_bibliography(text: str, where: str) -> Iterator[Link]:
    for key, fields in bibliography(text):
        if "url" in fields:
            yield Link(fields["url"], "", f"{where}, {key}")


def bibliography(text: str) -> list[tuple[str, dict[str, str]]]:
    """Key and fields of each entry of a BibTeX file."""
    return [
        (entry["key"], {f["name"]: f["value"] for f in BIB_FIELD.finditer(entry[2])})
        for entry in BIB_ENTRY.finditer(text)
    ]


def docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ):
            yield ast.get_docstring(node) or ""


def find(root: Path) -> Iterator[Link]:
    """All links of the repository, in the order of its files."""
    for path in sorted((root / "notebooks").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for number, cell in enumerate(cells, start=1):
            if cell["cell_type"] == "markdown":
                where = f"{path.relative_to(root).as_posix()}, cell {number}"
                yield from in_markdown("".join(cell["source"]), where)
    for path in sorted([*root.glob("*.md"), *(root / "book").glob("*.md")]):
        where = path.relative_to(root).as_posix()
        yield from in_markdown(path.read_text(encoding="utf-8"), where)
    for path in sorted((root / "metagan_lite").rglob("*.py")):
        where = path.relative_to(root).as_posix()
        for docstring in docstrings(path.read_text(encoding="utf-8")):
            yield from in_markdown(docstring, where)
    path = root / "book" / "references.bib"
    yield from in_bibliography(path.read_text(encoding="utf-8"), "book/references.bib")


# Their form


def fault(link: Link) -> str | None:
    """What is wrong with one address; None if nothing is."""
    try:
        parts = urlsplit(link.url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        return f"no address: {error}"
    if parts.scheme != "https":
        return "expected https://"
    if not re.fullmatch(r"(?:[\w-]+\.)+[a-z]{2,}", host) or port or parts.username:
        return "expected a plain host name"
    if re.search(r"[\s\\^{}|<>\"]|%(?![0-9A-Fa-f]{2})", link.url):
        return "has a character that must be percent-encoded"
    tracked = [name for name, _ in parse_qsl(parts.query) if TRACKING.fullmatch(name)]
    if tracked:
        return f"tracks its readers: drop {', '.join(tracked)}"
    if host.endswith("arxiv.org"):
        number = ARXIV.fullmatch(parts.path)
        digits = 5 if number and number[1] >= "15" else 4
        if host != "arxiv.org" or not number or len(number[3]) != digits:
            return "expected https://arxiv.org/abs/NNNN.NNNNN, without a version"
    if host.endswith("doi.org") and (
        host != "doi.org" or not DOI.fullmatch(unquote(parts.path))
    ):
        return "expected https://doi.org/10.NNNN/…"
    return None


def missing_here(link: Link, root: Path, slug: str) -> str | None:
    """What of our own repository a link names although it is not there."""
    path = urlsplit(link.url).path
    found = re.fullmatch(
        rf"/(?:github/)?{re.escape(slug)}/(?:blob|tree)/main/(.+)", path
    )
    if found and not (root / unquote(found[1])).exists():
        return f"{found[1]} is not in this repository"
    return None


def plain(name: str) -> str:
    """A surname without accents, LaTeX and case: Bi{\\'n}kowski → binkowski."""
    name = re.sub(r"\\([il])(?![a-zA-Z])", r"\1", name)  # letters: dotless i, barred l
    name = re.sub(r"\\[a-zA-Z](?=[{}])|[^\w\s-]", "", name)  # accents
    name = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("ı", "i"))
    return "".join(c for c in name if not unicodedata.combining(c)).lower()


def names_of_papers(links: list[Link], bib: str) -> Iterator[str]:
    """Papers under two names, names of two papers, and papers that are not in the
    bibliography."""
    entries = bibliography(bib)
    for what in ("key", "title", "url"):
        shared: dict[str, list[str]] = defaultdict(list)
        for key, fields in entries:
            value = key if what == "key" else fields.get(what, "")
            shared[plain(value) if what == "title" else value].append(key)
        for value, keys in shared.items():
            if value and len(keys) > 1:
                yield f"book/references.bib: {' and '.join(keys)} have one {what}"
    known: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for _, fields in entries:
        if "url" in fields:
            first = plain(fields["author"].partition(",")[0])
            known[unquote(fields["url"])].add((first, fields["year"]))
    carried: dict[str, set[str]] = defaultdict(set)
    for link in links:
        if link.where.startswith("book/references.bib"):
            continue
        paper = urlsplit(link.url).hostname in ("arxiv.org", "doi.org")
        if paper and link.address not in known:
            yield f"{link.where}: {link.url} is not in book/references.bib"
        cited = CITATION.fullmatch(link.text)
        if cited is None:
            continue
        carried[link.text].add(link.address)
        name = (plain(cited["first"]), cited["year"])
        if paper and known.get(link.address, {name}).isdisjoint({name}):
            ((first, year),) = known[link.address]
            yield (
                f"{link.where}: {link.url} is called {link.text!r}, in the "
                f"bibliography it is by {first} and of {year}"
            )
    for text, addresses in carried.items():
        if len(addresses) > 1:
            yield f"{text!r} is the name of {' and of '.join(sorted(addresses))}"


def faults(root: Path) -> list[str]:
    """What is wrong with the links of a repository, in a sentence for each."""
    links = list(find(root))
    slug = "/".join(owner_and_name(current_url(root)))
    found = [
        f"{link.where}: {link.url}: {words}"
        for link in links
        if (words := fault(link) or missing_here(link, root, slug))
    ]
    bib = (root / "book" / "references.bib").read_text(encoding="utf-8")
    return found + list(dict.fromkeys(names_of_papers(links, bib)))


# Their answers

OK, MOVED, UNSURE, GONE = "ok", "moved", "unsure", "gone"
AGENT = "Mozilla/5.0 (compatible; link check of a course, once a week)"


@dataclass
class Answer:
    """What an address answered. state: ok, moved (for good), unsure (it refuses
    programs, or does not answer just now), gone. detail: in words."""

    url: str
    state: str
    detail: str = ""


def ask(url: str, *, timeout: float = 20, tries: int = 3, pause: float = 5) -> Answer:
    """Ask one address: HEAD first, then GET, as some hosts know no HEAD.

    Args:
        url: the address.
        timeout: seconds to wait for each answer.
        tries: how often to ask a host that is busy or silent.
        pause: seconds before the second try, twice that before the third, and so on.
    """
    detail = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        for method in ("HEAD", "GET"):
            request = Request(url, method=method, headers={"User-Agent": AGENT})
            try:
                with urlopen(request, timeout=timeout) as response:
                    end = response.geturl()
                if urldefrag(end).url != urldefrag(url).url:
                    return Answer(url, MOVED, f"to {end}")
                return Answer(url, OK)
            except HTTPError as error:
                code, detail = error.code, f"{error.code} {error.reason}"
                error.close()
                if method == "GET" and code in (404, 410, 451):
                    return Answer(url, GONE, detail)
                if method == "GET" and code < 500 and code not in (408, 425, 429):
                    return Answer(url, UNSURE, detail)
            except (OSError, HTTPException) as error:
                reason = getattr(error, "reason", error)
                detail = " ".join(str(reason).split()) or type(error).__name__
    no_host = re.search(r"not known|No address|getaddrinfo", detail)
    return Answer(url, GONE if no_host else UNSURE, detail)


def ask_all(urls: list[str], *, space: float = 1, **options: float) -> list[Answer]:
    """Ask several hosts at a time, and each of them one question after the other.

    Args:
        urls: the addresses.
        space: seconds between two questions to one host.
        **options: those of `ask`.
    """
    hosts: dict[str, list[str]] = defaultdict(list)
    for url in dict.fromkeys(urldefrag(url).url for url in urls):
        hosts[urlsplit(url).netloc].append(url)

    def in_turn(urls: list[str]) -> list[Answer]:
        answers = []
        for url in urls:
            if answers:
                time.sleep(space)
            answers.append(ask(url, **options))
        return answers

    with ThreadPoolExecutor(8) as pool:
        answers = [
            answer
            for of_host in pool.map(in_turn, hosts.values())
            for answer in of_host
        ]
    return sorted(answers, key=lambda answer: answer.url)


def report(answers: list[Answer], links: list[Link]) -> str:
    """Markdown: how many, and those that are not simply fine, with where they stand."""
    where = defaultdict(list)
    for link in links:
        where[urldefrag(link.url).url].append(link.where)
    bad = [
        answer
        for state in (GONE, UNSURE, MOVED)
        for answer in answers
        if answer.state == state
    ]
    lines = [f"{len(answers)} addresses, {len(answers) - len(bad)} answer.", ""]
    if bad:
        lines += ["| State | Address | Answer | Where |", "|---|---|---|---|"]
    for answer in bad:
        places = "; ".join(dict.fromkeys(where[answer.url]))
        lines.append(f"| {answer.state} | {answer.url} | {answer.detail} | {places} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--form", action="store_true", help="offline: their form")
    which.add_argument("--online", action="store_true", help="ask every address")
    parser.add_argument("--report", type=Path, help="append the report to this file")
    parser.add_argument("--timeout", type=float, default=20, help="seconds for each")
    options = parser.parse_args(arguments)
    links = list(find(ROOT))
    if options.form:
        found = faults(ROOT)
        print("\n".join([*found, f"{len(links)} links, {len(found)} faults"]))
        return bool(found)
    answers = ask_all([link.url for link in links], timeout=options.timeout)
    text = report(answers, links)
    print(text, end="")
    if options.report:
        with options.report.open("a", encoding="utf-8") as file:
            file.write(text)
    return any(answer.state == GONE for answer in answers)


if __name__ == "__main__":
    sys.exit(main())
