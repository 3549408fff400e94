import pytest
import torch
from torch import nn

from metagan_lite import (
    GAN,
    MetaDiscriminator,
    MetaGenerator,
    Supervised,
    TaskBatch,
    adapt,
)
from metagan_lite.losses import discriminator_loss, generator_loss


def pair(shape=(1, 4, 4)):
    return MetaGenerator(shape, latent_dim=3), MetaDiscriminator(shape)


def test_players_move_d_first():
    assert list(GAN(*pair()).players) == ["D", "G"]


@pytest.mark.parametrize("kind", ["non-saturating", "relativistic"])
def test_losses_use_each_player_s_own_noise(kind):
    game = GAN(*pair(), loss=kind)
    real, noise = torch.randn(5, 1, 4, 4), game.noise(1, 1, 5)[0, 0]
    G, D = game.players["G"], game.players["D"]
    of_d = discriminator_loss(D(real), D(G(noise[0])), kind)
    of_g = generator_loss(D(G(noise[1])), kind, D(real))
    torch.testing.assert_close(game.loss("D", game.players, real, noise), of_d)
    torch.testing.assert_close(game.loss("G", game.players, real, noise), of_g)


def test_r1_is_half_gamma_times_the_squared_slope():
    generator, _ = pair((2,))
    critic = nn.Linear(2, 1, bias=False)
    critic.weight.data = torch.tensor([[3.0, 4.0]])
    real, noise = torch.randn(6, 2), torch.zeros(2, 6, 3)
    plain, penalised = (
        GAN(generator, critic, r1=r1).loss(
            "D", {"G": generator, "D": critic}, real, noise
        )
        for r1 in (0.0, 0.2)
    )
    assert (penalised - plain).item() == pytest.approx(0.1 * 25, rel=1e-5)


def test_noise_is_standard_normal_and_fresh_for_each_player_and_step():
    noise = GAN(*pair()).noise(6, 5, 40, generator=torch.Generator().manual_seed(0))
    assert noise.shape == (6, 5, 2, 40, 3)
    assert noise.flatten().unique().numel() == noise.numel()
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03


def test_a_student_s_own_nets_fit():
    generator = nn.Sequential(nn.Linear(5, 2))
    game = GAN(
        generator,
        nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)),
        latent_dim=5,
    )
    assert game.sample_shape == (2,)
    loss = game.loss("G", game.players, torch.randn(3, 2), game.noise(1, 1, 3)[0, 0])
    assert loss.shape == ()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: GAN(nn.Linear(5, 2), nn.Linear(2, 1)), "latent_dim"),
        (lambda: GAN(nn.Linear(5, 2), nn.Linear(2, 1), latent_dim=4), "generator: .*4"),
        (lambda: GAN(nn.Linear(5, 2), nn.Linear(3, 1), latent_dim=5), r"\[3, 2\]"),
        (lambda: GAN(nn.Linear(5, 2), nn.Linear(2, 2), latent_dim=5), r"\[3, 2\].*1\)"),
        (lambda: GAN(*pair(), r1=-1.0), "r1 ≥ 0, got -1"),
        (lambda: GAN(*pair(), loss="hings"), "hinge.*got 'hings'"),
        (
            lambda: GAN(pair()[0], nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16))),
            "discriminator: .*BatchNorm1d.*GroupNorm",
        ),
        (lambda: Supervised(nn.Linear(2, 2), "mse"), "squared-error.*got 'mse'"),
    ],
)
def test_nets_that_do_not_fit_are_refused_in_one_line(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_supervised_needs_targets():
    game = Supervised(nn.Linear(1, 1), "squared-error")
    batch = TaskBatch(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1))
    with pytest.raises(ValueError, match="ways=N"):
        game.support(batch)
    with pytest.raises(ValueError, match=r"\(inputs, targets\), got Tensor; take game"):
        adapt(game, batch.support, inner_steps=1, inner_lr=0.1)
