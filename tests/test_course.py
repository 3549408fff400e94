"""The rules for chapters and exercises: what is there follows them, and each can fail.

The rules are in tools/chapters.py and tools/exercises.py. The lower half of this file
breaks them one by one in a small chapter 99.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import chapters
import exercises
import nbformat
import pytest
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebooks
from metagan_lite import checks
from metagan_lite.checks import Answer, exercise, same
from metagan_lite.explore import source_code
from metagan_lite.tasks import TaskBatch

CHAPTERS, MASTERS = chapters.chapters(), exercises.find([])
name = lambda path: path.stem


# --- what is there ------------------------------------------------------------


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_chapter_follows_the_rules(path: Path):
    assert chapters.problems(chapters.Chapter(path)) == []


@pytest.mark.parametrize("path", MASTERS, ids=name)
def test_exercises_follow_the_rules_and_every_answer_is_judged_rightly(path: Path):
    assert exercises.problems(path, exercises.Judged(path)) == []


def test_each_chapter_has_exercises():
    assert {path.name[:2] for path in CHAPTERS} == {path.name[:2] for path in MASTERS}


@pytest.mark.parametrize("path", [*CHAPTERS, *MASTERS], ids=name)
def test_shown_code_is_the_librarys(path: Path):
    assert old_code(path) == [], "run `make notebooks`"


def old_code(path: Path) -> list[str]:
    """What a notebook shows by `source` and the library does not have any more."""
    found = []
    for data in chapters.Chapter(path).outputs:
        link, _, code = data.get("text/plain", "").partition("\n")
        if shown := re.match(r"\[`(metagan_lite\..*?)`\]\(", link):
            # The line numbers in the link may be those of another version.
            _, _, current = source_code(object_named(shown[1])).partition("\n")
            found += [shown[1]] if code != current else []
    return found


def object_named(name: str) -> Callable:
    module, attributes = name.split("."), []
    while True:
        try:
            found = import_module(".".join(module))
            break
        except ModuleNotFoundError:
            attributes.insert(0, module.pop())
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


# --- a chapter that follows the rules -------------------------------------------

WORDS = "What one player gains the other loses. " * 250
OPENING = """\
# 99 A sample

**The question.** Is it a chapter?

**You will** see.

**You need** nothing.

**Time:** about 20 minutes to read, under 10 seconds to run on two CPU cores; a GPU is not used.

[Run it in Colab](https://colab.research.google.com/github/metagan-course/metagan/blob/main/notebooks/99_sample.ipynb)"""
SETUP = """\
import sys

if "google.colab" in sys.modules:
    %pip install -q git+https://github.com/metagan-course/metagan"""
PROSE = f"""\
## 99.1 Two players

{WORDS}

$$p + q = 1.5 \\tag{{99.1}}$$

It is equation (99.1). Exercise 99.2 of [chapter 1.0](x.md) and theorem 2.5 of a paper
have `0.5` in it.

$$p = q \\tag{{99.2}}$$"""
END = """\
## Summary

It is one.

## Exercises

They are [here](exercises/99_student.ipynb).
"""
SELF_CHECK = "## Self-check\n\n" + "\n".join(
    f"""\
**{number}. What is
question {number}?**

- A. one
- B. the other
  of two
- C. none

<details><summary>Answer</summary>

**{letter}.** It is this one, and not the others.

</details>
"""
    for number, letter in enumerate("BACAB", start=1)
)
EQUATION_TESTS = """\
def test_99_1_is_a_sum(): ...


def test_99_2_is_an_equality(): ...
"""


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    figure = new_output("display_data", {"text/html": '<img src="x" alt="two lines">'})
    cells = [
        new_markdown_cell(OPENING),
        new_code_cell(SETUP),
        new_markdown_cell(PROSE),
        new_code_cell('claim(True, "Equation (99.1)")', outputs=[figure]),
        new_code_cell('claim(True, "Equation (99.2)")'),
        new_markdown_cell(END),
        new_markdown_cell(SELF_CHECK),
        new_markdown_cell("## Further reading\n\nNone."),
    ]
    path = tmp_path / "notebooks" / "99_sample.ipynb"
    tests = tmp_path / "tests" / "equations"
    path.parent.mkdir()
    tests.mkdir(parents=True)
    metadata = {"metagan": {"seconds": 7}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    (tests / "test_ch99.py").write_text(EQUATION_TESTS, encoding="utf-8")
    return path


def edit(path: Path, old: str, new: str) -> None:
    """Replace in every cell; the text must be there."""
    notebook = nbformat.read(path, as_version=4)
    assert any(old in cell.source for cell in notebook.cells)
    for cell in notebook.cells:
        cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, path)


def change(path: Path, edit: Callable[[NotebookNode], object]) -> None:
    notebook = nbformat.read(path, as_version=4)
    edit(notebook)
    nbformat.write(notebook, path)


def test_the_sample_follows_the_rules(chapter: Path):
    assert chapters.problems(chapters.Chapter(chapter)) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("# 99 A sample", "# A sample", "the title begins with `# 99 `"),
        ("**You will** see", "You will see", r"says \*\*You will\*\*"),
        ("/99_sample.ipynb)", "/98_sample.ipynb)", "links to Colab"),
        ('"google.colab" in sys.modules', "False", "set-up cell"),
        ("gains the other loses", "gains", "words, this one 1"),
        ("about 20 minutes", "20 minutes", "has a line"),
        ("about 20 minutes", "about 21 minutes", "reading time is a multiple of 5"),
        (
            "about 20 minutes",
            "about 30 minutes",
            "multiple of 5 near 18 minutes, not 3",
        ),
        ("under 10 seconds", "under 15 seconds", "run time is one of"),
        ("## Summary", "## The end", "the last sections are"),
        ("99_student", "98_student", "the section Exercises links to"),
        ("[here]", "[there](exercises/99_solutions.ipynb) [here]", "link to solutions"),
        (
            r"\tag{99.2}",
            r"\tag{99.3}",
            r"numbered \['99.1', '99.2'\], not \['99.1', '9",
        ),
        ("(99.2)", "(99.9)", r"a code cell that checks equation \(99.2\)"),
        ("It is equation", "It is 1.5 times equation", "printed by a cell: 1.5 in 'It"),
        ("It is one.", "![](x.png)", "each image in Markdown"),
        ("**5. What", "**6. What", "questions 1 to 5"),
        ("**5. What", "5. What", "questions 1 to 5, 4 are in form"),
        ("- C. none\n", "", "options A, B, C and perhaps D, not AB"),
        ("- C. none", "- D. none", "not ABD"),
        ("**B.** It is", "**D.** It is", "one bold letter of ABC in its answer, not"),
        ("**B.** It is", "**B.** or **A.** It is", r"not \['B', 'A'\]"),
        ("this one, and not the others", "so", "explains its answer"),
        ("**B.**", "**A.**", "the right letter varies"),
        ("- B. the other", "- B.", "questions 1 to 5"),
        ("## Self-check", "## A test", "questions 1 to 5, 0 are in form"),
        ("**3. What", "More.\n\n**3. What", "nothing between and after its questions"),
    ],
)
def test_a_broken_rule_is_found(chapter: Path, old: str, new: str, problem: str):
    edit(chapter, old, new)
    if new == "**A.**":
        edit(chapter, "**C.**", "**A.**")
    found = chapters.problems(chapters.Chapter(chapter))
    assert any(re.search(problem, text) for text in found), found


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda n: n.metadata.metagan.update(seconds=11), "it ran for 11 s, and says"),
        (lambda n: n.metadata.pop("metagan"), "it was not executed"),
        (lambda n: n.cells[3].update(outputs=[]), "there is a figure"),
        (
            lambda n: n.cells[3].outputs[0].data.update({"text/html": "<img src='x'>"}),
            "alternative text: show it with plots.show",
        ),
        (
            lambda n: n.cells[3].outputs[0].data.update({"image/png": "x"}),
            "alternative text: show it with plots.show",
        ),
    ],
)
def test_broken_outputs_are_found(chapter: Path, edit: Callable, problem: str):
    change(chapter, edit)
    assert any(problem in p for p in chapters.problems(chapters.Chapter(chapter)))


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        (
            "def test_99_1_is_a_sum(): ...",
            "a test of equation (99.2) begins test_99_2_",
        ),
        (EQUATION_TESTS + "def test_99_3_x(): ...", "a test of equation (99.3), which"),
        (EQUATION_TESTS + "def test_x(): ...", "a test of equation (test.x), which"),
    ],
)
def test_tags_and_tests_agree_both_ways(chapter: Path, tests: str, problem: str):
    file = chapter.parents[1] / "tests" / "equations" / "test_ch99.py"
    file.write_text(tests, encoding="utf-8")
    assert any(problem in p for p in chapters.problems(chapters.Chapter(chapter)))


def test_shown_code_that_is_old_is_found(chapter: Path):
    def show(code: str) -> list[str]:
        data = {"text/markdown": code, "text/plain": code}
        output = new_output("display_data", data)
        change(chapter, lambda n: n.cells[4].update(outputs=[output]))
        return old_code(chapter)

    code = source_code(TaskBatch.to)
    assert show(code) == [] == show(re.sub("#L.*", "#L1)", code))
    assert show(code.replace("device", "place")) == ["metagan_lite.tasks.TaskBatch.to"]


def test_table_of_times(chapter: Path, tmp_path: Path):
    words = f"{chapters.Chapter(chapter).words:,}"
    assert chapters.times([chapter], start=tmp_path / "book").splitlines()[2] == (
        f"| [99 A sample](../notebooks/99_sample.ipynb) | {words} | 18 | 7 |"
    )


def test_counts(chapter: Path):
    sample = chapters.Chapter(chapter)
    assert sample.tags == ["99.1", "99.2"] and sample.images == ["two lines"]
    # Seven words times 250, and about 130 more around them.
    assert 1750 < sample.words < 1950
    assert sample.minutes == sample.words / 130 + 2 + 1
    assert sample.seconds == 7 and sample.title == "99 A sample"


# --- exercises that follow the rules --------------------------------------------

RIGHT = """\
def share(p, q):
    \"\"\"The share of p.\"\"\"
    total = p + q
    # BEGIN SOLUTION
    part = half(p) * 2
    return part / total
    # END SOLUTION"""


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four times the same exercise, with two known mistakes; its notebooks are made."""
    monkeypatch.setattr(checks, "_EXERCISES", {})
    cells = [
        new_markdown_cell("# Exercises for chapter 99\n\nOf [it](../99_sample.ipynb)."),
        new_code_cell(SETUP),
        new_code_cell(
            "from metagan_lite.checks import check\n\n\ndef half(x):\n    return x / 2"
        ),
    ]
    for i, level in enumerate(("●○○", "●○○", "●●○", "●●●"), start=1):
        id = f"99.{i}"
        register(id)
        task = f"Why it matters: so.\n\n<details><summary>Hint 1</summary>\n\n{i}\n\n"
        cells += [
            new_markdown_cell(
                f"## Exercise {id} {level} · 5 minutes\n\n{task}</details>"
            ),
            answer(id, "solution", RIGHT),
            answer(id, "check", f'check("{id}", share)'),
            answer(id, "wrong", "def share(p, q):\n    return q / (p + q)", "swapped"),
            answer(id, "wrong", "def share(p, q):\n    return p", "no_sum"),
        ]
    cells.append(answer("99.4", "discussion", "It is symmetric."))
    cells[-1] = new_markdown_cell("It is symmetric.", metadata=cells[-1].metadata)
    path = tmp_path / "99_master.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    make(path)
    return path


def answer(id: str, role: str, source: str, name: str | None = None) -> NotebookNode:
    tag = {"id": id, "role": role, **({"name": name} if name else {})}
    return new_code_cell(source, metadata={"exercise": tag})


def register(id: str) -> None:
    @exercise(id, function="share")
    def _(answer: Answer) -> str:
        p, q = torch.tensor([0.2, 0.5]), torch.tensor([0.6, 0.1])
        got = answer(p, q)
        answer.mistake("swapped", same(got, q / (p + q)), "It is $|D|$ | of q.")
        answer.mistake("no_sum", same(got, p), "Divide by the sum.")
        answer.expect(same(got, p / (p + q)), "Expected a share.")
        return "Yes."


def make(path: Path) -> None:
    """Make both notebooks, with outputs as an execution would store them."""
    exercises.main([str(path)])
    for kind, code in (("student", exercises.stub), ("solutions", lambda code: code)):
        target = exercises.sibling(path, kind)
        notebook = nbformat.read(target, as_version=4)
        names = {"half": lambda x: x / 2}
        exec(code(RIGHT), names)
        for cell in notebook.cells:
            if cell.source.startswith("check("):
                outcome = checks.judge(cell.source[7:11], names["share"])
                data = {"text/markdown": outcome.to_markdown()}
                cell.outputs = [new_output("display_data", data)]
        nbformat.write(notebook, target)


def found(path: Path) -> list[str]:
    return exercises.problems(path, exercises.Judged(path))


def read(path: Path, kind: str) -> list[str]:
    cells = nbformat.read(exercises.sibling(path, kind), as_version=4).cells
    return [cell.source for cell in cells]


def test_the_sample_exercises_follow_the_rules(master: Path):
    assert found(master) == []


def test_the_students_notebook_has_stubs_and_no_answers(master: Path):
    sources = read(master, "student")
    stub = '    """The share of p."""\n    total = p + q\n    ...  # your code here'
    assert sources.count(f"def share(p, q):\n{stub}") == 4
    whole = "\n".join(sources)
    for secret in ("SOLUTION", "part /", "q / (p", "symmetric", "swapped"):
        assert secret not in whole
    assert sources[0].startswith("# Exercises for chapter 99\n")
    assert "/blob/main/notebooks/exercises/99_student.ipynb)" in sources[0]


def test_the_solutions_have_answers_and_a_table_of_mistakes(master: Path):
    sources = read(master, "solutions")
    assert sum("part = half(p) * 2\n    return part / total" in s for s in sources) == 4
    assert "SOLUTION" not in "".join(sources) and "q / (p" not in "".join(sources)
    assert sources[-1] == "It is symmetric."
    assert sources[-2].endswith(
        "| A mistake | What the check says |\n|---|---|\n"
        r"| swapped | It is $\vert D\vert $ \| of q. |"
        "\n| no sum | Divide by the sum. |"
    )
    assert sources[0].startswith("# Solutions for chapter 99\n")


def test_both_know_their_chapter_and_keep_their_ids(master: Path):
    before = {}
    for kind in ("student", "solutions"):
        path = exercises.sibling(master, kind)
        before[path] = nbformat.read(path, as_version=4)
        assert before[path].metadata.metagan.chapter == 99
        path.unlink()
    make(master)
    for path, old in before.items():
        new = nbformat.read(path, as_version=4)
        assert [c.id for c in new.cells] == [c.id for c in old.cells]
        assert len({c.id for c in new.cells}) == len(new.cells)


def test_what_is_current_is_left_alone(master: Path):
    target = exercises.sibling(master, "student")
    before = target.read_bytes()
    exercises.main([str(master)])
    assert target.read_bytes() == before
    edit(master, "Hint 1", "Hint 1 ")
    with pytest.raises(SystemExit, match="not current.*99_student.ipynb, 99_solutions"):
        exercises.main(["--check", str(master)])
    assert target.read_bytes() == before
    exercises.main([str(master)])
    assert target.read_bytes() != before


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("99.2 ●○○ · 5 minutes", "99.2 ●○○", "99.2 ●○○: the heading is"),
        (
            "Exercise 99.2",
            "Exercise 99.5",
            "exercises are numbered 99.1, 99.2 and so on",
        ),
        ("●●●", "●●○", "go from ●○○ to ●●●"),
        ("Why it matters", "Why", "says why it matters"),
        ("Hint 1", "A hint", "says why it matters and has a hint"),
        ("## Exercise 99.4 ●●●", "## 99.4", "at least four exercises, this one 3"),
        ("return p", "return p  #" + 70 * "-", "at most 78 columns"),
        ("    return q / (p + q)", "    ...", "swapped is not solved yet as None"),
        ("    return q / (p + q)", "    return p", "swapped is wrong as no_sum"),
        (
            "    return q / (p + q)",
            "    return p / (p + q)",
            "swapped is solved as None",
        ),
        ("part / total", "total", "the solution is wrong: Expected a share."),
        ("    # BEGIN", "    return p / total\n    # BEGIN", "the stub is solved"),
        ("Hint 1", "Hint 1<", "99_student.ipynb is not current"),
        ("symmetric", "strange", "99_solutions.ipynb is not current"),
    ],
)
def test_a_broken_rule_of_exercises_is_found(
    master: Path, old: str, new: str, problem: str
):
    edit(master, old, new)
    assert any(problem in text for text in found(master)), found(master)


def test_missing_cells_are_found(master: Path):
    change(master, lambda notebook: notebook.cells.pop(7))  # a wrong answer
    assert "exercise 99.1 has 2 cell(s) of role wrong, not 1" in found(master)


def test_checks_without_an_exercise_are_found(master: Path):
    register("99.5")
    assert any(text.startswith("the checks are for") for text in found(master))


def test_unexecuted_notebooks_are_found(master: Path):
    target = exercises.sibling(master, "solutions")
    change(target, lambda notebook: notebook.cells[5].update(outputs=[]))
    assert found(master) == [
        "99_solutions.ipynb: its output says that 99.1 is solved",
    ]


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda n: n.cells[4].metadata.pop("exercise"), "role ''"),
        (lambda n: n.cells[4].metadata.exercise.update(role="answer"), "a role of"),
        (
            lambda n: n.cells[6].metadata.exercise.pop("name"),
            "the `name` of the mistake",
        ),
        (
            lambda n: n.cells[7].metadata.exercise.update(name="swapped"),
            "has two 'swap",
        ),
        (lambda n: n.cells[4].update(source="x = 1"), "one part between"),
        (lambda n: n.cells[6].update(source="x = 1/0"), "ZeroDivisionError"),
        (lambda n: n.cells[0].update(source="# Some"), "a first cell `# Exercises for"),
        (lambda n: n.cells[4].metadata.exercise.update(id="99.9"), "99.9 has no check"),
        (
            lambda n: n.cells[4].update(source=RIGHT.replace("share", "part")),
            "expected a function named share",
        ),
    ],
)
def test_a_master_that_cannot_be_used_is_refused(
    master: Path, edit: Callable, error: str
):
    change(master, edit)
    with pytest.raises(ValueError, match=re.escape(error)):
        found(master)


# --- executed notebooks ---------------------------------------------------------


def test_seconds_are_stored_and_change_with_large_differences_only():
    notebook = new_notebook()
    for measured, stored in ((10.4, 10), (13.9, 10), (7, 10), (14.2, 14), (0.2, 1)):
        notebooks.remember_seconds(notebook, measured)
        assert notebook.metadata["metagan"]["seconds"] == stored
