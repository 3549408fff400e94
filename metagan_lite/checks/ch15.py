"""Checks of chapter 15's exercises."""

from __future__ import annotations

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..worth import Worth
from . import Answer, exercise, same

F64 = torch.float64


def _normal(*shape: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=F64)


@exercise("15.1", function="n_plus_one")
def _(answer: Answer) -> str:
    """Logits [n, N] → probabilities [n, N + 1]."""
    examples = [torch.tensor([[0.3, -1.0, 2.0], [-0.5, 0.4, -2.0]], dtype=F64)]
    examples += [2 * _normal(4, 5, seed=1)]
    for f in examples:
        n, N = f.shape
        e = f.exp()
        right = torch.cat([e, torch.ones(n, 1, dtype=F64)], 1)
        right = right / right.sum(1, keepdim=True)
        got = answer(f)
        answer.mistake(
            "no_generated",
            same(got, f.softmax(1)),
            "These are N probabilities that sum to one: nothing is left for"
            " *generated*. Its logit is 0, so $e^0 = 1$ belongs below the line.",
        )
        answer.mistake(
            "probability_zero",
            same(got, F.pad(f.softmax(1), (0, 1))),
            "A logit of 0 is not a probability of 0: $e^0 = 1$.",
        )
        answer.mistake(
            "generated_first",
            same(got, torch.cat([right[:, N:], right[:, :N]], 1)),
            "The right numbers, but *generated* is asked for in the last place.",
        )
        real = f.amax(1, keepdim=True).sigmoid()
        answer.mistake(
            "largest_logit",
            same(got, torch.cat([real * f.softmax(1), 1 - real], 1)),
            "The logit of *real* is the log-sum-exp of all classes, not the largest of"
            " them: two classes that are both likely make *real* more likely.",
        )
        mean = f.mean(1, keepdim=True).sigmoid()
        answer.mistake(
            "mean_logit",
            same(got, torch.cat([mean * f.softmax(1), 1 - mean], 1)),
            "The logit of *real* is the log-sum-exp, not the mean of the logits.",
        )
        answer.mistake(
            "zero_after_shift",
            any(
                same(got, F.pad(f - top, (0, 1)).softmax(1))
                for top in (f.max(), f.amax(1, keepdim=True))
            ),
            "The largest logit was taken off *before* the zero was put in: the 0 has"
            " to be among the logits when they are shifted.",
        )
        answer.mistake(
            "log_probabilities",
            same(got, right.log()),
            "These are the *logarithms* of the probabilities.",
        )
        answer.expect(
            same(got, right),
            f"The first row of logits {f[0].tolist()} gives"
            f" {right[0].round(decimals=3).tolist()}.",
        )
    large = torch.tensor([[1000.0, 999.0], [-1000.0, -1000.0]], dtype=F64)
    got = answer(large)
    answer.mistake(
        "overflow",
        isinstance(got, Tensor) and not got.isfinite().all(),
        "At a logit of 1000 there is a NaN: $e^{1000}$ is infinite. A softmax over"
        " N + 1 logits, the last of them 0, subtracts the largest first.",
    )
    right = F.pad(large, (0, 1)).softmax(1)
    answer.expect(same(got, right), f"{large.tolist()} gives {right.tolist()}.")
    return "N logits hold N + 1 probabilities, and a discriminator among them."


@exercise("15.2", function="worth_in_images")
def _(answer: Answer) -> str:
    """K, error, copy, own → images."""
    cases = [(4, 1.5, 0.3, 1.1), (1, 6.0, -0.2, 8.0), (10, 0.7, 0.8, 0.05)]
    for K, real, copy, own in cases:
        w = Worth(K, real, copy, own)
        got = answer(K, real, copy, own)
        got = got.item() if isinstance(got, Tensor) else got
        at = f"At K = {K}, e_real = {real}, copy = {copy}, e_own = {own}"
        answer.mistake(
            "not_squared",
            same(got, K * (1 - copy) * real / own),
            f"{at} the factor $1 - \\mathrm{{copy}}$ is missing once: it is squared.",
        )
        answer.mistake(
            "copy_itself",
            same(got, K * copy**2 * real / own),
            "What the samples repeat is worth nothing. What counts is the rest,"
            " $1 - \\mathrm{copy}$.",
        )
        answer.mistake(
            "forgot_shots",
            same(got, (1 - copy) ** 2 * real / own) and K > 1,
            "This is in units of K images. The variance of *one* image is"
            " $w^2 = K e_{\\text{real}}$.",
        )
        answer.mistake(
            "total",
            same(got, K + w.images),
            "These are all images, the K real ones among them. The worth is what the"
            " samples add.",
        )
        answer.mistake(
            "upside_down",
            same(got, own / (K * (1 - copy) ** 2 * real)),
            "Upside down: samples with a larger error of their own are worth less.",
        )
        answer.mistake(
            "square_of_copy",
            same(got, K * (1 - copy**2) * real / own),
            "The whole of $1 - \\mathrm{copy}$ is squared, not $\\mathrm{copy}$ alone.",
        )
        answer.mistake(
            "weight_capped",
            w.best_mix > 1 and same(got, K * (real / w.error(1.0) - 1)),
            f"{at} the best weight is {w.best_mix:.2f}, and you have cut it to 1. Above"
            " 1 it takes a part of the images' own mean off again, and (15.8) counts"
            " that.",
        )
        answer.expect(same(got, w.images), f"{at} expected {w.images:.4g}, got {got}.")
    for copy in (1.0, 1.4):
        got = answer(5, 2.0, copy, 0.5)
        got = got.item() if isinstance(got, Tensor) else got
        answer.mistake(
            "negative_weight",
            copy > 1 and same(got, 5 * (1 - copy) ** 2 * 2.0 / 0.5),
            "With copy above 1 this is what a *negative* weight would save. Nobody"
            " trains on samples with a negative weight: the worth is 0.",
        )
        answer.expect(same(got, 0.0), f"At copy = {copy} the worth is 0, got {got}.")
    return "$w^2 (1 - \\mathrm{copy})^2 / e_{\\text{own}}$, and nothing from copy 1 on."


@exercise("15.3", function="largest_outer_rate")
def _(answer: Answer) -> str:
    """S, α → the bound on β, simultaneous inner steps."""
    for steps, alpha in ((2, 0.3), (5, 0.3), (1, 0.4), (7, 0.25), (3, 0.9), (16, 0.4)):
        turned = complex(1, alpha) ** steps
        right = max(0.0, 2 * (1 - turned.real) / abs(1 - turned) ** 2)
        chi, size = math.atan(alpha), abs(turned)
        got = answer(steps, alpha)
        got = got.item() if isinstance(got, Tensor) else got
        at = f"At S = {steps}, α = {alpha}"
        # |λ|^S cos χ is never below one, so that a bound which is cut at 0 hides it.
        # Two steps *back* show it.
        flat = 2 * (1 - size * math.cos(chi)) / (1 - 2 * size * math.cos(chi) + size**2)
        hidden = None
        if same(got, 0.0) and right > 1e-6:
            with contextlib.suppress(Exception):
                hidden = answer.function(-2, alpha)
        short = math.hypot(1, alpha) ** -2 * math.cos(chi)
        back = 2 * (1 - short) / (1 - 2 * short + math.hypot(1, alpha) ** -4)
        answer.mistake(
            "angle_of_one_step",
            same(hidden, back) or (same(got, flat) and abs(got - right) > 1e-6),
            "The angle is that of all steps, $S\\chi$ and not $\\chi$:"
            " $|\\lambda|^S \\cos S\\chi$.",
        )
        answer.mistake(
            "inner_loop",
            same(got, 0.0) and right > 1e-6,
            f"{at} there are rates at which Reptile settles, and 0 says there are none."
            " It is the *inner* loop that never comes in; Reptile's start goes a part"
            " of the way back and cuts across the circle.",
        )
        distance = 2 * (1 - turned.real) / abs(1 - turned)
        answer.mistake(
            "distance_not_squared",
            same(got, max(0.0, distance)) and abs(got - right) > 1e-6,
            "Below the line is the *square* of the distance,"
            " $1 - 2 |\\lambda|^S \\cos S\\chi + |\\lambda|^{2S}$.",
        )
        answer.mistake(
            "half",
            same(got, right / 2) and right > 1e-6,
            "This is the rate at which Reptile settles fastest. It still settles up to"
            " twice that: there is a 2 above the line.",
        )
        rootless = size**2 * math.cos(steps * chi)
        answer.mistake(
            "no_root",
            same(got, max(0.0, 2 * (1 - rootless) / (1 - 2 * rootless + size**4)))
            and abs(got - right) > 1e-6,
            "A step stretches by $|\\lambda| = \\sqrt{1 + \\alpha^2}$. The root is"
            " missing.",
        )
        answer.mistake(
            "alternating",
            same(got, 1.0) and abs(right - 1) > 1e-6,
            "One is the bound of *alternating* inner steps, for which"
            " $|\\lambda| = 1$. Here both players move at once.",
        )
        cos = math.cos(steps * chi)
        answer.mistake(
            "no_stretch",
            same(got, 2 * (1 - cos) / (1 - 2 * cos + size**2))
            and abs(got - right) > 1e-6,
            "The stretch is missing beside the cosine: $|\\lambda|^S \\cos S\\chi$.",
        )
        one_step = 2 * (1 - (1 + alpha**2) ** 0.5 * cos)
        below = 1 - 2 * (1 + alpha**2) ** 0.5 * cos + 1 + alpha**2
        answer.mistake(
            "one_steps_stretch",
            same(got, max(0.0, one_step / below)) and abs(got - right) > 1e-6,
            "The stretch of *one* step. After S of them it is $|\\lambda|^S$.",
        )
        slow = math.hypot(1, alpha) ** steps * math.cos(steps * alpha)
        wide = 2 * (1 - slow) / (1 - 2 * slow + size**2)
        answer.mistake(
            "angle_is_alpha",
            same(got, max(0.0, wide)) and abs(got - right) > 1e-6,
            "A step turns by $\\arctan\\alpha$, not by $\\alpha$.",
        )
        answer.mistake(
            "negative",
            isinstance(got, float) and right == 0 and got < -1e-6,
            f"{at} this is negative. No β above 0 settles there: return 0.",
        )
        answer.expect(same(got, right), f"{at} expected {right:.4f}, got {got}.")
    return "One simultaneous step never settles; two do, for β below about one half."


@exercise("15.4", function="classifier_loss")
def _(answer: Answer) -> str:
    """Logits of real, labels, logits of fakes, weight → MetaGAN's loss."""
    cases = [(_normal(6, 3, seed=2), _normal(4, 3, seed=3) + 0.4, 0.7)]
    cases += [(2 * _normal(5, 4, seed=4), _normal(9, 4, seed=5), 1.6)]
    for f, fakes, weight in cases:
        n, N = f.shape
        labels = torch.arange(n) % N
        p, pf = (F.pad(x, (0, 1)).log_softmax(1) for x in (f, fakes))
        entropy = -f.log_softmax(1)[range(n), labels].mean()
        real, fake = -p[:, :N].logsumexp(1).mean(), -pf[:, N].mean()
        right = entropy + weight * (real + fake)
        got = answer(f, labels, fakes, weight)
        answer.mistake(
            "labels_among_all",
            same(got, -p[range(n), labels].mean() + weight * (real + fake)),
            "Your labels compete with *generated* as well, so that the real term is"
            " counted twice. The cross-entropy is among the N real classes.",
        )
        answer.mistake(
            "no_real_term",
            same(got, entropy + weight * fake),
            "A discriminator has two terms: the real images should be called real.",
        )
        answer.mistake(
            "fakes_called_real",
            same(got, entropy + weight * (real - pf[:, :N].logsumexp(1).mean())),
            "This pays the classifier for taking fakes for real: that is the"
            " *generator's* loss.",
        )
        d, df = f.mean(1), fakes.mean(1)
        mean = F.softplus(-d).mean() + F.softplus(df).mean()
        answer.mistake(
            "mean_logit",
            same(got, entropy + weight * mean),
            "The logit of *real* is the log-sum-exp of the logits, not their mean.",
        )
        answer.mistake(
            "all_weighted",
            same(got, weight * (entropy + real + fake)),
            "The weight is that of the discriminator's terms alone. At weight 0 the"
            " labels remain.",
        )
        d, df = f.amax(1), fakes.amax(1)
        largest = F.softplus(-d).mean() + F.softplus(df).mean()
        answer.mistake(
            "largest_logit",
            same(got, entropy + weight * largest),
            "The logit of *real* is the log-sum-exp of the logits, not the largest of"
            " them.",
        )
        swapped = -p[:, N].mean() - pf[:, :N].logsumexp(1).mean()
        answer.mistake(
            "both_swapped",
            same(got, entropy + weight * swapped),
            "Both terms pay for the wrong answer: real images called generated, and"
            " fakes called real.",
        )
        answer.mistake(
            "fakes_alone_weighted",
            same(got, entropy + real + weight * fake),
            "The weight is that of both of the discriminator's terms, real and fake.",
        )
        answer.mistake(
            "half_of_both",
            same(got, entropy + weight * (real + fake) / 2),
            "The discriminator's two terms are added. You took their mean.",
        )
        answer.mistake(
            "summed",
            same(got, entropy + weight * (n * real + len(fakes) * fake)),
            "Each term is a *mean* over its own images. You added the images up.",
        )
        both = torch.cat([-p[:, :N].logsumexp(1), -pf[:, N]]).mean()
        answer.mistake(
            "one_mean",
            same(got, entropy + weight * both),
            "Real and generated images are averaged separately: else their numbers"
            " decide what counts.",
        )
        answer.expect(
            same(got, right),
            f"With {n} real images and {len(fakes)} fakes at weight {weight} expected"
            f" {right:.4f}, got {got}.",
        )
        leaves = f.clone().requires_grad_(), fakes.clone().requires_grad_()
        again = answer(leaves[0], labels, leaves[1], weight)
        answer.mistake(
            "no_gradient",
            not (isinstance(again, Tensor) and again.requires_grad),
            "The value is right, but nothing can minimise it: no slope flows back from"
            " it to the logits. Return the tensor itself, neither detached nor made a"
            " number.",
        )
        got_slopes = torch.autograd.grad(again, leaves, allow_unused=True)
        p, pf = (F.pad(x, (0, 1)).softmax(1) for x in (f, fakes))
        hot = F.one_hot(labels, N)
        on_real = (f.softmax(1) - hot - weight * p[:, N:] * f.softmax(1)) / n
        on_fakes = weight * pf[:, :N] / len(fakes)
        answer.mistake(
            "fakes_cut",
            got_slopes[1] is None or not got_slopes[1].any(),
            "The value is right, but no slope reaches the logits of the fakes, so that"
            " the classifier learns nothing from them. Detach the *images*, before the"
            " classifier, and not its logits.",
        )
        answer.mistake(
            "real_cut",
            got_slopes[0] is None
            or same(got_slopes[0], (f.softmax(1) - hot) / n, 1e-5),
            "The value is right, but no slope of the term on real images reaches their"
            " logits: do not detach them.",
        )
        answer.expect(
            same(got_slopes[0], on_real, 1e-5) and same(got_slopes[1], on_fakes, 1e-5),
            "The value is right, and its slope in the logits is not: one of the terms"
            " is a constant on the way back.",
        )
    f = torch.tensor([[800.0, 0.0]], dtype=F64)
    got = answer(f, torch.tensor([0]), f, 1.0)
    answer.expect(
        same(got, torch.tensor(800.0, dtype=F64), tol=1e-6),
        "At a logit of 800 the loss is 800, finite. Use `softplus` and `logsumexp`.",
    )
    return "Labels among the N real classes; real or generated by the log-sum-exp."


@exercise("15.5", function="slope_under_refresh")
def _(answer: Answer) -> str:
    """L_G, L_D, θ′, φ′, rate → DAWSON's first-order slope of G."""
    # First θ and φ of one length, where a slope in the wrong one stops nobody.
    matrices, b = {n: _normal(n, 2, seed=4 + n) for n in (2, 3)}, _normal(2, seed=7)

    def loss_g(theta: Tensor, phi: Tensor) -> Tensor:
        fit = theta.tanh() @ matrices[len(theta)] @ phi.tanh()
        return fit + 0.3 * theta.square().sum() * phi[0] ** 2

    def loss_d(theta: Tensor, phi: Tensor) -> Tensor:
        fit = (phi - b).square().sum() + (phi**2).sum() * theta[1]
        return fit - 0.8 * theta.tanh() @ matrices[len(theta)] @ phi.sin()

    grad = torch.func.grad
    for n, seed, rate in ((2, 8, 0.3), (3, 9, 0.12)):
        theta, phi = _normal(n, seed=seed), _normal(2, seed=seed + 10)
        by_d = grad(loss_d, 1)(theta, phi)

        def total(
            theta: Tensor, sign: float = -1, phi: Tensor = phi, rate: float = rate
        ) -> Tensor:
            return loss_g(theta, phi + sign * rate * grad(loss_d, 1)(theta, phi))

        refreshed = phi - rate * by_d
        right = grad(loss_g)(theta, refreshed)
        got = answer(loss_g, loss_d, theta, phi, rate)
        answer.mistake(
            "not_refreshed",
            same(got, grad(loss_g)(theta, phi)),
            "This is the slope at the adapted D. It has not seen the query: let D take"
            " its step first.",
        )
        answer.mistake(
            "total_derivative",
            same(got, grad(total)(theta)),
            "You differentiated through D's step, which depends on θ. First order takes"
            " the refreshed φ as a constant.",
        )
        answer.mistake(
            "climbs",
            same(got, grad(loss_g)(theta, phi + rate * by_d)),
            "D went *up* its loss: the refreshed D is a worse judge than the old one.",
        )
        answer.mistake(
            "d_descends_g",
            same(got, grad(loss_g)(theta, phi - rate * grad(loss_g, 1)(theta, phi))),
            "D took its step along $L_G$. It has a loss of its own.",
        )
        answer.mistake(
            "slope_of_d",
            same(got, grad(loss_d)(theta, refreshed)),
            "This is the slope of $L_D$ in θ. G follows its own loss.",
        )
        answer.mistake(
            "linearised",
            same(
                got,
                grad(loss_g)(theta, phi)
                - rate * grad(lambda t: grad(loss_g, 1)(t, phi) @ by_d)(theta),  # noqa: B023
            ),
            "This is (15.3) without its $O(\\alpha^2)$. The refreshed D itself is asked"
            " for, and costs no second derivative.",
        )
        along = grad(loss_d)(theta, phi)
        answer.mistake(
            "wrong_argument",
            n == 2 and same(got, grad(loss_g)(theta, phi - rate * along)),
            "D moves φ, the *second* argument: its slope is `grad(loss_d, 1)`."
            " `grad(loss_d)` is the one in θ.",
        )
        answer.mistake(
            "slope_in_phi",
            same(got, grad(loss_g, 1)(theta, refreshed)),
            "This is the slope of $L_G$ in φ. G moves θ, the first argument.",
        )
        moved = (theta - rate * grad(loss_g)(theta, at) for at in (phi, refreshed))
        answer.mistake(
            "theta_moves",
            any(same(got, grad(loss_g)(at, refreshed)) for at in moved),
            "You let G take a step as well. Only D is refreshed: θ stays where it is.",
        )
        answer.mistake(
            "the_step",
            same(got, theta - rate * right),
            "This is θ after a step. The slope itself is asked for: the step is the"
            " outer loop's, at a rate of its own.",
        )
        answer.expect(
            same(got, right),
            f"At rate {rate} expected {right.round(decimals=3).tolist()}, got {got}.",
        )
    return "Step with D, then take G's slope there, with φ held fixed."
