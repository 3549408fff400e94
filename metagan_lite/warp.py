"""Random affine maps of images: one drawing becomes another of nearly the same kind."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

__all__ = ["affine_maps", "paper_value", "warp"]


def affine_maps(
    n: int,
    *,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
    mirror: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Draw n affine maps, each amount uniform between minus and plus its bound.

    Args:
        n: How many.
        rotation: Degrees.
        scale: Width and height are multiplied by 1 + u, each with its own u.
        shear: Columns slide by this share of the height.
        shift: Share of the image's width and height.
        mirror: Left and right are exchanged in every second map, at random.
        generator: On the CPU.

    Returns:
        ``[n, 2, 3]``, for :func:`warp`. They map places of the result to places of the
        image, which is what sampling needs; all bounds but the scale's are symmetric,
        so the direction does not matter.
    """
    turn, slant, wide, high, right, down = torch.rand(6, n, generator=generator) * 2 - 1
    angle, slant = turn * rotation * torch.pi / 180, slant * shear
    wide, high = 1 + scale * wide, 1 + scale * high
    right, down = 2 * shift * right, 2 * shift * down  # coordinates span 2
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([wide * cos, slant - sin, right], -1),
        torch.stack([sin, high * cos, down], -1),
    ]
    maps = torch.stack(rows, 1)
    if mirror:
        maps[:, :, 0] *= torch.rand(n, 1, generator=generator).lt(0.5) * 2 - 1
    return maps


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Images ``[n, C, H, W]`` under ``maps [n, 2, 3]``, bilinear.

    What comes in from outside is paper, see :func:`paper_value`.
    """
    grid = F.affine_grid(maps.to(images), list(images.shape), align_corners=False)
    paper = paper_value(images)  # grid_sample pads with zeros: make it the zero
    return F.grid_sample(images - paper, grid, align_corners=False) + paper


def paper_value(images: Tensor) -> Tensor:
    """The value of the paper that an image is drawn on: its commonest value.

    Args:
        images: [..., C, H, W].

    Returns:
        [..., 1, 1, 1].
    """
    return images.flatten(-3).mode(-1).values[..., None, None, None]
