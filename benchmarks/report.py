"""What the records of meta_step.py say: tables, the bars, and a plot.

Nothing is measured here. The benchmark prints with it, and the book's page on speed is
made of it. A record's rows hold a measurement or, as "why not", what kept it from one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import ticker
from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results"
OURS, LOOP, BEST = "ours (auto)", "functional_call loop", "best peer"

Row = dict[str, Any]
Case = dict[str, Row]
"""Contender → its row."""


class Bar(NamedTuple):
    """What this project wants to reach: times as fast as another contender."""

    case: str
    against: str
    least: float


BARS = (
    Bar("mlp T16 S1 maml", BEST, 4.0),
    Bar("mlp T16 S5 maml", BEST, 3.0),
    Bar("mlp T64 S1 maml", BEST, 4.5),
    Bar("mlp T1 S1 maml", BEST, 1.5),
    Bar("mlp T1 S5 maml", BEST, 1.5),
    Bar("mlp T16 S5 fomaml", BEST, 2.5),
    Bar("conv T16 S1 maml", BEST, 2.5),
    Bar("GPU mlp T64 S5 maml", LOOP, 20.0),
    Bar("GPU conv T64 S5 maml", LOOP, 8.0),
)
SHARE_BAR = 0.6  # of the machine's rate of products, in every MLP case on the CPU

# Colours of Okabe & Ito 2008; ours are filled, so shapes alone tell them apart.
STYLES = {
    OURS: ("#0072B2", "o"),
    "ours (vmap)": ("#56B4E9", "s"),
    "ours (loop)": ("#009E73", "^"),
    LOOP: ("#D55E00", "D"),
    "higher": ("#CC79A7", "v"),
    "learn2learn": ("#E69F00", "P"),
    "TorchOpt": ("#000000", "X"),
}


# --- records ------------------------------------------------------------------


def read(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The records in a folder, the CPU's first.

    Raises:
        FileNotFoundError: when there is none.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(
            f"expected a record in '{folder.name}', found no .json file; run"
            " make bench BENCH='--out benchmarks/results/meta_step.json'"
        )
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return sorted(records, key=lambda record: record["device"] != "cpu")


def all_rows(records: list[dict[str, Any]]) -> list[Row]:
    return [row for record in records for row in record["rows"]]


def cases(rows: list[Row]) -> dict[str, Case]:
    """Case → contender → row. A measured case drops why another record lacks it."""
    found: dict[str, Case] = {}
    for row in rows:
        case = found.setdefault(row["case"], {})
        if row["contender"] == "all" and case:
            continue
        if row["contender"] != "all":
            case.pop("all", None)
        case[row["contender"]] = row
    return found


def measured(case: Case) -> Case:
    return {name: row for name, row in case.items() if "why not" not in row}


def best_peer(case: Case) -> Row:
    """The fastest contender that is not ours."""
    peers = [row for name, row in measured(case).items() if not name.startswith("ours")]
    return min(peers, key=lambda row: row["ms"])


def speedup(case: Case, against: str) -> float | None:
    """How many times as fast as another we are; ``None`` where one has no time."""
    times = measured(case)
    if OURS not in times or (against != BEST and against not in times):
        return None
    other = best_peer(case) if against == BEST else times[against]
    return other["ms"] / times[OURS]["ms"]


def why_not(case: Case) -> str:
    """Why there is no speedup: the case was not run, or a contender failed."""
    for name in ("all", OURS, LOOP):
        if "why not" in case.get(name, {}):
            return case[name]["why not"]
    return "no record of it"


# --- tables -------------------------------------------------------------------


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _table(titles: list[str], rows: list[list[object]]) -> str:
    lines = [_row(*titles), _row(*["---"] * len(titles)), *(_row(*row) for row in rows)]
    return "\n".join(lines) + "\n"


def _time(row: Row) -> str:
    return f"{row['ms']:.1f} ({row['spread ms']:.1f})"


def _share(row: Row) -> str:
    share = row["matmul share"]
    return "–" if share is None else f"{share:.2f}"


def table(rows: list[Row]) -> str:
    """Every row, as Markdown."""
    titles = [
        "case",
        "contender",
        "ms (IQR)",
        "tasks/s",
        "× best peer",
        "matmul share",
        "extra peak MiB",
    ]
    lines = []
    for row in rows:
        start = [row["case"], row["contender"]]
        if "why not" in row:
            lines.append([*start, f"not measured: {row['why not']}", "", "", "", ""])
        else:
            ratio, speed = f"{row['ratio']:.2f}", f"{row['tasks/s']:.0f}"
            peak = f"{row['extra peak MiB']:.1f}"
            lines.append([*start, _time(row), speed, ratio, _share(row), peak])
    return _table(titles, lines)


def summary(rows: list[Row]) -> str:
    """A line for each case: we and the best peer; below it what was not measured."""
    lines, missing = [], {}
    for name, case in cases(rows).items():
        ratio = speedup(case, BEST)
        if ratio is None:
            missing.setdefault(why_not(case), []).append(name)
            continue
        own, peer = case[OURS], best_peer(case)
        peaks = f"{own['extra peak MiB']:.0f} / {peer['extra peak MiB']:.0f}"
        lines.append(
            [
                name,
                f"{ratio:.2f}",
                _time(own),
                f"{_time(peer)}, {peer['contender']}",
                _share(own),
                peaks,
            ]
        )
    titles = [
        "case",
        "× best peer",
        "ours, ms (IQR)",
        "best peer, ms (IQR)",
        "matmul share",
        "extra peak MiB, ours / peer's",
    ]
    text = _table(titles, lines)
    for reason, names in missing.items():
        text += f"\nNot measured ({reason}): {', '.join(names)}.\n"
    return text


def bars(rows: list[Row]) -> str:
    """Which bars are met, as a sentence or two and a table."""
    found, lines = cases(rows), []
    verdicts: dict[str, list[str]] = {"met": [], "not met": [], "not measured": []}

    def judge(what: str, least: float, value: float | None, text: str) -> None:
        verdict = "not measured"
        if value is not None:
            # Two decimals are what the reader sees.
            verdict = "met" if round(value, 2) >= least else "not met"
        verdicts[verdict].append(what)
        lines.append([what, f"≥\u00a0{least:g}", text, verdict])

    for bar in BARS:
        case = found.get(bar.case, {})
        value = speedup(case, bar.against)
        text = f"{value:.2f}" if value is not None else why_not(case)
        judge(f"{bar.case}, × {bar.against}", bar.least, value, text)
    shares = {
        name: case[OURS]["matmul share"]
        for name, case in found.items()
        if name.startswith("mlp") and OURS in measured(case)
    }
    low = min(shares, key=shares.get, default=None)
    text = "no MLP case was run"
    if low is not None:
        high = max(shares, key=shares.get)
        text = f"{shares[low]:.2f} ({low}) to {shares[high]:.2f} ({high})"
    judge("matmul share of every MLP case", SHARE_BAR, shares.get(low), text)

    done = len(verdicts["met"]) + len(verdicts["not met"])
    sentences = [f"Met: {len(verdicts['met'])} of the {done} bars that were measured."]
    for verdict in ("not met", "not measured"):
        if verdicts[verdict]:
            names = "; ".join(verdicts[verdict])
            sentences.append(f"{verdict.capitalize()}: {names}.")
    text = "\n\n".join(sentences)
    return f"{text}\n\n{_table(['what', 'bar', 'measured', 'verdict'], lines)}"


def profile(rows: list[Row]) -> str:
    """Where the time of our step goes, case by case."""
    lines = []
    for name, case in cases(rows).items():
        shares = case.get(OURS, {}).get("time")
        if shares:
            lines.append([name, *(f"{100 * share:.0f} %" for share in shares.values())])
            header = ["case", *shares]
    if not lines:
        return "No case was profiled."
    return _table(header, lines)


def machine(records: list[dict[str, Any]]) -> str:
    """Where, when and with what the records were made."""
    lines = []
    for record in records:
        where, peers = record["environment"], record["peers"]
        on_gpu = record["device"] == "cuda"
        rate = f"{record['matmul GFLOP/s']:.0f} GFLOP/s"
        shots, commit = record["shots"], where["commit"] or ""
        facts = {
            "date": record["date"],
            "processor": where["processor"],
            "GPU": where["gpu"] if on_gpu else None,
            "threads": where["threads"],
            "system": where["platform"],
            "Python": where["python"],
            "PyTorch": where["torch"],
            "peers": ", ".join(f"{name} {version}" for name, version in peers.items()),
            "precision": record["precision"],
            "best rate of products": rate,
            "images per task": f"{shots} in the support, {shots} in the query",
            "runs per contender": record["rounds"],
            "commit": commit.replace("-dirty", ", with uncommitted changes"),
            "command": f"`{record['command']}`",
        }
        lines += [[name, fact] for name, fact in facts.items() if fact]
    return _table(["what", "which"], lines)


# --- plot ---------------------------------------------------------------------


def ratio_plot(rows: list[Row]) -> Figure:
    """Speed over the best peer's, one line per case; it carries its alt text.

    Raises:
        ValueError: when no case was measured.
    """
    found = {
        name: measured(case)
        for name, case in cases(rows).items()
        if speedup(case, BEST) is not None
    }
    if not found:
        raise ValueError("expected rows with a measured case, got none; run make bench")
    # Narrow, so that a phone does not shrink the letters much.
    figure = Figure((5.4, 2.1 + 0.42 * len(found)), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    axes = figure.subplots()
    axes.axvline(1, color="0.4", linestyle="--", zorder=1)
    for i, (name, (colour, marker)) in enumerate(STYLES.items()):
        # One below the other, since most peers are about as fast.
        shift = 0.09 * (i - (len(STYLES) - 1) / 2)
        at = [y for y, case in enumerate(found.values()) if name in case]
        if at:
            axes.plot(
                [list(found.values())[y][name]["ratio"] for y in at],
                [y + shift for y in at],
                color=colour,
                marker=marker,
                markerfacecolor=colour if name.startswith("ours") else "none",
                linestyle="none",
                label=name,
                zorder=4 if name == OURS else 3,
            )
    own_bars = [bar for bar in BARS if bar.case in found and bar.against == BEST]
    if own_bars:
        axes.plot(
            [bar.least for bar in own_bars],
            [list(found).index(bar.case) for bar in own_bars],
            color="black",
            marker="|",
            markersize=16,
            linestyle="none",
            label="bar for ours (auto)",
            zorder=2,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("times as fast as the best peer (log scale)")
    axes.grid(axis="x", color="0.9", zorder=0)
    for y in range(1, len(found)):
        axes.axhline(y - 0.5, color="0.9", linewidth=0.8, zorder=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.alt = _alt(found)
    return figure


def _alt(found: dict[str, Case]) -> str:
    ratios = {name: speedup(case, BEST) for name, case in found.items()}
    low, high = min(ratios, key=ratios.get), max(ratios, key=ratios.get)
    tried = [bar for bar in BARS if bar.case in ratios and bar.against == BEST]
    met = sum(round(ratios[bar.case], 2) >= bar.least for bar in tried)
    return (
        f"Dot plot of {len(found)} cases, one line each: how many times as fast as the"
        f" best peer a contender is. {OURS} lies between {ratios[low]:.2f} ({low}) and"
        f" {ratios[high]:.2f} ({high}). A tick marks the bar in {len(tried)} cases;"
        f" it is met in {met}. The table below holds the numbers."
    )
