"""Checks of chapter 16's exercises: the milestones of the capstone."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from ..adapt import adapt
from ..games import GAN
from ..metrics import mean_and_error
from ..nets import MetaDiscriminator, MetaGenerator
from . import Answer, exercise, same

F64 = torch.float64


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@exercise("16.1", function="ink")
def _(answer: Answer) -> str:
    """Centres, a segment, a radius → ink."""
    centres = torch.cartesian_prod(*[torch.arange(9, dtype=F64) + 0.5] * 2)
    ends = [((2.2, 3.1), (6.3, 5.4), 0.9), ((7.0, 1.5), (1.2, 6.6), 1.4)]
    for start, end, radius in ends:
        start, end = (torch.tensor(point, dtype=F64) for point in (start, end))

        def right(
            bounded: bool = True,
            soft: float = 0.5,
            squared: bool = False,
            start: Tensor = start,
            end: Tensor = end,
            radius: float = radius,
        ) -> Tensor:
            along = end - start
            t = (centres - start) @ along / (along @ along)
            if bounded:
                t = t.clamp(0, 1)
            distance = (centres - start - t[:, None] * along).norm(dim=1)
            if squared:
                distance = distance**2
            return (radius + soft - distance).clamp(0, 1)

        got = answer(centres, start, end, radius)
        answer.expect(
            getattr(got, "shape", None) == (81,),
            "One number for each centre was expected, a tensor of shape [81].",
        )
        answer.mistake(
            "endless_line",
            same(got, right(bounded=False)),
            "The stroke goes on past its ends. The nearest point of a *segment* is"
            " between them: clamp $t$ to $[0, 1]$.",
        )
        answer.mistake(
            "hard_edge",
            same(got, (right(soft=0.5) >= 0.5).double()),
            "Every pixel is all ink or none. Let it fall from 1 to 0 over one pixel.",
        )
        answer.mistake(
            "edge_inside",
            same(got, right(soft=0.0)),
            "The edge itself, where $e = 0$, is drawn as paper. There the ink is one"
            " half.",
        )
        answer.mistake(
            "squared_distance",
            same(got, right(squared=True)),
            "This is the *square* of the distance. Take the root.",
        )
        answer.mistake(
            "diameter",
            same(got, right(radius=radius / 2)),
            "The pen is half as wide as it should be: the radius was halved.",
        )
        middle = right()[40].item()
        answer.expect(
            same(got, right()),
            f"At the centre (4.5, 4.5) the ink is {middle:.2f} for the stroke from"
            f" {start.tolist()} to {end.tolist()} with radius {radius}, got"
            f" {float(got[40]):.2f}.",
        )
    return "A stroke is all that lies within a radius of the pen's path."


@exercise("16.2", function="fit")
def _(answer: Answer) -> str:
    """Points, radius, size → fitted points."""
    for seed, size, radius in ((0, 12, 0.72), (1, 20, 1.3)):
        points = torch.rand(7, 2, generator=_random(seed), dtype=F64)
        points = points * torch.tensor([3.0, 1.1]) + 5
        if seed:
            points = points.flip(1)
        low, high = points.amin(0), points.amax(0)
        sides, middle = high - low, (low + high) / 2
        room = size - 2 * radius

        def fitted(
            scale: Tensor, centre: Tensor, points: Tensor = points, size: int = size
        ) -> Tensor:
            return size / 2 + (points - centre) * scale

        got = answer(points, radius, size)
        answer.mistake(
            "stretched",
            same(got, fitted(room / sides, middle)),
            "Both sides fill the image, so that a flat fish becomes a round one. Scale"
            " both by the *longer* side.",
        )
        answer.mistake(
            "shorter_side",
            same(got, fitted(room / sides.min(), middle)),
            "The shorter side fills the image, and the longer one is cut off.",
        )
        answer.mistake(
            "no_room_for_the_pen",
            same(got, fitted(size / sides.max(), middle)),
            "The path touches the border, and half of the stroke is outside. Leave a"
            " radius on both sides.",
        )
        answer.mistake(
            "centre_of_mass",
            same(got, fitted(room / sides.max(), points.mean(0))),
            "The mean of the points is in the middle. Where many points are, that is"
            " not the middle of the *box*.",
        )
        answer.mistake(
            "top_left",
            same(got, radius + (points - low) * room / sides.max()),
            "The drawing is at the upper left. The shorter side has room to spare: half"
            " of it on either side.",
        )
        answer.expect(
            same(got, fitted(room / sides.max(), middle)),
            f"The box of the fitted points is to be centred at {size / 2:g}, its longer"
            f" side {room:.2f}.",
        )
    return "Place and size are gone, proportions stay, and the pen has room."


@exercise("16.3", function="draw_more")
def _(answer: Answer) -> str:
    """A Meta-GAN's game, support, rates, steps, noises → samples."""
    for seed in (0, 1):
        random = _random(seed)
        game = GAN(
            MetaGenerator((1, 3, 3), latent_dim=2, hidden=5, generator=random),
            MetaDiscriminator((1, 3, 3), hidden=5, generator=random),
        )
        support = torch.rand(3, 4, 1, 3, 3, generator=random) * 2 - 1
        rates, steps = {"G": 0.7, "D": 0.4}, 2 + seed
        noise = game.noise(3, steps, 4, generator=random)
        z = torch.randn(3, 6, 2, generator=random)
        before = copy.deepcopy(game.players["G"].state_dict())

        def drawn(
            data: Tensor = support,
            steps: int = steps,
            rates: dict[str, float] = rates,
            z: Tensor = z,
            game: GAN = game,
            noise: Tensor = noise,
        ) -> Tensor:
            with torch.no_grad():
                return adapt(
                    game,
                    data,
                    inner_steps=steps,
                    inner_lr=rates,
                    noise=noise[:, :steps],
                )["G"](z)

        got = answer(game, support, rates, noise, z)
        with torch.no_grad():
            fresh = game.players["G"](z.flatten(0, 1)).view(3, 6, 1, 3, 3)
        answer.mistake(
            "not_adapted",
            same(got, fresh, 1e-5),
            "These are samples of the start, the same whatever was drawn. Sample from"
            " the *adapted* generator.",
        )
        answer.mistake(
            "one_step",
            same(got, drawn(steps=1), 1e-5),
            "Only one inner step was taken. `noise` holds noise for all of them:"
            " `noise.shape[1]` steps.",
        )
        answer.mistake(
            "rates_exchanged",
            same(got, drawn(rates={"G": 0.4, "D": 0.7}), 1e-5),
            "The rates of $G$ and $D$ are exchanged.",
        )
        pooled = support.flatten(0, 1).expand(3, 12, 1, 3, 3)
        answer.mistake(
            "all_characters_at_once",
            same(got, drawn(data=pooled), 1e-5),
            "Every task was shown the drawings of all. Each generator adapts to the"
            " support of its own character.",
        )
        answer.mistake(
            "noise_of_the_game",
            same(got, drawn(z=noise[:, 0, 1]), 1e-5),
            "The samples are drawn from the inner loop's own noise, on which $G$ was"
            " trained. Use fresh `z`.",
        )
        after = game.players["G"].state_dict()
        answer.expect(
            all(torch.equal(before[k], after[k]) for k in before),
            "The initialisation itself was changed. The next character would start from"
            " this one's weights.",
        )
        answer.expect(
            same(got, drawn(), 1e-5),
            "Samples [3, 6, 1, 3, 3] were expected, of generators that took"
            f" {steps} inner steps on their own support.",
        )
    return "One start, a generator for each character, and new noise for each sample."


@exercise("16.4", function="over_characters")
def _(answer: Answer) -> str:
    """Differences of tasks and their characters → mean and standard error."""
    for seed, counts in ((0, (3, 3, 3, 3)), (1, (5, 1, 4, 2, 3))):
        random = _random(seed)
        classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        classes = classes[torch.randperm(len(classes), generator=random)]
        own = torch.randn(len(counts), generator=random, dtype=F64)
        above = own[classes] + 0.3 * torch.randn(
            len(classes), generator=random, dtype=F64
        )
        means = torch.stack([above[classes == c].mean() for c in range(len(counts))])
        right = mean_and_error(means)
        got = answer(above, classes)
        answer.mistake(
            "over_tasks",
            same(got, mean_and_error(above)),
            "Every task counts as new evidence, although several show one character."
            " Average the tasks of a character first.",
        )
        answer.mistake(
            "error_over_tasks",
            same(got, (right[0], right[1] * math.sqrt(len(counts) / len(above)))),
            "The means of characters are right, but their spread is divided by the root"
            " of the number of *tasks*.",
        )
        answer.mistake(
            "no_root",
            same(got, (right[0], means.std().item() / len(counts))),
            "A standard error falls with the *root* of the number.",
        )
        answer.mistake(
            "deviation",
            same(got, (right[0], means.std().item())),
            "This is how much characters differ. Of their mean, the error is smaller by"
            " the root of their number.",
        )
        answer.mistake(
            "divided_by_n",
            same(
                got,
                (right[0], means.std(correction=0).item() / math.sqrt(len(counts))),
            ),
            "The deviation was divided by the number of characters instead of one less,"
            " and is too small on average.",
        )
        answer.expect(
            same(got, right),
            f"With {list(counts)} tasks of each character the mean is {right[0]:.4f}"
            f" ± {right[1]:.4f}.",
        )
    return "As many pieces of evidence as characters, whatever the number of repeats."


_HANDED_IN = {
    ("Meta-GAN", 5): (0.10, 0.02),
    ("pooled", 5): (0.77, 0.04),
    ("scratch", 5): (0.67, 0.05),
    ("scratch", 10): (0.40, 0.04),
    ("support + jitter", None): (0.06, 0.01),
    ("copy-support", None): (0.00, 0.002),
    ("real images", None): (0.01, 0.03),
}
_AGAIN = {
    ("Meta-GAN", 5): (0.17, 0.02),  # 0.07 above: more than two errors
    ("pooled", 5): (0.70, 0.03),  # 0.07 below: within two of the larger error
    ("scratch", 5): (0.52, 0.06),  # 0.15 below: more than two errors
    ("scratch", 10): (0.46, 0.04),  # 0.06 above: within two equal errors
    ("support + jitter", None): (0.035, 0.01),  # 0.025 below: more than two errors
    ("copy-support", None): (0.008, 0.002),  # four errors, but within 0.01
}


@exercise("16.5", function="disagreements")
def _(answer: Answer) -> str:
    """Two tables row → (mean, error) → rows that disagree."""
    swapped = {row: score for row, score in reversed(_AGAIN.items())}
    for ours, theirs in ((_HANDED_IN, _AGAIN), (_HANDED_IN, swapped)):

        def rows(
            missing: bool = True,
            signed: int = 0,
            errors: float = 2,
            least: float = 0.01,
            pick=max,
            ours: dict = ours,
            theirs: dict = theirs,
        ) -> list:
            found = []
            for row, (a, s) in ours.items():
                if row not in theirs:
                    found += [row] if missing else []
                    continue
                b, t = theirs[row]
                gap = abs(a - b) if not signed else signed * (a - b)
                if gap > max(least, errors * pick(s, t)) + 1e-12:
                    found.append(row)
            return found

        got = answer(ours, theirs)
        answer.expect(
            isinstance(got, (list, tuple, set)),
            f"A list of rows was expected, got {type(got).__name__}.",
        )
        got = list(got)
        matches = lambda other: sorted(map(str, got)) == sorted(map(str, other))
        answer.mistake(
            "missing_row_ignored",
            matches(rows(missing=False)),
            "A row that the second measurement does not have is not reported. A"
            " baseline that cannot be measured again was perhaps never measured.",
        )
        answer.mistake(
            "only_upwards",
            matches(rows(signed=1)) or matches(rows(signed=-1)),
            "Only means that moved one way are found. Take the absolute difference.",
        )
        answer.mistake(
            "no_least_gap",
            matches(rows(least=0.0)),
            "Copies of the support have next to no error, so that rounding is reported:"
            " 0.01 is always allowed.",
        )
        answer.mistake(
            "one_error",
            matches(rows(errors=1)),
            "One standard error is passed once in three times by chance. Two are"
            " allowed.",
        )
        answer.mistake(
            "smaller_error",
            matches(rows(pick=min)),
            "The smaller of the two errors was taken. Allowed are two of the larger.",
        )
        answer.mistake(
            "sum_of_errors",
            matches(rows(errors=2, pick=lambda s, t: s + t)),
            "The errors were added up, which allows nearly twice as much.",
        )
        answer.expect(
            matches(rows()),
            f"Expected the rows {rows()}, got {got}.",
        )
    return "What is missing or moved by more than two errors needs an explanation."
