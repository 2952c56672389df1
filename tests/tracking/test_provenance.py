"""What a run records of its code, tried on a real git checkout."""

import shutil
import subprocess

from conftest import PROJECT
from fmnist.tracking.provenance import GitState, code_digest, git_state


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_the_recorded_patch_turns_the_commit_into_what_was_run(tmp_path):
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    shutil.copytree(PROJECT / "fmnist", origin / "fmnist")
    (origin / ".gitignore").write_text("*.log\n__pycache__/\n")
    git(origin, "init")
    git(origin, "add", ".")
    git(origin, "commit", "-m", "all")
    clean = git_state.__wrapped__(origin)
    assert (clean.patch, clean.patch_digest) == (b"", None)

    (origin / "fmnist" / "data.py").write_text("changed = True\n")
    (origin / "fmnist" / "__main__.py").unlink()
    (origin / "a new file.py").write_text("new = True\n")
    (origin / "latin").write_bytes(b"caf\xe9\r\n")  # not UTF-8
    (origin / "noise.log").write_text("ignored\n")
    patch = git_state.__wrapped__(origin).patch
    assert b"noise" not in patch

    git(tmp_path, "clone", str(origin), str(copy))
    (tmp_path / "patch").write_bytes(patch)
    git(copy, "apply", str(tmp_path / "patch"))
    assert (copy / "fmnist" / "data.py").read_text() == "changed = True\n"
    assert (copy / "a new file.py").read_text() == "new = True\n"
    assert (copy / "latin").read_bytes() == b"caf\xe9\r\n"
    assert not (copy / "fmnist" / "__main__.py").exists()


def test_outside_a_checkout_there_is_no_patch(tmp_path):
    assert git_state(tmp_path) == GitState(None, b"")


def test_git_is_asked_once_a_process(tmp_path):
    before = git_state(tmp_path)
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "first")
    assert git_state(tmp_path) is before
    assert git_state.__wrapped__(tmp_path).commit


def test_the_digest_of_the_code_covers_every_folder_of_package_and_plugins(tmp_path):
    for name in ("fmnist", "hydra_plugins"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=ignored)
    files = {path.parent: path for path in sorted(tmp_path.rglob("*.py"))}
    changed = {folder.relative_to(tmp_path).as_posix() for folder in files}
    assert {"fmnist", "fmnist/tracking", "fmnist/training"} <= changed
    assert {"hydra_plugins/fmnist_plugins"} <= changed
    digests = [code_digest.__wrapped__(tmp_path)]
    assert digests == [code_digest()]
    for path in files.values():
        path.write_text(path.read_text() + "# changed\n")
        digests.append(code_digest.__wrapped__(tmp_path))
    assert len(set(digests)) == 1 + len(files)
