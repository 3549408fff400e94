"""What each command of the command line does; ``__main__`` reads its arguments.

A command takes the parsed arguments and writes files and standard output. An error of
the user is a ``ValueError`` or an ``OSError`` of one line.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

import metagan_lite

from .adapt import adaptation_steps
from .data import (
    IMAGE_TYPES,
    SOURCES,
    check_integers,
    normalize_characters,
    read_image,
    source_options,
    uint8_to_float,
)
from .distributed import process_group, processes
from .evaluate import Scorecard, evaluate_meta_gan
from .features import FeatureNet, train_feature_net
from .games import GAN
from .gan import train_gan
from .io import environment, load_checkpoint, write_atomically
from .meta import MetaGANConfig, TrainedMetaGAN, load_meta_gan, train_meta_gan
from .metrics import mean_and_error
from .plots import adaptation_grid, curve_plot, image_grid, to_png
from .recipes import RECIPES, Recipe, Run
from .report import differences, make_record, make_report, read_words, unwritten
from .tasks import ClassTasks, load_tasks

__all__ = ["datasets", "evaluate", "info", "recipes", "report", "sample", "train"]

_SHOWN = 8  # tasks in a figure, and images of each where there may be more
_FEATURE_STEPS = 300


# --- recipes and train --------------------------------------------------------


def recipes(options: argparse.Namespace) -> None:
    """List the recipes."""
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        sys.stdout.write(f"{name:{width}}  {recipe.description}\n")


def train(options: argparse.Namespace) -> None:
    """Meta-train a recipe, as changed, and draw what came of it."""
    recipe, changes = _changed_recipe(options)
    out = _folder(options.out)
    check_integers(1, checkpoint_every=options.checkpoint_every)
    if (out / "checkpoint.json").exists() and not options.resume:
        raise ValueError(
            f"expected a folder without a checkpoint, got '{out}'; add --resume to go"
            " on from it, or choose another folder"
        )
    with process_group(options.device) as device:
        first = processes()[0] == 0
        tasks, held_out = recipe.training_tasks(), recipe.load_tasks("meta-test")
        # Drawn now: a class with too few images is better known before training.
        random = torch.Generator().manual_seed(recipe.config.seed)
        shots = recipe.config.shots
        shown = held_out.every_task(shots=shots, query_shots=1, generator=random)
        nets = recipe.build_nets(tasks.sample_shape)
        run = Run.of(options.recipe, recipe, tasks.sample_shape, changes)
        if options.resume:
            run.check_resumes(out)
        if first and not (options.resume and (out / "run.json").exists()):
            run.save(out)
        try:
            with _interrupt_between_steps() as callback:
                trained = train_meta_gan(
                    *nets,
                    tasks,
                    recipe.config,
                    device=device,
                    callback=callback,
                    checkpoint=out,
                    checkpoint_every=options.checkpoint_every,
                    resume=options.resume,
                    progress=sys.stderr.isatty(),
                )
        except KeyboardInterrupt:
            if first:
                sys.stderr.write(_how_to_go_on(out, recipe.config.meta_steps))
            raise
    if first:
        _draw_run(out, trained, shown.support[:_SHOWN], held_out.class_names)
        sys.stdout.write(
            f"{options.recipe}: {recipe.config.meta_steps} outer steps, in '{out}'\n"
        )


def _changed_recipe(options: argparse.Namespace) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with the tasks and the configuration that the arguments ask for."""
    if options.recipe not in RECIPES:
        raise ValueError(
            f"expected a recipe among {', '.join(RECIPES)}; got {options.recipe!r}"
        )
    recipe = RECIPES[options.recipe]
    changes = _changes(options.set)
    tasks = dict(recipe.tasks) if options.tasks is None else {"name": options.tasks}
    tasks |= _source_options(options.option)
    if options.size is not None:
        tasks["size"] = options.size
    if options.held_out:
        tasks["held_out"] = options.held_out
    tasks = _located(tasks, options.root)
    if recipe.nets == "mlp" and (options.tasks or options.size):
        # The rates of a recipe suit the size of its own images; the defaults follow.
        changes.setdefault("inner_lr", None)
    config = replace(recipe.config, **changes)
    return replace(recipe, tasks=tasks, config=config), changes


def _source_options(settings: Sequence[str]) -> dict[str, Any]:
    """Arguments of ``load_tasks`` from ``NAME=VALUE``."""
    found = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name in ("name", "split", "device"):
            raise ValueError(
                "expected --option NAME=VALUE with an option of the source of tasks,"
                f" such as rotations=true; got {setting!r}"
            )
        if text in ("True", "False", "None"):  # as text they would all count as true
            raise ValueError(
                f"expected {name} as JSON, such as {json.dumps(text != 'False')}; got"
                f" {text!r}"
            )
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _located(tasks: Mapping[str, Any], root: str | None) -> dict[str, Any]:
    """The tasks with paths that hold in every working directory."""
    tasks = dict(tasks)
    if root is not None:
        tasks["root"] = root
    if "root" in tasks:
        tasks["root"] = str(Path(tasks["root"]).expanduser().absolute())
    source, colon, path = tasks["name"].partition(":")
    if path:
        tasks["name"] = source + colon + str(Path(path).expanduser().absolute())
    return tasks


def _changes(settings: Sequence[str]) -> dict[str, Any]:
    """Fields of the configuration from ``NAME=VALUE``."""
    names = [field.name for field in fields(MetaGANConfig)]
    changes = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in names:
            raise ValueError(
                f"expected --set NAME=VALUE with a NAME among {', '.join(names)}; got"
                f" {setting!r}"
            )
        changes[name] = _value(name, text)
    return changes


def _value(name: str, text: str) -> Any:
    """A field's value from JSON, or the text itself; of the kind of its default."""
    default = getattr(MetaGANConfig(), name)
    try:  # float, because JSON has no word for "inf"
        value = float(text) if isinstance(default, float) else json.loads(text)
    except ValueError:
        value = text
    if isinstance(default, str):
        return value if isinstance(value, str) else text
    kind = list if isinstance(default, tuple) else type(default)
    if default is not None and type(value) is not kind:
        raise ValueError(
            f"expected {name} as JSON, such as {json.dumps(default)}; got {text!r}"
        )
    return value


@contextmanager
def _interrupt_between_steps() -> Iterator[Callable[..., None]]:
    """Ctrl-C waits for the end of the outer step; a second one does not.

    Yields the callback of ``train_meta_gan`` that raises the KeyboardInterrupt.
    """
    asked = False

    def ask(*_: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    def callback(*_: Any) -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # a job in the background: Ctrl-C is for others
        yield callback
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield callback
    except RuntimeError:
        # The first of several processes has left, and the others miss it.
        if not asked or processes()[0] == 0:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def _how_to_go_on(out: Path, steps: int) -> str:
    try:
        _, _, record = load_checkpoint(out, with_state=False)
        done = f"{record['step']} of {steps} outer steps are"
    except FileNotFoundError:
        done = "no outer step is"
    return (
        f"metagan_lite: stopped; {done} in '{out}': repeat the command with --resume"
        " to go on\n"
    )


def _draw_run(
    out: Path, trained: TrainedMetaGAN, support: Tensor, names: Sequence[str]
) -> None:
    """``samples.png`` and ``loss.png``."""
    config = trained.config
    steps = sorted({0, 1, config.inner_steps})
    samples = _draw(trained, support, steps, support.shape[1], config.seed)
    grid = adaptation_grid(
        support,
        samples,
        task_labels=names[: len(support)],
        alt=f"Support images of {len(support)} held-out classes, and samples of the"
        f" Meta-GAN after {', '.join(map(str, steps))} inner steps.",
    )
    _write_figure(out / "samples.png", grid)

    of_loss = [k for k in trained.history[0] if k != "step" and k[:5] != "grad "]
    of_norm = [k for k in trained.history[0] if k[:5] == "grad "]
    curve = curve_plot(  # Reptile has no outer loss
        {name: _means(trained.history, name) for name in of_loss or of_norm},
        ylabel="outer loss" if of_loss else "norm of the meta-gradient",
        xlabel="outer steps",
        alt=f"{', '.join(of_loss or of_norm)} over {config.meta_steps} outer steps.",
    )
    _write_figure(out / "loss.png", curve)


def _means(
    history: Sequence[Mapping[str, float]], name: str, points: int = 50
) -> tuple[list[float], list[float], list[float] | None]:
    """(steps, means, standard errors) of at most so many spans of a history."""
    width = math.ceil(len(history) / points)
    spans = [history[i : i + width] for i in range(0, len(history), width)]
    steps = [sum(row["step"] for row in span) / len(span) for span in spans]
    values = [torch.tensor([row[name] for row in span]).double() for span in spans]
    if width == 1:
        return steps, [value.item() for value in values], None
    # A last span of one step has no error to show.
    scores = [mean_and_error(v) if len(v) > 1 else (v.item(), 0.0) for v in values]
    return steps, *map(list, zip(*scores))


def _draw(
    trained: TrainedMetaGAN,
    support: Tensor,
    steps: Sequence[int],
    samples: int,
    seed: int,
) -> dict[int, Tensor]:
    """Inner step → samples ``[T, samples, *S]`` of one noise, adapted as in training.

    Args:
        support: ``[T, K, *S]``. steps: which to draw after. samples: of each task.
    """
    game, config = trained.game, trained.config
    random = torch.Generator().manual_seed(seed)
    tasks, shots = support.shape[:2]
    z = game.noise(tasks, 1, samples, generator=random)[:, 0, 1]
    fakes = config.samples or shots
    noise = game.noise(tasks, max(steps), fakes, generator=random)
    with torch.no_grad():
        states = adaptation_steps(
            game,
            support.to(z.device),
            inner_lr=trained.rates(max(steps)),
            noise=noise,
            simultaneous=config.simultaneous,
            path=config.path,
        )
        return {s: adapted["G"](z) for s, adapted in enumerate(states) if s in steps}


# --- evaluate -----------------------------------------------------------------


def evaluate(options: argparse.Namespace) -> None:
    """Score a run on the held-out classes, beside the baselines."""
    out = _folder(options.out or Path(options.folder) / "evaluation")
    steps = _integers("--steps", options.steps)
    check_integers(1, pooled_steps=options.pooled_steps)
    with process_group(options.device) as device:
        run, trained = _load(options.folder, device)
        seeded = replace(trained.config, seed=options.seed)
        moved = {} if options.tasks is None else {"name": options.tasks}
        tasks = _located({**run.tasks, **moved}, options.root)
        recipe = replace(run.as_recipe(seeded), tasks=tasks)
        held_out = _scored(recipe, options.on, run.sample_shape)
        pool = recipe.training_tasks()
        features = _features(out / "features.safetensors", recipe, options.seed, device)
        nets = recipe.build_nets(run.sample_shape)
        pooled = train_gan(
            *nets,
            pool,
            steps=options.pooled_steps,
            seed=options.seed,
            device=device,
            progress=sys.stderr.isatty(),
        )
        scorecard = evaluate_meta_gan(
            trained,
            held_out,
            features,
            pooled=pooled,
            scratch=GAN(*nets),
            validation=(
                recipe.load_tasks("validation")
                if recipe.tasks.get("validation")
                else None
            ),
            inner_steps=steps,
            query_shots=trained.config.query_shots,
            repeats=options.repeats,
            seed=options.seed,
        )
    table = f"{scorecard.to_markdown()}\n"
    record = {
        **_record(scorecard, trained),
        "tasks": _named(run.tasks),
        "held_out": f"{held_out.num_classes} classes"
        + (f" of {options.on}" if options.on else ""),
        "command": shlex.join(["python", "-m", "metagan_lite", *options.arguments]),
        "seed": options.seed,
        "pooled_steps": options.pooled_steps,
        "checkpoint_step": len(trained.history),
        "environment": _environment(),
    }
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(out / "scorecard.json", text.encode())
    write_atomically(out / "scorecard.md", table.encode())
    _write_figure(
        out / "samples.png",
        _comparison(scorecard, trained.config.inner_steps, held_out.class_names),
    )
    _write_figure(
        out / "curve.png",
        curve_plot(
            scorecard.curves("KID"),
            ylabel=f"KID ({features.name})",
            references={"real images": scorecard.score("real images", None, "KID")},
            trained_steps=trained.config.inner_steps,
            alt="KID of each method over its number of inner steps.",
        ),
    )
    sys.stdout.write(table)


def _scored(
    recipe: Recipe, source: str | None, sample_shape: Sequence[int]
) -> ClassTasks:
    """The held-out classes, or all classes of another source, of the run's shape."""
    if source is None:
        return recipe.load_tasks("meta-test")
    if source == recipe.tasks["name"]:
        raise ValueError(
            f"expected other images than the run's own for --on, got {source!r}, whose"
            " classes it was trained on; leave --on out to score its held-out classes"
        )
    channels, height, width = sample_shape
    wanted = {**recipe.tasks, "channels": channels}
    if height == width:
        wanted["size"] = width
    options = {k: wanted[k] for k in source_options(source) if k in wanted}
    return load_tasks(source, "all", **options)


def _record(scorecard: Scorecard, trained: TrainedMetaGAN) -> dict[str, Any]:
    """The record for reports; the scores alone where a mandatory row was left out."""
    steps = [s for method, s in scorecard.samples if method == "Meta-GAN" and s]
    if 0 not in {s for _, s in scorecard.samples} or not steps:
        return scorecard.to_record()
    nearest = min(steps, key=lambda s: abs(s - trained.config.inner_steps))
    return make_record(scorecard, trained, inner_steps=nearest)


def _features(
    path: Path, recipe: Recipe, seed: int, device: torch.device
) -> FeatureNet:
    """The net that scores, of the meta-train classes; from its file, if it is there."""
    tasks = recipe.load_tasks()
    _, *sides = tasks.sample_shape
    if tasks.num_classes < 20 and len(set(sides)) == 1:
        tasks = recipe.load_tasks(rotations=True)  # carries over better from a few
    config = recipe.config
    # At most as many images of a class as training takes.
    shots = min(5, (config.shots + config.query_shots) // 2)
    settings = {
        "tasks": recipe.tasks,
        "classes": tasks.class_names,
        "sample_shape": tasks.sample_shape,
        "steps": _FEATURE_STEPS,
        "shots": shots,
        "seed": seed,
    }
    metadata = {"settings": json.dumps(settings)}
    try:
        with safe_open(path, "pt") as file:
            known = file.metadata() == metadata
    except (SafetensorError, FileNotFoundError):
        known = False
    if known:
        net = FeatureNet(tasks.sample_shape)
        net.load_state_dict(load_file(path))
        return net.to(device).eval().requires_grad_(False)
    net = train_feature_net(
        tasks,
        steps=_FEATURE_STEPS,
        shots=shots,
        generator=torch.Generator().manual_seed(seed),
        device=device,
    )
    weights = {name: value.cpu() for name, value in net.state_dict().items()}
    write_atomically(path, to_bytes(weights, metadata))
    return net


def _comparison(scorecard: Scorecard, trained: int, names: Sequence[str]) -> Figure:
    """A row for each of a few tasks: support, the Meta-GAN as it adapts, pooled."""
    taken = sorted(step for method, step in scorecard.samples if method == "Meta-GAN")
    nearest = min(taken, key=lambda step: abs(step - trained))
    parts = {"support": scorecard.batch.support}
    for step in sorted({taken[0], nearest, taken[-1]}):
        parts[f"Meta-GAN @ {step}"] = scorecard.samples["Meta-GAN", step]
    parts[f"pooled @ {nearest}"] = scorecard.samples["pooled", nearest]
    images, labels = [], []
    for label, part in parts.items():
        part = part[:_SHOWN, :3]
        between = torch.full_like(part[:, :1], -1)  # paper
        images += [part, between]
        middle = part.shape[1] // 2
        own = [label if i == middle else "" for i in range(part.shape[1])]
        labels += [*own, ""]
    shown = len(images[0])
    return image_grid(
        torch.cat(images[:-1], 1),
        [names[c] for c in scorecard.batch.classes[:shown].tolist()],
        labels[:-1],
        alt=f"{shown} held-out classes, in columns {', '.join(parts)} inner steps.",
    )


# --- report -------------------------------------------------------------------


def report(options: argparse.Namespace) -> None:
    """Write a report of an evaluation, or compare it with another one."""
    record = _scorecard(options.folder)
    if options.against is not None:
        found = differences(record, _scorecard(options.against))
        for sentence in found:
            sys.stdout.write(f"{sentence}\n")
        if found:
            raise ValueError(
                f"expected '{options.against}' to agree with '{options.folder}', got"
                f" {len(found)} differences; ask what was measured"
            )
        sys.stdout.write("Both measurements agree.\n")
        return
    path = Path(options.out or Path(options.folder) / "report.md")
    words = options.words or path
    # The words of an earlier report stay when its tables are filled anew.
    old = Path(words).read_text(encoding="utf-8") if Path(words).exists() else ""
    if options.words and not old:
        raise ValueError(
            f"expected the author's sections in '{options.words}', found none; write"
            " ## Question, ## Claim and ## Limits there"
        )
    text = make_report(record, read_words(old), title=options.title)
    write_atomically(path, text.encode())
    if left := unwritten(text):
        sys.stdout.write(f"Yours to write in '{path}': {', '.join(left)}.\n")
    else:
        sys.stdout.write(f"The report is in '{path}'.\n")


def _scorecard(folder: str | Path) -> dict[str, Any]:
    """The record that ``evaluate`` left in a folder, or in its ``evaluation``."""
    paths = [Path(folder, *inside) for inside in ((), ("evaluation",))]
    for path in (path / "scorecard.json" for path in paths):
        if path.exists():
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(
                    f"expected a scorecard, got a broken '{path}' ({error}); evaluate"
                    " again"
                ) from error
    raise FileNotFoundError(
        f"expected a scorecard in '{folder}', found none; run `python -m metagan_lite"
        f" evaluate {folder}`"
    )


# --- sample -------------------------------------------------------------------


def sample(options: argparse.Namespace) -> None:
    """Adapt to a few images of one class and draw more of it."""
    if Path(options.out).suffix.lower() != ".png":
        raise ValueError(f"expected --out FILE.png, got '{options.out}'; rename it")
    check_integers(1, samples=options.samples)
    for name in ("shots", "inner_steps"):
        if getattr(options, name) is not None:
            least = 1 if name == "shots" else 0
            check_integers(least, **{name: getattr(options, name)})
    with process_group(options.device) as device:
        run, trained = _load(options.folder, device)
        if options.support is not None:
            support = _read_support(options, run)
            label = Path(options.support).name
        else:
            support = _held_out_support(options, run, trained)
            label = options.held_out
        last = options.inner_steps
        last = trained.config.inner_steps if last is None else last
        drawn = _draw(
            trained, support[None], sorted({0, last}), options.samples, options.seed
        )
    grid = adaptation_grid(
        support[None],
        drawn,
        task_labels=[label],
        alt=f"{len(support)} support images of {label}, and {options.samples} samples"
        f" of the Meta-GAN before and after {last} inner steps.",
    )
    _write_figure(Path(options.out), grid)
    sys.stdout.write(
        f"{options.samples} samples from {len(support)} images of {label}, in"
        f" '{options.out}'\n"
    )


def _held_out_support(
    options: argparse.Namespace, run: Run, trained: TrainedMetaGAN
) -> Tensor:
    """K images of a held-out class, ``[K, *S]``."""
    recipe = run.as_recipe(trained.config)
    tasks: ClassTasks = replace(
        recipe, tasks=_located(run.tasks, options.root)
    ).load_tasks("meta-test")
    names = tasks.class_names
    if options.held_out not in names:
        more = ", …" if len(names) > 12 else ""
        raise ValueError(
            f"expected a held-out class among {', '.join(names[:12])}{more}; got"
            f" {options.held_out!r}"
        )
    random = torch.Generator().manual_seed(options.seed)
    shots = options.shots or trained.config.shots
    batch = tasks.every_task(shots=shots, query_shots=1, generator=random)
    return batch.support[names.index(options.held_out)]


def _read_support(options: argparse.Namespace, run: Run) -> Tensor:
    """The first K images of a folder, as the run's own were read, ``[K, *S]``."""
    folder = Path(options.support).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"expected a folder of images for --support, got '{folder}'; put the images"
            " of one class into a folder"
        )
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_TYPES and file.name[0] != "."
    ]
    shots = options.shots or len(files)
    if not files or len(files) < shots:
        raise ValueError(
            f"expected at least {shots or 1} images in '{folder}', got {len(files)};"
            " add some, or lower --shots"
        )
    channels, height, width = run.sample_shape
    invert = options.invert or run.tasks.get("invert", False)
    normalize = options.normalize or run.tasks.get("normalize", False)
    size = width if height == width and not normalize else None
    images = []
    for file in files[:shots]:
        image = uint8_to_float(read_image(file, size, channels))
        image = -image if invert else image
        if normalize:
            image = normalize_characters(image[None], width)[0]
        images.append(image)
        if list(image.shape) != list(run.sample_shape):
            raise ValueError(
                f"expected images of width x height {width}x{height} as in training,"
                f" got {image.shape[2]}x{image.shape[1]} in '{file}'; resize it"
            )
    return torch.stack(images)


# --- datasets and info --------------------------------------------------------

_IDX = [
    f"{part}-{kind}-ubyte"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]
# What the loaders of these sources look for in the data folder.
_FILES = {
    "mnist": [f"MNIST/raw/{name}" for name in _IDX],
    "fashion-mnist": [f"FashionMNIST/raw/{name}" for name in _IDX],
    "kmnist": [f"KMNIST/raw/{name}" for name in _IDX],
    "omniglot": [
        f"omniglot-py/images_{name}.zip" for name in ("background", "evaluation")
    ],
    "omniglot-small": [
        f"omniglot-small/images_background_small{i}.zip" for i in (1, 2)
    ],
}


def datasets(options: argparse.Namespace) -> None:
    """List the sources of images and where each is; downloads nothing."""
    root = options.root or os.environ.get("METAGAN_DATA")
    for name, loader in SOURCES.items():
        if name == "folder":
            name, where = "folder:PATH", "yours"
        elif name not in _FILES:
            where = "embedded"
        elif root and _found(Path(root).expanduser(), _FILES[name]):
            where = "found"
        else:
            where = "needs a download"
        sentence, *_ = re.split(r"[;.]?\n|; ", inspect.getdoc(loader))
        sys.stdout.write(f"{name:14}  {where:16}  {sentence}.\n")
    if root:
        sys.stdout.write(f"The data folder is '{root}'.\n")
    else:
        sys.stdout.write(
            "There is no data folder: pass --root FOLDER or set METAGAN_DATA. Training"
            " downloads with --option download=true.\n"
        )


def _found(root: Path, files: Sequence[str]) -> bool:
    def there(name: str) -> bool:  # a zip file may lie in the data folder itself
        own = [name, Path(name).name] if name.endswith(".zip") else [name]
        return any((root / path).is_file() for path in own)

    return all(map(there, files))


def info(options: argparse.Namespace) -> None:
    """What a folder of checkpoints holds; without one, versions and hardware."""
    if options.folder is None:
        _write_lines(_environment())
        return
    weights, _, record = load_checkpoint(options.folder, with_state=False)
    lines: dict[str, Any] = {}
    if (Path(options.folder) / "run.json").exists():
        run = Run.load(options.folder)
        lines["recipe"] = run.recipe
        lines["tasks"] = _named(run.tasks)
        lines["sample shape"] = "×".join(map(str, run.sample_shape))
    config, history = record["config"], record["history"]
    lines["step"] = f"{record['step']} of {config['meta_steps']}"
    player = lambda name: name.split(".")[1]  # mean.G.0.weight
    for key, own in groupby(sorted(weights, key=player), player):
        count = sum(weights[name].numel() for name in own)
        lines[f"net {key}"] = f"{count:,} numbers"
    if history:
        last = {k: f"{v:.4g}" for k, v in history[-1].items() if k != "step"}
        lines["last losses"] = ", ".join(f"{k} {v}" for k, v in last.items())
    lines["config"] = _named(config)
    lines["made with"] = _named(record["environment"])
    _write_lines(lines)


# --- shared -------------------------------------------------------------------


def _load(folder: str, device: torch.device) -> tuple[Run, TrainedMetaGAN]:
    """A run and the Meta-GAN of its checkpoint, on a device."""
    run = Run.load(folder)
    nets = run.as_recipe(MetaGANConfig()).build_nets(run.sample_shape)
    trained = load_meta_gan(*nets, folder)
    for net in trained.game.players.values():
        net.to(device)
    return run, trained


def _folder(path: str | Path) -> Path:
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"expected a folder for --out, got the file '{path}'; choose another name"
        )
    return path


def _integers(name: str, text: str) -> list[int]:
    """Numbers ≥ 0 from text such as ``0,1,5``."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"expected {name} as integers with commas, such as 0,1,5; got {text!r}"
        )
    return [int(part) for part in parts]


def _write_figure(path: Path, figure: Figure) -> None:
    write_atomically(path, to_png(figure))


def _environment() -> dict[str, Any]:
    return {"metagan_lite": metagan_lite.__version__, **environment()}


def _named(values: Mapping[str, Any]) -> str:
    return " ".join(
        f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items()
    )


def _write_lines(values: Mapping[str, Any]) -> None:
    width = max(map(len, values))
    for name, value in values.items():
        lines = textwrap.wrap("–" if value is None else str(value), 86 - width)
        rest = f"\n{' ' * (width + 2)}".join(lines)
        sys.stdout.write(f"{name:{width}}  {rest}\n")
