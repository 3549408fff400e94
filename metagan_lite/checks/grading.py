"""Grading a folder of notebooks.

    python -m metagan_lite.checks grade FOLDER

Each notebook runs in a process of its own, with a time limit. What counts is what the
checks of this package say of the functions that it leaves, whatever happened to the
check cells in it. This is no sandbox: a notebook can do what its author could do here,
so grade a class in a container or under an account of its own.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import linecache
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..io import write_atomically
from . import NOT_SOLVED, SOLVED, WRONG, Outcome, exercises, judge

__all__ = ["Graded", "grade", "python_of", "run_cell", "to_csv"]

NOT_RUN = "not run"
_START = 120  # seconds that a process may take to begin
_PACKAGE = Path(__file__).resolve().parents[2]
_MAGIC = re.compile(r"^(\s*)([%!].*|.*\?\s*)$", re.MULTILINE)
_HARMLESS = ("%%time", "%%timeit", "%%capture")


@dataclass
class Graded:
    """One notebook.

    file: its path below the folder. outcomes: exercise → outcome; an exercise that was
    not reached has the status ``"not run"``. seconds: how long it ran, by the clock.
    problem: what went wrong besides wrong answers, in words; empty if nothing did.
    """

    file: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str = ""

    @property
    def solved(self) -> int:
        return sum(o.status == SOLVED for o in self.outcomes.values())

    def summary(self) -> str:
        """The result in one line."""
        counts = f"{self.solved} of {len(self.outcomes)} solved, {self.seconds:.1f} s"
        return f"{self.file}: {counts}{self.problem and f'; {self.problem}'}"


def grade(folder: Path, *, timeout: float = 300, jobs: int = 2) -> Iterator[Graded]:
    """Grade every notebook in a folder and its subfolders, in the order of their names.

    Args:
        folder: where they are.
        timeout: seconds that one notebook may take once its process has started.
        jobs: how many run at the same time, each on one thread.

    Raises:
        ValueError: no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"expected a folder of notebooks, got {folder}")
    paths = sorted(
        path
        for path in folder.rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    )
    seen: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        running: set[subprocess.Popen] = set()
        try:
            for path, graded in zip(
                paths, pool.map(lambda path: _grade_one(path, timeout, running), paths)
            ):
                graded.file = path.relative_to(folder).as_posix()
                first = seen.setdefault(_digest(path), graded.file)
                if first != graded.file and graded.solved:
                    same = f"same code as {first}"
                    graded.problem = "; ".join(filter(None, [graded.problem, same]))
                yield graded
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                _kill(process)
            raise


def to_csv(rows: list[Graded]) -> str:
    """A table: file, solved, of, seconds, problem, and for each exercise its status and
    what the check said. No cell begins like a formula of a spreadsheet."""
    ids = {id: None for row in rows for id in row.outcomes}
    ids = sorted(ids, key=lambda id: [int(part) for part in id.split(".")])
    columns = [cell for id in ids for cell in (id, f"{id} hint")]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "solved", "of", "seconds", "problem", *columns])
    for row in rows:
        cells = [row.file, row.solved, len(row.outcomes), f"{row.seconds:.1f}"]
        cells.append(row.problem)
        for id in ids:
            outcome = row.outcomes.get(id)
            hint = outcome.message if outcome and outcome.status == WRONG else ""
            cells += [outcome.status if outcome else "", hint]
        table.writerow([_harmless(str(cell)) for cell in cells])
    return text.getvalue()


def save_csv(rows: list[Graded], path: Path) -> None:
    """Write the table, whole or not at all."""
    write_atomically(path, to_csv(rows).encode())


# Cells


def python_of(source: str) -> str:
    """The Python of a cell: IPython's magics, shell lines and questions become `pass`.

    A cell for another interpreter, such as ``%%bash``, has none.
    """
    try:
        compile(source, "<cell>", "exec")
    except (SyntaxError, ValueError):  # a `%` may also continue an expression
        first, newline, rest = source.partition("\n")
        if first.startswith("%%"):
            # Its line stays, so that line numbers do.
            return newline + python_of(rest) if first.startswith(_HARMLESS) else ""
        return _MAGIC.sub(r"\1pass", source)
    return source


def run_cell(source: str, names: dict[str, Any], file: str) -> None:
    """Execute a cell in the namespace `names`; tracebacks show its lines as of `file`.

    Raises:
        Exception: whatever the cell raises, SyntaxError included.
    """
    code = python_of(source)
    names.setdefault("display", lambda *objects, **options: None)  # as in a kernel
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    exec(compile(code, file, "exec"), names)


def read_notebook(path: Path) -> tuple[list[str], int]:
    """The code cells of a notebook, and its chapter.

    Raises:
        ValueError: it is no notebook, or of no chapter.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [
            "".join(cell["source"])
            for cell in notebook["cells"]
            if cell["cell_type"] == "code"
        ]
        chapter = notebook.get("metadata", {}).get("metagan", {}).get("chapter")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a notebook: {type(error).__name__}") from error
    if chapter is None:
        number = re.search(r"(?<!\d)(\d\d)_", path.name)
        chapter = int(number[1]) if number else None
    if not isinstance(chapter, int) or not exercises(chapter):
        raise ValueError("of no chapter with exercises: name it NN_…")
    return cells, chapter


# The process that grades


def _grade_one(path: Path, timeout: float, running: set[subprocess.Popen]) -> Graded:
    graded = Graded(path.name)
    try:
        _, chapter = read_notebook(path)
    except ValueError as error:
        graded.problem = str(error)
        return graded
    start = time.time()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        log.touch()
        command = [sys.executable, "-m", "metagan_lite.checks", "run"]
        process = subprocess.Popen(
            [*command, str(path.resolve()), str(log), str(timeout)],
            cwd=_PACKAGE,  # our package, not one that lies beside the notebook
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        running.add(process)
        try:
            # The first event comes when Python and PyTorch have started.
            while not log.stat().st_size and time.time() < start + _START:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                    break
            code = process.wait(timeout)
            end = f"ended with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            end = f"stopped after {timeout:g} s"
        finally:
            _kill(process)
            running.discard(process)
        events = list(_events(log))
    graded.seconds = time.time() - start
    where = [event["at"] for event in events if "at" in event]
    problems = [event["problem"] for event in events if "problem" in event]
    if end:
        problems.append(f"{end} in {where[-1]}" if where else end)
    graded.problem = "; ".join(problems)
    known = [Outcome(**event["outcome"]) for event in events if "outcome" in event]
    graded.outcomes = {
        id: Outcome(id, NOT_RUN, None, "") for id in exercises(chapter)
    } | {outcome.exercise: outcome for outcome in known}
    return graded


def _events(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):  # the process died while it wrote the last line
            yield json.loads(line)


def _kill(process: subprocess.Popen) -> None:
    """End a process and those that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _digest(path: Path) -> str:
    try:
        cells, _ = read_notebook(path)
    except ValueError:
        return f"{path}"
    return hashlib.sha256("\n\n".join(cells).encode()).hexdigest()


def _harmless(cell: str) -> str:
    cell = " ".join(cell.split())
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


# The process that is graded


class _TimeIsUp(BaseException):
    """Not an Exception, so that the reader's `except Exception` lets it pass."""


def run_and_judge(path: Path, log: Path, timeout: float) -> None:
    """Run a notebook and judge what it leaves; each event is a line of JSON in `log`.

    Each cell and each check may take half of the time that is left, so that one endless
    loop does not keep the others from being judged.

    Args:
        path: the notebook.
        log: where to append.
        timeout: seconds for all of it.
    """
    deadline = time.time() + timeout
    cells, chapter = read_notebook(path)
    known = exercises(chapter)
    os.chdir(path.parent)  # as in Jupyter
    sys.path.insert(0, str(path.parent))
    names: dict[str, Any] = {"__name__": "__main__"}
    with log.open("a", encoding="utf-8") as file:

        def note(**event: object) -> None:
            file.write(json.dumps(event) + "\n")
            file.flush()

        for number, source in enumerate(cells, start=1):
            where = f"code cell {number}"
            note(at=where)
            try:
                with _at_most((deadline - time.time()) / 2):
                    run_cell(source, names, f"<{where}>")
            except BaseException as error:
                note(problem=f"{where}: {_in_words(error)}")
        for id, exercise in known.items():
            note(at=f"the check of exercise {id}")
            if exercise.function not in names:
                message = f"There is no function `{exercise.function}`."
                note(outcome=asdict(Outcome(id, NOT_SOLVED, None, message)))
                continue
            try:
                with _at_most((deadline - time.time()) / 2):
                    outcome = judge(id, names[exercise.function])
            except BaseException as error:
                outcome = Outcome(id, WRONG, None, _in_words(error))
            note(outcome=asdict(outcome))


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise _TimeIsUp after some seconds, where the system has alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise _TimeIsUp(f"still running after {seconds:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, _TimeIsUp) else f"{type(error).__name__}: {text}"
