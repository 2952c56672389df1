"""What a run records of its code, tried on a real git checkout."""

import shutil
import subprocess

from conftest import PROJECT
from fmnist.tracking import provenance


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_the_recorded_patch_turns_the_commit_into_what_was_run(tmp_path, monkeypatch):
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    shutil.copytree(PROJECT / "fmnist", origin / "fmnist")
    (origin / ".gitignore").write_text("*.log\n__pycache__/\n")
    git(origin, "init")
    git(origin, "add", ".")
    git(origin, "commit", "-m", "all")
    monkeypatch.setattr(provenance, "PROJECT", origin)
    assert provenance.uncommitted() == b""

    (origin / "fmnist" / "data.py").write_text("changed = True\n")
    (origin / "fmnist" / "plots.py").unlink()
    (origin / "a new file.py").write_text("new = True\n")
    (origin / "latin").write_bytes(b"caf\xe9\r\n")  # not UTF-8
    (origin / "noise.log").write_text("ignored\n")
    patch = provenance.uncommitted()
    assert b"noise" not in patch

    git(tmp_path, "clone", str(origin), str(copy))
    (tmp_path / "patch").write_bytes(patch)
    git(copy, "apply", str(tmp_path / "patch"))
    assert (copy / "fmnist" / "data.py").read_text() == "changed = True\n"
    assert (copy / "a new file.py").read_text() == "new = True\n"
    assert (copy / "latin").read_bytes() == b"caf\xe9\r\n"
    assert not (copy / "fmnist" / "plots.py").exists()


def test_outside_a_checkout_there_is_no_patch(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    assert provenance.uncommitted() == b""
