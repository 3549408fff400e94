"""The blocks of a hypergradient, each split by the way that it took.

Two players and two outer losses make four blocks, dL_G/dθ, dL_G/dφ, dL_D/dθ and
dL_D/dφ. With ω all parameters and J_s the Jacobian of the game (Mescheder et al. 2017)
at inner step s, simultaneous steps of size α give the two blocks of an outer loss L as

    dL/dω = (I − α J_0)ᵀ ⋯ (I − α J_{S−1})ᵀ ∂L/∂ω    at the adapted parameters.

Multiply out, and every way back through the steps has a term: it stays with a player,
or changes over to the other one through an off-diagonal block of some J_s.
:func:`hypergradient_blocks` adds up the ways of three kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from .adapt import Adapted, Params, adaptation_steps, inner_step
from .games import Game
from .meta import draw_noise
from .objectives import Objective, make_objective
from .rates import InnerLR, rates_at
from .tasks import TaskBatch

__all__ = ["Block", "hypergradient_blocks"]


@dataclass(frozen=True)
class Block:
    """The derivative of one outer loss in one player's initialisation.

    Each part is parameter name → tensor like the parameter, the mean over tasks, and 0
    where nothing goes that way.

    Attributes:
        direct: The slope at the adapted players, all else held fixed. This is what
            first order keeps. (A step that the objective takes by itself, as
            :class:`~metagan_lite.objectives.RefreshedD` does, belongs to the loss.)
        own: What the player's own inner steps make of it: its curvature.
        cross: What comes by way of another player, in at least one inner step.
    """

    direct: dict[str, Tensor]
    own: dict[str, Tensor]
    cross: dict[str, Tensor]

    @property
    def total(self) -> dict[str, Tensor]:
        """The sum of the parts: the meta-gradient of ``algorithm="maml"``."""
        return {
            name: self.direct[name] + self.own[name] + self.cross[name]
            for name in self.direct
        }


def hypergradient_blocks(
    game: Game,
    batch: TaskBatch,
    *,
    inner_steps: int,
    inner_lr: InnerLR,
    objective: str | Objective = "query-loss",
    simultaneous: bool = False,
    samples: int | None = None,
    noise: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, dict[str, Block]]:
    """Every block of the hypergradient, also those that nobody follows.

    The inner loop is run once without a graph. The slopes of each outer loss then go
    back through its steps, one vector–Jacobian product a step, so that the graph of a
    single step is in memory.

    Args: as for :func:`~metagan_lite.meta.meta_gradients`.

    Returns:
        Term of the objective → player → its block.
    """
    objective = make_objective(objective, game)
    if noise is None:
        noise = draw_noise(game, batch, objective, inner_steps, samples, generator)
    support = game.support(batch)
    with torch.no_grad():
        states = adaptation_steps(
            game,
            support,
            inner_lr=inner_lr,
            noise=noise[0],
            simultaneous=simultaneous,
            path="vmap",
        )
        *points, end = [state.parameters() for state in states]
    leaves, layout = tree_flatten(end)
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    adapted = Adapted.at(game, tree_unflatten(leaves, layout))
    losses = objective(game, adapted, game.query(batch), noise[1])
    slopes = [
        torch.autograd.grad(
            loss.mean(), leaves, retain_graph=True, materialize_grads=True
        )
        for loss in losses.values()
    ]
    stacked = [torch.stack(of_terms) for of_terms in zip(*slopes)]  # [terms, T, *P]
    direct = own = total = tree_unflatten(stacked, layout)
    for step in reversed(range(inner_steps)):
        rates = rates_at(game, inner_lr, step)
        back = partial(_back, game, rates, simultaneous)
        at = points[step], support, noise[0][:, step]
        with torch.no_grad():
            own, total = vmap(back, (1, 1, 0, 0, 0), 1)(own, total, *at)
    parts = direct, _minus(own, direct), _minus(total, own)
    return {
        term: {
            player: Block(
                *({k: part[player][k][i].sum(0) for k in moving} for part in parts)
            )
            for player, moving in game.trainable().items()
        }
        for i, term in enumerate(losses)
    }


def _back(
    game: Game,
    rates: dict[str, dict[str, Any]],
    simultaneous: bool,
    own: Params,
    total: Params,
    at: Params,
    data: Any,
    noise: Tensor,
) -> tuple[Params, Params]:
    """Slopes after one step of one task → slopes before it, for each outer loss.

    ``own`` goes back through each player's own move, the others held at what it saw;
    ``total`` through the moves of all.
    """

    def step(params: Params, moving: dict[str, dict[str, Any]]) -> Params:
        return inner_step(game, params, data, noise, moving, simultaneous=simultaneous)

    after, pull_back = vjp(lambda params: step(params, rates), at)
    seen, before = dict(at), {}
    for player in game.players:
        only = {p: rates[p] if p == player else {} for p in rates}

        def move(mine: dict[str, Tensor]) -> dict[str, Tensor]:
            return step({**seen, player: mine}, only)[player]  # noqa: B023

        (before[player],) = vmap(vjp(move, at[player])[1])(own[player])
        if not simultaneous:
            seen[player] = after[player]
    return before, vmap(pull_back)(total)[0]


def _minus(x: Params, y: Params) -> Params:
    return tree_map(lambda a, b: a - b, x, y)
