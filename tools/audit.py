"""Lighthouse on pages of the built book, in a desktop browser: `make audit`.

Each page is measured five times and the median counts, for timings vary. A page of
prose should reach 0.95 for performance and 1.0 for accessibility, a page with widgets
0.90 and 1.0. Lighthouse comes by npm; Chromium or Chrome must be installed.

Times say something about this machine too: run it while nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from chromium import program, served

ROOT = Path(__file__).resolve().parents[1]
LIGHTHOUSE = "lighthouse@13.5.0"
PROSE, WIDGETS = (0.95, 1.0), (0.90, 1.0)
# page → least performance, least accessibility
PAGES = {
    "book/intro": PROSE,
    "book/preface": PROSE,
    "book/evidence": PROSE,
    "book/errors_in_print": PROSE,
    "notebooks/exercises/06_student": PROSE,
    "notebooks/00_quickstart": WIDGETS,
    "notebooks/02_why_training_oscillates": WIDGETS,
    "notebooks/10_meta_dirac_gan": WIDGETS,
}


def scores(address: str) -> tuple[float, float]:
    """Lighthouse's performance and accessibility of a page, each in [0, 1]."""
    command = ["npx", "--yes", LIGHTHOUSE, address, "--quiet", "--output=json"]
    command += ["--preset=desktop", "--only-categories=performance,accessibility"]
    command += ["--chrome-flags=--headless=new --no-sandbox"]
    environment = {**os.environ, "CHROME_PATH": program()}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        sys.exit(f"audit: Lighthouse failed on {address}: {last[0]}")
    categories = json.loads(done.stdout)["categories"]
    return tuple(categories[c]["score"] for c in ("performance", "accessibility"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("pages", nargs="*", help="pages whose names contain a word")
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if not (arguments.html / "index.html").exists():
        sys.exit(f"audit: expected a built book in {arguments.html}: run `make book`")
    wanted = {
        page: least
        for page, least in PAGES.items()
        if not arguments.pages or any(word in page for word in arguments.pages)
    }
    failed = 0
    with served(arguments.html, kept=True) as site:
        for page, least in wanted.items():
            runs = [scores(f"{site}{page}.html") for _ in range(arguments.runs)]
            found = [statistics.median(values) for values in zip(*runs)]
            good = all(f >= w for f, w in zip(found, least))
            failed += not good
            print(
                f"{'✓' if good else '✗'} {page}: performance {found[0]:.2f} (at least "
                f"{least[0]:.2f}), accessibility {found[1]:.2f} ({least[1]:.2f})",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
