"""Fixtures shared by the tests."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A data folder with real files: MNIST's test split and Omniglot's small sets.

    Prepared from the folder METAGAN_DATA, whose MNIST files may be gzipped; the
    files of MNIST's training split, which torchvision insists on, are empty.
    """
    source = Path(os.environ.get("METAGAN_DATA", "")).expanduser()
    raw, small = source / "MNIST" / "raw", source / "omniglot-small"
    if "METAGAN_DATA" not in os.environ or not (raw.is_dir() and small.is_dir()):
        pytest.skip(
            "set METAGAN_DATA to a folder with MNIST/raw/t10k-*-ubyte(.gz) and "
            "omniglot-small/*.zip to test real files"
        )
    target = tmp_path / "data" / "MNIST" / "raw"
    target.mkdir(parents=True)
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        file = raw / f"t10k-{kind}"
        if file.is_file():
            shutil.copy(file, target)
        else:
            content = gzip.decompress((raw / f"{file.name}.gz").read_bytes())
            (target / file.name).write_bytes(content)
        (target / f"train-{kind}").touch()
    shutil.copytree(small, tmp_path / "data" / "omniglot-small")
    return tmp_path / "data"


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device at hand."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return torch.device(request.param)


# --- a browser, and the built book as it is served ---------------------------


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built book."""
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: make book")
    with chromium.served(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium or Chrome: the one that CHROMIUM names, else the system's.

    Closed after each module: its event loop would be in the way of other tests.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    path = chromium.find()
    if path is None:
        pytest.skip("no Chromium here: install it, or name it in CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()
