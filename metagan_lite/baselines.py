"""Ways to draw a new class without meta-learning: what a Meta-GAN has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import vmap

from .adapt import Params, bind
from .games import GAN, Game, Nets
from .losses import mmd_loss
from .warp import affine_maps, warp

__all__ = ["SupportMMD", "fine_tune", "jitter"]


def jitter(
    images: Tensor, samples: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Support images moved at random: the baseline that learns nothing.

    Each sample is one support image under a random affine map: rotation up to ±10°,
    scale and shear up to ±10 %, shift up to ±5 % of the width, all uniform.

    Args:
        images: ``[T, K, C, H, W]`` in [-1, 1]. samples: how many per task.
        generator: On the CPU.

    Returns:
        ``[T, samples, C, H, W]``.
    """
    tasks, shots = images.shape[:2]
    n = tasks * samples
    chosen = torch.randint(shots, (tasks, samples), generator=generator)
    task = torch.arange(tasks).unsqueeze(1)
    picked = images[task.to(images.device), chosen.to(images.device)].flatten(0, 1)
    maps = affine_maps(
        n, rotation=10, scale=0.1, shear=0.1, shift=0.05, generator=generator
    )
    moved = warp(picked, maps)
    return moved.unflatten(0, (tasks, samples))


class SupportMMD(Game):
    """A generator alone: it descends the MMD between its samples and the support set.

    The baseline without an adversary. L_G = scale · MMD²(G(z), support) of
    :func:`~metagan_lite.losses.mmd_loss` (Gretton et al. 2012, equation 3) on values of
    the samples. Run it with :func:`~metagan_lite.adapt.adaptation_steps`; the noise is
    what G alone would get in the GAN's inner loop.

    Args:
        gan: Whose generator plays.
        scale: Factor of the MMD, so that its gradients are of order one.
    """

    batched = True

    def __init__(self, gan: GAN, scale: float = 10.0):
        self.gan, self.scale = gan, scale
        self.players = {"G": gan.players["G"]}

    def noise(
        self,
        tasks: int,
        steps: int,
        samples: int,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """z ~ N(0, I), ``[tasks, steps, samples, latent]``: G's of the GAN's noise."""
        both = self.gan.noise(tasks, steps, samples, generator=generator)
        return both[:, :, list(self.gan.players).index("G")]

    def check(self, data: Tensor) -> None:
        """Raise a ValueError unless ``data`` is ``[T, K, *S]`` as G needs it."""
        self.gan.check(data)

    def loss(self, player: str, nets: Nets, data: Tensor, noise: Tensor) -> Tensor:
        """L_G on one task; see :meth:`Game.loss <metagan_lite.games.Game.loss>`."""
        dims = len(self.gan.sample_shape)
        generated, real = (
            x.flatten(x.dim() - dims) for x in (nets[player](noise), data)
        )
        return self.scale * mmd_loss(generated, real)


def fine_tune(
    game: GAN,
    support: Tensor,
    noise: Tensor,
    rate: float,
    betas: tuple[float, float] = (0.5, 0.99),
) -> Params:
    """A GAN trained on, on each task's support set, with Adam, D then G at each step.

    Kingma & Ba 2015, algorithm 1, with the betas of ``train_gan``; the tasks are
    stacked, since torch's optimiser would take them one by one.

    Args:
        game: What each task starts from; it does not change.
        support: ``[T, K, *S]``.
        noise: ``game.noise(T, steps, samples)``.
        rate, betas: Adam's.

    Returns:
        Player → parameter name → ``[T, *P]``.
    """

    def stacked(values: Mapping[str, Mapping[str, Tensor]]) -> Params:
        return {
            player: {
                k: v.detach().expand(len(support), *v.shape) for k, v in own.items()
            }
            for player, own in values.items()
        }

    params = stacked(game.parameters())
    moments = {
        player: {k: (torch.zeros_like(v), torch.zeros_like(v)) for k, v in own.items()}
        for player, own in stacked(game.trainable()).items()
    }
    for step in range(noise.shape[1]):
        for player, own in moments.items():

            def slope(params: Params, data: Tensor, z: Tensor) -> dict[str, Tensor]:
                def loss(moving: dict[str, Tensor]) -> Tensor:
                    nets = bind(game, {**params, player: params[player] | moving})
                    return game.loss(player, nets, data, z)

                return torch.func.grad(loss)({k: params[player][k] for k in own})

            slopes = vmap(slope)(params, support, noise[:, step])
            for name, (mean, square) in own.items():
                mean.lerp_(slopes[name], 1 - betas[0])
                square.lerp_(slopes[name].square(), 1 - betas[1])
                size = (square / (1 - betas[1] ** (step + 1))).sqrt() + 1e-8
                move = rate * mean / (1 - betas[0] ** (step + 1)) / size
                params[player][name] = params[player][name] - move
    return params
