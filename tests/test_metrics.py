"""Metrics against loops, scikit-learn, torchmetrics, prdc, and what must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
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


# The bootstrap


def test_bootstrap_interval_has_the_quantiles_of_the_binomial(rng):
    """The resampled mean of 0s and 1s is binomial, so its quantiles are known."""
    tasks, ones = 40, 12
    values = (torch.arange(tasks) < ones).float()
    for level in (0.5, 0.95):
        found = metrics.bootstrap_interval(values, level, 20_000, rng)
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        expected = stats.binom.ppf(tails, tasks, ones / tasks) / tasks
        assert found == pytest.approx(expected, abs=1 / tasks + 1e-9)
    # Two tasks: the mean is 0, ½ or 1 with the chances ¼, ½, ¼.
    assert metrics.bootstrap_interval(torch.tensor([0, 1]), 0.4, 9999, rng) == (
        0.5,
        0.5,
    )
    low, high = metrics.bootstrap_interval(values, 0.95, 20_000, rng)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.3 * 0.7 / 40), rel=0.1)


@pytest.mark.parametrize("tasks", [10, 40])
def test_bootstrap_interval_covers_the_mean_as_often_as_it_says(rng, tasks):
    """For normal values it is mean ± z·s·√((T−1)/T)/√T: its coverage is known."""
    runs, level = 400, 0.95
    intervals = [
        metrics.bootstrap_interval(normal(tasks, rng=rng), level, 400, rng)
        for _ in range(runs)
    ]
    covered = np.mean([low < 0 < high for low, high in intervals])
    reach = stats.norm.ppf((1 + level) / 2) * math.sqrt((tasks - 1) / tasks)
    expected = 1 - 2 * stats.t.sf(reach, tasks - 1)  # .90 at T = 10, .94 at 40
    error = math.sqrt(expected * (1 - expected) / runs)
    assert abs(covered - expected) < 4 * error


def test_bootstrap_interval_at_its_ends(rng):
    assert metrics.bootstrap_interval(torch.full((5,), 3.0)) == (3, 3)
    broken = metrics.bootstrap_interval(torch.tensor([1.0, torch.nan]), generator=rng)
    assert all(map(math.isnan, broken))
    with pytest.raises(ValueError, match="T ≥ 2"):
        metrics.bootstrap_interval(torch.ones(1))
    with pytest.raises(ValueError, match="0 < level < 1, got 95"):
        metrics.bootstrap_interval(torch.ones(3), level=95)


def test_share_interval_solves_its_equation():
    for count, total in ((0, 20), (3, 20), (20, 20), (1, 500), (7, 9)):
        share = count / total
        for end in metrics.share_interval(count, total):
            reach = 1.96 * (end * (1 - end) / total) ** 0.5
            assert abs(share - end) == pytest.approx(reach, abs=1e-9)


@pytest.mark.parametrize(("count", "total"), [(0, 20), (3, 20), (20, 20), (7, 9)])
def test_share_interval_is_scipys(count, total):
    found = metrics.share_interval(count, total, z=1.959963984540054)
    theirs = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert found == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("count", "total"), [(3, 2), (-1, 2), (0, 0), (1.5, 2)])
def test_share_interval_of_no_share_is_refused(count, total):
    with pytest.raises(ValueError):
        metrics.share_interval(count, total)


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


@pytest.mark.parametrize("degree", [1, 3])
def test_mmd2_matches_torchmetrics(rng, degree):
    kid = pytest.importorskip("torchmetrics.image.kid", reason="needs torchmetrics")
    x, y = normal(3, 6, 4, rng=rng), normal(3, 9, 4, rng=rng) + 0.3
    found = metrics.polynomial_mmd2(x, y, degree)
    # Its estimator wants samples of one size; the rest of y is left out.
    found_of_six = metrics.polynomial_mmd2(x, y[:, :6], degree)
    expected = [kid.poly_mmd(a, b[:6], degree=degree) for a, b in zip(x, y)]
    assert_close(found_of_six, torch.stack(expected))
    assert not torch.allclose(found, found_of_six)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_kid_matches_torchmetrics(rng):
    """With subsets as large as the sample, its KID has nothing left to average."""
    image = pytest.importorskip("torchmetrics.image.kid", reason="needs torchmetrics")

    class Flat(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1)

    real, fake = (torch.rand(12, 3, 4, 4, generator=rng) for _ in range(2))
    theirs = image.KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=12)
    theirs.eval()
    theirs.update(real, real=True)
    theirs.update(fake**2, real=False)
    expected, _ = theirs.compute()
    found = metrics.polynomial_mmd2(fake.square().flatten(1), real.flatten(1))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert expected > 0.05


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


# Precision, recall, density, coverage


def all_four(real, fake, k):
    names = ("precision", "recall", "density", "coverage")
    found = metrics.precision_recall(real, fake, k)
    return dict(zip(names, (*found, *metrics.density_coverage(real, fake, k))))


@pytest.mark.parametrize(("n", "m", "k"), [(10, 20, 3), (12, 7, 1), (9, 9, 5)])
def test_manifold_metrics_match_prdc(rng, n, m, k):
    prdc = pytest.importorskip("prdc", reason="needs prdc")
    real, fake = normal(4, n, 3, rng=rng), 0.8 * normal(4, m, 3, rng=rng) + 0.4
    found = all_four(real, fake, k)
    for task in range(4):
        expected = prdc.compute_prdc(real[task].numpy(), fake[task].numpy(), k)
        assert {name: v[task].item() for name, v in found.items()} == pytest.approx(
            expected, rel=1e-12
        )
    assert all(0 < value.mean() < 1.5 for value in found.values())


def test_manifold_metrics_match_a_double_loop(rng):
    real, fake, k = normal(6, 2, rng=rng), normal(5, 2, rng=rng) + 0.5, 2
    far = lambda a, b: float((a - b).square().sum().sqrt())

    def balls(points):
        return [(p, sorted(far(p, q) for q in points)[k]) for p in points]

    inside = lambda x, points: [far(x, p) <= r for p, r in balls(points)]
    found = all_four(real[None], fake[None], k)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {
            "precision": np.mean([any(inside(f, real)) for f in fake]),
            "recall": np.mean([any(inside(r, fake)) for r in real]),
            "density": np.mean([sum(inside(f, real)) for f in fake]) / k,
            "coverage": np.mean(
                [min(far(r, f) for f in fake) <= d for r, d in balls(real)]
            ),
        }
    )


@pytest.mark.parametrize(("n", "k"), [(10, 3), (40, 5)])
def test_density_and_coverage_of_one_distribution(rng, n, k):
    """science.md, statement 26: Naeem et al. 2020, lemma 2 and their section 3.2."""
    real, fake = normal(3000, n, 4, rng=rng), normal(3000, n, 4, rng=rng)
    density, coverage = metrics.density_coverage(real, fake, k)
    terms = [(n - i) / (2 * n - i) for i in range(1, k + 1)]
    for values, expected in ((density, 1), (coverage, 1 - math.prod(terms))):
        mean, error = metrics.mean_and_error(values)
        assert abs(mean - expected) < 4 * error
        assert error < 0.01


def test_manifold_metrics_at_their_ends(rng):
    real = normal(2, 8, 3, rng=rng)
    copies = {name: v.tolist() for name, v in all_four(real, real, 3).items()}
    for name in ("precision", "recall", "coverage"):
        assert copies[name] == [1, 1]
    assert all(not value.any() for value in all_four(real, real + 100, 3).values())
    # One real image, drawn again and again: precise, but nothing is reached.
    collapsed = all_four(real, real[:, :1].expand(-1, 8, -1), 3)
    assert collapsed["precision"].tolist() == [1, 1]
    assert collapsed["recall"].tolist() == [1 / 8, 1 / 8]
    broken = real.clone()
    broken[0, 0, 0] = torch.nan
    for value in all_four(real, broken, 3).values():
        assert value.isnan().tolist() == [True, False]


def test_manifold_metrics_refuse_what_they_cannot_score():
    few, many = torch.zeros(2, 3, 4), torch.zeros(2, 9, 4)
    with pytest.raises(ValueError, match="more than 3 fake rows, got 3; lower k"):
        metrics.precision_recall(many, few)
    with pytest.raises(ValueError, match="more than 3 real rows, got 3; lower k"):
        metrics.density_coverage(few, many)
    assert metrics.density_coverage(many, few)[0].shape == (2,)
    with pytest.raises(ValueError, match="agree in T and d"):
        metrics.precision_recall(many, many[..., :2])


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


def test_moved_copies_are_found_only_by_the_shifted_ratio(rng):
    shuffled = digits(3)[torch.randperm(180, generator=rng)].float()
    support, query = shuffled[None, :10], shuffled[None, 10:20]
    moved = torch.full_like(support, -1)
    moved[..., 1:, :-1] = support[..., :-1, 1:]  # one down, one left
    assert metrics.memorisation_ratio(moved, support, query).item() > 0.8
    found = metrics.memorisation_ratio(moved, support, query, shift=1)
    assert found.item() == pytest.approx(0, abs=1e-6)
    moved_twice = torch.full_like(support, -1)
    moved_twice[..., 2:, :] = support[..., :-2, :]
    assert metrics.memorisation_ratio(moved_twice, support, query, 1).item() > 0.5
    assert metrics.memorisation_ratio(moved_twice, support, query, 2).item() < 1e-6
    assert metrics.memorisation_ratio(support, support, query, shift=1).item() == 0


@pytest.mark.parametrize("paper", [-1.0, 0.25])
def test_shifted_ratio_matches_a_loop(rng, paper):
    images = torch.full((3, 2, 4, 1, 6, 5), paper, dtype=torch.float64)
    for image in images.view(-1, 6, 5):  # one blot, anywhere
        down, right = (torch.randint(n, (), generator=rng) for n in (5, 4))
        ink = torch.tensor([[3.0, 1], [1, 0]]) + 0.1 * normal(2, 2, rng=rng)
        image[down : down + 2, right : right + 2] = ink
    generated, support, query = images

    def nearest(image, other):
        wide = np.pad(other, 2, constant_values=paper)
        return min(
            float(np.linalg.norm(image - wide[i : i + 6, j : j + 5]))
            for i in range(5)
            for j in range(5)
        )

    def mean_nearest(t, others):
        return np.mean([min(nearest(g, o) for o in others[t]) for g in generated[t]])

    generated, support, query = (x[:, :, 0].numpy() for x in images)
    expected = [mean_nearest(t, support) / mean_nearest(t, query) for t in range(2)]
    found = metrics.memorisation_ratio(*images, shift=2)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_real_images_score_one_when_shifted_too(rng):
    images = digits(3)
    draws = torch.stack([images[torch.randperm(180, generator=rng)] for _ in range(60)])
    ratios = metrics.memorisation_ratio(
        draws[:, :20], draws[:, 20:25], draws[:, 25:], shift=1
    )
    mean, error = metrics.mean_and_error(ratios)
    assert abs(mean - 1) < 4 * error + 0.01
    assert error < 0.02


def test_a_shift_needs_images():
    points = torch.rand(2, 5, 3)
    with pytest.raises(ValueError, match=r"\[T, n, C, H, W\], got \[2, 5, 3\]"):
        metrics.memorisation_ratio(points, points + 1, points + 2, shift=1)
    with pytest.raises(ValueError, match="shift must be an integer of at least 0"):
        metrics.memorisation_ratio(points, points + 1, points + 2, shift=-1)


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
