import pytest
import torch
from torch import nn

from metagan_lite.nets import (
    ConvDiscriminator,
    ConvGenerator,
    MetaDiscriminator,
    MetaGenerator,
    Resize,
    check_net,
)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (2,)])
def test_mlp_pair_follows_the_data(shape):
    generator, discriminator = MetaGenerator(shape), MetaDiscriminator(shape)
    samples = generator(torch.randn(4, 100))
    assert samples.shape == (4, *shape)
    assert samples.abs().max() <= 1
    assert discriminator(samples).shape == (4,)


def test_default_widths_are_the_article_s():
    shapes = [tuple(p.shape) for p in MetaGenerator().parameters()]
    assert shapes == [(256, 100), (256,), (784, 256), (784,)]
    shapes = [tuple(p.shape) for p in MetaDiscriminator().parameters()]
    assert shapes == [(256, 784), (256,), (1, 256), (1,)]


def test_discriminator_gives_raw_logits():
    discriminator = MetaDiscriminator((1, 8, 8))
    logits = discriminator(100 * torch.randn(200, 1, 8, 8))
    assert logits.max() > 1 and logits.min() < 0


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 8)])
def test_conv_pair(shape):
    samples = ConvGenerator(shape, latent_dim=12)(torch.randn(5, 12))
    assert samples.shape == (5, *shape)
    assert samples.abs().max() <= 1
    assert ConvDiscriminator(shape)(samples).shape == (5,)


def test_conv_pair_refuses_a_size_it_cannot_halve_twice():
    with pytest.raises(ValueError, match="divisible by 4, got 10×10.*MetaGenerator"):
        ConvGenerator((1, 10, 10))


def test_initial_deviation_is_gain_over_root_fan_in():
    net = MetaDiscriminator((400,), hidden=(900, 900))
    first, _, last = (m for m in net if isinstance(m, nn.Linear))
    torch.testing.assert_close(
        first.weight.std() * 20, torch.tensor(1.4), rtol=0.02, atol=0
    )
    torch.testing.assert_close(
        last.weight.std() * 30, torch.tensor(1.0), rtol=0.1, atol=0
    )
    assert not first.bias.any()


def test_conv_initialisation_keeps_the_variance_of_its_input():
    # A transposed 4×4 stride-2 convolution sums 4 taps per channel, not 16.
    generator = ConvGenerator(latent_dim=64, channels=64)
    convolution = generator[4]
    out = convolution(torch.randn(64, 128, 7, 7))[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(out.std().item(), 1.4, rtol=0.05, atol=0)


def test_seed_decides_the_initialisation():
    def weights(seed):
        return MetaGenerator(generator=torch.Generator().manual_seed(seed))[0].weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    "layer, word",
    [
        (nn.BatchNorm1d(4), "GroupNorm"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "GroupNorm"),
        (nn.Dropout(0.5), "remove"),
    ],
)
def test_nets_whose_inner_loop_is_not_defined_are_refused(layer, word):
    net = nn.Sequential(nn.Linear(3, 4), layer)
    kind = type(layer).__name__
    with pytest.raises(ValueError, match=f"critic: .*{kind} at '1'.*{word}") as error:
        check_net(net, "critic")
    assert "\n" not in str(error.value)


def test_a_frozen_net_is_refused():
    with pytest.raises(ValueError, match="unfreeze"):
        check_net(nn.Linear(2, 2).requires_grad_(False), "G")


def test_group_norm_and_layer_norm_are_welcome():
    check_net(nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.LayerNorm(4)), "G")


# --- a smooth basis ----------------------------------------------------------


def test_resize_is_pytorch_s_bicubic_and_keeps_constants():
    images = torch.rand(3, 2, 12, 12)
    for size in (20, 8):
        resized = Resize((2, 12, 12), size)(images.flatten(1)).view(3, 2, size, size)
        expected = nn.functional.interpolate(
            images, size=(size, size), mode="bicubic", antialias=size < 12
        )
        torch.testing.assert_close(resized, expected)
        flat = Resize((2, 12, 12), size)(torch.full((1, 288), 0.3))
        torch.testing.assert_close(flat, torch.full((1, 2 * size * size), 0.3))
    assert not list(Resize((1, 4, 4), 8).parameters())


def test_a_pair_on_a_basis_draws_smoothly_and_sees_smoothly():
    shape = (1, 20, 20)
    generator = MetaGenerator(shape, basis=10)
    discriminator = MetaDiscriminator(shape, basis=10)
    samples = generator(torch.randn(64, 100))
    assert samples.shape == (64, *shape) and samples.abs().max() <= 1
    assert generator[2].out_features == discriminator[2].in_features == 100

    def roughness(x):
        return (x[..., 1:] - x[..., :-1]).square().mean() / x.var()

    assert roughness(samples) < 0.5 * roughness(
        MetaGenerator(shape)(torch.randn(64, 100))
    )
    logits = discriminator(samples)
    checkers = torch.ones(20, 20)
    checkers[::2, ::2] = checkers[1::2, 1::2] = -1
    change = discriminator(samples + 0.5 * checkers) - logits
    by_blob = discriminator(samples + 0.5) - logits
    assert change.std() < 0.1 * by_blob.std()


@pytest.mark.parametrize(
    "shape, basis, words",
    [
        ((2,), 4, r"for samples \[2\]"),
        ((1, 8, 8), 9, "got 9"),
        ((1, 8, 6), 4, "square"),
    ],
)
def test_impossible_bases(shape, basis, words):
    for net in (MetaGenerator, MetaDiscriminator):
        with pytest.raises(ValueError, match=words):
            net(shape, basis=basis)
