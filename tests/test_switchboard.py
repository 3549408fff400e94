"""The grids of runs in experiments/: their cells, and what their pages say."""

import json
from collections import Counter

import pytest
import stability
import stability_report
import switchboard
import switchboard_report
import torch

from metagan_lite import GAN, RECIPES, MetaDiscriminator, MetaGenerator
from metagan_lite.plots import describe


def test_the_cells_are_the_distinct_combinations():
    found = list(switchboard.cells())
    assert len(found) == len(set(found)) == len({cell.name for cell in found}) == 58
    counts = Counter(cell.algorithm for cell in found)
    assert counts == {"MAML": 16, "ANIL": 16, "Meta-SGD": 16, "FOMAML": 8, "Reptile": 2}


def test_every_cell_is_a_configuration_that_differs_from_the_others():
    recipe = RECIPES[switchboard.RECIPE]
    game = GAN(*recipe.build_nets((1, 12, 12)))
    heads = switchboard.head_rates(game, recipe.config.inner_lr)
    assert heads["D"] == {"1": 0.0, "3": 0.0, "5": 0.2}
    configs = {
        cell: switchboard.configuration(cell, recipe.config, heads)
        for cell in switchboard.cells()
    }
    assert len({repr(config) for config in configs.values()}) == 58
    only_g = [
        c for c, x in configs.items() if x.objective_options.get("teach") is False
    ]
    assert {(c.algorithm, c.objective[:3]) for c in only_g} == {("FOMAML", "MMD")}


def test_a_step_s_flops_are_counted_on_one_path():
    recipe = RECIPES[switchboard.RECIPE]
    tasks = recipe.training_tasks()
    games = GAN(*recipe.build_nets(tasks.sample_shape))
    heads = switchboard.head_rates(games, recipe.config.inner_lr)

    def cost(*switches):
        config = switchboard.configuration(
            switchboard.Cell(*switches), recipe.config, heads
        )
        return switchboard.flops(config, recipe, tasks, None)

    maml = cost("alternating", "MAML", "MMD", False)
    assert cost("alternating", "Meta-SGD", "MMD", False) == maml
    assert cost("alternating", "FOMAML", "MMD", None) < 0.5 * maml
    assert cost("alternating", "ANIL", "MMD", False) < maml


def row(method, steps, kid):
    scores = dict.fromkeys(("recognition", "KID", "diversity", "AUC of D"))
    return {
        "method": method,
        "inner_steps": steps,
        "note": "",
        "scores": {m: {"mean": kid, "error": 0.0} for m in scores},
    }


@pytest.fixture
def board(tmp_path):
    """KID 0.1 for MAML, 0.2 for Reptile, 0.3 elsewhere; pooled 0.25; one run broke."""
    runs = []
    for cell in switchboard.cells():
        for seed in (0, 1):
            kid = {"MAML": 0.1, "Reptile": 0.2}.get(cell.algorithm, 0.3)
            kid += 0.02 * seed + (0.05 if cell.order == "simultaneous" else 0)
            run = {
                "order": cell.order,
                "algorithm": cell.algorithm,
                "objective": cell.objective,
                "detached": cell.detached,
                "seed": seed,
                "meta_steps": 7,
                "cpu_seconds": 3.0,
                "rows": [row("Meta-GAN", s, kid) for s in (5, 10)],
            }
            if cell.name == "simultaneous, ANIL, adversarial":
                run |= {"broke": "step 3: …", "rows": []}
            runs.append(run)
    references = [
        {
            "rows": [
                *(row("pooled", s, 0.25) for s in (5, 10)),
                *(row("scratch", s, 0.5) for s in (5, 10)),
                row("support + jitter", None, 0.05),
            ]
        }
    ] * 2
    record = {
        "command": "…",
        "recipe": "glyphs-live",
        "budget_flops": 5e9,
        "classes": 100,
        "environment": {"processor": "a core", "commit": "abc"},
        "references": references,
        "cells": runs,
    }
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    return switchboard_report.Record(path)


def test_the_switchboard_page_says_what_its_record_holds(board):
    pivot = switchboard_report.pivot(board)
    assert "| MAML | 0.11 | 0.11 | 0.11 | 0.11 |" in pivot
    assert "| Reptile (no outer objective) | 0.21 | | | |" in pivot
    assert "| pooled, best of four rates | 0.25 | | | |" in pivot
    table = switchboard_report.table(board)
    assert table.count("\n") == 59 and "broke" in table
    assert "| simultaneous | ANIL | adversarial | attached | 7 | broke |" in table
    switches = switchboard_report.switches(board)
    # 29 pairs of orders, one of which broke.
    assert "| simultaneous → alternating | 28 | 28 | −0.050 |" in switches
    assert "| FOMAML → MAML, fewer outer steps | 8 | 8 | −0.200 |" in switches
    said = switchboard_report.verdict(board)
    assert "MAML has a KID of 0.11" in said and "Reptile's is 0.21" in said
    assert "Of MAML's 16 cells 16 are below the pooled GAN" in said
    assert "Of all 116 runs 2 broke down" in said and "does not hold here" in said
    assert "Best of MAML: 0.11." in describe(switchboard_report.plot(board))
    assert "58 cells, 2 seeds each" in switchboard_report.how(board)


def test_a_cell_that_broke_has_no_mean(board):
    key = ("simultaneous", "ANIL", "adversarial", False)
    assert board.seeds(key, "KID") == [None, None] and board.mean(key, "KID") is None


@pytest.fixture
def runs(tmp_path):
    """Scratch never fails, pooled always, the others at one rate of two."""
    record = {
        "command": "…",
        "recipe": "digits-live",
        "meta_steps": 1,
        "meta_batch_size": 1,
        "pooled_steps": 1,
        "seeds": 20,
        "inner_lr": {"G": 0.5, "D": 0.2},
        "environment": {"commit": "abc"},
        "runs": [
            {
                "method": method,
                "factor": factor,
                "seed": seed,
                "outcome": dict.fromkeys(
                    ("5", "20"),
                    "collapsed"
                    if method == "pooled" or (method != "scratch" and factor > 1)
                    else "fine",
                ),
            }
            for method in stability.METHODS
            for factor in (1.0, 3.0)
            for seed in range(20)
        ],
    }
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    return stability_report.Record(path)


def test_the_stability_page_says_what_its_record_holds(runs):
    table = stability_report.table(runs)
    assert "| scratch | 0/20 (0.00–0.16) | 0/20" in table
    assert "| pooled | 20/20 (0.84–1.00) |" in table
    said = stability_report.verdict(runs)
    assert "scratch 0 of 40; pooled 40 of 40" in said
    assert said.count("more often than the better baseline at × 3") == 3
    assert said.count("less often") == 0
    assert "scratch 0.00, 0.00; pooled 1.00, 1.00" in describe(
        stability_report.plot(runs)
    )


def test_outcomes_are_read_from_the_notes_of_a_scorecard():
    assert stability.outcome({"note": "diverged in 3 of 24 tasks"}) == "diverged"
    assert stability.outcome({"note": "collapsed"}) == "collapsed"
    assert stability.outcome({"note": ""}) == "fine"


def test_fresh_players_run_and_a_wild_rate_is_a_result():
    """The bench's own code, on nets that take no time."""
    bench = object.__new__(stability.Bench)
    bench.recipe = RECIPES[stability.RECIPE]
    bench.tasks = bench.recipe.training_tasks()
    bench.held_out = bench.recipe.load_tasks("meta-test")
    bench.scorer = torch.nn.Flatten()
    found = bench.run("scratch", 1.0, seed=0)
    assert [stability.outcome(r) for r in found["rows"]] == ["fine", "fine"]
    wild = bench.run("scratch", 1e30, seed=0)
    assert stability.outcome(wild["rows"][-1]) == "diverged"
    assert {MetaGenerator, MetaDiscriminator} == {
        type(net) for net in bench.recipe.build_nets((1, 8, 8))
    }


# --- what book/switchboard.md claims -------------------------------------------


@pytest.fixture(scope="module")
def stored():
    return switchboard_report.Record()


def kids(record, algorithm, objective, detached):
    return [
        value
        for order in switchboard.ORDERS
        for value in record.seeds((order, algorithm, objective, detached), "KID")
    ]


@pytest.mark.parametrize("algorithm", ["MAML", "Meta-SGD"])
@pytest.mark.parametrize("objective", switchboard.OBJECTIVES[:2])
def test_detaching_is_what_the_adversarial_losses_need(stored, algorithm, objective):
    pooled = stored.reference("pooled", "KID")
    attached = kids(stored, algorithm, objective, False)
    cut = kids(stored, algorithm, objective, True)
    assert min(attached) > pooled  # learns nothing that helps
    assert max(cut) < 0.6 * pooled
    for order in switchboard.ORDERS:
        key = (order, algorithm, objective, True)
        assert min(stored.seeds(key, "AUC of D")) > 0.5  # and D is a discriminator
        assert min(stored.seeds(key, "recognition")) > 0.8
        other = (order, algorithm, objective, False)
        assert max(stored.seeds(other, "recognition")) < 0.1


@pytest.mark.parametrize("algorithm", ["MAML", "Meta-SGD", "ANIL"])
@pytest.mark.parametrize("objective", switchboard.OBJECTIVES[2:])
def test_the_mmd_works_either_way(stored, algorithm, objective):
    attached = kids(stored, algorithm, objective, False)
    cut = kids(stored, algorithm, objective, True)
    pooled = stored.reference("pooled", "KID")
    assert max(attached + cut) < 0.6 * pooled
    for a, b in zip(attached, cut):
        assert b == pytest.approx(a, abs=0.08)


def test_reptile_and_first_order_stay_above_the_pooled_gan(stored):
    pooled = stored.reference("pooled", "KID")
    found = kids(stored, "Reptile", None, None)
    for objective in switchboard.OBJECTIVES:
        found += kids(stored, "FOMAML", objective, None)
    assert min(found) > pooled


# --- and its section on stability ----------------------------------------------


def test_only_detached_fakes_stand_where_all_others_have_fallen():
    record = stability_report.Record()
    last = max(record.steps)
    failed = {
        (method, factor): record.failed(method, factor, last)[0]
        for method in stability_report.NAMES
        for factor in stability.FACTORS
    }
    assert {record.failed(*key, last)[1] for key in failed} == {20}
    for (method, factor), count in failed.items():
        if factor <= 1:
            assert count == 0, (method, factor)
        elif factor >= 10:
            assert count == 20, (method, factor)
    assert failed.pop(("adversarial-detached", 3.0)) <= 10
    assert {failed[key] for key in failed if key[1] == 3.0} == {20}
    assert failed["pooled", 2.0] == 20
    others = [count for (m, f), count in failed.items() if f == 2.0 and m != "pooled"]
    assert max(others) <= 4
