"""Every combination of the choices that make a Meta-GAN, at matched compute.

    python experiments/switchboard.py [--seeds N] [--steps N] [--share I/N]

The switches: update order × algorithm × outer objective × whether D's loss detaches its
fakes. Reptile has no outer objective; to first order detaching changes nothing (the
tests show it), and the MMD cannot reach D, so there D's initialisation stays ("G
only"). What remains is 58 cells. All train on the tasks and nets of the recipe
``glyphs-live``, until they have spent the FLOPs that --steps outer steps of exact
MAML with the MMD spend: those of matrix products in the vmap path, one count for all
cells however the library computes them. They are scored on the held-out classes, beside
a pooled GAN and fresh nets.

Each finished cell is kept in --work, so the command goes on where it was stopped;
--share 1/2 and --share 2/2 are for two processes, and a last call without it writes
RESULTS/switchboard/record.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from records import kept_json, rows_of
from torch.utils.flop_counter import FlopCounterMode

from metagan_lite import GAN, RECIPES, MetaGANConfig, meta_gradients, train_meta_gan
from metagan_lite.evaluate import evaluate_meta_gan
from metagan_lite.features import train_feature_net
from metagan_lite.gan import train_gan
from metagan_lite.io import environment, write_atomically
from metagan_lite.objectives import make_objective

RECIPE = "glyphs-live"
STEPS = (0, 1, 2, 5, 10, 20)
ORDERS = ("simultaneous", "alternating")
ALGORITHMS = ("MAML", "FOMAML", "Reptile", "ANIL", "Meta-SGD")
OBJECTIVES = ("adversarial", "refreshed D", "MMD", "MMD + features")
POOLED_STEPS = 2000


@dataclass(frozen=True)
class Cell:
    """One combination. ``objective`` and ``detached`` are None where it has none."""

    order: str
    algorithm: str
    objective: str | None
    detached: bool | None

    @property
    def name(self) -> str:
        parts = [self.order, self.algorithm, self.objective]
        parts += ["detached"] if self.detached else []
        return ", ".join(filter(None, parts))


def cells() -> Iterator[Cell]:
    """The distinct combinations."""
    for order, algorithm in product(ORDERS, ALGORITHMS):
        if algorithm == "Reptile":
            yield Cell(order, algorithm, None, None)
        elif algorithm == "FOMAML":
            for objective in OBJECTIVES:
                yield Cell(order, algorithm, objective, None)
        else:
            for objective, detached in product(OBJECTIVES, (False, True)):
                yield Cell(order, algorithm, objective, detached)


def configuration(cell: Cell, base: MetaGANConfig, heads: dict) -> MetaGANConfig:
    """The recipe's configuration with the switches of a cell.

    Args:
        heads: The rates of ANIL: player → layer → rate, 0 but in the last layer.
    """
    named = {
        "adversarial": ("adversarial", {}),
        "refreshed D": ("refreshed-d", {}),
        "MMD": ("coop-mmd", {}),
        "MMD + features": ("coop-mmd", {"feature_weight": 1.0}),
        None: ("adversarial", {}),  # Reptile does not look at it
    }
    objective, options = named[cell.objective]
    if cell.algorithm == "FOMAML" and objective == "coop-mmd":
        options = {**options, "teach": False}
    return replace(
        base,
        simultaneous=cell.order == "simultaneous",
        algorithm={"FOMAML": "fomaml", "Reptile": "reptile"}.get(
            cell.algorithm, "maml"
        ),
        inner_lr=heads if cell.algorithm == "ANIL" else base.inner_lr,
        learned_lr="parameter" if cell.algorithm == "Meta-SGD" else None,
        objective=objective,
        objective_options=options,
        detach_fakes=bool(cell.detached),
    )


def head_rates(game: GAN, inner_lr: dict[str, float]) -> dict[str, dict[str, float]]:
    rates = {}
    for player, own in game.trainable().items():
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in own))
        rates[player] = dict.fromkeys(layers, 0.0) | {layers[-1]: inner_lr[player]}
    return rates


def flops(config: MetaGANConfig, recipe, tasks, features) -> int:
    """The products' FLOPs of one outer step in the vmap path."""
    game = GAN(*recipe.build_nets(tasks.sample_shape), detach_fakes=config.detach_fakes)
    options = dict(config.objective_options)
    if "feature_weight" in options:
        options["features"] = features
    random = torch.Generator().manual_seed(0)
    batch = tasks.sample(
        config.meta_batch_size,
        shots=config.shots,
        query_shots=config.query_shots,
        generator=random,
    )
    rates: Any = config.inner_lr
    if config.learned_lr:  # as in training: a tensor for each number
        rates = {
            player: {
                name: torch.full_like(p, config.inner_lr[player], requires_grad=True)
                for name, p in own.items()
            }
            for player, own in game.trainable().items()
        }

    def step() -> None:
        meta_gradients(
            game,
            batch,
            inner_steps=config.inner_steps,
            inner_lr=rates,
            algorithm=config.algorithm,
            objective=make_objective(config.objective, game, options),
            simultaneous=config.simultaneous,
            path="vmap",
            generator=random,
        )

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


class Bench:
    """What all cells share: tasks, nets that score and compare, and the budget."""

    def __init__(self, meta_steps: int):
        self.recipe = RECIPES[RECIPE]
        self.tasks = self.recipe.training_tasks()
        self.held_out = self.recipe.load_tasks("meta-test")
        random = lambda seed: torch.Generator().manual_seed(seed)
        self.scorer = train_feature_net(self.tasks, steps=400, generator=random(1234))
        # The net that the MMD compares features in is not the one that scores.
        self.features = train_feature_net(self.tasks, steps=400, generator=random(77))
        base = self.recipe.config
        self.heads = head_rates(
            GAN(*self.recipe.build_nets(self.tasks.sample_shape)), base.inner_lr
        )
        reference = Cell("alternating", "MAML", "MMD", False)
        self.budget = meta_steps * self.flops(self.config(reference))

    def config(self, cell: Cell) -> MetaGANConfig:
        return configuration(cell, self.recipe.config, self.heads)

    def flops(self, config: MetaGANConfig) -> int:
        return flops(config, self.recipe, self.tasks, self.features)

    def run(self, cell: Cell, seed: int) -> dict[str, Any]:
        """Train and score one cell; a run that breaks down is a result."""
        config = self.config(cell)
        each = self.flops(config)
        steps = round(self.budget / each)
        config = replace(config, meta_steps=steps, seed=seed)
        recipe = replace(self.recipe, config=config)
        wants = "feature_weight" in config.objective_options
        found = {**asdict(cell), "seed": seed, "meta_steps": steps, "flops": each}
        start = time.process_time()
        try:
            trained = train_meta_gan(
                *recipe.build_nets(self.tasks.sample_shape),
                self.tasks,
                config,
                features=self.features if wants else None,
                progress=False,
            )
        except RuntimeError as error:
            return {**found, "broke": str(error), "rows": []}
        found["cpu_seconds"] = round(time.process_time() - start, 1)
        card = evaluate_meta_gan(
            trained, self.held_out, self.scorer, inner_steps=STEPS, seed=1
        )
        return {**found, "rows": rows_of(card, "Meta-GAN")}

    def references(self, seed: int) -> dict[str, Any]:
        """A pooled GAN and fresh nets, at the best of four rates on these tasks."""
        recipe = replace(self.recipe, config=replace(self.recipe.config, seed=seed))
        nets = recipe.build_nets(self.tasks.sample_shape)
        pooled = train_gan(
            *nets, self.tasks, steps=POOLED_STEPS, seed=seed, progress=False
        )
        config = replace(recipe.config, meta_steps=1)
        trained = train_meta_gan(*nets, self.tasks, config, progress=False)
        card = evaluate_meta_gan(
            trained,
            self.held_out,
            self.scorer,
            pooled=pooled,
            scratch=GAN(*nets),
            inner_steps=STEPS,
            seed=1,
        )
        fixed = ("real images", "copy-support", "support + jitter")
        rows = rows_of(card, "pooled", "scratch", *fixed)
        return {"seed": seed, "pooled_steps": POOLED_STEPS, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400, help="of the reference cell")
    parser.add_argument("--share", default="1/1", help="I/N: every N-th cell, from I")
    parser.add_argument("--work", type=Path, default=Path("_build/switchboard"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench, work = Bench(options.steps), options.work / str(options.steps)
    first, every = map(int, options.share.split("/"))
    jobs = list(product(range(options.seeds), cells()))
    found = []
    for i, (seed, cell) in enumerate(jobs):
        if i % every != first - 1:
            continue
        path = work / f"{seed}-{cell.name.replace(', ', '_').replace(' ', '-')}.json"
        found.append(kept_json(path, lambda: bench.run(cell, seed)))
        print(f"{i + 1}/{len(jobs)} seed {seed}: {cell.name}", flush=True)
    if every > 1:
        return
    references = [
        kept_json(work / f"{seed}-references.json", lambda: bench.references(seed))
        for seed in range(options.seeds)
    ]
    record = {
        "command": "python experiments/switchboard.py"
        f" --seeds {options.seeds} --steps {options.steps}",
        "recipe": RECIPE,
        "budget_flops": bench.budget,
        "classes": bench.held_out.num_classes,
        "environment": environment(),
        "references": references,
        "cells": found,
    }
    text = json.dumps(record, indent=None, separators=(",", ":")) + "\n"
    write_atomically(options.results / "switchboard" / "record.json", text.encode())


if __name__ == "__main__":
    main()
