"""How fast the built book is, in a desktop browser: `make audit`.

Each page is measured five times and the median counts, for timings vary. By Lighthouse
a page of prose should reach 0.95 for performance and 1.0 for accessibility, a page with
widgets 0.90 and 1.0. The playground should be usable within 2 s after it is started,
and take an inner step within 50 ms. Lighthouse comes by npm, playwright by the extra
`pdf`; Chromium or Chrome must be installed.

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

PLAYGROUND = "book/playground"
START, STEP = 2000, 50  # most milliseconds

# Starts it, takes the drawings of a character and adapts at the default settings.
PLAY = """async () => {
  const root = document.getElementById("playground");
  const named = (name) => [...root.querySelectorAll("button")].find(
    (button) => button.textContent === name && button.checkVisibility());
  const until = async (found) => {
    while (!found()) await new Promise((done) => requestAnimationFrame(done));
  };
  let before = performance.now();
  named("Start").click();
  await until(() => named("Adapt"));
  const start = performance.now() - before;
  named("Take its drawings").click();
  await until(() => root.querySelector(".pg-examples li"));
  const adapted = new Promise((done) =>
    root.addEventListener("adapted", done, { once: true }));
  before = performance.now();
  named("Adapt").click();
  const { steps } = (await adapted).detail;
  const all = (performance.now() - before) / steps;
  const rows = {};
  for (const { name, duration } of performance.getEntriesByType("measure"))
    rows[name] = (rows[name] ?? 0) + duration / steps;
  return { start, all, rows };
}"""


def playground(site: str, runs: int) -> list[tuple[str, float, float]]:
    """What was timed in the playground: name, median and most milliseconds.

    An inner step of all rows is one with drawing them and their curves, the mean over
    the steps of a run; that of a row is computation alone.
    """
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program())
        for _ in range(runs):
            page = browser.new_context().new_page()  # nothing is kept from before
            page.goto(f"{site}{PLAYGROUND}.html", wait_until="networkidle")
            found.append(page.evaluate(PLAY))
            page.context.close()
        browser.close()
    median = statistics.median
    rows = {
        name: median(run["rows"][name] for run in found) for name in found[0]["rows"]
    }
    return [
        ("start", median(run["start"] for run in found), START),
        ("inner step of all rows, shown", median(run["all"] for run in found), STEP),
        *((name, time, STEP) for name, time in rows.items()),
    ]


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

    def named(page: str) -> bool:
        return not arguments.pages or any(word in page for word in arguments.pages)

    wanted = {page: least for page, least in PAGES.items() if named(page)}
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
        if named(PLAYGROUND):
            for what, time, most in playground(site, arguments.runs):
                failed += time >= most
                print(
                    f"{'✓' if time < most else '✗'} {PLAYGROUND}, {what}: {time:.0f} ms"
                    f" (less than {most})",
                    flush=True,
                )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
