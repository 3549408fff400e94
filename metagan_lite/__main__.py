"""The command line: ``python -m metagan_lite COMMAND``, or ``metagan COMMAND``.

``train`` makes a run, ``evaluate`` and ``sample`` use it, and ``recipes``, ``datasets``
and ``info`` say what there is; ``COMMAND --help`` has examples. Several processes share
the tasks of every outer step under
``torchrun --nproc-per-node N -m metagan_lite train …``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from . import commands
from .meta import MetaGANConfig

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, ``sys.argv`` by default.

    Returns:
        The exit status: 0; 2 after an error of the user, which is one line on standard
        error; 130 after Ctrl-C. Other exceptions pass: they are ours, and need their
        traceback.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.arguments = arguments  # for the record of what made a result
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            options.run(options)
    except (ValueError, OSError) as error:
        _complain("error", error)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _complain(kind: str, message: Any) -> None:
    """One line on standard error."""
    line = " ".join(str(message).split())
    sys.stderr.write(f"metagan_lite: {kind}: {line}\n")


def _warn(message: Warning | str, *_: Any) -> None:
    _complain("warning", message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m metagan_lite",
        description="Train, evaluate and sample Meta-GANs.",
        epilog="`python -m metagan_lite COMMAND --help` explains a command.",
    )
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable, summary: str, *examples: str, more: str = ""
    ) -> argparse.ArgumentParser:
        lines = "".join(f"\n  python -m metagan_lite {name} {e}" for e in examples)
        added = commands_of.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:{lines}{more}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    train = command(
        "train",
        commands.train,
        "meta-train a recipe; Ctrl-C stops it after a whole outer step",
        "glyphs-live --out runs/glyphs",
        "glyphs-live --out runs/glyphs --resume",
        "digits-live --out runs/digits --set meta_steps=200 seed=1",
        "digits-live --out runs/mine --tasks folder:my-characters --size 16",
        more="\n\nfields of MetaGANConfig for --set, with their defaults (a recipe has"
        f" its own):\n{_fields()}",
    )
    add = train.add_argument
    add("recipe", metavar="RECIPE", help="a name that `recipes` lists")
    add(
        "--out",
        required=True,
        metavar="FOLDER",
        help="where checkpoints, run.json, samples.png and loss.png go",
    )
    add(
        "--tasks",
        metavar="SOURCE",
        help="images that replace the recipe's: a name that `datasets` lists",
    )
    add(
        "--size", type=int, metavar="N", help="side of the images, if the source has it"
    )
    add(
        "--held-out",
        nargs="+",
        metavar="NAME",
        help="classes to keep from training, instead of the source's own choice",
    )
    add(
        "--option",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="other options of the source, values as JSON: rotations=true invert=true",
    )
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="fields of MetaGANConfig, values as JSON: meta_steps=200 loss=hinge",
    )
    _add_device_and_root(add)
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add(
        "--checkpoint-every",
        type=int,
        default=100,
        metavar="N",
        help="outer steps between checkpoints; default: 100",
    )

    evaluate = command(
        "evaluate",
        commands.evaluate,
        "score a run on its held-out classes, beside the baselines",
        "runs/glyphs",
        "runs/glyphs --steps 0,5,20 --repeats 3 --out runs/glyphs-scores",
        "runs/glyphs --on folder:my-characters --repeats 4 --out runs/mine",
    )
    add = evaluate.add_argument
    add("folder", metavar="FOLDER", help="what `train --out` wrote")
    add(
        "--out",
        metavar="FOLDER",
        help="where the scorecard, its figures and the net that scores go; default:"
        " FOLDER/evaluation",
    )
    add(
        "--pooled-steps",
        type=int,
        default=2000,
        metavar="N",
        help="training steps of the pooled GAN; default: 2000",
    )
    add(
        "--steps",
        default="0,1,2,5,10,20",
        metavar="N,N,…",
        help="inner steps to score; default: 0,1,2,5,10,20",
    )
    add(
        "--repeats",
        type=int,
        default=1,
        metavar="N",
        help="tasks of each class, for data with few classes; default: 1",
    )
    add(
        "--tasks",
        metavar="SOURCE",
        help="where the run's own images are now, such as folder:PATH, if they moved",
    )
    add(
        "--on",
        metavar="SOURCE",
        help="score on all classes of these images, such as folder:PATH, instead of the"
        " run's held-out ones",
    )
    add("--seed", type=int, default=0, help="of tasks, noise and baselines; default: 0")
    _add_device_and_root(add)

    report = command(
        "report",
        commands.report,
        "write a report of an evaluation, whose tables fill themselves",
        "runs/glyphs",
        "runs/glyphs --words my-words.md --title 'My characters' --out report.md",
        "handed-in --against runs/measured-again",
    )
    add = report.add_argument
    add("folder", metavar="FOLDER", help="what `evaluate` wrote, or the run's folder")
    add("--out", metavar="FILE.md", help="the report; default: FOLDER/report.md")
    add(
        "--words",
        metavar="FILE.md",
        help="your ## Question, ## Claim and ## Limits; default: those of the report",
    )
    add("--title", default="A Meta-GAN", help="of the report; default: A Meta-GAN")
    add(
        "--against",
        metavar="FOLDER",
        help="write nothing, and say where another evaluation disagrees",
    )

    sample = command(
        "sample",
        commands.sample,
        "adapt a run to a few images of one class and draw more of it",
        "runs/glyphs --held-out glyph-00400 --shots 5 --out more.png",
        "runs/mine --support one-character --inner-steps 20 --out more.png",
    )
    add = sample.add_argument
    add("folder", metavar="FOLDER", help="what `train --out` wrote")
    add("--out", required=True, metavar="FILE.png", help="the picture")
    either = sample.add_mutually_exclusive_group(required=True).add_argument
    either("--support", metavar="FOLDER", help="images of one class")
    either("--held-out", metavar="NAME", help="or the name of a held-out class")
    add(
        "--shots",
        type=int,
        metavar="K",
        help="images to adapt to; default: all of --support, as in training otherwise",
    )
    add("--inner-steps", type=int, metavar="S", help="default: as in training")
    add("--samples", type=int, default=10, metavar="N", help="default: 10")
    add("--seed", type=int, default=0, help="of support and noise; default: 0")
    add("--invert", action="store_true", help="--support is dark ink on white paper")
    add(
        "--normalize",
        action="store_true",
        help="crop, centre and thicken the characters of --support",
    )
    _add_device_and_root(add)

    datasets = command(
        "datasets", commands.datasets, "list the sources of images", "", "--root ~/data"
    )
    add = datasets.add_argument
    _add_root(add)
    command("recipes", commands.recipes, "list the recipes", "")
    info = command(
        "info",
        commands.info,
        "say what a folder of checkpoints holds, or where this runs",
        "runs/glyphs",
        "",
    )
    add = info.add_argument
    add("folder", nargs="?", metavar="FOLDER", help="what `train --out` wrote")
    return parser


def _add_device_and_root(add: Callable) -> None:
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    _add_root(add)


def _add_root(add: Callable) -> None:
    add("--root", metavar="FOLDER", help="data folder, for sources that have one")


def _fields() -> str:
    """A line or two for each field of the configuration, from its docstring."""
    text = inspect.getdoc(MetaGANConfig).partition("Attributes:\n")[2]
    text = re.sub(r":\w+:`(?:~[\w.]*\.)?([^`]*)`", r"\1", text).replace("``", "")
    meaning = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE))
    lines = []
    for field in fields(MetaGANConfig):
        default = json.dumps(getattr(MetaGANConfig(), field.name))
        said = " ".join(meaning.get(field.name, "").split())
        lines.append(
            textwrap.fill(
                f"{field.name}={default}  {said}",
                width=79,
                initial_indent="  ",
                subsequent_indent="      ",
            )
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
