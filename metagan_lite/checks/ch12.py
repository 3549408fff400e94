"""Checks of chapter 12's exercises."""

from __future__ import annotations

import math

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
    return f"{got:.4f}" if isinstance(got, float) else type(got).__name__


@exercise("12.2", function="at_equal_compute")
def _(answer: Answer) -> str:
    """Cost of a step and scores after each, of two methods → two scores."""
    for cost_a, steps_a, cost_b, steps_b, seed in (
        (4, 20, 2, 18, 0),
        (3, 20, 7, 12, 1),
        (5, 8, 2, 50, 2),
        (6, 9, 4, 13, 3),
    ):
        a = _normal(steps_a, seed=seed).tolist()
        b = _normal(steps_b, seed=seed + 10).tolist()
        budget = min(cost_a * steps_a, cost_b * steps_b)
        last_a, last_b = budget // cost_a, budget // cost_b
        right = (a[last_a - 1], b[last_b - 1])
        least = min(steps_a, steps_b)
        got = answer(cost_a, a, cost_b, b)
        answer.expect(
            isinstance(got, (tuple, list)) and len(got) == 2,
            "Two scores were expected, that of a and that of b.",
        )
        got = tuple(got)
        answer.mistake(
            "equal_steps",
            same(got, (a[least - 1], b[least - 1])),
            "Both were read after the same number of *steps*. The one with the dearer"
            " steps has then spent more.",
        )
        answer.mistake(
            "last_of_each",
            same(got, (a[-1], b[-1])) and right != (a[-1], b[-1]),
            "Both were read at their end, and one of them went on for longer than the"
            " other could pay for.",
        )
        answer.mistake(
            "rounded_up",
            same(
                got,
                (
                    a[min(math.ceil(budget / cost_a), steps_a) - 1],
                    b[min(math.ceil(budget / cost_b), steps_b) - 1],
                ),
            )
            and (budget % cost_a or budget % cost_b),
            "One method took a step that the budget did not pay for in full.",
        )
        answer.mistake(
            "one_too_late",
            same(got, (a[min(last_a, steps_a - 1)], b[min(last_b, steps_b - 1)])),
            "Entry 0 is the score after *one* step, so after $n$ steps it is entry"
            " $n - 1$.",
        )
        answer.mistake(
            "best_within_budget",
            same(got, (min(a[:last_a]), min(b[:last_b])))
            or same(got, (max(a[:last_a]), max(b[:last_b]))),
            "This is the best score on the way. It was chosen by looking at what is"
            " being compared, and by (12.3) it flatters the method with more steps.",
        )
        answer.expect(
            same(got, right),
            f"With a step of a at {cost_a} and {steps_a} of them, and a step of b at"
            f" {cost_b} and {steps_b} of them, both can spend {budget}: that is"
            f" {last_a} steps of a and {last_b} of b.",
        )
    return "A dear step must earn its price."


@exercise("12.3", function="chosen_score")
def _(answer: Answer) -> str:
    """KIDs of B settings on validation and on test tasks → the reported KID."""
    for settings, known, test, seed in ((6, 9, 14, 291), (6, 20, 5, 453), (3, 7, 7, 8)):
        level = _normal(settings, 1, seed=seed)
        validation = 0.5 + 0.1 * level + 0.3 * _normal(settings, known, seed=seed + 20)
        tested = 0.6 + 0.1 * level + 0.4 * _normal(settings, test, seed=seed + 40)
        of_validation, of_test = validation.mean(1), tested.mean(1)
        best = of_validation.argmin()
        together = torch.cat([validation, tested], 1).mean(1)
        got = answer(validation, tested)
        if of_test.argmin() != best:
            answer.mistake(
                "chosen_on_test",
                same(got, of_test.min()),
                "The setting was chosen by the scores that are then reported. By (12.3)"
                " it looks better than it is.",
            )
        answer.mistake(
            "validation_reported",
            same(got, of_validation.min()),
            "The setting is the right one, but its score on the *validation* tasks is"
            " reported. That score is the smallest of several, so it flatters too.",
        )
        answer.mistake(
            "best_for_each_task",
            same(got, tested.amin(0).mean()),
            "Each test task was given the setting that suits it best. No one knows it"
            " beforehand.",
        )
        by_median = validation.median(1).values.argmin()
        if together.argmin() not in (best, by_median):
            answer.mistake(
                "chosen_on_both",
                same(got, of_test[together.argmin()]),
                "Test tasks were mixed into the choice. What is reported must have had"
                " no part in it.",
            )
        answer.mistake(
            "largest",
            same(got, of_test[of_validation.argmax()]),
            "Of KIDs the smallest is the best.",
        )
        lucky = validation.flatten().argmin() // known
        if lucky not in (best, by_median):
            answer.mistake(
                "one_lucky_task",
                same(got, of_test[lucky]),
                "This setting has the smallest KID of a *single* task. Take the mean"
                " over tasks first.",
            )
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
            same(got, 1 - near.mean() / far.mean())
            or same(got, (1 - near / far).mean()),
            "One number came for all tasks. Without one number a task there is no"
            " error bar.",
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
            f" {_listed(1 - near / far)} was expected.",
        )
    return "It would catch the thief, and the one who only traces."
