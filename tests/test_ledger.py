"""The ledger of a hypergradient: finite differences, by hand, and in training."""

import copy
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
    meta_gradients,
    train_meta_gan,
)
from metagan_lite.blocks import Block, hypergradient_blocks
from metagan_lite.ledger import PARTS, Entry, Ledger, hypergradient_ledger
from metagan_lite.plots import ledger_plot

INNER = {"inner_steps": 3, "inner_lr": {"G": 0.5, "D": 0.3}}


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


def vector(tree):
    return torch.cat([value.detach().flatten() for value in tree.values()])


@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("objective", ["adversarial", "coop-mmd"])
def test_the_parts_sum_to_the_meta_gradient(simultaneous, detached, objective):
    game, batch, noise = problem(detach_fakes=detached)
    options = {**INNER, "objective": objective, "noise": noise}
    options["simultaneous"] = simultaneous
    exact = meta_gradients(game, batch, **options, path="loop").grads
    blocks = hypergradient_blocks(game, batch, **options)
    entries = hypergradient_ledger(game, batch, **options)
    for player in ("G", "D"):
        term = "mmd" if objective == "coop-mmd" else player
        block, total = blocks[term][player], vector(exact[player])
        parts = [vector(getattr(block, name)) for name in PARTS]
        assert (sum(parts) - total).abs().max() < 1e-10
        entry = entries[term][player]
        assert entry.norms["total"] == pytest.approx(float(total.norm()), rel=1e-9)
        assert sum(entry.shares.values()) == pytest.approx(1, abs=1e-9)
        for name, part in zip(PARTS, parts):
            assert entry.norms[name] == pytest.approx(float(part.norm()), rel=1e-9)
            assert entry.shares[name] == pytest.approx(
                float(part @ total / (total @ total)), abs=1e-9
            )
            if part.norm() > 0:
                cosine = torch.cosine_similarity(part, total, dim=0)
                assert entry.cosines[name] == pytest.approx(float(cosine), abs=1e-9)
            else:
                assert math.isnan(entry.cosines[name])


@pytest.mark.parametrize("simultaneous", [False, True])
def test_a_share_is_what_a_part_is_worth_to_the_outer_loss(simultaneous):
    game, batch, noise = problem()
    options = {**INNER, "objective": "adversarial", "noise": noise}
    options["simultaneous"] = simultaneous
    blocks = hypergradient_blocks(game, batch, **options)
    entries = hypergradient_ledger(game, batch, **options)
    h = 1e-5
    for term in ("G", "D"):
        for player in ("G", "D"):
            entry = entries[term][player]
            for name in PARTS:
                part, values = getattr(blocks[term][player], name), []
                for sign in (1, -1):
                    moved = copy.deepcopy(game)
                    with torch.no_grad():
                        for key, p in moved.parameters()[player].items():
                            p -= sign * h * part[key]
                    values.append(meta_gradients(moved, batch, **options).losses[term])
                fall = float(values[1] - values[0]) / (2 * h)
                assert fall == pytest.approx(
                    entry.shares[name] * entry.norms["total"] ** 2, rel=1e-5, abs=1e-9
                )


class Point(nn.Module):
    """A generator that draws one point, whatever its noise."""

    latent_dim = 1

    def __init__(self, at):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at, dtype=torch.float64))

    def forward(self, z):
        return 0 * z + self.at


class Slope(nn.Module):
    """A discriminator whose logit is a multiple of its input."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, x):
        return (x * self.slope).squeeze(-1)


def test_one_simultaneous_step_of_two_numbers_by_hand():
    # L_D = φ(θ − c) and L_G = −φθ, with c = 0 in the support and 1 in the query.
    # θ′ = θ + αφ = 2.2, φ′ = φ − αθ = 0.2 at θ = 2, φ = 1, α = 0.2 and 0.4.
    game = GAN(Point(2.0), Slope(1.0), loss="wasserstein")
    zeros = torch.zeros(1, 3, 1, dtype=torch.float64)
    batch = TaskBatch(zeros, zeros + 1)
    options = {"inner_steps": 1, "inner_lr": {"G": 0.2, "D": 0.4}}
    found = hypergradient_ledger(
        game, batch, objective="adversarial", simultaneous=True, **options
    )
    # Slopes at the end. L_G: (−φ′, −θ′) = (−0.2, −2.2). L_D: (φ′, θ′ − 1) = (0.2, 1.2).
    # No curvature of its own; φ′ moves by −0.4 with θ, and θ′ by 0.2 with φ.
    by_hand = {
        ("G", "G"): (-0.2, 0.0, -0.4 * -2.2),
        ("G", "D"): (-2.2, 0.0, 0.2 * -0.2),
        ("D", "G"): (0.2, 0.0, -0.4 * 1.2),
        ("D", "D"): (1.2, 0.0, 0.2 * 0.2),
    }
    for (term, player), parts in by_hand.items():
        entry, total = found[term][player], sum(parts)
        assert entry.norms["total"] == pytest.approx(abs(total))
        for name, part in zip(PARTS, parts):
            assert entry.norms[name] == pytest.approx(abs(part))
            assert entry.shares[name] == pytest.approx(part / total)
    assert found["G"]["G"].cosines["direct"] == pytest.approx(-1)  # first order climbs


def test_one_player_books_no_cross_part():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    random = torch.Generator().manual_seed(1)
    batch = SineTasks().sample(2, shots=5, query_shots=5, generator=random)
    game = Supervised(net, "squared-error")
    entry = hypergradient_ledger(game, batch, inner_steps=2, inner_lr=0.05)["net"][
        "net"
    ]
    assert entry.norms["cross"] == entry.shares["cross"] == 0
    assert entry.norms["own"] > 0
    assert math.isnan(entry.cosines["cross"])


def test_what_is_nothing_has_no_share():
    zero = {"w": torch.zeros(2)}
    entry = Entry.of(Block(zero, zero, zero))
    assert set(entry.norms.values()) == {0.0}
    assert all(math.isnan(x) for x in [*entry.shares.values(), *entry.cosines.values()])


def training(**options):
    random = torch.Generator().manual_seed(0)
    tasks = DiracTasks()
    nets = (
        MetaGenerator(
            (1,), latent_dim=2, hidden=3, output=nn.Identity, generator=random
        ),
        MetaDiscriminator((1,), hidden=4, generator=random),
    )
    config = MetaGANConfig(
        meta_steps=7,
        meta_batch_size=2,
        shots=3,
        query_shots=3,
        inner_steps=2,
        inner_lr=0.1,
        objective="adversarial",
        **options,
    )
    batch = tasks.sample(3, shots=3, query_shots=3, generator=random)
    return nets, tasks, config, batch


def test_it_logs_a_training_and_does_not_disturb_it():
    nets, tasks, config, batch = training(simultaneous=True)
    ledger = Ledger(batch, config, every=3, seed=4)
    alone = train_meta_gan(*nets, tasks, config, progress=False)
    visited = {}

    def note(step, game, row):
        ledger(step, game, row)
        visited[step] = copy.deepcopy(game)

    watched = train_meta_gan(*nets, tasks, config, callback=note, progress=False)
    assert alone.history == watched.history
    for player, net in alone.game.players.items():
        for a, b in zip(net.parameters(), watched.game.players[player].parameters()):
            assert torch.equal(a, b)
    assert list(ledger.pages) == [1, 3, 6]
    # A page is the ledger of the game at that step, always with the same noise.
    for step in (3, 6):
        game = visited[step]
        random = torch.Generator().manual_seed(4)
        noise = game.noise(3, 2, 3, generator=random)
        outer = game.noise(3, 1, 3, generator=random)[:, 0]
        assert ledger.pages[step] == hypergradient_ledger(
            game,
            batch,
            inner_steps=2,
            inner_lr=0.1,
            objective="adversarial",
            simultaneous=True,
            noise=(noise, outer),
        )
    steps, shares = ledger.series("G", "D")
    assert steps == [1, 3, 6]
    assert shares["cross"][1] == ledger.pages[3]["G"]["D"].shares["cross"]
    _, norms = ledger.series("D", "D", "norms")
    assert set(norms) == {*PARTS, "total"}


def test_it_can_look_at_another_objective_than_the_training_s():
    nets, _, config, batch = training()
    ledger = Ledger(batch, config, objective="coop-mmd")
    ledger.book(0, GAN(*nets))
    own, taught = ledger.pages[0]["mmd"]["G"], ledger.pages[0]["mmd"]["D"]
    assert own.norms["direct"] > 0
    assert taught.norms["direct"] == taught.norms["own"] == 0
    assert taught.shares["cross"] == pytest.approx(1)


def test_by_default_it_has_the_rates_of_the_training():
    nets, _, config, batch = training()
    config = MetaGANConfig(**{**vars(config), "inner_lr": None})
    ledger, game = Ledger(batch, config), GAN(*nets)
    ledger.book(0, game)
    given = MetaGANConfig(**{**vars(config), "inner_lr": {"G": 0.5, "D": 0.2}})
    with_rates = Ledger(batch, given)
    with_rates.book(0, game)
    assert ledger.pages == with_rates.pages


@pytest.mark.parametrize(
    ("options", "name"),
    [({"learned_lr": "layer"}, "learned_lr"), ({"step_weights": (0.5, 0.5)}, "step_w")],
)
def test_it_refuses_a_training_that_its_pages_would_not_be_of(options, name):
    _, _, config, batch = training(**options)
    with pytest.raises(ValueError, match=f"without {name}.*hypergradient_ledger"):
        Ledger(batch, config)


def test_a_block_that_is_not_finite_is_an_error():
    game, batch, noise = problem()
    with torch.no_grad():
        next(game.players["G"].parameters()).fill_(1e200)
    with pytest.raises(FloatingPointError, match="finite block of .* lower inner_lr"):
        hypergradient_ledger(game, batch, objective="adversarial", noise=noise, **INNER)


def test_it_is_drawn_block_by_block():
    nets, _, config, batch = training()
    ledger = Ledger(batch, config)
    for step in (0, 5):
        ledger.book(step, GAN(*nets))
    drawn = {
        "dL_G/dθ": ledger.series("G", "G"),
        "dL_G/dφ": ledger.series("G", "D"),
        "dL_D/dφ": ledger.series("D", "D"),
    }
    figure = ledger_plot(drawn, alt="three blocks")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in panels] == list(drawn)
    for axes, (steps, shares) in zip(panels, drawn.values()):
        lines = {line.get_label(): line for line in axes.lines}
        for part in PARTS:
            assert list(lines[part].get_xdata()) == steps
            assert list(lines[part].get_ydata()) == shares[part]
    assert figure.alt == "three blocks"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(PARTS)
    with pytest.raises(ValueError, match="at least one block"):
        ledger_plot({}, alt="none")
