"""The engine's modules in Node and in Chromium, called with the same inputs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "book" / "playground"

NODE = """import fs from "node:fs";
const f = FUNCTION;
const answer = await f(JSON.parse(fs.readFileSync(0)));
fs.writeFileSync(1, JSON.stringify(answer));
"""


@pytest.fixture(scope="module", params=["node", "chromium"])
def javascript(request) -> Iterator[Callable[[str, dict], Any]]:
    """(source of an async function, its argument) → what it returns.

    The argument gets `base`, the address of the engine's modules.
    """
    if request.param == "node":
        node = shutil.which("node")
        if node is None:
            pytest.skip("no Node.js here")

        def call(function: str, argument: dict) -> Any:
            text = json.dumps({**argument, "base": SOURCE.as_uri()})
            done = subprocess.run(
                [node, "--input-type=module", "-e", NODE.replace("FUNCTION", function)],
                input=text,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        yield call
        return
    page = request.getfixturevalue("browser").new_page()
    with chromium.served(ROOT) as address:  # the engine uses modules of the library
        base = f"{address}{SOURCE.relative_to(ROOT).as_posix()}"
        page.goto(f"{base}/package.json")
        yield lambda function, argument: page.evaluate(
            function, {**argument, "base": base}
        )
    page.close()
