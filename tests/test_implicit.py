"""iMAML's gradients against closed forms, dense solves and finite differences."""

import math

import pytest
import torch
from torch import nn

from metagan_lite import (
    GAN,
    Adapted,
    MetaDiscriminator,
    MetaGenerator,
    Supervised,
    TaskBatch,
    adapt,
)
from metagan_lite.implicit import (
    conjugate_gradients,
    implicit_gradients,
    proximal_point,
    solve_implicit,
)


def flat(tree):
    return torch.cat([x.flatten() for x in torch.utils._pytree.tree_leaves(tree)])


def regression(net, tasks=3, shots=6, seed=0):
    """A supervised game and random tasks of it, in float64."""
    random = torch.Generator().manual_seed(seed)
    inputs = next(net.parameters()).shape[1]
    draw = lambda d: torch.randn(
        tasks, 2 * shots, d, generator=random, dtype=torch.float64
    )
    x, y = draw(inputs), draw(1)
    batch = TaskBatch(x[:, :shots], x[:, shots:], y[:, :shots], y[:, shots:])
    return Supervised(net.double(), "squared-error"), batch


def small_net(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))


SOLVED = {"inner_steps": 250, "inner_lr": 0.15, "cg_steps": 20}


# Conjugate gradients


def spd(eigenvalues, seed=0):
    random = torch.Generator().manual_seed(seed)
    d = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(d, d, generator=random, dtype=torch.float64)).Q
    return basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T


def test_conjugate_gradients_need_one_step_for_each_different_eigenvalue():
    matrix = spd([1.0, 1.0, 3.0, 3.0, 3.0, 7.0])
    target = torch.arange(1.0, 7.0, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, target)

    def error(steps):
        return (
            conjugate_gradients(lambda v: matrix @ v, target, steps=steps) - exact
        ).norm() / exact.norm()

    assert error(2) > 1e-3
    assert error(3) < 1e-12
    assert error(20) < 1e-12  # going on after the end does no harm


def test_conjugate_gradients_keep_their_bound():
    matrix = spd(torch.linspace(1, 50, 30).tolist())
    target = torch.linspace(-1, 1, 30, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, target)
    size = lambda v: (v @ matrix @ v).sqrt()
    root = math.sqrt(50)
    for steps in (1, 4, 8, 12):
        v = conjugate_gradients(lambda v: matrix @ v, target, steps=steps)
        bound = 2 * ((root - 1) / (root + 1)) ** steps
        assert size(v - exact) <= bound * size(exact)


def test_conjugate_gradients_take_trees_and_a_target_of_zero():
    target = {"a": {"w": torch.ones(2, 3)}, "b": {"w": torch.full((4,), 2.0)}}
    twice = lambda v: {p: {k: 2 * x for k, x in own.items()} for p, own in v.items()}
    v = conjugate_gradients(twice, target, steps=1)
    torch.testing.assert_close(v["a"]["w"], torch.full((2, 3), 0.5))
    torch.testing.assert_close(v["b"]["w"], torch.ones(4))
    nothing = conjugate_gradients(lambda v: 2 * v, torch.zeros(3), steps=4)
    torch.testing.assert_close(nothing, torch.zeros(3))


# One player


def test_on_quadratics_the_gradient_is_the_closed_form():
    game, batch = regression(nn.Linear(3, 1, bias=False))
    strength = 0.7
    found = implicit_gradients(game, batch, strength=strength, **SOLVED)
    assert found.inner_error < 1e-9
    assert found.solver_error < 1e-9

    theta, expected, loss = game.players["net"].weight.detach()[0], 0, 0
    for i in range(3):
        x, y = batch.support[i], batch.support_targets[i, :, 0]
        hessian = 2 * x.T @ x / len(x)
        optimum = torch.linalg.solve(hessian, 2 * x.T @ y / len(x))
        keep = torch.linalg.inv(torch.eye(3) + hessian / strength)
        end = optimum + keep @ (theta - optimum)
        q, t = batch.query[i], batch.query_targets[i, :, 0]
        expected += keep @ (2 * q.T @ (q @ end - t) / len(q)) / 3
        loss += (q @ end - t).square().mean() / 3
    torch.testing.assert_close(found.grads["net"]["weight"][0], expected)
    torch.testing.assert_close(found.losses["net"], loss)


def test_on_a_net_the_gradient_is_that_of_a_dense_solve():
    game, batch = regression(small_net())
    strength = 2.0
    found = implicit_gradients(game, batch, strength=strength, **SOLVED)
    assert found.inner_error < 1e-9

    net, shapes = game.players["net"], {}
    start = flat([p.detach() for p in net.parameters()])
    for name, p in net.named_parameters():
        shapes[name] = p.shape

    def loss(vector, x, y):
        parts = vector.split([s.numel() for s in shapes.values()])
        params = {n: v.view(s) for (n, s), v in zip(shapes.items(), parts)}
        return (torch.func.functional_call(net, params, (x,)) - y).square().mean()

    expected = 0
    for i in range(3):
        support = batch.support[i], batch.support_targets[i]
        query = batch.query[i], batch.query_targets[i]
        end = start.clone()
        for _ in range(2000):
            slope = torch.func.grad(loss)(end, *support)
            end = end - 0.1 * (slope + strength * (end - start))
        system = (
            torch.eye(len(start))
            + torch.func.jacrev(torch.func.grad(loss))(end, *support) / 2.0
        )
        expected += torch.linalg.solve(system, torch.func.grad(loss)(end, *query)) / 3
    torch.testing.assert_close(flat(found.grads["net"]), expected, rtol=1e-7, atol=1e-9)


def test_it_is_the_derivative_of_the_loss_after_adaptation():
    game, batch = regression(small_net())
    options = {"strength": 1.0, **SOLVED}
    found = implicit_gradients(game, batch, **options)
    for name, parameter in game.parameters()["net"].items():
        torch.manual_seed(2)
        direction, ends = torch.randn_like(parameter), []
        for step in (1e-5, -2e-5):
            parameter.data += step * direction
            ends.append(implicit_gradients(game, batch, **options).losses["net"])
        parameter.data += 1e-5 * direction
        slope = (ends[0] - ends[1]) / 2e-5
        ours = (found.grads["net"][name] * direction).sum()
        torch.testing.assert_close(ours, slope, rtol=1e-5, atol=1e-8)


def test_what_is_not_solved_is_reported():
    game, batch = regression(small_net())
    few = {"strength": 0.1, "inner_steps": 2, "inner_lr": 0.1, "cg_steps": 1}
    found = implicit_gradients(game, batch, **few)
    assert found.inner_error > 0.05
    assert found.solver_error > 0.05


def test_frozen_parameters_stay_and_get_no_gradient():
    net = small_net()
    net[0].requires_grad_(False)
    game, batch = regression(net)
    found = implicit_gradients(game, batch, strength=1.0, **SOLVED)
    assert set(found.grads["net"]) == {"2.weight", "2.bias"}

    # The rest is linear regression on the frozen layer's features.
    head, features = nn.Linear(4, 1), net[:2]
    head.load_state_dict(net[2].state_dict())
    with torch.no_grad():
        seen = TaskBatch(
            features(batch.support),
            features(batch.query),
            batch.support_targets,
            batch.query_targets,
        )
    alone = implicit_gradients(
        Supervised(head.double(), "squared-error"), seen, strength=1.0, **SOLVED
    )
    torch.testing.assert_close(flat(found.grads), flat(alone.grads))


# Several players


def small_gan(loss="non-saturating"):
    random = torch.Generator().manual_seed(3)
    options = {"hidden": (3,), "generator": random}
    game = GAN(
        MetaGenerator((1, 2, 2), latent_dim=2, **options).double(),
        MetaDiscriminator((1, 2, 2), **options).double(),
        loss=loss,
    )
    images = torch.rand(2, 8, 1, 2, 2, generator=random, dtype=torch.float64)
    batch = TaskBatch(images[:, :4], images[:, 4:])
    noise = (
        game.noise(2, 1, 4, generator=random),
        game.noise(2, 1, 4, generator=random)[:, 0],
    )
    return game, batch, noise


@pytest.mark.parametrize("loss", ["non-saturating", "relativistic"])
def test_in_a_game_it_is_the_dense_solve_with_the_transposed_jacobian(loss):
    game, batch, noise = small_gan(loss)
    options = {"strength": 0.5, "inner_steps": 200, "inner_lr": 0.7, "cg_steps": 45}
    found = implicit_gradients(game, batch, noise=noise, **options)
    assert found.inner_error < 1e-9
    assert found.solver_error < 1e-9

    names = [(p, k) for p, own in game.parameters().items() for k in own]
    own = game.parameters()
    sizes = [own[p][k].numel() for p, k in names]
    start = flat([own[p][k].detach() for p, k in names])
    split = sum(n for (p, _), n in zip(names, sizes) if p == "D")

    def losses(vector, data, z):
        parts = dict(zip(names, vector.split(sizes)))

        def call(player):
            net = {k: parts[p, k].view_as(own[p][k]) for p, k in names if p == player}
            return lambda x: torch.func.functional_call(game.players[player], net, (x,))

        nets = {player: call(player) for player in ("D", "G")}
        return torch.stack([game.loss(player, nets, data, z) for player in ("D", "G")])

    def field(vector, data, z):
        of_d, of_g = torch.func.jacrev(losses)(vector, data, z)
        return torch.cat([of_d[:split], of_g[split:]])

    expected, asymmetry = 0, 0
    for i in range(2):
        end, inner = start.clone(), (batch.support[i], noise[0][i, 0])
        for _ in range(10):  # Newton's method: another way to the same point
            jacobian = torch.func.jacrev(field)(end, *inner)
            force = field(end, *inner) + 0.5 * (end - start)
            end = end - torch.linalg.solve(jacobian + 0.5 * torch.eye(len(end)), force)
        jacobian = torch.func.jacrev(field)(end, *inner)
        asymmetry += (jacobian - jacobian.T).norm() / jacobian.norm()
        system = (torch.eye(len(start)) + jacobian / 0.5).T
        both = torch.func.jacrev(losses)(end, batch.query[i], noise[1][i])
        of_d, of_g = torch.linalg.solve(system, both.T).T
        expected += torch.cat([of_d[:split], of_g[split:]]) / 2
    assert asymmetry > 0.1  # or the transpose would not be tested
    torch.testing.assert_close(flat(found.grads), expected, rtol=1e-7, atol=1e-9)


def test_a_shared_objective_reaches_d_through_the_game():
    game, batch, _ = small_gan()
    found = implicit_gradients(
        game,
        batch,
        strength=0.5,
        inner_steps=300,
        inner_lr=0.4,
        cg_steps=60,
        objective="coop-mmd",
        generator=torch.Generator().manual_seed(0),
    )
    assert flat(found.grads["D"]).norm() > 1e-3


def test_solve_implicit_on_a_field_that_turns():
    turn = torch.tensor([[0.2, 3.0], [-1.0, 0.1]], dtype=torch.float64)
    target = torch.tensor([1.0, 2.0], dtype=torch.float64)
    v = solve_implicit(
        lambda x: turn @ x,
        torch.zeros(2, dtype=torch.float64),
        target,
        strength=0.5,
        steps=2,
        symmetric=False,
    )
    exact = torch.linalg.solve((torch.eye(2) + turn / 0.5).T, target)
    torch.testing.assert_close(v, exact)


def test_proximal_point_balances_slope_and_spring():
    start = torch.tensor([2.0, -1.0], dtype=torch.float64)
    field = lambda x: x**3
    end = proximal_point(field, start, strength=2.0, steps=500, lr=0.05)
    torch.testing.assert_close(field(end), 2.0 * (start - end))


# Around it


def test_adapted_at_takes_parameters_from_elsewhere():
    game, batch, noise = small_gan()
    steps = {"inner_steps": 2, "inner_lr": 0.3}
    by_steps = adapt(game, batch.support, samples=4, **steps)
    placed = Adapted.at(game, by_steps.parameters())
    z = noise[1][:, 0]
    torch.testing.assert_close(placed["G"](z), by_steps["G"](z))
    alone = Adapted.at(game, {"G": by_steps.parameters()["G"]})
    images = by_steps["G"](z)
    torch.testing.assert_close(alone["G"](z), images)
    for i in range(2):
        torch.testing.assert_close(alone["D"](images)[i], game.players["D"](images[i]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 0.0}, "expected strength > 0, got 0.0"),
        ({"inner_lr": -0.1}, "expected inner_lr > 0, got -0.1"),
        ({"inner_steps": 0}, "inner_steps"),
        ({"cg_steps": 0}, "cg_steps"),
        ({"objective": "coop-mmd"}, "needs a GAN"),
    ],
)
def test_errors_say_what_to_do(changes, message):
    game, batch = regression(small_net())
    options = {"strength": 1.0, "inner_steps": 3, "inner_lr": 0.1} | changes
    with pytest.raises(ValueError, match=message):
        implicit_gradients(game, batch, **options)


def test_a_diverging_inner_problem_is_an_error():
    game, batch = regression(small_net())
    with pytest.raises(FloatingPointError, match="lower inner_lr"):
        implicit_gradients(game, batch, strength=1e3, inner_steps=400, inner_lr=1.0)
