"""The command line of the checks: ``python -m metagan_lite.checks grade FOLDER``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .grading import grade, run_and_judge, save_csv


def main(arguments: list[str] | None = None) -> int:
    """Grade a folder of notebooks: a line for each, and a CSV file of all."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["run"]:  # what `grade` starts for each notebook
        notebook, log, timeout = arguments[1:]
        run_and_judge(Path(notebook), Path(log), float(timeout))
        os._exit(0)  # whatever threads the notebook left
    parser = argparse.ArgumentParser(prog="python -m metagan_lite.checks")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("grade", help="grade a folder of notebooks")
    command.add_argument("folder", type=Path)
    command.add_argument("--out", type=Path, default=Path("grades.csv"))
    command.add_argument("--timeout", type=float, default=300, help="seconds for each")
    command.add_argument("--jobs", type=int, default=2, help="how many at once")
    options = parser.parse_args(arguments)
    rows = []
    try:
        for graded in grade(options.folder, timeout=options.timeout, jobs=options.jobs):
            print(graded.summary(), flush=True)
            rows.append(graded)
    except ValueError as error:
        parser.error(str(error))
    save_csv(rows, options.out)
    print(f"{len(rows)} notebooks: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
