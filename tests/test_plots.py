"""Figures: what is drawn, what a screen reader gets, and how large they are."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state
from matplotlib import style
from matplotlib.colors import rgb_to_hsv, to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from metagan_lite import losses, plots
from metagan_lite.explore import source, source_code, step_slider
from metagan_lite.losses import value_function
from metagan_lite.tasks import TaskBatch


def sheet(figure: Figure, panel: int = 0) -> np.ndarray:
    return figure.axes[panel].images[0].get_array()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def stripes(rows: int, columns: int) -> torch.Tensor:
    """Images [R, C, 1, 8, 8] on which nothing but one left-hand column is inked."""
    images = -torch.ones(rows, columns, 1, 8, 8)
    images[..., 0] = 1
    return images


def as_drawn(figure: Figure, x: float, y: float, panel: int = 0) -> np.ndarray:
    """The colour that the saved figure has at a point of the sheet."""
    figure.savefig(buffer := io.BytesIO(), dpi=100)
    picture = pixels(buffer.getvalue())
    across, up = figure.axes[panel].transData.transform((x, y))
    return picture[round(len(picture) - up), round(across)]


def test_ink_is_dark_and_in_its_place():
    images = stripes(2, 3)
    images[1, 2] *= -1  # the inverse, in the lower right corner
    figure = plots.image_grid(images, ["a", "b"], ["x", "y", "z"], "title", alt="t")
    axes = figure.axes[0]
    xs, ys = axes.get_xticks(), axes.get_yticks()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["x", "y", "z"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    left = 14  # from the middle of an image to its first column, in sheet pixels
    assert as_drawn(figure, xs[0] - left, ys[0]).max() < 60
    assert as_drawn(figure, xs[0] + left, ys[0]).min() > 200
    assert as_drawn(figure, xs[2] - left, ys[1]).min() > 200
    assert as_drawn(figure, xs[2] + left, ys[1]).max() < 60


def test_diverged_pixels_and_values_out_of_range_are_visible(caplog):
    images = torch.full((1, 3, 1, 8, 8), 9.0)
    images[0, 1] = -9
    images[0, 2] = torch.nan
    figure = plots.image_grid(images, alt="t")
    drawn = sheet(figure)
    assert drawn.min() == 0 and drawn.max() == 1
    assert not caplog.records  # matplotlib complains about what it must clip
    colours = {tuple(c) for c in drawn.reshape(-1, 3).round(2)}
    assert {(0, 0, 0), (1, 1, 1), (0.84, 0.37, 0)} <= colours


def test_colour_images_keep_their_shape():
    assert sheet(plots.image_grid(torch.zeros(1, 2, 3, 9, 8), alt="t")).shape[2] == 3


def test_adaptation_grid_orders_its_steps_and_fills_short_rows():
    support = stripes(3, 5)
    samples = {10: stripes(3, 4), 0: stripes(3, 4) * -1}
    labels = ["two", "five", "seven"]
    figure = plots.adaptation_grid(
        support, samples, task_labels=labels, blocks_per_row=2, alt="t"
    )
    assert [a.get_title() for a in figure.axes] == [*labels, ""]
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == ["support", "step 0", "step 10"]
    middle = sheet(figure).shape[0] // 2
    drawn = sheet(figure)[middle, :, 0]
    assert drawn[6] == 1 and drawn[20] == 0  # step 0 is inverted
    assert np.all(drawn[-32:-8] == 0.82)  # no fifth sample


@pytest.mark.parametrize(
    ("samples", "labels"), [({}, None), ({0: stripes(2, 1)}, None), (None, ["one"])]
)
def test_adaptation_grid_needs_the_same_tasks_everywhere(samples, labels):
    samples = {0: stripes(3, 2)} if samples is None else samples
    with pytest.raises(ValueError, match="same tasks"):
        plots.adaptation_grid(stripes(3, 2), samples, task_labels=labels, alt="t")


def test_image_grid_refuses_wrong_shapes():
    with pytest.raises(ValueError, match="images must be"):
        plots.image_grid(torch.zeros(2, 3, 8, 8), alt="t")
    with pytest.raises(ValueError, match="row_labels must have 2"):
        plots.image_grid(stripes(2, 3), ["a"], alt="t")


SCORES = {
    "real images": {"KID (small net)": (0.0, 0.02), "recognition": (0.95, 0.01)},
    "copy support": {"KID (small net)": (0.03, 0.02)},
    "meta-learned": {"KID (small net)": (0.1, 0.03), "recognition": (0.8, 0.04)},
}


def test_scorecard_draws_every_number_it_is_given():
    figure = plots.scorecard_plot(SCORES, references={"recognition": 1 / 3}, alt="t")
    kid, recognition = figure.axes
    assert [t.get_text() for t in kid.get_yticklabels()] == list(SCORES)
    assert (kid.get_xlabel(), recognition.get_xlabel()) == (
        "KID (small net)",
        "recognition",
    )
    drawn = [c for c in recognition.containers]
    assert [(c[0].get_xdata()[0], c[0].get_ydata()[0]) for c in drawn] == [
        (0.95, 0),
        (0.8, 2),
    ]
    low, high = drawn[1][2][0].get_segments()[0][:, 0]
    assert (low, high) == (pytest.approx(0.76), pytest.approx(0.84))
    assert len({c[0].get_marker() for c in kid.containers}) == 3
    assert kid.yaxis_inverted()  # the first method on top


def test_curves_differ_in_more_than_colour():
    steps = [0, 1, 5]
    curves = {f"method {i}": (steps, [i, i, i], [0.1] * 3) for i in range(8)}
    figure = plots.curve_plot(
        curves, ylabel="KID", references={"real": 0}, trained_steps=5, alt="t"
    )
    lines = [c[0] for c in figure.axes[0].containers]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 8
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert set(labels) == {*curves, "real"}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


def test_the_dark_style_has_the_hues_of_the_light_one_and_contrast():
    curves = {f"method {i}": ([0, 1], [i, i], None) for i in range(7)}
    drawn = {}
    for name in ("light", "dark"):
        with style.context(f"metagan_lite.{name}"):
            figure = plots.curve_plot(curves, ylabel="KID", alt="t")
        lines = figure.axes[0].containers
        drawn[name] = [to_hex(line[0].get_color()) for line in lines]
        ground = {"light": 255, "dark": 18}[name]
        assert (pixels(plots.to_png(figure))[[0, -1]] == ground).all()
    light, dark = (rgb_to_hsv([to_rgb(c) for c in drawn[n]]) for n in drawn)
    coloured = light[:, 1] > 0.3
    assert coloured.sum() == 6
    assert abs(light - dark)[coloured, 0].max() < 0.05  # hue
    unstyled = [to_hex(plots.series_style(i)["color"]) for i in range(7)]
    assert unstyled == drawn["light"]
    ground = luminance("#121212")
    for colour in drawn["dark"]:
        assert (luminance(colour) + 0.05) / (ground + 0.05) > 4.5


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="as many means"):
        plots.curve_plot({"a": ([0, 1], [1], None)}, ylabel="y", alt="t")
    with pytest.raises(ValueError, match="at least one curve"):
        plots.curve_plot({}, ylabel="y", alt="t")
    with pytest.raises(ValueError, match="every metric of references"):
        plots.scorecard_plot(SCORES, references={"FID": 1.0}, alt="t")


# Alternative text

ALT = 'Digits "2" & <5>, before and after'


class Images(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.found.append(dict(attrs))


def test_a_shown_figure_carries_its_alternative_text(monkeypatch):
    outputs = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw: outputs.append(data)
    )
    figure = plots.image_grid(stripes(1, 2), alt=ALT)
    assert plots.describe(figure) == ALT
    plots.show(figure)
    (output,) = outputs
    (image,) = Images(output["text/html"]).found
    assert image["alt"] == ALT
    assert image["src"].startswith("data:image/png;base64,")
    assert output["text/plain"] == ALT


def test_no_figure_without_alternative_text():
    with pytest.raises(ValueError, match="no alternative text"):
        plots.show(Figure())
    with pytest.raises(ValueError, match="alt must say"):
        plots.image_grid(stripes(1, 2), alt=" ")


def test_a_full_figure_stays_small_and_white():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(4, 5, 1, 10, 10, generator=rng) * 2 - 1
    samples = {s: images for s in (0, 1, 5, 10, 25)}
    figure = plots.adaptation_grid(images, samples, alt="t")
    png = plots.to_png(figure)
    assert len(png) < 40_000
    edge = pixels(png)[[0, -1]]
    assert (edge == 255).all()


# The slider


@pytest.fixture
def frames() -> dict[int, Figure | bytes]:
    figures = {
        step: plots.image_grid(stripes(1, 1 + step), alt=f"{step} steps")
        for step in (0, 1, 5)
    }
    return {5: figures[5], 0: figures[0], 1: plots.to_png(figures[1], dpi=96)}


def test_slider_links_its_steps_to_its_frames(frames):
    slider = step_slider(frames, alt="one row of bars")
    stack, control = find(slider, "Stack"), find(slider, "SelectionSlider")
    assert [label for label, _ in control.options] == ["0", "1", "5"]
    alts = [Images(child.value).found[0]["alt"] for child in stack.children]
    assert alts == [f"one row of bars, inner steps {step}" for step in (0, 1, 5)]
    widths = [pixels(png_of(child.value)).shape[1] for child in stack.children]
    assert widths[0] < widths[1] < widths[2]
    assert stack.selected_index == control.index == 0


def test_slider_works_without_a_kernel(frames):
    """Everything a static page needs is in the widget state, the links too."""
    slider = step_slider(frames, alt="one row of bars")
    state = dependency_state(slider)
    links = [
        (m["state"]["source"], m["state"]["target"])
        for m in state.values()
        if m["model_name"] == "LinkModel"
    ]
    control, stack = find(slider, "SelectionSlider"), find(slider, "Stack")
    name = lambda widget: f"IPY_MODEL_{widget.model_id}"
    assert links == [
        ([name(control), "index"], [name(stack), "selected_index"]),
    ]
    assert {name(w)[10:] for w in (slider, *stack.children)} <= set(state)


def test_slider_falls_back_to_the_last_frame_where_widgets_do_not_run(frames):
    slider = step_slider(frames, alt="one row of bars")
    data = slider._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    (image,) = Images(data["text/html"]).found
    assert image["alt"] == "one row of bars, inner steps 5"
    assert data["text/plain"] == image["alt"]


def test_slider_needs_two_frames(frames):
    with pytest.raises(ValueError, match="at least two"):
        step_slider({0: frames[0]}, alt="t")


def find(widget, name: str):
    if type(widget).__name__ == name:
        return widget
    found = (find(child, name) for child in getattr(widget, "children", ()))
    return next((w for w in found if w is not None), None)


def png_of(text: str) -> bytes:
    return base64.b64decode(Images(text).found[0]["src"].partition(",")[2])


# --- the library's code -------------------------------------------------------


def test_source_code_is_the_function_without_its_docstring():
    link, empty, *block = source_code(value_function).split("\n")
    assert empty == "" and block[0] == "```python" and block[-1] == "```"
    code = "\n".join(block[1:-1])
    assert '"""' not in code
    names = vars(losses).copy()
    exec(f"from __future__ import annotations\n{code}", names)
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    assert names["value_function"](real, fake) == value_function(real, fake)

    name, first, last = re.fullmatch(
        r"\[`(.*)`\]\(https://github\.com/[\w-]+/[\w.-]+/blob/main/"
        r"metagan_lite/losses\.py#L(\d+)-L(\d+)\)",
        link,
    ).groups()
    assert name == "metagan_lite.losses.value_function"
    lines = Path(losses.__file__).read_text(encoding="utf-8").splitlines()
    assert lines[int(first) - 1] == block[1] and lines[int(last) - 1] == block[-2]


def test_source_code_shows_methods_and_classes_without_any_docstring():
    method = source_code(TaskBatch.to)
    assert "[`metagan_lite.tasks.TaskBatch.to`]" in method
    assert "```python\ndef to(self," in method  # at the margin
    whole = source_code(TaskBatch)
    assert "```python\n@dataclass" in whole and '"""' not in whole
    assert "\n    support: Tensor\n" in whole and "\n    def to(self," in whole


def test_source_shows_every_function(capsys):
    source(value_function, TaskBatch.to)
    assert capsys.readouterr().out.count("text/markdown") == 2


@pytest.mark.parametrize("other", [len, 3, re.match, lambda: 1])
def test_source_refuses_what_is_not_the_librarys(other):
    with pytest.raises(ValueError, match="expected a function or class that metagan"):
        source(value_function, other)
