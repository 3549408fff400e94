"""Execute notebooks in place, with outputs and widget state, in a stable form.

    python tools/notebooks.py [notebook or folder ...]

What changes from run to run without meaning (time stamps, the interpreter's
version, random widget ids) is removed or numbered, so that a diff shows what
changed. A notebook that fails is left as it was. How many seconds of CPU time it took
is kept in its metadata, and changes only where the difference is large.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 900  # seconds for one cell
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def find(arguments: list[str]) -> list[Path]:
    """The notebooks that the arguments name; all below `notebooks/` without any.

    Of a folder, those to execute: masters of exercises are not among them.
    """
    found = []
    for path in map(Path, arguments or [str(ROOT / "notebooks")]):
        if path.is_dir():
            found += sorted(
                notebook
                for notebook in path.rglob("*.ipynb")
                if ".ipynb_checkpoints" not in notebook.parts
                and not notebook.stem.endswith("_master")
            )
        elif path.suffix == ".ipynb" and path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(
                f"expected a notebook or a folder of notebooks, got {path}"
            )
    return found


def stable(notebook: nbformat.NotebookNode, name: str) -> str:
    """The notebook as JSON text, without what varies from run to run."""
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    leave_stills(notebook)
    text = nbformat.writes(notebook)
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for number, model in enumerate(state):
        text = text.replace(model, hashlib.md5(f"{name} {number}".encode()).hexdigest())
    # Once more through nbformat, which sorts the models by their new ids.
    text = nbformat.writes(nbformat.reads(text, as_version=4))
    return text.rstrip("\n") + "\n"


def leave_stills(notebook: nbformat.NotebookNode) -> None:
    """Of a widget that needs a kernel keep the picture, which pages can show.

    An anywidget brings a script of its own, for which a page would ask another host.
    """
    stored = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    gone = {
        k for k, model in stored.items() if model.get("model_module") == "anywidget"
    }
    # Its layout, which nothing else refers to.
    layouts = {stored[k].get("state", {}).get("layout", "") for k in gone}
    for model in gone | {layout.removeprefix("IPY_MODEL_") for layout in layouts}:
        stored.pop(model, None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(WIDGET_VIEW, {})
            if view.get("model_id") in gone:
                del output["data"][WIDGET_VIEW]


def remember_seconds(notebook: nbformat.NotebookNode, seconds: float) -> None:
    """Store the CPU time, unless what is stored is right within 30 % and a second."""
    record = notebook.metadata.setdefault("metagan", {})
    stored = record.get("seconds", 0)
    if not stored or abs(seconds - stored) > 0.3 * stored + 1:
        record["seconds"] = max(1, round(seconds))


def children_seconds() -> float:
    """CPU time of all processes that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def execute(path: Path) -> None:
    """Run one notebook and write it back; RuntimeError names the cell that failed."""
    notebook = nbformat.read(path, as_version=4)
    started, before = -1, children_seconds()

    def remember(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal started
        started = cell_index

    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        store_widget_state=True,
        record_timing=False,
        on_cell_start=remember,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}"
    except CellTimeoutError:
        reason = f"still running after {TIMEOUT} s"
    except DeadKernelError:
        reason = "the kernel died"
    else:
        reason = ""
    if reason:
        raise RuntimeError(f"{path}, cell {started + 1}: {' '.join(reason.split())}")
    remember_seconds(notebook, children_seconds() - before)
    temporary = path.with_suffix(".ipynb.tmp")
    temporary.write_text(stable(notebook, path.name), encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def main(arguments: list[str]) -> int:
    try:
        for path in find(arguments):
            print(path, flush=True)
            execute(path)
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(f"notebooks: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
