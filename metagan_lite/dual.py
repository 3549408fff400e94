"""The dual path: the same inner steps without forming per-task weights.

One SGD step on a Linear layer y = W a + b is a low-rank change: with a_i the inputs
that the layer saw and δ_i = ∂L/∂y_i the slopes that came back,

    W − α Σ_i δ_i a_iᵀ        and        b − α Σ_i δ_i.

So instead of T copies of W, keep the pairs (a_i, −α δ_i) of each task. The adapted
layer is

    y(x) = W x + b + Σ_i (a_i·x + 1) (−α δ_i),

one product with W that all tasks share, and a small correction of each task's own. The
correction is linear attention: x is the query, the a_i are the keys, −α δ_i the values.

δ_i is taken at the preactivations of the very call that computes the loss, so it is the
partial derivative of :func:`metagan_lite.adapt.inner_step`, and no backward pass is
derived by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .games import Game, Nets

__all__ = ["DualSteps", "why_not"]


class _Correction:
    """What the inner steps added to one Linear layer, for each of T tasks.

    While there are few pairs they are kept as they are (the attention form). Once they
    would hold more numbers than the matrix they add up to, they are summed into it (the
    fast-weight form), so the cost of a step stops growing with the number of steps.

    Attributes:
        keys, values: a ``[T, r, in]`` and −αδ ``[T, r, out]``, or ``None``.
        weight, bias: Σ aᵀ(−αδ) ``[T, in, out]`` and Σ −αδ ``[T, 1, out]``, or ``None``.
    """

    def __init__(self, keys, values, weight=None, bias=None):
        rank, fan_in, fan_out = keys.shape[1], keys.shape[2], values.shape[2]
        if weight is not None or rank * (fan_in + fan_out) > fan_in * fan_out:
            weight, bias = _sum(keys, values, weight, bias)
            keys = values = None
        self.keys, self.values, self.weight, self.bias = keys, values, weight, bias

    def plus(self, keys: Tensor, values: Tensor) -> _Correction:
        if self.keys is not None:
            keys = torch.cat([self.keys, keys], 1)
            values = torch.cat([self.values, values], 1)
        return _Correction(keys, values, self.weight, self.bias)

    def __call__(self, a: Tensor, y: Tensor, has_bias: bool) -> Tensor:
        """y + Σ_i (a_i·x + 1)(−αδ_i) for inputs ``a [T, m, in]``."""
        if self.weight is not None:
            return torch.baddbmm(y + self.bias if has_bias else y, a, self.weight)
        one = a.new_full((), float(has_bias)).expand(len(a), 1, 1)
        scores = torch.baddbmm(one, a, self.keys.transpose(1, 2))
        return torch.baddbmm(y, scores, self.values)

    def total(self) -> tuple[Tensor, Tensor]:
        """The change of weight ``[T, out, in]`` and of bias ``[T, out]``."""
        weight, bias = self.weight, self.bias
        if weight is None:
            weight, bias = _sum(self.keys, self.values)
        return weight.transpose(1, 2), bias.squeeze(1)


def _sum(keys, values, weight=None, bias=None) -> tuple[Tensor, Tensor]:
    change, shift = keys.transpose(1, 2), values.sum(1, keepdim=True)
    if weight is None:
        return change @ values, shift
    return torch.baddbmm(weight, change, values), bias + shift


Memory = dict[str, _Correction]
"""Layer name → its correction; a layer that has not moved yet is missing."""


def why_not(game: Game) -> str | None:
    """Why the dual path cannot run this game; ``None`` where it can."""
    if not game.batched:
        return "a loss with a gradient penalty or a function of your own needs vmap"
    for player, net in game.players.items():
        params = dict(net.named_parameters())  # a shared one has one of its names
        layers = {f"{n}." if n else "": m for n, m in net.named_modules()}
        linear = {prefix: m for prefix, m in layers.items() if type(m) is nn.Linear}
        for name in params:
            prefix, kind = name[: name.rfind(".") + 1], name[name.rfind(".") + 1 :]
            if prefix not in linear or kind not in ("weight", "bias"):
                return f"parameter '{name}' of {player} is not one of a Linear layer"
        for prefix, layer in linear.items():
            own = [params.get(prefix + k) for k, _ in layer.named_parameters()]
            if None in own:
                return f"a Linear layer of {player} shares parameters with another"
            if len({p.requires_grad for p in own}) > 1:
                return f"a Linear layer of {player} is frozen in part"
    return None


class _SharedNet:
    """What the tasks share of one player: the net, and the parameters at the start."""

    def __init__(self, net: nn.Module, params: dict[str, Tensor]):
        self.net, self.params = net, params
        self.layers = [
            (name, module)
            for name, module in net.named_modules()
            if type(module) is nn.Linear
        ]
        # Swapping parameters takes time that small nets feel.
        own = net.named_parameters()
        self.as_they_are = all(params[name] is value for name, value in own)

    def __call__(self, x: Tensor) -> Tensor:
        if self.as_they_are:
            return self.net(x)
        return functional_call(self.net, self.params, (x,))


class _DualNet:
    """A net of T tasks whose Linear layers share W and add each task's correction."""

    def __init__(
        self,
        shared: _SharedNet,
        memory: Memory,
        tape: list[tuple[str, Tensor, Tensor]] | None = None,
    ):
        self.shared, self.memory, self.tape = shared, memory, tape

    def __call__(self, x: Tensor) -> Tensor:  # [T, n, *S] -> [T, n, ...]
        tasks, n = x.shape[:2]
        hooks = [
            layer.register_forward_hook(partial(self._correct, tasks, name))
            for name, layer in self.shared.layers
        ]
        try:
            out = self.shared(x.flatten(0, 1))
        finally:
            for hook in hooks:
                hook.remove()
        return out.unflatten(0, (tasks, n))

    def _correct(
        self, tasks: int, name: str, layer: nn.Linear, inputs: Any, output: Tensor
    ) -> Tensor:
        a = inputs[0].reshape(tasks, -1, layer.in_features)  # [T, m, in]
        y = output.reshape(tasks, -1, layer.out_features)  # [T, m, out]
        if name in self.memory:
            y = self.memory[name](a, y, layer.bias is not None)
        if self.tape is not None:
            if not y.requires_grad:  # frozen parameters: δ still needs a node
                y = y.requires_grad_()
            self.tape.append((name, a, y))
        return y.reshape(output.shape)


class DualSteps:
    """The inner step on memories; same interface as the primal steps of ``adapt``."""

    def __init__(self, game: Game, *, simultaneous: bool, first_order: bool):
        self.game = game
        self.simultaneous, self.first_order = simultaneous, first_order

    def start(self, params: dict, tasks: int) -> dict[str, Memory]:
        self.params, self.tasks = params, tasks
        self.shared = {
            player: _SharedNet(net, params[player])
            for player, net in self.game.players.items()
        }
        return {player: {} for player in self.game.players}

    def step(
        self, state: dict[str, Memory], data: Any, noise: Tensor, rates: Any
    ) -> dict[str, Memory]:
        second_order = torch.is_grad_enabled() and not self.first_order
        moved = state
        for player in self.game.players:
            seen = state if self.simultaneous else moved
            tape: list[tuple[str, Tensor, Tensor]] = []
            with torch.enable_grad():
                nets = self._nets(seen, {player: tape})
                loss = self.game.loss(player, nets, data, noise)  # [T]
                nodes = [y for _, _, y in tape]
                # Tasks share no node, so the slope of the sum is each task's own.
                slopes = (
                    torch.autograd.grad(
                        loss.sum(), nodes, create_graph=second_order, allow_unused=True
                    )
                    if nodes
                    else ()
                )
            memory = dict(moved[player])
            for (name, a, _), slope in zip(tape, slopes):
                rate = rates[player].get(f"{name}.weight" if name else "weight")
                if slope is None or rate is None:  # the layer does not move
                    continue
                if not second_order:
                    a, slope = a.detach(), slope.detach()
                value = -rate * slope
                old = memory.get(name)
                memory[name] = old.plus(a, value) if old else _Correction(a, value)
            moved = {**moved, player: memory}
        return moved

    def evaluate(self, state: dict[str, Memory], function: Callable, *rest: Any) -> Any:
        return function(self._nets(state, {}), *rest)

    def parameters(self, state: dict[str, Memory]) -> dict[str, dict[str, Tensor]]:
        def adapted(player: str, name: str, value: Tensor) -> Tensor:
            layer, _, kind = name.rpartition(".")
            if layer not in state[player]:
                return value.expand(self.tasks, *value.shape)
            weight, bias = state[player][layer].total()
            return value + (bias if kind == "bias" else weight)

        return {
            player: {name: adapted(player, name, v) for name, v in own.items()}
            for player, own in self.params.items()
        }

    def _nets(self, state: dict[str, Memory], tapes: dict[str, list]) -> Nets:
        return {
            player: _DualNet(shared, state[player], tapes.get(player))
            for player, shared in self.shared.items()
        }
