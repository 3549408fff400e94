"""An ordinary GAN, trained on one data set: where the course starts, and a baseline."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .games import GAN, check_tasks
from .tasks import ClassTasks

__all__ = ["train_gan"]


def train_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    tasks: ClassTasks,
    *,
    steps: int = 2000,
    batch_size: int = 64,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.5, 0.99),
    loss: str = "non-saturating",
    r1: float = 0.1,
    ema: float = 0.99,
    seed: int = 0,
    device: str | torch.device = "cpu",
    callback: Callable[[int, GAN, GAN], None] | None = None,
    progress: bool = True,
) -> GAN:
    """Train a GAN on all images of ``tasks`` pooled, with Adam, D then G at each step.

    Args:
        generator, discriminator: The nets; copied, not changed.
        tasks: Its classes are pooled; labels are not used.
        steps: Updates of each player.
        batch_size: Real images, and fakes, per update.
        lr, betas: Adam's (Kingma & Ba 2015).
        loss, r1: see :class:`~metagan_lite.games.GAN`.
        ema: Decay of the running mean of the weights, which is what is returned.
        seed: Of batches and noise.
        callback: Called after each step with (steps done, the game being trained, its
            running mean). Copy what should outlive the next step.

    Returns:
        The trained GAN.

    Raises:
        RuntimeError: when a loss is not finite, naming the player and the step.
    """
    nets = [net.to(device) for net in copy.deepcopy((generator, discriminator))]
    game = GAN(*nets, loss=loss, r1=r1)
    check_tasks(tasks, game)
    mean = copy.deepcopy(game)
    tasks = tasks.to(device)
    random = torch.Generator().manual_seed(seed)
    optimizers = {
        player: torch.optim.Adam(own.values(), lr, betas=betas)
        for player, own in game.trainable().items()
    }
    for step in tqdm(range(steps), desc="GAN training", disable=not progress):
        real = tasks.draw(batch_size, random)
        noise = game.noise(1, 1, batch_size, generator=random)[0, 0]
        for player, named in game.trainable().items():
            loss_value = game.loss(player, game.players, real, noise)
            _check_finite(loss_value, player, step)
            # Only this player's gradients: the other's .grad stays untouched.
            own = list(named.values())
            for parameter, slope in zip(own, torch.autograd.grad(loss_value, own)):
                parameter.grad = slope
            optimizers[player].step()
        decay = min(ema, step / (step + 10))
        with torch.no_grad():
            for player, net in game.players.items():
                averaged = list(mean.players[player].parameters())
                torch._foreach_lerp_(averaged, list(net.parameters()), 1 - decay)
        if callback is not None:
            callback(step + 1, game, mean)
    return mean


def _check_finite(loss: Tensor, player: str, step: int) -> None:
    if not math.isfinite(loss.item()):
        raise RuntimeError(
            f"step {step + 1}: expected a finite loss of {player}, got {loss.item()};"
            " lower lr, or add an r1 penalty"
        )
