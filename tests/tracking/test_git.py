"""What git tells of the code, tried on real repositories."""

import os
import shutil
import subprocess

import pytest

from conftest import PROJECT, QUICK
from fmnist.runs.run import prepare
from fmnist.tracking.git import GitState, git_state
from fmnist.tracking.job_context import JobContext


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def state(folder):
    return git_state.__wrapped__(folder)


@pytest.fixture
def origin(tmp_path):
    """A clone of the package with a few more files."""
    folder = tmp_path / "origin"
    shutil.copytree(PROJECT / "fmnist", folder / "fmnist")
    (folder / ".gitignore").write_text("*.log\n__pycache__/\n")
    (folder / "latin").write_bytes(b"caf\xe8\r\n")  # not UTF-8
    (folder / "notes.ipynb").write_text("{}\n")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "all")
    return folder


def change(folder):
    (folder / "fmnist" / "data.py").write_text("changed = True\n")
    (folder / "fmnist" / "__main__.py").unlink()
    (folder / "a new file.py").write_text("new = True\n")
    (folder / "latin").write_bytes(b"caf\xe9\r\n")
    (folder / "notes.ipynb").write_text('{"cells": []}\n')


def assert_repeats(patch, origin, copy):
    git(origin.parent, "clone", str(origin), str(copy))
    (copy.parent / "patch").write_bytes(patch)
    git(copy, "apply", str(copy.parent / "patch"))
    assert (copy / "fmnist" / "data.py").read_text() == "changed = True\n"
    assert (copy / "a new file.py").read_text() == "new = True\n"
    assert (copy / "latin").read_bytes() == b"caf\xe9\r\n"
    assert (copy / "notes.ipynb").read_text() == '{"cells": []}\n'
    assert not (copy / "fmnist" / "__main__.py").exists()


def test_the_recorded_patch_turns_the_commit_into_what_was_run(origin, tmp_path):
    clean = state(origin)
    assert (clean.patch, clean.patch_digest, clean.dirty) == (b"", None, "false")
    change(origin)
    changed = state(origin)
    assert (changed.commit, changed.dirty) == (clean.commit, "true")
    assert_repeats(changed.patch, origin, tmp_path / "copy")
    staged = subprocess.check_output(["git", "diff", "--cached", "--name-only"], cwd=origin)
    assert staged == b""  # the user's index is as it was


def test_what_is_no_source_is_not_recorded(origin):
    change(origin)
    before = state(origin)
    (origin / "sweep.log").write_text("ignored\n")
    (origin / "sweep.txt").write_text("job 1/4\n")
    (origin / ".env").write_text("TOKEN=secret\n")
    (origin / "env" / "lib").mkdir(parents=True)  # a virtual environment
    (origin / "env" / "lib" / "module.py").write_text("pass\n")
    (origin / ".hydra").mkdir()
    (origin / ".hydra" / "config.yaml").write_text("seed: 1\n")
    assert state(origin) == before


SETTINGS = {
    "diff.external": "/bin/true",
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "diff.context": "9",
    "diff.algorithm": "patience",
    "diff.notebook.command": "no-such-driver",
    "diff.notebook.textconv": "/bin/true",
    "core.abbrev": "7",
    "core.quotePath": "false",
    "color.ui": "always",
    "status.showUntrackedFiles": "no",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_git_change_nothing(origin, tmp_path, setting):
    (origin / ".git" / "info" / "attributes").write_text("*.ipynb diff=notebook\n")
    change(origin)
    before = state(origin)
    git(origin, "config", setting, SETTINGS[setting])
    assert state(origin) == before
    assert_repeats(before.patch, origin, tmp_path / "copy")


def test_variables_of_git_change_nothing(origin, tmp_path, monkeypatch):
    change(origin)
    before = state(origin)
    git(tmp_path, "init", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "/bin/true")
    assert state(origin) == before


def test_the_clone_of_another_user_is_read(origin):
    if os.geteuid():
        pytest.fail("run as root: else no file can be given away")
    before = state(origin)
    for path in [origin, *origin.rglob("*")]:
        os.chown(path, 12345, 12345)
    assert state(origin) == before


def test_the_repository_around_the_folder_is_not_its_own(tmp_path):
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "of something else")
    inside = tmp_path / "unpacked"
    shutil.copytree(PROJECT / "fmnist", inside / "fmnist")
    found = state(inside)
    assert (found.commit, found.patch, found.dirty) == (None, None, "unknown")
    assert found.problem == (
        "the commit is not recorded: the git repository around this folder does not have it"
    )


def test_without_a_repository_or_git_all_is_unknown(tmp_path, monkeypatch):
    found = state(tmp_path)
    assert (found.commit, found.dirty) == (None, "unknown")
    assert found.problem.startswith("the commit is not recorded: not a git repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert state(tmp_path) == GitState(problem="the commit is not recorded: git is not installed")


def test_a_large_change_is_left_out_and_named(origin):
    change(origin)
    before = state(origin)
    with (origin / "latin").open("wb") as file:
        file.truncate(2**30)
    found = state(origin)
    assert len(found.patch) < len(before.patch)
    assert found.problem == ("uncommitted changes are recorded without latin (1,073,741,824 bytes)")


def test_git_is_asked_once_a_process(origin):
    before = git_state(origin)
    change(origin)
    assert git_state(origin) is before
    assert state(origin) != before


@pytest.fixture
def no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    git_state.cache_clear()
    yield
    git_state.cache_clear()


@pytest.mark.parametrize("of_study", [False, True])
def test_what_is_not_recorded_is_said_once(no_git, config, caplog, of_study):
    context = JobContext(git=GitState(problem="said by the study") if of_study else None)
    inputs = prepare(config(*QUICK), context, None)
    said = [] if of_study else ["the commit is not recorded: git is not installed"]
    assert [line for line in caplog.messages if line == inputs.git.problem] == said
    assert inputs.git.dirty == "unknown"
