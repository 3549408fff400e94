"""Grading a folder: whatever is in a notebook, there is a row that says so."""

from __future__ import annotations

import csv
import importlib
import io
import json
import shutil
import sys
from pathlib import Path

import psutil
import pytest

import metagan_lite
from metagan_lite import checks
from metagan_lite.checks import Outcome, grading
from metagan_lite.checks.__main__ import main
from metagan_lite.checks.grading import Graded, grade, python_of, to_csv

CHECKS = '''\
"""Two exercises."""
import torch
from . import Answer, exercise, same


@exercise("99.1", function="share")
def _(answer: Answer) -> str:
    p, q = torch.tensor([0.2, 0.5]), torch.tensor([0.6, 0.1])
    got = answer(p, q)
    answer.mistake("swapped", same(got, q / (p + q)), "=The other share.")
    answer.expect(same(got, p / (p + q)), "Expected a share.")
    return "Yes."


@exercise("99.2", function="double")
def _(answer: Answer) -> str:
    answer.expect(same(answer(3), 6), "Twice three is six.")
    return "Yes."
'''
SHARE = "def share(p, q):\n    return p / (p + q)"
DOUBLE = "def double(x):\n    return 2 * x"
LOUD = "def loud():\n    print('x' * 10_000_000)\nloud()"
BOTH = [SHARE, DOUBLE]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started see a copy of the library that has a chapter 99."""
    source = Path(metagan_lite.__file__).parent
    target = tmp_path / "package" / "metagan_lite"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "checks" / "ch99.py").write_text(CHECKS, encoding="utf-8")
    monkeypatch.setattr(grading, "_PACKAGE", target.parent)
    monkeypatch.setattr(checks, "_EXERCISES", {})
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(target / "checks")])
    importlib.invalidate_caches()
    yield
    sys.modules.pop("metagan_lite.checks.ch99", None)


def write(path: Path, cells: list[str], metadata: dict | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"cell_type": "code", "source": source} for source in cells]
    cells.insert(0, {"cell_type": "markdown", "source": ["# Exercises"]})
    notebook = {"cells": cells, "metadata": metadata or {}}
    path.write_text(json.dumps(notebook), encoding="utf-8")


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {row["file"]: row for row in csv.DictReader(io.StringIO(text))}


def test_a_class_of_twelve(package, tmp_path: Path, capsys):
    folder = tmp_path / "class"
    notebooks = {
        "solved": BOTH,
        "copied": BOTH,
        "unsolved": ["def share(p, q):\n    ...", "def double(x):\n    ..."],
        "swapped": ["def share(p, q):\n    return q / (p + q)", DOUBLE],
        "deleted": [SHARE],
        "magics": ["%pip list\n!ls", "if False:\n    %pip install x", *BOTH],
        "exit": [SHARE, "import sys\nsys.exit(3)", DOUBLE],
        "syntax": [SHARE, "def broken(:", "1 / 0", DOUBLE],
        "loud": [LOUD, SHARE, DOUBLE.replace("return", "loud(); return")],
        "crash": [SHARE, "import os\nos.kill(os.getpid(), 9)", DOUBLE],
        "error": [*BOTH[:1], "def double(x):\n    y = x\n    return y + None"],
    }
    for name, cells in notebooks.items():
        write(folder / "group" / f"99_{name}.ipynb", cells)
    write(folder / "renamed.ipynb", BOTH, {"metagan": {"chapter": 99}})
    write(folder / ".ipynb_checkpoints" / "99_old.ipynb", BOTH)
    write(folder / "99_=1+1.ipynb", [])
    write(folder / "of_no_chapter.ipynb", BOTH)
    (folder / "99_broken.ipynb").write_text("{", encoding="utf-8")
    out = tmp_path / "grades.csv"

    assert main(["grade", str(folder), "--out", str(out), "--timeout", "90"]) == 0

    rows = rows_of(out.read_text(encoding="utf-8"))
    row = lambda name: rows[f"group/99_{name}.ipynb"]
    found = {name: (row(name)["solved"], row(name)["problem"]) for name in notebooks}
    assert found == {
        "solved": ("2", "same code as group/99_copied.ipynb"),
        "copied": ("2", ""),
        "unsolved": ("0", ""),
        "swapped": ("1", ""),
        "deleted": ("1", ""),
        "magics": ("2", ""),
        "exit": ("2", "code cell 2: SystemExit: 3"),
        "syntax": (
            "2",
            "code cell 2: SyntaxError: invalid syntax (<code cell 2>, line 1); "
            "code cell 3: ZeroDivisionError: division by zero",
        ),
        "loud": ("2", ""),
        "crash": ("0", "ended with exit code -9 in code cell 2"),
        "error": ("1", ""),
    }
    assert rows["renamed.ipynb"]["solved"] == "2"
    assert rows["99_broken.ipynb"]["problem"] == "not a notebook: JSONDecodeError"
    assert rows["of_no_chapter.ipynb"]["problem"].startswith("of no chapter")
    assert row("swapped")["99.1"] == "wrong"
    assert row("swapped")["99.1 hint"] == "'=The other share."
    assert row("unsolved")["99.1"] == "not solved yet"
    assert row("deleted")["99.2"] == "not solved yet"
    assert row("crash")["99.2"] == "not run"
    assert "in line 3, `return y + None`: `TypeError" in row("error")["99.2 hint"]
    assert list(rows) == sorted(rows) and len(rows) == 15

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16 and lines[-1].startswith("15 notebooks: ")
    assert any(
        line.startswith("group/99_swapped.ipynb: 1 of 2 solved, ") for line in lines
    )


def test_endless_loops_end_and_the_rest_is_judged(package, tmp_path: Path):
    sleep = "import time\ntime.sleep(1000)"
    write(tmp_path / "99_cell.ipynb", [SHARE, sleep, DOUBLE])
    loop = "def double(x):\n    import time\n    time.sleep(1000)"
    write(tmp_path / "99_function.ipynb", [loop, SHARE])
    stubborn = "while True:\n    try:\n        time.sleep(1000)\n    except: pass"
    child = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', CODE])\n"
        "open('child', 'w').write(str(child.pid))"
    )
    code = "CODE = 'import time; time.sleep(1000)'"
    write(tmp_path / "99_stubborn.ipynb", [SHARE, code, child, sleep, stubborn, DOUBLE])
    cell, function, hopeless = grade(tmp_path, timeout=10, jobs=3)

    assert cell.solved == 2
    assert cell.problem.startswith("code cell 2: still running after ")
    assert function.outcomes["99.1"].status == "solved"
    assert function.outcomes["99.2"].message.startswith("still running after")
    assert hopeless.problem.endswith("; stopped after 10 s in code cell 5")
    assert hopeless.outcomes["99.1"].status == "not run"
    pid = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_a_missing_folder_is_an_error_in_one_line(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        main(["grade", str(tmp_path / "none")])
    assert "error: expected a folder of notebooks, got" in capsys.readouterr().err


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_of_the_table_is_a_formula(start: str):
    text = f"{start}cmd|' /C calc'!A0"
    outcome = Outcome("1.1", "wrong", None, f" {text}\nand a second line")
    (row,) = rows_of(to_csv([Graded(text, {"1.1": outcome}, 1.0, text)])).values()
    for cell in (row["file"], row["problem"], row["1.1 hint"]):
        assert cell.startswith(f"'{start}")
    assert row["1.1 hint"] == f"'{text} and a second line"


def test_the_table_orders_exercises_of_several_chapters():
    def graded(*ids: str) -> Graded:
        return Graded("x", {id: Outcome(id, "solved", None, "") for id in ids})

    head = to_csv([graded("2.1"), graded("1.2", "1.10")]).splitlines()[0]
    assert head == (
        "file,solved,of,seconds,problem,1.2,1.2 hint,1.10,1.10 hint,2.1,2.1 hint"
    )


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("x = 1\n%matplotlib inline\n!ls", "x = 1\npass\npass"),
        ("if x:\n    %pip install y", "if x:\n    pass"),
        ("len?", "pass"),
        ("x = (7\n% 2)", "x = (7\n% 2)"),
        ("%%time\nx = 1", "\nx = 1"),
        ("%%bash\nrm x", ""),
        ("%%time\n%matplotlib inline\nx = 1", "\npass\nx = 1"),
    ],
)
def test_what_only_ipython_understands_is_left_out(cell: str, python: str):
    assert python_of(cell) == python
