"""Links to other hosts: their form here, and how tools/links.py asks them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import links
import pytest
from links import Link, ask, ask_all, fault, in_markdown, names_of_papers

ROOT = Path(__file__).resolve().parents[1]


def test_links_of_this_repository_are_well_formed():
    assert links.faults(ROOT) == []


# --- where links are ----------------------------------------------------------


def test_links_in_markdown():
    text = (
        "[Finn et al.\n2017](https://arxiv.org/abs/1703.03400), <https://a.org/b>, see "
        "https://c.org/d. [page](other.md) `https://code.org` "
        "[![badge](https://img.org/b.svg)](https://e.org/f) [bad](www.g.org)\n"
        "```bash\ngit clone https://code.org/x\n```\n"
    )
    assert [(link.url, link.text) for link in in_markdown(text, "")] == [
        ("https://arxiv.org/abs/1703.03400", "Finn et al. 2017"),
        ("https://img.org/b.svg", ""),
        ("https://e.org/f", ""),
        ("www.g.org", "bad"),
        ("https://a.org/b", ""),
        ("https://c.org/d", ""),
    ]


def test_every_kind_of_file_is_read(tmp_path: Path):
    for name, text in {
        "README.md": "<https://a.org/readme>",
        "book/page.md": "[x](https://a.org/page)",
        "book/references.bib": "@misc{k,\n  url = {https://a.org/bib},\n}\n",
        "metagan_lite/deep/x.py": 'def f():\n    """See https://a.org/doc."""\n',
        "notebooks/exercises/n.ipynb": '{"cells": [{"cell_type": "markdown", "source":'
        ' ["[x](https://a.org/", "cell)"]}]}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = {link.url.removeprefix("https://a.org/") for link in links.find(tmp_path)}
    assert found == {"readme", "page", "bib", "doc", "cell"}


# --- form ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://arxiv.org/abs/1406.2661",
        "https://arxiv.org/abs/2002.09797",
        "https://doi.org/10.1016/0047-259X%2882%2990077-X",
        "https://jmlr.org/papers/v13/gretton12a.html",
        "https://example.org/a?page=2#section",
    ],
)
def test_good_links(url: str):
    assert fault(Link(url, "", "")) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org", "https"),
        ("www.example.org", "https"),
        ("https://example", "host"),
        ("https://localhost:8000/x", "host"),
        ("https://me@example.org/", "host"),
        ("https://example.org/50%", "percent-encoded"),
        ("https://[example.org/", "no address"),
        ("https://example.org/a?utm_source=x&page=2", "drop utm_source"),
        ("https://arxiv.org/pdf/1406.2661", "arxiv.org/abs"),
        ("https://arxiv.org/abs/1406.2661v1", "arxiv.org/abs"),
        ("https://arxiv.org/abs/1406.02661", "arxiv.org/abs"),
        ("https://arxiv.org/abs/2002.9797", "arxiv.org/abs"),
        ("https://arxiv.org/abs/2013.09797", "arxiv.org/abs"),
        ("https://www.arxiv.org/abs/2002.09797", "arxiv.org/abs"),
        ("https://dx.doi.org/10.1214/aos/1176344552", "doi.org/10"),
        ("https://doi.org/1214/aos", "doi.org/10"),
    ],
)
def test_bad_links(url: str, words: str):
    assert words in (fault(Link(url, "", "")) or "")


def test_links_into_this_repository_lead_to_files(tmp_path: Path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").touch()
    colab = "https://colab.research.google.com/github/me/it/blob/main/notebooks/"
    check = lambda url: links.missing_here(Link(url, "", ""), tmp_path, "me/it")
    assert check(colab + "a.ipynb") is None
    assert check("https://github.com/me/it/blob/main/notebooks/a.ipynb#L3") is None
    assert check("https://github.com/you/it/blob/main/b.ipynb") is None
    assert "notebooks/b.ipynb" in check(colab + "b.ipynb")


BIB = r"""
@misc{binkowski2018,
  author = {Bi{\'n}kowski, Miko{\l}aj and Sutherland, Danica J.},
  title = {Demystifying {MMD} {GANs}},
  year = {2018},
  url = {https://arxiv.org/abs/1801.01401},
}
"""


@pytest.mark.parametrize(
    ("tex", "name"),
    [
        (r"Yaz{\i}c{\i}", "Yazıcı"),
        (r"Bi{\'n}kowski", "Bińkowski"),
        (r"Kynk{\"a}{\"a}nniemi", "Kynkäänniemi"),
    ],
)
def test_surnames_are_compared_without_accents(tex: str, name: str):
    assert links.plain(tex) == links.plain(name) == links.plain(name).lower()
    assert links.plain(tex).isascii()


def named(text: str, url: str = "https://arxiv.org/abs/1801.01401") -> Link:
    return Link(url, text, "here")


def test_a_paper_has_one_name():
    good = ["Bińkowski et al. 2018", "Bińkowski and Sutherland 2018", "KID", ""]
    assert list(names_of_papers([named(text) for text in good], BIB)) == []
    for text in ("Bińkowski et al. 2019", "Sutherland et al. 2018"):
        (problem,) = names_of_papers([named(text)], BIB)
        assert text in problem and "binkowski and of 2018" in problem
    (problem,) = names_of_papers([named("", "https://arxiv.org/abs/1802.01401")], BIB)
    assert "not in book/references.bib" in problem
    pages = [named("Kish 1965", "https://a.org"), named("Kish 1965", "https://b.org")]
    (problem,) = names_of_papers(pages, BIB)
    assert "a.org and of https://b.org" in problem


def test_the_bibliography_has_no_entry_twice():
    twice = BIB + BIB.replace("{binkowski2018", "{mmd2018")
    assert list(names_of_papers([], twice)) == [
        "book/references.bib: binkowski2018 and mmd2018 have one title",
        "book/references.bib: binkowski2018 and mmd2018 have one url",
    ]
    assert "have one key" in next(names_of_papers([], BIB + BIB))


# --- answers, of a server of our own -------------------------------------------


class Host(BaseHTTPRequestHandler):
    asked: Counter[str] = Counter()

    def do_HEAD(self) -> None:
        name = self.path.strip("/")
        self.asked[f"{self.command} {name}"] += 1
        code = 200
        if name == "moved":
            code = 301
        elif name == "busy":  # twice, then it answers
            code = 503 if self.asked["GET busy"] < 2 else 200
        elif name == "no-head":
            code = 405 if self.command == "HEAD" else 200
        elif name.isdecimal():
            code = int(name)
        elif name == "silent":
            stop.wait(5)
        self.send_response(code)
        self.send_header("Location", "/new") if code == 301 else None
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


stop = threading.Event()


@pytest.fixture
def host() -> Iterator[str]:
    stop.clear()
    Host.asked = Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("path", "state", "asked"),
    [
        ("fine", links.OK, ["HEAD"]),
        ("moved", links.MOVED, ["HEAD"]),
        ("no-head", links.OK, ["HEAD", "GET"]),
        ("404", links.GONE, ["HEAD", "GET"]),
        ("410", links.GONE, ["HEAD", "GET"]),
        ("403", links.UNSURE, ["HEAD", "GET"]),
        ("busy", links.OK, ["HEAD", "GET"] * 2),
        ("500", links.UNSURE, ["HEAD", "GET"] * 3),
        ("429", links.UNSURE, ["HEAD", "GET"] * 3),
    ],
)
def test_answers(host: str, path: str, state: str, asked: list[str]):
    answer = ask(f"{host}/{path}", timeout=5, pause=0)
    assert (answer.state, answer.url) == (state, f"{host}/{path}")
    got = Counter({k.split()[0]: n for k, n in Host.asked.items() if k.endswith(path)})
    assert got == Counter(asked)
    assert ("new" in answer.detail) == (state == links.MOVED)


def test_a_silent_host_is_not_waited_for(host: str):
    answer = ask(f"{host}/silent", timeout=0.1, tries=2, pause=0)
    assert answer.state == links.UNSURE and "timed out" in answer.detail
    assert sum(Host.asked.values()) == 4


def test_each_address_is_asked_once_and_the_report_says_where(host: str):
    found = [
        Link(f"{host}/fine#a", "", "README.md"),
        Link(f"{host}/fine#b", "", "README.md"),
        Link(f"{host}/404", "", "README.md"),
        Link(f"{host}/404", "", "book/intro.md"),
    ]
    answers = ask_all([link.url for link in found], space=0, pause=0)
    assert [answer.state for answer in answers] == [links.GONE, links.OK]
    assert Host.asked == {"HEAD fine": 1, "HEAD 404": 1, "GET 404": 1}
    text = links.report(answers, found)
    assert text.startswith("2 addresses, 1 answer.")
    assert f"| gone | {host}/404 | 404 Not Found | README.md; book/intro.md |" in text


@pytest.mark.parametrize(("path", "code"), [("fine", 0), ("403", 0), ("404", 1)])
def test_only_a_dead_link_fails(host: str, path: str, code: int, monkeypatch, tmp_path):
    monkeypatch.setattr(links, "find", lambda _: [Link(f"{host}/{path}", "", "x.md")])
    report = tmp_path / "report.md"
    assert links.main(["--online", "--report", str(report)]) == code
    assert report.read_text(encoding="utf-8").startswith("1 addresses, ")
