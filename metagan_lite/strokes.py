"""From the path of a pen to the pixels of an image.

A stroke is a polyline, the places where the pen was, as (x, y) with y downwards. The
invented script of `metagan_lite.data.load_glyphs` and what a reader draws on the pad of
`metagan_lite.drawing` both become images here, so that a net that was trained on the
one can be asked about the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["draw_strokes", "fit_strokes", "render_strokes"]

CHUNK = 2**22  # numbers held at once by the chunked image operations (16 MiB)

Stroke = Sequence[Sequence[float]]


def draw_strokes(
    drawings: Sequence[Sequence[Stroke]], size: int, *, pen: float = 0.06
) -> Tensor:
    """Images of drawings, each fitted to its image and drawn with one pen.

    drawings: each a list of strokes, each a list of points (x, y) in any unit. A stroke
        of one point is a dot.
    size: side of the square images in pixels, at least 6.
    pen: radius of the pen as a share of the side, that of the invented script by
        default; no pen is thinner than 0.6 pixels.

    Returns [N, 1, size, size] in [-1, 1], ink +1. Raises ValueError for no drawings, a
    drawing without two different points, or what is not a list of finite points.
    """
    if not isinstance(size, int) or size < 6:
        raise ValueError(f"size must be an integer of at least 6, got {size!r}")
    if not 0 < pen < 0.5:
        raise ValueError(f"pen must lie between 0 and 0.5 of the side, got {pen!r}")
    if not drawings:
        raise ValueError("there are no drawings: draw at least one")
    parts = [_tensors(number, strokes) for number, strokes in enumerate(drawings)]
    most = max(map(len, parts))
    longest = max(len(stroke) for strokes in parts for stroke in strokes)
    longest = max(longest, 2)  # a dot is a segment of no length
    points = torch.stack(
        [
            # A stroke drawn twice, and an end point visited twice, add no ink.
            torch.stack(
                [
                    torch.cat([s, s[-1:].expand(longest - len(s), 2)])
                    for s in strokes + [strokes[-1]] * (most - len(strokes))
                ]
            )
            for strokes in parts
        ]
    )
    radius = torch.full((len(parts),), max(pen * size, 0.6))
    return render_strokes(fit_strokes(points, radius, size), radius, size)


def _tensors(number: int, strokes: Sequence[Stroke]) -> list[Tensor]:
    """The strokes of one drawing, each [P, 2]."""
    try:
        found = [torch.as_tensor(stroke, dtype=torch.float32) for stroke in strokes]
    except (TypeError, ValueError, RuntimeError):
        found = []
    if not found or any(s.ndim != 2 or s.shape[1] != 2 or not len(s) for s in found):
        raise ValueError(
            f"drawing {number} must be a list of strokes, each a list of points (x, y);"
            " draw it again"
        )
    together = torch.cat(found)
    if not together.isfinite().all():
        raise ValueError(f"drawing {number} has a point that is not finite; remove it")
    if (together == together[0]).all():
        raise ValueError(f"drawing {number} is a single dot: draw a line")
    return found


def fit_strokes(
    points: Tensor, radius: Tensor, size: int, *, fill: bool = True
) -> Tensor:
    """Map strokes to pixels, so that each drawing fills its image and is centred.

    The longer side of the box around a drawing takes the whole image, less the pen's
    radius on both sides. Where on the paper it was drawn, and how large, is lost.

    points: [N, S, P, 2], N drawings of S strokes of P points. radius: [N] in pixels.
    fill: False keeps place and size: a point (x, y) is then in units of 0.6 of the
        side, from the middle.

    Returns points of the same shape, in pixels.
    """
    if not fill:
        return size * (0.5 + 0.6 * points)
    low, high = points.amin((1, 2)), points.amax((1, 2))  # [N, 2]
    scale = (size - 2 * radius) / (high - low).amax(1)
    centre = ((low + high) / 2)[:, None, None]
    return size / 2 + (points - centre) * scale[:, None, None, None]


def render_strokes(points: Tensor, radius: Tensor, size: int) -> Tensor:
    """Draw polylines with round pens.

    A pixel's ink falls from 1 to 0 over the pixel that the edge of the stroke crosses,
    by the distance of its centre to the nearest segment.

    points: [N, S, P, 2] in pixels. radius: [N] in pixels.

    Returns [N, 1, size, size] in [-1, 1].
    """
    centre = torch.arange(size) + 0.5
    x, y = centre.repeat(size), centre.repeat_interleave(size)  # [size²]
    per_chunk = max(1, CHUNK // (size * size * math.prod(points.shape[1:3])))
    images = []
    chunks = zip(points.split(per_chunk), radius.split(per_chunk), strict=True)
    for strokes, r in chunks:
        start, step = strokes[:, :, :-1], strokes.diff(dim=2)
        start, step = start.flatten(1, 2)[..., None], step.flatten(1, 2)[..., None]
        px, py = x - start[:, :, 0], y - start[:, :, 1]  # [n, segments, size²]
        sx, sy = step[:, :, 0], step[:, :, 1]  # [n, segments, 1]
        length2 = (sx**2 + sy**2).clamp(min=1e-12)
        t = ((px * sx + py * sy) / length2).clamp_(0, 1)  # nearest point of a segment
        distance = ((px - t * sx) ** 2 + (py - t * sy) ** 2).amin(1).sqrt()
        images.append((r[:, None] + 0.5 - distance).clamp(0, 1))
    return torch.cat(images).view(-1, 1, size, size) * 2 - 1
