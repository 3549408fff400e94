"""The command line: what it trains, and one line for an error of the user."""

import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from metagan_lite import (
    RECIPES,
    ClassTasks,
    MetaGANConfig,
    WarpedTasks,
    commands,
    load_images,
    load_meta_gan,
    load_tasks,
    meta,
)
from metagan_lite.__main__ import _parser, main
from metagan_lite.data import SOURCES
from metagan_lite.evaluate import Row, Scorecard
from metagan_lite.io import load_checkpoint

ROOT = Path(__file__).parents[1]
TRAIN = ["train", "digits-live", "--set", "meta_steps=3", "meta_batch_size=3"]
COMMANDS = ("train", "evaluate", "report", "sample", "datasets", "recipes", "info")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    assert main([*TRAIN, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def quick_features(monkeypatch):
    monkeypatch.setattr(commands, "_FEATURE_STEPS", 2)


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    """A folder of six classes, each of twelve pictures 9 wide and 11 high."""
    random = torch.Generator().manual_seed(0)
    folder = tmp_path_factory.mktemp("pictures") / "mine"
    for name in "abcdef":
        (folder / name).mkdir(parents=True)
        ink = torch.rand(11, 9, generator=random) < 0.2
        for i in range(12):
            flipped = torch.rand(11, 9, generator=random) < 0.05
            picture = ((ink ^ flipped) * 255).byte().numpy()
            Image.fromarray(picture).save(folder / name / f"{i:02d}.png")
    return folder


def error_of(capsys):
    found = capsys.readouterr().err
    assert found.startswith("metagan_lite: error: ") and found.count("\n") == 1
    return found


def size_of(picture):
    with Image.open(picture) as image:
        assert image.format == "PNG"
        return image.size


# --- train --------------------------------------------------------------------


def test_training_writes_a_checkpoint_of_the_recipe_as_changed(trained):
    recipe = RECIPES["digits-live"]
    found = load_meta_gan(*recipe.build_nets((1, 8, 8)), trained)
    assert found.config.meta_steps == 3 and found.config.meta_batch_size == 3
    assert found.config.inner_lr == recipe.config.inner_lr
    assert len(found.history) == 3


def test_training_writes_the_run_and_two_figures(trained):
    run = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert run["recipe"] == "digits-live" and run["sample_shape"] == [1, 8, 8]
    assert run["tasks"] == {"name": "digits", "rotations": True}
    assert run["changes"] == {"meta_steps": 3, "meta_batch_size": 3}
    assert all(min(size_of(trained / f"{n}.png")) > 200 for n in ("samples", "loss"))


def test_resume(trained, capsys):
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    assert main([*TRAIN, "--out", str(trained)]) == 2
    assert "add --resume" in error_of(capsys)
    assert main([*TRAIN, "--out", str(trained), "--resume"]) == 0
    assert before == {path.name: path.read_bytes() for path in trained.iterdir()}


@pytest.mark.parametrize(
    "line, words",
    [
        (
            ["glyphs-live", "--option", "classes=9"],
            'expected recipe="digits-live", got "glyphs-live"',
        ),
        (["digits-live", "--option", "rotations=false"], 'tasks={.*"rotations": false'),
        (["digits-live", "--held-out", "3"], 'tasks={.*"held_out": \\["3"\\]'),
        (["digits-live"], "expected meta_batch_size=8, got 3"),
    ],
)
def test_another_run_does_not_resume(trained, capsys, line, words):
    before = (trained / "run.json").read_bytes()
    assert main(["train", *line, "--out", str(trained), "--resume"]) == 2
    assert re.search(words, error_of(capsys))
    assert (trained / "run.json").read_bytes() == before


def test_inner_rates_follow_the_size_of_other_images(tmp_path, capsys):
    def rates(name, *changes):
        line = ["train", "glyphs-live", "--option", "classes=8", "--size", "24"]
        line += ["--set", "meta_steps=1", "meta_batch_size=2", *changes]
        assert main([*line, "--out", str(tmp_path / name)]) == 0
        return load_checkpoint(tmp_path / name)[2]["config"]["inner_lr"]

    assert rates("default") == {"G": 0.5, "D": pytest.approx(20 / 24**2)}
    assert rates("given", "inner_lr=0.01") == 0.01


# --- a folder of one's own ----------------------------------------------------


def test_a_folder_of_characters_end_to_end(
    characters, tmp_path, monkeypatch, quick_features, capsys
):
    monkeypatch.chdir(characters.parent)  # the path below is relative
    run = tmp_path / "run"
    line = ["train", "digits-live", "--tasks", "folder:mine", "--size", "10"]
    line += ["--held-out", "e", "f", "--option", "validation=d", "--out", str(run)]
    line += ["--set", "meta_steps=2", "shots=3", "query_shots=4"]
    assert main(line) == 0
    monkeypatch.chdir(tmp_path)
    line = ["evaluate", str(run), "--steps", "0,2", "--pooled-steps", "1"]
    assert main([*line, "--repeats", "2"]) == 0
    found = capsys.readouterr().out
    assert "4 tasks of 2 held-out classes, K = 3" in found
    assert "chosen on validation" in found and "on these tasks" not in found
    for source in (["--support", str(characters / "e")], ["--held-out", "e"]):
        picture = tmp_path / f"{source[0]}.png"
        assert main(["sample", str(run), *source, "--out", str(picture)]) == 0
        assert min(size_of(picture)) > 100
    found = capsys.readouterr().out.splitlines()
    assert found[0].startswith("10 samples from 12 images of e")
    assert found[1].startswith("10 samples from 3 images of e")


def test_images_that_are_not_square_keep_their_shape(characters, tmp_path, capsys):
    run = tmp_path / "run"
    line = ["train", "digits-live", "--tasks", f"folder:{characters}"]
    line += ["--out", str(run), "--set", "meta_steps=1", "shots=3", "query_shots=4"]
    assert main(line) == 0
    line = ["sample", str(run), "--out", str(run / "new.png"), "--support"]
    assert main([*line, str(characters / "a")]) == 0
    Image.new("L", (11, 9)).save(tmp_path / "turned.png")
    assert main([*line, str(tmp_path)]) == 2
    assert "width x height 9x11 as in training, got 11x9" in error_of(capsys)


@pytest.mark.parametrize("options", [[], ["--invert"], ["--normalize"]])
def test_support_is_read_as_asked(characters, trained, options):
    line = ["sample", str(trained), "--support", str(characters / "a"), *options]
    options = _parser().parse_args([*line, "--shots", "2", "--out", "x.png"])
    found = commands._read_support(options, commands.Run.load(trained))
    if options.normalize:
        pictures = load_images(f"folder:{characters}").images[:2]
        expected = commands.normalize_characters(pictures, 8)
    else:
        expected = load_images(f"folder:{characters}", size=8).images[:2]
    torch.testing.assert_close(found, -expected if options.invert else expected)


def test_samples_are_those_of_the_adapted_generator(trained):
    run, found = commands._load(str(trained), torch.device("cpu"))
    support = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = commands._draw(found, support, [0, 3], 5, seed=1)
    random = torch.Generator().manual_seed(1)
    z = found.game.noise(2, 1, 5, generator=random)[:, 0, 1]
    torch.testing.assert_close(drawn[0], found.adapt(support, inner_steps=0)["G"](z))
    adapted = found.adapt(support, inner_steps=3, generator=random)
    torch.testing.assert_close(drawn[3], adapted["G"](z))
    assert run.recipe == "digits-live"


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line(tmp_path, capsys):
    for name in "ab":
        (tmp_path / "bright" / name).mkdir(parents=True)
        for i in range(2):
            picture = tmp_path / "bright" / name / f"{i}.png"
            Image.new("L", (8, 8), "white").save(picture)
    line = ["train", "digits-live", "--tasks", f"folder:{tmp_path / 'bright'}"]
    line += ["--set", "meta_steps=1", "shots=1", "query_shots=1"]
    line += ["--set", "objective=adversarial"]
    assert main([*line, "--out", str(tmp_path / "one")]) == 0
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("metagan_lite: warning: most of the images in")
    line += ["--option", "invert=true"]
    assert main([*line, "--out", str(tmp_path / "two")]) == 0
    assert capsys.readouterr().err == ""


# --- Ctrl-C -------------------------------------------------------------------


@pytest.fixture
def terminal():
    """Ctrl-C as a terminal sends it: what runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(monkeypatch, owner, name, at, *, before=0, after=0):
    """Press Ctrl-C so often around the call of a function that is number ``at``."""
    original, calls = getattr(owner, name), []

    def wrapped(*arguments, **options):
        calls.append(None)
        pressed = len(calls) == at
        for _ in range(before * pressed):
            signal.raise_signal(signal.SIGINT)
        result = original(*arguments, **options)
        for _ in range(after * pressed):
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(owner, name, wrapped)


STOPPED = ["train", "digits-live", "--set", "meta_steps=4", "meta_batch_size=2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([*STOPPED, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "owner, name, presses, left",
    [
        # Once: the step is finished. Twice: the step before is what is whole.
        (meta, "meta_gradients", {"after": 1}, 3),
        (meta, "meta_gradients", {"after": 2}, 2),
        (meta, "draw_noise", {"before": 2}, 2),
        # Amid the weights' move there is nothing to save: the last checkpoint stays.
        (torch.optim.Adam, "step", {"after": 2}, 1),
    ],
)
@pytest.mark.usefixtures("terminal")
def test_ctrl_c_and_resume_give_the_uninterrupted_run(
    whole, tmp_path, monkeypatch, capsys, owner, name, presses, left
):
    every = "1" if left == 1 else "100"  # the step that is interrupted is the second
    line = [*STOPPED, "--out", str(tmp_path), "--checkpoint-every", every]
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt(patch, owner, name, 2 if left == 1 else 3, **presses)
        assert main(line) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"metagan_lite: stopped; {left} of 4 outer steps are in")
    assert said.endswith("repeat the command with --resume to go on")
    assert load_checkpoint(tmp_path)[2]["step"] == left
    with monkeypatch.context() as patch:  # and at once again
        interrupt(patch, meta, "draw_noise", 1, before=2)
        assert main([*line, "--resume"]) == 130
    assert load_checkpoint(tmp_path)[2]["step"] == left
    assert main([*line, "--resume"]) == 0
    found, expected = load_checkpoint(tmp_path), load_checkpoint(whole)
    for ours, theirs in zip(found[:2], expected[:2]):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert found[2]["history"] == expected[2]["history"]
    for figure in ("samples.png", "loss.png"):
        assert (tmp_path / figure).read_bytes() == (whole / figure).read_bytes()


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_in_the_first_step(tmp_path, monkeypatch, capsys):
    interrupt(monkeypatch, meta, "draw_noise", 1, before=2)
    assert main([*TRAIN, "--out", str(tmp_path)]) == 130
    assert "no outer step is in" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*TRAIN, "--out", str(tmp_path), "--resume"]) == 0


@pytest.mark.usefixtures("terminal")
def test_a_job_in_the_background_goes_on(tmp_path, monkeypatch):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupt(monkeypatch, meta, "draw_noise", 1, before=2)
    assert main([*TRAIN, "--out", str(tmp_path)]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


# --- evaluate -----------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """A folder that ``evaluate`` wrote, and its command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "_FEATURE_STEPS", 2)
        out = tmp_path_factory.mktemp("scores")
        line = ["evaluate", str(trained), "--steps", "0,2", "--pooled-steps", "3"]
        line += ["--out", str(out), "--seed", "4"]
        assert main(line) == 0
    return out, line


def test_the_scorecard_s_json_holds_the_numbers_of_its_table(evaluated):
    out, line = evaluated
    record = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    table, description = (
        (out / "scorecard.md").read_text(encoding="utf-8").strip().split("\n\n")
    )
    assert record["description"] == description
    header, _, *rows = (
        [cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()
    )
    assert len(rows) == len(record["rows"]) == 9
    for cells, row in zip(rows, record["rows"]):
        own = dict(zip(header, cells))
        steps = own.pop("inner steps")
        assert steps == ("–" if row["inner_steps"] is None else str(row["inner_steps"]))
        assert own.pop("method") == row["method"] and own.pop("note") == row["note"]
        for metric, cell in own.items():
            if cell == "–":
                assert metric not in row["scores"]
            else:
                mean, error = map(float, cell.replace("−", "-").split("±"))
                score = row["scores"][metric]
                assert score["mean"] == pytest.approx(mean, abs=0.0051)
                assert score["error"] == pytest.approx(error, abs=0.0051)
    methods = {row["method"] for row in record["rows"]}
    assert {"Meta-GAN", "pooled", "scratch", "real images"} <= methods


def test_the_scorecard_says_where_it_was_made(evaluated):
    out, line = evaluated
    record = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    assert shlex.split(record["command"]) == ["python", "-m", "metagan_lite", *line]
    assert record["seed"] == 4 and record["checkpoint_step"] == 3
    made = record["environment"]
    assert made["torch"] == torch.__version__ and "commit" in made
    assert made["metagan_lite"] and made["processor"]
    assert all(min(size_of(out / f"{n}.png")) > 200 for n in ("samples", "curve"))


def test_evaluation_repeats_and_keeps_the_net_that_scores(
    evaluated, quick_features, monkeypatch, capsys
):
    out, line = evaluated
    before = (out / "scorecard.md").read_text(encoding="utf-8")
    train, calls = commands.train_feature_net, []

    def counted(*arguments, **options):
        calls.append(options["steps"])
        return train(*arguments, **options)

    monkeypatch.setattr(commands, "train_feature_net", counted)
    assert main(line) == 0
    assert capsys.readouterr().out == before and calls == []
    # Of other settings it is another net, and a truncated file is no net.
    assert main([*line, "--seed", "5"]) == 0 and calls == [2]
    (out / "features.safetensors").write_bytes(b"short")
    assert main(line) == 0 and calls == [2, 2]
    assert (out / "scorecard.md").read_text(encoding="utf-8") == before


def test_the_meta_gan_and_the_pooled_gan_train_on_the_same_warped_tasks(
    tmp_path, monkeypatch, quick_features
):
    warped = replace(RECIPES["digits-live"], warp={"shear": 0.2})
    monkeypatch.setitem(RECIPES, "warped", warped)
    seen = {}

    def spy(name, place):
        function = getattr(commands, name)

        def wrapped(*arguments, **options):
            seen[name] = arguments[place]
            return function(*arguments, **options)

        monkeypatch.setattr(commands, name, wrapped)

    spy("train_meta_gan", 2), spy("train_gan", 2), spy("train_feature_net", 0)
    run = str(tmp_path)
    assert main(["train", "warped", "--out", run, "--set", "meta_steps=1"]) == 0
    monkeypatch.delitem(RECIPES, "warped")  # run.json is enough
    assert main(["evaluate", run, "--steps", "1", "--pooled-steps", "1"]) == 0
    for name in ("train_meta_gan", "train_gan"):
        assert isinstance(seen[name], WarpedTasks) and seen[name].bounds["shear"] == 0.2
    assert isinstance(seen["train_feature_net"], ClassTasks)


def test_images_of_ones_own_are_scored_by_a_run_that_never_saw_them(
    characters, tmp_path, quick_features, capsys
):
    run, source = tmp_path / "run", f"folder:{characters}"
    settings = ["meta_steps=1", "shots=5", "query_shots=5"]
    assert main(["train", "digits-live", "--out", str(run), "--set", *settings]) == 0
    line = ["evaluate", str(run), "--steps", "0,5", "--pooled-steps", "1", "--on"]
    assert main([*line, source]) == 0
    scored = json.loads((run / "evaluation" / "scorecard.json").read_text("utf-8"))
    assert "over 6 tasks of 6 held-out classes, K = 5" in scored["description"]
    assert scored["held_out"] == f"6 classes of {source}"
    own = commands._scored(RECIPES["digits-live"], source, (1, 8, 8))
    expected = load_tasks(source, "all", size=8)
    batches = [
        tasks.every_task(shots=1, query_shots=1, generator=torch.Generator())
        for tasks in (own, expected)
    ]
    assert own.class_names == tuple("abcdef")  # the recipe turns digits, these not
    assert torch.equal(batches[0].support, batches[1].support)
    assert main([*line, "pictures:here"]) == 2
    assert "unknown image source 'pictures:here'" in capsys.readouterr().err
    assert main([*line, "digits"]) == 2
    assert "other images than the run's own for --on" in capsys.readouterr().err


def test_images_of_a_run_may_move(characters, tmp_path, quick_features):
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(characters, tmp_path / "first")
    line = ["train", "digits-live", "--tasks", f"folder:{tmp_path / 'first'}", "--out"]
    line += [
        str(run),
        "--size",
        "8",
        "--held-out",
        "a",
        "b",
        "--set",
        "meta_steps=1",
        "shots=5",
    ]
    assert main([*line, "query_shots=5"]) == 0
    (tmp_path / "first").rename(moved)
    line = ["evaluate", str(run), "--steps", "0,5", "--pooled-steps", "1"]
    assert main(line) == 2
    assert main([*line, "--tasks", f"folder:{moved}"]) == 0


# --- report -------------------------------------------------------------------


def test_a_report_fills_its_tables_and_keeps_the_words(evaluated, tmp_path, capsys):
    out, _ = evaluated
    path, words = tmp_path / "report.md", tmp_path / "words.md"
    line = ["report", str(out), "--out", str(path), "--title", "Mine"]
    assert main(line) == 0
    assert "Yours to write" in capsys.readouterr().out
    words.write_text("## Question\n\nWell?\n\n## Claim\n\nYes.\n\n## Limits\n\nNo.\n")
    assert main([*line, "--words", str(words)]) == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Mine\n") and "## Claim\n\nYes.\n" in text
    assert "| Meta-GAN @ 2 |" in text and "metagan_lite evaluate" in text
    assert main(line) == 0 and path.read_text(encoding="utf-8") == text
    assert capsys.readouterr().out.endswith(f"The report is in '{path}'.\n")


def test_a_second_measurement_is_compared(evaluated, tmp_path, capsys):
    out, _ = evaluated
    assert main(["report", str(out), "--against", str(out)]) == 0
    assert capsys.readouterr().out == "Both measurements agree.\n"
    record = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    record["rows"][0]["scores"]["KID"]["mean"] += 10
    (tmp_path / "scorecard.json").write_text(json.dumps(record))
    assert main(["report", str(out), "--against", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("real images: KID is ")
    assert re.search("to agree with .*, got 1 differences", said.err)


def test_scores_that_are_not_finite_are_null(evaluated):
    values = {"KID": torch.tensor([1.0, torch.nan])}
    card = Scorecard((Row("pooled", 1, values),), "One.", {}, None, 0.5)
    (row,) = card.to_record()["rows"]
    assert row["scores"] == {"KID": {"mean": None, "error": None}}


# --- datasets, recipes, info --------------------------------------------------


def listed(capsys, *arguments):
    assert main(["datasets", *arguments]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    return {row.split()[0]: row for row in rows}, last


def test_datasets_without_a_data_folder(capsys, monkeypatch):
    monkeypatch.delenv("METAGAN_DATA", raising=False)
    rows, last = listed(capsys)
    assert [name.partition(":")[0] for name in rows] == list(SOURCES)
    assert "  embedded  " in rows["digits"] and "  embedded  " in rows["glyphs"]
    for name in commands._FILES:
        assert "  needs a download  " in rows[name]
    assert all(row.endswith(".") for row in rows.values()) and "set METAGAN" in last


@pytest.mark.parametrize("name", [n for n in SOURCES if n != "folder"])
def test_datasets_finds_what_the_loaders_look_for(name, tmp_path, capsys):
    needs_files = "root" in inspect.signature(SOURCES[name]).parameters
    assert needs_files == (name in commands._FILES)
    for file in commands._FILES.get(name, ()):
        with pytest.raises(FileNotFoundError):
            load_images(name, root=tmp_path)
        rows, _ = listed(capsys, "--root", str(tmp_path))
        assert "  needs a download  " in rows[name]
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
        if name.startswith("omniglot"):  # read in turn, the first must be whole
            break
    else:
        rows, _ = listed(capsys, "--root", str(tmp_path))
        if needs_files:
            assert "  found  " in rows[name]
            with pytest.raises(ValueError, match="truncated or corrupt"):
                load_images(name, root=tmp_path)


def test_datasets_finds_real_files(data_root, capsys, tmp_path):
    rows, _ = listed(capsys, "--root", str(data_root))
    assert "  found  " in rows["omniglot-small"] and "  found  " in rows["mnist"]
    load_tasks("omniglot-small", root=data_root, size=8)
    for file in (data_root / "omniglot-small").iterdir():
        file.rename(data_root / file.name)  # where the loader looks as well
    rows, _ = listed(capsys, "--root", str(data_root))
    assert "  found  " in rows["omniglot-small"]
    next(data_root.glob("*.zip")).unlink()
    rows, _ = listed(capsys, "--root", str(data_root))
    assert "  needs a download  " in rows["omniglot-small"]


def test_recipes_are_listed_with_their_sentence(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(RECIPES)
    for line, (name, recipe) in zip(lines, RECIPES.items()):
        assert line.startswith(f"{name} ") and line.endswith(recipe.description)


def test_info_says_what_a_checkpoint_is(trained, capsys):
    assert main(["info", str(trained)]) == 0
    found = " ".join(capsys.readouterr().out.split())
    nets = RECIPES["digits-live"].build_nets((1, 8, 8))
    for player, net in zip("GD", nets):
        count = sum(p.numel() for p in net.parameters())
        assert f"net {player} {count:,} numbers" in found
    last = load_checkpoint(trained)[2]["history"][-1]
    assert f"mmd {last['mmd']:.4g}" in found
    for words in ("recipe digits-live", "step 3 of 3", "name=digits", "inner_steps=5"):
        assert words in found
    assert f"torch={torch.__version__}" in found


def test_info_without_a_folder(capsys):
    assert main(["info"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["torch", torch.__version__] in lines


# --- help ---------------------------------------------------------------------


def help_of(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_are_command_lines(command, capsys):
    lines = re.findall(r"^  python -m (.*)$", help_of(command, capsys), re.MULTILINE)
    assert lines
    for line in lines:
        package, name, *rest = shlex.split(line)
        options = _parser().parse_args([name, *rest])
        assert (package, options.run) == ("metagan_lite", getattr(commands, command))


def test_the_help_explains_every_field_of_the_configuration(capsys):
    found = " ".join(help_of("train", capsys).split())
    for field in fields(MetaGANConfig):
        default = json.dumps(getattr(MetaGANConfig(), field.name))
        assert re.search(rf" {field.name}={re.escape(default)} \S+ \S+", found)
    assert "outer_lr=0.003 Adam's rate; constant for half of the run" in found
    assert "``" not in found and ":data:" not in found


def test_the_readme_s_lines_and_the_script():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:metagan|.* -m metagan_lite) (.*)$", readme, re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        _parser().parse_args(shlex.split(line))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '\n[project.scripts]\nmetagan = "metagan_lite.__main__:main"\n' in project


# --- errors -------------------------------------------------------------------


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
        (["omniglot-live"], "a recipe among digits-live, .*; got 'omnig"),
        (["digits-live", "--set", "meta_steps"], "NAME=VALUE.*got 'meta_steps'"),
        (["digits-live", "--set", "shots=true"], "shots as JSON.* 10; got 'true'"),
        (["digits-live", "--set", "clip=none"], "clip as JSON.* 1.0; got 'none'"),
        (["digits-live", "--set", "betas=0.5"], r"as \[0.5, 0.99\]; got '0.5'"),
        (["digits-live", "--set", "algorithm=3"], "among maml.*got '3'"),
        (["digits-live", "--root", "here"], "'digits' has no option 'root'"),
        (["digits-live", "--checkpoint-every", "0"], "at least 1, got 0"),
        (["digits-live", "--size", "12"], "'digits' has no option 'size'"),
        (["digits-live", "--tasks", "letters"], "unknown image source 'letters'"),
        (["digits-live", "--tasks", "folder:none"], "there is no folder .*none"),
        (["digits-live", "--held-out", "ten"], "cannot hold out 'ten'"),
        (["digits-live", "--option", "split=all"], "--option NAME.*got 'split=all'"),
        (["digits-live", "--option", "rotations=False"], "such as false; got 'False'"),
        (["glyphs-live", "--option", "drawings=5"], r"5 images, but 10 shots \+ 1"),
    ],
)
def test_errors_of_the_user(tmp_path, capsys, arguments, words):
    out = tmp_path / "new"
    assert main(["train", *arguments, "--out", str(out)]) == 2
    assert not out.exists()
    assert re.search(words, error_of(capsys))


def test_the_folder_for_checkpoints_is_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([*TRAIN, "--out", str(tmp_path / "file")]) == 2
    assert "a folder for --out, got the file" in error_of(capsys)


@pytest.mark.parametrize("command", ["evaluate", "sample", "info"])
def test_a_folder_without_a_run(tmp_path, capsys, command):
    more = ["--held-out", "2@0", "--out", "x.png"] if command == "sample" else []
    assert main([command, str(tmp_path), *more]) == 2
    assert f"in '{tmp_path}', found no" in error_of(capsys)


@pytest.mark.parametrize(
    "line, words",
    [
        (["evaluate", "RUN", "--steps", "0-5"], "integers with commas.*got '0-5'"),
        (["evaluate", "RUN", "--pooled-steps", "0"], "pooled_steps.*least 1, got 0"),
        (["evaluate", "RUN", "--out", "FILE"], "a folder for --out, got the file"),
        (["sample", "RUN", "--held-out", "3", "--out", "x.png"], r"2@0, .*; got '3'"),
        (["sample", "RUN", "--held-out", "2@0", "--out", "x"], "FILE.png, got 'x'"),
        (["sample", "RUN", "--support", "FILE", "--out", "x.png"], "folder of images"),
        (["sample", "RUN", "--support", "RUN", "--shots", "3", "--out", "x.png"], "3"),
    ],
)
def test_errors_with_a_run(
    trained, tmp_path, monkeypatch, capsys, quick_features, line, words
):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    os.symlink(trained, "RUN")
    assert main(line) == 2
    assert re.search(words, error_of(capsys))
    assert {path.name for path in tmp_path.iterdir()} == {"FILE", "RUN"}


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
