"""Every page of the built book, as a browser shows it.

Each page is opened once. It is measured at a desktop's and a phone's width, and
judged by axe in both themes; the tests below look at what was seen.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pdf
import pytest
from chromium import SETTLE

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
VENDOR = ROOT / "_build" / "vendor"
AXE = VENDOR / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("SCREENSHOTS")  # a folder: keep a picture of every page
NAMES = [name for name, _ in pdf.pages((ROOT / "_toc.yml").read_text("utf-8"))]
WIDTHS = {"desktop": 1280, "phone": 390}

needs_scripts = pytest.mark.skipif(
    not AXE.exists(), reason="npm was not there to vendor the scripts"
)
every_page = pytest.mark.parametrize("name", NAMES)

LOOK = r"""() => {
  const name = (e) => e.outerHTML.slice(0, 120);
  const all = (css) => [...document.querySelectorAll(css)];
  const texts = [];
  const walk = document.createTreeWalker(
    document.querySelector(".bd-article") ?? document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const inside = walk.currentNode.parentElement;
    if (!inside.closest("pre, code, script, style, mjx-container, .tex2jax_ignore"))
      texts.push(walk.currentNode.textContent);
  }
  return {
    broken: all("img").filter((e) => !e.naturalWidth).map(name),
    unsized: all(".bd-article img:not(.jupyter-widgets img)").filter(
      (e) => !(e.width && e.height)).map(name),
    without_alt: all(".bd-article img").filter(
      (e) => !(e.getAttribute("alt") ?? "").trim()).map(name),
    formulas: all(".bd-article .math").length,
    typeset: all(".bd-article mjx-container").length,
    formula_errors: all(
      'mjx-merror, [data-mjx-error], mjx-container [style*="color: red"]').map(name),
    raw: texts.filter((t) => /\$[^\s$][^$]*\$|\\[a-zA-Z]{2,}|\\\(/.test(t)),
    widget_views: all('script[type="application/vnd.jupyter.widget-view+json"]').length,
    sliders: all(".bd-article .noUi-handle").length,
    widget_scripts: all('script[src*="html-manager"]').length,
    next: document.querySelector("a.right-next")?.href ?? "",
    previous: document.querySelector("a.left-prev")?.href ?? "",
    launch: all('a[href*="colab.research"], a[href*="mybinder"]').map((e) => e.href),
    source: all('a[href*="/edit/"]').map((e) => e.href),
  };
}"""

MOVE = """async () => {
  const moved = [];
  for (const handle of document.querySelectorAll(".bd-article .noUi-handle")) {
    const widget = handle.closest(".widget-vbox") ?? document.body;
    const look = () => [
      handle.ariaValueText,
      [...widget.querySelectorAll("img")].find((e) => e.checkVisibility())?.alt,
    ];
    const before = look();
    handle.focus();
    const key = { key: "ArrowRight", keyCode: 39, bubbles: true };
    handle.dispatchEvent(new KeyboardEvent("keydown", key));
    await new Promise((done) => setTimeout(done, 100));
    moved.push([before, look(), handle.ariaLabel]);
  }
  return moved;
}"""

MEASURE = """() => ({
  beyond: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  cut: [...document.querySelectorAll(".bd-article pre")].filter((e) =>
    e.scrollWidth > e.clientWidth + 1 &&
    getComputedStyle(e).overflowX !== "auto").length,
  scrolling: [...document.querySelectorAll(".cell_input pre")].filter(
    (e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent.slice(0, 60)),
})"""

THEME = """(theme) => {
  document.documentElement.dataset.theme = theme;
  document.documentElement.dataset.mode = theme;
  for (const change of document.getAnimations())
    if (change instanceof CSSTransition) change.finish();
}"""
"""Chooses a theme, at once: half way of a button's change its contrast is too low."""

JUDGE = """async (rules) => {
  const found = await axe.run(document, {
    resultTypes: ["violations"],
    ...(rules ? { runOnly: rules } : {}),
  });
  return found.violations
    .filter((v) => ["serious", "critical"].includes(v.impact))
    .flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 160)}`));
}"""


@dataclass
class Seen:
    """What the browser showed of one page."""

    said: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    page: dict = field(default_factory=dict)
    widths: dict[str, dict] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)
    moved: list[list] = field(default_factory=list)


@pytest.fixture(scope="module")
def look(browser, site):
    """name → what is seen on this page, opened once."""

    @cache
    def look(name: str) -> Seen:
        seen = Seen()
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on(
            "console",
            lambda m: seen.said.append(m.text) if m.type == "error" else None,
        )
        page.on("pageerror", lambda error: seen.said.append(str(error)))
        page.on(
            "response",
            lambda r: seen.failed.append(r.url) if r.status >= 400 else None,
        )
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((site, "data:", "blob:"))
                else seen.foreign.append(r.url)
            ),
        )
        page.goto(f"{site}{name}.html")
        page.evaluate(SETTLE)
        seen.page = page.evaluate(LOOK)
        seen.moved = page.evaluate(MOVE)
        if AXE.exists():
            page.evaluate(AXE.read_text(encoding="utf-8"))
            for theme, rules in (("light", None), ("dark", ["color-contrast"])):
                page.evaluate(THEME, theme)
                seen.violations[theme] = page.evaluate(JUDGE, rules)
        for width in WIDTHS:
            page.set_viewport_size({"width": WIDTHS[width], "height": 900})
            seen.widths[width] = page.evaluate(MEASURE)
            for theme in ("light", "dark") if SHOTS else ():
                page.evaluate(THEME, theme)
                file = f"{name.replace('/', '-')}-{width}-{theme}.jpg"
                page.screenshot(
                    path=Path(SHOTS) / file, full_page=True, type="jpeg", quality=60
                )
        page.close()
        return seen

    return look


@every_page
def test_nothing_goes_wrong(name, look):
    seen = look(name)
    assert seen.said == [] and seen.failed == []
    assert seen.page["broken"] == []


@needs_scripts
@every_page
def test_nothing_is_asked_of_other_hosts(name, look):
    assert look(name).foreign == []


@every_page
def test_formulas_are_typeset(name, look):
    page = look(name).page
    assert page["formula_errors"] == [] and page["raw"] == []
    assert page["typeset"] >= page["formulas"]


@every_page
def test_figures_are_described_and_do_not_move_the_text(name, look):
    page = look(name).page
    assert page["without_alt"] == [] and page["unsized"] == []


@every_page
def test_page_and_code_fit(name, look):
    widths = look(name).widths
    for width, measured in widths.items():
        assert measured["beyond"] <= 0, width
        assert measured["cut"] == 0, width
    assert widths["desktop"]["scrolling"] == []


@needs_scripts
@every_page
def test_everyone_can_use_the_page(name, look):
    assert look(name).violations == {"light": [], "dark": []}


@every_page
def test_widgets_are_where_the_notebook_has_them(name, look):
    page = look(name).page
    assert (page["sliders"] > 0) == (page["widget_views"] > 0)
    assert (page["widget_scripts"] > 0) == (page["widget_views"] > 0)


@every_page
def test_sliders_move_by_keyboard_and_say_where_they_are(name, look):
    for (step, picture), (next_step, next_picture), label in look(name).moved:
        assert step and next_step and step != next_step
        assert picture and next_picture and picture != next_picture
        assert label and picture.endswith(f"{label} {step}")
        assert next_picture.endswith(f"{label} {next_step}")


@every_page
def test_the_next_and_the_previous_page_are_right(name, look):
    page, place = look(name).page, NAMES.index(name)
    for way, step in (("next", 1), ("previous", -1)):
        there = 0 <= place + step < len(NAMES)
        wanted = f"/{NAMES[place + step]}.html" if there else ""
        if name == NAMES[0]:  # the root's file lies beside a copy, index.html
            continue
        found = urlsplit(page[way]).path
        assert found == wanted or (way == "previous" and place == 1), way


@every_page
def test_a_notebook_opens_elsewhere(name, look):
    launch = look(name).page["launch"]
    wanted = f"{name}.ipynb" if name.startswith("notebooks/") else ""
    launch = [unquote(address) for address in launch]
    places = [address for address in launch if wanted and wanted in address]
    assert (wanted == "") == (launch == [])
    assert len({urlsplit(address).netloc for address in places}) == (2 if wanted else 0)


# --- the book as a whole -----------------------------------------------------


def test_search_finds_the_chapter_of_a_term(browser, site):
    page = browser.new_page()
    for term, chapter in (
        ("hypergradient ledger", "13_the_hypergradient_ledger"),
        ("Jensen-Shannon", "01_adversarial_game"),
    ):
        page.goto(f"{site}search.html?q={term}")
        links = page.locator("ul.search li a")
        links.first.wait_for(timeout=15_000)
        found = [link.get_attribute("href") for link in links.all()]
        assert any(chapter in address for address in found), term
    page.close()


def test_the_book_works_as_a_folder(browser):
    """Without a server, from file://: scripts, formulas, widgets and search."""
    said = []
    page = browser.new_page()
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((HTML / "notebooks" / "02_why_training_oscillates.html").as_uri())
    page.evaluate(SETTLE)
    seen = page.evaluate(LOOK)
    assert seen["typeset"] >= seen["formulas"] > 10 and seen["sliders"] > 0
    assert seen["broken"] == []
    # A browser gives no fonts to a folder; the icons that they hold are there as SVG.
    odd = [text for text in said if "font" not in text and "ERR_FAILED" not in text]
    assert odd == []
    # Without excerpts, which need a server; book/how_to_run.md says so.
    page.goto((HTML / "search.html").as_uri() + "?q=ledger")
    page.locator("ul.search li a").first.wait_for(timeout=15_000)
    page.close()


def test_a_version_can_be_chosen(browser, site):
    page = browser.new_page()
    versions = [
        {"name": "development", "folder": "", "here": True},
        {"name": "v1.2.0", "folder": "v1.2.0/", "here": False},
    ]
    page.goto(f"{site}book/preface.html")
    choice = page.get_by_label("Version", exact=True)
    assert choice.count() == 0  # this site has one
    page.route("**/versions.json", lambda route: route.fulfill(json=versions))
    page.route("**/v1.2.0/**", lambda route: route.fulfill(body="the same page, old"))
    page.goto(f"{site}book/preface.html")
    choice.select_option("v1.2.0")
    page.wait_for_url(f"{site}v1.2.0/book/preface.html")
    page.close()
