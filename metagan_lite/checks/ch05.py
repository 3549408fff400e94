"""Checks of chapter 5's exercises."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Answer, exercise, same


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_seeded(seed), dtype=torch.float64)


@exercise("5.1", function="hold_out")
def _(answer: Answer) -> str:
    """labels 4c + k, characters → masks of meta-train and meta-test."""
    for held_out in ([1, 4], [0, 3]):
        labels = torch.arange(24).repeat(2)[torch.randperm(48, generator=_seeded(0))]
        characters = torch.tensor(held_out)
        got = answer(labels, characters)
        answer.expect(
            isinstance(got, (tuple, list))
            and len(got) == 2
            and all(
                isinstance(mask, Tensor)
                and mask.dtype == torch.bool
                and mask.shape == labels.shape
                for mask in got
            ),
            "Return two boolean masks, one entry for each label: `(train, test)`.",
        )
        train, test = got
        right = torch.isin(labels // 4, characters)
        answer.mistake(
            "swapped",
            same((test, train), (~right, right)),
            "The characters to hold out are in the first mask: the order is "
            "`(train, test)`.",
        )
        answer.mistake(
            "labels-as-characters",
            same(test, torch.isin(labels, characters)),
            f"A label is not a character: {labels[right][0]} belongs to character "
            f"{labels[right][0] // 4}.",
        )
        answer.mistake(
            "split-by-image",
            set(labels[train].tolist()) & set(labels[test].tolist()),
            "Images of one class are on both sides. A split by image tests what was "
            "learned by heart.",
        )
        answer.mistake(
            "twins-split",
            set((labels[train] // 4).tolist()) & set((labels[test] // 4).tolist()),
            "A character is in meta-train at one angle and in meta-test at another. "
            "Rotated twins have to stay together.",
        )
        answer.expect(
            same((train, test), (~right, right)),
            f"Holding out {held_out} of six characters should put {int(right.sum())} "
            f"of 48 images into meta-test, got {int(test.sum())}, and all others into "
            f"meta-train, got {int(train.sum())}.",
        )
    return "A character and its rotations are on one side."


@exercise("5.2", function="make_episode")
def _(answer: Answer) -> str:
    """images, classes, shots, query shots → support, labels, query, labels."""
    for classes, shots, query_shots in (([4, 1, 5], 2, 3), ([2, 0], 3, 1)):
        chosen = torch.tensor(classes)
        images = _normal(6, 7, 1, 2, 2, seed=len(classes))
        got = answer(images, chosen, shots, query_shots)
        answer.expect(
            isinstance(got, (tuple, list))
            and len(got) == 4
            and all(isinstance(x, Tensor) for x in got),
            "Return four tensors: support, its labels, query, its labels.",
        )
        support, support_labels, query, query_labels = got
        cut = [images[c, :shots] for c in classes]
        rest = [images[c, shots : shots + query_shots] for c in classes]
        right = torch.cat(cut), torch.cat(rest)
        numbers = [i for i in range(len(classes)) for _ in range(shots)]
        query_numbers = [i for i in range(len(classes)) for _ in range(query_shots)]
        flat = {tuple(x.flatten().tolist()) for x in support}
        answer.mistake(
            "support-in-the-query",
            any(tuple(x.flatten().tolist()) in flat for x in query),
            "A query image is also in the support, so the score will be too good. The "
            "query begins after the first K drawings.",
        )
        answer.mistake(
            "classes-in-order",
            same(support, images[: len(classes), :shots].flatten(0, 1)),
            f"For classes {classes} the episode holds the classes from 0 on: index the "
            "images by `classes`.",
        )
        shapes, theirs = [list(x.shape) for x in right], (support.shape, query.shape)
        episode = f"classes {classes} with {shots} + {query_shots} drawings"
        answer.expect(
            [list(shape) for shape in theirs] == shapes,
            f"For {episode} expected images {shapes[0]} and {shapes[1]}, got "
            f"{list(theirs[0])} and {list(theirs[1])}.",
        )
        for name, images_of, expected, of in (
            ("support", support, right[0], f"drawings 0 to {shots - 1}"),
            ("query", query, right[1], f"the next {query_shots}"),
        ):
            answer.expect(
                same(images_of, expected),
                f"For {episode} the {name} has the right shape, but others of the "
                f"drawings, or in another order. Expected {of} of the first class in "
                "`classes`, then those of the second, and so on.",
            )
        answer.mistake(
            "labels-not-renumbered",
            same(support_labels, chosen.repeat_interleave(shots)),
            f"The labels are the numbers of the classes, {classes}. Number them anew "
            "in each episode, from 0, or they can be learned by heart.",
        )
        answer.mistake(
            "labels-out-of-step",
            same(support_labels, torch.arange(len(classes)).repeat(shots)),
            "The labels go round the classes, but the drawings of a class stand "
            f"together: expected {numbers}.",
        )
        answer.expect(
            same(support_labels, torch.tensor(numbers))
            and same(query_labels, torch.tensor(query_numbers)),
            f"Expected the labels {numbers} and {query_numbers}, got "
            f"{support_labels.tolist()} and {query_labels.tolist()}.",
        )
    return "Support and query are disjoint, and labels mean something here only."


@exercise("5.3", function="between_variance")
def _(answer: Answer) -> str:
    """x [T, Q, d] → unbiased estimate of the variance between tasks."""
    for seed, spread in ((0, 0.0), (1, 2.0), (5, 0.0)):
        x = spread * _normal(5, 1, 3, seed=seed + 50) + _normal(5, 4, 3, seed=seed)

        def parts(x: Tensor) -> tuple[Tensor, Tensor]:
            means = x.mean(1)
            within = x.var(1).sum(-1).mean()
            return means.var(0).sum(), within

        got, (apart, within) = answer(x), parts(x)
        right = apart - within / 4
        other, other_within = parts(x.transpose(0, 1))
        answer.expect(
            not isinstance(got, Tensor) or got.ndim == 0,
            "Return one number: squared distances add up over the values of a sample.",
        )
        answer.mistake(
            "chance-not-taken-off",
            same(got, apart),
            "The sample means lie apart by chance alone, even where all tasks are the "
            "same. Take that part off.",
        )
        answer.mistake(
            "not-divided-by-q",
            same(got, apart - within),
            "A mean over Q samples varies less than a sample does: by w² / Q.",
        )
        answer.mistake(
            "means-over-the-wrong-axis",
            same(got, other - other_within / 5),
            "You compare the first samples of all tasks with the second samples. A "
            "task is a row: its mean is over dimension 1.",
        )
        answer.mistake(
            "mean-over-the-values",
            same(got, right / 3),
            "Squared distances add up over the values of a sample; this is their mean.",
        )
        answer.mistake(
            "clipped-at-zero",
            right < 0 and same(got, 0.0),
            "The estimate was clipped at zero. It has to be negative at times, or it "
            "is too large on average.",
        )
        answer.mistake(
            "within-divided-by-q",
            same(got, apart - within * 3 / 4 / 4),
            "The deviations from a task's own sample mean are too small on average: "
            "divide their squares by Q - 1, not by Q.",
        )
        answer.mistake(
            "apart-divided-by-t",
            same(got, apart * 4 / 5 - within / 4)
            or same(got, apart * 4 / 5 - within * 3 / 4 / 4),
            "The deviations of the T means from their own mean are too small on "
            "average: divide their squares by T - 1, not by T.",
        )
        answer.mistake(
            "total-minus-within",
            any(
                same(got, x.flatten(0, 1).var(0, correction=c).sum() - part)
                for c in (0, 1)
                for part in (within, within * 3 / 4)
            ),
            "Total minus within is (5.1), which needs the true centres. With sample "
            "means, part of w² is in the distances between the means.",
        )
        answer.expect(
            same(got, right),
            f"For five tasks of four samples expected {right:.4f}, got {got}.",
        )
    return "It is right on average, and negative at times where tasks do not differ."


@exercise("5.4", function="accuracy_and_error")
def _(answer: Answer) -> str:
    """correct [T, N*Q] → accuracy, standard error over tasks."""
    for seed, tasks, q in ((0, 6, 10), (1, 9, 4)):
        level = torch.rand(tasks, 1, generator=_seeded(seed))
        correct = (torch.rand(tasks, q, generator=_seeded(seed + 9)) < level).float()
        got = answer(correct)
        answer.expect(
            isinstance(got, (tuple, list))
            and len(got) == 2
            or isinstance(got, Tensor)
            and got.shape == (2,),
            "Return two numbers: the accuracy and its standard error.",
        )
        accuracy, error = got
        per_task, per_image = correct.mean(1), correct.mean(0)
        answer.expect(
            same(accuracy, correct.mean()),
            f"Expected the accuracy {correct.mean():.4f}, got {accuracy}.",
        )
        images = tasks * q
        answer.mistake(
            "over-images",
            any(
                same(error, correct.std(correction=c) / images**0.5, tol=1e-4)
                for c in (0, 1)
            ),
            "This counts images as independent. The images of an episode share its "
            "classes and its support: take one number per episode.",
        )
        answer.mistake(
            "spread-of-episodes",
            same(error, per_task.std(), tol=1e-4),
            "This is how much single episodes vary. The mean over T of them varies by "
            "that over the root of T.",
        )
        answer.mistake(
            "means-over-the-wrong-axis",
            same(error, per_image.std() / q**0.5, tol=1e-4),
            "You averaged over episodes and compared places in the query set. An "
            "episode is a row: average over dimension 1 first.",
        )
        answer.mistake(
            "root-of-all-images",
            same(error, per_task.std() / images**0.5, tol=1e-4),
            "There are T numbers to average, one per episode: divide by the root of "
            "T, not of the number of images.",
        )
        right = per_task.std() / tasks**0.5
        answer.mistake(
            "population-deviation",
            same(error, per_task.std(correction=0) / tasks**0.5, tol=1e-4)
            or same(error, per_task.std() / (tasks - 1) ** 0.5, tol=1e-4),
            "T - 1 belongs below the squared deviations, and T below the variance of "
            "the mean: `std()`, then the root of T.",
        )
        answer.mistake(
            "interval-not-error",
            any(same(error, z * right, tol=1e-4) for z in (1.96, 2.0)),
            "This is half the width of an interval of about 95 %. Asked for is one "
            "standard error.",
        )
        answer.mistake(
            "variance-of-the-mean",
            same(error, right**2, tol=1e-4),
            "This is the variance of the mean. The standard error is its root.",
        )
        answer.expect(
            same(error, right, tol=1e-4),
            f"For {tasks} episodes of {q} images expected the error {right:.4f}, "
            f"got {error}.",
        )
    return "One number per episode: they are what is independent."


@exercise("5.5", function="best_guess")
def _(answer: Answer) -> str:
    """support [K, d], centre, w², b² → the best mixture of both means."""
    for shots, within, between in ((3, 2.3, 0.6), (1, 0.7, 1.9), (6, 5.0, 1.3)):
        support, centre = _normal(shots, 4, seed=shots), _normal(4, seed=shots + 20)
        got, own = answer(support, centre, within, between), support.mean(0)

        def guess(a: float) -> Tensor:
            return centre + a * (own - centre)

        answer.expect(
            getattr(got, "shape", None) == centre.shape,
            f"Return a tensor [d], like `centre`; got {type(got).__name__} "
            f"{list(getattr(got, 'shape', []))}.",
        )
        answer.mistake(
            "either-or",
            same(got, own) or same(got, centre),
            "This is one of the two guesses that should be mixed. The best mixture is "
            "better than both.",
        )
        answer.mistake(
            "weights-swapped",
            same(got, guess(within / (shots * between + within))),
            "The weight grows with the variance within tasks. It should fall: the "
            "more samples scatter, the less their mean says.",
        )
        answer.mistake(
            "shots-forgotten",
            shots > 1 and same(got, guess(between / (between + within))),
            "The weight does not depend on the number of shots. The mean of K samples "
            "misses the task's centre by w² / K.",
        )
        root = between**0.5 / (between**0.5 + (within / shots) ** 0.5)
        answer.mistake(
            "standard-deviations",
            same(got, guess(root)),
            "These are standard deviations. Independent errors add up as variances.",
        )
        squared = between**2 / (between**2 + within**2 / shots)
        answer.mistake(
            "squared-again",
            same(got, guess(squared)),
            "`within` and `between` are w² and b² already: do not square them again.",
        )
        right = guess(shots * between / (shots * between + within))
        answer.mistake(
            "centre-forgotten",
            same(got, right - centre * within / (shots * between + within)),
            "This pulls the support mean towards 0. Pull it towards the centre.",
        )
        answer.expect(
            same(got, right),
            f"With {shots} shots, w² = {within} and b² = {between} the guess is not "
            "the best one. The best weight of the support mean is then "
            f"{shots * between / (shots * between + within):.3f}.",
        )
    return "A start that all tasks share, and one step towards what this one shows."
