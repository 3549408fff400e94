"""The hypergradient ledger: which parts of a meta-gradient matter, in numbers.

:func:`~metagan_lite.blocks.hypergradient_blocks` splits every block of the
hypergradient into a direct, an own and a cross part, which sum to the total. Here each
part is booked: its length, its share of the total, its angle to it. :class:`Ledger`
does so while a Meta-GAN trains, and does not disturb the training.

A share says what a part is worth to the outer loss L. A start ω that steps against
one part of its block dL/dω, at the small rate β, lowers L by

    L(ω) − L(ω − β·part) = β · share · ‖dL/dω‖² + O(β²),

so the shares of a block sum to one, and a part of negative share works against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .blocks import Block, hypergradient_blocks
from .data import check_integers
from .games import Game
from .meta import MetaGANConfig, default_inner_lr, draw_noise
from .objectives import Objective, make_objective
from .rates import InnerLR
from .tasks import TaskBatch

__all__ = ["PARTS", "Entry", "Ledger", "hypergradient_ledger"]

PARTS = tuple(field.name for field in fields(Block))
"""``("direct", "own", "cross")``, the parts of a block."""


@dataclass(frozen=True)
class Entry:
    """One block of the hypergradient in numbers.

    With p a part and t the total, over all parameters of the player:

    Attributes:
        norms: Part, and ``"total"`` → ‖p‖.
        shares: Part → (p · t)/‖t‖². They sum to 1; NaN where the total is 0.
        cosines: Part → (p · t)/(‖p‖‖t‖); NaN where either is 0. That of ``"direct"``
            says whether first order points where the meta-gradient does.
    """

    norms: dict[str, float]
    shares: dict[str, float]
    cosines: dict[str, float]

    @classmethod
    def of(cls, block: Block) -> Entry:
        """The entry of a block, in float64 whatever the block is in."""
        parts = {name: _flat(getattr(block, name)) for name in PARTS}
        total = sum(parts.values())
        norms = {name: part.norm() for name, part in parts.items()}
        norms["total"] = total.norm()
        along = {name: part @ total / norms["total"] for name, part in parts.items()}
        return cls(
            {name: float(norm) for name, norm in norms.items()},
            {name: float(x / norms["total"]) for name, x in along.items()},
            {name: float(x / norms[name]) for name, x in along.items()},
        )


def _flat(tree: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.detach().double().flatten() for value in tree.values()])


def hypergradient_ledger(
    game: Game,
    batch: TaskBatch,
    *,
    inner_steps: int,
    inner_lr: InnerLR,
    objective: str | Objective = "query-loss",
    simultaneous: bool = False,
    samples: int | None = None,
    noise: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, dict[str, Entry]]:
    """The ledger of a game at one point: an entry for each block.

    Args: as for :func:`~metagan_lite.meta.meta_gradients`. A game whose fakes are
        detached books the gradient that its training follows, which is not the
        derivative of anything that both players do.

    Returns:
        Term of the objective → player → entry. For ``"adversarial"`` that is
        ``["G"]["D"]`` for dL_G/dφ, and so on; for ``"coop-mmd"`` there is one term,
        ``"mmd"``, for both players.

    Raises:
        ValueError: as ``meta_gradients``.
        FloatingPointError: when a block is not finite, naming it.
    """
    blocks = hypergradient_blocks(
        game,
        batch,
        inner_steps=inner_steps,
        inner_lr=inner_lr,
        objective=objective,
        simultaneous=simultaneous,
        samples=samples,
        noise=noise,
        generator=generator,
    )
    found = {
        term: {player: Entry.of(block) for player, block in own.items()}
        for term, own in blocks.items()
    }
    for term, own in found.items():
        for player, entry in own.items():
            if not torch.tensor(list(entry.norms.values())).isfinite().all():
                raise FloatingPointError(
                    f"expected a finite block of '{term}' in {player}, got norms"
                    f" {entry.norms}; lower inner_lr, or add an r1 penalty"
                )
    return found


class Ledger:
    """The ledger of a training: give it to ``train_meta`` as its callback. ::

        ledger = Ledger(tasks.sample(8, shots=10, query_shots=10), config)
        train_meta_gan(generator, discriminator, tasks, config, callback=ledger)
        steps, shares = ledger.series("G", "G")

    It looks at the same tasks with the same noise each time, so that what changes is
    the weights. Its noise has a source of its own: the training is bit for bit the one
    without it.

    Args:
        batch: T tasks to look at, held fixed.
        config: That of the training: its inner game, and its objective.
        every: Outer steps from one page to the next; the first is after one step.
        objective: Another one to look at, such as ``"adversarial"`` for all four blocks
            in a training on the MMD.
        seed: Of the noise.

    Attributes:
        pages: Outer steps done → what :func:`hypergradient_ledger` found.

    Raises:
        ValueError: for a configuration whose rates are learned or whose steps are
            weighed: a page has the rates of ``config`` and judges the last step.
    """

    def __init__(
        self,
        batch: TaskBatch,
        config: MetaGANConfig,
        *,
        every: int = 20,
        objective: str | Objective | None = None,
        seed: int = 0,
    ):
        check_integers(1, every=every)
        for name in ("learned_lr", "step_weights"):
            if getattr(config, name) is not None:
                raise ValueError(
                    f"expected a configuration without {name}, got"
                    f" {getattr(config, name)!r}; call hypergradient_ledger with the"
                    " rates of the moment instead"
                )
        self.batch, self.config, self.every, self.seed = batch, config, every, seed
        self.objective = objective
        self.pages: dict[int, dict[str, dict[str, Entry]]] = {}

    def __call__(self, step: int, game: Game, row: dict[str, float]) -> None:
        """Book the game after ``step`` outer steps, where a page is due."""
        if step == 1 or step % self.every == 0:
            self.book(step, game)

    def book(self, step: int, game: Game) -> None:
        """Write a page now; step 0 is for the game before training."""
        config = self.config
        objective = config.objective if self.objective is None else self.objective
        options = config.objective_options if self.objective is None else {}
        objective = make_objective(objective, game, options)
        random = torch.Generator().manual_seed(self.seed)
        like = next(iter(game.parameters().values()))
        device = next(iter(like.values())).device
        batch = self.batch.to(device)
        rates = config.inner_lr
        self.pages[step] = hypergradient_ledger(
            game,
            batch,
            inner_steps=config.inner_steps,
            inner_lr=default_inner_lr(game) if rates is None else rates,
            objective=objective,
            simultaneous=config.simultaneous,
            noise=draw_noise(
                game, batch, objective, config.inner_steps, config.samples, random
            ),
        )

    def series(
        self, term: str, player: str, column: str = "shares"
    ) -> tuple[list[int], dict[str, list[float]]]:
        """One block over the training.

        Args:
            term, player: Which block.
            column: An attribute of :class:`Entry`.

        Returns:
            The steps, and part → a value for each.
        """
        steps = sorted(self.pages)
        rows = [getattr(self.pages[step][term][player], column) for step in steps]
        return steps, {name: [row[name] for row in rows] for name in rows[0]}
