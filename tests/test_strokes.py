"""Strokes become pixels: distances by brute force, boxes, and every bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metagan_lite.strokes import draw_strokes, fit_strokes, render_strokes


def test_normalised_strokes_reach_the_border_and_are_not_cut() -> None:
    points = torch.rand(9, 2, 5, 2, generator=torch.Generator().manual_seed(0)) * 3
    radius = torch.linspace(0.5, 2, 9)
    placed = fit_strokes(points, radius, 20).flatten(1, 2)
    low = (placed - radius[:, None, None]).amin(1)
    high = (placed + radius[:, None, None]).amax(1)
    torch.testing.assert_close(low.amin(1), torch.zeros(9), atol=1e-4, rtol=0)
    torch.testing.assert_close(low + high, torch.full((9, 2), 20.0))  # centred


def test_render_agrees_with_brute_force() -> None:
    points = torch.rand(3, 2, 4, 2, generator=torch.Generator().manual_seed(0)) * 9
    points[0, 1] = points[0, 0]  # a stroke drawn twice
    points[1, 0, 1] = points[1, 0, 0]  # a segment without length
    radius = torch.tensor([0.6, 1.0, 1.7])

    def distance(x: float, y: float, stroke) -> float:
        steps = np.linspace(0, 1, 400)[:, None]
        return min(
            np.hypot(*(a + steps * (b - a) - [x, y]).T).min()
            for a, b in zip(stroke[:-1], stroke[1:], strict=True)
        )

    expected = np.empty((3, 1, 9, 9))
    for n, i, j in np.ndindex(3, 9, 9):
        away = min(distance(j + 0.5, i + 0.5, s) for s in points[n].double().numpy())
        expected[n, 0, i, j] = 2 * np.clip(radius[n].item() + 0.5 - away, 0, 1) - 1
    found = render_strokes(points, radius, 9)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_drawing_is_its_strokes_whatever_their_lengths() -> None:
    """Ragged strokes agree with each stroke rendered alone, the darkest ink winning."""
    strokes = [[(0, 0), (1, 0.2), (0.4, 1)], [(0.3, 0.9), (0.8, 0.1)], [(0.9, 0.9)]]
    (found,) = draw_strokes([strokes], 12)
    radius = torch.tensor([0.06 * 12])
    box = torch.tensor([[list(map(float, p)) for s in strokes for p in s]])[:, None]
    placed = fit_strokes(box, radius, 12)[0, 0].split([3, 2, 1])
    placed = [p if len(p) > 1 else p.expand(2, 2) for p in placed]
    alone = [render_strokes(p[None, None], radius, 12)[0] for p in placed]
    torch.testing.assert_close(found, torch.stack(alone).amax(0))


def test_drawings_of_one_call_do_not_see_each_other() -> None:
    line, two = [[(0, 0), (1, 1)]], [[(0, 0), (1, 0), (1, 1)], [(0, 1), (1, 0)]]
    both = draw_strokes([line, two], 16)
    assert both.shape == (2, 1, 16, 16) and both.dtype == torch.float32
    assert both.min() == -1 and both.max() == 1
    torch.testing.assert_close(both[:1], draw_strokes([line], 16))
    torch.testing.assert_close(both[1:], draw_strokes([two], 16))


def test_a_thin_pen_leaves_solid_pixels() -> None:
    thin = draw_strokes([[[(0, 0), (1, 0.7)]]], 8, pen=0.01)
    torch.testing.assert_close(thin, draw_strokes([[[(0, 0), (1, 0.7)]]], 8, pen=0.075))


@pytest.mark.parametrize(
    ("drawings", "message"),
    [
        ([], "no drawings"),
        ([[]], "drawing 0 must be a list of strokes"),
        ([[[(0, 0), (1, 1)]], [[]]], "drawing 1 must be a list of strokes"),
        ([[[(0, 0, 0), (1, 1, 1)]]], "points \\(x, y\\)"),
        ([[["a", "b"]]], "points \\(x, y\\)"),
        ([[[(0, 0), (float("nan"), 1)]]], "not finite"),
        ([[[(0.5, 0.5)], [(0.5, 0.5), (0.5, 0.5)]]], "single dot"),
    ],
)
def test_what_is_no_drawing_is_refused(drawings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_strokes(drawings, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 5}, "size must"), ({"size": 12, "pen": 0.6}, "pen must")],
)
def test_sizes_without_room_are_refused(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_strokes([[[(0, 0), (1, 1)]]], **options)
