"""The command line: what it trains, and one line for an error of the user."""

import runpy
import sys

import pytest

from metagan_lite import RECIPES, load_meta_gan
from metagan_lite.__main__ import main

TRAIN = ["train", "digits-live", "--set", "meta_steps=3", "meta_batch_size=3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    assert main([*TRAIN, "--out", str(folder)]) == 0
    return folder


def test_training_writes_a_checkpoint_of_the_recipe_as_changed(trained):
    recipe = RECIPES["digits-live"]
    found = load_meta_gan(*recipe.build_nets((1, 8, 8)), trained)
    assert found.config.meta_steps == 3 and found.config.meta_batch_size == 3
    assert found.config.inner_lr == recipe.config.inner_lr
    assert len(found.history) == 3


def test_resume(trained, capsys):
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    assert main([*TRAIN, "--out", str(trained)]) == 2
    assert "pass resume=True" in capsys.readouterr().err
    assert main([*TRAIN, "--out", str(trained), "--resume"]) == 0
    assert before == {path.name: path.read_bytes() for path in trained.iterdir()}


def test_an_error_of_the_user_is_one_line_and_status_2(tmp_path, capsys, monkeypatch):
    # As `python -m metagan_lite` does it: `main` alone leaves no exit status.
    monkeypatch.delitem(sys.modules, "metagan_lite.__main__")
    line = ["train", "digits-live", "--out", str(tmp_path), "--set", "metasteps=3"]
    monkeypatch.setattr(sys, "argv", ["metagan_lite", *line])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("metagan_lite", run_name="__main__", alter_sys=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("metagan_lite: error: expected --set NAME=VALUE with a NAME")
    assert "meta_steps, meta_batch_size" in line and "got 'metasteps=3'" in line


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["omniglot-live"], "a recipe among digits-live, glyphs-live; got 'omnig"),
        (["digits-live", "--set", "meta_steps"], "NAME=VALUE.*got 'meta_steps'"),
        (["digits-live", "--set", "shots=true"], "shots as JSON.* 10; got 'true'"),
        (["digits-live", "--set", "clip=none"], "clip as JSON.* 1.0; got 'none'"),
        (["digits-live", "--set", "betas=0.5"], r"as \[0.5, 0.99\]; got '0.5'"),
        (["digits-live", "--set", "algorithm=3"], "among maml.*got '3'"),
        (["digits-live", "--root", "here"], "'digits' has no option 'root'"),
        (["digits-live", "--checkpoint-every", "0"], "at least 1, got 0"),
    ],
)
def test_errors_of_the_user(tmp_path, capsys, arguments, words):
    out = tmp_path / "new"
    assert main(["train", *arguments, "--out", str(out)]) == 2
    assert not out.exists()
    found = capsys.readouterr().err
    assert found.startswith("metagan_lite: error: ") and found.count("\n") == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(found)


def test_the_folder_for_checkpoints_is_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([*TRAIN, "--out", str(tmp_path / "file")]) == 2
    assert "a folder for --out, got the file" in capsys.readouterr().err


def test_values_are_json_or_text(tmp_path):
    settings = ["meta_steps=1", "clip=inf", "loss=hinge", 'inner_lr={"G": 1, "D": 0.1}']
    settings += ["r1=0", "simultaneous=true", "betas=[0.5, 0.9]", "samples=2"]
    settings += ['objective_options={"scale": 2}']
    assert (
        main(["train", "digits-live", "--out", str(tmp_path), "--set", *settings]) == 0
    )
    nets = RECIPES["digits-live"].build_nets((1, 8, 8))
    config = load_meta_gan(*nets, tmp_path).config
    assert (config.clip, config.loss, config.r1) == (float("inf"), "hinge", 0.0)
    assert config.inner_lr == {"G": 1, "D": 0.1} and config.betas == (0.5, 0.9)
    assert config.simultaneous and config.samples == 2
    assert config.objective_options == {"scale": 2}


def test_recipes_are_listed_with_their_sentence(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(RECIPES)
    for line, (name, recipe) in zip(lines, RECIPES.items()):
        assert line.startswith(f"{name} ") and line.endswith(recipe.description)
