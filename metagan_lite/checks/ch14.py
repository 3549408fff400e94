"""Checks of chapter 14's exercises."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor
from torch.func import grad

from ..cost import count
from ..distributed import shard
from . import Answer, exercise, same

F64 = torch.float64


def _normal(*shape: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=F64)


@exercise("14.1", function="intensity")
def _(answer: Answer) -> str:
    """Rows, widths and bytes of a number → FLOPs for each byte."""
    for rows, n_in, n_out, size in ((10, 300, 200, 4), (64, 9, 3, 8), (7, 5, 11, 2)):
        flops = 2 * rows * n_in * n_out
        read = rows * n_in + n_in * n_out
        written = rows * n_out
        got = answer(rows, n_in, n_out, size)
        answer.mistake(
            "one_flop",
            same(got, flops / 2 / (size * (read + written))),
            "A multiplication and the addition after it are *two* FLOPs.",
        )
        answer.mistake(
            "numbers",
            same(got, flops / (read + written)),
            "These are FLOPs for each *number*. A number has several bytes.",
        )
        answer.mistake(
            "times_size",
            same(got, flops * size / (read + written)),
            "A number's bytes belong below the line: larger numbers mean *fewer* FLOPs"
            " for each byte.",
        )
        answer.mistake(
            "outputs_are_free",
            same(got, flops / (size * read)),
            "The outputs have to be written as well.",
        )
        answer.mistake(
            "inputs_are_free",
            same(got, flops / (size * (n_in * n_out + written))),
            "The inputs have to be read as well, not only the matrix.",
        )
        answer.mistake(
            "four_bytes",
            size != 4 and same(got, flops / (4 * (read + written))),
            f"Here a number has {size} bytes, and not always four.",
        )
        right = flops / (size * (read + written))
        answer.expect(
            same(got, right),
            f"{rows} rows times {n_in} × {n_out} at {size} bytes a number:"
            f" {right:.4g} FLOPs for each byte were expected.",
        )
    return "The smallest of the three sides decides."


@exercise("14.2", function="combine")
def _(answer: Answer) -> str:
    """Gradients and numbers of tasks of each process → the gradient of the batch."""
    for tasks, world, seed in ((7, 3, 0), (8, 3, 1), (5, 4, 2)):
        of_task = _normal(tasks, 4, seed=seed)
        shares = [shard(tasks, rank, world) for rank in range(world)]
        sizes = [share.stop - share.start for share in shares]
        grads = [of_task[share].mean(0) for share in shares]
        got = answer(grads, sizes)
        stack, weights = torch.stack(grads), torch.tensor(sizes, dtype=F64)[:, None]
        answer.mistake(
            "mean_of_means",
            same(got, stack.mean(0)),
            "This is the mean of the processes. A process with fewer tasks must count"
            " for less, or its tasks count for more.",
        )
        answer.mistake(
            "sum",
            same(got, stack.sum(0)),
            "This is the sum of means: it grows with the number of processes, and so"
            " would the outer step.",
        )
        answer.mistake(
            "not_divided",
            same(got, (weights * stack).sum(0)),
            "This is the sum over all tasks. The batch's gradient is their mean.",
        )
        answer.mistake(
            "by_processes",
            same(got, (weights * stack).mean(0)),
            "Divide by the number of tasks, not by that of processes.",
        )
        answer.expect(
            same(got, of_task.mean(0)),
            f"With shares of {sizes} tasks this is not the mean over all {tasks}.",
        )
    return "Unequal shares, and the gradient of one process."


def _loss(W: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ((x @ W.mT).tanh() - y).square().mean((-2, -1))


@exercise("14.3", function="stacked_step")
def _(answer: Answer) -> str:
    """One inner step of all tasks at once."""
    for tasks, shots, n_in, n_out, rate, seed in (
        (3, 5, 4, 2, 0.7, 0),
        (5, 2, 3, 3, 0.3, 9),
    ):
        W = _normal(tasks, n_out, n_in, seed=seed)
        x = _normal(tasks, shots, n_in, seed=seed + 1)
        y = _normal(tasks, shots, n_out, seed=seed + 2)
        slopes = torch.stack([grad(_loss)(*task) for task in zip(W, x, y)])
        got = answer(W.clone().requires_grad_(), x, y, rate)
        answer.expect(
            getattr(got, "shape", None) == W.shape,
            f"The weights of all tasks were expected, {list(W.shape)}.",
        )
        answer.mistake(
            "mean_over_tasks",
            same(got, W - rate * slopes / tasks),
            f"Every task has moved by 1/{tasks} of its step: the mean over the tasks"
            " divides each slope by their number. Differentiate the sum.",
        )
        answer.mistake(
            "shared_slope",
            same(got, W - rate * slopes.mean(0)) or same(got, W - rate * slopes.sum(0)),
            "All tasks have moved alike. Inside, each follows its own slope; the mean"
            " over tasks belongs to the outer step.",
        )
        answer.mistake(
            "sum_over_samples",
            same(got, W - rate * slopes * shots * n_out),
            "The loss of a task is a mean over its samples and outputs; this step is"
            " longer by their number.",
        )
        answer.mistake(
            "sum_over_outputs",
            same(got, W - rate * slopes * n_out)
            or same(got, W - rate * slopes * shots),
            "The loss of a task is a mean over its samples *and* outputs, that is over"
            " the last two dimensions.",
        )
        answer.mistake(
            "ascends", same(got, W + rate * slopes), "This step goes up the loss."
        )
        straight = torch.stack(
            [
                grad(lambda w, x, y: (x @ w.mT - y).square().mean())(*task)
                for task in zip(W, x, y)
            ]
        )
        answer.mistake(
            "no_tanh",
            same(got, W - rate * straight),
            "The tanh is missing: the outputs are $\\tanh(x_i W_i^\\top)$.",
        )
        answer.expect(
            same(got, W - rate * slopes),
            f"The step differs from that of a loop over the {tasks} tasks.",
        )
        # The way back: a direction v through the step, as finite differences have it.
        v = _normal(*W.shape, seed=seed + 3)

        def along(by: float) -> Tensor:
            moved = W + by * v  # noqa: B023
            return torch.stack(
                [
                    w - rate * grad(_loss)(w, *xy)  # noqa: B023
                    for w, *xy in zip(moved, x, y)  # noqa: B023
                ]
            )

        leaf = W.clone().requires_grad_()
        weight = _normal(*W.shape, seed=seed + 4)
        again = answer(leaf, x, y, rate)
        attached = isinstance(again, Tensor) and again.requires_grad
        answer.mistake(
            "cut",
            not attached,
            "The numbers are right, but no gradient can flow back to the start: nothing"
            " may be detached.",
        )
        (slope,) = torch.autograd.grad((weight * again).sum(), leaf)
        exact = (weight * (along(1e-5) - along(-1e-5))).sum() / 2e-5
        answer.mistake(
            "first_order",
            same((slope * v).sum(), (weight * v).sum())
            and not same((weight * v).sum(), exact, 1e-4),
            "The slope counts as a constant on the way back: this is first order. Keep"
            " its graph with `create_graph=True`, and take it in `W` itself, not in a"
            " detached copy; or take it with `torch.func.grad`.",
        )
        answer.expect(
            same((slope * v).sum(), exact, 1e-5),
            "The step is right, and its derivative in the start is not.",
        )
    return "The slope of the sum is each task's own."


@exercise("14.4", function="adapted_layer")
def _(answer: Answer) -> str:
    """W, b, inputs, slopes, rate, x → the outputs of the adapted layer."""
    for rows, n_pairs, n_in, n_out, rate, seed in (
        (3, 4, 5, 2, 0.3, 0),
        (2, 6, 3, 4, 0.5, 7),
    ):
        W, b = _normal(n_out, n_in, seed=seed), _normal(n_out, seed=seed + 1)
        seen, deltas = (
            _normal(n_pairs, n, seed=seed + 2 + i) for i, n in enumerate((n_in, n_out))
        )
        x = _normal(rows, n_in, seed=seed + 4)
        scores = x @ seen.T
        base = x @ W.T + b
        got = answer(W, b, seen, deltas, rate, x)
        answer.mistake(
            "no_bias",
            same(got, base - rate * scores @ deltas),
            "The bias has moved too: it saw a one in every input, so every score is"
            " larger by one.",
        )
        answer.mistake(
            "climbs",
            same(got, base + rate * (scores + 1) @ deltas),
            "The sign is that of a step up: the values are *minus* the rate times the"
            " slopes.",
        )
        answer.mistake(
            "softmax",
            same(got, base - rate * (scores + 1).softmax(-1) @ deltas)
            or same(got, base - rate * scores.softmax(-1) @ deltas),
            "There is no softmax: the attention of a gradient step is linear.",
        )
        answer.mistake(
            "mean",
            same(got, base - rate * (scores + 1) @ deltas / n_pairs),
            "The pairs are summed. A mean over samples is in the slopes already, where"
            " the loss has one.",
        )
        answer.mistake(
            "no_start",
            same(got, -rate * (scores + 1) @ deltas),
            "This is the change alone; the layer's own output is missing.",
        )
        answer.expect(
            same(got, base - rate * (scores + 1) @ deltas),
            "It differs from x W′ᵀ + b′ with W′ = W − α Σ δ aᵀ and b′ = b − α Σ δ.",
        )
    wide, few = 400, 3
    W, b = torch.ones(wide, wide), torch.ones(wide)
    one, rows = torch.ones(few, wide), torch.ones(1, wide)
    work = count(lambda: answer(W, b, one, one, 0.1, rows)).flops
    answer.mistake(
        "forms_the_matrix",
        work > 1.5 * 2 * wide * wide,
        f"The numbers are right, but with {few} pairs at {wide} × {wide} this takes"
        f" {work:,} FLOPs. Compare the inputs first, and never form a matrix of the"
        " change.",
    )
    return "One product with the shared matrix, and linear attention."


def _flops(
    sizes,
    tasks,
    shots,
    query_shots,
    steps,
    first_order,
    hidden=None,
    first=None,
    query=(2, 3),
    same_first=False,
    over_query=True,
    one=0,
):
    inner_first, inner = (2, 3) if first_order else (4, 9)
    inner = inner if hidden is None else hidden
    inner_first = inner_first if first is None else first
    total = 0
    for layer, (a, b) in enumerate(zip(sizes, sizes[1:])):
        lowest = layer == 0 and not same_first
        n = steps * shots * (inner_first if lowest else inner)
        n += query_shots * (query[0] if lowest else query[1]) if over_query else 0
        total += 2 * tasks * (a + one) * b * n
    return total


@exercise("14.5", function="meta_step_flops")
def _(answer: Answer) -> str:
    """Sizes and counts → the FLOPs of a meta-gradient, equation (14.2)."""
    cases = [
        ((30, 20, 10), 4, 5, 7, 3, False),
        ((30, 20, 10), 4, 5, 7, 3, True),
        ((9, 4), 2, 3, 1, 2, False),
        ((8, 6, 5, 3, 1), 3, 2, 6, 5, False),
    ]
    for case in cases:
        sizes, tasks, shots, query_shots, steps, first_order = case
        got, right = answer(*case), _flops(*case)

        def is_(value: float, got=got, right=right) -> bool:
            return value != right and same(got, value)

        answer.mistake(
            "order_ignored",
            first_order and is_(_flops(*case[:5], False)),
            "First order does not go back through the inner steps: three products and"
            " two, not nine and four.",
        )
        answer.mistake(
            "first_layer_as_others",
            is_(_flops(*case, same_first=True)),
            "The first layer is cheaper: its input is data, and nothing goes back into"
            " data.",
        )
        answer.mistake(
            "ones_added",
            is_(_flops(*case, one=1)),
            "A width counts as it is given. You have added a one for the bias.",
        )
        answer.mistake(
            "query_first_layer",
            is_(_flops(*case, query=(3, 3))),
            "The query's first layer is cheaper as well: two products, since nothing"
            " goes back into its images.",
        )
        answer.mistake(
            "first_layer_of_first_order",
            first_order and is_(_flops(*case, first=3)),
            "In first order too the first layer is cheaper: two products.",
        )
        answer.mistake(
            "dual",
            is_(_flops(*case, hidden=6, first=2)),
            "Six and two are the products of the dual form, equation (14.5). Here"
            " adapted weights are formed: nine and four, equation (14.2).",
        )
        answer.mistake(
            "one_flop",
            is_(right / 2),
            "A multiplication and the addition after it are two FLOPs.",
        )
        answer.mistake(
            "query_in_every_step",
            is_(_flops(*case[:3], steps * query_shots, *case[4:])),
            "The query loss is taken once, after the last step.",
        )
        answer.mistake(
            "query_like_a_step",
            is_(_flops(*case, query=(2, 3) if first_order else (4, 9))),
            "Nothing goes back through the query loss's own gradient: it takes three"
            " products in a hidden layer, two in the first.",
        )
        answer.mistake(
            "support_for_query",
            is_(_flops(*case[:3], shots, *case[4:])),
            "The query set has Q images, and not K.",
        )
        answer.mistake(
            "one_task", is_(right / tasks), "This is the cost of a single task."
        )
        answer.mistake(
            "no_second_products",
            is_(_flops(*case, hidden=6, first=3)),
            "Each of the three products has *two* factors that depend on the start, and"
            " each factor takes a product on the way back.",
        )
        answer.expect(
            same(got, right),
            f"Layers {sizes}, T = {tasks}, K = {shots}, Q = {query_shots}, S = {steps},"
            f" {'first' if first_order else 'second'} order: {right:,} were expected.",
        )
    return "Nine for three, and the Hessian is never formed."


@exercise("14.6", function="walk_back")
def _(answer: Answer) -> str:
    """A step, a start, a number of steps, an outer loss → dL/dθ."""
    largest = 0
    for size, steps, seed in ((4, 3, 0), (3, 5, 5)):
        A, c, w = (
            _normal(*s, seed=seed + i)
            for i, s in enumerate(((size, size), (size,), (size,)))
        )
        alive: list[int] = []
        held = _Held()

        def step(theta: Tensor, A=A, c=c) -> Tensor:
            return theta - 0.3 * torch.tanh(A @ theta - c) * theta.cos()

        def watched(theta: Tensor, step=step, alive=alive, held=held) -> Tensor:
            # How many steps a result still hangs on: the depth of its graph.
            after = held.run(step, theta)
            if after.grad_fn is not None:
                alive.append(_depth(after.grad_fn))
            return after

        def outer(theta: Tensor, w=w) -> Tensor:
            return (w * theta).sin().sum()

        start = _normal(size, seed=seed + 3)
        states = [start]
        for _ in range(steps):
            states.append(step(states[-1]))
        g = grad(outer)(states[-1])

        def back(points: list[Tensor], g: Tensor = g, step=step) -> Tensor:
            for at in points:
                (g,) = torch.func.vjp(step, at)[1](g)
            return g

        right = back(states[-2::-1])
        got = answer(watched, start, steps, outer)
        one = _depth_of(step, start)
        largest = max([0, *(depth / one for depth in alive)])
        graphs = held.most
        answer.mistake(
            "first_order",
            same(got, g),
            "This is the slope at the end. It still has to go back through the steps.",
        )
        answer.mistake(
            "forwards",
            same(got, back(states[:-1])),
            "The steps are walked from the first to the last. The chain rule goes back:"
            " the last step comes first.",
        )
        answer.mistake(
            "one_too_far",
            same(got, back(states[:0:-1])),
            "The Jacobian of a step is taken where the step *began*, not where it"
            " ended.",
        )
        answer.mistake(
            "slope_at_start",
            same(got, back(states[-2::-1], grad(outer)(start))),
            "The outer loss is differentiated at the start. It is a loss of the adapted"
            " parameters.",
        )
        answer.mistake(
            "one_step_short",
            same(got, back(states[-3::-1])) or same(got, back(states[-2:0:-1])),
            f"A step is missing: there are {steps} of them, and the slope has to go"
            " back through each.",
        )
        answer.mistake(
            "always_at_start",
            same(got, back([start] * steps)),
            "Every Jacobian is taken at θ. Each step has its own, where that step"
            " began: keep all the states.",
        )
        along = g
        for at in states[-2::-1]:
            along = torch.autograd.functional.jacobian(step, at) @ along
        answer.mistake(
            "not_transposed",
            same(got, along),
            "The slope is multiplied by the Jacobian itself. Going *back* multiplies by"
            " its transpose, as `torch.autograd.grad` and `torch.func.vjp` do.",
        )
        answer.expect(
            same(got, right),
            f"After {steps} steps it differs from the gradient through all of them.",
        )
        answer.mistake(
            "whole_graph",
            largest > 1.5,
            "The gradient is right, but the graph of several steps was held at once:"
            " detach each state, and go back through one step at a time.",
        )
        # Two at once are let pass: that of the last step may still have its name.
        answer.mistake(
            "graph_of_the_way_back",
            graphs > 2 and getattr(got, "requires_grad", False),
            f"The gradient is right, but the graphs of {graphs} steps were held at"
            " once: what comes back from a step has a graph of its own, which keeps"
            " that of the step. Leave `create_graph` out.",
        )
        answer.mistake(
            "graphs_kept_in_list",
            graphs > 2,
            "The gradient is right and no step's graph reaches into the next, but the"
            f" graphs of {graphs} steps were held at once. Keep the *states* alone, in"
            " a list or in names, build a step's graph only when it is walked back, and"
            " leave `create_graph` out.",
        )
    return "The graph of one step, however many there are."


class _Held:
    """How many steps have a graph at the same time.

    most: their largest number so far. A graph counts while a tensor is alive that it
    saved for the way back; under torch.func, which has no hooks for them, while the
    step's result is.
    """

    def __init__(self):
        self.steps: list[weakref.ref] = []
        self.most = 0

    def run(self, step, theta: Tensor) -> Tensor:
        mark = _Mark()

        def pack(tensor: Tensor, mark: _Mark = mark) -> tuple[_Mark, Tensor]:
            return mark, tensor.detach()  # with its graph it would keep itself alive

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved[1])
        try:
            with hooks:
                after = step(theta)
            kept = weakref.ref(mark)
        except RuntimeError:
            after = step(theta)
            kept = weakref.ref(mark if after.grad_fn is None else after)
        del mark, pack, hooks
        self.steps = [s for s in [*self.steps, kept] if s() is not None]
        self.most = max(self.most, len(self.steps))
        return after


class _Mark:
    """Alive as long as what a step saved."""


def _depth(node) -> int:
    """The longest way down an autograd graph."""
    depth, level, found = 0, {node}, {}
    while level:
        depth += 1
        for n in level:
            found[n] = depth
        level = {m for n in level for m, _ in n.next_functions if m is not None}
    return depth


def _depth_of(step, at: Tensor) -> int:
    return _depth(step(at.detach().requires_grad_()).grad_fn)
