"""Tables of what to read and to solve, with minutes that are counted in the notebooks.

The book's directive `{syllabus}` makes its tables here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from chapters import Chapter

EXERCISE = re.compile(r"^## Exercise \d+\.\d+ ●+○* · (\d+) minutes", re.MULTILINE)

Row = tuple[str, list[int], str]


def parse(line: str) -> Row:
    """`label | numbers of chapters | what else`, for example `1 | 0, 1 | a talk`."""
    parts = [part.strip() for part in line.split("|")]
    if len(parts) != 3 or not re.fullmatch(r"(\d+(, *\d+)*)?", parts[1]):
        raise ValueError(f"expected `label | 1, 2 | what else`, got {line!r}")
    return parts[0], [int(n) for n in parts[1].split(",") if n], parts[2]


def name_of(number: int) -> str:
    return f"chapter {number}" if number else "quickstart"


def reading(chapter: Path) -> int:
    """Minutes to read it, a multiple of 5."""
    return 5 * round(Chapter(chapter).minutes / 5)


def solving(exercises: Path) -> list[int]:
    """Minutes for each exercise, as it says itself."""
    return [int(m) for m in EXERCISE.findall("\n\n".join(Chapter(exercises).markdown))]


def table(
    head: str,
    rows: list[Row],
    there: dict[int, tuple[Path, Path | None]],
    start: Path,
    *,
    solve: bool = True,
    total: bool = True,
) -> str:
    """A Markdown table with links relative to `start`.

    Args:
        head: what the labels are.
        rows: label, numbers of chapters, and what else is done.
        there: number → a chapter and its exercises. The others are not written yet.
        start: the folder of the page.
        solve: with the exercises.
        total: with a row of sums.
    """
    link = lambda path: Path(os.path.relpath(path, start)).as_posix()
    columns = [head, "read", "minutes", *["solve", "minutes"] * solve, "also"]
    lines = [
        "",
        "|" + "|".join("--:" if c == "minutes" else "---" for c in columns) + "|",
    ]
    sums = [0, 0]
    for label, numbers, also in rows:
        read, solved, minutes = [], [], [0, 0]
        for number in numbers:
            chapter, exercises = there.get(number, (None, None))
            if chapter is None:
                read.append(f"{name_of(number)} (not written yet)")
                continue
            read.append(f"[{name_of(number)}]({link(chapter)})")
            minutes[0] += reading(chapter)
            if solve and exercises is not None:
                each = solving(exercises)
                solved.append(f"[{len(each)}]({link(exercises)})")
                minutes[1] += sum(each)
        sums = [a + b for a, b in zip(sums, minutes)]
        solved = ", ".join(solved) + " exercises" * bool(solved)
        cells = [
            label,
            ", ".join(read),
            minutes[0],
            *[solved, minutes[1]] * solve,
            also,
        ]
        lines.append("| " + " | ".join(str(cell or "") for cell in cells) + " |")
    if total:
        cells = ["in all", "", sums[0], *["", sums[1]] * solve, ""]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines[0] = "| " + " | ".join(columns) + " |"
    return "\n".join(lines)
