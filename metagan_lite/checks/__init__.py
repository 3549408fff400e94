"""Checks of the exercises, and claims of the text.

``check("1.1", optimal_discriminator)`` in a notebook says whether the answer to an
exercise is solved, wrong, or not there yet, and names the mistake if it knows it. The
checks of a chapter are in a module of their own, ``metagan_lite.checks.ch01``, which is
imported when one of them is first needed.

``claim(condition, sentence)`` shows a sentence that the condition proves, and raises
where it does not.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import random
import re
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Answer",
    "Exercise",
    "Outcome",
    "check",
    "claim",
    "exercise",
    "exercises",
    "judge",
    "same",
]

SOLVED, WRONG, NOT_SOLVED = "solved", "wrong", "not solved yet"


# What a chapter's notebook shows


def claim(condition: bool | Tensor, sentence: str) -> None:
    """Show a sentence with a check mark if the condition holds, and raise otherwise.

    Args:
        condition: the result of a comparison, or a boolean tensor of one element.
        sentence: what the condition proves, in Markdown.

    Raises:
        AssertionError: the condition is false; the message is the sentence.
        TypeError: the condition is a number, which is true even where it is NaN.
        ValueError: the condition has several elements.
    """
    if isinstance(condition, (Tensor, np.ndarray, np.generic)):
        size = condition.numel() if isinstance(condition, Tensor) else condition.size
        if size != 1:
            raise ValueError(
                f"expected one truth value, got {_describe(condition)}; say "
                "(…).all() or (…).any()"
            )
        condition = condition.item()
    if not isinstance(condition, bool):
        raise TypeError(
            f"expected True or False, got {_describe(condition)}; compare it, as in "
            "gap < 1e-9"
        )
    if not condition:
        raise AssertionError(sentence)
    _display(f"✓ {sentence}")


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    exercise: its number, such as ``"1.1"``.
    status: ``"solved"``, ``"wrong"`` or ``"not solved yet"``.
    mistake: the name of the mistake, if the check knows it.
    message: what to say to the reader, in Markdown.
    """

    exercise: str
    status: str
    mistake: str | None
    message: str

    def to_markdown(self) -> str:
        """The outcome as it is shown: a sign, the status in words, the message."""
        verdict = {
            SOLVED: f"✓ **Exercise {self.exercise} is solved.**",
            WRONG: f"✗ **Exercise {self.exercise} is not right yet.**",
            NOT_SOLVED: f"… **Exercise {self.exercise} is not solved yet.**",
        }[self.status]
        return f"{verdict} {self.message}"

    def _ipython_display_(self) -> None:
        """Nothing: ``check`` has shown it, and is the last line of its cell."""


def check(exercise: str, function: Callable[..., Any]) -> Outcome:
    """Judge the answer to an exercise, show the outcome, and return it.

    Args:
        exercise: its number, such as ``"1.1"``.
        function: the reader's answer.

    Raises:
        ValueError: there is no such exercise.
    """
    outcome = judge(exercise, function)
    _display(outcome.to_markdown())
    return outcome


# What a module of checks is made of


@dataclass(frozen=True)
class Exercise:
    """An exercise that has a check.

    id: its number. function: the name that the answer must have.
    check: given the :class:`Answer`, says what was understood, or ends with a verdict.
    """

    id: str
    function: str
    check: Callable[[Answer], str]


class _Verdict(Exception):
    """Ends a check."""

    def __init__(self, status: str, message: str, mistake: str | None = None):
        super().__init__(message)
        self.status, self.message, self.mistake = status, message, mistake


class Answer:
    """The reader's function, as a check sees it.

    Calling it calls the function. Tensors and arrays are copied first, also inside
    lists, tuples and dicts, so that a function that changes its inputs cannot mislead
    the check. Tensors that require gradients are passed as they are, so that the check
    can differentiate through the answer, and have their old values afterwards; modules
    and generators are passed as they are.
    """

    def __init__(self, function: Callable[..., Any], name: str):
        self.function, self.name = function, name
        self.returned: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kept: list[tuple[Tensor, Tensor]] = []
        args, kwargs = _protect(args, kept), _protect(kwargs, kept)
        try:
            self.returned = self.function(*args, **kwargs)
        except (Exception, SystemExit) as error:
            where = _where(error, self.function)
            message = f"`{self.name}` stopped with an error{where}."
            raise _Verdict(WRONG, message) from error
        finally:
            for tensor, value in kept:
                tensor.data.copy_(value)
        if self.returned is None or self.returned is ...:
            raise _Verdict(NOT_SOLVED, f"`{self.name}` returns nothing so far.")
        return self.returned

    def mistake(self, name: str, condition: bool | Tensor, hint: str) -> None:
        """If the condition holds, the answer is wrong, and this is why."""
        if condition:
            raise _Verdict(WRONG, hint, name)

    def expect(self, condition: bool | Tensor, sentence: str) -> None:
        """If the condition fails, the answer is wrong, and the sentence says so."""
        if not condition:
            raise _Verdict(WRONG, sentence)


_EXERCISES: dict[str, Exercise] = {}


def exercise(id: str, *, function: str) -> Callable[[Callable], Callable]:
    """Register the decorated function as the check of an exercise.

    Args:
        id: the exercise's number, chapter first: ``"1.1"``.
        function: the name of the function that the reader writes.
    """

    def register(check: Callable[[Answer], str]) -> Callable[[Answer], str]:
        if id in _EXERCISES:
            raise ValueError(f"exercise {id} has two checks: give one another number")
        _EXERCISES[id] = Exercise(id, function, check)
        return check

    return register


def exercises(chapter: int) -> dict[str, Exercise]:
    """Number → exercise, of one chapter; empty where no chapter of that number has."""
    module = f"{__name__}.ch{chapter:02d}"
    if importlib.util.find_spec(module):
        importlib.import_module(module)
    numbers = [id for id in list(_EXERCISES) if int(id.split(".")[0]) == chapter]
    return {id: _EXERCISES[id] for id in sorted(numbers, key=_order)}


def judge(exercise: str, function: Callable[..., Any]) -> Outcome:
    """The outcome of a check, not shown. Its random numbers are the same each time.

    Raises:
        ValueError: there is no such exercise.
    """
    chapter = re.fullmatch(r"(\d+)\.\d+", exercise)
    known = exercises(int(chapter[1])) if chapter else {}
    if exercise not in known:
        raise ValueError(
            f"expected the number of an exercise, such as '1.1', got {exercise!r}; "
            f"this chapter has {', '.join(known) or 'none'}"
        )
    name = known[exercise].function
    if not callable(function):
        return Outcome(
            exercise,
            WRONG,
            None,
            f"Expected the function `{name}`, got {_describe(function)}: pass the "
            "function itself, without calling it.",
        )
    answer = Answer(function, name)
    try:
        with _fixed_randomness():
            message = known[exercise].check(answer)
    except _Verdict as verdict:
        return Outcome(exercise, verdict.status, verdict.mistake, verdict.message)
    except Exception as error:
        reason = " ".join(str(error).split())
        return Outcome(
            exercise,
            WRONG,
            None,
            f"The check cannot work with what the function returned, "
            f"{_describe(answer.returned)}: `{type(error).__name__}: {reason}`.",
        )
    return Outcome(exercise, SOLVED, None, message)


def same(a: Any, b: Any, tol: float = 1e-6) -> bool:
    """Whether two results agree: tensors, numbers, or lists, tuples and dicts of them.

    Shapes must be equal; types of number may differ. Numbers may differ by ``tol``,
    absolutely plus relatively. None and NaN agree with nothing.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k], tol) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y, tol) for x, y in zip(a, b))
    if not (_is_numeric(a) and _is_numeric(b)):
        return False
    a, b = map(_as_double, (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=tol, atol=tol)


# Helpers


def _is_numeric(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float))


def _as_double(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu().to(torch.float64)
    # At once: by way of PyTorch's default a Python float would lose half its digits.
    return torch.as_tensor(value, dtype=torch.float64)


def _order(id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in id.split("."))


def _protect(value: Any, kept: list[tuple[Tensor, Tensor]]) -> Any:
    """A copy of the tensors in a value; those it cannot copy go into `kept`."""
    if isinstance(value, Tensor) and value.requires_grad:
        kept.append((value, value.detach().clone()))
        return value
    if type(value) is Tensor:
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(_protect(item, kept) for item in value)
    if type(value) is dict:
        return {key: _protect(item, kept) for key, item in value.items()}
    return value


@contextmanager
def _fixed_randomness():
    """The global generators begin at a fixed state, and are as before afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _where(error: BaseException, function: Callable[..., Any]) -> str:
    """The last line of the reader's own cell that an error came through, and why."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    what = f"`{type(error).__name__}: {' '.join(str(error).split())}`"
    if not lines:
        return f": {what}"
    code = linecache.getline(file, lines[-1]).strip()
    return f" in line {lines[-1]}{f', `{code}`' if code else ''}: {what}"


def _describe(value: Any) -> str:
    """A value in words: its kind, and its shape or size where it has one."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (bool, int, float, np.generic)) or value is None:
        return f"{value}"
    return f"an object of type {type(value).__name__}"


def _display(markdown: str) -> None:
    """Show Markdown in a notebook; print it elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(markdown)
        return
    if get_ipython() is None:
        print(markdown)
    else:
        # The same as text, for viewers that show no Markdown.
        display({"text/markdown": markdown, "text/plain": markdown}, raw=True)
