"""Chapter 8: formulas against the library's losses and inner loop, in float64."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metagan_lite.adapt import adapt
from metagan_lite.features import prototypical_loss
from metagan_lite.games import Supervised
from metagan_lite.losses import cross_entropy

WAYS, SHOTS, FEATURES = 4, 3, 5


def normal(*shape: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def episode(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features [N·K, F] of a support set, and its labels, in no order."""
    labels = torch.arange(WAYS).repeat(SHOTS)
    return normal(len(labels), FEATURES, seed=seed), labels


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([features[labels == k].mean(0) for k in range(WAYS)])


def head(start: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(FEATURES, WAYS).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    if start is not None:
        layer.weight.data.copy_(start)
    return layer


def adapted_logits(
    net: nn.Module, features: Tensor, labels: Tensor, query: Tensor, **options
) -> Tensor:
    """The library's inner loop on one task, then the logits of the query."""
    game = Supervised(net, "cross-entropy")
    players = adapt(game, (features[None], labels[None]), path="loop", **options)
    return players["net"](query[None])[0].detach()


def test_8_1_squared_distances_to_prototypes_are_a_linear_classifier():
    support, query = normal(WAYS, SHOTS, FEATURES, seed=1), normal(6, FEATURES, seed=2)
    prototypes = support.mean(1)
    linear = F.linear(query, 2 * prototypes, -prototypes.square().sum(1))
    distances = torch.cdist(query, prototypes)
    gap = -distances.square() - linear
    # What is left is the same for all classes: minus the squared norm of the query.
    torch.testing.assert_close(gap, -query.square().sum(1, True).expand_as(gap))
    several = normal(WAYS, 2, FEATURES, seed=3)
    flat = F.linear(several.flatten(0, 1), 2 * prototypes, -prototypes.square().sum(1))
    expected = F.cross_entropy(flat, torch.arange(WAYS).repeat_interleave(2))
    torch.testing.assert_close(prototypical_loss(support, several), expected)
    # The distance itself is not linear, in differences of classes either.
    line = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None] * query[:1]
    logits = -torch.cdist(line, prototypes)
    assert (logits[:, 1] - logits[:, 0]).diff().diff().abs().max() > 0.01


def test_8_2_the_gradient_of_the_last_layer():
    features, labels = episode()
    start = normal(WAYS, FEATURES, seed=4)

    def loss(weight: Tensor) -> Tensor:
        return cross_entropy(features @ weight.T, labels)

    formula = torch.zeros_like(start)
    for a, label in zip(features, labels):  # written out, one example at a time
        predicted = (start @ a).exp() / (start @ a).exp().sum()
        predicted[label] -= 1
        formula += torch.outer(predicted, a) / len(labels)
    numeric = torch.zeros_like(start)
    for index in range(start.numel()):
        step = torch.zeros_like(start)
        step.view(-1)[index] = 1e-6
        numeric.view(-1)[index] = (loss(start + step) - loss(start - step)) / 2e-6
    torch.testing.assert_close(formula, numeric, rtol=1e-6, atol=1e-8)


def test_8_3_one_step_from_zero_is_a_classifier_of_centred_means():
    features, labels = episode(5)
    query, rate = normal(7, FEATURES, seed=6), 0.7
    ours = adapted_logits(head(), features, labels, query, inner_steps=1, inner_lr=rate)
    means = class_means(features, labels)
    expected = rate / WAYS * query @ (means - means.mean(0)).T
    torch.testing.assert_close(ours, expected)
    # Two steps are another classifier.
    twice = adapted_logits(
        head(), features, labels, query, inner_steps=2, inner_lr=rate
    )
    assert (twice - 2 * expected).abs().max() > 1e-3


def test_8_4_the_nearest_mean_has_a_norm_that_one_step_lacks():
    features, labels = episode(7)
    query, rate = normal(7, FEATURES, seed=8), 0.3
    one_step = adapted_logits(
        head(), features, labels, query, inner_steps=1, inner_lr=rate
    )
    means = class_means(features, labels)
    nearest = -torch.cdist(query, means).square() / 2
    rest = nearest - (WAYS / rate * one_step - means.square().sum(1) / 2)
    # The rest is one number for each query image: no class gains by it.
    torch.testing.assert_close(rest, rest[:, :1].expand_as(rest))
    # On a sphere the two rules agree.
    onto = F.normalize(means, dim=1)
    on_sphere = -torch.cdist(query, onto).square()
    assert torch.equal(on_sphere.argmax(1), (query @ (onto - onto.mean(0)).T).argmax(1))


@pytest.mark.parametrize("equal_rows", [True, False])
def test_8_5_renumbering_the_labels_renumbers_the_answers(equal_rows: bool):
    features, labels = episode(9)
    query = normal(7, FEATURES, seed=10)
    rows = normal(1 if equal_rows else WAYS, 6, seed=11).expand(WAYS, 6)
    net = nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), nn.Linear(6, WAYS)).double()
    for seed, parameter in enumerate(net.parameters()):
        parameter.data = normal(*parameter.shape, seed=20 + seed)
    net[2].weight.data = rows.clone()
    net[2].bias.data.fill_(0.4)
    number = torch.tensor([2, 0, 3, 1])  # class k gets the new number number[k]
    options = {"inner_steps": 3, "inner_lr": 0.5}
    before = adapted_logits(net, features, labels, query, **options)
    after = adapted_logits(net, features, number[labels], query, **options)
    same = torch.allclose(after[:, number], before, rtol=1e-9)
    assert same == equal_rows
    assert not torch.allclose(after, before, rtol=1e-3)


def test_8_6_without_adaptation_a_classifier_can_only_guess():
    logits = normal(9, WAYS, seed=12)
    labels = torch.arange(9) % WAYS
    numberings = [torch.tensor(p) for p in permutations(range(WAYS))]
    accuracy = torch.stack(
        [(logits.argmax(1) == number[labels]).double().mean() for number in numberings]
    ).mean()
    loss = torch.stack(
        [cross_entropy(logits, number[labels]) for number in numberings]
    ).mean()
    assert accuracy.item() == pytest.approx(1 / WAYS, rel=1e-12)
    listed = -logits.log_softmax(1).mean()
    assert loss.item() == pytest.approx(listed.item(), rel=1e-12)
    assert loss > math.log(WAYS) + 0.01
    flat = torch.zeros_like(logits)
    assert cross_entropy(flat, labels).item() == pytest.approx(math.log(WAYS))
