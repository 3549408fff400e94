"""Affine maps against cases in which the result is known."""

import math

import pytest
import torch

from metagan_lite.warp import affine_maps, warp


def picture(side=9):
    image = -torch.ones(1, 1, side, side)
    image[..., 2:4, 3:8] = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    return image


def test_no_bounds_change_nothing():
    maps = affine_maps(4)
    torch.testing.assert_close(maps, torch.eye(2, 3).expand(4, 2, 3))
    images = picture().expand(4, 1, 9, 9)
    torch.testing.assert_close(warp(images, maps), images, atol=1e-5, rtol=0)


def test_a_quarter_turn_and_a_shift_by_whole_pixels():
    image = picture()
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]])
    turned = warp(image, quarter)
    torch.testing.assert_close(turned, image.rot90(1, (-2, -1)), atol=1e-5, rtol=0)
    right = torch.tensor([[[1.0, 0, -2 / 9], [0, 1, 0]]])  # one pixel of nine
    moved = image.roll(1, -1)
    torch.testing.assert_close(warp(image, right), moved, atol=1e-5, rtol=0)


def test_paper_comes_in_from_outside():
    far = torch.tensor([[[1.0, 0, 5], [0, 1, 0]]])
    for paper in (-1.0, 0.7):
        image = torch.full((1, 1, 9, 9), paper)
        image[..., 4, 4] = 0.1
        torch.testing.assert_close(warp(image, far), torch.full_like(image, paper))


@pytest.mark.parametrize("bound", ["rotation", "scale", "shear", "shift"])
def test_each_bound_is_reached_and_kept(bound):
    size = {"rotation": 30.0, "scale": 0.2, "shear": 0.3, "shift": 0.1}[bound]
    maps = affine_maps(
        4000, **{bound: size}, generator=torch.Generator().manual_seed(0)
    )
    matrix, offset = maps[..., :2], maps[..., 2]
    amount = {
        "rotation": torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]) * 180 / math.pi,
        "scale": matrix[:, 0, 0] - 1,
        "shear": matrix[:, 0, 1],
        "shift": offset[:, 0] / 2,
    }[bound]
    assert amount.min() == pytest.approx(-size, rel=0.01)
    assert amount.max() == pytest.approx(size, rel=0.01)
    assert amount.mean().abs() < 0.05 * size
    determinant = torch.linalg.det(matrix)
    if bound in ("rotation", "shear", "shift"):
        torch.testing.assert_close(determinant, torch.ones(4000))
    else:
        assert determinant.std() > 0.1


def test_every_second_map_is_a_mirror_and_mirrors():
    maps = affine_maps(2000, mirror=True, generator=torch.Generator().manual_seed(0))
    determinant = torch.linalg.det(maps[..., :2])
    assert set(determinant.round().tolist()) == {-1.0, 1.0}
    assert determinant.mean().abs() < 0.08  # 3.6 standard errors
    mirror = maps[determinant < 0][:1]
    image = picture()
    torch.testing.assert_close(warp(image, mirror), image.flip(-1), atol=1e-5, rtol=0)
