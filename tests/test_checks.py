"""The machinery of exercises: claims, checks, and how answers are judged."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from metagan_lite import checks
from metagan_lite.checks import Answer, check, claim, exercise, judge, same


@pytest.fixture
def share(monkeypatch):
    """Exercise 99.1, p/(p+q), which knows one mistake."""
    monkeypatch.setattr(checks, "_EXERCISES", {})

    @exercise("99.1", function="share")
    def _(answer: Answer) -> str:
        for p, q in ((0.2, 0.6), (0.5, 0.3)):
            p, q = torch.tensor([p, 0.1]), torch.tensor([q, 0.9])
            got = answer(p, q)
            answer.mistake("swapped", same(got, q / (p + q)), "The other share.")
            answer.expect(same(got, p / (p + q)), f"Expected the share, got {got}.")
        return "Equal densities give one half."


# --- claim --------------------------------------------------------------------


def test_a_true_claim_is_shown(capsys):
    claim(torch.tensor([2.0]) > 1, "two is more than one")
    claim(np.float64(2) > 1, "in numpy too")
    assert capsys.readouterr().out == "✓ two is more than one\n✓ in numpy too\n"


def test_a_false_claim_raises_its_sentence():
    with pytest.raises(AssertionError, match="^one is two$"):
        claim(1 == 2, "one is two")
    with pytest.raises(AssertionError):
        claim(torch.tensor(math.nan) < 1, "NaN is small")


@pytest.mark.parametrize("number", [0.3, math.nan, torch.tensor(math.nan), 1, None])
def test_a_number_is_no_claim(number):
    with pytest.raises(TypeError, match="expected True or False, got"):
        claim(number, "a gap without its comparison")


def test_several_truth_values_are_no_claim():
    with pytest.raises(ValueError, match=r"shape \(2,\); say \(…\)\.all\(\)"):
        claim(torch.tensor([True, True]), "both")


# --- same ---------------------------------------------------------------------


def test_same_is_two_sided_and_compares_shapes():
    x = torch.tensor([1.0, 2.0])
    assert same(x, x.double()) and same(2, torch.tensor(2.0))
    assert same(x, x + 1e-8) and not same(x, x + 1e-3) and not same(x, x - 1e-3)
    assert not same(x, x[None]) and not same(x[:1], 1.0)
    assert same(x, x + 0.01, tol=0.1)


def test_same_keeps_all_digits_of_a_python_float():
    third = torch.tensor(1 / 3, dtype=torch.float64)
    assert same(1 / 3, third, tol=1e-15) and same(third, 1 / 3, tol=1e-15)
    assert not same(1 / 3 + 1e-12, third, tol=1e-14)


def test_none_and_nan_are_the_same_as_nothing():
    nan = torch.tensor(math.nan)
    for a in (None, nan, "1", [None]):
        assert not same(a, a)


def test_same_looks_into_containers():
    x = torch.tensor([1.0, 2.0])
    assert same({"G": [x, 1]}, {"G": (x, 1.0)})
    assert not same({"G": x}, {"D": x}) and not same([x], [x, x]) and not same([x], x)


# --- check --------------------------------------------------------------------


def test_a_stub_is_not_solved_yet(share, capsys):
    def stub(p, q): ...

    for answer in (stub, lambda p, q: ...):
        outcome = check("99.1", answer)
        assert (outcome.status, outcome.mistake) == ("not solved yet", None)
    assert capsys.readouterr().out.startswith("… **Exercise 99.1 is not solved yet.**")


def test_a_right_answer_is_solved(share, capsys):
    outcome = check("99.1", lambda p, q: p / (p + q))
    assert (outcome.status, outcome.mistake) == ("solved", None)
    assert outcome.message == "Equal densities give one half."
    assert capsys.readouterr().out.startswith("✓ **Exercise 99.1 is solved.** Equal")


def test_a_known_mistake_has_its_name_and_another_none(share):
    outcome = judge("99.1", lambda p, q: q / (p + q))
    assert (outcome.status, outcome.mistake) == ("wrong", "swapped")
    assert outcome.message == "The other share."
    outcome = judge("99.1", lambda p, q: p)
    assert (outcome.status, outcome.mistake) == ("wrong", None)


def test_an_error_names_the_readers_own_line(share):
    cell = "def share(p, q):\n    total = p + q\n    return p @ torch.eye(3)\n"
    names = {"torch": torch}
    exec(compile(cell, "<share>", "exec"), names)
    outcome = judge("99.1", names["share"])
    assert outcome.status == "wrong"
    assert "`share` stopped with an error in line 3: `RuntimeError:" in outcome.message

    outcome = judge("99.1", lambda p: p)  # the error is in the call, not in a line
    assert "stopped with an error: `TypeError:" in outcome.message

    def leave(p, q):
        raise SystemExit

    assert judge("99.1", leave).status == "wrong"


def test_a_result_that_the_check_cannot_use_is_described(monkeypatch):
    monkeypatch.setattr(checks, "_EXERCISES", {})

    @exercise("99.2", function="double")
    def _(answer: Answer) -> str:
        answer.expect((answer(torch.ones(2)) - 2).abs().max() < 1e-6, "Expected 2.")
        return "Yes."

    for wrong, words in (
        (lambda x: "two", "an object of type str: `TypeError:"),
        (lambda x: [x, x], "a list of 2: `TypeError:"),
        (lambda x: x[:0], "a tensor of shape (0,): `"),
    ):
        outcome = judge("99.2", wrong)
        assert outcome.status == "wrong" and words in outcome.message


def test_what_is_no_function_is_wrong(share):
    outcome = judge("99.1", torch.ones(2))
    assert outcome.status == "wrong"
    assert "Expected the function `share`, got a tensor of shape (2,)" in (
        outcome.message
    )


def test_an_answer_cannot_change_its_inputs(monkeypatch):
    monkeypatch.setattr(checks, "_EXERCISES", {})
    weight = torch.ones(2, requires_grad=True)
    data = {"x": [torch.ones(2), np.ones(2)]}

    @exercise("99.3", function="spoil")
    def _(answer: Answer) -> str:
        got = answer(weight, data)
        (gradient,) = torch.autograd.grad(got, weight)
        answer.expect(same(gradient, torch.full((2,), 2.0)), "the gradient")
        return "Yes."

    def spoil(weight, data):
        loss = 2 * weight.sum()
        with torch.no_grad():
            weight += 1
        data["x"][0] += 1
        data["x"][1] += 1
        data["y"] = 3
        return loss

    assert judge("99.3", spoil).status == "solved"
    assert same(weight, torch.ones(2)) and data.keys() == {"x"}
    assert same(data["x"], [torch.ones(2), np.ones(2)])


def test_a_check_neither_uses_nor_moves_global_randomness(monkeypatch):
    monkeypatch.setattr(checks, "_EXERCISES", {})
    drawn = []

    @exercise("99.4", function="draw")
    def _(answer: Answer) -> str:
        drawn.append(answer())
        return "Yes."

    def draw():
        return [torch.rand(1).item(), random.random(), np.random.rand()]

    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    expected = draw()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    judge("99.4", draw)
    assert draw() == expected
    judge("99.4", draw)
    assert drawn[0] == drawn[1]


def test_numbers_of_exercises_are_unique_and_known(share):
    with pytest.raises(ValueError, match="exercise 99.1 has two checks"):
        exercise("99.1", function="share")(lambda answer: "")
    for unknown in ("99.2", "98.1", "x", "1"):
        with pytest.raises(ValueError, match="expected the number of an exercise"):
            check(unknown, lambda p, q: p)


def test_exercises_are_in_the_order_of_their_numbers(monkeypatch):
    monkeypatch.setattr(checks, "_EXERCISES", {})
    for id in ("99.10", "99.2", "98.1"):
        exercise(id, function="f")(lambda answer: "")
    assert list(checks.exercises(99)) == ["99.2", "99.10"]


# --- wrong answers that once passed ---------------------------------------------


def equal_bins(real, fake, edges):
    low, high = edges[0].item(), edges[-1].item()
    p, q = (torch.histc(x, len(edges) - 1, low, high) / len(x) for x in (real, fake))
    m = (p + q) / 2
    kl = lambda a: (torch.xlogy(a, a) - torch.xlogy(a, m)).sum()
    return (kl(p) + kl(q)) / 2


def of_the_largest_mu(jacobian, alpha):
    mu = torch.linalg.eigvals(jacobian)
    return (1 - alpha * mu[mu.abs().argmax()]).abs()


def open_balls(real, fake, k):
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    return (torch.cdist(real, fake) < radius[:, None]).any(1).double().mean()


def ninety_percent(scores, resamples, generator):
    tasks = len(scores)
    drawn = torch.randint(tasks, (resamples, tasks), generator=generator)
    means = scores.mean(1)[drawn].mean(1)
    return means.quantile(0.05).item(), means.quantile(0.95).item()


def from_a_formula(scores, resamples, generator):
    means = scores.mean(1)
    mean, error = means.mean().item(), (means.std() / len(means) ** 0.5).item()
    return mean - 1.96 * error, mean + 1.96 * error


@pytest.mark.parametrize(
    "number, function, message",
    [
        ("1.3", equal_bins, "differ in width"),
        ("2.3", of_the_largest_mu, "Expected"),
        ("4.2", open_balls, "≤, not <"),
        ("4.4", ninety_percent, "it holds 90 %"),
        ("4.4", from_a_formula, "Nothing was drawn"),
    ],
)
def test_an_unknown_mistake_is_wrong_too(number, function, message):
    outcome = judge(number, function)
    assert outcome.status == "wrong" and message in outcome.message
