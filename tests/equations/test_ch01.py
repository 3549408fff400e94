"""Chapter 1: every numbered equation against quadrature, search or finite differences.

The data are N(0, 1). A generator draws N(a, w²).
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from scipy import integrate, optimize
from scipy.spatial.distance import jensenshannon

from metagan_lite.losses import discriminator_loss, generator_loss, value_function

THETAS = [(2.0, 0.6), (-1.0, 1.5), (0.3, 0.9)]
# How often each of five values of x occurs among real and among generated samples.
REAL_COUNTS, FAKE_COUNTS = (1, 4, 10, 7, 3), (6, 2, 5, 1, 9)
LOG_SQRT_2PI = math.log(math.sqrt(2 * math.pi))


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


def samples_of(table, counts):
    """The logit of each sample, for a discriminator given as a table of five logits."""
    return table.repeat_interleave(torch.tensor(counts))


def value_of_table(table):
    real, fake = samples_of(table, REAL_COUNTS), samples_of(table, FAKE_COUNTS)
    return value_function(real, fake)


def shares():
    p, q = np.array(REAL_COUNTS, float), np.array(FAKE_COUNTS, float)
    return p / p.sum(), q / q.sum()


def log_p(x):
    return -x * x / 2 - LOG_SQRT_2PI


def log_q(x, a, w):
    return -(((x - a) / w) ** 2) / 2 - math.log(w) - LOG_SQRT_2PI


def integral(function):
    """∫ function(x) dx by adaptive quadrature."""
    edges = (-12.0, -2.0, 0.0, 2.0, 14.0)
    parts = [
        integrate.quad(function, a, b, epsabs=1e-13, epsrel=1e-13, limit=200)[0]
        for a, b in zip(edges, edges[1:])
    ]
    return sum(parts)


def jsd(a, w):
    def density(x):
        p, q = math.exp(log_p(x)), math.exp(log_q(x, a, w))
        log_m = math.log((p + q) / 2)
        return (p * (log_p(x) - log_m) + q * (log_q(x, a, w) - log_m)) / 2

    return integral(density)


def kl_closed(a, w):
    """KL(N(a, w²) ‖ N(0, 1))."""
    return (a**2 + w**2 - 1) / 2 - math.log(w)


def central_difference(function, theta, h=1e-3):
    """Gradient of order h⁴ by five-point differences, without autograd."""
    slopes = []
    for i in range(2):

        def at(shift):
            moved = list(theta)
            moved[i] += shift
            return function(*moved)

        slopes.append((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))
    return float64(slopes)


def generator_gradient(kind, theta):
    """By autograd through the library's loss at D* held fixed, z on Gauss's nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    z, weights = float64(nodes), float64(weights / weights.sum())
    theta = float64(theta).requires_grad_()
    a, w = theta.detach()
    x = theta[0] + theta[1] * z
    logits = -(x**2) / 2 + ((x - a) / w) ** 2 / 2 + torch.log(w)
    # With one sample in the last dimension, the loss is a loss of each z.
    loss = weights @ generator_loss(logits.unsqueeze(-1), kind)
    return torch.autograd.grad(loss, theta)[0]


def test_1_1_search_finds_the_share_of_the_real_density():
    def negative(table):
        table = float64(table).requires_grad_()
        loss = -value_of_table(table)
        return loss.item(), torch.autograd.grad(loss, table)[0].numpy()

    found = optimize.minimize(negative, np.zeros(5), jac=True, tol=1e-14)
    p, q = shares()
    torch.testing.assert_close(
        float64(found.x).sigmoid(), float64(p / (p + q)), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        float64(found.x), float64(np.log(p) - np.log(q)), rtol=0, atol=1e-5
    )


def test_1_2_the_value_at_the_optimum_is_scipys_jsd():
    p, q = shares()
    best = value_of_table(float64(np.log(p / q)))
    distance = jensenshannon(p, q)  # its square is the divergence, in nats
    expected = 2 * distance**2 - math.log(4)
    assert best.item() == pytest.approx(expected, abs=1e-12)
    assert -math.log(4) + 0.1 < expected < -0.1


@pytest.mark.parametrize("theta", THETAS)
def test_1_3_the_saturating_gradient_is_that_of_twice_the_jsd(theta):
    expected = central_difference(lambda *t: 2 * jsd(*t), theta)
    got = generator_gradient("saturating", theta)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-8)
    assert expected.abs().max() > 0.05


@pytest.mark.parametrize("kind", ["saturating", "non-saturating"])
def test_1_4_slopes_in_the_logit(kind):
    for d in (-6.0, -1.3, 0.0, 0.7, 5.0):
        D = 1 / (1 + math.exp(-d))
        h = 1e-4
        low, high = (
            generator_loss(float64([d + shift]), kind).item() for shift in (-h, h)
        )
        expected = -D if kind == "saturating" else -(1 - D)
        assert (high - low) / (2 * h) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("theta", THETAS)
def test_1_5_the_non_saturating_gradient_is_that_of_kl_minus_twice_the_jsd(theta):
    expected = central_difference(lambda *t: kl_closed(*t) - 2 * jsd(*t), theta)
    got = generator_gradient("non-saturating", theta)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-8)
    assert expected.abs().max() > 0.05


@pytest.mark.parametrize("theta", THETAS)
def test_1_6_the_difference_is_twice_a_divergence_from_the_mixture(theta):
    def density(x):
        p, q = math.exp(log_p(x)), math.exp(log_q(x, *theta))
        return (p + q) * (math.log((p + q) / 2) - log_p(x))  # 2 m log(m / p)

    expected = integral(density)
    got = kl_closed(*theta) - 2 * jsd(*theta)
    assert got == pytest.approx(expected, abs=1e-10) and got > 1e-4


@pytest.mark.parametrize("d", [-80.0, -17.5, -2.0, 0.3, 16.6, 40.0, 100.0])
def test_1_7_losses_of_logits_in_float32_have_the_digits_of_exact_arithmetic(d):
    with localcontext() as context:
        context.prec = 100
        D = 1 / (1 + (-Decimal(d)).exp())
        expected = {"real": -D.ln(), "fake": -(1 - D).ln()}
    of_d = torch.tensor([d], dtype=torch.float32)
    sure = torch.tensor([1e4], dtype=torch.float32)
    got = {
        "real": discriminator_loss(of_d, -sure).item(),
        "fake": discriminator_loss(sure, of_d).item(),
    }
    for kind, value in got.items():
        assert value == pytest.approx(float(expected[kind]), rel=1e-6, abs=1e-30)
    assert got["fake"] == -generator_loss(of_d, "saturating").item()
    assert got["real"] == generator_loss(of_d, "non-saturating").item()
