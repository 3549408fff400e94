"""Run notebooks as Colab does: `make colab-test`.

Colab has no copy of this repository: it opens one notebook, and the set-up cell
installs the package. So the package is built as a wheel and installed into a fresh
environment; each notebook is copied alone into an empty folder, its set-up cell is
pointed at the wheel, `google.colab` stands in `sys.modules`, and every cell must run.

`--torch fresh` lets pip install everything. `--torch inherit` finds torch and the rest
in the environment that runs this, as Colab has a torch of its own. `--torch here` makes
no environment: it is for Colab's public runtime image, where this Python is Colab's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SET_UP = "%pip install -q git+"
STUB = """
import sys, types
for name in ("google", "google.colab"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["google"].colab = sys.modules["google.colab"]
"""
# What Colab brings besides torch: a kernel. `nbclient` drives it from outside.
KERNEL = ["pip", "ipykernel", "ipywidgets"]


def build_wheel(folder: Path) -> Path:
    """The package of this repository as a wheel in `folder`."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        + ["--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(folder: Path, torch: str) -> Path:
    """An environment with a kernel; returns its Python."""
    if torch == "here":
        return Path(sys.executable)
    flags = ["--system-site-packages"] if torch == "inherit" else []
    subprocess.run([sys.executable, "-m", "venv", *flags, str(folder)], check=True)
    python = folder / "bin" / "python"
    if torch == "inherit":
        # What this Python has, without its editable copy of the package.
        (site,) = folder.glob("lib/python*/site-packages")
        parent = next(p for p in map(Path, sys.path) if (p / "torch").is_dir())
        (site / "parent.pth").write_text(f"{parent}\n", encoding="utf-8")
    else:
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *KERNEL], check=True
        )
    return python


def pointed_at(notebook: dict, install: str) -> dict:
    """The notebook with `install` in its set-up cell; ValueError if it has none."""
    changed = 0
    for cell in notebook["cells"]:
        lines = "".join(cell["source"]).splitlines()
        if cell["cell_type"] == "code" and any(SET_UP in line for line in lines):
            changed += 1
            cell["source"] = "\n".join(
                line.partition(SET_UP)[0] + install if SET_UP in line else line
                for line in lines
            )
    if changed != 1:
        raise ValueError(f"expected one set-up cell with {SET_UP!r}, found {changed}")
    return notebook


def run(path: Path, install: str, python: Path, folder: Path) -> None:
    """Execute a notebook alone; its error leaves as nbclient's CellExecutionError."""
    import nbformat
    from jupyter_client import KernelManager
    from nbclient import NotebookClient

    folder.mkdir()
    notebook = pointed_at(nbformat.read(path, as_version=4), install)
    # Colab's own modules are there before the first cell.
    (folder / "stub.py").write_text(STUB, encoding="utf-8")
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%run -i stub.py"))
    probe = "import metagan_lite; print(metagan_lite.__file__)"
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    manager = KernelManager()
    manager.kernel_spec.argv = [
        str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}",
    ]  # fmt: skip
    # The wheel that pip installs must be the one that is imported, not a checkout.
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    client = NotebookClient(
        notebook, km=manager, timeout=900, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env={**clean, "OMP_NUM_THREADS": "1"}, cwd=str(folder))
    where = notebook.cells[-1].outputs[0].text.strip()
    if not Path(where).is_relative_to(python.parents[1]):
        raise RuntimeError(f"{path.name}: expected the wheel, imported {where}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument(
        "--torch", choices=("fresh", "inherit", "here"), default="fresh"
    )
    arguments = parser.parse_args()
    folder = ROOT / "notebooks"
    paths = arguments.notebooks or [
        *sorted(folder.glob("*.ipynb")),
        *sorted(folder.glob("exercises/*_student.ipynb")),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        install = f"%pip install -q {build_wheel(temporary / 'wheel')}"
        if (
            arguments.torch == "inherit"
        ):  # pip sees the parent's copy, and would keep it
            install += " --force-reinstall --no-deps"
        python = environment(temporary / "colab", arguments.torch)
        for path in paths:
            start = time.perf_counter()
            run(path, install, python, temporary / path.stem)
            print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
