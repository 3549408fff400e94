"""The playground of the book in a notebook: draw a symbol, watch your own nets adapt.

The view is the book's, ``book/playground``; the inner steps are those of
:mod:`metagan_lite.adapt`, taken in PyTorch. It is an anywidget, which is not among what
the library needs::

    pip install anywidget
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .adapt import Adapted, adaptation_steps
from .data import LabelledImages, check_integers
from .games import GAN
from .losses import LOSSES, check_kind
from .meta import TrainedMetaGAN, default_inner_lr
from .plots import image_grid
from .rates import InnerLR, per_step
from .strokes import Stroke, draw_strokes
from .widgets import SCRIPTS, picture, still_widget, widget_script

__all__ = ["adaptation_explorer"]

MOST = 10  # examples on the page, so no more of a character are offered
SEED = 1  # of the noise, until the reader asks for other


def adaptation_explorer(
    candidates: Mapping[str, TrainedMetaGAN | GAN],
    images: LabelledImages,
    *,
    shots: int | None = None,
    inner_steps: int | None = None,
    samples: int | None = None,
    inner_lr: Mapping[str, float] | None = None,
    factors: Mapping[str, float] | None = None,
    decay: float = 1.0,
    prepare: Callable[[Sequence[Stroke]], Tensor] | None = None,
    device: str | torch.device = "cpu",
) -> Any:
    """The book's playground with nets of your own, for a notebook.

    One draws examples, or takes those of a held-out character, and sees what each
    candidate draws after every inner step, with the losses of both players. All play
    with the same examples and, where their latent dimensions agree, the same noise.
    Errors are shown in the widget's line of status.

    Where no notebook runs, such as in a built page, the widget is a picture: the
    first held-out character, and each candidate's samples at the end.

    Args:
        candidates: Name → what is to adapt, on images ``[C, H, H]`` with C = 1 or 3.
            They are copied: training them on changes nothing here.
        images: Where examples come from: the classes of ``images.meta_test``, at most
            ten images of each.
        shots, inner_steps, samples: What the fields hold at first: the examples used,
            S, and the generated samples per step and player. By default those that the
            first trained Meta-GAN among the candidates was trained with, or 5, 5 and
            as many as examples.
        inner_lr: Player → rate of the candidates that bring none. By default those of
            the first trained Meta-GAN, if they are one number for each player, or
            :func:`~metagan_lite.meta.default_inner_lr`.
        factors: Name → factor of all inner rates of this candidate.
        decay: Factor of all inner rates from one step to the next, beginning with the
            step after the last trained one.
        prepare: Strokes → image ``[C, H, H]`` in [-1, 1]; the points (x, y) count from
            0 to 104, with y downwards. By default
            :func:`~metagan_lite.strokes.draw_strokes`, which suits the invented
            script; make them as the images were made that the nets were trained on.
        device: Where the inner steps are taken.

    Raises:
        ValueError: for no candidates, one that does not draw such images, no held-out
            class, a factor of no candidate, or a decay that is not in (0, 1].
        ImportError: without anywidget.
    """
    explorer = _Explorer(
        candidates,
        images,
        {"shots": shots, "steps": inner_steps, "fakes": samples},
        inner_lr,
        factors or {},
        decay,
        prepare,
        torch.device(device),
    )
    return _widget()(explorer)


@dataclass(frozen=True)
class _Row:
    """A candidate: who plays, at which rates."""

    name: str
    game: GAN
    rates: InnerLR
    factor: float

    def plain(self) -> dict[str, float] | None:
        """Player → rate, if each has one number at all steps."""
        whole = isinstance(self.rates, (int, float))
        found = dict.fromkeys(("D", "G"), self.rates) if whole else self.rates
        if isinstance(found, Mapping) and all(
            isinstance(rate, (int, float)) for rate in found.values()
        ):
            return {player: float(rate) for player, rate in found.items()}
        return None


class _Explorer:
    """What answers the view, without a widget: ``answer`` is all of it.

    Attributes:
        about: What the view has to know; ``js/explorer.js`` says what.
    """

    def __init__(
        self,
        candidates: Mapping[str, TrainedMetaGAN | GAN],
        images: LabelledImages,
        fields: dict[str, int | None],
        inner_lr: Mapping[str, float] | None,
        factors: Mapping[str, float],
        decay: float,
        prepare: Callable[[Sequence[Stroke]], Tensor] | None,
        device: torch.device,
    ):
        self.shape = tuple(images.images.shape[1:])
        _check(candidates, images, self.shape, factors, decay)
        trained = [c for c in candidates.values() if isinstance(c, TrainedMetaGAN)]
        self.trained_steps = trained[0].config.inner_steps if trained else None
        self.decay, self.prepare, self.device = decay, prepare or self._draw, device
        self.rows = _rows(candidates, inner_lr, factors, device)
        self.examples = {  # name → [n, C, H, H]
            name: images.images[images.labels == images.class_names.index(name)][:MOST]
            for name in images.meta_test
        }
        self.runs: dict[str, Iterator[list[Tensor]]] = {}  # view → the steps to come

        shared = self.rows[0].plain()
        if any(row.plain() != shared for row in self.rows):
            shared = None
        # What a field holds when a row plays at its own rates: a short number.
        self.unit = {
            player: float(f"{rate:.3g}")
            for player, rate in (shared or {"D": 1.0, "G": 1.0}).items()
        }
        kind = self.rows[0].game.kind
        self.about = {
            "size": self.shape[-1],
            "channels": self.shape[0],
            "rows": [
                {"name": row.name, "title": row.name, "factor": row.factor}
                for row in self.rows
            ],
            "characters": [
                {"name": name.replace("_", " "), "count": len(own)}
                for name, own in self.examples.items()
            ],
            "losses": list(LOSSES),
            "relative": shared is None,
            "defaults": _defaults(trained, fields)
            | {"rateG": self.unit["G"], "rateD": self.unit["D"], "seed": SEED}
            | {"loss": kind, "order": _order(trained)},
        }

    def answer(
        self, question: Mapping[str, Any], buffers: Sequence[Any] = ()
    ) -> list[Tensor]:
        """What the view asked for, as tensors of float32.

        - ``prepare`` with ``drawings``: the image of each, ``[C, H, H]``;
        - ``run`` with ``settings`` and ``shown``, and the examples ``[K, C, H, H]`` as
          its buffer: nothing, the run of this view begins anew;
        - ``step``: the losses of D and G of each row ``[rows, 2]``, of no meaning at
          the start, and the samples ``[shown, C, H, H]`` of each row.
        """
        kind, view = question["kind"], question["view"]
        if kind == "prepare":
            return [self._image(drawing) for drawing in question["drawings"]]
        if kind == "run":
            numbers = torch.frombuffer(bytearray(buffers[0]), dtype=torch.float32)
            support = numbers.view(-1, *self.shape)
            self.runs[view] = self._run(
                support, question["settings"], int(question["shown"])
            )
            return []
        if kind == "step":
            if view not in self.runs:
                raise ValueError("expected a run before its steps: press Adapt again")
            return next(self.runs[view])
        raise ValueError(f"expected prepare, run or step, got {kind!r}")

    def _image(self, drawing: Mapping[str, Any]) -> Tensor:
        if "stored" in drawing:
            character, number = drawing["stored"]
            return list(self.examples.values())[character][number]
        image = torch.as_tensor(self.prepare(drawing["strokes"]), dtype=torch.float32)
        if image.shape != self.shape:
            raise ValueError(
                f"prepare: expected an image {list(self.shape)}, got"
                f" {list(image.shape)}; make it of the size of the others"
            )
        return image

    def _draw(self, strokes: Sequence[Stroke]) -> Tensor:
        return draw_strokes([strokes], self.shape[-1])[0].expand(self.shape)

    def _run(
        self, support: Tensor, settings: Mapping[str, Any], shown: int
    ) -> Iterator[list[Tensor]]:
        """S + 1 times the losses and samples of all rows; the settings are checked."""
        steps, fakes = int(settings["steps"]), int(settings["fakes"])
        check_kind(settings["loss"])
        late = self.trained_steps or steps
        scales = {
            player: float(settings[f"rate{player}"]) / own
            for player, own in self.unit.items()
        }
        loops = []
        for row in self.rows:
            game = copy.copy(row.game)
            game.kind = settings["loss"]
            rates = {
                player: {
                    name: [
                        rate
                        * (row.factor * scales[player])
                        * self.decay ** max(0, step - late + 1)
                        for step, rate in enumerate(rates)
                    ]
                    for name, rates in own.items()
                }
                for player, own in per_step(game, row.rates, steps).items()
            }
            generator = torch.Generator().manual_seed(int(settings["seed"]))
            z = torch.randn(shown, game.latent_dim, generator=generator)
            noise = game.noise(1, steps, fakes, generator=generator)
            loops.append(
                states(
                    game,
                    support.to(self.device)[None],
                    z.to(noise)[None],
                    noise,
                    rates,
                    simultaneous=settings["order"] == "simultaneous",
                )
            )

        def together() -> Iterator[list[Tensor]]:
            for rows in zip(*loops):
                losses = torch.tensor([own for _, own in rows])
                yield [losses, *(samples for samples, _ in rows)]

        return together()

    def still(self) -> tuple[Tensor, list[str], str]:
        """The widget as a picture: images [R, n, C, H, H], a label for each row, words.

        The first character, and what every candidate draws at the end.
        """
        settings, name = self.about["defaults"], next(iter(self.examples))
        support = self.examples[name][: settings["shots"]]
        _, *ends = list(self._run(support, settings, MOST))[-1]
        first = -torch.ones(MOST, *self.shape)
        first[: len(support)] = support
        images = torch.stack([first, *(end.cpu() for end in ends)])
        names = [row.name for row in self.rows]
        words = (
            f"{len(support)} examples of {name}, and samples after"
            f" {settings['steps']} inner steps of {', '.join(names)}"
        )
        return images, ["examples", *names], words


def states(
    game: GAN,
    support: Tensor,
    z: Tensor,
    noise: Tensor,
    inner_lr: InnerLR,
    *,
    simultaneous: bool,
) -> Iterator[tuple[Tensor, tuple[float, float]]]:
    """The samples at the start and after each step, and the losses of D and G.

    game, support ``[1, K, *S]``, noise, inner_lr, simultaneous: as for
        :func:`~metagan_lite.adapt.adaptation_steps`. z: the samples' noise,
        ``[1, n, latent]``.

    Yields samples ``[n, *S]`` and two numbers. Each loss is the one that its player
    descended in the step: G's, where the players alternate, after the move of D. At
    the start they are NaN.
    """
    with torch.no_grad():
        players = adaptation_steps(
            game, support, inner_lr=inner_lr, noise=noise, simultaneous=simultaneous
        )
    before: Adapted | None = None
    for step, state in enumerate(players):
        losses = (float("nan"), float("nan"))
        if before is not None:
            seen, found = before, []
            for player in game.players:
                loss = lambda nets, x, n: game.loss(player, nets, x, n)
                found.append(seen.evaluate(loss, support, noise[:, step - 1]).item())
                if not simultaneous:
                    own = {**before.parameters(), player: state.parameters()[player]}
                    with torch.no_grad():
                        seen = Adapted.at(game, own)
            losses = tuple(found)
        yield state["G"](z)[0], losses
        before = state


def _check(
    candidates: Mapping[str, Any],
    images: LabelledImages,
    shape: tuple[int, ...],
    factors: Mapping[str, float],
    decay: float,
) -> None:
    if not candidates:
        raise ValueError('expected candidates, got none: pass {"Meta-GAN": …}')
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise ValueError(
            f"expected images [N, 1 or 3, H, H], got [N, {', '.join(map(str, shape))}];"
            " load them with one size for both sides"
        )
    if not images.meta_test:
        raise ValueError(
            "expected held-out classes, got none: name some in images.meta_test"
        )
    for name, candidate in candidates.items():
        game = getattr(candidate, "game", candidate)
        if not isinstance(game, GAN):
            raise ValueError(
                f"candidate {name!r}: expected a TrainedMetaGAN or a GAN, got"
                f" {type(game).__name__}"
            )
        if game.sample_shape != shape:
            raise ValueError(
                f"candidate {name!r}: expected samples {list(shape)}, as the images"
                f" are, got {list(game.sample_shape)}; load the images in that size"
            )
    if strange := [name for name in factors if name not in candidates]:
        raise ValueError(
            f"factors of {strange[0]!r}, which is not among {list(candidates)}"
        )
    if not 0 < decay <= 1:
        raise ValueError(
            f"expected 0 < decay ≤ 1, got {decay}; pass 1 for constant inner rates"
        )


def _rows(
    candidates: Mapping[str, TrainedMetaGAN | GAN],
    inner_lr: Mapping[str, float] | None,
    factors: Mapping[str, float],
    device: torch.device,
) -> list[_Row]:
    rows = []
    for name, candidate in candidates.items():
        trained = isinstance(candidate, TrainedMetaGAN)
        game = copy.deepcopy(candidate.game if trained else candidate)
        for net in game.players.values():
            net.to(device)
        rates = candidate.inner_lr if trained else None
        rates = torch.utils._pytree.tree_map_only(
            Tensor, lambda rate: rate.detach().to(device), rates
        )
        rows.append(_Row(name, game, rates, float(factors.get(name, 1))))
    plain = [row.plain() for row in rows if row.rates is not None]
    usual = inner_lr or next(filter(None, plain), None)
    return [
        row
        if row.rates is not None
        else _Row(row.name, row.game, usual or default_inner_lr(row.game), row.factor)
        for row in rows
    ]


def _defaults(
    trained: Sequence[TrainedMetaGAN], fields: dict[str, int | None]
) -> dict[str, int]:
    """The numbers in the fields: as asked for, as in training, or small."""
    usual = {"shots": 5, "steps": 5, "fakes": None}
    if trained:
        config = trained[0].config
        usual = {
            "shots": min(config.shots, MOST),
            "steps": config.inner_steps,
            "fakes": config.samples or config.shots,
        }
    found = {name: usual[name] if v is None else v for name, v in fields.items()}
    found["fakes"] = found["fakes"] or found["shots"]
    check_integers(
        1, shots=found["shots"], inner_steps=found["steps"], samples=found["fakes"]
    )
    return found


def _order(trained: Sequence[TrainedMetaGAN]) -> str:
    at_once = bool(trained) and trained[0].config.simultaneous
    return "simultaneous" if at_once else "alternating"


@cache
def _widget() -> type:
    """The class of explorers, made when one is first needed."""
    base = still_widget("explorer")
    import traitlets  # comes with anywidget

    class AdaptationExplorer(base):
        """What ``adaptation_explorer`` returns."""

        _esm = widget_script(SCRIPTS / "widget.js")
        _css = (SCRIPTS / "explorer.css").read_text(encoding="utf-8")
        about = traitlets.Dict().tag(sync=True)

        def __init__(self, explorer: _Explorer):
            super().__init__(about=explorer.about)
            self._explorer = explorer
            self.on_msg(self._answer)

        def _answer(self, _: object, question: dict, buffers: list) -> None:
            # The steps are asked for one by one, so that the page shows each, and
            # the kernel can do other things in between.
            reply = {"view": question.get("view"), "id": question.get("id")}
            try:
                found = self._explorer.answer(question, buffers)
            except Exception as error:  # the reader sees the page, not the kernel's log
                known = isinstance(error, ValueError)
                kind = "" if known else f"{type(error).__name__}: "
                self.send({**reply, "error": f"{kind}{error}"})
                return
            plain = [tensor.detach().cpu().float().contiguous() for tensor in found]
            self.send(reply, [tensor.numpy().tobytes() for tensor in plain])

        def still(self) -> dict[str, str]:
            images, labels, words = self._explorer.still()
            return picture(image_grid(images, labels, alt=words), words)

    return AdaptationExplorer
