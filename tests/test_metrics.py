"""Metrics against double loops, scikit-learn, and what must hold by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel
from torch.testing import assert_close

from metagan_lite import metrics


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(*shape: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def digits(label: int) -> torch.Tensor:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[labels == label]).reshape(-1, 1, 8, 8) / 8 - 1


# Mean and error


def test_mean_and_error_match_numpy(rng):
    values = normal(11, rng=rng)
    mean, error = metrics.mean_and_error(values)
    v = values.numpy()
    assert mean == pytest.approx(v.mean(), rel=1e-12)
    assert error == pytest.approx(np.sqrt(v.var(ddof=1) / 11), rel=1e-12)


def test_one_task_has_no_error():
    with pytest.raises(ValueError, match="T ≥ 2"):
        metrics.mean_and_error(torch.ones(1))


# KID


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_mmd2_matches_scikit_learn(rng, degree):
    x, y = normal(2, 3, 6, 4, rng=rng), normal(2, 3, 9, 4, rng=rng) + 0.3
    found = metrics.polynomial_mmd2(x, y, degree)
    assert found.shape == (2, 3)
    for index in np.ndindex(2, 3):
        a, b = x[index].numpy(), y[index].numpy()
        k = lambda p, q: polynomial_kernel(p, q, degree=degree, gamma=1 / 4, coef0=1)
        distinct = lambda m: m[~np.eye(len(m), dtype=bool)].mean()
        expected = distinct(k(a, a)) + distinct(k(b, b)) - 2 * k(a, b).mean()
        assert found[index].item() == pytest.approx(expected, rel=1e-10)


def test_mmd2_matches_a_double_loop(rng):
    x, y = normal(4, 3, rng=rng), normal(5, 3, rng=rng)
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3
    pairs = lambda u: [k(*u[[i, j]]) for i in range(len(u)) for j in range(i)]
    cross = [k(a, b) for a in x for b in y]
    expected = np.mean(pairs(x)) + np.mean(pairs(y)) - 2 * np.mean(cross)
    assert metrics.polynomial_mmd2(x, y).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [4, 16])
def test_kid_of_one_distribution_is_zero_on_average(rng, n):
    """science.md, statement 25: the estimate is unbiased at every sample size."""
    x, y = normal(2000, n, 8, rng=rng), normal(2000, n + 3, 8, rng=rng)
    mean, error = metrics.kid(x, y)
    assert error > 0
    assert abs(mean) < 4 * error
    # Some are negative: clipping them would bias the mean.
    assert 0.3 < (metrics.polynomial_mmd2(x, y) < 0).double().mean() < 0.8


def test_kid_of_a_shifted_sample_is_the_closed_form(rng):
    """degree 1: E[MMD²] = ‖μ_x − μ_y‖² / d, here 8 · 0.5² / 8."""
    x, y = normal(4000, 6, 8, rng=rng) + 0.5, normal(4000, 6, 8, rng=rng)
    mean, error = metrics.mean_and_error(metrics.polynomial_mmd2(x, y, degree=1))
    assert abs(mean - 0.25) < 4 * error


def test_kid_refuses_what_it_cannot_score():
    with pytest.raises(ValueError, match="agree"):
        metrics.kid(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="at least 2 samples of each kind, got n=1"):
        metrics.kid(torch.zeros(2, 1, 4), torch.zeros(2, 3, 4))


# Recognition


def test_recognition_rate_matches_a_loop(rng):
    features, prototypes = normal(5, 7, 3, rng=rng), normal(4, 3, rng=rng)
    classes = torch.tensor([0, 3, 1, 1, 2])
    expected = [
        np.mean(
            [
                np.linalg.norm(prototypes.numpy() - f.numpy(), axis=1).argmin() == c
                for f in task
            ]
        )
        for task, c in zip(features, classes.tolist())
    ]
    found = metrics.recognition_rate(features, prototypes, classes)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert 0 < found.mean() < 1


def test_recognition_of_the_prototypes_themselves(rng):
    prototypes = normal(4, 3, rng=rng)
    own = prototypes[:, None].expand(-1, 6, -1)
    assert_close(
        metrics.recognition_rate(own, prototypes, torch.arange(4)),
        torch.ones(4, dtype=torch.float64),
    )
    assert_close(
        metrics.recognition_rate(own, prototypes, (torch.arange(4) + 1) % 4),
        torch.zeros(4, dtype=torch.float64),
    )


def test_diverged_features_are_not_recognised():
    features = torch.full((1, 2, 3), torch.nan)
    rate = metrics.recognition_rate(features, torch.eye(3), torch.tensor([0]))
    assert rate.isnan().all()


@pytest.mark.parametrize("classes", [[0], [0, 3], [0, -1]])
def test_recognition_needs_a_class_for_every_task(classes):
    with pytest.raises(ValueError, match="classes must be"):
        metrics.recognition_rate(
            torch.zeros(2, 4, 3), torch.eye(3), torch.tensor(classes)
        )


# Diversity


def test_diversity_ratio_matches_numpy(rng):
    x, y = normal(3, 5, 1, 4, 4, rng=rng), 2 * normal(3, 8, 1, 4, 4, rng=rng)
    expected = [
        a.numpy().std(0, ddof=1).mean() / b.numpy().std(0, ddof=1).mean()
        for a, b in zip(x, y)
    ]
    found = metrics.diversity_ratio(x, y)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_diversity_ratio_is_zero_at_collapse_and_scales_with_contrast():
    real = torch.stack([digits(3)[:20], digits(8)[:20]])
    collapsed = real[:, :1].expand(-1, 9, -1, -1, -1)
    assert_close(metrics.diversity_ratio(collapsed, real), torch.zeros(2).double())
    halved = metrics.diversity_ratio(real / 2, real)
    assert_close(halved, torch.full((2,), 0.5).double())
    with pytest.raises(ValueError, match="all the same"):
        metrics.diversity_ratio(real, collapsed)


# Memorisation


def test_memorisation_ratio_matches_a_loop(rng):
    generated, support = normal(2, 5, 1, 3, 3, rng=rng), normal(2, 4, 1, 3, 3, rng=rng)
    query = normal(2, 7, 1, 3, 3, rng=rng)  # cut to 4
    expected = []
    for t in range(2):
        nearest = lambda others: np.mean(
            [
                min(float((g - o).square().sum().sqrt()) for o in others)
                for g in generated[t]
            ]
        )
        expected.append(nearest(support[t]) / nearest(query[t, :4]))
    found = metrics.memorisation_ratio(generated, support, query)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_copying_the_support_scores_exactly_zero():
    """In float32 too, where the fast cdist would leave a copy at a distance."""
    shuffled = digits(3)[torch.randperm(150, generator=torch.Generator())].float()
    support, query = shuffled[None, :5] + 100, shuffled[None, 5:30] + 100
    copies = support.repeat(1, 6, 1, 1, 1)  # cdist is exact up to 25 rows
    assert metrics.memorisation_ratio(copies, support, query).item() == 0


def test_real_images_score_one(rng):
    """Support, query and samples from one distribution, even with Q ≫ K."""
    images = digits(3)
    draws = torch.stack([images[torch.randperm(180, generator=rng)] for _ in range(60)])
    ratios = metrics.memorisation_ratio(draws[:, :20], draws[:, 20:25], draws[:, 25:])
    mean, error = metrics.mean_and_error(ratios)
    assert abs(mean - 1) < 4 * error + 0.01  # the mean of a ratio is not quite 1
    assert error < 0.02


def test_memorisation_refuses_query_images_as_samples():
    images = digits(3)[None]
    with pytest.raises(ValueError, match="query apart"):
        metrics.memorisation_ratio(images[:, 5:9], images[:, :5], images[:, 5:10])
    with pytest.raises(ValueError, match="must agree"):
        metrics.memorisation_ratio(images, images[..., :7], images)


# Discriminator


def test_auc_matches_scikit_learn_with_ties(rng):
    real = normal(3, 12, rng=rng).mul(2).round() + 1
    fake = normal(3, 9, rng=rng).mul(2).round()
    labels = np.r_[np.ones(12), np.zeros(9)]
    expected = [
        roc_auc_score(labels, np.r_[r.numpy(), f.numpy()]) for r, f in zip(real, fake)
    ]
    assert_close(metrics.auc(real, fake), torch.tensor(expected, dtype=torch.float64))


def test_auc_at_its_ends():
    high, low = torch.full((1, 4), torch.inf), torch.tensor([[-1.0, 0.0]])
    assert metrics.auc(high, low).item() == 1
    assert metrics.auc(low, high).item() == 0
    assert metrics.auc(high, high).item() == 0.5
    assert metrics.auc(low, torch.tensor([[torch.nan]])).isnan().all()
