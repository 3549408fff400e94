"""The numbered equations of chapter 14, against answers found another way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad
from torch.utils.flop_counter import FlopCounterMode

from metagan_lite import Supervised, TaskBatch, meta_gradients
from metagan_lite.cost import count, peak_memory
from metagan_lite.dual import DualSteps, _Correction

F64 = torch.float64
RATE = 0.1


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=random(seed), dtype=F64)


def counted(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


# --- a net without biases, and its inner loop written out -------------------------

Weights = list[Tensor]


def net(weights: Weights, x: Tensor) -> Tensor:
    for layer, W in enumerate(weights):
        x = (x.tanh() if layer else x) @ W.mT
    return x


def error(weights: Weights, x: Tensor, y: Tensor) -> Tensor:
    return (net(weights, x) - y).square().mean()


def fresh(sizes: tuple[int, ...]) -> Weights:
    pairs = zip(sizes, sizes[1:])
    drawn = [normal(b, a, seed=i) / a**0.5 for i, (a, b) in enumerate(pairs)]
    return [W.requires_grad_() for W in drawn]


def adapted(weights: Weights, x: Tensor, y: Tensor, steps: int, graph=True) -> Weights:
    for _ in range(steps):
        slopes = torch.autograd.grad(error(weights, x, y), weights, create_graph=graph)
        weights = [W - RATE * slope for W, slope in zip(weights, slopes)]
    return weights


def supervised(sizes: tuple[int, ...]) -> Supervised:
    """The same net as a game of the library, with biases as most nets have them."""
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.Tanh()]
    game = Supervised(nn.Sequential(*layers[:-1]).double(), "squared-error")
    with torch.no_grad():
        for i, p in enumerate(game.players["net"].parameters()):
            p.copy_(normal(*p.shape, seed=40 + i) / p.shape[-1] ** 0.5)
    return game


def batch(tasks: int, shots: int, n_in: int, n_out: int) -> TaskBatch:
    x, y = (
        normal(tasks, 2 * shots, n_in, seed=7),
        normal(tasks, 2 * shots, n_out, seed=8),
    )
    return TaskBatch(x[:, :shots], x[:, shots:], y[:, :shots], y[:, shots:])


# --- the equations ----------------------------------------------------------------


@pytest.mark.parametrize("rows, n_in, n_out", [(10, 785, 256), (3, 4, 5), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_14_1_intensity_of_a_product(rows, n_in, n_out, dtype):
    a, W = torch.ones(rows, n_in, dtype=dtype), torch.ones(n_in, n_out, dtype=dtype)
    multiplied = rows * n_in * n_out  # an addition for each multiplication
    moved = a.nbytes + W.nbytes + (a @ W).nbytes
    formula = 1 / (1 / rows + 1 / n_in + 1 / n_out) * 2 / a.element_size()
    assert formula == pytest.approx(2 * multiplied / moved, rel=1e-12)
    assert formula == pytest.approx(count(lambda: a @ W).intensity, rel=1e-12)
    assert formula < 2 / a.element_size() * min(rows, n_in, n_out)


@pytest.mark.parametrize("sizes", [(6, 1), (5, 4, 3), (7, 6, 5, 4)])
@pytest.mark.parametrize("steps", [1, 3])
def test_14_2_nine_products_with_second_order_and_three_with_first(sizes, steps):
    K, Q = 3, 4
    x, y = normal(K, sizes[0], seed=1), normal(K, sizes[-1], seed=2)
    x_qry, y_qry = normal(Q, sizes[0], seed=3), normal(Q, sizes[-1], seed=4)

    def formula(hidden: int, first: int) -> int:
        per_layer = [2 * a * b for a, b in zip(sizes, sizes[1:])]
        cost = per_layer[0] * (first * steps * K + 2 * Q)
        return cost + sum(per_layer[1:]) * (hidden * steps * K + 3 * Q)

    def outer(graph: bool) -> tuple[Tensor, ...]:
        weights = fresh(sizes)
        own = adapted(weights, x, y, steps, graph)
        return torch.autograd.grad(error(own, x_qry, y_qry), weights)

    assert counted(lambda: outer(True)) == formula(9, 4)
    assert counted(lambda: outer(False)) == formula(3, 2)


@pytest.mark.parametrize("steps", [1, 4])
def test_14_3_an_adapted_layer_is_attention_over_what_it_saw(steps):
    # Pairs collected by hooks along an ordinary loop with weights.
    weights, x, y = fresh((5, 6, 2)), normal(3, 5, seed=1), normal(3, 2, seed=2)
    pairs: list[list[tuple[Tensor, Tensor]]] = [[], []]
    own = [W.detach() for W in weights]
    for _ in range(steps):
        a, inputs, outputs = x, [], []
        for layer, W in enumerate(own):
            a = a.tanh() if layer else a
            inputs.append(a.detach())
            a = (a @ W.T).requires_grad_()
            outputs.append(a)
        deltas = torch.autograd.grad((a - y).square().mean(), outputs)
        for layer, pair in enumerate(zip(inputs, deltas)):
            pairs[layer].append(pair)
        slopes = grad(error)(own, x, y)
        own = [W - RATE * slope for W, slope in zip(own, slopes)]
    for W, end, seen in zip(weights, own, pairs):
        a = normal(W.shape[1], seed=9)
        attention = sum(
            (keys[i] @ a) * deltas[i] for keys, deltas in seen for i in range(len(keys))
        )
        torch.testing.assert_close(end @ a, W.detach() @ a - RATE * attention)


def test_14_3_the_library_keeps_these_pairs():
    game, tasks = supervised((6, 5, 2)), batch(2, 2, 6, 2)
    steps = DualSteps(game, simultaneous=False, first_order=False)
    state = steps.start(game.parameters(), 2)
    rates = {"net": dict.fromkeys(game.parameters()["net"], RATE)}
    for _ in range(2):
        state = steps.step(state, game.support(tasks), torch.empty(2, 0), rates)
    found = steps.parameters(state)["net"]
    for task in range(2):
        params = {k: v.detach() for k, v in game.parameters()["net"].items()}
        x, y = tasks.support[task], tasks.support_targets[task]
        for _ in range(2):
            slopes = grad(
                lambda p: (
                    (torch.func.functional_call(game.players["net"], p, (x,)) - y)  # noqa: B023
                    .square()
                    .mean()
                )
            )(params)
            params = {k: v - RATE * slopes[k] for k, v in params.items()}
        for name, value in params.items():
            torch.testing.assert_close(found[name][task], value)


def test_14_4_the_outer_gradient_is_a_sum_of_outer_products():
    # One hidden layer, one inner step; every derivative of a product is found by
    # moving that product alone, by finite differences.
    W, U = normal(4, 3, seed=1), normal(2, 4, seed=2)
    x, y, x_qry, y_qry = (normal(5, n, seed=3 + i) for i, n in enumerate((3, 2, 3, 2)))

    def value(moved: int = -1, by: Tensor | float = 0.0) -> Tensor:
        done = []

        def product(rows: Tensor, factor: Tensor) -> Tensor:
            done.append(None)
            return rows @ factor + (by if len(done) - 1 == moved else 0.0)

        h = product(x, W.T)
        t = h.tanh()
        slope = 2 * (product(t, U.T) - y) / y.numel()
        back = product(slope, U) * (1 - t**2)
        h_qry = product(x_qry, W.T) - RATE * (x_qry @ x.T) @ back
        t_qry = h_qry.tanh()
        out = product(t_qry, U.T) - RATE * (t_qry @ t.T) @ slope
        factors[:] = [(W, x), (U, t), (U, slope), (W, x_qry), (U, t_qry)]
        return (out - y_qry).square().mean()

    factors: list = []
    value()
    left = {"W": torch.zeros_like(W), "U": torch.zeros_like(U)}
    for i, (factor, rows) in enumerate(list(factors)):
        n = 4 if i in (0, 2, 3) else 2  # columns of the product
        slope = torch.zeros(5, n, dtype=F64)
        for index in torch.cartesian_prod(torch.arange(5), torch.arange(n)).tolist():
            step = torch.zeros(5, n, dtype=F64)
            step[tuple(index)] = 1e-5
            slope[tuple(index)] = (value(i, step) - value(i, -step)) / 2e-5
        outer = rows.T @ slope if i == 2 else slope.T @ rows
        left["W" if factor is W else "U"] += outer
    W_, U_ = W.clone().requires_grad_(), U.clone().requires_grad_()
    own = adapted([W_, U_], x, y, 1)
    right = torch.autograd.grad(error(own, x_qry, y_qry), (W_, U_))
    torch.testing.assert_close(left["W"], right[0], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(left["U"], right[1], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2])
def test_14_5_the_dual_takes_six_shared_products_for_nine(steps):
    # The library's dual path; its shared products are the ordinary ones, its
    # attention the batched ones. Biases are added, and cost no product.
    sizes, T, K = (60, 50, 40, 1), 3, 2
    game, tasks = supervised(sizes), batch(T, K, 60, 1)
    options = {"inner_steps": steps, "inner_lr": RATE, "path": "dual"}
    meta_gradients(game, tasks, **options)  # compares dual and loop, once
    with FlopCounterMode(display=False) as counter:
        found = meta_gradients(game, tasks, **options)
    of, ops = counter.get_flop_counts()["Global"], torch.ops.aten
    layers = [2 * T * a * b for a, b in zip(sizes, sizes[1:])]
    formula = layers[0] * (2 * steps * K + 2 * K)
    formula += sum(layers[1:]) * (6 * steps * K + 3 * K)
    assert of.get(ops.mm, 0) + of.get(ops.addmm, 0) == formula
    exact = meta_gradients(game, tasks, **(options | {"path": "loop"}))
    for name, slope in exact.grads["net"].items():
        torch.testing.assert_close(found.grads["net"][name], slope)


@pytest.mark.parametrize("n_in, n_out", [(30, 20), (8, 8), (100, 3)])
def test_14_6_pairs_are_cheaper_below_the_harmonic_bound(n_in, n_out):
    for n in range(1, 16):
        a, own = torch.ones(1, 7, n_in), torch.ones(1, n_in, n_out)
        keys, values = torch.ones(1, n, n_in), torch.ones(1, n, n_out)
        by_pairs = counted(lambda: (a @ keys.mT) @ values)  # noqa: B023
        by_matrix = counted(lambda: a @ own)  # noqa: B023
        held = keys.numel() + values.numel()
        below = n * (n_in + n_out) < n_in * n_out
        assert (by_pairs < by_matrix) == (held < own.numel()) == below
        if n != (bound := 1 / (1 / n_in + 1 / n_out)):
            assert below == (n < bound)
        kept = _Correction(keys, values).keys is not None
        assert kept == (held <= own.numel())


def test_14_7_the_best_distance_between_kept_states():
    for S, state, graph in ((16, 1.0, 1.0), (36, 0.134, 0.232), (50, 3.0, 0.7)):

        def held(every: float) -> float:
            return S / every * state + every * graph  # noqa: B023

        tried = [held(every) for every in torch.linspace(0.1, S, 4001).tolist()]
        least = 2 * math.sqrt(S * state * graph)
        assert min(tried) >= least * (1 - 1e-12)
        assert min(tried) == pytest.approx(least, rel=1e-3)
        assert held(math.sqrt(S * state / graph)) == pytest.approx(least)


def test_14_7_is_what_a_walk_back_holds():
    S, sizes = 24, (40, 40, 1)
    x, y = normal(8, 40, seed=1), normal(8, 1, seed=2)

    def walk(every: int) -> list[Tensor]:
        own = [W.detach() for W in fresh(sizes)]
        kept = []
        for step in range(S):
            kept += [own] if step % every == 0 else []
            slopes = grad(error)(own, x, y)
            own = [W - RATE * g for W, g in zip(own, slopes)]
        g = list(grad(error)(own, -x, y))
        for left in reversed(range(len(kept))):
            start = [W.requires_grad_() for W in kept.pop()]
            end = adapted(start, x, y, min(every, S - left * every))
            g = torch.autograd.grad(end, start, g)
        return list(g)

    def whole() -> list[Tensor]:
        weights = fresh(sizes)
        own = adapted(weights, x, y, S)
        return list(torch.autograd.grad(error(own, -x, y), weights))

    for every in (1, 5, 24):
        for ours, exact in zip(walk(every), whole()):
            torch.testing.assert_close(ours, exact)
    state = 8 * sum(W.numel() for W in fresh(sizes))
    grown = peak_memory(lambda: walk(24)) - peak_memory(lambda: walk(12))
    graph = (grown + state) / 12  # the walk by twelves keeps one state more
    distances = (1, 2, 4, 6, 12, 24)
    above = [
        peak_memory(lambda: walk(e)) - (S / e * state + e * graph)  # noqa: B023
        for e in distances
    ]
    assert max(above) - min(above) < 2 * (state + graph)


@pytest.mark.parametrize("bits, dtype", [(23, torch.float32), (7, torch.bfloat16)])
def test_14_8_rounded_factors(bits, dtype):
    # PyTorch's own conversions round; half of the last bit is their exact bound.
    x = normal(4000, seed=1) * torch.logspace(-9, 9, 4000, dtype=F64)
    off = (x.to(dtype).to(F64) - x).abs() / x.abs()
    assert 0.95 * 2.0 ** (-bits - 1) < off.max() <= 2.0 ** (-bits - 1)
    a, W = normal(60, 40, seed=2), normal(40, 30, seed=3)
    product = a.to(dtype).to(F64) @ W.to(dtype).to(F64)
    bound = (2.0**-bits + 2.0 ** (-2 * bits - 2)) * (a.abs() @ W.abs())
    share = ((product - a @ W).abs() / bound).max()
    assert 0.1 < share <= 1
    # With one term there is nothing to cancel, and the bound is nearly reached.
    one = a[:, :1], W[:1]
    product = one[0].to(dtype).to(F64) @ one[1].to(dtype).to(F64)
    bound = (2.0**-bits + 2.0 ** (-2 * bits - 2)) * (one[0] @ one[1]).abs()
    assert 0.7 < ((product - one[0] @ one[1]).abs() / bound).max() <= 1


def test_14_8_ten_bits_by_hand():
    # 1 + 2⁻¹¹ is half-way between two numbers of ten bits, and goes to the even one.
    def rounded(x: float, bits: int) -> float:
        mantissa, exponent = math.frexp(x)
        return math.ldexp(round(mantissa * 2 ** (bits + 1)), exponent - bits - 1)

    assert rounded(1 + 2**-11, 10) == 1 and rounded(1 + 3 * 2**-11, 10) == 1 + 2**-9
    assert rounded(1 + 2**-11 + 2**-20, 10) == 1 + 2**-10
    worst = max(
        abs(rounded(x, 10) / x - 1) for x in (1 + i / 4093 for i in range(4093))
    )
    assert 0.98 * 2**-11 < worst <= 2**-11
