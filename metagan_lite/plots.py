"""Figures that carry their own alternative text.

Each function returns a matplotlib ``Figure`` made without ``pyplot``, so nothing is
displayed or kept until ``show`` is called. All are legible without colour (markers
and line styles differ as well) and on a dark page (white ground with a margin).

Colours and grounds are those of ``light.mplstyle``. For figures on a dark ground, such
as slides, call ``matplotlib.style.use("metagan_lite.dark")`` before drawing.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_params_from_file, rcParams, rcParamsDefault, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

__all__ = [
    "adaptation_grid",
    "blank_figure",
    "curve_plot",
    "describe",
    "image_grid",
    "img_tag",
    "ledger_plot",
    "scorecard_plot",
    "series_style",
    "show",
    "to_png",
]

_LIGHT = rc_params_from_file(
    Path(__file__).with_name("light.mplstyle"), use_default_template=False
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_GAP = (0.82, 0.82, 0.82)  # between images, so that their white edges show
_NOT_A_NUMBER = (0.84, 0.37, 0.0)  # a diverged sample must not pass for a black one


# Images


def image_grid(
    images: Tensor,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
    *,
    alt: str,
) -> Figure:
    """Images in rows and columns, one row per task, dark ink on light paper.

    Args:
        images: [R, C, *S] in [-1, 1] with S = (1, H, W) or (3, H, W). Values outside
            are clipped; NaN pixels are shown in orange.
        row_labels: R labels, usually the class of the task.
        column_labels: C labels.
        title: above the grid.
        alt: what the figure shows, in a sentence, for those who do not see it.

    Raises:
        ValueError: wrong shape, or not one label per row or column.
    """
    if images.ndim != 5 or images.shape[2] not in (1, 3):
        raise ValueError(
            f"images must be [R, C, 1 or 3, H, W], got {list(images.shape)}"
        )
    for name, labels, count in (
        ("row_labels", row_labels, images.shape[0]),
        ("column_labels", column_labels, images.shape[1]),
    ):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{name} must have {count} entries, got {len(labels)}")
    rows, columns = images.shape[:2]
    cell = _cell_inches(columns, at_most=8.0)
    label_inches = _label_inches(row_labels)
    figure = blank_figure(columns * cell + label_inches, rows * cell + 0.35, alt)
    axes = figure.subplots()
    _draw_sheet(axes, list(images), row_labels, column_labels)
    if title:
        axes.set_title(title)
    return figure


def adaptation_grid(
    support: Tensor,
    samples: Mapping[int, Tensor],
    *,
    task_labels: Sequence[str] | None = None,
    title: str | None = None,
    blocks_per_row: int = 4,
    alt: str,
) -> Figure:
    """What the generator draws as it adapts: one block of images per task.

    A block's first row is the support, the rows below are samples after each given
    number of inner steps, in increasing order.

    Args:
        support: [T, K, *S] the drawings that the task shows.
        samples: inner step → [T, n, *S]. Use one noise batch for all steps, so that
            a column follows one sample.
        task_labels: T labels.
        title: above all blocks.
        blocks_per_row: tasks side by side.
        alt: what the figure shows.

    Raises:
        ValueError: no steps, a different number of tasks in ``support``, ``samples``
            and ``task_labels``, or a wrong image shape.
    """
    steps = sorted(samples)
    tasks = len(support)
    counts = {len(samples[s]) for s in steps} | {len(task_labels or support), tasks}
    if not steps or len(counts) != 1:
        raise ValueError(
            f"support, task_labels and every entry of samples must hold the same "
            f"tasks, got {tasks}, {task_labels and len(task_labels)} and "
            f"{ {s: len(samples[s]) for s in steps} }"
        )
    widest = max(support.shape[1], *(samples[s].shape[1] for s in steps))
    across = min(tasks, blocks_per_row)
    down = -(-tasks // across)
    labels = ["support", *(f"step {s}" for s in steps)]
    cell = _cell_inches(widest * across, at_most=8.5)
    figure = blank_figure(
        across * (widest * cell + 0.15) + _label_inches(labels),
        down * ((len(steps) + 1) * cell + 0.35) + (0.3 if title else 0),
        alt,
    )
    grid = figure.subplots(down, across, squeeze=False)
    for t, axes in enumerate(grid.flat):
        if t >= tasks:
            axes.set_axis_off()
            continue
        rows = [support[t], *(samples[s][t] for s in steps)]
        _draw_sheet(axes, rows, labels if t % across == 0 else None)
        height, _ = axes.get_ylim()  # y grows downwards
        axes.axhline(height / (len(steps) + 1), color="black", linewidth=1.5)
        if task_labels is not None:
            axes.set_title(task_labels[t], fontsize="medium")
    if title:
        figure.suptitle(title)
    return figure


def _cell_inches(columns: int, *, at_most: float) -> float:
    """Side of one image, so that a row is no wider than the page."""
    return min(0.6, at_most / columns)


def _label_inches(labels: Sequence[str] | None) -> float:
    return 0.1 + 0.085 * max((len(label) for label in labels or ()), default=0)


def _draw_sheet(
    axes: Axes,
    rows: Sequence[Tensor],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> None:
    """Draw rows of images [c_i, *S] as one picture; short rows end in blank cells."""
    height, width = rows[0].shape[-2:]
    # A gap of an eighth of an image, in the image's own pixels enlarged fourfold.
    zoom, gap = 4, max(2, width // 2)
    down, right = height * zoom + gap, width * zoom + gap
    columns = max(len(row) for row in rows)
    sheet = np.empty((len(rows) * down + gap, columns * right + gap, 3))
    sheet[:] = _GAP
    for r, row in enumerate(rows):
        ink = torch.as_tensor(row).detach().cpu().double()
        paper = ((1 - ink.clamp(-1, 1)) / 2).movedim(-3, -1)  # [c, H, W, 1 or 3]
        paper = np.broadcast_to(paper.numpy(), (*paper.shape[:-1], 3))
        paper = np.where(np.isnan(paper), _NOT_A_NUMBER, paper)
        for c, image in enumerate(paper.repeat(zoom, 1).repeat(zoom, 2)):
            top, left = r * down + gap, c * right + gap
            sheet[top : top + height * zoom, left : left + width * zoom] = image
    # Data coordinates in pixels of the sheet: (0, 0) is its upper left corner.
    extent = (0, sheet.shape[1], sheet.shape[0], 0)
    axes.imshow(sheet, interpolation="nearest", extent=extent)
    axes.tick_params(length=0)
    middle = lambda count, stride: [(i + 0.5) * stride + gap / 2 for i in range(count)]
    axes.set_xticks(middle(columns, right) if column_labels else [], column_labels)
    axes.set_yticks(middle(len(rows), down) if row_labels else [], row_labels)
    axes.spines[:].set_visible(False)


# Numbers


def scorecard_plot(
    scores: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    references: Mapping[str, float] | None = None,
    title: str | None = None,
    alt: str,
) -> Figure:
    """Dot plot with error bars: one line per method, one panel per metric.

    Args:
        scores: method → metric → (mean, standard error), drawn from top to bottom in
            the order given. A method may lack a metric: its place stays empty.
        references: metric → a value to mark with a dashed line, such as chance.
        title: above all panels.
        alt: what the figure shows.

    Raises:
        ValueError: nothing to draw, or a reference for a metric that is not there.
    """
    metrics = list(dict.fromkeys(m for row in scores.values() for m in row))
    references = references or {}
    if not metrics or not set(references) <= set(metrics):
        raise ValueError(
            f"scores must hold every metric of references, got metrics {metrics} "
            f"and references for {list(references)}"
        )
    methods = list(scores)
    figure = blank_figure(
        _label_inches(methods) + 2.3 * len(metrics), 0.9 + 0.32 * len(methods), alt
    )
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics):
        for i, method in enumerate(methods):
            if metric not in scores[method]:
                continue
            mean, error = scores[method][metric]
            axes.errorbar(mean, i, xerr=error, capsize=3, **series_style(i, line=False))
        if metric in references:
            axes.axvline(references[metric], color="0.4", linestyle="--", zorder=0)
        axes.set_xlabel(metric)
        axes.grid(color="0.5", alpha=0.2, zorder=-1)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    if title:
        figure.suptitle(title)
    return figure


def curve_plot(
    curves: Mapping[
        str, tuple[Sequence[float], Sequence[float], Sequence[float] | None]
    ],
    *,
    ylabel: str,
    xlabel: str = "inner steps",
    references: Mapping[str, float] | None = None,
    trained_steps: float | None = None,
    title: str | None = None,
    alt: str,
) -> Figure:
    """Curves with error bars, one marker and line style each.

    Args:
        curves: label → (steps, means, standard errors), three sequences of one length;
            None for errors that are not known.
        ylabel: the metric, with its feature net: "KID (small net)".
        xlabel: what is counted along x.
        references: label → a constant to draw as a grey line, such as real images.
        trained_steps: where to mark the number of inner steps trained for.
        title: above the axes.
        alt: what the figure shows.

    Raises:
        ValueError: no curves, or sequences of different lengths.
    """
    if not curves:
        raise ValueError("curves must hold at least one curve, got none")
    figure = blank_figure(6.4, 3.8, alt)
    axes = figure.subplots()
    for i, (label, (steps, means, errors)) in enumerate(curves.items()):
        lengths = {len(v) for v in (steps, means, errors) if v is not None}
        if len(lengths) != 1:
            raise ValueError(
                f"curve {label!r} must have as many means and errors as steps, "
                f"got lengths {sorted(lengths)}"
            )
        axes.errorbar(steps, means, errors, capsize=2, label=label, **series_style(i))
    for i, (label, value) in enumerate((references or {}).items()):
        line = _LINES[1:][i % (len(_LINES) - 1)]
        axes.axhline(value, color="0.45", linestyle=line, zorder=0, label=label)
    if trained_steps is not None:
        axes.axvline(trained_steps, color="0.5", alpha=0.5, linewidth=4, zorder=-1)
        axes.annotate(
            "steps in training",
            (trained_steps, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -4),
            textcoords="offset points",
            va="top",
            alpha=0.65,
        )
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.08 * (high - low))  # room for the words above
    ticks = sorted({step for steps, _, _ in curves.values() for step in steps})
    if len(ticks) <= 10:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.grid(color="0.5", alpha=0.2, zorder=-2)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def ledger_plot(
    blocks: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]],
    *,
    ylabel: str = "share of the block",
    xlabel: str = "outer steps",
    limits: tuple[float, float] | None = None,
    alt: str,
) -> Figure:
    """The parts of each block over a training, one panel for a block.

    Args:
        blocks: The block's name, such as "dL_G/dθ" → (steps, part → a value for each),
            as :meth:`metagan_lite.ledger.Ledger.series` returns them. At most two
            panels stand in a row. Values that are NaN are left out.
        ylabel, xlabel: what is drawn, and against what.
        limits: of the y axis, which all panels share.
        alt: what the figure shows.

    Raises:
        ValueError: no block.
    """
    if not blocks:
        raise ValueError("blocks must hold at least one block, got none")
    columns = min(2, len(blocks))
    rows = -(-len(blocks) // columns)
    figure = blank_figure(1.6 + 3.1 * columns, 0.5 + 2.1 * rows, alt)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    parts = list(dict.fromkeys(part for _, own in blocks.values() for part in own))
    for axes, (name, (steps, own)) in zip(panels.flat, blocks.items()):
        for part, values in own.items():
            axes.plot(steps, values, **series_style(parts.index(part)), label=part)
        axes.axhline(0, color="0.4", linewidth=0.8, zorder=0)
        axes.set_title(name)
        axes.grid(color="0.5", alpha=0.2, zorder=-1)
    for axes in list(panels.flat)[len(blocks) :]:
        axes.set_axis_off()
    for axes in panels[-1]:
        axes.set_xlabel(xlabel)
    for axes in panels[:, 0]:
        axes.set_ylabel(ylabel)
    if limits is not None:
        panels[0, 0].set_ylim(*limits)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def series_style(
    i: int, *, line: bool = True, marker: bool = True
) -> dict[str, object]:
    """Keyword arguments for ``axes.plot`` of series i, legible without colour.

    Colour, marker and line all differ between neighbours.

    Args:
        i: which series, from 0.
        line, marker: False leaves it out; dense curves are better without markers.
    """
    cycle = rcParams["axes.prop_cycle"]
    if cycle == rcParamsDefault["axes.prop_cycle"]:  # no style was chosen
        cycle = _LIGHT["axes.prop_cycle"]
    colours = cycle.by_key().get("color", ["C0"])
    return {
        "color": colours[i % len(colours)],
        "marker": _MARKERS[i % len(_MARKERS)] if marker else "none",
        "linestyle": _LINES[i % len(_LINES)] if line else "none",
        "markersize": 6,
    }


# Showing


def describe(figure: Figure) -> str:
    """The alternative text that a figure carries.

    Raises:
        ValueError: the figure carries none.
    """
    alt = getattr(figure, "alt", "")
    if not alt:
        raise ValueError("the figure has no alternative text; pass alt= to show it")
    return alt


def show(figure: Figure, alt: str | None = None) -> None:
    """Display a figure in a notebook, as an image with alternative text.

    The output is HTML with the image inside. Alternative text in the metadata of an
    ``image/png`` output would be dropped by JupyterLab and by MyST-NB, which builds
    the book. Text frontends show the alternative text instead.

    Args:
        figure: any matplotlib figure.
        alt: what it shows; None takes what the figure carries.

    Raises:
        ValueError: there is no alternative text.
    """
    # Needed in notebooks only, where both are there.
    from IPython.display import display
    from matplotlib import pyplot

    alt = alt or describe(figure)
    pyplot.close(figure)  # one made with pyplot would be displayed once more
    width = figure.get_figwidth() * 96  # CSS pixels in an inch
    display(
        {"text/html": img_tag(to_png(figure), alt, width), "text/plain": alt}, raw=True
    )


def img_tag(png: bytes, alt: str, width: float | None = None) -> str:
    """An HTML ``<img>`` that holds the PNG itself and never exceeds the page."""
    data = base64.b64encode(png).decode()
    style = "max-width:100%;height:auto" + (f";width:{width:.0f}px" if width else "")
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" '
        f'style="{style}">'
    )


def to_png(figure: Figure, *, dpi: int = 144, colours: int = 64) -> bytes:
    """The figure as PNG on its ground, white unless a style says otherwise.

    Args:
        figure: any matplotlib figure.
        dpi: pixels per inch; 144 is crisp on most screens.
        colours: size of the palette, at most 256; it keeps a figure near 20 kB.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    image = Image.open(buffer).convert("RGB")
    image = image.quantize(colours, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def blank_figure(width: float, height: float, alt: str) -> Figure:
    """An empty figure in the style of the book, for axes of your own.

    Args:
        width, height: in inches; a page is 8 wide.
        alt: what the figure shows, in a sentence, for those who do not see it.

    Raises:
        ValueError: ``alt`` is empty.
    """
    if not alt or not alt.strip():
        raise ValueError("alt must say what the figure shows, got an empty text")
    # A margin keeps dark-page readers from seeing labels touch the edge.
    size = (width + 0.3, height + 0.3)
    figure = Figure(size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    figure.alt = alt
    return figure
