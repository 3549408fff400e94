"""The explorer in a notebook: its engine in Python, its messages, its view."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import zipfile
from pathlib import Path

import colab
import pytest
import torch

from metagan_lite import (
    GAN,
    MetaDiscriminator,
    MetaGANConfig,
    MetaGenerator,
    TrainedMetaGAN,
    adapt,
    explore,
    explorer,
    load_images,
)
from metagan_lite.adapt import inner_step
from metagan_lite.data import LabelledImages
from metagan_lite.explorer import adaptation_explorer
from metagan_lite.strokes import draw_strokes
from metagan_lite.widgets import SCRIPTS

ROOT = Path(__file__).resolve().parents[1]
AXE = ROOT / "_build" / "vendor" / "axe-core" / "axe.min.js"
CLOSE = {"atol": 1e-4, "rtol": 0}
SHAPE = (1, 8, 8)
RATES = {"G": 0.4, "D": 0.15}
FACTOR, DECAY = 0.3, 0.5


def game(seed: int, shape=SHAPE, **options) -> GAN:
    rng = torch.Generator().manual_seed(seed)
    widths = {"hidden": (12,), "generator": rng}
    return GAN(
        MetaGenerator(shape, latent_dim=4, **widths),
        MetaDiscriminator(shape, **widths),
        **options,
    )


def trained(seed: int, **options) -> TrainedMetaGAN:
    config = MetaGANConfig(shots=3, inner_steps=2, inner_lr=RATES, **options)
    return TrainedMetaGAN(game(seed), config, [], {})


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    return load_images("glyphs", classes=5, drawings=12, size=8)


CANDIDATES = {"Meta-GAN": trained(0), "Pooled GAN": game(1)}


def make(images, **options) -> explorer._Explorer:
    widget = adaptation_explorer(
        CANDIDATES, images, factors={"Pooled GAN": FACTOR}, decay=DECAY, **options
    )
    return widget._explorer


def states(found: explorer._Explorer, support: torch.Tensor, shown=6, **changes):
    """[(losses [rows, 2], samples of each row), …] as the view asks for them."""
    settings = {k: str(v) for k, v in (found.about["defaults"] | changes).items()}
    question = {"view": "a", "kind": "run", "settings": settings, "shown": shown}
    assert found.answer(question, [support.numpy().tobytes()]) == []
    for _ in range(int(settings["steps"]) + 1):
        losses, *samples = found.answer({"view": "a", "kind": "step"})
        yield losses, samples


pytest.importorskip("anywidget")


# --- what it computes ---------------------------------------------------------


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
@pytest.mark.parametrize("kind", ["non-saturating", "hinge", "relativistic"])
def test_samples_and_losses_are_the_librarys(images, order, kind):
    support = images.images[:3]
    found = list(
        states(make(images), support, steps=4, fakes=3, order=order, loss=kind, seed=5)
    )
    assert len(found) == 5
    rng = torch.Generator().manual_seed(5)
    z = torch.randn(6, 4, generator=rng)
    noise = CANDIDATES["Pooled GAN"].noise(1, 4, 3, generator=rng)
    simultaneous = order == "simultaneous"
    for row, (own, factor) in enumerate(((game(0), 1.0), (game(1), FACTOR))):
        own = GAN(*[own.players[p] for p in ("G", "D")], loss=kind)
        decays = [1, 1, DECAY, DECAY**2]  # two steps were trained
        rates = {p: [factor * d * rate for d in decays] for p, rate in RATES.items()}
        params = own.parameters()
        for step in range(5):
            players = adapt(
                own,
                support[None],
                inner_steps=step,
                inner_lr={p: r[:step] or [1.0] for p, r in rates.items()},
                noise=noise[:, :step],
                simultaneous=simultaneous,
            )
            with torch.no_grad():
                wanted = players["G"](z[None])[0]
            torch.testing.assert_close(found[step][1][row], wanted, **CLOSE)
            if step == 0:
                continue
            # The losses by the definition of a step, one player at a time.
            now = {p: dict.fromkeys(params[p], rates[p][step - 1]) for p in own.players}
            d_moved = inner_step(
                own, params, support, noise[0, step - 1], {**now, "G": {}}
            )
            for column, (player, seen) in enumerate(
                (("D", params), ("G", params if simultaneous else d_moved))
            ):
                nets = explorer.Adapted.at(own, batched(seen))
                with torch.no_grad():
                    loss = nets.evaluate(
                        lambda nets, x, n, player=player: own.loss(player, nets, x, n),
                        support[None],
                        noise[:, step - 1],
                    )
                torch.testing.assert_close(
                    found[step][0][row, column], loss[0], **CLOSE
                )
            params = inner_step(
                own,
                params,
                support,
                noise[0, step - 1],
                now,
                simultaneous=simultaneous,
            )
        moved = found[-1][1][row] - found[0][1][row]
        assert moved.abs().max() > 0.05  # the test sees a difference


def batched(params):
    return {
        player: {name: value.detach()[None] for name, value in own.items()}
        for player, own in params.items()
    }


def test_fields_begin_as_in_training(images):
    about = make(images).about
    assert about["defaults"] == {
        "shots": 3,
        "steps": 2,
        "fakes": 3,
        "rateG": 0.4,
        "rateD": 0.15,
        "seed": 1,
        "loss": "non-saturating",
        "order": "alternating",
    }
    assert [row["factor"] for row in about["rows"]] == [1, FACTOR]
    assert about["characters"] == [{"name": images.meta_test[0], "count": 10}]
    assert (about["size"], about["channels"], about["relative"]) == (8, 1, False)


def test_rates_that_are_no_single_number_are_scaled(images):
    layers = {
        player: {name.rpartition(".")[0]: RATES[player] for name in own}
        for player, own in game(0).parameters().items()
    }
    layers["D"][min(layers["D"])] *= 0.5
    config = MetaGANConfig(shots=3, inner_steps=2, inner_lr=layers)
    meta_gan = TrainedMetaGAN(game(0), config, [], {})
    found = adaptation_explorer({"learned": meta_gan}, images)._explorer
    assert found.about["relative"] and found.about["defaults"]["rateG"] == 1
    support = images.images[:3]
    *_, (_, (half,)) = states(found, support, rateG=0.5, rateD=0.5)
    rng = torch.Generator().manual_seed(1)
    z = torch.randn(6, 4, generator=rng)
    noise = meta_gan.game.noise(1, 2, 3, generator=rng)
    halved = {p: {k: r / 2 for k, r in own.items()} for p, own in layers.items()}
    with torch.no_grad():
        wanted = meta_gan.adapt(support[None], inner_lr=halved, noise=noise)["G"](
            z[None]
        )
    torch.testing.assert_close(half, wanted[0], **CLOSE)


def test_nets_are_copied_and_any_images_will_do(device):
    shape = (3, 10, 10)
    own = game(3, shape)
    colour = LabelledImages(
        torch.rand(4, *shape) * 2 - 1, torch.tensor([0, 0, 1, 1]), ("a", "b"), ("b",)
    )
    found = adaptation_explorer({"any": own}, colour, device=device)._explorer
    before = list(states(found, colour.images[:1], steps=2))
    for parameter in own.players["G"].parameters():
        parameter.data.zero_()
    after = list(states(found, colour.images[:1], steps=2))
    assert before[-1][1][0].shape == (6, *shape)
    torch.testing.assert_close(before[-1][1][0], after[-1][1][0])
    (image,) = found.answer(
        {"view": "a", "kind": "prepare", "drawings": [{"strokes": [[[0, 0], [9, 9]]]}]}
    )
    assert image.shape == shape and image[0].equal(image[2])


@pytest.mark.parametrize(
    ("candidates", "changes", "message"),
    [
        ({}, {}, "got none: pass"),
        ({"a": game(0).players["G"]}, {}, "'a': expected a TrainedMetaGAN or a GAN"),
        ({"a": game(0, (1, 9, 9))}, {}, r"'a': expected samples \[1, 8, 8\]"),
        ({"a": game(0)}, {"factors": {"b": 1}}, "factors of 'b'"),
        ({"a": game(0)}, {"decay": 0}, "0 < decay ≤ 1"),
        ({"a": game(0)}, {"inner_steps": 0}, "inner_steps must be"),
    ],
)
def test_bad_explorers_are_refused(images, candidates, changes, message):
    with pytest.raises(ValueError, match=message):
        adaptation_explorer(candidates, images, **changes)


def test_images_must_be_square_and_held_out(images):
    wide = LabelledImages(
        torch.zeros(1, 1, 4, 5), torch.zeros(1).long(), ("a",), ("a",)
    )
    with pytest.raises(ValueError, match=r"expected images \[N, 1 or 3, H, H\]"):
        adaptation_explorer(CANDIDATES, wide)
    seen = LabelledImages(images.images, images.labels, images.class_names, ())
    with pytest.raises(ValueError, match="expected held-out classes"):
        adaptation_explorer(CANDIDATES, seen)


# --- messages -----------------------------------------------------------------


@pytest.fixture
def widget(images, monkeypatch):
    """A widget, and a function: question, buffers → what it sends."""
    made = adaptation_explorer(CANDIDATES, images, inner_steps=3)
    sent = []
    monkeypatch.setattr(
        made, "send", lambda content, buffers=(): sent.append((content, buffers))
    )

    def ask(content: dict, buffers=()):
        sent.clear()
        made._handle_custom_msg(content, [memoryview(b) for b in buffers])
        (answer,) = sent
        json.dumps(answer[0], allow_nan=False)  # what is no number goes as bytes
        return answer

    made.ask = ask
    return made


def test_messages_there_and_back(widget, images):
    examples = {"stored": [0, 4]}, {"strokes": [[[10, 10], [90, 60]]]}
    answer, buffers = widget.ask(
        {"view": "v", "id": 1, "kind": "prepare", "drawings": list(examples)}
    )
    assert answer == {"view": "v", "id": 1}
    stored, drawn = (
        torch.frombuffer(bytearray(b), dtype=torch.float32) for b in buffers
    )
    own = images.images[images.labels == 4]
    assert stored.equal(own[4].flatten())
    assert drawn.equal(draw_strokes([[[[10, 10], [90, 60]]]], 8).flatten())
    settings = {k: str(v) for k, v in widget.about["defaults"].items()}
    question = {"view": "v", "kind": "run", "settings": settings, "shown": 10}
    assert widget.ask({**question, "id": 2}, buffers[:1]) == (
        {"view": "v", "id": 2},
        [],
    )
    for step in range(4):
        answer, found = widget.ask({"view": "v", "id": 3 + step, "kind": "step"})
        assert "error" not in answer
        assert [len(b) for b in found] == [4 * 2 * 2, *[4 * 10 * 64] * 2]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"kind": "prepare", "drawings": [{"strokes": [[[3, 3]]]}]}, "single dot"),
        ({"kind": "step"}, "expected a run"),
        ({"kind": "dance"}, "expected prepare, run or step, got 'dance'"),
        ({"kind": "prepare", "drawings": [{"stored": [9, 9]}]}, "IndexError: "),
    ],
)
def test_what_goes_wrong_is_sent(widget, question, message):
    answer, buffers = widget.ask({**question, "view": "v", "id": 8})
    assert message in answer["error"] and answer["id"] == 8 and not buffers


def test_two_views_have_runs_of_their_own(widget, images):
    settings = {k: str(v) for k, v in widget.about["defaults"].items()}
    support = images.images[:1].numpy().tobytes()
    for view in "ab":
        question = {"view": view, "id": 0, "kind": "run", "settings": settings}
        widget.ask({**question, "shown": 10}, [support])
    first = [widget.ask({"view": "a", "id": 1, "kind": "step"})[1] for _ in range(4)]
    second = [widget.ask({"view": "b", "id": 1, "kind": "step"})[1] for _ in range(4)]
    assert first[3][1:] == second[3][1:]  # b has not gone on while a did


# --- where it cannot run ------------------------------------------------------


def test_it_is_a_picture_where_no_notebook_runs(images):
    made = adaptation_explorer(CANDIDATES, images)
    bundle, _ = made._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    words = (
        f"3 examples of {images.meta_test[0]}, and samples after 2 inner steps of"
        " Meta-GAN, Pooled GAN"
    )
    assert bundle["text/plain"] == words and f'alt="{words}"' in bundle["text/html"]
    shown, labels, _ = made._explorer.still()
    assert shown.shape == (3, 10, *SHAPE) and labels == ["examples", *CANDIDATES]
    assert (shown[0, 3:] == -1).all() and (shown[0, :3] != -1).any()


def test_without_anywidget_it_says_what_to_install(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    explorer._widget.cache_clear()
    with pytest.raises(ImportError, match="run `pip install anywidget`"):
        adaptation_explorer(CANDIDATES, images)
    explorer._widget.cache_clear()


def test_it_is_where_the_notebooks_look():
    assert explore.adaptation_explorer is adaptation_explorer


def test_the_wheel_has_the_scripts(tmp_path, monkeypatch):
    source = tmp_path / "source"  # a copy: an old build would add what it had
    shutil.copytree(SCRIPTS.parent, source / "metagan_lite")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    monkeypatch.setattr(colab, "ROOT", source)
    wheel = zipfile.ZipFile(colab.build_wheel(tmp_path))
    wanted = {f"metagan_lite/js/{file.name}" for file in SCRIPTS.iterdir()}
    assert wanted <= set(wheel.namelist())


# --- in a browser -------------------------------------------------------------

# A model as a notebook's front end has it, whose messages go to Python and back.
MODEL = """
const heard = new Set();
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
const model = {
  get: () => (ABOUT),
  on: (event, f) => event === "msg:custom" && heard.add(f),
  off: (event, f) => heard.delete(f),
  async send(content, callbacks, buffers = []) {
    const [answer, found] = await window.python(content, buffers.map(text));
    const views = found.map((part) => {  // which may begin anywhere
      const padded = Uint8Array.from([0, 0, ...bytes(part)]);
      return new DataView(padded.buffer, 2);
    });
    for (const hear of heard) hear(answer, views);
  },
};
for (const id of ["here", "there"]) {
  const el = document.getElementById(id);
  window[id] = render({ model, el });
  el.firstChild.addEventListener("adapted", (event) => (window.adapted = event.detail));
}
"""


@pytest.fixture
def page(browser, widget):
    """Two views of the widget; at the end nothing has gone wrong."""

    def python(content, buffers):
        answer, found = widget.ask(content, [base64.b64decode(b) for b in buffers])
        return [answer, [base64.b64encode(bytes(b)).decode() for b in found]]

    page = browser.new_page(viewport={"width": 800, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url))
    page.expose_function("python", python)
    script = widget._esm.replace(
        "export default { render };", MODEL.replace("ABOUT", json.dumps(widget.about))
    )
    assert script != widget._esm
    page.set_content(
        f"<!doctype html><title>explorer</title><style>{widget._css}</style>"
        f"<div id=here></div><div id=there></div><script type=module>{script}</script>"
    )
    page.wait_for_selector("#here form")
    yield page
    assert errors == []
    page.close()


ADAPTED = """() => Object.entries(window.adapted.rows).map(([name, states]) =>
  [name, states.map(({ samples, losses }) => [[...samples], losses])])"""


def test_the_view_shows_what_python_computes(page, widget, images):
    view = page.locator("#here")
    press = lambda name: view.get_by_role("button", name=name, exact=True).click()
    press("Take its drawings")
    view.locator(".pg-examples li").nth(9).wait_for()
    press("Adapt")
    page.wait_for_function("() => window.adapted")
    assert "Adapted to 3 examples in 3 steps." in view.locator(".pg-said").inner_text()
    own = images.images[images.labels == 4][:3]
    wanted = list(states(widget._explorer, own, shown=10))
    found = dict(page.evaluate(ADAPTED))
    for row, name in enumerate(CANDIDATES):
        for step, (samples, losses) in enumerate(found[name]):
            torch.testing.assert_close(
                torch.tensor(samples), wanted[step][1][row].flatten()
            )
            assert (losses is None) == (step == 0)
            if losses:
                expected = wanted[step][0][row].tolist()
                assert [losses["D"], losses["G"]] == pytest.approx(expected, abs=1e-5)
    assert view.get_by_role("img", name="Losses of").count() == 2
    assert not view.get_by_role("button", name="Share as a link").is_visible()
    assert page.locator("#there .pg-results").is_hidden()  # another view, another run


def test_a_drawing_becomes_an_example(page):
    view = page.locator("#there")
    view.locator(".pg-pad").scroll_into_view_if_needed()
    box = view.locator(".pg-pad").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=5)
    page.mouse.up()
    view.get_by_role("button", name="Add the drawing").click()
    view.locator(".pg-examples li").wait_for()
    view.get_by_role("button", name="Adapt", exact=True).click()
    page.wait_for_function("() => window.adapted")
    assert "Adapted to 1 example in" in view.locator(".pg-said").inner_text()


def test_each_view_gets_its_own_answers(page):
    """Both ask their first question at once; their numbers are equal."""
    page.locator("#there .pg-pad").focus()
    for key in (" ", "ArrowRight", "ArrowRight", "ArrowRight", " "):
        page.keyboard.press(key)
    page.evaluate(
        """() => {
      const press = (id, what) =>
        document.querySelector(`#${id} [data-do=${what}]`).click();
      press("here", "take");
      press("there", "add");
    }"""
    )
    for view, count in (("here", 10), ("there", 1)):
        page.locator(f"#{view} .pg-examples li").nth(count - 1).wait_for()
    page.wait_for_timeout(100)
    first = "(c) => c.toDataURL()"
    shown = [
        page.locator(f"#{view} .pg-examples canvas").first.evaluate(first)
        for view in ("here", "there")
    ]
    assert shown[0] != shown[1]


def test_errors_of_python_are_said(page):
    view = page.locator("#here")
    view.locator(".pg-pad").click()  # a dot
    view.get_by_role("button", name="Add the drawing").click()
    said = view.locator(".pg-said", has_text="single dot: draw a line")
    said.wait_for()
    assert view.locator(".pg-examples li").count() == 0
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))  # two views in one document


def test_a_view_that_is_closed_hears_no_more(page):
    page.evaluate("() => window.here()")
    page.locator("#here").get_by_role("button", name="Take its drawings").click()
    page.locator("#there").get_by_role("button", name="Take its drawings").click()
    page.locator("#there .pg-examples li").nth(9).wait_for()
    assert page.locator("#here .pg-examples li").count() == 0


def test_everyone_can_use_it(page):
    view = page.locator("#here")
    view.get_by_role("button", name="Take its drawings").click()
    view.locator(".pg-examples li").nth(9).wait_for()
    view.get_by_role("button", name="Adapt", exact=True).click()
    page.wait_for_function("() => window.adapted")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    if not AXE.exists():
        pytest.skip("npm was not there to vendor axe")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run('#here')).violations")
    assert found == [], json.dumps(found)[:500]
