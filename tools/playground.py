"""Make the file of weights and drawings that the page book/playground.md works with.

    python tools/playground.py [--root FOLDER] [--pooled FILE]

Writes book/playground/model.safetensors: three initialisations of the nets of the
recipe omniglot-20 (the Meta-GAN's stored in results/, a pooled GAN's, and the random
one that both began with), the maps that enlarge and reduce an image, and ten drawings
each of a few held-out characters. --root is the data folder. The pooled GAN is trained
as experiments/evidence.py trains its own, which --pooled reuses.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from metagan_lite import RECIPES, load_images, load_meta_gan
from metagan_lite.gan import train_gan

ROOT = Path(__file__).resolve().parents[1]
NAME, SEED, SHOTS, STEPS = "omniglot-20", 0, 10, 10
MODEL = ROOT / "book" / "playground" / "model.safetensors"
EVERY = 21  # of the held-out characters: six, chosen by their place in the list alone


def line_map(side: int, new: int) -> Tensor:
    """R [side, new]: the library's resize of an image X is Rᵀ X R."""
    stripes = torch.eye(side).view(side, 1, side, 1).expand(-1, -1, -1, side)
    resized = F.interpolate(
        stripes, size=(new, new), mode="bicubic", antialias=new < side
    )
    return resized[:, 0, :, 0].contiguous()


def named(start: str, game) -> dict[str, Tensor]:
    """The parameters of both players as "start.player.parameter"."""
    return {
        f"{start}.{player}.{name}": value.detach().contiguous()
        for player, own in game.parameters().items()
        for name, value in own.items()
    }


def best_rate(record: dict, method: str, steps: int) -> float:
    """The factor of the inner rates that the recipe's record chose for a baseline."""
    for row in record["rows"]:
        if (row["method"], row["inner_steps"]) == (method, steps):
            return float(re.search(r"rate × ([\d.]+)", row["note"])[1])
    raise KeyError(f"no row {method} @ {steps} in the record of {NAME}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="data folder; default: METAGAN_DATA")
    parser.add_argument("--pooled", type=Path, help="weights of the pooled GAN")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe, folder = RECIPES[NAME], ROOT / "results" / NAME
    record = json.loads((folder / "scorecard.json").read_text(encoding="utf-8"))
    settings = record["settings"]
    data = {"root": options.root} if options.root else {}
    own = {k: v for k, v in recipe.tasks.items() if k in ("size", "normalize")}
    found = load_images(recipe.tasks["name"], **own, **data)
    shape = found.images.shape[1:]
    trained = load_meta_gan(*recipe.build_nets(shape), folder)
    random = type(trained.game)(*recipe.build_nets(shape))
    tensors = named("meta", trained.game) | named("random", random)
    if options.pooled:
        stored = load_file(options.pooled)
        tensors |= {f"pooled.{name}": value for name, value in stored.items()}
    else:
        nets, tasks = recipe.build_nets(shape), recipe.training_tasks(**data)
        pooled = train_gan(*nets, tasks, steps=settings["pooled steps"], seed=SEED)
        tensors |= named("pooled", pooled)

    basis = recipe.generator["basis"]
    tensors["enlarge"] = line_map(basis, shape[-1])
    tensors["reduce"] = line_map(shape[-1], basis)
    characters = found.meta_test[::EVERY]
    for i, name in enumerate(characters):
        images = found.images[found.labels == found.class_names.index(name)]
        tensors[f"drawings.{i}"] = ((images[:SHOTS, 0] + 1) * 127.5).round().byte()
    config = trained.config
    about = {
        "command": "python tools/playground.py",
        "recipe": NAME,
        "size": shape[-1],
        "latent": recipe.generator["latent_dim"],
        "fakes": settings["inner_samples"],
        "decay": settings["decay"],
        "trainedSteps": config.inner_steps,
        "rates": trained.inner_lr,
        "factors": {
            "meta": 1,
            "pooled": best_rate(record, "pooled", STEPS),
            "random": best_rate(record, "scratch", STEPS),
        },
        "characters": characters,
    }
    save_file(tensors, MODEL, {key: json.dumps(value) for key, value in about.items()})


if __name__ == "__main__":
    main()
