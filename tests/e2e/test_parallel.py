"""Sweeps whose jobs run at once: `python train.py -m hydra/launcher=joblib ...`, and submitit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from conftest import ENVIRONMENT, PROJECT, QUICK, runs_in, started, train

LONGER = (*QUICK[:-1], "training.epochs=30", "callbacks.early_stopping=null")
JOBS = (*LONGER, "seed=1,2")
AT_ONCE = ("-m", "hydra/launcher=joblib", *JOBS)


@pytest.fixture(scope="module")
def one_after_another(tmp_path_factory):
    """The digests of two jobs by their name, as they are when nothing runs beside them."""
    folder = tmp_path_factory.mktemp("alone")
    done = train(
        "-m", *JOBS, "model=selu_dropout", "training.threads=1", folder=folder, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return digests(folder)


def digests(folder):
    return {
        run.info.run_name: {key: run.data.tags[f"weights.digest.{key}"] for key in ("last", "best")}
        for run in runs_in(folder)
        if "seed" in run.data.params
    }


def wait_for_epoch(folder, number, epoch):
    path = folder / "output" / "jobs" / f"{number}.json"
    until = time.monotonic() + 480
    while not (path.exists() and json.loads(path.read_text())["epoch"] >= epoch):
        assert time.monotonic() < until
        time.sleep(0.02)


def workers(process):
    """The processes that do the jobs."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"LokyProcess" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.slow
def test_a_killed_job_goes_on_and_all_come_to_the_weights_they_have_alone(
    tmp_path, one_after_another
):
    process = started(tmp_path, *AT_ONCE, "model=selu_dropout,relu")
    wait_for_epoch(tmp_path, 0, 10)
    both = workers(process)
    assert len(both) == 2
    [victim] = [
        worker for worker in both if holds(worker, tmp_path / "output" / "0" / "running.lock")
    ]
    os.kill(victim, signal.SIGKILL)
    output, errors = process.communicate(timeout=900)
    assert (process.returncode, errors) == (0, "")
    assert one_after_another.items() <= digests(tmp_path).items()
    runs = {run.info.run_name: run for run in runs_in(tmp_path) if "seed" in run.data.params}
    assert [run.info.status for run in runs.values()] == ["FINISHED"] * 4
    assert runs["selu_dropout seed 1"].data.tags["resumed"] == "1"
    assert runs["relu seed 1"].data.tags["command"].endswith(" training.threads=1")
    lines = [line.split("  ") for line in output.splitlines() if line.startswith("job ")]
    assert [line[0] for line in lines] == [f"job {n}/4" for n in range(1, 5)]
    swept = {f"seed={seed} model={model}" for model in ("selu_dropout", "relu") for seed in (1, 2)}
    assert {line[1] for line in lines} == swept
    log = (tmp_path / "output" / "0" / "train.log").read_text()
    assert "epoch 10/" in log and "epoch 10/" not in output


@pytest.mark.slow
def test_what_fails_or_always_dies_costs_only_itself_and_is_listed(tmp_path):
    swept = ("optimizer.learning_rate=0.01,1e10", "training.batch_size=32,100000,16")
    process = started(tmp_path, "-m", "hydra/launcher=joblib", *QUICK, *swept)
    always_killed = tmp_path / "output" / "0" / "running.lock"
    kills = 0
    while process.poll() is None and kills < 2:
        for worker in workers(process):
            if holds(worker, always_killed):
                os.kill(worker, signal.SIGKILL)
                kills += 1
                while Path(f"/proc/{worker}/fd").exists() and holds(worker, always_killed):
                    time.sleep(0.01)
        time.sleep(0.02)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "Traceback" not in output + errors
    assert errors.splitlines()[-1] == "error: 5 of 6 jobs failed"
    refused = "training.batch_size=100000: must be at most the 1200 training images"
    diverged = "training diverged: loss is nan after epoch 1; try a smaller optimizer.learning_rate"
    fast = "optimizer.learning_rate=10000000000.0 training.batch_size"
    assert output.splitlines()[-6:] == [
        "failed:",
        "  optimizer.learning_rate=0.01 training.batch_size=32: its process was killed, twice",
        f"  optimizer.learning_rate=0.01 training.batch_size=100000: {refused}",
        f"  {fast}=32: {diverged}",
        f"  {fast}=100000: {refused}",
        f"  {fast}=16: {diverged}",
    ]
    assert "  optimizer.learning_rate=0.01 training.batch_size=16  val_accuracy " in output
    assert "RUNNING" not in {run.info.status for run in runs_in(tmp_path)}


@pytest.mark.slow
def test_a_stopped_sweep_leaves_nothing_running_and_goes_on(tmp_path, one_after_another):
    quick = ("+experiment=quick", "study.baseline=null")  # which is done by joblib
    command = ("-m", *quick, *JOBS, "model=selu_dropout")
    process = started(tmp_path, *command)
    wait_for_epoch(tmp_path, 0, 10)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert errors == "stopped by SIGINT; resume it: type the same command again\n"
    assert {run.info.status for run in runs_in(tmp_path)} == {"KILLED"}
    again = ("hydra/launcher=basic", f"hydra.sweep.dir={tmp_path}/again")
    done = train(*command, *again, folder=tmp_path, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
    assert digests(tmp_path) == one_after_another


NEEDS = "is not installed; pip install -e '.[cluster]', or jobs on this machine"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("hydra/launcher=ray", f"hydra/launcher=ray: {NEEDS}"),
        ("hydra/launcher=submitit_slurm", f"submitit_slurm: {NEEDS}"),
    ],
)
def test_where_the_extra_is_not_installed_a_line_says_how(tmp_path, choice, message):
    words = ["train.py", "-m", *choice.split(), f"hydra.sweep.dir={tmp_path}"]
    code = f"""
import runpy, sys
import hydra_plugins
hydra_plugins.__path__ = ["hydra_plugins"]
sys.argv = {words}
runpy.run_path("train.py", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


SLURM = ("partition=cpu", "timeout_min=120", "cpus_per_task=1", "mem_gb=2", "array_parallelism=64")


def test_slurm_gets_the_settings_of_the_page():
    settings = [f"hydra.launcher.{setting}" for setting in SLURM]
    page = " ".join((PROJECT / "docs/cluster.md").read_text().replace("\\\n", " ").split())
    assert " ".join(["hydra/launcher=submitit_slurm", *settings]) in page
    with initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
        overrides = ["+experiment=tutorial", "hydra/launcher=submitit_slurm", *settings]
        launcher = compose("train", overrides, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert [f"{key}={launcher[key]}" for key in (s.partition("=")[0] for s in SLURM)] == [*SLURM]


@pytest.mark.slow
def test_jobs_by_submitit_come_to_the_same_weights_from_any_folder(tmp_path, one_after_another):
    command = [sys.executable, str(PROJECT / "train.py"), "-m", "hydra/launcher=submitit_local"]
    command += [*LONGER, "seed=1", "model=selu_dropout", f"hydra.sweep.dir={tmp_path}/output"]
    command += [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    name = "selu_dropout seed 1"
    assert digests(tmp_path) == {name: one_after_another[name]}


def holds(pid, path):
    """Whether a process has a file open."""
    try:
        return any(Path(link).resolve() == path for link in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False
