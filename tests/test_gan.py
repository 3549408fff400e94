import pytest
import torch
from torch import nn

from metagan_lite import MetaDiscriminator, MetaGenerator
from metagan_lite.gan import train_gan
from metagan_lite.tasks import ClassTasks


def blob_tasks(centre, spread):
    random = torch.Generator().manual_seed(0)
    points = centre + spread * torch.randn(2000, 2, generator=random)
    return ClassTasks(points, torch.arange(2000) % 2)


def pair(seed=0):
    options = {"hidden": (32, 32), "generator": torch.Generator().manual_seed(seed)}
    return (
        MetaGenerator((2,), latent_dim=2, output=nn.Identity, **options),
        MetaDiscriminator((2,), **options),
    )


@pytest.fixture(scope="module")
def trained():
    tasks = blob_tasks(torch.tensor([0.5, -0.3]), 0.2)
    return train_gan(*pair(), tasks, steps=700, progress=False)


def test_a_gan_learns_mean_and_spread(trained):
    z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        samples = trained.players["G"](z)
    target = torch.tensor([0.5, -0.3])
    torch.testing.assert_close(samples.mean(0), target, atol=0.06, rtol=0)
    torch.testing.assert_close(samples.std(0), torch.full((2,), 0.2), atol=0.08, rtol=0)


def test_one_seed_is_one_run_and_nets_are_copied():
    tasks, nets = blob_tasks(torch.zeros(2), 1.0), pair()
    before = nets[0][0].weight.clone()
    runs = [train_gan(*nets, tasks, steps=5, seed=s, progress=False) for s in (0, 0, 1)]
    ends = [run.players["G"][0].weight for run in runs]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert torch.equal(nets[0][0].weight, before)


def test_the_callback_sees_each_step_and_the_mean_is_that_of_the_weights_so_far():
    seen, means = [], []

    def remember(step, game, mean):
        seen.append(game.players["G"][0].weight.detach().double().clone())
        means.append(mean.players["G"][0].weight.detach().double().clone())
        assert step == len(seen)

    tasks = blob_tasks(torch.zeros(2), 1.0)
    options = {"steps": 6, "ema": 0.3, "progress": False}
    end = train_gan(*pair(), tasks, callback=remember, **options)
    assert len(seen) == 6 and not torch.equal(seen[4], seen[5])
    assert torch.equal(means[-1].float(), end.players["G"][0].weight)
    # The decay is s/(s + 10) until that reaches 0.3, at s = 5: the first mean is the
    # first weight, and the initialisation has no part in it.
    by_hand = torch.zeros_like(seen[0])
    for s, weight in enumerate(seen):
        share = max(0.7, 10 / (s + 10))
        by_hand = (1 - share) * by_hand + share * weight
        torch.testing.assert_close(means[s], by_hand, atol=1e-6, rtol=1e-5)


def test_divergence_is_named():
    tasks = blob_tasks(torch.zeros(2), 1.0)
    with pytest.raises(RuntimeError, match=r"step \d+: expected a finite loss of [DG]"):
        train_gan(*pair(), tasks, steps=50, lr=1e15, loss="wasserstein", progress=False)
