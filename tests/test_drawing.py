"""The drawing pad: what it makes of strokes; its JavaScript in Node and a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

import notebooks
from metagan_lite import drawing
from metagan_lite.data import load_images, save_folder
from metagan_lite.drawing import draw, drawings_to_images
from metagan_lite.strokes import draw_strokes
from metagan_lite.widgets import SCRIPTS, widget_script

SCRIPT = widget_script(SCRIPTS / "drawing.js")
LINE, HOOK = [[[0.1, 0.1], [0.9, 0.8]]], [[[0, 0], [0, 1]], [[0, 1], [0.7, 0.6]]]
DRAWINGS = {"line": [LINE], "empty": [], "hook": [HOOK, HOOK, LINE]}


@pytest.fixture
def pad():
    pytest.importorskip("anywidget")
    return draw(["line", "empty", "hook"], DRAWINGS, goal=3)


# --- images -------------------------------------------------------------------


def test_images_of_drawings():
    images = drawings_to_images(DRAWINGS, 12)
    assert images.class_names == images.meta_test == ("line", "hook")
    assert images.labels.tolist() == [0, 1, 1, 1]
    torch.testing.assert_close(
        images.images, draw_strokes([LINE, HOOK, HOOK, LINE], 12)
    )


@pytest.mark.parametrize(
    ("drawings", "message"),
    [({"a": []}, "nothing is drawn"), ({"a": [LINE], "b": [[[[0, 0]]]]}, "'b': .*dot")],
)
def test_nothing_and_dots_are_refused(drawings, message: str):
    with pytest.raises(ValueError, match=message):
        drawings_to_images(drawings, 12)


def test_what_is_saved_is_read_again(tmp_path: Path):
    images = drawings_to_images({"a": [LINE, HOOK], "b": [HOOK]}, 16)
    save_folder(images, tmp_path)
    found = load_images(f"folder:{tmp_path}")
    assert found.class_names == ("a", "b") and found.labels.tolist() == [0, 0, 1]
    torch.testing.assert_close(found.images, images.images, atol=1 / 255, rtol=0)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["001.png", "002.png"]


def test_only_pictures_are_saved(tmp_path: Path):
    images = load_images("glyphs", classes=2, drawings=1)
    flat = type(images)(images.images[:, 0], images.labels, images.class_names, ())
    with pytest.raises(ValueError, match=r"expected images \[N, 1 or 3, H, W\]"):
        save_folder(flat, tmp_path)


# --- the widget, seen from Python ---------------------------------------------


def test_pad_holds_what_it_was_given(pad, tmp_path: Path):
    assert pad.drawings == DRAWINGS and pad.names == list(DRAWINGS) and pad.goal == 3
    pad.drawings = {**pad.drawings, "empty": [HOOK]}  # as the page does
    images = pad.images(12)
    assert images.images.shape == (5, 1, 12, 12)
    assert images.class_names == ("line", "empty", "hook")
    pad.save(tmp_path, 12)
    assert len(list(tmp_path.rglob("*.png"))) == 5


def test_pad_is_a_picture_where_no_notebook_runs(pad):
    bundle, _ = pad._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    words = "The drawing pad holds 1 drawings of line, 3 drawings of hook"
    assert bundle["text/plain"] == words and f'alt="{words}"' in bundle["text/html"]
    bundle, _ = draw(["a"])._repr_mimebundle_()
    assert "empty drawing pad" in bundle["text/html"]


def test_a_stored_notebook_keeps_the_picture_only(pad):
    """A page would ask another host for anywidget's script; other widgets stay."""
    bundle, _ = pad._repr_mimebundle_()
    view, key = notebooks.WIDGET_VIEW, notebooks.WIDGET_STATE
    html = {"text/html": "<p>slider</p>", view: {"model_id": "slider"}}
    cells = [
        new_code_cell("x", outputs=[new_output("display_data", data)])
        for data in (dict(bundle), dict(html))
    ]
    own = {"layout": "IPY_MODEL_lay"}
    state = {
        pad.model_id: {"model_module": "anywidget", "state": own},
        "lay": {"model_module": "@jupyter-widgets/base", "state": {}},
        "slider": {"model_module": "@jupyter-widgets/controls", "state": {}},
    }
    stored = new_notebook(cells=cells, metadata={"widgets": {key: {"state": state}}})
    notebooks.leave_stills(stored)
    assert list(stored.metadata.widgets[key]["state"]) == ["slider"]
    assert set(stored.cells[0].outputs[0].data) == {"text/html", "text/plain"}
    assert stored.cells[1].outputs[0].data == html


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "names must be"),
        (["a", "a"], {}, "names must be"),
        (["a/b"], {}, "names must be"),
        (["a"], {"goal": 0}, "goal must be"),
        (["a"], {"drawings": {"b": [LINE]}}, "'b', which is not among"),
        (["a"], {"drawings": {"a": [[[[0, 0]]]]}}, "single dot"),
    ],
)
def test_bad_pads_are_refused(names, options, message: str):
    with pytest.raises(ValueError, match=message):
        draw(names, **options)


def test_without_anywidget_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    drawing._pad.cache_clear()
    with pytest.raises(ImportError, match="run `pip install anywidget`"):
        draw(["a"])
    drawing._pad.cache_clear()


def test_the_library_does_not_need_anywidget():
    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import metagan_lite.drawing, metagan_lite.explore"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- its JavaScript -----------------------------------------------------------


def node(expression: str):
    """The value of an expression over the script's functions."""
    if shutil.which("node") is None:
        pytest.skip("Node is not here")
    script = (SCRIPTS / "drawing.js").as_uri()
    code = (
        f"import * as pad from {json.dumps(script)};"
        f"console.log(JSON.stringify({expression}))"
    )
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_places_are_in_the_unit_square():
    assert node("pad.inUnits([[[0, 104], [52, 52]], [[21, 31]]])") == [
        [[0.005, 0.995], [0.5, 0.5]],
        [[0.205, 0.3]],
    ]


def test_drawings_are_kept_and_dropped_by_name():
    assert node("pad.keep({a: [1]}, 'b', 2)") == {"a": [1], "b": [2]}
    assert node("pad.keep({a: [1]}, 'a', 2)") == {"a": [1, 2]}
    assert node("pad.drop({a: [1, 2], b: [3]}, 'a', 1)") == {"a": [1], "b": [3]}
    assert node("pad.drop({a: [1, 2]}, 'a', Infinity)") == {"a": []}
    assert node("pad.drop({}, 'a', 1)") == {"a": []}


def test_dots_are_not_drawings():
    assert node(
        "[[], [[[0, 0]]], [[[0, 0], [0, 0]]], [[[0, 0], [1, 0]]]].map(pad.drawn)"
    ) == [
        False,
        False,
        False,
        True,
    ]


@pytest.fixture(scope="module")
def page(browser):
    """The pad in a browser, with a model that only remembers."""
    model = """
      const state = {names: ["key", "cup"], goal: 2, drawings: {key: [], cup: []}};
      const heard = {};
      window.model = {
        get: (name) => state[name],
        set: (name, value) => { state[name] = value;
          (heard["change:" + name] || []).forEach((f) => f()); },
        save_changes: () => { window.saved = JSON.stringify(state.drawings); },
        on: (event, f) => (heard[event] ||= []).push(f),
        off: () => {},
      };
      pad.render({model, el: document.getElementById("here")});
    """
    script = SCRIPT.replace(
        "export default { render };", "const pad = { render };" + model
    )
    page = browser.new_page(has_touch=True)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(
        "<!doctype html><title>pad</title><div id=here></div>"
        f"<script type=module>{script}</script>"
    )
    page.wait_for_selector("canvas")
    yield page
    assert errors == []
    page.close()


def kept(page) -> dict:
    return json.loads(page.evaluate("window.saved || '{}'"))


def test_a_mouse_draws_undoes_and_keeps(page):
    box = page.locator("canvas").first.bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])
    for start, end in (((0.2, 0.2), (0.8, 0.6)), ((0.1, 0.9), (0.9, 0.9))):
        page.mouse.move(*at(*start))
        page.mouse.down()
        page.mouse.move(*at(*end), steps=5)
        page.mouse.up()
    page.get_by_role("button", name="Undo stroke").click()
    page.get_by_role("button", name="Keep drawing").click()
    ((stroke,),) = kept(page)["key"]
    assert len(stroke) == 6
    assert stroke[0] == pytest.approx([0.2, 0.2], abs=0.01)
    assert stroke[-1] == pytest.approx([0.8, 0.6], abs=0.01)
    assert page.get_by_role("status").inner_text() == "1 of 2 drawings of key are kept."


def test_keys_draw_as_well(page):
    page.get_by_role("combobox").select_option("cup")
    page.locator("canvas").first.focus()
    for key in ["ArrowLeft", "ArrowUp"] * 30:  # into the corner, and no further
        page.keyboard.press(key)
    for key in (" ", "ArrowRight", "ArrowRight", " ", "ArrowDown"):
        page.keyboard.press(key)
    for key in (" ", "ArrowRight", " ", "Backspace", "Enter"):  # a second stroke
        page.keyboard.press(key)
    assert kept(page)["cup"] == [[[[0.005, 0.005], [0.052, 0.005], [0.1, 0.005]]]]


def test_a_dot_and_an_empty_pad_are_not_kept(page):
    before = kept(page)
    page.get_by_role("button", name="Keep drawing").click()
    page.locator("canvas").first.click()
    page.get_by_role("button", name="Keep drawing").click()
    assert kept(page) == before
    assert page.get_by_role("status").inner_text() == "Draw a line first."
    page.get_by_role("button", name="Clear").click()


def test_kept_drawings_can_be_removed(page):
    page.get_by_role("button", name="Remove last kept").click()
    assert kept(page)["cup"] == []


def test_a_finger_draws(page):
    page.get_by_role("combobox").select_option("key")
    page.evaluate(
        """() => {
      const paper = document.querySelector("canvas");
      const box = paper.getBoundingClientRect();
      paper.setPointerCapture = () => {};
      const send = (type, x, y, id) => paper.dispatchEvent(new PointerEvent(type, {
        pointerId: id, pointerType: "touch", button: 0, bubbles: true,
        clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
      send("pointerdown", 0.5, 0.1, 7);
      send("pointerdown", 0.9, 0.1, 8);  // a second finger does nothing
      send("pointermove", 0.5, 0.9, 7);
      send("pointermove", 0.1, 0.1, 8);
      send("pointerup", 0.5, 0.9, 7);
    }"""
    )
    page.get_by_role("button", name="Keep drawing").click()
    (stroke,) = kept(page)["key"][-1]
    (start, end) = stroke
    assert start == pytest.approx([0.5, 0.1], abs=0.01)
    assert end == pytest.approx([0.5, 0.9], abs=0.01)


def test_everything_on_the_pad_has_a_name(page):
    for element in page.locator("canvas, button, select").all():
        assert element.evaluate(
            "e => e.ariaLabel || e.textContent || e.labels?.[0]?.textContent"
        )
    assert page.locator("canvas").first.get_attribute("tabindex") == "0"
