"""The parts of a hypergradient, against meta-gradients and dense Jacobians."""

import pytest
import torch
from torch import nn
from torch.func import grad, jacrev

from metagan_lite import (
    GAN,
    MetaDiscriminator,
    MetaGenerator,
    SineTasks,
    Supervised,
    TaskBatch,
    meta_gradients,
)
from metagan_lite.adapt import adaptation_steps, bind
from metagan_lite.blocks import hypergradient_blocks

INNER = {"inner_steps": 3, "inner_lr": {"G": [0.5, 0.4, 0.3], "D": 0.3}}


def problem(**options):
    random = torch.Generator().manual_seed(0)
    game = GAN(
        MetaGenerator(
            (2,), latent_dim=2, hidden=3, output=nn.Identity, generator=random
        ).double(),
        MetaDiscriminator((2,), hidden=4, generator=random).double(),
        **options,
    )
    x = torch.randn(3, 12, 2, generator=random, dtype=torch.float64)
    batch = TaskBatch(x[:, :6], x[:, 6:])
    noise = (
        game.noise(3, 3, 6, generator=random),
        game.noise(3, 1, 6, generator=random)[:, 0],
    )
    return game, batch, noise


@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize("objective", ["adversarial", "coop-mmd", "refreshed-d"])
@pytest.mark.parametrize("r1", [0.0, 0.5])
def test_the_total_is_the_meta_gradient_and_direct_its_first_order(
    simultaneous, objective, r1
):
    game, batch, noise = problem(r1=r1)
    options = {
        **INNER,
        "simultaneous": simultaneous,
        "objective": objective,
        "noise": noise,
        "path": "loop",
    }
    exact, first = (
        meta_gradients(game, batch, algorithm=algorithm, **options).grads
        for algorithm in ("maml", "fomaml")
    )
    del options["path"]
    blocks = hypergradient_blocks(game, batch, **options)
    for player in ("G", "D"):
        block = blocks["mmd" if objective == "coop-mmd" else player][player]
        assert block.total.keys() == exact[player].keys()
        for name, total in block.total.items():
            torch.testing.assert_close(total, exact[player][name])
            if objective == "refreshed-d":
                continue  # its own step: part of the loss here, not in fomaml
            direct = first[player][name]
            torch.testing.assert_close(
                block.direct[name],
                torch.zeros_like(total) if direct is None else direct,
            )


def test_own_is_the_product_with_the_player_s_hessians_alone():
    game, batch, noise = problem()
    blocks = hypergradient_blocks(
        game, batch, objective="adversarial", noise=noise, **INNER
    )
    states = adaptation_steps(
        game, batch.support, inner_lr=INNER["inner_lr"], noise=noise[0], path="loop"
    )
    points = [state.parameters() for state in states]
    rates = {"G": [0.5, 0.4, 0.3], "D": [0.3, 0.3, 0.3]}
    for player in ("G", "D"):
        names = list(game.parameters()[player])
        shapes = [game.parameters()[player][n].shape for n in names]
        for term in ("G", "D"):
            whole = 0
            for task in range(3):
                at = [
                    {p: {k: v[task].detach() for k, v in own.items()} for p, own in s}
                    for s in (point.items() for point in points)
                ]

                def loss(vector, who, others, data, z):
                    parts = vector.split([s.numel() for s in shapes])  # noqa: B023
                    own = {
                        n: p.view(s)
                        for n, p, s in zip(names, parts, shapes)  # noqa: B023
                    }
                    nets = bind(game, {**others, player: own})  # noqa: B023
                    return game.loss(who, nets, data, z)

                flat = lambda s: torch.cat([s[player][n].flatten() for n in names])  # noqa: B023
                end = flat(at[3])
                g = grad(loss)(end, term, at[3], batch.query[task], noise[1][task])
                for step in (2, 1, 0):
                    seen = at[step]
                    if player == "G":  # it sees the D that has moved
                        seen = {"G": at[step]["G"], "D": at[step + 1]["D"]}
                    H = jacrev(grad(loss))(
                        flat(at[step]),
                        player,
                        seen,
                        batch.support[task],
                        noise[0][task, step],
                    )
                    g = g - rates[player][step] * H @ g
                whole = whole + g / 3
            block = blocks[term][player]
            ours = torch.cat(
                [(block.direct[n] + block.own[n]).flatten() for n in names]
            )
            torch.testing.assert_close(ours, whole)


def test_detached_fakes_leave_no_cross_part_in_the_blocks_that_are_followed():
    kept, cut = (
        hypergradient_blocks(game, batch, objective="adversarial", noise=noise, **INNER)
        for game, batch, noise in (problem(), problem(detach_fakes=True))
    )
    for player in ("G", "D"):
        before, after = kept[player][player], cut[player][player]
        for name in before.own:
            assert after.cross[name].abs().max() == 0 < before.cross[name].abs().max()
            torch.testing.assert_close(before.own[name], after.own[name])
            torch.testing.assert_close(before.direct[name], after.direct[name])
    taught = cut["G"]["D"].cross.values()  # through G's own steps: still open
    assert all(part.abs().max() > 0 for part in taught)


def test_one_player_has_no_cross_part_and_frozen_parameters_none_at_all():
    random = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    net[0].requires_grad_(False)
    game = Supervised(net, "squared-error")
    batch = SineTasks().sample(2, shots=5, query_shots=5, generator=random)
    options = {"inner_steps": 2, "inner_lr": 0.05}
    exact = meta_gradients(game, batch, **options).grads["net"]
    block = hypergradient_blocks(game, batch, **options)["net"]["net"]
    assert block.total.keys() == exact.keys() == {"2.weight", "2.bias"}
    for name, total in block.total.items():
        torch.testing.assert_close(total, exact[name])
        torch.testing.assert_close(block.cross[name], torch.zeros_like(total))
        assert block.own[name].norm() > 1e-4


def test_without_noise_it_draws_what_meta_gradients_draws():
    game, batch, _ = problem()
    random = lambda: torch.Generator().manual_seed(7)
    options = {**INNER, "objective": "adversarial"}
    exact = meta_gradients(game, batch, generator=random(), **options).grads["G"]
    blocks = hypergradient_blocks(game, batch, generator=random(), **options)
    for name, total in blocks["G"]["G"].total.items():
        torch.testing.assert_close(total, exact[name])
