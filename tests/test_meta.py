"""Hypergradients against finite differences; training runs, stops, and resumes."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

from metagan_lite import (
    GAN,
    DiracTasks,
    MetaDiscriminator,
    MetaGANConfig,
    MetaGenerator,
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
from metagan_lite.losses import mmd_loss
from metagan_lite.meta import default_inner_lr
from metagan_lite.objectives import CoopMMD, RefreshedD, _levels, make_objective

INNER = {"inner_steps": 3, "inner_lr": {"G": 0.5, "D": 0.3}}


def small_problem(objective="adversarial", loss="non-saturating", tasks=3):
    random = torch.Generator().manual_seed(0)
    options = {"hidden": (5, 4), "generator": random}
    game = GAN(
        MetaGenerator((1, 4, 4), latent_dim=3, **options).double(),
        MetaDiscriminator((1, 4, 4), **options).double(),
        loss=loss,
    )
    images = torch.rand(tasks, 10, 1, 4, 4, generator=random, dtype=torch.float64)
    batch = TaskBatch(images[:, :5], images[:, 5:])
    noise = (
        game.noise(tasks, 3, 5, generator=random),
        game.noise(tasks, 1, 6 if objective == "coop-mmd" else 5, generator=random)[
            :, 0
        ],
    )
    return game, batch, noise


def central_difference(function, tensor, direction, h=1e-5):
    start, ends = tensor.detach().clone(), []
    for sign in (1, -1):
        with torch.no_grad():
            tensor.copy_(start + sign * h * direction)
        ends.append(function())
    with torch.no_grad():
        tensor.copy_(start)
    return (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize("path", ["loop", "vmap", "dual"])
@pytest.mark.parametrize("objective", ["adversarial", "refreshed-d", "coop-mmd"])
@pytest.mark.parametrize("loss", ["non-saturating", "relativistic"])
def test_maml_hypergradients_are_total_derivatives(path, objective, loss):
    game, batch, noise = small_problem(objective, loss)
    options = {**INNER, "objective": objective, "noise": noise, "path": path}
    result = meta_gradients(game, batch, **options)
    followed = {
        "adversarial": {"D": "D", "G": "G"},
        "refreshed-d": {"D": "D", "G": "G"},
        "coop-mmd": {"D": "mmd", "G": "mmd"},
    }
    torch.manual_seed(1)
    for player, term in followed[objective].items():
        for name, parameter in game.parameters()[player].items():
            direction = torch.randn_like(parameter)
            slope = central_difference(
                lambda: meta_gradients(game, batch, **options).losses[term],  # noqa: B023
                parameter,
                direction,
            )
            ours = (result.grads[player][name] * direction).sum()
            torch.testing.assert_close(ours, slope, rtol=1e-5, atol=1e-8)


def test_coop_mmd_adds_the_discriminator_s_own_loss_to_d_alone():
    game, batch, noise = small_problem("coop-mmd")

    def grads(objective):
        return meta_gradients(
            game,
            batch,
            **INNER,
            objective=objective,
            noise=(noise[0], noise[1][..., :5, :]),
        )

    plain, mixed = grads(CoopMMD()), grads(CoopMMD(discriminator=0.1))
    own = grads("adversarial")
    for name, slope in mixed.grads["D"].items():
        expected = plain.grads["D"][name] + 0.1 * own.grads["D"][name]
        torch.testing.assert_close(slope, expected)
    for name, slope in mixed.grads["G"].items():
        torch.testing.assert_close(slope, plain.grads["G"][name])


def test_fomaml_is_the_gradient_at_the_adapted_players():
    game, batch, noise = small_problem()
    result = meta_gradients(game, batch, **INNER, noise=noise, algorithm="fomaml")
    ends = adapt(game, batch.support, **INNER, noise=noise[0]).parameters()
    expected = {"G": 0, "D": 0}
    for task in range(3):
        own = {
            player: {k: v[task].detach().requires_grad_() for k, v in end.items()}
            for player, end in ends.items()
        }
        nets = {
            player: lambda x, player=player: torch.func.functional_call(
                game.players[player],
                own[player],
                (x,),  # noqa: B023
            )
            for player in own
        }
        for player in ("G", "D"):
            loss = game.loss(player, nets, batch.query[task], noise[1][task])
            slopes = torch.autograd.grad(loss, list(own[player].values()))
            expected[player] += torch.cat([s.flatten() for s in slopes]) / 3
    for player in ("G", "D"):
        got = torch.cat([g.flatten() for g in result.grads[player].values()])
        torch.testing.assert_close(got, expected[player])


def test_reptile_is_the_mean_move():
    game, batch, noise = small_problem()
    result = meta_gradients(game, batch, **INNER, noise=noise, algorithm="reptile")
    ends = adapt(game, batch.support, **INNER, noise=noise[0]).parameters()
    for player in ("G", "D"):
        for name, start in game.parameters()[player].items():
            move = start - ends[player][name].mean(0)
            assert move.norm() > 0
            torch.testing.assert_close(result.grads[player][name], move)


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "reptile"])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_chunks_of_tasks_add_up(algorithm, size):
    game, batch, noise = small_problem(tasks=5)
    whole, parts = (
        meta_gradients(
            game, batch, **INNER, noise=noise, algorithm=algorithm, task_chunk_size=s
        )
        for s in (None, size)
    )
    torch.testing.assert_close(whole.losses, parts.losses, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(whole.grads, parts.grads, rtol=1e-10, atol=1e-14)


def test_chunks_draw_the_same_noise():
    game, batch, _ = small_problem(tasks=5)
    ends = [
        meta_gradients(
            game,
            batch,
            **INNER,
            task_chunk_size=size,
            generator=torch.Generator().manual_seed(3),
        ).grads
        for size in (None, 2)
    ]
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match="task_chunk_size must be .* got 0"):
        meta_gradients(game, batch, **INNER, task_chunk_size=0)


def test_the_real_data_term_reaches_the_generator_only_through_the_adapted_d():
    # L_G never sees a real image, yet the support decides its meta-gradient; detached
    # fakes in D's inner step would cut this path.
    game, batch, noise = small_problem()
    other = dataclasses.replace(batch, support=-batch.support)
    one, two = (
        meta_gradients(game, b, **INNER, noise=noise).grads["G"]["0.weight"]
        for b in (batch, other)
    )
    assert (one - two).norm() > 1e-4


def test_meta_gradients_of_one_player_are_maml_s():
    # (I − αH)g for linear regression (Finn et al. 2017), the query gradient g at w′.
    net = nn.Linear(2, 1, bias=False).double()
    x, y = torch.randn(1, 4, 2).double(), torch.randn(1, 4, 1).double()
    xq, yq = torch.randn(1, 4, 2).double(), torch.randn(1, 4, 1).double()
    batch = TaskBatch(x, xq, y, yq)
    game = Supervised(net, "squared-error")
    result = meta_gradients(
        game, batch, inner_steps=1, inner_lr=0.1, objective="query-loss"
    )
    w, (x, y, xq, yq) = net.weight.detach()[0], (t[0] for t in (x, y, xq, yq))
    hessian = x.T @ x / 2
    after = w - 0.1 * x.T @ (x @ w - y[:, 0]) / 2
    g = xq.T @ (xq @ after - yq[:, 0]) / 2
    expected = (torch.eye(2).double() - 0.1 * hessian) @ g
    torch.testing.assert_close(result.grads["net"]["weight"][0], expected)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"algorithm": "mamal"}, "reptile; got 'mamal'"),
        ({"objective": "fid"}, "coop-mmd.*got 'fid'"),
    ],
)
def test_unknown_names(options, words):
    game, batch, noise = small_problem()
    with pytest.raises(ValueError, match=words):
        meta_gradients(game, batch, **INNER, noise=noise, **options)


def test_a_loss_that_is_not_finite_raises_although_its_gradient_may_be_finite():
    game, batch, noise = small_problem("coop-mmd")
    batch.query[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="finite 'mmd', got nan"):
        meta_gradients(game, batch, **INNER, objective="coop-mmd", noise=noise)


def test_coop_mmd_needs_a_gan():
    sines = SineTasks().sample(2, shots=3, query_shots=3)
    with pytest.raises(ValueError, match="'coop-mmd' needs a GAN.*query-loss"):
        meta_gradients(
            Supervised(nn.Linear(1, 1), "squared-error"),
            sines,
            inner_steps=1,
            inner_lr=0.1,
            objective="coop-mmd",
        )


# --- training -----------------------------------------------------------------


def nets(shape=(1, 8, 8), seed=0, hidden=(12,)):
    options = {"hidden": hidden, "generator": torch.Generator().manual_seed(seed)}
    return (
        MetaGenerator(shape, latent_dim=4, **options),
        MetaDiscriminator(shape, **options),
    )


SHORT = MetaGANConfig(meta_steps=6, meta_batch_size=2, shots=3, query_shots=3)


def train(config=SHORT, pair=None, **options):
    tasks = options.pop("tasks", None) or load_tasks("digits")
    return train_meta_gan(*(pair or nets()), tasks, config, progress=False, **options)


def weights(trained):
    return [p for net in trained.game.players.values() for p in net.parameters()]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(two)))


def test_meta_training_learns_to_adapt_to_new_dirac_targets():
    # A task is one number c; after 5 inner steps G must draw near a c it never saw.
    config = MetaGANConfig(meta_steps=250, meta_batch_size=16, ema=0.9, outer_lr=1e-2)
    plane = {"hidden": (16,), "generator": torch.Generator().manual_seed(0)}
    pair = (
        MetaGenerator((1,), latent_dim=2, output=nn.Identity, **plane),
        MetaDiscriminator((1,), **plane),
    )
    dirac = DiracTasks()
    trained = train(config, pair, tasks=dirac)
    batch = dirac.sample(
        200, shots=10, query_shots=1, generator=torch.Generator().manual_seed(9)
    )

    def error(game):
        with torch.no_grad():
            end = adapt(
                game,
                batch.support,
                inner_steps=5,
                inner_lr=trained.config.inner_lr,
                generator=torch.Generator().manual_seed(1),
            )
            drawn = end["G"](torch.zeros(200, 1, 2))
        return (drawn - batch.query).abs().mean().item()

    assert error(trained.game) < 0.5 * error(GAN(*pair))


def test_one_seed_is_one_run_and_the_given_nets_stay_as_they_were():
    pair = nets()
    before = [p.clone() for net in pair for p in net.parameters()]
    first, second = train(pair=pair), train(pair=pair)
    assert same(first, second)
    assert not same(first, train(dataclasses.replace(SHORT, seed=1)))
    assert all(map(torch.equal, before, [p for net in pair for p in net.parameters()]))


def test_runs_on_every_device_alike(device):
    on_cpu, here = train(), train(device=device)
    for a, b in zip(weights(on_cpu), weights(here)):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-3, atol=1e-4)


def test_history_callback_and_environment():
    seen = []
    trained = train(callback=lambda step, game, row: seen.append((step, row["mmd"])))
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert [row["mmd"] for row in trained.history] == [mmd for _, mmd in seen]
    assert all(math.isfinite(v) for row in trained.history for v in row.values())
    assert trained.environment["torch"] == torch.__version__


@pytest.mark.parametrize(
    "algorithm, objective",
    [
        ("maml", "adversarial"),
        ("fomaml", "adversarial"),
        ("reptile", "adversarial"),
        ("maml", "coop-mmd"),
    ],
)
def test_every_algorithm_moves_both_players(algorithm, objective):
    config = dataclasses.replace(SHORT, algorithm=algorithm, objective=objective)
    trained = train(config)
    for before, after in zip(
        [p for n in nets()[::-1] for p in n.parameters()], weights(trained)
    ):
        assert not torch.equal(before, after)


def test_mean_weights_and_rate_schedule():
    config = MetaGANConfig(meta_steps=100)
    assert config.learning_rate(0) == config.learning_rate(50) == 3e-3
    assert config.learning_rate(75) == pytest.approx(1.5e-3)
    assert config.learning_rate(99) == pytest.approx(6e-5)
    path = []

    def record(step, game, row):
        path.append([p.detach().clone() for p in game.players["G"].parameters()])

    trained = train(dataclasses.replace(SHORT, ema=0.5), callback=record)
    mean = path[0]
    for step, now in enumerate(path[1:], 1):
        decay = min(0.5, step / (step + 10))
        mean = [decay * m + (1 - decay) * p for m, p in zip(mean, now)]
    for a, b in zip(mean, trained.game.players["G"].parameters()):
        torch.testing.assert_close(a, b.detach())


@pytest.mark.parametrize("size, rate", [(8, 0.2), (10, 0.2), (28, 20 / 784)])
def test_default_rates_fall_with_the_number_of_pixels(size, rate):
    assert default_inner_lr(GAN(*nets((1, size, size)))) == {"G": 0.5, "D": rate}


def test_clip_bounds_the_applied_gradient_and_history_keeps_the_norm():
    applied = []

    def record(step, game, row):
        grads = [p.grad.flatten() for p in game.players["G"].parameters()]
        applied.append(torch.cat(grads).norm().item())

    trained = train(dataclasses.replace(SHORT, clip=1e-3), callback=record)
    assert applied == pytest.approx([1e-3] * 6, rel=1e-4)
    assert max(row["grad G"] for row in trained.history) > 1e-2


@pytest.mark.parametrize("path", ["loop", "vmap", "dual"])
def test_a_refreshed_d_judges_g_after_one_more_step_on_the_query(path):
    game, batch, noise = small_problem()
    found = meta_gradients(
        game, batch, **INNER, objective=RefreshedD(lr=0.7), noise=noise, path=path
    )
    plain = meta_gradients(game, batch, **INNER, noise=noise, path=path)
    torch.testing.assert_close(found.losses["D"], plain.losses["D"])
    torch.testing.assert_close(found.grads["D"], plain.grads["D"])
    # L_G by hand, at the refreshed parameters.
    adapted = adapt(game, batch.support, **INNER, noise=noise[0], path="loop")
    losses = []
    for task in range(len(batch)):
        at = {
            p: {k: v[task] for k, v in own.items()}
            for p, own in adapted.parameters().items()
        }
        z_d, z_g = noise[1][task]

        def judged(x, own, at=at):
            return torch.func.functional_call(game.players["D"], own, (x,))

        def fakes(z, at=at):
            return torch.func.functional_call(game.players["G"], at["G"], (z,))

        own = {k: v.detach().requires_grad_() for k, v in at["D"].items()}
        loss = torch.nn.functional.softplus(-judged(batch.query[task], own)).mean()
        loss = loss + torch.nn.functional.softplus(judged(fakes(z_d), own)).mean()
        slopes = torch.autograd.grad(loss, list(own.values()))
        moved = {k: v - 0.7 * s for (k, v), s in zip(own.items(), slopes)}
        losses.append(
            torch.nn.functional.softplus(-judged(fakes(z_g), moved)).mean().detach()
        )
    torch.testing.assert_close(found.losses["G"], torch.stack(losses).mean())
    assert (found.losses["G"] - plain.losses["G"]).abs() > 1e-3


def feature_net(shape=(1, 4, 4), seed=0):
    torch.manual_seed(seed)
    width = math.prod(shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 6), nn.Tanh())


@pytest.mark.parametrize("path", ["loop", "vmap", "dual"])
def test_coop_mmd_in_a_feature_space_adds_the_mmd_of_features(path):
    game, batch, noise = small_problem("coop-mmd")
    net = feature_net().double()
    options = {**INNER, "noise": noise, "path": path}

    def gradient(objective):
        found = meta_gradients(game, batch, objective=objective, **options)
        return found.losses["mmd"], found.grads["D"]["1.weight"]

    both = gradient(CoopMMD(feature_weight=0.5, features=net, samples=6))
    pixels = gradient(CoopMMD(samples=6))
    adapted = adapt(game, batch.support, **INNER, noise=noise[0], path=path)
    drawn = adapted["G"](noise[1][:, 1])
    seen = [torch.stack([net(x) for x in images]) for images in (drawn, batch.query)]
    loss = 5 * mmd_loss(*seen).mean()
    (slope,) = torch.autograd.grad(loss, [game.players["D"][1].weight])
    torch.testing.assert_close(both[0] - pixels[0], loss.detach())
    torch.testing.assert_close(both[1] - pixels[1], slope)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"feature_weight": 1.0}, "feature_weight=1.0 and no features"),
        ({"features": feature_net()}, "feature_weight=0.0 and features"),
        ({"discriminator": -1.0}, "discriminator ≥ 0, got -1.0"),
        ({"sclae": 1.0}, "no option sclae; it has scale, teach"),
    ],
)
def test_impossible_options_of_an_objective(options, words):
    with pytest.raises(ValueError, match=words):
        make_objective("coop-mmd", small_problem()[0], options)


def test_a_run_with_features_resumes_with_the_same_net_only(tmp_path):
    tasks, net = load_tasks("digits"), feature_net((1, 8, 8))
    config = MetaGANConfig(
        meta_steps=2, meta_batch_size=2, objective_options={"feature_weight": 1.0}
    )
    nets = (
        MetaGenerator((1, 8, 8), latent_dim=4, hidden=8),
        MetaDiscriminator((1, 8, 8), hidden=8),
    )
    options = {"checkpoint": tmp_path, "progress": False}
    train_meta_gan(*nets, tasks, config, features=net, **options)
    again = train_meta_gan(*nets, tasks, config, features=net, resume=True, **options)
    assert len(again.history) == 2
    with pytest.raises(ValueError, match="another feature net"):
        other = feature_net((1, 8, 8), seed=1)
        train_meta_gan(*nets, tasks, config, features=other, resume=True, **options)


@pytest.mark.parametrize("size, levels", [(4, [16, 4]), (20, [400, 100, 25])])
def test_images_are_compared_at_levels_whose_values_weigh_the_same(size, levels):
    noise = torch.randn(
        2, 2000, 1, size, size, generator=torch.Generator().manual_seed(0)
    )
    values = _levels(noise, dims=3)
    assert values.shape == (2, 2000, sum(levels))
    torch.testing.assert_close(
        values.std((0, 1)), torch.ones(sum(levels)), atol=0.08, rtol=0
    )
    average = noise[1, 7, 0, 2:4, :2].mean()  # the 2×2 average in row 1, column 0
    assert values[1, 7, size * size + size // 2] == pytest.approx(2 * average.item())


# --- what stops a run ---------------------------------------------------------


def test_a_parameter_without_gradient_is_named():
    config = dataclasses.replace(SHORT, algorithm="fomaml")
    with pytest.raises(RuntimeError, match=r"step 1: parameter '1.weight' of D got no"):
        train(config)


def test_an_unused_parameter_is_named_with_its_own_remedy():
    class Spare(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(64, 1))
            self.add_module("spare", nn.Identity())
            self.extra = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return self[1](self[0](x))

    with pytest.raises(RuntimeError, match="'extra' of D got no.*or freeze it"):
        train(pair=(nets()[0], Spare()))


@pytest.mark.parametrize(
    "pair, tasks, words",
    [
        (nets((1, 12, 12)), None, r"\[1, 12, 12\], got \[1, 8, 8\]"),
        (None, "glyphs", "got 'glyphs'; load_tasks"),
    ],
)
def test_tasks_that_do_not_fit_the_nets(pair, tasks, words):
    with pytest.raises(ValueError, match=words):
        train(pair=pair, tasks=tasks)


def test_one_query_image_is_too_few_for_the_mmd():
    with pytest.raises(ValueError, match="at least 2 samples.*raise query_shots"):
        train(dataclasses.replace(SHORT, query_shots=1))


def test_a_loss_that_is_not_finite_stops_the_run():
    config = dataclasses.replace(
        SHORT, inner_lr={"G": 1e20, "D": 1e20}, loss="least-squares"
    )
    with pytest.raises(RuntimeError, match="step 1: expected a finite .*got (nan|inf)"):
        train(config)


@pytest.mark.parametrize(
    "field, value",
    [
        ("meta_steps", 0),
        ("shots", 0),
        ("inner_steps", 0),
        ("samples", 0),
        ("algorithm", "mamal"),
        ("outer_lr", 0.0),
        ("clip", -1.0),
        ("ema", 1.0),
    ],
)
def test_impossible_configurations(field, value):
    with pytest.raises(ValueError, match=f"{field}.*got '?{value}"):
        MetaGANConfig(**{field: value})


# --- checkpoints --------------------------------------------------------------


class Interrupted(Exception):
    pass


def interrupt_at(wanted):
    def callback(step, game, row):
        if step == wanted:
            raise Interrupted

    return callback


def test_resume_is_bit_for_bit(tmp_path):
    whole = train()
    with pytest.raises(Interrupted):
        train(checkpoint=tmp_path, checkpoint_every=2, callback=interrupt_at(5))
    assert json.loads((tmp_path / "checkpoint.json").read_text())["step"] == 4
    resumed = train(checkpoint=tmp_path, checkpoint_every=2, resume=True)
    assert same(whole, resumed)
    assert whole.history == resumed.history
    loaded = load_meta_gan(*nets(seed=5), tmp_path)
    assert same(whole, loaded)
    rates = {"G": 0.5, "D": 0.2}
    assert loaded.config == dataclasses.replace(SHORT, inner_lr=rates)
    assert loaded.history == whole.history
    names = sorted(path.name.split("-00000")[0] for path in tmp_path.iterdir())
    assert names == ["checkpoint.json", "state", "weights"]


def test_a_checkpoint_is_never_overwritten_unasked(tmp_path):
    train(checkpoint=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="pass resume=True to go on"):
        train(checkpoint=tmp_path)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_rates_per_step_survive_a_checkpoint(tmp_path):
    rates = {"G": torch.tensor([0.5, 0.25]), "D": [0.2, 0.1]}
    config = dataclasses.replace(SHORT, inner_steps=2, inner_lr=rates)
    trained = train(config, checkpoint=tmp_path)
    loaded = load_meta_gan(*nets(), tmp_path)
    assert loaded.config.inner_lr == {"G": [0.5, 0.25], "D": [0.2, 0.1]}
    images = load_tasks("digits").sample(2, shots=3, query_shots=3).support
    ends = [
        t.adapt(images, generator=torch.Generator().manual_seed(0))["G"](
            torch.ones(2, 1, 4)
        )
        for t in (trained, loaded)
    ]
    assert torch.equal(*ends)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    done = train(checkpoint=tmp_path)
    assert same(done, train(checkpoint=tmp_path, resume=True))


def test_resume_without_a_checkpoint_starts_afresh_and_needs_a_folder(tmp_path):
    assert same(train(), train(checkpoint=tmp_path / "new", resume=True))
    with pytest.raises(ValueError, match="checkpoint folder"):
        train(resume=True)


def test_a_checkpoint_of_another_configuration_or_architecture(tmp_path):
    train(checkpoint=tmp_path)
    other = dataclasses.replace(SHORT, shots=4)
    with pytest.raises(ValueError, match="expected shots=4, got 3"):
        train(other, checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="other nets: expected 'last.D.1.weight'.*13"):
        train(pair=nets(hidden=(13,)), checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="other nets: expected 'mean.D.1.weight'.*13"):
        load_meta_gan(*nets(hidden=(13,)), tmp_path)


def test_a_trained_meta_gan_adapts_as_it_was_trained():
    trained = train()
    batch = load_tasks("digits", "meta-test").sample(3, shots=3, query_shots=3)
    random = torch.Generator().manual_seed(4)
    ours = trained.adapt(batch.support, generator=random)["G"](torch.ones(3, 2, 4))
    random = torch.Generator().manual_seed(4)
    direct = adapt(
        trained.game,
        batch.support,
        inner_steps=5,
        inner_lr={"G": 0.5, "D": 0.2},
        generator=random,
    )
    torch.testing.assert_close(ours, direct["G"](torch.ones(3, 2, 4)).detach())
    assert not ours.requires_grad


# --- one player: MAML ---------------------------------------------------------


def sine_run(tmp_path, **options):
    random = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5, generator=random)
    config = MetaGANConfig(
        meta_steps=300,
        meta_batch_size=8,
        inner_steps=5,
        inner_lr=0.02,
        objective="query-loss",
        outer_lr=0.01,
        betas=(0.9, 0.999),
        clip=float("inf"),
    )
    game = Supervised(net, "squared-error")
    return game, train_meta(
        game, SineTasks(), config, progress=False, checkpoint=tmp_path, **options
    )


def test_train_meta_learns_an_initialisation_of_one_player(tmp_path):
    game, trained = sine_run(tmp_path / "run")
    batch = SineTasks().sample(
        200, shots=10, query_shots=50, generator=torch.Generator().manual_seed(1)
    )

    def error(adapted):
        predicted = adapted.evaluate(lambda nets, x: nets["net"](x), batch.query)
        return (predicted - batch.query_targets).square().mean().item()

    before = adapt(game, game.support(batch), inner_steps=5, inner_lr=0.02)
    after = trained.adapt(trained.game.support(batch))
    assert error(after) < 0.8 * error(before)
    # Adapting is what was learned: the initialisation itself is no good regressor.
    start = trained.adapt(trained.game.support(batch), inner_steps=0)
    assert error(after) < 0.8 * error(start)
    assert all(row["net"] >= 0 for row in trained.history)


def test_train_meta_copies_the_game_and_resumes(tmp_path):
    game, trained = sine_run(tmp_path / "run")
    again_game, again = sine_run(tmp_path / "run", resume=True)
    for (name, a), b, ours in zip(
        game.players["net"].named_parameters(),
        again.game.players["net"].parameters(),
        trained.game.players["net"].parameters(),
    ):
        assert torch.equal(b, ours), name
        assert not torch.equal(a, ours), name


def test_detached_fakes_change_the_meta_gradient_but_no_step_and_no_first_order():
    """Trap 1 of the book: φ′ depends on θ through the fakes of D's steps alone."""
    game, batch, noise = small_problem()
    cut = GAN(game.players["G"], game.players["D"], detach_fakes=True)
    for path in ("dual", "vmap", "loop"):
        options = {"noise": noise, "path": path, **INNER}
        ends = [
            adapt(g, batch.support, noise=noise[0], path=path, **INNER).parameters()
            for g in (game, cut)
        ]
        for player, own in ends[0].items():
            for name, value in own.items():
                torch.testing.assert_close(value, ends[1][player][name])
        for algorithm in ("fomaml", "maml"):
            found = [
                meta_gradients(g, batch, algorithm=algorithm, **options).grads["G"]
                for g in (game, cut)
            ]
            far = max((found[0][k] - found[1][k]).abs().max().item() for k in found[0])
            size = max(slope.abs().max().item() for slope in found[0].values())
            assert (far < 1e-12) if algorithm == "fomaml" else (far > 1e-3 * size)


def test_without_a_teacher_d_keeps_its_initialisation_even_to_first_order(tmp_path):
    tasks, pair = load_tasks("digits"), nets()
    config = MetaGANConfig(
        meta_steps=3,
        meta_batch_size=2,
        inner_steps=2,
        algorithm="fomaml",
        objective_options={"teach": False},
    )
    run = lambda **options: train_meta_gan(
        *pair, tasks, config, progress=False, checkpoint=tmp_path, **options
    )
    trained, again = run(), run(resume=True)
    for found in (trained, again):
        for a, b in zip(pair, (found.game.players["G"], found.game.players["D"])):
            same = [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters())]
            assert all(same) if a is pair[1] else not any(same)
    assert "grad D" not in trained.history[0]


def test_train_meta_wants_rates_and_the_game_s_own_loss():
    net = Supervised(nn.Linear(1, 1), "squared-error")
    config = MetaGANConfig(objective="query-loss")
    with pytest.raises(ValueError, match="only a GAN has default rates"):
        train_meta(net, SineTasks(), config)
    gan = GAN(*nets(), loss="hinge")
    with pytest.raises(ValueError, match="'loss': 'non-saturating'.*got .*'hinge'"):
        train_meta(gan, load_tasks("digits"), MetaGANConfig())
