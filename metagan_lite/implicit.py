"""Meta-gradients without the path: the implicit function theorem (iMAML).

The inner loop of :mod:`metagan_lite.adapt` is a path, and MAML differentiates along it.
Here the adapted parameters are a place. A spring of strength η (the paper's λ) ties
every player to its initialisation. With ω all parameters and ξ the slope of each
player's own loss in its own parameters, ω′ is where springs and slopes balance:

    ξ(ω′) + η (ω′ − ω) = 0.

For one player this is a minimum of L(ω′) + η/2 ‖ω′ − ω‖² (Rajeswaran et al. 2019,
section 2.2). Differentiate it in ω, with J the Jacobian of ξ at ω′:

    dω′/dω = (I + J/η)⁻¹        (their lemma 1: for one player J is the Hessian).

An outer loss with slope g at ω′ therefore has the meta-gradient v that solves
(I + J/η)ᵀ v = g. How ω′ was reached does not matter, so nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vjp, vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from .adapt import Adapted, Params, bind
from .data import check_integers
from .games import Game
from .meta import MetaGradients, draw_noise
from .objectives import Objective, make_objective
from .tasks import TaskBatch

__all__ = [
    "ImplicitGradients",
    "conjugate_gradients",
    "implicit_gradients",
    "proximal_point",
    "solve_implicit",
]

Tree = Any
"""Tensors in nested dictionaries: a point, a direction, the slopes of all players."""

Field = Callable[[Tree], Tree]
"""ξ: a point → the slope of each player's own loss in its own parameters."""


# --- one task: any field on any tree ------------------------------------------


def proximal_point(
    field: Field, start: Tree, *, strength: float, steps: int, lr: float
) -> Tree:
    """ω′ with ξ(ω′) + η (ω′ − ω) = 0, by gradient descent from ω.

    Args:
        field: ξ. start: ω. strength: η. steps: Steps of descent.
        lr: Their rate. For a loss of curvature at most μ it must stay below 2/(μ + η).
    """
    at = start
    for _ in range(steps):
        at = _add(at, _force(field, at, start, strength), -lr)
    return at


def conjugate_gradients(
    apply: Callable[[Tree], Tree], target: Tree, *, steps: int
) -> Tree:
    """Solve A v = target for a symmetric positive definite A that is never formed.

    Hestenes & Stiefel 1952. With r the root of A's condition number, the error in the
    norm √(vᵀAv) is at most 2((r − 1)/(r + 1))^steps of what it was at v = 0; and
    nothing but rounding is left after as many steps as A has different eigenvalues.

    Args:
        apply: v → A v. target: The right-hand side. steps: Products with A.

    Returns:
        v, a tree like ``target``. For another A it need not be a solution.
    """
    v, rest, direction = tree_map(torch.zeros_like, target), target, target
    square = _dot(rest, rest)
    for _ in range(steps):
        image = apply(direction)
        length = _ratio(square, _dot(direction, image))
        v = _add(v, direction, length)
        rest = _add(rest, image, -length)
        square, before = _dot(rest, rest), square
        direction = _add(rest, direction, _ratio(square, before))
    return v


def solve_implicit(
    field: Field,
    at: Tree,
    target: Tree,
    *,
    strength: float,
    steps: int,
    symmetric: bool,
) -> Tree:
    """v with (I + J/η)ᵀ v = target, where J is the Jacobian of the field at a point.

    The Jacobian of one player's slope is a Hessian, symmetric, and one product with it
    makes one step of :func:`conjugate_gradients`. That of a game is not symmetric: with
    A = I + J/η and v = A u, the normal equations AᵀA u = target are solved instead, for
    two products a step and the square of the condition number.

    Args:
        field: ξ. at: ω′. target: g, the slope of the outer loss at ω′.
        strength: η. steps: Of conjugate gradients. symmetric: Whether J is.
    """
    _, pull_back = vjp(field, at)  # v → Jᵀ v

    def transposed(v: Tree) -> Tree:
        return _add(v, pull_back(v)[0], 1 / strength)

    if symmetric:
        return conjugate_gradients(transposed, target, steps=steps)
    _, push = vjp(lambda v: pull_back(v)[0], target)  # the transpose of that, u → J u

    def forward(u: Tree) -> Tree:
        return _add(u, push(u)[0], 1 / strength)

    return forward(
        conjugate_gradients(lambda u: transposed(forward(u)), target, steps=steps)
    )


def _force(field: Field, at: Tree, start: Tree, strength: float) -> Tree:
    return _add(field(at), _add(at, start, -1), strength)


def _add(x: Tree, y: Tree, factor: float | Tensor) -> Tree:
    return tree_map(lambda a, b: a + factor * b, x, y)


def _dot(x: Tree, y: Tree) -> Tensor:
    return sum((a * b).sum() for a, b in zip(tree_leaves(x), tree_leaves(y)))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a/b, and 0 where a is: what is solved stays as it is."""
    return torch.where(a == 0, 0.0, a / b)


# --- the players of a game, T tasks -------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ImplicitGradients(MetaGradients):
    """What :func:`implicit_gradients` returns: gradients, and how far to trust them.

    Attributes:
        inner_error: ‖ξ(ω′) + η(ω′ − ω)‖ / ‖ξ(ω′)‖ where the inner steps ended.
        solver_error: ‖g − (I + J/η)ᵀ v‖ / ‖g‖ where conjugate gradients ended.

    Both are the largest over tasks (and outer losses); 0 is solved.
    """

    inner_error: float
    solver_error: float


def implicit_gradients(
    game: Game,
    batch: TaskBatch,
    *,
    strength: float,
    inner_steps: int,
    inner_lr: float,
    cg_steps: int = 10,
    objective: str | Objective = "query-loss",
    samples: int | None = None,
    noise: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> ImplicitGradients:
    """The gradients of the outer losses in the initialisations, mean over tasks.

    What :func:`~metagan_lite.meta.meta_gradients` is for a path of inner steps, this is
    for the point that a spring holds (Rajeswaran et al. 2019, algorithms 1 and 2). All
    players move at once. The memory does not grow with ``inner_steps``, and neither it
    nor the result depends on how the point was found.

    Args:
        game: The players, whose parameters are the initialisations.
        batch: T tasks.
        strength: η. With one player I + H/η must be positive definite for the solver.
            At a true minimum it is; where the inner steps stop too early it may not be.
        inner_steps, inner_lr: See :func:`proximal_point`.
        cg_steps: See :func:`conjugate_gradients`.
        objective, samples, generator: See :func:`~metagan_lite.meta.meta_gradients`.
        noise: ``(inner, outer)``; :func:`~metagan_lite.meta.draw_noise` for one inner
            step by default. All steps share it, or there would be no point to reach.

    Raises:
        ValueError: for a strength or rate ≤ 0, steps < 1, and as ``meta_gradients``.
        FloatingPointError: when the inner steps diverge or an outer loss is not finite.
    """
    check_integers(1, inner_steps=inner_steps, cg_steps=cg_steps)
    for name, value in (("strength", strength), ("inner_lr", inner_lr)):
        if not value > 0:
            raise ValueError(f"expected {name} > 0, got {value}; give a positive one")
    objective = make_objective(objective, game)
    if noise is None:
        noise = draw_noise(game, batch, objective, 1, samples, generator)
    support = game.support(batch)
    game.check(support)
    inner = (support, noise[0][:, 0])
    start = {
        player: {name: p.detach() for name, p in own.items()}
        for player, own in game.trainable().items()
        if own
    }

    def descend(data: Any, z: Tensor) -> tuple[Tree, Tensor]:
        field = _field(game, data, z)
        at = proximal_point(
            field, start, strength=strength, steps=inner_steps, lr=inner_lr
        )
        slope, force = field(at), _force(field, at, start, strength)
        return at, _ratio(_dot(force, force), _dot(slope, slope)).sqrt()

    def solve(at: Tree, g: Tree, data: Any, z: Tensor) -> tuple[Tree, Tensor]:
        field = _field(game, data, z)
        symmetric = len(start) == 1
        v = solve_implicit(
            field, at, g, strength=strength, steps=cg_steps, symmetric=symmetric
        )
        rest = _add(_add(g, v, -1), vjp(field, at)[1](v)[0], -1 / strength)
        return v, _ratio(_dot(rest, rest), _dot(g, g)).sqrt()

    with torch.no_grad():
        ends, inner_error = vmap(descend)(*inner)
    if not inner_error.isfinite().all():
        raise FloatingPointError(
            f"expected finite parameters after {inner_steps} inner steps, got NaN or"
            " infinity; lower inner_lr"
        )
    leaves, layout = tree_flatten(ends)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    adapted = Adapted.at(game, tree_unflatten(leaves, layout))
    terms = objective(game, adapted, game.query(batch), noise[1])
    losses = {term: value.mean() for term, value in terms.items()}
    grads = {player: dict.fromkeys(own) for player, own in game.trainable().items()}
    solver_error = 0.0
    for term, loss in losses.items():
        if not loss.isfinite():
            raise FloatingPointError(
                f"expected a finite '{term}', got {loss.item()}; lower inner_lr or the"
                " outer rate, or raise strength"
            )
        slopes = torch.autograd.grad(
            loss, leaves, retain_graph=True, materialize_grads=True
        )
        with torch.no_grad():
            v, error = vmap(solve)(ends, tree_unflatten(slopes, layout), *inner)
        solver_error = max(solver_error, float(error.max()))
        for player in objective.follow(game)[term]:
            for name, of_task in v.get(player, {}).items():
                so_far = grads[player][name]
                total = of_task.sum(0)  # loss is a mean over tasks already
                grads[player][name] = total if so_far is None else so_far + total
    return ImplicitGradients(
        grads,
        {term: loss.detach() for term, loss in losses.items()},
        inner_error=float(inner_error.max()),
        solver_error=solver_error,
    )


def _field(game: Game, data: Any, noise: Tensor) -> Field:
    """ξ of one task: each player's partial derivative of its own loss."""
    fixed = game.parameters()

    def field(at: Params) -> Params:
        def slope(player: str) -> dict[str, Tensor]:
            def loss(own: dict[str, Tensor]) -> Tensor:
                moved = {**at, player: own}
                params = {p: fixed[p] | moved.get(p, {}) for p in fixed}
                return game.loss(player, bind(game, params), data, noise)

            return grad(loss)(at[player])

        return {player: slope(player) for player in at}

    return field
