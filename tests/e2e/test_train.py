"""`python train.py` as a person types it, in a process of its own."""

import json
import signal
import subprocess
import sys

import mlflow
import pytest

from commands import Command
from conftest import (
    ENVIRONMENT,
    PROJECT,
    QUICK,
    runs_in,
    started,
    train,
    train_command,
)


def test_one_run_shows_progress_scores_and_the_way_to_the_ui(tmp_path):
    csv = ["+callbacks.csv._target_=keras.callbacks.CSVLogger"]
    csv += ["+callbacks.csv.filename=${output_dir}/log.csv"]
    command = train_command(tmp_path, *QUICK, "model=relu", *csv)
    done = subprocess.run(command, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no notices, no warnings
    lines = done.stdout.splitlines()
    assert lines[0].startswith("relu, seed 42: ")
    assert "1,200 training images of digits" in lines[0]
    first, second = lines[1:3]
    assert first.startswith("epoch 1/2  loss ") and first.endswith(" s left)")
    assert second.startswith("epoch 2/2  loss ") and "val_accuracy" in second
    [tracked] = runs_in(tmp_path)
    table = [line for line in lines if line.startswith("| ")]
    assert [row.split("|")[1].strip().split()[0] for row in table] == ["weights", "best", "last"]
    for cell, name in zip(table[1].split("|")[2:6], table[0].split("|")[2:6], strict=True):
        assert float(cell) == pytest.approx(
            tracked.data.metrics[f"best_{name.strip()}"], abs=0.5e-4
        )
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db" in done.stdout
    assert f"/#/experiments/1/runs/{tracked.info.run_id}?" in lines[-2]
    assert lines[-1].endswith(f"python -m fmnist predict --run {tracked.info.run_id} IMAGE")
    command = tracked.data.tags["command"]  # as it was typed, but for where it was tracked
    assert command.startswith("python train.py data=digits model.depth=3")
    assert "${output_dir}/log.csv" in command and "tracking.uri" not in command
    overrides = mlflow.artifacts.load_text(f"{tracked.info.artifact_uri}/config/overrides.yaml")
    assert "model=relu" in overrides
    assert {p.name for p in (tmp_path / "output").iterdir()} >= {
        "best.keras",
        "log.csv",
        "tensorboard",
        "train.log",
    }
    assert "epoch 2/2" in (tmp_path / "output" / "train.log").read_text()


def test_a_sweep_is_a_study_that_ends_with_its_comparison(study_command):
    folder, done = study_command
    assert done.returncode == 0, done.stderr
    *children, study = sorted(runs_in(folder), key=lambda run: "study" in run.data.tags)
    assert sorted(run.info.run_name for run in children) == [
        "relu seed 1",
        "relu seed 2",
        "selu seed 1",
        "selu seed 2",
    ]
    assert study.info.run_name == "quick"
    assert {run.info.status for run in (*children, study)} == {"FINISHED"}
    parents = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert parents == {study.info.run_id}
    report = mlflow.artifacts.load_text(f"{study.info.artifact_uri}/comparison/comparison.md")
    assert report in done.stdout and report.startswith("## Does SELU help?\n")
    content = mlflow.artifacts.load_dict(f"{study.info.artifact_uri}/comparison/comparison.json")
    for variant in content["variants"]:
        own = [run for run in children if run.data.params["model"] == variant["name"]]
        expected = {run.data.params["seed"]: run.data.metrics["best_val_accuracy"] for run in own}
        assert variant["values"] == expected
    assert content["design"]["variants"] == 2 and content["design"]["seeds"] == [1, 2]
    assert content["variants"][0]["name"] == content["design"]["baseline"] == "relu"
    page = mlflow.artifacts.load_text(f"{study.info.artifact_uri}/comparison/comparison.html")
    assert page.count('src="data:image/png;base64,') == 6
    [conclusion] = content["conclusions"]
    assert "selu" in conclusion and conclusion in study.data.tags["mlflow.note.content"]
    assert conclusion in report
    health = [(row["layer health"], row["when"]) for row in content["layer_health"]]
    stages = ("before training", "after epoch 1", "at the end")
    assert health == [(model, when) for model in ("relu", "selu") for when in stages]
    colours = {(run.data.params["model"], run.data.tags["mlflow.runColor"]) for run in children}
    assert len(colours) == 2

    def fmnist(*arguments):
        uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        return Command(["-m", "fmnist", *arguments], ENVIRONMENT | uri).completed(60)

    def compare(*arguments):
        return fmnist("compare", *arguments)

    listed = fmnist("studies").stdout
    assert [word in listed for word in (study.info.run_id, "quick", "Does SELU help?")] == [
        True
    ] * 3
    for arguments in ((), (study.info.run_id,)):
        again = compare(*arguments)
        assert (again.returncode, again.stdout.strip()) == (0, report.strip()), again.stderr
    again = f"MLFLOW_TRACKING_URI=sqlite:///{folder}/mlflow.db python -m fmnist compare "
    assert f"\nagain:       {again}{study.info.run_id}\nlook at it:  mlflow ui" in done.stdout
    assert f"/runs/{study.info.run_id}?" in done.stdout.splitlines()[-1]
    seeds = compare("--filter", "params.seed = '1'", "--format", "json", "--baseline", "selu")
    assert [v["name"] for v in json.loads(seeds.stdout)["variants"]] == ["selu", "relu"]
    for arguments, message in {
        ("nowhere",): "error: study nowhere: Run with id=nowhere not found",
        (children[0].info.run_id,): "is not a study; omit it to compare the latest one",
        ("--experiment", "other"): "error: experiment other: choose one of fmnist, Default",
        ("--filter", "model is relu"): "error: filter model is relu: Invalid clause",
        ("--by", "model,widht"): "error: by widht: no run has this param",
        ("--by", "model.name"): "error: the runs differ in more than model.name and seed: model",
    }.items():
        refused = compare(*arguments)
        assert refused.returncode == 1 and message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_in_a_sweep_a_bad_job_costs_only_itself(tmp_path):
    # of four jobs one trains, one diverges, and two are refused when they begin
    sweep = ("training.batch_size=32,100000", "optimizer.learning_rate=0.01,1e10")
    done = train("-m", *QUICK, *sweep, "~callbacks.layer_health", folder=tmp_path)
    assert done.returncode == 1
    assert "layer health" not in done.stdout
    diverged = "training diverged: loss is nan after epoch 1; try a smaller optimizer.learning_rate"
    refused = "training.batch_size=100000: must be at most the 1200 training images"
    assert f"error: {diverged}\n" in done.stdout and f"error: {refused}\n" in done.stdout
    small, large = (f"training.batch_size={size} optimizer.learning_rate" for size in (32, 100000))
    assert done.stdout.splitlines()[-4:] == [
        "failed:",
        f"  {small}=10000000000.0: {diverged}",
        f"  {large}=0.01: {refused}",
        f"  {large}=10000000000.0: {refused}",
    ]
    assert done.stderr.splitlines()[-1] == "error: 3 of 4 jobs failed"
    assert "Traceback" not in done.stdout + done.stderr
    by_name = {run.info.run_name: run for run in runs_in(tmp_path)}
    study = by_name["sweep of training.batch_size, optimizer.learning_rate"]
    assert study.info.status == "FAILED"
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    header, _, finished, diverged = (row for row in rows if len(row) == 11)
    assert header[-2].strip() == "not finished"
    assert finished[1].strip() == f"{small}=0.01" and finished[2].strip() == "1"
    assert diverged[1].strip() == f"{small}=10000000000.0" and diverged[-2].strip() == "1 diverged"
    assert "2 of 4 planned variants have run" in done.stdout


def test_a_sweep_whose_jobs_are_all_refused_is_no_study(tmp_path):
    done = train("-m", *QUICK, "training.batch_size=100000,200000", folder=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    [opened] = runs_in(tmp_path)
    assert opened.info.status == "FAILED" and "study" not in opened.data.tags


def test_the_whole_traceback_is_there_on_request(tmp_path):
    done = train("training.epochs=0", folder=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "must be at least 1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "answers"),
    [
        (["--help"], 0, ["model: batch_norm, batch_norm_before, relu", "early_stop", "epochs: 10"]),
        (["--cfg", "job"], 0, ["batch_size: 32", "engine: compiled"]),
        (["training.engine=fast"], 1, ["training.engine: Invalid value 'fast', expected one of"]),
        (["training.epochs=0"], 1, ["error: training.epochs=0: must be at least 1"]),
    ],
)
def test_help_and_errors_of_configuration_wait_for_no_library(tmp_path, arguments, status, answers):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *train_command(tmp_path, *arguments)[1:]],
        cwd=PROJECT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    for answer in answers:
        assert answer in done.stdout + done.stderr
    for library in ("tensorflow", "keras", "mlflow", "sklearn", "pandas", "matplotlib"):
        assert f" {library}\n" not in done.stderr


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGINT, "SIGINT"),
        pytest.param(signal.SIGTERM, "SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_a_signal_leaves_a_killed_run_with_what_it_had(tmp_path, number, name):
    process = started(tmp_path, *QUICK, "training.epochs=10000", "callbacks=none")
    for line in process.stdout:
        if line.startswith("epoch     3/"):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    [tracked] = runs_in(tmp_path)
    store = f"MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/mlflow.db"
    resume_command = f"{store} python train.py resume={tracked.info.run_id}"
    assert errors.splitlines() == [f"stopped by {name}; resume it: {resume_command}"]
    assert tracked.info.status == "KILLED"
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(client.get_metric_history(tracked.info.run_id, "val_loss")) >= 3


@pytest.mark.slow
def test_a_sweep_that_is_stopped_compares_what_it_had(tmp_path):
    longer = ("training.epochs=30", "callbacks.early_stopping=null")
    process = started(tmp_path, "-m", *QUICK[:-1], *longer, "model=relu,selu", "seed=1,2")
    epochs = (line for line in process.stdout if line.startswith("epoch  1/30"))
    next(epochs), next(epochs)  # of the second run
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert errors.splitlines()[-1] == "stopped by SIGINT; resume it: type the same command again"
    assert "- 1 of 2 planned variants have run" in output
    ended = {run.info.run_name: run.info.status for run in runs_in(tmp_path)}
    assert ended == {
        "relu seed 1": "FINISHED",
        "relu seed 2": "KILLED",
        "sweep of model, seed": "KILLED",
    }


def test_an_unreachable_server_is_told_before_training(tmp_path):
    done = train(*QUICK, "tracking.uri=http://127.0.0.1:9", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: tracking store http://127.0.0.1:9: ")
    assert line.endswith("Connection refused")
