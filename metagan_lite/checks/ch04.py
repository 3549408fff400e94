"""Checks of chapter 4's exercises: measuring a generator."""

from __future__ import annotations

import torch
from torch import Tensor

from metagan_lite import metrics
from metagan_lite.losses import unbiased_mmd2

from . import Answer, exercise, same


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_random(seed), dtype=torch.float64)


def _apart(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y).norm(dim=-1)


@exercise("4.1", function="mmd2")
def _(answer: Answer) -> str:
    """Kernel matrices → unbiased MMD²."""
    for seed, gap in ((0, 0.0), (1, 1.5), (2, 0.0), (3, 0.3)):
        u, v = _normal(5, 2, seed=seed), _normal(7, 2, seed=seed + 10) + gap
        kernels = [(a @ b.mT / 2 + 1) ** 3 for a, b in ((u, u), (v, v), (u, v))]
        k_uu, k_vv, k_uv = kernels
        got, right = answer(*kernels), unbiased_mmd2(*kernels)
        distinct = lambda k: (k.sum() - k.trace()) / len(k) ** 2
        within = right + 2 * k_uv.mean()
        answer.mistake(
            "diagonal-kept",
            same(got, k_uu.mean() + k_vv.mean() - 2 * k_uv.mean()),
            "This compares each point with itself, too. The bias of equation (4.3) is "
            "what comes of it: leave out the diagonals of the first two matrices.",
        )
        answer.mistake(
            "clipped-at-zero",
            right < 0 and same(got, 0.0 * right),
            "Here the estimate is negative, and yours is 0. Clipped estimates are not "
            "0 on average for real images: do not clip.",
        )
        answer.mistake(
            "divided-by-all-pairs",
            same(got, distinct(k_uu) + distinct(k_vv) - 2 * k_uv.mean()),
            "The diagonals are left out of the sums but not of the counts: there are "
            "m(m − 1) pairs of different points, not m².",
        )
        answer.mistake(
            "one-cross-term",
            same(got, within - k_uv.mean()),
            "The mean between real and generated points is subtracted twice, as in "
            "‖a − b‖² = a·a + b·b − 2 a·b.",
        )
        answer.expect(
            same(got, right),
            f"For m = 5, n = 7 expected {right:.4f}: the mean of each of the first two "
            "matrices off its diagonal, minus twice the mean of the third.",
        )
    return "Two of these four estimates were negative, as they should be."


@exercise("4.2", function="coverage")
def _(answer: Answer) -> str:
    """Real and generated points, k → coverage."""
    for m, n, k in ((12, 9, 3), (9, 14, 2), (15, 8, 1)):
        # In each case the four shares below differ.
        real = _normal(m, 3, seed=0)
        fake = 0.9 * _normal(n, 3, seed=10) + 0.4
        got, apart = answer(real, fake, k), _apart(real, fake)
        radius = lambda x, k: _apart(x, x).kthvalue(k, dim=1).values
        inside = apart <= radius(real, k + 1)[:, None]
        share = lambda hits: hits.double().mean()
        right = share(inside.any(1))
        answer.mistake(
            "itself-as-neighbour",
            same(got, share((apart <= radius(real, k)[:, None]).any(1))),
            "The nearest point to a real point is itself, at distance 0. The k-th of "
            "the *others* is the (k + 1)-th smallest entry of its row.",
        )
        answer.mistake(
            "precision-instead",
            same(got, share(inside.any(0))),
            "This is precision: the share of generated points that lie in some ball. "
            "Coverage is the share of balls that hold some generated point.",
        )
        answer.mistake(
            "balls-around-generated",
            same(got, share((apart <= radius(fake, k + 1)).any(1))),
            "This is recall: the balls are around generated points. Coverage has them "
            "around real points, where outliers of the generator cannot enlarge them.",
        )
        answer.mistake(
            "density-instead",
            same(got, inside.sum(0).double().mean() / k),
            "This is density: in how many balls a generated point lies, divided by k. "
            "Coverage asks of each ball only whether it holds one.",
        )
        answer.expect(
            same(got, right),
            f"For {m} real and {n} generated points and k = {k} expected {right:.4f}, "
            f"a share of the {m} real points.",
        )
    # Whole numbers, so that distances are equal exactly.
    real = torch.tensor([[0.0, 0], [1, 0], [3, 0], [6, 0]]).double()
    fake = torch.tensor([[5.0, 0], [9, 0]]).double()
    got = answer(real, fake, 1)
    answer.mistake(
        "border-outside",
        same(got, 0.25),
        "A point at exactly the distance of the k-th neighbour is inside: ≤, not <.",
    )
    answer.expect(
        same(got, 0.5),
        "For real points at 0, 1, 3, 6 on a line, generated ones at 5 and 9, and k = 1 "
        "expected 0.5.",
    )
    return "The radius is the k-th distance to another real point."


@exercise("4.3", function="memorisation")
def _(answer: Answer) -> str:
    """Samples, support, query → distance to the one ÷ distance to the other."""
    for seed, n, shots, others in ((0, 6, 3, 12), (1, 5, 9, 4), (2, 7, 5, 5)):
        samples = _normal(n, 4, seed=seed)
        support, query = _normal(shots + others, 4, seed=seed + 10).split(
            [shots, others]
        )
        got = answer(samples, support, query)
        count = min(shots, others)
        near = lambda x: _apart(samples, x).amin(1)
        to_support, to_query = near(support[:count]), near(query[:count])
        (right,) = metrics.memorisation_ratio(samples[None], support[None], query[None])
        answer.mistake(
            "unequal-sets",
            shots != others and same(got, near(support).mean() / near(query).mean()),
            f"The nearest of {max(shots, others)} images is nearer than the nearest of "
            f"{count}, also for real images: keep the first {count} of each set.",
        )
        answer.mistake(
            "upside-down",
            same(got, 1 / right),
            "Copies of the support must score 0: the distance to the support belongs "
            "above the line.",
        )
        answer.mistake(
            "mean-of-ratios",
            same(got, (to_support / to_query).mean()),
            "This averages a ratio for each sample, and one sample near a query image "
            "can dominate. Divide the mean distances.",
        )
        answer.mistake(
            "mean-over-all",
            same(
                got,
                _apart(samples, support[:count]).mean()
                / _apart(samples, query[:count]).mean(),
            ),
            "This averages over all support images. A copy is near to one of them "
            "only: take the nearest for each sample first.",
        )
        answer.mistake(
            "squared-distances",
            same(got, to_support.square().mean() / to_query.square().mean()),
            "These are squared distances: take the root before the mean.",
        )
        answer.expect(
            same(got, right),
            f"For {shots} support and {others} query images expected {right:.4f}: the "
            f"mean distance to the nearest of {count}, in each set.",
        )
    return "Equal sets, so that real images score 1."


@exercise("4.4", function="interval")
def _(answer: Answer) -> str:
    """Scores [T, n] → the bootstrap's 95 % interval of the mean over tasks."""
    for seed, tasks, n in ((0, 30, 8), (1, 16, 40)):
        scores = 0.5 + seed + _normal(tasks, 1, seed=seed)
        scores = scores + 0.3 * _normal(tasks, n, seed=seed + 10)
        rng = _random(seed)
        untouched = rng.get_state()
        got = answer(scores, 2000, rng)
        answer.expect(
            isinstance(got, (tuple, list, Tensor)) and len(got) == 2,
            "Expected two numbers, (low, high).",
        )
        low, high = (float(x) for x in got)
        answer.mistake(
            "without-replacement",
            abs(high - low) < 1e-9,
            "All your means are equal: every task is drawn once. Draw with "
            "replacement, as `torch.randint` does.",
        )
        answer.expect(low < high, f"Expected low < high, got {low:.3f} and {high:.3f}.")
        width = high - low
        reach = 2 * 1.96 * ((tasks - 1) / tasks) ** 0.5  # in standard errors
        of = lambda values: (reach * values.std() / len(values) ** 0.5).item()
        near = lambda expected: 0.8 < width / expected < 1.2
        answer.mistake(
            "over-images",
            near(of(scores.flatten())),
            f"The interval is {width:.3f} wide, as if all {tasks * n} scores were "
            f"independent. Those of a task are not: average each task first, then draw "
            f"tasks again. It should be about {of(scores.mean(1)):.3f} wide.",
        )
        answer.mistake(
            "wrong-axis",
            near(of(scores.mean(0))),
            f"The interval is {width:.3f} wide: you have averaged over tasks, and "
            "drawn samples again. Rows are tasks; average over dimension 1.",
        )
        spread = scores.mean(1).quantile(torch.tensor([0.025, 0.975]).double())
        answer.mistake(
            "quantiles-of-the-values",
            0.8 < width / spread.diff().item() < 1.25,
            "These are quantiles of the tasks' own means: where 95 % of tasks lie. The "
            "interval is about the *mean* over tasks: average each resample.",
        )
        # A reference with many resamples: with 2,000 the width varies by about 2 %.
        drawn = torch.randint(tasks, (20_000, tasks), generator=_random(20))
        many = scores.mean(1)[drawn].mean(1)
        tails = many.quantile(torch.tensor([0.025, 0.975]).double())
        expected = tails.diff().item()
        answer.mistake(
            "ninety-percent",
            0.79 < width / expected < 0.89,
            f"The interval is {width:.3f} wide and should be about {expected:.3f}: it "
            "holds 90 %. The middle 95 % leaves 2.5 % on each side.",
        )
        centre = scores.mean().item()
        answer.expect(
            0.9 < width / expected < 1.1
            and abs((low + high) / 2 - centre) < 0.15 * expected,
            f"Expected an interval about {expected:.3f} wide around {centre:.3f}, got "
            f"{low:.3f} to {high:.3f}.",
        )
        answer.expect(
            not torch.equal(rng.get_state(), untouched),
            "Nothing was drawn with `generator`: hand it to `torch.randint`. (An "
            "interval from a formula is no bootstrap.)",
        )
    # Other ways to draw are as wide as the bootstrap, but their means are others. With
    # the task means 0, 0, 0, 1 the chance of a mean of 1 is 1/256, and of ¾ 3/64.
    within = torch.tensor([[-1.0, 0, 1], [2, -2, 0], [0.5, -0.5, 0], [-1, 0, 1]])
    low, high = (float(x) for x in answer(within.double(), 2000, _random(5)))
    answer.mistake(
        "samples-too",
        abs(high - low) > 1e-9,
        f"Four tasks with means of 0 gave {low:.3f} to {high:.3f}; expected 0 to 0. "
        "Only tasks are drawn again. Average all samples of each task first.",
    )
    scores = within.double() + torch.tensor([0.0, 0, 0, 1])[:, None]
    few, many = _random(5), _random(5)
    answer(scores, 200, few)
    low, high = (float(x) for x in answer(scores, 2000, many))
    answer.mistake(
        "ignores-resamples",
        torch.equal(few.get_state(), many.get_state()),
        "200 and 2,000 `resamples` took equally many random numbers: draw as many "
        "means as the argument says.",
    )
    said = f"Task means of 0, 0, 0 and 1 gave {low:.3f} to {high:.3f}; expected 0 to "
    answer.mistake(
        "half-of-the-tasks",
        same((low, high), (0.0, 0.5)),
        said
        + "0.75. You have drawn half of the tasks, each at most once. The bootstrap "
        "draws as many tasks as there are, with replacement.",
    )
    answer.mistake(
        "one-task-too-few",
        same(high, 2 / 3),
        said + "0.75. You have drawn one task less than there are.",
    )
    answer.mistake(
        "not-quantiles",
        low < -0.02,
        said
        + "0.75. No mean of such tasks is below 0. Take the quantiles of the drawn "
        "means as they are, without a deviation and without turning them round.",
    )
    answer.expect(
        same((low, high), (0.0, 0.75)),
        said + "0.75: quantiles of the means of 4 tasks, drawn with replacement.",
    )
    return "What is drawn again is what is independent: tasks."


@exercise("4.5", function="fool")
def _(answer: Answer) -> str:
    """Support [T, K, 2] → samples that beat real points, and should not."""
    told = ""
    for seed, mix in ((0, [[1.0, 0.5], [0.0, 0.6]]), (1, [[0.4, -0.3], [0.5, 1.2]])):
        points = _normal(300, 80, 2, seed=seed) @ torch.tensor(mix).double() + seed
        support, query, real = points.split([20, 30, 30], dim=1)
        fake = answer(support, 30, _random(seed + 10))
        answer.expect(
            isinstance(fake, Tensor) and fake.shape == real.shape,
            f"Expected a tensor [T, n, 2] = {list(real.shape)}.",
        )
        answer.expect(fake.isfinite().all(), "Expected finite points.")
        fake = fake.to(query.dtype)
        precision, recall = (
            f - r
            for f, r in zip(
                metrics.precision_recall(query, fake),
                metrics.precision_recall(query, real),
            )
        )
        covered = metrics.density_coverage(query, fake)[1].mean().item()
        covered_by_real = metrics.density_coverage(query, real)[1].mean().item()
        answer.mistake(
            "copies",
            (fake[:, :, None] == support[:, None]).all(-1).any(-1).all()
            and len(fake[0].unique(dim=0)) > 10,
            "These are support points. Copies are real, so at best they tie with real "
            f"points. Precision is {precision.mean():+.3f} and recall "
            f"{recall.mean():+.3f} against them.",
        )
        answer.mistake(
            "collapsed",
            precision.mean() > 0 and recall.mean() < -0.5,
            f"Precision is won ({precision.mean():+.3f}) and recall lost "
            f"({recall.mean():+.3f}): balls around equal points are tiny. A few points "
            "elsewhere would have large ones.",
        )
        answer.mistake(
            "scattered",
            recall.mean() > 0 and precision.mean() < -0.1,
            f"Recall is won ({recall.mean():+.3f}) and precision lost "
            f"({precision.mean():+.3f}): large balls, but their centres must be few, "
            "and lie where real points are.",
        )
        answer.mistake(
            "too-good",
            covered > 0.75 * covered_by_real,
            f"The coverage is {covered:.2f}, against {covered_by_real:.2f} of real "
            "points: this generator is not bad enough to prove the point.",
        )
        for name, lead in (("precision", precision), ("recall", recall)):
            mean, error = metrics.mean_and_error(lead)
            answer.expect(
                mean > 2 * error,
                f"The {name} is {mean:+.3f} ± {error:.3f} against real points: "
                "expected it to be ahead by two standard errors.",
            )
        answer.expect(
            covered < 0.6 * covered_by_real,
            f"The coverage is {covered:.2f}; expected less than 0.6 × that of real "
            f"points, {covered_by_real:.2f}, as a bad generator has.",
        )
        told = (
            f"Precision {precision.mean():+.3f} and recall {recall.mean():+.3f} "
            f"against real points, with a coverage of {covered:.2f} against "
            f"{covered_by_real:.2f}."
        )
    return told
