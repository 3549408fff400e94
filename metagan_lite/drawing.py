"""A pad for a notebook to draw characters on, and the images that come of it.

``draw(["house", "key"])`` shows the pad in JupyterLab, Jupyter Notebook, VS Code and
Colab. The pad is an anywidget, which is not among what the library needs::

    pip install anywidget

Everything else here works without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .data import LabelledImages, check_integers, save_folder
from .plots import image_grid
from .strokes import Stroke, draw_strokes
from .widgets import SCRIPTS, picture, still_widget, widget_script

__all__ = ["draw", "drawings_to_images"]

Drawings = Mapping[str, Sequence[Sequence[Stroke]]]

_STILL_SIZE = 24  # pixels of a drawing in the picture of the pad


def drawings_to_images(drawings: Drawings, size: int) -> LabelledImages:
    """Images of drawings, as `metagan_lite.strokes.draw_strokes` makes them.

    drawings: name of a character → its drawings, each a list of strokes, each a list of
        points (x, y) with y downwards. Characters without drawings are left out.
    size: side of the images in pixels, at least 6.

    All characters are held out: no net has been trained on them. Raises ValueError when
    nothing was drawn, and for a drawing that has no line, naming its character.
    """
    names = tuple(name for name, own in drawings.items() if own)
    if not names:
        raise ValueError("nothing is drawn yet: keep at least one drawing on the pad")
    images = []
    for name in names:
        try:
            images.append(draw_strokes(drawings[name], size))
        except ValueError as error:
            raise ValueError(f"character {name!r}: {error}") from None
    counts = torch.tensor([len(own) for own in images])
    labels = torch.arange(len(names)).repeat_interleave(counts)
    return LabelledImages(torch.cat(images), labels, names, names)


def draw(
    names: Sequence[str], drawings: Drawings | None = None, *, goal: int = 20
) -> Any:
    """A pad to draw on, for a notebook: touch, pen, mouse or keys.

    Its ``drawings`` hold what is kept so far, as `drawings_to_images` takes them, and
    change as the reader draws; ``pad.images(size)`` are the images, and
    ``pad.save(folder, size)`` writes them as files that ``load_images("folder:…")`` and
    ``metagan train --tasks folder:…`` read.

    Where no notebook runs, such as in a built page, the pad is a picture of what is on
    it.

    names: the characters. drawings: what is on the pad at the start. goal: how many
    drawings of each are wanted; the pad counts them.

    Raises ValueError for no names, two equal ones, or drawings of other characters, and
    ImportError without anywidget.
    """
    names = list(names)
    if not names or len(set(names)) < len(names) or not all(map(_is_name, names)):
        raise ValueError(f"names must be different words, got {names!r}")
    check_integers(1, goal=goal)
    given = {} if drawings is None else dict(drawings)
    if strange := [name for name in given if name not in names]:
        raise ValueError(f"drawings of {strange[0]!r}, which is not among {names}")
    if any(given.values()):
        drawings_to_images(given, _STILL_SIZE)  # raises if a drawing is none
    return _pad()(
        names=names,
        goal=goal,
        drawings={name: _plain(given.get(name, [])) for name in names},
    )


def _is_name(name: object) -> bool:
    # A name becomes that of a folder.
    return (
        isinstance(name, str)
        and bool(name.strip())
        and not set(name) & set('\\/:*?"<>|')
        and name[0] != "."
    )


def _plain(own: Sequence[Sequence[Stroke]]) -> list:
    """Lists of floats, as JSON has them."""
    return [[[[float(x), float(y)] for x, y in s] for s in strokes] for strokes in own]


@cache
def _pad() -> type:
    """The class of pads, made when one is first needed."""
    base = still_widget("drawing pad")
    import traitlets  # comes with anywidget

    class DrawingPad(base):
        """What ``draw`` returns."""

        _esm = widget_script(SCRIPTS / "drawing.js")
        names = traitlets.List(traitlets.Unicode()).tag(sync=True)
        goal = traitlets.Int().tag(sync=True)
        drawings = traitlets.Dict().tag(sync=True)

        def images(self, size: int) -> LabelledImages:
            """What is kept, as images."""
            return drawings_to_images(self.drawings, size)

        def save(self, folder: str | Path, size: int) -> None:
            """Write what is kept into a folder, one folder for each character."""
            save_folder(self.images(size), folder)

        def still(self) -> dict[str, str]:
            return _still(self.drawings)

    return DrawingPad


def _still(drawings: Drawings) -> dict[str, str]:
    """The pad as a picture, and in words."""
    kept = {name: own for name, own in drawings.items() if own}
    if not kept:
        words = "An empty drawing pad: run the notebook to draw on it."
        return {"text/html": f"<p>{words}</p>", "text/plain": words}
    words = "The drawing pad holds " + ", ".join(
        f"{len(own)} drawings of {name}" for name, own in kept.items()
    )
    images = drawings_to_images(kept, _STILL_SIZE)
    most = max(map(len, kept.values()))
    sheet = -torch.ones(len(kept), most, 1, _STILL_SIZE, _STILL_SIZE)
    for row in range(len(kept)):
        own = images.images[images.labels == row]
        sheet[row, : len(own)] = own
    figure = image_grid(sheet, list(kept), alt=words)
    return picture(figure, words)
