"""Checkpoints that survive a crash, stored results, and where a result was made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import tempfile
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

__all__ = [
    "environment",
    "load_checkpoint",
    "repository",
    "save_checkpoint",
    "stored",
    "write_atomically",
]

_FORMAT = "metagan_lite checkpoint 1"


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all: a temporary neighbour, then a rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)  # the only way to read it
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp lets nobody else read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save_checkpoint(
    folder: str | Path,
    *,
    weights: dict[str, Tensor],
    state: dict[str, Tensor],
    record: dict[str, Any],
) -> None:
    """Write weights, training state and a JSON record into a folder.

    The two tensor files have names of their own, and ``checkpoint.json``, which holds
    the names, is replaced last: whenever the process dies, the folder holds the last
    complete checkpoint.

    Args:
        folder: Created if missing.
        weights: What is needed to use the nets. state: what is needed to go on.
        record: JSON-able; must hold ``"step"``.
    """
    folder = Path(folder)
    files = {}
    for kind, tensors in (("weights", weights), ("state", state)):
        # Clones: tensors that share memory cannot be saved.
        plain = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        content = save(plain)
        digest = hashlib.sha256(content).hexdigest()[:12]
        files[kind] = f"{kind}-{record['step']:07d}-{digest}.safetensors"
        write_atomically(folder / files[kind], content)
    manifest = {"format": _FORMAT, "files": files, **record}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / "checkpoint.json", text.encode())
    for kind in files:  # also temporary files that a killed process left
        for old in [*folder.glob(f"{kind}-*"), *folder.glob(f".{kind}-*")]:
            if old.name not in files.values():
                with contextlib.suppress(OSError):  # Windows: open elsewhere
                    old.unlink()


def load_checkpoint(
    folder: str | Path, *, with_state: bool = True
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote: weights, state, record.

    Args:
        folder: Where it is.
        with_state: Whether to read the state, which using the nets does not need; a
            published checkpoint may come without it. Otherwise it is empty.

    Raises:
        FileNotFoundError: when there is no checkpoint in the folder.
        ValueError: when a file is truncated or not a checkpoint.
    """
    folder = Path(folder)
    manifest = folder / "checkpoint.json"
    if not manifest.exists():
        raise FileNotFoundError(
            f"expected a checkpoint in '{folder}', found no checkpoint.json; pass the"
            " folder that train_meta_gan(checkpoint=…) wrote"
        )
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        kinds = ("weights", "state") if with_state else ("weights",)
        files = [folder / record["files"][kind] for kind in kinds]
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']!r}, not {_FORMAT!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected a checkpoint record, got a broken '{manifest}' ({error}); the"
            " file is truncated or not ours: use another copy, or train again"
        ) from error
    tensors = []
    for path in files:
        try:
            tensors.append(load(path.read_bytes()))
        except (SafetensorError, FileNotFoundError) as error:
            raise ValueError(
                f"expected tensors in '{path}', got a truncated or missing file"
                f" ({error}); use another copy, or train again"
            ) from error
    return tensors[0], tensors[1] if with_state else {}, record


def repository() -> str:
    """The address of the repository, as pyproject.toml had it at installation."""
    urls = metadata.metadata("metagan-lite").get_all("Project-URL")
    return dict(url.split(", ", 1) for url in urls)["Homepage"]


def stored(name: str) -> Path:
    """A file of the repository's folder ``results/``, such as a record or weights.

    In a checkout it is the file itself. An installed package does not hold the results:
    there the file is fetched once from the main branch of :func:`repository`, and kept
    in the folder that the environment variable ``METAGAN_RESULTS`` names, by default
    ``~/.cache/metagan_lite/results``.

    Args:
        name: Relative to ``results/``, as ``"omniglot-20/scorecard.json"``.

    Raises:
        FileNotFoundError: when the checkout has no such file.
        ConnectionError: when it cannot be fetched.
    """
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").exists():
        path = root / "results" / name
        if not path.exists():
            raise FileNotFoundError(
                f"expected the stored result 'results/{name}', found none; restore it"
                " with git checkout -- results"
            )
        return path
    kept = os.environ.get("METAGAN_RESULTS") or "~/.cache/metagan_lite/results"
    path = Path(kept).expanduser() / name
    if not path.exists():
        url = f"{repository()}/raw/main/results/{name}"
        try:
            with urlopen(url, timeout=60) as answer:
                content = answer.read()
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ConnectionError(
                f"{url} could not be fetched ({reason}): check the network, or run the"
                " notebook in a clone of the repository"
            ) from None
        write_atomically(path, content)
    return path


def environment() -> dict[str, Any]:
    """Where a result was made: versions, hardware, threads, commit (if in a clone)."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "gpu": device,
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):  # no git here
            return ""
        return found.stdout.strip()

    # An installed copy may lie inside some other repository.
    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=12") or None
