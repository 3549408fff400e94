"""The tables of what to read and to solve, and what the guide shows of the grades."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

import nbformat
import pytest
import syllabus
from nbformat.v4 import new_markdown_cell, new_notebook

from metagan_lite.checks import Outcome
from metagan_lite.checks.grading import Graded, grade, to_csv

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def there(tmp_path: Path) -> dict[int, tuple[Path, Path | None]]:
    """A quickstart of 12 minutes; a chapter of 33 minutes with two exercises."""

    def write(name: str, text: str) -> Path:
        nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), tmp_path / name)
        return tmp_path / name

    words = "word " * 130
    stars = "## Exercise 1.1 ●○○ · 5 minutes\n\n## Exercise 1.2 ●●● · 25 minutes\n"
    return {
        0: (write("00_quick.ipynb", words * 12), None),
        1: (write("01_game.ipynb", words * 33), write("01_student.ipynb", stars)),
    }


def test_table(there, tmp_path: Path):
    rows = [syllabus.parse(line) for line in ("a | 0, 1 | talk", "b | 1, 9 |")]
    assert syllabus.table("Week", rows, there, tmp_path / "book").splitlines() == [
        "| Week | read | minutes | solve | minutes | also |",
        "|---|---|--:|---|--:|---|",
        "| a | [quickstart](../00_quick.ipynb), [chapter 1](../01_game.ipynb) | 45 "
        "| [2](../01_student.ipynb) exercises | 30 | talk |",
        "| b | [chapter 1](../01_game.ipynb), chapter 9 (not written yet) | 35 "
        "| [2](../01_student.ipynb) exercises | 30 |  |",
        "| in all |  | 80 |  | 60 |  |",
    ]


def test_table_without_exercises_and_sums(there, tmp_path: Path):
    rows = [syllabus.parse("a day | 1 | rest")]
    made = syllabus.table("You have", rows, there, tmp_path, solve=False, total=False)
    assert made.splitlines() == [
        "| You have | read | minutes | also |",
        "|---|---|--:|---|",
        "| a day | [chapter 1](01_game.ipynb) | 35 | rest |",
    ]


@pytest.mark.parametrize("line", ["1 | 0, 1", "1 | one | x", "1 | 0 1 | x"])
def test_a_row_that_is_none_is_refused(line: str):
    with pytest.raises(ValueError, match="expected `label"):
        syllabus.parse(line)


def test_the_guide_shows_the_columns_that_grading_writes():
    text = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    outcomes = {id: Outcome(id, "solved", None, "") for id in ("4.1", "4.2")}
    written = to_csv([Graded("x.ipynb", outcomes)]).splitlines()[0].split(",")
    assert shown == written


def test_the_guide_names_the_time_limit():
    text = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
    limit = signature(grade).parameters["timeout"].default
    assert f"has {limit} seconds unless `--timeout` says" in text


def test_the_guide_shows_lines_as_grading_prints_them():
    text = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^eve/.*$", text, re.MULTILINE)
    outcomes = {f"4.{n}": Outcome(f"4.{n}", "solved", None, "") for n in range(1, 6)}
    same = "same code as ada/04_student.ipynb"
    assert line == Graded("eve/04_student.ipynb", outcomes, 4.3, same).summary()
