"""Draw the picture that stands where an address of the book is shared.

python tools/preview.py    # writes book/_static/preview.png, 1200 × 630 pixels
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from metagan_lite.plots import to_png

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "results" / "omniglot-20-gan" / "samples.png"
FIRST = (0, 20, 740, 352)  # the box of its first character


def preview() -> bytes:
    figure = Figure(figsize=(12, 6.3))
    figure.text(0.05, 0.85, "Meta-GAN from Scratch", fontsize=44, weight="bold")
    figure.text(0.05, 0.76, "Ten drawings, a few steps, and it draws.", fontsize=25)
    axes = figure.add_axes((0.14, 0.06, 0.72, 0.64))
    axes.imshow(Image.open(SAMPLES).convert("L").crop(FIRST), cmap="gray")
    axes.axis("off")
    return to_png(figure, dpi=100, colours=32)


if __name__ == "__main__":
    target = ROOT / "book" / "_static" / "preview.png"
    target.write_bytes(preview())
    print(target.relative_to(ROOT).as_posix())
