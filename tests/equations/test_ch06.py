"""The numbered equations of chapter 6, against answers found another way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, jacrev, jvp

from metagan_lite import SineTasks, Supervised, TaskBatch, adapt, meta_gradients

F64 = torch.float64
ALPHA = 0.1


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=random(seed), dtype=F64)


# PyTorch's own jvp uses torch.jit.script, which warns that it will go.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_6_1_hessian_vector_products():
    # L = Σ aₖθₖ⁴ + (b·θ)³ has the Hessian 12 diag(aθ²) + 6 (b·θ) b bᵀ.
    a, b, theta, v = (normal(7, seed=s) for s in range(4))

    def loss(at: Tensor) -> Tensor:
        return (a * at**4).sum() + (b @ at) ** 3

    hessian = torch.diag(12 * a * theta**2) + 6 * (b @ theta) * torch.outer(b, b)
    forward = jvp(grad(loss), (theta,), (v,))[1]
    backward = grad(lambda at: grad(loss)(at) @ v)(theta)
    torch.testing.assert_close(forward, hessian @ v)
    torch.testing.assert_close(backward, hessian @ v)


def mean_wave(x: Tensor, amplitude: float) -> Tensor:
    return -2 * amplitude / math.pi * x.cos()


def midpoints(low: float, high: float, count: int = 2000) -> Tensor:
    return low + (high - low) * (torch.arange(count, dtype=F64) + 0.5) / count


def test_6_2_mean_of_the_sines_that_the_library_draws():
    tasks = SineTasks()
    (low, high), phases = tasks.amplitude, midpoints(*tasks.phase)
    x = torch.linspace(-5, 5, 21, dtype=F64)
    by_quadrature = (low + high) / 2 * (x - phases[:, None]).sin().mean(0)
    torch.testing.assert_close(
        by_quadrature, mean_wave(x, (low + high) / 2), rtol=0, atol=1e-6
    )
    batch = tasks.sample(100_000, shots=1, query_shots=1, generator=random(0))
    x, y = batch.query.flatten().double(), batch.query_targets.flatten().double()
    rest = y - mean_wave(x, (low + high) / 2)
    for wave in (x.cos(), x.sin(), torch.ones_like(x)):
        error = (rest * wave).std() / math.sqrt(len(x))
        assert abs((rest * wave).mean()) < 4 * error


def test_6_3_what_the_mean_wave_leaves():
    tasks = SineTasks()
    (low, high), phases = tasks.amplitude, midpoints(*tasks.phase)
    amplitudes, x = midpoints(low, high), midpoints(*tasks.x)
    mean = amplitudes.mean()
    formula = (high**3 - low**3) / (3 * (high - low)) / 2 - 4 * mean**2 / math.pi**2 * (
        1 / 2 + math.sin(10) / 20
    )
    # E[A² sin²] − E[A sin]², each mean over A, ζ and x by quadrature.
    waves = (x - phases[:, None]).sin()
    second = amplitudes.square().mean() * waves.square().mean()
    first = (mean * waves.mean(0)).square().mean()
    torch.testing.assert_close(second - first, formula, rtol=1e-5, atol=0)
    batch = tasks.sample(100_000, shots=1, query_shots=1, generator=random(1))
    rest = (batch.query_targets - mean_wave(batch.query, float(mean))).square()
    assert abs(rest.mean() - formula) < 4 * rest.std() / math.sqrt(len(batch))


def curved_problem() -> tuple[Supervised, TaskBatch]:
    """A tanh net and one task, in float64."""
    net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    for i, parameter in enumerate(net.parameters()):
        parameter.data = normal(*parameter.shape, seed=i)
    x, xq = normal(1, 6, 1, seed=10), normal(1, 8, 1, seed=11)
    batch = TaskBatch(x, xq, 2 * (x - 1).sin(), 2 * (xq - 1).sin())
    return Supervised(net, "squared-error"), batch


def as_functions(game: Supervised, batch: TaskBatch):
    """The start as a vector; both losses, written out by hand, as functions of it."""
    start = torch.cat([p.detach().flatten() for p in game.players["net"].parameters()])

    def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        w1, b1, w2, b2 = theta.split([5, 5, 5, 1])
        outputs = (x * w1 + b1).tanh() @ w2 + b2
        return (outputs - y[:, 0]).square().mean()

    support = batch.support[0], batch.support_targets[0]
    query = batch.query[0], batch.query_targets[0]
    return (
        start,
        lambda theta: loss(theta, *support),
        lambda theta: loss(theta, *query),
    )


def differences(function, theta: Tensor, h: float = 1e-5) -> Tensor:
    """The Jacobian by central differences, derivatives along the last dimension."""
    rows = torch.eye(len(theta), dtype=F64) * h
    ends = [(function(theta + r) - function(theta - r)) / (2 * h) for r in rows]
    return torch.stack(ends, -1)


def descend(loss, theta: Tensor, steps: int) -> list[Tensor]:
    """θ₀, …, θ_S; slopes by autograd of a fresh leaf, so nothing is recorded."""
    points = [theta]
    for _ in range(steps):
        leaf = points[-1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf), leaf)
        points.append((leaf - ALPHA * slope).detach())
    return points


def slope_of(loss, theta: Tensor) -> Tensor:
    leaf = theta.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def library(game: Supervised, batch: TaskBatch, steps: int) -> Tensor:
    """The meta-gradient by the readable path and by the fast one, which agree."""
    options = {"inner_steps": steps, "inner_lr": ALPHA, "objective": "query-loss"}
    readable, fast = (
        torch.cat(
            [
                slope.flatten()
                for slope in meta_gradients(game, batch, **options, path=path)
                .grads["net"]
                .values()
            ]
        )
        for path in ("loop", "auto")
    )
    torch.testing.assert_close(readable, fast)
    return readable


def test_6_4_one_step_meta_gradient():
    game, batch = curved_problem()
    theta, support, query = as_functions(game, batch)
    hessian = differences(lambda at: slope_of(support, at), theta)
    g = slope_of(query, descend(support, theta, 1)[-1])
    formula = (torch.eye(len(theta), dtype=F64) - ALPHA * hessian) @ g
    outcome = differences(lambda at: query(descend(support, at, 1)[-1]), theta)
    torch.testing.assert_close(formula, outcome, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(library(game, batch, 1), outcome, rtol=1e-5, atol=1e-7)
    assert (g - outcome).norm() > 0.1 * outcome.norm()  # the factor matters


def test_6_5_many_steps_multiply_the_last_first():
    game, batch = curved_problem()
    theta, support, query = as_functions(game, batch)
    *points, end = descend(support, theta, 3)
    factors = [
        torch.eye(len(theta), dtype=F64)
        - ALPHA * differences(lambda at: slope_of(support, at), point)
        for point in points
    ]
    g = slope_of(query, end)
    outcome = differences(lambda at: query(descend(support, at, 3)[-1]), theta)
    formula = factors[0] @ factors[1] @ factors[2] @ g
    torch.testing.assert_close(formula, outcome, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(library(game, batch, 3), outcome, rtol=1e-5, atol=1e-7)
    turned = factors[2] @ factors[1] @ factors[0] @ g
    assert (turned - outcome).norm() > 1e-3 * outcome.norm()


def quadratic_tasks(count: int = 3, d: int = 2):
    """Linear regressions without noise: ½(w − c)ᵀ H (w − c) with H = 2XᵀX/n."""
    x, optima = normal(count, 6, d, seed=20), normal(count, d, seed=21)
    y = x @ optima.unsqueeze(-1)
    hessians = 2 * x.mT @ x / x.shape[1]
    net = nn.Linear(d, 1, bias=False).double()
    net.weight.data = normal(1, d, seed=22)
    batch = TaskBatch(x, x, y, y)  # support and query have one loss
    return Supervised(net, "squared-error"), batch, hessians, optima


def factor(hessians: Tensor, steps: int) -> Tensor:
    one = torch.eye(hessians.shape[-1], dtype=F64) - ALPHA * hessians
    return torch.linalg.matrix_power(one, steps)


@pytest.mark.parametrize("steps", [1, 4])
def test_6_6_the_error_after_steps_on_a_quadratic(steps):
    game, batch, hessians, optima = quadratic_tasks()
    adapted = adapt(
        game, game.support(batch), inner_steps=steps, inner_lr=ALPHA, path="loop"
    )
    ends = adapted.parameters()["net"]["weight"][:, 0]
    start = game.players["net"].weight[0]
    left = (factor(hessians, steps) @ (start - optima).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(ends - optima, left)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_6_7_the_start_that_maml_learns_for_quadratics(steps):
    game, batch, hessians, optima = quadratic_tasks()
    keep = factor(hessians, steps)
    weights = keep @ hessians @ keep
    target = (weights @ optima.unsqueeze(-1)).sum(0)
    formula = torch.linalg.solve(weights.sum(0), target)[:, 0]

    def outer(start: Tensor) -> Tensor:
        total = 0
        for hessian, optimum in zip(hessians, optima):
            end = start
            for _ in range(steps):
                end = end - ALPHA * hessian @ (end - optimum)
            total = total + (end - optimum) @ hessian @ (end - optimum)
        return total

    # Brute force: Newton's method on the loss after explicit steps.
    start = normal(2, seed=23)
    for _ in range(2):
        curvature = jacrev(grad(outer))(start)
        start = start - torch.linalg.solve(curvature, grad(outer)(start))
    torch.testing.assert_close(formula, start)
    assert (formula - optima.mean(0)).norm() > 0.05  # not the mean of the optima
    # There, and only there, the library's meta-gradient vanishes.
    assert library(game, batch, steps).norm() > 1e-2
    game.players["net"].weight.data = formula[None]
    assert library(game, batch, steps).norm() < 1e-12


def test_6_7_equal_hessians_give_the_mean_of_the_optima():
    _, _, hessians, optima = quadratic_tasks()
    keep = factor(hessians[:1].expand(3, -1, -1), 2)
    weights = keep @ hessians[:1] @ keep
    target = (weights @ optima.unsqueeze(-1)).sum(0)
    formula = torch.linalg.solve(weights.sum(0), target)[:, 0]
    torch.testing.assert_close(formula, optima.mean(0))


@pytest.mark.parametrize("product", [0.5, 1.5, 2.5])
def test_6_8_the_component_along_an_eigenvector(product):
    steps = 3
    game, batch, hessians, optima = quadratic_tasks(count=1)
    values, vectors = torch.linalg.eigh(hessians[0])
    mu, v = values[1], vectors[:, 1]
    rate = float(product / mu)
    start = game.players["net"].weight.detach()[0].clone()
    found = meta_gradients(
        game, batch, inner_steps=steps, inner_lr=rate, objective="query-loss"
    )
    ours = v @ found.grads["net"]["weight"][0]
    adapted = adapt(game, game.support(batch), inner_steps=steps, inner_lr=rate)
    end = adapted.parameters()["net"]["weight"][0, 0]
    g = v @ (hessians[0] @ (end - optima[0]))
    torch.testing.assert_close(ours, (1 - product) ** steps * g)
    along = v @ (start - optima[0])
    torch.testing.assert_close(ours, mu * (1 - product) ** (2 * steps) * along)
    assert (g * along > 0) == (product < 1)  # first order goes uphill past one
