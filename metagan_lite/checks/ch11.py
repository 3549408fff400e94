"""Checks of chapter 11's exercises."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev
from torch.nn.functional import softplus

from . import Answer, exercise, same

F64 = torch.float64


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_random(seed), dtype=F64)


def _net(*sizes: int, seed: int) -> nn.Module:
    """A small net in float64 whose parameters have gradients from before: ones."""
    first, last = (nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
    net = nn.Sequential(first, nn.Tanh(), last).double()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(_normal(*p.shape, seed=seed + i))
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    return net


def _said(got: object) -> str:
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    return f"{got:.4f}" if isinstance(got, (int, float)) else type(got).__name__


@exercise("11.1", function="own_slopes")
def _(answer: Answer) -> str:
    for seed in (0, 20):
        for kind in ("D", "G"):
            G, D = _net(2, 4, 3, seed=seed), _net(3, 4, 1, seed=seed + 10)
            logits = D(G(_normal(5, 2, seed=seed + 5)))
            loss = softplus(logits if kind == "D" else -logits).mean()
            net, other = (D, G) if kind == "D" else (G, D)
            names = [name for name, _ in net.named_parameters()]
            slopes = torch.autograd.grad(
                loss, list(net.parameters()), retain_graph=True
            )
            right = dict(zip(names, slopes))
            theirs = torch.autograd.grad(
                loss, list(other.parameters()), retain_graph=True
            )
            got = answer(net, loss)
            answer.mistake(
                "accumulates",
                same(got, {k: slope + 1 for k, slope in right.items()}),
                "To each slope is added what lay in `.grad` before: `backward` adds."
                " `torch.autograd.grad` returns the slopes and adds to nothing.",
            )
            answer.expect(
                isinstance(got, dict) and list(got) == names,
                f"A dictionary was expected, with the names {names} of the net's own"
                " parameters.",
            )
            answer.expect(
                same(got, right), "The slopes are not those of the loss in this net."
            )
            answer.mistake(
                "leaks",
                any((p.grad != 1).any() for p in other.parameters()),
                "The values are right, but the *other* player's `.grad` has changed:"
                " `backward` fills every net that the loss depends on.",
            )
            answer.mistake(
                "touches_grad",
                any(p.grad is None or (p.grad != 1).any() for p in net.parameters()),
                "The values are right, but the net's `.grad` has changed. Return the"
                " slopes, and leave `.grad` to the caller.",
            )
            try:
                again = torch.autograd.grad(loss, list(other.parameters()))
            except RuntimeError:
                again = None
            answer.mistake(
                "frees_the_graph",
                again is None,
                "The values are right, but the graph is gone afterwards. Both outer"
                " losses run through one inner loop, and the second still needs it:"
                " `retain_graph=True`.",
            )
            answer.expect(same(list(again), list(theirs)), "The graph has changed.")
    return "A loss speaks to the parameters that were asked, and to nobody else."


@exercise("11.2", function="share_seen")
def _(answer: Answer) -> str:
    # A small set first, whose mistakes are all far from each other.
    for n, k, m in ((10, 3, 2), (1797, 100, 5), (50, 20, 3), (60_000, 100, 500)):
        right = 1 - (1 - k / n) ** m
        got = answer(n, k, m)
        answer.mistake(
            "no_overlap",
            same(got, k * m / n) or same(got, min(1, k * m / n)),
            "This is the share if no image were in two tasks. Tasks are drawn"
            " independently, so they overlap.",
        )
        answer.mistake(
            "missed",
            same(got, 1 - right),
            "This is the share that *no* task has seen.",
        )
        answer.mistake(
            "with_replacement",
            same(got, 1 - (1 - 1 / n) ** (k * m)),
            "This draws every image independently. *Within* a task no image comes"
            " twice: a task misses a given image with probability $1 - k/n$.",
        )
        answer.mistake(
            "all_of_them",
            same(got, (k / n) ** m),
            "This is the share of images that are in *every* task.",
        )
        answer.mistake(
            "exponential",
            same(got, 1 - math.exp(-k * m / n)),
            "This is the limit for tasks that are small beside the set,"
            " $(1 - k/n)^m \\approx e^{-mk/n}$. Here the product is asked for itself.",
        )
        answer.mistake(
            "in_one_only",
            same(got, m * (k / n) * (1 - k / n) ** (m - 1)),
            "This is the share of images that are in *exactly* one task. Those in"
            " several are seen as well.",
        )
        answer.mistake(
            "a_number",
            same(got, n * right),
            "This is the number of images. The *share* of the set is asked for.",
        )
        answer.expect(
            same(got, right),
            f"With n = {n}, k = {k}, m = {m} a share of {right:.4f} was expected, got"
            f" {_said(got)}.",
        )
    answer.expect(
        same(answer(10, 10, 2), 1.0), "A task of all n images has seen the whole set."
    )
    return "What m tasks miss is what each of them misses."


@exercise("11.3", function="split_class")
def _(answer: Answer) -> str:
    count, shots, query_shots = 80, 4, 6
    labels = torch.arange(count) % 4  # twenty images of each class, in turn
    images = torch.arange(count, dtype=F64)[:, None].expand(count, 3).contiguous()
    for label in (2, 1):
        seen = []
        for seed in (0, 1, 2):
            got = answer(images, labels, label, shots, query_shots, _random(seed))
            answer.expect(
                isinstance(got, (tuple, list))
                and len(got) == 2
                and [tuple(getattr(part, "shape", ())) for part in got]
                == [(shots, 3), (query_shots, 3)],
                f"Expected a support set [{shots}, 3] and a query set"
                f" [{query_shots}, 3].",
            )
            support, query = (part[:, 0].long().tolist() for part in got)
            answer.mistake(
                "all_classes",
                any(labels[i] != label for i in support + query),
                f"Some images are not of class {label}. The article's tasks are like"
                " this: there is nothing to adapt to.",
            )
            answer.mistake(
                "with_replacement",
                len(set(support)) < shots or len(set(query)) < query_shots,
                "An image is twice in one set: draw without replacement.",
            )
            answer.mistake(
                "overlap",
                bool(set(support) & set(query)),
                "An image is in the support *and* in the query set: the judge then"
                " sees what the inner loop has trained on. Permute once, and cut.",
            )
            seen.append((support, query))
        again = answer(images, labels, label, shots, query_shots, _random(0))
        again = tuple(part[:, 0].long().tolist() for part in again)
        answer.mistake(
            "ignores_the_generator",
            again != seen[0],
            "The same generator gives another task: its random numbers are not used."
            " `torch.randperm` takes `generator=`.",
        )
        answer.mistake(
            "always_the_same",
            seen[0] == seen[1] == seen[2],
            "Three generators give the same images: this is one task for ever.",
        )
        support = [set(s) for s, _ in seen]
        answer.mistake(
            "fixed_support",
            support[0] == support[1] == support[2],
            "Only the order changes: the support set always holds the same images, so"
            " that a class is one task for ever.",
        )
        query = [set(q) for _, q in seen]
        answer.mistake(
            "fixed_query",
            query[0] == query[1] == query[2],
            "The query set always holds the same images: the judge is one for ever.",
        )
    own = set(range(1, count, 4))
    ever: list[set[int]] = [set(), set()]
    together = set()
    for seed in range(200):
        got = answer(images, labels, 1, shots, query_shots, _random(seed))
        sets = [set(part[:, 0].long().tolist()) for part in got]
        ever = [old | new for old, new in zip(ever, sets)]
        together |= {(i, j) for i in sets[0] | sets[1] for j in sets[0] | sets[1]}
    unseen = len(own - (ever[0] | ever[1]))
    answer.mistake(
        "never_drawn",
        unseen > 0,
        f"{unseen} of the {len(own)} images of the class never came into a task, in 200"
        " draws. Permute *all* places of the class, and cut then.",
    )
    answer.mistake(
        "never_in_both",
        ever[0] != own or ever[1] != own,
        "Some images only ever come into one of the two sets, in 200 draws, so that"
        " support and query are not drawn alike. Permute all places together, and cut.",
    )
    answer.mistake(
        "neighbours",
        len(together) < len(own) ** 2,
        "Some two images are never in a task together, in 200 draws: a task is not"
        " drawn from the whole class. Neighbours are often one writer's.",
    )
    return "One class, no image twice, and a new task for each call."


@exercise("11.4", function="reptile_outer")
def _(answer: Answer) -> str:
    for seed, rate in ((0, 0.3), (40, 0.8)):
        net = _net(2, 3, 1, seed=seed)
        start = {k: p.detach().clone() for k, p in net.named_parameters()}
        x, y = _normal(6, 2, seed=seed + 8), _normal(6, 1, seed=seed + 9)

        trained = []

        def inner_loop(net: nn.Module) -> None:
            trained.append(net)  # noqa: B023
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                (net(x) - y).square().mean().backward()  # noqa: B023
                optimizer.step()

        twin = copy.deepcopy(net)
        inner_loop(twin)
        end = {k: p.detach() for k, p in twin.named_parameters()}

        def mixed(weight: float) -> dict[str, Tensor]:
            return {k: start[k] + weight * (end[k] - start[k]) for k in start}  # noqa: B023

        identity = {k: id(p) for k, p in net.named_parameters()}
        got = answer(net, inner_loop, rate)
        now = {k: p.detach() for k, p in net.named_parameters()}
        answer.expect(
            isinstance(got, nn.Module), "The net itself was expected as the result."
        )
        answer.mistake(
            "another_net",
            got is not net,
            "A copy is returned. The net that was given is to move, so that the"
            " program goes on with it.",
        )
        answer.mistake(
            "start_not_kept",
            same(now, mixed(1.0)),
            "The net is where the inner loop ended: the rate had no effect. Parameters"
            " are stepped in place, so a start that is not *cloned* moves along.",
        )
        answer.mistake(
            "stays",
            same(now, start),
            "The net is back at its start and has learned nothing.",
        )
        answer.mistake(
            "wrong_way",
            same(now, mixed(-rate)),
            "The net moves away from where the inner loop ended.",
        )
        answer.mistake(
            "from_the_end",
            same(now, mixed(1 - rate)) or same(now, mixed(1 + rate)),
            "The rate counts from the wrong point: at rate 0 the net is to be at the"
            " *start*, at rate 1 at the end.",
        )
        answer.expect(
            same(now, mixed(rate)), "Expected θ + rate · (θ′ − θ) for each parameter."
        )
        answer.mistake(
            "trains_a_copy",
            trained[-1] is not net,
            "The values are right, but the inner loop was given a copy. An optimiser"
            " made before, over the net itself, would move nothing in it. Run the loop"
            " on the net, and keep the *start*.",
        )
        answer.mistake(
            "new_parameters",
            identity != {k: id(p) for k, p in net.named_parameters()},
            "The values are right, but the net has new parameter objects: an optimiser"
            " made before would go on with the old ones. Write into the old ones,"
            " under `torch.no_grad()`.",
        )
    return "Two lines around a loop in place, and it has a start to learn."


def _cases(
    net: nn.Module, x: Tensor, y: Tensor
) -> dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
    """Ways to take an inner step; the first four are functions of their start."""

    def loss(at: dict[str, Tensor]) -> Tensor:
        return (functional_call(net, at, (x,)) - y).square().mean()

    def functional(params: dict[str, Tensor]) -> dict[str, Tensor]:
        slope = grad(loss)(params)
        return {k: params[k] - 0.1 * slope[k] for k in params}

    def in_place(params: dict[str, Tensor]) -> dict[str, Tensor]:
        slopes = torch.autograd.grad(loss(params), list(params.values()))
        with torch.no_grad():
            for p, slope in zip(params.values(), slopes):
                p -= 0.1 * slope
        return params

    def copied(params: dict[str, Tensor]) -> dict[str, Tensor]:
        own = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
        return in_place(own)

    def in_place_as_new(params: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: 1.0 * p for k, p in in_place(params).items()}

    def of_copies(params: dict[str, Tensor]) -> dict[str, Tensor]:
        own = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
        return functional(own)

    def detached(params: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: p.detach() for k, p in functional(params).items()}

    def cut(names: Callable[[int], bool]) -> Callable:
        def step(params: dict[str, Tensor]) -> dict[str, Tensor]:
            whole = functional(params)
            return {
                k: p if names(i) else p.detach().clone().requires_grad_()
                for i, (k, p) in enumerate(whole.items())
            }

        return step

    def anil(params: dict[str, Tensor]) -> dict[str, Tensor]:
        whole = functional(params)
        return {k: params[k] if i < 2 else p for i, (k, p) in enumerate(whole.items())}

    def crossed(params: dict[str, Tensor]) -> dict[str, Tensor]:
        others = {k: sum(p.sum() for j, p in params.items() if j != k) for k in params}
        return {k: p.detach() + 0.1 * others[k] for k, p in params.items()}

    def level(params: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: 0.5 * (p - 9).relu() for k, p in params.items()}

    def move_one(index: int) -> Callable:
        def step(params: dict[str, Tensor]) -> dict[str, Tensor]:
            with torch.no_grad():
                list(params.values())[index].sub_(0.1)
            return functional(params)

        return step

    return {
        "functional": functional,
        "anil": anil,
        "crossed": crossed,
        "level": level,
        "in_place": in_place,
        "in_place_as_new": in_place_as_new,
        "copied": copied,
        "of_copies": of_copies,
        "detached": detached,
        "first_connected": cut(lambda i: i == 0),
        "last_connected": cut(lambda i: i == 3),
        "first_moved": move_one(0),
        "last_moved": move_one(-1),
    }


@exercise("11.5", function="is_functional")
def _(answer: Answer) -> str:
    for seed in (0, 30):
        net = _net(2, 3, 1, seed=seed)
        x, y = _normal(6, 2, seed=seed + 8), _normal(6, 1, seed=seed + 9)
        said = {}
        for name, step in _cases(net, x, y).items():
            params = {
                k: p.detach().clone().requires_grad_()
                for k, p in net.named_parameters()
            }
            said[name] = answer(step, params)
            answer.expect(
                isinstance(said[name], bool), "Expected True or False, a plain bool."
            )
        answer.mistake(
            "copies_pass",
            (said["copied"] or said["of_copies"]) and said["functional"],
            "It says True of a step that copies the parameters and moves the copies."
            " What it returns has a gradient, but no path to `params`.",
        )
        answer.mistake(
            "in_place_passes",
            (said["in_place"] or said["in_place_as_new"]) and said["functional"],
            "It says True of a step that moves `params` themselves. From what it"
            " returns there is a path to them, but the start is gone. Compare the"
            " values of `params` with a clone from before.",
        )
        answer.mistake(
            "one_value_compared",
            (said["first_moved"] or said["last_moved"]) and said["functional"],
            "It says True of a step that moves one of the `params` and leaves the"
            " others. Compare each of them with its clone.",
        )
        answer.mistake(
            "one_path_is_enough",
            said["first_connected"] and said["last_connected"],
            "It says True where one adapted parameter has a path to `params` and the"
            " others have none. Ask each of them.",
        )
        answer.mistake(
            "only_the_first",
            said["first_connected"] and said["functional"],
            "It says True where the first adapted parameter alone has a path to"
            " `params`.",
        )
        answer.mistake(
            "only_the_last",
            said["last_connected"] and said["functional"],
            "It says True where the last adapted parameter alone has a path to"
            " `params`.",
        )
        answer.mistake(
            "nothing_passes",
            not said["functional"],
            "It says False of a step that is a function of its start. It is `params`"
            " that must keep their values; what `adapt` *returns* has others.",
        )
        answer.mistake(
            "every_start",
            not said["anil"],
            "It says False of a step as ANIL takes it, which hands the body on as it"
            " is and steps the head. *One* path to `params` is enough for each adapted"
            " parameter, and what is handed on has one to itself.",
        )
        answer.mistake(
            "own_start_only",
            not said["crossed"],
            "It says False of a step in which each adapted parameter has a path to"
            " the *other* `params` only. A path to any of them is enough.",
        )
        answer.mistake(
            "zero_is_no_path",
            not said["level"],
            "It says False where all slopes are zero, behind a ReLU. There is a path"
            " all the same; `None` says that there is none.",
        )
        answer.expect(
            not said["detached"],
            "It says True of a step whose result is detached.",
        )
    return "A start that stays, and a path from every end to it."


@exercise("11.6", function="adam_first_step")
def _(answer: Answer) -> str:
    for seed, size, lr, eps in ((0, 4, 0.1, 0.5), (10, 3, 0.03, 0.2)):
        mix = _normal(size + 2, size, seed=seed)
        theta = _normal(size, seed=seed + 1).requires_grad_()

        def loss(at: Tensor) -> Tensor:
            return torch.tanh(mix @ at / size**0.5).square().sum()  # noqa: B023

        g = grad(loss)(theta).detach()
        start = theta.detach().clone()
        right = start - lr * g / (g.abs() + eps)
        got = answer(loss, theta, lr, eps)
        answer.mistake(
            "no_correction",
            same(got, start - lr * 0.1 * g / ((0.001 * g**2).sqrt() + eps)),
            "The means are not corrected for their start at zero: divide"
            " that of the slope by $1 - \\beta_1$, that of its square by"
            " $1 - \\beta_2$.",
        )
        answer.mistake(
            "one_correction",
            same(got, start - lr * g / ((0.001 * g**2).sqrt() + eps))
            or same(got, start - lr * 0.1 * g / (g.abs() + eps)),
            "One of the two means is not corrected for its start at zero: divide"
            " that of the slope by $1 - \\beta_1$, *and* that of its square by"
            " $1 - \\beta_2$.",
        )
        answer.mistake(
            "eps_inside_the_root",
            same(got, start - lr * g / (g**2 + eps).sqrt()),
            "$\\epsilon$ stands inside the root. PyTorch adds it to the root.",
        )
        answer.mistake(
            "sign",
            same(got, start - lr * g.sign()),
            "`eps` has no part in this: it is Adam's step for $\\epsilon \\to 0$, of"
            " length `lr` in each parameter. With the `eps` that is given, Adam steps"
            " elsewhere.",
        )
        answer.mistake(
            "plain_step",
            same(got, start - lr * g),
            "This is a step of SGD: the slope is not divided by anything.",
        )
        answer.mistake(
            "uphill",
            same(got, start + lr * g / (g.abs() + eps)),
            "The step climbs the loss: check the sign.",
        )
        answer.expect(
            same(got, right),
            "`torch.optim.Adam` with this rate and this eps steps elsewhere.",
        )
        weights = _normal(size, seed=seed + 2)
        answer.mistake(
            "no_path_back",
            not got.requires_grad,
            "The values are right, but they do not depend on `theta` for autograd."
            " An optimiser steps in place; write the step as a function.",
        )
        (through,) = torch.autograd.grad(weights @ got, theta, allow_unused=True)
        answer.mistake(
            "no_graph",
            same(through, weights),
            "The values are right, but the slope counts as a constant, so that the"
            " derivative is the identity. `torch.func.grad`, or `create_graph=True`.",
        )
        H = jacrev(grad(loss))(start)
        factor = lr * eps / (g.abs() + eps) ** 2
        expected = weights - H.T @ (factor * weights)
        answer.expect(
            same(through, expected),
            "The values are right; their derivative in `theta` is not that of (11.3).",
        )
    return "With an ε of this size it has a derivative; with 1e-8 next to none."
