"""The benchmark: its record, the page made from it, and the peers' gradients.

Times are not tested: they depend on the machine.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import meta_step
import peers
import pytest
import report
import torch

ROOT = Path(__file__).resolve().parents[1]
RECORD = report.RESULTS / "meta_step.json"
PAGE = ROOT / "_build" / "html" / "book" / "speed.html"
LABELS = [
    *(meta_step.label(case) for case in meta_step.CASES),
    *(meta_step.label(case, "cuda") for case in meta_step.GPU_CASES),
]


def row(case: str, contender: str, ms: float, share: float | None = None) -> dict:
    return {
        "case": case,
        "contender": contender,
        "ms": ms,
        "spread ms": 0.5,
        "tasks/s": 1e3 / ms,
        "ratio": 20 / ms,
        "matmul share": share,
        "extra peak MiB": 7.0,
    }


@pytest.fixture
def rows() -> list[dict]:
    """We are 5, 2 and 25 times as fast; a third of the bars can be judged."""
    return [
        row("mlp T16 S1 maml", report.OURS, 4, share=0.7),
        row("mlp T16 S1 maml", "higher", 20),
        row("mlp T16 S1 maml", report.LOOP, 30),
        {"case": "mlp T16 S1 maml", "contender": "TorchOpt", "why not": "no such"},
        row("conv T16 S1 maml", report.OURS, 10),
        row("conv T16 S1 maml", "TorchOpt", 20),
        {"case": "mlp T64 S1 maml", "contender": "all", "why not": "left out"},
        {"case": "GPU mlp T64 S5 maml", "contender": "all", "why not": "no GPU"},
        row("GPU mlp T64 S5 maml", report.OURS, 2, share=0.1),
        row("GPU mlp T64 S5 maml", report.LOOP, 50),
        row("GPU mlp T64 S5 maml", "higher", 20),
    ]


# --- the record ---------------------------------------------------------------


def test_the_record_has_every_case_or_says_why_not():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    found = report.cases(record["rows"])
    assert list(found) == LABELS
    for case, of_case in found.items():
        if "all" in of_case:
            assert of_case["all"]["why not"], case
        else:
            assert set(of_case) == set(peers.CONTENDERS), case
    assert RECORD.stat().st_size < 2**21


def test_the_record_says_where_it_was_made():
    for record in report.read():
        assert record["command"].split("python ")[1].startswith("benchmarks/")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", record["date"])
        assert record["rounds"] >= 2 and record["matmul GFLOP/s"] > 0
        assert record["environment"]["torch"] and record["environment"]["processor"]


def test_ratios_in_the_record_follow_from_its_times():
    for of_case in report.cases(report.all_rows(report.read())).values():
        if "all" not in of_case:
            best = report.best_peer(of_case)["ms"]
            for found in report.measured(of_case).values():
                assert found["ratio"] == pytest.approx(best / found["ms"])


def test_the_table_beside_the_record_is_its_own():
    rows = json.loads(RECORD.read_text(encoding="utf-8"))["rows"]
    table = RECORD.with_suffix(".md").read_text(encoding="utf-8")
    assert table == report.table(rows)


def test_the_bars_and_the_styles_name_what_there_is():
    assert {bar.case for bar in report.BARS} <= set(LABELS)
    assert {bar.against for bar in report.BARS} <= {report.BEST, *peers.PEERS}
    assert set(report.STYLES) == set(peers.CONTENDERS)


# --- the report ---------------------------------------------------------------


def test_bars_are_judged_by_the_times(rows):
    text = report.bars(rows).replace("\u00a0", " ")
    assert "Met: 3 of the 4 bars that were measured." in text
    assert "Not met: conv T16 S1 maml, × best peer.\n" in text
    assert "| mlp T16 S1 maml, × best peer | ≥ 4 | 5.00 | met |" in text
    assert "| conv T16 S1 maml, × best peer | ≥ 2.5 | 2.00 | not met |" in text
    # The loop, not the best peer; the GPU's own record, not why the CPU's has none.
    assert (
        "| GPU mlp T64 S5 maml, × functional_call loop | ≥ 20 | 25.00 | met |" in text
    )
    assert "| mlp T64 S1 maml, × best peer | ≥ 4.5 | left out | not measured |" in text
    assert "| mlp T1 S1 maml, × best peer | ≥ 1.5 | no record of it |" in text
    assert "| ≥ 0.6 | 0.70 (mlp T16 S1 maml) to 0.70 (mlp T16 S1 maml) | met |" in text


def test_the_share_bar_is_for_the_worst_case(rows):
    rows.append(row("mlp T4 S1 maml", report.OURS, 4, share=0.5))
    assert "0.50 (mlp T4 S1 maml) to 0.70 (mlp T16 S1 maml) | not met" in (
        report.bars(rows)
    )


def test_the_summary_has_one_line_for_each_case(rows):
    text = report.summary(rows)
    assert "| mlp T16 S1 maml | 5.00 | 4.0 (0.5) | 20.0 (0.5), higher | 0.70 |" in text
    assert "| conv T16 S1 maml | 2.00 |" in text and "| – | 7 / 7 |" in text
    assert text.endswith("\nNot measured (left out): mlp T64 S1 maml.\n")


def test_the_table_has_a_line_for_each_row(rows):
    lines = report.table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1
    assert "not measured: no such" in lines[5]


def test_the_plot_says_what_it_shows(rows):
    figure = report.ratio_plot(rows)
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["mlp T16 S1 maml", "conv T16 S1 maml", "GPU mlp T64 S5 maml"]
    drawn = {line.get_label(): line for line in axes.lines}
    assert list(drawn[report.OURS].get_xdata()) == [5, 2, 10]
    assert list(drawn["bar for ours (auto)"].get_xdata()) == [4, 2.5]
    # No two series share a marker, so the plot reads without colour.
    series = [drawn[name].get_marker() for name in drawn if name in report.STYLES]
    assert len(set(series)) == len(series) == 4
    assert "between 2.00 (conv T16 S1 maml) and 10.00 (GPU" in figure.alt
    assert "in 2 cases; it is met in 1." in figure.alt
    with pytest.raises(ValueError, match="expected rows with a measured case"):
        report.ratio_plot(rows[6:8])


def test_a_folder_without_a_record_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="run make bench"):
        report.read(tmp_path)


# --- the page -----------------------------------------------------------------


class Text(HTMLParser):
    """Text, and the alternative texts of images."""

    def __init__(self, path: Path):
        super().__init__()
        self.text, self.alts = "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        if tag == "img":
            self.alts.append(dict(attributes).get("alt"))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.skipif(not PAGE.exists(), reason="the book is not built: make book")
def test_the_page_shows_the_record():
    page, records = Text(PAGE), report.read()
    rows = report.all_rows(records)
    assert report.ratio_plot(rows).alt in page.alts
    for record in records:
        assert record["command"] in page.text and record["date"] in page.text
    cells = [
        cell.strip()
        for part in (report.bars(rows), report.summary(rows), report.table(rows))
        for line in part.splitlines()
        if line.startswith("|") and "---" not in line
        for cell in line.strip("|").split("|")
    ]
    # Markdown on the page makes curly quotes of straight ones, except in code.
    straight = page.text.translate(str.maketrans("’‘", "''"))
    shown = [cell.replace("`", "") for cell in cells]
    assert [cell for cell in shown if cell not in straight] == []


def test_the_page_has_every_part_of_the_report():
    page = (ROOT / "book" / "speed.md").read_text(encoding="utf-8")
    parts = re.findall(r"^```\{speed\} (\w+)$", page, re.MULTILINE)
    assert parts == ["machine", "plot", "summary", "bars", "profile", "table"]


def test_the_time_of_a_step_is_shared_out_whole():
    problem = meta_step.make_problem("mlp", 2, 1, "maml")
    shares = meta_step.where_time_goes(meta_step.CONTENDERS[report.OURS], problem)
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
    assert shares["products"] > 0.02 and shares["bookkeeping"] > 0.05
    assert shares["convolutions"] == 0
    row = {"case": "c", "contender": report.OURS, "ms": 1.0, "time": shares}
    assert f"{100 * shares['products']:.0f} %" in report.profile([row])


# --- the contenders -----------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "reptile"])
@pytest.mark.parametrize("name", list(peers.CONTENDERS))
def test_contenders_have_the_gradients_of_the_loop(name, algorithm):
    # Two steps: from the second on, a total derivative differs from a partial one.
    problem = meta_step.make_problem("mlp", 2, 2, algorithm)
    truth = peers.CONTENDERS["ours (loop)"](problem)
    nets = problem.game.players.values()
    before = [p.clone() for net in nets for p in net.parameters()]
    try:
        found = peers.CONTENDERS[name](problem)
    except (ImportError, NotImplementedError) as error:
        pytest.skip(str(error))
    for a, b in zip(found, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * b.abs().max().item())
    # The next contender finds the nets as they were.
    after = [p for net in nets for p in net.parameters()]
    assert all(p.is_leaf for p in after)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_a_contender_with_other_gradients_is_left_out(monkeypatch):
    monkeypatch.setitem(
        peers.CONTENDERS, "higher", lambda p: [1.01 * g for g in peers.plain_loop(p)]
    )
    right, reasons = meta_step.check(meta_step.make_problem("mlp", 1, 1, "maml"))
    assert "its gradients differ by 1.0e-02" in reasons["higher"]
    assert "functional_call loop" in right and "higher" not in right


def test_extra_peak_counts_what_is_held_at_once():
    def one_after_the_other(problem):
        for _ in range(3):
            torch.empty(2**20, dtype=torch.uint8)

    def together(problem):
        return [torch.empty(2**20, dtype=torch.uint8) for _ in range(3)]

    assert meta_step.extra_peak(one_after_the_other, None) == 2**20
    assert meta_step.extra_peak(together, None) == 3 * 2**20


def test_the_benchmark_writes_a_whole_record(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    cases = [("mlp", 1, 1, "maml"), ("conv", 4, 1, "maml")]
    monkeypatch.setattr(meta_step, "CASES", cases)
    keep = {"ours (auto)", "ours (loop)", report.LOOP}
    for name in set(peers.CONTENDERS) - keep:
        monkeypatch.delitem(peers.CONTENDERS, name)
    out = tmp_path / "record.json"
    meta_step.main(["--rounds", "2", "--only", "mlp", "--out", str(out)])
    (record,) = report.read(tmp_path)
    found = report.cases(record["rows"])
    assert set(found["mlp T1 S1 maml"]) == keep
    assert found["conv T4 S1 maml"]["all"]["why not"] == "left out by `--only 'mlp'`"
    assert "GPU" in found["GPU mlp T64 S5 maml"]["all"]["why not"] or (
        torch.cuda.is_available()
    )
    assert out.with_suffix(".md").read_text("utf-8") == report.table(record["rows"])
    assert "mlp T1 S1 maml" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--rounds", "1"], "at least 2, got 1"),
        (["--precision", "tf32"], "with --precision tf32, got cpu"),
        (["--device", "cuda"], "found none"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        meta_step.main(arguments)
    assert message in capsys.readouterr().err
