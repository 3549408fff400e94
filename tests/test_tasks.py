"""Task distributions against counts, least squares and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2

from metagan_lite.tasks import (
    ClassTasks,
    DiracTasks,
    EpisodeTasks,
    SineTasks,
    TaskBatch,
    TaskDistribution,
    ToyTasks,
    WarpedTasks,
    load_tasks,
)


def assert_one_line(error: pytest.ExceptionInfo, *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tagged(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [N, 1, 2, 2] that carry their own number, with labels in any order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=seeded(1))]
    tags = torch.arange(len(labels)).float() / len(labels)
    return tags.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), labels


def read_tags(images: torch.Tensor, total: int) -> torch.Tensor:
    """[..., 1, 2, 2] → [...] the numbers of the images."""
    return (images[..., 0, 0, 0] * total).round().long()


def assert_uniform(counts: torch.Tensor) -> None:
    """Two-sided chi-square test; counts of independent draws."""
    expected = counts.sum() / counts.numel()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    low, high = chi2.ppf([0.001, 0.999], counts.numel() - 1)
    assert low < statistic < high


# --- episodes -----------------------------------------------------------------


@pytest.mark.parametrize("ways", [None, 3])
def test_episodes_are_pure_and_disjoint(ways: int | None) -> None:
    counts = [7, 12, 9, 30, 8]
    images, labels = tagged(counts)
    tasks = ClassTasks(images, labels, ["a", "b", "c", "d", "e"])
    assert tasks.sample_shape == (1, 2, 2) and tasks.num_classes == 5
    generator = seeded()
    for _ in range(50):
        batch = tasks.sample(4, shots=3, query_shots=4, ways=ways, generator=generator)
        n = ways or 1
        assert len(batch) == 4
        assert batch.support.shape == (4, 3 * n, 1, 2, 2)
        assert batch.query.shape == (4, 4 * n, 1, 2, 2)
        support, query = read_tags(batch.support, 66), read_tags(batch.query, 66)
        for t in range(4):
            drawn = support[t].tolist() + query[t].tolist()
            assert len(set(drawn)) == 7 * n
        classes = batch.classes.view(4, n)
        assert [len(set(row)) for row in classes.tolist()] == [n] * 4
        if ways is None:
            assert batch.support_targets is None and batch.query_targets is None
            assert len(set(batch.classes.tolist())) == 4
            assert (labels[support] == batch.classes[:, None]).all()
            assert (labels[query] == batch.classes[:, None]).all()
        else:
            assert batch.support_targets.dtype == torch.int64
            assert batch.support_targets[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
            assert batch.query_targets[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
            assert (labels[support] == classes.gather(1, batch.support_targets)).all()
            assert (labels[query] == classes.gather(1, batch.query_targets)).all()


def test_classes_and_images_are_drawn_uniformly() -> None:
    counts = [3, 6, 4, 5]
    images, labels = tagged(counts)
    tasks = ClassTasks(images, labels)
    batch = tasks.sample(4000, shots=1, query_shots=2, generator=seeded())
    assert_uniform(batch.classes.bincount())
    seen = torch.bincount(read_tags(batch.support, 18).flatten(), minlength=18)
    for c in range(4):
        assert_uniform(seen[labels == c])
    generator = seeded(5)
    single = [
        tasks.sample(1, shots=1, query_shots=1, generator=generator).classes
        for _ in range(1000)
    ]
    assert_uniform(torch.cat(single).bincount(minlength=4))
    wide = [
        tasks.sample(1, shots=1, query_shots=1, ways=2, generator=generator).classes
        for _ in range(1200)
    ]
    first, second = torch.cat(wide).T
    pairs = torch.bincount(4 * first + second, minlength=16).view(4, 4)
    assert_uniform(pairs[~torch.eye(4, dtype=torch.bool)])


def test_classes_repeat_only_when_there_are_too_few() -> None:
    tasks = ClassTasks(*tagged([4] * 6))
    generator = seeded()
    for _ in range(20):
        batch = tasks.sample(6, shots=1, query_shots=1, generator=generator)
        assert sorted(batch.classes.tolist()) == list(range(6))
    batch = tasks.sample(7, shots=1, query_shots=1, generator=generator)
    assert len(batch) == 7


def test_the_whole_class_can_be_used() -> None:
    images, labels = tagged([5, 9])
    batch = ClassTasks(images, labels).every_task(shots=2, query_shots=3)
    drawn = torch.cat([batch.support, batch.query], dim=1)
    assert (
        sorted(read_tags(drawn, 14)[0].tolist())
        == (labels == 0).nonzero()[:, 0].tolist()
    )


def test_every_task_goes_through_the_classes_in_order() -> None:
    images, labels = tagged([6, 8, 7])
    tasks = ClassTasks(images, labels, rotations=True)
    batch = tasks.every_task(shots=2, query_shots=3, generator=seeded())
    assert batch.classes.tolist() == list(range(12))
    tags = labels[read_tags(batch.support, 21)]
    assert (tags == (torch.arange(12) // 4)[:, None]).all()


def test_draw_is_uniform_over_classes_then_images() -> None:
    images, labels = tagged([2, 10, 5])
    batch = ClassTasks(images, labels).draw(6000, generator=seeded())
    assert batch.shape == (6000, 1, 2, 2)
    seen = torch.bincount(read_tags(batch, 17), minlength=17)
    assert_uniform(torch.stack([seen[labels == c].sum() for c in range(3)]))
    for c in range(3):
        assert_uniform(seen[labels == c])


def test_rotations_are_numpys() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-1, 1, (12, 3, 5, 5)).astype(np.float32)
    labels = torch.arange(12) // 6
    tasks = ClassTasks(torch.from_numpy(pixels), labels, ["2", "6"], rotations=True)
    assert tasks.num_classes == 8
    assert tasks.class_names[:5] == ("2@0", "2@90", "2@180", "2@270", "6@0")
    batch = tasks.every_task(shots=3, query_shots=3, generator=seeded())
    samples = torch.cat([batch.support, batch.query], dim=1).numpy()
    for c in range(8):
        upright = pixels[6 * (c // 4) : 6 * (c // 4) + 6]
        turned = np.rot90(upright, c % 4, axes=(2, 3)).reshape(6, -1)
        found = samples[c].reshape(6, -1)
        np.testing.assert_array_equal(
            turned[np.lexsort(turned.T)], found[np.lexsort(found.T)]
        )
    drawn = tasks.draw(400, generator=seeded()).numpy().reshape(400, -1)
    turns = np.stack([np.rot90(pixels, k, axes=(2, 3)) for k in range(4)])
    turns = turns.reshape(4, 12, -1)
    match = (drawn[:, None, None] == turns).all(-1).sum(2)  # [400, 4]
    assert (match.sum(1) == 1).all()
    assert_uniform(torch.from_numpy(match.sum(0)))


def test_ways_with_rotations_turn_each_class() -> None:
    pixels = torch.rand(8, 1, 3, 3, generator=seeded())
    tasks = ClassTasks(pixels, torch.arange(8) // 4, rotations=True)
    batch = tasks.sample(5, shots=1, query_shots=2, ways=8, generator=seeded(3))
    for t in range(5):
        for n, c in enumerate(batch.classes[t].tolist()):
            upright = batch.support[t, n].rot90(-(c % 4), (1, 2))
            source = (upright == pixels).all((1, 2, 3)).nonzero().item()
            assert source // 4 == c // 4


@pytest.mark.parametrize(
    "tasks",
    [
        ClassTasks(*tagged([5] * 4), rotations=True),
        SineTasks(),
        ToyTasks("ring"),
        ToyTasks("blob"),
        ToyTasks("line"),
        DiracTasks(),
    ],
)
def test_a_seed_decides_everything(tasks: TaskDistribution) -> None:
    first, again, other = (
        tasks.sample(5, shots=2, query_shots=3, generator=seeded(s)) for s in (0, 0, 1)
    )
    assert isinstance(first, TaskBatch) and len(first) == 5
    assert first.support.shape == (5, 2, *tasks.sample_shape)
    assert first.query.shape == (5, 3, *tasks.sample_shape)
    assert first.support.dtype == torch.float32
    assert torch.equal(first.support, again.support)
    assert torch.equal(first.query, again.query)
    assert not torch.equal(first.query, other.query)
    state = torch.get_rng_state()
    tasks.sample(5, shots=2, query_shots=3, generator=seeded())
    assert torch.equal(state, torch.get_rng_state())
    moved = tasks.to("meta").sample(5, shots=2, query_shots=3, generator=seeded())
    assert moved.support.device.type == moved.query.device.type == "meta"


def test_episodes_as_a_distribution_are_the_base_s_own() -> None:
    tasks = ClassTasks(*tagged([5] * 4), rotations=True)
    episodes = EpisodeTasks(tasks, ways=3)
    assert isinstance(episodes, TaskDistribution)
    assert episodes.sample_shape == (1, 2, 2)
    sizes = {"shots": 1, "query_shots": 3}
    ours = episodes.sample(6, **sizes, generator=seeded())
    theirs = tasks.sample(6, ways=3, **sizes, generator=seeded())
    for name in ("support", "query", "support_targets", "query_targets", "classes"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.query_targets.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 6
    assert episodes.to("meta").sample(6, **sizes).query.device.type == "meta"


def test_batches_slice() -> None:
    batch = SineTasks().sample(6, shots=2, query_shots=3, generator=seeded())
    part = batch[1:4]
    assert len(part) == 3 and part.classes is None
    assert torch.equal(part.query_targets, batch.query_targets[1:4])
    assert part.to("meta").support_targets.device.type == "meta"
    with pytest.raises(TypeError) as error:
        batch[2]
    assert_one_line(error, "[i:i+1]", "2")


# --- load_tasks ---------------------------------------------------------------


def test_digits_split_by_class() -> None:
    train, test = load_tasks("digits"), load_tasks("digits", "meta-test")
    assert train.class_names == ("0", "1", "3", "4", "6", "8", "9")
    assert test.class_names == ("2", "5", "7")
    assert load_tasks("digits", "all").class_names == tuple("0123456789")
    held = load_tasks("digits", "meta-test", held_out=["9", "0"], rotations=True)
    assert held.class_names[::4] == ("0@0", "9@0") and held.num_classes == 8


def test_rotated_splits_share_no_image() -> None:
    options = {"classes": 10, "drawings": 4, "rotations": True}
    train = load_tasks("glyphs", **options).every_task(shots=2, query_shots=2)
    test = load_tasks("glyphs", "meta-test", **options).every_task(
        shots=2, query_shots=2
    )
    assert len(train) == 32 and len(test) == 8
    train, test = (
        torch.cat([b.support, b.query], dim=1).reshape(-1, 100) for b in (train, test)
    )
    assert torch.cdist(train, test).min() > 0.1


def test_holding_out_a_folder_of_classes(tmp_path) -> None:
    for c, name in enumerate(["old/a", "old/b", "older", "new/c"]):
        (tmp_path / name).mkdir(parents=True)
        for i in range(4):
            image = Image.new("L", (4, 4), 60 * c + i)
            image.save(tmp_path / name / f"{i}.png")
    source = f"folder:{tmp_path}"
    assert load_tasks(source, "meta-test", held_out="old").class_names == (
        "old/a",
        "old/b",
    )
    assert load_tasks(source, held_out="old").class_names == ("new/c", "older")
    assert load_tasks(source, held_out=["old/a"]).class_names == (
        "new/c",
        "old/b",
        "older",
    )
    with pytest.raises(ValueError) as error:
        load_tasks(source, held_out=["ol"])
    assert_one_line(error, "'ol'", "neither a class nor a folder", "'old/a'")
    with pytest.raises(ValueError) as error:
        load_tasks(source, held_out=["old", "older", "new"])
    assert_one_line(error, "'meta-train' is empty", "of 4 classes 4 are held")
    with pytest.raises(ValueError) as error:
        load_tasks(source, "meta-test", held_out=[])
    assert_one_line(error, "'meta-test' is empty", "of 4 classes 0 are held")


def test_real_omniglot_holds_out_an_alphabet(data_root) -> None:
    tasks = load_tasks(
        "omniglot-small",
        "meta-test",
        held_out="Korean",
        root=data_root,
        size=10,
        normalize=True,
    )
    assert tasks.num_classes == 40 and tasks.sample_shape == (1, 10, 10)
    assert all(name.startswith("Korean/") for name in tasks.class_names)
    with pytest.raises(ValueError) as error:
        tasks.sample(2, shots=10, query_shots=11)
    assert_one_line(error, "20 images", "need 21")


# --- from_dataset -------------------------------------------------------------


class Listed(torch.utils.data.Dataset):
    def __init__(self, *items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int):
        return self.items[i]


def test_from_dataset_with_uint8_pil_and_float() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    labels = [7, 3, 7, 3, 3, 7]
    expected = torch.from_numpy(pixels / 127.5 - 1).float()[:, None]
    as_tensor = [torch.from_numpy(p) for p in pixels]
    as_pil = [Image.fromarray(p) for p in pixels]
    for images in (as_tensor, as_pil, list(expected)):
        tasks = TaskDistribution.from_dataset(Listed(*zip(images, labels, strict=True)))
        assert tasks.class_names == ("3", "7") and tasks.sample_shape == (1, 4, 4)
        batch = tasks.every_task(shots=1, query_shots=2)
        found = torch.cat([batch.support, batch.query], dim=1)
        for c, label in enumerate((3, 7)):
            of_class = expected[torch.tensor(labels) == label].flatten(1)
            found_here = found[c].flatten(1)
            torch.testing.assert_close(
                found_here[found_here[:, 0].argsort()],
                of_class[of_class[:, 0].argsort()],
            )
    names = [f"class {i}" for i in range(8)]
    tasks = TaskDistribution.from_dataset(
        Listed(*zip(as_pil, labels, strict=True)), class_names=names, rotations=True
    )
    assert tasks.class_names[::4] == ("class 3@0", "class 7@0")


def test_from_dataset_keeps_colour() -> None:
    red = Image.new("RGB", (3, 3), (255, 0, 51))
    image = TaskDistribution.from_dataset(Listed((red, 0), (red, 1))).draw(1)[0]
    assert image[:, 0, 0].tolist() == pytest.approx([1, -1, -0.6], abs=1e-6)


def test_from_dataset_rejects_what_does_not_fit() -> None:
    def build(*images, label: object = 0, **options):
        items = [(image, label) for image in images]
        return TaskDistribution.from_dataset(Listed(*items), **options)

    flat = -torch.ones(1, 4, 4)
    for images, words in [
        ([flat, torch.zeros(1, 4, 5)], ["(1, 4, 4)", "(1, 4, 5)", "image 1", "Resize"]),
        ([flat * 200], ["-200", "[-1, 1]", "127.5"]),
        ([flat, flat * math.nan], ["1 of 2", "NaN", "image 1", "'0'"]),
        ([flat, flat * math.inf], ["1 of 2", "infinite"]),
        ([], ["empty"]),
        ([torch.zeros(1, 2, 2, dtype=torch.int64)], ["torch.int64", "float"]),
    ]:
        with pytest.raises(ValueError) as error:
            build(*images)
        assert_one_line(error, *words)
    with pytest.raises(ValueError) as error:
        build(flat, label=3, class_names=["a", "b"])
    assert_one_line(error, "3", "2 class names")
    with pytest.raises(TypeError) as error:
        build(np.zeros((2, 2)))
    assert_one_line(error, "ndarray", "PIL")
    for item in [(flat, "cat"), (flat,), flat[0, 0, 0]]:
        with pytest.raises(TypeError) as error:
            TaskDistribution.from_dataset(Listed(item))
        assert_one_line(error, "item 0", "integer label")
    with pytest.warns(UserWarning, match="2 \\* x - 1"):
        build(torch.rand(1, 4, 4))


# --- bad inputs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"meta_batch_size": 0}, ["meta_batch_size", "at least 1", "got 0"]),
        ({"shots": 0}, ["shots", "at least 1", "got 0"]),
        ({"query_shots": -1}, ["query_shots", "at least 1", "got -1"]),
        ({"shots": 1.5}, ["shots", "integer", "1.5"]),
    ],
)
@pytest.mark.parametrize(
    "tasks", [ClassTasks(*tagged([5] * 4)), SineTasks(), ToyTasks(), DiracTasks()]
)
def test_counts_below_one(tasks: TaskDistribution, arguments: dict, words) -> None:
    with pytest.raises(ValueError) as error:
        tasks.sample(**dict(meta_batch_size=2, shots=1, query_shots=1) | arguments)
    assert_one_line(error, *words)


def test_a_class_with_too_few_images_is_named() -> None:
    tasks = ClassTasks(*tagged([9, 5, 7]), ["a", "b", "c"], rotations=True)
    for draw in (tasks.every_task, lambda **shots: tasks.sample(1, **shots)):
        draw(shots=2, query_shots=3)
        with pytest.raises(ValueError) as error:
            draw(shots=3, query_shots=3)
        assert_one_line(error, "'b'", "has 5 images", "3 shots", "need 6", "lower")


def test_bad_ways() -> None:
    tasks = ClassTasks(*tagged([5] * 4))
    for ways, words in [(5, ["5-way", "there are 4"]), (1, ["ways", "at least 2"])]:
        with pytest.raises(ValueError) as error:
            tasks.sample(1, shots=1, query_shots=1, ways=ways)
        assert_one_line(error, *words)
        with pytest.raises(ValueError) as error:
            EpisodeTasks(tasks, ways=ways)
        assert_one_line(error, *words)


def test_bad_construction() -> None:
    images, labels = tagged([3, 3])
    for call, words in [
        (lambda: ClassTasks(images, labels[:5]), ["(6, 1, 2, 2)", "(5,)"]),
        (lambda: ClassTasks(images[:0], labels[:0]), ["N > 0"]),
        (lambda: ClassTasks(images, labels.float()), ["integer labels", "float32"]),
        (lambda: ClassTasks(images, labels, ["a"]), ["0 to 1", "1 class names"]),
        (lambda: ClassTasks(images[..., :1], labels, rotations=True), ["square"]),
        (lambda: ClassTasks(images / 0, labels), ["6 of 6", "NaN"]),
        (lambda: load_tasks("digits", "test"), ["'meta-train'", "'test'"]),
        (lambda: ToyTasks("star"), ["'ring', 'blob' or 'line'", "'star'"]),
        (lambda: ClassTasks(images, labels).draw(0), ["n must", "got 0"]),
    ]:
        with pytest.raises(ValueError) as error:
            call()
        assert_one_line(error, *words)


def test_classes_without_images_are_left_out() -> None:
    tasks = ClassTasks(torch.zeros(4, 2), torch.tensor([2, 0, 2, 0]), ["a", "b", "c"])
    assert tasks.class_names == ("a", "c") and tasks.sample_shape == (2,)


# --- other distributions ------------------------------------------------------


def test_sines_have_an_amplitude_and_a_phase() -> None:
    batch = SineTasks().sample(2000, shots=8, query_shots=12, generator=seeded())
    x = torch.cat([batch.support, batch.query], dim=1).double()
    y = torch.cat([batch.support_targets, batch.query_targets], dim=1).double()
    # A sin(x - φ) = (A cos φ) sin x - (A sin φ) cos x is linear in two unknowns.
    design = torch.cat([x.sin(), -x.cos()], dim=-1)
    solution = torch.linalg.lstsq(design, y).solution
    torch.testing.assert_close(design @ solution, y, atol=1e-4, rtol=0)
    a, b = solution[:, :, 0].unbind(1)
    for values, low, high in [
        (torch.hypot(a, b), 0.1, 5.0),
        (torch.atan2(b, a), 0.0, math.pi),
        (x[:, 0, 0], -5.0, 5.0),
    ]:
        assert low - 1e-3 <= values.min() and values.max() <= high + 1e-3
        unit = ((values - low) / (high - low)).clamp(0, 0.9999)
        assert_uniform((unit * 10).long().bincount(minlength=10))


def test_rings_are_rings() -> None:
    batch = ToyTasks("ring").sample(200, shots=300, query_shots=300, generator=seeded())
    points = torch.cat([batch.support, batch.query], dim=1).double()
    # |p|² = 2 c·p + (r² - |c|²) is linear in the centre c and the bracket.
    design = torch.cat([2 * points, torch.ones(200, 600, 1)], dim=-1)
    square = points.square().sum(-1, keepdim=True)
    fit = torch.linalg.lstsq(design, square).solution[..., 0]
    centre = fit[:, :2]
    radius = (fit[:, 2] + centre.square().sum(-1)).sqrt()
    away = (points - centre[:, None]).norm(dim=-1) - radius[:, None]
    assert 0.027 < away.std() < 0.033
    assert 0.28 < radius.min() < 0.32 and 0.58 < radius.max() < 0.62
    assert -0.32 < centre.min() < -0.28 and 0.28 < centre.max() < 0.32
    modes = []
    for p, c in zip(points, centre, strict=True):
        angle = torch.atan2(*(p - c).T).sort().values
        gaps = torch.cat([angle.diff(), angle[:1] + 2 * math.pi - angle[-1:]])
        modes.append(int((gaps > 0.16).sum()))
    assert set(modes) <= set(range(3, 9)) and len(set(modes)) >= 5


def test_blobs_and_lines() -> None:
    def sample(kind: str) -> torch.Tensor:
        tasks = ToyTasks(kind)
        batch = tasks.sample(200, shots=400, query_shots=400, generator=seeded())
        first, last = batch.support.mean(1), batch.query.mean(1)
        assert (first - last).norm(dim=-1).mean() < 0.05 < first.std()
        points = torch.cat([batch.support, batch.query], dim=1).double()
        assert (points.abs() < 1).all(-1).double().mean() > 0.98
        centred = points - points.mean(1, keepdim=True)
        return torch.linalg.eigvalsh(centred.mT @ centred / 799).sqrt()  # [200, 2]

    blob = sample("blob")
    assert (blob[:, 1] / blob[:, 0]).max() < 1.2  # as wide as high
    assert 0.045 < blob.min() < 0.055 and 0.19 < blob.max() < 0.22
    line = sample("line")
    assert 0.027 < line[:, 0].min() and line[:, 0].max() < 0.033
    length = line[:, 1] * math.sqrt(12)  # of a uniform distribution
    assert 0.57 < length.min() < 0.66 and 1.14 < length.max() < 1.26


def test_dirac_tasks_are_points() -> None:
    tasks = DiracTasks(low=-2, high=1)
    batch = tasks.sample(3000, shots=2, query_shots=3, generator=seeded())
    c = batch.support[:, :1]
    assert torch.equal(batch.support, c.expand(-1, 2, -1))
    assert torch.equal(batch.query, c.expand(-1, 3, -1))
    assert -2 <= c.min() and c.max() <= 1
    assert_uniform(((c.flatten() + 2) / 3 * 10).long().bincount(minlength=10))


# --- warped tasks ------------------------------------------------------------


def test_warped_tasks_move_all_images_of_a_task_alike_and_each_task_otherwise():
    images = -torch.ones(20, 1, 11, 11)
    images[:, :, 4:6, 3:8] = 1  # all drawings of all classes are the same
    base = ClassTasks(images, torch.arange(20) % 2)
    tasks = WarpedTasks(base, rotation=45, scale=0.2)
    batch = tasks.sample(
        2, shots=4, query_shots=5, generator=torch.Generator().manual_seed(0)
    )
    assert batch.support.shape == (2, 4, 1, 11, 11)
    assert batch.query.shape == (2, 5, 1, 11, 11)
    for task in range(2):
        drawings = torch.cat([batch.support[task], batch.query[task]])
        torch.testing.assert_close(drawings, drawings[:1].expand_as(drawings))
    assert (batch.support[0, 0] - batch.support[1, 0]).abs().max() > 0.2
    assert (batch.support[0, 0] - images[0]).abs().max() > 0.2
    assert sorted(batch.classes.tolist()) == [0, 1]


def test_warped_tasks_draw_the_same_classes_as_their_base_and_pool_them():
    base = load_tasks("digits")
    tasks = WarpedTasks(base, rotation=10)
    assert tasks.num_classes == base.num_classes
    draws = [
        t.sample(3, shots=2, query_shots=2, generator=torch.Generator().manual_seed(4))
        for t in (base, tasks)
    ]
    assert torch.equal(draws[0].classes, draws[1].classes)
    pooled = tasks.draw(500, torch.Generator().manual_seed(1))
    assert pooled.shape == (500, 1, 8, 8)
    assert float(pooled.mean()) == pytest.approx(float(base.draw(500).mean()), abs=0.1)
    assert tasks.to("cpu").bounds == tasks.bounds


def test_points_cannot_be_warped():
    with pytest.raises(ValueError, match=r"expected images .* shape \[2\]"):
        WarpedTasks(ClassTasks(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)))


def test_validation_classes_leave_meta_training_and_overlap_nothing():
    splits = {
        split: set(load_tasks("digits", split, validation=["0", "3"]).class_names)
        for split in ("meta-train", "validation", "meta-test", "all")
    }
    assert splits["validation"] == {"0", "3"}
    assert splits["meta-test"] == set(load_tasks("digits", "meta-test").class_names)
    parts = [splits[name] for name in ("meta-train", "validation", "meta-test")]
    assert set.union(*parts) == splits["all"]
    assert sum(map(len, parts)) == len(splits["all"]) == 10
    with pytest.raises(ValueError) as error:
        load_tasks("digits", validation=sorted(splits["meta-test"])[0])
    assert_one_line(error, "validation and held-out classes must differ")
    with pytest.raises(ValueError) as error:
        load_tasks("digits", "validation")
    assert_one_line(error, "'validation' is empty", "0 are for validation")
