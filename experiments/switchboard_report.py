"""What the record of switchboard.py says: tables, a plot and verdicts for the book.

Nothing is measured here; every sentence with a number in it is made from the record.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from evidence_report import RESULTS, number
from matplotlib.figure import Figure
from records import read_record

from metagan_lite.plots import blank_figure, series_style

AT = 5  # inner steps: those of training
OBJECTIVES = ("adversarial", "refreshed D", "MMD", "MMD + features")
ALGORITHMS = ("MAML", "ANIL", "Meta-SGD", "FOMAML", "Reptile")
COLUMNS = ("recognition", "KID", "diversity", "AUC of D")

Key = tuple[str, str, str | None, bool | None]


class Record:
    """The record, by cell.

    Attributes:
        cells: (order, algorithm, objective, detached) → its runs, one for each seed.
    """

    def __init__(self, path: Path = RESULTS / "switchboard" / "record.json"):
        self.path = path
        self.content = read_record(
            path, "the switchboard", "python experiments/switchboard.py"
        )
        self.cells: dict[Key, list[dict[str, Any]]] = {}
        for run in self.content["cells"]:
            key = tuple(run[k] for k in ("order", "algorithm", "objective", "detached"))
            self.cells.setdefault(key, []).append(run)

    def seeds(self, key: Key, metric: str, steps: int = AT) -> list[float | None]:
        """One value per seed; None where the run broke or the value is not finite."""
        return [
            score(run["rows"], "Meta-GAN", steps, metric) for run in self.cells[key]
        ]

    def mean(self, key: Key, metric: str, steps: int = AT) -> float | None:
        return _mean(self.seeds(key, metric, steps))

    def reference(self, method: str, metric: str, steps: int | None = AT) -> float:
        """The mean over seeds of a row that no cell has, such as "pooled"."""
        found = [
            score(run["rows"], method, steps, metric)
            for run in self.content["references"]
        ]
        return mean(found)


def score(
    rows: list[dict[str, Any]], method: str, steps: int | None, metric: str
) -> float | None:
    for row in rows:
        if (row["method"], row["inner_steps"]) == (method, steps):
            return row["scores"][metric]["mean"]
    return None


def _mean(values: list[float | None]) -> float | None:
    return None if not values or None in values else mean(values)


def _said(value: float | None) -> str:
    return "broke" if value is None else number(value)


# --- text ---------------------------------------------------------------------


def how(record: Record) -> str:
    content = record.content
    seconds = [r["cpu_seconds"] for r in content["cells"] if "cpu_seconds" in r]
    environment = content["environment"]
    seeds = len(content["references"])
    return (
        f"{len(record.cells)} cells, {seeds} seeds each, on the {content['classes']}"
        f" held-out classes of `{content['recipe']}`. Each cell spent"
        f" {content['budget_flops'] / 1e9:.0f} GFLOP of matrix products on training,"
        f" which took {min(seconds):.0f} to {max(seconds):.0f} s of one core of"
        f" {environment['processor']}. Command: `{content['command']}`, commit"
        f" `{environment['commit']}`."
    )


def pivot(record: Record, metric: str = "KID", order: str = "alternating") -> str:
    """One metric: algorithms down, outer objectives across, fakes not detached."""
    lines = [
        f"| {metric} after {AT} inner steps | " + " | ".join(OBJECTIVES) + " |",
        "| --- |" + " --- |" * len(OBJECTIVES),
    ]
    for algorithm in ALGORITHMS:
        if algorithm == "Reptile":
            found = _said(record.mean((order, algorithm, None, None), metric))
            lines.append(f"| Reptile (no outer objective) | {found} | | | |")
            continue
        detached = None if algorithm == "FOMAML" else False
        cells = [
            _said(record.mean((order, algorithm, objective, detached), metric))
            for objective in OBJECTIVES
        ]
        lines.append(f"| {algorithm} | " + " | ".join(cells) + " |")
    for method in ("pooled", "scratch"):
        found = number(record.reference(method, metric))
        lines.append(f"| {method}, best of four rates | {found} | | | |")
    jitter = number(record.reference("support + jitter", metric, None))
    lines.append(f"| support + jitter | {jitter} | | | |")
    return "\n".join(lines)


def detached(record: Record) -> str:
    """The adversarial objectives with fakes attached and detached."""
    lines = [
        f"| after {AT} inner steps | fakes | " + " | ".join(COLUMNS) + " |",
        "| --- " * 6 + "|",
    ]
    for objective in OBJECTIVES[:2]:
        for cut in (False, True):
            key = ("alternating", "MAML", objective, cut)
            cells = " | ".join(_said(record.mean(key, column)) for column in COLUMNS)
            name = "detached" if cut else "attached"
            lines.append(f"| MAML, {objective} | {name} | {cells} |")
    for method in ("pooled", "scratch"):
        cells = " | ".join(number(record.reference(method, c)) for c in COLUMNS)
        lines.append(f"| {method}, best of four rates | – | {cells} |")
    return "\n".join(lines)


def table(record: Record) -> str:
    """Every cell: the mean of its seeds."""
    lines = [
        "| order | algorithm | outer objective | fakes | outer steps | "
        + " | ".join(f"{c} @ {s}" for s in (AT, 10) for c in COLUMNS[:2])
        + f" | {COLUMNS[2]} @ {AT} | {COLUMNS[3]} @ {AT} |",
        "| --- " * 11 + "|",
    ]
    for key, runs in record.cells.items():
        order, algorithm, objective, detached = key
        fakes = {None: "–", True: "detached", False: "attached"}[detached]
        found = [
            _said(record.mean(key, metric, steps))
            for steps in (AT, 10)
            for metric in COLUMNS[:2]
        ]
        found += [_said(record.mean(key, metric)) for metric in COLUMNS[2:]]
        steps = runs[0]["meta_steps"]
        lines.append(
            f"| {order} | {algorithm} | {objective or '–'} | {fakes} | {steps} | "
            + " | ".join(found)
            + " |"
        )
    return "\n".join(lines)


def flips(
    record: Record, flip: Callable[[Key], Key | None], metric: str = "KID"
) -> list[float]:
    """What flipping one switch adds to a metric, in every cell that has it."""
    changes = []
    for key in record.cells:
        other = flip(key)
        if other is None:
            continue
        before, after = record.mean(key, metric), record.mean(other, metric)
        if before is not None and after is not None:
            changes.append(after - before)
    return changes


def to_alternating(key: Key) -> Key | None:
    order, *rest = key
    return ("alternating", *rest) if order == "simultaneous" else None


def to_detached(key: Key) -> Key | None:
    *rest, detached = key
    return (*rest, True) if detached is False else None


def to_second_order(key: Key) -> Key | None:
    order, algorithm, objective, _ = key
    return (order, "MAML", objective, False) if algorithm == "FOMAML" else None


def to_learned_rates(key: Key) -> Key | None:
    order, algorithm, objective, detached = key
    if algorithm != "MAML":
        return None
    return (order, "Meta-SGD", objective, detached)


def to_heads_only(key: Key) -> Key | None:
    order, algorithm, objective, detached = key
    return (order, "ANIL", objective, detached) if algorithm == "MAML" else None


SWITCHES = {
    "simultaneous → alternating": to_alternating,
    "fakes attached → detached": to_detached,
    "FOMAML → MAML, fewer outer steps": to_second_order,
    "MAML → Meta-SGD": to_learned_rates,
    "MAML → ANIL": to_heads_only,
}


def switches(record: Record) -> str:
    """What each switch does to KID, all else equal."""
    lines = [
        f"| switch | cells | lower KID after {AT} steps in | median change of KID |",
        "| --- | --- | --- | --- |",
    ]
    for name, flip in SWITCHES.items():
        changes = sorted(flips(record, flip))
        if not changes:
            continue
        better = sum(change < 0 for change in changes)
        median = (changes[len(changes) // 2] + changes[(len(changes) - 1) // 2]) / 2
        lines.append(f"| {name} | {len(changes)} | {better} | {number(median, 3)} |")
    return "\n".join(lines)


def best(
    record: Record, algorithm: str, metric: str = "KID", objective: str | None = None
) -> tuple[Key, float]:
    """The cell of an algorithm with the lowest metric."""
    found = {
        key: record.mean(key, metric)
        for key in record.cells
        if key[1] == algorithm and (objective is None or key[2] == objective)
    }
    found = {key: value for key, value in found.items() if value is not None}
    key = min(found, key=found.get)
    return key, found[key]


def verdict(record: Record) -> str:
    """FIGR's claim that Reptile suits GANs and MAML does not, by the numbers."""
    pooled = record.reference("pooled", "KID")
    reptile, maml = (best(record, name)[1] for name in ("Reptile", "MAML"))
    own = best(record, "MAML", objective="adversarial")[1]
    keys = [key for key in record.cells if key[1] == "MAML"]
    values = [record.mean(key, "KID") for key in keys]
    ahead = sum(value is not None and value < pooled for value in values)
    runs = [run for own_runs in record.cells.values() for run in own_runs]
    broke = sum("broke" in run for run in runs)
    said = "does not hold here" if maml < reptile else "is not refuted here"
    against = "below" if own < reptile else "not below"
    return (
        f"At equal compute the best cell of MAML has a KID of {number(maml)} after {AT}"
        f" inner steps, and Reptile's is {number(reptile)}; the pooled GAN's is"
        f" {number(pooled)}. With the article's own adversarial outer loss, MAML's best"
        f" is {number(own)}, {against} Reptile's. Of MAML's {len(keys)} cells {ahead}"
        f" are below the pooled GAN. Of all {len(runs)} runs {broke} broke down in"
        f" training. The claim that MAML does not suit GANs {said}."
    )


# --- plot ---------------------------------------------------------------------


def plot(record: Record) -> Figure:
    """KID of every cell; a symbol for each objective, filled where attached."""
    names = list(ALGORITHMS)
    figure = blank_figure(
        7.6,
        4.4,
        f"KID after {AT} inner steps of every cell, by algorithm and outer objective."
        + "".join(
            f" Best of {name}: {number(best(record, name)[1])}." for name in names
        )
        + f" The pooled GAN is at {number(record.reference('pooled', 'KID'))}.",
    )
    axes = figure.subplots()
    kinds = [*OBJECTIVES, None]
    for i, objective in enumerate(kinds):
        style = series_style(i, line=False)
        points: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for key in record.cells:
            value = record.mean(key, "KID")
            if key[2] != objective or value is None:
                continue
            shift = 0.12 * (i - 2) + (0.03 if key[0] == "alternating" else -0.03)
            points[key[3] is not True].append((names.index(key[1]) + shift, value))
        for attached, own in points.items():
            if own:
                label = objective or "no outer objective"
                axes.plot(
                    *zip(*own),
                    **{
                        **style,
                        "markerfacecolor": style["color"] if attached else "none",
                    },
                    label=label if attached else None,
                )
    for i, method in enumerate(("pooled", "scratch")):
        value = record.reference(method, "KID")
        axes.axhline(value, color="0.45", linestyle=("--", ":")[i], zorder=0)
        axes.annotate(method, (len(names) - 0.55, value), va="bottom", color="0.35")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.1)
    axes.set_yscale("log")
    axes.set_ylabel(f"KID after {AT} inner steps (small net), log scale")
    axes.grid(color="0.9", zorder=-2, axis="y")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure
