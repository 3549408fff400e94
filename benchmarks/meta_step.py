"""Time the meta-step of this library against what one could use instead.

    python benchmarks/meta_step.py [--rounds N] [--threads N] [--only TEXT] [--out FILE]
    python benchmarks/meta_step.py --device cuda [--precision float32|tf32|bf16]

All contenders run interleaved in one process. Before a case is timed, each contender's
gradients are compared with the library's loop; one that differs is not timed. Writes a
JSON record, with a row for every case or the reason why it is missing, and a Markdown
table. The book's page on speed is made from the records in benchmarks/results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib import metadata
from itertools import product
from pathlib import Path

import torch
from peers import CONTENDERS, PEERS, Problem
from report import OURS, table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from metagan_lite import (
    GAN,
    ConvDiscriminator,
    ConvGenerator,
    MetaDiscriminator,
    MetaGenerator,
    TaskBatch,
)
from metagan_lite.cost import peak_memory
from metagan_lite.io import environment, write_atomically

SHOTS = 10
CASES = [
    *product(["mlp"], (1, 4, 16, 64), (1, 5), ("maml", "fomaml")),
    *product(["conv"], (4, 16), (1, 5), ("maml",)),
    ("mlp", 16, 5, "reptile"),
]
GPU_CASES = [("mlp", 64, 5, "maml"), ("conv", 64, 5, "maml")]
# How far gradients may lie from the float32 loop, relative to their norm.
TOLERANCE = {"float32": 1e-3, "tf32": 1e-2, "bf16": 1e-1}


def label(case: tuple, device: str = "cpu", precision: str = "float32") -> str:
    kind, tasks, steps, algorithm = case
    name = f"{kind} T{tasks} S{steps} {algorithm}"
    name = f"GPU {name}" if device == "cuda" else name
    return name if precision == "float32" else f"{name} {precision}"


def make_problem(
    kind: str, tasks: int, steps: int, algorithm: str, device: str = "cpu"
) -> Problem:
    """A meta-step at the article's sizes: 28×28 images, K = 10."""
    random = torch.Generator().manual_seed(0)
    if kind == "mlp":
        nets = MetaGenerator(generator=random), MetaDiscriminator(generator=random)
    else:
        nets = ConvGenerator(generator=random), ConvDiscriminator(generator=random)
    game = GAN(*(net.to(device) for net in nets))
    images = torch.rand(tasks, 2 * SHOTS, 1, 28, 28, generator=random) * 2 - 1
    images = images.to(device)
    return Problem(
        game,
        TaskBatch(images[:, :SHOTS], images[:, SHOTS:]),
        game.noise(tasks, steps, SHOTS, generator=random),
        game.noise(tasks, 1, SHOTS, generator=random)[:, 0],
        algorithm,
    )


# --- one measurement ----------------------------------------------------------


@contextlib.contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """Products in float32, in TF32, or in bfloat16 where autocast sees fit.

    A convolution on a GPU is TF32 by default, so float32 has to be asked for as well.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        yield


def seconds(run: Callable[[], object], device: str) -> float:
    """How long it takes, to the end of what it started on a GPU."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def matmul_rate(device: str = "cpu", precision: str = "float32") -> float:
    """The machine's best rate of products at this precision, in FLOP/s."""
    size = 8192 if device == "cuda" else 1024
    a, b = torch.rand(2, size, size, device=device)
    if precision == "bf16":
        a, b = a.bfloat16(), b.bfloat16()
    with computing(precision, device):
        best = min(seconds(lambda: a @ b, device) for _ in range(10))
    return 2 * size**3 / best


def flops(function, problem: Problem) -> int:
    with FlopCounterMode(display=False) as counter:
        function(problem)
    return counter.get_total_flops()


def extra_peak(function, problem: Problem, device: str = "cpu") -> int:
    """The most bytes of tensors that a meta-step adds at any one time."""
    return peak_memory(lambda: function(problem), device)


KINDS = {  # of operations, by a part of their names
    "products": ("mm", "matmul", "linear"),
    "convolutions": ("conv",),
    "copies": ("copy_", "cat", "clone", "contiguous", "fill_", "zero_", "empty"),
    "elementwise": (
        *("add", "sub", "mul", "div", "neg", "exp", "pow", "sqrt", "sum", "mean"),
        *("silu", "sigmoid", "softplus", "tanh", "group_norm", "threshold", "log"),
    ),
}


def where_time_goes(function, problem: Problem) -> dict[str, float]:
    """Shares of a meta-step's time by kind of operation, on a CPU.

    What no kernel of these kinds took is bookkeeping: Python, autograd's graph, views,
    and starting kernels. The profiler adds to it.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    function(problem)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        total = 1e6 * seconds(lambda: function(problem), "cpu")  # microseconds
    times = dict.fromkeys(KINDS, 0.0)
    for event in record.key_averages():
        if event.key.startswith("aten::"):
            name = event.key.removeprefix("aten::")
            for kind, parts in KINDS.items():
                if any(part in name for part in parts):
                    times[kind] += event.self_cpu_time_total
                    break
    shares = {kind: time / total for kind, time in times.items()}
    return {**shares, "bookkeeping": max(0.0, 1 - sum(shares.values()))}


def check(
    problem: Problem, device: str = "cpu", precision: str = "float32"
) -> tuple[dict, dict[str, str]]:
    """The contenders whose gradients are right, and why the others are left out."""
    with computing("float32", device):
        truth = CONTENDERS["ours (loop)"](problem)
    scale = sum(g.square().sum() for g in truth).sqrt()
    right, reasons = {}, {}
    for name, function in CONTENDERS.items():
        try:
            with computing(precision, device):
                found = function(problem)
        except (ImportError, NotImplementedError) as error:
            reasons[name] = str(error)
            continue
        error = sum((a - b).square().sum() for a, b in zip(found, truth)).sqrt() / scale
        if error < TOLERANCE[precision]:
            right[name] = function
        else:
            reasons[name] = f"its gradients differ by {error:.1e}"
    return right, reasons


# --- one case -----------------------------------------------------------------


def run_case(
    case: tuple,
    rounds: int,
    limit: float,
    device: str = "cpu",
    precision: str = "float32",
) -> list[dict]:
    """One row per contender.

    Median and spread of the time, tasks/s, ratio to the best peer, share of the
    machine's rate of products, and extra peak memory.
    """
    problem = make_problem(*case, device)
    contenders, reasons = check(problem, device, precision)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with computing(precision, device):
        for _ in range(rounds):
            for name, function in contenders.items():
                times[name].append(seconds(lambda: function(problem), device))
        medians = {name: statistics.median(t) for name, t in times.items()}
        best = min(medians[name] for name in PEERS if name in medians)
        kind, tasks, _, _ = case
        own = {"case": label(case, device, precision)}
        rows = []
        for name in CONTENDERS:
            if name in reasons:
                rows.append({**own, "contender": name, "why not": reasons[name]})
                continue
            share = None  # the counter miscounts the grouped convolutions of vmap
            if kind == "mlp":
                share = flops(contenders[name], problem) / medians[name] / limit
            quarters = statistics.quantiles(times[name], n=4)
            peak = extra_peak(contenders[name], problem, device)
            rows.append(
                {
                    **own,
                    "contender": name,
                    "ms": 1e3 * medians[name],
                    "spread ms": 1e3 * (quarters[2] - quarters[0]),
                    "tasks/s": tasks / medians[name],
                    "ratio": best / medians[name],
                    "matmul share": share,
                    "extra peak MiB": peak / 2**20,
                }
            )
            if name == OURS and device == "cpu":
                rows[-1]["time"] = where_time_goes(contenders[name], problem)
    return rows


def left_out(name: str, why: str) -> dict:
    return {"case": name, "contender": "all", "why not": why}


def versions() -> dict[str, str]:
    """The peers that are installed."""
    found = {}
    for name in ("higher", "learn2learn", "torchopt"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def command(arguments: list[str]) -> str:
    """What to type to measure this again."""
    policy = os.environ.get("OMP_WAIT_POLICY")
    start = [f"OMP_WAIT_POLICY={policy}"] if policy else []
    return shlex.join([*start, "python", "benchmarks/meta_step.py", *arguments])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="at least 2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="run cases that contain this text")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=tuple(TOLERANCE), default="float32")
    parser.add_argument("--out", type=Path, default=Path("_build/bench/meta_step.json"))
    options = parser.parse_args(arguments)
    device, precision = options.device, options.precision
    if options.rounds < 2:
        parser.error(f"expected --rounds of at least 2, got {options.rounds}")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("expected a GPU for --device cuda, found none; leave it out")
    if device == "cpu" and precision == "tf32":
        parser.error("expected --device cuda with --precision tf32, got cpu")

    torch.set_num_threads(options.threads)
    limit, rows = matmul_rate(device, precision), []
    for case in GPU_CASES if device == "cuda" else CASES:
        name = label(case, device, precision)
        if options.only in name:
            found = run_case(case, options.rounds, limit, device, precision)
            print(table(found), flush=True)
            rows += found
        else:
            rows.append(left_out(name, f"left out by `--only '{options.only}'`"))
    if device == "cpu":
        at_hand = torch.cuda.is_available()
        why = "needs --device cuda" if at_hand else "no GPU at hand"
        rows += [left_out(label(case, "cuda"), why) for case in GPU_CASES]
    record = {
        "command": command(arguments),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": device,
        "precision": precision,
        "rounds": options.rounds,
        "shots": SHOTS,
        "matmul GFLOP/s": limit / 1e9,
        "environment": environment(),
        "peers": versions(),
        "rows": rows,
    }
    write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())
    write_atomically(options.out.with_suffix(".md"), table(rows).encode())
    print(f"written to {options.out}")


if __name__ == "__main__":
    main(sys.argv[1:])
