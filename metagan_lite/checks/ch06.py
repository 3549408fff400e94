"""Checks of chapter 6's exercises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev
from torch.utils._python_dispatch import TorchDispatchMode

from . import Answer, exercise, same

F64 = torch.float64


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _loss(seed: int, size: int) -> Callable[[Tensor], Tensor]:
    """A smooth loss of a vector whose Hessian is full and changes from point to point.

    Its curvature is of order one where θ is.
    """
    mix, target = _normal(size + 2, size, seed=seed), _normal(size + 2, seed=seed + 1)
    return lambda theta: (torch.tanh(mix @ theta / size**0.5) - target).square().sum()


class _Largest(TorchDispatchMode):
    """While it is entered: how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        for leaf in torch.utils._pytree.tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.numbers = max(self.numbers, leaf.numel())
        return made


@exercise("6.1", function="hvp")
def _(answer: Answer) -> str:
    for seed, size in ((0, 4), (10, 7)):
        loss = _loss(seed, size)
        theta, v = _normal(size, seed=seed + 2), _normal(size, seed=seed + 3)
        hessian, slope = jacrev(grad(loss))(theta), grad(loss)(theta)
        got = answer(loss, theta, v)
        answer.mistake(
            "first_derivative",
            same(got, slope @ v) or same(got, slope * v),
            "This is made of the gradient alone. Differentiate the number"
            " $\\nabla L(\\theta)^\\top v$ in $\\theta$ once more.",
        )
        answer.mistake(
            "accumulated",
            same(got, slope + hessian @ v),
            "This is $\\nabla L + Hv$: `backward` *adds* to `theta.grad`, where the"
            " first gradient still is. `autograd.grad` adds to nothing.",
        )
        answer.mistake(
            "summed_first",
            same(got, hessian.sum(0) * v),
            "The gradient was summed before $v$ came in. That gives the row sums of"
            " $H$, each times one entry of $v$. Multiply the gradient by $v$ *before*"
            " the second derivative.",
        )
        answer.mistake(
            "diagonal_only",
            same(got, hessian.diagonal() * v),
            "This keeps the diagonal of $H$ only. Row $i$ of $Hv$ has a term for every"
            " entry of $v$.",
        )
        answer.mistake(
            "squared_gradient",
            same(got, slope * (slope @ v)),
            "The gradient times itself is $gg^\\top$, not the Hessian: differentiate"
            " the gradient once more.",
        )
        answer.expect(
            same(got, hessian @ v),
            "The product of the whole Hessian with $v$ is another vector. Compare with"
            " `torch.func.hessian(loss)(theta) @ v`.",
        )
    size = 64
    theta, v = _normal(size, seed=20), _normal(size, seed=21)
    with _Largest() as largest:
        answer(lambda at: (at.roll(1) * at.sin()).sum(), theta, v)
    answer.mistake(
        "whole_hessian",
        largest.numbers >= size**2,
        f"The value is right, but the whole Hessian was formed on the way: {size**2}"
        f" numbers for {size} parameters. Differentiate the number"
        " $\\nabla L(\\theta)^\\top v$ instead.",
    )
    return "$Hv$ without $H$: two backward passes, whatever the number of parameters."


@exercise("6.2", function="adapted")
def _(answer: Answer) -> str:
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    own = {k: p.detach().clone() for k, p in net.named_parameters()}
    params = {
        k: _normal(*p.shape, seed=i).requires_grad_()
        for i, (k, p) in enumerate(own.items())
    }
    weights = {
        k: _normal(*p.shape, seed=20 + i) for i, (k, p) in enumerate(own.items())
    }
    x = _normal(5, 1, seed=30)
    y = x.sin()

    def loss(at: dict[str, Tensor]) -> Tensor:
        return (functional_call(net, at, (x,)) - y).square().mean()

    def along(at: dict[str, Tensor]) -> Tensor:
        return sum((weights[k] * at[k]).sum() for k in at)

    for lr, steps in ((0.1, 2), (0.2, 3)):
        right, sticky = params, params
        for _ in range(steps):
            slope = grad(loss)(right)
            right = {k: p - lr * slope[k] for k, p in right.items()}
            sticky = {k: p - lr * grad(loss)(params)[k] for k, p in sticky.items()}
        uphill = summed = params
        for _ in range(steps):
            slope = grad(loss)(uphill)
            uphill = {k: p + lr * slope[k] for k, p in uphill.items()}
            slope = grad(loss)(summed)
            summed = {k: p - lr * len(x) * slope[k] for k, p in summed.items()}
        slope = grad(loss)(own)
        blind = {k: p - steps * lr * slope[k] for k, p in params.items()}
        got = answer(net, params, x, y, lr, steps)
        answer.mistake(
            "in_place",
            isinstance(got, dict) and any(got.get(k) is p for k, p in params.items()),
            "What comes back holds the very tensors of `params`: they were changed in"
            " place, or not at all. Make new ones in each step.",
        )
        answer.mistake(
            "parameters_of_the_net",
            same(got, blind),
            "The slopes are those at the net's own parameters, not at `params`: call"
            " the net through `functional_call`.",
        )
        answer.mistake(
            "sum_of_squares",
            same(got, summed),
            "The loss is summed over the points: the steps are as many times too long."
            " It is to be the *mean* squared error.",
        )
        answer.mistake(
            "same_slope",
            same(got, sticky),
            "Each step took the gradient at the *start*. Take it at the parameters of"
            " the moment.",
        )
        answer.mistake(
            "uphill", same(got, uphill), "The steps climb the loss: check the sign."
        )
        answer.expect(
            same(got, right),
            f"After {steps} steps at the rate {lr} other parameters were expected, a"
            " dictionary with the names of `params`.",
        )
        through = (None,) * len(params)
        if along(got).requires_grad:
            through = torch.autograd.grad(
                along(got), list(params.values()), allow_unused=True
            )
        answer.mistake(
            "no_path_back",
            all(slope is None for slope in through),
            "The values are right, but they do not depend on `params` for autograd:"
            " something detached or copied them on the way, or stepped in place.",
        )
        through = dict(zip(params, through))
        answer.mistake(
            "no_graph",
            same(through, weights),
            "The values are right, but each gradient counts as a constant: the"
            " derivative of the result is that of first-order MAML. Which argument of"
            " `autograd.grad` records the gradient?",
        )
        expected = torch.autograd.grad(along(right), list(params.values()))
        answer.expect(
            same(through, dict(zip(params, expected))),
            "The values are right; their derivative in `params` is not.",
        )
        answer.expect(
            same(own, dict(net.named_parameters())),
            "The parameters of `net` itself have changed: use `functional_call`.",
        )
    return (
        "The end is a differentiable function of the start, and the net is untouched."
    )


@exercise("6.3", function="meta_gradient")
def _(answer: Answer) -> str:
    for seed, size, lr in ((40, 4, 0.15), (50, 6, 0.1)):
        support, query = _loss(seed, size), _loss(seed + 5, size)
        theta = _normal(size, seed=seed + 3)
        end = theta - lr * grad(support)(theta)
        hessian, g = jacrev(grad(support))(theta), grad(query)(end)
        went_on = []

        def watched(at: Tensor) -> Tensor:
            if at.grad_fn is not None:  # it carries the graph of the step: is it used?
                at.grad_fn.register_hook(lambda *_: went_on.append(True))  # noqa: B023
            return query(at)  # noqa: B023

        got = answer(theta, support, watched, lr)
        answer.mistake(
            "first_order",
            same(got, g),
            "This is $g$ alone, the first-order gradient. The end of the step follows"
            " its start by the factor $I - \\alpha H$.",
        )
        answer.mistake(
            "support_as_query",
            same(got, _step_back(hessian, grad(support)(end), lr)),
            "The adapted parameters are judged on the support set. $g$ is the gradient"
            " of the *query* loss.",
        )
        answer.mistake(
            "wrong_sign",
            same(got, _step_back(hessian, g, -lr)),
            "The factor is $I + \\alpha H$ here. The step *subtracts* the gradient.",
        )
        answer.mistake(
            "gradient_at_the_start",
            same(got, _step_back(hessian, grad(query)(theta), lr)),
            "$g$ is taken at $\\theta$. The query set judges the *adapted* parameters"
            " $\\theta'$.",
        )
        answer.mistake(
            "hessian_at_the_end",
            same(got, _step_back(jacrev(grad(support))(end), g, lr)),
            "$H$ is taken at $\\theta'$. The step was taken at $\\theta$, so its"
            " Jacobian holds the Hessian there.",
        )
        answer.mistake(
            "hessian_of_the_query",
            same(got, _step_back(jacrev(grad(query))(theta), g, lr)),
            "$H$ is the Hessian of the query loss. The step descends the *support*"
            " loss.",
        )
        answer.mistake(
            "without_the_rate",
            same(got, g - hessian @ g),
            "The rate is missing: the factor is $I - \\alpha H$.",
        )
        on_query = theta - lr * grad(query)(theta)
        answer.mistake(
            "step_on_the_query",
            same(got, _step_back(hessian, grad(query)(on_query), lr)),
            "The inner step descends the *support* loss.",
        )
        whole = grad(lambda at: query(at - lr * grad(support)(at)))(theta)
        answer.expect(
            same(got, whole),
            "Autograd through the step finds another gradient. Form $\\theta'$, then"
            " $g$ there, then $g - \\alpha H g$ with $H$ at $\\theta$.",
        )
        answer.mistake(
            "through_the_step",
            bool(went_on),
            "The value is right, but autograd went through the step for it. Form it by"
            " (6.4): two gradients and one product with $H$.",
        )
    return "$H$ is of the support at the start, $g$ of the query at the end."


def _step_back(hessian: Tensor, g: Tensor, lr: float) -> Tensor:
    return g - lr * hessian @ g


@exercise("6.4", function="unrolled_meta_gradient")
def _(answer: Answer) -> str:
    for seed, size, lr, steps in ((60, 3, 0.3, 3), (70, 4, 0.2, 4)):
        support, query = _loss(seed, size), _loss(seed + 5, size)
        slope, hessian, query_slope = grad(support), jacrev(grad(support)), grad(query)
        theta = _normal(size, seed=seed + 3)
        points = [theta]
        for _ in range(steps):
            points.append(points[-1] - lr * slope(points[-1]))
        *starts, end = points

        def back(through: list[Tensor], found: Tensor | None = None) -> Tensor:
            found = query_slope(end) if found is None else found  # noqa: B023
            for point in through:
                found = _step_back(hessian(point), found, lr)  # noqa: B023
            return found

        got = answer(theta, slope, hessian, query_slope, lr, steps)
        answer.mistake(
            "wrong_order",
            same(got, back(starts)),
            "The first step's factor touches $g$ first here: the product is"
            " transposed. The backward pass begins with the *last* step.",
        )
        answer.mistake(
            "first_step_missing",
            same(got, back(starts[:0:-1])),
            "One factor is missing: that of the first step, at $\\theta_0$.",
        )
        answer.mistake(
            "last_step_missing",
            same(got, back(starts[-2::-1])),
            "One factor is missing: that of the last step, at $\\theta_{S-1}$.",
        )
        answer.mistake(
            "off_by_one",
            same(got, back(points[:0:-1])),
            "The Hessians are those where the steps *ended*, $\\theta_1$ to"
            " $\\theta_S$. A step's Jacobian holds the Hessian where it began.",
        )
        answer.mistake(
            "frozen_hessian",
            same(got, back([theta] * steps)),
            "Every factor has the Hessian at $\\theta_0$. It changes along the way.",
        )
        answer.mistake(
            "in_place",
            same(got, back([end] * steps)),
            "Every factor has the Hessian at $\\theta_S$. `theta -= …` changes the"
            " tensor that was kept: write `theta = theta - …`.",
        )
        answer.mistake(
            "support_slope",
            same(got, back(starts[::-1], slope(end))),
            "$g$ is the gradient of the *query* loss, `query_slope`, at $\\theta_S$.",
        )
        ones = query_slope(end)
        for point in starts[::-1]:
            ones = (1 - lr * hessian(point)) @ ones
        answer.mistake(
            "one_for_the_identity",
            same(got, ones),
            "`1 - lr * H` subtracts from a matrix full of ones. The identity has them"
            " on its diagonal alone: `torch.eye`, or $g - \\alpha H g$.",
        )
        answer.expect(
            same(got, back(starts[::-1])),
            f"With {steps} steps autograd finds another gradient. Keep the points"
            " $\\theta_0$ to $\\theta_{S-1}$, then go through them backwards.",
        )
    return "The last step first: this is the backward pass through the inner loop."


@exercise("6.5", function="maml_start")
def _(answer: Answer) -> str:
    for seed, tasks, size, lr, steps in ((80, 3, 2, 0.2, 1), (90, 4, 3, 0.1, 3)):
        root = _normal(tasks, size + 1, size, seed=seed)
        hessians = root.mT @ root / size
        optima = _normal(tasks, size, seed=seed + 1)
        keep = torch.linalg.matrix_power(torch.eye(size) - lr * hessians, steps)
        got = answer(hessians, optima, lr, steps)
        answer.expect(
            getattr(got, "shape", None) == optima.shape[1:],
            f"A start of shape [P] was expected, here [{size}].",
        )
        answer.mistake(
            "mean_of_the_optima",
            same(got, optima.mean(0)),
            "This is the plain mean of the optima. It is the answer for equal Hessians"
            " only: a task's weight is what adaptation leaves of it.",
        )
        answer.mistake(
            "pooled",
            same(got, _weighted(hessians, optima)),
            "This minimises the loss *before* adaptation: the weights are the Hessians"
            " alone.",
        )
        answer.mistake(
            "one_factor",
            same(got, _weighted(hessians @ keep, optima)),
            "The adapted error $(I - \\alpha H)^S(\\theta - c)$ stands in the loss"
            " *twice*, on both sides of $H$.",
        )
        answer.mistake(
            "without_the_hessian",
            same(got, _weighted(keep @ keep, optima)),
            "The weights lack $H_i$ between the two factors: this minimises the"
            " distance to the optima, not the loss.",
        )
        answer.mistake(
            "one_step",
            steps > 1
            and same(
                got, _weighted(_left(torch.eye(size) - lr * hessians, hessians), optima)
            ),
            "These are the weights for one step; each step multiplies the error by"
            " $I - \\alpha H_i$ once more.",
        )
        by_entry = (torch.eye(size) - lr * hessians) ** steps
        answer.mistake(
            "power_of_entries",
            steps > 1 and same(got, _weighted(_left(by_entry, hessians), optima)),
            "`**` takes the power of each entry. That of a matrix is"
            " `torch.linalg.matrix_power`.",
        )
        answer.expect(
            same(got, _weighted(_left(keep, hessians), optima)),
            f"With S = {steps} the outer loss is smaller elsewhere. Sum"
            " $W_i = (I - \\alpha H_i)^S H_i (I - \\alpha H_i)^S$ over the tasks, and"
            " solve $(\\sum W_i)\\,\\theta = \\sum W_i c_i$.",
        )
    return "A mean of the optima, weighted by what adaptation leaves of each task."


def _left(keep: Tensor, hessians: Tensor) -> Tensor:
    return keep @ hessians @ keep


def _weighted(weights: Tensor, optima: Tensor) -> Tensor:
    return torch.linalg.solve(
        weights.sum(0), (weights @ optima.unsqueeze(-1)).sum(0).squeeze(-1)
    )


@exercise("6.6", function="lean_meta_gradient")
def _(answer: Answer) -> str:
    for seed, size, lr in ((100, 4, 0.25), (110, 6, 0.15)):
        support, query = _loss(seed, size), _loss(seed + 5, size)
        theta = _normal(size, seed=seed + 3)
        unrolled = []

        def watched(at: Tensor) -> Tensor:
            unrolled.append(at.grad_fn is not None)  # noqa: B023
            return query(at)  # noqa: B023

        first = theta - lr * grad(support)(theta)
        end = first - lr * grad(support)(first)
        hessian, g = jacrev(grad(support)), grad(query)(end)

        def back(*points: Tensor) -> Tensor:
            found = g  # noqa: B023
            for point in points:
                found = _step_back(hessian(point), found, lr)  # noqa: B023
            return found

        got = answer(theta, support, watched, lr)
        answer.mistake(
            "first_order",
            same(got, g),
            "This is $g$ alone: both factors $I - \\alpha H$ are missing.",
        )
        answer.mistake(
            "wrong_order",
            same(got, back(theta, first)),
            "The first step's factor came first. Go backwards: $\\theta_1$, then"
            " $\\theta_0$.",
        )
        answer.mistake(
            "one_hessian",
            same(got, back(theta, theta)) or same(got, back(first, first)),
            "Both products use the Hessian at one point. The second step was taken at"
            " $\\theta_1$, the first at $\\theta_0$.",
        )
        answer.mistake(
            "off_by_one",
            same(got, back(end, first)),
            "The Hessians are those where the steps *ended*, $\\theta_2$ and"
            " $\\theta_1$. A step's Jacobian holds the Hessian where it began.",
        )
        answer.mistake(
            "one_step_missing",
            same(got, back(first)) or same(got, back(theta)),
            "One factor is missing: each of the two steps has its own.",
        )
        answer.mistake(
            "product_with_g_twice",
            same(got, g - lr * hessian(first) @ g - lr * hessian(theta) @ g),
            "Both products were formed with $g$. The second factor multiplies what the"
            " first one left.",
        )
        answer.expect(
            same(got, back(first, theta)),
            "Autograd through both steps finds another gradient.",
        )
        answer.mistake(
            "unrolled",
            any(unrolled),
            "The value is right, but the query loss was called on parameters that carry"
            " the graph of the steps: all of it is in memory. Detach after each step.",
        )
    return "The same gradient, and no graph leads from one step to the next."
