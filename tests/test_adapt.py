"""The inner loop against implementations that share no code with it."""

import gc
import math
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metagan_lite import (
    GAN,
    ConvDiscriminator,
    ConvGenerator,
    MetaDiscriminator,
    MetaGenerator,
    SineTasks,
    Supervised,
    adapt,
    adaptation_steps,
    load_tasks,
)
from metagan_lite.dual import DualSteps
from metagan_lite.losses import LOSSES

PATHS = ("loop", "vmap", "dual")
SHAPE = (1, 3, 3)


def small_game(loss="non-saturating", r1=0.0, hidden=(6, 5), seed=0):
    random = torch.Generator().manual_seed(seed)
    return GAN(
        MetaGenerator(SHAPE, latent_dim=4, hidden=hidden, generator=random).double(),
        MetaDiscriminator(SHAPE, hidden=hidden, generator=random).double(),
        loss=loss,
        r1=r1,
    )


def small_data(tasks=3, steps=3, shots=5, seed=1):
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(tasks, shots, *SHAPE, generator=random, dtype=torch.float64)
    noise = torch.randn(
        tasks, steps, 2, shots, 4, generator=random, dtype=torch.float64
    )
    return images, noise


# --- an independent Meta-GAN inner loop: explicit weights, explicit unrolling ---


def mlp_by_hand(weights, x, end):
    for i in range(0, len(weights), 2):
        x = x @ weights[i].T + weights[i + 1]
        if i + 2 < len(weights):
            x = x * torch.sigmoid(x)
    return torch.tanh(x) if end == "tanh" else x.squeeze(-1)


def adapt_by_hand(theta, phi, images, noise, rate_g, rate_d, *, simultaneous, r1=0.0):
    """One task. Aliases make each update a partial derivative, by construction."""
    for z_d, z_g in noise:
        own_phi = [p.view_as(p) for p in phi]
        x = images.flatten(1).requires_grad_(r1 > 0)
        fake = mlp_by_hand(theta, z_d, "tanh")
        real_logits = mlp_by_hand(own_phi, x, "logit")
        fake_logits = mlp_by_hand(own_phi, fake, "logit")
        loss_d = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        if r1:
            (slope,) = torch.autograd.grad(real_logits.sum(), x, create_graph=True)
            loss_d = loss_d + r1 / 2 * slope.square().sum(1).mean()
        slopes_d = torch.autograd.grad(loss_d, own_phi, create_graph=True)
        new_phi = [p - rate_d * s for p, s in zip(phi, slopes_d)]
        own_theta = [p.view_as(p) for p in theta]
        seen_phi = phi if simultaneous else new_phi
        logits = mlp_by_hand(seen_phi, mlp_by_hand(own_theta, z_g, "tanh"), "logit")
        loss_g = F.softplus(-logits).mean()
        slopes_g = torch.autograd.grad(loss_g, own_theta, create_graph=True)
        theta = [p - rate_g * s for p, s in zip(theta, slopes_g)]
        phi = new_phi
    return theta, phi


def weights_of(game, player):
    return list(game.players[player].parameters())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize("r1", [0.0, 0.3])
def test_adapted_weights_and_their_derivatives_against_a_hand_unrolled_loop(
    path, simultaneous, r1
):
    if path == "dual" and r1:
        pytest.skip("the dual path has no penalties, and says so (tested below)")
    game, (images, noise) = small_game(r1=r1), small_data()
    theta, phi = weights_of(game, "G"), weights_of(game, "D")
    adapted = adapt(
        game,
        images,
        inner_steps=3,
        inner_lr={"G": 0.5, "D": 0.3},
        noise=noise,
        simultaneous=simultaneous,
        path=path,
    ).parameters()
    for task in range(3):
        expected = adapt_by_hand(
            theta,
            phi,
            images[task],
            noise[task],
            0.5,
            0.3,
            simultaneous=simultaneous,
            r1=r1,
        )
        for player, by_hand in zip("GD", expected):
            ours = [value[task] for value in adapted[player].values()]
            start = weights_of(game, player)
            # Compare moves, not weights: a small step must not hide in a tolerance.
            for a, b, s in zip(ours, by_hand, start):
                torch.testing.assert_close(a - s, b - s, rtol=1e-9, atol=1e-12)
            probe = [torch.randn_like(b) for b in by_hand]
            gradients = [
                torch.autograd.grad(
                    sum((w * p).sum() for w, p in zip(end, probe)),
                    theta + phi,
                    retain_graph=True,
                )
                for end in (ours, by_hand)
            ]
            torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_partial_and_total_derivative_differ_so_the_test_above_can_tell_them_apart():
    game, (images, noise) = small_game(), small_data(tasks=1, steps=1)
    theta, phi = weights_of(game, "G"), weights_of(game, "D")
    _, phi1 = adapt_by_hand(
        theta, phi, images[0], noise[0], 0.5, 0.3, simultaneous=False
    )
    logits = mlp_by_hand(phi1, mlp_by_hand(theta, noise[0, 0, 1], "tanh"), "logit")
    total = torch.autograd.grad(F.softplus(-logits).mean(), theta)
    end = adapt(game, images, inner_steps=1, inner_lr={"G": 1.0, "D": 0.3}, noise=noise)
    moved = end.parameters()["G"].values()
    partial = [(start - after[0]).detach() for start, after in zip(theta, moved)]
    gap = sum((a - b).square().sum() for a, b in zip(partial, total)).sqrt()
    assert gap / sum(a.square().sum() for a in total).sqrt() > 0.01


# --- the three paths agree ----------------------------------------------------


def hypergradients(game, images, noise, path, meta=False, **mode):
    """All four blocks dL_G/dθ, dL_G/dφ, dL_D/dθ, dL_D/dφ: name → one tensor of them."""
    adapted = adapt(
        game,
        images,
        inner_steps=noise.shape[1] - 1,
        inner_lr={"G": 0.5, "D": 0.3},
        noise=noise[:, :-1],
        path=path,
        meta=meta,
        **mode,
    )
    assert adapted.path == path
    blocks = {}
    for player in ("G", "D"):
        loss = adapted.evaluate(
            lambda nets, x, z: game.loss(player, nets, x, z),  # noqa: B023
            images.flip(1),
            noise[:, -1],
        ).mean()
        if meta:
            slopes = adapted.gradients(loss, ("G", "D"))[0]
            slopes = [s for own in slopes.values() for s in own.values()]
        else:
            slopes = torch.autograd.grad(
                loss,
                weights_of(game, "G") + weights_of(game, "D"),
                retain_graph=True,
                allow_unused=True,
            )
        names = [f"{p}.{name}" for p in ("G", "D") for name in game.parameters()[p]]
        for name, slope in zip(names, slopes, strict=True):
            blocks[f"dL_{player}/d {name}"] = slope
    return blocks


# The ways to a hypergradient: a path, differentiated by autograd or by itself.
FAST = [("vmap", False), ("vmap", True), ("dual", False), ("dual", True)]


def worst_error(found, expected):
    """The largest ‖a − b‖/‖b‖ of a tensor; both must lack the same ones.

    A tensor that is zero but for rounding, like the gradient of a Wasserstein critic's
    last bias, has no relative error: there the largest tensor is the scale.
    """
    missing = [name for name, b in expected.items() if b is None]
    assert missing == [name for name, a in found.items() if a is None]
    norms = {name: b.norm() for name, b in expected.items() if b is not None}
    largest = max(norms.values())
    return max(
        float((found[name].to(expected[name]) - expected[name]).norm())
        / float(norm if norm > 1e-12 * largest else largest)
        for name, norm in norms.items()
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_fast_paths_equal_the_loop(loss, first_order, simultaneous, steps):
    game, (images, noise) = small_game(loss), small_data(steps=steps + 1)
    mode = {"first_order": first_order, "simultaneous": simultaneous}
    expected = hypergradients(game, images, noise, "loop", **mode)
    assert sum(b is not None and b.norm() > 1e-3 for b in expected.values()) >= 4
    for path, meta in FAST:
        found = hypergradients(game, images, noise, path, meta, **mode)
        assert worst_error(found, expected) < 1e-12


@pytest.mark.parametrize("steps", range(1, 11))
def test_fast_paths_equal_the_loop_after_every_number_of_steps(steps):
    images, noise = small_data(steps=steps + 1)
    expected = hypergradients(small_game(), images, noise, "loop")
    for path, meta in FAST:
        found = hypergradients(small_game(), images, noise, path, meta)
        assert worst_error(found, expected) < 1e-12


def test_an_objective_that_uses_a_parameter_directly_keeps_that_gradient():
    game, (images, noise) = small_game(), small_data(steps=2)
    weight = game.players["G"][0].weight
    found = {}
    for path in PATHS:
        rates = {"inner_steps": 2, "inner_lr": 0.1}
        adapted = adapt(game, images, **rates, noise=noise, path=path, meta=True)
        loss = adapted.evaluate(
            lambda nets, x, z: game.loss("G", nets, x, z), images, noise[:, 0]
        ).mean()
        found[path] = adapted.gradients(loss + weight.square().sum(), ["G"])[0]["G"]
        by_loss = adapted.gradients(loss, ["G"])[0]["G"]["0.weight"]
        direct = found[path]["0.weight"] - by_loss
        torch.testing.assert_close(direct, 2 * weight.detach())
    for path in ("vmap", "dual"):
        assert worst_error(found[path], found["loop"]) < 1e-12


def test_the_dual_path_frees_what_it_kept():
    # Graph and ledger point at each other; neither may keep the other alive.
    game, (images, noise) = small_game(), small_data(steps=2)
    options = {"inner_steps": 2, "inner_lr": 0.1, "path": "dual", "meta": True}
    gc.collect()
    gc.disable()
    try:
        adapted = adapt(game, images, noise=noise, **options)
        ledger = weakref.ref(adapted._steps.shared["G"].ledger)
        loss = adapted.evaluate(
            lambda nets, x, z: game.loss("G", nets, x, z), images, noise[:, 0]
        ).mean()
        product = weakref.ref(ledger().pairs["0", False][0][1])
        adapted.gradients(loss, ["G", "D"])
        del adapted, loss
        assert ledger() is None and product() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("hidden, form", [((200,), "keys"), ((3, 2), "weight")])
def test_dual_path_in_both_of_its_forms(hidden, form):
    # Wide layers keep pairs (attention); narrow ones sum them (fast weights).
    game, (images, noise) = small_game(hidden=hidden), small_data(steps=2, shots=2)
    expected = hypergradients(game, images, noise, "loop")
    for path, meta in FAST:
        found = hypergradients(game, images, noise, path, meta)
        assert worst_error(found, expected) < 1e-12
    steps = DualSteps(game, simultaneous=False, first_order=False)
    rates = {p: dict.fromkeys(own, 0.1) for p, own in game.parameters().items()}
    state = steps.step(steps.start(game.parameters(), 3), images, noise[:, 0], rates)
    first_of_d = state["D"]["1"]
    assert (first_of_d.keys is not None) == (form == "keys")
    assert (first_of_d.weight is not None) == (form == "weight")


def test_layers_without_bias():
    torch.manual_seed(0)
    images, noise = small_data(shots=2)  # few pairs: both forms occur
    nets = (
        nn.Sequential(nn.Linear(4, 9, bias=False), nn.Unflatten(1, SHAPE)),
        nn.Sequential(
            nn.Flatten(), nn.Linear(9, 90, bias=False), nn.SiLU(), nn.Linear(90, 1)
        ),
    )
    game = GAN(*(net.double() for net in nets), latent_dim=4)
    expected = hypergradients(game, images, noise, "loop")
    for path, meta in FAST:
        found = hypergradients(game, images, noise, path, meta)
        assert worst_error(found, expected) < 1e-12


def test_vmap_equals_the_loop_with_r1_and_convolutions():
    random = torch.Generator().manual_seed(0)
    game = GAN(
        ConvGenerator((1, 8, 8), latent_dim=4, channels=4, generator=random).double(),
        ConvDiscriminator((1, 8, 8), channels=2, generator=random).double(),
        r1=0.1,
    )
    images = torch.randn(2, 3, 1, 8, 8, generator=random, dtype=torch.float64)
    noise = game.noise(2, 2, 3, generator=random)
    expected = hypergradients(game, images, noise, "loop")
    found = hypergradients(game, images, noise, "vmap")
    assert worst_error(found, expected) < 1e-12


def test_float32_is_as_good_as_the_loop(device):
    images, noise = small_data(steps=6)
    exact = hypergradients(small_game(), images, noise, "loop")
    game = small_game()
    for net in game.players.values():
        net.float().to(device)
    data = images.float().to(device), noise.float().to(device)
    errors = {
        way: worst_error(hypergradients(game, *data, *way), exact)
        for way in [("loop", False), *FAST]
    }
    for way in FAST:
        assert errors[way] <= max(1e-5, 3 * errors["loop", False])


# --- which path, and when -----------------------------------------------------


def path_of(game, images, **options):
    return adapt(game, images, inner_steps=1, inner_lr=0.1, **options).path


def test_auto_takes_the_dual_path_where_it_can_and_vmap_elsewhere():
    images, _ = small_data()
    assert path_of(small_game(), images) == "dual"
    assert path_of(small_game(r1=0.1), images) == "vmap"
    with pytest.raises(ValueError, match="dual path cannot run.*penalty"):
        path_of(small_game(r1=0.1), images, path="dual")
    conv = GAN(ConvGenerator(latent_dim=4, channels=4), ConvDiscriminator(channels=4))
    assert path_of(conv, torch.randn(2, 2, 1, 28, 28)) == "vmap"
    with pytest.raises(ValueError, match="loop; got 'fast'"):
        path_of(small_game(), images, path="fast")


class Tied(nn.Module):
    """Uses one Linear's weight a second time, behind its back."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(9, 9)

    def forward(self, x):
        return (torch.tanh(self.first(x.flatten(1))) @ self.first.weight).sum(1)


class Mixed(nn.Module):
    """Lets the samples of a batch see each other."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(9, 1)

    def forward(self, x):
        x = x.flatten(1)
        return self.last(x * x.std(0))


class Functional(nn.Module):
    """Never calls its Linear."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(9, 1)

    def forward(self, x):
        return F.linear(x.flatten(1), self.last.weight, self.last.bias)


class Shared(nn.Module):
    """Two Linear layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(9, 9), nn.Linear(9, 9)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.flatten(1)))).sum(1)


def spectral():
    """Old-style spectral normalisation: its weight is computed from another."""
    return nn.Sequential(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(9, 1)))


@pytest.mark.parametrize("critic", [Tied, Mixed, Functional, Shared])
def test_the_dual_path_notices_nets_that_it_would_get_wrong(critic):
    torch.manual_seed(0)
    images, noise = small_data()
    game = GAN(small_game().players["G"], critic().double())
    assert path_of(game, images) == "vmap"
    with pytest.raises(ValueError, match="dual path cannot run here"):
        path_of(game, images, path="dual")
    expected = hypergradients(game, images, noise, "loop")
    found = hypergradients(game, images, noise, "vmap")
    assert worst_error(found, expected) < 1e-12


def test_without_a_step_to_compare_nothing_is_assumed():
    game = GAN(small_game().players["G"], Mixed().double())
    images, _ = small_data()
    ends = [
        adapt(game, images, inner_steps=0, inner_lr=0.1, path=path)["D"](images)
        for path in ("auto", "loop")
    ]
    torch.testing.assert_close(*ends)


def test_a_failed_step_is_not_held_against_the_nets():
    game, (images, _) = small_game(), small_data()
    broken = game.parameters()
    broken["D"] = {k: torch.full_like(v, math.nan) for k, v in broken["D"].items()}
    path_of(game, images, params=broken)
    assert path_of(game, images) == "dual"


def test_spectral_norm_and_a_layer_that_the_loss_does_not_need():
    images, noise = small_data()
    generator = small_game().players["G"]
    with warnings.catch_warnings():  # deprecated in some versions of torch
        warnings.simplefilter("ignore", FutureWarning)
        critic = spectral().double().eval()
    assert path_of(GAN(generator, critic), images) == "vmap"

    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(9, 1), nn.Linear(9, 1)

        def forward(self, x):
            self.spare(x.flatten(1))
            return self.used(x.flatten(1))

    game = GAN(generator, Spare().double())
    expected = hypergradients(game, images, noise, "loop")
    found = hypergradients(game, images, noise, "dual")
    assert worst_error(found, expected) < 1e-12


@pytest.mark.parametrize("path", PATHS)
def test_frozen_parameters_and_layers_with_rate_zero_stay(path):
    game, (images, noise) = small_game(), small_data()
    game.players["G"][0].requires_grad_(False)
    rates = {"G": 0.5, "D": {"1": 0.0, "3": 0.3, "5": 0.3}}
    ends = adapt(
        game, images, inner_steps=3, inner_lr=rates, noise=noise, path=path
    ).parameters()
    for player, own in game.parameters().items():
        for name, start in own.items():
            moved = (ends[player][name] - start).abs().max() > 0
            stays = (player, name[0]) in (("G", "0"), ("D", "1"))
            assert bool(moved) != stays, (player, name)
    expected = adapt(
        game, images, inner_steps=3, inner_lr=rates, noise=noise, path="loop"
    ).parameters()
    torch.testing.assert_close(
        ends["D"]["3.weight"], expected["D"]["3.weight"], rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("path", PATHS)
def test_another_initialisation_in_place_of_the_nets_own(path):
    game, other, (images, noise) = small_game(), small_game(seed=7), small_data()
    options = {"inner_steps": 3, "inner_lr": 0.3, "noise": noise, "path": path}
    given = adapt(game, images, params=other.parameters(), **options)["G"]
    own = adapt(other, images, **options)["G"]
    z = noise[:, 0, 0]
    torch.testing.assert_close(given(z), own(z), rtol=1e-10, atol=1e-13)


def test_steps_made_without_grad_stay_so_wherever_they_are_consumed():
    game, (images, noise) = small_game(), small_data()
    with torch.no_grad():
        states = adaptation_steps(game, images, inner_lr=0.3, noise=noise)
    assert not list(states)[-1]["G"](noise[:, 0, 0]).requires_grad


# --- first order, no grad, rates ----------------------------------------------


def test_first_order_moves_alike_and_drops_exactly_the_slopes_of_the_inner_gradients():
    game, (images, noise) = small_game(), small_data(steps=2)
    ends = [
        adapt(
            game, images, inner_steps=2, inner_lr=0.3, noise=noise, first_order=first
        ).parameters()["G"]["0.weight"]
        for first in (False, True)
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=1e-13)
    probe = torch.randn_like(ends[1])
    slope = torch.autograd.grad((ends[1] * probe).sum(), weights_of(game, "G")[0])[0]
    torch.testing.assert_close(slope, probe.sum(0))  # d(θ − α·constant)/dθ = I


def test_first_order_gives_no_gradient_to_the_other_player():
    game, (images, noise) = small_game(), small_data(steps=2)
    for path in PATHS:
        adapted = adapt(
            game,
            images,
            inner_steps=2,
            inner_lr=0.3,
            noise=noise,
            first_order=True,
            path=path,
        )
        samples = adapted["G"](noise[:, 0, 0])
        slopes = torch.autograd.grad(
            samples.sum(), weights_of(game, "D"), allow_unused=True
        )
        assert slopes == (None,) * len(slopes)


@pytest.mark.parametrize("path", PATHS)
def test_no_grad_gives_the_same_samples_without_a_graph(path):
    game, (images, noise) = small_game(), small_data()
    options = {"inner_steps": 3, "inner_lr": 0.3, "noise": noise, "path": path}
    with_graph = adapt(game, images, **options)["G"](noise[:, 0, 0])
    with torch.no_grad():
        without = adapt(game, images, **options)["G"](noise[:, 0, 0])
    assert with_graph.requires_grad and not without.requires_grad
    torch.testing.assert_close(with_graph.detach(), without, rtol=1e-12, atol=1e-14)


def test_steps_yield_every_state_and_adapt_the_last():
    game, (images, noise) = small_game(), small_data()
    states = list(adaptation_steps(game, images, inner_lr=0.3, noise=noise))
    assert len(states) == 4
    start = states[0].parameters()["D"]["1.weight"]
    torch.testing.assert_close(start[2], weights_of(game, "D")[0])
    last = adapt(game, images, inner_steps=3, inner_lr=0.3, noise=noise)
    a, b = states[-1].parameters()["G"], last.parameters()["G"]
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("path", PATHS)
def test_rates_per_player_layer_and_step(path):
    game, (images, noise) = small_game(), small_data(steps=2)
    by_step = torch.tensor([0.1, 0.2], dtype=torch.float64)
    detailed = {"G": {"0": 0.05, "2": by_step, "4": [0.1, 0.2]}, "D": [0.3, 0.4]}
    ours = adapt(
        game, images, inner_steps=2, inner_lr=detailed, noise=noise, path=path
    ).parameters()
    # The same, one step at a time with plain numbers, continued from where it stood.
    theta, phi = weights_of(game, "G"), weights_of(game, "D")
    for step, (of_g, of_d) in ((0, (0.1, 0.3)), (1, (0.2, 0.4))):
        rates = [0.05, 0.05, *4 * [of_g]]
        moved, phi_after = adapt_by_hand(
            theta,
            phi,
            images[0],
            noise[0, step : step + 1],
            1.0,
            of_d,
            simultaneous=False,
        )
        theta = [p + r * (m - p) for p, m, r in zip(theta, moved, rates)]
        phi = phi_after
    for by_hand, player in ((theta, "G"), (phi, "D")):
        for a, b in zip(ours[player].values(), by_hand):
            torch.testing.assert_close(a[0], b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("path", PATHS)
def test_learned_rates_get_their_gradient(path):
    game, (images, noise) = small_game(), small_data(steps=2)
    rates = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)

    def loss(rates):
        end = adapt(
            game,
            images,
            inner_steps=2,
            inner_lr={"G": rates, "D": 0.1},
            noise=noise,
            path=path,
        )
        return end["G"](noise[:, 0, 0]).square().sum()

    assert torch.autograd.gradcheck(loss, rates)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"inner_lr": 0.0}, "inner_lr > 0, got 0.0 for D"),
        ({"inner_lr": {"G": 0.1, "D": -1.0}}, "got -1.0 for D"),
        ({"inner_lr": {"G": 0.1}}, r"each of \['D', 'G'\], got \['G'\]"),
        ({"inner_lr": {"G": {"0": 0.1}, "D": 0.1}}, r"'2', '4'\], .* got \['0'\]"),
        ({"inner_lr": torch.ones(3, 2)}, "number per step, got tensor"),
        ({"inner_lr": "fast"}, "number or one number per step, got 'f'"),
        ({"inner_lr": math.nan}, "inner_lr > 0, got nan"),
        ({"inner_lr": torch.tensor([0.1, 0.1])}, "step 3 of D, got 2"),
        ({"inner_steps": -1}, "inner_steps must be .* at least 0, got -1"),
        ({"data": torch.full((3, 5, *SHAPE), math.nan)}, "135 that are NaN"),
        ({"data": torch.zeros(2, 5, *SHAPE).double()}, r"got 3 and \[2\]"),
        ({"data": torch.zeros(3, 5, 1, 4, 4).double()}, r"\[T, K, 1, 3, 3\].*1, 4, 4"),
        ({"data": torch.zeros(3, 5, *SHAPE)}, "torch.float64.*torch.float32"),
        ({"data": SineTasks().sample(3, shots=5, query_shots=1)}, "take batch.support"),
        ({"inner_steps": 2}, "noise for 2 steps, got 3"),
        ({"samples": 0, "noise": None}, "samples must be .* at least 1, got 0"),
    ],
)
def test_bad_input_is_named_in_one_line(options, words):
    images, noise = small_data()
    arguments = {"data": images, "inner_lr": 0.1, "inner_steps": 3, "noise": noise}
    arguments |= options
    with pytest.raises(ValueError, match=words) as error:
        adapt(small_game(), arguments.pop("data"), **arguments)
    assert "\n" not in str(error.value)


# --- one player: MAML ---------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_one_player_linear_regression_in_closed_form(path):
    # L(w) = mean (xw − y)²: one step is w − α·2Xᵀ(Xw − y)/K, and its derivative in w is
    # I − αH with H = 2XᵀX/K (Finn et al. 2017): MAML's (I − αH)g.
    torch.manual_seed(0)
    net = nn.Linear(3, 1, bias=False).double()
    x, y = torch.randn(2, 6, 3).double(), torch.randn(2, 6, 1).double()
    adapted = adapt(
        Supervised(net, "squared-error"), (x, y), inner_steps=1, inner_lr=0.2, path=path
    )
    for task in range(2):
        hessian = 2 * x[task].T @ x[task] / 6
        w = net.weight.detach().squeeze()
        expected = w - 0.2 * (hessian @ w - 2 * x[task].T @ y[task].squeeze() / 6)
        end = adapted.parameters()["net"]["weight"][task].squeeze()
        torch.testing.assert_close(end, expected)
        jacobian = torch.stack(
            [torch.autograd.grad(e, net.weight, retain_graph=True)[0][0] for e in end]
        )
        torch.testing.assert_close(jacobian, torch.eye(3).double() - 0.2 * hessian)


def test_maml_on_sines_and_on_a_classifier_with_a_loss_of_one_s_own():
    sines = SineTasks().sample(4, shots=10, query_shots=5)
    net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1))
    game = Supervised(net, "squared-error")
    before = adapt(game, game.support(sines), inner_steps=0, inner_lr=0.01)
    after = adapt(game, game.support(sines), inner_steps=20, inner_lr=0.01)
    fit = [
        a.evaluate(lambda nets, d: game.loss("net", nets, d, None), game.support(sines))
        for a in (before, after)
    ]
    assert (fit[1] < fit[0]).all()

    digits = load_tasks("digits").sample(2, shots=3, query_shots=3, ways=4)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    named = Supervised(classifier, "cross-entropy")
    own = Supervised(classifier, F.cross_entropy)
    ends = [
        adapt(game, game.support(digits), inner_steps=2, inner_lr=0.1)
        for game in (named, own)
    ]
    assert [end.path for end in ends] == ["dual", "vmap"]
    a, b = (end.parameters()["net"]["1.weight"] for end in ends)
    start = classifier[1].weight
    torch.testing.assert_close(a - start, b - start, rtol=1e-4, atol=1e-6)
