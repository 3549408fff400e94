"""The networks: a generator and a discriminator, as MLPs and as convolutions.

Any pair of ``nn.Module`` may take their place: a generator maps ``z [n, latent_dim]``
to samples ``[n, *S]``, a discriminator maps samples ``[n, *S]`` to raw logits ``[n]``
or ``[n, 1]``. Neither may keep batch statistics (:func:`check_net` says why).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ConvDiscriminator",
    "ConvGenerator",
    "MetaDiscriminator",
    "MetaGenerator",
    "Resize",
    "check_net",
]

_HIDDEN_GAIN = 1.4  # below √2: the variance of a SiLU network never grows with depth


def _initialise(module: nn.Module, generator: torch.Generator | None) -> None:
    """Weights N(0, g²/fan_in), g = 1.4 (1 in the last layer); biases zero."""
    layers = [
        m
        for m in module.modules()
        if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))
    ]
    for layer in layers:
        gain = 1.0 if layer is layers[-1] else _HIDDEN_GAIN
        fan_in = layer.weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):  # each output sees (k/stride)² taps
            taps = math.prod(layer.kernel_size) / math.prod(layer.stride)
            fan_in = layer.in_channels * taps
        with torch.no_grad():
            layer.weight.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()


def _widths(hidden: int | Sequence[int]) -> tuple[int, ...]:
    return (hidden,) if isinstance(hidden, int) else tuple(hidden)


def _mlp(widths: Sequence[int], activation: Callable[[], nn.Module]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths, widths[1:]):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return layers[:-1]  # the last layer is linear


class Resize(nn.Module):
    """Flat images resized by a fixed linear map: bicubic, antialiased when it shrinks.

    A generator that draws on a coarse grid and is then enlarged can only draw smooth
    strokes, and a discriminator that looks at a coarse picture cannot judge by single
    pixels. Both then learn from fewer images.

    Args:
        sample_shape: (C, H, W) of the images that come in.
        size: Side of those that go out, square.

    Shapes: ``[n, C·H·W]`` → ``[n, C·size·size]``.
    """

    def __init__(self, sample_shape: Sequence[int], size: int):
        super().__init__()
        self.channels, height, width = sample_shape
        one_each = torch.eye(height * width).view(-1, 1, height, width)
        resized = F.interpolate(
            one_each,
            size=(size, size),
            mode="bicubic",
            antialias=size < min(height, width),
        )
        self.register_buffer("map", resized.flatten(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.unflatten(-1, (self.channels, -1)) @ self.map).flatten(-2)


def _check_basis(basis: int | None, sample_shape: tuple[int, ...]) -> None:
    if basis is not None and (
        len(sample_shape) != 3 or not 1 < basis <= min(sample_shape[1:])
    ):
        raise ValueError(
            f"expected a basis from 2 to the image's side, got {basis} for samples"
            f" {list(sample_shape)}; leave it out, or make it smaller"
        )
    if basis is not None and sample_shape[1] != sample_shape[2]:
        raise ValueError(
            f"a basis needs square images, got {list(sample_shape)}; leave it out"
        )


class MetaGenerator(nn.Sequential):
    """G_θ: an MLP from noise to samples, with the article's widths as defaults.

    Args:
        sample_shape: ``*S``, the shape of one sample, ``(1, 28, 28)`` for MNIST.
        latent_dim: Length of the noise vector z.
        hidden: Widths of the hidden layers (the article: one of 256).
        activation: Makes a hidden activation. Smooth ones keep the second derivatives
            of the meta-gradient meaningful; the article has ReLU.
        output: Makes the last activation; Tanh puts images in [-1, 1], and
            ``nn.Identity`` leaves points of the plane free (and then wants an inner
            rate of about 0.05).
        basis: Side of a coarse grid to draw on, enlarged by :class:`Resize` before the
            output activation; ``None`` for the image's own pixels.
        generator: Source of the random initialisation.

    Shapes: ``z [n, latent_dim]`` → ``[n, *S]``.
    """

    def __init__(
        self,
        sample_shape: Sequence[int] = (1, 28, 28),
        *,
        latent_dim: int = 100,
        hidden: int | Sequence[int] = (256,),
        activation: Callable[[], nn.Module] = nn.SiLU,
        output: Callable[[], nn.Module] = nn.Tanh,
        basis: int | None = None,
        generator: torch.Generator | None = None,
    ):
        sample_shape = tuple(sample_shape)
        _check_basis(basis, sample_shape)
        drawn = sample_shape if basis is None else (sample_shape[0], basis, basis)
        widths = (latent_dim, *_widths(hidden), math.prod(drawn))
        layers = _mlp(widths, activation)
        if basis is not None:
            layers.append(Resize(drawn, sample_shape[-1]))
        super().__init__(*layers, output(), nn.Unflatten(1, sample_shape))
        self.latent_dim = latent_dim
        self.sample_shape = sample_shape
        _initialise(self, generator)


class MetaDiscriminator(nn.Sequential):
    """D_φ: an MLP from samples to raw logits, with the article's widths as defaults.

    There is no sigmoid: every loss takes logits, because log(1 − sigmoid(x)) is −∞ in
    float32 from x = 17 on (fault A11 of the article).

    Args: as for :class:`MetaGenerator`; with a ``basis`` it sees the reduced image.

    Shapes: ``x [n, *S]`` → logits ``[n]``.
    """

    def __init__(
        self,
        sample_shape: Sequence[int] = (1, 28, 28),
        *,
        hidden: int | Sequence[int] = (256,),
        activation: Callable[[], nn.Module] = nn.SiLU,
        basis: int | None = None,
        generator: torch.Generator | None = None,
    ):
        sample_shape = tuple(sample_shape)
        _check_basis(basis, sample_shape)
        layers: list[nn.Module] = [nn.Flatten()]
        seen = sample_shape
        if basis is not None:
            layers.append(Resize(sample_shape, basis))
            seen = (sample_shape[0], basis, basis)
        widths = (math.prod(seen), *_widths(hidden), 1)
        super().__init__(*layers, *_mlp(widths, activation), nn.Flatten(0))
        self.sample_shape = sample_shape
        _initialise(self, generator)


def _quarter(sample_shape: Sequence[int]) -> tuple[int, int, int]:
    channels, height, width = sample_shape
    if height % 4 or width % 4:
        raise ValueError(
            "the convolutional pair halves an image twice: expected height and width"
            f" divisible by 4, got {height}×{width}; resize, or use MetaGenerator"
        )
    return channels, height // 4, width // 4


class ConvGenerator(nn.Sequential):
    """A small convolutional G for images, 28×28 by default, with GroupNorm.

    Args: as for :class:`MetaGenerator`; ``channels`` is the width at half resolution.

    Shapes: ``z [n, latent_dim]`` → ``[n, C, H, W]``. H and W must divide by 4.
    """

    def __init__(
        self,
        sample_shape: Sequence[int] = (1, 28, 28),
        *,
        latent_dim: int = 64,
        channels: int = 32,
        generator: torch.Generator | None = None,
    ):
        colours, height, width = _quarter(sample_shape)
        wide = 2 * channels
        super().__init__(
            nn.Linear(latent_dim, wide * height * width),
            nn.Unflatten(1, (wide, height, width)),
            nn.GroupNorm(math.gcd(8, wide), wide),
            nn.SiLU(),
            nn.ConvTranspose2d(wide, channels, 4, stride=2, padding=1),
            nn.GroupNorm(math.gcd(8, channels), channels),
            nn.SiLU(),
            nn.ConvTranspose2d(channels, colours, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.latent_dim = latent_dim
        self.sample_shape = tuple(sample_shape)
        _initialise(self, generator)


class ConvDiscriminator(nn.Sequential):
    """A small convolutional D for images, without normalisation.

    Args: as for :class:`ConvGenerator`.

    Shapes: ``x [n, C, H, W]`` → logits ``[n]``. H and W must divide by 4.
    """

    def __init__(
        self,
        sample_shape: Sequence[int] = (1, 28, 28),
        *,
        channels: int = 32,
        generator: torch.Generator | None = None,
    ):
        colours, height, width = _quarter(sample_shape)
        super().__init__(
            nn.Conv2d(colours, channels, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * height * width, 1),
            nn.Flatten(0),
        )
        self.sample_shape = tuple(sample_shape)
        _initialise(self, generator)


def check_net(net: nn.Module, role: str) -> None:
    """Refuse a net in which the inner loop would not be well defined.

    Batch statistics couple the samples of a batch (one sample's score then depends on
    the others, and per-sample penalties mean nothing) and are changed by every forward
    pass; dropout draws noise that the inner loop cannot replay.

    Raises:
        ValueError: naming the layer and what to put in its place.
    """
    for name, module in net.named_modules():
        kind = type(module).__name__
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if batch_norm or getattr(module, "track_running_stats", False):
            raise ValueError(
                f"{role}: expected no batch statistics, got {kind} at '{name}'; they"
                " couple samples and change at every call: use GroupNorm or LayerNorm"
            )
        dropout = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if dropout or isinstance(module, nn.RReLU):
            raise ValueError(
                f"{role}: expected a deterministic net, got {kind} at '{name}'; its"
                " noise cannot be replayed in the inner loop: remove it"
            )
    if not any(p.requires_grad for p in net.parameters()):
        raise ValueError(
            f"{role}: expected trainable parameters, got none with requires_grad;"
            " unfreeze the net with net.requires_grad_()"
        )
