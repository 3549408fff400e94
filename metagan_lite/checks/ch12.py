"""Checks of chapter 12's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import Answer, exercise, same

F64 = torch.float64


def _normal(*shape: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=F64)


@exercise("12.1", function="paired_error")
def _(answer: Answer) -> str:
    """Two methods' scores of the same tasks → error of the mean difference."""
    for tasks, seed, factor in ((12, 0, 0.8), (31, 1, 1.5), (7, 2, -0.4)):
        hard = _normal(tasks, seed=seed)
        ours = 0.3 + 0.2 * hard + 0.05 * _normal(tasks, seed=seed + 10)
        theirs = 0.4 + 0.2 * factor * hard + 0.07 * _normal(tasks, seed=seed + 20)
        delta, root = ours - theirs, tasks**0.5
        right = delta.std() / root
        got = answer(ours, theirs)
        answer.mistake(
            "unpaired",
            same(got, (ours.var() + theirs.var()).sqrt() / root),
            "These are the two errors, added in squares, as for two methods on"
            " *different* tasks: the covariance of (12.1) is missing.",
        )
        answer.mistake(
            "errors_subtracted",
            same(got, ours.std() / root - theirs.std() / root)
            or same(got, (ours.std() / root - theirs.std() / root).abs()),
            "The difference of two errors is not the error of a difference. Subtract"
            " the scores first.",
        )
        answer.mistake(
            "one_task",
            same(got, delta.std()),
            "This is how far the difference of *one* task lies off. The mean of $T$"
            " tasks is surer by $\\sqrt T$.",
        )
        answer.mistake(
            "divided_by_T",
            same(got, delta.std() / tasks),
            "The deviation was divided by $T$. The *variance* of a mean falls like"
            " $1/T$, so its error like $1/\\sqrt T$.",
        )
        answer.mistake(
            "variance",
            same(got, delta.var() / tasks),
            "This is the variance of the mean difference. Its error is the root.",
        )
        answer.mistake(
            "absolute",
            same(got, (ours - theirs).abs().std() / root),
            "The differences lost their signs. They are needed: a method that wins one"
            " task and loses the next by as much is not better.",
        )
        answer.mistake(
            "over_all_scores",
            same(got, delta.std() / (2 * tasks) ** 0.5),
            "There are $2T$ scores, but only $T$ differences.",
        )
        answer.mistake(
            "covariance_once",
            same(
                got,
                (
                    (ours.var() + theirs.var() - torch.cov(torch.stack([ours, theirs])))
                    / tasks
                ).sqrt()[0, 1],
            ),
            "The covariance comes off twice: it stands in both mixed terms of the"
            " square.",
        )
        answer.mistake(
            "biased",
            same(got, delta.std(correction=0) / root),
            "The squared deviations were divided by $T$. Their mean is taken from the"
            " same numbers, so divide by $T - 1$.",
        )
        answer.expect(
            same(got, right),
            f"For {tasks} tasks with a deviation of {delta.std():.3f} between the"
            f" differences, an error of {right:.4f} was expected, got {_said(got)}.",
        )
    return "One number per task, and its error: nothing else is needed."


def _said(got: object) -> str:
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    return f"{got:.4f}" if isinstance(got, (int, float)) else type(got).__name__


@exercise("12.2", function="at_equal_compute")
def _(answer: Answer) -> str:
    """Cost of a step and scores after each, of two methods → two scores."""
    tables = []
    for cost_a, steps_a, cost_b, steps_b, seed in (
        (3, 20, 7, 12, 1),
        (4, 20, 2, 18, 0),
        (5, 8, 2, 50, 2),
        (6, 9, 4, 13, 3),
    ):
        a = _normal(steps_a, seed=seed).tolist()
        b = _normal(steps_b, seed=seed + 10).tolist()
        tables.append((cost_a, a, cost_b, b))
    said = []
    for table in tables:
        got = answer(*table)
        answer.expect(
            isinstance(got, (tuple, list)) and len(got) == 2,
            "Two scores were expected, that of a and that of b.",
        )
        said.append(tuple(got))

    def is_this(rule: Callable) -> bool:
        """Whether the answers are this rule's in every table, not in one alone."""
        return all(
            same(got, rule(cost_a, a, cost_b, b, min(cost_a * len(a), cost_b * len(b))))
            for got, (cost_a, a, cost_b, b) in zip(said, tables)
        )

    def at(a: list, b: list, steps_a: int, steps_b: int) -> tuple:
        return a[min(steps_a, len(a)) - 1], b[min(steps_b, len(b)) - 1]

    answer.mistake(
        "equal_steps",
        is_this(lambda cost_a, a, cost_b, b, budget: at(a, b, len(b), len(a))),
        "Both were read after the same number of *steps*. The one with the dearer"
        " steps has then spent more.",
    )
    answer.mistake(
        "last_of_each",
        is_this(lambda cost_a, a, cost_b, b, budget: (a[-1], b[-1])),
        "Both were read at their end, and one of them went on for longer than the"
        " other could pay for.",
    )
    for whose, mine in (("a", 0), ("b", 2)):
        totals = [table[mine] * len(table[mine + 1]) for table in tables]
        budgets = iter(totals)
        answer.mistake(
            "budget_of_one",
            is_this(
                lambda cost_a, a, cost_b, b, _: at(
                    a,
                    b,
                    (spent := next(budgets)) // cost_a,  # noqa: B023
                    spent // cost_b,
                )
            ),
            f"The budget is always what {whose} has spent. Where the other has spent"
            " less, it never got there: take the smaller of the two totals.",
        )
    answer.mistake(
        "rounded_up",
        is_this(
            lambda cost_a, a, cost_b, b, budget: at(
                a, b, math.ceil(budget / cost_a), math.ceil(budget / cost_b)
            )
        ),
        "One method took a step that the budget did not pay for in full.",
    )
    answer.mistake(
        "one_too_late",
        is_this(
            lambda cost_a, a, cost_b, b, budget: at(
                a, b, budget // cost_a + 1, budget // cost_b + 1
            )
        ),
        "Entry 0 is the score after *one* step, so after $n$ steps it is entry"
        " $n - 1$.",
    )
    answer.mistake(
        "best_within_budget",
        any(
            is_this(
                lambda cost_a, a, cost_b, b, budget: (
                    best(a[: budget // cost_a]),  # noqa: B023
                    best(b[: budget // cost_b]),  # noqa: B023
                )
            )
            for best in (min, max)
        ),
        "This is the best score on the way. It was chosen by looking at what is"
        " being compared, and by (12.3) it flatters the method with more steps.",
    )
    for got, (cost_a, a, cost_b, b) in zip(said, tables):
        budget = min(cost_a * len(a), cost_b * len(b))
        last_a, last_b = budget // cost_a, budget // cost_b
        answer.expect(
            same(got, (a[last_a - 1], b[last_b - 1])),
            f"With a step of a at {cost_a} and {len(a)} of them, and a step of b at"
            f" {cost_b} and {len(b)} of them, both can spend {budget}: that is"
            f" {last_a} steps of a and {last_b} of b.",
        )
    return "A dear step must earn its price."


@exercise("12.3", function="chosen_score")
def _(answer: Answer) -> str:
    """KIDs of B settings on validation and on test tasks → the reported KID."""
    tables = []
    # Of bad baselines, and of good ones, whose KIDs are on both sides of zero.
    for settings, known, test, seed, height in (
        (6, 9, 14, 291, 0.5),
        (6, 20, 5, 453, 0.5),
        (8, 7, 7, 8, 0.0),
        (5, 9, 6, 21, 0.0),
        (7, 11, 6, 30, 0.1),
    ):
        level = _normal(settings, 1, seed=seed)
        noise = 0.3 * _normal(settings, known, seed=seed + 20)
        validation = height + 0.1 * level + noise
        noise = 0.4 * _normal(settings, test, seed=seed + 40)
        tables.append((validation, height + 0.1 + 0.1 * level + noise))
    said = [answer(*table) for table in tables]

    def chose(choose: Callable[[Tensor, Tensor], Tensor | int]) -> bool:
        """Whether the answers are these settings' in every table, not in one."""
        return is_this(lambda v, t: t[choose(v, t)].mean())

    def is_this(rule: Callable[[Tensor, Tensor], Tensor]) -> bool:
        return all(same(got, rule(*table)) for got, table in zip(said, tables))

    answer.mistake(
        "chosen_on_test",
        chose(lambda v, t: t.mean(1).argmin()),
        "The setting was chosen by the scores that are then reported. By (12.3)"
        " it looks better than it is.",
    )
    answer.mistake(
        "validation_reported",
        is_this(lambda v, t: v.mean(1).min()),
        "The setting is the right one, but its score on the *validation* tasks is"
        " reported. That score is the smallest of several, so it flatters too.",
    )
    answer.mistake(
        "best_for_each_task",
        is_this(lambda v, t: t.amin(0).mean()),
        "Each test task was given the setting that suits it best. No one knows it"
        " beforehand.",
    )
    answer.mistake(
        "chosen_on_both",
        chose(lambda v, t: torch.cat([v, t], 1).mean(1).argmin())
        or chose(lambda v, t: (v.mean(1) + t.mean(1)).argmin()),
        "Test tasks were mixed into the choice. What is reported must have had"
        " no part in it.",
    )
    answer.mistake(
        "largest",
        chose(lambda v, t: v.mean(1).argmax()),
        "Of KIDs the smallest is the best.",
    )
    answer.mistake(
        "one_lucky_task",
        chose(lambda v, t: v.flatten().argmin() // v.shape[1]),
        "This setting has the smallest KID of a *single* task. Take the mean"
        " over tasks first.",
    )
    answer.mistake(
        "absolute",
        chose(lambda v, t: v.mean(1).abs().argmin())
        or chose(lambda v, t: v.abs().mean(1).argmin()),
        "A sign was dropped before the choice. The unbiased KID may be negative, and"
        " its mean is right only if it counts as it is: choose the smallest mean, not"
        " the one nearest to zero.",
    )
    answer.mistake(
        "clipped",
        chose(lambda v, t: v.clamp(min=0).mean(1).argmin())
        or chose(lambda v, t: v.mean(1).clamp(min=0).argmin()),
        "KIDs below zero were set to zero before the choice. The unbiased KID may be"
        " negative, and its mean is right only if it counts as it is.",
    )
    answer.mistake(
        "another_average",
        chose(lambda v, t: v.median(1).values.argmin())
        or chose(lambda v, t: v.quantile(0.5, 1).argmin())
        or chose(lambda v, t: v.argmin(0).mode().values)
        or chose(lambda v, t: v.argmin(0).bincount().argmax()),
        "The setting was chosen by a median, or by the number of tasks that it wins."
        " What is reported is a *mean* KID: choose by the same.",
    )
    for got, (validation, tested) in zip(said, tables):
        of_validation, of_test = validation.mean(1), tested.mean(1)
        best = of_validation.argmin()
        answer.expect(
            same(got, of_test[best]),
            f"The mean validation KIDs are {_listed(of_validation)} and the mean test"
            f" KIDs {_listed(of_test)}: {of_test[best]:.3f} was expected, got"
            f" {_said(got)}.",
        )
    return "It is not the smallest number in the table, and it can be believed."


def _listed(values: Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _nearest(images: Tensor, others: Tensor) -> Tensor:
    """[T, n]."""
    apart = images.flatten(2)[:, :, None] - others.flatten(2)[:, None]
    return apart.square().sum(-1).sqrt().amin(-1)


@exercise("12.4", function="share_of_copies")
def _(answer: Answer) -> str:
    """Generated, support, query → the share that looks copied, per task."""
    for tasks, shots, unseen, stolen, n, seed in (
        (3, 4, 11, 3, 9, 0),
        (2, 9, 5, 4, 8, 1),
        (4, 6, 6, 0, 5, 2),
    ):
        images = lambda count, seed: _normal(tasks, count, 1, 3, 4, seed=seed)  # noqa: B023
        support, query = images(shots, seed), images(unseen, seed + 10)
        drawn = images(n, seed + 20)
        drawn[:, :stolen] = support[:, :stolen]
        if stolen:  # and traced, too: near the support, not on it
            drawn[:, -1] = support[:, -1] + 0.3 * drawn[:, -1]
        count = min(shots, unseen)
        near, far = (_nearest(drawn, x[:, :count]).mean(1) for x in (support, query))
        whole = [_nearest(drawn, x).mean(1) for x in (support, query)]
        each = _nearest(drawn, support[:, :count]) / _nearest(drawn, query[:, :count])
        got = answer(drawn, support, query)
        answer.mistake(
            "ratio",
            same(got, near / far),
            "This is the memorisation ratio. By (12.4) it is one *minus* the share of"
            " copies.",
        )
        answer.mistake(
            "swapped",
            same(got, 1 - far / near),
            "Support and query are swapped: copies are near the *support*.",
        )
        if shots != unseen:
            answer.mistake(
                "not_cut",
                same(got, 1 - whole[0] / whole[1]),
                "Support and query differ in size here, and the nearest of many is"
                " nearer. Compare equally many of each.",
            )
        answer.mistake(
            "mean_of_ratios",
            same(got, 1 - each.mean(1)),
            "Each sample's ratio was formed first and then averaged. (12.4) is about"
            " the ratio of two mean distances.",
        )
        answer.mistake(
            "over_all_tasks",
            any(
                same(got, x) or same(got, x.expand(tasks))
                for x in (1 - near.mean() / far.mean(), (1 - near / far).mean())
            ),
            "One number came for all tasks. Without one number a task there is no"
            " error bar.",
        )
        answer.mistake(
            "nearer_to_support",
            any(
                same(got, (_nearest(drawn, x) < _nearest(drawn, y)).to(F64).mean(1))
                for x, y in (
                    (support, query),
                    (support[:, :count], query[:, :count]),
                )
            ),
            "This is the share of samples that are nearer to the support than to the"
            " query set. Half of those that are no copies are, too, by chance.",
        )
        squares = [
            _nearest(drawn, x[:, :count]).square().mean(1) for x in (support, query)
        ]
        answer.mistake(
            "squared",
            same(got, 1 - squares[0] / squares[1]),
            "The distances are squared. Take the root before the mean.",
        )
        exact = (_nearest(drawn, support) < 1e-9).to(F64).mean(1)
        answer.mistake(
            "exact_only",
            same(got, exact),
            "Only exact copies were counted. One sample of each task is *traced*: it"
            " lies near a support image, not on it.",
        )
        answer.mistake(
            "clipped",
            same(got, (1 - near / far).clamp(min=0)) and bool((near > far).any()),
            "Estimates below zero were clipped. For a generator that copies nothing"
            " they are zero on average, and must be allowed on both sides.",
        )
        answer.expect(
            same(got, 1 - near / far),
            f"For {stolen} copies and {min(stolen, 1)} traced among {n} samples a task,"
            f" {_listed(1 - near / far)} was expected, got"
            f" {_listed(got) if same(got, got) and got.ndim == 1 else _said(got)}.",
        )
    return "It would catch the thief, and the one who only traces."
