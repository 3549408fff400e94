"""The numbered equations of chapter 9, against answers found another way."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from metagan_lite import GAN, TaskBatch, adapt, meta_gradients
from metagan_lite.blocks import hypergradient_blocks
from metagan_lite.implicit import implicit_gradients
from metagan_lite.losses import value_function

F64 = torch.float64


def normal(*shape: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=F64)


class Line(nn.Module):
    """G: a + wz."""

    latent_dim = 1

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([0.6, 0.5], dtype=F64))

    def forward(self, z: Tensor) -> Tensor:
        return self.p[0] + self.p[1] * z


class Parabola(nn.Module):
    """D: the logit φ·(1, x, x²)."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([0.2, -0.6, 0.3], dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        return self.p[0] + self.p[1] * x[:, 0] + self.p[2] * x[:, 0] ** 2


# The same game written out by hand: ω = (a, w, φ) → losses, without the library.


def D_of(omega: Tensor, x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-(omega[2] + omega[3] * x + omega[4] * x**2)))


def fakes(omega: Tensor, z: Tensor) -> Tensor:
    return omega[0] + omega[1] * z


def real_term(omega: Tensor, x: Tensor) -> Tensor:
    return -D_of(omega, x).log().mean()


def saturating(omega: Tensor, z: Tensor) -> Tensor:
    return (1 - D_of(omega, fakes(omega, z))).log().mean()


def non_saturating(omega: Tensor, z: Tensor) -> Tensor:
    return -D_of(omega, fakes(omega, z)).log().mean()


def loss_d(omega: Tensor, x: Tensor, z: Tensor) -> Tensor:
    return real_term(omega, x) - saturating(omega, z)


def slope(function, omega: Tensor) -> Tensor:
    leaf = omega.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def differences(function, omega: Tensor, h: float = 1e-5) -> Tensor:
    """The Jacobian by central differences, derivatives along the last dimension."""
    rows = torch.eye(len(omega), dtype=F64) * h
    ends = [(function(omega + r) - function(omega - r)) / (2 * h) for r in rows]
    return torch.stack(ends, -1)


def problem(steps: int, game: type[GAN] = GAN, **options):
    nets = Line(), Parabola()
    playing = game(*nets, **options)
    batch = TaskBatch(normal(1, 8, 1, seed=1) * 0.3 + 0.9, normal(1, 8, 1, seed=2))
    noise = normal(1, steps, 2, 8, 1, seed=3), normal(1, 2, 8, 1, seed=4)
    start = torch.cat([net.p.detach() for net in nets])
    return playing, batch, noise, start


def xi(omega: Tensor, x: Tensor, z: Tensor, generator=non_saturating) -> Tensor:
    """(∂_θ L_G, ∂_φ L_D); D's noise is the first."""
    of_d = slope(lambda at: loss_d(at, x, z[0, :, 0]), omega)
    of_g = slope(lambda at: generator(at, z[1, :, 0]), omega)
    return torch.cat([of_g[:2], of_d[2:]])


def test_9_1_slopes_of_the_printed_and_of_the_derived_formula():
    x, z, omega = normal(50, seed=5), normal(50, seed=6), problem(1)[3]
    as_printed = slope(lambda at: real_term(at, x) + saturating(at, z), omega)
    as_derived = slope(lambda at: real_term(at, x) - saturating(at, z), omega)
    # Truths from the library: G minimises V, D minimises −V, by its logits.
    logits = lambda at, points: at[2] + at[3] * points + at[4] * points**2
    V = lambda at: value_function(logits(at, x), logits(at, fakes(at, z)))
    right = slope(V, omega)
    torch.testing.assert_close(as_printed[:2], right[:2])
    torch.testing.assert_close(as_derived[:2], -right[:2])
    torch.testing.assert_close(as_derived[2:], -right[2:])
    extra = as_printed[2:] + right[2:]
    by_differences = differences(lambda at: 2 * saturating(at, z), omega)[2:]
    torch.testing.assert_close(extra, by_differences, rtol=1e-6, atol=1e-9)
    assert extra.norm() > 0.1


def test_9_2_a_loop_in_place_takes_one_more_step_and_copies_have_no_gradient():
    game, batch, (inner, outer), start = problem(3)
    x, alpha, beta = batch.support[0, :, 0], 0.3, 0.1
    nets = copy.deepcopy(game.players)
    sgd = {p: torch.optim.SGD(net.parameters(), alpha) for p, net in nets.items()}
    for z in inner[0]:
        for player in ("D", "G"):
            sgd[player].zero_grad()
            game.loss(player, nets, batch.support[0], z).backward()
            sgd[player].step()
    omega = start.clone()
    for z in inner[0]:  # by hand: D, then G at the D that has moved
        omega[2:] -= alpha * xi(omega, x, z)[2:]
        omega[:2] -= alpha * xi(omega, x, z)[:2]
    torch.testing.assert_close(nets["G"].p.detach(), omega[:2])
    loss = game.loss("G", nets, batch.support[0], outer[0])
    starts = [net.p for net in game.players.values()]
    assert torch.autograd.grad(loss, starts, allow_unused=True, retain_graph=True) == (
        None,
        None,
    )
    meta = torch.optim.SGD(nets["G"].parameters(), beta)
    meta.zero_grad()
    loss.backward()
    meta.step()
    after = omega[:2] - beta * xi(omega, x, outer[0])[:2]
    torch.testing.assert_close(nets["G"].p.detach(), after)


@pytest.mark.parametrize("detach", [False, True])
def test_9_3_the_real_term_through_the_adapted_discriminator(detach):
    game, batch, (inner, _), start = problem(1, detach_fakes=detach)
    x, query, alpha = batch.support[0, :, 0], batch.query[0, :, 0], 0.7
    adapted = adapt(
        game, batch.support, inner_steps=1, inner_lr={"G": 0.2, "D": alpha}, noise=inner
    )
    loss = torch.nn.functional.softplus(-adapted["D"](batch.query)).mean()
    (found,) = torch.autograd.grad(
        loss, game.players["G"].p, allow_unused=True, materialize_grads=True
    )

    def after_d(theta: Tensor) -> Tensor:
        omega = torch.cat([theta, start[2:]])
        moved = omega[2:] - alpha * xi(omega, x, inner[0, 0])[2:]
        return torch.cat([omega[:2], moved])

    theta = start[:2]
    if detach:
        assert found.abs().max() == 0
        return
    mixed = differences(
        lambda at: xi(torch.cat([at, start[2:]]), x, inner[0, 0])[2:], theta
    )
    of_real = slope(lambda at: real_term(at, query), after_d(theta))[2:]
    formula = -alpha * mixed.T @ of_real
    truth = differences(lambda at: real_term(after_d(at), query), theta)
    torch.testing.assert_close(formula, truth, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-8)
    assert truth.norm() > 1e-2


def after_steps(omega: Tensor, x: Tensor, noise: Tensor, alpha: Tensor) -> list:
    points = [omega]
    for z in noise:
        points.append(points[-1] - alpha * xi(points[-1], x, z))
    return points


@pytest.mark.parametrize("player", ["G", "D"])
def test_9_4_both_blocks_go_back_through_the_transposed_jacobians(player):
    game, batch, noise, start = problem(3)
    x, query, alpha = batch.support[0, :, 0], batch.query[0, :, 0], 0.3

    def outer(omega: Tensor) -> Tensor:
        if player == "G":
            return non_saturating(omega, noise[1][0, 1, :, 0])
        return loss_d(omega, query, noise[1][0, 0, :, 0])

    *points, end = after_steps(start, x, noise[0][0], alpha)
    back = slope(outer, end)
    for point, z in zip(points[::-1], noise[0][0].flip(0)):
        J = differences(lambda at: xi(at, x, z), point)  # noqa: B023
        back = back - alpha * J.T @ back
    truth = differences(
        lambda at: outer(after_steps(at, x, noise[0][0], alpha)[-1]), start
    )
    torch.testing.assert_close(back, truth, rtol=1e-5, atol=1e-7)
    found = meta_gradients(
        game,
        batch,
        inner_steps=3,
        inner_lr=alpha,
        simultaneous=True,
        objective="adversarial",
        noise=noise,
    ).grads
    own = truth[:2] if player == "G" else truth[2:]
    torch.testing.assert_close(found[player]["p"], own, rtol=1e-5, atol=1e-7)


def best_d(theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """φ* by Newton's method with finite differences of the slope."""
    omega = torch.cat([theta, torch.zeros(3, dtype=F64)])
    force = lambda at: slope(lambda o: loss_d(o, x, z), at)[2:]
    for _ in range(40):
        curvature = differences(force, omega)[:, 2:]
        step = torch.linalg.solve(curvature, force(omega))
        omega = torch.cat([theta, omega[2:] - step])
    return omega


def test_9_5_unrolling_leads_to_the_implicit_gradient():
    x, z, theta = normal(60, seed=7), normal(60, seed=8), problem(1)[3][:2]
    omega = best_d(theta, x, z)
    second = differences(lambda at: slope(lambda o: loss_d(o, x, z), at)[2:], omega)
    g = slope(lambda at: saturating(at, z), omega)
    formula = g[:2] - second[:, :2].T @ torch.linalg.solve(second[:, 2:], g[2:])

    def unrolled(theta: Tensor) -> Tensor:  # 400 steps of D, differentiated
        omega = torch.cat([theta, torch.zeros(3, dtype=F64)])
        for _ in range(400):
            (of_d,) = torch.autograd.grad(loss_d(omega, x, z), omega, create_graph=True)
            omega = torch.cat([theta, omega[2:] - of_d[2:]])
        return saturating(omega, z)

    leaf = theta.clone().requires_grad_()
    (total,) = torch.autograd.grad(unrolled(leaf), leaf)
    torch.testing.assert_close(formula, total, rtol=1e-4, atol=1e-5)
    truth = differences(lambda at: saturating(best_d(at, x, z), z), theta, h=1e-4)
    torch.testing.assert_close(formula, truth, rtol=1e-4, atol=1e-5)
    assert (formula - g[:2]).norm() > 0.05


def test_9_6_for_the_value_function_the_extra_term_vanishes():
    x, z, theta = normal(60, seed=7), normal(60, seed=8), problem(1)[3][:2]
    V = lambda omega: -loss_d(omega, x, z)
    total = differences(lambda at: V(best_d(at, x, z)), theta, h=1e-4)
    partial = slope(V, best_d(theta, x, z))[:2]
    torch.testing.assert_close(total, partial, rtol=1e-5, atol=1e-7)


def test_9_7_three_parts_of_four_blocks():
    game, batch, noise, start = problem(1)
    x, query = batch.support[0, :, 0], batch.query[0, :, 0]
    alpha = torch.tensor([0.4, 0.4, 0.7, 0.7, 0.7], dtype=F64)
    J = differences(lambda at: xi(at, x, noise[0][0, 0]), start)
    end = start - alpha * xi(start, x, noise[0][0, 0])
    blocks = hypergradient_blocks(
        game,
        batch,
        inner_steps=1,
        inner_lr={"G": 0.4, "D": 0.7},
        simultaneous=True,
        objective="adversarial",
        noise=noise,
    )
    outer = {
        "G": lambda at: non_saturating(at, noise[1][0, 1, :, 0]),
        "D": lambda at: loss_d(at, query, noise[1][0, 0, :, 0]),
    }
    G, D = slice(0, 2), slice(2, 5)
    for term, loss in outer.items():
        g = slope(loss, end)
        parts = {
            "G": (g[G], -0.4 * J[G, G].T @ g[G], -0.7 * J[D, G].T @ g[D]),
            "D": (g[D], -0.7 * J[D, D].T @ g[D], -0.4 * J[G, D].T @ g[G]),
        }
        whole = differences(
            lambda at: loss(at - alpha * xi(at, x, noise[0][0, 0])),  # noqa: B023
            start,
        )
        for player, (direct, own, cross) in parts.items():
            block = blocks[term][player]
            torch.testing.assert_close(block.direct["p"], direct)
            torch.testing.assert_close(block.own["p"], own, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(block.cross["p"], cross, rtol=1e-6, atol=1e-9)
            total = whole[G if player == "G" else D]
            torch.testing.assert_close(
                direct + own + cross, total, rtol=1e-6, atol=1e-8
            )


class ZeroSum(GAN):
    """G minimises V itself."""

    def loss(self, player, nets, data, noise):
        if player == "D":
            return super().loss(player, nets, data, noise)
        return value_function(*self.logits(nets, data, nets["G"](noise[1])))


def test_9_8_parts_are_derivatives_of_squared_slopes():
    game, batch, _, start = problem(1, ZeroSum)
    batch = TaskBatch(batch.support, batch.support)
    z = normal(1, 1, 1, 8, 1, seed=9).expand(1, 1, 2, 8, 1)
    x = batch.support[0, :, 0]
    V = lambda at, z: -loss_d(at, x, z)
    field = lambda at: xi(at, x, z[0, 0], generator=V)

    def half_square(player: slice):
        return differences(lambda at: field(at)[player].square().sum() / 2, start)

    G, D = slice(0, 2), slice(2, 5)
    rest = []
    for alpha in (0.02, 0.01):
        found = hypergradient_blocks(
            game,
            batch,
            inner_steps=1,
            inner_lr={"G": alpha, "D": 2 * alpha},
            simultaneous=True,
            objective="adversarial",
            noise=(z, z[:, 0]),
        )
        of_g, of_d = found["G"]["G"], found["D"]["D"]
        errors = [
            of_g.own["p"] + alpha * half_square(G)[G],
            of_g.cross["p"] - 2 * alpha * half_square(D)[G],
            of_d.own["p"] + 2 * alpha * half_square(D)[D],
            of_d.cross["p"] - alpha * half_square(G)[D],
        ]
        rest.append(torch.stack([e.norm() for e in errors]))
    falls = rest[0] / rest[1]
    assert ((falls > 3.6) & (falls < 4.4)).all()  # α²: the terms of order α are right


def test_9_9_a_strong_spring_is_one_step_of_size_one_over_eta():
    game, batch, noise, start = problem(1)
    x, rest = batch.support[0, :, 0], []
    for eta in (20.0, 40.0):
        found = implicit_gradients(
            game,
            batch,
            strength=eta,
            inner_steps=300,
            inner_lr=0.5 / eta,
            objective="adversarial",
            noise=noise,
        ).grads
        held = start
        for _ in range(60):
            held = start - xi(held, x, noise[0][0, 0]) / eta
        J = differences(lambda at: xi(at, x, noise[0][0, 0]), held)
        g = slope(lambda at: non_saturating(at, noise[1][0, 1, :, 0]), held)
        dense = torch.linalg.solve((torch.eye(5, dtype=F64) + J / eta).T, g)
        torch.testing.assert_close(found["G"]["p"], dense[:2], rtol=1e-6, atol=1e-8)
        rest.append((dense - (g - J.T @ g / eta)).norm())
    assert 3.5 < rest[0] / rest[1] < 4.5
