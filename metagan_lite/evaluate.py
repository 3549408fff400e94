"""Held-out tasks → a scorecard: the Meta-GAN beside every baseline it should beat."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import metrics
from .adapt import InnerLR, adaptation_steps
from .data import check_integers
from .games import GAN, check_tasks
from .meta import TrainedMetaGAN
from .metrics import mean_and_error
from .tasks import ClassTasks, TaskBatch

__all__ = ["Row", "Scorecard", "evaluate_meta_gan", "jitter"]

METRICS = ("recognition", "KID", "diversity", "NN ratio", "AUC of D")
_RATE_GRID = (
    0.1,
    0.3,
    1.0,
    3.0,
)  # × inner_lr, for the baselines that were not meta-trained


@dataclass(frozen=True)
class Row:
    """One line of a scorecard.

    Attributes:
        method: Who drew. inner_steps: After how many steps; ``None`` if it takes none.
        scores: Metric → (mean over tasks, its standard error).
        note: What was chosen in its favour, such as its learning rate.
    """

    method: str
    inner_steps: int | None
    scores: Mapping[str, tuple[float, float]]
    note: str = ""


@dataclass(frozen=True)
class Scorecard:
    """The table that :func:`evaluate_meta_gan` returns; notebooks render it.

    Attributes:
        rows: The lines. description: How it was measured, one sentence.
        samples: (method, steps) → the samples that were scored, ``[T, n, *S]``.
        batch: The tasks they were scored on.
        chance: The recognition rate of a guess.
    """

    rows: tuple[Row, ...]
    description: str
    samples: Mapping[tuple[str, int | None], Tensor]
    batch: TaskBatch
    chance: float

    def score(self, method: str, inner_steps: int | None, metric: str) -> float:
        """One mean, for the assertions that back a claim.

        Raises:
            KeyError: naming the rows that exist.
        """
        for row in self.rows:
            if (row.method, row.inner_steps) == (method, inner_steps):
                if metric not in row.scores:
                    raise KeyError(
                        f"no metric {metric!r} for {method}; there are:"
                        f" {', '.join(row.scores)}"
                    )
                return row.scores[metric][0]
        known = ", ".join(f"{r.method} @ {r.inner_steps}" for r in self.rows)
        raise KeyError(f"no row '{method} @ {inner_steps}'; there are: {known}")

    def curves(self, metric: str) -> dict[str, tuple[list, list, list]]:
        """Method → (inner steps, means, errors), for :func:`plots.curve_plot`."""
        curves: dict[str, tuple[list, list, list]] = {}
        for row in self.rows:
            if row.inner_steps is not None and metric in row.scores:
                curve = curves.setdefault(row.method, ([], [], []))
                for values, value in zip(curve, (row.inner_steps, *row.scores[metric])):
                    values.append(value)
        return curves

    def to_markdown(self, steps: Sequence[int] | None = None) -> str:
        """The table as Markdown; ``steps`` keeps only these inner steps."""
        header = ["method", "inner steps", *METRICS, "note"]
        lines = [header, ["---"] * len(header)]
        for row in self.rows:
            if steps is None or row.inner_steps is None or row.inner_steps in steps:
                taken = "–" if row.inner_steps is None else str(row.inner_steps)
                cells = [_cell(row.scores.get(metric)) for metric in METRICS]
                lines.append([row.method, taken, *cells, row.note])
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{table}\n\n{self.description}"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    __str__ = to_markdown


def evaluate_meta_gan(
    trained: TrainedMetaGAN,
    held_out: ClassTasks,
    features: nn.Module,
    *,
    pooled: GAN | None = None,
    scratch: GAN | None = None,
    inner_steps: Sequence[int] = (0, 1, 2, 5, 10, 20),
    shots: int | None = None,
    query_shots: int = 10,
    samples: int = 20,
    repeats: int = 1,
    seed: int = 0,
) -> Scorecard:
    """Adapt to every held-out class and score the samples against its query images.

    The rows, besides the Meta-GAN after each number of inner steps (its row at 0 is *no
    adaptation*):

    - **real images**: half of each query set scored against the other half, the floor
      (so its errors are larger than those of the other rows);
    - **copy-support** and **support + jitter** (:func:`jitter`): no learning at all;
    - **scratch**: fresh nets through the same inner loop;
    - **pooled**: an ordinary GAN of all meta-train classes, through the same inner
      loop.

    The last two play the Meta-GAN's inner game, whatever they were trained with. They
    take, for each number of steps, the best of four learning rates (by KID *on these
    very tasks*, which favours them).

    Recognition is the share of samples whose nearest class mean, among all held-out
    classes, is the right one. KID is the unbiased polynomial MMD² of features (negative
    values are legitimate). Diversity is relative to real images; noise raises it too.
    NN ratio is the distance to the nearest support image over that to the nearest query
    image: 0 for copies, 1 for no preference; it knows exact copies only, since one
    moved by a pixel is far away in pixels. Errors are standard errors over tasks; with
    ``repeats`` above 1 the tasks of a class share its images, and the errors are
    conditional on these classes.

    Args:
        trained: From :func:`~metagan_lite.meta.train_meta_gan`.
        held_out: Meta-test classes.
        features: Images ``[n, *S]`` → ``[n, d]``, trained on meta-train classes only.
        pooled: From :func:`~metagan_lite.gan.train_gan`; ``None`` leaves the rows out.
        scratch: Fresh nets; ``None`` leaves the rows out.
        inner_steps: Which steps to score.
        shots: K; as in training by default. query_shots: Q ≥ 4.
        samples: Generated per task, at least 2.
        repeats: Tasks per class, with other support sets; for data with few classes.
        seed: Of the tasks and of the noise, the same for every method.

    Raises:
        ValueError: when a class has too few images, or there is only one class.
    """
    if held_out.num_classes < 2:
        raise ValueError(
            "expected at least 2 held-out classes to tell apart, got"
            f" {held_out.num_classes}; hold out more classes"
        )
    if query_shots < 4:
        raise ValueError(
            f"expected query_shots ≥ 4, got {query_shots}; half of them are scored"
            " against the other half"
        )
    check_integers(1, repeats=repeats)
    check_integers(2, samples=samples)
    for name, game in (("pooled", pooled), ("scratch", scratch)):
        if game is not None and not isinstance(game, GAN):
            raise ValueError(
                f"expected {name} to be a GAN, got {type(game).__name__}; wrap the nets"
                " as GAN(generator, discriminator)"
            )
    check_tasks(held_out, trained.game)
    random = torch.Generator().manual_seed(seed)
    shots = trained.config.shots if shots is None else shots
    parts = [
        held_out.every_task(shots=shots, query_shots=query_shots, generator=random)
        for _ in range(repeats)
    ]
    device = next(trained.game.players["G"].parameters()).device
    judge = _Judge(_join(parts).to(device), features, held_out.num_classes)
    judge.add_drawings(samples, random)

    noise_seed = int(torch.randint(2**31, (), generator=random))
    steps = sorted(set(inner_steps))
    run = {"samples": samples, "steps": steps, "seed": noise_seed}
    rates = trained.config.inner_lr
    ours = _trajectory(trained.game, judge.batch, rates, trained.config, **run)
    for step, (drawn, logits) in ours.items():
        judge.add("Meta-GAN", step, drawn, logits)
    for name, game in (("pooled", pooled), ("scratch", scratch)):
        if game is None:
            continue
        game = _same_inner_game(game, trained)
        runs = {
            factor: _trajectory(
                game, judge.batch, _scaled(rates, factor), trained.config, **run
            )
            for factor in _RATE_GRID
        }
        for step in steps:
            judge.add_best(name, step, {f: r[step] for f, r in runs.items()})
    name = getattr(features, "name", type(features).__name__)
    return Scorecard(
        tuple(judge.rows),
        f"Mean ± standard error over {len(judge.batch)} tasks of {held_out.num_classes}"
        f" held-out classes, K = {shots}, {samples} samples per task against"
        f" {query_shots} query images; KID and recognition by the {name}; chance"
        f" {1 / held_out.num_classes:.3f}.",
        judge.samples,
        judge.batch,
        1 / held_out.num_classes,
    )


class _Judge:
    """Scores samples of the tasks of one batch and collects the rows."""

    def __init__(self, batch: TaskBatch, features: nn.Module, classes: int):
        self.batch, self.features, self.classes = batch, features, classes
        self.rows: list[Row] = []
        self.samples: dict[tuple[str, int | None], Tensor] = {}
        self.real = self._features(batch.query)
        self.prototypes = torch.stack(
            [
                self.real[batch.classes == c].flatten(0, 1).mean(0)
                for c in range(classes)
            ]
        )

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        where = next(self.features.parameters(), images).device
        flat = self.features(images.flatten(0, 1).to(where))
        return flat.unflatten(0, images.shape[:2]).to(images.device)

    def scores(self, drawn: Tensor, logits: tuple[Tensor, Tensor] | None) -> dict:
        batch, features = self.batch, self._features(drawn)
        values = {
            "recognition": metrics.recognition_rate(
                features, self.prototypes, batch.classes
            ),
            "NN ratio": metrics.memorisation_ratio(drawn, batch.support, batch.query),
        }
        if drawn.shape[1] > 1:  # one drawing (copies of one shot) has no spread
            values["KID"] = metrics.polynomial_mmd2(features, self.real)
            values["diversity"] = metrics.diversity_ratio(drawn, batch.query)
        if logits is not None:
            values["AUC of D"] = metrics.auc(*logits)
        return {name: mean_and_error(value) for name, value in values.items()}

    def add(
        self,
        method: str,
        step: int | None,
        drawn: Tensor,
        logits: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.samples[method, step] = drawn
        self.rows.append(Row(method, step, self.scores(drawn, logits)))

    def add_best(self, method: str, step: int, runs: dict) -> None:
        """The run of the learning rate with the smallest KID."""

        scores = {factor: self.scores(*run) for factor, run in runs.items()}

        def distance(factor: float) -> float:
            kid = scores[factor]["KID"][0]
            return kid if math.isfinite(kid) else math.inf

        best = min(runs, key=distance)
        self.samples[method, step] = runs[best][0]
        note = f"best rate: × {best:g}" if step else ""
        self.rows.append(Row(method, step, scores[best], note))

    def add_drawings(self, samples: int, random: torch.Generator) -> None:
        """The rows that need no generator."""
        batch, half = self.batch, self.batch.query.shape[1] // 2
        fresh, reference = batch.query[:, :half], batch.query[:, half:]
        halved = TaskBatch(batch.support, reference, classes=batch.classes)
        floor = _Judge(halved, self.features, self.classes)
        self.samples["real images", None] = fresh
        self.rows.append(Row("real images", None, floor.scores(fresh, None)))
        self.add("copy-support", None, batch.support)
        moved = jitter(batch.support, samples, generator=random)
        self.add("support + jitter", None, moved)


def _same_inner_game(game: GAN, trained: TrainedMetaGAN) -> GAN:
    """The baseline's nets in the Meta-GAN's inner game, on its device."""
    device = next(trained.game.players["G"].parameters()).device
    nets = [copy.deepcopy(game.players[player]).to(device) for player in "GD"]
    config = trained.config
    return GAN(*nets, latent_dim=game.latent_dim, loss=config.loss, r1=config.r1)


def _trajectory(
    game: GAN,
    batch: TaskBatch,
    inner_lr: InnerLR,
    config: Any,
    *,
    samples: int,
    steps: Sequence[int],
    seed: int,
) -> dict[int, tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Step → samples ``[T, n, *S]`` and D's logits of query images and samples."""
    random = torch.Generator().manual_seed(seed)
    tasks, shots = batch.support.shape[:2]
    fakes = config.samples or shots
    draw = game.noise(tasks, 1, samples, generator=random)[:, 0, 1]
    noise = game.noise(tasks, max(steps), fakes, generator=random)
    found = {}
    with torch.no_grad():
        states = adaptation_steps(
            game,
            batch.support,
            inner_lr=inner_lr,
            noise=noise,
            simultaneous=config.simultaneous,
            path=config.path,
        )
        for step, adapted in enumerate(states):
            if step in steps:
                drawn = adapted["G"](draw)
                logits = adapted.evaluate(
                    lambda nets, *sets: game.logits(nets, *sets), batch.query, drawn
                )
                found[step] = drawn, logits
    return found


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
    angle, shear, wide, high, right, down = (
        torch.rand(6, n, generator=generator) * 2 - 1
    )
    angle, shear = angle * (torch.pi / 18), shear * 0.1
    wide, high = 1 + 0.1 * wide, 1 + 0.1 * high
    right, down = 0.1 * right, 0.1 * down  # grid coordinates span 2
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([wide * cos, shear - sin, right], -1),
        torch.stack([sin, high * cos, down], -1),
    ]
    maps = torch.stack(rows, 1).to(images)
    grid = F.affine_grid(maps, list(picked.shape), align_corners=False)
    # grid_sample pads with zeros: make paper, an image's commonest value, the zero.
    paper = picked.flatten(1).median(1).values.view(-1, 1, 1, 1)
    moved = F.grid_sample(picked - paper, grid, align_corners=False) + paper
    return moved.unflatten(0, (tasks, samples))


def _scaled(rate: Any, factor: float) -> Any:
    if isinstance(rate, Mapping):
        return {name: _scaled(value, factor) for name, value in rate.items()}
    if isinstance(rate, Sequence):
        return [value * factor for value in rate]
    return rate * factor


def _join(parts: Sequence[TaskBatch]) -> TaskBatch:
    def together(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    return TaskBatch(
        together("support"), together("query"), classes=together("classes")
    )


def _cell(score: tuple[float, float] | None) -> str:
    if score is None:
        return "–"
    mean = f"{score[0] + 0.0:.2f}".replace("-", "−").replace("−0.00", "0.00")
    return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{score[1]:.2f}"
