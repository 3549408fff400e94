"""What a chapter shows besides figures: sliders over them, and the library's code.

All frames of a slider are in the widget and the browser links slider to frame, so
neither a kernel nor a recomputation is needed to move it. What does need a kernel,
:func:`~metagan_lite.explorer.adaptation_explorer`, has a module of its own and can be
imported from here too.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import ipywidgets as widgets
from IPython.display import display
from matplotlib.figure import Figure

from .explorer import adaptation_explorer as adaptation_explorer
from .io import repository
from .plots import img_tag, to_png

__all__ = ["StepSlider", "source", "source_code", "step_slider"]


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


def source(*objects: Callable) -> None:
    """Show the code of functions, methods or classes of the library, each with a link.

    The docstrings are left out: the text around it says what they say.

    Raises:
        ValueError: an object is not a function or class that ``metagan_lite`` defines.
    """
    for markdown in [source_code(object) for object in objects]:
        display({"text/markdown": markdown, "text/plain": markdown}, raw=True)


def source_code(object: Callable) -> str:
    """What ``source`` shows, as Markdown: a link to the file, and the code."""
    object = inspect.unwrap(getattr(object, "fget", None) or object)
    module = getattr(object, "__module__", None) or ""
    if module.partition(".")[0] != __package__ or not hasattr(object, "__qualname__"):
        raise ValueError(
            f"expected a function or class that {__package__} defines, got {object!r}"
        )
    lines, start = inspect.getsourcelines(object)
    code = textwrap.dedent("".join(lines)).splitlines()
    for first, last in reversed(_docstrings(ast.parse("\n".join(code)))):
        if last < len(code) and not code[last].strip():
            last += 1  # the blank line below it
        del code[first - 1 : last]
    path = Path(inspect.getfile(object)).relative_to(Path(__file__).parents[1])
    anchor = f"L{start}-L{start + len(lines) - 1}"
    return "\n".join(
        [
            f"[`{module}.{object.__qualname__}`]({repository()}/blob/main/"
            f"{path.as_posix()}#{anchor})",
            "",
            "```python",
            *code,
            "```",
        ]
    )


def _docstrings(tree: ast.Module) -> list[tuple[int, int]]:
    """First and last line of each docstring that is not all there is, from 1."""
    return sorted(
        (node.body[0].lineno, node.body[0].end_lineno)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and len(node.body) > 1
        and ast.get_docstring(node) is not None
    )
