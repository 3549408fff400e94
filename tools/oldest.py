"""Print the oldest supported versions as pip constraints, from pyproject.toml.

python tools/oldest.py > oldest.txt && PIP_CONSTRAINT=oldest.txt make test
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOWER = re.compile(r'"([\w-]+)>=([\d.]+)')


def oldest(pyproject: str) -> list[str]:
    """`name==version` for each requirement with a lower bound of the package itself."""
    part = re.search(r"^dependencies = \[(.*?)^\]", pyproject, re.M | re.S)[1]
    return [f"{name}=={version}" for name, version in LOWER.findall(part)]


def main() -> int:
    print(*oldest((ROOT / "pyproject.toml").read_text(encoding="utf-8")), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
