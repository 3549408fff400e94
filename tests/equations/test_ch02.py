"""The numbered equations of chapter 2, each against an independent truth.

Derivatives are central differences of the library's step or losses in float64, paths
are played out step by step, and spectral normalisation is PyTorch's own.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from metagan_lite import GAN, DiracTasks, MetaDiscriminator, MetaGenerator, inner_step
from metagan_lite.adapt import bind
from metagan_lite.losses import gradient_penalty, r1_penalty

SLOPE = -0.5  # f'(0), f(t) = log(1 − σ(t))


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


class Point(nn.Module):
    latent_dim = 1

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(numbers(0.0))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.phi = nn.Parameter(numbers(0.0))

    def forward(self, x):
        return (self.phi * x).squeeze(-1)


def dirac(loss="saturating", r1=0.0):
    return GAN(Point(), Line(), loss=loss, r1=r1)


def play(game, omega, alpha, *, simultaneous=True, at=0.0, steps=1):
    """ω = (θ, φ) after steps of the library; the real point is ``at``."""
    real = DiracTasks(at, at).sample(1, shots=1, query_shots=1).support[0].double()
    noise = game.noise(1, 1, 1)[0, 0]
    on_g, on_d = alpha if isinstance(alpha, tuple) else (alpha, alpha)
    params = {"G": {"theta": omega[:1]}, "D": {"phi": omega[1:]}}
    rates = {"G": {"theta": on_g}, "D": {"phi": on_d}}
    for _ in range(steps):
        params = inner_step(game, params, real, noise, rates, simultaneous=simultaneous)
        params = {p: {k: v.detach() for k, v in params[p].items()} for p in params}
    return torch.cat([params["G"]["theta"], params["D"]["phi"]])


def differences(function, x, h=1e-5):
    """Jacobian by central differences, ``[out, in]``."""
    columns = []
    for i in range(len(x)):
        e = torch.zeros_like(x)
        e[i] = h
        columns.append((function(x + e) - function(x - e)) / (2 * h))
    return torch.stack(columns, 1)


def step_matrix(alpha, *, game=None, at=0.0, simultaneous=True):
    """The Jacobian of a step at the solution θ = at, φ = 0, as a NumPy matrix."""
    game = game or dirac()
    function = lambda w: play(game, w, alpha, at=at, simultaneous=simultaneous)
    return differences(function, numbers(at, 0)).numpy()


def moduli(matrix):
    return np.abs(np.linalg.eigvals(matrix))


def sigma(t):
    return 1 / (1 + math.exp(-t))


# A pair of small networks, its parameters as one vector


class Small:
    def __init__(self):
        random = torch.Generator().manual_seed(0)
        wide = {"hidden": 4, "generator": random}
        self.game = GAN(
            MetaGenerator((2,), latent_dim=2, **wide).double(),
            MetaDiscriminator((2,), **wide).double(),
        )
        self.data = torch.randn(6, 2, generator=random, dtype=torch.float64)
        self.noise = self.game.noise(1, 1, 6, generator=random)[0, 0]
        own = self.game.parameters()
        self.names = [(p, n) for p in ("G", "D") for n in own[p]]
        self.shapes = [own[p][n].shape for p, n in self.names]
        self.omega = self.pack(own).detach()
        self.of_g = sum(p.numel() for p in own["G"].values())

    def pack(self, params):
        return torch.cat([params[p][n].flatten() for p, n in self.names])

    def unpack(self, omega):
        params = {"G": {}, "D": {}}
        parts = omega.split([shape.numel() for shape in self.shapes])
        for (p, n), part, shape in zip(self.names, parts, self.shapes):
            params[p][n] = part.view(shape)
        return params

    def step(self, omega, alpha, simultaneous=True):
        params = self.unpack(omega)
        rates = {p: dict.fromkeys(own, alpha) for p, own in params.items()}
        after = inner_step(
            self.game, params, self.data, self.noise, rates, simultaneous=simultaneous
        )
        return self.pack(after)

    def slope(self, player, omega):
        """One player's loss differentiated in all parameters, by autograd."""
        omega = omega.clone().requires_grad_()
        nets = bind(self.game, self.unpack(omega))
        loss = self.game.loss(player, nets, self.data, self.noise)
        return torch.autograd.grad(loss, omega)[0]

    def jacobian(self):
        """The game Jacobian: G's rows from L_G, D's rows from L_D."""
        of_g = differences(lambda w: self.slope("G", w), self.omega)
        of_d = differences(lambda w: self.slope("D", w), self.omega)
        return torch.cat([of_g[: self.of_g], of_d[self.of_g :]])


# The equations


@pytest.mark.parametrize("theta, phi", [(1.3, -0.7), (-0.4, 0.9), (2.0, 1.5)])
def test_2_1_simultaneous_gradient(theta, phi):
    def loss_g(theta, phi):  # the paper's formulas, in numbers
        return math.log(1 - sigma(phi * theta))

    def loss_d(theta, phi):
        return -math.log(sigma(phi * 0)) - math.log(1 - sigma(phi * theta))

    h = 1e-6
    by_differences = numbers(
        (loss_g(theta + h, phi) - loss_g(theta - h, phi)) / (2 * h),
        (loss_d(theta, phi + h) - loss_d(theta, phi - h)) / (2 * h),
    )
    formula = -sigma(phi * theta) * numbers(phi, -theta)
    start = numbers(theta, phi)
    moved = (start - play(dirac(), start, 0.3)) / 0.3
    torch.testing.assert_close(formula, by_differences, atol=1e-8, rtol=0)
    torch.testing.assert_close(moved, by_differences, atol=1e-8, rtol=0)


def test_2_2_the_flow_keeps_the_distance():
    game = dirac()
    velocity = lambda w: play(game, w, 1.0) - w
    omega, h = numbers(1.4, 0.3), 0.1
    angle = 0.0
    for _ in range(200):  # Runge–Kutta; an orbit takes about 14 units of time
        a = velocity(omega)
        b = velocity(omega + h / 2 * a)
        c = velocity(omega + h / 2 * b)
        d = velocity(omega + h * c)
        after = omega + h / 6 * (a + 2 * b + 2 * c + d)
        cross = (omega[0] * after[1] - omega[1] * after[0]).item()
        angle += math.asin(cross / omega.norm().item() ** 2)
        omega = after
    assert omega.norm().item() == pytest.approx(math.hypot(1.4, 0.3), rel=1e-5)
    assert angle < -2 * math.pi  # it went all the way round, clockwise


def test_2_3_jacobian_of_a_simultaneous_step():
    small, alpha = Small(), 0.3
    got = differences(lambda w: small.step(w, alpha), small.omega)
    jacobian = small.jacobian()
    want = torch.eye(len(jacobian)) - alpha * jacobian
    torch.testing.assert_close(got, want, atol=1e-8, rtol=0)
    upper, lower = jacobian[: small.of_g, small.of_g :], jacobian[small.of_g :]
    assert (upper - lower[:, : small.of_g].T).norm() > 0.5 * upper.norm()


def test_2_4_the_dirac_gan_rotates():
    jacobian = (np.eye(2) - step_matrix(0.2)) / 0.2
    np.testing.assert_allclose(jacobian, [[0, SLOPE], [-SLOPE, 0]], atol=1e-9)
    mu = np.linalg.eigvals(jacobian)
    np.testing.assert_allclose(np.sort(mu.imag), [-0.5, 0.5], atol=1e-9)
    np.testing.assert_allclose(mu.real, 0, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.4, 2.5])
def test_2_5_simultaneous_steps_diverge(alpha):
    start = numbers(3e-7, -2e-7)  # so near that the step is linear
    ratio = (play(dirac(), start, alpha, steps=8).norm() / start.norm()).item()
    modulus = math.sqrt(1 + alpha**2 * SLOPE**2)
    assert ratio == pytest.approx(modulus**8, rel=1e-9)
    assert modulus > 1
    np.testing.assert_allclose(moduli(step_matrix(alpha)), modulus, rtol=1e-9)


def test_2_6_every_step_leads_outwards():
    random = np.random.default_rng(0)
    for theta, phi, alpha in random.normal(size=(20, 3)) * [2, 2, 1]:
        before = numbers(theta, phi)
        after = play(dirac(), before, abs(alpha))
        growth = 1 + alpha**2 * sigma(theta * phi) ** 2
        want = growth * (theta**2 + phi**2)
        assert after.square().sum().item() == pytest.approx(want, rel=1e-12)


def test_2_7_taking_turns_stays_on_the_circle():
    for alpha in (0.1, 1.0, 3.0, 3.9):
        matrix = step_matrix(alpha, simultaneous=False)
        turn = alpha * SLOPE
        np.testing.assert_allclose(matrix, [[1 - turn**2, -turn], [turn, 1]], atol=1e-8)
        np.testing.assert_allclose(moduli(matrix), 1, atol=1e-8)
        many = np.linalg.matrix_power([[1 - turn**2, -turn], [turn, 1]], 10_000)
        assert np.abs(many).max() < 10
    beyond = step_matrix(4.1, simultaneous=False)
    assert moduli(beyond).max() > 1.1
    assert np.abs(np.linalg.eigvals(beyond).imag).max() == 0


def test_2_8_turns_and_simultaneous_differ_at_second_order():
    small = Small()
    jacobian = small.jacobian()
    slope_d = small.slope("D", small.omega)[small.of_g :]
    leading = jacobian[: small.of_g, small.of_g :] @ slope_d
    gaps, errors = [], []
    for alpha in (0.02, 0.01, 0.005):
        turns, at_once = (small.step(small.omega, alpha, s) for s in (False, True))
        gap = turns - at_once
        assert gap[small.of_g :].abs().max() == 0  # D moves first, from the same point
        gaps.append(gap.norm().item())
        errors.append((gap[: small.of_g] - alpha**2 * leading).norm().item())
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.02)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.01)
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.99, 1.3, 5.0])
def test_2_9_r1_is_friction(gamma):
    jacobian = (np.eye(2) - step_matrix(0.1, game=dirac(r1=gamma))) / 0.1
    want = [[0, SLOPE], [-SLOPE, gamma]]
    np.testing.assert_allclose(jacobian, want, atol=1e-8)
    flow = np.linalg.eigvals(-jacobian)
    formula = np.roots([1, gamma, SLOPE**2])  # whose roots (2.9) gives
    root = np.sqrt(gamma**2 / 4 - SLOPE**2 + 0j)
    for mu in (-gamma / 2 + root, -gamma / 2 - root):
        assert np.abs(formula - mu).min() < 1e-9
        assert np.abs(flow - mu).min() < 1e-6
    assert flow.real.max() < 0 or gamma == 0
    assert (np.abs(flow.imag).max() > 0.01) == (gamma < 2 * abs(SLOPE))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.5, 3.0])
def test_2_10_the_window_of_gamma(alpha):
    low = alpha * SLOPE**2
    high = 2 / alpha + alpha * SLOPE**2 / 2
    for gamma in np.linspace(0.02, 1.3 * high, 40):
        if min(abs(gamma - low), abs(gamma - high)) < 0.01:
            continue
        matrix = step_matrix(alpha, game=dirac(r1=float(gamma)))
        with np.errstate(over="ignore", invalid="ignore"):
            end = np.linalg.norm(np.linalg.matrix_power(matrix, 20_000))
        assert (end < 1e-3) == (low < gamma < high), gamma


def test_2_11_two_rates():
    for on_g, on_d, gamma in [(0.1, 1.0, 0.2), (0.7, 0.3, 0.5), (2.0, 0.05, 0.0)]:
        matrix = step_matrix((on_g, on_d), game=dirac(r1=gamma))
        want = 1 - on_d * gamma + on_d * on_g * SLOPE**2
        assert np.abs(np.linalg.eigvals(matrix).imag).min() > 0.01
        np.testing.assert_allclose(moduli(matrix) ** 2, want, rtol=1e-8)
    # D's rate is not in the lower limit of γ, G's is.
    for on_d in (0.1, 0.5, 1.0):
        for gamma, stable in ((0.11, True), (0.09, False)):
            matrix = step_matrix((0.4, on_d), game=dirac(r1=gamma))
            assert (moduli(matrix).max() < 1) == stable


def test_2_12_spectral_normalisation_limits_the_frequency():
    def frequency(normalised, first, second):
        layers = [nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)]
        layers[0].weight.data = first[:, None].clone()
        layers[1].weight.data = second[None].clone()
        if normalised:  # PyTorch's power iteration, exact for one row or column
            layers = [spectral_norm(layer, n_power_iterations=5) for layer in layers]
        net = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Flatten(0)).eval()
        game = GAN(Point(), net, loss="saturating")
        params = game.parameters()
        names = [(p, n) for p in ("G", "D") for n in params[p]]
        real, noise = torch.zeros(1, 1, dtype=torch.float64), game.noise(1, 1, 1)[0, 0]

        def field(*values):
            at = {"G": {}, "D": {}}
            for (p, n), value in zip(names, values):
                at[p][n] = value
            slopes = []
            for (p, _), value in zip(names, values):
                loss = game.loss(p, bind(game, at), real, noise)
                slopes += torch.autograd.grad(loss, value, create_graph=True)
            return torch.cat([slope.flatten() for slope in slopes])

        point = tuple(params[p][n].detach() for p, n in names)
        blocks = torch.autograd.functional.jacobian(field, point)
        matrix = torch.cat([block.flatten(1) for block in blocks], 1)
        mu = np.linalg.eigvals(matrix.numpy())
        assert np.abs(mu.real).max() < 1e-9
        return np.abs(mu.imag).max()

    for first, second in [
        (numbers(1.2, 0.5), numbers(-1.0, 2.4)),
        (numbers(0.0, 3.0), numbers(0.2, 0.0)),
    ]:
        one, two = first.norm().item(), second.norm().item()
        plain = 0.5 * math.hypot(one, two)
        normed = 0.5 * math.hypot(1 / one, 1 / two)
        assert frequency(False, first, second) == pytest.approx(plain, rel=1e-9)
        assert frequency(True, first, second) == pytest.approx(normed, rel=1e-6)


class Shifted(nn.Module):
    """D with a constant added to its logit."""

    def __init__(self, net, const):
        super().__init__()
        self.net, self.const = net, const

    def forward(self, x):
        return self.net(x) + self.const


def test_2_13_pairing_ignores_a_constant():
    small = Small()
    for kind, invariant in (("relativistic", True), ("non-saturating", False)):
        values = []
        for const in (0.0, 2.5):
            net = Shifted(small.game.players["D"], const)
            game = GAN(small.game.players["G"], net, loss=kind)
            both = [
                game.loss(player, game.players, small.data, small.noise)
                for player in ("G", "D")
            ]
            values.append(torch.stack(both).detach())
        same = (values[0] - values[1]).abs() < 1e-12
        assert same.all() if invariant else not same.any()


def test_2_14_pairing_lets_real_data_into_gs_gradient():
    small = Small()
    G, D = small.game.players["G"], small.game.players["D"]
    game = GAN(G, D, loss="relativistic")
    z = small.noise[1]
    weight = next(G.parameters())
    h = 1e-6

    def mean_of_losses(data):  # by hand, one pair at a time
        real, fake = D(data).tolist(), D(G(z)).tolist()
        return sum(-math.log(sigma(f - r)) for r, f in zip(real, fake)) / len(real)

    def by_differences(data):
        values = []
        for shift in (h, -h):
            with torch.no_grad():
                weight[0, 0] += shift
                values.append(mean_of_losses(data))
                weight[0, 0] -= shift
        return (values[0] - values[1]) / (2 * h)

    def by_formula(data):
        total = 0.0
        for r, sample in zip(D(data), z):
            own = D(G(sample[None])).squeeze()
            slope = torch.autograd.grad(own, weight)[0][0, 0].item()
            total -= sigma(r.item() - own.item()) * slope / len(data)
        return total

    def by_library(data):
        loss = game.loss("G", game.players, data, small.noise)
        return torch.autograd.grad(loss, weight)[0][0, 0].item()

    others = small.data.flip(0) * 2
    got = [by_library(data) for data in (small.data, others)]
    for value, data in zip(got, (small.data, others)):
        assert value == pytest.approx(by_differences(data), abs=1e-8)
        assert value == pytest.approx(by_formula(data), abs=1e-12)
    assert abs(got[0] - got[1]) > 1e-4


@pytest.mark.parametrize("c", [0.0, 0.6, -2.0])
def test_2_15_data_away_from_zero(c):
    def jacobian(kind):
        return (np.eye(2) - step_matrix(0.1, game=dirac(kind), at=c)) / 0.1

    friction = [[0, SLOPE], [-SLOPE, c**2 / 2]]
    none = [[0, SLOPE], [-SLOPE, 0]]
    np.testing.assert_allclose(jacobian("saturating"), friction, atol=1e-7)
    np.testing.assert_allclose(jacobian("relativistic"), none, atol=1e-7)
    # The friction is that of R1 with γ = c²/2, from (2.9).
    damped = (np.eye(2) - step_matrix(0.1, game=dirac(r1=c**2 / 2))) / 0.1
    np.testing.assert_allclose(jacobian("saturating"), damped, atol=1e-7)


def test_2_16_which_norm_asks_for_which_slope():
    random = torch.Generator().manual_seed(0)
    n, side = 9, 4
    P = side * side
    x = torch.randn(n, 1, side, side, generator=random, dtype=torch.float64)
    mix = torch.rand(n, generator=random, dtype=torch.float64)
    signs = torch.randn(P, generator=random, dtype=torch.float64).sign()

    def slopes(net):
        points = x.clone().requires_grad_()
        return torch.autograd.grad(net(points).sum(), points)[0]

    def per_sample(net):
        return np.mean([(s.norm() - 1) ** 2 for s in slopes(net)])

    def per_pixel(net):
        return np.mean([(abs(v) - 1) ** 2 for v in slopes(net).flatten().tolist()])

    def whole_batch(net):
        return (math.sqrt(sum(v**2 for v in slopes(net).flatten().tolist())) - 1) ** 2

    asked = {per_sample: 1, per_pixel: math.sqrt(P), whole_batch: 1 / math.sqrt(n)}
    for penalty, length in asked.items():
        for factor in (0.5, 1.0, 1.5):
            phi = factor * length * signs / math.sqrt(P)
            value = float(penalty(lambda x: x.flatten(1) @ phi))
            assert (value < 1e-20) == (factor == 1), penalty.__name__
    # The library takes the first, in a net that is not linear too; R1 likewise.
    net = MetaDiscriminator((1, side, side), hidden=5, generator=random).double()
    library = gradient_penalty(net, x, x, mix).item()
    assert library == pytest.approx(per_sample(net).item(), rel=1e-12)
    by_hand = np.mean([s.square().sum().item() for s in slopes(net)])
    assert r1_penalty(net, x).item() == pytest.approx(by_hand, rel=1e-12)
