"""The feature net, judged by digits that it has never seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

from metagan_lite.features import FeatureNet, prototypical_loss, train_feature_net
from metagan_lite.tasks import ClassTasks

HELD_OUT = (2, 5, 7)


def digit_images(label: int) -> torch.Tensor:
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images[labels == label], dtype=torch.float32)
    return images.view(-1, 1, 8, 8) / 8 - 1


def digit_tasks(*labels: int, rotations: bool = False) -> ClassTasks:
    images = [digit_images(label) for label in labels]
    targets = torch.tensor([len(i) for i in images])
    return ClassTasks(
        torch.cat(images),
        torch.arange(len(labels)).repeat_interleave(targets),
        rotations=rotations,
    )


def held_out_accuracy(net: FeatureNet) -> float:
    """Nearest prototype of 20 images; chance is 1/3."""
    classes = [net(digit_images(label)) for label in HELD_OUT]
    prototypes = torch.stack([features[:20].mean(0) for features in classes])
    hits = [
        (torch.cdist(features[20:], prototypes).argmin(1) == c).float().mean().item()
        for c, features in enumerate(classes)
    ]
    return sum(hits) / len(hits)


@pytest.fixture(scope="module")
def net() -> FeatureNet:
    seen = [d for d in range(10) if d not in HELD_OUT]
    tasks = digit_tasks(*seen, rotations=True)
    return train_feature_net(tasks, generator=torch.Generator().manual_seed(0))


def test_held_out_digits_are_told_apart(net):
    assert held_out_accuracy(net) > 0.9


def test_training_is_what_does_it(net):
    rng = torch.Generator().manual_seed(0)
    untrained = FeatureNet((1, 8, 8), generator=rng)
    with torch.no_grad():
        assert held_out_accuracy(net) > held_out_accuracy(untrained) + 0.05


def test_prototypical_loss_matches_a_loop():
    rng = torch.Generator().manual_seed(0)
    support = torch.randn(3, 4, 2, generator=rng, dtype=torch.float64).numpy()
    query = torch.randn(3, 5, 2, generator=rng, dtype=torch.float64).numpy()
    losses = []
    for c in range(3):
        for image in query[c]:
            scores = [np.exp(-((image - s.mean(0)) ** 2).sum()) for s in support]
            losses += [-np.log(scores[c] / sum(scores))]
    found = prototypical_loss(torch.tensor(support), torch.tensor(query))
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-12)


def test_the_net_comes_back_frozen(net):
    assert not net.training
    assert all(not p.requires_grad for p in net.parameters())
    image = torch.zeros(1, 1, 8, 8, requires_grad=True)
    assert net(image).requires_grad  # a loss on features would still reach the image


def test_features_of_an_image_do_not_depend_on_its_batch():
    net = FeatureNet((1, 8, 8)).train()  # where batch statistics would be used
    images = digit_images(2)[:6]
    together = net(images)
    assert together.shape == (6, 64)
    assert_close(together[:1], net(images[:1]))
    assert_close(net(images.view(2, 3, 1, 8, 8)), together.view(2, 3, 64))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 10, 10), (3, 16, 11), (1, 28, 28)])
def test_every_image_size_gets_its_features(shape):
    assert FeatureNet(shape, features=5)(torch.zeros(2, *shape)).shape == (2, 5)


def test_training_is_a_function_of_its_generator():
    def weights(seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        net = train_feature_net(digit_tasks(0, 1, 3), steps=2, generator=rng)
        return torch.nn.utils.parameters_to_vector(net.parameters())

    assert_close(weights(1), weights(1), rtol=0, atol=0)
    assert not torch.equal(weights(1), weights(2))


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="H, W ≥ 8"):
        FeatureNet((1, 7, 8))
    with pytest.raises(ValueError, match="images must be"):
        FeatureNet((1, 8, 8))(torch.zeros(2, 8, 8))
    with pytest.raises(ValueError, match="ways ≥ 2"):
        train_feature_net(digit_tasks(0))
