"""Checks of chapter 1's exercises: the adversarial game."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import value_function
from . import Answer, exercise, same


def _numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _shown(value: object) -> str:
    """What came, for a message: numbers with four digits."""
    try:
        numbers = torch.as_tensor(value).detach().flatten().tolist()
    except (TypeError, ValueError, RuntimeError):
        return f"`{type(value).__name__}`"
    shown = ", ".join(f"{number:.4g}" for number in numbers[:4])
    return shown + (", …" if len(numbers) > 4 else "")


# --- 1.1 and 1.2: the discriminator and the value -------------------------------


@exercise("1.1", function="optimal_discriminator")
def _(answer: Answer) -> str:
    """Two densities → D*."""
    for p, q in (
        (_numbers(0.2, 0.5, 0.9), _numbers(0.6, 0.1, 0.4)),
        (_numbers(3.0, 0.01), _numbers(0.7, 1.2)),
    ):
        got = answer(p, q)
        answer.mistake(
            "swapped",
            same(got, q / (p + q)),
            "This is the probability that $x$ was *generated*. The numerator belongs "
            "to the density of the data.",
        )
        answer.mistake(
            "odds",
            same(got, p / q),
            "$p/q$ is how many times likelier real is than generated: the odds, which "
            "may exceed 1. A probability is a share of the whole.",
        )
        answer.mistake(
            "logit",
            same(got, p.log() - q.log()),
            "This is the logit $d^*$. Its sigmoid is $D^*$.",
        )
        answer.expect(
            same(got, p / (p + q)),
            f"At p = {p[0]:g}, q = {q[0]:g} expected {p[0] / (p[0] + q[0]):.4g}, got "
            f"{_shown(got)}.",
        )
    return "$D^* = p/(p + q)$: where the densities are equal it is one half."


@exercise("1.2", function="value_from_logits")
def _(answer: Answer) -> str:
    """Logits of real and generated samples → V, one for each row."""
    real = torch.tensor([[0.3, -1.2, 2.0, 0.9], [1.5, 0.2, -0.4, 3.1]])
    fake = torch.tensor([[-0.7, 0.4, -2.1], [0.8, -1.9, 0.1]])
    log_real, log_fake = F.softplus(-real), F.softplus(fake)
    got = answer(real, fake)
    right = value_function(real, fake)
    answer.mistake(
        "loss",
        same(got, -right, 1e-5),
        "This is $L_D = -V$. The value is what $D$ maximises, and is never positive.",
    )
    answer.mistake(
        "base-2",
        same(got, right / math.log(2), 1e-5),
        "These are bits. The book's logarithms are natural, so that an undecided "
        "discriminator scores $-\\log 4$.",
    )
    answer.mistake(
        "same-label",
        same(got, -log_real.mean(-1) - F.softplus(-fake).mean(-1), 1e-5),
        "Generated samples are scored by $\\log D$ here, as though they were real. "
        "Their score is $\\log(1 - D) = -\\mathrm{softplus}(d)$.",
    )
    answer.mistake(
        "all-rows",
        same(got, -log_real.mean() - log_fake.mean(), 1e-5),
        "This averages over everything. Each row is a game of its own: average over "
        "the last dimension only.",
    )
    answer.mistake(
        "sum",
        same(got, -log_real.sum(-1) - log_fake.sum(-1), 1e-5),
        "An expectation is a mean, and not a sum: with more samples the value must not "
        "grow.",
    )
    answer.expect(
        same(got, right, 1e-5),
        f"Expected {_shown(right)} for two rows of logits, got {_shown(got)}.",
    )

    # Large logits, of both signs, in float32; and what a step of training needs.
    real = torch.tensor([[-120.0, 30.0, -20.0]], requires_grad=True)
    fake = torch.tensor([[25.0, -150.0, 110.0]], requires_grad=True)
    got, right = answer(real, fake), value_function(real, fake)
    answer.mistake(
        "overflow",
        not torch.as_tensor(got).isfinite().all(),
        f"For logits of 25 and more this is {_shown(got)}: in float32 the sigmoid "
        "rounds to 1, and the logarithm of 0 is $-\\infty$. Equation (1.7) avoids "
        "both.",
    )
    answer.mistake(
        "clamped",
        not same(got, right, 1e-4),
        f"For large logits expected {_shown(right)}, got {_shown(got)}. A constant "
        "inside the logarithm, or a clamp, hides the infinity and changes the value.",
    )
    slopes = torch.autograd.grad(got.sum(), (real, fake))
    right = torch.autograd.grad(right.sum(), (real, fake))
    answer.expect(
        same(slopes, right, 1e-5),
        "The value is right and its gradient is not: expected "
        f"{_shown(torch.cat(right, -1))}, got {_shown(torch.cat(slopes, -1))}.",
    )
    return "Two softplus, and no logit is too large."


# --- 1.3: JSD of samples --------------------------------------------------------


def _histograms(real: Tensor, fake: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    def share(samples: Tensor) -> Tensor:
        inside = (samples[:, None] >= edges[:-1]) & (samples[:, None] < edges[1:])
        return inside.double().mean(0)

    return share(real), share(fake)


def _kl(a: Tensor, b: Tensor) -> Tensor:
    """Bins where a is 0 count 0."""
    return (torch.xlogy(a, a) - torch.xlogy(a, b)).sum()


@exercise("1.3", function="jsd_from_samples")
def _(answer: Answer) -> str:
    """Real samples, generated samples, edges of bins → JSD in nats."""
    rng = torch.Generator().manual_seed(5)
    even = torch.linspace(-6, 6, 13, dtype=torch.float64)
    normal = lambda n: torch.randn(n, generator=rng, dtype=torch.float64).clamp(-5, 5)
    # The first pair has a sample in each bin, so that other mistakes are seen first.
    centres = (even[:-1] + even[1:]) / 2
    full = torch.cat([normal(400), centres])
    skew = torch.cat([0.5 * normal(300) + 1, centres])
    # Bins of different width, and samples that lie on their edges.
    uneven = _numbers(-6, -3, -1, -0.5, 0, 0.25, 1, 2.5, 6)
    on_edges = uneven[1:-1].repeat_interleave(torch.arange(5, 75, 10))
    hint = " Here the bins differ in width, and some samples lie on an edge."
    for real, fake, edges, note in (
        (full, skew, even, ""),
        (normal(500), 0.6 * normal(200) + 0.8, even, ""),
        (torch.cat([normal(100), on_edges]), normal(150), uneven, hint),
    ):
        p, q = _histograms(real, fake, edges)
        m = (p + q) / 2
        right = (_kl(p, m) + _kl(q, m)) / 2
        got = answer(real, fake, edges)
        answer.mistake(
            "empty-bins",
            not torch.as_tensor(got).isfinite().all(),
            f"This is {_shown(got)}: an empty bin gives $0 \\cdot \\log 0$, which "
            "counts as 0. `torch.xlogy` knows that.",
        )
        answer.mistake(
            "base-2",
            same(got, right / math.log(2)),
            "These are bits. In nats the JSD is at most $\\log 2$, in bits at most 1.",
        )
        answer.mistake(
            "missing-half",
            same(got, 2 * right),
            "This is twice the JSD: the definition has $\\tfrac12$ before each KL.",
        )
        answer.mistake(
            "mixture-sum",
            same(got, right - math.log(2)),
            "A JSD is never negative. The mixture is $\\bar p = (p + q)/2$; without "
            "the half it is no distribution.",
        )
        answer.mistake(
            "kl",
            same(got, _kl(p, m)) or same(got, _kl(q, m)),
            "This is the KL of *one* histogram from the mixture. JSD is the mean of "
            "two.",
        )
        n, k = p * len(real), q * len(fake)
        answer.mistake(
            "counts",
            same(got, (_kl(n, (n + k) / 2) + _kl(k, (n + k) / 2)) / 2),
            "These are counts. Divide each histogram by its own number of samples: the "
            "two numbers differ.",
        )
        answer.expect(
            same(got, right), f"Expected {right:.4f} nats, got {_shown(got)}.{note}"
        )
    return (
        "Nats, two halves, and empty bins count 0. With few samples a bin it is biased "
        "upwards: even two samples of one law get a positive JSD."
    )


# --- 1.4 and 1.5: what a generator follows --------------------------------------


@exercise("1.4", function="generator_slopes")
def _(answer: Answer) -> str:
    """Logits → slopes of the saturating and of the non-saturating loss in them."""
    for logits in (_numbers(-3.0, 0.4, 1.7), _numbers(-0.2, 5.0)):
        D = logits.sigmoid()
        got = answer(logits)
        right = (-D, -(1 - D))
        answer.mistake(
            "swapped",
            same(got, right[::-1]),
            "The two are in the wrong order. The loss that is silent when $D$ is near "
            "0 is the saturating one.",
        )
        answer.mistake(
            "sign",
            same(got, (D, 1 - D)),
            "The sign: both losses *fall* when the logit rises, since both players "
            "minimise.",
        )
        answer.mistake(
            "slope-in-D",
            same(got, (-1 / (1 - D), -1 / D)),
            "These are the slopes in $D$. In the logit there is a factor $\\sigma' = "
            "D(1 - D)$ more, by the chain rule.",
        )
        answer.mistake(
            "averaged",
            same(got, tuple(slope / len(D) for slope in right)),
            "These are slopes of the *mean* loss, smaller by the number of samples. "
            "What is asked for is how much each sample counts by itself.",
        )
        answer.expect(
            same(got, right),
            f"At a logit of {logits[0]:g} expected {right[0][0]:.4f} and "
            f"{right[1][0]:.4f}, got {_shown(got[0])} and {_shown(got[1])}.",
        )
    return "$-D$ and $-(1 - D)$ add up to $-1$: one is loud where the other is not."


def _game_gradient(
    theta: Tensor,
    z: Tensor,
    weights: Tensor,
    *,
    hold: bool = True,
    saturating: bool = True,
    one_path: bool = False,
) -> Tensor:
    """The gradient of a generator loss at D* in (a, w)."""
    theta = theta.detach().clone().requires_grad_()
    generated = theta[0] + theta[1] * z
    centre, width = theta.detach() if hold else theta
    if one_path:  # the samples are constants, and D* moves
        generated = generated.detach()
    logits = (
        ((generated - centre) / width) ** 2 / 2 + torch.log(width) - generated**2 / 2
    )
    loss = -F.softplus(logits) if saturating else F.softplus(-logits)
    return torch.autograd.grad((weights * loss).sum(), theta)[0]


@exercise("1.5", function="saturating_gradient")
def _(answer: Answer) -> str:
    """(a, w), a grid of z, its weights → the gradient of L_G at D*."""
    z = torch.linspace(-8, 8, 801, dtype=torch.float64)
    weights = torch.exp(-z.square() / 2)
    weights = weights / weights.sum()
    for theta in (_numbers(1.4, 0.7), _numbers(-0.8, 1.6)):
        got = answer(theta, z, weights)
        right = _game_gradient(theta, z, weights)
        answer.mistake(
            "not-detached",
            same(got, _game_gradient(theta, z, weights, hold=False)),
            "$D^*$ moves with $\\theta$ here. The envelope theorem is about the whole "
            "value: in $L_G$ alone the motion of $D^*$ does not drop out. Compute "
            "$D^*$ from `theta.detach()`.",
        )
        answer.mistake(
            "samples-detached",
            same(got, _game_gradient(theta, z, weights, hold=False, one_path=True)),
            "The wrong one is held fixed: the samples are constants here and $D^*$ "
            "moves. The generator learns through its samples.",
        )
        answer.mistake(
            "sign",
            same(got, -right),
            "The sign: $L_G = \\mathbb E[\\log(1 - D)]$ is what the generator "
            "*minimises*, and $\\log(1 - D) = -\\mathrm{softplus}(d)$.",
        )
        answer.mistake(
            "non-saturating",
            same(got, _game_gradient(theta, z, weights, saturating=False)),
            "This is the gradient of $-\\log D$, the non-saturating loss.",
        )
        uniform = torch.full_like(weights, 1 / len(z))
        answer.mistake(
            "unweighted",
            same(got, _game_gradient(theta, z, uniform)),
            "A plain mean over the grid treats every $z$ as equally likely. The "
            "expectation needs the weights.",
        )
        answer.expect(
            same(got, right),
            f"At theta = ({_shown(theta)}) expected ({_shown(right)}), got "
            f"({_shown(got)}).",
        )
    return "By (1.3) this is the gradient of 2 JSD, though no JSD was computed."


# --- 1.6: another loss ----------------------------------------------------------


@exercise("1.6", function="least_squares_game")
def _(answer: Answer) -> str:
    """Densities on a grid → the best output, and the divergence in the best loss."""
    x = torch.linspace(-9, 9, 601, dtype=torch.float64)
    dx = (x[1] - x[0]).item()
    normal = lambda mean, scale: (
        torch.exp(-(((x - mean) / scale) ** 2) / 2) / (scale * math.sqrt(2 * math.pi))
    )
    for p, q in (
        (normal(0.0, 1.0), normal(1.1, 0.7)),
        (normal(0.5, 1.4), normal(-0.6, 0.9)),
    ):
        best, divergence = answer(p, q, dx)
        share, gap, m = p / (p + q), (p - q) ** 2, (p + q) / 2
        right = (gap / (p + q)).sum() * dx / 2
        answer.mistake(
            "logit",
            same(best, p.log() - q.log()),
            "This is the best logit of the cross-entropy. Here no sigmoid is between "
            "$d$ and the loss: set the derivative of $p(d - 1)^2 + q d^2$ to zero.",
        )
        answer.mistake(
            "swapped",
            same(best, q / (p + q)),
            "Real samples are to get 1 and generated ones 0, so $d^*$ is near 1 where "
            "the data is.",
        )
        answer.expect(
            same(best, share),
            f"Expected d* = {share[300]:.4f} in the middle of the grid, got "
            f"{_shown(torch.as_tensor(best)[300])}.",
        )
        answer.mistake(
            "loss-itself",
            same(divergence, (1 - right) / 4),
            "This is the smallest loss. It is *largest* for equal densities. Write it "
            "as $\\tfrac14(1 - \\chi^2)$ and return $\\chi^2$.",
        )
        answer.mistake(
            "missing-half",
            same(divergence, 2 * right),
            "This is $\\int (p - q)^2/(p + q)$, twice the divergence: for densities "
            "that do not overlap it is 2, and $\\chi^2$ is to be 1.",
        )
        answer.mistake(
            "pearson",
            any(same(divergence, (gap / other).sum() * dx) for other in (p, q)),
            "This compares $p$ and $q$ with each other. The loss compares each with "
            "the mixture, and is bounded; this is not.",
        )
        answer.mistake(
            "jsd",
            same(divergence, (p * (p / m).log() + q * (q / m).log()).sum() * dx / 2),
            "That is the JSD, the divergence of the cross-entropy. Put $d^*$ into the "
            "*squared* error.",
        )
        answer.expect(
            same(divergence, right),
            f"d* is right. Expected a divergence of {right:.4f}, got "
            f"{_shown(divergence)}.",
        )
    return (
        "The same $D^*$, another divergence: $\\chi^2$ of each density from the "
        "mixture of both, between 0 and 1."
    )
