"""Image sources: real and synthetic files, drawn glyphs, and every bad input."""

from __future__ import annotations

import io
import math
import struct
import urllib.request
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from metagan_lite import data
from metagan_lite.data import load_images, normalize_characters


def assert_one_line(error: pytest.ExceptionInfo, *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def assert_valid(images: data.LabelledImages) -> None:
    assert images.images.dtype == torch.float32
    assert -1 <= images.images.min() < -0.9 and 0.9 < images.images.max() <= 1
    assert images.labels.dtype == torch.int64
    assert images.labels.unique().tolist() == list(range(len(images.class_names)))
    assert len(set(images.class_names)) == len(images.class_names)
    assert 0 < len(images.meta_test) < len(images.class_names)
    assert set(images.meta_test) <= set(images.class_names)


def ink_box(image: torch.Tensor) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the ink of [1, H, W]; bottom, right exclusive."""
    rows, columns = np.nonzero(image[0].numpy() > -0.4)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


# --- real files ---------------------------------------------------------------


def test_mnist_test_split_is_the_official_one(data_root: Path) -> None:
    digits = load_images("mnist", root=data_root, subset="test")
    assert_valid(digits)
    assert digits.images.shape == (10_000, 1, 28, 28)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert digits.labels.bincount().tolist() == counts
    assert digits.class_names == tuple("0123456789")
    assert digits.meta_test == ("2", "5", "7")
    raw = (data_root / "MNIST/raw/t10k-images-idx3-ubyte").read_bytes()
    expected = np.frombuffer(raw, np.uint8, offset=16).reshape(10_000, 28, 28)
    back = (digits.images[:, 0] + 1) * 127.5
    np.testing.assert_allclose(back.numpy(), expected, atol=1e-4)


def test_empty_training_files_are_named_as_corrupt(data_root: Path) -> None:
    with pytest.raises(ValueError) as error:
        load_images("mnist", root=data_root, subset="train")
    assert_one_line(error, "train-images-idx3-ubyte", "truncated", "download=True")


def test_truncated_mnist_is_named(data_root: Path) -> None:
    file = data_root / "MNIST/raw/t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(ValueError) as error:
        load_images("mnist", root=data_root, subset="test")
    assert_one_line(error, "t10k-images-idx3-ubyte", "truncated")


def test_omniglot_small_shares_no_alphabet(data_root: Path, monkeypatch) -> None:
    monkeypatch.setenv("METAGAN_DATA", str(data_root))
    omniglot = load_images("omniglot-small")
    assert_valid(omniglot)
    assert omniglot.images.shape == (242 * 20, 1, 28, 28)
    assert omniglot.labels.bincount().tolist() == [20] * 242
    assert len(omniglot.meta_test) == 106
    train = set(omniglot.class_names) - set(omniglot.meta_test)
    assert {n.split("/")[0] for n in train} == {
        "Balinese",
        "Early_Aramaic",
        "Greek",
        "Korean",
        "Latin",
    }
    assert {n.split("/")[0] for n in omniglot.meta_test} == {
        "Japanese_(katakana)",
        "Sanskrit",
        "Tagalog",
    }
    # 105 pixels onto 28: repeat each 28 times, then average exact blocks of 105.
    with zipfile.ZipFile(
        data_root / "omniglot-small/images_background_small1.zip"
    ) as archive:
        entry = "images_background_small1/Balinese/character01/0108_01.png"
        image = Image.open(io.BytesIO(archive.read(entry))).convert("L")
    fine = np.kron(np.asarray(image), np.ones((28, 28)))
    expected = 1 - fine.reshape(28, 105, 28, 105).mean((1, 3)) / 127.5
    np.testing.assert_allclose(omniglot.images[0, 0], expected, atol=1e-5)


def test_omniglot_small_normalised_fills_and_centres(data_root: Path) -> None:
    omniglot = load_images("omniglot-small", root=data_root, size=28, normalize=True)
    assert_valid(omniglot)
    for image in omniglot.images[::37]:
        top, bottom, left, right = ink_box(image)
        assert max(bottom - top, right - left) >= 27
        assert abs(top + bottom - 28) <= 1 and abs(left + right - 28) <= 1


# --- synthetic files of a source ----------------------------------------------


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("name", "folder", "held_out"),
    [
        ("mnist", "MNIST", ("2", "5", "7")),
        ("fashion-mnist", "FashionMNIST", ("Pullover", "Sandal", "Sneaker")),
        ("kmnist", "KMNIST", ("su", "ha", "ya")),
    ],
)
@pytest.mark.parametrize("subset", ["train", "test"])
def test_idx_sets(tmp_path: Path, name: str, folder: str, held_out, subset) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (30, 28, 28))
        labels = rng.permutation(30) % 10
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
        written[part] = images, labels
    images, labels = written["train" if subset == "train" else "t10k"]
    loaded = load_images(name, root=tmp_path, subset=subset)
    assert_valid(loaded)
    np.testing.assert_allclose(loaded.images[:, 0], images / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(loaded.labels, labels)
    assert loaded.meta_test == held_out
    write_idx(raw / "train-labels-idx1-ubyte", np.arange(29) % 10)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(29) % 10)
    with pytest.raises(ValueError) as error:
        load_images(name, root=tmp_path, subset=subset)
    assert_one_line(error, "labels-idx1-ubyte", "corrupt")


def write_omniglot_zip(path: Path, characters: dict[str, int]) -> None:
    """A zip in Omniglot's layout; drawing d of a character has d + 1 dark columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for alphabet, count in characters.items():
            for character in range(1, count + 1):
                for drawing in range(3):
                    pixels = np.full((105, 105), 255, np.uint8)
                    pixels[:, : drawing + 1] = 0
                    buffer = io.BytesIO()
                    Image.fromarray(pixels).convert("1").save(buffer, "png")
                    archive.writestr(
                        f"{path.stem}/{alphabet}/character{character:02d}/"
                        f"{character:04d}_{drawing + 1:02d}.png",
                        buffer.getvalue(),
                    )


def write_omniglot(folder: Path, first: str, second: str, monkeypatch) -> None:
    write_omniglot_zip(folder / f"{first}.zip", {"Alpha": 2, "Beta": 1})
    write_omniglot_zip(folder / f"{second}.zip", {"Beta": 2, "Gamma": 3})
    for name in (first, second):
        md5 = data._md5(folder / f"{name}.zip")
        monkeypatch.setitem(data._OMNIGLOT_MD5, name, md5)


SMALL = ("images_background_small1", "images_background_small2")


@pytest.mark.parametrize(
    ("name", "folder", "zips"),
    [
        ("omniglot-small", "omniglot-small", SMALL),
        ("omniglot-small", ".", SMALL),
        ("omniglot", "omniglot-py", ("images_background", "images_evaluation")),
    ],
)
def test_omniglot_layout(tmp_path: Path, monkeypatch, name, folder, zips) -> None:
    write_omniglot(tmp_path / folder, *zips, monkeypatch)
    loaded = load_images(name, root=tmp_path, size=105)
    assert_valid(loaded)
    assert loaded.meta_test == tuple(f"Gamma/character0{i}" for i in (1, 2, 3))
    assert loaded.class_names[:3] == (
        "Alpha/character01",
        "Alpha/character02",
        "Beta/character01",
    )
    assert len(loaded.class_names) == 6 and len(loaded.images) == 18
    dark = (loaded.images[:, 0] == 1).sum((1, 2))
    assert dark.tolist() == [105, 210, 315] * 6


def test_damaged_zip_is_named(tmp_path: Path, monkeypatch) -> None:
    write_omniglot(tmp_path, *SMALL, monkeypatch)
    file = tmp_path / f"{SMALL[1]}.zip"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError) as error:
        load_images("omniglot-small", root=tmp_path)
    assert_one_line(error, file.name, "truncated", "download=True")


def test_download_fetches_only_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    write_omniglot(tmp_path / "remote", *SMALL, monkeypatch)
    (tmp_path / f"{SMALL[0]}.zip").write_bytes(
        (tmp_path / "remote" / f"{SMALL[0]}.zip").read_bytes()
    )
    fetched = []

    def fake(url: str, root: Path, filename: str, md5: str) -> None:
        fetched.append(url)
        Path(root).mkdir(exist_ok=True)
        content = (tmp_path / "remote" / filename).read_bytes()
        (Path(root) / filename).write_bytes(content)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fake)
    loaded = load_images("omniglot-small", root=tmp_path, download=True)
    assert len(loaded.class_names) == 6
    assert fetched == [
        "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
        "images_background_small2.zip"
    ]
    assert (tmp_path / "omniglot-small" / f"{SMALL[1]}.zip").is_file()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist"])
def test_missing_idx_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load_images(name, root=tmp_path)
    assert_one_line(error, "train-images-idx3-ubyte", str(tmp_path), "download=True")


@pytest.mark.parametrize("name", ["omniglot", "omniglot-small"])
def test_missing_zips(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load_images(name, root=tmp_path)
    assert_one_line(error, "images_background", str(tmp_path), "download=True")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "omniglot-small"])
def test_failed_download(tmp_path: Path, monkeypatch, name: str) -> None:
    def offline(*args, **kwargs):
        raise URLError("Name or service\nnot known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(ConnectionError) as error:
        load_images(name, root=tmp_path, download=True)
    assert_one_line(error, "could not be downloaded", "network", str(tmp_path))


def test_missing_root_names_both_ways(monkeypatch) -> None:
    monkeypatch.delenv("METAGAN_DATA", raising=False)
    for name in ("mnist", "omniglot-small"):
        with pytest.raises(ValueError) as error:
            load_images(name)
        assert_one_line(error, "root=", "METAGAN_DATA")


# --- digits, names ------------------------------------------------------------


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    digits, truth = load_images("digits"), load_digits()
    assert_valid(digits)
    np.testing.assert_allclose(digits.images[:, 0], truth.images / 8 - 1)
    np.testing.assert_array_equal(digits.labels, truth.target)
    assert digits.meta_test == ("2", "5", "7")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cats", {}, ["'cats'", "digits", "omniglot-small", "folder:PATH"]),
        ("folder", {}, ["'folder'", "folder:PATH"]),
        ("digits:here", {}, ["'digits:here'"]),
        ("digits", {"size": 3}, ["'size'", "(none)"]),
        ("glyphs", {"sise": 3}, ["'sise'", "classes, drawings, size, seed, normalize"]),
        ("glyphs", {"classes": 1}, ["classes", "at least 2", "got 1"]),
        ("glyphs", {"drawings": 0}, ["drawings", "at least 1", "got 0"]),
        ("glyphs", {"size": 2.5}, ["size", "integer", "2.5"]),
        ("mnist", {"subset": "test2", "root": "."}, ["'train' or 'test'", "'test2'"]),
        ("omniglot-small", {"size": 0, "root": "."}, ["size", "at least 1"]),
    ],
)
def test_bad_names_and_options(name: str, options: dict, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        load_images(name, **options)
    assert_one_line(error, *words)


# --- glyphs -------------------------------------------------------------------


def test_fewer_glyphs_are_a_prefix_of_more() -> None:
    few = load_images("glyphs", classes=5, drawings=3, seed=4)
    many = load_images("glyphs", classes=12, drawings=7, seed=4)
    assert_valid(many)
    assert many.images.shape == (84, 1, 10, 10)
    assert many.meta_test == ("glyph-00010", "glyph-00011")
    assert few.meta_test == ("glyph-00004",)
    prefix = many.images.view(12, 7, 100)[:5, :3]
    torch.testing.assert_close(few.images.view(5, 3, 100), prefix)
    other = load_images("glyphs", classes=5, drawings=3, seed=5)
    assert (other.images - few.images).abs().mean() > 0.2


@pytest.mark.parametrize("size", [10, 28])
def test_glyphs_are_characters(size: int) -> None:
    glyphs = load_images("glyphs", classes=60, drawings=20, size=size)
    x = glyphs.images.view(60, 20, -1)
    known, new = x[:, :10].flatten(0, 1), x[:, 10:].flatten(0, 1)
    nearest = torch.cdist(new, known).argmin(1) // 10
    recognised = (nearest == torch.arange(60).repeat_interleave(10)).float().mean()
    assert recognised > 0.85  # a drawing shows its character,
    apart = torch.cdist(x, x) / (2 * size)  # root mean square difference of pixels / 2
    apart = apart[:, ~torch.eye(20, dtype=torch.bool)]
    assert apart.min() > 0.02  # no drawing repeats another,
    assert 0.1 < (x > 0).float().mean() < 0.4  # and there is ink, not too much.


def test_glyphs_fill_and_centre() -> None:
    for image in load_images("glyphs", classes=20, drawings=3, size=20).images:
        top, bottom, left, right = ink_box(image)
        assert max(bottom - top, right - left) >= 19
        assert abs(top + bottom - 20) <= 1 and abs(left + right - 20) <= 1


# --- normalisation ------------------------------------------------------------


def test_normalise_a_rectangle_exactly() -> None:
    """5x8 pixels of ink grow to 7x10 and sit in the middle of a 10x10 square."""
    images = -torch.ones(2, 1, 28, 28)
    images[0, 0, 3:8, 15:23] = 1
    images[1, 0, :5, 20:] = 1  # in a corner: the grown strokes need room outside
    expected = -torch.ones(10, 10)
    expected[2:8] = 1
    expected[1] = expected[8] = 0  # half a pixel each: 7 rows centred in 10
    found = normalize_characters(images, 10)
    torch.testing.assert_close(found, expected.expand(2, 1, 10, 10), atol=1e-5, rtol=0)
    found = normalize_characters(images.mT, 10)
    torch.testing.assert_close(found[1, 0], expected.T, atol=1e-5, rtol=0)
    halved = expected.view(5, 2, 5, 2).mean((1, 3))
    found = normalize_characters(images[:1], 5)
    torch.testing.assert_close(found[0, 0], halved, atol=1e-5, rtol=0)


def test_normalise_keeps_empty_images_empty() -> None:
    empty = -torch.ones(1, 1, 28, 28)
    torch.testing.assert_close(normalize_characters(empty, 7), -torch.ones(1, 1, 7, 7))


def test_normalise_undoes_shifts() -> None:
    glyph = load_images("glyphs", classes=2, drawings=1, size=12).images[:1]
    placed = -torch.ones(2, 1, 28, 28)
    placed[0, :, 2:14, 3:15] = placed[1, :, 12:24, 9:21] = glyph[0]
    first, second = normalize_characters(placed, 14)
    torch.testing.assert_close(first, second)


def test_enlarging_is_linear_interpolation() -> None:
    ramp = torch.linspace(-1, 1, 6).expand(1, 1, 6, 6)
    found = data._shrink(ramp, 12, normalize=False)[0, 0, 5, 1:-1]
    expected = np.interp((np.arange(12) + 0.5) / 2 - 0.5, np.arange(6), ramp[0, 0, 0])
    np.testing.assert_allclose(found, expected[1:-1], atol=1e-5)


def test_normalise_rejects_other_shapes() -> None:
    with pytest.raises(ValueError) as error:
        normalize_characters(torch.zeros(28, 28), 10)
    assert_one_line(error, "[N, C, H, W]", "(28, 28)")


# --- a reader's folder --------------------------------------------------------


def write_image(path: Path, value: int | tuple, size=(8, 8), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_folder_with_nested_classes(tmp_path: Path) -> None:
    for c, name in enumerate(["a/x", "a/y", "b", "c", "d/e/f"]):
        write_image(tmp_path / name / "1.png", 50 * c)
        write_image(tmp_path / name / "2.PNG", 50 * c + 1)
    write_image(tmp_path / ".ipynb_checkpoints" / "1.png", 0)
    write_image(tmp_path / "__MACOSX" / "1.png", 0)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    loaded = load_images(f"folder:{tmp_path}")
    assert loaded.class_names == ("a/x", "a/y", "b", "c", "d/e/f")
    assert loaded.meta_test == ("d/e/f",)
    assert loaded.images.shape == (10, 1, 8, 8)
    assert loaded.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    grey = torch.tensor([0, 1, 50, 51, 100, 101, 150, 151, 200, 201]) / 127.5 - 1
    torch.testing.assert_close(loaded.images[:, 0, 3, 5], grey)
    inverted = load_images(f"folder:{tmp_path}", invert=True, size=4)
    assert inverted.images.shape == (10, 1, 4, 4)
    torch.testing.assert_close(inverted.images[:, 0, 3, 2], -grey)


def test_folder_holds_out_every_fifth_class(tmp_path: Path) -> None:
    for c in range(11):
        write_image(tmp_path / f"{c:02d}" / "1.png", 9 * c)
    assert load_images(f"folder:{tmp_path}").meta_test == ("04", "09")


def test_folder_colour_and_transparency(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "1.png", (255, 0, 51), mode="RGB")
    write_image(tmp_path / "b" / "1.png", (0, 0, 0, 0), mode="RGBA")
    loaded = load_images(f"folder:{tmp_path}", channels=3)
    assert loaded.images.shape == (2, 3, 8, 8)
    expected = torch.tensor([[1.0, -1.0, -0.6], [1.0, 1.0, 1.0]])  # clear is paper
    torch.testing.assert_close(loaded.images[:, :, 0, 0], expected)


def test_folder_without_classes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load_images(f"folder:{tmp_path / 'nowhere'}")
    assert_one_line(error, "nowhere", "no folder")
    with pytest.raises(ValueError) as error:
        load_images(f"folder:{tmp_path}")
    assert_one_line(error, "no images", str(tmp_path), ".png")
    write_image(tmp_path / "only" / "1.png", 0)
    with pytest.raises(ValueError) as error:
        load_images(f"folder:{tmp_path}")
    assert_one_line(error, "one class only", "'only'", "held out")
    write_image(tmp_path / "stray.png", 0)
    with pytest.raises(ValueError) as error:
        load_images(f"folder:{tmp_path}")
    assert_one_line(error, "stray.png", "no class")


def test_folder_with_different_sizes(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "1.png", 0)
    write_image(tmp_path / "b" / "2.png", 0, size=(9, 7))
    with pytest.raises(ValueError) as error:
        load_images(f"folder:{tmp_path}")
    assert_one_line(error, "1.png", "8x8", "2.png", "9x7", "size=28")
    assert load_images(f"folder:{tmp_path}", size=5).images.shape == (2, 1, 5, 5)


def test_folder_with_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a" / "1.png")
    bad = tmp_path / "b" / "bad.png"
    for content in (b"", b"not a picture", (tmp_path / "a/1.png").read_bytes()[:90]):
        bad.parent.mkdir(exist_ok=True)
        bad.write_bytes(content)
        with pytest.raises(ValueError) as error:
            load_images(f"folder:{tmp_path}")
        assert_one_line(error, str(bad), "cannot be read as an image")
    Image.new("I;16", (8, 8), 3000).save(bad)
    with pytest.raises(ValueError) as error:
        load_images(f"folder:{tmp_path}")
    assert_one_line(error, str(bad), "8-bit")


def test_folder_channels(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        load_images(f"folder:{tmp_path}", channels=2)
    assert_one_line(error, "channels", "1 (grey) or 3 (colour)", "2")


def test_dark_ink_on_white_paper_is_noticed(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        page = np.full((4, 4), 255, np.uint8)
        page[1, 1] = 0
        Image.fromarray(page).save(tmp_path / name / "1.png")
    source = f"folder:{tmp_path}"
    with pytest.warns(UserWarning, match="is bright.*pass invert=True"):
        kept = load_images(source).images
    assert kept[0, 0, 1, 1] == -1
    assert load_images(source, invert=True).images[0, 0, 1, 1] == 1
    torch.testing.assert_close(load_images(source, invert=False).images, kept)


# --- NaN, infinity ------------------------------------------------------------


def test_not_finite_images_are_counted_and_named() -> None:
    images = torch.zeros(5, 1, 2, 2)
    images[2, 0, 1, 1], images[4, 0, 0, 0] = math.nan, math.inf
    with pytest.raises(ValueError) as error:
        data.check_finite(images, torch.tensor([0, 0, 1, 1, 1]), ["a", "b"])
    assert_one_line(error, "2 of 5", "image 2", "'b'")
    data.check_finite(images[:2], torch.tensor([0, 0]), ["a"])
