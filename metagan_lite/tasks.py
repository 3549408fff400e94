"""p(T), the distribution over tasks that meta-learning samples from.

A task is a small data set in two parts: the support set, which a learner adapts to,
and the query set, which judges the adapted learner (Vinyals et al., arXiv 1606.04080).
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from PIL import Image
from torch import Generator, Tensor

from .data import (
    check_finite,
    check_integers,
    load_images,
    pil_to_uint8,
    uint8_to_float,
)
from .warp import affine_maps, warp


@dataclass(frozen=True, eq=False)
class TaskBatch:
    """T tasks. ``len(batch)`` is T, ``batch[i:j]`` takes some of the tasks.

    support: [T, K, *S], with K shots (N·K in N-way episodes).
    query: [T, Q, *S], with Q query shots; disjoint from the task's support.
    support_targets, query_targets: [T, K, *Y] and [T, Q, *Y], if tasks have targets.
    classes: [T] index into the distribution's class_names ([T, N] in N-way
        episodes), if tasks are classes.
    """

    support: Tensor
    query: Tensor
    support_targets: Tensor | None = None
    query_targets: Tensor | None = None
    classes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.support)

    def __getitem__(self, index: slice) -> TaskBatch:
        if not isinstance(index, slice):
            raise TypeError(f"a TaskBatch takes slices, got {index!r}: use [i:i+1]")
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> TaskBatch:
        """The same tasks on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function) -> TaskBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return TaskBatch(
            **{k: None if t is None else function(t) for k, t in tensors.items()}
        )


class TaskDistribution(ABC):
    """p(T): everything that can sample a `TaskBatch`.

    sample_shape: the shape *S of one sample.
    device: where sampled tensors are returned. Random numbers are drawn on the
        generator's device (the CPU without one), so a seed gives the same tasks
        on every device.
    """

    sample_shape: tuple[int, ...]
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: Generator | None = None,
    ) -> TaskBatch:
        """Draw `meta_batch_size` tasks with `shots` support and `query_shots` query
        samples each. Raises ValueError if one of the three is below 1."""

    def to(self, device: torch.device | str) -> TaskDistribution:
        """The same distribution, sampling to another device."""
        moved = copy.copy(self)
        moved.device = torch.device(device)
        return moved

    @staticmethod
    def from_dataset(
        dataset: torch.utils.data.Dataset,
        *,
        class_names: Sequence[str] | None = None,
        rotations: bool = False,
    ) -> ClassTasks:
        """Tasks from any labelled dataset; a task is one of its classes.

        dataset: yields (image, label), the image a PIL image, a uint8 tensor, which
            is scaled to [-1, 1], or a float tensor in [-1, 1]; the label an integer.
        class_names: name of label 0, 1, …; default: the labels themselves. Classes
            without images are left out.
        rotations: see `ClassTasks`.

        Raises ValueError if images differ in size, lie outside [-1, 1] or are not
        finite, and TypeError if an item is something else. Warns if no float image
        has a value below 0, as [0, 1] images have.
        """
        images, labels = [], []
        for i in range(len(dataset)):
            image, label = _labelled_image(dataset[i], i)
            first = images[0] if images else image
            if (image.shape, image.dtype) != (first.shape, first.dtype):
                raise ValueError(
                    f"images differ: image 0 is {tuple(first.shape)} {first.dtype} but "
                    f"image {i} is {tuple(image.shape)} {image.dtype}; make them "
                    f"equal, e.g. with a Resize transform"
                )
            images.append(image)
            labels.append(label)
        if not images:
            raise ValueError("the dataset is empty: expected (image, label) items")
        stacked = torch.stack(images)
        if stacked.dtype == torch.uint8:
            stacked = uint8_to_float(stacked)
        elif stacked.is_floating_point():
            stacked = stacked.float()
        if stacked.ndim == 3:
            stacked = stacked[:, None]  # [N, H, W] → [N, 1, H, W]
        tasks = ClassTasks(
            stacked, torch.tensor(labels), class_names, rotations=rotations
        )
        low, high = stacked.amin().item(), stacked.amax().item()
        if low < -1.0001 or high > 1.0001:
            raise ValueError(
                f"image values run from {low:.4g} to {high:.4g}, expected [-1, 1]: "
                f"yield uint8 images, or scale 0…255 by x / 127.5 - 1"
            )
        if low >= 0:
            warnings.warn(
                "no image value is below 0, expected [-1, 1] with background -1: scale "
                "[0, 1] images (e.g. of ToTensor) by 2 * x - 1",
                stacklevel=2,
            )
        return tasks


def _labelled_image(item: object, i: int) -> tuple[Tensor, int]:
    """Item i of a labelled dataset, a PIL image turned into a uint8 tensor."""
    try:
        image, label = item
        label = int(label)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"item {i} of the dataset is not (image, integer label): wrap the dataset "
            f"so that it yields such pairs"
        ) from None
    if isinstance(image, Image.Image):
        image = pil_to_uint8(image, 1 if image.mode in ("1", "L") else 3)
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image {i} of the dataset is a {type(image).__name__}: expected a PIL "
            f"image or a tensor"
        )
    return image, label


class ClassTasks(TaskDistribution):
    """A task is one class of images; support and query are different images of it.

    All images are held as one tensor, sorted by class, so that a batch of tasks is
    one gather without a loop over tasks or images.

    images: [N, *S] float, in [-1, 1] for images; labels: [N] int.
    class_names: name of label 0, 1, …; default: the labels. Classes without images
        are left out, so a class index counts the classes that are present.
    rotations: every class becomes four, turned by 0, 90, 180 and 270 degrees
        counterclockwise (Santoro et al., arXiv 1605.06065). Class c turned k times
        has index 4*c + k and a name like "2@90". The images must be square.

    Raises ValueError for tensors that do not fit together, labels without a name,
    images that hold NaN or infinity, or rotations of images that are not square.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        class_names: Sequence[str] | None = None,
        *,
        rotations: bool = False,
    ) -> None:
        if len(images) == 0 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"expected images [N, ...] and labels [N] with N > 0, got "
                f"{tuple(images.shape)} and {tuple(labels.shape)}"
            )
        if not images.is_floating_point() or labels.is_floating_point():
            raise ValueError(
                f"expected float images in [-1, 1] and integer labels, got "
                f"{images.dtype} and {labels.dtype}"
            )
        present, labels = labels.cpu().unique(return_inverse=True)
        if class_names is None:
            names = tuple(str(label) for label in present.tolist())
        elif 0 <= present[0] and present[-1] < len(class_names):
            names = tuple(class_names[label] for label in present.tolist())
        else:
            raise ValueError(
                f"labels run from {present[0]} to {present[-1]}, but there are "
                f"{len(class_names)} class names: give one for each label from 0"
            )
        check_finite(images, labels, names)
        order = labels.argsort(stable=True)
        self._images = images[order.to(images.device)]
        self._counts = labels.bincount()  # [C] on the CPU, as are the indices drawn
        self._offsets = self._counts.cumsum(0) - self._counts
        self._turns = None  # [4, H*W]: the pixels of an image turned k times
        self._base_names = names
        self.sample_shape = tuple(images.shape[1:])
        self.device = images.device
        if rotations:
            if images.ndim < 3 or images.shape[-1] != images.shape[-2]:
                raise ValueError(
                    f"rotations need square images, got {self.sample_shape}: resize "
                    f"them or pass rotations=False"
                )
            side = images.shape[-1]
            pixel = torch.arange(side * side, device=images.device).view(side, side)
            self._turns = torch.stack([pixel.rot90(k).flatten() for k in range(4)])
            names = tuple(f"{n}@{angle}" for n in names for angle in (0, 90, 180, 270))
        self.class_names: tuple[str, ...] = names

    @property
    def num_classes(self) -> int:
        """How many classes a task can be, rotations counted."""
        return len(self.class_names)

    def to(self, device: torch.device | str) -> ClassTasks:
        """The same distribution with its images on another device."""
        moved = super().to(device)
        moved._images = self._images.to(device)
        moved._turns = None if self._turns is None else self._turns.to(device)
        return moved

    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: Generator | None = None,
        ways: int | None = None,
    ) -> TaskBatch:
        """Draw tasks: classes at random, then K + Q different images of each.

        The classes of a batch differ as long as there are enough of them; a larger
        batch draws them with replacement.

        ways: None, or N for N-way classification episodes (Vinyals et al., arXiv
            1606.04080): each task has N classes, support [T, N*K, *S] and
            support_targets [T, N*K] int64 in 0 … N-1, shots of a class together,
            and the query likewise.

        Raises ValueError if a count is below 1, a class has fewer than K + Q images,
        or there are fewer than N classes.
        """
        _check_sizes(meta_batch_size, shots, query_shots)
        draw = _draw_options(generator)
        if ways is not None:
            _check_ways(self, ways)
            keys = torch.rand(meta_batch_size, self.num_classes, **draw)
            classes = keys.topk(ways, dim=1).indices  # [T, N]
        elif meta_batch_size <= self.num_classes:
            classes = torch.randperm(self.num_classes, **draw)[:meta_batch_size]
        else:
            classes = torch.randint(self.num_classes, (meta_batch_size,), **draw)
        return self._episodes(classes, shots, query_shots, generator)

    def every_task(
        self, *, shots: int, query_shots: int, generator: Generator | None = None
    ) -> TaskBatch:
        """One task for each class, in the order of `class_names` (for evaluation).

        Raises ValueError as `sample` does.
        """
        _check_sizes(self.num_classes, shots, query_shots)
        classes = torch.arange(self.num_classes)
        return self._episodes(classes, shots, query_shots, generator)

    def draw(self, n: int, generator: Generator | None = None) -> Tensor:
        """A batch [n, *S] pooled over all classes, for plain GAN training.

        Each image is of a class drawn uniformly, as in a task, with replacement.
        Raises ValueError if n is below 1.
        """
        check_integers(1, n=n)
        draw = _draw_options(generator)
        classes = torch.randint(self.num_classes, (n,), **draw).cpu()
        counts = self._counts[self._base(classes)]
        place = (torch.rand(n, dtype=torch.float64, **draw).cpu() * counts).long()
        return self._gather(classes, place[:, None])[:, 0]

    def _episodes(
        self, classes: Tensor, shots: int, query_shots: int, generator: Generator | None
    ) -> TaskBatch:
        """Tasks of given classes, [T] or, for N-way episodes, [T, N]."""
        needed, fewest = shots + query_shots, int(self._counts.argmin())
        if self._counts[fewest] < needed:
            raise ValueError(
                f"class {self._base_names[fewest]!r} has {self._counts[fewest]} "
                f"images, but {shots} shots + {query_shots} query shots need {needed}: "
                f"lower them or leave the class out"
            )
        flat = classes.flatten().cpu()
        counts = self._counts[self._base(flat)]
        # The places with the largest of random keys are a random subset in random
        # order; keys beyond the end of a class are never among them.
        draw = _draw_options(generator)
        keys = torch.rand(len(flat), int(counts.max()), **draw).cpu()
        keys[torch.arange(keys.shape[1]) >= counts[:, None]] = -1
        place = keys.topk(needed, dim=1).indices  # [T*N, K+Q]
        images = self._gather(flat, place)
        support, query = images[:, :shots], images[:, shots:]
        classes = classes.to(self.device)
        if classes.ndim == 1:
            return TaskBatch(support, query, classes=classes)
        tasks, ways = classes.shape
        target = torch.arange(ways, device=self.device)
        return TaskBatch(
            support.reshape(tasks, ways * shots, *self.sample_shape),
            query.reshape(tasks, ways * query_shots, *self.sample_shape),
            target.repeat_interleave(shots).repeat(tasks, 1),
            target.repeat_interleave(query_shots).repeat(tasks, 1),
            classes,
        )

    def _base(self, classes: Tensor) -> Tensor:
        """Classes without their rotation."""
        return classes if self._turns is None else classes // 4

    def _gather(self, classes: Tensor, place: Tensor) -> Tensor:
        """Images [M, n, *S] at places [M, n] within classes [M], turned if need be."""
        index = self._offsets[self._base(classes)][:, None] + place
        images = self._images[index.to(self.device)]
        if self._turns is None:
            return images
        flat = images.flatten(-2)  # [M, n, ..., H*W]
        turn = self._turns[(classes % 4).to(self.device)]  # [M, H*W]
        turn = turn.view(len(turn), *[1] * (flat.ndim - 2), -1).expand_as(flat)
        return flat.gather(-1, turn).view_as(images)


class EpisodeTasks(TaskDistribution):
    """N-way episodes of a set of classes, for what samples tasks without naming N.

    `train_meta` is such a caller: ``train_meta(game, EpisodeTasks(tasks, ways=5), …)``
    is MAML for 5-way classification.

    base: the classes. ways: N, see `ClassTasks.sample`.

    Raises ValueError if N is below 2 or above the number of classes.
    """

    def __init__(self, base: ClassTasks, *, ways: int) -> None:
        _check_ways(base, ways)
        self.base, self.ways = base, ways
        self.sample_shape, self.device = base.sample_shape, base.device

    def to(self, device: torch.device | str) -> EpisodeTasks:
        """The same distribution with its images on another device."""
        return EpisodeTasks(self.base.to(device), ways=self.ways)

    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: Generator | None = None,
    ) -> TaskBatch:
        """``base.sample(…, ways=N)``: support [T, N*K, *S] with targets [T, N*K]."""
        return self.base.sample(
            meta_batch_size,
            shots=shots,
            query_shots=query_shots,
            generator=generator,
            ways=self.ways,
        )


def _check_ways(tasks: ClassTasks, ways: int) -> None:
    check_integers(2, ways=ways)
    if ways > tasks.num_classes:
        raise ValueError(
            f"{ways}-way episodes need {ways} classes, there are "
            f"{tasks.num_classes}: lower ways"
        )


class WarpedTasks(TaskDistribution):
    """Every task is a class under an affine map of its own: no class comes twice.

    All images of a task move alike: a turned, slanted character is a new character,
    and its drawings still differ as drawings do. With few classes this is what keeps
    an initialisation from learning them by heart.

    base: the classes. rotation, scale, shear, shift, mirror: the maps, see
        `metagan_lite.warp.affine_maps`.
    """

    def __init__(
        self,
        base: ClassTasks,
        *,
        rotation: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        mirror: bool = False,
    ) -> None:
        if len(base.sample_shape) != 3:
            raise ValueError(
                f"expected images [C, H, W] to warp, got samples of shape "
                f"{list(base.sample_shape)}: use the tasks as they are"
            )
        self.base = base
        self.bounds = {
            "rotation": rotation,
            "scale": scale,
            "shear": shear,
            "shift": shift,
            "mirror": mirror,
        }
        self.sample_shape, self.device = base.sample_shape, base.device

    @property
    def num_classes(self) -> int:
        """How many classes there are before warping."""
        return self.base.num_classes

    def to(self, device: torch.device | str) -> WarpedTasks:
        """The same distribution with its images on another device."""
        return WarpedTasks(self.base.to(device), **self.bounds)

    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: Generator | None = None,
    ) -> TaskBatch:
        """As `ClassTasks.sample`, then one map for each task."""
        batch = self.base.sample(
            meta_batch_size,
            shots=shots,
            query_shots=query_shots,
            generator=generator,
        )
        maps = affine_maps(meta_batch_size, **self.bounds, generator=generator)
        images = torch.cat([batch.support, batch.query], 1)  # [T, K + Q, C, H, W]
        of_each = maps.repeat_interleave(images.shape[1], 0)
        moved = warp(images.flatten(0, 1), of_each).view_as(images)
        return replace(batch, support=moved[:, :shots], query=moved[:, shots:])

    def draw(self, n: int, generator: Generator | None = None) -> Tensor:
        """A batch ``[n, *S]`` pooled over all classes, each image under its own map."""
        images = self.base.draw(n, generator=generator)
        return warp(images, affine_maps(n, **self.bounds, generator=generator))


def load_tasks(
    name: str,
    split: str = "meta-train",
    *,
    held_out: str | Sequence[str] | None = None,
    validation: str | Sequence[str] = (),
    rotations: bool = False,
    device: torch.device | str = "cpu",
    **options,
) -> ClassTasks:
    """Class tasks from one of the image sources of `metagan_lite.data`.

    name, options: as for `load_images`, e.g. "digits", "omniglot-small", "folder:PATH".
    split: "meta-train", "meta-test" (the held-out classes), "validation" or "all".
    held_out: class names that replace the source's own held-out classes; the name of
        a folder or alphabet holds out all classes in it.
    validation: class, folder or alphabet names taken from the meta-train classes, to
        choose settings on.
    rotations: four rotated classes for each, see `ClassTasks`; a class and its
        rotations are always on the same side of the split.

    Raises ValueError for an unknown split or held-out name, an empty split, and what
    `load_images` raises.
    """
    splits = ("meta-train", "validation", "meta-test", "all")
    if split not in splits:
        names = ", ".join(map(repr, splits))
        raise ValueError(f"split must be one of {names}; got {split!r}")
    data = load_images(name, **options)
    if held_out is None:
        test = set(data.meta_test)
    else:
        test = _named(held_out, data.class_names)
    chosen = _named(validation, data.class_names)
    if both := chosen & test:
        raise ValueError(
            f"validation and held-out classes must differ, but both hold "
            f"{min(both)!r}: change validation"
        )
    names = {
        "meta-train": set(data.class_names) - test - chosen,
        "validation": chosen,
        "meta-test": test,
        "all": set(data.class_names),
    }[split]
    keep = torch.tensor([name in names for name in data.class_names])
    if not keep.any():
        raise ValueError(
            f"split {split!r} is empty: of {len(data.class_names)} classes "
            f"{len(test)} are held out and {len(chosen)} are for validation; change "
            f"held_out or validation"
        )
    mask = keep[data.labels]
    tasks = ClassTasks(
        data.images[mask], data.labels[mask], data.class_names, rotations=rotations
    )
    return tasks.to(device)


def _named(wanted_names: str | Sequence[str], class_names: Sequence[str]) -> set[str]:
    """The classes of these names, or in folders or alphabets of these names."""
    chosen: set[str] = set()
    for wanted in [wanted_names] if isinstance(wanted_names, str) else wanted_names:
        below = {n for n in class_names if n == wanted or n.startswith(f"{wanted}/")}
        if not below:
            some = ", ".join(repr(n) for n in class_names[:12])
            more = ", …" if len(class_names) > 12 else ""
            raise ValueError(
                f"cannot hold out {wanted!r}: it is neither a class nor a folder of "
                f"classes; the {len(class_names)} classes are {some}{more}"
            )
        chosen |= below
    return chosen


# --- other distributions ------------------------------------------------------


class SineTasks(TaskDistribution):
    """Regression of sine waves, y = A sin(x - φ) (Finn et al., arXiv 1703.03400, 5.1).

    A task has an amplitude A and a phase φ. Support and query are inputs x
    [T, K, 1], with targets y of the same shape.

    amplitude, phase, x: the ranges of uniform A, φ and x; phase in radians.
    """

    sample_shape = (1,)

    def __init__(
        self,
        amplitude: tuple[float, float] = (0.1, 5.0),
        phase: tuple[float, float] = (0.0, math.pi),
        x: tuple[float, float] = (-5.0, 5.0),
    ) -> None:
        self.amplitude, self.phase, self.x = amplitude, phase, x

    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: Generator | None = None,
    ) -> TaskBatch:
        """Draw tasks; see `TaskDistribution.sample`."""
        _check_sizes(meta_batch_size, shots, query_shots)
        total = shots + query_shots
        amplitude = _uniform(self.amplitude, (meta_batch_size, 1, 1), generator)
        phase = _uniform(self.phase, (meta_batch_size, 1, 1), generator)
        x = _uniform(self.x, (meta_batch_size, total, 1), generator)
        y = amplitude * (x - phase).sin()
        batch = TaskBatch(x[:, :shots], x[:, shots:], y[:, :shots], y[:, shots:])
        return batch.to(self.device)


class ToyTasks(TaskDistribution):
    """Small distributions in the plane; almost all of their mass is in [-1, 1]².

    kind: "ring": three to eight Gaussians, evenly spaced on a circle with random
        centre, radius (0.3 to 0.6) and turn; "blob": one Gaussian with random centre
        and deviation (0.05 to 0.2); "line": a segment of length 0.6 to 1.2 with
        random centre and direction.
    noise: standard deviation of each Gaussian of a ring, and across a line.

    A generator without bounds (``output=nn.Identity``) needs a small inner rate here,
    about 0.05 for both players.

    Raises ValueError for another kind.
    """

    sample_shape = (2,)

    def __init__(self, kind: str = "ring", noise: float = 0.03) -> None:
        if kind not in ("ring", "blob", "line"):
            raise ValueError(f"kind must be 'ring', 'blob' or 'line', got {kind!r}")
        self.kind, self.noise = kind, noise

    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: Generator | None = None,
    ) -> TaskBatch:
        """Draw tasks; see `TaskDistribution.sample`."""
        _check_sizes(meta_batch_size, shots, query_shots)
        one, each = (meta_batch_size, 1, 1), (meta_batch_size, shots + query_shots, 1)
        centre = _uniform((-0.3, 0.3), (meta_batch_size, 1, 2), generator)
        scale = _uniform((0.0, 1.0), one, generator)
        angle = _uniform((0.0, 2 * math.pi), one, generator)
        place = _uniform((0.0, 1.0), each, generator)
        normal = torch.randn(*each[:2], 2, **_draw_options(generator))
        if self.kind == "ring":
            modes = _uniform((3.0, 9.0), one, generator).floor()
            angle = angle + 2 * math.pi * (place * modes).floor() / modes
            along, spread = 0.3 + 0.3 * scale, self.noise
        elif self.kind == "blob":
            along, spread = 0.0, 0.05 + 0.15 * scale
        else:
            along, spread = (0.6 + 0.6 * scale) * (place - 0.5), self.noise
        direction = torch.cat([angle.cos(), angle.sin()], dim=-1)
        points = centre + along * direction + spread * normal  # [T, K+Q, 2]
        return TaskBatch(points[:, :shots], points[:, shots:]).to(self.device)


class DiracTasks(TaskDistribution):
    """A task is a point c: every support and query sample equals c, shape (1,).

    With a generator that is a point and a linear discriminator this is the Dirac-GAN
    of Mescheder, Geiger and Nowozin (arXiv 1801.04406, section 2), one per task.

    low, high: the range of uniform c.
    """

    sample_shape = (1,)

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        self.low, self.high = low, high

    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: Generator | None = None,
    ) -> TaskBatch:
        """Draw tasks; see `TaskDistribution.sample`."""
        _check_sizes(meta_batch_size, shots, query_shots)
        c = _uniform((self.low, self.high), (meta_batch_size, 1, 1), generator)
        samples = c.repeat(1, shots + query_shots, 1)
        return TaskBatch(samples[:, :shots], samples[:, shots:]).to(self.device)


def _check_sizes(meta_batch_size: int, shots: int, query_shots: int) -> None:
    check_integers(
        1, meta_batch_size=meta_batch_size, shots=shots, query_shots=query_shots
    )


def _draw_options(generator: Generator | None) -> dict:
    """Keyword arguments of torch's random functions: draw where the generator is."""
    device = "cpu" if generator is None else generator.device
    return {"generator": generator, "device": device}


def _uniform(
    bounds: tuple[float, float], shape: tuple[int, ...], generator: Generator | None
) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, **_draw_options(generator))
