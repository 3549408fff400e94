"""Two processes give the run of one. They run this file, started by torchrun."""

import runpy
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from metagan_lite import (
    RECIPES,
    ClassTasks,
    MetaDiscriminator,
    MetaGANConfig,
    MetaGenerator,
    load_meta_gan,
    meta,
    train_meta_gan,
)
from metagan_lite.distributed import (
    process_group,
    processes,
    shard,
    sum_over_processes,
)
from metagan_lite.io import load_checkpoint

EVEN = MetaGANConfig(
    meta_steps=5,
    meta_batch_size=4,
    shots=3,
    query_shots=4,
    inner_steps=2,
    inner_lr={"G": 0.5, "D": 0.2},
)
UNEVEN = replace(EVEN, meta_batch_size=3)
RUNS = {
    "even": EVEN,
    "uneven": UNEVEN,
    "uneven, in chunks": replace(UNEVEN, meta_batch_size=5, task_chunk_size=2),
    "each for itself": replace(UNEVEN, objective="adversarial"),
    "reptile": replace(UNEVEN, algorithm="reptile", samples=2),
}


def nets(seed=0):
    options = {"hidden": (6,), "generator": torch.Generator().manual_seed(seed)}
    return (
        MetaGenerator((1, 4, 4), latent_dim=3, **options).double(),
        MetaDiscriminator((1, 4, 4), **options).double(),
    )


def train(config, seed=0, **options):
    random = torch.Generator().manual_seed(1)
    images = torch.rand(60, 1, 4, 4, generator=random, dtype=torch.float64) * 2 - 1
    tasks = ClassTasks(images, torch.arange(6).repeat_interleave(10))
    return train_meta_gan(*nets(seed), tasks, config, progress=False, **options)


def outcome(trained):
    """How far each parameter moved, and the history."""
    moves = {
        f"{player}.{name}": (p - start).detach()
        for player, net in zip("GD", nets())
        for (name, start), p in zip(
            net.named_parameters(), trained.game.players[player].parameters()
        )
    }
    return {"moves": moves, "history": trained.history}


def digits_live(folder):
    """How far the command line moved the weights, from its checkpoint."""
    start, copy = (RECIPES["digits-live"].build_nets((1, 8, 8)) for _ in range(2))
    players = load_meta_gan(*copy, folder).game.players
    return [
        (p - q).detach()
        for player, net in zip("GD", start)
        for p, q in zip(players[player].parameters(), net.parameters())
    ]


LINE = ["train", "digits-live", "--set", "meta_steps=3", "meta_batch_size=3", "--out"]


# --- what each of the two processes does --------------------------------------


def message(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def in_each_process(folder: Path):
    with process_group() as device:
        command_line(*LINE, str(folder / "digits-live"))  # which joins no other group
        rank, world = processes()
        found = {"group": (rank, world, str(device))}
        for name, config in RUNS.items():
            found[name] = outcome(train(config))

        saved, called, save = [], [], meta.save_checkpoint

        def slow_save(*arguments, **content):
            saved.append(content["record"]["step"])
            time.sleep(0.1)  # without a barrier the other process would not wait
            save(*arguments, **content)

        meta.save_checkpoint = slow_save
        new = {"checkpoint": folder / "new", "checkpoint_every": 2}
        train(UNEVEN, callback=lambda step, *_: called.append(step), **new)
        found["step at return"] = load_checkpoint(folder / "new")[2]["step"]
        meta.save_checkpoint = save
        found |= {"saved": saved, "called": called}
        half = {"checkpoint": folder / "half", "resume": True}
        found["resumed"] = outcome(train(UNEVEN, **half))

        calls, all_reduce = [], dist.all_reduce

        def counting(tensor, *rest):
            calls.append(str(tensor.dtype))
            all_reduce(tensor, *rest)

        dist.all_reduce = counting
        tensors = {
            "a": {"x": torch.full((2, 3), 1.0 + rank), "none": None},
            "b": (torch.tensor(2.0 - rank), torch.ones(2, dtype=torch.float64)),
        }
        found["sum"] = sum_over_processes(tensors, weight=(0.25, 0.75)[rank])
        dist.all_reduce = all_reduce
        found["collectives"] = calls

        lacking = {"x": torch.ones(2) if rank else None}
        found["messages"] = [
            message(train, replace(EVEN, meta_batch_size=1)),
            message(train, EVEN, seed=rank),
            message(train, replace(EVEN, seed=rank)),
            message(sum_over_processes, lacking),
        ]
    torch.save(found, folder / f"rank-{rank}.pt")


def command_line(*arguments):
    """As ``torchrun -m metagan_lite …``, which would be two more processes."""
    sys.argv[1:] = arguments
    try:
        runpy.run_module("metagan_lite", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert end.code == 0


if __name__ == "__main__":
    in_each_process(Path(sys.argv[1]))


# --- what the test process checks ---------------------------------------------

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()),
    reason="this PyTorch has no gloo",
)


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def both(folder):
    """What rank 0 and rank 1 found."""

    def interrupt(step, *_):
        if step == 3:
            raise Interrupted

    half = {"checkpoint": folder / "half", "checkpoint_every": 2}
    with pytest.raises(Interrupted):
        train(UNEVEN, callback=interrupt, **half)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with subprocess.Popen(
        [sys.executable, *torchrun, __file__, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        try:
            out, err = launcher.communicate(timeout=120)
        finally:
            launcher.terminate()  # which ends both processes; killed, it would not
    assert launcher.returncode == 0, err
    assert out.count("digits-live: 3 outer steps") == 1
    return [
        torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)
    ]


def assert_same_run(found, expected):
    torch.testing.assert_close(found["moves"], expected["moves"], rtol=1e-8, atol=1e-12)
    for row, wanted in zip(found["history"], expected["history"], strict=True):
        assert row == pytest.approx(wanted, rel=1e-9)


@needs_gloo
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_give_the_run_of_one(both, name):
    expected = outcome(train(RUNS[name]))
    assert all(move.norm() > 1e-3 for move in expected["moves"].values())
    assert_same_run(both[0][name], expected)


@needs_gloo
def test_a_run_resumes_on_more_processes(both):
    assert_same_run(both[0]["resumed"], outcome(train(UNEVEN)))


@needs_gloo
def test_the_command_line_gives_the_run_of_one_process(both, folder, tmp_path):
    # Imported here: a module that is to run as __main__ must not be there already.
    from metagan_lite.__main__ import main

    assert main([*LINE, str(tmp_path)]) == 0
    for move, expected in zip(*map(digits_live, (folder / "digits-live", tmp_path))):
        assert (move - expected).norm() < 1e-4 * expected.norm()


@needs_gloo
def test_both_processes_return_the_same_bits(both):
    for name in (*RUNS, "resumed"):
        one, two = (found[name] for found in both)
        assert one["history"] == two["history"]
        for parameter, move in one["moves"].items():
            assert torch.equal(move, two["moves"][parameter])


@needs_gloo
def test_the_first_process_alone_writes_and_calls_and_the_other_waits(both):
    assert [found["group"] for found in both] == [(0, 2, "cpu"), (1, 2, "cpu")]
    assert [found["saved"] for found in both] == [[2, 4, 5], []]
    assert [found["called"] for found in both] == [[1, 2, 3, 4, 5], []]
    assert [found["step at return"] for found in both] == [5, 5]


@needs_gloo
def test_the_sum_is_one_collective_for_each_dtype(both):
    for found in both:
        total = found["sum"]
        assert torch.equal(total["a"]["x"], torch.full((2, 3), 0.25 + 0.75 * 2))
        assert total["a"]["none"] is None
        assert torch.equal(total["b"][0], torch.tensor(0.25 * 2 + 0.75))
        assert torch.equal(total["b"][1], torch.ones(2, dtype=torch.float64))
        # The integers compare the structures.
        kinds = ["torch.int64", "torch.float32", "torch.float64"]
        assert found["collectives"] == kinds


@needs_gloo
def test_processes_that_disagree_say_so(both):
    for found in both:
        few, other_nets, other_seed, lacking = found["messages"]
        assert "ValueError: expected a task for each of 2 processes" in few
        assert "got meta_batch_size=1; raise it" in few
        assert "RuntimeError: expected the same weights" in other_nets
        assert "seed the nets' initialisation" in other_nets
        assert "expected the same configuration and step" in other_seed
        assert "expected the same tensors" in lacking


# --- one process --------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shards_are_contiguous_and_cover_all_tasks_once(world):
    for tasks in range(world, 20):
        shares = [range(tasks)[shard(tasks, rank, world)] for rank in range(world)]
        assert [task for share in shares for task in share] == list(range(tasks))
        sizes = {len(share) for share in shares}
        assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as device:
        assert device == torch.device("cpu") and processes() == (0, 1)
    tensors = {"x": torch.ones(2), "y": None}
    assert sum_over_processes(tensors) is tensors


def test_half_of_torchrun_s_environment(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="without RANK, LOCAL_RANK.*with torchrun"):
        with process_group():
            pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match="a GPU for device 'cuda', found none; use"):
        with process_group("cuda"):
            pass
