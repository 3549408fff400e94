"""A classifier with one class more, "generated": MetaGAN's game for few-shot episodes.

Zhang et al. 2018 (MetaGAN, NeurIPS) let the classifier of an episode also be the
discriminator: N classes for real images and one for generated ones. The generator sees
the episode and need not draw well; it is to draw what the classifier should not mistake
for a class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .games import Nets, Supervised, latent_noise
from .nets import check_net

__all__ = ["FakeClass", "class_probabilities", "realness"]


def realness(logits: Tensor) -> Tensor:
    """The logit of "real": log Σ exp over the N classes, ``[..., N]`` → ``[...]``.

    The class "generated" has the logit 0, which costs nothing: a softmax does not see
    a constant (Salimans et al. 2016, section 5).
    """
    return logits.logsumexp(-1)


def class_probabilities(logits: Tensor) -> Tensor:
    """Probabilities of N + 1 classes, the last one "generated".

    Args:
        logits: ``[..., N]``.

    Returns:
        ``[..., N + 1]``, positive, with the sum 1.
    """
    return F.pad(logits, (0, 1)).softmax(-1)


class FakeClass(Supervised):
    """MetaGAN: a classifier whose discriminator is its own sum of classes.

    The loss of ``"net"`` is the cross-entropy of the labels among the N real classes,
    plus ``weight`` times the discriminator's loss with :func:`realness` as its logit;
    the loss of ``"G"`` is −log p(real) of its samples. Each sample begins at an image
    of the set: G gets the image and noise, and returns another image. Give G no inner
    rates, ``inner_lr={"net": 0.1, "G": {}}``, and it stays while the classifier adapts.

    Args:
        net: Images ``[n, *S]`` → logits ``[n, N]``.
        generator: ``[n, prod(S) + latent_dim]`` → images ``[n, *S]``.
        latent_dim: Length of the noise; by default ``generator.latent_dim``.
        weight: Of the discriminator's loss; at 0 the net is trained as
            :class:`~metagan_lite.games.Supervised`, to rounding.
        detach_fakes: Whether the net's loss takes the fakes as constants, so that G
            follows its own loss alone.

    Raises:
        ValueError: for a negative weight, a generator without a ``latent_dim``, or nets
            that keep batch statistics.
    """

    def __init__(
        self,
        net: nn.Module,
        generator: nn.Module,
        *,
        latent_dim: int | None = None,
        weight: float = 1.0,
        detach_fakes: bool = True,
    ):
        super().__init__(net, "cross-entropy")
        check_net(generator, "generator")
        latent_dim = latent_dim or getattr(generator, "latent_dim", None)
        if latent_dim is None:
            raise ValueError(
                "expected the length of the generator's noise, got none: pass"
                " latent_dim=…, or give the generator a latent_dim attribute"
            )
        if weight < 0:
            raise ValueError(f"expected weight ≥ 0, got {weight}; 0 turns G off")
        self.players["G"] = generator
        self.batched = False
        self.latent_dim, self.weight = latent_dim, weight
        self.detach_fakes = detach_fakes

    def noise(
        self,
        tasks: int,
        steps: int,
        samples: int,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """z ~ N(0, I), for each player: ``[tasks, steps, 2, samples, latent]``."""
        return latent_noise(self, tasks, steps, samples, generator)

    def fakes(self, nets: Nets, images: Tensor, z: Tensor) -> Tensor:
        """One sample for each row of z ``[m, latent]``, begun at the images in turn."""
        begin = images.flatten(1)[torch.arange(len(z)) % len(images)]
        return nets["G"](torch.cat([begin, z], 1))

    def loss(
        self, player: str, nets: Nets, data: tuple[Tensor, Tensor], noise: Tensor
    ) -> Tensor:
        """The loss on one task: :meth:`Game.loss <metagan_lite.games.Game.loss>`."""
        images, labels = data
        z = noise.select(-3, list(self.players).index(player))
        fake = self.fakes(nets, images, z)
        if player == "G":
            return F.softplus(-realness(nets["net"](fake))).mean()
        fake = fake.detach() if self.detach_fakes else fake
        both = nets["net"](torch.cat([images, fake]))
        logits, fake_logits = both.split([len(images), len(fake)])
        adversarial = (
            F.softplus(-realness(logits)).mean()
            + F.softplus(realness(fake_logits)).mean()
        )
        return self._loss(logits, labels) + self.weight * adversarial
