"""What samples are worth: in how many real images a generator saves a mean.

A prototype, the mean of a class's K real images, misses the centre of the class. Would
generated samples beside them bring it closer? The answer needs three numbers, and one
of them says how much of the support's own error the samples repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .features import embed
from .tasks import TaskBatch

__all__ = ["Worth", "sample_worth"]


@dataclass(frozen=True)
class Worth:
    """The errors of two means, as squared distances to the centre of the class.

    Attributes:
        shots: K, real images of a task.
        real: Error of the mean of the K real images, w²/K.
        copied: The share of that error that the mean of the samples repeats: 1 for
            copies of the support, 0 for samples that know nothing of its error.
        own: Error of the mean of the samples, besides what they repeat. An estimate
            may be below 0, where it is 0.
    """

    shots: int
    real: float
    copied: float
    own: float

    def error(self, mix: float) -> float:
        """Error of (1 − mix)·(mean of the images) + mix·(mean of the samples)."""
        return (1 - mix * (1 - self.copied)) ** 2 * self.real + mix**2 * self.own

    @property
    def best_mix(self) -> float:
        """The weight of the samples with the least error; below 0 if none helps.

        Weights up to twice this one are better than none.
        """
        fresh = 1 - self.copied
        return fresh * self.real / (fresh**2 * self.real + self.own)

    @property
    def images(self) -> float:
        """How many more real images would do what the samples do at the best weight.

        0 if no positive weight helps.
        """
        fresh = max(0.0, 1 - self.copied)
        return self.shots * fresh**2 * self.real / self.own


def sample_worth(
    drawn: Tensor,
    batch: TaskBatch,
    features: Callable[[Tensor], Tensor] | None = None,
) -> Worth:
    """Estimate :class:`Worth` over tasks, without bias in its three expectations.

    The query mean stands for the centre of the class; its own error is known from the
    spread of the images, and taken off.

    Args:
        drawn: Samples ``[T, n, *S]`` of players adapted to the support sets. Their mean
            is judged as it is: with few samples its noise is part of ``own``.
        batch: The tasks, K + Q ≥ 2.
        features: Images ``[n, *S]`` → ``[n, d]``; pixels by default.

    Raises:
        ValueError: for samples of other tasks.
    """
    if len(drawn) != len(batch):
        raise ValueError(
            f"expected samples of the {len(batch)} tasks of the batch, got"
            f" {list(drawn.shape)}; adapt to batch.support"
        )

    support, query, made = (
        embed(images, features) for images in (batch.support, batch.query, drawn)
    )
    shots, held = support.shape[1], query.shape[1]
    within = torch.cat([support, query], 1).var(1).sum(-1).mean()
    spt, qry, gen = (x.mean(1) for x in (support, query, made))
    # ⟨·⟩ with the query mean on both sides has the query's own error w²/Q in it.
    off = within / held
    shared = ((spt - qry) * (gen - qry)).sum(-1).mean() - off
    whole = (gen - qry).square().sum(-1).mean() - off
    real = within / shots
    copied = shared / real
    own = whole - copied**2 * real
    return Worth(shots, real.item(), copied.item(), own.item())
