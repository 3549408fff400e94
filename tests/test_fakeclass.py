"""MetaGAN's game: its probabilities, losses and gradients, written out."""

import math

import pytest
import torch
from torch import nn

from metagan_lite import (
    EpisodeTasks,
    MetaGANConfig,
    Supervised,
    TaskBatch,
    adapt,
    load_tasks,
    meta_gradients,
    train_meta,
)
from metagan_lite.fakeclass import FakeClass, class_probabilities, realness


def random(seed):
    return torch.Generator().manual_seed(seed)


class Bent(nn.Module):
    """[n, 4 + 2] → [n, 4]."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(6, 4)

    def forward(self, x):
        return self.map(x).tanh()


def players(**options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))
    return FakeClass(net.double(), Bent().double(), **options)


def data():
    x = torch.randn(6, 4, generator=random(1), dtype=torch.float64)
    return x, torch.arange(3).repeat(2)


def test_probabilities_by_hand():
    logits = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    e = [math.exp(v) for v in logits.tolist()]
    expected = [v / (1 + sum(e)) for v in (*e, 1.0)]
    got = class_probabilities(logits)
    assert got.tolist() == pytest.approx(expected)
    assert torch.sigmoid(realness(logits)).item() == pytest.approx(sum(expected[:3]))


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_losses_are_those_of_n_plus_one_classes(weight):
    game = players(weight=weight)
    (x, y), nets = data(), game.players
    z = game.noise(1, 1, 9, generator=random(2))[0, 0]
    p = class_probabilities(nets["net"](x))
    # Nine samples begin at six images in turn.
    fakes = [nets["G"](torch.cat([x[i % 6], z[0, i]])[None]) for i in range(9)]
    fake = class_probabilities(nets["net"](torch.cat(fakes)))
    among_real = p[:, :3] / p[:, :3].sum(1, keepdim=True)
    expected = -among_real[range(6), y].log().mean()
    real_or_not = -p[:, :3].sum(1).log().mean() - fake[:, 3].log().mean()
    got = game.loss("net", nets, (x, y), z)
    torch.testing.assert_close(got, expected + weight * real_or_not)

    fakes = [nets["G"](torch.cat([x[i % 6], z[1, i]])[None]) for i in range(9)]
    fake = class_probabilities(nets["net"](torch.cat(fakes)))
    got = game.loss("G", nets, (x, y), z)
    torch.testing.assert_close(got, -fake[:, :3].sum(1).log().mean())


def test_detached_fakes_give_g_its_own_loss_alone():
    (x, y) = data()
    for detach in (True, False):
        game = players(detach_fakes=detach)
        z = game.noise(1, 1, 6, generator=random(2))[0, 0]
        loss = game.loss("net", game.players, (x, y), z)
        slopes = torch.autograd.grad(
            loss, [*game.players["G"].parameters()], allow_unused=True
        )
        assert (slopes[0] is None) == detach


def test_without_weight_the_classifier_learns_as_alone():
    game, tasks = players(weight=0.0), 3
    x = torch.randn(tasks, 6, 4, generator=random(3), dtype=torch.float64)
    y = torch.arange(3).repeat(tasks, 2)
    rates = {"net": 0.3, "G": {}}
    ours = adapt(game, (x, y), inner_steps=3, inner_lr=rates, generator=random(4))
    alone = Supervised(game.players["net"], "cross-entropy")
    theirs = adapt(alone, (x, y), inner_steps=3, inner_lr=0.3)
    torch.testing.assert_close(ours["net"](x), theirs["net"](x))
    # G has no rates, and stays.
    start = dict(game.players["G"].named_parameters())
    for name, value in ours.parameters()["G"].items():
        torch.testing.assert_close(value, start[name].expand_as(value))


def test_it_trains_on_episodes():
    tasks = EpisodeTasks(load_tasks("digits", "meta-train"), ways=3)
    net = nn.Sequential(nn.Flatten(-3), nn.Linear(64, 8), nn.SiLU(), nn.Linear(8, 3))
    generator = nn.Sequential(nn.Linear(66, 64), nn.Tanh(), nn.Unflatten(-1, (1, 8, 8)))
    game = FakeClass(net, generator, latent_dim=2)
    config = MetaGANConfig(
        meta_steps=2, meta_batch_size=2, shots=1, query_shots=2, inner_steps=2,
        inner_lr={"net": 0.1, "G": {}}, objective="query-loss",
    )  # fmt: skip
    trained = train_meta(game, tasks, config, progress=False)
    assert all(math.isfinite(row["G"]) for row in trained.history)


def test_both_players_get_a_meta_gradient():
    game = players()
    x = torch.randn(2, 12, 4, generator=random(3), dtype=torch.float64)
    y = torch.arange(3).repeat(2, 2)
    batch = TaskBatch(x[:, :6], x[:, 6:], y, y)
    found = meta_gradients(
        game, batch, inner_steps=2, inner_lr={"net": 0.3, "G": {}},
        generator=random(5),
    )  # fmt: skip
    assert all(g is not None for own in found.grads.values() for g in own.values())


def test_what_does_not_fit_is_refused():
    net, generator = nn.Linear(4, 3), nn.Linear(6, 4)
    with pytest.raises(ValueError, match="pass latent_dim"):
        FakeClass(net, generator)
    with pytest.raises(ValueError, match="weight ≥ 0, got -1"):
        FakeClass(net, generator, latent_dim=2, weight=-1)
    game = players()
    with pytest.raises(ValueError, match="expected support"):
        adapt(game, data()[0][None], inner_steps=1, inner_lr={"net": 0.1, "G": {}})
