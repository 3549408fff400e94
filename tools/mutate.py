"""Break the library on purpose, one mistake at a time, and record who notices.

    python tools/mutate.py [--resume] [--only WORDS] [--stage STAGE ...]

The mistakes are listed in tools/mutations.py. Each is made in a copy of the package
that comes first on the path; the repository is not touched. Noticed by

- the unit tests: those that the list maps to it, until the first one fails;
- the exercises of a chapter: a check no longer says "solved" to the right answer;
- the chapter: a cell raises, such as a false `claim`, or a cell that begins with
  `# NBVAL_CHECK_OUTPUT` prints something else.

A chapter's cells run without Jupyter. Those that take over 3 s of CPU time, trainings
above all, are left out, and so are those that cannot run without them; the record
says how many. All this is done with the library as it is, too: what fails then counts
for nothing.

The record, results/mutations.json, is written after each mistake. `--resume` keeps what
was found for the same broken file. Each mistake has a process, forked from one that has
imported PyTorch (so: Linux or macOS).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import io
import json
import linecache
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "results" / "mutations.json"
SLOW = 3.0  # seconds of CPU time: a cell that takes longer is left out
LIMIT = 900  # seconds for one process
STAGES = ("unit", "unit_control", "exercises", "notebooks")
KEEP = "# NBVAL_CHECK_OUTPUT"


# --- breaking -----------------------------------------------------------------


def broken(mutation: Mutation) -> str:
    """The file with the mistake.

    Raises:
        ValueError: the passage does not occur exactly once, or is no mistake.
    """
    path = ROOT / "metagan_lite" / mutation.file
    text = path.read_text(encoding="utf-8")
    count = text.count(mutation.old)
    if count != 1:
        raise ValueError(
            f"{mutation.name}: expected its passage once in {mutation.file}, found it"
            f" {count} times; follow the change in tools/mutations.py"
        )
    changed = text.replace(mutation.old, mutation.new)
    if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)):
        raise ValueError(f"{mutation.name}: the program is the same; break it")
    return changed


@contextlib.contextmanager
def library(mutation: Mutation | None) -> Iterator[Path]:
    """A folder with a copy of the package, broken or not."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(
            ROOT / "metagan_lite",
            Path(folder, "metagan_lite"),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        if mutation is not None:
            path = Path(folder, "metagan_lite", mutation.file)
            path.write_text(broken(mutation), encoding="utf-8")
        yield Path(folder)


# --- noticing, each in a process of its own ------------------------------------


def run_tests(entry: str) -> str | None:
    """The first test that fails; None if all pass."""
    import pytest

    class First:
        failed: str | None = None

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed and self.failed is None:
                self.failed = report.nodeid

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed and self.failed is None:
                self.failed = report.nodeid

    file, _, words = entry.partition("::")
    first = First()
    os.chdir(ROOT)
    arguments = ["-x", "-q", "-p", "no:cacheprovider", f"tests/{file}"]
    status = pytest.main(arguments + (["-k", words] if words else []), plugins=[first])
    if first.failed is None and status != 0:
        raise RuntimeError(f"{entry}: pytest ended with status {int(status)}")
    return first.failed


def run_exercises(chapter: int) -> dict[str, str]:
    """Exercise → what its check says to the right answer; of all but those solved."""
    import nbformat

    path = ROOT / "notebooks" / "exercises" / f"{chapter:02d}_master.ipynb"
    os.chdir(path.parent)
    names: dict[str, Any] = {"__name__": "__main__"}
    found, functions = {}, {}
    try:
        from metagan_lite.checks import exercises, judge

        known = exercises(chapter)
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
            role = cell.metadata.get("exercise", {})
            if cell.cell_type != "code" or role.get("role") in ("wrong", "check"):
                continue
            run_cell(cell.source, names, f"exercises {number}")
            if role.get("role") == "solution":
                functions[role["id"]] = names[known[role["id"]].function]
        for id, function in functions.items():
            outcome = judge(id, function)
            if outcome.status != "solved":
                found[id] = f"{outcome.status}: {outcome.message}"
    except Exception as error:
        found["set-up"] = describe(error)
    return found


def run_notebook(
    path: Path, skip: tuple[int, ...], expected: dict[str, str] | None
) -> dict[str, Any]:
    """Run the code cells; until one is noticed if it is known what they print.

    Returns:
        ``noticed``; and of each cell that ran the ``seconds``, what it ``printed`` if
        that must not change, and its error, if any, in ``failed``.
    """
    import nbformat
    import torch

    os.chdir(path.parent)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "__main__"}
    result: dict[str, Any] = {"noticed": None, "seconds": {}}
    result |= {"printed": {}, "failed": {}}
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type != "code" or number in skip:
            continue
        before = time.process_time()
        try:
            printed = run_cell(cell.source, names, f"cell {number + 1}")
        except Exception as error:
            result["failed"][str(number)] = describe(error)
            if expected is not None:
                result["noticed"] = f"cell {number + 1}: {describe(error)}"
                return result
        else:
            if cell.source.startswith(KEEP):
                result["printed"][str(number)] = printed
                if expected and expected.get(str(number), printed) != printed:
                    result["noticed"] = f"cell {number + 1} prints something else"
                    return result
        result["seconds"][str(number)] = time.process_time() - before
    return result


def run_cell(code: str, names: dict[str, Any], name: str) -> str:
    """Execute a cell; what it prints, and the value of its last line."""
    file = f"<{name}>"
    linecache.cache[file] = (len(code), None, code.splitlines(True), file)
    # A line magic, as in `%pip install` of the set-up cell, is for Jupyter alone.
    code = re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)
    body = ast.parse(code).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), file, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), file, "eval"), names)
            if value is not None:
                print(repr(value))
    return re.sub(r"0x[0-9a-f]+", "0x", printed.getvalue())


def describe(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def apart(folder: Path, function: Callable, *arguments: Any) -> tuple[Any, float]:
    """What the function returns in a process whose library is in `folder`; seconds."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = str(folder)
        # A copy of the package has no results beside it, and would fetch them.
        os.environ["METAGAN_RESULTS"] = str(ROOT / "results")
        sys.stdin = open(os.devnull)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        try:
            result = function(*arguments)
            used = sys.modules.get("metagan_lite")
            if used and not Path(used.__file__).is_relative_to(folder):
                raise RuntimeError(f"expected the copy in {folder}, got {used}")
            theirs.send((result, None))
        except BaseException as error:
            theirs.send((None, describe(error)))
        os._exit(0)

    start = time.monotonic()
    process = context.Process(target=work)
    process.start()
    theirs.close()
    try:
        result, error = ours.recv() if ours.poll(LIMIT) else (None, f"over {LIMIT} s")
    except EOFError:
        result, error = None, "the process died"
    process.kill()
    process.join()
    if error:
        raise RuntimeError(error)
    return result, round(time.monotonic() - start, 1)


# --- the record ----------------------------------------------------------------


class Run:
    """The record, and what is still to be done."""

    def __init__(self, path: Path, resume: bool):
        self.path = path
        self.record: dict[str, Any] = {"control": {}, "mutations": {}}
        if resume and path.exists():
            self.record = json.loads(path.read_text(encoding="utf-8"))
        self.record["command"] = "make mutations"

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.record, indent=1, ensure_ascii=False, sort_keys=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, self.path)

    def entry(self, mutation: Mutation) -> dict[str, Any]:
        """What is known of a mistake; nothing if the broken file is another."""
        digest = hashlib.sha256(broken(mutation).encode()).hexdigest()[:12]
        found = self.record["mutations"].get(mutation.name, {})
        if found.get("digest") != digest:
            found = self.record["mutations"][mutation.name] = {"digest": digest}
        return found

    def control(self, name: str, function: Callable, *arguments: Any) -> Any:
        """The result without a mistake, computed once."""
        known = self.record["control"]
        if name not in known:
            with library(None) as folder:
                known[name] = apart(folder, function, *arguments)[0]
            self.save()
        return known[name]

    def unit(self, mutation: Mutation) -> None:
        entry = self.entry(mutation)
        if "unit" in entry:
            return
        noticed, seconds = None, 0.0
        with library(mutation) as folder:
            for tests in mutation.tests:
                try:
                    noticed, took = apart(folder, run_tests, tests)
                except RuntimeError as error:
                    noticed, took = str(error), 0.0
                seconds += took
                if noticed:
                    break
        entry["unit"] = {"noticed": noticed, "seconds": round(seconds, 1)}
        print(f"{mutation.name}: {noticed or 'NOT NOTICED'}", flush=True)
        self.save()

    def unit_control(self, mutation: Mutation) -> None:
        for tests in mutation.tests:
            failed = self.control(f"tests/{tests}", run_tests, tests)
            if failed:
                sys.exit(f"mutate: {failed} fails with the library as it is")

    def exercises(self, mutation: Mutation) -> None:
        """Ask the exercises of its chapters in order, until one notices."""

        def ask(folder: Path, chapter: int) -> tuple[str | None, float]:
            usual = self.control(f"exercises {chapter}", run_exercises, chapter)
            if usual:
                sys.exit(f"mutate: chapter {chapter}, without a mistake: {usual}")
            said, seconds = apart(folder, run_exercises, chapter)
            found = [f"exercise {id}: {words}" for id, words in said.items()]
            return (found[0] if found else None), seconds

        self._ask(mutation, "exercises", "exercises/{:02d}_master.ipynb", ask)

    def notebooks(self, mutation: Mutation) -> None:
        """Where no exercise has noticed, ask the chapters in order, until one does."""

        def ask(folder: Path, chapter: int) -> tuple[str | None, float]:
            path = next((ROOT / "notebooks").glob(f"{chapter:02d}_*.ipynb"))
            plan = self.plan(path)
            skip, printed = tuple(plan["skipped"]), plan["printed"]
            told, seconds = apart(folder, run_notebook, path, skip, printed)
            return told["noticed"], seconds

        self._ask(mutation, "notebooks", "{:02d}_*.ipynb", ask)

    def _ask(self, mutation: Mutation, part: str, pattern: str, ask: Callable) -> None:
        entry = self.entry(mutation)
        for chapter in mutation.chapters:
            asked = [*entry.get("exercises", {}).values()]
            asked += entry.get("notebooks", {}).values()
            if any(found["noticed"] for found in asked):
                return
            known = entry.setdefault(part, {})
            written = any((ROOT / "notebooks").glob(pattern.format(chapter)))
            if not written or str(chapter) in known:
                continue
            with library(mutation) as folder:
                try:
                    noticed, seconds = ask(folder, chapter)
                except RuntimeError as error:
                    noticed, seconds = str(error), 0.0
            known[str(chapter)] = {"noticed": noticed, "seconds": round(seconds, 1)}
            said = noticed or "not noticed"
            print(f"{mutation.name}, {part} {chapter}: {said}", flush=True)
            self.save()

    def plan(self, path: Path) -> dict[str, Any]:
        """Which cells of a notebook are left out, and what the others print."""
        name = f"notebook {path.stem}"
        known = self.record["control"]
        if name not in known:
            with library(None) as folder:
                first, _ = apart(folder, run_notebook, path, (), None)
                lost = {int(n) for n, s in first["seconds"].items() if s > SLOW}
                failed = first["failed"]
                # A cell that fails may still give another what it needs, so they are
                # left out until all the others run.
                while True:
                    lost |= {int(n) for n in failed}
                    second, _ = apart(folder, run_notebook, path, tuple(lost), None)
                    if not (failed := second["failed"]):
                        break
            known[name] = {
                "cells": len(first["seconds"]) + len(first["failed"]),
                "skipped": sorted(lost),
                "printed": {
                    n: text
                    for n, text in second["printed"].items()
                    if first["printed"].get(n) == text
                },
            }
            self.save()
        return known[name]


def environment() -> dict[str, Any]:
    from metagan_lite.io import environment

    return environment()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--only", default="", help="mistakes whose name has these")
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if options.only in m.name]
    for mutation in MUTATIONS:
        broken(mutation)  # the whole list must fit, whatever is asked
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for module in ("torch", "numpy", "pytest", "nbformat", "IPython", "ipywidgets"):
        __import__(module)
    import matplotlib.figure  # noqa: F401
    import sklearn  # noqa: F401
    import torch.func  # noqa: F401

    run = Run(options.record, options.resume)
    run.record["environment"], _ = apart(ROOT, environment)
    for stage in STAGES:
        for mutation in chosen if stage in options.stage else []:
            getattr(run, stage)(mutation)
    run.save()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
