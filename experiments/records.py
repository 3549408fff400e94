"""What the experiments share: parts that are kept on disk, and rows for a record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metagan_lite.evaluate import Scorecard
from metagan_lite.io import write_atomically


def kept_json(path: Path, make: Callable[[], Any]) -> Any:
    """What a JSON file holds, made and written first if it is missing."""
    if not path.exists():
        write_atomically(path, (json.dumps(make(), indent=1) + "\n").encode())
    return json.loads(path.read_text(encoding="utf-8"))


def read_record(path: Path, what: str, command: str) -> Any:
    """The content of a record.

    Raises:
        FileNotFoundError: when there is none, naming the command that makes it.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"expected the record of {what}, found no {path.name}; run {command}"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def rows_of(card: Scorecard, *methods: str) -> list[dict[str, Any]]:
    """The rows of some methods, as JSON has them."""
    return [row for row in card.to_record()["rows"] if row["method"] in methods]
