"""Move every link of this repository to a fork.

    make repoint URL=https://github.com/you/your-fork

The address of the repository stands once as a setting, `repository.url` in
`_config.yml`. Badges, install lines, CITATION.cff, pyproject.toml and the README
must repeat it. This reads the setting and rewrites every text file that repeats
it. Running it twice changes nothing more.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED_AT_ROOT = {"_build", "build", "data", "dist", "runs"}
SKIPPED_ANYWHERE = {"__pycache__", "node_modules"}
HIDDEN_BUT_OURS = {".ci", ".github"}


def text_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Every UTF-8 file of the repository with its text, builds and data left out."""
    for folder, folders, names in os.walk(root):
        top = Path(folder) == root
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED_ANYWHERE
            and not (top and name in SKIPPED_AT_ROOT)
            and not name.endswith(".egg-info")
            and not (name.startswith(".") and name not in HIDDEN_BUT_OURS)
            # A virtual environment, whatever its name.
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            path = Path(folder) / name
            try:
                # Bytes, not read_text: line endings stay as they are.
                yield path, path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue


def owner_and_name(url: str) -> tuple[str, str]:
    """Split a GitHub address; ValueError for any other, since Colab needs GitHub."""
    match = re.fullmatch(
        r"https://github\.com/([\w-]+)/([\w.-]+?)(?:\.git)?/?", url.strip()
    )
    if match is None:
        raise ValueError(
            f"expected https://github.com/OWNER/NAME, got {url!r}: run "
            "make repoint URL=https://github.com/OWNER/NAME"
        )
    return match[1], match[2]


def current_url(root: Path) -> str:
    """The setting `repository.url` of _config.yml."""
    config = (root / "_config.yml").read_text(encoding="utf-8")
    match = re.search(r"^repository:\n(?:[ #].*\n)*?  url: (\S+)", config, re.MULTILINE)
    if match is None:
        raise ValueError("_config.yml: expected a line `url:` below `repository:`")
    return match[1]


def repoint(root: Path, url: str) -> list[Path]:
    """Rewrite the address in all files below `root`; return the changed files."""
    old_owner, old_name = owner_and_name(current_url(root))
    owner, name = owner_and_name(url)
    # github.com/OWNER/NAME, Colab's github/OWNER/NAME, Binder's gh/OWNER/NAME.
    slug = re.compile(
        rf"(github\.com[/:]|/github/|/gh/){re.escape(old_owner)}/{re.escape(old_name)}"
        r"(?![\w-])"
    )
    pages = re.compile(
        rf"{re.escape(old_owner)}\.github\.io/{re.escape(old_name)}(?![\w-])"
    )
    changed = []
    for path, text in text_files(root):
        new = slug.sub(rf"\g<1>{owner}/{name}", text)
        new = pages.sub(f"{owner}.github.io/{name}", new)
        if new != text:
            path.write_bytes(new.encode("utf-8"))
            changed.append(path)
    return changed


def main(arguments: list[str]) -> int:
    try:
        (url,) = arguments or [""]
        changed = repoint(ROOT, url)
    except ValueError as error:
        sys.exit(f"repoint: {error}")
    for path in changed:
        print(path.relative_to(ROOT).as_posix())
    print(f"repoint: {len(changed)} file(s) changed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
