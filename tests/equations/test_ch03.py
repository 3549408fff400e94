"""The equations of chapter 3, A GAN that draws, each against an independent truth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from metagan_lite import ClassTasks, MetaDiscriminator, MetaGenerator
from metagan_lite.gan import train_gan

ACTIVATIONS = {
    "relu": lambda h: max(h, 0.0),
    "silu": lambda h: h / (1 + math.exp(-h)),
    "tanh": math.tanh,
}
SLOPES = {
    "relu": lambda h: float(h > 0),
    "silu": lambda h: (1 + h * (1 - _sigmoid(h))) * _sigmoid(h),
    "tanh": lambda h: 1 - math.tanh(h) ** 2,
}


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def gaussian_mean(f: Callable[[float], float]) -> float:
    """E[f(ε)] over a standard normal ε, by adaptive integration on both sides of 0."""
    density = lambda eps: f(eps) * math.exp(-eps * eps / 2) / math.sqrt(2 * math.pi)
    halves = [quad(density, *ends, epsabs=1e-13)[0] for ends in ((-12, 0), (0, 12))]
    return sum(halves)


def test_3_1_share_of_a_gaussian_spot_is_its_integral_over_the_disc():
    step = 0.004
    ticks = torch.arange(-4, 4, step, dtype=torch.float64) + step / 2
    squared = ticks[:, None] ** 2 + ticks**2
    mass = torch.exp(-squared / 2) / (2 * math.pi) * step**2
    for reach in (0.5, 1.0, 2.0, 3.0):
        inside = mass[squared <= reach**2].sum().item()
        assert inside == pytest.approx(1 - math.exp(-(reach**2) / 2), abs=2e-4)


def test_3_2_expected_hits_are_those_of_all_sequences_of_samples():
    def hits(shares: list[Fraction], n: int) -> Fraction:
        return sum(1 - (1 - share) ** n for share in shares)

    shares = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)]
    for n in (1, 2, 5):
        listed = Fraction(0)
        for sequence in itertools.product(range(3), repeat=n):
            listed += len(set(sequence)) * math.prod(shares[j] for j in sequence)
        assert hits(shares, n) == listed
        bound = 3 * (1 - (1 - Fraction(1, 3)) ** n)
        assert hits([Fraction(1, 3)] * 3, n) == bound
        assert listed < bound or n == 1


def test_3_3_waiting_time_for_all_modes_is_the_sum_of_its_tail():
    def still_waiting(M: int, n: int) -> Fraction:  # inclusion and exclusion
        missing = range(1, M + 1)
        return sum(
            (-1) ** (j + 1) * math.comb(M, j) * Fraction(M - j, M) ** n for j in missing
        )

    for M in (2, 5, 8):
        tail = sum(
            float(still_waiting(M, n)) for n in range(200)
        )  # the mean is Σ Pr(more than n)
        assert tail == pytest.approx(M * sum(1 / j for j in range(1, M + 1)), abs=1e-6)


def test_3_4_variance_of_a_layer_over_all_its_weights():
    a = torch.tensor([0.3, -1.2, 0.0, 2.0, 0.7, -0.4, 1.1, 0.5], dtype=torch.float64)
    values = torch.tensor([-2.0, 0.5, 1.5], dtype=torch.float64)  # of mean zero
    weights = values[torch.cartesian_prod(*[torch.arange(3)] * len(a))]  # all of them
    found = (weights @ a).square().mean()
    expected = len(a) * values.square().mean() * a.square().mean()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    # The library's scale makes this gain² times the mean square, with gain 1.4.
    net = MetaDiscriminator((8,), hidden=(200_000,), generator=random(0)).double()
    found = net[1](a[None]).square().mean().item()
    assert found == pytest.approx(1.4**2 * a.square().mean().item(), rel=0.02)


def passes(name: str, gain: float) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of four layers of a wide net, and gradients with respect to each.

    [nets, inputs, width]: twelve nets, since one of finite width has its own luck.
    """
    act = {"relu": torch.relu, "silu": nn.functional.silu, "tanh": torch.tanh}[name]
    normal = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)
    rng, width = random(1), 800
    outputs = [(gain * normal(12, 4, width)).requires_grad_()]
    for _ in range(3):
        weight = gain / width**0.5 * normal(12, width, width)
        outputs.append(act(outputs[-1]) @ weight)
    towards = normal(12, 4, width)
    return outputs, list(torch.autograd.grad((outputs[-1] * towards).sum(), outputs))


NETS = [("relu", 1.2), ("silu", 1.4), ("silu", 2.2), ("tanh", 1.5)]


@pytest.mark.parametrize(("name", "gain"), NETS)
def test_3_5_variances_forward_are_those_of_a_wide_net(name: str, gain: float):
    found = [h.square().mean().item() for h in passes(name, gain)[0]]
    nu, predicted = gain**2, []
    for _ in found:
        predicted.append(nu)
        nu = gain**2 * gaussian_mean(lambda eps: ACTIVATIONS[name](nu**0.5 * eps) ** 2)
    assert found == pytest.approx(predicted, rel=0.08)


@pytest.mark.parametrize(("name", "gain"), NETS)
def test_3_7_gradients_backward_are_those_of_a_wide_net(name: str, gain: float):
    outputs, deltas = passes(name, gain)
    for h, below, above in zip(outputs, deltas, deltas[1:]):
        nu = h.square().mean().item()
        factor = gain**2 * gaussian_mean(lambda eps: SLOPES[name](nu**0.5 * eps) ** 2)
        ratio = below.square().mean() / above.square().mean()
        assert ratio.item() == pytest.approx(factor, rel=0.08)


def test_3_6_growth_of_silu_rises_from_a_quarter_to_a_half():
    def bracket(nu: float) -> float:
        def weighted(eps: float) -> float:
            sigma = _sigmoid(nu**0.5 * eps)
            return eps * eps * sigma * (1 - sigma)

        return 0.5 - gaussian_mean(weighted)

    scales = (1e-4, 1e-2, 0.3, 1.0, 3.0, 30.0, 3000.0)
    for nu in scales:
        square = gaussian_mean(lambda eps: ACTIVATIONS["silu"](nu**0.5 * eps) ** 2)
        assert bracket(nu) == pytest.approx(square / nu, rel=1e-8)
    values = [bracket(nu) for nu in scales]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0.25, abs=1e-4)
    assert values[-1] == pytest.approx(0.5, abs=1e-4)


def test_3_8_variance_on_the_line_and_on_the_arc():
    # Every pair of two numbers that are +1 or -1: independent, mean 0, variance 1.
    z0, z1 = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 2).T
    for t in (0.0, 0.2, 0.5, 0.9):
        line, turn = (1 - t) * z0 + t * z1, math.pi * t / 2
        arc = math.cos(turn) * z0 + math.sin(turn) * z1
        assert line.var(correction=0).item() == pytest.approx((1 - t) ** 2 + t**2)
        assert arc.var(correction=0).item() == pytest.approx(1.0)


def test_3_9_weights_in_an_exponential_mean():
    decay, values = Fraction(9, 10), [Fraction(v) for v in (5, -3, 2, 7, 11, -4)]
    mean = values[0]  # the initialisation
    for value in values[1:]:
        mean = decay * mean + (1 - decay) * value
    t = len(values) - 1
    closed = decay**t * values[0] + (1 - decay) * sum(
        decay ** (t - j) * values[j] for j in range(1, t + 1)
    )
    assert mean == closed


def test_3_10_weights_in_the_mean_that_train_gan_keeps():
    seen: list[Tensor] = []

    def remember(step: int, game: object, mean: object) -> None:
        seen.append(game.players["G"][0].weight.detach().clone())

    points = torch.randn(200, 2, generator=random(0), dtype=torch.float64)
    nets = (
        MetaGenerator((2,), latent_dim=2, hidden=4, generator=random(1)).double(),
        MetaDiscriminator((2,), hidden=4, generator=random(2)).double(),
    )
    tasks = ClassTasks(points, torch.zeros(200, dtype=torch.long))
    options = {"steps": 30, "lr": 0.05, "ema": 0.99, "progress": False}
    end = train_gan(*nets, tasks, callback=remember, **options)
    shares = [
        math.comb(j + 8, 9) / math.comb(30 + 9, 10) for j in range(1, len(seen) + 1)
    ]
    closed = sum(share * weight for share, weight in zip(shares, seen))
    torch.testing.assert_close(
        end.players["G"][0].weight.data, closed, rtol=1e-10, atol=1e-12
    )
    for t in (1, 7, 400):
        weights = [
            Fraction(math.comb(j + 8, 9), math.comb(t + 9, 10)) for j in range(1, t + 1)
        ]
        assert sum(weights) == 1
        ages = (w * (t - j) for j, w in enumerate(weights, start=1))
        assert sum(ages) == Fraction(t - 1, 11)


def test_3_11_radius_of_the_mean_of_a_circle():
    for decay, angle in ((0.9, 0.05), (0.9, 1.0), (0.99, 0.1), (0.5, math.pi)):
        mean = complex(3, -2)  # whatever it starts from
        for t in range(1, 5000):
            here = complex(math.cos(angle * t), math.sin(angle * t))
            mean = decay * mean + (1 - decay) * here
        turn = complex(math.cos(angle), -math.sin(angle))
        radius = (1 - decay) / abs(1 - decay * turn)
        assert abs(mean) == pytest.approx(radius, rel=1e-9)
