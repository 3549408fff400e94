"""Inner rates: what may be given, gradients in them, and learning them."""

import dataclasses
import math

import pytest
import torch
from test_meta import nets, small_problem
from torch import nn

from metagan_lite import (
    GAN,
    MetaGANConfig,
    SineTasks,
    Supervised,
    TaskBatch,
    adapt,
    load_meta_gan,
    load_tasks,
    meta_gradients,
    train_meta,
    train_meta_gan,
)
from metagan_lite.evaluate import evaluate_meta_gan
from metagan_lite.rates import LearnedRates, per_step, rates_at


def regression():
    """One player, T = 3 tasks, float64."""
    random = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)
    batch = TaskBatch(draw(3, 5, 2), draw(3, 6, 2), draw(3, 5, 1), draw(3, 6, 1))
    return Supervised(net, "squared-error"), batch


def elementwise(game, seed=0, grad=True):
    random = torch.Generator().manual_seed(seed)
    return {
        player: {
            name: (
                0.1 * torch.randn(p.shape, generator=random, dtype=p.dtype)
            ).requires_grad_(grad)
            for name, p in own.items()
        }
        for player, own in game.trainable().items()
    }


# --- what may be given --------------------------------------------------------


@pytest.mark.parametrize("path", ["loop", "vmap", "auto"])
def test_a_rate_for_each_number_scales_each_number_of_the_step(path):
    game, batch = regression()
    rates = elementwise(game, grad=False)
    ends = adapt(
        game, game.support(batch), inner_steps=1, inner_lr=rates, path=path
    ).parameters()["net"]
    net = game.players["net"]
    for task in range(3):
        loss = (net(batch.support[task]) - batch.support_targets[task]).square().mean()
        slopes = torch.autograd.grad(loss, list(net.parameters()))
        for (name, value), slope in zip(net.named_parameters(), slopes):
            step = rates["net"][name] * slope
            torch.testing.assert_close(ends[name][task], value - step)
            assert step.abs().max() > 1e-6


def test_parameters_without_a_rate_stay_and_auto_leaves_the_dual_path():
    game, batch = regression()
    rates = {"net": {"2.weight": 0.1}}
    adapted = adapt(game, game.support(batch), inner_steps=2, inner_lr=rates)
    assert adapted.path == "vmap"  # a layer whose bias stays is no rank-one change
    ends, start = adapted.parameters()["net"], game.parameters()["net"]
    moved = {name for name in ends if not torch.equal(ends[name][0], start[name])}
    assert moved == {"2.weight"}


def test_numbers_per_parameter_that_agree_within_layers_keep_the_dual_path():
    game, batch = regression()
    by_layer = {"net": {"0": 0.1, "2": [0.2, 0.3]}}
    spelled = per_step(game, by_layer, 2)
    assert spelled["net"]["2.bias"] == [0.2, 0.3]
    found = [
        adapt(game, game.support(batch), inner_steps=2, inner_lr=rates)
        for rates in (by_layer, spelled)
    ]
    assert [adapted.path for adapted in found] == ["dual", "dual"]
    for name, value in found[0].parameters()["net"].items():
        assert torch.equal(value, found[1].parameters()["net"][name])


def test_past_the_given_steps_the_last_rate_goes_on():
    game, _ = regression()
    found = per_step(game, {"net": {"0": [0.3, 0.0], "2": torch.tensor(0.1)}}, 4)["net"]
    assert found["0.weight"] == [0.3, 0.0, 0.0, 0.0]
    assert found["2.bias"] == [0.1] * 4
    of_all = per_step(game, torch.tensor([0.5, 0.25]), 3)["net"]["0.bias"]
    assert of_all == [0.5, 0.25, 0.25]


def test_a_name_that_is_neither_layer_nor_parameter_is_refused():
    game, _ = regression()
    with pytest.raises(ValueError, match=r"for some of its parameters, got \['body'\]"):
        rates_at(game, {"net": {"body": 0.1}}, 0)
    with pytest.raises(ValueError, match="expected inner_lr > 0, got -0.1"):
        rates_at(game, {"net": {"0.bias": -0.1}}, 0)
    with pytest.raises(ValueError, match="number per step, got tensor"):
        rates_at(game, {"net": {"0.bias": torch.ones(4, 4)}}, 0)


# --- gradients in rates -------------------------------------------------------


def test_the_slope_of_the_loss_in_a_rate_is_minus_outer_times_inner_slope():
    """Meta-SGD: ∂L/∂α = −g_out ⊙ g_in after one step."""
    game, batch = regression()
    batch = batch[:1]
    rates = elementwise(game)
    found = meta_gradients(game, batch, inner_steps=1, inner_lr=rates).rates["net"]
    net = game.players["net"]
    inner = torch.autograd.grad(
        (net(batch.support[0]) - batch.support_targets[0]).square().mean(),
        list(net.parameters()),
    )
    start = [p.detach().clone() for p in net.parameters()]
    with torch.no_grad():
        for p, slope, rate in zip(net.parameters(), inner, rates["net"].values()):
            p -= rate * slope
    outer = torch.autograd.grad(
        (net(batch.query[0]) - batch.query_targets[0]).square().mean(),
        list(net.parameters()),
    )
    with torch.no_grad():
        for p, value in zip(net.parameters(), start):
            p.copy_(value)
    assert list(found) == [(name,) for name in rates["net"]]
    for slope, g_out, g_in in zip(found.values(), outer, inner):
        torch.testing.assert_close(slope, -g_out * g_in, rtol=1e-9, atol=1e-12)
        assert slope.abs().max() > 1e-6


@pytest.mark.parametrize("objective", ["adversarial", "coop-mmd", "refreshed-d"])
@pytest.mark.parametrize("path", ["dual", "vmap", "loop"])
def test_slopes_in_rates_are_finite_differences(objective, path):
    game, batch, noise = small_problem(objective)
    kwargs = {"inner_steps": 3, "objective": objective, "noise": noise, "path": path}
    layers = {
        player: sorted({name.rpartition(".")[0] for name in own})
        for player, own in game.trainable().items()
    }
    values = {
        player: {
            layer: [
                torch.tensor(
                    0.2 + 0.1 * i + 0.05 * s, dtype=torch.float64, requires_grad=True
                )
                for s in range(3)
            ]
            for i, layer in enumerate(own)
        }
        for player, own in layers.items()
    }
    found = meta_gradients(game, batch, inner_lr=values, **kwargs)
    follows = {"adversarial": {"G": "G", "D": "D"}, "refreshed-d": {"G": "G", "D": "D"}}
    h = 1e-5
    for player, layer, step in (
        ("G", layers["G"][0], 0),
        ("G", layers["G"][-1], 2),
        ("D", layers["D"][0], 1),
        ("D", layers["D"][-1], 0),
    ):
        term = follows.get(objective, {}).get(player, "mmd")
        rate, ends = values[player][layer][step], []
        for sign in (1, -1):
            with torch.no_grad():
                rate.add_(sign * h)
            losses = meta_gradients(game, batch, inner_lr=values, **kwargs).losses
            ends.append(losses[term].item())
            with torch.no_grad():
                rate.sub_(sign * h)
        slope = found.rates[player][layer, step]
        expected = (ends[0] - ends[1]) / (2 * h)
        assert slope.item() == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert abs(expected) > 1e-7


# --- weights of steps, clipping of tasks ---------------------------------------


def test_step_weights_weigh_the_outer_loss_of_each_step():
    game, batch, noise = small_problem()
    inner = {"inner_lr": {"G": 0.5, "D": 0.3}}
    weights = (0.2, 0.0, 0.8)
    found = meta_gradients(
        game, batch, inner_steps=3, noise=noise, step_weights=weights, **inner
    )
    parts = {
        steps: meta_gradients(
            game,
            batch,
            inner_steps=steps,
            noise=(noise[0][:, :steps], noise[1]),
            **inner,
        )
        for steps in (1, 3)
    }
    for player, own in found.grads.items():
        for name, slope in own.items():
            expected = sum(
                weights[s - 1] * part.grads[player][name] for s, part in parts.items()
            )
            torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-12)
    expected = sum(weights[s - 1] * part.losses["G"] for s, part in parts.items())
    torch.testing.assert_close(found.losses["G"], expected)
    for wrong in ((1.0,), (0.0, 0.0, 0.0), (1.0, -1.0, 1.0)):
        with pytest.raises(ValueError, match="step_weights ≥ 0 for each of 3"):
            meta_gradients(
                game, batch, inner_steps=3, noise=noise, step_weights=wrong, **inner
            )


def test_task_clip_bounds_each_task_before_the_mean():
    game, batch, noise = small_problem()
    inner = {"inner_steps": 3, "inner_lr": {"G": 0.5, "D": 0.3}}
    alone = [
        meta_gradients(
            game,
            batch[t : t + 1],
            noise=(noise[0][t : t + 1], noise[1][t : t + 1]),
            **inner,
        ).grads
        for t in range(3)
    ]

    def norm(own):
        return math.sqrt(sum(g.square().sum().item() for g in own.values()))

    norms = sorted(norm(grads["G"]) for grads in alone)
    clip = (norms[0] + norms[2]) / 2  # some are clipped, and some are not
    found = meta_gradients(game, batch, noise=noise, task_clip=clip, **inner).grads
    for player, own in found.items():
        for name, slope in own.items():
            expected = sum(
                g[player][name] * min(1.0, clip / norm(g[player])) for g in alone
            ) / len(alone)
            torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-12)


# --- learning them ------------------------------------------------------------


def learned_run(kind, folder=None, **options):
    tasks = load_tasks("digits", rotations=True)
    config = MetaGANConfig(
        meta_steps=12, meta_batch_size=3, shots=5, query_shots=5, inner_steps=2
    )
    config = dataclasses.replace(config, learned_lr=kind)
    return train_meta_gan(
        *nets(), tasks, config, progress=False, checkpoint=folder, **options
    )


@pytest.mark.parametrize("kind", ["layer", "layer-step", "parameter"])
def test_learned_rates_move_are_stored_and_resume(kind, tmp_path):
    whole = learned_run(kind, tmp_path / "whole")

    def stop(step, *_):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned_run(kind, tmp_path / "parts", callback=stop)
    resumed = learned_run(kind, tmp_path / "parts", resume=True)
    loaded = load_meta_gan(*nets(), tmp_path / "whole")
    start = whole.config.inner_lr
    for player, own in whole.inner_lr.items():
        for name, steps in own.items():
            assert len(steps) == 2
            for s, rate in enumerate(steps):
                assert torch.equal(rate, resumed.inner_lr[player][name][s])
                assert torch.equal(rate, loaded.inner_lr[player][name][s])
                assert not rate.requires_grad
            shape = whole.game.parameters()[player][name].shape
            assert steps[0].shape == (shape if kind == "parameter" else ())
            assert not torch.equal(steps[0], torch.full_like(steps[0], start[player]))
            differs = not torch.equal(steps[0], steps[1])
            assert differs == (kind == "layer-step")
    # It can adapt and be scored past the steps that it has rates for.
    held_out = load_tasks("digits", "meta-test")
    card = evaluate_meta_gan(
        loaded, held_out, nn.Flatten(), scratch=GAN(*nets()), inner_steps=(2, 6)
    )
    assert card.row("Meta-GAN", 6).scores["KID"][0] < 100
    path = loaded.adapt(held_out.sample(2, shots=5, query_shots=1).support).path
    assert path == ("vmap" if kind == "parameter" else "dual")


def test_a_learned_rate_finds_the_better_rate():
    """α for a quadratic: the support loss is (w − c)², whose best step is 1/2."""

    class Points(SineTasks):
        def sample(self, meta_batch_size, *, shots, query_shots, generator=None):
            c = torch.randn(meta_batch_size, 1, 1, generator=generator)
            ones = torch.ones(meta_batch_size, 1, 1)
            return TaskBatch(ones, ones, c, c)

    net = nn.Linear(1, 1, bias=False)
    config = MetaGANConfig(
        meta_steps=400,
        meta_batch_size=4,
        shots=1,
        query_shots=1,
        inner_steps=1,
        inner_lr=0.1,
        learned_lr="layer",
        objective="query-loss",
        outer_lr=0.02,
        ema=0.9,
    )
    trained = train_meta(
        Supervised(net, "squared-error"), Points(), config, progress=False
    )
    (rate,) = trained.inner_lr["net"]["weight"]
    assert rate.item() == pytest.approx(0.5, abs=0.03)


def test_reptile_and_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="Reptile has no outer loss"):
        MetaGANConfig(algorithm="reptile", learned_lr="layer")
    with pytest.raises(ValueError, match="learned_lr None or among layer"):
        MetaGANConfig(learned_lr="all")
    with pytest.raises(ValueError, match="learned_lr among layer"):
        LearnedRates(regression()[0], 0.1, 1, "all")
    with pytest.raises(ValueError, match="expected task_clip > 0"):
        MetaGANConfig(task_clip=0.0)


def test_frozen_layers_have_no_rate_to_learn():
    """ANIL with learned rates: a rate of 0 stays 0."""
    game, _ = regression()
    rates = LearnedRates(game, {"net": {"0": 0.0, "2": 0.1}}, 2, "layer-step")
    assert list(rates.named) == ["net.2"]
    assert set(rates.inner_lr()["net"]) == {"2.weight", "2.bias"}
