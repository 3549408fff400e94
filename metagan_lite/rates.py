"""Inner learning rates: what may be given, what it means at a step, and learning it.

A rate can be one number for everything, or differ by player, by layer, by parameter and
by step; :func:`rates_at` says what each parameter's step size is. :class:`LearnedRates`
makes rates that are meta-learned together with the initialisations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .games import Game

__all__ = [
    "InnerLR",
    "LearnedRates",
    "Rate",
    "per_step",
    "rate_tensors",
    "rates_at",
    "scalar_by_layer",
]

Rate = float | Sequence[float] | Tensor
"""A number, or one number per inner step."""

InnerLR = Rate | Mapping[str, Rate | Mapping[str, Rate]]
"""The rate of all players; or a mapping from player to its rate; or, for a player, a
mapping from layer name to the layer's rate, where 0 leaves the layer as it is (ANIL,
Raghu et al. 2020). A mapping from *parameter* name may hold, beside numbers, tensors of
the parameter's shape, of any sign (Meta-SGD, Li et al. 2017); parameters that it does
not name stay."""


def rates_at(game: Game, inner_lr: InnerLR, step: int) -> dict[str, dict[str, Any]]:
    """Player → parameter that moves → its step size at one step, checked.

    A step size is a number, a tensor without dimensions, or one of the parameter's
    shape.

    Raises:
        ValueError: for a player, layer or step without a rate, a rate ≤ 0, or what is
            no rate.
    """
    if isinstance(inner_lr, Mapping) and set(inner_lr) != set(game.players):
        raise ValueError(
            f"expected an inner_lr for each of {sorted(game.players)}, got"
            f" {sorted(inner_lr)}"
        )
    rates = {}
    for player, moving in game.trainable().items():
        rate = _own(inner_lr, player)
        if not isinstance(rate, Mapping):
            rates[player] = dict.fromkeys(moving, at_step(rate, step, player))
            continue
        layers = {_layer(name) for name in moving}
        if set(rate) == layers:
            of_layer = {k: at_step(v, step, player, 0) for k, v in rate.items()}
            own = {name: of_layer[_layer(name)] for name in moving}
        elif set(rate) <= set(moving):
            own = {
                name: at_step(v, step, player, 0, moving[name].shape)
                for name, v in rate.items()
            }
        else:
            raise ValueError(
                f"expected an inner_lr for each layer of {player}, {sorted(layers)}, or"
                f" for some of its parameters, got {sorted(rate)}"
            )
        rates[player] = {name: r for name, r in own.items() if not _is_zero(r)}
    return rates


def at_step(
    rate: Rate,
    step: int,
    player: str,
    least: float | None = None,
    shape: torch.Size | None = None,
) -> Any:
    """One rate at one step.

    Args:
        rate: A number or one per step. step: Counted from 0. player: For messages.
        least: The smallest rate allowed; None for all above 0.
        shape: Of the parameter; a tensor of this shape is a step size for each of its
            numbers.
    """
    if _of_shape(rate, shape):
        return rate
    per_step = isinstance(rate, Sequence) or (isinstance(rate, Tensor) and rate.dim())
    if per_step:
        if step >= len(rate):
            raise ValueError(
                f"expected an inner_lr for step {step + 1} of {player}, got"
                f" {len(rate)}; give one per step, or a single number"
            )
        rate = rate[step]
        if _of_shape(rate, shape):
            return rate
    if (
        isinstance(rate, Tensor)
        and rate.dim()
        or not isinstance(rate, (float, int, Tensor))
    ):
        raise ValueError(
            f"expected inner_lr of {player} to be a number or one number per step, got"
            f" {rate!r}"
        )
    value = float(rate.detach() if isinstance(rate, Tensor) else rate)
    if not (value > 0 or value == least):
        raise ValueError(
            f"expected inner_lr > 0, got {value} for {player}; a rate of 0 or less does"
            " not descend the loss"
        )
    return rate


def scalar_by_layer(game: Game, rates: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether each layer moves as a whole, at one number: what the dual path needs."""
    for player, moving in game.trainable().items():
        of_layer: dict[str, Any] = {}
        for name in moving:
            rate = rates[player].get(name)  # None: it stays
            first = of_layer.setdefault(_layer(name), rate)
            if isinstance(rate, Tensor) and rate.dim() or not _same(rate, first):
                return False
    return True


def _same(a: Any, b: Any) -> bool:
    if a is b or a is None or b is None:
        return a is b
    differentiable = any(isinstance(x, Tensor) and x.requires_grad for x in (a, b))
    return not differentiable and float(a) == float(b)


def per_step(game: Game, inner_lr: InnerLR, steps: int) -> dict[str, dict[str, list]]:
    """Player → parameter → its rates at so many steps: a form that is an ``InnerLR``.

    Where ``inner_lr`` has fewer steps, the last rate goes on; 0 where a parameter
    stays.
    """
    given = min([len(rate) for rate in _sequences(game, inner_lr)], default=1)
    found = [rates_at(game, inner_lr, min(s, given - 1)) for s in range(steps)]
    return {
        player: {name: [at[player].get(name, 0.0) for at in found] for name in moving}
        for player, moving in game.trainable().items()
    }


def rate_tensors(
    game: Game, inner_lr: InnerLR
) -> dict[str, dict[tuple[Any, ...], Tensor]]:
    """Player → place in ``inner_lr`` → the tensor there, if it requires a gradient."""

    def leaves(rate: Any, place: tuple = ()) -> Iterator[tuple[tuple, Tensor]]:
        if isinstance(rate, Tensor):
            if rate.requires_grad:
                yield place, rate
        elif isinstance(rate, Mapping):
            for name, value in rate.items():
                yield from leaves(value, (*place, name))
        elif isinstance(rate, Sequence) and not isinstance(rate, str):
            for step, value in enumerate(rate):
                yield from leaves(value, (*place, step))

    return {player: dict(leaves(_own(inner_lr, player))) for player in game.players}


class LearnedRates:
    """Inner rates that are meta-learned: α = α₀ · exp(ρ), or α₀ · (1 + ρ), from ρ = 0.

    - ``"layer"``: one for each layer, positive;
    - ``"layer-step"``: one for each layer and inner step, positive (Antoniou et al.
      2019, MAML++, "per-layer per-step learning rates");
    - ``"parameter"``: one for each number, of any sign (Li et al. 2017, Meta-SGD,
      equation 3).

    Args:
        game: The players. inner_lr: α₀, see :data:`InnerLR`.
        inner_steps: S. kind: one of the three.

    Attributes:
        named: "player.layer" or "player.parameter" → ρ, leaves of the graph.
    """

    def __init__(self, game: Game, inner_lr: InnerLR, inner_steps: int, kind: str):
        if kind not in LEARNED:
            raise ValueError(
                f"expected learned_lr among {', '.join(LEARNED)}; got {kind!r}"
            )
        self.kind, self.start = kind, per_step(game, inner_lr, inner_steps)
        self.trainable = game.trainable()
        self.named: dict[str, Tensor] = {}
        for player, own in self.start.items():
            for name, rates in own.items():
                if all(_is_zero(rate) for rate in rates):  # it stays
                    continue
                like = self.trainable[player][name]
                if kind != "parameter":
                    name = _layer(name)
                shape = {"layer": (), "layer-step": (inner_steps,)}.get(
                    kind, like.shape
                )
                ρ = like.new_zeros(shape).requires_grad_()
                self.named.setdefault(f"{player}.{name}", ρ)

    def inner_lr(self) -> dict[str, dict[str, list]]:
        """The rates, as functions of ρ."""
        found: dict[str, dict[str, list]] = {}
        for player, own in self.start.items():
            found[player] = {}
            factors: dict[str, Any] = {}  # a layer's parameters share one object
            for name, rates in own.items():
                key = name if self.kind == "parameter" else _layer(name)
                ρ = self.named.get(f"{player}.{key}")
                if ρ is None:
                    continue
                if key not in factors:
                    factors[key] = [
                        self._rate(rate, ρ, step) for step, rate in enumerate(rates)
                    ]
                found[player][name] = factors[key]
        return found

    def set_gradients(
        self, inner_lr: InnerLR, slopes: Mapping[str, Mapping[tuple, Tensor | None]]
    ) -> None:
        """Set ρ.grad from the gradients in the rates.

        Args:
            inner_lr: What :meth:`inner_lr` returned.
            slopes: What ``meta_gradients`` returned for it as ``rates``. A tensor in
                several places has the same gradient in each; one of them counts.
        """
        unique: dict[int, tuple[Tensor, Tensor]] = {}
        for player, own in slopes.items():
            for (name, step), slope in own.items():
                if slope is not None:
                    rate = inner_lr[player][name][step]
                    unique[id(rate)] = (rate, slope)
        for ρ in self.named.values():
            ρ.grad = None
        rates, of_rates = zip(*unique.values())
        torch.autograd.backward(rates, of_rates)

    def _rate(self, rate: Any, ρ: Tensor, step: int) -> Any:
        if self.kind == "parameter":
            return rate * (1 + ρ)
        return rate * (ρ[step] if self.kind == "layer-step" else ρ).exp()


Learned = Literal["layer", "layer-step", "parameter"]
LEARNED = get_args(Learned)


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _own(inner_lr: InnerLR, player: str) -> Any:
    return inner_lr[player] if isinstance(inner_lr, Mapping) else inner_lr


def _is_zero(rate: Any) -> bool:
    whole = not isinstance(rate, Tensor) or rate.dim() == 0
    return whole and float(rate.detach() if isinstance(rate, Tensor) else rate) == 0


def _of_shape(rate: Any, shape: torch.Size | None) -> bool:
    return (
        shape is not None
        and isinstance(rate, Tensor)
        and rate.dim() > 0
        and rate.shape == shape
    )


def _sequences(game: Game, inner_lr: InnerLR) -> Iterator[Sequence]:
    """Every rate that is given step by step."""
    for player, moving in game.trainable().items():
        rate = _own(inner_lr, player)
        named = rate.items() if isinstance(rate, Mapping) else [("", rate)]
        for name, value in named:
            shape = moving[name].shape if name in moving else None
            if isinstance(value, Sequence) and not isinstance(value, str):
                yield value
            elif isinstance(value, Tensor) and value.dim():
                if not _of_shape(value, shape):
                    yield value
