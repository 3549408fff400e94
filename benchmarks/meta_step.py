"""Time the meta-step of this library against what one could use instead.

    python benchmarks/meta_step.py [--rounds N] [--threads N] [--out FILE]

All contenders run interleaved in one process. Before a case is timed, each contender's
gradients are compared with the library's loop; one that differs is not timed. Writes a
Markdown table and a JSON record.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from itertools import product
from pathlib import Path

import torch
from peers import CONTENDERS, PEERS, Problem
from torch.utils.flop_counter import FlopCounterMode

from metagan_lite import (
    GAN,
    ConvDiscriminator,
    ConvGenerator,
    MetaDiscriminator,
    MetaGenerator,
    TaskBatch,
)
from metagan_lite.io import environment, write_atomically

SHOTS = 10
CASES = [
    *product(["mlp"], (1, 4, 16, 64), (1, 5), ("maml", "fomaml")),
    *product(["conv"], (4, 16), (1, 5), ("maml",)),
    ("mlp", 16, 5, "reptile"),
]


def make_problem(kind: str, tasks: int, steps: int, algorithm: str) -> Problem:
    """A meta-step at the article's sizes: 28×28 images, K = 10."""
    random = torch.Generator().manual_seed(0)
    if kind == "mlp":
        nets = MetaGenerator(generator=random), MetaDiscriminator(generator=random)
    else:
        nets = ConvGenerator(generator=random), ConvDiscriminator(generator=random)
    game = GAN(*nets)
    images = torch.rand(tasks, 2 * SHOTS, 1, 28, 28, generator=random) * 2 - 1
    return Problem(
        game,
        TaskBatch(images[:, :SHOTS], images[:, SHOTS:]),
        game.noise(tasks, steps, SHOTS, generator=random),
        game.noise(tasks, 1, SHOTS, generator=random)[:, 0],
        algorithm,
    )


def matmul_rate(size: int = 1024, rounds: int = 10) -> float:
    """The machine's best rate of float32 products, in FLOP/s."""
    a, b = torch.rand(2, size, size)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def flops(function, problem: Problem) -> int:
    with FlopCounterMode(display=False) as counter:
        function(problem)
    return counter.get_total_flops()


def check(problem: Problem) -> tuple[dict, dict[str, str]]:
    """The contenders whose gradients are right, and why the others are left out."""
    truth = CONTENDERS["ours (loop)"](problem)
    scale = sum(g.square().sum() for g in truth).sqrt()
    right, reasons = {}, {}
    for name, function in CONTENDERS.items():
        try:
            found = function(problem)
        except (ImportError, NotImplementedError) as error:
            reasons[name] = str(error)
            continue
        error = sum((a - b).square().sum() for a, b in zip(found, truth)).sqrt() / scale
        if error < 1e-3:
            right[name] = function
        else:
            reasons[name] = f"its gradients differ by {error:.1e}"
    return right, reasons


def run_case(case: tuple, rounds: int, limit: float) -> list[dict]:
    """One row per contender: median, spread, tasks/s, ratio to the best peer, share."""
    problem = make_problem(*case)
    contenders, reasons = check(problem)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, function in contenders.items():
            start = time.perf_counter()
            function(problem)
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t) for name, t in times.items()}
    best = min(medians[name] for name in PEERS if name in medians)
    kind, tasks, steps, algorithm = case
    own = {"case": f"{kind} T{tasks} S{steps} {algorithm}"}
    rows = []
    for name in CONTENDERS:
        if name in reasons:
            rows.append({**own, "contender": name, "why not": reasons[name]})
            continue
        share = None  # the counter miscounts the grouped convolutions that vmap makes
        if kind == "mlp":
            share = flops(contenders[name], problem) / medians[name] / limit
        quarters = statistics.quantiles(times[name], n=4)
        rows.append(
            {
                **own,
                "contender": name,
                "ms": 1e3 * medians[name],
                "spread ms": 1e3 * (quarters[2] - quarters[0]),
                "tasks/s": tasks / medians[name],
                "ratio": best / medians[name],
                "matmul share": share,
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    lines = [
        "| case | contender | ms (IQR) | tasks/s | × best peer | matmul share |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        start = f"| {row['case']} | {row['contender']} |"
        if "why not" in row:
            lines.append(f"{start} not measured: {row['why not']} | | | |")
        else:
            share = row["matmul share"]
            share = "–" if share is None else f"{share:.2f}"
            lines.append(
                f"{start} {row['ms']:.1f} ({row['spread ms']:.1f}) |"
                f" {row['tasks/s']:.0f} | {row['ratio']:.2f} | {share} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="run cases that contain this text")
    parser.add_argument("--out", type=Path, default=Path("_build/bench/meta_step.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    limit, rows = matmul_rate(), []
    for case in CASES:
        if options.only in f"{case[0]} T{case[1]} S{case[2]} {case[3]}":
            found = run_case(case, options.rounds, limit)
            print(table(found), flush=True)
            rows += found
    record = {
        "command": " ".join(["python", *sys.argv]),
        "matmul GFLOP/s": limit / 1e9,
        "environment": environment(),
        "rows": rows,
    }
    write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())
    write_atomically(options.out.with_suffix(".md"), table(rows).encode())
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
