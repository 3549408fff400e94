"""Checks of chapter 7's exercises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap
from torch.utils.flop_counter import FlopCounterMode

from . import Answer, exercise, same

HEAD = ("head.weight", "head.bias")


def _problem(seed: int) -> tuple:
    """loss(θ, data), θ, support and query of a small net, in float64."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)
    θ = {
        "body.weight": draw(3, 2),
        "body.bias": draw(3),
        "head.weight": draw(1, 3),
        "head.bias": draw(1),
    }
    support, query = (draw(5, 2), draw(5, 1)), (draw(5, 2), draw(5, 1))
    return _loss, θ, support, query


def _loss(θ: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
    x, y = data
    hidden = (x @ θ["body.weight"].T + θ["body.bias"]).tanh()
    return (hidden @ θ["head.weight"].T + θ["head.bias"] - y).square().mean()


def _step(loss, θ, data, α, names=None, first_order=False):
    """θ after an SGD step in the parameters of these names."""
    slope = grad(loss)(θ, data)
    if first_order:
        slope = {k: v.detach() for k, v in slope.items()}
    moves = θ if names is None else names
    return {k: v - α * slope[k] if k in moves else v for k, v in θ.items()}


def _walk(loss, θ, data, α, steps):
    for _ in range(steps):
        θ = _step(loss, θ, data, α)
    return θ


def _scale(tree, factor):
    return {k: factor * v for k, v in tree.items()}


def _flat(tree) -> Tensor:
    return torch.cat([v.flatten() for v in tree.values()])


@exercise("7.1", function="fomaml_gradient")
def _(answer: Answer) -> str:
    """loss, θ, support, query, α, steps → the slope at the end, by name."""
    for seed, α, steps in ((1, 0.1, 3), (0, 0.2, 1)):
        loss, θ, support, query = _problem(seed)
        got = answer(loss, θ, support, query, α, steps)
        end = _walk(loss, θ, support, α, steps)
        answer.mistake(
            "at the start",
            same(got, grad(loss)(θ, query)),
            "This is the slope of the query loss at θ. No inner step has been taken:"
            " FOMAML takes the slope at θ′.",
        )
        for taken in {1, steps - 1} - {0, steps}:
            answer.mistake(
                "too few inner steps",
                same(got, grad(loss)(_walk(loss, θ, support, α, taken), query)),
                f"This is the slope after inner step {taken}, not after all {steps}.",
            )
        answer.mistake(
            "adapted to the query",
            same(got, grad(loss)(_walk(loss, θ, query, α, steps), query)),
            "The inner steps were taken on the query set. Adaptation sees the support"
            " set alone; the query set judges.",
        )
        answer.mistake(
            "support again",
            same(got, grad(loss)(end, support)),
            "This is the slope of the *support* loss at θ′. The outer loss is judged on"
            " the query set.",
        )
        total = grad(lambda θ: loss(_walk(loss, θ, support, α, steps), query))(θ)
        answer.mistake(
            "second order",
            same(got, total),
            "This is MAML: it differentiates through the inner steps. FOMAML takes"
            " the slope in θ′ itself.",
        )
        expected = grad(loss)(end, query)
        answer.expect(
            same(got, expected),
            f"At α = {α}, inner steps: {steps}, {_difference(got, expected)}.",
        )
    return "The slope of the query loss where the inner loop ends, and nothing else."


@exercise("7.2", function="reptile_direction")
def _(answer: Answer) -> str:
    """loss, θ, batches, α → (θ − θ_k)/α, by name."""
    for seed, α, count in ((2, 0.2, 2), (3, 0.1, 3)):
        loss, θ, *_ = _problem(seed)
        batches = [_problem(10 * seed + i)[2] for i in range(count)]
        got = answer(loss, θ, batches, α)
        ends = [θ]
        for batch in batches:
            ends.append(_step(loss, ends[-1], batch, α))
        expected = {k: (θ[k] - ends[-1][k]) / α for k in θ}
        answer.mistake(
            "sign",
            same(got, _scale(expected, -1)),
            "The sign is turned: an optimiser *subtracts* what you return, so it must"
            " be θ minus θ_k to lead towards θ_k.",
        )
        answer.mistake(
            "divided twice",
            same(got, _scale(expected, 1 / α)),
            "This is divided by α twice. The way θ − θ_k has one factor α in it.",
        )
        answer.mistake(
            "not divided",
            same(got, _scale(expected, α)),
            "This is the way itself, θ − θ_k. The direction of (7.3) is divided by α.",
        )
        answer.mistake(
            "mean of the slopes",
            same(got, _scale(expected, 1 / count)),
            "This is divided by the number of mini-batches too. In (7.3) the slopes add"
            " up.",
        )
        answer.mistake(
            "last slope",
            same(got, grad(loss)(ends[-2], batches[-1])),
            "This is the last slope alone. Reptile takes the whole way: the slopes of"
            " all steps.",
        )
        at_start = [grad(loss)(θ, batch) for batch in batches]
        answer.mistake(
            "all at the start",
            same(got, {k: sum(slope[k] for slope in at_start) for k in θ}),
            "These are the slopes at θ, added. Each step has to start where the one"
            " before it ended, or the term −αH₂g₁ is lost.",
        )
        answer.expect(
            same(got, expected),
            f"For {count} mini-batches {_difference(got, expected)}.",
        )
    return "The way, divided by α: the sum of the slopes met along it."


@exercise("7.3", function="anil_gradient")
def _(answer: Answer) -> str:
    """loss, θ, support, query, α, head → the gradient in all of θ, by name."""
    for seed, α in ((4, 0.3), (5, 0.15)):
        loss, θ, support, query = _problem(seed)
        got = answer(loss, θ, support, query, α, HEAD)

        def total(names, first_order=False):
            after = lambda θ: _step(loss, θ, support, α, names, first_order)
            return grad(lambda θ: loss(after(θ), query))(θ)

        expected, first = total(HEAD), total(HEAD, first_order=True)
        answer.mistake(
            "every layer moves",
            same(got, total(θ)),
            "This is MAML: the body took the inner step as well. Only the parameters"
            " named in `head` may move.",
        )
        only_head = {k: expected[k] for k in HEAD}
        still = {k: only_head.get(k, torch.zeros_like(θ[k])) for k in θ}
        answer.mistake(
            "body not trained",
            same(got, still) or same(got, only_head),
            "The body gets no gradient here. It stays in the *inner* loop only: the"
            " outer loop trains all of θ.",
        )
        answer.mistake(
            "first order",
            same(got, first),
            "This is first-order ANIL: the head's step counts as a constant, and the"
            " body does not learn to help it. Differentiate through the step.",
        )
        answer.mistake(
            "no second term",
            same(got, {**first, **only_head}),
            "The head's part is right. The body's has lost the second term of (7.7):"
            " the slope in the head's step depends on the body too, so the body must"
            " not be a constant there.",
        )
        answer.mistake(
            "the body moves",
            same(got, total([k for k in θ if k not in HEAD])),
            "Here the body took the inner step and the head stayed. `head` names the"
            " parameters that *move*.",
        )
        answer.expect(same(got, expected), f"At α = {α} {_difference(got, expected)}.")
    return "The body rests in the inner loop and learns in the outer one."


@exercise("7.4", function="rate_gradient")
def _(answer: Answer) -> str:
    """loss, θ, α by name, support, query → dL/dα by name, for one inner step."""
    for seed in (6, 7):
        loss, θ, support, query = _problem(seed)
        random = torch.Generator().manual_seed(seed)
        α = {
            k: 0.3 * torch.rand(v.shape, generator=random, dtype=v.dtype) - 0.05
            for k, v in θ.items()
        }
        got = answer(loss, θ, α, support, query)
        g_in = grad(loss)(θ, support)
        end = {k: θ[k] - α[k] * g_in[k] for k in θ}
        g = grad(loss)(end, query)
        expected = {k: -g[k] * g_in[k] for k in θ}
        answer.mistake(
            "sign",
            same(got, _scale(expected, -1)),
            "The sign is turned. A larger rate moves θ′ by *minus* g_in, so dL/dα is"
            " −g ⊙ g_in.",
        )
        answer.mistake(
            "summed",
            same(got, {k: v.sum() for k, v in expected.items()})
            or same(got, sum(v.sum() for v in expected.values())),
            "The products are summed. Every number of θ has a rate of its own, so the"
            " gradient has the shape of θ: multiply, do not sum.",
        )
        at_start = grad(loss)(θ, query)
        answer.mistake(
            "scored at the start",
            same(got, {k: -at_start[k] * g_in[k] for k in θ}),
            "g is taken at θ here. The query loss is scored after the step, at θ′.",
        )
        on_support = grad(loss)(end, support)
        answer.mistake(
            "scored on the support",
            same(got, {k: -on_support[k] * g_in[k] for k in θ}),
            "g is the slope of the *query* loss; this is that of the support loss"
            " at θ′.",
        )
        after = lambda θ: {k: θ[k] - α[k] * grad(loss)(θ, support)[k] for k in θ}
        answer.mistake(
            "gradient in θ",
            same(got, grad(lambda θ: loss(after(θ), query))(θ)),
            "This is the gradient in the initialisation, MAML's with these rates."
            " Asked for is that in the rates α, with θ held fixed.",
        )
        answer.expect(
            same(got, expected), f"With these rates {_difference(got, expected)}."
        )
    return "Rates grow where the slopes before and after the step agree."


@exercise("7.5", function="implicit_gradient")
def _(answer: Answer) -> str:
    """loss, θ′ as a vector, η, support, query, steps → v."""
    for seed, η in ((8, 3.0), (9, 5.0)):
        _, θ, support, query = _problem(seed)
        sizes = {k: v.shape for k, v in θ.items()}

        def loss(vector, data):
            parts = vector.split([s.numel() for s in sizes.values()])
            return _loss(
                {k: p.view(s) for (k, s), p in zip(sizes.items(), parts)}, data
            )

        at = _flat(θ)
        for _ in range(100):  # towards the point that the spring holds
            at = at - 0.05 * (grad(loss)(at, support) + η * (at - _flat(θ)))
        got = answer(loss, at, η, support, query, 30)
        H, identity = jacrev(grad(loss))(at, support), torch.eye(len(at)).double()
        g, other = grad(loss)(at, query), jacrev(grad(loss))(at, query)
        expected = torch.linalg.solve(identity + H / η, g)
        close = lambda a, b: same(a, b, tol=1e-5)
        answer.mistake(
            "η upside down",
            close(got, torch.linalg.solve(identity + η * H, g)),
            "This solves (I + ηH) v = g. A strong spring must make the matrix nearly"
            " I: divide H by η.",
        )
        answer.mistake(
            "multiplied",
            close(got, g + H @ g / η),
            "This is (I + H/η) g. The meta-gradient is the *solution* v of"
            " (I + H/η) v = g.",
        )
        answer.mistake(
            "the query's Hessian",
            close(got, torch.linalg.solve(identity + other / η, g)),
            "H is the Hessian of the *support* loss, which θ′ minimises together with"
            " the spring.",
        )
        system = identity + H / η
        answer.mistake(
            "too few steps",
            close(got, (g @ g) / (g @ system @ g) * g),
            "This is conjugate gradients after a single step, a multiple of g. Take as"
            " many as `steps` says.",
        )
        answer.mistake(
            "no 1/η",
            close(got, torch.linalg.solve(identity + H, g)),
            "This solves (I + H) v = g, with the spring nowhere in it: divide H by η.",
        )
        answer.mistake(
            "no identity",
            isinstance(got, Tensor)
            and got.shape == g.shape
            and (H @ got.to(g) / η - g).norm() < 1e-3 * g.norm(),
            "This solves (H/η) v = g. The identity is missing in `apply`: it returns"
            " p + Hp/η.",
        )
        answer.mistake(
            "η on one side",
            close(got, expected / η),
            "This solves (ηI + H) v = g. That is the equation times η on its left"
            " side only.",
        )
        answer.mistake(
            "the support's slope",
            close(got, torch.linalg.solve(system, grad(loss)(at, support))),
            "g is the slope of the *query* loss at θ′; this starts from that of the"
            " support loss.",
        )
        answer.mistake(
            "first order",
            close(got, g),
            "This is g itself. The spring's answer, (I + H/η)⁻¹, is missing.",
        )
        answer.expect(
            close(got, expected),
            f"At η = {η:g} {_difference(got, expected)}.",
        )
    return "One system, one product with H per step, and no Hessian ever formed."


# --- a member of one's own ----------------------------------------------------

_α, _STEPS = 0.45, 3
_START = -torch.ones(6, 1, dtype=torch.float64)


def _race_loss(θ: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
    x, y = data
    return (x @ θ["w"] - y).square().mean()


def _race_tasks() -> tuple:
    """Eight linear regressions, support and query: half of them steep bowls, half flat.

    The bottoms of the steep ones are far from those of the flat ones, so that it
    matters which of them the inner loop is left to solve.
    """
    random = torch.Generator().manual_seed(11)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)
    steep = torch.arange(8) < 4
    curvature = torch.where(steep, 1.6, 0.15)[:, None] * (1 + 0.2 * draw(8, 6)).abs()
    centre = torch.where(steep, -1.0, 1.0)[:, None, None] + 0.1 * draw(8, 6, 1)

    def regression():
        x = torch.linalg.qr(draw(8, 10, 6)).Q * (5 * curvature).sqrt()[:, None]
        return x, x @ centre

    return regression(), regression()


def _race_fomaml(loss, θ, support, query, α, steps):
    return grad(loss)(_walk(loss, θ, support, α, steps), query)


def _race_maml(loss, θ, support, query, α, steps):
    return grad(lambda θ: loss(_walk(loss, θ, support, α, steps), query))(θ)


def _race_reptile(loss, θ, support, query, α, steps):
    end = _walk(loss, θ, support, α, steps)
    return {k: θ[k] - end[k] for k in θ}


def _race_pooled(loss, θ, support, query, α, steps):
    first, second = grad(loss)(θ, support), grad(loss)(θ, query)
    return {k: first[k] + second[k] for k in θ}


def _operations(rule) -> int:
    support, query = _race_tasks()
    one = lambda data: tuple(part[0] for part in data)
    with FlopCounterMode(display=False) as counter:
        rule(_race_loss, {"w": _START}, one(support), one(query), _α, _STEPS)
    return counter.get_total_flops()


def _race(rule, outer_steps: int) -> float:
    """The query error after adaptation, trained for so many outer steps of Adam."""
    support, query = _race_tasks()
    w, m, v = _START, torch.zeros_like(_START), torch.zeros_like(_START)

    def of_task(w, support, query):
        return rule(_race_loss, {"w": w}, support, query, _α, _STEPS)["w"]

    over_tasks = vmap(of_task, (None, 0, 0))
    for step in range(1, outer_steps + 1):
        slope = over_tasks(w, support, query).mean(0)
        m, v = 0.9 * m + 0.1 * slope, 0.99 * v + 0.01 * slope.square()
        size = (v / (1 - 0.99**step)).sqrt() + 1e-12
        w = w - 0.1 * (m / (1 - 0.9**step)) / size
    return float(_after(w, support, query))


def _after(w: Tensor, support: tuple, query: tuple) -> Tensor:
    def error(support, query):
        end = _walk(_race_loss, {"w": w}, support, _α, _STEPS)
        return _race_loss(end, query)

    return vmap(error)(support, query).mean()


@exercise("7.6", function="my_gradient")
def _(answer: Answer) -> str:
    """loss, θ, support, query, α, steps → what an optimiser should descend."""
    loss, θ, support, query = _problem(12)
    got = answer(loss, θ, support, query, 0.1, 3)
    shaped = isinstance(got, dict) and {k: v.shape for k, v in got.items()} == {
        k: v.shape for k, v in θ.items()
    }
    answer.expect(shaped, "Expected a dictionary with the names and shapes of θ.")
    ours = _flat(got)
    known = {
        "FOMAML": _race_fomaml,
        "MAML": _race_maml,
        "Reptile": _race_reptile,
        "pooled": _race_pooled,
    }
    cosine = {}
    for name, rule in known.items():
        theirs = _flat(rule(loss, θ, support, query, 0.1, 3))
        cosine[name] = float(ours @ theirs / (ours.norm() * theirs.norm() + 1e-30))
    answer.mistake(
        "never adapts",
        cosine["pooled"] > 1 - 1e-6
        or same(got, grad(loss)(θ, query))
        or same(got, grad(loss)(θ, support)),
        "This takes slopes at θ only, so it is pooled training: nothing in it knows"
        " that there will be an inner loop.",
    )
    for name in ("FOMAML", "MAML", "Reptile"):
        answer.mistake(
            "an old member",
            cosine[name] > 1 - 1e-6,
            f"This is {name}, up to a factor. Change what it does, not its name.",
        )
    cost = _operations(lambda *a: answer(*a))
    answer.expect(cost > 0, "No matrix product was counted: does it use `loss`?")
    budget = 30 * _operations(_race_maml)
    steps = max(1, min(400, budget // cost))
    after = _race(lambda *a: answer(*a), steps)
    rivals = {
        name: _race(rule, budget // _operations(rule)) for name, rule in known.items()
    }
    start = float(_after(_START, *_race_tasks()))
    told = ", ".join(f"{name} {error:.4f}" for name, error in rivals.items())
    answer.mistake(
        "climbs",
        not after < 1.2 * start and min(cosine.values()) < 0,
        f"After training the error is {after:.4f}, and it was {start:.4f} before. The"
        " optimiser *subtracts* what you return: is the sign turned?",
    )
    answer.expect(
        after < 0.8 * rivals["pooled"],
        f"On the budget it takes {steps} outer steps to an error of {after:.4f};"
        f" expected less than 80 % of pooled training's. ({told}.)",
    )
    place = 1 + sum(error < after for error in rivals.values())
    return (
        f"On the budget it takes {steps} outer steps and reaches {after:.4f}, which is"
        f" place {place} of 5: {told}."
    )


def _difference(got, expected) -> str:
    """In words, the first thing in which an answer is not what was expected."""
    if isinstance(expected, Tensor):
        got, expected = {"the result": got}, {"the result": expected}
    if not isinstance(got, dict):
        return f"expected a dictionary like θ, got a {type(got).__name__}"
    if set(got) != set(expected):
        return f"expected the names {', '.join(expected)}, got {', '.join(got)}"
    apart = [k for k in expected if not same(got[k], expected[k])]
    if not apart:
        return "nothing differs"
    name = apart[0]
    ours, theirs = got[name], expected[name].detach()
    if not isinstance(ours, Tensor) or ours.shape != theirs.shape:
        came = list(getattr(ours, "shape", [])) or f"a {type(ours).__name__}"
        return f"expected the shape {list(theirs.shape)} for `{name}`, got {came}"
    ours = ours.detach()
    place = int((ours - theirs).abs().argmax())
    return (
        f"expected {float(theirs.flatten()[place]):.6g} as number {place + 1} of"
        f" `{name}`, got {float(ours.flatten()[place]):.6g}"
    )
