"""Recipes fit their tasks, and the quickstart notebook trains one of them."""

import ast
import inspect
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metagan_lite import (
    GAN,
    RECIPES,
    ConvDiscriminator,
    ConvGenerator,
    MetaDiscriminator,
    MetaGANConfig,
    MetaGenerator,
    Recipe,
)
from metagan_lite.data import SOURCES
from metagan_lite.games import check_tasks
from metagan_lite.recipes import Run

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "00_quickstart.ipynb"


def weights(nets):
    return [p for net in nets for p in net.parameters()]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_together(name, request):
    recipe = RECIPES[name]
    loader = SOURCES[recipe.tasks["name"]]
    has_files = "root" in inspect.signature(loader).parameters
    root = {"root": request.getfixturevalue("data_root")} if has_files else {}
    train = recipe.training_tasks(**root)
    check_tasks(train, GAN(*recipe.build_nets(train.sample_shape)))
    config = recipe.config
    batch = train.sample(
        config.meta_batch_size, shots=config.shots, query_shots=config.query_shots
    )
    assert len(batch) == config.meta_batch_size
    assert recipe.description.endswith(".")


def test_the_seed_of_the_configuration_decides_the_nets():
    recipe = RECIPES["digits-live"]
    other = replace(recipe, config=replace(recipe.config, seed=1))
    first, again, differs = (
        weights(r.build_nets((1, 8, 8))) for r in (recipe,) * 2 + (other,)
    )
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], differs[0])


def test_pairs_of_nets_take_their_arguments():
    arguments = {"latent_dim": 4, "channels": 2}, {"channels": 2}
    recipe = Recipe("A pair.", {"name": "digits"}, MetaGANConfig(), "conv", *arguments)
    pair = recipe.build_nets((1, 8, 8))
    assert [type(net) for net in pair] == [ConvGenerator, ConvDiscriminator]
    assert GAN(*pair).latent_dim == 4
    with pytest.raises(ValueError, match="nets among mlp, conv; got 'transformer'"):
        replace(recipe, nets="transformer")


def test_a_run_comes_back_from_its_folder(tmp_path):
    recipe = replace(
        RECIPES["glyphs-live"],
        tasks={"name": "glyphs", "size": 9, "root": "a", "download": True},
        warp={"shear": 0.1},
    )
    run = Run.of("glyphs-live", recipe, (1, 9, 9), {"shots": 3})
    run.save(tmp_path)
    found = Run.load(tmp_path)
    assert found.tasks == {"name": "glyphs", "size": 9, "root": "a"}
    assert (found.recipe, found.changes) == ("glyphs-live", {"shots": 3})
    assert found.as_recipe(recipe.config).warp == recipe.warp == {"shear": 0.1}
    nets = found.as_recipe(recipe.config).build_nets(found.sample_shape)
    expected = recipe.build_nets((1, 9, 9))
    assert all(map(torch.equal, weights(nets), weights(expected)))


def test_a_run_resumes_from_where_the_data_have_moved_and_from_no_other(tmp_path):
    recipe = RECIPES["digits-live"]

    def run(recipe=recipe, name="digits-live", shape=(1, 8, 8), **tasks):
        tasks = {**recipe.tasks, **tasks}
        return Run.of(name, replace(recipe, tasks=tasks), shape, {})

    run().check_resumes(tmp_path)  # nothing there yet
    run(root="here").save(tmp_path)
    run(root="there", download=True).check_resumes(tmp_path)
    run().check_resumes(tmp_path)
    others = {
        "recipe": run(name="another"),
        "tasks": run(rotations=False),
        "sample_shape": run(shape=(1, 9, 9)),
        "warp": run(replace(recipe, warp={"shear": 0.1})),
        "generator": run(replace(recipe, generator={"hidden": 8})),
    }
    for field, other in others.items():
        with pytest.raises(ValueError, match=f"another run: expected {field}=.*, got"):
            other.check_resumes(tmp_path)


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "broken .*run.json"),
        ("[]", "broken .*run.json"),
        ('{"format": "metagan_lite run 0"}', "format is 'metagan_lite run 0'"),
        ('{"format": "metagan_lite run 1"}', "missing 8 required"),
    ],
)
def test_a_broken_run(tmp_path, text, words):
    with pytest.raises(FileNotFoundError, match="found no run.json"):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        Run.load(tmp_path)


def test_options_reach_load_tasks():
    recipe = RECIPES["glyphs-live"]
    assert recipe.load_tasks(classes=10, size=8).sample_shape == (1, 8, 8)
    with pytest.raises(ValueError, match="'glyphs' has no option 'root'"):
        recipe.load_tasks(root="anywhere")


def test_the_quickstart_trains_glyphs_live():
    # Its own statements, run on the shape of its own tasks, up to the training.
    cells = json.loads(QUICKSTART.read_text(encoding="utf-8"))["cells"]
    wanted, found = ("random", "new_nets", "config", "train_tasks"), {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "%pip" in source:
            continue
        for node in ast.parse(source).body:
            target = getattr(node, "targets", [node])[0]
            name = getattr(target, "id", getattr(target, "name", None))
            if name in wanted:
                found[name] = node
    names = {
        "torch": torch,
        "MetaGANConfig": MetaGANConfig,
        "MetaGenerator": MetaGenerator,
        "MetaDiscriminator": MetaDiscriminator,
        "load_tasks": lambda name, split, **options: {"name": name, **options},
        "shape": (1, 12, 12),
    }
    exec(compile(ast.Module([*found.values()], []), str(QUICKSTART), "exec"), names)
    recipe = RECIPES["glyphs-live"]
    assert names["train_tasks"] == recipe.tasks
    assert names["config"] == recipe.config
    theirs, ours = names["new_nets"](seed=0), recipe.build_nets((1, 12, 12))
    assert [str(net) for net in theirs] == [str(net) for net in ours]
    assert all(map(torch.equal, weights(theirs), weights(ours)))
