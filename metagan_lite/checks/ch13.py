"""Checks of chapter 13's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..blocks import hypergradient_blocks
from ..games import GAN
from ..meta import draw_noise, meta_gradients
from ..nets import MetaDiscriminator, MetaGenerator
from ..objectives import make_objective
from ..tasks import TaskBatch
from . import Answer, exercise, same

F64 = torch.float64


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_random(seed), dtype=F64)


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, (int, float))


@exercise("13.1", function="shares")
def _(answer: Answer) -> str:
    """Direct, own, cross → their shares."""
    examples = [torch.tensor([[-3.0, 0.0], [2.0, 1.0], [2.5, 1.0]], dtype=F64)]
    examples += [_normal(3, size, seed=size) for size in (4, 7)]
    for parts in examples:
        total = parts.sum(0)
        along, norms, size = parts @ total, parts.norm(dim=1), total.norm()
        got = answer(*parts)
        if isinstance(got, (list, tuple)) and all(map(_is_number, got)):
            got = torch.tensor([float(share) for share in got], dtype=F64)
        answer.expect(
            getattr(got, "shape", None) == (3,),
            "A tensor of three numbers was expected: the shares of direct, own and"
            " cross.",
        )
        answer.mistake(
            "lengths",
            same(got, norms / norms.sum()),
            "These are fractions of the summed lengths. They cannot be negative, and do"
            " not know whether a part points along the total or against it.",
        )
        answer.mistake(
            "lengths_over_the_total",
            same(got, norms / size),
            "These are lengths in units of the total's. A part across the total is"
            " worth nothing however long it is: take its product with the total.",
        )
        answer.mistake(
            "cosines",
            same(got, along / (norms * size)),
            "These are cosines: the length of the part is divided out. Shares keep it,"
            " and sum to one.",
        )
        answer.mistake(
            "not_squared",
            same(got, along / size),
            "They sum to the length of the total, not to one: divide by its *square*.",
        )
        answer.mistake(
            "squared_lengths",
            same(got, (norms / size) ** 2) or same(got, norms**2 / (norms @ norms)),
            "These are squared lengths of the parts. Above the line stands the product"
            " of a part with the *total*.",
        )
        answer.mistake(
            "not_divided",
            same(got, along),
            "They sum to the total's squared length, not to one: divide by it.",
        )
        answer.mistake(
            "sums_of_numbers",
            same(got, parts.sum(1) / parts.sum()),
            "Here the numbers of a part are added up. Multiply each by the total's"
            " number at the same place first: $p^\\top t$.",
        )
        answer.mistake(
            "absolute",
            bool((along < 0).any())
            and (
                same(got, along.abs() / along.abs().sum())
                or same(got, along.abs() / size**2)
            ),
            "The signs are lost. A part that works against the total has a negative"
            " share.",
        )
        answer.expect(
            same(got, along / size**2),
            "The shares of the parts"
            f" {', '.join(str(part) for part in parts.round(decimals=2).tolist())} are"
            f" {(along / size**2).round(decimals=2).tolist()}.",
        )
    return "They sum to one, and one that is negative works against the others."


@exercise("13.2", function="first_order_survives")
def _(answer: Answer) -> str:
    """α → S."""
    # A mistake is named only if it explains the answers to all these rates.
    rates = (0.265, 1.0, math.sqrt(3), 0.1, 0.6)
    given = [answer(alpha) for alpha in rates]

    def all_are(function: Callable[[float], float]) -> bool:
        return all(same(got, function(alpha)) for got, alpha in zip(given, rates))

    def steps(angle: float, of: float = math.pi / 2) -> int:
        """How many steps of an angle fit in another."""
        return math.floor(of / angle + 1e-9)

    def right(alpha: float) -> int:
        return steps(math.atan(alpha))

    answer.mistake(
        "small_angle",
        all_are(lambda alpha: steps(alpha)),
        "This takes α itself for the angle of a step. The angle is $\\arctan \\alpha$,"
        " which is smaller.",
    )
    answer.mistake(
        "tangent",
        all_are(lambda alpha: math.floor(math.pi / 2 / math.tan(alpha))),
        "α is the tangent of the angle of a step. The angle is its arc tangent,"
        " `math.atan(alpha)`.",
    )
    answer.mistake(
        "half_turn",
        all_are(lambda alpha: steps(math.atan(alpha), math.pi)),
        "First order climbs from a *right* angle on. At half a turn it points exactly"
        " the wrong way.",
    )
    answer.mistake(
        "right_angle_refused",
        all_are(lambda alpha: math.ceil(math.pi / 2 / math.atan(alpha) - 1e-9) - 1),
        "At exactly a right angle the outer loss neither rises nor falls. That number"
        " of steps is still allowed.",
    )
    answer.mistake(
        "one_too_many",
        all_are(lambda alpha: math.ceil(math.pi / 2 / math.atan(alpha) - 1e-9))
        or all_are(lambda alpha: right(alpha) + 1),
        "With so many steps it climbs: the *largest* number that is still allowed was"
        " asked for.",
    )
    answer.mistake(
        "one_too_few",
        all_are(lambda alpha: right(alpha) - 1),
        "One step more is allowed. Count all steps, the first as well.",
    )
    answer.mistake(
        "degrees",
        all_are(lambda alpha: math.floor(90 / math.atan(alpha))),
        "90 is in degrees, and `atan` gives radians.",
    )
    answer.mistake(
        "not_whole",
        all_are(lambda alpha: math.pi / 2 / math.atan(alpha)),
        "A number of steps is whole: take the largest that does not pass this.",
    )
    for alpha, got in zip(rates, given):
        answer.expect(
            same(got, right(alpha)),
            f"At α = {alpha:.3g} the total turns by"
            f" {math.degrees(math.atan(alpha)):.1f}° a step: the largest number is"
            f" {right(alpha)}, got {got}.",
        )
    return "$S \\arctan \\alpha$ must not pass a right angle."


def _jacobians(steps: int, size: int, seed: int) -> list[Tensor]:
    return list(_normal(steps, size, size, seed=seed))


def _stay(J: Tensor, n: int) -> Tensor:
    return torch.block_diag(J[:n, :n], J[n:, n:])


@exercise("13.3", function="three_parts")
def _(answer: Answer) -> str:
    """J₀ … J_{S−1}, g, α, the size of θ → direct, own, cross."""
    for steps, size, n, alpha, seed in ((3, 5, 2, 0.3, 0), (2, 4, 3, 0.5, 1)):
        found, g = _jacobians(steps, size, seed), _normal(size, seed=seed + 10)

        def back(matrices: list[Tensor], alpha: float = alpha, g: Tensor = g) -> Tensor:
            for matrix in matrices:
                g = g - alpha * matrix @ g
            return g

        def parts(of: list[Tensor], n: int = n, g: Tensor = g) -> tuple[Tensor, ...]:
            stay = back([_stay(J, n) for J in of])  # noqa: B023
            return g, stay - g, back(of) - stay  # noqa: B023

        last_first = [J.T for J in reversed(found)]
        right = parts(last_first)
        over = back([J - _stay(J, n) for J in last_first])
        summed = sum(last_first)
        got = answer(found, g, alpha, n)
        if isinstance(got, Tensor) and got.ndim == 2:
            got = tuple(got)
        answer.mistake(
            "not_transposed",
            same(got, parts(list(reversed(found)))),
            "The Jacobians are not transposed. $J$ of a game is not symmetric: slopes"
            " go back through $J^\\top$.",
        )
        answer.mistake(
            "first_step_first",
            same(got, parts([J.T for J in found])),
            "The first step was undone first. The way back begins at the *last* step.",
        )
        uphill = [-J for J in last_first]
        answer.mistake(
            "uphill",
            same(got, parts(uphill)),
            "The signs of a step are those of an ascent: a step *subtracts* $\\alpha$"
            " times the slope, so its Jacobian is $I - \\alpha J$.",
        )
        answer.mistake(
            "rate_forgotten",
            same(got, parts([J / alpha for J in last_first])),
            "The rate is missing: the Jacobian of a step is $I - \\alpha J$.",
        )
        answer.mistake(
            "cross_holds_own",
            same(got, (right[0], right[1], right[1] + right[2]))
            or same(got, (right[0], right[1], g + right[1] + right[2])),
            "The third part holds the others too: cross is the total without direct"
            " *and* own.",
        )
        lone = back([torch.block_diag(J[:n, :n], 0 * J[n:, n:]) for J in last_first])
        answer.mistake(
            "curvature_of_one_player",
            same(got, (g, lone - g, g + right[1] + right[2] - lone)),
            "Only $\\theta$ goes back through curvature of its own. Both diagonal"
            " blocks of $J$ stay open, $\\phi$'s too.",
        )
        answer.mistake(
            "own_holds_direct",
            same(got, (g, right[0] + right[1], right[2])),
            "The second part holds direct as well, so that the three sum to more than"
            " the total: own is what is *added* to $g$.",
        )
        answer.mistake(
            "always_over",
            same(got, (right[0], right[1], over - g)),
            "Cross has only the off-diagonal blocks beside the identity. It misses the"
            " ways that change over *and* pass through curvature: cross is all that"
            " is left of the total.",
        )
        answer.mistake(
            "first_order_in_the_rate",
            same(
                got,
                (
                    g,
                    -alpha * _stay(summed, n) @ g,
                    -alpha * (summed - _stay(summed, n)) @ g,
                ),
            ),
            "These are the sums of (13.2), right for small rates only. The factors"
            " multiply: a way may pass through several.",
        )
        answer.expect(
            same(got, right),
            "Three vectors were expected: $g$; what the diagonal blocks of the steps"
            " add to it; and what all of $J$ adds to that. Go through every step, from"
            " the last to the first.",
        )
    return (
        "One product, with all doors closed, with the inner doors open, with all open."
    )


def _ways_of_all(moves: list, g: Tensor) -> list[Tensor]:
    """The recursion of (13.1) with Y + X in the place of Y after the first change."""
    v = [g] + [torch.zeros_like(g)] * len(moves)
    for Y, X in moves:
        v = [Y @ v[0]] + [(Y + X) @ v[k] + X @ v[k - 1] for k in range(1, len(v))]
    return v


@exercise("13.4", function="ways_by_changes")
def _(answer: Answer) -> str:
    """m pairs (Y, X), g → v⁽⁰⁾ … v⁽ᵐ⁾."""
    for count, size, seed in ((3, 4, 20), (4, 3, 21)):
        both = _normal(count, 2, size, size, seed=seed)
        moves = [(Y, X) for Y, X in both]
        g = _normal(size, seed=seed + 10)

        def ways(
            moves: list, in_place: bool = False, bend: bool = True, g: Tensor = g
        ) -> list[Tensor]:
            v = [g] + [torch.zeros_like(g)] * len(moves)
            for Y, X in moves:
                old = v if in_place else list(v)
                v[0] = Y @ v[0]
                for k in range(1, len(v)):
                    v[k] = (Y @ v[k] if bend else v[k]) + X @ old[k - 1]
            return v

        last_first = [(Y.T, X.T) for Y, X in reversed(moves)]
        right = ways(last_first)
        got = answer(moves, g)
        if isinstance(got, Tensor) and got.ndim == 2:
            got = list(got)
        if isinstance(got, tuple):
            got = list(got)
        answer.mistake(
            "overwritten",
            same(got, ways(last_first, in_place=True)),
            "Entry $k - 1$ was already overwritten when entry $k$ needed it: a slope"
            " then stays, or changes, and changes again in one and the same move.",
        )
        answer.mistake(
            "not_transposed",
            same(got, ways(list(reversed(moves)))),
            "Slopes go back through the transposes of $Y$ and $X$.",
        )
        answer.mistake(
            "first_move_first",
            same(got, ways([(Y.T, X.T) for Y, X in moves])),
            "The way back begins at the *last* move.",
        )
        answer.mistake(
            "one_entry_short",
            same(got, right[:-1]),
            "The last entry is missing: with $m$ moves there can be $m$ changes.",
        )
        answer.mistake(
            "direct_taken_off",
            same(got, [right[0] - g, *right[1:]]),
            "Entry $0$ is $v^{(0)}_0$ whole: direct and own together.",
        )
        answer.mistake(
            "summed_up",
            same(got, list(torch.stack(right).cumsum(0))),
            "Entry $k$ holds the ways with *up to* $k$ changes. Those with exactly $k$"
            " were asked for.",
        )
        answer.mistake(
            "exchanged",
            same(got, ways([(X, Y) for Y, X in last_first])),
            "$Y$ and $X$ are exchanged, or the list is backwards. Entry $0$ goes"
            " through every $Y$ and no $X$.",
        )
        answer.mistake(
            "stays_through_both",
            same(got, _ways_of_all(last_first, g)),
            "A way that stays goes through $Y$ alone. Here it also goes through $X$,"
            " and is not counted as changed.",
        )
        answer.mistake(
            "no_curvature_after_a_change",
            same(got, ways(last_first, bend=False)),
            "Once a way has changed over it goes back unchanged here. It passes through"
            " $Y$ in every move in which it stays.",
        )
        answer.expect(
            same(got, right),
            f"A list of {count + 1} vectors was expected, entry $k$ the sum of all ways"
            " with $k$ changes.",
        )
    return "A sum over all words, in as many products as there are moves and changes."


@exercise("13.5", function="spared_gradients")
def _(answer: Answer) -> str:
    """A game, tasks, S, α, a generator → gradients."""
    for seed in (30, 31):
        sizes = {"hidden": 3, "generator": _random(seed)}
        game = GAN(
            MetaGenerator((2,), latent_dim=2, output=nn.Identity, **sizes).double(),
            MetaDiscriminator((2,), **sizes).double(),
        )
        x = _normal(2, 10, 2, seed=seed)
        batch, lr = TaskBatch(x[:, :5], x[:, 5:]), {"G": 0.8, "D": 0.6}
        objective = make_objective("adversarial", game)
        noise = draw_noise(game, batch, objective, 3, generator=_random(1))
        options = {"inner_steps": 3, "inner_lr": lr, "objective": objective}
        blocks = hypergradient_blocks(game, batch, noise=noise, **options)
        whole = {p: blocks[p][p].total for p in "GD"}
        direct = {p: blocks[p][p].direct for p in "GD"}
        spared = {
            p: {k: v + blocks[p][p].own[k] for k, v in direct[p].items()} for p in "GD"
        }
        got = answer(game, batch, 3, lr, _random(1))
        answer.mistake(
            "attached",
            same(got, whole),
            "Both players follow all parts: the cross part of $\\phi$ is still there.",
        )
        answer.mistake(
            "both_detached",
            same(got, spared),
            "Both cross parts are gone. $\\theta$ is to keep its own.",
        )
        answer.mistake(
            "wrong_player",
            same(got, {"G": spared["G"], "D": whole["D"]}),
            "The players are exchanged: $\\theta$ lost its cross part and $\\phi$ kept"
            " it.",
        )
        answer.mistake(
            "first_order_for_d",
            same(got, {"G": whole["G"], "D": direct["D"]}),
            "$\\phi$ follows direct alone. First order drops the own part too.",
        )
        answer.mistake(
            "first_order_for_both",
            same(got, direct),
            "Both players follow direct alone: first order drops own and cross of"
            " both.",
        )
        source = _random(1)
        draw_noise(game, batch, objective, 3, generator=source)
        cut = GAN(game.players["G"], game.players["D"], detach_fakes=True)
        later = meta_gradients(cut, batch, generator=source, **options).grads
        first = meta_gradients(cut, batch, generator=_random(1), **options).grads
        source = _random(1)
        draw_noise(game, batch, objective, 3, generator=source)
        again = meta_gradients(game, batch, generator=source, **options).grads
        answer.mistake(
            "fresh_noise",
            same(got, {"G": whole["G"], "D": later["D"]})
            or same(got, {"G": again["G"], "D": first["D"]}),
            "The two calls drew noise one after the other, so that the players were"
            " asked about two different inner games. Draw it once.",
        )
        answer.expect(
            same(got, {"G": whole["G"], "D": spared["D"]}),
            "Expected, for the noise that `generator` gives first, all of"
            " $\\mathrm dL_G/\\mathrm d\\theta$ and the direct and own part of"
            " $\\mathrm dL_D/\\mathrm d\\phi$.",
        )
    return "Each start follows the parts that it should: no split was needed."
