"""A slider over finished figures that also works in a static page.

All frames are in the widget and the browser links slider to frame, so neither a kernel
nor a recomputation is needed to move it.
"""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
from matplotlib.figure import Figure

from .plots import img_tag, to_png

__all__ = ["StepSlider", "step_slider"]


class StepSlider(widgets.VBox):
    """What ``step_slider`` returns: a widget that is an image where none can run.

    GitHub and other viewers without widgets show the last frame as HTML.
    """

    def __init__(self, children: tuple[widgets.Widget, ...], image: str, alt: str):
        super().__init__(children)
        self._fallback = {"text/html": image, "text/plain": alt}

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, object]:
        return {**super()._repr_mimebundle_(**kwargs), **self._fallback}


def step_slider(
    frames: Mapping[int, Figure | bytes],
    label: str = "inner steps",
    *,
    alt: str,
) -> StepSlider:
    """A slider that shows one frame for each step.

    The arrow keys move it. The frames count towards the size of the page: use few.

    Args:
        frames: step → figure, or PNG from ``to_png``; shown in increasing order. Make
            them of one size, or the page jumps.
        label: what the steps count.
        alt: what the frames show; the step is added to it for each.

    Raises:
        ValueError: fewer than two frames, or an empty ``alt``.
    """
    if len(frames) < 2 or not alt.strip():
        raise ValueError(
            f"frames must hold at least two steps and alt must say what they show, "
            f"got {len(frames)} and {alt!r}"
        )
    steps = sorted(frames)
    images = [
        img_tag(
            frame if isinstance(frame, bytes) else to_png(frame, dpi=96, colours=32),
            f"{alt}, {label} {step}",
        )
        for step, frame in ((step, frames[step]) for step in steps)
    ]
    # No widgets.Play: its buttons have no names that a screen reader could say.
    # widgets.Image has no alternative text, hence HTML.
    stack = widgets.Stack([widgets.HTML(image) for image in images], selected_index=0)
    slider = widgets.SelectionSlider(
        options=[(str(step), step) for step in steps],
        description=label,
        style={"description_width": "initial"},
        layout={"width": "min(28em, 100%)"},
    )
    widgets.jslink((slider, "index"), (stack, "selected_index"))
    return StepSlider((slider, stack), images[-1], f"{alt}, {label} {steps[-1]}")
