"""What results/mutations.json says, in Markdown, for the book.

    python tools/mutation_report.py [--require]

prints the summary and the table. With `--require` it fails where too few mistakes were
noticed: 95 % at all, 60 % by a chapter.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from mutate import RECORD
from mutations import MUTATIONS, Mutation

NOTICED, TAUGHT = 0.95, 0.6  # shares that are asked for


def read() -> dict[str, Any]:
    """The record; empty before the first run."""
    if not RECORD.exists():
        return {"mutations": {}, "control": {}}
    return json.loads(RECORD.read_text(encoding="utf-8"))


def by_tests(record: dict, mutation: Mutation) -> str | None:
    """The unit test that noticed; "" where none did, None where none was run."""
    found = record["mutations"].get(mutation.name, {}).get("unit")
    return None if found is None else found["noticed"] or ""


def by_chapters(record: dict, mutation: Mutation) -> str | None:
    """The chapter that noticed and how; "" where none did so far, None where none
    was asked."""
    found = record["mutations"].get(mutation.name, {})
    for part in ("exercises", "notebooks"):
        for chapter, said in found.get(part, {}).items():
            if said["noticed"]:
                return f"chapter {chapter}, {said['noticed']}"
    asked = any(found.get(part) for part in ("exercises", "notebooks"))
    return "" if asked else None


def waits(record: dict, mutation: Mutation) -> bool:
    """Whether no chapter has noticed, and some were not asked, wholly or in part."""
    found = record["mutations"].get(mutation.name, {})
    parts = [found.get(part, {}) for part in ("exercises", "notebooks")]
    asked = all(str(n) in part for part in parts for n in mutation.chapters)
    return not by_chapters(record, mutation) and not asked


def counts(record: dict) -> dict[str, int]:
    """How many mistakes there are, were tried, and were noticed, by whom."""
    tests = [by_tests(record, m) for m in MUTATIONS]
    chapters = [by_chapters(record, m) for m in MUTATIONS]
    return {
        "listed": len(MUTATIONS),
        "tests tried": sum(t is not None for t in tests),
        "tests": sum(bool(t) for t in tests),
        "chapters tried": sum(c is not None for c in chapters),
        "chapters": sum(bool(c) for c in chapters),
        "both tried": sum(None not in pair for pair in zip(tests, chapters)),
        "tried": sum(t is not None or c is not None for t, c in zip(tests, chapters)),
        "noticed": sum(bool(t or c) for t, c in zip(tests, chapters)),
    }


def summary(record: dict) -> str:
    """How many were noticed, and how much of the list was run."""
    n = counts(record)
    if not n["tried"]:
        return f"The list has {n['listed']} mistakes; none has been tried yet."
    parts = [
        f"The list has {n['listed']} mistakes. {_of(n, 'tests', 'the unit tests')}",
        _of(n, "chapters", "a chapter or its exercises"),
        f"Whoever was asked, {n['noticed']} of the {n['tried']} that were tried were"
        " noticed.",
    ]
    left = n["listed"] - n["tests tried"]
    if left:
        parts.append(f"This record is not complete: {left} wait for the unit tests.")
    unproved = sum(
        by_tests(record, m) is not None
        and not all(f"tests/{entry}" in record["control"] for entry in m.tests)
        for m in MUTATIONS
    )
    if unproved:
        parts.append(
            f"For {unproved} of them the record does not hold that their tests pass"
            " without a mistake."
        )
    waiting = sum(waits(record, m) for m in MUTATIONS)
    if waiting:
        parts.append(
            f"For {waiting} that no chapter has noticed so far, chapters that teach"
            " them are still to be run or to be written."
        )
    return " ".join(parts)


def _of(n: dict[str, int], who: str, name: str) -> str:
    tried = n[f"{who} tried"]
    if not tried:
        return f"Nothing was shown to {name} yet."
    return f"Of {tried} that were shown to {name}, {n[who]} were noticed."


def machine(record: dict) -> str:
    """Where, and with what."""
    found = record.get("environment")
    if not found:
        return ""
    return (
        f"Run by `{record['command']}` at commit {found['commit']}, Python"
        f" {found['python']}, PyTorch {found['torch']}, {found['processor']}."
    )


def skipped(record: dict) -> str:
    """How many cells of each notebook take part."""
    rows = [
        f"- {name.partition(' ')[2]}: {x['cells'] - len(x['skipped'])} of {x['cells']}"
        for name, x in record["control"].items()
        if name.startswith("notebook ")
    ]
    return "\n".join(rows) or "No notebook has been run yet."


def table(record: dict) -> str:
    """A row for each mistake."""
    rows = [
        "| Mistake | in | what changes | unit test | chapter or exercise |",
        "|---|---|---|---|---|",
    ]
    for m in MUTATIONS:
        cells = [_said(by_tests(record, m)), _said(by_chapters(record, m))]
        if by_chapters(record, m) == "" and waits(record, m):
            cells[1] = "not noticed so far"
        if not m.chapters:
            cells[1] = "taught by none"
        rows.append(f"| {m.name} | `{m.file}` | {m.meaning} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _said(found: str | None) -> str:
    if found is None:
        return "not run"
    if not found:
        return "**not noticed**"
    if found.startswith("tests/"):
        return f"`{found.partition('::')[2] or found}`".replace("|", "¦")
    where = ": ".join(found.split(": ")[:1])
    return where.replace("|", "¦")


def main(arguments: list[str]) -> int:
    record = read()
    print(summary(record), table(record), sep="\n\n")
    n = counts(record)
    if "--require" in arguments:
        if n["tests tried"] < n["listed"]:
            sys.exit("mutations: the record is not complete")
        if n["noticed"] < NOTICED * n["listed"]:
            sys.exit(f"mutations: under {NOTICED:.0%} were noticed")
        if n["chapters"] < TAUGHT * n["listed"]:
            sys.exit(f"mutations: under {TAUGHT:.0%} were noticed by a chapter")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
