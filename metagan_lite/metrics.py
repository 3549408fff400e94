"""How good are the samples? Pure functions of features, images and logits.

Every function takes a batch of tasks and returns one number per task, because the
tasks, not the images, are the independent observations: ``mean_and_error`` then gives
the mean and its standard error, ``bootstrap_interval`` an interval. No single number
here can be trusted alone. Copying the support scores well on ``kid``,
``recognition_rate`` and ``precision_recall`` and is exposed only by
``memorisation_ratio``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .data import check_integers
from .losses import unbiased_mmd2
from .warp import paper_value

__all__ = [
    "auc",
    "bootstrap_interval",
    "density_coverage",
    "diversity_ratio",
    "kid",
    "mean_and_error",
    "memorisation_ratio",
    "polynomial_mmd2",
    "precision_recall",
    "recognition_rate",
    "share_interval",
]


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean over tasks and its standard error, std / sqrt(T).

    Args:
        values: [T], one number per task, T ≥ 2.

    Raises:
        ValueError: fewer than two tasks, so no error can be estimated.
    """
    _check_values(values)
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


def bootstrap_interval(
    values: Tensor,
    level: float = 0.95,
    resamples: int = 2000,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean over tasks.

    Efron 1979: the tasks are drawn again with replacement, as many as there are, and
    the interval holds the middle ``level`` of the means. For two methods scored on the
    same tasks pass the differences, task by task: what makes a task hard for both then
    cancels. With few tasks it is somewhat too narrow (at T = 10, 90 % for a level of
    95 %).

    Args:
        values: [T], one number per task, T ≥ 2.
        level: between 0 and 1.
        resamples: how many means.
        generator: source of the drawing, on its own device.

    Returns:
        (low, high); NaN where a value is NaN.

    Raises:
        ValueError: fewer than two tasks, or a level that is no share.
    """
    _check_values(values)
    check_integers(1, resamples=resamples)
    if not 0 < level < 1:
        raise ValueError(
            f"expected 0 < level < 1, got {level}; pass 0.95 for an interval of 95 %"
        )
    values, tasks = values.double(), len(values)
    device = "cpu" if generator is None else generator.device
    drawn = torch.randint(
        tasks, (resamples, tasks), generator=generator, device=device
    ).to(values.device)
    tail = (1 - level) / 2
    low, high = values[drawn].mean(1).quantile(values.new_tensor([tail, 1 - tail]))
    return low.item(), high.item()


def share_interval(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share that was observed as ``count`` of ``total``.

    Wilson 1927: it holds every share from which the observed one is at most ``z`` of
    *its* standard errors away. So it says something even where nothing or everything
    was counted, where the share's own standard error is 0.

    Args:
        count: how many, such as runs that failed. total: out of how many.
        z: 1.96 for 95 %.

    Returns:
        (low, high), within [0, 1].

    Raises:
        ValueError: nothing was observed, or more than all.
    """
    check_integers(1, total=total)
    check_integers(0, count=count)
    if count > total:
        raise ValueError(
            f"expected count ≤ total, got {count} of {total}; the arguments are"
            " (count, total)"
        )
    share, square = count / total, z * z
    middle = (share + square / (2 * total)) / (1 + square / total)
    spread = (share * (1 - share) / total + square / (4 * total * total)) ** 0.5
    half = z * spread / (1 + square / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def polynomial_mmd2(x: Tensor, y: Tensor, degree: int = 3) -> Tensor:
    """Unbiased squared maximum mean discrepancy with k(x, y) = (x·y/d + 1)^degree.

    Bińkowski et al. 2018, "Demystifying MMD GANs"; the estimator is eq. 3 of Gretton
    et al. 2012. It has mean 0 when both samples come from one distribution, so
    negative values are legitimate and must not be clipped.

    Args:
        x: [..., n, d] features of one sample, n ≥ 2.
        y: [..., m, d] features of the other, m ≥ 2, same leading dimensions.
        degree: degree of the kernel; 3 gives KID.

    Returns:
        [...], one value per leading index, in the dtype of the inputs.

    Raises:
        ValueError: shapes do not match, or a sample has fewer than two rows.
    """
    if x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"x [..., n, d] and y [..., m, d] must agree in all but n and m, "
            f"got {list(x.shape)} and {list(y.shape)}"
        )

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / x.shape[-1] + 1) ** degree

    return unbiased_mmd2(kernel(x, x), kernel(y, y), kernel(x, y))


def kid(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """Kernel inception distance, averaged over tasks, with its standard error.

    Bińkowski et al. 2018. The name belongs to Inception features; features of another
    net must be named with the score: "KID (small net)".

    Args:
        generated: [T, n, d] features of generated images, T ≥ 2.
        real: [T, m, d] features of query images, which no support image may be in.

    Raises:
        ValueError: as ``polynomial_mmd2`` and ``mean_and_error``.
    """
    return mean_and_error(polynomial_mmd2(generated, real))


def recognition_rate(features: Tensor, prototypes: Tensor, classes: Tensor) -> Tensor:
    """Share of a task's samples whose nearest class prototype is their own class.

    The nearest-prototype rule of Snell et al. 2017, eq. 2. Chance is 1/C; report the
    rate of real images beside it. A sample with a NaN makes its task NaN.

    Args:
        features: [T, n, d] features of each task's samples.
        prototypes: [C, d] mean features of real images of each class.
        classes: [T] int, the row of ``prototypes`` that each task is about.

    Returns:
        [T], each in [0, 1].

    Raises:
        ValueError: ``classes`` is not one row number per task.
    """
    if classes.shape != features.shape[:1]:
        raise ValueError(
            f"classes must be [T] = [{features.shape[0]}], got {list(classes.shape)}"
        )
    if classes.min() < 0 or classes.max() >= len(prototypes):
        raise ValueError(
            f"classes must be rows of the {len(prototypes)} prototypes, "
            f"got {classes.min().item()} to {classes.max().item()}"
        )
    distances = torch.cdist(features, prototypes.expand(len(features), -1, -1))
    hits = (distances.argmin(-1) == classes[:, None]).to(distances.dtype)  # [T, n]
    # argmin of NaNs is 0, which would count as recognised in class 0.
    return hits.masked_fill(distances.isnan().any(-1), torch.nan).mean(-1)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """Shares of the fakes that look real, and of the reals that can be generated.

    Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing
    Generative Models", eqs. 1–2. A sample's manifold is the union of balls around its
    points, each as wide as the distance to the k-th nearest other point. Precision is
    the share of fakes within the manifold of the reals, recall the share of reals
    within that of the fakes. Both depend on n and m, and one outlier has a large ball:
    at few-shot sizes (ten images of a class) compare rows of one table only.

    Args:
        real: [T, n, d] features of real images, n > k.
        fake: [T, m, d] features of generated images, m > k.
        k: which neighbour sets the radius.

    Returns:
        Precision and recall, each [T] in [0, 1]; NaN where a feature is NaN.

    Raises:
        ValueError: shapes do not match, or a sample has no k-th neighbour.
    """
    _check_features(k, real=real, fake=fake)
    _check_neighbours(k, real=real, fake=fake)
    apart = _distances(real, fake)  # [T, n, m]
    precision = (apart <= _radii(real, k).unsqueeze(-1)).any(-2)  # [T, m]
    recall = (apart <= _radii(fake, k).unsqueeze(-2)).any(-1)  # [T, n]
    return _share(precision, apart), _share(recall, apart)


def density_coverage(real: Tensor, fake: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """How densely the fakes lie among the reals, and the share of reals they reach.

    Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models",
    section 3.2. With a ball around each real point as in :func:`precision_recall`,
    density is the mean number of balls that a fake lies in, divided by k, and coverage
    the share of balls with a fake in them. No ball is drawn around a fake, so a fake
    that is an outlier buys nothing. If both samples are of one distribution, density is
    1 on average and coverage 1 − ∏ᵢ (n − i)/(2n − i), i = 1 … k, at n = m.

    Args:
        real: [T, n, d] features of real images, n > k.
        fake: [T, m, d] features of generated images.
        k: which neighbour sets the radius.

    Returns:
        Density [T], which may exceed 1, and coverage [T] in [0, 1]; NaN where a
        feature is NaN.

    Raises:
        ValueError: shapes do not match, or the reals have no k-th neighbour.
    """
    _check_features(k, real=real, fake=fake)
    _check_neighbours(k, real=real)
    apart = _distances(real, fake)  # [T, n, m]
    inside = apart <= _radii(real, k).unsqueeze(-1)
    density = _share(inside.sum(-2), apart) / k
    return density, _share(inside.any(-1), apart)


def diversity_ratio(generated: Tensor, real: Tensor) -> Tensor:
    """Mean per-pixel standard deviation of the samples ÷ that of real images.

    1 = as varied as real images, 0 = every sample the same (mode collapse). Noise
    also raises it, so read it beside ``kid``.

    Args:
        generated: [T, n, ...] images, n ≥ 2.
        real: [T, m, ...] images, m ≥ 2.

    Returns:
        [T], each ≥ 0.

    Raises:
        ValueError: shapes do not match, fewer than two images, or real images that
            do not vary at all.
    """
    _check_images(generated=generated, real=real)
    if min(generated.shape[1], real.shape[1]) < 2:
        raise ValueError(
            f"a spread needs at least 2 images per task, got {generated.shape[1]} "
            f"generated and {real.shape[1]} real"
        )
    spread = generated.std(1).flatten(1).mean(1)
    spread_of_real = real.std(1).flatten(1).mean(1)
    if (spread_of_real == 0).any():
        raise ValueError("the real images of a task are all the same; draw others")
    return spread / spread_of_real


def memorisation_ratio(
    generated: Tensor, support: Tensor, query: Tensor, shift: int = 0
) -> Tensor:
    """Mean distance to the nearest support image ÷ that to the nearest query image.

    1 = samples are as far from what they were shown as from unseen images of the same
    class (what real images score), 0 = copies of the support. Support and query are
    cut to the same number of images, because a nearest neighbour among more images
    is nearer.

    In pixels a copy moved by one pixel is far away. With ``shift`` a distance is the
    smallest over all moves of the other image by up to so many pixels, right or left
    and up or down. Support and query are moved alike, so that 1 keeps its meaning.

    Args:
        generated: [T, n, ...] images, or features.
        support: [T, K, ...] what the networks were adapted on.
        query: [T, Q, ...] other images of the same class.
        shift: in pixels; above 0 for images [T, n, C, H, W] only. The time grows as
            (2·shift + 1)², the memory does not.

    Returns:
        [T], each ≥ 0.

    Raises:
        ValueError: shapes do not match, all samples of a task are query images, or
            there is nothing to shift.
    """
    _check_images(generated=generated, support=support, query=query)
    check_integers(0, shift=shift)
    if shift and generated.ndim != 5:
        raise ValueError(
            f"a shift needs images [T, n, C, H, W], got {list(generated.shape)}; "
            "pass shift=0"
        )
    count = min(support.shape[1], query.shape[1])

    def mean_nearest(others: Tensor) -> Tensor:
        nearest = None  # [T, n]
        for moved in _moved(others[:, :count], shift):
            distances = _distances(generated.flatten(2), moved.flatten(2))
            found = distances.amin(-1)  # [T, n, count] -> [T, n]
            nearest = found if nearest is None else torch.minimum(nearest, found)
        return nearest.mean(-1)

    to_support, to_query = mean_nearest(support), mean_nearest(query)
    if (to_query == 0).any():
        raise ValueError(
            "all samples of a task are query images; draw the query apart from them"
        )
    return to_support / to_query


def auc(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Chance that a discriminator ranks a real image above a generated one.

    The area under the ROC curve as the Mann–Whitney statistic, ties counting ½
    (Hanley & McNeil 1982). 1 = tells them apart, ½ = cannot, below ½ = ranks
    generated images higher: it has turned from a judge into a teacher.

    Args:
        real_logits: [T, n] of real images.
        fake_logits: [T, m] of generated images.

    Returns:
        [T], each in [0, 1]; NaN where a logit is NaN.
    """
    real, fake = real_logits[..., :, None], fake_logits[..., None, :]
    wins = (real > fake).to(real.dtype) + 0.5 * (real == fake)  # [T, n, m]
    # A NaN compares as False, which would count as lost.
    return wins.masked_fill(real.isnan() | fake.isnan(), torch.nan).mean((-2, -1))


def _moved(images: Tensor, shift: int) -> Iterator[Tensor]:
    """Images [T, n, C, H, W] moved by up to ``shift`` pixels; paper comes in."""
    if not shift:
        yield images
        return
    high, wide = images.shape[-2:]
    margin = (*images.shape[:-2], high + 2 * shift, wide + 2 * shift)
    sheet = paper_value(images).expand(margin).clone()
    sheet[..., shift:-shift, shift:-shift] = images
    for down in range(2 * shift + 1):
        for right in range(2 * shift + 1):
            yield sheet[..., down : down + high, right : right + wide]


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances [T, n, m] of rows [T, n, d] and [T, m, d]."""
    # The default cdist subtracts large squares: a copy would not be at 0.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance [T, n] of each row to its k-th nearest other row."""
    return _distances(x, x).kthvalue(k + 1, dim=-1).values  # the nearest is itself


def _share(hits: Tensor, distances: Tensor) -> Tensor:
    """Mean of hits [T, n] over n, NaN where a distance [T, ...] is NaN."""
    # A NaN compares as False, which would count as outside of every ball.
    undefined = distances.isnan().flatten(1).any(1)
    return hits.to(distances.dtype).mean(-1).masked_fill(undefined, torch.nan)


def _check_values(values: Tensor) -> None:
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"values must be [T] with T ≥ 2 tasks, got {list(values.shape)}; "
            "score more tasks"
        )


def _check_features(k: int, real: Tensor, fake: Tensor) -> None:
    check_integers(1, k=k)
    if (
        real.ndim != 3
        or real.shape[0] != fake.shape[0]
        or real.shape[2:] != fake.shape[2:]
    ):
        raise ValueError(
            "features real [T, n, d] and fake [T, m, d] must agree in T and d, got "
            f"{list(real.shape)} and {list(fake.shape)}"
        )


def _check_neighbours(k: int, **features: Tensor) -> None:
    for name, rows in features.items():
        if rows.shape[1] <= k:
            raise ValueError(
                f"a {k}-th neighbour needs more than {k} {name} rows, got "
                f"{rows.shape[1]}; lower k, or draw more"
            )


def _check_images(**batches: Tensor) -> None:
    """Raise ValueError unless all [T, n, ...] batches agree in T and image shape."""
    if len({(len(b), *b.shape[2:]) for b in batches.values()}) != 1:
        shapes = ", ".join(f"{name} {list(b.shape)}" for name, b in batches.items())
        raise ValueError(
            f"batches [T, n, ...] must agree in T and in the image shape, got {shapes}"
        )
