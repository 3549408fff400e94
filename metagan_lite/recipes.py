"""Named runs: the tasks, the nets and the configuration of each, in one place.

A recipe decides a run completely, its random numbers included::

    recipe = RECIPES["digits-live"]
    tasks = recipe.training_tasks()
    nets = recipe.build_nets(tasks.sample_shape)
    meta_gan = train_meta_gan(*nets, tasks, recipe.config)

``python -m metagan_lite train digits-live --out FOLDER`` does this from a shell, and
leaves a :class:`Run` beside the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .io import write_atomically
from .meta import MetaGANConfig
from .nets import ConvDiscriminator, ConvGenerator, MetaDiscriminator, MetaGenerator
from .tasks import ClassTasks, WarpedTasks, load_tasks

__all__ = ["RECIPES", "Recipe", "Run"]

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


@dataclass(frozen=True)
class Run:
    """What a folder of checkpoints is of: ``run.json``.

    It holds what building the nets and the tasks takes; the checkpoint holds the
    configuration.

    Attributes:
        recipe: The recipe's name.
        changes: The fields of the configuration that differ from the recipe's.
        sample_shape: ``*S`` of the tasks.
        tasks, nets, generator, discriminator, warp: see :class:`Recipe`; as they were
            used.
    """

    recipe: str
    changes: Mapping[str, Any]
    sample_shape: Sequence[int]
    tasks: Mapping[str, Any]
    nets: str
    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any]
    warp: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        name: str,
        recipe: Recipe,
        sample_shape: Sequence[int],
        changes: Mapping[str, Any],
    ) -> Run:
        """The run of a recipe, as changed, on samples of shape ``*S``."""
        return cls(
            name,
            dict(changes),
            sample_shape,
            # Whether files may be downloaded is no property of the run.
            {k: v for k, v in recipe.tasks.items() if k != "download"},
            recipe.nets,
            dict(recipe.generator),
            dict(recipe.discriminator),
            dict(recipe.warp),
        )

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """The run of a folder.

        Raises:
            FileNotFoundError: when there is no run in the folder.
            ValueError: when the file is not a run.
        """
        path = Path(folder) / _RUN_FILE
        if not path.exists():
            raise FileNotFoundError(
                f"expected a run in '{folder}', found no {_RUN_FILE}; pass a folder"
                " that `python -m metagan_lite train RECIPE --out FOLDER` wrote"
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if (found := record["format"]) != _RUN_FORMAT:
                raise ValueError(f"its format is {found!r}, not {_RUN_FORMAT!r}")
            return cls(**{k: v for k, v in record.items() if k != "format"})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"expected the record of a run, got a broken '{path}' ({error}); train"
                " again, with --resume to keep the checkpoint"
            ) from error

    def save(self, folder: str | Path) -> None:
        """Write the run into a folder, whole or not at all."""
        text = json.dumps(self._plain(), indent=1) + "\n"
        write_atomically(Path(folder) / _RUN_FILE, text.encode())

    def check_resumes(self, folder: str | Path) -> None:
        """Raise a ValueError if the folder holds another run than this.

        The configuration is compared with the checkpoint's, when that is loaded, and
        the data folder may have moved.
        """
        if not (Path(folder) / _RUN_FILE).exists():
            return
        ours, theirs = self._plain(), Run.load(folder)._plain()
        for record in (ours, theirs):
            record.pop("changes")
            record["tasks"].pop("root", None)
        for name, value in ours.items():
            if value != theirs[name]:
                raise ValueError(
                    f"'{folder}' holds another run: expected"
                    f" {name}={json.dumps(theirs[name])}, got {json.dumps(value)};"
                    " resume with what it was made with, or choose another folder"
                )

    def as_recipe(self, config: MetaGANConfig) -> Recipe:
        """The recipe as it was used, with a configuration."""
        return Recipe(
            f"A run of {self.recipe}.",
            self.tasks,
            config,
            self.nets,
            self.generator,
            self.discriminator,
            self.warp,
        )

    def _plain(self) -> dict[str, Any]:
        """As JSON gives it back: tuples become lists."""
        return json.loads(json.dumps({"format": _RUN_FORMAT, **asdict(self)}))


_RUN_FILE, _RUN_FORMAT = "run.json", "metagan_lite run 1"

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

_OMNIGLOT: dict[str, Any] = {
    "tasks": {
        "name": "omniglot-small",
        "size": 20,
        "normalize": True,
        "validation": "Balinese",
    },
    "generator": {"latent_dim": 16, "hidden": (64, 64), "basis": 12},
    # 112 characters are few; turned, slanted, stretched and mirrored they are many.
    "warp": {"rotation": 180, "scale": 0.2, "shear": 0.3, "mirror": True},
}


def _still_a_gan(size: int, basis: int, description: str) -> Recipe:
    return Recipe(
        description,
        tasks={**_OMNIGLOT["tasks"], "size": size},
        warp=_OMNIGLOT["warp"],
        generator={"latent_dim": 16, "hidden": (256, 256), "basis": basis},
        discriminator={"hidden": (256, 256), "basis": basis},
        config=replace(
            _LIVE["config"],
            detach_fakes=True,
            objective_options={"scale": 5.0, "discriminator": 1.0, "generator": 0.1},
        ),
    )


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
    "mnist-28": Recipe(
        "The article's own project put right: MNIST, 28×28 pixels (the test split), its"
        " widths of nets.",
        tasks={"name": "mnist", "subset": "test", "rotations": True},
        config=replace(_LIVE["config"], meta_steps=600, inner_lr=None),
    ),
    "omniglot-20": Recipe(
        "Omniglot's small set, 20×20 pixels, normalised: D becomes a teacher.",
        **_OMNIGLOT,
        discriminator={"hidden": (64, 64), "basis": 12},
        config=_LIVE["config"],
    ),
    "omniglot-20-gan": _still_a_gan(
        20,
        basis=12,
        description="The same characters with a D that stays a discriminator: it"
        " follows its own loss as well, and no player is paid for spoiling the other."
        " Wider nets.",
    ),
    "omniglot-28-gan": _still_a_gan(
        28,
        basis=14,
        description="As omniglot-20-gan, at 28×28 pixels.",
    ),
}
"""Name → recipe."""
