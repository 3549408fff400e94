"""The second tab of the page book/playground, used as a reader uses it."""

from __future__ import annotations

import json

import pytest
from test_page import AXE, HTML, Reader

pytestmark = pytest.mark.skipif(
    not (HTML / "_static" / "playground.js").exists(),
    reason="the book is not built with this page: make book",
)

THEME = """(theme) => {
  document.documentElement.dataset.theme = theme;
  for (const change of document.getAnimations())
    if (change instanceof CSSTransition) change.finish();
}"""
"""Chooses a theme, at once: half way of a button's change its contrast is too low."""


class Player(Reader):
    """A reader of the second tab."""

    def start(self) -> Player:
        self.press("Start")
        self.page.get_by_role("button", name="Run", exact=True).wait_for()
        return self

    def status(self) -> str:
        return self.page.locator(".gm-said").inner_text()

    def number(self, name: str) -> float:
        return float(self.page.locator(f"[data-number={name}]").inner_text())

    def choose(self, **values: object) -> None:
        """Settings of the game; each is left, so that it counts."""
        for name, value in values.items():
            field = self.page.locator(f".gm-form [name={name}]")
            kind = field.evaluate(
                "(e) => e.localName === 'select' ? e.localName : e.type"
            )
            if kind == "select":
                field.select_option(str(value))
            elif kind == "checkbox":
                field.set_checked(bool(value))
            else:
                field.fill(str(value))
                field.blur()

    def steps(self, count: int) -> None:
        """So many steps, one by one."""
        self.page.evaluate(
            """(n) => {
              const button = document.querySelector("#playground [data-do=step]");
              while (n--) button.click();
            }""",
            count,
        )

    def points(self) -> int:
        """How many real points there are, as the plane says."""
        said = self.page.locator(".gm-plane").get_attribute("aria-label")
        return int(said.split("with ")[1].split()[0])

    def colours(self, canvas: str = ".gm-plane") -> int:
        """How many different colours a picture has."""
        return self.page.locator(canvas).first.evaluate(
            """(c) => new Set(new Uint32Array(c.getContext("2d")
                 .getImageData(0, 0, c.width, c.height).data.buffer)).size"""
        )


@pytest.fixture
def player(browser, site):
    """On the second tab; at the end nothing has gone wrong."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    player = Player(page, f"{site}book/playground.html#game").start()
    yield player
    assert player.said == []
    if AXE.exists():  # without npm the book loads MathJax from elsewhere
        assert [url for url in player.asked if not url.startswith(site)] == []
    page.close()


def test_tabs_by_keyboard(browser, site):
    page = browser.new_page()
    reader = Reader(page, f"{site}book/playground.html").start()
    tabs = page.get_by_role("tab")
    assert [tab.get_attribute("aria-selected") for tab in tabs.all()] == [
        "true",
        "false",
    ]
    assert page.locator(".gm-plane").count() == 0  # built when it is first shown
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == (
        "Game in two dimensions"
    )
    assert page.url.endswith("#game")
    assert page.locator(".gm-plane").is_visible()
    assert not page.locator(".pg-pad").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "gm-plane"
    tabs.nth(1).focus()
    page.keyboard.press("ArrowRight")  # around to the first
    assert page.locator(".pg-pad").is_visible() and "#game" not in page.url
    page.keyboard.press("End")
    assert page.locator(".gm-plane").is_visible()
    page.keyboard.press("Home")
    assert page.locator(".pg-pad").is_visible()
    assert reader.said == []
    page.close()


def test_a_shared_link_outlives_the_other_tab(browser, site):
    page = browser.new_page()
    reader = Reader(page, f"{site}book/playground.html").start()
    reader.press("Take its drawings")
    reader.set(steps=1)
    reader.adapt()
    reader.press("Share as a link")
    link = page.url
    page.get_by_role("tab").nth(1).click()
    assert page.url.endswith("#game")
    page.get_by_role("tab").first.click()
    assert page.url == link and "drawn=" in link
    page.close()


def test_the_distance_falls(player):
    player.choose(points="one small Gaussian", regulariser="R1")
    before = player.number("distance")
    player.steps(300)
    assert player.number("step") == 300
    assert "After step 300" in player.status()
    assert player.number("distance") < before / 4
    for curve in ("losses", "distance"):
        label = player.page.locator(f"[data-curve={curve}]").get_attribute("aria-label")
        assert label.endswith("until step 300")
        assert player.colours(f"[data-curve={curve}]") > 2


def test_it_runs_until_it_is_paused(player):
    player.press("Run")
    player.page.wait_for_function(
        "() => Number(document.querySelector('[data-number=step]').textContent) > 5"
    )
    player.press("Pause")
    step = player.number("step")
    assert f"After step {step:g}" in player.status()
    player.page.wait_for_timeout(200)
    assert player.number("step") == step
    player.press("Run")
    player.page.get_by_role("tab").first.click()  # the other tab pauses it
    player.page.get_by_role("tab").nth(1).click()
    player.page.get_by_role("button", name="Run", exact=True).wait_for()
    player.press("Reset")
    assert player.number("step") == 0


def test_each_player_moves_alone(player):
    def losses() -> tuple[str, ...]:
        return tuple(
            player.page.locator(f"[data-number={name}]").inner_text()
            for name in ("D", "G", "distance")
        )

    _, _, distance = losses()
    player.press("Only D")
    moved_d, none, same = losses()
    assert none == "–" and same == distance and player.number("step") == 1
    player.press("Only G")
    again, _, other = losses()
    assert again == moved_d and other != distance and player.number("step") == 2


def test_the_diagram_says_what_flows(player):
    def text(name: str) -> str:
        return player.page.locator(f"[data-flow={name}]").text_content()

    def moved() -> list[str]:
        boxes = player.page.locator(".gm-moved").all()
        return [box.get_attribute("data-box") for box in boxes]

    assert (text("lossD"), text("toD"), moved()) == ("–", "slope –", [])
    player.press("Only D")
    assert moved() == ["D"] and text("toG") == "slope –"
    assert float(text("toD").removeprefix("slope ")) > 0
    player.press("One step")
    assert sorted(moved()) == ["D", "G"]
    for player_name in "DG":
        shown = player.page.locator(f"[data-number={player_name}]").inner_text()
        assert text(f"loss{player_name}") == shown
    label = player.page.locator(".gm-flow svg").get_attribute("aria-label")
    assert text("toG").removeprefix("slope ") in label and "–" not in label


def test_a_seed_makes_a_run(player):
    def end() -> float:
        player.press("Reset")
        player.steps(5)
        return player.number("G")

    first = end()
    assert end() == first
    player.choose(seed=2)
    assert end() != first


def test_every_setting_counts(player):
    changes = [
        *({"kind": kind} for kind in ("hinge", "wasserstein", "relativistic")),
        *({"regulariser": name} for name in ("R1", "R2", "WGAN-GP", "weight clipping")),
        {"regulariser": "R1", "weight": 5},
        {"order": "simultaneous"},
        {"moves": 3},
        {"optimiser": "SGD"},
        {"beta1": 0.9},
        {"rateD": 0.01},
        {"rateG": 0.01},
        {"batch": 16},
        {"start": "pooled"},
        {"start": "meta"},
        {"points": "two moons"},
    ]
    same = {
        "points": "ring of 8 Gaussians",
        "kind": "non-saturating",
        "regulariser": "none",
        "order": "alternating",
        "moves": 1,
        "optimiser": "Adam",
        "beta1": 0.5,
        "rateD": 0.005,
        "rateG": 0.002,
        "batch": 64,
        "start": "random",
    }
    seen = set()
    for change in ({}, *changes):
        player.choose(**same)
        player.choose(**change)
        player.press("Reset")
        player.steps(6)
        seen.add((player.number("D"), player.number("G"), player.number("distance")))
    assert len(seen) == len(changes) + 1


def test_a_run_that_diverges_says_so(player):
    player.choose(optimiser="SGD", kind="least-squares", rateD=10, rateG=10)
    player.steps(30)
    assert "diverged" in player.status() and "Reset" in player.status()
    player.choose(batch="")
    player.press("Reset")
    player.press("One step")
    assert "out of its range" in player.status() and player.number("step") == 0


def test_points_are_drawn_with_the_mouse(player):
    plane = player.page.locator(".gm-plane")
    plane.scroll_into_view_if_needed()
    box, mouse = plane.bounding_box(), player.page.mouse

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    mouse.move(*at(0.2, 0.7))
    mouse.down()
    mouse.move(*at(0.8, 0.7), steps=20)
    mouse.up()
    assert player.page.locator("[name=points]").input_value() == "drawn by hand"
    line = player.points()
    assert line > 40
    before = player.number("distance")
    player.press("Reset")
    player.steps(150)
    assert player.number("step") == 150 and player.number("distance") < before
    mouse.click(*at(0.5, 0.2))
    assert player.points() == line + 4
    player.press("Undo a stroke")
    player.press("Undo a stroke")
    assert player.points() == 0
    player.press("One step")
    assert "some real points" in player.status()


def test_points_are_put_with_keys(player):
    player.press("Clear the plane")
    player.page.locator(".gm-plane").focus()
    keys = player.page.keyboard
    for key in ("ArrowRight", "Shift+ArrowUp", " ", "ArrowLeft", " "):
        keys.press(key)
    assert player.points() == 8
    keys.press("ArrowDown")
    assert player.status() == "At 0.00, -0.08."
    keys.press("Backspace")
    assert player.points() == 4
    player.steps(3)
    assert player.number("step") == 3


def test_a_finger_draws(browser, site):
    context = browser.new_context(
        has_touch=True, viewport={"width": 390, "height": 844}
    )
    player = Player(context.new_page(), f"{site}book/playground.html#game").start()
    plane = player.page.locator(".gm-plane")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    player.page.touchscreen.tap(box["x"] + 50, box["y"] + 60)
    assert player.points() == 4 and player.said == []
    context.close()


def test_what_the_picture_shows_is_chosen(player):
    player.steps(20)
    player.choose(shade=False, level=False, arrows="none", real=False, fake=False)
    assert player.colours() == 1
    player.choose(real=True, fake=True)
    plain = player.colours()
    player.choose(shade=True)
    assert player.colours() > plain + 50
    player.choose(shade=False, level=True)
    pictures = set()
    for change in ({}, {"map": True}, {"arrows": "grid"}, {"arrows": "samples"}):
        player.choose(**change)
        pictures.add(player.page.locator(".gm-plane").evaluate("(c) => c.toDataURL()"))
    assert len(pictures) == 4


def test_three_starts_are_compared(player):
    page = player.page
    player.press("Another arc of the family")
    assert player.points() == 10
    assert "meta-learned" in player.status()
    labels = [
        canvas.get_attribute("aria-label") for canvas in page.locator(".gm-small").all()
    ]
    assert len(labels) == 3 and all("10 real points" in label for label in labels)
    assert (
        "arcs of the family that no training saw"
        in page.locator(".gm-known").inner_text()
    )
    slider = page.locator("[name=step]")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator(".gm-results output").inner_text().startswith("0 of")
    assert all(
        "after step 0" in canvas.get_attribute("aria-label")
        for canvas in page.locator(".gm-small").all()
    )
    player.choose(points="two moons")
    player.press("Compare")
    assert "on 10 points" in player.status()


def test_a_link_shows_others_the_same_run(player, browser, site):
    player.page.locator(".gm-plane").focus()
    for key in (" ", "ArrowUp", " ", "ArrowLeft", " "):
        player.page.keyboard.press(key)
    player.choose(kind="hinge", regulariser="R1", weight=0.3, seed=5, map=True)
    player.press("Share as a link")
    link = player.page.locator(".pg-link input").input_value()
    assert link == player.page.url and "#game&" in link and len(link) < 600
    page = browser.new_page()
    other = Player(page, link).start()
    assert other.points() == 12 and page.locator("[name=map]").is_checked()
    for one in (player, other):
        one.press("Reset")
        one.steps(4)
    for name in ("D", "G", "distance"):
        assert other.number(name) == player.number(name)
    page.goto("about:blank")
    page.goto(link.replace("kind=hinge", "kind=none&batch=0").split("&marks")[0])
    other.start()
    assert page.locator("[name=kind]").input_value() == "non-saturating"
    page.goto("about:blank")
    page.goto(link[:-1])
    other.start()
    assert "cannot be read" in other.status() and other.said == []
    page.close()


def test_memory_stays_bounded(player):
    session = player.page.context.new_cdp_session(player.page)

    def used() -> float:
        session.send("HeapProfiler.collectGarbage")
        usage = session.send("Runtime.getHeapUsage")
        return usage["usedSize"] + usage.get("backingStorageSize", 0)

    many = """async (n) => {
      const press = (name) =>
        document.querySelector(`#playground [data-do=${name}]`).click();
      while (n--) {
        press("reset"); press("run"); press("run"); press("step");
        document.querySelector(".gm-starts [type=button]").click();
        if (n % 20 === 0) await new Promise((done) => setTimeout(done));
      }
    }"""
    player.page.evaluate(many, 10)
    before = used()
    player.page.evaluate(many, 200)
    player.steps(1000)  # the history is thinned out
    assert used() - before < 1e6  # bytes


def test_everyone_can_use_it(player):
    player.steps(3)
    player.press("Another arc of the family")
    page = player.page
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    if not AXE.exists():
        pytest.skip("npm was not there to vendor axe")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    pictures = []
    for theme in ("light", "dark"):
        page.evaluate(THEME, theme)
        found = page.evaluate("async () => (await axe.run('#playground')).violations")
        assert found == [], json.dumps(found)[:500]
        page.wait_for_timeout(50)
        pictures.append(page.locator(".gm-plane").evaluate("(c) => c.toDataURL()"))
    assert pictures[0] != pictures[1]  # it has the theme's colours
    for canvas in page.locator(":is(.gm-plane, .gm-small, .gm-curve)").all():
        assert canvas.evaluate("(c) => getComputedStyle(c).filter") == "none"


def test_it_works_as_a_file(browser):
    page = browser.new_page()
    address = (HTML / "book" / "playground.html").as_uri()
    player = Player(page, f"{address}#game").start()
    player.steps(2)
    assert player.number("step") == 2
    # A browser gives no fonts to a folder.
    odd = [
        text for text in player.said if "font" not in text and "ERR_FAILED" not in text
    ]
    assert odd == []
    page.close()
