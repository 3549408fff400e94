"""Held-out tasks → a scorecard: the Meta-GAN beside every baseline it should beat."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from . import metrics
from .adapt import adaptation_steps, bind
from .baselines import SupportMMD, fine_tune, jitter
from .data import check_integers
from .features import embed
from .games import GAN, check_tasks
from .meta import TrainedMetaGAN
from .metrics import bootstrap_interval, mean_and_error
from .rates import InnerLR, per_step
from .tasks import ClassTasks, TaskBatch

__all__ = [
    "Difference",
    "Row",
    "Scorecard",
    "augmentation_score",
    "evaluate_meta_gan",
]

METRICS = (
    "recognition",
    "KID",
    "recognition (2nd)",
    "KID (2nd)",
    "diversity",
    "NN ratio",
    "NN ratio, shifted",
    "precision",
    "recall",
    "density",
    "coverage",
    "AUC of D",
)
_ON_REQUEST = {"NN ratio, shifted", "precision", "recall", "density", "coverage"}
_RATES = (0.1, 0.3, 1.0, 3.0)  # × inner_lr, for those that were not meta-trained
_MMD_RATES = (0.1, 0.3, 1.0, 3.0)  # of SupportMMD
_ADAM_RATES = (3e-4, 1e-3, 3e-3)
_SHIFT = 1  # pixels, of "NN ratio, shifted"
_NEIGHBOURS = 3  # k of precision, recall, density and coverage
_COLLAPSED = 0.2  # a diversity below this is reported in the note


@dataclass(frozen=True)
class Row:
    """One line of a scorecard.

    Attributes:
        method: Who drew. inner_steps: After how many steps; ``None`` if it takes none.
        values: Metric → one value per task, ``[T]`` on the CPU.
        note: What was chosen in its favour, such as its learning rate, and whether the
            samples diverged (are not finite) or collapsed (diversity below 0.2).
    """

    method: str
    inner_steps: int | None
    values: Mapping[str, Tensor]
    note: str = ""

    @cached_property
    def scores(self) -> dict[str, tuple[float, float]]:
        """Metric → (mean over tasks, its standard error)."""
        return {metric: mean_and_error(value) for metric, value in self.values.items()}


class Difference(NamedTuple):
    """A mean difference between two rows, and its bootstrap interval over tasks."""

    mean: float
    low: float
    high: float


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

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that some row has, in the order of the columns."""
        return tuple(m for m in METRICS if any(m in row.values for row in self.rows))

    def row(self, method: str, inner_steps: int | None) -> Row:
        """One line.

        Raises:
            KeyError: naming the rows that exist.
        """
        for row in self.rows:
            if (row.method, row.inner_steps) == (method, inner_steps):
                return row
        known = ", ".join(f"{r.method} @ {r.inner_steps}" for r in self.rows)
        raise KeyError(f"no row '{method} @ {inner_steps}'; there are: {known}")

    def values(self, method: str, inner_steps: int | None, metric: str) -> Tensor:
        """One value per task, ``[T]``.

        Raises:
            KeyError: naming the rows, or the metrics of the row, that exist.
        """
        values = self.row(method, inner_steps).values
        if metric not in values:
            raise KeyError(
                f"no metric {metric!r} for {method}; there are: {', '.join(values)}"
            )
        return values[metric]

    def score(self, method: str, inner_steps: int | None, metric: str) -> float:
        """One mean, for the assertions that back a claim.

        Raises:
            KeyError: as :meth:`values`.
        """
        return self.values(method, inner_steps, metric).mean().item()

    def difference(
        self,
        method_a: str,
        steps_a: int | None,
        method_b: str,
        steps_b: int | None,
        metric: str,
        *,
        level: float = 0.95,
        resamples: int = 2000,
        seed: int = 0,
    ) -> Difference:
        """How far a is above b, task by task: the mean and its bootstrap interval.

        Both were scored on the same tasks, so what makes a task hard for both cancels,
        and the interval is narrower than their separate errors suggest. An interval
        that holds 0 shows no difference. Which of two numbers is better depends on the
        metric: a negative difference of KIDs favours a.

        Args:
            level, resamples: see :func:`~metagan_lite.metrics.bootstrap_interval`.
            seed: Of the resampling.

        Raises:
            KeyError: as :meth:`values`.
        """
        above = self.values(method_a, steps_a, metric)
        above = above - self.values(method_b, steps_b, metric)
        random = torch.Generator().manual_seed(seed)
        interval = bootstrap_interval(above, level, resamples, random)
        return Difference(above.mean().item(), *interval)

    def curves(self, metric: str) -> dict[str, tuple[list, list, list]]:
        """Method → (inner steps, means, errors), for :func:`plots.curve_plot`."""
        curves: dict[str, tuple[list, list, list]] = {}
        for row in self.rows:
            if row.inner_steps is not None and metric in row.scores:
                curve = curves.setdefault(row.method, ([], [], []))
                for values, value in zip(curve, (row.inner_steps, *row.scores[metric])):
                    values.append(value)
        return curves

    def to_markdown(
        self,
        steps: Sequence[int] | None = None,
        metrics: Sequence[str] | None = None,
    ) -> str:
        """The table as Markdown.

        Args:
            steps: Keep only these inner steps.
            metrics: The columns; ``scorecard.metrics`` for all. By default all but the
                shifted NN ratio, precision, recall, density and coverage.

        Raises:
            KeyError: for a metric that no row has, naming those that exist.
        """
        rows = [
            row
            for row in self.rows
            if steps is None or row.inner_steps is None or row.inner_steps in steps
        ]
        if metrics is None:
            metrics = [metric for metric in self.metrics if metric not in _ON_REQUEST]
        if unknown := [metric for metric in metrics if metric not in self.metrics]:
            raise KeyError(
                f"no metric {unknown[0]!r}; there are: {', '.join(self.metrics)}"
            )
        header = ["method", "inner steps", *metrics, "note"]
        lines = [header, ["---"] * len(header)]
        for row in rows:
            taken = "–" if row.inner_steps is None else str(row.inner_steps)
            cells = [_cell(row.scores.get(metric)) for metric in metrics]
            lines.append([row.method, taken, *cells, row.note])
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{table}\n\n{self.description}"

    def to_record(self) -> dict[str, Any]:
        """The table for a JSON file; a number that is not finite is ``None``."""

        def plain(number: float) -> float | None:
            return number if math.isfinite(number) else None

        rows = [
            {
                "method": row.method,
                "inner_steps": row.inner_steps,
                "note": row.note,
                "scores": {
                    metric: {"mean": plain(mean), "error": plain(error)}
                    for metric, (mean, error) in row.scores.items()
                },
            }
            for row in self.rows
        ]
        return {"description": self.description, "rows": rows}

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    __str__ = to_markdown


def evaluate_meta_gan(
    trained: TrainedMetaGAN,
    held_out: ClassTasks,
    features: nn.Module,
    *,
    second: nn.Module | None = None,
    pooled: GAN | None = None,
    scratch: GAN | None = None,
    validation: ClassTasks | None = None,
    inner_steps: Sequence[int] = (0, 1, 2, 5, 10, 20),
    decay: float = 1.0,
    inner_samples: int | None = None,
    support_mmd: bool = False,
    fine_tune_steps: int = 0,
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
    - **copy-support** and **support + jitter**
      (:func:`~metagan_lite.baselines.jitter`): no learning at all;
    - **scratch**: fresh nets through the same inner loop;
    - **pooled**: an ordinary GAN of all meta-train classes, through the same inner
      loop;
    - **Meta-GAN, support-MMD** and **pooled, support-MMD** on request: the same G, but
      no discriminator (:class:`~metagan_lite.baselines.SupportMMD`). What the
      Meta-GAN gains over it is what its D knows beyond the support images;
    - **pooled, Adam** on request: the pooled GAN trained on, on each support set, with
      its own losses and the optimiser of ``train_gan``, D then G.

    **scratch** and **pooled** play the Meta-GAN's inner game, whatever they were
    trained with. All these baselines take, for each number of steps, the best of three
    or four learning rates, by KID: on the tasks of ``validation``, or without it *on
    these very tasks*, which favours them.

    The columns:

    - *recognition*, the share of samples whose nearest class mean, among all held-out
      classes, is the right one;
    - *KID*, the unbiased polynomial MMD² of features (negative values are legitimate);
    - both again as *(2nd)* under ``second``: a difference that only one scorer sees
      may be the scorer's;
    - *diversity*, relative to real images; noise raises it too;
    - *NN ratio*, the distance to the nearest support image over that to the nearest
      query image: 0 for copies, 1 for no preference. It knows exact copies only;
      *NN ratio, shifted* also knows those moved by up to one pixel each way;
    - *precision*, *recall*, *density*, *coverage* of features, with the third
      neighbour. They depend on the number of images, and with ten query images of a
      class, or half of them in the row of real images, they are coarse;
    - *AUC of D*, how well the adapted D ranks query images above samples.

    Errors are standard errors over tasks; with ``repeats`` above 1 the tasks of a class
    share its images, and the errors are conditional on these classes.

    Args:
        trained: From :func:`~metagan_lite.meta.train_meta_gan`.
        held_out: Meta-test classes.
        features: Images ``[n, *S]`` → ``[n, d]``, trained on meta-train classes only.
        second: Another such net; ``None`` leaves its columns out.
        pooled: From :func:`~metagan_lite.gan.train_gan`; ``None`` leaves the rows out.
        scratch: Fresh nets; ``None`` leaves the rows out.
        validation: Classes to choose the baselines' rates on, not among ``held_out``
            and best not among those ``features`` was trained on.
        inner_steps: Which steps to score.
        decay: Factor of all inner rates from one step to the next, beginning with the
            first step past those of training; 1 for constant rates.
        inner_samples: Generated samples per inner step; as in training by default.
        support_mmd: Whether to add the rows without a discriminator.
        fine_tune_steps: Steps of Adam of the row "pooled, Adam"; 0 leaves it out.
        shots: K; as in training by default. query_shots: Q ≥ 4.
        samples: Generated per task, at least 2.
        repeats: Tasks per class, with other support sets; for data with few classes.
        seed: Of the tasks and of the noise, the same for every method.

    Raises:
        ValueError: when a class has too few images, or there is only one class, or a
            validation class is held out.
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
    if not 0 < decay <= 1:
        raise ValueError(
            f"expected 0 < decay ≤ 1, got {decay}; pass 1 for constant inner rates"
        )
    check_integers(1, repeats=repeats)
    check_integers(2, samples=samples)
    check_integers(0, fine_tune_steps=fine_tune_steps)
    if inner_samples is not None:
        check_integers(1, inner_samples=inner_samples)
    if fine_tune_steps and pooled is None:
        raise ValueError(
            f"expected a pooled GAN to fine-tune for {fine_tune_steps} steps, got none;"
            " pass pooled=train_gan(…)"
        )
    for name, game in (("pooled", pooled), ("scratch", scratch)):
        if game is not None and not isinstance(game, GAN):
            raise ValueError(
                f"expected {name} to be a GAN, got {type(game).__name__}; wrap the nets"
                " as GAN(generator, discriminator)"
            )
    check_tasks(held_out, trained.game)
    if validation is not None:
        _check_validation(validation, held_out, trained.game)
    random = torch.Generator().manual_seed(seed)
    config = trained.config
    shots = config.shots if shots is None else shots
    fakes = inner_samples or config.samples or shots
    if support_mmd and min(shots, fakes) < 2:
        raise ValueError(
            "support_mmd compares pairs: expected at least 2 shots and 2 samples per"
            f" inner step, got {shots} and {fakes}; raise them, or leave it out"
        )
    device = next(trained.game.players["G"].parameters()).device

    def draw(tasks: ClassTasks) -> TaskBatch:
        parts = [
            tasks.every_task(shots=shots, query_shots=query_shots, generator=random)
            for _ in range(repeats)
        ]
        return _join(parts).to(device)

    scorers = {"": features} if second is None else {"": features, " (2nd)": second}
    judge = _Judge(draw(held_out), scorers)
    judge.add_drawings(samples, random)

    steps = sorted(set(inner_steps))
    protocol = _Protocol(
        steps,
        samples,
        fakes,
        [decay ** max(0, s - config.inner_steps + 1) for s in range(max(steps))],
        int(torch.randint(2**31, (), generator=random)),
        {"simultaneous": config.simultaneous, "path": config.path},
    )
    referee = None if validation is None else _Judge(draw(validation), {"": features})

    ours = protocol.run(trained.game, judge.batch, trained.inner_lr)
    for step, drawing in ours.items():
        judge.add("Meta-GAN", step, drawing)
    for name, game in (("pooled", pooled), ("scratch", scratch)):
        if game is None:
            continue
        game = _on(device, game, loss=config.loss, r1=config.r1)

        def run(factor: float, batch: TaskBatch) -> dict[int, _Drawing]:
            return protocol.run(game, batch, config.inner_lr, factor)

        judge.add_best(name, _RATES, run, referee, note="rate × {:g}")
    for name, game in (("Meta-GAN", trained.game), ("pooled", pooled)):
        if game is None or not support_mmd:
            continue
        alone = SupportMMD(_on(device, game))

        def run(rate: float, batch: TaskBatch) -> dict[int, _Drawing]:
            return protocol.run(alone, batch, rate)

        name = f"{name}, support-MMD"
        judge.add_best(name, _MMD_RATES, run, referee, note="rate {:g}")
    if fine_tune_steps:
        game = _on(device, pooled)

        def run(rate: float, batch: TaskBatch) -> dict[int, _Drawing]:
            return protocol.fine_tune(game, batch, fine_tune_steps, rate)

        judge.add_best("pooled, Adam", _ADAM_RATES, run, referee, note="rate {:g}")
    return Scorecard(
        tuple(judge.rows),
        f"Mean ± standard error over {len(judge.batch)} tasks of {held_out.num_classes}"
        f" held-out classes, K = {shots}, {samples} samples per task against"
        f" {query_shots} query images; KID and recognition by the {_name(features)}"
        + (f", (2nd) by the {_name(second)}" if second is not None else "")
        + (f"; {protocol.fakes} samples per inner step" if inner_samples else "")
        + (
            f"; inner rates × {decay:g} per step past {config.inner_steps}"
            if decay < 1
            else ""
        )
        + f"; chance {1 / held_out.num_classes:.3f}.",
        judge.samples,
        judge.batch,
        1 / held_out.num_classes,
    )


# --- drawing ------------------------------------------------------------------


class _Drawing(NamedTuple):
    """Samples ``[T, n, *S]``, and D's logits of query images and of samples."""

    samples: Tensor
    logits: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class _Protocol:
    """What all methods have in common: steps, noise, and how rates decay."""

    steps: Sequence[int]
    samples: int
    fakes: int  # per inner step
    decays: Sequence[float]  # factor of the rates at each inner step
    seed: int
    mode: Mapping[str, Any]

    def run(
        self,
        game: GAN | SupportMMD,
        batch: TaskBatch,
        inner_lr: InnerLR,
        factor: float = 1.0,
    ) -> dict[int, _Drawing]:
        """What the game draws after each of the steps, its rates × factor."""
        z, noise = self._noise(game, len(batch), max(self.steps))
        rates = _scaled(game, inner_lr, [factor * decay for decay in self.decays])
        found = {}
        with torch.no_grad():
            states = adaptation_steps(
                game, batch.support, inner_lr=rates, noise=noise, **self.mode
            )
            for step, adapted in enumerate(states):
                if step in self.steps:
                    drawn, logits = adapted["G"](z), None
                    if isinstance(game, GAN):
                        logits = adapted.evaluate(
                            lambda nets, *sets: game.logits(nets, *sets),
                            *(batch.query, drawn),
                        )
                    found[step] = _Drawing(drawn, logits)
        return found

    def fine_tune(
        self, game: GAN, batch: TaskBatch, steps: int, rate: float
    ) -> dict[int, _Drawing]:
        """What the game draws after so many steps of Adam on each support set."""
        z, noise = self._noise(game, len(batch), steps)
        with torch.no_grad():
            params = fine_tune(game, batch.support, noise, rate)
            drawn = vmap(lambda own, z: bind(game, own)["G"](z))(params, z)
            logits = vmap(lambda own, *sets: game.logits(bind(game, own), *sets))(
                params, batch.query, drawn
            )
        return {steps: _Drawing(drawn, logits)}

    def _noise(
        self, game: GAN | SupportMMD, tasks: int, steps: int
    ) -> tuple[Tensor, Tensor]:
        """What is drawn from, and the noise of the inner steps."""
        random = torch.Generator().manual_seed(self.seed)
        z = game.noise(tasks, 1, self.samples, generator=random)[:, 0]
        if isinstance(game, GAN):
            z = z[:, list(game.players).index("G")]
        return z, game.noise(tasks, steps, self.fakes, generator=random)


def _on(device: torch.device, game: GAN, **changes: Any) -> GAN:
    """A copy of the game on a device, with another loss or penalty."""
    nets = [copy.deepcopy(game.players[player]).to(device) for player in "GD"]
    options = {"loss": game.kind, "r1": game.r1} | changes
    return GAN(*nets, latent_dim=game.latent_dim, **options)


def _scaled(game: GAN | SupportMMD, rate: InnerLR, factors: Sequence[float]) -> InnerLR:
    """An inner rate with one factor per step; past its own steps, its last goes on."""
    return {
        player: {
            name: [value * factor for value, factor in zip(rates, factors)]
            for name, rates in own.items()
        }
        for player, own in per_step(game, rate, len(factors)).items()
    }


# --- scoring ------------------------------------------------------------------


class _Scorer:
    """A feature net, and the query images and class means in its features."""

    def __init__(self, net: nn.Module, batch: TaskBatch):
        self.net = net
        self.real = self(batch.query)
        self.prototypes = torch.stack(
            [
                self.real[batch.classes == c].flatten(0, 1).mean(0)
                for c in range(int(batch.classes.max()) + 1)
            ]
        )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        where = next(self.net.parameters(), images).device
        flat = self.net(images.flatten(0, 1).to(where))
        return flat.unflatten(0, images.shape[:2]).to(images.device)


class _Judge:
    """Scores samples of the tasks of one batch and collects the rows."""

    def __init__(self, batch: TaskBatch, nets: Mapping[str, nn.Module]):
        self.batch, self.nets = batch, nets
        self.scorers = {end: _Scorer(net, batch) for end, net in nets.items()}
        self.rows: list[Row] = []
        self.samples: dict[tuple[str, int | None], Tensor] = {}

    def values(self, drawing: _Drawing) -> dict[str, Tensor]:
        """Metric → ``[T]``, NaN where a task's samples are not finite."""
        batch, drawn = self.batch, drawing.samples
        several = drawn.shape[1] > 1  # one drawing (copies of one shot) has no spread
        values = {}
        for end, scorer in self.scorers.items():
            features, real = scorer(drawn), scorer.real
            values[f"recognition{end}"] = metrics.recognition_rate(
                features, scorer.prototypes, batch.classes
            )
            if several:
                values[f"KID{end}"] = metrics.polynomial_mmd2(features, real)
            if not end and min(features.shape[1], real.shape[1]) > _NEIGHBOURS:
                k = _NEIGHBOURS
                values["precision"], values["recall"] = metrics.precision_recall(
                    real, features, k
                )
                values["density"], values["coverage"] = metrics.density_coverage(
                    real, features, k
                )
        if several:
            values["diversity"] = metrics.diversity_ratio(drawn, batch.query)
        for name, shift in (("NN ratio", 0), ("NN ratio, shifted", _SHIFT)):
            values[name] = metrics.memorisation_ratio(
                drawn, batch.support, batch.query, shift
            )
        if drawing.logits is not None:
            values["AUC of D"] = metrics.auc(*drawing.logits)
        lost = ~drawn.isfinite().flatten(1).all(1)
        return {
            metric: values[metric].masked_fill(lost, torch.nan).cpu()
            for metric in METRICS
            if metric in values
        }

    def distance(self, drawing: _Drawing) -> float:
        """The mean KID, by which rates are chosen; ∞ where it is not finite."""
        scorer = self.scorers[""]
        kid = metrics.polynomial_mmd2(scorer(drawing.samples), scorer.real).mean()
        return kid.item() if kid.isfinite() else math.inf

    def add(
        self, method: str, step: int | None, drawing: _Drawing, note: str = ""
    ) -> None:
        values = self.values(drawing)
        notes = [note, *_warnings(drawing.samples, values)]
        self.samples[method, step] = drawing.samples
        self.rows.append(Row(method, step, values, "; ".join(filter(None, notes))))

    def add_best(
        self,
        method: str,
        rates: Sequence[float],
        run: Callable[[float, TaskBatch], dict[int, _Drawing]],
        referee: _Judge | None,
        note: str,
    ) -> None:
        """For each number of steps the rate that the referee finds nearest.

        Without a referee this judge chooses, on the tasks that it then scores.
        """
        chooser = referee or self
        runs = {rate: run(rate, chooser.batch) for rate in rates}
        best = {
            step: min(rates, key=lambda rate: chooser.distance(runs[rate][step]))
            for step in runs[rates[0]]
        }
        if referee is not None:
            runs = {rate: run(rate, self.batch) for rate in set(best.values())}
        where = (
            "best on these tasks" if referee is None else "chosen on validation classes"
        )
        for step, rate in best.items():
            said = f"{note.format(rate)}, {where}" if step else ""
            self.add(method, step, runs[rate][step], said)

    def add_drawings(self, samples: int, random: torch.Generator) -> None:
        """The rows that need no generator."""
        batch, half = self.batch, self.batch.query.shape[1] // 2
        fresh, reference = batch.query[:, :half], batch.query[:, half:]
        halved = TaskBatch(batch.support, reference, classes=batch.classes)
        floor = _Judge(halved, self.nets)
        floor.add("real images", None, _Drawing(fresh))
        self.rows += floor.rows
        self.samples.update(floor.samples)
        self.add("copy-support", None, _Drawing(batch.support))
        moved = jitter(batch.support, samples, generator=random)
        self.add("support + jitter", None, _Drawing(moved))


def _warnings(drawn: Tensor, values: Mapping[str, Tensor]) -> list[str]:
    """What a reader must know before reading the numbers of a row."""
    warnings = []
    lost = int((~drawn.isfinite().flatten(1).all(1)).sum())
    if lost:
        warnings.append(f"diverged in {lost} of {len(drawn)} tasks")
    if "diversity" in values and values["diversity"].nanmean() < _COLLAPSED:
        warnings.append("collapsed")
    return warnings


def _check_validation(validation: ClassTasks, held_out: ClassTasks, game: GAN) -> None:
    check_tasks(validation, game)
    shared = sorted(set(validation.class_names) & set(held_out.class_names))
    if shared:
        raise ValueError(
            "expected validation classes apart from the held-out ones, got"
            f" {len(shared)} in both, such as {shared[0]!r}; take some of the"
            " meta-train classes"
        )


def _name(features: nn.Module) -> str:
    return getattr(features, "name", type(features).__name__)


def augmentation_score(
    drawn: Tensor,
    batch: TaskBatch,
    features: Callable[[Tensor], Tensor] | None = None,
    *,
    weight_decay: float = 0.01,
) -> Tensor:
    """What the samples add to the support images as training data for a classifier.

    One multinomial logistic regression tells the classes of all tasks apart, trained on
    their support images and samples together; another is trained on the support images
    alone; the score is how much more of a task's query images the first gets right.
    (Training on samples and testing on real images: Ravuri & Vinyals 2019, here with
    the support images beside them.)

    Positive: the samples show something of the class that its K images do not. 0:
    nothing new, as copies of the support score. Negative: they mislead, being of other
    classes or unlike real images. Accuracy near 1 without samples leaves nothing to
    gain, so report it beside the score.

    Args:
        drawn: Samples ``[T, n, *S]``, such as ``scorecard.samples["Meta-GAN", 5]``.
        batch: Their tasks, each class as often as the others; with several tasks of a
            class, the first tasks of all classes share a classifier, then the second.
        features: Images ``[n, *S]`` → ``[n, d]`` to classify by; pixels by default.
        weight_decay: λ of the penalty λ/2·‖W‖² that is added to the mean loss; the
            inputs are divided by the standard deviation of the support images.

    Returns:
        Gain in accuracy for each task, ``[T]`` in [-1, 1]; NaN for all tasks of a
        classifier if a sample is not finite. Its mean over tasks is the score.

    Raises:
        ValueError: for samples of other tasks, or classes that differ in their number
            of tasks.
    """
    if batch.classes is None or len(drawn) != len(batch):
        raise ValueError(
            f"expected samples of the {len(batch)} tasks of the batch, each of a class,"
            f" got {list(drawn.shape)}; pass scorecard.samples[…] and scorecard.batch"
        )
    counts = batch.classes.unique(return_counts=True)[1]
    if len(counts) < 2 or (counts != counts[0]).any():
        raise ValueError(
            "expected at least 2 classes with equally many tasks each, got"
            f" {counts.tolist()} tasks; take the tasks of every_task()"
        )

    support, query, made = (
        embed(images, features) for images in (batch.support, batch.query, drawn)
    )
    gains = support.new_empty(len(batch))
    for tasks in batch.classes.argsort(stable=True).view(len(counts), -1).T:
        own, asked, extra = support[tasks], query[tasks], made[tasks]
        if not extra.isfinite().all():
            gains[tasks] = torch.nan
            continue
        middle = own.mean((0, 1))
        unit = (own - middle).square().mean().sqrt()
        own, asked, extra = ((x - middle) / unit for x in (own, asked, extra))
        alone, both = (
            _accuracy(train, asked, weight_decay)
            for train in (own, torch.cat([own, extra], 1))
        )
        gains[tasks] = both - alone
    return gains


def _accuracy(train: Tensor, query: Tensor, weight_decay: float) -> Tensor:
    """Of a logistic regression on ``[C, n, d]``: the share right of each ``[Q, d]``."""
    classes, n, d = train.shape
    targets = torch.arange(classes, device=train.device).repeat_interleave(n)
    weight = train.new_zeros(classes, d, requires_grad=True)
    bias = train.new_zeros(classes, requires_grad=True)
    # The loss is convex, so a quasi-Newton method from 0 ends in one place.
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = F.linear(train.flatten(0, 1), weight, bias)
        loss = F.cross_entropy(logits, targets)
        loss = loss + weight_decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    answers = F.linear(query, weight, bias).argmax(-1)  # [C, Q]
    own = torch.arange(classes, device=query.device).unsqueeze(1)
    return (answers == own).to(query.dtype).mean(1)


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
