"""The command line: ``python -m metagan_lite train RECIPE --out FOLDER``.

``python -m metagan_lite recipes`` lists the recipes. Several processes share the tasks
of every outer step under ``torchrun --nproc-per-node N -m metagan_lite train …``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from .distributed import process_group, processes
from .meta import MetaGANConfig, train_meta_gan
from .recipes import RECIPES

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, ``sys.argv`` by default.

    Returns:
        The exit status, 0 or, after an error of the user, 2. The error is one line on
        standard error. Other exceptions pass: they are ours, and need their traceback.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"metagan_lite: error: {line}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m metagan_lite", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    recipes = commands.add_parser("recipes", help="list the recipes")
    recipes.set_defaults(run=_recipes)

    train = commands.add_parser("train", help="meta-train a recipe")
    train.set_defaults(run=_train)
    add = train.add_argument
    add("recipe", metavar="RECIPE", help="a name that `recipes` lists")
    add("--out", required=True, metavar="FOLDER", help="where checkpoints go")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="fields of MetaGANConfig, values as JSON: meta_steps=200 loss=hinge",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--root", metavar="FOLDER", help="data folder, for sources that have one")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add(
        "--checkpoint-every",
        type=int,
        default=100,
        metavar="N",
        help="outer steps between checkpoints; default: 100",
    )
    return parser


def _recipes(options: argparse.Namespace) -> None:
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        sys.stdout.write(f"{name:{width}}  {recipe.description}\n")


def _train(options: argparse.Namespace) -> None:
    if options.recipe not in RECIPES:
        raise ValueError(
            f"expected a recipe among {', '.join(RECIPES)}; got {options.recipe!r}"
        )
    if Path(options.out).exists() and not Path(options.out).is_dir():
        raise ValueError(
            f"expected a folder for --out, got the file '{options.out}'; choose"
            " another name"
        )
    recipe = RECIPES[options.recipe]
    recipe = replace(recipe, config=_changed(recipe.config, options.set))
    with process_group(options.device) as device:
        tasks = recipe.training_tasks(**({"root": options.root} if options.root else {}))
        train_meta_gan(
            *recipe.build_nets(tasks.sample_shape),
            tasks,
            recipe.config,
            device=device,
            checkpoint=options.out,
            checkpoint_every=options.checkpoint_every,
            resume=options.resume,
            progress=sys.stderr.isatty(),
        )
        if processes()[0] == 0:
            sys.stdout.write(
                f"{options.recipe}: {recipe.config.meta_steps} outer steps, in"
                f" '{options.out}'\n"
            )


def _changed(config: MetaGANConfig, settings: Sequence[str]) -> MetaGANConfig:
    """The configuration with ``NAME=VALUE`` settings."""
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
    return replace(config, **changes)


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


if __name__ == "__main__":
    sys.exit(main())
