"""Named runs: the tasks, the nets and the configuration of each, in one place.

A recipe decides a run completely, its random numbers included::

    recipe = RECIPES["digits-live"]
    tasks = recipe.training_tasks()
    nets = recipe.build_nets(tasks.sample_shape)
    meta_gan = train_meta_gan(*nets, tasks, recipe.config)

``python -m metagan_lite train digits-live --out FOLDER`` does this from a shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .meta import MetaGANConfig
from .nets import ConvDiscriminator, ConvGenerator, MetaDiscriminator, MetaGenerator
from .tasks import ClassTasks, WarpedTasks, load_tasks

__all__ = ["RECIPES", "Recipe"]

_NETS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "mlp": (MetaGenerator, MetaDiscriminator),
    "conv": (ConvGenerator, ConvDiscriminator),
}


@dataclass(frozen=True)
class Recipe:
    """A run that has a name.

    Attributes:
        description: One sentence.
        tasks: The arguments of :func:`~metagan_lite.tasks.load_tasks`, with ``"name"``
            and without ``"split"``.
        config: The configuration; its seed is that of the nets' initialisation as well.
        nets: ``"mlp"`` or ``"conv"``, the pairs of :mod:`metagan_lite.nets`.
        generator, discriminator: Keyword arguments of both classes, besides the shape
            of a sample and the source of the initialisation.
        warp: The maps of :class:`~metagan_lite.tasks.WarpedTasks`, for meta-training
            tasks alone; empty for none.
    """

    description: str
    tasks: Mapping[str, Any]
    config: MetaGANConfig
    nets: str = "mlp"
    generator: Mapping[str, Any] = field(default_factory=dict)
    discriminator: Mapping[str, Any] = field(default_factory=dict)
    warp: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.nets not in _NETS:
            raise ValueError(
                f"expected nets among {', '.join(_NETS)}; got {self.nets!r}"
            )

    def load_tasks(self, split: str = "meta-train", **options: Any) -> ClassTasks:
        """The tasks of one split, as they are; ``options`` add to ``tasks``.

        Raises:
            ValueError, FileNotFoundError: as :func:`~metagan_lite.tasks.load_tasks`.
        """
        return load_tasks(**{**self.tasks, "split": split, **options})

    def training_tasks(self, **options: Any) -> ClassTasks | WarpedTasks:
        """The meta-train tasks as the recipe trains on them: warped, if it warps."""
        tasks = self.load_tasks(**options)
        return WarpedTasks(tasks, **self.warp) if self.warp else tasks

    def build_nets(self, sample_shape: Sequence[int]) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator for samples of shape ``*S``, seeded.

        Both draw from one source, the generator first.
        """
        generator, discriminator = _NETS[self.nets]
        random = torch.Generator().manual_seed(self.config.seed)
        return (
            generator(sample_shape, **self.generator, generator=random),
            discriminator(sample_shape, **self.discriminator, generator=random),
        )


_LIVE = {
    "config": MetaGANConfig(
        meta_steps=1000,
        meta_batch_size=8,
        shots=10,
        inner_steps=5,
        inner_lr={"G": 0.5, "D": 0.2},
        objective="coop-mmd",
    ),
    "generator": {"latent_dim": 16, "hidden": (64, 64)},
    "discriminator": {"hidden": (64, 64)},
}

RECIPES: dict[str, Recipe] = {
    "digits-live": Recipe(
        "Handwritten digits in four orientations, 8×8 pixels.",
        tasks={"name": "digits", "rotations": True},
        **_LIVE,
    ),
    "glyphs-live": Recipe(
        "Symbols of an invented script, 12×12 pixels: what the quickstart notebook"
        " trains.",
        tasks={"name": "glyphs", "classes": 500, "size": 12},
        **_LIVE,
    ),
}
"""Name → recipe."""
