"""The numbered equations of chapter 13, against answers found another way."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, jacrev

from metagan_lite import GAN, TaskBatch, meta_gradients
from metagan_lite.blocks import hypergradient_blocks
from metagan_lite.ledger import hypergradient_ledger

F64 = torch.float64


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=random(seed), dtype=F64)


def vector(tree: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.detach().flatten() for value in tree.values()])


# --- a small game, its steps written out ----------------------------------------

SIZES = {"G": 4, "D": 6}  # θ = (W [2, 1], b [2]); φ = (U [2, 2], u [2])


class Line(nn.Module):
    """z [n, 1] → tanh(z Wᵀ + b) [n, 2]."""

    latent_dim = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(normal(2, 1, seed=1))
        self.bias = nn.Parameter(normal(2, seed=2))

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T + self.bias).tanh()


class Bump(nn.Module):
    """x [n, 2] → tanh(x Uᵀ) u [n]."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Parameter(normal(2, 2, seed=3))
        self.outer = nn.Parameter(normal(2, seed=4))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.inner.T).tanh() @ self.outer


def loss(player: str, omega: Tensor, real: Tensor, z: Tensor) -> Tensor:
    """L_G or L_D by hand; z [2, n, 1], of D and of G."""
    weight, bias, inner, outer = omega.split([2, 2, 4, 2])
    logit = lambda x: (x @ inner.view(2, 2).T).tanh() @ outer
    fake = (z[int(player == "G")] * weight + bias).tanh()
    if player == "G":
        return torch.log1p((-logit(fake)).exp()).mean()
    on_real = torch.log1p((-logit(real)).exp()).mean()
    return on_real + torch.log1p(logit(fake).exp()).mean()


def own_slope(player: str, *data: Tensor) -> Callable[[Tensor], Tensor]:
    """The player's slope in its own parameters, and 0 elsewhere."""
    mask = torch.zeros(10, dtype=F64)
    mask[: SIZES["G"]] = float(player == "G")
    mask[SIZES["G"] :] = float(player == "D")
    return lambda omega: mask * grad(lambda at: loss(player, at, *data))(omega)


def setting(steps: int = 3):
    game = GAN(Line(), Bump())
    x = normal(1, 8, 2, seed=5)
    batch = TaskBatch(x[:, :4], x[:, 4:] + 0.5)
    noise = game.noise(1, steps + 1, 4, generator=random(6))
    return game, batch, (noise[:, :-1], noise[:, -1])


def moves_and_slopes(game, batch, noise, rates, simultaneous):
    """The Jacobian of each move, in order, and both outer slopes at the end."""
    omega = torch.cat([vector(game.parameters()[p]) for p in ("G", "D")])
    jacobians = []
    for step in range(noise[0].shape[1]):
        slopes = {p: own_slope(p, batch.support[0], noise[0][0, step]) for p in SIZES}
        both = lambda at, slopes=slopes: sum(
            rates[p] * f(at) for p, f in slopes.items()
        )
        one = lambda p, slopes=slopes: lambda at: rates[p] * slopes[p](at)
        for move in [both] if simultaneous else [one("D"), one("G")]:
            jacobians.append(jacrev(lambda at, move=move: at - move(at))(omega))
            omega = omega - move(omega)
    ends = {
        term: grad(lambda at, term=term: loss(term, at, batch.query[0], noise[1][0]))(
            omega
        )
        for term in SIZES
    }
    return jacobians, ends


def parted(jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """The blocks that stay with a player, and those that change over."""
    stay = torch.block_diag(jacobian[:4, :4], jacobian[4:, 4:])
    return stay, jacobian - stay


def ways(jacobians: list[Tensor], g: Tensor) -> list[Tensor]:
    """v⁽ᵏ⁾ by brute force: every word of stays and changes, multiplied out."""
    found = [torch.zeros_like(g) for _ in range(len(jacobians) + 1)]
    parts = [parted(j) for j in jacobians]
    for word in product((0, 1), repeat=len(jacobians)):
        v = g
        for kind, both in zip(reversed(word), reversed(parts)):
            v = both[kind].T @ v
        found[sum(word)] = found[sum(word)] + v
    return found


@pytest.mark.parametrize("simultaneous", [False, True])
def test_13_1_the_ways_back_sum_to_the_three_parts_and_to_the_total(simultaneous):
    game, batch, noise = setting()
    rates = {"G": 0.7, "D": 0.4}
    options = {
        "inner_steps": 3,
        "inner_lr": rates,
        "noise": noise,
        "simultaneous": simultaneous,
        "objective": "adversarial",
    }
    blocks = hypergradient_blocks(game, batch, **options)
    exact = meta_gradients(game, batch, **options, path="loop").grads
    jacobians, ends = moves_and_slopes(game, batch, noise, rates, simultaneous)
    for term, g in ends.items():
        by_changes = ways(jacobians, g)
        # The recursion of the chapter against the words.
        level = [g] + [torch.zeros_like(g)] * len(jacobians)
        for jacobian in reversed(jacobians):
            stay, change = parted(jacobian)
            level = [
                stay.T @ v + (change.T @ level[k - 1] if k else 0)
                for k, v in enumerate(level)
            ]
        for a, b in zip(level, by_changes):
            torch.testing.assert_close(a, b)
        whole = (torch.eye(10, dtype=F64) if not jacobians else jacobians[0]).T
        for jacobian in jacobians[1:]:
            whole = whole @ jacobian.T
        torch.testing.assert_close(sum(by_changes), whole @ g)
        for player, where in (("G", slice(0, 4)), ("D", slice(4, 10))):
            block = blocks[term][player]
            for part, expected in (
                (block.direct, g),
                (block.own, by_changes[0] - g),
                (block.cross, sum(by_changes[1:])),
                (block.total, sum(by_changes)),
            ):
                gap = (vector(part) - expected[where]).abs().max()
                assert gap < 1e-10
            if term == player:
                gap = vector(exact[player]) - vector(block.total)
                assert gap.abs().max() < 1e-10


@pytest.mark.parametrize("simultaneous", [False, True])
def test_13_2_each_change_of_player_costs_a_power_of_the_rate(simultaneous):
    game, batch, noise = setting()
    found = []
    for alpha in (2e-3, 1e-3):
        rates = {"G": alpha, "D": alpha}
        jacobians, ends = moves_and_slopes(game, batch, noise, rates, simultaneous)
        g = ends["G"]
        found.append((alpha, jacobians, g, ways(jacobians, g)))
    for k in (1, 2, 3):
        large, small = (by_changes[k].norm() for *_, by_changes in found)
        assert large / small == pytest.approx(2**k, rel=0.02)
    # Own, to first order: −α Σ H_s g; one change: −α Σ (the other blocks of J_s)ᵀ g.
    for kind in (0, 1):
        rest = []
        for alpha, jacobians, g, by_changes in found:
            eye = torch.eye(10, dtype=F64)
            sums = sum((parted(j)[kind] - (eye if kind == 0 else 0)) for j in jacobians)
            first = sums.T @ g
            part = by_changes[kind] - (g if kind == 0 else 0)
            assert (part - first).norm() < 20 * alpha * first.norm()
            rest.append((part - first).norm())
        assert rest[0] / rest[1] == pytest.approx(4, rel=0.05)
    # The library's own part, as it shrinks.
    blocks = [
        hypergradient_blocks(
            game,
            batch,
            inner_steps=3,
            inner_lr=alpha,
            noise=noise,
            objective="adversarial",
            simultaneous=simultaneous,
        )["G"]["G"]
        for alpha in (2e-3, 1e-3)
    ]
    for part in ("own", "cross"):
        large, small = (vector(getattr(b, part)).norm() for b in blocks)
        assert large / small == pytest.approx(2, rel=0.02)


# --- the game of two numbers ------------------------------------------------------


class Number(nn.Module):
    latent_dim = 1

    def __init__(self, value: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Point(Number):
    def forward(self, z: Tensor) -> Tensor:
        return 0 * z + self.value


class Slope(Number):
    def forward(self, x: Tensor) -> Tensor:
        return (x * self.value).squeeze(-1)


def two_numbers(steps: int, alpha: float, simultaneous: bool):
    """The library's blocks; and g at a point that is found step by step by hand.

    Real data at 0.3 in the support, −0.4 in the query: L_D = φ(θ − c), L_G = −φθ.
    """
    theta, phi = 0.7, -1.1
    game = GAN(Point(theta), Slope(phi), loss="wasserstein")
    at = lambda c: torch.full((1, 2, 1), c, dtype=F64)
    options = {
        "inner_steps": steps,
        "inner_lr": alpha,
        "simultaneous": simultaneous,
        "objective": "adversarial",
        "generator": random(0),
    }
    batch = TaskBatch(at(0.3), at(-0.4))
    for _ in range(steps):
        after = phi - alpha * (theta - 0.3)
        theta = theta + alpha * (phi if simultaneous else after)
        phi = after
    g = {"G": complex(-phi, -theta), "D": complex(phi, theta + 0.4)}
    return game, batch, options, g


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_13_3_simultaneous_ways_are_counted_by_binomials(steps):
    alpha = 0.35
    game, batch, options, ends = two_numbers(steps, alpha, simultaneous=True)
    blocks = hypergradient_blocks(game, batch, **options)
    jacobian = torch.tensor([[1, alpha], [-alpha, 1]], dtype=F64)  # of one step
    for term, g in ends.items():
        formula = [math.comb(steps, k) * (1j * alpha) ** k * g for k in range(9)]
        v = torch.tensor([g.real, g.imag], dtype=F64)
        eye = torch.eye(2, dtype=F64)
        for k in range(steps + 1):
            by_words = sum(
                chain([(eye, jacobian - eye)[kind].T for kind in word], v)
                for word in product((0, 1), repeat=steps)
                if sum(word) == k
            )
            assert complex(*by_words.tolist()) == pytest.approx(formula[k])
        cross = sum(formula[1:])
        for player, of in (("G", "real"), ("D", "imag")):
            block = blocks[term][player]
            assert float(block.direct["value"]) == pytest.approx(getattr(g, of))
            assert float(block.own["value"]) == pytest.approx(0, abs=1e-12)
            assert float(block.cross["value"]) == pytest.approx(getattr(cross, of))


def chain(factors: list[Tensor], v: Tensor) -> Tensor:
    for factor in reversed(factors):
        v = factor @ v
    return v


@pytest.mark.parametrize(("steps", "alpha"), [(1, 0.3), (4, 0.2), (7, 0.5)])
def test_13_4_simultaneous_steps_turn_and_stretch(steps, alpha):
    game, batch, options, ends = two_numbers(steps, alpha, simultaneous=True)
    blocks = hypergradient_blocks(game, batch, **options)
    exact = meta_gradients(game, batch, **options, path="loop").grads
    for term, g in ends.items():
        total = complex(*(float(blocks[term][p].total["value"]) for p in ("G", "D")))
        assert total == pytest.approx((1 + 1j * alpha) ** steps * g)
        length, angle = (1 + alpha**2) ** (steps / 2), steps * math.atan(alpha)
        assert abs(total) == pytest.approx(length * abs(g))
        cosine = (total * g.conjugate()).real / (abs(total) * abs(g))
        assert cosine == pytest.approx(math.cos(angle))
        assert float(exact[term]["value"]) == pytest.approx(
            total.real if term == "G" else total.imag
        )


@pytest.mark.parametrize("steps", [1, 2, 4, 5])
def test_13_5_taking_turns_opens_more_ways(steps):
    # Brute force: back through G, D, G, D, … a change is from the mover to the other.
    counts = {"G": [0] * (2 * steps + 1), "D": [0] * (2 * steps + 1)}
    for start in counts:
        for word in product((0, 1), repeat=2 * steps):
            player, possible = start, True
            for mover, change in zip(["G", "D"] * steps, word):
                possible &= not change or mover == player
                player = {"G": "D", "D": "G"}[player] if change else player
            counts[start][sum(word)] += possible
    for k in range(2 * steps + 1):
        assert counts["G"][k] == math.comb(steps + k // 2, k)
        assert counts["D"][k] == math.comb(steps + (k - 1) // 2, k) or k == 0
    assert counts["D"][0] == 1
    # And so is the library's hypergradient.
    alpha = 0.4
    game, batch, options, ends = two_numbers(steps, alpha, simultaneous=False)
    blocks = hypergradient_blocks(game, batch, **options)
    for term, g in ends.items():
        turned = sum(
            (1j * alpha) ** k * (counts["G"][k] * g.real + 1j * counts["D"][k] * g.imag)
            for k in range(2 * steps + 1)
        )
        for player, of in (("G", "real"), ("D", "imag")):
            total = float(blocks[term][player].total["value"])
            assert total == pytest.approx(getattr(turned, of))


# --- shares, and fakes that are detached ------------------------------------------


@pytest.mark.parametrize("simultaneous", [False, True])
def test_13_6_shares_by_finite_differences(simultaneous):
    game, batch, noise = setting()
    options = {
        "inner_steps": 3,
        "inner_lr": {"G": 0.7, "D": 0.4},
        "noise": noise,
        "simultaneous": simultaneous,
        "objective": "adversarial",
    }
    blocks = hypergradient_blocks(game, batch, **options)
    entries = hypergradient_ledger(game, batch, **options)
    h = 1e-5

    def at(player, direction, length, term):
        moved = copy.deepcopy(game)
        with torch.no_grad():
            for name, p in moved.parameters()[player].items():
                p -= length * direction[name]
        return float(meta_gradients(moved, batch, **options).losses[term])

    for term, player in product(("G", "D"), repeat=2):
        entry, block = entries[term][player], blocks[term][player]
        worth = {}
        for part in ("direct", "own", "cross"):
            ends = [at(player, getattr(block, part), x, term) for x in (-h, h)]
            worth[part] = (ends[0] - ends[1]) / (2 * h)
        whole = [at(player, block.total, x, term) for x in (-h, h)]
        whole = (whole[0] - whole[1]) / (2 * h)
        assert whole == pytest.approx(entry.norms["total"] ** 2, rel=1e-5)
        for part, fall in worth.items():
            assert entry.shares[part] == pytest.approx(fall / whole, rel=1e-4, abs=1e-5)
        assert sum(entry.shares.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("simultaneous", [False, True])
def test_13_7_detached_fakes_close_the_way_through_d(simultaneous):
    game, batch, noise = setting()
    rates = {"G": 0.7, "D": 0.4}
    options = {
        "inner_steps": 3,
        "inner_lr": rates,
        "noise": noise,
        "simultaneous": simultaneous,
        "objective": "adversarial",
    }
    cut = GAN(*(game.players[p] for p in ("G", "D")), detach_fakes=True)
    detached = hypergradient_blocks(cut, batch, **options)
    followed = meta_gradients(cut, batch, **options, path="loop").grads
    jacobians, ends = moves_and_slopes(game, batch, noise, rates, simultaneous)
    for player, where in (("G", slice(0, 4)), ("D", slice(4, 10))):
        no_change = ways(jacobians, ends[player])[0][where]
        torch.testing.assert_close(vector(followed[player]), no_change)
        assert vector(detached[player][player].cross).norm() == 0
    taught = ways(jacobians, ends["G"])
    ours = vector(detached["G"]["D"].total)
    torch.testing.assert_close(ours, (taught[0] + taught[1])[4:])
    assert taught[1][4:].norm() > 0.01
    assert vector(detached["D"]["G"].total).norm() == 0
