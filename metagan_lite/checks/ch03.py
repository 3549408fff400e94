"""Checks of chapter 3's exercises: a GAN that draws."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gan import train_gan
from ..nets import MetaDiscriminator, MetaGenerator
from ..tasks import ClassTasks
from . import Answer, exercise, same


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_random(seed), dtype=torch.float64)


@exercise("3.1", function="modes_covered")
def _(answer: Answer) -> str:
    """Points, centres, reach → how many centres have a point."""
    centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0], [6.0, 0.0]])
    near = torch.tensor([[0.1, 0.1], [-0.2, 0.0], [0.1, -0.1], [0.0, 0.1], [-0.1, 0.0]])
    near = torch.cat([near, torch.tensor([[3.0, 0.2]])])
    # Within 0.55 of a mode: the first by any measure, the second in a square only, the
    # third in a circle but not by the sum of both differences.
    strays = torch.tensor([[0.5, 3.0], [3.5, 3.5], [6.3, 0.4], [1.5, 1.4]])
    for points, reach in (
        (torch.cat([near, strays]), 0.3),
        (torch.cat([strays, near]), 0.55),
        (torch.cat([near, strays]) + 20, 0.3),
    ):
        got, apart = answer(points, centres, reach), torch.cdist(points, centres)
        right = (apart < reach).any(0).sum()
        answer.expect(
            torch.as_tensor(got).numel() == 1,
            f"Expected one number, got {got}: how many modes is that?",
        )
        offsets = (points[:, None] - centres).abs()
        other_measures = [
            (offsets < reach).all(-1).any(0).sum(),
            (offsets.sum(-1) < reach).any(0).sum(),
        ]
        answer.mistake(
            "not-euclidean",
            any(same(got, other) for other in other_measures) and not same(got, right),
            "`reach` bounds the distance, √(Δx² + Δy²): not Δx and Δy each for itself,"
            " and not their sum.",
        )
        answer.mistake(
            "none-counted",
            same(got, right + 1),
            "One too many. If you give points off all modes the number −1, `unique`"
            " counts −1 as well.",
        )
        answer.mistake(
            "share",
            same(got, right / len(centres)) and not same(got, right),
            "This is the share of the modes: how many are they?",
        )
        answer.mistake(
            "reach-ignored",
            same(got, len(apart.argmin(1).unique())) and not same(got, right),
            "Every point has a nearest centre, however far off it is. Count a centre "
            "only if a point is closer to it than `reach`.",
        )
        answer.mistake(
            "points-counted",
            same(got, (apart < reach).any(1).sum()) and not same(got, right),
            "This is the number of points on a mode. Three points on one mode cover "
            "one mode: take `any` over the points.",
        )
        answer.mistake(
            "distance-squared",
            same(got, (apart**2 < reach).any(0).sum()) and not same(got, right),
            "This compares *squared* distances with `reach`, which lets points in from "
            "further off if `reach` is below 1: take the root, or square `reach`.",
        )
        answer.expect(
            same(got, right),
            f"For {len(points)} points and reach {reach} expected {right}, got {got}.",
        )
    return "Points off all modes do not count, and several on one mode count once."


@exercise("3.2", function="ema_weights")
def _(answer: Answer) -> str:
    """Steps, decay → what the mean is made of."""
    for steps, decay in ((4, 0.9), (1, 0.6), (30, 0.99)):
        got = answer(steps, decay)
        if isinstance(got, (list, tuple)):
            got = torch.tensor([float(weight) for weight in got], dtype=torch.float64)
        right = torch.zeros(steps + 1, dtype=torch.float64)
        right[0] = 1
        for t in range(1, steps + 1):  # the recursion itself
            right *= decay
            right[t] += 1 - decay
        like_a_step = right.clone()
        like_a_step[0] *= 1 - decay
        forgotten = torch.cat([torch.zeros(1), right[1:] / right[1:].sum()])
        swapped = torch.zeros(steps + 1, dtype=torch.float64)
        warm = swapped.clone()
        swapped[0] = warm[0] = 1
        for t in range(1, steps + 1):
            swapped *= 1 - decay
            swapped[t] += decay
            now = min(decay, (t - 1) / (t + 9))
            warm *= now
            warm[t] += 1 - now
        answer.mistake(
            "one-missing",
            same(got, right[1:]) or same(got, right[:-1]),
            f"These are {steps} weights. The mean holds one thing more, the"
            f" initialisation: {steps + 1} in all.",
        )
        answer.mistake(
            "start-like-a-step",
            same(got, like_a_step),
            f"Your weights sum to {like_a_step.sum():.3f} and not to 1. The "
            "initialisation was never multiplied by 1 − decay.",
        )
        answer.mistake(
            "start-forgotten",
            same(got, forgotten),
            "You have divided the initialisation out. The mean that was asked about "
            "still holds decay^steps of it.",
        )
        answer.mistake(
            "reversed",
            same(got, right.flip(0)),
            "These are in the wrong order: the *last* step has had no time to fade, so "
            "its weight, 1 − decay, comes last.",
        )
        answer.mistake(
            "newest-first",
            steps > 1 and same(got, torch.cat([right[:1], right[1:].flip(0)])),
            "The first weight is right, and the steps are in the wrong order: the"
            " *last* one has had no time to fade, so 1 − decay comes last.",
        )
        answer.mistake(
            "divided-by-the-sum",
            same(got, like_a_step / like_a_step.sum()),
            "You have divided by the sum, and now they sum to 1. But all but the first"
            " were right before: that one alone was not, it was never multiplied by"
            " 1 − decay.",
        )
        answer.mistake(
            "warm-up",
            same(got, warm),
            "This is the library's mean, with its warm-up (3.10). Here the decay is the"
            " same at each step.",
        )
        answer.mistake(
            "decay-swapped",
            same(got, swapped),
            "`decay` and `1 - decay` have changed places: the old mean is multiplied "
            "by `decay`.",
        )
        total = torch.as_tensor(got).sum()
        answer.expect(
            same(total, 1.0),
            f"Your weights sum to {total:.3f} and not to 1. For {steps} steps of decay"
            f" {decay} expected first {right[0]:.4f} and last {right[-1]:.4f}.",
        )
        answer.expect(
            same(got, right),
            f"For {steps} steps of decay {decay} expected first {right[0]:.4f} and last"
            f" {right[-1]:.4f}, {steps + 1} weights in all.",
        )
    return "They sum to 1, and the initialisation fades as decay^steps."


def _net(seed: int) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(_normal(*parameter.shape, seed=10 * seed + i))
    return net


def _values(net: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


@exercise("3.3", function="update_mean")
def _(answer: Answer) -> str:
    """A mean and a net → the mean a step nearer to the net."""
    for decay in (0.9, 0.3):
        mean, net = _net(1), _net(2)
        old, new = _values(mean), _values(net)
        got = answer(mean, net, decay)
        answer.mistake(
            "net-changed",
            not same(_values(net), new),
            "The parameters of `net` have changed. The net that is being trained must "
            "not notice that somebody keeps a mean.",
        )
        pairs = list(zip(mean.parameters(), net.parameters()))
        answer.mistake(
            "memory-shared",
            any(a.data_ptr() == b.data_ptr() for a, b in pairs),
            "`mean` now has the very memory of `net`, and will follow it by itself "
            "from here on. Copy numbers into the parameters instead.",
        )
        answer.mistake(
            "copy-returned",
            got is not mean and same(_values(mean), old),
            "`mean` itself has not changed; something else was returned. Change its"
            " parameters in place, and no copy of it.",
        )
        answer.mistake(
            "variable-rebound",
            same(_values(mean), old),
            "`mean` has not changed. `a = …` gives the name `a` to a new tensor and "
            "leaves the parameter alone: change it in place, as `a.lerp_` or "
            "`a.copy_` do.",
        )
        answer.mistake(
            "decay-swapped",
            same(
                _values(mean), [(1 - decay) * a + decay * b for a, b in zip(old, new)]
            ),
            "`decay` and `1 - decay` have changed places. `a.lerp_(b, w)` goes the "
            "part w of the way to b.",
        )
        left = sum(same(a, b) for a, b in zip(_values(mean), old))
        answer.mistake(
            "some-left-out",
            left > 0,
            f"{left} of the {len(old)} parameters of `mean` have not moved. Biases are"
            " parameters too.",
        )
        answer.expect(
            same(
                _values(mean), [decay * a + (1 - decay) * b for a, b in zip(old, new)]
            ),
            f"With decay {decay} expected {decay} · mean + {1 - decay:.1f} · net in"
            " every parameter.",
        )
        answer.expect(got is mean, "Return `mean` itself.")
        answer.expect(
            all(isinstance(a, nn.Parameter) and a.is_leaf for a in mean.parameters()),
            "The parameters of `mean` remember how they were computed: work under"
            " `torch.no_grad()`.",
        )
    return "The mean has moved, the net has not, and they share nothing."


@exercise("3.4", function="keeping_gain")
def _(answer: Answer) -> str:
    """An activation → the gain that keeps a variance of 1."""

    eps = torch.linspace(-10, 10, 100_001, dtype=torch.float64)
    density = torch.exp(-(eps**2) / 2) / math.sqrt(2 * math.pi)

    def expect(f: Callable[[Tensor], Tensor], width: float = 1.0) -> float:
        """E[f(width·ε)], by the trapezium rule."""
        return torch.trapezoid(f(width * eps) * density, eps).item()

    # None is odd: an odd activation has mean 0, and then no one sees it subtracted.
    for name, f in (("SiLU", F.silu), ("softplus", F.softplus), ("ELU", F.elu)):
        got, square = answer(f), lambda x: f(x) ** 2
        kept, narrow = expect(square), expect(square, 0.5**0.5)
        answer.mistake(
            "nodes-not-scaled",
            same(got, narrow**-0.5, 1e-4),
            "The nodes are for the weight exp(−x²), which is a normal density of "
            "variance ½. For ε take √2 times the nodes.",
        )
        answer.mistake(
            "no-square-root",
            same(got, 1 / kept, 1e-4),
            "This is the *square* of the gain: (3.5) multiplies by gain².",
        )
        answer.mistake(
            "not-inverted",
            same(got, kept**0.5, 1e-4),
            "By this factor the activation shrinks a signal. The gain has to make up"
            " for it.",
        )
        answer.mistake(
            "mean-then-square",
            same(got, 1 / abs(expect(f)), 1e-4),
            "You have squared the mean of the activation. (3.5) has the mean of its"
            " square.",
        )
        answer.mistake(
            "mean-subtracted",
            same(got, (kept - expect(f) ** 2) ** -0.5, 1e-4),
            "You have subtracted the squared mean of the activation. (3.4) asks for "
            "the mean square of a layer's input and not for its variance.",
        )
        answer.mistake(
            "root-pi-forgotten",
            same(got, (kept * math.pi**0.5) ** -0.5, 1e-4),
            "The weights sum to √π. Divide by it, so that the expectation of 1 is 1.",
        )
        answer.expect(
            same(got, kept**-0.5, 1e-4),
            f"For {name} expected a gain of {kept**-0.5:.4f}, got {got}.",
        )
    silu = expect(lambda x: F.silu(x) ** 2) ** -0.5
    return f"SiLU needs {silu:.4f} at a variance of 1."


class _Generator(nn.Sequential):
    def __init__(self, seed: int):
        super().__init__(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
        self.double()
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(_normal(*parameter.shape, seed=10 * seed + i))


_WAYS = ("right", "sum", "sign", "old", "added", "saturating", "reused", "labels")
_WAYS += ("d-climbs", "g-climbs", "totals")


@exercise("3.5", function="play_round")
def _(answer: Answer) -> str:
    """Both nets, real points, noise → both nets after a round, and the losses."""
    for seed, lr in ((1, 0.3), (5, 0.8)):
        G, D = _Generator(seed), _net(seed + 1)
        real, z_d, z_g = (_normal(5, 2, seed=seed + 50 + i) for i in range(3))
        rounds = {
            name: _round(copy.deepcopy(G), copy.deepcopy(D), real, z_d, z_g, lr, name)
            for name in _WAYS
        }
        got = answer(G, D, real, z_d, z_g, lr)
        after = {"D": _values(D), "G": _values(G)}
        is_like = lambda name: same(after, rounds[name][0], 1e-9)
        answer.mistake(
            "not-detached",
            is_like("added"),
            "G has followed the gradients of both losses. `backward` on L_D also "
            "filled `.grad` in G, through the fakes, and that of L_G was added: ask "
            "`torch.autograd.grad` for D's own gradients, or detach the fakes.",
        )
        answer.mistake(
            "both-on-the-sum",
            is_like("sum"),
            "Both players have followed the *sum* of the losses. L_G rewards D for "
            "being fooled, and L_D rewards G for being caught: each player follows its "
            "own loss.",
        )
        answer.mistake(
            "sign-of-g",
            is_like("sign"),
            "G has moved the wrong way: it has made its fakes easier to tell. The "
            "logit of a fake stands with a minus in L_G.",
        )
        answer.mistake(
            "old-d",
            is_like("old"),
            "G has answered the D from before its move. Compute L_G after D has moved.",
        )
        answer.mistake(
            "saturating",
            is_like("saturating"),
            "G has descended E[−softplus(d(G(z)))], the saturating loss. The one that"
            " was asked for is E[softplus(−d(G(z)))].",
        )
        answer.mistake(
            "noise-reused",
            is_like("reused"),
            "G has been judged on the fakes from z_d, which D has just learned from."
            " Its own noise is z_g.",
        )
        answer.mistake(
            "labels-swapped",
            is_like("labels"),
            "D has learned to call real points fake: −d(x) stands with the real points,"
            " d(G(z)) with the fakes.",
        )
        for player in "DG":
            answer.mistake(
                "climbs",
                is_like(f"{player.lower()}-climbs"),
                f"{player} has gone up its loss: subtract the gradient.",
            )
        answer.mistake(
            "totals",
            is_like("totals"),
            "The losses are means over the points, and you have taken sums: the steps"
            f" are {len(real)} times too long.",
        )
        right, losses = rounds["right"]
        answer.expect(
            same(after["D"], right["D"], 1e-9),
            f"D is not where one step of rate {lr} down L_D leads.",
        )
        answer.expect(
            same(after["G"], right["G"], 1e-9),
            f"D is right. G is not where one step of rate {lr} down L_G leads.",
        )
        left = [p for net in (G, D) for p in net.parameters() if p.grad is not None]
        answer.mistake(
            "grad-left-behind",
            bool(left),
            f"Both have moved rightly, but {len(left)} parameters have a `.grad` now. "
            "Whoever calls `backward` next will add to it: use `torch.autograd.grad`.",
        )
        frozen = [p for net in (G, D) for p in net.parameters() if not p.requires_grad]
        answer.mistake(
            "left-frozen",
            bool(frozen),
            f"Both have moved rightly, but {len(frozen)} parameters no longer require"
            " gradients: the next round would fail.",
        )
        answer.expect(
            same(list(got), losses),
            f"Both have moved rightly. Return (L_D, L_G), here {losses[0]:.4f} and"
            f" {losses[1]:.4f}.",
        )
    return "Each player has followed its own loss, and has left no trace in the other."


def _round(
    G: nn.Module,
    D: nn.Module,
    real: Tensor,
    z_d: Tensor,
    z_g: Tensor,
    lr: float,
    way: str,
) -> tuple[dict[str, list[Tensor]], list[float]]:
    """A round, played rightly or in one of the wrong ways; written with `backward`."""

    def average(values: Tensor) -> Tensor:
        return values.sum() if way == "totals" else values.mean()

    def loss_d() -> Tensor:
        sign = -1 if way == "labels" else 1
        real_part = average(F.softplus(-sign * D(real)))
        return real_part + average(F.softplus(sign * D(G(z_d))))

    def loss_g() -> Tensor:
        logits = D(G(z_d if way == "reused" else z_g))
        if way == "saturating":
            return average(-F.softplus(logits))
        return average(F.softplus(logits if way == "sign" else -logits))

    def gradients(loss: Tensor, net: nn.Module) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(net.parameters())))

    def move(net: nn.Module, by: list[Tensor]) -> None:
        with torch.no_grad():
            up = (way, net) in (("d-climbs", D), ("g-climbs", G))
            for parameter, gradient in zip(net.parameters(), by):
                parameter -= (-lr if up else lr) * gradient

    first = loss_d()
    if way == "sum":
        second = loss_g()
        both = gradients(loss_d() + loss_g(), D), gradients(loss_d() + loss_g(), G)
        move(D, both[0])
        move(G, both[1])
    elif way == "old":
        second = loss_g()
        by_g = gradients(loss_g(), G)
        move(D, gradients(loss_d(), D))
        move(G, by_g)
    else:
        stale = gradients(loss_d(), G)
        move(D, gradients(loss_d(), D))
        second = loss_g()
        by_g = gradients(loss_g(), G)
        if way == "added":
            by_g = [a + b for a, b in zip(by_g, stale)]
        move(G, by_g)
    return {"D": _values(D), "G": _values(G)}, [first.item(), second.item()]


# Collapse, and its cure

_MODES, _DEVIATION, _STEPS = 8, 0.05, 500
_COLLAPSED, _CURED = 6.5, 7.0  # modes hit by 24; 7.7 for equal shares
_HIDDEN = (32, 32)
_OPTIONS = ("lr", "r1", "betas", "loss", "batch_size", "ema")


def ring_score(**options: Any) -> tuple[float, float]:
    """Train on the ring of chapter 3 for 500 steps, and score 4,000 samples.

    Args:
        options: those of :func:`~metagan_lite.gan.train_gan` that the exercise allows.

    Returns:
        The share of samples on a mode, and how many modes 24 of those hit on average.
    """
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise ValueError(
            f"expected options among {', '.join(_OPTIONS)}; got {unknown[0]!r}"
        )
    angle = 2 * math.pi * torch.arange(_MODES) / _MODES
    centres = torch.stack([angle.cos(), angle.sin()], 1)
    mode = torch.arange(_MODES).repeat_interleave(500)
    noise = _DEVIATION * torch.randn(len(mode), 2, generator=_random(0))
    hidden = {"hidden": _HIDDEN, "generator": _random(0)}
    game = train_gan(
        MetaGenerator((2,), latent_dim=2, output=nn.Identity, **hidden),
        MetaDiscriminator((2,), **hidden),
        ClassTasks(centres[mode] + noise, mode),
        steps=_STEPS,
        progress=False,
        **options,
    )
    with torch.no_grad():
        samples = game.players["G"](torch.randn(4000, 2, generator=_random(1)))
    distance, nearest = torch.cdist(samples, centres).min(1)
    on_a_mode = nearest[distance < 3 * _DEVIATION]
    counts = on_a_mode.bincount(minlength=_MODES).double()
    shares = counts / counts.sum().clamp(min=1)
    return len(on_a_mode) / 4000, (1 - (1 - shares) ** 24).sum().item()


@exercise("3.6", function="collapse_and_cure")
def _(answer: Answer) -> str:
    """→ options that collapse, options that cure."""
    got = answer()
    answer.expect(
        isinstance(got, (tuple, list))
        and len(got) == 2
        and all(isinstance(options, dict) and "lr" in options for options in got),
        "Return two dicts of options, both with an `lr`.",
    )
    for options in got:
        unknown = [name for name in options if name not in _OPTIONS]
        answer.expect(
            not unknown,
            f"The options are {', '.join(_OPTIONS)}; got {unknown}.",
        )
    answer.mistake(
        "slowed-down",
        got[0]["lr"] != got[1]["lr"],
        "A smaller rate is a cure, but not the one asked for: `lr` must be the same in "
        "both.",
    )
    (near, hits), (near_cured, hits_cured) = scores = [_score(o) for o in got]
    found = " and ".join(f"{h:.1f} modes, {n:.0%} on a mode" for n, h in scores)
    answer.mistake(
        "not-trained",
        max(near, near_cured) < 0.1,
        f"At most {max(near, near_cured):.0%} of the samples are on a mode, in both "
        "runs: that is no collapse. The generator has not learned anything, or has run "
        "away.",
    )
    answer.mistake(
        "swapped",
        hits > _CURED and hits_cured < _COLLAPSED,
        f"The scores are {found}: the first was to collapse and the second to be "
        "cured.",
    )
    answer.mistake(
        "still-collapsed",
        max(hits, hits_cured) < _COLLAPSED and near > 0.1,
        f"The scores are {found}: the second has collapsed as well. The rate is the "
        "cause, and it must stay: what else acts on D?",
    )
    answer.expect(
        hits < _COLLAPSED and near >= 0.1,
        f"The first run hits {hits:.1f} modes with {near:.0%} of its samples on a mode;"
        f" collapse is below {_COLLAPSED} with at least 10%.",
    )
    answer.expect(
        hits_cured > _CURED and near_cured >= 0.2,
        f"The first run collapses. The second hits {hits_cured:.1f} modes with"
        f" {near_cured:.0%} of its samples on a mode; a cure is above {_CURED} with at"
        " least 20%.",
    )
    return (
        f"At one rate, {hits:.1f} modes without the cure and {hits_cured:.1f} with it."
    )


def _score(options: dict[str, Any]) -> tuple[float, float]:
    try:
        return ring_score(**options)
    except RuntimeError:  # a loss was not finite
        return 0.0, 0.0
