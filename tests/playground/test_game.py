"""The game in two dimensions does what PyTorch does, number for number."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
    return { losses: state.losses, params };
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

    def move(player: str, found: list[torch.Tensor]) -> None:
        for parameter, slope in zip(game.players[player].parameters(), found):
            parameter.grad = slope
        optimisers[player].step()

    seen = []
    for step in steps:
        losses = {}
        if settings["simultaneous"]:
            losses["G"], of_g = slopes("G", step["G"])
        for batch in step["D"]:
            losses["D"], found = slopes("D", batch)
            move("D", found)
            if regulariser == "weight clipping":
                with torch.no_grad():
                    for parameter in D.parameters():
                        parameter.clamp_(-WEIGHT[regulariser], WEIGHT[regulariser])
        if not settings["simultaneous"]:
            losses["G"], of_g = slopes("G", step["G"])
        move("G", of_g)
        seen.append(
            {
                "losses": {player: loss.item() for player, loss in losses.items()},
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
