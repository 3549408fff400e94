"""What a meta-step costs, counted and not timed: kernels, and products' FLOPs."""

import pytest
import torch
from meta_step import extra_peak
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from metagan_lite import (
    GAN,
    MetaDiscriminator,
    MetaGenerator,
    TaskBatch,
    meta_gradients,
)
from metagan_lite.cost import Limits, count, machine_limits

LATENT, HIDDEN, PIXELS, SHOTS = 100, 256, 784, 10


class Kernels(TorchDispatchMode):
    """Counts the operations that reach a device, the backward passes' included."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += 1
        return function(*arguments, **(options or {}))


def step(path, tasks, steps, algorithm="maml", **options):
    """A function that takes one meta-step at article size."""
    random = torch.Generator().manual_seed(0)
    game = GAN(MetaGenerator(generator=random), MetaDiscriminator(generator=random))
    images = torch.rand(tasks, 2 * SHOTS, 1, 28, 28, generator=random)
    options |= {
        "inner_steps": steps,
        "inner_lr": 0.1,
        "algorithm": algorithm,
        "noise": (
            game.noise(tasks, steps, SHOTS, generator=random),
            game.noise(tasks, 1, SHOTS, generator=random)[:, 0],
        ),
        "path": path,
    }
    batch = TaskBatch(images[:, :SHOTS], images[:, SHOTS:])
    meta_gradients(game, batch, **options)  # compares the paths, once for each game
    return lambda *_: meta_gradients(game, batch, **options)


def cost(*arguments, **options):
    """(kernel calls, FLOPs of matrix products) of one meta-step."""
    run = step(*arguments, **options)
    with Kernels() as kernels, FlopCounterMode(display=False) as flops:
        run()
    return kernels.count, flops.get_total_flops()


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_kernel_calls_do_not_grow_with_the_tasks_and_flops_grow_in_proportion(
    algorithm,
):
    kernels, flops = zip(*(cost("auto", tasks, 1, algorithm) for tasks in (2, 8)))
    assert kernels[0] == kernels[1]
    assert flops[1] == 4 * flops[0]


def test_kernel_calls_are_linear_in_the_steps():
    one, two, three = (cost("auto", 2, steps)[0] for steps in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=0.02)


@pytest.mark.parametrize(
    "steps, algorithm, kernels, share",
    [(1, "maml", 1015, 0.727), (5, "maml", 4785, 0.743), (5, "fomaml", 1411, 0.912)],
)
def test_a_step_stays_within_its_budget(steps, algorithm, kernels, share):
    # What was counted when this was written, +10 % for other versions of PyTorch: the
    # kernels, and the FLOPs as a share of the loop's.
    fast, slow = cost("auto", 4, steps, algorithm), cost("loop", 4, steps, algorithm)
    assert 0.5 * kernels < fast[0] <= 1.1 * kernels < slow[0]
    assert 0.5 * share < fast[1] / slow[1] <= 1.1 * share


def test_chunks_of_tasks_bound_the_memory():
    whole, chunked, more = (
        extra_peak(step("auto", tasks, 2, task_chunk_size=size), None)
        for tasks, size in ((16, None), (16, 2), (32, 2))
    )
    assert 0.1 * whole < chunked < 0.35 * whole
    assert more < 1.5 * chunked  # whose gradients and data grow, not its graph


# --- the counters of metagan_lite.cost ------------------------------------------


def test_a_products_cost_by_hand():
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    cost = count(lambda: a @ b)
    assert (cost.kernels, cost.flops) == (1, 2 * 3 * 5 * 7)
    assert cost.traffic == 4 * (15 + 35 + 21)
    assert cost.intensity == pytest.approx(210 / 284)


def test_backward_passes_are_counted():
    a, b = torch.rand(3, 5), torch.rand(5, 7, requires_grad=True)
    twice = b.double()
    assert count(lambda: (a @ b).sum().backward()).flops == 2 * 210  # a is data
    assert count(lambda: twice.sum()).traffic == 8 * (35 + 1)


def test_views_are_free_and_repeated_numbers_are_read_once():
    a = torch.rand(4, 6)
    assert count(lambda: a.T.reshape(3, 8)[1:]).kernels == 1  # reshape copies
    assert count(lambda: a.view(24)[:3].unsqueeze(0)).kernels == 0
    assert count(lambda: torch.empty(9)).traffic == 0
    row = torch.rand(6).expand(4, 6)
    assert count(lambda: row.exp()).traffic == 4 * (6 + 24)
    assert count(lambda: a * a).traffic == 4 * (24 + 24)


def test_what_changes_in_place_is_read_and_written():
    a, b = torch.zeros(8), torch.ones(8)
    assert count(lambda: a.add_(b)).traffic == 4 * 3 * 8
    assert torch.equal(a, b)  # the call did run


def test_the_counter_sees_through_vmap():
    a, b = torch.rand(6, 3, 5), torch.rand(6, 5, 7)
    found = count(lambda: torch.func.vmap(torch.mm)(a, b))
    assert found.flops == 6 * 210 and found.kernels == 1


def test_the_roof_has_a_slope_and_a_ceiling():
    limits = Limits(flops=30.0, bandwidth=10.0)
    assert limits.ridge == 3
    assert [limits.attainable(i) for i in (1, 3, 9)] == [10, 30, 30]


def test_limits_of_this_machine_are_those_of_a_machine():
    found = machine_limits(size=256, numbers=2**20, repeats=2)
    assert 1e8 < found.flops < 1e14 and 1e8 < found.bandwidth < 1e13
