"""The inner loop: θ, φ → θ′, φ′, a few gradient steps on the support set of each task.

:func:`inner_step` is the definition: one step of one task, a pure function. The *loop*
path calls it task by task; the *vmap* path vectorises the same function; the *dual*
path (:mod:`metagan_lite.dual`) computes the same step without per-task weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from . import dual
from .data import check_integers
from .games import Game, Nets
from .rates import InnerLR, Rate, at_step, rates_at, scalar_by_layer

__all__ = ["Adapted", "Method", "adapt", "adaptation_steps", "inner_step"]

Method = Literal["auto", "dual", "vmap", "loop"]
Params = dict[str, dict[str, Tensor]]
"""Player → parameter name → value; ``[*P]`` for one task, ``[T, *P]`` for T."""


# --- one step of one task: the definition -------------------------------------


def inner_step(
    game: Game,
    params: Params,
    data: Any,
    noise: Tensor,
    rates: dict[str, dict[str, Tensor]],
    *,
    simultaneous: bool = False,
    first_order: bool = False,
) -> Params:
    """One SGD step of every player on one task.

    Each player descends the *partial* derivative of its own loss in its own parameters,
    θ ← θ − α ∂_θ L_G(θ, φ): the other player is held fixed, although it may itself
    depend on where this one started. ``torch.func.grad`` takes exactly this derivative;
    ``autograd.grad(loss, θ)`` on a graph in which φ depends on θ would take the total
    one, a different algorithm.

    Args:
        game: The players and their losses.
        params: The current parameters of one task.
        data: Its support set. noise: The randomness of this step.
        rates: Player → parameter name → step size, a number or a tensor of the
            parameter's shape; other parameters do not move.
        simultaneous: All players move from the same point; otherwise (alternating) each
            sees the moves of those before it, D first in a GAN.
        first_order: The gradient counts as a constant of the initialisation
            (Finn et al. 2017, section 5.2: FOMAML).

    Returns:
        The parameters after the step.
    """
    moved = params
    for player in game.players:
        if not rates[player]:  # it stays
            continue
        seen = params if simultaneous else moved
        if first_order:
            seen = {p: {k: v.detach() for k, v in seen[p].items()} for p in seen}

        def loss(own: dict[str, Tensor]) -> Tensor:
            nets = bind(game, {**seen, player: seen[player] | own})
            return game.loss(player, nets, data, noise)

        slope = torch.func.grad(loss)(
            {name: seen[player][name] for name in rates[player]}
        )
        after = {
            name: moved[player][name] - rate * slope[name]
            for name, rate in rates[player].items()
        }
        moved = {**moved, player: moved[player] | after}
    return moved


def bind(game: Game, params: Params) -> Nets:
    """The players as functions, with these parameters in place of their own."""

    def function(player: str) -> Callable[[Tensor], Tensor]:
        net = game.players[player]
        return lambda x: functional_call(net, params[player], (x,))

    return {player: function(player) for player in game.players}


def _for_each_task(function: Callable, path: Method, shared: bool) -> Callable:
    """Lift a function of one task's ``(params, …)`` to T tasks.

    Every argument gets a leading task dimension, the first one only unless it is
    ``shared``. Products with what is shared are cheaper than T products.
    """

    def batched(params: Params, *arguments: Any) -> Any:
        dims = (None if shared else 0, *(0 for _ in arguments))
        return vmap(function, dims)(params, *arguments)

    def loop(*arguments: Any) -> Any:
        split = arguments[1:] if shared else arguments
        leaves, layout = torch.utils._pytree.tree_flatten(split)
        unflatten = torch.utils._pytree.tree_unflatten
        rows = (
            unflatten(list(row), layout) for row in zip(*(x.unbind() for x in leaves))
        )
        first = arguments[:1] if shared else ()
        results = [function(*first, *row) for row in rows]
        return torch.utils._pytree.tree_map(lambda *x: torch.stack(x), *results)

    return batched if path == "vmap" else loop


class _PrimalSteps:
    """Every task has parameters of its own, ``[T, *P]``, from the first step on."""

    def __init__(self, game: Game, path: Method, **mode: bool):
        self.game, self.path, self.mode = game, path, mode

    def start(self, params: Params, tasks: int) -> Params:
        self.params, self.tasks = params, tasks
        return params  # before the first step all tasks share them

    def step(self, state: Params, data: Any, noise: Tensor, rates: Any) -> Params:
        def one_task(params: Params, data: Any, noise: Tensor) -> Params:
            return inner_step(self.game, params, data, noise, rates, **self.mode)

        lifted = _for_each_task(one_task, self.path, shared=state is self.params)
        return lifted(state, data, noise)

    def evaluate(self, state: Params, function: Callable, *arguments: Any) -> Any:
        def one_task(params: Params, *arguments: Any) -> Any:
            return function(bind(self.game, params), *arguments)

        lifted = _for_each_task(one_task, self.path, shared=state is self.params)
        return lifted(state, *arguments)

    def gradients(
        self, loss: Tensor, players: Iterable[str], others: Sequence[Tensor] = ()
    ) -> tuple[dict[str, dict[str, Tensor | None]], Sequence[Tensor | None]]:
        wanted = [
            (player, name, value)
            for player in players
            for name, value in self.params[player].items()
            if value.requires_grad
        ]
        found = torch.autograd.grad(
            loss,
            [*(value for *_, value in wanted), *others],
            retain_graph=True,
            allow_unused=True,
        )
        slopes = {player: {} for player, *_ in wanted}
        for (player, name, _), slope in zip(wanted, found):
            slopes[player][name] = slope
        return slopes, found[len(wanted) :]

    def parameters(self, state: Params) -> Params:
        if state is not self.params:
            return state
        return {
            player: {k: v.expand(self.tasks, *v.shape) for k, v in own.items()}
            for player, own in state.items()
        }


# --- the loop over steps ------------------------------------------------------


class Adapted:
    """The players of T tasks after some inner steps.

    ``adapted["G"](z)`` maps ``z [T, n, latent_dim]`` to samples ``[T, n, *S]`` with
    each task's own parameters; ``adapted["D"](x)`` maps ``x [T, n, *S]`` to logits.
    Made under ``torch.no_grad()``, it never builds a graph.

    Attributes:
        path: The path that computed it: ``"dual"``, ``"vmap"`` or ``"loop"``.
    """

    def __init__(self, steps: Any, state: Any, path: Method, differentiable: bool):
        self._steps, self._state, self.path = steps, state, path
        self._differentiable = differentiable

    @classmethod
    def at(cls, game: Game, params: Params) -> Adapted:
        """The players of T tasks at parameters found in another way.

        Args:
            game: The players.
            params: Player → parameter name → ``[T, *P]``; parameters of the nets that
                are left out, of all tasks alike, are the nets' own.
        """
        tasks = len(torch.utils._pytree.tree_leaves(params)[0])
        steps = _PrimalSteps(game, "vmap")
        own = steps.parameters(steps.start(game.parameters(), tasks))
        params = {player: own[player] | params.get(player, {}) for player in own}
        return cls(steps, params, "vmap", torch.is_grad_enabled())

    def __getitem__(self, player: str) -> Callable[[Tensor], Tensor]:
        return lambda x: self.evaluate(lambda nets, x: nets[player](x), x)

    def evaluate(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(nets, *arguments)`` for each task.

        Every argument has a leading task dimension, and so has the result. In the dual
        path the function is called once with all tasks, so it must reduce over the last
        dimensions only, as the losses of :mod:`metagan_lite.losses` do.
        """
        keep = self._differentiable and torch.is_grad_enabled()
        with torch.set_grad_enabled(keep):
            return self._steps.evaluate(self._state, function, *arguments)

    def step(self, data: Any, noise: Tensor, inner_lr: Mapping[str, Rate]) -> Adapted:
        """One more inner step, on other data than those adapted to.

        Args:
            data: As for :func:`adapt`. noise: One step of ``game.noise``.
            inner_lr: Player → its rate; players that are not named stay.

        Returns:
            The players after it; this object does not change.
        """
        game = self._steps.game
        rates = {
            player: dict.fromkeys(moving, at_step(inner_lr[player], 0, player))
            if player in inner_lr
            else {}
            for player, moving in game.trainable().items()
        }
        keep = self._differentiable and torch.is_grad_enabled()
        with torch.set_grad_enabled(keep):
            state = self._steps.step(self._state, data, noise, rates)
        return Adapted(self._steps, state, self.path, self._differentiable)

    def parameters(self) -> Params:
        """Player → parameter name → ``[T, *P]``, each task's own parameters."""
        return self._steps.parameters(self._state)

    def gradients(
        self, loss: Tensor, players: Iterable[str], others: Sequence[Tensor] = ()
    ) -> tuple[dict[str, dict[str, Tensor | None]], Sequence[Tensor | None]]:
        """dL/d(initialisation) of a scalar that :meth:`evaluate` led to.

        Player → parameter name → gradient, for the parameters that require one; and
        dL/d(other) for each of ``others``, such as rates. ``None`` where the loss does
        not depend on it. The graph is kept.
        """
        return self._steps.gradients(loss, players, others)


def adaptation_steps(
    game: Game,
    data: Any,
    *,
    inner_lr: InnerLR,
    noise: Tensor,
    params: Params | None = None,
    simultaneous: bool = False,
    first_order: bool = False,
    path: Method = "auto",
    meta: bool = False,
) -> Iterator[Adapted]:
    """Yield the players at the start and after each inner step: S + 1 states.

    ``noise`` is ``game.noise(T, S, samples)`` and sets S; the other arguments and the
    errors are those of :func:`adapt`. Called under ``torch.no_grad()``, it keeps
    nothing for a meta-gradient.
    """
    game.check(data)
    return _states(
        game, data, inner_lr, noise, params, simultaneous, first_order, path, meta
    )


def _states(
    game: Game,
    data: Any,
    inner_lr: InnerLR,
    noise: Tensor,
    params: Params | None,
    simultaneous: bool,
    first_order: bool,
    path: Method,
    meta: bool = False,
) -> Iterator[Adapted]:
    """:func:`adaptation_steps` on data that are checked already."""
    leaves = torch.utils._pytree.tree_leaves(data)
    tasks, inner_steps = noise.shape[:2]
    if any(len(leaf) != tasks for leaf in leaves):
        raise ValueError(
            f"expected noise and data for equally many tasks, got {tasks} and"
            f" {[len(leaf) for leaf in leaves]}; call game.noise(tasks, steps, samples)"
        )
    params = game.parameters() if params is None else params
    schedule = [rates_at(game, inner_lr, step) for step in range(inner_steps)]
    mode = {"simultaneous": simultaneous, "first_order": first_order}
    path = _choose(game, path, data, noise, params, schedule)
    steps, differentiable = _steps(game, path, mode, meta), torch.is_grad_enabled()

    def states() -> Iterator[Adapted]:
        state = steps.start(params, tasks)
        yield Adapted(steps, state, path, differentiable)
        for step, rates in enumerate(schedule):
            with torch.set_grad_enabled(differentiable):
                state = steps.step(state, data, noise[:, step], rates)
            yield Adapted(steps, state, path, differentiable)

    return states()  # the arguments are checked now, not at the first state


def adapt(
    game: Game,
    data: Any,
    *,
    inner_steps: int,
    inner_lr: InnerLR,
    samples: int | None = None,
    noise: Tensor | None = None,
    params: Params | None = None,
    simultaneous: bool = False,
    first_order: bool = False,
    path: Method = "auto",
    meta: bool = False,
    generator: torch.Generator | None = None,
) -> Adapted:
    """Adapt every player to the support set of each task.

    The result is a differentiable function of ``params`` (and of ``inner_lr``, where it
    is a tensor), unless gradients are off.

    Args:
        game: :class:`~metagan_lite.games.GAN` or
            :class:`~metagan_lite.games.Supervised`.
        data: The support sets, ``[T, K, *S]``, or ``(inputs, targets)`` for
            ``Supervised``: ``game.support(batch)``.
        inner_steps: S ≥ 0, the number of steps.
        inner_lr: α > 0, such as ``0.1`` or ``{"G": 0.5, "D": 0.2}``; see
            :data:`~metagan_lite.rates.InnerLR`.
        samples: Generated samples per step and player; K by default.
        noise: ``game.noise(T, S, samples)``, drawn with ``generator`` by default.
        params: The initialisation; by default the players' own parameters.
        simultaneous, first_order: see :func:`inner_step`. Parameters that do not
            require a gradient stay as they are.
        path: ``"auto"`` takes the dual path where it applies (every parameter in a
            Linear layer, losses without gradient penalties) and vmap elsewhere;
            ``"loop"`` is the readable definition. All agree to rounding.
        meta: The result will be differentiated by :meth:`Adapted.gradients` alone,
            which is then faster; autograd by itself may find nothing.
        generator: Source of the noise.

    Returns:
        The players after S steps.

    Raises:
        ValueError: for a rate ≤ 0, a negative ``inner_steps``, data that are not
            finite, or a path that cannot do what is asked.
    """
    check_integers(0, inner_steps=inner_steps)
    game.check(data)
    if noise is None:
        tasks, shots = torch.utils._pytree.tree_leaves(data)[0].shape[:2]
        samples = shots if samples is None else samples
        noise = game.noise(tasks, inner_steps, samples, generator=generator)
    if noise.shape[1] != inner_steps:
        raise ValueError(
            f"expected noise for {inner_steps} steps, got {noise.shape[1]}; call"
            " game.noise(tasks, steps, samples)"
        )
    states = _states(
        game, data, inner_lr, noise, params, simultaneous, first_order, path, meta
    )
    return next(islice(states, inner_steps, None))


def _steps(game: Game, path: Method, mode: dict[str, bool], meta: bool = False) -> Any:
    if path == "dual":
        return dual.DualSteps(game, meta=meta, **mode)
    return _PrimalSteps(game, path, **mode)


def _choose(
    game: Game,
    path: Method,
    data: Any,
    noise: Tensor,
    params: Params,
    schedule: Sequence[Mapping[str, Mapping[str, Any]]],
) -> Method:
    if path not in ("auto", "dual", "vmap", "loop"):
        raise ValueError(f"expected path auto, dual, vmap or loop; got {path!r}")
    if path in ("vmap", "loop"):
        return path
    reason = dual.why_not(game)
    if not reason and not all(scalar_by_layer(game, rates) for rates in schedule):
        reason = "rates that differ within a layer need vmap"
    if not reason and not _dual_agrees(game, data, noise, params):
        reason = (
            "its first step is not the loop's: a net mixes samples or reuses weights"
        )
    if reason and path == "dual":
        raise ValueError(f"the dual path cannot run here: {reason}; use path='auto'")
    return "vmap" if reason else "dual"


def _dual_agrees(game: Game, data: Any, noise: Tensor, params: Params) -> bool:
    """Compare one dual step of two tasks with the loop's, once for each game.

    A net's structure does not show everything: a forward of a student's own may use a
    Linear's weight twice, or mix the samples of a batch and so, here, of all tasks.
    """
    tasks = min(2, len(noise))
    if game.dual_checked[1] >= tasks:
        return game.dual_checked[0]
    if noise.shape[1] == 0:  # nothing to compare yet
        return False
    rates = {p: dict.fromkeys(own, 0.1) for p, own in game.trainable().items()}
    few = torch.utils._pytree.tree_map(lambda leaf: leaf[:tasks], data)
    start = torch.utils._pytree.tree_leaves(params)
    moves = []
    with torch.no_grad():
        for path in ("dual", "loop"):
            steps = _steps(game, path, {"simultaneous": True, "first_order": True})
            state = steps.step(steps.start(params, tasks), few, noise[:tasks, 0], rates)
            ends = torch.utils._pytree.tree_leaves(steps.parameters(state))
            moves.append([end - value for end, value in zip(ends, start)])
    far = sum((a - b).square().sum() for a, b in zip(*moves))
    scale = sum(b.square().sum() for b in moves[1])
    rounding = 1e3 * torch.finfo(scale.dtype).eps
    agrees = bool(far <= rounding**2 * scale)
    if far.isfinite():  # bad values say nothing about the nets
        game.dual_checked = agrees, tasks
    return agrees
