"""Where images come from: digits, drawn glyphs, torchvision sets, a reader's folder.

Every source answers with the same `LabelledImages`: float32 images in [-1, 1] with
ink at +1 and background at -1, a label for each, and the classes that are held out
for meta-testing by default. Nothing is downloaded unless ``download=True``.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .strokes import CHUNK, fit_strokes, render_strokes


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with class labels.

    images: [N, C, H, W] float32 in [-1, 1], ink +1 and background -1.
    labels: [N] int64, index into `class_names`.
    meta_test: the names of the classes that are held out by default.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    meta_test: tuple[str, ...]


def load_images(name: str, **options) -> LabelledImages:
    """Load the images of one source.

    name: a key of `SOURCES`, or ``"folder:PATH"`` for images of your own.
    options: the keyword parameters of that source, see e.g. ``help(load_glyphs)``.

    Raises ValueError for an unknown name or option, a bad option value or a damaged
    file, FileNotFoundError for missing files, ConnectionError for a failed download.
    """
    accepted = source_options(name)
    source, _, path = name.partition(":")
    loader = SOURCES[source]
    if unknown := [option for option in options if option not in accepted]:
        raise ValueError(
            f"source {source!r} has no option {unknown[0]!r}; its options are: "
            f"{', '.join(accepted) or '(none)'}"
        )
    return loader(path, **options) if source == "folder" else loader(**options)


def source_options(name: str) -> list[str]:
    """The options that a source of :func:`load_images` takes.

    Raises ValueError for an unknown name.
    """
    source, _, path = name.partition(":")
    if source not in SOURCES or (source == "folder") != bool(path):
        known = ", ".join("folder:PATH" if s == "folder" else s for s in SOURCES)
        raise ValueError(f"unknown image source {name!r}; expected one of: {known}")
    return [
        p.name
        for p in inspect.signature(SOURCES[source]).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    ]


# --- small sources ------------------------------------------------------------


def load_digits() -> LabelledImages:
    """1,797 handwritten digits of 8x8 pixels that come with scikit-learn.

    Classes "0" … "9"; "2", "5" and "7" are held out.
    Source: Alpaydin and Kaynak, UCI Optical Recognition of Handwritten Digits, 1998.
    """
    # Imported here because it costs a second that other sources need not pay.
    from sklearn.datasets import load_digits as read_digits

    digits = read_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1  # ink 0 … 16
    names = tuple(str(c) for c in range(10))
    labels = torch.from_numpy(digits.target).long()
    return LabelledImages(images, labels, names, ("2", "5", "7"))


def load_glyphs(
    *,
    classes: int = 250,
    drawings: int = 20,
    size: int = 10,
    seed: int = 0,
    normalize: bool = True,
) -> LabelledImages:
    """Characters of an invented script, drawn by a program.

    A class is a character of two to four pen strokes; each drawing of it comes from
    a new hand (jittered joints and bends, slant, proportions, pen). Character i
    depends on `seed` and i alone, so fewer classes are a prefix of more classes.
    The last fifth of the classes (at least one) is held out.

    classes, drawings: how many characters, and drawings of each.
    size: side of the square images in pixels, at least 6.
    normalize: every drawing fills its image and is centred; otherwise the hand also
        shifts it and changes its scale.
    """
    check_integers(1, drawings=drawings)
    check_integers(0, seed=seed)
    check_integers(2, classes=classes)
    check_integers(6, size=size)
    points, pen = zip(
        *(_draw_character(seed, i, drawings) for i in range(classes)), strict=True
    )
    points = torch.from_numpy(np.concatenate(points)).float()  # [N, strokes, P, 2]
    radius = 0.06 * size * torch.from_numpy(np.concatenate(pen)).float()  # [N]
    radius = radius.clamp(min=0.6)  # a thinner pen leaves no solid pixel behind
    points = fit_strokes(points, radius, size, fill=normalize)
    images = render_strokes(points, radius, size)
    names = tuple(f"glyph-{i:05d}" for i in range(classes))
    labels = torch.arange(classes).repeat_interleave(drawings)
    return LabelledImages(images, labels, names, names[-max(1, classes // 5) :])


# --- drawing characters -------------------------------------------------------

_MAX_STROKES = 4
_ANCHORS = np.stack(np.meshgrid([0, 0.5, 1], [0, 0.5, 1]), -1).reshape(9, 2)
# The inner control points of a cubic Bézier curve from (0, 0) to (1, 0), and how
# often each shape is used: straight, bent, S-shaped, hooked, looped.
_SHAPES = np.array(
    [
        [[0.33, 0.0], [0.67, 0.0]],
        [[0.2, 0.65], [0.8, 0.65]],
        [[0.33, 0.8], [0.67, -0.8]],
        [[0.8, 0.7], [1.3, 0.5]],
        [[1.6, 1.0], [-0.6, 1.0]],
    ]
)
_SHAPE_ODDS = [0.42, 0.34, 0.08, 0.08, 0.08]


def _pick_strokes(rng: np.random.Generator) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Choose a character: its strokes (from anchor, to anchor) and their bends."""
    while True:
        strokes: list[tuple[int, int]] = []
        for _ in range(rng.choice([2, 3, 4], p=[0.3, 0.45, 0.25])):
            touched = [anchor for stroke in strokes for anchor in stroke]
            joined = strokes and rng.random() < 0.75
            start = rng.choice(touched) if joined else rng.integers(9)
            strokes.append((int(start), int(rng.integers(9))))
        extent = np.ptp(_ANCHORS[np.unique(strokes)], axis=0)
        # No dots, no stroke drawn twice, and wide and tall enough to be told apart.
        if len({frozenset(s) for s in strokes if s[0] != s[1]}) == len(strokes):
            if extent.sum() >= 1.5:
                break
    bends = _SHAPES[rng.choice(len(_SHAPES), len(strokes), p=_SHAPE_ODDS)]
    return strokes, bends * [1, -1] ** rng.integers(2, size=(len(strokes), 1, 1))


def _draw_character(
    seed: int, index: int, drawings: int
) -> tuple[np.ndarray, np.ndarray]:
    """All drawings of character `index`, before they are placed in an image.

    Returns points along the strokes [drawings, strokes, P, 2] as (x, y) about the
    origin, and pen widths [drawings] relative to the usual one.
    """
    rng = np.random.default_rng([seed, index])
    strokes, bends = _pick_strokes(rng)
    used = _ANCHORS[np.unique(strokes)]
    anchors = _ANCHORS - (used.min(0) + used.max(0)) / 2
    anchors = anchors + rng.normal(0, 0.05, (9, 2))  # this character's own grid
    # One row of numbers per drawing, so fewer drawings are a prefix of more.
    hand = rng.normal(size=(drawings, 18 + 4 * _MAX_STROKES + 7))
    anchors = anchors + 0.035 * hand[:, :18].reshape(-1, 9, 2)
    bends = (
        bends + 0.07 * hand[:, 18:-7].reshape(-1, _MAX_STROKES, 2, 2)[:, : len(strokes)]
    )  # [drawings, strokes, control point, (along, across)]
    first = anchors[:, [a for a, _ in strokes]]  # [drawings, strokes, 2]
    last = anchors[:, [b for _, b in strokes]]
    along = (last - first)[:, :, None]
    across = along[..., ::-1] * [-1, 1]
    inner = first[:, :, None] + bends[..., :1] * along + bends[..., 1:] * across
    t = np.linspace(0, 1, 11)
    cubic = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    control = np.concatenate([first[:, :, None], inner, last[:, :, None]], axis=2)
    points = np.einsum("nscx,cp->nspx", control, cubic)
    # The same number of strokes for all: drawing the last one again adds no ink.
    points = points[:, np.minimum(np.arange(_MAX_STROKES), len(strokes) - 1)]

    turn, slant, width, height, dx, dy, pen = hand[:, -7:].T
    turn, slant = 0.09 * turn, 0.12 * slant
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    one, zero = np.ones_like(turn), np.zeros_like(turn)
    shear = np.array([[one, slant], [zero, one]])
    scale = np.array([[np.exp(0.1 * width), zero], [zero, np.exp(0.1 * height)]])
    affine = np.einsum("ijn,jkn,kln->nil", rotation, shear, scale)
    points = np.einsum("nij,nspj->nspi", affine, points)
    shift = 0.05 * np.stack([dx, dy], -1)[:, None, None]
    return points + shift, np.exp(0.15 * pen)


# --- torchvision's sets -------------------------------------------------------


def load_mnist(
    *,
    root: str | os.PathLike | None = None,
    download: bool = False,
    subset: str = "train",
) -> LabelledImages:
    """MNIST: handwritten digits of 28x28 pixels; "2", "5" and "7" are held out.

    root: folder that contains ``MNIST/raw``; default: environment METAGAN_DATA.
    download: fetch missing files with torchvision.
    subset: "train" (60,000 images) or "test" (10,000).
    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    return _load_idx("MNIST", root, download, subset)


def load_fashion_mnist(
    *,
    root: str | os.PathLike | None = None,
    download: bool = False,
    subset: str = "train",
) -> LabelledImages:
    """Fashion-MNIST: ten kinds of clothing; options as for `load_mnist`.

    "Pullover", "Sandal" and "Sneaker" (classes 2, 5, 7) are held out.
    Source: Xiao, Rasul and Vollgraf, arXiv 1708.07747.
    """
    return _load_idx("FashionMNIST", root, download, subset)


def load_kmnist(
    *,
    root: str | os.PathLike | None = None,
    download: bool = False,
    subset: str = "train",
) -> LabelledImages:
    """Kuzushiji-MNIST: ten cursive Japanese characters; options as for `load_mnist`.

    "su", "ha" and "ya" (classes 2, 5, 7) are held out.
    Source: Clanuwat et al., arXiv 1812.01718.
    """
    return _load_idx("KMNIST", root, download, subset)


def _load_idx(
    dataset: str, root: str | os.PathLike | None, download: bool, subset: str
) -> LabelledImages:
    """Read one of torchvision's sets in MNIST's file format."""
    from torchvision import datasets  # slow to import, and not every source needs it

    if subset not in ("train", "test"):
        raise ValueError(f"subset must be 'train' or 'test', got {subset!r}")
    cls = getattr(datasets, dataset)
    root = _data_root(root)
    raw = root / dataset / "raw"
    if download:
        _fetch(lambda: cls(root, train=subset == "train", download=True), dataset, raw)
    # torchvision insists on all four files, whichever subset is asked for.
    files = [raw / Path(url).stem for url, _ in cls.resources]
    if missing := [f.name for f in files if not f.is_file()]:
        raise FileNotFoundError(
            f"{dataset} needs {', '.join(missing)} in {raw}: put the unzipped files "
            f"there or pass download=True"
        )
    try:
        data = cls(root, train=subset == "train")
        images, labels = data.data, data.targets.long()
        if len(images) != len(labels) or not 0 <= labels.min() <= labels.max() <= 9:
            raise ValueError(f"{len(images)} images and {len(labels)} labels disagree")
    # What torchvision raises on a short or altered file depends on where it breaks.
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AssertionError):
        part = "train" if subset == "train" else "t10k"
        bad = " or ".join(f.name for f in files if f.name.startswith(part))
        raise ValueError(
            f"{bad} in {raw} is truncated or corrupt: delete it and load again with "
            f"download=True"
        ) from None
    names = tuple(name.split(" - ")[0] for name in cls.classes)  # "2 - two" → "2"
    images = uint8_to_float(images[:, None])
    return LabelledImages(images, labels, names, tuple(names[c] for c in (2, 5, 7)))


# --- Omniglot -----------------------------------------------------------------

_OMNIGLOT_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_OMNIGLOT_MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
    "images_background_small1": "e704a628b5459e08445c13499850abc4",
    "images_background_small2": "b75a71a51d3b13f821f212756fe481fd",
}


def load_omniglot(
    *,
    root: str | os.PathLike | None = None,
    download: bool = False,
    size: int = 28,
    normalize: bool = False,
) -> LabelledImages:
    """Omniglot: 1,623 characters of 50 alphabets, 20 drawings each.

    Classes are named "alphabet/character". The 20 alphabets of the evaluation set
    are held out.

    root: folder with ``omniglot-py`` (torchvision's layout; the two zip files are
        enough) or with the zip files; default: environment METAGAN_DATA.
    download: fetch missing or damaged files.
    size: side of the square images in pixels.
    normalize: crop, centre and thicken, see `normalize_characters`.
    Source: Lake, Salakhutdinov and Tenenbaum, Science 350 (2015).
    """
    return _load_omniglot(
        "omniglot-py",
        ("images_background", "images_evaluation"),
        root,
        download,
        size,
        normalize,
    )


def load_omniglot_small(
    *,
    root: str | os.PathLike | None = None,
    download: bool = False,
    size: int = 28,
    normalize: bool = False,
) -> LabelledImages:
    """Omniglot's two small background sets (3 MB): 242 characters, 20 drawings each.

    The five alphabets (136 characters) of the first set are for meta-training. Held
    out are Japanese (katakana), Sanskrit and Tagalog (106 characters) of the second.
    Its Greek and Latin are left out, because the first set contains them.

    root: folder with ``omniglot-small`` or with its two zip files; default:
        environment METAGAN_DATA. The other options are those of `load_omniglot`.
    """
    return _load_omniglot(
        "omniglot-small",
        ("images_background_small1", "images_background_small2"),
        root,
        download,
        size,
        normalize,
    )


def _load_omniglot(
    folder: str,
    zip_names: tuple[str, str],
    root: str | os.PathLike | None,
    download: bool,
    size: int,
    normalize: bool,
) -> LabelledImages:
    """Read two zip files; the second one's new alphabets are held out."""
    check_integers(1, size=size)
    root = _data_root(root)
    images, labels, names, first = [], [], [], 0
    for zip_name in zip_names:
        path = _omniglot_zip(zip_name, root, root / folder, download)
        seen = {name.split("/")[0] for name in names}
        first = len(names)
        with zipfile.ZipFile(path) as archive:
            entries = sorted(e for e in archive.namelist() if e.endswith(".png"))
            drawn: dict[str, list[str]] = {}  # "alphabet/character" → its files
            for entry in entries:
                _, alphabet, character, _ = entry.split("/")
                if alphabet not in seen:
                    drawn.setdefault(f"{alphabet}/{character}", []).append(entry)
            for name, files in drawn.items():
                ink = [
                    255 - pil_to_uint8(Image.open(io.BytesIO(archive.read(f))), 1)
                    for f in files
                ]
                pixels = uint8_to_float(torch.stack(ink))  # [20, 1, 105, 105]
                images.append(_shrink(pixels, size, normalize))
                labels += [len(names)] * len(files)
                names.append(name)
    return LabelledImages(
        torch.cat(images), torch.tensor(labels), tuple(names), tuple(names[first:])
    )


def _omniglot_zip(zip_name: str, root: Path, folder: Path, download: bool) -> Path:
    """The path of an intact zip file, in `folder` or in `root`."""
    file = f"{zip_name}.zip"
    path = next((p for p in (folder / file, root / file) if p.is_file()), folder / file)
    intact = path.is_file() and _md5(path) == _OMNIGLOT_MD5[zip_name]
    if not intact and download:
        from torchvision.datasets.utils import download_url

        md5 = _OMNIGLOT_MD5[zip_name]
        _fetch(
            lambda: download_url(_OMNIGLOT_URL + file, path.parent, file, md5),
            file,
            path.parent,
        )
    elif not path.is_file():
        raise FileNotFoundError(
            f"{file} is not in {folder}: put it there or pass download=True"
        )
    elif not intact:
        raise ValueError(
            f"{path} is truncated or corrupt (its md5 is not {_OMNIGLOT_MD5[zip_name]}"
            f"): delete it or pass download=True"
        )
    return path


def normalize_characters(images: Tensor, size: int) -> Tensor:
    """Thicken, crop and centre characters, so that each fills its image.

    The strokes grow by H // 28 pixels on every side (a 3x3 dilation at 28x28); then the
    smallest square around the ink is cut out, with the character in its middle, and
    resampled by area to the new size. Images without ink stay empty.

    images: [N, C, H, W] in [-1, 1]. Returns [N, C, size, size]. Raises ValueError
    for another shape or a size below 1.
    """
    return _shrink(images, size, True)


def _shrink(images: Tensor, size: int, normalize: bool) -> Tensor:
    """Resample [N, C, H, W] by area to [N, C, size, size], normalised or as it is."""
    check_integers(1, size=size)
    if images.ndim != 4:
        raise ValueError(f"expected images [N, C, H, W], got {tuple(images.shape)}")
    per_chunk = max(1, CHUNK // math.prod(images.shape[1:]))
    return torch.cat(
        [_shrink_chunk(chunk, size, normalize) for chunk in images.split(per_chunk)]
    )


def _shrink_chunk(images: Tensor, size: int, normalize: bool) -> Tensor:
    ink = (images + 1) / 2
    height, width = ink.shape[-2:]
    if not normalize:
        rows = _area_weights(ink.new_zeros(len(ink)), height, height, size)
        columns = _area_weights(ink.new_zeros(len(ink)), width, width, size)
        return (rows @ ink @ columns.mT).clamp(0, 1) * 2 - 1
    reach = max(height, width) // 28
    ink = F.pad(ink, [reach] * 4)  # strokes that touch the edge grow as well
    ink = F.max_pool2d(ink, (2 * reach + 1, 1), 1, (reach, 0))
    ink = F.max_pool2d(ink, (1, 2 * reach + 1), 1, (0, reach))
    marked = (ink > 0.3).any(1)  # [N, H, W]
    top, bottom = _extent(marked.any(2))
    left, right = _extent(marked.any(1))
    side = torch.maximum(bottom - top, right - left)
    rows = _area_weights((top + bottom - side) / 2, side, ink.shape[-2], size)
    columns = _area_weights((left + right - side) / 2, side, ink.shape[-1], size)
    return (rows @ ink @ columns.mT).clamp(0, 1) * 2 - 1


def _extent(marked: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of [N, L]; all of it if none is."""
    marked = (marked | ~marked.any(1, keepdim=True)).byte()
    return marked.argmax(1).float(), marked.shape[1] - marked.flip(1).argmax(1).float()


def _area_weights(
    start: Tensor, side: Tensor | float, length: int, size: int
) -> Tensor:
    """Matrices [N, 1, size, length] that resample [start, start + side) to `size`.

    Output pixel i averages the input under it, weighted by overlap. When enlarging,
    it averages one input pixel's width, which is linear interpolation.
    """
    step = torch.as_tensor(side, dtype=start.dtype).expand_as(start) / size  # [N]
    reach = step.clamp(min=1)
    place = torch.arange(size, device=start.device) + 0.5
    middle = start[:, None] + place * step[:, None]  # [N, size]
    low = (middle - reach[:, None] / 2)[:, :, None]
    high = low + reach[:, None, None]
    pixel = torch.arange(length, device=start.device)
    overlap = torch.minimum(high, pixel + 1.0) - torch.maximum(low, pixel + 0.0)
    return (overlap.clamp(min=0) / reach[:, None, None])[:, None]


# --- a reader's folder --------------------------------------------------------

IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def load_folder(
    path: str | os.PathLike,
    *,
    size: int | None = None,
    channels: int = 1,
    invert: bool | None = None,
) -> LabelledImages:
    """Images of your own, one folder per class: ``load_images("folder:PATH")``.

    A class is any folder below `path`, at any depth, that contains images (png, jpg,
    jpeg, bmp, gif or webp); its name is its path relative to `path`. Names that start
    with "." or "__" are skipped. Every fifth class in sorted order (the last class,
    if there are fewer than five) is held out.

    size: resize to size x size pixels; None keeps the images, which must then all
        have one size.
    channels: 1 (grey) or 3 (colour). Transparent parts count as white paper.
    invert: swap dark and light, as dark ink on white paper needs it. None keeps the
        images, and warns if most of them is bright.

    Raises FileNotFoundError if there is no such folder, ValueError if it holds no
    images, fewer than two classes, images outside a class folder, images of
    different sizes (with size=None) or a file that cannot be read.
    """
    root = Path(path).expanduser()
    if size is not None:
        check_integers(1, size=size)
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels!r}")
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}: expected one that has a folder for each class"
        )
    found: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*")):
        inside = file.relative_to(root)
        if any(part.startswith((".", "__")) for part in inside.parts):
            continue  # .ipynb_checkpoints, __MACOSX and the like hold no class
        if file.suffix.lower() in IMAGE_TYPES and file.is_file():
            found.setdefault(inside.parent.as_posix(), []).append(file)
    if not found:
        raise ValueError(
            f"no images in {root}: expected folders with files of type "
            f"{', '.join(IMAGE_TYPES)}"
        )
    if "." in found:
        raise ValueError(
            f"{found['.'][0]} is in no class: move it into a folder of its class below "
            f"{root}"
        )
    names = tuple(sorted(found))
    if len(names) < 2:
        raise ValueError(
            f"{root} has one class only ({names[0]!r}), so nothing can be held out: "
            f"add a folder of images for another class"
        )
    files = [file for name in names for file in found[name]]
    pixels = [read_image(file, size, channels) for file in files]
    for file, image in zip(files, pixels, strict=True):
        if image.shape != pixels[0].shape:
            (_, h0, w0), (_, h, w) = pixels[0].shape, image.shape
            raise ValueError(
                f"images differ in size (width x height): {files[0]} is {w0}x{h0} but "
                f"{file} is {w}x{h}; pass e.g. size=28 to resize all"
            )
    images = uint8_to_float(torch.stack(pixels))
    labels = torch.tensor([c for c, name in enumerate(names) for _ in found[name]])
    if invert is None and channels == 1 and (images > 0).float().mean() > 0.5:
        warnings.warn(
            f"most of the images in {root} is bright, expected bright ink on dark "
            f"paper: pass invert=True, or invert=False if they are as they should be",
            stacklevel=2,
        )
    return LabelledImages(
        -images if invert else images, labels, names, names[4::5] or names[-1:]
    )


def save_folder(images: LabelledImages, path: str | os.PathLike) -> None:
    """Write images as PNG files, one folder per class: what `load_folder` reads.

    The files hold bright ink on dark paper, in 256 steps. Other files in the folder
    stay; one of the same name is replaced.

    path: made if missing. Raises ValueError if the images are neither grey nor colour.
    """
    if images.images.ndim != 4 or images.images.shape[1] not in (1, 3):
        raise ValueError(
            f"expected images [N, 1 or 3, H, W], got {tuple(images.images.shape)}"
        )
    counts = [0] * len(images.class_names)
    pixels = ((images.images + 1) * 127.5).round().clamp(0, 255).byte().cpu()
    for image, label in zip(pixels, images.labels.tolist(), strict=True):
        counts[label] += 1
        file = Path(path, images.class_names[label], f"{counts[label]:03d}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        plain = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(plain.numpy()).save(file)


def read_image(file: Path, size: int | None, channels: int) -> Tensor:
    """Read one file as uint8 [channels, H, W]."""
    try:
        with Image.open(file) as image:
            image.load()
            return pil_to_uint8(ImageOps.exif_transpose(image), channels, size)
    # Pillow's decoders raise several kinds; one too large a picture is not corrupt.
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split()).replace(f" {str(file)!r}", "")
        raise ValueError(
            f"{file} cannot be read as an image ({reason}); remove or replace it"
        ) from None


# --- helpers ------------------------------------------------------------------


def pil_to_uint8(image: Image.Image, channels: int, size: int | None = None) -> Tensor:
    """A PIL image as uint8 [channels, H, W], resized to a square if `size` is given."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its {image.mode} pixels are not 8-bit; save it as 8-bit")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


def uint8_to_float(pixels: Tensor) -> Tensor:
    """uint8 0 … 255 to float32 -1 … 1."""
    return pixels.float().div_(127.5).sub_(1)


def check_finite(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
    """Raise ValueError if an image holds NaN or infinity: how many, and where.

    images: [N, *S]; labels: [N] index into `class_names`.
    """
    bad = (~images.isfinite().flatten(1).all(1)).nonzero()[:, 0]
    if len(bad):
        first = int(bad[0])
        raise ValueError(
            f"{len(bad)} of {len(images)} images hold NaN or infinite values; the "
            f"first is image {first}, of class {class_names[int(labels[first])]!r}: "
            f"repair or remove them"
        )


def check_integers(minimum: int, **values: int) -> None:
    """Raise ValueError unless every named value is an integer of at least `minimum`."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(
                f"{name} must be an integer of at least {minimum}, got {value!r}"
            )


def _data_root(root: str | os.PathLike | None) -> Path:
    root = root or os.environ.get("METAGAN_DATA")
    if not root:
        raise ValueError(
            "no data folder given: pass root='…' or set the environment variable "
            "METAGAN_DATA"
        )
    return Path(root).expanduser()


def _fetch(download: Callable[[], object], what: str, where: Path) -> None:
    """Run a download; a failure becomes a ConnectionError of one line."""
    try:
        download()
    # torchvision turns a failed check of what it fetched into a RuntimeError.
    except (
        URLError,
        HTTPException,
        ConnectionError,
        TimeoutError,
        RuntimeError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConnectionError(
            f"{what} could not be downloaded ({reason}): check the network, or put it "
            f"into {where} by hand"
        ) from None


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


SOURCES: dict[str, Callable[..., LabelledImages]] = {
    "digits": load_digits,
    "glyphs": load_glyphs,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "kmnist": load_kmnist,
    "omniglot": load_omniglot,
    "omniglot-small": load_omniglot_small,
    "folder": load_folder,
}
