"""Check that a tag is what the repository says, and write the notes of its release.

python tools/release.py v1.2.3    # writes dist/NOTES.md, from CHANGELOG.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def notes(tag: str, version: str, changelog: str) -> str:
    """The part of the changelog on this version.

    Raises:
        ValueError: the tag is not `v` and the version, or the changelog has no dated
            section of it.
    """
    if tag != f"v{version}":
        raise ValueError(
            f"expected the tag v{version}, as pyproject.toml has it, got {tag!r}"
        )
    head = rf"^## \[{re.escape(version)}\] – (\S+)\n"
    match = re.search(head + r"(.*?)(?=^## |^\[|\Z)", changelog, re.M | re.S)
    if match is None or not re.fullmatch(r"\d{4}-\d\d-\d\d", match[1]):
        found = match[1] if match else "no such section"
        raise ValueError(
            f"CHANGELOG.md: expected a line `## [{version}] – YYYY-MM-DD`, got {found}"
        )
    return match[2].strip() + "\n"


def main(arguments: list[str]) -> int:
    if not arguments:
        return 0
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', text, re.M)[1]
    try:
        found = notes(arguments[0], version, (ROOT / "CHANGELOG.md").read_text("utf-8"))
    except ValueError as error:
        sys.exit(f"release: {error}")
    target = ROOT / "dist" / "NOTES.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(found, encoding="utf-8")
    print(f"release: notes of {arguments[0]} in dist/NOTES.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
