"""What is counted in a chapter's notebook, and what is asked of it.

    python tools/chapters.py [notebook ...]

prints the counts and what breaks the rules, which are in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
RUN_SECONDS = (10, 20, 30, 60, 90)
LAST_SECTIONS = ["Summary", "Exercises", "Self-check", "Further reading"]
WORDS_A_MINUTE = 130
TIME = re.compile(
    r"\*\*Time:\*\* about (\d+) minutes to read, under (\d+) seconds to run on two "
    r"CPU cores; a GPU is not used\."
)
CODE_OR_FORMULA = re.compile(
    r"^```.*?^```|`[^`\n]+`|\$\$.*?\$\$|(?<!\\)\$[^$]+\$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]+>|https?://\S+")
WORD = re.compile(r"[^\W\d_][\w'’-]*")
NUMBER = r"\d+\.\d+"
# (1.3), (1.3, 1.4); exercises 1.2 and 1.3, theorem 2.5; a numbered heading.
REFERENCE = re.compile(
    rf"\({NUMBER}(?:(?:, | and | to |–){NUMBER})*\)"
    r"|\b(?:(?:exercise|section|theorem|proposition|lemma|figure|table)s?) "
    rf"{NUMBER}(?:(?:, | and | to |–){NUMBER})*"
    rf"|^#+ {NUMBER}",
    re.MULTILINE | re.IGNORECASE,
)
QUESTION = re.compile(
    r"^\*\*(?P<number>\d+)\. (?:(?!\n\n).)+?\*\*\n\n"
    r"(?P<options>(?:- [A-Z]\. [^\n]+\n(?:  [^\n]+\n)*)+)\n"
    r"<details><summary>Answer</summary>\n\n"
    r"(?P<answer>.+?)\n\n</details>\n*",
    re.MULTILINE | re.DOTALL,
)


class Chapter:
    """A notebook of the book, with what is counted in it."""

    def __init__(self, path: Path):
        self.path = path
        self.notebook = nbformat.read(path, as_version=4)
        self.number = int(path.name[:2])
        cells = self.notebook.cells
        self.markdown = [c.source for c in cells if c.cell_type == "markdown"]
        self.code = [c.source for c in cells if c.cell_type == "code"]
        self.outputs = [
            output.get("data", {})
            for cell in cells
            if cell.cell_type == "code"
            for output in cell.outputs
        ]

    @property
    def title(self) -> str:
        return self.markdown[0].partition("\n")[0].lstrip("# ")

    @cached_property
    def text(self) -> str:
        """All Markdown, without code and formulas."""
        return CODE_OR_FORMULA.sub(" ", "\n\n".join(self.markdown))

    @cached_property
    def words(self) -> int:
        return len(WORD.findall(LINK.sub(r"\1", self.text)))

    @cached_property
    def tags(self) -> list[str]:
        """The numbers of equations, in order."""
        return re.findall(r"\\tag\{(.*?)\}", "\n".join(self.markdown))

    @cached_property
    def images(self) -> list[str]:
        """The alternative text of each figure; empty where it has none."""
        found = Images()
        for data in self.outputs:
            found.feed(data.get("text/html", ""))
            found.alts += [""] * sum(k.startswith("image/") for k in data)
        return found.alts

    @property
    def minutes(self) -> float:
        """How long it takes to read, not rounded."""
        formulas = "\n\n".join(self.markdown).count("$$") // 2
        return self.words / WORDS_A_MINUTE + formulas + len(self.images)

    @property
    def seconds(self) -> int | None:
        """The CPU time of its last execution; None before one."""
        return self.notebook.metadata.get("metagan", {}).get("seconds")


class Images(HTMLParser):
    def __init__(self):
        super().__init__()
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        if tag == "img":
            self.alts.append((dict(attributes).get("alt") or "").strip())


def find() -> list[Path]:
    """The chapters: notebooks with a number from 01."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def chapters() -> list[Path]:
    return [path for path in find() if not path.name.startswith("00")]


def times(paths: list[Path], start: Path) -> str:
    """A Markdown table of what each notebook takes, with links relative to `start`."""
    rows = [
        "| Notebook | words | minutes to read | seconds to run |",
        "|---|--:|--:|--:|",
    ]
    for chapter in map(Chapter, paths):
        link = Path(os.path.relpath(chapter.path, start)).as_posix()
        seconds = "" if chapter.seconds is None else chapter.seconds
        rows.append(
            f"| [{chapter.title}]({link}) | {chapter.words:,} | "
            f"{chapter.minutes:.0f} | {seconds} |"
        )
    return "\n".join(rows)


# The rules. Each says what is wrong, in a sentence for each fault.


def problems(chapter: Chapter) -> list[str]:
    """What breaks the rules; nothing where all is well."""
    rules = (opening, length, time, sections, equations, decimals, figures, self_check)
    return [problem for rule in rules for problem in rule(chapter)]


def opening(chapter: Chapter) -> Iterator[str]:
    first = chapter.markdown[0]
    if not first.startswith(f"# {chapter.number} "):
        yield f"the title begins with `# {chapter.number} `"
    for words in ("The question", "You will", "You need"):
        if f"**{words}" not in first:
            yield f"the first cell says **{words}**"
    link = f"/blob/main/notebooks/{chapter.path.name})"
    if "https://colab.research.google.com/github/" not in first or link not in first:
        yield f"the first cell links to Colab, …{link}"
    if '"google.colab" in sys.modules' not in chapter.code[0]:
        yield "the first code cell is the set-up cell of the quickstart"


def length(chapter: Chapter) -> Iterator[str]:
    if not 1500 <= chapter.words <= 4000:
        yield f"a chapter has 1,500 to 4,000 words, this one {chapter.words}"


def time(chapter: Chapter) -> Iterator[str]:
    line = TIME.search(chapter.markdown[0])
    if line is None:
        yield f"the first cell has a line {TIME.pattern}"
        return
    minutes, seconds = int(line[1]), int(line[2])
    if minutes % 5 or abs(minutes - chapter.minutes) > 0.3 * chapter.minutes:
        yield (
            f"the reading time is a multiple of 5 near {chapter.minutes:.0f} minutes, "
            f"not {minutes}"
        )
    if seconds not in RUN_SECONDS:
        yield f"the run time is one of {RUN_SECONDS} seconds, not {seconds}"
    if chapter.seconds is None:
        yield "it was not executed: run tools/notebooks.py"
    elif chapter.seconds > seconds:
        yield f"it ran for {chapter.seconds} s, and says under {seconds} seconds"


def sections(chapter: Chapter) -> Iterator[str]:
    text = "\n\n".join(chapter.markdown)
    found = re.findall(r"^## (.*?)\s*$", text, re.MULTILINE)
    if found[-4:] != LAST_SECTIONS:
        yield f"the last sections are {LAST_SECTIONS}, not {found[-4:]}"
    student = f"(exercises/{chapter.number:02d}_student.ipynb)"
    if student not in text.rpartition("## Exercises")[2]:
        yield f"the section Exercises links to {student}"
    if re.search(r"\]\([^)]*_(solutions|master)\.ipynb", text):
        yield "there is no link to solutions, which a teacher may leave out"


def equations(chapter: Chapter) -> Iterator[str]:
    tags = chapter.tags
    expected = [f"{chapter.number}.{i}" for i in range(1, len(tags) + 1)]
    if tags != expected:
        yield f"equations are numbered {expected}, not {tags}"
    for tag in tags:
        if not any(f"({tag})" in cell for cell in chapter.code):
            yield f"a code cell that checks equation ({tag}) names it"
    tested = [name.replace("_", ".") for name in equation_tests(chapter)]
    for tag in tags:
        if tag not in tested:
            yield f"a test of equation ({tag}) begins test_{tag.replace('.', '_')}_"
    for name in tested:
        if name not in tags:
            yield f"a test of equation ({name}), which the chapter does not have"


def equation_tests(chapter: Chapter) -> list[str]:
    """What follows `test_` in the tests of the chapter's equations: `1_2`."""
    name = f"test_ch{chapter.number:02d}.py"
    path = chapter.path.parents[1] / "tests" / "equations" / name
    if not path.exists():
        return []
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    numbers = [re.match(r"test_(\d+_\d+)_", name) for name in names]
    return [m[1] if m else name for m, name in zip(numbers, names)]


def decimals(chapter: Chapter) -> Iterator[str]:
    text = REFERENCE.sub(" ", LINK.sub(" ", chapter.text))
    for line in text.splitlines():
        for number in re.findall(NUMBER, line):
            yield f"a number in prose is printed by a cell: {number} in {line!r}"


def figures(chapter: Chapter) -> Iterator[str]:
    if not chapter.images:
        yield "there is a figure"
    if "" in chapter.images:
        yield "each figure has an alternative text: show it with plots.show"
    for source in chapter.markdown:
        if "![](" in source:
            yield "each image in Markdown has an alternative text"


def self_check(chapter: Chapter) -> Iterator[str]:
    text = "\n\n".join(chapter.markdown).partition("\n## Self-check\n")[2]
    text = text.partition("\n## ")[0]
    questions = list(QUESTION.finditer(text))
    if [q["number"] for q in questions] != list("12345"):
        yield f"the self-check has questions 1 to 5, {len(questions)} are in form"
        return
    if QUESTION.sub("", text[text.index("**1.") :]).strip():
        yield "the self-check holds nothing between and after its questions"
    answers = []
    for question in questions:
        where = f"question {question['number']} of the self-check"
        options = "".join(
            re.findall(r"^- ([A-Z])\.", question["options"], re.MULTILINE)
        )
        if options not in ("ABC", "ABCD"):
            yield f"{where} has options A, B, C and perhaps D, not {options}"
        bold = re.findall(r"\*\*([A-Z])\.\*\*", question["answer"])
        if len(bold) != 1 or bold[0] not in options:
            yield f"{where} has one bold letter of {options} in its answer, not {bold}"
        elif len(question["answer"].split()) < 5:
            yield f"{where} explains its answer"
        answers += bold
    if len(set(answers)) < 2:
        yield "the right letter varies in the self-check"


def main(arguments: list[str]) -> int:
    found = 0
    for path in map(Path, arguments) if arguments else chapters():
        chapter = Chapter(path)
        print(
            f"{path.name}: {chapter.words} words, {len(chapter.tags)} equations, "
            f"{len(chapter.images)} figures, {chapter.minutes:.0f} minutes to read, "
            f"{chapter.seconds} s to run"
        )
        for problem in problems(chapter):
            print(f"  {problem}")
            found += 1
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
