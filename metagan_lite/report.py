"""A report whose tables fill themselves: the record of a scorecard → Markdown.

What was done, the scores beside every mandatory baseline, the differences with their
intervals and how to repeat it come from the record. The question, the claim and the
limits are the author's words; ``unwritten`` says which of them are missing, and
``differences`` whether somebody else's measurement agrees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from .evaluate import Difference, Scorecard
from .meta import TrainedMetaGAN
from .metrics import bootstrap_interval

__all__ = [
    "differences",
    "make_record",
    "make_report",
    "mandatory",
    "over_classes",
    "read_words",
    "unwritten",
]

Record = Mapping[str, Any]

WORDS = {
    "question": "What was asked, and what answer you expected before you measured.",
    "claim": "One sentence that could be false, and the row that would make it so.",
    "limits": "What would change the conclusion, and was not tried.",
}
"""The sections that the author writes → what is asked there."""

_PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
_MISSING = "*Not written yet.*"
_COLUMNS = ("recognition", "KID", "diversity", "NN ratio", "AUC of D")
_BETTER = {"KID": -1, "recognition": 1}  # the sign of a difference that favours us
_CONFIG = (
    ("objective", "outer objective"),
    ("algorithm", "algorithm"),
    ("meta_steps", "outer steps"),
    ("meta_batch_size", "tasks in each, T"),
    ("shots", "support images, K"),
    ("inner_steps", "inner steps, S"),
    ("inner_lr", "inner rates"),
    ("detach_fakes", "fakes detached"),
    ("seed", "seed"),
)


def mandatory(inner_steps: int) -> list[tuple[str, int | None]]:
    """The rows (method, steps) without which a Meta-GAN is not reported."""
    return [
        ("real images", None),
        ("copy-support", None),
        ("support + jitter", None),
        ("Meta-GAN", 0),
        ("scratch", inner_steps),
        ("pooled", inner_steps),
    ]


def make_record(
    scorecard: Scorecard,
    trained: TrainedMetaGAN,
    *,
    inner_steps: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What a report is made of, for a JSON file.

    Beside the scores of :meth:`Scorecard.to_record
    <metagan_lite.evaluate.Scorecard.to_record>` it holds the configuration, and by how
    much the Meta-GAN differs from each mandatory baseline, with the interval of
    ``over_classes``, for which the scores of single tasks are needed.

    Args:
        scorecard, trained: The Meta-GAN and its scores.
        inner_steps: Where they are compared; as trained by default.
        more: Other entries, such as ``command`` and ``tasks``.

    Raises:
        ValueError: when a mandatory row is missing, naming it.
    """
    config = asdict(trained.config)
    steps = config["inner_steps"] if inner_steps is None else inner_steps
    wanted = [("Meta-GAN", steps), *mandatory(steps)]
    there = {(row.method, row.inner_steps) for row in scorecard.rows}
    if missing := [row for row in wanted if row not in there]:
        raise ValueError(
            f"expected the row '{_title(*missing[0])}', without which a Meta-GAN is not"
            f" reported; evaluate at {steps} inner steps too, and pass pooled and"
            " scratch"
        )
    compared = []
    for metric in _BETTER:
        for row in mandatory(steps):
            above = scorecard.values("Meta-GAN", steps, metric)
            above = above - scorecard.values(*row, metric)
            found = over_classes(above, scorecard.batch.classes)
            numbers = [value if math.isfinite(value) else None for value in found]
            named = dict(zip(Difference._fields, numbers))
            compared.append({"metric": metric, "baseline": _title(*row), **named})
    return {
        **scorecard.to_record(),
        "inner_steps": steps,
        "config": {name: config[name] for name, _ in _CONFIG},
        "differences": compared,
        "environment": trained.environment,
        **more,
    }


def over_classes(
    above: Tensor, classes: Tensor, *, level: float = 0.95, seed: int = 0
) -> Difference:
    """The mean of differences of tasks, and its bootstrap interval over classes.

    Several tasks of one class share its images, and the interval of
    :meth:`Scorecard.difference <metagan_lite.evaluate.Scorecard.difference>`, which
    takes tasks for independent, is then too narrow. Here the tasks of a class are
    averaged first, and classes are resampled.

    Args:
        above: Differences of tasks ``[T]``. classes: the class of each, ``[T]``.
        level, seed: Of the interval.
    """
    classes = classes.cpu()
    means = torch.stack([above[classes == c].mean() for c in classes.unique()])
    random = torch.Generator().manual_seed(seed)
    return Difference(
        means.mean().item(), *bootstrap_interval(means, level, 2000, random)
    )


def make_report(
    record: Record, words: Mapping[str, str] | None = None, *, title: str = "A Meta-GAN"
) -> str:
    """A report in Markdown.

    Args:
        record: From ``make_record``, or ``scorecard.json`` of ``metagan evaluate``.
        words: ``"question"``, ``"claim"`` and ``"limits"``, the author's; what is
            missing is marked.
        title: Of the report.

    Raises:
        ValueError: for other words, or a record that was not made for reports.
    """
    words = {} if words is None else words
    if strange := [name for name in words if name not in WORDS]:
        raise ValueError(f"expected words among {', '.join(WORDS)}; got {strange[0]!r}")
    if absent := [k for k in ("rows", "inner_steps", "differences") if k not in record]:
        raise ValueError(
            f"expected the record of an evaluation, got one without {absent[0]!r};"
            " make it with make_record, or run `metagan evaluate` again"
        )

    def said(name: str) -> str:
        text = words.get(name, "").strip()
        return f"## {name.capitalize()}\n\n{text or f'{_MISSING} {WORDS[name]}'}"

    return "\n\n".join(
        [
            f"# {title}",
            said("question"),
            f"## What was done\n\n{_setting(record)}",
            f"## Scores\n\n{_scores(record)}\n\n{record['description']}",
            f"## Differences\n\n{_compared(record)}",
            said("claim"),
            said("limits"),
            f"## To repeat it\n\n{_repeat(record)}\n",
        ]
    )


def read_words(report: str) -> dict[str, str]:
    """The author's sections of a report, or of a file with the same headings."""
    found = {}
    for heading, text in re.findall(
        r"^## (.+?)\n(.*?)(?=^## |\Z)", report, re.MULTILINE | re.DOTALL
    ):
        name, text = heading.strip().lower(), text.strip()
        if name in WORDS and text and not text.startswith(_MISSING):
            found[name] = text
    return found


def unwritten(report: str) -> list[str]:
    """The author's sections that a report does not have yet."""
    there = read_words(report)
    return [name for name in WORDS if name not in there]


def differences(record: Record, again: Record, *, errors: float = 2.0) -> list[str]:
    """In what a second measurement of the same run disagrees, in sentences.

    The Meta-GAN's weights are given, but the pooled GAN and the net that scores may
    have been trained anew on another processor. So a mean may differ by ``errors`` of
    the standard errors that the two records state, the larger one, and by 0.01 always.

    Args:
        record: As handed in. again: as measured again.

    Returns:
        A sentence for each row that is missing and each mean that differs; none if
        they agree.
    """
    ours, theirs = (
        {(row["method"], row["inner_steps"]): row["scores"] for row in one["rows"]}
        for one in (record, again)
    )
    found = []
    for row, scores in ours.items():
        if row not in theirs:
            found.append(f"{_title(*row)}: measured the second time it is not there")
            continue
        for metric, score in scores.items():
            other = theirs[row].get(metric, {"mean": None, "error": None})
            a, b = score["mean"], other["mean"]
            spread = [s["error"] for s in (score, other) if s["error"] is not None]
            allowed = max(0.01, errors * max(spread, default=0.0))
            if (a is None) != (b is None) or (a is not None and abs(a - b) > allowed):
                found.append(
                    f"{_title(*row)}: {metric} is {_number(a)}, measured again"
                    f" {_number(b)}; allowed is {allowed:.2f}"
                )
    return found


# --- the parts of a report ------------------------------------------------------


def _title(method: str, steps: int | None) -> str:
    return method if steps is None else f"{method} @ {steps}"


def _number(value: float | None) -> str:
    """Two decimals, a minus that reads as one, and a dash for what is not finite."""
    if value is None:
        return "–"
    return f"{value + 0.0:.2f}".replace("-", "−").replace("−0.00", "0.00")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _setting(record: Record) -> str:
    config = record.get("config", {})
    rows = [[said, _plain(config[k])] for k, said in _CONFIG if k in config]
    if "tasks" in record:
        rows.insert(0, ["tasks", _plain(record["tasks"])])
    if "held_out" in record:
        rows.insert(1, ["scored on", _plain(record["held_out"])])
    return _table(["setting", "value"], rows)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("|", "\\|")


def _scores(record: Record) -> str:
    """The mandatory rows, and the Meta-GAN at every number of steps."""
    keep = set(mandatory(record["inner_steps"]))
    columns = [c for c in _COLUMNS if any(c in r["scores"] for r in record["rows"])]
    rows = []
    for row in record["rows"]:
        method, steps = row["method"], row["inner_steps"]
        if method == "Meta-GAN" or (method, steps) in keep:
            cells = [_cell(row["scores"].get(metric)) for metric in columns]
            rows.append([_title(method, steps), *cells, row["note"]])
    return _table(["method @ steps", *columns, "note"], rows)


def _cell(score: Mapping[str, float | None] | None) -> str:
    if score is None:
        return "–"
    return f"{_number(score['mean'])}{_PLUS_MINUS}{_number(score['error'])}"


def _compared(record: Record) -> str:
    rows = []
    for entry in record["differences"]:
        low, high = entry["low"], entry["high"]
        if low is None or high is None:
            verdict = "not finite"
        elif low <= 0 <= high:
            verdict = "no difference shown"
        else:
            better = (low > 0) == (_BETTER[entry["metric"]] > 0)
            verdict = "Meta-GAN better" if better else "**Meta-GAN worse**"
        rows.append(
            [
                entry["metric"],
                entry["baseline"],
                _number(entry["mean"]),
                f"{_number(low)} to {_number(high)}",
                verdict,
            ]
        )
    head = ["metric", "Meta-GAN minus", "mean", "95 % interval", "verdict"]
    return (
        f"The Meta-GAN after {record['inner_steps']} inner steps, on the same tasks;"
        " the interval is over classes.\n\n"
        f"{_table(head, rows)}"
    )


def _repeat(record: Record) -> str:
    made = record.get("environment") or {}
    where = ", ".join(f"{k} {v}" for k, v in made.items() if v is not None)
    command = record.get("command")
    shown = f"```bash\n{command}\n```\n\n" if command else ""
    return f"{shown}Measured with {where}." if where else f"{shown}".rstrip()
