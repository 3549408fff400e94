"""The numbered equations of chapter 11, against answers found another way."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product

import pytest
import torch
from torch import Tensor, nn

from metagan_lite import GAN

F64 = torch.float64


def normal(*shape: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=F64)


# L = Σ aₖθₖ⁴ + (b·θ)³ has the slope 4aθ³ + 3(b·θ)²b, the Hessian below.
a, b = normal(5, seed=0), normal(5, seed=1)


def loss(theta: Tensor) -> Tensor:
    return (a * theta**4).sum() + (b @ theta) ** 3


def slope_by_hand(theta: Tensor) -> Tensor:
    return 4 * a * theta**3 + 3 * (b @ theta) ** 2 * b


def hessian_by_hand(theta: Tensor) -> Tensor:
    return torch.diag(12 * a * theta**2) + 6 * (b @ theta) * torch.outer(b, b)


def adams_step(theta: Tensor, alpha: float, eps: float, scale: float = 1.0) -> Tensor:
    """PyTorch's own Adam, from a fresh state."""
    leaf = theta.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=alpha, eps=eps)
    (scale * loss(leaf)).backward()
    optimizer.step()
    return leaf.detach()


@pytest.mark.parametrize("eps", [1e-8, 1e-2, 1.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_11_1_first_step_of_adam(eps: float, scale: float):
    theta, alpha = normal(5, seed=2), 0.03
    g = scale * slope_by_hand(theta)
    formula = -alpha * g / (g.abs() + eps)
    step = adams_step(theta, alpha, eps, scale) - theta
    torch.testing.assert_close(step, formula, rtol=1e-8, atol=1e-14)
    if eps == 1e-8:  # the length of a slope does not matter
        torch.testing.assert_close(
            step.abs(), torch.full_like(step, alpha), rtol=1e-4, atol=0
        )


def test_11_2_slope_that_a_leak_leaves():
    # G is one number for each sample, D the identity: the logit is what G emits.
    class Table(nn.Module):
        latent_dim = 1

        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(normal(7, 1, seed=3))

        def forward(self, z: Tensor) -> Tensor:
            return self.logits[: len(z)] + 0 * z

    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones((), dtype=F64))

        def forward(self, x: Tensor) -> Tensor:
            return self.w * x

    game = GAN(Table(), Same())
    noise = torch.zeros(2, 7, 1, dtype=F64)
    for player in ("D", "G"):  # no zero_grad between the two
        game.loss(player, game.players, normal(4, 1, seed=4), noise).backward()
    table = game.players["G"].logits
    D = 1 / (1 + torch.exp(-table.detach()))
    torch.testing.assert_close(7 * table.grad, 2 * D - 1)


@pytest.mark.parametrize("eps", [1e-8, 1e-1, 1.0])
def test_11_3_derivative_of_adams_first_step(eps: float):
    theta, alpha, h = normal(5, seed=5), 0.05, 1e-6
    columns = [
        (adams_step(theta + e, alpha, eps) - adams_step(theta - e, alpha, eps))
        / (2 * h)
        for e in h * torch.eye(5, dtype=F64)
    ]
    g = slope_by_hand(theta)
    factor = alpha * eps / (g.abs() + eps) ** 2
    formula = torch.eye(5, dtype=F64) - factor[:, None] * hessian_by_hand(theta)
    torch.testing.assert_close(torch.stack(columns, 1), formula, rtol=1e-5, atol=1e-7)
    far = (formula - torch.eye(5, dtype=F64)).abs().max()
    assert far < 1e-6 if eps == 1e-8 else far > 1e-3


def test_11_3_where_the_slope_is_zero_the_factor_is_alpha_over_epsilon():
    # L = θ²/2 at 0: the step is α θ / (|θ| + ε), whose slope there is α/ε.
    alpha, eps, h = 0.01, 1e-8, 1e-12
    ends = []
    for at in (h, -h):
        leaf = torch.tensor([at], dtype=F64, requires_grad=True)
        optimizer = torch.optim.Adam([leaf], lr=alpha, eps=eps)
        (leaf**2 / 2).sum().backward()
        optimizer.step()
        ends.append(leaf.item())
    derivative = (ends[0] - ends[1]) / (2 * h)
    assert derivative == pytest.approx(1 - alpha / eps, rel=1e-3)


@pytest.mark.parametrize(("n", "k", "m"), [(5, 2, 2), (4, 3, 3), (6, 1, 3), (4, 4, 1)])
def test_11_4_share_that_tasks_see(n: int, k: int, m: int):
    tasks = [set(task) for task in combinations(range(n), k)]
    shares = [
        Fraction(len(set().union(*drawn)), n) for drawn in product(tasks, repeat=m)
    ]
    by_enumeration = sum(shares) / len(shares)
    assert by_enumeration == 1 - (1 - Fraction(k, n)) ** m
