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


def _short(number: object) -> str:
    try:
        return f"{float(number):.4f}"
    except (TypeError, ValueError, RuntimeError):
        return repr(number)


def _means(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    return torch.stack([features[labels == k].mean(0) for k in range(ways)])


@exercise("8.1", function="prototypes")
def _(answer: Answer) -> str:
    """features [n, d], labels [n], ways → class means [N, d]."""
    for counts, seed in (((5, 3, 1), 0), ((2, 1, 3, 4, 5), 1)):
        ways, count = len(counts), torch.tensor(counts)
        labels = _shuffled(torch.arange(ways).repeat_interleave(count), seed)
        features = _normal(len(labels), 3, seed=seed)
        got, right = answer(features, labels, ways), _means(features, labels, ways)
        answer.mistake(
            "labels-ignored",
            same(got, features.view(ways, -1, 3).mean(1)),
            "You cut the features into equal parts and did not look at the labels, "
            f"which come as {labels.tolist()}.",
        )
        in_order = features[labels.argsort(stable=True)]
        answer.mistake(
            "mean-over-the-wrong-axis",
            same(got, in_order.view(-1, ways, 3).mean(0)),
            "These means mix classes: each is of every N-th image of the sorted ones.",
        )
        answer.mistake(
            "cut-into-equal-parts",
            same(got, in_order.view(ways, -1, 3).mean(1)),
            "You sorted the images by class and cut them into equal parts, but the "
            f"classes have {list(counts)} images.",
        )
        sums = right * count[:, None]
        answer.mistake(
            "sums",
            same(got, sums),
            "These are sums. Divide by the number of images of the class.",
        )
        answer.mistake(
            "divided-alike",
            any(same(got, sums / n) for n in (len(labels), len(labels) / ways, ways)),
            "Every class is divided by the same number, but the classes have "
            f"{list(counts)} images.",
        )
        first_seen = torch.tensor(list(dict.fromkeys(labels.tolist())))
        answer.mistake(
            "order-of-appearance",
            same(got, right[first_seen]),
            "The means are right, but row k must be class k. These rows have the order "
            f"in which the classes appear, {first_seen.tolist()}.",
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
            same(got, 2 * query @ means.T) or same(got, query @ means.T),
            "This is (8.1) without the bias: a long prototype wins too often.",
        )
        answer.mistake(
            "query-norm-dropped",
            same(got, right + query.square().sum(1, keepdim=True)),
            "This is the linear form, without the last term of (8.1). Its softmax is "
            "the same; the exercise asks for the distance, so subtract the query's "
            "squared length.",
        )
        answer.mistake(
            "transposed",
            same(got, right.T),
            "The scores are right, but they are transposed: a row for each query "
            "feature, a column for each prototype.",
        )
        answer.mistake(
            "probabilities",
            same(got, right.softmax(1)) or same(got, right.log_softmax(1)),
            "The softmax is part of the cross-entropy. Return what goes into it.",
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
        ([4, 230, 17, 4, 230, 17], [17, 230, 230, 17]),
        ([3, 3, 9, 0, 9, 0], [0, 9, 3, 0]),
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
        answer.expect(
            all(isinstance(part, Tensor) for part in got),
            "Return tensors: torch.tensor(numbers) makes one of a list.",
        )
        answer.expect(
            not any(part.is_floating_point() for part in got),
            "Labels are integers: the cross-entropy takes them as indices.",
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

        def by(number: dict[int, int]) -> bool:
            """Whether the classes got these numbers, where they are wrong."""
            found = [[number[c] for c in part] for part in (support, query)]
            return found != right and same(got, tuple(map(torch.tensor, found)))

        answer.mistake(
            "set-order",
            by({c: i for i, c in enumerate(set(support))}),
            "A set forgets the order of appearance: "
            f"list(set({support})) is {list(set(support))}.",
        )
        first = {c: support.index(c) for c in order}
        last = {c: i for i, c in enumerate(support)}
        answer.mistake(
            "places",
            by(first) or by(last),
            f"These are places in the support, {got[0].tolist()}. Count classes, not "
            "images: the numbers are below N.",
        )
        chained = {}
        for c in order:
            chained[c] = c
            for new, old in enumerate(order):
                chained[c] = new if chained[c] == old else chained[c]
        answer.mistake(
            "overwritten",
            by(chained),
            "New numbers were taken for old ones: class 3 became 0, and was then "
            "renumbered again as if it were class 0. Write into another tensor.",
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
            any(
                same(got, lr / ways * (means - centre))
                for centre in (means.mean(0), features.mean(0))
            ),
            "This is (8.3), which holds for equally frequent classes. Here they are "
            f"not: {list(counts)} images.",
        )
        one_hot = F.one_hot(labels, ways).double()
        answer.mistake(
            "frequencies-predicted",
            same(got, -lr * (one_hot.mean(0) - one_hot).T @ features / len(labels)),
            "A net of zeros does not know how frequent the classes are: it predicts "
            "1/N for each.",
        )
        walked = torch.zeros(ways, 4, dtype=torch.float64)
        for a, y in zip(features, one_hot):
            error = (walked @ a).softmax(0) - y
            walked = walked - lr / len(labels) * torch.outer(error, a)
        answer.mistake(
            "image-by-image",
            same(got, walked),
            "These are several steps, one after each image. In one step every "
            "prediction is made with the weights at zero.",
        )
        answer.mistake(
            "transposed",
            same(got, -lr * slope.T),
            "The weights are right, but transposed: a row for each class.",
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
        got = got.unbind() if isinstance(got, Tensor) and got.dim() else got
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
            f"Expected the mean difference {each.mean():.4f}, got {_short(mean)}.",
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
        answer.mistake(
            "spread",
            same(error, each.std()),
            "This is how far single episodes spread. The error of their mean is "
            f"smaller, by the root of their number, {tasks}.",
        )
        answer.mistake(
            "root-of-the-images",
            same(error, each.std() / (tasks * q) ** 0.5)
            or same(error, each.std() / q**0.5),
            f"You took the root of another number than that of the {tasks} episodes.",
        )
        answer.mistake(
            "biased",
            same(error, each.std(correction=0) / tasks**0.5),
            "This spread divides by T, which makes it a little too small. Divide by "
            "T − 1, as `.std()` does.",
        )
        answer.mistake(
            "episodes-mixed",
            same(error, (a - b).mean(0).std() / q**0.5),
            "The mean was taken over episodes, and the error over the places in them. "
            "Images average within an episode first: axis 1.",
        )
        answer.expect(
            same(error, right),
            f"For {tasks} episodes expected the error {right:.4f}, got "
            f"{_short(error)}.",
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
        answer.mistake(
            "ascends",
            same(got, anil(support, labels, query, W, steps, -lr)),
            "The steps climb: the loss of the support grows. Subtract the slope.",
        )
        answer.mistake(
            "starts-at-zero",
            same(got, anil(support, labels, query, 0 * W, steps, lr)),
            "The steps begin at zero. ANIL learns where they begin: at `W`.",
        )
        answer.expect(
            same(got, right),
            f"After {steps} steps for {ways} classes the logits differ from those "
            "expected.",
        )
        weights = _normal(*right.shape, seed=seed + 30)

        def slopes(logits: Tensor) -> list[Tensor | None]:
            if not logits.requires_grad:
                return [None, None, None]
            return list(
                torch.autograd.grad(
                    (logits * weights).sum(),
                    (support, W, query),
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
            "query-cut",
            theirs[2] is None,
            "The logits are right, but the query's features get no gradient, so the "
            "layers below would not learn from the loss that they are judged by.",
        )
        answer.mistake(
            "support-cut",
            theirs[0] is None and same(theirs[1], ours[1]),
            "The logits are right, but the support's features get no gradient: a "
            "`detach` hides from the layers below how their features steer the steps.",
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
            "The logits are right, but their derivatives in W and in the features are "
            "not those through all steps.",
        )
    return "The last layer adapts, and the layers below can learn from it."
