"""Reports fill their tables, and say what is missing, worse, or not repeated."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch

from metagan_lite import GAN, MetaDiscriminator, MetaGANConfig, MetaGenerator
from metagan_lite.evaluate import Row, Scorecard
from metagan_lite.meta import TrainedMetaGAN
from metagan_lite.report import (
    differences,
    make_record,
    make_report,
    over_classes,
    read_words,
    unwritten,
)
from metagan_lite.tasks import TaskBatch

CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])
#        method, steps, KID and recognition of six tasks
ROWS = [
    ("real images", None, [0, 0.1, -0.1, 0, 0, 0], [1, 1, 1, 0.9, 1, 1]),
    ("copy-support", None, [0, 0, 0.1, -0.1, 0, 0], [1, 1, 1, 1, 1, 1]),
    ("support + jitter", None, [0.1, 0, 0.1, 0.2, 0, 0.1], [0.9, 1, 0.8, 1, 1, 0.9]),
    ("Meta-GAN", 0, [3, 3.5, 4, 3, 3, 3], [0.1, 0, 0, 0, 0, 0.1]),
    ("Meta-GAN", 5, [0.5, 0.6, 0.4, 0.5, 0.7, 0.5], [0.8, 0.9, 0.7, 0.8, 0.7, 0.9]),
    ("scratch", 5, [2, 2.5, 2.2, 2, 2, 2.1], [0.2, 0.1, 0.2, 0.1, 0.3, 0.2]),
    ("pooled", 5, [0.7, 0.2, 0.6, 0.4, 0.9, 0.3], [0.5, 0.6, 0.4, 0.5, 0.6, 0.5]),
    ("pooled", 1, [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0]),
]


@pytest.fixture(scope="module")
def trained() -> TrainedMetaGAN:
    game = GAN(MetaGenerator((1, 2, 2), latent_dim=1), MetaDiscriminator((1, 2, 2)))
    config = MetaGANConfig(inner_steps=5, shots=3, seed=7)
    return TrainedMetaGAN(game, config, [], {"torch": "9.9", "gpu": None})


@pytest.fixture
def card() -> Scorecard:
    images = torch.zeros(6, 3, 1, 2, 2)
    rows = tuple(
        Row(
            method,
            steps,
            {
                "KID": torch.tensor(kid).float(),
                "recognition": torch.tensor(seen).float(),
            },
        )
        for method, steps, kid, seen in ROWS
    )
    batch = TaskBatch(images, images, classes=CLASSES)
    return Scorecard(rows, "Six tasks of 3 classes.", {}, batch, 1 / 3)


@pytest.fixture
def record(card, trained) -> dict:
    return make_record(card, trained, command="metagan evaluate mine", tasks="glyphs")


def cells(report: str, section: str) -> list[list[str]]:
    """The rows of a section's table, without its head."""
    text = report.partition(f"## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


# --- the record -----------------------------------------------------------------


def test_the_record_is_json_and_holds_the_scores(record, card):
    again = json.loads(json.dumps(record, allow_nan=False))
    assert again["rows"] == card.to_record()["rows"]
    assert again["inner_steps"] == 5 and again["config"]["shots"] == 3
    assert again["command"] == "metagan evaluate mine"
    by_hand = sum(ROWS[4][2]) / 6 - sum(ROWS[6][2]) / 6
    (pooled,) = (
        d
        for d in again["differences"]
        if d["metric"] == "KID" and d["baseline"] == "pooled @ 5"
    )
    assert pooled["mean"] == pytest.approx(by_hand, abs=1e-6)
    assert pooled["low"] <= pooled["mean"] <= pooled["high"]


@pytest.mark.parametrize("left_out", [0, 1, 2, 3, 4, 5, 6])
def test_a_mandatory_row_cannot_be_left_out(card, trained, left_out: int):
    rows = card.rows[:left_out] + card.rows[left_out + 1 :]
    less = Scorecard(rows, card.description, {}, card.batch, card.chance)
    row = card.rows[left_out]
    with pytest.raises(ValueError, match=f"expected the row '{re.escape(row.method)}"):
        make_record(less, trained)


def test_scores_that_are_not_finite_are_said_to_be_so(card, trained):
    lost = Row("pooled", 5, {m: torch.full((6,), torch.nan) for m in card.metrics})
    rows = tuple(lost if row.method == "pooled" else row for row in card.rows)
    broken = Scorecard(rows, card.description, {}, card.batch, card.chance)
    record = make_record(broken, trained)
    json.dumps(record, allow_nan=False)
    verdicts = {(r[0], r[1]): r[4] for r in cells(make_report(record), "Differences")}
    assert verdicts["KID", "pooled @ 5"] == "not finite"


def test_the_interval_is_over_classes():
    """Every task many times over narrows an interval over tasks, but not this one."""
    random = torch.Generator().manual_seed(1)
    one = torch.randn(12, generator=random)
    classes = torch.arange(12)
    found = over_classes(one, classes)
    again = over_classes(one.repeat(50), classes.repeat(50))
    assert again == pytest.approx(found, abs=1e-6)
    # 95 % of a mean of twelve: about 1.96 standard errors on each side.
    error = one.std(correction=0) / 12**0.5
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * error.item(), rel=0.1)
    uneven = over_classes(torch.tensor([0.0, 0, 0, 4]), torch.tensor([0, 0, 0, 1]))
    assert uneven.mean == 2  # of classes, however many tasks each has


# --- the report -------------------------------------------------------------------


def test_tables_are_filled_from_the_record(record):
    report = make_report(record, title="My characters")
    assert report.startswith("# My characters\n")
    scores = {row[0]: row[1:] for row in cells(report, "Scores")}
    assert list(scores) == [
        "real images",
        "copy-support",
        "support + jitter",
        "Meta-GAN @ 0",
        "Meta-GAN @ 5",
        "scratch @ 5",
        "pooled @ 5",
    ]
    kid = sum(ROWS[4][2]) / 6
    assert scores["Meta-GAN @ 5"][1].startswith(f"{kid:.2f}\N{NO-BREAK SPACE}±")
    said = dict(row[:2] for row in cells(report, "What was done"))
    assert said["support images, K"] == "3" and said["seed"] == "7"
    assert said["tasks"] == "glyphs"
    assert "metagan evaluate mine" in report and "torch 9.9." in report
    assert "Six tasks of 3 classes." in report and "None" not in report


def test_verdicts_follow_the_interval_and_the_metric(record):
    verdicts = {(r[0], r[1]): r[4] for r in cells(make_report(record), "Differences")}
    assert verdicts["KID", "scratch @ 5"] == "Meta-GAN better"
    assert verdicts["recognition", "scratch @ 5"] == "Meta-GAN better"
    assert verdicts["KID", "support + jitter"] == "**Meta-GAN worse**"
    assert verdicts["recognition", "copy-support"] == "**Meta-GAN worse**"
    assert verdicts["KID", "pooled @ 5"] == "no difference shown"
    assert len(verdicts) == 12


def test_the_authors_words_survive_a_new_measurement(record):
    report = make_report(record)
    assert unwritten(report) == ["question", "claim", "limits"]
    words = {"question": "Do they?", "claim": "They do.\n\nBut see jitter."}
    report = make_report(record, words)
    assert read_words(report) == words and unwritten(report) == ["limits"]
    assert make_report(record, read_words(report)) == report


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({}, {"abstract": "x"}, "expected words among .*got 'abstract'"),
        ({"differences": None}, {}, "without 'differences'; make it with make_record"),
    ],
)
def test_other_records_and_words_are_refused(record, change, words, message: str):
    for name in change:
        record.pop(name)
    with pytest.raises(ValueError, match=message):
        make_report(record, words)


# --- measured again ---------------------------------------------------------------


def changed(record: dict, method: str, by: float) -> dict:
    again = copy.deepcopy(record)
    (row,) = (
        r for r in again["rows"] if (r["method"], r["inner_steps"]) == (method, 5)
    )
    row["scores"]["KID"]["mean"] += by
    return again


def test_the_same_measurement_agrees(record):
    assert differences(record, record) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_two_standard_errors_are_the_limit(record, sign: int):
    (row,) = (r for r in record["rows"] if r["method"] == "scratch")
    error = row["scores"]["KID"]["error"]
    assert error > 0.01
    assert differences(record, changed(record, "scratch", sign * 1.9 * error)) == []
    (said,) = differences(record, changed(record, "scratch", sign * 2.1 * error))
    assert said.startswith("scratch @ 5: KID is 2.13, measured again ")


def test_rows_and_scores_that_are_gone_are_told(record):
    again = copy.deepcopy(record)
    again["rows"] = again["rows"][1:]
    again["rows"][0]["scores"]["KID"]["mean"] = None
    assert differences(record, again) == [
        "real images: measured the second time it is not there",
        "copy-support: KID is 0.00, measured again –; allowed is 0.05",
    ]
