"""Make the student's and the solutions notebook of a chapter from its master notebook.

    python tools/exercises.py [--check] [NN_master.ipynb or folder ...]

A cell of the master belongs to an exercise if its metadata say so, for example
`{"exercise": {"id": "1.1", "role": "solution"}}`. The roles are `solution`, `check`,
`wrong` (with a `name`) and `discussion`. In the student's notebook a stub stands in
place of what the master has between `# BEGIN SOLUTION` and `# END SOLUTION`. The
solutions notebook has a table of the mistakes that each check knows, made by running
the wrong answers. Both come without outputs: tools/notebooks.py executes them.
`--check` writes nothing, and fails if a notebook is not current.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import repoint
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

import notebooks
from metagan_lite.checks import Outcome, exercises, judge
from metagan_lite.checks.grading import run_cell
from metagan_lite.io import write_atomically

ROLES = ("solution", "check", "wrong", "discussion")
SOLUTION = re.compile(
    r"^([ \t]*)# BEGIN SOLUTION[ \t]*\n(.*?)^[ \t]*# END SOLUTION[ \t]*(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
EXAMPLE = "## Exercise 1.1 ●○○ · 5 minutes"
HEADING = re.compile(
    r"Exercise (?P<id>\d+\.\d+) (?P<level>●○○|●●○|●●●) · \d+ minutes$", re.MULTILINE
)
FOR_STUDENTS = """\
Write each function where its stub says `# your code here`, then run the cell below it.
`check` says whether the function is right, and names the mistake if it is a known one.
An untouched stub is "not solved yet", which is no error: the notebook always runs from
top to bottom. Click on a hint to open it, one at a time.

[Run it in Colab](https://colab.research.google.com/github/{}/{}/blob/main/notebooks/exercises/{})"""
FOR_SOLUTIONS = """\
This page shows the answers. The [exercises]({}) are without them."""


def find(arguments: list[str]) -> list[Path]:
    """The master notebooks that the arguments name; all of them without any."""
    found = []
    for path in map(Path, arguments or [str(notebooks.ROOT / "notebooks")]):
        found += sorted(path.rglob("*_master.ipynb")) if path.is_dir() else [path]
    for path in found:
        if not re.fullmatch(r"\d\d_master\.ipynb", path.name) or not path.exists():
            raise ValueError(f"expected a notebook NN_master.ipynb, got {path}")
    return found


def read(path: Path) -> NotebookNode:
    """A master notebook; ValueError where a cell breaks the rules."""
    master = nbformat.read(path, as_version=4)
    if not master.cells or not master.cells[0].source.startswith("# Exercises for "):
        raise ValueError(f"{path.name}: expected a first cell `# Exercises for …`")
    for number, cell in enumerate(master.cells, start=1):
        where = f"{path.name}, cell {number}"
        _, role = exercise_of(cell)
        marked = len(SOLUTION.findall(cell.source))
        if role and role not in ROLES:
            raise ValueError(f"{where}: expected a role of {ROLES}, got {role!r}")
        if marked != (role == "solution"):
            raise ValueError(
                f"{where}: expected one part between # BEGIN SOLUTION and # END "
                f"SOLUTION in a cell with role `solution` only, got {marked} in "
                f"role {role!r}"
            )
        if role == "wrong" and not cell.metadata["exercise"].get("name"):
            raise ValueError(f"{where}: expected the `name` of the mistake, got none")
    return master


def exercise_of(cell: NotebookNode) -> tuple[str, str]:
    """The exercise that a cell belongs to, and its role; empty strings for none."""
    tag = cell.metadata.get("exercise")
    return (tag["id"], tag["role"]) if tag else ("", "")


def stub(source: str) -> str:
    """What the student gets of a solution."""
    return SOLUTION.sub(r"\1...  # your code here\n", source).rstrip("\n")


def without_marks(source: str) -> str:
    return SOLUTION.sub(r"\2", source).rstrip("\n")


# Running the answers


class Judged:
    """The outcome of every answer in a master notebook.

    Each answer runs in a namespace of its own: a copy of what the cells above it left,
    where wrong answers leave nothing.

    stubs, solutions: exercise → outcome. wrong: exercise → name → outcome.
    """

    def __init__(self, path: Path):
        self.stubs: dict[str, Outcome] = {}
        self.solutions: dict[str, Outcome] = {}
        self.wrong: dict[str, dict[str, Outcome]] = {}
        names: dict = {"__name__": "__main__"}
        for number, cell in enumerate(read(path).cells, start=1):
            id, role = exercise_of(cell)
            where = f"{path.name}, cell {number}"
            if cell.cell_type != "code" or role in ("check", "discussion"):
                continue
            if role == "wrong":
                name = cell.metadata["exercise"]["name"]
                outcome = outcome_of(id, cell.source, dict(names), where)
                if name in self.wrong.setdefault(id, {}):
                    raise ValueError(f"{where}: exercise {id} has two {name!r}")
                self.wrong[id][name] = outcome
                continue
            if role == "solution":
                self.stubs[id] = outcome_of(id, stub(cell.source), dict(names), where)
                self.solutions[id] = outcome_of(id, cell.source, dict(names), where)
            run(cell.source, names, where)


def outcome_of(id: str, source: str, names: dict, where: str) -> Outcome:
    known = exercises(int(id.split(".")[0]))
    if id not in known:
        raise ValueError(f"{where}: exercise {id} has no check in metagan_lite.checks")
    run(source, names, where)
    if known[id].function not in names:
        raise ValueError(f"{where}: expected a function named {known[id].function}")
    return judge(id, names[known[id].function])


def run(source: str, names: dict, where: str) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_cell(source, names, f"<{where}>")
    except Exception as error:
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error


# Making the notebooks


def student(path: Path) -> NotebookNode:
    """The notebook with stubs, without wrong answers and discussions."""
    cells = []
    for cell in read(path).cells:
        _, role = exercise_of(cell)
        if role in ("wrong", "discussion"):
            continue
        if role == "solution":
            cell.source = stub(cell.source)
        cells.append(cell)
    url = repoint.current_url(notebooks.ROOT)
    name = sibling(path, "student").name
    introduction = FOR_STUDENTS.format(*repoint.owner_and_name(url), name)
    return assemble(path, "student", cells, introduction)


def solutions(path: Path, judged: Judged | None = None) -> NotebookNode:
    """The notebook with answers, and a table of known mistakes in each exercise."""
    wrong, cells = dict((judged or Judged(path)).wrong), []
    for cell in read(path).cells:
        id, role = exercise_of(cell)
        if role == "wrong":
            if id in wrong:  # the table stands where the first wrong answer stood
                table = new_markdown_cell(table_of(wrong.pop(id)), id=cell.id)
                cells.append(table)
            continue
        if role == "solution":
            cell.source = without_marks(cell.source)
        cells.append(cell)
    introduction = FOR_SOLUTIONS.format(sibling(path, "student").name)
    made = assemble(path, "solutions", cells, introduction)
    made.cells[0].source = made.cells[0].source.replace(
        "# Exercises for", "# Solutions for", 1
    )
    return made


def table_of(outcomes: dict[str, Outcome]) -> str:
    """Mistakes and what the check says of them, as a Markdown table."""
    rows = ["| A mistake | What the check says |", "|---|---|"]
    for name, outcome in outcomes.items():
        # A bar would end the cell, also in a formula.
        parts = " ".join(outcome.message.split()).split("$")
        parts[::2] = [text.replace("|", r"\|") for text in parts[::2]]
        parts[1::2] = [formula.replace("|", r"\vert ") for formula in parts[1::2]]
        rows.append(f"| {re.sub('[-_]', ' ', name)} | {'$'.join(parts)} |")
    return "\n".join(["The check knows these mistakes.", "", *rows])


def assemble(
    path: Path, kind: str, cells: list[NotebookNode], introduction: str
) -> NotebookNode:
    """A notebook of these cells, not executed, with ids that are always the same."""
    made = new_notebook(metadata={"metagan": {"chapter": int(path.name[:2])}})
    made.cells = copy.deepcopy(cells)
    for number, cell in enumerate(made.cells):
        key = f"{path.name} {kind} {cell.get('id', number)}"
        cell.id = hashlib.md5(key.encode()).hexdigest()[:8]
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    made.cells[0].source += f"\n\n{introduction}"
    return made


def sibling(path: Path, kind: str) -> Path:
    return path.with_name(path.name.replace("master", kind))


def is_current(path: Path, made: NotebookNode) -> bool:
    """Whether a stored notebook is the made one, outputs and their traces aside."""

    def essence(notebook: NotebookNode) -> tuple:
        cells = [(c.get("id"), c.cell_type, c.source) for c in notebook.cells]
        return cells, notebook.metadata.get("metagan", {}).get("chapter")

    if not path.exists():
        return False
    return essence(nbformat.read(path, as_version=4)) == essence(made)


# The rules


def problems(path: Path, judged: Judged) -> list[str]:
    """What breaks the rules for exercises, in sentences; nothing where all is well."""
    return [*form(path), *answers(path, judged), *stored(path, judged)]


def form(path: Path) -> Iterator[str]:
    """Each exercise has its heading, a reason, hints, and cells of each role."""
    chapter, cells = int(path.name[:2]), read(path).cells
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    heads = [HEADING.match(part) for part in parts]
    for part, head in zip(parts, heads):
        if head is None:
            yield f"## {part.splitlines()[0]}: the heading is `{EXAMPLE}`"
        if "Why it matters" not in part or "<details><summary>Hint 1<" not in part:
            yield f"## {part.splitlines()[0]}: it says why it matters and has a hint"
    ids = [head["id"] for head in heads if head]
    if ids != [f"{chapter}.{i}" for i in range(1, len(ids) + 1)]:
        yield f"exercises are numbered {chapter}.1, {chapter}.2 and so on, not {ids}"
    if len(ids) < 4:
        yield f"a chapter has at least four exercises, this one {len(ids)}"
    if not {"●○○", "●●●"} <= {head["level"] for head in heads if head}:
        yield "the exercises go from ●○○ to ●●●"
    roles = [exercise_of(cell) for cell in cells]
    for id in ids:
        for role, least in (("solution", 1), ("check", 1), ("wrong", 2)):
            if (count := roles.count((id, role))) < least:
                yield f"exercise {id} has {least} cell(s) of role {role}, not {count}"
    for cell in cells:
        for line in cell.source.splitlines() if cell.cell_type == "code" else ():
            if len(line) > 78:
                yield f"a line of code has at most 78 columns: {line}"


def answers(path: Path, judged: Judged) -> Iterator[str]:
    """Stubs are not solved, solutions are, wrong answers are wrong by their names."""
    registered = list(exercises(int(path.name[:2])))
    if list(judged.solutions) != registered:
        yield f"the checks are for {registered}, the solutions {[*judged.solutions]}"
    for id, outcome in judged.stubs.items():
        if outcome.status != "not solved yet":
            yield f"exercise {id}: the stub is {outcome.status}: {outcome.message}"
    for id, outcome in judged.solutions.items():
        if outcome.status != "solved":
            yield f"exercise {id}: the solution is {outcome.status}: {outcome.message}"
    for id, outcomes in judged.wrong.items():
        for name, outcome in outcomes.items():
            if (outcome.status, outcome.mistake) != ("wrong", name):
                yield (
                    f"exercise {id}: the wrong answer {name} is {outcome.status} as "
                    f"{outcome.mistake}: {outcome.message}"
                )


def stored(path: Path, judged: Judged) -> Iterator[str]:
    """The two notebooks are current, and their outputs say what they should."""
    made = {"student": student(path), "solutions": solutions(path, judged)}
    for kind, status in (("student", "not solved yet"), ("solutions", "solved")):
        target = sibling(path, kind)
        if not is_current(target, made[kind]):
            yield f"{target.name} is not current: run `make notebooks`"
            continue
        text = target.read_text(encoding="utf-8")
        for id in judged.solutions:
            if f"**Exercise {id} is {status}.**" not in text:
                yield f"{target.name}: its output says that {id} is {status}"


def main(arguments: list[str]) -> int:
    only_check = "--check" in arguments
    stale = []
    try:
        for path in find([a for a in arguments if a != "--check"]):
            for kind, make in (("student", student), ("solutions", solutions)):
                target, made = sibling(path, kind), make(path)
                if not is_current(target, made):
                    stale.append(target.name)
                    if not only_check:
                        text = notebooks.stable(made, target.name)
                        write_atomically(target, text.encode())
                        print(target)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"exercises: {error}")
    if only_check and stale:
        sys.exit(f"exercises: not current, run `make notebooks`: {', '.join(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
