"""The numbered equations of chapter 7, the family, against independent truths."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev

from metagan_lite import GAN, Supervised, TaskBatch, meta_gradients
from metagan_lite.implicit import (
    conjugate_gradients,
    implicit_gradients,
    proximal_point,
)

WIDTH = 4


@pytest.fixture
def problem():
    """A regression net, one task, and the loss as a function of one flat vector."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)).double()
    x, y = torch.randn(12, 2).double(), torch.randn(12, 1).double()
    batch = TaskBatch(x[None, :6], x[None, 6:], y[None, :6], y[None, 6:])
    shapes = {name: p.shape for name, p in net.named_parameters()}

    def loss(vector, data):
        parts = zip(shapes.items(), vector.split([s.numel() for s in shapes.values()]))
        params = {name: part.view(shape) for (name, shape), part in parts}
        return (functional_call(net, params, (data[0],)) - data[1]).square().mean()

    start = torch.cat([p.detach().flatten() for p in net.parameters()])
    game = Supervised(net, "squared-error")
    return game, batch, loss, start, (x[:6], y[:6]), (x[6:], y[6:])


def walk(loss, at, data, α, steps=1):
    for _ in range(steps):
        at = at - α * grad(loss)(at, data)
    return at


def by_differences(function, at, h=1e-5):
    """The gradient of a scalar function by central differences."""
    return torch.stack(
        [
            (function(at + h * e) - function(at - h * e)) / (2 * h)
            for e in torch.eye(len(at)).double()
        ]
    )


def flat(found, player="net"):
    return torch.cat([g.flatten() for g in found.grads[player].values()])


def hessian(loss, at, data):
    return jacrev(grad(loss))(at, data)


def orders(remainder, rates=(0.04, 0.02, 0.01)):
    """By what a remainder shrinks at each halving of α: 2 for O(α), 4 for O(α²)."""
    sizes = [float(remainder(α).norm()) for α in rates]
    return [a / b for a, b in zip(sizes, sizes[1:])]


def test_7_1_fomaml_is_off_by_the_first_order_in_the_rate(problem):
    game, batch, loss, start, support, query = problem
    for steps in (1, 3):

        def error(α):
            first = meta_gradients(
                game, batch, inner_steps=steps, inner_lr=α, algorithm="fomaml"
            )
            exact = by_differences(
                lambda at: loss(walk(loss, at, support, α, steps), query), start
            )
            way = [walk(loss, start, support, α, s) for s in range(steps)]
            μ = max(
                torch.linalg.matrix_norm(hessian(loss, at, support), 2) for at in way
            )
            end = walk(loss, start, support, α, steps)
            torch.testing.assert_close(flat(first), grad(loss)(end, query))
            gap = exact - flat(first)
            assert gap.norm() <= ((1 + α * μ) ** steps - 1) * flat(first).norm()
            return gap

        ratios = orders(error, rates=(0.004, 0.002, 0.001))
        assert ratios == pytest.approx([2, 2], abs=0.15)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("member", ["pooled", "FOMAML", "Reptile", "MAML", "iMAML"])
def test_7_2_members_rest_at_weighted_means(member, steps):
    random = torch.Generator().manual_seed(steps)
    inputs = torch.randn(3, 4, 2, generator=random, dtype=torch.float64)
    c = torch.randn(3, 2, generator=random, dtype=torch.float64)
    targets = inputs @ c[..., None]
    net = nn.Linear(2, 1, bias=False).double()
    game, batch = (
        Supervised(net, "squared-error"),
        TaskBatch(inputs, inputs, targets, targets),
    )
    α, η = 0.1, 0.8

    def gradient(point):
        net.weight.data = torch.tensor([point]).double()
        if member == "iMAML":
            found = implicit_gradients(
                game, batch, strength=η, inner_steps=200, inner_lr=0.25, cg_steps=3
            )
        else:
            rule = "reptile" if member == "pooled" else member.lower()
            n = 1 if member == "pooled" else steps
            found = meta_gradients(
                game, batch, inner_steps=n, inner_lr=α, algorithm=rule
            )
        return found.grads["net"]["weight"][0]

    # The gradient is an affine function of the point, so three values give its root.
    at_zero = gradient([0.0, 0.0])
    slopes = [gradient([1.0, 0.0]) - at_zero, gradient([0.0, 1.0]) - at_zero]
    root = torch.linalg.solve(torch.stack(slopes, 1), -at_zero)

    weight = {
        "pooled": lambda μ: μ,
        "FOMAML": lambda μ: μ * (1 - α * μ) ** steps,
        "MAML": lambda μ: μ * (1 - α * μ) ** (2 * steps),
        "Reptile": lambda μ: 1 - (1 - α * μ) ** steps,
        "iMAML": lambda μ: μ / (1 + μ / η) ** 2,
    }[member]
    total, moment = 0, 0
    for x, c_i in zip(inputs, c):
        μ, axes = torch.linalg.eigh(2 * x.T @ x / len(x))
        w = axes @ torch.diag(weight(μ)) @ axes.T
        total, moment = total + w, moment + w @ c_i
    torch.testing.assert_close(root, torch.linalg.solve(total, moment))


def test_7_3_two_steps_of_reptile(problem):
    _, _, loss, start, first, second = problem
    g1, g2 = grad(loss)(start, first), grad(loss)(start, second)

    def remainder(α):
        way = (start - walk(loss, walk(loss, start, first, α), second, α)) / α
        # H₂g₁ without a Hessian: the change of the second slope along g₁.
        ε = 1e-6
        change = grad(loss)(start + ε * g1, second) - grad(loss)(start - ε * g1, second)
        return way - (g1 + g2 - α * change / (2 * ε))

    assert orders(remainder) == pytest.approx([4, 4], abs=0.3)


def test_7_4_maml_fomaml_and_reptile_share_two_ingredients(problem):
    game, _, loss, start, *batches = problem
    slopes = lambda at: [grad(loss)(at, data) for data in batches]
    g = sum(slopes(start)) / 2

    def agreement(at):
        a, b = slopes(at)
        return a @ b / 2

    u = by_differences(agreement, start)

    def mean_over_orders(rule, α):
        a, b = batches
        return (rule(α, a, b) + rule(α, b, a)) / 2

    def scored(algorithm):
        def rule(α, first, second):
            batch = TaskBatch(
                first[0][None], second[0][None], first[1][None], second[1][None]
            )
            found = meta_gradients(
                game, batch, inner_steps=1, inner_lr=α, algorithm=algorithm
            )
            return flat(found)

        return rule

    def reptile(α, first, second):
        return (start - walk(loss, walk(loss, start, first, α), second, α)) / α

    for rule, of_g, of_u in (
        (scored("maml"), 1, 2),
        (scored("fomaml"), 1, 1),
        (reptile, 2, 1),
    ):
        ratios = orders(lambda α: mean_over_orders(rule, α) - (of_g * g - α * of_u * u))
        assert ratios == pytest.approx([4, 4], abs=0.5)


def test_7_5_how_a_proximal_point_moves_with_its_initialisation():
    # L = ¼ Σ a x⁴: the point solves a x³ + η (x − θ) = 0, so θ is a function of x.
    a, η = torch.tensor([1.0, 3.0]).double(), 1.5
    x = torch.tensor([0.7, -0.4]).double()
    start = x + a * x**3 / η
    end = proximal_point(lambda at: a * at**3, start, strength=η, steps=400, lr=0.2)
    torch.testing.assert_close(end, x)
    inverse_of_the_inverse = 1 / (1 + 3 * a * x**2 / η)  # dx/dθ = 1 / (dθ/dx)

    h = 1e-5
    ends = [
        proximal_point(
            lambda at: a * at**3, start + s * h, strength=η, steps=400, lr=0.2
        )
        for s in (1, -1)
    ]
    torch.testing.assert_close(
        (ends[0] - ends[1]) / (2 * h), inverse_of_the_inverse, rtol=1e-7, atol=0
    )


def test_7_5_on_a_net(problem):
    _, _, loss, start, support, _ = problem
    field = lambda at: grad(loss)(at, support)
    reach = lambda begin: proximal_point(field, begin, strength=2.0, steps=400, lr=0.1)
    direction = torch.linspace(-1, 1, len(start)).double()
    moved = (reach(start + 1e-5 * direction) - reach(start - 1e-5 * direction)) / 2e-5
    system = torch.eye(len(start)) + hessian(loss, reach(start), support) / 2.0
    torch.testing.assert_close(
        moved, torch.linalg.solve(system, direction), rtol=1e-5, atol=1e-8
    )


def test_7_6_bound_of_conjugate_gradients(problem):
    _, _, loss, start, support, query = problem
    η = 2.0
    field = lambda at: grad(loss)(at, support)
    end = proximal_point(field, start, strength=η, steps=400, lr=0.1)
    system = torch.eye(len(start)) + hessian(loss, end, support) / η
    target = grad(loss)(end, query)
    exact = torch.linalg.solve(system, target)
    μ = torch.linalg.eigvalsh(system)
    assert μ[0] > 0
    root, size = math.sqrt(μ[-1] / μ[0]), lambda v: (v @ system @ v).sqrt()
    errors = []
    for steps in range(1, 9):
        v = conjugate_gradients(lambda v: system @ v, target, steps=steps)
        errors.append(size(v - exact))
        assert errors[-1] <= 2 * ((root - 1) / (root + 1)) ** steps * size(exact)
    assert errors[-1] < 1e-3 * size(exact)

    # And no method that sees only these products can do better in this norm.
    powers = torch.stack(
        [target, system @ target], 1
    )  # a basis of what two steps reach
    best = powers @ torch.linalg.solve(powers.T @ system @ powers, powers.T @ target)
    v = conjugate_gradients(lambda v: system @ v, target, steps=2)
    torch.testing.assert_close(v, best)


def test_7_7_the_two_blocks_of_anil(problem):
    game, batch, loss, start, support, query = problem
    α, body = 0.1, 3 * WIDTH
    found = flat(
        meta_gradients(game, batch, inner_steps=1, inner_lr={"net": {"0": 0, "2": α}})
    )

    def after(at):
        step = grad(loss)(at, support) * (torch.arange(len(at)) >= body)
        return loss(at - α * step, query)

    torch.testing.assert_close(
        found, by_differences(after, start), rtol=1e-5, atol=1e-8
    )

    step = grad(loss)(start, support) * (torch.arange(len(start)) >= body)
    g, H = grad(loss)(start - α * step, query), hessian(loss, start, support)
    head = g[body:] - α * H[body:, body:] @ g[body:]
    rest = g[:body] - α * H[:body, body:] @ g[body:]
    torch.testing.assert_close(found, torch.cat([rest, head]))


def test_7_8_the_gradient_in_the_rates(problem):
    game, batch, loss, start, support, query = problem
    torch.manual_seed(1)
    α = 0.1 * torch.rand(len(start), dtype=torch.float64) - 0.02  # some negative
    own = game.parameters()["net"]
    parts = α.split([p.numel() for p in own.values()])
    rates = {
        k: part.view(p.shape).requires_grad_()
        for (k, p), part in zip(own.items(), parts)
    }
    found = meta_gradients(game, batch, inner_steps=1, inner_lr={"net": rates})
    of_rates = torch.cat([found.rates["net"][(k,)].flatten() for k in rates])

    after = lambda α: loss(start - α * grad(loss)(start, support), query)
    torch.testing.assert_close(of_rates, by_differences(after, α), rtol=1e-5, atol=1e-9)
    g_in = grad(loss)(start, support)
    g_out = grad(loss)(start - α * g_in, query)
    torch.testing.assert_close(of_rates, -g_out * g_in)


class Point(nn.Module):
    """A generator that is one point, whatever the noise."""

    latent_dim = 1

    def __init__(self, at):
        super().__init__()
        self.at = nn.Parameter(torch.tensor([at]).double())

    def forward(self, z):
        return self.at.expand(z.shape[0], 1)


def dirac_gan(θ, φ):
    discriminator = nn.Linear(1, 1, bias=False).double()
    discriminator.weight.data.fill_(φ)
    return GAN(Point(θ), discriminator)


def test_7_9_in_a_game_the_transposed_system():
    c, η = 0.8, 0.7
    real = torch.full((1, 3, 1), c).double()
    batch = TaskBatch(real, real)
    softplus = torch.nn.functional.softplus

    def losses(x):
        θ, φ = x
        return (
            softplus(-φ * θ),  # L_G
            softplus(-φ * c) + softplus(φ * θ),  # L_D
        )

    def field(x):
        return torch.stack([jacrev(lambda x: losses(x)[i])(x)[i] for i in range(2)])

    def balance(start):  # by Newton's method
        x = start
        for _ in range(30):
            system = jacrev(field)(x) + η * torch.eye(2)
            x = x - torch.linalg.solve(system, field(x) + η * (x - start))
        return x

    start = torch.tensor([0.5, -0.3]).double()
    found = implicit_gradients(
        dirac_gan(*start.tolist()),
        batch,
        strength=η,
        inner_steps=400,
        inner_lr=0.3,
        cg_steps=2,
        objective="adversarial",
    )
    of_g = by_differences(lambda x: losses(balance(x))[0], start)
    of_d = by_differences(lambda x: losses(balance(x))[1], start)
    ours = torch.stack([found.grads["G"]["at"][0], found.grads["D"]["weight"][0, 0]])
    expected = torch.stack([of_g[0], of_d[1]])
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)

    jacobian = jacrev(field)(balance(start))
    g = jacrev(lambda x: losses(x)[0])(balance(start))
    system = torch.eye(2) + jacobian / η
    torch.testing.assert_close(
        ours[0], torch.linalg.solve(system.T, g)[0], rtol=1e-6, atol=1e-9
    )
    wrong = torch.linalg.solve(system, g)[0]
    assert (wrong - ours[0]).abs() > 0.01
