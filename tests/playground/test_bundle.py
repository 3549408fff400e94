"""The page's modules as one script."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundle(tmp_path):
    """Modules by name → their bundle."""
    path = ROOT / "book" / "_ext" / "playground_page.py"
    spec = importlib.util.spec_from_file_location("playground_page", path)
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)

    def bundle(**modules: str) -> str:
        for name in page.FILES:
            (tmp_path / f"{name}.safetensors").write_bytes(b"weights")
        for name, text in modules.items():
            (tmp_path / f"{name}.js").write_text(text, encoding="utf-8")
        return page.bundle(tmp_path, entry="page")

    return bundle


def test_what_is_imported_comes_first_and_once(bundle):
    text = bundle(
        page='import { b } from "./b.js";\nimport { a } from "./a.js";\nb(a);\n',
        b='import { a } from "./a.js";\nexport const b = (x) => x + a;\n',
        a="export const a = 1;\n",
    )
    assert text.index("const a = 1") < text.index("const b =") < text.index("b(a);")
    assert text.count("const a = 1") == 1
    assert "import" not in text and "export" not in text


def test_two_modules_may_not_use_one_name(bundle):
    with pytest.raises(ValueError, match="'help' in a.js and page.js"):
        bundle(
            page='import { a } from "./a.js";\nasync function help() {}\n',
            a="function help() {}\nexport const a = 1;\n",
        )


def test_names_in_patterns_count_as_well(bundle):
    with pytest.raises(ValueError, match="'top' in a.js and page.js"):
        bundle(
            page='import { a } from "./a.js";\nconst { top, left } = a;\n',
            a="const [a, top] = [1, 2];\nexport const b = a;\n",
        )


@pytest.mark.parametrize("line", ['import x from "./a.js";', "export { x };"])
def test_other_forms_are_refused(bundle, line):
    with pytest.raises(ValueError, match="page.js: expected `import"):
        bundle(page=f"{line}\n", a="")
