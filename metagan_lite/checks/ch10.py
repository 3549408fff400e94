"""Checks of chapter 10's exercises, Meta-Dirac-GAN."""

import math

import torch
from torch import Tensor

from . import Answer, exercise, same

F64 = torch.float64
power = torch.linalg.matrix_power


def _matrix(*rows: tuple) -> Tensor:
    return torch.tensor(rows, dtype=F64)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _one_step(at_g: float, at_d: float, gamma: float, turns: bool) -> Tensor:
    keep = 1 - at_d * gamma
    if turns:
        return _matrix((1 - at_g * at_d, at_g * keep), (-at_d, keep))
    return _matrix((1, at_g), (-at_d, keep))


def _shown(values: Tensor) -> str:
    """A tensor's numbers, rounded."""
    return str([[round(v, 3) for v in row] for row in values.tolist()])


@exercise("10.1", function="inner_matrix")
def _(answer: Answer) -> str:
    """Rates, γ and the order → B."""
    for at_g, at_d, gamma in ((0.3, 0.2, 0.5), (0.1, 0.7, 0.9), (0.5, 0.4, 0.0)):
        at_once = _one_step(at_g, at_d, gamma, False)
        answer.mistake(
            "g-does-not-move",
            same(answer(at_g, at_d, gamma, False), _one_step(0, at_d, gamma, False)),
            "$\\theta$ stays where it is here. $G$'s slope is $-\\phi$, so a step adds"
            " $\\alpha_G\\phi$ to $\\theta$.",
        )
        for turns in (False, True):
            got = torch.as_tensor(answer(at_g, at_d, gamma, turns))
            keep, want = 1 - at_d * gamma, _one_step(at_g, at_d, gamma, turns)
            swapped = _one_step(at_d, at_g, gamma * at_d / at_g, turns)
            signs = _matrix((1, -1), (-1, 1))
            answer.mistake(
                "swapped-rates",
                same(got, swapped) or same(got, _one_step(at_d, at_g, gamma, turns)),
                "The rates are exchanged: row $\\theta$ moves with $\\alpha_G$, row"
                " $\\phi$ with $\\alpha_D$.",
            )
            answer.mistake(
                "uphill",
                same(got, want * signs)
                or same(got, _one_step(-at_g, -at_d, gamma, turns)),
                "This climbs the losses. The slopes are $-\\phi$ and"
                " $\\theta - c_i + \\gamma\\phi$, and a step subtracts them.",
            )
            answer.mistake(
                "friction-without-rate",
                gamma > 0 and same(got, _one_step(at_g, at_d, gamma / at_d, turns)),
                "The friction lacks the rate: a step multiplies the whole slope by"
                " $\\alpha_D$, the part $\\gamma\\phi$ as well.",
            )
            answer.mistake(
                "no-friction",
                gamma > 0 and same(got, _one_step(at_g, at_d, 0.0, turns)),
                "R1 is missing: $D$'s slope has the part $\\gamma\\phi$.",
            )
            answer.mistake(
                "always-at-once",
                turns and same(got, at_once),
                "With `turns` the matrix is still that of simultaneous steps. Put the"
                " new $\\phi$ into $G$'s step.",
            )
            answer.mistake(
                "always-taking-turns",
                not turns and same(got, _one_step(at_g, at_d, gamma, True)),
                "Without `turns` $G$ answers the $\\phi$ of before the step: its row is"
                " $1$ and $\\alpha_G$.",
            )
            corner = want.clone()
            corner[0, 1] = at_g
            answer.mistake(
                "corner-keeps-all",
                turns and gamma > 0 and same(got, corner),
                "$G$ answers the *new* $\\phi$, of which only $1 - \\alpha_D\\gamma$ is"
                " the old one: that factor belongs into $G$'s row too.",
            )
            answer.mistake(
                "half-friction",
                gamma > 0 and same(got, _one_step(at_g, at_d, gamma / 2, turns)),
                "The penalty is $\\frac\\gamma2\\phi^2$. Its slope is $\\gamma\\phi$,"
                " without the half.",
            )
            answer.mistake(
                "transposed",
                same(got, want.T),
                "Rows and columns are exchanged. Row $\\theta$ says what"
                " $\\theta_{s+1}$ is made of.",
            )
            answer.mistake(
                "phi-first",
                same(got, want.flip(0, 1)),
                "This is in the order $\\phi, \\theta$.",
            )
            answer.mistake(
                "friction-pushes",
                gamma > 0 and same(got, _one_step(at_g, at_d, -gamma, turns)),
                "Here R1 makes $\\phi$ larger. Its slope $\\gamma\\phi$ is subtracted.",
            )
            answer.mistake(
                "change-only",
                same(got, want - torch.eye(2)),
                "This is what a step *adds*. The identity is missing.",
            )
            first = _matrix((1, at_g), (-at_d, keep - at_g * at_d))
            answer.mistake(
                "g-first",
                turns and same(got, first),
                "Here $G$ moves first and $D$ answers. In the library $D$ is first.",
            )
            answer.expect(
                same(got, want),
                f"At α_G = {at_g}, α_D = {at_d}, γ = {gamma}, turns = {turns} a played"
                f" step has the matrix {_shown(want)}, in the order θ, φ.",
            )
    return "One matrix for every task: the inner loop is its power."


def _blocks(omega: Tensor, goal: Tensor, one: Tensor, steps: int, gamma: float) -> dict:
    """The right answer and the known mistakes of exercise 10.2."""
    share = power(one, steps)
    theta, phi = goal + share @ (omega - goal)
    c = goal[0]
    of_g, of_d = (
        torch.stack([-phi, -theta]),
        torch.stack([phi, theta - c + gamma * phi]),
    )
    inner = torch.stack([of_g, of_d])
    at = torch.stack([-omega[1], -omega[0], omega[1], omega[0] - c + gamma * omega[1]])
    shifted = goal + share @ omega
    lost = torch.stack(
        [-shifted[1], -shifted[0], shifted[1], shifted[0] - c + gamma * shifted[1]]
    )
    way = share @ (omega - goal)
    as_end = torch.stack([-way[1], -way[0], way[1], way[0] - c + gamma * way[1]])
    each = one**steps
    there = goal + each @ (omega - goal)
    by_entry = torch.stack(
        [-there[1], -there[0], there[1], there[0] - c + gamma * there[1]]
    )
    return {
        "right": inner @ share,
        "no-transpose": inner @ share.T,
        "first-order": inner,
        "one-step": inner @ one,
        "slopes-at-the-start": at.view(2, 2) @ share,
        "no-friction": torch.stack([of_g, torch.stack([phi, theta - c])]) @ share,
        "way-for-place": torch.stack([torch.stack([-phi, c - theta]), of_d]) @ share,
        "goal-forgotten": lost.view(2, 2) @ share,
        "way-for-end": as_end.view(2, 2) @ share,
        "entries-to-the-power": by_entry.view(2, 2) @ each,
        "place-for-way": torch.stack([of_g, torch.stack([phi, theta + gamma * phi])])
        @ share,
        "own-slopes-alone": torch.diag(inner.diagonal()) @ share,
        "half-friction": torch.stack(
            [of_g, torch.stack([phi, theta - c + gamma / 2 * phi])]
        )
        @ share,
        "columns": (inner @ share).T,
        "swapped-slopes": inner.flip(1) @ share,
    }


@exercise("10.2", function="hypergradients")
def _(answer: Answer) -> str:
    """ω, goal, B, S, γ → four total derivatives."""
    hints = {
        "no-transpose": "The slopes at the end are multiplied by $B^S$ where its"
        " transpose belongs. $B$ is not symmetric, and here that shows.",
        "first-order": "These are the partial derivatives at the end: the path back"
        " through the steps is missing.",
        "one-step": "Only one factor $B$: there is one for each of the S steps.",
        "slopes-at-the-start": "The slopes are those at $\\omega$. The outer losses are"
        " taken at $\\omega'$.",
        "no-friction": "$L_D$ holds the penalty $\\gamma\\phi'^2/2$ as well, with the"
        " slope $\\gamma\\phi'$.",
        "way-for-place": "In $L_G = -\\phi'\\theta'$ stands the place $\\theta'$, and"
        " not the way $\\theta' - c_i$: that would be with the real term.",
        "goal-forgotten": "$B^S$ multiplies the way $\\omega - \\omega_i^\\star$, not"
        " $\\omega$ itself.",
        "way-for-end": "$B^S (\\omega - \\omega_i^\\star)$ is the way that is left. The"
        " end $\\omega'$ is the goal plus that.",
        "entries-to-the-power": "`B**steps` raises every *entry* to the power. The"
        " product of matrices is `torch.linalg.matrix_power(B, steps)`.",
        "place-for-way": "In $L_D$ stands the way $\\theta' - c_i$: fakes against real"
        " samples. Its slope in $\\phi'$ holds $c_i$.",
        "own-slopes-alone": "Each loss has *two* slopes at $\\omega'$, and both go"
        " back: $L_G$ has one in $\\phi'$ as well.",
        "half-friction": "The slope of $\\frac\\gamma2\\phi'^2$ is $\\gamma\\phi'$,"
        " without the half.",
        "columns": "Rows and columns are exchanged: a row for each loss, a column for"
        " each initialisation.",
        "swapped-slopes": "The two slopes of each loss are exchanged: first that in"
        " $\\theta'$, then that in $\\phi'$.",
    }
    cases = (
        (_one_step(0.3, 0.2, 0.8, False), 4, 0.8, 11),
        (_one_step(0.4, 0.9, 0.5, True), 3, 0.5, 12),
        (_normal(2, 2, seed=13), 2, 1.3, 14),
    )
    for one, steps, gamma, seed in cases:
        omega = _normal(2, seed=seed)
        goal = torch.cat([_normal(1, seed=seed + 50), torch.zeros(1)])
        got = answer(omega, goal, one, steps, gamma)
        known = _blocks(omega, goal, one, steps, gamma)
        shape = list(torch.as_tensor(got).shape)
        answer.expect(
            shape == [2, 2], f"Expected all four blocks as [2, 2], got {shape}."
        )
        for name, hint in hints.items():
            answer.mistake(name, same(got, known[name]), hint)
        answer.expect(
            same(got, known["right"]),
            f"With S = {steps} and γ = {gamma} expected"
            f" {_shown(known['right'])}: row by row $(B^S)^\\top$ times the slopes of"
            " that loss at $\\omega'$.",
        )
    return "All four blocks: the slopes at the end, carried back by one transpose."


@exercise("10.3", function="detached_step")
def _(answer: Answer) -> str:
    """θ, φ after a step whose derivative forgets the fakes of D's loss."""
    for at_g, at_d, gamma, c in ((0.3, 0.2, 0.5, 1.2), (0.2, 0.6, 0.9, -0.7)):
        theta, phi = (v.squeeze().requires_grad_() for v in _normal(2, 1, seed=20))

        def play(steps: int) -> tuple[Tensor, Tensor]:
            at = theta, phi  # noqa: B023
            for _ in range(steps):
                at = answer(*at, c, at_g, at_d, gamma)  # noqa: B023
            return at

        one = play(1)
        want = [
            theta.item() + at_g * phi.item(),
            phi.item() - at_d * (theta.item() - c + gamma * phi.item()),
        ]
        got = [float(torch.as_tensor(v).detach()) for v in one]
        answered = theta.item() + at_g * want[1]
        answer.mistake(
            "taking-turns",
            same(got, [answered, want[1]]),
            "$G$ answers the $\\phi$ that has moved. The step asked for is"
            " simultaneous.",
        )
        answer.mistake(
            "phi-first",
            same(got, want[::-1]),
            "These are $\\phi$ and $\\theta$. Return $\\theta$ first.",
        )
        up = [2 * v.item() - w for v, w in zip((theta, phi), want)]
        answer.mistake(
            "uphill",
            same(got[0], up[0]) or same(got[1], up[1]),
            "Here a player climbs its loss. The slopes are $-\\phi$ and"
            " $\\theta - c + \\gamma\\phi$, and a step subtracts them.",
        )
        answer.expect(
            same(got, want),
            f"From θ = {theta.item():.3f}, φ = {phi.item():.3f} the step should lead to"
            f" θ = {want[0]:.3f}, φ = {want[1]:.3f}, got {got[0]:.3f}, {got[1]:.3f}."
            " Detaching changes no value.",
        )
        steps = 3
        rows = []
        for end in play(steps):
            if not (isinstance(end, Tensor) and end.requires_grad):
                rows.append([0.0, 0.0])
                continue
            slopes = torch.autograd.grad(
                end, [theta, phi], retain_graph=True, allow_unused=True
            )
            rows.append([0.0 if s is None else s.item() for s in slopes])
        found, keep = _matrix(*rows), 1 - at_d * gamma
        cut = _matrix((1, at_g), (0, keep))
        answer.mistake(
            "attached",
            same(found, power(_one_step(at_g, at_d, gamma, False), steps)),
            "The values are right, but nothing is detached: $\\phi'$ still depends on"
            " $\\theta$.",
        )
        answer.mistake(
            "nothing-left",
            same(found, torch.zeros(2, 2)),
            "No derivative is left at all. Only the fake in $D$'s slope is a constant;"
            " each player's own start has to stay in the graph.",
        )
        answer.mistake(
            "first-order",
            same(found, torch.eye(2)),
            "Whole slopes are detached here, which is first order: $G$'s step has lost"
            " $\\phi$, and $D$'s step its friction.",
        )
        answer.mistake(
            "both-players",
            same(found, power(_matrix((1, 0), (0, keep)), steps)),
            "$G$'s step has lost its derivative in $\\phi$. The fakes are detached in"
            " $D$'s loss only.",
        )
        answer.mistake(
            "whole-slope-of-d",
            same(found, power(_matrix((1, at_g), (0, 1)), steps)),
            "The whole slope of $D$ is detached, and the friction $-\\alpha_D\\gamma$"
            " with it. Detach the fake alone.",
        )
        answer.mistake(
            "phi-for-theta",
            same(found, power(_matrix((1, 0), (-at_d, keep)), steps)),
            "The other path is cut: $\\theta'$ no longer depends on $\\phi$. The fakes"
            " that count as constants are those in $D$'s step.",
        )
        answer.mistake(
            "own-weight",
            same(found, power(_matrix((0, at_g), (0, keep)), steps))
            or same(found, power(_matrix((1, at_g), (0, keep - 1)), steps)),
            "A player's own weight is detached too: its new value has to depend on its"
            " old one. Only the fake inside $D$'s slope is a constant.",
        )
        answer.expect(
            same(found, power(cut, steps)),
            f"The values are right. The derivative of three steps is {_shown(found)};"
            f" expected {_shown(power(cut, steps))}, the power of $\\tilde B$.",
        )
    return "Same values, one path fewer: this is what `.detach()` on the fakes does."


@exercise("10.4", function="arriving_rate")
def _(answer: Answer) -> str:
    """S, α_G, the order → α_D with which every task arrives."""
    for steps, at_g in ((5, 0.3), (3, 0.4), (8, 0.15)):
        for turns in (False, True):
            got = answer(steps, at_g, turns)
            quarter = math.pi / 2 / steps
            roots = {
                False: math.tan(quarter),
                True: 2 * math.sin(math.pi / (4 * steps + 2)),
            }
            root = roots[turns]
            right = root**2 / at_g
            answer.mistake(
                "root",
                same(got, root) or same(got, root / at_g),
                "This is made of the *root* of the product $\\alpha_G\\alpha_D$. Square"
                " it, then divide by $\\alpha_G$.",
            )
            answer.mistake(
                "product",
                same(got, root**2),
                "This is the product $\\alpha_G\\alpha_D$: divide by $\\alpha_G$.",
            )
            whole = {
                False: math.tan(2 * quarter),
                True: 2 * math.sin(math.pi / (2 * steps + 1)),
            }[turns]
            answer.mistake(
                "half-turn",
                same(got, whole**2 / at_g),
                "That makes half a turn: there $G$ is as far from its goal as at the"
                " start, on the other side.",
            )
            answer.mistake(
                "always-at-once",
                turns and same(got, roots[False] ** 2 / at_g),
                "Taking turns, the angle of a step is another one, and $G$ is half a"
                " step ahead, (10.4).",
            )
            answer.mistake(
                "always-taking-turns",
                not turns and same(got, roots[True] ** 2 / at_g),
                "This is the rate of alternating steps. At once,"
                " $\\sqrt{\\alpha_G\\alpha_D}$ is the tangent of a step's angle.",
            )
            no_lead = 2 * math.sin(math.pi / (4 * steps))
            answer.mistake(
                "no-half-step",
                turns and same(got, no_lead**2 / at_g),
                "The angle is right, but the lead of half a step is forgotten:"
                " $(S + \\frac12)\\chi$ is a quarter turn.",
            )
            answer.mistake(
                "small-angle",
                same(got, quarter**2 / at_g),
                "This takes $\\tan\\chi$ for $\\chi$. Nearly right for many steps, and"
                " the formula is no harder.",
            )
            try:
                value = float(got)
                share = power(_one_step(at_g, value, 0.0, turns), steps)[0, 0].item()
            except (TypeError, ValueError):
                share = math.nan
            answer.expect(
                same(got, right),
                f"With S = {steps}, α_G = {at_g}, turns = {turns} your rate leaves"
                f" {share:.3g} of the way; (10.12) asks for {right:.4f}, the smallest"
                " rate that leaves nothing.",
            )
    return "A quarter turn in S steps: way has become slope, for every task at once."


@exercise("10.5", function="largest_outer_rate")
def _(answer: Answer) -> str:
    """J_out → the bound on β, or 0."""

    def turn(size: float, angle: float) -> Tensor:
        sin, cos = size * math.sin(angle), size * math.cos(angle)
        return _matrix((sin, -cos), (cos, sin))

    mixed = torch.block_diag(turn(1.2, 0.5), _matrix((0.9,)), turn(0.7, 1.1))
    basis = _normal(5, 5, seed=40) + 2 * torch.eye(5)
    cases = (
        turn(1.3, 0.6),
        turn(0.8, 1.4),
        basis @ mixed @ torch.linalg.inv(basis),
        _matrix((0.7, 0.4), (0.0, 2.3)),
        turn(1.1, -0.4),
        torch.block_diag(turn(0.8, 0.9), _matrix((-0.3,))),
    )
    for matrix in cases:
        got = answer(matrix)
        mu = torch.linalg.eigvals(matrix)
        bounds = 2 * mu.real / mu.abs() ** 2
        right = bounds.min().clamp_min(0).item()
        settles = right > 0
        answer.mistake(
            "friction-ignored",
            not same(got, right) and same(got, (2 / mu.abs()).min()),
            "That is right where all eigenvalues are real. A turn needs a smaller rate:"
            " see how far $1 - \\beta\\mu$ is from zero for complex $\\mu$.",
        )
        answer.mistake(
            "turn-ignored",
            settles and not same(got, right) and same(got, (2 / mu.real).min()),
            "The imaginary parts are ignored. They make $|1 - \\beta\\mu|$ larger.",
        )
        answer.mistake(
            "not-squared",
            settles
            and not same(got, right)
            and same(got, (2 * mu.real / mu.abs()).min()),
            "The modulus is not squared. $|1 - \\beta\\mu|^2 = 1 - 2\\beta\\,"
            "\\mathrm{Re}\\,\\mu + \\beta^2|\\mu|^2$.",
        )
        answer.mistake(
            "half",
            settles and same(got, right / 2),
            "That is the rate at which $|1 - \\beta\\mu|$ is *smallest*. It reaches one"
            " at twice that rate.",
        )
        answer.mistake(
            "easiest",
            settles and bounds.max() > 1.01 * right and same(got, bounds.max()),
            "That is the bound of the easiest eigenvalue. All of them have to shrink.",
        )
        answer.mistake(
            "negative",
            not settles and same(got, bounds.min()),
            "A negative rate climbs. Where some eigenvalue has no positive real part,"
            " no $\\beta > 0$ settles: return 0.",
        )
        answer.mistake(
            "outward-ignored",
            not settles and (bounds > 0).any() and same(got, bounds[bounds > 0].min()),
            "One eigenvalue points outwards, and it was left out. It alone is enough"
            " that no $\\beta > 0$ settles.",
        )
        answer.expect(
            same(got, right),
            f"For the eigenvalues {', '.join(f'{m:.2f}' for m in mu.tolist())}"
            f" expected {right:.4f}.",
        )
    return "β must stay below 2 Re μ / |μ|², for each eigenvalue μ."


@exercise("10.6", function="best_start")
def _(answer: Answer) -> str:
    """Powers [T, 2, 2] and goals [T, 2] → ω with the least squared miss of G."""
    for seed, tasks in ((60, 3), (70, 5)):
        shares = torch.eye(2) + 0.5 * _normal(tasks, 2, 2, seed=seed)
        places = 1 + _normal(tasks, seed=seed + 1)
        goals = torch.stack([places, torch.zeros(tasks)], 1)

        def weighted(weights: Tensor) -> Tensor:
            right = (weights @ goals.unsqueeze(-1)).sum(0)  # noqa: B023
            return torch.linalg.solve(weights.sum(0), right).squeeze(-1)

        rows, columns = shares[:, 0], shares[:, :, 0]
        got = answer(shares, goals)
        shape = list(torch.as_tensor(got).shape)
        answer.expect(shape == [2], f"Expected (θ, φ) as [2], got {shape}.")
        answer.mistake(
            "plain-mean",
            same(got, goals.mean(0)),
            "This is the mean of the goals, which is right if all tasks have one"
            " matrix. These have not.",
        )
        answer.mistake(
            "both-misses",
            same(got, weighted(shares.mT @ shares)),
            "This asks for a small $\\phi'$ as well. Only the miss of $G$ counts,"
            " $\\theta_i' - c_i$: the upper row of $B_i^S$.",
        )
        answer.mistake(
            "column-for-row",
            same(got, weighted(columns.unsqueeze(2) * columns.unsqueeze(1))),
            "The left column of $B_i^S$ says where $\\theta$'s start goes. What arrives"
            " in $\\theta'$ is the upper row.",
        )
        flat = (rows[:, 0] ** 2 * places).sum() / (rows[:, 0] ** 2).sum()
        answer.mistake(
            "flat-d",
            same(got, torch.stack([flat, 0 * flat])),
            "That is the best start with a flat $D$. $\\phi$'s start arrives in"
            " $\\theta'$ too, and may help.",
        )
        answer.mistake(
            "one-factor",
            same(got, weighted(shares)),
            "The weights are $B_i^S$ themselves. The miss is squared, so each task"
            " counts with the product of its row with itself.",
        )
        answer.expect(
            same(got, weighted(rows.unsqueeze(2) * rows.unsqueeze(1))),
            "The squared miss is smaller elsewhere. With $r_i$ for the upper row of"
            " $B_i^S$ solve $\\sum_i r_i r_i^\\top \\omega = \\sum_i r_i r_i^\\top"
            " \\omega_i^\\star$.",
        )
    return (
        "Where tasks have different speeds, the start is a weighted mean again, and D's"
        " start is not flat."
    )
