"""Worth of samples: against simulations in which the centres are known."""

import pytest
import torch

from metagan_lite import TaskBatch
from metagan_lite.worth import Worth, sample_worth


def random(seed):
    return torch.Generator().manual_seed(seed)


def simulated(tasks=4000, shots=4, held=6, copied=0.3, bias=0.5, noise=1.5, n=5):
    """Samples whose mean repeats a share of the support's error, with a bias."""
    rng = random(0)
    normal = lambda *s: torch.randn(*s, generator=rng, dtype=torch.float64)
    centre = 3 * normal(tasks, 1, 7)
    x = centre + 2 * normal(tasks, shots + held, 7)
    support, query = x[:, :shots], x[:, shots:]
    away = bias * normal(tasks, 1, 7)
    begin = centre + copied * (support.mean(1, keepdim=True) - centre)
    drawn = begin + away + noise * normal(tasks, n, 7)
    truth = Worth(shots, 4 * 7 / shots, copied, 7 * (bias**2 + noise**2 / n))
    return drawn, TaskBatch(support, query), centre[:, 0], truth


def test_the_estimates_are_the_truth_of_a_simulation():
    drawn, batch, _, truth = simulated()
    found = sample_worth(drawn, batch)
    assert found.shots == truth.shots == 4
    assert found.real == pytest.approx(truth.real, rel=0.02)
    assert found.copied == pytest.approx(truth.copied, abs=0.02)
    assert found.own == pytest.approx(truth.own, rel=0.04)


def test_the_error_of_every_mix_is_that_of_known_centres():
    drawn, batch, centre, truth = simulated()
    for mix in (0.0, 0.3, 0.7, 1.0):
        mean = (1 - mix) * batch.support.mean(1) + mix * drawn.mean(1)
        error = (mean - centre).square().sum(-1).mean().item()
        assert truth.error(mix) == pytest.approx(error, rel=0.03)


def test_best_mix_and_worth_by_search():
    worth = Worth(5, 2.0, 0.4, 1.3)
    grid = torch.linspace(-1, 2, 3001, dtype=torch.float64)
    errors = torch.tensor([worth.error(m) for m in grid.tolist()])
    assert worth.best_mix == pytest.approx(grid[errors.argmin()].item(), abs=1e-3)
    assert worth.error(2 * worth.best_mix) == pytest.approx(worth.error(0))
    # K + images real ones, of w² = 10, have the error of the best mix.
    assert 10 / (5 + worth.images) == pytest.approx(errors.min().item(), rel=1e-5)


def test_copies_are_worth_nothing():
    _, batch, *_ = simulated(tasks=500)
    found = sample_worth(batch.support, batch)
    assert found.copied == pytest.approx(1, abs=0.1)
    # Their whole error is the support's: nothing is their own.
    assert abs(found.own) < 0.1 * found.real
    assert Worth(4, 7.0, 1.0, 0.1).best_mix == Worth(4, 7.0, 1.2, 0.1).images == 0


def test_features_are_used():
    drawn, batch, *_ = simulated(tasks=50)
    double = lambda x: 2 * x
    once, twice = (sample_worth(drawn, batch, f) for f in (None, double))
    assert twice.real == pytest.approx(4 * once.real)
    assert twice.own == pytest.approx(4 * once.own)
    assert twice.copied == pytest.approx(once.copied)


def test_samples_of_other_tasks_are_refused():
    drawn, batch, *_ = simulated(tasks=5)
    with pytest.raises(ValueError, match="expected samples of the 5 tasks"):
        sample_worth(drawn[:4], batch)
