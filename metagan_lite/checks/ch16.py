"""Checks of chapter 16's exercises: the milestones of the capstone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

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


def _pixel(centres: Tensor, right: Tensor, got: Tensor) -> str:
    """The pixel where the ink is most wrong, in words."""
    got = torch.as_tensor(got, dtype=F64)
    i = int((got - right).abs().nan_to_num(math.inf).argmax()) if got.ndim else 0
    x, y = centres[i].tolist()
    return (
        f"At the centre ({x:g}, {y:g}) the ink is {right[i].item():.2f}, got"
        f" {got.flatten()[i].item():.2f}."
    )


@exercise("16.1", function="ink")
def _(answer: Answer) -> str:
    """Centres, a segment, a radius → ink."""
    centres = torch.cartesian_prod(*[torch.arange(9, dtype=F64) + 0.5] * 2)
    ends = [((2.2, 3.1), (6.3, 5.4), 0.9), ((7.0, 1.5), (1.2, 6.6), 1.4)]
    for start, end, radius in ends:
        start, end = (torch.tensor(point, dtype=F64) for point in (start, end))

        def right(
            bounds: tuple[float, float] = (0, 1),
            soft: float = 0.5,
            squared: bool = False,
            round_ends: bool = True,
            pixels: float = 1.0,
            start: Tensor = start,
            end: Tensor = end,
            radius: float = radius,
        ) -> Tensor:
            along = end - start
            t = (centres - start) @ along / (along @ along)
            beside = (t >= 0) & (t <= 1)
            t = t.clamp(*bounds)
            distance = (centres - start - t[:, None] * along).norm(dim=1)
            if squared:
                distance = distance**2
            drawn = ((radius - distance) / pixels + soft).clamp(0, 1)
            return drawn if round_ends else drawn * beside

        got = answer(centres, start, end, radius)
        answer.expect(
            getattr(got, "shape", None) == (81,),
            "One number for each centre was expected, a tensor of shape [81].",
        )
        endless = [(-math.inf, math.inf), (0, math.inf), (-math.inf, 1)]
        answer.mistake(
            "endless_line",
            any(same(got, right(bounds=bounds)) for bounds in endless),
            "The stroke goes on past its ends, or past one of them. The nearest point"
            " of a *segment* is between them: clamp $t$ to $[0, 1]$.",
        )
        answer.mistake(
            "blunt_ends",
            same(got, right(round_ends=False)),
            "The stroke is cut off at its ends. The pen is round: beyond an end there"
            " is ink within a radius of it.",
        )
        answer.mistake(
            "from_minus_one",
            same(got, 2 * right() - 1),
            "Paper is −1 here, as in the library's images. Ink is from 0 to 1.",
        )
        answer.mistake(
            "two_pixels",
            same(got, right(pixels=2)),
            "The ink falls from 1 to 0 over two pixels. It is to do so over one.",
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
        answer.expect(
            same(got, right()),
            _pixel(centres, right(), got)
            + f" The stroke is from {start.tolist()} to {end.tolist()}, with radius"
            f" {radius}.",
        )
    point, radius = torch.tensor([3.3, 4.6], dtype=F64), 1.2
    got = answer(centres, point, point, radius)
    dot = (radius + 0.5 - (centres - point).norm(dim=1)).clamp(0, 1)
    values = torch.as_tensor(got, dtype=F64)
    answer.mistake(
        "dot",
        values.isnan().any() or not values.any(),
        "A dot, which is a stroke that ends where it starts, has no ink: there $t$ is"
        " 0/0. Any $t$ from 0 to 1 gives its one point, so keep what you divide by"
        " above 0.",
    )
    answer.expect(
        same(got, dot),
        _pixel(centres, dot, got)
        + f" The stroke is a dot at {point.tolist()}, with radius {radius}.",
    )
    return "A stroke is all that lies within a radius of the pen's path."


def _box(points: Tensor) -> str:
    """The box around points, in words."""
    if len(getattr(points, "shape", ())) != 2 or not len(points):
        return ""
    points = torch.as_tensor(points, dtype=F64)
    low, high = points.amin(0), points.amax(0)
    middle, sides = (
        ", ".join(f"{value:.2f}" for value in values.tolist())
        for values in ((low + high) / 2, high - low)
    )
    return f" Got a box centred at ({middle}) with sides {sides}."


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
            f" side {room:.2f}, and its proportions as they were.{_box(got)}",
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
        after = game.players["G"].state_dict()
        answer.mistake(
            "start_changed",
            any(not torch.equal(before[k], after[k]) for k in before),
            "The initialisation itself was changed. The next character would start from"
            " this one's weights.",
        )
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
            any(
                same(got, drawn(z=noise[:, step, player]), 1e-5)
                for step in range(steps)
                for player in (0, 1)
            ),
            "The samples are drawn from the inner loop's own noise. Use fresh `z`.",
        )
        answer.mistake(
            "noise_of_the_first",
            same(got, drawn(noise=noise[:1].expand_as(noise)), 1e-5),
            "Every task was given the first one's noise. `noise` has some for each"
            " task.",
        )
        answer.expect(
            getattr(got, "shape", None) == (3, 6, 1, 3, 3),
            f"Samples [3, 6, 1, 3, 3] were expected, got"
            f" {list(getattr(got, 'shape', [])) or type(got).__name__}.",
        )
        answer.mistake(
            "noise_not_given",
            not same(got, answer(game, support, rates, noise, z), 1e-5),
            "Two calls give different samples, so that nobody can measure them again."
            " Give the inner loop its `noise`, and the generators `z`.",
        )
        answer.expect(
            same(got, drawn(), 1e-5),
            "The shape is right, the numbers are not. Expected are the generators that"
            f" took {steps} inner steps on their own support, with the given rates and"
            " the given noise, and their samples for `z`.",
        )
    return "One start, a generator for each character, and new noise for each sample."


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) or getattr(value, "shape", None) == ()


def _short(value: object) -> str:
    """A number to four decimals, or what else it is."""
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {', '.join(map(_short, value)) or 'nothing'}"
    if _number(value):
        return f"{float(value):.4f}"  # type: ignore[arg-type]
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}{'' if shape is None else f' {list(shape)}'}"


@exercise("16.4", function="over_characters")
def _(answer: Answer) -> str:
    """Differences of tasks and their characters → mean and standard error."""
    labels = torch.tensor([3, 7, 8, 12, 15, 21])  # with gaps
    for seed, counts in ((0, (3, 3, 3, 3, 3)), (1, (5, 1, 4, 2, 3, 2))):
        random = _random(seed)
        classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        classes = classes[torch.randperm(len(classes), generator=random)]
        own = torch.randn(len(counts), generator=random, dtype=F64)
        above = own[classes] + 0.3 * torch.randn(
            len(classes), generator=random, dtype=F64
        )
        means = torch.stack([above[classes == c].mean() for c in range(len(counts))])
        right = mean_and_error(means)
        counted = torch.zeros(int(labels[len(counts) - 1]) + 1, dtype=F64)
        counted[labels[: len(counts)]] = means
        got = answer(above, labels[classes])
        answer.expect(
            isinstance(got, (list, tuple)) and len(got) == 2 and all(map(_number, got)),
            f"Two numbers were expected, got {_short(got)}.",
        )
        answer.mistake(
            "labels_are_not_a_range",
            math.isnan(got[0]) or same(got, mean_and_error(counted)),
            "Characters that have no task were counted. The labels here are"
            f" {labels[: len(counts)].tolist()}: only some characters are scored. Take"
            " those that occur, `classes.unique()`.",
        )
        answer.mistake(
            "exchanged",
            same(got, (right[1], right[0])),
            "These are the error and the mean. The mean comes first.",
        )
        answer.mistake(
            "mean_over_tasks",
            same(got, (above.mean().item(), right[1])) and not same(got, right),
            "The error is right, but the mean is over tasks, so that a character with"
            " many counts more. It is the mean of the characters' means.",
        )
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
        answer.mistake(
            "variance",
            same(got, (right[0], right[1] ** 2)),
            "This is the *variance* of the mean. Take the root.",
        )
        answer.mistake(
            "one_less_twice",
            same(got, (right[0], means.std().item() / math.sqrt(len(counts) - 1))),
            "The deviation is divided by the root of the number of characters less one."
            " The one less is in the deviation already.",
        )
        answer.mistake(
            "interval",
            any(same(got, (right[0], c * right[1]), 1e-4) for c in (1.96, 2)),
            "This is half an interval of 95 %, about two standard errors. One is asked"
            " for.",
        )
        answer.expect(
            same(got, right),
            f"With {list(counts)} tasks of the characters the mean is {right[0]:.4f}"
            f" ± {right[1]:.4f}, got {_short(got[0])} ± {_short(got[1])}.",
        )
    return "As many pieces of evidence as characters, whatever the number of repeats."


_HANDED_IN = {
    ("Meta-GAN", 5): (0.10, 0.02),
    ("pooled", 5): (0.75, 0.04),
    ("pooled", 10): (0.60, 0.02),
    ("pooled", 20): (0.25, 0.125),
    ("pooled", 50): (0.50, 0.10),
    ("pooled", 100): (0.40, 0.03),
    ("scratch", 5): (0.67, 0.05),
    ("scratch", 10): (0.40, 0.04),
    ("scratch", 20): (0.135, 0.003),
    ("scratch", 50): (0.30, 0.04),
    ("Meta-GAN", 0): (0.90, 0.03),
    ("Meta-GAN", 50): (0.35, 0.08),
    ("support + jitter", None): (0.06, 0.01),
    ("copy-support", None): (0.00, 0.002),
    ("real images", None): (0.01, 0.03),
}
_AGAIN = {
    ("Meta-GAN", 5): (0.17, 0.02),  # 0.07 above: more than two errors
    ("pooled", 5): (0.70, 0.02),  # 0.05 below: within two of the first, the larger
    ("pooled", 10): (0.67, 0.04),  # 0.07 above: within two of the second, the larger
    ("pooled", 20): (0.50, 0.0625),  # exactly two errors, which is not more
    ("pooled", 50): (0.302, 0.10),  # 1.98 errors
    ("pooled", 100): (0.435, 0.03),  # more than one error, less than the root of two
    ("scratch", 5): (0.52, 0.06),  # 0.15 below: more than two errors
    ("scratch", 10): (0.46, 0.04),  # 0.06 above: within two equal errors
    ("scratch", 20): (0.15, 0.002),  # 0.015: more than 0.01, less than twice that
    ("scratch", 50): (0.395, 0.01),  # 2.4 of the larger error
    ("Meta-GAN", 0): (0.90, 0.03),  # the same
    ("Meta-GAN", 50): (0.40, 0.02),  # less than the larger error
    ("support + jitter", None): (0.035, 0.01),  # 0.025 below: more than two errors
    ("copy-support", None): (0.008, 0.002),  # four errors, but within 0.01
    ("Meta-GAN", 20): (0.31, 0.03),  # only here
}


def _allowed(s: float, t: float) -> float:
    return max(0.01, 2 * max(s, t))


def _rows(
    ours: dict,
    theirs: dict,
    allowed: Callable[[float, float], float] = _allowed,
    *,
    missing: bool = True,
    extra: bool = False,
    differs: Callable[[float, float], bool] = lambda gap, limit: abs(gap) > limit,
) -> list:
    """The rows that disagree, by the rule or by a wrong one."""
    found = [row for row in theirs if row not in ours] if extra else []
    for row, (a, s) in ours.items():
        if row not in theirs:
            found += [row] if missing else []
            continue
        b, t = theirs[row]
        # Rounded, so that two errors are two errors and not 1e-17 more.
        if differs(round(a - b, 12), round(allowed(s, t), 12)):
            found.append(row)
    return found


_MISTAKES: dict[str, tuple[str, list[dict]]] = {
    "missing_row_ignored": (
        "A row that the second measurement does not have is not reported. A baseline"
        " that cannot be measured again was perhaps never measured.",
        [{"missing": False}],
    ),
    "extra_row": (
        "A row that only the second table has is returned as well. Nobody claimed it:"
        " go through the rows of the first.",
        [{"extra": True}],
    ),
    "only_upwards": (
        "Only means that moved one way are found. Take the absolute difference.",
        [
            {"differs": lambda gap, limit: gap > limit},
            {"differs": lambda gap, limit: -gap > limit},
        ],
    ),
    "agreeing_rows": (
        "These are the rows that agree. Wanted are the others.",
        [
            {"differs": lambda gap, limit: abs(gap) <= limit, "missing": missing}
            for missing in (True, False)
        ],
    ),
    "at_the_limit": (
        "A difference of exactly what is allowed is reported. It has to be *more*.",
        [{"differs": lambda gap, limit: abs(gap) >= limit}],
    ),
    "no_least_gap": (
        "Copies of the support have next to no error, so that rounding is reported:"
        " 0.01 is always allowed.",
        [{"allowed": lambda s, t: 2 * max(s, t)}],
    ),
    "floor_doubled": (
        "The 0.01 is doubled as well, and 0.02 is allowed. Only the error counts"
        " twice.",
        [{"allowed": lambda s, t: 2 * max(0.01, s, t)}],
    ),
    "floor_added": (
        "The 0.01 is added to two errors. Allowed is the larger of the two.",
        [{"allowed": lambda s, t: 0.01 + 2 * max(s, t)}],
    ),
    "floor_as_ceiling": (
        "Never more than 0.01 is allowed. It is the *least* that is: take the larger of"
        " it and two errors.",
        [{"allowed": lambda s, t: min(0.01, 2 * max(s, t))}],
    ),
    "one_error": (
        "One standard error is passed once in three times by chance. Two are allowed.",
        [{"allowed": lambda s, t: max(0.01, s, t)}],
    ),
    "first_error_only": (
        "Only the error of the first table counts. Where it is too small, mere chance"
        " is reported: take the larger of both.",
        [{"allowed": lambda s, t: max(0.01, 2 * s)}],
    ),
    "second_error_only": (
        "Only the error of the second table counts. Where the first was measured less"
        " precisely, mere chance is reported: take the larger of both.",
        [{"allowed": lambda s, t: max(0.01, 2 * t)}],
    ),
    "smaller_error": (
        "The smaller of the two errors was taken. Allowed are two of the larger.",
        [{"allowed": lambda s, t: max(0.01, 2 * min(s, t))}],
    ),
    "sum_of_errors": (
        "Twice the *sum* of the errors is allowed here, up to two times too much. Take"
        " two of the larger.",
        [{"allowed": lambda s, t: max(0.01, 2 * (s + t))}],
    ),
    "mean_of_errors": (
        "The sum of the errors is two of their *mean*, and too little where one is"
        " small. Take two of the larger.",
        [{"allowed": lambda s, t: max(0.01, s + t)}],
    ),
    "root_of_squares": (
        "The root of $s^2 + t^2$ is the error of the difference of independent"
        " measurements, a sound rule but not the one asked for: the larger of both"
        " errors, twice.",
        [
            {"allowed": lambda s, t: max(0.01, 2 * math.hypot(s, t))},
            {"allowed": lambda s, t: max(0.01, math.hypot(s, t))},
        ],
    ),
}


@exercise("16.5", function="disagreements")
def _(answer: Answer) -> str:
    """Two tables row → (mean, error) → rows that disagree."""
    tables = ((_HANDED_IN, _AGAIN), (_AGAIN, _HANDED_IN))
    found = []
    for ours, theirs in tables:
        got = answer(ours, theirs)
        answer.expect(
            isinstance(got, (list, tuple, set)),
            f"A list of rows was expected, got {type(got).__name__}.",
        )
        found.append(list(got))

    def matches(**rule) -> bool:
        return all(
            sorted(map(str, got)) == sorted(map(str, _rows(*pair, **rule)))
            for got, pair in zip(found, tables)
        )

    for name, (hint, rules) in _MISTAKES.items():
        answer.mistake(name, any(matches(**rule) for rule in rules), hint)
    for got, pair in zip(found, tables):
        answer.expect(
            sorted(map(str, got)) == sorted(map(str, _rows(*pair))),
            _disputed(got, *pair),
        )
    return "What is missing or moved by more than two errors needs an explanation."


def _disputed(got: list, ours: dict, theirs: dict) -> str:
    """A row that is wrongly returned, or wrongly not, in words."""
    right = _rows(ours, theirs)
    strange = [row for row in got if row not in [*ours, *theirs]]
    if strange:
        return f"`{strange[0]!r}` is no row: return keys, such as `{right[0]!r}`."
    for row in [*ours, *theirs]:
        if (row in got) == (row in right):
            continue
        returned = "is returned" if row in got else "is not returned"
        if row not in ours or row not in theirs:
            where = "first" if row in ours else "second"
            return f"`{row!r}` {returned}, and only the {where} table has it."
        (a, s), (b, t) = ours[row], theirs[row]
        return (
            f"`{row!r}` {returned}: {a:g} ± {s:g} and {b:g} ± {t:g} differ by"
            f" {abs(a - b):.3g}, and {_allowed(s, t):g} is allowed."
        )
    return "The rows are right, but some are returned more than once."
