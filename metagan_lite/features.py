"""A small net whose features the scores are computed in.

Inception features mean little on 10×10 ink drawings, so the book scores with a net
trained on the meta-train classes. Scores depend on it: name it with the score, as
"KID (small net)", never as FID or KID alone; fix it before tuning anything; train no
generator on its features; and repeat a result with a second net (another seed).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tasks import ClassTasks

__all__ = ["FeatureNet", "embed", "prototypical_loss", "train_feature_net"]


@torch.no_grad()
def embed(images: Tensor, features: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Features of the images of tasks, ``[T, n, *S]`` → ``[T, n, d]``.

    Args:
        features: Images ``[n, *S]`` → ``[n, d]``; None for the pixels themselves.
    """
    if features is None:
        return images.flatten(2)
    return features(images.flatten(0, 1)).unflatten(0, images.shape[:2])


class FeatureNet(nn.Module):
    """Images → features: three convolutions with GroupNorm and a linear layer.

    GroupNorm keeps every image's features independent of the other images, so that a
    score does not depend on how the images were batched.

    Args:
        sample_shape: (C, H, W), H and W at least 8; meant for 8×8 to 28×28.
        features: number of features d.
        generator: CPU source of the initial weights; None is torch's global one.

    Raises:
        ValueError: ``sample_shape`` is not (C, H, W) with H, W ≥ 8.
    """

    name = "small net"  # scores read f"KID ({net.name})"

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        features: int = 64,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(sample_shape) != 3 or min(sample_shape[1:]) < 8:
            raise ValueError(
                f"sample_shape must be (C, H, W) with H, W ≥ 8, got {sample_shape}"
            )
        self.sample_shape = tuple(sample_shape)
        channels, height, width = sample_shape
        # Large images are halved at once; small ones have no detail to spare.
        strides = (2 if min(height, width) > 16 else 1, 2, 2)
        layers: list[nn.Module] = []
        for out_channels, stride in zip((24, 32, 48), strides):
            layers += [
                nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False),
                nn.GroupNorm(8, out_channels),
                nn.SiLU(),
            ]
            channels = out_channels
            height, width = -(-height // stride), -(-width // stride)
        layers += [nn.Flatten(), nn.Linear(channels * height * width, features)]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            for module in self.layers:
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    fan_in = module.weight[0].numel()
                    module.weight.normal_(0, fan_in**-0.5, generator=generator)
            self.layers[-1].bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """Features [..., d] of images [..., C, H, W], with any leading dimensions."""
        if images.shape[-3:] != self.sample_shape:
            raise ValueError(
                f"images must be [..., {', '.join(map(str, self.sample_shape))}], "
                f"got {list(images.shape)}"
            )
        features = self.layers(images.reshape(-1, *self.sample_shape))
        return features.reshape(*images.shape[:-3], -1)


def prototypical_loss(support: Tensor, query: Tensor) -> Tensor:
    """Cross-entropy of query features over squared distances to class means.

    Prototypical networks, Snell et al. 2017, eqs. 1–2: a query image is classified by
    its distance to each class's mean support feature, so distances between features
    are what is trained, and they carry over to classes not seen.

    Args:
        support: [N, K, d] features of K images of each of N classes.
        query: [N, Q, d] features of other images of the same classes.

    Returns:
        A scalar, the mean over the N·Q query images; log N at chance.
    """
    prototypes = support.mean(1)  # [N, d]
    # Written out: the gradient of cdist at distance 0 is not finite.
    distances = (query[:, :, None] - prototypes).square().sum(-1)  # [N, Q, N]
    targets = torch.arange(len(query), device=query.device)
    targets = targets.repeat_interleave(query.shape[1])
    return F.cross_entropy(-distances.flatten(0, 1), targets)


def train_feature_net(
    tasks: ClassTasks,
    *,
    steps: int = 300,
    ways: int | None = None,
    shots: int = 5,
    features: int = 64,
    lr: float = 2e-3,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> FeatureNet:
    """Train a ``FeatureNet`` to tell classes apart from a few images of each.

    Adam on ``prototypical_loss`` over N-way episodes.

    Args:
        tasks: meta-train classes only; with a held-out class among them the scores
            on it would be flattering. With few classes take ``rotations=True``, which
            makes four of each and carries over better to new ones.
        steps: Adam steps, one episode each.
        ways: classes in an episode; None takes all, at most 20.
        shots: support images, and also query images, of each class in an episode.
        features: number of features d.
        lr: learning rate of Adam at the start; it falls linearly to 0.
        generator: CPU source of the weights, the episodes and the noise.
        device: where to train; the images may live elsewhere.

    Returns:
        The net on ``device``, in eval mode, its parameters frozen.

    Raises:
        ValueError: fewer than two classes to tell apart.
    """
    ways = min(tasks.num_classes, 20) if ways is None else ways
    if ways < 2:
        raise ValueError(
            f"an episode needs ways ≥ 2 classes, got ways={ways} of "
            f"{tasks.num_classes} classes"
        )
    net = FeatureNet(tasks.sample_shape, features, generator=generator).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)

    def noisy(images: Tensor) -> Tensor:
        # A few classes are soon learned by heart; noise delays that.
        noise = torch.randn(images.shape, generator=generator).to(images)
        return images + 0.3 * noise

    for _ in range(steps):
        episode = tasks.sample(
            1, shots=shots, query_shots=shots, ways=ways, generator=generator
        ).to(device)
        support, query = net(noisy(episode.support[0])), net(noisy(episode.query[0]))
        # An episode holds the shots of a class together: [ways·shots, d].
        loss = prototypical_loss(*(x.view(ways, shots, -1) for x in (support, query)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return net.eval().requires_grad_(False)
