"""The numbered equations of chapter 12, against answers found another way."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from metagan_lite import TaskBatch, metrics
from metagan_lite.evaluate import Row, Scorecard

F64 = torch.float64


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=random(seed), dtype=F64)


# --- a paired difference --------------------------------------------------------


def two_methods(tasks: int = 40) -> tuple[Tensor, Tensor]:
    hard = normal(tasks, seed=0)
    ours = 0.3 + 0.1 * hard + 0.03 * normal(tasks, seed=1)
    return ours, 0.35 + 0.12 * hard + 0.05 * normal(tasks, seed=2)


def test_12_1_the_paired_error_has_the_covariance_taken_off():
    ours, theirs = two_methods()
    covariances = np.cov(ours.numpy(), theirs.numpy())
    by_parts = covariances[0, 0] + covariances[1, 1] - 2 * covariances[0, 1]
    _, error = metrics.mean_and_error(ours - theirs)
    assert error**2 == pytest.approx(by_parts / len(ours), rel=1e-12)
    assert error**2 < 0.3 * (covariances[0, 0] + covariances[1, 1]) / len(ours)
    theirs_t = stats.ttest_rel(ours.numpy(), theirs.numpy()).statistic
    assert (ours - theirs).mean().item() / error == pytest.approx(theirs_t, rel=1e-12)


def test_12_1_the_scorecard_resamples_the_differences():
    ours, theirs = two_methods()
    rows = (Row("ours", 5, {"KID": ours}), Row("theirs", 5, {"KID": theirs}))
    images = torch.zeros(40, 4, 1, 8, 8)
    card = Scorecard(rows, "Made up.", {}, TaskBatch(images, images), 0.1)
    found = card.difference("ours", 5, "theirs", 5, "KID", resamples=20_000)
    # SciPy's resampling, of the differences and of each method for itself.
    options = {"method": "percentile", "n_resamples": 20_000, "rng": 0}
    gaps = (ours - theirs).numpy()
    paired = stats.bootstrap((gaps,), np.mean, **options).confidence_interval
    assert found.mean == pytest.approx(gaps.mean(), rel=1e-12)
    width = paired.high - paired.low
    assert found.low == pytest.approx(paired.low, abs=0.04 * width)
    assert found.high == pytest.approx(paired.high, abs=0.04 * width)

    def gap(a, b, axis):
        return a.mean(axis) - b.mean(axis)

    apart = stats.bootstrap((ours.numpy(), theirs.numpy()), gap, **options)
    apart = apart.confidence_interval
    assert found.high - found.low < 0.7 * (apart.high - apart.low)


# --- tasks and seeds ------------------------------------------------------------


@pytest.mark.parametrize(("tasks", "seeds"), [(2, 2), (3, 2), (2, 3)])
def test_12_2_tasks_do_not_know_the_seeds_nor_seeds_the_tasks(tasks, seeds):
    b, b_seed, w = 0.7, 1.3, 0.5
    by_tasks = by_seeds = true = 0.0
    outcomes = 2 ** (tasks + seeds + tasks * seeds)
    for coins in product((-1.0, 1.0), repeat=tasks + seeds + tasks * seeds):
        of_tasks, of_seeds, rest = np.split(np.array(coins), [tasks, tasks + seeds])
        table = b * of_tasks[:, None] + b_seed * of_seeds
        table = torch.from_numpy(table + w * rest.reshape(tasks, seeds))
        by_tasks += metrics.mean_and_error(table.mean(1))[1] ** 2 / outcomes
        by_seeds += metrics.mean_and_error(table.mean(0))[1] ** 2 / outcomes
        true += table.mean().item() ** 2 / outcomes
    both = w**2 / (tasks * seeds)
    assert by_tasks == pytest.approx(b**2 / tasks + both, rel=1e-10)
    assert by_seeds == pytest.approx(b_seed**2 / seeds + both, rel=1e-10)
    assert true == pytest.approx(by_tasks + by_seeds - both, rel=1e-10)


# --- the best of many -----------------------------------------------------------


def expected_max(n: int) -> float:
    """∫ z dΦ(z)ⁿ."""
    density = lambda z: z * n * stats.norm.cdf(z) ** (n - 1) * stats.norm.pdf(z)
    return integrate.quad(density, -12, 12, limit=200)[0]


def test_12_3_the_best_of_equals_looks_better_by_the_expected_maximum():
    known = {1: 0.0, 2: math.pi**-0.5, 3: 1.5 * math.pi**-0.5, 4: 1.0293753730}
    for n, value in known.items():
        assert expected_max(n) == pytest.approx(value, abs=1e-8)
    for n in (1, 2, 3, 4, 7, 30, 200, 5000):
        assert expected_max(n) <= math.sqrt(2 * math.log(n)) + 1e-9
    truth, error = 0.4, 0.07
    measured = truth + error * normal(200_000, 4, seed=3)
    best, off = metrics.mean_and_error(measured.amin(1))
    assert abs(best - (truth - error * known[4])) < 5 * off < 0.001


def test_12_3_every_t_gives_a_bound_and_this_one_the_least():
    n = 50
    least = min(math.log(n) / t + t / 2 for t in np.linspace(0.05, 20, 100_000))
    assert least == pytest.approx(math.sqrt(2 * math.log(n)), abs=1e-6)
    # E[exp(t max)] ≤ Σ E[exp(t ε)], by quadrature.
    for t in (0.5, 1.0, 2.8):
        weight = lambda z, t=t: (
            np.exp(t * z) * n * stats.norm.cdf(z) ** (n - 1) * stats.norm.pdf(z)
        )
        left = integrate.quad(weight, -12, 16, limit=200)[0]
        assert math.exp(t * expected_max(n)) <= left <= n * math.exp(t * t / 2)


# --- copies ---------------------------------------------------------------------

NUMBERS = torch.tensor([0.0, 0.4, 1.0, 2.1, 3.7, 3.9, 6.0], dtype=F64)


def test_12_4_the_ratio_is_one_minus_the_share_of_copies():
    """Over all ways to deal a class into support, query and a fresh drawing."""
    for copies in (0.0, 0.25, 0.8):
        to_support = to_query = 0.0
        for order in permutations(range(7)):
            support, query, new = NUMBERS[list(order)].split([3, 3, 1])
            apart = lambda x, of: (of - x).abs().min().item()
            to_support += (1 - copies) * apart(new, support)
            to_query += (1 - copies) * apart(new, query)
            to_query += copies * sum(apart(x, query) for x in support) / 3
        assert to_support / to_query == pytest.approx(1 - copies, rel=1e-9)


def test_12_4_the_library_s_ratio_is_that_of_the_mean_distances():
    """A task of 2 copies and 3 fresh points; sets of unequal size are cut."""
    support, query = normal(1, 4, 2, seed=4), normal(1, 9, 2, seed=5)
    fresh = normal(1, 3, 2, seed=6)
    drawn = torch.cat([support[:, :2], fresh], 1)
    near = lambda x, of: min(math.dist(x, y) for y in of)
    points = [p.tolist() for p in drawn[0]]
    to_support = sum(near(p, support[0].tolist()) for p in points)
    to_query = sum(near(p, query[0, :4].tolist()) for p in points)
    found = metrics.memorisation_ratio(drawn, support, query)
    assert found.tolist() == pytest.approx([to_support / to_query], rel=1e-12)
    assert near(points[0], support[0].tolist()) == 0


# --- AUC and total variation ----------------------------------------------------

PAIRS = [  # counts of the same total on a few points
    ((4, 4, 4, 4, 4), (10, 1, 3, 2, 4)),
    ((1, 2, 3, 4), (4, 3, 2, 1)),
    ((5, 0, 0), (0, 2, 3)),
    ((2, 2), (2, 2)),
]


def ranked(real: tuple[int, ...], fake: tuple[int, ...], logits) -> float:
    logits = torch.tensor(logits, dtype=F64)
    spread = lambda counts: logits.repeat_interleave(torch.tensor(counts))[None]
    return metrics.auc(spread(real), spread(fake)).item()


@pytest.mark.parametrize(("real", "fake"), PAIRS)
def test_12_5_no_ranking_proves_more_than_the_total_variation(real, fake):
    total = sum(real)
    tv = max(  # over all sets of points
        abs(sum((a - b) * s for a, b, s in zip(real, fake, chosen))) / total
        for chosen in product((0, 1), repeat=len(real))
    )
    # All rankings, ties included.
    areas = [
        ranked(real, fake, logits)
        for logits in product(range(len(real)), repeat=len(real))
    ]
    proved = [1 - math.sqrt(2 * min(a, 1 - a)) for a in areas]
    assert max(proved) <= tv + 1e-12
    assert max(abs(2 * a - 1) for a in areas) >= tv - 1e-12  # a good one is not blind


def test_12_5_the_bound_is_reached():
    for overlap in (0, 3, 12):
        real, fake = (8, overlap, 0), (0, overlap, 8)
        area = ranked(real, fake, (2, 1, 0))
        tv = 8 / (8 + overlap)
        assert 1 - math.sqrt(2 * (1 - area)) == pytest.approx(tv, rel=1e-12)
        flipped = ranked(real, fake, (0, 1, 2))
        assert flipped == pytest.approx(1 - area, rel=1e-12)


# --- a share --------------------------------------------------------------------


@pytest.mark.parametrize("failed", [0, 1, 6, 13, 20])
def test_12_6_the_interval_of_a_share_is_wilson_s(failed):
    low, high = metrics.share_interval(failed, 20)
    share, n = failed / 20, 20
    # The roots of (share − p)² = 1.96² p (1 − p) / n, by NumPy.
    square = 1.96**2 / n
    roots = np.roots([1 + square, -2 * share - square, share**2])
    assert (low, high) == pytest.approx((min(roots), max(roots)), abs=1e-7)
    result = stats.binomtest(failed, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((result.low, result.high), abs=1e-4)
    inside, outside = (low + high) / 2, min(1, high + 0.01)
    surprise = lambda p: abs(share - p) > 1.96 * math.sqrt(p * (1 - p) / n)
    assert not surprise(inside) and (surprise(outside) or outside == 1)
