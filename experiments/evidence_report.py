"""What the records of evidence.py say: tables, targets and curves for the book.

Nothing is measured here; every sentence with a number in it is made from a record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from records import read_record

from metagan_lite.plots import curve_plot

RESULTS = Path(__file__).resolve().parents[1] / "results"

MAIN = (  # the rows of the short table
    ("real images", (None,)),
    ("copy-support", (None,)),
    ("support + jitter", (None,)),
    ("Meta-GAN", (0, 5, 10, 20)),
    ("pooled", (5, 10, 20)),
    ("pooled, Adam", (100,)),
    ("scratch", (5, 10, 20)),
    ("Meta-GAN, support-MMD", (5, 10, 20)),
    ("pooled, support-MMD", (5, 10, 20)),
)
COLUMNS = (
    "recognition",
    "KID",
    "recognition (2nd)",
    "KID (2nd)",
    "diversity",
    "AUC of D",
)
MORE = ("NN ratio", "NN ratio, shifted", "precision", "recall", "density", "coverage")


class Record:
    """The record of one recipe.

    Raises:
        FileNotFoundError: when there is none.
    """

    def __init__(self, name: str, folder: Path = RESULTS):
        self.path = folder / name / "scorecard.json"
        self.content = read_record(
            self.path, f"'{name}'", f"python experiments/evidence.py {name}"
        )
        self.rows = {
            (row["method"], row["inner_steps"]): row for row in self.content["rows"]
        }

    def score(self, method: str, steps: int | None, metric: str) -> dict[str, Any]:
        return self.rows[method, steps]["scores"][metric]

    def mean(self, method: str, steps: int | None, metric: str) -> float:
        return self.score(method, steps, metric)["mean"]


# --- text ---------------------------------------------------------------------


def number(value: float, digits: int = 2) -> str:
    return f"{value + 0.0:.{digits}f}".replace("-", "−").replace("−0.00", "0.00")


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return "–"
    mean, error = number(score["mean"]), number(score["error over tasks"])
    return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{error}"


def table(record: Record, short: bool = True) -> str:
    """Mean over tasks and seeds ± standard error over tasks."""
    wanted = [(m, s) for m, steps in MAIN for s in steps] if short else record.rows
    known = {metric for row in record.rows.values() for metric in row["scores"]}
    columns = [c for c in COLUMNS + (() if short else MORE) if c in known]
    lines = [
        "| method | steps | " + " | ".join(columns) + " |",
        "| --- | --- |" + " --- |" * len(columns),
    ]
    for key in wanted:
        if key in record.rows:
            scores = record.rows[key]["scores"]
            cells = " | ".join(_cell(scores.get(column)) for column in columns)
            steps = "–" if key[1] is None else key[1]
            lines.append(f"| {key[0]} | {steps} | {cells} |")
    return "\n".join(lines)


def how(record: Record) -> str:
    """What was run, on what, and for how long."""
    content = record.content
    environment, settings = content["environment"], content["settings"]
    # A seed that was stopped and resumed has no time.
    seconds = [s["Meta-GAN"] for s in content["seconds"] if s["Meta-GAN"] is not None]
    return (
        f"{content['description']} Meta-training took"
        f" {min(seconds):.0f} to {max(seconds):.0f} s a seed on"
        f" {environment['threads']} thread of {environment['processor']}"
        f" (PyTorch {environment['torch']}); the pooled GAN had"
        f" {settings['pooled steps']} steps of Adam. Command:"
        f" `{content['command']}`, commit `{environment['commit']}`."
    )


class Target(NamedTuple):
    text: str
    found: str
    met: bool


def targets(record: Record) -> list[Target]:
    """What the evidence was asked to show, before it was measured."""
    best = min((5, 10), key=lambda s: record.mean("Meta-GAN", s, "KID"))

    def ours(metric: str, steps: int = best) -> float:
        return record.mean("Meta-GAN", steps, metric)

    tuned = ("pooled, Adam", 100)
    real = record.mean("real images", None, "recognition")
    share = ours("recognition") / real
    found = [
        Target(
            "recognition at least 0.85 of the real images' own",
            number(share),
            share >= 0.85,
        ),
        Target("KID at most 0.20", number(ours("KID")), ours("KID") <= 0.2),
    ]
    for metric, sign in (("recognition (2nd)", 1), ("KID (2nd)", -1)):
        theirs = record.mean(*tuned, metric)
        found.append(
            Target(
                f"{metric} at least as good as pooled after 100 steps of Adam",
                f"{number(ours(metric))} against {number(theirs)}",
                sign * (ours(metric) - theirs) >= 0,
            )
        )
    spread, nearest = ours("diversity"), ours("NN ratio")
    found += [
        Target("diversity 0.9 to 1.1", number(spread), 0.9 <= spread <= 1.1),
        Target("NN ratio at least 0.93", number(nearest), nearest >= 0.93),
    ]
    ratio = ours("recognition") / record.mean("pooled", best, "recognition")
    auc = ours("AUC of D")
    found += [
        Target(
            "recognition at least twice the pooled GAN's at equal steps",
            f"{ratio:.1f} times",
            ratio >= 2,
        ),
        Target("AUC of the adapted D at least 0.5", number(auc), auc >= 0.5),
    ]
    jitter = record.mean("support + jitter", None, "KID")
    mmd = min(
        record.mean(row, best, "KID")
        for row in ("Meta-GAN, support-MMD", "pooled, support-MMD")
    )
    found += [
        Target(
            "KID below that of jitter",
            f"{number(ours('KID'), 3)} against {number(jitter, 3)}",
            ours("KID") < jitter,
        ),
        Target(
            "KID below that of support-MMD at equal steps",
            f"{number(ours('KID'), 3)} against {number(mmd, 3)}",
            ours("KID") < mmd,
        ),
    ]
    return found


def live_targets(record: Record) -> list[Target]:
    """What the small experiments were asked to show, before they were measured."""
    steps = 10 if record.content["recipe"] == "glyphs-live" else 5
    ours = record.mean("Meta-GAN", steps, "recognition")
    asked = (
        {"pooled": 3.0, "scratch": 5.0}
        if steps == 10
        else {
            "pooled": 1.7,
            "scratch": 1.4,
        }
    )
    found = []
    for method, factor in asked.items():
        ratio = ours / record.mean(method, steps, "recognition")
        found.append(
            Target(
                f"recognition at least {factor:g} times that of {method} after"
                f" {steps} steps",
                f"{ratio:.1f} times",
                ratio >= factor,
            )
        )
    share = record.mean("Meta-GAN", steps, "KID") / record.mean("pooled", steps, "KID")
    found.append(
        Target(
            f"KID below 0.6 of the pooled GAN's after {steps} steps",
            number(share),
            share < 0.6,
        )
    )
    nearest = record.mean("Meta-GAN", steps, "NN ratio")
    found.append(Target("NN ratio at least 0.93", number(nearest), nearest >= 0.93))
    seconds = [s["Meta-GAN"] for s in record.content["seconds"] if s["Meta-GAN"]]
    found.append(
        Target(
            "meta-training within 60 s of one core",
            f"{max(seconds):.0f} s",
            max(seconds) <= 60,
        )
    )
    return found


def live_target_table(record: Record) -> str:
    return _target_lines(live_targets(record))


def target_table(record: Record) -> str:
    best = min((5, 10), key=lambda s: record.mean("Meta-GAN", s, "KID"))
    return (
        f"The Meta-GAN after {best} inner steps, which of 5 and 10 has the lower KID:"
        f"\n\n{_target_lines(targets(record))}"
    )


def _target_lines(found: list[Target]) -> str:
    lines = ["| target | found | met |", "| --- | --- | --- |"]
    for target in found:
        met = "✓\N{NO-BREAK SPACE}yes" if target.met else "✗\N{NO-BREAK SPACE}no"
        lines.append(f"| {target.text} | {target.found} | {met} |")
    return "\n".join(lines)


def differences(record: Record, steps: int = 10) -> str:
    """Paired differences with bootstrap intervals over tasks."""
    lines = [
        "| Meta-GAN minus | metric | difference | 95 % interval |",
        "| --- | --- | --- | --- |",
    ]
    for row in record.content["differences"]:
        if row["a"] == ["Meta-GAN", steps]:
            method, taken = row["b"]
            other = method if taken is None else f"{method}, {taken} steps"
            low, high = number(row["low"]), number(row["high"])
            lines.append(
                f"| {other} | {row['metric']} | {number(row['mean'])} |"
                f" {low} to {high} |"
            )
    return "\n".join(lines)


def verdict(row: dict[str, Any]) -> str:
    """Who is better by a paired difference: ours, theirs, or neither is shown to be."""
    if row["low"] <= 0 <= row["high"]:
        return "="
    higher_is_better = row["metric"].startswith("recognition")
    return "+" if (row["mean"] > 0) == higher_is_better else "−"


def verdicts(record: Record, steps: int = 10) -> str:
    """The paired differences as a table of signs."""
    found: dict[str, dict[str, str]] = {}
    for row in record.content["differences"]:
        if row["a"] == ["Meta-GAN", steps]:
            method, taken = row["b"]
            other = method if taken is None else f"{method}, {taken} steps"
            found.setdefault(other, {})[row["metric"]] = verdict(row)
    metrics = list(next(iter(found.values())))
    lines = [
        f"| the Meta-GAN after {steps} steps against | " + " | ".join(metrics) + " |",
        "| --- |" + " --- |" * len(metrics),
    ]
    for other, signs in found.items():
        lines.append(f"| {other} | " + " | ".join(signs[m] for m in metrics) + " |")
    return "\n".join(lines)


def augmentation(record: Record) -> str:
    """What the samples add to the support as training data of a classifier."""
    lines = [
        "| ten drawings and the samples of | gain in accuracy |",
        "| --- | --- |",
    ]
    for entry in record.content["augmentation"]:
        method, taken = entry["row"]
        name = method if taken is None else f"{method}, {taken} steps"
        lines.append(f"| {name} | {_cell(entry)} |")
    return "\n".join(lines)


def seeds(record: Record) -> str:
    """The spread over seeds, of the Meta-GAN alone."""
    lines = ["| steps | metric | each seed |", "| --- | --- | --- |"]
    for steps in (5, 10, 20):
        for metric in ("recognition", "KID", "diversity", "AUC of D"):
            found = record.score("Meta-GAN", steps, metric)["seeds"]
            values = ", ".join(number(value) for value in found)
            lines.append(f"| {steps} | {metric} | {values} |")
    return "\n".join(lines)


# --- curves -------------------------------------------------------------------


def curves(record: Record, metric: str) -> Figure:
    """A metric by inner steps, one curve a method."""
    found: dict[str, tuple[list, list, list]] = {}
    for (method, steps), row in record.rows.items():
        if steps is not None and metric in row["scores"] and method != "pooled, Adam":
            score = row["scores"][metric]
            values = (steps, score["mean"], score["error over tasks"])
            for column, value in zip(found.setdefault(method, ([], [], [])), values):
                column.append(value)
    references = {
        name: record.mean(name, None, metric)
        for name in ("support + jitter", "real images")
    }
    ends = "; ".join(f"{m} {number(c[1][-1])}" for m, c in found.items())
    return curve_plot(
        found,
        ylabel=metric,
        references=references,
        trained_steps=5,
        alt=f"{metric} by inner steps on held-out classes, after 20 steps: {ends}.",
    )
