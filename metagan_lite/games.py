"""Who plays, and what each player minimises on one task.

A :class:`Game` names its players in the order in which they move and gives each a loss.
:class:`GAN` has two, the discriminator ``"D"`` and the generator ``"G"``;
:class:`Supervised` has one, a classifier or a regressor, and makes the inner loop MAML.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .data import check_integers
from .losses import (
    check_kind,
    cross_entropy,
    discriminator_loss,
    generator_loss,
    r1_penalty,
    squared_error,
)
from .nets import check_net
from .tasks import TaskBatch, TaskDistribution

__all__ = ["GAN", "Game", "Nets", "Supervised", "check_tasks", "latent_noise"]

Nets = Mapping[str, Callable[[Tensor], Tensor]]
"""Each player as a function of its input, with the parameters of the moment."""


class Game(ABC):
    """The players and their losses.

    Attributes:
        players: Name → network, in the order in which they move.
        batched: Whether the losses also accept a leading task dimension. Only then can
            the dual path (:mod:`metagan_lite.dual`) run.
    """

    players: dict[str, nn.Module]
    batched: bool
    # What adapt() found: whether the dual path's first step is the loop's, and on how
    # many tasks (0: not compared yet). Kept here because it belongs to these nets.
    dual_checked: tuple[bool, int] = (False, 0)

    @abstractmethod
    def loss(self, player: str, nets: Nets, data: Any, noise: Tensor) -> Tensor:
        """What ``player`` minimises on one task.

        Args:
            player: A name of ``players``.
            nets: The players as functions.
            data: What :meth:`support` or :meth:`query` returned, without the task
                dimension.
            noise: One step of :meth:`noise`, likewise.

        Returns:
            A scalar.
        """

    def noise(
        self,
        tasks: int,
        steps: int,
        samples: int,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The randomness of ``steps`` inner steps, ``[tasks, steps, …]``; here none."""
        return torch.empty(tasks, steps, 0)

    def check(self, data: Any) -> None:
        """Raise a ValueError unless ``data`` can be a support set of this game."""
        for leaf in torch.utils._pytree.tree_leaves(data):
            if bad := int((~leaf.isfinite()).sum()):
                raise ValueError(
                    f"expected finite support values, got {bad} that are NaN or"
                    " infinite; clean the images"
                )

    def support(self, batch: TaskBatch) -> Any:
        """What the inner loop sees of a batch."""
        return batch.support

    def query(self, batch: TaskBatch) -> Any:
        """What the outer loss sees of a batch."""
        return batch.query

    def parameters(self) -> dict[str, dict[str, nn.Parameter]]:
        """Player → parameter name → parameter: the initialisation that is learned."""
        return {
            name: dict(net.named_parameters()) for name, net in self.players.items()
        }

    def trainable(self) -> dict[str, dict[str, nn.Parameter]]:
        """Those of :meth:`parameters` that are not frozen."""
        return {
            player: {name: p for name, p in own.items() if p.requires_grad}
            for player, own in self.parameters().items()
        }


class GAN(Game):
    """A generator against a discriminator.

    Args:
        generator: ``z [n, latent_dim]`` → samples ``[n, *S]``.
        discriminator: samples ``[n, *S]`` → logits ``[n]`` or ``[n, 1]``.
        latent_dim: Length of z; by default ``generator.latent_dim``.
        loss: One of :data:`metagan_lite.losses.LOSSES`.
        r1: γ of the penalty γ/2·E‖∇d‖² on real samples (Mescheder et al. 2018,
            equation 9), part of D's loss. 0 for none.
        detach_fakes: Whether D's loss takes its fakes as constants, as in a usual GAN
            program. It changes no step, but a second-order meta-gradient: through the
            fakes of D's steps φ′ depends on θ.

    Raises:
        ValueError: when the nets do not fit each other, keep batch statistics, or
            ``r1`` is negative.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent_dim: int | None = None,
        loss: str = "non-saturating",
        r1: float = 0.0,
        detach_fakes: bool = False,
    ):
        check_net(generator, "generator")
        check_net(discriminator, "discriminator")
        latent_dim = latent_dim or getattr(generator, "latent_dim", None)
        if latent_dim is None:
            raise ValueError(
                "expected the length of the generator's noise, got none: pass"
                " latent_dim=…, or give the generator a latent_dim attribute (or swap"
                " the nets, if the discriminator came first)"
            )
        check_kind(loss)
        if r1 < 0:
            raise ValueError(f"expected r1 ≥ 0, got {r1}; 0 turns the penalty off")
        self.players = {"D": discriminator, "G": generator}
        self.latent_dim, self.kind, self.r1 = latent_dim, loss, r1
        self.detach_fakes = detach_fakes
        self.batched = r1 == 0
        self.sample_shape, self._column = self._probe()

    def _probe(self) -> tuple[tuple[int, ...], bool]:
        """Run both nets on three samples: the shape of a sample, and D's output."""
        like = next(self.players["G"].parameters())
        z = torch.zeros(3, self.latent_dim, device=like.device, dtype=like.dtype)
        with torch.no_grad():
            try:
                samples = self.players["G"](z)
            except RuntimeError as error:
                raise ValueError(
                    f"generator: expected to take z [n, {self.latent_dim}], got"
                    f" '{_first_line(error)}'; check latent_dim and the first layer"
                ) from error
            try:
                logits = self.players["D"](samples)
            except RuntimeError as error:
                raise ValueError(
                    "discriminator: expected to take the generator's samples"
                    f" {list(samples.shape)}, got '{_first_line(error)}'; make both"
                    " agree on the sample shape"
                ) from error
        if logits.shape not in ((3,), (3, 1)):
            raise ValueError(
                "discriminator: expected one logit per sample, [n] or [n, 1], got"
                f" {list(logits.shape)} for n = 3; end it with Linear(…, 1)"
            )
        return tuple(samples.shape[1:]), logits.dim() == 2

    def noise(
        self,
        tasks: int,
        steps: int,
        samples: int,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """z ~ N(0, I), fresh for each player: ``[tasks, steps, 2, samples, latent]``.

        Index 0 of the third dimension is D's noise, index 1 is G's; see
        :func:`latent_noise`.
        """
        return latent_noise(self, tasks, steps, samples, generator)

    def check(self, data: Tensor) -> None:
        """Raise a ValueError unless ``data`` is ``[T, K, *S]`` as G and D need it."""
        if not isinstance(data, Tensor):
            raise ValueError(
                f"expected support [T, K, *S] as a tensor, got {type(data).__name__};"
                " take batch.support"
            )
        super().check(data)
        like = next(self.players["G"].parameters())
        if tuple(data.shape[2:]) != self.sample_shape or data.dtype != like.dtype:
            raise ValueError(
                f"expected support [T, K, {', '.join(map(str, self.sample_shape))}] of"
                f" {like.dtype}, as G draws, got {list(data.shape)} of {data.dtype};"
                " build the nets with tasks.sample_shape, and give both one dtype"
            )

    def logits(self, nets: Nets, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits of both sets, from one call on their concatenation."""
        axis = real.dim() - len(self.sample_shape) - 1
        both = self._judged(nets, torch.cat([real, fake], axis))
        return both.split([real.shape[axis], fake.shape[axis]], -1)

    def loss(self, player: str, nets: Nets, data: Tensor, noise: Tensor) -> Tensor:
        """L_D or L_G on one task; see :meth:`Game.loss`.

        The fakes of D's loss are *not* detached by default: through them φ′ depends on
        θ, and that is part of the meta-gradient.
        """
        z = noise.select(-3, list(self.players).index(player))
        fake = nets["G"](z)
        if player == "D":
            fake = fake.detach() if self.detach_fakes else fake
            loss = discriminator_loss(*self.logits(nets, data, fake), self.kind)
            if self.r1:
                penalty = r1_penalty(nets["D"], data, len(self.sample_shape))
                loss = loss + self.r1 / 2 * penalty
            return loss
        if self.kind == "relativistic":
            real_logits, fake_logits = self.logits(nets, data, fake)
            return generator_loss(fake_logits, self.kind, real_logits)
        return generator_loss(self._judged(nets, fake), self.kind)

    def _judged(self, nets: Nets, x: Tensor) -> Tensor:
        """D's logits ``[..., n]``, also from a D that returns ``[..., n, 1]``."""
        logits = nets["D"](x)
        return logits.squeeze(-1) if self._column else logits


class Supervised(Game):
    """One player with targets: a classifier or a regressor.

    Args:
        net: inputs ``[n, …]`` → outputs ``[n, …]``.
        loss: ``"cross-entropy"``, ``"squared-error"``, or a function of one task's
            ``(outputs, targets)`` that returns a scalar.

    Raises:
        ValueError: for an unknown loss, or a net that keeps batch statistics.
    """

    _named = {"cross-entropy": cross_entropy, "squared-error": squared_error}

    def __init__(self, net: nn.Module, loss: str | Callable[[Tensor, Tensor], Tensor]):
        check_net(net, "net")
        if not callable(loss) and loss not in self._named:
            raise ValueError(
                f"expected a loss among {', '.join(self._named)} or a function of"
                f" (outputs, targets); got {loss!r}"
            )
        self.players = {"net": net}
        # A student's own loss reduces over everything, so it sees one task at a time.
        self.batched = not callable(loss)
        self._loss = loss if callable(loss) else self._named[loss]

    def check(self, data: tuple[Tensor, Tensor]) -> None:
        """Raise a ValueError unless ``data`` is ``(inputs, targets)``."""
        if not isinstance(data, tuple) or len(data) != 2:
            raise ValueError(
                f"expected support (inputs, targets), got {type(data).__name__}; take"
                " game.support(batch)"
            )
        super().check(data)

    def loss(
        self, player: str, nets: Nets, data: tuple[Tensor, Tensor], noise: Tensor
    ) -> Tensor:
        """The loss of the net on ``(inputs, targets)``; see :meth:`Game.loss`."""
        inputs, targets = data
        return self._loss(nets[player](inputs), targets)

    def support(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the support set."""
        return batch.support, self._need(batch.support_targets)

    def query(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the query set."""
        return batch.query, self._need(batch.query_targets)

    @staticmethod
    def _need(targets: Tensor | None) -> Tensor:
        if targets is None:
            raise ValueError(
                "expected tasks with targets, got none; sample with ways=N, or use"
                " tasks that carry targets such as SineTasks"
            )
        return targets


def latent_noise(
    game: Game,
    tasks: int,
    steps: int,
    samples: int,
    generator: torch.Generator | None,
) -> Tensor:
    """z ~ N(0, I) for each player of a game with a ``latent_dim`` and a player "G".

    It is drawn in float32 on the generator's device (the CPU by default) and then moved
    to that of G, so that one seed gives one run on every device.

    Returns:
        ``[tasks, steps, players, samples, latent]``.
    """
    check_integers(0, steps=steps)
    check_integers(1, tasks=tasks, samples=samples)
    z = torch.randn(
        (tasks, steps, len(game.players), samples, game.latent_dim),
        generator=generator,
        device=generator.device if generator is not None else None,
        dtype=torch.float32,
    )
    return z.to(next(game.players["G"].parameters()))


def check_tasks(tasks: TaskDistribution, game: GAN) -> None:
    """Raise a ValueError unless ``tasks`` are of the shape that the game's G draws."""
    if not isinstance(tasks, TaskDistribution):
        raise ValueError(
            f"expected a TaskDistribution, got {tasks!r}; load_tasks(name) makes one"
        )
    if tuple(tasks.sample_shape) != game.sample_shape:
        raise ValueError(
            f"expected tasks of the shape that G draws, {list(game.sample_shape)}, got"
            f" {list(tasks.sample_shape)}; build the nets with tasks.sample_shape"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
