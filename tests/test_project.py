"""The frame of the repository: what is written in two places must agree."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import repoint
import yaml

ROOT = Path(__file__).resolve().parents[1]
CAPS = {"jupyter-book", "sphinx-book-theme", "pydata-sphinx-theme"}
CONDA_NAMES = {"pytorch": "torch"}
NOTEBOOKS = [
    path
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
    and not path.stem.endswith("_master")  # the source of two others, not executed
]
# Directives, fences with colons, and roles: Colab and GitHub show them raw.
MYST = re.compile(r"^\s*:::|^\s*(```|~~~)\{|\{[a-z:]+\}`", re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def strings_in_toml(name: str) -> list[str]:
    """The strings of one array of pyproject.toml (tomllib needs Python 3.11)."""
    (array,) = re.findall(
        rf"^{name} = (\[.*?\])$", read("pyproject.toml"), re.MULTILINE | re.DOTALL
    )
    return ast.literal_eval(array)


def requirements(names: list[str]) -> dict[str, str]:
    """Distribution → version bounds, the package's own extras left out."""
    found = {}
    for line in names:
        name, extra, bounds = re.fullmatch(
            r"([\w-]+)(\[\w+\])?(.*)", line.replace(" ", "")
        ).groups()
        if extra is None:
            found[name] = bounds
    return found


def chapters(toc: dict) -> list[str]:
    files = [toc["root"]]

    def collect(node: dict) -> None:
        if "file" in node:
            files.append(node["file"])
        for key in ("parts", "chapters", "sections"):
            for child in node.get(key, []):
                collect(child)

    collect(toc)
    return files


# --- requirements -------------------------------------------------------------


def test_environment_yml_repeats_pyproject():
    conda = yaml.safe_load(read("environment.yml"))["dependencies"]
    listed = requirements([line for line in conda if isinstance(line, str)])
    python = listed.pop("python")
    listed.pop("pip")
    listed = {CONDA_NAMES.get(name, name): bounds for name, bounds in listed.items()}
    wanted = [
        line
        for part in ("dependencies", "widgets", "notebook")
        for line in strings_in_toml(part)
        if not line.startswith("metagan-lite")
    ]
    assert listed == requirements(wanted)
    assert f'requires-python = "{python}"' in read("pyproject.toml")
    assert {"pip": ["--editable ."]} in conda


def test_requirements_have_lower_bounds_and_no_caps():
    for extra in ("dependencies", "widgets", "notebook", "book", "test", "lint"):
        for name, bounds in requirements(strings_in_toml(extra)).items():
            assert bounds, f"{name} in {extra} has no lower bound"
            if name not in CAPS:
                assert re.fullmatch(r">=[\d.]+", bounds), f"{name}{bounds} in {extra}"


def test_version_is_the_same_everywhere():
    (version,) = re.findall(r'^version = "(.*)"', read("pyproject.toml"), re.MULTILINE)
    assert f'__version__ = "{version}"' in read("metagan_lite/__init__.py")
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert f"\n## [{version}]" in read("CHANGELOG.md")


# --- the repository's address -------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for path, _ in repoint.text_files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return tmp_path


def test_repoint_reaches_every_link_and_is_idempotent(copy: Path):
    old_url = repoint.current_url(copy)
    owner, _ = repoint.owner_and_name(old_url)
    before = dict(repoint.text_files(copy))

    # A name that begins like the old one would be rewritten twice by a mere prefix.
    url = f"{old_url}-fork".replace(owner, "some-one")
    changed = {path.name for path in repoint.repoint(copy, url)}

    assert changed >= {"_config.yml", "pyproject.toml", "CITATION.cff", "README.md"}
    left = [path for path, text in repoint.text_files(copy) if owner in text]
    assert left == []
    assert repoint.repoint(copy, url) == []

    repoint.repoint(copy, old_url)
    assert dict(repoint.text_files(copy)) == before


def test_repoint_keeps_repositories_with_a_longer_name(tmp_path: Path):
    (tmp_path / "_config.yml").write_text(
        "repository:\n  url: https://github.com/a/b\n", encoding="utf-8"
    )
    page = tmp_path / "page.md"
    page.write_text(
        "https://github.com/a/b.git github.com/a/b-c a.github.io/b/ "
        "colab.research.google.com/github/a/b/x mybinder.org/v2/gh/a/b/main",
        encoding="utf-8",
    )
    repoint.repoint(tmp_path, "https://github.com/x/y/")
    assert page.read_text(encoding="utf-8") == (
        "https://github.com/x/y.git github.com/a/b-c x.github.io/y/ "
        "colab.research.google.com/github/x/y/x mybinder.org/v2/gh/x/y/main"
    )


@pytest.mark.parametrize("url", ["", "https://gitlab.com/a/b", "github.com/a/b"])
def test_repoint_refuses_other_addresses(url: str):
    with pytest.raises(ValueError, match="expected https://github.com/OWNER/NAME"):
        repoint.owner_and_name(url)


# --- files --------------------------------------------------------------------


def test_no_file_names_a_path_of_one_machine():
    machine = re.compile(r"(?<![\w.])/(root|tmp|mnt|home/\w+|Users/\w+)/[\w.]")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in repoint.text_files(ROOT)
        for match in machine.finditer(text)
    ]
    assert found == []


def test_make_targets_in_the_prose_exist():
    makefile = read("Makefile")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets == set(phony.split())
    for name in ("README.md", "CONTRIBUTING.md", "book/how_to_run.md", "book/intro.md"):
        named = set(re.findall(r"(?:`|^)make\s([a-z-]+)", read(name), re.MULTILINE))
        assert named, f"{name} names no target"
        assert named <= targets, f"{name} names unknown targets: {named - targets}"


def test_readme_without_make_runs_what_make_runs():
    makefile = re.sub(r"\s*\\\n\s*", " ", read("Makefile")).replace("$(BIN)/", "")
    makefile = makefile.replace(" $(TOC)", "")  # empty unless SOLUTIONS=no
    readme = read("README.md")
    for tool in ("jupyter-book build", "python -m pytest"):
        (command,) = re.findall(rf"^\t({tool}.*)$", makefile, re.MULTILINE)
        assert command.removesuffix(" --quiet") in readme


# --- the book -----------------------------------------------------------------


def test_toc_and_files_agree():
    listed = chapters(yaml.safe_load(read("_toc.yml")))
    assert len(listed) == len(set(listed))
    for name in listed:
        assert any((ROOT / f"{name}{end}").exists() for end in (".md", ".ipynb")), name
    pages = [*NOTEBOOKS, *(ROOT / "book").glob("*.md")]
    for path in pages:
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        assert name in listed, f"{name} is missing from _toc.yml"


def test_solutions_can_be_left_out(tmp_path: Path):
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n"
        "- file: notebooks/01_game\n  sections:\n"
        "  - file: notebooks/exercises/01_student\n"
        "  - file: notebooks/exercises/01_solutions\n"
        "- file: book/api\n",
        encoding="utf-8",
    )
    (tmp_path / "_build").mkdir()
    (command,) = re.findall(r"^\t(grep.*_toc\.yml.*)$", read("Makefile"), re.MULTILINE)
    subprocess.run(command.replace("$$", "$"), shell=True, cwd=tmp_path, check=True)
    toc = yaml.safe_load((tmp_path / "_build" / "toc.yml").read_text("utf-8"))
    assert chapters(toc) == [
        "book/intro",
        "notebooks/01_game",
        "notebooks/exercises/01_student",
        "book/api",
    ]


def test_only_solutions_name_solutions():
    """A page that links to them could not be built without them."""
    pages = [*NOTEBOOKS, *(ROOT / "book").glob("*.md")]
    for path in pages:
        if not path.stem.endswith("_solutions"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\]\([^)\s]*_solutions\.ipynb", text), path.name


def test_api_page_lists_every_module_after_those_it_imports():
    page = read("book/api.md")
    listed = re.findall(r"automodule:: metagan_lite\.(\w+)$", page, re.MULTILINE)
    modules = {p.stem: p for p in (ROOT / "metagan_lite").glob("*.py")}
    modules.pop("__init__")
    modules["checks"] = ROOT / "metagan_lite" / "checks" / "__init__.py"
    assert sorted(listed) == sorted(modules)
    for position, name in enumerate(listed):
        level = 2 if modules[name].name == "__init__.py" else 1
        for node in ast.walk(ast.parse(modules[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == level:
                names = [alias.name for alias in node.names]
                below = {node.module} if node.module else set(names)
                below -= set(listed[:position])
                assert not below, f"{name} imports {below}, which api.md lists below"


# --- notebooks ----------------------------------------------------------------


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_ready_to_commit(path: Path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    counts = []
    for number, cell in enumerate(notebook["cells"], start=1):
        where = f"{path.name}, cell {number}"
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            found = MYST.search(source)
            assert found is None, f"{where}: MyST syntax {found and found[0]!r}"
        elif cell["cell_type"] == "code":
            for line in source.splitlines():
                assert len(line) <= 78, f"{where}: {len(line)} columns: {line}"
            kinds = [output["output_type"] for output in cell["outputs"]]
            assert "error" not in kinds, f"{where} holds an error"
            assert "execution" not in cell["metadata"], f"{where}: run `make notebooks`"
            counts.append(cell["execution_count"])
    assert counts == list(range(1, len(counts) + 1)), (
        f"{path.name}: cells were not executed in order; run `make notebooks`"
    )
