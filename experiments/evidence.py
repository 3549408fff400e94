"""Does it draw unseen classes? One recipe, several seeds, every baseline, one record.

    python experiments/evidence.py RECIPE [--seeds N] [--root FOLDER]

For each seed: meta-train the recipe, train a pooled GAN of the same nets, and score
both with all baselines on the held-out classes (the same tasks for every seed). How a
recipe is scored is written below, in SETTINGS; for Omniglot it was settled on the
validation classes before any held-out class was looked at. Each finished part is kept
in --work, so the command goes on where it was stopped.

Writes RESULTS/RECIPE/: scorecard.json (scores by seed, paired differences, command,
versions, hardware), scorecard.md, and samples and weights of the first seed; and
RESULTS/scorers/, the nets that score.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from metagan_lite import (
    RECIPES,
    ClassTasks,
    load_images,
    load_meta_gan,
    train_meta_gan,
)
from metagan_lite.evaluate import (
    Scorecard,
    augmentation_score,
    evaluate_meta_gan,
)
from metagan_lite.features import FeatureNet, train_feature_net
from metagan_lite.games import GAN
from metagan_lite.gan import train_gan
from metagan_lite.io import environment, write_atomically
from metagan_lite.metrics import mean_and_error
from metagan_lite.plots import adaptation_grid, to_png
from metagan_lite.report import over_classes

STEPS = (0, 1, 2, 5, 10, 20)
FINE_TUNE_STEPS = 100
SPLIT_SEED = 1  # of the support and query images of the held-out classes
SHOTS = QUERY_SHOTS = 10
AUGMENT = (  # rows whose samples are tried as training data of a classifier
    ("copy-support", None),
    ("support + jitter", None),
    ("Meta-GAN", 5),
    ("Meta-GAN", 10),
    ("pooled", 10),
    ("pooled, Adam", FINE_TUNE_STEPS),
)


@dataclass(frozen=True)
class Settings:
    """How a recipe is scored.

    Attributes:
        pooled_steps: Steps of Adam of the pooled GAN.
        decay: Of the inner rates past the trained steps.
        inner_samples: Fakes per inner step; None for as many as in training.
        repeats: Tasks of each held-out class.
        halved: Whether the images of the held-out classes are split in two: tasks are
            made of one half, the second scorer is trained on the other. Otherwise, with
            twenty drawings of a class, it is trained on the query images.
        held_out: Options of the held-out classes alone.
        validation: Meta-train classes to choose the baselines' rates on, where the
            recipe has none of its own; they are left out of training.
    """

    pooled_steps: int = 2000
    decay: float = 1.0
    inner_samples: int | None = None
    repeats: int = 1
    halved: bool = False
    held_out: Mapping[str, Any] = field(default_factory=dict)
    validation: tuple[str, ...] = ()


_OMNIGLOT = Settings(pooled_steps=6000, decay=0.8, inner_samples=40)
SETTINGS = {
    "omniglot-20": _OMNIGLOT,
    "omniglot-20-gan": _OMNIGLOT,
    "omniglot-28-gan": _OMNIGLOT,
    "digits-live": Settings(repeats=5, halved=True),
    "glyphs-live": Settings(
        halved=True,
        held_out={"drawings": 40},
        validation=tuple(f"glyph-{i:05d}" for i in range(360, 400)),
    ),
    "mnist-28": Settings(repeats=5, halved=True),
}


def kept(path: Path, make) -> dict[str, torch.Tensor]:
    """Tensors from a file, made and written first if it is missing."""
    if not path.exists():
        write_atomically(path, save(make()))
    return load(path.read_bytes())


def scorer(path: Path, tasks: ClassTasks, steps: int, seed: int) -> FeatureNet:
    def make():
        random = torch.Generator().manual_seed(seed)
        return train_feature_net(tasks, steps=steps, generator=random).state_dict()

    net = FeatureNet(tasks.sample_shape)
    net.load_state_dict(kept(path, make))
    return net.eval().requires_grad_(False)


def halves(recipe, settings: Settings, data: dict) -> tuple[ClassTasks, ClassTasks]:
    """The held-out classes twice, with every other image each."""
    options = {**recipe.tasks, **settings.held_out, **data}
    own = ("name", "split", "validation", "held_out", "rotations")
    images = load_images(
        recipe.tasks["name"], **{k: v for k, v in options.items() if k not in own}
    )
    names = recipe.load_tasks("meta-test", rotations=False, **data).class_names
    found = []
    for part in (0, 1):
        keep = torch.cat(
            [
                (images.labels == images.class_names.index(name)).nonzero()[part::2, 0]
                for name in names
            ]
        )
        found.append(
            ClassTasks(
                images.images[keep],
                images.labels[keep],
                images.class_names,
                rotations=options.get("rotations", False),
            )
        )
    return found[0], found[1]


def held_out_tasks(
    recipe, settings: Settings, data: dict
) -> tuple[ClassTasks, ClassTasks | None]:
    """The held-out classes, and the other half of their images if they are halved."""
    if settings.halved:
        return halves(recipe, settings, data)
    return recipe.load_tasks("meta-test", **data), None


def scorers(
    recipe, held_out: ClassTasks, others: ClassTasks | None, folder: Path, data: dict
) -> tuple[FeatureNet, FeatureNet]:
    """One net of the meta-train classes; one of images of the held-out classes.

    They share no image and no class, so a gain that both see is not one scorer's.
    Recipes of the same tasks share both nets. ``held_out`` and ``others`` are what
    :func:`held_out_tasks` returned.
    """
    name = f"{recipe.tasks['name']}-{held_out.sample_shape[-1]}"
    first = scorer(
        folder / f"{name}.safetensors",
        recipe.load_tasks(**{"rotations": True, **data}),
        steps=900,
        seed=1234,
    )
    kind = "other"
    if others is None:
        # The images that evaluate_meta_gan will draw: its first numbers.
        batch = held_out.every_task(
            shots=SHOTS,
            query_shots=QUERY_SHOTS,
            generator=torch.Generator().manual_seed(SPLIT_SEED),
        )
        labels = batch.classes.repeat_interleave(QUERY_SHOTS)
        others, kind = ClassTasks(batch.query.flatten(0, 1), labels), "query"
    second = scorer(folder / f"{name}-{kind}.safetensors", others, steps=900, seed=99)
    second.name = f"net of {kind} images"
    return first, second


def one_seed(
    recipe,
    settings: Settings,
    held_out: ClassTasks,
    seed: int,
    work: Path,
    data: dict,
    nets,
) -> tuple[Scorecard, dict]:
    """Train and score one seed; the second result is CPU seconds of training."""
    recipe = replace(recipe, config=replace(recipe.config, seed=seed))
    tasks = recipe.training_tasks(**data)
    shape, folder = tasks.sample_shape, work / f"seed-{seed}"
    seconds, start = {}, time.process_time()
    if not (folder / "seconds.json").exists():
        stopped_before = (folder / "checkpoint.json").exists()
        trained = train_meta_gan(
            *recipe.build_nets(shape),
            tasks,
            recipe.config,
            checkpoint=folder,
            resume=True,
        )
        took = time.process_time() - start
        seconds["Meta-GAN"] = None if stopped_before else took
        write_atomically(folder / "seconds.json", json.dumps(seconds).encode())
    seconds = json.loads((folder / "seconds.json").read_text())
    trained = load_meta_gan(*recipe.build_nets(shape), folder)

    def pooled_weights():
        start = time.process_time()
        game = train_gan(
            *recipe.build_nets(shape), tasks, steps=settings.pooled_steps, seed=seed
        )
        text = json.dumps({"pooled": time.process_time() - start})
        write_atomically(folder / "pooled.json", text.encode())
        return {
            f"{p}.{k}": v.detach().contiguous()
            for p, own in game.parameters().items()
            for k, v in own.items()
        }

    found = kept(folder / "pooled.safetensors", pooled_weights)
    seconds |= json.loads((folder / "pooled.json").read_text())
    pooled = GAN(*recipe.build_nets(shape))
    for player, own in pooled.parameters().items():
        for name, value in own.items():
            value.data.copy_(found[f"{player}.{name}"])
    card = evaluate_meta_gan(
        trained,
        held_out,
        nets[0],
        second=nets[1],
        pooled=pooled,
        scratch=GAN(*recipe.build_nets(shape)),
        validation=(
            recipe.load_tasks("validation", **data)
            if {**recipe.tasks, **data}.get("validation")
            else None
        ),
        inner_steps=STEPS,
        decay=settings.decay,
        inner_samples=settings.inner_samples,
        support_mmd=True,
        fine_tune_steps=FINE_TUNE_STEPS,
        query_shots=QUERY_SHOTS,
        repeats=settings.repeats,
        seed=SPLIT_SEED,
    )
    return card, seconds


def over_seeds(cards: list[Scorecard]) -> Scorecard:
    """The scorecard of the mean over seeds, task by task."""
    first = cards[0]
    rows = []
    for i, row in enumerate(first.rows):
        same = [card.rows[i] for card in cards]
        assert {(r.method, r.inner_steps) for r in same} == {
            (row.method, row.inner_steps)
        }
        values = {
            metric: torch.stack([r.values[metric] for r in same]).mean(0)
            for metric in row.values
        }
        notes = sorted({r.note for r in same if r.note})
        rows.append(replace(row, values=values, note="; ".join(notes)))
    text = f"{first.description[:-1]}; mean of {len(cards)} seeds."
    return replace(first, rows=tuple(rows), description=text)


def record(
    name: str, settings: Settings, cards: list[Scorecard], seconds: list[dict]
) -> dict:
    mean, first = over_seeds(cards), cards[0]
    rows = []
    for i, row in enumerate(mean.rows):
        scores = {}
        for metric, (value, error) in row.scores.items():
            of_seeds = [card.rows[i].scores[metric][0] for card in cards]
            scores[metric] = {
                "mean": value,
                "error over tasks": error,
                "seeds": of_seeds,
            }
        rows.append(
            {
                "method": row.method,
                "inner_steps": row.inner_steps,
                "note": row.note,
                "scores": scores,
            }
        )
    differences = []
    for steps in (5, 10):
        for other in (
            ("pooled", steps),
            ("scratch", steps),
            ("Meta-GAN, support-MMD", steps),
            ("pooled, Adam", FINE_TUNE_STEPS),
            ("support + jitter", None),
        ):
            for metric in ("recognition", "KID", "recognition (2nd)", "KID (2nd)"):
                above = mean.values("Meta-GAN", steps, metric)
                above = above - mean.values(*other, metric)
                found = over_classes(above, first.batch.classes)
                differences.append(
                    {
                        "a": ["Meta-GAN", steps],
                        "b": list(other),
                        "metric": metric,
                        **found._asdict(),
                    }
                )
    augmentation = []
    for row in AUGMENT:
        gains = [augmentation_score(card.samples[row], card.batch) for card in cards]
        value, error = mean_and_error(torch.stack(gains).mean(0))
        augmentation.append(
            {"row": list(row), "mean": value, "error over tasks": error}
        )
    return {
        "recipe": name,
        "description": mean.description,
        "command": f"python experiments/evidence.py {name} --seeds {len(cards)}",
        "seeds": len(cards),
        "settings": {
            "decay": settings.decay,
            "inner_samples": settings.inner_samples,
            "repeats": settings.repeats,
            "pooled steps": settings.pooled_steps,
            "fine-tuning steps": FINE_TUNE_STEPS,
            "split seed": SPLIT_SEED,
        },
        "seconds": seconds,
        "environment": environment(),
        "rows": rows,
        "differences": differences,
        "augmentation": augmentation,
    }


def write(folder: Path, work: Path, result: dict, cards: list[Scorecard]) -> None:
    def put(file: str, text: str) -> None:
        write_atomically(folder / file, text.encode())

    mean, first = over_seeds(cards), cards[0]
    put("scorecard.json", json.dumps(result, indent=1) + "\n")
    put("scorecard.md", mean.to_markdown(metrics=mean.metrics) + "\n")
    for old in folder.glob("weights-*.safetensors"):
        old.unlink()
    for file in (work / "seed-0").glob("weights-*.safetensors"):
        write_atomically(folder / file.name, file.read_bytes())
    put("checkpoint.json", (work / "seed-0" / "checkpoint.json").read_text())
    tasks = torch.arange(4) * (len(first.batch) // 7)
    for method in ("Meta-GAN", "pooled"):
        figure = adaptation_grid(
            first.batch.support[tasks],
            {s: first.samples[method, s][tasks][:, :SHOTS] for s in (0, 5, 10, 20)},
            blocks_per_row=2,
            alt=f"{method}: four held-out classes, ten drawings of each, and ten"
            " samples after 0, 5, 10 and 20 inner steps.",
        )
        file = "samples.png" if method == "Meta-GAN" else "samples-pooled.png"
        write_atomically(folder / file, to_png(figure))


def main() -> None:
    torch.set_num_threads(1)  # these nets are small: more threads only wait
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=sorted(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--root", help="data folder, for sources that have one")
    parser.add_argument("--work", type=Path, default=Path("_build/evidence"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    recipe, work = RECIPES[options.recipe], options.work / options.recipe
    settings = SETTINGS[options.recipe]
    data = {"root": options.root} if options.root else {}
    if settings.validation:
        data["validation"] = settings.validation
    held_out, others = held_out_tasks(recipe, settings, data)
    nets = scorers(recipe, held_out, others, options.results / "scorers", data)
    cards, seconds = [], []
    for seed in range(options.seeds):
        card, took = one_seed(recipe, settings, held_out, seed, work, data, nets)
        cards.append(card)
        seconds.append(took)
    result = record(options.recipe, settings, cards, seconds)
    write(options.results / options.recipe, work, result, cards)


if __name__ == "__main__":
    main()
