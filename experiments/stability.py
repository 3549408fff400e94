"""Does meta-learning make GANs stable? Runs that diverge or collapse, counted.

    python experiments/stability.py [--seeds N] [--share I/N]

A run is one seed at one multiple of the inner rates: players that adapt to the held-out
digits. Fresh nets and a pooled GAN (one for each seed) take the rates as they are;
a Meta-GAN is meta-trained with them first: by the article's adversarial objective, the
fakes of D's loss attached as the article has them or detached, or by the cooperative
MMD. A run *broke* if its training raised, *diverged* if a sample is not
finite after the inner steps, and *collapsed* if the samples of a task vary, in the
mean over tasks, less than a fifth as much as real images.

Each finished run is kept in --work, so the command goes on where it was stopped;
--share 1/2 and --share 2/2 are for two processes, and a last call without it writes
RESULTS/stability/record.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from records import kept_json, rows_of

from metagan_lite import GAN, RECIPES, MetaGANConfig, TrainedMetaGAN, train_meta_gan
from metagan_lite.evaluate import evaluate_meta_gan
from metagan_lite.features import train_feature_net
from metagan_lite.gan import train_gan
from metagan_lite.io import environment, write_atomically

RECIPE = "digits-live"
# The options of each method's game, beside its rates and its seed.
METHODS: dict[str, dict[str, Any]] = {
    "scratch": {},
    "pooled": {},
    "adversarial": {"objective": "adversarial"},
    "adversarial-detached": {"objective": "adversarial", "detach_fakes": True},
    "coop-mmd": {"objective": "coop-mmd"},
}
FACTORS = (0.3, 1.0, 2.0, 3.0, 10.0)  # × the inner rates of the recipe
STEPS = (5, 20)
META_STEPS, META_BATCH, POOLED_STEPS = 200, 4, 1000


def outcome(row: dict[str, Any]) -> str:
    """ "diverged", "collapsed" or "fine", from a row of a scorecard."""
    if "diverged" in row["note"]:
        return "diverged"
    return "collapsed" if "collapsed" in row["note"] else "fine"


class Bench:
    """What all runs share: tasks and the net that scores."""

    def __init__(self):
        self.recipe = RECIPES[RECIPE]
        self.tasks = self.recipe.training_tasks()
        self.held_out = self.recipe.load_tasks("meta-test")
        random = torch.Generator().manual_seed(1234)
        self.scorer = train_feature_net(self.tasks, steps=400, generator=random)
        self.pooled = lru_cache(maxsize=1)(self._train_pooled)

    def run(self, method: str, factor: float, seed: int) -> dict[str, Any]:
        base = self.recipe.config
        config = replace(
            base,
            meta_steps=META_STEPS,
            meta_batch_size=META_BATCH,
            inner_lr={p: factor * rate for p, rate in base.inner_lr.items()},
            seed=seed,
            **METHODS[method],
        )
        found = {"method": method, "factor": factor, "seed": seed}
        try:
            trained = self.players(method, config)
        except RuntimeError as error:
            return {**found, "broke": str(error), "rows": []}
        card = evaluate_meta_gan(
            trained, self.held_out, self.scorer, inner_steps=STEPS, repeats=2, seed=1
        )
        return {**found, "rows": rows_of(card, "Meta-GAN")}

    def players(self, method: str, config: MetaGANConfig) -> TrainedMetaGAN:
        """What starts to adapt."""
        recipe = replace(self.recipe, config=config)
        nets = recipe.build_nets(self.tasks.sample_shape)
        if method == "scratch":
            return TrainedMetaGAN(GAN(*nets), config, [], {})
        if method == "pooled":
            return TrainedMetaGAN(self.pooled(config.seed), config, [], {})
        return train_meta_gan(*nets, self.tasks, config, progress=False)

    def _train_pooled(self, seed: int) -> GAN:
        recipe = replace(self.recipe, config=replace(self.recipe.config, seed=seed))
        nets = recipe.build_nets(self.tasks.sample_shape)
        game = train_gan(
            *nets, self.tasks, steps=POOLED_STEPS, seed=seed, progress=False
        )
        # What follows is the inner game of the others: without a penalty.
        return GAN(game.players["G"], game.players["D"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--share", default="1/1", help="I/N: every N-th run, from I")
    parser.add_argument("--work", type=Path, default=Path("_build/stability"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench()
    first, every = map(int, options.share.split("/"))
    found = []
    jobs = list(product(range(options.seeds), METHODS, FACTORS))
    for i, (seed, method, factor) in enumerate(jobs):
        if i % every != first - 1:
            continue
        path = options.work / f"{method}-{factor:g}-{seed}.json"
        found.append(kept_json(path, lambda: bench.run(method, factor, seed)))
        print(f"{i + 1}/{len(jobs)} {method} × {factor:g}, seed {seed}", flush=True)
    if every > 1:
        return
    record = {
        "command": f"python experiments/stability.py --seeds {options.seeds}",
        "recipe": RECIPE,
        "meta_steps": META_STEPS,
        "meta_batch_size": META_BATCH,
        "pooled_steps": POOLED_STEPS,
        "seeds": options.seeds,
        "inner_lr": RECIPES[RECIPE].config.inner_lr,
        "environment": environment(),
        "runs": [
            {
                "method": run["method"],
                "factor": run["factor"],
                "seed": run["seed"],
                "outcome": {
                    str(row["inner_steps"]): outcome(row) for row in run["rows"]
                }
                or dict.fromkeys(map(str, STEPS), "broke"),
                "recognition": {
                    str(row["inner_steps"]): row["scores"]["recognition"]["mean"]
                    for row in run["rows"]
                },
            }
            for run in found
        ],
    }
    text = json.dumps(record, separators=(",", ":")) + "\n"
    write_atomically(options.results / "stability" / "record.json", text.encode())


if __name__ == "__main__":
    main()
