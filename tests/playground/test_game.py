"""The game in two dimensions does what PyTorch does, number for number."""

from __future__ import annotations

import base64
import json

import playground
import pytest
import torch
from safetensors import safe_open
from torch import nn

from metagan_lite.adapt import adaptation_steps
from metagan_lite.games import GAN
from metagan_lite.losses import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
    r2_penalty,
)
from metagan_lite.nets import MetaDiscriminator, MetaGenerator

CLOSE = {"atol": 1e-4, "rtol": 0}
REGULARISERS = ("none", "R1", "R2", "WGAN-GP", "weight clipping")
WEIGHT = {"R1": 0.7, "R2": 0.4, "WGAN-GP": 0.9, "weight clipping": 0.8}

PLAY = """async ({ base, params, batches, settings }) => {
  const load = (name) => import(`${base}/${name}.js`);
  const [{ Tensor }, { gameStep }] = await Promise.all(["tensor", "game"].map(load));
  const matrix = (rows) => {
    const all = rows.map((row) => [row].flat());
    return new Tensor(all.length, all[0].length, Float32Array.from(all.flat()));
  };
  const each = (own, f) =>
    Object.fromEntries(Object.entries(own).map(([name, value]) => [name, f(value)]));
  const bias = ({ rows, cols, data }) => new Tensor(cols, rows, data);
  const tensors = (own) =>
    Object.fromEntries(Object.entries(own).map(([name, value]) =>
      [name, name.endsWith("bias") ? bias(matrix(value)) : matrix(value)]));
  let state = { params: each(params, tensors) };
  return batches.map(({ D, G }) => {
    const batch = { D: D.map((one) => each(one, matrix)), G: each(G, matrix) };
    state = gameStep(state, batch, settings);
    const numbers = ({ data }) => [...data];
    const params = each(state.params, (own) => each(own, numbers));
    return { losses: state.losses, slopes: state.slopes, params };
  });
}"""


def nets() -> GAN:
    random = torch.Generator().manual_seed(4)
    return GAN(
        MetaGenerator(
            (2,), latent_dim=2, hidden=(9, 8), output=nn.Identity, generator=random
        ),
        MetaDiscriminator((2,), hidden=(9, 8), generator=random),
    )


def batches(steps: int, moves: int, n: int = 12) -> list[dict]:
    """The noise of each step: `moves` batches for D and one for G."""
    random = torch.Generator().manual_seed(6)

    def batch() -> dict[str, torch.Tensor]:
        return {
            "real": torch.randn(n, 2, generator=random) * 0.2 + 0.5,
            "z": torch.randn(n, 2, generator=random),
            "mix": torch.rand(n, generator=random),
        }

    return [{"D": [batch() for _ in range(moves)], "G": batch()} for _ in range(steps)]


def penalty(regulariser, d, real, fake, mix) -> torch.Tensor:
    weight = WEIGHT.get(regulariser, 0.0)
    if regulariser == "R1":
        return weight / 2 * r1_penalty(d, real, 1)
    if regulariser == "R2":
        return weight / 2 * r2_penalty(d, fake, 1)
    if regulariser == "WGAN-GP":
        return weight * gradient_penalty(d, real, fake, mix, 1)
    return torch.zeros(())


def play(game: GAN, steps: list[dict], settings: dict) -> list[dict]:
    """The same steps by autograd and torch.optim."""
    G, D = game.players["G"], game.players["D"]
    kind, regulariser = settings["kind"], settings["regulariser"]
    optimisers = {
        player: torch.optim.Adam(
            net.parameters(),
            settings["rates"][player],
            betas=(settings["beta1"], 0.99),
        )
        if settings["optimiser"] == "Adam"
        else torch.optim.SGD(net.parameters(), settings["rates"][player])
        for player, net in game.players.items()
    }

    def slopes(player: str, batch: dict) -> tuple[torch.Tensor, list[torch.Tensor]]:
        real, fake = batch["real"], G(batch["z"])
        if player == "D":
            fake = fake.detach()
            loss = discriminator_loss(D(real), D(fake), kind)
            loss = loss + penalty(regulariser, D, real, fake, batch["mix"])
        else:
            loss = generator_loss(D(fake), kind, D(real))
        own = list(game.players[player].parameters())
        return loss, torch.autograd.grad(loss, own)

    def length(found: list[torch.Tensor]) -> float:
        return torch.cat([slope.flatten() for slope in found]).norm().item()

    def move(player: str, found: list[torch.Tensor]) -> None:
        for parameter, slope in zip(game.players[player].parameters(), found):
            parameter.grad = slope
        optimisers[player].step()

    seen = []
    for step in steps:
        losses, lengths = {}, {}
        if settings["simultaneous"]:
            losses["G"], of_g = slopes("G", step["G"])
        for batch in step["D"]:
            losses["D"], found = slopes("D", batch)
            move("D", found)
            lengths["D"] = length(found)
            if regulariser == "weight clipping":
                with torch.no_grad():
                    for parameter in D.parameters():
                        parameter.clamp_(-WEIGHT[regulariser], WEIGHT[regulariser])
        if not settings["simultaneous"]:
            losses["G"], of_g = slopes("G", step["G"])
        move("G", of_g)
        lengths["G"] = length(of_g)
        seen.append(
            {
                "losses": {player: loss.item() for player, loss in losses.items()},
                "slopes": lengths,
                "params": {
                    player: {k: v.detach().clone() for k, v in own.items()}
                    for player, own in game.parameters().items()
                },
            }
        )
    return seen


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def compare(javascript, steps: list[dict], **settings) -> None:
    settings = {
        "kind": "non-saturating",
        "regulariser": "none",
        "simultaneous": False,
        "optimiser": "SGD",
        "rates": {"D": 0.1, "G": 0.05},
        "beta1": 0.5,
    } | settings
    settings["weight"] = WEIGHT.get(settings["regulariser"], 0.0)
    game = nets()
    start = {
        player: {k: v.detach().clone() for k, v in own.items()}
        for player, own in game.parameters().items()
    }
    wanted = play(game, steps, settings)
    found = javascript(
        PLAY,
        {"params": plain(start), "batches": plain(steps), "settings": settings},
    )
    for ours, theirs in zip(found, wanted, strict=True):
        for player, own in theirs["params"].items():
            assert ours["losses"][player] == pytest.approx(
                theirs["losses"][player], abs=1e-4
            )
            assert ours["slopes"][player] == pytest.approx(
                theirs["slopes"][player], rel=1e-3, abs=1e-4
            )
            for name, value in own.items():
                torch.testing.assert_close(
                    torch.tensor(ours["params"][player][name]), value.flatten(), **CLOSE
                )
    for player, own in wanted[-1]["params"].items():  # the test sees a difference
        moved = [
            (value - start[player][name]).abs().max() for name, value in own.items()
        ]
        assert max(moved) > 50 * CLOSE["atol"]


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("kind", LOSSES)
def test_steps_are_those_of_autograd(javascript, kind, regulariser):
    compare(javascript, batches(5, 2), kind=kind, regulariser=regulariser)


@pytest.mark.parametrize("regulariser", ["none", "R1", "WGAN-GP"])
@pytest.mark.parametrize("simultaneous", [False, True])
def test_steps_of_adam(javascript, simultaneous, regulariser):
    compare(
        javascript,
        batches(6, 1),
        regulariser=regulariser,
        simultaneous=simultaneous,
        optimiser="Adam",
        rates={"D": 0.02, "G": 0.01},
        beta1=0.8,
    )


def test_at_once_differs_from_alternating(javascript):
    compare(javascript, batches(4, 2), simultaneous=True)


@pytest.mark.parametrize("regulariser", ["R1", "WGAN-GP"])
def test_slopes_of_a_penalty_are_those_of_double_backward(javascript, regulariser):
    """Plain autograd through ∇ₓd, with nothing of the library."""
    D = nets().players["D"]
    x = batches(1, 1)[0]["G"]["real"].requires_grad_()
    (slopes,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    norms = slopes.norm(dim=1)
    value = (norms**2).mean() / 2 if regulariser == "R1" else ((norms - 1) ** 2).mean()
    names = dict(D.named_parameters())
    wanted = torch.autograd.grad(
        3 * value, list(names.values()), allow_unused=True
    )  # the last bias moves no slope
    found = javascript(
        """async ({ base, own, x, regulariser }) => {
          const load = (name) => import(`${base}/${name}.js`);
          const [{ Tensor, backward }, { slopePenalty }] =
            await Promise.all(["tensor", "game"].map(load));
          const matrix = (rows, name = "") => {
            const flat = Float32Array.from(rows.flat());
            return name.endsWith("bias")
              ? new Tensor(1, flat.length, flat)
              : new Tensor(rows.length, rows[0].length, flat);
          };
          const fixed = Object.fromEntries(
            Object.entries(own).map(([name, rows]) => [name, matrix(rows, name)]));
          const leaves = Object.fromEntries(
            Object.entries(fixed).map(([name, value]) => [name, value.asParameter()]));
          const at = matrix(x);
          const { value, term } = slopePenalty(regulariser, 3, leaves, fixed, at);
          backward(term);
          return { value, slopes: Object.values(leaves).map(
            ({ grad, data }) => [...(grad ?? new Float32Array(data.length))]) };
        }""",
        {
            "own": {name: value.tolist() for name, value in names.items()},
            "x": x.tolist(),
            "regulariser": regulariser,
        },
    )
    assert found["value"] == pytest.approx(3 * value.item(), abs=1e-4)
    for ours, theirs, parameter in zip(
        found["slopes"], wanted, names.values(), strict=True
    ):
        theirs = torch.zeros_like(parameter) if theirs is None else theirs
        ours = torch.tensor(ours, dtype=torch.float32)
        torch.testing.assert_close(ours, theirs.flatten(), **CLOSE)


def test_every_name_is_there(javascript):
    losses, regularisers = javascript(
        """async ({ base }) => {
          const { GAME_LOSSES, REGULARISERS } = await import(`${base}/game.js`);
          return [GAME_LOSSES, REGULARISERS];
        }""",
        {},
    )
    assert set(losses) == set(LOSSES)
    assert regularisers == list(REGULARISERS)


# --- the three starts, the family, and the distance ---------------------------

ADAPT = """async ({ base, weights, start, support, noise, z, options }) => {
  const load = (name) => import(`${base}/${name}.js`);
  const [{ Tensor }, { planeNets }, { readWeights, initialisation }, adapt] =
    await Promise.all(["tensor", "game", "nets", "adapt"].map(load));
  const bytes = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0));
  const params = initialisation(readWeights(bytes.buffer).tensors, start);
  const matrix = (rows) => new Tensor(rows.length, 2, Float32Array.from(rows.flat()));
  const steps = adapt.adaptationSteps(planeNets, params, matrix(support),
    { ...options, noise: noise.map(([D, G]) => ({ D: matrix(D), G: matrix(G) })) });
  return [...steps].map(({ params }) =>
    [...planeNets.G(params.G, matrix(z)).data]);
}"""


@pytest.fixture(scope="module")
def starts():
    """Start → its game, and what the file says of itself."""
    games = {}
    with safe_open(playground.GAME, "pt") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
        for start in ("random", "pooled", "meta"):
            games[start] = GAN(*playground.plane_nets())
            for player, own in games[start].parameters().items():
                for name, value in own.items():
                    value.data.copy_(file.get_tensor(f"{start}.{player}.{name}"))
    return games, about


@pytest.mark.parametrize("start", ["random", "pooled", "meta"])
@pytest.mark.parametrize("simultaneous", [False, True])
def test_adapted_samples_are_the_librarys(javascript, starts, start, simultaneous):
    game, about = starts[0][start], starts[1]
    random = torch.Generator().manual_seed(8)
    batch = playground.ArcTasks().sample(1, shots=9, query_shots=1, generator=random)
    noise = game.noise(1, 6, about["fakes"], generator=random)
    z = torch.randn(1, 20, 2, generator=random)
    rate = about["factors"][start] * about["rates"]["G"]
    with torch.no_grad():
        states = adaptation_steps(
            game,
            batch.support,
            inner_lr=rate,
            noise=noise,
            simultaneous=simultaneous,
            path="loop",
        )
        wanted = torch.stack([state["G"](z).flatten() for state in states])
    found = javascript(
        ADAPT,
        {
            "weights": base64.b64encode(playground.GAME.read_bytes()).decode(),
            "start": start,
            "support": batch.support[0].tolist(),
            "noise": noise[0].tolist(),
            "z": z[0].tolist(),
            "options": {
                "rates": {"D": rate, "G": rate},
                "simultaneous": simultaneous,
            },
        },
    )
    torch.testing.assert_close(torch.tensor(found), wanted, **CLOSE)
    assert (wanted[-1] - wanted[0]).abs().max() > 0.1  # the test sees a difference


def test_the_numbers_of_the_file_are_computed_from_its_weights(starts):
    games, about = starts
    assert playground.GAME.stat().st_size < 200_000
    assert about["steps"] == playground.FEW.inner_steps
    found = {}
    for start, game in games.items():
        factor = about["factors"][start]
        reached = playground.distances(
            game, factor, about["steps"], about["heldOut"]["tasks"], seed=2
        )[-1]
        mean, error = about["heldOut"][start]
        assert reached.mean().item() == pytest.approx(mean, rel=1e-2)
        assert (reached.std() / len(reached) ** 0.5).item() == pytest.approx(
            error, rel=1e-2
        )
        found[start] = mean, error
    (meta, a), (pooled, b) = found["meta"], found["pooled"]
    assert pooled - meta > 4 * (a + b) and pooled < found["random"][0]


def test_the_random_start_is_where_training_began(starts):
    fresh = GAN(*playground.plane_nets()).parameters()
    for player, own in starts[0]["random"].parameters().items():
        for name, value in own.items():
            assert value.equal(fresh[player][name])


def test_the_energy_distance(javascript):
    x, y = torch.randn(30, 2), torch.randn(25, 2) * 0.4 + 1
    found, same = javascript(
        """async ({ base, x, y }) => {
          const { asPoints, energyDistance } = await import(`${base}/points.js`);
          const [a, b] = [asPoints(x), asPoints(y)];
          return [energyDistance(a, b), energyDistance(a, asPoints(x))];
        }""",
        {"x": x.tolist(), "y": y.tolist()},
    )
    wanted = playground.energy_distance(x, y).item()
    assert found == pytest.approx(wanted, abs=1e-5) and wanted > 0.3
    assert same < 0  # a set and its copy: each point lies on one of the other's


def test_the_page_draws_from_the_family_that_was_learned(javascript):
    """Of many arcs: the spread of a task's mean, of its points, and their turn."""
    arcs = javascript(
        """async ({ base }) => {
          const points = await import(`${base}/points.js`);
          const { uniform } = await import(`${base}/random.js`);
          const random = uniform(1);
          const family = points.DISTRIBUTIONS[points.FAMILY];
          return Array.from({ length: 600 }, () =>
            [...points.drawPoints(family(random), 40).data]);
        }""",
        {},
    )
    ours = torch.tensor(arcs).view(600, 40, 2)
    random = torch.Generator().manual_seed(1)
    theirs = (
        playground.ArcTasks()
        .sample(600, shots=40, query_shots=1, generator=random)
        .support
    )

    def summary(x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        cov = centred.transpose(1, 2) @ centred / 40
        across, along = torch.linalg.eigvalsh(cov).sqrt().unbind(-1)
        parts = [x.mean(1)[:, 0], x.mean(1)[:, 1], across, along]
        return torch.stack([s for part in parts for s in (part.mean(), part.std())])

    torch.testing.assert_close(summary(ours), summary(theirs), atol=0.03, rtol=0)
