"""The page book/playground of the built book, used as a reader uses it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from metagan_lite.features import FeatureNet

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
AXE = ROOT / "_build" / "vendor" / "axe-core" / "axe.min.js"
ROWS = ("meta", "pooled", "random")

pytestmark = pytest.mark.skipif(
    not (HTML / "_static" / "playground.js").exists(),
    reason="the book is not built with this page: make book",
)

ADAPT = """async () => {
  const root = document.getElementById("playground");
  const done = new Promise((r) => root.addEventListener("adapted", r, { once: true }));
  root.querySelector("form").requestSubmit();
  const { support, rows } = (await done).detail;
  const plain = {};
  for (const [name, states] of Object.entries(rows))
    plain[name] = states.map(({ samples }) => [...samples]);
  return { support: support.map((image) => [...image]), rows: plain };
}"""


SETTLED = """() =>
  document.querySelector(".pg-said").textContent.startsWith("Adapted")"""


class Reader:
    """A browser's page with what a reader does in it."""

    def __init__(self, page, address: str):
        self.page, self.said, self.asked = page, [], []
        page.on(
            "console", lambda m: self.said.append(m.text) if m.type == "error" else None
        )
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address)

    def start(self) -> Reader:
        self.press("Start")
        self.page.get_by_role("button", name="Adapt", exact=True).wait_for()
        return self

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def status(self) -> str:
        return self.page.locator(".pg-said").inner_text()

    def examples(self) -> int:
        return self.page.locator(".pg-examples li").count()

    def set(self, **values: object) -> None:
        for name, value in values.items():
            field = self.page.locator(f"#playground form [name={name}]")
            if field.evaluate("(e) => e.localName") == "select":
                field.select_option(str(value))
            else:
                field.fill(str(value))

    def draw(self, *strokes: list[tuple[float, float]]) -> None:
        """Strokes of points in the unit square, with the mouse."""
        pad = self.page.locator(".pg-pad")
        pad.scroll_into_view_if_needed()
        box, mouse = pad.bounding_box(), self.page.mouse
        for stroke in strokes:
            places = [
                (box["x"] + x * box["width"], box["y"] + y * box["height"])
                for x, y in stroke
            ]
            mouse.move(*places[0])
            mouse.down()
            for place in places[1:]:
                mouse.move(*place, steps=8)
            mouse.up()

    def adapt(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Support [K, 400]; row → its samples after each step, [S + 1, 10, 400]."""
        found = self.page.evaluate(ADAPT)
        return torch.tensor(found["support"]), {
            name: torch.tensor(states).unflatten(1, (10, 400))
            for name, states in found["rows"].items()
        }


@pytest.fixture
def reader(browser, site):
    """On the page, started; at the end nothing has gone wrong."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    reader = Reader(page, f"{site}book/playground.html").start()
    yield reader
    assert reader.said == []
    if AXE.exists():  # without npm the book loads MathJax from elsewhere
        assert [
            url for url in reader.asked if not url.startswith((site, "blob:"))
        ] == []
    page.close()


@pytest.fixture(scope="module")
def scorer():
    """Images [n, 400] and named sets of images → the nearest set's name of each."""
    net = FeatureNet((1, 20, 20))
    folder = ROOT / "results" / "scorers"
    net.load_state_dict(load_file(folder / "omniglot-small-20.safetensors"))
    net.eval()

    @torch.no_grad()
    def recognised(images: torch.Tensor, classes: dict[str, torch.Tensor]) -> list[str]:
        means = torch.stack(
            [net(x.view(-1, 1, 20, 20)).mean(0) for x in classes.values()]
        )
        nearest = torch.cdist(net(images.view(-1, 1, 20, 20)), means).argmin(1)
        return [list(classes)[i] for i in nearest]

    return recognised


@pytest.fixture(scope="module")
def characters():
    """Those of held-out alphabets, which come first; the others are of no such kind."""
    tensors = load_file(ROOT / "book" / "playground" / "model.safetensors")
    return {
        name: (tensors[name].float() / 127.5 - 1).flatten(1)
        for name in (f"drawings.{i}" for i in range(6))
    }


def arrows(i: int) -> list[list[tuple[float, float]]]:
    """An arrow that points up, a little different each time."""
    a, b = 0.02 * (i % 3), 0.03 * (i % 2)
    return [
        [(0.5 + a, 0.9), (0.5 - b, 0.1)],
        [(0.2 + b, 0.42 - a), (0.5 - b, 0.1), (0.8 + a, 0.4 + b)],
    ]


def test_nothing_is_loaded_before_it_is_started(browser, site):
    page = browser.new_page()
    reader = Reader(page, f"{site}book/playground.html")
    page.wait_for_load_state("networkidle")
    assert not any("playground.js" in url for url in reader.asked)
    reader.start()
    assert [url for url in reader.asked if "playground.js" in url]
    reader.asked.clear()
    page.goto(f"{site}book/evidence.html")
    page.wait_for_load_state("networkidle")
    assert reader.asked and not any("_static/playground" in u for u in reader.asked)
    page.close()


def test_samples_become_what_was_drawn(reader, scorer, characters):
    for i in range(6):
        reader.draw(*arrows(i))
        reader.press("Add the drawing")
    assert reader.examples() == 6
    support, rows = reader.adapt()
    assert support.shape == (6, 400) and rows["meta"].shape == (11, 10, 400)
    classes = {"drawn": support, **characters}

    def rate(samples: torch.Tensor) -> float:
        return scorer(samples, classes).count("drawn") / len(samples)

    assert rate(rows["meta"][0]) <= 0.3
    assert rate(rows["meta"][-1]) >= 0.7
    assert rate(rows["meta"][-1]) >= rate(rows["pooled"][-1]) + 0.3


def test_held_out_characters_are_recognised_after_adaptation(
    reader, scorer, characters
):
    after = dict.fromkeys(ROWS, 0.0)
    before = 0.0
    for i, name in enumerate(characters):
        reader.page.locator("[name=character]").select_option(str(i))
        reader.press("Take its drawings")
        support, rows = reader.adapt()
        torch.testing.assert_close(support, characters[name])
        before += scorer(rows["meta"][0], characters).count(name) / 60
        for row in ROWS:
            after[row] += scorer(rows[row][-1], characters).count(name) / 60
    assert before < 0.3 and after["meta"] > 0.7
    assert after["meta"] > after["pooled"] + 0.2


def test_a_symbol_can_be_drawn_with_keys(reader):
    reader.page.locator(".pg-pad").focus()
    keys = reader.page.keyboard
    for key in ["ArrowLeft"] * 6 + [" "] + ["ArrowRight"] * 12 + [" "]:
        keys.press(key)
    assert reader.status() == "Pen up."
    for key in ["ArrowUp"] * 4 + [" ", "Shift+ArrowLeft", "Shift+ArrowLeft", " "]:
        keys.press(key)
    keys.press("Backspace")  # the second stroke
    reader.press("Add the drawing")
    reader.set(steps=1)
    (image,), _ = reader.adapt()
    ink = image.view(20, 20) > 0
    assert ink[:, 0].any() and ink[:, -1].any()  # a line that fills the width
    assert ink.any(1).sum() <= 6


def test_a_finger_draws(browser, site):
    context = browser.new_context(
        has_touch=True, viewport={"width": 390, "height": 844}
    )
    reader = Reader(context.new_page(), f"{site}book/playground.html").start()
    pad = reader.page.locator(".pg-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    reader.page.touchscreen.tap(box["x"] + 50, box["y"] + 60)
    reader.press("Add the drawing")
    assert reader.examples() == 1
    reader.set(steps=1)
    reader.adapt()
    canvas = reader.page.locator(".pg-rows canvas").first
    assert canvas.evaluate("(c) => [c.width, c.height]") == [
        104,
        41,
    ]  # two lines of five
    assert reader.said == []
    context.close()


def test_strokes_and_examples_can_be_taken_back(reader):
    reader.draw([(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)])
    reader.press("Undo")
    reader.press("Undo")
    reader.press("Add the drawing")
    assert reader.examples() == 0 and "empty" in reader.status()
    reader.draw([(0.2, 0.2), (0.8, 0.8)])
    reader.press("Clear")
    reader.press("Adapt")
    assert "at least one example" in reader.status()
    reader.press("Take its drawings")
    reader.press("Remove example 3")
    assert reader.examples() == 9
    reader.draw([(0.2, 0.2), (0.8, 0.8)])
    reader.press("Add the drawing")
    reader.draw([(0.2, 0.2), (0.8, 0.8)])
    reader.press("Add the drawing")
    assert reader.examples() == 10 and "remove one" in reader.status()
    reader.press("Remove all")
    assert reader.examples() == 0


def test_settings_are_those_of_the_run(reader):
    reader.press("Take its drawings")
    reader.set(shots=3, steps=2)
    support, rows = reader.adapt()
    assert len(support) == 3 and len(rows["meta"]) == 3
    for changes in ({"rateG": 0.1}, {"rateD": 0.1}, {"fakes": 5}, {"seed": 2}):
        reader.press("First settings")
        reader.set(shots=3, steps=2, **changes)
        other = reader.adapt()[1]["meta"]
        assert (other[-1] - rows["meta"][-1]).abs().max() > 1e-3, changes
    reader.press("First settings")
    reader.set(loss="least-squares", rateG=5, rateD=5, steps=6)
    reader.adapt()
    assert "diverged: lower the rates" in reader.page.locator(".pg-rows").inner_text()


def test_each_step_and_the_nearest_example_are_shown(reader):
    reader.press("Take its drawings")
    reader.set(steps=4)
    support, rows = reader.adapt()
    reader.page.get_by_label("the nearest example").check()
    slider = reader.page.locator("[name=step]")
    slider.focus()
    reader.page.keyboard.press("ArrowLeft")
    assert "3 of 4" in reader.page.locator(".pg-step").inner_text()
    curves = reader.page.get_by_role("img", name=re.compile("^Losses of"))
    assert curves.count() == len(ROWS)
    for curve in curves.all():
        assert "at steps 1 to 4" in curve.get_attribute("aria-label")
        assert curve.locator("circle, rect").count() == 2
    for place, row in enumerate(ROWS):
        canvas = reader.page.locator(".pg-rows canvas").nth(place)
        assert "step 3, and the nearest" in canvas.get_attribute("aria-label")
        pixels = canvas.evaluate(
            """(c) => [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]
               .filter((_, i) => i % 4 === 0)"""
        )
        shown = torch.tensor(pixels, dtype=torch.float32).view(41, 209)
        samples = rows[row][3]
        nearest = support[torch.cdist(samples, support).argmin(1)]
        for top, images in ((0, samples), (21, nearest)):
            for i, image in enumerate(images):
                tile = shown[top : top + 20, 21 * i : 21 * i + 20]
                wanted = 255 * (1 - (image.view(20, 20) + 1) / 2)
                torch.testing.assert_close(tile, wanted, atol=1.0, rtol=0)


def test_a_link_shows_others_the_same(reader, browser, site):
    reader.draw(*arrows(1))
    reader.press("Add the drawing")
    reader.set(steps=3, seed=77, order="simultaneous", rateG=0.3)
    support, rows = reader.adapt()
    reader.press("Share as a link")
    link = reader.page.locator(".pg-link input").input_value()
    assert link == reader.page.url and len(link) < 500
    page = browser.new_page()
    other = Reader(page, link).start()
    page.wait_for_function(SETTLED)
    assert page.locator("[name=order]").input_value() == "simultaneous"
    again, same = other.adapt()
    assert again.equal(support) and all(same[row].equal(rows[row]) for row in ROWS)
    page.goto("about:blank")
    page.goto(link.replace("order=simultaneous", "order=none&loss=none"))
    other.start()
    page.wait_for_function(SETTLED)
    assert page.locator("[name=order]").input_value() == "alternating"
    page.goto("about:blank")
    page.goto(re.sub("drawn=.*", "drawn=AgI", link))
    other.start()
    assert "cannot be read" in other.status() and other.examples() == 0
    assert other.said == []
    page.close()


def test_the_rows_can_be_saved(reader, tmp_path):
    def saved(button: str) -> Image.Image:
        with reader.page.expect_download() as download:
            reader.press(button)
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return Image.open(path)

    reader.press("Take its drawings")
    reader.set(steps=2)
    _, rows = reader.adapt()
    with saved("Save as PNG") as image:
        assert image.format == "PNG" and image.size == (209 * 4, 3 * (20 + 7) * 4)
        grey = torch.from_numpy(np.array(image.convert("L")))
    last = 255 * (1 - (rows["pooled"][2][4].view(20, 20) + 1) / 2)
    tile = grey[(27 + 7) * 4 + 2 :: 4, 4 * 21 * 4 + 2 :: 4][:20, :20]
    torch.testing.assert_close(tile.float(), last, atol=1.0, rtol=0)
    with saved("Save the steps as GIF") as film:
        assert film.format == "GIF" and film.n_frames == 3
        assert film.size == (209 * 3, 3 * (20 + 7) * 3)
        for step in range(3):
            film.seek(step)
            grey = torch.from_numpy(np.array(film.convert("L")))[7 * 3 + 1 :: 3, 1::3]
            first = 255 * (1 - (rows["meta"][step][0].view(20, 20) + 1) / 2)
            torch.testing.assert_close(grey[:20, :20].float(), first, atol=3.0, rtol=0)
    assert "2 of 2" in reader.page.locator(".pg-step").inner_text()


def test_memory_stays_bounded(reader):
    reader.press("Take its drawings")
    reader.set(steps=2, fakes=10)
    session = reader.page.context.new_cdp_session(reader.page)

    def used() -> float:
        session.send("HeapProfiler.collectGarbage")
        usage = session.send("Runtime.getHeapUsage")
        return usage["usedSize"] + usage.get("backingStorageSize", 0)

    many = f"async (n) => {{ const adapt = {ADAPT}; while (n--) await adapt(); }}"
    reader.page.evaluate(many, 10)
    before = used()
    reader.page.evaluate(many, 200)
    assert used() - before < 1e6  # bytes; one run makes more than that


def test_everyone_can_use_it(reader):
    reader.press("Take its drawings")
    reader.set(steps=1)
    reader.adapt()
    reader.press("Share as a link")
    page = reader.page
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    if not AXE.exists():
        pytest.skip("npm was not there to vendor axe")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for theme in ("light", "dark"):
        page.evaluate("(t) => (document.documentElement.dataset.theme = t)", theme)
        found = page.evaluate("async () => (await axe.run('#playground')).violations")
        assert found == [], json.dumps(found)[:500]


def test_it_works_as_a_file(browser):
    page = browser.new_page()
    reader = Reader(page, (HTML / "book" / "playground.html").as_uri()).start()
    reader.press("Take its drawings")
    reader.set(steps=1)
    _, rows = reader.adapt()
    assert rows["meta"].isfinite().all()
    reader.press("Share as a link")
    assert "drawn=" in page.url
    with page.expect_download():
        reader.press("Save as PNG")
    # A browser gives no fonts to a folder.
    odd = [
        text for text in reader.said if "font" not in text and "ERR_FAILED" not in text
    ]
    assert odd == []
    page.close()
