import io as bytes_io
import os
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from metagan_lite import io
from metagan_lite.io import (
    environment,
    load_checkpoint,
    repository,
    save_checkpoint,
    stored,
    write_atomically,
)


def write(folder, step=3):
    save_checkpoint(
        folder,
        weights={"w": torch.arange(4.0)},
        state={"s": torch.arange(3, dtype=torch.uint8)},
        record={"step": step, "config": {"shots": 5}},
    )


def test_what_is_saved_is_what_is_loaded(tmp_path):
    write(tmp_path)
    weights, state, record = load_checkpoint(tmp_path)
    assert torch.equal(weights["w"], torch.arange(4.0))
    assert torch.equal(state["s"], torch.arange(3, dtype=torch.uint8))
    assert record["step"] == 3 and record["config"] == {"shots": 5}


def die_at_file(monkeypatch, number):
    """Let the process die when it is about to put that file in its place."""
    replace, calls = os.replace, []

    def dying(source, target):
        calls.append(target)
        if len(calls) == number:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)


def test_a_crash_while_writing_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    write(tmp_path, step=3)
    die_at_file(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, step=6)
    assert load_checkpoint(tmp_path)[2]["step"] == 3
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_crash_between_two_runs_never_mixes_them(tmp_path, monkeypatch):
    write(tmp_path)
    die_at_file(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):  # the same step, other weights
        save_checkpoint(
            tmp_path, weights={"w": torch.zeros(4)}, state={}, record={"step": 3}
        )
    assert torch.equal(load_checkpoint(tmp_path)[0]["w"], torch.arange(4.0))


def test_tensors_that_share_memory_are_saved(tmp_path):
    one = torch.arange(3.0)
    save_checkpoint(
        tmp_path, weights={"a": one, "b": one}, state={}, record={"step": 0}
    )
    assert torch.equal(load_checkpoint(tmp_path)[0]["b"], one)


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")
def test_files_have_the_usual_mode(tmp_path):
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "new" / "file"
    write_atomically(target, b"old")

    def fails(source, to):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_broken_checkpoints_are_named_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint.json"):
        load_checkpoint(tmp_path)
    write(tmp_path)
    (tensors,) = tmp_path.glob("weights-*")
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="weights-0000003.*truncated") as error:
        load_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    tensors.unlink()
    with pytest.raises(ValueError, match="weights-0000003.*missing"):
        load_checkpoint(tmp_path)
    tensors.write_bytes(whole)
    record = tmp_path / "checkpoint.json"
    text = record.read_text()
    record.write_text(text.replace("checkpoint 1", "checkpoint 9"))
    with pytest.raises(ValueError, match="format is 'metagan_lite checkpoint 9'"):
        load_checkpoint(tmp_path)
    record.write_text(text.replace('"weights"', '"heights"'))
    with pytest.raises(ValueError, match="broken.*weights"):
        load_checkpoint(tmp_path)
    record.write_text(record.read_text()[:20])
    with pytest.raises(ValueError, match="checkpoint.json.*truncated") as error:
        load_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_environment_names_what_a_result_depends_on():
    here = environment()
    assert here["torch"] == torch.__version__
    assert {"python", "processor", "gpu", "threads", "commit"} <= set(here)


# --- stored results -------------------------------------------------------------


def test_in_a_checkout_a_stored_result_is_the_file():
    root = Path(__file__).resolve().parents[1]
    assert stored("stability/record.json") == root / "results/stability/record.json"
    with pytest.raises(FileNotFoundError, match=r"results/no\.json.*git checkout"):
        stored("no.json")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as pip installs it, with nothing but itself around."""
    monkeypatch.setattr(io, "__file__", str(tmp_path / "site/metagan_lite/io.py"))
    monkeypatch.setenv("METAGAN_RESULTS", str(tmp_path / "kept"))
    return monkeypatch


def test_an_installed_package_fetches_a_stored_result_once(installed, tmp_path):
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return bytes_io.BytesIO(b"{}")

    installed.setattr(io, "urlopen", answer)
    for _ in range(2):
        path = stored("stability/record.json")
        assert path.read_bytes() == b"{}" and tmp_path / "kept" in path.parents
    assert asked == [f"{repository()}/raw/main/results/stability/record.json"]


def test_without_network_a_stored_result_says_so_in_one_line(installed, tmp_path):
    def offline(url, timeout):
        raise URLError("no route\nto host")

    installed.setattr(io, "urlopen", offline)
    with pytest.raises(ConnectionError, match=r"no route to host.*clone") as caught:
        stored("stability/record.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "kept").exists()
