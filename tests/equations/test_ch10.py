"""The numbered equations of chapter 10, each against an independent truth.

Inner loops are played out in plain Python from slopes that are written down by hand,
or by the library; derivatives are central differences of what they lead to, or the
library's meta-gradients. Everything is in float64.
"""

import cmath
import math

import numpy as np
import pytest
import torch
from torch import nn

from metagan_lite import GAN, TaskBatch, adapt, meta_gradients
from metagan_lite.objectives import QueryLoss

PLACES = (-0.4, 0.3, 1.1, 2.4)
CENTRE, SPREAD = np.mean(PLACES), np.var(PLACES)
START = np.array([0.7, -0.3])
SETTINGS = [(0.3, 0.2, 0.0), (0.25, 0.4, 0.9), (0.1, 1.1, 1.3)]  # α_G, α_D, γ


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


class Point(nn.Module):
    latent_dim = 1

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(numbers(theta))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


class Line(nn.Module):
    def __init__(self, phi):
        super().__init__()
        self.phi = nn.Parameter(numbers(phi))

    def forward(self, x):
        return (self.phi * x).squeeze(-1)


class TwoLayers(nn.Module):
    def __init__(self, W1, W2):
        super().__init__()
        self.W1, self.W2 = nn.Parameter(numbers(W1)), nn.Parameter(numbers(W2))

    def forward(self, x):
        return (self.W2 * self.W1 * x).squeeze(-1)


def game(start=START, gamma=0.0, detach=False, loss="wasserstein"):
    return GAN(
        Point(float(start[0])),
        Line(float(start[1])),
        loss=loss,
        r1=gamma,
        detach_fakes=detach,
    )


def batch(places=PLACES):
    c = numbers(*places).view(-1, 1, 1)
    return TaskBatch(c, c)


def play(start, place, at_g, at_d, gamma, steps, turns=False):
    """θ′, φ′ by hand, and the fakes and slopes on the way."""
    theta, phi = start
    fakes = []
    for _ in range(steps):
        fakes.append(theta)
        after = phi - at_d * (theta - place + gamma * phi)
        theta, phi = theta + at_g * (after if turns else phi), after
    return theta, phi, fakes


def ends(start, at_g, at_d, gamma, steps, turns=False, places=PLACES):
    """The library's θ′, φ′ of all tasks, [T, 2]."""
    found = adapt(
        game(start, gamma),
        batch(places).support,
        inner_steps=steps,
        inner_lr={"G": at_g, "D": at_d},
        simultaneous=not turns,
    ).parameters()
    pair = found["G"]["theta"], found["D"]["phi"]
    return torch.cat(pair, 1).detach().numpy()


class Both:
    """The query loss of one player, followed by both."""

    samples = None

    def __init__(self, player):
        self.player = player

    def follow(self, game):
        return {self.player: ("G", "D")}

    def __call__(self, game, adapted, query, noise):
        one = lambda *at: game.loss(self.player, *at)
        return {self.player: adapted.evaluate(one, query, noise)}


def blocks(at_g, at_d, gamma, steps, turns=False, detach=False, start=START):
    """The library's four hypergradients: rows L_G, L_D, columns θ, φ."""
    rows = []
    for player in ("G", "D"):
        found = meta_gradients(
            game(start, gamma, detach),
            batch(),
            inner_steps=steps,
            inner_lr={"G": at_g, "D": at_d},
            objective=Both(player),
            simultaneous=not turns,
        ).grads
        pair = found["G"]["theta"], found["D"]["phi"]
        rows.append([0.0 if g is None else g.item() for g in pair])
    return np.array(rows)


def slopes(function, x, h=1e-5):
    """Central differences of a function of a vector, [out, in]."""
    x = np.asarray(x, dtype=float)
    return np.stack(
        [(function(x + e) - function(x - e)) / (2 * h) for e in h * np.eye(len(x))], -1
    )


def one_step(at_g, at_d, gamma, turns):
    keep = 1 - at_d * gamma
    if turns:
        return np.array([[1 - at_g * at_d, at_g * keep], [-at_d, keep]])
    return np.array([[1, at_g], [-at_d, keep]])


power = np.linalg.matrix_power
both_orders = pytest.mark.parametrize("turns", [False, True])
settings = pytest.mark.parametrize("setting", SETTINGS)


@both_orders
@settings
def test_10_1_a_step_is_a_matrix(setting, turns):
    matrix = one_step(*setting, turns)
    for place, end in zip(PLACES, ends(START, *setting, 1, turns)):
        goal = np.array([place, 0])
        np.testing.assert_allclose(end - goal, matrix @ (START - goal), atol=1e-12)
        by_hand = play(START, place, *setting, 1, turns)[:2]
        np.testing.assert_allclose(end, by_hand, atol=1e-12)


@both_orders
@settings
def test_10_2_all_steps_are_its_power(setting, turns):
    share = power(one_step(*setting, turns), 7)
    for place, end in zip(PLACES, ends(START, *setting, 7, turns)):
        goal = np.array([place, 0])
        np.testing.assert_allclose(end, goal + share @ (START - goal), atol=1e-12)
        by_hand = play(START, place, *setting, 7, turns)[:2]
        np.testing.assert_allclose(end, by_hand, atol=1e-12)


@pytest.mark.parametrize("at_g, at_d", [(0.3, 0.2), (0.05, 0.9)])
def test_10_3_a_turn_and_a_stretch(at_g, at_d):
    chi, size = math.atan(math.sqrt(at_g * at_d)), math.sqrt(1 + at_g * at_d)
    for steps in (0, 1, 4, 11):
        cos, sin = math.cos(steps * chi), math.sin(steps * chi)
        ratio = math.sqrt(at_g / at_d)
        formula = size**steps * np.array([[cos, ratio * sin], [-sin / ratio, cos]])
        measured = slopes(
            lambda w: np.array(play(w, 0.6, at_g, at_d, 0, steps)[:2]), START
        )
        np.testing.assert_allclose(formula, measured, atol=1e-8)


@pytest.mark.parametrize("at_g, at_d", [(0.3, 0.2), (0.05, 0.9), (1.5, 2.0)])
def test_10_4_taking_turns_is_half_a_step_ahead(at_g, at_d):
    chi = math.acos(1 - at_g * at_d / 2)
    for steps in (0, 1, 4, 11):
        formula = math.cos((steps + 0.5) * chi) / math.cos(chi / 2)
        way = play((1.6, 0.0), 0.6, at_g, at_d, 0, steps, turns=True)[0] - 0.6
        assert way == pytest.approx(formula, abs=1e-10)


def query_losses(start, setting, steps, turns):
    """Mean L_G and L_D after a loop played by hand."""
    total = np.zeros(2)
    for place in PLACES:
        theta, phi, _ = play(start, place, *setting, steps, turns)
        total += [-phi * theta, phi * (theta - place) + setting[2] / 2 * phi**2]
    return total / len(PLACES)


@both_orders
@settings
def test_10_5_four_hypergradients(setting, turns):
    share = power(one_step(*setting, turns), 5)
    formula = np.zeros((2, 2))
    for place in PLACES:
        goal = np.array([place, 0])
        theta, phi = goal + share @ (START - goal)
        inner = [[-phi, -theta], [phi, theta - place + setting[2] * phi]]
        formula += np.array(inner) @ share / len(PLACES)
    measured = slopes(lambda w: query_losses(w, setting, 5, turns), START)
    np.testing.assert_allclose(formula, measured, atol=1e-8)
    np.testing.assert_allclose(blocks(*setting, 5, turns), formula, atol=1e-12)


class RealTerm:
    samples = None

    def follow(self, game):
        return {"real": ("G",)}

    def __call__(self, game, adapted, query, noise):
        real = lambda nets, query, noise: nets["D"](query).mean(-1)
        return {"real": adapted.evaluate(real, query, noise)}


@both_orders
def test_10_6_the_real_term_has_a_meta_gradient(turns):
    setting = SETTINGS[1]

    def gradient(steps):
        return meta_gradients(
            game(gamma=setting[2]),
            batch(),
            inner_steps=steps,
            inner_lr={"G": setting[0], "D": setting[1]},
            objective=RealTerm(),
            simultaneous=not turns,
        ).grads["G"]["theta"]

    assert gradient(0) is None
    entry = power(one_step(*setting, turns), 4)[1, 0]
    mean = lambda w: np.mean([play(w, c, *setting, 4, turns)[1] * c for c in PLACES])
    measured = slopes(mean, START)[0]
    assert CENTRE * entry == pytest.approx(measured, abs=1e-9)
    assert gradient(4).item() == pytest.approx(measured, abs=1e-9)


@both_orders
@settings
def test_10_7_detached_fakes_cut_one_entry(setting, turns):
    at_g, at_d, gamma = setting
    keep, steps = 1 - at_d * gamma, 5
    shown = [play(START, c, *setting, steps, turns)[2] for c in PLACES]

    def losses(start):
        """A loop that sees the fakes of another run, as constants."""
        total = np.zeros(2)
        for place, fakes in zip(PLACES, shown):
            theta, phi = start
            for fake in fakes:
                after = phi - at_d * (fake - place + gamma * phi)
                theta, phi = theta + at_g * (after if turns else phi), after
            end = play(START, place, *setting, steps, turns)[0]  # of D's fakes
            total += [-phi * theta, phi * (end - place) + gamma / 2 * phi**2]
        return total / len(PLACES)

    measured = slopes(losses, START)
    found = np.mean([play(START, c, *setting, steps, turns)[:2] for c in PLACES], 0)
    theta, phi = found
    formula = [-phi, keep**steps * (theta - CENTRE + gamma * phi), 0.0]
    np.testing.assert_allclose(
        formula, [measured[0, 0], measured[1, 1], measured[1, 0]], atol=1e-8
    )
    cut = np.array([[1, at_g * keep if turns else at_g], [0, keep]])
    of_g = np.array([-phi, -theta]) @ power(cut, steps)
    np.testing.assert_allclose(of_g, measured[0], atol=1e-8)
    library = blocks(*setting, steps, turns, detach=True)
    np.testing.assert_allclose(library, measured, atol=1e-8)


def outer_field(start, alpha, steps, detach):
    return np.diagonal(blocks(alpha, alpha, 0.0, steps, detach=detach, start=start))


def outer_jacobian(alpha, steps, detach):
    return slopes(lambda w: outer_field(w, alpha, steps, detach), START, h=0.5)


@pytest.mark.parametrize("alpha, steps", [(0.2, 4), (0.35, 9)])
def test_10_8_the_outer_game_turns_once_or_twice_as_far(alpha, steps):
    for detach, times in ((True, 1), (False, 2)):
        n = times * steps
        angle, size = n * math.atan(alpha), (1 + alpha**2) ** (n / 2)
        sin, cos = size * math.sin(angle), size * math.cos(angle)
        np.testing.assert_allclose(
            outer_jacobian(alpha, steps, detach),
            [[sin, -cos], [cos, sin]],
            atol=1e-10,
        )


@pytest.mark.parametrize("alpha, steps", [(0.2, 4), (0.35, 3)])
def test_10_9_where_the_start_rests(alpha, steps):
    angle, size = steps * math.atan(alpha), (1 + alpha**2) ** (steps / 2)
    mean = np.array([CENTRE, 0])
    shift = np.array([math.sin(2 * angle), -math.cos(2 * angle)])
    attached = mean - CENTRE * math.sin(angle) / size * shift
    assert np.abs(outer_field(mean, alpha, steps, True)).max() < 1e-12
    assert np.abs(outer_field(attached, alpha, steps, False)).max() < 1e-12
    assert np.abs(outer_field(mean, alpha, steps, False)).max() > 0.1
    miss = ends(attached, alpha, alpha, 0.0, steps)[:, 0].mean() - CENTRE
    assert miss == pytest.approx(-CENTRE * math.sin(angle) ** 2, abs=1e-12)


class ZeroSum(QueryLoss):
    def __call__(self, game, adapted, query, noise):
        losses = super().__call__(game, adapted, query, noise)
        return {"D": losses["D"], "G": -losses["D"]}


def test_10_9_with_the_real_term_it_rests_at_the_mean():
    found = meta_gradients(
        game((CENTRE, 0)),
        batch(),
        inner_steps=4,
        inner_lr=0.2,
        objective=ZeroSum(),
        simultaneous=True,
    ).grads
    assert abs(found["G"]["theta"]) < 1e-12 and abs(found["D"]["phi"]) < 1e-12


@pytest.mark.parametrize("alpha, steps", [(0.2, 1), (0.2, 7), (0.35, 3)])
def test_10_10_the_largest_outer_rate(alpha, steps):
    for detach, times in ((True, 1), (False, 2)):
        n = times * steps
        bound = 2 * math.sin(n * math.atan(alpha)) / (1 + alpha**2) ** (n / 2)
        matrix = outer_jacobian(alpha, steps, detach)
        for share, settles in ((0.97, True), (1.03, False)):
            way = np.array([0.6, 0.8])
            for _ in range(2000):
                way = way - share * bound * matrix @ way
            assert (np.linalg.norm(way) < 1) == settles


def test_10_10_the_windows_close_at_half_a_turn_and_at_a_quarter():
    for detach, window in ((True, math.pi), (False, math.pi / 2)):
        last = math.floor(window / math.atan(0.2))
        friction = [
            np.linalg.eigvals(outer_jacobian(0.2, s, detach)).real.min()
            for s in (0, 1, last, last + 1)
        ]
        assert abs(friction[0]) < 1e-9  # no inner loop: the ordinary GAN
        assert friction[1] > 0 and friction[2] > 0 > friction[3]


@both_orders
@settings
def test_10_11_what_is_missed(setting, turns):
    share = power(one_step(*setting, turns), 6)
    first = share[0, 0] * (START[0] - CENTRE) + share[0, 1] * START[1]
    measured = (ends(START, *setting, 6, turns)[:, 0] - PLACES) ** 2
    formula = first**2 + share[0, 0] ** 2 * SPREAD
    assert measured.mean() == pytest.approx(formula, abs=1e-12)


@pytest.mark.parametrize("steps", [2, 5, 9])
def test_10_12_the_rate_that_arrives(steps):
    roots = {False: math.tan(math.pi / (2 * steps))}
    roots[True] = 2 * math.sin(math.pi / (4 * steps + 2))
    for turns, root in roots.items():
        at_d = root**2 / 0.3
        found = ends((3.0, 0.0), 0.3, at_d, 0.0, steps, turns)
        np.testing.assert_allclose(found[:, 0], PLACES, atol=1e-12)
        for s in range(steps):  # and not before
            early = ends((3.0, 0.0), 0.3, at_d, 0.0, s, turns)
            assert np.abs(early[:, 0] - PLACES).min() > 1e-3


@pytest.mark.parametrize("at_d", [0.1, 0.3, 0.8])
def test_10_13_what_moves_the_rate_of_d(at_d):
    at_g, steps = 0.25, 4
    start = (CENTRE, 0.0)

    def library(detach):
        rate = torch.tensor(at_d, dtype=torch.float64, requires_grad=True)
        found = meta_gradients(
            game(start, detach=detach),
            batch(),
            inner_steps=steps,
            inner_lr={"G": at_g, "D": rate},
            objective="adversarial",
            simultaneous=True,
        )
        return found.rates["D"][()].item()

    def share(rate, s):
        return power(one_step(at_g, rate, 0.0, False), s)

    def product(rate):
        return SPREAD * share(rate[0], steps)[0, 0] * share(rate[0], steps)[1, 0]

    assert library(False) == pytest.approx(slopes(product, [at_d])[0], abs=1e-8)
    way = sum(share(at_d, s)[0, 0] for s in range(steps))
    formula = -SPREAD * share(at_d, steps)[0, 0] * way
    assert library(True) == pytest.approx(formula, abs=1e-12)

    shown = [play(start, c, at_g, at_d, 0.0, steps) for c in PLACES]

    def with_constant_fakes(rate):
        slope = [-rate[0] * sum(f - c for f in run[2]) for c, run in zip(PLACES, shown)]
        return np.mean([s * (run[0] - c) for s, c, run in zip(slope, PLACES, shown)])

    measured = slopes(with_constant_fakes, [at_d])[0]
    assert formula == pytest.approx(measured, abs=1e-8)


@pytest.mark.parametrize("turns, friction", [(False, 2), (True, 1)])
def test_10_14_two_steps_that_last(turns, friction):
    for at_d in (0.4, 2.5):
        gamma = friction / at_d
        for steps in (2, 3, 8):
            found = ends((3.0, -1.7), 1 / at_d, at_d, gamma, steps, turns)
            goals = np.stack([PLACES, np.zeros(len(PLACES))], 1)
            np.testing.assert_allclose(found, goals, atol=1e-12)
        for other in (0.9, 1.1):  # and only so
            matrix = one_step(other / at_d, at_d, gamma, turns)
            assert np.abs(power(matrix, 2)).max() > 0.01
            matrix = one_step(1 / at_d, at_d, other * gamma, turns)
            assert np.abs(power(matrix, 2)).max() > 0.01


def test_10_15_the_first_weight_is_a_rate():
    at_d, W1 = 0.3, 1.4

    def neglected(way):
        pair = GAN(Point(0.5 + way), TwoLayers(W1, 0.7 * way), loss="wasserstein")
        after = adapt(
            pair,
            numbers(0.5).view(1, 1, 1),
            inner_steps=1,
            inner_lr=at_d,
            simultaneous=True,
        ).parameters()["D"]
        product = (after["W2"] * after["W1"]).item()
        return product - W1 * 0.7 * way + at_d * W1**2 * way

    errors = [neglected(0.2 / 2**i) for i in range(4)]
    ratios = [big / small for big, small in zip(errors, errors[1:])]
    assert all(7.3 < ratio < 8.7 for ratio in ratios)


@pytest.mark.parametrize("loss", ["saturating", "non-saturating"])
@pytest.mark.parametrize("place", [1.0, -2.0])
def test_10_16_the_logistic_game_near_its_goal(loss, place):
    alpha, gamma, steps = 0.4, 0.3, 5
    jacobian = np.array([[0, -0.5], [0.5, gamma + place**2 / 2]])
    share = power(np.eye(2) - alpha * jacobian, steps)

    def neglected(way):
        start = np.array([place + way, 0.5 * way])
        after = adapt(
            game(start, gamma, loss=loss),
            numbers(place).view(1, 1, 1),
            inner_steps=steps,
            inner_lr=alpha,
            simultaneous=True,
        ).parameters()
        end = np.array([after["G"]["theta"].item(), after["D"]["phi"].item()])
        goal = np.array([place, 0])
        return np.linalg.norm(end - goal - share @ (start - goal))

    errors = [neglected(0.1 / 2**i) for i in range(4)]
    ratios = [big / small for big, small in zip(errors, errors[1:])]
    assert all(3.6 < ratio < 4.4 for ratio in ratios)


def test_10_3_the_eigenvalues_of_the_turn():
    values = np.linalg.eigvals(one_step(0.3, 0.2, 0.0, False))
    polar = sorted(cmath.polar(v) for v in values)
    chi, size = math.atan(math.sqrt(0.06)), math.sqrt(1.06)
    np.testing.assert_allclose(polar, [(size, -chi), (size, chi)], atol=1e-12)
