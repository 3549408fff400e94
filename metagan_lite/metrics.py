"""How good are the samples? Pure functions of features, images and logits.

Every function takes a batch of tasks and returns one number per task, because the
tasks, not the images, are the independent observations: ``mean_and_error`` then gives
the mean and its standard error. No single number here can be trusted alone. Copying
the support scores well on ``kid`` and ``recognition_rate`` and is exposed only by
``memorisation_ratio``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .losses import unbiased_mmd2

__all__ = [
    "auc",
    "diversity_ratio",
    "kid",
    "mean_and_error",
    "memorisation_ratio",
    "polynomial_mmd2",
    "recognition_rate",
]


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean over tasks and its standard error, std / sqrt(T).

    Args:
        values: [T], one number per task, T ≥ 2.

    Raises:
        ValueError: fewer than two tasks, so no error can be estimated.
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"values must be [T] with T ≥ 2 tasks, got {list(values.shape)}; "
            "score more tasks"
        )
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


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


def memorisation_ratio(generated: Tensor, support: Tensor, query: Tensor) -> Tensor:
    """Mean distance to the nearest support image ÷ that to the nearest query image.

    1 = samples are as far from what they were shown as from unseen images of the same
    class (what real images score), 0 = copies of the support. Support and query are
    cut to the same number of images, because a nearest neighbour among more images
    is nearer.

    Args:
        generated: [T, n, ...] images, or features.
        support: [T, K, ...] what the networks were adapted on.
        query: [T, Q, ...] other images of the same class.

    Returns:
        [T], each ≥ 0.

    Raises:
        ValueError: shapes do not match, or all samples of a task are query images.
    """
    _check_images(generated=generated, support=support, query=query)
    count = min(support.shape[1], query.shape[1])

    def mean_nearest(others: Tensor) -> Tensor:
        # The default cdist subtracts large squares: a copy would not be at 0.
        distances = torch.cdist(
            generated.flatten(2),
            others[:, :count].flatten(2),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        return distances.amin(-1).mean(-1)  # [T, n, count] -> [T]

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


def _check_images(**batches: Tensor) -> None:
    """Raise ValueError unless all [T, n, ...] batches agree in T and image shape."""
    if len({(len(b), *b.shape[2:]) for b in batches.values()}) != 1:
        shapes = ", ".join(f"{name} {list(b.shape)}" for name, b in batches.items())
        raise ValueError(
            f"batches [T, n, ...] must agree in T and in the image shape, got {shapes}"
        )
