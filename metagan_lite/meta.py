"""The outer loop: meta-gradients of the initialisations, and meta-training.

A meta-gradient is called a hypergradient as well.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .adapt import Adapted, Method, adapt, adaptation_steps
from .data import check_integers
from .distributed import barrier, check_same, processes, shard, sum_over_processes
from .games import GAN, Game, check_tasks
from .io import environment, load_checkpoint, save_checkpoint
from .objectives import Objective, make_objective
from .rates import LEARNED, InnerLR, Learned, LearnedRates, per_step, rate_tensors
from .tasks import TaskBatch, TaskDistribution

__all__ = [
    "MetaGANConfig",
    "MetaGradients",
    "TrainedMetaGAN",
    "default_inner_lr",
    "draw_noise",
    "load_meta_gan",
    "meta_gradients",
    "train_meta",
    "train_meta_gan",
]

Algorithm = Literal["maml", "fomaml", "reptile"]
ALGORITHMS = get_args(Algorithm)


# --- meta-gradients -----------------------------------------------------------


@dataclass(frozen=True)
class MetaGradients:
    """What :func:`meta_gradients` returns.

    Attributes:
        grads: Player → parameter name → gradient, shaped like the parameter; ``None``
            where no outer loss depends on it.
        losses: Term of the objective → mean over tasks; empty for Reptile.
        rates: Player → place in ``inner_lr`` → gradient of the tensor there, if it
            requires one; along the terms that the player follows.
    """

    grads: dict[str, dict[str, Tensor | None]]
    losses: dict[str, Tensor]
    rates: dict[str, dict[tuple[Any, ...], Tensor | None]] = field(default_factory=dict)


def draw_noise(
    game: Game,
    batch: TaskBatch,
    objective: Objective,
    inner_steps: int,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The noise of :func:`meta_gradients`: ``(inner, outer)``, drawn in this order.

    It is drawn for all T tasks at once, so that whoever takes some of them, a chunk or
    a process, slices the same numbers.

    Args:
        game: The players. batch: T tasks.
        objective: Sets the number of samples of the outer loss.
        inner_steps, samples, generator: see :func:`meta_gradients`.

    Returns:
        ``game.noise(T, S, samples)`` and ``game.noise(T, 1, outer)[:, 0]``.
    """
    tasks, shots = batch.support.shape[:2]
    samples = shots if samples is None else samples
    outer = objective.samples
    outer = batch.query.shape[1] if outer is None else outer
    return (
        game.noise(tasks, inner_steps, samples, generator=generator),
        game.noise(tasks, 1, outer, generator=generator)[:, 0],
    )


def meta_gradients(
    game: Game,
    batch: TaskBatch,
    *,
    inner_steps: int,
    inner_lr: InnerLR,
    algorithm: Algorithm = "maml",
    objective: str | Objective = "query-loss",
    simultaneous: bool = False,
    step_weights: Sequence[float] | None = None,
    samples: int | None = None,
    noise: tuple[Tensor, Tensor] | None = None,
    path: Method = "auto",
    task_chunk_size: int | None = None,
    task_clip: float = math.inf,
    generator: torch.Generator | None = None,
) -> MetaGradients:
    """The gradients of the outer losses in the initialisations, mean over tasks.

    With θ′(θ, φ), φ′(θ, φ) the adapted players and L an outer loss, a player that
    follows L gets the *total* derivative dL(θ′, φ′)/dθ (or dφ), through every inner
    step:

    - ``"maml"``: exact, second-order (Finn et al. 2017, equation 1).
    - ``"fomaml"``: inner gradients count as constants (their section 5.2). In a game
      this drops more than curvature: every term by which one player moved the other.
    - ``"reptile"``: θ − θ′, no query set and no objective (Nichol et al. 2018,
      algorithm 2).

    Args:
        game: The players, whose parameters are the initialisations.
        batch: T tasks. inner_steps, inner_lr, simultaneous, path: see
            :func:`~metagan_lite.adapt.adapt`. Rates that are tensors have gradients.
        objective: A name of :data:`~metagan_lite.objectives.OBJECTIVES`, such as
            ``"adversarial"``, or an :class:`~metagan_lite.objectives.Objective`.
        step_weights: The weight of the outer loss after each of the S inner steps
            (Antoniou et al. 2019, MAML++, equation 3); by default the last one alone
            counts.
        samples: Generated samples per inner step and player; K by default.
        noise: ``(inner, outer)``; :func:`draw_noise` with ``generator`` by default.
        task_chunk_size: At most so many tasks at once, which bounds the memory; the
            gradients are accumulated, and equal to rounding. ``None`` for all at once.
        task_clip: Largest norm of one task's gradient in one player, before the mean
            over tasks; takes the tasks one by one, which is slower.

    The gradients are returned, not set. A step of an outer optimiser is::

        found = meta_gradients(game, batch, inner_steps=5, inner_lr=0.1)
        for player, own in game.parameters().items():
            for name, parameter in own.items():
                parameter.grad = found.grads[player][name]
        optimizer.step()

    Raises:
        ValueError: for an unknown algorithm or objective, weights that do not fit the
            steps, and as ``adapt``.
        FloatingPointError: when an outer loss is not finite, naming it.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"expected an algorithm among {', '.join(ALGORITHMS)}; got {algorithm!r}"
        )
    objective = make_objective(objective, game)
    tasks = len(batch)
    if noise is None:
        noise = draw_noise(game, batch, objective, inner_steps, samples, generator)
    size = tasks if task_chunk_size is None else task_chunk_size
    size = size if math.isinf(task_clip) else 1
    check_integers(1, task_chunk_size=size)
    if step_weights is not None:
        check_step_weights(step_weights, inner_steps)
    inner = {
        "inner_steps": inner_steps,
        "inner_lr": inner_lr,
        "simultaneous": simultaneous,
        "path": path,
    }
    grads = {player: dict.fromkeys(own) for player, own in game.trainable().items()}
    losses: dict[str, Tensor] = {}
    rates = {player: {} for player in game.players}
    for first in range(0, tasks, size):
        part = slice(first, first + size)
        own_noise = (noise[0][part], noise[1][part])
        found = _chunk(
            game, batch[part], own_noise, algorithm, objective, step_weights, inner
        )
        share = len(batch[part]) / tasks
        for player, of_player in found.grads.items():
            factor = share
            if not math.isinf(task_clip):
                factor = share * _clip_factor(_norm(of_player.values()), task_clip)
            for name, gradient in of_player.items():
                _add(grads[player], name, gradient, factor)
            for place, gradient in found.rates.get(player, {}).items():
                _add(rates[player], place, gradient, share)
        for term, loss in found.losses.items():
            _add(losses, term, loss, share)
    return MetaGradients(grads, losses, rates)


def check_step_weights(step_weights: Sequence[float], inner_steps: int) -> None:
    """Raise a ValueError unless there is a weight ≥ 0 for each step, and one above."""
    if (
        len(step_weights) != inner_steps
        or min(step_weights) < 0
        or max(step_weights) == 0
    ):
        raise ValueError(
            f"expected step_weights ≥ 0 for each of {inner_steps} inner steps, not all"
            f" 0, got {list(step_weights)}"
        )


def _norm(gradients: Iterable[Tensor | None]) -> Tensor:
    norms = [torch.linalg.vector_norm(g) for g in gradients if g is not None]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def _clip_factor(norm: Tensor, clip: float) -> Tensor:
    """What to multiply gradients of this norm by so that it is at most ``clip``."""
    return (clip / (norm + 1e-8)).clamp(max=1.0)


def _add(total: dict, name: Any, value: Tensor | None, share: Any) -> None:
    """total[name] += share · value, where ``None`` is nothing."""
    if value is not None:
        so_far = total.get(name)
        value = value * share if isinstance(share, Tensor) or share != 1 else value
        total[name] = value if so_far is None else so_far + value


def _chunk(
    game: Game,
    batch: TaskBatch,
    noise: tuple[Tensor, Tensor],
    algorithm: Algorithm,
    objective: Objective,
    step_weights: Sequence[float] | None,
    inner: dict[str, Any],
) -> MetaGradients:
    """The meta-gradients of tasks that fit into memory together."""
    start = game.trainable()
    if algorithm == "reptile":
        with torch.no_grad():
            adapted = adapt(game, game.support(batch), noise=noise[0], **inner)
        end = adapted.parameters()
        grads = {
            player: {k: (v - end[player][k].mean(0)).detach() for k, v in own.items()}
            for player, own in start.items()
        }
        return MetaGradients(grads, {})

    rates = rate_tensors(game, inner["inner_lr"])
    losses: dict[str, Tensor] = {}
    for weight, adapted in _scored(
        game, batch, noise[0], algorithm, step_weights, inner
    ):
        for term, value in objective(
            game, adapted, game.query(batch), noise[1]
        ).items():
            _add(losses, term, value.mean(), weight)
    for term, loss in losses.items():
        if not loss.isfinite():  # its gradients may be finite, and mean nothing
            raise FloatingPointError(
                f"expected a finite '{term}', got {loss.item()}; lower inner_lr or the"
                " outer rate, or add an r1 penalty"
            )
    grads = {player: dict.fromkeys(own) for player, own in start.items()}
    of_rates = {player: dict.fromkeys(own) for player, own in rates.items()}
    follow = objective.follow(game)
    for term, loss in losses.items():
        places = [(player, place) for player in follow[term] for place in rates[player]]
        tensors = [rates[player][place] for player, place in places]
        found, slopes = adapted.gradients(loss, follow[term], tensors)
        for player, own in found.items():
            for name, gradient in own.items():
                _add(grads[player], name, gradient, share=1)
        for (player, place), slope in zip(places, slopes):
            _add(of_rates[player], place, slope, share=1)
    return MetaGradients(grads, {k: v.detach() for k, v in losses.items()}, of_rates)


def _scored(
    game: Game,
    batch: TaskBatch,
    noise: Tensor,
    algorithm: Algorithm,
    step_weights: Sequence[float] | None,
    inner: dict[str, Any],
) -> Iterator[tuple[float, Adapted]]:
    """The adapted players that the outer loss looks at, each with its weight."""
    options = {"noise": noise, "first_order": algorithm == "fomaml", "meta": True}
    if step_weights is None:
        yield 1.0, adapt(game, game.support(batch), **options, **inner)
        return
    inner = {name: value for name, value in inner.items() if name != "inner_steps"}
    states = adaptation_steps(game, game.support(batch), **options, **inner)
    for weight, adapted in zip([0.0, *step_weights], states):
        if weight:
            yield weight, adapted


# --- meta-training ------------------------------------------------------------


@dataclass(frozen=True)
class MetaGANConfig:
    """Everything that decides a run, besides the nets and the tasks.

    Attributes:
        meta_steps: Outer steps.
        meta_batch_size: T, tasks per outer step.
        shots: K, support images per task.
        query_shots: Q, query images per task.
        inner_steps: S, inner steps of each player.
        inner_lr: α per player, see :data:`metagan_lite.rates.InnerLR`; ``None`` for
            :func:`default_inner_lr`.
        samples: Generated samples per inner step and player; ``None`` for K.
        loss: The inner game, one of :data:`metagan_lite.losses.LOSSES`.
        r1: γ of the inner R1 penalty; 0 for none.
        detach_fakes: see :class:`~metagan_lite.games.GAN`.
        simultaneous: Both players move at once, instead of D then G.
        algorithm: ``"maml"``, ``"fomaml"`` or ``"reptile"``.
        learned_lr: ``None`` for inner rates that stay, or how they are meta-learned as
            well: a kind of :class:`~metagan_lite.rates.LearnedRates`.
        step_weights: see :func:`meta_gradients`.
        objective: A name of :data:`metagan_lite.objectives.OBJECTIVES`.
        objective_options: Its arguments, such as ``{"discriminator": 0.1}``.
        outer_lr: Adam's rate; constant for half of the run, then linear to 2 %.
        betas: Adam's decay rates.
        clip: Largest norm of one player's meta-gradient; ``inf`` for no clipping.
        task_clip: Largest norm of one task's share of it; ``inf`` for no clipping.
        ema: Decay of the running mean of the weights, which is what is returned.
        seed: Of tasks and noise. (The nets' initialisation has its own.)
        path: see :func:`metagan_lite.adapt.adapt`.
        task_chunk_size: see :func:`meta_gradients`.
    """

    meta_steps: int = 1000
    meta_batch_size: int = 8
    shots: int = 10
    query_shots: int = 10
    inner_steps: int = 5
    inner_lr: InnerLR | None = None
    samples: int | None = None
    loss: str = "non-saturating"
    r1: float = 0.0
    detach_fakes: bool = False
    simultaneous: bool = False
    algorithm: Algorithm = "maml"
    learned_lr: Learned | None = None
    step_weights: tuple[float, ...] | None = None
    objective: str = "coop-mmd"
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    outer_lr: float = 3e-3
    betas: tuple[float, float] = (0.5, 0.99)
    clip: float = 1.0
    task_clip: float = math.inf
    ema: float = 0.99
    seed: int = 0
    path: Method = "auto"
    task_chunk_size: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON gives a list
        if self.step_weights is not None:
            check_step_weights(self.step_weights, self.inner_steps)
            object.__setattr__(self, "step_weights", tuple(self.step_weights))
        sizes = ("meta_steps", "meta_batch_size", "shots", "query_shots", "inner_steps")
        check_integers(1, **{name: getattr(self, name) for name in sizes})
        for name in ("samples", "task_chunk_size"):
            if getattr(self, name) is not None:
                check_integers(1, **{name: getattr(self, name)})
        if self.algorithm not in ALGORITHMS:
            raise ValueError(
                f"expected an algorithm among {', '.join(ALGORITHMS)}; got"
                f" {self.algorithm!r}"
            )
        if self.learned_lr is not None and self.learned_lr not in LEARNED:
            raise ValueError(
                f"expected learned_lr None or among {', '.join(LEARNED)}; got"
                f" {self.learned_lr!r}"
            )
        if self.algorithm == "reptile" and (self.learned_lr or self.step_weights):
            raise ValueError(
                "Reptile has no outer loss that could teach rates or weigh steps:"
                " expected learned_lr=None and step_weights=None; use"
                " algorithm='maml' or 'fomaml'"
            )
        for name in ("outer_lr", "clip", "task_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"expected 0 ≤ ema < 1, got {self.ema}; 0 turns it off")

    def learning_rate(self, step: int) -> float:
        """The outer rate at a step (counted from 0)."""
        left = 1 - step / self.meta_steps
        return self.outer_lr * min(1.0, max(0.02, 2 * left))


def default_inner_lr(game: GAN) -> dict[str, float]:
    """Inner rates that suit MLPs on images in [-1, 1]: G 0.5, D min(0.2, 20/d).

    An SGD step of rate α moves D's logit of x by about α‖a‖², with a the input of its
    first layer, and ‖x‖² grows with the number d of values in a sample. A rate that
    suits 8×8 images makes 28×28 diverge.
    """
    return {"G": 0.5, "D": min(0.2, 20 / math.prod(game.sample_shape))}


def _with_rates(config: MetaGANConfig, game: Game) -> MetaGANConfig:
    if config.inner_lr is None:
        if not isinstance(game, GAN):
            raise ValueError(
                "expected an inner_lr, got None; only a GAN has default rates: pass"
                " MetaGANConfig(inner_lr=…)"
            )
        config = replace(config, inner_lr=default_inner_lr(game))
    return config


@dataclass
class TrainedMetaGAN:
    """What meta-training leaves.

    Attributes:
        game: The players, whose parameters are the meta-learned initialisations: for a
            GAN, θ and φ.
        config: How it was trained.
        history: One row per outer step: step, losses, norms of both meta-gradients.
        environment: Versions, hardware and commit.
        inner_lr: The rates to adapt with: those of ``config``, or the learned ones.
    """

    game: Game
    config: MetaGANConfig
    history: list[dict[str, float]]
    environment: dict[str, Any]
    inner_lr: InnerLR | None = None

    def __post_init__(self):
        self.config = _with_rates(self.config, self.game)
        if self.inner_lr is None:
            self.inner_lr = self.config.inner_lr

    def rates(self, inner_steps: int) -> InnerLR:
        """``inner_lr`` for so many steps: where it has fewer, its last rate goes on."""
        return per_step(self.game, self.inner_lr, inner_steps)

    def adapt(self, support: Any, **changes: Any) -> Adapted:
        """Adapt to support sets as in training, without a graph.

        ``support`` is ``[T, K, *S]``, or in general ``game.support(batch)``;
        ``changes`` replace arguments of :func:`metagan_lite.adapt.adapt`.
        """
        first, *_ = self.game.players.values()
        device = next(first.parameters()).device
        support = torch.utils._pytree.tree_map(lambda x: x.to(device), support)
        trained = {
            "inner_steps": self.config.inner_steps,
            "inner_lr": self.inner_lr,
            "samples": self.config.samples,
            "simultaneous": self.config.simultaneous,
            "path": self.config.path,
        }
        with torch.no_grad():
            return adapt(self.game, support, **(trained | changes))


Callback = Callable[[int, Game, dict[str, float]], None]


def train_meta(
    game: Game,
    tasks: TaskDistribution,
    config: MetaGANConfig,
    *,
    features: nn.Module | None = None,
    device: str | torch.device = "cpu",
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    resume: bool = False,
    progress: bool = True,
) -> TrainedMetaGAN:
    """Meta-learn the initialisations of the players of a game.

    For one :class:`~metagan_lite.games.Supervised` player this is MAML (Finn et al.
    2017, algorithm 1), with ``objective="query-loss"``; for a GAN it is Meta-GAN, see
    :func:`train_meta_gan`.

    Under ``torchrun`` each process takes a share of the tasks of every outer step.
    Call it inside :func:`~metagan_lite.distributed.process_group`, in every process
    with the same arguments. All processes draw the same tasks and noise from the one
    seed, so the run is that of one process up to the rounding of sums, and all return
    the same result. The first process alone shows the bar, calls ``callback`` and
    writes checkpoints; every process must be able to read their folder.

    Args:
        game: The players; they are copied, not changed.
        tasks: p(T), the meta-train classes.
        config: Everything else that decides the run; for a GAN its ``loss``, ``r1``
            and ``detach_fakes`` must be the game's.
        features: A frozen net, for an objective that compares features.
        device: Where it runs. Tasks and noise are drawn on the CPU, so one seed is one
            run everywhere.
        callback: Called after each outer step with (steps done, the game being trained,
            the step's row of the history).
        checkpoint: A folder for checkpoints, written every ``checkpoint_every`` steps
            and at the end.
        resume: Go on from ``checkpoint`` (bit for bit on the CPU) if there is one.
            Otherwise the folder must not hold one yet.
        progress: Show a progress bar.

    Raises:
        RuntimeError: when a parameter gets no gradient or a loss is not finite; the
            message names it and the step. Also when the processes disagree.
        KeyboardInterrupt: as it came, after a checkpoint of the last whole outer step;
            one that comes while the weights move leaves the checkpoint before.
        ValueError: for a checkpoint of another configuration or other nets, or fewer
            tasks per outer step than processes.
    """
    rank, world = processes()
    if config.meta_batch_size < world:
        raise ValueError(
            f"expected a task for each of {world} processes, got"
            f" meta_batch_size={config.meta_batch_size}; raise it, or start fewer"
            " processes"
        )
    trainer = _Trainer(game, config, torch.device(device), features)
    if isinstance(game, GAN):
        check_tasks(tasks, game)
        theirs = {"loss": game.kind, "r1": game.r1, "detach_fakes": game.detach_fakes}
        ours = {name: getattr(config, name) for name in theirs}
        if ours != theirs:
            raise ValueError(
                f"expected a game with {ours}, as in the configuration, got {theirs};"
                " pass both the same, or call train_meta_gan"
            )
    tasks = tasks.to(device)
    check_integers(1, checkpoint_every=checkpoint_every)
    if resume and checkpoint is None:
        raise ValueError("expected a checkpoint folder to resume from; got none")
    if checkpoint is not None and (Path(checkpoint) / "checkpoint.json").exists():
        if not resume:
            raise ValueError(
                f"expected a folder without a checkpoint, got '{checkpoint}'; pass"
                " resume=True to go on from it, or choose another folder"
            )
        trainer.restore(checkpoint)
    trainer.check_processes()
    bar = tqdm(
        total=config.meta_steps,
        initial=trainer.step,
        desc="meta-training",
        disable=not progress or rank > 0,
    )
    with bar:
        try:
            while trainer.step < config.meta_steps:
                row = trainer.advance(tasks)
                bar.update()
                if trainer.step % 20 == 0:
                    terms = {k: f"{v:.3g}" for k, v in row.items() if k != "step"}
                    bar.set_postfix(terms)
                last = trainer.step == config.meta_steps
                if checkpoint and (last or trainer.step % checkpoint_every == 0):
                    if rank == 0:
                        trainer.save(checkpoint)
                    barrier()  # what a process returned from is there for all to read
                if callback is not None and rank == 0:
                    callback(trainer.step, trainer.game, row)
        except KeyboardInterrupt:
            if checkpoint and rank == 0 and trainer.step and trainer.whole:
                trainer.save(checkpoint)
            raise
    return TrainedMetaGAN(
        trainer.mean_game,
        config,
        trainer.history,
        trainer.environment,
        trainer.mean_rates and _fixed(trainer.mean_rates),
    )


def train_meta_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    tasks: TaskDistribution,
    config: MetaGANConfig = MetaGANConfig(),
    **options: Any,
) -> TrainedMetaGAN:
    """Meta-learn the initialisations of a generator and a discriminator.

    :func:`train_meta` for the GAN that ``config`` describes.

    Args:
        generator, discriminator: The nets; they are copied, not changed.
        tasks: p(T), the meta-train classes. config: Everything else that decides the
            run. options: see :func:`train_meta`.

    Raises:
        ValueError, RuntimeError, KeyboardInterrupt: as :func:`train_meta`.
    """
    return train_meta(_gan(generator, discriminator, config), tasks, config, **options)


def load_meta_gan(
    generator: nn.Module, discriminator: nn.Module, checkpoint: str | Path
) -> TrainedMetaGAN:
    """A trained Meta-GAN from the folder that ``train_meta_gan`` wrote.

    Args:
        generator, discriminator: Nets of the same architecture; copied.
        checkpoint: The folder.

    Raises:
        FileNotFoundError, ValueError: as :func:`metagan_lite.io.load_checkpoint`, and
            for nets of another architecture.
    """
    weights, _, record = load_checkpoint(checkpoint, with_state=False)
    try:
        config = MetaGANConfig(**record["config"])
    except TypeError as error:  # a field that this version does not have
        raise ValueError(
            f"checkpoint '{checkpoint}' is of another version of metagan_lite"
            f" ({error}); install that version"
        ) from error
    game = copy.deepcopy(_gan(generator, discriminator, config))
    config = _with_rates(config, game)
    rates = _learned_rates(game, config)
    _fill(_flat(game, rates, "mean."), weights, checkpoint)
    return TrainedMetaGAN(
        game,
        config,
        record["history"],
        record["environment"],
        rates and _fixed(rates),
    )


class _Trainer:
    """The state of a run, and one outer step of it."""

    def __init__(
        self,
        game: Game,
        config: MetaGANConfig,
        device: torch.device,
        features: nn.Module | None = None,
    ):
        self.game = copy.deepcopy(game)
        self.config = config = _with_rates(config, self.game)
        for net in self.game.players.values():
            net.to(device)
        self.mean_game = copy.deepcopy(self.game)
        self.rates = _learned_rates(self.game, config)
        self.mean_rates = _learned_rates(self.game, config)
        options = dict(config.objective_options)
        self.features = None  # what identifies the net, for checkpoints
        if features is not None:
            options["features"] = copy.deepcopy(features).to(device)
            values = [v.double().flatten() for v in features.state_dict().values()]
            self.features = _digest(torch.cat(values))
        self.objective = make_objective(config.objective, self.game, options)
        follow = self.objective.follow(self.game).values()
        self.moving = set(self.game.players)  # whose initialisation is learned
        if config.algorithm != "reptile":
            self.moving = {player for players in follow for player in players}
        self.named = {
            f"{player}.{name}": p
            for player, own in self.game.trainable().items()
            if player in self.moving
            for name, p in own.items()
        }
        if self.rates:
            self.named |= {f"rate.{k}": ρ for k, ρ in self.rates.named.items()}
        self.optimizer = torch.optim.Adam(
            self.named.values(), config.outer_lr, betas=config.betas
        )
        self.random = torch.Generator().manual_seed(config.seed)
        self.step, self.history = 0, []
        # The last whole outer step: its random state, and whether the weights are its.
        self.random_state, self.whole = self.random.get_state(), True
        self.plain_config = _plain(config)  # fails now, not at the first checkpoint
        self.environment = environment()

    def advance(self, tasks: TaskDistribution) -> dict[str, float]:
        config = self.config
        batch = tasks.sample(
            config.meta_batch_size,
            shots=config.shots,
            query_shots=config.query_shots,
            generator=self.random,
        )
        noise = draw_noise(
            self.game,
            batch,
            self.objective,
            config.inner_steps,
            config.samples,
            self.random,
        )
        own = shard(len(batch), *processes())
        inner_lr = self.rates.inner_lr() if self.rates else config.inner_lr
        try:
            result = meta_gradients(
                self.game,
                batch[own],
                inner_steps=config.inner_steps,
                inner_lr=inner_lr,
                algorithm=config.algorithm,
                objective=self.objective,
                simultaneous=config.simultaneous,
                step_weights=config.step_weights,
                noise=(noise[0][own], noise[1][own]),
                path=config.path,
                task_chunk_size=config.task_chunk_size,
                task_clip=config.task_clip,
            )
        except FloatingPointError as error:
            raise RuntimeError(f"step {self.step + 1}: {error}") from error
        # The mean over all tasks is the sum of each process's mean times its share.
        grads_of, losses, of_rates = sum_over_processes(
            (result.grads, result.losses, result.rates),
            weight=len(batch[own]) / len(batch),
        )
        row = {term: float(value) for term, value in losses.items()}
        for player, grads in grads_of.items():
            if player in self.moving:
                row[f"grad {player}"] = self._set_gradients(player, grads)
        if self.rates:
            self.rates.set_gradients(inner_lr, of_rates)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate(self.step)
        self.whole = False
        self.optimizer.step()
        # Early on, the mean forgets fast: the first weights are not worth keeping.
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            ours = [p for net in self.game.players.values() for p in net.parameters()]
            mean = [
                p for net in self.mean_game.players.values() for p in net.parameters()
            ]
            if self.rates:
                ours += self.rates.named.values()
                mean += self.mean_rates.named.values()
            torch._foreach_lerp_(mean, ours, 1 - decay)
        self.step += 1
        row = {"step": self.step, **row}
        self.history.append(row)
        self.random_state, self.whole = self.random.get_state(), True
        return row

    def _set_gradients(self, player: str, grads: dict[str, Tensor | None]) -> float:
        """Clip one player's gradient to ``config.clip``; returns its norm before."""
        for name, gradient in grads.items():
            if gradient is None:
                remedy = (
                    "a first-order rule cannot carry one player's loss to the other:"
                    " use algorithm='maml', or objective='adversarial'"
                    if self.config.algorithm == "fomaml"
                    else "no loss depends on it: use it in the net, or freeze it"
                )
                raise RuntimeError(
                    f"step {self.step + 1}: parameter '{name}' of {player} got no"
                    f" gradient from objective '{self.config.objective}' with"
                    f" {self.config.algorithm}; {remedy}"
                )
        norm = _norm(grads.values())
        if not norm.isfinite():
            raise RuntimeError(
                f"step {self.step + 1}: expected a finite meta-gradient of {player},"
                f" got norm {norm.item()}; lower inner_lr or outer_lr"
            )
        factor = _clip_factor(norm, self.config.clip)
        for name, gradient in grads.items():
            self.named[f"{player}.{name}"].grad = gradient * factor
        return float(norm)

    def check_processes(self) -> None:
        """Raise unless all processes are at the same place of the same run."""
        check_same(
            "configuration and step",
            (self.plain_config, self.step),
            remedy="pass the same config, and a checkpoint folder that all can read",
        )
        check_same(
            "weights",
            [
                (name, _digest(value))
                for name, value in _flat(self.game, self.rates, "").items()
            ],
            remedy="seed the nets' initialisation",
        )

    def save(self, folder: str | Path) -> None:
        weights = _flat(self.mean_game, self.mean_rates, "mean.")
        state = {
            **_flat(self.game, self.rates, "last."),
            "random": self.random_state,
        }
        for name, parameter in self.named.items():
            for key, value in self.optimizer.state[parameter].items():
                state[f"adam.{key}.{name}"] = value
        record = {
            "step": self.step,
            "config": self.plain_config,
            "features": self.features,
            "history": self.history,
            "environment": self.environment,
        }
        save_checkpoint(folder, weights=weights, state=state, record=record)

    def restore(self, folder: str | Path) -> None:
        weights, state, record = load_checkpoint(folder)
        ours, theirs = self.plain_config, record["config"]
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    f"checkpoint '{folder}' is of another configuration: expected"
                    f" {name}={ours.get(name)}, got {theirs.get(name)}; resume with the"
                    " config it was made with, or choose another folder"
                )
        if record.get("features") != self.features:
            raise ValueError(
                f"checkpoint '{folder}' was trained with another feature net: pass the"
                " same features to resume, or choose another folder"
            )
        _fill(_flat(self.game, self.rates, "last."), state, folder)
        _fill(_flat(self.mean_game, self.mean_rates, "mean."), weights, folder)
        for name, parameter in self.named.items():
            if f"adam.step.{name}" not in state:  # nothing taught this rate
                continue
            self.optimizer.state[parameter] = {
                key: state[f"adam.{key}.{name}"].to(
                    "cpu" if key == "step" else parameter.device
                )
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
        self.random.set_state(state["random"])
        self.random_state = state["random"]
        self.step, self.history = record["step"], record["history"]
        if self.step == self.config.meta_steps:  # nothing of the result is made here
            self.environment = record["environment"]


def _gan(generator: nn.Module, discriminator: nn.Module, config: MetaGANConfig) -> GAN:
    return GAN(
        generator,
        discriminator,
        loss=config.loss,
        r1=config.r1,
        detach_fakes=config.detach_fakes,
    )


def _learned_rates(game: Game, config: MetaGANConfig) -> LearnedRates | None:
    if config.learned_lr is None:
        return None
    return LearnedRates(game, config.inner_lr, config.inner_steps, config.learned_lr)


def _fixed(rates: LearnedRates) -> InnerLR:
    """The rates as they are now, without a graph."""
    with torch.no_grad():
        return rates.inner_lr()


def _flat(game: Game, rates: LearnedRates | None, prefix: str) -> dict[str, Tensor]:
    """What is learned, by name; the tensors themselves."""
    learned = {} if rates is None else rates.named
    return {
        f"{prefix}{player}.{name}": value
        for player, net in game.players.items()
        for name, value in net.state_dict().items()
    } | {f"{prefix}rate.{name}": ρ.detach() for name, ρ in learned.items()}


def _digest(tensor: Tensor) -> str:
    content = tensor.detach().cpu().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(content).hexdigest()


def _fill(wanted: dict[str, Tensor], tensors: dict[str, Tensor], folder: Any) -> None:
    """Copy into the tensors of :func:`_flat` those of the same names."""
    for name, value in wanted.items():
        found = tensors.get(name)
        if found is None or found.shape != value.shape or found.dtype != value.dtype:
            got = None if found is None else f"{list(found.shape)} {found.dtype}"
            raise ValueError(
                f"checkpoint '{folder}' is of other nets: expected '{name}' of shape"
                f" {list(value.shape)} {value.dtype}, got {got}; build the nets it was"
                " made with"
            )
        value.copy_(found)


def _plain(config: MetaGANConfig) -> dict[str, Any]:
    """The configuration as JSON would give it back; tensors become lists."""
    return json.loads(json.dumps(asdict(config), default=lambda x: x.tolist()))
