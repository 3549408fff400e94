"""Checks of chapter 8's exercises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Answer, exercise, same


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_seeded(seed), dtype=torch.float64)


def _shuffled(labels: Tensor, seed: int) -> Tensor:
    return labels[torch.randperm(len(labels), generator=_seeded(seed))]


def _means(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    return torch.stack([features[labels == k].mean(0) for k in range(ways)])


@exercise("8.1", function="prototypes")
def _(answer: Answer) -> str:
    """features [n, d], labels [n], ways → class means [N, d]."""
    for ways, shots, seed in ((3, 4, 0), (5, 2, 1)):
        labels = _shuffled(torch.arange(ways).repeat(shots), seed)
        features = _normal(ways * shots, 3, seed=seed)
        got, right = answer(features, labels, ways), _means(features, labels, ways)
        answer.mistake(
            "labels-ignored",
            same(got, features.view(ways, shots, 3).mean(1)),
            "You cut the features into equal parts and did not look at the labels, "
            f"which come as {labels.tolist()}.",
        )
        in_order = features[labels.argsort(stable=True)]
        answer.mistake(
            "mean-over-the-wrong-axis",
            same(got, in_order.view(shots, ways, 3).mean(0)),
            "These means mix classes: images of one class stand together, so they "
            "belong to one row of a view as [ways, shots, d].",
        )
        answer.mistake(
            "sums",
            same(got, right * shots),
            "These are sums. Divide by the number of images of the class.",
        )
        answer.expect(
            same(got, right),
            f"For {ways} classes in {len(labels)} images the means differ from "
            "those of each class by itself.",
        )
    return "A prototype is the mean of its own class, in whatever order images come."


@exercise("8.2", function="prototype_logits")
def _(answer: Answer) -> str:
    """query [n, d], prototypes [N, d] → minus squared distances [n, N]."""
    for n, ways, seed in ((4, 3, 0), (2, 5, 1)):
        query, means = _normal(n, 6, seed=seed), _normal(ways, 6, seed=seed + 10)
        got, right = answer(query, means), -torch.cdist(query, means).square()
        answer.mistake(
            "not-squared",
            same(got, -torch.cdist(query, means)),
            "The distance is not squared. It chooses the same class, but its softmax "
            "is another one and it is not linear in the features.",
        )
        answer.mistake(
            "sign-forgotten",
            same(got, -right),
            "The farthest prototype has the largest score. A score is minus the "
            "distance.",
        )
        answer.mistake(
            "mean-over-features",
            same(got, right / 6),
            "Squared distances add up over the features; this is their mean, which "
            "makes the softmax softer the more features there are.",
        )
        answer.mistake(
            "inner-product",
            same(got, 2 * query @ means.T),
            "This is (8.1) without the bias: a long prototype wins too often.",
        )
        answer.expect(
            same(got, right),
            f"For {n} query features and {ways} prototypes expected scores "
            f"[{n}, {ways}] that are minus the squared distances.",
        )
    return "Near is high, and the softmax sees a linear classifier."


@exercise("8.3", function="renumber")
def _(answer: Answer) -> str:
    """classes of support and query → labels from 0, the same in both."""
    for support, query in (
        ([17, 4, 230, 17, 4, 230], [230, 17, 17, 230]),
        ([9, 9, 2, 5, 2, 5], [5, 2, 9, 5]),
    ):
        order = list(dict.fromkeys(support))
        right = [[order.index(c) for c in part] for part in (support, query)]
        own = list(dict.fromkeys(query))
        by_class = [[sorted(order).index(c) for c in p] for p in (support, query)]
        got = answer(torch.tensor(support), torch.tensor(query))
        answer.expect(
            isinstance(got, (tuple, list)) and len(got) == 2,
            "Return two tensors: the labels of the support and of the query.",
        )
        got = tuple(got)
        answer.mistake(
            "not-renumbered",
            same(got, (torch.tensor(support), torch.tensor(query))),
            "These are the classes' own numbers. A last layer of N rows has no place "
            f"for class {max(support)}, and numbers that never change are learned by "
            "heart.",
        )
        answer.mistake(
            "each-for-itself",
            same(
                got,
                (
                    torch.tensor(right[0]),
                    torch.tensor([own.index(c) for c in query]),
                ),
            ),
            f"The query {query} was numbered by itself: class {query[0]} is "
            f"{right[0][support.index(query[0])]} in the support and 0 in the query.",
        )
        answer.mistake(
            "sorted-by-class",
            same(got, tuple(map(torch.tensor, by_class))),
            "The numbers follow the order of the classes' own numbers. Take the order "
            f"of appearance: in {support} class {support[0]} is 0.",
        )
        answer.expect(
            same(got, tuple(map(torch.tensor, right))),
            f"For support {support} and query {query} expected {right[0]} and "
            f"{right[1]}, got {[torch.as_tensor(x).tolist() for x in got]}.",
        )
    return "One numbering for support and query, and a new one in every episode."


@exercise("8.4", function="first_step")
def _(answer: Answer) -> str:
    """features, labels, ways, lr → weights after one step from zero."""
    for counts, lr, seed in (((3, 2, 1), 0.6, 0), ((1, 4, 2, 2), 1.7, 1)):
        ways = len(counts)
        classes = torch.arange(ways).repeat_interleave(torch.tensor(counts))
        labels = _shuffled(classes, seed)
        features = _normal(len(labels), 4, seed=seed)

        def loss(W: Tensor, features=features, labels=labels) -> Tensor:
            return F.cross_entropy(features @ W.T, labels)

        slope = torch.func.grad(loss)(torch.zeros(ways, 4, dtype=torch.float64))
        got = answer(features, labels, ways, lr)
        means = _means(features, labels, ways)
        pulled = F.one_hot(labels, ways).double().T @ features / len(labels)
        answer.mistake(
            "ascends",
            same(got, lr * slope),
            "The step climbs: the row of the right class moves away from its images.",
        )
        answer.mistake(
            "summed-loss",
            same(got, -lr * slope * len(labels)),
            "This is a step on the summed loss. The inner loss is the mean over the "
            "support.",
        )
        answer.mistake(
            "others-not-pushed-down",
            same(got, lr * pulled),
            "Each row moves towards its own images only. It is also pushed away from "
            "all images, by the predicted 1/N.",
        )
        answer.mistake(
            "class-means",
            same(got, lr / ways * (means - means.mean(0))),
            "This is (8.3), which holds for equally frequent classes. Here they are "
            f"not: {list(counts)} images.",
        )
        answer.expect(
            same(got, -lr * slope),
            f"For {ways} classes and {len(labels)} images the weights differ from "
            "those that automatic differentiation finds.",
        )
    return "A step from zero adds up images, each weighted by its error."


@exercise("8.5", function="paired_difference")
def _(answer: Answer) -> str:
    """a, b [T, Q] → mean difference and its error over episodes."""
    for tasks, q, seed in ((7, 9, 0), (10, 5, 1)):
        hardness = torch.rand(tasks, 1, generator=_seeded(seed))
        draws = torch.rand(2, tasks, q, generator=_seeded(seed + 5))
        a, b = (draws < torch.stack([hardness, 0.8 * hardness])).double()
        got, each = answer(a, b), (a - b).mean(1)
        answer.expect(
            isinstance(got, (tuple, list)) and len(got) == 2,
            "Return two numbers: the mean difference and its standard error.",
        )
        mean, error = got
        answer.mistake(
            "swapped",
            same(mean, -each.mean()),
            "The difference has the wrong sign: it is a − b.",
        )
        answer.expect(
            same(mean, each.mean()),
            f"Expected the mean difference {each.mean():.4f}, got {mean}.",
        )
        apart = ((a.mean(1).var() + b.mean(1).var()) / tasks) ** 0.5
        answer.mistake(
            "unpaired",
            same(error, apart),
            "This is the error for different episodes. Both methods met the same "
            "ones: take the difference in each episode first.",
        )
        answer.mistake(
            "over-images",
            same(error, (a - b).std() / (tasks * q) ** 0.5),
            "This counts images as independent. The images of an episode share its "
            "classes and its support.",
        )
        right = each.std() / tasks**0.5
        answer.expect(
            same(error, right),
            f"For {tasks} episodes expected the error {right:.4f}, got {error}.",
        )
    return "What makes an episode hard for both methods drops out of the difference."


@exercise("8.6", function="anil_logits")
def _(answer: Answer) -> str:
    """support, labels, query, W, steps, lr → differentiable logits [m, N]."""

    def anil(support, labels, query, W, steps, lr, total=False, frozen=False):
        def loss(W: Tensor) -> Tensor:
            reduction = "sum" if total else "mean"
            return F.cross_entropy(support @ W.T, labels, reduction=reduction)

        slope = torch.func.grad(loss)(W)
        for _ in range(steps):
            W = W - lr * slope
            slope = slope if frozen else torch.func.grad(loss)(W)
        return query @ W.T

    for ways, steps, lr, seed in ((3, 3, 0.5, 0), (4, 2, 0.8, 1)):
        labels = _shuffled(torch.arange(ways).repeat(2), seed)
        support = _normal(2 * ways, 5, seed=seed).requires_grad_()
        query = _normal(2 * ways, 5, seed=seed + 10).requires_grad_()
        W = _normal(ways, 5, seed=seed + 20).requires_grad_()
        inputs = (support, labels, query, W, steps, lr)
        got, right = answer(*inputs), anil(*inputs)
        answer.mistake(
            "support-scored",
            same(got, anil(support, labels, support, W, steps, lr)),
            "These are logits of the support, which the layer was fitted to. The "
            "query judges.",
        )
        answer.mistake(
            "summed-loss",
            same(got, anil(*inputs, total=True)),
            "The inner loss is summed over the support. Take its mean, or the rate "
            "depends on the number of shots.",
        )
        answer.mistake(
            "gradient-at-the-start",
            same(got, anil(*inputs, frozen=True)),
            "All steps use the gradient of the first. Compute it anew at each step, at "
            "the weights of the moment.",
        )
        answer.expect(
            same(got, right),
            f"After {steps} steps for {ways} classes the logits differ from those "
            "expected.",
        )
        weights = _normal(*right.shape, seed=seed + 30)

        def slopes(logits: Tensor) -> list[Tensor | None]:
            if not logits.requires_grad:
                return [None, None]
            return list(
                torch.autograd.grad(
                    (logits * weights).sum(),
                    (support, W),
                    retain_graph=True,
                    allow_unused=True,
                )
            )

        ours, theirs = slopes(right), slopes(got)
        answer.mistake(
            "graph-cut",
            theirs[1] is None,
            "The logits are right, but they do not depend on W for autograd: a "
            "`detach` or a copy cuts the graph, and nothing would be learned.",
        )
        answer.mistake(
            "first-order",
            theirs[0] is None or same(theirs[1], weights.T @ query),
            "The logits are right, but inner gradients count as constants: this is "
            "first order, and the support's features get no gradient. Use "
            "`create_graph=True` or `torch.func.grad`, without `detach`.",
        )
        answer.expect(
            same(theirs, ours),
            "The logits are right, but their derivatives in W and in the support's "
            "features are not those through all steps.",
        )
    return "The last layer adapts, and the layers below can learn from it."
