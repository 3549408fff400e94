"""The outer objectives: what the initialisations are learned for.

There are two players and so four blocks of meta-gradients: dL_G/dθ, dL_G/dφ, dL_D/dθ
and dL_D/dφ. An objective lists its loss terms and, in ``follow``, which initialisations
move along each. It is evaluated on the query set at the adapted players.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapt import Adapted
from .games import GAN, Game, Nets
from .losses import mmd_loss

__all__ = [
    "OBJECTIVES",
    "CoopMMD",
    "Objective",
    "QueryLoss",
    "RefreshedD",
    "make_objective",
]


class Objective(Protocol):
    """Attributes:
    samples: Generated samples per task; ``None`` for as many as query images.
    """

    samples: int | None

    def follow(self, game: Game) -> dict[str, tuple[str, ...]]:
        """Term → the players whose initialisation descends it."""

    def __call__(
        self, game: Game, adapted: Adapted, query: Any, noise: Tensor
    ) -> dict[str, Tensor]:
        """Term → loss ``[T]``.

        ``adapted.evaluate(function, query, noise)`` calls ``function(nets, query,
        noise)`` with the adapted players; ``noise`` is one step of ``game.noise``.
        """


@dataclass(frozen=True)
class QueryLoss:
    """Every player follows its own loss on the query set.

    For a GAN this is the article's outer game, ``"adversarial"``: L_G moves θ and L_D
    moves φ, each along its *total* derivative through the inner loop. For one
    supervised player it is MAML's meta-objective (Finn et al. 2017, section 2.2).
    """

    samples: int | None = None

    def follow(self, game: Game) -> dict[str, tuple[str, ...]]:
        return {player: (player,) for player in game.players}

    def __call__(
        self, game: Game, adapted: Adapted, query: Any, noise: Tensor
    ) -> dict[str, Tensor]:
        def losses(nets: Nets, query: Any, noise: Tensor) -> dict[str, Tensor]:
            return {p: game.loss(p, nets, query, noise) for p in game.players}

        return adapted.evaluate(losses, query, noise)


@dataclass(frozen=True)
class RefreshedD:
    """G is judged by a D that has taken one more step, on the query set.

    DAWSON (Liang et al. 2020, arXiv 2001.00576) argues that the adapted D knows the
    support only, and refreshes it before G's outer loss. φ follows L_D at the adapted
    D; θ follows L_G at the refreshed one. Theirs is first-order: ``"fomaml"``.

    Args:
        lr: Rate of D's step on the query set.
        samples: Generated samples per task.
    """

    lr: float = 0.1
    samples: int | None = None

    def follow(self, game: Game) -> dict[str, tuple[str, ...]]:
        return {"D": ("D",), "G": ("G",)}

    def __call__(
        self, game: GAN, adapted: Adapted, query: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        def loss(player: str) -> Callable[..., Tensor]:
            return lambda nets, query, z: game.loss(player, nets, query, z)

        refreshed = adapted.step(query, noise, {"D": self.lr})
        return {
            "D": adapted.evaluate(loss("D"), query, noise),
            "G": refreshed.evaluate(loss("G"), query, noise),
        }


@dataclass(frozen=True)
class CoopMMD:
    """Both initialisations follow one judge: the MMD between samples and query images.

    θ follows dL/dθ, and φ follows dL/dφ *through the inner GAN steps*: D's
    initialisation learns to teach G. The price, which every table should show, is that
    D need not stay a discriminator (report its AUC).

    Images are compared as pixels and as 2×2 (and, from 20×20 on, 4×4) averages, scaled
    so that each *value* weighs the same for white noise.

    Args:
        scale: Factor of the MMD, so that its gradients are of order one.
        teach: Whether φ follows the MMD. Without it and without a loss of its own, D's
            initialisation stays as it is; a first-order rule cannot carry the MMD to D.
        discriminator: Weight of D's own query loss, which φ follows as well; 0 saves
            the second backward pass. With ``detach_fakes`` it keeps D a discriminator.
        generator: Weight of G's own query loss, which θ follows beside the MMD.
        feature_weight: Weight of a second MMD, between features.
        features: The net that makes them, images ``[n, *S]`` → ``[n, d]``, frozen and
            trained on meta-train classes. Never the net that scores.
        samples: Generated samples per task.

    Raises:
        ValueError: for a weight below 0, or one of features and weight alone.
    """

    scale: float = 10.0
    teach: bool = True
    discriminator: float = 0.0
    generator: float = 0.0
    feature_weight: float = 0.0
    features: nn.Module | None = None
    samples: int | None = 16

    def __post_init__(self):
        for name in ("discriminator", "generator", "feature_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} ≥ 0, got {getattr(self, name)}")
        if (self.feature_weight > 0) != (self.features is not None):
            raise ValueError(
                "expected features together with a feature_weight, got"
                f" feature_weight={self.feature_weight} and"
                f" {'no features' if self.features is None else 'features'}; pass both,"
                " or none"
            )

    def follow(self, game: Game) -> dict[str, tuple[str, ...]]:
        weights = {"D": self.discriminator, "G": self.generator}
        own = {player: (player,) for player, weight in weights.items() if weight}
        return {"mmd": ("D", "G") if self.teach else ("G",), **own}

    def __call__(
        self, game: GAN, adapted: Adapted, query: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        return adapted.evaluate(partial(self._terms, game), query, noise)

    def _terms(
        self, game: GAN, nets: Nets, query: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        generated = nets["G"](noise.select(-3, list(game.players).index("G")))
        dims = len(game.sample_shape)
        levels = [_levels(x, dims) for x in (generated, query)]
        distance = mmd_loss(*levels)
        if self.features is not None:
            seen = [_seen(self.features, x, dims) for x in (generated, query)]
            distance = distance + self.feature_weight * mmd_loss(*seen)
        terms = {"mmd": self.scale * distance}
        if self.discriminator:
            terms["D"] = self.discriminator * game.loss("D", nets, query, noise)
        if self.generator:
            terms["G"] = self.generator * game.loss("G", nets, query, noise)
        return terms


def _levels(x: Tensor, dims: int) -> Tensor:
    """Samples ``[..., n, *S]`` as vectors of pixels and of their local averages."""
    lead = x.shape[: x.dim() - dims]
    levels = [x.flatten(x.dim() - dims)]
    if dims == 3:
        images = x.reshape(-1, *x.shape[-3:])
        widths = [w for w in (2, 4) if x.shape[-1] >= (2 if w == 2 else 20)]
        for width in widths:  # an average of w² pixels has 1/w of their deviation
            pooled = width * F.avg_pool2d(images, width)
            levels.append(pooled.reshape(*lead, -1))
    return torch.cat(levels, -1)


def _seen(features: nn.Module, x: Tensor, dims: int) -> Tensor:
    """Features ``[..., n, d]`` of samples ``[..., n, *S]``."""
    lead = x.dim() - dims
    flat = features(x.reshape(-1, *x.shape[lead:]))
    return flat.reshape(*x.shape[:lead], -1)


OBJECTIVES = {
    "adversarial": QueryLoss,
    "query-loss": QueryLoss,
    "refreshed-d": RefreshedD,
    "coop-mmd": CoopMMD,
}
"""``"adversarial"`` and ``"query-loss"`` are one rule, for a GAN and in general."""


def make_objective(
    name: str | Objective, game: Game, options: Mapping[str, Any] | None = None
) -> Objective:
    """An objective from its name, or the given one.

    Raises:
        ValueError: for an unknown name or option, or one that does not fit the game.
    """
    if not isinstance(name, str):
        return name
    if name not in OBJECTIVES:
        raise ValueError(
            f"expected an objective among {', '.join(OBJECTIVES)}; got {name!r}"
        )
    if name != "query-loss" and not isinstance(game, GAN):
        raise ValueError(
            f"objective {name!r} needs a GAN, got players {sorted(game.players)}; use"
            " 'query-loss'"
        )
    options, known = options or {}, fields(OBJECTIVES[name])
    if unknown := set(options) - {field.name for field in known}:
        raise ValueError(
            f"objective {name!r} has no option {', '.join(sorted(unknown))}; it has"
            f" {', '.join(field.name for field in known)}"
        )
    return OBJECTIVES[name](**options)
