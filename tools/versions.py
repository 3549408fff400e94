"""List the versions of a site: `python tools/versions.py _build/html`.

The root of the folder is the book as it is developed; a released version lies below
it in a folder named like its tag, `v1.2.0`. This writes the same `versions.json` into
each, newest first, which `book/_static/versions.js` offers as a choice.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


def versions(site: Path) -> list[dict[str, str]]:
    """Names and folders, from the root of the site: the development version first."""
    tags = [
        path.name
        for path in site.iterdir()
        if TAG.fullmatch(path.name) and (path / "index.html").exists()
    ]
    tags.sort(key=lambda tag: [int(n) for n in TAG.fullmatch(tag).groups()])
    return [
        {"name": "development", "folder": ""},
        *({"name": tag, "folder": f"{tag}/"} for tag in reversed(tags)),
    ]


def write(site: Path) -> int:
    """Write the list into every version; returns how many there are."""
    found = versions(site)
    for here in found:
        content = [{**version, "here": version is here} for version in found]
        path = site / here["folder"] / "versions.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return len(found)


def main(arguments: list[str]) -> int:
    site = Path(arguments[0]) if len(arguments) == 1 else None
    if site is None or not (site / "index.html").exists():
        sys.exit(f"versions: expected the folder of a built book, got {arguments}")
    print(f"versions: {write(site)} in {site}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
