"""The numbered equations of chapter 16, against answers found another way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metagan_lite.strokes import draw_strokes, fit_strokes, render_strokes

F64 = torch.float64


def clipped_area(angle: float, inside: float) -> float:
    """The area of a unit square on one side of a line, by cutting the polygon.

    Sutherland and Hodgman: walk round the corners, keep those inside, and add a corner
    where a side crosses the line; then the shoelace formula.
    """
    normal = (math.cos(angle), math.sin(angle))
    corners = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    depth = [inside - normal[0] * x - normal[1] * y for x, y in corners]
    kept = []
    for i, (x, y) in enumerate(corners):
        j = (i + 1) % 4
        if depth[i] >= 0:
            kept.append((x, y))
        if (depth[i] >= 0) != (depth[j] >= 0):
            t = depth[i] / (depth[i] - depth[j])
            kept.append((x + t * (corners[j][0] - x), y + t * (corners[j][1] - y)))
    twice = sum(
        x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(kept, kept[1:] + kept[:1])
    )
    return twice / 2


def ink_of_edge(angle: float, inside: float) -> float:
    """What the library draws in the pixel whose centre lies so far inside an edge.

    The pen's path runs through the image along the edge, two pixels behind it, so that
    its end points are far away.
    """
    normal = torch.tensor([math.cos(angle), math.sin(angle)], dtype=F64)
    along = torch.tensor([-normal[1], normal[0]])
    centre, radius = torch.tensor([4.5, 4.5], dtype=F64), 2.0
    middle = centre + (inside - radius) * normal
    path = torch.stack([middle - 20 * along, middle + 20 * along])[None, None]
    image = render_strokes(path, torch.tensor([radius], dtype=F64), 9)
    return (image[0, 0, 4, 4].item() + 1) / 2


@pytest.mark.parametrize("degrees", [0, 7, 20, 33, 45, 61, 84, 90, 122, 200, 311])
def test_16_1_the_largest_error_of_ink(degrees: int):
    angle = math.radians(degrees)
    reach = abs(math.cos(angle)) + abs(math.sin(angle))
    bound = (reach - 1) / (4 * (reach + 1))
    inside = torch.linspace(-0.75, 0.75, 31).tolist()  # holds one half on both sides
    gaps = [abs(ink_of_edge(angle, e) - clipped_area(angle, e)) for e in inside]
    assert max(gaps) == pytest.approx(bound, abs=1e-6)
    assert gaps[inside.index(0.5)] == pytest.approx(bound, abs=1e-6)
    assert bound <= (math.sqrt(2) - 1) ** 2 / 4 + 1e-12


def test_16_1_the_bound_is_reached_at_45_degrees_only():
    bounds = []
    for degrees in range(91):
        angle = math.radians(degrees)
        bounds.append(abs(ink_of_edge(angle, 0.5) - clipped_area(angle, 0.5)))
    assert bounds.index(max(bounds)) == 45
    assert max(bounds) == pytest.approx((math.sqrt(2) - 1) ** 2 / 4, abs=1e-6)
    assert bounds[0] == pytest.approx(0, abs=1e-9)


def boxes(points: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high corner [N, 2] of what a pen covers."""
    flat = points.flatten(1, 2)
    return flat.amin(1) - radius[:, None], flat.amax(1) + radius[:, None]


@pytest.mark.parametrize("size", [6, 13, 28])
def test_16_2_place_and_size_make_no_difference(size: int):
    random = torch.Generator().manual_seed(size)
    points = torch.randn(20, 3, 5, 2, generator=random, dtype=F64)
    radius = 0.5 + torch.rand(20, generator=random, dtype=F64)
    factor = 10 ** torch.randn(20, 1, 1, 1, generator=random, dtype=F64)
    shift = 5 * torch.randn(20, 1, 1, 2, generator=random, dtype=F64)
    fitted = fit_strokes(points, radius, size)
    moved = fit_strokes(factor * points + shift, radius, size)
    torch.testing.assert_close(moved, fitted, atol=1e-9, rtol=0)
    # It is a fit: centred, the longer side full, and of the drawing's proportions.
    low, high = boxes(fitted, radius)
    torch.testing.assert_close(low + high, torch.full((20, 2), size, dtype=F64))
    assert (high - low).amax(1).sub(size).abs().max() < 1e-9
    sides = points.flatten(1, 2).amax(1) - points.flatten(1, 2).amin(1)
    found = high - low - 2 * radius[:, None]
    torch.testing.assert_close(found[:, 0] * sides[:, 1], found[:, 1] * sides[:, 0])


def test_16_2_so_the_images_are_the_same():
    drawing = [[(0.1, 0.2), (0.8, 0.3), (0.4, 0.9)], [(0.2, 0.2), (0.7, 0.8)]]
    moved = [[(3 * x + 100, 3 * y - 7) for x, y in stroke] for stroke in drawing]
    flat = [[(x, y / 2) for x, y in stroke] for stroke in drawing]
    first, second, third = draw_strokes([drawing, moved, flat], 16)
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)
    assert (first - third).abs().max() > 0.5
