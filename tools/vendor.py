"""Put the scripts that the book's pages and their tests need beside the pages.

A page with formulas or widgets loads MathJax, require.js and the widget manager.
This downloads pinned copies with npm into `_build/vendor`, once, so that the
pages ask nothing of other hosts; `book/_ext/course.py` makes the book use them.
Without npm or without a network the pages load the same scripts from public
CDNs instead, and one line says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENDOR = ROOT / "_build" / "vendor"
PINS = VENDOR / "pins.json"  # written last: its presence says that all is there

# folder below _build/vendor: (npm package, sha512 of its tarball, what to keep)
PACKAGES = {
    "html/_static/vendor/mathjax": (
        "mathjax@3.2.2",
        "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1v"
        "O+geW0OhGw==",
        [
            "LICENSE",
            "es5/a11y/",
            "es5/input/tex/extensions/",
            "es5/output/chtml/fonts/",
            "es5/sre/mathmaps/base.json",
            "es5/sre/mathmaps/en.json",
            "es5/sre/mathmaps/nemeth.json",
            "es5/tex-mml-chtml.js",
        ],
    ),
    "html/_static/vendor/requirejs": (
        "requirejs@2.3.8",
        "7/cTSLOdYkNBNJcDMWf+luFvMriVm7eYxp4BcFCsAX0wF421Vyce5SXP17c+Jd5otXKGNehIonFl"
        "yQXSowL6Mw==",
        ["require.js"],
    ),
    "html/_static/vendor/html-manager": (
        "@jupyter-widgets/html-manager@1.0.15",
        "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp"
        "47bCrJ3CQA==",
        ["dist/embed-amd.js"],
    ),
    # Not served: tests/browser asks it about every page.
    "axe-core": (
        "axe-core@4.14.1",
        "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe"
        "37OgudVGtQ==",
        ["axe.min.js"],
    ),
}


def download(npm: str, package: str, sha512: str, folder: Path) -> Path:
    """The tarball of an npm package; ValueError where it is not the pinned one."""
    folder.mkdir()
    subprocess.run(
        [npm, "pack", "--silent", "--pack-destination", str(folder), package],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    (tarball,) = folder.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != sha512:
        raise ValueError(
            f"{package}: expected sha512-{sha512}, got sha512-{found}; look at what "
            "changed before you change the pin in tools/vendor.py"
        )
    return tarball


def unpack(tarball: Path, keep: list[str], target: Path) -> None:
    """Copy the files of `package/` that `keep` names (a folder ends in `/`)."""
    with tarfile.open(tarball) as archive:
        for member in archive.getmembers():
            name = member.name.removeprefix("package/")
            if member.isfile() and any(
                name == kept or (kept.endswith("/") and name.startswith(kept))
                for kept in keep
            ):
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())


def vendor(npm: str) -> None:
    """Fill `_build/vendor`, all or nothing."""
    VENDOR.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=VENDOR.parent) as temporary:
        new = Path(temporary) / "vendor"
        for folder, (package, sha512, keep) in PACKAGES.items():
            tarballs = Path(temporary) / Path(folder).name
            tarball = download(npm, package, sha512, tarballs)
            # Sphinx copies the tree below `html` into the book's root.
            unpack(tarball, keep, new / folder)
        (new / PINS.name).write_text(json.dumps(PACKAGES), encoding="utf-8")
        shutil.rmtree(VENDOR, ignore_errors=True)
        new.rename(VENDOR)


def main() -> int:
    if PINS.exists() and PINS.read_text(encoding="utf-8") == json.dumps(PACKAGES):
        return 0
    npm = shutil.which("npm")
    if npm is None:
        reason = "npm is not installed"
    else:
        try:
            vendor(npm)
            return 0
        except subprocess.SubprocessError as error:
            reason = f"npm could not download them ({type(error).__name__})"
        except ValueError as error:
            sys.exit(f"vendor: {error}")
    shutil.rmtree(VENDOR, ignore_errors=True)
    print(f"vendor: {reason}; the pages load MathJax and widgets from public CDNs.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
