"""The numbered equations of chapter 15, against answers found another way."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from metagan_lite import (
    GAN,
    MetaDiscriminator,
    MetaGenerator,
    TaskBatch,
    adapt,
    meta_gradients,
)
from metagan_lite.fakeclass import FakeClass, class_probabilities, realness
from metagan_lite.meta import draw_noise
from metagan_lite.objectives import RefreshedD
from metagan_lite.worth import Worth, sample_worth

F64 = torch.float64


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=random(seed), dtype=F64)


# --- Reptile in a game ----------------------------------------------------------


class Place(nn.Module):
    latent_dim = 1

    def __init__(self, value: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=F64))

    def forward(self, z: Tensor) -> Tensor:
        return 0 * z + self.value


class Line(nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.value).squeeze(-1)


def reptile(omega, centres, alpha, steps, simultaneous, loss):
    """The library's Reptile direction, mean over tasks: [2]."""
    game = GAN(Place(omega[0]), Line(omega[1]), loss=loss)
    x = torch.tensor(centres, dtype=F64).view(-1, 1, 1)
    found = meta_gradients(
        game,
        TaskBatch(x, x),
        algorithm="reptile",
        inner_steps=steps,
        inner_lr=alpha,
        simultaneous=simultaneous,
        generator=random(0),
    ).grads
    return torch.stack([found["G"]["value"], found["D"]["value"]])


@pytest.mark.parametrize("steps", [2, 5])
def test_15_1_reptile_in_a_game_turns(steps):
    # The non-saturating Dirac-GAN by hand: its J is neither symmetric nor its opposite.
    centre, start = 0.7, torch.tensor([0.4, -0.6], dtype=F64)
    sig = lambda t: 1 / (1 + math.exp(-t))
    theta, phi = start.tolist()

    def slopes(omega: Tensor) -> Tensor:
        theta, phi = omega
        return torch.stack(
            [
                -phi * torch.sigmoid(-phi * theta),
                -centre * torch.sigmoid(-phi * centre)
                + theta * torch.sigmoid(phi * theta),
            ]
        )

    u = phi * theta
    bend, sides = sig(u) * sig(-u), (sig(-u), sig(u))
    at_real = centre**2 * sig(phi * centre) * sig(-phi * centre)
    J = torch.tensor(
        [
            [phi**2 * bend, -sides[0] + u * bend],
            [sides[1] + u * bend, at_real + theta**2 * bend],
        ],
        dtype=F64,
    )
    torch.testing.assert_close(J, jacobian(slopes, start))
    xi = slopes(start)
    squared = lambda omega: slopes(omega).square().sum() / 2
    length = jacobian(squared, start)
    turn = (J - J.T) @ xi
    assert abs(xi @ turn) < 1e-12 and turn.norm() > 0.1

    def rest(alpha: float) -> float:
        formula = steps * xi - alpha * steps * (steps - 1) / 2 * (length + turn)
        found = reptile((theta, phi), [centre], alpha, steps, True, "non-saturating")
        return (found / alpha - formula).norm().item()

    assert rest(1e-3) / rest(5e-4) == pytest.approx(4, abs=0.1)
    assert rest(1e-3) < 1e-3


@pytest.mark.parametrize("simultaneous", [True, False])
@pytest.mark.parametrize(("steps", "alpha"), [(2, 0.3), (5, 0.3), (3, 0.6), (1, 0.4)])
def test_15_2_where_reptile_settles(simultaneous, steps, alpha):
    if simultaneous:
        size, chi = math.hypot(1, alpha), math.atan(alpha)
    else:
        size, chi = 1.0, math.acos(1 - alpha**2 / 2)
    along = size**steps * math.cos(steps * chi)
    bound = 2 * (1 - along) / (1 - 2 * along + size ** (2 * steps))
    if not simultaneous:
        assert bound == pytest.approx(1)
    if steps == 2 and simultaneous:  # at a small rate the bound nears one half
        small = 1e-3
        turned = complex(1, small) ** 2
        near = 2 * (1 - turned.real) / abs(1 - turned) ** 2
        assert near == pytest.approx(0.5, abs=1e-3)
    # The matrix of the library's outer step, from three starts: it is affine.
    centres = [-1.0, 0.4, 2.1]
    at = lambda *omega: reptile(
        omega, centres, alpha, steps, simultaneous, "wasserstein"
    )
    base = at(0.5, 0.0)
    assert base.norm() < 1e-12  # the mean goal is at rest, whatever the spread
    matrix = torch.stack([at(1.5, 0.0), at(0.5, 1.0)], 1)
    for beta in (0.05, 0.3, 0.6, 0.95, 1.05, 1.5):
        radius = torch.linalg.eigvals(torch.eye(2) - beta * matrix).abs().max().item()
        assert (radius < 1 - 1e-12) == (beta < bound)
        turned = size**steps * cmath.exp(1j * steps * chi)
        assert radius == pytest.approx(abs(1 - beta + beta * turned))


# --- the refreshed discriminator ------------------------------------------------


def test_15_3_the_refresh_brings_the_query_to_g():
    rng = random(1)
    game = GAN(
        MetaGenerator((2,), latent_dim=2, hidden=4, generator=rng).double(),
        MetaDiscriminator((2,), hidden=5, generator=rng).double(),
    )
    x = normal(1, 14, 2, seed=2)
    batch = TaskBatch(x[:, :7], x[:, 7:] + 1)
    noise = draw_noise(game, batch, RefreshedD(), 3, generator=random(3))
    options = {"inner_steps": 3, "inner_lr": 0.3, "path": "loop"}

    def slope(rate: float, batch: TaskBatch = batch) -> Tensor:
        found = meta_gradients(
            game,
            batch,
            algorithm="fomaml",
            objective=RefreshedD(lr=rate),
            noise=noise,
            **options,
        ).grads["G"]
        return torch.cat([v.flatten() for v in found.values()])

    # By autograd on plain tensors: L_G and L_D at the adapted players.
    end = adapt(game, batch.support, noise=noise[0], **options).parameters()
    params = {
        p: {k: v[0].detach().requires_grad_() for k, v in own.items()}
        for p, own in end.items()
    }
    call = torch.func.functional_call
    nets = {
        p: lambda x, p=p: call(game.players[p], params[p], (x,)) for p in ("G", "D")
    }
    L_D, L_G = (game.loss(p, nets, batch.query[0], noise[1][0]) for p in ("D", "G"))
    theta, phi = (tuple(params[p].values()) for p in ("G", "D"))
    down = torch.autograd.grad(L_D, phi)
    of_g = torch.autograd.grad(L_G, theta, create_graph=True)
    # Row by row: the mixed matrix itself, not its product.
    rows = []
    for entry in torch.cat([g.flatten() for g in of_g]):
        row = torch.autograd.grad(entry, phi, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(p).flatten() if r is None else r.flatten()
                    for r, p in zip(row, phi)
                ]
            )
        )
    mixed = torch.stack(rows) @ torch.cat([d.flatten() for d in down])
    plain = torch.cat([g.detach().flatten() for g in of_g])
    rest = lambda rate: (slope(rate) - plain + rate * mixed).norm().item()
    assert rest(1e-3) / rest(5e-4) == pytest.approx(4, abs=0.1)
    assert mixed.norm() > 1e-3
    elsewhere = TaskBatch(batch.support, batch.query - 2)
    assert (slope(0.1) - slope(0.1, elsewhere)).norm() > 1e-4
    # Without the refresh no query image reaches θ, in either order.
    for algorithm in ("fomaml", "maml"):
        both = [
            meta_gradients(
                game,
                tasks,
                algorithm=algorithm,
                objective="adversarial",
                noise=noise,
                **options,
            ).grads["G"]
            for tasks in (batch, elsewhere)
        ]
        for name, value in both[0].items():
            torch.testing.assert_close(value, both[1][name], rtol=0, atol=0)


# --- N + 1 classes ----------------------------------------------------------------


def test_15_4_n_plus_one_probabilities():
    f = 4 * normal(30, 5, seed=4)
    for row, got in zip(f.tolist(), class_probabilities(f).tolist()):
        e = [math.exp(v) for v in row]
        assert got == pytest.approx([v / (1 + sum(e)) for v in (*e, 1)])
        d = math.log(sum(e))
        assert sum(got[:5]) == pytest.approx(1 / (1 + math.exp(-d)))
    torch.testing.assert_close(
        realness(f).sigmoid(), class_probabilities(f)[:, :5].sum(1)
    )
    large = class_probabilities(torch.tensor([1e4, 0.0], dtype=F64))
    assert large.tolist() == [1, 0, 0]


def densities(classes: int = 4, points: int = 6):
    p_k = torch.rand(classes, points, generator=random(5), dtype=F64) + 0.05
    q = torch.rand(points, generator=random(6), dtype=F64) + 0.05
    return p_k / p_k.sum(1, keepdim=True), q / q.sum()


class Table(nn.Module):
    """One-hot x [n, points] → logits [n, N], any at each point."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits.T.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.logits


class Drawn(nn.Module):
    latent_dim = 1

    def __init__(self, points: Tensor):
        super().__init__()
        self.points = nn.Parameter(points)

    def forward(self, x: Tensor) -> Tensor:
        return self.points


def library_loss(counts: Tensor, fakes: Tensor, logits: Tensor) -> Tensor:
    """FakeClass's loss on a data set with these counts: [N, points] and [points]."""
    eye = torch.eye(counts.shape[1], dtype=F64)
    where = counts.nonzero()
    repeat = counts[tuple(where.T)]
    labels, places = where.repeat_interleave(repeat, 0).T
    drawn = Drawn(eye.repeat_interleave(fakes, 0))
    net = Table(logits)
    game = FakeClass(net, drawn)
    z = torch.zeros(2, int(fakes.sum()), 1, dtype=F64)
    return net, game.loss("net", game.players, (eye[places], labels), z)


def test_15_5_the_best_classifier_and_its_loss():
    p_k, q = densities()
    p, N = p_k.mean(0), len(p_k)
    best = (p_k / (N * q)).log()

    def loss(f: Tensor) -> Tensor:
        """With probabilities of N + 1 classes, not with log-sum-exp."""
        e = f.exp()
        labels = -(p_k / N * (e / e.sum(0)).log()).sum()
        real = -(p * (e.sum(0) / (1 + e.sum(0))).log()).sum()
        return labels + real - (q * (1 / (1 + e.sum(0))).log()).sum()

    kl = lambda a, b: (a * (a / b).log()).sum()
    m = (p + q) / 2
    entropy = -(p_k / N * (p_k / (N * p)).log()).sum()
    value = entropy + math.log(4) - kl(p, m) - kl(q, m)
    assert loss(best).item() == pytest.approx(value.item(), abs=1e-12)
    for seed in range(20):  # the loss is convex in f: no point is below
        assert loss(best + 0.3 * normal(*best.shape, seed=seed)) > loss(best)
    slope = jacobian(loss, best)
    assert slope.abs().max() < 1e-12
    # Another generator moves all logits of a point by the same amount.
    _, other = densities()
    other = other.flip(0)
    moved = (p_k / (N * other)).log() - best
    assert (moved - moved[0]).abs().max() < 1e-12 and moved.abs().max() > 0.1


def test_15_5_is_where_the_librarys_loss_is_least():
    counts = torch.tensor([[2, 1, 3], [1, 4, 1]])  # classes equally often
    fakes = torch.tensor([4, 1, 7])
    p_k, q = counts / 6.0, fakes / 12.0
    p_k, q, p = p_k.double(), q.double(), p_k.double().mean(0)
    net, loss = library_loss(counts, fakes, (p_k / (2 * q)).log())
    assert (
        torch.autograd.grad(loss, net.logits, retain_graph=True)[0].abs().max() < 1e-7
    )
    entropy = -(p_k / 2 * (p_k / (2 * p)).log()).sum()
    m = (p + q) / 2
    jsd = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
    value = entropy + math.log(4) - 2 * jsd
    assert loss.item() == pytest.approx(value.item(), abs=1e-7)


def test_15_6_the_adversarial_slope_is_zero_where_d_is_right():
    counts = torch.tensor([[2, 1, 3], [1, 4, 1]])
    fakes = torch.tensor([4, 1, 7])
    n, m = counts.sum(), fakes.sum()
    p, q = counts.sum(0) / n, fakes / m
    p, q = p.double(), q.double()
    for right in (False, True):
        f = normal(2, 3, seed=7)
        if right:
            f = f - f.logsumexp(0) + (p / q).log()
        net, loss = library_loss(counts, fakes, f)
        found = torch.autograd.grad(loss, net.logits)[0].T
        share = f.softmax(0)
        labels = share * p - counts / n  # of the cross-entropy
        D = 1 / (1 + 1 / f.exp().sum(0))
        formula = share * (D * (p + q) - p)
        torch.testing.assert_close(found - labels, formula)
        assert (formula.abs().max() < 1e-12) == right


# --- what samples are worth -------------------------------------------------------


def simulated(tasks: int, shots: int, copy: float, bias: float, n: int, seed: int = 8):
    rng = random(seed)
    normal = lambda *s: torch.randn(*s, generator=rng, dtype=F64)
    centre = 3 * normal(tasks, 1, 5)
    x = centre + 2 * normal(tasks, shots + 4, 5)
    begin = centre + copy * (x[:, :shots].mean(1, keepdim=True) - centre)
    drawn = begin + bias + 1.5 * normal(tasks, n, 5)
    return TaskBatch(x[:, :shots], x[:, shots:]), drawn, centre[:, 0]


def test_15_7_the_error_of_a_mixed_mean_for_any_samples():
    # An identity of second moments: exact on one finite set, with no model behind it.
    x, v = normal(40, 5, seed=9), normal(40, 5, seed=10) ** 3 + 0.3
    real = x.square().sum(1).mean()
    copy = (x * v).sum(1).mean() / real
    own = v.square().sum(1).mean() - copy**2 * real
    assert own > 0
    worth = Worth(1, real.item(), copy.item(), own.item())
    for mix in (-0.4, 0.0, 0.3, 1.0, 1.7):
        direct = ((1 - mix) * x + mix * v).square().sum(1).mean().item()
        assert worth.error(mix) == pytest.approx(direct, rel=1e-12)


def test_15_8_best_weight_gain_and_worth():
    for copy, own in ((0.3, 1.1), (-0.2, 3.0), (0.9, 0.2)):
        shots, within = 4, 6.0
        worth = Worth(shots, within / shots, copy, own)
        low, high = -3.0, 3.0  # golden section: the least error, by search
        ratio = (math.sqrt(5) - 1) / 2
        for _ in range(120):
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            low, high = (low, b) if worth.error(a) < worth.error(b) else (a, high)
        assert worth.best_mix == pytest.approx(low, abs=1e-6)
        least = worth.error(low)
        assert worth.images == pytest.approx(within / least - shots, rel=1e-9)
        assert worth.images == pytest.approx((1 - copy) ** 2 * within / own)
        assert worth.error(1.99 * low) < worth.error(0) < worth.error(2.01 * low)
    # Independent truth: a centre with a normal prior. The prior mean is a sample that
    # copies nothing, and the best mix is the weight it has in the posterior mean.
    within, between, shots = 6.0, 2.5, 3
    prior = Worth(shots, within / shots, 0.0, between)
    posterior = (1 / between) / (1 / between + shots / within)
    assert prior.best_mix == pytest.approx(posterior)
    assert prior.error(prior.best_mix) == pytest.approx(
        1 / (1 / between + shots / within)
    )
    assert Worth(3, 2.0, 1.1, 1.0).best_mix < 0 == Worth(3, 2.0, 1.1, 1.0).images


def test_15_9_bias_and_noise_make_the_own_error():
    for n in (2, 10):
        shown, drawn, centre = simulated(30000, shots=3, copy=0.4, bias=0.6, n=n)
        formula = 5 * 0.6**2 + 5 * 1.5**2 / n
        x, v = shown.support.mean(1) - centre, drawn.mean(1) - centre
        real = x.square().sum(1).mean()
        copy = (x * v).sum(1).mean() / real
        own = v.square().sum(1).mean() - copy**2 * real
        assert own.item() == pytest.approx(formula, rel=0.02)
        assert copy.item() == pytest.approx(0.4, abs=0.01)
        # The library does not know the centres.
        found = sample_worth(drawn, shown)
        assert found.own == pytest.approx(formula, rel=0.04)
        assert found.copied == pytest.approx(0.4, abs=0.02)
        assert found.real == pytest.approx(4 * 5 / 3, rel=0.01)
