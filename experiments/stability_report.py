"""What the record of stability.py says: a table, a plot and a verdict for the book."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evidence_report import RESULTS, number
from matplotlib.figure import Figure
from records import read_record

from metagan_lite.metrics import share_interval
from metagan_lite.plots import blank_figure, series_style

NAMES = {
    "scratch": "scratch",
    "pooled": "pooled",
    "adversarial": "Meta-GAN, adversarial",
    "adversarial-detached": "Meta-GAN, adversarial, fakes detached",
    "coop-mmd": "Meta-GAN, MMD",
}


class Record:
    """The record.

    Raises:
        FileNotFoundError: when there is none.
    """

    def __init__(self, path: Path = RESULTS / "stability" / "record.json"):
        self.path = path
        self.content: dict[str, Any] = read_record(
            path, "the stability runs", "python experiments/stability.py"
        )
        self.runs = self.content["runs"]
        self.factors = sorted({run["factor"] for run in self.runs})
        self.steps = sorted({int(s) for run in self.runs for s in run["outcome"]})

    def failed(self, method: str, factor: float | None, steps: int) -> tuple[int, int]:
        """(runs that did not end fine, runs); all factors where none is given."""
        own = [
            run["outcome"][str(steps)]
            for run in self.runs
            if run["method"] == method and factor in (None, run["factor"])
        ]
        return sum(outcome != "fine" for outcome in own), len(own)


def how(record: Record) -> str:
    content = record.content
    rates = ", ".join(f"{p} {rate:g}" for p, rate in content["inner_lr"].items())
    return (
        f"{content['seeds']} seeds for each method and rate, on the held-out digits of"
        f" `{content['recipe']}`; inner rates at × 1: {rates}. Meta-training:"
        f" {content['meta_steps']} outer steps of {content['meta_batch_size']} tasks;"
        f" the pooled GAN: {content['pooled_steps']} steps of Adam. Command:"
        f" `{content['command']}`, commit `{content['environment']['commit']}`."
    )


def table(record: Record) -> str:
    """The share of runs that broke, diverged or collapsed, and its interval."""
    head = [
        f"× {factor:g}, {steps} steps"
        for factor in record.factors
        for steps in record.steps
    ]
    lines = [
        "| failed runs at | " + " | ".join(head) + " |",
        "| --- |" + " --- |" * len(head),
    ]
    for method, name in NAMES.items():
        cells = []
        for factor in record.factors:
            for steps in record.steps:
                failed, runs = record.failed(method, factor, steps)
                low, high = share_interval(failed, runs)
                cells.append(
                    f"{failed}/{runs} ({number(low)}\N{EN DASH}{number(high)})"
                )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(record: Record) -> str:
    """Is a Meta-GAN more stable? Rate by rate, where the intervals are apart."""
    last = max(record.steps)
    ends: dict[str, dict[float, tuple[float, float]]] = {
        method: {
            factor: share_interval(*record.failed(method, factor, last))
            for factor in record.factors
        }
        for method in NAMES
    }
    said = []
    for method in list(NAMES)[2:]:
        less, more = [], []
        for factor in record.factors:
            low, high = ends[method][factor]
            best = min(ends[base][factor] for base in ("scratch", "pooled"))
            if high < best[0]:
                less.append(f"× {factor:g}")
            elif low > best[1]:
                more.append(f"× {factor:g}")
        parts = [
            f"{word} often than the better baseline at {', '.join(at)}"
            for word, at in (("less", less), ("more", more))
            if at
        ]
        said.append(
            f"{NAMES[method]}: "
            + (" and ".join(parts) or "no rate at which it differs from the baselines")
        )
    shares = "; ".join(
        f"{NAMES[method]} {failed} of {runs}"
        for method in NAMES
        for failed, runs in [record.failed(method, None, last)]
    )
    return (
        f"Over all rates, after {last} inner steps, runs failed: {shares}. Rate by"
        " rate, where the intervals do not meet, they fail:\n\n- "
        + ";\n- ".join(said)
        + "."
    )


def plot(record: Record) -> Figure:
    """The share of failed runs by the rate, one line a method."""
    last = max(record.steps)
    ends = []
    figure = blank_figure(6.4, 3.6, "to come")
    axes = figure.subplots()
    for i, (method, name) in enumerate(NAMES.items()):
        shares, low, high = [], [], []
        for factor in record.factors:
            failed, runs = record.failed(method, factor, last)
            ends_of = share_interval(failed, runs)
            shares.append(failed / runs)
            low.append(max(0.0, shares[-1] - ends_of[0]))
            high.append(max(0.0, ends_of[1] - shares[-1]))
        x = [factor * 1.06 ** (i - 2) for factor in record.factors]
        axes.errorbar(x, shares, (low, high), capsize=2, label=name, **series_style(i))
        ends.append(f"{name} " + ", ".join(number(share) for share in shares))
    axes.set_xscale("log")
    axes.set_xticks(record.factors, [f"× {factor:g}" for factor in record.factors])
    axes.minorticks_off()
    axes.set(xlabel="inner rates", ylabel=f"failed runs after {last} inner steps")
    axes.grid(color="0.9", zorder=-2)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.alt = (
        f"Share of runs that broke, diverged or collapsed after {last} inner steps, at"
        f" inner rates × {', '.join(f'{f:g}' for f in record.factors)}: "
        + "; ".join(ends)
        + "."
    )
    return figure
