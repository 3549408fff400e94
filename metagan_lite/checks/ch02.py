"""Checks of chapter 2's exercises, Why training oscillates."""

import math

import torch
from torch import Tensor, nn

from ..losses import gradient_penalty
from . import Answer, exercise, same

DOUBLE = torch.float64


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


# --- a game that is not zero-sum, with players of different sizes ---------------

MIX = numbers(0.7, -1.1, 0.4, 0.9, 0.3, -0.8).view(2, 3)


def loss_g(theta: Tensor, phi: Tensor) -> Tensor:
    return torch.tanh(theta @ MIX @ phi) + 0.4 * theta.pow(3).sum() * phi[0]


def loss_d(theta: Tensor, phi: Tensor) -> Tensor:
    friction = 0.3 * (phi**2).sum() * (1 + theta[1] ** 2)
    return friction - 1.3 * torch.sin(theta @ MIX @ phi)


PLACES = (
    (numbers(0.5, -0.9), numbers(0.8, 0.2, -0.6)),
    (numbers(-0.3, 0.4), numbers(1.1, -0.7, 0.5)),
)


def slope(loss, player: int, theta: Tensor, phi: Tensor) -> Tensor:
    """The partial derivative in θ (player 0) or φ (player 1)."""
    return torch.func.grad(loss, player)(theta, phi)


def jacobian_rows(loss, player: int, theta: Tensor, phi: Tensor) -> Tensor:
    """The slope of one player, differentiated in θ and φ."""
    blocks = torch.func.jacrev(
        lambda theta, phi: slope(loss, player, theta, phi), argnums=(0, 1)
    )(theta, phi)
    return torch.cat(blocks, 1)


def jacobian(of_theta, of_phi, theta: Tensor, phi: Tensor) -> Tensor:
    rows = [
        jacobian_rows(loss, player, theta, phi)
        for player, loss in enumerate((of_theta, of_phi))
    ]
    return torch.cat(rows)


# --- the exercises --------------------------------------------------------------


@exercise("2.1", function="simultaneous_gradient")
def _(answer: Answer) -> str:
    """θ, φ → ∂L_G/∂θ, ∂L_D/∂φ of the Dirac-GAN."""
    for theta, phi in ((1.3, -0.7), (-0.4, 0.9), (2.0, 1.5)):
        got = answer(numbers(theta)[0], numbers(phi)[0])
        got = torch.stack([torch.as_tensor(v, dtype=DOUBLE).squeeze() for v in got])
        d = 1 / (1 + math.exp(-phi * theta))  # D of the generated point
        answer.mistake(
            "one-loss",
            same(got, numbers(-d * phi, -d * theta)),
            "Both entries are slopes of $L_G$. The second player descends $L_D$, in"
            " which $f(\\phi\\theta)$ has a minus.",
        )
        answer.mistake(
            "missing-sign",
            same(got, numbers(d * phi, -d * theta)),
            "This is minus $\\xi$, the direction in which the players *move*. $f'$ is"
            " negative: $f'(t) = -\\sigma(t)$.",
        )
        answer.mistake(
            "other-player",
            same(got, numbers(-d * theta, d * phi)),
            "Each loss is differentiated in the weight of the *other* player. $G$ can"
            " only move $\\theta$, and $D$ only $\\phi$.",
        )
        want = numbers(-d * phi, d * theta)
        answer.expect(
            same(got, want),
            f"At θ = {theta}, φ = {phi} expected {_listed(want)}, got {_listed(got)}:"
            " differentiate $f(\\phi\\theta)$ in θ, and $-f(\\phi\\theta)$ in φ.",
        )
    return "Each player contributes the slope of its own loss in its own weight."


@exercise("2.2", function="game_jacobian")
def _(answer: Answer) -> str:
    """L_G, L_D, θ [m], φ [n] → J [m + n, m + n]."""
    for theta, phi in PLACES:
        got = answer(loss_g, loss_d, theta, phi)
        want = jacobian(loss_g, loss_d, theta, phi)
        size = len(want)
        answer.expect(
            got.shape == want.shape,
            f"Expected a matrix [{size}, {size}] for θ [{len(theta)}] and φ"
            f" [{len(phi)}], got {list(got.shape)}: all of ξ by all of ω.",
        )
        of_g = jacobian(loss_g, loss_g, theta, phi)
        of_d = jacobian(loss_d, loss_d, theta, phi)
        answer.mistake(
            "one-loss",
            same(got, of_g) or same(got, of_d),
            "This is the Hessian of one loss, and symmetric. The rows of $\\theta$ come"
            " from $L_G$ and the rows of $\\phi$ from $L_D$.",
        )
        answer.mistake(
            "transposed",
            same(got, want.T),
            "Rows and columns are exchanged: row i holds the derivatives of the i-th"
            " *slope*, column j those in the j-th *weight*.",
        )
        answer.mistake(
            "losses-swapped",
            same(got, jacobian(loss_d, loss_g, theta, phi)),
            "$\\theta$ has the slopes of $L_D$ here and $\\phi$ those of $L_G$: each"
            " player should descend its own loss.",
        )
        m = len(theta)
        apart = torch.block_diag(want[:m, :m], want[m:, m:])
        answer.mistake(
            "no-cross-blocks",
            same(got, apart),
            "The off-diagonal blocks are zero, as if each player did not feel the"
            " other. They are what turns the players round.",
        )
        answer.expect(
            same(got, want),
            f"The matrix has the right shape, but is off by up to"
            f" {(got - want).abs().max():.2g}: differentiate ξ = (∂L_G/∂θ, ∂L_D/∂φ)"
            " in all weights, θ first.",
        )
    return "Two losses, one matrix: nothing makes it symmetric."


@exercise("2.3", function="spectral_radius")
def _(answer: Answer) -> str:
    """J, α → the largest |λ| of I − αJ."""
    cases = (
        (numbers(0, -0.5, 0.5, 0.3).view(2, 2), 0.8),
        (numbers(0.3, 2.0, 0.1, -2.0, 0.4, 0.0, 0.5, 0.2, 0.6).view(3, 3), 0.5),
        # The largest |μ|, 1.2, makes the smallest |λ|.
        (numbers(0.1, -0.3, 0, 0.3, 0.1, 0, 0, 0, 1.2).view(3, 3), 0.8),
    )
    for matrix, alpha in cases:
        got = torch.as_tensor(answer(matrix, alpha)).squeeze()
        mu = torch.linalg.eigvals(matrix)
        answer.mistake(
            "real-part",
            same(got, (1 - alpha * mu).real.max()),
            "This is the largest real part of an eigenvalue. For a complex $\\lambda$"
            " its *modulus* decides: take `.abs()`.",
        )
        answer.mistake(
            "no-identity",
            same(got, (alpha * mu).abs().max()),
            "These are eigenvalues of $\\alpha J$. The step starts from where the"
            " players are: its Jacobian is $I - \\alpha J$.",
        )
        answer.mistake(
            "plus-sign",
            same(got, (1 + alpha * mu).abs().max()),
            "This is $I + \\alpha J$, players who climb their losses. They descend.",
        )
        want = (1 - alpha * mu).abs().max()
        answer.expect(
            same(got, want),
            f"Expected {want:.4f} at α = {alpha}, got {float(got):.4f}.",
        )
    return "Below 1 the solution attracts, above 1 it repels."


@exercise("2.4", function="alternating_step")
def _(answer: Answer) -> str:
    """L_G, L_D, θ, φ, α → θ, φ after D's step and then G's."""
    for (theta, phi), alpha in zip(PLACES, (0.3, 0.2)):
        theta_got, phi_got = answer(loss_g, loss_d, theta, phi, alpha)
        at_once = theta - alpha * slope(loss_g, 0, theta, phi)
        moved = phi - alpha * slope(loss_d, 1, theta, phi)
        want = theta - alpha * slope(loss_g, 0, theta, moved)
        answer.mistake(
            "simultaneous",
            same(theta_got, at_once) and same(phi_got, moved),
            "$G$ answers the *old* discriminator: this is a simultaneous step.",
        )
        late = phi - alpha * slope(loss_d, 1, at_once, phi)
        answer.mistake(
            "g-first",
            same(theta_got, at_once) and same(phi_got, late),
            "$G$ moves first here. In this library, as in most code, $D$ does.",
        )
        ahead = lambda t: loss_g(t, phi - alpha * slope(loss_d, 1, t, phi))
        total = theta - alpha * torch.func.grad(ahead)(theta)
        answer.mistake(
            "total-derivative",
            same(theta_got, total) and same(phi_got, moved),
            "$G$'s slope also runs through $D$'s step: the new $\\phi$ still hangs on"
            " $\\theta$ in the graph. That is an unrolled GAN. Hold $\\phi$ fixed, by"
            " `.detach()` or `torch.func.grad`.",
        )
        shared = phi - alpha * slope(loss_g, 1, theta, phi)
        answer.mistake(
            "one-loss",
            same(phi_got, shared),
            "$D$ descends $L_G$ here: it helps $G$. It has a loss of its own, $L_D$.",
        )
        answer.expect(
            same(phi_got, moved), f"D should be at {_listed(moved)}: it moves first."
        )
        answer.expect(
            same(theta_got, want),
            f"G should be at {_listed(want)}, got {_listed(theta_got)}: its slope is"
            " ∂L_G/∂θ at the old θ and the new φ.",
        )
    return "D moves, and G takes its partial derivative at the D that has moved."


@exercise("2.5", function="stable_gammas")
def _(answer: Answer) -> str:
    """α, f′(0) → the least and the largest stable γ of a simultaneous step."""
    for alpha, f in ((0.5, -0.5), (1.6, 0.8), (0.3, -1.2)):
        low, high = (float(v) for v in answer(alpha, f))
        want = alpha * f**2, 2 / alpha + alpha * f**2 / 2
        answer.mistake(
            "flow",
            same(low, 0.0) and not math.isfinite(high),
            "All γ > 0 is the answer for the flow. A step of finite size leads outwards"
            " by itself, and it can overshoot the penalty.",
        )
        answer.mistake(
            "forgotten-half",
            same((low, high), (want[0] / 2, want[1] / 2)),
            "Both ends are half of what they should be. The penalty is"
            " $\\frac\\gamma2\\phi^2$, whose second derivative is $\\gamma$, not"
            " $2\\gamma$.",
        )
        answer.mistake(
            "taking-turns",
            same((low, high), (0.0, 2 / alpha - alpha * f**2 / 2)),
            "This is the window for taking turns. A simultaneous step has the"
            " determinant $1 - \\alpha\\gamma + \\alpha^2 f'(0)^2$.",
        )
        answer.mistake(
            "upper-end-of-no-game",
            same((low, high), (want[0], 2 / alpha)),
            "The upper end is that of $D$ alone, $|1 - \\alpha\\gamma| < 1$. $G$ shifts"
            " it: use $-\\mathrm{trace} < 1 + \\det$.",
        )
        answer.expect(
            same((low, high), want),
            f"At α = {alpha}, f′(0) = {f} expected {want[0]:.4f} and {want[1]:.4f}, got"
            f" {low:.4f} and {high:.4f}.",
        )
    return "Friction has to outweigh the step, and the step has to bear the friction."


@exercise("2.6", function="per_sample_penalty")
def _(answer: Answer) -> str:
    """net, x [N, C, H, W] → E(‖∇d‖ − 1)², one norm per sample."""
    random = torch.Generator().manual_seed(0)
    for shape in ((5, 2, 3, 3), (3, 1, 4, 2)):
        x = torch.randn(shape, generator=random, dtype=DOUBLE)
        net = nn.Sequential(
            nn.Flatten(),
            nn.Linear(x[0].numel(), 4, dtype=DOUBLE),
            nn.Tanh(),
            nn.Linear(4, 1, dtype=DOUBLE),
            nn.Flatten(0),
        )
        for p in net.parameters():
            values = torch.randn(p.shape, generator=random, dtype=DOUBLE)
            p.data.copy_(values)
        slopes = torch.func.grad(lambda x: net(x).sum())(x).detach()
        norms = slopes.flatten(1).norm(dim=1)
        got = answer(net, x)
        answer.expect(
            isinstance(got, Tensor) and got.dim() == 0,
            f"Expected one number, a tensor without dimensions, got"
            f" {list(got.shape) if isinstance(got, Tensor) else got!r}.",
        )
        answer.mistake(
            "per-pixel",
            same(got, (slopes.norm(dim=1) - 1).square().mean()),
            "The norm runs over the channels only, once at each pixel. Flatten each"
            " sample first: `.flatten(1)`.",
        )
        answer.mistake(
            "whole-batch",
            same(got, (slopes.norm() - 1).square()),
            "This is one norm of the slopes of the whole batch. It grows with the"
            " number of images.",
        )
        answer.mistake(
            "mean-of-logits",
            same(got, (norms / len(x) - 1).square().mean()),
            "The slopes are N times too small: they are those of the *mean* logit."
            " Differentiate the sum.",
        )
        answer.mistake(
            "squared-norm",
            same(got, (norms.square() - 1).square().mean()),
            "This compares the *squared* norm with 1. Take the root.",
        )
        answer.expect(
            same(got, (norms - 1).square().mean()),
            f"Expected {(norms - 1).square().mean():.4f} for slopes of length"
            f" {_listed(norms)}, got {got.item():.4f}.",
        )
        answer.mistake(
            "no-graph",
            not got.requires_grad,
            "The value is right, but D cannot descend it: it has no gradient in D's"
            " weights. Ask `autograd.grad` for `create_graph=True`.",
        )
        weight = net[1].weight
        mine = torch.autograd.grad(got, weight)[0]
        mix = torch.ones(len(x), dtype=DOUBLE)
        library = gradient_penalty(net, x, x, mix)
        answer.expect(
            same(mine, torch.autograd.grad(library, weight)[0]),
            "The value is right, but its gradient in D's weights is not: keep the graph"
            " of the slopes from beginning to end.",
        )
    return "One norm for each image, and D can descend it."


@exercise("2.7", function="extragradient_step")
def _(answer: Answer) -> str:
    """ξ, ω, α → ω after an extragradient step."""

    def field(omega: Tensor) -> Tensor:
        theta, phi = omega
        return -torch.sigmoid(theta * phi) * torch.stack([phi, -theta])

    for omega, alpha in ((numbers(1.2, 0.3), 0.7), (numbers(-0.5, 0.8), 1.1)):
        got = answer(field, omega, alpha)
        here = field(omega)
        look = omega - alpha * here
        there = field(look)
        answer.mistake(
            "plain",
            same(got, look),
            "This is the ordinary simultaneous step: the slope at the look-ahead point"
            " does not matter in it.",
        )
        answer.mistake(
            "from-look-ahead",
            same(got, look - alpha * there),
            "The step starts at the look-ahead point, so that these are two ordinary"
            " steps. Start at $\\omega$: only the slope is from ahead.",
        )
        answer.mistake(
            "averaged",
            same(got, omega - alpha * (here + there) / 2),
            "This averages both slopes. The slope at $\\omega$ serves only to look"
            " ahead.",
        )
        answer.mistake(
            "looks-back",
            same(got, omega - alpha * field(omega + alpha * here)),
            "It looks *back*, to $\\omega + \\alpha\\xi$: players descend, so ahead is"
            " $\\omega - \\alpha\\xi$.",
        )
        answer.expect(
            same(got, omega - alpha * there),
            f"Expected {_listed(omega - alpha * there)}, got {_listed(got)}: go from ω"
            " along −ξ(ω − αξ(ω)).",
        )
    step = lambda w: answer(field, w, 0.8)
    matrix = torch.autograd.functional.jacobian(step, numbers(0, 0))
    radius = torch.linalg.eigvals(matrix).abs().max().item()
    return (
        f"At α = 0.8 its largest |λ| on the Dirac-GAN is {radius:.3f}; the simultaneous"
        f" step has {math.hypot(1, 0.4):.3f}."
    )


@exercise("2.8", function="consensus_gradient")
def _(answer: Answer) -> str:
    """L_G, L_D, θ, φ, w → ξ + w Jᵀξ, split into θ's and φ's part."""
    for (theta, phi), w in zip(PLACES, (0.7, 1.9)):
        m = len(theta)
        got = torch.cat(
            [torch.as_tensor(v) for v in answer(loss_g, loss_d, theta, phi, w)]
        )
        xi = torch.cat([slope(loss_g, 0, theta, phi), slope(loss_d, 1, theta, phi)])
        J = jacobian(loss_g, loss_d, theta, phi)
        answer.mistake(
            "no-consensus",
            same(got, xi),
            "This is ξ alone: the norm of the slopes adds nothing. Do the slopes keep"
            " their graph (`create_graph=True`)?",
        )
        answer.mistake(
            "not-transposed",
            same(got, xi + w * J @ xi),
            "This adds $Jξ$. The gradient of $\\frac12\\lVert\\xi\\rVert^2$ is"
            " $J^\\top\\xi$, and $J$ is not symmetric.",
        )
        answer.mistake(
            "forgotten-half",
            same(got, xi + 2 * w * J.T @ xi),
            "The second term is twice too large: the penalty has a factor ½.",
        )
        apart = torch.block_diag(J[:m, :m], J[m:, m:])
        answer.mistake(
            "own-slope-only",
            same(got, xi + w * apart.T @ xi),
            "Each player makes only its *own* slope small. The term that stops the"
            " rotation is the other one: θ also descends the norm of D's slope.",
        )
        answer.expect(
            same(got, xi + w * J.T @ xi),
            f"Expected {_listed(xi + w * J.T @ xi)}, got {_listed(got)}:"
            " ξ + w·∇½‖ξ‖², with the gradient in all weights.",
        )
    return "Both players also descend the length of both slopes: friction for all."


def _listed(values: Tensor) -> str:
    return "(" + ", ".join(f"{v:.3f}" for v in values.flatten().tolist()) + ")"
