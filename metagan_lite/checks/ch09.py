"""Checks of chapter 9's exercises."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, jacrev

from ..blocks import hypergradient_blocks
from ..games import GAN
from ..tasks import TaskBatch
from . import Answer, exercise, same

F64 = torch.float64
Loss = Callable[[Tensor, Tensor], Tensor]


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _loss(seed: int, p: int, q: int) -> Loss:
    """A smooth loss of θ [p] and φ [q] with all second derivatives full."""
    mix, target = (
        _normal(p + q + 2, p + q, seed=seed),
        _normal(p + q + 2, seed=seed + 1),
    )

    def loss(theta: Tensor, phi: Tensor) -> Tensor:
        both = torch.cat([theta, phi])
        return (torch.tanh(mix @ both / (p + q) ** 0.5) - target).square().sum()

    return loss


@exercise("9.1", function="losses")
def _(answer: Answer) -> str:
    for seed in (0, 1):
        real, fake = _normal(5, seed=seed) + 1, 2 * _normal(7, seed=seed + 5) - 0.5
        R, generated = F.softplus(-real).mean(), -F.softplus(fake).mean()
        of_d, of_g = answer(real, fake)
        answer.mistake(
            "exchanged",
            same((of_g, of_d), (R - generated, generated)),
            "The two losses are right, in the wrong order: $L_D$ comes first.",
        )
        answer.mistake(
            "as_printed",
            same(of_d, R + generated),
            "$L_D$ is the formula as printed in section 4.1: it is lowest where *fakes*"
            " are called real. The generated term needs a minus.",
        )
        answer.expect(
            same(of_d, R - generated),
            "$L_D = -V$, with the mean of $-\\log D$ over real samples and the mean of"
            " $-\\log(1 - D)$ over generated ones.",
        )
        answer.mistake(
            "as_derived",
            same(of_g, -generated),
            "$G$ minimises $-\\log(1 - D(G(z)))$ here: it is paid for fakes that are"
            " recognised.",
        )
        answer.mistake(
            "real_term_for_g",
            same(of_g, R + generated) or same(of_g, generated - R),
            "$L_G$ holds the real-data term. It has no direct slope in $\\theta$, but"
            " it would have a hypergradient, (9.3). Leave it out.",
        )
        answer.mistake(
            "non_saturating",
            same(of_g, F.softplus(-fake).mean()),
            "This $L_G$ is the non-saturating loss. The one asked for is the generated"
            " term of $V$, $\\log(1 - D(G(z)))$.",
        )
        answer.expect(
            same(of_g, generated), "$L_G$ is the mean of $\\log(1 - D(G(z)))$."
        )
    big = torch.tensor([-200.0, 200.0])
    found = torch.stack([torch.as_tensor(x) for x in answer(big, big)])
    answer.mistake(
        "overflow",
        not bool(found.isfinite().all()),
        "The formulas are right, but at a logit of 200 a logarithm of 0 comes. Use"
        " softplus, which never forms $D$.",
    )
    answer.mistake(
        "clamped",
        not same(found, torch.tensor([200.0, -100.0])),
        "The formulas are right, but at logits of ±200 the values are"
        f" {found[0]:.4g} and {found[1]:.4g} instead of 200 and −100: the logarithm is"
        " kept away from 0, and its slope is lost. Use softplus, which never forms"
        " $D$.",
    )
    return "$L_D = R - L_G$: one sign away from the printed formula."


@exercise("9.2", function="inner_step")
def _(answer: Answer) -> str:
    for seed, p, q, lr in ((10, 3, 2, 0.1), (20, 2, 4, 0.15)):
        loss_g, loss_d = _loss(seed, p, q), _loss(seed + 3, p, q)
        theta = _normal(p, seed=seed + 6).requires_grad_()
        phi = _normal(q, seed=seed + 7).requires_grad_()
        of_g, of_d = grad(loss_g), grad(loss_d, argnums=1)

        def step(theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
            phi = phi - lr * of_d(theta, phi)  # noqa: B023
            return theta - lr * of_g(theta, phi), phi  # noqa: B023

        def turned(theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
            theta = theta - lr * of_g(theta, phi)  # noqa: B023
            return theta, phi - lr * of_d(theta, phi)  # noqa: B023

        def through(theta: Tensor) -> Tensor:
            return loss_g(theta, phi - lr * of_d(theta, phi))  # noqa: B023

        right = step(theta, phi)
        got = tuple(answer(loss_g, loss_d, theta, phi, lr))
        unrolled = theta - lr * grad(through)(theta)
        answer.mistake(
            "total_derivative",
            same(got[0], unrolled) and same(got[1], right[1]),
            "$G$ followed the *total* derivative, through $D$'s step: that is an"
            " unrolled GAN. Hold the moved $\\phi$ fixed.",
        )
        answer.mistake(
            "simultaneous",
            same(got, (theta - lr * of_g(theta, phi), right[1])),
            "Both moved from one point. $G$ should see the $\\phi$ that has moved.",
        )
        answer.mistake(
            "generator_first",
            same(got, turned(theta, phi)),
            "$G$ moved first here. The discriminator does.",
        )
        wrong_d = phi - lr * grad(loss_g, argnums=1)(theta, phi)
        answer.mistake(
            "one_loss",
            same(got[1], wrong_d),
            "$D$ descended the loss of $G$. Each player has its own.",
        )
        up = phi + lr * of_d(theta, phi)
        answer.mistake(
            "ascends",
            same(got[1], up),
            "$D$ climbed its own loss. It is to make $V$ large, and that means to"
            " *descend* $L_D = -V$.",
        )
        answer.mistake(
            "players_exchanged",
            same(got, right[::-1]),
            "Both steps are right, in the wrong order: return (θ, φ).",
        )
        answer.expect(same(got, right), "Expected (θ, φ) after D's step and then G's.")
        weights = _normal(p + q, seed=seed + 8)

        def derivative(ends: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
            along = torch.cat(list(ends)) @ weights  # noqa: B023
            found = torch.autograd.grad(along, (theta, phi), allow_unused=True)  # noqa: B023
            return tuple(torch.zeros(()) if f is None else f for f in found)

        answer.mistake(
            "no_path_back",
            not torch.cat(list(got)).requires_grad,
            "The values are right, but for autograd they do not depend on the starts.",
        )
        back = derivative(got)
        answer.mistake(
            "first_order",
            same(back, weights.split([p, q])),
            "The values are right, but the slopes count as constants: the way back is"
            " that of first order.",
        )

        def apart(theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
            phi = phi - lr * of_d(theta, phi)  # noqa: B023
            return theta - lr * of_g(theta, phi.detach()), phi  # noqa: B023

        answer.mistake(
            "moved_phi_detached",
            same(back, derivative(apart(theta, phi))),
            "The values are right, but $G$'s step took the moved $\\phi$ as a constant:"
            " what $D$ teaches $G$ has no way back to the start of $D$. Hold it fixed"
            " as an argument of the loss, without `.detach()`.",
        )
        answer.expect(
            same(back, derivative(step(theta, phi))),
            "The values are right; their derivative in the starts is not.",
        )
    return "Partial derivatives inside, so that total ones can be taken outside."


@exercise("9.3", function="real_term_gradient")
def _(answer: Answer) -> str:
    # Square first, so that a forgotten transpose is no error but another number.
    for seed, p, q, lr in ((30, 3, 3, 0.4), (40, 2, 4, 0.25)):
        loss_d, both = _loss(seed, p, q), _loss(seed + 3, 1, q)
        real_term = lambda phi: both(torch.ones(1, dtype=F64), phi)  # noqa: B023
        theta, phi = _normal(p, seed=seed + 6), _normal(q, seed=seed + 7)
        of_d = grad(loss_d, argnums=1)
        adapted = phi - lr * of_d(theta, phi)
        mixed = jacrev(of_d, argnums=0)
        before, after = mixed(theta, phi), mixed(theta, adapted)
        slope = grad(real_term)(adapted)
        got = answer(loss_d, real_term, theta, phi, lr)
        answer.mistake(
            "inert",
            same(got, torch.zeros(p)),
            "That is the *direct* derivative. $\\phi'$ was trained on fakes of"
            " $G_\\theta$ and depends on $\\theta$.",
        )
        answer.mistake(
            "slope_before_the_step",
            same(got, -lr * before.T @ grad(real_term)(phi)),
            "The slope of $R$ is taken at $\\phi$. $R$ is evaluated at the *adapted*"
            " $\\phi'$.",
        )
        answer.mistake(
            "wrong_sign",
            same(got, lr * before.T @ slope),
            "The sign is wrong: a step *subtracts* the slope.",
        )
        answer.mistake(
            "not_transposed",
            p == q and same(got, -lr * before @ slope),
            "The matrix is not transposed. It has a row for each entry of $\\phi$, and"
            " the chain rule sums over these.",
        )
        answer.mistake(
            "matrix_after_the_step",
            same(got, -lr * after.T @ slope),
            "The second derivatives are taken at $\\phi'$. The step was taken at"
            " $\\phi$.",
        )
        answer.mistake(
            "rate_forgotten",
            same(got, -before.T @ slope),
            "The rate is missing. $\\phi'$ moves with $\\theta$ by"
            " $-\\alpha\\, \\partial_\\theta \\partial_\\phi L_D$.",
        )
        truth = grad(lambda t: real_term(phi - lr * of_d(t, phi)))(theta)  # noqa: B023
        answer.expect(
            same(got, truth),
            "Autograd through the step finds another gradient. Compare with (9.3).",
        )
    return "Inert in a GAN, alive in a Meta-GAN: −α(∂θ∂φ L_D)ᵀ ∂φR at φ′."


@exercise("9.4", function="outer_gradients")
def _(answer: Answer) -> str:
    for seed, p, q, lr in ((50, 3, 3, 0.3), (60, 2, 4, 0.2)):
        inner_g, inner_d = _loss(seed, p, q), _loss(seed + 2, p, q)
        loss_g, loss_d = _loss(seed + 4, p, q), _loss(seed + 6, p, q)

        def adapt(theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
            moved = phi - lr * grad(inner_d, argnums=1)(theta, phi)  # noqa: B023
            return theta - lr * grad(inner_g)(theta, moved), moved  # noqa: B023

        starts = _normal(p, seed=seed + 8), _normal(q, seed=seed + 9)
        G, D = (
            grad(lambda *at, loss=loss: loss(*adapt(*at)), argnums=(0, 1))(*starts)
            for loss in (loss_g, loss_d)
        )
        ends = adapt(*starts)
        theta, phi = (start.clone().requires_grad_() for start in starts)
        got = tuple(answer(adapt, loss_g, loss_d, theta, phi))
        answer.mistake(
            "the_sum",
            same(got, (G[0] + D[0], G[1] + D[1])),
            "These are the derivatives of $L_G + L_D$: each start is told to lower its"
            " opponent's loss as well. Take one loss for each player.",
        )
        answer.mistake(
            "exchanged",
            same(got, (D[0], G[1])) or same(got, (D[1], G[0])),
            "$\\theta$ follows $L_D$ and $\\phi$ follows $L_G$ here.",
        )
        answer.mistake(
            "first_order",
            same(got, (grad(loss_g)(*ends), grad(loss_d, argnums=1)(*ends))),
            "These are the slopes at the adapted players, the direct parts. The way"
            " through `adapt` is missing.",
        )
        answer.mistake(
            "not_adapted",
            same(got, (grad(loss_g)(*starts), grad(loss_d, argnums=1)(*starts))),
            "The outer losses are taken at the starts. They belong to the *adapted*"
            " players.",
        )
        answer.mistake(
            "one_loss_for_both",
            same(got, G) or same(got, D),
            "Both are derivatives of one loss. $\\theta$ follows $L_G$, and $\\phi$"
            " follows $L_D$.",
        )
        alone = (
            grad(lambda t: loss_g(adapt(t, starts[1])[0], ends[1]))(starts[0]),  # noqa: B023
            grad(lambda p: loss_d(ends[0], adapt(starts[0], p)[1]))(starts[1]),  # noqa: B023
        )
        answer.mistake(
            "opponent_detached",
            same(got, alone),
            "The adapted opponent counts as a constant. It was trained against this"
            " player and depends on its start: the cross parts are lost.",
        )
        answer.expect(
            same(got, (G[0], D[1])),
            "Expected $\\mathrm dL_G/\\mathrm d\\theta$ and"
            " $\\mathrm dL_D/\\mathrm d\\phi$, through `adapt`.",
        )
        answer.mistake(
            "fills_grad",
            theta.grad is not None or phi.grad is not None,
            "The values are right, but `.backward()` filled `.grad` with the other"
            " loss's derivatives as well. Use `torch.autograd.grad`.",
        )
    return "Two blocks of four, one call for each."


@exercise("9.5", function="back_through_steps")
def _(answer: Answer) -> str:
    for seed, steps, n in ((70, 3, 4), (80, 4, 5)):
        jacobians, slope = _normal(steps, n, n, seed=seed), _normal(n, seed=seed + 1)
        rates = 0.1 + 0.3 * torch.rand(
            n, generator=torch.Generator().manual_seed(seed + 2), dtype=F64
        )
        eye, A = torch.eye(n, dtype=F64), torch.diag(rates)

        def product(factors: list[Tensor]) -> Tensor:
            found = slope  # noqa: B023
            for factor in factors:
                found = factor @ found
            return found

        last_first = list(jacobians.flip(0))
        right = [(eye - A @ J).T for J in last_first]
        got = answer(jacobians, slope, rates)
        answer.mistake(
            "not_transposed",
            same(got, product([eye - A @ J for J in last_first]))
            or same(got, product([eye - J @ A for J in last_first]))
            or same(got, product([eye - A @ J for J in jacobians])),
            "The factors are not transposed. In a game $J$ is not symmetric.",
        )
        answer.mistake(
            "first_step_first",
            same(got, product(right[::-1])),
            "The first step came first. The backward pass begins with the *last* one.",
        )
        answer.mistake(
            "rates_last",
            same(got, product([eye - A @ J.T for J in last_first])),
            "The rates multiply the result. In $(AJ)^\\top v = J^\\top A v$ they"
            " multiply $v$ first.",
        )
        answer.mistake(
            "symmetrised",
            same(got, product([eye - (J + J.T) / 2 @ A for J in last_first])),
            "The Jacobian was made symmetric. Its antisymmetric part is the game.",
        )
        answer.mistake(
            "products_added",
            same(got, slope - (jacobians.mT @ (rates * slope)).sum(0)),
            "Each product was formed with the slope at the end. A step multiplies what"
            " the step after it left.",
        )
        answer.mistake(
            "steps_ascend",
            same(got, product([(eye + A @ J).T for J in last_first])),
            "The sign is wrong: a step *subtracts* $A\\, \\xi$.",
        )
        answer.expect(
            same(got, product(right)),
            "Expected $(I - AJ_0)^\\top \\cdots (I - AJ_{S-1})^\\top$ times the slope.",
        )
    return "The last step first, transposed, rates on the inside."


@exercise("9.6", function="parts_for_d")
def _(answer: Answer) -> str:
    for seed, p, q, lr_g, lr_d in ((90, 3, 3, 0.3, 0.1), (100, 2, 4, 0.15, 0.35)):
        loss_g, loss_d = _loss(seed, p, q), _loss(seed + 2, p, q)
        outer = _loss(seed + 4, p, q)
        theta, phi = _normal(p, seed=seed + 6), _normal(q, seed=seed + 7)
        of_g, of_d = grad(loss_g), grad(loss_d, argnums=1)
        slopes = grad(outer, argnums=(0, 1))
        at_end = slopes(theta - lr_g * of_g(theta, phi), phi - lr_d * of_d(theta, phi))
        own, other = jacrev(of_d, 1)(theta, phi), jacrev(of_g, 1)(theta, phi)
        wrong_loss = jacrev(grad(loss_d), 1)(theta, phi)

        def parts(g: tuple[Tensor, Tensor], matrix: Tensor) -> tuple[Tensor, ...]:
            a, b = g
            return b, -lr_d * own.T @ b, -lr_g * matrix.T @ a  # noqa: B023

        direct, curved, cross = parts(at_end, other)
        got = tuple(answer(loss_g, loss_d, outer, theta, phi, lr_g, lr_d))
        answer.mistake(
            "own_and_cross_exchanged",
            same(got, (direct, cross, curved)),
            "Own and cross have changed places. *Own* goes through $D$'s step, *cross*"
            " through $G$'s.",
        )
        answer.mistake(
            "cross_of_the_wrong_loss",
            same(got, parts(at_end, wrong_loss)),
            "The cross part holds second derivatives of $L_D$. It goes through $G$'s"
            " step, and $G$ descends $L_G$.",
        )
        answer.mistake(
            "rates_exchanged",
            same(got, (direct, curved * lr_g / lr_d, cross * lr_d / lr_g)),
            "The rates are exchanged: $D$'s step has $\\alpha_D$, $G$'s has"
            " $\\alpha_G$.",
        )
        answer.mistake(
            "slopes_at_the_start",
            same(got, parts(slopes(theta, phi), other)),
            "The slopes of the outer loss are taken at the start. It is evaluated at"
            " the adapted players.",
        )
        ends = theta - lr_g * of_g(theta, phi), phi - lr_d * of_d(theta, phi)
        at_ends = -lr_d * jacrev(of_d, 1)(*ends).T @ direct
        answer.mistake(
            "curvature_at_the_end",
            same(got[1], at_ends),
            "The second derivatives are taken at the adapted players. The step was"
            " taken at the starts.",
        )
        turns = ends[1], theta - lr_g * of_g(theta, ends[1])
        answer.mistake(
            "takes_turns",
            same(got[0], slopes(turns[1], turns[0])[1]),
            "$G$ saw the $\\phi$ that had moved. Both move at once here.",
        )
        answer.mistake(
            "parts_for_theta",
            same(got[0], at_end[0]),
            "These are parts of $\\mathrm dL/\\mathrm d\\theta$, the first line of"
            " (9.7). The second was asked for.",
        )
        answer.mistake(
            "direct_counted_in_own",
            same(got, (direct, direct + curved, cross)),
            "The own part holds the direct one as well, so the parts add up to too"
            " much.",
        )
        answer.mistake(
            "wrong_sign",
            same(got, (direct, -curved, -cross)),
            "The signs are wrong: steps *subtract* the slopes.",
        )
        answer.expect(
            same(got, (direct, curved, cross)),
            "Expected the three terms of the second line of (9.7), in this order.",
        )
    return "Direct, own, cross: they sum to autograd's total."


class _Line(nn.Module):
    """G: the point a + wz."""

    latent_dim = 1

    def __init__(self, theta: Tensor):
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, z: Tensor) -> Tensor:
        return self.theta[0] + self.theta[1] * z


class _Parabola(nn.Module):
    """D: the logit φ·(1, x, x²)."""

    def __init__(self, phi: Tensor):
        super().__init__()
        self.phi = nn.Parameter(phi)

    def forward(self, x: Tensor) -> Tensor:
        return _logit(self.phi, x[..., 0])


def _logit(phi: Tensor, x: Tensor) -> Tensor:
    return phi[0] + phi[1] * x + phi[2] * x**2


def _hypergradients(
    theta: Tensor,
    phi: Tensor,
    batch: TaskBatch,
    noise: tuple[Tensor, Tensor],
    rates: dict[str, float],
    detach: bool,
) -> dict[str, dict[str, Tensor]]:
    """What both starts follow after alternating steps, without the library."""

    def loss_g(theta: Tensor, phi: Tensor, z: Tensor) -> Tensor:
        return F.softplus(-_logit(phi, theta[0] + theta[1] * z[1, :, 0])).mean()

    def loss_d(theta: Tensor, phi: Tensor, x: Tensor, z: Tensor) -> Tensor:
        fake = theta[0] + theta[1] * z[0, :, 0]
        fake = F.softplus(_logit(phi, fake.detach() if detach else fake))
        return F.softplus(-_logit(phi, x[:, 0])).mean() + fake.mean()

    def partial(loss: Loss, theta: Tensor, phi: Tensor, player: str) -> Tensor:
        own = {"G": theta.view_as(theta), "D": phi.view_as(phi)}[player]
        at = (own, phi) if player == "G" else (theta, own)
        return torch.autograd.grad(loss(*at), own, create_graph=True)[0]

    starts = [start.clone().requires_grad_() for start in (theta, phi)]
    of_g, of_d, tasks = 0.0, 0.0, len(batch.support)
    for i in range(tasks):
        t, p = starts
        for z in noise[0][i]:
            on_support = lambda t, p: loss_d(t, p, batch.support[i], z)  # noqa: B023
            p = p - rates["D"] * partial(on_support, t, p, "D")
            t = t - rates["G"] * partial(lambda t, p: loss_g(t, p, z), t, p, "G")  # noqa: B023
        of_g = of_g + loss_g(t, p, noise[1][i]) / tasks
        of_d = of_d + loss_d(t, p, batch.query[i], noise[1][i]) / tasks
    (g,) = torch.autograd.grad(of_g, starts[0], retain_graph=True)
    (d,) = torch.autograd.grad(of_d, starts[1])
    return {"G": {"theta": g}, "D": {"phi": d}}


@exercise("9.7", function="price_of_detaching")
def _(answer: Answer) -> str:
    """The truth is autograd by hand; the library serves to name mistakes alone."""
    for seed, tasks, steps, rates in (
        (110, 2, 3, {"G": 0.3, "D": 0.8}),
        (120, 3, 2, {"G": 0.5, "D": 0.4}),
    ):
        theta = torch.tensor([0.6, 0.5], dtype=F64) + 0.1 * _normal(2, seed=seed)
        phi = torch.tensor([0.2, -0.6, 0.3], dtype=F64) + 0.1 * _normal(3, seed=seed)
        game = GAN(_Line(theta.clone()), _Parabola(phi.clone()))
        batch = TaskBatch(
            _normal(tasks, 5, 1, seed=seed + 1), _normal(tasks, 4, 1, seed=seed + 2) + 1
        )
        noise = (
            _normal(tasks, steps, 2, 5, 1, seed=seed + 3),
            _normal(tasks, 2, 4, 1, seed=seed + 4),
        )
        whole, cut = (
            _hypergradients(theta, phi, batch, noise, rates, detach)
            for detach in (False, True)
        )
        got = answer(game, batch, noise, steps, rates)
        answer.expect(
            isinstance(got, (tuple, list))
            and len(got) == 2
            and all(isinstance(x, dict) and x.keys() == {"G", "D"} for x in got),
            'Return two dicts, kept and lost, each with the keys "G" and "D".',
        )
        kept, lost = got
        options = {"inner_steps": steps, "inner_lr": rates, "noise": noise}
        options["objective"] = "adversarial"
        found = hypergradient_blocks(game, batch, **options)

        def follow(found: dict, of_g: str, of_d: str, *kinds: str) -> dict:
            """G and D follow these losses, and of their blocks the parts named."""
            return {
                player: {
                    name: sum(
                        getattr(found[term][player], kind)[name] for kind in kinds
                    )
                    for name in found[term][player].direct
                }
                for player, term in (("G", of_g), ("D", of_d))
            }

        answer.mistake(
            "nothing_lost",
            same(kept, whole),
            "What is kept is the whole block, with the cross part: that is followed"
            " while the fakes are attached.",
        )
        answer.mistake(
            "first_order",
            same(kept, follow(found, "G", "D", "direct")),
            "The direct part alone is kept. That is first order: detached fakes leave"
            " the own part, a player's own curvature, as it was.",
        )
        answer.mistake(
            "one_loss",
            same(kept, follow(found, "G", "G", "direct", "own"))
            or same(kept, follow(found, "D", "D", "direct", "own")),
            "Both starts follow one loss here. The first key is the loss: $\\theta$"
            " follows $L_G$, and $\\phi$ follows $L_D$.",
        )
        answer.mistake(
            "blocks_of_the_opponent",
            same(kept, follow(found, "D", "G", "direct", "own")),
            "These are the two blocks that nobody follows, $\\mathrm dL_D/\\mathrm"
            " d\\theta$ and $\\mathrm dL_G/\\mathrm d\\phi$.",
        )
        at_once = hypergradient_blocks(game, batch, simultaneous=True, **options)
        answer.mistake(
            "both_at_once",
            same(kept, follow(at_once, "G", "D", "direct", "own")),
            "Both players moved at once. Here they take turns, $D$ first.",
        )
        answer.expect(
            same(kept, cut),
            "kept: expected, for the given noise, the meta-gradient of the same game"
            " with detached fakes.",
        )
        gone = {p: {k: whole[p][k] - cut[p][k] for k in cut[p]} for p in cut}
        answer.mistake(
            "sign_of_what_is_lost",
            same(lost, {p: {k: -v for k, v in gone[p].items()} for p in gone}),
            "The sign of what is lost is wrong: kept and lost sum to the whole.",
        )
        answer.expect(
            same(lost, gone),
            "lost: expected the meta-gradient with attached fakes minus what is kept.",
        )
    return "Detaching takes both cross parts, and leaves direct and own as they are."
