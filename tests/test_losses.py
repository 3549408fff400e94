import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metagan_lite import losses
from metagan_lite.losses import discriminator_loss, generator_loss, value_function

REAL = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
FAKE = torch.tensor([-0.7, 0.4, 1.1], dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean(function, *lists):
    rows = list(zip(*(v.tolist() for v in lists)))
    return sum(function(*row) for row in rows) / len(rows)


# Each loss again, written as its paper writes it, one number at a time.
BY_HAND = {
    "saturating": (
        lambda: (
            -mean(lambda r: math.log(sigmoid(r)), REAL)
            - mean(lambda f: math.log(1 - sigmoid(f)), FAKE)
        ),
        lambda: mean(lambda f: math.log(1 - sigmoid(f)), FAKE),
    ),
    "non-saturating": (
        lambda: (
            -mean(lambda r: math.log(sigmoid(r)), REAL)
            - mean(lambda f: math.log(1 - sigmoid(f)), FAKE)
        ),
        lambda: -mean(lambda f: math.log(sigmoid(f)), FAKE),
    ),
    "hinge": (
        lambda: (
            mean(lambda r: max(0, 1 - r), REAL) + mean(lambda f: max(0, 1 + f), FAKE)
        ),
        lambda: -mean(lambda f: f, FAKE),
    ),
    "least-squares": (
        lambda: mean(lambda r: (r - 1) ** 2, REAL) / 2 + mean(lambda f: f**2, FAKE) / 2,
        lambda: mean(lambda f: (f - 1) ** 2, FAKE) / 2,
    ),
    "wasserstein": (
        lambda: mean(lambda f: f, FAKE) - mean(lambda r: r, REAL),
        lambda: -mean(lambda f: f, FAKE),
    ),
    "relativistic": (
        lambda: mean(lambda r, f: -math.log(sigmoid(r - f)), REAL, FAKE),
        lambda: mean(lambda r, f: -math.log(sigmoid(f - r)), REAL, FAKE),
    ),
}


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_losses_are_the_papers(kind):
    of_d, of_g = BY_HAND[kind]
    got_d = discriminator_loss(REAL, FAKE, kind).item()
    got_g = generator_loss(FAKE, kind, REAL).item()
    assert got_d == pytest.approx(of_d(), rel=1e-12)
    assert got_g == pytest.approx(of_g(), rel=1e-12)


def test_value_function_by_hand_and_at_the_optimum():
    by_hand = mean(lambda r: math.log(sigmoid(r)), REAL) + mean(
        lambda f: math.log(1 - sigmoid(f)), FAKE
    )
    assert value_function(REAL, FAKE).item() == pytest.approx(by_hand, rel=1e-12)
    zero = torch.zeros(5)  # D = 1/2 everywhere
    assert value_function(zero, zero).item() == pytest.approx(-math.log(4), rel=1e-6)


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_leading_dimensions_are_tasks(kind):
    real, fake = torch.randn(2, 4, 3, 7, dtype=torch.float64)
    stacked = [discriminator_loss(real, fake, kind), generator_loss(fake, kind, real)]
    each = [
        torch.stack([discriminator_loss(r, f, kind) for r, f in zip(real[0], fake[0])]),
        torch.stack([generator_loss(f, kind, r) for r, f in zip(real[0], fake[0])]),
    ]
    assert stacked[0].shape == (4, 3)
    torch.testing.assert_close([s[0] for s in stacked], each)


@pytest.mark.parametrize("kind", ["saturating", "non-saturating", "relativistic"])
@pytest.mark.parametrize("logit", [-200.0, -17.0, 17.0, 200.0])
def test_extreme_logits_stay_finite(kind, logit):
    # log(1 − sigmoid(17)) is −inf in float32: the article's listing dies of it.
    fake = torch.full((2,), logit, requires_grad=True)
    real = torch.full((2,), -logit, requires_grad=True)
    loss = discriminator_loss(real, fake, kind) + generator_loss(fake, kind, real)
    slopes = torch.autograd.grad(loss, (real, fake))
    assert loss.isfinite() and all(s.isfinite().all() for s in slopes)


def test_unknown_and_unpaired_losses():
    with pytest.raises(ValueError, match="hinge.*got 'hings'"):
        discriminator_loss(REAL, FAKE, "hings")
    with pytest.raises(ValueError, match=r"\[2\].*\[3\].*as many fakes"):
        discriminator_loss(REAL, FAKE[:2], "relativistic")
    with pytest.raises(ValueError, match="None"):
        generator_loss(FAKE, "relativistic")


# --- penalties ----------------------------------------------------------------


def quadratic(a):
    """D(x) = ½ xᵀ A x, whose slope is A x for a symmetric A."""
    return lambda x: 0.5 * torch.einsum("...i,ij,...j->...", x, a, x)


def test_penalties_in_closed_form():
    torch.manual_seed(0)
    a = torch.randn(4, 4, dtype=torch.float64)
    a = a + a.T
    real, fake = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    squared = (real @ a).square().sum(-1)
    got = losses.r1_penalty(quadratic(a), real, sample_dims=1)
    torch.testing.assert_close(got, squared.mean(-1))
    got = losses.r2_penalty(quadratic(a), fake, sample_dims=1)
    torch.testing.assert_close(got, (fake @ a).square().sum(-1).mean(-1))
    mix = torch.rand(3, 5, dtype=torch.float64)
    between = mix[..., None] * real + (1 - mix[..., None]) * fake
    norms = (between @ a).norm(dim=-1)
    got = losses.gradient_penalty(quadratic(a), real, fake, mix, sample_dims=1)
    torch.testing.assert_close(got, (norms - 1).square().mean(-1))


def test_penalties_take_one_norm_per_sample():
    # Per-pixel norms (FIGR's code) or one norm of the batch do not give 1·2·2·9 = 36.
    net = lambda x: 3 * x.flatten(1).sum(1)  # noqa: E731
    penalty = losses.r1_penalty(net, torch.randn(5, 1, 2, 2))
    assert penalty.item() == pytest.approx(36, rel=1e-6)


def test_penalty_reaches_the_weights():
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    penalty = losses.r1_penalty(lambda x: x @ weight, torch.randn(3, 2).double(), 1)
    (slope,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(slope, 2 * weight.detach())


# --- MMD ----------------------------------------------------------------------


def test_mmd_by_brute_force():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3)) + 0.5
    between = np.array([[((a - b) ** 2).sum() for b in y] for a in x])
    among = np.array([[((a - b) ** 2).sum() for b in y] for a in y])
    scales = (0.1, 0.25, 0.5, 1, 2)

    def kernel(d2):
        return 2 / 5 * sum(np.exp(-d2 / (s * among.mean())) for s in scales)

    def distinct(points):
        n = len(points)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        values = [kernel(((points[i] - points[j]) ** 2).sum()) for i, j in pairs]
        return np.mean(values)

    expected = distinct(x) + distinct(y) - 2 * kernel(between).mean()
    got = losses.mmd_loss(torch.tensor(x), torch.tensor(y)).item()
    assert got == pytest.approx(expected, rel=1e-10)


def test_mmd_is_zero_on_average_for_equal_distributions_and_not_for_others():
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 400, 12, 6, generator=random, dtype=torch.float64)
    null = losses.mmd_loss(x, y)
    error = null.std() / 20
    assert abs(null.mean()) < 4 * error
    assert losses.mmd_loss(x, y + 1).mean() > 20 * error


# --- one player ---------------------------------------------------------------


def test_shapes_that_would_broadcast_to_a_wrong_loss_are_refused():
    with pytest.raises(ValueError, match=r"\[6, 1\] and \[6\]"):
        losses.squared_error(torch.zeros(6, 1), torch.zeros(6))
    with pytest.raises(ValueError, match=r"labels \[6\].*got \[6, 1\]"):
        losses.cross_entropy(torch.zeros(6, 3), torch.zeros(6, 1, dtype=torch.int64))


def test_supervised_losses_against_torch():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 6, 3).double(), torch.randint(3, (4, 6))
    expected = torch.stack([F.cross_entropy(*row) for row in zip(logits, labels)])
    torch.testing.assert_close(losses.cross_entropy(logits, labels), expected)
    y, target = torch.randn(2, 4, 6, 2).double()
    expected = torch.stack([F.mse_loss(*row) for row in zip(y, target)])
    torch.testing.assert_close(losses.squared_error(y, target), expected)
