"""Chapter 5: every outcome of a small experiment is listed, and its mean is exact."""

from __future__ import annotations

import math
from itertools import combinations, permutations, product

import pytest
import torch
from torch import Tensor

from metagan_lite.tasks import ClassTasks

# Three equally likely tasks of two equally likely samples, points in the plane.
TASKS = torch.tensor(
    [
        [[0.0, 1.0], [2.0, -1.0]],
        [[5.0, 0.5], [4.0, 3.5]],
        [[-3.0, 2.0], [-1.0, -6.0]],
    ],
    dtype=torch.float64,
)  # [task, sample, value]
MEANS = TASKS.mean(1)
W2 = (TASKS - MEANS[:, None]).square().sum(-1).mean().item()
B2 = (MEANS - MEANS.mean(0)).square().sum(-1).mean().item()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def square(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def estimates(x: Tensor) -> tuple[float, float]:
    """The estimates of w² and b² in (5.2) and (5.3), of samples [T, Q, d]."""
    tasks, q, _ = x.shape
    means = x.mean(1)
    within = square(x - means[:, None]).sum().item() / (tasks * (q - 1))
    apart = square(means - means.mean(0)).sum().item() / (tasks - 1)
    return within, apart - within / q


def average(values: list[tuple[float, ...]]) -> list[float]:
    return torch.tensor(values, dtype=torch.float64).mean(0).tolist()


def test_5_1_variance_is_within_plus_between():
    total = square(TASKS.flatten(0, 1) - TASKS.mean((0, 1))).mean().item()
    assert total == pytest.approx(W2 + B2, rel=1e-12)
    assert min(W2, B2) > 1  # neither part could be left out


def test_5_2_both_estimates_are_right_on_average():
    found = []
    for chosen in product(range(3), repeat=2):  # T = 2 tasks
        for a, b, c, d in product(range(2), repeat=4):  # Q = 2 samples of each
            first, second = TASKS[chosen[0]], TASKS[chosen[1]]
            x = torch.stack([first[[a, b]], second[[c, d]]])
            found.append(estimates(x))
    assert average(found) == pytest.approx([W2, B2], rel=1e-12)
    assert min(between for _, between in found) < 0  # it has to be, at times


def test_5_3_random_subsets_do_not_differ():
    x = torch.randn(6, 3, dtype=torch.float64, generator=seeded())
    tau2 = square(x - x.mean(0)).sum().item() / 5
    subsets = [x[list(chosen)] for chosen in combinations(range(6), 4)]
    found = [
        estimates(torch.stack(pair)) for pair in product(subsets, repeat=2)
    ]  # two tasks of four images, drawn independently
    assert average(found) == pytest.approx([tau2, -tau2 / 6], rel=1e-12)


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_5_4_adapting_gains_between_minus_within_over_k(shots: int):
    gain = []
    for task in TASKS:
        for *support, query in product(task, repeat=shots + 1):
            adapted = torch.stack(support).mean(0)
            gain.append(square(query - TASKS.mean((0, 1))) - square(query - adapted))
    mean_gain = torch.stack(gain).mean().item()
    assert mean_gain == pytest.approx(B2 - W2 / shots, rel=1e-12)


# --- who meets whom -----------------------------------------------------------


def flat_tasks(classes: int) -> ClassTasks:
    return ClassTasks(torch.zeros(2 * classes, 1), torch.arange(classes).repeat(2))


def drawn(classes: int, tasks: int, ways: int | None, seed: int = 0) -> Tensor:
    """The classes of tasks drawn by the library."""
    batch = flat_tasks(classes).sample(
        tasks, shots=1, query_shots=1, ways=ways, generator=seeded(seed)
    )
    return batch.classes


def assert_frequency(events: Tensor, p: float) -> None:
    error = math.sqrt(p * (1 - p) / len(events))
    assert abs(events.double().mean().item() - p) < 4 * error


def test_5_5_an_episode_holds_a_given_class():
    episodes = list(combinations(range(7), 3))
    listed = sum(2 in episode for episode in episodes) / len(episodes)
    assert listed == pytest.approx(3 / 7, rel=1e-12)
    assert_frequency((drawn(7, 4000, 3) == 2).any(1), 3 / 7)


def test_5_6_two_episodes_share_a_class():
    def formula(classes: int, ways: int) -> float:
        return 1 - math.comb(classes - ways, ways) / math.comb(classes, ways)

    episodes = [set(e) for e in combinations(range(7), 3)]
    listed = [bool(a & b) for a, b in product(episodes, repeat=2)]
    assert sum(listed) / len(listed) == pytest.approx(formula(7, 3), rel=1e-12)
    assert formula(5, 3) == 1  # too few classes to avoid each other
    first, second = drawn(20, 4000, 3).view(2000, 2, 3).unbind(1)
    meet = (first[:, :, None] == second[:, None]).any(2).any(1)
    assert_frequency(meet, formula(20, 3))


def test_5_7_two_of_several_tasks_share_a_class():
    def formula(classes: int, tasks: int) -> float:
        return 1 - math.prod(1 - t / classes for t in range(1, tasks))

    listed = [len(set(batch)) < 4 for batch in product(range(6), repeat=4)]
    assert sum(listed) / len(listed) == pytest.approx(formula(6, 4), rel=1e-12)
    # More tasks than classes: the library draws with replacement.
    batches = drawn(6, 4 * 2000, None).view(2000, 4).sort(1).values
    assert_frequency((batches.diff() == 0).any(1), formula(6, 4))
    for seed in range(50):  # otherwise without
        assert len(drawn(6, 6, None, seed).unique()) == 6


# --- leakage and errors -------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_5_8_support_scored_as_query_gains_two_within_over_k(shots: int):
    def gap(orders: list[tuple[int, ...]], x: Tensor) -> float:
        """Mean over all choices of the support and one query sample."""
        found = []
        for *chosen, query in orders:
            support = x[chosen]
            guess = support.mean(0)
            found.append(square(x[query] - guess) - square(support - guess).mean())
        return torch.stack(found).mean().item()

    x = torch.randn(5, 3, dtype=torch.float64, generator=seeded(1))
    w2 = square(x - x.mean(0)).mean().item()
    independent = list(product(range(5), repeat=shots + 1))
    assert gap(independent, x) == pytest.approx(2 * w2 / shots, rel=1e-12)
    # Different images of one class, as the library draws them: w² with n − 1.
    different = list(permutations(range(5), shots + 1))
    unbiased = w2 * 5 / 4
    assert gap(different, x) == pytest.approx(2 * unbiased / shots, rel=1e-12)


def test_5_9_images_of_a_task_are_not_independent():
    scores = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.2]], dtype=torch.float64)
    b2 = scores.mean(1).var(correction=0).item()
    w2 = scores.var(1, correction=0).mean().item()
    q, tasks = 3, 2
    means = []
    for chosen in product(range(3), repeat=tasks):
        for picked in product(range(2), repeat=tasks * q):
            own = [scores[i, list(picked[q * t :][:q])] for t, i in enumerate(chosen)]
            means.append(torch.stack(own).mean())
    variance = torch.stack(means).var(correction=0).item()
    rho = b2 / (b2 + w2)
    by_images = (b2 + w2) / (tasks * q)
    assert variance == pytest.approx((b2 + w2 / q) / tasks, rel=1e-12)
    assert variance == pytest.approx(by_images * (1 + (q - 1) * rho), rel=1e-12)
