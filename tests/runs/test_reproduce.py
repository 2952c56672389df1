"""A run trained again gives the same, or says where it differs; by its own code if asked."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from conftest import ENVIRONMENT, PROJECT, QUICK, runs_in, train_command
from fmnist.common.errors import ReproductionError
from fmnist.common.files import file_lock
from fmnist.runs import checkout, reproduce
from fmnist.tracking import study_runs
from fmnist.tracking.provenance import git_state
from fmnist.tracking.store import Store


@pytest.fixture(scope="module")
def original(run, store):
    """A finished run of each engine, and the store where they are."""
    engines = ("compiled", "keras")
    asked = ("model=selu_dropout", "seed=7")
    found = [mlflow.get_run(run(*asked, f"training.engine={one}").run_id) for one in engines]
    return Store(f"sqlite:///{store}/mlflow.db", found[0].info.experiment_id), *found


@pytest.fixture
def reproduced(original, tmp_path, monkeypatch):
    """Train it again, and return what came of it and the new run."""
    monkeypatch.chdir(tmp_path)

    def again(run):
        opened = original[0]
        answer = reproduce.reproduce(opened, run, tolerance=0.01)
        return answer, mlflow.search_runs([run.info.experiment_id], output_format="list")[0]

    return again


def artifact_path(run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"), name)


@pytest.mark.parametrize("engine", [1, 2])
def test_the_same_code_and_data_give_the_same_bits(original, reproduced, engine):
    opened, first = original[0], original[engine]
    answer, second = reproduced(first)
    assert answer.status == reproduce.IDENTICAL
    assert answer.words == "bit-for-bit identical: weights and metrics of every epoch (2)"
    tags = second.data.tags
    assert (tags["reproduces"], tags["reproduction"]) == (
        first.info.run_id,
        "bit-for-bit identical",
    )
    assert (
        first.info.run_id in tags["mlflow.note.content"]
        and answer.words in tags["mlflow.note.content"]
    )
    assert tags["signature"] == first.data.tags["signature"]
    assert second.data.params == first.data.params
    counted = {trained.run_id for trained in study_runs.runs_of(opened, None)}
    assert first.info.run_id in counted and second.info.run_id not in counted


def test_the_first_epoch_that_differs_is_named(original, reproduced):
    first = original[1]
    path = artifact_path(first, reproduce.DIGESTS)
    kept = path.read_text()
    digests = json.loads(kept)
    digests["epochs"][1]["weights"] = digests["last"] = "0" * 64
    path.write_text(json.dumps(digests))
    try:
        answer, second = reproduced(first)
        assert answer.status == reproduce.WITHIN_TOLERANCE
        assert answer.words.startswith("the same within tolerance: first difference at epoch 2, ")
        metric = {"key": "val_loss", "value": 3 * first.data.metrics["val_loss"], "step": 2}
        mlflow.MlflowClient().log_metric(first.info.run_id, **metric)
        found = reproduce.compare(first, second, digests, json.loads(kept), 0.01)
    finally:
        path.write_text(kept)
    assert found.status == reproduce.DIFFERENT
    assert (
        "first difference at epoch 2, largest relative difference 0.67 (val_loss, epoch 2), 0.01"
        in found.words
    )
    assert "| val_loss " in reproduce.as_table(found)


def test_fewer_epochs_are_different_whatever_the_tolerance(original):
    first = original[1]
    whole = json.loads(artifact_path(first, reproduce.DIGESTS).read_text())
    shorter = {**whole, "epochs": whole["epochs"][:1]}
    found = reproduce.compare(first, first, whole, shorter, tolerance=1.0)
    assert found.status == reproduce.DIFFERENT and found.first == 2
    assert found.words.endswith("; it ended after epoch 1, not 2")


def test_weights_that_were_kept_may_differ_alone(original):
    first = original[1]
    whole = json.loads(artifact_path(first, reproduce.DIGESTS).read_text())
    found = reproduce.compare(first, first, whole, {**whole, "best": "0"}, tolerance=1.0)
    assert found.status == reproduce.DIFFERENT
    assert found.words == "different: every epoch is the same, but not the weights that were kept"


def test_what_cannot_be_compared_is_refused(original):
    first = original[1]
    client = mlflow.MlflowClient()
    for run_id in ("nowhere", "../../etc", "x" * 9000):
        with pytest.raises(ReproductionError, match="there is no such run in this store"):
            reproduce.find_original(run_id)
    begun = client.create_run(first.info.experiment_id)
    with pytest.raises(ReproductionError, match="is RUNNING, not finished; first: "):
        reproduce.find_original(begun.info.run_id)
    for commit, message in {
        "f" * 40: "is not in this repository; fetch it first",
        "--help": "recorded no commit to check out",
    }.items():
        client.set_tag(begun.info.run_id, "mlflow.source.git.commit", commit)
        unknown = mlflow.get_run(begun.info.run_id)
        with pytest.raises(ReproductionError, match=message), checkout.worktree(unknown, "nowhere"):
            pass


@pytest.mark.slow
def test_the_recorded_libraries_are_installed_and_nothing_else(original, tmp_path):
    first = original[1]
    path = artifact_path(first, "environment/requirements.txt")
    kept = path.read_text()
    try:
        assert checkout.environment(first, tmp_path / "same") == Path(sys.executable)
        path.write_text("six==1.16.0")
        python = checkout.environment(first, tmp_path / "other")
        asked = [str(python), "-c", "import six; print(six.__version__)"]
        assert subprocess.check_output(asked, text=True) == "1.16.0\n"
        for hostile in ("six @ file:///etc", "-r /etc/passwd", "six==1.0 --hash=x", "six", ""):
            path.write_text(hostile)
            with pytest.raises(ReproductionError, match=r"requirements\.txt is not a list"):
                checkout.environment(first, tmp_path / "hostile")
    finally:
        path.write_text(kept)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_changes_are_applied_in_a_folder_of_the_repository(original, tmp_path, monkeypatch):
    project = tmp_path / "repository" / "below"
    project.mkdir(parents=True)
    git(project, "init", str(project.parent))
    (project / "known").write_text("before\n")
    (project / "fmnist").mkdir()
    (project / "fmnist" / "__init__.py").touch()
    git(project, "add", ".")
    git(project, "commit", "-m", "first")
    (project / "known").write_bytes(b"after caf\xe9\r\n")
    (project / "new.py").write_text("new = 1\n")
    monkeypatch.setattr(checkout, "PROJECT", project)
    client, git_now = mlflow.MlflowClient(), git_state(project)
    tags = {"mlflow.source.git.commit": git_now.commit, "git.patch": git_now.patch_digest}
    run_id = client.create_run(original[1].info.experiment_id, tags=tags).info.run_id
    (tmp_path / "uncommitted.diff").write_bytes(git_now.patch)
    client.log_artifact(run_id, str(tmp_path / "uncommitted.diff"), "code")
    with checkout.worktree(mlflow.get_run(run_id), str(tmp_path)) as folder:
        assert (folder / "known").read_bytes() == b"after caf\xe9\r\n"
        assert (folder / "new.py").read_text() == "new = 1\n"
    assert not folder.exists()


def test_what_a_killed_checkout_left_is_found_and_removed(project, tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "PROJECT", project)
    place = tmp_path / f"{checkout.PREFIX}x"
    git(project, "worktree", "add", "--detach", str(place / checkout.WORKTREE))
    with file_lock(place / checkout.LOCK, timeout=0):
        assert checkout.abandoned() == []
    assert checkout.abandoned() == [place]
    checkout.remove(place)
    assert checkout.abandoned() == [] and not place.exists()


@pytest.fixture
def project(tmp_path):
    """A repository of this project's files, with one commit."""
    folder = tmp_path / "project"
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(asked, cwd=PROJECT, text=True).split("\0")[:-1]:
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((PROJECT / name).read_bytes())
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


@pytest.mark.slow
def test_a_checkout_gives_what_changed_code_does_not(project, tmp_path):
    def command(*arguments: str, where: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
        variables["PYTHONPATH"] = str(project)
        done = [sys.executable, *arguments]
        return subprocess.run(
            done, cwd=where, env=ENVIRONMENT | variables, capture_output=True, text=True
        )

    def fmnist(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command("-m", "fmnist", *arguments)

    models, new = project / "fmnist/training/models.py", project / "fmnist/new.py"
    models.write_text(models.read_text() + "# as it was when the run was made\r\n")
    new.write_text("# not known to git\n")
    made = command(*train_command(tmp_path, *QUICK, "training.threads=1")[1:], where=project)
    assert made.returncode == 0, made.stderr
    [run] = runs_in(tmp_path)
    training = project / "fmnist/training/batches.py"
    changed = training.read_text().replace("(seed, epoch))", "(seed, epoch + 1))")
    assert changed != training.read_text()
    training.write_text(changed)
    new.unlink()
    git(project, "add", ".")
    git(project, "commit", "-m", "another order of the batches")

    other = fmnist("reproduce", run.info.run_id)
    assert other.returncode == reproduce.DIFFERENT, other.stderr
    lines = other.stdout.splitlines()
    assert lines[-1].startswith("different: first difference at epoch 1, ")
    named = [line.split(": ", 1)[1].split()[0] for line in lines if line.startswith("run ")]
    assert named == ["commit", "uncommitted", "code"]

    same = fmnist("reproduce", run.info.run_id, "--checkout")
    assert same.returncode == reproduce.IDENTICAL, same.stderr
    lines = same.stdout.splitlines()
    assert lines[-1] == "bit-for-bit identical: weights and metrics of every epoch (2)"
    assert "fmnist/new.py" in same.stdout and "code, libraries, machine and data are" in same.stdout
    repeated = runs_in(tmp_path)[0]
    for one in (run, repeated):
        found = json.loads(artifact_path(one, "environment/environment.json").read_text())
        assert found["threads_within_operation"] == 1
    worktrees = subprocess.check_output(["git", "worktree", "list"], cwd=project, text=True)
    assert len(worktrees.splitlines()) == 1

    diff = artifact_path(run, "code/uncommitted.diff")
    diff.write_text(diff.read_text() + "\n")
    refused = fmnist("reproduce", run.info.run_id, "--checkout")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"error: run {run.info.run_id}: its uncommitted.diff was altered\n"
