"""Make the files of weights that the page book/playground.md works with.

    python tools/playground.py [--root FOLDER] [--pooled FILE]
    python tools/playground.py --game

The first writes book/playground/model.safetensors: three initialisations of the nets of
the recipe omniglot-20 (the Meta-GAN's stored in results/, a pooled GAN's, and the
random one that both began with), the maps that enlarge and reduce an image, and ten
drawings each of a few held-out characters, of held-out digits, and of symbols of the
invented script. --root is the data folder. The pooled GAN is
trained as experiments/evidence.py trains its own, which --pooled reuses.

The second writes book/playground/game.safetensors: the same three initialisations of
small nets in the plane, for the family of :class:`ArcTasks`. It takes about a minute on
one core.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from metagan_lite import RECIPES, load_images, load_meta_gan
from metagan_lite.adapt import adaptation_steps
from metagan_lite.data import normalize_characters
from metagan_lite.games import GAN
from metagan_lite.gan import train_gan
from metagan_lite.meta import MetaGANConfig, train_meta_gan
from metagan_lite.nets import MetaDiscriminator, MetaGenerator
from metagan_lite.tasks import TaskBatch, TaskDistribution

ROOT = Path(__file__).resolve().parents[1]
NAME, SEED, SHOTS, STEPS = "omniglot-20", 0, 10, 10
MODEL = ROOT / "book" / "playground" / "model.safetensors"
OTHERS = 5
EVERY = 21  # of the held-out characters: six, chosen by their place in the list alone

GAME = ROOT / "book" / "playground" / "game.safetensors"
FEW = MetaGANConfig(
    meta_steps=800,
    meta_batch_size=8,
    shots=10,
    query_shots=64,
    inner_steps=5,
    inner_lr=0.2,
    samples=32,
)
FACTORS = (0.25, 0.5, 1, 2, 4, 8)  # of the inner rates that a baseline may choose from
HELD_OUT = 200  # arcs of the comparison that is stored
JUDGED = 256  # samples, and unseen points, of which a distance is measured


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


# --- the game in two dimensions ------------------------------------------------


class ArcTasks(TaskDistribution):
    """A task is an arc: points along part of a circle, with a little noise.

    Centre uniform in [−0.3, 0.3]², radius in [0.4, 0.7], any turn, a span of 0.6π to
    1.4π, deviation 0.03. book/playground/points.js draws from the same family.
    """

    sample_shape = (2,)

    def sample(
        self,
        meta_batch_size: int,
        *,
        shots: int,
        query_shots: int,
        generator: torch.Generator | None = None,
    ) -> TaskBatch:
        """Support ``[T, K, 2]`` and query ``[T, Q, 2]`` of T arcs."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(
                meta_batch_size, *shape, generator=generator
            )

        points = shots + query_shots
        centre = uniform(-0.3, 0.3, 1, 2)
        radius = uniform(0.4, 0.7, 1, 1)
        first = uniform(0, 2 * math.pi, 1, 1)
        span = uniform(0.6 * math.pi, 1.4 * math.pi, 1, 1)
        angle = first + span * uniform(0, 1, points, 1)
        noise = torch.randn(meta_batch_size, points, 2, generator=generator)
        place = centre + radius * torch.cat([angle.cos(), angle.sin()], -1)
        x = place + 0.03 * noise
        return TaskBatch(x[:, :shots], x[:, shots:])

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Points ``[n, 2]`` of n arcs: what a pooled GAN learns."""
        return self.sample(n, shots=1, query_shots=1, generator=generator).support[:, 0]


def plane_nets() -> tuple[nn.Module, nn.Module]:
    """G and D of the plane, from noise of two numbers, at their random start."""
    random = torch.Generator().manual_seed(SEED)
    return (
        MetaGenerator(
            (2,), latent_dim=2, hidden=(32, 32), output=nn.Identity, generator=random
        ),
        MetaDiscriminator((2,), hidden=(32, 32), generator=random),
    )


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖ of ``[..., n, 2]`` and ``[..., m, 2]``.

    Source: Székely & Rizzo 2013. Without the distance of a point to itself, so that it
    is unbiased; it may then be negative.
    """

    def within(x: Tensor) -> Tensor:
        n = x.shape[-2]
        return torch.cdist(x, x).sum((-2, -1)) / (n * (n - 1))

    return 2 * torch.cdist(x, y).mean((-2, -1)) - within(x) - within(y)


@torch.no_grad()
def distances(game: GAN, factor: float, steps: int, tasks: int, seed: int) -> Tensor:
    """Energy distance to unseen points, before and after each step, ``[S + 1, T]``."""
    random = torch.Generator().manual_seed(seed)
    batch = ArcTasks().sample(
        tasks, shots=FEW.shots, query_shots=JUDGED, generator=random
    )
    noise = game.noise(tasks, steps, FEW.samples, generator=random)
    z = torch.randn(tasks, JUDGED, game.latent_dim, generator=random)
    states = adaptation_steps(
        game, batch.support, inner_lr=factor * FEW.inner_lr, noise=noise
    )
    return torch.stack([energy_distance(s["G"](z), batch.query) for s in states])


def best_factor(game: GAN) -> float:
    """The factor of the rates that brings a baseline nearest, on arcs of their own."""
    reached = {
        factor: distances(game, factor, FEW.inner_steps, 100, seed=1)[-1].mean().item()
        for factor in FACTORS
    }
    return min(reached, key=lambda f: (math.isnan(reached[f]), reached[f]))


def make_game() -> None:
    """Train the three starts of the game in two dimensions and write their file."""
    tasks = ArcTasks()
    trained = train_meta_gan(*plane_nets(), tasks, FEW, progress=False)
    pooled = train_gan(*plane_nets(), tasks, steps=3000, progress=False).players
    starts = {
        "random": GAN(*plane_nets()),
        "pooled": GAN(pooled["G"], pooled["D"]),  # its R1 was for the training alone
        "meta": trained.game,
    }
    factors = {name: best_factor(starts[name]) for name in ("random", "pooled")}
    factors["meta"] = 1.0
    tensors, held_out = {}, {}
    for name, game in starts.items():
        tensors |= named(name, game)
        found = distances(game, factors[name], FEW.inner_steps, HELD_OUT, seed=2)[-1]
        held_out[name] = [found.mean().item(), found.std().item() / len(found) ** 0.5]
    about = {
        "command": "python tools/playground.py --game",
        "shots": FEW.shots,
        "steps": FEW.inner_steps,
        "fakes": FEW.samples,
        "rates": {"D": FEW.inner_lr, "G": FEW.inner_lr},
        "factors": factors,
        "metaSteps": FEW.meta_steps,
        "heldOut": {"tasks": HELD_OUT, **held_out},  # mean energy distance, its error
    }
    save_file(tensors, GAME, {key: json.dumps(value) for key, value in about.items()})


def others(size: int) -> dict[str, Tensor]:
    """Drawings ``[n, 1, size, size]`` of what the nets were not made for, by name.

    The digits that the course holds out, 8×8 pixels that are enlarged and then made
    ready as the characters are; and the first symbols of the invented script.
    """
    found = {}
    digits, glyphs = load_images("digits"), load_images("glyphs", size=size)
    for source, name, title in (
        *((digits, name, f"digit {name}") for name in digits.meta_test),
        *((glyphs, name, f"symbol {i + 1}") for i, name in enumerate(glyphs.meta_test)),
    ):
        if len(found) == OTHERS:
            break
        images = source.images[source.labels == source.class_names.index(name)][:SHOTS]
        if source is digits:
            large = F.interpolate(images, scale_factor=10, mode="bicubic").clamp(-1, 1)
            images = normalize_characters(large, size)
        found[title] = images
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--game", action="store_true", help="the starts of the game")
    parser.add_argument("--root", help="data folder; default: METAGAN_DATA")
    parser.add_argument("--pooled", type=Path, help="weights of the pooled GAN")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.game:
        make_game()
        return
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
    drawn = {
        name: found.images[found.labels == found.class_names.index(name)][:SHOTS]
        for name in characters
    }
    more = others(shape[-1])
    for i, images in enumerate((*drawn.values(), *more.values())):
        tensors[f"drawings.{i}"] = ((images[:, 0] + 1) * 127.5).round().byte()
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
        "others": list(more),
    }
    save_file(tensors, MODEL, {key: json.dumps(value) for key, value in about.items()})


if __name__ == "__main__":
    main()
