"""`mlflow run .` in a clone of the project, in this environment and in one of its own."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from commands import Command
from conftest import ENVIRONMENT, PROJECT, runs_in

BIN = Path(sys.executable).parent


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What git would commit of this tree, in a folder with a store of its own."""
    folder = tmp_path_factory.mktemp("clone")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((PROJECT / name).read_bytes())
    return folder


def mlflow_run(clone, environment_manager, *parameters, entry_point="main"):
    command = ["-m", "mlflow", "run", ".", "--env-manager", environment_manager]
    command += ["--experiment-name", "fmnist", "-e", entry_point]
    for parameter in parameters:
        command += ["-P", parameter]
    path = {"PATH": f"{BIN}{os.pathsep}{ENVIRONMENT['PATH']}"}
    return Command(command, ENVIRONMENT | path, clone).completed(timeout=1500)


def test_a_sweep_makes_its_jobs_children_of_the_opened_run_and_promotes_if_it_shall(clone):
    overrides = "overrides=data=digits promote=true -m"
    done = mlflow_run(clone, "local", "model=relu,selu", "epochs=1", overrides)
    assert done.returncode == 0, done.stderr
    runs = runs_in(clone)
    [decision] = [run for run in runs if "outcome" in run.data.tags]
    assert decision.data.tags["outcome"] == "kept"  # of one seed nothing can be concluded
    assert decision.data.tags["reason"] in done.stdout
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    [opened] = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert sorted(run.data.params["model.name"] for run in children) == ["relu", "selu"]
    assert decision.data.tags["study"] == opened
    [study] = [run for run in runs if run.info.run_id == opened]
    assert study.info.run_name == "sweep of model"


def test_the_commands_on_finished_runs(clone):
    compared = mlflow_run(clone, "local", "options=--baseline selu", entry_point="compare")
    assert compared.returncode == 0, compared.stderr
    assert "| against selu | pairs |" in compared.stdout
    promoted = mlflow_run(clone, "local", "options=--first", entry_point="promote")
    assert promoted.returncode == 0, promoted.stderr
    champion = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db").get_model_version_by_alias(
        "fmnist-digits", "champion"
    )
    record = next(run for run in runs_in(clone) if run.data.tags.get("champion"))
    assert champion.tags["decision"] == record.info.run_id
    assert record.data.tags["reason"] in promoted.stdout
    decision = mlflow.artifacts.load_dict(f"{record.info.artifact_uri}/decision.json")
    assert (
        decision["provenance"]["engine"] == "compiled"
        and decision["provenance"]["data.fingerprint"]
    )


def test_the_second_job_of_the_sweep_is_reproduced_alone(clone):
    job = next(run for run in runs_in(clone) if run.data.params.get("model.name") == "selu")
    done = mlflow_run(clone, "local", f"run_id={job.info.run_id}", entry_point="reproduce")
    assert done.returncode == 0, done.stderr
    assert "bit-for-bit identical: weights and metrics of every epoch (1)" in done.stdout
    repeated = runs_in(clone)[0]
    assert repeated.data.tags["reproduces"] == job.info.run_id
    assert repeated.data.tags["mlflow.project.entryPoint"] == "reproduce"
    assert repeated.info.status == "FINISHED"


def test_in_an_environment_of_its_own_and_without_overrides_on_the_real_data(clone):
    done = mlflow_run(clone, "uv", "epochs=1", "model=relu")
    assert done.returncode == 0, done.stderr[-2000:]
    tracked = runs_in(clone)[0]
    assert tracked.info.status == "FINISHED"
    assert tracked.info.run_name == "relu seed 42"
    assert tracked.data.tags["mlflow.project.backend"] == "local"  # it is the run that was opened
    assert "best_val_accuracy" in tracked.data.metrics
    assert tracked.data.params["data._target_"] == "fmnist.data.fashion_mnist"
    environment = mlflow.artifacts.load_dict(
        f"{tracked.info.artifact_uri}/environment/environment.json"
    )
    assert environment["mlflow"] == mlflow.__version__


def test_a_seed_given_twice_is_refused(clone):
    done = mlflow_run(clone, "local", "model=relu", "epochs=1", "overrides=data=digits seed=7")
    assert done.returncode != 0
    assert "error: seed=7: `mlflow run` has 42; use -P seed=" in done.stderr
    assert runs_in(clone)[0].info.status == "FAILED"


@pytest.mark.parametrize(
    ("entry_point", "parameter", "error"),
    [
        ("main", "model=it's", "error: model=it's: Hydra cannot read this; special "),
        ("compare", "study=it's", "error: study it's: "),
        ("promote", "study=it's", "error: study it's: "),
        ("reproduce", "run_id=it's", "error: run it's: there is no such run"),
    ],
)
def test_a_quote_in_a_parameter_reaches_the_command(clone, entry_point, parameter, error):
    done = mlflow_run(clone, "local", parameter, entry_point=entry_point)
    assert done.returncode != 0 and error in done.stderr, done.stderr


def test_a_bad_parameter_fails_the_run_and_the_command(clone):
    done = mlflow_run(clone, "local", "epochs=0")
    assert done.returncode != 0
    assert "error: training.epochs=0: must be at least 1" in done.stderr
    assert runs_in(clone)[0].info.status == "FAILED"
