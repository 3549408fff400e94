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

The gradient of an outer loss in W is a sum of outer products too; :class:`_Ledger`
takes it in one product.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


# --- the gradient in what the tasks share -------------------------------------


class _Ledger:
    """Every product with the shared matrices, so that their gradient takes one more.

    A matrix W multiplies many rows on the way to an outer loss L: in every inner step,
    in the derivative that the step takes, and in L itself. Each product y = W x adds
    (∂L/∂y) xᵀ to dL/dW. Autograd forms these matrices one after the other, each as
    large as W, and adds them up. The ledger keeps the pairs (x, y) instead, asks for
    all ∂L/∂y in one backward pass, and multiplies the stacked rows once.
    """

    def __init__(self):
        # (layer, turned) → the pairs of its products x Wᵀ, or x W where it is turned.
        self.pairs: dict[tuple[str, bool], list[tuple[Tensor, Tensor]]]
        self.pairs = defaultdict(list)

    def linear(
        self,
        layer: str,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        turned: bool = False,
    ) -> Tensor:
        """``F.linear(x, weight, bias)``, written down."""
        y = _Product.apply(x, weight, bias, weakref.ref(self), layer, turned)
        if torch.is_grad_enabled():
            if not y.requires_grad:  # x is data; ∂L/∂y still needs a node
                y.requires_grad_()
            self.pairs[layer, turned].append((x.detach(), y))
        return y

    def nodes(self) -> list[Tensor]:
        """Every y, whose ∂L/∂y :meth:`total` needs."""
        return [y for own in self.pairs.values() for _, y in own]

    def total(self, slopes: Iterator[Tensor | None]) -> dict[str, list[Tensor]]:
        """Layer → [dL/dW, dL/db] from the ∂L/∂y, where L depends on the layer."""
        rows = defaultdict(lambda: ([], [], []))  # layer → its x, its ∂L/∂y, its ∂L/∂b
        for (layer, turned), own in self.pairs.items():
            for (x, _), slope in zip(own, slopes):
                if slope is not None:
                    pair = (slope, x) if turned else (x, slope)
                    xs, ys, bs = rows[layer]
                    xs.append(pair[0].flatten(0, -2))
                    ys.append(pair[1].flatten(0, -2))
                    bs += [] if turned else [ys[-1].sum(0)]
        return {
            layer: [torch.cat(ys).T @ torch.cat(xs), *([sum(bs)] if bs else [])]
            for layer, (xs, ys, bs) in rows.items()
        }


class _Product(torch.autograd.Function):
    """x Wᵀ + b, whose derivative is a product with Wᵀ: the ledger keeps that as well.

    It has no derivative in W and b: these are the ledger's to take.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, ledger, layer, turned):
        ctx.weight, ctx.ledger, ctx.line = weight, ledger, (layer, turned)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, slope):
        layer, turned = ctx.line
        # A weak reference: the graph must not keep its ledger alive, nor the reverse.
        x_slope = ctx.ledger().linear(layer, slope, ctx.weight.T, turned=not turned)
        return x_slope, None, None, None, None, None


# --- the nets of T tasks ------------------------------------------------------


class _SharedNet:
    """What the tasks share of one player: the net, and the parameters at the start."""

    def __init__(self, net: nn.Module, params: dict[str, Tensor], ledger: bool):
        self.net, self.params = net, params
        self.ledger = _Ledger() if ledger else None
        self.layers = {
            name: module
            for name, module in net.named_modules()
            if type(module) is nn.Linear
        }

    def weights(self, layer: str) -> tuple[Tensor, Tensor | None]:
        prefix = f"{layer}." if layer else ""
        return self.params[f"{prefix}weight"], self.params.get(f"{prefix}bias")

    def linear(self, layer: str, x: Tensor, record: bool) -> Tensor:
        weight, bias = self.weights(layer)
        if not (record and self.ledger and weight.requires_grad):
            return F.linear(x, weight, bias)
        bias = None if bias is None else bias.detach()
        return self.ledger.linear(layer, x, weight.detach(), bias)

    def sources(self) -> list[Tensor]:
        """What a loss is to be differentiated in, for :meth:`gradients`."""
        return self.ledger.nodes() + list(self._start().values())

    def gradients(self, slopes: Iterable[Tensor | None]) -> dict[str, Tensor | None]:
        """Parameter → dL/d of it, also where L uses a parameter directly."""
        slopes = iter(slopes)
        totals = self.ledger.total(slopes)
        found = dict(zip(self._start(), slopes))
        for layer, total in totals.items():
            prefix = f"{layer}." if layer else ""
            for name, slope in zip((f"{prefix}weight", f"{prefix}bias"), total):
                if name in found:
                    also = found[name]
                    found[name] = slope if also is None else slope + also
        return found

    def _start(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.params.items() if p.requires_grad}


class _DualNet:
    """A net of T tasks whose Linear layers share W and add each task's correction."""

    def __init__(
        self,
        shared: _SharedNet,
        memory: Memory,
        tape: list[tuple[str, Tensor, Tensor]] | None = None,
        record: bool = True,
    ):
        self.shared, self.memory, self.tape = shared, memory, tape
        self.record = record

    def __call__(self, x: Tensor) -> Tensor:  # [T, n, *S] -> [T, n, ...]
        tasks, n = x.shape[:2]
        layers = self.shared.layers
        for name, layer in layers.items():
            layer.forward = partial(self._linear, tasks, name, layer.bias is not None)
        try:
            out = self.shared.net(x.flatten(0, 1))
        finally:
            for layer in layers.values():
                del layer.forward
        return out.unflatten(0, (tasks, n))

    def _linear(self, tasks: int, name: str, has_bias: bool, x: Tensor) -> Tensor:
        output = self.shared.linear(name, x, self.record)
        a = x.reshape(tasks, -1, x.shape[-1])  # [T, m, in]
        y = output.reshape(tasks, -1, output.shape[-1])  # [T, m, out]
        if name in self.memory:
            y = self.memory[name](a, y, has_bias)
        if self.tape is not None:
            if not y.requires_grad:  # frozen parameters: δ still needs a node
                y = y.requires_grad_()
            self.tape.append((name, a, y))
        return y.reshape(output.shape)


class DualSteps:
    """The inner step on memories; same interface as the primal steps of ``adapt``."""

    def __init__(
        self, game: Game, *, simultaneous: bool, first_order: bool, meta: bool = False
    ):
        self.game, self.meta = game, meta
        self.simultaneous, self.first_order = simultaneous, first_order

    def start(self, params: dict, tasks: int) -> dict[str, Memory]:
        self.params, self.tasks = params, tasks
        self.shared = {
            player: _SharedNet(net, params[player], self.meta)
            for player, net in self.game.players.items()
        }
        return {player: {} for player in self.game.players}

    def step(
        self, state: dict[str, Memory], data: Any, noise: Tensor, rates: Any
    ) -> dict[str, Memory]:
        second_order = torch.is_grad_enabled() and not self.first_order
        moved = state
        for player in self.game.players:
            if not rates[player]:  # it stays
                continue
            seen = state if self.simultaneous else moved
            tape: list[tuple[str, Tensor, Tensor]] = []
            with torch.enable_grad():
                nets = self._nets(seen, {player: tape}, record=second_order)
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

    def gradients(
        self, loss: Tensor, players: Iterable[str], others: Sequence[Tensor] = ()
    ) -> tuple[dict[str, dict[str, Tensor | None]], Sequence[Tensor | None]]:
        players = list(players)
        sources = [self.shared[player].sources() for player in players]
        # One backward pass for all players.
        found = torch.autograd.grad(
            loss, [*sum(sources, []), *others], retain_graph=True, allow_unused=True
        )
        slopes = iter(found)
        of_players = {
            player: self.shared[player].gradients(list(islice(slopes, len(own))))
            for player, own in zip(players, sources)
        }
        return of_players, list(slopes)

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

    def _nets(
        self, state: dict[str, Memory], tapes: dict[str, list], record: bool = True
    ) -> Nets:
        return {
            player: _DualNet(shared, state[player], tapes.get(player), record)
            for player, shared in self.shared.items()
        }
