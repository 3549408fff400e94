"""metagan_lite: GANs, MAML and Meta-GAN, small enough to read.

The data flow is ``sample → adapt → meta_gradients → step → evaluate``, and each stage
has a module: :mod:`~metagan_lite.tasks`, :mod:`~metagan_lite.adapt`,
:mod:`~metagan_lite.meta`, :mod:`~metagan_lite.evaluate`.
"""

from .adapt import Adapted, adapt, adaptation_steps, inner_step
from .data import load_images
from .games import GAN, Game, Supervised
from .losses import discriminator_loss, generator_loss, value_function
from .meta import (
    MetaGANConfig,
    TrainedMetaGAN,
    load_meta_gan,
    meta_gradients,
    train_meta,
    train_meta_gan,
)
from .nets import ConvDiscriminator, ConvGenerator, MetaDiscriminator, MetaGenerator
from .recipes import RECIPES, Recipe
from .tasks import (
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

__version__ = "0.1.0"

__all__ = [
    "Adapted",
    "ClassTasks",
    "ConvDiscriminator",
    "ConvGenerator",
    "DiracTasks",
    "EpisodeTasks",
    "GAN",
    "Game",
    "MetaDiscriminator",
    "MetaGANConfig",
    "MetaGenerator",
    "RECIPES",
    "Recipe",
    "SineTasks",
    "Supervised",
    "TaskBatch",
    "TaskDistribution",
    "ToyTasks",
    "TrainedMetaGAN",
    "WarpedTasks",
    "adapt",
    "adaptation_steps",
    "discriminator_loss",
    "generator_loss",
    "inner_step",
    "load_images",
    "load_meta_gan",
    "load_tasks",
    "meta_gradients",
    "train_meta",
    "train_meta_gan",
    "value_function",
]
