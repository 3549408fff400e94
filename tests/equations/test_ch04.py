"""Chapter 4's numbered equations against enumeration, other libraries, and algebra.

Most of them are expectations. Where a distribution takes a few values, or where only
the labels "real" and "generated" are random, the expectation is a finite sum over all
outcomes, and nothing is left to chance.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metagan_lite import metrics
from metagan_lite.losses import unbiased_mmd2

NOTEBOOK = (
    Path(__file__).resolve().parents[2] / "notebooks" / "04_measuring_a_generator.ipynb"
)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(*shape: int, rng: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def chances(n: int, rng: torch.Generator) -> Tensor:
    return torch.rand(n, generator=rng, dtype=torch.float64).softmax(0)


def expectation(estimate: Callable, p: Tensor, q: Tensor, m: int, n: int) -> Tensor:
    """Mean of estimate(i, j) over all samples: i of p, m times, and j of q, n times."""
    total = torch.zeros((), dtype=torch.float64)
    for i in itertools.product(range(len(p)), repeat=m):
        for j in itertools.product(range(len(q)), repeat=n):
            total += p[list(i)].prod() * q[list(j)].prod() * estimate(list(i), list(j))
    return total


def labellings(points: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """m of the points, and the others, in all ways: [ways, m, d] and [ways, n, d]."""
    every = set(range(len(points)))
    chosen = list(itertools.combinations(sorted(every), m))
    others = [sorted(every - set(i)) for i in chosen]
    return points[torch.tensor(chosen)], points[torch.tensor(others)]


@pytest.fixture(scope="module")
def fid() -> Callable[[Tensor, Tensor], Tensor]:
    """FID as the chapter defines it; the library has none."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    [code] = ["".join(c["source"]) for c in cells if "def fid(" in "".join(c["source"])]
    names = {"torch": torch}
    exec(code, names)
    return names["fid"]


def test_4_1_mmd2_is_the_distance_of_mean_features(rng):
    """(a·b)³ = ⟨a ⊗ a ⊗ a, b ⊗ b ⊗ b⟩, with a = (u/√F, 1)."""
    u, v = normal(3, 2, rng=rng), normal(2, 2, rng=rng)
    p, q = chances(3, rng), chances(2, rng)

    def mean(points, weights):
        a = torch.cat([points / 2**0.5, torch.ones(len(points), 1)], 1)
        return torch.einsum("n,ni,nj,nk->ijk", weights, a, a, a)

    expected = (mean(u, p) - mean(v, q)).square().sum()
    found = expectation(
        lambda i, j: metrics.polynomial_mmd2(u[i], v[j]), p, q, m=2, n=2
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert expected > 0.1


def test_4_2_the_estimate_is_unbiased(rng):
    """With any kernel, here one that is no dot product of anything."""
    p, q = chances(2, rng), chances(3, rng)
    k_uu, k_vv, k_uv = (normal(*s, rng=rng) for s in ((2, 2), (3, 3), (2, 3)))
    truth = p @ k_uu @ p + q @ k_vv @ q - 2 * p @ k_uv @ q

    def estimate(i, j):
        return unbiased_mmd2(k_uu[i][:, i], k_vv[j][:, j], k_uv[i][:, j])

    for m, n in ((2, 2), (4, 3)):
        found = expectation(estimate, p, q, m, n)
        assert found.item() == pytest.approx(truth.item(), rel=1e-12)


def test_4_3_the_bias_of_all_pairs(rng):
    """All pairs exceed the library's estimate by the equation's bias, on average."""
    u, v = normal(3, 2, rng=rng), normal(2, 2, rng=rng)
    p, q, m, n = chances(3, rng), chances(2, rng), 2, 4
    k = lambda a, b: (float(a @ b) / 2 + 1) ** 3

    def gap(i, j):
        pairs = lambda x, y: np.mean([k(a, b) for a in x for b in y])
        all_pairs = pairs(u[i], u[i]) + pairs(v[j], v[j]) - 2 * pairs(u[i], v[j])
        return all_pairs - metrics.polynomial_mmd2(u[i], v[j])

    def excess(points, chance):  # E[κ(u, u)] − E[κ(u, u′)]
        alike = sum(c * k(a, a) for a, c in zip(points, chance))
        both = itertools.product(zip(points, chance), repeat=2)
        return alike - sum(c * d * k(a, b) for (a, c), (b, d) in both)

    expected = excess(u, p) / m + excess(v, q) / n
    assert expectation(gap, p, q, m, n).item() == pytest.approx(expected.item())
    assert expected > 0.1


def test_4_4_the_cubic_kernel_compares_three_moments(rng):
    u, v = normal(3, 1, rng=rng), normal(3, 1, rng=rng)
    p, q = chances(3, rng), chances(3, rng)
    found = expectation(
        lambda i, j: metrics.polynomial_mmd2(u[i], v[j]), p, q, m=2, n=2
    )
    moments = [(p @ u**j - q @ v**j).item() for j in (1, 2, 3)]
    expected = sum(c * gap**2 for c, gap in zip((3, 3, 1), moments))
    assert found.item() == pytest.approx(expected, rel=1e-12)
    # A coin against the three points of Gauss-Hermite quadrature, whose moments up to
    # the fifth are those of a normal variable.
    points, weights = np.polynomial.hermite_e.hermegauss(3)
    u, p = torch.from_numpy(points)[:, None], torch.from_numpy(weights / weights.sum())
    coin, fair = torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([0.5, 0.5])
    for degree, expected in ((3, 0.0), (4, (3.0 - 1.0) ** 2)):
        found = expectation(
            lambda i, j: metrics.polynomial_mmd2(u[i], coin[j], degree),
            *(p, fair.double(), 2, 2),
        )
        assert found.item() == pytest.approx(expected, abs=1e-12)


def test_4_5_fid_is_the_cost_of_the_best_pairing(rng, fid):
    """Torchmetrics, the optimal map, and the closed form without correlations."""
    u = normal(40, 4, rng=rng) @ normal(4, 4, rng=rng)
    v = normal(50, 4, rng=rng) @ normal(4, 4, rng=rng) + 1
    found = fid(u, v).item()
    mean = [x.mean(0).numpy() for x in (u, v)]
    cov = [np.cov(x.T.numpy()) for x in (u, v)]
    # x → A x carries one Gaussian to the other; A is symmetric and positive, so it is
    # the gradient of a convex function, and by Brenier no map is cheaper.
    power = lambda c, t: (lambda e, w: (w * e**t) @ w.T)(*np.linalg.eigh(c))
    half, inverse = power(cov[0], 0.5), power(cov[0], -0.5)
    best = inverse @ power(half @ cov[1] @ half, 0.5) @ inverse
    assert np.allclose(best @ cov[0] @ best, cov[1])
    assert np.linalg.eigvalsh(best).min() > 0
    way = np.eye(4) - best  # E‖u − Au‖² of a centred u
    cost = np.trace(way @ cov[0] @ way) + ((mean[0] - mean[1]) ** 2).sum()
    assert found == pytest.approx(cost, rel=1e-9)

    image = pytest.importorskip("torchmetrics.image.fid", reason="needs torchmetrics")
    both = [torch.from_numpy(x[i]) for i in (0, 1) for x in (mean, cov)]
    assert found == pytest.approx(image._compute_fid(*both).item(), rel=1e-6)


@pytest.mark.parametrize(("features", "n"), [(3, 200), (8, 400)])
def test_4_6_the_bias_of_fid_falls_like_one_over_n(rng, fid, features, n):
    repeats = 1200 // features
    u, v = normal(2, repeats, n, features, rng=rng)
    mean, error = metrics.mean_and_error(fid(u, v))
    expected = 2 * features / n + features * (features + 1) / (2 * (n - 1))
    assert abs(mean - expected) < 4 * error + 0.01 * expected
    assert error < 0.03 * expected
    # KID of the same samples: none.
    mean, error = metrics.kid(u, v)
    assert abs(mean) < 4 * error


@pytest.mark.parametrize(("m", "n", "k"), [(5, 4, 2), (6, 2, 3), (4, 5, 1)])
def test_4_7_density_of_real_points_is_one(rng, m, n, k):
    real, fake = labellings(normal(m + n, 3, rng=rng).exp(), m)
    density, _ = metrics.density_coverage(real, fake, k)
    assert len(density) == math.comb(m + n, m)
    assert density.mean().item() == pytest.approx(1, rel=1e-12)
    assert density.std() > 0.1


@pytest.mark.parametrize(("m", "n", "k"), [(5, 4, 2), (6, 2, 3), (5, 5, 3)])
def test_4_8_coverage_of_real_points(rng, m, n, k):
    real, fake = labellings(normal(m + n, 3, rng=rng).exp(), m)
    _, coverage = metrics.density_coverage(real, fake, k)
    missed = math.prod((m - i) / (m + n - i) for i in range(1, k + 1))
    assert coverage.mean().item() == pytest.approx(1 - missed, rel=1e-12)
    # The same from orders of distance: the k nearest of m − 1 + n are all real.
    assert missed == pytest.approx(math.comb(m - 1, k) / math.comb(m - 1 + n, k))


@pytest.mark.parametrize(("K", "Q"), [(3, 3), (2, 4), (4, 1)])
def test_4_9_the_nearest_image_is_in_the_support_with_chance_k_over_k_plus_q(rng, K, Q):
    points = normal(1 + K + Q, 2, rng=rng)
    orders = torch.tensor(list(itertools.permutations(range(1 + K + Q))))
    new, support, query = points[orders].split([1, K, Q], dim=1)
    nearest = lambda others: (others - new).norm(dim=-1).amin(-1)
    share = (nearest(support) < nearest(query)).double().mean()
    assert share.item() == pytest.approx(K / (K + Q), rel=1e-12)
    # Cut to equal sets, exchanging them inverts the library's ratio: log ratios cancel.
    ratio = metrics.memorisation_ratio(new, support, query)
    assert ratio.log().mean().item() == pytest.approx(0, abs=1e-12)
    uncut = (nearest(support) / nearest(query)).log().mean().item()
    assert (abs(uncut) < 1e-12) == (K == Q)


def test_4_10_variance_of_a_mean_over_tasks(rng):
    """Against the whole covariance matrix of the T·n scores."""
    tasks, n, between, within = 6, 4, 0.7, 1.9
    task = torch.arange(tasks).repeat_interleave(n)
    matrix = between**2 * (task[:, None] == task).double()
    matrix += within**2 * torch.eye(tasks * n, dtype=torch.float64)
    variance = matrix.sum().item() / (tasks * n) ** 2
    expected = between**2 / tasks + within**2 / (tasks * n)
    assert variance == pytest.approx(expected, rel=1e-12)
    # The library's error estimates it from the means of tasks.
    draws = normal(3000, tasks * n, rng=rng) @ torch.linalg.cholesky(matrix).mT
    means = draws.unflatten(1, (tasks, n)).mean(2)
    squares = torch.tensor([metrics.mean_and_error(x)[1] ** 2 for x in means])
    assert squares.mean().item() == pytest.approx(expected, rel=0.05)


def test_4_11_variance_of_a_resampled_mean(rng):
    values = normal(5, rng=rng)
    all_of_them = torch.stack(
        [values[list(i)].mean() for i in itertools.product(range(5), repeat=5)]
    )
    listed = all_of_them.var(correction=0).item()
    assert listed == pytest.approx(4 / 5 * values.var().item() / 5, rel=1e-12)
    # The library's interval is that of these means.
    for level in (0.5, 0.9):
        found = metrics.bootstrap_interval(values, level, 40_000, rng)
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2]).double()
        assert found == pytest.approx(all_of_them.quantile(tails).tolist(), abs=0.03)
