"""The list of mistakes fits, the runner notices, the page says the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mutate
import mutation_report
import pytest
from mutations import MUTATIONS

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = {m.name: m.chapters for m in MUTATIONS}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_mistake_fits_the_library(mutation):
    changed = mutate.broken(mutation)
    compile(changed, mutation.file, "exec")
    assert mutation.tests
    for entry in mutation.tests:
        assert (ROOT / "tests" / entry.partition("::")[0]).is_file()


def test_the_list_covers_the_library():
    assert len(MUTATIONS) >= 40
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)
    rooms = "losses games adapt rates dual objectives meta metrics evaluate baselines"
    rooms += " features tasks data nets gan warp io implicit"
    assert {f"{room}.py" for room in rooms.split()} <= {m.file for m in MUTATIONS}


@pytest.mark.parametrize("old", ["no such passage", "return "])
def test_a_passage_that_is_not_there_once_is_an_error(old):
    stale = mutate.Mutation("stale", "losses.py", old, "pass", "", ("test_losses.py",))
    with pytest.raises(ValueError, match=r"stale: expected its passage once"):
        mutate.broken(stale)


def test_a_change_of_the_text_alone_is_an_error():
    same = [m for m in MUTATIONS if m.file == "losses.py"][0]
    idle = mutate.Mutation("idle", same.file, same.old, f"{same.old} ", "", ())
    with pytest.raises(ValueError, match="idle: the program is the same"):
        mutate.broken(idle)


@pytest.mark.skipif(sys.platform == "win32", reason="the runner forks")
def test_a_mistake_is_noticed_and_the_library_is_left_alone(tmp_path):
    before = (ROOT / "metagan_lite" / "warp.py").read_bytes()
    record = tmp_path / "record.json"
    command = [sys.executable, str(ROOT / "tools" / "mutate.py"), "--stage"]
    command += [
        "unit",
        "unit_control",
        "--only",
        "outside is grey",
        "--record",
        str(record),
    ]
    subprocess.run(command, check=True, timeout=300)
    found = json.loads(record.read_text(encoding="utf-8"))
    noticed = found["mutations"]["outside is grey"]["unit"]["noticed"]
    assert noticed.startswith("tests/test_warp.py::test_a_quarter_turn")
    assert found["control"] == {"tests/test_warp.py": None}
    assert (ROOT / "metagan_lite" / "warp.py").read_bytes() == before


def test_a_cell_s_print_and_its_last_value_are_kept():
    names = {}
    assert mutate.run_cell("x = 2\nprint('a')\nx + 1", names, "cell") == "a\n3\n"
    assert names["x"] == 2
    assert mutate.run_cell("x", names, "cell") == "2\n"
    set_up = "if x == 3:\n    %pip install nothing\nx"
    assert mutate.run_cell(set_up, names, "cell") == "2\n"


def test_the_summary_counts_what_the_record_holds():
    names = [m.name for m in MUTATIONS if m.chapters][:4]
    unit = [{"noticed": x, "seconds": 1.0} for x in ("a", None, "b", None)]
    record = {"control": {}, "mutations": {}}
    for name, found in zip(names, unit):
        record["mutations"][name] = {"unit": found}
    missed = {"noticed": None, "seconds": 1.0}
    for name, chapter in zip(names[1:3], (3, 3)):
        parts = {"exercises": {str(n): missed for n in CHAPTERS[name]}}
        if chapter:
            parts["notebooks"] = {str(n): missed for n in CHAPTERS[name]}
        record["mutations"][name] |= parts
    seen = {"noticed": "cell 4: AssertionError: no", "seconds": 1.0}
    record["mutations"][names[1]]["notebooks"] |= {"3": seen}
    said = mutation_report.summary(record)
    assert "Of 4 that were shown to the unit tests, 2 were noticed." in said
    assert "Of 2 that were shown to a chapter or its exercises, 1 were noticed." in said
    assert "3 of the 4 that were tried were noticed." in said
    assert f"not complete: {len(MUTATIONS) - 4} wait" in said
    rows = mutation_report.table(record).splitlines()
    assert len(rows) == len(MUTATIONS) + 2
    row = next(row for row in rows if row.startswith(f"| {names[1]} |"))
    assert row.endswith("| **not noticed** | chapter 3, cell 4 |")


def test_nothing_is_claimed_before_a_run():
    empty = {"control": {}, "mutations": {}}
    assert "none has been tried yet" in mutation_report.summary(empty)


def test_the_record_is_of_this_list():
    record = mutation_report.read()
    assert set(record["mutations"]) <= {m.name for m in MUTATIONS}
