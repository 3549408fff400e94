"""What each player minimises: loss pairs, gradient penalties, and the MMD.

Every adversarial loss takes raw logits and is the mean over the *last* dimension, so
``[n]`` logits of one task give a scalar and ``[T, n]`` logits of T tasks give ``[T]``.
Both players minimise. d(x) is D's logit and D(x) = σ(d(x)) its probability of "real";
softplus(x) = log(1 + eˣ) = −log σ(−x).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "LOSSES",
    "cross_entropy",
    "discriminator_loss",
    "generator_loss",
    "gradient_penalty",
    "mmd_loss",
    "r1_penalty",
    "r2_penalty",
    "squared_error",
    "unbiased_mmd2",
    "value_function",
]

LOSSES = (
    "non-saturating",
    "saturating",
    "hinge",
    "least-squares",
    "wasserstein",
    "relativistic",
)


def check_kind(kind: str) -> None:
    """Raise a ValueError for a loss that is not one of :data:`LOSSES`."""
    if kind not in LOSSES:
        raise ValueError(f"expected a loss among {', '.join(LOSSES)}; got {kind!r}")


def value_function(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E[log D(x)] + E[log(1 − D(G(z)))].

    Source: Goodfellow et al. 2014, equation 1. D maximises it, G minimises it.

    Args:
        real_logits: D's logits of real samples, ``[..., n]``.
        fake_logits: D's logits of generated samples, ``[..., m]``.

    Returns:
        ``[...]``, in nats; at most 0.
    """
    return -F.softplus(-real_logits).mean(-1) - F.softplus(fake_logits).mean(-1)


def discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, kind: str = "non-saturating"
) -> Tensor:
    """L_D, what the discriminator minimises.

    ``non-saturating`` and ``saturating`` share L_D = −V (Goodfellow et al. 2014);
    ``hinge``: Lim & Ye 2017; ``least-squares``: Mao et al. 2017, equation 2 with labels
    0 and 1; ``wasserstein``: Arjovsky et al. 2017; ``relativistic``: the paired
    softplus(d(G(z)) − d(x)), Jolicoeur-Martineau 2019, which needs as many fakes as
    reals.

    Args:
        real_logits: ``[..., n]``. fake_logits: ``[..., m]``. kind: one of ``LOSSES``.

    Returns:
        ``[...]``, one value per leading index.

    Raises:
        ValueError: for an unknown kind, or unpaired relativistic batches.
    """
    check_kind(kind)
    real, fake = real_logits, fake_logits
    if kind == "hinge":
        return F.relu(1 - real).mean(-1) + F.relu(1 + fake).mean(-1)
    if kind == "least-squares":
        return ((real - 1).square().mean(-1) + fake.square().mean(-1)) / 2
    if kind == "wasserstein":
        return fake.mean(-1) - real.mean(-1)
    if kind == "relativistic":
        return F.softplus(_paired(fake, real)).mean(-1)
    return -value_function(real, fake)


def generator_loss(
    fake_logits: Tensor,
    kind: str = "non-saturating",
    real_logits: Tensor | None = None,
) -> Tensor:
    """L_G, what the generator minimises.

    ``non-saturating``: E[−log D(G(z))]; ``saturating``: E[log(1 − D(G(z)))]
    (Goodfellow et al. 2014, section 3); ``least-squares``: Mao et al. 2017, equation 2;
    ``hinge`` and ``wasserstein``: −E[d(G(z))]; ``relativistic``:
    E[softplus(d(x) − d(G(z)))], the only one that looks at real samples.

    Args:
        fake_logits: ``[..., m]``. kind: one of ``LOSSES``.
        real_logits: ``[..., m]``, for ``relativistic`` only.

    Returns:
        ``[...]``, one value per leading index.

    Raises:
        ValueError: for an unknown kind, or relativistic without paired real logits.
    """
    check_kind(kind)
    if kind == "saturating":
        return -F.softplus(fake_logits).mean(-1)
    if kind == "least-squares":
        return (fake_logits - 1).square().mean(-1) / 2
    if kind in ("hinge", "wasserstein"):
        return -fake_logits.mean(-1)
    if kind == "relativistic":
        return F.softplus(_paired(real_logits, fake_logits)).mean(-1)
    return F.softplus(-fake_logits).mean(-1)


def _paired(a: Tensor | None, b: Tensor | None) -> Tensor:
    if a is None or b is None or a.shape != b.shape:
        shapes = [None if t is None else list(t.shape) for t in (a, b)]
        raise ValueError(
            "the relativistic loss pairs real and fake logits: expected equal shapes,"
            f" got {shapes[0]} and {shapes[1]}; draw as many fakes as reals"
        )
    return a - b


def _squared_slopes(net: Callable[[Tensor], Tensor], x: Tensor, dims: int) -> Tensor:
    """‖∇ₓ net(x)‖² of each sample; ``dims`` trailing dimensions make one sample."""
    # torch.func takes the gradient of the net as a function, so this composes with
    # vmap and with the inner loop's own differentiation.
    slopes = torch.func.grad(lambda samples: net(samples).sum())(x)
    return slopes.square().flatten(x.dim() - dims).sum(-1)


def r1_penalty(
    net: Callable[[Tensor], Tensor], real: Tensor, sample_dims: int = 3
) -> Tensor:
    """R1 = E‖∇ₓd(x)‖² over real samples, one norm per *sample*.

    Source: Mescheder et al. 2018, equation 9, which has a factor γ/2 in front.

    Args:
        net: D, from ``[..., n, *S]`` to logits ``[..., n]``.
        real: ``[..., n, *S]``. sample_dims: how many trailing dimensions ``*S`` has.

    Returns:
        ``[...]``.
    """
    return _squared_slopes(net, real, sample_dims).mean(-1)


def r2_penalty(
    net: Callable[[Tensor], Tensor], fake: Tensor, sample_dims: int = 3
) -> Tensor:
    """R2: the penalty of :func:`r1_penalty` on generated samples.

    Source: Mescheder et al. 2018, equation 10.
    """
    return _squared_slopes(net, fake, sample_dims).mean(-1)


def gradient_penalty(
    net: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    mix: Tensor,
    sample_dims: int = 3,
) -> Tensor:
    """WGAN-GP: E(‖∇d(x̂)‖ − 1)² at x̂ = u·x + (1 − u)·G(z), one norm per *sample*.

    Source: Gulrajani et al. 2017, equation 3.

    Args:
        net: D. real, fake: ``[..., n, *S]``. mix: u in [0, 1], ``[..., n]``.
        sample_dims: how many trailing dimensions ``*S`` has.

    Returns:
        ``[...]``.
    """
    u = mix.reshape(*mix.shape, *[1] * sample_dims)
    squared = _squared_slopes(net, u * real + (1 - u) * fake, sample_dims)
    # √ has an infinite slope at 0; the floor keeps the penalty differentiable there.
    return (squared.clamp_min(1e-12).sqrt() - 1).square().mean(-1)


def mmd_loss(
    generated: Tensor, real: Tensor, scales: tuple[float, ...] = (0.1, 0.25, 0.5, 1, 2)
) -> Tensor:
    """Unbiased MMD² with Gaussian kernels of several widths.

    Source: Gretton et al. 2012, equation 3. The kernel is (2/L) Σ_s exp(−d²/(s·m)) over
    the L scales s, with m the mean squared distance between real samples, so the loss
    does not depend on the unit of the samples. (Real samples that all coincide have no
    scale; then m = 1.)

    Args:
        generated: ``[..., n, d]``, n ≥ 2. real: ``[..., m, d]``, m ≥ 2.

    Returns:
        ``[...]``; about 0 (and possibly negative) for equal distributions.
    """

    def squared_distances(x: Tensor, y: Tensor) -> Tensor:
        xx, yy = x.square().sum(-1), y.square().sum(-1)
        distances = xx.unsqueeze(-1) + yy.unsqueeze(-2) - 2 * x @ y.transpose(-1, -2)
        return distances.clamp_min(0)  # rounding can leave −1e-7 on the diagonal

    among_real = squared_distances(real, real)
    unit = among_real.mean((-2, -1), keepdim=True)
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))

    def kernel(distances: Tensor) -> Tensor:
        parts = [torch.exp(-distances / (scale * unit)) for scale in scales]
        return sum(parts) * (2 / len(scales))

    return unbiased_mmd2(
        kernel(squared_distances(generated, generated)),
        kernel(among_real),
        kernel(squared_distances(generated, real)),
    )


def unbiased_mmd2(k_xx: Tensor, k_yy: Tensor, k_xy: Tensor) -> Tensor:
    """The unbiased estimate of MMD² from kernel matrices.

    Source: Gretton et al. 2012, equation 3. A sample is not compared with itself: that
    would bias the estimate upwards. So it may be negative.

    Args:
        k_xx: ``[..., n, n]``. k_yy: ``[..., m, m]``. k_xy: ``[..., n, m]``.

    Returns:
        ``[...]``.

    Raises:
        ValueError: for n or m below 2.
    """
    n, m = k_xy.shape[-2:]
    if n < 2 or m < 2:
        raise ValueError(
            f"the unbiased MMD² needs at least 2 samples of each kind, got n={n} and"
            f" m={m}; draw more samples, or raise query_shots"
        )

    def mean_of_distinct_pairs(k: Tensor) -> Tensor:
        diagonal = k.diagonal(dim1=-2, dim2=-1).sum(-1)
        return (k.sum((-2, -1)) - diagonal) / (k.shape[-1] * (k.shape[-1] - 1))

    within = mean_of_distinct_pairs(k_xx) + mean_of_distinct_pairs(k_yy)
    return within - 2 * k_xy.mean((-2, -1))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean −log softmax(logits)[label].

    Args:
        logits: ``[..., n, classes]``. labels: ``[..., n]``, int64.

    Returns:
        ``[...]``, in nats.

    Raises:
        ValueError: for shapes that do not fit.
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"expected labels {list(logits.shape[:-1])} for logits"
            f" {list(logits.shape)}, got {list(labels.shape)}"
        )
    chosen = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1))
    return -chosen.squeeze(-1).mean(-1)


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error.

    Args:
        predictions, targets: ``[..., n, d]``.

    Returns:
        ``[...]``.

    Raises:
        ValueError: for shapes that do not fit; they would broadcast to a wrong loss.
    """
    if predictions.shape != targets.shape or predictions.dim() < 2:
        raise ValueError(
            f"expected predictions and targets of one shape [..., n, d], got"
            f" {list(predictions.shape)} and {list(targets.shape)}; add a dimension to"
            " the targets, or end the net with Linear(…, d)"
        )
    return (predictions - targets).square().mean((-2, -1))
